//! Alerts and their channels. What happened and was told is in `alert/event.rs`, what was sent in `alert/run.rs`.

pub mod event;
pub mod run;

use crate::changes::{Changes, Statement};
use crate::columns::{document, parse_document, time, word};
use crate::connection::SealedCredentials;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::profile::like;
use crate::value::{Row, Value};
use domain::alert::{Alert, Channel, ChannelKind, EventKind, Looked};
use domain::{AlertChannelId, AlertId, OrganizationId, ProjectId, Time};

/// The constraint that keeps names unique, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "alerts_name";

macro_rules! select_alert {
    ($($rest:expr),+) => {
        concat!(
            "SELECT a.id, p.organization_id, a.project_id, a.name, a.description, a.event, a.before_end, a.filters,
             a.is_enabled, a.is_daily, a.version, a.created_at, a.updated_at, a.looked_until, a.looked_at,
             a.looked_whole_at FROM alerts a JOIN projects p ON p.id = a.project_id ",
            $($rest),+
        )
    };
}

/// Which alerts of a project are listed.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// Part of the name or of the description.
    pub search: String,
    /// Only of this kind.
    pub event: Option<EventKind>,
    /// Only those that are on, or off.
    pub is_enabled: Option<bool>,
}

/// Adds an alert.
pub fn insert(alert: &Alert, looked: Looked) -> Statement {
    Statement::new(
        "INSERT INTO alerts (id, project_id, name, description, event, before_end, filters, is_enabled, is_daily, version,
         looked_until, looked_at, looked_whole_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        params![
            alert.id,
            alert.project,
            alert.name.as_str(),
            alert.description.as_deref(),
            alert.event.as_str(),
            alert.before.as_deref(),
            document(&alert.filters),
            alert.is_enabled,
            alert.is_daily,
            alert.version,
            looked.until,
            looked.at,
            looked.whole_at,
            alert.created_at,
            alert.updated_at,
        ],
    )
}

/// Writes an alert that was read as `alert.version - 1`.
pub fn update(alert: &Alert, looked: Looked) -> Statement {
    Statement::new(
        "UPDATE alerts SET name = $3, description = $4, event = $5, before_end = $6, filters = $7, is_enabled = $8,
         is_daily = $9, version = $10, looked_until = $11, looked_at = $12, looked_whole_at = $13, updated_at = $14
         WHERE id = $1 AND version = $2",
        params![
            alert.id,
            alert.version - 1,
            alert.name.as_str(),
            alert.description.as_deref(),
            alert.event.as_str(),
            alert.before.as_deref(),
            document(&alert.filters),
            alert.is_enabled,
            alert.is_daily,
            alert.version,
            looked.until,
            looked.at,
            looked.whole_at,
            alert.updated_at,
        ],
    )
    .expect_one("the alert is as it was when this was decided")
}

/// Notes how far an alert has looked, when it is as it was and nobody looked meanwhile.
pub fn looked(alert: &Alert, before: Looked, now: Looked) -> Statement {
    Statement::new(
        "UPDATE alerts SET looked_until = $4, looked_at = $5, looked_whole_at = $6
         WHERE id = $1 AND version = $2 AND looked_at = $3",
        params![alert.id, alert.version, before.at, now.until, now.at, now.whole_at],
    )
    .expect_one("the alert is as it was and nobody looked meanwhile")
}

/// Holds a commit to an alert being as it was.
pub fn is_unchanged(alert: &Alert) -> Statement {
    let sql = "SELECT id FROM alerts WHERE id = $1 AND version = $2 FOR SHARE";
    Statement::new(sql, params![alert.id, alert.version]).expect_one("the alert is as it was when this was decided")
}

/// Removes an alert with its channels, its history and what it waits to send.
pub fn delete(id: AlertId, version: i64) -> Statement {
    Statement::new("DELETE FROM alerts WHERE id = $1 AND version = $2", params![id, version])
        .expect_one("the alert is as it was when this was decided")
}

/// An alert of the organisation, and how far it has looked.
pub async fn by_id(db: &Db, organization: OrganizationId, id: AlertId) -> Result<Option<(Alert, Looked)>, StoreError> {
    let sql = select_alert!("WHERE a.id = $2 AND p.organization_id = $1 AND p.deleted_at IS NULL");
    db.row(sql, params![organization, id]).await?.as_ref().map(alert_from).transpose()
}

macro_rules! listed {
    () => {
        "WHERE a.project_id = $1 AND ($2 = '' OR lower(a.name) LIKE lower($2) ESCAPE '\\'
         OR lower(a.description) LIKE lower($2) ESCAPE '\\') AND ($3 = '' OR a.event = $3)
         AND (CAST($4 AS BIGINT) < 0 OR a.is_enabled = CAST($4 AS BIGINT))"
    };
}

/// The alerts of a project by name, and how many there are.
pub async fn list(
    db: &Db,
    project: ProjectId,
    filter: &AlertFilter,
    offset: u32,
    limit: u32,
) -> Result<(Vec<Alert>, i64), StoreError> {
    let asked = || {
        let search = if filter.search.is_empty() { String::new() } else { like(&filter.search) };
        let is_enabled = filter.is_enabled.map_or(-1, i64::from);
        params![project, search, filter.event.map_or("", EventKind::as_str), is_enabled]
    };
    let page: Vec<Value> = asked().into_iter().chain(params![limit, offset]).collect();
    let rows = db.rows(select_alert!(listed!(), " ORDER BY a.name, a.id LIMIT $5 OFFSET $6"), page).await?;
    let total = db.row(concat!("SELECT COUNT(*) FROM alerts a ", listed!()), asked()).await?;
    let alerts: Result<_, StoreError> = rows.iter().map(|row| alert_from(row).map(|(alert, _)| alert)).collect();
    Ok((alerts?, total.map_or(Ok(0), |row| row.int(0))?))
}

/// The alerts of a project that are on, and how far each has looked.
pub async fn enabled(db: &Db, project: ProjectId) -> Result<Vec<(Alert, Looked)>, StoreError> {
    let sql = select_alert!(
        "WHERE a.project_id = $1 AND a.is_enabled = 1 AND p.deleted_at IS NULL ORDER BY a.created_at, a.id LIMIT 10000"
    );
    db.rows(sql, params![project]).await?.iter().map(alert_from).collect()
}

/// How many alerts a project has.
pub async fn count(db: &Db, project: ProjectId) -> Result<i64, StoreError> {
    let row = db.row("SELECT COUNT(*) FROM alerts WHERE project_id = $1", params![project]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Projects with alerts about ends that looked last before a moment.
pub async fn projects_to_look(db: &Db, looked_before: Time, limit: u32) -> Result<Vec<ProjectId>, StoreError> {
    let sql = "SELECT a.project_id FROM alerts a JOIN projects p ON p.id = a.project_id
               WHERE a.is_enabled = 1 AND a.event IN ('expiration', 'ca-expiration') AND a.looked_at <= $1 AND p.deleted_at IS NULL
               GROUP BY a.project_id ORDER BY MIN(a.looked_at) LIMIT $2";
    db.rows(sql, params![looked_before, limit]).await?.iter().map(|row| Ok(ProjectId(row.uuid(0)?))).collect()
}

/// Adds a channel, or writes it over what it was.
pub fn put_channel(alert: AlertId, channel: &Channel, position: u32, settings: &SealedCredentials) -> Statement {
    Statement::new(
        "INSERT INTO alert_channels (id, alert_id, position, kind, is_enabled, shown, data_key_version, sealed, created_at,
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (id) DO UPDATE SET position = excluded.position, is_enabled = excluded.is_enabled,
         shown = excluded.shown, data_key_version = excluded.data_key_version, sealed = excluded.sealed,
         updated_at = excluded.updated_at WHERE alert_channels.alert_id = excluded.alert_id",
        params![
            channel.id,
            alert,
            position,
            channel.kind.as_str(),
            channel.is_enabled,
            document(&channel.shown),
            settings.data_key_version,
            settings.sealed.clone(),
            channel.created_at,
            channel.updated_at,
        ],
    )
    .expect_one("the channel is the alert's own")
}

/// Removes channels of an alert.
pub fn remove_channels(alert: AlertId, channels: &[AlertChannelId]) -> Changes {
    channels.iter().fold(Changes::new(), |changes, channel| {
        let sql = "DELETE FROM alert_channels WHERE alert_id = $1 AND id = $2";
        changes.statement(Statement::new(sql, params![alert, *channel]))
    })
}

/// The channels of an alert, in their order.
pub async fn channels(db: &Db, alert: AlertId) -> Result<Vec<Channel>, StoreError> {
    let sql = "SELECT id, kind, is_enabled, shown, created_at, updated_at FROM alert_channels
               WHERE alert_id = $1 ORDER BY position, id LIMIT 100";
    db.rows(sql, params![alert]).await?.iter().map(channel_from).collect()
}

/// The sealed settings of a channel.
pub async fn channel_settings(db: &Db, channel: AlertChannelId) -> Result<Option<SealedCredentials>, StoreError> {
    let row = db.row("SELECT data_key_version, sealed FROM alert_channels WHERE id = $1", params![channel]).await?;
    row.map(|row| {
        let data_key_version = crate::columns::number(&row, 0)?;
        Ok(SealedCredentials { data_key_version, sealed: row.blob(1)?.to_vec() })
    })
    .transpose()
}

fn alert_from(row: &Row) -> Result<(Alert, Looked), StoreError> {
    let alert = Alert {
        id: AlertId(row.uuid(0)?),
        organization: OrganizationId(row.uuid(1)?),
        project: ProjectId(row.uuid(2)?),
        name: row.string(3)?,
        description: row.opt_string(4)?,
        event: word(row, 5, EventKind::parse)?,
        before: row.opt_string(6)?,
        filters: parse_document(row, 7)?,
        is_enabled: row.bool(8)?,
        is_daily: row.bool(9)?,
        version: row.int(10)?,
        created_at: time(row, 11)?,
        updated_at: time(row, 12)?,
    };
    Ok((alert, Looked { until: time(row, 13)?, at: time(row, 14)?, whole_at: time(row, 15)? }))
}

fn channel_from(row: &Row) -> Result<Channel, StoreError> {
    Ok(Channel {
        id: AlertChannelId(row.uuid(0)?),
        kind: word(row, 1, ChannelKind::parse)?,
        is_enabled: row.bool(2)?,
        shown: parse_document(row, 3)?,
        created_at: time(row, 4)?,
        updated_at: time(row, 5)?,
    })
}
