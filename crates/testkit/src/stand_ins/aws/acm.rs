//! Certificate Manager of the stand-in, as far as imported certificates go (API reference of AWS Certificate Manager:
//! ImportCertificate, ListCertificates, GetCertificate, DescribeCertificate, DeleteCertificate and tags).

use super::{ACCOUNT, REGION, Refusal, page_start, tags, tags_json, text};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use x509::{Certificate, KeyAlgorithm};

/// The most tags of a certificate.
const TAGS_MAX: usize = 50;
/// The largest page of a list.
const PAGE_MAX: usize = 1000;

/// A certificate that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    /// The certificate, in PEM.
    pub certificate: String,
    /// What is above it, in PEM; empty when nothing came with it.
    pub chain: String,
    /// The private key, in PEM.
    pub key: String,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// All certificates, and the rules by which they are kept.
#[derive(Default)]
pub struct CertificateStore {
    by_arn: BTreeMap<String, StoredCertificate>,
    in_use: BTreeSet<String>,
    page: Option<usize>,
    forgets_tags: bool,
}

impl CertificateStore {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn all(&self) -> &BTreeMap<String, StoredCertificate> {
        &self.by_arn
    }

    /// Whether there is a certificate of that ARN.
    pub fn has(&self, arn: &str) -> bool {
        self.by_arn.contains_key(arn)
    }

    /// Puts a certificate in past all rules, and gives its ARN back.
    pub fn seed(&mut self, certificate: StoredCertificate) -> String {
        let arn = new_arn();
        self.by_arn.insert(arn.clone(), certificate);
        arn
    }

    /// Makes pages of lists this short, whatever is asked for.
    pub fn page_by(&mut self, page: usize) {
        self.page = Some(page);
    }

    /// Loses the tags of a certificate that is imported again.
    pub fn forget_tags_on_import(&mut self) {
        self.forgets_tags = true;
    }

    /// Lets a load balancer use a certificate, so that it cannot be deleted.
    pub fn use_certificate(&mut self, arn: &str) {
        self.in_use.insert(arn.to_owned());
    }

    /// Changes a certificate past all rules.
    pub fn change(&mut self, arn: &str, change: impl FnOnce(&mut StoredCertificate)) {
        change(self.by_arn.get_mut(arn).expect("the certificate is there"));
    }

    pub(super) fn run(&mut self, operation: &str, arguments: &Value) -> Result<Value, Refusal> {
        match operation {
            "ImportCertificate" => self.import(arguments),
            "ListCertificates" => self.list(arguments),
            "GetCertificate" => self.found(arguments).map(|(_, found)| {
                let mut answer = json!({"Certificate": found.certificate});
                if !found.chain.is_empty() {
                    answer["CertificateChain"] = found.chain.clone().into();
                }
                answer
            }),
            "ListTagsForCertificate" => self.found(arguments).map(|(_, found)| json!({"Tags": tags_json(&found.tags)})),
            "AddTagsToCertificate" => {
                let (arn, found) = self.found(arguments)?;
                let tags = checked_tags(found.tags.clone(), arguments)?;
                self.change(&arn, |found| found.tags = tags);
                Ok(json!({}))
            }
            "DeleteCertificate" => {
                let (arn, _) = self.found(arguments)?;
                if self.in_use.contains(&arn) {
                    return Err(Refusal::new("ResourceInUseException", format!("Certificate {arn} is in use.")));
                }
                self.by_arn.remove(&arn);
                Ok(json!({}))
            }
            _ => Err(Refusal::new("UnknownOperationException", "The operation is not known.")),
        }
    }

    fn found(&self, arguments: &Value) -> Result<(String, &StoredCertificate), Refusal> {
        let arn = text(arguments, "CertificateArn").unwrap_or_default();
        let start = format!("arn:aws:acm:{REGION}:{ACCOUNT}:certificate/");
        if arn.strip_prefix(&start).is_none_or(|id| uuid::Uuid::parse_str(id).is_err()) {
            return Err(Refusal::new("ValidationException", format!("{arn} is not the ARN of a certificate.")));
        }
        match self.by_arn.get(arn) {
            Some(found) => Ok((arn.to_owned(), found)),
            None => Err(Refusal::new("ResourceNotFoundException", format!("Could not find certificate {arn}."))),
        }
    }

    fn import(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let certificate = blob(arguments, "Certificate", 32_768)?.ok_or_else(|| invalid("Certificate is missing."))?;
        let key = blob(arguments, "PrivateKey", 5_120)?.ok_or_else(|| invalid("PrivateKey is missing."))?;
        let chain = blob(arguments, "CertificateChain", 2_097_152)?.unwrap_or_default();
        let algorithm = must_fit_together(&certificate, &chain, &key)?;
        let again = match arguments.get("CertificateArn") {
            None => None,
            Some(_) => Some(self.found(arguments).map(|(arn, found)| (arn, found.clone()))?),
        };
        let Some((arn, before)) = again else {
            let tags = checked_tags(BTreeMap::new(), arguments)?;
            return Ok(json!({"CertificateArn": self.seed(StoredCertificate { certificate, chain, key, tags })}));
        };
        if !tags(arguments).is_empty() {
            return Err(invalid("You can't apply tags when you import a certificate again."));
        }
        if key_type(&before.certificate) != Some(algorithm) {
            return Err(invalid("The type and size of the key can't change when a certificate is imported again."));
        }
        let tags = if self.forgets_tags { BTreeMap::new() } else { before.tags };
        self.by_arn.insert(arn.clone(), StoredCertificate { certificate, chain, key, tags });
        Ok(json!({"CertificateArn": arn}))
    }

    fn list(&self, arguments: &Value) -> Result<Value, Refusal> {
        let asked = arguments.get("MaxItems").and_then(Value::as_u64).map_or(100, |items| items as usize);
        if !(1..=PAGE_MAX).contains(&asked) {
            return Err(invalid("MaxItems is between 1 and 1000."));
        }
        // Without a filter, only these are listed.
        let mut key_types = vec!["RSA_1024", "RSA_2048"];
        if let Some(named) = arguments.pointer("/Includes/keyTypes").and_then(Value::as_array) {
            key_types = named.iter().filter_map(Value::as_str).collect();
        }
        let summaries: Vec<Value> = self
            .by_arn
            .iter()
            .filter_map(|(arn, stored)| {
                let key_type = key_type(&stored.certificate)?;
                key_types.contains(&key_type).then(
                    || json!({"CertificateArn": arn, "Status": "ISSUED", "Type": "IMPORTED", "KeyAlgorithm": key_type}),
                )
            })
            .collect();
        let (start, page) = (page_start(arguments)?, self.page.unwrap_or(asked).min(asked));
        let mut answer = json!({"CertificateSummaryList": summaries.iter().skip(start).take(page).collect::<Vec<_>>()});
        if start + page < summaries.len() {
            answer["NextToken"] = format!("page-from-{}", start + page).into();
        }
        Ok(answer)
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal::new("ValidationException", message)
}

fn new_arn() -> String {
    format!("arn:aws:acm:{REGION}:{ACCOUNT}:certificate/{}", uuid::Uuid::new_v4())
}

/// A member that holds octets in base64, as text.
fn blob(arguments: &Value, name: &str, octets_max: usize) -> Result<Option<String>, Refusal> {
    let Some(member) = arguments.get(name) else { return Ok(None) };
    let octets = member.as_str().and_then(|text| STANDARD.decode(text).ok());
    let octets = octets.ok_or_else(|| Refusal::new("SerializationException", format!("{name} is not base64.")))?;
    if octets.is_empty() || octets.len() > octets_max {
        return Err(invalid(&format!("{name} has 1 to {octets_max} octets.")));
    }
    String::from_utf8(octets).map(Some).map_err(|_| invalid(&format!("{name} is not in PEM.")))
}

fn checked_tags(mut before: BTreeMap<String, String>, arguments: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let is_tag = |character: char| character.is_alphanumeric() || " _.:/=+-@".contains(character);
    for (key, value) in tags(arguments) {
        if key.is_empty() || key.len() > 128 || value.len() > 256 || !key.chars().chain(value.chars()).all(is_tag) {
            return Err(Refusal::new("InvalidTagException", format!("{key} is not a tag.")));
        }
        before.insert(key, value);
    }
    if before.len() > TAGS_MAX {
        return Err(Refusal::new("TooManyTagsException", "A certificate has at most 50 tags."));
    }
    Ok(before)
}

/// The certificate has to be one, within its time, of a kind that is taken; the key has to be its own; the chain has to
/// lead up from it.
fn must_fit_together(certificate: &str, chain: &str, key: &str) -> Result<&'static str, Refusal> {
    let leaf = Certificate::from_pem(certificate).map_err(|_| invalid("The certificate is not a valid one in PEM."))?;
    let now = jiff::Timestamp::now().as_second();
    if leaf.contents().not_before() > now || leaf.contents().not_after() < now {
        return Err(invalid("The certificate is not within its time of validity."));
    }
    let algorithm = key_type(certificate).ok_or_else(|| invalid("The certificate's kind of key is not supported."))?;
    let spki = leaf.contents().verifying_key().map_err(|_| invalid("The certificate's key is none."))?;
    if public_octets(algorithm, key).as_deref() != Some(spki.key_octets()) {
        return Err(invalid("The certificate and its private key do not match."));
    }
    let mut below = leaf;
    let above = x509::pem::decode_all(chain, "CERTIFICATE").map_err(|_| invalid("The chain is not in PEM."))?;
    if above.is_empty() && !chain.is_empty() {
        return Err(invalid("The chain is not in PEM."));
    }
    for der in above {
        let issuer = Certificate::from_der(der).map_err(|_| invalid("The chain holds what is no certificate."))?;
        let signs = issuer.contents().verifying_key().is_ok_and(|key| below.verify_signature(&key));
        if !signs {
            return Err(invalid("Could not validate the certificate with the certificate chain."));
        }
        below = issuer;
    }
    Ok(algorithm)
}

/// How ACM calls the kind of key of a certificate.
fn key_type(certificate: &str) -> Option<&'static str> {
    match Certificate::from_pem(certificate).ok()?.contents().key_algorithm().ok()? {
        KeyAlgorithm::Rsa2048 => Some("RSA_2048"),
        KeyAlgorithm::Rsa3072 => Some("RSA_3072"),
        KeyAlgorithm::Rsa4096 => Some("RSA_4096"),
        KeyAlgorithm::EcP256 => Some("EC_prime256v1"),
        KeyAlgorithm::EcP384 => Some("EC_secp384r1"),
        KeyAlgorithm::EcP521 => Some("EC_secp521r1"),
        KeyAlgorithm::Ed25519 => None,
    }
}

/// The public half of a private key in PEM.
fn public_octets(algorithm: &str, key: &str) -> Option<Vec<u8>> {
    let der = x509::pem::decode_one(key, &["PRIVATE KEY"]).ok()?;
    let curve = match algorithm {
        "EC_prime256v1" => &ECDSA_P256_SHA256_ASN1_SIGNING,
        "EC_secp384r1" => &ECDSA_P384_SHA384_ASN1_SIGNING,
        "EC_secp521r1" => &ECDSA_P521_SHA512_ASN1_SIGNING,
        _ => return Some(rsa::KeyPair::from_pkcs8(&der).ok()?.public_key().as_ref().to_vec()),
    };
    Some(EcdsaKeyPair::from_pkcs8(curve, &der).ok()?.public_key().as_ref().to_vec())
}
