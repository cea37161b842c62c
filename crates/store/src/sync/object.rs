//! The ledger: what a sync made, or began to make, at its destination. A row is there before the other system is asked, and
//! goes after the object did; only what is here is ever changed or removed (invariants E5, E6, I8).

use crate::changes::Statement;
use crate::columns::{document, number, opt_time, parse_document, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::sync::{ObjectState, SyncObject};
use domain::{CertificateId, SyncId, Time};

/// Writes down that an object is about to be made.
pub fn intend(object: &SyncObject, at: Time) -> Statement {
    Statement::new(
        "INSERT INTO sync_objects (id, sync_id, certificate_id, name, state, external_id, fingerprint, intended, content,
         details, absences, look_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)",
        params![
            object.id,
            object.sync,
            object.certificate,
            object.name.as_str(),
            object.state.as_str(),
            object.external_id.as_deref(),
            object.fingerprint.as_deref(),
            object.intended.as_deref(),
            object.content.as_str(),
            document(&object.details),
            object.absences,
            object.look_at,
            at,
        ],
    )
}

/// Writes what is known of an object now.
pub fn update(object: &SyncObject, at: Time) -> Statement {
    Statement::new(
        "UPDATE sync_objects SET certificate_id = $2, name = $3, state = $4, external_id = $5, fingerprint = $6,
         intended = $7, content = $8, details = $9, absences = $10, look_at = $11, updated_at = $12 WHERE id = $1",
        params![
            object.id,
            object.certificate,
            object.name.as_str(),
            object.state.as_str(),
            object.external_id.as_deref(),
            object.fingerprint.as_deref(),
            object.intended.as_deref(),
            object.content.as_str(),
            document(&object.details),
            object.absences,
            object.look_at,
            at,
        ],
    )
    .expect_one("the object is in the ledger")
}

/// Forgets an object that is gone.
pub fn forget(object: &SyncObject) -> Statement {
    Statement::new("DELETE FROM sync_objects WHERE id = $1", params![object.id])
}

/// Forgets everything that a sync made: it goes on somewhere else.
pub fn forget_all(sync: SyncId) -> Statement {
    Statement::new("DELETE FROM sync_objects WHERE sync_id = $1", params![sync])
}

/// The ledger of a sync, oldest first.
pub async fn all(db: &Db, sync: SyncId) -> Result<Vec<SyncObject>, StoreError> {
    let sql = "SELECT id, sync_id, certificate_id, name, state, external_id, fingerprint, intended, content, details,
               absences, look_at FROM sync_objects WHERE sync_id = $1 ORDER BY created_at, id";
    db.rows(sql, params![sync]).await?.iter().map(object_from).collect()
}

/// When an object of a sync is to be looked for next; none when none is in doubt.
pub async fn next_look(db: &Db, sync: SyncId) -> Result<Option<Time>, StoreError> {
    let sql = "SELECT MIN(look_at) FROM sync_objects WHERE sync_id = $1";
    db.row(sql, params![sync]).await?.map_or(Ok(None), |row| opt_time(&row, 0))
}

fn object_from(row: &Row) -> Result<SyncObject, StoreError> {
    Ok(SyncObject {
        id: row.uuid(0)?,
        sync: SyncId(row.uuid(1)?),
        certificate: CertificateId(row.uuid(2)?),
        name: row.string(3)?,
        state: word(row, 4, ObjectState::parse)?,
        external_id: row.opt_text(5)?.map(Into::into),
        fingerprint: row.opt_text(6)?.map(Into::into),
        intended: row.opt_text(7)?.map(Into::into),
        content: row.string(8)?,
        details: parse_document(row, 9)?,
        absences: number(row, 10)?,
        look_at: opt_time(row, 11)?,
    })
}
