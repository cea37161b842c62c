//! Retention: what is past is removed after the time that the organisation said, piece by piece, while the server goes on. A
//! revocation is never touched before its list has stopped naming it.

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::inventory::{IssuedCertificate, serial_hex};
use domain::retention::{Removed, RetentionPolicy, kept_until};
use domain::{AuthorityKeyId, CrlId, Error, OrganizationId, Result, Time};
use serde_json::json;
use std::sync::atomic::Ordering;
use store::retention::PastRevocation;
use store::{Changes, Statement, StoreError};
use x509::{Certificate, Crl};

/// How many things of each kind go in one commit: it must not keep an issuance waiting.
const AT_ONCE: u32 = 200;
/// How long the server does not look once nothing is left.
const PAUSE_SECONDS: i64 = 3600;
/// How many commits one pass makes.
const COMMITS_MAX: u32 = 10;

/// What one pass did.
pub struct Pass {
    /// How much was removed, or would be.
    pub removed: Removed,
    /// Whether there is nothing left to remove for now.
    pub is_done: bool,
}

/// Some of what is past, as one commit.
struct PastThings {
    changes: Changes,
    removed: Removed,
    /// Of which serial numbers nothing is known afterwards, by the key that signed them.
    forgotten: Vec<(AuthorityKeyId, Vec<u8>)>,
}

impl Context {
    /// How long the caller's organisation keeps what is past.
    #[compiled_here]
    pub async fn retention_policy(&self, caller: &Caller) -> Result<RetentionPolicy> {
        caller.must_administer_organization("see what is kept for how long")?;
        store::retention::policy(&self.db, caller.organization).await.map_err(failed)
    }

    /// Says how long the caller's organisation keeps what is past.
    #[compiled_here]
    pub async fn set_retention_policy(&self, caller: &Caller, policy: RetentionPolicy) -> Result<()> {
        caller.must_administer_organization("say what is kept for how long")?;
        policy.check()?;
        let now = self.now();
        let detail = json!(policy);
        let object = Object::new("organization", caller.organization);
        let changes = Changes::new()
            .statement(store::retention::keep_policy(caller.organization, &policy, now))
            .audit(audit::record(caller, None, "retention-policy-changed", object, &detail, now));
        self.commit(changes).await?;
        self.state.prune_from.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Removes some of what is past, as the caller's organisation said, and reports it. Called again until it is done.
    #[compiled_here]
    pub async fn prune(&self, caller: &Caller) -> Result<Pass> {
        caller.must_administer_organization("remove what is past")?;
        self.prune_organization(caller).await
    }

    /// How much there is to remove, without removing it. Revocations that their list still names are in the number.
    #[compiled_here]
    pub async fn prune_preview(&self, caller: &Caller) -> Result<Removed> {
        caller.must_administer_organization("remove what is past")?;
        let (organization, now) = (caller.organization, self.now());
        let policy = store::retention::policy(&self.db, organization).await.map_err(failed)?;
        let before = |days: Option<u32>| days.map(|days| kept_until(now, days));
        let mut removed = Removed {
            access_tokens: store::retention::count_ended_access_tokens(&self.db, organization, now)
                .await
                .map_err(failed)?,
            ..Removed::default()
        };
        if let Some(before) = before(policy.expired_certificate_days) {
            removed.certificates =
                store::retention::count_expired_certificates(&self.db, organization, before).await.map_err(failed)?;
            // Those of certificates that go first have a record yet.
            let with_record = store::retention::count_expired_revoked(&self.db, organization, before).await;
            let without_record = self.past_revocations(organization, before).await?.len() as u64;
            removed.revocations = with_record.map_err(failed)? + without_record;
        }
        if let Some(before) = before(policy.certificate_request_days) {
            removed.certificate_requests =
                store::retention::count_answered_requests(&self.db, organization, before).await.map_err(failed)?;
        }
        if let Some(before) = before(policy.audit_days) {
            removed.audit_records =
                store::retention::count_audit_records(&self.db, organization, before).await.map_err(failed)?;
        }
        Ok(removed)
    }

    /// One pass for every organisation, by the server itself. Looking costs a walk over the revocations, so once nothing is
    /// left it is looked again an hour later, or when somebody says something else.
    #[compiled_here]
    pub async fn prune_by_policy(&self) -> Result<()> {
        let now = self.now();
        if now.millis() < self.state.prune_from.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut is_done = true;
        for organization in store::retention::organizations(&self.db).await.map_err(failed)? {
            let pass = self.prune_organization(&Caller::node(organization)).await?;
            is_done &= pass.is_done;
            if !pass.removed.is_nothing() {
                let removed = pass.removed;
                tracing::info!(organization.id = %organization, ?removed, "what is past was removed");
            }
        }
        if is_done {
            self.state.prune_from.store(now.plus_seconds(PAUSE_SECONDS).millis(), Ordering::Relaxed);
        }
        Ok(())
    }

    async fn prune_organization(&self, caller: &Caller) -> Result<Pass> {
        let mut pass = Pass { removed: Removed::default(), is_done: false };
        for _ in 0..COMMITS_MAX {
            let PastThings { changes, removed, forgotten } = self.past_things(caller).await?;
            if removed.is_nothing() {
                pass.is_done = true;
                break;
            }
            match self.db.commit(changes).await {
                Ok(()) => {
                    for (key, serial) in forgotten {
                        self.state.ocsp.forget(key, &serial);
                    }
                    pass.removed = sum(&pass.removed, &removed);
                }
                // Another node removes the same things, or somebody linked or deleted one: what is left is found again.
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(pass)
    }

    /// Some of what is past, as one commit: each certificate has a record of the audit, the rest have one together.
    async fn past_things(&self, caller: &Caller) -> Result<PastThings> {
        let (organization, now) = (caller.organization, self.now());
        let policy = store::retention::policy(&self.db, organization).await.map_err(failed)?;
        let (mut statements, mut removed): (Vec<Statement>, Removed) = Default::default();
        let (mut changes, mut forgotten) = (Changes::new(), Vec::new());
        if let Some(days) = policy.expired_certificate_days {
            let before = kept_until(now, days);
            let expired = store::retention::expired_certificates(&self.db, organization, before, AT_ONCE).await;
            for id in expired.map_err(failed)? {
                let row = store::certificate::by_id(&self.db, organization, id).await.map_err(failed)?;
                let Some(row) = row else { continue };
                let certificate = Certificate::from_der(row.issued.der.clone())
                    .map_err(|error| Error::failed_because("a stored certificate does not read", error))?;
                changes = changes.with(deletion(caller, &row.issued, &certificate, now));
                let key = row.issued.issuer.map(|by| by.key);
                forgotten.extend(key.map(|key| (key, certificate.serial_content().to_vec())));
                removed.certificates += 1;
            }
            for past in self.past_revocations(organization, before).await? {
                statements.extend(store::retention::forget_revocation(&past));
                forgotten.push((past.key, past.serial));
                removed.revocations += 1;
            }
        }
        if let Some(days) = policy.certificate_request_days {
            let before = kept_until(now, days);
            let answered = store::retention::answered_requests(&self.db, organization, before, AT_ONCE).await;
            for id in answered.map_err(failed)? {
                statements.push(store::retention::delete_request(id));
                removed.certificate_requests += 1;
            }
        }
        for id in store::retention::ended_access_tokens(&self.db, organization, now, AT_ONCE).await.map_err(failed)? {
            statements.push(store::retention::delete_access_token(id));
            removed.access_tokens += 1;
        }
        if let Some(days) = policy.audit_days {
            let (count, moved) = self.past_audit(organization, kept_until(now, days)).await?;
            statements.extend(moved);
            removed.audit_records = count;
        }
        if !removed.is_nothing() {
            let object = Object::new("organization", organization);
            changes = changes.audit(audit::record(caller, None, "past-removed", object, &json!(removed), now));
        }
        let changes = statements.into_iter().fold(changes, Changes::statement);
        Ok(PastThings { changes, removed, forgotten })
    }

    /// The oldest records of the audit. A chain can only be shortened from its beginning, so a record of another organisation
    /// that keeps it longer keeps what is behind it, too.
    async fn past_audit(&self, organization: OrganizationId, before: Time) -> Result<(u64, Vec<Statement>)> {
        let others = store::retention::policies(&self.db).await.map_err(failed)?;
        let now = self.now();
        let may_go = |record: store::audit_chain::Oldest| {
            let at = Time::from_millis(record.at_millis);
            match record.organization {
                Some(owner) if owner == organization.0 => at < before,
                Some(owner) => others.iter().any(|(id, policy)| {
                    id.0 == owner && policy.audit_days.is_some_and(|days| at < kept_until(now, days))
                }),
                None => at < before,
            }
        };
        store::audit_chain::prune(&self.db, AT_ONCE, may_go).await.map_err(failed)
    }

    /// Some of the revocations that nothing needs any more: the certificate expired long enough ago and its record is gone, and
    /// the list that is up was made after its end and does not name it.
    async fn past_revocations(&self, organization: OrganizationId, before: Time) -> Result<Vec<PastRevocation>> {
        let mut past: Vec<PastRevocation> = Vec::new();
        let mut list: Option<(CrlId, Crl)> = None;
        let mut last: Option<PastRevocation> = None;
        loop {
            let page = store::retention::past_revocations(&self.db, organization, before, last.as_ref(), AT_ONCE).await;
            let page = page.map_err(failed)?;
            let is_last = page.len() < AT_ONCE as usize;
            last = page.last().cloned().or(last);
            for one in page {
                if list.as_ref().is_none_or(|(id, _)| *id != one.list) {
                    list = self.list_that_is_up(one.list).await?.map(|list| (one.list, list));
                }
                let Some((_, list)) = &list else { continue };
                let is_named = list.find(&one.serial).is_some();
                if !is_named && list.this_update() > one.not_after.seconds() {
                    past.push(one);
                }
            }
            if is_last || past.len() >= AT_ONCE as usize {
                return Ok(past);
            }
        }
    }

    async fn list_that_is_up(&self, id: CrlId) -> Result<Option<Crl>> {
        let record = store::authority::crl(&self.db, id).await.map_err(failed)?;
        let unread = |error| Error::failed_because("a stored revocation list does not read", error);
        record.and_then(|record| record.der).map(|der| Crl::from_der(der).map_err(unread)).transpose()
    }
}

/// Removes a certificate that expired long enough ago, with its key. A revocation stays: that is another table.
fn deletion(caller: &Caller, issued: &IssuedCertificate, certificate: &Certificate, now: Time) -> Changes {
    let detail = json!({ "serialNumber": serial_hex(certificate), "why": "expired" });
    let object = Object::new("certificate", issued.id);
    store::certificate::delete(issued, certificate)
        .statement(store::retention::forget_successor(issued.id))
        .audit(audit::record(caller, Some(issued.project), "certificate-deleted", object, &detail, now))
}

fn sum(one: &Removed, other: &Removed) -> Removed {
    Removed {
        certificates: one.certificates + other.certificates,
        certificate_requests: one.certificate_requests + other.certificate_requests,
        access_tokens: one.access_tokens + other.access_tokens,
        revocations: one.revocations + other.revocations,
        audit_records: one.audit_records + other.audit_records,
    }
}
