//! Brokers.

use crate::changes::Statement;
use crate::columns::{document, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::registry::{Broker, BrokerId, Folder};
use domain::{ProjectId, Time};

/// The constraint that keeps names unique in a folder, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "brokers_name";

macro_rules! select_broker {
    ($rest:literal) => {
        concat!(
            "SELECT id, project_id, folder_key, folder_id, name, description, labels, log_options, version, created_at
             FROM brokers ",
            $rest
        )
    };
}

/// Adds a broker.
pub fn insert(broker: &Broker) -> Statement {
    Statement::new(
        "INSERT INTO brokers (id, project_id, folder_key, folder_id, name, description, labels, log_options, version,
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        params![
            broker.id.as_str(),
            broker.folder.project,
            broker.folder.key.as_str(),
            broker.folder.id.as_str(),
            broker.name.as_str(),
            broker.description.as_str(),
            document(&broker.labels),
            document(&broker.log_options),
            broker.version,
            broker.created_at,
        ],
    )
}

/// Writes a broker that was read as `broker.version - 1`.
pub fn update(broker: &Broker) -> Statement {
    Statement::new(
        "UPDATE brokers SET name = $3, description = $4, labels = $5, log_options = $6, version = $7
         WHERE id = $1 AND version = $2",
        params![
            broker.id.as_str(),
            broker.version - 1,
            broker.name.as_str(),
            broker.description.as_str(),
            document(&broker.labels),
            document(&broker.log_options),
            broker.version,
        ],
    )
    .expect_one("the broker is as it was when this was decided")
}

/// Counts a change of what a broker's clients prove themselves with.
pub fn touch(id: &BrokerId, version: i64) -> Statement {
    Statement::new(
        "UPDATE brokers SET version = version + 1 WHERE id = $1 AND version = $2",
        params![id.as_str(), version],
    )
    .expect_one("the broker is as it was when this was decided")
}

/// Removes a broker; its credentials are removed first.
pub fn delete(id: &BrokerId, version: i64) -> Statement {
    Statement::new("DELETE FROM brokers WHERE id = $1 AND version = $2", params![id.as_str(), version])
        .expect_one("the broker is as it was when this was decided")
}

/// A broker by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<Broker>, StoreError> {
    db.row(select_broker!("WHERE id = $1"), params![id]).await?.as_ref().map(broker_from).transpose()
}

/// A broker by its name.
pub async fn by_name(db: &Db, folder: &Folder, name: &str) -> Result<Option<Broker>, StoreError> {
    let sql = select_broker!("WHERE project_id = $1 AND folder_key = $2 AND name = $3 AND name <> ''");
    let row = db.row(sql, params![folder.project, folder.key.as_str(), name]).await?;
    row.as_ref().map(broker_from).transpose()
}

/// The brokers of a folder after this place, oldest first.
pub async fn page(db: &Db, folder: &Folder, after: &(Time, String), limit: u32) -> Result<Vec<Broker>, StoreError> {
    let sql = select_broker!(
        "WHERE project_id = $1 AND folder_key = $2 AND (created_at, id) > ($3, $4) ORDER BY created_at, id LIMIT $5"
    );
    let params = params![folder.project, folder.key.as_str(), after.0, after.1.as_str(), limit];
    db.rows(sql, params).await?.iter().map(broker_from).collect()
}

fn broker_from(row: &Row) -> Result<Broker, StoreError> {
    Ok(Broker {
        id: BrokerId(row.string(0)?),
        folder: Folder { project: ProjectId(row.uuid(1)?), key: row.string(2)?, id: row.string(3)? },
        name: row.string(4)?,
        description: row.string(5)?,
        labels: parse_document(row, 6)?,
        log_options: parse_document(row, 7)?,
        version: row.int(8)?,
        created_at: time(row, 9)?,
    })
}
