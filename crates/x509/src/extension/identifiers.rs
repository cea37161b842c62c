//! Which key signed and which key is certified: authorityKeyIdentifier and subjectKeyIdentifier (RFC 5280 §4.2.1.1,
//! §4.2.1.2).

use super::whole_sequence;
use crate::der::{Reader, Writer, tag};
use crate::error::ParseError;
use crate::general_name::GeneralNames;

/// The key that signed a certificate or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorityKeyIdentifier {
    /// keyIdentifier: the octets of the signer's subject key identifier.
    pub key_id: Option<Vec<u8>>,
    /// authorityCertIssuer.
    pub issuer: Option<GeneralNames>,
    /// authorityCertSerialNumber: the contents of the INTEGER.
    pub serial: Option<Vec<u8>>,
}

impl AuthorityKeyIdentifier {
    /// Reads the value of an authorityKeyIdentifier extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "authorityKeyIdentifier";
        let mut reader = whole_sequence(value, field)?;
        let key_id = reader.optional(tag::context(0), field)?.map(|element| element.content.to_vec());
        let issuer = match reader.optional(tag::context_constructed(1), field)? {
            Some(element) => Some(GeneralNames::decode(element.open(field)?, field)?),
            None => None,
        };
        let serial = reader.optional(tag::context(2), field)?.map(|element| element.content.to_vec());
        reader.finish(field)?;
        // The two parts of the second form come together.
        if issuer.is_some() != serial.is_some() {
            return Err(ParseError::invalid(field, "issuer and serial number come together"));
        }
        if key_id.as_ref().is_some_and(Vec::is_empty) || serial.as_ref().is_some_and(Vec::is_empty) {
            return Err(ParseError::invalid(field, "a part of it is empty"));
        }
        Ok(Self { key_id, issuer, serial })
    }

    /// Writes the value with a key identifier alone.
    pub fn encode_key_id(key_id: &[u8], writer: &mut Writer) {
        writer.sequence(|writer| writer.primitive(tag::context(0), key_id));
    }
}

/// Reads the value of a subjectKeyIdentifier extension.
pub(super) fn decode_subject_key_id(value: &[u8]) -> Result<&[u8], ParseError> {
    let field = "subjectKeyIdentifier";
    let mut reader = Reader::new(value);
    let key_id = reader.octet_string(field)?;
    reader.finish(field)?;
    if key_id.is_empty() {
        return Err(ParseError::invalid(field, "it is empty"));
    }
    Ok(key_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_identifiers_are_written_and_read_back() {
        let mut writer = Writer::new();
        AuthorityKeyIdentifier::encode_key_id(&[1, 2, 3], &mut writer);
        let read = AuthorityKeyIdentifier::decode(&writer.into_bytes()).unwrap();
        assert_eq!(read, AuthorityKeyIdentifier { key_id: Some(vec![1, 2, 3]), issuer: None, serial: None });
        assert_eq!(decode_subject_key_id(&[4, 2, 7, 8]), Ok(&[7, 8][..]));
        let both = [0x30, 8, 0xa1, 3, 0x82, 1, b'a', 0x82, 1, 5];
        let read = AuthorityKeyIdentifier::decode(&both).unwrap();
        assert_eq!((read.issuer.map(|names| names.len()), read.serial), (Some(1), Some(vec![5])));
    }

    #[test]
    fn malformed_identifiers_are_refused() {
        let authority: [&[u8]; 5] = [
            &[0x30, 2, 0x80, 0],
            &[0x30, 3, 0x82, 1, 5],
            &[0x30, 5, 0xa1, 3, 0x82, 1, b'a'],
            &[0x30, 3, 0x83, 1, 1],
            &[4, 0],
        ];
        for der in authority {
            assert!(AuthorityKeyIdentifier::decode(der).is_err(), "{der:02x?}");
        }
        for der in [&[4, 0][..], &[4, 1], &[4, 1, 1, 0], &[3, 2, 0, 1]] {
            assert!(decode_subject_key_id(der).is_err(), "{der:02x?}");
        }
    }
}
