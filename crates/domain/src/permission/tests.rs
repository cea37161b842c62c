//! Rules in JSON, an action, an object, and the answer.

use super::*;
use serde_json::{Value, json};

fn rules(document: Value) -> Vec<Rule> {
    parse_rules("permissions", &document).unwrap()
}

fn is_allowed(document: &Value, action: Action, object: &ObjectFields) -> bool {
    match evaluate(&rules(document.clone()), action, object) {
        Verdict::Allowed => true,
        Verdict::Denied { .. } => false,
    }
}

fn certificate(common_name: &str, alt_names: &[&str]) -> ObjectFields {
    ObjectFields::with(Field::CommonName, common_name)
        .and(Field::AltNames, alt_names.iter().map(|name| (*name).to_owned()))
}

#[test]
fn silence_denies_and_a_rule_grants_only_what_it_names() {
    let unknown = ObjectFields::unknown();
    for action in Action::ALL.iter().copied() {
        assert!(!is_allowed(&json!([]), action, &unknown), "{action}");
        let rule = json!([{"subject": action.subject().as_str(), "action": action.as_str()}]);
        for other in Action::ALL.iter().copied() {
            assert_eq!(is_allowed(&rule, other, &unknown), other == action, "{action} {other}");
        }
    }
}

#[test]
fn an_inverted_rule_wins_in_any_order() {
    let allow = json!({"subject": "certificates", "action": ["read", "delete"]});
    let deny = json!({"subject": "certificates", "action": "delete", "inverted": true});
    for document in [json!([allow, deny]), json!([deny, allow]), json!([deny, allow, allow])] {
        assert!(is_allowed(&document, Action::ReadCertificate, &ObjectFields::unknown()));
        assert!(!is_allowed(&document, Action::DeleteCertificate, &ObjectFields::unknown()));
    }
}

#[test]
fn newer_names_grant_the_same_action() {
    for (subject, name, action) in [
        ("certificate-policies", "read", Action::ReadPolicy),
        ("certificate-policies", "delete", Action::DeletePolicy),
        ("certificate-authorities", "issue-ca-certificate", Action::RenewAuthority),
        ("certificate-authorities", "list", Action::ReadAuthority),
        ("workspace", "edit", Action::EditProject),
    ] {
        let document = json!([{"subject": subject, "action": name}]);
        assert!(is_allowed(&document, action, &ObjectFields::unknown()), "{subject} {name}");
    }
}

#[test]
fn conditions_are_all_meant_and_fail_closed() {
    let web = certificate("web", &["web.example.com"]);
    let both = certificate("web", &["web.example.com", "evil.test"]);
    let nameless = certificate("web", &[]);
    let unknown = ObjectFields::unknown();
    let glob = json!({"altNames": {"$glob": "*.example.com"}});
    for (conditions, object, granted, taken) in [
        (json!({"commonName": "web"}), &web, true, true),
        (json!({"commonName": {"$eq": "web"}}), &web, true, true),
        (json!({"commonName": {"$eq": "Web"}}), &web, false, false),
        (json!({"commonName": {"$ne": "web"}}), &web, false, false),
        (json!({"commonName": {"$ne": "mail"}}), &web, true, true),
        (json!({"commonName": {"$in": ["mail", "web"]}}), &web, true, true),
        (json!({"commonName": {"$in": ["mail"]}}), &web, false, false),
        (json!({"commonName": {"$glob": "w*"}}), &web, true, true),
        (json!({"commonName": {"$glob": "w*", "$ne": "web"}}), &web, false, false),
        (json!({"commonName": "web", "altNames": "web.example.com"}), &web, true, true),
        (json!({"commonName": "web", "altNames": "mail.example.com"}), &web, false, false),
        // A grant must hold for every name of the certificate, a taking for one.
        (glob.clone(), &both, false, true),
        (json!({"altNames": {"$ne": "evil.test"}}), &both, false, true),
        // No names at all: nothing is granted, nothing is taken.
        (glob.clone(), &nameless, false, false),
        (json!({"altNames": {"$ne": "evil.test"}}), &nameless, false, false),
        // Unknown: nothing is granted, it is taken.
        (glob, &unknown, false, true),
        (json!({"commonName": {"$ne": "x"}}), &unknown, false, true),
        (json!({"commonName": "mail", "status": "active"}), &web, false, false),
        (json!({"commonName": "web", "status": "active"}), &web, false, true),
    ] {
        let grant = json!([{"subject": "certificates", "action": "read", "conditions": conditions}]);
        assert_eq!(is_allowed(&grant, Action::ReadCertificate, object), granted, "grant {conditions} {object:?}");
        let take = json!([
            {"subject": "certificates", "action": "read"},
            {"subject": "certificates", "action": "read", "inverted": true, "conditions": conditions},
        ]);
        assert_eq!(is_allowed(&take, Action::ReadCertificate, object), !taken, "take {conditions} {object:?}");
    }
}

#[test]
fn a_denial_names_the_rules_that_were_considered() {
    let rules = rules(json!([
        {"subject": "certificate-profiles", "action": "read"},
        {"subject": "certificate-profiles", "action": ["issue-cert", "read"], "conditions": {"slug": "web"}},
        {"subject": "certificates", "action": "read"},
    ]));
    let verdict = evaluate(&rules, Action::IssueCertificate, &ObjectFields::with(Field::Slug, "mail"));
    assert_eq!(verdict, Verdict::Denied { considered: vec![&rules[1]] });
    let verdict = evaluate(&rules, Action::IssueCertificate, &ObjectFields::with(Field::Slug, "web"));
    assert_eq!(verdict, Verdict::Allowed);
}

#[test]
fn a_list_is_possible_when_some_object_may_be_seen() {
    let read = json!({"subject": "certificates", "action": "read"});
    let read_some = json!({"subject": "certificates", "action": "read", "conditions": {"commonName": "a"}});
    let take = json!({"subject": "certificates", "action": "read", "inverted": true});
    let take_some =
        json!({"subject": "certificates", "action": "read", "inverted": true, "conditions": {"commonName": "a"}});
    for (document, expected) in [
        (json!([]), false),
        (json!([read]), true),
        (json!([read_some]), true),
        (json!([read, take]), false),
        (json!([take, read_some]), false),
        (json!([read, take_some]), true),
        (json!([take_some]), false),
    ] {
        assert_eq!(is_possible(&rules(document.clone()), Action::ReadCertificate), expected, "{document}");
    }
}

#[test]
fn nobody_gives_more_than_they_have() {
    let issue = json!({"subject": "certificate-profiles", "action": "issue-cert"});
    let read_issue = json!({"subject": "certificate-profiles", "action": ["read", "issue-cert"]});
    let web = json!({"subject": "certificate-profiles", "action": "issue-cert",
                     "conditions": {"slug": {"$eq": "web", "$ne": "x"}}});
    let web_reordered = json!({"subject": "certificate-profiles", "action": "issue-cert",
                               "conditions": {"slug": {"$ne": "x", "$eq": "web"}}});
    let mail = json!({"subject": "certificate-profiles", "action": "issue-cert", "conditions": {"slug": "mail"}});
    let not_web = json!({"subject": "certificate-profiles", "action": "issue-cert", "inverted": true,
                         "conditions": {"slug": "web"}});
    let never = json!({"subject": "certificate-profiles", "action": "issue-cert", "inverted": true});
    let take_other = json!({"subject": "certificates", "action": "read", "inverted": true});
    for (actor, given, expected) in [
        (json!([]), json!([]), true),
        (json!([]), json!([issue]), false),
        (json!([]), json!([never]), true),
        (json!([issue]), json!([issue]), true),
        (json!([issue]), json!([web]), true),
        (json!([issue]), json!([read_issue]), false),
        (json!([read_issue]), json!([issue]), true),
        (json!([web]), json!([issue]), false),
        (json!([web]), json!([web_reordered]), true),
        (json!([web]), json!([mail]), false),
        (json!([issue, not_web]), json!([issue]), false),
        (json!([issue, not_web]), json!([issue, not_web]), true),
        (json!([issue, not_web]), json!([issue, never]), true),
        (json!([issue, never]), json!([issue]), false),
        (json!([issue, never]), json!([issue, not_web]), false),
        (json!([issue, take_other]), json!([issue]), true),
        (json!([]), json!([issue, never]), true),
        (json!([issue]), json!([issue, take_other]), true),
    ] {
        assert_eq!(is_within(&rules(actor.clone()), &rules(given.clone())), expected, "{actor} {given}");
    }
}
