//! A stand-in of Azure Key Vault's certificates, API version 7.4, and of Microsoft's token endpoint.
//!
//! Held: the client-credentials grant with its scope, the bearer token of each call and its end, the API version, names,
//! tags, PEM values with a key in PKCS#8 that fits the certificate, `key_props` that fit the key, versions, soft deletion.
//! Operations for faults: `token`, `get`, `versions`, `import`, `delete`.

use super::cloud::{Call, Faults, Place, Reply, StandIn, Tokens, locked, now, problem_of};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;
use x509::{Certificate, KeyAlgorithm, pem};

/// The directory that the stand-in knows.
pub const TENANT: &str = "7f2c9f6e-3a51-4d1b-9c53-0e7d2f7f9a10";
/// The application that it knows.
pub const CLIENT_ID: &str = "0b9dd3a4-7a5c-4b67-8f0e-52a1c0cc2f11";
/// That application's secret.
pub const CLIENT_SECRET: &str = "stand-in~secret/with+signs=&more";

const SCOPE: &str = "https://vault.azure.net/.default";
const NAME_CHARACTERS_MAX: usize = 127;
const TAGS_MAX: usize = 15;
const TAG_CHARACTERS_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 25_600;

/// The stand-in.
pub struct Azure {
    /// Its base URL: of the vault, and of the token endpoint.
    pub base_url: String,
    /// The faults that are to come.
    pub faults: Faults,
    state: Mutex<Store>,
}

struct Store {
    tokens: Tokens,
    token_lifetime_seconds: i64,
    objects: BTreeMap<String, Vec<Version>>,
    deleted: BTreeMap<String, Vec<Version>>,
}

/// One version of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its identifier.
    pub version: String,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// The whole PEM text that was imported; empty when it was put there by a test.
    pub value: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it is enabled.
    pub is_enabled: bool,
}

impl Azure {
    /// Starts one.
    pub async fn start() -> Arc<Self> {
        let place = Place::free().await;
        let store = Store {
            tokens: Tokens::default(),
            token_lifetime_seconds: 3599,
            objects: BTreeMap::new(),
            deleted: BTreeMap::new(),
        };
        let base_url = place.base_url.clone();
        let stand_in = Arc::new(Self { base_url, faults: Faults::default(), state: Mutex::new(store) });
        place.serve(stand_in.clone());
        stand_in
    }

    /// Where tokens are given out.
    pub fn token_url(&self) -> String {
        format!("{}/{TENANT}/oauth2/v2.0/token", self.base_url)
    }

    /// How long tokens live from now on.
    pub fn set_token_lifetime(&self, seconds: i64) {
        locked(&self.state).token_lifetime_seconds = seconds;
    }

    /// How many tokens were given out.
    pub fn tokens_given(&self) -> usize {
        locked(&self.state).tokens.len()
    }

    /// Every certificate with its versions, the newest last.
    pub fn objects(&self) -> BTreeMap<String, Vec<Version>> {
        locked(&self.state).objects.clone()
    }

    /// Every certificate that is deleted and can be recovered.
    pub fn deleted(&self) -> BTreeMap<String, Vec<Version>> {
        locked(&self.state).deleted.clone()
    }

    /// Puts a certificate there that somebody else made.
    pub fn put(&self, name: &str, certificate: &Certificate, tags: &[(&str, &str)]) {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let version = Version::new(certificate, String::new(), tags);
        locked(&self.state).objects.entry(name.to_owned()).or_default().push(version);
    }

    /// Disables the newest version of a certificate.
    pub fn disable(&self, name: &str) {
        let mut store = locked(&self.state);
        let versions = store.objects.get_mut(name).expect("the certificate is there");
        versions.last_mut().expect("a certificate has a version").is_enabled = false;
    }

    fn token(&self, call: &Call) -> Reply {
        let Some(form) = call.form() else {
            return oauth_refusal(400, "invalid_request", "AADSTS900144: the request body must be a form");
        };
        let has = |field: &str, wanted: &str| form.get(field).is_some_and(|value| value == wanted);
        if !has("grant_type", "client_credentials") {
            return oauth_refusal(400, "unsupported_grant_type", "AADSTS70003: the grant type is not supported");
        }
        if !has("client_id", CLIENT_ID) {
            return oauth_refusal(400, "unauthorized_client", "AADSTS700016: the application was not found");
        }
        if !has("client_secret", CLIENT_SECRET) {
            return oauth_refusal(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.");
        }
        if !has("scope", SCOPE) {
            return oauth_refusal(400, "invalid_scope", "AADSTS70011: the scope is not valid");
        }
        let mut store = locked(&self.state);
        let lifetime = store.token_lifetime_seconds;
        let token = store.tokens.give(CLIENT_ID, lifetime);
        Reply(200, json!({"token_type": "Bearer", "expires_in": lifetime, "access_token": token}))
    }

    fn get(&self, name: &str) -> Reply {
        match locked(&self.state).objects.get(name).and_then(|versions| versions.last()) {
            Some(version) => Reply(200, self.bundle(name, version)),
            None => not_found(name),
        }
    }

    fn versions(&self, name: &str) -> Reply {
        let store = locked(&self.state);
        let versions = store.objects.get(name).map(Vec::as_slice).unwrap_or_default();
        let items: Vec<Value> = versions
            .iter()
            .map(|one| json!({"id": format!("{}/certificates/{name}/{}", self.base_url, one.version)}))
            .collect();
        Reply(200, json!({"value": items, "nextLink": null}))
    }

    fn import(&self, name: &str, call: &Call) -> Reply {
        let named = name.chars().all(|one| one.is_ascii_alphanumeric() || one == '-');
        if !named || name.is_empty() || name.len() > NAME_CHARACTERS_MAX {
            return bad_parameter("the certificate name does not match ^[0-9a-zA-Z-]+$");
        }
        let Some(body) = call.json() else {
            return bad_parameter("the body is not JSON");
        };
        let version = match read_import(&body) {
            Ok(version) => version,
            Err(problem) => return bad_parameter(&problem),
        };
        let mut store = locked(&self.state);
        if store.deleted.contains_key(name) {
            let message = format!(
                "Certificate {name} is currently in a deleted but recoverable state, and its name cannot be reused; in \
                 this state, the certificate can only be recovered or purged."
            );
            let inner = json!({"code": "ObjectIsDeletedButRecoverable"});
            return Reply(409, json!({"error": {"code": "Conflict", "message": message, "innererror": inner}}));
        }
        store.objects.entry(name.to_owned()).or_default().push(version.clone());
        Reply(200, self.bundle(name, &version))
    }

    fn delete(&self, name: &str) -> Reply {
        let mut store = locked(&self.state);
        let Some(versions) = store.objects.remove(name) else {
            return not_found(name);
        };
        store.deleted.insert(name.to_owned(), versions);
        Reply(200, json!({"recoveryId": format!("{}/deletedcertificates/{name}", self.base_url)}))
    }

    fn bundle(&self, name: &str, version: &Version) -> Value {
        let thumbprint = x509::digest::sha1(&version.der);
        json!({
            "id": format!("{}/certificates/{name}/{}", self.base_url, version.version),
            "x5t": URL_SAFE_NO_PAD.encode(thumbprint),
            "cer": STANDARD.encode(&version.der),
            "attributes": {"enabled": version.is_enabled, "created": now(), "updated": now(), "recoveryLevel": "Recoverable"},
            "tags": version.tags,
        })
    }
}

impl StandIn for Azure {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn operation(&self, call: &Call) -> &'static str {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("POST", [_, "oauth2", "v2.0", "token"]) => "token",
            ("GET", ["certificates", _]) => "get",
            ("GET", ["certificates", _, "versions"]) => "versions",
            ("POST", ["certificates", _, "import"]) => "import",
            ("DELETE", ["certificates", _]) => "delete",
            _ => "other",
        }
    }

    fn refusal(&self, status: u16) -> Value {
        let code = match status {
            404 => "CertificateNotFound",
            409 => "Conflict",
            429 => "Throttled",
            _ => "InternalServerError",
        };
        json!({"error": {"code": code, "message": "The stand-in was told to say so."}})
    }

    fn answer(&self, call: &Call) -> Reply {
        let segments = call.segments();
        if let ["POST", TENANT, "oauth2", "v2.0", "token"] =
            [&[call.method.as_str()][..], &segments].concat().as_slice()
        {
            return self.token(call);
        }
        if locked(&self.state).tokens.holder(call.bearer()) != Some(CLIENT_ID) {
            return error(
                401,
                "Unauthorized",
                "AKV10000: Request is missing a Bearer or PoP token, or it is not valid.",
            );
        }
        if call.query.get("api-version").is_none_or(|version| version != "7.4") {
            return bad_parameter("api-version must be specified");
        }
        match (call.method.as_str(), segments.as_slice()) {
            ("GET", ["certificates", name]) => self.get(name),
            ("GET", ["certificates", name, "versions"]) => self.versions(name),
            ("POST", ["certificates", name, "import"]) => self.import(name, call),
            ("DELETE", ["certificates", name]) => self.delete(name),
            _ => error(405, "MethodNotAllowed", "The stand-in does not know this."),
        }
    }
}

impl Version {
    fn new(certificate: &Certificate, value: String, tags: BTreeMap<String, String>) -> Self {
        let der = certificate.as_der().to_vec();
        Self { version: Uuid::new_v4().simple().to_string(), der, value, tags, is_enabled: true }
    }
}

/// Reads the body of an import by the vendor's rules.
fn read_import(body: &Value) -> Result<Version, String> {
    let value = body["value"].as_str().ok_or("value is missing")?;
    let octets = STANDARD.decode(value).map_err(|_| "value is not base64")?;
    let text = String::from_utf8(octets).map_err(|_| "value is not PEM")?;
    if text.len() > VALUE_BYTES_MAX {
        return Err("value is too long".into());
    }
    let policy = &body["policy"];
    if policy["secret_props"]["contentType"] != "application/x-pem-file" {
        return Err("the content type of a PEM value must be application/x-pem-file".into());
    }
    let key = pem::decode_one(&text, &[pem::PRIVATE_KEY]).map_err(|_| "the key must be one in PKCS#8")?;
    let certificates = pem::decode_all(&text, pem::CERTIFICATE).map_err(|error| error.to_string())?;
    let certificates: Result<Vec<_>, _> = certificates.into_iter().map(Certificate::from_der).collect();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if let Some(problem) = problem_of(&certificates, &key) {
        return Err(problem.into());
    }
    let leaf = certificates.first().ok_or("there is no certificate")?;
    let algorithm = leaf.contents().key_algorithm().map_err(|_| "the key is of an unknown kind")?;
    let props = &policy["key_props"];
    let fits = match algorithm {
        KeyAlgorithm::Rsa2048 => props["kty"] == "RSA" && props["key_size"] == 2048,
        KeyAlgorithm::Rsa3072 => props["kty"] == "RSA" && props["key_size"] == 3072,
        KeyAlgorithm::Rsa4096 => props["kty"] == "RSA" && props["key_size"] == 4096,
        KeyAlgorithm::EcP256 => props["kty"] == "EC" && props["crv"] == "P-256",
        KeyAlgorithm::EcP384 => props["kty"] == "EC" && props["crv"] == "P-384",
        KeyAlgorithm::EcP521 => props["kty"] == "EC" && props["crv"] == "P-521",
        KeyAlgorithm::Ed25519 => return Err("the key type is not supported".into()),
    };
    if !fits || props.get("curve").is_some() {
        return Err("key_props do not fit the key".into());
    }
    let tags: BTreeMap<String, String> = match &body["tags"] {
        Value::Null => BTreeMap::new(),
        tags => serde_json::from_value(tags.clone()).map_err(|_| "tags are not texts")?,
    };
    let is_long = |text: &String| text.chars().count() > TAG_CHARACTERS_MAX;
    if tags.len() > TAGS_MAX || tags.iter().any(|(key, value)| is_long(key) || is_long(value)) {
        return Err("there are too many tags, or one is too long".into());
    }
    let mut version = Version::new(leaf, text, tags);
    version.is_enabled = body["attributes"]["enabled"] != false;
    Ok(version)
}

fn oauth_refusal(status: u16, code: &str, description: &str) -> Reply {
    Reply(status, json!({"error": code, "error_description": description}))
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply(status, json!({"error": {"code": code, "message": message}}))
}

fn bad_parameter(message: &str) -> Reply {
    error(400, "BadParameter", message)
}

fn not_found(name: &str) -> Reply {
    let message = format!("A certificate with (name/id) {name} was not found in this key vault.");
    error(404, "CertificateNotFound", &message)
}
