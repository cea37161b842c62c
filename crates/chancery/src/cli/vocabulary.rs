//! The API's words as they are typed: algorithms, usages, alternative names, and times from durations.

use std::net::IpAddr;

use clap::{ValueEnum, builder::PossibleValuesParser};
use serde_json::{Value, json};

use crate::cli::failure::Failure;

/// The kind of a key, by the API's name; short names are taken, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyAlgorithm {
    #[value(name = "EC_prime256v1", aliases = ["p256", "P-256", "ec-p256"])]
    EcP256,
    #[value(name = "EC_secp384r1", aliases = ["p384", "P-384", "ec-p384"])]
    EcP384,
    #[value(name = "EC_secp521r1", aliases = ["p521", "P-521", "ec-p521"])]
    EcP521,
    #[value(name = "RSA_2048", aliases = ["rsa2048", "rsa-2048"])]
    Rsa2048,
    #[value(name = "RSA_3072", aliases = ["rsa3072", "rsa-3072"])]
    Rsa3072,
    #[value(name = "RSA_4096", aliases = ["rsa4096", "rsa-4096"])]
    Rsa4096,
    #[value(name = "Ed25519", alias = "ed25519")]
    Ed25519,
}

impl KeyAlgorithm {
    /// The API's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EcP256 => "EC_prime256v1",
            Self::EcP384 => "EC_secp384r1",
            Self::EcP521 => "EC_secp521r1",
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The signature algorithm that a signer with such a key uses unless it is told otherwise (contract §1.8).
    pub(crate) fn signs_with(self) -> SignatureAlgorithm {
        match self {
            Self::EcP256 => SignatureAlgorithm::EcdsaSha256,
            Self::EcP384 => SignatureAlgorithm::EcdsaSha384,
            Self::EcP521 => SignatureAlgorithm::EcdsaSha512,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => SignatureAlgorithm::RsaSha256,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
        }
    }

    /// Only RSA keys encipher keys (RFC 8813 §3).
    pub(crate) fn enciphers(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }
}

/// The API's names of signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SignatureAlgorithm {
    #[value(name = "ECDSA-SHA256")]
    EcdsaSha256,
    #[value(name = "ECDSA-SHA384")]
    EcdsaSha384,
    #[value(name = "ECDSA-SHA512")]
    EcdsaSha512,
    #[value(name = "RSA-SHA256")]
    RsaSha256,
    #[value(name = "RSA-SHA384")]
    RsaSha384,
    #[value(name = "RSA-SHA512")]
    RsaSha512,
    #[value(name = "Ed25519")]
    Ed25519,
}

impl SignatureAlgorithm {
    /// The API's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EcdsaSha256 => "ECDSA-SHA256",
            Self::EcdsaSha384 => "ECDSA-SHA384",
            Self::EcdsaSha512 => "ECDSA-SHA512",
            Self::RsaSha256 => "RSA-SHA256",
            Self::RsaSha384 => "RSA-SHA384",
            Self::RsaSha512 => "RSA-SHA512",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// Asks for no usage at all where a default would be taken.
pub(crate) const NO_USAGE: &str = "none";

const KEY_USAGES: [&str; 9] = [
    "digital_signature",
    "key_encipherment",
    "non_repudiation",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
];

const EXTENDED_KEY_USAGES: [&str; 6] =
    ["client_auth", "server_auth", "code_signing", "email_protection", "ocsp_signing", "time_stamping"];

const SUBJECT_ATTRIBUTES: [&str; 6] =
    ["common_name", "organization", "organizational_unit", "country", "state", "locality"];

/// Takes a key usage.
pub(crate) fn key_usage() -> PossibleValuesParser {
    PossibleValuesParser::new(KEY_USAGES)
}

/// Takes a key usage or `none`.
pub(crate) fn key_usage_or_none() -> PossibleValuesParser {
    PossibleValuesParser::new(KEY_USAGES.into_iter().chain([NO_USAGE]))
}

/// Takes an extended key usage.
pub(crate) fn extended_key_usage() -> PossibleValuesParser {
    PossibleValuesParser::new(EXTENDED_KEY_USAGES)
}

/// Takes an extended key usage or `none`.
pub(crate) fn extended_key_usage_or_none() -> PossibleValuesParser {
    PossibleValuesParser::new(EXTENDED_KEY_USAGES.into_iter().chain([NO_USAGE]))
}

/// A value of one kind: a name, or a pattern for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// The API's word for the kind.
    pub(crate) kind: &'static str,
    pub(crate) value: String,
}

impl Typed {
    /// `{type, value}`, as requests carry names.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "type": self.kind, "value": self.value })
    }
}

/// A subject alternative name: `dns:www.example.com`, `ip:10.0.0.1`, `email:a@example.com`, `uri:https://example.com`;
/// without a kind it is told from the value.
pub(crate) fn parse_alternative_name(text: &str) -> Result<Typed, String> {
    let text = text.trim();
    let typed = match with_kind(text, alternative_name_kind) {
        Some(typed) => typed,
        None => Typed { kind: kind_of_value(text), value: text.to_owned() },
    };
    if typed.value.is_empty() {
        return Err("a name is missing: write dns:www.example.com, ip:10.0.0.1, email:… or uri:…".to_owned());
    }
    if typed.kind == "ip_address" && typed.value.parse::<IpAddr>().is_err() {
        return Err(format!("{} is not an IP address", typed.value));
    }
    Ok(typed)
}

/// A pattern of a policy's SAN rule: as a name, but the kind must be said, as `dns:*.example.com`.
pub(crate) fn parse_alternative_name_pattern(text: &str) -> Result<Typed, String> {
    with_kind(text.trim(), alternative_name_kind)
        .filter(|typed| !typed.value.is_empty())
        .ok_or_else(|| "write kind and pattern, with the kind dns, ip, email or uri: dns:*.example.com".to_owned())
}

/// A pattern of a policy's subject rule, as `common_name:*.example.com`.
pub(crate) fn parse_subject_pattern(text: &str) -> Result<Typed, String> {
    let attribute = |kind: &str| SUBJECT_ATTRIBUTES.into_iter().find(|known| *known == kind);
    with_kind(text.trim(), attribute).filter(|typed| !typed.value.is_empty()).ok_or_else(|| {
        format!("write attribute and pattern, with one of {}: common_name:*.example.com", SUBJECT_ATTRIBUTES.join(", "))
    })
}

/// A name constraint of an authority: `dns:example.com`, `ip:10.0.0.0/8`, `email:example.com`, `uri:example.com`,
/// `directory:O=Acme`.
pub(crate) fn parse_name_constraint(text: &str) -> Result<Typed, String> {
    let kind = |kind: &str| match kind {
        "directory" | "directory_name" => Some("directory_name"),
        other => alternative_name_kind(other),
    };
    with_kind(text.trim(), kind).filter(|typed| !typed.value.is_empty()).ok_or_else(|| {
        "write kind and subtree, with the kind dns, ip, email, uri or directory: dns:example.com, ip:10.0.0.0/8"
            .to_owned()
    })
}

/// A duration such as `90d`, `36h`, `1y` (365.25 days); `m` is a minute.
pub(crate) fn parse_duration(text: &str) -> Result<Lifetime, String> {
    domain::duration::parse_ttl(text)
        .map(|milliseconds| Lifetime { milliseconds })
        .map_err(|problem| problem.to_string())
}

/// How long something lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    milliseconds: i64,
}

impl Lifetime {
    /// Whole days.
    pub(crate) const fn days(days: i64) -> Self {
        Self { milliseconds: days * 24 * 60 * 60 * 1000 }
    }

    /// Whole seconds, rounded up.
    pub(crate) fn seconds(self) -> i64 {
        self.milliseconds.div_euclid(1000) + i64::from(self.milliseconds.rem_euclid(1000) != 0)
    }

    /// The moment that is this far after another.
    pub(crate) fn after(self, moment: jiff::Timestamp) -> Result<jiff::Timestamp, Failure> {
        moment
            .checked_add(jiff::SignedDuration::from_millis(self.milliseconds))
            .map_err(|_| Failure::usage("the lifetime ends after the year 9999"))
    }
}

/// A moment: RFC 3339, or a date, which is its beginning in UTC.
pub(crate) fn parse_moment(text: &str) -> Result<jiff::Timestamp, String> {
    let text = text.trim();
    let moment = if text.len() == 10 { format!("{text}T00:00:00Z").parse() } else { text.parse() };
    moment.map_err(|_: jiff::Error| format!("{text} is not a time: write 2027-01-31 or 2027-01-31T12:00:00Z"))
}

fn alternative_name_kind(kind: &str) -> Option<&'static str> {
    match kind {
        "dns" | "dns_name" => Some("dns_name"),
        "ip" | "ip_address" => Some("ip_address"),
        "email" => Some("email"),
        "uri" => Some("uri"),
        _ => None,
    }
}

fn with_kind(text: &str, kind_of: impl Fn(&str) -> Option<&'static str>) -> Option<Typed> {
    let (kind, value) = text.split_once(':')?;
    let kind = kind_of(&kind.trim().to_ascii_lowercase())?;
    Some(Typed { kind, value: value.trim().to_owned() })
}

fn kind_of_value(value: &str) -> &'static str {
    if value.parse::<IpAddr>().is_ok() {
        "ip_address"
    } else if value.contains("://") {
        "uri"
    } else if value.contains('@') {
        "email"
    } else {
        "dns_name"
    }
}

/// A field and its value, typed as `FIELD=VALUE`.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            _ => Err("write it as FIELD=VALUE".to_owned()),
        }
    }
}

/// The settings as an object. What reads as a number, a truth value, a list or an object of JSON is one; the rest is text.
pub(crate) fn settings(settings: &[Setting]) -> serde_json::Map<String, Value> {
    let value = |text: &str| match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        Ok(value @ (Value::Array(_) | Value::Object(_))) => value,
        _ => text.into(),
    };
    settings.iter().map(|setting| (setting.name.clone(), value(&setting.value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alternative_name_has_the_kind_that_is_said_or_that_it_looks_like() {
        for (text, kind, value) in [
            ("dns:www.example.com", "dns_name", "www.example.com"),
            ("dns_name:www.example.com", "dns_name", "www.example.com"),
            ("DNS: *.example.com ", "dns_name", "*.example.com"),
            ("www.example.com", "dns_name", "www.example.com"),
            ("ip:10.0.0.1", "ip_address", "10.0.0.1"),
            ("10.0.0.1", "ip_address", "10.0.0.1"),
            ("2001:db8::1", "ip_address", "2001:db8::1"),
            ("ip:2001:db8::1", "ip_address", "2001:db8::1"),
            ("email:a@example.com", "email", "a@example.com"),
            ("a@example.com", "email", "a@example.com"),
            ("uri:urn:a:b", "uri", "urn:a:b"),
            ("spiffe://a/b", "uri", "spiffe://a/b"),
        ] {
            let expected = Typed { kind, value: value.to_owned() };
            assert_eq!(parse_alternative_name(text), Ok(expected), "{text}");
        }
        for text in ["", "dns:", "ip:www.example.com", "ip:10.0.0.0/8"] {
            assert!(parse_alternative_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_and_constraints_say_their_kind() {
        let typed = |kind, value: &str| Ok(Typed { kind, value: value.to_owned() });
        assert_eq!(parse_alternative_name_pattern("dns:*.a"), typed("dns_name", "*.a"));
        assert_eq!(parse_subject_pattern("common_name:*"), typed("common_name", "*"));
        assert_eq!(parse_name_constraint("ip:10.0.0.0/8"), typed("ip_address", "10.0.0.0/8"));
        assert_eq!(parse_name_constraint("directory:O=Acme"), typed("directory_name", "O=Acme"));
        for text in ["*.a", "dns:", "", "common_name:a"] {
            assert!(parse_alternative_name_pattern(text).is_err(), "{text}");
        }
        assert!(parse_subject_pattern("dns:a").is_err());
        assert!(parse_name_constraint("example.com").is_err());
    }

    #[test]
    fn moments_are_dates_or_times() {
        assert_eq!(parse_moment("2027-01-31").unwrap(), parse_moment("2027-01-31T00:00:00Z").unwrap());
        assert_eq!(parse_moment("2027-01-31T02:00:00+02:00").unwrap(), parse_moment("2027-01-31").unwrap());
        for text in ["", "tomorrow", "31.01.2027", "2027-02-30"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lifetime_ends_where_its_duration_says() {
        let start = parse_moment("2027-01-01").unwrap();
        assert_eq!(parse_duration("31d").unwrap().after(start).unwrap(), parse_moment("2027-02-01").unwrap());
        assert_eq!(parse_duration("1500").unwrap().seconds(), 2);
        assert_eq!(parse_duration("2d").unwrap(), Lifetime::days(2));
        assert!(parse_duration("9999y").unwrap().after(start).is_err());
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn names_of_algorithms_are_those_that_are_typed() {
        for algorithm in KeyAlgorithm::value_variants() {
            assert_eq!(algorithm.to_possible_value().unwrap().get_name(), algorithm.name());
            assert_eq!(KeyAlgorithm::from_str(algorithm.name(), false), Ok(*algorithm));
        }
        for algorithm in SignatureAlgorithm::value_variants() {
            assert_eq!(algorithm.to_possible_value().unwrap().get_name(), algorithm.name());
        }
    }
}
