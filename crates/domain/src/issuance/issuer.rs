//! What signs and what judges: a profile, its policy and its authority, as they were read together; and whether that
//! authority issues now.

use crate::authority::AuthorityStatus;
use crate::profile::{Policy, Profile};
use crate::{AuthorityCertificateId, AuthorityId, AuthorityKeyId, CrlId, Error, Result, Time};
use std::sync::Arc;
use x509::chain::PolicyFacts;
use x509::{ExtendedKeyUsage, KeyAlgorithm, NameConstraints, SignatureAlgorithm, Uri};

/// What signs and what judges.
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
    /// Where the status of its certificates is told; empty when it is not.
    pub ocsp_urls: Vec<Uri>,
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
    /// The extended key usages of the certificate and of each parent that has any.
    pub extended_key_usages: Vec<Vec<ExtendedKeyUsage>>,
    /// What the certificate and its parents say of policies, upwards.
    pub policies: Vec<PolicyFacts>,
}

impl IssuingAuthority {
    /// The certificate that it issues with now: it is not disabled, has one, and that has not expired.
    pub(super) fn active(&self, now: Time) -> Result<&ActiveCertificate> {
        let name = &self.name;
        match self.status {
            AuthorityStatus::Disabled => {
                return Err(Error::wrong_state(format!("the certificate authority {name} is disabled")));
            }
            AuthorityStatus::Active | AuthorityStatus::PendingCertificate => {}
        }
        let Some(active) = &self.active else {
            return Err(Error::wrong_state(format!("the certificate authority {name} has no certificate installed")));
        };
        if active.certificate.not_after() < now.seconds() {
            return Err(Error::wrong_state(format!("the certificate of the certificate authority {name} has expired")));
        }
        Ok(active)
    }

    /// Whether it issues now, and the lifetime lies within that of its own certificate (contract §6.1 step 12). Nothing
    /// is clamped.
    pub(super) fn may_issue(&self, not_before: i64, not_after: i64, now: Time) -> Result<&ActiveCertificate> {
        let active = self.active(now)?;
        let name = &self.name;
        if not_before < active.certificate.not_before() {
            return Err(Error::invalid(format!("notBefore lies before the certificate of {name} begins")));
        }
        if not_before >= not_after {
            return Err(Error::invalid("notBefore must be earlier than notAfter"));
        }
        if not_after > active.certificate.not_after() {
            return Err(Error::invalid(format!(
                "the lifetime would end after the certificate of {name} does; ask for a shorter one, or renew {name} first"
            )));
        }
        Ok(active)
    }

    /// RFC 5280 §4.2.1.9: pathLen bounds how many authorities may follow below.
    pub(super) fn may_certify_authorities(&self, path_length: Option<u32>, now: Time) -> Result<()> {
        let constraints = self.active(now)?.certificate.extensions().basic_constraints().ok().flatten();
        match (constraints.and_then(|constraints| constraints.path_length), path_length) {
            (None, _) => Ok(()),
            (Some(0), _) => {
                Err(Error::invalid(format!("the path length of {} is 0: it may certify no other authority", self.name)))
            }
            (Some(limit), Some(length)) if length < limit => Ok(()),
            (Some(limit), _) => Err(Error::invalid(format!(
                "the path length of {} is {limit}: maxPathLength must be given and smaller",
                self.name
            ))),
        }
    }

    /// The signature is one that its key makes.
    pub(super) fn must_make(&self, signature: SignatureAlgorithm) -> Result<()> {
        must_fit(signature, self.key_algorithm, &format!("the key of {}", self.name))
    }
}

/// The signature is one that a key of this algorithm makes.
pub(super) fn must_fit(signature: SignatureAlgorithm, key: KeyAlgorithm, whose: &str) -> Result<()> {
    if signature.family() == key.family() {
        return Ok(());
    }
    Err(Error::invalid(format!("{signature} does not fit {whose}, which makes {} signatures ({key})", key.family())))
}
