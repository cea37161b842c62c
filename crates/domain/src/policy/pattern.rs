//! What a pattern matches. A pattern is a literal, or a glob in which `*` stands for any run of characters, dots and
//! nothing included; it covers the whole value and there are no other special characters (contract §5.2).
//!
//! A wildcard name such as `*.example.com` is a value, too. It stands for all names with one label more, so it is only
//! accepted by a pattern that is meant for it: `*` alone, or a pattern that itself begins with `*.` and whose remainder
//! matches the value's remainder. `*.example.com` accepts `*.example.com` but not `*.internal.example.com`;
//! `*example.com` and `w*.example.com` accept no wildcard. Where a list denies, it is the other way round: a wildcard
//! is denied as soon as one name that it stands for is.

use std::borrow::Cow;
use std::net::IpAddr;

/// How the values of a field compare with patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Character by character.
    Text,
    /// Character by character, but `*.` in front of a value makes it a wildcard.
    CommonName,
    /// As names without upper and lower case (RFC 4343); values arrive in lower case. May be a wildcard.
    DnsName,
    /// As text, but a pattern that is an address means that address however it is written.
    IpAddress,
}

impl Kind {
    /// Whether an `allowed` or `required` pattern takes this value.
    pub(crate) fn accepts(self, pattern: &str, value: &str) -> bool {
        let pattern = self.normal(pattern);
        match self.below_wildcard(value) {
            None => glob_matches(&pattern, value),
            Some(below) => {
                pattern == "*" || pattern.strip_prefix("*.").is_some_and(|pattern| glob_matches(pattern, below))
            }
        }
    }

    /// Whether a `denied` pattern strikes this value.
    pub(crate) fn denies(self, pattern: &str, value: &str) -> bool {
        let pattern = self.normal(pattern);
        glob_matches(&pattern, value)
            || self.below_wildcard(value).is_some_and(|below| matches_some_name_of_wildcard(&pattern, below))
    }

    /// The pattern in the form in which values arrive.
    fn normal(self, pattern: &str) -> Cow<'_, str> {
        match self {
            Self::Text | Self::CommonName => Cow::Borrowed(pattern),
            Self::DnsName => Cow::Owned(pattern.to_ascii_lowercase()),
            Self::IpAddress => match pattern.parse::<IpAddr>() {
                Ok(address) => Cow::Owned(address.to_canonical().to_string()),
                Err(_) => Cow::Owned(pattern.to_ascii_lowercase()),
            },
        }
    }

    /// What follows `*.` in a wildcard name.
    fn below_wildcard(self, value: &str) -> Option<&str> {
        match self {
            Self::CommonName | Self::DnsName => value.strip_prefix("*."),
            Self::Text | Self::IpAddress => None,
        }
    }
}

/// Whether a pattern covers a whole text. Linear in both: each literal between two stars is taken where it occurs
/// first, which never spoils a later match.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    let mut literals = pattern.split('*');
    let Some(mut rest) = literals.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = literals.next_back() else {
        return rest.is_empty();
    };
    for literal in literals {
        match rest.find(literal) {
            Some(at) => rest = &rest[at + literal.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether there is a label so that the pattern matches that label, a dot and `below`.
///
/// The pattern is walked as a machine whose states are its positions: first over a label of one or more characters that
/// are not dots, then over the text that is known.
fn matches_some_name_of_wildcard(pattern: &str, below: &str) -> bool {
    let pattern = pattern.as_bytes();
    let mut before_label = vec![false; pattern.len() + 1];
    let mut in_label = vec![false; pattern.len() + 1];
    before_label[0] = true;
    for (at, &byte) in pattern.iter().enumerate() {
        if byte == b'*' {
            in_label[at] |= before_label[at];
            in_label[at + 1] |= in_label[at];
            before_label[at + 1] |= before_label[at];
        } else if byte != b'.' {
            in_label[at + 1] |= before_label[at] || in_label[at];
        }
    }
    let mut reached = in_label;
    for known in std::iter::once(b'.').chain(below.bytes()) {
        let mut next = vec![false; pattern.len() + 1];
        for (at, &byte) in pattern.iter().enumerate() {
            if byte == b'*' {
                next[at] |= reached[at];
                next[at + 1] |= next[at];
            } else if byte == known {
                next[at + 1] |= reached[at];
            }
        }
        reached = next;
    }
    reached[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "a.b.c", true),
            ("**", "a", true),
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("a", "ba", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", ".example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "www.example.com.evil", false),
            ("*.example.com", "www.exampleXcom", false),
            ("web-*.example.com", "web-1.example.com", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*a*a*", "a", false),
            ("a?c", "abc", false),
            ("[ab]", "a", false),
            ("a.c", "abc", false),
            ("*ü*", "grün", true),
        ] {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn matching_many_stars_takes_no_longer_than_reading() {
        let pattern = "a*".repeat(20_000) + "b";
        assert!(!glob_matches(&pattern, &"a".repeat(60_000)));
    }

    #[test]
    fn a_wildcard_is_accepted_only_by_a_pattern_meant_for_it() {
        for (pattern, value, expected) in [
            ("*", "*.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.EXAMPLE.com", "*.example.com", true),
            ("*.*.example.com", "*.a.example.com", true),
            ("*.*", "*.example.com", true),
            ("*.example.com", "*.a.example.com", false),
            ("*example.com", "*.example.com", false),
            ("*.com", "*.example.com", false),
            ("a*.example.com", "*.example.com", false),
            ("www.example.com", "*.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.a.example.com", "*.example.com", false),
        ] {
            assert_eq!(Kind::DnsName.accepts(pattern, value), expected, "{pattern} {value}");
        }
        assert!(Kind::CommonName.accepts("*.example.com", "*.example.com"));
        assert!(!Kind::CommonName.accepts("*example.com", "*.example.com"));
        assert!(Kind::Text.accepts("*example.com", "*.example.com"));
    }

    #[test]
    fn a_wildcard_is_denied_with_any_name_that_it_stands_for() {
        for (pattern, value, expected) in [
            ("admin.example.com", "*.example.com", true),
            ("a*n.example.com", "*.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*", "*.example.com", true),
            ("*n.*", "*.example.com", true),
            ("a*.com", "*.example.com", true),
            ("a.b.example.com", "*.example.com", false),
            ("*.internal.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            (".example.com", "*.example.com", false),
            ("admin.example.org", "*.example.com", false),
            ("admin.example.com", "www.example.com", false),
            ("ADMIN.example.com", "admin.example.com", true),
            ("", "*.example.com", false),
        ] {
            assert_eq!(Kind::DnsName.denies(pattern, value), expected, "{pattern} {value}");
        }
    }

    #[test]
    fn an_address_is_the_same_however_a_pattern_writes_it() {
        for (pattern, value, expected) in [
            ("2001:DB8:0:0::1", "2001:db8::1", true),
            ("2001:DB8::*", "2001:db8::1", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.*", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.10", false),
        ] {
            assert_eq!(Kind::IpAddress.accepts(pattern, value), expected, "{pattern} {value}");
            assert_eq!(Kind::IpAddress.denies(pattern, value), expected, "{pattern} {value}");
        }
    }
}
