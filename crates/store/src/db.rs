//! The seam between the statements and the two engines: open, read rows, commit changes.
//!
//! This is the only file that tells SQLite and PostgreSQL apart. It holds no statement of a noun.

pub(crate) mod transfer;

use crate::announcement::Ear;
use crate::audit_chain::AuditKey;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::{Changes, Row, StoreError, Value};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Which engine, and where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Engine {
    /// A database file. Its folder is made when it is not there. One server at a time.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A database that is gone when it is closed, for tests.
    SqliteInMemory,
    /// PostgreSQL 15 or newer, shared by any number of nodes.
    Postgres {
        /// `postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=FILE`.
        url: String,
    },
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite { path } => write!(formatter, "Sqlite({})", path.display()),
            Self::SqliteInMemory => formatter.write_str("SqliteInMemory"),
            // The URL may hold a password.
            Self::Postgres { .. } => formatter.write_str("Postgres"),
        }
    }
}

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which engine, and where it is.
    pub engine: Engine,
    /// The name of this node in the audit chain; each running server has its own.
    pub node: String,
    /// How many connections only read.
    pub readers: usize,
    /// How long one statement may take on PostgreSQL. Migrations may take longer.
    pub statement_time: Duration,
}

/// How long one statement may take when nobody says otherwise.
const STATEMENT_TIME: Duration = Duration::from_secs(30);

impl Settings {
    /// A database file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self {
            engine: Engine::Sqlite { path: path.into() },
            node: "main".into(),
            readers: 2,
            statement_time: STATEMENT_TIME,
        }
    }

    /// A database that is gone when it is closed.
    pub fn sqlite_in_memory() -> Self {
        Self { engine: Engine::SqliteInMemory, node: "main".into(), readers: 0, statement_time: STATEMENT_TIME }
    }

    /// A PostgreSQL database.
    pub fn postgres(url: impl Into<String>) -> Self {
        let engine = Engine::Postgres { url: url.into() };
        Self { engine, node: "main".into(), readers: 4, statement_time: STATEMENT_TIME }
    }

    /// The same with another node name.
    pub fn with_node(self, node: impl Into<String>) -> Self {
        Self { node: node.into(), ..self }
    }
}

/// An open database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    handle: Handle,
    patience: Patience,
    shared: Arc<Shared>,
    /// Nothing where nobody else can change the configuration.
    _poller: Option<Arc<Poller>>,
}

/// Whether whoever asks is in a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Patient,
}

/// Keeps other nodes from starting for the first time. Ends with the process, too.
pub struct FirstStartHold {
    /// A connection that holds the lock for as long as it lives.
    _link: Option<crate::postgres_link::Link>,
}

#[derive(Clone)]
enum Handle {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

/// The task that looks at the configuration for as long as the database is open.
struct Poller(JoinHandle<()>);

impl Drop for Poller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the seam and the committer of an engine both see.
#[derive(Default)]
pub(crate) struct Shared {
    /// Grows with each committed change of the configuration.
    pub(crate) epoch: AtomicU64,
    /// What the audit records are chained with.
    pub(crate) audit_key: RwLock<Option<AuditKey>>,
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn audit_key(&self) -> Option<AuditKey> {
        self.audit_key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts what became of a batch and tells each caller.
    pub(crate) fn answer(&self, batch: Vec<Pending>, outcomes: Vec<Result<(), StoreError>>) {
        for (Pending { changes, answer, .. }, outcome) in batch.into_iter().zip(outcomes) {
            match &outcome {
                Ok(()) => {
                    let statements = changes.statements.len() as u64;
                    self.counters.commits.fetch_add(1, Ordering::Relaxed);
                    self.counters.statements.fetch_add(statements, Ordering::Relaxed);
                }
                Err(_) => {
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
            // The caller may have gone away; the changes are kept all the same.
            drop(answer.send((outcome, changes)));
        }
    }

    /// Takes a number that was read from the database; an older one than is known changes nothing.
    pub(crate) fn saw_epoch(&self, epoch: i64) {
        self.epoch.fetch_max(u64::try_from(epoch).unwrap_or(0), Ordering::AcqRel);
    }
}

/// Counts since the database was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) statements: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) waiting: AtomicUsize,
}

/// Counts since the database was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// [`Changes`] that were committed.
    pub commits: u64,
    /// Durable transactions that held them.
    pub batches: u64,
    /// Statements of callers that were committed.
    pub statements: u64,
    /// [`Changes`] that failed, for whatever reason.
    pub failures: u64,
    /// [`Changes`] that wait at this moment, or are being committed.
    pub waiting: usize,
}

/// What a database server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAllowance {
    /// Connections at once, all clients together.
    pub connections: i64,
    /// Whether it follows another server and takes no writes.
    pub is_standby: bool,
}

/// A [`Changes`] that waits for the committer, and where its caller waits.
pub(crate) struct Pending {
    pub(crate) changes: Changes,
    pub(crate) answer: oneshot::Sender<Answer>,
    pub(crate) _waiting: Waiting,
}

/// What became of changes, and the changes: their memory goes back to the thread that it came from.
pub(crate) type Answer = (Result<(), StoreError>, Changes);

/// How many changes may wait for the committer or be with it.
const COMMITS_WAITING_MAX: usize = 16_384;

/// One that waits, until it was answered.
pub(crate) struct Waiting(Arc<Shared>);

impl Waiting {
    /// Nothing when too many wait already.
    pub(crate) fn begin(shared: &Arc<Shared>) -> Option<Self> {
        let before = shared.counters.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(shared.clone());
        (before < COMMITS_WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.counters.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Db {
    /// Opens the database as a server: brings the schema up to date and refuses unsafe settings.
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let handle = match &settings.engine {
            Engine::Sqlite { path } => {
                Handle::Sqlite(Arc::new(Sqlite::open(Some(path), settings, shared.clone()).await?))
            }
            Engine::SqliteInMemory => {
                let handle = Handle::Sqlite(Arc::new(Sqlite::open(None, settings, shared.clone()).await?));
                return Ok(Self { handle, patience: Patience::None, shared, _poller: None });
            }
            Engine::Postgres { url } => {
                Handle::Postgres(Arc::new(Postgres::open(url, settings, shared.clone()).await?))
            }
        };
        let poller = match &handle {
            Handle::Sqlite(engine) => tokio::spawn(poll_epoch(engine.clone(), shared.clone())),
            Handle::Postgres(engine) => tokio::spawn(engine.watch(shared.clone())),
        };
        Ok(Self { handle, patience: Patience::None, shared, _poller: Some(Arc::new(Poller(poller))) })
    }

    /// Opens the database for a few writes beside the server that may be running on it, under a node name of its own.
    /// The schema must be up to date already.
    pub async fn open_beside(settings: &Settings) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let handle = match &settings.engine {
            Engine::Sqlite { path } => {
                Handle::Sqlite(Arc::new(Sqlite::open_beside(path, settings, shared.clone()).await?))
            }
            Engine::SqliteInMemory | Engine::Postgres { .. } => return Self::open(settings).await,
        };
        Ok(Self { handle, patience: Patience::None, shared, _poller: None })
    }

    /// Opens the database to read it, also while a server runs on it. Every commit is refused.
    pub async fn open_read_only(settings: &Settings) -> Result<Self, StoreError> {
        let handle = match &settings.engine {
            Engine::Sqlite { path } => Handle::Sqlite(Arc::new(Sqlite::open_read_only(path, settings).await?)),
            Engine::SqliteInMemory => {
                return Err(StoreError::Refused("a database in memory cannot be opened a second time".into()));
            }
            Engine::Postgres { url } => Handle::Postgres(Arc::new(Postgres::open_read_only(url, settings).await?)),
        };
        Ok(Self { handle, patience: Patience::None, shared: Arc::default(), _poller: None })
    }

    /// Writes a consistent copy of a database file into another file, which must be there and empty, while a server may
    /// be running on it. What was committed when this began is in the copy.
    pub async fn copy(settings: &Settings, to: &Path) -> Result<(), StoreError> {
        match &settings.engine {
            Engine::Sqlite { path } => crate::sqlite::copy(path, to).await,
            Engine::SqliteInMemory | Engine::Postgres { .. } => {
                Err(StoreError::Refused("only a database file is copied here; PostgreSQL has tools of its own".into()))
            }
        }
    }

    /// How many others work on the database at the moment; 0 for a SQLite file, which its server locks.
    pub async fn count_others(settings: &Settings) -> Result<u64, StoreError> {
        match &settings.engine {
            Engine::Sqlite { .. } | Engine::SqliteInMemory => Ok(0),
            Engine::Postgres { url } => crate::postgres::count_others(url).await,
        }
    }

    /// The same database for work that no request waits for: on SQLite, its queries run on a thread that gives way to all
    /// others.
    pub fn patiently(&self) -> Self {
        Self { patience: Patience::Patient, ..self.clone() }
    }

    /// Waits until no other node starts on this database for the first time, and keeps others waiting until what it gives
    /// is dropped. A SQLite file has one server, so there is nobody to wait for.
    pub async fn hold_first_start(&self) -> Result<FirstStartHold, StoreError> {
        match &self.handle {
            Handle::Sqlite(_) => Ok(FirstStartHold { _link: None }),
            Handle::Postgres(engine) => Ok(FirstStartHold { _link: Some(engine.hold_first_start().await?) }),
        }
    }

    /// All rows of a query. A statement that writes is refused: that is what [`Db::commit`] is for.
    pub async fn rows(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        params.iter().try_for_each(Value::check)?;
        self.handle.rows(sql, params, self.patience).await
    }

    /// The first row of a query, if there is one. A query that can give many rows should say `LIMIT 1`.
    pub async fn row(&self, sql: &'static str, params: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// Keeps all of the changes or none. They are durable when this returns.
    ///
    /// Dropping the future does not take them back: they are committed or not as if it had been awaited.
    pub async fn commit(&self, changes: Changes) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        changes.check_values()?;
        if !changes.audit.is_empty() && self.shared.audit_key().is_none() {
            return Err(StoreError::Engine("an audited commit before the audit key was set".into()));
        }
        let too_many = || StoreError::Unavailable("too many changes wait to be committed; nothing was done".into());
        let waiting = Waiting::begin(&self.shared).ok_or_else(too_many)?;
        let (answer, answered) = oneshot::channel();
        let pending = Pending { changes, answer, _waiting: waiting };
        match &self.handle {
            Handle::Sqlite(engine) => engine.submit(pending)?,
            Handle::Postgres(engine) => engine.submit(pending)?,
        }
        // A committer that ends without an answer was stopped in the middle.
        let unknown = |_| StoreError::Unknown("the committer ended".into());
        let (outcome, _changes) = answered.await.map_err(unknown)?;
        outcome
    }

    /// A number that is larger whenever a [`Changes::configuration`] has been committed by anyone: by this process at
    /// once, before [`Db::commit`] returns; by another within a second, or when it is confirmed. Callers drop their
    /// caches when it changes.
    pub fn configuration_epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// The same number, as new as what any node has committed before this was called. Who acts on what is remembered of
    /// the configuration asks for it first, so that what was withdrawn on one node holds on all of them at once.
    pub async fn confirmed_epoch(&self) -> Result<u64, StoreError> {
        if let Handle::Postgres(engine) = &self.handle {
            engine.confirm_epoch(&self.shared).await?;
        }
        Ok(self.configuration_epoch())
    }

    /// Sets the key of the audit chain. Needed before the first commit that has an audit record.
    pub fn set_audit_key(&self, key: [u8; 32]) {
        *self.shared.audit_key.write().unwrap_or_else(PoisonError::into_inner) = Some(AuditKey::new(&key));
    }

    /// The key of the audit chain, once it is set.
    pub(crate) fn audit_key(&self) -> Option<AuditKey> {
        self.shared.audit_key()
    }

    /// The latest time that any node has committed an audit record with, in milliseconds since the epoch.
    pub async fn highest_time(&self) -> Result<Option<i64>, StoreError> {
        match self.row("SELECT MAX(highest_at) FROM audit_heads", vec![]).await? {
            None => Ok(None),
            Some(row) => row.opt_int(0),
        }
    }

    /// The clock of the database server in milliseconds since the epoch; nothing for SQLite, which has ours.
    pub async fn database_time_millis(&self) -> Result<Option<i64>, StoreError> {
        match &self.handle {
            Handle::Sqlite(_) => Ok(None),
            Handle::Postgres(engine) => engine.time_millis().await.map(Some),
        }
    }

    /// What the database server allows; nothing for SQLite, which has none.
    pub async fn server_allowance(&self) -> Result<Option<ServerAllowance>, StoreError> {
        match &self.handle {
            Handle::Sqlite(_) => Ok(None),
            Handle::Postgres(engine) => engine.allowance().await.map(Some),
        }
    }

    /// What the engine finds wrong with its own files, one line each. Reads the whole of a SQLite database; PostgreSQL
    /// has its own tools and reports nothing here.
    pub async fn integrity_problems(&self) -> Result<Vec<String>, StoreError> {
        match &self.handle {
            Handle::Sqlite(engine) => engine.integrity_problems().await,
            Handle::Postgres(_) => Ok(vec![]),
        }
    }

    /// Counts since the database was opened.
    pub fn statistics(&self) -> Statistics {
        let counters = &self.shared.counters;
        Statistics {
            commits: counters.commits.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            statements: counters.statements.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            waiting: counters.waiting.load(Ordering::Relaxed),
        }
    }

    /// Whether other nodes may work on the same database at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.handle, Handle::Postgres(_))
    }

    /// Listens to what the nodes announce from now on. Nothing where there is one node only.
    pub fn listen(&self) -> Option<Ear> {
        match &self.handle {
            Handle::Sqlite(_) => None,
            Handle::Postgres(engine) => Some(engine.listen(self.shared.clone())),
        }
    }

    /// `sqlite` or `postgresql`.
    pub fn engine_name(&self) -> &'static str {
        match &self.handle {
            Handle::Sqlite(_) => "sqlite",
            Handle::Postgres(_) => "postgresql",
        }
    }

    /// Commits what waits and closes the database for all clones; what they ask afterwards is unavailable.
    pub async fn close(self) {
        match &self.handle {
            Handle::Sqlite(engine) => engine.close().await,
            Handle::Postgres(engine) => engine.close().await,
        }
    }
}

impl Handle {
    async fn rows(&self, sql: &'static str, params: Vec<Value>, patience: Patience) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.rows(sql, params, patience).await,
            Self::Postgres(engine) => engine.rows(sql, params).await,
        }
    }
}

/// Raises the number that tells callers to drop their caches, and gives the new one.
pub(crate) const RAISE_EPOCH: &str = "UPDATE configuration_epoch SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch";

/// Reads that number.
pub(crate) const SELECT_EPOCH: &str = "SELECT epoch FROM configuration_epoch WHERE id = 1";

/// How often the configuration is looked at.
const POLL: Duration = Duration::from_millis(400);

/// Sees what the command line changes of the configuration.
async fn poll_epoch(engine: Arc<Sqlite>, shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(POLL).await;
        // What is wrong with the file, each query tells its own caller.
        if let Ok(rows) = engine.rows(SELECT_EPOCH, vec![], Patience::None).await
            && let Some(Ok(epoch)) = rows.first().map(|row| row.int(0))
        {
            shared.saw_epoch(epoch);
        }
    }
}
