//! The plan of a certificate: everything that it will say except its serial number and its key, out of a request.
//!
//! Names are typed here, from JSON and from a CSR alike (RFC 5280 §4.2.1.6), and what hides a host in a common name is
//! refused. Whether the profile's policy allows the plan is not decided here.

use super::judged::{attribute_type, san_type};
use super::{DirectIssuer, IssuanceRequest, Issuer, Subject, Wishes};
use crate::policy::{PolicyRules, SanType, SubjectAttribute, is_dropped};
use crate::profile::IssuerKind;
use crate::{Error, Reason, Refusal, Result, Time, Violation};
use x509::{
    AttributeType, BasicConstraints, CertificationRequest, DistinguishedName, DnsName, EmailAddress, ExtendedKeyUsage,
    Extensions, GeneralName, IpAddress, KeyAlgorithm, KeyUsage, KeyUsages, NameConstraints, NameError,
    SignatureAlgorithm, Uri, oid,
};

/// Everything that the certificate will say, except its serial number and its key.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) subject: DistinguishedName,
    pub(super) alt_names: Vec<GeneralName>,
    pub(super) key_usages: KeyUsages,
    /// Key usages that were asked for and that the key's algorithm cannot have.
    pub(super) dropped: KeyUsages,
    pub(super) extended_key_usages: Vec<ExtendedKeyUsage>,
    pub(super) basic_constraints: BasicConstraints,
    pub(super) policies: Vec<Vec<u8>>,
    pub(super) name_constraints: Option<NameConstraints>,
    pub(super) key_algorithm: KeyAlgorithm,
    pub(super) signature_algorithm: SignatureAlgorithm,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Plan {
    /// What a request comes to under a profile.
    pub(super) fn of(issuer: &Issuer, request: &IssuanceRequest, now: Time) -> Result<Self> {
        let lifetime = lifetime(&request.wishes, now)?;
        let mut plan = match (&request.subject, issuer.profile.document.issuer) {
            (Subject::Csr(_), IssuerKind::SelfSigned) => {
                let slug = &issuer.profile.slug;
                return Err(Error::invalid(format!("the profile {slug} is self-signed and cannot sign a CSR")));
            }
            (Subject::Csr(csr), IssuerKind::Ca) => of_csr(csr, lifetime)?,
            (Subject::Fields { attributes, alt_names, key_algorithm }, _) => {
                let signing = issuer.authority.as_ref().map(|authority| authority.key_algorithm);
                of_fields(attributes, alt_names, (*key_algorithm, signing), &request.wishes, lifetime)?
            }
        };
        add_common_names(&issuer.policy.rules, &mut plan)?;
        plan.drop_usages();
        Ok(plan)
    }

    /// What a request comes to without a profile (contract §6.8). Here what the requester would like goes before what a CSR
    /// says, and the signature is that of the authority's key whatever the CSR was signed with.
    pub(super) fn directly(issuer: &DirectIssuer, request: &IssuanceRequest, now: Time) -> Result<Self> {
        let wishes = Wishes {
            not_after: end_directly(issuer, &request.wishes, now),
            key_usages: request.wishes.key_usages.or(issuer.grounds.key_usages()).or(Some(USUAL_USAGES)),
            extended_key_usages: request
                .wishes
                .extended_key_usages
                .clone()
                .or_else(|| issuer.grounds.extended_key_usages()),
            ..request.wishes.clone()
        };
        let lifetime = lifetime(&wishes, now)?;
        let signing = issuer.authority.key_algorithm;
        let mut plan = match &request.subject {
            Subject::Csr(csr) => {
                let mut plan = of_csr(csr, lifetime)?;
                plan.signature_algorithm = signing.default_signature();
                let extensions = requested_extensions(csr)?;
                if request.wishes.key_usages.is_some() || extensions.key_usages().map_err(unreadable)?.is_none() {
                    plan.key_usages = wishes.key_usages.unwrap_or(USUAL_USAGES);
                }
                let has_purposes = extensions.extended_key_usages().map_err(unreadable)?.is_some();
                if request.wishes.extended_key_usages.is_some() || !has_purposes {
                    plan.extended_key_usages = wishes.extended_key_usages.unwrap_or_default();
                }
                if let Some(names) = &wishes.alt_names {
                    plan.alt_names = general_names(names)?;
                }
                plan
            }
            Subject::Fields { attributes, alt_names, key_algorithm } => {
                of_fields(attributes, alt_names, (*key_algorithm, Some(signing)), &wishes, lifetime)?
            }
        };
        add_common_names(issuer.rules(), &mut plan)?;
        plan.drop_usages();
        Ok(plan)
    }

    /// RFC 8813 §3, contract §1.8: these usages make no sense with such a key and are left out, and that is said.
    fn drop_usages(&mut self) {
        for usage in self.key_usages.iter() {
            if is_dropped(usage.snake_name(), self.key_algorithm.family()) {
                self.key_usages = self.key_usages.without(usage);
                self.dropped = self.dropped.with(usage);
            }
        }
    }
}

/// The usages of a certificate of which nobody says any (contract §6.8).
const USUAL_USAGES: KeyUsages = KeyUsages::NONE.with(KeyUsage::DigitalSignature).with(KeyUsage::KeyEncipherment);

/// The end of a certificate without a profile: what is asked for, counted from now also when it begins later, else the
/// longest that there may be, else a year (contract §6.8).
fn end_directly(issuer: &DirectIssuer, wishes: &Wishes, now: Time) -> Option<Time> {
    const YEAR_MILLIS: i64 = 365 * 24 * 60 * 60 * 1000;
    let ttl = match (wishes.not_after, wishes.ttl_millis.or(issuer.grounds.ttl_millis())) {
        (Some(end), _) => return Some(end),
        // Less than a second is refused where lifetimes are read.
        (None, Some(ttl)) if ttl < 1000 => return None,
        (None, Some(ttl)) => ttl,
        (None, None) => YEAR_MILLIS,
    };
    Some(Time::from_seconds(now.seconds().saturating_add(ttl / 1000)))
}

/// The end is the beginning and the lifetime; nothing is clamped and nothing is backdated (contract §6.1).
fn lifetime(wishes: &Wishes, now: Time) -> Result<(i64, i64)> {
    let not_before = wishes.not_before.unwrap_or(now).seconds();
    let not_after = match (wishes.not_after, wishes.ttl_millis) {
        (Some(end), _) => end.seconds(),
        (None, Some(ttl)) if ttl >= 1000 => not_before.saturating_add(ttl / 1000),
        (None, Some(_)) => return Err(Error::invalid("a certificate lives at least one second")),
        (None, None) => {
            return Err(Error::invalid(
                "the request must name a ttl or a notAfter: the profile has no default lifetime",
            ));
        }
    };
    if not_after <= not_before {
        return Err(Error::invalid("notBefore must be earlier than notAfter"));
    }
    if not_after <= now.seconds() {
        return Err(Error::invalid("notAfter lies in the past"));
    }
    if not_before < now.seconds() - BACKDATE_SECONDS_MAX {
        return Err(Error::invalid("notBefore may lie at most 24 hours in the past"));
    }
    if not_after > LAST_SECOND {
        return Err(Error::invalid("the lifetime ends after the year 9999"));
    }
    Ok((not_before, not_after))
}

/// invariants D9: leaves are backdated by less than a day.
const BACKDATE_SECONDS_MAX: i64 = 24 * 60 * 60 - 1;
/// 9999-12-31T23:59:59Z, the last time that a certificate can name (RFC 5280 §4.1.2.5).
const LAST_SECOND: i64 = 253_402_300_799;

/// The extensions that a CSR asks for. One that is critical and does not go into certificates is refused: whoever marks it
/// so wants no certificate without it (invariants C9).
pub fn requested_extensions(csr: &CertificationRequest) -> Result<Extensions<'_>> {
    let extensions = csr.requested_extensions().map_err(unreadable)?;
    match extensions.critical_besides(&COPIED_EXTENSIONS) {
        None => Ok(extensions),
        Some(critical) => Err(Error::invalid(format!(
            "the CSR asks for the critical extension {}, which is not taken from a CSR",
            oid::to_dotted(critical)
        ))),
    }
}

/// Exactly what a CSR asks for (contract §6.3), once it has shown that its sender has the key.
fn of_csr(csr: &CertificationRequest, (not_before, not_after): (i64, i64)) -> Result<Plan> {
    let key = csr.public_key().map_err(|problem| Error::bad_key(format!("the key of the CSR: {problem}")))?;
    let signature_algorithm =
        csr.signature_algorithm().map_err(|error| Error::bad_request_signature(format!("the CSR: {error}")))?;
    if !csr.verify() {
        return Err(Error::bad_request_signature(
            "the CSR's own signature does not hold: it was changed, or made with another key",
        ));
    }
    let extensions = requested_extensions(csr)?;
    let alt_names = match extensions.subject_alt_names().map_err(unreadable)? {
        None => Vec::new(),
        Some(names) => names
            .into_valid()
            .map_err(|error| Error::invalid(format!("an alternative name of the CSR: {error}")))?
            .into_iter()
            // contract §6.3: other kinds of names are left out.
            .filter(|name| san_type(name).is_some())
            .collect(),
    };
    Ok(Plan {
        subject: requested_subject(csr)?,
        alt_names: without_repeats(alt_names),
        key_usages: extensions.key_usages().map_err(unreadable)?.unwrap_or(KeyUsages::NONE),
        dropped: KeyUsages::NONE,
        extended_key_usages: extensions.extended_key_usages().map_err(unreadable)?.unwrap_or_default(),
        basic_constraints: extensions.basic_constraints().map_err(unreadable)?.unwrap_or(NO_AUTHORITY),
        policies: vec![oid::ANY_POLICY.to_vec()],
        name_constraints: None,
        key_algorithm: key.algorithm(),
        signature_algorithm,
        not_before,
        not_after,
    })
}

/// The extensions of a CSR that go into the certificate, each with a value of our own encoding.
const COPIED_EXTENSIONS: [&[u8]; 4] =
    [oid::BASIC_CONSTRAINTS, oid::KEY_USAGE, oid::EXTENDED_KEY_USAGE, oid::SUBJECT_ALT_NAME];

const NO_AUTHORITY: BasicConstraints = BasicConstraints { ca: false, path_length: None };

/// The subject of a CSR byte for byte. Where its string types are not those of RFC 5280 (a country as UTF8String, as
/// some libraries write it), the same text in the right types; a name that would become another one by that is refused.
pub fn requested_subject(csr: &CertificationRequest) -> Result<DistinguishedName> {
    let subject = csr.subject();
    let Err(problem) = subject.validate() else { return Ok(subject.clone()) };
    match subject.reencoded() {
        // The text form tells relative names of several attributes, and values that are no strings.
        Ok(reencoded) if reencoded.render() == subject.render() => Ok(reencoded),
        Ok(_) | Err(_) => Err(Error::invalid(format!("the subject of the CSR: {problem}"))),
    }
}

/// A certificate out of fields. The algorithm of the key is the named one, else that of the key that signs.
fn of_fields(
    attributes: &[(SubjectAttribute, String)],
    alt_names: &[(SanType, String)],
    (key_algorithm, signing): (Option<KeyAlgorithm>, Option<KeyAlgorithm>),
    wishes: &Wishes,
    (not_before, not_after): (i64, i64),
) -> Result<Plan> {
    let mut violations = Vec::new();
    for (attribute, value) in attributes {
        if let Err(error) = DistinguishedName::build(&[(attribute_type(*attribute), value)]) {
            violations.push(Violation::new(attribute.field(), "subject", error.to_string()));
        }
    }
    let names = read_names(alt_names, &mut violations);
    if !violations.is_empty() {
        return Err(Refusal::violations(Reason::Invalid, violations).into());
    }
    let attributes: Vec<(AttributeType, &str)> =
        attributes.iter().map(|(kind, value)| (attribute_type(*kind), value.as_str())).collect();
    let subject = DistinguishedName::build(&attributes).map_err(|error| Error::invalid(error.to_string()))?;
    let key_algorithm = key_algorithm.or(signing).unwrap_or(KeyAlgorithm::Rsa2048);
    Ok(Plan {
        subject,
        alt_names: without_repeats(names),
        key_usages: wishes.key_usages.unwrap_or(KeyUsages::NONE),
        dropped: KeyUsages::NONE,
        extended_key_usages: without_repeats(wishes.extended_key_usages.clone().unwrap_or_default()),
        basic_constraints: wishes.basic_constraints.unwrap_or(NO_AUTHORITY),
        policies: vec![oid::ANY_POLICY.to_vec()],
        name_constraints: None,
        key_algorithm,
        signature_algorithm: wishes
            .signature_algorithm
            .unwrap_or_else(|| signing.unwrap_or(key_algorithm).default_signature()),
        not_before,
        not_after,
    })
}

/// Names of declared types.
pub(super) fn general_names(names: &[(SanType, String)]) -> Result<Vec<GeneralName>> {
    let mut violations = Vec::new();
    let names = read_names(names, &mut violations);
    if !violations.is_empty() {
        return Err(Refusal::violations(Reason::Invalid, violations).into());
    }
    Ok(without_repeats(names))
}

fn read_names(names: &[(SanType, String)], violations: &mut Vec<Violation>) -> Vec<GeneralName> {
    let mut read = Vec::with_capacity(names.len());
    for (position, (kind, value)) in names.iter().enumerate() {
        match general_name(*kind, value) {
            Ok(name) => read.push(name),
            Err(error) => violations.push(Violation::new(format!("altNames.{position}"), "name", error.to_string())),
        }
    }
    read
}

/// Refuses names of which no certificate could be made, whatever else it says.
pub fn check_names(attributes: &[(SubjectAttribute, String)], alt_names: &[(SanType, String)]) -> Result<()> {
    for (attribute, value) in attributes {
        DistinguishedName::build(&[(attribute_type(*attribute), value)])
            .map_err(|error| Error::invalid(format!("{}: {error}", attribute.field())))?;
        if *attribute == SubjectAttribute::CommonName {
            host_in(value)?;
        }
    }
    general_names(alt_names).map(|_| ())
}

fn general_name(kind: SanType, value: &str) -> Result<GeneralName, NameError> {
    match kind {
        SanType::DnsName => DnsName::parse(value).map(GeneralName::Dns),
        SanType::IpAddress => IpAddress::parse(value).map(GeneralName::Ip),
        SanType::Email => EmailAddress::parse(value).map(GeneralName::Email),
        SanType::Uri => Uri::parse(value).map(GeneralName::Uri),
    }
}

fn without_repeats<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// contract §6.1, names: a leaf has a name, and a CN that is a DNS name or an IP address does not hide from SAN rules.
fn add_common_names(rules: &PolicyRules, plan: &mut Plan) -> Result<()> {
    let common_names = plan.subject.attributes().filter(|(kind, _)| *kind == AttributeType::CommonName);
    let common_names: Vec<String> = common_names.map(|(_, value)| value.to_owned()).collect();
    if plan.alt_names.is_empty() && common_names.is_empty() {
        return Err(Error::invalid("a certificate needs a common name or at least one alternative name"));
    }
    for common_name in common_names {
        let Some(name) = host_in(&common_name)? else { continue };
        let has_rule = san_type(&name).is_some_and(|kind| rules.allows_type(kind));
        if has_rule && !plan.alt_names.contains(&name) {
            plan.alt_names.push(name);
        }
    }
    Ok(())
}

/// The host or address that a common name is; nothing when it is another kind of name. One that a lenient reader would
/// take for a host, and that is none by our rules, could stand for what the SAN rules forbid: it is refused. So is a host
/// with blanks around it, which only a CSR can hold: fields are trimmed.
pub(super) fn host_in(common_name: &str) -> Result<Option<GeneralName>> {
    let bare = common_name.trim_matches(is_blank);
    let host = match IpAddress::parse(bare) {
        Ok(address) => Ok(GeneralName::Ip(address)),
        Err(_) => DnsName::parse(bare).map(GeneralName::Dns),
    };
    match host {
        Ok(host) if bare == common_name => Ok(Some(host)),
        Ok(host) => Err(Error::invalid(format!(
            "the common name would be taken for the {} {}, and blanks hide it from the rules for alternative names: leave \
             them out",
            host.kind(),
            host.text()
        ))),
        Err(problem) if looks_like_host(bare) => Err(Error::invalid(format!(
            "the common name would be taken for a host or an address, and is none: {problem}"
        ))),
        Err(_) => Ok(None),
    }
}

/// White space of any script, and what is not seen at all.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// A dot, and what compatibility forms (UAX #15, UTS #46 §4) make one of.
fn is_dot(character: char) -> bool {
    matches!(
        character,
        '.' | '\u{2024}' | '\u{2488}'..='\u{249b}' | '\u{3002}' | '\u{fe12}' | '\u{fe52}' | '\u{ff0e}' | '\u{ff61}'
    )
}

/// Whether a text that is neither a DNS name nor an address comes near to one (invariants C2 to C5): labels with a wildcard,
/// a hyphen, an underscore or a dot in the wrong place, an A-label that is none, an address in an unusual form, or letters
/// that look like others.
fn looks_like_host(text: &str) -> bool {
    if text.contains(char::is_whitespace) {
        return false;
    }
    let labels = || text.trim_end_matches('.').split('.');
    let has_fake_a_label = labels().any(|label| label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--")));
    let has_dot = text.contains(is_dot);
    let is_of_labels = text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    // A version number is no host: the last label of one begins with a letter.
    let ends_in_word = labels().next_back().is_some_and(|label| label.starts_with(|first: char| first.is_alphabetic()));
    text.contains('*')
        || has_fake_a_label
        || (has_dot && is_of_labels && (ends_in_word || labels().all(is_number)))
        || (has_dot && !text.is_ascii())
        || is_dressed_address(text)
}

/// A number as the C library's `inet_aton` takes it: decimal, octal, or hexadecimal with `0x`.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|octet| octet.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|octet| octet.is_ascii_digit()),
    }
}

/// An IPv6 address in brackets or with a zone.
fn is_dressed_address(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let bare = bare.split('%').next().unwrap_or(bare);
    IpAddress::parse(bare).is_ok()
}

fn unreadable(error: x509::ParseError) -> Error {
    Error::invalid(format!("the CSR does not read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_a_host_or_an_address_or_another_kind_of_name() {
        for (text, expected) in [
            ("www.example.com", Some("www.example.com")),
            ("WWW.Example.COM", Some("www.example.com")),
            ("*.example.com", Some("*.example.com")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("localhost", Some("localhost")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("Device 7", None),
            ("Acme Inc.", None),
            ("alice@example.com", None),
            ("4711", None),
            ("sensor-1.0", None),
            ("host_7", None),
            ("DNS:a,DNS:b", None),
            ("Müller & Söhne", None),
            ("50% *really*, sure", None),
            ("Acme Inc. ", None),
            ("\u{a0}Device 7", None),
            ("4711 ", None),
        ] {
            let name = host_in(text).unwrap();
            assert_eq!(name.as_ref().map(GeneralName::text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_common_name_that_comes_near_to_a_host_is_refused() {
        for text in [
            "*",
            "*.com",
            "a*.example.com",
            "*.*.example.com",
            "a.*.example.com",
            "xn--*.example.com",
            "example.com.",
            "localhost.",
            "example.com.",
            "localhost.",
            ".example.com",
            "a..example.com",
            "-a.example.com",
            "ab--cd.example",
            "a_b.example.com",
            "xn--",
            "XN--.example",
            "xn--example-.org",
            "org.xn--",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "1.2.3",
            "192.0.2.7.",
            "[::1]",
            "fe80::1%25eth0",
            "fe80::1%eth0",
            "ＥＸＡＭＰＬＥ.com",
            "a\u{3002}b",
            "evil\u{2024}com",
            "evil\u{fe52}com",
            "\u{2488}\u{2489}\u{248a}4",
            " evil.com",
            "evil.com ",
            "evil.com\u{a0}",
            "evil.com\u{2028}",
            "\u{200b}evil.com",
            "\u{feff}localhost",
            "*.evil.com ",
            " 1.2.3.4",
            "1.2.3.4\u{3000}",
            "::1 ",
            "evil\u{2024}com ",
            "u\u{308}.example",
            "a\u{202e}b.example",
        ] {
            assert!(host_in(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lifetime_is_exact() {
        let now = Time::from_seconds(1_000_000);
        let wishes = |ttl_millis, not_before: Option<i64>, not_after: Option<i64>| Wishes {
            ttl_millis,
            not_before: not_before.map(|seconds| now.plus_seconds(seconds)),
            not_after: not_after.map(|seconds| now.plus_seconds(seconds)),
            ..Wishes::default()
        };
        for (wishes, expected) in [
            (wishes(Some(1000), None, None), Some((0, 1))),
            (wishes(Some(1999), None, None), Some((0, 1))),
            (wishes(Some(90 * 86_400_000), None, None), Some((0, 90 * 86_400))),
            (wishes(None, None, Some(60)), Some((0, 60))),
            (wishes(Some(5000), Some(10), None), Some((10, 15))),
            (wishes(None, Some(-86_399), Some(1)), Some((-86_399, 1))),
            (wishes(None, Some(-86_400), Some(1)), None),
            (wishes(Some(999), None, None), None),
            (wishes(None, None, None), None),
            (wishes(None, None, Some(0)), None),
            (wishes(None, Some(60), Some(60)), None),
            (wishes(None, Some(-60), Some(-1)), None),
            (wishes(Some(i64::MAX), None, None), None),
            (wishes(None, None, Some(LAST_SECOND - 1_000_000)), Some((0, LAST_SECOND - 1_000_000))),
            (wishes(None, None, Some(LAST_SECOND - 999_999)), None),
        ] {
            let got = lifetime(&wishes, now).ok().map(|(from, to)| (from - 1_000_000, to - 1_000_000));
            assert_eq!(got, expected, "{wishes:?}");
        }
    }
}
