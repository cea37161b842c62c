//! What became of a certificate, asked over HTTP (RFC 6960, RFC 5019; invariants A10, D5, D6, D8, D10, I4).

use crate::authorities::{DAY, FLAT, TYPED, authority, certificate_of, first_root, intermediate};
use crate::issuing::{Bench, REQUEST, certificate, issue, open_policy, policy, profile, profile_with};
use crate::renewal::run_jobs;
use crate::server::{Server, for_each_engine, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ocsp::{ANSWER_LIFETIME_SECONDS, ANSWER_SPREAD_SECONDS};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use x509::extension::AccessMethod;
use x509::ocsp::CERTIFICATES_MAX;
use x509::{
    Certificate, CertificateId, CertificateStatus, ExtendedKeyUsage, IdentifierHash, KeyUsage, KeyUsages, OcspAnswer,
    OcspRefusal, OcspRequest, RevocationReason, oid,
};

const OCSP: &str = "/api/v1/pki/ocsp";

/// The identifier of a serial number under an issuer.
pub fn id_of(issuer: &Certificate, hash: IdentifierHash, serial: &[u8]) -> Vec<u8> {
    let key = issuer.verifying_key().unwrap();
    CertificateId::encode(hash, &hash.of(issuer.subject().as_der()), &hash.of(key.key_octets()), serial)
}

pub async fn post(server: &Server, request: Vec<u8>) -> Vec<u8> {
    let client = reqwest::Client::new().post(format!("{}{OCSP}", server.url));
    let response = client.header("content-type", "application/ocsp-request").body(request).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["content-type"], "application/ocsp-response");
    response.bytes().await.unwrap().to_vec()
}

async fn get(server: &Server, request: &[u8]) -> reqwest::Response {
    let text = STANDARD.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    reqwest::get(format!("{}{OCSP}/{text}", server.url)).await.unwrap()
}

/// What is said of a certificate, by GET and by POST, by both hashes, with and without a nonce; all say the same.
pub async fn status(server: &Server, issuer: &Certificate, serial: &[u8]) -> CertificateStatus {
    let now = server.services.now().seconds();
    let mut said = Vec::new();
    for hash in [IdentifierHash::Sha1, IdentifierHash::Sha256] {
        let id = id_of(issuer, hash, serial);
        for nonce in [None, Some(&[7; 32][..]), Some(&[9; 1])] {
            let request = OcspRequest::encode(&[&id], nonce);
            let by_get = get(server, &request).await.bytes().await.unwrap().to_vec();
            for der in [post(server, request).await, by_get] {
                assert_eq!(OcspRefusal::from_der(&der), None);
                let answer = OcspAnswer::from_der(&der).unwrap();
                assert_eq!(answer.nonce(), nonce);
                said.push(answer.verified(issuer, &id, now).unwrap().status);
            }
        }
    }
    assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
    said[0]
}

async fn refusal(server: &Server, request: Vec<u8>) -> Option<OcspRefusal> {
    OcspRefusal::from_der(&post(server, request).await)
}

async fn revoke(server: &Server, issued: &Value, reason: &str) {
    let place = format!("{REQUEST}/{}/revoke", text(&issued["certificateId"]));
    server.post(&place, json!({"revocationReason": reason})).await.ok();
}

fn revoked(at: i64, reason: RevocationReason) -> CertificateStatus {
    CertificateStatus::Revoked { at, reason: Some(reason).filter(|reason| reason.code() != 0) }
}

#[test]
fn every_status_is_told_at_once_by_get_and_post_and_either_hash() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let now = server.start.seconds();
        for reason in RevocationReason::ALL {
            let issued = issue(&server, &open, json!({})).await.ok();
            let serial = certificate(&issued).serial_content().to_vec();
            assert_eq!(status(&server, &issuer, &serial).await, CertificateStatus::Good);
            revoke(&server, &issued, reason.as_str()).await;
            assert_eq!(status(&server, &issuer, &serial).await, revoked(now, reason));
            if reason == RevocationReason::CertificateHold {
                let place = format!("{REQUEST}/{}/release", text(&issued["certificateId"]));
                server.post(&place, json!({})).await.ok();
                assert_eq!(status(&server, &issuer, &serial).await, CertificateStatus::Good);
                revoke(&server, &issued, "SUPERSEDED").await;
                assert_eq!(status(&server, &issuer, &serial).await, revoked(now, RevocationReason::Superseded));
            }
            if reason != RevocationReason::KeyCompromise {
                revoke(&server, &issued, "KEY_COMPROMISE").await;
                assert_eq!(status(&server, &issuer, &serial).await, revoked(now, RevocationReason::KeyCompromise));
            }
        }
        // What was never issued, here or by another authority.
        assert_eq!(status(&server, &issuer, &[1, 2, 3]).await, CertificateStatus::Unknown);
        let issued = issue(&server, &open, json!({})).await.ok();
        let root = certificate_of(&server, &first_root(&server).await).await;
        assert_eq!(status(&server, &root, certificate(&issued).serial_content()).await, CertificateStatus::Unknown);
        assert_eq!(status(&server, &issuer, &[0x7f; 21]).await, CertificateStatus::Unknown);
    });
}

#[test]
fn authorities_are_answered_for_by_whoever_certified_them() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let below = intermediate(&server, "below", &root, 0).await;
        let (root_certificate, certificate) =
            (certificate_of(&server, &root).await, certificate_of(&server, &below).await);
        let serial = certificate.serial_content();
        assert_eq!(status(&server, &root_certificate, serial).await, CertificateStatus::Good);
        // A root signed itself.
        assert_eq!(
            status(&server, &root_certificate, root_certificate.serial_content()).await,
            CertificateStatus::Good
        );
        assert_eq!(status(&server, &certificate, root_certificate.serial_content()).await, CertificateStatus::Unknown);
        let hex = certificate.serial_number().unwrap().to_hex();
        let body = json!({"serialNumber": hex, "revocationReason": "CA_COMPROMISE"});
        server.post(&format!("{TYPED}/{root}/revoke-intermediate"), body).await.ok();
        let now = server.start.seconds();
        assert_eq!(status(&server, &root_certificate, serial).await, revoked(now, RevocationReason::CaCompromise));
        // It is disabled now, and what it signed is answered for all the same.
        assert_eq!(status(&server, &certificate, &[1]).await, CertificateStatus::Unknown);
    });
}

#[test]
fn what_is_deleted_is_said_to_be_as_it_was() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let policy = policy(&server, open_policy("any")).await;
        let profile = profile_with(&server, "top", Some(&root), &policy, json!({"apiConfig": {}})).await;
        let issuer = certificate_of(&server, &root).await;
        let (good, bad, held) = (
            issue(&server, &profile, json!({})).await.ok(),
            issue(&server, &profile, json!({})).await.ok(),
            issue(&server, &profile, json!({})).await.ok(),
        );
        revoke(&server, &bad, "SUPERSEDED").await;
        revoke(&server, &held, "CERTIFICATE_HOLD").await;
        let place = |issued: &Value| format!("{REQUEST}/{}", text(&issued["certificateId"]));
        server.post(&format!("{}/release", place(&held)), json!({})).await.ok();
        let now = server.start.seconds();
        let expected = [
            (&good, CertificateStatus::Good),
            (&bad, revoked(now, RevocationReason::Superseded)),
            (&held, CertificateStatus::Good),
        ];
        // Asked before, so that answers are kept, and not asked before.
        for ask_before in [true, false] {
            for (issued, said) in &expected {
                let serial = certificate(issued).serial_content().to_vec();
                if ask_before {
                    assert_eq!(status(&server, &issuer, &serial).await, *said);
                    server.delete(&place(issued)).await.ok();
                } else {
                    server.at(DAY);
                }
                let at = status(&server, &issuer, &serial).await;
                assert_eq!(at, *said, "{ask_before}");
            }
        }
        server.delete(&format!("/api/v1/pki/certificate-profiles/{profile}")).await.ok();
        server.delete(&format!("{TYPED}/{root}")).await.ok();
        server.at(2 * DAY);
        for (issued, said) in &expected {
            assert_eq!(status(&server, &issuer, certificate(issued).serial_content()).await, *said);
        }
        // Its responder is renewed for as long as its certificate lives.
        server.at(60 * DAY);
        run_jobs(&server).await;
        assert_eq!(status(&server, &issuer, certificate(&bad).serial_content()).await, expected[1].1);
    });
}

#[test]
fn a_responder_is_certified_for_a_few_days_and_for_nothing_else() {
    for_each_engine(|server| async move {
        for algorithm in ["RSA_2048", "EC_secp384r1", "ED25519"] {
            let body = json!({"name": algorithm.to_lowercase().replace('_', "-"), "configuration": {
                "type": "root", "commonName": "Top", "organization": "Acme", "keyAlgorithm": algorithm,
                "nameConstraints": {"permitted": [{"type": "dns_name", "value": "example.com"}]}}});
            let answer = server.post(TYPED, body).await;
            if algorithm == "ED25519" && answer.status != 200 {
                continue;
            }
            let id = text(&answer.ok()["id"]);
            let issuer = certificate_of(&server, &id).await;
            let asked = id_of(&issuer, IdentifierHash::Sha256, &[1]);
            let answer = OcspAnswer::from_der(&post(&server, OcspRequest::encode(&[&asked], None)).await).unwrap();
            let [responder] = answer.certificates() else { panic!("one certificate is sent along") };
            let extensions = responder.extensions();
            assert!(responder.verify_signature(&issuer.verifying_key().unwrap()));
            assert_eq!(responder.subject().render(), "O=Acme,CN=OCSP Responder");
            assert_eq!(extensions.extended_key_usages().unwrap().unwrap(), [ExtendedKeyUsage::OcspSigning]);
            assert_eq!(extensions.key_usages().unwrap().unwrap(), KeyUsages::of(&[KeyUsage::DigitalSignature]));
            assert_eq!(
                extensions.find(oid::OCSP_NO_CHECK).map(|one| (one.critical, one.value)),
                Some((false, &[5, 0][..]))
            );
            assert!(extensions.crl_distribution_points().unwrap().is_none());
            assert!(extensions.authority_information_access().unwrap().is_none());
            assert_eq!(responder.key_algorithm().unwrap(), x509::KeyAlgorithm::EcP256);
            let now = server.start.seconds();
            assert!(responder.not_before() <= now && responder.not_before() >= issuer.not_before());
            assert_eq!(responder.not_after(), now + 7 * DAY);
            // It is one that the authority signed, and nobody finds it in the inventory.
            assert_eq!(status(&server, &issuer, responder.serial_content()).await, CertificateStatus::Good);
            let serial = responder.serial_number().unwrap().to_hex();
            server.get(&format!("/api/v1/pki/certificates/{serial}")).await.refused(404, "NotFound");
        }
        let report = server.services.fsck(|_| ()).await.unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        for (sql, words) in [
            ("UPDATE ocsp_responders SET serial = X'01'", "stored authority, serial number or lifetime"),
            ("UPDATE ocsp_responders SET sealed = id", "cannot be used"),
        ] {
            let sql = if server.services.db.engine_name() == "postgresql" {
                sql.replace("X'01'", "'\\x01'")
            } else {
                sql.into()
            };
            let damage = store::Statement::new(Box::leak(sql.into_boxed_str()), vec![]);
            server.services.db.commit(store::Changes::new().statement(damage)).await.unwrap();
            let report = server.services.fsck(|_| ()).await.unwrap();
            assert!(report.findings.iter().all(|one| one.problem.contains(words)), "{:?}", report.findings);
            assert!(!report.findings.is_empty());
        }
    });
}

#[test]
fn certificates_carry_the_address_unless_their_authority_was_made_without() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        for (name, configuration, base) in [
            ("plain", json!({}), Some(server.services.addresses.publication_url.clone())),
            ("own", json!({"publicationUrl": "http://pki.example.com/x/"}), Some("http://pki.example.com/x".into())),
            ("none", json!({"isOcspEnabled": false}), None),
        ] {
            let mut body = json!({"name": name, "configuration":
                {"type": "intermediate", "commonName": name, "keyAlgorithm": "EC_prime256v1"}});
            crate::issuing::merge(&mut body["configuration"], configuration);
            let id = text(&server.post(TYPED, body).await.ok()["id"]);
            let certify = json!({"notBefore": server.time(0), "notAfter": server.time(365 * DAY), "parentCaId": root});
            server.post(&format!("{TYPED}/{id}/certificate"), certify).await.ok();
            let policy = policy(&server, open_policy(name)).await;
            let profile = profile_with(&server, name, Some(&id), &policy, json!({"apiConfig": {}})).await;
            let issued = certificate(&issue(&server, &profile, json!({})).await.ok());
            let shown = server.get(&format!("{TYPED}/{id}")).await.ok();
            assert_eq!(shown["configuration"].get("isOcspEnabled"), base.is_none().then_some(&json!(false)));
            assert_eq!(ocsp_urls(&issued), base.iter().map(|base| format!("{base}{OCSP}")).collect::<Vec<_>>());
            let issuer = certificate_of(&server, &id).await;
            assert_eq!(ocsp_urls(&issuer), [format!("{}{OCSP}", server.services.addresses.publication_url)]);
            let request = OcspRequest::encode(&[&id_of(&issuer, IdentifierHash::Sha1, issued.serial_content())], None);
            let said = refusal(&server, request).await;
            assert_eq!(said, base.is_none().then_some(OcspRefusal::Unauthorized), "{name}");
        }
        assert_eq!(ocsp_urls(&certificate_of(&server, &root).await), [""; 0]);
        run_jobs(&server).await;
        let due = server.services.responders_due().await.unwrap();
        assert!(due.is_empty(), "{due:?}");
    });
}

fn ocsp_urls(certificate: &Certificate) -> Vec<String> {
    let Some(access) = certificate.extensions().authority_information_access().unwrap() else { return Vec::new() };
    access.urls(AccessMethod::Ocsp).map(|url| url.as_str().to_owned()).collect()
}

#[test]
fn what_is_no_request_or_about_others_is_refused() {
    for_each_engine(|server| async move {
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let root = certificate_of(&server, &first_root(&server).await).await;
        let (id, other) = (id_of(&issuer, IdentifierHash::Sha1, &[1]), id_of(&root, IdentifierHash::Sha1, &[1]));
        let good = OcspRequest::encode(&[&id], None);
        let mut strange = id.clone();
        strange[30] ^= 1;
        for (what, request, said) in [
            ("nothing", Vec::new(), Some(OcspRefusal::MalformedRequest)),
            ("half of it", good[..good.len() - 1].to_vec(), Some(OcspRefusal::MalformedRequest)),
            ("too much", [&good[..], &[0]].concat(), Some(OcspRefusal::MalformedRequest)),
            ("a long one", vec![0x30; 9 << 10], Some(OcspRefusal::MalformedRequest)),
            ("a very long one", vec![0x30; 3 << 20], Some(OcspRefusal::MalformedRequest)),
            ("no nonce in a nonce", OcspRequest::encode(&[&id], Some(&[])), Some(OcspRefusal::MalformedRequest)),
            (
                "too many",
                OcspRequest::encode(&vec![&id[..]; CERTIFICATES_MAX + 1], None),
                Some(OcspRefusal::MalformedRequest),
            ),
            ("many", OcspRequest::encode(&vec![&id[..]; CERTIFICATES_MAX], None), None),
            ("another issuer", OcspRequest::encode(&[&strange], None), Some(OcspRefusal::Unauthorized)),
            ("two issuers", OcspRequest::encode(&[&id, &other], None), Some(OcspRefusal::Unauthorized)),
            ("a good one", good.clone(), None),
        ] {
            assert_eq!(refusal(&server, request).await, said, "{what}");
        }
        for wrong in ["x", "%zz", "MEIwQDA%2", &"A".repeat(6000), "..", "MEI//"] {
            let response = reqwest::get(format!("{}{OCSP}/{wrong}", server.url)).await.unwrap();
            if response.status().as_u16() == 200 {
                assert_eq!(response.headers()["cache-control"], "no-store");
                let der = response.bytes().await.unwrap();
                assert_eq!(OcspRefusal::from_der(&der), Some(OcspRefusal::MalformedRequest), "{wrong}");
            } else {
                assert_eq!(response.status().as_u16(), 404, "{wrong}");
            }
        }
        // As it is written by clients that do not encode it.
        let raw = STANDARD.encode(&good);
        for place in ["/api/v1/pki/ocsp", "/api/v1/cert-manager/ocsp", "/api/v1/pki/ocsp/"] {
            let response = reqwest::get(format!("{}{place}/{raw}", server.url)).await.unwrap();
            assert!(OcspAnswer::from_der(&response.bytes().await.unwrap()).is_ok(), "{place}");
        }
    });
}

#[test]
fn several_certificates_are_answered_for_in_one_answer() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let (good, bad) = (issue(&server, &open, json!({})).await.ok(), issue(&server, &open, json!({})).await.ok());
        revoke(&server, &bad, "SUPERSEDED").await;
        let ids = [
            id_of(&issuer, IdentifierHash::Sha256, certificate(&good).serial_content()),
            id_of(&issuer, IdentifierHash::Sha1, certificate(&bad).serial_content()),
            id_of(&issuer, IdentifierHash::Sha256, &[5]),
        ];
        let request = OcspRequest::encode(&[&ids[0], &ids[1], &ids[2]], Some(&[3; 16]));
        let answer = OcspAnswer::from_der(&post(&server, request).await).unwrap();
        let now = server.start.seconds();
        let said: Vec<_> = ids.iter().map(|id| answer.verified(&issuer, id, now).unwrap().status).collect();
        let expected =
            [CertificateStatus::Good, revoked(now, RevocationReason::Superseded), CertificateStatus::Unknown];
        assert_eq!((&said[..], answer.answers().len(), answer.nonce()), (&expected[..], 3, Some(&[3; 16][..])));
    });
}

#[test]
fn an_answer_without_a_nonce_is_given_again_and_says_for_how_long() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let issued = issue(&server, &open, json!({})).await.ok();
        let id = id_of(&issuer, IdentifierHash::Sha256, certificate(&issued).serial_content());
        let request = OcspRequest::encode(&[&id], None);
        let header = |response: &reqwest::Response, name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let first = get(&server, &request).await;
        let (tag, modified) = (header(&first, "etag"), header(&first, "last-modified"));
        assert_eq!(header(&first, "cache-control"), "public, max-age=60, no-transform, must-revalidate");
        assert!(header(&first, "expires").ends_with(" GMT") && modified.ends_with(" GMT"));
        let octets = first.bytes().await.unwrap();
        server.at(20 * 60);
        // The same octets, by POST too.
        assert_eq!(get(&server, &request).await.bytes().await.unwrap(), octets);
        assert_eq!(post(&server, request.clone()).await, octets);
        let text = STANDARD.encode(&request).replace('+', "%2B").replace('/', "%2F");
        let url = format!("{}{OCSP}/{text}", server.url);
        // Not by the date: two answers may be of one second, and the first must not keep a client from the second.
        for (name, value, is_new) in [("if-none-match", &tag, false), ("if-modified-since", &modified, true)] {
            let again = reqwest::Client::new().get(&url).header(name, value).send().await.unwrap();
            let status = if is_new { 200 } else { 304 };
            assert_eq!((again.status().as_u16(), header(&again, "etag")), (status, tag.clone()));
        }
        let answer = OcspAnswer::from_der(&octets).unwrap();
        let single = answer.answers().next().unwrap();
        let lifetime = single.next_update.unwrap() - single.this_update;
        assert!((ANSWER_LIFETIME_SECONDS..ANSWER_LIFETIME_SECONDS + ANSWER_SPREAD_SECONDS).contains(&lifetime));
        // An hour later it is another one.
        server.at(61 * 60);
        let later = get(&server, &request).await;
        assert_ne!(header(&later, "etag"), tag);
        assert_ne!(later.bytes().await.unwrap(), octets);
        // Nobody keeps what is for one caller, or what is not known yet.
        let unknown = OcspRequest::encode(&[&id_of(&issuer, IdentifierHash::Sha1, &[9])], None);
        for request in [OcspRequest::encode(&[&id], Some(&[1])), unknown, vec![1]] {
            let response = get(&server, &request).await;
            assert_eq!(header(&response, "cache-control"), "no-store");
            assert!(response.headers().get("etag").is_none());
        }
    });
}

#[test]
fn a_certificate_is_good_from_its_first_moment_and_never_again_after_its_revocation() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let issued = issue(&server, &open, json!({})).await.ok();
        let serial = certificate(&issued).serial_content().to_vec();
        let id = id_of(&issuer, IdentifierHash::Sha256, &serial);
        let plain = OcspRequest::encode(&[&id], None);
        // Many who ask all the while, with nonces and without.
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asking: Vec<_> = (0..24_u8)
            .map(|number| {
                let (server, id, plain, stop) = (server.clone(), id.clone(), plain.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut said = Vec::new();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let request =
                            if number % 2 == 0 { plain.clone() } else { OcspRequest::encode(&[&id], Some(&[number])) };
                        let der = post(&server, request).await;
                        match OcspAnswer::from_der(&der) {
                            Ok(answer) => said.push(answer.answers().next().unwrap().status == CertificateStatus::Good),
                            Err(_) => assert_eq!(OcspRefusal::from_der(&der), Some(OcspRefusal::TryLater)),
                        }
                    }
                    said
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        revoke(&server, &issued, "SUPERSEDED").await;
        let took = begun.elapsed();
        // From the moment of its acknowledgement on.
        for _ in 0..20 {
            let answer = OcspAnswer::from_der(&post(&server, plain.clone()).await).unwrap();
            assert_ne!(answer.answers().next().unwrap().status, CertificateStatus::Good);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for asked in asking {
            let said = asked.await.unwrap();
            let turn = said.iter().position(|good| !good).expect("it is told to everybody");
            assert!(said[..turn].iter().all(|good| *good) && said[turn..].iter().all(|good| !good), "{said:?}");
        }
        assert!(took < Duration::from_secs(10), "a flood of questions holds up a revocation: {took:?}");
    });
}

#[test]
fn what_changed_without_this_node_is_seen_within_two_seconds() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let issued = issue(&server, &open, json!({})).await.ok();
        let serial = certificate(&issued).serial_content().to_vec();
        assert_eq!(status(&server, &issuer, &serial).await, CertificateStatus::Good);
        let id = domain::CertificateId::parse(&text(&issued["certificateId"])).unwrap();
        let row = store::certificate::by_id(&server.services.db, server.organization, id).await.unwrap().unwrap();
        let by = row.issued.issuer.unwrap();
        // As another node does it, whose announcement is lost.
        let (at, reason) = (server.services.now(), i64::from(RevocationReason::Superseded.code()));
        let insert = store::Statement::new(
            "INSERT INTO revocations (authority_key_id, serial, project_id, shard, not_after, reason, revoked_at, changed_at)
             VALUES ($1, $2, $3, 0, $4, $5, $6, $6)",
            vec![
                by.key.into(),
                serial.clone().into(),
                row.issued.project.into(),
                at.plus_seconds(DAY).into(),
                reason.into(),
                at.into(),
            ],
        );
        server.services.db.commit(store::Changes::new().statement(insert)).await.unwrap();
        let begun = Instant::now();
        let request = OcspRequest::encode(&[&id_of(&issuer, IdentifierHash::Sha1, &serial)], None);
        loop {
            let answer = OcspAnswer::from_der(&post(&server, request.clone()).await).unwrap();
            if answer.answers().next().unwrap().status != CertificateStatus::Good {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "it is still said to be good");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status(&server, &issuer, &serial).await, revoked(at.seconds(), RevocationReason::Superseded));
    });
}

#[test]
fn without_a_responder_that_is_valid_nothing_is_said() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let below = authority(&server, "intermediate", "below").await;
        let certify = json!({"notBefore": server.time(0), "notAfter": server.time(10 * DAY), "parentCaId": root});
        server.post(&format!("{TYPED}/{below}/certificate"), certify).await.ok();
        server.patch(&format!("{TYPED}/{below}"), json!({"status": "disabled"})).await.ok();
        let issuer = certificate_of(&server, &below).await;
        let request = OcspRequest::encode(&[&id_of(&issuer, IdentifierHash::Sha256, &[1])], None);
        // Nobody made one for the time after, so it is made for the first who asks.
        server.at(9 * DAY);
        let answer = OcspAnswer::from_der(&post(&server, request.clone()).await).unwrap();
        assert_eq!(answer.certificates()[0].not_after(), issuer.not_after());
        assert!(answer.answers().next().unwrap().next_update.unwrap() <= issuer.not_after());
        // Answers end with the authority at last, and so does the talk about it.
        server.at(10 * DAY + 1);
        assert_eq!(refusal(&server, request.clone()).await, Some(OcspRefusal::TryLater));
        // By a clock that is not to be believed nothing is said either.
        server.at(-DAY);
        let issuer = certificate_of(&server, &root).await;
        let request = OcspRequest::encode(&[&id_of(&issuer, IdentifierHash::Sha256, &[1])], Some(&[1]));
        assert_eq!(refusal(&server, request).await, Some(OcspRefusal::TryLater));
    });
}

#[test]
fn an_old_key_of_an_authority_is_answered_for_beside_the_new_one() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let policy = policy(&server, open_policy("any")).await;
        let profile = profile_with(&server, "top", Some(&root), &policy, json!({"apiConfig": {}})).await;
        let (old, first) = (certificate_of(&server, &root).await, issue(&server, &profile, json!({})).await.ok());
        let body = json!({"type": "new-key", "notAfter": server.time(4000 * DAY)});
        server.post(&format!("{FLAT}/{root}/renew"), body).await.ok();
        let (new, second) = (certificate_of(&server, &root).await, issue(&server, &profile, json!({})).await.ok());
        server.at(30 * DAY);
        run_jobs(&server).await;
        for (issuer, known, other) in [(&old, &first, &second), (&new, &second, &first)] {
            assert_eq!(status(&server, issuer, certificate(known).serial_content()).await, CertificateStatus::Good);
            assert_eq!(status(&server, issuer, certificate(other).serial_content()).await, CertificateStatus::Unknown);
        }
    });
}

#[test]
fn pkilint_finds_nothing_in_the_answers() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let (good, bad, worse) = (
            issue(&server, &open, json!({})).await.ok(),
            issue(&server, &open, json!({})).await.ok(),
            issue(&server, &open, json!({})).await.ok(),
        );
        revoke(&server, &bad, "UNSPECIFIED").await;
        revoke(&server, &worse, "KEY_COMPROMISE").await;
        let bench = Bench::new();
        let serials = [&good, &bad, &worse].map(|issued| certificate(issued).serial_content().to_vec());
        for (number, serial) in serials.iter().chain([&vec![1, 2]]).enumerate() {
            for (hash, nonce) in [(IdentifierHash::Sha1, None), (IdentifierHash::Sha256, Some(&[7; 32][..]))] {
                let request = OcspRequest::encode(&[&id_of(&issuer, hash, serial)], nonce);
                std::fs::write(bench.path("answer.der"), post(&server, request).await).unwrap();
                let lint = concat!(env!("CARGO_MANIFEST_DIR"), "/../.test/venv/bin/lint_ocsp_response");
                let said = bench.run(lint, &["lint", "-s", "WARNING", "--document-format", "DER", "answer.der"]);
                assert!(!said.contains('('), "{number} {hash:?}: {said}");
            }
        }
    });
}
