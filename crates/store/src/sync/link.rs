//! Which certificates a sync carries, and what became of each.

use crate::changes::{Changes, Statement};
use crate::columns::{opt_time, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::inventory::CertificateStatus;
use domain::sync::{SyncLink, SyncStatus};
use domain::{CertificateId, SyncId, SyncLinkId, Time};

macro_rules! select_link {
    ($($rest:expr),+) => {
        concat!(
            "SELECT l.id, l.sync_id, l.certificate_id, l.status, l.message, l.last_synced_at, l.prove_until, l.created_at,
             l.updated_at FROM sync_links l ",
            $($rest),+
        )
    };
}

/// Links a certificate that is active and has no successor; one that is linked already stays as it is.
pub fn insert(link: &SyncLink) -> Statement {
    Statement::new(
        "INSERT INTO sync_links (id, sync_id, certificate_id, status, message, last_synced_at, created_at, updated_at)
         SELECT $1, s.id, c.id, CAST($4 AS TEXT), CAST(NULL AS TEXT), CAST(NULL AS BIGINT), CAST($5 AS BIGINT),
         CAST($5 AS BIGINT) FROM syncs s JOIN certificates c ON c.project_id = s.project_id
         WHERE s.id = $2 AND c.id = $3 AND c.status = $6
         AND NOT EXISTS (SELECT 1 FROM renewals r WHERE r.predecessor_id = c.id)
         ON CONFLICT (sync_id, certificate_id) DO NOTHING",
        params![
            link.id,
            link.sync,
            link.certificate,
            link.status.as_str(),
            link.created_at,
            CertificateStatus::Active.code(),
        ],
    )
}

/// Links the successor of a certificate to each sync that the certificate is linked to, under these ids. It holds only when
/// those are all of them. The row is held first, so that on PostgreSQL what is counted is what others committed before.
pub fn hand_over(
    predecessor: CertificateId,
    successor: CertificateId,
    links: &[(SyncLinkId, SyncId)],
    at: Time,
) -> Changes {
    let linked = Statement::new(
        "UPDATE certificates SET status = status
         WHERE id = $1 AND (SELECT COUNT(*) FROM sync_links l WHERE l.certificate_id = $1) = $2",
        params![predecessor, i64::try_from(links.len()).unwrap_or(i64::MAX)],
    )
    .expect_one("the certificate is linked where it was when this was decided");
    links.iter().fold(Changes::new().statement(hold(predecessor)).statement(linked), |changes, (link, sync)| {
        let insert = Statement::new(
            "INSERT INTO sync_links (id, sync_id, certificate_id, status, created_at, updated_at)
             SELECT $1, l.sync_id, $4, 'pending', CAST($5 AS BIGINT), CAST($5 AS BIGINT) FROM sync_links l
             WHERE l.sync_id = $2 AND l.certificate_id = $3",
            params![*link, *sync, predecessor, successor, at],
        );
        changes.statement(insert.expect_one("the certificate is linked where it was when this was decided"))
    })
}

/// Keeps a certificate from being renewed until the commit. What follows sees a renewal that came first, and a renewal that
/// comes second sees what this commit links.
pub fn hold(certificate: CertificateId) -> Statement {
    Statement::new("UPDATE certificates SET status = status WHERE id = $1", params![certificate])
}

/// Ends the links of certificates.
pub fn delete(sync: SyncId, certificate: CertificateId) -> Statement {
    Statement::new("DELETE FROM sync_links WHERE sync_id = $1 AND certificate_id = $2", params![sync, certificate])
}

/// Says what became of a link.
pub fn set_status(
    sync: SyncId,
    certificate: CertificateId,
    status: SyncStatus,
    message: Option<&str>,
    synced_at: Option<Time>,
    at: Time,
) -> Statement {
    Statement::new(
        "UPDATE sync_links SET status = $3, message = $4,
         last_synced_at = COALESCE(CAST($5 AS BIGINT), last_synced_at), updated_at = $6
         WHERE sync_id = $1 AND certificate_id = $2",
        params![sync, certificate, status.as_str(), message, synced_at, at],
    )
}

/// Says until when a certificate has to be seen being served.
pub fn prove_until(sync: SyncId, certificate: CertificateId, until: Option<Time>) -> Statement {
    Statement::new(
        "UPDATE sync_links SET prove_until = $3 WHERE sync_id = $1 AND certificate_id = $2",
        params![sync, certificate, until],
    )
}

/// The link of a certificate.
pub async fn of(db: &Db, sync: SyncId, certificate: CertificateId) -> Result<Option<SyncLink>, StoreError> {
    let sql = select_link!("WHERE l.sync_id = $1 AND l.certificate_id = $2");
    db.row(sql, params![sync, certificate]).await?.as_ref().map(link_from).transpose()
}

/// All links of a sync, oldest first.
pub async fn all(db: &Db, sync: SyncId) -> Result<Vec<SyncLink>, StoreError> {
    let sql = select_link!("WHERE l.sync_id = $1 ORDER BY l.created_at, l.id");
    db.rows(sql, params![sync]).await?.iter().map(link_from).collect()
}

/// A page of a sync's links, newest first, and how many there are.
pub async fn page(db: &Db, sync: SyncId, offset: u32, limit: u32) -> Result<(Vec<SyncLink>, i64), StoreError> {
    let sql = select_link!("WHERE l.sync_id = $1 ORDER BY l.created_at DESC, l.id DESC LIMIT $2 OFFSET $3");
    let links: Result<Vec<SyncLink>, StoreError> =
        db.rows(sql, params![sync, limit, offset]).await?.iter().map(link_from).collect();
    let total = db.row("SELECT COUNT(*) FROM sync_links WHERE sync_id = $1", params![sync]).await?;
    Ok((links?, total.map_or(Ok(0), |row| row.int(0))?))
}

/// The syncs that a certificate is linked to, each with whether it runs by itself.
pub async fn syncs_of(db: &Db, certificate: CertificateId) -> Result<Vec<(SyncId, bool)>, StoreError> {
    let sql = "SELECT s.id, s.is_automatic FROM sync_links l JOIN syncs s ON s.id = l.sync_id
               WHERE l.certificate_id = $1 ORDER BY s.id";
    let rows = db.rows(sql, params![certificate]).await?;
    rows.iter().map(|row| Ok((SyncId(row.uuid(0)?), row.bool(1)?))).collect()
}

fn link_from(row: &Row) -> Result<SyncLink, StoreError> {
    Ok(SyncLink {
        id: SyncLinkId(row.uuid(0)?),
        sync: SyncId(row.uuid(1)?),
        certificate: CertificateId(row.uuid(2)?),
        status: word(row, 3, SyncStatus::parse)?,
        message: row.opt_text(4)?.map(Into::into),
        last_synced_at: opt_time(row, 5)?,
        prove_until: opt_time(row, 6)?,
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
    })
}
