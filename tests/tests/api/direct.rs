//! Issuing and signing without a profile (contract §3.12, 3.13, 6.8): from an authority itself, as scripts and the external
//! issuer for cert-manager do.

use crate::authorities::{DAY, FLAT, TYPED, UNKNOWN, authority, first_root, intermediate, typed_body};
use crate::csr::Draft;
use crate::issuing::{Bench, REQUEST, certificate, count, merge, names};
use crate::server::{Answer, Server, for_each_engine, members, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;
use x509::{AttributeType, ExtendedKeyUsage, KeyUsage, KeyUsages, pem};

pub const ISSUE: &str = "/api/v1/pki/certificates/issue-certificate";
pub const SIGN: &str = "/api/v1/pki/certificates/sign-certificate";

const ISSUED: [&str; 5] = ["certificate", "certificateChain", "issuingCaCertificate", "privateKey", "serialNumber"];
const SIGNED: [&str; 4] = ["certificate", "certificateChain", "issuingCaCertificate", "serialNumber"];

/// A request from the issuing authority that is in order but for some changes.
fn wanted(server: &Server, changes: Value) -> Value {
    let mut body = json!({"caId": server.issuing_ca, "commonName": "www.example.com", "ttl": "1d"});
    merge(&mut body, changes);
    body
}

async fn issue(server: &Server, changes: Value) -> Answer {
    server.post(ISSUE, wanted(server, changes)).await
}

/// The record of what was issued.
pub async fn record_of(server: &Server, answer: &Value) -> Value {
    let path = format!("/api/v1/pki/certificates/{}", text(&answer["serialNumber"]));
    server.get(&path).await.ok()["certificate"].take()
}

pub async fn findings(server: &Server) -> Vec<String> {
    let report = server.services.fsck(|_| ()).await.unwrap();
    report.findings.into_iter().map(|finding| format!("{}: {}", finding.subject, finding.problem)).collect()
}

/// Has OpenSSL check a certificate against the last of its chain, and against its key when there is one.
pub fn openssl_verifies(answer: &Value) {
    let bench = Bench::new();
    let chain = text(&answer["certificateChain"]);
    let root = &chain[chain.rfind("-----BEGIN").unwrap()..];
    bench.write("root.pem", root);
    bench.write("chain.pem", &chain);
    bench.write("leaf.pem", &text(&answer["certificate"]));
    let arguments = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"];
    assert!(bench.openssl(&arguments).contains("leaf.pem: OK"));
    if let Some(key) = answer["privateKey"].as_str() {
        bench.write("key.pem", key);
        let of_leaf = bench.openssl(&["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
        assert_eq!(bench.openssl(&["pkey", "-in", "key.pem", "-pubout"]), of_leaf);
    }
}

#[test]
fn an_authority_issues_without_a_profile() {
    for_each_engine(|server| async move {
        let altered = json!({
            "altNames": "www.example.com, 192.0.2.7,ops@example.com, spiffe://example.com/a, *.example.com",
            "friendlyName": "The web",
        });
        let answer = issue(&server, altered).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let answer = answer.ok();
        assert_eq!(members(&answer), ISSUED);
        openssl_verifies(&answer);
        let issued = certificate(&answer);
        assert_eq!(issued.subject().render(), "CN=www.example.com");
        assert_eq!(
            names(&issued),
            [
                "DNS name www.example.com",
                "IP address 192.0.2.7",
                "e-mail address ops@example.com",
                "URI spiffe://example.com/a",
                "DNS name *.example.com"
            ]
        );
        assert_eq!(issued.not_after() - issued.not_before(), DAY);
        // What an EC key cannot have is left out, and that is said.
        let extensions = issued.extensions();
        assert_eq!(extensions.key_usages(), Ok(Some(KeyUsages::of(&[KeyUsage::DigitalSignature]))));
        assert_eq!(extensions.extended_key_usages(), Ok(None));
        assert!(!extensions.basic_constraints().unwrap().unwrap().ca);
        let record = record_of(&server, &answer).await;
        assert_eq!(record["droppedKeyUsages"], json!(["key_encipherment"]));
        assert_eq!(record["caId"], server.issuing_ca);
        assert_eq!(record["friendlyName"], "The web");
        assert_eq!(record["hasPrivateKey"], true);
        for member in ["profileId", "certificateTemplateId", "pkiSubscriberId", "renewBeforeDays"] {
            assert_eq!(record[member], Value::Null, "{member}");
        }
        // A host in the common name is an alternative name, as at every door.
        let plain = issue(&server, json!({})).await.ok();
        assert_eq!(names(&certificate(&plain)), ["DNS name www.example.com"]);
        // By the path it is the same.
        let path = format!("{FLAT}/{}/issue-certificate", server.issuing_ca);
        let body = json!({"commonName": "Device 7", "ttl": "36 hours", "keyUsages": ["digitalSignature", "nonRepudiation"],
            "extendedKeyUsages": ["clientAuth", "serverAuth", "clientAuth"]});
        let by_path = server.post(&path, body).await.ok();
        assert_eq!(members(&by_path), ISSUED);
        openssl_verifies(&by_path);
        let issued = certificate(&by_path);
        assert_eq!(names(&issued), [] as [&str; 0]);
        let usages = KeyUsages::of(&[KeyUsage::DigitalSignature, KeyUsage::NonRepudiation]);
        assert_eq!(issued.extensions().key_usages(), Ok(Some(usages)));
        let purposes = vec![ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ServerAuth];
        assert_eq!(issued.extensions().extended_key_usages(), Ok(Some(purposes)));
        // It is in the lists, it can be revoked, and nothing of it is out of place.
        assert_eq!(count(&server).await, 3);
        let revoke = format!("/api/v1/pki/certificates/{}/revoke", text(&by_path["serialNumber"]));
        server.post(&revoke, json!({"revocationReason": "SUPERSEDED"})).await.ok();
        server.at(10);
        server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
        assert_eq!(record_of(&server, &by_path).await["status"], "revoked");
        assert_eq!(findings(&server).await, [] as [&str; 0]);
        // It came from no profile, so there is nothing to renew it by.
        let renew = format!("{REQUEST}/{}/renew", text(&record["id"]));
        server.post(&renew, json!({})).await.refused(403, "ForbiddenError");
    });
}

#[test]
fn the_key_is_of_the_algorithm_of_the_authority() {
    for_each_engine(|server| async move {
        for (name, algorithm, signature) in
            [("rsa", "RSA_2048", "RSA-SHA256"), ("p384", "EC_secp384r1", "ECDSA-SHA384")]
        {
            let ca = text(&server.post(TYPED, typed_body("root", name, algorithm)).await.ok()["id"]);
            let answer = issue(&server, json!({"caId": ca})).await.ok();
            openssl_verifies(&answer);
            let issued = certificate(&answer);
            assert_eq!(issued.key_algorithm().unwrap().as_str(), algorithm);
            assert_eq!(issued.signature_algorithm().unwrap().as_str(), signature);
            // A root's chain is the root.
            assert_eq!(answer["certificateChain"], answer["issuingCaCertificate"]);
            let key = TestKey::generate();
            // Whatever a CSR was signed with, the authority signs as it can.
            let csr = Draft::named(&key, "www.example.com").pem(&key);
            let answer = server.post(SIGN, json!({"caId": ca, "csr": csr, "ttl": "1d"})).await.ok();
            openssl_verifies(&answer);
            assert_eq!(certificate(&answer).signature_algorithm().unwrap().as_str(), signature);
        }
        // Of an RSA key both usages are there.
        let rsa =
            text(&server.get(&format!("/api/v1/pki/ca/internal/rsa?projectId={}", server.project)).await.ok()["id"]);
        let usages = certificate(&issue(&server, json!({"caId": rsa})).await.ok()).extensions().key_usages();
        let both = KeyUsages::of(&[KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment]);
        assert_eq!(usages, Ok(Some(both)));
    });
}

#[test]
fn the_issuer_for_cert_manager_is_given_what_it_takes_apart() {
    for_each_engine(|server| async move {
        let (status, ..) = server.fetch("/api/status").await;
        assert_eq!(status, 200);
        let member = server.identity("no-access", Some("member")).await;
        let login = [("clientId", member.client_id.as_str()), ("clientSecret", member.client_secret.as_str())];
        let login = server.form("/api/v1/auth/universal-auth/login", &login).await.ok();
        let mut session = member.clone();
        session.token = text(&login["accessToken"]);
        let issuer = server.by(&session);
        let key = TestKey::generate();
        let csr = Draft::new(&key, &[])
            .with_hosts(&["a.example.com", "b.example.com"])
            .with_usages(&[KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment]);
        let under_root = first_root(&server).await;
        let sub = intermediate(&server, "sub", &under_root, 0).await;
        for (ca, ttl, seconds, blocks) in [
            (&server.issuing_ca, "90d", 90 * DAY, 2),
            (&server.issuing_ca, "3600s", 3600, 2),
            (&sub, "2160h0m0s", 0, 2),
            (&sub, "7776000s", 90 * DAY, 2),
            (&under_root, "90d", 90 * DAY, 1),
        ] {
            let answer = issuer.post(SIGN, json!({"caId": ca, "csr": csr.pem(&key), "ttl": ttl})).await;
            if seconds == 0 {
                assert_eq!(answer.issues(), ["ttl"]);
                continue;
            }
            let answer = answer.ok();
            assert_eq!(members(&answer), SIGNED);
            openssl_verifies(&answer);
            let signed = certificate(&answer);
            assert_eq!(signed.spki_der(), key.spki());
            assert_eq!(signed.not_after() - signed.not_before(), seconds);
            assert_eq!(names(&signed), ["DNS name a.example.com", "DNS name b.example.com"]);
            assert_eq!(signed.extensions().key_usages(), Ok(Some(KeyUsages::of(&[KeyUsage::DigitalSignature]))));
            // It reads block after block, and nothing may stand behind the last one.
            let chain = text(&answer["certificateChain"]);
            assert!(chain.ends_with("-----END CERTIFICATE-----"));
            let blocks_found = pem::decode_all(&chain, pem::CERTIFICATE).unwrap();
            assert_eq!(blocks_found.len(), blocks);
            let issuing = pem::decode_all(&text(&answer["issuingCaCertificate"]), pem::CERTIFICATE).unwrap();
            assert_eq!(issuing[0], blocks_found[0]);
        }
    });
}

#[test]
fn what_a_request_says_goes_before_what_its_csr_says() {
    for_each_engine(|server| async move {
        let key = TestKey::generate();
        let subject = [(AttributeType::Organization, "Acme"), (AttributeType::CommonName, "Device 7")];
        let plain = Draft::new(&key, &subject);
        let whole = plain
            .clone()
            .with_hosts(&["www.example.com"])
            .with_usages(&[KeyUsage::DigitalSignature, KeyUsage::KeyAgreement])
            .with_purposes(&[ExtendedKeyUsage::CodeSigning]);
        let usual = [KeyUsage::DigitalSignature];
        let own = [KeyUsage::DigitalSignature, KeyUsage::KeyAgreement];
        let purpose = |one: ExtendedKeyUsage| Some(vec![one]);
        for (draft, more, alt_names, key_usages, purposes) in [
            (&plain, json!({}), &[][..], &usual[..], None),
            (&whole, json!({}), &["DNS name www.example.com"], &own, purpose(ExtendedKeyUsage::CodeSigning)),
            (
                &whole,
                json!({"altNames": "a.example.com,b.example.com"}),
                &["DNS name a.example.com", "DNS name b.example.com"],
                &own,
                purpose(ExtendedKeyUsage::CodeSigning),
            ),
            (
                &whole,
                json!({"keyUsages": ["digitalSignature"], "extendedKeyUsages": ["clientAuth"], "commonName": "Other"}),
                &["DNS name www.example.com"],
                &usual,
                purpose(ExtendedKeyUsage::ClientAuth),
            ),
            (
                &whole,
                json!({"altNames": " "}),
                &["DNS name www.example.com"],
                &own,
                purpose(ExtendedKeyUsage::CodeSigning),
            ),
        ] {
            let mut body = json!({"csr": draft.pem(&key), "ttl": "1d"});
            merge(&mut body, more);
            let path = format!("{FLAT}/{}/sign-certificate", server.issuing_ca);
            let signed = certificate(&server.post(&path, body.clone()).await.ok());
            assert_eq!(signed.subject().render(), "O=Acme,CN=Device 7", "{body}");
            assert_eq!(names(&signed), alt_names, "{body}");
            assert_eq!(signed.extensions().key_usages(), Ok(Some(KeyUsages::of(key_usages))), "{body}");
            assert_eq!(signed.extensions().extended_key_usages(), Ok(purposes), "{body}");
        }
        // The subject is the CSR's, also where no policy could name its attributes.
        let bench = Bench::new();
        bench.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]);
        let subject = "/O=Acme/serialNumber=4711/emailAddress=ops@example.com/CN=www.example.com";
        bench.openssl(&["req", "-new", "-key", "key.pem", "-subj", subject, "-out", "csr.pem"]);
        let answer =
            server.post(SIGN, json!({"caId": server.issuing_ca, "csr": bench.read("csr.pem"), "ttl": "1d"})).await.ok();
        openssl_verifies(&answer);
        bench.write("leaf.pem", &text(&answer["certificate"]));
        let shown = bench.openssl(&["x509", "-in", "leaf.pem", "-noout", "-subject", "-nameopt", "RFC2253"]);
        assert!(shown.contains("CN=www.example.com,emailAddress=ops@example.com,serialNumber=4711,O=Acme"), "{shown}");
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn a_lifetime_is_counted_from_now_and_lies_within_the_authority() {
    for_each_engine(|server| async move {
        let start = server.start.seconds();
        let lifetime = |answer: Answer| {
            let issued = certificate(&answer.ok());
            (issued.not_before() - start, issued.not_after() - start)
        };
        for (more, expected) in [
            (json!({"ttl": "90s"}), (0, 90)),
            (json!({"ttl": "90000"}), (0, 90)),
            (json!({"ttl": "1d", "notBefore": server.time(3600)}), (3600, DAY)),
            (json!({"ttl": null, "notAfter": server.time(2 * DAY)}), (0, 2 * DAY)),
            (json!({"ttl": null, "notBefore": server.time(60), "notAfter": server.time(120)}), (60, 120)),
        ] {
            assert_eq!(lifetime(issue(&server, more.clone()).await), expected, "{more}");
        }
        for (more, says) in [
            (json!({"ttl": "50y"}), "after the certificate"),
            (json!({"ttl": "500"}), "at least one second"),
            (json!({"ttl": "1h", "notBefore": server.time(7200)}), "earlier than notAfter"),
            (json!({"ttl": "1d", "notBefore": server.time(-2 * DAY)}), "24 hours"),
            (json!({"ttl": null, "notAfter": server.time(-60)}), "earlier than notAfter"),
        ] {
            let refused = issue(&server, more.clone()).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(says), "{says}: {more} {refused}");
        }
    });
}

#[test]
fn a_request_has_the_shape_of_the_table() {
    for_each_engine(|server| async move {
        let ca = server.issuing_ca.as_str();
        for (body, issues) in [
            (json!({}), &["commonName"][..]),
            (json!({"commonName": "a"}), &["ttl", "caId.certificateTemplateId"]),
            (json!({"commonName": "a", "ttl": "1d"}), &["caId.certificateTemplateId"]),
            (
                json!({"commonName": "a", "ttl": "1d", "caId": "", "certificateTemplateId": ""}),
                &["caId.certificateTemplateId"],
            ),
            (
                json!({"commonName": "a", "ttl": "1d", "caId": ca, "certificateTemplateId": ca}),
                &["caId.certificateTemplateId"],
            ),
            (json!({"commonName": "a", "caId": ca}), &["ttl"]),
            (json!({"commonName": "a", "caId": ca, "ttl": "1d", "notAfter": "2099-01-01"}), &["ttl.notAfter"]),
            (json!({"commonName": "a", "caId": ca, "notBefore": "2099-01-02", "notAfter": "2099-01-01"}), &[""]),
            (json!({"commonName": "", "caId": ca, "ttl": "1d"}), &["commonName"]),
            (json!({"commonName": "a", "caId": ca, "ttl": "soon"}), &["ttl"]),
            (json!({"commonName": "a", "caId": ca, "ttl": "1d", "altNames": "a,not a name"}), &["altNames"]),
            (json!({"commonName": "a", "caId": ca, "ttl": "1d", "altNames": ["a"]}), &["altNames"]),
            (json!({"commonName": "a", "caId": ca, "ttl": "1d", "keyUsages": ["digital_signature"]}), &["keyUsages.0"]),
            (
                json!({"commonName": "a", "caId": ca, "ttl": "1d", "extendedKeyUsages": ["any"]}),
                &["extendedKeyUsages.0"],
            ),
        ] {
            assert_eq!(server.post(ISSUE, body.clone()).await.issues(), issues, "{body}");
        }
        assert_eq!(server.post(SIGN, json!({"caId": ca, "ttl": "1d"})).await.issues(), ["csr"]);
        let long = "a".repeat(4097);
        assert_eq!(server.post(SIGN, json!({"caId": ca, "ttl": "1d", "csr": long})).await.issues(), ["csr"]);
        let path = format!("{FLAT}/{ca}/issue-certificate");
        assert_eq!(server.post(&path, json!({})).await.issues(), ["commonName"]);
        assert_eq!(count(&server).await, 0);
    });
}

#[test]
fn what_no_certificate_may_be_is_refused() {
    for_each_engine(|server| async move {
        for (more, says) in [
            (json!({"commonName": "a".repeat(65)}), "longer than RFC 5280 allows"),
            (json!({"commonName": "evil.com "}), ""),
            (json!({"commonName": "*.com"}), "wildcard"),
            (json!({"keyUsages": ["keyCertSign"]}), "key_cert_sign"),
            (json!({"keyUsages": ["cRLSign"]}), "crl_sign"),
            (json!({"keyUsages": ["encipherOnly"]}), "encipher_only"),
            (json!({"extendedKeyUsages": ["timeStamping", "clientAuth"]}), "time_stamping"),
        ] {
            let answer = issue(&server, more.clone()).await;
            if says.is_empty() {
                // Blanks at the ends of a field are nobody's wish.
                answer.ok();
                continue;
            }
            let refused = answer.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(says), "{says}: {more} {refused}");
        }
        let (key, other) = (TestKey::generate(), TestKey::generate());
        let ca = |name: &str| Draft::named(&key, name);
        let constraints = crate::csr::written(|writer| {
            x509::BasicConstraints { ca: true, path_length: None }.encode(writer);
        });
        for (csr, says) in [
            ("nonsense".to_owned(), "csr"),
            (ca("www.example.com").pem(&other), "does not hold"),
            (Draft::new(&key, &[]).pem(&key), "at least one alternative name"),
            (ca("a").with(x509::oid::BASIC_CONSTRAINTS, Some(true), constraints).pem(&key), "isCA"),
            (ca("a").with(&[0x2a, 0x03], Some(true), vec![5, 0]).pem(&key), "critical"),
        ] {
            let body = json!({"caId": server.issuing_ca, "csr": csr, "ttl": "1d"});
            let refused = server.post(SIGN, body).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(says), "{says}: {refused}");
        }
        // A key that is in the wrong hands is certified by no door.
        let csr = ca("www.example.com").pem(&key);
        let body = json!({"caId": server.issuing_ca, "csr": csr, "ttl": "1d"});
        let first = server.post(SIGN, body.clone()).await.ok();
        let revoke = format!("/api/v1/pki/certificates/{}/revoke", text(&first["serialNumber"]));
        server.post(&revoke, json!({"revocationReason": "KEY_COMPROMISE"})).await.ok();
        let refused = server.post(SIGN, body).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("KEY_COMPROMISE"), "{refused}");
    });
}

#[test]
fn an_authority_that_does_not_issue_says_why() {
    for_each_engine(|server| async move {
        for id in [UNKNOWN, "no-uuid"] {
            issue(&server, json!({"caId": id})).await.refused(404, "NotFound");
            let path = format!("{FLAT}/{id}/issue-certificate");
            server.post(&path, json!({"commonName": "a", "ttl": "1d"})).await.refused(404, "NotFound");
        }
        issue(&server, json!({"caId": null, "certificateTemplateId": UNKNOWN})).await.refused(404, "NotFound");
        let pending = authority(&server, "intermediate", "pending").await;
        let refused = issue(&server, json!({"caId": pending})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("no certificate installed"), "{refused}");
        let path = format!("{FLAT}/{}", server.issuing_ca);
        for (change, back, says) in [
            (json!({"status": "disabled"}), json!({"status": "active"}), "disabled"),
            (
                json!({"requireTemplateForIssuance": true}),
                json!({"requireTemplateForIssuance": false}),
                "templates, subscribers and profiles only",
            ),
        ] {
            server.patch(&path, change).await.ok();
            let refused = issue(&server, json!({})).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(says), "{refused}");
            server.patch(&path, back).await.ok();
            issue(&server, json!({})).await.ok();
        }
        let root = json!({"name": "short", "configuration": {"type": "root", "commonName": "short",
            "keyAlgorithm": "EC_prime256v1", "notAfter": server.time(DAY)}});
        let short = text(&server.post(TYPED, root).await.ok()["id"]);
        server.at(2 * DAY);
        let refused = issue(&server, json!({"caId": short, "ttl": "60s"})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("expired"), "{refused}");
    });
}

#[test]
fn names_outside_of_the_constraints_of_an_authority_are_refused() {
    for_each_engine(|server| async move {
        let configuration = json!({
            "type": "root", "commonName": "Good names", "keyAlgorithm": "EC_prime256v1", "extendedKeyUsages": ["server_auth"],
            "nameConstraints": {"permitted": [{"type": "dns_name", "value": "good.example"}], "excluded": []},
        });
        let body = json!({"name": "good-names", "status": "active", "configuration": configuration});
        let ca = text(&server.post(TYPED, body).await.ok()["id"]);
        for (more, status) in [
            (json!({"commonName": "www.good.example"}), 200),
            (json!({"commonName": "www.evil.example"}), 400),
            (json!({"commonName": "Some Device", "altNames": "www.evil.example"}), 400),
            (json!({"commonName": "www.good.example", "extendedKeyUsages": ["serverAuth"]}), 200),
            (json!({"commonName": "www.good.example", "extendedKeyUsages": ["clientAuth"]}), 400),
        ] {
            let mut changes = json!({"caId": ca});
            merge(&mut changes, more.clone());
            let answer = issue(&server, changes).await;
            assert_eq!(answer.status, status, "{more}: {}", answer.body);
        }
    });
}

#[test]
fn who_may_create_certificates_issues_and_is_given_the_key() {
    for_each_engine(|server| async move {
        for role in ["viewer", "no-access"] {
            let other = server.by(&server.identity("no-access", Some(role)).await);
            issue(&other, json!({})).await.refused(403, "PermissionDenied");
        }
        let stranger = server.by(&server.identity("no-access", None).await);
        issue(&stranger, json!({})).await.refused(403, "ProjectMembershipNotFound");
        // A member reads no keys; the one that is made for it is given to it.
        let member = server.by(&server.identity("no-access", Some("member")).await);
        let answer = issue(&member, json!({})).await.ok();
        assert!(text(&answer["privateKey"]).contains("PRIVATE KEY"));
        let key = format!("/api/v1/pki/certificates/{}/private-key", text(&answer["serialNumber"]));
        member.get(&key).await.refused(403, "PermissionDenied");
        // A role with a condition is held to the names of what is made.
        let rules = json!([{"subject": "certificates", "action": "create",
            "conditions": {"commonName": {"$glob": "*.mine.example.com"}}}]);
        let role = json!({"slug": "mine", "name": "Mine", "permissions": rules});
        server.post(&format!("/api/v1/projects/{}/roles", server.project), role).await.ok();
        let mine = server.by(&server.identity("no-access", Some("mine")).await);
        issue(&mine, json!({"commonName": "a.mine.example.com"})).await.ok();
        issue(&mine, json!({"commonName": "a.theirs.example.com"})).await.refused(403, "PermissionDenied");
        let key = TestKey::generate();
        for (name, status) in [("b.mine.example.com", 200), ("b.theirs.example.com", 403)] {
            let body = json!({"caId": server.issuing_ca, "csr": Draft::named(&key, name).pem(&key), "ttl": "1d"});
            assert_eq!(mine.post(SIGN, body).await.status, status, "{name}");
        }
        // Another organisation does not know the authority.
        let other = server.other_organization().await;
        issue(&other, json!({})).await.refused(404, "NotFound");
        let path = format!("{FLAT}/{}/issue-certificate", server.issuing_ca);
        other.post(&path, json!({"commonName": "a", "ttl": "1d"})).await.refused(404, "NotFound");
    });
}

#[test]
fn a_repeated_request_gets_the_same_certificate_and_the_same_key() {
    for_each_engine(|server| async move {
        let member = server.by(&server.identity("no-access", Some("member")).await);
        let body = wanted(&server, json!({}));
        let first = member.post_once("k", ISSUE, &body).await;
        let again = member.post_once("k", ISSUE, &body).await;
        assert_eq!((first.status, &again.raw), (200, &first.raw), "{}", again.body);
        assert!(first.raw.contains("PRIVATE KEY"));
        let changed = wanted(&server, json!({"ttl": "2d"}));
        member.post_once("k", ISSUE, &changed).await.refused(409, "Conflict");
        // What the path names belongs to what is repeated.
        let root = first_root(&server).await;
        let at = |ca: &str| format!("{FLAT}/{ca}/issue-certificate");
        let body = json!({"commonName": "www.example.com", "ttl": "1d"});
        let first = member.post_once("p", &at(&server.issuing_ca), &body).await;
        assert_eq!(member.post_once("p", &at(&server.issuing_ca), &body).await.raw, first.raw);
        member.post_once("p", &at(&root), &body).await.refused(409, "Conflict");
        // Whoever may not issue any more is given nothing, and once the record is gone there is no key.
        let serial = text(&first.ok()["serialNumber"]);
        server.delete(&format!("/api/v1/pki/certificates/{serial}")).await.ok();
        let again = member.post_once("p", &at(&server.issuing_ca), &body).await.ok();
        assert_eq!((&again["serialNumber"], &again["privateKey"]), (&json!(serial), &Value::Null));
        let membership =
            format!("/api/v1/projects/{}/memberships/identities/{}", server.project, member.caller.identity);
        server.patch(&membership, json!({"roles": [{"role": "viewer"}]})).await.ok();
        member.post_once("p", &at(&server.issuing_ca), &body).await.refused(403, "PermissionDenied");
        assert_eq!(count(&server).await, 1);
    });
}
