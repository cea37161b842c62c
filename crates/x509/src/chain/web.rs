//! The rules of the public web that can be seen in a certificate (CA/Browser Forum Baseline Requirements §7.1), without
//! those that need a list of public suffixes.

use super::facts::Facts;
use super::rule::{Breach, Rule};
use crate::general_name::GeneralName;
use crate::name::AttributeType;
use crate::oid;

/// The rules for the certificate of a server (§7.1.2.7).
pub(super) fn check_leaf(facts: &Facts<'_>) -> Result<(), Breach> {
    if facts.is_authority() {
        return Err(Breach::new(Rule::WebLeafIsCa, "it is the certificate of an authority"));
    }
    check_alternative_names(facts)?;
    check_purposes(facts)?;
    check_lifetime(facts)
}

/// The rules for a root (§7.1.2.1).
pub(super) fn check_anchor(facts: &Facts<'_>) -> Result<(), Breach> {
    if !facts.is_self_issued() {
        return Ok(());
    }
    if facts.purposes.is_some() {
        return Err(Breach::new(Rule::WebEku, "it is a root with extended key usages"));
    }
    match &facts.authority_key_id {
        None => Ok(()),
        Some(found)
            if found.issuer.is_none() && found.serial.is_none() && found.key_id.as_deref() == facts.subject_key_id =>
        {
            Ok(())
        }
        Some(_) => {
            let words = "it is a root whose authority key identifier is not its own key identifier alone";
            Err(Breach::new(Rule::WebRootAki, words))
        }
    }
}

/// §7.1.2.7.12 and §7.1.4.3.
fn check_alternative_names(facts: &Facts<'_>) -> Result<(), Breach> {
    let subject = facts.certificate.subject();
    if facts.alt_names.is_empty() {
        return Err(Breach::new(Rule::WebSan, "it has no alternative names"));
    }
    if !subject.is_empty() && facts.is_critical(oid::SUBJECT_ALT_NAME) {
        return Err(Breach::new(Rule::WebSan, "its alternative names are critical although its subject is not empty"));
    }
    for (kind, value) in subject.attributes() {
        let is_copy =
            |name: &GeneralName| matches!(name, GeneralName::Dns(_) | GeneralName::Ip(_)) && name.text() == value;
        if kind == AttributeType::CommonName && !facts.alt_names.iter().any(is_copy) {
            return Err(Breach::new(Rule::WebCommonName, "its common name is not a copy of an alternative name"));
        }
    }
    Ok(())
}

/// §7.1.2.7.10.
fn check_purposes(facts: &Facts<'_>) -> Result<(), Breach> {
    let words = match &facts.purposes {
        None => "it has no extended key usages",
        Some(_) if facts.is_critical(oid::EXTENDED_KEY_USAGE) => "its extended key usages are critical",
        Some(purposes) if purposes.iter().any(|purpose| purpose.is_any()) => "it has the purpose anyExtendedKeyUsage",
        Some(_) => return Ok(()),
    };
    Err(Breach::new(Rule::WebEku, words))
}

/// §6.3.2: the limits in days and the first second at which each holds.
const LIFETIMES: [(i64, i64); 5] =
    [(1_868_227_200, 47), (1_805_068_800, 100), (1_773_532_800, 200), (1_598_918_400, 398), (1_519_862_400, 825)];

fn check_lifetime(facts: &Facts<'_>) -> Result<(), Breach> {
    let (first, last) = (facts.certificate.not_before(), facts.certificate.not_after());
    let Some((_, days)) = LIFETIMES.into_iter().find(|(since, _)| first >= *since) else {
        return Ok(());
    };
    // The last second counts: a validity of whole days ends one second early.
    if last - first + 1 > days * 86_400 {
        let words = format!("it is valid for longer than {days} days");
        return Err(Breach::new(Rule::WebLifetime, words));
    }
    Ok(())
}
