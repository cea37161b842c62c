//! What is asked for when little is typed, and where the result goes.

use super::*;
use std::{fs, os::unix::fs::MetadataExt};

fn policy() -> Value {
    json!({
        "keyUsages": { "allowed": ["digital_signature", "key_encipherment"], "required": [] },
        "extendedKeyUsages": { "allowed": ["client_auth", "server_auth"] },
    })
}

#[test]
fn usages_that_were_not_typed_come_from_the_policy() {
    let none = json!({});
    let check = |policy: &Value, key, usages: Option<&[&str]>, extended: Option<&[&str]>| {
        let words =
            |list: Option<&[&str]>| list.map(|list| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(key_usages(&none, policy, key), words(usages), "{policy}");
        assert_eq!(extended_key_usages(&none, policy), words(extended), "{policy}");
    };
    // What may be both is both: as a server alone it could not connect as a client.
    let both: &[&str] = &["server_auth", "client_auth"];
    check(&policy(), KeyAlgorithm::EcP256, Some(&["digital_signature"]), Some(both));
    let with_rsa: &[&str] = &["digital_signature", "key_encipherment"];
    check(&policy(), KeyAlgorithm::Rsa2048, Some(with_rsa), Some(both));
    // No rules allow nothing, so nothing is asked for.
    check(&Value::Null, KeyAlgorithm::EcP256, None, None);
    check(&json!({ "keyUsages": null, "extendedKeyUsages": null }), KeyAlgorithm::EcP256, None, None);
    let client =
        json!({ "keyUsages": { "required": ["key_agreement"] }, "extendedKeyUsages": { "allowed": ["client_auth"] } });
    check(&client, KeyAlgorithm::EcP256, Some(&["key_agreement"]), Some(&["client_auth"]));
    let strict = json!({
        "keyUsages": { "allowed": ["digital_signature"], "denied": ["digital_signature"] },
        "extendedKeyUsages": { "allowed": ["server_auth"], "required": ["client_auth"] },
    });
    check(&strict, KeyAlgorithm::EcP256, Some(&[]), Some(&["client_auth"]));
    let other = json!({ "keyUsages": {}, "extendedKeyUsages": { "allowed": ["code_signing", "email_protection"] } });
    check(&other, KeyAlgorithm::EcP256, Some(&[]), Some(&["code_signing"]));
}

#[test]
fn defaults_of_the_profile_are_left_to_the_server() {
    let profile = json!({ "defaults": {
        "keyUsages": ["digital_signature"], "extendedKeyUsages": [], "ttlDays": 7, "keyAlgorithm": "RSA_3072",
    } });
    assert_eq!(key_usages(&profile, &policy(), KeyAlgorithm::EcP256), None);
    assert_eq!(extended_key_usages(&profile, &policy()), None);
    assert_eq!(lifetime(None, &profile), "7d");
    assert_eq!(lifetime(Some("1h"), &profile), "1h");
    assert_eq!(lifetime(None, &json!({ "defaults": null })), "30d");
    assert_eq!(key_algorithm(None, &profile), KeyAlgorithm::Rsa3072);
    assert_eq!(key_algorithm(Some(KeyAlgorithm::EcP384), &profile), KeyAlgorithm::EcP384);
    assert_eq!(key_algorithm(None, &json!({})), KeyAlgorithm::EcP256);
}

#[test]
fn none_asks_for_no_usage() {
    assert_eq!(typed_usages(&[]), None);
    assert_eq!(typed_usages(&["none".to_owned()]), Some(vec![]));
    assert_eq!(typed_usages(&["crl_sign".to_owned()]), Some(vec!["crl_sign".to_owned()]));
}

fn delivery(out: &Path) -> DeliveryArguments {
    DeliveryArguments { without_root: false, out: Some(out.to_owned()), force: false, idempotency_key: None }
}

fn answer() -> Value {
    json!({
        "certificate": "LEAF", "certificateChain": "ISSUER\nROOT", "issuingCaCertificate": "ISSUER",
        "privateKey": "KEY", "serialNumber": "0a", "certificateId": "id",
    })
}

#[test]
fn an_issued_certificate_stands_in_four_files_and_its_key_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let made = || Destination::new(&delivery(folder.path()), "*.example.com", KeyFile::Expected, true);
    let output = made().unwrap().deliver(answer()).unwrap();
    let path = |suffix: &str| folder.path().join(format!("_.example.com{suffix}"));
    for (suffix, contents, mode) in [
        (".key", "KEY\n", 0o600),
        (".crt", "LEAF\n", 0o644),
        (".chain.pem", "ISSUER\nROOT\n", 0o644),
        (".fullchain.pem", "LEAF\nISSUER\nROOT\n", 0o644),
    ] {
        assert_eq!(fs::read_to_string(path(suffix)).unwrap(), contents, "{suffix}");
        // The umask may take away more.
        assert_eq!(fs::metadata(path(suffix)).unwrap().mode() & 0o777 & !mode, 0, "{suffix}");
    }
    assert_eq!(fs::metadata(path(".key")).unwrap().mode() & 0o777, 0o600);
    let (text, json) = (output.text(), output.json());
    assert!(!text.contains("KEY") && json.get("privateKey").is_none(), "{text} {json}");
    assert_eq!(json["files"]["fullChain"], json!(path(".fullchain.pem")));
    assert_eq!(json["files"]["privateKey"], json!(path(".key")));
    // One of the four is enough to refuse, before anything is asked.
    for suffix in [".crt", ".chain.pem", ".fullchain.pem"] {
        fs::remove_file(path(suffix)).unwrap();
    }
    assert!(made().is_err());
}

#[test]
fn without_out_json_goes_to_standard_output_as_a_whole() {
    let nowhere = DeliveryArguments { out: None, ..delivery(Path::new("")) };
    let output = Destination::new(&nowhere, "www", KeyFile::Expected, true).unwrap().deliver(answer()).unwrap();
    assert_eq!(*output.json(), answer());
}

#[test]
fn a_key_that_did_not_come_is_said_and_a_self_signed_certificate_is_not_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let destination = Destination::new(&delivery(folder.path()), "www", KeyFile::Expected, false).unwrap();
    let own = json!({ "certificate": "LEAF", "certificateChain": "LEAF", "serialNumber": "0a", "certificateId": "id" });
    let output = destination.deliver(own).unwrap();
    assert!(output.text().contains("may not read private keys"), "{}", output.text());
    assert!(!folder.path().join("www.key").exists());
    assert_eq!(fs::read_to_string(folder.path().join("www.fullchain.pem")).unwrap(), "LEAF\n");
}
