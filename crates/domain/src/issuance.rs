//! The one path to a signature: request → approved → to be signed.
//!
//! Every door (REST, renewal, and the enrolment protocols) makes an [`IssuanceRequest`]; [`decide`] looks at it with the
//! profile, its policy and its authority; what it approves is built, and the policy is judged once more on the finished
//! bytes. Only those very bytes can be signed.

use crate::authority::AuthorityStatus;
use crate::inventory::{IssuedBy, JudgedBy};
use crate::policy::{Judged, PolicyRules, SanType, SubjectAttribute, is_dropped};
use crate::profile::{IssuerKind, Policy, Profile};
use crate::{
    AuthorityCertificateId, AuthorityId, AuthorityKeyId, CrlId, Error, Reason, Refusal, Result, Time, Violation,
};
use std::sync::Arc;
use x509::{
    AttributeType, BasicConstraints, CertificateTemplate, CertificationRequest, Criticality, DistinguishedName, DnsName,
    ExtendedKeyUsage, GeneralName, IpAddress, KeyAlgorithm, KeyUsage, KeyUsages, NameConstraints,
    RequiredFields, SerialNumber, SignatureAlgorithm, TbsCertificate, Uri,
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
    /// Everything stands in a certification request, whose own signature holds.
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

/// What a requester would like.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Lifetime in milliseconds.
    pub ttl_millis: Option<i64>,
    /// The beginning, instead of now.
    pub not_before: Option<Time>,
    /// The end, instead of a lifetime.
    pub not_after: Option<Time>,
    /// Key usages; a request in a CSR brings its own.
    pub key_usages: Option<KeyUsages>,
    /// Extended key usages; a request in a CSR brings its own.
    pub extended_key_usages: Option<Vec<ExtendedKeyUsage>>,
    /// The signature on the certificate.
    pub signature_algorithm: Option<SignatureAlgorithm>,
    /// Basic constraints.
    pub basic_constraints: Option<BasicConstraints>,
}

/// What signs and what judges: a profile, its policy and its authority, as they were read together.
#[derive(Debug)]
pub struct Issuer {
    /// The profile.
    pub profile: Profile,
    /// Its policy.
    pub policy: Policy,
    /// Its authority; none for self-signed certificates.
    pub authority: Option<Arc<IssuingAuthority>>,
}

/// An authority as an issuer of certificates.
#[derive(Debug)]
pub struct IssuingAuthority {
    /// Its id.
    pub id: AuthorityId,
    /// Its name, for messages.
    pub name: String,
    /// Whether it issues.
    pub status: AuthorityStatus,
    /// The version that was read.
    pub version: u32,
    /// The key that signs.
    pub key: AuthorityKeyId,
    /// The key's algorithm.
    pub key_algorithm: KeyAlgorithm,
    /// The number of its name, under which serial numbers are unique.
    pub issuer_name_id: i64,
    /// The list that its certificates name.
    pub crl: CrlId,
    /// The shard of that list.
    pub shard: u32,
    /// The certificate that chains are built with.
    pub active: Option<ActiveCertificate>,
    /// Where the list is.
    pub crl_urls: Vec<Uri>,
    /// Where the authority's certificate is.
    pub ca_issuer_urls: Vec<Uri>,
}

/// The active certificate of an authority, read and rendered once.
#[derive(Debug)]
pub struct ActiveCertificate {
    /// Its id.
    pub id: AuthorityCertificateId,
    /// The certificate.
    pub certificate: x509::Certificate,
    /// The same in PEM.
    pub pem: String,
    /// The authority's certificate and its parents in PEM.
    pub chain_pem: String,
    /// The name constraints of the certificate and its parents, in no particular order.
    pub constraints: Vec<NameConstraints>,
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
    /// The rules for certificates of authorities; `decide_authority` has applied them.
    Authority,
}

/// Who signs.
#[derive(Debug)]
enum Signer {
    /// This authority.
    Authority(Arc<IssuingAuthority>),
    /// The certificate's own key.
    Itself,
}

/// Everything that the certificate will say, except its serial number and its key.
#[derive(Clone, Debug)]
struct Plan {
    subject: DistinguishedName,
    alt_names: Vec<GeneralName>,
    key_usages: KeyUsages,
    dropped: KeyUsages,
    extended_key_usages: Vec<ExtendedKeyUsage>,
    basic_constraints: BasicConstraints,
    policies: Vec<Vec<u8>>,
    name_constraints: Option<NameConstraints>,
    key_algorithm: KeyAlgorithm,
    signature_algorithm: SignatureAlgorithm,
    not_before: i64,
    not_after: i64,
}

/// The bytes of a certificate that was judged and that nobody has changed since. Signing takes it by value, so it is
/// signed once.
#[derive(Debug)]
pub struct ToBeSigned {
    bytes: Vec<u8>,
    algorithm: SignatureAlgorithm,
    judged_sha256: [u8; 32],
}

/// Looks at a request with the profile, the policy and the authority. The order of refusals is that of contract §6.1.
pub fn decide(issuer: &Arc<Issuer>, request: &IssuanceRequest, now: Time) -> Result<Approved> {
    let plan = plan(issuer, request, now)?;
    let violations = judge(&issuer.policy, &plan.judged());
    if !violations.is_empty() {
        return Err(against(&issuer.profile, violations));
    }
    let signer = match (issuer.profile.document.issuer, &issuer.authority) {
        (IssuerKind::SelfSigned, _) => {
            must_fit(plan.signature_algorithm, plan.key_algorithm, "the certificate's own key")?;
            Signer::Itself
        }
        (IssuerKind::Ca, None) => {
            return Err(Error::not_found("the profile's certificate authority is not there any more"));
        }
        (IssuerKind::Ca, Some(authority)) => {
            if !issuer.policy.rules.algorithms.as_ref().is_none_or(|rule| rule.signature.is_none())
                && !issuer.policy.rules.allows_signatures_of(authority.key_algorithm.family())
            {
                return Err(Error::invalid(format!(
                    "the policy {} allows no signature that the {} key of {} can make",
                    issuer.policy.name, authority.key_algorithm, authority.name
                )));
            }
            may_issue(authority, plan.not_before, plan.not_after, now)?;
            must_fit(plan.signature_algorithm, authority.key_algorithm, &format!("the key of {}", authority.name))?;
            Signer::Authority(authority.clone())
        }
    };
    Ok(Approved { plan, basis: Basis::Policy(issuer.clone()), signer })
}

/// What a certificate of an authority shall say.
#[derive(Debug)]
pub struct AuthorityRequest {
    /// The subject, byte for byte as it was asked for.
    pub subject: DistinguishedName,
    /// The key that is certified.
    pub key_algorithm: KeyAlgorithm,
    /// How many authorities may follow; none is without limit.
    pub path_length: Option<u32>,
    /// The beginning.
    pub not_before: Time,
    /// The end.
    pub not_after: Time,
    /// Names that certificates below may and may not have.
    pub name_constraints: Option<NameConstraints>,
    /// Certificate policies, as the contents of OIDs.
    pub policies: Vec<Vec<u8>>,
    /// Extended key usages.
    pub extended_key_usages: Vec<ExtendedKeyUsage>,
}

/// Looks at a request for the certificate of an authority: signed by `parent`, or by its own key when there is none.
/// The order of refusals is that of contract §3.10.
pub fn decide_authority(parent: Option<&Arc<IssuingAuthority>>, request: AuthorityRequest, now: Time) -> Result<Approved> {
    let key_family = request.key_algorithm.family();
    let mut usages = KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign]);
    let mut dropped = KeyUsages::NONE;
    if parent.is_some() {
        usages = usages.with(KeyUsage::DigitalSignature);
        match is_dropped(KeyUsage::KeyEncipherment.snake_name(), key_family) {
            true => dropped = dropped.with(KeyUsage::KeyEncipherment),
            false => usages = usages.with(KeyUsage::KeyEncipherment),
        }
    }
    let signing_key = parent.map_or(request.key_algorithm, |parent| parent.key_algorithm);
    let plan = Plan {
        subject: request.subject,
        alt_names: Vec::new(),
        key_usages: usages,
        dropped,
        extended_key_usages: request.extended_key_usages,
        basic_constraints: BasicConstraints { ca: true, path_length: request.path_length },
        policies: request.policies,
        name_constraints: request.name_constraints,
        key_algorithm: request.key_algorithm,
        signature_algorithm: signing_key.default_signature(),
        not_before: request.not_before.seconds(),
        not_after: request.not_after.seconds(),
    };
    if plan.subject.is_empty() {
        return Err(Error::invalid("a certificate authority needs a subject"));
    }
    let signer = match parent {
        None => {
            if plan.not_before >= plan.not_after {
                return Err(Error::invalid("notBefore must be earlier than notAfter"));
            }
            Signer::Itself
        }
        Some(parent) => {
            may_certify_authorities(parent, request.path_length, now)?;
            may_issue(parent, plan.not_before, plan.not_after, now)?;
            Signer::Authority(parent.clone())
        }
    };
    Ok(Approved { plan, basis: Basis::Authority, signer })
}

/// RFC 5280 §4.2.1.9: pathLen bounds how many authorities may follow below.
fn may_certify_authorities(parent: &IssuingAuthority, path_length: Option<u32>, now: Time) -> Result<()> {
    let active = active(parent, now)?;
    let constraints = active.certificate.extensions().basic_constraints().ok().flatten();
    match (constraints.and_then(|constraints| constraints.path_length), path_length) {
        (None, _) => Ok(()),
        (Some(0), _) => Err(Error::invalid(format!(
            "the path length of {} is 0: it may certify no other authority",
            parent.name
        ))),
        (Some(limit), Some(length)) if length < limit => Ok(()),
        (Some(limit), _) => Err(Error::invalid(format!(
            "the path length of {} is {limit}: maxPathLength must be given and smaller",
            parent.name
        ))),
    }
}

/// The authority issues, has a certificate, and the lifetime lies within that certificate's (contract §6.1 step 12).
fn may_issue(authority: &IssuingAuthority, not_before: i64, not_after: i64, now: Time) -> Result<()> {
    let active = active(authority, now)?;
    let name = &authority.name;
    if not_before < active.certificate.not_before() {
        return Err(Error::invalid(format!("notBefore lies before the certificate of {name} begins")));
    }
    if not_before > not_after {
        return Err(Error::invalid("notBefore must be earlier than notAfter"));
    }
    if not_after > active.certificate.not_after() {
        return Err(Error::invalid(format!(
            "the lifetime would end after the certificate of {name} does; ask for a shorter one, or renew {name} first"
        )));
    }
    Ok(())
}

fn active(authority: &IssuingAuthority, now: Time) -> Result<&ActiveCertificate> {
    let name = &authority.name;
    match authority.status {
        AuthorityStatus::Disabled => return Err(Error::wrong_state(format!("the certificate authority {name} is disabled"))),
        AuthorityStatus::Active | AuthorityStatus::PendingCertificate => {}
    }
    let Some(active) = &authority.active else {
        return Err(Error::wrong_state(format!("the certificate authority {name} has no certificate installed")));
    };
    if active.certificate.not_after() < now.seconds() {
        return Err(Error::wrong_state(format!("the certificate of the certificate authority {name} has expired")));
    }
    Ok(active)
}

fn must_fit(signature: SignatureAlgorithm, key: KeyAlgorithm, whose: &str) -> Result<()> {
    if signature.family() == key.family() {
        return Ok(());
    }
    Err(Error::invalid(format!("{signature} does not fit {whose}, which makes {} signatures ({key})", key.family())))
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
            Basis::Authority => None,
            Basis::Policy(issuer) => Some(JudgedBy {
                profile: issuer.profile.id,
                profile_version: issuer.profile.version,
                policy_version: issuer.policy.version,
            }),
        }
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
                let active = authority.active.as_ref().ok_or_else(|| Error::failed("an issuer without a certificate"))?;
                Some((authority, active))
            }
        };
        // invariants §2f: the AKI is the issuer's SKI, copied and not computed again.
        let authority_key_id = match issuer {
            None => None,
            Some((_, active)) => active.certificate.extensions().subject_key_id().ok().flatten(),
        };
        let subject_key_id = x509::key::key_id_sha1(spki)
            .map_err(|problem| Error::bad_key(format!("the key to certify: {problem}")))?;
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
        if let Some((authority, _)) = issuer {
            template.crl_urls = &authority.crl_urls;
            template.ca_issuers_urls = &authority.ca_issuer_urls;
        }
        self.judged(template.to_be_signed())
    }

    fn judged(&self, bytes: Vec<u8>) -> Result<ToBeSigned> {
        let tbs = TbsCertificate::from_der(bytes.clone())
            .map_err(|error| Error::failed_because("a certificate that was just built does not read", error))?;
        if let Signer::Authority(authority) = &self.signer
            && let Some(active) = &authority.active
        {
            let names = alt_names(&tbs)?;
            x509::chain::constraints::check_names(&active.constraints, tbs.subject(), &names).map_err(|violation| {
                Error::against_policy(format!("the name constraints of {} do not allow it: {violation}", authority.name))
            })?;
        }
        if let Basis::Policy(issuer) = &self.basis {
            let violations = judge(&issuer.policy, &judged_of(&tbs, &self.plan)?);
            if !violations.is_empty() {
                return Err(against(&issuer.profile, violations));
            }
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
        let octet = position % self.bytes.len();
        self.bytes[octet] ^= 1;
        self
    }
}

fn plan(issuer: &Issuer, request: &IssuanceRequest, now: Time) -> Result<Plan> {
    let wishes = &request.wishes;
    let (not_before, not_after) = lifetime(wishes, now)?;
    let mut plan = match &request.subject {
        Subject::Csr(csr) => plan_of_csr(csr, wishes)?,
        Subject::Fields { attributes, alt_names, key_algorithm } => {
            let signing = issuer.authority.as_ref().map(|authority| authority.key_algorithm);
            plan_of_fields(&issuer.policy.rules, attributes, alt_names, *key_algorithm, signing, wishes)?
        }
    };
    plan.not_before = not_before;
    plan.not_after = not_after;
    add_common_name(&issuer.policy.rules, &mut plan)?;
    // RFC 8813 §3, contract §1.8: these usages make no sense with such a key and are left out, and that is said.
    for usage in plan.key_usages.iter() {
        if is_dropped(usage.snake_name(), plan.key_algorithm.family()) {
            plan.key_usages = plan.key_usages.without(usage);
            plan.dropped = plan.dropped.with(usage);
        }
    }
    Ok(plan)
}

/// contract §6.1, names: a leaf has a name, and a CN that is a DNS name or an IP address does not hide from SAN rules.
fn add_common_name(rules: &PolicyRules, plan: &mut Plan) -> Result<()> {
    if plan.alt_names.is_empty() && plan.subject.first(AttributeType::CommonName).is_none() {
        return Err(Error::invalid("a certificate needs a common name or at least one alternative name"));
    }
    let common_names: Vec<String> =
        plan.subject.attributes().filter(|(kind, _)| *kind == AttributeType::CommonName).map(|(_, value)| value.to_owned()).collect();
    for common_name in common_names {
        let name = match (IpAddress::parse(&common_name), DnsName::parse(&common_name)) {
            (Ok(address), _) => GeneralName::Ip(address),
            (Err(_), Ok(name)) => GeneralName::Dns(name),
            (Err(_), Err(_)) => continue,
        };
        let has_rule = san_type(&name).is_some_and(|kind| rules.allows_type(kind));
        if has_rule && !plan.alt_names.contains(&name) {
            plan.alt_names.push(name);
        }
    }
    Ok(())
}

fn plan_of_csr(csr: &CertificationRequest, wishes: &Wishes) -> Result<Plan> {
    let extensions = csr.requested_extensions().map_err(unreadable_csr)?;
    let key = csr.public_key().map_err(|problem| Error::bad_key(format!("the key of the CSR: {problem}")))?;
    if let Some(oid) = extensions.unknown_critical() {
        return Err(Error::invalid(format!("the CSR asks for the unknown critical extension {}", x509::oid::to_dotted(oid))));
    }
    csr.subject().validate().map_err(|error| Error::invalid(format!("the subject of the CSR: {error}")))?;
    let names = extensions.subject_alt_names().map_err(unreadable_csr)?;
    let alt_names = match names {
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
        subject: csr.subject().clone(),
        alt_names: without_repeats(alt_names),
        key_usages: extensions.key_usages().map_err(unreadable_csr)?.or(wishes.key_usages).unwrap_or(KeyUsages::NONE),
        dropped: KeyUsages::NONE,
        extended_key_usages: extensions
            .extended_key_usages()
            .map_err(unreadable_csr)?
            .or_else(|| wishes.extended_key_usages.clone())
            .unwrap_or_default(),
        basic_constraints: extensions
            .basic_constraints()
            .map_err(unreadable_csr)?
            .or(wishes.basic_constraints)
            .unwrap_or(BasicConstraints { ca: false, path_length: None }),
        policies: vec![x509::oid::ANY_POLICY.to_vec()],
        name_constraints: None,
        key_algorithm: key.algorithm(),
        signature_algorithm: csr.signature_algorithm().map_err(unreadable_csr)?,
        not_before: 0,
        not_after: 0,
    })
}

fn plan_of_fields(
    rules: &PolicyRules,
    attributes: &[(SubjectAttribute, String)],
    alt_names: &[(SanType, String)],
    key_algorithm: Option<KeyAlgorithm>,
    signing: Option<KeyAlgorithm>,
    wishes: &Wishes,
) -> Result<Plan> {
    let subject: Vec<(AttributeType, &str)> =
        attributes.iter().map(|(kind, value)| (attribute_type(*kind), value.as_str())).collect();
    let subject = DistinguishedName::build(&subject).map_err(|error| Error::invalid(error.to_string()))?;
    let mut names = Vec::with_capacity(alt_names.len());
    let mut violations = Vec::new();
    for (position, (kind, value)) in alt_names.iter().enumerate() {
        match general_name(*kind, value) {
            Ok(name) => names.push(name),
            Err(error) => violations.push(Violation::new(format!("altNames.{position}"), "name", error.to_string())),
        }
    }
    if !violations.is_empty() {
        return Err(Refusal::violations(Reason::Invalid, violations).into());
    }
    let key_algorithm = key_algorithm.or(signing).unwrap_or(KeyAlgorithm::Rsa2048);
    let listed = |list: fn(&crate::policy::AlgorithmRule) -> bool| rules.algorithms.as_ref().is_some_and(list);
    if wishes.signature_algorithm.is_none() && listed(|rule| rule.signature.is_some()) && signing.is_none() {
        return Err(Error::against_policy("the policy lists signature algorithms, so the request must name one"));
    }
    Ok(Plan {
        subject,
        alt_names: without_repeats(names),
        key_usages: wishes.key_usages.unwrap_or(KeyUsages::NONE),
        dropped: KeyUsages::NONE,
        extended_key_usages: wishes.extended_key_usages.clone().unwrap_or_default(),
        basic_constraints: wishes.basic_constraints.unwrap_or(BasicConstraints { ca: false, path_length: None }),
        policies: vec![x509::oid::ANY_POLICY.to_vec()],
        name_constraints: None,
        key_algorithm,
        signature_algorithm: wishes
            .signature_algorithm
            .unwrap_or_else(|| signing.unwrap_or(key_algorithm).default_signature()),
        not_before: 0,
        not_after: 0,
    })
}

fn without_repeats(names: Vec<GeneralName>) -> Vec<GeneralName> {
    let mut kept: Vec<GeneralName> = Vec::with_capacity(names.len());
    for name in names {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

fn general_name(kind: SanType, value: &str) -> std::result::Result<GeneralName, x509::NameError> {
    match kind {
        SanType::DnsName => DnsName::parse(value).map(GeneralName::Dns),
        SanType::IpAddress => IpAddress::parse(value).map(GeneralName::Ip),
        SanType::Email => x509::EmailAddress::parse(value).map(GeneralName::Email),
        SanType::Uri => Uri::parse(value).map(GeneralName::Uri),
    }
}

/// The end is the beginning and the lifetime; nothing is clamped and nothing is backdated (contract §6.1).
fn lifetime(wishes: &Wishes, now: Time) -> Result<(i64, i64)> {
    let not_before = wishes.not_before.unwrap_or(now).seconds();
    let not_after = match (wishes.not_after, wishes.ttl_millis) {
        (Some(end), _) => end.seconds(),
        (None, Some(ttl)) if ttl >= 1000 => not_before.saturating_add(ttl / 1000),
        (None, Some(_)) => return Err(Error::invalid("a certificate lives at least one second")),
        (None, None) => {
            return Err(Error::invalid("the request must name a ttl or a notAfter: the profile has no default lifetime"));
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

impl Plan {
    /// The certificate to come, as the policy sees it.
    fn judged(&self) -> Judged {
        let (subject, _) = subject_attributes(&self.subject);
        Judged {
            subject,
            sans: alt_name_texts(&self.alt_names),
            key_usages: self.key_usages.iter().map(KeyUsage::snake_name).collect(),
            extended_key_usages: usage_names(&self.extended_key_usages),
            signature_algorithm: Some(self.signature_algorithm),
            key_algorithm: Some(self.key_algorithm),
            lifetime_millis: (self.not_after - self.not_before).saturating_mul(1000),
            is_ca: self.basic_constraints.ca,
            path_length: self.basic_constraints.path_length,
            dropped_key_usages: self.dropped.iter().map(KeyUsage::snake_name).collect(),
        }
    }
}

/// The finished bytes as the policy sees them: read back, not remembered.
fn judged_of(tbs: &TbsCertificate, plan: &Plan) -> Result<Judged> {
    let extensions = tbs.extensions();
    let (subject, unknown) = subject_attributes(tbs.subject());
    if let Some(kind) = unknown {
        return Err(Error::against_policy(format!("the subject attribute {kind} is not one that a policy can allow")));
    }
    let basic = extensions.basic_constraints().map_err(unreadable)?;
    let usages = extensions.key_usages().map_err(unreadable)?.unwrap_or(KeyUsages::NONE);
    if !basic.is_some_and(|basic| basic.ca)
        && (usages.contains(KeyUsage::KeyCertSign) || usages.contains(KeyUsage::CrlSign))
    {
        // RFC 5280 §4.2.1.3: keyCertSign only with cA.
        return Err(Error::against_policy(
            "the key usages key_cert_sign and crl_sign belong to certificates of authorities, which this is not",
        ));
    }
    Ok(Judged {
        subject,
        sans: alt_name_texts(&alt_names(tbs)?),
        key_usages: usages.iter().map(KeyUsage::snake_name).collect(),
        extended_key_usages: usage_names(&extensions.extended_key_usages().map_err(unreadable)?.unwrap_or_default()),
        signature_algorithm: tbs.signature_algorithm(),
        key_algorithm: tbs.key_algorithm().ok(),
        lifetime_millis: (tbs.not_after() - tbs.not_before()).saturating_mul(1000),
        is_ca: basic.is_some_and(|basic| basic.ca),
        path_length: basic.and_then(|basic| basic.path_length),
        dropped_key_usages: plan.dropped.iter().map(KeyUsage::snake_name).collect(),
    })
}

fn judge(policy: &Policy, judged: &Judged) -> Vec<Violation> {
    policy.rules.judge(judged)
}

fn against(profile: &Profile, violations: Vec<Violation>) -> Error {
    let mut refusal = Refusal::violations(Reason::AgainstPolicy, violations);
    refusal.message = format!("profile {}: {}", profile.slug, refusal.message);
    refusal.into()
}

fn subject_attributes(name: &DistinguishedName) -> (Vec<(SubjectAttribute, String)>, Option<String>) {
    let mut known = Vec::new();
    let mut unknown = None;
    for (kind, value) in name.attributes() {
        match SubjectAttribute::ALL.into_iter().find(|attribute| attribute_type(*attribute) == kind) {
            Some(attribute) => known.push((attribute, value.to_owned())),
            None => unknown = Some(kind.short_name().into_owned()),
        }
    }
    (known, unknown)
}

fn attribute_type(attribute: SubjectAttribute) -> AttributeType {
    match attribute {
        SubjectAttribute::CommonName => AttributeType::CommonName,
        SubjectAttribute::Organization => AttributeType::Organization,
        SubjectAttribute::Country => AttributeType::Country,
        SubjectAttribute::State => AttributeType::State,
        SubjectAttribute::Locality => AttributeType::Locality,
        SubjectAttribute::OrganizationalUnit => AttributeType::OrganizationalUnit,
        SubjectAttribute::DomainComponent => AttributeType::DomainComponent,
    }
}

fn san_type(name: &GeneralName) -> Option<SanType> {
    match name {
        GeneralName::Dns(_) => Some(SanType::DnsName),
        GeneralName::Ip(_) => Some(SanType::IpAddress),
        GeneralName::Email(_) => Some(SanType::Email),
        GeneralName::Uri(_) => Some(SanType::Uri),
        GeneralName::Directory(_) | GeneralName::RegisteredId(_) | GeneralName::Other { .. } => None,
    }
}

fn alt_name_texts(names: &[GeneralName]) -> Vec<(SanType, String)> {
    names.iter().filter_map(|name| Some((san_type(name)?, name.text().into_owned()))).collect()
}

fn alt_names(tbs: &TbsCertificate) -> Result<Vec<GeneralName>> {
    match tbs.extensions().subject_alt_names().map_err(unreadable)? {
        None => Ok(Vec::new()),
        Some(names) => names
            .into_valid()
            .map_err(|error| Error::failed_because("a certificate that was just built has an unusable name", error)),
    }
}

fn usage_names(usages: &[ExtendedKeyUsage]) -> Vec<String> {
    usages
        .iter()
        .map(|usage| usage.snake_name().map_or_else(|| x509::oid::to_dotted(usage.oid()), str::to_owned))
        .collect()
}

fn unreadable(error: x509::ParseError) -> Error {
    Error::failed_because("a certificate that was just built does not read", error)
}

fn unreadable_csr(error: x509::ParseError) -> Error {
    Error::invalid(format!("the CSR does not read: {error}"))
}
