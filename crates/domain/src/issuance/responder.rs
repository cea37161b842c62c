//! The decision on the certificate of an OCSP responder (RFC 6960 §4.2.2.2): an authority lets a key of this server speak of its
//! certificates, for a few days. Nobody asks for one, so there is nothing to choose in it.

use super::plan::Plan;
use super::{Approved, Basis, IssuingAuthority, Signer};
use crate::ocsp::{RESPONDER_BACKDATED_SECONDS, RESPONDER_LIFETIME_SECONDS};
use crate::{Error, Result, Time};
use std::sync::Arc;
use x509::der::Writer;
use x509::{
    AttributeType, BasicConstraints, Criticality, DistinguishedName, ExtendedKeyUsage, KeyAlgorithm, KeyUsage,
    KeyUsages, OtherExtension, oid,
};

/// Decides on a certificate for a responder. A disabled authority issues nothing, and what it issued is spoken of all the
/// same, as its lists are signed.
pub(super) fn decide(authority: &Arc<IssuingAuthority>, now: Time) -> Result<Approved> {
    let name = &authority.name;
    let Some(active) = &authority.active else {
        return Err(Error::wrong_state(format!("the certificate authority {name} has no certificate installed")));
    };
    let certificate = &active.certificate;
    let not_after = certificate.not_after().min(now.seconds() + RESPONDER_LIFETIME_SECONDS);
    if not_after <= now.seconds() {
        return Err(Error::wrong_state(format!("the certificate of the certificate authority {name} has expired")));
    }
    let plan = Plan {
        subject: subject(certificate.subject())?,
        alt_names: Vec::new(),
        key_usages: KeyUsages::of(&[KeyUsage::DigitalSignature]),
        dropped: KeyUsages::NONE,
        extended_key_usages: vec![ExtendedKeyUsage::OcspSigning],
        basic_constraints: BasicConstraints { ca: false, path_length: None },
        policies: Vec::new(),
        name_constraints: None,
        key_algorithm: KeyAlgorithm::EcP256,
        signature_algorithm: authority.key_algorithm.default_signature(),
        not_before: certificate.not_before().max(now.seconds() - RESPONDER_BACKDATED_SECONDS),
        not_after,
    };
    Ok(Approved { plan, basis: Basis::Responder, signer: Signer::Authority(authority.clone()) })
}

/// id-pkix-ocsp-nocheck: for as long as it lives nobody is to ask about it, which nobody but itself could answer.
pub(super) fn no_check() -> OtherExtension {
    let mut value = Writer::new();
    value.null();
    OtherExtension {
        oid: oid::OCSP_NO_CHECK.to_vec(),
        criticality: Criticality::NonCritical,
        value: value.into_bytes(),
    }
}

/// The name of the authority with another common name: where an authority is limited to names of an organisation, this one
/// is of it.
fn subject(authority: &DistinguishedName) -> Result<DistinguishedName> {
    const COMMON_NAME: &str = "OCSP Responder";
    let own = DistinguishedName::build(&[(AttributeType::CommonName, COMMON_NAME)])
        .map_err(|error| Error::failed_because("the name of a responder", error))?;
    let mut writer = Writer::new();
    writer.sequence(|writer| {
        let above = authority.relative_names();
        let is_kept = |name: &&&[u8]| !name.windows(oid::COMMON_NAME.len()).any(|part| part == oid::COMMON_NAME);
        above.iter().filter(is_kept).for_each(|name| writer.raw(name));
        own.relative_names().iter().for_each(|name| writer.raw(name));
    });
    DistinguishedName::from_der(&writer.into_bytes())
        .map_err(|error| Error::failed_because("the name of a responder", error))
}
