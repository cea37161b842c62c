//! What happened and is to be told, and what was told.

use crate::changes::Statement;
use crate::columns::{document, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Value;
use domain::alert::{EventKind, ToldFailure};
use domain::{AlertId, CertificateId, ProjectId, Time};
use uuid::Uuid;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct AlertEvent {
    /// Its id, which grows with time.
    pub id: Uuid,
    /// The project.
    pub project: ProjectId,
    /// What happened.
    pub kind: EventKind,
    /// To which certificate; for a failed renewal the one that was to be renewed.
    pub certificate: Option<CertificateId>,
    /// What failed.
    pub failure: Option<ToldFailure>,
    /// When.
    pub created_at: Time,
}

/// Adds what happened, unless the same waits to be told already.
pub fn insert(event: &AlertEvent) -> Statement {
    // A failure is the same when the same was asked for.
    let dedupe = match (&event.certificate, &event.failure) {
        (Some(certificate), _) => certificate.to_string(),
        (None, Some(failure)) => format!("{}/{}", failure.profile_name, failure.common_name),
        (None, None) => event.id.to_string(),
    };
    Statement::new(
        "INSERT INTO alert_events (id, project_id, event, dedupe, certificate_id, failure, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, event, dedupe) DO NOTHING",
        params![
            event.id,
            event.project,
            event.kind.as_str(),
            dedupe,
            event.certificate,
            event.failure.as_ref().map_or(Value::Null, document),
            event.created_at,
        ],
    )
}

/// What waits to be told in a project, oldest first.
pub async fn waiting(db: &Db, project: ProjectId, limit: u32) -> Result<Vec<AlertEvent>, StoreError> {
    let sql = "SELECT id, event, certificate_id, failure, created_at FROM alert_events
               WHERE project_id = $1 ORDER BY id LIMIT $2";
    let rows = db.rows(sql, params![project, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(AlertEvent {
                id: row.uuid(0)?,
                project,
                kind: word(row, 1, EventKind::parse)?,
                certificate: row.opt_uuid(2)?.map(CertificateId),
                failure: row.opt_text(3)?.map(|_| parse_document(row, 3)).transpose()?,
                created_at: time(row, 4)?,
            })
        })
        .collect()
}

/// Removes what was told: whoever comes second finds it gone.
pub fn remove(event: &AlertEvent) -> Statement {
    Statement::new("DELETE FROM alert_events WHERE id = $1", params![event.id])
        .expect_one("nobody told of it meanwhile")
}

/// Notes that an alert tells of something now. Fails when it was told after `again`.
pub fn note(alert: AlertId, subject: Uuid, again: Time, now: Time, forget_at: Time) -> Statement {
    Statement::new(
        "INSERT INTO alert_notices (alert_id, subject, told_at, forget_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (alert_id, subject) DO UPDATE SET told_at = excluded.told_at, forget_at = excluded.forget_at
         WHERE alert_notices.told_at <= $5",
        params![alert, subject, now, forget_at, again],
    )
    .expect_one("nobody told of it meanwhile")
}

/// When an alert told of something last.
pub async fn told_at(db: &Db, alert: AlertId, subject: Uuid) -> Result<Option<Time>, StoreError> {
    let sql = "SELECT told_at FROM alert_notices WHERE alert_id = $1 AND subject = $2";
    db.row(sql, params![alert, subject]).await?.map(|row| time(&row, 0)).transpose()
}

/// Forgets everything that an alert has told of.
pub fn forget(alert: AlertId) -> Statement {
    Statement::new("DELETE FROM alert_notices WHERE alert_id = $1", params![alert])
}

/// Forgets what cannot come again, and what waited so long that nobody asks for it.
pub fn prune(now: Time, waiting_since: Time) -> [Statement; 2] {
    [
        Statement::new("DELETE FROM alert_notices WHERE forget_at < $1", params![now]),
        Statement::new("DELETE FROM alert_events WHERE created_at < $1", params![waiting_since]),
    ]
}
