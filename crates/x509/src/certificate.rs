//! Certificates (RFC 5280 §4.1): the octets, and what they say.
//!
//! Reading is strict about structure. What is well-formed but not as RFC 5280 asks for is an [`Oddity`]: certificates of
//! others are full of them, and the caller decides. Not here: whether a certificate is to be trusted.

use std::fmt;
use std::ops::Deref;

use crate::algorithm::{KeyAlgorithm, SignatureAlgorithm};
use crate::der::{Element, Reader, Span, tag};
use crate::error::ParseError;
use crate::extension::{ExtensionList, Extensions};
use crate::key::{self, KeyProblem, PublicKey, VerifyingKey};
use crate::name::DistinguishedName;
use crate::serial::{SERIAL_OCTETS_MAX, SerialNumber};
use crate::signed::{self, Signed};
use crate::{digest, pem, time};

/// The longest certificate that is read, in octets.
pub const CERTIFICATE_OCTETS_MAX: usize = 256 * 1024;

/// A certificate. What it says is read through [`TbsCertificate`], to which it dereferences.
#[derive(Clone)]
pub struct Certificate {
    contents: TbsCertificate,
    signed: Signed,
}

/// What a certificate says, signed or yet to be signed.
#[derive(Clone)]
pub struct TbsCertificate {
    /// All octets that were read: of the certificate, or of the contents alone.
    der: Vec<u8>,
    contents: Span,
    version: u8,
    serial: Span,
    signature_algorithm: Span,
    issuer: DistinguishedName,
    not_before: i64,
    not_after: i64,
    subject: DistinguishedName,
    spki: Span,
    extensions: ExtensionList,
    oddities: u16,
}

/// Something that is well-formed but not as RFC 5280 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Oddity {
    /// The version is not 3 (§4.1.2.1).
    OldVersion,
    /// The serial number is zero (§4.1.2.2).
    SerialZero,
    /// The serial number is negative (§4.1.2.2).
    SerialNegative,
    /// The serial number has more than 20 octets (§4.1.2.2).
    SerialTooLong,
    /// The two signature algorithm fields differ (§4.1.1.2).
    AlgorithmMismatch,
    /// A time has a fraction, or is of the type for other years (§4.1.2.5).
    TimeForm,
    /// It ends before it begins (§4.1.2.5).
    ValidityReversed,
    /// The issuer has no attribute (§4.1.2.4).
    EmptyIssuer,
    /// It has unique identifiers (§4.1.2.8).
    UniqueIdentifiers,
    /// It has extensions and is not of version 3 (§4.1.2.9).
    ExtensionsBeforeVersion3,
    /// A default value is written out (X.690 §11.5).
    DefaultWritten,
}

impl Certificate {
    /// Reads a certificate that fills the input.
    pub fn from_der(der: Vec<u8>) -> Result<Self, ParseError> {
        if der.len() > CERTIFICATE_OCTETS_MAX {
            return Err(ParseError::invalid("certificate", "it is longer than 256 KiB"));
        }
        let (signed, contents) = Signed::read(&der, "certificate")?;
        let mut contents = TbsCertificate::read(&der, &contents)?;
        if signed.algorithm.of(&der) != contents.signature_algorithm.of(&der) {
            contents.note(Oddity::AlgorithmMismatch);
        }
        contents.der = der;
        Ok(Self { contents, signed })
    }

    /// Reads a certificate that fills the input and has no [`Oddity`].
    pub fn from_der_strict(der: Vec<u8>) -> Result<Self, ParseError> {
        let certificate = Self::from_der(der)?;
        certificate.refuse_oddities()?;
        Ok(certificate)
    }

    /// Reads the one certificate in a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, ParseError> {
        Self::from_der(pem::decode_one(text, &[pem::CERTIFICATE])?)
    }

    /// The octets.
    pub fn as_der(&self) -> &[u8] {
        &self.contents.der
    }

    /// The octets, without the rest.
    pub fn into_der(self) -> Vec<u8> {
        self.contents.der
    }

    /// The PEM text, without a last newline.
    pub fn to_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, self.as_der())
    }

    /// What it says.
    pub fn contents(&self) -> &TbsCertificate {
        &self.contents
    }

    /// The contents of the signature's BIT STRING.
    pub fn signature(&self) -> &[u8] {
        self.signed.signature.of(self.as_der())
    }

    /// Whether this key made the signature; never so when the two algorithm fields differ or name one that is not known.
    pub fn verify_signature(&self, key: &impl AsRef<VerifyingKey>) -> bool {
        !self.has(Oddity::AlgorithmMismatch) && self.signed.verify(self.as_der(), key.as_ref())
    }

    /// The SHA-256 fingerprint.
    pub fn sha256(&self) -> [u8; 32] {
        digest::sha256(self.as_der())
    }

    /// The SHA-1 fingerprint.
    pub fn sha1(&self) -> [u8; 20] {
        digest::sha1(self.as_der())
    }
}

impl TbsCertificate {
    /// Reads contents that fill the input: what is about to be signed.
    pub fn from_der(der: Vec<u8>) -> Result<Self, ParseError> {
        let mut reader = Reader::new(&der);
        let element = reader.tagged(tag::SEQUENCE, "tbsCertificate")?;
        reader.finish("tbsCertificate")?;
        let mut contents = Self::read(&der, &element)?;
        contents.der = der;
        Ok(contents)
    }

    /// The octets that are signed.
    pub fn tbs_der(&self) -> &[u8] {
        self.contents.of(&self.der)
    }

    /// The version: 1, 2 or 3.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The serial number, or which [`Oddity`] makes it none.
    pub fn serial_number(&self) -> Result<SerialNumber, ParseError> {
        SerialNumber::from_integer(self.serial_content())
            .ok_or_else(|| ParseError::invalid("serialNumber", "it is not a positive number of at most 20 octets"))
    }

    /// The contents octets of the serial number, whatever it is.
    pub fn serial_content(&self) -> &[u8] {
        self.serial.of(&self.der)
    }

    /// The signature algorithm, if it is one that is known.
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        signed::decode_algorithm(self.signature_algorithm.of(&self.der))
    }

    /// The issuer.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// The subject.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// The first second of the validity, in seconds since the epoch.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// The last second of the validity, in seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.spki.of(&self.der)
    }

    /// The kind and size of the key as it is stated; the key itself is not checked.
    pub fn key_algorithm(&self) -> Result<KeyAlgorithm, KeyProblem> {
        key::stated_algorithm(self.spki_der())
    }

    /// The key, held to the rules for keys that are certified.
    pub fn public_key(&self) -> Result<PublicKey, KeyProblem> {
        PublicKey::from_spki_der(self.spki_der())
    }

    /// The key, to check signatures with.
    pub fn verifying_key(&self) -> Result<VerifyingKey, KeyProblem> {
        VerifyingKey::from_spki_der(self.spki_der())
    }

    /// The extensions.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions::new(&self.der, &self.extensions)
    }

    /// Whether issuer and subject are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether the certificate is odd in this way.
    pub fn has(&self, oddity: Oddity) -> bool {
        self.oddities & oddity.bit() != 0
    }

    /// Everything that is odd.
    pub fn oddities(&self) -> impl Iterator<Item = Oddity> {
        Oddity::ALL.into_iter().filter(|oddity| self.has(*oddity))
    }

    /// An error that names the first [`Oddity`], if there is one.
    pub fn refuse_oddities(&self) -> Result<(), ParseError> {
        match self.oddities().next() {
            None => Ok(()),
            Some(oddity) => Err(ParseError::invalid("certificate", oddity.words())),
        }
    }

    fn note(&mut self, oddity: Oddity) {
        self.oddities |= oddity.bit();
    }

    fn read(der: &[u8], element: &Element<'_>) -> Result<Self, ParseError> {
        let mut reader = element.open("tbsCertificate")?;
        let mut oddities = 0;
        let version = read_version(&mut reader, &mut oddities)?;
        let serial = reader.tagged(tag::INTEGER, "serialNumber")?;
        Reader::new(serial.whole).integer("serialNumber").map_err(|error| error.at(serial.offset))?;
        let signature_algorithm = reader.tagged(tag::SEQUENCE, "signature")?;
        let issuer = DistinguishedName::from_element(&reader.tagged(tag::SEQUENCE, "issuer")?, "issuer")?;
        let (not_before, not_after) = read_validity(&mut reader, &mut oddities)?;
        let subject = DistinguishedName::from_element(&reader.tagged(tag::SEQUENCE, "subject")?, "subject")?;
        let spki = reader.tagged(tag::SEQUENCE, "subjectPublicKeyInfo")?;
        for (number, field) in [(1, "issuerUniqueID"), (2, "subjectUniqueID")] {
            if reader.optional(tag::context(number), field)?.is_some() {
                oddities |= Oddity::UniqueIdentifiers.bit();
            }
        }
        let extensions = read_extensions(&mut reader, der)?;
        reader.finish("tbsCertificate")?;
        let mut contents = Self {
            der: Vec::new(),
            contents: element.span(),
            version,
            serial: serial.content_span(),
            signature_algorithm: signature_algorithm.span(),
            issuer,
            not_before,
            not_after,
            subject,
            spki: spki.span(),
            extensions,
            oddities,
        };
        contents.note_oddities(serial.content);
        Ok(contents)
    }

    fn note_oddities(&mut self, serial: &[u8]) {
        let negative = serial.first().is_some_and(|first| first & 0x80 != 0);
        let found = [
            (Oddity::SerialNegative, negative),
            (Oddity::SerialZero, serial == [0]),
            (Oddity::SerialTooLong, serial.len() > SERIAL_OCTETS_MAX),
            (Oddity::OldVersion, self.version != 3),
            (Oddity::ExtensionsBeforeVersion3, self.version != 3 && !self.extensions.entries.is_empty()),
            (Oddity::EmptyIssuer, self.issuer.is_empty()),
            (Oddity::ValidityReversed, self.not_after < self.not_before),
            (Oddity::DefaultWritten, self.extensions.writes_default),
        ];
        for (oddity, is_so) in found {
            if is_so {
                self.note(oddity);
            }
        }
    }
}

fn read_version(reader: &mut Reader<'_>, oddities: &mut u16) -> Result<u8, ParseError> {
    let Some(element) = reader.optional(tag::context_constructed(0), "version")? else {
        return Ok(1);
    };
    let mut explicit = element.open("version")?;
    let version = explicit.unsigned_u32("version")?;
    explicit.finish("version")?;
    match version {
        0 => {
            *oddities |= Oddity::DefaultWritten.bit();
            Ok(1)
        }
        1 => Ok(2),
        2 => Ok(3),
        _ => Err(ParseError::invalid("version", "it is not 1, 2 or 3").at(element.offset)),
    }
}

fn read_validity(reader: &mut Reader<'_>, oddities: &mut u16) -> Result<(i64, i64), ParseError> {
    let mut validity = reader.sequence("validity")?;
    let mut moment = |field| {
        let element = validity.any(field)?;
        let reading = time::decode_tolerant(element.tag, element.content)
            .map_err(|problem| ParseError::invalid(field, problem).at(element.offset))?;
        if reading.oddity.is_some() {
            *oddities |= Oddity::TimeForm.bit();
        }
        Ok(reading.seconds)
    };
    let (not_before, not_after) = (moment("notBefore")?, moment("notAfter")?);
    validity.finish("validity")?;
    Ok((not_before, not_after))
}

fn read_extensions(reader: &mut Reader<'_>, der: &[u8]) -> Result<ExtensionList, ParseError> {
    let Some(element) = reader.optional(tag::context_constructed(3), "extensions")? else {
        return Ok(ExtensionList::default());
    };
    let mut explicit = element.open("extensions")?;
    let list = explicit.sequence("extensions")?;
    explicit.finish("extensions")?;
    if list.is_empty() {
        return Err(ParseError::invalid("extensions", "the list is there and empty").at(element.offset));
    }
    ExtensionList::read(list, der, "extensions")
}

impl Oddity {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::OldVersion,
        Self::SerialZero,
        Self::SerialNegative,
        Self::SerialTooLong,
        Self::AlgorithmMismatch,
        Self::TimeForm,
        Self::ValidityReversed,
        Self::EmptyIssuer,
        Self::UniqueIdentifiers,
        Self::ExtensionsBeforeVersion3,
        Self::DefaultWritten,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    const fn words(self) -> &'static str {
        match self {
            Self::OldVersion => "its version is not 3",
            Self::SerialZero => "its serial number is zero",
            Self::SerialNegative => "its serial number is negative",
            Self::SerialTooLong => "its serial number has more than 20 octets",
            Self::AlgorithmMismatch => "its two signature algorithm fields differ",
            Self::TimeForm => "a time is not in the form that RFC 5280 asks for",
            Self::ValidityReversed => "it ends before it begins",
            Self::EmptyIssuer => "its issuer is empty",
            Self::UniqueIdentifiers => "it has unique identifiers",
            Self::ExtensionsBeforeVersion3 => "it has extensions and is not of version 3",
            Self::DefaultWritten => "a default value is written out, which DER does not allow",
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.words())
    }
}

impl Deref for Certificate {
    type Target = TbsCertificate;

    fn deref(&self) -> &TbsCertificate {
        &self.contents
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.as_der() == other.as_der()
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Certificate({:?})", self.contents)
    }
}

impl fmt::Debug for TbsCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} issued by {}, serial {}", self.subject, self.issuer, crate::hex(self.serial_content()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::Writer;

    /// The parts of a TBSCertificate, each as DER.
    struct Parts {
        version: &'static [u8],
        serial: &'static [u8],
        issuer: &'static [u8],
        validity: &'static [u8],
        rest: &'static [u8],
    }

    const VALIDITY: &[u8] = b"\x17\x0d240101000000Z\x17\x0d250101000000Z";

    const USUAL: Parts = Parts {
        version: &[0xa0, 3, 2, 1, 2],
        serial: &[2, 1, 5],
        issuer: &[0x30, 12, 0x31, 10, 0x30, 8, 6, 3, 0x55, 4, 3, 0x0c, 1, b'x'],
        validity: VALIDITY,
        rest: &[],
    };

    fn read(parts: &Parts) -> Result<TbsCertificate, ParseError> {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.raw(parts.version);
            writer.raw(parts.serial);
            signed::encode_algorithm(SignatureAlgorithm::Ed25519, writer);
            writer.raw(parts.issuer);
            writer.sequence(|writer| writer.raw(parts.validity));
            writer.raw(&[0x30, 0]);
            writer.raw(&[0x30, 0]);
            writer.raw(parts.rest);
        });
        TbsCertificate::from_der(writer.into_bytes())
    }

    #[test]
    fn what_is_odd_is_read_and_named() {
        let cases = [
            (USUAL, vec![]),
            (Parts { version: &[], ..USUAL }, vec![Oddity::OldVersion]),
            (Parts { version: &[0xa0, 3, 2, 1, 0], ..USUAL }, vec![Oddity::OldVersion, Oddity::DefaultWritten]),
            (Parts { serial: &[2, 1, 0], ..USUAL }, vec![Oddity::SerialZero]),
            (Parts { serial: &[2, 1, 0x80], ..USUAL }, vec![Oddity::SerialNegative]),
            (Parts { serial: &[2, 2, 0, 0x80], ..USUAL }, vec![]),
            (
                Parts { serial: &[2, 21, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], ..USUAL },
                vec![Oddity::SerialTooLong],
            ),
            (Parts { issuer: &[0x30, 0], ..USUAL }, vec![Oddity::EmptyIssuer]),
            (
                Parts { validity: b"\x17\x0d250101000000Z\x17\x0d240101000000Z", ..USUAL },
                vec![Oddity::ValidityReversed],
            ),
            (Parts { validity: b"\x17\x0d240101000000Z\x18\x1120500101000000.5Z", ..USUAL }, vec![Oddity::TimeForm]),
            (Parts { rest: &[0x81, 2, 0, 1], ..USUAL }, vec![Oddity::UniqueIdentifiers]),
            (
                Parts { rest: &[0xa3, 13, 0x30, 11, 0x30, 9, 6, 2, 0x2a, 3, 1, 1, 0, 4, 0], ..USUAL },
                vec![Oddity::DefaultWritten],
            ),
        ];
        for (index, (parts, oddities)) in cases.into_iter().enumerate() {
            let found = read(&parts).unwrap();
            assert_eq!(found.oddities().collect::<Vec<_>>(), oddities, "case {index}");
            assert_eq!(found.refuse_oddities().is_ok(), oddities.is_empty());
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let cases = [
            Parts { version: &[0xa0, 3, 2, 1, 3], ..USUAL },
            Parts { version: &[0xa0, 4, 2, 1, 2, 0], ..USUAL },
            Parts { version: &[0x80, 1, 2], ..USUAL },
            Parts { serial: &[2, 0], ..USUAL },
            Parts { serial: &[2, 2, 0, 5], ..USUAL },
            Parts { issuer: &[0x30, 2, 0x31, 0], ..USUAL },
            Parts { validity: b"\x17\x0b2401010000Z\x17\x0d250101000000Z", ..USUAL },
            Parts { validity: b"\x17\x0d240101000000Z", ..USUAL },
            Parts { rest: &[0xa3, 2, 0x30, 0], ..USUAL },
            Parts { rest: &[0xa3, 0], ..USUAL },
            Parts { rest: &[5, 0], ..USUAL },
            Parts { rest: &[0xa3, 14, 0x30, 12, 0x30, 4, 6, 1, 0x2a, 4, 0x30, 4, 6, 1, 0x2a, 4], ..USUAL },
            Parts { rest: &[0xa3, 14, 0x30, 12, 0x30, 5, 6, 1, 0x2a, 4, 0, 0x30, 3, 6, 1, 0x2a], ..USUAL },
            Parts { rest: &[0xa3, 16, 0x30, 14, 0x30, 5, 6, 1, 0x2a, 4, 0, 0x30, 5, 6, 1, 0x2a, 4, 0], ..USUAL },
        ];
        for (index, parts) in cases.into_iter().enumerate() {
            assert!(read(&parts).is_err(), "case {index}");
        }
    }

    #[test]
    fn the_two_algorithm_fields_must_agree_for_a_signature_to_hold() {
        let root = Certificate::from_pem(include_str!("../testdata/root.pem")).unwrap();
        let key = root.verifying_key().unwrap();
        assert!(root.verify_signature(&key));
        let der = signed::assemble(root.tbs_der(), SignatureAlgorithm::EcdsaSha384, root.signature());
        let other = Certificate::from_der(der.clone()).unwrap();
        assert!(other.has(Oddity::AlgorithmMismatch) && !other.verify_signature(&key));
        assert!(Certificate::from_der_strict(der).is_err());
    }
}
