//! What only the check of the inventory asks: columns that are to agree with what they were read from, and rows that are
//! to have a partner. Changes nothing.

use crate::columns::{number, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::{AuthorityCertificateId, AuthorityId, AuthorityKeyId, CertificateId, ProjectId, Time};
use uuid::Uuid;

/// Columns beside the certificate of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityCertificateColumns {
    /// Whose they are.
    pub id: AuthorityCertificateId,
    /// SHA-256 of the issuer's name in DER.
    pub issuer_sha256: Vec<u8>,
    /// The contents of the serial number's INTEGER.
    pub serial: Vec<u8>,
    /// The beginning of the lifetime.
    pub not_before: Time,
    /// The end of the lifetime.
    pub not_after: Time,
}

/// Columns beside the certificates of an authority.
pub async fn authority_certificate_columns(
    db: &Db,
    authority: AuthorityId,
) -> Result<Vec<AuthorityCertificateColumns>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, issuer_sha256, serial, not_before, not_after FROM authority_certificates
             WHERE authority_id = $1",
            params![authority],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(AuthorityCertificateColumns {
                id: AuthorityCertificateId(row.uuid(0)?),
                issuer_sha256: row.blob(1)?.to_vec(),
                serial: row.blob(2)?.to_vec(),
                not_before: time(row, 3)?,
                not_after: time(row, 4)?,
            })
        })
        .collect()
}

/// The keys of an authority, the first one first.
pub async fn authority_keys(db: &Db, authority: AuthorityId) -> Result<Vec<AuthorityKeyId>, StoreError> {
    let rows =
        db.rows("SELECT id FROM authority_keys WHERE authority_id = $1 ORDER BY version", params![authority]).await?;
    rows.iter().map(|row| Ok(AuthorityKeyId(row.uuid(0)?))).collect()
}

/// The name of a key's certificates in DER, and the hashes of name and key: SHA-1 and SHA-256 of each.
pub async fn key_columns(db: &Db, key: AuthorityKeyId) -> Result<Option<(Vec<u8>, [Vec<u8>; 4])>, StoreError> {
    let row = db
        .row(
            "SELECT n.der, k.name_sha1, k.name_sha256, k.key_sha1, k.key_sha256
             FROM authority_keys k JOIN issuer_names n ON n.id = k.issuer_name_id WHERE k.id = $1",
            params![key],
        )
        .await?;
    row.map(|row| {
        let octets = |column| Ok::<_, StoreError>(row.blob(column)?.to_vec());
        Ok((octets(0)?, [octets(1)?, octets(2)?, octets(3)?, octets(4)?]))
    })
    .transpose()
}

/// What stands beside a certificate, and what that leads to.
pub struct Surroundings {
    /// The place in the order of issue.
    pub pk: i64,
    /// The issuer's name in DER that it stands under; none for one that stands under no name, as one does that signed
    /// itself.
    pub issuer_name: Option<Vec<u8>>,
    /// The shard of the list that is to name it when it is revoked.
    pub shard: Option<u32>,
    /// How many of the three columns are written that say which versions of profile and policy judged it.
    pub judging_columns: usize,
    /// The version of the profile that they name.
    pub judging: Option<JudgingVersion>,
    /// Its revocation, also one that was ended.
    pub revocation: Option<RevocationColumns>,
}

/// A version of a profile that judged a certificate.
pub struct JudgingVersion {
    /// The authority that it issues from.
    pub authority: Option<AuthorityId>,
    /// Whether the version of its policy is stored that the certificate names.
    pub has_policy: bool,
}

/// Columns of a revocation that its certificate says, too.
pub struct RevocationColumns {
    /// The end of the certificate.
    pub not_after: Time,
    /// The shard of the list that names it.
    pub shard: u32,
    /// The project.
    pub project: ProjectId,
}

/// What stands beside the certificates between two places in the order of issue.
pub async fn surroundings(db: &Db, first: i64, last: i64) -> Result<Vec<Surroundings>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.pk, n.der, c.shard, c.profile_id, c.profile_version, c.policy_version, v.profile_id, v.authority_id,
             t.policy_id, r.not_after, r.shard, r.project_id
             FROM certificates c LEFT JOIN issuer_names n ON n.id = c.issuer_name_id
             LEFT JOIN profile_versions v ON v.profile_id = c.profile_id AND v.version = c.profile_version
             LEFT JOIN policy_versions t ON t.policy_id = v.policy_id AND t.version = c.policy_version
             LEFT JOIN revocations r ON r.authority_key_id = c.authority_key_id AND r.serial = c.serial
             WHERE c.pk BETWEEN $1 AND $2 ORDER BY c.pk",
            params![first, last],
        )
        .await?;
    rows.iter().map(surroundings_from).collect()
}

fn surroundings_from(row: &Row) -> Result<Surroundings, StoreError> {
    let written = [row.opt_uuid(3)?.is_some(), row.opt_int(4)?.is_some(), row.opt_int(5)?.is_some()];
    let judging = match row.opt_uuid(6)? {
        None => None,
        Some(_) => Some(JudgingVersion {
            authority: row.opt_uuid(7)?.map(AuthorityId),
            has_policy: row.opt_uuid(8)?.is_some(),
        }),
    };
    let revocation = match row.opt_int(9)? {
        None => None,
        Some(_) => Some(RevocationColumns {
            not_after: time(row, 9)?,
            shard: number(row, 10)?,
            project: ProjectId(row.uuid(11)?),
        }),
    };
    Ok(Surroundings {
        pk: row.int(0)?,
        issuer_name: row.opt_blob(1)?.map(<[u8]>::to_vec),
        shard: row.opt_int(2)?.and_then(|shard| u32::try_from(shard).ok()),
        judging_columns: written.iter().filter(|written| **written).count(),
        judging,
        revocation,
    })
}

/// A revocation as a list is to name it.
pub struct ListedColumns {
    /// The contents of the serial number's INTEGER.
    pub serial: Vec<u8>,
    /// The end of the certificate.
    pub not_after: Time,
    /// The stored code of the reason.
    pub reason: i64,
    /// When it was made.
    pub revoked_at: Time,
    /// When it was made or given another reason.
    pub changed_at: Time,
}

/// The revocations under a key and shard that were not ended, by serial number, from the one after `after` on.
pub async fn revocations(
    db: &Db,
    key: AuthorityKeyId,
    shard: u32,
    after: &[u8],
    limit: u32,
) -> Result<Vec<ListedColumns>, StoreError> {
    let rows = db
        .rows(
            "SELECT serial, not_after, reason, revoked_at, changed_at FROM revocations
             WHERE authority_key_id = $1 AND shard = $2 AND serial > $3 AND released_at IS NULL ORDER BY serial LIMIT $4",
            params![key, shard, after, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ListedColumns {
                serial: row.blob(0)?.to_vec(),
                not_after: time(row, 1)?,
                reason: row.int(2)?,
                revoked_at: time(row, 3)?,
                changed_at: time(row, 4)?,
            })
        })
        .collect()
}

/// The shard that a revocation stands under, and whether it was ended.
pub async fn revocation_place(db: &Db, key: AuthorityKeyId, serial: &[u8]) -> Result<Option<(u32, bool)>, StoreError> {
    let sql = "SELECT shard, released_at FROM revocations WHERE authority_key_id = $1 AND serial = $2";
    let row = db.row(sql, params![key, serial]).await?;
    row.map(|row| Ok((number(&row, 0)?, row.opt_int(1)?.is_some()))).transpose()
}

/// Columns beside the certificate of an OCSP responder.
pub struct ResponderColumns {
    /// The authority.
    pub authority: AuthorityId,
    /// The contents of the serial number's INTEGER.
    pub serial: Vec<u8>,
    /// The beginning of the lifetime.
    pub not_before: Time,
    /// The end of the lifetime.
    pub not_after: Time,
}

/// Columns beside the certificate of an OCSP responder; nothing when it was followed by another meanwhile.
pub async fn responder_columns(db: &Db, id: Uuid) -> Result<Option<ResponderColumns>, StoreError> {
    let sql = "SELECT authority_id, serial, not_before, not_after FROM ocsp_responders WHERE id = $1";
    let row = db.row(sql, params![id]).await?;
    row.map(|row| {
        Ok(ResponderColumns {
            authority: AuthorityId(row.uuid(0)?),
            serial: row.blob(1)?.to_vec(),
            not_before: time(&row, 2)?,
            not_after: time(&row, 3)?,
        })
    })
    .transpose()
}

/// Certificates that were issued from a profile, as the audit says, and whose rows name none.
pub async fn certificates_without_profile(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM audit_records a JOIN certificates c ON c.id = a.object_id
             WHERE a.event = 'certificate-issued' AND c.profile_id IS NULL AND a.detail NOT LIKE '%\"directly\":\"%'
             ORDER BY c.pk LIMIT $1",
            params![limit],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// Certificates that were issued from a profile and are left out of the lists: what somebody asked for is shown.
pub async fn certificates_that_are_hidden(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let sql = "SELECT id FROM certificates WHERE profile_id IS NOT NULL AND is_listed = 0 ORDER BY pk LIMIT $1";
    let rows = db.rows(sql, params![limit]).await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// Certificates that are shown in lists, and of which the index for searches says something else than their rows.
pub async fn certificates_that_are_misplaced(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM certificates c LEFT JOIN certificate_groups g ON g.id = c.group_id AND g.space = c.space
             AND g.project_id = c.project_id AND g.authority_id = COALESCE(c.authority_id, $2)
             AND g.profile_id = COALESCE(c.profile_id, $2)
             WHERE c.is_listed = 1 AND g.id IS NULL ORDER BY c.pk LIMIT $1",
            params![limit, Vec::new()],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// The place and the id of the first certificate after a place.
pub async fn next_certificate(db: &Db, after: i64) -> Result<Option<(i64, CertificateId)>, StoreError> {
    let row = db.row("SELECT pk, id FROM certificates WHERE pk > $1 ORDER BY pk LIMIT 1", params![after]).await?;
    row.map(|row| Ok((row.int(0)?, CertificateId(row.uuid(1)?)))).transpose()
}

/// Certificates that somebody asked for, and of which the audit does not say when and in which project they were issued, or not as
/// their rows do. Of those from before the audit begins it may say nothing.
pub async fn certificates_without_record(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM certificates c LEFT JOIN
             (SELECT object_id, project_id, at FROM audit_records WHERE event = 'certificate-issued') a
             ON a.object_id = c.id
             WHERE (c.profile_id IS NOT NULL OR (c.is_listed = 1 AND c.authority_id IS NOT NULL))
             AND (a.object_id IS NULL OR a.at <> c.created_at OR a.project_id <> c.project_id)
             AND (a.object_id IS NOT NULL OR c.created_at > (SELECT COALESCE(MAX(at), -1) FROM audit_starts))
             ORDER BY c.pk LIMIT $1",
            params![limit],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// Certificates that were issued and not deleted as the audit says, and that are not there.
pub async fn records_without_certificate(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT a.object_id FROM audit_records a
             LEFT JOIN certificates c ON c.id = a.object_id
             LEFT JOIN (SELECT object_id FROM audit_records WHERE event = 'certificate-deleted') d
             ON d.object_id = a.object_id
             WHERE a.event = 'certificate-issued' AND c.id IS NULL AND d.object_id IS NULL ORDER BY a.seq LIMIT $1",
            params![limit],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// Certificates whose key was made here, as the audit says, and is not kept any more.
pub async fn certificates_without_key(db: &Db, limit: u32) -> Result<Vec<CertificateId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM audit_records a JOIN certificates c ON c.id = a.object_id
             LEFT JOIN leaf_keys k ON k.certificate_pk = c.pk
             WHERE a.event = 'certificate-issued' AND a.detail LIKE '%\"key\":\"%' AND k.certificate_pk IS NULL
             ORDER BY c.pk LIMIT $1",
            params![limit],
        )
        .await?;
    rows.iter().map(|row| Ok(CertificateId(row.uuid(0)?))).collect()
}

/// How many keys are kept for certificates that are not there.
pub async fn keys_without_certificate(db: &Db) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) FROM leaf_keys k LEFT JOIN certificates c ON c.pk = k.certificate_pk WHERE c.pk IS NULL";
    db.row(sql, vec![]).await?.map_or(Ok(0), |row| row.int(0))
}

/// The details of what the audit says of certificates that authorities here signed for other authorities.
pub async fn signed_for_authorities(db: &Db) -> Result<Vec<String>, StoreError> {
    let rows =
        db.rows("SELECT detail FROM audit_records WHERE event = 'intermediate-signed' ORDER BY seq", vec![]).await?;
    rows.iter().map(|row| row.string(0)).collect()
}

/// The serial numbers of certificates that authorities here signed for authorities here.
pub async fn signed_among_authorities(db: &Db) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql = "SELECT serial FROM authority_certificates WHERE parent_certificate_id IS NOT NULL ORDER BY created_at";
    let rows = db.rows(sql, vec![]).await?;
    rows.iter().map(|row| Ok(row.blob(0)?.to_vec())).collect()
}

/// Whether a certificate of an authority with that serial number is in the inventory, or was deleted as the audit says.
pub async fn is_accounted_for(db: &Db, serial: &[u8], hex: &str) -> Result<bool, StoreError> {
    let row = db
        .row(
            "SELECT 1 FROM certificates WHERE serial = $1
             AND issuer_name_id IN (SELECT id FROM issuer_names UNION ALL SELECT 0)
             UNION ALL SELECT 1 FROM audit_records WHERE event = 'certificate-deleted' AND detail LIKE '%' || $2 || '%'
             LIMIT 1",
            params![serial, hex],
        )
        .await?;
    Ok(row.is_some())
}

/// The server's own secrets: name, id and sealed value.
pub async fn server_secrets(db: &Db) -> Result<Vec<(String, Uuid, Vec<u8>)>, StoreError> {
    let rows = db.rows("SELECT name, id, sealed FROM server_secrets ORDER BY name", vec![]).await?;
    rows.iter().map(|row| Ok((row.string(0)?, row.uuid(1)?, row.blob(2)?.to_vec()))).collect()
}

/// A sealed value of a connection or a sync.
pub struct SealedRow {
    /// The table.
    pub table: &'static str,
    /// The row.
    pub id: Uuid,
    /// The project; none for a connection of the whole organisation.
    pub project: Option<ProjectId>,
    /// The sealed value.
    pub sealed: Vec<u8>,
}

/// What connections, syncs and channels of alerts keep sealed.
pub async fn sealed_of_connections_and_syncs(db: &Db) -> Result<Vec<SealedRow>, StoreError> {
    let mut all = Vec::new();
    for (table, sql) in [
        ("connections", "SELECT id, project_id, sealed FROM connections ORDER BY id"),
        ("syncs", "SELECT id, project_id, sealed FROM syncs WHERE sealed IS NOT NULL ORDER BY id"),
        (
            "alert_channels",
            "SELECT c.id, a.project_id, c.sealed FROM alert_channels c JOIN alerts a ON a.id = c.alert_id ORDER BY c.id",
        ),
    ] {
        for row in db.rows(sql, vec![]).await? {
            let project = row.opt_uuid(1)?.map(ProjectId);
            all.push(SealedRow { table, id: row.uuid(0)?, project, sealed: row.blob(2)?.to_vec() });
        }
    }
    Ok(all)
}
