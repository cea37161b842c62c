//! App connections. Their credentials are sealed; the rest is shown.

use crate::changes::Statement;
use crate::columns::{document, number, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::connection::{Connection, ConnectionKind};
use domain::{ConnectionId, OrganizationId, ProjectId};

/// The constraint that keeps names unique, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "connections_name";

/// Sealed credentials, with the version of the data key that seals them.
#[derive(Clone, Debug)]
pub struct SealedCredentials {
    /// The version of the data key.
    pub data_key_version: u32,
    /// The sealed document.
    pub sealed: Vec<u8>,
}

macro_rules! select_connection {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.organization_id, c.project_id, c.kind, c.method, c.name, c.description, c.version, c.shown,
             c.created_at, c.updated_at FROM connections c ",
            $rest
        )
    };
}

/// Adds a connection.
pub fn insert(connection: &Connection, credentials: &SealedCredentials) -> Statement {
    Statement::new(
        "INSERT INTO connections (id, organization_id, project_id, kind, method, name, description, version, shown,
         data_key_version, sealed, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        params![
            connection.id,
            connection.organization,
            connection.project,
            connection.kind.slug(),
            connection.method.as_str(),
            connection.name.as_str(),
            connection.description.as_deref(),
            connection.version,
            document(&connection.shown),
            credentials.data_key_version,
            credentials.sealed.clone(),
            connection.created_at,
            connection.updated_at,
        ],
    )
}

/// Writes a connection that was read as `connection.version - 1`.
pub fn update(connection: &Connection, credentials: &SealedCredentials) -> Statement {
    Statement::new(
        "UPDATE connections SET name = $3, description = $4, version = $5, shown = $6, data_key_version = $7, sealed = $8,
         updated_at = $9 WHERE id = $1 AND version = $2",
        params![
            connection.id,
            connection.version - 1,
            connection.name.as_str(),
            connection.description.as_deref(),
            connection.version,
            document(&connection.shown),
            credentials.data_key_version,
            credentials.sealed.clone(),
            connection.updated_at,
        ],
    )
    .expect_one("the connection is as it was when this was decided")
}

/// Removes a connection that no sync uses.
pub fn delete(id: ConnectionId, version: i64) -> Statement {
    Statement::new(
        "DELETE FROM connections WHERE id = $1 AND version = $2
         AND NOT EXISTS (SELECT 1 FROM syncs s WHERE s.connection_id = $1)",
        params![id, version],
    )
    .expect_one("the connection is as it was and no sync uses it")
}

/// How many syncs use a connection.
pub async fn users(db: &Db, id: ConnectionId) -> Result<i64, StoreError> {
    let row = db.row("SELECT COUNT(*) FROM syncs WHERE connection_id = $1", params![id]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// A connection of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: ConnectionId) -> Result<Option<Connection>, StoreError> {
    let sql = select_connection!("WHERE c.id = $2 AND c.organization_id = $1");
    db.row(sql, params![organization, id]).await?.as_ref().map(connection_from).transpose()
}

/// The connections of an organisation by name, at most 10,000.
pub async fn list(db: &Db, organization: OrganizationId) -> Result<Vec<Connection>, StoreError> {
    let sql = select_connection!("WHERE c.organization_id = $1 ORDER BY c.name, c.id LIMIT 10000");
    db.rows(sql, params![organization]).await?.iter().map(connection_from).collect()
}

/// The sealed credentials of a connection.
pub async fn credentials(db: &Db, id: ConnectionId) -> Result<Option<SealedCredentials>, StoreError> {
    let row = db.row("SELECT data_key_version, sealed FROM connections WHERE id = $1", params![id]).await?;
    row.map(|row| Ok(SealedCredentials { data_key_version: number(&row, 0)?, sealed: row.blob(1)?.to_vec() }))
        .transpose()
}

fn connection_from(row: &Row) -> Result<Connection, StoreError> {
    Ok(Connection {
        id: ConnectionId(row.uuid(0)?),
        organization: OrganizationId(row.uuid(1)?),
        project: row.opt_uuid(2)?.map(ProjectId),
        kind: word(row, 3, ConnectionKind::parse)?,
        method: row.string(4)?,
        name: row.string(5)?,
        description: row.opt_text(6)?.map(Into::into),
        version: row.int(7)?,
        shown: parse_document(row, 8)?,
        created_at: time(row, 9)?,
        updated_at: time(row, 10)?,
    })
}
