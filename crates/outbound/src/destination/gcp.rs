//! Self-managed certificates of Google Cloud's Certificate Manager (contract syncs §2.8; Certificate Manager API v1).
//!
//! Each change is an operation that is asked about until it has ended. A creation never overwrites: the API refuses a name
//! that is there. For a replacement it knows no condition, so the certificate is looked at once more before it. The mark is
//! a label; what is compared is the certificate and its chain, which the API gives back.
//!
//! The entry of a certificate map that points at the certificates is ours only if we made it: its id is ours and it says
//! that it is managed by us. Another entry for the same host name is an error and stays as it is. A certificate is taken
//! out of the entry, and what is new in this run put into it in the same change, before it is deleted.

use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::connection::gcp::{Impersonation, ServerIdentity, error_of, words_of};
use crate::http::{Answer, Http, Request};
use crate::refusal::Purpose;
use domain::connection::Credentials;
use domain::sync::DestinationConfig;
use domain::sync::config::{CertificateMapBinding, Label};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use x509::{KeyAlgorithm, pem};

const API_URL: &str = "https://certificatemanager.googleapis.com";
/// The label that holds the mark.
const MARK: &str = "chancery-object";
/// The label that says whose certificate it is; its key is the contract's.
const CERTIFICATE_ID: &str = "infisical-certificate-id";
/// The label that says who looks after it.
const MANAGED_BY: &str = "managed-by";
const MANAGER: &str = "chancery";
/// The most labels of a resource.
const LABELS_MAX: usize = 64;
const NAME_CHARACTERS_MAX: usize = 63;
/// The most certificates of an entry of a map.
const ENTRY_CERTIFICATES_MAX: usize = 4;
/// An operation is asked about after this pause, which doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// An operation that takes longer is not waited for.
const OPERATION_MAX: Duration = Duration::from_secs(120);

/// A location of a project.
pub struct CertificateManager {
    http: Http,
    account: Impersonation,
    api_url: String,
    /// `projects/…/locations/…`
    parent: String,
    /// As the API spells it.
    scope: &'static str,
    labels: Vec<Label>,
    binding: Option<CertificateMapBinding>,
    /// What was created since it was opened, by full name.
    created: Mutex<Vec<String>>,
}

/// The entry of a map that is ours.
struct Entry {
    name: String,
    certificates: Vec<String>,
}

impl CertificateManager {
    /// The place of a sync, reached as this account of the server.
    pub fn open(opening: &Opening<'_>, identity: ServerIdentity) -> Result<Self, DeliveryError> {
        let DestinationConfig::Gcp { gcp_project_id, location, scope, certificate_map_binding } = opening.config else {
            return Err(DeliveryError::Refused("the destination is not Google's Certificate Manager".into()));
        };
        let credentials =
            opening.credentials.ok_or_else(|| DeliveryError::Refused("Google Cloud needs a connection".into()))?;
        let endpoint_url = match credentials {
            Credentials::GcpImpersonation { endpoint_url, .. } => endpoint_url.as_deref(),
            _ => None,
        };
        must_be_plain("project", gcp_project_id)?;
        must_be_plain("location", location)?;
        let scope = match scope.as_deref() {
            None | Some("default") => "DEFAULT",
            Some("edge-cache") => "EDGE_CACHE",
            Some("all-regions") => "ALL_REGIONS",
            Some("client-auth") => "CLIENT_AUTH",
            Some(other) => return Err(DeliveryError::Refused(format!("Google knows no scope {other}"))),
        };
        if let Some(binding) = certificate_map_binding {
            must_be_plain("certificate map", &binding.certificate_map)?;
            if location != "global" || scope != "DEFAULT" {
                return Err(DeliveryError::Refused(
                    "only certificates of the location global and the scope default can be bound to a map".into(),
                ));
            }
        }
        Ok(Self {
            http: opening.http.clone(),
            account: Impersonation::new(opening.http, credentials, identity)?,
            api_url: endpoint_url.unwrap_or(API_URL).trim_end_matches('/').to_owned(),
            parent: format!("projects/{gcp_project_id}/locations/{location}"),
            scope,
            labels: opening.options.labels.clone().unwrap_or_default(),
            binding: certificate_map_binding.clone(),
            created: Mutex::default(),
        })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, DeliveryError> {
        let url = format!("{}/v1/{path}", self.api_url);
        let request = Request::new(method, &url)?.bearer(self.account.token().await?.expose())?;
        self.http.send(body.into_iter().fold(request, Request::json)).await
    }

    /// Makes a change and waits for its end.
    async fn change(&self, method: Method, path: &str, body: Option<&Value>, doing: &str) -> Result<(), DeliveryError> {
        let name = path.split('?').next().unwrap_or_default();
        let answer = self.send(method, path, body).await?;
        if !answer.status.is_success() {
            let words = format!("{doing} {name}: {}", words_of(&answer.json(), answer.status.as_u16()));
            return Err(match answer.status {
                StatusCode::CONFLICT if status_is(&answer, "ALREADY_EXISTS") => DeliveryError::Taken(words),
                // Not there any more, or somebody else is changing it.
                StatusCode::NOT_FOUND | StatusCode::CONFLICT => DeliveryError::Unavailable(words),
                _ => error_of(&answer, Purpose::Changing, doing, name),
            });
        }
        self.wait(answer.json(), doing, name).await
    }

    /// From here on the change is under way: what is not known of its end is not known of it.
    async fn wait(&self, mut operation: Value, doing: &str, name: &str) -> Result<(), DeliveryError> {
        let unknown = |why: String| DeliveryError::Unknown(format!("{doing} {name} at Google was begun, but {why}"));
        let (end, mut pause) = (Instant::now() + OPERATION_MAX, PAUSE_FIRST);
        while operation["done"] != true {
            let path = operation["name"].as_str().unwrap_or_default().to_owned();
            must_be_resource(&path).map_err(|_| unknown("the operation has no name".into()))?;
            if Instant::now() >= end {
                return Err(unknown("it has not ended yet".into()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            let answer = self.send(Method::GET, &path, None).await.map_err(|error| unknown(error.to_string()))?;
            if !answer.status.is_success() {
                return Err(unknown(words_of(&answer.json(), answer.status.as_u16())));
            }
            operation = answer.json();
        }
        match operation.get("error") {
            None | Some(Value::Null) => Ok(()),
            Some(error) => Err(operation_error(error, doing, name)),
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Value>, DeliveryError> {
        must_be_resource(name)?;
        let answer = self.send(Method::GET, name, None).await?;
        if answer.status.is_success() {
            return Ok(Some(answer.json()));
        }
        // A 404 of something in between is not Google's word.
        if answer.status == StatusCode::NOT_FOUND && status_is(&answer, "NOT_FOUND") {
            return Ok(None);
        }
        Err(error_of(&answer, Purpose::Reading, "looking at", name))
    }

    /// What stands there after a change that was made: it must not fail as if nothing had been done.
    async fn look_after(&self, name: &str) -> Result<Found, DeliveryError> {
        match self.look(name).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(DeliveryError::Unknown(format!("Google changed {name}, but says that it is not there"))),
            Err(error) => Err(DeliveryError::Unknown(format!("Google changed {name}, but: {error}"))),
        }
    }

    fn name(&self, item: &Item) -> String {
        format!("{}/certificates/{}", self.parent, item.name)
    }

    /// The labels of an object: the sync's, and ours over them.
    fn labels(&self, item: &Item) -> Map<String, Value> {
        let mut labels: Map<String, Value> =
            self.labels.iter().map(|label| (label.key.clone(), json!(label.value))).collect();
        labels.insert(CERTIFICATE_ID.into(), json!(item.certificate.to_string()));
        labels.insert(MARK.into(), json!(item.mark.to_string()));
        // With the 62 labels that a sync may have there is room for all but this one, which says the least.
        if labels.len() < LABELS_MAX {
            labels.insert(MANAGED_BY.into(), json!(MANAGER));
        }
        labels
    }

    fn body(&self, item: &Item) -> Result<Value, DeliveryError> {
        let key = item.key.as_ref().ok_or_else(|| {
            DeliveryError::Refused("the certificate has no private key here, and Google takes none without it".into())
        })?;
        let certificates: Vec<String> =
            std::iter::once(&item.leaf).chain(&item.chain).map(|certificate| certificate.to_pem() + "\n").collect();
        Ok(json!({
            "description": format!("Certificate {} of {}, carried here by Chancery", item.serial_number, item.common_name),
            "labels": self.labels(item),
            "selfManaged": {"pemCertificate": certificates.concat(), "pemPrivateKey": key.expose()},
        }))
    }

    fn created(&self) -> Vec<String> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The full name of our entry of the map. Its last part is made of what it is for, since there is one entry for that.
    fn entry_name(&self, binding: &CertificateMapBinding) -> String {
        let digest = x509::digest::sha256(binding.hostname.as_deref().unwrap_or_default().as_bytes());
        let hex: String = digest[..8].iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{}/certificateMaps/{}/certificateMapEntries/chancery-{hex}", self.parent, binding.certificate_map)
    }

    async fn entry(&self, binding: &CertificateMapBinding) -> Result<Option<Entry>, DeliveryError> {
        let name = self.entry_name(binding);
        let Some(body) = self.get(&name).await? else {
            return Ok(None);
        };
        if body["labels"][MANAGED_BY] != MANAGER {
            return Err(DeliveryError::Refused(format!("{name} was made by somebody else")));
        }
        let certificates = body["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let certificates = certificates.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Some(Entry { name, certificates }))
    }

    /// Lets the entry of the map point at these beside what it points at, and not at those.
    async fn bind(
        &self,
        binding: &CertificateMapBinding,
        added: Vec<String>,
        removed: &[String],
    ) -> Result<(), DeliveryError> {
        let entry = self.entry(binding).await?;
        let before = entry.as_ref().map(|entry| entry.certificates.clone()).unwrap_or_default();
        let mut certificates: Vec<String> = before.iter().filter(|name| !removed.contains(name)).cloned().collect();
        for name in added {
            if !certificates.contains(&name) && !removed.contains(&name) {
                certificates.push(name);
            }
        }
        if certificates == before {
            return Ok(());
        }
        if certificates.len() > ENTRY_CERTIFICATES_MAX {
            return Err(DeliveryError::Refused(format!(
                "an entry of a certificate map points at {ENTRY_CERTIFICATES_MAX} certificates at most, not at {}",
                certificates.len()
            )));
        }
        let doing = "binding certificates to";
        match entry {
            Some(entry) if certificates.is_empty() => self.change(Method::DELETE, &entry.name, None, doing).await,
            Some(entry) => {
                let path = format!("{}?updateMask=certificates", entry.name);
                self.change(Method::PATCH, &path, Some(&json!({"certificates": certificates})), doing).await
            }
            None => {
                let name = self.entry_name(binding);
                let (collection, id) = name.rsplit_once('/').unwrap_or_default();
                let path = format!("{collection}?certificateMapEntryId={id}");
                let mut body = json!({"certificates": certificates, "labels": {MANAGED_BY: MANAGER}});
                match &binding.hostname {
                    Some(hostname) => body["hostname"] = json!(hostname),
                    None => body["matcher"] = json!("PRIMARY"),
                }
                self.change(Method::POST, &path, Some(&body), doing).await
            }
        }
    }
}

impl Destination for CertificateManager {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        let name = &item.name;
        let allowed = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
        let starts = name.starts_with(|one: char| one.is_ascii_lowercase());
        if !starts || name.len() > NAME_CHARACTERS_MAX || !name.chars().all(allowed) {
            return Err(DeliveryError::Refused(format!(
                "Google names certificates by a small letter and up to {} small letters, digits and hyphens, not {name:?}",
                NAME_CHARACTERS_MAX - 1
            )));
        }
        match item.leaf.contents().key_algorithm() {
            Ok(
                KeyAlgorithm::Rsa2048
                | KeyAlgorithm::Rsa3072
                | KeyAlgorithm::Rsa4096
                | KeyAlgorithm::EcP256
                | KeyAlgorithm::EcP384,
            ) => {}
            Ok(KeyAlgorithm::EcP521 | KeyAlgorithm::Ed25519) | Err(_) => {
                return Err(DeliveryError::Refused(
                    "Google takes RSA keys of 2048 to 4096 bits and elliptic curve keys on P-256 and P-384 only".into(),
                ));
            }
        }
        let labels = self.labels(item).len();
        if labels > LABELS_MAX {
            return Err(DeliveryError::Refused(format!("{labels} labels are more than the {LABELS_MAX} that fit")));
        }
        self.body(item).map(drop)
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        let chain: Vec<&[u8]> = item.chain.iter().map(|certificate| certificate.as_der()).collect();
        Some(fingerprint(item.leaf.as_der(), &chain.concat()))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        self.get(id).await?.map(|body| read_certificate(id, &body)).transpose()
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        Ok(self.look(&self.name(item)).await?.into_iter().collect())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        let name = self.name(item);
        let mut body = self.body(item)?;
        body["scope"] = json!(self.scope);
        let path = format!("{}/certificates?certificateId={}", self.parent, item.name);
        let found = match self.change(Method::POST, &path, Some(&body), "creating a certificate in").await {
            Ok(()) => self.look_after(&name).await?,
            Err(DeliveryError::Taken(words)) => match self.look(&name).await? {
                // Made by an attempt that was interrupted.
                Some(found) if found.mark == Some(item.mark) => {
                    if self.expected(item).as_ref() == Some(&found.fingerprint) {
                        found
                    } else {
                        self.replace(&found, item).await?
                    }
                }
                Some(_) | None => return Err(DeliveryError::Taken(words)),
            },
            Err(error) => return Err(error),
        };
        self.created.lock().unwrap_or_else(PoisonError::into_inner).push(found.id.clone());
        Ok(found)
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        let body = self.body(item)?;
        match self.look(&found.id).await? {
            None => return Err(DeliveryError::Unavailable(format!("Google has no certificate {} any more", found.id))),
            Some(newest) if newest.version != found.version || newest.mark != found.mark => {
                return Err(DeliveryError::Unavailable(format!(
                    "the certificate {} was changed at Google since it was looked at",
                    found.id
                )));
            }
            Some(_) => {}
        }
        let path = format!("{}?updateMask=self_managed,labels,description", found.id);
        self.change(Method::PATCH, &path, Some(&body), "replacing").await?;
        self.look_after(&found.id).await
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        must_be_resource(&found.id)?;
        if let Some(binding) = &self.binding {
            let unbound = self.bind(binding, self.created(), std::slice::from_ref(&found.id)).await;
            unbound.map_err(|error| match error {
                // What is not known is about the entry: the certificate itself is there.
                DeliveryError::Unknown(words) => DeliveryError::Unavailable(words),
                other => other,
            })?;
            self.created.lock().unwrap_or_else(PoisonError::into_inner).retain(|name| name != &found.id);
        }
        let answer = self.send(Method::DELETE, &found.id, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND if status_is(&answer, "NOT_FOUND") => Ok(()),
            StatusCode::CONFLICT => Err(DeliveryError::Unavailable(format!(
                "deleting {}: {}",
                found.id,
                words_of(&answer.json(), answer.status.as_u16())
            ))),
            status if status.is_success() => self.wait(answer.json(), "deleting", &found.id).await,
            _ => Err(error_of(&answer, Purpose::Changing, "deleting", &found.id)),
        }
    }

    async fn finish(&self, changed: &Changed) -> Result<(), DeliveryError> {
        let Some(binding) = &self.binding else {
            return Ok(());
        };
        let delivered = changed.delivered.iter().map(|(found, _)| found.id.clone()).collect();
        self.bind(binding, delivered, &changed.removed).await.map_err(|error| match error {
            DeliveryError::Taken(words) => DeliveryError::Refused(format!(
                "the certificate map has an entry for that host name which somebody else made: {words}"
            )),
            other => other,
        })
    }
}

fn read_certificate(name: &str, body: &Value) -> Result<Found, DeliveryError> {
    let text = body["pemCertificate"].as_str().unwrap_or_default();
    let certificates = pem::decode_all(text, pem::CERTIFICATE)
        .map_err(|error| DeliveryError::Unavailable(format!("Google's answer about {name} cannot be read: {error}")))?;
    let (leaf, chain) = certificates.split_first().map(|(leaf, chain)| (leaf.as_slice(), chain)).unwrap_or_default();
    let mark = body["labels"][MARK].as_str().and_then(|text| Uuid::try_parse(text).ok());
    Ok(Found {
        id: name.to_owned(),
        fingerprint: fingerprint(leaf, &chain.concat()),
        mark,
        version: body["updateTime"].as_str().map(str::to_owned),
        details: Vec::new(),
    })
}

fn fingerprint(leaf: &[u8], chain: &[u8]) -> Fingerprint {
    Fingerprint::of(&[("leaf", leaf), ("chain", chain)])
}

fn status_is(answer: &Answer, status: &str) -> bool {
    answer.json()["error"]["status"] == status
}

/// How an operation ended that failed: codes of google.rpc.
fn operation_error(error: &Value, doing: &str, name: &str) -> DeliveryError {
    let code = error["code"].as_i64().unwrap_or_default();
    let words = format!("{doing} {name} at Google failed: {}", error["message"].as_str().unwrap_or("without a reason"));
    match code {
        // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED
        3 | 9 | 11 | 12 => DeliveryError::Refused(words),
        // ALREADY_EXISTS
        6 => DeliveryError::Taken(words),
        // PERMISSION_DENIED, UNAUTHENTICATED
        7 | 16 => DeliveryError::Connection(words),
        // NOT_FOUND, RESOURCE_EXHAUSTED, ABORTED
        5 | 8 | 10 => DeliveryError::Unavailable(words),
        _ => DeliveryError::Unknown(words),
    }
}

fn must_be_plain(what: &str, text: &str) -> Result<(), DeliveryError> {
    // The projects of old organisations have their domain in front: `example.com:project`.
    let allowed = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || "-.:".contains(one);
    if text.is_empty() || text.starts_with('.') || !text.chars().all(allowed) {
        return Err(DeliveryError::Refused(format!("{text:?} is not the name of a {what}")));
    }
    Ok(())
}

fn must_be_resource(name: &str) -> Result<(), DeliveryError> {
    let is_plain = |part: &str| {
        let allowed = |one: char| one.is_ascii_alphanumeric() || "-_.:".contains(one);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    if !name.starts_with("projects/") || !name.split('/').all(is_plain) {
        return Err(DeliveryError::Refused(format!("{name:?} is not the name of one of Google's resources")));
    }
    Ok(())
}
