//! What an authority's revocation lists are like: lists of changes, how soon they are signed, where else they are put, and the
//! lists of authorities outside (RFC 5280 §5.2.4, 5.2.6; contract §4.5).

use crate::authorities::{DAY, FLAT, TYPED, authority, certificate_of};
use crate::import::body as import_body;
use crate::issuing::{Bench, REQUEST, issue, profile};
use crate::renewal::run_jobs;
use crate::server::{Server, for_each_engine, text};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::chains::{Draft, TestKey, common_name};
use x509::crl::{CrlTemplate, ListedReason, RevokedCertificate, assemble_crl};
use x509::{Certificate, CertificationRequest, Crl, RevocationReason, SerialNumber, SignatureAlgorithm, pem};

async fn choose(server: &Server, settings: Value) -> Value {
    server.patch(&format!("{TYPED}/{}/crls/config", server.issuing_ca), settings).await.ok()
}

/// The complete list and that of the changes, signed now; and the id of their record.
async fn both(server: &Server) -> (Crl, Crl, String) {
    let path = format!("{TYPED}/{}/crls/publish", server.issuing_ca);
    loop {
        let lists = server.post(&path, json!({})).await.ok();
        let id = text(&lists[0]["id"]);
        let complete = Crl::from_pem(&text(&lists[0]["crl"])).unwrap();
        let changes = Crl::from_der(fetch(server, &format!("/api/v1/pki/crl/{id}/delta")).await).unwrap();
        // Unless the server's own runner made the next ones in between.
        if complete.number().unwrap() == changes.number().unwrap() {
            return (complete, changes, id);
        }
    }
}

async fn fetch(server: &Server, path: &str) -> Vec<u8> {
    let response = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
    assert_eq!(response.status().as_u16(), 200, "{path}");
    response.bytes().await.unwrap().to_vec()
}

struct Issued {
    place: String,
    serial: String,
    pem: String,
    chain: String,
}

async fn issued(server: &Server, profile: &str) -> Issued {
    let answer = issue(server, profile, json!({})).await.ok();
    Issued {
        place: format!("{REQUEST}/{}", text(&answer["certificateId"])),
        serial: text(&answer["serialNumber"]),
        pem: text(&answer["certificate"]),
        chain: text(&answer["certificateChain"]),
    }
}

async fn revoke(server: &Server, issued: &Issued, reason: &str) {
    server.post(&format!("{}/revoke", issued.place), json!({"revocationReason": reason})).await.ok();
}

/// The reason codes of these certificates on a list.
fn codes(list: &Crl, issued: &[&Issued]) -> Vec<Option<u8>> {
    let code = |one: &&Issued| {
        let serial = SerialNumber::from_hex(&one.serial).unwrap().integer_content();
        list.find(&serial).map(|entry| entry.reason_code.unwrap_or(0))
    };
    issued.iter().map(code).collect()
}

#[test]
fn holds_that_end_and_begin_while_lists_are_made_are_no_loss() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let held = [issued(&server, &open).await, issued(&server, &open).await, issued(&server, &open).await];
        let is_over = AtomicBool::new(false);
        let toggle = |one| {
            let (server, is_over) = (&server, &is_over);
            async move {
                while !is_over.load(Ordering::Relaxed) {
                    revoke(server, one, "CERTIFICATE_HOLD").await;
                    server.post(&format!("{}/release", one.place), json!({})).await.ok();
                }
                revoke(server, one, "CERTIFICATE_HOLD").await;
            }
        };
        let publish = async {
            for _ in 0..25 {
                server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
            }
            is_over.store(true, Ordering::Relaxed);
        };
        tokio::join!(toggle(&held[0]), toggle(&held[1]), toggle(&held[2]), publish);
        let lists = server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
        let complete = Crl::from_pem(&text(&lists[0]["crl"])).unwrap();
        assert_eq!(codes(&complete, &[&held[0], &held[1], &held[2]]), [Some(6); 3]);
    });
}

#[test]
fn a_list_of_changes_says_what_happened_since_its_base() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issuer = certificate_of(&server, &server.issuing_ca).await;
        let early = issued(&server, &open).await;
        revoke(&server, &early, "SUPERSEDED").await;
        let plain = server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
        let id = text(&plain[0]["id"]);
        let absent = reqwest::get(format!("{}/api/v1/pki/crl/{id}/delta", server.url)).await.unwrap();
        assert_eq!(absent.status().as_u16(), 404);
        assert_eq!(
            server.get(&format!("{TYPED}/{}/crls/config", server.issuing_ca)).await.ok()["isDeltaEnabled"],
            false
        );

        // Beyond the time for which a change is named twice.
        server.at(3600);
        let chosen = choose(&server, json!({"isDeltaEnabled": true})).await;
        assert_eq!(chosen, json!({"isDeltaEnabled": true, "publishDelaySeconds": 0}));
        let (base, empty, _) = both(&server).await;
        // The server's own runner may have made the base a moment before.
        let base_number = empty.base_number().unwrap();
        assert!(base_number <= base.number().unwrap(), "{base_number:?}");
        assert_eq!(empty.number().unwrap(), base.number().unwrap());
        assert_eq!(empty.entries().count(), 0);
        let names_delta = |list: &Crl| list.extensions().iter().any(|one| one.oid == x509::oid::FRESHEST_CRL);
        assert!(names_delta(&base) && !names_delta(&empty));

        server.at(3660);
        let (plain, held, released) =
            (issued(&server, &open).await, issued(&server, &open).await, issued(&server, &open).await);
        for (one, reason) in [(&plain, "KEY_COMPROMISE"), (&held, "CERTIFICATE_HOLD"), (&released, "CERTIFICATE_HOLD")]
        {
            revoke(&server, one, reason).await;
        }
        let (_, changes, _) = both(&server).await;
        assert_eq!(codes(&changes, &[&early, &plain, &held, &released]), [None, Some(1), Some(6), Some(6)]);
        server.post(&format!("{}/release", released.place), json!({})).await.ok();
        revoke(&server, &held, "AFFILIATION_CHANGED").await;
        let (complete, changes, _) = both(&server).await;
        assert_eq!(codes(&complete, &[&early, &plain, &held, &released]), [Some(4), Some(1), Some(3), None]);
        // Whoever saw the hold on an earlier list hears that it ended.
        assert_eq!(codes(&changes, &[&early, &plain, &held, &released]), [None, Some(1), Some(3), Some(8)]);
        assert_eq!(changes.base_number().unwrap(), base_number);
        assert_eq!(changes.number().unwrap(), complete.number().unwrap());
        assert!(changes.verify_signature(&issuer.public_key().unwrap()));
        assert_eq!(changes.unknown_critical(), Some(x509::oid::DELTA_CRL_INDICATOR));

        // OpenSSL puts the base and the changes together.
        let bench = Bench::new();
        let (issuing, root) = plain.chain.split_at(plain.chain.rfind("-----BEGIN").unwrap());
        for (name, content) in [("root.pem", root), ("issuing.pem", issuing), ("leaf.pem", &plain.pem)] {
            bench.write(name, content);
        }
        let good = issued(&server, &open).await;
        bench.write("good.pem", &good.pem);
        bench.write("base.crl", &pem::encode(pem::CRL, base.as_der()));
        bench.write("delta.crl", &pem::encode(pem::CRL, changes.as_der()));
        bench.write("both.crl", &format!("{}\n{}", bench.read("base.crl"), bench.read("delta.crl")));
        let verdict = |list: &str, leaf: &str| {
            let at = server.start.seconds() + 3700;
            let line = format!(
                "verify -attime {at} -crl_check -extended_crl -use_deltas -CAfile root.pem -untrusted issuing.pem -CRLfile {list} {leaf}"
            );
            let output =
                std::process::Command::new("openssl").args(line.split(' ')).current_dir(bench.path("")).output();
            String::from_utf8(output.unwrap().stderr).unwrap()
        };
        assert!(!verdict("base.crl", "leaf.pem").contains("revoked"));
        assert!(verdict("both.crl", "leaf.pem").contains("certificate revoked"));
        assert_eq!(verdict("both.crl", "good.pem"), "");

        // A day later a newer list is the base; with the option off there is none.
        server.at(2 * DAY);
        let (_, changes, id) = both(&server).await;
        assert!(changes.base_number().unwrap() > base.number().unwrap());
        choose(&server, json!({"isDeltaEnabled": false})).await;
        run_jobs(&server).await;
        let absent = reqwest::get(format!("{}/api/v1/cert-manager/crl/{id}/delta", server.url)).await.unwrap();
        assert_eq!(absent.status().as_u16(), 404);
        let complete = Crl::from_der(fetch(&server, &format!("/api/v1/pki/crl/{id}")).await).unwrap();
        assert!(!names_delta(&complete));
    });
}

#[test]
fn revocations_are_collected_for_as_long_as_was_chosen() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let config = format!("{TYPED}/{}/crls/config", server.issuing_ca);
        for wrong in [json!({"publishDelaySeconds": -1}), json!({"publishDelaySeconds": 86_401})] {
            assert_eq!(server.patch(&config, wrong).await.issues(), ["publishDelaySeconds"]);
        }
        choose(&server, json!({"publishDelaySeconds": 600})).await;
        run_jobs(&server).await;
        let one = issued(&server, &open).await;
        revoke(&server, &one, "SUPERSEDED").await;
        let id = text(&server.get(&format!("{FLAT}/{}/crls", server.issuing_ca)).await.ok()[0]["id"]);
        for (seconds, code) in [(599, None), (600, Some(4))] {
            server.at(seconds);
            run_jobs(&server).await;
            let list = Crl::from_der(fetch(&server, &format!("/api/v1/pki/crl/{id}")).await).unwrap();
            assert_eq!(codes(&list, &[&one]), [code], "after {seconds} seconds");
        }
    });
}

/// An authority outside: its key, its certificate, and a list of its own about some serial numbers.
struct Outside {
    key: TestKey,
    root: Certificate,
}

impl Outside {
    fn new(now: i64) -> Self {
        let key = TestKey::generate();
        let name = common_name("Outside Root");
        let root = Draft::authority(&name, key.spki(), &name, now).sign(&key);
        Self { root: Certificate::from_der(root).unwrap(), key }
    }

    fn list(&self, signer: &TestKey, number: u64, this_update: i64, serials: &[&[u8]]) -> String {
        let template = CrlTemplate {
            signature_algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer_der: self.root.subject().as_der(),
            this_update,
            next_update: this_update + DAY,
            authority_key_id: &self.key.key_id(),
            number,
            distribution_point_urls: &[],
            base_number: None,
            freshest_urls: &[],
        };
        let entry = |serial: &&[u8]| RevokedCertificate {
            serial_number: SerialNumber::from_integer(serial).unwrap(),
            revoked_at: this_update,
            reason: ListedReason::Revoked(RevocationReason::CaCompromise),
        };
        let contents = template.to_be_signed(serials.iter().map(entry));
        let signature = signer.sign(&contents);
        pem::encode(pem::CRL, &assemble_crl(&contents, SignatureAlgorithm::EcdsaSha256, &signature))
    }
}

#[test]
fn a_list_of_an_authority_outside_is_kept_when_that_signed_it() {
    for_each_engine(|server| async move {
        let now = server.start.seconds();
        let outside = Outside::new(now);
        let id = authority(&server, "intermediate", "ours").await;
        let csr = text(&server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"]);
        let csr = CertificationRequest::from_pem(&csr).unwrap();
        let mut draft = Draft::authority(csr.subject(), csr.spki_der().to_vec(), outside.root.subject(), now);
        draft
            .set_key_ids(&x509::PublicKey::from_spki_der(csr.spki_der()).unwrap().key_id_sha1(), &outside.key.key_id());
        let ours = draft.sign(&outside.key);
        let body = import_body(std::slice::from_ref(&ours), &[outside.root.as_der().to_vec()]);
        server.post(&format!("{FLAT}/{id}/import-certificate"), body).await.ok();
        let ours = Certificate::from_der(ours).unwrap();

        let place = format!("{TYPED}/{id}/foreign-crls");
        let hand_in = async |crl: String| server.post(&place, json!({"crl": crl})).await;
        let stranger = TestKey::generate();
        for (wrong, said) in [
            ("no list".to_owned(), "revocation list"),
            (outside.list(&stranger, 1, now, &[]), "no authority outside"),
            (outside.list(&outside.key, 1, now + 60, &[]), "in the future"),
        ] {
            let refused = hand_in(wrong).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(said), "{refused}");
        }
        let kept = hand_in(outside.list(&outside.key, 7, now - 60, &[])).await.ok();
        assert_eq!((&kept["number"], &kept["revokesThisCa"]), (&json!("07"), &json!(false)));
        hand_in(outside.list(&outside.key, 6, now - 120, &[])).await.refused(400, "BadRequest");
        let newer = outside.list(&outside.key, 8, now, &[ours.serial_content()]);
        hand_in(outside.list(&outside.key, 7, now, &[])).await.ok();
        // In the same second, the higher number is the newer one.
        assert_eq!(hand_in(newer.clone()).await.ok()["revokesThisCa"], true);
        hand_in(outside.list(&outside.key, 7, now, &[])).await.refused(400, "BadRequest");
        let all = server.get(&place).await.ok();
        assert_eq!(all.as_array().map(Vec::len), Some(1));
        assert_eq!(text(&all[0]["crl"]).trim(), newer.trim());
        // An authority whose parents are all of this server has none outside.
        let refused = server
            .post(&format!("{TYPED}/{}/foreign-crls", server.issuing_ca), json!({"crl": newer}))
            .await
            .refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("no authority outside"), "{refused}");
    });
}
