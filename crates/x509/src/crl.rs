//! Certificate revocation lists (RFC 5280 §5): writing version 2, reading any.
//!
//! A list is written from an iterator and read through one: neither side holds a million entries as objects.

use std::fmt;

use crate::algorithm::SignatureAlgorithm;
use crate::der::{Element, Reader, Span, Writer, tag};
use crate::error::ParseError;
use crate::extension::{
    AuthorityKeyIdentifier, Criticality, ExtensionList, Extensions, IssuingDistributionPoint, encode_crl_urls,
    encode_extension,
};
use crate::key::VerifyingKey;
use crate::name::DistinguishedName;
use crate::revocation::RevocationReason;
use crate::serial::SerialNumber;
use crate::signed::{self, Signed};
use crate::uri::Uri;
use crate::{oid, pem};

/// The fields of a list that is to be signed.
#[derive(Clone, Debug)]
pub struct CrlTemplate<'a> {
    /// The algorithm that it will be signed with.
    pub signature_algorithm: SignatureAlgorithm,
    /// The DER of the issuer: octet by octet the subject of the issuer's certificate.
    pub issuer_der: &'a [u8],
    /// When the list was made, in seconds since the epoch.
    pub this_update: i64,
    /// By when the next one is there, in seconds since the epoch.
    pub next_update: i64,
    /// The key identifier of the issuer, as it is in the issuer's certificate.
    pub authority_key_id: &'a [u8],
    /// cRLNumber.
    pub number: u64,
    /// The URIs of a critical issuingDistributionPoint, for a list that covers a part of the certificates; absent when
    /// empty.
    pub distribution_point_urls: &'a [Uri],
    /// The number of the complete list that this one says the changes since; absent for a complete list.
    pub base_number: Option<u64>,
    /// Where the list of the changes since a complete one is; absent when empty, and always on such a list itself.
    pub freshest_urls: &'a [Uri],
}

/// A certificate on a list that is to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Its serial number.
    pub serial_number: SerialNumber,
    /// When it was revoked, in seconds since the epoch.
    pub revoked_at: i64,
    /// Why.
    pub reason: ListedReason,
}

/// Why a certificate is on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedReason {
    /// It is revoked.
    Revoked(RevocationReason),
    /// It was on hold and is good again: `removeFromCRL`, on lists of changes only (RFC 5280 §5.3.1).
    Removed,
}

impl ListedReason {
    /// The CRLReason.
    pub const fn code(self) -> u8 {
        match self {
            Self::Revoked(reason) => reason.code(),
            Self::Removed => 8,
        }
    }
}

/// A list that was read.
#[derive(Clone)]
pub struct Crl {
    der: Vec<u8>,
    signed: Signed,
    inner_algorithm: Span,
    version: u8,
    issuer: DistinguishedName,
    this_update: i64,
    next_update: Option<i64>,
    revoked: Option<Span>,
    extensions: ExtensionList,
}

/// A certificate on a list that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlEntry<'a> {
    /// The contents octets of its serial number.
    pub serial_content: &'a [u8],
    /// When it was revoked, in seconds since the epoch.
    pub revoked_at: i64,
    /// The CRLReason, if one is written.
    pub reason_code: Option<u8>,
    /// Whether an extension that is not known is critical, or the entry is about a certificate of another issuer.
    pub has_unknown_critical: bool,
}

/// The extensions of a list that are acted on.
const KNOWN: [&[u8]; 3] = [oid::AUTHORITY_KEY_IDENTIFIER, oid::CRL_NUMBER, oid::ISSUING_DISTRIBUTION_POINT];

impl CrlTemplate<'_> {
    /// The TBSCertList with these certificates, in their order.
    pub fn to_be_signed(&self, revoked: impl IntoIterator<Item = RevokedCertificate>) -> Vec<u8> {
        let mut revoked = revoked.into_iter().peekable();
        let mut writer = Writer::with_capacity(512 + 48 * revoked.size_hint().0);
        writer.sequence(|writer| {
            writer.unsigned_u64(1);
            signed::encode_algorithm(self.signature_algorithm, writer);
            writer.raw(self.issuer_der);
            writer.time(self.this_update);
            writer.time(self.next_update);
            // RFC 5280 §5.1.2.6: the list is absent when it is empty.
            if revoked.peek().is_some() {
                writer.sequence(|writer| revoked.for_each(|certificate| certificate.encode(writer)));
            }
            writer.context(0, |writer| writer.sequence(|writer| self.encode_extensions(writer)));
        });
        writer.into_bytes()
    }

    fn encode_extensions(&self, writer: &mut Writer) {
        encode_extension(writer, oid::AUTHORITY_KEY_IDENTIFIER, Criticality::NonCritical, |writer| {
            AuthorityKeyIdentifier::encode_key_id(self.authority_key_id, writer);
        });
        encode_extension(writer, oid::CRL_NUMBER, Criticality::NonCritical, |writer| writer.unsigned_u64(self.number));
        if let Some(base) = self.base_number {
            encode_extension(writer, oid::DELTA_CRL_INDICATOR, Criticality::Critical, |writer| {
                writer.unsigned_u64(base);
            });
        }
        if !self.distribution_point_urls.is_empty() {
            encode_extension(writer, oid::ISSUING_DISTRIBUTION_POINT, Criticality::Critical, |writer| {
                IssuingDistributionPoint::encode_urls(self.distribution_point_urls, writer);
            });
        }
        if !self.freshest_urls.is_empty() {
            encode_extension(writer, oid::FRESHEST_CRL, Criticality::NonCritical, |writer| {
                encode_crl_urls(self.freshest_urls, writer);
            });
        }
    }
}

impl RevokedCertificate {
    fn encode(&self, writer: &mut Writer) {
        writer.sequence(|writer| {
            writer.unsigned(self.serial_number.octets());
            writer.time(self.revoked_at);
            // RFC 5280 §5.3.1: the reason unspecified is left out.
            if self.reason != ListedReason::Revoked(RevocationReason::Unspecified) {
                writer.sequence(|writer| {
                    encode_extension(writer, oid::REASON_CODE, Criticality::NonCritical, |writer| {
                        writer.primitive(tag::ENUMERATED, &[self.reason.code()]);
                    });
                });
            }
        });
    }
}

/// Puts a TBSCertList and its signature together.
pub fn assemble_crl(tbs: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    signed::assemble(tbs, algorithm, signature)
}

impl Crl {
    /// Reads a list that fills the input. Every entry is looked at once.
    pub fn from_der(der: Vec<u8>) -> Result<Self, ParseError> {
        let (signed, contents) = Signed::read(&der, "certificateList")?;
        let mut reader = contents.open("tbsCertList")?;
        let version = read_version(&mut reader)?;
        let inner_algorithm = reader.tagged(tag::SEQUENCE, "signature")?.span();
        let issuer = DistinguishedName::from_element(&reader.tagged(tag::SEQUENCE, "issuer")?, "issuer")?;
        let this_update = reader.time("thisUpdate")?;
        let next_update = match reader.peek() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => Some(reader.time("nextUpdate")?),
            _ => None,
        };
        let revoked = reader.optional(tag::SEQUENCE, "revokedCertificates")?;
        let extensions = read_extensions(&mut reader, &der)?;
        reader.finish("tbsCertList")?;
        if let Some(revoked) = &revoked {
            check_entries(revoked)?;
        }
        if version == 1 && !extensions.entries.is_empty() {
            return Err(ParseError::invalid("tbsCertList", "it has extensions and is not of version 2"));
        }
        let revoked = revoked.map(|revoked| revoked.content_span());
        Ok(Self { signed, inner_algorithm, version, issuer, this_update, next_update, revoked, extensions, der })
    }

    /// Reads the one list in a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, ParseError> {
        Self::from_der(pem::decode_one(text, &[pem::CRL])?)
    }

    /// The octets.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The version: 1 or 2.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The issuer.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// When the list was made, in seconds since the epoch.
    pub fn this_update(&self) -> i64 {
        self.this_update
    }

    /// By when the next one is there, in seconds since the epoch.
    pub fn next_update(&self) -> Option<i64> {
        self.next_update
    }

    /// The signature algorithm, if it is one that is known.
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        self.signed.algorithm(&self.der)
    }

    /// The extensions of the list.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions::new(&self.der, &self.extensions)
    }

    /// The object identifier of the first critical extension of the list that is not known, if there is one.
    pub fn unknown_critical(&self) -> Option<&[u8]> {
        self.extensions().critical_besides(&KNOWN)
    }

    /// cRLNumber: the number, big-endian, without leading zeros, at most 20 octets.
    pub fn number(&self) -> Result<Option<&[u8]>, ParseError> {
        self.extensions().value(oid::CRL_NUMBER, |value| read_number(value, "cRLNumber"))
    }

    /// deltaCRLIndicator: the number of the complete list that this one says the changes since, in the same form.
    pub fn base_number(&self) -> Result<Option<&[u8]>, ParseError> {
        self.extensions().value(oid::DELTA_CRL_INDICATOR, |value| read_number(value, "deltaCRLIndicator"))
    }

    /// issuingDistributionPoint.
    pub fn issuing_distribution_point(&self) -> Result<Option<IssuingDistributionPoint>, ParseError> {
        self.extensions().value(oid::ISSUING_DISTRIBUTION_POINT, IssuingDistributionPoint::decode)
    }

    /// The certificates on the list, in its order.
    pub fn entries(&self) -> impl Iterator<Item = CrlEntry<'_>> {
        let mut reader = Reader::new(self.revoked.map_or(&[], |revoked| revoked.of(&self.der)));
        // Each entry was read without an error when the list was.
        std::iter::from_fn(move || if reader.is_empty() { None } else { read_entry(&mut reader).ok() })
    }

    /// The entry about the certificate with these contents octets of its serial number.
    pub fn find(&self, serial_content: &[u8]) -> Option<CrlEntry<'_>> {
        self.entries().find(|entry| entry.serial_content == serial_content)
    }

    /// Whether this key made the signature; never so when the two algorithm fields differ or name one that is not known.
    pub fn verify_signature(&self, key: &impl AsRef<VerifyingKey>) -> bool {
        self.signed.algorithm.of(&self.der) == self.inner_algorithm.of(&self.der)
            && self.signed.verify(&self.der, key.as_ref())
    }
}

fn read_number<'a>(value: &'a [u8], field: &'static str) -> Result<&'a [u8], ParseError> {
    let mut reader = Reader::new(value);
    let number = reader.unsigned(field)?;
    reader.finish(field)?;
    if number.len() > 20 {
        return Err(ParseError::invalid(field, "it has more than 20 octets"));
    }
    Ok(number)
}

fn read_version(reader: &mut Reader<'_>) -> Result<u8, ParseError> {
    match reader.peek() {
        Some(tag::INTEGER) if reader.unsigned("version")? == [1] => Ok(2),
        Some(tag::INTEGER) => Err(ParseError::invalid("version", "the version of a list is 2 when it is written")),
        _ => Ok(1),
    }
}

fn read_extensions(reader: &mut Reader<'_>, der: &[u8]) -> Result<ExtensionList, ParseError> {
    let Some(element) = reader.optional(tag::context_constructed(0), "crlExtensions")? else {
        return Ok(ExtensionList::default());
    };
    let mut explicit = element.open("crlExtensions")?;
    let list = explicit.sequence("crlExtensions")?;
    explicit.finish("crlExtensions")?;
    ExtensionList::read(list, der, "crlExtensions")
}

fn check_entries(revoked: &Element<'_>) -> Result<(), ParseError> {
    let mut reader = revoked.open("revokedCertificates")?;
    if reader.is_empty() {
        return Err(ParseError::invalid("revokedCertificates", "the list is there and empty").at(revoked.offset));
    }
    while !reader.is_empty() {
        read_entry(&mut reader)?;
    }
    Ok(())
}

fn read_entry<'a>(reader: &mut Reader<'a>) -> Result<CrlEntry<'a>, ParseError> {
    let field = "revokedCertificates";
    let mut entry = reader.sequence(field)?;
    let serial_content = entry.integer(field)?;
    let revoked_at = entry.time(field)?;
    let (mut reason_code, mut has_unknown_critical) = (None, false);
    if !entry.is_empty() {
        let mut extensions = entry.sequence(field)?;
        while !extensions.is_empty() {
            let mut extension = extensions.sequence(field)?;
            let identifier = extension.oid(field)?;
            let critical = extension.peek() == Some(tag::BOOLEAN) && extension.boolean(field)?;
            let value = extension.octet_string(field)?;
            extension.finish(field)?;
            match identifier {
                oid::REASON_CODE if reason_code.is_none() => reason_code = Some(read_reason(value)?),
                oid::REASON_CODE => return Err(entry.error(field, crate::error::Problem::TrailingData)),
                _ => has_unknown_critical |= critical,
            }
        }
    }
    entry.finish(field)?;
    Ok(CrlEntry { serial_content, revoked_at, reason_code, has_unknown_critical })
}

fn read_reason(value: &[u8]) -> Result<u8, ParseError> {
    match value {
        [tag::ENUMERATED, 1, code] if *code <= 10 && *code != 7 => Ok(*code),
        _ => Err(ParseError::invalid("reasonCode", "it is none of the codes of RFC 5280")),
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Crl(issued by {}, at {})", self.issuer, self.this_update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list whose parts between issuer and signature are these.
    fn read(version: &[u8], rest: &[u8]) -> Result<Crl, ParseError> {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.raw(version);
            signed::encode_algorithm(SignatureAlgorithm::Ed25519, writer);
            writer.raw(&[0x30, 0]);
            writer.raw(b"\x17\x0d240101000000Z");
            writer.raw(rest);
        });
        Crl::from_der(assemble_crl(&writer.into_bytes(), SignatureAlgorithm::Ed25519, &[0; 64]))
    }

    /// One entry with these octets after its date.
    fn with_entry(rest: &[u8]) -> Result<Crl, ParseError> {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.raw(&[2, 1, 7]);
                writer.raw(b"\x17\x0d240101000000Z");
                writer.raw(rest);
            });
        });
        read(&[2, 1, 1], &writer.into_bytes())
    }

    const REASON: [u8; 12] = [0x30, 10, 6, 3, 0x55, 0x1d, 21, 4, 3, 0x0a, 1, 1];

    #[test]
    fn entries_are_read_with_their_reason() {
        let plain = with_entry(&[]).unwrap();
        let entry = plain.find(&[7]).unwrap();
        assert_eq!((entry.reason_code, entry.has_unknown_critical), (None, false));
        let reason = with_entry(&[&[0x30, 12][..], &REASON].concat()).unwrap();
        assert_eq!(reason.find(&[7]).unwrap().reason_code, Some(1));
        let critical = with_entry(&[0x30, 10, 0x30, 8, 6, 1, 0x2a, 1, 1, 0xff, 4, 0]).unwrap();
        assert!(critical.find(&[7]).unwrap().has_unknown_critical);
        assert_eq!(critical.find(&[8]), None);
        assert_eq!(critical.next_update(), None);
    }

    #[test]
    fn malformed_lists_are_refused() {
        let mut wrong_reason = REASON;
        wrong_reason[11] = 7;
        let entries = [
            [&[0x30, 12][..], &wrong_reason].concat(),
            [&[0x30, 24][..], &REASON, &REASON].concat(),
            [&[0x30, 12][..], &REASON, &[5, 0]].concat(),
            vec![5, 0],
        ];
        for entry in entries {
            assert!(with_entry(&entry).is_err(), "{entry:02x?}");
        }
        assert!(read(&[2, 1, 1], &[]).is_ok());
        assert!(read(&[], &[]).is_ok_and(|list| list.version() == 1));
        let number = [0xa0, 14, 0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 20, 4, 3, 2, 1, 9];
        assert_eq!(read(&[2, 1, 1], &number).unwrap().number(), Ok(Some(&[9][..])));
        let bad: [(&[u8], &[u8]); 5] =
            [(&[], &number), (&[2, 1, 0], &[]), (&[2, 1, 2], &[]), (&[2, 1, 1], &[0x30, 0]), (&[2, 1, 1], &[5, 0])];
        for (version, rest) in bad {
            assert!(read(version, rest).is_err(), "{version:02x?} {rest:02x?}");
        }
    }
}
