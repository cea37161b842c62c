//! Alerts: making, changing and deleting them, what they would tell, and what they told (contract syncs §5.1). What makes one
//! tell something is in `alerts/watch.rs`, what it finds in `alerts/run.rs`, how it is sent in `alerts/deliver.rs`.

mod deliver;
mod run;
mod tell;
mod watch;

pub use deliver::TestedChannel;
pub(crate) use watch::AlertWatch;

use crate::audit::{self, Object};
use crate::certificates::Record;
use crate::context::{Context, failed, key_failed};
use crate::issue::certificate_fields;
use async_recursion::async_recursion as compiled_here;
use domain::alert::{
    ALERTS_MAX, Alert, Channel, ChannelSettings, Delivery, EventKind, Filter, LastAlertRun, Looked, Run, are_met,
    includes_authorities, parse_before,
};
use domain::caller::Caller;
use domain::job::Job;
use domain::permission::{Action, ObjectFields};
use domain::{AlertChannelId, AlertId, Error, ProjectId, Result, Time};
use keys::Place;
use serde_json::json;
use std::collections::HashMap;
pub use store::alert::AlertFilter;
use store::certificate::{Authorities, EndingAfter};
use store::connection::SealedCredentials;
use store::{Changes, StoreError};

/// What an alert is made with.
pub struct NewAlert {
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it is about.
    pub event: EventKind,
    /// How long before the end.
    pub before: Option<String>,
    /// What a certificate must be like.
    pub filters: Vec<Filter>,
    /// Whether it tells anything.
    pub is_enabled: bool,
    /// Whether it tells each day.
    pub is_daily: bool,
    /// Where it tells.
    pub channels: Vec<WantedChannel>,
}

/// What can change in an alert. Absent stays as it is.
#[derive(Default)]
pub struct AlertChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// What it is about.
    pub event: Option<EventKind>,
    /// How long before the end.
    pub before: Option<Option<String>>,
    /// What a certificate must be like.
    pub filters: Option<Vec<Filter>>,
    /// Whether it tells anything.
    pub is_enabled: Option<bool>,
    /// Whether it tells each day.
    pub is_daily: Option<bool>,
    /// All of its channels.
    pub channels: Option<Vec<WantedChannel>>,
}

/// A channel as it is wanted.
pub struct WantedChannel {
    /// One that the alert has already.
    pub id: Option<AlertChannelId>,
    /// Whether anything is sent by it.
    pub is_enabled: bool,
    /// Where it leads.
    pub settings: WantedSettings,
}

/// Where a channel is to lead.
pub enum WantedSettings {
    /// As it says here.
    Whole(ChannelSettings),
    /// As it says here, with the signing secret that it has.
    Signed(ChannelSettings),
    /// As before: its secret is not said again.
    AsBefore(domain::alert::ChannelKind),
}

/// An alert with what is shown beside it.
pub struct ShownAlert {
    /// The alert.
    pub alert: Alert,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// What became of its last run.
    pub last_run: Option<LastAlertRun>,
}

/// A certificate that an alert is about.
pub struct AlertedCertificate {
    /// The certificate.
    pub record: Record,
    /// The slug of its profile.
    pub profile_name: Option<String>,
    /// How it was enrolled.
    pub enrollment: Option<&'static str>,
}

/// A channel that is sealed and ready to be stored.
struct ReadyChannel {
    channel: Channel,
    sealed: SealedCredentials,
}

/// How many certificates are looked at for one answer.
const WALKED_MAX: usize = 50_000;
/// How many are read at a time.
pub(crate) const PAGE: u32 = 200;

impl Context {
    /// Makes an alert.
    #[compiled_here]
    pub async fn create_alert(&self, caller: &Caller, new: NewAlert) -> Result<ShownAlert> {
        let project = self.project_for(caller, Some(new.project)).await?;
        caller.may(project, Action::CreateAlert, &ObjectFields::unknown())?;
        let count = store::alert::count(&self.db, project).await.map_err(failed)?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= ALERTS_MAX {
            return Err(Error::invalid(format!("a project has at most {ALERTS_MAX} alerts")));
        }
        let now = self.now();
        let alert = Alert {
            id: self.new_id(),
            organization: caller.organization,
            project,
            name: new.name,
            description: new.description,
            event: new.event,
            before: new.before,
            filters: new.filters,
            is_enabled: new.is_enabled,
            is_daily: new.is_daily,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        may_be_told(caller, &alert)?;
        must_hold_together(&alert)?;
        let channels = self.ready_channels(&alert, &[], new.channels).await?;
        let changes = Changes::new().statement(store::alert::insert(&alert, anew(now)));
        self.commit_alert(caller, changes.with(put(&alert, &channels)), &alert, "alert-created").await?;
        self.shown_alert(alert).await
    }

    /// Changes an alert. One that is about something else, or looks at another time, begins anew.
    #[compiled_here]
    pub async fn change_alert(&self, caller: &Caller, id: AlertId, change: AlertChange) -> Result<ShownAlert> {
        let (before, looked) = self.alert_for(caller, id, Action::EditAlert).await?;
        let now = self.now();
        let alert = Alert {
            name: change.name.unwrap_or_else(|| before.name.clone()),
            description: change.description.unwrap_or_else(|| before.description.clone()),
            event: change.event.unwrap_or(before.event),
            before: change.before.unwrap_or_else(|| before.before.clone()),
            filters: change.filters.unwrap_or_else(|| before.filters.clone()),
            is_enabled: change.is_enabled.unwrap_or(before.is_enabled),
            is_daily: change.is_daily.unwrap_or(before.is_daily),
            version: before.version + 1,
            updated_at: now,
            ..before.clone()
        };
        may_be_told(caller, &alert)?;
        must_hold_together(&alert)?;
        let is_other = (alert.event, &alert.before) != (before.event, &before.before);
        let looks_again = is_other || alert.filters != before.filters || alert.is_enabled != before.is_enabled;
        let looked = if looks_again { anew(now) } else { looked };
        let mut changes = Changes::new().statement(store::alert::update(&alert, looked));
        if is_other {
            changes = changes.statement(store::alert::event::forget(id));
        }
        if let Some(wanted) = change.channels {
            let there = store::alert::channels(&self.db, id).await.map_err(failed)?;
            let channels = self.ready_channels(&alert, &there, wanted).await?;
            let stays = |one: &Channel| channels.iter().any(|ready| ready.channel.id == one.id);
            let gone: Vec<_> = there.iter().filter(|one| !stays(one)).map(|one| one.id).collect();
            changes = changes.with(store::alert::remove_channels(id, &gone)).with(put(&alert, &channels));
        }
        self.commit_alert(caller, changes, &alert, "alert-changed").await?;
        self.shown_alert(alert).await
    }

    /// Deletes an alert, and what it waits to send.
    #[compiled_here]
    pub async fn delete_alert(&self, caller: &Caller, id: AlertId) -> Result<ShownAlert> {
        let (alert, _) = self.alert_for(caller, id, Action::DeleteAlert).await?;
        let shown = self.shown_alert(alert.clone()).await?;
        let changes = Changes::new().statement(store::alert::delete(id, alert.version));
        self.commit_alert(caller, changes, &alert, "alert-deleted").await?;
        Ok(shown)
    }

    /// An alert.
    #[compiled_here]
    pub async fn alert(&self, caller: &Caller, id: AlertId) -> Result<ShownAlert> {
        let (alert, _) = self.alert_for(caller, id, Action::ReadAlert).await?;
        self.shown_alert(alert).await
    }

    /// The alerts of a project by name, and how many there are.
    #[compiled_here]
    pub async fn alerts(
        &self,
        caller: &Caller,
        project: Option<ProjectId>,
        filter: &AlertFilter,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<ShownAlert>, i64)> {
        let project = self.project_for(caller, project).await?;
        caller.may(project, Action::ReadAlert, &ObjectFields::unknown())?;
        let (alerts, total) = store::alert::list(&self.db, project, filter, offset, limit).await.map_err(failed)?;
        let mut shown = Vec::with_capacity(alerts.len());
        for alert in alerts {
            shown.push(self.shown_alert(alert).await?);
        }
        Ok((shown, total))
    }

    /// What an alert told, the newest first, with what became of each message; and how often it told something.
    #[compiled_here]
    pub async fn alert_history(
        &self,
        caller: &Caller,
        id: AlertId,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<(Run, Vec<Delivery>)>, i64)> {
        self.alert_for(caller, id, Action::ReadAlert).await?;
        let (runs, total) = store::alert::run::list(&self.db, id, offset, limit).await.map_err(failed)?;
        let mut history = Vec::with_capacity(runs.len());
        for run in runs {
            let deliveries = store::alert::run::deliveries(&self.db, run.id).await.map_err(failed)?;
            history.push((run, deliveries));
        }
        Ok((history, total))
    }

    /// The certificates that an alert is about now, the first to end first, and how many there are.
    #[compiled_here]
    pub async fn alerted_certificates(
        &self,
        caller: &Caller,
        id: AlertId,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<AlertedCertificate>, usize)> {
        let (alert, _) = self.alert_for(caller, id, Action::ReadAlert).await?;
        let before = alert.event.is_about_an_end().then(|| alert.before_millis());
        self.matching(caller, alert.project, &alert.filters, before, (offset, limit)).await
    }

    /// The certificates that an alert with these rules would be about.
    #[compiled_here]
    pub async fn preview_alert(
        &self,
        caller: &Caller,
        project: Option<ProjectId>,
        filters: &[Filter],
        before: Option<&str>,
        page: (u32, u32),
    ) -> Result<(Vec<AlertedCertificate>, usize)> {
        let project = self.project_for(caller, project).await?;
        caller.may(project, Action::ReadAlert, &ObjectFields::unknown())?;
        let before = match before {
            None => None,
            Some(text) => Some(parse_before(text).ok_or_else(|| Error::invalid("alertBefore is not a time"))?),
        };
        self.matching(caller, project, filters, before, page).await
    }

    /// Those that the caller may see, in the order of their ends. Counted is what was looked at, [`WALKED_MAX`] at most.
    async fn matching(
        &self,
        caller: &Caller,
        project: ProjectId,
        filters: &[Filter],
        before: Option<i64>,
        (offset, limit): (u32, u32),
    ) -> Result<(Vec<AlertedCertificate>, usize)> {
        caller.may_some(project, Action::ReadCertificate)?;
        let now = self.now();
        let until = before.map_or(Time::from_millis(i64::MAX), |before| now.plus_millis(before));
        let page = usize::try_from(offset).unwrap_or(usize::MAX)..;
        let (mut found, mut total, mut walked) = (Vec::new(), 0, 0);
        let (mut after, mut profiles) = (EndingAfter::time(now), KnownProfiles::new());
        loop {
            let rows = store::certificate::ending(&self.db, project, authorities(filters), after, until, PAGE).await;
            let rows = rows.map_err(failed)?;
            walked += rows.len();
            let is_last = rows.len() < PAGE as usize || walked >= WALKED_MAX;
            for row in rows {
                let record = self.read(row)?;
                after = place_of(&record);
                let fields = || certificate_fields(&record.certificate, record.status);
                let profile = self.profile_of(caller.organization, &record, &mut profiles).await?;
                let name = profile.as_ref().map(|(slug, _)| slug.as_str());
                if !are_met(filters, tell::facts(&record, name, &tell::names(&record)))
                    || !caller.can_with(project, Action::ReadCertificate, fields)
                {
                    continue;
                }
                if page.contains(&total) && found.len() < limit as usize {
                    let (profile_name, enrollment) = profile.unzip();
                    found.push(AlertedCertificate { record, profile_name, enrollment });
                }
                total += 1;
            }
            if is_last {
                return Ok((found, total));
            }
        }
    }

    pub(crate) async fn alert_for(&self, caller: &Caller, id: AlertId, action: Action) -> Result<(Alert, Looked)> {
        let found = store::alert::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let found = found.ok_or_else(|| Error::not_found(format!("there is no alert {id}")))?;
        caller.may(found.0.project, action, &ObjectFields::unknown())?;
        Ok(found)
    }

    async fn shown_alert(&self, alert: Alert) -> Result<ShownAlert> {
        let channels = store::alert::channels(&self.db, alert.id).await.map_err(failed)?;
        let last_run = store::alert::run::last(&self.db, alert.id).await.map_err(failed)?;
        Ok(ShownAlert { alert, channels, last_run })
    }

    /// The channels that are wanted, sealed.
    async fn ready_channels(
        &self,
        alert: &Alert,
        there: &[Channel],
        wanted: Vec<WantedChannel>,
    ) -> Result<Vec<ReadyChannel>> {
        let now = self.now();
        let mut ready: Vec<ReadyChannel> = Vec::with_capacity(wanted.len());
        for one in wanted {
            let before = match one.id {
                None => None,
                Some(id) => {
                    let missing = || Error::not_found(format!("the alert has no channel {id}"));
                    Some(there.iter().find(|channel| channel.id == id).ok_or_else(missing)?)
                }
            };
            if before.is_some_and(|before| ready.iter().any(|ready| ready.channel.id == before.id)) {
                return Err(Error::invalid("channels: one channel is named twice"));
            }
            let settings = self.wanted_settings(alert, before, one.settings).await?;
            self.must_be_sendable(&settings)?;
            let channel = Channel {
                id: before.map_or_else(|| self.new_id(), |before| before.id),
                kind: settings.kind(),
                is_enabled: one.is_enabled,
                shown: settings.shown(),
                created_at: before.map_or(now, |before| before.created_at),
                updated_at: now,
            };
            let document = serde_json::to_vec(&settings)
                .map_err(|error| Error::failed_because("the settings of a channel do not become a document", error))?;
            let data_key = self.data_key(alert.project).await?;
            let sealed = data_key.seal(place(&alert.project, &channel.id), &document).map_err(key_failed)?;
            let sealed = SealedCredentials { data_key_version: data_key.version(), sealed };
            ready.push(ReadyChannel { channel, sealed });
        }
        Ok(ready)
    }

    async fn wanted_settings(
        &self,
        alert: &Alert,
        before: Option<&Channel>,
        wanted: WantedSettings,
    ) -> Result<ChannelSettings> {
        let kind = match &wanted {
            WantedSettings::Whole(settings) | WantedSettings::Signed(settings) => settings.kind(),
            WantedSettings::AsBefore(kind) => *kind,
        };
        if before.is_some_and(|before| before.kind != kind) {
            return Err(Error::invalid("channels: a channel keeps its kind; leave its id out to make another"));
        }
        let kept = match (&wanted, before) {
            (WantedSettings::Whole(_), _) | (_, None) => None,
            (_, Some(before)) => Some(self.channel_settings(alert.project, before.id).await?),
        };
        match (wanted, kept) {
            (
                WantedSettings::Signed(ChannelSettings::Webhook { url, .. }),
                Some(ChannelSettings::Webhook { url: old, signing_secret }),
            ) => {
                // Another receiver does not get what was signed for this one.
                let signing_secret = if url == old { signing_secret } else { None };
                Ok(ChannelSettings::Webhook { url, signing_secret })
            }
            (WantedSettings::Whole(settings) | WantedSettings::Signed(settings), _) => Ok(settings),
            (WantedSettings::AsBefore(_), Some(kept)) => Ok(kept),
            (WantedSettings::AsBefore(kind), None) => {
                Err(Error::invalid(format!("channels: a new channel of {} needs its secret", kind.as_str())))
            }
        }
    }

    /// Refuses what can be seen to be wrong without sending anything.
    fn must_be_sendable(&self, settings: &ChannelSettings) -> Result<()> {
        match settings {
            ChannelSettings::Email { recipients } => {
                match recipients.iter().find(|one| !outbound::alert::mail::is_address(one)) {
                    Some(bad) => Err(Error::invalid(format!("channels: {bad} is no address for mail"))),
                    None => Ok(()),
                }
            }
            ChannelSettings::Webhook { url, .. } => self.must_be_outside(url),
            ChannelSettings::Slack { .. } | ChannelSettings::PagerDuty { .. } => Ok(()),
        }
    }

    /// Refuses an address of a network that connections may not go to. Names are held against the rules when they are used.
    pub(crate) fn must_be_outside(&self, url: &str) -> Result<()> {
        let rules = self.outward.http.rules();
        let parsed = x509::Uri::parse(url).map_err(|error| Error::invalid(format!("url: {error}")))?;
        match parsed.host() {
            Some(x509::uri::UriHost::Address(address)) if !rules.allow(*address) => Err(Error::invalid(format!(
                "url: {address} is not a public address: an operator may allow it with CHANCERY_EGRESS_ALLOW"
            ))),
            _ => Ok(()),
        }
    }

    /// Where a channel leads.
    pub(crate) async fn channel_settings(
        &self,
        project: ProjectId,
        channel: AlertChannelId,
    ) -> Result<ChannelSettings> {
        let sealed = store::alert::channel_settings(&self.db, channel).await.map_err(failed)?;
        let sealed = sealed.ok_or_else(|| Error::not_found("the channel is gone"))?;
        let opened = self.open(place(&project, &channel), &sealed.sealed).await?;
        serde_json::from_slice(opened.expose())
            .map_err(|error| Error::failed_because("the sealed settings of a channel do not read", error))
    }

    async fn commit_alert(
        &self,
        caller: &Caller,
        mut changes: Changes,
        alert: &Alert,
        event: &'static str,
    ) -> Result<()> {
        let now = self.now();
        if alert.is_enabled && alert.event.is_about_an_end() {
            let job = Job::RunAlerts { project: alert.project };
            changes = changes.statement(store::job::enqueue(self.new_id(), &job, now, now));
        }
        let detail = json!({ "name": alert.name, "event": alert.event.as_str(), "enabled": alert.is_enabled });
        let object = Object::new("alert", alert.id);
        let record = audit::record(caller, Some(alert.project), event, object, &detail, now);
        // Whoever issues or revokes remembers which alerts there are.
        match self.db.commit(changes.audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { constraint }) if constraint == store::alert::UNIQUE_NAME => {
                Err(Error::already_exists(format!("there is an alert {} already", alert.name)))
            }
            Err(StoreError::Stale(_)) => {
                Err(Error::wrong_state(format!("the alert {} was changed meanwhile", alert.name)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// The slug and the enrollment of profiles that were looked up.
pub(crate) type KnownProfiles = HashMap<domain::ProfileId, Option<(String, &'static str)>>;

/// Messages name certificates, whoever reads them: an alert tells what its maker may see all of.
fn may_be_told(caller: &Caller, alert: &Alert) -> Result<()> {
    let action = match alert.event {
        EventKind::CaExpiration => Action::ReadAuthority,
        EventKind::Expiration
        | EventKind::Renewal
        | EventKind::Issuance
        | EventKind::Revocation
        | EventKind::IssuanceFailure => Action::ReadCertificate,
    };
    match alert.is_enabled {
        true => caller.may(alert.project, action, &ObjectFields::unknown()),
        false => Ok(()),
    }
}

/// An alert about an end says how long before, and one about something that happened does not.
fn must_hold_together(alert: &Alert) -> Result<()> {
    match (alert.event.is_about_an_end(), &alert.before) {
        (true, None) => Err(Error::invalid("alertBefore is needed for an alert about an end, such as 30d")),
        (false, Some(_)) | (true, Some(_)) | (false, None) => Ok(()),
    }
}

fn anew(now: Time) -> Looked {
    Looked { until: now, at: now, whole_at: now }
}

pub(crate) fn authorities(filters: &[Filter]) -> Authorities {
    match includes_authorities(filters) {
        true => Authorities::Included,
        false => Authorities::LeftOut,
    }
}

pub(crate) fn place_of(record: &Record) -> EndingAfter {
    EndingAfter { not_after: Time::from_seconds(record.certificate.not_after()), pk: record.row.pk }
}

fn put(alert: &Alert, channels: &[ReadyChannel]) -> Changes {
    let numbered = (0..).zip(channels);
    numbered.fold(Changes::new(), |changes, (position, ready)| {
        changes.statement(store::alert::put_channel(alert.id, &ready.channel, position, &ready.sealed))
    })
}

/// Where the settings of a channel are sealed for.
fn place<'a>(project: &'a ProjectId, channel: &'a AlertChannelId) -> Place<'a> {
    Place { table: "alert_channels", row: channel.as_bytes(), project: project.as_bytes() }
}
