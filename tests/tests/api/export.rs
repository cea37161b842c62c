//! Certificates as files (contract §6.7, 6.10): PEM, DER, and key stores, held against OpenSSL and Java.

use crate::authorities::UNKNOWN;
use crate::csr::Draft;
use crate::issuing::{Bench, REQUEST, SIGN, issue, profile};
use crate::server::{Answer, Server, for_each_engine, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use testkit::chains::TestKey;
use x509::pem;

const BY_SERIAL: &str = "/api/v1/pki/certificates";

/// A certificate under both of its names, and its key.
struct Exported {
    places: [String; 2],
    serial: String,
    key: String,
}

async fn exported(server: &Server, profile: &str, changes: Value) -> Exported {
    let answer = issue(server, profile, changes).await.ok();
    let (id, serial) = (text(&answer["certificateId"]), text(&answer["serialNumber"]));
    let places = [format!("{BY_SERIAL}/{serial}"), format!("{REQUEST}/{id}")];
    Exported { places, serial, key: text(&answer["privateKey"]) }
}

/// Asserts that an answer is a file of that name.
#[track_caller]
fn file(answer: Answer, name: &str) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{}", answer.raw);
    let disposition = format!("attachment; filename=\"{name}\"");
    assert_eq!(answer.headers["content-disposition"], disposition);
    answer.octets
}

#[track_caller]
fn store(answer: Answer, name: &str) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    assert_eq!(answer.headers["cache-control"], "no-store");
    file(answer, name)
}

fn openssl(bench: &Bench, more: &[&str], password: &str) -> Output {
    bench.write("password", password);
    let mut command = Command::new("openssl");
    command.args(["pkcs12", "-in", "store.p12", "-noenc", "-info", "-passin", "file:password"]).args(more);
    command.current_dir(bench.path("")).output().unwrap()
}

/// The public half of a private key, as OpenSSL sees it.
fn public(bench: &Bench, key: &str) -> String {
    bench.write("one.key", key);
    bench.openssl(&["pkey", "-in", "one.key", "-pubout"])
}

/// Asserts that OpenSSL opens `store.p12` with the password and no other, and finds the key with a chain of three.
fn check_pkcs12(bench: &Bench, legacy: bool, password: &str, alias: &str, key: &str) {
    let more: &[&str] = if legacy { &["-legacy"] } else { &[] };
    let opened = openssl(bench, more, password);
    let (out, info) = (String::from_utf8_lossy(&opened.stdout), String::from_utf8_lossy(&opened.stderr));
    assert!(opened.status.success(), "{info}");
    assert_eq!(out.matches("BEGIN CERTIFICATE").count(), 3, "{out}");
    assert_eq!(out.matches("friendlyName: ").count(), 2, "{out}");
    assert_eq!(public(bench, &out), public(bench, key));
    let expected = match legacy {
        false => ["MAC: sha256", "PBES2, PBKDF2, AES-256-CBC", "PRF hmacWithSHA256"],
        true => ["MAC: sha1", "pbeWithSHA1And3-KeyTripleDES-CBC", "Iteration 10000"],
    };
    for part in expected {
        assert!(info.contains(part), "{part}: {info}");
    }
    if alias.is_ascii() {
        assert!(out.contains(&format!("friendlyName: {alias}")), "{out}");
    }
    assert!(!openssl(bench, more, &format!("{password}x")).status.success());
}

/// Java, where it is there; said aloud where it is not.
fn has_java() -> bool {
    let found = Command::new("keytool").arg("-help").output().is_ok();
    if !found {
        eprintln!("there is no keytool here: Java was not asked");
    }
    found
}

fn keytool(bench: &Bench, arguments: &[&str], password: &str) -> Output {
    bench.write("password", password);
    let mut command = Command::new("keytool");
    command.args(arguments).args(["-J-Dfile.encoding=UTF-8", "-J-Dsun.jnu.encoding=UTF-8", "-J-Duser.language=en"]);
    command.env("LC_ALL", "C.UTF-8").current_dir(bench.path("")).output().unwrap()
}

/// Asserts that Java finds the key with a chain of three in a store, with the password and no other.
fn check_java(bench: &Bench, name: &str, kind: &str, password: &str, key: &str) {
    let list = ["-list", "-v", "-keystore", name, "-storetype", kind, "-storepass:file", "password"];
    let listed = keytool(bench, &list, password);
    let said = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success(), "{said}");
    for part in ["Entry type: PrivateKeyEntry", "Certificate chain length: 3", "Alias name: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!keytool(bench, &list, &format!("{password}x")).status.success());
    // Java opens the key, and writes it into a store of its own.
    let _ = std::fs::remove_file(bench.path("java.p12"));
    let mut convert = vec!["-importkeystore", "-srckeystore", name, "-srcstoretype", kind];
    convert.extend(["-srcstorepass:file", "password", "-destkeystore", "java.p12", "-deststoretype", "PKCS12"]);
    convert.extend(["-deststorepass", "of its own", "-noprompt"]);
    let converted = keytool(bench, &convert, password);
    assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stdout));
    let opened = bench.openssl(&["pkcs12", "-in", "java.p12", "-noenc", "-passin", "pass:of its own"]);
    assert_eq!(public(bench, &opened), public(bench, key));
}

/// What a reader of ours, made after what is published of the format, finds in `store.jks`.
fn read_jks(bench: &Bench, password: &str) -> Option<Value> {
    bench.write("password", password);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_jks.py");
    let mut command = Command::new("python3");
    let output = command.arg(script).args(["store.jks", "password"]).current_dir(bench.path("")).output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn every_pkcs12_file_opens_with_its_password_and_no_other() {
    for_each_engine(|server| async move {
        let (bench, java) = (Bench::new(), has_java());
        let open = profile(&server, "open", json!({})).await;
        for (kind, password, alias) in [
            ("EC_prime256v1", "secret", "www"),
            ("RSA_2048", "with spaces and a lot of characters, 64 of them or more, for a block", "Www Two"),
            ("EC_secp384r1", "größer als 6 €😀", "schlüssel 😀"),
        ] {
            let one = exported(&server, &open, json!({"keyAlgorithm": kind})).await;
            for (legacy, place) in [(false, 0), (true, 1), (false, 1), (true, 0)] {
                let mut body = json!({"password": password, "alias": alias});
                if legacy {
                    body["encryption"] = json!("legacy");
                } else if place == 1 {
                    body["encryption"] = json!("modern");
                }
                let answer = server.post(&format!("{}/pkcs12", one.places[place]), body.clone()).await;
                let octets = store(answer, &format!("certificate-{}.p12", one.serial));
                std::fs::write(bench.path("store.p12"), &octets).unwrap();
                check_pkcs12(&bench, legacy, password, alias, &one.key);
                // Java takes no other characters into the password of such a file.
                if java && place == 1 && password.is_ascii() {
                    check_java(&bench, "store.p12", "PKCS12", password, &one.key);
                }
                // Salts are drawn each time.
                let again = server.post(&format!("{}/pkcs12", one.places[place]), body).await;
                assert_ne!(again.octets, octets);
            }
        }
    });
}

#[test]
fn every_java_key_store_opens_with_its_password_and_no_other() {
    for_each_engine(|server| async move {
        let (bench, java) = (Bench::new(), has_java());
        let open = profile(&server, "open", json!({})).await;
        for (place, kind, password, alias, shown) in [
            (0, "EC_prime256v1", "secret", "www", "www"),
            (1, "RSA_2048", "größer als 6 €", "Schlüssel 😀", "schlüssel 😀"),
        ] {
            let one = exported(&server, &open, json!({"keyAlgorithm": kind})).await;
            // The format has one encryption, whichever is asked for.
            let body = json!({"password": password, "alias": alias, "encryption": "modern"});
            let answer = server.post(&format!("{}/jks", one.places[place]), body).await;
            let octets = store(answer, &format!("certificate-{}.jks", one.serial));
            std::fs::write(bench.path("store.jks"), &octets).unwrap();
            let entry = read_jks(&bench, password).unwrap();
            assert_eq!(entry["alias"], shown);
            let key = pem::encode(pem::PRIVATE_KEY, &STANDARD.decode(text(&entry["key"])).unwrap());
            assert_eq!(key, one.key);
            let body = server.get(&format!("{}/certificate", one.places[place])).await.ok();
            let all = format!("{}\n{}", text(&body["certificate"]), text(&body["certificateChain"]));
            let expected: Vec<String> =
                pem::decode_all(&all, pem::CERTIFICATE).unwrap().iter().map(|der| STANDARD.encode(der)).collect();
            assert_eq!((expected.len(), &entry["certificates"]), (3, &json!(expected)));
            assert_eq!(read_jks(&bench, "another"), None);
            if java {
                check_java(&bench, "store.jks", "JKS", password, &one.key);
            }
        }
    });
}

/// The forms that hold a key, with what is sent for them.
fn with_key(place: &str) -> [(String, Option<Value>); 3] {
    let body = json!({"password": "secret", "alias": "www"});
    [
        (format!("{place}/pkcs12"), Some(body.clone())),
        (format!("{place}/jks"), Some(body)),
        (format!("{place}/download?format=bundle"), None),
    ]
}

async fn send(server: &Server, path: &str, body: Option<Value>) -> Answer {
    match body {
        Some(body) => server.post(path, body).await,
        None => server.get(path).await,
    }
}

#[test]
fn a_key_leaves_only_for_whoever_may_read_certificate_and_key() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let one = exported(&server, &open, json!({})).await;
        let rules = json!([{"subject": "certificates", "action": ["read-private-key"]}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "keys", "name": "Keys", "permissions": rules})).await.ok();
        let stranger = server.by(&server.identity("no-access", None).await);
        let other = server.other_organization().await;
        for role in ["viewer", "member", "keys"] {
            let reader = server.by(&server.identity("no-access", Some(role)).await);
            for (path, body) in one.places.iter().flat_map(|place| with_key(place)) {
                send(&reader, &path, body).await.refused(403, "PermissionDenied");
            }
        }
        for (path, body) in one.places.iter().flat_map(|place| with_key(place)) {
            send(&stranger, &path, body.clone()).await.refused(403, "ProjectMembershipNotFound");
            send(&other, &path, body).await.refused(404, "NotFound");
        }
        for place in [format!("{BY_SERIAL}/{}", "5a".repeat(20)), format!("{REQUEST}/{UNKNOWN}")] {
            for (path, body) in with_key(&place) {
                send(&server, &path, body).await.refused(404, "NotFound");
            }
        }
        let key = TestKey::generate();
        let sign = json!({"profileId": open, "csr": Draft::named(&key, "own.example.com").pem(&key), "ttl": "1d"});
        let signed = server.post(SIGN, sign).await.ok();
        for (path, body) in with_key(&format!("{REQUEST}/{}", text(&signed["certificateId"]))) {
            let refused = send(&server, &path, body).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains("no private key"), "{refused}");
        }
        let given = |records: Vec<services::fsck::ShownRecord>| {
            let given = records.into_iter().filter(|record| record.event == "private-key-read");
            given.map(|record| (record.object_id.unwrap(), text(&record.detail["form"]))).collect::<Vec<_>>()
        };
        assert_eq!(given(services::fsck::audit_records(&server.services.db, 500).await.unwrap()), []);
        for (path, body) in with_key(&one.places[1]) {
            assert_eq!(send(&server, &path, body).await.status, 200);
        }
        let id = one.places[1].rsplit('/').next().unwrap();
        let expected = ["plain", "jks", "pkcs12"].map(|form| (id.to_owned(), form.to_owned()));
        assert_eq!(given(services::fsck::audit_records(&server.services.db, 500).await.unwrap()), expected);
    });
}

#[test]
fn a_store_that_cannot_be_meant_is_refused_with_every_issue() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let place = exported(&server, &open, json!({})).await.places[1].clone();
        for (body, expected) in [
            (json!({}), vec!["password", "alias"]),
            (json!({"password": "12345", "alias": " "}), vec!["password", "alias"]),
            (json!({"password": "x".repeat(257), "alias": "x".repeat(256)}), vec!["password", "alias"]),
            (json!({"password": "secret", "alias": "a\nb"}), vec!["alias"]),
            (json!({"password": "secret", "alias": "a", "encryption": "rot13"}), vec!["encryption"]),
            (json!({"password": "secret", "alias": "a", "encryption": null}), vec!["encryption"]),
        ] {
            assert_eq!(server.post(&format!("{place}/pkcs12"), body.clone()).await.issues(), expected, "{body}");
            assert_eq!(server.post(&format!("{place}/jks"), body.clone()).await.issues(), expected, "{body}");
        }
        assert_eq!(server.get(&format!("{place}/download?format=p7b")).await.issues(), ["format"]);
        // Spaces at the ends of a password belong to it.
        let (bench, body) = (Bench::new(), json!({"password": "      ", "alias": "a"}));
        let answer = server.post(&format!("{place}/pkcs12"), body).await;
        std::fs::write(bench.path("store.p12"), answer.octets).unwrap();
        assert!(openssl(&bench, &[], "      ").status.success());
    });
}

#[test]
fn a_download_is_named_and_typed_like_what_it_is() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let one = exported(&server, &open, json!({})).await;
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        for place in &one.places {
            let body = server.get(&format!("{place}/certificate")).await.ok();
            let leaf = format!("{}\n", text(&body["certificate"]));
            let full = format!("{leaf}{}\n", text(&body["certificateChain"]));
            let der = pem::decode_one(&leaf, &[pem::CERTIFICATE]).unwrap();
            for (query, kind, ending, expected) in [
                ("", "application/pem-certificate-chain", "pem", leaf.clone().into_bytes()),
                ("?format=pem", "application/pem-certificate-chain", "pem", leaf.clone().into_bytes()),
                ("?format=der", "application/pkix-cert", "der", der),
                ("?format=fullchain", "application/pem-certificate-chain", "fullchain.pem", full.clone().into_bytes()),
            ] {
                let answer = viewer.get(&format!("{place}/download{query}")).await;
                assert_eq!(answer.headers["content-type"], kind, "{query}");
                assert_eq!(file(answer, &format!("certificate-{}.{ending}", one.serial)), expected, "{query}");
            }
            let answer = server.get(&format!("{place}/download?format=bundle")).await;
            assert_eq!(answer.headers["cache-control"], "no-store");
            let bundle = file(answer, &format!("certificate-{}.bundle.pem", one.serial));
            assert_eq!(String::from_utf8(bundle).unwrap(), format!("{}\n{full}", one.key));
        }
    });
}
