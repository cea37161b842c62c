//! Messages on their way to other nodes of one database.

use crate::changes::Statement;
use crate::columns::time;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::Time;
use uuid::Uuid;

/// A message for the other nodes.
#[derive(Clone, Debug)]
pub struct TopicMessage {
    /// Its id.
    pub id: Uuid,
    /// The node that it comes from.
    pub node: String,
    /// The registry or broker whose topics these are.
    pub space: String,
    /// The canonical topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// 0 or 1.
    pub qos: u8,
    /// When it was published.
    pub at: Time,
}

/// Hands a message to the other nodes.
pub fn insert(message: &TopicMessage) -> Statement {
    Statement::new(
        "INSERT INTO topic_messages (id, node, space_id, topic, payload, qos, at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            message.id,
            &message.node,
            &message.space,
            &message.topic,
            &message.payload,
            i64::from(message.qos),
            message.at
        ],
    )
}

/// The ids and times of messages of other nodes since a time, oldest first.
pub async fn ids_since(db: &Db, node: &str, at: Time) -> Result<Vec<(Uuid, Time)>, StoreError> {
    let sql = "SELECT id, at FROM topic_messages WHERE at >= $1 AND node <> $2 ORDER BY at, id";
    let rows = db.rows(sql, params![at, node]).await?;
    rows.iter().map(|row| Ok((row.uuid(0)?, time(row, 1)?))).collect()
}

/// Messages of other nodes after the one of that time and id, oldest first.
pub async fn after(db: &Db, node: &str, at: Time, id: Uuid, limit: u32) -> Result<Vec<TopicMessage>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, node, space_id, topic, payload, qos, at FROM topic_messages
             WHERE at >= $1 AND (at > $1 OR id > $2) AND node <> $3 ORDER BY at, id LIMIT $4",
            params![at, id, node, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(TopicMessage {
                id: row.uuid(0)?,
                node: row.string(1)?,
                space: row.string(2)?,
                topic: row.string(3)?,
                payload: row.blob(4)?.to_vec(),
                qos: u8::from(row.int(5)? > 0),
                at: time(row, 6)?,
            })
        })
        .collect()
}

/// Forgets what every node has seen long ago.
pub fn prune(before: Time) -> Statement {
    Statement::new("DELETE FROM topic_messages WHERE at < $1", params![before])
}
