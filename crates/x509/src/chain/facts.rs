//! What one certificate says that a path depends on, read once, and the rules that it must keep on its own (RFC 5280
//! §4.1, §4.2).

use super::policies::PolicyFacts;
use super::rule::{Breach, Rule};
use crate::certificate::{Certificate, Oddity};
use crate::der::{Reader, tag};
use crate::error::{NameError, ParseError};
use crate::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, Extensions, KeyUsage, KeyUsages, NameConstraints,
    Subtree,
};
use crate::general_name::GeneralName;
use crate::key::{KeyProblem, VerifyingKey};
use crate::name::DistinguishedName;
use crate::{oid, time};

/// A certificate that is well formed in everything that is acted on.
pub(super) struct Facts<'a> {
    pub(super) certificate: &'a Certificate,
    pub(super) key: VerifyingKey,
    pub(super) basic_constraints: Option<BasicConstraints>,
    pub(super) key_usages: Option<KeyUsages>,
    pub(super) purposes: Option<Vec<ExtendedKeyUsage>>,
    pub(super) alt_names: Vec<GeneralName>,
    pub(super) subject_key_id: Option<&'a [u8]>,
    pub(super) authority_key_id: Option<AuthorityKeyIdentifier>,
    pub(super) name_constraints: Option<NameConstraints>,
    pub(super) policies: PolicyFacts,
}

/// Which of the rules that depend on where a path is used are held.
#[derive(Clone, Copy)]
pub(super) struct Strictness {
    /// Whether key identifiers must be there (RFC 5280 §4.2.1.1, §4.2.1.2) or only agree where they are.
    pub(super) key_ids_required: bool,
    /// Whether name constraints must be critical; the public web leaves it open.
    pub(super) name_constraints_critical: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn read(certificate: &'a Certificate) -> Result<Self, Breach> {
        check_form(certificate)?;
        let key = certificate.verifying_key().map_err(|problem| key_breach(&problem, certificate.spki_der()))?;
        let extensions = certificate.extensions();
        if let Some(unknown) = extensions.unknown_critical() {
            let words = format!("it has the critical extension {}, which is not understood", oid::to_dotted(unknown));
            return Err(Breach::new(Rule::UnknownCriticalExtension, words));
        }
        check_criticality(extensions)?;
        let malformed = |error: ParseError| Breach::new(Rule::MalformedExtension, error.to_string());
        let under = |rule| move |error: ParseError| Breach::new(rule, error.to_string());
        extensions.authority_information_access().map_err(malformed)?;
        extensions.crl_distribution_points().map_err(malformed)?;
        Ok(Self {
            certificate,
            key,
            basic_constraints: extensions.basic_constraints().map_err(malformed)?,
            key_usages: extensions.key_usages().map_err(malformed)?,
            purposes: extensions.extended_key_usages().map_err(under(Rule::EkuMalformed))?,
            alt_names: read_alt_names(extensions)?,
            subject_key_id: extensions.subject_key_id().map_err(malformed)?,
            authority_key_id: extensions.authority_key_id().map_err(malformed)?,
            name_constraints: extensions.name_constraints().map_err(under(Rule::NameConstraintsMalformed))?,
            policies: PolicyFacts::of(certificate).map_err(malformed)?,
        })
    }

    pub(super) fn is_authority(&self) -> bool {
        self.basic_constraints.is_some_and(|constraints| constraints.ca)
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.certificate.is_self_issued()
    }

    /// pathLenConstraint, where it has a meaning.
    pub(super) fn path_length(&self) -> Option<u32> {
        self.basic_constraints.filter(|constraints| constraints.ca).and_then(|constraints| constraints.path_length)
    }

    pub(super) fn check_time(&self, now: i64) -> Result<(), Breach> {
        let (first, last) = (self.certificate.not_before(), self.certificate.not_after());
        if now > last {
            return Err(Breach::new(Rule::Expired, format!("it expired at {}", time_text(last))));
        }
        if now < first {
            return Err(Breach::new(Rule::NotYetValid, format!("it is not valid before {}", time_text(first))));
        }
        Ok(())
    }

    /// The rules for a certificate that signs certificates.
    pub(super) fn check_authority(&self, strictness: Strictness) -> Result<(), Breach> {
        let Some(constraints) = self.basic_constraints else {
            return Err(Breach::new(
                Rule::BasicConstraintsMissing,
                "it has no basicConstraints and so is no authority",
            ));
        };
        if !constraints.ca {
            return Err(Breach::new(Rule::NotACa, "its basicConstraints say that it is no authority"));
        }
        if !self.is_critical(oid::BASIC_CONSTRAINTS) {
            return Err(Breach::new(Rule::BasicConstraintsNotCritical, "its basicConstraints are not critical"));
        }
        if self.key_usages.is_some_and(|usages| !usages.contains(KeyUsage::KeyCertSign)) {
            return Err(Breach::new(Rule::KeyCertSignMissing, "its key usage does not hold keyCertSign"));
        }
        self.check_authority_identity(strictness)
    }

    /// The rules for what is signed and not a trusted certificate.
    pub(super) fn check_signed(&self) -> Result<(), Breach> {
        if self.certificate.has(Oddity::AlgorithmMismatch) {
            let words = "the signature algorithm inside of what is signed is not the one outside";
            return Err(Breach::new(Rule::SignatureAlgorithmMismatch, words));
        }
        if self.certificate.signature_algorithm().is_none() {
            let words = "it is signed with an algorithm that is not allowed, such as those with SHA-1 or MD5";
            return Err(Breach::new(Rule::SignatureAlgorithmNotAllowed, words));
        }
        if self.certificate.issuer().is_empty() {
            return Err(Breach::new(Rule::EmptyIssuer, "its issuer has no name"));
        }
        Ok(())
    }

    /// RFC 5280 §4.1.2.2. Old roots have such numbers too: those need not keep it.
    pub(super) fn check_serial(&self) -> Result<(), Breach> {
        let bad = [Oddity::SerialZero, Oddity::SerialNegative, Oddity::SerialTooLong]
            .into_iter()
            .find(|oddity| self.certificate.has(*oddity));
        bad.map_or(Ok(()), |oddity| Err(Breach::new(Rule::SerialInvalid, oddity.to_string())))
    }

    /// The rules for the last certificate of a path, which may be an authority.
    pub(super) fn check_end(&self, strictness: Strictness) -> Result<(), Breach> {
        if self.is_authority() {
            return self.check_authority_identity(strictness);
        }
        if self.key_usages.is_some_and(|usages| usages.contains(KeyUsage::KeyCertSign)) {
            let words = "its key usage holds keyCertSign, but it is no authority";
            return Err(Breach::new(Rule::KeyCertSignWithoutCa, words));
        }
        if self.name_constraints.is_some() {
            return Err(Breach::new(Rule::NameConstraintsInLeaf, "it has name constraints and is no authority"));
        }
        if self.certificate.subject().is_empty() && !self.is_critical(oid::SUBJECT_ALT_NAME) {
            let words = "its subject is empty, and it has no critical alternative names";
            return Err(Breach::new(Rule::SanNotCritical, words));
        }
        Ok(())
    }

    /// invariants C6: what a constraint of a kind that is not understood allows is not known.
    pub(super) fn check_constraints_known(&self) -> Result<(), Breach> {
        let Some(constraints) = &self.name_constraints else { return Ok(()) };
        let mut subtrees = constraints.permitted.iter().chain(&constraints.excluded);
        if subtrees.any(|subtree| matches!(subtree, Subtree::Other { .. })) {
            let words = "its name constraints are also for a kind of names that is not understood; DNS names, IP addresses, \
                         e-mail addresses, URIs and directory names are";
            return Err(Breach::new(Rule::NameConstraintsMalformed, words));
        }
        Ok(())
    }

    pub(super) fn is_critical(&self, oid: &[u8]) -> bool {
        self.certificate.extensions().find(oid).is_some_and(|extension| extension.critical)
    }

    fn check_authority_identity(&self, strictness: Strictness) -> Result<(), Breach> {
        if self.certificate.subject().is_empty() {
            return Err(Breach::new(Rule::EmptySubject, "its subject is empty"));
        }
        if strictness.key_ids_required && self.subject_key_id.is_none() {
            return Err(Breach::new(Rule::SkiMissing, "it has no subject key identifier"));
        }
        if strictness.name_constraints_critical
            && self.name_constraints.is_some()
            && !self.is_critical(oid::NAME_CONSTRAINTS)
        {
            return Err(Breach::new(Rule::NameConstraintsNotCritical, "its name constraints are not critical"));
        }
        Ok(())
    }
}

/// The identifiers of keys and certificates on both sides of a link.
pub(super) fn check_identifiers(child: &Facts<'_>, issuer: &Facts<'_>) -> Result<(), Breach> {
    let Some(identifier) = &child.authority_key_id else {
        return Ok(());
    };
    if let (Some(expected), Some(found)) = (&identifier.key_id, issuer.subject_key_id)
        && expected != found
    {
        let words = format!(
            "its authority key identifier is {}, the subject key identifier of {} is {}",
            crate::hex(expected),
            quoted(issuer.certificate),
            crate::hex(found)
        );
        return Err(Breach::new(Rule::KeyIdMismatch, words));
    }
    if let (Some(names), Some(serial)) = (&identifier.issuer, &identifier.serial) {
        let mut directories = names.valid().filter_map(|name| match name {
            GeneralName::Directory(directory) => Some(directory),
            _ => None,
        });
        let is_named = directories.any(|directory| directory == issuer.certificate.issuer());
        if !is_named || serial != issuer.certificate.serial_content() {
            let words = format!(
                "its authority key identifier names another certificate of the issuer than {}",
                quoted(issuer.certificate)
            );
            return Err(Breach::new(Rule::AuthorityCertificateMismatch, words));
        }
    }
    Ok(())
}

/// Why a key is not accepted, as a rule.
pub(super) fn key_breach(problem: &KeyProblem, spki: &[u8]) -> Breach {
    let rule = match problem {
        KeyProblem::UnsupportedCurve if describes_curve(spki) => Rule::ExplicitCurve,
        KeyProblem::Malformed(_) | KeyProblem::UnknownAlgorithm(_) | KeyProblem::UnsupportedCurve => {
            Rule::UnsupportedKey
        }
        KeyProblem::UnsupportedSize(_) | KeyProblem::Weak(_) => Rule::WeakKey,
    };
    Breach::new(rule, problem.to_string())
}

/// The subject of a certificate for a message.
pub(super) fn quoted(certificate: &Certificate) -> String {
    quoted_name(certificate.subject())
}

/// A name for a message, cut off when it is long.
pub(super) fn quoted_name(name: &DistinguishedName) -> String {
    const CHARACTERS_MAX: usize = 200;
    let name = name.render();
    match name.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("\"{}…\"", &name[..end]),
        None => format!("\"{name}\""),
    }
}

/// RFC 3339 text of a time.
pub(super) fn time_text(seconds: i64) -> String {
    let digits = time::encode_generalized(seconds);
    let digits = String::from_utf8_lossy(&digits);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14))
}

fn check_form(certificate: &Certificate) -> Result<(), Breach> {
    if certificate.has(Oddity::OldVersion) {
        let words = format!("it is of version {}", certificate.version());
        return Err(Breach::new(Rule::VersionNotThree, words));
    }
    for (oddity, rule) in [
        (Oddity::TimeForm, Rule::TimeMalformed),
        (Oddity::ValidityReversed, Rule::TimeMalformed),
        (Oddity::DefaultWritten, Rule::ExtensionNotDer),
    ] {
        if certificate.has(oddity) {
            return Err(Breach::new(rule, oddity.to_string()));
        }
    }
    Ok(())
}

fn check_criticality(extensions: Extensions<'_>) -> Result<(), Breach> {
    let (must, must_not) = (true, false);
    let rules = [
        (oid::AUTHORITY_KEY_IDENTIFIER, must_not, Rule::AkiCritical, "its authority key identifier is critical"),
        (oid::SUBJECT_KEY_IDENTIFIER, must_not, Rule::SkiCritical, "its subject key identifier is critical"),
        (
            oid::AUTHORITY_INFORMATION_ACCESS,
            must_not,
            Rule::AccessInformationCritical,
            "its authorityInfoAccess is critical",
        ),
        (oid::POLICY_CONSTRAINTS, must, Rule::PolicyConstraintsNotCritical, "its policy constraints are not critical"),
        (oid::INHIBIT_ANY_POLICY, must, Rule::InhibitAnyPolicyNotCritical, "its inhibitAnyPolicy is not critical"),
    ];
    for (oid, critical, rule, words) in rules {
        if extensions.find(oid).is_some_and(|extension| extension.critical != critical) {
            return Err(Breach::new(rule, words));
        }
    }
    Ok(())
}

fn read_alt_names(extensions: Extensions<'_>) -> Result<Vec<GeneralName>, Breach> {
    let names = extensions
        .subject_alt_names()
        .map_err(|error| Breach::new(Rule::MalformedSan, error.to_string()))?
        .map(|names| names.into_valid())
        .transpose()
        .map_err(|error: NameError| Breach::new(Rule::MalformedSan, error.to_string()))?;
    Ok(names.unwrap_or_default())
}

/// Whether the parameters of an elliptic curve key describe the curve instead of naming it.
fn describes_curve(spki: &[u8]) -> bool {
    let mut outer = Reader::new(spki);
    let parameters = outer.sequence("subjectPublicKeyInfo").and_then(|mut reader| {
        let mut algorithm = reader.sequence("algorithm")?;
        algorithm.oid("algorithm")?;
        Ok(algorithm.peek())
    });
    parameters == Ok(Some(tag::SEQUENCE))
}
