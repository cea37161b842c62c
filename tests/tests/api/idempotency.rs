//! `Idempotency-Key`: one certificate and one answer for a day, however often a request is sent.

use crate::csr::Draft;
use crate::issuing::{ISSUE, REQUEST, SIGN, certificate, count, issue, profile, wanted};
use crate::server::{Server, for_each_engine, for_each_engine_with_lives, text};
use domain::caller::{Actor, ActorKind, Caller, OrganizationRole};
use domain::issuance::{IssuanceRequest, Subject, Wishes};
use domain::policy::SubjectAttribute;
use domain::{ProfileId, Reason};
use serde_json::{Value, json};
use services::idempotency::Begun;
use services::issue::IssueOptions;
use std::collections::HashMap;
use std::sync::Arc;
use testkit::chains::TestKey;
use x509::{KeyAlgorithm, SignatureAlgorithm};

#[test]
fn the_same_key_and_body_get_the_same_answer() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let key = TestKey::generate();
        let csr = Draft::named(&key, "www.example.com").pem(&key);
        let attributes = json!({"ttl": "1d", "commonName": "www.example.com", "keyAlgorithm": "EC_prime256v1",
            "signatureAlgorithm": "ECDSA-SHA256"});
        for (path, body) in [
            (ISSUE, wanted(&open, json!({}))),
            (SIGN, json!({"profileId": open, "csr": csr, "ttl": "1d"})),
            (REQUEST, json!({"profileId": open, "attributes": attributes})),
        ] {
            let before = count(&server).await;
            let first = server.post_once("a", path, &body).await;
            let again = server.post_once("a", path, &body).await;
            assert_eq!((again.status, &again.raw), (200, &first.raw), "{path}");
            assert_eq!(again.headers.get("cache-control"), first.headers.get("cache-control"), "{path}");
            // What is dropped or filled in does not make it another request.
            let mut padded = body.clone();
            padded["unknown"] = json!(1);
            assert_eq!(server.post_once("a", path, &padded).await.raw, first.raw, "{path}");
            assert_eq!(count(&server).await, before + 1);
            let mut other = body.clone();
            other["removeRootsFromChain"] = json!(true);
            server.post_once("a", path, &other).await.refused(409, "Conflict");
            assert_ne!(server.post_once("b", path, &body).await.raw, first.raw);
            assert_eq!(count(&server).await, before + 2);
        }
    });
}

#[test]
fn a_key_is_one_to_255_printable_characters() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let body = wanted(&open, json!({}));
        for key in ["", &"k".repeat(256), "é"] {
            server.post_once(key, ISSUE, &body).await.refused(400, "BadRequest");
        }
        assert_eq!(count(&server).await, 0);
        server.post_once(&"k".repeat(255), ISSUE, &body).await.ok();
    });
}

#[test]
fn the_scope_of_a_key_is_the_caller_and_the_route() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let body = wanted(&open, json!({}));
        let first = server.post_once("k", ISSUE, &body).await;
        // The copy in the other family has another answer, and is another route.
        let copy = server.post_once("k", &format!("{REQUEST}/issue-certificate"), &body).await.ok();
        assert_eq!(copy["certificateRequestId"], copy["certificateId"]);
        let issuer = server.by(&server.identity("no-access", Some("issuer")).await);
        let of_issuer = issuer.post_once("k", ISSUE, &body).await;
        assert_ne!(of_issuer.raw, first.raw);
        assert_eq!(issuer.post_once("k", ISSUE, &body).await.raw, of_issuer.raw);
        let attributes = json!({"profileId": open, "attributes": {"ttl": "1d", "commonName": "a.example.com",
            "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256"}});
        server.post_once("k", REQUEST, &attributes).await.ok();
        assert_eq!(count(&server).await, 4);
        let other = server.other_organization().await;
        other.post_once("k", ISSUE, &body).await.refused(404, "NotFound");
    });
}

#[test]
fn a_refused_request_can_be_tried_again() {
    for_each_engine(|server| async move {
        let narrow = json!({"validity": {"max": "1h"}});
        let open = profile(&server, "open", narrow).await;
        let body = wanted(&open, json!({}));
        server.post_once("k", ISSUE, &body).await.refused(400, "BadRequest");
        // Nothing was done, so the key is free for another body too.
        server.post_once("k", ISSUE, &wanted(&open, json!({"ttl": "2h"}))).await.refused(400, "BadRequest");
        let policies = server.get("/api/v1/cert-manager/certificate-policies?search=open").await.ok();
        let policy = text(&policies["certificatePolicies"][0]["id"]);
        let path = format!("/api/v1/cert-manager/certificate-policies/{policy}");
        server.patch(&path, json!({"validity": {"max": "1d"}})).await.ok();
        let first = server.post_once("k", ISSUE, &body).await;
        assert_eq!(first.status, 200, "{}", first.body);
        // Once it was done, a policy that has become tighter changes nothing.
        server.patch(&path, json!({"validity": {"max": "1h"}})).await.ok();
        assert_eq!(server.post_once("k", ISSUE, &body).await.raw, first.raw);
        server.post_once("l", ISSUE, &body).await.refused(400, "BadRequest");
        assert_eq!(count(&server).await, 1);
    });
}

#[test]
fn the_private_key_is_given_again_only_while_it_may_be_read() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let attributes = json!({"profileId": open, "attributes": {"ttl": "1d", "commonName": "a.example.com",
            "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256"}});
        let issuer = server.by(&server.identity("no-access", Some("issuer")).await);
        let membership =
            format!("/api/v1/projects/{}/memberships/identities/{}", server.project, issuer.caller.identity);
        let rules = json!([{"subject": "certificate-profiles", "action": ["read", "issue-cert"]}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "no-key", "name": "No key", "permissions": rules})).await.ok();
        for (path, body) in [(ISSUE, wanted(&open, json!({}))), (REQUEST, attributes)] {
            let first = issuer.post_once("k", path, &body).await;
            assert!(first.raw.contains("PRIVATE KEY"));
            assert_eq!(issuer.post_once("k", path, &body).await.raw, first.raw);
            let audited = services::fsck::audit_records(&server.services.db, 1).await.unwrap().remove(0);
            assert_eq!(
                (audited.event.as_str(), audited.actor_id),
                ("private-key-read", Some(issuer.caller.identity.to_string()))
            );
            // Taken away: the same answer without the key.
            server.patch(&membership, json!({"roles": [{"role": "no-key"}]})).await.ok();
            let without = issuer.post_once("k", path, &body).await;
            let mut expected = first.body.clone();
            for inner in ["", "/certificate"] {
                if let Some(Value::Object(members)) = expected.pointer_mut(inner) {
                    members.remove("privateKey");
                }
            }
            assert_eq!((without.status, &without.body), (200, &expected));
            assert!(!without.raw.contains("PRIVATE KEY"));
            // Who could not ask for it now is given nothing.
            server.patch(&membership, json!({"roles": [{"role": "viewer"}]})).await.ok();
            issuer.post_once("k", path, &body).await.refused(403, "PermissionDenied");
            server.patch(&membership, json!({"roles": [{"role": "issuer"}]})).await.ok();
            assert_eq!(issuer.post_once("k", path, &body).await.raw, first.raw);
        }
        // A deleted certificate gives no key either.
        let body = wanted(&open, json!({}));
        let answer = server.post_once("k", ISSUE, &body).await.ok();
        server.delete(&format!("{REQUEST}/{}", text(&answer["certificateId"]))).await.ok();
        let again = server.post_once("k", ISSUE, &body).await;
        assert_eq!((&again.body["certificate"], again.body.get("privateKey")), (&answer["certificate"], None));
    });
}

#[test]
fn requests_at_the_same_time_make_one_certificate() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let body = wanted(&open, json!({}));
        let mut sent = Vec::new();
        for _ in 0..16 {
            let (server, body) = (server.clone(), body.clone());
            sent.push(tokio::spawn(async move { server.post_once("k", ISSUE, &body).await }));
        }
        let mut answers = Vec::new();
        for one in sent {
            let answer = one.await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
            answers.push(answer.raw);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1);
        assert_eq!(count(&server).await, 1);
        // The others are not held up by it.
        issue(&server, &open, json!({})).await.ok();
    });
}

#[test]
fn an_answer_outlives_a_restart_and_is_sealed() {
    for_each_engine_with_lives(|lives| async move {
        let (running, server) = lives.begin(None).await;
        let open = profile(&server, "open", json!({})).await;
        let body = wanted(&open, json!({}));
        let first = server.post_once("k", ISSUE, &body).await;
        assert_eq!(first.status, 200);
        let kept = server.services.db.row("SELECT sealed FROM idempotency_keys", vec![]).await.unwrap().unwrap();
        let kept = kept.blob(0).unwrap().to_vec();
        for secret in ["PRIVATE KEY", "BEGIN CERTIFICATE", "serialNumber"] {
            assert!(!kept.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
        }
        let admin = server.caller.clone();
        drop(server);
        running.stop().await;
        let (running, server) = lives.begin(Some(&admin)).await;
        assert_eq!(server.post_once("k", ISSUE, &body).await.raw, first.raw);
        let other = wanted(&open, json!({"ttl": "2d"}));
        server.post_once("k", ISSUE, &other).await.refused(409, "Conflict");
        assert_eq!(count(&server).await, 1);
        drop(server);
        running.stop().await;
    });
}

#[test]
fn an_answer_is_kept_for_a_day() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let body = wanted(&open, json!({}));
        let first = server.post_once("k", ISSUE, &body).await;
        server.at(24 * 3600);
        assert_eq!(server.post_once("k", ISSUE, &body).await.raw, first.raw);
        server.services.prune_idempotency_keys().await.unwrap();
        assert_eq!(server.post_once("k", ISSUE, &body).await.raw, first.raw);
        server.at(24 * 3600 + 1);
        let second = server.post_once("k", ISSUE, &wanted(&open, json!({"ttl": "2d"}))).await;
        assert_eq!(second.status, 200, "{}", second.body);
        assert_ne!(second.raw, first.raw);
        server.at(50 * 3600);
        server.services.prune_idempotency_keys().await.unwrap();
        let left = server.services.db.row("SELECT COUNT(*) FROM idempotency_keys", vec![]).await.unwrap().unwrap();
        assert_eq!(left.int(0).unwrap(), 0);
        assert_eq!(count(&server).await, 2);
    });
}

/// The caller of the test as the use cases see it.
pub fn caller(server: &Server) -> Caller {
    let rules = HashMap::from([(server.project, Arc::from(domain::role::BuiltInRole::Admin.rules()))]);
    Caller {
        actor: Actor {
            kind: ActorKind::Identity,
            id: Some(server.caller.identity.0),
            method: "universal-auth",
            credential: None,
            address: None,
        },
        organization: server.organization,
        organization_role: OrganizationRole::Admin,
        default_project: Some(server.project),
        projects: Arc::new(rules),
        applications: Arc::default(),
    }
}

/// A request that is in order.
pub fn request() -> IssuanceRequest {
    let subject = Subject::Fields {
        attributes: vec![(SubjectAttribute::CommonName, "www.example.com".into())],
        alt_names: Vec::new(),
        key_algorithm: Some(KeyAlgorithm::EcP256),
    };
    let signature_algorithm = Some(SignatureAlgorithm::EcdsaSha256);
    IssuanceRequest {
        subject,
        wishes: Wishes { ttl_millis: Some(86_400_000), signature_algorithm, ..Wishes::default() },
    }
}

#[test]
fn a_request_that_died_after_its_certificate_was_made_is_answered_with_that_certificate() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let body = wanted(&open, json!({}));
        // The body as the edge gives it on: clean, its members in order.
        let clean = body.to_string();
        let (services, caller) = (&server.services, caller(&server));
        let Begun::Run(slot) = services.begin(&caller, ISSUE, "k", clean.as_bytes()).await.unwrap() else {
            panic!("the key is new");
        };
        let options = IssueOptions { idempotency: Some(slot.mark()), ..IssueOptions::default() };
        let profile = ProfileId::parse(&open).unwrap();
        let issued = services.issue(&caller, profile, request(), options).await.unwrap();
        // Here the process dies: the certificate is recorded, the answer is not.
        drop(slot);
        server.at(120);
        let answer = server.post_once("k", ISSUE, &body).await.ok();
        assert_eq!(certificate(&answer).as_der(), issued.certificate.as_der());
        assert_eq!(answer["certificateId"], issued.id.to_string());
        assert!(text(&answer["privateKey"]).contains("PRIVATE KEY"));
        assert_eq!(server.post_once("k", ISSUE, &body).await.ok(), answer);
        assert_eq!(count(&server).await, 1);
    });
}

#[test]
fn a_request_that_died_before_it_made_anything_is_done_anew() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let body = wanted(&open, json!({}));
        let (services, caller) = (&server.services, caller(&server));
        let begun = services.begin(&caller, ISSUE, "k", body.to_string().as_bytes()).await.unwrap();
        let Begun::Run(slot) = begun else { panic!("the key is new") };
        let late = slot.mark();
        drop(slot);
        server.at(120);
        server.post_once("k", ISSUE, &body).await.ok();
        // Should the first live after all, its certificate is not made.
        let options = IssueOptions { idempotency: Some(late), ..IssueOptions::default() };
        let refused = services.issue(&caller, ProfileId::parse(&open).unwrap(), request(), options).await;
        assert_eq!(refused.map(|_| ()).unwrap_err().reason(), Some(Reason::Conflict));
        assert_eq!(count(&server).await, 1);
    });
}
