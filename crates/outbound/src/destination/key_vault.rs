//! Certificates of an Azure Key Vault (contract syncs §2.3; Key Vault REST API 7.4).
//!
//! A certificate of a vault is a name with versions, and an import is a new version. The vault knows no condition for an
//! import: what is asked before it is all that keeps somebody else's certificate from getting a new version. So
//! [`Destination::create`] wants two different questions answered by "there is none", and [`Destination::replace`] looks at
//! the newest version once more. The mark is a tag. The chain and the key are in a secret of the same name that the
//! permissions of a sync do not cover; what is compared is the certificate, and whether it is enabled.

use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::connection::azure::{Application, Cloud};
use crate::http::{Answer, Http, Request};
use crate::refusal::{self, Purpose};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::connection::Credentials;
use domain::sync::DestinationConfig;
use reqwest::{Method, StatusCode, Url};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use x509::{GeneralName, KeyAlgorithm};

const API_VERSION: &str = "7.4";
/// The tag that holds the mark.
const MARK: &str = "chancery-object";
const NAME_CHARACTERS_MAX: usize = 127;
/// What the secret behind a certificate holds at most.
const VALUE_BYTES_MAX: usize = 25_600;

/// A vault.
pub struct KeyVault {
    http: Http,
    application: Application,
    base_url: String,
}

/// The newest version of a certificate.
struct Newest {
    found: Found,
    tags: Map<String, Value>,
}

impl KeyVault {
    /// The vault of a sync.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let DestinationConfig::AzureKeyVault { vault_base_url } = opening.config else {
            return Err(DeliveryError::Refused("the destination is not an Azure Key Vault".into()));
        };
        let credentials =
            opening.credentials.ok_or_else(|| DeliveryError::Refused("a vault needs a connection".into()))?;
        let endpoint_url = match credentials {
            Credentials::AzureClientSecret { endpoint_url, .. } => endpoint_url.as_deref(),
            _ => None,
        };
        let cloud = cloud_of(vault_base_url);
        let base_url = match (endpoint_url, &cloud) {
            (Some(url), _) => url,
            (None, Some(_)) => vault_base_url,
            (None, None) => {
                return Err(DeliveryError::Refused(format!(
                    "{vault_base_url} is not the https address of an Azure vault: it would get the connection's token"
                )));
            }
        };
        let [public, ..] = Cloud::ALL;
        let scope = cloud.unwrap_or(public).scope;
        Ok(Self {
            http: opening.http.clone(),
            application: Application::new(opening.http, credentials, scope)?,
            base_url: base_url.trim_end_matches('/').to_owned(),
        })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, DeliveryError> {
        let url = format!("{}/certificates/{path}?api-version={API_VERSION}", self.base_url);
        let request = Request::new(method, &url)?.bearer(self.application.token().await?.expose())?;
        self.http.send(body.into_iter().fold(request, Request::json)).await
    }

    async fn newest(&self, name: &str) -> Result<Option<Newest>, DeliveryError> {
        must_be_name(name)?;
        let answer = self.send(Method::GET, name, None).await?;
        if answer.status.is_success() {
            return Newest::read(name, &answer.json()).map(Some);
        }
        if says_not_found(&answer) {
            return Ok(None);
        }
        Err(error_of(&answer, Purpose::Reading, "looking at", name))
    }

    /// Asks for the versions of a name, which is another question than the one for its newest version.
    async fn must_have_no_version(&self, name: &str) -> Result<(), DeliveryError> {
        let answer = self.send(Method::GET, &format!("{name}/versions"), None).await?;
        if says_not_found(&answer) {
            return Ok(());
        }
        if !answer.status.is_success() {
            return Err(error_of(&answer, Purpose::Reading, "looking at the versions of", name));
        }
        match answer.json()["value"].as_array().map(Vec::is_empty) {
            Some(true) => Ok(()),
            Some(false) => Err(DeliveryError::Unavailable(format!(
                "the vault says both that there is no certificate {name} and that it has versions"
            ))),
            None => Err(DeliveryError::Unavailable(format!("the vault's list of versions of {name} cannot be read"))),
        }
    }

    async fn import(&self, name: &str, item: &Item, tags: Map<String, Value>) -> Result<Found, DeliveryError> {
        let answer = self.send(Method::POST, &format!("{name}/import"), Some(&import_body(item, tags)?)).await?;
        if answer.status.is_success() {
            let read = Newest::read(name, &answer.json());
            return read.map(|newest| newest.found).map_err(|error| DeliveryError::Unknown(error.to_string()));
        }
        let body = answer.json();
        if answer.status == StatusCode::CONFLICT {
            let words = format!("importing {name}: {}", words_of(&answer));
            return Err(match body["error"]["innererror"]["code"].as_str() {
                Some("ObjectIsDeletedButRecoverable") => DeliveryError::Refused(format!(
                    "the vault holds a deleted certificate {name} that can be recovered, and gives its name to nobody: \
                     recover or purge it there"
                )),
                _ => DeliveryError::Unavailable(words),
            });
        }
        Err(error_of(&answer, Purpose::Changing, "importing", name))
    }
}

impl Destination for KeyVault {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        must_be_name(&item.name)?;
        key_properties(item)?;
        if bundle(item)?.len() > VALUE_BYTES_MAX {
            return Err(DeliveryError::Refused(format!(
                "key, certificate and chain are longer than the {VALUE_BYTES_MAX} octets that a vault takes"
            )));
        }
        Ok(())
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        Some(fingerprint(item.leaf.as_der(), State::Enabled))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        Ok(self.newest(id).await?.map(|newest| newest.found))
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        Ok(self.look(&item.name).await?.into_iter().collect())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        match self.newest(&item.name).await? {
            // Made by an attempt that was interrupted.
            Some(newest) if newest.found.mark == Some(item.mark) => {
                if self.expected(item).as_ref() == Some(&newest.found.fingerprint) {
                    return Ok(newest.found);
                }
                self.replace(&newest.found, item).await
            }
            Some(_) => Err(DeliveryError::Taken(format!("the vault has a certificate {} already", item.name))),
            None => {
                self.must_have_no_version(&item.name).await?;
                self.import(&item.name, item, Map::new()).await
            }
        }
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        let Some(newest) = self.newest(&found.id).await? else {
            return Err(DeliveryError::Unavailable(format!("the vault has no certificate {} any more", found.id)));
        };
        must_be_enabled(&newest.found)?;
        if newest.found.version != found.version || newest.found.mark != found.mark {
            return Err(DeliveryError::Unavailable(format!(
                "the certificate {} was changed at the vault since it was looked at",
                found.id
            )));
        }
        // A version has its own tags: what others have tagged the certificate with is carried on.
        self.import(&found.id, item, newest.tags).await
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        must_be_name(&found.id)?;
        must_be_enabled(found)?;
        let answer = self.send(Method::DELETE, &found.id, None).await?;
        if answer.status.is_success() || says_not_found(&answer) {
            return Ok(());
        }
        if answer.status == StatusCode::CONFLICT {
            return Err(DeliveryError::Unavailable(format!("deleting {}: {}", found.id, words_of(&answer))));
        }
        Err(error_of(&answer, Purpose::Changing, "deleting", &found.id))
    }

    async fn finish(&self, _: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum State {
    Enabled,
    Disabled,
}

impl State {
    const fn octets(self) -> &'static [u8] {
        match self {
            Self::Enabled => b"enabled",
            Self::Disabled => b"disabled",
        }
    }
}

impl Newest {
    fn read(name: &str, bundle: &Value) -> Result<Self, DeliveryError> {
        let unreadable = |what| {
            DeliveryError::Unavailable(format!("the vault's answer about {name} holds no {what} that can be read"))
        };
        let version = bundle["id"].as_str().and_then(|id| id.rsplit('/').next()).ok_or_else(|| unreadable("id"))?;
        // A certificate that is still being made has none yet.
        let leaf =
            STANDARD.decode(bundle["cer"].as_str().unwrap_or_default()).map_err(|_| unreadable("certificate"))?;
        let state = if bundle["attributes"]["enabled"] == false { State::Disabled } else { State::Enabled };
        let tags = bundle["tags"].as_object().cloned().unwrap_or_default();
        let mark = tags.get(MARK).and_then(Value::as_str).and_then(|text| Uuid::try_parse(text).ok());
        let found = Found {
            id: name.to_owned(),
            fingerprint: fingerprint(&leaf, state),
            mark,
            version: Some(version.to_owned()),
            details: Vec::new(),
        };
        Ok(Self { found, tags })
    }
}

fn fingerprint(leaf: &[u8], state: State) -> Fingerprint {
    Fingerprint::of(&[("leaf", leaf), ("state", state.octets())])
}

/// Somebody has disabled it on purpose: it is left alone.
fn must_be_enabled(found: &Found) -> Result<(), DeliveryError> {
    let disabled = Fingerprint::of(&[("state", State::Disabled.octets())]);
    if found.fingerprint.as_str().split(';').any(|part| part == disabled.as_str()) {
        return Err(DeliveryError::Refused(format!("the certificate {} is disabled at the vault", found.id)));
    }
    Ok(())
}

fn must_be_name(name: &str) -> Result<(), DeliveryError> {
    let named = name.chars().all(|one| one.is_ascii_alphanumeric() || one == '-');
    if name.is_empty() || name.len() > NAME_CHARACTERS_MAX || !named {
        return Err(DeliveryError::Refused(format!(
            "a vault names certificates by 1 to {NAME_CHARACTERS_MAX} letters, digits and hyphens, not {name:?}"
        )));
    }
    Ok(())
}

/// The cloud of a vault that is addressed by https alone.
fn cloud_of(vault_base_url: &str) -> Option<Cloud> {
    let url = Url::parse(vault_base_url).ok()?;
    let is_plain = url.scheme() == "https"
        && url.username().is_empty()
        && url.password().is_none()
        && url.port().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if is_plain { Cloud::of_vault(url.host_str()?) } else { None }
}

fn import_body(item: &Item, mut tags: Map<String, Value>) -> Result<Value, DeliveryError> {
    tags.insert(MARK.to_owned(), json!(item.mark));
    Ok(json!({
        "value": STANDARD.encode(bundle(item)?),
        "policy": {
            "key_props": key_properties(item)?,
            "secret_props": {"contentType": "application/x-pem-file"},
            "x509_props": x509_properties(item),
        },
        "attributes": {"enabled": true},
        "tags": tags,
    }))
}

/// Key, certificate and chain, in the order that the vault wants.
fn bundle(item: &Item) -> Result<String, DeliveryError> {
    let key = item.key.as_ref().ok_or_else(|| {
        DeliveryError::Refused("the certificate has no private key here, and a vault takes none without it".into())
    })?;
    let mut text = format!("{}\n", key.expose().trim());
    for certificate in std::iter::once(&item.leaf).chain(&item.chain) {
        text.push_str(&certificate.to_pem());
        text.push('\n');
    }
    Ok(text)
}

fn key_properties(item: &Item) -> Result<Value, DeliveryError> {
    let algorithm = item.leaf.contents().key_algorithm();
    let rsa = |bits: u32| json!({"exportable": true, "reuse_key": false, "kty": "RSA", "key_size": bits});
    let ec = |curve: &str| json!({"exportable": true, "reuse_key": false, "kty": "EC", "crv": curve});
    match algorithm {
        Ok(KeyAlgorithm::Rsa2048) => Ok(rsa(2048)),
        Ok(KeyAlgorithm::Rsa3072) => Ok(rsa(3072)),
        Ok(KeyAlgorithm::Rsa4096) => Ok(rsa(4096)),
        Ok(KeyAlgorithm::EcP256) => Ok(ec("P-256")),
        Ok(KeyAlgorithm::EcP384) => Ok(ec("P-384")),
        Ok(KeyAlgorithm::EcP521) => Ok(ec("P-521")),
        Ok(KeyAlgorithm::Ed25519) | Err(_) => {
            Err(DeliveryError::Refused("a vault takes RSA and elliptic curve keys (P-256, P-384, P-521) only".into()))
        }
    }
}

fn x509_properties(item: &Item) -> Value {
    let mut properties = Map::new();
    let subject = item.leaf.contents().subject();
    if !subject.is_empty() {
        properties.insert("subject".into(), json!(subject.render()));
    }
    let names = item.leaf.contents().extensions().subject_alt_names().ok().flatten();
    let (mut dns_names, mut emails) = (Vec::new(), Vec::new());
    for name in names.iter().flat_map(|names| names.valid()) {
        match name {
            GeneralName::Dns(name) => dns_names.push(name.as_str().to_owned()),
            GeneralName::Email(address) => emails.push(address.as_str().to_owned()),
            GeneralName::Ip(_)
            | GeneralName::Uri(_)
            | GeneralName::Directory(_)
            | GeneralName::RegisteredId(_)
            | GeneralName::Other { .. } => {}
        }
    }
    if !dns_names.is_empty() || !emails.is_empty() {
        properties.insert("sans".into(), json!({"dns_names": dns_names, "emails": emails, "upns": []}));
    }
    Value::Object(properties)
}

/// A 404 of something in between, or of another vault, is not the vault's word.
fn says_not_found(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && answer.json()["error"]["code"] == "CertificateNotFound"
}

fn words_of(answer: &Answer) -> String {
    let body = answer.json();
    let error = &body["error"];
    match (error["code"].as_str(), error["message"].as_str()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => format!("{} {}", answer.status.as_u16(), answer.excerpt()),
    }
}

fn error_of(answer: &Answer, purpose: Purpose, doing: &str, name: &str) -> DeliveryError {
    refusal::of(answer, purpose, format!("{doing} {name} at the vault: {}", words_of(answer)))
}
