//! What can go wrong between a statement and the disk, told apart by what the caller can do about it.
//!
//! Nothing here is worded for a stranger: an edge shows a refusal that a use case made from it, or a request id.

use std::fmt;

/// Why the store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// A constraint of the schema holds against this change. Nothing of the change was kept.
    ///
    /// The name is the same on both engines: the index or constraint as the migration names it, else
    /// `table_column_key`, `table_pkey`, `table.column` for a missing value, and `foreign key`.
    Conflict {
        /// The constraint.
        constraint: String,
    },
    /// An expectation of a [`Statement`](crate::Statement) did not hold: the world changed since the decision.
    /// Nothing of the change was kept; the use case decides again.
    Stale(&'static str),
    /// A row that cannot be read as what it should be, or a damaged file.
    Corrupt(String),
    /// The database was written by a newer program.
    SchemaTooNew {
        /// The version of the database.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The database is one of nobody: no server was started on it, and nothing was brought back into it.
    Empty,
    /// The settings of the database or its place are not safe to run on.
    Refused(String),
    /// The database cannot be reached or has no room. Nothing of the change was kept.
    Unavailable(String),
    /// The database takes no changes now: it is a standby, or an operator made it so. Nothing of the change was kept.
    ReadOnly(String),
    /// The answer to a commit did not come: all of the change was kept, or nothing.
    Unknown(String),
    /// The engine refused a statement: a defect of this program.
    Engine(String),
}

impl StoreError {
    /// Whether the same may do later: nobody is at fault who asked.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::ReadOnly(_) | Self::Unknown(_))
    }

    /// Whether the database had no room: SQLite's words for `SQLITE_FULL`, or PostgreSQL's code.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Unavailable(why) => why.contains("database or disk is full") || why.starts_with("53100 "),
            _ => false,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { constraint } => write!(formatter, "the constraint {constraint} does not allow it"),
            Self::Stale(what) => write!(formatter, "no longer true: {what}"),
            Self::Corrupt(what) => write!(formatter, "damaged data: {what}"),
            Self::SchemaTooNew { found, known } => write!(
                formatter,
                "the database has schema version {found}, this program knows up to {known}: run the newer program"
            ),
            Self::Empty => formatter.write_str(
                "the database is empty: start the server on it once, or bring a backup or an export back into it",
            ),
            Self::Refused(why) => write!(formatter, "refused to use the database: {why}"),
            Self::Unavailable(why) => write!(formatter, "the database is not available: {why}"),
            Self::ReadOnly(why) => write!(formatter, "the database takes no changes: {why}"),
            Self::Unknown(why) => write!(formatter, "the outcome of the commit is unknown: {why}"),
            Self::Engine(why) => write!(formatter, "the database engine failed: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the words of the engine itself.
    #[test]
    fn a_database_without_room_is_recognised() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA max_page_count = 2; CREATE TABLE t (a BLOB)").unwrap();
        let full = connection.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err();
        assert!(StoreError::Unavailable(full.to_string()).is_full(), "{full}");
        let nowhere = rusqlite::Connection::open("/nowhere/at/all").unwrap_err();
        assert!(!StoreError::Unavailable(nowhere.to_string()).is_full(), "{nowhere}");
        assert!(StoreError::Unavailable("53100 could not extend file: No space left on device".into()).is_full());
    }
}
