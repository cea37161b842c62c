//! A stand-in of Google's Certificate Manager, version 1, of its token endpoint and of IAM Credentials.
//!
//! Held: the JWT bearer grant (RFC 7523) with signature, issuer, audience, scope and end; impersonation of the one account
//! that the server's account may impersonate; the token of each call; ids, labels, scopes, keys that fit; operations that
//! end later; certificates that a map entry uses; one entry for each host name of a map.
//! Operations for faults: `token`, `impersonate`, `get`, `create`, `patch`, `delete`, `poll`, `entry-get`, `entry-create`,
//! `entry-patch`, `entry-delete`.

use super::cloud::{Call, Faults, Place, Reply, StandIn, Tokens, locked, now, problem_of};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RsaKeyPair};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;
use x509::{Certificate, KeyAlgorithm, pem};

/// The project that the stand-in knows.
pub const PROJECT: &str = "stand-in-project";
/// The account of the server.
pub const SERVER_EMAIL: &str = "chancery-server@stand-in-project.iam.gserviceaccount.com";
/// The account that the server's may impersonate.
pub const ACCOUNT_EMAIL: &str = "pki-sync@stand-in-project.iam.gserviceaccount.com";
/// The map that is there.
pub const MAP: &str = "edge-map";

const KEY_ID: &str = "5a1e0c4f";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ASSERTION_SECONDS_MAX: i64 = 3600;
const ID_CHARACTERS_MAX: usize = 63;
const LABELS_MAX: usize = 64;
const ENTRY_CERTIFICATES_MAX: usize = 4;

/// The stand-in.
pub struct Gcp {
    /// Its base URL: of the APIs.
    pub base_url: String,
    /// The faults that are to come.
    pub faults: Faults,
    server_key: RsaKeyPair,
    state: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    tokens: Tokens,
    certificates: BTreeMap<String, Object>,
    entries: BTreeMap<String, Entry>,
    operations: BTreeMap<String, Operation>,
    polls: u32,
    changes: u64,
    deletions: Vec<String>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its description.
    pub description: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its scope, `DEFAULT` and others.
    pub scope: String,
    /// The certificate and its chain.
    pub pem_certificate: String,
    /// When it was changed last.
    pub update_time: String,
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The host name, or else the matcher.
    pub subject: String,
    /// Its certificates.
    pub certificates: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

struct Operation {
    polls_left: u32,
    result: Result<Value, (i64, String)>,
}

type Refusal = (u16, &'static str, String);

impl Gcp {
    /// Starts one.
    pub async fn start() -> Arc<Self> {
        let place = Place::free().await;
        let server_key = RsaKeyPair::generate(KeySize::Rsa2048).expect("the library makes RSA keys");
        let (base_url, faults) = (place.base_url.clone(), Faults::default());
        let stand_in = Arc::new(Self { base_url, faults, server_key, state: Mutex::default() });
        place.serve(stand_in.clone());
        stand_in
    }

    /// Where tokens are given out.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.base_url)
    }

    /// The key file of the server's account.
    pub fn key_file(&self) -> String {
        key_file(&self.server_key)
    }

    /// A key file for the same account with a key that Google does not know.
    pub fn foreign_key_file(&self) -> String {
        key_file(&RsaKeyPair::generate(KeySize::Rsa2048).expect("the library makes RSA keys"))
    }

    /// A token of the server's own account.
    pub fn token_of_server(&self) -> String {
        locked(&self.state).tokens.give(SERVER_EMAIL, 3599)
    }

    /// How often an operation says from now on that it has not ended.
    pub fn set_polls(&self, polls: u32) {
        locked(&self.state).polls = polls;
    }

    /// How many tokens were given out, of both kinds.
    pub fn tokens_given(&self) -> usize {
        locked(&self.state).tokens.len()
    }

    /// Every certificate, by its full name.
    pub fn certificates(&self) -> BTreeMap<String, Object> {
        locked(&self.state).certificates.clone()
    }

    /// Every entry of every map, by its full name.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        locked(&self.state).entries.clone()
    }

    /// What was deleted, in its order.
    pub fn deletions(&self) -> Vec<String> {
        locked(&self.state).deletions.clone()
    }

    /// Puts a certificate there that somebody else made.
    pub fn put(&self, name: &str, pem_certificate: &str, labels: &[(&str, &str)]) {
        let mut store = locked(&self.state);
        let object = Object {
            description: String::new(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            scope: "DEFAULT".into(),
            pem_certificate: pem_certificate.to_owned(),
            update_time: store.tick(),
        };
        store.certificates.insert(name.to_owned(), object);
    }

    /// Puts an entry into the map that somebody else made.
    pub fn put_entry(&self, id: &str, subject: &str, certificates: &[&str]) {
        let entry = Entry {
            subject: subject.to_owned(),
            certificates: certificates.iter().map(|name| (*name).to_owned()).collect(),
            labels: BTreeMap::new(),
        };
        let name = format!("projects/{PROJECT}/locations/global/certificateMaps/{MAP}/certificateMapEntries/{id}");
        locked(&self.state).entries.insert(name, entry);
    }

    fn token(&self, call: &Call) -> Reply {
        let refuse =
            |description: &str| Reply(400, json!({"error": "invalid_grant", "error_description": description}));
        let form = call.form().unwrap_or_default();
        if form.get("grant_type").is_none_or(|grant| grant != GRANT) {
            return Reply(400, json!({"error": "unsupported_grant_type", "error_description": "Invalid grant_type"}));
        }
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        validation.set_audience(&[self.token_url()]);
        validation.set_issuer(&[SERVER_EMAIL]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let key = DecodingKey::from_rsa_der(self.server_key.public_key().as_ref());
        let assertion = form.get("assertion").map(String::as_str).unwrap_or_default();
        let claims = match jsonwebtoken::decode::<Value>(assertion, &key, &validation) {
            Ok(data) => data.claims,
            Err(error) => return refuse(&format!("Invalid JWT: {error}")),
        };
        let (issued, ends) = (claims["iat"].as_i64().unwrap_or_default(), claims["exp"].as_i64().unwrap_or_default());
        if ends - issued > ASSERTION_SECONDS_MAX || issued > now() + 5 || claims["scope"] != SCOPE {
            return refuse("Invalid JWT: it lives too long, or its scope is not known");
        }
        let token = locked(&self.state).tokens.give(SERVER_EMAIL, 3599);
        Reply(200, json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}))
    }

    fn impersonate(&self, email: &str, call: &Call) -> Reply {
        let mut store = locked(&self.state);
        if store.tokens.holder(call.bearer()) != Some(SERVER_EMAIL) {
            return unauthenticated();
        }
        if email != ACCOUNT_EMAIL {
            let message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).";
            return error(403, "PERMISSION_DENIED", message);
        }
        let body = call.json().unwrap_or_default();
        if body["scope"] != json!([SCOPE]) {
            return error(400, "INVALID_ARGUMENT", "The scope is not known.");
        }
        let token = store.tokens.give(ACCOUNT_EMAIL, 3600);
        let ends = jiff::Timestamp::from_second(now() + 3600).expect("the time can be written");
        Reply(200, json!({"accessToken": token, "expireTime": ends.to_string()}))
    }

    fn call_api(&self, call: &Call) -> Reply {
        let mut store = locked(&self.state);
        match store.tokens.holder(call.bearer()) {
            Some(ACCOUNT_EMAIL) => {}
            Some(_) => return error(403, "PERMISSION_DENIED", "Permission denied on the project."),
            None => return unauthenticated(),
        }
        let name = call.path[1..].join("/");
        let collection = call.path[1..].to_vec();
        let (parts, query) = (call.segments(), &call.query);
        let body = call.json().unwrap_or_default();
        let answer = match (call.method.as_str(), &parts[1..]) {
            (_, ["projects", project, ..]) if *project != PROJECT => {
                Err((403, "PERMISSION_DENIED", "Permission denied on the project.".to_owned()))
            }
            ("GET", ["projects", _, "locations", _, "operations", _]) => store.poll(&name),
            ("GET", ["projects", _, "locations", _, "certificates", _]) => store.certificate(&name),
            ("POST", ["projects", _, "locations", _, "certificates"]) => {
                store.create(&name, query.get("certificateId").map(String::as_str).unwrap_or_default(), &body)
            }
            ("PATCH", ["projects", _, "locations", _, "certificates", _]) => {
                let mask = query.get("updateMask").map(String::as_str).unwrap_or_default();
                store.patch(&name, mask, &body, call.is_partial)
            }
            ("DELETE", ["projects", _, "locations", _, "certificates", _]) => store.delete(&name),
            (
                method,
                ["projects", _, "locations", "global", "certificateMaps", map, "certificateMapEntries", id @ ..],
            ) => {
                if *map == MAP {
                    store.entries_call(method, &collection.join("/"), id, call, &body)
                } else {
                    Err(missing(&name))
                }
            }
            _ => Err((404, "UNIMPLEMENTED", "The stand-in does not know this.".to_owned())),
        };
        match answer {
            Ok(body) => Reply(200, body),
            Err((status, code, message)) => error(status, code, &message),
        }
    }
}

impl StandIn for Gcp {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn operation(&self, call: &Call) -> &'static str {
        let parts = call.segments();
        let kind = parts.get(5).copied().unwrap_or_default();
        match (call.method.as_str(), kind, parts.len()) {
            ("POST", _, 1) => "token",
            ("POST", _, 5) => "impersonate",
            ("GET", "operations", _) => "poll",
            ("GET", "certificates", _) => "get",
            ("POST", "certificates", _) => "create",
            ("PATCH", "certificates", _) => "patch",
            ("DELETE", "certificates", _) => "delete",
            ("GET", "certificateMaps", _) => "entry-get",
            ("POST", "certificateMaps", _) => "entry-create",
            ("PATCH", "certificateMaps", _) => "entry-patch",
            ("DELETE", "certificateMaps", _) => "entry-delete",
            _ => "other",
        }
    }

    fn refusal(&self, status: u16) -> Value {
        let code = match status {
            404 => "NOT_FOUND",
            409 => "ABORTED",
            429 => "RESOURCE_EXHAUSTED",
            _ => "INTERNAL",
        };
        json!({"error": {"code": status, "status": code, "message": "The stand-in was told to say so."}})
    }

    fn answer(&self, call: &Call) -> Reply {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("POST", ["token"]) => self.token(call),
            ("POST", ["v1", "projects", "-", "serviceAccounts", target]) => {
                match target.strip_suffix(":generateAccessToken") {
                    Some(email) => self.impersonate(&email.replace("%40", "@"), call),
                    None => error(404, "NOT_FOUND", "The stand-in does not know this."),
                }
            }
            (_, ["v1", ..]) => self.call_api(call),
            _ => error(404, "NOT_FOUND", "The stand-in does not know this."),
        }
    }
}

impl Store {
    fn tick(&mut self) -> String {
        self.changes += 1;
        format!("2026-01-01T00:00:00.{:09}Z", self.changes)
    }

    /// An operation of that place, which ends after the polls that were asked for.
    fn operation(&mut self, place: &str, result: Result<Value, (i64, String)>) -> Value {
        let parent: Vec<&str> = place.split('/').take(4).collect();
        let name = format!("{}/operations/operation-{}", parent.join("/"), Uuid::new_v4());
        self.operations.insert(name.clone(), Operation { polls_left: self.polls, result });
        json!({"name": name, "done": false})
    }

    fn poll(&mut self, name: &str) -> Result<Value, Refusal> {
        let operation = self.operations.get_mut(name).ok_or_else(|| missing(name))?;
        if operation.polls_left > 0 {
            operation.polls_left -= 1;
            return Ok(json!({"name": name, "done": false}));
        }
        Ok(match &operation.result {
            Ok(response) => json!({"name": name, "done": true, "response": response}),
            Err((code, message)) => json!({"name": name, "done": true, "error": {"code": code, "message": message}}),
        })
    }

    fn certificate(&self, name: &str) -> Result<Value, Refusal> {
        let object = self.certificates.get(name).ok_or_else(|| missing(name))?;
        Ok(json!({
            "name": name,
            "description": object.description,
            "labels": object.labels,
            "scope": object.scope,
            "selfManaged": {},
            "pemCertificate": object.pem_certificate,
            "updateTime": object.update_time,
        }))
    }

    fn create(&mut self, collection: &str, id: &str, body: &Value) -> Result<Value, Refusal> {
        must_be_id(id)?;
        let scope = body["scope"].as_str().unwrap_or("DEFAULT");
        if !["DEFAULT", "EDGE_CACHE", "ALL_REGIONS", "CLIENT_AUTH"].contains(&scope) {
            return Err(invalid("scope"));
        }
        let pem_certificate = self_managed(&body["selfManaged"])?;
        let (labels, name) = (labels(&body["labels"])?, format!("{collection}/{id}"));
        if self.certificates.contains_key(&name) {
            return Err((409, "ALREADY_EXISTS", format!("Resource '{name}' already exists")));
        }
        let description = body["description"].as_str().unwrap_or_default().to_owned();
        let update_time = self.tick();
        let object = Object { description, labels, scope: scope.to_owned(), pem_certificate, update_time };
        self.certificates.insert(name.clone(), object);
        Ok(self.operation(collection, Ok(json!({"name": name}))))
    }

    fn patch(&mut self, name: &str, mask: &str, body: &Value, is_partial: bool) -> Result<Value, Refusal> {
        let mut object = self.certificates.get(name).ok_or_else(|| missing(name))?.clone();
        for field in mask.split(',') {
            match field {
                "self_managed" if is_partial => {}
                "self_managed" => object.pem_certificate = self_managed(&body["selfManaged"])?,
                "labels" => object.labels = labels(&body["labels"])?,
                "description" => object.description = body["description"].as_str().unwrap_or_default().to_owned(),
                _ => return Err(invalid("updateMask")),
            }
        }
        object.update_time = self.tick();
        self.certificates.insert(name.to_owned(), object);
        let broken = (13, "An internal error has occurred.".to_owned());
        Ok(self.operation(name, if is_partial { Err(broken) } else { Ok(json!({"name": name})) }))
    }

    fn delete(&mut self, name: &str) -> Result<Value, Refusal> {
        if self.entries.values().any(|entry| entry.certificates.iter().any(|one| one == name)) {
            let message = format!("can't delete certificate that is referenced by a CertificateMapEntry: {name}");
            return Err((400, "FAILED_PRECONDITION", message));
        }
        self.certificates.remove(name).ok_or_else(|| missing(name))?;
        self.deletions.push(name.to_owned());
        Ok(self.operation(name, Ok(json!({}))))
    }

    fn entries_call(
        &mut self,
        method: &str,
        path: &str,
        id: &[&str],
        call: &Call,
        body: &Value,
    ) -> Result<Value, Refusal> {
        match (method, id) {
            ("POST", []) => {
                let id = call.query.get("certificateMapEntryId").map(String::as_str).unwrap_or_default();
                must_be_id(id)?;
                let subject = match (body["hostname"].as_str(), body["matcher"].as_str()) {
                    (Some(hostname), None) => hostname,
                    (None, Some("PRIMARY")) => "PRIMARY",
                    _ => return Err(invalid("hostname or matcher")),
                };
                let (certificates, labels) = (self.entry_certificates(body)?, labels(&body["labels"])?);
                let name = format!("{path}/{id}");
                if self.entries.contains_key(&name) || self.entries.values().any(|one| one.subject == subject) {
                    return Err((409, "ALREADY_EXISTS", format!("an entry for '{subject}' already exists")));
                }
                self.entries.insert(name.clone(), Entry { subject: subject.to_owned(), certificates, labels });
                Ok(self.operation(path, Ok(json!({"name": name}))))
            }
            ("GET", [_]) => {
                let entry = self.entries.get(path).ok_or_else(|| missing(path))?;
                let mut found = Map::new();
                let key = if entry.subject == "PRIMARY" { "matcher" } else { "hostname" };
                found.insert(key.to_owned(), json!(entry.subject));
                found.insert("name".to_owned(), json!(path));
                found.insert("certificates".to_owned(), json!(entry.certificates));
                found.insert("labels".to_owned(), json!(entry.labels));
                Ok(Value::Object(found))
            }
            ("PATCH", [_]) => {
                if call.query.get("updateMask").is_none_or(|mask| mask != "certificates") {
                    return Err(invalid("updateMask"));
                }
                let certificates = self.entry_certificates(body)?;
                self.entries.get_mut(path).ok_or_else(|| missing(path))?.certificates = certificates;
                Ok(self.operation(path, Ok(json!({"name": path}))))
            }
            ("DELETE", [_]) => {
                self.entries.remove(path).ok_or_else(|| missing(path))?;
                self.deletions.push(path.to_owned());
                Ok(self.operation(path, Ok(json!({}))))
            }
            _ => Err(missing(path)),
        }
    }

    fn entry_certificates(&self, body: &Value) -> Result<Vec<String>, Refusal> {
        let names: Vec<String> = serde_json::from_value(body["certificates"].clone()).unwrap_or_default();
        let fits = |name: &String| self.certificates.get(name).is_some_and(|object| object.scope == "DEFAULT");
        if names.is_empty() || names.len() > ENTRY_CERTIFICATES_MAX || !names.iter().all(fits) {
            return Err(invalid("certificates"));
        }
        Ok(names)
    }
}

/// Reads `selfManaged` by the vendor's rules.
fn self_managed(body: &Value) -> Result<String, Refusal> {
    let text = body["pemCertificate"].as_str().unwrap_or_default();
    let key = body["pemPrivateKey"].as_str().unwrap_or_default();
    let key = pem::decode_one(key, &[pem::PRIVATE_KEY]).map_err(|_| invalid("pemPrivateKey"))?;
    let certificates = pem::decode_all(text, pem::CERTIFICATE).map_err(|_| invalid("pemCertificate"))?;
    let certificates: Result<Vec<_>, _> = certificates.into_iter().map(Certificate::from_der).collect();
    let certificates = certificates.map_err(|_| invalid("pemCertificate"))?;
    if let Some(problem) = problem_of(&certificates, &key) {
        return Err((400, "INVALID_ARGUMENT", problem.to_owned()));
    }
    match certificates[0].contents().key_algorithm() {
        Ok(KeyAlgorithm::EcP521 | KeyAlgorithm::Ed25519) | Err(_) => Err(invalid("the kind of key")),
        Ok(_) => Ok(text.to_owned()),
    }
}

fn labels(body: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let labels: BTreeMap<String, String> = match body {
        Value::Null => BTreeMap::new(),
        labels => serde_json::from_value(labels.clone()).map_err(|_| invalid("labels"))?,
    };
    let good = |text: &String| {
        let allowed = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_' || one == '-';
        text.len() <= ID_CHARACTERS_MAX && text.chars().all(allowed)
    };
    let starts = |key: &String| key.starts_with(|one: char| one.is_ascii_lowercase());
    if labels.len() > LABELS_MAX || !labels.iter().all(|(key, value)| good(key) && good(value) && starts(key)) {
        return Err(invalid("labels"));
    }
    Ok(labels)
}

fn must_be_id(id: &str) -> Result<(), Refusal> {
    let allowed = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
    if id.is_empty() || id.len() > ID_CHARACTERS_MAX || !id.chars().all(allowed) {
        return Err(invalid("the id"));
    }
    Ok(())
}

fn key_file(key: &RsaKeyPair) -> String {
    let der: Pkcs8V1Der<'_> = key.as_der().expect("the library writes its keys");
    json!({
        "type": "service_account",
        "client_email": SERVER_EMAIL,
        "private_key_id": KEY_ID,
        "private_key": format!("{}\n", pem::encode(pem::PRIVATE_KEY, der.as_ref())),
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

fn missing(name: &str) -> Refusal {
    (404, "NOT_FOUND", format!("Resource '{name}' was not found"))
}

fn invalid(what: &str) -> Refusal {
    (400, "INVALID_ARGUMENT", format!("{what} is invalid"))
}

fn unauthenticated() -> Reply {
    error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply(status, json!({"error": {"code": status, "status": code, "message": message}}))
}
