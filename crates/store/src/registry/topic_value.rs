//! The last payload of each permanent topic.

use crate::changes::Statement;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::Time;
use domain::registry::{DeviceId, RegistryId};

/// Keeps a payload. `device` is whose topic it is, unless it is the registry's.
pub fn put(registry: &RegistryId, topic: &str, device: Option<&DeviceId>, payload: &[u8], at: Time) -> Statement {
    Statement::new(
        "INSERT INTO topic_values (registry_id, topic, device_id, payload, updated_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (registry_id, topic) DO UPDATE SET payload = excluded.payload, updated_at = excluded.updated_at",
        params![registry.as_str(), topic, device.map(DeviceId::as_str), payload, at],
    )
}

/// Keeps no payload any more.
pub fn clear(registry: &RegistryId, topic: &str) -> Statement {
    let sql = "DELETE FROM topic_values WHERE registry_id = $1 AND topic = $2";
    Statement::new(sql, params![registry.as_str(), topic])
}

/// The payload of one topic.
pub async fn one(db: &Db, registry: &RegistryId, topic: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT payload FROM topic_values WHERE registry_id = $1 AND topic = $2";
    let row = db.row(sql, params![registry.as_str(), topic]).await?;
    row.map(|row| row.blob(0).map(<[u8]>::to_vec)).transpose()
}

/// How many topics of a device, or of the registry itself, have a payload.
pub async fn count(db: &Db, registry: &RegistryId, device: Option<&DeviceId>) -> Result<i64, StoreError> {
    let sql = match device {
        Some(_) => "SELECT COUNT(*) FROM topic_values WHERE registry_id = $1 AND device_id = $2",
        None => "SELECT COUNT(*) FROM topic_values WHERE registry_id = $1 AND device_id IS NULL",
    };
    let mut params = params![registry.as_str()];
    params.extend(device.map(|device| device.as_str().into()));
    db.row(sql, params).await?.map_or(Ok(0), |row| row.int(0))
}

/// Topics of a registry and its devices that have a payload, by name, from the one after `after` on.
pub async fn topics(db: &Db, registry: &RegistryId, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT topic FROM topic_values WHERE registry_id = $1 AND topic > $2 ORDER BY topic LIMIT $3";
    let rows = db.rows(sql, params![registry.as_str(), after, limit]).await?;
    rows.iter().map(|row| row.string(0)).collect()
}

/// The same of one device and the registry itself.
pub async fn topics_for(
    db: &Db,
    registry: &RegistryId,
    device: &DeviceId,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT topic FROM topic_values WHERE registry_id = $1 AND topic > $2
               AND (device_id IS NULL OR device_id = $3) ORDER BY topic LIMIT $4";
    let rows = db.rows(sql, params![registry.as_str(), after, device.as_str(), limit]).await?;
    rows.iter().map(|row| row.string(0)).collect()
}
