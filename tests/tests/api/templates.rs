//! Templates of the first family (contract §5.1, 3.14, 6.8): made, changed, and issued from.

use crate::authorities::{DAY, FLAT, TYPED, UNKNOWN, authority, first_root};
use crate::csr::Draft;
use crate::direct::{ISSUE, SIGN, findings, openssl_verifies, record_of};
use crate::issuing::{certificate, merge, names};
use crate::server::{Answer, Server, for_each_engine, members, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;
use x509::{AttributeType, ExtendedKeyUsage, KeyUsage, KeyUsages};

pub const TEMPLATES: &str = "/api/v1/pki/certificate-templates";

const MEMBERS: [&str; 11] = [
    "caId",
    "caName",
    "commonName",
    "extendedKeyUsages",
    "id",
    "keyUsages",
    "name",
    "pkiCollectionId",
    "projectId",
    "subjectAlternativeName",
    "ttl",
];

fn wanted(server: &Server, changes: Value) -> Value {
    let mut body = json!({"caId": server.issuing_ca, "name": "web", "commonName": ".*\\.example\\.com",
        "subjectAlternativeName": ".*\\.example\\.com", "ttl": "90d"});
    merge(&mut body, changes);
    body
}

/// A template of the issuing authority that is in order but for some changes: its id.
pub async fn template(server: &Server, changes: Value) -> String {
    text(&server.post(TEMPLATES, wanted(server, changes)).await.ok()["id"])
}

async fn issue(server: &Server, template: &str, changes: Value) -> Answer {
    let mut body = json!({"certificateTemplateId": template, "commonName": "www.example.com", "ttl": "1d"});
    merge(&mut body, changes);
    server.post(ISSUE, body).await
}

#[test]
fn a_template_is_made_shown_changed_and_deleted() {
    for_each_engine(|server| async move {
        let made = server.post(TEMPLATES, wanted(&server, json!({"name": " Web "}))).await.ok();
        assert_eq!(members(&made), MEMBERS);
        let expected = json!({
            "id": made["id"], "caId": server.issuing_ca, "caName": made["caName"], "name": "web",
            "commonName": ".*\\.example\\.com", "subjectAlternativeName": ".*\\.example\\.com", "ttl": "90d",
            "keyUsages": ["digitalSignature", "keyEncipherment"], "extendedKeyUsages": [], "pkiCollectionId": null,
            "projectId": server.project,
        });
        assert_eq!(made, expected);
        let ca = server.get(&format!("{TYPED}/{}", server.issuing_ca)).await.ok();
        assert_eq!(made["caName"], ca["name"]);
        let path = format!("{TEMPLATES}/{}", text(&made["id"]));
        assert_eq!(server.get(&path).await.ok(), made);
        assert_eq!(server.patch(&path, json!({})).await.ok(), made);
        let root = first_root(&server).await;
        let change = json!({"caId": root, "name": "all", "commonName": ".*", "subjectAlternativeName": ".*", "ttl": "1y",
            "keyUsages": [], "extendedKeyUsages": ["clientAuth"]});
        let changed = server.patch(&path, change.clone()).await.ok();
        for (member, value) in change.as_object().unwrap() {
            assert_eq!(&changed[member], value, "{member}");
        }
        assert_eq!(changed["caName"], "root-ca");
        // Lists: of the project and of an authority.
        server.at(1);
        let other = template(&server, json!({"name": "other"})).await;
        let all = format!("/api/v2/workspace/{}/certificate-templates", server.project);
        let ids = |shown: Value| -> Vec<String> {
            assert_eq!(members(&shown), ["certificateTemplates"]);
            shown["certificateTemplates"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
        };
        assert_eq!(ids(server.get(&all).await.ok()), [text(&made["id"]), other.clone()]);
        let of = |ca: &str| format!("{FLAT}/{ca}/certificate-templates");
        assert_eq!(ids(server.get(&of(&root)).await.ok()), [text(&made["id"])]);
        assert_eq!(ids(server.get(&of(&server.issuing_ca)).await.ok()), [other.as_str()]);
        // An authority that a template uses is not deleted.
        let lonely = authority(&server, "root", "lonely").await;
        let last = template(&server, json!({"caId": lonely, "name": "last"})).await;
        let refused = server.delete(&format!("{FLAT}/{lonely}")).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("1 templates"), "{refused}");
        assert_eq!(text(&server.delete(&format!("{TEMPLATES}/{last}")).await.ok()["id"]), last);
        server.delete(&format!("{FLAT}/{lonely}")).await.ok();
        assert_eq!(server.delete(&path).await.ok(), changed);
        server.get(&path).await.refused(404, "NotFound");
        assert_eq!(ids(server.get(&all).await.ok()), [other]);
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn a_template_that_means_nothing_is_refused() {
    for_each_engine(|server| async move {
        let missing = ["caId", "name", "commonName", "subjectAlternativeName", "ttl"];
        assert_eq!(server.post(TEMPLATES, json!({})).await.issues(), missing);
        for (changes, issue) in [
            (json!({"name": "not a slug"}), "name"),
            (json!({"name": ""}), "name"),
            (json!({"commonName": "(a*)*"}), "commonName"),
            (json!({"commonName": "a**"}), "commonName"),
            (json!({"commonName": "*.example.com"}), "commonName"),
            (json!({"commonName": "a\\"}), "commonName"),
            (json!({"subjectAlternativeName": "\\bwww"}), "subjectAlternativeName"),
            (json!({"subjectAlternativeName": "a".repeat(101)}), "subjectAlternativeName"),
            (json!({"subjectAlternativeName": "a_b"}), "subjectAlternativeName"),
            (json!({"ttl": "soon"}), "ttl"),
            (json!({"keyUsages": ["digital_signature"]}), "keyUsages.0"),
            (json!({"extendedKeyUsages": ["any"]}), "extendedKeyUsages.0"),
        ] {
            let answer = server.post(TEMPLATES, wanted(&server, changes.clone())).await;
            let issues = answer.issues();
            assert!(issues.iter().all(|one| one == issue) && !issues.is_empty(), "{changes}: {issues:?}");
        }
        for changes in [json!({"caId": UNKNOWN}), json!({"caId": "no-uuid"}), json!({"pkiCollectionId": UNKNOWN})] {
            server.post(TEMPLATES, wanted(&server, changes)).await.refused(404, "NotFound");
        }
        let id = template(&server, json!({})).await;
        let path = format!("{TEMPLATES}/{id}");
        assert_eq!(server.patch(&path, json!({"commonName": "*"})).await.issues(), ["commonName"]);
        // An authority of another project.
        let second = json!({"projectName": "Second", "slug": "second", "type": "cert-manager"});
        let second = text(&server.post("/api/v2/workspace", second).await.ok()["project"]["id"]);
        let body = json!({"name": "theirs", "projectId": second, "configuration":
            {"type": "root", "commonName": "theirs", "keyAlgorithm": "EC_prime256v1"}});
        let theirs = text(&server.post(TYPED, body).await.ok()["id"]);
        server.patch(&path, json!({"caId": theirs})).await.refused(400, "BadRequest");
        server.patch(&path, json!({"caId": UNKNOWN})).await.refused(404, "NotFound");
        for id in [UNKNOWN, "no-uuid"] {
            server.get(&format!("{TEMPLATES}/{id}")).await.refused(404, "NotFound");
        }
        let of_unknown = format!("/api/v2/workspace/{UNKNOWN}/certificate-templates");
        server.get(&of_unknown).await.refused(404, "NotFound");
    });
}

#[test]
fn a_template_narrows_what_is_issued_from_it() {
    for_each_engine(|server| async move {
        let web = template(&server, json!({"extendedKeyUsages": ["serverAuth"]})).await;
        let answer = issue(&server, &web, json!({"altNames": "a.example.com, b.example.com"})).await.ok();
        openssl_verifies(&answer);
        let issued = certificate(&answer);
        // What is not asked for is the template's.
        let extensions = issued.extensions();
        assert_eq!(extensions.key_usages(), Ok(Some(KeyUsages::of(&[KeyUsage::DigitalSignature]))));
        assert_eq!(extensions.extended_key_usages(), Ok(Some(vec![ExtendedKeyUsage::ServerAuth])));
        assert_eq!(names(&issued), ["DNS name a.example.com", "DNS name b.example.com", "DNS name www.example.com"]);
        let record = record_of(&server, &answer).await;
        assert_eq!((&record["certificateTemplateId"], &record["profileId"]), (&json!(web), &Value::Null));
        for (changes, says) in [
            (json!({"commonName": "www.example.org", "altNames": ""}), "common name"),
            (json!({"altNames": "www.example.org"}), "alternative name"),
            (json!({"altNames": "192.0.2.7"}), "alternative name"),
            (json!({"ttl": "91d"}), "longer than 90 days"),
            (json!({"ttl": null, "notAfter": server.time(91 * DAY)}), "longer than 90 days"),
            (json!({"keyUsages": ["digitalSignature", "nonRepudiation"]}), "non_repudiation"),
            (json!({"extendedKeyUsages": ["clientAuth"]}), "client_auth"),
        ] {
            let refused = issue(&server, &web, changes.clone()).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(says), "{says}: {changes} {refused}");
        }
        issue(&server, &web, json!({"ttl": "90d", "keyUsages": ["digitalSignature"]})).await.ok();
        let none = certificate(&issue(&server, &web, json!({"extendedKeyUsages": []})).await.ok());
        assert_eq!(none.extensions().extended_key_usages(), Ok(None));

        // CSRs: what they ask for lies within the template, and what they do not ask for is the template's.
        let key = TestKey::generate();
        let named = Draft::named(&key, "www.example.com").with_hosts(&["www.example.com"]);
        for (draft, status) in [
            (named.clone(), 200),
            (named.clone().with_usages(&[KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment]), 200),
            (named.clone().with_usages(&[KeyUsage::DigitalSignature, KeyUsage::KeyAgreement]), 400),
            (named.clone().with_purposes(&[ExtendedKeyUsage::ServerAuth]), 200),
            (named.clone().with_purposes(&[ExtendedKeyUsage::ClientAuth]), 400),
            (Draft::new(&key, &[]).with_hosts(&["www.example.com"]), 400),
            (Draft::named(&key, "www.example.com").with_hosts(&["www.example.org"]), 400),
            (Draft::new(&key, &[(AttributeType::CommonName, "www.example.org")]), 400),
        ] {
            let body = json!({"certificateTemplateId": web, "csr": draft.pem(&key), "ttl": "1d"});
            let answer = server.post(SIGN, body).await;
            assert_eq!(answer.status, status, "{}", answer.body);
            if status == 200 {
                let signed = certificate(&answer.ok());
                let purposes = signed.extensions().extended_key_usages();
                assert_eq!(purposes, Ok(Some(vec![ExtendedKeyUsage::ServerAuth])));
            }
        }
        // An authority that issues by templates only does so.
        let required = json!({"requireTemplateForIssuance": true});
        server.patch(&format!("{FLAT}/{}", server.issuing_ca), required).await.ok();
        issue(&server, &web, json!({})).await.ok();
        // The template of today judges, and certificates outlive it.
        server.patch(&format!("{TEMPLATES}/{web}"), json!({"commonName": "mail.*"})).await.ok();
        issue(&server, &web, json!({})).await.refused(400, "BadRequest");
        server.delete(&format!("{TEMPLATES}/{web}")).await.ok();
        issue(&server, &web, json!({})).await.refused(404, "NotFound");
        assert_eq!(record_of(&server, &answer).await["certificateTemplateId"], web);
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn templates_are_for_who_may() {
    for_each_engine(|server| async move {
        let id = template(&server, json!({})).await;
        let path = format!("{TEMPLATES}/{id}");
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        viewer.get(&path).await.ok();
        viewer.post(TEMPLATES, wanted(&server, json!({}))).await.refused(403, "PermissionDenied");
        viewer.patch(&path, json!({})).await.refused(403, "PermissionDenied");
        viewer.delete(&path).await.refused(403, "PermissionDenied");
        issue(&viewer, &id, json!({})).await.refused(403, "PermissionDenied");
        let nobody = server.by(&server.identity("no-access", Some("no-access")).await);
        nobody.get(&path).await.refused(403, "PermissionDenied");
        let all = format!("/api/v2/workspace/{}/certificate-templates", server.project);
        nobody.get(&all).await.refused(403, "PermissionDenied");
        let stranger = server.by(&server.identity("no-access", None).await);
        stranger.get(&path).await.refused(403, "ProjectMembershipNotFound");
        // A role for one template issues from that one, and sees no other.
        let hidden = template(&server, json!({"name": "hidden"})).await;
        let conditions = json!({"name": {"$eq": "web"}});
        let rules = json!([
            {"subject": "certificate-templates", "action": "issue-cert", "conditions": conditions},
            {"subject": "certificate-templates", "action": "read", "conditions": conditions},
        ]);
        let role = json!({"slug": "web", "name": "Web", "permissions": rules});
        server.post(&format!("/api/v1/projects/{}/roles", server.project), role).await.ok();
        let web = server.by(&server.identity("no-access", Some("web")).await);
        issue(&web, &id, json!({})).await.ok();
        issue(&web, &hidden, json!({})).await.refused(403, "PermissionDenied");
        let direct = json!({"caId": server.issuing_ca, "commonName": "www.example.com", "ttl": "1d"});
        web.post(ISSUE, direct).await.refused(403, "PermissionDenied");
        for path in [all, format!("{FLAT}/{}/certificate-templates", server.issuing_ca)] {
            let seen = web.get(&path).await.ok();
            assert_eq!(seen["certificateTemplates"].as_array().unwrap().len(), 1, "{path}");
        }
        // Another organisation knows nothing of it.
        let other = server.other_organization().await;
        for answer in [
            other.get(&path).await,
            other.patch(&path, json!({})).await,
            other.delete(&path).await,
            issue(&other, &id, json!({})).await,
            other.post(TEMPLATES, wanted(&server, json!({}))).await,
            other.get(&format!("{FLAT}/{}/certificate-templates", server.issuing_ca)).await,
        ] {
            answer.refused(404, "NotFound");
        }
    });
}
