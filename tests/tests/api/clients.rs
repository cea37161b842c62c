//! What two published clients send, call by call and in their order (contract §8): the Terraform provider, which makes, reads,
//! changes and destroys each resource, and the agent of the published CLI. Both name no project.

use crate::applications::{APPLICATIONS, put};
use crate::authorities::DAY;
use crate::issuing::{POLICIES, PROFILES, REQUEST};
use crate::server::{Server, Session, for_each_engine, members, text};
use serde_json::{Value, json};

const AUTHORITIES: &str = "/api/v1/cert-manager/ca/internal";
const ACCESS: &str = "/api/v1/cert-manager/access/identities";
const SYNCS: &str = "/api/v1/cert-manager/syncs";
const REQUESTS: &str = "/api/v1/cert-manager/certificates/certificate-requests";
const LOGIN: &str = "/api/v1/auth/universal-auth/login";

/// The provider takes 404 and 422 of a GET for "gone", and anything else for an error.
async fn must_be_gone(server: &Server, path: &str) {
    let status = server.get(path).await.status;
    assert!(matches!(status, 404 | 422), "{path}: {status}");
}

/// Logs in as a client does: the server as that session.
async fn logged_in(server: &Server, path: &str, session: &Session) -> Server {
    let body = json!({"clientId": session.client_id, "clientSecret": session.client_secret});
    let answer = server.anonymous(path, body).await.ok();
    assert_eq!(members(&answer), ["accessToken", "accessTokenMaxTTL", "expiresIn", "tokenType"]);
    server.by(&Session { token: text(&answer["accessToken"]), ..session.clone() })
}

/// An authority as the provider makes one: empty names are left out, and its certificate is a resource of its own.
async fn authority(server: &Server, name: &str, kind: &str, parent: Option<&str>) -> String {
    let configuration =
        json!({"type": kind, "commonName": name, "organization": "Acme", "keyAlgorithm": "EC_prime256v1"});
    let body = json!({"name": name, "status": "active", "configuration": configuration});
    let made = server.post(AUTHORITIES, body).await.ok();
    let id = text(&made["id"]);
    let one = format!("{AUTHORITIES}/{id}");
    let shown = server.get(&one).await.ok();
    assert_eq!((&shown["name"], &shown["configuration"]["type"]), (&json!(name), &json!(kind)));
    for (field, value) in [("commonName", name), ("organization", "Acme"), ("keyAlgorithm", "EC_prime256v1")] {
        assert_eq!(shown["configuration"][field], value);
    }
    // What is empty reads as empty, or the plan would differ from the state for ever.
    for field in ["ou", "country", "province", "locality"] {
        assert!(shown["configuration"].get(field).is_none_or(|value| value == ""), "{field}");
    }
    let (days, path_length) = if parent.is_some() { (300, 0) } else { (900, 1) };
    let mut body =
        json!({"notBefore": server.time(0), "notAfter": server.time(days * DAY), "maxPathLength": path_length});
    if let Some(parent) = parent {
        body["parentCaId"] = json!(parent);
    }
    let certificate = server.post(&format!("{one}/certificate"), body).await.ok();
    for path in [format!("{one}/certificate/{}", text(&certificate["certId"])), format!("{one}/certificate")] {
        let read = server.get(&path).await.ok();
        for field in ["certificate", "certificateChain", "serialNumber"] {
            assert_eq!(read[field], certificate[field], "{path} {field}");
        }
    }
    assert_eq!(server.get(&one).await.ok()["status"], "active");
    id
}

#[test]
fn the_terraform_provider_applies_refreshes_and_destroys() {
    for_each_engine(|server| async move {
        let admin = server.identity("admin", Some("admin")).await;
        let server = logged_in(&server, LOGIN, &admin).await;

        let root = authority(&server, "tf-root", "root", None).await;
        let issuing = authority(&server, "tf-issuing", "intermediate", Some(&root)).await;
        let configuration = json!({"type": "intermediate", "commonName": "tf-issuing", "organization": "Acme",
            "keyAlgorithm": "EC_prime256v1"});
        let body = json!({"name": "tf-issuing-2", "status": "active", "configuration": configuration});
        assert_eq!(server.patch(&format!("{AUTHORITIES}/{issuing}"), body).await.ok()["name"], "tf-issuing-2");

        // A policy: an update sends every part, null for those that are not set.
        let subject = json!([{"type": "common_name", "allowed": ["*.example.com"]}]);
        let sans = json!([{"type": "dns_name", "allowed": ["*.example.com"]}]);
        let algorithms = json!({"signature": ["SHA256-ECDSA"], "keyAlgorithm": ["ECDSA-P256"]});
        let body = json!({"name": "tf-policy", "subject": subject, "sans": sans, "validity": {"max": "90d"},
            "keyUsages": {"allowed": ["digital_signature"]}, "extendedKeyUsages": {"allowed": ["server_auth"]},
            "algorithms": algorithms});
        let policy = text(&server.post(POLICIES, body).await.ok()["certificatePolicy"]["id"]);
        let policy_path = format!("{POLICIES}/{policy}");
        let shown = server.get(&policy_path).await.ok()["certificatePolicy"].take();
        assert_eq!((&shown["name"], &shown["subject"], &shown["sans"]), (&json!("tf-policy"), &subject, &sans));
        assert_eq!((&shown["description"], &shown["basicConstraints"]), (&Value::Null, &Value::Null));
        let body = json!({"name": "tf-policy", "description": "for sites", "subject": subject, "sans": sans,
            "keyUsages": {"allowed": ["digital_signature"]}, "extendedKeyUsages": null, "algorithms": algorithms,
            "validity": {"max": "60d"}, "basicConstraints": null});
        let changed = server.patch(&policy_path, body).await.ok()["certificatePolicy"].take();
        assert_eq!((&changed["validity"]["max"], &changed["extendedKeyUsages"]), (&json!("60d"), &Value::Null));
        assert_eq!(server.get(&policy_path).await.ok()["certificatePolicy"], changed);

        // A profile: no enrolment is named, that is the application's.
        let body = json!({"caId": issuing, "certificatePolicyId": policy, "slug": "tf-web", "issuerType": "ca"});
        let profile = text(&server.post(PROFILES, body).await.ok()["certificateProfile"]["id"]);
        let profile_path = format!("{PROFILES}/{profile}?includeConfigs=true");
        let shown = server.get(&profile_path).await.ok()["certificateProfile"].take();
        assert_eq!(
            (&shown["slug"], &shown["caId"], &shown["certificatePolicyId"]),
            (&json!("tf-web"), &json!(issuing), &json!(policy))
        );
        let body = json!({"slug": "tf-web", "description": null, "issuerType": "ca", "defaults": null});
        server.patch(&format!("{PROFILES}/{profile}"), body).await.ok();
        let again = server.get(&profile_path).await.ok()["certificateProfile"].take();
        assert_eq!((&again["description"], &again["defaults"]), (&Value::Null, &Value::Null));

        // An application, the attachment with its enrolment, a member.
        let made = server.post(APPLICATIONS, json!({"name": "tf-shop"})).await.ok();
        let id = text(&made["application"]["id"]);
        let application = format!("{APPLICATIONS}/{id}");
        assert_eq!(server.get(&application).await.ok(), made);
        let body = json!({"name": "tf-shop", "description": "the shop"});
        assert_eq!(server.patch(&application, body).await.ok()["application"]["description"], "the shop");
        let body = json!({"name": "tf-shop", "description": null});
        assert_eq!(server.patch(&application, body).await.ok()["application"]["description"], Value::Null);
        let attached = server.post(&format!("{application}/profiles"), json!({"profileIds": [profile]})).await.ok();
        assert_eq!(attached["profiles"][0]["profileId"], json!(profile));
        let enrollment = format!("{application}/profiles/{profile}/enrollment");
        put(&server, &format!("{enrollment}/api"), json!({"autoRenew": true, "renewBeforeDays": 10})).await.ok();
        let state = server.get(&enrollment).await.ok();
        assert_eq!((&state["api"]["autoRenew"], &state["api"]["renewBeforeDays"]), (&json!(true), &json!(10)));
        for other in ["est", "acme", "scep"] {
            assert_eq!(state[other], Value::Null);
        }
        let operator = server.identity("no-access", None).await;
        let membership = format!("{application}/identities/{}", operator.identity);
        let added = server.post(&membership, json!({"role": "operator"})).await.ok()["membership"].take();
        let listed = server.get(&format!("{application}/identities")).await.ok()["memberships"].take();
        assert_eq!(listed, json!([added]));
        assert_eq!(server.patch(&membership, json!({"role": "admin"})).await.ok()["membership"]["role"], "admin");

        // Access to the default project.
        let place = format!("{ACCESS}/{}", operator.identity);
        let added = server.post(&place, json!({"roles": [{"role": "member"}]})).await.ok()["identityMembership"].take();
        assert_eq!(added["identityId"], json!(operator.identity));
        let shown = server.get(&place).await.ok()["identityMembership"].take();
        assert_eq!((&shown["id"], &shown["roles"][0]["role"]), (&added["id"], &json!("member")));
        server.patch(&place, json!({"roles": [{"role": "viewer"}]})).await.ok();
        assert_eq!(server.get(&place).await.ok()["identityMembership"]["roles"][0]["role"], "viewer");

        // A certificate: the answer is at hand, so nothing is polled; what was not sent is read back.
        let attributes = json!({"commonName": "www.example.com", "ou": "Ops", "province": "Berlin", "ttl": "30d",
            "altNames": [{"type": "dns_name", "value": "www.example.com"}, {"type": "dns_name", "value": "shop.example.com"}],
            "keyUsages": ["digital_signature"], "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256"});
        let body = json!({"profileId": profile, "applicationId": id, "attributes": attributes});
        let issued = server.post(REQUEST, body).await.ok();
        let certificate = &issued["certificate"];
        assert!(!text(&certificate["certificate"]).is_empty() && certificate["privateKey"].is_string());
        let certificate_path = format!("{REQUEST}/{}", text(&certificate["certificateId"]));
        let record = server.get(&certificate_path).await.ok()["certificate"].take();
        for (field, value) in [
            ("status", json!("active")),
            ("commonName", json!("www.example.com")),
            ("altNames", json!("www.example.com, shop.example.com")),
            ("keyAlgorithm", json!("EC_prime256v1")),
            ("signatureAlgorithm", json!("ECDSA-SHA256")),
            ("keyUsages", json!(["digitalSignature"])),
            ("extendedKeyUsages", json!(null)),
            ("profileId", json!(profile)),
            ("applicationId", json!(id)),
            ("serialNumber", certificate["serialNumber"].clone()),
            ("certificateChain", certificate["certificateChain"].clone()),
            ("subjectOrganization", json!(null)),
            ("subjectOrganizationalUnit", json!(null)),
            ("subjectCountry", json!(null)),
            ("subjectState", json!(null)),
            ("subjectLocality", json!(null)),
            ("renewBeforeDays", json!(10)),
            ("notBefore", json!(server.time(0))),
            ("notAfter", json!(server.time(30 * DAY))),
        ] {
            assert_eq!(record[field], value, "{field}");
        }
        // Where it would poll, it finds the same.
        let polled = server.get(&format!("{REQUESTS}/{}", text(&issued["certificateRequestId"]))).await.ok();
        for field in ["certificate", "certificateId", "privateKey", "certificateChain", "serialNumber"] {
            assert_eq!(polled[field], certificate[field], "{field}");
        }
        assert_eq!((&polled["status"], &polled["errorMessage"]), (&json!("issued"), &Value::Null));

        // A sync in the application.
        let place = server.places.join("tf");
        std::fs::create_dir(&place).unwrap();
        let body = json!({"name": "tf-sync", "applicationId": id, "isAutoSyncEnabled": false,
            "destinationConfig": {"destinationPath": place}, "syncOptions": {"certificateNameSchema": "{{commonName}}"}});
        let sync = text(&server.post(&format!("{SYNCS}/local-directory"), body).await.ok()["id"]);
        let shown = server.get(&format!("{SYNCS}/{sync}")).await.ok();
        assert_eq!((&shown["applicationId"], &shown["isAutoSyncEnabled"]), (&json!(id), &json!(false)));
        let ids = json!({"certificateIds": [certificate["certificateId"]]});
        server.post(&format!("{SYNCS}/{sync}/certificates"), ids.clone()).await.ok();
        assert_eq!(server.get(&format!("{SYNCS}/{sync}/certificates?offset=0&limit=100")).await.ok()["totalCount"], 1);
        let body = json!({"name": "tf-sync-2", "description": "", "isAutoSyncEnabled": true,
            "destinationConfig": {"destinationPath": place}, "syncOptions": {"certificateNameSchema": "{{commonName}}"}});
        server.patch(&format!("{SYNCS}/local-directory/{sync}"), body).await.ok();
        assert_eq!(server.get(&format!("{SYNCS}/{sync}")).await.ok()["applicationId"], json!(id));
        for wrong in ["0198c5a0-0000-7000-8000-000000000001", "x"] {
            let body = json!({"name": "no", "applicationId": wrong, "destinationConfig": {"destinationPath": place},
                "syncOptions": {"certificateNameSchema": "{{commonName}}"}});
            let status = server.post(&format!("{SYNCS}/local-directory"), body).await.status;
            assert!(matches!(status, 404 | 422), "{wrong}: {status}");
        }

        // Destroyed in the order of what depends on what. A certificate is only forgotten by the provider.
        server.delete_with(&format!("{SYNCS}/{sync}/certificates"), ids).await.ok();
        server.delete(&format!("{SYNCS}/local-directory/{sync}")).await.ok();
        must_be_gone(&server, &format!("{SYNCS}/{sync}")).await;
        server.delete(&format!("{ACCESS}/{}", operator.identity)).await.ok();
        must_be_gone(&server, &format!("{ACCESS}/{}", operator.identity)).await;
        server.delete(&membership).await.ok();
        server.delete(&format!("{enrollment}/api")).await.ok();
        assert_eq!(server.get(&enrollment).await.ok()["api"], Value::Null);
        server.delete(&format!("{application}/profiles/{profile}")).await.ok();
        must_be_gone(&server, &enrollment).await;
        server.delete(&application).await.ok();
        must_be_gone(&server, &application).await;
        must_be_gone(&server, &format!("{application}/identities")).await;
        server.delete(&format!("{PROFILES}/{profile}")).await.ok();
        must_be_gone(&server, &profile_path).await;
        server.delete(&policy_path).await.ok();
        must_be_gone(&server, &policy_path).await;
        for authority in [&issuing, &root] {
            server.delete(&format!("{AUTHORITIES}/{authority}")).await.ok();
            must_be_gone(&server, &format!("{AUTHORITIES}/{authority}")).await;
        }
        assert_eq!(server.get(&certificate_path).await.ok()["certificate"]["applicationId"], json!(id));
    });
}

/// The state of a request, as the agent polls it: until it is issued.
async fn poll(agent: &Server, request: &Value) -> Value {
    let state = agent.get(&format!("{REQUESTS}/{}", text(request))).await.ok();
    assert_eq!(state["status"], "issued");
    state
}

#[test]
fn the_agent_gets_a_certificate_and_renews_it_as_a_member_of_an_application() {
    for_each_engine(|server| async move {
        let profile = crate::issuing::profile(&server, "agents", json!({})).await;
        let other = crate::issuing::profile(&server, "others", json!({})).await;
        let made = server.post(APPLICATIONS, json!({"name": "fleet", "profileIds": [other, profile]})).await.ok();
        let application = format!("{APPLICATIONS}/{}", text(&made["application"]["id"]));
        put(&server, &format!("{application}/profiles/{profile}/enrollment/api"), json!({})).await.ok();
        let of_application = server.identity("no-access", None).await;
        server
            .post(&format!("{application}/identities/{}", of_application.identity), json!({"role": "operator"}))
            .await
            .ok();
        let of_project = server.identity("no-access", Some("issuer")).await;

        for (session, name, later) in [(of_application, "a.example.com", 10), (of_project, "b.example.com", 20)] {
            let agent = logged_in(&server, &format!("{LOGIN}/"), &session).await;
            // By their names, as its file has them.
            let found = agent.get(&format!("{APPLICATIONS}/by-name/fleet")).await.ok()["application"].take();
            let attached =
                agent.get(&format!("{APPLICATIONS}/{}/profiles", text(&found["id"]))).await.ok()["profiles"].take();
            let by_slug = attached.as_array().unwrap().iter().find(|one| one["profileSlug"] == "agents").unwrap();
            let attributes = json!({"commonName": name, "ttl": "1d", "removeRootsFromChain": true,
                "altNames": [{"type": "dns_name", "value": name}], "keyUsages": ["digital_signature"],
                "extendedKeyUsages": ["server_auth"], "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256"});
            let body =
                json!({"profileId": by_slug["profileId"], "applicationId": found["id"], "attributes": attributes});
            let issued = agent.post(REQUEST, body).await.ok();
            let state = poll(&agent, &issued["certificateRequestId"]).await;
            for field in ["certificate", "certificateChain", "privateKey", "serialNumber", "certificateId"] {
                assert_eq!(state[field], issued["certificate"][field], "{field}");
            }
            assert_eq!(state["basicConstraints"], json!({"isCA": false}));

            // It renews by the id, and takes what it writes to files from the request.
            server.at(later);
            let one = format!("{REQUEST}/{}", text(&state["certificateId"]));
            let renewed = agent.post(&format!("{one}/renew"), json!({"removeRootsFromChain": true})).await.ok();
            assert_ne!(renewed["certificateId"], state["certificateId"]);
            let next = poll(&agent, &renewed["certificateRequestId"]).await;
            for field in ["certificate", "serialNumber", "certificateId", "privateKey"] {
                assert_eq!(next[field], renewed[field], "{field}");
            }
            assert_ne!(next["privateKey"], state["privateKey"]);
            assert_eq!(next["applicationId"], found["id"]);
            // When it is told an id, it watches that.
            let watched = format!("{REQUEST}/{}", text(&next["certificateId"]));
            assert_eq!(agent.get(&watched).await.ok()["certificate"]["status"], "active");
            let bundle = agent.get(&format!("{watched}/bundle")).await.ok();
            assert_eq!((&bundle["certificate"], &bundle["privateKey"]), (&next["certificate"], &next["privateKey"]));
        }
    });
}
