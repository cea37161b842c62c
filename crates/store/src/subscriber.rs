//! Subscribers. Their certificates are in `certificate/origin.rs`.

use crate::changes::Statement;
use crate::columns::{document, number, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::subscriber::{Subscriber, SubscriberStatus};
use domain::{AuthorityId, OrganizationId, ProjectId, SubscriberId};

/// The constraint that keeps names unique in a project, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "subscribers_name";

macro_rules! select_subscriber {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.project_id, s.authority_id, s.name, s.status, s.version, s.document, s.created_at, s.updated_at
             FROM subscribers s JOIN projects p ON p.id = s.project_id AND p.deleted_at IS NULL ",
            $rest
        )
    };
}

/// A subscriber of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: SubscriberId) -> Result<Option<Subscriber>, StoreError> {
    let sql = select_subscriber!("WHERE s.id = $2 AND p.organization_id = $1");
    db.row(sql, params![organization, id]).await?.as_ref().map(subscriber_from).transpose()
}

/// A subscriber of a project by its name.
pub async fn by_name(db: &Db, project: ProjectId, name: &str) -> Result<Option<Subscriber>, StoreError> {
    let sql = select_subscriber!("WHERE s.project_id = $1 AND s.name = $2");
    db.row(sql, params![project, name]).await?.as_ref().map(subscriber_from).transpose()
}

/// The subscribers of a project by name, at most 10,000.
pub async fn list(db: &Db, project: ProjectId) -> Result<Vec<Subscriber>, StoreError> {
    let sql = select_subscriber!("WHERE s.project_id = $1 ORDER BY s.name LIMIT 10000");
    db.rows(sql, params![project]).await?.iter().map(subscriber_from).collect()
}

/// Adds a subscriber.
pub fn insert(subscriber: &Subscriber) -> Statement {
    Statement::new(
        "INSERT INTO subscribers (id, project_id, authority_id, name, status, version, document, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            subscriber.id,
            subscriber.project,
            subscriber.authority,
            subscriber.name.as_str(),
            subscriber.status.as_str(),
            subscriber.version,
            document(&subscriber.document),
            subscriber.created_at,
            subscriber.updated_at,
        ],
    )
}

/// Writes a subscriber that was read as `subscriber.version - 1`.
pub fn update(subscriber: &Subscriber) -> Statement {
    Statement::new(
        "UPDATE subscribers SET authority_id = $4, name = $5, status = $6, version = $7, document = $8, updated_at = $9
         WHERE project_id = $1 AND id = $2 AND version = $3",
        params![
            subscriber.project,
            subscriber.id,
            subscriber.version - 1,
            subscriber.authority,
            subscriber.name.as_str(),
            subscriber.status.as_str(),
            subscriber.version,
            document(&subscriber.document),
            subscriber.updated_at,
        ],
    )
    .expect_one("the subscriber is as it was when this was decided")
}

/// Removes a subscriber. Its certificates stay.
pub fn delete(subscriber: &Subscriber) -> Statement {
    Statement::new(
        "DELETE FROM subscribers WHERE project_id = $1 AND id = $2 AND version = $3",
        params![subscriber.project, subscriber.id, subscriber.version],
    )
    .expect_one("the subscriber is as it was when this was decided")
}

/// Holds a commit to the subscriber that it was decided on.
pub fn is_unchanged(subscriber: &Subscriber) -> Statement {
    Statement::new(
        "SELECT 1 FROM subscribers WHERE project_id = $1 AND id = $2 AND version = $3 FOR SHARE",
        params![subscriber.project, subscriber.id, subscriber.version],
    )
    .expect_one("the subscriber is as it was when this was decided")
}

fn subscriber_from(row: &Row) -> Result<Subscriber, StoreError> {
    Ok(Subscriber {
        id: SubscriberId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        authority: AuthorityId(row.uuid(2)?),
        name: row.string(3)?,
        status: word(row, 4, SubscriberStatus::parse)?,
        version: number(row, 5)?,
        document: parse_document(row, 6)?,
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
    })
}
