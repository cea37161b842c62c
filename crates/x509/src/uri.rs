//! Absolute URIs as certificates carry them (RFC 3986, RFC 5280 §4.2.1.6).
//!
//! A URI is kept as it was written; only what has one host, or none, is accepted. Not a resolver of references.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dns_name::{self, DnsName};
use crate::error::NameError;

/// The longest URI that is accepted, in octets.
pub const URI_OCTETS_MAX: usize = 2048;

/// An absolute URI in printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uri {
    text: String,
    scheme_end: usize,
    host: Option<UriHost>,
}

/// The host in the authority part of a URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UriHost {
    /// A registered name, in lower case. It may hold underscores, as names of trust domains do.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Uri {
    /// Reads a URI: a scheme, and a host where there is an authority part.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::split(text).map_err(|problem| NameError::new("a URI", text, problem))
    }

    /// The URI as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme, as it was written.
    pub fn scheme(&self) -> &str {
        &self.text[..self.scheme_end]
    }

    /// The host, if there is an authority part.
    pub fn host(&self) -> Option<&UriHost> {
        self.host.as_ref()
    }

    fn split(text: &str) -> Result<Self, &'static str> {
        if text.len() > URI_OCTETS_MAX {
            return Err("it is longer than 2048 octets");
        }
        let (scheme, rest) = text.split_once(':').ok_or("it has no scheme")?;
        let mut letters = scheme.bytes();
        let first_is_letter = letters.next().is_some_and(|octet| octet.is_ascii_alphabetic());
        if !first_is_letter || !letters.all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet)) {
            return Err("its scheme is malformed");
        }
        if rest.is_empty() {
            return Err("nothing follows its scheme");
        }
        check_characters(rest)?;
        let host = match rest.strip_prefix("//") {
            Some(rest) => Some(authority_host(&rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())])?),
            None => None,
        };
        Ok(Self { text: text.to_owned(), scheme_end: scheme.len(), host })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// RFC 3986 §2: unreserved and reserved characters, and complete percent-encodings.
fn check_characters(rest: &str) -> Result<(), &'static str> {
    let mut octets = rest.bytes();
    let mut fragments = 0;
    while let Some(octet) = octets.next() {
        match octet {
            b'%' => {
                let complete = octets.next().is_some_and(|octet| octet.is_ascii_hexdigit())
                    && octets.next().is_some_and(|octet| octet.is_ascii_hexdigit());
                if !complete {
                    return Err("a percent sign is followed by two hexadecimal digits");
                }
            }
            b'#' => fragments += 1,
            octet if octet.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=".contains(&octet) => {}
            _ => return Err("it holds a character that must be percent-encoded"),
        }
    }
    if fragments > 1 { Err("it has more than one fragment") } else { Ok(()) }
}

/// RFC 3986 §3.2: `[userinfo@]host[:port]`.
fn authority_host(authority: &str) -> Result<UriHost, &'static str> {
    let (user, host_and_port) = match authority.rsplit_once('@') {
        Some((user, rest)) => (user, rest),
        None => ("", authority),
    };
    if user.contains('@') {
        return Err("its authority part has more than one @");
    }
    let (host, port) = match host_and_port.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']').ok_or("its address has no closing bracket")?;
            let address: Ipv6Addr = address.parse().map_err(|_| "its address is malformed")?;
            (UriHost::Address(IpAddr::V6(address).to_canonical()), port)
        }
        None => {
            let end = host_and_port.find(':').unwrap_or(host_and_port.len());
            (registered_host(&host_and_port[..end])?, &host_and_port[end..])
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(host),
        Some(digits) if digits.bytes().all(|octet| octet.is_ascii_digit()) && digits.parse::<u16>().is_ok() => Ok(host),
        _ => Err("its port is malformed"),
    }
}

fn registered_host(host: &str) -> Result<UriHost, &'static str> {
    if host.is_empty() {
        return Err("it has no host");
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(UriHost::Address(IpAddr::V4(address)));
    }
    if dns_name::ends_in_number(host) {
        return Err("its host is an address in an unusual form");
    }
    let name = host.to_ascii_lowercase();
    // An underscore is not a letter of host names; everything else about the name must hold without it too.
    DnsName::parse_host(&name.replace('_', "x")).map_err(|error| error.problem())?;
    Ok(UriHost::Name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_uris_are_read_with_their_host() {
        let name = |text: &str| Some(UriHost::Name(text.to_owned()));
        let address = |text: &str| Some(UriHost::Address(text.parse().unwrap()));
        let cases = [
            ("https://example.com", name("example.com")),
            ("HTTP://User:p%20w@Example.COM:8080/a?b=c#d", name("example.com")),
            ("spiffe://trust_domain.example/ns/default/sa/web", name("trust_domain.example")),
            ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", None),
            ("mailto:a@example.com", None),
            ("http://192.0.2.1/x", address("192.0.2.1")),
            ("ldap://[2001:db8::1]:389/c=DE?x", address("2001:db8::1")),
            ("http://[::ffff:192.0.2.1]/", address("192.0.2.1")),
        ];
        for (text, host) in cases {
            let uri = Uri::parse(text).unwrap();
            assert_eq!(uri.host(), host.as_ref(), "{text}");
            assert_eq!(uri.as_str(), text);
            assert!(text.starts_with(uri.scheme()));
        }
    }

    #[test]
    fn what_is_not_absolute_or_hides_its_host_is_refused() {
        let cases = [
            "",
            ":",
            "a",
            "/path",
            "//example.com",
            "example.com",
            "1http://a.example",
            "http:",
            "ht_tp:x",
            "http://",
            "http:///path",
            "file:///etc",
            "http://a b",
            "http://a/\n",
            "http://a/\0",
            "http://a/é",
            "http://é.example/",
            "http://a/%zz",
            "http://a/%4",
            "http://a/<x>",
            "http://a/\"",
            "http://a\\b",
            "http://a#b#c",
            "http://a@b@c",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://2130706433/",
            "http://1.2.3/",
            "http://[::1",
            "http://[1]/",
            "http://[fe80::1%25eth0]/",
            "http://a:b/",
            "http://a:65536/",
            "http://a:+1/",
            "http://a..b/",
            "http://%61/",
            "http://*.example.com/",
            "http://a./",
        ];
        for text in cases {
            assert!(Uri::parse(text).is_err(), "{text:?}");
        }
        assert!(Uri::parse(&format!("urn:{}", "a".repeat(URI_OCTETS_MAX))).is_err());
    }
}
