//! What rules see of a certificate: of its plan, and again of its finished bytes, read back and not remembered.
//!
//! The profile's policy (contract §5.2) judges it, and so do the rules of RFC 5280 that no policy can loosen.

use super::plan::Plan;
use super::{DirectIssuer, Subject, Wishes};
use crate::policy::{Judged, PolicyRules, SanType, SubjectAttribute};
use crate::{Error, Result, Violation};
use x509::{
    AttributeType, BasicConstraints, Certificate, DistinguishedName, ExtendedKeyUsage, GeneralName, KeyAlgorithm,
    KeyFamily, KeyUsage, KeyUsages, SignatureAlgorithm, TbsCertificate, oid,
};

/// What a certificate like this one, with a new key, is asked for with: all but its lifetime.
pub fn request_of(certificate: &Certificate) -> Result<(Subject, Wishes)> {
    let extensions = certificate.extensions();
    let names = match extensions.subject_alt_names().map_err(unreadable)? {
        None => Vec::new(),
        Some(names) => names.into_valid().map_err(|error| Error::failed_because("a certificate's names", error))?,
    };
    let mut attributes = Vec::new();
    for (kind, value) in certificate.subject().attributes() {
        let kind = known(&kind).ok_or_else(|| {
            Error::against_policy(format!("the subject attribute {} cannot be asked for", kind.short_name()))
        })?;
        attributes.push((kind, value.to_owned()));
    }
    let subject = Subject::Fields {
        attributes,
        alt_names: names.iter().filter_map(|name| Some((san_type(name)?, name.text().into_owned()))).collect(),
        key_algorithm: certificate.key_algorithm().ok(),
    };
    let wishes = Wishes {
        key_usages: extensions.key_usages().map_err(unreadable)?,
        extended_key_usages: extensions.extended_key_usages().map_err(unreadable)?,
        signature_algorithm: certificate.signature_algorithm(),
        basic_constraints: extensions.basic_constraints().map_err(unreadable)?,
        ..Wishes::default()
    };
    Ok((subject, wishes))
}

/// The parts of a certificate that rules ask for.
pub(super) struct Content<'a> {
    subject: &'a DistinguishedName,
    alt_names: Vec<GeneralName>,
    key_usages: KeyUsages,
    dropped: KeyUsages,
    extended_key_usages: Vec<ExtendedKeyUsage>,
    basic_constraints: BasicConstraints,
    key_algorithm: Option<KeyAlgorithm>,
    signature_algorithm: Option<SignatureAlgorithm>,
    lifetime_seconds: i64,
    is_self_signed: bool,
}

impl<'a> Content<'a> {
    /// Of a certificate that is planned.
    pub(super) fn planned(plan: &'a Plan, is_self_signed: bool) -> Self {
        Self {
            subject: &plan.subject,
            alt_names: plan.alt_names.clone(),
            key_usages: plan.key_usages,
            dropped: plan.dropped,
            extended_key_usages: plan.extended_key_usages.clone(),
            basic_constraints: plan.basic_constraints,
            key_algorithm: Some(plan.key_algorithm),
            signature_algorithm: Some(plan.signature_algorithm),
            lifetime_seconds: plan.not_after - plan.not_before,
            is_self_signed,
        }
    }

    /// Of the finished bytes. Only what was dropped stands nowhere in them.
    pub(super) fn finished(tbs: &'a TbsCertificate, dropped: KeyUsages, is_self_signed: bool) -> Result<Self> {
        let extensions = tbs.extensions();
        let basic_constraints = extensions.basic_constraints().map_err(unreadable)?;
        Ok(Self {
            subject: tbs.subject(),
            alt_names: alt_names(tbs)?,
            key_usages: extensions.key_usages().map_err(unreadable)?.unwrap_or(KeyUsages::NONE),
            dropped,
            extended_key_usages: extensions.extended_key_usages().map_err(unreadable)?.unwrap_or_default(),
            basic_constraints: basic_constraints.unwrap_or(BasicConstraints { ca: false, path_length: None }),
            key_algorithm: tbs.key_algorithm().ok(),
            signature_algorithm: tbs.signature_algorithm(),
            lifetime_seconds: tbs.not_after() - tbs.not_before(),
            is_self_signed,
        })
    }

    /// Refuses a finished certificate of an authority or a responder that says something else of it than was decided.
    pub(super) fn must_be(&self, plan: &Plan) -> Result<()> {
        let is_as_planned = self.basic_constraints == plan.basic_constraints
            && self.key_usages == plan.key_usages
            && self.extended_key_usages == plan.extended_key_usages
            && self.lifetime_seconds == plan.not_after - plan.not_before;
        if is_as_planned {
            return Ok(());
        }
        Err(Error::failed("a certificate that was just built is not the one that was decided"))
    }

    /// Every rule of the policy and of RFC 5280 that it breaks.
    pub(super) fn violations(&self, rules: &PolicyRules) -> Vec<Violation> {
        let mut violations = self.unknown_attributes();
        violations.extend(rules.judge(&self.as_judged()));
        self.judge_usages(&mut violations);
        self.judge_purposes(&mut violations);
        self.judge_names(&mut violations);
        violations
    }

    /// Every rule that a certificate without a profile breaks. Its subject may have attributes that no policy can name.
    pub(super) fn violations_directly(&self, issuer: &DirectIssuer) -> Vec<Violation> {
        let judged = self.as_judged();
        let mut violations = issuer.rules().judge(&judged);
        violations.extend(issuer.grounds.judge(&judged));
        self.judge_usages(&mut violations);
        self.judge_purposes(&mut violations);
        self.judge_names(&mut violations);
        violations
    }

    fn as_judged(&self) -> Judged {
        let known = self.subject.attributes().filter_map(|(kind, value)| Some((known(&kind)?, value.to_owned())));
        Judged {
            subject: known.collect(),
            sans: self.alt_names.iter().filter_map(|name| Some((san_type(name)?, name.text().into_owned()))).collect(),
            key_usages: self.key_usages.iter().map(KeyUsage::snake_name).collect(),
            extended_key_usages: self.extended_key_usages.iter().map(usage_name).collect(),
            signature_algorithm: self.signature_algorithm,
            key_algorithm: self.key_algorithm,
            lifetime_millis: self.lifetime_seconds.saturating_mul(1000),
            is_ca: self.basic_constraints.ca,
            path_length: self.basic_constraints.path_length,
            dropped_key_usages: self.dropped.iter().map(KeyUsage::snake_name).collect(),
        }
    }

    /// An attribute that no policy can name is allowed by none (contract §5.2, 1).
    fn unknown_attributes(&self) -> Vec<Violation> {
        let unknown = self.subject.attributes().filter(|(kind, _)| known(kind).is_none());
        unknown
            .map(|(kind, _)| {
                let message = format!("the subject attribute {} is not one that a policy can allow", kind.short_name());
                Violation::new("subject", "subject-attribute-unknown", message)
            })
            .collect()
    }

    /// RFC 5280 §4.2.1.3, RFC 3279 §2.3, RFC 8410 §5: which usages go together, with an authority, and with the key.
    fn judge_usages(&self, violations: &mut Vec<Violation>) {
        let mut refuse = |message: String| violations.push(Violation::new("keyUsages", "key-usage-unfit", message));
        let has = |usage| self.key_usages.contains(usage);
        for usage in [KeyUsage::KeyCertSign, KeyUsage::CrlSign].into_iter().filter(|usage| has(*usage)) {
            if !self.basic_constraints.ca {
                let name = usage.snake_name();
                refuse(format!("the key usage {name} belongs to certificates of authorities, which this is not"));
            }
        }
        if self.basic_constraints.ca && !has(KeyUsage::KeyCertSign) {
            refuse("the certificate of an authority needs the key usage key_cert_sign".into());
        }
        for usage in [KeyUsage::EncipherOnly, KeyUsage::DecipherOnly].into_iter().filter(|usage| has(*usage)) {
            if !has(KeyUsage::KeyAgreement) {
                refuse(format!("the key usage {} means nothing without key_agreement", usage.snake_name()));
            }
        }
        // RFC 5280 §4.2.1.3: each says that the key does nothing else.
        if has(KeyUsage::EncipherOnly) && has(KeyUsage::DecipherOnly) {
            refuse("the key usages encipher_only and decipher_only exclude each other".into());
        }
        let agrees = [KeyUsage::KeyAgreement, KeyUsage::EncipherOnly, KeyUsage::DecipherOnly];
        match self.key_algorithm.map(KeyAlgorithm::family) {
            Some(KeyFamily::Rsa | KeyFamily::Ed25519) => {
                for usage in agrees.into_iter().filter(|usage| has(*usage)) {
                    refuse(format!("the key usage {} is not one of an RSA or Ed25519 key", usage.snake_name()));
                }
            }
            Some(KeyFamily::Ecdsa) | None => {}
        }
    }

    /// RFC 3161 §2.3: a time-stamping authority's certificate is for nothing else. That of an authority only says what those
    /// below it may be for.
    fn judge_purposes(&self, violations: &mut Vec<Violation>) {
        let stamps_time = self.extended_key_usages.contains(&ExtendedKeyUsage::TimeStamping);
        if stamps_time && self.extended_key_usages.len() > 1 && !self.basic_constraints.ca {
            let message =
                "the extended key usage time_stamping stands alone: ask for the others in another certificate";
            violations.push(Violation::new("extendedKeyUsages", "extended-key-usage-unfit", message));
        }
    }

    /// RFC 5280 §4.1.2.4, §4.1.2.6: an issuer has a name, so an authority and what signs itself have a subject.
    fn judge_names(&self, violations: &mut Vec<Violation>) {
        if self.subject.is_empty() && (self.is_self_signed || self.basic_constraints.ca) {
            let message = "a certificate of an authority, or one that signs itself, needs a subject: give a commonName";
            violations.push(Violation::new("commonName", "subject-required", message));
        }
    }
}

/// The alternative names of finished bytes.
pub(super) fn alt_names(tbs: &TbsCertificate) -> Result<Vec<GeneralName>> {
    match tbs.extensions().subject_alt_names().map_err(unreadable)? {
        None => Ok(Vec::new()),
        Some(names) => names
            .into_valid()
            .map_err(|error| Error::failed_because("a certificate that was just built has an unusable name", error)),
    }
}

/// The type by which policies know an alternative name; nothing for kinds that they do not know.
pub(super) fn san_type(name: &GeneralName) -> Option<SanType> {
    match name {
        GeneralName::Dns(_) => Some(SanType::DnsName),
        GeneralName::Ip(_) => Some(SanType::IpAddress),
        GeneralName::Email(_) => Some(SanType::Email),
        GeneralName::Uri(_) => Some(SanType::Uri),
        GeneralName::Directory(_) | GeneralName::RegisteredId(_) | GeneralName::Other { .. } => None,
    }
}

/// The kind of attribute that a policy calls so.
pub(super) fn attribute_type(attribute: SubjectAttribute) -> AttributeType {
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

fn known(kind: &AttributeType) -> Option<SubjectAttribute> {
    SubjectAttribute::ALL.into_iter().find(|attribute| attribute_type(*attribute) == *kind)
}

fn usage_name(usage: &ExtendedKeyUsage) -> String {
    usage.snake_name().map_or_else(|| oid::to_dotted(usage.oid()), str::to_owned)
}

fn unreadable(error: x509::ParseError) -> Error {
    Error::failed_because("a certificate that was just built does not read", error)
}
