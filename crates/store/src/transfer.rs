//! Moves everything from one database to another of either engine, by a file in between: every table, row by row, in an
//! order in which each row follows those that it refers to.
//!
//! It knows no noun: which tables and columns there are is read from the database. Rows are handed on one by one, so
//! that memory does not grow with what there is.

mod file;

use crate::db::transfer::{Source, Target};
use crate::error::StoreError;
use crate::migrate::MIGRATIONS;
use crate::{Settings, Value};
use file::{Frame, Reader, Writer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use x509::digest;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The columns of the primary key: rows are in their order.
    pub(crate) key: Vec<String>,
}

impl Table {
    /// The columns as they are written in a statement.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        list(&names)
    }
}

/// Names as they are written in a statement.
pub(crate) fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<String>>().join(", ")
}

/// A name as it is written in a statement.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a table has as many rows as were counted.
pub(crate) fn must_be_all(table: &Table, counts: &BTreeMap<String, u64>, found: i64) -> Result<(), StoreError> {
    let expected = counts.get(&table.name).copied().unwrap_or(0);
    match u64::try_from(found) == Ok(expected) {
        true => Ok(()),
        false => Err(StoreError::Corrupt(format!("{} has {found} rows where {expected} were exported", table.name))),
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Integer,
    Text,
    Blob,
}

/// A table and those that it refers to.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) table: Table,
    pub(crate) refers_to: BTreeSet<String>,
}

/// What stands at the beginning of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The version of the program that wrote it.
    pub program: String,
    /// The version of the schema.
    pub schema_version: i64,
    /// SHA-256 over the texts of all migrations.
    schema: String,
    /// The engine that it comes from.
    pub engine: String,
    /// When it was begun, in UTC.
    pub made_at: String,
    tables: Vec<Table>,
}

/// What was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
    /// SHA-256 over all rows. Databases with the same rows have the same, whatever their engine.
    pub contents: String,
}

impl Summary {
    /// Rows of all tables.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }
}

/// What a table is called whose rows are the schema's own; they are not moved.
pub(crate) const MIGRATIONS_TABLE: &str = "schema_migrations";

/// Tables in which the migrations put a row. In an empty database they are not empty.
const SEEDED: [&str; 2] = ["certificate_count", "configuration_epoch"];

/// After how many rows it is told how far it is.
const PROGRESS: u64 = 100_000;

/// How many octets of rows are inserted at once.
const BATCH_OCTETS: usize = 1 << 20;
/// And how many rows.
const BATCH_ROWS: usize = 1000;

/// Writes everything as it is at one moment. `progress` hears of tables and of rows of them.
pub async fn export(
    settings: &Settings,
    program: &str,
    made_at: &str,
    to: impl Write + Send,
    mut progress: impl FnMut(&str, u64) + Send,
) -> Result<Summary, StoreError> {
    let mut source = Source::open(settings).await?;
    let tables = in_order(source.describe().await?)?;
    let header = Header {
        program: program.into(),
        schema_version: crate::backup::schema_version(),
        schema: schema_digest(),
        engine: source.engine_name().into(),
        made_at: made_at.into(),
        tables,
    };
    let mut writer = Writer::begin(to, &header)?;
    for (index, table) in header.tables.iter().enumerate() {
        writer.table(index)?;
        let mut rows = 0;
        source
            .read(table, &mut |values| {
                check_kinds(table, &values)?;
                writer.row(&values)?;
                rows += 1;
                if rows % PROGRESS == 0 {
                    progress(&table.name, rows);
                }
                Ok(())
            })
            .await?;
        if rows % PROGRESS != 0 {
            progress(&table.name, rows);
        }
        writer.counted(&table.name, rows);
    }
    source.close().await?;
    writer.finish()
}

/// Reads a file to its end and checks that it is whole; what is in it is not looked at any further.
pub fn check(from: impl Read) -> Result<(Header, Summary), StoreError> {
    let mut reader = Reader::begin(from)?;
    while reader.next()?.is_some() {}
    reader.finish()
}

/// Puts everything of a file that was [checked](check) into an empty database: all of it or nothing.
pub async fn import(
    settings: &Settings,
    from: impl Read + Send,
    mut progress: impl FnMut(&str, u64) + Send,
) -> Result<Summary, StoreError> {
    let mut reader = Reader::begin(from)?;
    let header = reader.header().clone();
    must_have_this_schema(&header)?;
    let mut target = Target::open(settings).await?;
    let loaded = load(&mut target, &mut reader, &header, &mut progress).await;
    let summary = match loaded {
        Ok(()) => reader.finish().map(|(_, summary)| summary),
        Err(error) => Err(error),
    };
    match summary {
        Ok(summary) => {
            target.finish(&header.tables, &summary.rows).await?;
            Ok(summary)
        }
        Err(error) => {
            target.give_up().await;
            Err(error)
        }
    }
}

async fn load(
    target: &mut Target,
    reader: &mut Reader<impl Read + Send>,
    header: &Header,
    progress: &mut (impl FnMut(&str, u64) + Send),
) -> Result<(), StoreError> {
    let tables = in_order(target.describe().await?)?;
    if tables != header.tables {
        return Err(StoreError::Refused("the tables of the export are not those of this database".into()));
    }
    target.begin(&tables, &SEEDED).await?;
    let mut batch = Batch::default();
    let mut current: Option<(&Table, u64)> = None;
    while let Some(frame) = reader.next()? {
        match frame {
            Frame::Table(index) => {
                if let Some((table, rows)) = current {
                    target.insert(table, &batch.take()).await?;
                    progress(&table.name, rows);
                }
                current = Some((&tables[index], 0));
            }
            Frame::Row(values) => {
                let Some((table, rows)) = &mut current else {
                    return Err(StoreError::Corrupt("a row before its table".into()));
                };
                check_kinds(table, &values)?;
                batch.push(values);
                *rows += 1;
                if batch.is_full() {
                    target.insert(table, &batch.take()).await?;
                }
                if *rows % PROGRESS == 0 {
                    progress(&table.name, *rows);
                }
            }
        }
    }
    if let Some((table, rows)) = current {
        target.insert(table, &batch.take()).await?;
        progress(&table.name, rows);
    }
    Ok(())
}

/// Rows that wait to be inserted.
#[derive(Default)]
struct Batch {
    rows: Vec<Vec<Value>>,
    octets: usize,
}

impl Batch {
    fn push(&mut self, values: Vec<Value>) {
        let octets = |value: &Value| match value {
            Value::Null | Value::Int(_) => 8,
            Value::Text(text) => text.len(),
            Value::Blob(blob) => blob.len(),
        };
        self.octets += values.iter().map(octets).sum::<usize>();
        self.rows.push(values);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.octets >= BATCH_OCTETS
    }

    fn take(&mut self) -> Vec<Vec<Value>> {
        self.octets = 0;
        std::mem::take(&mut self.rows)
    }
}

fn must_have_this_schema(header: &Header) -> Result<(), StoreError> {
    let known = crate::backup::schema_version();
    if header.schema_version != known || header.schema != schema_digest() {
        return Err(StoreError::Refused(format!(
            "the export is of chancery {} with schema version {}, and this program has schema version {known}: export \
             and import with the same release",
            header.program, header.schema_version
        )));
    }
    Ok(())
}

fn schema_digest() -> String {
    let mut all = digest::Sha256::default();
    MIGRATIONS.iter().for_each(|migration| all.update(migration.checksum().as_bytes()));
    hex(&all.finish())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Whether every value is of the kind of its column. SQLite would keep anything, and PostgreSQL would not.
fn check_kinds(table: &Table, values: &[Value]) -> Result<(), StoreError> {
    if values.len() != table.columns.len() {
        let (found, expected) = (values.len(), table.columns.len());
        return Err(StoreError::Corrupt(format!("a row of {} with {found} values and not {expected}", table.name)));
    }
    for (value, column) in values.iter().zip(&table.columns) {
        let is_kind = match value {
            Value::Null => true,
            Value::Int(_) => column.kind == Kind::Integer,
            Value::Text(_) => column.kind == Kind::Text,
            Value::Blob(_) => column.kind == Kind::Blob,
        };
        if !is_kind {
            return Err(StoreError::Corrupt(format!("a value of another kind in {}.{}", table.name, column.name)));
        }
        value.check()?;
    }
    Ok(())
}

/// The tables so that each comes after those that it refers to; of those that may come next the first by name.
fn in_order(described: Vec<Described>) -> Result<Vec<Table>, StoreError> {
    let mut left: BTreeMap<String, Described> = described
        .into_iter()
        .map(|one| (one.table.name.clone(), one))
        .filter(|(name, _)| name != MIGRATIONS_TABLE)
        .collect();
    let mut ordered: Vec<Table> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let is_next =
            |one: &&Described| one.refers_to.iter().all(|other| *other == one.table.name || !left.contains_key(other));
        let next = left.values().find(is_next).map(|one| one.table.name.clone());
        let next = next.ok_or_else(|| StoreError::Engine("tables that refer to each other in a circle".into()))?;
        ordered.extend(left.remove(&next).map(|one| one.table));
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, refers_to: &[&str]) -> Described {
        let table = Table { name: name.into(), columns: vec![], key: vec![] };
        Described { table, refers_to: refers_to.iter().map(|other| (*other).into()).collect() }
    }

    #[test]
    fn an_export_of_another_schema_is_refused() {
        let mut header = Header {
            program: "1".into(),
            schema_version: crate::backup::schema_version(),
            schema: schema_digest(),
            engine: "sqlite".into(),
            made_at: "now".into(),
            tables: vec![],
        };
        must_have_this_schema(&header).unwrap();
        header.schema = "0".into();
        assert!(must_have_this_schema(&header).is_err());
        header.schema = schema_digest();
        header.schema_version -= 1;
        assert!(must_have_this_schema(&header).is_err());
    }

    #[test]
    fn tables_follow_those_that_they_refer_to() {
        let all = vec![
            described("a", &["c", "a"]),
            described("b", &[]),
            described("c", &["d"]),
            described("d", &["b"]),
            described("schema_migrations", &[]),
        ];
        let names: Vec<String> = in_order(all).unwrap().into_iter().map(|table| table.name).collect();
        assert_eq!(names, ["b", "d", "c", "a"]);
        assert!(in_order(vec![described("a", &["b"]), described("b", &["a"])]).is_err());
    }
}
