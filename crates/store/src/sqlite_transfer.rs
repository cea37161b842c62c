//! A SQLite file as what everything is read from, and as what everything is put into.

use crate::db::transfer::Take;
use crate::error::StoreError;
use crate::sqlite_link::{Link, lock, prepare_file, value_of};
use crate::transfer::{Column, Described, Kind, Table, list, must_be_all, quoted};
use crate::{Value, migrate};
use rusqlite::params_from_iter;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// How many rows are committed at once: the write-ahead log is not to grow as large as the database.
const ROWS_AT_ONCE: u64 = 50_000;

/// A file that is read in one transaction.
pub(crate) struct SqliteSource {
    link: Link,
}

impl SqliteSource {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut link = Link::open_reader(path)?;
        link.control("BEGIN")?;
        // The first statement that reads fixes the moment.
        migrate::check_complete(&link.rows(migrate::SELECT_APPLIED, &[])?)?;
        Ok(Self { link })
    }

    pub(crate) fn describe(&mut self) -> Result<Vec<Described>, StoreError> {
        describe(&mut self.link)
    }

    pub(crate) fn read(&mut self, table: &Table, take: &mut Take<'_>) -> Result<(), StoreError> {
        let sql = format!("SELECT {} FROM {} ORDER BY {}", table.names(), quoted(&table.name), list(&table.key));
        let failed = |error: rusqlite::Error| self.link.store_error(&error);
        let mut statement = self.link.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(failed)? {
            let values: rusqlite::Result<Vec<Value>> =
                (0..table.columns.len()).map(|column| value_of(row, column)).collect();
            take(values.map_err(failed)?)?;
        }
        Ok(())
    }

    pub(crate) fn close(self) -> Result<(), StoreError> {
        self.link.control("COMMIT")
    }
}

/// A new file. Nobody else knows it, so it may be filled in several transactions: it is there as a whole, or it is
/// removed.
pub(crate) struct SqliteTarget {
    link: Link,
    path: PathBuf,
    rows: u64,
    _lock: File,
}

impl SqliteTarget {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            return Err(StoreError::Refused(format!("{} is there already", path.display())));
        }
        prepare_file(path)?;
        let lock = lock(path)?;
        let mut link = Link::open_writer(Some(path))?;
        link.migrate()?;
        Ok(Self { link, path: path.to_owned(), rows: 0, _lock: lock })
    }

    pub(crate) fn describe(&mut self) -> Result<Vec<Described>, StoreError> {
        describe(&mut self.link)
    }

    pub(crate) fn begin(&mut self, _: &[Table], seeded: &[&str]) -> Result<(), StoreError> {
        // References are looked at when all is there: rows of one table refer to each other in any order.
        self.link.control("PRAGMA foreign_keys = OFF")?;
        self.link.control("BEGIN IMMEDIATE")?;
        seeded.iter().try_for_each(|table| self.link.control(&format!("DELETE FROM {}", quoted(table))))
    }

    pub(crate) fn insert(&mut self, table: &Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let places: Vec<String> = (1..=table.columns.len()).map(|place| format!("?{place}")).collect();
        let sql = format!("INSERT INTO {} ({}) VALUES ({})", quoted(&table.name), table.names(), places.join(", "));
        let run = || {
            let mut statement = self.link.connection.prepare_cached(&sql)?;
            rows.iter().try_for_each(|row| statement.execute(params_from_iter(row)).map(drop))
        };
        run().map_err(|error| self.link.store_error(&error))?;
        self.rows += rows.len() as u64;
        if self.rows >= ROWS_AT_ONCE {
            self.rows = 0;
            self.link.control("COMMIT")?;
            self.link.control("BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self, tables: &[Table], counts: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        let checked = self.check(tables, counts);
        match checked {
            Ok(()) => {
                self.link.control("COMMIT")?;
                self.link.control("PRAGMA optimize")?;
                self.link.rows("PRAGMA wal_checkpoint(TRUNCATE)", &[]).map(drop)
            }
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    fn check(&mut self, tables: &[Table], counts: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        for table in tables {
            let sql = format!("SELECT COUNT(*) FROM {}", quoted(&table.name));
            let found = self.link.connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
            let found = found.map_err(|error| self.link.store_error(&error))?;
            must_be_all(table, counts, found)?;
        }
        match self.link.rows("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1", &[])?.first() {
            None => Ok(()),
            Some(row) => Err(StoreError::Corrupt(format!("a row of {} refers to one that is not there", row.text(0)?))),
        }
    }

    pub(crate) fn give_up(self) {
        let path = self.path.clone();
        drop(self);
        for ending in ["", "-wal", "-shm", ".lock"] {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            // What is not there need not be removed.
            let _ = std::fs::remove_file(name);
        }
    }
}

fn describe(link: &mut Link) -> Result<Vec<Described>, StoreError> {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let columns = "SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid";
    let references = "SELECT DISTINCT \"table\" FROM pragma_foreign_key_list($1)";
    let mut described = Vec::new();
    for row in link.rows(tables, &[])? {
        let name = row.string(0)?;
        let mut table = Table { name: name.clone(), columns: Vec::new(), key: Vec::new() };
        let mut key = BTreeMap::new();
        for row in link.rows(columns, &[name.as_str().into()])? {
            let kind = match row.text(1)? {
                "INTEGER" | "BIGINT" => Kind::Integer,
                "TEXT" => Kind::Text,
                "BLOB" => Kind::Blob,
                other => return Err(StoreError::Engine(format!("a column of the type {other}"))),
            };
            table.columns.push(Column { name: row.string(0)?, kind });
            key.insert(row.int(2)?, row.string(0)?);
        }
        table.key = key.into_iter().filter(|(place, _)| *place > 0).map(|(_, name)| name).collect();
        let refers_to: Result<BTreeSet<String>, StoreError> =
            link.rows(references, &[name.into()])?.iter().map(|row| row.string(0)).collect();
        described.push(Described { table, refers_to: refers_to? });
    }
    Ok(described)
}
