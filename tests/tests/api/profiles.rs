//! Certificate profiles in their two families (contract §5.3).

use crate::server::{Server, for_each_engine, members, text};
use serde_json::{Value, json};

const OLD: &str = "/api/v1/pki/certificate-profiles";
const NEW: &str = "/api/v1/cert-manager/certificate-profiles";
const UNKNOWN: &str = "0198c5a0-0000-7000-8000-000000000001";

async fn policy(server: &Server) -> String {
    let body = json!({"name": "web", "validity": {"max": "90d"}});
    text(&server.post("/api/v1/cert-manager/certificate-policies", body).await.ok()["certificatePolicy"]["id"])
}

async fn profile(server: &Server, body: Value) -> Value {
    server.post(NEW, body).await.ok()["certificateProfile"].take()
}

#[test]
fn a_profile_is_one_object_in_both_families_and_under_both_names_of_its_policy() {
    for_each_engine(|server| async move {
        let policy = policy(&server).await;
        for (all, other, name) in [(OLD, NEW, "certificateTemplateId"), (NEW, OLD, "certificatePolicyId")] {
            let slug = format!("zebra-{}", name.to_lowercase());
            let body = json!({"slug": slug, "issuerType": "self-signed", "enrollmentType": "api", name: policy,
                "apiConfig": {"autoRenew": true, "renewBeforeDays": 7}, "description": "for the web",
                "defaults": {"ttlDays": 30, "keyAlgorithm": "EC_prime256v1"}});
            let made = server.post(all, body).await.ok();
            assert_eq!(members(&made), ["certificateProfile"]);
            let made = &made["certificateProfile"];
            assert_eq!(
                members(made),
                [
                    "acmeConfigId",
                    "apiConfigId",
                    "caId",
                    "certificatePolicyId",
                    "certificateTemplateId",
                    "createdAt",
                    "defaults",
                    "description",
                    "enrollmentType",
                    "estConfigId",
                    "externalConfigs",
                    "id",
                    "issuerType",
                    "projectId",
                    "slug",
                    "updatedAt"
                ]
            );
            assert_eq!(
                (&made["certificatePolicyId"], &made["certificateTemplateId"]),
                (&json!(policy), &json!(policy))
            );
            assert_eq!(made["defaults"], json!({"ttlDays": 30, "keyAlgorithm": "EC_prime256v1"}));
            let by_slug = server.get(&format!("{other}/slug/{slug}?projectId={}", server.project)).await.ok();
            assert_eq!(by_slug, json!({"certificateProfile": made}));
            let shown = server.get(&format!("{other}/{}?includeConfigs=true", text(&made["id"]))).await.ok();
            let shown = &shown["certificateProfile"];
            for (name, value) in made.as_object().unwrap() {
                assert_eq!(&shown[name], value, "{name}");
            }
            assert_eq!(shown["certificatePolicy"]["name"], "web");
            assert_eq!(shown["certificatePolicy"], shown["certificateTemplate"]);
            let api = json!({"id": made["apiConfigId"], "autoRenew": true, "renewBeforeDays": 7});
            assert_eq!(shown["apiConfig"], api);
            assert!(shown.get("certificateAuthority").is_none());
        }
        let listed = server.get(&format!("{NEW}?search=zebra&limit=1&offset=1")).await.ok();
        assert_eq!(
            (&listed["totalCount"], listed["certificateProfiles"].as_array().map(Vec::len)),
            (&json!(2), Some(1))
        );
        for (filter, count) in [
            ("search=templateid", 1),
            ("search=zebra&enrollmentType=api", 2),
            ("enrollmentType=est", 0),
            ("issuerType=self-signed", 2),
            ("search=zebra&issuerType=ca", 0),
            ("search=web&issuerType=ca", 1),
            (&format!("search=web&caId={}", server.issuing_ca), 1),
            (&format!("caId={UNKNOWN}"), 0),
        ] {
            assert_eq!(server.get(&format!("{OLD}?{filter}")).await.ok()["totalCount"], count, "{filter}");
        }
    });
}

#[test]
fn clients_that_name_no_enrollment_mean_the_api() {
    for_each_engine(|server| async move {
        let policy = policy(&server).await;
        let body = json!({"slug": "web", "issuerType": "self-signed", "certificatePolicyId": policy});
        let made = profile(&server, body).await;
        assert_eq!(made["enrollmentType"], "api");
        let shown = server.get(&format!("{NEW}/{}", text(&made["id"]))).await.ok();
        assert_eq!(shown["certificateProfile"]["apiConfig"]["autoRenew"], false);
    });
}

#[test]
fn a_passphrase_is_never_shown() {
    for_each_engine(|server| async move {
        let policy = policy(&server).await;
        let body = json!({"slug": "devices", "caId": server.issuing_ca, "certificatePolicyId": policy, "enrollmentType": "est",
            "estConfig": {"passphrase": "correct horse"}});
        let made = server.post(NEW, body).await.ok();
        let id = text(&made["certificateProfile"]["id"]);
        let shown = server.get(&format!("{NEW}/{id}")).await.ok();
        let est = &shown["certificateProfile"]["estConfig"];
        assert_eq!((&est["passphrase"], &est["id"]), (&json!(""), &made["certificateProfile"]["estConfigId"]));
        assert_eq!(shown["certificateProfile"]["caId"], json!(server.issuing_ca));
        let issuer = json!({"id": server.issuing_ca, "name": "issuing-ca", "status": "active", "isExternal": false});
        assert_eq!(shown["certificateProfile"]["certificateAuthority"], issuer);
        assert!(!made.to_string().contains("horse") && !shown.to_string().contains("horse"));
        let path = format!("{NEW}/{id}");
        server.patch(&path, json!({"estConfig": {"passphrase": "battery"}})).await.ok();
        assert_eq!(
            server.patch(&path, json!({"estConfig": {"passphrase": ""}})).await.issues(),
            ["estConfig.passphrase"]
        );
        server.patch(&path, json!({"estConfig": {"caChain": "x"}})).await.refused(400, "BadRequest");
    });
}

#[test]
fn what_a_profile_names_must_be_there_and_of_its_project() {
    for_each_engine(|server| async move {
        let policy = policy(&server).await;
        let other = server.other_organization().await;
        let foreign = text(
            &other.post("/api/v1/cert-manager/certificate-policies", json!({"name": "web"})).await.ok()["certificatePolicy"]
                ["id"],
        );
        // The default project is the oldest.
        server.at(1);
        let second =
            server.post("/api/v1/projects", json!({"projectName": "Second"})).await.ok()["project"]["id"].take();
        let elsewhere = json!({"name": "web", "projectId": second});
        let elsewhere = text(
            &server.post("/api/v1/cert-manager/certificate-policies", elsewhere).await.ok()["certificatePolicy"]["id"],
        );
        for (policy, authority, status, error) in [
            (UNKNOWN, None, 404, "NotFound"),
            (foreign.as_str(), None, 404, "NotFound"),
            (elsewhere.as_str(), None, 403, "ForbiddenError"),
            (policy.as_str(), Some(UNKNOWN), 404, "NotFound"),
        ] {
            let kind = if authority.is_some() { "ca" } else { "self-signed" };
            let body = json!({"slug": "x", "certificatePolicyId": policy, "caId": authority, "issuerType": kind});
            server.post(NEW, body).await.refused(status, error);
        }
        let body = json!({"slug": "web", "certificatePolicyId": policy, "issuerType": "self-signed"});
        profile(&server, body.clone()).await;
        server.post(NEW, body.clone()).await.refused(403, "ForbiddenError");
        let mut long = body.clone();
        long["slug"] = json!("long");
        long["defaults"] = json!({"ttlDays": 91});
        server.post(NEW, long).await.refused(400, "BadRequest");
        let mut external = body.clone();
        external["slug"] = json!("external");
        external["externalConfigs"] = json!({"template": "x"});
        server.post(NEW, external).await.refused(403, "ForbiddenError");
        assert_eq!(server.post(NEW, json!({"slug": "A"})).await.issues(), ["slug"]);
        assert_eq!(server.post(NEW, json!({"slug": "a"})).await.issues(), ["certificatePolicyId", "caId"]);
    });
}

#[test]
fn a_profile_is_changed_by_what_is_sent() {
    for_each_engine(|server| async move {
        let policy = policy(&server).await;
        let body = json!({"slug": "web", "certificatePolicyId": policy, "issuerType": "self-signed", "description": "x",
            "defaults": {"ttlDays": 30}});
        let made = profile(&server, body.clone()).await;
        let one = format!("{OLD}/{}", text(&made["id"]));
        let kept = server.patch(&one, json!({})).await.ok()["certificateProfile"].take();
        assert_eq!((&kept["description"], &kept["defaults"]), (&made["description"], &made["defaults"]));
        let change = json!({"slug": "web-two", "description": null, "defaults": null, "caId": UNKNOWN,
            "apiConfig": {"autoRenew": true, "renewBeforeDays": 5}});
        let changed = server.patch(&one, change).await.ok()["certificateProfile"].take();
        assert_eq!((&changed["slug"], &changed["caId"]), (&json!("web-two"), &Value::Null));
        assert_eq!((&changed["description"], &changed["defaults"]), (&Value::Null, &Value::Null));
        let shown = server.get(&one).await.ok()["certificateProfile"].take();
        assert_eq!(
            (&shown["apiConfig"]["autoRenew"], &shown["apiConfig"]["renewBeforeDays"]),
            (&json!(true), &json!(5))
        );
        server.patch(&one, json!({"enrollmentType": "est"})).await.refused(403, "ForbiddenError");
        server.patch(&one, json!({"issuerType": "ca"})).await.refused(403, "ForbiddenError");
        server.patch(&one, json!({"defaults": {"ttlDays": 91}})).await.refused(400, "BadRequest");

        profile(&server, body).await;
        server.patch(&one, json!({"slug": "web"})).await.refused(403, "ForbiddenError");
        assert_eq!(server.delete(&one).await.ok()["certificateProfile"]["id"], made["id"]);
        server.get(&one).await.refused(404, "NotFound");
    });
}

#[test]
fn a_profile_is_for_those_who_may() {
    for_each_engine(|server| async move {
        let policy = policy(&server).await;
        for slug in ["web", "api"] {
            profile(&server, json!({"slug": slug, "certificatePolicyId": policy, "issuerType": "self-signed"})).await;
        }
        let rules =
            json!([{"subject": "certificate-profiles", "action": ["read", "edit"], "conditions": {"slug": "api"}}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "api-only", "name": "x", "permissions": rules})).await.ok();
        let narrow = server.by(&server.identity("no-access", Some("api-only")).await);
        let listed = narrow.get(NEW).await.ok();
        assert_eq!(listed["certificateProfiles"].as_array().map(Vec::len), Some(1), "{listed}");
        let own = format!("{NEW}/{}", text(&listed["certificateProfiles"][0]["id"]));
        narrow.get(&format!("{NEW}/slug/api")).await.ok();
        narrow.get(&format!("{NEW}/slug/web")).await.refused(403, "PermissionDenied");
        narrow.patch(&own, json!({"description": "mine"})).await.ok();
        // Out of one's own sight is a right over the new name too.
        narrow.patch(&own, json!({"slug": "free"})).await.refused(403, "PermissionDenied");
        narrow.delete(&own).await.refused(403, "PermissionDenied");
        let other = server.other_organization().await;
        other.get(&own).await.refused(404, "NotFound");
        other.patch(&own, json!({"description": "theirs"})).await.refused(404, "NotFound");
    });
}

#[test]
fn the_secret_that_acme_accounts_begin_with_is_shown_to_those_who_may_and_can_be_exchanged() {
    for_each_engine(|server| async move {
        let policy = policy(&server).await;
        let body = json!({"slug": "acme", "caId": server.issuing_ca, "certificatePolicyId": policy,
            "enrollmentType": "acme", "acmeConfig": {}});
        let made = profile(&server, body).await;
        let secret_at = |family: &str| format!("{family}/{}/acme/eab-secret", text(&made["id"]));
        let first = server.get(&format!("{}/reveal", secret_at(NEW))).await;
        assert_eq!(first.headers["cache-control"], "no-store");
        let first = first.ok();
        assert_eq!((&first["eabKid"], text(&first["eabSecret"]).len()), (&made["id"], 43));
        assert_eq!(server.get(&format!("{}/reveal", secret_at(OLD))).await.ok(), first);
        let second = server.post(&format!("{}/rotate", secret_at(OLD)), json!({})).await.ok();
        assert_ne!(second["eabSecret"], first["eabSecret"]);
        assert_eq!(server.get(&format!("{}/reveal", secret_at(NEW))).await.ok(), second);

        let api =
            profile(&server, json!({"slug": "api", "caId": server.issuing_ca, "certificatePolicyId": policy})).await;
        let elsewhere = format!("{NEW}/{}/acme/eab-secret/reveal", text(&api["id"]));
        server.get(&elsewhere).await.refused(400, "BadRequest");
        let member = server.by(&server.identity("member", Some("member")).await);
        member.get(&format!("{}/reveal", secret_at(NEW))).await.refused(403, "PermissionDenied");
        let other = server.other_organization().await;
        other.post(&format!("{}/rotate", secret_at(NEW)), json!({})).await.refused(404, "NotFound");
        server.delete(&format!("{NEW}/{}", text(&made["id"]))).await.ok();
    });
}
