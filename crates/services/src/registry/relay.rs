//! Messages between the nodes of one PostgreSQL database: each node writes what its clients publish into a table, and reads
//! what the others wrote.
//!
//! Ids are read often and payloads once. It is meant for some hundreds of messages a second: a fleet that sends more has
//! its devices and its registry on one node. A message that waits here when its node dies is lost, as it would be in the
//! queue of a session; values of permanent topics are not.

use crate::context::{Context, failed};
use crate::registry::outbox::Message;
use bytes::Bytes;
use domain::registry::topic::Place;
use domain::{Result, Time};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::Changes;
use store::registry::topic_message::{self, TopicMessage};
use tokio::sync::watch;
use uuid::Uuid;

/// How often messages of other nodes are looked for, and those of this one written.
const TICK: Duration = Duration::from_millis(50);
/// How far back is looked: clocks of nodes differ, and commits overtake each other.
const LOOK_BACK_MILLIS: i64 = 5_000;
/// How long messages are kept.
const KEPT_MILLIS: i64 = 60_000;
/// How often old ones are removed.
const PRUNE: Duration = Duration::from_secs(20);
/// How many are written in one commit, and read at once.
const BATCH: usize = 200;
const PAGE: u32 = 500;
/// How much waits to be written at most.
const WAITING_MAX: usize = 20_000;
const WAITING_OCTETS_MAX: usize = 64 << 20;

/// What waits to be handed to other nodes.
pub(crate) struct Relay {
    node: String,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    messages: Vec<TopicMessage>,
    octets: usize,
    lost: u64,
    /// When the last message was handed over, and how many there were: messages of a node keep their order.
    last: Option<Time>,
    count: u32,
}

impl Relay {
    pub(crate) fn new(node: String) -> Self {
        Self { node, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Hands a message to the other nodes, when there can be any.
    pub(super) fn relay(&self, space: &str, message: &Message, is_acknowledged: bool) {
        if !self.db.is_shared() {
            return;
        }
        let relay = &self.state.registry.relay;
        let mut waiting = relay.waiting();
        if waiting.messages.len() >= WAITING_MAX || waiting.octets + message.payload.len() > WAITING_OCTETS_MAX {
            waiting.lost += 1;
            return;
        }
        let at = waiting.last.map_or(self.now(), |last| last.max(self.now()));
        waiting.last = Some(at);
        waiting.count = waiting.count.wrapping_add(1);
        let row = TopicMessage {
            id: ordered_id(at, waiting.count, self.random.octets()),
            node: relay.node.clone(),
            space: space.to_owned(),
            topic: message.topic.to_string(),
            payload: message.payload.to_vec(),
            qos: u8::from(is_acknowledged),
            at,
        };
        waiting.octets += row.payload.len();
        waiting.messages.push(row);
    }

    /// Carries messages between this node and the others until `stop` says so.
    pub(super) async fn relay_messages(&self, mut stop: watch::Receiver<bool>) {
        if !self.db.is_shared() {
            return;
        }
        let mut seen = HashSet::new();
        let mut pruned = Instant::now();
        while tokio::time::timeout(TICK, stop.wait_for(|stop| *stop)).await.is_err() {
            let carried = match self.write_relayed().await {
                Ok(()) => self.read_relayed(&mut seen).await,
                Err(error) => Err(error),
            };
            if let Err(error) = carried {
                tracing::warn!(%error, "messages do not cross to other nodes");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if pruned.elapsed() >= PRUNE {
                pruned = Instant::now();
                let prune = topic_message::prune(self.now().plus_millis(-KEPT_MILLIS));
                if let Err(error) = self.commit(Changes::new().statement(prune)).await {
                    tracing::warn!(%error, "old messages are not removed");
                }
            }
        }
    }

    async fn write_relayed(&self) -> Result<()> {
        let Waiting { messages, lost, .. } = std::mem::take(&mut *self.state.registry.relay.waiting());
        if lost > 0 {
            tracing::warn!(lost, "more messages were published than can cross to other nodes");
        }
        for batch in messages.chunks(BATCH) {
            let statements = batch.iter().map(topic_message::insert);
            self.commit(statements.fold(Changes::new(), Changes::statement)).await?;
        }
        Ok(())
    }

    async fn read_relayed(&self, seen: &mut HashSet<Uuid>) -> Result<()> {
        let node = &self.state.registry.relay.node;
        let since = self.now().plus_millis(-LOOK_BACK_MILLIS);
        let listed = topic_message::ids_since(&self.db, node, since).await.map_err(failed)?;
        let first_new = listed.iter().find(|(id, _)| !seen.contains(id)).map(|(_, at)| *at);
        if let Some(mut from) = first_new {
            let mut after = Uuid::nil();
            loop {
                let page = topic_message::after(&self.db, node, from, after, PAGE).await.map_err(failed)?;
                let is_last = page.len() < PAGE as usize;
                for message in page {
                    (from, after) = (message.at, message.id);
                    if seen.insert(message.id) {
                        self.deliver_relayed(message);
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        // What is not listed any more does not come again.
        let listed: HashSet<Uuid> = listed.into_iter().map(|(id, _)| id).collect();
        seen.retain(|id| listed.contains(id) || first_new.is_some());
        Ok(())
    }

    fn deliver_relayed(&self, row: TopicMessage) {
        let Some(space) = self.state.registry.hub.space(&row.space) else { return };
        if Place::read(&row.topic).is_some_and(Place::is_permanent) {
            space.permanent_messages.fetch_add(1, Ordering::AcqRel);
        }
        let message =
            Message { topic: row.topic.into(), payload: Bytes::from(row.payload), properties: Bytes::new(), origin: 0 };
        space.deliver(&Arc::new(message), row.qos > 0, &self.state.registry.hub.counts);
    }
}

/// An id that grows with the count within a millisecond: a UUID of version 7 that holds both, and randomness behind them.
fn ordered_id(at: Time, count: u32, random: [u8; 3]) -> Uuid {
    let mut octets = [0; 10];
    // Before these are the bits of the version and the variant.
    octets[3..7].copy_from_slice(&count.to_be_bytes());
    octets[7..].copy_from_slice(&random);
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(at.millis()).unwrap_or(0), &octets).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_millisecond_are_in_the_order_of_their_count() {
        let at = Time::from_millis(1_700_000_000_000);
        let ids: Vec<Uuid> = (0..1000).map(|count| ordered_id(at, count, [(count % 251) as u8; 3])).collect();
        assert!(ids.is_sorted());
        assert!(ids[999] < ordered_id(at.plus_millis(1), 0, [0; 3]));
    }
}
