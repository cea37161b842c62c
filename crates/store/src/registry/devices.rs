//! Devices, with their aliases and when they were last seen.

use crate::changes::{Changes, Statement};
use crate::columns::{document, opt_time, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::registry::alias::ALIASES_PER_DEVICE_MAX;
use domain::registry::{Device, DeviceId, Folder, Monitoring, RegistryId};
use domain::{ProjectId, Time};
use std::collections::HashMap;

/// The constraint that keeps names unique in a registry, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "devices_name";
/// The constraint that keeps an alias to one device, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_ALIAS: &str = "topic_aliases_pkey";

macro_rules! select_device {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.registry_id, d.project_id, d.folder_key, d.name, d.description, d.labels, d.version,
             d.created_at, m.last_auth_ip, m.last_auth_at, m.last_pub_activity_at, m.last_sub_activity_at,
             m.last_online_at, m.last_disconnect_at
             FROM devices d LEFT JOIN device_monitoring m ON m.device_id = d.id ",
            $rest
        )
    };
}

/// Adds a device and its aliases.
pub fn insert(device: &Device) -> Changes {
    let insert = Statement::new(
        "INSERT INTO devices (id, registry_id, project_id, folder_key, name, description, labels, version, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            device.id.as_str(),
            device.registry.as_str(),
            device.project,
            device.folder_key.as_str(),
            device.name.as_str(),
            device.description.as_str(),
            document(&device.labels),
            device.version,
            device.created_at,
        ],
    );
    insert_aliases(Changes::new().statement(insert), device)
}

/// Writes a device that was read as `device.version - 1`. Its aliases are written apart.
pub fn update(device: &Device) -> Statement {
    Statement::new(
        "UPDATE devices SET name = $3, description = $4, labels = $5, version = $6 WHERE id = $1 AND version = $2",
        params![
            device.id.as_str(),
            device.version - 1,
            device.name.as_str(),
            device.description.as_str(),
            document(&device.labels),
            device.version,
        ],
    )
    .expect_one("the device is as it was when this was decided")
}

/// Puts these aliases in the place of those that the device had.
pub fn replace_aliases(device: &Device) -> Changes {
    insert_aliases(Changes::new().statement(delete_aliases(&device.id)), device)
}

fn insert_aliases(changes: Changes, device: &Device) -> Changes {
    device.topic_aliases.iter().fold(changes, |changes, (alias, prefix)| {
        changes.statement(Statement::new(
            "INSERT INTO topic_aliases (registry_id, alias, device_id, topic_prefix) VALUES ($1, $2, $3, $4)",
            params![device.registry.as_str(), alias, device.id.as_str(), prefix],
        ))
    })
}

fn delete_aliases(device: &DeviceId) -> Statement {
    Statement::new("DELETE FROM topic_aliases WHERE device_id = $1", params![device.as_str()])
}

/// Counts a change of what a device proves itself with.
pub fn touch(id: &DeviceId, version: i64) -> Statement {
    Statement::new(
        "UPDATE devices SET version = version + 1 WHERE id = $1 AND version = $2",
        params![id.as_str(), version],
    )
    .expect_one("the device is as it was when this was decided")
}

/// Removes a device with its aliases; its credentials are removed first.
pub fn delete(id: &DeviceId, version: i64) -> Changes {
    let delete = Statement::new("DELETE FROM devices WHERE id = $1 AND version = $2", params![id.as_str(), version])
        .expect_one("the device is as it was when this was decided");
    Changes::new().statement(delete_aliases(id)).statement(delete)
}

/// A device by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<(Device, Monitoring)>, StoreError> {
    let row = db.row(select_device!("WHERE d.id = $1"), params![id]).await?;
    with_aliases(db, row).await
}

/// A device by its name.
pub async fn by_name(db: &Db, registry: &RegistryId, name: &str) -> Result<Option<(Device, Monitoring)>, StoreError> {
    let sql = select_device!("WHERE d.registry_id = $1 AND d.name = $2 AND d.name <> ''");
    let row = db.row(sql, params![registry.as_str(), name]).await?;
    with_aliases(db, row).await
}

async fn with_aliases(db: &Db, row: Option<Row>) -> Result<Option<(Device, Monitoring)>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let (mut device, monitoring) = device_from(&row)?;
    let sql = "SELECT device_id, alias, topic_prefix FROM topic_aliases WHERE device_id = $1";
    for row in db.rows(sql, params![device.id.as_str()]).await? {
        device.topic_aliases.insert(row.string(1)?, row.string(2)?);
    }
    Ok(Some((device, monitoring)))
}

/// The devices of a registry after this place, oldest first.
pub async fn page_of_registry(
    db: &Db,
    registry: &RegistryId,
    after: &(Time, String),
    limit: u32,
) -> Result<Vec<(Device, Monitoring)>, StoreError> {
    let params = params![registry.as_str(), after.0, after.1.as_str(), limit];
    let sql = select_device!(
        "WHERE d.registry_id = $1 AND (d.created_at, d.id) > ($2, $3) ORDER BY d.created_at, d.id LIMIT $4"
    );
    let rows = db.rows(sql, params.clone()).await?;
    let sql = "SELECT a.device_id, a.alias, a.topic_prefix FROM topic_aliases a JOIN
               (SELECT d.id FROM devices d WHERE d.registry_id = $1 AND (d.created_at, d.id) > ($2, $3)
                ORDER BY d.created_at, d.id LIMIT $4) p ON p.id = a.device_id";
    joined(&rows, &db.rows(sql, params).await?)
}

/// The devices of all registries of a folder after this place, oldest first.
pub async fn page_of_folder(
    db: &Db,
    folder: &Folder,
    after: &(Time, String),
    limit: u32,
) -> Result<Vec<(Device, Monitoring)>, StoreError> {
    let params = params![folder.project, folder.key.as_str(), after.0, after.1.as_str(), limit];
    let sql = select_device!(
        "WHERE d.project_id = $1 AND d.folder_key = $2 AND (d.created_at, d.id) > ($3, $4)
         ORDER BY d.created_at, d.id LIMIT $5"
    );
    let rows = db.rows(sql, params.clone()).await?;
    let sql = "SELECT a.device_id, a.alias, a.topic_prefix FROM topic_aliases a JOIN
               (SELECT d.id FROM devices d WHERE d.project_id = $1 AND d.folder_key = $2
                AND (d.created_at, d.id) > ($3, $4) ORDER BY d.created_at, d.id LIMIT $5) p ON p.id = a.device_id";
    joined(&rows, &db.rows(sql, params).await?)
}

fn joined(rows: &[Row], aliases: &[Row]) -> Result<Vec<(Device, Monitoring)>, StoreError> {
    let mut devices: Vec<(Device, Monitoring)> = rows.iter().map(device_from).collect::<Result<_, _>>()?;
    let places: HashMap<String, usize> =
        devices.iter().enumerate().map(|(place, (device, _))| (device.id.0.clone(), place)).collect();
    for row in aliases {
        // One that came between the two queries has no place here.
        if let Some((device, _)) = places.get(row.text(0)?).and_then(|place| devices.get_mut(*place)) {
            device.topic_aliases.insert(row.string(1)?, row.string(2)?);
        }
    }
    Ok(devices)
}

/// How many devices a project has.
pub async fn count(db: &Db, project: ProjectId) -> Result<i64, StoreError> {
    let row = db.row("SELECT COUNT(*) FROM devices WHERE project_id = $1", params![project]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Whether a registry has any device.
pub async fn any_of(db: &Db, registry: &RegistryId) -> Result<bool, StoreError> {
    let row = db.row("SELECT 1 FROM devices WHERE registry_id = $1 LIMIT 1", params![registry.as_str()]).await?;
    Ok(row.is_some())
}

/// An alias of the registry that this one cannot stand beside, of another device: one is a prefix of the other. No two that
/// are there are such, so of all that begin this one there is only the last before it, and what it begins comes right after.
pub async fn clashing_alias(
    db: &Db,
    registry: &RegistryId,
    device: &DeviceId,
    alias: &str,
) -> Result<Option<(String, DeviceId)>, StoreError> {
    let sql = "SELECT n.alias, n.device_id FROM (
                 SELECT b.alias, b.device_id FROM (SELECT alias, device_id FROM topic_aliases
                   WHERE registry_id = $1 AND device_id <> $2 AND alias <= $3 ORDER BY alias DESC LIMIT 1) b
                 UNION ALL
                 SELECT a.alias, a.device_id FROM (SELECT alias, device_id FROM topic_aliases
                   WHERE registry_id = $1 AND device_id <> $2 AND alias >= $3 ORDER BY alias LIMIT 1) a
               ) n WHERE substr(n.alias, 1, length($3)) = $3 OR substr($3, 1, length(n.alias)) = n.alias LIMIT 1";
    let row = db.row(sql, params![registry.as_str(), device.as_str(), alias]).await?;
    row.map(|row| Ok((row.string(0)?, DeviceId(row.string(1)?)))).transpose()
}

/// The aliases of a registry from this device on, by device and alias: device, what it stands for, alias. There are
/// `limit` of them and as many as one device has, if there are so many.
pub async fn aliases(
    db: &Db,
    registry: &RegistryId,
    from: &str,
    limit: u32,
) -> Result<Vec<(DeviceId, String, String)>, StoreError> {
    let sql = "SELECT device_id, topic_prefix, alias FROM topic_aliases WHERE registry_id = $1 AND device_id >= $2
               ORDER BY device_id, alias LIMIT $3";
    let limit = i64::from(limit) + i64::try_from(ALIASES_PER_DEVICE_MAX).unwrap_or(0);
    let rows = db.rows(sql, params![registry.as_str(), from, limit]).await?;
    rows.iter().map(|row| Ok((DeviceId(row.string(0)?), row.string(1)?, row.string(2)?))).collect()
}

fn device_from(row: &Row) -> Result<(Device, Monitoring), StoreError> {
    let device = Device {
        id: DeviceId(row.string(0)?),
        registry: RegistryId(row.string(1)?),
        project: ProjectId(row.uuid(2)?),
        folder_key: row.string(3)?,
        name: row.string(4)?,
        description: row.string(5)?,
        labels: parse_document(row, 6)?,
        topic_aliases: Default::default(),
        version: row.int(7)?,
        created_at: time(row, 8)?,
    };
    let monitoring = Monitoring {
        last_auth_ip: row.opt_text(9)?.map(Into::into),
        last_auth: opt_time(row, 10)?,
        last_pub_activity: opt_time(row, 11)?,
        last_sub_activity: opt_time(row, 12)?,
        last_online: opt_time(row, 13)?,
        last_disconnect: opt_time(row, 14)?,
    };
    Ok((device, monitoring))
}
