//! `POST /api/v3/pki/certificates/issue-certificate` (contract §6.1, 6.2): its shape, its limits, the order of its checks,
//! and what the certificate says.

use crate::authorities::{DAY, TYPED, authority, first_root, intermediate};
use crate::issuing::{
    Bench, ISSUE, PROFILES, certificate, count, first_profile, issue, merge, names, open_policy, policy, profile,
    profile_with, wanted,
};
use crate::server::{Server, for_each_engine, members, text};
use serde_json::{Value, json};
use x509::extension::{AccessMethod, AuthorityInformationAccess};
use x509::{AttributeType, BasicConstraints, Certificate, ExtendedKeyUsage, KeyUsage, KeyUsages, oid, pem};

const UNKNOWN: &str = "0198c5a0-0000-7000-8000-000000000001";

#[test]
fn an_answer_has_the_members_of_the_contract_in_their_form() {
    for_each_engine(|server| async move {
        let web_server = first_profile(&server, "web-server").await;
        let answer = issue(&server, &web_server, json!({})).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["pragma"], "no-cache");
        let answer = answer.ok();
        let expected =
            ["certificate", "certificateChain", "certificateId", "issuingCaCertificate", "privateKey", "serialNumber"];
        assert_eq!(members(&answer), expected);
        for (member, label, blocks) in [
            ("certificate", "CERTIFICATE", 1),
            ("issuingCaCertificate", "CERTIFICATE", 1),
            ("certificateChain", "CERTIFICATE", 2),
            ("privateKey", "PRIVATE KEY", 1),
        ] {
            let shown = text(&answer[member]);
            let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
            assert!(shown.starts_with(&begin) && shown.ends_with(&end), "{member}: {shown}");
            assert_eq!(shown.matches("-----BEGIN").count(), blocks, "{member}");
            assert!(!shown.contains('\r') && !shown.contains("\n\n"), "{member}");
            let full = |line: &str| line.starts_with("-----") || line.len() == 64;
            let lines: Vec<&str> = shown.lines().collect();
            for (line, next) in lines.iter().zip(&lines[1..]) {
                assert!(full(line) || (line.len() < 64 && *next == end), "{member}: {line}");
            }
        }
        // The issuing authority first, then the root; the leaf is not in it.
        let chain = text(&answer["certificateChain"]);
        assert!(chain.starts_with(&text(&answer["issuingCaCertificate"])));
        let chain: Vec<Certificate> = pem::decode_all(&chain, pem::CERTIFICATE)
            .unwrap()
            .into_iter()
            .map(|der| Certificate::from_der(der).unwrap())
            .collect();
        assert_eq!(chain[0].subject().first(AttributeType::CommonName), Some("Chancery Issuing CA"));
        assert_eq!(chain[0].issuer(), chain[1].subject());
        assert_eq!(chain[1].issuer(), chain[1].subject());

        let issued = certificate(&answer);
        assert_eq!(issued.issuer(), chain[0].subject());
        let key = pem::decode_one(&text(&answer["privateKey"]), &[pem::PRIVATE_KEY]).unwrap();
        assert_eq!(keys::PrivateKey::from_pkcs8(&key).unwrap().public_spki_der(), issued.spki_der());
        let serial = text(&answer["serialNumber"]);
        assert!(serial.len() == 40 && serial.bytes().all(|digit| b"0123456789abcdef".contains(&digit)), "{serial}");
        assert_eq!(issued.serial_number().unwrap().to_hex(), serial);
        assert_eq!(issued.serial_content().len(), 20);
    });
}

#[test]
fn a_certificate_says_what_the_rules_of_production_say() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let asked = json!({"ttl": "36h", "keyUsages": ["digital_signature", "key_agreement"],
            "extendedKeyUsages": ["server_auth", "client_auth", "server_auth"],
            "altNames": [{"type": "ip_address", "value": "192.0.2.7"}, {"type": "dns_name", "value": "API.example.com"}]});
        let answer = issue(&server, &open, asked).await.ok();
        let issued = certificate(&answer);
        let issuer = Certificate::from_pem(&text(&answer["issuingCaCertificate"])).unwrap();
        assert_eq!(
            (issued.not_before(), issued.not_after()),
            (server.start.seconds(), server.start.seconds() + 129_600)
        );
        let extensions = issued.extensions();
        let critical = |oid: &[u8]| extensions.find(oid).map(|extension| extension.critical);
        let no_authority = BasicConstraints { ca: false, path_length: None };
        assert_eq!(extensions.basic_constraints(), Ok(Some(no_authority)));
        assert_eq!(critical(oid::BASIC_CONSTRAINTS), Some(false));
        let usages = KeyUsages::of(&[KeyUsage::DigitalSignature, KeyUsage::KeyAgreement]);
        assert_eq!((extensions.key_usages(), critical(oid::KEY_USAGE)), (Ok(Some(usages)), Some(true)));
        let purposes = vec![ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth];
        assert_eq!(extensions.extended_key_usages(), Ok(Some(purposes)));
        assert_eq!(critical(oid::EXTENDED_KEY_USAGE), Some(false));
        assert_eq!(names(&issued), ["IP address 192.0.2.7", "DNS name api.example.com", "DNS name www.example.com"]);
        assert_eq!(critical(oid::SUBJECT_ALT_NAME), Some(false));
        let own_key_id = x509::key::key_id_sha1(issued.spki_der()).unwrap();
        assert_eq!(extensions.subject_key_id(), Ok(Some(&own_key_id[..])));
        let issuer_key_id = issuer.extensions().subject_key_id().unwrap().unwrap().to_vec();
        assert_eq!(extensions.authority_key_id().unwrap().unwrap().key_id, Some(issuer_key_id));
        assert!(extensions.certificate_policies().unwrap().is_some());
        let lists = extensions.crl_distribution_points().unwrap().unwrap();
        let lists = format!("{lists:?}");
        assert!(lists.contains(&format!("{}/api/v1/pki/crl/", server.url)), "{lists}");
        let AuthorityInformationAccess { descriptions } = extensions.authority_information_access().unwrap().unwrap();
        assert_eq!(
            descriptions.iter().map(|place| place.method.clone()).collect::<Vec<_>>(),
            [AccessMethod::Ocsp, AccessMethod::CaIssuers]
        );
        assert!(issued.verify_signature(&issuer.verifying_key().unwrap()));
        // Every extension is one of those.
        assert_eq!(extensions.len(), 9);

        // Nothing is added that was not asked for.
        let plain = certificate(&issue(&server, &open, json!({})).await.ok());
        assert_eq!(plain.extensions().key_usages(), Ok(None));
        assert_eq!(plain.extensions().extended_key_usages(), Ok(None));
        assert_eq!(plain.extensions().len(), 7);
    });
}

#[test]
fn openssl_accepts_the_chain_and_the_key() {
    for_each_engine(|server| async move {
        let web_server = first_profile(&server, "web-server").await;
        let asked = json!({"keyUsages": ["digital_signature"], "extendedKeyUsages": ["server_auth"]});
        let answer = issue(&server, &web_server, asked).await.ok();
        let bench = Bench::new();
        for (file, member) in
            [("leaf.pem", "certificate"), ("chain.pem", "certificateChain"), ("key.pem", "privateKey")]
        {
            bench.write(file, &text(&answer[member]));
        }
        let chain = text(&answer["certificateChain"]);
        bench.write("root.pem", &chain[chain.rfind("-----BEGIN").unwrap()..]);
        let verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.example.com"];
        let files = ["-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"];
        assert!(bench.openssl(&[&verify[..], &files].concat()).contains("leaf.pem: OK"));
        let of_key = bench.openssl(&["pkey", "-in", "key.pem", "-pubout"]);
        assert_eq!(bench.openssl(&["x509", "-in", "leaf.pem", "-noout", "-pubkey"]), of_key);
        let serial = bench.openssl(&["x509", "-in", "leaf.pem", "-noout", "-serial"]);
        assert_eq!(serial.trim().to_lowercase(), format!("serial={}", text(&answer["serialNumber"])));
    });
}

#[test]
fn removing_the_root_drops_the_last_certificate_of_the_chain() {
    for_each_engine(|server| async move {
        let below = profile(&server, "below", json!({})).await;
        let root = first_root(&server).await;
        let policy = policy(&server, open_policy("at-the-root")).await;
        let at_root = profile_with(&server, "at-the-root", Some(&root), &policy, json!({})).await;
        let under_root = json!({"signatureAlgorithm": "ECDSA-SHA384"});
        for (yes, profile, changes, left) in [
            (json!(true), &below, json!({}), 1),
            (json!("true"), &below, json!({}), 1),
            (json!(false), &below, json!({}), 2),
            (json!("false"), &below, json!({}), 2),
            (json!(true), &at_root, under_root.clone(), 0),
            (json!(false), &at_root, under_root, 1),
        ] {
            let mut changes = changes;
            changes["removeRootsFromChain"] = yes.clone();
            let answer = issue(&server, profile, changes).await.ok();
            let chain = text(&answer["certificateChain"]);
            assert_eq!(chain.matches("-----BEGIN").count(), left, "{yes}");
            let issuing = text(&answer["issuingCaCertificate"]);
            // For a root as the issuer the chain is its certificate alone; without it the empty text.
            assert_eq!(chain, if left == 0 { String::new() } else { chain.clone() });
            assert!(left == 0 || chain.starts_with(&issuing));
            assert!(left != 1 || chain == issuing);
        }
    });
}

#[test]
fn a_private_key_is_given_only_to_whom_may_read_it() {
    for_each_engine(|server| async move {
        let web_server = first_profile(&server, "web-server").await;
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        let issue_only = json!({"subject": "certificate-profiles", "action": "issue-cert"});
        let read_key = |conditions: Value| json!([issue_only, {"subject": "certificates", "action": "read-private-key", "conditions": conditions}]);
        for (slug, permissions) in [
            ("no-key", json!([issue_only])),
            ("own-key", read_key(json!({"commonName": {"$glob": "*.example.com"}, "status": "active"}))),
            ("other-key", read_key(json!({"commonName": {"$eq": "other.example.com"}}))),
        ] {
            server.post(&roles, json!({"slug": slug, "name": slug, "permissions": permissions})).await.ok();
        }
        for (role, gets_key) in
            [("admin", true), ("issuer", true), ("no-key", false), ("own-key", true), ("other-key", false)]
        {
            let caller = server.by(&server.identity("no-access", Some(role)).await);
            let answer = issue(&caller, &web_server, json!({})).await;
            let says_no_store = answer.headers.contains_key("cache-control");
            assert_eq!((answer.raw.contains("PRIVATE KEY"), says_no_store), (gets_key, gets_key), "{role}");
            let answer = answer.ok();
            assert_eq!(answer.get("privateKey").is_some(), gets_key, "{role}");
            // It is kept all the same.
            let one = format!("/api/v1/cert-manager/certificates/{}/private-key", text(&answer["certificateId"]));
            assert!(server.get(&one).await.raw.starts_with("-----BEGIN PRIVATE KEY-----"), "{role}");
            assert_eq!(caller.get(&one).await.status, if gets_key { 200 } else { 403 }, "{role}");
        }
        for role in ["member", "viewer"] {
            let caller = server.by(&server.identity("no-access", Some(role)).await);
            let refused = issue(&caller, &web_server, json!({})).await.refused(403, "PermissionDenied");
            assert!(refused["details"].is_array(), "{refused}");
        }
    });
}

#[test]
fn fields_have_their_forms_and_limits() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let empty = server.post(ISSUE, json!({})).await.issues();
        assert_eq!(empty, ["profileId", "ttl", "signatureAlgorithm", "keyAlgorithm"]);
        for (changes, issues) in [
            (json!({"profileId": "x"}), vec!["profileId"]),
            (json!({"commonName": ""}), vec!["commonName"]),
            (json!({"commonName": "a".repeat(101)}), vec!["commonName"]),
            (json!({"commonName": "a_b"}), vec!["commonName"]),
            (json!({"commonName": "a,b"}), vec!["commonName"]),
            (json!({"commonName": "O'Neill"}), vec!["commonName"]),
            (json!({"commonName": "bücher.example"}), vec!["commonName"]),
            (json!({"ttl": ""}), vec!["ttl"]),
            (json!({"ttl": " "}), vec!["ttl"]),
            (json!({"ttl": "0"}), vec!["ttl"]),
            (json!({"ttl": "0d"}), vec!["ttl"]),
            (json!({"ttl": "-1d"}), vec!["ttl"]),
            (json!({"ttl": "soon"}), vec!["ttl"]),
            (json!({"ttl": "1 fortnight"}), vec!["ttl"]),
            (json!({"ttl": format!("{}d", "0".repeat(99) + "1")}), vec!["ttl"]),
            (json!({"ttl": 90}), vec!["ttl"]),
            (json!({"keyUsages": ["digitalSignature"]}), vec!["keyUsages.0"]),
            (json!({"extendedKeyUsages": ["server_auth", "any"]}), vec!["extendedKeyUsages.1"]),
            (json!({"altNames": [{"type": "dns", "value": "a"}]}), vec!["altNames.0.type"]),
            (
                json!({"altNames": [{"type": "uri", "value": ""}, {"type": "uri"}]}),
                vec!["altNames.0.value", "altNames.1.value"],
            ),
            (json!({"altNames": "www.example.com"}), vec!["altNames"]),
            (json!({"signatureAlgorithm": "RSA-SHA1"}), vec!["signatureAlgorithm"]),
            (json!({"keyAlgorithm": "RSA_1024"}), vec!["keyAlgorithm"]),
            (json!({"notBefore": "yesterday"}), vec!["notBefore"]),
            (json!({"removeRootsFromChain": "yes"}), vec!["removeRootsFromChain"]),
            // A ttl and dates exclude each other, and that is said of the whole.
            (json!({"notBefore": "2026-01-01"}), vec![""]),
            (json!({"notAfter": "2026-01-01T00:00:00Z"}), vec![""]),
            (json!({"notBefore": "2026-01-02", "notAfter": "2026-01-01"}), vec![""]),
        ] {
            let answer = issue(&server, &open, changes.clone()).await;
            let mut found = answer.issues();
            // A text that is too short or too long may break its other rule too.
            found.dedup();
            assert_eq!(found, issues, "{changes}");
        }
        issue(&server, &open, json!({"commonName": "a\u{0}b"})).await.refused(400, "BadRequest");
        let long = issue(&server, &open, json!({"commonName": "a".repeat(65)})).await.refused(400, "BadRequest");
        assert!(text(&long["message"]).contains("longer"), "{long}");
        assert_eq!(count(&server).await, 0);
        let longest = issue(&server, &open, json!({"commonName": "a".repeat(64), "altNames": []})).await;
        // 64 letters are no DNS label, so that this is a name of another kind.
        assert_eq!(names(&certificate(&longest.ok())), [""; 0]);
        let trimmed = json!({"commonName": " www.example.com ", "unknown": {"a": 1}, "ttl": " 1d "});
        let trimmed = certificate(&issue(&server, &open, trimmed).await.ok());
        assert_eq!(trimmed.subject().first(AttributeType::CommonName), Some("www.example.com"));
    });
}

#[test]
fn a_lifetime_is_what_its_text_says() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for (ttl, seconds) in [
            ("90d", 90 * DAY),
            ("1m", 60),
            ("36 hours", 36 * 3600),
            ("1.5h", 5400),
            ("90s", 90),
            ("1w", 7 * DAY),
            ("60000", 60),
            ("1500", 1),
            ("1y", 31_557_600),
            ("1d", DAY),
            ("2 mins", 120),
        ] {
            let issued = certificate(&issue(&server, &open, json!({"ttl": ttl})).await.ok());
            assert_eq!(issued.not_before(), server.start.seconds(), "{ttl}");
            assert_eq!(issued.not_after() - issued.not_before(), seconds, "{ttl}");
        }
        issue(&server, &open, json!({"ttl": "999ms"})).await.refused(400, "BadRequest");

        // The limit of a policy is kept to the second.
        let short = profile(&server, "short", json!({"validity": {"max": "1d"}})).await;
        issue(&server, &short, json!({"ttl": "24h"})).await.ok();
        issue(&server, &short, json!({"ttl": "86401s"})).await.refused(400, "BadRequest");
        let months = profile(&server, "months", json!({"validity": {"max": "1m"}})).await;
        issue(&server, &months, json!({"ttl": "30d"})).await.ok();
        issue(&server, &months, json!({"ttl": "721h"})).await.refused(400, "BadRequest");
    });
}

/// Issues, and expects a refusal whose message holds a text.
async fn check_refused(server: &Server, profile: &str, changes: Value, status: u16, error: &str, says: &str) {
    let refused = issue(server, profile, changes).await.refused(status, error);
    assert!(text(&refused["message"]).contains(says), "{refused}");
}

#[test]
fn refusals_come_in_the_order_of_the_contract() {
    for_each_engine(|server| async move {
        let narrow = json!({"subject": [{"type": "common_name", "allowed": ["*.example.com"]}], "sans": null});
        let pending = authority(&server, "intermediate", "pending").await;
        let policy = policy(&server, {
            let mut body = open_policy("narrow");
            merge(&mut body, narrow);
            body
        })
        .await;
        let on_pending = profile_with(&server, "on-pending", Some(&pending), &policy, json!({})).await;
        let est = json!({"enrollmentType": "est", "estConfig": {"passphrase": "secret"}});
        let by_est = profile_with(&server, "by-est", Some(&pending), &policy, est).await;
        let stranger = server.by(&server.identity("no-access", None).await);
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        let other = server.other_organization().await;
        let against = json!({"commonName": "www.example.org"});

        check_refused(&stranger, UNKNOWN, json!({}), 404, "NotFound", "profile").await;
        check_refused(&other, &on_pending, json!({}), 404, "NotFound", "profile").await;
        check_refused(&stranger, &by_est, json!({}), 403, "ForbiddenError", "est").await;
        check_refused(&stranger, &on_pending, json!({}), 403, "ProjectMembershipNotFound", "member").await;
        check_refused(&viewer, &on_pending, against.clone(), 403, "PermissionDenied", "issue-cert").await;
        // The policy comes before the authority.
        check_refused(&server, &on_pending, against, 400, "BadRequest", "www.example.org").await;
        check_refused(&server, &on_pending, json!({}), 400, "BadRequest", "no certificate").await;

        let root = first_root(&server).await;
        let id = intermediate(&server, "short-lived", &root, 0).await;
        let on_short = profile_with(&server, "on-short", Some(&id), &policy, json!({})).await;
        issue(&server, &on_short, json!({})).await.ok();
        check_refused(&server, &on_short, json!({"ttl": "366d"}), 400, "BadRequest", "end after").await;
        let rsa = json!({"signatureAlgorithm": "RSA-SHA256"});
        check_refused(&server, &on_short, rsa.clone(), 400, "BadRequest", "RSA-SHA256").await;
        // The window comes before the family of the signature.
        check_refused(
            &server,
            &on_short,
            json!({"ttl": "366d", "signatureAlgorithm": "RSA-SHA256"}),
            400,
            "BadRequest",
            "end after",
        )
        .await;
        // The key may be of another family than the signature.
        issue(&server, &on_short, json!({"keyAlgorithm": "Ed25519"})).await.ok();
        server.patch(&format!("{TYPED}/{id}"), json!({"status": "disabled"})).await.ok();
        check_refused(&server, &on_short, rsa, 400, "BadRequest", "disabled").await;
        server.patch(&format!("{TYPED}/{id}"), json!({"status": "active"})).await.ok();
        issue(&server, &on_short, json!({})).await.ok();
        assert_eq!(count(&server).await, 3);
    });
}

#[test]
fn an_authority_signs_within_its_own_lifetime_to_the_second() {
    for_each_engine(|server| async move {
        let root = first_root(&server).await;
        let id = authority(&server, "intermediate", "brief").await;
        let window = json!({"notBefore": server.time(0), "notAfter": server.time(3600), "parentCaId": root});
        server.post(&format!("{TYPED}/{id}/certificate"), window).await.ok();
        let policy = policy(&server, open_policy("brief")).await;
        let brief = profile_with(&server, "brief", Some(&id), &policy, json!({})).await;
        let issued = certificate(&issue(&server, &brief, json!({"ttl": "1h"})).await.ok());
        assert_eq!(issued.not_after(), server.start.seconds() + 3600);
        check_refused(&server, &brief, json!({"ttl": "3601s"}), 400, "BadRequest", "end after").await;
        server.at(3598);
        issue(&server, &brief, json!({"ttl": "2s"})).await.ok();
        // In its last second it is valid still, and nothing can be issued that ends in it.
        server.at(3600);
        check_refused(&server, &brief, json!({"ttl": "1s"}), 400, "BadRequest", "end after").await;
        server.at(3601);
        check_refused(&server, &brief, json!({"ttl": "1s"}), 400, "BadRequest", "expired").await;
    });
}

#[test]
fn every_violation_of_a_policy_is_named_in_one_answer() {
    for_each_engine(|server| async move {
        let narrow = profile(
            &server,
            "narrow",
            json!({
                "subject": [{"type": "common_name", "allowed": ["*.example.com"]}],
                "sans": [{"type": "dns_name", "allowed": ["*.example.com"], "denied": ["db.example.com"]}],
                "keyUsages": {"required": ["digital_signature"]},
                "extendedKeyUsages": {"allowed": ["server_auth"]},
                "algorithms": {"signature": ["ECDSA-SHA384"], "keyAlgorithm": ["EC_secp384r1"]},
                "validity": {"max": "1h"},
            }),
        )
        .await;
        let asked = json!({"commonName": "Mallory", "ttl": "2h", "keyUsages": ["crl_sign"],
            "extendedKeyUsages": ["code_signing"], "altNames": [
                {"type": "dns_name", "value": "db.example.com"}, {"type": "dns_name", "value": "www.example.org"},
                {"type": "ip_address", "value": "192.0.2.1"}]});
        let refused = issue(&server, &narrow, asked).await.refused(400, "BadRequest");
        let message = text(&refused["message"]);
        for said in [
            "narrow",
            "\"Mallory\" is not allowed",
            "\"db.example.com\" is denied",
            "\"www.example.org\" is not allowed",
            "no rule for ip_address",
            "requires the key usage digital_signature",
            "key usage crl_sign is not allowed",
            "crl_sign belongs to certificates of authorities",
            "extended key usage code_signing is not allowed",
            "signature algorithm ECDSA-SHA256 is not allowed",
            "key algorithm EC_prime256v1 is not allowed",
            "at most 1 hour, 2 hours were asked",
        ] {
            assert!(message.contains(said), "{said}: {message}");
        }
        assert_eq!(count(&server).await, 0);
    });
}

#[test]
fn a_common_name_that_is_a_host_does_not_hide_from_the_rules_for_alternative_names() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let any_name = json!([{"type": "common_name", "allowed": ["*"]}]);
        let dns_rule = json!([{"type": "dns_name", "allowed": ["*.example.com"]}]);
        let strict = profile(&server, "strict", json!({"subject": any_name, "sans": dns_rule})).await;
        let no_sans = profile(&server, "no-sans", json!({"subject": any_name, "sans": null})).await;
        let sent = json!([{"type": "dns_name", "value": "www.example.com"}]);
        for (profile, common_name, alt_names, expected) in [
            (&open, "WWW.Example.com", json!([]), vec!["DNS name www.example.com"]),
            (&open, "www.example.com", sent.clone(), vec!["DNS name www.example.com"]),
            (&open, "api.example.com", sent.clone(), vec!["DNS name www.example.com", "DNS name api.example.com"]),
            (&open, "*.example.com", json!([]), vec!["DNS name *.example.com"]),
            (&open, "192.0.2.7", json!([]), vec!["IP address 192.0.2.7"]),
            (&open, "Device 7", json!([]), vec![]),
            (&open, "alice@example.com", json!([]), vec![]),
            (&strict, "a.example.com", json!([]), vec!["DNS name a.example.com"]),
            // No rule for addresses: the certificate keeps the common name alone.
            (&strict, "192.0.2.7", json!([]), vec![]),
            (&no_sans, "www.example.com", json!([]), vec![]),
        ] {
            let answer = issue(&server, profile, json!({"commonName": common_name, "altNames": alt_names})).await.ok();
            let issued = certificate(&answer);
            assert_eq!(names(&issued), expected, "{common_name}");
            assert_eq!(issued.subject().first(AttributeType::CommonName), Some(common_name));
        }
        let hidden = json!({"commonName": "www.example.org"});
        check_refused(&server, &strict, hidden, 400, "BadRequest", "dns_name \"www.example.org\"").await;
        check_refused(&server, &open, json!({"commonName": null}), 400, "BadRequest", "at least one").await;

        // Without a subject the alternative names are critical.
        let nameless = json!({"commonName": null, "altNames": [{"type": "email", "value": "alice@example.com"}]});
        let answer = issue(&server, &open, nameless).await.ok();
        let issued = certificate(&answer);
        assert!(issued.subject().is_empty());
        assert!(issued.extensions().find(oid::SUBJECT_ALT_NAME).unwrap().critical);
        let shown = server.get(&format!("/api/v1/pki/certificates/{}", text(&answer["serialNumber"]))).await.ok();
        assert_eq!(shown["certificate"]["commonName"], "");
        assert_eq!(shown["certificate"]["friendlyName"], "Certificate");
    });
}

/// Names that no certificate may carry as a host (invariants C1 to C5).
pub const BAD_HOSTS: &[&str] = &[
    "a\u{0}b.example.com",
    "a\nb.example.com",
    "DNS:a.example.com,DNS:b.example.com",
    "email:copy",
    "dirName:section",
    "otherName:1.2.3;UTF8:x",
    "a.example.com,b.example.com",
    "a/b.example.com",
    "a\"b.example.com",
    "a;b.example.com",
    "http://a.example.com",
    "a.example.com:443",
    "a@example.com",
    "a\u{202e}b.example.com",
    "\u{2024}",
    "-a.example.com",
    "a-.example.com",
    "a..example.com",
    ".example.com",
    "example.com.",
    "a b.example.com",
    "a\tb.example.com",
    "a_b.example.com",
    "*",
    "*.com",
    "a*.example.com",
    "*a.example.com",
    "*.*.example.com",
    "a.*.example.com",
    "xn--*.example.com",
    "1.2.3.4",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "[::1]",
    "fe80::1%25eth0",
    "xn--example-.org",
    "org.xn--",
    "xn--",
    "u\u{308}.example",
    "ＥＸＡＭＰＬＥ.com",
    "a\u{3002}b",
    "ab--cd.example",
];

#[test]
fn alternative_names_are_typed_and_keep_the_rules_of_their_type() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let label = |length: usize| format!("{}.example.com", "a".repeat(length));
        let name = |length: usize| {
            let labels = format!("{}.", "a".repeat(63)).repeat(3);
            format!("{labels}{}", "b".repeat(length - labels.len()))
        };
        for (kind, value, expected) in [
            ("dns_name", "WWW.Example.COM", "DNS name www.example.com"),
            ("dns_name", "bücher.example", "DNS name xn--bcher-kva.example"),
            ("dns_name", "XN--BCHER-KVA.example", "DNS name xn--bcher-kva.example"),
            ("dns_name", "*.example.com", "DNS name *.example.com"),
            ("dns_name", "localhost", "DNS name localhost"),
            ("dns_name", &label(63), &format!("DNS name {}", label(63))),
            ("dns_name", &name(253), &format!("DNS name {}", name(253))),
            ("ip_address", "192.0.2.7", "IP address 192.0.2.7"),
            ("ip_address", "2001:DB8:0:0::1", "IP address 2001:db8::1"),
            ("ip_address", "::ffff:192.0.2.7", "IP address 192.0.2.7"),
            ("email", "Alice@Example.COM", "e-mail address Alice@example.com"),
            ("uri", "spiffe://example.org/ns/a", "URI spiffe://example.org/ns/a"),
            ("uri", "https://192.0.2.7:8443/x?y=z#f", "URI https://192.0.2.7:8443/x?y=z#f"),
            (
                "uri",
                "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
                "URI urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            ),
        ] {
            let asked = json!({"commonName": null, "altNames": [{"type": kind, "value": value}]});
            assert_eq!(names(&certificate(&issue(&server, &open, asked).await.ok())), [expected], "{value}");
        }
        let before = count(&server).await;
        let (long_label, long_name) = (label(64), name(254));
        let hosts = BAD_HOSTS.iter().copied().chain([long_label.as_str(), &long_name]).map(|value| ("dns_name", value));
        let others = [
            ("dns_name", "https://www.example.com"),
            ("dns_name", "alice@example.com"),
            ("ip_address", "www.example.com"),
            ("ip_address", "192.0.2.07"),
            ("ip_address", "192.0.2"),
            ("ip_address", "192.0.2.0/24"),
            ("ip_address", "fe80::1%eth0"),
            ("ip_address", "[::1]"),
            ("email", "www.example.com"),
            ("email", "a@b@example.com"),
            ("email", "@example.com"),
            ("email", "alice@"),
            ("email", "Alice <alice@example.com>"),
            ("email", "alice@*.example.com"),
            ("uri", "www.example.com"),
            ("uri", "//example.com/x"),
            ("uri", "https://"),
            ("uri", "https://0x7f.1/"),
            ("uri", "https://example.com/a b"),
            ("uri", "/a/b"),
        ];
        for (kind, value) in hosts.chain(others) {
            let good = json!({"type": "dns_name", "value": "www.example.com"});
            let asked = json!({"altNames": [good, {"type": kind, "value": value}]});
            let refused = issue(&server, &open, asked).await;
            assert_eq!(refused.status, 400, "{kind} {value:?}: {}", refused.body);
        }
        // Each name that is wrong is named.
        let asked = json!({"altNames": [{"type": "ip_address", "value": "x"}, {"type": "email", "value": "y"}]});
        let refused = issue(&server, &open, asked).await.refused(400, "BadRequest");
        let message = text(&refused["message"]);
        assert!(message.contains("\"x\"") && message.contains("\"y\""), "{message}");
        // As a common name each is refused too, unless it is an address, or no host to anybody.
        for value in BAD_HOSTS {
            let answer = issue(&server, &open, json!({"commonName": value})).await;
            let expected: &[u16] = match *value {
                "1.2.3.4" | "a@example.com" | "a b.example.com" | "2130706433" => &[200],
                _ => &[400, 422],
            };
            assert!(expected.contains(&answer.status), "{value:?}: {}", answer.body);
        }
        assert_eq!(count(&server).await, before + 4);
    });
}

#[test]
fn a_wildcard_takes_a_pattern_that_says_so() {
    for_each_engine(|server| async move {
        let rules = |pattern: &str| {
            json!({"subject": [{"type": "common_name", "allowed": [pattern]}],
                "sans": [{"type": "dns_name", "allowed": [pattern]}]})
        };
        let one = profile(&server, "one", rules("www.example.com")).await;
        let all = profile(&server, "all", rules("*.example.com")).await;
        check_refused(&server, &one, json!({"commonName": "*.example.com"}), 400, "BadRequest", "not allowed").await;
        issue(&server, &all, json!({"commonName": "*.example.com"})).await.ok();
        // A glob takes any run of characters, and a wildcard only where the pattern has it at the same place.
        issue(&server, &all, json!({"commonName": "a.b.example.com"})).await.ok();
        check_refused(&server, &all, json!({"commonName": "*.b.example.com"}), 400, "BadRequest", "not allowed").await;
    });
}

#[test]
fn usages_that_the_key_cannot_have_are_left_out_and_that_is_said() {
    for_each_engine(|server| async move {
        let web_server = first_profile(&server, "web-server").await;
        let asked = json!({"keyUsages": ["digital_signature", "key_encipherment"]});
        let answer = issue(&server, &web_server, asked.clone()).await.ok();
        let only = KeyUsages::of(&[KeyUsage::DigitalSignature]);
        assert_eq!(certificate(&answer).extensions().key_usages(), Ok(Some(only)));
        let shown = server.get(&format!("/api/v1/cert-manager/certificates/{}", text(&answer["certificateId"]))).await;
        let shown = shown.ok();
        assert_eq!(shown["certificate"]["droppedKeyUsages"], json!(["key_encipherment"]));
        assert_eq!(shown["certificate"]["keyUsages"], json!(["digitalSignature"]));
        let audited = services::fsck::audit_records(&server.services.db, 1).await.unwrap().remove(0);
        assert_eq!(
            (audited.event.as_str(), &audited.object_id),
            ("certificate-issued", &answer["certificateId"].as_str().map(str::to_owned))
        );
        assert_eq!(audited.detail["droppedKeyUsages"], json!(["key_encipherment"]));
        assert_eq!(audited.detail["serialNumber"], answer["serialNumber"]);

        // What is dropped is not judged; what a policy requires and the key cannot have is refused.
        let denied = json!({"keyUsages": {"allowed": ["digital_signature"], "denied": ["key_encipherment"]}});
        let denying = profile(&server, "denying", denied).await;
        issue(&server, &denying, asked.clone()).await.ok();
        let requiring = profile(&server, "requiring", json!({"keyUsages": {"required": ["key_encipherment"]}})).await;
        let asked = json!({"keyUsages": ["key_encipherment"]});
        check_refused(&server, &requiring, asked, 400, "BadRequest", "RFC 8813").await;

        // With an RSA key it stays.
        let asked = json!({"keyUsages": ["key_encipherment"], "keyAlgorithm": "RSA_2048"});
        let answer = issue(&server, &requiring, asked).await.ok();
        let only = KeyUsages::of(&[KeyUsage::KeyEncipherment]);
        assert_eq!(certificate(&answer).extensions().key_usages(), Ok(Some(only)));
        let shown = server.get(&format!("/api/v1/pki/certificates/{}", text(&answer["serialNumber"]))).await.ok();
        assert_eq!(shown["certificate"].get("droppedKeyUsages"), None);
    });
}

#[test]
fn usages_fit_each_other_and_the_key() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for (usages, key, says) in [
            (json!(["key_cert_sign"]), "EC_prime256v1", "belongs to certificates of authorities"),
            (json!(["crl_sign"]), "EC_prime256v1", "belongs to certificates of authorities"),
            (json!(["encipher_only"]), "EC_prime256v1", "without key_agreement"),
            (json!(["decipher_only", "digital_signature"]), "EC_prime256v1", "without key_agreement"),
            (json!(["key_agreement", "encipher_only", "decipher_only"]), "EC_prime256v1", "exclude each other"),
            (json!(["key_agreement"]), "Ed25519", "not one of an RSA or Ed25519 key"),
            (json!(["key_agreement"]), "RSA_2048", "not one of an RSA or Ed25519 key"),
        ] {
            let asked = json!({"keyUsages": usages, "keyAlgorithm": key});
            check_refused(&server, &open, asked, 400, "BadRequest", says).await;
        }
        for usages in [json!(["key_agreement", "encipher_only"]), json!(["non_repudiation"]), json!([])] {
            issue(&server, &open, json!({"keyUsages": usages})).await.ok();
        }
        issue(&server, &open, json!({"keyUsages": ["digital_signature"], "keyAlgorithm": "Ed25519"})).await.ok();
        // RFC 3161 §2.3: a time-stamping authority does nothing else. What is named twice is named once.
        let both = json!({"extendedKeyUsages": ["time_stamping", "server_auth"]});
        check_refused(&server, &open, both, 400, "BadRequest", "time_stamping stands alone").await;
        let twice = json!({"extendedKeyUsages": ["time_stamping", "time_stamping"]});
        let issued = certificate(&issue(&server, &open, twice).await.ok());
        assert_eq!(issued.extensions().extended_key_usages(), Ok(Some(vec![ExtendedKeyUsage::TimeStamping])));
    });
}

#[test]
fn a_self_signed_profile_signs_with_the_new_key() {
    for_each_engine(|server| async move {
        let policy = policy(&server, open_policy("alone")).await;
        let alone = profile_with(&server, "alone", None, &policy, json!({})).await;
        let asked = json!({"keyUsages": ["digital_signature"], "extendedKeyUsages": ["server_auth"],
            "altNames": [{"type": "dns_name", "value": "www.example.com"}]});
        let answer = issue(&server, &alone, asked).await.ok();
        assert_eq!(answer["issuingCaCertificate"], "");
        assert_eq!(answer["certificateChain"], answer["certificate"]);
        let issued = certificate(&answer);
        assert_eq!(issued.issuer(), issued.subject());
        assert!(issued.verify_signature(&issued.verifying_key().unwrap()));
        let extensions = issued.extensions();
        assert!(!extensions.basic_constraints().unwrap().unwrap().ca);
        for oid in [oid::CRL_DISTRIBUTION_POINTS, oid::AUTHORITY_INFORMATION_ACCESS] {
            assert!(extensions.find(oid).is_none());
        }
        for (oid, critical) in
            [(oid::KEY_USAGE, true), (oid::EXTENDED_KEY_USAGE, false), (oid::SUBJECT_ALT_NAME, false)]
        {
            assert_eq!(extensions.find(oid).unwrap().critical, critical);
        }
        let shown = server.get(&format!("/api/v1/pki/certificates/{}", text(&answer["serialNumber"]))).await.ok();
        assert_eq!((&shown["certificate"]["caId"], &shown["certificate"]["caCertId"]), (&Value::Null, &Value::Null));

        let mixed = json!({"signatureAlgorithm": "RSA-SHA256"});
        check_refused(&server, &alone, mixed, 400, "BadRequest", "does not fit").await;
        // RFC 5280 §4.1.2.4: who issues has a name.
        let nameless = json!({"commonName": null, "altNames": [{"type": "dns_name", "value": "www.example.com"}]});
        check_refused(&server, &alone, nameless, 400, "BadRequest", "needs a subject").await;
        let bare = json!({"altNames": [{"type": "ip_address", "value": "192.0.2.7"}], "removeRootsFromChain": true});
        assert_eq!(issue(&server, &alone, bare).await.ok()["certificateChain"], "");
    });
}

#[test]
fn the_name_constraints_of_the_chain_hold_at_issuance() {
    for_each_engine(|server| async move {
        let constraints = json!({
            "permitted": [{"type": "dns_name", "value": "example.com"}, {"type": "ip_address", "value": "192.0.2.0/24"},
                {"type": "email", "value": "example.com"}, {"type": "uri", "value": ".example.com"}],
            "excluded": [{"type": "dns_name", "value": "secret.example.com"}],
        });
        let root = json!({"name": "fenced-root", "configuration": {"type": "root", "commonName": "Fenced Root",
            "keyAlgorithm": "EC_prime256v1", "nameConstraints": constraints}});
        let root = text(&server.post(TYPED, root).await.ok()["id"]);
        let policy = policy(&server, open_policy("fenced")).await;
        // The constraints of the root hold below an authority that has none itself.
        let below = intermediate(&server, "fenced-issuing", &root, 0).await;
        for (slug, ca) in [("at-root", &root), ("below-root", &below)] {
            let fenced = profile_with(&server, slug, Some(ca), &policy, json!({})).await;
            for (kind, value, is_allowed) in [
                ("dns_name", "www.example.com", true),
                ("dns_name", "example.com", true),
                ("dns_name", "*.example.com", false),
                ("dns_name", "a.secret.example.com", false),
                ("dns_name", "www.example.org", false),
                ("dns_name", "badexample.com", false),
                ("ip_address", "192.0.2.200", true),
                ("ip_address", "::ffff:192.0.2.200", true),
                ("ip_address", "192.0.3.1", false),
                ("ip_address", "2001:db8::1", false),
                ("email", "alice@EXAMPLE.com", true),
                ("email", "alice@www.example.com", false),
                ("uri", "https://www.example.com/x", true),
                ("uri", "https://example.org/x", false),
                ("uri", "urn:example:a", false),
            ] {
                let asked = json!({"commonName": null, "altNames": [{"type": kind, "value": value}]});
                let answer = issue(&server, &fenced, asked).await;
                assert_eq!(answer.status, if is_allowed { 200 } else { 400 }, "{slug} {value}: {}", answer.body);
                assert!(is_allowed || text(&answer.body["message"]).contains("name constraints"), "{}", answer.body);
            }
            // Through the common name too, which becomes an alternative name.
            let hidden = json!({"commonName": "www.example.org"});
            check_refused(&server, &fenced, hidden, 400, "BadRequest", "name constraints").await;
        }
    });
}

#[test]
fn a_profile_that_was_deleted_or_moved_to_another_enrollment_issues_nothing() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        issue(&server, &open, json!({})).await.ok();
        server.delete(&format!("{PROFILES}/{open}")).await.ok();
        issue(&server, &open, json!({})).await.refused(404, "NotFound");
    });
}

#[test]
fn serial_numbers_are_random_and_of_one_length() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let mut serials = std::collections::HashSet::new();
        let mut ones = [0; 160];
        const COUNT: usize = 200;
        for _ in 0..COUNT {
            let issued = certificate(&issue(&server, &open, json!({})).await.ok());
            let content = issued.serial_content().to_vec();
            assert_eq!(content.len(), 20);
            assert!(content[0] > 0 && content[0] < 0x80, "{content:02x?}");
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += usize::from(content[bit / 8] >> (7 - bit % 8) & 1);
            }
            assert!(serials.insert(content));
        }
        assert_eq!(ones[0], 0);
        // Each other bit is as often set as not: six standard deviations, which one run in a million misses.
        for (bit, ones) in ones.iter().enumerate().skip(1) {
            assert!(ones.abs_diff(COUNT / 2) < 43, "bit {bit} is set {ones} times of {COUNT}");
        }
    });
}

#[test]
fn a_request_is_for_wanted_names_only() {
    // The helper of these tests says what it means.
    let mut body = wanted("x", json!({"commonName": null, "ttl": "2d"}));
    merge(&mut body, json!({"a": 1}));
    assert_eq!(members(&body), ["a", "keyAlgorithm", "profileId", "signatureAlgorithm", "ttl"]);
}
