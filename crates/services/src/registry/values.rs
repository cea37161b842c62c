//! The last payloads of permanent topics: kept before a publisher with QoS 1 is answered, a moment later for QoS 0, and
//! given to new subscriptions.

use crate::context::{Context, failed};
use crate::registry::hub::{ReadOptions, Session};
use crate::registry::outbox::{Delivery, Message};
use crate::registry::publish::NotPublished;
use async_recursion::async_recursion as compiled_here;
use bytes::Bytes;
use domain::registry::topic::{DeliveryName, Place, REPLAYED_VALUES_MAX, Refused, Subscription};
use domain::registry::{DeviceId, RegistryId};
use domain::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::registry::topic_value;
use store::{Changes, Statement};

/// How many permanent topics a device, or a registry itself, can have values on.
const TOPICS_MAX: i64 = 1000;
/// How many topics are remembered as counted.
const COUNTED_MAX: usize = 200_000;
/// How many values wait to be written at most; then the publisher waits.
const PENDING_MAX: usize = 10_000;
/// How many values are written in one commit.
const BATCH: usize = 500;
/// How many octets of values one subscription with wildcards is given at most.
const REPLAYED_OCTETS_MAX: usize = 4 << 20;
/// How many names are looked through at a time, and how often.
const PAGE: u32 = 500;
const PAGES_MAX: u32 = 200;
/// How often a value is read anew because a newer one went by.
const ATTEMPTS_MAX: usize = 5;
/// How many subscriptions a session has at most.
pub const SUBSCRIPTIONS_MAX: usize = 1000;

/// Values that are not written yet, and topics that are known to count.
#[derive(Default)]
pub(crate) struct Values {
    pending: Mutex<HashMap<Key, Bytes>>,
    counted: Mutex<HashSet<Key>>,
    writing: tokio::sync::Mutex<()>,
}

type Key = (RegistryId, String);

/// Whether a stored value is given to a subscription that the session has already (MQTT 5 §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It is.
    Always,
    /// Only to one that the session does not have.
    WhenNew,
    /// It is not.
    Never,
}

/// Why a filter was not subscribed to.
pub enum NotSubscribed {
    /// It was refused.
    Refused(Refused),
    /// The session has as many as it can have.
    TooMany,
    /// A failure of ours.
    Failed(Error),
}

impl Values {
    fn pending(&self) -> MutexGuard<'_, HashMap<Key, Bytes>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Subscribes a session to a filter, and gives it the stored values that it begins with.
    #[compiled_here]
    pub async fn subscribe(
        &self,
        session: &Arc<Session>,
        filter: &str,
        options: ReadOptions,
        replay: Replay,
    ) -> Result<(), NotSubscribed> {
        let is_known = session.has_subscription(filter);
        if !is_known && session.subscription_count() >= SUBSCRIPTIONS_MAX {
            return Err(NotSubscribed::TooMany);
        }
        let read = session.principal.subscription(&session.space.aliases(), filter);
        let subscription = Arc::new(read.map_err(NotSubscribed::Refused)?);
        if let (Some(device), Some(registry)) = (subscription.named_device(), session.registry())
            && session.principal.device() != Some(device)
            && !self.has_device(registry, Some(&session.space), device).await.map_err(NotSubscribed::Failed)?
        {
            return Err(NotSubscribed::Refused(Refused::Forbidden));
        }
        let is_replayed = match replay {
            Replay::Always => true,
            Replay::WhenNew => !is_known,
            Replay::Never => false,
        };
        for attempt in 1..=ATTEMPTS_MAX {
            let before = session.space.permanent_messages.load(Ordering::Acquire);
            let values = match is_replayed {
                true => self.values_for(session, &subscription, options).await.map_err(NotSubscribed::Failed)?,
                false => Vec::new(),
            };
            // Where messages never cease, the newest value is given all the same.
            let unless = (is_replayed && attempt < ATTEMPTS_MAX && !values.is_empty()).then_some(before);
            if session.space.subscribe(session, &subscription, options, values, unless) {
                break;
            }
        }
        self.note_subscription(session).await;
        Ok(())
    }

    /// Takes a subscription away; whether there was one.
    #[compiled_here]
    pub async fn unsubscribe(&self, session: &Arc<Session>, filter: &str) -> bool {
        self.note_subscription(session).await;
        session.space.unsubscribe(session, filter)
    }

    async fn values_for(
        &self,
        session: &Session,
        subscription: &Subscription,
        options: ReadOptions,
    ) -> Result<Vec<Delivery>> {
        let Some(registry) = session.registry() else { return Ok(Vec::new()) };
        let topics = match subscription.replayed_topic() {
            Some(topic) => vec![topic.to_owned()],
            None if subscription.replays_matches() => self.topics_with_values(session, registry, subscription).await?,
            None => Vec::new(),
        };
        let (mut values, mut octets) = (Vec::new(), 0);
        for topic in topics {
            let Some(payload) = self.value(registry, &topic).await? else { continue };
            octets += payload.len();
            if octets > REPLAYED_OCTETS_MAX {
                break;
            }
            let name = match subscription.name_of(&topic, &session.space.aliases()) {
                Some(DeliveryName::Filter) if *subscription.filter != *topic => Some(subscription.filter.clone()),
                Some(DeliveryName::Other(name)) => Some(name.into()),
                Some(DeliveryName::Filter | DeliveryName::Canonical) | None => None,
            };
            let message = Message { topic: topic.into(), payload, properties: Bytes::new(), origin: 0 };
            values.push(Delivery {
                message: Arc::new(message),
                name,
                is_acknowledged: options.is_acknowledged,
                is_retained: true,
            });
        }
        Ok(values)
    }

    /// The topics with a value that a subscription with wildcards matches and that the principal may read.
    async fn topics_with_values(
        &self,
        session: &Session,
        registry: &RegistryId,
        subscription: &Subscription,
    ) -> Result<Vec<String>> {
        let aliases = session.space.aliases();
        let is_wanted =
            |topic: &String| subscription.name_of(topic, &aliases).is_some() && session.principal.may_read(topic);
        self.write_pending_values().await?;
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let page = match session.principal.device() {
                Some(device) => topic_value::topics_for(&self.db, registry, device, &after, PAGE).await,
                None => topic_value::topics(&self.db, registry, &after, PAGE).await,
            };
            let page = page.map_err(failed)?;
            let is_last = page.len() < PAGE as usize;
            after = page.last().cloned().unwrap_or_default();
            found.extend(page.into_iter().filter(is_wanted));
            if is_last || found.len() >= REPLAYED_VALUES_MAX as usize {
                break;
            }
        }
        found.truncate(REPLAYED_VALUES_MAX as usize);
        Ok(found)
    }

    async fn value(&self, registry: &RegistryId, topic: &str) -> Result<Option<Bytes>> {
        let pending = self.state.registry.values.pending().get(&(registry.clone(), topic.to_owned())).cloned();
        match pending {
            // An empty payload clears the value.
            Some(payload) => Ok(Some(payload).filter(|payload| !payload.is_empty())),
            None => Ok(topic_value::one(&self.db, registry, topic).await.map_err(failed)?.map(Bytes::from)),
        }
    }

    /// Keeps a value: committed when this returns, or a moment later for a publisher who wants no answer.
    pub(super) async fn keep_value(
        &self,
        registry: &RegistryId,
        topic: &str,
        payload: &Bytes,
        is_acknowledged: bool,
    ) -> Result<(), NotPublished> {
        let key = (registry.clone(), topic.to_owned());
        self.must_have_room(&key, payload).await?;
        let values = &self.state.registry.values;
        if is_acknowledged {
            // An older value that waits, or is being written now, must not come after this one.
            let is_pending = values.pending().contains_key(&key);
            let _turn = if is_pending { Some(values.writing.lock().await) } else { None };
            values.pending().remove(&key);
            let changes = Changes::new().statement(statement(&key, payload, self.now()));
            return self.db.commit(changes).await.map_err(|error| NotPublished::Failed(failed(error)));
        }
        let is_full = {
            let mut pending = values.pending();
            pending.insert(key, payload.clone());
            pending.len() >= PENDING_MAX
        };
        if is_full {
            self.write_pending_values().await?;
        }
        Ok(())
    }

    async fn must_have_room(&self, key: &Key, payload: &Bytes) -> Result<(), NotPublished> {
        if payload.is_empty() || self.state.registry.values.counted().contains(key) {
            return Ok(());
        }
        let device = device_of(&key.1);
        let is_there = topic_value::one(&self.db, &key.0, &key.1).await.map_err(failed)?.is_some();
        let count = topic_value::count(&self.db, &key.0, device.as_ref()).await.map_err(failed)?;
        if !is_there && count >= TOPICS_MAX {
            return Err(NotPublished::TooManyTopics);
        }
        let mut counted = self.state.registry.values.counted();
        if counted.len() >= COUNTED_MAX {
            counted.clear();
        }
        counted.insert(key.clone());
        Ok(())
    }

    /// Writes the values that wait.
    pub(super) async fn write_pending_values(&self) -> Result<()> {
        let values = &self.state.registry.values;
        let _turn = values.writing.lock().await;
        let waiting: Vec<(Key, Bytes)> =
            values.pending().iter().map(|(key, payload)| (key.clone(), payload.clone())).collect();
        for batch in waiting.chunks(BATCH) {
            let now = self.now();
            let write = |batch: &[(Key, Bytes)]| {
                let statements = batch.iter().map(|(key, payload)| statement(key, payload, now));
                self.db.commit(statements.fold(Changes::new(), Changes::statement))
            };
            if write(batch).await.is_err() {
                // One of them may be about a device that is gone: each for itself then, and that one not again.
                for one in batch.chunks(1) {
                    match write(one).await {
                        Ok(()) => {}
                        Err(error) if error.is_passing() => return Err(failed(error)),
                        Err(error) => tracing::warn!(%error, topic = one[0].0.1, "a value cannot be kept"),
                    }
                }
            }
            let mut pending = values.pending();
            for (key, payload) in batch {
                // A newer one that came meanwhile waits for the next time.
                if pending.get(key).is_some_and(|now| is_same(now, payload)) {
                    pending.remove(key);
                }
            }
        }
        Ok(())
    }
}

/// Whether these are the same octets in memory, not merely equal ones.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

fn statement((registry, topic): &Key, payload: &Bytes, now: domain::Time) -> Statement {
    match payload.is_empty() {
        true => topic_value::clear(registry, topic),
        false => topic_value::put(registry, topic, device_of(topic).as_ref(), payload, now),
    }
}

fn device_of(topic: &str) -> Option<DeviceId> {
    Place::read(topic).and_then(Place::device).map(DeviceId::from)
}
