//! What an operator watches: a few rows of the authorities, the revocation lists and the syncs of all projects, however
//! many there are.

use crate::columns::time;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::{AuthorityId, CrlId, Time};

/// The active authorities that end first, the earliest first. Those that ended before `since` are left out.
pub async fn authority_ends(db: &Db, since: Time, limit: u32) -> Result<Vec<(AuthorityId, Time)>, StoreError> {
    let sql = "SELECT a.id, a.not_after FROM authorities a JOIN projects p ON p.id = a.project_id
               WHERE a.deleted_at IS NULL AND p.deleted_at IS NULL AND a.status = 'active' AND a.not_after >= $1
               ORDER BY a.not_after, a.id LIMIT $2";
    let rows = db.rows(sql, params![since, limit]).await?;
    rows.iter().map(|row| Ok((AuthorityId(row.uuid(0)?), time(row, 1)?))).collect()
}

/// The revocation lists that run out first, the earliest first. Those of a deleted authority are left out once its
/// certificate has expired.
pub async fn crl_ends(db: &Db, now: Time, limit: u32) -> Result<Vec<(CrlId, Time)>, StoreError> {
    let sql = "SELECT c.id, c.next_update FROM crls c JOIN authorities a ON a.id = c.authority_id
               WHERE c.next_update IS NOT NULL AND (a.deleted_at IS NULL OR a.not_after >= $1)
               ORDER BY c.next_update, c.id LIMIT $2";
    let rows = db.rows(sql, params![now, limit]).await?;
    rows.iter().map(|row| Ok((CrlId(row.uuid(0)?), time(row, 1)?))).collect()
}

/// How many links of syncs are in each status.
pub async fn sync_links(db: &Db) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = db.rows("SELECT status, COUNT(*) FROM sync_links GROUP BY status ORDER BY status", vec![]).await?;
    rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?))).collect()
}
