//! Whether a certificate is on one of the revocation lists that were given (RFC 5280 §6.3).
//!
//! Lists are complete ones that the issuer of the certificate signed with the same key. Where a list is given for an
//! issuer it must be valid; where none is given nothing is asked. Not here: delta and indirect lists.

use super::facts::{Facts, time_text};
use super::rule::{Breach, Rule};
use crate::crl::Crl;
use crate::extension::IssuingDistributionPoint;
use crate::general_name::{GeneralName, GeneralNames};
use crate::revocation::RevocationReason;
use crate::{KeyUsage, oid};

/// Whether a list may be about a certificate.
enum Scope {
    Covers,
    IsAboutOthers,
}

/// Whether this list may be about this certificate: the issuer's name and key, and the part of the certificates that the
/// list is for.
pub(super) fn concerns(crl: &Crl, child: &Facts<'_>, issuer: &Facts<'_>) -> Result<bool, Breach> {
    if crl.issuer() != child.certificate.issuer() {
        return Ok(false);
    }
    let signer = crl.extensions().authority_key_id().map_err(|error| invalid(error.to_string()))?;
    let signer = signer.and_then(|identifier| identifier.key_id);
    if let (Some(signer), Some(issuer)) = (&signer, issuer.subject_key_id)
        && signer != issuer
    {
        return Ok(false);
    }
    match crl.issuing_distribution_point().map_err(|error| invalid(error.to_string()))? {
        None => Ok(true),
        Some(place) => Ok(matches!(scope(&place, child)?, Scope::Covers)),
    }
}

/// Holds a certificate against a list that concerns it. One signature is checked.
pub(super) fn check(crl: &Crl, child: &Facts<'_>, issuer: &Facts<'_>, now: i64) -> Result<(), Breach> {
    if issuer.key_usages.is_some_and(|usages| !usages.contains(KeyUsage::CrlSign)) {
        return Err(invalid("the key usage of its issuer does not hold cRLSign"));
    }
    if !crl.verify_signature(&issuer.key) {
        return Err(invalid("its signature was not made by the issuer's key with an allowed algorithm"));
    }
    check_form(crl)?;
    if now < crl.this_update() {
        return Err(invalid(format!("it is not valid before {}", time_text(crl.this_update()))));
    }
    match crl.next_update() {
        Some(next) if now <= next => {}
        Some(next) => return Err(invalid(format!("it expired at {}", time_text(next)))),
        None => return Err(invalid("it does not say when the next one is due")),
    }
    if crl.entries().any(|entry| entry.has_unknown_critical) {
        return Err(invalid("an entry has a critical extension that is not understood"));
    }
    match crl.find(child.certificate.serial_content()) {
        None => Ok(()),
        Some(entry) => {
            let since = time_text(entry.revoked_at);
            let reason = entry.reason_code.and_then(RevocationReason::from_code);
            let reason = reason.map(|reason| format!(", reason {reason:?}")).unwrap_or_default();
            Err(Breach::new(Rule::Revoked, format!("it is revoked since {since}{reason}")))
        }
    }
}

fn check_form(crl: &Crl) -> Result<(), Breach> {
    if let Some(unknown) = crl.unknown_critical() {
        let words = format!("it has the critical extension {}, which is not understood", oid::to_dotted(unknown));
        return Err(invalid(words));
    }
    // RFC 5280 §5.2.3.
    if crl.number().map_err(|error| invalid(error.to_string()))?.is_none() {
        return Err(invalid("it has no cRLNumber"));
    }
    if crl.extensions().find(oid::CRL_NUMBER).is_some_and(|number| number.critical) {
        return Err(invalid("its cRLNumber is critical"));
    }
    Ok(())
}

fn scope(place: &IssuingDistributionPoint, child: &Facts<'_>) -> Result<Scope, Breach> {
    if place.is_indirect {
        return Err(invalid("it is indirect, which is not supported"));
    }
    let is_about_others = place.only_attribute_certificates
        || (place.only_user_certificates && child.is_authority())
        || (place.only_authority_certificates && !child.is_authority())
        || place.has_relative_name;
    if is_about_others {
        return Ok(Scope::IsAboutOthers);
    }
    let Some(names) = &place.full_name else {
        return Ok(Scope::Covers);
    };
    // RFC 5280 §6.3.3 (b)(2)(i): one of the names is one of the certificate's distribution points.
    let points = child.certificate.extensions().crl_distribution_points().ok().flatten();
    let mut own = points.iter().flat_map(|points| &points.points).filter_map(|point| point.full_name.as_ref());
    let shares_name = own.any(|own| share_a_name(own, names));
    Ok(if shares_name { Scope::Covers } else { Scope::IsAboutOthers })
}

fn share_a_name(one: &GeneralNames, other: &GeneralNames) -> bool {
    one.valid().any(|name: &GeneralName| other.valid().any(|found| found == name))
}

fn invalid(words: impl Into<String>) -> Breach {
    Breach::new(Rule::CrlInvalid, format!("the revocation list of its issuer is not valid: {}", words.into()))
}
