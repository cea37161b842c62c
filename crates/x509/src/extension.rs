//! Extensions of certificates, requests and lists (RFC 5280 §4.1.2.9, §4.2, §5.2).
//!
//! A list is read once for its structure; a value is read to its last octet when it is asked for. Each value has a type
//! of its own that is read with `decode` and written with `encode`.

mod constraints;
mod identifiers;
mod places;
mod policies;
mod usage;

pub use constraints::{BasicConstraints, EmailSubtree, NameConstraints, Subtree, UriSubtree};
pub use identifiers::AuthorityKeyIdentifier;
pub use places::{
    AccessDescription, AccessMethod, AuthorityInformationAccess, CrlDistributionPoints, DistributionPoint,
    IssuingDistributionPoint, encode_crl_urls,
};
pub use policies::{CertificatePolicies, InhibitAnyPolicy, Policy, PolicyConstraints};
pub use usage::{ExtendedKeyUsage, KeyUsage, KeyUsages, decode_extended_key_usages, encode_extended_key_usages};

use crate::der::{Reader, Span, Writer, tag};
use crate::error::{ParseError, Problem};
use crate::general_name::GeneralNames;
use crate::oid;

/// The most extensions of one certificate, request or list.
pub const EXTENSIONS_MAX: usize = 64;

/// Whether a reader that does not know an extension must refuse what carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criticality {
    /// It must refuse.
    Critical,
    /// It may go on.
    NonCritical,
}

/// One extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The contents octets of its object identifier.
    pub oid: &'a [u8],
    /// Whether it is critical.
    pub critical: bool,
    /// The contents of extnValue.
    pub value: &'a [u8],
}

/// The extensions of a certificate, a request or a list; no two have the same identifier.
#[derive(Clone, Copy)]
pub struct Extensions<'a> {
    der: &'a [u8],
    entries: &'a [ExtensionSpan],
}

/// Where an extension is in the octets that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct ExtensionSpan {
    oid: Span,
    critical: bool,
    value: Span,
}

/// An extension list as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExtensionList {
    pub(crate) entries: Vec<ExtensionSpan>,
    /// Whether a `critical FALSE` is written out, which DER does not allow and many have done.
    pub(crate) writes_default: bool,
}

/// The extensions that this crate has a type for and that chain validation acts on. All others are refused when they are
/// critical.
const KNOWN: [&[u8]; 12] = [
    oid::SUBJECT_KEY_IDENTIFIER,
    oid::KEY_USAGE,
    oid::SUBJECT_ALT_NAME,
    oid::BASIC_CONSTRAINTS,
    oid::NAME_CONSTRAINTS,
    oid::CRL_DISTRIBUTION_POINTS,
    oid::CERTIFICATE_POLICIES,
    oid::AUTHORITY_KEY_IDENTIFIER,
    oid::POLICY_CONSTRAINTS,
    oid::EXTENDED_KEY_USAGE,
    oid::INHIBIT_ANY_POLICY,
    oid::AUTHORITY_INFORMATION_ACCESS,
];

impl<'a> Extensions<'a> {
    pub(crate) fn new(der: &'a [u8], list: &'a ExtensionList) -> Self {
        Self { der, entries: &list.entries }
    }

    /// Each extension, in the order of the encoding.
    pub fn iter(self) -> impl Iterator<Item = Extension<'a>> {
        self.entries.iter().map(move |entry| Extension {
            oid: entry.oid.of(self.der),
            critical: entry.critical,
            value: entry.value.of(self.der),
        })
    }

    /// How many extensions there are.
    pub fn len(self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.entries.is_empty()
    }

    /// The extension with this object identifier.
    pub fn find(self, oid: &[u8]) -> Option<Extension<'a>> {
        self.iter().find(|extension| extension.oid == oid)
    }

    /// The object identifier of the first critical extension that a reader of certificates does not know: one that this
    /// crate has no type for.
    pub fn unknown_critical(self) -> Option<&'a [u8]> {
        self.critical_besides(&KNOWN)
    }

    /// The object identifier of the first critical extension that is not among these.
    pub fn critical_besides(self, known: &[&[u8]]) -> Option<&'a [u8]> {
        self.iter().find(|extension| extension.critical && !known.contains(&extension.oid)).map(|found| found.oid)
    }

    /// basicConstraints.
    pub fn basic_constraints(self) -> Result<Option<BasicConstraints>, ParseError> {
        self.value(oid::BASIC_CONSTRAINTS, BasicConstraints::decode)
    }

    /// keyUsage.
    pub fn key_usages(self) -> Result<Option<KeyUsages>, ParseError> {
        self.value(oid::KEY_USAGE, KeyUsages::decode)
    }

    /// extKeyUsage, in the order of the encoding.
    pub fn extended_key_usages(self) -> Result<Option<Vec<ExtendedKeyUsage>>, ParseError> {
        self.value(oid::EXTENDED_KEY_USAGE, decode_extended_key_usages)
    }

    /// subjectAltName.
    pub fn subject_alt_names(self) -> Result<Option<GeneralNames>, ParseError> {
        self.value(oid::SUBJECT_ALT_NAME, decode_alt_names)
    }

    /// subjectKeyIdentifier.
    pub fn subject_key_id(self) -> Result<Option<&'a [u8]>, ParseError> {
        self.value(oid::SUBJECT_KEY_IDENTIFIER, identifiers::decode_subject_key_id)
    }

    /// authorityKeyIdentifier.
    pub fn authority_key_id(self) -> Result<Option<AuthorityKeyIdentifier>, ParseError> {
        self.value(oid::AUTHORITY_KEY_IDENTIFIER, AuthorityKeyIdentifier::decode)
    }

    /// nameConstraints.
    pub fn name_constraints(self) -> Result<Option<NameConstraints>, ParseError> {
        self.value(oid::NAME_CONSTRAINTS, NameConstraints::decode)
    }

    /// cRLDistributionPoints.
    pub fn crl_distribution_points(self) -> Result<Option<CrlDistributionPoints>, ParseError> {
        self.value(oid::CRL_DISTRIBUTION_POINTS, CrlDistributionPoints::decode)
    }

    /// authorityInfoAccess.
    pub fn authority_information_access(self) -> Result<Option<AuthorityInformationAccess>, ParseError> {
        self.value(oid::AUTHORITY_INFORMATION_ACCESS, AuthorityInformationAccess::decode)
    }

    /// certificatePolicies.
    pub fn certificate_policies(self) -> Result<Option<CertificatePolicies>, ParseError> {
        self.value(oid::CERTIFICATE_POLICIES, CertificatePolicies::decode)
    }

    /// policyConstraints.
    pub fn policy_constraints(self) -> Result<Option<PolicyConstraints>, ParseError> {
        self.value(oid::POLICY_CONSTRAINTS, PolicyConstraints::decode)
    }

    /// inhibitAnyPolicy.
    pub fn inhibit_any_policy(self) -> Result<Option<InhibitAnyPolicy>, ParseError> {
        self.value(oid::INHIBIT_ANY_POLICY, InhibitAnyPolicy::decode)
    }

    pub(crate) fn value<T>(
        self,
        oid: &[u8],
        decode: impl FnOnce(&'a [u8]) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ParseError> {
        self.find(oid).map(|extension| decode(extension.value)).transpose()
    }
}

impl ExtensionList {
    /// Reads the contents of a SEQUENCE OF Extension.
    pub(crate) fn read(mut reader: Reader<'_>, der: &[u8], field: &'static str) -> Result<Self, ParseError> {
        let mut list = Self { entries: Vec::with_capacity(12), writes_default: false };
        while !reader.is_empty() {
            let mut extension = reader.sequence(field)?;
            let oid = extension.tagged(tag::OID, field)?;
            if !oid::is_valid(oid.content) {
                return Err(ParseError::invalid(field, "the object identifier is malformed").at(oid.offset));
            }
            if list.entries.iter().any(|entry| entry.oid.of(der) == oid.content) {
                let words = format!("the extension {} is there twice", oid::to_dotted(oid.content));
                return Err(ParseError::invalid(field, words).at(oid.offset));
            }
            if list.entries.len() == EXTENSIONS_MAX {
                return Err(ParseError::invalid(field, "there are too many extensions").at(oid.offset));
            }
            let critical = match extension.peek() {
                Some(tag::BOOLEAN) => {
                    let critical = extension.boolean(field)?;
                    list.writes_default |= !critical;
                    critical
                }
                _ => false,
            };
            let value = extension.tagged(tag::OCTET_STRING, field)?;
            extension.finish(field)?;
            list.entries.push(ExtensionSpan { oid: oid.content_span(), critical, value: value.content_span() });
        }
        Ok(list)
    }
}

/// Writes one extension.
pub fn encode_extension(writer: &mut Writer, oid: &[u8], criticality: Criticality, value: impl FnOnce(&mut Writer)) {
    writer.sequence(|writer| {
        writer.oid(oid);
        match criticality {
            Criticality::Critical => writer.boolean(true),
            Criticality::NonCritical => {}
        }
        writer.nested(tag::OCTET_STRING, value);
    });
}

fn decode_alt_names(value: &[u8]) -> Result<GeneralNames, ParseError> {
    let field = "subjectAltName";
    let mut reader = Reader::new(value);
    let names = reader.sequence(field)?;
    reader.finish(field)?;
    GeneralNames::decode(names, field)
}

/// Reads the one SEQUENCE that fills an extension value.
fn whole_sequence<'a>(value: &'a [u8], field: &'static str) -> Result<Reader<'a>, ParseError> {
    let mut reader = Reader::new(value);
    let contents = reader.sequence(field)?;
    reader.finish(field)?;
    Ok(contents)
}

/// A BOOLEAN under an implicit context tag whose default is FALSE: when it is there it is TRUE.
fn implicit_true(reader: &mut Reader<'_>, number: u8, field: &'static str) -> Result<bool, ParseError> {
    match reader.optional(tag::context(number), field)? {
        None => Ok(false),
        Some(element) if element.content == [0xff] => Ok(true),
        Some(element) => Err(ParseError::invalid(field, "this value can only be TRUE").at(element.offset)),
    }
}

/// An INTEGER under an implicit context tag, from 0 to `u32::MAX`.
fn implicit_u32(reader: &mut Reader<'_>, number: u8, field: &'static str) -> Result<Option<u32>, ParseError> {
    let Some(element) = reader.optional(tag::context(number), field)? else {
        return Ok(None);
    };
    let mut universal = vec![tag::INTEGER];
    let length = u8::try_from(element.content.len()).ok().filter(|length| *length <= 5);
    universal.push(length.ok_or_else(|| ParseError::new(field, Problem::BadLength).at(element.offset))?);
    universal.extend_from_slice(element.content);
    Reader::new(&universal).unsigned_u32(field).map(Some)
}
