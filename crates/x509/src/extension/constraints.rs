//! What an authority may certify: basicConstraints and nameConstraints (RFC 5280 §4.2.1.9, §4.2.1.10).

use std::net::IpAddr;

use ipnet::IpNet;

use super::whole_sequence;
use crate::der::{Element, Reader, Writer, ascii, tag};
use crate::dns_name::DnsName;
use crate::error::ParseError;
use crate::general_name::{EmailAddress, choice};
use crate::name::DistinguishedName;

/// Whether the subject is an authority, and how many authorities may be below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BasicConstraints {
    /// Whether the subject is an authority.
    pub ca: bool,
    /// The most intermediate certificates between it and an end entity. It has a meaning only for an authority; it is
    /// read where it stands all the same.
    pub path_length: Option<u32>,
}

/// The names that an authority, and those below it, may certify. At least one subtree is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameConstraints {
    /// A name of a kind that is named here must be in one of its subtrees.
    pub permitted: Vec<Subtree>,
    /// A name must be in none of these.
    pub excluded: Vec<Subtree>,
}

impl NameConstraints {
    /// Whether DNS names must be in some subtree.
    pub fn permits_some_dns_names_only(&self) -> bool {
        self.permitted.iter().any(|subtree| matches!(subtree, Subtree::Dns(host) if !host.is_empty()))
    }
}

/// A set of names of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtree {
    /// This host, in lower case, and all names below it; all names when it is empty.
    Dns(String),
    /// These addresses.
    Ip(IpNet),
    /// These mailboxes.
    Email(EmailSubtree),
    /// URIs with these hosts.
    Uri(UriSubtree),
    /// Names that begin with this one.
    Directory(DistinguishedName),
    /// A kind that is not interpreted. Where it is constrained, no name of the kind can be accepted.
    Other {
        /// The identifier octet of the GeneralName.
        tag: u8,
        /// The GeneralName.
        der: Vec<u8>,
    },
}

/// A set of mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmailSubtree {
    /// One mailbox.
    Mailbox(EmailAddress),
    /// All mailboxes at this host, in lower case.
    Host(String),
    /// All mailboxes at hosts below this domain, in lower case, without its leading dot.
    Domain(String),
}

/// A set of hosts of URIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriSubtree {
    /// This host, in lower case.
    Host(String),
    /// All hosts below this domain, in lower case, without its leading dot.
    Domain(String),
}

impl BasicConstraints {
    /// Reads the value of a basicConstraints extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "basicConstraints";
        let mut reader = whole_sequence(value, field)?;
        let ca = reader.boolean_default_false("basicConstraints.cA")?;
        let path_length = match reader.peek() {
            Some(tag::INTEGER) => Some(reader.unsigned_u32("basicConstraints.pathLenConstraint")?),
            _ => None,
        };
        reader.finish(field)?;
        Ok(Self { ca, path_length })
    }

    /// Writes the value of a basicConstraints extension. A path length is written only for an authority.
    pub fn encode(self, writer: &mut Writer) {
        writer.sequence(|writer| {
            if self.ca {
                writer.boolean(true);
                if let Some(path_length) = self.path_length {
                    writer.unsigned_u64(path_length.into());
                }
            }
        });
    }
}

impl NameConstraints {
    /// Reads the value of a nameConstraints extension. A subtree that is malformed makes the whole value unreadable: what
    /// it would have constrained is not known.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "nameConstraints";
        let mut reader = whole_sequence(value, field)?;
        let permitted = decode_subtrees(&mut reader, 0, "nameConstraints.permittedSubtrees")?;
        let excluded = decode_subtrees(&mut reader, 1, "nameConstraints.excludedSubtrees")?;
        reader.finish(field)?;
        if permitted.is_empty() && excluded.is_empty() {
            return Err(ParseError::invalid(field, "it constrains nothing"));
        }
        Ok(Self { permitted, excluded })
    }

    /// Writes the value of a nameConstraints extension.
    pub fn encode(&self, writer: &mut Writer) {
        writer.sequence(|writer| {
            for (number, subtrees) in [(0, &self.permitted), (1, &self.excluded)] {
                if !subtrees.is_empty() {
                    writer.context(number, |writer| {
                        subtrees.iter().for_each(|subtree| writer.sequence(|writer| subtree.encode(writer)));
                    });
                }
            }
        });
    }
}

impl Subtree {
    /// Reads the subtree of a host name: the name itself, without a leading dot, or nothing for all names.
    pub fn dns(text: &str) -> Result<Self, ParseError> {
        let field = "nameConstraints.dNSName";
        if text.is_empty() {
            return Ok(Self::Dns(String::new()));
        }
        host(text, field).map(Self::Dns)
    }

    /// Reads a set of mailboxes: a mailbox, a host, or a domain with a leading dot.
    pub fn email(text: &str) -> Result<Self, ParseError> {
        let field = "nameConstraints.rfc822Name";
        let subtree = match text.strip_prefix('.') {
            Some(domain) => EmailSubtree::Domain(host(domain, field)?),
            None if text.contains('@') => EmailSubtree::Mailbox(
                EmailAddress::parse(text).map_err(|error| ParseError::invalid(field, error.problem()))?,
            ),
            None => EmailSubtree::Host(host(text, field)?),
        };
        Ok(Self::Email(subtree))
    }

    /// Reads a set of hosts of URIs: a host, or a domain with a leading dot.
    pub fn uri(text: &str) -> Result<Self, ParseError> {
        let field = "nameConstraints.uniformResourceIdentifier";
        let subtree = match text.strip_prefix('.') {
            Some(domain) => UriSubtree::Domain(host(domain, field)?),
            None => UriSubtree::Host(host(text, field)?),
        };
        Ok(Self::Uri(subtree))
    }

    fn decode(element: &Element<'_>, field: &'static str) -> Result<Self, ParseError> {
        let text = || {
            ascii(element.content).ok_or_else(|| ParseError::invalid(field, "a name is not ASCII").at(element.offset))
        };
        match element.tag {
            choice::DNS => Self::dns(text()?),
            choice::EMAIL => Self::email(text()?),
            choice::URI => Self::uri(text()?),
            choice::IP => decode_network(element.content)
                .map(Self::Ip)
                .ok_or_else(|| ParseError::invalid(field, "an address range is malformed").at(element.offset)),
            choice::DIRECTORY => {
                let mut reader = element.open(field)?;
                let name = reader.tagged(tag::SEQUENCE, field)?;
                reader.finish(field)?;
                DistinguishedName::from_element(&name, field).map(Self::Directory)
            }
            choice::OTHER_NAME | choice::X400 | choice::EDI_PARTY | choice::REGISTERED_ID => {
                Ok(Self::Other { tag: element.tag, der: element.whole.to_vec() })
            }
            _ => Err(ParseError::invalid(field, "a name is of no kind that exists").at(element.offset)),
        }
    }

    fn encode(&self, writer: &mut Writer) {
        let dotted = |domain: &str| format!(".{domain}").into_bytes();
        match self {
            Self::Dns(host) => writer.primitive(choice::DNS, host.as_bytes()),
            Self::Ip(network) => writer.primitive(choice::IP, &encode_network(*network)),
            Self::Email(EmailSubtree::Mailbox(mailbox)) => writer.primitive(choice::EMAIL, mailbox.as_str().as_bytes()),
            Self::Email(EmailSubtree::Host(host)) => writer.primitive(choice::EMAIL, host.as_bytes()),
            Self::Email(EmailSubtree::Domain(domain)) => writer.primitive(choice::EMAIL, &dotted(domain)),
            Self::Uri(UriSubtree::Host(host)) => writer.primitive(choice::URI, host.as_bytes()),
            Self::Uri(UriSubtree::Domain(domain)) => writer.primitive(choice::URI, &dotted(domain)),
            Self::Directory(name) => writer.nested(choice::DIRECTORY, |writer| writer.raw(name.as_der())),
            Self::Other { der, .. } => writer.raw(der),
        }
    }
}

fn decode_subtrees(reader: &mut Reader<'_>, number: u8, field: &'static str) -> Result<Vec<Subtree>, ParseError> {
    let Some(element) = reader.optional(tag::context_constructed(number), field)? else {
        return Ok(Vec::new());
    };
    let mut list = element.open(field)?;
    let mut subtrees = Vec::new();
    while !list.is_empty() {
        let mut subtree = list.sequence(field)?;
        subtrees.push(Subtree::decode(&subtree.any(field)?, field)?);
        // RFC 5280 §4.2.1.10: minimum is zero, which DER leaves out, and maximum is absent.
        subtree.finish(field)?;
    }
    if subtrees.is_empty() {
        return Err(ParseError::invalid(field, "a list of subtrees holds at least one").at(element.offset));
    }
    Ok(subtrees)
}

fn host(text: &str, field: &'static str) -> Result<String, ParseError> {
    DnsName::parse_host(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|error| ParseError::invalid(field, error.problem()))
}

/// RFC 5280 §4.2.1.10: address and mask, 8 or 32 octets; the ones of the mask come first.
fn decode_network(octets: &[u8]) -> Option<IpNet> {
    let half = octets.len() / 2;
    let address = |octets: &[u8]| -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
        v4.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
    };
    let (network, mask) = (address(&octets[..half])?, address(&octets[half..])?);
    IpNet::with_netmask(network, mask).ok().map(|network| network.trunc())
}

fn encode_network(network: IpNet) -> Vec<u8> {
    match network {
        IpNet::V4(network) => [network.network().octets(), network.netmask().octets()].concat(),
        IpNet::V6(network) => [network.network().octets(), network.netmask().octets()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::AttributeType;

    #[test]
    fn basic_constraints_are_written_and_read_back() {
        let cases: [(bool, Option<u32>, &[u8]); 4] = [
            (false, None, &[0x30, 0]),
            (true, None, &[0x30, 3, 1, 1, 0xff]),
            (true, Some(0), &[0x30, 6, 1, 1, 0xff, 2, 1, 0]),
            (true, Some(128), &[0x30, 7, 1, 1, 0xff, 2, 2, 0, 128]),
        ];
        for (ca, path_length, der) in cases {
            let constraints = BasicConstraints { ca, path_length };
            let mut writer = Writer::new();
            constraints.encode(&mut writer);
            assert_eq!(writer.into_bytes(), der);
            assert_eq!(BasicConstraints::decode(der), Ok(constraints));
        }
        let bad: [&[u8]; 6] = [
            &[0x30, 3, 1, 1, 0],
            &[0x30, 3, 1, 1, 1],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 0xff],
            &[0x30, 0, 0],
            &[0x30, 6, 2, 1, 0, 1, 1, 0xff],
            &[],
        ];
        for der in bad {
            assert!(BasicConstraints::decode(der).is_err(), "{der:02x?}");
        }
    }

    #[test]
    fn name_constraints_of_every_kind_are_written_and_read_back() {
        let directory = DistinguishedName::build(&[(AttributeType::Country, "DE")]).unwrap();
        let constraints = NameConstraints {
            permitted: vec![
                Subtree::dns("Example.com").unwrap(),
                Subtree::dns("").unwrap(),
                Subtree::Ip("10.0.0.0/8".parse().unwrap()),
                Subtree::Ip("2001:db8::/33".parse().unwrap()),
                Subtree::Directory(directory),
            ],
            excluded: vec![
                Subtree::email("a@example.com").unwrap(),
                Subtree::email("example.com").unwrap(),
                Subtree::email(".example.com").unwrap(),
                Subtree::uri("example.com").unwrap(),
                Subtree::uri(".example.com").unwrap(),
                Subtree::Other { tag: choice::REGISTERED_ID, der: vec![choice::REGISTERED_ID, 1, 0x2a] },
            ],
        };
        let mut writer = Writer::new();
        constraints.encode(&mut writer);
        assert_eq!(NameConstraints::decode(&writer.into_bytes()), Ok(constraints));
    }

    #[test]
    fn constraints_that_cannot_be_understood_are_refused() {
        let with = |name: &[u8]| {
            let mut writer = Writer::new();
            writer.sequence(|writer| writer.context(0, |writer| writer.sequence(|writer| writer.raw(name))));
            NameConstraints::decode(&writer.into_bytes())
        };
        assert!(with(&[choice::DNS, 1, b'a']).is_ok());
        let bad: [&[u8]; 9] = [
            &[choice::DNS, 2, b'.', b'a'],
            &[choice::DNS, 3, b'*', b'.', b'a'],
            &[choice::IP, 4, 10, 0, 0, 0],
            &[choice::IP, 8, 10, 0, 0, 0, 255, 0, 255, 0],
            &[choice::IP, 0],
            &[choice::EMAIL, 3, b'@', b'a', b'b'],
            &[choice::URI, 0],
            &[choice::DNS, 1, b'a', 0x80, 1, 0],
            &[0x0c, 1, b'a'],
        ];
        for name in bad {
            assert!(with(name).is_err(), "{name:02x?}");
        }
        for der in [&[0x30, 0][..], &[0x30, 2, 0xa0, 0], &[0x30, 4, 0xa0, 0, 0xa1, 0]] {
            assert!(NameConstraints::decode(der).is_err(), "{der:02x?}");
        }
    }
}
