//! The one path to a signature: request → approved → to be signed.
//!
//! Every door (REST, renewal, and the enrolment protocols) makes an [`IssuanceRequest`]; [`decide`] looks at it with the
//! profile, its policy and its authority; what it approves is built, and the policy is judged once more on the finished
//! bytes. Only those very bytes can be signed.
//!
//! `issuance/plan.rs` makes a plan of a request, `issuance/judged.rs` is what rules see of it, `issuance/issuer.rs` is
//! who signs, `issuance/authority.rs` the decision on certificates of authorities, `issuance/responder.rs` that on
//! certificates of OCSP responders, `issuance/direct.rs` that on certificates that come from no profile.

mod authority;
mod direct;
mod issuer;
mod judged;
mod plan;
mod responder;

pub use authority::AuthorityRequest;
pub use direct::{DirectIssuer, Grounds, alt_name_type, parse_alt_names};
pub use issuer::{ActiveCertificate, Issuer, IssuingAuthority};
pub use judged::request_of;
pub use plan::{check_names, requested_extensions, requested_subject};

use crate::inventory::{IssuedBy, JudgedBy};
use crate::policy::{SanType, SubjectAttribute};
use crate::profile::IssuerKind;
use crate::{Error, Reason, Refusal, Result, Time, Violation};
use judged::{Content, alt_names};
use plan::Plan;
use std::sync::Arc;
use x509::chain::constraints::check_names as check_constraints;
use x509::chain::{PolicyFacts, check_policies};
use x509::{
    AttributeType, BasicConstraints, CertificateTemplate, CertificationRequest, Criticality, DistinguishedName,
    DnsName, ExtendedKeyUsage, GeneralName, KeyAlgorithm, KeyUsages, NameConstraints, RequiredFields, SerialNumber,
    SignatureAlgorithm, TbsCertificate,
};

/// Who asks for what, from which profile, as it came through one of the doors.
#[derive(Clone, Debug)]
pub struct IssuanceRequest {
    /// What the certificate is for: its names and its key.
    pub subject: Subject,
    /// What the requester would like; the policy decides.
    pub wishes: Wishes,
}

/// The names and the key of a certificate.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Everything but the lifetime stands in a certification request.
    Csr(Box<CertificationRequest>),
    /// The names are given and the key is made here.
    Fields {
        /// The subject's attributes in the order in which they are encoded.
        attributes: Vec<(SubjectAttribute, String)>,
        /// The alternative names, as declared.
        alt_names: Vec<(SanType, String)>,
        /// The key to make.
        key_algorithm: Option<KeyAlgorithm>,
    },
}

/// What a requester would like. Of these, a CSR takes only the lifetime; the rest it says itself, unless it is signed without
/// a profile (`issuance/direct.rs`).
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Lifetime in milliseconds.
    pub ttl_millis: Option<i64>,
    /// The beginning, instead of now.
    pub not_before: Option<Time>,
    /// The end, instead of a lifetime.
    pub not_after: Option<Time>,
    /// Key usages.
    pub key_usages: Option<KeyUsages>,
    /// Extended key usages.
    pub extended_key_usages: Option<Vec<ExtendedKeyUsage>>,
    /// The signature on the certificate.
    pub signature_algorithm: Option<SignatureAlgorithm>,
    /// Basic constraints.
    pub basic_constraints: Option<BasicConstraints>,
    /// Alternative names in place of those of a CSR that is signed without a profile.
    pub alt_names: Option<Vec<(SanType, String)>>,
}

/// A certificate that may be made: decided, and not yet built.
#[derive(Debug)]
pub struct Approved {
    plan: Plan,
    basis: Basis,
    signer: Signer,
}

/// What a decision rests on, and what the finished bytes are judged by.
#[derive(Debug)]
enum Basis {
    /// A profile's policy.
    Policy(Arc<Issuer>),
    /// What there is in place of a profile.
    Direct(Arc<DirectIssuer>),
    /// The rules for certificates of authorities, which `authority.rs` has applied to the plan.
    Authority,
    /// What `responder.rs` says, and nothing else.
    Responder,
}

/// Who signs.
#[derive(Debug)]
enum Signer {
    /// This authority.
    Authority(Arc<IssuingAuthority>),
    /// The certificate's own key.
    Itself,
}

/// The bytes of a certificate that was judged and that nobody has changed since. Signing takes it by value, so it is
/// signed once.
#[derive(Debug)]
pub struct ToBeSigned {
    bytes: Vec<u8>,
    algorithm: SignatureAlgorithm,
    judged_sha256: [u8; 32],
}

/// A request with what it is decided by.
#[derive(Debug)]
pub enum Case<'a> {
    /// For anybody, from a profile: its policy and its authority decide.
    Leaf(&'a Arc<Issuer>, &'a IssuanceRequest),
    /// For anybody, without a profile.
    Direct(&'a Arc<DirectIssuer>, &'a IssuanceRequest),
    /// For an authority: the rules of contract §3.10 decide; without a parent it signs itself.
    Authority(Option<&'a Arc<IssuingAuthority>>, AuthorityRequest),
    /// For a key of this server that is to speak of the certificates of an authority.
    Responder(&'a Arc<IssuingAuthority>),
}

/// The one decision on certificates. What it approves can be built, and nothing else can.
pub fn decide(case: Case<'_>, now: Time) -> Result<Approved> {
    match case {
        Case::Leaf(issuer, request) => decide_leaf(issuer, request, now),
        Case::Direct(issuer, request) => direct::decide(issuer, request, now),
        Case::Authority(parent, request) => authority::decide(parent, request, now),
        Case::Responder(authority) => responder::decide(authority, now),
    }
}

/// Looks at a request with the profile, the policy and the authority. The order of refusals is that of contract §6.1.
fn decide_leaf(issuer: &Arc<Issuer>, request: &IssuanceRequest, now: Time) -> Result<Approved> {
    let plan = Plan::of(issuer, request, now)?;
    let is_self_signed = issuer.profile.document.issuer == IssuerKind::SelfSigned;
    let violations = Content::planned(&plan, is_self_signed).violations(&issuer.policy.rules);
    if !violations.is_empty() {
        return Err(against(&title(issuer), violations));
    }
    must_name_algorithms(issuer, request)?;
    let signer = match (issuer.profile.document.issuer, &issuer.authority) {
        (IssuerKind::SelfSigned, _) => {
            issuer::must_fit(plan.signature_algorithm, plan.key_algorithm, "the certificate's own key")?;
            Signer::Itself
        }
        (IssuerKind::Ca, None) => {
            return Err(Error::not_found("the profile's certificate authority is not there any more"));
        }
        (IssuerKind::Ca, Some(authority)) => {
            may_sign(issuer, authority, &plan, now)?;
            Signer::Authority(authority.clone())
        }
    };
    Ok(Approved { plan, basis: Basis::Policy(issuer.clone()), signer })
}

/// contract §5.2: where the policy lists algorithms, whoever has the key made here chooses from the list.
fn must_name_algorithms(issuer: &Issuer, request: &IssuanceRequest) -> Result<()> {
    let Subject::Fields { key_algorithm, .. } = &request.subject else { return Ok(()) };
    let Some(listed) = &issuer.policy.rules.algorithms else { return Ok(()) };
    let must = |field: &'static str| {
        let message = format!("the policy lists algorithms to choose from, so the request must name a {field}");
        Violation::new(field, "algorithm-required", message)
    };
    let mut violations = Vec::new();
    if listed.key_algorithm.is_some() && key_algorithm.is_none() {
        violations.push(must("keyAlgorithm"));
    }
    if listed.signature.is_some() && request.wishes.signature_algorithm.is_none() {
        violations.push(must("signatureAlgorithm"));
    }
    if violations.is_empty() { Ok(()) } else { Err(against(&title(issuer), violations)) }
}

/// contract §6.1 steps 10 and 12, and the names that the chain above allows (invariants C6).
fn may_sign(issuer: &Issuer, authority: &IssuingAuthority, plan: &Plan, now: Time) -> Result<()> {
    let rules = &issuer.policy.rules;
    let lists_signatures = rules.algorithms.as_ref().is_some_and(|rule| rule.signature.is_some());
    if lists_signatures && !rules.allows_signatures_of(authority.key_algorithm.family()) {
        return Err(Error::invalid(format!(
            "the policy {} allows no signature that the {} key of {} can make",
            issuer.policy.name, authority.key_algorithm, authority.name
        )));
    }
    may_be_signed_by(authority, plan, now)
}

/// contract §6.1 step 12, whatever the certificate comes from.
fn may_be_signed_by(authority: &IssuingAuthority, plan: &Plan, now: Time) -> Result<()> {
    let active = authority.may_issue(plan.not_before, plan.not_after, now)?;
    authority.must_make(plan.signature_algorithm)?;
    if plan.basic_constraints.ca {
        authority.may_certify_authorities(plan.basic_constraints.path_length, now)?;
    }
    must_be_usable(authority, active, &plan.extended_key_usages)?;
    must_be_within(authority, active, &plan.subject, &plan.alt_names, plan.basic_constraints.ca)
}

/// An authority that is limited to some extended key usages passes that limit on: TLS stacks refuse a certificate below it
/// that is used for anything else.
fn must_be_usable(authority: &IssuingAuthority, active: &ActiveCertificate, usages: &[ExtendedKeyUsage]) -> Result<()> {
    let is_outside = |usage: &&ExtendedKeyUsage| {
        active
            .extended_key_usages
            .iter()
            .any(|allowed| !allowed.contains(usage) && !allowed.iter().any(ExtendedKeyUsage::is_any))
    };
    match usages.iter().find(is_outside) {
        None => Ok(()),
        Some(usage) => Err(Error::against_policy(format!(
            "the certificate of {} or one above it is not for the extended key usage {}",
            authority.name,
            usage.snake_name().map_or_else(|| x509::oid::to_dotted(usage.oid()), str::to_owned)
        ))),
    }
}

/// RFC 5280 §4.2.1.10, applied before the signature and not only by those who check it.
fn must_be_within(
    authority: &IssuingAuthority,
    active: &ActiveCertificate,
    subject: &DistinguishedName,
    names: &[GeneralName],
    is_authority: bool,
) -> Result<()> {
    let refused = |why: String| Err(Error::against_policy(format!("the name constraints of {} {why}", authority.name)));
    let host = if active.constraints.is_empty() || is_authority { None } else { host_in_subject(subject, names) };
    let verdict = match host {
        None => check_constraints(&active.constraints, subject, names),
        Some(Host::Name(name)) => {
            let names: Vec<GeneralName> = names.iter().cloned().chain([GeneralName::Dns(name)]).collect();
            check_constraints(&active.constraints, subject, &names)
        }
        Some(Host::Address(address)) => {
            if active.constraints.iter().any(NameConstraints::permits_some_dns_names_only) {
                return refused(format!("are for DNS names, and the common name {address} would be taken for one"));
            }
            check_constraints(&active.constraints, subject, names)
        }
    };
    verdict.or_else(|violation| refused(format!("do not allow it: {violation}")))
}

/// RFC 5280 §6.1.5 (g): where an authority above requires an explicit policy, a certificate without a valid one is refused
/// by everybody who checks it, so it is not signed.
fn must_have_policy(authority: &IssuingAuthority, active: &ActiveCertificate, tbs: &TbsCertificate) -> Result<()> {
    let own = PolicyFacts::of(tbs)
        .map_err(|error| Error::failed_because("a certificate that was just built does not read", error))?;
    let path: Vec<&PolicyFacts> = std::iter::once(&own).chain(&active.policies).collect();
    check_policies(&path).map_err(|_| {
        Error::against_policy(format!(
            "the certificate of {} or one above it requires a certificate policy, and the new certificate would have none \
             that is valid below it",
            authority.name
        ))
    })
}

/// What verifiers take for a host that look into the common name where no DNS name stands beside it, as OpenSSL does.
enum Host {
    Name(DnsName),
    Address(String),
}

fn host_in_subject(subject: &DistinguishedName, names: &[GeneralName]) -> Option<Host> {
    if names.iter().any(|name| matches!(name, GeneralName::Dns(_))) {
        return None;
    }
    let common_name = subject.first(AttributeType::CommonName).filter(|name| name.contains('.'))?;
    match DnsName::parse(common_name) {
        Ok(name) => Some(Host::Name(name)),
        Err(_) => common_name.parse::<std::net::Ipv4Addr>().is_ok().then(|| Host::Address(common_name.to_owned())),
    }
}

fn title(issuer: &Issuer) -> String {
    format!("profile {}", issuer.profile.slug)
}

fn against(title: &str, violations: Vec<Violation>) -> Error {
    let mut refusal = Refusal::violations(Reason::AgainstPolicy, violations);
    refusal.message = format!("{title}: {}", refusal.message);
    refusal.into()
}

impl Approved {
    /// The key to make for this certificate, when none was brought.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.plan.key_algorithm
    }

    /// The key usages that were asked for and that the key's algorithm cannot have (contract §1.8).
    pub fn dropped_key_usages(&self) -> Vec<String> {
        self.plan.dropped.iter().map(|usage| usage.snake_name().to_owned()).collect()
    }

    /// The authority that signs; none signs itself.
    pub fn authority(&self) -> Option<&Arc<IssuingAuthority>> {
        match &self.signer {
            Signer::Authority(authority) => Some(authority),
            Signer::Itself => None,
        }
    }

    /// What the inventory keeps of the profile and the policy.
    pub fn judged_by(&self) -> Option<JudgedBy> {
        match &self.basis {
            Basis::Authority | Basis::Responder | Basis::Direct(_) => None,
            Basis::Policy(issuer) => Some(JudgedBy {
                profile: issuer.profile.id,
                profile_version: issuer.profile.version,
                policy_version: issuer.policy.version,
            }),
        }
    }

    /// What roles with conditions ask of the certificate before there is one: its common name and its alternative names.
    pub fn names(&self) -> (&str, Vec<String>) {
        let names = self.plan.alt_names.iter().map(|name| name.text().into_owned());
        (self.plan.subject.first(AttributeType::CommonName).unwrap_or_default(), names.collect())
    }

    /// What the inventory keeps of the authority.
    pub fn issued_by(&self) -> Option<IssuedBy> {
        let authority = self.authority()?;
        Some(IssuedBy {
            authority: authority.id,
            key: authority.key,
            certificate: authority.active.as_ref()?.id,
            shard: authority.shard,
        })
    }

    /// Builds the certificate for this key, and judges what was built: the policy and the name constraints see the bytes
    /// that will be signed, not the request.
    pub fn certify(&self, spki: &[u8], serial: SerialNumber) -> Result<ToBeSigned> {
        let plan = &self.plan;
        let issuer = match &self.signer {
            Signer::Itself => None,
            Signer::Authority(authority) => {
                let active =
                    authority.active.as_ref().ok_or_else(|| Error::failed("an issuer without a certificate"))?;
                Some((authority, active))
            }
        };
        // invariants §2f: the AKI is the issuer's SKI, copied and not computed again; where an imported certificate has
        // none, that of the issuer's key (RFC 5280 §4.2.1.2, 1).
        let subject_key_id =
            x509::key::key_id_sha1(spki).map_err(|problem| Error::bad_key(format!("the key to certify: {problem}")))?;
        let computed = match issuer {
            Some((_, active)) => x509::key::key_id_sha1(active.certificate.spki_der()).ok(),
            None => None,
        };
        let authority_key_id = match issuer {
            Some((_, active)) => {
                let own = active.certificate.extensions().subject_key_id().ok().flatten();
                own.or(computed.as_ref().map(|id| &id[..]))
            }
            // RFC 5280 §4.2.1.1 spares only the self-signed certificate of an authority.
            None if plan.basic_constraints.ca => None,
            None => Some(&subject_key_id[..]),
        };
        let policies: Vec<&[u8]> = plan.policies.iter().map(Vec::as_slice).collect();
        let mut template = CertificateTemplate::new(RequiredFields {
            serial_number: serial,
            signature_algorithm: plan.signature_algorithm,
            issuer_der: issuer.map_or(plan.subject.as_der(), |(_, active)| active.certificate.subject().as_der()),
            not_before: plan.not_before,
            not_after: plan.not_after,
            subject: &plan.subject,
            spki_der: spki,
        });
        // RFC 5280 §4.2.1.9: critical in certificates of authorities; contract §1.8: not in others.
        let criticality = if plan.basic_constraints.ca { Criticality::Critical } else { Criticality::NonCritical };
        template.basic_constraints = Some((plan.basic_constraints, criticality));
        template.key_usages = plan.key_usages;
        template.extended_key_usages = &plan.extended_key_usages;
        template.subject_alt_names = &plan.alt_names;
        template.subject_key_id = Some(&subject_key_id);
        template.authority_key_id = authority_key_id;
        template.policies = &policies;
        template.name_constraints = plan.name_constraints.as_ref();
        let no_check = [responder::no_check()];
        match (&self.basis, issuer) {
            (Basis::Policy(_) | Basis::Direct(_) | Basis::Authority, Some((authority, _))) => {
                template.crl_urls = &authority.crl_urls;
                template.ocsp_urls = &authority.ocsp_urls;
                template.ca_issuers_urls = &authority.ca_issuer_urls;
            }
            (Basis::Responder, _) => template.other_extensions = &no_check,
            (Basis::Policy(_) | Basis::Direct(_) | Basis::Authority, None) => {}
        }
        self.judged(template.to_be_signed())
    }

    fn judged(&self, bytes: Vec<u8>) -> Result<ToBeSigned> {
        let tbs = TbsCertificate::from_der(bytes.clone())
            .map_err(|error| Error::failed_because("a certificate that was just built does not read", error))?;
        if let Signer::Authority(authority) = &self.signer
            && let Some(active) = &authority.active
        {
            must_be_within(authority, active, tbs.subject(), &alt_names(&tbs)?, self.plan.basic_constraints.ca)?;
            match &self.basis {
                Basis::Policy(_) | Basis::Direct(_) | Basis::Authority => must_have_policy(authority, active, &tbs)?,
                // Whoever believes an answer asks for no policy of whom signed it (RFC 6960 §4.2.2.2).
                Basis::Responder => {}
            }
        }
        let is_self_signed = matches!(self.signer, Signer::Itself);
        let content = Content::finished(&tbs, self.plan.dropped, is_self_signed)?;
        match &self.basis {
            Basis::Policy(issuer) => {
                let violations = content.violations(&issuer.policy.rules);
                if !violations.is_empty() {
                    return Err(against(&title(issuer), violations));
                }
            }
            Basis::Direct(issuer) => {
                let violations = content.violations_directly(issuer);
                if !violations.is_empty() {
                    return Err(against(&issuer.title(), violations));
                }
            }
            Basis::Authority | Basis::Responder => content.must_be(&self.plan)?,
        }
        let judged_sha256 = x509::digest::sha256(&bytes);
        Ok(ToBeSigned { bytes, algorithm: self.plan.signature_algorithm, judged_sha256 })
    }
}

impl ToBeSigned {
    /// The bytes to sign and how, if they are the ones that were judged.
    pub fn into_judged_bytes(self) -> Result<(Vec<u8>, SignatureAlgorithm)> {
        if x509::digest::sha256(&self.bytes) != self.judged_sha256 {
            return Err(Error::failed("a certificate was changed after it had been judged; it is not signed"));
        }
        Ok((self.bytes, self.algorithm))
    }

    /// What an attacker inside the process could do; for the test that signing refuses it.
    #[cfg(any(test, feature = "tamper"))]
    pub fn with_flipped_bit(mut self, position: usize) -> Self {
        let octet = position / 8 % self.bytes.len();
        self.bytes[octet] ^= 1 << (position % 8);
        self
    }
}
