//! What became of a certificate, asked by real clients; on two nodes of one database; and while the database is away
//! (invariants A10, I4, I12).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::postgres::PrivateCluster;
use x509::{
    Certificate, CertificateId, CertificateStatus, IdentifierHash, OcspAnswer, OcspRefusal, OcspRequest,
    RevocationReason,
};

use crate::api::{Api, new_client};
use crate::site::{Site, block_on, on_both_engines};

/// How soon a revocation is told on every node.
const SOON: Duration = Duration::from_secs(2);
/// For how long an answer is given that was signed before, when the database does not answer.
const UNCONFIRMED: Duration = Duration::from_secs(4);

const OCSP: &str = "/api/v1/pki/ocsp";

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap()
}

async fn revoke(api: &Api, issued: &Value, reason: &str) {
    let path = format!("/api/v1/cert-manager/certificates/{}/revoke", text(issued, "certificateId"));
    api.post(&path, &json!({"revocationReason": reason})).await.unwrap().ok();
}

/// The request about a certificate.
fn request(issued: &Value, nonce: Option<&[u8]>) -> Vec<u8> {
    let certificate = Certificate::from_pem(text(issued, "certificate")).unwrap();
    let issuer = Certificate::from_pem(text(issued, "issuingCaCertificate")).unwrap();
    let (hash, key) = (IdentifierHash::Sha256, issuer.verifying_key().unwrap());
    let (name_hash, key_hash) = (hash.of(issuer.subject().as_der()), hash.of(key.key_octets()));
    let id = CertificateId::encode(hash, &name_hash, &key_hash, certificate.serial_content());
    OcspRequest::encode(&[&id], nonce)
}

/// What a server says of a certificate; nothing when it says to come later.
pub async fn status(api: &Api, issued: &Value, nonce: Option<&[u8]>) -> Option<CertificateStatus> {
    let asked = api.client.post(format!("{}{OCSP}", api.url)).body(request(issued, nonce)).send().await.unwrap();
    let der = asked.bytes().await.unwrap();
    match OcspRefusal::from_der(&der) {
        Some(refusal) => {
            assert_eq!(refusal, OcspRefusal::TryLater);
            None
        }
        None => Some(OcspAnswer::from_der(&der).unwrap().answers().next().unwrap().status),
    }
}

/// Reads the list of a certificate's issuer until it names the certificate.
async fn list_names(api: &Api, issued: &Value) {
    let certificate = Certificate::from_pem(text(issued, "certificate")).unwrap();
    let points = certificate.extensions().crl_distribution_points().unwrap().unwrap();
    let url = points.urls().next().unwrap().as_str().to_owned();
    let path = &url[url.find("/api/").unwrap()..];
    let deadline = Instant::now() + crate::site::PATIENCE;
    loop {
        let list = api.client.get(format!("{}{path}", api.url)).send().await.unwrap().bytes().await.unwrap();
        if x509::Crl::from_der(list.to_vec()).unwrap().find(certificate.serial_content()).is_some() {
            return;
        }
        assert!(Instant::now() < deadline, "the list does not name it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs a program in a folder to its end: whether that was good, and what it said.
fn run(folder: &Path, program: &str, line: &str) -> (bool, String) {
    let output = Command::new(program).args(line.split_whitespace()).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run scripts/install-test-tools first"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn openssl_and_gnutls_believe_the_answers() {
    on_both_engines(|site| {
        let server = site.start();
        let folder = site.path("clients");
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, contents: &str| std::fs::write(folder.join(name), format!("{contents}\n")).unwrap();
        let (url, plain) = block_on(async {
            let api = Api::log_in(site, &server).await;
            let (good, bad) = (api.issue(site, "good.example.com").await, api.issue(site, "bad.example.com").await);
            revoke(&api, &bad, "KEY_COMPROMISE").await;
            let chain = text(&good, "certificateChain");
            let (issuing, root) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
            for (name, contents) in [
                ("good.pem", text(&good, "certificate")),
                ("bad.pem", text(&bad, "certificate")),
                ("issuing.pem", issuing),
                ("root.pem", root),
                ("chain.pem", chain),
            ] {
                write(name, contents);
            }
            let certificate = Certificate::from_pem(text(&good, "certificate")).unwrap();
            let access = certificate.extensions().authority_information_access().unwrap().unwrap();
            let url = access.urls(x509::extension::AccessMethod::Ocsp).next().unwrap().as_str().to_owned();
            // The same by GET, as OpenSSL wrote the request.
            let (_, said) =
                run(&folder, "openssl", "ocsp -issuer issuing.pem -cert bad.pem -no_nonce -reqout request.der");
            let asked = std::fs::read(folder.join("request.der")).unwrap_or_else(|error| panic!("{error}: {said}"));
            let path = STANDARD.encode(asked).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            let answer = api.client.get(format!("{url}/{path}")).send().await.unwrap();
            (url, answer.bytes().await.unwrap())
        });
        std::fs::write(folder.join("answer.der"), plain).unwrap();
        let openssl = |line: &str, words: &[&str]| {
            let (_, said) = run(&folder, "openssl", &format!("ocsp -CAfile chain.pem -issuer issuing.pem {line}"));
            for words in words.iter().chain(&["Response verify OK"]) {
                assert!(said.contains(words), "{line}: {words} is not in {said}");
            }
            assert!(!said.contains("WARNING"), "{line}: {said}");
        };
        for hash in ["", "-sha256"] {
            openssl(&format!("-url {url} {hash} -cert good.pem"), &["good.pem: good"]);
            openssl(&format!("-url {url} {hash} -cert bad.pem"), &["bad.pem: revoked", "Reason: keyCompromise"]);
            openssl(&format!("-url {url} {hash} -serial 0x1234"), &["0x1234: unknown"]);
        }
        openssl(&format!("-url {url} -cert good.pem -cert bad.pem"), &["good.pem: good", "bad.pem: revoked"]);
        openssl("-respin answer.der -no_nonce -cert bad.pem", &["bad.pem: revoked"]);

        let ocsptool = |certificate: &str, nonce: &str, words: &str| {
            let line = format!(
                "--ask={url} {nonce} --load-cert {certificate} --load-issuer issuing.pem --load-trust issuing.pem \
                 --outfile answer-{certificate}.der"
            );
            let (_, said) = run(&folder, "ocsptool", &line);
            assert!(said.contains(words) && said.contains("Verifying OCSP Response: Success"), "{line}: {said}");
        };
        for nonce in ["--nonce", ""] {
            ocsptool("good.pem", nonce, "Certificate Status: good");
            ocsptool("bad.pem", nonce, "Certificate Status: revoked");
        }
        // The root answers for the authority below it.
        let (_, said) =
            run(&folder, "openssl", &format!("ocsp -CAfile root.pem -issuer root.pem -cert issuing.pem -url {url}"));
        assert!(said.contains("issuing.pem: good") && said.contains("Response verify OK"), "{said}");
        server.stop();
        site.check_clean();
    });
}

#[test]
fn what_one_node_revokes_the_other_tells_within_two_seconds() {
    let site = Site::postgres();
    let first = site.start();
    let other = site.node_beside();
    let second = other.start();
    block_on(async {
        let one = Api::log_in(&site, &first).await;
        let two = Api::log_in_at(&second.url, new_client(), &site.facts()).await;
        let mut slowest = Duration::ZERO;
        for (here, there) in [(&one, &two), (&two, &one)].into_iter().cycle().take(6) {
            let issued = here.issue(&site, "nodes.example.com").await;
            for api in [here, there] {
                assert_eq!(status(api, &issued, None).await, Some(CertificateStatus::Good));
            }
            for (reason, said) in [
                ("CERTIFICATE_HOLD", Some(RevocationReason::CertificateHold)),
                ("", None),
                ("SUPERSEDED", Some(RevocationReason::Superseded)),
                ("KEY_COMPROMISE", Some(RevocationReason::KeyCompromise)),
            ] {
                match reason {
                    "" => {
                        let path =
                            format!("/api/v1/cert-manager/certificates/{}/release", text(&issued, "certificateId"));
                        here.post(&path, &json!({})).await.unwrap().ok();
                    }
                    reason => revoke(here, &issued, reason).await,
                }
                let is_told = |status| match status {
                    CertificateStatus::Good => said.is_none(),
                    CertificateStatus::Revoked { reason, .. } => said.is_some() && reason == said,
                    CertificateStatus::Unknown => panic!("it is known to both nodes"),
                };
                // At once where it was done, and what is made for one caller everywhere.
                assert!(is_told(status(here, &issued, None).await.unwrap()));
                assert!(is_told(status(there, &issued, Some(&[7; 16])).await.unwrap()));
                let begun = Instant::now();
                while !is_told(status(there, &issued, None).await.unwrap()) {
                    assert!(begun.elapsed() < SOON, "{reason} is not told on the other node");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                slowest = slowest.max(begun.elapsed());
            }
        }
        println!("told on the other node after {slowest:?} at most");
    });
    second.stop();
    first.stop();
    site.check_clean();
}

#[test]
fn while_the_database_is_away_nothing_is_good_for_longer_than_four_seconds_and_what_is_on_a_list_is_revoked() {
    let cluster = PrivateCluster::start(&[]);
    let site = Site::at(cluster.url());
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let issued = api.issue(&site, "away.example.com").await;
        let (asked_before, never_asked) =
            (api.issue(&site, "asked.example.com").await, api.issue(&site, "never.example.com").await);
        for revoked in [&asked_before, &never_asked] {
            revoke(&api, revoked, "KEY_COMPROMISE").await;
        }
        let revoked = status(&api, &asked_before, None).await;
        assert_eq!(status(&api, &issued, None).await, Some(CertificateStatus::Good));
        // Until the list that names both is kept for bad times.
        list_names(&api, &never_asked).await;
        // A node that nobody has ever asked anything.
        let other = site.node_beside();
        let fresh = other.start();
        let unasked = Api::log_in_at(&fresh.url, new_client(), &site.facts()).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        tokio::task::block_in_place(|| cluster.stop());
        let away = Instant::now();
        // Nothing new is signed, and what was signed is given for a moment.
        assert_eq!(status(&api, &issued, Some(&[1; 8])).await, None);
        loop {
            let asked = away.elapsed();
            match status(&api, &issued, None).await {
                None => break,
                Some(status) => assert_eq!(status, CertificateStatus::Good),
            }
            assert!(asked < UNCONFIRMED + Duration::from_secs(1), "it is still good after {asked:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(status(&api, &issued, None).await, None);
        // What was revoked stays so, whether somebody asked before or not.
        assert!(matches!(revoked, Some(CertificateStatus::Revoked { .. })));
        for issued in [&asked_before, &never_asked] {
            for nonce in [None, Some(&[2; 8][..])] {
                let said = status(&api, issued, nonce).await;
                let Some(CertificateStatus::Revoked { reason, .. }) = said else { panic!("{nonce:?}: {said:?}") };
                assert_eq!(reason, Some(RevocationReason::KeyCompromise));
            }
        }
        let said = status(&unasked, &never_asked, None).await;
        assert!(matches!(said, Some(CertificateStatus::Revoked { .. })), "{said:?}");
        assert_eq!(status(&unasked, &issued, None).await, None);
        fresh.stop();
        // Whoever watches is told so.
        assert_eq!(api.metric("chancery_database_up").await, 0);
        tokio::task::block_in_place(|| cluster.start_again());
        let deadline = Instant::now() + crate::site::PATIENCE;
        while status(&api, &issued, None).await != Some(CertificateStatus::Good) {
            assert!(Instant::now() < deadline, "it does not come back by itself");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(api.metric("chancery_panics").await, 0);
    });
    server.stop();
    site.check_clean();
}
