//! The Kubernetes API server, as far as Secrets of one namespace and reviews of access go.
//!
//! Rules: the API conventions (optimistic locking by `resourceVersion`, `Status` objects, preconditions of a deletion), and
//! the validation of Secrets of type `kubernetes.io/tls`. Every object is kept whole, so that nothing of it is lost unseen.

use super::faults::{self, Asked, Fault, Faults, json, lock};
use axum::http::Method;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// The server.
pub struct Kubernetes {
    /// What it is told to do wrong: `get`, `create`, `replace`, `delete`, `review`.
    pub faults: Faults,
    address: SocketAddr,
    token: String,
    namespace: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Value>,
    revision: u64,
    access: Access,
}

/// What the token's account may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everything in the namespace.
    #[default]
    Full,
    /// Nothing.
    Forbidden,
    /// Everything, but the namespace takes no more Secrets.
    OverQuota,
}

impl Kubernetes {
    /// Starts one that believes this token.
    pub async fn start(namespace: &str, token: &str) -> Arc<Self> {
        let (token, namespace) = (token.to_owned(), namespace.to_owned());
        let make = |address| Self { faults: Faults::default(), address, token, namespace, state: Mutex::default() };
        faults::serve(make, |server| &server.faults, operation, Self::answer).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every Secret by its name.
    pub fn secrets(&self) -> BTreeMap<String, Value> {
        lock(&self.state).secrets.clone()
    }

    /// Puts a Secret there as somebody else would.
    pub fn put(&self, name: &str, data: Value) {
        let mut state = lock(&self.state);
        let metadata = object!({"name": name, "namespace": self.namespace, "labels": {"owner": "somebody"}});
        let mut secret =
            object!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": TLS_TYPE, "data": data});
        state.stamp(&mut secret, None);
        state.secrets.insert(name.to_owned(), secret);
    }

    /// Changes a Secret as somebody else would.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut state = lock(&self.state);
        let Some(mut secret) = state.secrets.remove(name) else { return };
        edit(&mut secret);
        let uid = secret["metadata"]["uid"].as_str().map(str::to_owned);
        state.stamp(&mut secret, uid);
        state.secrets.insert(name.to_owned(), secret);
    }

    /// Changes what the token's account may do.
    pub fn set_access(&self, access: Access) {
        lock(&self.state).access = access;
    }

    fn answer(&self, asked: &Asked, fault: Option<Fault>) -> Response {
        if asked.header("authorization") != format!("Bearer {}", self.token) {
            return status(401, "Unauthorized", "Unauthorized", &Value::Null);
        }
        let segments = asked.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        if let (Some(Fault::Overtake), Some(name)) = (fault, path.last()) {
            self.edit(name, |secret| secret["metadata"]["labels"] = object!({"overtaken": "yes"}));
        }
        let mut state = lock(&self.state);
        match (&asked.method, path.as_slice()) {
            (&Method::POST, ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]) => {
                let allowed = state.access != Access::Forbidden;
                let mut review = asked.json();
                review["status"] = object!({"allowed": allowed});
                json(201, &review)
            }
            (method, ["api", "v1", "namespaces", namespace, "secrets", rest @ ..]) => {
                if state.access == Access::Forbidden {
                    let text = format!(
                        "secrets is forbidden: User \"system:serviceaccount:pki:sync\" cannot {} resource \"secrets\" \
                         in API group \"\" in the namespace \"{namespace}\"",
                        operation(asked)
                    );
                    return status(403, "Forbidden", &text, &object!({"kind": "secrets"}));
                }
                match (method, rest) {
                    (&Method::POST, []) => self.create(&mut state, namespace, asked),
                    (&Method::GET, [name]) if fault == Some(Fault::DenyPresence) => not_found(name),
                    (_, [name]) if *namespace != self.namespace => not_found(name),
                    (&Method::GET, [name]) => {
                        state.secrets.get(*name).map_or_else(|| not_found(name), |one| json(200, one))
                    }
                    (&Method::PUT, [name]) => replace(&mut state, name, asked),
                    (&Method::DELETE, [name]) => delete(&mut state, name, asked),
                    _ => status(405, "MethodNotAllowed", "the server does not allow this method", &Value::Null),
                }
            }
            _ => json(404, &Value::from("404 page not found")),
        }
    }

    fn create(&self, state: &mut State, namespace: &str, asked: &Asked) -> Response {
        if namespace != self.namespace {
            let text = format!("namespaces \"{namespace}\" not found");
            return status(404, "NotFound", &text, &object!({"kind": "namespaces", "name": namespace}));
        }
        let mut secret = asked.json();
        let name = secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if let Err(problem) = must_be_valid(&secret, &name) {
            return invalid(&name, &problem);
        }
        if state.secrets.contains_key(&name) {
            return status(409, "AlreadyExists", &format!("secrets \"{name}\" already exists"), &details(&name));
        }
        if state.access == Access::OverQuota {
            let text = format!("secrets \"{name}\" is forbidden: exceeded quota: secrets, requested: count/secrets=1");
            return status(403, "Forbidden", &text, &details(&name));
        }
        state.stamp(&mut secret, None);
        state.secrets.insert(name, secret.clone());
        json(201, &secret)
    }
}

const TLS_TYPE: &str = "kubernetes.io/tls";
const NAME_OCTETS_MAX: usize = 253;

impl State {
    /// Gives an object its next version, and an identity if it has none yet.
    fn stamp(&mut self, secret: &mut Value, uid: Option<String>) {
        self.revision += 1;
        secret["metadata"]["resourceVersion"] = Value::from(self.revision.to_string());
        secret["metadata"]["uid"] = Value::from(uid.unwrap_or_else(|| Uuid::new_v4().to_string()));
    }
}

fn operation(asked: &Asked) -> String {
    let review = asked.path.ends_with("selfsubjectaccessreviews");
    let verb = match asked.method {
        Method::POST if review => "review",
        Method::POST => "create",
        Method::PUT => "replace",
        Method::DELETE => "delete",
        _ => "get",
    };
    verb.to_owned()
}

fn replace(state: &mut State, name: &str, asked: &Asked) -> Response {
    let Some(present) = state.secrets.get(name).cloned() else { return not_found(name) };
    let mut secret = asked.json();
    if let Err(problem) = must_be_valid(&secret, name) {
        return invalid(name, &problem);
    }
    let given = &secret["metadata"]["resourceVersion"];
    if !given.is_null() && *given != present["metadata"]["resourceVersion"] {
        return conflict(name, "the object has been modified; please apply your changes to the latest version");
    }
    if secret["type"] != present["type"] {
        return invalid(name, "type: Invalid value: field is immutable");
    }
    if present["immutable"] == true {
        return invalid(name, "data: Forbidden: field is immutable when `immutable` is set");
    }
    let uid = present["metadata"]["uid"].as_str().map(str::to_owned);
    state.stamp(&mut secret, uid);
    state.secrets.insert(name.to_owned(), secret.clone());
    json(200, &secret)
}

fn delete(state: &mut State, name: &str, asked: &Asked) -> Response {
    let Some(present) = state.secrets.get(name) else { return not_found(name) };
    let conditions = &asked.json()["preconditions"];
    for field in ["uid", "resourceVersion"] {
        if !conditions[field].is_null() && conditions[field] != present["metadata"][field] {
            return conflict(name, &format!("the {field} in the precondition does not match"));
        }
    }
    state.secrets.remove(name);
    json(200, &object!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
}

fn must_be_valid(secret: &Value, name: &str) -> Result<(), String> {
    let label_is_good = |label: &str| {
        let good = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
        let octets = label.as_bytes();
        octets.first().is_some_and(|one| good(*one))
            && octets.last().is_some_and(|one| good(*one))
            && octets.iter().all(|one| good(*one) || *one == b'-')
    };
    if name.len() > NAME_OCTETS_MAX || !name.split('.').all(label_is_good) {
        return Err("metadata.name: Invalid value: a lowercase RFC 1123 subdomain must consist of …".into());
    }
    if secret["metadata"]["name"] != name {
        return Err("metadata.name: Invalid value: the name of the object does not match the name on the URL".into());
    }
    if secret["kind"] != "Secret" || secret["apiVersion"] != "v1" {
        return Err("kind: Invalid value".into());
    }
    let empty = serde_json::Map::new();
    let data = secret["data"].as_object().unwrap_or(&empty);
    if !data.values().all(|value| value.as_str().is_some_and(|text| STANDARD.decode(text).is_ok())) {
        return Err("data: illegal base64 data".into());
    }
    for field in ["tls.crt", "tls.key"] {
        if secret["type"] == TLS_TYPE && !data.contains_key(field) {
            return Err(format!("data[{field}]: Required value"));
        }
    }
    Ok(())
}

fn details(name: &str) -> Value {
    object!({"name": name, "kind": "secrets"})
}

fn not_found(name: &str) -> Response {
    status(404, "NotFound", &format!("secrets \"{name}\" not found"), &details(name))
}

fn conflict(name: &str, why: &str) -> Response {
    status(409, "Conflict", &format!("Operation cannot be fulfilled on secrets \"{name}\": {why}"), &details(name))
}

fn invalid(name: &str, why: &str) -> Response {
    status(422, "Invalid", &format!("Secret \"{name}\" is invalid: {why}"), &details(name))
}

fn status(code: u16, reason: &str, message: &str, details: &Value) -> Response {
    let body = object!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    });
    json(code, &body)
}
