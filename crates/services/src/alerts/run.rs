//! What the alerts of a project have to tell: what happened since the last time, and what ends soon. What is found, that it was
//! told, and the messages that tell it are one commit, so each is told once, whoever looks.

use super::{KnownProfiles, PAGE, authorities, place_of, tell};
use crate::audit::{self, Object};
use crate::certificates::Record;
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::alert::{
    Alert, Channel, Delivery, DeliveryStatus, EventKind, Facts, LOOK_SECONDS, Looked, Run, Subject, TOLD_MAX,
    ToldCertificate, WHOLE_LOOK_SECONDS, are_met, failure_key, includes_authorities,
};
use domain::authority::AuthorityStatus;
use domain::caller::Caller;
use domain::inventory::is_authority;
use domain::job::Job;
use domain::{Error, OrganizationId, ProjectId, Result, Time};
use serde_json::json;
use store::alert::event::AlertEvent;
use store::certificate::EndingAfter;
use store::{Changes, StoreError};
use uuid::Uuid;
use x509::{Certificate, digest};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// An alert that tells each day looks at everything this often.
const DAILY_LOOK_SECONDS: i64 = 60 * 60;
/// How many events are told at a time.
const EVENTS_MAX: u32 = 500;
/// How many projects are begun at a time.
const PROJECTS_MAX: u32 = 1_000;
/// How long the history of an alert is kept.
const HISTORY_MILLIS: i64 = 90 * DAY_MILLIS;
/// How long what happened waits for an alert that asks for it.
const WAITING_MILLIS: i64 = 30 * DAY_MILLIS;
/// How long it is remembered that something was told that is over.
const REMEMBERED_MILLIS: i64 = 30 * DAY_MILLIS;
/// How often something is decided anew because somebody else was faster.
const ATTEMPTS_MAX: usize = 5;

/// What one alert has found.
#[derive(Default)]
struct Found {
    subject: Subject,
    /// What must not have been told after a moment, and when that can be forgotten.
    notices: Vec<(Uuid, Time, Time)>,
}

impl Found {
    fn is_full(&self) -> bool {
        self.subject.count() >= TOLD_MAX
    }
}

impl Context {
    /// Plans the jobs that look for what ends soon.
    #[compiled_here]
    pub async fn begin_alerts(&self) -> Result<()> {
        let now = self.now();
        let looked_before = now.plus_seconds(-LOOK_SECONDS);
        let due = store::alert::projects_to_look(&self.db, looked_before, PROJECTS_MAX).await.map_err(failed)?;
        for project in due {
            let run = Job::RunAlerts { project };
            let job = store::job::enqueue_if_absent(self.new_id(), &run, now, now);
            // One that was given up gets another chance.
            let revived = store::job::revive(&run, looked_before, now);
            self.commit(Changes::new().statement(job).statement(revived)).await?;
        }
        Ok(())
    }

    /// Forgets old history and what cannot be told again.
    #[compiled_here]
    pub async fn prune_alerts(&self) -> Result<()> {
        let now = self.now();
        let [notices, events] = store::alert::event::prune(now, now.plus_millis(-WAITING_MILLIS));
        let runs = store::alert::run::prune(now.plus_millis(-HISTORY_MILLIS));
        self.commit(Changes::new().statement(notices).statement(events).statement(runs)).await
    }

    /// Finds what the alerts of a project have to tell, and plans its sending.
    #[compiled_here]
    pub async fn run_alerts(&self, project: ProjectId) -> Result<()> {
        let organization = store::project::organization_of(&self.db, project).await.map_err(failed)?;
        let Some(organization) = organization else { return Ok(()) };
        let mut attempts = 0;
        while goes_on(self.tell_events(organization, project).await, &mut attempts)? {}
        for (alert, _) in store::alert::enabled(&self.db, project).await.map_err(failed)? {
            if alert.event.is_about_an_end() {
                let mut attempts = 0;
                while goes_on(self.look(&alert).await, &mut attempts)? {}
            }
        }
        Ok(())
    }

    /// Tells what happened; says whether there may be more.
    async fn tell_events(&self, organization: OrganizationId, project: ProjectId) -> Result<bool, Overtaken> {
        let events = store::alert::event::waiting(&self.db, project, EVENTS_MAX).await.map_err(failed)?;
        if events.is_empty() {
            return Ok(false);
        }
        let alerts = store::alert::enabled(&self.db, project).await.map_err(failed)?;
        let mut found: Vec<Found> = alerts.iter().map(|_| Found::default()).collect();
        let mut profiles = KnownProfiles::new();
        let mut changes = Changes::new();
        for event in &events {
            let record = match event.certificate {
                None => None,
                Some(id) => {
                    let row = store::certificate::by_id(&self.db, organization, id).await.map_err(failed)?;
                    row.map(|row| self.read(row)).transpose()?
                }
            };
            let profile = match &record {
                None => None,
                Some(record) => self.profile_of(organization, record, &mut profiles).await?,
            };
            let profile = profile.as_ref().map(|(slug, _)| slug.as_str());
            for ((alert, _), found) in alerts.iter().zip(&mut found) {
                self.add_event(alert, event, record.as_ref(), profile, found).await?;
            }
            changes = changes.statement(store::alert::event::remove(event));
        }
        for ((alert, _), found) in alerts.iter().zip(found) {
            changes = changes.with(self.told_by(alert, found).await?);
        }
        self.commit_run(changes).await?;
        Ok(events.len() == EVENTS_MAX as usize)
    }

    async fn add_event(
        &self,
        alert: &Alert,
        event: &AlertEvent,
        record: Option<&Record>,
        profile: Option<&str>,
        found: &mut Found,
    ) -> Result<()> {
        let now = self.now();
        if let (EventKind::IssuanceFailure, Some(failure)) = (event.kind, &event.failure) {
            let profile_name = profile.unwrap_or(&failure.profile_name);
            let facts = Facts { profile_name: Some(profile_name), common_name: &failure.common_name, alt_names: &[] };
            let asked = format!("{:?}/{profile_name}/{}", event.certificate, failure.common_name);
            let key = failure_key(&digest::sha256(asked.as_bytes()));
            let again = now.plus_millis(-DAY_MILLIS);
            if alert.event == event.kind && are_met(&alert.filters, facts) && self.is_untold(alert, key, again).await? {
                found.notices.push((key, again, now.plus_millis(DAY_MILLIS)));
                let profile_name = profile_name.to_owned();
                found.subject.failures.push(domain::alert::ToldFailure { profile_name, ..failure.clone() });
                found.subject.certificates.extend(record.map(|record| tell::told(record, profile)));
            }
            return Ok(());
        }
        let Some(record) = record else { return Ok(()) };
        let is_left_out = is_authority(&record.certificate)
            && record.row.issued.judged_by.is_none()
            && !includes_authorities(&alert.filters);
        if is_left_out || !are_met(&alert.filters, tell::facts(record, profile, &tell::names(record))) {
            return Ok(());
        }
        if alert.event == EventKind::Expiration {
            // One that ends so soon that it is in time already.
            let ends = Time::from_seconds(record.certificate.not_after());
            let is_due = record.row.revoked_at.is_none()
                && record.row.renewed_by.is_none()
                && ends > now
                && ends <= now.plus_millis(alert.before_millis());
            let again = told_again(alert, now);
            if is_due && self.is_untold(alert, record.row.issued.id.0, again).await? {
                found.notices.push((record.row.issued.id.0, again, ends.plus_millis(REMEMBERED_MILLIS)));
                found.subject.certificates.push(tell::told(record, profile));
            }
        } else if alert.event == event.kind {
            found.subject.certificates.push(tell::told(record, profile));
        }
        Ok(())
    }

    async fn is_untold(&self, alert: &Alert, subject: Uuid, again: Time) -> Result<bool> {
        let told_at = store::alert::event::told_at(&self.db, alert.id, subject).await.map_err(failed)?;
        Ok(told_at.is_none_or(|at| at <= again))
    }

    /// Looks for what ends soon; says whether there is more.
    async fn look(&self, alert: &Alert) -> Result<bool, Overtaken> {
        let read = store::alert::by_id(&self.db, alert.organization, alert.id).await.map_err(failed)?;
        let Some((alert, looked)) = read.filter(|(alert, _)| alert.is_enabled) else { return Ok(false) };
        let now = self.now();
        let until = now.plus_millis(alert.before_millis());
        let often = if alert.is_daily { DAILY_LOOK_SECONDS } else { WHOLE_LOOK_SECONDS };
        let is_anew = looked.until == looked.at;
        let is_whole = is_anew || looked.whole_at.plus_seconds(often) <= now;
        // What ended since the last look is told, too: nobody heard of it while the server stood still.
        let from = if is_whole { looked.at } else { looked.until };
        let found = if alert.event == EventKind::CaExpiration {
            self.ending_authorities(&alert, (looked.at, until), now).await?
        } else {
            self.ending_certificates(&alert, (from, until), now).await?
        };
        let is_more = found.is_full();
        let mut changes = self.told_by(&alert, found).await?;
        let reached = Looked { until, at: now, whole_at: if is_whole { now } else { looked.whole_at } };
        changes = match is_more {
            true => changes.statement(store::alert::looked(&alert, looked, looked)),
            false => changes.statement(store::alert::looked(&alert, looked, reached)),
        };
        self.commit_run(changes).await?;
        Ok(is_more)
    }

    async fn ending_certificates(&self, alert: &Alert, (from, until): (Time, Time), now: Time) -> Result<Found> {
        let again = told_again(alert, now);
        let (mut found, mut profiles) = (Found::default(), KnownProfiles::new());
        let mut after = EndingAfter::time(from);
        loop {
            let scope = authorities(&alert.filters);
            let told = (alert.id, again);
            let rows =
                store::certificate::ending_untold(&self.db, alert.project, scope, after, until, told, PAGE).await;
            let rows = rows.map_err(failed)?;
            let is_last = rows.len() < PAGE as usize;
            for row in rows {
                let record = self.read(row)?;
                after = place_of(&record);
                let profile = self.profile_of(alert.organization, &record, &mut profiles).await?;
                let profile = profile.as_ref().map(|(slug, _)| slug.as_str());
                if are_met(&alert.filters, tell::facts(&record, profile, &tell::names(&record))) {
                    found.notices.push((record.row.issued.id.0, again, after.not_after.plus_millis(REMEMBERED_MILLIS)));
                    found.subject.certificates.push(tell::told(&record, profile));
                }
                if found.is_full() {
                    return Ok(found);
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }

    async fn ending_authorities(&self, alert: &Alert, (from, until): (Time, Time), now: Time) -> Result<Found> {
        let again = told_again(alert, now);
        let mut found = Found::default();
        for authority in store::authority::list(&self.db, alert.project).await.map_err(failed)? {
            let Some(id) = authority.active_certificate else { continue };
            if authority.status == AuthorityStatus::PendingCertificate || found.is_full() {
                continue;
            }
            let stored = store::authority::certificate(&self.db, authority.id, id).await.map_err(failed)?;
            let Some(stored) = stored else { continue };
            let certificate = Certificate::from_der(stored.der)
                .map_err(|error| Error::failed_because("the certificate of an authority does not read", error))?;
            let told = ToldCertificate {
                common_name: authority.name.clone(),
                ..tell::told_alone(authority.id.0, &certificate)
            };
            let facts = Facts { profile_name: None, common_name: &told.common_name, alt_names: &told.alt_names };
            let is_due = told.not_after > from && told.not_after <= until && are_met(&alert.filters, facts);
            if is_due && self.is_untold(alert, id.0, again).await? {
                found.notices.push((id.0, again, told.not_after.plus_millis(REMEMBERED_MILLIS)));
                found.subject.certificates.push(told);
            }
        }
        Ok(found)
    }

    /// What makes an alert tell what it has found: the run, its messages, and that it was told.
    async fn told_by(&self, alert: &Alert, found: Found) -> Result<Changes> {
        if found.subject.count() == 0 {
            return Ok(Changes::new());
        }
        let now = self.now();
        let run =
            Run { id: self.new_id(), alert: alert.id, subject: found.subject.most_urgent_first(), created_at: now };
        let mut changes =
            Changes::new().statement(store::alert::is_unchanged(alert)).statement(store::alert::run::insert(&run));
        for (subject, again, forget_at) in found.notices {
            changes = changes.statement(store::alert::event::note(alert.id, subject, again, now, forget_at));
        }
        let channels = store::alert::channels(&self.db, alert.id).await.map_err(failed)?;
        for channel in channels.iter().filter(|channel| channel.is_enabled) {
            let delivery = self.pending(&run, channel);
            let job = store::job::enqueue(self.new_id(), &Job::DeliverAlert { delivery: delivery.id }, now, now);
            changes = changes.statement(store::alert::run::insert_delivery(&delivery)).statement(job);
        }
        let caller = Caller::node(alert.organization);
        let detail = json!({ "name": alert.name, "event": alert.event.as_str(), "count": run.subject.count() });
        let object = Object::new("alert", alert.id);
        Ok(changes.audit(audit::record(&caller, Some(alert.project), "alert-told", object, &detail, now)))
    }

    fn pending(&self, run: &Run, channel: &Channel) -> Delivery {
        Delivery {
            id: self.new_id(),
            run: run.id,
            channel: channel.id,
            kind: channel.kind,
            status: DeliveryStatus::Pending,
            attempts: 0,
            error: None,
            updated_at: run.created_at,
        }
    }

    async fn commit_run(&self, changes: Changes) -> Result<(), Overtaken> {
        match self.db.commit(changes).await {
            Ok(()) => Ok(()),
            Err(StoreError::Stale(_) | StoreError::Conflict { .. }) => Err(Overtaken::Yes),
            Err(error) => Err(Overtaken::No(failed(error))),
        }
    }
}

/// Whether something was decided on what is not so any more.
enum Overtaken {
    Yes,
    No(Error),
}

/// Whether it is done once more: there is more, or it was decided on what is not so any more.
fn goes_on(outcome: Result<bool, Overtaken>, attempts: &mut usize) -> Result<bool> {
    match outcome {
        Ok(is_more) => {
            *attempts = 0;
            Ok(is_more)
        }
        Err(Overtaken::Yes) if *attempts < ATTEMPTS_MAX => {
            *attempts += 1;
            Ok(true)
        }
        Err(Overtaken::Yes) => Err(Error::unavailable("the alerts of the project are being changed all the time", 1)),
        Err(Overtaken::No(error)) => Err(error),
    }
}

impl From<Error> for Overtaken {
    fn from(error: Error) -> Self {
        Self::No(error)
    }
}

/// What was told until then is told again.
fn told_again(alert: &Alert, now: Time) -> Time {
    match alert.is_daily {
        true => now.plus_millis(-DAY_MILLIS),
        false => Time::from_millis(i64::MIN),
    }
}
