//! What only a restore does: the old life of a database is ended, and what a later revocation list says is added.

use crate::changes::{Changes, Statement};
use crate::columns::number;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::revocation::reason_from;
use domain::{AuthorityKeyId, CrlId, ProjectId, Time};
use x509::RevocationReason;

/// Ends what was under way when the copy was made: leases of jobs, letters between nodes, news of ended access, and
/// marks of requests that nobody answers any more.
pub fn end_old_life() -> Changes {
    [
        "UPDATE jobs SET lease_until = 0, lease_owner = NULL WHERE lease_owner IS NOT NULL OR lease_until <> 0",
        "DELETE FROM node_letters",
        "DELETE FROM access_ends",
        "DELETE FROM idempotency_keys WHERE sealed IS NULL AND certificate_id IS NULL",
    ]
    .into_iter()
    .fold(Changes::new(), |changes, sql| changes.statement(Statement::new(sql, vec![])))
    .configuration()
}

/// How many access tokens are not revoked.
pub async fn count_access_tokens(db: &Db) -> Result<u64, StoreError> {
    let row = db.row("SELECT COUNT(*) FROM access_tokens WHERE is_revoked = 0", vec![]).await?;
    row.map_or(Ok(0), |row| Ok(row.int(0)?.unsigned_abs()))
}

/// Revokes every access token.
pub fn end_access_tokens() -> Statement {
    Statement::new("UPDATE access_tokens SET is_revoked = 1 WHERE is_revoked = 0", vec![])
}

/// Every revocation list that there is, those of deleted authorities, too.
pub async fn lists(db: &Db) -> Result<Vec<CrlId>, StoreError> {
    let rows = db.rows("SELECT id FROM crls ORDER BY authority_key_id, shard", vec![]).await?;
    rows.iter().map(|row| Ok(CrlId(row.uuid(0)?))).collect()
}

/// The list of a key's first shard.
pub async fn first_list(db: &Db, key: AuthorityKeyId) -> Result<Option<CrlId>, StoreError> {
    let sql = "SELECT id FROM crls WHERE authority_key_id = $1 ORDER BY shard LIMIT 1";
    db.row(sql, params![key]).await?.map(|row| row.uuid(0).map(CrlId)).transpose()
}

/// The list of a key that certificates name by this address.
pub async fn list_at(db: &Db, key: AuthorityKeyId, url: &str) -> Result<Option<CrlId>, StoreError> {
    let sql = "SELECT c.id FROM crls c JOIN crl_urls u ON u.crl_id = c.id WHERE c.authority_key_id = $1 AND u.url = $2";
    db.row(sql, params![key, url]).await?.map(|row| row.uuid(0).map(CrlId)).transpose()
}

/// The highest shard of a key.
pub async fn last_shard(db: &Db, key: AuthorityKeyId) -> Result<u32, StoreError> {
    let sql = "SELECT COALESCE(MAX(shard), 0) FROM crls WHERE authority_key_id = $1";
    db.row(sql, params![key]).await?.map_or(Ok(0), |row| number(&row, 0))
}

/// The reason for which a serial number is revoked.
pub async fn reason_of(db: &Db, key: AuthorityKeyId, serial: &[u8]) -> Result<Option<RevocationReason>, StoreError> {
    let sql = "SELECT reason FROM revocations WHERE authority_key_id = $1 AND serial = $2 AND released_at IS NULL";
    db.row(sql, params![key, serial]).await?.map(|row| reason_from(row.int(0)?)).transpose()
}

/// A certificate that a later list names and of which nothing else is known.
#[derive(Clone, Debug)]
pub struct UnknownRevoked {
    /// The key that signed it.
    pub key: AuthorityKeyId,
    /// The contents of the INTEGER of its serial number.
    pub serial: Vec<u8>,
    /// The project of the key.
    pub project: ProjectId,
    /// The shard of the list that names it.
    pub shard: u32,
    /// When it has expired at the latest: it is listed until then.
    pub not_after: Time,
    /// Why it is revoked.
    pub reason: RevocationReason,
    /// When it was revoked.
    pub revoked_at: Time,
}

/// Keeps such a certificate revoked: it is on every list, and its serial number counts as issued.
pub fn keep_revoked(unknown: &UnknownRevoked, now: Time) -> [Statement; 2] {
    let UnknownRevoked { key, serial, project, shard, not_after, reason, revoked_at } = unknown;
    let reason = i64::from(reason.code());
    [
        Statement::new(
            "INSERT INTO revocations (authority_key_id, serial, project_id, shard, not_after, reason, revoked_at,
             changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (authority_key_id, serial) DO UPDATE SET reason = excluded.reason,
             revoked_at = excluded.revoked_at, changed_at = excluded.changed_at, released_at = NULL",
            params![*key, serial.as_slice(), *project, *shard, *not_after, reason, *revoked_at, now],
        ),
        Statement::new(
            "INSERT INTO deleted_serials (authority_key_id, serial, project_id, not_after, deleted_at)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (authority_key_id, serial) DO NOTHING",
            params![*key, serial.as_slice(), *project, *not_after, now],
        ),
    ]
}
