//! X.509 as Chancery understands it: names, the public half of keys, certification requests, certificates, revocation
//! lists, and the validation of chains (RFC 5280, RFC 2986, RFC 6125).
//!
//! Everything here is a function of its arguments: no clock, no randomness, no files, no sockets, and no private key.
//! What comes from outside is read as strict DER, and every extension that is acted on is read to its last octet.

pub mod algorithm;
pub mod build;
pub mod certificate;
pub mod chain;
pub mod crl;
pub mod csr;
pub mod der;
pub mod digest;
pub mod dns_name;
pub mod error;
pub mod extension;
pub mod general_name;
pub mod key;
pub mod name;
pub mod ocsp;
pub mod oid;
pub mod pem;
pub mod revocation;
mod rsa_weakness;
pub mod serial;
pub mod signed;
pub mod time;
pub mod uri;

pub use algorithm::{KeyAlgorithm, KeyFamily, SignatureAlgorithm};
pub use build::{CertificateTemplate, OtherExtension, RequiredFields, assemble_certificate, parse_tbs};
pub use certificate::{Certificate, Oddity, TbsCertificate};
pub use crl::{Crl, CrlEntry, CrlTemplate, ListedReason, RevokedCertificate, assemble_crl};
pub use csr::{CertificationRequest, build_request_info};
pub use dns_name::DnsName;
pub use error::{NameError, ParseError};
pub use extension::{
    AuthorityKeyIdentifier, BasicConstraints, Criticality, ExtendedKeyUsage, Extension, Extensions, KeyUsage,
    KeyUsages, NameConstraints,
};
pub use general_name::{EmailAddress, GeneralName, GeneralNames, IpAddress};
pub use key::{KeyProblem, PublicKey, VerifyingKey};
pub use name::{AttributeType, DistinguishedName};
pub use ocsp::{
    AnswerTemplate, CertificateId, CertificateStatus, IdentifierHash, OcspAnswer, OcspRefusal, OcspRequest,
    SingleAnswer, assemble_answer,
};
pub use revocation::RevocationReason;
pub use serial::SerialNumber;
pub use uri::{Uri, UriHost};

/// Lower-case hexadecimal digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        text.push(char::from(DIGITS[usize::from(octet >> 4)]));
        text.push(char::from(DIGITS[usize::from(octet & 0x0f)]));
    }
    text
}
