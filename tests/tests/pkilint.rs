//! Certificates of varied profiles, all linted by pkilint in one process, and requests that must not become one.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::issuing::{Bench, ISSUE, SIGN, count, first_profile, open_policy, policy, profile, profile_with, wanted};
use crate::server::{Answer, Server, for_each_engine, text};

#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "api/issuing.rs"]
mod issuing;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "api/server.rs"]
mod server;

const AUTHORITIES: &str = "/api/v1/cert-manager/ca/internal";
const YEAR: i64 = 365 * 86_400;

/// Lifetimes, which the certificates take in turn.
const LIFETIMES: [&str; 6] = ["1h", "12h", "1d", "30d", "47d", "90d"];

#[test]
fn pkilint_finds_no_error_in_any_certificate() {
    for_each_engine(|server| async move {
        let mut shelf = Shelf { bench: Bench::new(), files: Vec::new() };
        from_the_open_profile(&server, &mut shelf).await;
        from_the_first_profiles(&server, &mut shelf).await;
        from_requests(&server, &mut shelf).await;
        from_other_authorities(&server, &mut shelf).await;
        assert!(shelf.files.len() >= 200, "only {} certificates", shelf.files.len());
        authorities(&server, &mut shelf).await;
        shelf.lint();
    });
}

#[test]
fn the_linter_finds_a_mistake() {
    let mut shelf = Shelf { bench: Bench::new(), files: Vec::new() };
    // RFC 5280 §4.1.2.2: a serial number is positive.
    shelf.bench.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "key.pem",
        "-set_serial",
        "0",
        "-subj",
        "/CN=zero",
        "-out",
        "zero.pem",
    ]);
    shelf.files.push("zero.pem".into());
    let said = shelf.linted();
    assert!(said.contains("serial") && said.contains("1 with errors"), "{said}");
}

#[test]
fn an_invalid_request_is_not_issued() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let before = count(&server).await;
        for change in invalid() {
            let answer = server.post(ISSUE, wanted(&open, change.clone())).await;
            assert!([400, 422].contains(&answer.status), "{change}: {} {}", answer.status, answer.body);
        }
        for (name, csr) in invalid_requests() {
            let answer = server.post(SIGN, json!({"profileId": open, "csr": csr, "ttl": "1d"})).await;
            assert!([400, 422].contains(&answer.status), "{name}: {} {}", answer.status, answer.body);
        }
        let web_server = first_profile(&server, "web-server").await;
        for change in [json!({"ttl": "91d"}), json!({"extendedKeyUsages": ["code_signing"]})] {
            server.post(ISSUE, wanted(&web_server, change)).await.refused(400, "BadRequest");
        }
        assert_eq!(count(&server).await, before);
    });
}

/// Files of certificates.
struct Shelf {
    bench: Bench,
    files: Vec<String>,
}

impl Shelf {
    /// Keeps the certificate of an answer.
    #[track_caller]
    fn keep(&mut self, what: &str, answer: Answer) {
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
        self.add(&text(&answer.body["certificate"]));
    }

    fn add(&mut self, pem: &str) {
        let name = format!("{}.pem", self.files.len());
        self.bench.write(&name, pem);
        self.files.push(name);
    }

    /// Asserts that there is no error in any but the known ones, and that each of those is still there.
    fn lint(&self) {
        let said = self.linted();
        let all = self.files.len();
        assert!(said.contains(&format!("{all} linted, ")), "{said}");
        let (mut wrong, mut seen) = (Vec::new(), BTreeSet::<usize>::new());
        for (file, errors) in by_file(&said) {
            let known: Vec<Option<usize>> =
                errors.iter().map(|error| DIFFERENCES.iter().position(|(known, _)| error.starts_with(known))).collect();
            seen.extend(known.iter().flatten().copied());
            // A file without a line about an error is one that does not even read.
            if known.is_empty() || known.contains(&None) {
                wrong.push(format!("{file}: {errors:#?}\n{}", self.bench.read(file)));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let unseen = DIFFERENCES.iter().enumerate().filter(|(at, _)| !seen.contains(at));
        assert_eq!(unseen.count(), 0, "a difference is not found any more: {seen:?}");
    }

    /// What the linter says of all of them.
    fn linted(&self) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = std::process::Command::new(root.join("../.test/venv/bin/python"))
            .arg(root.join("python/lint_certificates.py"))
            .args(&self.files)
            .current_dir(self.bench.path(""))
            .output()
            .unwrap_or_else(|error| panic!("{error}; run scripts/install-test-tools first"));
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(said.contains(" linted, "), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// The files with errors, each with its errors: `pkix.some_rule (ERROR): what`.
fn by_file(said: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in said.lines() {
        if let Some((file, _)) = line.split_once(".pem: ") {
            found.push((&line[..file.len() + ".pem".len()], Vec::new()));
        } else if let (Some((_, errors)), true) = (found.last_mut(), line.starts_with(' ')) {
            errors.push(line.trim());
        }
    }
    found
}

/// Where the linter calls an error what is in order or what the published interface wants: the beginning of what it
/// says, and why it stays.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        r#"pkix.invalid_domain_name_syntax (ERROR): Invalid domain name syntax: "*."#,
        "RFC 5280 §4.2.1.6 leaves wildcards to others: RFC 9525 §6.3 says what one in the first label means",
    ),
    (r#"pkix.invalid_domain_name_syntax (ERROR): Invalid domain name syntax: "a""#, ONE_LABEL),
    (r#"pkix.invalid_domain_name_syntax (ERROR): Invalid domain name syntax: "u""#, ONE_LABEL),
    (r#"pkix.invalid_domain_name_syntax (ERROR): Invalid domain name syntax: "directory""#, ONE_LABEL),
    (r#"pkix.invalid_domain_name_syntax (ERROR): Invalid domain name syntax: "localhost""#, ONE_LABEL),
    (r#"pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: "spiffe://"#, SCHEME),
    (r#"pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: "urn:"#, SCHEME),
];

const ONE_LABEL: &str = "RFC 1034 §3.5 allows a name of one label; the linter wants two";
const SCHEME: &str = "RFC 3986 §3.1 allows any scheme; the linter knows those of the web";

/// The parts of a request that name somebody.
fn names() -> Vec<Value> {
    let long = format!("{}.{}.{}.example", "a".repeat(63), "b".repeat(63), "c".repeat(50));
    let one = |kind: &str, value: &str| json!({"altNames": [{"type": kind, "value": value}]});
    let bare = |kind: &str, value: &str| json!({"commonName": null, "altNames": [{"type": kind, "value": value}]});
    let many: Value = (0..40).map(|at| json!({"type": "dns_name", "value": format!("h{at}.example.com")})).collect();
    vec![
        json!({}),
        json!({"commonName": "a"}),
        json!({"commonName": "a".repeat(64)}),
        json!({"commonName": "Some Device 0042"}),
        json!({"commonName": "*.example.com"}),
        json!({"commonName": "alice@example.com"}),
        one("dns_name", "www.example.com"),
        one("dns_name", "*.example.com"),
        one("dns_name", "xn--bcher-kva.example"),
        one("dns_name", "bücher.example"),
        one("dns_name", "localhost"),
        one("ip_address", "192.0.2.7"),
        one("ip_address", "2001:db8::7"),
        one("email", "alice@example.com"),
        one("uri", "https://example.com/path?query=1#part"),
        one("uri", "spiffe://example.org/ns/default/sa/web"),
        bare("dns_name", "only.example.com"),
        bare("dns_name", &long),
        bare("ip_address", "::1"),
        bare("email", "bob@example.com"),
        bare("uri", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        json!({"altNames": many}),
        json!({"commonName": null, "altNames": [
            {"type": "dns_name", "value": "a.example"}, {"type": "ip_address", "value": "10.0.0.1"},
            {"type": "email", "value": "c@example.com"}, {"type": "uri", "value": "https://d.example/"}]}),
    ]
}

/// The parts of a request that say what the key is for.
fn usages() -> Vec<Value> {
    vec![
        json!({}),
        json!({"keyUsages": ["digital_signature"]}),
        json!({"keyUsages": ["digital_signature", "non_repudiation"], "extendedKeyUsages": ["email_protection"]}),
        json!({"keyUsages": ["key_agreement"], "extendedKeyUsages": ["client_auth"]}),
        json!({"keyUsages": ["key_agreement", "encipher_only"]}),
        json!({"keyUsages": ["key_agreement", "decipher_only"]}),
        json!({"keyUsages": ["digital_signature", "key_encipherment"], "extendedKeyUsages": ["server_auth"]}),
        json!({"keyUsages": ["digital_signature"], "extendedKeyUsages": ["server_auth", "client_auth"]}),
        json!({"keyUsages": ["digital_signature"], "extendedKeyUsages": ["code_signing"]}),
        json!({"extendedKeyUsages": ["time_stamping"]}),
        json!({"extendedKeyUsages": ["ocsp_signing"]}),
    ]
}

/// A request with names and usages together and the next lifetime.
fn joined(profile: &str, names: &Value, usages: &Value, key: &str, at: usize) -> Value {
    let mut body = wanted(profile, json!({"ttl": LIFETIMES[at % LIFETIMES.len()], "keyAlgorithm": key}));
    issuing::merge(&mut body, names.clone());
    issuing::merge(&mut body, usages.clone());
    body
}

/// Every name with every use, of keys of both curves.
async fn from_the_open_profile(server: &Server, shelf: &mut Shelf) {
    let open = profile(server, "open", json!({})).await;
    for (row, names) in names().iter().enumerate() {
        for (column, usages) in usages().iter().enumerate() {
            let at = row + column;
            let key = ["EC_prime256v1", "EC_secp384r1"][at % 2];
            let body = joined(&open, names, usages, key, at);
            shelf.keep(&body.to_string(), server.post(ISSUE, body.clone()).await);
        }
    }
}

async fn from_the_first_profiles(server: &Server, shelf: &mut Shelf) {
    let name = |kind: &str, value: &str| json!([{"type": kind, "value": value}]);
    for (slug, names, purposes) in [
        ("web-server", [name("dns_name", "a.example.com"), name("ip_address", "192.0.2.1")], json!(["server_auth"])),
        ("client", [name("email", "a@example.com"), name("uri", "urn:a:b")], json!(["client_auth"])),
        (
            "device",
            [name("dns_name", "d.example.com"), name("uri", "spiffe://d.example/1")],
            json!(["client_auth", "server_auth"]),
        ),
    ] {
        let profile = first_profile(server, slug).await;
        for (at, names) in names.into_iter().enumerate() {
            let usages = json!({"keyUsages": ["digital_signature"], "extendedKeyUsages": purposes});
            for key in ["EC_prime256v1", "EC_secp384r1"] {
                let body = joined(&profile, &json!({"altNames": names}), &usages, key, at);
                shelf.keep(&body.to_string(), server.post(ISSUE, body.clone()).await);
            }
        }
        // One RSA key each, under an authority of another kind.
        let usages = json!({"keyUsages": ["digital_signature", "key_encipherment"]});
        let body = joined(&profile, &json!({}), &usages, "RSA_2048", 5);
        shelf.keep(&body.to_string(), server.post(ISSUE, body.clone()).await);
    }
}

/// A CSR by OpenSSL, of a new key.
fn csr(bench: &Bench, key: &[&str], subject: &str, more: &[&str]) -> String {
    let fixed = ["req", "-new", "-nodes", "-keyout", "key.pem", "-out", "csr.pem", "-subj", subject, "-newkey"];
    bench.openssl(&[&fixed[..], key, more].concat());
    bench.read("csr.pem")
}

const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];

/// Certificates for CSRs, with names that a CSR alone can carry.
async fn from_requests(server: &Server, shelf: &mut Shelf) {
    let open = profile(server, "for-requests", json!({})).await;
    let bench = Bench::new();
    for (key, subject, more) in [
        (P256, "/CN=www.example.com", &[][..]),
        (P384, "/CN=www.example.com", &["-addext", "subjectAltName=DNS:www.example.com,IP:192.0.2.1"]),
        (P256, "/C=DE/ST=Berlin/L=Berlin/O=Acme, Inc/OU=Research/CN=www.example.com", &[]),
        (P256, "/DC=com/DC=example/CN=directory", &[]),
        (P256, "/O=Bücherei/CN=books.example.com", &["-utf8"]),
        (P256, "/", &["-addext", "subjectAltName=email:alice@example.com"]),
        (P256, "/", &["-addext", "subjectAltName=critical,DNS:critical.example.com"]),
        (P256, "/CN=u", &["-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=clientAuth"]),
        (P384, "/CN=u", &["-addext", "keyUsage=keyAgreement", "-addext", "extendedKeyUsage=serverAuth,clientAuth"]),
        (P256, "/CN=u", &["-addext", "basicConstraints=CA:FALSE"]),
    ] {
        let csr = csr(&bench, key, subject, more);
        let answer = server.post(SIGN, json!({"profileId": open, "csr": csr, "ttl": "30d"})).await;
        shelf.keep(&format!("{subject} {more:?}"), answer);
    }
}

/// Certificates of authorities of other keys and of no authority.
async fn from_other_authorities(server: &Server, shelf: &mut Shelf) {
    let open = policy(server, open_policy("for-others")).await;
    for (key, signature) in [
        ("RSA_2048", "RSA-SHA256"),
        ("EC_secp384r1", "ECDSA-SHA384"),
        ("EC_secp521r1", "ECDSA-SHA512"),
        ("Ed25519", "Ed25519"),
    ] {
        let slug = format!("of-{}", key.to_lowercase().replace('_', "-"));
        let new = json!({"name": slug, "configuration": {"type": "root", "commonName": key, "keyAlgorithm": key,
            "notAfter": server.time(YEAR)}});
        let ca = text(&server.post(AUTHORITIES, new).await.ok()["id"]);
        let profiles = [
            profile_with(server, &slug, Some(&ca), &open, json!({})).await,
            profile_with(server, &format!("{slug}-self"), None, &open, json!({})).await,
        ];
        for (profile, leaf) in profiles.iter().zip(["EC_prime256v1", key]) {
            let more = json!({"keyAlgorithm": leaf, "signatureAlgorithm": signature,
                "altNames": [{"type": "dns_name", "value": "other.example.com"}]});
            let body = wanted(profile, more);
            shelf.keep(&body.to_string(), server.post(ISSUE, body.clone()).await);
        }
        if key == "RSA_2048" {
            // The signature of a CSR has to fit its issuer (contract §6.3).
            let bench = Bench::new();
            for usages in ["keyUsage=digitalSignature,keyEncipherment", "keyUsage=dataEncipherment"] {
                let csr = csr(&bench, &["rsa:2048"], "/CN=rsa.example.com", &["-addext", usages]);
                let answer = server.post(SIGN, json!({"profileId": profiles[0], "csr": csr, "ttl": "47d"})).await;
                shelf.keep(usages, answer);
            }
        }
    }
}

/// The certificates of every authority.
async fn authorities(server: &Server, shelf: &mut Shelf) {
    let all = server.get(&format!("{AUTHORITIES}?projectId={}", server.project)).await.ok();
    let all = all["certificateAuthorities"].as_array().or(all.as_array()).expect("a list of authorities").clone();
    assert!(all.len() >= 6, "{} authorities", all.len());
    for one in all {
        let list = server.get(&format!("{AUTHORITIES}/{}/ca-certificates", text(&one["id"]))).await.ok();
        for certificate in list.as_array().unwrap() {
            shelf.add(&text(&certificate["certificate"]));
        }
    }
}

/// Changes of a request, each of which must keep it from being issued.
fn invalid() -> Vec<Value> {
    let one = |kind: &str, value: &str| json!({"altNames": [{"type": kind, "value": value}]});
    vec![
        json!({"commonName": null}),
        json!({"commonName": "a".repeat(65)}),
        json!({"commonName": ""}),
        json!({"ttl": "0d"}),
        json!({"ttl": "200y"}),
        json!({"keyAlgorithm": "RSA_1024"}),
        json!({"signatureAlgorithm": "RSA-SHA256"}),
        json!({"signatureAlgorithm": "ECDSA-SHA1"}),
        json!({"keyUsages": ["key_cert_sign"]}),
        json!({"keyUsages": ["encipher_only"]}),
        json!({"extendedKeyUsages": ["any"]}),
        one("dns_name", "a..example.com"),
        one("dns_name", "-a.example.com"),
        one("dns_name", "*.*.example.com"),
        one("dns_name", "w*.example.com"),
        one("dns_name", "a.*.example.com"),
        one("dns_name", &format!("{}.example.com", "a".repeat(64))),
        one("dns_name", &format!("{}example.com", "a23456789.".repeat(25))),
        one("dns_name", "under score.example.com"),
        one("ip_address", "300.1.1.1"),
        one("ip_address", "10.0.0.0/8"),
        one("email", "nobody"),
        one("uri", "/only/a/path"),
        one("directory_name", "CN=a"),
    ]
}

/// CSRs with what is wrong with each.
fn invalid_requests() -> Vec<(&'static str, String)> {
    let bench = Bench::new();
    let good = csr(&bench, P256, "/CN=www.example.com", &[]);
    let altered = x509::CertificationRequest::from_pem(&good).unwrap();
    let mut altered = altered.as_der().to_vec();
    let at = altered.windows(3).position(|three| three == b"www").expect("its common name");
    altered[at] = b'v';
    vec![
        ("a key too short", csr(&bench, &["rsa:1024"], "/CN=www.example.com", &[])),
        ("an altered name", x509::pem::encode("CERTIFICATE REQUEST", &altered)),
        ("no name", csr(&bench, P256, "/", &[])),
        ("an authority", csr(&bench, P256, "/CN=a", &["-addext", "basicConstraints=critical,CA:TRUE"])),
        ("no PEM", "nothing".into()),
    ]
}
