//! Registries.

use crate::changes::{Changes, Statement};
use crate::columns::{document, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::registry::{Folder, Registry, RegistryId};
use domain::{ProjectId, Time};

/// The constraint that keeps names unique in a folder, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "registries_name";

macro_rules! select_registry {
    ($rest:literal) => {
        concat!(
            "SELECT id, project_id, folder_key, folder_id, name, description, labels, log_options, log_group_id,
             is_disabled, version, created_at FROM registries ",
            $rest
        )
    };
}

/// Adds a registry.
pub fn insert(registry: &Registry) -> Statement {
    Statement::new(
        "INSERT INTO registries (id, project_id, folder_key, folder_id, name, description, labels, log_options,
         log_group_id, is_disabled, version, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        params![
            registry.id.as_str(),
            registry.folder.project,
            registry.folder.key.as_str(),
            registry.folder.id.as_str(),
            registry.name.as_str(),
            registry.description.as_str(),
            document(&registry.labels),
            document(&registry.log_options),
            registry.log_group_id.as_str(),
            registry.is_disabled,
            registry.version,
            registry.created_at,
        ],
    )
}

/// Writes a registry that was read as `registry.version - 1`.
pub fn update(registry: &Registry) -> Statement {
    Statement::new(
        "UPDATE registries SET name = $3, description = $4, labels = $5, log_options = $6, is_disabled = $7, version = $8
         WHERE id = $1 AND version = $2",
        params![
            registry.id.as_str(),
            registry.version - 1,
            registry.name.as_str(),
            registry.description.as_str(),
            document(&registry.labels),
            document(&registry.log_options),
            registry.is_disabled,
            registry.version,
        ],
    )
    .expect_one("the registry is as it was when this was decided")
}

/// Counts a change of what belongs to a registry: its credentials, its devices' aliases, the authorities that it trusts.
pub fn touch(id: &RegistryId, version: i64) -> Statement {
    Statement::new(
        "UPDATE registries SET version = version + 1 WHERE id = $1 AND version = $2",
        params![id.as_str(), version],
    )
    .expect_one("the registry is as it was when this was decided")
}

/// Removes a registry without devices, and whom it trusts; what it proves itself with is removed first. That there are no
/// devices is held by the foreign key.
pub fn delete(id: &RegistryId, version: i64) -> Changes {
    let trust = Statement::new("DELETE FROM trusted_authorities WHERE registry_id = $1", params![id.as_str()]);
    let delete = Statement::new("DELETE FROM registries WHERE id = $1 AND version = $2", params![id.as_str(), version])
        .expect_one("the registry is as it was when this was decided");
    Changes::new().statement(trust).statement(delete)
}

/// A registry by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<Registry>, StoreError> {
    db.row(select_registry!("WHERE id = $1"), params![id]).await?.as_ref().map(registry_from).transpose()
}

/// A registry by its name.
pub async fn by_name(db: &Db, folder: &Folder, name: &str) -> Result<Option<Registry>, StoreError> {
    let sql = select_registry!("WHERE project_id = $1 AND folder_key = $2 AND name = $3 AND name <> ''");
    let row = db.row(sql, params![folder.project, folder.key.as_str(), name]).await?;
    row.as_ref().map(registry_from).transpose()
}

/// The registries of a folder after this place, oldest first.
pub async fn page(db: &Db, folder: &Folder, after: &(Time, String), limit: u32) -> Result<Vec<Registry>, StoreError> {
    let sql = select_registry!(
        "WHERE project_id = $1 AND folder_key = $2 AND (created_at, id) > ($3, $4) ORDER BY created_at, id LIMIT $5"
    );
    let params = params![folder.project, folder.key.as_str(), after.0, after.1.as_str(), limit];
    db.rows(sql, params).await?.iter().map(registry_from).collect()
}

/// How many registries a project has.
pub async fn count(db: &Db, project: ProjectId) -> Result<i64, StoreError> {
    let row = db.row("SELECT COUNT(*) FROM registries WHERE project_id = $1", params![project]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

fn registry_from(row: &Row) -> Result<Registry, StoreError> {
    Ok(Registry {
        id: RegistryId(row.string(0)?),
        folder: Folder { project: ProjectId(row.uuid(1)?), key: row.string(2)?, id: row.string(3)? },
        name: row.string(4)?,
        description: row.string(5)?,
        labels: parse_document(row, 6)?,
        log_options: parse_document(row, 7)?,
        log_group_id: row.string(8)?,
        is_disabled: row.bool(9)?,
        version: row.int(10)?,
        created_at: time(row, 11)?,
    })
}
