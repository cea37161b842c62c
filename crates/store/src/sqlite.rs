//! The embedded engine: one thread that writes and a few that read.
//!
//! The writer takes all changes that wait, applies each on its own inside one transaction, commits once, and only then
//! answers. A change that fails takes nothing else with it. It knows no statement of a noun.

use crate::audit_chain::{self, AuditKey, Head};
use crate::changes::{Lasting, Tally};
use crate::commit_queue::CommitQueue;
use crate::db::{Patience, Pending, RAISE_EPOCH, SELECT_EPOCH, Shared};
use crate::priority::step_back;
use crate::sqlite_checkpoint::{self, Checkpoints};
use crate::sqlite_link::{Link, lock, prepare_file};
use crate::{AuditRecord, Changes, Row, Settings, Statement, StoreError, Value};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long the writer waits at most until as many changes have come as were committed the last time. When that was one,
/// it does not wait.
const GATHER: Duration = Duration::from_micros(500);

/// The threads and the ways to them.
pub(crate) struct Sqlite {
    /// Nothing when the database is only read.
    write: Option<Sender<Message>>,
    /// Nothing when the writer reads as well, because nobody else sees a database in memory.
    read: Option<Sender<Message>>,
    /// The reader that gives way to all others; nothing where there is one way to read only.
    read_patiently: Option<Sender<Message>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    readers: usize,
    /// The file, open until nobody uses it through SQLite any more (`sqlite_checkpoint.rs`).
    _file: Option<Arc<File>>,
}

/// What a thread is asked.
enum Message {
    Commit(Pending),
    Read(Query),
    Stop,
}

struct Query {
    sql: &'static str,
    params: Vec<Value>,
    answer: oneshot::Sender<Result<Vec<Row>, StoreError>>,
}

impl Sqlite {
    /// Opens a file as its one server, or a database in memory.
    pub(crate) async fn open(
        path: Option<&Path>,
        settings: &Settings,
        shared: Arc<Shared>,
    ) -> Result<Self, StoreError> {
        let (path, settings) = (path.map(Path::to_owned), settings.clone());
        blocking(move || {
            let lock = match &path {
                None => None,
                Some(path) => {
                    prepare_file(path)?;
                    Some(lock(path)?)
                }
            };
            let mut link = Link::open_writer(path.as_deref())?;
            link.migrate()?;
            Self::start(link, path.as_deref(), &settings, shared, lock)
        })
        .await
    }

    /// Opens a file for a few writes beside the server that may be running: its commits wait for each other.
    pub(crate) async fn open_beside(path: &Path, settings: &Settings, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (path, settings) = (path.to_owned(), settings.clone());
        blocking(move || {
            let mut link = Link::open_writer(Some(&path))?;
            crate::migrate::check_complete(&link.rows(crate::migrate::SELECT_APPLIED, &[])?)?;
            Self::start(link, Some(&path), &settings, shared, None)
        })
        .await
    }

    /// Opens a file that another process may be writing.
    pub(crate) async fn open_read_only(path: &Path, settings: &Settings) -> Result<Self, StoreError> {
        let (path, readers) = (path.to_owned(), settings.readers.max(1));
        blocking(move || {
            let mut link = Link::open_reader(&path)?;
            crate::migrate::check_complete(&link.rows(crate::migrate::SELECT_APPLIED, &[])?)?;
            drop(link);
            let mut threads = vec![];
            let read = start_readers(&path, readers, &mut threads)?;
            Ok(Self {
                write: None,
                read: Some(read),
                read_patiently: None,
                threads: Mutex::new(threads),
                readers,
                _file: None,
            })
        })
        .await
    }

    fn start(
        mut link: Link,
        path: Option<&Path>,
        settings: &Settings,
        shared: Arc<Shared>,
        lock: Option<File>,
    ) -> Result<Self, StoreError> {
        if let Some(row) = link.rows(SELECT_EPOCH, &[])?.first() {
            shared.saw_epoch(row.int(0)?);
        }
        let mut threads = vec![];
        let mut checkpoints = None;
        let mut file = None;
        if let Some(path) = path {
            let opened = Arc::new(open_to_sync(path)?);
            let (ours, copier) = sqlite_checkpoint::start(Link::open_writer(Some(path))?, opened.clone());
            file = Some(opened);
            threads.push(spawn("store-checkpoint", move || copier.run())?);
            checkpoints = Some(ours);
        }
        let lasting = Lasting::default();
        let (node, waiting) = (settings.node.clone(), CommitQueue::default());
        let writer = Writer { link, node, shared, checkpoints, lasting, waiting, lock };
        let (write, requests) = channel();
        threads.push(spawn("store-writer", move || writer.run(&requests))?);
        let readers = settings.readers.max(1);
        let read = path.map(|path| start_readers(path, readers, &mut threads)).transpose()?;
        let read_patiently = path.map(|path| start_patient_reader(path, &mut threads)).transpose()?;
        Ok(Self { write: Some(write), read, read_patiently, threads: Mutex::new(threads), readers, _file: file })
    }

    /// Hands changes to the writer.
    pub(crate) fn submit(&self, pending: Pending) -> Result<(), StoreError> {
        let write = self.write.as_ref().ok_or_else(|| StoreError::Refused("it was opened to be read only".into()))?;
        write.send(Message::Commit(pending)).map_err(|_| closed())
    }

    /// Runs a query on a connection that is free, or on the one that gives way to the others.
    pub(crate) async fn rows(
        &self,
        sql: &'static str,
        params: Vec<Value>,
        patience: Patience,
    ) -> Result<Vec<Row>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let patient = self.read_patiently.as_ref().filter(|_| patience == Patience::Patient);
        let threads = patient.or(self.read.as_ref()).or(self.write.as_ref()).ok_or_else(closed)?;
        threads.send(Message::Read(Query { sql, params, answer })).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// What SQLite says of its own file.
    pub(crate) async fn integrity_problems(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.rows("PRAGMA integrity_check", vec![], Patience::None).await?;
        let lines: Result<Vec<String>, StoreError> = rows.iter().map(|row| row.string(0)).collect();
        Ok(lines?.into_iter().filter(|line| line != "ok").collect())
    }

    /// Commits what waits, copies the write-ahead log into the file and ends the threads.
    pub(crate) async fn close(&self) {
        // A thread that is gone already needs no message.
        if let Some(read) = &self.read {
            (0..self.readers).for_each(|_| drop(read.send(Message::Stop)));
        }
        if let Some(read) = &self.read_patiently {
            drop(read.send(Message::Stop));
        }
        if let Some(write) = &self.write {
            drop(write.send(Message::Stop));
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join));
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("a thread of the database panicked");
        }
    }
}

/// Copies a file as it is at this moment into another one that is empty, and makes the copy durable.
pub(crate) async fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(move || {
        let mut link = Link::open_reader(&from)?;
        crate::migrate::check_complete(&link.rows(crate::migrate::SELECT_APPLIED, &[])?)?;
        link.copy_into(&to)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ended = |error| StoreError::Unavailable(format!("opening the database ended early: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

fn open_to_sync(path: &Path) -> Result<File, StoreError> {
    let failed = |error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    File::options().read(true).write(true).open(path).map_err(failed)
}

fn closed() -> StoreError {
    StoreError::Unavailable("the database is closed".into())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let failed = |error| StoreError::Unavailable(format!("no thread for the database: {error}"));
    thread::Builder::new().name(name.into()).spawn(work).map_err(failed)
}

fn start_readers(path: &Path, count: usize, threads: &mut Vec<JoinHandle<()>>) -> Result<Sender<Message>, StoreError> {
    let (read, requests) = channel();
    let requests = Arc::new(Mutex::new(requests));
    for _ in 0..count {
        let (link, requests) = (Link::open_reader(path)?, requests.clone());
        threads.push(spawn("store-reader", move || run_reader(link, &requests))?);
    }
    Ok(read)
}

fn start_patient_reader(path: &Path, threads: &mut Vec<JoinHandle<()>>) -> Result<Sender<Message>, StoreError> {
    let (read, requests) = channel();
    let link = Link::open_reader(path)?;
    threads.push(spawn("store-patient", move || {
        step_back();
        run_reader(link, &Mutex::new(requests));
    })?);
    Ok(read)
}

/// Answers queries until it is told to stop or nobody can ask any more.
fn run_reader(mut link: Link, requests: &Mutex<Receiver<Message>>) {
    loop {
        // The lock is held while waiting: the others wait for the lock instead.
        let message = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match message {
            Ok(Message::Read(query)) => query.run(&mut link),
            Ok(Message::Commit(_) | Message::Stop) | Err(_) => return,
        }
    }
}

impl Query {
    fn run(self, link: &mut Link) {
        // The caller may have gone away; then there is nobody to tell.
        drop(self.answer.send(link.read(self.sql, &self.params)));
    }
}

/// The head of a node's audit chain as it is stored, or its start.
fn load_head(link: &mut Link, node: &str) -> Result<Head, StoreError> {
    match link.rows(audit_chain::SELECT_HEAD, &[node.into()])?.first() {
        Some(row) => Head::from_row(row),
        None => {
            let next = link.rows(audit_chain::SELECT_NEXT_NODE, &[])?;
            Ok(Head::start(next.first().map_or(Ok(1), |row| row.int(0))?, node))
        }
    }
}

/// The thread that writes.
struct Writer {
    link: Link,
    node: String,
    shared: Arc<Shared>,
    /// Nothing for a database in memory.
    checkpoints: Option<Checkpoints>,
    /// What need not be run again.
    lasting: Lasting,
    waiting: CommitQueue,
    /// Held as long as we are the one server; nothing for one that writes beside it.
    lock: Option<File>,
}

/// How much is undone when one of a batch fails.
#[derive(Clone, Copy)]
enum Undo {
    /// The whole batch.
    All,
    /// That one.
    Each,
}

/// The guards that a transaction has held already. What a guard reads changes only with the configuration, so within one
/// transaction each is looked at once until the configuration changes.
#[derive(Default)]
struct Guards<'a>(Vec<&'a Statement>);

/// How many guards are remembered at a time.
const GUARDS_MAX: usize = 16;

impl<'a> Guards<'a> {
    /// Whether this guard was not held yet; it counts as held from now on.
    fn is_new(&mut self, guard: &'a Statement) -> bool {
        if self.0.iter().any(|held| std::ptr::eq(held.sql, guard.sql) && held.params == guard.params) {
            return false;
        }
        if self.0.len() < GUARDS_MAX {
            self.0.push(guard);
        }
        true
    }
}

/// What became of a batch that was committed.
type Outcomes = Vec<Result<(), StoreError>>;

impl Writer {
    fn run(mut self, requests: &Receiver<Message>) {
        let mut last = 1;
        let mut is_open = true;
        while is_open || !self.waiting.is_empty() {
            is_open = is_open && self.gather(requests, last);
            let batch = self.waiting.next_batch();
            last = batch.len();
            if !batch.is_empty() {
                self.commit(batch);
            }
        }
        if self.lock.is_some() {
            self.tidy();
        }
    }

    /// Leaves one file behind.
    fn tidy(&mut self) {
        for sql in ["PRAGMA optimize", "PRAGMA wal_checkpoint(TRUNCATE)"] {
            if let Err(error) = self.link.rows(sql, &[]) {
                tracing::warn!(%error, sql, "closing the database");
            }
        }
    }

    /// Collects what waits, and says whether more can come. Queries are answered at once: no transaction is open here.
    fn gather(&mut self, requests: &Receiver<Message>, last: usize) -> bool {
        let mut until = Instant::now();
        loop {
            let message = match self.waiting.is_empty() {
                true => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                // Callers that were answered together come back together.
                false if self.waiting.waits_for_company(last) => {
                    requests.recv_timeout(until.saturating_duration_since(Instant::now()))
                }
                false => requests.recv_timeout(Duration::ZERO),
            };
            match message {
                Ok(Message::Commit(pending)) => {
                    if self.waiting.is_empty() {
                        until = Instant::now() + GATHER;
                    }
                    self.waiting.push(pending);
                }
                Ok(Message::Read(query)) => query.run(&mut self.link),
                Err(RecvTimeoutError::Timeout) => return true,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Commits a batch and answers each.
    fn commit(&mut self, batch: Vec<Pending>) {
        let changes: Vec<&Changes> = batch.iter().map(|pending| &pending.changes).collect();
        let outcomes = match self.transaction(&changes) {
            Ok(outcomes) => outcomes,
            // A constraint that is only checked at the end does not say whose it is.
            Err(StoreError::Conflict { .. }) if changes.len() > 1 => {
                let alone = |one| self.transaction(&[one]).map_or_else(Err, |mut outcomes| outcomes.remove(0));
                changes.into_iter().map(alone).collect()
            }
            Err(error) => vec![Err(error); changes.len()],
        };
        self.shared.answer(batch, outcomes);
        let copied = self.checkpoints.as_mut().map_or(Ok(()), |checkpoints| checkpoints.committed(&mut self.link));
        if let Err(error) = copied {
            tracing::warn!(%error, "copying the write-ahead log");
        }
    }

    /// One durable transaction. An error means that nothing at all was kept.
    ///
    /// Nearly always all of a batch holds, so it is first applied without savepoints, which cost a copy of each page; only
    /// when one of it fails is it applied anew, each where it can be undone by itself.
    fn transaction(&mut self, batch: &[&Changes]) -> Result<Outcomes, StoreError> {
        let mut done = self.apply_and_commit(batch, Undo::All);
        self.link.rollback();
        if matches!(done, Ok((None, _))) {
            done = self.apply_and_commit(batch, Undo::Each);
            // Also when all of them failed, each on its own.
            self.link.rollback();
        }
        let (outcomes, epoch) = done?;
        if let Some(epoch) = epoch {
            self.shared.saw_epoch(epoch);
        }
        outcomes.ok_or_else(|| StoreError::Engine("a batch that was undone one by one was not".into()))
    }

    /// Nothing instead of the outcomes when one of the batch failed and all of it has to be undone.
    fn apply_and_commit(
        &mut self,
        batch: &[&Changes],
        undo: Undo,
    ) -> Result<(Option<Outcomes>, Option<i64>), StoreError> {
        let mut chain = None;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut changes_configuration = false;
        let mut held = Guards::default();
        self.link.frame("BEGIN IMMEDIATE")?;
        for changes in batch {
            let outcome = self.apply(changes, undo, &mut held)?;
            match (&outcome, undo) {
                (Ok(()), _) => {
                    self.append(&mut chain, &changes.audit)?;
                    changes_configuration |= changes.changes_configuration;
                    if changes.changes_configuration {
                        held = Guards::default();
                    }
                }
                (Err(_), Undo::All) => return Ok((None, None)),
                (Err(_), Undo::Each) => {}
            }
            outcomes.push(outcome);
        }
        if outcomes.iter().all(Result::is_err) {
            return Ok((Some(outcomes), None));
        }
        self.tally(batch, &outcomes)?;
        self.store_head(chain)?;
        let epoch = match changes_configuration {
            true => self.link.rows(RAISE_EPOCH, &[])?.first().map(|row| row.int(0)).transpose()?,
            false => None,
        };
        self.link.frame("COMMIT")?;
        self.shared.counters.batches.fetch_add(1, Ordering::Relaxed);
        let kept = batch.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        self.lasting.committed(kept.flat_map(|(changes, _)| &changes.statements));
        Ok((Some(outcomes), epoch))
    }

    /// Adds up what is counted by those that hold. There is one writer, so there is one row for each count.
    fn tally(&mut self, batch: &[&Changes], outcomes: &Outcomes) -> Result<(), StoreError> {
        let kept = batch.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
        for (sql, params) in Tally::merged(kept.flat_map(|(changes, _)| &changes.tallies), 0) {
            if self.link.execute(sql, &params)? != 1 {
                return Err(StoreError::Corrupt("what is counted is not there".into()));
            }
        }
        Ok(())
    }

    /// Applies one of a batch. The inner error is its own; the outer one ends the batch.
    fn apply<'a>(
        &mut self,
        changes: &'a Changes,
        undo: Undo,
        held: &mut Guards<'a>,
    ) -> Result<Result<(), StoreError>, StoreError> {
        // A single statement that fails undoes itself, unless it did something else than was expected.
        let has_savepoint = match undo {
            Undo::All => false,
            Undo::Each => changes.statements.len() > 1 || changes.statements.iter().any(|one| one.expects_one()),
        };
        if has_savepoint {
            self.link.frame("SAVEPOINT one")?;
        }
        let run = |statement: &'a Statement| {
            if self.lasting.has(statement) || (statement.is_guard() && !held.is_new(statement)) {
                return Ok(());
            }
            statement.check_count(self.link.execute(statement.sql, &statement.params)?)
        };
        let outcome = changes.statements.iter().try_for_each(run);
        if outcome.is_err() {
            *held = Guards::default();
        }
        if let Err(error @ (StoreError::Unavailable(_) | StoreError::Corrupt(_))) = outcome {
            return Err(error);
        }
        if !self.link.is_in_transaction() {
            return Err(StoreError::Unavailable("the database ended the transaction".into()));
        }
        if has_savepoint {
            if outcome.is_err() {
                self.link.frame("ROLLBACK TO one")?;
            }
            self.link.frame("RELEASE one")?;
        }
        Ok(outcome)
    }

    /// Appends to the chain, whose head is read in the same transaction when it is first needed.
    fn append(&mut self, chain: &mut Option<Chain>, records: &[AuditRecord]) -> Result<(), StoreError> {
        for record in records {
            let chain = match chain {
                Some(chain) => chain,
                None => chain.insert(self.chain()?),
            };
            self.link.execute(audit_chain::INSERT_RECORD, &chain.head.append(&chain.key, record))?;
        }
        Ok(())
    }

    fn chain(&mut self) -> Result<Chain, StoreError> {
        let key = self.shared.audit_key().ok_or_else(|| StoreError::Engine("there is no audit key".into()))?;
        let before = load_head(&mut self.link, &self.node)?;
        Ok(Chain { key, head: before.clone(), before })
    }

    fn store_head(&mut self, chain: Option<Chain>) -> Result<(), StoreError> {
        let Some(Chain { key, before, head }) = chain else {
            return Ok(());
        };
        let count = match before.is_stored() {
            true => self.link.execute(audit_chain::UPDATE_HEAD, &head.update(&key, &before))?,
            false => self.link.execute(audit_chain::INSERT_HEAD, &head.insert(&key))?,
        };
        match count {
            1 => Ok(()),
            _ => Err(StoreError::Corrupt("the head of the audit chain cannot be moved".into())),
        }
    }
}

/// The end of this node's audit chain, before and after what a transaction appends.
struct Chain {
    key: AuditKey,
    before: Head,
    head: Head,
}
