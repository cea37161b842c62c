//! One line of the contract (§5.2), one case: a policy, a certificate, and the rules that it breaks, in their order.

use super::*;
use serde_json::{Value, json};
use x509::algorithm::{KeyAlgorithm, SignatureAlgorithm};

/// What a policy in JSON finds wrong with a certificate.
fn violations(policy: Value, judged: &Judged) -> Vec<Violation> {
    let rules: PolicyRules = serde_json::from_value(policy).unwrap();
    rules.judge(judged)
}

fn check(policy: Value, judged: &Judged, expected: &[&str]) {
    let found = violations(policy.clone(), judged);
    let names = found.iter().map(|violation| violation.rule).collect::<Vec<_>>();
    assert_eq!(names, expected, "{policy}\n{judged:?}\n{found:#?}");
}

fn check_message(policy: Value, judged: &Judged, expected: &str) {
    let found = violations(policy, judged);
    assert_eq!(found.iter().map(|violation| violation.message.as_str()).collect::<Vec<_>>(), [expected]);
}

fn subject(attributes: &[(SubjectAttribute, &str)]) -> Judged {
    let subject = attributes.iter().map(|(attribute, value)| (*attribute, (*value).to_owned())).collect();
    Judged { subject, ..Judged::default() }
}

fn common_names(values: &[&str]) -> Judged {
    subject(&values.iter().map(|value| (SubjectAttribute::CommonName, *value)).collect::<Vec<_>>())
}

fn sans(names: &[(SanType, &str)]) -> Judged {
    Judged { sans: names.iter().map(|(kind, value)| (*kind, (*value).to_owned())).collect(), ..Judged::default() }
}

fn dns(values: &[&str]) -> Judged {
    sans(&values.iter().map(|value| (SanType::DnsName, *value)).collect::<Vec<_>>())
}

const DENIED: &str = "subject-denied";
const NOT_ALLOWED: &str = "subject-not-allowed";
const REQUIRED: &str = "subject-required";

#[test]
fn a_subject_without_rules_is_refused() {
    for policy in [json!({}), json!({"subject": null}), json!({"subject": []})] {
        check(policy.clone(), &subject(&[]), &[]);
        for attribute in SubjectAttribute::ALL {
            check(policy.clone(), &subject(&[(attribute, "x")]), &["subject-without-rule"]);
        }
    }
    let policy = json!({"subject": [{"type": "common_name", "allowed": ["*"]}]});
    let judged = subject(&[(SubjectAttribute::CommonName, "x"), (SubjectAttribute::State, "y")]);
    check(policy, &judged, &["subject-without-rule"]);
}

#[test]
fn a_subject_rule_holds_for_each_of_its_attributes() {
    for attribute in SubjectAttribute::ALL {
        let policy = json!({"subject": [{"type": attribute.as_str(), "allowed": ["good"]}]});
        check(policy.clone(), &subject(&[(attribute, "good")]), &[]);
        check(policy, &subject(&[(attribute, "bad")]), &[NOT_ALLOWED]);
    }
}

#[test]
fn a_common_name_is_judged_by_its_lists() {
    let rule = |lists: Value| {
        let mut rule = lists;
        rule["type"] = json!("common_name");
        json!({ "subject": [rule] })
    };
    for (lists, values, expected) in [
        (json!({"required": ["a*", "b"]}), &["abc"][..], &[][..]),
        (json!({"required": ["a*", "b"]}), &["b"], &[]),
        (json!({"required": ["a*", "b"]}), &["c"], &[REQUIRED]),
        (json!({"required": ["a*", "b"]}), &[], &[REQUIRED]),
        (json!({"required": ["a"], "allowed": ["b"]}), &["b"], &[REQUIRED]),
        (json!({"required": ["a"], "allowed": ["b"]}), &["a"], &[]),
        (json!({"required": ["a"], "allowed": ["b"]}), &["a", "b"], &[]),
        (json!({"required": ["a"], "allowed": ["b"]}), &["a", "c"], &[NOT_ALLOWED]),
        (json!({"required": ["a"], "allowed": ["b"]}), &["c"], &[REQUIRED, NOT_ALLOWED]),
        (json!({"required": ["a"]}), &["a", "c"], &[NOT_ALLOWED]),
        (json!({"required": ["*"], "denied": ["bad*"]}), &["bad-one"], &[DENIED]),
        (json!({"required": ["a"], "denied": ["c"]}), &["c"], &[REQUIRED, DENIED]),
        (json!({"allowed": ["a", "b*"]}), &["bc"], &[]),
        (json!({"allowed": ["a", "b*"]}), &["c"], &[NOT_ALLOWED]),
        (json!({"allowed": ["a", "b*"]}), &[], &[]),
        (json!({"allowed": ["*"], "denied": ["c"]}), &["c"], &[DENIED]),
        (json!({"denied": ["c"]}), &["d"], &[]),
        (json!({"denied": ["c"]}), &["c"], &[DENIED]),
        (json!({"allowed": [], "required": [], "denied": ["c"]}), &["d"], &[]),
        (json!({"allowed": []}), &["d"], &[NOT_ALLOWED]),
        (json!({"allowed": ["Web"]}), &["web"], &[NOT_ALLOWED]),
        (json!({"allowed": ["a.c"]}), &["abc"], &[NOT_ALLOWED]),
        (json!({"allowed": ["a"]}), &["ab"], &[NOT_ALLOWED]),
        (json!({"allowed": ["*.example.com"]}), &["a.b.example.com"], &[]),
        (json!({"allowed": ["*.example.com"]}), &["*.example.com"], &[]),
        (json!({"allowed": ["*.example.com"]}), &["*.a.example.com"], &[NOT_ALLOWED]),
        (json!({"allowed": ["*"], "denied": ["admin.example.com"]}), &["*.example.com"], &[DENIED]),
    ] {
        check(rule(lists), &common_names(values), expected);
    }
}

#[test]
fn names_without_rules_are_refused_once_for_each_type() {
    let judged = sans(&[
        (SanType::DnsName, "a"),
        (SanType::IpAddress, "10.0.0.1"),
        (SanType::DnsName, "b"),
        (SanType::Email, "a@b"),
        (SanType::Uri, "urn:x"),
    ]);
    for policy in [json!({}), json!({"sans": null}), json!({"sans": []})] {
        check(policy, &judged, &["san-without-rule"; 4]);
    }
    check(json!({"sans": [{"type": "dns_name", "allowed": ["*"]}]}), &judged, &["san-without-rule"; 3]);
    check(json!({}), &Judged::default(), &[]);
}

#[test]
fn names_are_judged_by_their_lists() {
    let (required, denied, not_allowed) = ("san-required", "san-denied", "san-not-allowed");
    for (lists, values, expected) in [
        (json!({"required": ["a.x", "b.x"]}), &["a.x", "b.x"][..], &[][..]),
        (json!({"required": ["a.x", "b.x"]}), &["a.x"], &[required]),
        (json!({"required": ["a.x", "b.x"]}), &[], &[required, required]),
        (json!({"required": ["*.x"]}), &["a.x", "b.x"], &[]),
        (json!({"required": ["a.x"]}), &["a.x", "b.x"], &[]),
        (json!({"required": ["a.x"], "allowed": ["*.y"]}), &["a.x", "b.y"], &[]),
        (json!({"required": ["a.x"], "allowed": ["*.y"]}), &["a.x", "b.x"], &[not_allowed]),
        (json!({"denied": ["bad.*"]}), &["bad.x", "good.x", "bad.y"], &[denied, denied]),
        (json!({"allowed": ["*.x"], "denied": ["bad.*"]}), &["bad.x"], &[denied]),
        (json!({"allowed": ["*.x"], "denied": ["bad.*"]}), &["bad.y"], &[denied, not_allowed]),
        (json!({"allowed": ["*.x"]}), &["a.x", "a.b.x"], &[]),
        (json!({"allowed": ["*.x"]}), &["x", "a.y"], &[not_allowed, not_allowed]),
        (json!({"allowed": ["*.X"]}), &["a.x"], &[]),
        (json!({"allowed": ["*"]}), &["*.x.example", "10.example"], &[]),
        (json!({"allowed": ["*.x"]}), &["*.x", "*.a.x"], &[not_allowed]),
        (json!({"allowed": ["*"], "denied": ["admin.x"]}), &["*.x"], &[denied]),
        (json!({"allowed": [], "denied": ["a"]}), &["b"], &[]),
        (json!({"allowed": []}), &["b"], &[not_allowed]),
    ] {
        let mut rule = lists;
        rule["type"] = json!("dns_name");
        check(json!({ "sans": [rule] }), &dns(values), expected);
    }
}

#[test]
fn a_name_is_judged_by_the_rule_of_its_own_type() {
    let policy = json!({"sans": [
        {"type": "ip_address", "allowed": ["10.0.*"]},
        {"type": "email", "allowed": ["*@Example.com"]},
        {"type": "uri", "required": ["spiffe://example.com/*"]},
    ]});
    let good = sans(&[
        (SanType::Uri, "spiffe://example.com/a"),
        (SanType::Email, "a@Example.com"),
        (SanType::IpAddress, "10.0.0.1"),
    ]);
    check(policy.clone(), &good, &[]);
    let bad = sans(&[(SanType::Uri, "10.0.0.1"), (SanType::Email, "a@example.com"), (SanType::IpAddress, "10.1.0.1")]);
    check(policy, &bad, &["san-not-allowed", "san-not-allowed", "san-required"]);
}

#[test]
fn usages_are_judged_by_their_lists() {
    for (policy_field, rule, value) in [
        ("keyUsages", "key-usage", ["digital_signature", "key_agreement", "crl_sign"]),
        ("extendedKeyUsages", "extended-key-usage", ["server_auth", "client_auth", "code_signing"]),
    ] {
        let [a, b, c] = value;
        for (lists, asked, expected) in [
            (Value::Null, &[][..], &[][..]),
            (Value::Null, &[a], &["without-rule"]),
            (Value::Null, &[a, b], &["without-rule"]),
            (json!({"allowed": [a, b]}), &[], &[]),
            (json!({"allowed": [a, b]}), &[a], &[]),
            (json!({"allowed": [a, b]}), &[a, c], &["not-allowed"]),
            (json!({"required": [a]}), &[a], &[]),
            (json!({"required": [a]}), &[], &["required"]),
            (json!({"required": [a, b]}), &[], &["required", "required"]),
            (json!({"required": [a]}), &[a, b], &["not-allowed"]),
            (json!({"required": [a], "allowed": [b]}), &[a, b], &[]),
            (json!({"denied": [c]}), &[a], &["not-allowed"]),
            (json!({"denied": [c]}), &[c], &["denied"]),
            (json!({"denied": [c]}), &[], &[]),
            (json!({"allowed": [a], "denied": [c]}), &[b, c], &["denied", "not-allowed"]),
            (json!({"required": [a], "denied": [c]}), &[b, c], &["required", "denied", "not-allowed"]),
            (json!({"allowed": []}), &[a], &["not-allowed"]),
        ] {
            let judged = match policy_field {
                "keyUsages" => Judged { key_usages: asked.to_vec(), ..Judged::default() },
                _ => Judged {
                    extended_key_usages: asked.iter().map(|usage| (*usage).to_owned()).collect(),
                    ..Judged::default()
                },
            };
            let expected = expected.iter().map(|end| format!("{rule}-{end}")).collect::<Vec<_>>();
            check(json!({ policy_field: lists }), &judged, &expected.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    let unknown = Judged { extended_key_usages: vec!["1.2.3".to_owned()], ..Judged::default() };
    check(json!({"extendedKeyUsages": {"allowed": ["server_auth"]}}), &unknown, &["extended-key-usage-not-allowed"]);
}

#[test]
fn a_dropped_usage_is_judged_only_when_it_is_required() {
    let algorithms = json!({"keyAlgorithm": ["RSA_2048", "EC_prime256v1", "Ed25519"]});
    let policy = |lists: Value| json!({"keyUsages": lists, "algorithms": algorithms});
    let impossible = "key-usage-impossible";
    for (lists, key, asked, dropped, expected) in [
        (json!({"denied": ["key_encipherment"]}), KeyAlgorithm::EcP256, &[][..], &["key_encipherment"][..], &[][..]),
        (Value::Null, KeyAlgorithm::EcP256, &[], &["key_encipherment"], &[]),
        (json!({"required": ["key_encipherment"]}), KeyAlgorithm::EcP256, &[], &["key_encipherment"], &[impossible]),
        (json!({"required": ["key_encipherment"]}), KeyAlgorithm::EcP256, &[], &[], &[impossible]),
        (json!({"required": ["data_encipherment"]}), KeyAlgorithm::Ed25519, &[], &[], &[impossible]),
        (
            json!({"required": ["key_encipherment", "digital_signature"]}),
            KeyAlgorithm::EcP256,
            &[],
            &[],
            &[impossible, "key-usage-required"],
        ),
        (json!({"required": ["key_encipherment"]}), KeyAlgorithm::Rsa2048, &["key_encipherment"], &[], &[]),
        (json!({"required": ["key_encipherment"]}), KeyAlgorithm::Rsa2048, &[], &[], &["key-usage-required"]),
        (
            json!({"allowed": ["digital_signature"]}),
            KeyAlgorithm::EcP256,
            &["digital_signature"],
            &["key_encipherment"],
            &[],
        ),
    ] {
        let judged = Judged {
            key_algorithm: Some(key),
            key_usages: asked.to_vec(),
            dropped_key_usages: dropped.to_vec(),
            ..Judged::default()
        };
        check(policy(lists), &judged, expected);
    }
}

#[test]
fn algorithms_must_be_listed_in_either_vocabulary() {
    let signatures =
        ["SHA256-RSA", "SHA384-RSA", "SHA512-RSA", "SHA256-ECDSA", "SHA384-ECDSA", "SHA512-ECDSA", "Ed25519"];
    for (asked, stored) in SignatureAlgorithm::ALL.into_iter().zip(signatures) {
        let judged = Judged { signature_algorithm: Some(asked), ..Judged::default() };
        check(json!({"algorithms": {"signature": [stored]}}), &judged, &[]);
        check(json!({"algorithms": {"signature": ["other", asked.as_str()]}}), &judged, &[]);
        check(json!({"algorithms": {"signature": ["other"]}}), &judged, &["algorithm-not-allowed"]);
        check(json!({"algorithms": {}}), &judged, &["algorithm-without-rule"]);
        check(json!({}), &judged, &["algorithm-without-rule"]);
    }
    let keys = ["RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384", "ECDSA-P521", "Ed25519"];
    for (asked, stored) in KeyAlgorithm::ALL.into_iter().zip(keys) {
        let judged = Judged { key_algorithm: Some(asked), ..Judged::default() };
        check(json!({"algorithms": {"keyAlgorithm": [stored]}}), &judged, &[]);
        check(json!({"algorithms": {"keyAlgorithm": ["other", asked.as_str()]}}), &judged, &[]);
        check(json!({"algorithms": {"keyAlgorithm": ["other"]}}), &judged, &["algorithm-not-allowed"]);
        check(json!({"algorithms": null}), &judged, &["algorithm-without-rule"]);
    }
    let open = json!({"algorithms": {"signature": ["SHA256-RSA"], "keyAlgorithm": ["RSA-2048"]}});
    check(open, &Judged::default(), &["algorithm-required", "algorithm-required"]);
}

#[test]
fn the_lifetime_is_compared_as_a_duration() {
    const DAY: i64 = 86_400_000;
    for (validity, lifetime_millis, expected) in [
        (Value::Null, i64::MAX, &[][..]),
        (json!({}), 1000 * 365 * DAY, &[]),
        (json!({"max": "90d"}), 90 * DAY, &[]),
        (json!({"max": "90d"}), 90 * DAY + 1, &["lifetime"]),
        (json!({"max": "1y"}), 365 * DAY, &[]),
        // A year is 365.25 days in both.
        (json!({"max": "1y"}), crate::duration::parse_ttl("1y").unwrap(), &[]),
        (json!({"max": "1y"}), 366 * DAY, &["lifetime"]),
        (json!({"max": "12m"}), 360 * DAY, &[]),
        (json!({"max": "12m"}), 361 * DAY, &["lifetime"]),
        (json!({"max": "1m"}), crate::duration::parse_ttl("1m").unwrap(), &[]),
        (json!({"max": "24h"}), crate::duration::parse_ttl("36 hours").unwrap(), &["lifetime"]),
        (json!({"max": "2d"}), crate::duration::parse_ttl("1.5d").unwrap(), &[]),
        (json!({"max": "nonsense"}), 1, &["lifetime"]),
    ] {
        let judged = Judged { lifetime_millis, ..Judged::default() };
        check(json!({ "validity": validity }), &judged, expected);
    }
}

#[test]
fn an_authority_is_judged_by_the_basic_constraints() {
    let judged = |is_ca, path_length| Judged { is_ca, path_length, ..Judged::default() };
    for (rule, is_ca, path_length, expected) in [
        (Value::Null, false, None, &[][..]),
        (Value::Null, true, None, &["authority-not-allowed"]),
        (json!({}), true, None, &["authority-not-allowed"]),
        (json!({"isCA": "denied"}), true, None, &["authority-not-allowed"]),
        (json!({"isCA": "denied"}), false, None, &[]),
        (json!({"isCA": "allowed"}), true, Some(9), &[]),
        (json!({"isCA": "allowed"}), false, None, &[]),
        (json!({"isCA": "required"}), false, None, &["authority-required"]),
        (json!({"isCA": "required"}), true, None, &[]),
        (json!({"isCA": "allowed"}), false, Some(0), &["path-length-without-authority"]),
        (json!({"isCA": "allowed", "maxPathLength": 1}), true, Some(1), &[]),
        (json!({"isCA": "allowed", "maxPathLength": 1}), true, Some(2), &["path-length"]),
        (json!({"isCA": "allowed", "maxPathLength": 1}), true, None, &["path-length"]),
        (json!({"isCA": "allowed", "maxPathLength": 1}), false, None, &[]),
        (json!({"isCA": "allowed", "maxPathLength": -1}), true, None, &[]),
    ] {
        check(json!({ "basicConstraints": rule }), &judged(is_ca, path_length), expected);
    }
}

#[test]
fn all_broken_rules_are_collected_in_the_order_of_the_contract() {
    let judged = Judged {
        subject: vec![(SubjectAttribute::CommonName, "x".to_owned())],
        sans: vec![(SanType::DnsName, "x".to_owned())],
        key_usages: vec!["crl_sign"],
        extended_key_usages: vec!["client_auth".to_owned()],
        signature_algorithm: Some(SignatureAlgorithm::RsaSha256),
        key_algorithm: Some(KeyAlgorithm::Rsa2048),
        lifetime_millis: i64::MAX,
        is_ca: true,
        ..Judged::default()
    };
    let expected = [
        "subject-without-rule",
        "san-without-rule",
        "key-usage-without-rule",
        "extended-key-usage-without-rule",
        "algorithm-without-rule",
        "algorithm-without-rule",
        "lifetime",
        "authority-not-allowed",
    ];
    check(json!({"validity": {"max": "1d"}}), &judged, &expected);
}

#[test]
fn a_message_says_what_was_asked_and_what_is_allowed() {
    let policy = json!({"subject": [{"type": "common_name", "allowed": ["a", "b*"]}]});
    check_message(
        policy,
        &common_names(&["c"]),
        r#"common_name "c" is not allowed by the policy, which allows "a", "b*""#,
    );
    let policy = json!({"validity": {"max": "90d"}});
    let judged = Judged { lifetime_millis: 365 * 86_400_000, ..Judged::default() };
    check_message(policy, &judged, "the policy allows at most 90 days, 365 days were asked");
    let judged = Judged { key_algorithm: Some(KeyAlgorithm::EcP256), ..Judged::default() };
    check_message(
        json!({"algorithms": {"keyAlgorithm": ["RSA-2048"]}}),
        &judged,
        r#"key algorithm EC_prime256v1 is not allowed by the policy, which allows "RSA-2048""#,
    );
    let hostile = format!("a\n\u{1b}[31m\u{202e}{}", "é".repeat(1000));
    let found = violations(json!({}), &common_names(&[&hostile]));
    assert!(found[0].message.chars().all(|character| !character.is_control() && character != '\u{202e}'));
    assert!(found[0].message.chars().count() < 300, "{}", found[0].message);
    let many = (0..50).map(|number| format!("n{number}")).collect::<Vec<_>>();
    let found = violations(json!({"sans": [{"type": "dns_name", "allowed": many}]}), &dns(&["x"]));
    assert!(found[0].message.ends_with("and 38 more"), "{}", found[0].message);
}

/// Odd texts as patterns and as values, each with each, in every list and type: no panic, and what `*` allows is taken.
#[test]
fn judging_odd_texts_never_panics() {
    let texts = [
        "",
        "*",
        "**",
        "*.",
        ".*",
        "*.*",
        ".",
        "..",
        "a",
        "*.a",
        "a.*",
        "*a*",
        "é",
        "*.é",
        "\0",
        "\n",
        "*\u{202e}*",
        "%",
        "{{x}}",
        "../x",
        "a,b",
        "*.*.a",
        "::1",
        "::",
        "1.2.3.4",
        "*.1.2.3.4",
        "a@b",
        "\u{10ffff}",
        "\\*",
        "[a-z]",
        "x*\u{301}",
    ];
    let long = "a*".repeat(500);
    for pattern in texts.iter().chain([&long.as_str()]) {
        for value in texts.iter().chain([&long.as_str()]) {
            for attribute in SubjectAttribute::ALL {
                let rule =
                    json!({"type": attribute, "allowed": [pattern, "*"], "required": [pattern], "denied": [pattern]});
                let found = violations(json!({ "subject": [rule] }), &subject(&[(attribute, value)]));
                assert!(found.iter().all(|violation| violation.rule != NOT_ALLOWED), "{pattern:?} {value:?}");
            }
            for san_type in SanType::ALL {
                let rule =
                    json!({"type": san_type, "allowed": [pattern, "*"], "required": [pattern], "denied": [pattern]});
                let found = violations(json!({ "sans": [rule] }), &sans(&[(san_type, value)]));
                assert!(found.iter().all(|violation| violation.rule != "san-not-allowed"), "{pattern:?} {value:?}");
                let accepted = found.iter().all(|violation| violation.rule != "san-required");
                let denied = found.iter().any(|violation| violation.rule == "san-denied");
                assert!(!accepted || denied, "what a pattern accepts it also denies: {pattern:?} {value:?}");
            }
        }
    }
}
