//! The two engines as what everything is read from, and as what everything is put into.

use super::{Engine, Settings};
use crate::Value;
use crate::error::StoreError;
use crate::postgres_transfer::{PostgresSource, PostgresTarget};
use crate::sqlite_transfer::{SqliteSource, SqliteTarget};
use crate::transfer::{Described, Table};
use std::collections::BTreeMap;

/// What takes a row that was read.
pub(crate) type Take<'a> = dyn FnMut(Vec<Value>) -> Result<(), StoreError> + Send + 'a;

/// A database as it is at one moment.
pub(crate) enum Source {
    Sqlite(SqliteSource),
    Postgres(PostgresSource),
}

impl Source {
    /// Opens it; what others commit from now on is not seen.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, StoreError> {
        match &settings.engine {
            Engine::Sqlite { path } => SqliteSource::open(path).map(Self::Sqlite),
            Engine::SqliteInMemory => Err(in_memory()),
            Engine::Postgres { url } => PostgresSource::open(url).await.map(Self::Postgres),
        }
    }

    pub(crate) fn engine_name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }

    pub(crate) async fn describe(&mut self) -> Result<Vec<Described>, StoreError> {
        match self {
            Self::Sqlite(source) => source.describe(),
            Self::Postgres(source) => source.describe().await,
        }
    }

    /// Hands over every row in the order of the primary key.
    pub(crate) async fn read(&mut self, table: &Table, take: &mut Take<'_>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(source) => source.read(table, take),
            Self::Postgres(source) => source.read(table, take).await,
        }
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(source) => source.close(),
            Self::Postgres(source) => source.close().await,
        }
    }
}

/// An empty database that is being filled.
pub(crate) enum Target {
    Sqlite(SqliteTarget),
    Postgres(PostgresTarget),
}

impl Target {
    /// Opens it and brings its schema up to date.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, StoreError> {
        match &settings.engine {
            Engine::Sqlite { path } => SqliteTarget::open(path).map(Self::Sqlite),
            Engine::SqliteInMemory => Err(in_memory()),
            Engine::Postgres { url } => PostgresTarget::open(url).await.map(Self::Postgres),
        }
    }

    pub(crate) async fn describe(&mut self) -> Result<Vec<Described>, StoreError> {
        match self {
            Self::Sqlite(target) => target.describe(),
            Self::Postgres(target) => target.describe().await,
        }
    }

    /// Begins, and refuses a database that is not empty. `seeded` are the tables that an empty one has rows in; they
    /// go.
    pub(crate) async fn begin(&mut self, tables: &[Table], seeded: &[&str]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(target) => target.begin(tables, seeded),
            Self::Postgres(target) => target.begin(tables, seeded).await,
        }
    }

    pub(crate) async fn insert(&mut self, table: &Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        match self {
            Self::Sqlite(target) => target.insert(table, rows),
            Self::Postgres(target) => target.insert(table, rows).await,
        }
    }

    /// Counts what is there now and keeps it for good.
    pub(crate) async fn finish(self, tables: &[Table], counts: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(target) => target.finish(tables, counts),
            Self::Postgres(target) => target.finish(tables, counts).await,
        }
    }

    /// Takes everything back.
    pub(crate) async fn give_up(self) {
        match self {
            Self::Sqlite(target) => target.give_up(),
            Self::Postgres(target) => target.give_up().await,
        }
    }
}

fn in_memory() -> StoreError {
    StoreError::Refused("a database in memory cannot be opened a second time".into())
}
