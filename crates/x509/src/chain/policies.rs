//! Certificate policies along a path (RFC 5280 §6.1), for a user who accepts every policy.
//!
//! Policies are not mapped: mappings that are critical are refused as an extension that is not understood, others are
//! read over, which only ever makes a path that needs a policy fail.

use std::collections::BTreeSet;

use crate::certificate::TbsCertificate;
use crate::error::ParseError;
use crate::extension::{CertificatePolicies, InhibitAnyPolicy, PolicyConstraints};
use crate::oid;

/// What a certificate says of policies.
#[derive(Clone, Debug)]
pub struct PolicyFacts {
    policies: Option<CertificatePolicies>,
    constraints: Option<PolicyConstraints>,
    inhibit_any: Option<InhibitAnyPolicy>,
    is_self_issued: bool,
}

impl PolicyFacts {
    /// Reads them out of a certificate, or of one that is to be signed.
    pub fn of(certificate: &TbsCertificate) -> Result<Self, ParseError> {
        let extensions = certificate.extensions();
        Ok(Self {
            policies: extensions.certificate_policies()?,
            constraints: extensions.policy_constraints()?,
            inhibit_any: extensions.inhibit_any_policy()?,
            is_self_issued: certificate.is_self_issued(),
        })
    }

    fn explicit_after(&self) -> Option<u32> {
        self.constraints.and_then(|constraints| constraints.require_explicit_policy)
    }
}

/// The policies that are valid at one place of a path.
struct ValidPolicies<'a> {
    /// Whether anyPolicy is: every policy that a certificate names becomes valid.
    any: bool,
    named: BTreeSet<&'a [u8]>,
}

/// Checks the certificates of a path, which begins with the last certificate and ends with the trusted one. The error is
/// the place of the certificate that leaves the path without a policy where one is required.
pub fn check_policies(path: &[&PolicyFacts]) -> Result<(), usize> {
    let Some((trusted, below)) = path.split_last() else {
        return Ok(());
    };
    let mut valid = ValidPolicies { any: true, named: BTreeSet::new() };
    let mut counters = Counters { explicit_after: None, any_until: None };
    counters.constrain(trusted);
    for (index, facts) in below.iter().enumerate().rev() {
        let is_last = index == 0;
        valid.narrow(facts, counters.any_until != Some(0) || (!is_last && facts.is_self_issued));
        let mut required = counters.explicit_after == Some(0);
        if is_last {
            // RFC 5280 §6.1.5 (a) and (b).
            required |= counters.explicit_after == Some(1) || facts.explicit_after() == Some(0);
        }
        if required && valid.is_empty() {
            return Err(index);
        }
        // RFC 5280 §6.1.4 (h).
        if !facts.is_self_issued {
            counters.count();
        }
        counters.constrain(facts);
    }
    Ok(())
}

/// After how many certificates a rule begins to hold; never, where there is no number.
struct Counters {
    explicit_after: Option<u32>,
    any_until: Option<u32>,
}

impl Counters {
    fn count(&mut self) {
        for counter in [&mut self.explicit_after, &mut self.any_until] {
            *counter = counter.map(|left| left.saturating_sub(1));
        }
    }

    /// RFC 5280 §6.1.4 (i) and (j).
    fn constrain(&mut self, facts: &PolicyFacts) {
        let smaller = |current: Option<u32>, found: Option<u32>| match (current, found) {
            (Some(current), Some(found)) => Some(current.min(found)),
            (current, found) => current.or(found),
        };
        self.explicit_after = smaller(self.explicit_after, facts.explicit_after());
        self.any_until = smaller(self.any_until, facts.inhibit_any.map(|inhibit| inhibit.0));
    }
}

impl<'a> ValidPolicies<'a> {
    fn is_empty(&self) -> bool {
        !self.any && self.named.is_empty()
    }

    /// RFC 5280 §6.1.3 (d) and (e).
    fn narrow(&mut self, facts: &'a PolicyFacts, any_allowed: bool) {
        let Some(policies) = &facts.policies else {
            *self = Self { any: false, named: BTreeSet::new() };
            return;
        };
        let any = any_allowed && policies.policies.iter().any(|policy| policy.oid == oid::ANY_POLICY);
        let named = policies.policies.iter().map(|policy| &policy.oid[..]).filter(|policy| *policy != oid::ANY_POLICY);
        let mut narrowed: BTreeSet<&[u8]> = named.filter(|policy| self.any || self.named.contains(policy)).collect();
        if any {
            narrowed.extend(&self.named);
        }
        *self = Self { any: self.any && any, named: narrowed };
    }
}
