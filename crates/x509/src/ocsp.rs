//! Online status of certificates (RFC 6960, RFC 9654): requests in `ocsp/request.rs`, answers to be signed in
//! `ocsp/answer.rs`, answers that are read and checked in `ocsp/read.rs`.
//!
//! A certificate identifier is kept as it came, octet by octet: an answer repeats it so, and its parts are compared by
//! whoever knows the issuers. What is known of a certificate is not decided here.

mod answer;
mod read;
mod request;

pub use answer::{AnswerTemplate, OcspRefusal, assemble_answer};
pub use read::{AnswerProblem, OcspAnswer};
pub use request::{
    CERTIFICATES_MAX, NONCE_OCTETS_MAX, OcspRequest, REQUEST_OCTETS_MAX, plain_certificate_id, request_in_path,
};

use crate::der::{Reader, Writer};
use crate::error::ParseError;
use crate::oid;
use crate::revocation::RevocationReason;

/// The hash function of a certificate identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentifierHash {
    /// SHA-1 (RFC 5019 §2.1.1 asks for it).
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What names a certificate: hashes of its issuer's name and key, and its serial number (RFC 6960 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CertificateId<'a> {
    /// The hash function; nothing when it is none that is known, so that no issuer can be found.
    pub hash: Option<IdentifierHash>,
    /// The hash of the issuer's name.
    pub issuer_name_hash: &'a [u8],
    /// The hash of the issuer's key.
    pub issuer_key_hash: &'a [u8],
    /// The three elements before the serial number: what names the issuer, as it came.
    pub issuer_der: &'a [u8],
    /// The contents octets of the serial number.
    pub serial_content: &'a [u8],
    /// The whole element.
    pub der: &'a [u8],
}

/// What is known of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    /// It was issued and is not revoked.
    Good,
    /// It is revoked.
    Revoked {
        /// When, in seconds since the epoch.
        at: i64,
        /// Why; nothing for `unspecified` (RFC 5280 §5.3.1).
        reason: Option<RevocationReason>,
    },
    /// It was not issued by this issuer.
    Unknown,
}

/// The status of one certificate, as an answer says it.
#[derive(Clone, Copy, Debug)]
pub struct SingleAnswer<'a> {
    /// The certificate identifier as it came.
    pub id_der: &'a [u8],
    /// Its status.
    pub status: CertificateStatus,
    /// From when on this is known to be so, in seconds since the epoch.
    pub this_update: i64,
    /// By when something newer is there, in seconds since the epoch.
    pub next_update: Option<i64>,
}

impl IdentifierHash {
    /// The contents octets of its object identifier.
    fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha1 => oid::SHA1,
            Self::Sha256 => oid::SHA256,
        }
    }

    /// How many octets a hash has.
    fn octets(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The hash of these octets.
    pub fn of(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => crate::digest::sha1(octets).to_vec(),
            Self::Sha256 => crate::digest::sha256(octets).to_vec(),
        }
    }
}

impl<'a> CertificateId<'a> {
    /// Reads a CertID that fills the input. It allocates nothing.
    pub fn read(der: &'a [u8]) -> Result<Self, ParseError> {
        const FIELD: &str = "certID";
        let mut outer = Reader::new(der);
        let mut id = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        let before = id.rest();
        let mut algorithm = id.sequence("hashAlgorithm")?;
        let identifier = algorithm.oid("hashAlgorithm")?;
        // RFC 4055 §2.1: the parameters of these hashes are NULL or absent.
        if !algorithm.is_empty() {
            algorithm.null("hashAlgorithm")?;
        }
        algorithm.finish("hashAlgorithm")?;
        let issuer_name_hash = id.octet_string("issuerNameHash")?;
        let issuer_key_hash = id.octet_string("issuerKeyHash")?;
        let issuer_der = &before[..before.len() - id.rest().len()];
        let serial_content = id.integer("serialNumber")?;
        id.finish(FIELD)?;
        let hash = [IdentifierHash::Sha1, IdentifierHash::Sha256].into_iter().find(|hash| {
            let octets = hash.octets();
            hash.oid() == identifier && issuer_name_hash.len() == octets && issuer_key_hash.len() == octets
        });
        Ok(Self { hash, issuer_name_hash, issuer_key_hash, issuer_der, serial_content, der })
    }

    /// A CertID in DER, of hashes and the contents octets of a serial number.
    pub fn encode(
        hash: IdentifierHash,
        issuer_name_hash: &[u8],
        issuer_key_hash: &[u8],
        serial_content: &[u8],
    ) -> Vec<u8> {
        let mut writer = Writer::with_capacity(128);
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.oid(hash.oid());
                writer.null();
            });
            writer.octet_string(issuer_name_hash);
            writer.octet_string(issuer_key_hash);
            writer.primitive(crate::der::tag::INTEGER, serial_content);
        });
        writer.into_bytes()
    }
}
