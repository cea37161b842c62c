//! Certificates that somebody else issued: the number under which their serial numbers are unique, and what the check of
//! the inventory asks about them.
//!
//! Among the issuers' names each project has one entry that is no name but stands for the project: whoever imports a certificate
//! neither learns of another project's nor stands in the way of it, nor of a serial number that is drawn here.

use crate::changes::Statement;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::{CertificateId, ProjectId};

/// The number under which a project's imported certificates stand; nothing before the first one.
pub async fn place(db: &Db, project: ProjectId) -> Result<Option<i64>, StoreError> {
    let row = db.row("SELECT id FROM issuer_names WHERE der = $1", params![name(project)]).await?;
    row.map(|row| row.int(0)).transpose()
}

/// Makes sure that a project has such a number.
pub fn ensure_place(project: ProjectId) -> Statement {
    crate::authority::ensure_issuer_name(&name(project))
}

/// What stands for a project among the issuers' names. It begins as no name in DER does.
pub fn name(project: ProjectId) -> Vec<u8> {
    [&[0], project.as_bytes().as_slice()].concat()
}

/// Imported certificates of which the audit does not say when and into which project they were imported, or not as their
/// rows do.
pub async fn without_record(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM certificates c LEFT JOIN
             (SELECT object_id, project_id, at FROM audit_records WHERE event = 'certificate-imported') a
             ON a.object_id = c.id
             WHERE c.profile_id IS NULL AND c.authority_id IS NULL
             AND (a.object_id IS NULL OR a.at <> c.created_at OR a.project_id <> c.project_id)
             AND (a.object_id IS NOT NULL OR c.created_at > (SELECT COALESCE(MAX(at), -1) FROM audit_starts))
             ORDER BY c.pk LIMIT $1",
            params![limit],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// Certificates that were imported and not deleted as the audit says, and that are not there or are said to be of an
/// authority here.
pub async fn without_certificate(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT a.object_id FROM audit_records a
             LEFT JOIN certificates c ON c.id = a.object_id AND c.authority_id IS NULL
             LEFT JOIN (SELECT object_id FROM audit_records WHERE event = 'certificate-deleted') d
             ON d.object_id = a.object_id
             WHERE a.event = 'certificate-imported' AND c.id IS NULL AND d.object_id IS NULL ORDER BY a.seq LIMIT $1",
            params![limit],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// Certificates that were imported with their key, as the audit says, and whose key is not kept any more.
pub async fn without_key(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM audit_records a JOIN certificates c ON c.id = a.object_id
             LEFT JOIN leaf_keys k ON k.certificate_pk = c.pk
             WHERE a.event = 'certificate-imported' AND a.detail LIKE '%\"key\":\"kept\"%' AND k.certificate_pk IS NULL
             ORDER BY c.pk LIMIT $1",
            params![limit],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}
