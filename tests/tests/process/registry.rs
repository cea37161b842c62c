//! The device registry with the vendor's own SDKs: every call of the contract once, and one truth over gRPC and REST.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::api::{Api, new_client};
use crate::site::{Server, Site, block_on, on_both_engines};

/// Self-signed certificates, each of a key of its own, all for the same name as the vendor's documentation has them.
pub fn self_signed(folder: &Path, count: usize) -> Vec<String> {
    let make = |number: usize| {
        let (key, certificate) = (folder.join(format!("{number}.key")), folder.join(format!("{number}.pem")));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "365"])
            .args(["-subj", "/CN=localhost", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        std::fs::read_to_string(certificate).unwrap()
    };
    (0..count).map(make).collect()
}

/// What the scripts are told.
fn facts(site: &Site, server: &Server, certificates: &[String]) -> Value {
    let address = |url: &str| url.split_once("//").unwrap().1.to_owned();
    let client = format!("{}:{}", site.fact("/clientId"), site.fact("/clientSecret"));
    let token = block_on(async {
        let body = json!({ "yandexPassportOauthToken": client });
        let answer = new_client().post(format!("{}/iam/v1/tokens", server.url)).json(&body).send();
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        answer["iamToken"].as_str().unwrap().to_owned()
    });
    json!({
        "plain": address(&server.url), "tls": address(&site.fact("/tlsUrl")), "ca": site.fact("/tlsCa"),
        "token": token, "client": client, "folder": "default", "certificates": certificates,
        "certificate": certificates[0],
    })
}

/// Runs a script with these facts on its standard input: what it printed.
fn told(program: &Path, script: &str, facts: &Value) -> Value {
    use std::io::Write;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut child = Command::new(program)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; did scripts/install-test-tools run?", program.display()));
    child.stdin.take().unwrap().write_all(facts.to_string().as_bytes()).unwrap();
    let ran = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{error}");
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{} {error}", String::from_utf8_lossy(&ran.stdout)))
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.test/venv/bin/python")
}

/// Every method of the contract's tables (§3.2 to §3.8).
const CALLS: [&str; 54] = [
    "ApiEndpointService/Get",
    "ApiEndpointService/List",
    "BrokerDataService/Publish",
    "BrokerService/AddCertificate",
    "BrokerService/AddPassword",
    "BrokerService/Create",
    "BrokerService/Delete",
    "BrokerService/DeleteCertificate",
    "BrokerService/DeletePassword",
    "BrokerService/Get",
    "BrokerService/List",
    "BrokerService/ListCertificates",
    "BrokerService/ListOperations",
    "BrokerService/ListPasswords",
    "BrokerService/Update",
    "DeviceDataService/Publish",
    "DeviceService/AddCertificate",
    "DeviceService/AddPassword",
    "DeviceService/Create",
    "DeviceService/Delete",
    "DeviceService/DeleteCertificate",
    "DeviceService/DeletePassword",
    "DeviceService/Get",
    "DeviceService/GetByName",
    "DeviceService/List",
    "DeviceService/ListCertificates",
    "DeviceService/ListOperations",
    "DeviceService/ListPasswords",
    "DeviceService/Update",
    "IamTokenService/Create",
    "IamTokenService/CreateForServiceAccount",
    "IamTokenService/Revoke",
    "OperationService/Cancel",
    "OperationService/Get",
    "RegistryDataService/Publish",
    "RegistryService/AddCertificate",
    "RegistryService/AddDataStreamExport",
    "RegistryService/AddPassword",
    "RegistryService/Create",
    "RegistryService/Delete",
    "RegistryService/DeleteCertificate",
    "RegistryService/DeleteDataStreamExport",
    "RegistryService/DeletePassword",
    "RegistryService/Disable",
    "RegistryService/Enable",
    "RegistryService/Get",
    "RegistryService/GetByName",
    "RegistryService/List",
    "RegistryService/ListCertificates",
    "RegistryService/ListDataStreamExports",
    "RegistryService/ListDeviceTopicAliases",
    "RegistryService/ListOperations",
    "RegistryService/ListPasswords",
    "RegistryService/Update",
];

#[test]
fn every_call_is_answered_to_the_vendors_python_sdk() {
    on_both_engines(|site| {
        let server = site.start_as(site.serve(&["--tls-listen", "127.0.0.1:0"]));
        let certificates = self_signed(site.data(), 6);
        let said = told(&python(), "python/iot_every_call.py", &facts(site, &server, &certificates));
        let called: Vec<&str> = said["called"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for call in CALLS {
            assert!(called.contains(&call), "{call} was not called");
        }
        assert_eq!(said["violations"], json!(["labels.A", "name", "password"]));
        // SHA-256 of the DER, in lower case and without colons.
        let printed = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(site.data().join("1.pem"))
            .output()
            .unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let digest = printed.split_once('=').unwrap().1.trim().replace(':', "").to_lowercase();
        assert_eq!(said["fingerprint"], digest);
        block_on(async {
            let api = Api::log_in(site, &server).await;
            assert_eq!(api.metric("chancery_panics").await, 0);
        });
        server.stop();
        site.check_clean();
    });
}

#[test]
fn the_vendors_node_sdk_makes_waits_and_reads() {
    on_both_engines(|site| {
        let server = site.start_as(site.serve(&["--tls-listen", "127.0.0.1:0"]));
        let certificates = self_signed(site.data(), 1);
        let said = told(Path::new("node"), "node/iot-session.mjs", &facts(site, &server, &certificates));
        assert!(said["refusal"]["requestId"].is_string(), "{said}");
        server.stop();
    });
}

#[test]
fn rest_and_grpc_tell_one_truth() {
    on_both_engines(|site| {
        let server = site.start_as(site.serve(&["--tls-listen", "127.0.0.1:0"]));
        let mut facts = facts(site, &server, &self_signed(site.data(), 8));
        facts["seed"] = json!(20_261_127);
        facts["steps"] = json!(120);
        let counts = told(&python(), "python/iot_truth.py", &facts);
        assert!(counts.as_object().unwrap().len() > 10, "{counts}");
        server.stop();
        site.check_clean();
    });
}
