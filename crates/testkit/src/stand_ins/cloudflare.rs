//! A stand-in of Cloudflare's custom certificates of a zone, API version 4.
//!
//! Held: the token of each call, pages, bundles (the leaf first, each signed by the next, a public root unless the method
//! is `force`), keys that fit, hosts of the zone, fourteen days of validity that are left, the quota, a certificate that
//! was submitted already (1220), identifiers that may change with a PATCH. No content is ever given back.
//! Operations for faults: `verify`, `list`, `get`, `create`, `patch`, `delete`.

use super::cloud::{Call, Faults, Place, Reply, StandIn, locked, now, problem_of};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use uuid::Uuid;
use x509::{Certificate, GeneralName, KeyAlgorithm, SignatureAlgorithm, pem};

/// The account that the stand-in knows.
pub const ACCOUNT: &str = "01a7362d577a6c3019a474fd6f485823";
/// The zone that it knows.
pub const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// The token that it believes.
pub const TOKEN: &str = "stand-in-token_8M7wS6hCpXVc-DoRnPPY";

const ZONE_NAME: &str = "example.com";
const PAGE_MAX: usize = 50;
const VALIDITY_SECONDS_MIN: i64 = 14 * 86_400;

/// Whether a PATCH gives the certificate another identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifiers {
    /// It keeps its identifier.
    Stay,
    /// It gets another.
    Change,
}

/// The stand-in.
pub struct Cloudflare {
    /// Its base URL, with the version of the API.
    pub base_url: String,
    /// The faults that are to come.
    pub faults: Faults,
    identifiers: Identifiers,
    state: Mutex<Store>,
}

struct Store {
    objects: Vec<Object>,
    trusted: Vec<Certificate>,
    quota: usize,
    deletions: usize,
    lists: usize,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its identifier.
    pub id: String,
    /// The bundle as it was sent, in DER.
    pub bundle: Vec<Vec<u8>>,
    /// How it is bundled.
    pub bundle_method: String,
    /// When it was uploaded.
    pub uploaded_on: String,
    /// When it was changed last.
    pub modified_on: String,
}

type Refusal = (u16, i64, String);

impl Cloudflare {
    /// Starts one.
    pub async fn start(identifiers: Identifiers) -> Arc<Self> {
        let place = Place::free().await;
        let store = Store { objects: Vec::new(), trusted: Vec::new(), quota: 10_000, deletions: 0, lists: 0 };
        let base_url = format!("{}/client/v4", place.base_url);
        let stand_in = Arc::new(Self { base_url, faults: Faults::default(), identifiers, state: Mutex::new(store) });
        place.serve(stand_in.clone());
        stand_in
    }

    /// Every certificate.
    pub fn objects(&self) -> Vec<Object> {
        locked(&self.state).objects.clone()
    }

    /// Takes this issuer for one that browsers trust.
    pub fn trust(&self, issuer: &Certificate) {
        locked(&self.state).trusted.push(issuer.clone());
    }

    /// How many certificates there may be.
    pub fn set_quota(&self, quota: usize) {
        locked(&self.state).quota = quota;
    }

    /// How many were deleted.
    pub fn deletions(&self) -> usize {
        locked(&self.state).deletions
    }

    /// How many pages were asked for.
    pub fn lists(&self) -> usize {
        locked(&self.state).lists
    }

    /// Puts a certificate there that somebody else uploaded, and gives its identifier.
    pub fn put(&self, certificate: &Certificate) -> String {
        let object = Object::new(vec![certificate.as_der().to_vec()], "force");
        let id = object.id.clone();
        locked(&self.state).objects.push(object);
        id
    }

    /// Does what Cloudflare does by itself: the times of change move.
    pub fn touch_all(&self) {
        for object in &mut locked(&self.state).objects {
            object.modified_on = time();
        }
    }

    fn list(&self, call: &Call) -> Result<Reply, Refusal> {
        let number = |name: &str, otherwise| match call.query.get(name) {
            Some(text) => text.parse::<usize>().map_err(|_| (400, 1001, format!("Invalid {name}"))),
            None => Ok(otherwise),
        };
        let (page, per_page) = (number("page", 1)?, number("per_page", 20)?);
        if page == 0 || !(5..=PAGE_MAX).contains(&per_page) {
            return Err((400, 1001, "Invalid page".into()));
        }
        let mut store = locked(&self.state);
        store.lists += 1;
        let objects = &store.objects;
        let shown: Vec<Value> = objects.iter().skip((page - 1) * per_page).take(per_page).map(Object::shown).collect();
        let info = json!({
            "page": page,
            "per_page": per_page,
            "count": shown.len(),
            "total_count": objects.len(),
            "total_pages": objects.len().div_ceil(per_page),
        });
        Ok(Reply(200, json!({"success": true, "errors": [], "messages": [], "result": shown, "result_info": info})))
    }

    fn create(&self, body: &Value) -> Result<Reply, Refusal> {
        if body["type"] != "sni_custom" {
            return Err((400, 1001, "The type is not one of the zone's plan".into()));
        }
        let mut store = locked(&self.state);
        let object = store.read(body, None)?;
        if store.objects.len() >= store.quota {
            return Err((400, 1212, "You have reached the maximum number of custom certificates.".into()));
        }
        store.objects.push(object.clone());
        Ok(success(&object.shown()))
    }

    fn patch(&self, id: &str, body: &Value) -> Result<Reply, Refusal> {
        if body.get("type").is_some() {
            return Err((400, 1001, "The type cannot be changed".into()));
        }
        let mut store = locked(&self.state);
        let position = store.position(id)?;
        let mut object = store.read(body, Some(position))?;
        if self.identifiers == Identifiers::Stay {
            object.id = id.to_owned();
            object.uploaded_on = store.objects[position].uploaded_on.clone();
        }
        store.objects[position] = object.clone();
        Ok(success(&object.shown()))
    }

    fn delete(&self, id: &str) -> Result<Reply, Refusal> {
        let mut store = locked(&self.state);
        let position = store.position(id)?;
        store.objects.remove(position);
        store.deletions += 1;
        Ok(success(&json!({"id": id})))
    }

    fn respond(&self, call: &Call) -> Result<Reply, Refusal> {
        let segments = call.segments();
        let is_known = call.bearer() == Some(TOKEN);
        let rest = match segments.as_slice() {
            ["client", "v4", "accounts", account, "tokens", "verify"] if is_known && *account == ACCOUNT => {
                return Ok(success(&json!({"id": "ed17574386854bf78a67040be0a770b0", "status": "active"})));
            }
            ["client", "v4", .., "tokens", "verify"] => return Err((401, 1000, "Invalid API Token".into())),
            _ if !is_known => return Err((403, 10000, "Authentication error".into())),
            ["client", "v4", "zones", zone, "custom_certificates", rest @ ..] if *zone == ZONE => rest,
            _ => {
                let message = "Could not route to the path, perhaps your object identifier is invalid?";
                return Err((404, 7003, message.into()));
            }
        };
        let body = call.json().unwrap_or_default();
        match (call.method.as_str(), rest) {
            ("GET", []) => self.list(call),
            ("POST", []) => self.create(&body),
            ("GET", [id]) => {
                let store = locked(&self.state);
                Ok(success(&store.objects[store.position(id)?].shown()))
            }
            ("PATCH", [id]) => self.patch(id, &body),
            ("DELETE", [id]) => self.delete(id),
            _ => Err((405, 10405, "Method not allowed".into())),
        }
    }
}

impl StandIn for Cloudflare {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn operation(&self, call: &Call) -> &'static str {
        let (parts, is_collection) = (call.segments(), call.path.len() == 5);
        match (call.method.as_str(), is_collection) {
            _ if parts.last() == Some(&"verify") => "verify",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            _ => "other",
        }
    }

    fn refusal(&self, status: u16) -> Value {
        let code = if status == 404 { 1002 } else { 2000 };
        failure(code, "The stand-in was told to say so.")
    }

    fn answer(&self, call: &Call) -> Reply {
        self.respond(call).unwrap_or_else(|(status, code, message)| Reply(status, failure(code, &message)))
    }
}

impl Store {
    fn position(&self, id: &str) -> Result<usize, Refusal> {
        let found = self.objects.iter().position(|object| object.id == id);
        found.ok_or_else(|| (404, 1002, "Invalid certificate".into()))
    }

    /// Reads what is uploaded, by the vendor's rules.
    fn read(&self, body: &Value, in_place_of: Option<usize>) -> Result<Object, Refusal> {
        let refuse = |code: i64, message: &str| (400, code, message.to_owned());
        let text = body["certificate"].as_str().unwrap_or_default();
        let bundle = pem::decode_all(text, pem::CERTIFICATE).map_err(|_| refuse(1002, "Invalid certificate"))?;
        let certificates: Result<Vec<_>, _> = bundle.iter().cloned().map(Certificate::from_der).collect();
        let certificates = certificates.map_err(|_| refuse(1002, "Invalid certificate"))?;
        let key = body["private_key"].as_str().unwrap_or_default();
        let key = pem::decode_one(key, &[pem::PRIVATE_KEY]).map_err(|_| refuse(2106, "The private key is invalid"))?;
        if let Some(problem) = problem_of(&certificates, &key) {
            return Err(refuse(2200, problem));
        }
        let leaf = &certificates[0];
        if matches!(leaf.contents().key_algorithm(), Ok(KeyAlgorithm::Ed25519) | Err(_)) {
            return Err(refuse(1434, "The SSL attribute is invalid."));
        }
        let method = body["bundle_method"].as_str().unwrap_or("ubiquitous");
        let is_chain = certificates.windows(2).all(|pair| is_signed_by(&pair[0], &pair[1]));
        let is_trusted = self.trusted.iter().any(|issuer| is_signed_by(leaf, issuer));
        let is_bundled = match method {
            "force" => is_chain,
            "ubiquitous" | "optimal" => is_trusted,
            _ => return Err(refuse(1001, "Invalid bundle method")),
        };
        if !is_bundled {
            return Err(refuse(
                2100,
                "The certificate chain you uploaded cannot be bundled using Cloudflare's trust store.",
            ));
        }
        if !hosts(leaf).iter().any(|host| host.ends_with(ZONE_NAME)) {
            return Err(refuse(
                2103,
                "The certificate chain you uploaded does not include any hostnames from your zone.",
            ));
        }
        if leaf.contents().not_after() - now() < VALIDITY_SECONDS_MIN {
            return Err(refuse(1010, "The certificate expires too soon."));
        }
        let is_there =
            |(place, object): (usize, &Object)| Some(place) != in_place_of && object.bundle[0] == leaf.as_der();
        if self.objects.iter().enumerate().any(is_there) {
            return Err(refuse(1220, "This certificate has already been submitted."));
        }
        Ok(Object::new(bundle, method))
    }
}

impl Object {
    fn new(bundle: Vec<Vec<u8>>, method: &str) -> Self {
        let (id, time) = (Uuid::new_v4().simple().to_string(), time());
        Self { id, bundle, bundle_method: method.to_owned(), uploaded_on: time.clone(), modified_on: time }
    }

    /// What Cloudflare tells of it.
    fn shown(&self) -> Value {
        let leaf = Certificate::from_der(self.bundle[0].clone()).expect("what was uploaded can be read");
        let ends = jiff::Timestamp::from_second(leaf.contents().not_after()).expect("the time can be written");
        let signature = match leaf.contents().signature_algorithm() {
            Some(SignatureAlgorithm::EcdsaSha256) => "ECDSAWithSHA256",
            _ => "SHA256WithRSA",
        };
        json!({
            "id": self.id,
            "hosts": hosts(&leaf),
            "issuer": "Stand-in Issuing",
            "signature": signature,
            "status": "active",
            "bundle_method": self.bundle_method,
            "zone_id": ZONE,
            "uploaded_on": self.uploaded_on,
            "modified_on": self.modified_on,
            "expires_on": ends.to_string(),
            "priority": 0,
        })
    }
}

fn hosts(leaf: &Certificate) -> Vec<String> {
    let names = leaf.contents().extensions().subject_alt_names().ok().flatten();
    let dns = |name: &GeneralName| match name {
        GeneralName::Dns(name) => Some(name.as_str().to_owned()),
        _ => None,
    };
    names.iter().flat_map(|names| names.valid()).filter_map(dns).collect()
}

fn is_signed_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    issuer.contents().verifying_key().is_ok_and(|key| certificate.verify_signature(&key))
}

fn time() -> String {
    jiff::Timestamp::now().to_string()
}

fn success(result: &Value) -> Reply {
    Reply(200, json!({"success": true, "errors": [], "messages": [], "result": result}))
}

fn failure(code: i64, message: &str) -> Value {
    json!({"success": false, "errors": [{"code": code, "message": message}], "messages": [], "result": null})
}
