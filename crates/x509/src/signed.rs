//! What certificates, requests and lists have in common: contents, an algorithm identifier, and a signature over the
//! contents (RFC 5280 §4.1.1, RFC 2986 §4, RFC 5280 §5.1.1).

use crate::algorithm::{KeyFamily, SignatureAlgorithm};
use crate::der::{Element, Reader, Span, Writer, tag};
use crate::error::ParseError;
use crate::key::VerifyingKey;
use crate::oid;

/// Puts the contents (a complete element), the algorithm and the signature together.
pub fn assemble(contents: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(contents.len() + signature.len() + 32);
    writer.sequence(|writer| {
        writer.raw(contents);
        encode_algorithm(algorithm, writer);
        writer.bit_string(signature);
    });
    writer.into_bytes()
}

/// Writes the AlgorithmIdentifier of a signature algorithm: NULL parameters for RSA (RFC 4055 §5), none for the others
/// (RFC 5758 §3.2, RFC 8410 §3).
pub fn encode_algorithm(algorithm: SignatureAlgorithm, writer: &mut Writer) {
    writer.sequence(|writer| {
        writer.oid(algorithm_oid(algorithm));
        match algorithm.family() {
            KeyFamily::Rsa => writer.null(),
            KeyFamily::Ecdsa | KeyFamily::Ed25519 => {}
        }
    });
}

/// Where the three parts are in the octets that they were read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed {
    pub(crate) contents: Span,
    pub(crate) algorithm: Span,
    pub(crate) signature: Span,
}

impl Signed {
    /// Takes the outermost element apart; the contents come back as the element that they are.
    pub(crate) fn read<'a>(der: &'a [u8], field: &'static str) -> Result<(Self, Element<'a>), ParseError> {
        let mut outer = Reader::new(der);
        let mut parts = outer.sequence(field)?;
        outer.finish(field)?;
        let contents = parts.tagged(tag::SEQUENCE, field)?;
        let algorithm = parts.tagged(tag::SEQUENCE, "signatureAlgorithm")?;
        let signature = parts.tagged(tag::BIT_STRING, "signature")?;
        parts.finish(field)?;
        let [0, octets @ ..] = signature.content else {
            return Err(
                ParseError::invalid("signature", "a bit string of whole octets is expected").at(signature.offset)
            );
        };
        let span = signature.content_span().last(octets.len());
        Ok((Self { contents: contents.span(), algorithm: algorithm.span(), signature: span }, contents))
    }

    /// The signature algorithm, if it is one that is known.
    pub(crate) fn algorithm(&self, der: &[u8]) -> Option<SignatureAlgorithm> {
        decode_algorithm(self.algorithm.of(der))
    }

    /// Whether the signature over exactly these contents holds.
    pub(crate) fn verify(&self, der: &[u8], key: &VerifyingKey) -> bool {
        self.algorithm(der)
            .is_some_and(|algorithm| key.verify(algorithm, self.contents.of(der), self.signature.of(der)))
    }
}

/// The signature algorithm of an AlgorithmIdentifier; nothing for one that is not known, whatever its form.
pub(crate) fn decode_algorithm(der: &[u8]) -> Option<SignatureAlgorithm> {
    let mut reader = Reader::new(der).sequence("algorithm").ok()?;
    let identifier = reader.oid("algorithm").ok()?;
    let algorithm = SignatureAlgorithm::ALL.into_iter().find(|algorithm| algorithm_oid(*algorithm) == identifier)?;
    // RFC 4055 §5: NULL must be written for RSA, and its absence must be accepted.
    if algorithm.family() == KeyFamily::Rsa && !reader.is_empty() {
        reader.null("algorithm.parameters").ok()?;
    }
    reader.is_empty().then_some(algorithm)
}

/// The dotted identifier of an AlgorithmIdentifier, for messages.
pub(crate) fn algorithm_text(der: &[u8]) -> String {
    let identifier = Reader::new(der).sequence("algorithm").and_then(|mut reader| reader.oid("algorithm"));
    identifier.map_or_else(|_| "without an identifier".to_owned(), oid::to_dotted)
}

fn algorithm_oid(algorithm: SignatureAlgorithm) -> &'static [u8] {
    match algorithm {
        SignatureAlgorithm::RsaSha256 => oid::RSA_SHA256,
        SignatureAlgorithm::RsaSha384 => oid::RSA_SHA384,
        SignatureAlgorithm::RsaSha512 => oid::RSA_SHA512,
        SignatureAlgorithm::EcdsaSha256 => oid::ECDSA_SHA256,
        SignatureAlgorithm::EcdsaSha384 => oid::ECDSA_SHA384,
        SignatureAlgorithm::EcdsaSha512 => oid::ECDSA_SHA512,
        SignatureAlgorithm::Ed25519 => oid::ED25519,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_read_back_and_others_are_not_known() {
        for algorithm in SignatureAlgorithm::ALL {
            let mut writer = Writer::new();
            encode_algorithm(algorithm, &mut writer);
            assert_eq!(decode_algorithm(&writer.into_bytes()), Some(algorithm));
        }
        let sha1 = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0];
        assert_eq!(decode_algorithm(&sha1), None);
        assert_eq!(algorithm_text(&sha1), "1.2.840.113549.1.1.5");
        assert_eq!(decode_algorithm(&[0x30, 7, 6, 3, 0x2b, 0x65, 0x70, 5, 0]), None);
        assert_eq!(decode_algorithm(&[]), None);
    }
}
