//! What every use case works with: the database, the keys, a clock, randomness, and the configured public addresses.
//!
//! The caches are here too. Each belongs to one epoch of the configuration and is dropped whole when that has moved on,
//! so a cached rule is never older than the last committed change of this process, nor than a second of another node's.

use crate::admission::{Admission, Limits};
use crate::authenticate::CallerCache;
use crate::issuer::IssuerCache;
use domain::{CrlId, Error, Result, Time};
use keys::{KeyPool, Keyring, PrivateKey};
use outbound::alert::Mailer;
use outbound::connection::gcp::ServerIdentity;
use outbound::destination::local_directory::LocalPlaces;
use outbound::egress::EgressRules;
use outbound::http::Http;
use outbound::list_target::ListTarget;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::{Changes, Db, StoreError};
use uuid::Uuid;

/// What every use case works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub db: Db,
    /// The open master and data keys.
    pub keyring: Arc<Keyring>,
    /// Where slow private key operations run.
    pub key_pool: Arc<KeyPool>,
    /// The time.
    pub clock: Clock,
    /// The source of ids, serial numbers and secrets.
    pub random: Random,
    /// The addresses that this server is known by.
    pub addresses: Arc<Addresses>,
    /// How it reaches other systems.
    pub outward: Arc<Outward>,
    /// What the operator chose for the device registry.
    pub registry_settings: Arc<crate::registry::Settings>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) state: Arc<State>,
}

/// The configured addresses; nothing of a request ever goes into a URL.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The base of the API's own URLs, without a slash at the end.
    pub public_url: String,
    /// The base of the URLs that certificates carry, without a slash at the end.
    pub publication_url: String,
}

/// How other systems are reached, and which of them the operator named.
pub struct Outward {
    /// The client that keeps to the egress rules.
    pub http: Http,
    /// Where every new revocation list is put, too.
    pub list_targets: Vec<ListTarget>,
    /// What the operator allows on the server's own host.
    pub places: LocalPlaces,
    /// Who this server is at Google.
    pub google: ServerIdentity,
    /// Who takes its mail.
    pub mailer: Option<Mailer>,
}

impl Outward {
    /// For what reaches no other system: commands that look at a database.
    pub fn nowhere() -> Result<Self> {
        let http = Http::new(EgressRules::public_and(Vec::new()));
        let http = http.map_err(|error| Error::failed_because("the HTTP client", error))?;
        let (places, google) = (LocalPlaces::default(), ServerIdentity::default());
        Ok(Self { http, list_targets: Vec::new(), places, google, mailer: None })
    }
}

/// What is remembered between calls.
pub(crate) struct State {
    pub(crate) callers: CallerCache,
    pub(crate) issuers: IssuerCache,
    pub(crate) alerts: crate::alerts::AlertWatch,
    pub(crate) signers: RwLock<HashMap<Uuid, Arc<PrivateKey>>>,
    pub(crate) token_key: RwLock<Option<Arc<crate::token::TokenKey>>>,
    pub(crate) running: crate::idempotency::Running,
    pub(crate) publishing: Turns,
    pub(crate) shelf: crate::list_shelf::ListShelf,
    pub(crate) bookmarks: crate::bookmarks::Bookmarks,
    pub(crate) ocsp: crate::ocsp::OcspState,
    /// Certificates that this node delivered and did not see being served in time.
    pub(crate) unproven: AtomicU64,
    /// Certificates that this node issued from profiles, templates, authorities and subscribers.
    pub(crate) issued: AtomicU64,
    /// Certificates that this node revoked.
    pub(crate) revoked: AtomicU64,
    /// When this node looks again for what is past, in milliseconds.
    pub(crate) prune_from: AtomicI64,
    pub(crate) registry: crate::registry::RegistryState,
}

/// Whose turn it is to sign each revocation list on this node: who comes while one is signed waits, and takes that one if it
/// was begun after they came.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<CrlId, Turn>>);

/// When the signing of the list that was published last began.
pub(crate) type Turn = Arc<tokio::sync::Mutex<Option<Instant>>>;

impl Turns {
    pub(crate) fn turn(&self, list: CrlId) -> Turn {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(list).or_default().clone()
    }
}

impl Context {
    /// How many certificates this node delivered and did not see being served in time, since it was started.
    pub fn unproven_certificates(&self) -> u64 {
        self.state.unproven.load(Ordering::Relaxed)
    }

    /// How many certificates this node issued since it was started, those of authorities left out.
    pub fn issued_certificates(&self) -> u64 {
        self.state.issued.load(Ordering::Relaxed)
    }

    /// How many certificates this node revoked since it was started.
    pub fn revoked_certificates(&self) -> u64 {
        self.state.revoked.load(Ordering::Relaxed)
    }

    /// A context over an open database.
    pub fn new(
        db: Db,
        keyring: Keyring,
        key_pool: KeyPool,
        clock: Clock,
        random: Random,
        addresses: Addresses,
        outward: Outward,
    ) -> Self {
        let state = State {
            callers: CallerCache::default(),
            issuers: IssuerCache::default(),
            alerts: crate::alerts::AlertWatch::default(),
            signers: RwLock::default(),
            token_key: RwLock::default(),
            running: crate::idempotency::Running::default(),
            publishing: Turns::default(),
            shelf: crate::list_shelf::ListShelf::default(),
            bookmarks: crate::bookmarks::Bookmarks::default(),
            ocsp: crate::ocsp::OcspState::default(),
            unproven: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            prune_from: AtomicI64::new(0),
            registry: crate::registry::RegistryState::new(&random),
        };
        Self {
            db,
            keyring: Arc::new(keyring),
            key_pool: Arc::new(key_pool),
            clock,
            random,
            addresses: Arc::new(addresses),
            outward: Arc::new(outward),
            registry_settings: Arc::default(),
            admission: Arc::new(Admission::new(Limits::default())),
            state: Arc::new(state),
        }
    }

    /// The same context with other settings of the device registry.
    pub fn with_registry(self, settings: crate::registry::Settings) -> Self {
        Self { registry_settings: Arc::new(settings), ..self }
    }

    /// The same context, where another number is let in.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { admission: Arc::new(Admission::new(limits)), ..self }
    }

    /// The time, for anything that does not sign.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A new id that grows with time.
    pub fn new_id<T: From<Uuid>>(&self) -> T {
        self.random.id(self.now()).into()
    }

    /// Commits changes that are decided on nothing that could have moved.
    pub(crate) async fn commit(&self, changes: Changes) -> Result<()> {
        self.db.commit(changes).await.map_err(failed)
    }
}

/// The time, as an argument of everything.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    source: Source,
    /// The highest time that is known to be committed, in milliseconds.
    highest: AtomicI64,
    /// How far the database's clock is from ours, in milliseconds.
    database_offset: AtomicI64,
}

enum Source {
    System {
        started: Instant,
        started_at: i64,
        /// How long the machine had been on then, in milliseconds.
        started_up: Option<i64>,
        /// How far a test has put it wrong, in milliseconds.
        wrong_by: AtomicI64,
    },
    Manual(AtomicI64),
}

/// How far behind the highest committed time the clock may be.
const BEHIND_MAX_MILLIS: i64 = 5 * 60 * 1000;
/// How far from the clock of a shared database ours must be to be put right by it: less is the way there and back.
const OFF_MIN_MILLIS: i64 = 2 * 1000;
/// How far it may be. One of the two is badly wrong then, and nobody knows which.
const OFF_MAX_MILLIS: i64 = 5 * 60 * 1000;
/// How far ahead of the database's clock, or of its own steady progress, the clock may be.
const AHEAD_MAX_MILLIS: i64 = 60 * 60 * 1000;

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        let (started, started_at, started_up) = (Instant::now(), system_millis(), uptime_millis());
        Self::from_source(Source::System { started, started_at, started_up, wrong_by: AtomicI64::new(0) })
    }

    /// A clock that stands where it was put, for tests.
    pub fn manual(at: Time) -> Self {
        Self::from_source(Source::Manual(AtomicI64::new(at.millis())))
    }

    fn from_source(source: Source) -> Self {
        Self(Arc::new(Inner { source, highest: AtomicI64::new(i64::MIN), database_offset: AtomicI64::new(0) }))
    }

    /// Lets the machine's clock be wrong by so much from now on, for tests: it jumps, and goes on from there.
    pub fn put_wrong(&self, by_seconds: i64) {
        match &self.0.source {
            Source::System { wrong_by, .. } => wrong_by.store(by_seconds.saturating_mul(1000), Ordering::Relaxed),
            Source::Manual(_) => {}
        }
    }

    /// Puts a manual clock; the machine's clock cannot be put.
    pub fn set(&self, at: Time) {
        match &self.0.source {
            Source::System { .. } => {}
            Source::Manual(millis) => millis.store(at.millis(), Ordering::Relaxed),
        }
    }

    /// Whether it stands where it was put.
    pub fn is_manual(&self) -> bool {
        matches!(self.0.source, Source::Manual(_))
    }

    /// The time. Nodes of a shared database go by its clock where theirs is off by some seconds or minutes: what one of
    /// them writes down, such as how long it holds a job, the others take as it was meant.
    pub fn now(&self) -> Time {
        let offset = self.0.database_offset.load(Ordering::Relaxed);
        let is_off = (OFF_MIN_MILLIS..=OFF_MAX_MILLIS).contains(&offset.saturating_abs());
        match &self.0.source {
            Source::System { .. } if is_off => Time::from_millis(self.believed_millis().saturating_add(offset)),
            Source::System { .. } | Source::Manual(_) => Time::from_millis(self.believed_millis()),
        }
    }

    /// What this machine's clock says, unless it jumped ahead: then its steady progress. What is written down meanwhile
    /// would stop issuance after the clock was set right, until that time has come.
    fn believed_millis(&self) -> i64 {
        let own = self.own_millis();
        let ahead = self.ahead_of_steady(own);
        if ahead > AHEAD_MAX_MILLIS { own.saturating_sub(ahead) } else { own }
    }

    /// How far this time of the machine's clock is ahead of the steady progress since the start.
    fn ahead_of_steady(&self, own: i64) -> i64 {
        let Source::System { started, started_at, started_up, .. } = &self.0.source else { return 0 };
        let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let ahead = own.saturating_sub(started_at.saturating_add(elapsed));
        if ahead <= AHEAD_MAX_MILLIS {
            return ahead;
        }
        // A suspended machine's steady clock stands still; the time since it was switched on does not.
        match (started_up, uptime_millis()) {
            (Some(before), Some(up)) => own.saturating_sub(started_at.saturating_add(up - before)),
            (None, _) | (_, None) => ahead,
        }
    }

    /// What this machine's clock says.
    fn own_millis(&self) -> i64 {
        match &self.0.source {
            Source::System { wrong_by, .. } => system_millis().saturating_add(wrong_by.load(Ordering::Relaxed)),
            Source::Manual(millis) => millis.load(Ordering::Relaxed),
        }
    }

    /// Notes a time that was committed, or read back at the start.
    pub fn note_committed(&self, at: Time) {
        self.0.highest.fetch_max(at.millis(), Ordering::Relaxed);
    }

    /// Notes what the database's own clock says now.
    pub fn note_database(&self, at: Time) {
        let offset = at.millis().saturating_sub(self.own_millis());
        let before = self.0.database_offset.swap(offset, Ordering::Relaxed);
        if offset.saturating_abs() >= OFF_MIN_MILLIS && before.saturating_abs() < OFF_MIN_MILLIS {
            tracing::warn!(seconds = offset / 1000, "the database's clock is ahead of this server's by so much");
        }
    }

    /// The time to sign with. A clock that jumped stops issuance: more than 5 minutes behind what was committed, or more
    /// than an hour ahead of the database's clock or of its own steady progress.
    pub fn now_to_sign(&self) -> Result<Time> {
        let now = self.now();
        let highest = self.0.highest.load(Ordering::Relaxed);
        if now.millis() < highest.saturating_sub(BEHIND_MAX_MILLIS) {
            return Err(stopped("behind the newest record in the database", highest - now.millis()));
        }
        let ahead_of_database = -self.0.database_offset.load(Ordering::Relaxed);
        if ahead_of_database > AHEAD_MAX_MILLIS {
            return Err(stopped("ahead of the database's clock", ahead_of_database));
        }
        let ahead = self.ahead_of_steady(self.own_millis());
        if ahead > AHEAD_MAX_MILLIS {
            return Err(stopped("ahead of its own steady progress", ahead));
        }
        Ok(now)
    }
}

fn stopped(how: &str, millis: i64) -> Error {
    Error::unavailable(
        format!("issuance is stopped: this server's clock is {} s {how}; set the clock right", millis / 1000),
        60,
    )
}

/// How long the machine has been on, suspended or not; nothing where Linux does not say so.
fn uptime_millis() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = text.split(' ').next()?.split_once('.')?;
    Some(seconds.parse::<i64>().ok()? * 1000 + hundredths.parse::<i64>().ok()? * 10)
}

fn system_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The source of randomness.
#[derive(Clone)]
pub struct Random(Arc<RandomSource>);

enum RandomSource {
    System,
    Constant(u8),
}

impl Random {
    /// The operating system's.
    pub fn system() -> Self {
        Self(Arc::new(RandomSource::System))
    }

    /// Always the same octet, to see what breaks.
    pub fn constant(octet: u8) -> Self {
        Self(Arc::new(RandomSource::Constant(octet)))
    }

    /// Fills with random octets.
    pub fn fill(&self, octets: &mut [u8]) {
        match &*self.0 {
            RandomSource::System => {
                aws_lc_rs::rand::fill(octets).expect("the operating system gives randomness once it is up");
            }
            RandomSource::Constant(octet) => octets.fill(*octet),
        }
    }

    /// Random octets.
    pub fn octets<const N: usize>(&self) -> [u8; N] {
        let mut octets = [0; N];
        self.fill(&mut octets);
        octets
    }

    /// A UUID of version 7: it grows with time, 74 of its bits are random.
    pub fn id(&self, now: Time) -> Uuid {
        let millis = u64::try_from(now.millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.octets()).into_uuid()
    }

    /// A secret of `octets` random octets as lower-case hex.
    pub fn hex(&self, octets: usize) -> String {
        let mut random = vec![0; octets];
        self.fill(&mut random);
        hex(&random)
    }
}

/// Lower-case hex.
pub(crate) fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    octets
        .iter()
        .flat_map(|octet| [DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]])
        .map(char::from)
        .collect()
}

/// What a use case says when the database does not do its part.
pub(crate) fn failed(error: StoreError) -> Error {
    match error {
        StoreError::Stale(what) => {
            Error::conflict(format!("somebody else was faster: {what} no longer holds; try again"))
        }
        error @ StoreError::Unavailable(_) if error.is_full() => {
            tracing::error!(%error, "the disk of the database is full");
            Error::unavailable("the disk of the database is full, so nothing can be changed; ask again later", 5)
        }
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the database does not answer");
            Error::unavailable("the database does not answer at the moment; ask again later", 5)
        }
        StoreError::ReadOnly(cause) => {
            tracing::warn!(%cause, "the database takes no changes");
            Error::unavailable(
                "the database is read-only at the moment, so nothing can be changed; ask again later",
                10,
            )
        }
        StoreError::Unknown(cause) => {
            tracing::warn!(%cause, "the outcome of a commit is unknown");
            Error::outcome_unknown(
                "the database did not say whether this was done: look, or ask again with the same Idempotency-Key if \
                 the request had one",
                5,
            )
        }
        StoreError::Conflict { .. }
        | StoreError::Corrupt(_)
        | StoreError::SchemaTooNew { .. }
        | StoreError::Empty
        | StoreError::Refused(_)
        | StoreError::Engine(_) => Error::failed_because("the database", error),
    }
}

/// What a use case says when a key cannot be used.
pub(crate) fn key_failed(error: keys::KeyError) -> Error {
    match error {
        keys::KeyError::Busy => Error::too_many("too many RSA keys or signatures are waited for; nothing was done", 2),
        keys::KeyError::Unsupported => Error::bad_key("this key cannot make that kind of signature"),
        keys::KeyError::Malformed | keys::KeyError::WrongKey | keys::KeyError::Failed(_) => {
            Error::failed_because("a private key", error)
        }
    }
}
