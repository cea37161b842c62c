//! One connection to a SQLite database: how it is opened and secured, how it runs a statement, what its errors mean.
//!
//! It knows nothing of threads or of batches.

use crate::changes::Place;
use crate::{Row, StoreError, Value, migrate};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, config::DbConfig, ffi};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection, with the statements that it has prepared.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// Our SQL to that of SQLite.
    texts: HashMap<Place, Box<str>>,
}

/// How long another process may keep us from writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long we wait for a server that is about to stop.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 256;

/// The pages of a write-ahead log since it was begun anew.
pub(crate) struct LogPages {
    pub(crate) written: i64,
    /// Those that are not in the file yet.
    pub(crate) left: i64,
}

impl Link {
    /// A connection that writes to a file that is there, or without a path to memory.
    pub(crate) fn open_writer(path: Option<&Path>) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match path {
            Some(path) => Connection::open_with_flags(path, flags),
            None => Connection::open_in_memory_with_flags(flags | OpenFlags::SQLITE_OPEN_CREATE),
        };
        let link = Self::secured(connection.map_err(open_error)?)?;
        if path.is_some() {
            link.assert_pragma("journal_mode", "wal", "wal")?;
            // Where nobody copies the log earlier, SQLite does it at 64 MiB.
            link.set_pragma("wal_autocheckpoint", "16000")?;
            link.set_pragma("journal_size_limit", "67108864")?;
        }
        // NORMAL loses acknowledged commits when the power fails.
        link.assert_pragma("synchronous", "FULL", "2")?;
        link.assert_pragma("foreign_keys", "ON", "1")?;
        link.set_pragma("cache_size", "-8192")?;
        Ok(link)
    }

    /// A connection that only reads, also while another process writes.
    pub(crate) fn open_reader(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let link = Self::secured(Connection::open_with_flags(path, flags).map_err(open_error)?)?;
        link.assert_pragma("query_only", "ON", "1")?;
        link.set_pragma("cache_size", "-4096")?;
        Ok(link)
    }

    fn secured(connection: Connection) -> Result<Self, StoreError> {
        let link = Self { connection, texts: HashMap::new() };
        let connection = &link.connection;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(open_error)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // As PostgreSQL: "name" is never a string. And no statement may write to the schema's own table.
        for (config, on) in [
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            // A plan is made once for a statement. Without this, binding other values makes SQLite prepare it again.
            (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
        ] {
            connection.set_db_config(config, on).map_err(open_error)?;
        }
        link.set_pragma("trusted_schema", "OFF")?;
        link.set_pragma("temp_store", "MEMORY")?;
        // As PostgreSQL.
        link.set_pragma("case_sensitive_like", "ON")?;
        Ok(link)
    }

    fn set_pragma(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(&format!("PRAGMA {name} = {value}")).map_err(open_error)
    }

    /// Sets a pragma and reads it back.
    fn assert_pragma(&self, name: &str, value: &str, expected: &str) -> Result<(), StoreError> {
        self.set_pragma(name, value)?;
        let found = self.pragma(name)?;
        if found != expected {
            return Err(StoreError::Refused(format!("PRAGMA {name} is {found} where {expected} is needed")));
        }
        Ok(())
    }

    /// What a pragma says, as text.
    pub(crate) fn pragma(&self, name: &str) -> Result<String, StoreError> {
        let value = self.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        Ok(match value.map_err(open_error)? {
            rusqlite::types::Value::Integer(integer) => integer.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        })
    }

    /// Brings the schema up to date, each step in its own transaction.
    pub(crate) fn migrate(&mut self) -> Result<(), StoreError> {
        self.control("BEGIN IMMEDIATE")?;
        let applied = self.migrate_in_transaction();
        match applied {
            Ok(()) => self.control("COMMIT"),
            Err(error) => {
                self.rollback();
                Err(error)
            }
        }
    }

    fn migrate_in_transaction(&mut self) -> Result<(), StoreError> {
        self.control(migrate::CREATE_TABLE)?;
        for migration in migrate::pending(&self.rows(migrate::SELECT_APPLIED, &[])?)? {
            tracing::info!(migration.name, "applying a migration");
            self.control(migration.sql)?;
            let sql = "INSERT INTO schema_migrations (version, name, checksum, applied_at) \
                VALUES ($1, $2, $3, unixepoch() * 1000)";
            self.execute(
                sql,
                &[migration.version.into(), migration.recorded_name().into(), migration.checksum().into()],
            )?;
        }
        Ok(())
    }

    /// Writes the whole database as one read transaction sees it into a file that is there and empty.
    pub(crate) fn copy_into(&self, path: &Path) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
        let name = path.to_str().ok_or_else(|| StoreError::Refused("the path of the copy is not text".into()))?;
        // The file itself is opened to be read only; this lets another one be written.
        self.set_pragma("query_only", "OFF")?;
        self.connection.execute("VACUUM INTO ?1", [name]).map_err(|error| self.store_error(&error))?;
        File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
        File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// How long the write-ahead log is.
    pub(crate) fn log_pages(&mut self) -> Result<LogPages, StoreError> {
        let rows = self.rows("PRAGMA wal_checkpoint(NOOP)", &[])?;
        let Some(row) = rows.first() else { return Ok(LogPages { written: 0, left: 0 }) };
        let written = row.int(1)?;
        Ok(LogPages { written, left: written - row.int(2)? })
    }

    /// Copies as much of the write-ahead log into the file as is possible without waiting for anybody.
    pub(crate) fn copy_log(&mut self) -> Result<(), StoreError> {
        self.rows("PRAGMA wal_checkpoint(PASSIVE)", &[]).map(drop)
    }

    /// Runs statements that take no parameters and are run rarely.
    pub(crate) fn control(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(|error| self.store_error(&error))
    }

    /// Runs one of the statements that frame a transaction.
    pub(crate) fn frame(&self, sql: &'static str) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.raw_execute();
        run().map(|_| ()).map_err(|error| self.store_error(&error))
    }

    /// Rolls back if there is a transaction to roll back.
    pub(crate) fn rollback(&self) {
        if self.is_in_transaction()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a rollback failed");
        }
    }

    /// Some errors end the transaction by themselves.
    pub(crate) fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Runs a statement and says how many rows it changed or returned.
    pub(crate) fn execute(&mut self, sql: &'static str, params: &[Value]) -> Result<u64, StoreError> {
        let text = text_of(&mut self.texts, sql);
        let run = || {
            let mut statement = self.connection.prepare_cached(text)?;
            bind(&mut statement, params)?;
            if statement.column_count() == 0 {
                return statement.raw_execute().map(|count| count as u64);
            }
            let mut rows = statement.raw_query();
            let mut count = 0;
            while rows.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        run().map_err(|error| store_error(&self.connection, &error))
    }

    /// Runs a query that may also write.
    pub(crate) fn rows(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let text = text_of(&mut self.texts, sql);
        let run = || collect(self.connection.prepare_cached(text)?, params);
        run().map_err(|error| store_error(&self.connection, &error))
    }

    /// Runs a query that only reads, also on the connection that writes.
    pub(crate) fn read(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let text = text_of(&mut self.texts, sql);
        let statement = self.connection.prepare_cached(text).map_err(|error| store_error(&self.connection, &error))?;
        if !statement.readonly() {
            return Err(StoreError::Engine("a query that writes".into()));
        }
        collect(statement, params).map_err(|error| store_error(&self.connection, &error))
    }

    /// What an error of SQLite means to a caller.
    pub(crate) fn store_error(&self, error: &rusqlite::Error) -> StoreError {
        store_error(&self.connection, error)
    }
}

fn collect(mut statement: CachedStatement<'_>, params: &[Value]) -> rusqlite::Result<Vec<Row>> {
    bind(&mut statement, params)?;
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values: rusqlite::Result<Vec<Value>> = (0..columns).map(|column| value_of(row, column)).collect();
        found.push(Row::new(values?));
    }
    Ok(found)
}

fn text_of<'a>(texts: &'a mut HashMap<Place, Box<str>>, sql: &'static str) -> &'a str {
    texts.entry(Place::of(sql)).or_insert_with(|| migrate::for_sqlite(sql).into())
}

fn bind(statement: &mut CachedStatement<'_>, params: &[Value]) -> rusqlite::Result<()> {
    if statement.parameter_count() != params.len() {
        return Err(rusqlite::Error::InvalidParameterCount(params.len(), statement.parameter_count()));
    }
    for (position, param) in params.iter().enumerate() {
        statement.raw_bind_parameter(position + 1, param)?;
    }
    Ok(())
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

/// The value of a column of a row.
pub(crate) fn value_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(_) => Value::Text(row.get(column)?),
        ValueRef::Blob(value) => Value::Blob(value.to_vec()),
        ValueRef::Real(_) => {
            return Err(rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Real));
        }
    })
}

fn open_error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(format!("the database cannot be opened: {error}")),
    }
}

/// What an error of SQLite means to a caller.
fn store_error(connection: &Connection, error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    let rusqlite::Error::SqliteFailure(code, _) = error else {
        return StoreError::Engine(text);
    };
    match code.code {
        ErrorCode::ConstraintViolation => {
            StoreError::Conflict { constraint: constraint_name(connection, code.extended_code, &text) }
        }
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::DiskFull
        | ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted => StoreError::Unavailable(text),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt(text),
        _ => StoreError::Engine(text),
    }
}

/// The name that PostgreSQL gives the constraint too.
fn constraint_name(connection: &Connection, extended_code: i32, text: &str) -> String {
    let subject = text.split_once(" constraint failed: ").map_or(text, |(_, subject)| subject);
    match extended_code {
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "foreign key".into(),
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            unique_name(connection, subject).unwrap_or_else(|| subject.to_owned())
        }
        _ => subject.to_owned(),
    }
}

/// The index over the columns in `table.a, table.b`, by its name, or by that which PostgreSQL makes up for one without.
fn unique_name(connection: &Connection, subject: &str) -> Option<String> {
    // SQLite names the index itself where it is over expressions.
    if let Some(name) = subject.strip_prefix("index '") {
        return Some(name.trim_end_matches('\'').to_owned());
    }
    let pairs: Option<Vec<(&str, &str)>> = subject.split(", ").map(|pair| pair.split_once('.')).collect();
    let pairs = pairs?;
    let (table, _) = *pairs.first()?;
    let columns: Vec<&str> = pairs.iter().map(|(_, column)| *column).collect();
    let sql = "SELECT l.name, l.origin, group_concat(i.name, ',' ORDER BY i.seqno) \
        FROM pragma_index_list(?1) AS l, pragma_index_info(l.name) AS i WHERE l.\"unique\" = 1 GROUP BY l.name";
    let mut statement = connection.prepare_cached(sql).ok()?;
    let indexes = statement.query_map([table], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
    });
    let mut found = indexes.ok()?.filter_map(Result::ok).filter(|(.., of)| of.as_deref() == Some(&columns.join(",")));
    Some(match found.next() {
        Some((name, origin, _)) if origin == "c" => name,
        Some((_, origin, _)) if origin == "u" => format!("{table}_{}_key", columns.join("_")),
        // The primary key, which has no index when it is the row's own number.
        Some(_) | None => format!("{table}_pkey"),
    })
}

/// Makes the folder and the file for their owner only, and refuses a file system that cannot keep a promise.
pub(crate) fn prepare_file(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let folder = folder_of(path);
    if !folder.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    refuse_network(folder)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => restrict(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Takes away what others may do with the file. SQLite gives its `-wal` and `-shm` the same mode.
fn restrict(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the database was open to other users of this machine; it no longer is");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Locks and shared memory of SQLite do not work between the machines of a network file system.
fn refuse_network(folder: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::Unavailable(format!("{}: {error}", folder.display()));
    let kind = rustix::fs::statfs(folder).map_err(failed)?.f_type as u32;
    // The numbers are those of statfs(2).
    let name = match kind {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x00c3_6400 => "Ceph",
        _ => return Ok(()),
    };
    Err(StoreError::Refused(format!("{} is on {name}; use a local disk, or PostgreSQL", folder.display())))
}

/// The lock of the one server on a database file; it is free again when the file is closed, however the process ends.
pub(crate) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", Path::new(&name).display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name).map_err(failed)?;
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::Refused(format!("another server runs on {}", path.display())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        prepare_file(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn the_pragmas_that_keep_commits_are_in_force() {
        let (_folder, path) = file();
        let check = |link: &Link, name: &str, expected: &str| {
            assert_eq!(link.pragma(name).unwrap(), expected, "{name}");
        };
        let writer = Link::open_writer(Some(&path)).unwrap();
        check(&writer, "journal_mode", "wal");
        check(&writer, "synchronous", "2");
        check(&writer, "foreign_keys", "1");
        check(&Link::open_writer(None).unwrap(), "synchronous", "2");
        check(&Link::open_writer(None).unwrap(), "foreign_keys", "1");
        let reader = Link::open_reader(&path).unwrap();
        check(&reader, "journal_mode", "wal");
        check(&reader, "query_only", "1");
    }

    #[test]
    fn a_pragma_that_does_not_take_is_refused() {
        let (_folder, path) = file();
        let writer = Link::open_writer(Some(&path)).unwrap();
        for (name, value, expected) in [("synchronous", "NORMAL", "2"), ("journal_mode", "DELETE", "wal")] {
            match writer.assert_pragma(name, value, expected) {
                Err(StoreError::Refused(why)) => assert!(why.contains(name), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_local_disk_is_not_refused_and_a_folder_that_is_missing_is_told() {
        let (folder, _path) = file();
        refuse_network(folder.path()).unwrap();
        assert!(matches!(refuse_network(&folder.path().join("no")), Err(StoreError::Unavailable(_))));
    }
}
