//! Certificate policies: what a certificate may contain, as rules over its finished parts.
//!
//! This file is the rules as they are stored and sent (contract §5.2: the field names are those of the API), and what a
//! requester's certificate looks like to them. `policy/shape.rs` says which rules can be written, `policy/judge.rs`
//! whether a certificate keeps them, `policy/pattern.rs` what a pattern matches. Nothing here reads a request: what is
//! judged comes out of the certificate that will be signed, whichever door it came in by.

mod judge;
pub(crate) mod pattern;
mod shape;

use serde::{Deserialize, Deserializer, Serialize};
use x509::algorithm::{KeyAlgorithm, KeyFamily, SignatureAlgorithm};

/// The key usages of the API, in snake form.
pub const KEY_USAGES: [&str; 9] = [
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

/// The extended key usages of the API, in snake form.
pub const EXTENDED_KEY_USAGES: [&str; 6] =
    ["client_auth", "server_auth", "code_signing", "email_protection", "ocsp_signing", "time_stamping"];

/// What a policy says. A part that is absent allows nothing of its kind, except that without `validity` there is no
/// limit on the lifetime. As JSON: the API's object, an absent part is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRules {
    /// One rule for each subject attribute that may occur.
    pub subject: Option<Vec<SubjectRule>>,
    /// One rule for each type of alternative name that may occur.
    pub sans: Option<Vec<SanRule>>,
    /// Which key usages may and must occur.
    pub key_usages: Option<UsageRule>,
    /// Which extended key usages may and must occur.
    pub extended_key_usages: Option<UsageRule>,
    /// Which algorithms may be used.
    pub algorithms: Option<AlgorithmRule>,
    /// How long a certificate may live.
    pub validity: Option<ValidityRule>,
    /// Whether a certificate may be that of an authority; absent means it may not.
    pub basic_constraints: Option<BasicConstraintsRule>,
}

/// A change to a policy: the outer `Option` is whether the key was sent, the inner one is `null` to clear the part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRulesPatch {
    /// Replaces [`PolicyRules::subject`].
    #[serde(deserialize_with = "sent")]
    pub subject: Option<Option<Vec<SubjectRule>>>,
    /// Replaces [`PolicyRules::sans`].
    #[serde(deserialize_with = "sent")]
    pub sans: Option<Option<Vec<SanRule>>>,
    /// Replaces [`PolicyRules::key_usages`].
    #[serde(deserialize_with = "sent")]
    pub key_usages: Option<Option<UsageRule>>,
    /// Replaces [`PolicyRules::extended_key_usages`].
    #[serde(deserialize_with = "sent")]
    pub extended_key_usages: Option<Option<UsageRule>>,
    /// Replaces [`PolicyRules::algorithms`].
    #[serde(deserialize_with = "sent")]
    pub algorithms: Option<Option<AlgorithmRule>>,
    /// Replaces [`PolicyRules::validity`].
    #[serde(deserialize_with = "sent")]
    pub validity: Option<Option<ValidityRule>>,
    /// Replaces [`PolicyRules::basic_constraints`].
    #[serde(deserialize_with = "sent")]
    pub basic_constraints: Option<Option<BasicConstraintsRule>>,
}

/// The rule for one subject attribute. The lists hold patterns; an empty list is as good as none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectRule {
    /// The attribute.
    #[serde(rename = "type")]
    pub attribute: SubjectAttribute,
    /// The value must match one of these, unless it matches a required one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// The attribute must be there and match one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Vec<String>>,
    /// The value must match none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Vec<String>>,
}

/// The rule for one type of subject alternative name. The lists hold patterns; an empty list is as good as none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SanRule {
    /// The type of name.
    #[serde(rename = "type")]
    pub san_type: SanType,
    /// Each name must match one of these, unless it matches a required one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// Each of these must be matched by some name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Vec<String>>,
    /// No name may match any of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Vec<String>>,
}

/// The rule for key usages or for extended key usages, by their snake names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRule {
    /// These may occur.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// These must occur.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Vec<String>>,
    /// These may not occur.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Vec<String>>,
}

/// The rule for algorithms. Names of both vocabularies mean the same (`SHA256-RSA` and `RSA-SHA256`, `ECDSA-P256` and
/// `EC_prime256v1`); a name that neither knows is kept and matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlgorithmRule {
    /// The signature algorithms that may be used; absent allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Vec<String>>,
    /// The algorithms that the subject's key may have; absent allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<Vec<String>>,
}

/// The rule for the lifetime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidityRule {
    /// The longest time from notBefore to notAfter, in the grammar of [`crate::duration::parse_limit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// The rule for basic constraints (RFC 5280 §4.2.1.9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicConstraintsRule {
    /// Whether the certificate may be, must be or may not be that of an authority; absent means it may not.
    #[serde(rename = "isCA", default, skip_serializing_if = "Option::is_none")]
    pub is_ca: Option<Presence>,
    /// The greatest path length; -1 or absent is no limit.
    #[serde(rename = "maxPathLength", default, skip_serializing_if = "Option::is_none")]
    pub max_path_length: Option<i64>,
}

/// Whether something may, must or may not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It may be there.
    Allowed,
    /// It must be there.
    Required,
    /// It may not be there.
    Denied,
}

/// The attributes of a subject that policies know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectAttribute {
    /// CN.
    CommonName,
    /// O.
    Organization,
    /// C.
    Country,
    /// ST.
    State,
    /// L.
    Locality,
    /// OU.
    OrganizationalUnit,
    /// DC (RFC 4519 §2.4), one value for each component.
    DomainComponent,
}

/// The types of subject alternative names that policies know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SanType {
    /// dNSName.
    DnsName,
    /// iPAddress.
    IpAddress,
    /// rfc822Name.
    Email,
    /// uniformResourceIdentifier.
    Uri,
}

/// The parts of a finished certificate that a policy judges.
///
/// Names arrive as they stand in the certificate: DNS names in lower case and as A-labels, addresses in their shortest
/// text form (RFC 5952), an IPv4-mapped address as IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The subject's attributes in their order; an attribute can occur several times.
    pub subject: Vec<(SubjectAttribute, String)>,
    /// The alternative names in their order.
    pub sans: Vec<(SanType, String)>,
    /// The key usages, as in [`KEY_USAGES`].
    pub key_usages: Vec<&'static str>,
    /// The extended key usages, as in [`EXTENDED_KEY_USAGES`], or as a dotted object identifier.
    pub extended_key_usages: Vec<String>,
    /// The algorithm of the signature, unless it is still open.
    pub signature_algorithm: Option<SignatureAlgorithm>,
    /// The algorithm of the subject's key, unless it is still open.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Milliseconds from notBefore to notAfter.
    pub lifetime_millis: i64,
    /// Whether the certificate is that of an authority.
    pub is_ca: bool,
    /// The path length, when there is one.
    pub path_length: Option<u32>,
    /// Key usages that were asked for and that a certificate of such a key does not carry (contract §1.8). Not judged,
    /// but named when the policy requires one.
    pub dropped_key_usages: Vec<&'static str>,
}

impl PolicyRules {
    /// These rules with a change: a part that was sent replaces the whole part, a part sent as `null` is cleared.
    pub fn patched(self, patch: PolicyRulesPatch) -> Self {
        Self {
            subject: patch.subject.unwrap_or(self.subject),
            sans: patch.sans.unwrap_or(self.sans),
            key_usages: patch.key_usages.unwrap_or(self.key_usages),
            extended_key_usages: patch.extended_key_usages.unwrap_or(self.extended_key_usages),
            algorithms: patch.algorithms.unwrap_or(self.algorithms),
            validity: patch.validity.unwrap_or(self.validity),
            basic_constraints: patch.basic_constraints.unwrap_or(self.basic_constraints),
        }
    }

    /// Whether there is a rule for this type of alternative name, so that a common name which is such a name belongs
    /// among them too (contract §6.1).
    pub fn allows_type(&self, san_type: SanType) -> bool {
        self.sans.iter().flatten().any(|rule| rule.san_type == san_type)
    }

    /// Whether the listed signature algorithms can be made with a key of this family; none are when none are listed.
    pub fn allows_signatures_of(&self, family: KeyFamily) -> bool {
        let listed = self.algorithms.as_ref().and_then(|rule| rule.signature.as_deref()).unwrap_or_default();
        listed.iter().filter_map(|name| signature_algorithm(name)).any(|algorithm| algorithm.family() == family)
    }
}

impl SubjectAttribute {
    /// Every attribute, in the order in which they are documented.
    pub const ALL: [Self; 7] = [
        Self::CommonName,
        Self::Organization,
        Self::Country,
        Self::State,
        Self::Locality,
        Self::OrganizationalUnit,
        Self::DomainComponent,
    ];

    /// The name in a policy: `common_name`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CommonName => "common_name",
            Self::Organization => "organization",
            Self::Country => "country",
            Self::State => "state",
            Self::Locality => "locality",
            Self::OrganizationalUnit => "organizational_unit",
            Self::DomainComponent => "domain_component",
        }
    }

    /// The attribute of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attribute| attribute.as_str() == text)
    }

    /// The name of the field in a request: `commonName`, …
    pub const fn field(self) -> &'static str {
        match self {
            Self::CommonName => "commonName",
            Self::Organization => "organization",
            Self::Country => "country",
            Self::State => "state",
            Self::Locality => "locality",
            Self::OrganizationalUnit => "organizationalUnit",
            Self::DomainComponent => "domainComponents",
        }
    }
}

impl SanType {
    /// Every type, in the order in which they are documented.
    pub const ALL: [Self; 4] = [Self::DnsName, Self::IpAddress, Self::Email, Self::Uri];

    /// The name on the wire: `dns_name`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DnsName => "dns_name",
            Self::IpAddress => "ip_address",
            Self::Email => "email",
            Self::Uri => "uri",
        }
    }

    /// The type of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|san_type| san_type.as_str() == text)
    }
}

/// Whether a certificate for a key of this family never carries this key usage (RFC 8813 §3: a key that only signs or
/// agrees does not encipher). Such a usage is dropped at every door.
pub fn is_dropped(key_usage: &str, family: KeyFamily) -> bool {
    match family {
        KeyFamily::Rsa => false,
        KeyFamily::Ecdsa | KeyFamily::Ed25519 => matches!(key_usage, "key_encipherment" | "data_encipherment"),
    }
}

/// The signature algorithm that a policy calls by this name, in either vocabulary.
pub fn signature_algorithm(name: &str) -> Option<SignatureAlgorithm> {
    Some(match name {
        "SHA256-RSA" => SignatureAlgorithm::RsaSha256,
        "SHA384-RSA" => SignatureAlgorithm::RsaSha384,
        "SHA512-RSA" => SignatureAlgorithm::RsaSha512,
        "SHA256-ECDSA" => SignatureAlgorithm::EcdsaSha256,
        "SHA384-ECDSA" => SignatureAlgorithm::EcdsaSha384,
        "SHA512-ECDSA" => SignatureAlgorithm::EcdsaSha512,
        _ => return SignatureAlgorithm::parse(name),
    })
}

/// The key algorithm that a policy calls by this name, in either vocabulary.
pub fn key_algorithm(name: &str) -> Option<KeyAlgorithm> {
    Some(match name {
        "RSA-2048" => KeyAlgorithm::Rsa2048,
        "RSA-3072" => KeyAlgorithm::Rsa3072,
        "RSA-4096" => KeyAlgorithm::Rsa4096,
        "ECDSA-P256" => KeyAlgorithm::EcP256,
        "ECDSA-P384" => KeyAlgorithm::EcP384,
        "ECDSA-P521" => KeyAlgorithm::EcP521,
        _ => return KeyAlgorithm::parse(name),
    })
}

/// The three lists of a rule, an absent one as an empty one.
#[derive(Clone, Copy)]
struct Lists<'a> {
    allowed: &'a [String],
    required: &'a [String],
    denied: &'a [String],
}

macro_rules! rules_with_lists {
    ($($rule:ty),*) => {$(
        impl $rule {
            fn lists(&self) -> Lists<'_> {
                Lists {
                    allowed: self.allowed.as_deref().unwrap_or_default(),
                    required: self.required.as_deref().unwrap_or_default(),
                    denied: self.denied.as_deref().unwrap_or_default(),
                }
            }
        }
    )*};
}

rules_with_lists!(SubjectRule, SanRule, UsageRule);

/// Reads a key that is there, so that `null` is told from absence.
fn sent<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_stored_as_the_api_shows_them() {
        let document = json!({
            "subject": [{"type": "common_name", "allowed": ["*"], "denied": ["x"]}],
            "sans": [{"type": "dns_name", "required": ["*.example.com"]}],
            "keyUsages": {"allowed": ["digital_signature"]},
            "extendedKeyUsages": {"required": ["server_auth"]},
            "algorithms": {"signature": ["SHA256-RSA"], "keyAlgorithm": ["RSA-2048"]},
            "validity": {"max": "90d"},
            "basicConstraints": {"isCA": "denied", "maxPathLength": 0},
        });
        let rules: PolicyRules = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(&rules).unwrap(), document);
        let nothing: PolicyRules = serde_json::from_value(json!({"sans": null, "unknown": 1})).unwrap();
        assert_eq!(nothing, PolicyRules::default());
        let shown = serde_json::to_value(nothing).unwrap();
        assert_eq!(shown["basicConstraints"], json!(null));
        assert_eq!(shown.as_object().unwrap().len(), 7);
    }

    #[test]
    fn a_patch_replaces_what_is_sent_and_clears_what_is_null() {
        let rules: PolicyRules =
            serde_json::from_value(json!({"keyUsages": {"allowed": ["crl_sign"]}, "validity": {"max": "1y"}})).unwrap();
        let patch: PolicyRulesPatch =
            serde_json::from_value(json!({"validity": null, "sans": [{"type": "uri", "allowed": ["*"]}]})).unwrap();
        let patched = rules.clone().patched(patch);
        assert_eq!(patched.key_usages, rules.key_usages);
        assert_eq!(patched.validity, None);
        assert!(patched.allows_type(SanType::Uri) && !patched.allows_type(SanType::DnsName));
        assert_eq!(rules.clone().patched(serde_json::from_value(json!({})).unwrap()), rules);
    }

    #[test]
    fn names_go_both_ways() {
        for attribute in SubjectAttribute::ALL {
            assert_eq!(SubjectAttribute::parse(attribute.as_str()), Some(attribute));
            assert_eq!(serde_json::to_value(attribute).unwrap(), json!(attribute.as_str()));
        }
        for san_type in SanType::ALL {
            assert_eq!(SanType::parse(san_type.as_str()), Some(san_type));
            assert_eq!(serde_json::to_value(san_type).unwrap(), json!(san_type.as_str()));
        }
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(key_algorithm(algorithm.as_str()), Some(algorithm));
        }
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(signature_algorithm(algorithm.as_str()), Some(algorithm));
        }
        assert_eq!(key_algorithm("rsa-2048"), None);
        assert_eq!(signature_algorithm("RSA-SHA1"), None);
    }

    #[test]
    fn a_policy_suits_an_authority_whose_family_it_lists() {
        let rules: PolicyRules =
            serde_json::from_value(json!({"algorithms": {"signature": ["SHA1-RSA", "ECDSA-SHA256"]}})).unwrap();
        assert!(rules.allows_signatures_of(KeyFamily::Ecdsa));
        assert!(!rules.allows_signatures_of(KeyFamily::Rsa));
        assert!(!PolicyRules::default().allows_signatures_of(KeyFamily::Ecdsa));
    }

    #[test]
    fn only_an_rsa_key_enciphers() {
        for usage in KEY_USAGES {
            let enciphers = usage == "key_encipherment" || usage == "data_encipherment";
            assert!(!is_dropped(usage, KeyFamily::Rsa));
            assert_eq!(is_dropped(usage, KeyFamily::Ecdsa), enciphers);
            assert_eq!(is_dropped(usage, KeyFamily::Ed25519), enciphers);
        }
    }
}
