//! Revocations. They outlive the certificates that they revoke, and say alone what a revocation list names.
//!
//! A certificate on hold that was released keeps its row, with the time of the release: lists up to then name it.

use crate::announcement::Announcement;
use crate::changes::{Changes, Statement};
use crate::db::Db;
use crate::error::StoreError;
use crate::inventory;
use crate::params;
use crate::value::Row;
use domain::inventory::{CertificateStatus, DerivedColumns, IssuedBy, IssuedCertificate};
use domain::{AuthorityKeyId, OrganizationId, Time};
use x509::{Certificate, ListedReason, RevocationReason, RevokedCertificate, SerialNumber};

/// Revokes a certificate that is active, as of a time that may be before now.
pub fn insert(
    issued: &IssuedCertificate,
    by: &IssuedBy,
    certificate: &Certificate,
    reason: RevocationReason,
    revoked_at: Time,
    now: Time,
) -> Changes {
    let mark = set_status(issued, certificate, CertificateStatus::Active, CertificateStatus::Revoked);
    let insert = Statement::new(
        "INSERT INTO revocations (authority_key_id, serial, project_id, shard, not_after, reason, revoked_at, changed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (authority_key_id, serial) DO UPDATE SET reason = excluded.reason,
         revoked_at = excluded.revoked_at, changed_at = excluded.changed_at, released_at = NULL
         WHERE revocations.released_at IS NOT NULL",
        params![
            by.key,
            certificate.serial_content(),
            issued.project,
            by.shard,
            Time::from_seconds(certificate.not_after()),
            i64::from(reason.code()),
            revoked_at,
            now,
        ],
    )
    .expect_one("the certificate is not revoked");
    mark.statement(insert).announce(told(by.key, certificate.serial_content()))
}

/// Gives a revocation another reason.
pub fn change_reason(
    key: AuthorityKeyId,
    serial: &[u8],
    from: RevocationReason,
    to: RevocationReason,
    at: Time,
) -> Changes {
    let change = Statement::new(
        "UPDATE revocations SET reason = $4, changed_at = $5 WHERE authority_key_id = $1 AND serial = $2 AND reason = $3
         AND released_at IS NULL",
        params![key, serial, i64::from(from.code()), i64::from(to.code()), at],
    )
    .expect_one("the revocation has the reason that it had");
    Changes::new().statement(change).announce(told(key, serial))
}

/// Ends the hold of a certificate.
pub fn release(issued: &IssuedCertificate, key: AuthorityKeyId, certificate: &Certificate, at: Time) -> Changes {
    let serial = certificate.serial_content();
    let release = Statement::new(
        "UPDATE revocations SET released_at = $3, changed_at = $3 WHERE authority_key_id = $1 AND serial = $2 AND reason = $4
         AND released_at IS NULL",
        params![key, serial, at, i64::from(RevocationReason::CertificateHold.code())],
    )
    .expect_one("the certificate is on hold");
    let mark = set_status(issued, certificate, CertificateStatus::Revoked, CertificateStatus::Active);
    mark.statement(release).announce(told(key, serial))
}

/// What the other nodes hear of it: they must not say any more what they know.
fn told(key: AuthorityKeyId, serial: &[u8]) -> Announcement {
    Announcement::Status { key, serial: serial.to_vec() }
}

fn set_status(
    issued: &IssuedCertificate,
    certificate: &Certificate,
    from: CertificateStatus,
    to: CertificateStatus,
) -> Changes {
    let set = Statement::new(
        "UPDATE certificates SET status = $4 WHERE project_id = $1 AND id = $2 AND status = $3",
        params![issued.project, issued.id, from.code(), to.code()],
    );
    Changes::new().statement(set.expect_one("the certificate has the status that it had")).with(inventory::moved(
        issued,
        &DerivedColumns::of(certificate),
        from,
        to,
    ))
}

/// Some of what a list has to name: the revocations under a key and shard whose certificates ended at or after a time, by
/// serial number, from the one after `after` on.
pub async fn entries(
    db: &Db,
    key: AuthorityKeyId,
    shard: u32,
    not_after_from: Time,
    after: &[u8],
    limit: u32,
) -> Result<Vec<RevokedCertificate>, StoreError> {
    let rows = db
        .rows(
            "SELECT serial, revoked_at, reason FROM revocations
             WHERE authority_key_id = $1 AND shard = $2 AND serial > $4 AND not_after >= $3 AND released_at IS NULL
             ORDER BY serial LIMIT $5",
            params![key, shard, not_after_from, after, limit],
        )
        .await?;
    rows.iter().map(revoked_from).collect()
}

/// Where a page of [`changes`] ended: the time and the serial number of its last row.
pub type ChangesMark = (Time, Vec<u8>);

/// What changed under a key and shard since a time, oldest first, from behind a mark on: certificates that are revoked, and
/// those whose hold was ended. With the mark of this page's end, if there may be more.
pub async fn changes(
    db: &Db,
    key: AuthorityKeyId,
    shard: u32,
    after: &ChangesMark,
    limit: u32,
) -> Result<(Vec<RevokedCertificate>, Option<ChangesMark>), StoreError> {
    let rows = db
        .rows(
            "SELECT serial, revoked_at, reason, released_at, changed_at FROM revocations
             WHERE authority_key_id = $1 AND shard = $2 AND changed_at >= $3 AND (changed_at > $3 OR serial > $4)
             ORDER BY changed_at, serial LIMIT $5",
            params![key, shard, after.0, after.1.as_slice(), limit],
        )
        .await?;
    let mark = match rows.last() {
        Some(last) if rows.len() == limit as usize => Some((Time::from_millis(last.int(4)?), last.blob(0)?.to_vec())),
        _ => None,
    };
    let listed: Result<Vec<RevokedCertificate>, StoreError> = rows
        .iter()
        .map(|row| {
            let revoked = revoked_from(row)?;
            let reason = if row.opt_int(3)?.is_some() { ListedReason::Removed } else { revoked.reason };
            Ok(RevokedCertificate { reason, ..revoked })
        })
        .collect();
    Ok((listed?, mark))
}

/// A row that cannot be listed stops the list: leaving it out would make a revoked certificate good again.
fn revoked_from(row: &Row) -> Result<RevokedCertificate, StoreError> {
    let serial = SerialNumber::from_integer(row.blob(0)?)
        .ok_or_else(|| StoreError::Corrupt("a revocation holds an unusable serial number".into()))?;
    let revoked_at = Time::from_millis(row.int(1)?).seconds();
    let reason = ListedReason::Revoked(reason_from(row.int(2)?)?);
    Ok(RevokedCertificate { serial_number: serial, revoked_at, reason })
}

/// Why a serial number may be missing from a list that an earlier one named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When its certificate ends.
    pub not_after: Time,
    /// When its hold was ended.
    pub released_at: Option<Time>,
}

/// What is known of a serial number that an earlier list named.
pub async fn ended(db: &Db, key: AuthorityKeyId, serial: &[u8]) -> Result<Option<Ended>, StoreError> {
    let sql = "SELECT not_after, released_at FROM revocations WHERE authority_key_id = $1 AND serial = $2";
    let read = |row: Row| {
        let released_at = row.opt_int(1)?.map(Time::from_millis);
        Ok(Ended { not_after: Time::from_millis(row.int(0)?), released_at })
    };
    db.row(sql, params![key, serial]).await?.map(read).transpose()
}

/// Blocks a key in an organisation; one that is blocked stays so.
pub fn block_key(organization: OrganizationId, spki_sha256: [u8; 32], at: Time) -> Changes {
    let block = Statement::new(
        "INSERT INTO blocked_keys (organization_id, spki_sha256, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (organization_id, spki_sha256) DO NOTHING",
        params![organization, spki_sha256, at],
    );
    Changes::new().statement(block).configuration()
}

/// Holds a commit to a key that is not blocked.
pub fn key_is_not_blocked(organization: OrganizationId, spki_sha256: [u8; 32]) -> Statement {
    Statement::new(
        "SELECT 1 FROM organizations o WHERE o.id = $1 AND NOT EXISTS
         (SELECT 1 FROM blocked_keys b WHERE b.organization_id = $1 AND b.spki_sha256 = $2) FOR SHARE",
        params![organization, spki_sha256],
    )
    .expect_one("the key is not blocked")
}

/// Whether a key is blocked in an organisation.
pub async fn is_key_blocked(db: &Db, organization: OrganizationId, spki_sha256: [u8; 32]) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM blocked_keys WHERE organization_id = $1 AND spki_sha256 = $2";
    Ok(db.row(sql, params![organization, spki_sha256]).await?.is_some())
}

/// The reason of a code that is stored.
pub(crate) fn reason_from(code: i64) -> Result<RevocationReason, StoreError> {
    let reason = u8::try_from(code).ok().and_then(RevocationReason::from_code);
    reason.ok_or_else(|| StoreError::Corrupt("a revocation holds an unusable reason".into()))
}
