//! Sealed data keys and the server's own sealed secrets. Nothing here can be opened without the master key.

use crate::changes::Statement;
use crate::columns::number;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::{ProjectId, Time};
use uuid::Uuid;

/// A project's data key, sealed under the master key that it names. The nil project is the server itself.
#[derive(Clone, Debug)]
pub struct DataKeyRow {
    /// The project.
    pub project: ProjectId,
    /// The version.
    pub version: u32,
    /// The public id of the master key.
    pub master_key_id: String,
    /// The sealed key.
    pub sealed: Vec<u8>,
}

/// Every data key. There are as many as projects and rotations.
pub async fn data_keys(db: &Db) -> Result<Vec<DataKeyRow>, StoreError> {
    let rows = db
        .rows("SELECT project_id, version, master_key_id, sealed FROM data_keys ORDER BY project_id, version", vec![])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(DataKeyRow {
                project: ProjectId(row.uuid(0)?),
                version: number(row, 1)?,
                master_key_id: row.text(2)?.into(),
                sealed: row.blob(3)?.to_vec(),
            })
        })
        .collect()
}

/// Adds a data key.
pub fn insert_data_key(key: &DataKeyRow, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO data_keys (project_id, version, master_key_id, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        params![key.project, key.version, key.master_key_id.as_str(), key.sealed.clone(), now],
    )
}

/// Writes a data key sealed anew; stale when somebody else has done that.
pub fn reseal_data_key(key: &DataKeyRow, old_master_key_id: &str) -> Statement {
    Statement::new(
        "UPDATE data_keys SET master_key_id = $3, sealed = $4
         WHERE project_id = $1 AND version = $2 AND master_key_id = $5",
        params![key.project, key.version, key.master_key_id.as_str(), key.sealed.clone(), old_master_key_id],
    )
    .expect_one("the data key is sealed as it was")
}

/// One of the server's own secrets: its id and its sealed value.
pub async fn server_secret(db: &Db, name: &str) -> Result<Option<(Uuid, Vec<u8>)>, StoreError> {
    let row = db.row("SELECT id, sealed FROM server_secrets WHERE name = $1", params![name]).await?;
    row.map(|row| Ok((row.uuid(0)?, row.blob(1)?.to_vec()))).transpose()
}

/// Adds one of the server's own secrets; a conflict says that another node was faster.
pub fn add_server_secret(name: &str, id: Uuid, sealed: Vec<u8>, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO server_secrets (name, id, sealed, updated_at) VALUES ($1, $2, $3, $4)",
        params![name, id, sealed, now],
    )
}

/// Adds or replaces one of the server's own secrets.
pub fn put_server_secret(name: &str, id: Uuid, sealed: Vec<u8>, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO server_secrets (name, id, sealed, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET id = excluded.id, sealed = excluded.sealed, updated_at = excluded.updated_at",
        params![name, id, sealed, now],
    )
}
