//! Operations, and the idempotency keys that they came with.

use crate::changes::Statement;
use crate::columns::{document, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::registry::OperationId;
use domain::registry::operation::Operation;
use domain::{ProjectId, Time};

/// The constraint that keeps an idempotency key to one operation, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_IDEMPOTENCY: &str = "registry_operations_idempotency";

macro_rules! select_operation {
    ($rest:literal) => {
        concat!(
            "SELECT id, project_id, outcome, created_by, created_at, modified_at, request_digest
             FROM registry_operations ",
            $rest
        )
    };
}

/// Keeps an operation, with the scope of its idempotency key and the digest of its request.
pub fn insert(operation: &Operation, repeat: Option<([u8; 32], [u8; 32])>) -> Statement {
    let (scope, digest) = repeat.unzip();
    Statement::new(
        "INSERT INTO registry_operations (id, project_id, resource_id, outcome, created_by, created_at, modified_at,
         idempotency_scope, request_digest) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            operation.id.as_str(),
            operation.project,
            operation.outcome.resource_id(),
            document(&operation.outcome),
            operation.created_by.as_str(),
            operation.created_at,
            operation.modified_at,
            scope,
            digest,
        ],
    )
}

/// Frees an idempotency key that was used before then.
pub fn forget_key(scope: [u8; 32], before: Time) -> Statement {
    Statement::new(
        "UPDATE registry_operations SET idempotency_scope = NULL WHERE idempotency_scope = $1 AND created_at < $2",
        params![scope, before],
    )
}

/// Forgets operations from before then.
pub fn prune(before: Time) -> Statement {
    Statement::new("DELETE FROM registry_operations WHERE created_at < $1", params![before])
}

/// An operation by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<Operation>, StoreError> {
    db.row(select_operation!("WHERE id = $1"), params![id]).await?.as_ref().map(operation_from).transpose()
}

/// The operation that came with an idempotency key since then, and the digest of its request.
pub async fn by_key(db: &Db, scope: [u8; 32], since: Time) -> Result<Option<(Operation, Vec<u8>)>, StoreError> {
    let sql = select_operation!("WHERE idempotency_scope = $1 AND created_at >= $2");
    let row = db.row(sql, params![scope, since]).await?;
    row.map(|row| Ok((operation_from(&row)?, row.blob(6)?.to_vec()))).transpose()
}

/// The operations of a registry, device or broker before this place, newest first.
pub async fn page(db: &Db, resource: &str, before: &(Time, String), limit: u32) -> Result<Vec<Operation>, StoreError> {
    let sql = select_operation!(
        "WHERE resource_id = $1 AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4"
    );
    let rows = db.rows(sql, params![resource, before.0, before.1.as_str(), limit]).await?;
    rows.iter().map(operation_from).collect()
}

fn operation_from(row: &Row) -> Result<Operation, StoreError> {
    Ok(Operation {
        id: OperationId(row.string(0)?),
        project: ProjectId(row.uuid(1)?),
        outcome: parse_document(row, 2)?,
        created_by: row.string(3)?,
        created_at: time(row, 4)?,
        modified_at: time(row, 5)?,
    })
}
