//! `POST /api/v1/cert-manager/certificates` and the requests that it makes (contract §6.4, 6.10).

use crate::csr::Draft;
use crate::issuing::{
    PROFILES, REQUEST, certificate, count, issue, merge, names, open_policy, policy, profile, profile_with,
};
use crate::server::{Answer, Server, for_each_engine, members, text};
use domain::{CertificateId, CertificateRequestId};
use serde_json::{Value, json};
use store::{Changes, Statement, Value as Sql};
use testkit::chains::TestKey;
use x509::{AttributeType, KeyUsage, KeyUsages};

const REQUESTS: &str = "/api/v1/cert-manager/certificates/certificate-requests";
const UNKNOWN: &str = "0198c5a0-0000-7000-8000-000000000001";

/// Asks for a certificate with these attributes.
async fn ask(server: &Server, profile: &str, attributes: Value) -> Answer {
    server.post(REQUEST, json!({"profileId": profile, "attributes": attributes})).await
}

/// Attributes that are in order.
fn attributes(changes: Value) -> Value {
    let mut attributes = json!({"commonName": "www.example.com", "ttl": "1d", "keyAlgorithm": "EC_prime256v1",
        "signatureAlgorithm": "ECDSA-SHA256"});
    merge(&mut attributes, changes);
    attributes
}

#[test]
fn a_certificate_is_made_of_attributes_and_its_request_tells_of_it() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let asked = attributes(json!({
            "organization": "Acme", "organizationalUnit": "Ops", "country": "DE", "state": "Berlin", "locality": "Mitte",
            "domainComponents": ["com", "example"], "keyUsages": ["digital_signature"],
            "extendedKeyUsages": ["server_auth"], "altNames": [{"type": "ip_address", "value": "192.0.2.7"}],
            "ou": "ignored", "province": "ignored", "removeRootsFromChain": true,
        }));
        let body = json!({"profileId": open, "applicationId": null, "attributes": asked,
            "metadata": [{"key": "team", "value": "edge"}]});
        let answer = server.post(REQUEST, body).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let answer = answer.ok();
        assert_eq!(members(&answer), ["certificate", "certificateRequestId", "message", "status"]);
        assert_eq!(answer["status"], "issued");
        let inner = &answer["certificate"];
        let expected =
            ["certificate", "certificateChain", "certificateId", "issuingCaCertificate", "privateKey", "serialNumber"];
        assert_eq!(members(inner), expected);
        // An answer at once: the request is the certificate. The nested removeRootsFromChain does nothing.
        assert_eq!(answer["certificateRequestId"], inner["certificateId"]);
        assert_eq!(text(&inner["certificateChain"]).matches("-----BEGIN").count(), 2);
        let issued = certificate(inner);
        assert_eq!(
            issued.subject().render(),
            "DC=com,DC=example,C=DE,O=Acme,OU=Ops,ST=Berlin,CN=www.example.com,L=Mitte"
        );
        assert_eq!(names(&issued), ["IP address 192.0.2.7", "DNS name www.example.com"]);

        let one = format!("{REQUESTS}/{}", text(&answer["certificateRequestId"]));
        let shown = server.get(&one).await;
        assert_eq!(shown.headers["cache-control"], "no-store");
        let shown = shown.ok();
        for member in
            ["certificate", "certificateId", "serialNumber", "privateKey", "certificateChain", "issuingCaCertificate"]
        {
            assert_eq!(shown[member], inner[member], "{member}");
        }
        for (member, value) in [
            ("id", answer["certificateRequestId"].clone()),
            ("status", json!("issued")),
            ("errorMessage", json!(null)),
            ("profileId", json!(open)),
            ("applicationId", json!(null)),
            ("basicConstraints", json!({"isCA": false})),
            ("commonName", json!("www.example.com")),
            ("organization", json!("Acme")),
            ("organizationalUnit", json!("Ops")),
            ("country", json!("DE")),
            ("state", json!("Berlin")),
            ("locality", json!("Mitte")),
            ("createdAt", json!(server.time(0))),
            ("updatedAt", json!(server.time(0))),
        ] {
            assert_eq!(shown[member], value, "{member}");
        }
        let bare = server.get(&format!("{one}?removeRootsFromChain=true")).await.ok();
        assert_eq!(bare["certificateChain"], inner["issuingCaCertificate"]);
        let record = server.get(&format!("{REQUEST}/{}", text(&inner["certificateId"]))).await.ok();
        assert_eq!(record["certificate"]["metadata"], json!([{"key": "team", "value": "edge"}]));
    });
}

#[test]
fn a_csr_says_everything_but_the_lifetime() {
    for_each_engine(|server| async move {
        let policy = policy(&server, open_policy("open")).await;
        let defaults = json!({"defaults": {"ttlDays": 3, "commonName": "default.example.com", "organization": "Default",
            "keyUsages": ["digital_signature"], "extendedKeyUsages": ["client_auth"]}});
        let open = profile_with(&server, "open", Some(&server.issuing_ca), &policy, defaults).await;
        let key = TestKey::generate();
        let csr = Draft::named(&key, "www.example.com").pem(&key);
        let more = json!({"commonName": "other.example.com", "keyUsages": ["crl_sign"], "extendedKeyUsages": ["server_auth"],
            "altNames": [{"type": "dns_name", "value": "other.example.com"}], "basicConstraints": {"isCA": true},
            "keyAlgorithm": "RSA_4096", "signatureAlgorithm": "RSA-SHA512", "organization": "Other"});
        for (attributes, days) in [
            (Value::Null, 3),
            (json!({}), 3),
            (json!({"ttl": "2d"}), 2),
            (json!({"notAfter": server.time(86_400)}), 1),
            (more, 3),
        ] {
            let body = json!({"profileId": open, "csr": csr, "attributes": attributes, "removeRootsFromChain": true});
            let answer = server.post(REQUEST, body).await;
            assert!(!answer.raw.contains("PRIVATE KEY"));
            let answer = answer.ok();
            let signed = certificate(&answer["certificate"]);
            assert_eq!(signed.subject().render(), "CN=www.example.com");
            assert_eq!(signed.not_after() - signed.not_before(), days * 86_400);
            assert_eq!(names(&signed), ["DNS name www.example.com"]);
            assert_eq!(signed.extensions().key_usages(), Ok(None));
            assert_eq!(signed.extensions().extended_key_usages(), Ok(None));
            assert_eq!(text(&answer["certificate"]["certificateChain"]).matches("-----BEGIN").count(), 1);
            let shown = server.get(&format!("{REQUESTS}/{}", text(&answer["certificateRequestId"]))).await.ok();
            assert_eq!((&shown["privateKey"], &shown["status"]), (&Value::Null, &json!("issued")));
        }
    });
}

#[test]
fn what_is_not_sent_is_taken_from_the_profile() {
    for_each_engine(|server| async move {
        let policy = policy(&server, open_policy("open")).await;
        let defaults = json!({"ttlDays": 7, "commonName": "default.example.com", "organization": "Acme",
            "organizationalUnit": "Ops", "country": "DE", "state": "Berlin", "locality": "Mitte",
            "keyAlgorithm": "EC_secp384r1", "signatureAlgorithm": "ECDSA-SHA384",
            "keyUsages": ["digital_signature", "non_repudiation"], "extendedKeyUsages": ["server_auth", "client_auth"]});
        let full = json!({"defaults": defaults});
        let full = profile_with(&server, "full", Some(&server.issuing_ca), &policy, full).await;
        let issued = certificate(&ask(&server, &full, json!({})).await.ok()["certificate"]);
        assert_eq!(issued.subject().render(), "C=DE,O=Acme,OU=Ops,ST=Berlin,CN=default.example.com,L=Mitte");
        assert_eq!(issued.not_after() - issued.not_before(), 7 * 86_400);
        assert_eq!(issued.key_algorithm().unwrap().as_str(), "EC_secp384r1");
        assert_eq!(issued.signature_algorithm().unwrap().as_str(), "ECDSA-SHA384");
        let usages = KeyUsages::of(&[KeyUsage::DigitalSignature, KeyUsage::NonRepudiation]);
        assert_eq!(issued.extensions().key_usages(), Ok(Some(usages)));
        // No attributes at all are as none of them.
        let bare = server.post(REQUEST, json!({"profileId": full})).await.ok();
        assert_eq!(certificate(&bare["certificate"]).subject(), issued.subject());

        for (changes, subject, usages) in [
            // What is sent as null is nothing, and not the default.
            (
                json!({"organization": null, "organizationalUnit": null, "country": null, "state": null, "locality": null}),
                "CN=default.example.com",
                Some(usages),
            ),
            (
                json!({"commonName": "own.example.com", "organization": ""}),
                "C=DE,OU=Ops,ST=Berlin,CN=own.example.com,L=Mitte",
                Some(usages),
            ),
            (
                json!({"keyUsages": ["key_agreement"]}),
                "C=DE,O=Acme,OU=Ops,ST=Berlin,CN=default.example.com,L=Mitte",
                Some(KeyUsages::of(&[KeyUsage::KeyAgreement])),
            ),
            (
                json!({"keyUsages": [], "ttl": "1h"}),
                "C=DE,O=Acme,OU=Ops,ST=Berlin,CN=default.example.com,L=Mitte",
                None,
            ),
        ] {
            let answer = ask(&server, &full, changes.clone()).await.ok();
            let issued = certificate(&answer["certificate"]);
            assert_eq!(issued.subject().render(), subject, "{changes}");
            assert_eq!(issued.extensions().key_usages(), Ok(usages), "{changes}");
        }
        let nameless = json!({"commonName": null, "altNames": [{"type": "dns_name", "value": "only.example.com"}]});
        let issued = certificate(&ask(&server, &full, nameless).await.ok()["certificate"]);
        assert_eq!(issued.subject().first(AttributeType::CommonName), None);

        // A default lifetime is judged like any other.
        server
            .patch(&format!("/api/v1/cert-manager/certificate-policies/{policy}"), json!({"validity": {"max": "1d"}}))
            .await
            .ok();
        let refused = ask(&server, &full, json!({})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("at most 1 day"), "{refused}");
        ask(&server, &full, json!({"ttl": "1d"})).await.ok();
    });
}

#[test]
fn a_lifetime_is_a_ttl_or_dates_and_one_of_them_is_needed() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let refused = ask(&server, &open, attributes(json!({"ttl": null}))).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("ttl"), "{refused}");
        let none = attributes(json!({"ttl": null}));
        let with = |changes: Value| {
            let mut attributes = none.clone();
            merge(&mut attributes, changes);
            attributes
        };
        let dates = with(json!({"notBefore": server.time(3600), "notAfter": server.time(7200)}));
        let issued = certificate(&ask(&server, &open, dates).await.ok()["certificate"]);
        let start = server.start.seconds();
        assert_eq!((issued.not_before(), issued.not_after()), (start + 3600, start + 7200));
        let end = with(json!({"notAfter": server.time(7200)}));
        let issued = certificate(&ask(&server, &open, end).await.ok()["certificate"]);
        assert_eq!((issued.not_before(), issued.not_after()), (start, start + 7200));
        for changes in [
            json!({"ttl": "1d", "notAfter": server.time(7200)}),
            json!({"ttl": "1d", "notBefore": server.time(0)}),
            json!({"notBefore": server.time(7200), "notAfter": server.time(7200)}),
        ] {
            assert_eq!(ask(&server, &open, with(changes)).await.issues(), ["attributes"]);
        }
        // Before the authority's own beginning, past, or later than its end.
        for changes in [
            json!({"notBefore": server.time(-1), "notAfter": server.time(7200)}),
            json!({"notAfter": server.time(0)}),
            json!({"notAfter": server.time(6 * 365 * 86_400)}),
            json!({"notBefore": server.time(60)}),
        ] {
            ask(&server, &open, with(changes)).await.refused(400, "BadRequest");
        }
    });
}

#[test]
fn where_a_policy_lists_algorithms_a_request_names_one() {
    for_each_engine(|server| async move {
        let listing = profile(&server, "listing", json!({})).await;
        let unnamed = attributes(json!({"keyAlgorithm": null, "signatureAlgorithm": null}));
        let refused = ask(&server, &listing, unnamed).await.refused(400, "BadRequest");
        let message = text(&refused["message"]);
        assert!(message.contains("keyAlgorithm") && message.contains("signatureAlgorithm"), "{message}");
        for missing in ["keyAlgorithm", "signatureAlgorithm"] {
            let refused = ask(&server, &listing, attributes(json!({missing: null}))).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(&format!("name a {missing}")), "{refused}");
        }
        // A CSR names its own.
        let key = TestKey::generate();
        let csr = Draft::named(&key, "www.example.com").pem(&key);
        server.post(REQUEST, json!({"profileId": listing, "csr": csr, "attributes": {"ttl": "1d"}})).await.ok();
    });
}

#[test]
fn shapes_are_checked_before_anything_and_the_profile_must_be_readable() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        assert_eq!(server.post(REQUEST, json!({})).await.issues(), ["profileId"]);
        for (changes, issues) in [
            (json!({"csr": ""}), vec!["csr"]),
            (json!({"csr": "a".repeat(4097)}), vec!["csr"]),
            (json!({"attributes": {"altNames": [{"type": "dns_name"}]}}), vec!["attributes.altNames.0.value"]),
            (json!({"attributes": {"keyAlgorithm": "RSA"}}), vec!["attributes.keyAlgorithm"]),
            (
                json!({"attributes": {"basicConstraints": {"pathLength": -1}}}),
                vec!["attributes.basicConstraints.pathLength"],
            ),
            (json!({"metadata": [{"key": ""}]}), vec!["metadata.0.key", "metadata.0.value"]),
        ] {
            let mut body = json!({"profileId": open, "attributes": attributes(json!({}))});
            merge(&mut body, changes.clone());
            assert_eq!(server.post(REQUEST, body).await.issues(), issues, "{changes}");
        }
        ask(&server, UNKNOWN, attributes(json!({}))).await.refused(404, "NotFound");
        // To issue from a profile here takes the right to read it too.
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        let blind = json!([{"subject": "certificate-profiles", "action": "issue-cert"}]);
        server.post(&roles, json!({"slug": "blind", "name": "Blind", "permissions": blind})).await.ok();
        let blind = server.by(&server.identity("no-access", Some("blind")).await);
        ask(&blind, &open, attributes(json!({}))).await.refused(403, "PermissionDenied");
        issue(&blind, &open, json!({})).await.ok();
        let member = server.by(&server.identity("no-access", Some("member")).await);
        ask(&member, &open, attributes(json!({}))).await.refused(403, "PermissionDenied");
        let long = attributes(json!({"commonName": "a".repeat(65)}));
        ask(&server, &open, long).await.refused(400, "BadRequest");
        let wrong = attributes(json!({"country": "Germany", "locality": "a".repeat(200)}));
        let refused = ask(&server, &open, wrong).await.refused(400, "BadRequest");
        assert!(
            text(&refused["message"]).contains("Germany") && text(&refused["message"]).contains("locality"),
            "{refused}"
        );
        assert_eq!(count(&server).await, 1);
    });
}

#[test]
fn orders_are_for_authorities_elsewhere() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for path in
            ["/api/v3/pki/certificates/order-certificate", "/api/v1/cert-manager/certificates/order-certificate"]
        {
            let body = json!({"profileId": open, "subjectAlternativeNames": [{"type": "dns", "value": "www.example.com"}],
                "ttl": "1d", "signatureAlgorithm": "ECDSA-SHA256", "keyAlgorithm": "EC_prime256v1"});
            server.post(path, body).await.refused(400, "BadRequest");
            let empty = server.post(path, json!({"subjectAlternativeNames": []})).await.issues();
            assert_eq!(empty, ["profileId", "ttl", "signatureAlgorithm", "keyAlgorithm", "subjectAlternativeNames"]);
        }
        for (alias, member) in [("issue-certificate", "privateKey"), ("sign-certificate", "serialNumber")] {
            let key = TestKey::generate();
            let body = json!({"profileId": open, "csr": Draft::named(&key, "a.example.com").pem(&key), "ttl": "1d",
                "commonName": "a.example.com", "signatureAlgorithm": "ECDSA-SHA256", "keyAlgorithm": "EC_prime256v1"});
            assert!(server.post(&format!("{REQUEST}/{alias}"), body).await.ok()[member].is_string());
        }
    });
}

#[test]
fn a_request_is_shown_to_whom_may_read_its_certificate() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let answer = ask(&server, &open, attributes(json!({}))).await.ok();
        let one = format!("{REQUESTS}/{}", text(&answer["certificateRequestId"]));
        let list = format!("{REQUESTS}?projectSlug=default");
        for (role, status, has_key) in [
            ("admin", 200, true),
            ("issuer", 200, true),
            ("viewer", 200, false),
            ("member", 200, false),
            ("no-access", 403, false),
        ] {
            let caller = server.by(&server.identity("no-access", Some(role)).await);
            let shown = caller.get(&one).await;
            assert_eq!((shown.status, shown.raw.contains("PRIVATE KEY")), (status, has_key), "{role}");
            let listed = caller.get(&list).await;
            assert_eq!((listed.status, listed.raw.contains("PRIVATE KEY")), (status, false), "{role}");
        }
        server.get(&format!("{REQUESTS}/{UNKNOWN}")).await.refused(404, "NotFound");
        assert_eq!(server.get(&format!("{REQUESTS}/x")).await.issues(), ["requestId"]);
        let other = server.other_organization().await;
        other.get(&one).await.refused(404, "NotFound");
        assert_eq!(other.get(&list).await.ok(), json!({"certificateRequests": [], "totalCount": 0}));
        server.get(&format!("{REQUESTS}?projectSlug=unknown")).await.refused(404, "NotFound");
        assert_eq!(server.get(REQUESTS).await.issues(), ["projectSlug"]);
        // With the certificate goes the request.
        server.delete(&format!("{REQUEST}/{}", text(&answer["certificate"]["certificateId"]))).await.ok();
        server.get(&one).await.refused(404, "NotFound");
        assert_eq!(server.get(&list).await.ok()["totalCount"], 0);
    });
}

/// A request that waits, as a later approval will leave it; nothing makes such rows yet.
async fn waiting(server: &Server, profile: &str, status: &str, certificate: Option<&str>, seconds: i64) -> String {
    let id: CertificateRequestId = server.services.new_id();
    let at = server.start.plus_seconds(seconds);
    let insert = Statement::new(
        "INSERT INTO certificate_requests (id, project_id, profile_id, status, request, certificate_id, error_message,
         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        vec![
            Sql::from(id),
            Sql::from(server.project),
            Sql::from(domain::ProfileId::parse(profile).unwrap()),
            Sql::from(status),
            Sql::from(r#"{"commonName":"waiting.example.com"}"#),
            Sql::from(certificate.and_then(CertificateId::parse)),
            Sql::from((status == "failed").then_some("nobody approved it")),
            Sql::from(at),
        ],
    );
    server.services.db.commit(Changes::new().statement(insert)).await.unwrap();
    id.to_string()
}

#[test]
fn requests_are_listed_with_those_that_waited() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let second = profile(&server, "second", json!({})).await;
        let mut made = Vec::new();
        for (seconds, profile, name) in
            [(1, &open, "a.example.com"), (2, &second, "B.example.com"), (3, &open, "c.example.com")]
        {
            server.at(seconds);
            let answer = ask(&server, profile, attributes(json!({"commonName": name}))).await.ok();
            made.push(text(&answer["certificateRequestId"]));
        }
        server.at(10);
        let pending = waiting(&server, &open, "pending", None, 4).await;
        // One that waited and was answered is not the certificate a second time.
        let answered = waiting(&server, &open, "issued", Some(&made[2]), 5).await;
        let failed = waiting(&server, &second, "failed", None, 0).await;
        let list = async |query: &str| {
            let listed = server.get(&format!("{REQUESTS}?projectSlug=default{query}")).await.ok();
            let ids = listed["certificateRequests"].as_array().unwrap().iter().map(|request| text(&request["id"]));
            (ids.collect::<Vec<_>>(), listed["totalCount"].as_i64().unwrap(), listed)
        };
        let (ids, total, listed) = list("").await;
        assert_eq!(
            (ids, total),
            (vec![answered.clone(), pending.clone(), made[1].clone(), made[0].clone(), failed.clone()], 5)
        );
        let entries = listed["certificateRequests"].as_array().unwrap();
        assert_eq!(entries[0]["certificateId"], json!(made[2]));
        assert_eq!(entries[0]["commonName"], "c.example.com");
        let second_one = json!({"id": made[1], "status": "issued", "profileId": second, "profileName": "second",
            "applicationId": null, "caId": server.issuing_ca, "certificateId": made[1], "approvalRequestId": null,
            "serialNumber": entries[2]["serialNumber"], "commonName": "B.example.com", "altNames": "b.example.com",
            "errorMessage": null, "createdAt": server.time(2), "updatedAt": server.time(2), "certificate": {
            "id": made[1], "serialNumber": entries[2]["serialNumber"], "status": "active"}});
        assert_eq!(entries[2], second_one);
        assert_eq!(
            (&entries[4]["errorMessage"], &entries[4]["serialNumber"]),
            (&json!("nobody approved it"), &Value::Null)
        );
        assert_eq!((&entries[4]["certificate"], &entries[4]["profileName"]), (&Value::Null, &json!("second")));
        // The same by a body.
        for project in [json!({"projectSlug": "default"}), json!({"projectId": server.project}), json!({})] {
            let found = server.post(&format!("{REQUESTS}/search"), project.clone()).await.ok();
            assert_eq!(found, listed, "{project}");
        }
        for (body, expected, total) in [
            (json!({"limit": 2, "offset": 1}), vec![&pending, &made[1]], 5),
            (
                json!({"profileIds": [second, open], "status": "issued", "sortOrder": "asc"}),
                vec![&made[0], &made[1], &answered],
                3,
            ),
            (json!({"search": "b.EXAMPLE", "fromDate": server.time(1), "toDate": server.time(2)}), vec![&made[1]], 1),
        ] {
            let found = server.post(&format!("{REQUESTS}/search"), body.clone()).await.ok();
            let ids: Vec<String> =
                found["certificateRequests"].as_array().unwrap().iter().map(|request| text(&request["id"])).collect();
            assert_eq!((ids.iter().collect::<Vec<_>>(), &found["totalCount"]), (expected, &json!(total)), "{body}");
        }
        let wrong = json!({"profileIds": ["x"], "status": "new", "limit": 0});
        assert_eq!(
            server.post(&format!("{REQUESTS}/search"), wrong).await.issues(),
            ["status", "profileIds.0", "limit"]
        );
        server.post(&format!("{REQUESTS}/search"), json!({"projectSlug": "unknown"})).await.refused(404, "NotFound");
        for (query, expected, total) in [
            ("&limit=2&offset=1", vec![&pending, &made[1]], 5),
            ("&sortOrder=asc&limit=2", vec![&failed, &made[0]], 5),
            ("&sortBy=createdAt&sortOrder=desc&offset=4", vec![&failed], 5),
            ("&status=pending", vec![&pending], 1),
            ("&status=failed", vec![&failed], 1),
            ("&status=issued", vec![&answered, &made[1], &made[0]], 3),
            ("&search=b.EXAMPLE", vec![&made[1]], 1),
            ("&search=waiting", vec![&answered, &pending, &failed], 3),
            (&format!("&profileIds={second}"), vec![&made[1], &failed], 2),
            (&format!("&profileIds={second},{open}&status=issued"), vec![&answered, &made[1], &made[0]], 3),
            (&format!("&fromDate={}&toDate={}", server.time(1), server.time(2)), vec![&made[1], &made[0]], 2),
        ] {
            let (ids, found, _) = list(query).await;
            assert_eq!((ids.iter().collect::<Vec<_>>(), found), (expected, total), "{query}");
        }
        let shown = server.get(&format!("{REQUESTS}/{pending}")).await.ok();
        assert_eq!(
            (&shown["status"], &shown["certificate"], &shown["privateKey"]),
            (&json!("pending"), &Value::Null, &Value::Null)
        );
        assert_eq!(server.get(&format!("{REQUESTS}/{answered}")).await.ok()["certificateId"], json!(made[2]));
        server.get(&format!("{REQUESTS}?projectSlug=default&profileIds=x")).await.refused(422, "ValidationFailure");
        server.delete(&format!("{PROFILES}/{second}")).await.ok();
        assert_eq!(list("").await.1, 5);
    });
}
