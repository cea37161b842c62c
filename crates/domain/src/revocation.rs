//! Revocation lists and the requests of authorities: what is to be signed, besides certificates.

use crate::Time;
use x509::{
    CrlTemplate, DistinguishedName, KeyAlgorithm, KeyUsage, KeyUsages, RevokedCertificate, SignatureAlgorithm,
    build_request_info,
};

/// How long a list is valid (contract §1.8).
pub const LIST_LIFETIME_SECONDS: i64 = 7 * 24 * 60 * 60;
/// How long before its end a list is signed anew.
pub const LIST_RENEWAL_SECONDS: i64 = 4 * 24 * 60 * 60;

/// The bytes of a revocation list. Signing takes it by value.
#[derive(Debug)]
pub struct ListToBeSigned {
    bytes: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

/// Who signs a list and which number it has.
#[derive(Debug)]
pub struct ListIssuer<'a> {
    /// The name of the authority, byte for byte as in its certificate.
    pub name: &'a DistinguishedName,
    /// The subject key identifier of the authority's certificate.
    pub key_id: &'a [u8],
    /// The algorithm of the key that signs.
    pub key_algorithm: KeyAlgorithm,
    /// The number of the list; each is greater than the one before.
    pub number: u64,
}

impl ListToBeSigned {
    /// A list of these entries.
    pub fn new(issuer: &ListIssuer<'_>, entries: impl IntoIterator<Item = RevokedCertificate>, now: Time) -> Self {
        let algorithm = issuer.key_algorithm.default_signature();
        let template = CrlTemplate {
            signature_algorithm: algorithm,
            issuer_der: issuer.name.as_der(),
            authority_key_id: issuer.key_id,
            number: issuer.number,
            this_update: now.seconds(),
            next_update: now.seconds() + LIST_LIFETIME_SECONDS,
            distribution_point_urls: &[],
        };
        Self { bytes: template.to_be_signed(entries), algorithm }
    }

    /// The bytes to sign and how.
    pub fn into_bytes(self) -> (Vec<u8>, SignatureAlgorithm) {
        (self.bytes, self.algorithm)
    }
}

/// The bytes of an authority's own certification request (contract §3.5). Signing takes it by value.
#[derive(Debug)]
pub struct RequestToBeSigned {
    bytes: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl RequestToBeSigned {
    /// A request for this subject and key.
    pub fn new(subject: &DistinguishedName, spki: &[u8], key_algorithm: KeyAlgorithm) -> Self {
        let usages = KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign, KeyUsage::DigitalSignature]);
        let usages = match crate::policy::is_dropped(KeyUsage::KeyEncipherment.snake_name(), key_algorithm.family()) {
            true => usages,
            false => usages.with(KeyUsage::KeyEncipherment),
        };
        Self { bytes: build_request_info(subject, spki, usages), algorithm: key_algorithm.default_signature() }
    }

    /// The bytes to sign and how.
    pub fn into_bytes(self) -> (Vec<u8>, SignatureAlgorithm) {
        (self.bytes, self.algorithm)
    }
}
