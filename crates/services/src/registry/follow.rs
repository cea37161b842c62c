//! What a node does for the sessions that it has while they are open: ends of access that others wrote down, aliases that
//! changed, certificates that expire, values and monitoring that wait to be written.

use crate::context::{Context, failed};
use crate::registry::relay::stopped;
use async_recursion::async_recursion as compiled_here;
use domain::registry::topic::{AliasTable, Principal};
use domain::registry::{AccessEnd, BrokerId, RegistryId};
use domain::{Result, Time};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::Changes;
use store::registry::{access, access_end};
use tokio::sync::watch;
use uuid::Uuid;

/// How often values of QoS 0 are written.
const TICK: Duration = Duration::from_millis(250);
/// How often the rest is looked at, if nobody tells before: access is to end within five seconds on every node.
const LOOK: Duration = Duration::from_secs(1);
/// How often monitoring is written; it may be 30 s old.
const WRITE_MONITORING: Duration = Duration::from_secs(10);
/// How often old rows are removed.
const PRUNE: Duration = Duration::from_secs(600);
/// How far back ends of access are read: clocks of nodes differ.
const LOOK_BACK_MILLIS: i64 = 2 * 60 * 1000;
/// How long ends of access are kept.
const ENDS_KEPT_MILLIS: i64 = 3600 * 1000;

/// What was read of the rows already.
struct Seen {
    ends: HashSet<Uuid>,
}

/// Ends of access that this node wrote down, and acted on at once: a session that was opened since then stands on something
/// else, for example on the registry's being let in again.
#[derive(Default)]
pub(crate) struct OwnEnds(Mutex<HashSet<Uuid>>);

impl OwnEnds {
    /// How many are remembered: those of changes that failed are never read back.
    const REMEMBERED_MAX: usize = 10_000;

    pub(super) fn note(&self, id: Uuid) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= Self::REMEMBERED_MAX {
            ids.clear();
        }
        ids.insert(id);
    }

    fn take(&self, id: Uuid) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

impl Context {
    /// Looks after the sessions of this node, and carries letters to and from others, until `stop` says so.
    #[compiled_here]
    pub async fn follow_registry(&self, stop: watch::Receiver<bool>) {
        futures_util::future::join(self.follow_sessions(stop.clone()), self.relay_letters(stop)).await;
    }

    async fn follow_sessions(&self, mut stop: watch::Receiver<bool>) {
        // Rows from before the start are about sessions that are not there.
        let mut seen = match access_end::since(&self.db, self.since()).await {
            Ok(rows) => Seen { ends: rows.into_iter().map(|(id, _)| id).collect() },
            Err(_) => Seen { ends: HashSet::new() },
        };
        let (mut looked, mut monitored, mut pruned) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                () = self.state.registry.relay.access_ends.notified() => {
                    self.warn("ends of access", self.read_access_ends(&mut seen).await);
                }
                () = tokio::time::sleep(TICK) => {}
            }
            self.warn("values", self.write_pending_values().await);
            if is_time(&mut looked, LOOK) {
                self.state.registry.hub.end_expired(self.now());
                self.warn("ends of access", self.read_access_ends(&mut seen).await);
                self.warn("aliases", self.refresh_spaces().await);
                self.tell_what_is_watched();
            }
            if is_time(&mut monitored, WRITE_MONITORING) {
                self.warn("monitoring", self.write_monitoring().await);
            }
            if is_time(&mut pruned, PRUNE) {
                let before = self.now().plus_millis(-ENDS_KEPT_MILLIS);
                let prune = Changes::new().statement(access_end::prune(before));
                self.warn("old ends of access", self.commit(prune).await);
            }
        }
        self.warn("values", self.write_pending_values().await);
        self.warn("monitoring", self.write_monitoring().await);
    }

    /// Reads the aliases of a registry anew, when its sessions are here. To be called after they were changed.
    #[compiled_here]
    pub async fn topic_aliases_changed(&self, registry: &RegistryId) -> Result<()> {
        match self.state.registry.hub.space(registry.as_str()) {
            None => Ok(()),
            Some(space) => self.refresh(&space, &Principal::Registry(registry.clone())).await,
        }
    }

    fn since(&self) -> Time {
        self.now().plus_millis(-LOOK_BACK_MILLIS)
    }

    fn warn(&self, what: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "the device registry cannot follow: {what}");
        }
    }

    async fn read_access_ends(&self, seen: &mut Seen) -> Result<()> {
        let rows = access_end::since(&self.db, self.since()).await.map_err(failed)?;
        let ids = rows.iter().map(|(id, _)| *id).collect();
        let own = &self.state.registry.own_ends;
        let news = rows.into_iter().filter(|(id, _)| !seen.ends.contains(id) && !own.take(*id)).map(|(_, end)| end);
        let news: Vec<AccessEnd> = news.collect();
        seen.ends = ids;
        if !news.is_empty() {
            self.end_access(&news);
        }
        Ok(())
    }

    async fn refresh_spaces(&self) -> Result<()> {
        let versions: HashMap<String, i64> = access::versions(&self.db).await.map_err(failed)?.into_iter().collect();
        for space in self.state.registry.hub.spaces() {
            let known = space.version.load(Ordering::Relaxed);
            if versions.get(&space.id).is_some_and(|version| *version != known) {
                let principal = match space.is_of_broker() {
                    true => Principal::Broker(BrokerId(space.id.clone())),
                    false => Principal::Registry(RegistryId(space.id.clone())),
                };
                self.refresh(&space, &principal).await?;
            }
        }
        Ok(())
    }

    async fn refresh(&self, space: &Arc<super::hub::Space>, principal: &Principal) -> Result<()> {
        let Some(facts) = access::space(&self.db, principal).await.map_err(failed)? else { return Ok(()) };
        let aliases = match principal {
            Principal::Registry(registry) => self.aliases_of(registry).await?,
            Principal::Device { .. } | Principal::Broker(_) => AliasTable::default(),
        };
        space.refresh(facts.version, aliases, facts.log_options);
        Ok(())
    }
}

fn is_time(last: &mut Instant, every: Duration) -> bool {
    let is_due = last.elapsed() >= every;
    if is_due {
        *last = Instant::now();
    }
    is_due
}
