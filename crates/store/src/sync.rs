//! PKI syncs. The certificates that they carry are in `sync/link.rs`, what they made at their destinations in
//! `sync/object.rs`.

pub mod link;
pub mod object;

use crate::changes::Statement;
use crate::columns::{document, number, opt_time, parse_document, time, word};
use crate::connection::SealedCredentials;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::{Row, Value};
use domain::sync::{DestinationKind, LastRun, Sync, SyncStatus};
use domain::{ApplicationId, ConnectionId, JobId, OrganizationId, ProjectId, SyncId, Time};

/// The constraint that keeps names unique in a project, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "syncs_name";

macro_rules! select_sync {
    ($($rest:expr),+) => {
        concat!(
            "SELECT s.id, s.project_id, s.name, s.description, s.destination, s.connection_id, s.is_automatic, s.config,
             s.options, s.version, s.status, s.last_job_id, s.last_message, s.last_synced_at, s.remove_status,
             s.last_remove_job_id, s.last_remove_message, s.last_removed_at, s.is_unfinished, s.created_at, s.updated_at,
             p.organization_id, s.application_id FROM syncs s JOIN projects p ON p.id = s.project_id AND p.deleted_at IS NULL ",
            $($rest),+
        )
    };
}

/// Adds a sync.
pub fn insert(sync: &Sync, secrets: Option<&SealedCredentials>) -> Statement {
    Statement::new(
        "INSERT INTO syncs (id, project_id, name, description, destination, connection_id, is_automatic, config, options,
         data_key_version, sealed, version, status, created_at, updated_at, application_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        params![
            sync.id,
            sync.project,
            sync.name.as_str(),
            sync.description.as_deref(),
            sync.destination.slug(),
            sync.connection,
            sync.is_automatic,
            document(&sync.config),
            document(&sync.options),
            secrets.map(|secrets| secrets.data_key_version),
            secrets.map(|secrets| secrets.sealed.clone()),
            sync.version,
            sync.last_run.status.map(SyncStatus::as_str),
            sync.created_at,
            sync.updated_at,
            sync.application,
        ],
    )
}

/// Writes what people chose about a sync that was read as `sync.version - 1`; absent secrets stay as they are.
pub fn update(sync: &Sync, secrets: Option<&SealedCredentials>) -> Statement {
    Statement::new(
        "UPDATE syncs SET name = $3, description = $4, connection_id = $5, is_automatic = $6, config = $7, options = $8,
         version = $9, updated_at = $10, data_key_version = COALESCE(CAST($11 AS BIGINT), data_key_version),
         sealed = COALESCE($12, sealed) WHERE id = $1 AND version = $2",
        params![
            sync.id,
            sync.version - 1,
            sync.name.as_str(),
            sync.description.as_deref(),
            sync.connection,
            sync.is_automatic,
            document(&sync.config),
            document(&sync.options),
            sync.version,
            sync.updated_at,
            secrets.map(|secrets| secrets.data_key_version),
            secrets.map(|secrets| secrets.sealed.clone()),
        ],
    )
    .expect_one("the sync is as it was when this was decided")
}

/// Removes a sync with its links and its ledger. What it made at its destination stays there.
pub fn delete(id: SyncId, version: i64) -> Statement {
    Statement::new("DELETE FROM syncs WHERE id = $1 AND version = $2", params![id, version])
        .expect_one("the sync is as it was when this was decided")
}

/// A sync of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: SyncId) -> Result<Option<Sync>, StoreError> {
    let sql = select_sync!("WHERE s.id = $2 AND p.organization_id = $1");
    db.row(sql, params![organization, id]).await?.as_ref().map(sync_from).transpose()
}

/// A sync, for the work that is done by itself.
pub async fn any_by_id(db: &Db, id: SyncId) -> Result<Option<Sync>, StoreError> {
    db.row(select_sync!("WHERE s.id = $1"), params![id]).await?.as_ref().map(sync_from).transpose()
}

/// The syncs of a project by name, at most 10,000.
pub async fn list(db: &Db, project: ProjectId) -> Result<Vec<Sync>, StoreError> {
    let sql = select_sync!("WHERE s.project_id = $1 ORDER BY s.name, s.id LIMIT 10000");
    db.rows(sql, params![project]).await?.iter().map(sync_from).collect()
}

/// The secrets of a sync, sealed.
pub async fn secrets(db: &Db, id: SyncId) -> Result<Option<SealedCredentials>, StoreError> {
    let sql = "SELECT data_key_version, sealed FROM syncs WHERE id = $1 AND sealed IS NOT NULL";
    let row = db.row(sql, params![id]).await?;
    row.map(|row| Ok(SealedCredentials { data_key_version: number(&row, 0)?, sealed: row.blob(1)?.to_vec() }))
        .transpose()
}

/// The syncs that run by themselves and carry a certificate that has ended since its link was looked at.
pub async fn with_expired(db: &Db, now: Time) -> Result<Vec<SyncId>, StoreError> {
    let sql = "SELECT DISTINCT s.id FROM sync_links l JOIN syncs s ON s.id = l.sync_id
               JOIN certificates c ON c.id = l.certificate_id
               WHERE s.is_automatic = $2 AND c.not_after < $1 AND l.updated_at <= c.not_after ORDER BY s.id";
    ids(&db.rows(sql, params![now, true]).await?)
}

/// When the next certificate ends, from a moment to another one, that a sync carries which runs by itself.
pub async fn next_end(db: &Db, from: Time, until: Time) -> Result<Option<Time>, StoreError> {
    let sql = "SELECT MIN(c.not_after) FROM sync_links l JOIN syncs s ON s.id = l.sync_id
               JOIN certificates c ON c.id = l.certificate_id
               WHERE s.is_automatic = $3 AND c.not_after >= $1 AND c.not_after < $2";
    db.row(sql, params![from, until, true]).await?.map_or(Ok(None), |row| opt_time(&row, 0))
}

/// The syncs that run by themselves and have not done so since a moment.
pub async fn idle_since(db: &Db, moment: Time) -> Result<Vec<SyncId>, StoreError> {
    let sql = "SELECT s.id FROM syncs s JOIN projects p ON p.id = s.project_id AND p.deleted_at IS NULL
               WHERE s.is_automatic = $2 AND (s.last_synced_at IS NULL OR s.last_synced_at < $1) ORDER BY s.id";
    ids(&db.rows(sql, params![moment, true]).await?)
}

fn ids(rows: &[Row]) -> Result<Vec<SyncId>, StoreError> {
    rows.iter().map(|row| Ok(SyncId(row.uuid(0)?))).collect()
}

/// Says that a run is to come, under a job.
pub fn queued(id: SyncId, at: Time) -> Statement {
    let sql = "UPDATE syncs SET status = 'pending', updated_at = $2 WHERE id = $1";
    Statement::new(sql, params![id, at])
}

/// Says that a removal of everything is to come.
pub fn removal_queued(id: SyncId, at: Time) -> Statement {
    let sql = "UPDATE syncs SET remove_status = 'pending', updated_at = $2 WHERE id = $1";
    Statement::new(sql, params![id, at])
}

/// Says that a run began.
pub fn began(id: SyncId, job: JobId) -> Statement {
    Statement::new("UPDATE syncs SET status = 'running', last_job_id = $2 WHERE id = $1", params![id, job])
}

/// Says how a run ended; the time is that of the last run that went well.
pub fn ended(id: SyncId, status: SyncStatus, message: Option<&str>, synced_at: Option<Time>) -> Statement {
    Statement::new(
        "UPDATE syncs SET status = $2, last_message = $3, last_synced_at = COALESCE(CAST($4 AS BIGINT), last_synced_at)
         WHERE id = $1",
        params![id, status.as_str(), message, synced_at],
    )
}

/// Says that a removal of everything began.
pub fn removal_began(id: SyncId, job: JobId) -> Statement {
    Statement::new(
        "UPDATE syncs SET remove_status = 'running', last_remove_job_id = $2 WHERE id = $1",
        params![id, job],
    )
}

/// Says how a removal of everything ended.
pub fn removal_ended(id: SyncId, status: SyncStatus, message: Option<&str>, removed_at: Option<Time>) -> Statement {
    Statement::new(
        "UPDATE syncs SET remove_status = $2, last_remove_message = $3,
         last_removed_at = COALESCE(CAST($4 AS BIGINT), last_removed_at) WHERE id = $1",
        params![id, status.as_str(), message, removed_at],
    )
}

/// Notes whether delivered changes still want their last step.
pub fn set_unfinished(id: SyncId, is_unfinished: bool) -> Statement {
    let sql = "UPDATE syncs SET is_unfinished = $2 WHERE id = $1";
    Statement::new(sql, vec![Value::from(id), Value::from(is_unfinished)])
}

fn sync_from(row: &Row) -> Result<Sync, StoreError> {
    let status = |column| -> Result<Option<SyncStatus>, StoreError> {
        row.opt_text(column)?.map(|_| word(row, column, SyncStatus::parse)).transpose()
    };
    let run = |at: usize| -> Result<LastRun, StoreError> {
        Ok(LastRun {
            status: status(at)?,
            job: row.opt_uuid(at + 1)?.map(JobId),
            message: row.opt_text(at + 2)?.map(Into::into),
            succeeded_at: opt_time(row, at + 3)?,
        })
    };
    Ok(Sync {
        id: SyncId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        name: row.string(2)?,
        description: row.opt_text(3)?.map(Into::into),
        destination: word(row, 4, DestinationKind::parse)?,
        connection: row.opt_uuid(5)?.map(ConnectionId),
        is_automatic: row.bool(6)?,
        config: parse_document(row, 7)?,
        options: parse_document(row, 8)?,
        version: row.int(9)?,
        last_run: run(10)?,
        last_removal: run(14)?,
        is_unfinished: row.bool(18)?,
        created_at: time(row, 19)?,
        updated_at: time(row, 20)?,
        organization: OrganizationId(row.uuid(21)?),
        application: row.opt_uuid(22)?.map(ApplicationId),
    })
}
