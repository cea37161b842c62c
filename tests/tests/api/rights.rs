//! Rights that nobody takes from itself, and limits that an authority passes on.

use crate::issuing::{ISSUE, REQUEST, issue, open_policy, policy, profile, profile_with};
use crate::server::{for_each_engine, text};
use serde_json::json;

#[test]
fn an_admin_neither_deletes_nor_demotes_itself() {
    for_each_engine(|server| async move {
        let path = format!("/api/v1/identities/{}", server.caller.identity);
        server.delete(&path).await.refused(403, "ForbiddenError");
        server.patch(&path, json!({"role": "member"})).await.refused(403, "ForbiddenError");
        server.patch(&path, json!({"role": "admin", "name": "first admin"})).await.ok();
        let other = server.identity("admin", None).await;
        server.by(&other).patch(&path, json!({"role": "member"})).await.ok();
    });
}

#[test]
fn an_authority_for_some_usages_certifies_no_others() {
    for_each_engine(|server| async move {
        let configuration = json!({
            "type": "root", "commonName": "Servers only", "keyAlgorithm": "EC_prime256v1",
            "extendedKeyUsages": ["server_auth"],
        });
        let body = json!({"name": "servers-only", "status": "active", "configuration": configuration});
        let ca = text(&server.post("/api/v1/cert-manager/ca/internal", body).await.ok()["id"]);
        let policy = policy(&server, open_policy("any-usage")).await;
        let profile = profile_with(&server, "servers-only", Some(&ca), &policy, json!({})).await;
        let issue = |usages: &[&str]| {
            let body = json!({
                "profileId": profile, "commonName": "usage.example.com", "ttl": "1d", "extendedKeyUsages": usages,
                "signatureAlgorithm": "ECDSA-SHA256", "keyAlgorithm": "EC_prime256v1",
            });
            let server = server.clone();
            async move { server.post(ISSUE, body).await }
        };
        issue(&["server_auth"]).await.ok();
        issue(&[]).await.ok();
        for usages in [&["client_auth"][..], &["server_auth", "client_auth"]] {
            let refusal = issue(usages).await.refused(400, "BadRequest");
            assert!(text(&refusal["message"]).contains("client_auth"), "{refusal}");
        }
    });
}

#[test]
fn pages_and_counts_are_of_what_a_role_with_conditions_sees() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for at in 0..4 {
            for zone in ["mine", "theirs"] {
                let name = format!("host-{at}.{zone}.example.com");
                let altered = json!({"commonName": name, "altNames": [{"type": "dns_name", "value": name}]});
                issue(&server, &open, altered).await.ok();
            }
        }
        let conditions = json!({"commonName": {"$glob": "*.mine.example.com"}});
        let rules = json!([
            {"subject": "certificates", "action": "read", "conditions": conditions},
            {"subject": "certificate-profiles", "action": "read", "conditions": {"slug": {"$glob": "op*"}}},
        ]);
        let role = json!({"slug": "mine", "name": "Mine", "permissions": rules});
        server.post(&format!("/api/v1/projects/{}/roles", server.project), role).await.ok();
        let reader = server.by(&server.identity("no-access", Some("mine")).await);

        let search = format!("/api/v1/projects/{}/certificates/search", server.project);
        for (narrowed, names, total) in [
            (json!({"limit": 3}), &["host-3.mine", "host-2.mine", "host-1.mine"][..], 4),
            (json!({"limit": 3, "offset": 3}), &["host-0.mine"], 4),
            (json!({"search": "HOST-2"}), &["host-2.mine"], 1),
            (json!({"search": "theirs"}), &[], 0),
        ] {
            let listed = reader.post(&search, narrowed.clone()).await.ok();
            let expected: Vec<String> = names.iter().map(|name| format!("{name}.example.com")).collect();
            let shown: Vec<String> =
                listed["certificates"].as_array().unwrap().iter().map(|one| text(&one["commonName"])).collect();
            assert_eq!((shown, &listed["totalCount"]), (expected, &json!(total)), "{narrowed}");
        }
        let requests = reader.get(&format!("{REQUEST}/certificate-requests?projectSlug=default&limit=3")).await.ok();
        assert_eq!(requests["certificateRequests"].as_array().unwrap().len(), 3);
        assert_eq!(requests["totalCount"], 4);
        let profiles = reader.get("/api/v1/pki/certificate-profiles?limit=10").await.ok();
        assert_eq!(
            (profiles["certificateProfiles"].as_array().unwrap().len(), &profiles["totalCount"]),
            (1, &json!(1))
        );
        // It may not read authorities, so a record does not name one.
        let id = text(&reader.post(&search, json!({"limit": 1})).await.ok()["certificates"][0]["id"]);
        let record = reader.get(&format!("{REQUEST}/{id}")).await.ok()["certificate"].take();
        assert_eq!((&record["profileName"], &record["caName"]), (&json!("open"), &json!(null)));
    });
}

#[test]
fn a_host_in_the_common_name_is_held_to_the_name_constraints() {
    for_each_engine(|server| async move {
        let configuration = json!({
            "type": "root", "commonName": "Good names", "keyAlgorithm": "EC_prime256v1",
            "nameConstraints": {"permitted": [{"type": "dns_name", "value": "good.example"}], "excluded": []},
        });
        let body = json!({"name": "good-names", "status": "active", "configuration": configuration});
        let ca = text(&server.post("/api/v1/cert-manager/ca/internal", body).await.ok()["id"]);
        let policy = policy(&server, open_policy("any-name")).await;
        let profile = profile_with(&server, "good-names", Some(&ca), &policy, json!({})).await;
        let names = |value: &str| json!([{"type": "dns_name", "value": value}]);
        for (common_name, alt_names, status) in [
            ("www.good.example", json!([]), 200),
            ("Some Device", json!([]), 200),
            ("evil.example", json!([]), 400),
            ("10.0.0.1", json!([]), 400),
            ("Some Device", names("www.good.example"), 200),
            ("www.good.example", names("evil.example"), 400),
        ] {
            let body = json!({
                "profileId": profile, "commonName": common_name, "ttl": "1d", "altNames": alt_names,
                "signatureAlgorithm": "ECDSA-SHA256", "keyAlgorithm": "EC_prime256v1",
            });
            let answer = server.post(ISSUE, body).await;
            assert_eq!(answer.status, status, "{common_name} {alt_names}: {}", answer.body);
        }
    });
}
