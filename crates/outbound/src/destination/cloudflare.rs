//! Custom certificates of a Cloudflare zone (contract syncs §2.6; Cloudflare API v4).
//!
//! A certificate has no name there, holds no mark, and its content is never given back: what is told of it is its hosts,
//! its issuer, the kind of its signature, when it ends, and when it was uploaded. The fingerprint is of these. The time of
//! the last change is not in it, since Cloudflare moves it by its own doings.
//!
//! Nothing of that is proof that we made an object. It is taken for ours in three cases only:
//!
//! - Cloudflare answered our own request with its identifier.
//! - Our request's answer was lost, and what was not there before it is there after it: one object for our certificate.
//! - An earlier run broke off ([`Destination::find`]): there is exactly one object for our certificate that was uploaded
//!   after our mark was made. A mark is a UUID of version 7, which says when that was, and it is made before the request. A
//!   look-alike that was there before has an earlier time; a later one would have to be a certificate of the same issuer
//!   for the same hosts that ends in the same second, which means this certificate. A mark of another version claims
//!   nothing.
//!
//! Cloudflare refuses to take one certificate twice (code 1220). When it is there and is not ours by these rules, somebody
//! else uploaded it: that is [`DeliveryError::Taken`], and it stays as it is.

use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::connection::cloudflare::{Api, codes_of, error_of, must_be_id, words_of};
use crate::http::Answer;
use crate::refusal::Purpose;
use domain::sync::DestinationConfig;
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;
use x509::{Certificate, GeneralName, KeyAlgorithm};

const PAGE: usize = 50;
/// More pages are not believed.
const PAGES_MAX: usize = 200;
/// This certificate was submitted already.
const SUBMITTED: i64 = 1220;
/// This certificate cannot be deleted at this time.
const NOT_DELETABLE_NOW: i64 = 1305;
/// The path leads nowhere: about the zone, not about a certificate.
const NO_ROUTE: [i64; 2] = [7000, 7003];

/// A zone.
pub struct CustomCertificates {
    api: Api,
    zone_id: String,
}

/// A certificate as Cloudflare tells of it.
struct Told {
    id: String,
    /// In small letters, in order.
    hosts: Vec<String>,
    /// In seconds since the epoch.
    ends: Option<i64>,
    uploaded: Option<Timestamp>,
    fingerprint: Fingerprint,
}

impl CustomCertificates {
    /// The zone of a sync.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let DestinationConfig::Cloudflare { zone_id } = opening.config else {
            return Err(DeliveryError::Refused("the destination is not a zone of Cloudflare".into()));
        };
        let credentials =
            opening.credentials.ok_or_else(|| DeliveryError::Refused("Cloudflare needs a connection".into()))?;
        must_be_id("zone", zone_id)?;
        Ok(Self { api: Api::new(opening.http, credentials)?, zone_id: zone_id.clone() })
    }

    async fn send(&self, method: Method, rest: &str, body: Option<&Value>) -> Result<Answer, DeliveryError> {
        self.api.send(method, &format!("zones/{}/custom_certificates{rest}", self.zone_id), body).await
    }

    /// Everything in the zone.
    async fn list(&self) -> Result<Vec<Told>, DeliveryError> {
        let doing = "listing the certificates of the zone";
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            let answer = self.send(Method::GET, &format!("?page={page}&per_page={PAGE}"), None).await?;
            let body = answer.json();
            let Some(result) = body["result"].as_array().filter(|_| answer.status.is_success()) else {
                return Err(match answer.status {
                    // A list is not "not there".
                    StatusCode::NOT_FOUND if !leads_nowhere(&answer) => {
                        DeliveryError::Unavailable(format!("{doing}: {}", words_of(&answer)))
                    }
                    status if status.is_success() => {
                        DeliveryError::Unavailable(format!("{doing}: the answer holds no list"))
                    }
                    _ => error_of(&answer, Purpose::Reading, doing),
                });
            };
            for certificate in result {
                all.push(Told::read(certificate)?);
            }
            let pages = body["result_info"]["total_pages"].as_u64().and_then(|pages| usize::try_from(pages).ok());
            let is_last = pages.map_or(result.len() < PAGE, |pages| page >= pages);
            if is_last {
                return Ok(all);
            }
        }
        Err(DeliveryError::Unavailable(format!("{doing}: there are more than {}", PAGES_MAX * PAGE)))
    }

    /// What is left when the answer to a change was lost: one object for the item that was not there before.
    async fn arrived(&self, before: &[Told], item: &Item, lost: DeliveryError) -> Result<Told, DeliveryError> {
        let Ok(after) = self.list().await else {
            return Err(lost);
        };
        let is_new = |told: &Told| before.iter().all(|old| old.id != told.id) && told.is_for(&item.leaf);
        exactly_one(after.into_iter().filter(is_new)).ok_or(lost)
    }
}

impl Destination for CustomCertificates {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        if item.key.is_none() {
            return Err(DeliveryError::Refused(
                "the certificate has no private key here, and Cloudflare takes none without it".into(),
            ));
        }
        if hosts_of(&item.leaf).is_empty() {
            return Err(DeliveryError::Refused("Cloudflare takes certificates for DNS names only".into()));
        }
        match item.leaf.contents().key_algorithm() {
            Ok(
                KeyAlgorithm::Rsa2048
                | KeyAlgorithm::Rsa3072
                | KeyAlgorithm::Rsa4096
                | KeyAlgorithm::EcP256
                | KeyAlgorithm::EcP384
                | KeyAlgorithm::EcP521,
            ) => Ok(()),
            Ok(KeyAlgorithm::Ed25519) | Err(_) => {
                Err(DeliveryError::Refused("Cloudflare takes RSA and elliptic curve keys only".into()))
            }
        }
    }

    fn expected(&self, _: &Item) -> Option<Fingerprint> {
        // Only Cloudflare can say: the content cannot be read back.
        None
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        must_be_id("certificate", id)?;
        let answer = self.send(Method::GET, &format!("/{id}"), None).await?;
        if answer.status.is_success() {
            return Told::read(&answer.json()["result"]).map(|told| Some(told.found(None)));
        }
        if !says_not_found(&answer) {
            return Err(error_of(&answer, Purpose::Reading, &format!("looking at the certificate {id}")));
        }
        // Nothing else tells an identifier that never was from one that is there: the list has to agree.
        Ok(self.list().await?.into_iter().find(|told| told.id == id).map(|told| told.found(None)))
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        let claimed = claim(self.list().await?, item);
        Ok(claimed.map(|told| told.found(Some(item.mark))).into_iter().collect())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        let before = self.list().await?;
        let mut body = upload(item)?;
        body["type"] = json!("sni_custom");
        let told = match self.send(Method::POST, "", Some(&body)).await {
            Ok(answer) if answer.status.is_success() => match Told::read(&answer.json()["result"]) {
                Ok(told) => told,
                Err(error) => self.arrived(&before, item, DeliveryError::Unknown(error.to_string())).await?,
            },
            Ok(answer) if codes_of(&answer).contains(&SUBMITTED) => {
                // By an attempt that was interrupted, or by somebody else.
                claim(before, item).ok_or_else(|| {
                    DeliveryError::Taken(format!(
                        "somebody else has uploaded this very certificate to the zone: {}",
                        words_of(&answer)
                    ))
                })?
            }
            Ok(answer) => match change_error(&answer, "uploading the certificate") {
                lost @ DeliveryError::Unknown(_) => self.arrived(&before, item, lost).await?,
                error => return Err(error),
            },
            Err(lost @ DeliveryError::Unknown(_)) => self.arrived(&before, item, lost).await?,
            Err(error) => return Err(error),
        };
        Ok(told.found(Some(item.mark)))
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        must_be_id("certificate", &found.id)?;
        let before = self.list().await?;
        let Some(old) = before.iter().find(|told| told.id == found.id) else {
            return Err(DeliveryError::Unavailable(format!("Cloudflare has no certificate {} any more", found.id)));
        };
        if old.fingerprint != found.fingerprint {
            return Err(DeliveryError::Unavailable(format!(
                "the certificate {} was changed at Cloudflare since it was looked at",
                found.id
            )));
        }
        let was_for_it = old.is_for(&item.leaf);
        let doing = format!("replacing the certificate {}", found.id);
        let lost = match self.send(Method::PATCH, &format!("/{}", found.id), Some(&upload(item)?)).await {
            Ok(answer) if answer.status.is_success() => match Told::read(&answer.json()["result"]) {
                Ok(told) => return Ok(told.found(Some(item.mark))),
                Err(error) => DeliveryError::Unknown(error.to_string()),
            },
            Ok(answer) if codes_of(&answer).contains(&SUBMITTED) => {
                if was_for_it {
                    return Ok(Found { mark: Some(item.mark), ..found.clone() });
                }
                return Err(DeliveryError::Taken(format!("{doing}: {}", words_of(&answer))));
            }
            Ok(answer) => match change_error(&answer, &doing) {
                lost @ DeliveryError::Unknown(_) => lost,
                error => return Err(error),
            },
            Err(lost @ DeliveryError::Unknown(_)) => lost,
            Err(error) => return Err(error),
        };
        let Ok(after) = self.list().await else {
            return Err(lost);
        };
        // It kept its identifier and is for the item now, or it is gone and one came for the item.
        let (kept, others): (Vec<Told>, Vec<Told>) = after.into_iter().partition(|told| told.id == found.id);
        let told = match exactly_one(kept.into_iter()) {
            Some(told) if !was_for_it && told.is_for(&item.leaf) => Some(told),
            Some(_) => None,
            None => exactly_one(
                others.into_iter().filter(|told| before.iter().all(|old| old.id != told.id) && told.is_for(&item.leaf)),
            ),
        };
        told.map(|told| told.found(Some(item.mark))).ok_or(lost)
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        must_be_id("certificate", &found.id)?;
        let doing = format!("deleting the certificate {}", found.id);
        let answer = self.send(Method::DELETE, &format!("/{}", found.id), None).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        if says_not_found(&answer) {
            return match self.list().await?.iter().any(|told| told.id == found.id) {
                true => {
                    Err(DeliveryError::Unavailable(format!("{doing}: Cloudflare says that it is and is not there")))
                }
                false => Ok(()),
            };
        }
        if codes_of(&answer).contains(&NOT_DELETABLE_NOW) {
            return Err(DeliveryError::Unavailable(format!("{doing}: {}", words_of(&answer))));
        }
        Err(change_error(&answer, &doing))
    }

    async fn finish(&self, _: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

impl Told {
    fn read(certificate: &Value) -> Result<Self, DeliveryError> {
        let text = |name: &str| certificate[name].as_str().unwrap_or_default();
        let time = |name: &str| text(name).parse::<Timestamp>().ok();
        if text("id").is_empty() {
            return Err(DeliveryError::Unavailable("Cloudflare's answer holds no certificate".into()));
        }
        let listed = certificate["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut hosts: Vec<String> = listed.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect();
        hosts.sort();
        hosts.dedup();
        let fingerprint = Fingerprint::of(&[
            ("hosts", hosts.join(",").as_bytes()),
            ("ends", text("expires_on").as_bytes()),
            ("issuer", text("issuer").as_bytes()),
            ("signature", text("signature").as_bytes()),
            ("uploaded", text("uploaded_on").as_bytes()),
        ]);
        let (ends, uploaded) = (time("expires_on").map(Timestamp::as_second), time("uploaded_on"));
        Ok(Self { id: text("id").to_owned(), hosts, ends, uploaded, fingerprint })
    }

    /// Whether all that is told of it is so of this certificate.
    fn is_for(&self, leaf: &Certificate) -> bool {
        self.ends == Some(leaf.contents().not_after()) && self.hosts == hosts_of(leaf)
    }

    fn found(self, mark: Option<Uuid>) -> Found {
        Found { id: self.id, fingerprint: self.fingerprint, mark, version: None, details: Vec::new() }
    }
}

/// The one object that an interrupted attempt for this item made, by the rules at the top.
fn claim(all: Vec<Told>, item: &Item) -> Option<Told> {
    let (seconds, nanoseconds) = item.mark.get_timestamp().filter(|_| item.mark.get_version_num() == 7)?.to_unix();
    let marked = Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()?;
    // A mark knows its millisecond: what was uploaded within it may have been there before.
    let is_later = |uploaded: Timestamp| uploaded.as_millisecond() > marked.as_millisecond();
    exactly_one(all.into_iter().filter(|told| told.is_for(&item.leaf) && told.uploaded.is_some_and(is_later)))
}

fn exactly_one<T>(mut several: impl Iterator<Item = T>) -> Option<T> {
    let one = several.next()?;
    several.next().is_none().then_some(one)
}

/// The DNS names of a certificate in small letters, in order.
fn hosts_of(leaf: &Certificate) -> Vec<String> {
    let names = leaf.contents().extensions().subject_alt_names().ok().flatten();
    let dns = |name: &GeneralName| match name {
        GeneralName::Dns(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::Ip(_)
        | GeneralName::Email(_)
        | GeneralName::Uri(_)
        | GeneralName::Directory(_)
        | GeneralName::RegisteredId(_)
        | GeneralName::Other { .. } => None,
    };
    let mut hosts: Vec<String> = names.iter().flat_map(|names| names.valid()).filter_map(dns).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// What is uploaded. A certificate of a root that is known here is bundled as it is, up to that root; Cloudflare completes
/// the chain of others. The leaf comes first, as Cloudflare's own rules for both ways have it.
fn upload(item: &Item) -> Result<Value, DeliveryError> {
    let key = item.key.as_ref().ok_or_else(|| DeliveryError::Refused("there is no private key here".into()))?;
    let mut bundle: Vec<&Certificate> = std::iter::once(&item.leaf).chain(&item.chain).collect();
    if let Some(root) = item.root.as_ref().filter(|root| bundle.iter().all(|one| one.as_der() != root.as_der())) {
        bundle.push(root);
    }
    let text: Vec<String> = bundle.into_iter().map(|certificate| certificate.to_pem() + "\n").collect();
    let bundle_method = if item.root.is_some() { "force" } else { "ubiquitous" };
    Ok(json!({"certificate": text.concat(), "private_key": key.expose(), "bundle_method": bundle_method}))
}

fn leads_nowhere(answer: &Answer) -> bool {
    codes_of(answer).iter().any(|code| NO_ROUTE.contains(code))
}

/// A 404 of something in between, or about the zone, is not Cloudflare's word about a certificate.
fn says_not_found(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && !codes_of(answer).is_empty() && !leads_nowhere(answer)
}

fn change_error(answer: &Answer, doing: &str) -> DeliveryError {
    match answer.status {
        // Another change is under way.
        StatusCode::CONFLICT => DeliveryError::Unavailable(format!("{doing} at Cloudflare: {}", words_of(answer))),
        StatusCode::NOT_FOUND if says_not_found(answer) => {
            DeliveryError::Unavailable(format!("{doing} at Cloudflare: {}", words_of(answer)))
        }
        _ => error_of(answer, Purpose::Changing, doing),
    }
}
