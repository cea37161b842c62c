//! Whether a certificate keeps a policy: every broken rule, in the order of contract §5.2, in words for a stranger.
//!
//! Whether a ttl and dates were sent together is a matter of the request and not decided here.

use super::pattern::Kind;
use super::{
    BasicConstraintsRule, Judged, Lists, PolicyRules, Presence, SanType, SubjectAttribute, UsageRule, is_dropped,
    key_algorithm, signature_algorithm,
};
use crate::duration::{in_words, parse_limit};
use crate::error::Violation;
use std::fmt::Write as _;

/// How many values of a list a message names before it says how many more there are.
const NAMED_VALUES_MAX: usize = 12;

/// How many characters of a value a message shows.
const SHOWN_CHARACTERS_MAX: usize = 100;

impl PolicyRules {
    /// Every rule that this certificate breaks; none means that the policy allows it.
    pub fn judge(&self, judged: &Judged) -> Vec<Violation> {
        let mut violations = Vec::new();
        self.judge_subject(judged, &mut violations);
        self.judge_sans(judged, &mut violations);
        self.judge_key_usages(judged, &mut violations);
        let asked = judged.extended_key_usages.iter().map(String::as_str).collect::<Vec<_>>();
        EXTENDED_KEY_USAGE.judge(self.extended_key_usages.as_ref().map(UsageRule::lists), &asked, &[], &mut violations);
        self.judge_algorithms(judged, &mut violations);
        self.judge_lifetime(judged, &mut violations);
        judge_basic_constraints(self.basic_constraints.as_ref(), judged, &mut violations);
        violations
    }

    fn judge_subject(&self, judged: &Judged, violations: &mut Vec<Violation>) {
        let rules = self.subject.as_deref().unwrap_or_default();
        for rule in rules {
            let values = values_of(&judged.subject, rule.attribute);
            judge_attribute(rule.attribute, rule.lists(), &values, violations);
        }
        for (attribute, value) in &judged.subject {
            if !rules.iter().any(|rule| rule.attribute == *attribute) {
                let name = attribute.as_str();
                let message = format!("the policy has no rule for {name}, so {name} {} is not allowed", quoted(value));
                violations.push(Violation::new(attribute.field(), "subject-without-rule", message));
            }
        }
    }

    fn judge_sans(&self, judged: &Judged, violations: &mut Vec<Violation>) {
        let rules = self.sans.as_deref().unwrap_or_default();
        for rule in rules {
            judge_names(rule.san_type, rule.lists(), &values_of(&judged.sans, rule.san_type), violations);
        }
        for san_type in SanType::ALL {
            let values = values_of(&judged.sans, san_type);
            if !values.is_empty() && !rules.iter().any(|rule| rule.san_type == san_type) {
                let name = san_type.as_str();
                let message =
                    format!("the policy has no rule for {name}, so {name} {} is not allowed", listed(&values));
                violations.push(Violation::new("altNames", "san-without-rule", message));
            }
        }
    }

    fn judge_key_usages(&self, judged: &Judged, violations: &mut Vec<Violation>) {
        let lists = self.key_usages.as_ref().map(UsageRule::lists);
        let never_carried = |usage: &str| {
            judged.dropped_key_usages.contains(&usage)
                || judged.key_algorithm.is_some_and(|algorithm| is_dropped(usage, algorithm.family()))
        };
        let required = lists.map(|lists| lists.required).unwrap_or_default().iter().map(String::as_str);
        let impossible =
            required.filter(|usage| !judged.key_usages.contains(usage) && never_carried(usage)).collect::<Vec<_>>();
        let key = judged.key_algorithm.map_or("this kind", |algorithm| algorithm.as_str());
        for usage in &impossible {
            let message = format!(
                "the policy requires the key usage {usage}, which a certificate for a key of {key} never carries \
                 (RFC 8813): use an RSA key, or a policy that does not require it"
            );
            violations.push(Violation::new("keyUsages", "key-usage-impossible", message));
        }
        KEY_USAGE.judge(lists, &judged.key_usages, &impossible, violations);
    }

    fn judge_algorithms(&self, judged: &Judged, violations: &mut Vec<Violation>) {
        let signatures = self.algorithms.as_ref().and_then(|rule| rule.signature.as_deref()).unwrap_or_default();
        let asked = judged.signature_algorithm;
        let listed = signatures.iter().any(|name| asked.is_some() && signature_algorithm(name) == asked);
        let asked = asked.map(|algorithm| algorithm.as_str());
        judge_algorithm("signatureAlgorithm", "signature algorithm", signatures, asked, listed, violations);

        let keys = self.algorithms.as_ref().and_then(|rule| rule.key_algorithm.as_deref()).unwrap_or_default();
        let asked = judged.key_algorithm;
        let listed = keys.iter().any(|name| asked.is_some() && key_algorithm(name) == asked);
        let asked = asked.map(|algorithm| algorithm.as_str());
        judge_algorithm("keyAlgorithm", "key algorithm", keys, asked, listed, violations);
    }

    fn judge_lifetime(&self, judged: &Judged, violations: &mut Vec<Violation>) {
        let Some(limit) = self.validity.as_ref().and_then(|rule| rule.max.as_deref()) else { return };
        let message = match parse_limit(limit) {
            Ok(millis) if judged.lifetime_millis <= millis => return,
            Ok(millis) => {
                format!(
                    "the policy allows at most {}, {} were asked",
                    in_words(millis),
                    in_words(judged.lifetime_millis)
                )
            }
            // Nothing is issued under a limit that cannot be read.
            Err(problem) => format!("the policy's validity.max {} cannot be read: {problem}", quoted(limit)),
        };
        violations.push(Violation::new("ttl", "lifetime", message));
    }
}

/// One subject attribute: a required pattern must be met by some value, each value must pass (contract §5.2, 1). Where
/// an attribute occurs several times, each value beyond the required one must be allowed or required itself.
fn judge_attribute(attribute: SubjectAttribute, lists: Lists<'_>, values: &[&str], violations: &mut Vec<Violation>) {
    let (name, field) = (attribute.as_str(), attribute.field());
    let kind = match attribute {
        SubjectAttribute::CommonName => Kind::CommonName,
        SubjectAttribute::Organization
        | SubjectAttribute::Country
        | SubjectAttribute::State
        | SubjectAttribute::Locality
        | SubjectAttribute::OrganizationalUnit
        | SubjectAttribute::DomainComponent => Kind::Text,
    };
    let is_required = |value: &str| lists.required.iter().any(|pattern| kind.accepts(pattern, value));
    let required_is_met = lists.required.is_empty() || values.iter().any(|value| is_required(value));
    if !required_is_met {
        let message = format!(
            "the policy requires a {name} that matches {}, {} was asked",
            any_of(lists.required),
            asked(values)
        );
        violations.push(Violation::new(field, "subject-required", message));
    }
    for value in values {
        if let Some(pattern) = lists.denied.iter().find(|pattern| kind.denies(pattern, value)) {
            let message = format!("{name} {} is denied by the policy's pattern {}", quoted(value), quoted(pattern));
            violations.push(Violation::new(field, "subject-denied", message));
            continue;
        }
        let accepted = match (lists.allowed, lists.required) {
            ([], []) => !lists.denied.is_empty(),
            ([], _) => !required_is_met || is_required(value),
            (allowed, _) => allowed.iter().any(|pattern| kind.accepts(pattern, value)) || is_required(value),
        };
        if !accepted {
            let patterns = if lists.allowed.is_empty() { lists.required } else { lists.allowed };
            let message =
                format!("{name} {} is not allowed by the policy, which allows {}", quoted(value), any_of(patterns));
            violations.push(Violation::new(field, "subject-not-allowed", message));
        }
    }
}

/// The names of one type: each required pattern must be met by some name, each name must pass (contract §5.2, 2).
fn judge_names(san_type: SanType, lists: Lists<'_>, values: &[&str], violations: &mut Vec<Violation>) {
    let name = san_type.as_str();
    let kind = match san_type {
        SanType::DnsName => Kind::DnsName,
        SanType::IpAddress => Kind::IpAddress,
        SanType::Email | SanType::Uri => Kind::Text,
    };
    for pattern in lists.required {
        if !values.iter().any(|value| kind.accepts(pattern, value)) {
            let message =
                format!("the policy requires a {name} that matches {}, {} was asked", quoted(pattern), asked(values));
            violations.push(Violation::new("altNames", "san-required", message));
        }
    }
    for value in values {
        if let Some(pattern) = lists.denied.iter().find(|pattern| kind.denies(pattern, value)) {
            let message = format!("{name} {} is denied by the policy's pattern {}", quoted(value), quoted(pattern));
            violations.push(Violation::new("altNames", "san-denied", message));
        }
    }
    for value in values {
        let accepted = match lists.allowed {
            [] => !lists.required.is_empty() || !lists.denied.is_empty(),
            allowed => allowed.iter().chain(lists.required).any(|pattern| kind.accepts(pattern, value)),
        };
        if !accepted {
            let message = format!(
                "{name} {} is not allowed by the policy, which allows {}",
                quoted(value),
                any_of(lists.allowed)
            );
            violations.push(Violation::new("altNames", "san-not-allowed", message));
        }
    }
}

/// What the two lists of usages are called.
struct UsageList {
    field: &'static str,
    name: &'static str,
    rules: [&'static str; 4],
}

const KEY_USAGE: UsageList = UsageList {
    field: "keyUsages",
    name: "key usage",
    rules: ["key-usage-without-rule", "key-usage-required", "key-usage-denied", "key-usage-not-allowed"],
};

const EXTENDED_KEY_USAGE: UsageList = UsageList {
    field: "extendedKeyUsages",
    name: "extended key usage",
    rules: [
        "extended-key-usage-without-rule",
        "extended-key-usage-required",
        "extended-key-usage-denied",
        "extended-key-usage-not-allowed",
    ],
};

impl UsageList {
    /// All required usages must be there, no denied one, and each must be allowed or required (contract §5.2, 3 and 4).
    /// A required one that is impossible has been said already.
    fn judge(&self, lists: Option<Lists<'_>>, asked: &[&str], impossible: &[&str], violations: &mut Vec<Violation>) {
        let Self { field, name, rules: [without_rule, required, denied, not_allowed] } = self;
        let Some(lists) = lists else {
            if !asked.is_empty() {
                let message =
                    format!("the policy has no rule for {field}, so {name} {} is not allowed", asked.join(", "));
                violations.push(Violation::new(*field, without_rule, message));
            }
            return;
        };
        let present = |usage: &&str| asked.contains(usage) || impossible.contains(usage);
        for usage in lists.required.iter().map(String::as_str).filter(|usage| !present(usage)) {
            let message = format!("the policy requires the {name} {usage}, which was not asked for");
            violations.push(Violation::new(*field, required, message));
        }
        let named = |list: &[String], usage: &str| list.iter().any(|one| one == usage);
        for usage in asked.iter().filter(|usage| named(lists.denied, usage)) {
            violations.push(Violation::new(*field, denied, format!("{name} {usage} is denied by the policy")));
        }
        for usage in asked.iter().filter(|usage| !named(lists.denied, usage)) {
            if !named(lists.allowed, usage) && !named(lists.required, usage) {
                let usable = lists.allowed.iter().chain(lists.required).map(String::as_str).collect::<Vec<_>>();
                let usable = if usable.is_empty() { "none".to_owned() } else { usable.join(", ") };
                let message = format!("{name} {usage} is not allowed by the policy, which allows {usable}");
                violations.push(Violation::new(*field, not_allowed, message));
            }
        }
    }
}

/// One algorithm: what is used must be listed, and what is listed must be chosen from (contract §5.2, 5 and 6).
fn judge_algorithm(
    field: &'static str,
    name: &str,
    allowed: &[String],
    asked: Option<&str>,
    listed: bool,
    violations: &mut Vec<Violation>,
) {
    let (rule, message) = match asked {
        Some(_) if listed => return,
        None if allowed.is_empty() => return,
        Some(asked) if allowed.is_empty() => {
            ("algorithm-without-rule", format!("the policy allows no {name}, so {asked} is not allowed"))
        }
        Some(asked) => (
            "algorithm-not-allowed",
            format!("{name} {asked} is not allowed by the policy, which allows {}", any_of(allowed)),
        ),
        None => ("algorithm-required", format!("the policy requires a {name}, one of {}", any_of(allowed))),
    };
    violations.push(Violation::new(field, rule, message));
}

/// The flag of an authority and its path length (contract §5.2, 9; RFC 5280 §4.2.1.9).
fn judge_basic_constraints(rule: Option<&BasicConstraintsRule>, judged: &Judged, violations: &mut Vec<Violation>) {
    const FIELD: &str = "basicConstraints";
    match (rule.and_then(|rule| rule.is_ca).unwrap_or(Presence::Denied), judged.is_ca) {
        (Presence::Allowed, _) | (Presence::Required, true) | (Presence::Denied, false) => {}
        (Presence::Required, false) => {
            let message = "the policy requires the certificate of an authority (isCA true)";
            violations.push(Violation::new(FIELD, "authority-required", message));
        }
        (Presence::Denied, true) => {
            let message = "the policy does not allow the certificate of an authority (isCA true)";
            violations.push(Violation::new(FIELD, "authority-not-allowed", message));
        }
    }
    if !judged.is_ca {
        if let Some(length) = judged.path_length {
            let message = format!("a path length ({length}) is only for the certificate of an authority");
            violations.push(Violation::new(FIELD, "path-length-without-authority", message));
        }
        return;
    }
    let Some(limit) = rule.and_then(|rule| rule.max_path_length).filter(|limit| *limit >= 0) else { return };
    if judged.path_length.is_none_or(|length| i64::from(length) > limit) {
        let asked = judged.path_length.map_or("no limit".to_owned(), |length| length.to_string());
        let message = format!("the policy allows a path length of at most {limit}, {asked} was asked");
        violations.push(Violation::new(FIELD, "path-length", message));
    }
}

fn values_of<Type: PartialEq>(all: &[(Type, String)], wanted: Type) -> Vec<&str> {
    all.iter().filter(|(found, _)| *found == wanted).map(|(_, value)| value.as_str()).collect()
}

fn asked(values: &[&str]) -> String {
    if values.is_empty() { "none".to_owned() } else { listed(values) }
}

fn any_of(patterns: &[String]) -> String {
    match patterns {
        [] => "none".to_owned(),
        patterns => listed(&patterns.iter().map(String::as_str).collect::<Vec<_>>()),
    }
}

fn listed(values: &[&str]) -> String {
    let mut text = values.iter().take(NAMED_VALUES_MAX).map(|value| quoted(value)).collect::<Vec<_>>().join(", ");
    if let Some(more) = values.len().checked_sub(NAMED_VALUES_MAX).filter(|more| *more > 0) {
        write!(text, " and {more} more").expect("writing to a string does not fail");
    }
    text
}

/// A value in quotation marks, safe to show: without control characters and never long.
fn quoted(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}…", &value[..end]),
    }
}

#[cfg(test)]
mod tests;
