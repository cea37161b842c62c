//! What happens to certificates, for the alerts that want to hear of it: written in the commit that makes it true. Most
//! projects have no such alert, and pay nothing: which there are is remembered until the configuration changes.

use crate::context::{Context, failed};
use crate::issue_from::Source;
use domain::alert::{EventKind, ToldFailure};
use domain::caller::Caller;
use domain::issuance::{IssuanceRequest, Subject};
use domain::job::Job;
use domain::policy::SubjectAttribute;
use domain::{CertificateId, Error, ProjectId, Reason, Result, Time};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use store::alert::event::AlertEvent;
use store::{Changes, StoreError};
use x509::AttributeType;

/// What happens together within this time is told together.
const TOGETHER_MILLIS: i64 = 2_000;
/// How many characters of the reason of a failure are told.
const ERROR_CHARACTERS_MAX: usize = 1_000;

/// What the alerts of each project want to hear, of one epoch of the configuration.
#[derive(Default)]
pub(crate) struct AlertWatch(RwLock<(u64, HashMap<ProjectId, Watched>)>);

/// What the alerts of a project want to hear.
#[derive(Clone, Debug, Default)]
struct Watched {
    kinds: Vec<EventKind>,
    /// The longest time before an end.
    before_millis: i64,
}

impl Watched {
    /// Whether a certificate that was just made is to be told of: as such, or since it ends soon.
    fn wants_new(&self, kind: EventKind, not_after: Time, now: Time) -> bool {
        self.kinds.contains(&kind) || self.wants_end(not_after, now)
    }

    /// Whether it is to be told that a certificate ends, now that it is there.
    fn wants_end(&self, not_after: Time, now: Time) -> bool {
        self.kinds.contains(&EventKind::Expiration) && not_after <= now.plus_millis(self.before_millis)
    }
}

impl Context {
    /// What follows for alerts when a certificate was made, in the same commit.
    pub(crate) async fn alerts_follow_issuance(
        &self,
        project: ProjectId,
        certificate: CertificateId,
        not_after: Time,
        renews: Option<CertificateId>,
    ) -> Result<Changes, StoreError> {
        let kind = if renews.is_some() { EventKind::Renewal } else { EventKind::Issuance };
        let watched = self.watched(project).await?;
        Ok(match watched.wants_new(kind, not_after, self.now()) {
            true => self.happened(project, kind, Some(certificate), None),
            false => Changes::new(),
        })
    }

    /// What follows for alerts when a certificate was imported, in the same commit: it may end soon.
    pub(crate) async fn alerts_follow_import(
        &self,
        project: ProjectId,
        certificate: CertificateId,
        not_after: Time,
    ) -> Result<Changes> {
        let watched = self.watched(project).await.map_err(failed)?;
        Ok(match watched.wants_end(not_after, self.now()) {
            true => self.happened(project, EventKind::Expiration, Some(certificate), None),
            false => Changes::new(),
        })
    }

    /// What follows for alerts when a certificate is revoked, in the same commit.
    pub(crate) async fn alerts_follow_revocation(
        &self,
        project: ProjectId,
        certificate: CertificateId,
    ) -> Result<Changes> {
        let watched = self.watched(project).await.map_err(failed)?;
        Ok(match watched.kinds.contains(&EventKind::Revocation) {
            true => self.happened(project, EventKind::Revocation, Some(certificate), None),
            false => Changes::new(),
        })
    }

    /// What follows for alerts when a certificate was not renewed.
    pub(crate) async fn alerts_follow_refused_renewal(
        &self,
        project: ProjectId,
        certificate: CertificateId,
        common_name: &str,
        error: &Error,
    ) -> Result<Changes> {
        let watched = self.watched(project).await.map_err(failed)?;
        if !watched.kinds.contains(&EventKind::IssuanceFailure) || !is_told(error) {
            return Ok(Changes::new());
        }
        let failure = self.failure(Some(certificate), String::new(), common_name, error);
        Ok(self.happened(project, EventKind::IssuanceFailure, Some(certificate), Some(failure)))
    }

    /// Notes that a request was refused, or that it failed. That this cannot be noted is no other failure of the request.
    pub(crate) async fn note_failed_issuance(
        &self,
        caller: &Caller,
        source: Source,
        request: &IssuanceRequest,
        error: &Error,
    ) {
        if !is_told(error) {
            return;
        }
        let Ok(basis) = self.basis_of(caller, source).await else { return };
        let project = basis.project();
        match self.watched(project).await {
            Ok(watched) if watched.kinds.contains(&EventKind::IssuanceFailure) => {}
            Ok(_) | Err(_) => return,
        }
        let common_name = common_name_of(request);
        let failure = self.failure(None, basis.title(), &common_name, error);
        let changes = self.happened(project, EventKind::IssuanceFailure, None, Some(failure));
        if let Err(error) = self.commit(changes).await {
            tracing::warn!(%error, "that a certificate was not issued is not told");
        }
    }

    fn failure(
        &self,
        certificate_id: Option<CertificateId>,
        profile_name: String,
        common_name: &str,
        error: &Error,
    ) -> ToldFailure {
        let error = match error {
            Error::Refused(refusal) => refusal.message.chars().take(ERROR_CHARACTERS_MAX).collect(),
            // Its cause is for the log alone.
            Error::Failed(_) => "the server failed; its log says why".to_owned(),
        };
        // No text of the database holds U+0000, which a refused request may.
        let [common_name, error] = [common_name.to_owned(), error].map(|text| text.replace('\0', "\u{fffd}"));
        ToldFailure { certificate_id, profile_name, common_name, error, at: self.now() }
    }

    fn happened(
        &self,
        project: ProjectId,
        kind: EventKind,
        certificate: Option<CertificateId>,
        failure: Option<ToldFailure>,
    ) -> Changes {
        let now = self.now();
        let event = AlertEvent { id: self.random.id(now), project, kind, certificate, failure, created_at: now };
        let job = Job::RunAlerts { project };
        let run = store::job::enqueue(self.new_id(), &job, now.plus_millis(TOGETHER_MILLIS), now);
        Changes::new().statement(store::alert::event::insert(&event)).statement(run)
    }

    async fn watched(&self, project: ProjectId) -> Result<Watched, StoreError> {
        // The epoch is taken before the rows are read: a change in between makes what was read count as old.
        let epoch = self.db.configuration_epoch();
        {
            let known = self.state.alerts.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(watched) = known.1.get(&project).filter(|_| known.0 == epoch) {
                return Ok(watched.clone());
            }
        }
        let mut watched = Watched::default();
        for (alert, _) in store::alert::enabled(&self.db, project).await? {
            watched.before_millis = watched.before_millis.max(alert.before_millis());
            if !watched.kinds.contains(&alert.event) {
                watched.kinds.push(alert.event);
            }
        }
        let mut known = self.state.alerts.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.0 < epoch {
            *known = (epoch, HashMap::new());
        }
        if known.0 == epoch {
            known.1.insert(project, watched.clone());
        }
        Ok(watched)
    }
}

/// Whether somebody is to hear of it: not when the caller had no right to ask, or asked for what is not there.
fn is_told(error: &Error) -> bool {
    match error.reason() {
        None
        | Some(
            Reason::Invalid
            | Reason::BadRequestSignature
            | Reason::BadKey
            | Reason::AgainstPolicy
            | Reason::WrongState
            | Reason::Unavailable { .. },
        ) => true,
        Some(
            Reason::Unauthenticated
            | Reason::BadToken
            | Reason::PermissionDenied
            | Reason::NotAMember
            | Reason::PermissionBoundary
            | Reason::Forbidden
            | Reason::NotFound
            | Reason::AlreadyExists
            | Reason::Conflict
            | Reason::Malformed
            | Reason::TooLarge
            | Reason::TooMany { .. }
            // It may well be there.
            | Reason::OutcomeUnknown { .. },
        ) => false,
    }
}

fn common_name_of(request: &IssuanceRequest) -> String {
    match &request.subject {
        Subject::Csr(csr) => csr.subject().first(AttributeType::CommonName).unwrap_or_default().to_owned(),
        Subject::Fields { attributes, .. } => {
            let named = attributes.iter().find(|(attribute, _)| *attribute == SubjectAttribute::CommonName);
            named.map(|(_, value)| value.clone()).unwrap_or_default()
        }
    }
}
