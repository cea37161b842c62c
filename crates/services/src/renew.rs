//! Renews leaf certificates: by request, and by themselves as it was planned (contract §6.5, 6.6).
//!
//! A certificate has at most one successor. The old one stays valid until its end, so that whoever uses it can change over.

use crate::audit::{self, Object};
use crate::certificates::{CertificateName, Record};
use crate::context::{Context, failed};
use crate::issue::{IssueOptions, Issued};
use crate::issue_from::Source;
use crate::subscribers::request_for;
use async_recursion::async_recursion as compiled_here;
use domain::authority::AuthorityStatus;
use domain::caller::Caller;
use domain::inventory::{ShownStatus, serial_hex};
use domain::issuance::Issuer;
use domain::job::Job;
use domain::permission::{Action, Field, ObjectFields};
use domain::profile::{Enrollment, IssuerKind};
use domain::renewal::{can_be_planned, lifetime_days, next_try, renew_at, request_for_successor};
use domain::{CertificateId, Error, OrganizationId, Reason, Refusal, Result, SubscriberId, Violation};
use serde_json::json;
use std::sync::Arc;
use store::{Changes, StoreError};

/// What a certificate's renewal by itself is changed to.
pub enum PlanChange {
    /// It is renewed so many days before its end.
    RenewBefore {
        /// The days.
        days: u32,
    },
    /// It is not renewed by itself.
    Never,
    /// All stays as it is.
    Nothing,
}

/// How many renewals are begun at a time.
const DUE_MAX: u32 = 100;

impl Context {
    /// Makes the successor of a certificate, with a new key.
    #[compiled_here]
    pub async fn renew(&self, caller: &Caller, id: CertificateId) -> Result<Issued> {
        let record = self.find_certificate(caller, &CertificateName::Id(id)).await?;
        let issuer = self.renewing_issuer(caller, &record).await?;
        caller.within(record.application()).may(
            issuer.profile.project,
            Action::IssueCertificate,
            &ObjectFields::with(Field::Slug, issuer.profile.slug.as_str()),
        )?;
        self.try_to_renew(caller, &record, &issuer).await
    }

    async fn try_to_renew(&self, caller: &Caller, record: &Record, issuer: &Issuer) -> Result<Issued> {
        let outcome = match self.must_be_renewable(record, issuer) {
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let options = IssueOptions {
                    metadata: record.row.issued.details.metadata.clone(),
                    friendly_name: record.row.issued.details.friendly_name.clone(),
                    renews: Some(record.row.issued.id),
                    renew_before_days: record.row.renew_before_days,
                    application: record.application(),
                    ..IssueOptions::default()
                };
                let request = request_for_successor(&record.certificate)?;
                self.issue(caller, issuer.profile.id, request, options).await
            }
        };
        if let Err(error) = &outcome {
            self.note_refusal(record, error).await?;
        }
        outcome
    }

    /// Makes the successor of a subscriber's certificate, as the subscriber is now.
    async fn try_to_renew_for(&self, caller: &Caller, record: &Record, id: SubscriberId) -> Result<Issued> {
        let outcome = async {
            match record.status {
                ShownStatus::Active => {}
                ShownStatus::Expired => return Err(Error::wrong_state("the certificate has expired")),
                ShownStatus::Revoked => return Err(Error::wrong_state("the certificate is revoked")),
            }
            let subscriber = self.find_subscriber(caller, id).await?;
            let details = &record.row.issued.details;
            let options = IssueOptions {
                metadata: details.metadata.clone(),
                friendly_name: details.friendly_name.clone(),
                renews: Some(record.row.issued.id),
                ..IssueOptions::default()
            };
            self.issue_from(caller, Source::Subscriber(id), request_for(&subscriber), options).await
        };
        let outcome = outcome.await;
        if let Err(error) = &outcome {
            self.note_refusal(record, error).await?;
        }
        outcome
    }

    /// Writes a refusal into the record of the certificate, and when it is tried again. A failure of ours is none.
    async fn note_refusal(&self, record: &Record, error: &Error) -> Result<()> {
        match error.reason() {
            // A server that is busy says nothing about the certificate, and what may have been done was not refused: whoever
            // asked has to be told that, and not that its refusal could not be noted.
            None | Some(Reason::TooMany { .. } | Reason::Unavailable { .. } | Reason::OutcomeUnknown { .. }) => {
                return Ok(());
            }
            Some(_) => {}
        }
        let next = next_try(&record.certificate, self.now());
        let refused = store::renewal::refused(record.row.pk, &error.to_string(), next);
        let issued = &record.row.issued;
        let alerts = self.alerts_follow_refused_renewal(issued.project, issued.id, record.common_name(), error).await?;
        self.commit(Changes::new().statement(refused).with(alerts)).await
    }

    /// What the profile has to say before anything is asked of the certificate, in the order of contract §6.5.
    async fn renewing_issuer(&self, caller: &Caller, record: &Record) -> Result<Arc<Issuer>> {
        let judged = record.row.issued.judged_by.ok_or_else(|| {
            Error::forbidden("the certificate was not made from a profile, so there is nothing to renew it by")
        })?;
        let issuer = self.issuer_for(caller.organization, judged.profile).await?;
        must_enrol_by_api(&issuer)?;
        must_have_key(record)?;
        Ok(issuer)
    }

    /// Everything that stands against a renewal, in one answer.
    fn must_be_renewable(&self, record: &Record, issuer: &Issuer) -> Result<()> {
        let now = self.now();
        let mut reasons = Vec::new();
        match record.status {
            ShownStatus::Active => {}
            ShownStatus::Expired => reasons.push(("expired", "the certificate has expired".to_owned())),
            ShownStatus::Revoked => reasons.push(("revoked", "the certificate is revoked".to_owned())),
        }
        if let Some(successor) = record.row.renewed_by {
            reasons.push(("renewed", format!("the certificate was renewed already, by {successor}")));
        }
        if issuer.profile.document.issuer == IssuerKind::Ca {
            match &issuer.authority {
                None => reasons.push(("authority-missing", "the profile's certificate authority is gone".to_owned())),
                Some(authority) => {
                    if authority.status != AuthorityStatus::Active {
                        let message = format!("the certificate authority {} is not active", authority.name);
                        reasons.push(("authority-inactive", message));
                    }
                    let end = now.plus_seconds(lifetime_days(&record.certificate) * 24 * 60 * 60);
                    let limit = authority.active.as_ref().map(|active| active.certificate.not_after());
                    if limit.is_some_and(|limit| end.seconds() > limit) {
                        let message = format!("the new certificate would outlive the authority {}", authority.name);
                        reasons.push(("outlives-authority", message));
                    }
                }
            }
        }
        if reasons.is_empty() {
            return Ok(());
        }
        let violations = reasons.into_iter().map(|(rule, message)| Violation::new("certificateId", rule, message));
        Err(Refusal::violations(Reason::WrongState, violations.collect()).into())
    }

    /// Plans the renewal of a certificate, or takes the plan back. Says how many days before its end it is renewed.
    #[compiled_here]
    pub async fn plan_renewal(&self, caller: &Caller, id: CertificateId, change: PlanChange) -> Result<Option<u32>> {
        let record = self.certificate_for(caller, &CertificateName::Id(id), Action::EditCertificate).await?;
        let (statement, days) = match change {
            PlanChange::Nothing => return Ok(record.row.renew_before_days),
            PlanChange::Never => (store::renewal::forget_plan(record.row.pk), None),
            PlanChange::RenewBefore { days } => {
                self.must_be_plannable(caller, &record, days).await?;
                (store::renewal::plan(id, days, renew_at(&record.certificate, days)), Some(days))
            }
        };
        let detail = json!({ "serialNumber": serial_hex(&record.certificate), "renewBeforeDays": days });
        let object = Object::new("certificate", id);
        let project = Some(record.row.issued.project);
        let audited = audit::record(caller, project, "renewal-planned", object, &detail, self.now());
        match self.db.commit(Changes::new().statement(statement).audit(audited)).await {
            Ok(()) => Ok(days),
            Err(StoreError::Stale(_)) => Err(Error::wrong_state("the certificate was renewed or deleted meanwhile")),
            Err(error) => Err(failed(error)),
        }
    }

    async fn must_be_plannable(&self, caller: &Caller, record: &Record, days: u32) -> Result<()> {
        if record.row.issued.judged_by.is_none() {
            return Err(Error::invalid("the certificate was not made from a profile, so it cannot be renewed"));
        }
        self.renewing_issuer(caller, record).await?;
        match record.status {
            ShownStatus::Active => {}
            ShownStatus::Expired => return Err(Error::wrong_state("the certificate has expired")),
            ShownStatus::Revoked => return Err(Error::wrong_state("the certificate is revoked")),
        }
        if record.row.renewed_by.is_some() {
            return Err(Error::wrong_state("the certificate was renewed already"));
        }
        let lifetime = lifetime_days(&record.certificate);
        if i64::from(days) >= lifetime {
            return Err(Error::invalid(format!(
                "renewBeforeDays must be less than the lifetime, which is {lifetime} days"
            )));
        }
        if !can_be_planned(renew_at(&record.certificate, days), self.now()) {
            return Err(Error::invalid("the renewal would be due before the next midnight in UTC: renew it now"));
        }
        Ok(())
    }

    /// Plans the jobs of the renewals that are due. One that goes on failing comes again after an hour, behind the others.
    #[compiled_here]
    pub async fn begin_renewals(&self) -> Result<()> {
        const AGAIN_SECONDS: i64 = 60 * 60;
        let now = self.now();
        for (organization, certificate) in store::renewal::due(&self.db, now, DUE_MAX).await.map_err(failed)? {
            let job = Job::RenewCertificate { organization, certificate };
            let changes = Changes::new()
                .statement(store::job::enqueue_if_absent(self.new_id(), &job, now, now))
                .statement(store::renewal::postpone(certificate, now.plus_seconds(AGAIN_SECONDS)));
            self.commit(changes).await?;
        }
        Ok(())
    }

    /// Renews a certificate as it was planned. What is refused is written into its record and tried again the next day;
    /// what fails is tried again soon.
    #[compiled_here]
    pub async fn renew_by_plan(&self, organization: OrganizationId, id: CertificateId) -> Result<()> {
        let row = store::certificate::by_id(&self.db, organization, id).await.map_err(failed)?;
        let Some(record) = row.map(|row| self.read(row)).transpose()? else { return Ok(()) };
        // Done already, or taken back, by the time that this runs.
        if record.row.renewed_by.is_some() || record.row.renew_before_days.is_none() {
            return Ok(());
        }
        let caller = Caller::node_administering(organization, record.row.issued.project);
        let outcome = match record.row.origin.subscriber {
            Some(subscriber) => self.try_to_renew_for(&caller, &record, subscriber).await,
            None => match self.renewing_issuer(&caller, &record).await {
                Ok(issuer) => self.try_to_renew(&caller, &record, &issuer).await,
                Err(error) => {
                    self.note_refusal(&record, &error).await?;
                    Err(error)
                }
            },
        };
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => match error.reason() {
                Some(Reason::Unavailable { .. } | Reason::OutcomeUnknown { .. } | Reason::TooMany { .. }) | None => {
                    Err(error)
                }
                Some(_) => {
                    tracing::warn!(certificate.id = %id, %error, "a certificate was not renewed");
                    Ok(())
                }
            },
        }
    }
}

fn must_enrol_by_api(issuer: &Issuer) -> Result<()> {
    match issuer.profile.enrollment {
        Enrollment::Api => Ok(()),
        Enrollment::Est | Enrollment::Acme => Err(Error::forbidden(format!(
            "the profile {} enrols by {}: its certificates are renewed by their clients",
            issuer.profile.slug,
            issuer.profile.enrollment.as_str()
        ))),
    }
}

fn must_have_key(record: &Record) -> Result<()> {
    match record.row.has_key {
        true => Ok(()),
        false => Err(Error::forbidden("the certificate was made from a CSR: renew it with a new CSR")),
    }
}
