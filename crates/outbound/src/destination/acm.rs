//! AWS Certificate Manager: a certificate is imported with its key and its chain, and is known by its ARN.
//!
//! Names are not unique there: `InfisicalCertificate` is a tag like any other, so what stands in an item's place is what
//! bears its mark, the tag `chancery-object`. Keys cannot be read back. A certificate that is imported again keeps its ARN,
//! and is served by whoever uses it without a gap; AWS has no way to hold such an import to the state that was found.
//!
//! Needs the actions `acm:ListCertificates`, `GetCertificate`, `ListTagsForCertificate`, `ImportCertificate`,
//! `AddTagsToCertificate` and `DeleteCertificate`.

use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::aws::{AwsClient, CallError, Effect, Region, Service};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::sync::DestinationConfig;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;
use x509::{Certificate, KeyAlgorithm, KeyProblem};

/// The tag that holds the name.
const NAME_TAG: &str = "InfisicalCertificate";
/// The tag that holds the mark.
const MARK_TAG: &str = "chancery-object";
/// The kinds of keys that a list is asked for. Without them it is one of RSA keys of 1024 and 2048 bits only.
const KEY_TYPES: [&str; 7] =
    ["RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1"];
/// How many certificates a page of the list holds.
const PAGE: u32 = 100;
/// More pages than any account has: a list that does not end is a failure.
const PAGES_MAX: usize = 1_000;
/// How many certificates' tags are asked for at once.
const AT_ONCE: usize = 8;
/// The longest value of a tag, in characters.
const TAG_CHARACTERS_MAX: usize = 256;
/// The largest certificate that is taken, in octets of PEM.
const CERTIFICATE_OCTETS_MAX: usize = 32_768;
/// The largest key that is taken, in octets of PEM.
const KEY_OCTETS_MAX: usize = 5_120;
/// The largest chain that is taken, in octets of PEM.
const CHAIN_OCTETS_MAX: usize = 2_097_152;

/// Certificate Manager in one region, opened for one run.
pub struct Acm {
    client: AwsClient,
    catalogue: Mutex<Catalogue>,
}

/// What was learned in this run about which certificates are there. An account may hold thousands, and each is asked for
/// its tags by itself, so this is done once.
#[derive(Default)]
struct Catalogue {
    tags: BTreeMap<String, Tags>,
    /// Whether each certificate is in it; one may be missing after a change whose answer was lost.
    is_complete: bool,
}

/// The tags that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tags {
    name: Option<String>,
    mark: Option<Uuid>,
}

impl Acm {
    /// Opens it; nothing is sent yet.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let DestinationConfig::Aws { region, key_id: _ } = opening.config else {
            return Err(DeliveryError::Refused("the place is not a region of AWS".into()));
        };
        let Some(credentials) = opening.credentials else {
            return Err(DeliveryError::Connection("there are no credentials for AWS".into()));
        };
        let client = AwsClient::new(opening.http, Service::Acm, Region::parse(region)?, credentials)?;
        Ok(Self { client, catalogue: Mutex::default() })
    }

    /// The same destination, which gives an answer up after so long.
    pub fn giving_up_after(mut self, timeout: Duration) -> Self {
        self.client = self.client.giving_up_after(timeout);
        self
    }

    /// What is at an ARN; none when AWS says that there is nothing.
    async fn contents(&self, arn: &str) -> Result<Option<Fingerprint>, DeliveryError> {
        let answer = self.client.call("GetCertificate", Effect::Reads, &json!({"CertificateArn": arn})).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Some(fingerprint_of_pem(&text("Certificate"), &text("CertificateChain"))))
    }

    /// Imports an item, over the certificate of an ARN if one is given, and gives the ARN back.
    async fn import(&self, item: &Item, over: Option<&str>) -> Result<String, CallError> {
        let key = key_of(item)?;
        let mut arguments = json!({
            "Certificate": STANDARD.encode(item.leaf.to_pem()),
            "PrivateKey": STANDARD.encode(key),
        });
        if !item.chain.is_empty() {
            arguments["CertificateChain"] = STANDARD.encode(chain_pem(item)).into();
        }
        match over {
            Some(arn) => arguments["CertificateArn"] = arn.into(),
            // Tags are refused when a certificate is imported again.
            None => arguments["Tags"] = Tags::of(item).to_json(),
        }
        let answer = self.client.call("ImportCertificate", Effect::Changes, &arguments).await?;
        let arn = answer.get("CertificateArn").and_then(Value::as_str).map(str::to_owned);
        Ok(arn.ok_or_else(|| DeliveryError::Unknown("AWS imported a certificate and does not name its ARN".into()))?)
    }

    /// Sends the tags again where an import has cleared them, or where the name is another one now.
    async fn keep_tags(&self, arn: &str, item: &Item) -> Result<(), DeliveryError> {
        let wanted = Tags::of(item);
        if tags_of(&self.client, arn).await?.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let arguments = json!({"CertificateArn": arn, "Tags": wanted.to_json()});
        self.client.call("AddTagsToCertificate", Effect::Changes, &arguments).await?;
        Ok(())
    }

    /// The ARNs of the certificates that bear a mark.
    async fn bearing(&self, mark: Uuid) -> Result<Vec<String>, DeliveryError> {
        let mut catalogue = self.catalogue.lock().await;
        if !catalogue.is_complete {
            self.fill(&mut catalogue).await?;
        }
        let bearing = catalogue.tags.iter().filter(|(_, tags)| tags.mark == Some(mark));
        Ok(bearing.map(|(arn, _)| arn.clone()).collect())
    }

    /// Lists all certificates, and asks for the tags of those that are new. What was learned stays when it breaks off.
    async fn fill(&self, catalogue: &mut Catalogue) -> Result<(), DeliveryError> {
        let listed = self.list().await?;
        catalogue.tags.retain(|arn, _| listed.contains(arn));
        let mut unknown = listed.into_iter().filter(|arn| !catalogue.tags.contains_key(arn)).collect::<Vec<_>>();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < AT_ONCE
                && let Some(arn) = unknown.pop()
            {
                let client = self.client.clone();
                asking.spawn(async move { tags_of(&client, &arn).await.map(|tags| (arn, tags)) });
            }
            let Some(answered) = asking.join_next().await else { break };
            let (arn, tags) = answered.map_err(|error| DeliveryError::Unavailable(error.to_string()))??;
            // None: it was removed since it was listed.
            if let Some(tags) = tags {
                catalogue.tags.insert(arn, tags);
            }
        }
        catalogue.is_complete = true;
        Ok(())
    }

    async fn list(&self) -> Result<BTreeSet<String>, DeliveryError> {
        let mut arns = BTreeSet::new();
        let mut arguments = json!({"MaxItems": PAGE, "Includes": {"keyTypes": KEY_TYPES}});
        for _ in 0..PAGES_MAX {
            let answer = self.client.call("ListCertificates", Effect::Reads, &arguments).await?;
            let Some(summaries) = answer.get("CertificateSummaryList").and_then(Value::as_array) else {
                return Err(DeliveryError::Unavailable("a page of AWS's certificates holds no list".into()));
            };
            let text = |summary: &Value, name: &str| summary.get(name).and_then(Value::as_str).map(str::to_owned);
            // What AWS issued itself is never ours. Servers that only speak like AWS may not say which one that is.
            let imported = summaries.iter().filter(|one| text(one, "Type").is_none_or(|kind| kind == "IMPORTED"));
            arns.extend(imported.filter_map(|summary| text(summary, "CertificateArn")));
            match answer.get("NextToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                Some(token) => arguments["NextToken"] = token.into(),
                None => return Ok(arns),
            }
        }
        Err(DeliveryError::Unavailable(format!("AWS's list of certificates does not end within {PAGES_MAX} pages")))
    }

    fn found(&self, arn: String, item: &Item) -> Found {
        let fingerprint = fingerprint_of(item);
        Found { id: arn, fingerprint, mark: Some(item.mark), version: None, details: Vec::new() }
    }
}

impl Destination for Acm {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        let refused = |text: String| Err(DeliveryError::Refused(text));
        let key = key_of(item)?;
        match item.leaf.contents().key_algorithm() {
            Ok(KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096) => {}
            Ok(KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 | KeyAlgorithm::EcP521) => {}
            Err(KeyProblem::UnsupportedSize(1024)) => {}
            Ok(KeyAlgorithm::Ed25519) | Err(_) => {
                return refused(
                    "AWS Certificate Manager takes RSA keys of 1024, 2048, 3072 and 4096 bits, and EC keys on P-256, P-384 \
                     and P-521; this certificate has another one"
                        .into(),
                );
            }
        }
        let is_tag = |character: char| character.is_alphanumeric() || " _.:/=+-@".contains(character);
        if !(1..=TAG_CHARACTERS_MAX).contains(&item.name.chars().count()) || !item.name.chars().all(is_tag) {
            return refused(format!(
                "the name {:?} cannot be a tag of AWS: 1 to {TAG_CHARACTERS_MAX} letters, digits, spaces and _.:/=+-@",
                item.name
            ));
        }
        for (what, octets, octets_max) in [
            ("certificate", item.leaf.to_pem().len(), CERTIFICATE_OCTETS_MAX),
            ("private key", key.len(), KEY_OCTETS_MAX),
            ("chain", chain_pem(item).len(), CHAIN_OCTETS_MAX),
        ] {
            if octets > octets_max {
                return refused(format!(
                    "AWS Certificate Manager takes a {what} of at most {octets_max} octets in PEM"
                ));
            }
        }
        Ok(())
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        Some(fingerprint_of(item))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        must_be_an_arn(id)?;
        let Some(fingerprint) = self.contents(id).await? else { return Ok(None) };
        let Some(tags) = tags_of(&self.client, id).await? else { return Ok(None) };
        Ok(Some(Found { id: id.to_owned(), fingerprint, mark: tags.mark, version: None, details: Vec::new() }))
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        let mut found = Vec::new();
        for arn in self.bearing(item.mark).await? {
            if let Some(fingerprint) = self.contents(&arn).await? {
                let mark = Some(item.mark);
                found.push(Found { id: arn, fingerprint, mark, version: None, details: Vec::new() });
            }
        }
        Ok(found)
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        let imported = self.import(item, None).await.map_err(DeliveryError::from);
        let mut catalogue = self.catalogue.lock().await;
        match imported {
            Ok(arn) => {
                catalogue.tags.insert(arn.clone(), Tags::of(item));
                Ok(self.found(arn, item))
            }
            Err(error) => {
                // There may be one now that the catalogue does not know.
                catalogue.is_complete &= !matches!(error, DeliveryError::Unknown(_));
                Err(error)
            }
        }
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        must_be_an_arn(&found.id)?;
        let arn = self.import(item, Some(&found.id)).await.map_err(|error| match error.is_absence() {
            true => DeliveryError::Unavailable(format!("{} was removed meanwhile", found.id)),
            false => error.into(),
        })?;
        // The certificate is delivered, whatever becomes of its tags; they are sent once more, as that does no harm.
        for _ in 0..2 {
            match self.keep_tags(&arn, item).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%arn, %error, "the tags of a certificate in AWS were not sent again"),
            }
        }
        self.catalogue.lock().await.tags.insert(arn.clone(), Tags::of(item));
        Ok(self.found(arn, item))
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        must_be_an_arn(&found.id)?;
        let arguments = json!({"CertificateArn": found.id});
        match self.client.call("DeleteCertificate", Effect::Changes, &arguments).await {
            Ok(_) => {}
            Err(error) if error.is_absence() => {}
            Err(error) if error.has_code("ResourceInUseException") => {
                return Err(DeliveryError::Refused(format!(
                    "{} is in use by another service of AWS, such as a load balancer, and stays until it is not",
                    found.id
                )));
            }
            Err(error) => return Err(error.into()),
        }
        self.catalogue.lock().await.tags.remove(&found.id);
        Ok(())
    }

    async fn finish(&self, _changed: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

impl Tags {
    fn of(item: &Item) -> Self {
        Self { name: Some(item.name.clone()), mark: Some(item.mark) }
    }

    fn to_json(&self) -> Value {
        let mark = self.mark.map(|mark| mark.to_string());
        let tags = [(NAME_TAG, self.name.clone()), (MARK_TAG, mark)];
        tags.into_iter().filter_map(|(key, value)| Some(json!({"Key": key, "Value": value?}))).collect()
    }
}

/// The tags of a certificate; none when AWS says that there is no such certificate.
async fn tags_of(client: &AwsClient, arn: &str) -> Result<Option<Tags>, DeliveryError> {
    let answer = match client.call("ListTagsForCertificate", Effect::Reads, &json!({"CertificateArn": arn})).await {
        Ok(answer) => answer,
        Err(error) if error.is_absence() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let tags = answer.get("Tags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let value = |key: &str| {
        let tag = tags.iter().find(|tag| tag.get("Key").and_then(Value::as_str) == Some(key));
        tag.and_then(|tag| tag.get("Value")).and_then(Value::as_str)
    };
    Ok(Some(Tags {
        name: value(NAME_TAG).map(str::to_owned),
        mark: value(MARK_TAG).and_then(|mark| Uuid::parse_str(mark).ok()),
    }))
}

fn must_be_an_arn(id: &str) -> Result<(), DeliveryError> {
    let parts: Vec<&str> = id.split(':').collect();
    let is_one = match parts[..] {
        ["arn", partition, "acm", _, _, resource] => {
            partition.starts_with("aws")
                && resource.strip_prefix("certificate/").is_some_and(|id| Uuid::parse_str(id).is_ok())
        }
        _ => false,
    };
    match is_one {
        true => Ok(()),
        false => Err(DeliveryError::Refused(format!("{id:?} is not the ARN of a certificate"))),
    }
}

fn key_of(item: &Item) -> Result<&str, DeliveryError> {
    let refusal = "AWS Certificate Manager takes no certificate without its private key, which is not held here";
    item.key.as_ref().map(|key| key.expose()).ok_or_else(|| DeliveryError::Refused(refusal.into()))
}

fn chain_pem(item: &Item) -> String {
    item.chain.iter().map(Certificate::to_pem).collect::<Vec<_>>().join("\n")
}

fn fingerprint_of(item: &Item) -> Fingerprint {
    fingerprint(item.leaf.as_der(), item.chain.iter().cloned())
}

/// The fingerprint of what AWS holds. Line ends do not count; what is no certificate counts as it is.
fn fingerprint_of_pem(leaf: &str, chain: &str) -> Fingerprint {
    let leaf = x509::pem::decode_one(leaf, &["CERTIFICATE"]).unwrap_or_else(|_| leaf.trim().as_bytes().to_vec());
    let above = x509::pem::decode_all(chain, "CERTIFICATE").unwrap_or_default();
    fingerprint(&leaf, above.into_iter().map_while(|der| Certificate::from_der(der).ok()))
}

/// The fingerprint of a leaf and of what leads up from it. A root of somebody else that follows in the chain does not
/// count: moto, for one, appends Amazon's to whatever it is given.
fn fingerprint(leaf: &[u8], above: impl Iterator<Item = Certificate>) -> Fingerprint {
    let mut chain = Vec::new();
    let mut below = Certificate::from_der(leaf.to_vec()).ok();
    for certificate in above {
        let leads_up = below.as_ref().is_some_and(|below| {
            let (below, above) = (below.contents(), certificate.contents());
            !below.is_self_issued() && below.issuer().as_der() == above.subject().as_der()
        });
        if !leads_up {
            break;
        }
        chain.extend_from_slice(certificate.as_der());
        below = Some(certificate);
    }
    Fingerprint::of(&[("leaf", leaf), ("chain", &chain)])
}
