//! `POST /api/v3/pki/certificates/sign-certificate` (contract §6.3): what a CSR asks for stands in the certificate, what it
//! may not ask for is refused, and a CSR must prove its key.

use crate::authorities::{first_root, intermediate};
use crate::csr::{Draft, as_pem, attribute, general_name, name, subject, written};
use crate::issue::BAD_HOSTS;
use crate::issuing::{
    Bench, SIGN, certificate, count, first_profile, merge, names, open_policy, policy, profile, profile_with,
};
use crate::server::{Answer, Server, for_each_engine, members, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;
use x509::der::tag;
use x509::{
    AttributeType, BasicConstraints, CertificationRequest, DistinguishedName, ExtendedKeyUsage, GeneralName, IpAddress,
    KeyUsage, KeyUsages, oid, pem,
};

/// Signs a CSR of a profile for a day.
async fn sign(server: &Server, profile: &str, csr: &str) -> Answer {
    server.post(SIGN, json!({"profileId": profile, "csr": csr, "ttl": "1d"})).await
}

/// Expects a 400 whose message holds a text.
async fn check_refused(server: &Server, profile: &str, csr: &str, says: &str) {
    let refused = sign(server, profile, csr).await.refused(400, "BadRequest");
    assert!(text(&refused["message"]).contains(says), "{says}: {refused}");
}

#[test]
fn a_csr_that_is_in_order_is_signed_as_it_asks() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let key = TestKey::generate();
        let asked = [
            (AttributeType::Country, "DE"),
            (AttributeType::Organization, "Acme"),
            (AttributeType::CommonName, "www.example.com"),
            (AttributeType::Locality, "Köln"),
        ];
        let alt_names = [
            GeneralName::Ip(IpAddress::parse("2001:db8::1").unwrap()),
            GeneralName::Dns(x509::DnsName::parse("www.example.com").unwrap()),
            GeneralName::Email(x509::EmailAddress::parse("ops@example.com").unwrap()),
            GeneralName::Uri(x509::Uri::parse("spiffe://example.com/a").unwrap()),
        ];
        let draft = Draft::new(&key, &asked)
            .with_names(&alt_names.iter().map(general_name).collect::<Vec<_>>())
            .with_usages(&[KeyUsage::DigitalSignature, KeyUsage::NonRepudiation])
            .with_purposes(&[ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ServerAuth]);
        let answer = sign(&server, &open, &draft.pem(&key)).await;
        assert!(!answer.raw.contains("PRIVATE KEY"));
        let answer = answer.ok();
        let expected = ["certificate", "certificateChain", "certificateId", "issuingCaCertificate", "serialNumber"];
        assert_eq!(members(&answer), expected);
        assert_eq!(text(&answer["certificateChain"]).matches("-----BEGIN").count(), 2);
        let signed = certificate(&answer);
        assert_eq!(signed.subject().as_der(), draft.subject);
        assert_eq!(signed.spki_der(), key.spki());
        assert_eq!(
            (signed.not_before(), signed.not_after()),
            (server.start.seconds(), server.start.seconds() + 86_400)
        );
        let extensions = signed.extensions();
        assert_eq!(extensions.subject_alt_names().unwrap().unwrap().into_valid().unwrap(), alt_names);
        let usages = KeyUsages::of(&[KeyUsage::DigitalSignature, KeyUsage::NonRepudiation]);
        assert_eq!(extensions.key_usages(), Ok(Some(usages)));
        let purposes = vec![ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ServerAuth];
        assert_eq!(extensions.extended_key_usages(), Ok(Some(purposes)));
        assert!(!extensions.find(oid::EXTENDED_KEY_USAGE).unwrap().critical);

        // Nothing is added to a CSR that asks for nothing, and nothing is stored that could be given later.
        let plain = sign(&server, &open, &Draft::named(&key, "Device 7").pem(&key)).await.ok();
        let signed = certificate(&plain);
        assert_eq!(signed.extensions().len(), 6);
        let by_id = format!("/api/v1/cert-manager/certificates/{}", text(&plain["certificateId"]));
        server.get(&format!("{by_id}/private-key")).await.refused(404, "NotFound");
        assert_eq!(server.get(&format!("{by_id}/bundle")).await.ok()["privateKey"], Value::Null);
        assert_eq!(server.get(&by_id).await.ok()["certificate"]["hasPrivateKey"], false);
    });
}

#[test]
fn requests_of_openssl_are_signed() {
    for_each_engine(|server| async move {
        let web_server = first_profile(&server, "web-server").await;
        let open = profile(&server, "open", json!({})).await;
        let bench = Bench::new();
        for (file, curve) in [("p256.pem", "P-256"), ("p384.pem", "P-384")] {
            let curve = format!("ec_paramgen_curve:{curve}");
            bench.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve, "-out", file]);
        }
        bench.openssl(&["genpkey", "-algorithm", "ED25519", "-out", "ed.pem"]);
        let request = |key: &str, more: &[&str]| {
            bench.openssl(&[&["req", "-new", "-batch", "-key", key, "-out", "csr.pem"], more].concat());
            bench.read("csr.pem")
        };
        let alt_names = ["-addext", "subjectAltName=DNS:www.example.com,IP:192.0.2.7"];
        let usages =
            ["-addext", "keyUsage=critical,digitalSignature,keyEncipherment", "-addext", "extendedKeyUsage=serverAuth"];
        for (profile, key, more, subject) in [
            // The defaults of its configuration.
            (&open, "p256.pem", vec![&alt_names[..]], "C=AU,ST=Some-State,O=Internet Widgits Pty Ltd"),
            (
                &open,
                "p384.pem",
                vec![&["-subj", "/C=AU/O=Büro/CN=www.example.com", "-utf8"]],
                "C=AU,O=Büro,CN=www.example.com",
            ),
            (&web_server, "p256.pem", vec![&["-subj", "/CN=www.example.com"]], "CN=www.example.com"),
            (&web_server, "p256.pem", vec![&["-subj", "/"], &alt_names], ""),
            (&web_server, "p256.pem", vec![&["-subj", "/CN=www.example.com"], &usages], "CN=www.example.com"),
            (&web_server, "p384.pem", vec![&["-subj", "/CN=www.example.com", "-sha512"]], "CN=www.example.com"),
        ] {
            let csr = request(key, &more.concat());
            let signed = certificate(&sign(&server, profile, &csr).await.ok());
            assert_eq!(signed.subject().render(), subject);
            bench.write("leaf.pem", &pem::encode(pem::CERTIFICATE, signed.as_der()));
            let of_leaf = bench.openssl(&["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
            assert_eq!(bench.openssl(&["req", "-in", "csr.pem", "-noout", "-pubkey"]), of_leaf);
        }
        // A CSR with no name at all, and one whose own signature is of another family than the authority's.
        check_refused(&server, &open, &request("p256.pem", &[]), "at least one alternative name").await;
        let ed25519 = request("ed.pem", &["-subj", "/CN=www.example.com"]);
        check_refused(&server, &open, &ed25519, "Ed25519 does not fit").await;
        // Old tools label it otherwise, and text before it is read over.
        let csr = request("p256.pem", &["-subj", "/CN=www.example.com"]);
        sign(&server, &open, &csr.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")).await.ok();
        sign(&server, &open, &format!("  Request:\n\n{}\n", csr.replace('\n', "\r\n"))).await.ok();
        // What nobody can name in a policy is allowed by none.
        let email = request("p256.pem", &["-subj", "/CN=www.example.com/emailAddress=ops@example.com"]);
        check_refused(&server, &open, &email, "emailAddress").await;
    });
}

#[test]
fn an_rsa_request_is_signed_by_an_rsa_authority_and_by_no_other() {
    for_each_engine(|server| async move {
        let root = text(
            &server
                .post(crate::authorities::TYPED, crate::authorities::typed_body("root", "rsa-root", "RSA_2048"))
                .await
                .ok()["id"],
        );
        let policy = policy(&server, open_policy("rsa")).await;
        let rsa = profile_with(&server, "rsa", Some(&root), &policy, json!({})).await;
        let ec = profile(&server, "ec", json!({})).await;
        let bench = Bench::new();
        bench.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"]);
        for hash in ["-sha256", "-sha384", "-sha512"] {
            bench.openssl(&[
                "req",
                "-new",
                "-key",
                "key.pem",
                "-subj",
                "/CN=www.example.com",
                hash,
                "-out",
                "csr.pem",
                "-addext",
                "keyUsage=digitalSignature,keyEncipherment",
            ]);
            let signed = certificate(&sign(&server, &rsa, &bench.read("csr.pem")).await.ok());
            // The certificate is signed with the algorithm of the request.
            assert_eq!(signed.signature_algorithm().unwrap().as_str(), format!("RSA-SHA{}", &hash[4..]));
            let usages = KeyUsages::of(&[KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment]);
            assert_eq!(signed.extensions().key_usages(), Ok(Some(usages)));
        }
        check_refused(&server, &ec, &bench.read("csr.pem"), "RSA-SHA512 does not fit").await;
        let key = TestKey::generate();
        let of_ec = Draft::named(&key, "www.example.com").pem(&key);
        check_refused(&server, &rsa, &of_ec, "ECDSA-SHA256 does not fit").await;
        bench.openssl(&[
            "req",
            "-new",
            "-key",
            "key.pem",
            "-subj",
            "/CN=a",
            "-out",
            "csr.pem",
            "-sigopt",
            "rsa_padding_mode:pss",
        ]);
        check_refused(&server, &rsa, &bench.read("csr.pem"), "not accepted").await;
    });
}

#[test]
fn a_request_must_prove_its_key_over_exactly_its_octets() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (key, other) = (TestKey::generate(), TestKey::generate());
        let draft = Draft::named(&key, "www.example.com").with_hosts(&["www.example.com"]);
        let good = draft.der(&key);
        check_refused(&server, &open, &draft.pem(&other), "does not hold").await;
        // Any one bit: the request does not read any more, or its signature does not hold.
        for bit in (0..good.len() * 8).step_by(97) {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            sign(&server, &open, &as_pem(&flipped)).await.refused(400, "BadRequest");
        }
        for (changed, says) in [
            ([good.as_slice(), &[0]].concat(), "csr"),
            (good[..good.len() - 1].to_vec(), "csr"),
            (Vec::new(), "csr"),
            (vec![0x30, 0x80, 0, 0], "csr"),
            (vec![0x30, 0x85, 0xff, 0xff, 0xff, 0xff, 0xff], "csr"),
        ] {
            check_refused(&server, &open, &as_pem(&changed), says).await;
        }
        let sha1 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
        let mut weak = draft.clone();
        weak.algorithm = written(|writer| writer.sequence(|writer| writer.oid(&sha1)));
        check_refused(&server, &open, &weak.pem(&key), "not accepted").await;
        let mut mismatched = draft.clone();
        mismatched.algorithm = written(|writer| writer.sequence(|writer| writer.oid(oid::ECDSA_SHA384)));
        check_refused(&server, &open, &mismatched.pem(&key), "does not hold").await;
        let csr = draft.pem(&key);
        for (text, says) in [
            ("MIIB", "csr"),
            (csr.replace("CERTIFICATE REQUEST", "CERTIFICATE").as_str(), "csr"),
            (format!("{csr}\n{csr}").as_str(), "csr"),
            (csr.replace("-----BEGIN", "-----BEGUN").as_str(), "csr"),
        ] {
            check_refused(&server, &open, text, says).await;
        }
        assert_eq!(count(&server).await, 0);
        sign(&server, &open, &csr).await.ok();
    });
}

#[test]
fn what_a_request_may_not_ask_for_is_refused() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let key = TestKey::generate();
        let draft = Draft::named(&key, "www.example.com");
        let constraints =
            |ca: bool, path_length: Option<u32>| written(|writer| BasicConstraints { ca, path_length }.encode(writer));
        let null = vec![5, 0];
        let with_two_lists = {
            let mut draft = draft.clone().with_hosts(&["www.example.com"]);
            draft.attributes.push(draft.extension_request());
            draft
        };
        let with_two_values = {
            let mut draft = draft.clone();
            let list = written(|writer| writer.sequence(|_| {}));
            draft.attributes.push(attribute(oid::EXTENSION_REQUEST, &[list.clone(), list]));
            draft
        };
        let any_usage = ExtendedKeyUsage::Other(vec![0x55, 0x1d, 0x25, 0]);
        let own_usage = ExtendedKeyUsage::Other(vec![0x2a, 3, 4]);
        for (csr, says) in [
            (draft.clone().with(oid::BASIC_CONSTRAINTS, Some(true), constraints(true, None)), "isCA true"),
            (draft.clone().with(oid::BASIC_CONSTRAINTS, None, constraints(true, Some(5))), "isCA true"),
            (draft.clone().with(oid::BASIC_CONSTRAINTS, None, vec![0x30, 3, 2, 1, 0]), "path length"),
            (
                draft.clone().with_usages(&[KeyUsage::KeyCertSign]),
                "key_cert_sign belongs to certificates of authorities",
            ),
            (draft.clone().with_usages(&[KeyUsage::CrlSign]), "crl_sign belongs to certificates of authorities"),
            (draft.clone().with_purposes(&[any_usage]), "2.5.29.37.0"),
            (draft.clone().with_purposes(&[own_usage]), "1.2.3.4"),
            (draft.clone().with(&[0x2a, 3, 4], Some(true), null.clone()), "1.2.3.4"),
            // Known, and yet nothing that is taken over.
            (draft.clone().with(oid::NAME_CONSTRAINTS, Some(true), null.clone()), "critical"),
            (draft.clone().with(oid::CERTIFICATE_POLICIES, Some(true), null.clone()), "critical"),
            (draft.clone().with_hosts(&["a.example.com"]).with_hosts(&["b.example.com"]), "twice"),
            (with_two_lists, "twice"),
            (with_two_values, "csr"),
            (draft.clone().with(oid::KEY_USAGE, Some(true), null.clone()), "CSR"),
            (draft.clone().with(oid::KEY_USAGE, Some(true), vec![3, 1, 0]), "CSR"),
            (draft.clone().with(oid::SUBJECT_ALT_NAME, None, vec![0x30, 0]), "CSR"),
            (draft.clone().with(oid::SUBJECT_ALT_NAME, None, null.clone()), "CSR"),
        ] {
            check_refused(&server, &open, &csr.pem(&key), says).await;
        }
        assert_eq!(count(&server).await, 0);

        // What is not critical and not taken over is read over.
        let mut ignored = draft
            .with(&[0x2a, 3, 4], None, null)
            .with(oid::BASIC_CONSTRAINTS, Some(true), constraints(false, None))
            .with(oid::SUBJECT_KEY_IDENTIFIER, None, written(|writer| writer.octet_string(&[7; 20])));
        // invariants A15: no names by the side doors.
        ignored.attributes.push(attribute(oid::CHALLENGE_PASSWORD, &[written(|writer| writer.utf8_string("secret"))]));
        let unstructured_name = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 2];
        ignored
            .attributes
            .push(attribute(&unstructured_name, &[written(|writer| writer.utf8_string("evil.example.org"))]));
        let signed = certificate(&sign(&server, &open, &ignored.pem(&key)).await.ok());
        assert_eq!(names(&signed), ["DNS name www.example.com"]);
        let own_key_id = x509::key::key_id_sha1(signed.spki_der()).unwrap();
        assert_eq!(signed.extensions().subject_key_id(), Ok(Some(&own_key_id[..])));
    });
}

#[test]
fn names_of_a_request_keep_the_rules_wherever_they_stand() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let key = TestKey::generate();
        let (long_label, long_name) = (format!("{}.example.com", "a".repeat(64)), "a.".repeat(126) + "ab");
        for host in BAD_HOSTS.iter().copied().chain([long_label.as_str(), &long_name, ""]) {
            let csr = Draft::named(&key, "Device 7").with_hosts(&["www.example.com", host]).pem(&key);
            let answer = sign(&server, &open, &csr).await;
            assert_eq!(answer.status, 400, "{host:?}: {}", answer.body);
        }
        for (tag, octets) in [
            (0x87, vec![192, 0, 2]),
            (0x87, vec![1; 5]),
            (0x87, vec![1; 8]),
            (0x87, vec![1; 32]),
            (0x81, b"alice".to_vec()),
            (0x81, b"a@b@example.com".to_vec()),
            (0x81, "ä@example.com".as_bytes().to_vec()),
            (0x86, b"www.example.com".to_vec()),
            (0x86, b"https://a b/".to_vec()),
            (0x82, "bücher.example".as_bytes().to_vec()),
            (0x82, vec![0xff, 0xfe]),
        ] {
            let csr = Draft::named(&key, "Device 7").with_names(&[name(tag, &octets)]).pem(&key);
            let answer = sign(&server, &open, &csr).await;
            assert_eq!(answer.status, 400, "{tag:x} {octets:x?}: {}", answer.body);
        }
        assert_eq!(count(&server).await, 0);
        // As a common name: a host in disguise is refused; what is another kind of name is kept and is no host.
        let other_kinds = [
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
            "a b.example.com",
            "2130706433",
        ];
        for common_name in BAD_HOSTS {
            let mut draft = Draft::named(&key, "x");
            draft.subject = subject(&[(oid::COMMON_NAME, tag::UTF8_STRING, common_name.as_bytes())]);
            let answer = sign(&server, &open, &draft.pem(&key)).await;
            match *common_name {
                "1.2.3.4" => assert_eq!(names(&certificate(&answer.ok())), ["IP address 1.2.3.4"]),
                text if other_kinds.contains(&text) => assert_eq!(names(&certificate(&answer.ok())), [""; 0], "{text}"),
                text => assert_eq!(answer.status, 400, "{text:?}: {}", answer.body),
            }
        }
        // Blanks, and dots of other scripts, hide no host.
        for common_name in [
            " evil.example",
            "evil.example ",
            "evil.example\u{a0}",
            "evil.example\u{2028}",
            "evil\u{2024}example",
            "1.2.3.4 ",
            " ::1",
        ] {
            let mut draft = Draft::named(&key, "x").with_hosts(&["www.example.com"]);
            draft.subject = subject(&[(oid::COMMON_NAME, tag::UTF8_STRING, common_name.as_bytes())]);
            check_refused(&server, &open, &draft.pem(&key), "would be taken for").await;
        }
        // Normal forms, and names of other kinds, which are left out.
        let directory = DistinguishedName::build(&[(AttributeType::CommonName, "x")]).unwrap();
        let mixed = Draft::new(&key, &[]).with_names(&[
            name(0x82, b"WWW.Example.COM"),
            name(0x87, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]),
            name(0x82, b"www.example.com"),
            general_name(&GeneralName::Directory(directory)),
            general_name(&GeneralName::RegisteredId(vec![0x2a, 3, 4])),
        ]);
        let signed = certificate(&sign(&server, &open, &mixed.pem(&key)).await.ok());
        assert_eq!(names(&signed), ["DNS name www.example.com", "IP address 192.0.2.7"]);
        let only_others =
            Draft::new(&key, &[]).with_names(&[general_name(&GeneralName::RegisteredId(vec![0x2a, 3, 4]))]);
        check_refused(&server, &open, &only_others.pem(&key), "at least one").await;
    });
}

#[test]
fn the_policy_judges_names_of_a_request_like_those_of_fields() {
    for_each_engine(|server| async move {
        let rules = json!({"subject": [{"type": "common_name", "allowed": ["*"]}],
            "sans": [{"type": "dns_name", "allowed": ["*.example.com"]}, {"type": "ip_address", "allowed": ["10.*"]}]});
        let strict = profile(&server, "strict", rules).await;
        let key = TestKey::generate();
        let host = |host: &str| name(0x82, host.as_bytes());
        for (common_name, alt_names, says) in [
            ("Device 7", vec![host("www.example.org")], "www.example.org"),
            ("www.example.org", vec![host("www.example.com")], "www.example.org"),
            ("192.0.2.7", vec![host("www.example.com")], "192.0.2.7"),
            ("Device 7", vec![name(0x87, &[192, 0, 2, 7])], "192.0.2.7"),
            // An IPv4 address in the clothes of IPv6 meets the rule for IPv4.
            ("Device 7", vec![name(0x87, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7])], "192.0.2.7"),
            ("Device 7", vec![name(0x81, b"alice@example.com")], "no rule for email"),
            ("Device 7", vec![name(0x86, b"spiffe://example.com/a")], "no rule for uri"),
        ] {
            check_refused(&server, &strict, &Draft::named(&key, common_name).with_names(&alt_names).pem(&key), says)
                .await;
        }
        let two_names =
            [(AttributeType::CommonName, "www.example.com"), (AttributeType::CommonName, "www.example.org")];
        check_refused(&server, &strict, &Draft::new(&key, &two_names).pem(&key), "www.example.org").await;
        let ou = [(AttributeType::CommonName, "www.example.com"), (AttributeType::OrganizationalUnit, "x")];
        check_refused(&server, &strict, &Draft::new(&key, &ou).pem(&key), "organizational_unit").await;
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        let good = Draft::named(&key, "www.example.com").with_names(&[name(0x87, &mapped)]);
        let signed = certificate(&sign(&server, &strict, &good.pem(&key)).await.ok());
        assert_eq!(names(&signed), ["IP address 10.0.0.1", "DNS name www.example.com"]);
    });
}

#[test]
fn weak_and_unusual_keys_are_refused() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let bench = Bench::new();
        for (algorithm, options, says) in [
            ("RSA", &["rsa_keygen_bits:1024"][..], "key of the CSR"),
            ("RSA", &["rsa_keygen_bits:2048", "rsa_keygen_pubexp:3"], "key of the CSR"),
            ("RSA", &["rsa_keygen_bits:2056"], "key of the CSR"),
            ("RSA-PSS", &["rsa_keygen_bits:2048"], "key of the CSR"),
            ("EC", &["ec_paramgen_curve:P-224"], "key of the CSR"),
            ("EC", &["ec_paramgen_curve:secp256k1"], "key of the CSR"),
            ("EC", &["ec_paramgen_curve:brainpoolP256r1"], "key of the CSR"),
            ("EC", &["ec_paramgen_curve:P-256", "ec_param_enc:explicit"], "key of the CSR"),
            ("ED448", &[], "key of the CSR"),
        ] {
            let options: Vec<&str> = options.iter().flat_map(|option| ["-pkeyopt", option]).collect();
            bench.openssl(&[&["genpkey", "-algorithm", algorithm, "-out", "key.pem"], &options[..]].concat());
            bench.openssl(&["req", "-new", "-key", "key.pem", "-subj", "/CN=www.example.com", "-out", "csr.pem"]);
            check_refused(&server, &open, &bench.read("csr.pem"), says).await;
        }
        let key = TestKey::generate();
        let mut off_curve = Draft::named(&key, "www.example.com");
        let last = off_curve.spki.len() - 1;
        off_curve.spki[last] ^= 1;
        check_refused(&server, &open, &off_curve.pem(&key), "key of the CSR").await;
        let mut compressed = Draft::named(&key, "www.example.com");
        let point = compressed.spki[compressed.spki.len() - 65..].to_vec();
        compressed.spki = written(|writer| {
            writer.sequence(|writer| {
                writer.sequence(|writer| {
                    writer.oid(oid::EC_PUBLIC_KEY);
                    writer.oid(oid::CURVE_P256);
                });
                writer.bit_string(&[&[2 + (point[64] & 1)], &point[1..33]].concat());
            });
        });
        check_refused(&server, &open, &compressed.pem(&key), "key of the CSR").await;
        assert_eq!(count(&server).await, 0);
    });
}

#[test]
fn a_subject_in_other_string_types_is_written_in_the_right_ones_and_one_that_cannot_be_is_refused() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let key = TestKey::generate();
        let with_subject = |subject: Vec<u8>| {
            let mut draft = Draft::named(&key, "x").with_hosts(&["www.example.com"]);
            draft.subject = subject;
            draft.pem(&key)
        };
        let (country, organization) = (oid::COUNTRY, oid::ORGANIZATION);
        let right =
            subject(&[(country, tag::PRINTABLE_STRING, b"DE"), (organization, tag::UTF8_STRING, "Büro".as_bytes())]);
        let latin1 = [b'B', 0xfc, b'r', b'o'];
        let ucs2 = [0, b'B', 0, 0xfc, 0, b'r', 0, b'o'];
        for asked in [
            right.clone(),
            subject(&[(country, tag::UTF8_STRING, b"DE"), (organization, tag::UTF8_STRING, "Büro".as_bytes())]),
            subject(&[(country, tag::UTF8_STRING, b"DE"), (organization, tag::TELETEX_STRING, &latin1)]),
            subject(&[(country, tag::PRINTABLE_STRING, b"DE"), (organization, tag::BMP_STRING, &ucs2)]),
            subject(&[(country, tag::IA5_STRING, b"DE"), (organization, tag::UTF8_STRING, "Büro".as_bytes())]),
        ] {
            let signed = certificate(&sign(&server, &open, &with_subject(asked)).await.ok());
            assert_eq!(signed.subject().as_der(), right);
        }
        // A printable organisation is as good as one in UTF-8, and stays as it is.
        let printable = subject(&[(organization, tag::PRINTABLE_STRING, b"Acme")]);
        let signed = certificate(&sign(&server, &open, &with_subject(printable.clone())).await.ok());
        assert_eq!(signed.subject().as_der(), printable);

        // The types that are not even among the choices of RFC 5280 §4.1.2.4, in every attribute.
        for kind in [oid::COMMON_NAME, organization, oid::ORGANIZATIONAL_UNIT, oid::LOCALITY, oid::STATE] {
            for string_type in [tag::IA5_STRING, tag::NUMERIC_STRING, tag::VISIBLE_STRING] {
                let csr = with_subject(subject(&[(kind, string_type, b"4711")]));
                let signed = certificate(&sign(&server, &open, &csr).await.ok());
                assert_eq!(signed.subject().as_der(), subject(&[(kind, tag::UTF8_STRING, b"4711")]), "{string_type}");
            }
        }
        let label = |string_type| subject(&[(oid::DOMAIN_COMPONENT, string_type, b"example")]);
        for string_type in [tag::IA5_STRING, tag::UTF8_STRING, tag::PRINTABLE_STRING] {
            let signed = certificate(&sign(&server, &open, &with_subject(label(string_type))).await.ok());
            assert_eq!(signed.subject().as_der(), label(tag::IA5_STRING));
        }

        let two_in_one = written(|writer| {
            writer.sequence(|writer| {
                writer.nested(tag::SET, |writer| {
                    for (kind, tag, value) in
                        [(country, tag::UTF8_STRING, &b"DE"[..]), (organization, tag::UTF8_STRING, b"Acme")]
                    {
                        writer.sequence(|writer| {
                            writer.oid(kind);
                            writer.primitive(tag, value);
                        });
                    }
                });
            });
        });
        for refused in [
            two_in_one,
            subject(&[(country, tag::PRINTABLE_STRING, b"DEU")]),
            subject(&[(country, tag::PRINTABLE_STRING, b"D1")]),
            subject(&[(country, tag::UTF8_STRING, "DÉ".as_bytes())]),
            subject(&[(organization, tag::UTF8_STRING, b"")]),
            subject(&[(organization, tag::UTF8_STRING, b"a\nb")]),
            subject(&[(organization, tag::UTF8_STRING, b"a\0b")]),
            subject(&[(organization, tag::UTF8_STRING, "a".repeat(65).as_bytes())]),
            subject(&[(organization, tag::INTEGER, &[1])]),
            subject(&[(oid::COMMON_NAME, tag::UTF8_STRING, "a".repeat(65).as_bytes())]),
        ] {
            check_refused(&server, &open, &with_subject(refused), "subject").await;
        }
    });
}

#[test]
fn what_is_sent_has_its_limits_and_checks_have_their_order() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let policy = policy(&server, open_policy("alone")).await;
        let alone = profile_with(&server, "alone", None, &policy, json!({})).await;
        let key = TestKey::generate();
        let csr = Draft::named(&key, "www.example.com").pem(&key);
        let body = |changes: Value| {
            let mut body = json!({"profileId": open, "csr": csr, "ttl": "1d"});
            merge(&mut body, changes);
            body
        };
        assert_eq!(server.post(SIGN, json!({})).await.issues(), ["profileId", "csr", "ttl"]);
        for (changes, issues) in [
            (json!({"csr": ""}), vec!["csr"]),
            (json!({"csr": " \n"}), vec!["csr"]),
            (json!({"csr": "a".repeat(4097)}), vec!["csr"]),
            (json!({"ttl": "never"}), vec!["ttl"]),
            (json!({"notBefore": "2026-01-01"}), vec![""]),
            (json!({"notAfter": "2026-01-01"}), vec![""]),
        ] {
            assert_eq!(server.post(SIGN, body(changes.clone())).await.issues(), issues, "{changes}");
        }
        // Text around the request counts, and 4096 characters are taken.
        let padded = format!("{}{csr}", "x\n".repeat(2048)).split_off(csr.len());
        assert_eq!(padded.len(), 4096);
        server.post(SIGN, body(json!({"csr": padded}))).await.ok();
        // Older clients send algorithms too, which are not asked for.
        let older =
            json!({"signatureAlgorithm": "RSA-SHA256", "keyAlgorithm": "RSA_2048", "removeRootsFromChain": true});
        let chain = server.post(SIGN, body(older)).await.ok()["certificateChain"].take();
        assert_eq!(text(&chain).matches("-----BEGIN").count(), 1);

        // The CSR is read before anything is looked up.
        let unknown = "0198c5a0-0000-7000-8000-000000000001";
        server.post(SIGN, body(json!({"profileId": unknown, "csr": "x"}))).await.refused(400, "BadRequest");
        server.post(SIGN, body(json!({"profileId": unknown}))).await.refused(404, "NotFound");
        let refused = server.post(SIGN, body(json!({"profileId": alone}))).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("self-signed"), "{refused}");
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        viewer.post(SIGN, body(json!({"profileId": alone}))).await.refused(403, "PermissionDenied");
        let issuer = server.by(&server.identity("no-access", Some("issuer")).await);
        issuer.post(SIGN, body(json!({}))).await.ok();
        let other = server.other_organization().await;
        other.post(SIGN, body(json!({}))).await.refused(404, "NotFound");
    });
}

#[test]
fn an_authority_is_certified_only_where_policy_and_path_length_allow_it() {
    for_each_engine(|server| async move {
        let root = first_root(&server).await;
        let with_room = intermediate(&server, "with-room", &root, 1).await;
        let mut body = open_policy("sub");
        merge(&mut body, json!({"basicConstraints": {"isCA": "allowed", "maxPathLength": 3}}));
        let policy = policy(&server, body).await;
        let at_end = profile_with(&server, "at-end", Some(&server.issuing_ca), &policy, json!({})).await;
        let in_room = profile_with(&server, "in-room", Some(&with_room), &policy, json!({})).await;
        let key = TestKey::generate();
        let asking = |path_length: Option<u32>, usages: &[KeyUsage]| {
            let constraints = written(|writer| BasicConstraints { ca: true, path_length }.encode(writer));
            let draft = Draft::named(&key, "Sub CA").with(oid::BASIC_CONSTRAINTS, Some(true), constraints);
            if usages.is_empty() { draft.pem(&key) } else { draft.with_usages(usages).pem(&key) }
        };
        let usages = [KeyUsage::KeyCertSign, KeyUsage::CrlSign];
        // The first start's issuing authority has the path length 0.
        check_refused(&server, &at_end, &asking(Some(0), &usages), "path length").await;
        check_refused(&server, &in_room, &asking(Some(1), &usages), "path length").await;
        check_refused(&server, &in_room, &asking(None, &usages), "path length").await;
        check_refused(&server, &in_room, &asking(Some(0), &[]), "needs the key usage key_cert_sign").await;
        check_refused(&server, &in_room, &asking(Some(0), &[KeyUsage::DigitalSignature]), "key_cert_sign").await;
        let answer = sign(&server, &in_room, &asking(Some(0), &usages)).await.ok();
        let signed = certificate(&answer);
        let constraints = signed.extensions().basic_constraints().unwrap().unwrap();
        assert_eq!((constraints.ca, constraints.path_length), (true, Some(0)));
        assert!(signed.extensions().find(oid::BASIC_CONSTRAINTS).unwrap().critical);
        let shown = server.get(&format!("/api/v1/cert-manager/certificates/{}", text(&answer["certificateId"]))).await;
        assert_eq!(shown.ok()["certificate"]["basicConstraints"], json!({"isCA": true, "pathLength": 0}));
        // Leaves are signed from the same profile.
        sign(&server, &at_end, &Draft::named(&key, "leaf").pem(&key)).await.ok();
    });
}

#[test]
fn a_draft_is_a_request() {
    // The helper of these tests makes what the server reads.
    let key = TestKey::generate();
    let draft = Draft::named(&key, "www.example.com").with_hosts(&["www.example.com"]);
    let read = CertificationRequest::from_der(&draft.der(&key)).unwrap();
    assert!(read.verify() && !CertificationRequest::from_der(&draft.der(&TestKey::generate())).unwrap().verify());
}
