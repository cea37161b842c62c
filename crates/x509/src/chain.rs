//! Validation of certificates against trusted ones, and of chains that are given whole (RFC 5280 §6).
//!
//! Pure: the time is an argument, and nothing is fetched. The work has an upper bound whatever is given, and running
//! out of it is a verdict like any other. Issuer and subject are compared octet by octet. Not here: policy mapping, OCSP,
//! delta and indirect revocation lists, and a list of public suffixes.

pub mod constraints;
mod exact;
mod facts;
mod name_match;
mod path;
mod policies;
mod revocation;
mod rule;
mod search;
mod web;

pub use constraints::{COMPARISONS_MAX, ConstraintViolation, ViolationKind, check_names};
pub use exact::{ExactRefusal, build_exact};
pub use policies::{PolicyFacts, check_policies};
pub use rule::Rule;

use std::fmt;

use crate::certificate::Certificate;
use crate::crl::Crl;
use crate::dns_name::DnsName;
use crate::extension::{ExtendedKeyUsage, KeyUsages};
use crate::general_name::{EmailAddress, GeneralName, IpAddress};

/// The most signatures that one validation checks.
pub const SIGNATURES_MAX: u32 = 100;
/// The most intermediate certificates of a path, not counting the self-issued, unless options say otherwise.
pub const DEPTH_MAX: u32 = 8;

/// What a certificate is validated for and against.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The certificates that are trusted. They need not be self-signed; their own rules and validity are held too.
    pub anchors: &'a [Certificate],
    /// Certificates that may be part of a path.
    pub intermediates: &'a [Certificate],
    /// Revocation lists. An issuer for whom there is none is not asked for one.
    pub crls: &'a [Crl],
    /// The time, in seconds since the epoch.
    pub time: i64,
    /// What the certificate is used for.
    pub purpose: Purpose,
    /// Uses that the certificate's key usage must hold, if it has one.
    pub key_usages: KeyUsages,
    /// The names for each of which the certificate must be valid.
    pub names: &'a [ExpectedName],
    /// The most intermediate certificates, not counting the self-issued; [`DEPTH_MAX`] when absent.
    pub depth_max: Option<u32>,
}

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing in particular: extended key usages are not looked at.
    Any,
    /// A TLS server.
    ServerAuth,
    /// A TLS client.
    ClientAuth,
    /// Signing of code.
    CodeSigning,
    /// Signing or encryption of mail.
    EmailProtection,
    /// Signing of time stamps.
    TimeStamping,
    /// Signing of OCSP responses.
    OcspSigning,
    /// A TLS server on the public web: also the rules of the CA/Browser Forum that can be seen without a list of public
    /// suffixes.
    WebPki,
}

/// A name that a certificate is expected to be valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedName {
    /// A host.
    Dns(DnsName),
    /// An address.
    Ip(IpAddress),
    /// A mailbox.
    Email(EmailAddress),
}

/// Which of the given certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The certificate that is validated.
    Leaf,
    /// The one with this index among the intermediates.
    Intermediate(usize),
    /// The one with this index among the trusted.
    Anchor(usize),
}

/// The outcome of a validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether there is a path that keeps all rules.
    pub valid: bool,
    /// That path, from the certificate to a trusted one; empty when there is none.
    pub path: Vec<Place>,
    /// Every certificate that was tried and refused, with the first rule that it broke, in the order of the search. There
    /// may be some although a path was found.
    pub refused: Vec<Refused>,
}

/// A certificate that could not be part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which certificate.
    pub certificate: Place,
    /// The rule that it broke.
    pub rule: Rule,
    /// How it broke it, in words about the certificate ("it expired at …").
    pub message: String,
}

/// Looks for a path from a certificate to a trusted one that keeps all rules.
pub fn verify(leaf: &Certificate, options: &Options<'_>) -> Verdict {
    search::run(leaf, options)
}

impl<'a> Options<'a> {
    /// Validation at a time against these trusted certificates, for nothing in particular.
    pub fn new(anchors: &'a [Certificate], time: i64) -> Self {
        Self {
            anchors,
            intermediates: &[],
            crls: &[],
            time,
            purpose: Purpose::Any,
            key_usages: KeyUsages::NONE,
            names: &[],
            depth_max: None,
        }
    }
}

impl Purpose {
    fn extended_key_usage(self) -> Option<ExtendedKeyUsage> {
        Some(match self {
            Self::Any => return None,
            Self::ServerAuth | Self::WebPki => ExtendedKeyUsage::ServerAuth,
            Self::ClientAuth => ExtendedKeyUsage::ClientAuth,
            Self::CodeSigning => ExtendedKeyUsage::CodeSigning,
            Self::EmailProtection => ExtendedKeyUsage::EmailProtection,
            Self::TimeStamping => ExtendedKeyUsage::TimeStamping,
            Self::OcspSigning => ExtendedKeyUsage::OcspSigning,
        })
    }
}

impl ExpectedName {
    /// Whether a certificate with this alternative name is valid for the name (RFC 6125 §6.4).
    pub fn is_met_by(&self, name: &GeneralName) -> bool {
        match (self, name) {
            (Self::Dns(expected), GeneralName::Dns(found)) if found.is_wildcard() => {
                // A wildcard stands for exactly one label.
                let parent = expected.as_str().split_once('.').map(|(_, parent)| parent);
                expected == found || (!expected.is_wildcard() && parent == Some(found.without_wildcard()))
            }
            (Self::Dns(expected), GeneralName::Dns(found)) => expected == found,
            (Self::Ip(expected), GeneralName::Ip(found)) => expected == found,
            (Self::Email(expected), GeneralName::Email(found)) => expected == found,
            (Self::Dns(_) | Self::Ip(_) | Self::Email(_), _) => false,
        }
    }
}

impl fmt::Display for ExpectedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(formatter),
            Self::Ip(address) => address.fmt(formatter),
            Self::Email(address) => address.fmt(formatter),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = match self.certificate {
            Place::Leaf => "the certificate".to_owned(),
            Place::Intermediate(index) => format!("intermediate certificate {}", index + 1),
            Place::Anchor(index) => format!("trusted certificate {}", index + 1),
        };
        write!(formatter, "{which}: {} [{}]", self.message, self.rule)
    }
}
