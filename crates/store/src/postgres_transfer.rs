//! A PostgreSQL database as what everything is read from, and as what everything is put into.

use crate::db::transfer::Take;
use crate::error::StoreError;
use crate::postgres::{SELECT_IS_EMPTY, must_not_be_empty};
use crate::postgres_link::{Connector, Link, Work};
use crate::transfer::{Column, Described, Kind, MIGRATIONS_TABLE, Table, list, must_be_all, quoted};
use crate::{Value, migrate};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::Type;

/// How many rows are fetched at once. Some hold a revocation list of a megabyte.
const FETCH: &str = "FETCH 64 FROM transfer";

/// A database that is read in one transaction.
pub(crate) struct PostgresSource {
    link: Link,
}

impl PostgresSource {
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let link = Connector::unhurried(url, Work::ReadAnywhere)?.connect().await?;
        link.control("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        must_not_be_empty(&link.rows(SELECT_IS_EMPTY, &[]).await?)?;
        migrate::check_complete(&link.rows(migrate::SELECT_APPLIED, &[]).await?)?;
        Ok(Self { link })
    }

    pub(crate) async fn describe(&mut self) -> Result<Vec<Described>, StoreError> {
        describe(&self.link).await
    }

    pub(crate) async fn read(&mut self, table: &Table, take: &mut Take<'_>) -> Result<(), StoreError> {
        let (names, name, key) = (table.names(), quoted(&table.name), list(&table.key));
        let declare = format!("DECLARE transfer NO SCROLL CURSOR FOR SELECT {names} FROM {name} ORDER BY {key}");
        self.link.control(&declare).await?;
        loop {
            let rows = self.link.rows_of(FETCH).await?;
            if rows.is_empty() {
                return Ok(self.link.control("CLOSE transfer").await?);
            }
            rows.into_iter().try_for_each(|row| take(row.into_values()))?;
        }
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(self.link.control("COMMIT").await?)
    }
}

/// A database that is filled in one transaction.
pub(crate) struct PostgresTarget {
    link: Link,
    /// The references of tables to themselves, which are looked at in the end: the table and the constraint.
    own: Vec<(String, String)>,
}

impl PostgresTarget {
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let link = Connector::unhurried(url, Work::Write)?.connect_to_change().await?;
        link.migrate().await?;
        // A server that starts on the database for the first time waits, or is waited for.
        link.rows("SELECT pg_advisory_lock($1) IS NULL", &[crate::postgres::FIRST_START_LOCK.into()]).await?;
        link.control("BEGIN").await?;
        Ok(Self { link, own: Vec::new() })
    }

    pub(crate) async fn describe(&mut self) -> Result<Vec<Described>, StoreError> {
        describe(&self.link).await
    }

    pub(crate) async fn begin(&mut self, tables: &[Table], seeded: &[&str]) -> Result<(), StoreError> {
        for table in tables.iter().filter(|table| !seeded.contains(&table.name.as_str())) {
            let sql = format!("SELECT 1::bigint FROM {} LIMIT 1", quoted(&table.name));
            if !self.link.rows_of(&sql).await?.is_empty() {
                return Err(StoreError::Refused(format!(
                    "the database is not empty: there are rows in {}",
                    table.name
                )));
            }
        }
        let own = "SELECT conrelid::regclass::text, conname::text FROM pg_constraint \
            WHERE contype = 'f' AND conrelid = confrelid AND connamespace = current_schema()::regnamespace \
            ORDER BY 1, 2";
        for row in self.link.rows(own, &[]).await? {
            let (table, constraint) = (row.string(0)?, quoted(row.text(1)?));
            self.link.control(&format!("ALTER TABLE {table} ALTER CONSTRAINT {constraint} DEFERRABLE")).await?;
            self.own.push((table, constraint));
        }
        self.link.control("SET CONSTRAINTS ALL DEFERRED").await?;
        for table in seeded {
            self.link.control(&format!("DELETE FROM {}", quoted(table))).await?;
        }
        Ok(())
    }

    pub(crate) async fn insert(&mut self, table: &Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let copy = format!("COPY {} ({}) FROM STDIN BINARY", quoted(&table.name), table.names());
        let kinds: Vec<Type> = table.columns.iter().map(|column| kind_of(column.kind)).collect();
        Ok(self.link.copy_in(&copy, &kinds, rows).await?)
    }

    pub(crate) async fn finish(self, tables: &[Table], counts: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        let done = self.settle(tables, counts).await;
        if done.is_err() {
            self.give_up().await;
        }
        done
    }

    async fn settle(&self, tables: &[Table], counts: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        self.link.control("SET CONSTRAINTS ALL IMMEDIATE").await?;
        for (table, constraint) in &self.own {
            self.link.control(&format!("ALTER TABLE {table} ALTER CONSTRAINT {constraint} NOT DEFERRABLE")).await?;
        }
        for table in tables {
            let rows = self.link.rows_of(&format!("SELECT COUNT(*) FROM {}", quoted(&table.name))).await?;
            let found = rows.first().map_or(Ok(0), |row| row.int(0))?;
            must_be_all(table, counts, found)?;
        }
        // Numbers that the database gives by itself go on after the highest.
        let numbered = "SELECT table_name::text, column_name::text FROM information_schema.columns \
            WHERE table_schema = current_schema() AND is_identity = 'YES' ORDER BY 1, 2";
        for row in self.link.rows(numbered, &[]).await? {
            let (table, column) = (quoted(row.text(0)?), quoted(row.text(1)?));
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{}'), COALESCE(MAX({column}), 1), \
                 MAX({column}) IS NOT NULL) FROM {table}",
                row.text(1)?
            );
            self.link.rows_of(&sql).await?;
        }
        self.link.control("ANALYZE").await?;
        Ok(self.link.control("COMMIT").await?)
    }

    pub(crate) async fn give_up(self) {
        // Without a connection there is nothing to roll back.
        drop(self.link.control("ROLLBACK").await);
    }
}

async fn describe(link: &Link) -> Result<Vec<Described>, StoreError> {
    let tables = "SELECT table_name::text FROM information_schema.tables \
        WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY 1";
    let columns = "SELECT column_name::text, data_type::text FROM information_schema.columns \
        WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let key = "SELECT a.attname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
        WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace AND i.indisprimary \
        ORDER BY array_position(i.indkey::int2[], a.attnum)";
    let references = "SELECT DISTINCT t.relname::text FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid \
        JOIN pg_class t ON t.oid = f.confrelid \
        WHERE f.contype = 'f' AND c.relname = $1 AND c.relnamespace = current_schema()::regnamespace";
    let mut described = Vec::new();
    for row in link.rows(tables, &[]).await? {
        let name = row.string(0)?;
        if name == MIGRATIONS_TABLE {
            continue;
        }
        let named: [Value; 1] = [name.as_str().into()];
        let mut table = Table { name, columns: Vec::new(), key: Vec::new() };
        for row in link.rows(columns, &named).await? {
            let kind = match row.text(1)? {
                "bigint" => Kind::Integer,
                "text" => Kind::Text,
                "bytea" => Kind::Blob,
                other => return Err(StoreError::Engine(format!("a column of the type {other}"))),
            };
            table.columns.push(Column { name: row.string(0)?, kind });
        }
        for row in link.rows(key, &named).await? {
            table.key.push(row.string(0)?);
        }
        let rows = link.rows(references, &named).await?;
        let refers_to: Result<BTreeSet<String>, StoreError> = rows.iter().map(|row| row.string(0)).collect();
        described.push(Described { table, refers_to: refers_to? });
    }
    Ok(described)
}

fn kind_of(kind: Kind) -> Type {
    match kind {
        Kind::Integer => Type::INT8,
        Kind::Text => Type::TEXT,
        Kind::Blob => Type::BYTEA,
    }
}
