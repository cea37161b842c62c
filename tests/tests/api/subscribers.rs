//! Subscribers (contract §7.1): made, changed, issued for, signed for, and renewed by themselves.

use crate::authorities::{DAY, FLAT, TYPED, UNKNOWN, authority};
use crate::csr::Draft;
use crate::direct::{findings, openssl_verifies, record_of};
use crate::issuing::{certificate, merge, names};
use crate::renewal::run_jobs;
use crate::server::{Answer, Server, for_each_engine, members, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;
use x509::{AttributeType, ExtendedKeyUsage, KeyUsage, KeyUsages};

pub const SUBSCRIBERS: &str = "/api/v1/pki/subscribers";

const MEMBERS: [&str; 15] = [
    "autoRenewalPeriodInDays",
    "caId",
    "commonName",
    "createdAt",
    "enableAutoRenewal",
    "extendedKeyUsages",
    "id",
    "keyUsages",
    "name",
    "projectId",
    "properties",
    "status",
    "subjectAlternativeNames",
    "ttl",
    "updatedAt",
];

fn wanted(server: &Server, changes: Value) -> Value {
    let mut body = json!({"projectId": server.project, "caId": server.issuing_ca, "name": "web",
        "commonName": "www.example.com", "ttl": "30d"});
    merge(&mut body, changes);
    body
}

/// A subscriber of the issuing authority that is in order but for some changes.
pub async fn subscriber(server: &Server, changes: Value) -> Value {
    server.post(SUBSCRIBERS, wanted(server, changes)).await.ok()
}

async fn act(server: &Server, name: &str, what: &str, more: Value) -> Answer {
    let mut body = json!({"projectId": server.project});
    merge(&mut body, more);
    server.post(&format!("{SUBSCRIBERS}/{name}/{what}"), body).await
}

async fn issue(server: &Server, name: &str) -> Value {
    act(server, name, "issue-certificate", json!({})).await.ok()
}

fn place(server: &Server, name: &str) -> String {
    format!("{SUBSCRIBERS}/{name}?projectId={}", server.project)
}

async fn change(server: &Server, name: &str, more: Value) -> Answer {
    let mut body = json!({"projectId": server.project});
    merge(&mut body, more);
    server.patch(&format!("{SUBSCRIBERS}/{name}"), body).await
}

async fn delete(server: &Server, name: &str) -> Answer {
    server.delete_with(&format!("{SUBSCRIBERS}/{name}"), json!({"projectId": server.project})).await
}

/// The certificates of a subscriber, newest first.
async fn certificates(server: &Server, name: &str) -> Vec<Value> {
    let path = format!("{SUBSCRIBERS}/{name}/certificates?projectId={}", server.project);
    let shown = server.get(&path).await.ok();
    assert_eq!(members(&shown), ["certificates", "totalCount"]);
    let found = shown["certificates"].as_array().unwrap().clone();
    assert_eq!(shown["totalCount"], found.len());
    found
}

#[test]
fn a_subscriber_is_made_shown_changed_and_deleted() {
    for_each_engine(|server| async move {
        let made = subscriber(&server, json!({"name": " Web "})).await;
        assert_eq!(members(&made), MEMBERS);
        let expected = json!({
            "id": made["id"], "projectId": server.project, "caId": server.issuing_ca, "name": "web",
            "commonName": "www.example.com", "status": "active", "ttl": "30d", "subjectAlternativeNames": [],
            "keyUsages": ["digitalSignature", "keyEncipherment"], "extendedKeyUsages": [], "enableAutoRenewal": false,
            "autoRenewalPeriodInDays": null, "properties": {}, "createdAt": server.time(0), "updatedAt": server.time(0),
        });
        assert_eq!(made, expected);
        assert_eq!(server.get(&place(&server, "web")).await.ok(), made);
        server.at(60);
        let altered = json!({
            "name": "mail", "commonName": "mail.example.com", "status": "disabled", "ttl": "10d",
            "subjectAlternativeNames": ["mail.example.com", "192.0.2.7"], "keyUsages": ["digitalSignature"],
            "extendedKeyUsages": ["serverAuth"], "enableAutoRenewal": true, "autoRenewalPeriodInDays": 5,
            "properties": {"organization": "Acme", "country": "DE", "emailAddress": "ops@example.com"},
        });
        let changed = change(&server, "web", altered.clone()).await.ok();
        for (member, value) in altered.as_object().unwrap() {
            assert_eq!(&changed[member], value, "{member}");
        }
        assert_eq!((&changed["createdAt"], &changed["updatedAt"]), (&json!(server.time(0)), &json!(server.time(60))));
        server.get(&place(&server, "web")).await.refused(404, "NotFound");
        assert_eq!(change(&server, "mail", json!({})).await.ok()["commonName"], "mail.example.com");
        let without = json!({"projectId": server.project, "enableAutoRenewal": false, "autoRenewalPeriodInDays": null});
        let without = server.patch(&format!("{SUBSCRIBERS}/mail"), without).await.ok();
        assert_eq!(without["autoRenewalPeriodInDays"], Value::Null);
        subscriber(&server, json!({"name": "api"})).await;
        let all = format!("/api/v2/workspace/{}/pki-subscribers", server.project);
        let listed = server.get(&all).await.ok();
        let listed: Vec<&str> =
            listed["subscribers"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(listed, ["api", "mail"]);
        // A name is one subscriber's, and an authority that signs for one is not deleted.
        server.post(SUBSCRIBERS, wanted(&server, json!({"name": "api"}))).await.refused(400, "BadRequest");
        change(&server, "mail", json!({"name": "api"})).await.refused(400, "BadRequest");
        let lonely = authority(&server, "root", "lonely").await;
        subscriber(&server, json!({"name": "last", "caId": lonely})).await;
        let refused = server.delete(&format!("{FLAT}/{lonely}")).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("1 subscribers"), "{refused}");
        assert_eq!(delete(&server, "last").await.ok()["name"], "last");
        server.delete(&format!("{FLAT}/{lonely}")).await.ok();
        delete(&server, "last").await.refused(404, "NotFound");
    });
}

#[test]
fn a_subscriber_of_whom_no_certificate_could_be_made_is_refused() {
    for_each_engine(|server| async move {
        assert_eq!(server.post(SUBSCRIBERS, json!({})).await.issues(), ["caId", "name", "commonName", "projectId"]);
        for (changes, issue) in [
            (json!({"name": "not a slug"}), "name"),
            (json!({"name": "a".repeat(65)}), "name"),
            (json!({"commonName": ""}), "commonName"),
            (json!({"status": "away"}), "status"),
            (json!({"ttl": "soon"}), "ttl"),
            (json!({"subjectAlternativeNames": ["a", "not a name"]}), "subjectAlternativeNames.1"),
            (json!({"keyUsages": ["digital_signature"]}), "keyUsages.0"),
            (json!({"extendedKeyUsages": ["any"]}), "extendedKeyUsages.0"),
            (json!({"autoRenewalPeriodInDays": 0}), "autoRenewalPeriodInDays"),
            (json!({"properties": {"country": "Germany"}}), "properties.country"),
        ] {
            let issues = server.post(SUBSCRIBERS, wanted(&server, changes.clone())).await.issues();
            assert!(issues.iter().all(|one| one == issue) && !issues.is_empty(), "{changes}: {issues:?}");
        }
        for (changes, says) in [
            (json!({"ttl": null}), "ttl"),
            (json!({"commonName": "a".repeat(65)}), "commonName"),
            (json!({"commonName": "*.com"}), "wildcard"),
            (json!({"enableAutoRenewal": true}), "autoRenewalPeriodInDays"),
        ] {
            let refused = server.post(SUBSCRIBERS, wanted(&server, changes.clone())).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(says), "{says}: {changes} {refused}");
        }
        server.post(SUBSCRIBERS, wanted(&server, json!({"caId": UNKNOWN}))).await.refused(404, "NotFound");
        server.post(SUBSCRIBERS, wanted(&server, json!({"projectId": UNKNOWN}))).await.refused(404, "NotFound");
        let second = json!({"projectName": "Second", "slug": "second", "type": "cert-manager"});
        let second = text(&server.post("/api/v2/workspace", second).await.ok()["project"]["id"]);
        server.post(SUBSCRIBERS, wanted(&server, json!({"projectId": second}))).await.refused(400, "BadRequest");
        for name in ["unknown", "NO SUCH"] {
            server.get(&place(&server, name)).await.refused(404, "NotFound");
            change(&server, name, json!({})).await.refused(404, "NotFound");
            act(&server, name, "issue-certificate", json!({})).await.refused(404, "NotFound");
        }
        assert_eq!(server.get(&format!("{SUBSCRIBERS}/web")).await.issues(), ["projectId"]);
    });
}

#[test]
fn a_subscriber_is_given_certificates_as_it_says() {
    for_each_engine(|server| async move {
        let properties = json!({"organization": "Acme", "organizationalUnit": "Web", "country": "DE", "state": "Berlin",
            "locality": "Berlin", "emailAddress": "ops@example.com"});
        let made = subscriber(
            &server,
            json!({
                "subjectAlternativeNames": ["a.example.com", "192.0.2.7"], "extendedKeyUsages": ["serverAuth"],
                "properties": properties,
            }),
        )
        .await;
        let latest = format!("{SUBSCRIBERS}/web/latest-certificate-bundle?projectId={}", server.project);
        server.get(&latest).await.refused(404, "NotFound");
        let answer = act(&server, "web", "issue-certificate", json!({})).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let answer = answer.ok();
        assert_eq!(
            members(&answer),
            ["certificate", "certificateChain", "issuingCaCertificate", "privateKey", "serialNumber"]
        );
        openssl_verifies(&answer);
        let issued = certificate(&answer);
        assert_eq!(issued.subject().render(), "C=DE,O=Acme,OU=Web,ST=Berlin,CN=www.example.com,L=Berlin");
        assert_eq!(names(&issued), ["DNS name a.example.com", "IP address 192.0.2.7", "DNS name www.example.com"]);
        assert_eq!(issued.not_after() - issued.not_before(), 30 * DAY);
        assert_eq!(issued.extensions().extended_key_usages(), Ok(Some(vec![ExtendedKeyUsage::ServerAuth])));
        let record = record_of(&server, &answer).await;
        assert_eq!(
            (&record["pkiSubscriberId"], &record["profileId"], &record["certificateTemplateId"]),
            (&made["id"], &Value::Null, &Value::Null)
        );
        let bundle = server.get(&latest).await;
        assert_eq!(bundle.headers["cache-control"], "no-store");
        let bundle = bundle.ok();
        assert_eq!(members(&bundle), ["certificate", "certificateChain", "privateKey", "serialNumber"]);
        for member in members(&bundle) {
            assert_eq!(bundle[member], answer[member], "{member}");
        }

        // A CSR stays within the names, the usages are the subscriber's.
        let key = TestKey::generate();
        let named = Draft::named(&key, "www.example.com");
        for (draft, status) in [
            (named.clone(), 200),
            (named.clone().with_hosts(&["a.example.com", "www.example.com"]), 200),
            (Draft::new(&key, &[]).with_hosts(&["a.example.com"]), 200),
            (named.clone().with_purposes(&[ExtendedKeyUsage::ServerAuth]), 200),
            (named.clone().with_usages(&[KeyUsage::DigitalSignature]), 200),
            (Draft::named(&key, "mail.example.com"), 400),
            (named.clone().with_hosts(&["b.example.com"]), 400),
            (named.clone().with_hosts(&["*.example.com"]), 400),
            (named.clone().with_purposes(&[ExtendedKeyUsage::ClientAuth]), 400),
            (named.clone().with_usages(&[KeyUsage::NonRepudiation]), 400),
            (
                Draft::new(&key, &[(AttributeType::CommonName, "www.example.com"), (AttributeType::CommonName, "b")]),
                400,
            ),
        ] {
            let answer = act(&server, "web", "sign-certificate", json!({"csr": draft.pem(&key)})).await;
            assert_eq!(answer.status, status, "{}", answer.body);
            if status == 200 {
                let answer = answer.ok();
                assert_eq!(
                    members(&answer),
                    ["certificate", "certificateChain", "issuingCaCertificate", "serialNumber"]
                );
                openssl_verifies(&answer);
                let signed = certificate(&answer);
                assert_eq!(signed.not_after() - signed.not_before(), 30 * DAY);
                assert_eq!(signed.extensions().key_usages(), Ok(Some(KeyUsages::of(&[KeyUsage::DigitalSignature]))));
                let purposes = signed.extensions().extended_key_usages();
                assert_eq!(purposes, Ok(Some(vec![ExtendedKeyUsage::ServerAuth])));
            }
        }
        assert_eq!(act(&server, "web", "sign-certificate", json!({})).await.issues(), ["csr"]);
        let long = json!({"csr": "a".repeat(3001)});
        assert_eq!(act(&server, "web", "sign-certificate", long).await.issues(), ["csr"]);
        act(&server, "web", "sign-certificate", json!({"csr": "nonsense"})).await.refused(400, "BadRequest");
        act(&server, "web", "order-certificate", json!({})).await.refused(400, "BadRequest");
        // Those of CSRs have no key, so the bundle is still the first one.
        let all = certificates(&server, "web").await;
        assert_eq!(all.len(), 6);
        assert_eq!(all[5]["id"], record["id"]);
        assert_eq!(server.get(&latest).await.ok(), bundle);
        // Direct issuance may be off, the subscriber is what is asked for.
        let required = json!({"requireTemplateForIssuance": true});
        server.patch(&format!("{FLAT}/{}", server.issuing_ca), required).await.ok();
        issue(&server, "web").await;
        change(&server, "web", json!({"status": "disabled"})).await.ok();
        for what in ["issue-certificate", "sign-certificate"] {
            let refused = act(&server, "web", what, json!({"csr": named.pem(&key)})).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains("disabled"), "{refused}");
        }
        delete(&server, "web").await.ok();
        assert_eq!(record_of(&server, &answer).await["pkiSubscriberId"], made["id"]);
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn certificates_of_a_subscriber_are_renewed_by_themselves() {
    for_each_engine(|server| async move {
        let auto = json!({"ttl": "6d", "enableAutoRenewal": true, "autoRenewalPeriodInDays": 2});
        subscriber(&server, auto).await;
        let first = issue(&server, "web").await;
        let second = issue(&server, "web").await;
        let key = TestKey::generate();
        let csr = json!({"csr": Draft::named(&key, "www.example.com").pem(&key)});
        act(&server, "web", "sign-certificate", csr).await.ok();
        // Only the newest with a key is renewed.
        assert_eq!(record_of(&server, &first).await["renewBeforeDays"], Value::Null);
        assert_eq!(record_of(&server, &second).await["renewBeforeDays"], 2);
        server.at(3 * DAY);
        run_jobs(&server).await;
        assert_eq!(certificates(&server, "web").await.len(), 3);
        // The successor is as the subscriber says by now.
        change(&server, "web", json!({"ttl": "8d", "subjectAlternativeNames": ["a.example.com"]})).await.ok();
        server.at(5 * DAY);
        run_jobs(&server).await;
        let all = certificates(&server, "web").await;
        assert_eq!(all.len(), 4);
        let old = record_of(&server, &second).await;
        assert_eq!((&all[0]["renewedFromCertificateId"], &old["renewedByCertificateId"]), (&old["id"], &all[0]["id"]));
        assert_eq!(all[0]["altNames"], "a.example.com, www.example.com");
        assert_eq!(all[0]["notAfter"], server.time(13 * DAY));
        assert_eq!(all[0]["renewBeforeDays"], 2);
        assert_eq!(all[0]["hasPrivateKey"], true);
        // No more until the next is due, then one.
        server.at(10 * DAY);
        run_jobs(&server).await;
        assert_eq!(certificates(&server, "web").await.len(), 4);
        server.at(12 * DAY);
        run_jobs(&server).await;
        assert_eq!(certificates(&server, "web").await.len(), 5);
        // What the subscriber says of it holds for the certificate that it has.
        let plan = |all: Vec<Value>| all[0]["renewBeforeDays"].clone();
        change(&server, "web", json!({"autoRenewalPeriodInDays": 4})).await.ok();
        assert_eq!(plan(certificates(&server, "web").await), 4);
        change(&server, "web", json!({"status": "disabled"})).await.ok();
        assert_eq!(plan(certificates(&server, "web").await), Value::Null);
        change(&server, "web", json!({"status": "active"})).await.ok();
        assert_eq!(plan(certificates(&server, "web").await), 4);
        // A refusal is in the record, and does not end it.
        server.patch(&format!("{TYPED}/{}", server.issuing_ca), json!({"status": "disabled"})).await.ok();
        server.at(17 * DAY);
        run_jobs(&server).await;
        let all = certificates(&server, "web").await;
        assert_eq!(all.len(), 5);
        assert!(text(&all[0]["renewalError"]).contains("disabled"), "{}", all[0]);
        server.patch(&format!("{TYPED}/{}", server.issuing_ca), json!({"status": "active"})).await.ok();
        server.at(19 * DAY);
        run_jobs(&server).await;
        assert_eq!(certificates(&server, "web").await.len(), 6);
        // One that is deleted is given nothing more.
        delete(&server, "web").await.ok();
        server.at(24 * DAY);
        run_jobs(&server).await;
        let all = format!("/api/v1/projects/{}/certificates?limit=1", server.project);
        assert_eq!(server.get(&all).await.ok()["totalCount"], 6);
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn subscribers_are_for_who_may() {
    for_each_engine(|server| async move {
        subscriber(&server, json!({})).await;
        subscriber(&server, json!({"name": "hidden"})).await;
        issue(&server, "web").await;
        let project = server.project;
        let of = |name: &str, what: &str| format!("{SUBSCRIBERS}/{name}/{what}?projectId={project}");
        let all = format!("/api/v2/workspace/{project}/pki-subscribers");
        let member = server.by(&server.identity("no-access", Some("member")).await);
        member.get(&place(&server, "web")).await.ok();
        member.get(&all).await.ok();
        for answer in [
            member.post(SUBSCRIBERS, wanted(&server, json!({"name": "x"}))).await,
            change(&member, "web", json!({})).await,
            delete(&member, "web").await,
            act(&member, "web", "issue-certificate", json!({})).await,
            act(&member, "web", "order-certificate", json!({})).await,
            member.get(&of("web", "certificates")).await,
            // It sees the certificate, and is not given its key.
            member.get(&of("web", "latest-certificate-bundle")).await,
        ] {
            answer.refused(403, "PermissionDenied");
        }
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        viewer.get(&place(&server, "web")).await.refused(403, "PermissionDenied");
        viewer.get(&all).await.refused(403, "PermissionDenied");
        // A role for one subscriber.
        let conditions = json!({"name": {"$eq": "web"}});
        let rule = |action: &str| json!({"subject": "pki-subscribers", "action": action, "conditions": conditions});
        let rules = json!([rule("read"), rule("issue-cert"), rule("list-certs")]);
        let role = json!({"slug": "web", "name": "Web", "permissions": rules});
        server.post(&format!("/api/v1/projects/{project}/roles"), role).await.ok();
        let web = server.by(&server.identity("no-access", Some("web")).await);
        assert!(issue(&web, "web").await["privateKey"].is_string());
        web.get(&of("web", "certificates")).await.ok();
        assert_eq!(web.get(&all).await.ok()["subscribers"].as_array().unwrap().len(), 1);
        act(&web, "hidden", "issue-certificate", json!({})).await.refused(403, "PermissionDenied");
        web.get(&place(&server, "hidden")).await.refused(403, "PermissionDenied");
        // Another organisation knows neither the project nor, in its own, the subscriber.
        let other = server.other_organization().await;
        for named in [project, other.project] {
            let mut theirs = other.clone();
            theirs.project = named;
            for answer in [
                theirs.get(&place(&theirs, "web")).await,
                change(&theirs, "web", json!({})).await,
                delete(&theirs, "web").await,
                act(&theirs, "web", "issue-certificate", json!({})).await,
                act(&theirs, "web", "order-certificate", json!({})).await,
                theirs.get(&format!("{SUBSCRIBERS}/web/certificates?projectId={named}")).await,
                theirs.get(&format!("{SUBSCRIBERS}/web/latest-certificate-bundle?projectId={named}")).await,
                theirs.post(SUBSCRIBERS, wanted(&theirs, json!({}))).await,
            ] {
                answer.refused(404, "NotFound");
            }
        }
    });
}
