//! What the certificate of a device asks for that is provisioned: who asks names the device and the profile, and the rest
//! follows from those.

use crate::Time;
use crate::duration::parse_limit;
use crate::issuance::{Issuer, Subject, Wishes};
use crate::policy::{AlgorithmRule, SanType, SubjectAttribute, UsageRule, key_algorithm, signature_algorithm};
use crate::profile::ProfileDefaults;
use x509::{CertificationRequest, ExtendedKeyUsage, KeyAlgorithm, KeyUsage, KeyUsages, SignatureAlgorithm};

/// The lifetime where neither the profile nor its policy says one.
const LIFETIME_MILLIS: i64 = 365 * 24 * 60 * 60 * 1000;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// The subject and the wishes of the certificate of a device of this name. A certification request says everything but the
/// lifetime itself.
///
/// The lifetime is the profile's default, else the longest that its policy allows, and ends with the authority's own
/// certificate at the latest. Without a request the common name is the device's name, or a DNS name where the policy knows
/// no common name, the key is of the profile's default algorithm or of one that the policy lists, and the usages are those
/// of a TLS client and what the policy requires.
pub fn subject_and_wishes(
    issuer: &Issuer,
    name: &str,
    csr: Option<Box<CertificationRequest>>,
    now: Time,
) -> (Subject, Wishes) {
    let ttl_millis = Some(lifetime(issuer, now));
    if let Some(csr) = csr {
        return (Subject::Csr(csr), Wishes { ttl_millis, ..Wishes::default() });
    }
    let none = ProfileDefaults::default();
    let defaults = issuer.profile.document.defaults.as_ref().unwrap_or(&none);
    let rules = &issuer.policy.rules;
    let key = key_of(defaults, rules.algorithms.as_ref());
    let signing = issuer.authority.as_ref().map(|authority| authority.key_algorithm).or(key);
    let wishes = Wishes {
        ttl_millis,
        key_usages: Some(key_usages(defaults, rules.key_usages.as_ref())),
        extended_key_usages: Some(extended_key_usages(defaults, rules.extended_key_usages.as_ref())),
        signature_algorithm: signature_of(defaults, rules.algorithms.as_ref(), signing),
        ..Wishes::default()
    };
    let (attributes, alt_names) = names(issuer, defaults, name);
    (Subject::Fields { attributes, alt_names, key_algorithm: key }, wishes)
}

fn lifetime(issuer: &Issuer, now: Time) -> i64 {
    let of_profile = issuer.profile.document.defaults.as_ref().and_then(|defaults| defaults.ttl_days);
    let validity = issuer.policy.rules.validity.as_ref().and_then(|rule| rule.max.as_deref());
    let wanted = match (of_profile, validity.and_then(|limit| parse_limit(limit).ok())) {
        (Some(days), _) => i64::from(days).saturating_mul(DAY_MILLIS),
        (None, Some(limit)) => limit,
        (None, None) => LIFETIME_MILLIS,
    };
    let active = issuer.authority.as_ref().and_then(|authority| authority.active.as_ref());
    match active {
        None => wanted,
        Some(active) => {
            let left = active.certificate.not_after().saturating_sub(now.seconds()).saturating_mul(1000);
            // An authority that has expired says so itself.
            if left > 0 { wanted.min(left) } else { wanted }
        }
    }
}

type Names = (Vec<(SubjectAttribute, String)>, Vec<(SanType, String)>);

fn names(issuer: &Issuer, defaults: &ProfileDefaults, name: &str) -> Names {
    let rules = &issuer.policy.rules;
    let knows = |attribute| rules.subject.iter().flatten().any(|rule| rule.attribute == attribute);
    let parts = [
        (SubjectAttribute::Country, &defaults.country),
        (SubjectAttribute::State, &defaults.state),
        (SubjectAttribute::Locality, &defaults.locality),
        (SubjectAttribute::Organization, &defaults.organization),
        (SubjectAttribute::OrganizationalUnit, &defaults.organizational_unit),
    ];
    let mut attributes: Vec<(SubjectAttribute, String)> = parts
        .into_iter()
        .filter_map(|(attribute, value)| Some((attribute, value.clone().filter(|value| !value.is_empty())?)))
        .collect();
    if knows(SubjectAttribute::CommonName) || !rules.allows_type(SanType::DnsName) {
        attributes.push((SubjectAttribute::CommonName, name.to_owned()));
        (attributes, Vec::new())
    } else {
        (attributes, vec![(SanType::DnsName, name.to_owned())])
    }
}

fn key_of(defaults: &ProfileDefaults, listed: Option<&AlgorithmRule>) -> Option<KeyAlgorithm> {
    let default = defaults.key_algorithm.as_deref().and_then(key_algorithm);
    let listed: Vec<KeyAlgorithm> = listed
        .and_then(|rule| rule.key_algorithm.as_ref())
        .map(|names| names.iter().filter_map(|name| key_algorithm(name)).collect())
        .unwrap_or_default();
    default
        .or_else(|| listed.contains(&KeyAlgorithm::EcP256).then_some(KeyAlgorithm::EcP256))
        .or_else(|| listed.first().copied())
}

/// A signature that the signing key can make: the profile's default, else what the key makes usually where the policy
/// lists that, else the first one that is listed and fits.
fn signature_of(
    defaults: &ProfileDefaults,
    listed: Option<&AlgorithmRule>,
    signing: Option<KeyAlgorithm>,
) -> Option<SignatureAlgorithm> {
    if let Some(default) = defaults.signature_algorithm.as_deref().and_then(signature_algorithm) {
        return Some(default);
    }
    let signing = signing?;
    let usual = signing.default_signature();
    let listed: Vec<SignatureAlgorithm> = listed
        .and_then(|rule| rule.signature.as_ref())
        .map(|names| names.iter().filter_map(|name| signature_algorithm(name)).collect())
        .unwrap_or_default();
    let fits = |signature: &&SignatureAlgorithm| signature.family() == signing.family();
    if listed.contains(&usual) { Some(usual) } else { listed.iter().find(fits).copied().or(Some(usual)) }
}

fn key_usages(defaults: &ProfileDefaults, rule: Option<&UsageRule>) -> KeyUsages {
    let names = match &defaults.key_usages {
        Some(names) => names.clone(),
        None => usual(rule, "digital_signature"),
    };
    names.iter().filter_map(|name| KeyUsage::from_snake_name(name)).fold(KeyUsages::NONE, KeyUsages::with)
}

fn extended_key_usages(defaults: &ProfileDefaults, rule: Option<&UsageRule>) -> Vec<ExtendedKeyUsage> {
    let names = match &defaults.extended_key_usages {
        Some(names) => names.clone(),
        None => usual(rule, "client_auth"),
    };
    names.iter().filter_map(|name| ExtendedKeyUsage::from_snake_name(name)).collect()
}

/// What a rule requires, and the usual one where it is allowed.
fn usual(rule: Option<&UsageRule>, usual: &str) -> Vec<String> {
    let Some(rule) = rule else { return Vec::new() };
    let mut names = rule.required.clone().unwrap_or_default();
    let is_allowed = rule.allowed.iter().flatten().any(|name| name == usual);
    if is_allowed && !names.iter().any(|name| name == usual) {
        names.push(usual.to_owned());
    }
    names
}
