//! What a PostgreSQL server, a database or a user sets for every session: this program takes some of it back for its own.

use crate::{Db, StoreError};

/// Settings as a session begins with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDefaults {
    /// Whether nothing can be changed.
    pub is_read_only: bool,
    /// When a commit is answered: `on`, or before it is on the disk.
    pub synchronous_commit: String,
}

/// Reads them. Only of a database that has a server: see [`Db::server_allowance`].
pub async fn read(db: &Db) -> Result<ServerDefaults, StoreError> {
    let sql = "SELECT name, reset_val FROM pg_settings \
        WHERE name IN ('default_transaction_read_only', 'synchronous_commit')";
    let mut defaults = ServerDefaults { is_read_only: false, synchronous_commit: String::new() };
    for row in db.rows(sql, vec![]).await? {
        match row.text(0)? {
            "synchronous_commit" => defaults.synchronous_commit = row.string(1)?,
            _ => defaults.is_read_only = row.text(1)? == "on",
        }
    }
    Ok(defaults)
}
