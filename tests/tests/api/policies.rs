//! Certificate policies in their three families (contract §5.2).

use crate::server::{for_each_engine, members, text};
use serde_json::{Value, json};

const FAMILIES: [(&str, &str, &str); 3] = [
    ("/api/v2/certificate-templates", "certificateTemplate", "certificateTemplates"),
    ("/api/v1/cert-manager/certificate-templates", "certificateTemplate", "certificateTemplates"),
    ("/api/v1/cert-manager/certificate-policies", "certificatePolicy", "certificatePolicies"),
];

fn rules() -> Value {
    json!({
        "subject": [{"type": "common_name", "allowed": ["*.example.com"]}],
        "sans": [{"type": "dns_name", "required": ["*.example.com"], "denied": ["bad.example.com"]}],
        "keyUsages": {"allowed": ["digital_signature"]},
        "extendedKeyUsages": {"required": ["server_auth"]},
        "algorithms": {"signature": ["SHA256-RSA"], "keyAlgorithm": ["RSA-2048"]},
        "validity": {"max": "90d"},
        "basicConstraints": {"isCA": "denied", "maxPathLength": 0},
    })
}

#[test]
fn a_policy_is_one_object_in_every_family() {
    for_each_engine(|server| async move {
        for (at, (all, one_name, many_name)) in FAMILIES.into_iter().enumerate() {
            server.at(at as i64);
            let mut body = rules();
            body["name"] = json!(format!("Zebra Crossing {at}"));
            body["description"] = json!("for the web");
            if at > 0 {
                body["projectId"] = json!(server.project);
            }
            let made = server.post(all, body).await.ok();
            assert_eq!(members(&made), [one_name]);
            let made = &made[one_name];
            assert_eq!(
                (&made["name"], &made["projectId"]),
                (&json!(format!("zebra-crossing-{at}")), &json!(server.project))
            );
            for (name, rule) in rules().as_object().unwrap() {
                assert_eq!(&made[name], rule, "{name}");
            }
            for (all, one_name, _) in FAMILIES {
                let shown = server.get(&format!("{all}/{}", text(&made["id"]))).await.ok();
                assert_eq!(shown, json!({ one_name: made }));
            }
            let listed = server.get(&format!("{all}?search=crossing&limit=1&offset={at}")).await.ok();
            assert_eq!(listed, json!({ many_name: [made], "totalCount": at + 1 }));
            let none = server.get(&format!("{all}?search=%25&projectId={}", server.project)).await.ok();
            assert_eq!(none, json!({ many_name: [], "totalCount": 0 }));
        }
    });
}

#[test]
fn a_taken_name_gets_an_ending_and_a_bad_name_is_refused() {
    for_each_engine(|server| async move {
        let all = FAMILIES[0].0;
        let name = |body: Value| text(&body["certificateTemplate"]["name"]);
        assert_eq!(name(server.post(all, json!({"name": "web"})).await.ok()), "web");
        let second = name(server.post(all, json!({"name": "Web"})).await.ok());
        assert_eq!((&second[..4], second.len()), ("web-", 12), "{second}");
        server.post(all, json!({"name": "***"})).await.refused(400, "BadRequest");
    });
}

#[test]
fn null_clears_a_part_and_absence_keeps_it() {
    for_each_engine(|server| async move {
        let all = FAMILIES[2].0;
        let mut body = rules();
        body["name"] = json!("web");
        let made = server.post(all, body).await.ok()["certificatePolicy"].take();
        let one = format!("{all}/{}", text(&made["id"]));
        assert_eq!(server.patch(&one, json!({})).await.ok()["certificatePolicy"]["sans"], made["sans"]);
        let change = json!({"name": "web-two", "description": "x", "subject": null, "validity": null,
            "keyUsages": {"denied": ["crl_sign"]}});
        let changed = server.patch(&one, change).await.ok()["certificatePolicy"].take();
        assert_eq!((&changed["subject"], &changed["validity"]), (&Value::Null, &Value::Null));
        assert_eq!(changed["keyUsages"], json!({"denied": ["crl_sign"]}));
        assert_eq!((&changed["sans"], &changed["algorithms"]), (&made["sans"], &made["algorithms"]));
        assert_eq!(server.get(&one).await.ok()["certificatePolicy"], changed);
        let cleared = json!({"description": null, "sans": null, "keyUsages": null, "extendedKeyUsages": null,
            "algorithms": null, "basicConstraints": null});
        let cleared = server.patch(&one, cleared).await.ok()["certificatePolicy"].take();
        for name in
            ["description", "subject", "sans", "keyUsages", "extendedKeyUsages", "algorithms", "basicConstraints"]
        {
            assert_eq!(cleared[name], Value::Null, "{name}");
        }
    });
}

#[test]
fn every_mistake_in_a_policy_is_named_by_its_path() {
    for_each_engine(|server| async move {
        let all = FAMILIES[1].0;
        let one = text(&server.post(all, json!({"name": "web"})).await.ok()["certificateTemplate"]["id"]);
        let one = format!("{all}/{one}");
        for (part, paths) in [
            (json!({"subject": [{"type": "common_name"}]}), &["subject.0"][..]),
            (json!({"subject": [{"type": "surname", "allowed": ["*"]}]}), &["subject.0.type"]),
            (json!({"keyUsages": {}, "extendedKeyUsages": {}}), &["keyUsages", "extendedKeyUsages"]),
            (json!({"keyUsages": {"allowed": ["crl_sign"], "denied": ["crl_sign"]}}), &["keyUsages.denied.0"]),
            (json!({"validity": {"max": "1w"}}), &["validity.max"]),
            (json!({"algorithms": {"keyAlgorithm": []}}), &["algorithms.keyAlgorithm"]),
        ] {
            let mut new = part.clone();
            new["name"] = json!("other");
            assert_eq!(server.post(all, new).await.issues(), paths, "{part}");
            assert_eq!(server.patch(&one, part).await.issues(), paths);
        }
        for part in [
            json!({"sans": [{"type": "uri", "denied": ["a"]}, {"type": "uri", "allowed": ["b"]}]}),
            json!({"sans": [{"type": "uri", "allowed": ["a", "a"]}]}),
            json!({"keyUsages": {"allowed": ["crl_sign", "crl_sign"]}}),
        ] {
            server.patch(&one, part).await.refused(403, "ForbiddenError");
        }
        assert_eq!(server.get(&format!("{all}?limit=101&offset=-1")).await.issues(), ["offset", "limit"]);
        assert_eq!(server.get(&format!("{all}/x")).await.issues(), ["policyId"]);
    });
}

#[test]
fn a_policy_is_deleted_unless_a_profile_uses_it() {
    for_each_engine(|server| async move {
        let all = FAMILIES[2].0;
        let id = text(&server.post(all, json!({"name": "web"})).await.ok()["certificatePolicy"]["id"]);
        let one = format!("{all}/{id}");
        let profile = json!({"slug": "web", "certificatePolicyId": id, "issuerType": "self-signed"});
        let profiles = "/api/v1/cert-manager/certificate-profiles";
        let profile = text(&server.post(profiles, profile).await.ok()["certificateProfile"]["id"]);
        server.delete(&one).await.refused(403, "ForbiddenError");
        server.delete(&format!("{profiles}/{profile}")).await.ok();
        assert_eq!(server.delete(&one).await.ok()["certificatePolicy"]["id"], json!(id));
        server.get(&one).await.refused(404, "NotFound");
        server.delete(&one).await.refused(404, "NotFound");
    });
}

#[test]
fn a_policy_is_for_those_who_may() {
    for_each_engine(|server| async move {
        let all = FAMILIES[2].0;
        let id = text(&server.post(all, json!({"name": "web"})).await.ok()["certificatePolicy"]["id"]);
        server.post(all, json!({"name": "api"})).await.ok();
        let one = format!("{all}/{id}");
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        viewer.get(&one).await.ok();
        viewer.patch(&one, json!({"name": "x"})).await.refused(403, "PermissionDenied");
        viewer.delete(&one).await.refused(403, "PermissionDenied");
        viewer.post(all, json!({"name": "x"})).await.refused(403, "PermissionDenied");
        let outsider = server.by(&server.identity("member", None).await);
        outsider.get(&one).await.refused(403, "ProjectMembershipNotFound");
        outsider.get(all).await.refused(403, "ProjectMembershipNotFound");
        let other = server.other_organization().await;
        other.get(&one).await.refused(404, "NotFound");
        other.delete(&one).await.refused(404, "NotFound");
        other.get(&format!("{all}?projectId={}", server.project)).await.refused(404, "NotFound");

        let rules = json!([{"subject": "certificate-policies", "action": "read", "conditions": {"name": "api"}}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "api-only", "name": "x", "permissions": rules})).await.ok();
        let narrow = server.by(&server.identity("no-access", Some("api-only")).await);
        let listed = narrow.get(all).await.ok();
        assert_eq!(listed["certificatePolicies"].as_array().map(Vec::len), Some(1), "{listed}");
        let denied = narrow.get(&one).await.refused(403, "PermissionDenied");
        assert_eq!(
            (&denied["details"][0]["subject"], &denied["details"][0]["conditions"]),
            (&rules[0]["subject"], &rules[0]["conditions"])
        );
    });
}
