//! Where to look: cRLDistributionPoints, authorityInfoAccess and issuingDistributionPoint (RFC 5280 §4.2.1.13, §4.2.2.1,
//! §5.2.5). Nothing here follows an address.

use super::{implicit_true, whole_sequence};
use crate::der::{Element, Reader, Writer, tag};
use crate::error::{NameError, ParseError};
use crate::general_name::{GeneralName, GeneralNames, choice};
use crate::oid;
use crate::uri::Uri;

/// The places where revocation lists are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlDistributionPoints {
    /// At least one place.
    pub points: Vec<DistributionPoint>,
}

/// One place where a revocation list is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistributionPoint {
    /// Its full names, each of which leads to the same list.
    pub full_name: Option<GeneralNames>,
    /// Whether its name is given relative to that of the issuer. The name itself is not kept.
    pub has_relative_name: bool,
    /// The revocation reasons that the list covers, as named bits; all when absent.
    pub reasons: Option<u16>,
    /// The issuer of the list when it is not that of the certificate.
    pub crl_issuer: Option<GeneralNames>,
}

/// Where information about the issuer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityInformationAccess {
    /// At least one place.
    pub descriptions: Vec<AccessDescription>,
}

/// One place and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessDescription {
    /// What is there.
    pub method: AccessMethod,
    /// Where it is, or why that is not a name.
    pub location: Result<GeneralName, NameError>,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessMethod {
    /// Certificates of the issuer.
    CaIssuers,
    /// An OCSP responder.
    Ocsp,
    /// Something else: the contents octets of its object identifier.
    Other(Vec<u8>),
}

/// What a revocation list covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuingDistributionPoint {
    /// The full names of the place where the list is.
    pub full_name: Option<GeneralNames>,
    /// Whether its name is given relative to that of the issuer.
    pub has_relative_name: bool,
    /// Only certificates of end entities.
    pub only_user_certificates: bool,
    /// Only certificates of authorities.
    pub only_authority_certificates: bool,
    /// Only these reasons, as named bits.
    pub only_some_reasons: Option<u16>,
    /// Also certificates of other issuers.
    pub is_indirect: bool,
    /// Only attribute certificates.
    pub only_attribute_certificates: bool,
}

impl CrlDistributionPoints {
    /// Reads the value of a cRLDistributionPoints extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "cRLDistributionPoints";
        let mut reader = whole_sequence(value, field)?;
        let mut points = Vec::new();
        while !reader.is_empty() {
            points.push(DistributionPoint::decode(reader.sequence(field)?, field)?);
        }
        if points.is_empty() {
            return Err(ParseError::invalid(field, "at least one place must be there"));
        }
        Ok(Self { points })
    }

    /// The URIs of all places.
    pub fn urls(&self) -> impl Iterator<Item = &Uri> {
        self.points.iter().filter_map(|point| point.full_name.as_ref()).flat_map(uris)
    }
}

/// Writes the value of a cRLDistributionPoints extension: one place with these URIs, which all lead to the same list.
pub fn encode_crl_urls(urls: &[Uri], writer: &mut Writer) {
    writer.sequence(|writer| writer.sequence(|writer| encode_place(urls, writer)));
}

/// Writes `distributionPoint [0]` with full names.
fn encode_place(urls: &[Uri], writer: &mut Writer) {
    writer.context(0, |writer| {
        writer.context(0, |writer| {
            urls.iter().for_each(|url| encode_uri(url, writer));
        });
    });
}

fn encode_uri(uri: &Uri, writer: &mut Writer) {
    writer.primitive(choice::URI, uri.as_str().as_bytes());
}

impl DistributionPoint {
    fn decode(mut reader: Reader<'_>, field: &'static str) -> Result<Self, ParseError> {
        let (full_name, has_relative_name) = decode_place(&mut reader, field)?;
        let reasons = decode_reasons(&mut reader, 1, field)?;
        let crl_issuer = match reader.optional(tag::context_constructed(2), field)? {
            Some(element) => Some(GeneralNames::decode(element.open(field)?, field)?),
            None => None,
        };
        reader.finish(field)?;
        // RFC 5280 §4.2.1.13: reasons alone name no place.
        if full_name.is_none() && !has_relative_name && crl_issuer.is_none() {
            return Err(ParseError::invalid(field, "a place has neither a name nor an issuer"));
        }
        Ok(Self { full_name, has_relative_name, reasons, crl_issuer })
    }
}

impl AuthorityInformationAccess {
    /// Reads the value of an authorityInfoAccess extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "authorityInfoAccess";
        let mut reader = whole_sequence(value, field)?;
        let mut descriptions = Vec::new();
        while !reader.is_empty() {
            let mut description = reader.sequence(field)?;
            let method = match description.oid(field)? {
                oid::ACCESS_CA_ISSUERS => AccessMethod::CaIssuers,
                oid::ACCESS_OCSP => AccessMethod::Ocsp,
                other => AccessMethod::Other(other.to_vec()),
            };
            let location = GeneralName::decode(&description.any(field)?, field)?;
            description.finish(field)?;
            descriptions.push(AccessDescription { method, location });
        }
        if descriptions.is_empty() {
            return Err(ParseError::invalid(field, "at least one place must be there"));
        }
        Ok(Self { descriptions })
    }

    /// Writes the value of an authorityInfoAccess extension: OCSP responders, then certificates of the issuer.
    pub fn encode_urls(ocsp: &[Uri], ca_issuers: &[Uri], writer: &mut Writer) {
        let methods = [(oid::ACCESS_OCSP, ocsp), (oid::ACCESS_CA_ISSUERS, ca_issuers)];
        writer.sequence(|writer| {
            for (method, urls) in methods {
                for url in urls {
                    writer.sequence(|writer| {
                        writer.oid(method);
                        encode_uri(url, writer);
                    });
                }
            }
        });
    }

    /// The URIs with this method.
    pub fn urls(&self, method: AccessMethod) -> impl Iterator<Item = &Uri> {
        self.descriptions.iter().filter(move |description| description.method == method).filter_map(|description| {
            match &description.location {
                Ok(GeneralName::Uri(uri)) => Some(uri),
                _ => None,
            }
        })
    }
}

impl IssuingDistributionPoint {
    /// Reads the value of an issuingDistributionPoint extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "issuingDistributionPoint";
        let mut reader = whole_sequence(value, field)?;
        if reader.is_empty() {
            return Err(ParseError::invalid(field, "it is empty"));
        }
        let (full_name, has_relative_name) = decode_place(&mut reader, field)?;
        let point = Self {
            full_name,
            has_relative_name,
            only_user_certificates: implicit_true(&mut reader, 1, field)?,
            only_authority_certificates: implicit_true(&mut reader, 2, field)?,
            only_some_reasons: decode_reasons(&mut reader, 3, field)?,
            is_indirect: implicit_true(&mut reader, 4, field)?,
            only_attribute_certificates: implicit_true(&mut reader, 5, field)?,
        };
        reader.finish(field)?;
        let kinds =
            [point.only_user_certificates, point.only_authority_certificates, point.only_attribute_certificates];
        if kinds.into_iter().filter(|only| *only).count() > 1 {
            return Err(ParseError::invalid(field, "it covers only certificates of two kinds at once"));
        }
        Ok(point)
    }

    /// Writes the value with full names alone.
    pub fn encode_urls(urls: &[Uri], writer: &mut Writer) {
        writer.sequence(|writer| encode_place(urls, writer));
    }

    /// The URIs of the place where the list is.
    pub fn urls(&self) -> impl Iterator<Item = &Uri> {
        self.full_name.iter().flat_map(uris)
    }
}

fn uris(names: &GeneralNames) -> impl Iterator<Item = &Uri> {
    names.valid().filter_map(|name| match name {
        GeneralName::Uri(uri) => Some(uri),
        _ => None,
    })
}

/// `distributionPoint [0]`: full names, or whether a relative one is there.
fn decode_place(reader: &mut Reader<'_>, field: &'static str) -> Result<(Option<GeneralNames>, bool), ParseError> {
    let Some(element) = reader.optional(tag::context_constructed(0), field)? else {
        return Ok((None, false));
    };
    let mut name = element.open(field)?;
    let place = match name.any(field)? {
        full @ Element { tag: FULL_NAME, .. } => (Some(GeneralNames::decode(full.open(field)?, field)?), false),
        Element { tag: RELATIVE_NAME, .. } => (None, true),
        other => return Err(ParseError::invalid(field, "a place has no name").at(other.offset)),
    };
    name.finish(field)?;
    Ok(place)
}

const FULL_NAME: u8 = tag::context_constructed(0);
const RELATIVE_NAME: u8 = tag::context_constructed(1);

/// Reasons as named bits, at least one of them.
fn decode_reasons(reader: &mut Reader<'_>, number: u8, field: &'static str) -> Result<Option<u16>, ParseError> {
    let Some(element) = reader.optional(tag::context(number), field)? else {
        return Ok(None);
    };
    match element.named_bits(field)? {
        0 => Err(ParseError::invalid(field, "a set of reasons is empty").at(element.offset)),
        bits => Ok(Some(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Uri {
        Uri::parse(text).unwrap()
    }

    #[test]
    fn places_are_written_and_read_back() {
        let urls = [url("http://a.example/1.crl"), url("http://b.example/1.crl")];
        let mut writer = Writer::new();
        encode_crl_urls(&urls, &mut writer);
        let points = CrlDistributionPoints::decode(&writer.into_bytes()).unwrap();
        assert!(points.urls().eq(&urls));
        assert_eq!(points.points.len(), 1);

        let mut writer = Writer::new();
        AuthorityInformationAccess::encode_urls(&urls[..1], &urls[1..], &mut writer);
        let access = AuthorityInformationAccess::decode(&writer.into_bytes()).unwrap();
        assert!(access.urls(AccessMethod::Ocsp).eq(&urls[..1]));
        assert!(access.urls(AccessMethod::CaIssuers).eq(&urls[1..]));

        let mut writer = Writer::new();
        IssuingDistributionPoint::encode_urls(&urls, &mut writer);
        let point = IssuingDistributionPoint::decode(&writer.into_bytes()).unwrap();
        assert!(point.urls().eq(&urls));
        assert_eq!(point.only_some_reasons, None);
    }

    #[test]
    fn empty_and_contradictory_places_are_refused() {
        for der in
            [&[0x30, 0][..], &[0x30, 2, 0x30, 0], &[0x30, 6, 0x30, 4, 0x81, 2, 7, 0x80], &[0x30, 4, 0x30, 2, 0xa0, 0]]
        {
            assert!(CrlDistributionPoints::decode(der).is_err(), "{der:02x?}");
        }
        let points: [&[u8]; 6] = [
            &[0x30, 0],
            &[0x30, 3, 0x83, 1, 0],
            &[0x30, 2, 0x83, 0],
            &[0x30, 3, 0x81, 1, 0],
            &[0x30, 6, 0x81, 1, 0xff, 0x82, 1, 0xff],
            &[0x30, 6, 0x82, 1, 0xff, 0x81, 1, 0xff],
        ];
        for der in points {
            assert!(IssuingDistributionPoint::decode(der).is_err(), "{der:02x?}");
        }
        let only_authorities = IssuingDistributionPoint::decode(&[0x30, 3, 0x82, 1, 0xff]).unwrap();
        assert!(only_authorities.only_authority_certificates);
        for der in [&[0x30, 0][..], &[0x30, 2, 0x30, 0], &[0x30, 5, 0x30, 3, 6, 1, 0x2a]] {
            assert!(AuthorityInformationAccess::decode(der).is_err(), "{der:02x?}");
        }
    }
}
