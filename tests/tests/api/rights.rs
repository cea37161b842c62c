//! Rights that nobody takes from itself, and limits that an authority passes on.

use crate::issuing::{ISSUE, open_policy, policy, profile_with};
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
