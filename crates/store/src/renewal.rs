//! Renewals: which certificate took the place of which, and which are to be renewed by themselves.

use crate::changes::{Changes, Statement};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::inventory::CertificateStatus;
use domain::{CertificateId, OrganizationId, SubscriberId, Time};

/// Puts a certificate in the place of another one that is active and has no successor: whoever comes second finds that it
/// has one. What was planned for it is done.
pub fn insert(predecessor: CertificateId, successor: CertificateId, at: Time) -> Changes {
    let insert = Statement::new(
        "INSERT INTO renewals (predecessor_id, successor_id, created_at)
         SELECT c.id, $2, $3 FROM certificates c WHERE c.id = $1 AND c.status = $4 FOR SHARE",
        params![predecessor, successor, at, CertificateStatus::Active.code()],
    )
    .expect_one("the certificate is active");
    let forget = Statement::new(
        "DELETE FROM renewal_plans WHERE certificate_pk = (SELECT pk FROM certificates WHERE id = $1)",
        params![predecessor],
    );
    Changes::new().statement(insert).statement(forget)
}

/// Plans the renewal of a certificate.
pub fn plan(certificate: CertificateId, days: u32, renew_at: Time) -> Statement {
    Statement::new(
        "INSERT INTO renewal_plans (certificate_pk, renew_before_days, renew_at, last_error)
         SELECT c.pk, CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST(NULL AS TEXT) FROM certificates c WHERE c.id = $1
         AND NOT EXISTS (SELECT 1 FROM renewals r WHERE r.predecessor_id = c.id) FOR SHARE
         ON CONFLICT (certificate_pk) DO UPDATE SET renew_before_days = excluded.renew_before_days,
         renew_at = excluded.renew_at",
        params![certificate, days, renew_at],
    )
    .expect_one("the certificate is there and has no successor")
}

/// Takes a plan back. What kept a renewal from happening stays in the record.
pub fn forget_plan(pk: i64) -> Statement {
    let sql = "UPDATE renewal_plans SET renew_before_days = NULL, renew_at = NULL WHERE certificate_pk = $1";
    Statement::new(sql, params![pk])
}

/// Takes back whatever is planned for the certificates of a subscriber.
pub fn forget_plans_of_subscriber(subscriber: SubscriberId) -> Statement {
    Statement::new(
        "UPDATE renewal_plans SET renew_before_days = NULL, renew_at = NULL WHERE certificate_pk IN
         (SELECT o.certificate_pk FROM certificate_origins o WHERE o.subscriber_id = $1)",
        params![subscriber],
    )
}

/// Writes down why a renewal was refused, and when one that is planned is tried again.
pub fn refused(pk: i64, why: &str, next_try: Option<Time>) -> Statement {
    Statement::new(
        "INSERT INTO renewal_plans (certificate_pk, renew_before_days, renew_at, last_error)
         SELECT c.pk, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST($2 AS TEXT) FROM certificates c
         WHERE c.pk = $1 FOR SHARE
         ON CONFLICT (certificate_pk) DO UPDATE SET last_error = excluded.last_error,
         renew_at = CASE WHEN renewal_plans.renew_before_days IS NULL THEN NULL ELSE CAST($3 AS BIGINT) END",
        params![pk, why, next_try],
    )
}

/// Puts a renewal that is being worked on out of the way of the others that are due.
pub fn postpone(certificate: CertificateId, until: Time) -> Statement {
    Statement::new(
        "UPDATE renewal_plans SET renew_at = $2
         WHERE certificate_pk = (SELECT pk FROM certificates WHERE id = $1) AND renew_at < $2",
        params![certificate, until],
    )
}

/// The certificate that took the place of another one.
pub async fn successor(db: &Db, predecessor: CertificateId) -> Result<Option<CertificateId>, StoreError> {
    let sql = "SELECT successor_id FROM renewals WHERE predecessor_id = $1";
    db.row(sql, params![predecessor]).await?.map(|row| Ok(CertificateId(row.uuid(0)?))).transpose()
}

/// The certificate that another one was renewed from.
pub async fn predecessor(db: &Db, successor: CertificateId) -> Result<Option<CertificateId>, StoreError> {
    let sql = "SELECT predecessor_id FROM renewals WHERE successor_id = $1";
    db.row(sql, params![successor]).await?.map(|row| Ok(CertificateId(row.uuid(0)?))).transpose()
}

/// Certificates whose renewal is due, the earliest first, each with the organisation that it belongs to.
pub async fn due(db: &Db, now: Time, limit: u32) -> Result<Vec<(OrganizationId, CertificateId)>, StoreError> {
    let rows = db
        .rows(
            "SELECT p.organization_id, c.id FROM renewal_plans w
             JOIN certificates c ON c.pk = w.certificate_pk JOIN projects p ON p.id = c.project_id
             WHERE w.renew_at <= $1 AND p.deleted_at IS NULL ORDER BY w.renew_at LIMIT $2",
            params![now, limit],
        )
        .await?;
    rows.iter().map(|row| Ok((OrganizationId(row.uuid(0)?), CertificateId(row.uuid(1)?)))).collect()
}
