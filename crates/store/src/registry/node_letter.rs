//! Letters of a node to the other nodes of one database. What is in them is their business.

use crate::changes::Statement;
use crate::columns::time;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::Time;
use uuid::Uuid;

/// A letter to the other nodes.
#[derive(Clone, Debug)]
pub struct NodeLetter {
    /// Its id. Those of one node grow.
    pub id: Uuid,
    /// The node that it comes from.
    pub node: String,
    /// What it says.
    pub octets: Vec<u8>,
    /// When it was written into the table.
    pub at: Time,
}

/// Writes a letter.
pub fn insert(letter: &NodeLetter) -> Statement {
    Statement::new(
        "INSERT INTO node_letters (id, node, octets, at) VALUES ($1, $2, $3, $4)",
        params![letter.id, &letter.node, &letter.octets, letter.at],
    )
}

/// The ids and times of letters of other nodes since a time, oldest first.
pub async fn ids_since(db: &Db, node: &str, at: Time) -> Result<Vec<(Uuid, Time)>, StoreError> {
    let sql = "SELECT id, at FROM node_letters WHERE at >= $1 AND node <> $2 ORDER BY at, id";
    let rows = db.rows(sql, params![at, node]).await?;
    rows.iter().map(|row| Ok((row.uuid(0)?, time(row, 1)?))).collect()
}

/// Letters of other nodes after the one of that time and id, oldest first.
pub async fn after(db: &Db, node: &str, at: Time, id: Uuid, limit: u32) -> Result<Vec<NodeLetter>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, node, octets, at FROM node_letters
             WHERE at >= $1 AND (at > $1 OR id > $2) AND node <> $3 ORDER BY at, id LIMIT $4",
            params![at, id, node, limit],
        )
        .await?;
    rows.iter().map(letter_from).collect()
}

/// The letters of a node from one id to another, in their order.
pub async fn between(db: &Db, node: &str, first: Uuid, last: Uuid) -> Result<Vec<NodeLetter>, StoreError> {
    let sql = "SELECT id, node, octets, at FROM node_letters WHERE id >= $1 AND id <= $2 AND node = $3 ORDER BY id";
    db.rows(sql, params![first, last, node]).await?.iter().map(letter_from).collect()
}

fn letter_from(row: &Row) -> Result<NodeLetter, StoreError> {
    Ok(NodeLetter { id: row.uuid(0)?, node: row.string(1)?, octets: row.blob(2)?.to_vec(), at: time(row, 3)? })
}

/// Forgets what every node has read long ago.
pub fn prune(before: Time) -> Statement {
    Statement::new("DELETE FROM node_letters WHERE at < $1", params![before])
}
