//! One connection to PostgreSQL: how it is made and checked, how it runs statements, what its errors mean.
//!
//! It knows nothing of batches or of which connection is used for what.

use crate::postgres_tls::{tls_config, tls_options};
use crate::{Row, StoreError, Value, migrate};
use bytes::BytesMut;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::config::{Config, SslMode, TargetSessionAttrs};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The oldest release that is accepted, as `server_version_num`.
const SERVER_VERSION_MIN: i64 = 150_000;

/// How long it is waited for one server to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take until statements can be sent on it, by server that the URL names.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// When an idle connection is asked whether the other side is there, how often, and how many times in vain.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);

/// How long what was sent may wait to be acknowledged by the other side's network.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// How often a migration is tried that does not get its locks, and how long after the time before.
const MIGRATION_ATTEMPTS: u32 = 60;
const MIGRATION_PAUSE: Duration = Duration::from_secs(1);

/// Chosen at random once; another program is unlikely to take the same advisory lock.
const MIGRATION_LOCK: i64 = 0x6368_616e_6365_7279;

/// Makes connections.
pub(crate) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    work: Work,
    session: String,
}

/// What connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// To commit, on the server that takes changes.
    Write,
    /// To read on that server, also while an operator keeps it from taking changes. Never on a standby: it may not have
    /// what was committed last, such as a revocation.
    Read,
    /// To read on any server, for commands that look at a database.
    ReadAnywhere,
}

/// Why a commit did not say that it is done.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The server refused it: nothing was kept.
    Refused(LinkError),
    /// It did not answer: all was kept, or nothing.
    NoAnswer(String),
}

/// A connection, with the statements that it has prepared.
pub(crate) struct Link {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

/// Why a request on a connection failed, told apart by what can be done about it.
#[derive(Clone, Debug)]
pub(crate) struct LinkError {
    pub(crate) error: StoreError,
    pub(crate) remedy: Remedy,
}

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing: the server refuses this request.
    Nothing,
    /// The transaction lost against another one and may just be run again.
    Again,
    /// The connection is gone or going; another one may do.
    Reconnect,
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        error.error
    }
}

impl From<StoreError> for LinkError {
    fn from(error: StoreError) -> Self {
        Self { error, remedy: Remedy::Nothing }
    }
}

/// A statement that is prepared, and its parameters.
pub(crate) struct Prepared<'a> {
    pub(crate) statement: Statement,
    pub(crate) params: &'a [Value],
}

impl Connector {
    /// Connections for this work, on which a statement may take so long.
    pub(crate) fn new(url: &str, work: Work, statement_time: Duration) -> Result<Self, StoreError> {
        let (url, options) = tls_options(url)?;
        // The message of the parser names an option, not the password.
        let mut config: Config =
            url.parse().map_err(|error| StoreError::Refused(format!("PostgreSQL URL: {error}")))?;
        let (idle, interval, retries) = KEEPALIVE;
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(ACKNOWLEDGED_WITHIN);
        config.keepalives_idle(idle).keepalives_interval(interval).keepalives_retries(retries);
        config.target_session_attrs(match work {
            Work::Write | Work::Read => TargetSessionAttrs::ReadWrite,
            Work::ReadAnywhere => TargetSessionAttrs::Any,
        });
        if config.get_application_name().is_none() {
            config.application_name("chancery");
        }
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(MakeRustlsConnect::new(tls_config(options.root_file.as_deref())?)),
            _ => None,
        };
        let session = match work {
            // A node that hangs must not hold the others' rows, and a lock that is not given is an error, not a
            // standstill.
            Work::Write => "SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '10s';",
            Work::Read | Work::ReadAnywhere => "SET default_transaction_read_only = on;",
        };
        // What looks at a database by command reads as much as there is.
        let session = match work {
            Work::Write | Work::Read => format!("{session} SET statement_timeout = {};", statement_time.as_millis()),
            Work::ReadAnywhere => session.to_owned(),
        };
        Ok(Self { config, tls, work, session })
    }

    /// A connection of a command that goes through a whole database: it may take its time.
    pub(crate) fn unhurried(url: &str, work: Work) -> Result<Self, StoreError> {
        let mut connector = Self::new(url, work, Duration::ZERO)?;
        if work == Work::Write {
            connector.session.clear();
        }
        Ok(connector)
    }

    /// Connects, sets the session up and refuses settings that lose what was committed.
    pub(crate) async fn connect(&self) -> Result<Link, StoreError> {
        Ok(self.connect_to_listen(|_| {}).await?.0)
    }

    /// Connects like [`Connector::connect`] for the first time, and refuses a pool that shares sessions. Behind such a
    /// pool a server may only seem to take no changes: somebody who reads has told a session so that is now ours.
    pub(crate) async fn connect_to_change(&self) -> Result<Link, StoreError> {
        let mut config = self.config.clone();
        config.target_session_attrs(TargetSessionAttrs::Any);
        let any = Self { config, tls: self.tls.clone(), work: Work::ReadAnywhere, session: String::new() };
        let connected = self.connect().await;
        match &connected {
            Ok(link) => link.refuse_shared_sessions(&any).await?,
            Err(StoreError::ReadOnly(_)) => any.connect().await?.refuse_shared_sessions(&any).await?,
            Err(_) => {}
        }
        connected
    }

    /// Connects like [`Connector::connect`], and hands on what is told on the channels that the connection listens to. The
    /// task ends with the connection.
    pub(crate) async fn connect_to_listen(
        &self,
        told: impl Fn(&str) + Send + Clone + 'static,
    ) -> Result<(Link, JoinHandle<()>), StoreError> {
        let patience = SET_UP_TIMEOUT * u32::try_from(self.config.get_hosts().len().max(1)).unwrap_or(1);
        let connected = tokio::time::timeout(patience, self.connect_and_set_up(told)).await;
        connected
            .unwrap_or_else(|_| Err(StoreError::Unavailable("no connection to PostgreSQL: it says nothing".into())))
    }

    async fn connect_and_set_up(
        &self,
        told: impl Fn(&str) + Send + Clone + 'static,
    ) -> Result<(Link, JoinHandle<()>), StoreError> {
        match self.connect_with(&self.config, told.clone()).await {
            Ok((client, task)) => Ok((self.set_up(client).await?, task)),
            // Nobody takes changes. What is there may be read from a server that is no standby.
            Err(StoreError::ReadOnly(_)) if self.work == Work::Read => {
                let mut config = self.config.clone();
                config.target_session_attrs(TargetSessionAttrs::Any);
                let (client, task) = self.connect_with(&config, told).await?;
                let link = self.set_up(client).await?;
                link.refuse_standby().await?;
                Ok((link, task))
            }
            Err(error) => Err(error),
        }
    }

    async fn connect_with(
        &self,
        config: &Config,
        told: impl Fn(&str) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), StoreError> {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(connect_error)?;
                Ok((client, tokio::spawn(hand_on(connection, told))))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(connect_error)?;
                Ok((client, tokio::spawn(hand_on(connection, told))))
            }
        }
    }

    async fn set_up(&self, client: Client) -> Result<Link, StoreError> {
        let link = Link { client, statements: Mutex::default() };
        link.control("SET client_min_messages = warning; SET timezone = 'UTC'; SET standard_conforming_strings = on;")
            .await?;
        // No statement of ours runs for as long as it takes to compile one.
        link.control("SET jit = off").await?;
        link.control(&self.session).await?;
        link.refuse_unsafe_settings().await?;
        Ok(link)
    }
}

/// Runs the connection until it ends, and hands on what is told on it.
async fn hand_on<S, T>(mut connection: Connection<S, T>, told: impl Fn(&str))
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            None => return,
            Some(Ok(AsyncMessage::Notification(notification))) => told(notification.payload()),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(error = %describe(&error), "a connection to PostgreSQL ended");
                return;
            }
        }
    }
}

impl Link {
    async fn refuse_unsafe_settings(&self) -> Result<(), StoreError> {
        if !matches!(self.setting("synchronous_commit").await?.as_str(), "on" | "remote_apply") {
            self.control("SET synchronous_commit = on").await?;
        }
        let settings = ServerSettings {
            version: self.setting("server_version_num").await?.parse().unwrap_or(0),
            fsync: self.setting("fsync").await?,
            full_page_writes: self.setting("full_page_writes").await?,
            synchronous_commit: self.setting("synchronous_commit").await?,
            encoding: self.setting("server_encoding").await?,
        };
        settings.refusal().map_or(Ok(()), |why| Err(StoreError::Refused(why)))
    }

    /// Refuses a server that only follows another one.
    async fn refuse_standby(&self) -> Result<(), StoreError> {
        match self.client.simple_query("SELECT pg_is_in_recovery()").await {
            Ok(answer) if first_text(&answer).as_deref() == Some("f") => Ok(()),
            Ok(_) => Err(StoreError::ReadOnly(
                "the server is a standby, and none that takes changes is reached; what a standby has may be old".into(),
            )),
            Err(error) => Err(LinkError::from(error).into()),
        }
    }

    /// Refuses a connection pool that gives one session of the server to several of its clients: what a session has set
    /// or prepared would be another one's, and nothing that is told would be heard.
    async fn refuse_shared_sessions(&self, others: &Connector) -> Result<(), StoreError> {
        let other = others.connect().await?;
        for _ in 0..3 {
            let (one, two) = (self.backend().await?, other.backend().await?);
            if one == two {
                return Err(shared_sessions());
            }
        }
        Ok(())
    }

    /// The process of the server that answers.
    async fn backend(&self) -> Result<Option<String>, StoreError> {
        match self.client.simple_query("SELECT pg_backend_pid()").await {
            Ok(answer) => Ok(first_text(&answer)),
            Err(error) => Err(LinkError::from(error).into()),
        }
    }

    async fn setting(&self, name: &'static str) -> Result<String, StoreError> {
        let rows = self.rows("SELECT current_setting($1)", &[name.into()]).await?;
        rows.first().map_or(Ok(String::new()), |row| row.string(0))
    }

    /// Brings the schema up to date, each step in its own transaction; other nodes wait for their turn.
    pub(crate) async fn migrate(&self) -> Result<(), StoreError> {
        let mut attempts = 0;
        loop {
            self.control("BEGIN").await?;
            match self.migrate_one_step().await {
                Ok(true) => self.control("COMMIT").await?,
                Ok(false) => return Ok(self.control("COMMIT").await?),
                Err(error) => {
                    // The first error is the one to tell; without a connection there is nothing to roll back.
                    drop(self.control("ROLLBACK").await);
                    attempts += 1;
                    if attempts == MIGRATION_ATTEMPTS || self.is_closed() || !error.is_passing() {
                        return Err(error);
                    }
                    tracing::info!(%error, "a migration waits for what the other nodes are doing");
                    tokio::time::sleep(MIGRATION_PAUSE).await;
                }
            }
        }
    }

    /// Applies the next migration and says whether there was one.
    async fn migrate_one_step(&self) -> Result<bool, StoreError> {
        self.control("SET LOCAL lock_timeout = '5min'; SET LOCAL statement_timeout = 0").await?;
        self.rows("SELECT pg_advisory_xact_lock($1) IS NULL", &[MIGRATION_LOCK.into()]).await?;
        self.control(migrate::CREATE_TABLE).await?;
        let applied = self.rows(migrate::SELECT_APPLIED, &[]).await?;
        let Some(migration) = migrate::pending(&applied)?.first() else {
            return Ok(false);
        };
        tracing::info!(migration.name, "applying a migration");
        // Who waits for a table keeps everybody waiting who comes after: other nodes are at work on it.
        self.control("SET LOCAL lock_timeout = '2s'").await?;
        self.control(&migration.for_postgres()).await?;
        let sql = "INSERT INTO schema_migrations (version, name, checksum, applied_at) \
            VALUES ($1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";
        let params = [migration.version.into(), migration.recorded_name().into(), migration.checksum().into()];
        self.rows(sql, &params).await?;
        Ok(true)
    }

    /// Commits the transaction that is open.
    pub(crate) async fn commit(&self) -> Result<(), CommitError> {
        let Err(error) = self.client.batch_execute("COMMIT").await else { return Ok(()) };
        let is_answer = error.as_db_error().is_some();
        let error = LinkError::from(error);
        match error.remedy {
            Remedy::Nothing | Remedy::Again if is_answer => Err(CommitError::Refused(error)),
            // A server that is told to stop may have kept it before it said so.
            Remedy::Nothing | Remedy::Again | Remedy::Reconnect => Err(CommitError::NoAnswer(error.error.to_string())),
        }
    }

    /// Runs statements that take no parameters.
    pub(crate) async fn control(&self, sql: &str) -> Result<(), LinkError> {
        self.client.batch_execute(sql).await.map_err(LinkError::from)
    }

    /// Runs a query.
    pub(crate) async fn rows(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, LinkError> {
        let prepared = self.prepare(sql, params).await?;
        let rows = self.client.query(&prepared.statement, &borrowed(params)).await.map_err(LinkError::from)?;
        rows.iter().map(|row| row_of(row).map_err(LinkError::from)).collect()
    }

    /// Runs a query that is made up at run time and takes no parameters. It is not kept prepared.
    pub(crate) async fn rows_of(&self, sql: &str) -> Result<Vec<Row>, LinkError> {
        let rows = self.client.query(sql, &[]).await.map_err(LinkError::from)?;
        rows.iter().map(|row| row_of(row).map_err(LinkError::from)).collect()
    }

    /// Runs a `COPY … FROM STDIN BINARY` with these rows, whose columns have these types.
    pub(crate) async fn copy_in(&self, sql: &str, types: &[Type], rows: &[Vec<Value>]) -> Result<(), LinkError> {
        let sink = self.client.copy_in(sql).await.map_err(LinkError::from)?;
        let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, types));
        for row in rows {
            writer.as_mut().write_raw(row.iter()).await.map_err(LinkError::from)?;
        }
        writer.finish().await.map(drop).map_err(LinkError::from)
    }

    /// Runs a statement, whatever it answers.
    pub(crate) async fn execute(&self, sql: &'static str, params: &[Value]) -> Result<u64, LinkError> {
        let prepared = self.prepare(sql, params).await?;
        self.client.execute_raw(&prepared.statement, params).await.map_err(LinkError::from)
    }

    /// A statement as this connection has it prepared.
    pub(crate) async fn prepare<'a>(&self, sql: &'static str, params: &'a [Value]) -> Result<Prepared<'a>, LinkError> {
        let known = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = self.client.prepare(sql).await.map_err(LinkError::from)?;
                self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
                statement
            }
        };
        if statement.params().len() != params.len() {
            let (wanted, given) = (statement.params().len(), params.len());
            return Err(StoreError::Engine(format!("{given} parameters for a statement that takes {wanted}")).into());
        }
        Ok(Prepared { statement, params })
    }

    /// Sends `BEGIN` and all statements without waiting in between, then collects how many rows each changed.
    pub(crate) async fn begin_and_execute(
        &self,
        list: &[Prepared<'_>],
    ) -> Result<Vec<Result<u64, LinkError>>, LinkError> {
        type Execution<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;
        let mut begin = Box::pin(self.client.batch_execute("BEGIN"));
        let begun = poll_once(begin.as_mut()).await;
        let mut executions: Vec<(Execution<'_>, Poll<Result<u64, Error>>)> = Vec::with_capacity(list.len());
        for one in list {
            let mut execution: Execution<'_> = Box::pin(self.client.execute_raw(&one.statement, one.params));
            // A request goes out when its future is first polled, so this fixes the order.
            let polled = poll_once(execution.as_mut()).await;
            executions.push((execution, polled));
        }
        let begun = finish(begin, begun).await;
        let mut counts = Vec::with_capacity(list.len());
        for (execution, polled) in executions {
            counts.push(finish(execution, polled).await.map_err(LinkError::from));
        }
        begun.map_err(LinkError::from)?;
        Ok(counts)
    }

    /// Whether the connection is known to have ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

async fn finish<F: Future + ?Sized>(future: Pin<Box<F>>, polled: Poll<F::Output>) -> F::Output {
    match polled {
        Poll::Ready(output) => output,
        Poll::Pending => future.await,
    }
}

/// The settings of a server that decide whether a commit survives.
struct ServerSettings {
    version: i64,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    encoding: String,
}

impl ServerSettings {
    /// Why it is not safe to run on this server.
    fn refusal(&self) -> Option<String> {
        if self.version < SERVER_VERSION_MIN {
            return Some(format!("PostgreSQL 15 or newer is needed, server_version_num is {}", self.version));
        }
        for (name, value) in [("fsync", &self.fsync), ("full_page_writes", &self.full_page_writes)] {
            if value != "on" {
                return Some(format!("PostgreSQL runs with {name} = {value}, which loses commits at a crash"));
            }
        }
        if !matches!(self.synchronous_commit.as_str(), "on" | "remote_apply") {
            return Some(format!(
                "PostgreSQL keeps synchronous_commit = {}, which loses commits at a crash",
                self.synchronous_commit
            ));
        }
        if self.encoding != "UTF8" {
            return Some(format!("the database has the encoding {}, UTF8 is needed", self.encoding));
        }
        None
    }
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match (self, kind) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(value), &Type::INT8) => value.to_sql(kind, out),
            (Self::Int(value), &Type::INT4) => i32::try_from(*value)?.to_sql(kind, out),
            (Self::Int(value), &Type::INT2) => i16::try_from(*value)?.to_sql(kind, out),
            (Self::Int(value @ (0 | 1)), &Type::BOOL) => (*value == 1).to_sql(kind, out),
            (Self::Text(value), kind) if <&str as ToSql>::accepts(kind) => value.as_str().to_sql(kind, out),
            (Self::Blob(value), &Type::BYTEA) => value.as_slice().to_sql(kind, out),
            (value @ (Self::Int(_) | Self::Text(_) | Self::Blob(_)), kind) => {
                Err(format!("{value:.20?} for a parameter of type {kind}").into())
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(match *kind {
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT2 => Self::Int(i16::from_sql(kind, raw)?.into()),
            Type::BOOL => Self::Int(bool::from_sql(kind, raw)?.into()),
            Type::BYTEA => Self::Blob(raw.to_vec()),
            _ => Self::Text(<&str>::from_sql(kind, raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::INT2 | Type::BOOL | Type::BYTEA)
            || <&str as FromSql>::accepts(kind)
    }
}

fn borrowed(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn row_of(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let values: Result<Vec<Value>, Error> = (0..row.len()).map(|column| row.try_get(column)).collect();
    values.map(Row::new).map_err(|error| StoreError::Engine(describe(&error)))
}

/// The first value of what a simple query answered.
fn first_text(answer: &[SimpleQueryMessage]) -> Option<String> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

fn shared_sessions() -> StoreError {
    StoreError::Refused(
        "between here and PostgreSQL is a connection pool that shares sessions (PgBouncer with pool_mode = transaction \
         or statement): Chancery needs pool_mode = session there, or the server's own address"
            .into(),
    )
}

fn connect_error(error: Error) -> StoreError {
    let refused = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    // That is how the driver says that none of the servers takes changes.
    if refused.is_some_and(|refused| refused.to_string().contains("does not allow writes")) {
        return StoreError::ReadOnly(
            "no server that takes changes is reached: it is a standby, or has default_transaction_read_only".into(),
        );
    }
    StoreError::Unavailable(format!("no connection to PostgreSQL: {}", describe(&error)))
}

impl From<Error> for LinkError {
    fn from(error: Error) -> Self {
        let text = describe(&error);
        let Some(database) = error.as_db_error() else {
            return match error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()) {
                true => Self { error: StoreError::Unavailable(text), remedy: Remedy::Reconnect },
                false => StoreError::Engine(text).into(),
            };
        };
        let code = database.code().code();
        let remedy = match code {
            "40001" | "40P01" => Remedy::Again,
            // The server is told to stop, or is not up yet.
            "57P01" | "57P02" | "57P03" | "57P05" => Remedy::Reconnect,
            _ if code.starts_with("08") => Remedy::Reconnect,
            _ => Remedy::Nothing,
        };
        let error = match code.get(..2) {
            Some("23") => StoreError::Conflict { constraint: constraint_name(database) },
            _ if code == "25006" => StoreError::ReadOnly(text),
            // A statement that this session has prepared is not there, or one that it has not is.
            _ if matches!(code, "26000" | "42P05") => shared_sessions(),
            // Connection trouble, a transaction that lost, no resources, an operator's doing, a lock that was not
            // given, an I/O error.
            Some("08" | "25" | "40" | "53" | "55" | "57" | "58") => StoreError::Unavailable(text),
            _ if matches!(code, "XX001" | "XX002") => StoreError::Corrupt(text),
            _ => StoreError::Engine(text),
        };
        Self { error, remedy }
    }
}

/// The name that the engine for SQLite gives the constraint too.
fn constraint_name(error: &DbError) -> String {
    if *error.code() == SqlState::FOREIGN_KEY_VIOLATION {
        tracing::debug!(constraint = error.constraint(), "a foreign key does not allow a change");
        return "foreign key".into();
    }
    match (error.constraint(), error.table(), error.column()) {
        (Some(constraint), ..) => constraint.to_owned(),
        (None, Some(table), Some(column)) => format!("{table}.{column}"),
        (None, ..) => error.message().to_owned(),
    }
}

/// The error with its cause; that of the server begins with its code.
fn describe(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(database), _) => format!("{} {}", database.code().code(), database.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_can_lose_commits_is_refused() {
        let check = |change: fn(&mut ServerSettings), expected: Option<&str>| {
            let mut settings = ServerSettings {
                version: 150_000,
                fsync: "on".into(),
                full_page_writes: "on".into(),
                synchronous_commit: "on".into(),
                encoding: "UTF8".into(),
            };
            change(&mut settings);
            let refusal = settings.refusal();
            match expected {
                None => assert_eq!(refusal, None),
                Some(expected) => assert!(refusal.as_ref().is_some_and(|why| why.contains(expected)), "{refusal:?}"),
            }
        };
        check(|_| {}, None);
        check(|settings| settings.synchronous_commit = "remote_apply".into(), None);
        check(|settings| settings.version = 149_999, Some("15 or newer"));
        check(|settings| settings.fsync = "off".into(), Some("fsync"));
        check(|settings| settings.full_page_writes = "off".into(), Some("full_page_writes"));
        check(|settings| settings.encoding = "SQL_ASCII".into(), Some("SQL_ASCII"));
        for below in ["off", "local", "remote_write", ""] {
            let mut settings = ServerSettings {
                version: 170_000,
                fsync: "on".into(),
                full_page_writes: "on".into(),
                synchronous_commit: below.into(),
                encoding: "UTF8".into(),
            };
            assert!(settings.refusal().is_some(), "{below}");
            settings.synchronous_commit = "on".into();
            assert!(settings.refusal().is_none());
        }
    }
}
