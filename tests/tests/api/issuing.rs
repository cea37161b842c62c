//! What tests of issuance start from: policies and profiles, a request that is in order, and the certificate of an answer.

use crate::server::{Answer, Server, text};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use x509::{Certificate, GeneralName};

pub const ISSUE: &str = "/api/v3/pki/certificates/issue-certificate";
pub const SIGN: &str = "/api/v3/pki/certificates/sign-certificate";
pub const REQUEST: &str = "/api/v1/cert-manager/certificates";
pub const POLICIES: &str = "/api/v1/cert-manager/certificate-policies";
pub const PROFILES: &str = "/api/v1/cert-manager/certificate-profiles";

/// A policy that allows everything but an authority.
pub fn open_policy(name: &str) -> Value {
    let any = |kinds: &[&str]| kinds.iter().map(|kind| json!({"type": kind, "allowed": ["*"]})).collect::<Value>();
    json!({
        "name": name,
        "subject": any(&[
            "common_name", "organization", "organizational_unit", "country", "state", "locality", "domain_component",
        ]),
        "sans": any(&["dns_name", "ip_address", "email", "uri"]),
        "keyUsages": {"allowed": domain::policy::KEY_USAGES},
        "extendedKeyUsages": {"allowed": domain::policy::EXTENDED_KEY_USAGES},
        "algorithms": {"signature": api::render::SIGNATURE_ALGORITHMS, "keyAlgorithm": api::render::KEY_ALGORITHMS},
        "validity": {"max": "20y"},
    })
}

/// A new policy: its id.
pub async fn policy(server: &Server, body: Value) -> String {
    text(&server.post(POLICIES, body).await.ok()["certificatePolicy"]["id"])
}

/// A new profile of the `api` enrollment with this policy: its id. No authority makes it self-signed.
pub async fn profile_with(server: &Server, slug: &str, ca: Option<&str>, policy: &str, more: Value) -> String {
    let mut body = json!({"slug": slug, "certificatePolicyId": policy});
    match ca {
        Some(ca) => body["caId"] = json!(ca),
        None => body["issuerType"] = json!("self-signed"),
    }
    merge(&mut body, more);
    text(&server.post(PROFILES, body).await.ok()["certificateProfile"]["id"])
}

/// A new profile of the first start's issuing authority whose policy is the open one, with some parts replaced: its id.
pub async fn profile(server: &Server, slug: &str, changes: Value) -> String {
    let mut body = open_policy(slug);
    merge(&mut body, changes);
    let policy = policy(server, body).await;
    profile_with(server, slug, Some(&server.issuing_ca), &policy, json!({})).await
}

/// The id of a profile of the first start.
pub async fn first_profile(server: &Server, slug: &str) -> String {
    let path = format!("{PROFILES}/slug/{slug}?projectId={}", server.project);
    text(&server.get(&path).await.ok()["certificateProfile"]["id"])
}

/// A request that is in order: a P-256 key, signed by a P-256 authority.
pub fn wanted(profile: &str, changes: Value) -> Value {
    let mut body = json!({"profileId": profile, "commonName": "www.example.com", "ttl": "1d",
        "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256"});
    merge(&mut body, changes);
    body
}

/// Replaces members; null removes one.
pub fn merge(body: &mut Value, changes: Value) {
    let Value::Object(changes) = changes else { panic!("not an object: {changes}") };
    for (name, value) in changes {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(&name)),
            value => body[name] = value,
        }
    }
}

/// Issues from a profile what is in order but for some changes.
pub async fn issue(server: &Server, profile: &str, changes: Value) -> Answer {
    server.post(ISSUE, wanted(profile, changes)).await
}

/// The certificate of an answer.
#[track_caller]
pub fn certificate(answer: &Value) -> Certificate {
    Certificate::from_pem(&text(&answer["certificate"])).unwrap()
}

/// The alternative names of a certificate with their kinds: `DNS name www.example.com`.
#[track_caller]
pub fn names(certificate: &Certificate) -> Vec<String> {
    let Some(names) = certificate.extensions().subject_alt_names().unwrap() else { return Vec::new() };
    let names: Vec<GeneralName> = names.into_valid().unwrap();
    names.iter().map(|name| format!("{} {}", name.kind(), name.text())).collect()
}

/// How many certificates the project has.
pub async fn count(server: &Server) -> i64 {
    let path = format!("/api/v1/projects/{}/certificates?limit=1", server.project);
    server.get(&path).await.ok()["totalCount"].as_i64().unwrap()
}

/// Files in a folder of their own, and programs that run there.
pub struct Bench(tempfile::TempDir);

impl Bench {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), format!("{content}\n")).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a program to its good end: what it printed.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run scripts/install-test-tools first"));
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program} {arguments:?}\n{said}");
        said
    }

    #[track_caller]
    pub fn openssl(&self, arguments: &[&str]) -> String {
        self.run("openssl", arguments)
    }
}
