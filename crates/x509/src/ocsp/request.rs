//! Requests: what is asked about, and by which nonce the answer is to be told from others (RFC 6960 §4.1).

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::CertificateId;
use crate::der::{Reader, Span, Writer, tag};
use crate::error::ParseError;
use crate::extension::{Criticality, ExtensionList, Extensions, encode_extension};
use crate::oid;

/// The longest request. One about as many certificates as may be is a fifth of it; the rest is for a signature with its
/// certificates, which nobody looks at.
pub const REQUEST_OCTETS_MAX: usize = 8 << 10;
/// The most certificates of one request.
pub const CERTIFICATES_MAX: usize = 16;
/// The longest nonce that is repeated (RFC 8954 §2.1, RFC 9654 §2.1).
pub const NONCE_OCTETS_MAX: usize = 32;
/// The longest nonce that there may be (RFC 9654 §2.1); one between the two is left out of the answer.
const NONCE_OCTETS_ALLOWED: usize = 128;

/// A request that was read.
#[derive(Clone)]
pub struct OcspRequest {
    der: Vec<u8>,
    ids: Vec<Span>,
    nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// Reads a request that fills the input. Its signature, if there is one, is not looked at: anybody may ask.
    pub fn from_der(der: Vec<u8>) -> Result<Self, ParseError> {
        const FIELD: &str = "ocspRequest";
        if der.len() > REQUEST_OCTETS_MAX {
            return Err(ParseError::invalid(FIELD, "it is longer than a request may be"));
        }
        let mut outer = Reader::new(&der);
        let mut request = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        let mut tbs = request.sequence("tbsRequest")?;
        request.optional(tag::context_constructed(0), "optionalSignature")?;
        request.finish(FIELD)?;
        read_version(&mut tbs)?;
        tbs.optional(tag::context_constructed(1), "requestorName")?;
        let mut list = tbs.sequence("requestList")?;
        let mut ids = Vec::new();
        while !list.is_empty() {
            if ids.len() == CERTIFICATES_MAX {
                return Err(ParseError::invalid("requestList", "it is about more certificates than a request may be"));
            }
            let mut single = list.sequence("request")?;
            let id = single.tagged(tag::SEQUENCE, "reqCert")?;
            CertificateId::read(id.whole)?;
            ids.push(id.span());
            let extensions = read_extensions(&mut single, 0, &der)?;
            refuse_critical(Extensions::new(&der, &extensions), &[])?;
            single.finish("request")?;
        }
        if ids.is_empty() {
            return Err(ParseError::invalid("requestList", "it is empty"));
        }
        let extensions = read_extensions(&mut tbs, 2, &der)?;
        tbs.finish("tbsRequest")?;
        let extensions = Extensions::new(&der, &extensions);
        refuse_critical(extensions, &[oid::OCSP_NONCE])?;
        let nonce = extensions.value(oid::OCSP_NONCE, read_nonce)?.map(<[u8]>::to_vec);
        let nonce = nonce.filter(|nonce| nonce.len() <= NONCE_OCTETS_MAX);
        Ok(Self { ids, nonce, der })
    }

    /// A request about these certificates, each a CertID in DER.
    pub fn encode(ids: &[&[u8]], nonce: Option<&[u8]>) -> Vec<u8> {
        let mut writer = Writer::with_capacity(160 * ids.len() + 64);
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.sequence(|writer| ids.iter().for_each(|id| writer.sequence(|writer| writer.raw(id))));
                if let Some(nonce) = nonce {
                    writer.context(2, |writer| encode_nonce(nonce, writer));
                }
            });
        });
        writer.into_bytes()
    }

    /// The certificates that it is about, in its order; at least one.
    pub fn certificates(&self) -> impl Iterator<Item = CertificateId<'_>> {
        // Each was read without an error when the request was.
        self.ids.iter().filter_map(|id| CertificateId::read(id.of(&self.der)).ok())
    }

    /// The nonce that the answer repeats.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

/// The CertID of a request that says nothing else, which nearly all are: about one certificate, without extensions. It
/// reads no further than that.
pub fn plain_certificate_id(der: &[u8]) -> Option<&[u8]> {
    const SHORT: u8 = 0x80;
    match *der {
        [tag::SEQUENCE, request, tag::SEQUENCE, tbs, tag::SEQUENCE, list, tag::SEQUENCE, single, ref id @ ..]
            if request < SHORT
                && usize::from(single) == id.len()
                && list == single.checked_add(2)?
                && tbs == list.checked_add(2)?
                && request == tbs.checked_add(2)? =>
        {
            Some(id)
        }
        _ => None,
    }
}

/// The request in the path of a GET: what follows the responder's address, base64 in its URL encoding (RFC 6960 §A.1).
///
/// Clients write `+`, `/` and `=` as they are or by their numbers, leave out the padding, or put another slash before it
/// all; servers in between take slashes off the end. How long a request is, it says itself.
pub fn request_in_path(path: &str) -> Option<Vec<u8>> {
    const TEXT_OCTETS_MAX: usize = REQUEST_OCTETS_MAX / 3 * 4 + 4;
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let mut text = Vec::with_capacity(path.len().min(TEXT_OCTETS_MAX));
    let mut rest = path.trim_start_matches('/').as_bytes();
    while let [first, after @ ..] = rest {
        let (octet, next) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (hexadecimal(*high)? << 4 | hexadecimal(*low)?, after),
            (b'%', _) => return None,
            (octet, after) => (*octet, after),
        };
        text.push(octet);
        rest = next;
        if text.len() > TEXT_OCTETS_MAX {
            return None;
        }
    }
    let head = ENGINE.decode(text.get(..8)?).ok()?;
    let octets = match *head {
        [tag::SEQUENCE, length @ ..=0x7f, ..] => 2 + usize::from(length),
        [tag::SEQUENCE, 0x81, length, ..] => 3 + usize::from(length),
        [tag::SEQUENCE, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        _ => return None,
    };
    if octets > REQUEST_OCTETS_MAX {
        return None;
    }
    // One that ends with a whole group of three octets has no padding, so what is missing was slashes.
    if octets.is_multiple_of(3) && text.len() < octets / 3 * 4 {
        text.resize(octets / 3 * 4, b'/');
    }
    ENGINE.decode(&text).ok().filter(|der| der.len() == octets)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Version 1 is the only one, and is left out by default.
pub(super) fn read_version(reader: &mut Reader<'_>) -> Result<(), ParseError> {
    let Some(version) = reader.optional(tag::context_constructed(0), "version")? else { return Ok(()) };
    let mut version = version.open("version")?;
    if version.integer("version")? != [0] {
        return Err(ParseError::invalid("version", "it is not version 1"));
    }
    version.finish("version")
}

/// The extensions under `[number]`, none when they are absent.
pub(super) fn read_extensions(reader: &mut Reader<'_>, number: u8, der: &[u8]) -> Result<ExtensionList, ParseError> {
    const FIELD: &str = "extensions";
    let Some(element) = reader.optional(tag::context_constructed(number), FIELD)? else {
        return Ok(ExtensionList::default());
    };
    let mut explicit = element.open(FIELD)?;
    let list = explicit.sequence(FIELD)?;
    explicit.finish(FIELD)?;
    ExtensionList::read(list, der, FIELD)
}

fn refuse_critical(extensions: Extensions<'_>, known: &[&[u8]]) -> Result<(), ParseError> {
    match extensions.critical_besides(known) {
        None => Ok(()),
        Some(oid) => {
            let words = format!("the critical extension {} is not known", oid::to_dotted(oid));
            Err(ParseError::invalid("extensions", words))
        }
    }
}

/// A nonce is an OCTET STRING of 1 to so many octets (RFC 9654 §2.1).
pub(super) fn read_nonce(value: &[u8]) -> Result<&[u8], ParseError> {
    let mut reader = Reader::new(value);
    let nonce = reader.octet_string("nonce")?;
    reader.finish("nonce")?;
    match nonce.len() {
        1..=NONCE_OCTETS_ALLOWED => Ok(nonce),
        _ => Err(ParseError::invalid("nonce", "it has no octets or too many")),
    }
}

/// The list of extensions with a nonce alone.
pub(super) fn encode_nonce(nonce: &[u8], writer: &mut Writer) {
    writer.sequence(|writer| {
        encode_extension(writer, oid::OCSP_NONCE, Criticality::NonCritical, |writer| writer.octet_string(nonce));
    });
}

impl fmt::Debug for OcspRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OcspRequest({} certificates)", self.ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::IdentifierHash;

    const KEY_HASH: [u8; 20] = [2; 20];

    fn id() -> Vec<u8> {
        CertificateId::encode(IdentifierHash::Sha1, &[1; 20], &KEY_HASH, &[7])
    }

    /// A request about these certificates with these octets after its list.
    fn request(ids: &[&[u8]], rest: &[u8]) -> Result<OcspRequest, ParseError> {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.sequence(|writer| ids.iter().for_each(|id| writer.sequence(|writer| writer.raw(id))));
                writer.raw(rest);
            });
        });
        OcspRequest::from_der(writer.into_bytes())
    }

    fn with_extension(oid: &[u8], criticality: Criticality, value: &[u8]) -> Result<OcspRequest, ParseError> {
        let mut writer = Writer::new();
        writer.context(2, |writer| {
            writer.sequence(|writer| encode_extension(writer, oid, criticality, |writer| writer.raw(value)));
        });
        request(&[&id()], &writer.into_bytes())
    }

    #[test]
    fn a_request_names_certificates_and_a_nonce() {
        let sha256 = CertificateId::encode(IdentifierHash::Sha256, &[3; 32], &[4; 32], &[0, 0x80, 1]);
        let read = request(&[&id(), &sha256], &[]).unwrap();
        let ids: Vec<CertificateId<'_>> = read.certificates().collect();
        assert_eq!((ids[0].hash, ids[0].issuer_key_hash), (Some(IdentifierHash::Sha1), &KEY_HASH[..]));
        assert_eq!((ids[1].hash, ids[1].serial_content), (Some(IdentifierHash::Sha256), &[0, 0x80, 1][..]));
        assert_eq!((ids[1].der, read.nonce()), (&sha256[..], None));
        assert_eq!(ids[1].issuer_der.len() + 5, sha256.len() - 2);
        let read = with_extension(oid::OCSP_NONCE, Criticality::NonCritical, &[4, 2, 8, 9]).unwrap();
        assert_eq!(read.nonce(), Some(&[8, 9][..]));
        let written = OcspRequest::encode(&[&id(), &sha256], Some(&[1; 32]));
        assert_eq!(OcspRequest::from_der(written).unwrap().nonce(), Some(&[1; 32][..]));
    }

    #[test]
    fn a_nonce_that_is_longer_than_thirty_two_octets_is_not_repeated() {
        for (octets, repeated) in
            [(1, Some(true)), (32, Some(true)), (33, Some(false)), (128, Some(false)), (129, None)]
        {
            let read = OcspRequest::from_der(OcspRequest::encode(&[&id()], Some(&vec![5; octets])));
            assert_eq!(read.ok().map(|read| read.nonce().is_some()), repeated, "{octets}");
        }
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        assert!(request(&[], &[]).is_err());
        assert!(request(&[&[5, 0]], &[]).is_err());
        assert!(request(&vec![&id()[..]; CERTIFICATES_MAX + 1], &[]).is_err());
        assert!(request(&vec![&id()[..]; CERTIFICATES_MAX], &[]).is_ok());
        assert!(request(&[&id()], &[5, 0]).is_err());
        assert!(with_extension(oid::OCSP_NONCE, Criticality::NonCritical, &[4, 0]).is_err());
        assert!(with_extension(oid::OCSP_NONCE, Criticality::NonCritical, &[5, 0]).is_err());
        assert!(with_extension(&[0x2a, 3], Criticality::Critical, &[5, 0]).is_err());
        assert!(with_extension(&[0x2a, 3], Criticality::NonCritical, &[5, 0]).is_ok());
        assert!(OcspRequest::from_der(Vec::new()).is_err());
        let whole = request(&[&id()], &[]).unwrap().der;
        for length in 0..whole.len() {
            assert!(OcspRequest::from_der(whole[..length].to_vec()).is_err(), "{length}");
        }
        let mut long = Writer::new();
        long.context(1, |writer| writer.raw(&[0; REQUEST_OCTETS_MAX]));
        assert!(request(&[&id()], &long.into_bytes()).is_err());
    }

    #[test]
    fn a_signature_over_a_request_is_not_looked_at() {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.sequence(|writer| writer.sequence(|writer| writer.sequence(|writer| writer.raw(&id()))));
            writer.context(0, |writer| writer.sequence(|writer| writer.null()));
        });
        assert_eq!(OcspRequest::from_der(writer.into_bytes()).unwrap().certificates().count(), 1);
    }

    #[test]
    fn an_identifier_with_another_hash_or_length_finds_no_issuer() {
        let short = CertificateId::encode(IdentifierHash::Sha256, &[1; 20], &KEY_HASH, &[7]);
        assert_eq!(CertificateId::read(&short).unwrap().hash, None);
        let odd = [&short[..2], &[0x30, 4, 6, 2, 0x2a, 3][..], &short[17..]].concat();
        let odd = [&[0x30, odd.len() as u8 - 2][..], &odd[2..]].concat();
        assert_eq!(CertificateId::read(&odd).unwrap().hash, None);
    }

    #[test]
    fn a_plain_request_is_told_from_every_other() {
        let id = id();
        assert_eq!(plain_certificate_id(&OcspRequest::encode(&[&id], None)), Some(&id[..]));
        for other in [
            OcspRequest::encode(&[&id, &id], None),
            OcspRequest::encode(&[&id], Some(&[1])),
            OcspRequest::encode(&[&[7; 200]], None),
            Vec::new(),
        ] {
            assert_eq!(plain_certificate_id(&other), None);
        }
        let whole = OcspRequest::encode(&[&id], None);
        for length in 0..whole.len() {
            assert_eq!(plain_certificate_id(&whole[..length]), None);
        }
    }

    #[test]
    fn a_request_is_found_in_a_path_however_it_is_written() {
        // With every length modulo three, and with an end that base64 writes as slashes.
        for serial in [&[7][..], &[7, 8], &[7, 8, 9], &[7, 0xff, 0xff, 0xff], &[0xff; 5], &[7, 0xfb, 0xef, 0xbe, 0xff]]
        {
            let der = OcspRequest::encode(
                &[&CertificateId::encode(IdentifierHash::Sha256, &[0xfb; 32], &[0xff; 32], serial)],
                None,
            );
            let text = base64::engine::general_purpose::STANDARD.encode(&der);
            let encoded = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3d");
            let without_padding = text.trim_end_matches('=');
            let without_slashes = text.trim_end_matches('/');
            for written in [&text, &encoded, without_padding, without_slashes, &format!("/{text}")] {
                assert_eq!(request_in_path(written).as_deref(), Some(&der[..]), "{written}");
            }
        }
        for wrong in
            ["", "MA", "MAAAAAAA", "x".repeat(20_000).as_str(), "MEIwQDA%", "MEIwQDA%zz", "MEIwQDA\u{e4}", "AAAAAAAA"]
        {
            assert_eq!(request_in_path(wrong), None, "{wrong}");
        }
    }
}
