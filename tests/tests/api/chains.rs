//! From an outside authority to a leaf: create, CSR, signature by OpenSSL, import, policy and profile, issuance; and what
//! OpenSSL, GnuTLS, Python's `cryptography`, Node's TLS and pkilint say of the outcome.

use crate::authorities::{DAY, FLAT, TYPED, authority, first_root, intermediate, list_of};
use crate::server::{Answer, Server, for_each_engine, text};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};
use testkit::chains::{Draft, TestKey, common_name, written};
use x509::Certificate;
use x509::der::tag;

/// The files of one test and the programs that look at them.
struct Workbench {
    folder: tempfile::TempDir,
    repository: PathBuf,
}

impl Workbench {
    fn new() -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        Self { folder: tempfile::tempdir().unwrap(), repository }
    }

    /// Writes a text to a file of this name, and gives the path.
    fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("{content}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap().trim().to_owned()
    }

    /// Runs a program in the folder; its output must hold a text and its status be 0.
    fn run(&self, program: &str, arguments: &[&str], expected: &str) {
        let output = Command::new(program).args(arguments).current_dir(self.folder.path()).output();
        let Output { status, stdout, stderr } = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success() && said.contains(expected), "{program} {arguments:?}: {status}\n{said}");
    }

    fn python(&self, script: &str, arguments: &[&str], expected: &str) {
        let python = self.repository.join(".test/venv/bin/python");
        assert!(python.exists(), "run scripts/install-test-tools first");
        let script = self.repository.join("tests/python").join(script);
        self.run(python.to_str().unwrap(), &[&[script.to_str().unwrap()], arguments].concat(), expected);
    }

    /// A root of OpenSSL in `root.pem` with its key in `root.key`.
    fn make_root(&self) {
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"];
        let names = ["-keyout", "root.key", "-out", "root.pem", "-subj", "/O=Outside/CN=Outside Root"];
        let extensions =
            ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        self.run("openssl", &[&new[..], &names, &extensions].concat(), "");
        self.write(
            "ca.cnf",
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign,digitalSignature\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid",
        );
    }

    /// The certificate that the root makes for this request, in PEM.
    fn signed_by_root(&self, csr: &str) -> String {
        self.write("ca.csr", csr);
        self.run("openssl", &["req", "-verify", "-noout", "-in", "ca.csr"], "verify OK");
        let with = ["-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "365", "-extfile", "ca.cnf"];
        self.run("openssl", &[&["x509", "-req", "-in", "ca.csr", "-out", "ca.pem"][..], &with].concat(), "");
        let lines = self.read("ca.pem");
        lines[lines.find("-----BEGIN").unwrap()..].to_owned()
    }

    /// Four outside verifiers accept the path from a leaf to the only trusted root.
    fn check_path(&self, root: &str, chain: &str, leaf: &str, key: &str, name: &str) {
        let root = &self.write("trusted.pem", root);
        let chain_file = &self.write("chain.pem", chain);
        let leaf_file = &self.write("leaf.pem", leaf);
        let key = &self.write("leaf.key", key);
        let full_chain = &self.write("full.pem", &format!("{leaf}\n{chain}"));
        for strictness in [&[][..], &["-x509_strict"], &["-purpose", "sslserver", "-verify_hostname", name]] {
            let ask = ["verify", "-CAfile", root, "-untrusted", chain_file];
            self.run("openssl", &[&ask[..], strictness, &[leaf_file]].concat(), "OK");
        }
        self.run("certtool", &["--verify-chain", "--infile", full_chain], "The certificate is trusted");
        let ask = ["--verify", "--load-ca-certificate", root, "--infile", full_chain, "--verify-hostname", name];
        self.run("certtool", &ask, "The certificate is trusted");
        self.python("verify_chain.py", &[root, chain_file, leaf_file, name], "verified");
        let script = self.repository.join("tests/node/tls-handshake.mjs");
        self.run("node", &[script.to_str().unwrap(), root, full_chain, key, name], "trusted");
    }
}

/// Puts the clock to the machine's time: what OpenSSL has just signed begins then.
fn catch_up(server: &Server) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    server.at(i64::try_from(now).unwrap() - server.start.seconds());
}

/// A profile and its policy, made for TLS servers with any name below an authority of ours: its id.
pub async fn profile(server: &Server, ca: &str, slug: &str, key_algorithm: &str, signature_algorithm: &str) -> String {
    let anything = |kind: &str| json!([{"type": kind, "allowed": ["*"]}]);
    let policy = json!({"name": slug, "subject": anything("common_name"), "sans": anything("dns_name"),
        "keyUsages": {"allowed": ["digital_signature"]}, "extendedKeyUsages": {"allowed": ["server_auth"]},
        "algorithms": {"keyAlgorithm": [key_algorithm], "signature": [signature_algorithm]}, "validity": {"max": "30d"}});
    let policies = "/api/v1/cert-manager/certificate-policies";
    let policy = text(&server.post(policies, policy).await.ok()["certificatePolicy"]["id"]);
    let profile = json!({"slug": slug, "issuerType": "ca", "caId": ca, "certificatePolicyId": policy,
        "enrollmentType": "api", "apiConfig": {}});
    let profiles = "/api/v1/cert-manager/certificate-profiles";
    text(&server.post(profiles, profile).await.ok()["certificateProfile"]["id"])
}

/// A leaf from a profile.
pub async fn issue(
    server: &Server,
    profile: &str,
    name: &str,
    key_algorithm: &str,
    signature_algorithm: &str,
) -> Answer {
    let wanted = json!({"profileId": profile, "commonName": name, "ttl": "10d", "keyAlgorithm": key_algorithm,
        "signatureAlgorithm": signature_algorithm, "altNames": [{"type": "dns_name", "value": name}],
        "keyUsages": ["digital_signature"], "extendedKeyUsages": ["server_auth"]});
    server.post("/api/v3/pki/certificates/issue-certificate", wanted).await
}

#[test]
fn four_verifiers_accept_what_is_issued_below_an_outside_root() {
    for_each_engine(|server| async move {
        let workbench = Workbench::new();
        workbench.make_root();
        let root = workbench.read("root.pem");
        let mut linted = Vec::new();
        for (slug, algorithm, signature) in [
            ("p256", "EC_prime256v1", "ECDSA-SHA256"),
            ("p384", "EC_secp384r1", "ECDSA-SHA384"),
            ("p521", "EC_secp521r1", "ECDSA-SHA512"),
            ("ed25519", "Ed25519", "Ed25519"),
            ("rsa2048", "RSA_2048", "RSA-SHA256"),
        ] {
            let new = json!({"name": slug, "configuration": {"type": "intermediate", "keyAlgorithm": algorithm,
                "commonName": format!("Ours {slug}"), "organization": "Acme", "country": "DE"}});
            let id = text(&server.post(TYPED, new).await.ok()["id"]);
            let csr = text(&server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"]);
            let certificate = workbench.signed_by_root(&csr);
            catch_up(&server);
            let import = json!({"certificate": certificate, "certificateChain": root});
            server.post(&format!("{FLAT}/{id}/import-certificate"), import).await.ok();
            let ca = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"].take();
            assert_eq!((&ca["status"], &ca["maxPathLength"]), (&json!("active"), &json!(0)));

            let name = &format!("{slug}.example.com");
            let profile = profile(&server, &id, slug, algorithm, signature).await;
            let issued = issue(&server, &profile, name, algorithm, signature).await.ok();
            assert_eq!(text(&issued["issuingCaCertificate"]), certificate);
            assert_eq!(text(&issued["certificateChain"]), format!("{certificate}\n{root}"));
            let [leaf, key] = ["certificate", "privateKey"].map(|member| text(&issued[member]));
            workbench.check_path(&root, &text(&issued["certificateChain"]), &leaf, &key, name);
            linted.push(workbench.write(&format!("{slug}-leaf.pem"), &leaf));
            linted.push(workbench.write(&format!("{slug}-ca.pem"), &certificate));

            // The list of the imported authority is one that OpenSSL takes as its own.
            let lists = server.get(&format!("{FLAT}/{id}/crls")).await.ok();
            workbench.write("list.pem", &text(&lists[0]["crl"]));
            let ask = [
                "verify",
                "-CAfile",
                "trusted.pem",
                "-untrusted",
                "chain.pem",
                "-crl_check",
                "-CRLfile",
                "list.pem",
                "leaf.pem",
            ];
            workbench.run("openssl", &ask, "OK");
        }
        lint(&workbench, &linted);
    });
}

#[test]
fn a_subject_is_kept_octet_for_octet_whatever_its_string_type() {
    for_each_engine(|server| async move {
        let workbench = Workbench::new();
        let id = authority(&server, "intermediate", "Ours").await;
        let csr = text(&server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"]);
        let csr = x509::CertificationRequest::from_pem(&csr).unwrap();
        let profile = profile(&server, &id, "any", "EC_prime256v1", "ECDSA-SHA256").await;
        let (root_key, root_name) = (TestKey::generate(), common_name("Outside Root"));
        let now = server.start.seconds();
        let root = Draft::authority(&root_name, root_key.spki(), &root_name, now).sign(&root_key);
        let root = x509::pem::encode("CERTIFICATE", &root);
        let wide = |octets: usize| -> Vec<u8> {
            "Ours".bytes().flat_map(|octet| std::iter::repeat_n(0, octets - 1).chain([octet])).collect()
        };
        // One key under one name in five spellings, each imported over the one before.
        for (string_type, value) in [
            (tag::PRINTABLE_STRING, wide(1)),
            (tag::TELETEX_STRING, wide(1)),
            (tag::UNIVERSAL_STRING, wide(4)),
            (tag::BMP_STRING, wide(2)),
            (tag::UTF8_STRING, wide(1)),
        ] {
            let mut draft = Draft::authority(&common_name("replaced"), csr.spki_der().to_vec(), &root_name, now);
            draft.subject = name_of_type(string_type, &value);
            let certificate = x509::pem::encode("CERTIFICATE", &draft.sign(&root_key));
            let import = json!({"certificate": certificate, "certificateChain": root});
            server.post(&format!("{FLAT}/{id}/import-certificate"), import).await.ok();
            let issued = issue(&server, &profile, "www.example.com", "EC_prime256v1", "ECDSA-SHA256").await.ok();
            let leaf = Certificate::from_pem(&text(&issued["certificate"])).unwrap();
            assert_eq!(leaf.issuer().as_der(), draft.subject);
            let (_, list) = list_of(&server, &id).await;
            assert_eq!(list.issuer().as_der(), draft.subject);
            workbench.write("root.pem", &root);
            workbench.write("chain.pem", &text(&issued["certificateChain"]));
            workbench.write("leaf.pem", &text(&issued["certificate"]));
            workbench.run("openssl", &["verify", "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"], "OK");
        }
    });
}

/// A name of one common name, in this string type.
fn name_of_type(string_type: u8, value: &[u8]) -> Vec<u8> {
    written(|writer| {
        writer.sequence(|writer| {
            writer.set_of_one(|writer| {
                writer.sequence(|writer| {
                    writer.oid(x509::oid::COMMON_NAME);
                    writer.primitive(string_type, value);
                });
            });
        });
    })
}

#[test]
fn four_verifiers_accept_what_is_issued_below_our_own_root() {
    for_each_engine(|server| async move {
        let workbench = Workbench::new();
        let root = text(
            &server
                .post(
                    TYPED,
                    json!({"name": "top", "configuration": {"type": "root", "commonName": "Top",
            "keyAlgorithm": "EC_secp384r1"}}),
                )
                .await
                .ok()["id"],
        );
        let middle = intermediate(&server, "middle", &root, 1).await;
        let lowest = intermediate(&server, "lowest", &middle, 0).await;
        let profile = profile(&server, &lowest, "leaf", "EC_prime256v1", "ECDSA-SHA256").await;
        let issued = issue(&server, &profile, "leaf.example.com", "EC_prime256v1", "ECDSA-SHA256").await.ok();
        let certificate = |id: String| {
            let server = server.clone();
            async move { text(&server.get(&format!("{FLAT}/{id}/certificate")).await.ok()["certificate"]) }
        };
        let [top, middle, lowest] = [certificate(root).await, certificate(middle).await, certificate(lowest).await];
        let chain = text(&issued["certificateChain"]);
        assert_eq!(chain, format!("{lowest}\n{middle}\n{top}"));
        let [leaf, key] = ["certificate", "privateKey"].map(|member| text(&issued[member]));
        workbench.check_path(&top, &chain, &leaf, &key, "leaf.example.com");
    });
}

#[test]
fn pkilint_finds_no_error_in_what_authorities_are_certified_with() {
    for_each_engine(|server| async move {
        let workbench = Workbench::new();
        let mut linted = Vec::new();
        for algorithm in ["RSA_2048", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1", "Ed25519"] {
            let name = algorithm.to_lowercase().replace('_', "-");
            let new = json!({"name": name, "configuration": {"type": "root", "commonName": "Ünïcode ♥", "organization": "Acme, Inc",
                "ou": "PKI", "country": "DE", "province": "Berlin", "locality": "Berlin", "keyAlgorithm": algorithm,
                "notAfter": "2060-01-01"}});
            let root = text(&server.post(TYPED, new).await.ok()["id"]);
            let below = intermediate(&server, &format!("below-{name}"), &root, 0).await;
            let renew = json!({"type": "existing", "notAfter": "2059-01-01"});
            server.post(&format!("{FLAT}/{below}/renew"), renew).await.ok();
            linted.extend(certificate_files(&workbench, &server, &root).await);
            linted.extend(certificate_files(&workbench, &server, &below).await);
            let csr = server
                .get(&format!("{FLAT}/{}/csr", authority(&server, "intermediate", &format!("other-{name}")).await))
                .await
                .ok();
            let sign = json!({"csr": csr["csr"], "notAfter": server.time(DAY)});
            let signed = server.post(&format!("{FLAT}/{root}/sign-intermediate"), sign).await.ok();
            linted.push(workbench.write(&format!("{name}-signed.pem"), &text(&signed["certificate"])));
        }
        for kind in ["root", "intermediate"] {
            let new = json!({"name": format!("full-{kind}"), "configuration": {"type": kind, "commonName": "All", "keyAlgorithm": "EC_prime256v1",
                "nameConstraints": {"permitted": [{"type": "dns_name", "value": "example.com"}, {"type": "ip_address", "value": "10.0.0.0/8"},
                    {"type": "ip_address", "value": "2001:db8::/32"}, {"type": "email", "value": "example.com"},
                    {"type": "uri", "value": ".example.com"}, {"type": "directory_name", "value": "C=DE,O=Acme"}],
                    "excluded": [{"type": "dns_name", "value": "secret.example.com"}]},
                "policyOids": ["1.3.6.1.4.1.55555.1.1"], "extendedKeyUsages": ["server_auth", "client_auth"]}});
            let id = text(&server.post(TYPED, new).await.ok()["id"]);
            if kind == "intermediate" {
                let top = first_root(&server).await;
                let body = json!({"notBefore": server.time(0), "notAfter": server.time(DAY), "parentCaId": top});
                server.post(&format!("{TYPED}/{id}/certificate"), body).await.ok();
            }
            linted.extend(certificate_files(&workbench, &server, &id).await);
        }
        lint(&workbench, &linted);
    });
}

/// The files of every certificate of an authority.
async fn certificate_files(workbench: &Workbench, server: &Server, id: &str) -> Vec<String> {
    let listed = server.get(&format!("{FLAT}/{id}/ca-certificates")).await.ok();
    let write =
        |(index, one): (usize, &Value)| workbench.write(&format!("{id}-{index}.pem"), &text(&one["certificate"]));
    listed.as_array().unwrap().iter().enumerate().map(write).collect()
}

fn lint(workbench: &Workbench, files: &[String]) {
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    workbench.python("lint_certificates.py", &files, &format!("{} linted, 0 with errors", files.len()));
}
