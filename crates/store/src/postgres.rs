//! The shared engine: one connection that commits and a few that read.
//!
//! The committer takes all changes that wait and sends them as one transaction without waiting in between. When one of
//! them fails, each is run again in a transaction of its own, so that only the guilty one fails. It knows no statement
//! of a noun.

use crate::announcement::{CHANNEL, Ear, HEARD_MAX, NOTIFY};
use crate::audit_chain::{self, Head};
use crate::changes::{Lasting, Tally};
use crate::commit_queue::CommitQueue;
use crate::db::{Pending, RAISE_EPOCH, SELECT_EPOCH, ServerAllowance, Shared};
use crate::postgres_link::{CommitError, Connector, Link, LinkError, Remedy, Work};
use crate::postgres_slot::{Readers, Slot};
use crate::postgres_watch::{Confirmations, Watch};
use crate::{Announcement, Changes, Row, Settings, Statement, StoreError, Value, postgres_listen};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::task::JoinHandle;

/// Chosen at random once, like that of the migrations.
pub(crate) const FIRST_START_LOCK: i64 = 0x4c1d_27f0_93ab_58e6;

/// How often a transaction is run that is not at fault itself.
const ATTEMPTS: usize = 5;

/// How many changes that do not hold are taken out of a batch one by one before the rest is sent singly.
const GUILTY_MAX: usize = 8;

/// The connections and the tasks.
pub(crate) struct Postgres {
    connector: Arc<Connector>,
    /// For whoever reads.
    read_connector: Arc<Connector>,
    watch: Watch,
    /// The connection of the watch.
    watching: Arc<Slot>,
    confirmations: Confirmations,
    /// Nothing when the database is only read.
    write: Option<UnboundedSender<Message>>,
    readers: Readers,
    committer: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Commit(Pending),
    Stop,
}

impl Postgres {
    /// Opens a database as one of its servers.
    pub(crate) async fn open(url: &str, settings: &Settings, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(url, Work::Write, settings.statement_time)?);
        let read_connector = Arc::new(Connector::new(url, Work::Read, settings.statement_time)?);
        let link = connector.connect_to_change().await?;
        link.migrate().await?;
        if let Some(row) = link.rows(SELECT_EPOCH, &[]).await?.first() {
            shared.saw_epoch(row.int(0)?);
        }
        let slot = Slot::new(connector.clone(), Some(link));
        let (write, requests) = unbounded_channel();
        let (node, lasting) = (settings.node.clone(), Lasting::default());
        let watch = Watch::default();
        let committer = Committer { slot, node, head: None, lasting, shared, watch: watch.clone() };
        let committer = Mutex::new(Some(tokio::spawn(committer.run(requests))));
        let readers = Readers::new(&read_connector, settings.readers, watch.clone());
        let watching = Arc::new(Slot::new(read_connector.clone(), None));
        let confirmations = Confirmations::new(watching.clone());
        Ok(Self { connector, read_connector, watch, watching, confirmations, write: Some(write), readers, committer })
    }

    /// Opens a database to read it.
    pub(crate) async fn open_read_only(url: &str, settings: &Settings) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(url, Work::ReadAnywhere, settings.statement_time)?);
        let watch = Watch::default();
        let readers = Readers::new(&connector, settings.readers, watch.clone());
        must_not_be_empty(&readers.rows(SELECT_IS_EMPTY, &[]).await?)?;
        crate::migrate::check_complete(&readers.rows(crate::migrate::SELECT_APPLIED, &[]).await?)?;
        let (read_connector, committer) = (connector.clone(), Mutex::new(None));
        let watching = Arc::new(Slot::new(read_connector.clone(), None));
        let confirmations = Confirmations::new(watching.clone());
        Ok(Self { connector, read_connector, watch, watching, confirmations, write: None, readers, committer })
    }

    /// Watches whether the server answers, and what others change of the configuration, for as long as it is awaited.
    pub(crate) fn watch(&self, shared: Arc<Shared>) -> impl Future<Output = ()> + Send + 'static {
        self.watch.clone().keep(self.watching.clone(), shared)
    }

    /// Waits until no other node starts for the first time, and keeps others waiting for as long as the connection lives.
    pub(crate) async fn hold_first_start(&self) -> Result<Link, StoreError> {
        let link = self.connector.connect().await?;
        // Others may take their time.
        link.control("SET lock_timeout = '5min'; SET statement_timeout = '6min'").await?;
        link.rows("SELECT pg_advisory_lock($1) IS NULL", &[FIRST_START_LOCK.into()]).await?;
        Ok(link)
    }

    /// Makes sure that what is known of the configuration is as new as what was committed before this was called.
    pub(crate) async fn confirm_epoch(&self, shared: &Shared) -> Result<(), StoreError> {
        self.confirmations.confirm(&self.watch, shared).await
    }

    /// Hands changes to the committer.
    pub(crate) fn submit(&self, pending: Pending) -> Result<(), StoreError> {
        let write = self.write.as_ref().ok_or_else(|| StoreError::Refused("it was opened to be read only".into()))?;
        let closed = |_| StoreError::Unavailable("the database is closed".into());
        write.send(Message::Commit(pending)).map_err(closed)
    }

    /// Runs a query on the next connection.
    pub(crate) async fn rows(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.readers.rows(sql, &params).await
    }

    /// The server's clock, in milliseconds since the epoch.
    pub(crate) async fn time_millis(&self) -> Result<i64, StoreError> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let rows = self.rows(sql, vec![]).await?;
        rows.first().map_or_else(|| Err(StoreError::Engine("no time".into())), |row| row.int(0))
    }

    /// What the server allows.
    pub(crate) async fn allowance(&self) -> Result<ServerAllowance, StoreError> {
        let sql = "SELECT current_setting('max_connections')::bigint, pg_is_in_recovery()::int::bigint";
        let rows = self.rows(sql, vec![]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Engine("no settings".into()))?;
        Ok(ServerAllowance { connections: row.int(0)?, is_standby: row.int(1)? == 1 })
    }

    /// Listens to what the nodes announce, on a connection of its own.
    pub(crate) fn listen(&self, shared: Arc<Shared>) -> Ear {
        let (heard, ear) = channel(HEARD_MAX);
        tokio::spawn(postgres_listen::listen(self.read_connector.clone(), heard, shared));
        Ear::new(ear)
    }

    /// Commits what waits and ends the connections.
    pub(crate) async fn close(&self) {
        if let Some(write) = &self.write {
            // A committer that is gone already needs no message.
            drop(write.send(Message::Stop));
        }
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer
            && committer.await.is_err()
        {
            tracing::error!("the committer panicked");
        }
        self.readers.close().await;
        self.watching.close().await;
    }
}

/// Whether no server was ever started on the database.
pub(crate) const SELECT_IS_EMPTY: &str = "SELECT (to_regclass('schema_migrations') IS NULL)::int::bigint";

/// Refuses what [`SELECT_IS_EMPTY`] says is empty.
pub(crate) fn must_not_be_empty(rows: &[Row]) -> Result<(), StoreError> {
    match rows.first().map(|row| row.int(0)).transpose()? {
        Some(1) => Err(StoreError::Empty),
        Some(_) | None => Ok(()),
    }
}

/// How many other connections of this program work on the database.
pub(crate) async fn count_others(url: &str) -> Result<u64, StoreError> {
    let link = Connector::unhurried(url, Work::ReadAnywhere)?.connect().await?;
    let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
        AND application_name = current_setting('application_name') AND backend_type = 'client backend'";
    let rows = link.rows(sql, &[]).await?;
    rows.first().map_or(Ok(0), |row| Ok(row.int(0)?.unsigned_abs()))
}

/// The task that commits.
struct Committer {
    slot: Slot,
    node: String,
    /// The end of the audit chain; nothing before the first commit and after a failure, until it is read again.
    head: Option<Head>,
    /// What need not be run again.
    lasting: Lasting,
    shared: Arc<Shared>,
    watch: Watch,
}

/// Why a transaction was not committed.
enum Failure {
    /// The change at this place of the batch does not hold.
    Guilty(usize, StoreError),
    /// All of it failed, and is not to be run again.
    Whole(StoreError),
    /// Nothing was kept and another try may do: another process with the name of this node moved the head of the chain, or
    /// the connection ended before the commit was sent.
    Again(StoreError),
    /// Nothing was kept, since it and another transaction waited for each other. Another try may do.
    Lost(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Whole(error)
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        match error.remedy {
            Remedy::Nothing => Self::Whole(error.error),
            Remedy::Again => Self::Lost(error.error),
            Remedy::Reconnect => Self::Again(error.error),
        }
    }
}

impl Committer {
    async fn run(mut self, mut requests: UnboundedReceiver<Message>) {
        let mut waiting = CommitQueue::default();
        let mut is_open = true;
        while is_open || !waiting.is_empty() {
            let mut next = match waiting.is_empty() {
                true => Some(requests.recv().await.unwrap_or(Message::Stop)),
                false => requests.try_recv().ok(),
            };
            while let Some(message) = next {
                match message {
                    Message::Commit(pending) => waiting.push(pending),
                    Message::Stop => is_open = false,
                }
                next = requests.try_recv().ok();
            }
            let batch = waiting.next_batch();
            let changes: Vec<&Changes> = batch.iter().map(|pending| &pending.changes).collect();
            let outcomes = self.commit(&changes).await;
            self.shared.answer(batch, outcomes);
        }
        self.slot.close().await;
    }

    /// Commits all that can be committed. A change that does not hold is left out and the others are sent again; when
    /// there are many of those, or the server does not say which it is, or another node was in the way, each is sent alone.
    async fn commit(&mut self, batch: &[&Changes]) -> Vec<Result<(), StoreError>> {
        let mut outcomes = vec![Ok(()); batch.len()];
        let mut groups = VecDeque::from([(0..batch.len()).collect::<Vec<usize>>()]);
        let mut guilty = 0;
        while let Some(mut group) = groups.pop_front() {
            let changes: Vec<&Changes> = group.iter().map(|place| batch[*place]).collect();
            match self.attempt(&changes).await {
                Ok(()) => {}
                Err(Failure::Guilty(place, error)) => {
                    outcomes[group.remove(place)] = Err(error);
                    guilty += 1;
                    match guilty < GUILTY_MAX {
                        true => groups.push_front(group),
                        false => groups.extend(group.into_iter().map(|place| vec![place])),
                    }
                }
                // A constraint that is only checked at the end does not say whose it is.
                Err(Failure::Whole(StoreError::Conflict { .. })) if group.len() > 1 => {
                    groups.extend(group.into_iter().map(|place| vec![place]));
                }
                // Those of several nodes that hold much at once would lose against each other again and again, a second
                // each time.
                Err(Failure::Lost(error)) if group.len() > 1 => {
                    tracing::info!(%error, changes = group.len(), "changes that lost against another node are sent singly");
                    groups.extend(group.into_iter().map(|place| vec![place]));
                }
                Err(Failure::Whole(error) | Failure::Again(error) | Failure::Lost(error)) => {
                    group.into_iter().for_each(|place| outcomes[place] = Err(error.clone()));
                }
            }
        }
        outcomes
    }

    /// Commits a group, again where it was nobody's fault.
    async fn attempt(&mut self, changes: &[&Changes]) -> Result<(), Failure> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.transaction(changes).await {
                Err(Failure::Again(error)) if attempts < ATTEMPTS => {
                    tracing::info!(%error, "a transaction is run again");
                }
                Err(Failure::Lost(error)) if attempts < ATTEMPTS && changes.len() == 1 => {
                    tracing::info!(%error, "a change that lost against another node is sent again");
                }
                other => return other,
            }
        }
    }

    /// One durable transaction of all changes, or nothing.
    async fn transaction(&mut self, batch: &[&Changes]) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let watch = self.watch.clone();
        let link = watch.unless_silent(self.slot.link()).await??;
        let applied = match watch.unless_silent(self.apply(&link, batch)).await {
            Ok(applied) => applied,
            Err(silent) => {
                // Nobody sends the commit on it any more: the server ends the transaction with the connection.
                self.slot.forget(&link).await;
                return Err(Failure::Whole(silent));
            }
        };
        let (head, epoch) = match applied {
            Ok(applied) => applied,
            Err(failure) => {
                // A connection on which this fails is not used again, and its transaction ends with it.
                if !matches!(watch.unless_silent(link.control("ROLLBACK")).await, Ok(Ok(()))) {
                    self.slot.forget(&link).await;
                }
                return Err(failure);
            }
        };
        match watch.unless_silent(link.commit()).await {
            Ok(Ok(())) => {}
            Ok(Err(CommitError::Refused(error))) => return Err(error.into()),
            Ok(Err(CommitError::NoAnswer(why))) => {
                self.slot.forget(&link).await;
                return Err(Failure::Whole(StoreError::Unknown(why)));
            }
            Err(silent) => {
                self.slot.forget(&link).await;
                return Err(Failure::Whole(StoreError::Unknown(silent.to_string())));
            }
        }
        self.head = Some(head);
        self.lasting.committed(batch.iter().flat_map(|changes| &changes.statements));
        if let Some(epoch) = epoch {
            self.shared.saw_epoch(epoch);
        }
        self.shared.counters.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Everything up to the commit. Gives the new head of the chain, and the number of the configuration if it was raised.
    async fn apply(&mut self, link: &Link, batch: &[&Changes]) -> Result<(Head, Option<i64>), Failure> {
        // Nothing is left here after a failure, so that the head is read again.
        let before = match self.head.take() {
            Some(head) => head,
            None => load_head(link, &self.node).await?,
        };
        let plan = Plan::new(batch, &before, &self.shared)?;
        let applied = plan.apply(link, &self.lasting).await;
        match applied {
            Ok(epoch) => Ok((plan.head, epoch)),
            Err(failure) => {
                if matches!(failure, Failure::Guilty(..)) {
                    self.head = Some(before);
                }
                Err(failure)
            }
        }
    }
}

/// The head of a node's audit chain as it is stored, or its start.
async fn load_head(link: &Link, node: &str) -> Result<Head, StoreError> {
    match link.rows(audit_chain::SELECT_HEAD, &[node.into()]).await?.first() {
        Some(row) => Head::from_row(row),
        None => {
            let next = link.rows(audit_chain::SELECT_NEXT_NODE, &[]).await?;
            Ok(Head::start(next.first().map_or(Ok(1), |row| row.int(0))?, node))
        }
    }
}

/// The statements of a transaction in their order.
struct Plan<'a> {
    batch: &'a [&'a Changes],
    /// The values of the audit records of the whole batch.
    records: Vec<Vec<Value>>,
    /// How the head of the chain is stored, when it moves.
    move_head: Option<(&'static str, Vec<Value>)>,
    /// What is counted, added up.
    tallies: Vec<(&'static str, Vec<Value>)>,
    /// What the other nodes are told, as the values of [`NOTIFY`].
    announcements: Vec<Vec<Value>>,
    head: Head,
}

impl<'a> Plan<'a> {
    fn new(batch: &'a [&'a Changes], before: &Head, shared: &Shared) -> Result<Self, StoreError> {
        let mut head = before.clone();
        let mut records = vec![];
        let mut move_head = None;
        if batch.iter().any(|changes| !changes.audit.is_empty()) {
            let key = shared.audit_key().ok_or_else(|| StoreError::Engine("there is no audit key".into()))?;
            for record in batch.iter().flat_map(|changes| &changes.audit) {
                records.push(head.append(&key, record));
            }
            move_head = Some(match before.is_stored() {
                true => (audit_chain::UPDATE_HEAD, head.update(&key, before)),
                false => (audit_chain::INSERT_HEAD, head.insert(&key)),
            });
        }
        let tallies = Tally::merged(batch.iter().flat_map(|changes| &changes.tallies), before.node()).collect();
        // The server tells what is told twice in a transaction once.
        let announcements = batch.iter().flat_map(|changes| &changes.announcements);
        let announcements = announcements.map(|told| vec![CHANNEL.into(), told.to_string().into()]).collect();
        Ok(Self { batch, records, move_head, tallies, announcements, head })
    }

    /// Runs everything up to the commit. Gives the number of the configuration, if it was raised.
    async fn apply(&self, link: &Link, lasting: &Lasting) -> Result<Option<i64>, Failure> {
        let mut prepared = vec![];
        let mut owners: Vec<(usize, &Statement)> = vec![];
        for (place, changes) in self.batch.iter().enumerate() {
            for statement in changes.statements.iter().filter(|statement| !lasting.has(statement)) {
                let one = link.prepare(statement.sql, &statement.params).await;
                prepared.push(one.map_err(|error| blame(place, error))?);
                owners.push((place, statement));
            }
        }
        for (sql, params) in &self.tallies {
            prepared.push(link.prepare(sql, params).await?);
        }
        for record in &self.records {
            prepared.push(link.prepare(audit_chain::INSERT_RECORD, record).await?);
        }
        if let Some((sql, params)) = &self.move_head {
            prepared.push(link.prepare(sql, params).await?);
        }
        for announcement in &self.announcements {
            prepared.push(link.prepare(NOTIFY, announcement).await?);
        }
        let counts = link.begin_and_execute(&prepared).await?;
        for (position, count) in counts.into_iter().enumerate() {
            match owners.get(position) {
                Some((place, statement)) => {
                    let count = count.map_err(|error| blame(*place, error))?;
                    statement.check_count(count).map_err(|error| Failure::Guilty(*place, error))?;
                }
                // Each of our own statements changes or gives exactly one row, unless the head is somewhere else.
                None => match count {
                    Ok(1) => {}
                    Ok(_) | Err(LinkError { error: StoreError::Conflict { .. }, .. }) => {
                        let what = "another process moved the audit chain of this node";
                        return Err(Failure::Again(StoreError::Unavailable(what.into())));
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        }
        if !self.batch.iter().any(|changes| changes.changes_configuration) {
            return Ok(None);
        }
        let raised = link.rows(RAISE_EPOCH, &[]).await?;
        let epoch = raised.first().map(|row| row.int(0)).transpose()?;
        if let Some(epoch) = epoch {
            let told = Announcement::Configuration { epoch };
            link.execute(NOTIFY, &[CHANNEL.into(), told.to_string().into()]).await?;
        }
        Ok(epoch)
    }
}

/// An error of a statement is its own doing, unless it is nobody's.
fn blame(place: usize, error: LinkError) -> Failure {
    match error.remedy {
        Remedy::Nothing if matches!(error.error, StoreError::ReadOnly(_)) => Failure::Whole(error.error),
        Remedy::Nothing => Failure::Guilty(place, error.error),
        Remedy::Again => Failure::Lost(error.error),
        Remedy::Reconnect => Failure::Again(error.error),
    }
}
