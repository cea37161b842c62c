//! Withdraws certificates, and ends a hold (contract §6.7). What is acknowledged here is in the list that a job signs
//! a moment later, whatever happens in between: the job is in the same commit.

use crate::audit::{self, Object};
use crate::authorities::about;
use crate::certificates::{CertificateName, Record};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::authority::{Authority, AuthorityStatus};
use domain::caller::Caller;
use domain::inventory::{IssuedBy, is_authority, serial_hex};
use domain::job::Job;
use domain::permission::Action;
use domain::revocation::RevocationStep;
use domain::{AuthorityId, Error, Result, Time};
use serde_json::json;
use std::sync::atomic::Ordering;
use store::{Changes, StoreError};
use x509::{RevocationReason, SerialNumber, digest};

/// A certificate that was withdrawn, or whose hold was ended.
pub struct Withdrawn {
    /// Its serial number in hex.
    pub serial_number: String,
    /// When it was first revoked.
    pub revoked_at: Time,
}

/// Why a certificate is revoked now.
#[derive(Clone, Copy)]
pub(crate) enum Occasion {
    /// Somebody asked for it.
    Asked,
    /// It stands on a list that was published after the backup that this database was restored from.
    ReadBack {
        /// When it was revoked.
        revoked_at: Time,
        /// The number of that list.
        list_number: u64,
    },
}

/// How often something is decided anew because the certificate changed in between.
const ATTEMPTS_MAX: usize = 5;

/// What the audit calls it when a certificate that was good is revoked.
const REVOKED: &str = "certificate-revoked";

impl Context {
    /// Revokes a certificate, or gives its revocation a graver reason.
    #[compiled_here]
    pub async fn revoke(&self, caller: &Caller, name: &CertificateName, reason: RevocationReason) -> Result<Withdrawn> {
        for _ in 0..ATTEMPTS_MAX {
            let record = self.certificate_for(caller, name, Action::DeleteCertificate).await?;
            self.must_rule_over(caller, &record).await?;
            if let Some(revoked) = self.try_to_revoke(caller, &record, reason, Occasion::Asked).await? {
                return Ok(revoked);
            }
        }
        Err(changes_all_the_time())
    }

    /// Revokes a certificate that an authority of ours signed for another authority (CA certificates are withdrawn by
    /// who may make them).
    #[compiled_here]
    pub async fn revoke_intermediate(
        &self,
        caller: &Caller,
        parent: AuthorityId,
        serial_number: &str,
        reason: RevocationReason,
    ) -> Result<Withdrawn> {
        let parent = self.find_authority(caller, parent).await?;
        caller.may(parent.project, Action::SignIntermediate, &about(&parent.name))?;
        let missing = || Error::not_found(format!("{} signed no authority's certificate {serial_number}", parent.name));
        // As OpenSSL and browsers show it, too.
        let digits = serial_number.replace(':', "").to_ascii_lowercase();
        let serial = SerialNumber::from_hex(&digits).ok_or_else(missing)?;
        for _ in 0..ATTEMPTS_MAX {
            let rows = store::certificate::by_serial(&self.db, caller.organization, &serial.integer_content()).await;
            let signed =
                |row: &store::certificate::InventoryRow| row.issued.issuer.is_some_and(|by| by.authority == parent.id);
            let row = rows.map_err(failed)?.into_iter().find(signed).ok_or_else(missing)?;
            let record = self.read(row)?;
            if !is_authority(&record.certificate) {
                return Err(missing());
            }
            if let Some(revoked) = self.try_to_revoke(caller, &record, reason, Occasion::Asked).await? {
                return Ok(revoked);
            }
        }
        Err(changes_all_the_time())
    }

    /// Ends the hold of a certificate.
    #[compiled_here]
    pub async fn release(&self, caller: &Caller, name: &CertificateName) -> Result<Withdrawn> {
        for _ in 0..ATTEMPTS_MAX {
            let record = self.certificate_for(caller, name, Action::DeleteCertificate).await?;
            self.must_rule_over(caller, &record).await?;
            let issued = &record.row.issued;
            let on_hold = record.row.revocation_reason == Some(RevocationReason::CertificateHold);
            let (Some(by), Some(revoked_at), true) = (issued.issuer, record.row.revoked_at, on_hold) else {
                return Err(Error::wrong_state("the certificate is not on hold"));
            };
            let now = self.now();
            let serial_number = serial_hex(&record.certificate);
            let detail = json!({ "serialNumber": serial_number });
            let object = Object::new("certificate", issued.id);
            let serial = record.certificate.serial_content();
            let changes = store::revocation::release(issued, by.key, &record.certificate, now)
                .with(self.list_follows(&by, now).await?)
                .with(self.syncs_follow(issued.id).await?)
                .audit(audit::record(caller, Some(issued.project), "certificate-released", object, &detail, now));
            let outcome = self.db.commit(changes.urgent()).await;
            self.state.ocsp.forget(by.key, serial);
            match outcome {
                Ok(()) => return Ok(Withdrawn { serial_number, revoked_at }),
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(changes_all_the_time())
    }

    /// The certificate of an authority is withdrawn by who may make one: that stops everything below it.
    async fn must_rule_over(&self, caller: &Caller, record: &Record) -> Result<()> {
        let Some(by) = record.row.issued.issuer.filter(|_| is_of_authority(record)) else { return Ok(()) };
        let issuer = store::authority::by_id_even_deleted(&self.db, by.authority).await.map_err(failed)?;
        let issuer = issuer.ok_or_else(|| Error::failed("a certificate without its authority"))?;
        caller.may(issuer.project, Action::SignIntermediate, &about(&issuer.name))
    }

    /// Nothing when the certificate changed after it was read.
    pub(crate) async fn try_to_revoke(
        &self,
        caller: &Caller,
        record: &Record,
        reason: RevocationReason,
        occasion: Occasion,
    ) -> Result<Option<Withdrawn>> {
        let issued = &record.row.issued;
        let certificate = &record.certificate;
        let by = issued.issuer.ok_or_else(|| match record.is_imported() {
            true => Error::invalid("the certificate was imported: who issued it can revoke it, and nobody here"),
            false => Error::invalid("a certificate that signed itself has no authority that could revoke it"),
        })?;
        let now = self.now();
        let serial_number = serial_hex(certificate);
        let mut detail = json!({ "serialNumber": serial_number, "reason": reason.as_str() });
        let revoked_at = match occasion {
            Occasion::Asked => now,
            Occasion::ReadBack { revoked_at, list_number } => {
                detail["readBackFromListNumber"] = list_number.into();
                revoked_at
            }
        };
        let (mut changes, event) = match RevocationStep::of(record.row.revocation_reason, reason)? {
            RevocationStep::Revoke => {
                let insert = store::revocation::insert(issued, &by, certificate, reason, revoked_at, now);
                // A device that is connected with it is disconnected, on every node.
                let id = self.random.id(now);
                let end = store::registry::access_end::insert_if_registered(id, &certificate.sha256(), now);
                let alerts = self.alerts_follow_revocation(issued.project, issued.id).await?;
                (insert.with(end).with(alerts), REVOKED)
            }
            RevocationStep::ChangeReason { from } => {
                detail["reasonBefore"] = from.as_str().into();
                let change = store::revocation::change_reason(by.key, certificate.serial_content(), from, reason, now);
                (change, "revocation-reason-changed")
            }
        };
        if reason == RevocationReason::KeyCompromise {
            let key = digest::sha256(certificate.spki_der());
            changes = changes.with(store::revocation::block_key(caller.organization, key, now));
        }
        if is_authority(certificate) {
            changes = changes.with(self.stop_authority(record, reason, now).await?);
        }
        let object = Object::new("certificate", issued.id);
        let changes = changes.with(self.syncs_follow(issued.id).await?);
        let changes = changes.with(self.list_follows(&by, now).await?).audit(audit::record(
            caller,
            Some(issued.project),
            event,
            object,
            &detail,
            now,
        ));
        let outcome = self.db.commit(changes.urgent()).await;
        // Also when the outcome is not known: what is kept must not outlive what may have been committed.
        self.state.ocsp.forget(by.key, certificate.serial_content());
        match outcome {
            Ok(()) => {
                if event == REVOKED {
                    self.state.revoked.fetch_add(1, Ordering::Relaxed);
                }
                self.clock.note_committed(now);
                Ok(Some(Withdrawn { serial_number, revoked_at: record.row.revoked_at.unwrap_or(revoked_at) }))
            }
            Err(StoreError::Stale(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The job that signs the list of a certificate anew.
    async fn list_follows(&self, by: &IssuedBy, now: Time) -> Result<Changes> {
        let crl = store::authority::crl_of(&self.db, by.key, by.shard).await.map_err(failed)?;
        let (crl, settings) = crl.ok_or_else(|| Error::failed("a certificate without its revocation list"))?;
        let at = now.plus_millis(settings.delay_millis());
        let job = store::job::enqueue(self.new_id(), &Job::PublishCrl { crl }, at, now);
        Ok(Changes::new().statement(job))
    }

    /// An authority of ours whose active certificate is withdrawn issues nothing more, nor does one whose key is in the wrong
    /// hands, whichever certificate said so.
    async fn stop_authority(&self, record: &Record, reason: RevocationReason, now: Time) -> Result<Changes> {
        let issued = &record.row.issued;
        let owner = store::authority::owner_of_certificate(&self.db, issued.project, &issued.der).await;
        let Some((authority, certificate)) = owner.map_err(failed)? else { return Ok(Changes::new()) };
        let version = store::authority::certificate(&self.db, authority, certificate).await.map_err(failed)?;
        let authority = store::authority::in_project(&self.db, issued.project, authority).await.map_err(failed)?;
        let is_stopped = |authority: &Authority| {
            let is_lost = reason == RevocationReason::KeyCompromise
                && version.as_ref().is_some_and(|version| version.key == authority.active_key);
            authority.active_certificate == Some(certificate) || is_lost
        };
        match authority {
            Some(mut authority) if is_stopped(&authority) && authority.status == AuthorityStatus::Active => {
                authority.status = AuthorityStatus::Disabled;
                authority.version += 1;
                authority.updated_at = now;
                Ok(Changes::new().statement(store::authority::update(&authority)).configuration())
            }
            Some(_) | None => Ok(Changes::new()),
        }
    }
}

/// Whether it was made for an authority, and not from a profile, nor by somebody else.
pub(crate) fn is_of_authority(record: &Record) -> bool {
    record.row.issued.judged_by.is_none() && !record.is_imported() && is_authority(&record.certificate)
}

pub(crate) fn changes_all_the_time() -> Error {
    Error::unavailable("the certificate is being changed all the time", 1)
}
