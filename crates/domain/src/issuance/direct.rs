//! Issuing without a profile (contract §6.8, 7.1): from an authority itself, from a template of the first family, or for a
//! subscriber. What a profile's policy would say stands here: an open policy, narrowed by the template or the subscriber.

use super::issuer::IssuingAuthority;
use super::plan::{Plan, general_names, host_in};
use super::{Approved, Basis, IssuanceRequest, Signer, against, may_be_signed_by};
use crate::authority::Switch;
use crate::policy::{
    AlgorithmRule, EXTENDED_KEY_USAGES, Judged, KEY_USAGES, PolicyRules, SanRule, SanType, SubjectAttribute,
    SubjectRule, UsageRule,
};
use crate::subscriber::Subscriber;
use crate::template::Template;
use crate::{Error, ProjectId, Result, Time, Violation};
use std::sync::Arc;
use x509::{
    DnsName, EmailAddress, ExtendedKeyUsage, IpAddress, KeyAlgorithm, KeyUsage, KeyUsages, SignatureAlgorithm, Uri,
};

/// The most alternative names that one text can list.
const ALT_NAMES_MAX: usize = 1000;

/// What signs and what judges where there is no profile.
#[derive(Debug)]
pub struct DirectIssuer {
    /// The project.
    pub project: ProjectId,
    /// The authority.
    pub authority: Arc<IssuingAuthority>,
    /// Whether the authority issues when it alone is named.
    pub direct_issuance: Switch,
    /// What narrows the certificates.
    pub grounds: Grounds,
    rules: PolicyRules,
}

/// What narrows certificates that come from no profile.
#[derive(Debug)]
pub enum Grounds {
    /// Nothing but the authority: its name constraints, its usages, its end.
    Authority,
    /// A template.
    Template(Template),
    /// A subscriber.
    Subscriber(Subscriber),
}

/// The type of alternative name that a text is (contract §1.8): an address, a DNS name, a URI or an e-mail address; nothing
/// when it is none of them.
pub fn alt_name_type(text: &str) -> Option<SanType> {
    let is = |kind| match kind {
        SanType::IpAddress => IpAddress::parse(text).is_ok(),
        SanType::DnsName => DnsName::parse(text).is_ok(),
        // `www.example.com:443` is a URI by its grammar, and nobody means one.
        SanType::Uri => text.contains("://") && Uri::parse(text).is_ok(),
        SanType::Email => EmailAddress::parse(text).is_ok(),
    };
    [SanType::IpAddress, SanType::DnsName, SanType::Uri, SanType::Email].into_iter().find(|kind| is(*kind))
}

/// The alternative names of one text with commas between them, each with its type; nothing when one of them is no name.
pub fn parse_alt_names(text: &str) -> Option<Vec<(SanType, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let named: Option<Vec<_>> = parts.map(|part| Some((alt_name_type(part)?, part.to_owned()))).collect();
    named.filter(|names| names.len() <= ALT_NAMES_MAX)
}

/// Looks at a request with what there is in place of a profile. The order of refusals is that of contract §6.8.
pub(super) fn decide(issuer: &Arc<DirectIssuer>, request: &IssuanceRequest, now: Time) -> Result<Approved> {
    let authority = &issuer.authority;
    authority.active(now)?;
    match (&issuer.grounds, issuer.direct_issuance) {
        (Grounds::Authority, Switch::Off) => {
            return Err(Error::wrong_state(format!(
                "the certificate authority {} issues by templates, subscribers and profiles only",
                authority.name
            )));
        }
        (Grounds::Subscriber(subscriber), _) => subscriber.must_be_active()?,
        (Grounds::Authority, Switch::On) | (Grounds::Template(_), _) => {}
    }
    let plan = Plan::directly(issuer, request, now)?;
    let violations = super::Content::planned(&plan, false).violations_directly(issuer);
    if !violations.is_empty() {
        return Err(against(&issuer.title(), violations));
    }
    may_be_signed_by(authority, &plan, now)?;
    Ok(Approved { plan, basis: Basis::Direct(issuer.clone()), signer: Signer::Authority(authority.clone()) })
}

impl DirectIssuer {
    /// What signs and judges on these grounds.
    pub fn new(
        project: ProjectId,
        authority: Arc<IssuingAuthority>,
        direct_issuance: Switch,
        grounds: Grounds,
    ) -> Result<Self> {
        // What is stored reads; a damaged row is found before anything is decided.
        match &grounds {
            Grounds::Authority => {}
            Grounds::Template(template) => template.document.check()?,
            Grounds::Subscriber(subscriber) => drop(subscriber.document.ttl_millis()?),
        }
        let rules = open_rules(&grounds);
        Ok(Self { project, authority, direct_issuance, grounds, rules })
    }

    /// What every finished certificate is judged by beside the rules of the grounds.
    pub(super) fn rules(&self) -> &PolicyRules {
        &self.rules
    }

    /// For messages.
    pub fn title(&self) -> String {
        match &self.grounds {
            Grounds::Authority => format!("certificate authority {}", self.authority.name),
            Grounds::Template(template) => format!("template {}", template.name),
            Grounds::Subscriber(subscriber) => format!("subscriber {}", subscriber.name),
        }
    }
}

impl Grounds {
    /// The key usages that may be; without a list any may.
    pub(super) fn key_usages(&self) -> Option<KeyUsages> {
        let named = match self {
            Self::Authority => return None,
            Self::Template(template) => &template.document.key_usages,
            Self::Subscriber(subscriber) => &subscriber.document.key_usages,
        };
        let usages = named.iter().filter_map(|name| KeyUsage::from_camel_name(name));
        Some(usages.fold(KeyUsages::NONE, KeyUsages::with))
    }

    /// The extended key usages that may be; without a list any may.
    pub(super) fn extended_key_usages(&self) -> Option<Vec<ExtendedKeyUsage>> {
        let named = match self {
            Self::Authority => return None,
            Self::Template(template) => &template.document.extended_key_usages,
            Self::Subscriber(subscriber) => &subscriber.document.extended_key_usages,
        };
        Some(named.iter().filter_map(|name| ExtendedKeyUsage::from_camel_name(name)).collect())
    }

    /// The longest lifetime in milliseconds, which is also the one that is taken when none is asked for.
    pub(super) fn ttl_millis(&self) -> Option<i64> {
        match self {
            Self::Authority => None,
            Self::Template(template) => template.document.ttl_millis().ok(),
            Self::Subscriber(subscriber) => subscriber.document.ttl_millis().ok(),
        }
    }

    /// The rules that a policy has no words for: names, then the lifetime, then alternative names (contract §5.1, 7.1).
    pub(super) fn judge(&self, judged: &Judged) -> Vec<Violation> {
        let mut violations = Vec::new();
        let common_names: Vec<&str> = judged
            .subject
            .iter()
            .filter(|(kind, _)| *kind == SubjectAttribute::CommonName)
            .map(|(_, value)| value.as_str())
            .collect();
        self.judge_common_names(&common_names, &mut violations);
        if let Some(longest) = self.ttl_millis()
            && judged.lifetime_millis > longest
        {
            let longest = crate::duration::in_words(longest);
            let message = format!("the lifetime is longer than {longest}, which is the longest");
            violations.push(Violation::new("ttl", "lifetime", message));
        }
        self.judge_alt_names(&judged.sans, &mut violations);
        violations
    }

    fn judge_common_names(&self, common_names: &[&str], violations: &mut Vec<Violation>) {
        let mut refuse = |message| violations.push(Violation::new("commonName", "common-name", message));
        match self {
            Self::Authority => {}
            Self::Template(template) => {
                let Ok(pattern) = template.document.common_names() else { return };
                // Without a common name the pattern is held against none.
                let names = if common_names.is_empty() { &[""][..] } else { common_names };
                for name in names.iter().filter(|name| !pattern.is_in(name)) {
                    refuse(format!("the common name {name:?} is not like {}", template.document.common_name));
                }
            }
            Self::Subscriber(subscriber) => {
                let own = &subscriber.document.common_name;
                for name in common_names.iter().filter(|name| *name != own) {
                    refuse(format!("the common name {name:?} is not {own:?}"));
                }
            }
        }
    }

    fn judge_alt_names(&self, names: &[(SanType, String)], violations: &mut Vec<Violation>) {
        let mut refuse = |message| violations.push(Violation::new("altNames", "alt-name", message));
        match self {
            Self::Authority => {}
            Self::Template(template) => {
                let Ok(pattern) = template.document.alt_names() else { return };
                for (_, name) in names.iter().filter(|(_, name)| !pattern.is_in(name)) {
                    let own = &template.document.subject_alternative_name;
                    refuse(format!("the alternative name {name:?} is not like {own}"));
                }
            }
            Self::Subscriber(subscriber) => {
                let own = own_names(subscriber);
                for name in names.iter().filter(|name| !own.contains(name)) {
                    refuse(format!("the alternative name {:?} is not one of the subscriber's", name.1));
                }
            }
        }
    }
}

/// The names of a subscriber as certificates hold them; its common name is one when it is a host or an address.
fn own_names(subscriber: &Subscriber) -> Vec<(SanType, String)> {
    let document = &subscriber.document;
    let typed = document.subject_alternative_names.iter();
    let typed: Vec<_> = typed.filter_map(|name| Some((alt_name_type(name)?, name.clone()))).collect();
    let mut names = general_names(&typed).unwrap_or_default();
    names.extend(host_in(&document.common_name).ok().flatten());
    names.iter().filter_map(|name| Some((super::judged::san_type(name)?, name.text().into_owned()))).collect()
}

/// Everything but an authority is allowed, with the usages of the grounds.
fn open_rules(grounds: &Grounds) -> PolicyRules {
    let anything = || Some(vec!["*".to_owned()]);
    let usages = |names: Vec<String>| Some(UsageRule { allowed: Some(names), ..UsageRule::default() });
    let key_usages = match grounds.key_usages() {
        None => KEY_USAGES.map(str::to_owned).to_vec(),
        Some(listed) => listed.iter().map(|usage| usage.snake_name().to_owned()).collect(),
    };
    let extended_key_usages = match grounds.extended_key_usages() {
        None => EXTENDED_KEY_USAGES.map(str::to_owned).to_vec(),
        Some(listed) => listed.iter().filter_map(|usage| Some(usage.snake_name()?.to_owned())).collect(),
    };
    PolicyRules {
        subject: Some(
            SubjectAttribute::ALL
                .map(|attribute| SubjectRule { attribute, allowed: anything(), required: None, denied: None })
                .to_vec(),
        ),
        sans: Some(
            SanType::ALL
                .map(|san_type| SanRule { san_type, allowed: anything(), required: None, denied: None })
                .to_vec(),
        ),
        key_usages: usages(key_usages),
        extended_key_usages: usages(extended_key_usages),
        algorithms: Some(AlgorithmRule {
            signature: Some(SignatureAlgorithm::ALL.map(|algorithm| algorithm.as_str().to_owned()).to_vec()),
            key_algorithm: Some(KeyAlgorithm::ALL.map(|algorithm| algorithm.as_str().to_owned()).to_vec()),
        }),
        validity: None,
        basic_constraints: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_one_text_are_of_the_type_that_they_look_like() {
        let named =
            parse_alt_names("www.example.com, *.example.com,192.0.2.7 ,2001:db8::1,ops@example.com,, localhost")
                .unwrap();
        let kinds: Vec<SanType> = named.iter().map(|(kind, _)| *kind).collect();
        use SanType::{DnsName, Email, IpAddress};
        assert_eq!(kinds, [DnsName, DnsName, IpAddress, IpAddress, Email, DnsName]);
        assert_eq!(parse_alt_names("https://example.com/a").unwrap()[0].0, SanType::Uri);
        assert_eq!(parse_alt_names("spiffe://example.com/a").unwrap()[0].0, SanType::Uri);
        assert_eq!(parse_alt_names(" "), Some(vec![]));
        for text in ["not a name", "a_b.example.com", "www.example.com:443", "www.example.com,*", "1.2.3", "@", "a..b"]
        {
            assert_eq!(parse_alt_names(text), None, "{text}");
        }
        assert!(parse_alt_names(&"a,".repeat(ALT_NAMES_MAX)).is_some());
        assert_eq!(parse_alt_names(&"a,".repeat(ALT_NAMES_MAX + 1)), None);
    }
}
