//! The hub: every session of this process, the subscriptions that they have, and the way of a message to them.
//!
//! A space is what sees each other: a registry with its devices, or the clients of a broker. A message is looked up by where
//! its topic belongs, so that ten thousand devices that listen to their own commands cost it nothing. Locks are held for
//! a look-up and never across an await.

use crate::registry::ordered_id::{ordered_id, time_of};
use crate::registry::outbox::{Delivery, Ending, Message, Outbox};
use domain::Time;
use domain::registry::topic::{AliasTable, DeliveryName, Place, Principal, Spot, Subscription};
use domain::registry::{AccessEnd, DeviceId, LogOptions, Owner, PasswordId, RegistryId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long an end of access is held against sessions that were being opened when it came.
const ENDS_KEPT: Duration = Duration::from_secs(60);
/// How many devices a space remembers as its own.
const KNOWN_DEVICES_MAX: usize = 100_000;

/// Every session of this process.
#[derive(Default)]
pub struct Hub {
    spaces: RwLock<HashMap<String, Arc<Space>>>,
    last_session: AtomicU64,
    /// Not before the time of any session that was opened here or is known to have been opened elsewhere.
    last_opened: AtomicI64,
    /// Ends of access that came lately, and when.
    ends: Mutex<VecDeque<(Instant, AccessEnd)>>,
    /// What is counted.
    pub counts: Counts,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions that are open.
    pub sessions: AtomicUsize,
    /// Messages that clients and callers published.
    pub messages_in: AtomicU64,
    /// Messages that were put into the queues of sessions.
    pub messages_out: AtomicU64,
    /// Messages that were dropped because a session read too slowly.
    pub dropped: AtomicU64,
    /// Connections that were refused.
    pub refused: AtomicU64,
}

/// The topics of a registry or broker, and who reads them.
pub struct Space {
    /// The registry's or broker's id.
    pub id: String,
    inner: RwLock<Readers>,
    /// The version of the registry that aliases and log options were read at.
    pub(super) version: AtomicI64,
    /// How many subscriptions are about monitoring: mostly none, and then nobody has to be told.
    monitoring_readers: Arc<AtomicUsize>,
    /// Until when somebody reads monitoring on another node, in milliseconds.
    pub(super) watched_until: AtomicI64,
    /// When the other nodes were told last that somebody does here, in milliseconds.
    pub(super) watching_told: AtomicI64,
    /// Counts messages on permanent topics, so that a stored value is not given to a reader after a newer message.
    pub(super) permanent_messages: AtomicU64,
}

#[derive(Default)]
struct Readers {
    /// The count of the space.
    monitoring: Arc<AtomicUsize>,
    sessions: HashMap<u64, Arc<Session>>,
    by_client: HashMap<(Owner, String), u64>,
    by_spot: HashMap<Spot, Vec<Reader>>,
    aliases: Arc<AliasTable>,
    log_options: LogOptions,
    known_devices: HashSet<DeviceId>,
}

#[derive(Clone)]
struct Reader {
    /// Beside the session, so that one of many readers is found without looking at each of them.
    session_id: u64,
    session: Arc<Session>,
    subscription: Arc<Subscription>,
    options: ReadOptions,
}

/// What a client asks of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether messages are to be acknowledged (QoS 1).
    pub is_acknowledged: bool,
    /// Whether the session does not want what it published itself.
    pub is_without_own: bool,
}

/// The session of a client.
pub struct Session {
    /// Its number in this process.
    pub id: u64,
    /// How it stands to others of its client id, on every node: the greatest stays.
    pub(super) rank: Uuid,
    /// Who it is.
    pub principal: Principal,
    /// The client's own name for it.
    pub client_id: String,
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it was opened with.
    pub credential: Credential,
    /// What waits for it.
    pub outbox: Outbox,
    /// Where its topics are.
    pub space: Arc<Space>,
    subscriptions: Mutex<Vec<(Arc<Subscription>, ReadOptions)>>,
    pub(super) contact: super::monitoring::Contact,
}

/// What a session was opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A certificate.
    Certificate {
        /// Its SHA-256.
        sha256: [u8; 32],
        /// When the session ends with it; never where expired ones are let in.
        until: Option<Time>,
    },
    /// A password.
    Password(PasswordId),
}

/// A session that is to be opened.
pub(super) struct Opening {
    pub principal: Principal,
    pub client_id: String,
    pub address: SocketAddr,
    pub credential: Credential,
    /// When it was begun to look at the credential.
    pub began: Instant,
    /// The time, and what tells sessions of one moment apart.
    pub now: Time,
    pub random: [u8; 3],
}

impl Hub {
    /// The space of this id, if it has sessions.
    pub(super) fn space(&self, id: &str) -> Option<Arc<Space>> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All spaces that have sessions.
    pub(super) fn spaces(&self) -> Vec<Arc<Space>> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Opens a session, and ends the one that has its client id. Nothing when its access ended meanwhile.
    ///
    /// `found` is the space as its facts were read; one that is there already stays.
    pub(super) fn open(&self, opening: Opening, found: Arc<Space>) -> Option<Arc<Session>> {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.entry(found.id.clone()).or_insert(found).clone();
        let id = self.last_session.fetch_add(1, Ordering::Relaxed) + 1;
        // Under the lock of the spaces, like the look at what is said of other nodes: a session that is opened after that
        // was heard stands above it, whatever the clocks of the nodes say.
        let at = opening.now.millis().max(self.last_opened.load(Ordering::Relaxed));
        self.last_opened.store(at, Ordering::Relaxed);
        let count = u32::try_from(id & u64::from(u32::MAX)).unwrap_or_default();
        let rank = ordered_id(Time::from_millis(at), count, opening.random);
        let client = (opening.principal.owner(), opening.client_id.clone());
        let session = Arc::new(Session {
            id,
            rank,
            principal: opening.principal,
            client_id: opening.client_id,
            address: opening.address,
            credential: opening.credential,
            outbox: Outbox::default(),
            space: space.clone(),
            subscriptions: Mutex::default(),
            contact: super::monitoring::Contact::default(),
        });
        let taken_over = {
            let mut inner = space.write();
            let before = inner.by_client.insert(client, id);
            inner.sessions.insert(id, session.clone());
            before.and_then(|before| inner.sessions.get(&before).cloned())
        };
        drop(spaces);
        self.counts.sessions.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = taken_over {
            before.outbox.end(Ending::TakenOver);
        }
        // An end that came while the credential was looked at did not find this session.
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = ends.iter().any(|(at, end)| *at >= opening.began && session.stands_on(end));
        drop(ends);
        if is_over {
            self.close(&session);
            return None;
        }
        Some(session)
    }

    /// Ends the session of a client when another node opened one that stands above it.
    pub(super) fn opened_elsewhere(&self, space: &str, owner: Owner, client_id: String, rank: Uuid) {
        let older = {
            let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
            self.last_opened.fetch_max(time_of(rank).millis() + 1, Ordering::Relaxed);
            let Some(space) = spaces.get(space) else { return };
            let inner = space.read();
            let session = inner.by_client.get(&(owner, client_id)).and_then(|id| inner.sessions.get(id));
            session.filter(|session| session.rank < rank).cloned()
        };
        if let Some(older) = older {
            older.outbox.end(Ending::TakenOver);
        }
    }

    /// Takes a session away. The last one of a space takes that with it.
    pub(super) fn close(&self, session: &Arc<Session>) {
        session.outbox.end(Ending::AccessEnded);
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        let space = &session.space;
        let mut inner = space.write();
        if inner.sessions.remove(&session.id).is_none() {
            return;
        }
        let client = (session.principal.owner(), session.client_id.clone());
        if inner.by_client.get(&client) == Some(&session.id) {
            inner.by_client.remove(&client);
        }
        inner.forget_subscriptions(session);
        let is_last = inner.sessions.is_empty();
        drop(inner);
        if is_last && spaces.get(&space.id).is_some_and(|known| Arc::ptr_eq(known, space)) {
            spaces.remove(&space.id);
        }
        drop(spaces);
        self.counts.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Every session, or those of one space.
    fn sessions(&self, space: Option<&str>) -> Vec<Arc<Session>> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        let chosen = spaces.values().filter(|found| space.is_none_or(|id| found.id == id));
        chosen.flat_map(|space| space.read().sessions.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Calls each session.
    pub(super) fn for_each_session(&self, mut call: impl FnMut(&Arc<Session>)) {
        self.sessions(None).iter().for_each(&mut call);
    }

    /// Ends the sessions that stand on these.
    pub(super) fn end_access(&self, ends: &[AccessEnd]) {
        let now = Instant::now();
        {
            let mut kept = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            while kept.front().is_some_and(|(at, _)| now.duration_since(*at) > ENDS_KEPT) {
                kept.pop_front();
            }
            kept.extend(ends.iter().map(|end| (now, end.clone())));
        }
        let wanted: HashSet<&AccessEnd> = ends.iter().collect();
        for space in self.spaces() {
            space.forget_devices(ends);
        }
        self.for_each_session(|session| {
            if session.foundations().iter().any(|end| wanted.contains(end)) {
                session.outbox.end(Ending::AccessEnded);
            }
        });
    }

    /// Ends the sessions whose certificate has expired.
    pub(super) fn end_expired(&self, now: Time) {
        self.for_each_session(|session| match session.credential {
            Credential::Certificate { until: Some(until), .. } if until < now => session.outbox.end(Ending::Expired),
            Credential::Certificate { .. } | Credential::Password(_) => {}
        });
    }

    /// Ends every session because the server stops.
    pub fn stop(&self) {
        self.for_each_session(|session| session.outbox.end(Ending::ServerStops));
    }
}

impl Space {
    /// A space without sessions yet.
    pub(super) fn new(id: &str, version: i64, aliases: AliasTable, log_options: LogOptions) -> Self {
        let monitoring = Arc::<AtomicUsize>::default();
        let inner =
            Readers { aliases: Arc::new(aliases), log_options, monitoring: monitoring.clone(), ..Readers::default() };
        Self {
            id: id.to_owned(),
            inner: RwLock::new(inner),
            version: AtomicI64::new(version),
            permanent_messages: AtomicU64::new(0),
            monitoring_readers: monitoring,
            watched_until: AtomicI64::new(0),
            watching_told: AtomicI64::new(0),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Readers> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Readers> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The aliases as they are now.
    pub(super) fn aliases(&self) -> Arc<AliasTable> {
        self.read().aliases.clone()
    }

    /// What is logged of its connections.
    pub(super) fn log_options(&self) -> LogOptions {
        self.read().log_options.clone()
    }

    pub(super) fn knows_device(&self, device: &DeviceId) -> bool {
        self.read().known_devices.contains(device)
    }

    pub(super) fn note_device(&self, device: &DeviceId) {
        let mut inner = self.write();
        if inner.known_devices.len() >= KNOWN_DEVICES_MAX {
            inner.known_devices.clear();
        }
        inner.known_devices.insert(device.clone());
    }

    fn forget_devices(&self, ends: &[AccessEnd]) {
        let mut inner = self.write();
        for end in ends {
            if let AccessEnd::Owner(Owner::Device(device)) = end {
                inner.known_devices.remove(device);
            }
        }
    }

    /// Takes aliases and log options that were read anew. Subscriptions by alias then mean what they mean now.
    pub(super) fn refresh(&self, version: i64, aliases: AliasTable, log_options: LogOptions) {
        let mut inner = self.write();
        self.version.store(version, Ordering::Relaxed);
        inner.log_options = log_options;
        if *inner.aliases == aliases {
            return;
        }
        let aliases = Arc::new(aliases);
        inner.aliases = aliases.clone();
        let sessions: Vec<Arc<Session>> = inner.sessions.values().cloned().collect();
        for session in sessions {
            let mut subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
            for (subscription, options) in &mut *subscriptions {
                if !subscription.depends_on_aliases() {
                    continue;
                }
                let anew = subscription.read_anew(&session.principal, &aliases);
                if anew != **subscription {
                    inner.remove_reader(&session, &subscription.filter, &subscription.spots);
                    *subscription = Arc::new(anew);
                    inner.add_reader(&session, subscription, *options);
                }
            }
        }
    }

    /// Whether it is the space of a broker.
    pub(super) fn is_of_broker(&self) -> bool {
        self.read().sessions.values().any(|session| matches!(session.principal, Principal::Broker(_)))
    }

    /// Whether anybody reads the monitoring of a device on this node.
    pub(super) fn has_monitoring_readers(&self, device: &DeviceId) -> bool {
        if self.monitoring_readers.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let inner = self.read();
        inner.by_spot.contains_key(&Spot::AnyMonitoring)
            || inner.by_spot.contains_key(&Spot::Monitoring(device.clone()))
    }

    /// Whether anybody reads the monitoring of devices on this node.
    pub(super) fn is_watched_here(&self) -> bool {
        self.monitoring_readers.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody reads the monitoring of devices on another node.
    pub(super) fn is_watched_elsewhere(&self, now: Time) -> bool {
        self.watched_until.load(Ordering::Relaxed) > now.millis()
    }

    /// The first reader of a topic for which the publisher should wait.
    pub(super) fn pressed_reader(&self, topic: &str, origin: u64) -> Option<Arc<Session>> {
        let mut pressed = None;
        self.for_each_reader(topic, |reader, _| {
            if pressed.is_none() && reader.session.id != origin && reader.session.outbox.is_pressed() {
                pressed = Some(reader.session.clone());
            }
        });
        pressed
    }

    /// Gives a message to everybody who reads its topic.
    pub(super) fn deliver(&self, message: &Arc<Message>, is_acknowledged: bool, counts: &Counts) {
        let mut delivered = 0;
        self.for_each_reader(&message.topic, |reader, name| {
            if reader.options.is_without_own && message.origin == reader.session.id {
                return;
            }
            delivered += 1;
            let delivery = Delivery {
                message: message.clone(),
                name,
                is_acknowledged: is_acknowledged && reader.options.is_acknowledged,
                is_retained: false,
            };
            reader.session.put(delivery, counts);
        });
        counts.messages_out.fetch_add(delivered, Ordering::Relaxed);
    }

    fn for_each_reader(&self, topic: &str, mut call: impl FnMut(&Reader, Option<Arc<str>>)) {
        let Some(place) = Place::read(topic) else { return };
        let inner = self.read();
        let mut visit = |spot: &Spot| {
            for reader in inner.by_spot.get(spot).map_or(&[][..], Vec::as_slice) {
                match reader.subscription.name_of(topic, &inner.aliases) {
                    None => {}
                    Some(DeliveryName::Canonical) => call(reader, None),
                    Some(DeliveryName::Filter) if *reader.subscription.filter == *topic => call(reader, None),
                    Some(DeliveryName::Filter) => call(reader, Some(reader.subscription.filter.clone())),
                    Some(DeliveryName::Other(name)) => call(reader, Some(name.into())),
                }
            }
        };
        match place {
            Place::Device { device, channel } => {
                visit(&Spot::AnyDevice(channel));
                visit(&Spot::Device(device.into(), channel));
            }
            Place::Registry { channel, .. } => visit(&Spot::Registry(channel)),
            Place::Monitoring { device } => {
                visit(&Spot::AnyMonitoring);
                visit(&Spot::Monitoring(device.into()));
            }
            Place::Plain => visit(&Spot::Plain),
        }
    }

    /// Adds a subscription, with the stored values that it begins with. False when a message on a permanent topic went
    /// by since `permanent_messages` was read: then the values may be old.
    pub(super) fn subscribe(
        &self,
        session: &Arc<Session>,
        subscription: &Arc<Subscription>,
        options: ReadOptions,
        values: Vec<Delivery>,
        permanent_messages: Option<u64>,
    ) -> bool {
        let mut inner = self.write();
        let seen = self.permanent_messages.load(Ordering::Acquire);
        if permanent_messages.is_some_and(|before| before != seen) {
            return false;
        }
        let mut subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = subscriptions.iter().position(|(known, _)| known.filter == subscription.filter) {
            let (before, _) = subscriptions.swap_remove(at);
            inner.remove_reader(session, &before.filter, &before.spots);
        }
        subscriptions.push((subscription.clone(), options));
        drop(subscriptions);
        // A session that was closed meanwhile is not found again.
        if inner.sessions.contains_key(&session.id) {
            inner.add_reader(session, subscription, options);
        }
        drop(inner);
        for value in values {
            let _ = session.outbox.put(value);
        }
        true
    }

    /// Takes a subscription away; whether there was one.
    pub(super) fn unsubscribe(&self, session: &Arc<Session>, filter: &str) -> bool {
        let mut inner = self.write();
        let mut subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = subscriptions.iter().position(|(known, _)| *known.filter == *filter) else { return false };
        let (subscription, _) = subscriptions.swap_remove(at);
        inner.remove_reader(session, &subscription.filter, &subscription.spots);
        true
    }
}

impl Readers {
    fn add_reader(&mut self, session: &Arc<Session>, subscription: &Arc<Subscription>, options: ReadOptions) {
        for spot in &subscription.spots {
            self.monitoring.fetch_add(usize::from(is_monitoring(spot)), Ordering::Relaxed);
            let (session, subscription) = (session.clone(), subscription.clone());
            let reader = Reader { session_id: session.id, session, subscription, options };
            self.by_spot.entry(spot.clone()).or_default().push(reader);
        }
    }

    fn remove_reader(&mut self, session: &Session, filter: &str, spots: &[Spot]) {
        for spot in spots {
            let Some(readers) = self.by_spot.get_mut(spot) else { continue };
            let is_it = |reader: &Reader| reader.session_id == session.id && *reader.subscription.filter == *filter;
            if let Some(at) = readers.iter().position(is_it) {
                readers.swap_remove(at);
                self.monitoring.fetch_sub(usize::from(is_monitoring(spot)), Ordering::Relaxed);
            }
            if readers.is_empty() {
                self.by_spot.remove(spot);
            }
        }
    }

    fn forget_subscriptions(&mut self, session: &Session) {
        let mut subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        for (subscription, _) in subscriptions.drain(..) {
            self.remove_reader(session, &subscription.filter, &subscription.spots);
        }
    }
}

fn is_monitoring(spot: &Spot) -> bool {
    matches!(spot, Spot::Monitoring(_) | Spot::AnyMonitoring)
}

impl Session {
    /// When it was opened; later than by the clock when another node's is ahead.
    pub(super) fn opened_at(&self) -> Time {
        time_of(self.rank)
    }

    /// How many subscriptions it has.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it has a subscription to exactly this filter.
    pub(super) fn has_subscription(&self, filter: &str) -> bool {
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        subscriptions.iter().any(|(known, _)| *known.filter == *filter)
    }

    fn put(&self, delivery: Delivery, counts: &Counts) {
        let Some(dropped) = self.outbox.put(delivery) else { return };
        counts.dropped.fetch_add(1, Ordering::Relaxed);
        // One line for the first, and one for each thousand: a log is not to be filled by a slow client.
        if dropped % 1000 == 1 {
            tracing::warn!(
                owner = %self.principal.owner(),
                client_id = self.client_id,
                dropped,
                "the oldest messages are dropped, the client reads too slowly"
            );
        }
    }

    /// Everything whose end is the end of the session.
    fn foundations(&self) -> Vec<AccessEnd> {
        let credential = match &self.credential {
            Credential::Certificate { sha256, .. } => AccessEnd::Certificate(*sha256),
            Credential::Password(id) => AccessEnd::Password(id.clone()),
        };
        let mut all = vec![credential, AccessEnd::Owner(self.principal.owner())];
        if let Principal::Device { registry, .. } = &self.principal {
            all.push(AccessEnd::Owner(Owner::Registry(registry.clone())));
        }
        all
    }

    fn stands_on(&self, end: &AccessEnd) -> bool {
        self.foundations().contains(end)
    }

    /// The registry that it is in, when it is in one.
    pub fn registry(&self) -> Option<&RegistryId> {
        match &self.principal {
            Principal::Device { registry, .. } | Principal::Registry(registry) => Some(registry),
            Principal::Broker(_) => None,
        }
    }
}
