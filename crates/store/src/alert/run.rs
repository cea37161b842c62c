//! The history of alerts: what each run told, and what became of its messages.

use crate::changes::Statement;
use crate::columns::{document, number, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::alert::{ChannelKind, Delivery, DeliveryStatus, LastAlertRun, Run};
use domain::{AlertChannelId, AlertDeliveryId, AlertId, AlertRunId, OrganizationId, Time};

/// Adds a run.
pub fn insert(run: &Run) -> Statement {
    Statement::new(
        "INSERT INTO alert_runs (id, alert_id, subject, created_at) VALUES ($1, $2, $3, $4)",
        params![run.id, run.alert, document(&run.subject), run.created_at],
    )
}

/// Adds a message.
pub fn insert_delivery(delivery: &Delivery) -> Statement {
    Statement::new(
        "INSERT INTO alert_deliveries (id, run_id, channel_id, kind, status, attempts, error, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            delivery.id,
            delivery.run,
            delivery.channel,
            delivery.kind.as_str(),
            delivery.status.as_str(),
            delivery.attempts,
            delivery.error.as_deref(),
            delivery.updated_at,
        ],
    )
}

/// Writes what became of a message. One that is gone with its alert stays gone.
pub fn settle(delivery: &Delivery) -> Statement {
    Statement::new(
        "UPDATE alert_deliveries SET status = $2, attempts = $3, error = $4, updated_at = $5 WHERE id = $1",
        params![
            delivery.id,
            delivery.status.as_str(),
            delivery.attempts,
            delivery.error.as_deref(),
            delivery.updated_at,
        ],
    )
}

macro_rules! delivery_columns {
    () => {
        "d.id, d.run_id, d.channel_id, d.kind, d.status, d.attempts, d.error, d.updated_at"
    };
}

/// A message with its run and its alert's organisation.
pub async fn delivery(db: &Db, id: AlertDeliveryId) -> Result<Option<(Delivery, Run, OrganizationId)>, StoreError> {
    let sql = concat!(
        "SELECT ",
        delivery_columns!(),
        ", r.id, r.alert_id, r.subject, r.created_at, p.organization_id FROM alert_deliveries d
         JOIN alert_runs r ON r.id = d.run_id JOIN alerts a ON a.id = r.alert_id
         JOIN projects p ON p.id = a.project_id WHERE d.id = $1"
    );
    let row = db.row(sql, params![id]).await?;
    row.map(|row| Ok((delivery_from(&row)?, run_from(&row, 8)?, OrganizationId(row.uuid(12)?)))).transpose()
}

/// The runs of an alert, the newest first, and how many there are.
pub async fn list(db: &Db, alert: AlertId, offset: u32, limit: u32) -> Result<(Vec<Run>, i64), StoreError> {
    let sql = "SELECT id, alert_id, subject, created_at FROM alert_runs WHERE alert_id = $1
               ORDER BY id DESC LIMIT $2 OFFSET $3";
    let rows = db.rows(sql, params![alert, limit, offset]).await?;
    let total = db.row("SELECT COUNT(*) FROM alert_runs WHERE alert_id = $1", params![alert]).await?;
    let runs: Result<_, _> = rows.iter().map(|row| run_from(row, 0)).collect();
    Ok((runs?, total.map_or(Ok(0), |row| row.int(0))?))
}

/// The messages of a run.
pub async fn deliveries(db: &Db, run: AlertRunId) -> Result<Vec<Delivery>, StoreError> {
    let sql =
        concat!("SELECT ", delivery_columns!(), " FROM alert_deliveries d WHERE d.run_id = $1 ORDER BY d.id LIMIT 100");
    db.rows(sql, params![run]).await?.iter().map(delivery_from).collect()
}

/// What became of the last run of an alert of which anything is known.
pub async fn last(db: &Db, alert: AlertId) -> Result<Option<LastAlertRun>, StoreError> {
    let sql = "SELECT r.created_at, (SELECT MIN(d.error) FROM alert_deliveries d
               WHERE d.run_id = r.id AND d.error IS NOT NULL AND d.status <> 'sent')
               FROM alert_runs r WHERE r.alert_id = $1 AND EXISTS (SELECT 1 FROM alert_deliveries d
               WHERE d.run_id = r.id AND (d.status IN ('sent', 'failed') OR d.error IS NOT NULL))
               ORDER BY r.id DESC LIMIT 1";
    let row = db.row(sql, params![alert]).await?;
    row.map(|row| Ok(LastAlertRun { at: time(&row, 0)?, error: row.opt_string(1)? })).transpose()
}

/// Forgets the history before a moment.
pub fn prune(before: Time) -> Statement {
    Statement::new(
        "DELETE FROM alert_runs WHERE created_at < $1 AND NOT EXISTS (SELECT 1 FROM alert_deliveries d
         WHERE d.run_id = alert_runs.id AND d.status = 'pending')",
        params![before],
    )
}

fn run_from(row: &Row, first: usize) -> Result<Run, StoreError> {
    Ok(Run {
        id: AlertRunId(row.uuid(first)?),
        alert: AlertId(row.uuid(first + 1)?),
        subject: parse_document(row, first + 2)?,
        created_at: time(row, first + 3)?,
    })
}

fn delivery_from(row: &Row) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: AlertDeliveryId(row.uuid(0)?),
        run: AlertRunId(row.uuid(1)?),
        channel: AlertChannelId(row.uuid(2)?),
        kind: word(row, 3, ChannelKind::parse)?,
        status: word(row, 4, DeliveryStatus::parse)?,
        attempts: number(row, 5)?,
        error: row.opt_string(6)?,
        updated_at: time(row, 7)?,
    })
}
