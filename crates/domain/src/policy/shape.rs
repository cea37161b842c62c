//! Which policies can be written (contract §5.2, the table of fields). Not what they then allow.
//!
//! Each broken rule names its field by its path in the request, with dots: `sans.0.allowed.3`.

use super::{AlgorithmRule, EXTENDED_KEY_USAGES, KEY_USAGES, Lists, PolicyRules, SanType, UsageRule};
use crate::duration;
use crate::error::{Error, Reason, Refusal, Result, Violation};

/// The most values in one list.
const LIST_VALUES_MAX: usize = 1000;

/// The longest pattern, in octets.
const PATTERN_OCTETS_MAX: usize = 1024;

impl PolicyRules {
    /// Whether these rules can be a policy.
    ///
    /// Broken shapes come first and are [`Reason::Malformed`]: a subject or name rule without a list that holds
    /// something, a usage rule without any list, an unknown usage, a usage both denied and allowed or required, an
    /// empty list of algorithms, a limit that is not one, a path length below -1, too many or too long patterns. Then comes
    /// what is [`Reason::Forbidden`]: a type with two rules, a value twice in a list. All of a class are collected.
    pub fn check(&self) -> Result<()> {
        let mut malformed = Vec::new();
        let mut forbidden = Vec::new();
        let subject = self.subject.iter().flatten().map(|rule| (rule.attribute.as_str(), rule.lists()));
        check_pattern_rules("subject", subject, &mut malformed, &mut forbidden);
        let sans = self.sans.iter().flatten().map(|rule| (rule.san_type.as_str(), rule.lists()));
        check_pattern_rules("sans", sans, &mut malformed, &mut forbidden);
        for (field, rule, known) in [
            ("keyUsages", &self.key_usages, &KEY_USAGES[..]),
            ("extendedKeyUsages", &self.extended_key_usages, &EXTENDED_KEY_USAGES[..]),
        ] {
            if let Some(rule) = rule {
                check_usage_rule(field, rule, known, &mut malformed, &mut forbidden);
            }
        }
        if let Some(rule) = &self.algorithms {
            check_algorithm_rule(rule, &mut malformed);
        }
        if let Some(Err(problem)) =
            self.validity.as_ref().and_then(|rule| rule.max.as_deref()).map(duration::parse_limit)
        {
            malformed.push(Violation::new("validity.max", "duration", problem.to_string()));
        }
        if self.basic_constraints.as_ref().and_then(|rule| rule.max_path_length).is_some_and(|length| length < -1) {
            let message = "maxPathLength must be -1 (no limit), 0 or more";
            malformed.push(Violation::new("basicConstraints.maxPathLength", "too-small", message));
        }
        for (reason, violations) in [(Reason::Malformed, malformed), (Reason::Forbidden, forbidden)] {
            if !violations.is_empty() {
                return Err(Error::from(Refusal::violations(reason, violations)));
            }
        }
        Ok(())
    }
}

fn check_pattern_rules<'a>(
    field: &str,
    rules: impl Iterator<Item = (&'static str, Lists<'a>)>,
    malformed: &mut Vec<Violation>,
    forbidden: &mut Vec<Violation>,
) {
    let mut seen = Vec::new();
    for (index, (kind, lists)) in rules.enumerate() {
        let path = format!("{field}.{index}");
        if lists.allowed.is_empty() && lists.required.is_empty() && lists.denied.is_empty() {
            let message =
                format!("the rule for {kind} needs at least one of allowed, required and denied with a value");
            malformed.push(Violation::new(&path, "no-list", message));
        }
        if seen.contains(&kind) {
            let message = format!("{field} has two rules for {kind}; write one with all its patterns");
            forbidden.push(Violation::new(format!("{path}.type"), "type-twice", message));
        } else {
            seen.push(kind);
        }
        check_lists(&path, lists, malformed, forbidden);
        for (name, list) in named(lists) {
            for (position, pattern) in list.iter().enumerate() {
                if let Some((rule, message)) = pattern_problem(kind, pattern) {
                    malformed.push(Violation::new(format!("{path}.{name}.{position}"), rule, message));
                }
            }
        }
    }
}

fn check_usage_rule(
    field: &str,
    rule: &UsageRule,
    known: &[&str],
    malformed: &mut Vec<Violation>,
    forbidden: &mut Vec<Violation>,
) {
    if rule.allowed.is_none() && rule.required.is_none() && rule.denied.is_none() {
        let message = format!("{field} needs at least one of allowed, required and denied");
        malformed.push(Violation::new(field, "no-list", message));
    }
    let lists = rule.lists();
    check_lists(field, lists, malformed, forbidden);
    for (name, list) in named(lists) {
        for (position, usage) in list.iter().enumerate().filter(|(_, usage)| !known.contains(&usage.as_str())) {
            let message = format!("{usage:?} is none of {}", known.join(", "));
            malformed.push(Violation::new(format!("{field}.{name}.{position}"), "unknown-value", message));
        }
    }
    for (position, usage) in lists.denied.iter().enumerate() {
        if lists.allowed.contains(usage) || lists.required.contains(usage) {
            let message = format!("{usage:?} cannot be denied and allowed or required at once");
            malformed.push(Violation::new(format!("{field}.denied.{position}"), "denied-and-allowed", message));
        }
    }
}

fn check_algorithm_rule(rule: &AlgorithmRule, malformed: &mut Vec<Violation>) {
    for (field, list) in [("algorithms.signature", &rule.signature), ("algorithms.keyAlgorithm", &rule.key_algorithm)] {
        let Some(list) = list else { continue };
        if list.is_empty() {
            let message = format!("{field} must name at least one algorithm, or be left out");
            malformed.push(Violation::new(field, "too-small", message));
        }
        if list.len() > LIST_VALUES_MAX {
            malformed.push(too_many(field));
        }
    }
}

/// What holds for the lists of every rule: bounded, and no value twice.
fn check_lists(path: &str, lists: Lists<'_>, malformed: &mut Vec<Violation>, forbidden: &mut Vec<Violation>) {
    for (name, list) in named(lists) {
        let path = format!("{path}.{name}");
        if list.len() > LIST_VALUES_MAX {
            malformed.push(too_many(&path));
            continue;
        }
        let mut sorted = list.iter().collect::<Vec<_>>();
        sorted.sort_unstable();
        for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
            let message = format!("{:?} stands twice in {path}", pair[0]);
            forbidden.push(Violation::new(&path, "value-twice", message));
        }
    }
}

/// Why this pattern could never match as it was meant.
fn pattern_problem(kind: &str, pattern: &str) -> Option<(&'static str, String)> {
    if pattern.len() > PATTERN_OCTETS_MAX {
        return Some(("too-big", format!("a pattern has at most {PATTERN_OCTETS_MAX} octets")));
    }
    if pattern.is_empty() {
        return Some(("too-small", "an empty pattern matches nothing; use * for any value".to_owned()));
    }
    // A certificate holds A-labels (RFC 5890), so that a denied name in another form would deny nothing.
    (kind == SanType::DnsName.as_str() && !pattern.is_ascii())
        .then(|| ("not-ascii", format!("write {pattern:?} with A-labels (xn--…), as certificates hold it")))
}

fn too_many(path: &str) -> Violation {
    Violation::new(path, "too-big", format!("{path} has at most {LIST_VALUES_MAX} values"))
}

fn named<'a>(lists: Lists<'a>) -> [(&'static str, &'a [String]); 3] {
    [("allowed", lists.allowed), ("required", lists.required), ("denied", lists.denied)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(document: Value, expected: Option<(Reason, &[&str])>) {
        let rules: PolicyRules = serde_json::from_value(document.clone()).unwrap();
        let found = rules.check().err().map(|error| match error {
            Error::Refused(refusal) => {
                (refusal.reason, refusal.violations.iter().map(|one| one.field.clone()).collect::<Vec<_>>())
            }
            Error::Failed(failure) => panic!("{failure}"),
        });
        let expected =
            expected.map(|(reason, fields)| (reason, fields.iter().map(|field| (*field).to_owned()).collect()));
        assert_eq!(found, expected, "{document}");
    }

    #[test]
    fn a_policy_that_can_be_written_is_taken() {
        for document in [
            json!({}),
            json!({"subject": [], "sans": []}),
            json!({"subject": [{"type": "common_name", "denied": ["a"]}, {"type": "organization", "allowed": ["a"]}]}),
            json!({"sans": [{"type": "dns_name", "allowed": ["*"], "required": [], "denied": []}]}),
            json!({"keyUsages": {"allowed": []}, "extendedKeyUsages": {"denied": ["client_auth"]}}),
            json!({"keyUsages": {"allowed": ["crl_sign"], "required": ["crl_sign"]}}),
            json!({"algorithms": {"signature": ["SHA256-RSA", "whatever"]}}),
            json!({"algorithms": {}, "validity": {}, "basicConstraints": {}}),
            json!({"validity": {"max": "365d"}, "basicConstraints": {"isCA": "allowed", "maxPathLength": -1}}),
        ] {
            check(document, None);
        }
    }

    #[test]
    fn a_broken_shape_is_malformed() {
        let long = "a".repeat(PATTERN_OCTETS_MAX + 1);
        let many = (0..=LIST_VALUES_MAX).map(|n| n.to_string()).collect::<Vec<_>>();
        for (document, fields) in [
            (json!({"subject": [{"type": "country"}]}), &["subject.0"][..]),
            (json!({"sans": [{"type": "uri", "allowed": []}]}), &["sans.0"]),
            (json!({"sans": [{"type": "uri", "allowed": [""]}]}), &["sans.0.allowed.0"]),
            (json!({"sans": [{"type": "dns_name", "denied": ["a", "bücher.example"]}]}), &["sans.0.denied.1"]),
            (json!({"sans": [{"type": "email", "required": [long]}]}), &["sans.0.required.0"]),
            (json!({"sans": [{"type": "email", "allowed": many}]}), &["sans.0.allowed"]),
            (json!({"keyUsages": {}}), &["keyUsages"]),
            (json!({"extendedKeyUsages": {}}), &["extendedKeyUsages"]),
            (json!({"keyUsages": {"allowed": ["digitalSignature"]}}), &["keyUsages.allowed.0"]),
            (json!({"extendedKeyUsages": {"required": ["any"]}}), &["extendedKeyUsages.required.0"]),
            (json!({"keyUsages": {"allowed": ["crl_sign"], "denied": ["crl_sign"]}}), &["keyUsages.denied.0"]),
            (
                json!({"extendedKeyUsages": {"required": ["client_auth"], "denied": ["server_auth", "client_auth"]}}),
                &["extendedKeyUsages.denied.1"],
            ),
            (json!({"algorithms": {"signature": []}}), &["algorithms.signature"]),
            (json!({"algorithms": {"keyAlgorithm": []}}), &["algorithms.keyAlgorithm"]),
            (json!({"validity": {"max": "1w"}}), &["validity.max"]),
            (json!({"basicConstraints": {"maxPathLength": -2}}), &["basicConstraints.maxPathLength"]),
            (json!({"keyUsages": {}, "validity": {"max": ""}}), &["keyUsages", "validity.max"]),
            (json!({"keyUsages": {}, "subject": [{"type": "country", "denied": ["a", "a"]}]}), &["keyUsages"]),
        ] {
            check(document, Some((Reason::Malformed, fields)));
        }
    }

    #[test]
    fn a_doubled_type_or_value_is_forbidden() {
        for (document, fields) in [
            (
                json!({"subject": [{"type": "country", "denied": ["a"]}, {"type": "country", "allowed": ["b"]}]}),
                &["subject.1.type"][..],
            ),
            (json!({"sans": [{"type": "uri", "denied": ["a"]}, {"type": "uri", "allowed": ["b"]}]}), &["sans.1.type"]),
            (json!({"sans": [{"type": "uri", "allowed": ["b", "a", "b"]}]}), &["sans.0.allowed"]),
            (json!({"keyUsages": {"required": ["crl_sign", "crl_sign"]}}), &["keyUsages.required"]),
            (json!({"extendedKeyUsages": {"denied": ["client_auth", "client_auth"]}}), &["extendedKeyUsages.denied"]),
        ] {
            check(document, Some((Reason::Forbidden, fields)));
        }
    }
}
