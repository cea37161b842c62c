//! What may be removed since it is past, and how long an organisation keeps it. Everything is found first and removed by its
//! id, so that what is reported is what went.

use crate::changes::Statement;
use crate::columns::opt_number;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::retention::RetentionPolicy;
use domain::{AccessTokenId, AuthorityKeyId, CertificateId, CertificateRequestId, CrlId, OrganizationId, Time};

/// What an organisation said; what it did not is kept for ever.
pub async fn policy(db: &Db, organization: OrganizationId) -> Result<RetentionPolicy, StoreError> {
    let sql = "SELECT expired_certificate_days, certificate_request_days, audit_days FROM retention_policies
               WHERE organization_id = $1";
    let row = db.row(sql, params![organization]).await?;
    row.as_ref().map_or(Ok(RetentionPolicy::default()), |row| policy_from(row, 0))
}

/// What every organisation said that said something.
pub async fn policies(db: &Db) -> Result<Vec<(OrganizationId, RetentionPolicy)>, StoreError> {
    let sql = "SELECT organization_id, expired_certificate_days, certificate_request_days, audit_days
               FROM retention_policies ORDER BY organization_id";
    let rows = db.rows(sql, vec![]).await?;
    rows.iter().map(|row| Ok((OrganizationId(row.uuid(0)?), policy_from(row, 1)?))).collect()
}

/// Every organisation.
pub async fn organizations(db: &Db) -> Result<Vec<OrganizationId>, StoreError> {
    let rows = db.rows("SELECT id FROM organizations ORDER BY id", vec![]).await?;
    rows.iter().map(|row| Ok(OrganizationId(row.uuid(0)?))).collect()
}

/// Keeps what an organisation says.
pub fn keep_policy(organization: OrganizationId, policy: &RetentionPolicy, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO retention_policies
         (organization_id, expired_certificate_days, certificate_request_days, audit_days, updated_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (organization_id) DO UPDATE SET
         expired_certificate_days = excluded.expired_certificate_days,
         certificate_request_days = excluded.certificate_request_days, audit_days = excluded.audit_days,
         updated_at = excluded.updated_at",
        params![organization, policy.expired_certificate_days, policy.certificate_request_days, policy.audit_days, now,],
    )
}

/// Certificates that expired before a time: not those of authorities, and none that a sync still
/// has to do with.
macro_rules! expired {
    ($columns:literal, $end:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM projects p JOIN inventory_spaces s ON s.project_id = p.id JOIN certificates c ON c.space = s.number
             WHERE p.organization_id = $1 AND c.not_after < $2
             AND NOT EXISTS (SELECT 1 FROM sync_links l WHERE l.certificate_id = c.id)
             AND NOT EXISTS (SELECT 1 FROM sync_objects o WHERE o.certificate_id = c.id) ",
            $end
        )
    };
}

/// Some of the certificates that expired before a time, of each project the first to expire first.
pub async fn expired_certificates(
    db: &Db,
    organization: OrganizationId,
    before: Time,
    limit: u32,
) -> Result<Vec<CertificateId>, StoreError> {
    let spaces = "SELECT s.number FROM projects p JOIN inventory_spaces s ON s.project_id = p.id
                  WHERE p.organization_id = $1 ORDER BY s.number";
    // Project by project, so that each is read along its index from the first to end: over all of them at once,
    // PostgreSQL reads and sorts everything that has expired for every piece.
    let of_space = "SELECT c.id FROM certificates c WHERE c.space = $1 AND c.not_after < $2
                    AND NOT EXISTS (SELECT 1 FROM sync_links l WHERE l.certificate_id = c.id)
                    AND NOT EXISTS (SELECT 1 FROM sync_objects o WHERE o.certificate_id = c.id)
                    ORDER BY c.not_after, c.pk LIMIT $3";
    let mut found = Vec::new();
    for space in db.rows(spaces, params![organization]).await? {
        let missing = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        if missing == 0 {
            break;
        }
        for row in db.rows(of_space, params![space.int(0)?, before, missing]).await? {
            found.push(CertificateId(row.uuid(0)?));
        }
    }
    Ok(found)
}

/// How many those are.
pub async fn count_expired_certificates(
    db: &Db,
    organization: OrganizationId,
    before: Time,
) -> Result<u64, StoreError> {
    count(db, expired!("COUNT(*)", ""), organization, before).await
}

/// How many of those are revoked.
pub async fn count_expired_revoked(db: &Db, organization: OrganizationId, before: Time) -> Result<u64, StoreError> {
    count(db, expired!("COUNT(*)", "AND c.status = 1"), organization, before).await
}

/// Forgets what took the place of a certificate that is gone.
pub fn forget_successor(predecessor: CertificateId) -> Statement {
    Statement::new("DELETE FROM renewals WHERE predecessor_id = $1", params![predecessor])
}

macro_rules! answered {
    ($columns:literal, $end:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM certificate_requests r JOIN projects p ON p.id = r.project_id
             WHERE p.organization_id = $1 AND r.updated_at < $2 AND r.status IN ('issued', 'failed', 'rejected') ",
            $end
        )
    };
}

/// Some of the requests that were answered or refused before a time.
pub async fn answered_requests(
    db: &Db,
    organization: OrganizationId,
    before: Time,
    limit: u32,
) -> Result<Vec<CertificateRequestId>, StoreError> {
    let sql = answered!("r.id", "ORDER BY r.created_at, r.id LIMIT $3");
    let rows = db.rows(sql, params![organization, before, limit]).await?;
    rows.iter().map(|row| Ok(CertificateRequestId(row.uuid(0)?))).collect()
}

/// How many those are.
pub async fn count_answered_requests(db: &Db, organization: OrganizationId, before: Time) -> Result<u64, StoreError> {
    count(db, answered!("COUNT(*)", ""), organization, before).await
}

/// Removes a request.
pub fn delete_request(id: CertificateRequestId) -> Statement {
    Statement::new("DELETE FROM certificate_requests WHERE id = $1", params![id]).expect_one("the request is there")
}

macro_rules! ended_tokens {
    ($columns:literal, $end:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM access_tokens t JOIN identities i ON i.id = t.identity_id WHERE i.organization_id = $1
             AND (t.is_revoked = 1
                  OR (t.ttl_seconds > 0 AND t.period_seconds = 0 AND t.renewed_at + t.ttl_seconds * 1000 < $2)
                  OR (t.period_seconds > 0 AND t.renewed_at + t.period_seconds * 1000 < $2)) ",
            $end
        )
    };
}

/// Some of the access tokens that cannot be used any more.
pub async fn ended_access_tokens(
    db: &Db,
    organization: OrganizationId,
    now: Time,
    limit: u32,
) -> Result<Vec<AccessTokenId>, StoreError> {
    let sql = ended_tokens!("t.id", "ORDER BY t.id LIMIT $3");
    let rows = db.rows(sql, params![organization, now, limit]).await?;
    rows.iter().map(|row| Ok(AccessTokenId(row.uuid(0)?))).collect()
}

/// How many those are.
pub async fn count_ended_access_tokens(db: &Db, organization: OrganizationId, now: Time) -> Result<u64, StoreError> {
    count(db, ended_tokens!("COUNT(*)", ""), organization, now).await
}

/// Removes an access token.
pub fn delete_access_token(id: AccessTokenId) -> Statement {
    Statement::new("DELETE FROM access_tokens WHERE id = $1", params![id])
}

/// Revocations whose certificate expired before a time and has no record any more: under which key, in which list.
#[derive(Clone, Debug)]
pub struct PastRevocation {
    /// The key of the authority.
    pub key: AuthorityKeyId,
    /// The serial number, as in DER.
    pub serial: Vec<u8>,
    /// When the certificate ended.
    pub not_after: Time,
    /// The list that named it.
    pub list: CrlId,
}

/// Some of those revocations, list by list, from behind the one of the page before. Whether the list has forgotten them is not
/// looked at here.
pub async fn past_revocations(
    db: &Db,
    organization: OrganizationId,
    before: Time,
    after: Option<&PastRevocation>,
    limit: u32,
) -> Result<Vec<PastRevocation>, StoreError> {
    let sql = "SELECT r.authority_key_id, r.serial, r.not_after, l.id
               FROM crls l JOIN projects p ON p.id = l.project_id
               JOIN authority_keys k ON k.id = l.authority_key_id
               JOIN revocations r ON r.authority_key_id = l.authority_key_id AND r.shard = l.shard
               WHERE p.organization_id = $1 AND r.not_after < $2 AND l.this_update IS NOT NULL
               AND r.not_after < l.this_update AND (l.id > $3 OR (l.id = $3 AND r.serial > $4))
               AND NOT EXISTS (SELECT 1 FROM certificates c
                               WHERE c.issuer_name_id = k.issuer_name_id AND c.serial = r.serial)
               ORDER BY l.id, r.serial LIMIT $5";
    let (list, serial) = after.map_or((CrlId(uuid::Uuid::nil()), vec![]), |last| (last.list, last.serial.clone()));
    let rows = db.rows(sql, params![organization, before, list, serial, limit]).await?;
    let read = |row: &Row| {
        Ok(PastRevocation {
            key: AuthorityKeyId(row.uuid(0)?),
            serial: row.blob(1)?.to_vec(),
            not_after: Time::from_millis(row.int(2)?),
            list: CrlId(row.uuid(3)?),
        })
    };
    rows.iter().map(read).collect()
}

/// Forgets a revocation, and that there was such a certificate.
pub fn forget_revocation(past: &PastRevocation) -> [Statement; 2] {
    let serial = || params![past.key, past.serial.as_slice()];
    [
        Statement::new("DELETE FROM revocations WHERE authority_key_id = $1 AND serial = $2", serial())
            .expect_one("the revocation is there"),
        Statement::new("DELETE FROM deleted_serials WHERE authority_key_id = $1 AND serial = $2", serial()),
    ]
}

/// How many records of the audit an organisation has from before a time.
pub async fn count_audit_records(db: &Db, organization: OrganizationId, before: Time) -> Result<u64, StoreError> {
    count(db, "SELECT COUNT(*) FROM audit_records WHERE organization_id = $1 AND at < $2", organization, before).await
}

async fn count(db: &Db, sql: &'static str, organization: OrganizationId, before: Time) -> Result<u64, StoreError> {
    let row = db.row(sql, params![organization, before]).await?;
    row.map_or(Ok(0), |row| row.int(0)).map(|count| u64::try_from(count).unwrap_or(0))
}

fn policy_from(row: &Row, at: usize) -> Result<RetentionPolicy, StoreError> {
    Ok(RetentionPolicy {
        expired_certificate_days: opt_number(row, at)?,
        certificate_request_days: opt_number(row, at + 1)?,
        audit_days: opt_number(row, at + 2)?,
    })
}
