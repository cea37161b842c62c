//! A Vault or OpenBao server with one KV version 2 store (and one of version 1, which nothing may be written to).
//!
//! Rules: the KV version 2 API (check-and-set, soft deletion, destruction, removal of all versions with the metadata),
//! tokens and namespaces in headers.

use super::faults::{self, Asked, Fault, Faults, json, lock};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// The server.
pub struct Vault {
    /// What it is told to do wrong: `read`, `write`, `delete`, `destroy`, `mount`, `self`.
    pub faults: Faults,
    address: SocketAddr,
    token: String,
    namespace: String,
    secrets: Mutex<BTreeMap<String, Secret>>,
}

/// All versions of a secret, the first of which is number 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secret {
    /// The versions.
    pub versions: Vec<Version>,
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// What it holds; nothing once it was destroyed.
    pub data: Option<Value>,
    /// Whether it was deleted, so that it may yet be brought back.
    pub deleted: bool,
}

/// Where the version 2 store is.
pub const MOUNT: &str = "kv";
/// Where the version 1 store is.
pub const MOUNT_OF_VERSION_1: &str = "old";

impl Vault {
    /// Starts one that believes this token in this namespace (the root's is empty).
    pub async fn start(namespace: &str, token: &str) -> Arc<Self> {
        let (token, namespace) = (token.to_owned(), namespace.to_owned());
        let make = |address| Self { faults: Faults::default(), address, token, namespace, secrets: Mutex::default() };
        faults::serve(make, |server| &server.faults, operation, Self::answer).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every secret by its path in the store.
    pub fn secrets(&self) -> BTreeMap<String, Secret> {
        lock(&self.secrets).clone()
    }

    /// What the newest version of a secret holds, if it is not deleted.
    pub fn newest(&self, path: &str) -> Option<Value> {
        lock(&self.secrets).get(path).and_then(|secret| secret.present().cloned())
    }

    /// Writes a version as somebody else would.
    pub fn put(&self, path: &str, data: Value) {
        let version = Version { data: Some(data), deleted: false };
        lock(&self.secrets).entry(path.to_owned()).or_default().versions.push(version);
    }

    /// Deletes the newest version as somebody else would, so that it may be brought back.
    pub fn delete_softly(&self, path: &str) {
        if let Some(version) = lock(&self.secrets).get_mut(path).and_then(|secret| secret.versions.last_mut()) {
            version.deleted = true;
        }
    }

    fn answer(&self, asked: &Asked, fault: Option<Fault>) -> Response {
        if asked.header("x-vault-token") != self.token {
            return errors(403, &["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]);
        }
        if asked.header("x-vault-namespace") != self.namespace {
            return errors(403, &["permission denied"]);
        }
        let segments = asked.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (&asked.method, path.as_slice()) {
            (&Method::GET, ["v1", "auth", "token", "lookup-self"]) => {
                json(200, &object!({"data": {"display_name": "token", "policies": ["pki"]}}))
            }
            (&Method::GET, ["v1", "sys", "internal", "ui", "mounts", mount]) => match *mount {
                MOUNT => json(200, &object!({"data": {"type": "kv", "options": {"version": "2"}}})),
                MOUNT_OF_VERSION_1 => json(200, &object!({"data": {"type": "kv", "options": {"version": "1"}}})),
                _ => errors(
                    403,
                    &["preflight capability check returned 403, please ensure client's policies grant access"],
                ),
            },
            (method, ["v1", MOUNT, verb, rest @ ..]) if !rest.is_empty() => {
                self.answer_store(method, verb, &rest.join("/"), asked, fault)
            }
            (_, ["v1", MOUNT_OF_VERSION_1, ..]) => StatusCode::NO_CONTENT.into_response(),
            _ => errors(404, &[&format!("no handler for route \"{}\". route entry not found.", path[1..].join("/"))]),
        }
    }

    fn answer_store(&self, method: &Method, verb: &str, path: &str, asked: &Asked, fault: Option<Fault>) -> Response {
        if fault == Some(Fault::Overtake) {
            self.put(path, object!({"overtaken": "yes"}));
        }
        let mut secrets = lock(&self.secrets);
        match (method, verb) {
            (&Method::GET, "data") if fault == Some(Fault::DenyPresence) => errors(404, &[]),
            (&Method::GET, "data") => secrets.get(path).map_or_else(|| errors(404, &[]), read),
            (&Method::POST | &Method::PUT, "data") => write(&mut secrets, path, &asked.json()),
            (&Method::DELETE, "metadata") => {
                secrets.remove(path);
                StatusCode::NO_CONTENT.into_response()
            }
            (&Method::POST | &Method::PUT, "destroy") => {
                let body = asked.json();
                let numbers = body["versions"].as_array().cloned().unwrap_or_default();
                for number in numbers.iter().filter_map(Value::as_u64) {
                    let index = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
                    if let Some(version) = secrets.get_mut(path).and_then(|secret| secret.versions.get_mut(index)) {
                        version.data = None;
                    }
                }
                StatusCode::NO_CONTENT.into_response()
            }
            _ => errors(405, &["unsupported operation"]),
        }
    }
}

impl Secret {
    fn present(&self) -> Option<&Value> {
        let version = self.versions.last()?;
        version.data.as_ref().filter(|_| !version.deleted)
    }

    fn metadata(&self) -> Value {
        let newest = self.versions.last();
        object!({
            "version": self.versions.len(),
            "destroyed": newest.is_some_and(|version| version.data.is_none()),
            "deletion_time": if newest.is_some_and(|version| version.deleted) { "2026-01-01T00:00:00Z" } else { "" },
        })
    }
}

fn operation(asked: &Asked) -> String {
    let is = |part: &str| asked.path.contains(part);
    let name = match asked.method {
        Method::GET if is("/lookup-self") => "self",
        Method::GET if is("/sys/internal/") => "mount",
        Method::GET => "read",
        Method::DELETE => "delete",
        _ if is("/destroy/") => "destroy",
        _ => "write",
    };
    name.to_owned()
}

fn read(secret: &Secret) -> Response {
    match secret.present() {
        Some(data) => json(200, &object!({"data": {"data": data, "metadata": secret.metadata()}})),
        None => json(404, &object!({"data": {"data": null, "metadata": secret.metadata()}})),
    }
}

fn write(secrets: &mut BTreeMap<String, Secret>, path: &str, body: &Value) -> Response {
    if !body["data"].is_object() {
        return errors(400, &["no data provided"]);
    }
    let current = secrets.get(path).map_or(0, |secret| secret.versions.len());
    let given = &body["options"]["cas"];
    if !given.is_null() && given.as_u64() != u64::try_from(current).ok() {
        return errors(400, &["check-and-set parameter did not match the current version"]);
    }
    let secret = secrets.entry(path.to_owned()).or_default();
    secret.versions.push(Version { data: Some(body["data"].clone()), deleted: false });
    json(200, &object!({"data": secret.metadata()}))
}

fn errors(status: u16, texts: &[&str]) -> Response {
    json(status, &object!({"errors": texts}))
}
