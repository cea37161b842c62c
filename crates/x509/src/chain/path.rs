//! The rules that hold along a path (RFC 5280 §6.1): path lengths, name constraints, policies, purposes.
//!
//! A path begins with its last certificate, the one that is validated, and ends with the one that is trusted.

use super::constraints::{Comparisons, ConstrainedName, ConstraintViolation, PreparedConstraints, ViolationKind};
use super::facts::{Facts, quoted};
use super::policies::{PolicyFacts, check_policies};
use super::rule::{Breach, Rule};
use crate::extension::ExtendedKeyUsage;

/// Whether the first certificate of a path counts towards the path lengths above it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstCounts {
    /// It is the end of the path (RFC 5280 §4.2.1.9).
    No,
    /// It will sign certificates itself.
    Yes,
}

/// A rule that is broken at one place of the path.
pub(super) type BreachAt = (usize, Breach);

/// RFC 5280 §4.2.1.9: how many authorities may follow one, not counting the self-issued.
pub(super) fn check_lengths(path: &[&Facts<'_>], first_counts: FirstCounts) -> Result<(), BreachAt> {
    let mut below = 0;
    for (index, facts) in path.iter().enumerate() {
        if index > 0
            && let Some(allowed) = facts.path_length()
            && below > allowed
        {
            let words = format!("its path length allows {allowed} authorities below it, and there are {below}");
            return Err((index, Breach::new(Rule::PathLengthExceeded, words)));
        }
        let counts = index > 0 || first_counts == FirstCounts::Yes;
        below += u32::from(counts && !facts.is_self_issued());
    }
    Ok(())
}

/// RFC 5280 §6.1.3 (b) and (c): the self-issued are free, but not the first.
pub(super) fn check_names(path: &[&Facts<'_>], comparisons: &mut Comparisons) -> Result<(), BreachAt> {
    let prepared: Vec<Option<PreparedConstraints<'_>>> =
        path.iter().map(|facts| facts.name_constraints.as_ref().map(PreparedConstraints::new)).collect();
    if prepared.iter().skip(1).all(Option::is_none) {
        return Ok(());
    }
    for (index, facts) in path.iter().enumerate() {
        if index > 0 && facts.is_self_issued() {
            continue;
        }
        let names = ConstrainedName::all(facts.certificate.subject(), facts.alt_names.iter());
        for (authority, constraints) in prepared.iter().enumerate().skip(index + 1) {
            let Some(constraints) = constraints else { continue };
            if let Err((name, kind)) = constraints.check(&names, comparisons) {
                let rule = match kind {
                    ViolationKind::TooManyComparisons => Rule::BudgetExhausted,
                    ViolationKind::Excluded(_) | ViolationKind::NotPermitted(_) | ViolationKind::NotComparable(_) => {
                        Rule::NameConstraintViolated
                    }
                };
                let issuer = path.get(authority).map(|issuer| quoted(issuer.certificate)).unwrap_or_default();
                let violation = ConstraintViolation { authority, name, kind };
                return Err((index, Breach::new(rule, format!("{violation} (of {issuer})"))));
            }
        }
    }
    Ok(())
}

/// Every certificate that limits its purposes allows this one.
pub(super) fn check_purpose(path: &[&Facts<'_>], purpose: &ExtendedKeyUsage) -> Result<(), BreachAt> {
    for (index, facts) in path.iter().enumerate() {
        if let Some(purposes) = &facts.purposes
            && !purposes.iter().any(|found| found == purpose || found.is_any())
        {
            let words = format!("its extended key usages do not hold {purpose}");
            return Err((index, Breach::new(Rule::EkuMismatch, words)));
        }
    }
    Ok(())
}

/// What RFC 5280 asks for of a path, besides its signatures.
pub(super) fn check(
    path: &[&Facts<'_>],
    first_counts: FirstCounts,
    comparisons: &mut Comparisons,
) -> Result<(), BreachAt> {
    check_lengths(path, first_counts)?;
    check_names(path, comparisons)?;
    let policies: Vec<&PolicyFacts> = path.iter().map(|facts| &facts.policies).collect();
    check_policies(&policies).map_err(|index| {
        let words = "an authority above requires a policy, and none is valid for the path down to here";
        (index, Breach::new(Rule::PolicyRequired, words))
    })
}
