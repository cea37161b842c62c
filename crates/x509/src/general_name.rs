//! Alternative names of subjects and issuers (RFC 5280 §4.2.1.6), each in a type that only holds what may be written.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::der::{Element, Reader, Writer, tag};
use crate::dns_name::DnsName;
use crate::error::{NameError, ParseError, Problem};
use crate::name::DistinguishedName;
use crate::oid;
use crate::uri::Uri;

/// One name of a subject, an issuer, or a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GeneralName {
    /// dNSName.
    Dns(DnsName),
    /// iPAddress.
    Ip(IpAddress),
    /// rfc822Name.
    Email(EmailAddress),
    /// uniformResourceIdentifier.
    Uri(Uri),
    /// directoryName.
    Directory(DistinguishedName),
    /// registeredID: contents octets.
    RegisteredId(Vec<u8>),
    /// otherName, x400Address or ediPartyName.
    Other {
        /// The identifier octet.
        tag: u8,
        /// The whole element.
        der: Vec<u8>,
    },
}

/// A list of names out of a certificate or a request. A single one that breaks the rules of its kind does not make the
/// list unreadable: it is there as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeneralNames {
    names: Vec<Result<GeneralName, NameError>>,
}

/// An IP address; an IPv4 address mapped into IPv6 is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpAddress(IpAddr);

/// A mailbox `local@host` in ASCII; the host in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmailAddress {
    text: String,
    at: usize,
}

/// Tags of the choices of GeneralName.
pub(crate) mod choice {
    use crate::der::tag::{context, context_constructed};

    pub(crate) const OTHER_NAME: u8 = context_constructed(0);
    pub(crate) const EMAIL: u8 = context(1);
    pub(crate) const DNS: u8 = context(2);
    pub(crate) const X400: u8 = context_constructed(3);
    pub(crate) const DIRECTORY: u8 = context_constructed(4);
    pub(crate) const EDI_PARTY: u8 = context_constructed(5);
    pub(crate) const URI: u8 = context(6);
    pub(crate) const IP: u8 = context(7);
    pub(crate) const REGISTERED_ID: u8 = context(8);
}

impl GeneralName {
    /// The name of the kind: `DNS name`, `IP address`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "DNS name",
            Self::Ip(_) => "IP address",
            Self::Email(_) => "e-mail address",
            Self::Uri(_) => "URI",
            Self::Directory(_) => "directory name",
            Self::RegisteredId(_) => "registered id",
            Self::Other { .. } => "other name",
        }
    }

    /// The name as text, without its kind.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Dns(name) => Cow::Borrowed(name.as_str()),
            Self::Ip(address) => Cow::Owned(address.to_string()),
            Self::Email(address) => Cow::Borrowed(address.as_str()),
            Self::Uri(uri) => Cow::Borrowed(uri.as_str()),
            Self::Directory(name) => Cow::Owned(name.render()),
            Self::RegisteredId(content) => Cow::Owned(oid::to_dotted(content)),
            Self::Other { der, .. } => Cow::Owned(format!("#{}", crate::hex(der))),
        }
    }

    /// Writes the name.
    pub fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Dns(name) => writer.primitive(choice::DNS, name.as_str().as_bytes()),
            Self::Ip(IpAddress(IpAddr::V4(address))) => writer.primitive(choice::IP, &address.octets()),
            Self::Ip(IpAddress(IpAddr::V6(address))) => writer.primitive(choice::IP, &address.octets()),
            Self::Email(address) => writer.primitive(choice::EMAIL, address.as_str().as_bytes()),
            Self::Uri(uri) => writer.primitive(choice::URI, uri.as_str().as_bytes()),
            Self::Directory(name) => writer.nested(choice::DIRECTORY, |writer| writer.raw(name.as_der())),
            Self::RegisteredId(content) => writer.primitive(choice::REGISTERED_ID, content),
            Self::Other { der, .. } => writer.raw(der),
        }
    }

    /// Reads one name. The outer error is an element that is no GeneralName, the inner one a value that breaks the rules
    /// of its kind.
    pub fn decode(element: &Element<'_>, field: &'static str) -> Result<Result<Self, NameError>, ParseError> {
        let content = element.content;
        Ok(match element.tag {
            choice::DNS => text(content, "a DNS name").and_then(DnsName::parse).map(Self::Dns),
            choice::EMAIL => text(content, "an e-mail address").and_then(EmailAddress::parse).map(Self::Email),
            choice::URI => text(content, "a URI").and_then(Uri::parse).map(Self::Uri),
            choice::IP => IpAddress::from_octets(content).map(Self::Ip),
            choice::DIRECTORY => {
                let mut reader = element.open(field)?;
                let name = reader.tagged(tag::SEQUENCE, field)?;
                reader.finish(field)?;
                DistinguishedName::from_element(&name, field)
                    .map(Self::Directory)
                    .map_err(|_| NameError::new("a directory name", &crate::hex(content), "it is malformed"))
            }
            choice::REGISTERED_ID if oid::is_valid(content) => Ok(Self::RegisteredId(content.to_vec())),
            choice::REGISTERED_ID => Err(NameError::new("a registered id", &crate::hex(content), "it is malformed")),
            choice::OTHER_NAME | choice::X400 | choice::EDI_PARTY => {
                Ok(Self::Other { tag: element.tag, der: element.whole.to_vec() })
            }
            found => {
                return Err(
                    ParseError::new(field, Problem::UnexpectedTag { expected: choice::DNS, found }).at(element.offset)
                );
            }
        })
    }
}

impl GeneralNames {
    /// Reads the contents of a SEQUENCE OF GeneralName, which holds at least one.
    pub fn decode(mut reader: Reader<'_>, field: &'static str) -> Result<Self, ParseError> {
        let mut names = Vec::new();
        while !reader.is_empty() {
            names.push(GeneralName::decode(&reader.any(field)?, field)?);
        }
        if names.is_empty() {
            return Err(ParseError::invalid(field, "a list of names holds at least one"));
        }
        Ok(Self { names })
    }

    /// Each name, or why it is none.
    pub fn iter(&self) -> impl Iterator<Item = Result<&GeneralName, &NameError>> {
        self.names.iter().map(Result::as_ref)
    }

    /// The names that keep the rules of their kind.
    pub fn valid(&self) -> impl Iterator<Item = &GeneralName> {
        self.names.iter().filter_map(|name| name.as_ref().ok())
    }

    /// All the names, or the first error.
    pub fn into_valid(self) -> Result<Vec<GeneralName>, NameError> {
        self.names.into_iter().collect()
    }

    /// How many names there are, those with errors included.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none; never so for a list that was read.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl IpAddress {
    /// Reads the usual text form of an address: four decimal numbers without leading zeros, or RFC 4291 §2.2 without a
    /// zone.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self::new).map_err(|_| NameError::new("an IP address", text, "it is not in the usual form"))
    }

    /// Reads 4 or 16 octets.
    pub fn from_octets(octets: &[u8]) -> Result<Self, NameError> {
        if let Ok(octets) = <[u8; 4]>::try_from(octets) {
            return Ok(Self::new(octets.into()));
        }
        if let Ok(octets) = <[u8; 16]>::try_from(octets) {
            return Ok(Self::new(octets.into()));
        }
        Err(NameError::new("an IP address", &crate::hex(octets), "it has neither 4 nor 16 octets"))
    }

    /// The address, an IPv4-mapped one as IPv4.
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for IpAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl EmailAddress {
    /// Reads a mailbox: a dot-atom of at most 64 octets, `@`, and one host (RFC 5321 §4.1.2; no quoted local part).
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refuse = |problem| NameError::new("an e-mail address", text, problem);
        let (local, host) = text.rsplit_once('@').ok_or_else(|| refuse("it has no @"))?;
        if local.is_empty() || local.len() > 64 {
            return Err(refuse("the part before the @ has 1 to 64 octets"));
        }
        let is_atom = |atom: &str| {
            let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet);
            !atom.is_empty() && atom.bytes().all(allowed)
        };
        if !local.split('.').all(is_atom) {
            return Err(refuse("the part before the @ holds a character or a dot that is not allowed there"));
        }
        if !host.is_ascii() {
            return Err(refuse("the host is not written in ASCII"));
        }
        let host = DnsName::parse_host(host).map_err(|error| refuse(error.problem()))?;
        Ok(Self { text: format!("{local}@{host}"), at: local.len() })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`, whose case matters.
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The host, in lower case.
    pub fn host(&self) -> &str {
        &self.text[self.at + 1..]
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The contents of an IA5String as text. Non-ASCII octets are an error of the value, as are U-labels in a certificate.
fn text<'a>(content: &'a [u8], kind: &'static str) -> Result<&'a str, NameError> {
    crate::der::ascii(content)
        .ok_or_else(|| NameError::new(kind, &String::from_utf8_lossy(content), "it is not written in ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(der: &[u8]) -> Result<Result<GeneralName, NameError>, ParseError> {
        GeneralName::decode(&Reader::new(der).any("name").unwrap(), "name")
    }

    #[test]
    fn each_kind_is_written_and_read_back() {
        let directory = DistinguishedName::build(&[(crate::name::AttributeType::CommonName, "x")]).unwrap();
        let other = vec![choice::OTHER_NAME, 9, 6, 3, 0x2a, 3, 4, 0xa0, 2, 5, 0];
        let names = [
            GeneralName::Dns(DnsName::parse("*.example.com").unwrap()),
            GeneralName::Ip(IpAddress::parse("192.0.2.1").unwrap()),
            GeneralName::Ip(IpAddress::parse("2001:db8::1").unwrap()),
            GeneralName::Email(EmailAddress::parse("Jo.Doe+x@Example.com").unwrap()),
            GeneralName::Uri(Uri::parse("spiffe://example/web").unwrap()),
            GeneralName::Directory(directory),
            GeneralName::RegisteredId(vec![0x2a, 3, 4]),
            GeneralName::Other { tag: choice::OTHER_NAME, der: other },
        ];
        for name in names {
            let mut writer = Writer::new();
            name.encode(&mut writer);
            assert_eq!(decode(&writer.into_bytes()), Ok(Ok(name)));
        }
    }

    #[test]
    fn a_bad_value_is_an_error_in_its_place() {
        let bad: [&[u8]; 8] = [
            &[choice::DNS, 3, b'a', b'_', b'b'],
            &[choice::DNS, 0],
            &[choice::DNS, 2, 0xc3, 0xbc],
            &[choice::IP, 5, 1, 2, 3, 4, 5],
            &[choice::IP, 8, 10, 0, 0, 0, 255, 0, 0, 0],
            &[choice::EMAIL, 1, b'a'],
            &[choice::URI, 2, b'/', b'a'],
            &[choice::REGISTERED_ID, 1, 0x80],
        ];
        for der in bad {
            assert!(matches!(decode(der), Ok(Err(_))), "{der:02x?}");
        }
        for der in [&[0x82 | 0x20, 1, b'a'][..], &[0x0c, 1, b'a'], &[0x89, 1, b'a'], &[0xa4, 2, 5, 0]] {
            assert!(decode(der).is_err(), "{der:02x?}");
        }
        let list = [bad[0], &[choice::DNS, 1, b'a']].concat();
        let names = GeneralNames::decode(Reader::new(&list), "names").unwrap();
        assert_eq!((names.len(), names.valid().count()), (2, 1));
        assert!(names.into_valid().is_err());
        assert!(GeneralNames::decode(Reader::new(&[]), "names").is_err());
    }

    #[test]
    fn addresses_have_one_form() {
        assert_eq!(IpAddress::parse("::ffff:1.2.3.4"), IpAddress::parse("1.2.3.4"));
        assert_eq!(IpAddress::parse("2001:DB8::1").unwrap().to_string(), "2001:db8::1");
        for text in [
            "",
            "1.2.3",
            "01.2.3.4",
            "0x7f.1",
            "2130706433",
            "[::1]",
            "fe80::1%eth0",
            "fe80::1%25eth0",
            "1.2.3.4/8",
            " 1.2.3.4",
        ] {
            assert!(IpAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mailboxes_are_checked() {
        let address = EmailAddress::parse("Jo.Doe@EXAMPLE.com").unwrap();
        assert_eq!(
            (address.local(), address.host(), address.as_str()),
            ("Jo.Doe", "example.com", "Jo.Doe@example.com")
        );
        let long = format!("{}@example.com", "a".repeat(65));
        let cases = [
            "",
            "a",
            "@a",
            "a@",
            "a@b@c",
            ".a@b",
            "a.@b",
            "a..b@c",
            "a b@c",
            "\"a\"@b",
            "a@*.b.c",
            "a@[1.2.3.4]",
            "a@1.2.3.4",
            "a@b_c",
            "ü@b",
            "a@ü.example",
            "a\0@b",
            "a@b.",
            &long,
        ];
        for text in cases {
            assert!(EmailAddress::parse(text).is_err(), "{text:?}");
        }
    }
}
