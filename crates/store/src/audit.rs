//! The audit as it is read. Records are written by the committer, in the chain of their node.

use crate::columns::time;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::Time;
use uuid::Uuid;

/// One record of the audit.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// The place in the order of the whole audit.
    pub seq: i64,
    /// When it happened.
    pub at: Time,
    /// The organisation.
    pub organization: Option<Uuid>,
    /// The project.
    pub project: Option<Uuid>,
    /// What kind of thing acted.
    pub actor_kind: String,
    /// Which one.
    pub actor_id: Option<Uuid>,
    /// How it proved who it is.
    pub actor_method: String,
    /// The credential that it used.
    pub actor_credential: Option<Uuid>,
    /// Where it came from.
    pub actor_address: Option<String>,
    /// What happened.
    pub event: String,
    /// To what kind of thing.
    pub object_kind: String,
    /// To which one.
    pub object_id: Option<Uuid>,
    /// More about it, as JSON.
    pub detail: String,
}

/// The newest records, newest first. Each node has its own range of numbers, so the newest of each are merged.
pub async fn newest(db: &Db, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
    let mut records = Vec::new();
    for node in db.rows("SELECT node FROM audit_heads", vec![]).await? {
        let first = node.int(0)? << NODE_SHIFT;
        records.extend(newest_of(db, first, limit).await?);
    }
    records.sort_by_key(|record| std::cmp::Reverse((record.at, record.seq)));
    records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(records)
}

/// A record's number is its node's number times 2^40 and its place on that node.
const NODE_SHIFT: u32 = 40;

async fn newest_of(db: &Db, first: i64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
    let rows = db
        .rows(
            "SELECT seq, at, organization_id, project_id, actor_kind, actor_id, actor_method, actor_credential,
             actor_address, event, object_kind, object_id, detail
             FROM audit_records WHERE seq BETWEEN $1 AND $2 ORDER BY seq DESC LIMIT $3",
            params![first, first + (1_i64 << NODE_SHIFT) - 1, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(AuditEntry {
                seq: row.int(0)?,
                at: time(row, 1)?,
                organization: row.opt_uuid(2)?,
                project: row.opt_uuid(3)?,
                actor_kind: row.string(4)?,
                actor_id: row.opt_uuid(5)?,
                actor_method: row.string(6)?,
                actor_credential: row.opt_uuid(7)?,
                actor_address: row.opt_string(8)?,
                event: row.string(9)?,
                object_kind: row.string(10)?,
                object_id: row.opt_uuid(11)?,
                detail: row.string(12)?,
            })
        })
        .collect()
}
