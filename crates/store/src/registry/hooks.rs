//! Hooks: ways in for brokers outside.

use crate::changes::Statement;
use crate::columns::{time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::registry::hook::{BrokerHook, HookKind};
use domain::registry::{BrokerHookId, Folder};
use domain::{ProjectId, Time};

macro_rules! select_hook {
    ($rest:literal) => {
        concat!("SELECT id, project_id, folder_key, folder_id, kind, created_at FROM broker_hooks ", $rest)
    };
}

/// Adds a hook with the SHA-256 of its secret.
pub fn insert(hook: &BrokerHook, secret_sha256: [u8; 32]) -> Statement {
    Statement::new(
        "INSERT INTO broker_hooks (id, project_id, folder_key, folder_id, kind, secret_sha256, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            hook.id.as_str(),
            hook.folder.project,
            hook.folder.key.as_str(),
            hook.folder.id.as_str(),
            hook.kind.as_str(),
            secret_sha256,
            hook.created_at,
        ],
    )
}

/// Removes a hook.
pub fn delete(id: &BrokerHookId) -> Statement {
    Statement::new("DELETE FROM broker_hooks WHERE id = $1", params![id.as_str()]).expect_one("the hook is there")
}

/// A hook by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<BrokerHook>, StoreError> {
    db.row(select_hook!("WHERE id = $1"), params![id]).await?.as_ref().map(hook_from).transpose()
}

/// The hook whose secret has this digest.
pub async fn by_secret(db: &Db, secret_sha256: [u8; 32]) -> Result<Option<BrokerHook>, StoreError> {
    db.row(select_hook!("WHERE secret_sha256 = $1"), params![secret_sha256]).await?.as_ref().map(hook_from).transpose()
}

/// How many hooks a folder has.
pub async fn count(db: &Db, folder: &Folder) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) FROM broker_hooks WHERE project_id = $1 AND folder_key = $2";
    db.row(sql, params![folder.project, folder.key.as_str()]).await?.map_or(Ok(0), |row| row.int(0))
}

/// The hooks of a folder after this place, oldest first.
pub async fn page(db: &Db, folder: &Folder, after: &(Time, String), limit: u32) -> Result<Vec<BrokerHook>, StoreError> {
    let sql = select_hook!(
        "WHERE project_id = $1 AND folder_key = $2 AND (created_at, id) > ($3, $4) ORDER BY created_at, id LIMIT $5"
    );
    let params = params![folder.project, folder.key.as_str(), after.0, after.1.as_str(), limit];
    db.rows(sql, params).await?.iter().map(hook_from).collect()
}

fn hook_from(row: &Row) -> Result<BrokerHook, StoreError> {
    Ok(BrokerHook {
        id: BrokerHookId(row.string(0)?),
        folder: Folder { project: ProjectId(row.uuid(1)?), key: row.string(2)?, id: row.string(3)? },
        kind: word(row, 4, HookKind::parse)?,
        created_at: time(row, 5)?,
    })
}
