//! Names of hosts as certificates carry them (RFC 5280 §4.2.1.6, RFC 5890, RFC 6125 §6.4).
//!
//! One host has one text: lower-case letters, digits and hyphens in labels, A-labels for internationalised ones, no
//! trailing dot. A name that ends in a dot is refused, not stripped.

use std::borrow::Cow;
use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::error::NameError;

/// The longest name, in octets.
pub const NAME_OCTETS_MAX: usize = 253;
/// The longest label, in octets.
pub const LABEL_OCTETS_MAX: usize = 63;

/// The name of a host, or of all hosts one label below one (`*.example.com`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(String);

impl DnsName {
    /// Reads a name that a person or a program wrote: any case, U-labels allowed, a wildcard allowed as the whole first
    /// label above at least two others.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refuse = |problem| NameError::new("a DNS name", text, problem);
        let (wildcard, host) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // Four octets of UTF-8 never become less than one of an A-label: a longer text cannot be a name.
        if host.len() > 4 * NAME_OCTETS_MAX {
            return Err(refuse("it is longer than 253 octets"));
        }
        let host = to_ascii(host).map_err(refuse)?;
        let name = if wildcard { format!("*.{host}") } else { host.into_owned() };
        if name.len() > NAME_OCTETS_MAX {
            return Err(refuse("it is longer than 253 octets"));
        }
        if wildcard && !host_of(&name).contains('.') {
            return Err(refuse("a wildcard stands above at least two labels"));
        }
        Ok(Self(name))
    }

    /// As [`DnsName::parse`], for one host: no wildcard.
    pub fn parse_host(text: &str) -> Result<Self, NameError> {
        let name = Self::parse(text)?;
        if name.is_wildcard() {
            return Err(NameError::new("a host name", text, "it must not be a wildcard"));
        }
        Ok(name)
    }

    /// The name in lower-case ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the first label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name without its wildcard label, if it has one.
    pub fn without_wildcard(&self) -> &str {
        host_of(&self.0)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn host_of(name: &str) -> &str {
    name.strip_prefix("*.").unwrap_or(name)
}

/// The lower-case ASCII form of a host name, with all rules but its length as a whole.
fn to_ascii(host: &str) -> Result<Cow<'_, str>, &'static str> {
    let ascii = if host.is_ascii() {
        check_labels(host)?;
        if host.bytes().any(|octet| octet.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    } else {
        Cow::Owned(from_unicode(host)?)
    };
    if ascii.split('.').any(|label| label.starts_with("xn--")) {
        check_a_labels(&ascii)?;
    }
    if ends_in_number(&ascii) {
        return Err("it is an IP address or looks like one");
    }
    Ok(ascii)
}

/// RFC 1123 §2.1, RFC 5890 §2.3.1: letters, digits, hyphens inside; hyphens in third and fourth place are reserved.
fn check_labels(host: &str) -> Result<(), &'static str> {
    for label in host.split('.') {
        let octets = label.as_bytes();
        if octets.is_empty() {
            return Err("it has an empty label; a leading or trailing dot is not allowed");
        }
        if octets.len() > LABEL_OCTETS_MAX {
            return Err("a label is longer than 63 octets");
        }
        if octets.contains(&b'*') {
            return Err("a wildcard is only allowed as the whole first label");
        }
        if !octets.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-') {
            return Err("only letters, digits and hyphens are allowed in a label");
        }
        if octets.starts_with(b"-") || octets.ends_with(b"-") {
            return Err("a label must not begin or end with a hyphen");
        }
        if octets.get(2..4) == Some(b"--") && !octets[..2].eq_ignore_ascii_case(b"xn") {
            return Err("hyphens in third and fourth place are reserved");
        }
    }
    Ok(())
}

/// UTS 46 without its mappings: what would become another text than lower-casing makes of it is refused.
fn from_unicode(host: &str) -> Result<String, &'static str> {
    const PROBLEM: &str = "it is not a valid internationalised name in its normal form";
    let ascii = uts46_to_ascii(host).ok_or(PROBLEM)?;
    let (unicode, outcome) = Uts46::new().to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    if outcome.is_err() || *unicode != host.to_lowercase() {
        return Err(PROBLEM);
    }
    check_labels(&ascii)?;
    Ok(ascii.into_owned())
}

/// Each A-label is the one that its U-label has (RFC 5891 §4.2, RUSTSEC-2024-0421).
fn check_a_labels(ascii: &str) -> Result<(), &'static str> {
    const PROBLEM: &str = "a label that begins with xn-- is not a valid A-label";
    let (unicode, outcome) = Uts46::new().to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    if outcome.is_err() {
        return Err(PROBLEM);
    }
    let all_decoded = unicode.split('.').zip(ascii.split('.')).all(|(u_label, a_label)| {
        let decoded = u_label != a_label;
        decoded == a_label.starts_with("xn--")
    });
    if all_decoded && uts46_to_ascii(&unicode).is_some_and(|again| again == ascii) { Ok(()) } else { Err(PROBLEM) }
}

fn uts46_to_ascii(host: &str) -> Option<Cow<'_, str>> {
    Uts46::new().to_ascii(host.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify).ok()
}

/// Whether resolvers would take the name for an IPv4 address in one of its many forms: its last label is a number.
pub(crate) fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    if !last.is_empty() && last.bytes().all(|octet| octet.is_ascii_digit()) {
        return true;
    }
    let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    digits.is_some_and(|digits| digits.bytes().all(|octet| octet.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_text() {
        let cases = [
            ("example.com", "example.com"),
            ("WWW.Example.COM", "www.example.com"),
            ("localhost", "localhost"),
            ("a-b.c1.example", "a-b.c1.example"),
            ("3com.example", "3com.example"),
            ("*.example.com", "*.example.com"),
            ("*.Bücher.example", "*.xn--bcher-kva.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("straße.example", "xn--strae-oqa.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
        ];
        for (text, expected) in cases {
            let name = DnsName::parse(text).unwrap();
            assert_eq!(name.as_str(), expected);
            assert_eq!(name.is_wildcard(), text.starts_with('*'));
            assert_eq!(DnsName::parse(expected).unwrap(), name);
        }
        assert!(DnsName::parse(&"a".repeat(63)).is_ok());
        let longest = format!("{}{}", format!("{}.", "a".repeat(63)).repeat(3), "b".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(DnsName::parse(&longest).is_ok());
        assert!(DnsName::parse(&format!("{longest}b")).is_err());
        assert!(DnsName::parse(&format!("*.{}", &longest[2..])).is_ok());
        assert!(DnsName::parse(&format!("*.{}", &longest[1..])).is_err());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let shapes =
            ["", ".", "a.", ".a", "a..b", " a", "a ", "a b", "a\tb", "a\0b", "a\nb", "-a", "a-", "a.-b", "a_b"];
        let injections =
            ["DNS:a,DNS:b", "email:copy", "dirName:x", "a,b", "a/b", "a\"b", "a;b", "http://a", "a:80", "a@b"];
        let addresses = [
            "1.2.3.4",
            "0x7f.1",
            "0177.0.0.1",
            "2130706433",
            "0x7f000001",
            "[::1]",
            "::1",
            "fe80::1%25eth0",
            "1.2.3",
            "a.0x",
        ];
        let wildcards =
            ["*", "*.", "*.com", "a*.b.c", "*a.b.c", "*.*.b.c", "a.*.b", "xn--*.b.c", "**.b.c", "*.xn--p1ai"];
        let internationalised = [
            "xn--",
            "xn--a",
            "org.xn--",
            "xn--example-.org",
            "xn--strasse-.example",
            "ab--cd.example",
            "ＥＸＡＭＰＬＥ.com",
            "a。b",
            "u\u{308}.example",
            "a\u{202e}b.example",
            "a\u{200d}b.example",
            "a\u{ad}b.example",
            "\u{2024}",
        ];
        for text in shapes.into_iter().chain(injections).chain(addresses).chain(wildcards).chain(internationalised) {
            assert!(DnsName::parse(text).is_err(), "{text:?}");
        }
        assert!(DnsName::parse(&"a".repeat(64)).is_err());
        assert!(DnsName::parse(&"ü".repeat(100_000)).is_err());
        assert!(DnsName::parse_host("*.example.com").is_err());
    }
}
