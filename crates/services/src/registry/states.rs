//! How certificates of registries, devices and brokers stand, and who changes that.
//!
//! A certificate has a state of its own in the registry. What is shown is that, unless an authority of ours says more: a
//! certificate that it revoked is REVOKED, one that it put on hold is INACTIVE. That a certificate has expired is no state;
//! it is read from its end.

use super::credentials::touch;
use super::operations::{Recorded, Setback, decide_again};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::credential::{
    CertificateState, FINGERPRINT_CHARACTERS_MAX, FingerprintQuery, RegisteredCertificate, hex,
};
use domain::registry::{AccessEnd, Owner};
use domain::{Error, Result};
use serde_json::json;
use store::Changes;
use store::registry::credentials;
use store::registry::standing::{self, StandingRow};
use x509::{Certificate, RevocationReason};

/// A certificate with what the vendor's shape has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullCertificate {
    /// The certificate; its own state is in it.
    pub certificate: RegisteredCertificate,
    /// The state that counts.
    pub state: CertificateState,
    /// The id of the authority of ours that signed it, or the name of another one.
    pub issued_by: String,
}

impl FullCertificate {
    pub(super) fn of(row: StandingRow) -> Self {
        let own = row.certificate.state;
        let state = match (own, row.withdrawn) {
            (CertificateState::Revoked, _) => CertificateState::Revoked,
            (CertificateState::Active | CertificateState::Inactive, Some(RevocationReason::CertificateHold)) => {
                CertificateState::Inactive
            }
            (CertificateState::Active | CertificateState::Inactive, Some(_)) => CertificateState::Revoked,
            (own, None) => own,
        };
        let issued_by = match row.authority {
            Some(authority) => authority.to_string(),
            None => Certificate::from_pem(&row.certificate.certificate_data)
                .map(|certificate| certificate.issuer().render())
                .unwrap_or_default(),
        };
        Self { certificate: row.certificate, state, issued_by }
    }
}

impl Context {
    /// The certificates of an owner with all that is known of them, newest first.
    #[compiled_here]
    pub async fn full_certificates(&self, caller: &Caller, owner: &Owner) -> Result<Vec<FullCertificate>> {
        self.owner_state(caller, owner, Action::ReadRegistry).await?;
        let rows = standing::of_owner(&self.db, owner).await.map_err(failed)?;
        Ok(rows.into_iter().map(FullCertificate::of).collect())
    }

    /// Gives a certificate another state in the registry: what is not ACTIVE gives no access any more, and its sessions are
    /// closed. REVOKED is final: the certificate is not registered again, also when it was taken away. The inventory is not
    /// touched: a certificate of ours is revoked there for everybody.
    #[compiled_here]
    pub async fn set_certificate_state(
        &self,
        caller: &Caller,
        owner: &Owner,
        fingerprint: &str,
        state: CertificateState,
    ) -> Result<FullCertificate> {
        decide_again!(self.try_set_certificate_state(caller, owner, fingerprint, state))
            .map_err(|setback| setback.into_error(|_| None))
    }

    async fn try_set_certificate_state(
        &self,
        caller: &Caller,
        owner: &Owner,
        fingerprint: &str,
        state: CertificateState,
    ) -> Result<FullCertificate, Setback> {
        let known = self.owner_state(caller, owner, Action::WriteRegistry).await?;
        let mut full = self.full_certificate_of(owner, fingerprint).await?;
        let from = full.certificate.state;
        may_follow(&full, state)?;
        if from == state {
            return Ok(full);
        }
        let sha256 = full.certificate.fingerprint.sha256;
        let changed = credentials::set_state(&full.certificate, state, self.now());
        let recorded = Recorded {
            project: known.project,
            event: "registered-certificate-state-changed",
            kind: owner.kind().as_str(),
            detail: json!({
                "id": owner.id(), "fingerprint": hex(&sha256), "from": from.as_str(), "to": state.as_str(),
            }),
            changes: Changes::new().statement(touch(owner, known.version)).with(changed),
            ends: match state {
                CertificateState::Active => Vec::new(),
                CertificateState::Inactive | CertificateState::Revoked => vec![AccessEnd::Certificate(sha256)],
            },
        };
        self.record_change(caller, recorded).await?;
        if full.state != CertificateState::Revoked {
            full.state = state;
        }
        full.certificate.state = state;
        Ok(full)
    }

    async fn full_certificate_of(&self, owner: &Owner, fingerprint: &str) -> Result<FullCertificate> {
        if fingerprint.is_empty() || fingerprint.chars().count() > FINGERPRINT_CHARACTERS_MAX {
            return Err(Error::invalid_field("fingerprint", "length", "fingerprint has 1 to 128 characters"));
        }
        let query = FingerprintQuery::parse(fingerprint);
        let rows = standing::of_owner(&self.db, owner).await.map_err(failed)?;
        let named = rows.into_iter().find(|row| row.certificate.fingerprint.is(&query, fingerprint));
        let named = named.ok_or_else(|| Error::not_found(format!("{owner} has no certificate {fingerprint}")))?;
        Ok(FullCertificate::of(named))
    }
}

/// What may follow on the state of a certificate.
fn may_follow(full: &FullCertificate, to: CertificateState) -> Result<()> {
    match (full.certificate.state, full.state, to) {
        (CertificateState::Revoked, _, CertificateState::Active | CertificateState::Inactive) => {
            Err(Error::wrong_state("the certificate is REVOKED, which is final: register another one"))
        }
        (_, CertificateState::Revoked, CertificateState::Active | CertificateState::Inactive) => Err(
            Error::wrong_state("the certificate was revoked by its authority, which is final: register another one"),
        ),
        (CertificateState::Active, CertificateState::Inactive, CertificateState::Active) => {
            Err(Error::wrong_state("the certificate is on hold by its authority: end the hold there"))
        }
        _ => Ok(()),
    }
}
