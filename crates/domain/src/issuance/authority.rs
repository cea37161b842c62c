//! The decision on a certificate for an authority: what contract §3.10 asks of it instead of a policy.

use super::plan::Plan;
use super::{Approved, Basis, IssuingAuthority, Signer};
use crate::policy::is_dropped;
use crate::{Error, Result, Time};
use std::sync::Arc;
use x509::{BasicConstraints, DistinguishedName, ExtendedKeyUsage, KeyAlgorithm, KeyUsage, KeyUsages, NameConstraints};

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
pub(super) fn decide(parent: Option<&Arc<IssuingAuthority>>, request: AuthorityRequest, now: Time) -> Result<Approved> {
    let signing_key = parent.map_or(request.key_algorithm, |parent| parent.key_algorithm);
    let (key_usages, dropped) = usages(parent.is_some(), request.key_algorithm);
    let plan = Plan {
        subject: request.subject,
        alt_names: Vec::new(),
        key_usages,
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
            parent.may_certify_authorities(request.path_length, now)?;
            parent.may_issue(plan.not_before, plan.not_after, now)?;
            Signer::Authority(parent.clone())
        }
    };
    Ok(Approved { plan, basis: Basis::Authority, signer })
}

/// The key usages of contract §1.8, and those of them that such a key cannot have.
fn usages(is_below_another: bool, key_algorithm: KeyAlgorithm) -> (KeyUsages, KeyUsages) {
    let usages = KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign]);
    if !is_below_another {
        return (usages, KeyUsages::NONE);
    }
    let usages = usages.with(KeyUsage::DigitalSignature);
    match is_dropped(KeyUsage::KeyEncipherment.snake_name(), key_algorithm.family()) {
        true => (usages, KeyUsages::NONE.with(KeyUsage::KeyEncipherment)),
        false => (usages.with(KeyUsage::KeyEncipherment), KeyUsages::NONE),
    }
}
