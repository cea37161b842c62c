//! Certificates that are withdrawn: in the record, in the list, at once and for good (contract §6.7; invariants D3–D5, D10).

use crate::authorities::{DAY, FLAT, TYPED, authority, certificate_of, intermediate, list_of};
use crate::csr::Draft;
use crate::issuing::{REQUEST, SIGN, certificate, issue, profile, profile_with};
use crate::renewal::{run_jobs, run_jobs_with};
use crate::server::{Answer, Server, for_each_engine, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;
use x509::{AttributeType, Crl, RevocationReason};

const BY_SERIAL: &str = "/api/v1/pki/certificates";

async fn revoke(server: &Server, certificate: &str, reason: &str) -> Answer {
    server.post(&format!("{certificate}/revoke"), json!({"revocationReason": reason})).await
}

/// The list of the issuing authority, signed now.
async fn published(server: &Server) -> Crl {
    let path = format!("{TYPED}/{}/crls/publish", server.issuing_ca);
    let lists = server.post(&path, json!({})).await.ok();
    let list = Crl::from_pem(&text(&lists[0]["crl"])).unwrap();
    let issuer = certificate_of(server, &server.issuing_ca).await;
    assert!(list.verify_signature(&issuer.public_key().unwrap()));
    list
}

/// What a list says of a serial number: the code of the reason, if it names it.
fn named(list: &Crl, serial: &str) -> Option<u8> {
    let serial = x509::SerialNumber::from_hex(serial).unwrap().integer_content();
    list.find(&serial).map(|entry| entry.reason_code.unwrap_or(0))
}

/// The serial number of a new certificate, and its places under it and under its id.
async fn issued(server: &Server, profile: &str) -> (String, [String; 2]) {
    let answer = issue(server, profile, json!({})).await.ok();
    let serial = text(&answer["serialNumber"]);
    let places = [format!("{BY_SERIAL}/{serial}"), format!("{REQUEST}/{}", text(&answer["certificateId"]))];
    (serial, places)
}

#[test]
fn every_reason_revokes_and_is_shown_in_the_record_and_in_the_list() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let before = published(&server).await;
        let mut revoked = Vec::new();
        for (at, reason) in RevocationReason::ALL.into_iter().enumerate() {
            let (serial, places) = issued(&server, &open).await;
            let place = &places[at % 2];
            server.at(i64::try_from(at).unwrap());
            let answer = revoke(&server, place, reason.as_str()).await.ok();
            let at = server.time(i64::try_from(at).unwrap());
            assert_eq!((&answer["serialNumber"], &answer["revokedAt"]), (&json!(serial), &json!(at)));
            assert!(answer["message"].is_string());
            for place in &places {
                let record = server.get(place).await.ok()["certificate"].take();
                assert_eq!(
                    (&record["status"], &record["revokedAt"], &record["revocationReason"]),
                    (&json!("revoked"), &json!(at), &json!(reason.code())),
                    "{place}"
                );
            }
            revoked.push((serial, reason.code()));
        }
        let list = published(&server).await;
        assert_eq!(list.entries().count(), revoked.len());
        for (serial, code) in revoked {
            assert_eq!(named(&list, &serial), Some(code));
        }
        assert!(list.number().unwrap() > before.number().unwrap());
        let other = issued(&server, &open).await.0;
        assert_eq!(named(&published(&server).await, &other), None);
    });
}

#[test]
fn a_revocation_is_final_but_for_a_hold_and_a_compromised_key() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (serial, [place, _]) = issued(&server, &open).await;
        server.post(&format!("{place}/release"), json!({})).await.refused(400, "BadRequest");
        revoke(&server, &place, "CERTIFICATE_HOLD").await.ok();
        assert_eq!(named(&published(&server).await, &serial), Some(6));
        let refused = revoke(&server, &place, "CERTIFICATE_HOLD").await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("CERTIFICATE_HOLD already"), "{refused}");

        let released = server.post(&format!("{place}/release"), json!({})).await.ok();
        assert_eq!(released["serialNumber"], json!(serial));
        let record = server.get(&place).await.ok()["certificate"].take();
        assert_eq!(
            (&record["status"], &record["revokedAt"], &record["revocationReason"]),
            (&json!("active"), &json!(null), &json!(null))
        );
        assert_eq!(named(&published(&server).await, &serial), None);
        server.post(&format!("{place}/release"), json!({})).await.refused(400, "BadRequest");

        // On hold once more, and then for good.
        revoke(&server, &place, "CERTIFICATE_HOLD").await.ok();
        revoke(&server, &place, "SUPERSEDED").await.ok();
        server.post(&format!("{place}/release"), json!({})).await.refused(400, "BadRequest");
        revoke(&server, &place, "CESSATION_OF_OPERATION").await.refused(400, "BadRequest");
        assert_eq!(named(&published(&server).await, &serial), Some(4));
        revoke(&server, &place, "KEY_COMPROMISE").await.ok();
        assert_eq!(named(&published(&server).await, &serial), Some(1));
        revoke(&server, &place, "SUPERSEDED").await.refused(400, "BadRequest");
        assert_eq!(revoke(&server, &place, "REMOVE_FROM_CRL").await.issues(), ["revocationReason"]);
    });
}

#[test]
fn a_compromised_key_gets_no_certificate_any_more() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let key = TestKey::generate();
        let csr = |key: &TestKey, name: &str| Draft::new(key, &[(AttributeType::CommonName, name)]).pem(key);
        let sign = |csr: String| {
            let (server, open) = (server.clone(), open.clone());
            async move { server.post(SIGN, json!({"profileId": open, "csr": csr, "ttl": "1d"})).await }
        };
        let signed = sign(csr(&key, "a.example.com")).await.ok();
        sign(csr(&key, "b.example.com")).await.ok();
        let place = format!("{BY_SERIAL}/{}", text(&signed["serialNumber"]));
        revoke(&server, &place, "SUPERSEDED").await.ok();
        sign(csr(&key, "c.example.com")).await.ok();
        revoke(&server, &place, "KEY_COMPROMISE").await.ok();
        let refused = sign(csr(&key, "d.example.com")).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("KEY_COMPROMISE"), "{refused}");
        // Another key is as good as before.
        sign(csr(&TestKey::generate(), "e.example.com")).await.ok();
    });
}

#[test]
fn whatever_is_deleted_a_revoked_certificate_stays_on_the_list_until_one_list_after_its_end() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (serial, [place, _]) = issued(&server, &open).await;
        revoke(&server, &place, "KEY_COMPROMISE").await.ok();
        server.delete(&place).await.ok();
        revoke(&server, &place, "SUPERSEDED").await.refused(404, "NotFound");
        assert_eq!(named(&published(&server).await, &serial), Some(1));
        let path = format!("/api/v1/pki/certificate-profiles/{open}");
        server.delete(&path).await.ok();
        assert_eq!(named(&published(&server).await, &serial), Some(1));
        // Nothing is planned any more that would sign a list in between.
        server.at(1);
        run_jobs(&server).await;
        // It lives a day. The first list after its end names it once more.
        server.at(DAY + 10);
        assert_eq!(named(&published(&server).await, &serial), Some(1));
        server.at(DAY + 20);
        assert_eq!(named(&published(&server).await, &serial), None);
    });
}

#[test]
fn a_list_that_lost_a_revocation_is_not_published() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (serial, [place, _]) = issued(&server, &open).await;
        revoke(&server, &place, "UNSPECIFIED").await.ok();
        let good = published(&server).await;
        let lose = store::Statement::new("DELETE FROM revocations", vec![]);
        server.services.db.commit(store::Changes::new().statement(lose)).await.unwrap();
        let path = format!("{TYPED}/{}/crls/publish", server.issuing_ca);
        let refused = server.post(&path, json!({})).await.refused(503, "ServiceUnavailable");
        assert!(text(&refused["message"]).contains(&format!("would lack the serial number {serial}")), "{refused}");
        let (_, list) = list_of(&server, &server.issuing_ca).await;
        assert_eq!((list.as_der(), named(&list, &serial)), (good.as_der(), Some(0)));
    });
}

#[test]
fn an_authority_is_revoked_by_its_parent_and_issues_nothing_more() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let below = intermediate(&server, "below", &root, 0).await;
        let policy = crate::issuing::policy(&server, crate::issuing::open_policy("any")).await;
        let profile = profile_with(&server, "below", Some(&below), &policy, json!({"apiConfig": {}})).await;
        let leaf = issue(&server, &profile, json!({})).await.ok();
        let serial = text(&server.get(&format!("{FLAT}/{below}/certificate")).await.ok()["serialNumber"]);
        let path = format!("{TYPED}/{root}/revoke-intermediate");
        let body = |serial: &str| json!({"serialNumber": serial, "revocationReason": "CA_COMPROMISE"});
        server.post(&path, body(&text(&leaf["serialNumber"]))).await.refused(404, "NotFound");
        server.post(&path, body("00")).await.refused(404, "NotFound");
        let reader = server.by(&server.identity("no-access", Some("member")).await);
        reader.post(&path, body(&serial)).await.refused(403, "PermissionDenied");
        // Whoever may revoke and delete certificates may not do it to those of authorities.
        let place = format!("{BY_SERIAL}/{serial}");
        revoke(&reader, &place, "SUPERSEDED").await.refused(403, "PermissionDenied");
        reader.delete(&place).await.refused(403, "ForbiddenError");
        server.delete(&place).await.refused(403, "ForbiddenError");
        let revoked = server.post(&path, body(&serial)).await.ok();
        assert_eq!((&revoked["serialNumber"], &revoked["revokedAt"]), (&json!(serial), &json!(server.time(0))));
        server.post(&path, body(&serial)).await.refused(400, "BadRequest");
        assert_eq!(server.get(&format!("{FLAT}/{below}")).await.ok()["ca"]["status"], "disabled");
        let refused = issue(&server, &profile, json!({})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("disabled"), "{refused}");
        let lists = server.post(&format!("{TYPED}/{root}/crls/publish"), json!({})).await.ok();
        let list = Crl::from_pem(&text(&lists[0]["crl"])).unwrap();
        assert_eq!(named(&list, &serial), Some(2));
    });
}

#[test]
fn an_authority_whose_certificate_or_key_is_withdrawn_is_not_put_to_work_again() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        for (name, is_prolonged) in [("once", false), ("twice", true)] {
            let below = intermediate(&server, name, &root, 0).await;
            let first = certificate_of(&server, &below).await;
            if is_prolonged {
                let body = json!({"type": "existing", "notAfter": server.time(400 * DAY)});
                server.post(&format!("{FLAT}/{below}/renew"), body).await.ok();
            }
            // As OpenSSL shows it.
            let octets: Vec<String> = first.serial_content().iter().map(|octet| format!("{octet:02X}")).collect();
            let body = json!({"serialNumber": octets.join(":"), "revocationReason": "KEY_COMPROMISE"});
            server.post(&format!("{TYPED}/{root}/revoke-intermediate"), body).await.ok();
            assert_eq!(server.get(&format!("{TYPED}/{below}")).await.ok()["status"], "disabled", "{name}");
            // The certificate that took its place is not revoked, but its key is the same.
            let answer = server.patch(&format!("{TYPED}/{below}"), json!({"status": "active"})).await;
            assert!(text(&answer.refused(400, "BadRequest")["message"]).contains("revoked"));
            // It goes on with another key alone.
            let renewal = |kind: &str| json!({"type": kind, "notAfter": server.time(500 * DAY)});
            let path = format!("{FLAT}/{below}/renew");
            server.post(&path, renewal("existing")).await.refused(400, "BadRequest");
            server.post(&path, renewal("new-key")).await.ok();
            assert_ne!(certificate_of(&server, &below).await.spki_der(), first.spki_der());
            server.patch(&format!("{TYPED}/{below}"), json!({"status": "active"})).await.ok();
        }
    });
}

#[test]
fn who_may_not_delete_certificates_may_not_revoke_them_and_a_self_signed_one_cannot_be() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (_, places) = issued(&server, &open).await;
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        for place in &places {
            revoke(&viewer, place, "UNSPECIFIED").await.refused(403, "PermissionDenied");
            viewer.post(&format!("{place}/release"), json!({})).await.refused(403, "PermissionDenied");
        }
        let policy = crate::issuing::policy(&server, crate::issuing::open_policy("alone")).await;
        let alone = profile_with(&server, "alone", None, &policy, json!({"apiConfig": {}})).await;
        let (_, [place, _]) = issued(&server, &alone).await;
        revoke(&server, &place, "UNSPECIFIED").await.refused(400, "BadRequest");
        revoke(&server, &format!("{BY_SERIAL}/0123"), "UNSPECIFIED").await.refused(404, "NotFound");
    });
}

#[test]
fn a_list_is_cached_by_its_tag() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (id, _) = list_of(&server, &server.issuing_ca).await;
        let url = format!("{}/api/v1/pki/crl/{id}/der", server.url);
        let client = reqwest::Client::new();
        let first = client.get(&url).send().await.unwrap();
        let header = |response: &reqwest::Response, name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        assert_eq!(header(&first, "cache-control"), "public, max-age=60");
        let (tag, modified) = (header(&first, "etag"), header(&first, "last-modified"));
        assert!(tag.starts_with('"') && modified.ends_with(" GMT"), "{tag} {modified}");
        let known = client.get(&url).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!((known.status().as_u16(), header(&known, "etag")), (304, tag.clone()));
        assert!(known.bytes().await.unwrap().is_empty());
        let (_, [place, _]) = issued(&server, &open).await;
        revoke(&server, &place, "UNSPECIFIED").await.ok();
        published(&server).await;
        // The new list may be of the same second as the old one.
        for (name, value) in [("if-none-match", &tag), ("if-modified-since", &modified)] {
            let changed = client.get(&url).header(name, value).send().await.unwrap();
            assert_eq!(changed.status().as_u16(), 200, "{name}");
            assert_ne!(header(&changed, "etag"), tag);
        }
    });
}

#[test]
fn jobs_are_seen_and_run_again_by_operators_alone() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (serial, [place, _]) = issued(&server, &open).await;
        revoke(&server, &place, "UNSPECIFIED").await.ok();
        let listed = server.get("/api/v1/jobs?status=queued").await.ok();
        let job = listed["jobs"].as_array().unwrap().iter().find(|job| job["kind"] == "publish-crl").unwrap().clone();
        let list = list_of(&server, &server.issuing_ca).await.0;
        assert_eq!(
            (&job["about"], &job["attempts"], &job["lastError"]),
            (&json!({"crl": list}), &json!(0), &Value::Null)
        );
        let path = format!("/api/v1/jobs/{}", text(&job["id"]));
        assert_eq!(server.get(&path).await.ok()["job"], job);
        assert_eq!(server.get("/api/v1/jobs?status=parked").await.ok(), json!({"jobs": [], "totalCount": 0}));
        assert_eq!(server.get("/api/v1/jobs?status=done").await.issues(), ["status"]);
        for stranger in [server.by(&server.identity("member", Some("admin")).await), server.other_organization().await]
        {
            stranger.get("/api/v1/jobs").await.refused(403, "PermissionDenied");
            stranger.post(&format!("{path}/retry"), json!({})).await.refused(403, "PermissionDenied");
        }
        // Its time comes when the clock moves on, and then it is gone.
        server.at(1);
        for _ in 0..100 {
            if named(&list_of(&server, &server.issuing_ca).await.1, &serial).is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(named(&list_of(&server, &server.issuing_ca).await.1, &serial), Some(0));
    });
}

#[test]
fn a_key_of_many_certificates_has_several_lists_each_for_its_own() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let mut revoked: Vec<(String, String)> = Vec::new();
        for round in 0..3 {
            for _ in 0..3 {
                let answer = issue(&server, &open, json!({})).await.ok();
                let points = certificate(&answer).extensions().crl_distribution_points().unwrap().unwrap();
                let url = points.urls().next().unwrap().as_str().to_owned();
                let place = format!("{REQUEST}/{}", text(&answer["certificateId"]));
                revoke(&server, &place, "SUPERSEDED").await.ok();
                revoked.push((text(&answer["serialNumber"]), url));
            }
            assert_eq!(revoked.iter().map(|(_, url)| url).collect::<std::collections::BTreeSet<_>>().len(), round + 1);
            run_jobs_with(&server, 3).await;
        }
        let path = format!("{TYPED}/{}/crls/publish", server.issuing_ca);
        let lists = server.post(&path, json!({})).await.ok();
        assert_eq!(lists.as_array().map(Vec::len), Some(4), "{lists}");
        // Each list is for those that name it: a critical extension says so, and it names no others.
        for (serial, url) in &revoked {
            for list in lists.as_array().unwrap() {
                let list = Crl::from_pem(&text(&list["crl"])).unwrap();
                let scope = list.issuing_distribution_point().unwrap().expect("one of several");
                let is_its_own = scope.urls().any(|place| place.as_str() == url);
                assert_eq!(named(&list, serial).is_some(), is_its_own, "{url}");
            }
            let (status, _, der) = server.fetch(url).await;
            assert_eq!(status, 200);
            assert_eq!(named(&Crl::from_der(der).unwrap(), serial), Some(4));
        }
    });
}
