//! The runner of background work: it takes what is due from the job table and does it, one kind a function.
//!
//! Several nodes may run it over one database: a job is taken by a lease that runs out, never by a transaction that is
//! held open. Jobs are idempotent, so one that is done twice after a crash does no harm.

pub mod ends;
mod export;

use async_recursion::async_recursion as compiled_here;
use domain::job::{Job, JobRecord, Lane};
use domain::{Error, Result};
use ends::Ends;
use export::ListFolder;
use services::Context;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Changes, StoreError};
use tokio::sync::{Semaphore, watch};

/// How often the table is looked at when nothing is due: a revocation is to be in its list within two seconds.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a job is held when the node that holds it is gone: while it is worked on, that is prolonged.
const fn lease_of(job: &Job) -> Duration {
    match job.lane() {
        // A revocation waits for it, and signing a list twice does no harm.
        Lane::Lists => Duration::from_millis(1500),
        Lane::Renewals => Duration::from_secs(120),
        Lane::Outward | Lane::Proofs | Lane::Alerts => Duration::from_secs(60),
    }
}
/// How long a job may take.
const fn time_limit_of(job: &Job) -> Duration {
    match job.lane() {
        Lane::Lists => Duration::from_secs(20),
        Lane::Renewals => Duration::from_secs(120),
        Lane::Outward | Lane::Proofs => Duration::from_secs(60 * 60),
        Lane::Alerts => Duration::from_secs(10 * 60),
    }
}
/// How many renewals are done at once: their keys are made by few threads.
const RENEWALS_AT_ONCE: usize = 4;
/// How many jobs that talk to other systems are done at once.
const OUTWARD_AT_ONCE: usize = 32;
/// How many syncs are looked after at once until their certificates are served. Such a look costs next to nothing.
const PROOFS_AT_ONCE: usize = 256;
/// How many alerts look or send at once.
const ALERTS_AT_ONCE: usize = 16;
/// How long it is waited at the end for what is under way.
const FAREWELL: Duration = Duration::from_secs(30);
/// How often what must not run out is looked for.
const LOOK: Duration = Duration::from_secs(60);
/// How many jobs are taken at once.
const BATCH: u32 = 20;

/// What the runner cannot know by itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this node.
    pub node: String,
    /// The names that the server's own certificate is for; none when it does not have one from here.
    pub server_names: Option<Vec<String>>,
    /// How many certificates may name one revocation list before another is opened.
    pub certificates_per_list: u32,
    /// A folder that every new revocation list is put into, too.
    pub list_folder: Option<PathBuf>,
    /// Places for what is done beside the lists.
    pub places: Arc<Places>,
}

/// How many jobs of each lane may be done at once.
#[derive(Debug)]
pub struct Places {
    renewals: Arc<Semaphore>,
    outward: Arc<Semaphore>,
    proofs: Arc<Semaphore>,
    alerts: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            renewals: places(RENEWALS_AT_ONCE),
            outward: places(OUTWARD_AT_ONCE),
            proofs: places(PROOFS_AT_ONCE),
            alerts: places(ALERTS_AT_ONCE),
        }
    }
}

impl Places {
    /// Waits until what is under way has ended, but not for ever: another node, or the next start, takes it up. A proof is not
    /// waited for: it only looks.
    async fn all_free(&self) {
        let ended = async {
            let _ = self.renewals.acquire_many(RENEWALS_AT_ONCE as u32).await;
            let _ = self.outward.acquire_many(OUTWARD_AT_ONCE as u32).await;
            let _ = self.alerts.acquire_many(ALERTS_AT_ONCE as u32).await;
        };
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("jobs are still under way; they are taken up again later");
        }
    }
}

/// Works until `stop` says so. What is under way is finished.
///
/// While the clock is not to be believed nothing is done: a clock that jumped ahead would renew everything at once, and
/// plan the next attempts for a time that does not come.
#[compiled_here]
pub async fn run(services: Context, settings: Settings, mut stop: watch::Receiver<bool>) {
    let mut looked_at: Option<Instant> = None;
    let mut is_held_up = false;
    // A node that was killed would otherwise keep its jobs from being done until their leases end.
    let give_back = Changes::new().statement(store::job::give_back(&settings.node));
    if let Err(error) = services.db.commit(give_back).await {
        tracing::warn!(%error, "jobs that this node held before cannot be given back");
    }
    let mut ends = Ends::default();
    let mut list_folder = settings.list_folder.clone().map(ListFolder::new);
    while !*stop.borrow() {
        let is_time_to_look = looked_at.is_none_or(|at| at.elapsed() >= LOOK);
        if is_time_to_look {
            looked_at = Some(Instant::now());
            if let Err(error) = services.compare_clocks().await {
                tracing::warn!(%error, "the clock of the database cannot be read");
            }
        }
        let worked = match services.clock.now_to_sign() {
            Ok(_) => {
                is_held_up = false;
                round(&services, &settings, &mut ends, is_time_to_look).await
            }
            Err(error) => {
                if !std::mem::replace(&mut is_held_up, true) {
                    tracing::error!(%error, "background work is held up");
                }
                0
            }
        };
        if let Some(folder) = &mut list_folder
            && let Err(error) = folder.update(&services).await
        {
            tracing::warn!(%error, "revocation lists are not in their folder");
        }
        if worked == 0 {
            let pause = tokio::time::timeout(PAUSE, stop.changed()).await;
            if matches!(pause, Ok(Err(_))) {
                break;
            }
        }
    }
    settings.places.all_free().await;
}

/// Says how much was done. What cannot be done now is tried again in the next round.
async fn round(services: &Context, settings: &Settings, ends: &mut Ends, is_time_to_look: bool) -> usize {
    let looked = match is_time_to_look {
        true => ends.look(services, LOOK).await.and(look_ahead(services, settings).await),
        false => ends.pass(services, LOOK).await,
    };
    if let Err(error) = looked {
        tracing::warn!(%error, "looking for work that is due soon failed");
    }
    match work(services, settings).await {
        Ok(worked) => worked,
        Err(error) => {
            tracing::warn!(%error, "the job table cannot be read");
            0
        }
    }
}

/// Plans what must happen before something runs out, and forgets what is past. What fails keeps nothing else from being
/// looked at; the first failure is told.
#[compiled_here]
pub async fn look_ahead(services: &Context, settings: &Settings) -> Result<()> {
    let outcomes = [
        services.begin_lists().await,
        services.begin_responders().await,
        services.open_lists(settings.certificates_per_list).await,
        services.begin_list_deliveries().await,
        services.begin_renewals().await,
        services.begin_authority_renewals().await,
        services.begin_syncs_of_expired().await,
        services.begin_daily_syncs().await,
        services.begin_alerts().await,
        services.prune_alerts().await,
        match &settings.server_names {
            Some(_) => services.plan_server_certificate().await,
            None => Ok(()),
        },
        services.prune_idempotency_keys().await,
        services.prune_registry().await,
        services.prune_by_policy().await,
    ];
    outcomes.into_iter().collect()
}

/// Does what is due, and says how much that was. Lists are signed before this answers; the rest goes on beside them.
#[compiled_here]
pub async fn work(services: &Context, settings: &Settings) -> Result<usize> {
    let mut worked = 0;
    for record in store::job::due(&services.db, Lane::Lists, services.now(), BATCH).await.map_err(unread)? {
        if take(services, settings, &record).await? {
            worked += 1;
            let outcome = perform_prolonged(services, settings, &record).await;
            settle(services, settings, &record, outcome).await?;
        }
    }
    let Places { renewals, outward, proofs, alerts } = &*settings.places;
    let lanes = [(Lane::Renewals, renewals), (Lane::Outward, outward), (Lane::Proofs, proofs), (Lane::Alerts, alerts)];
    for (lane, places) in lanes {
        for record in store::job::due(&services.db, lane, services.now(), BATCH).await.map_err(unread)? {
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            if take(services, settings, &record).await? {
                worked += 1;
                let (services, settings) = (services.clone(), settings.clone());
                tokio::spawn(async move {
                    let outcome = perform_prolonged(&services, &settings, &record).await;
                    if let Err(error) = settle(&services, &settings, &record, outcome).await {
                        tracing::warn!(job.id = %record.id, %error, "what became of a job was not written down");
                    }
                    drop(place);
                });
            }
        }
    }
    Ok(worked)
}

/// A job is held for as long as this node works on it, and not much longer than the node lives.
async fn perform_prolonged(services: &Context, settings: &Settings, record: &JobRecord) -> Result<()> {
    let work = perform_apart(services, settings, record);
    tokio::pin!(work);
    let lease = lease_of(&record.job);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(lease / 3) => {
                let until = services.now().plus_millis(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
                let prolonged = Changes::new().statement(store::job::prolong(record.id, &settings.node, until));
                if let Err(error) = services.db.commit(prolonged).await {
                    tracing::warn!(job.id = %record.id, %error, "the lease of a job was not prolonged");
                }
            }
        }
    }
}

async fn take(services: &Context, settings: &Settings, record: &JobRecord) -> Result<bool> {
    let until = services.now().plus_millis(i64::try_from(lease_of(&record.job).as_millis()).unwrap_or(i64::MAX));
    let lease = Changes::new().statement(store::job::lease(record, &settings.node, until));
    match services.db.commit(lease).await {
        Ok(()) => Ok(true),
        Err(StoreError::Stale(_)) => Ok(false),
        Err(error) => Err(unread(error)),
    }
}

/// A job that panics or hangs fails like any other, and takes nothing else with it.
async fn perform_apart(services: &Context, settings: &Settings, record: &JobRecord) -> Result<()> {
    let time_limit = time_limit_of(&record.job);
    let (services, settings, record) = (services.clone(), settings.clone(), record.clone());
    let mut task = tokio::spawn(async move { perform(&services, &settings, &record).await });
    match tokio::time::timeout(time_limit, &mut task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(Error::failed_because("the job broke off", error)),
        Err(_) => {
            task.abort();
            Err(Error::failed("the job took longer than it may"))
        }
    }
}

async fn perform(services: &Context, settings: &Settings, record: &JobRecord) -> Result<()> {
    match &record.job {
        Job::PublishCrl { crl } => services.publish_list(*crl).await,
        Job::RenewResponder { key } => services.renew_responder(*key).await,
        Job::DeliverCrl { crl } => services.deliver_list(*crl).await,
        Job::RunSync { sync } => services.run_sync(*sync, record.id).await,
        Job::ClearSync { sync } => services.remove_all_of_sync(*sync, record.id).await,
        Job::RecheckSync { sync } => services.recheck_sync(*sync).await,
        Job::ProveSync { sync } => services.prove_sync(*sync).await,
        Job::RenewCertificate { organization, certificate } => {
            services.renew_by_plan(*organization, *certificate).await
        }
        Job::RenewAuthority { organization, authority } => {
            services.renew_authority_by_plan(*organization, *authority).await
        }
        Job::RunAlerts { project } => services.run_alerts(*project).await,
        Job::DeliverAlert { delivery } => services.deliver_alert(*delivery).await,
        Job::RenewServerCertificate => match &settings.server_names {
            None => Ok(()),
            Some(names) => services.renew_server_certificate(names).await.map(|_| ()),
        },
    }
}

async fn settle(services: &Context, settings: &Settings, record: &JobRecord, outcome: Result<()>) -> Result<()> {
    let now = services.now();
    let changes = match outcome {
        Ok(()) => store::job::done(record, &settings.node),
        Err(error) => {
            let retry_at = record.job.retry_at(record.attempts + 1, now);
            tracing::warn!(job.kind = record.job.kind().as_str(), job.id = %record.id, parked = retry_at.is_none(), %error, "a job failed");
            Changes::new().statement(store::job::failed(record, &settings.node, retry_at, &error.to_string(), now))
        }
    };
    services.db.commit(changes).await.map_err(unread)
}

fn unread(error: StoreError) -> Error {
    match error {
        error if error.is_passing() => Error::unavailable(error.to_string(), 5),
        other => Error::failed_because("the job table", other),
    }
}
