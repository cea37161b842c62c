//! Certification requests (RFC 2986): reading those of others, writing those of our own authorities.
//!
//! A request is input that we are about to sign parts of: its structure is read to the last octet, and no field is
//! guessed. Attributes other than the extension request are read over.

use std::fmt;

use crate::algorithm::SignatureAlgorithm;
use crate::der::{Element, Span, Writer, tag};
use crate::error::ParseError;
use crate::extension::{Criticality, ExtensionList, Extensions, KeyUsages, encode_extension};
use crate::key::{KeyProblem, PublicKey};
use crate::name::DistinguishedName;
use crate::signed::{self, Signed};
use crate::{oid, pem};

/// The longest request that is read, in octets.
pub const REQUEST_OCTETS_MAX: usize = 64 * 1024;

/// A certification request.
#[derive(Clone)]
pub struct CertificationRequest {
    der: Vec<u8>,
    signed: Signed,
    subject: DistinguishedName,
    spki: Span,
    public_key: Result<PublicKey, KeyProblem>,
    extensions: ExtensionList,
}

impl CertificationRequest {
    /// Reads a request that fills the input.
    pub fn from_der(der: &[u8]) -> Result<Self, ParseError> {
        if der.len() > REQUEST_OCTETS_MAX {
            return Err(ParseError::invalid("certificationRequest", "it is longer than 64 KiB"));
        }
        let (signed, contents) = Signed::read(der, "certificationRequest")?;
        let mut info = contents.open("certificationRequestInfo")?;
        if info.unsigned("version")? != [] as [u8; 0] {
            return Err(ParseError::invalid("version", "the version of a request is 0"));
        }
        let subject = DistinguishedName::from_element(&info.tagged(tag::SEQUENCE, "subject")?, "subject")?;
        let spki = info.tagged(tag::SEQUENCE, "subjectPublicKeyInfo")?;
        let extensions = match info.optional(tag::context_constructed(0), "attributes")? {
            Some(attributes) => read_attributes(&attributes, der)?,
            // RFC 2986 §4.1 asks for the empty set, which many leave out.
            None => ExtensionList::default(),
        };
        info.finish("certificationRequestInfo")?;
        let public_key = PublicKey::from_spki_der(spki.whole);
        Ok(Self { der: der.to_vec(), signed, subject, spki: spki.span(), public_key, extensions })
    }

    /// Reads the one request in a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, ParseError> {
        Self::from_der(&pem::decode_one(text, &[pem::CERTIFICATE_REQUEST, pem::NEW_CERTIFICATE_REQUEST])?)
    }

    /// The octets.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The subject as it was asked for; its values may break the rules for new names.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.spki.of(&self.der)
    }

    /// The key, or why it cannot be certified.
    pub fn public_key(&self) -> Result<&PublicKey, &KeyProblem> {
        self.public_key.as_ref()
    }

    /// The signature algorithm; one that is not known, such as those with SHA-1 and MD5, is an error that names it.
    pub fn signature_algorithm(&self) -> Result<SignatureAlgorithm, ParseError> {
        self.signed.algorithm(&self.der).ok_or_else(|| {
            let name = signed::algorithm_text(self.signed.algorithm.of(&self.der));
            ParseError::invalid("signatureAlgorithm", format!("the algorithm {name} is not accepted"))
        })
    }

    /// The extensions that are asked for. A critical one that is not known is an error.
    pub fn requested_extensions(&self) -> Result<Extensions<'_>, ParseError> {
        let extensions = Extensions::new(&self.der, &self.extensions);
        match extensions.unknown_critical() {
            None => Ok(extensions),
            Some(unknown) => {
                let words = format!("the critical extension {} is not known", oid::to_dotted(unknown));
                Err(ParseError::invalid("extensionRequest", words))
            }
        }
    }

    /// Whether the request was signed with the key that it names, over exactly its octets; never so for a key that cannot
    /// be certified or an algorithm that is not known.
    pub fn verify(&self) -> bool {
        self.public_key.as_ref().is_ok_and(|key| self.signed.verify(&self.der, key.as_ref()))
    }
}

/// Writes the CertificationRequestInfo of an authority that asks for its own certificate: what is then signed, and put
/// together with [`crate::signed::assemble`].
pub fn build_request_info(subject: &DistinguishedName, spki_der: &[u8], key_usages: KeyUsages) -> Vec<u8> {
    let mut writer = Writer::with_capacity(subject.as_der().len() + spki_der.len() + 64);
    writer.sequence(|writer| {
        writer.unsigned_u64(0);
        writer.raw(subject.as_der());
        writer.raw(spki_der);
        writer.context(0, |writer| {
            if !key_usages.is_empty() {
                encode_extension_request(key_usages, writer);
            }
        });
    });
    writer.into_bytes()
}

fn encode_extension_request(key_usages: KeyUsages, writer: &mut Writer) {
    writer.sequence(|writer| {
        writer.oid(oid::EXTENSION_REQUEST);
        writer.set_of_one(|writer| {
            writer.sequence(|writer| {
                encode_extension(writer, oid::KEY_USAGE, Criticality::Critical, |writer| key_usages.encode(writer));
            });
        });
    });
}

/// Reads the attributes: at most one is the extension request; the others are only checked for their form.
fn read_attributes(attributes: &Element<'_>, der: &[u8]) -> Result<ExtensionList, ParseError> {
    let field = "attributes";
    let mut reader = attributes.open(field)?;
    let mut extensions = None;
    while !reader.is_empty() {
        let mut attribute = reader.sequence(field)?;
        let kind = attribute.oid(field)?;
        let mut values = attribute.set(field)?;
        attribute.finish(field)?;
        if values.is_empty() {
            return Err(values.error(field, crate::error::Problem::Truncated));
        }
        if kind == oid::EXTENSION_REQUEST {
            if extensions.is_some() {
                return Err(ParseError::invalid("extensionRequest", "it is there twice"));
            }
            let list = values.sequence("extensionRequest")?;
            values.finish("extensionRequest")?;
            extensions = Some(ExtensionList::read(list, der, "extensionRequest")?);
            continue;
        }
        while !values.is_empty() {
            values.any(field)?;
        }
    }
    Ok(extensions.unwrap_or_default())
}

impl fmt::Debug for CertificationRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CertificationRequest({}, {:?})", self.subject, self.public_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = include_str!("../testdata/ec.csr");

    /// A request with these attributes; its signature is one over another.
    fn with_attributes(attributes: &[&[u8]]) -> Result<CertificationRequest, ParseError> {
        let original = CertificationRequest::from_pem(REQUEST).unwrap();
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.unsigned_u64(0);
            writer.raw(original.subject().as_der());
            writer.raw(original.spki_der());
            writer.context(0, |writer| attributes.iter().for_each(|attribute| writer.raw(attribute)));
        });
        let signature = original.signed.signature.of(&original.der);
        CertificationRequest::from_der(&signed::assemble(
            &writer.into_bytes(),
            SignatureAlgorithm::EcdsaSha256,
            signature,
        ))
    }

    fn attribute(kind: &[u8], values: &[&[u8]]) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.oid(kind);
            writer.nested(tag::SET, |writer| values.iter().for_each(|value| writer.raw(value)));
        });
        writer.into_bytes()
    }

    fn extension_list(extensions: &[(&[u8], Criticality)]) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            for (oid, criticality) in extensions {
                encode_extension(writer, oid, *criticality, |writer| writer.sequence(|_| {}));
            }
        });
        writer.into_bytes()
    }

    #[test]
    fn one_extension_request_is_read_and_other_attributes_are_read_over() {
        let constraints = extension_list(&[(oid::BASIC_CONSTRAINTS, Criticality::NonCritical)]);
        let request = attribute(oid::EXTENSION_REQUEST, &[&constraints]);
        let password = attribute(oid::CHALLENGE_PASSWORD, &[&[0x0c, 1, b'x']]);
        let unknown = attribute(&[0x2a, 3], &[&[5, 0], &[0x30, 0]]);
        for attributes in [vec![&request[..]], vec![&password, &request], vec![&unknown, &request, &password]] {
            let read = with_attributes(&attributes).unwrap();
            assert_eq!(read.requested_extensions().unwrap().len(), 1);
            assert!(!read.verify());
        }
        assert!(with_attributes(&[]).unwrap().requested_extensions().unwrap().is_empty());
    }

    #[test]
    fn doubled_and_malformed_attributes_are_refused() {
        let constraints = (oid::BASIC_CONSTRAINTS, Criticality::NonCritical);
        let once = extension_list(&[constraints]);
        let twice = extension_list(&[constraints, constraints]);
        let request = attribute(oid::EXTENSION_REQUEST, &[&once]);
        let cases = [
            vec![request.clone(), request],
            vec![attribute(oid::EXTENSION_REQUEST, &[&once, &once])],
            vec![attribute(oid::EXTENSION_REQUEST, &[&twice])],
            vec![attribute(oid::EXTENSION_REQUEST, &[])],
            vec![attribute(oid::CHALLENGE_PASSWORD, &[])],
            vec![attribute(oid::CHALLENGE_PASSWORD, &[&[0x0c, 0x81, 1, b'x']])],
            vec![vec![0x30, 0]],
            vec![vec![5, 0]],
        ];
        for attributes in cases {
            let attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
            assert!(with_attributes(&attributes).is_err(), "{attributes:02x?}");
        }
    }

    #[test]
    fn a_critical_extension_that_is_not_known_is_refused_when_extensions_are_asked_for() {
        for (criticality, accepted) in [(Criticality::NonCritical, true), (Criticality::Critical, false)] {
            let list = extension_list(&[(&[0x2a, 3, 4], criticality)]);
            let request = with_attributes(&[&attribute(oid::EXTENSION_REQUEST, &[&list])]).unwrap();
            assert_eq!(request.requested_extensions().is_ok(), accepted);
        }
    }
}
