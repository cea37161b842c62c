//! The inventory: issued certificates, their keys, and requests that wait.
//!
//! Column values are read from the certificate's own DER, never from the request that asked for it.

use crate::changes::{Changes, Statement};
use crate::columns::{document, number, opt_time, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::profile::like;
use crate::value::{Row, Value};
use domain::inventory::{
    CertificateDetails, CertificateRequestRecord, CertificateStatus, DerivedColumns, IssuedBy, IssuedCertificate,
    JudgedBy, ShownStatus,
};
use domain::{
    AuthorityCertificateId, AuthorityId, AuthorityKeyId, CertificateId, CertificateRequestId, OrganizationId, ProfileId,
    ProjectId, Time,
};
use x509::Certificate;

/// A private key of a leaf as it is stored.
#[derive(Clone, Debug)]
pub struct SealedLeafKey {
    /// The data key that seals it.
    pub data_key_version: u32,
    /// The sealed PKCS#8.
    pub sealed: Vec<u8>,
}

/// Adds a certificate, and its key when it was made here. `issuer_name` is the number of the issuer's name, under which
/// serial numbers are unique; a self-signed certificate stands under number 0.
pub fn insert(
    issued: &IssuedCertificate,
    parsed: &Certificate,
    issuer_name: i64,
    key: Option<&SealedLeafKey>,
) -> Changes {
    let derived = DerivedColumns::of(parsed);
    let insert = Statement::new(
        "INSERT INTO certificates (id, project_id, profile_id, profile_version, policy_version, authority_id,
         authority_key_id, authority_certificate_id, issuer_name_id, serial, shard, status, common_name, alt_names,
         not_before, not_after, key_algorithm, details, created_at, der)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        params![
            issued.id,
            issued.project,
            issued.judged_by.map(|judged| judged.profile),
            issued.judged_by.map(|judged| judged.profile_version),
            issued.judged_by.map(|judged| judged.policy_version),
            issued.issuer.map(|by| by.authority),
            issued.issuer.map(|by| by.key),
            issued.issuer.map(|by| by.certificate),
            issuer_name,
            derived.serial,
            issued.issuer.map(|by| by.shard),
            issued.status.code(),
            derived.common_name,
            derived.alt_names.join(", "),
            derived.not_before,
            derived.not_after,
            derived.key_algorithm,
            (!issued.details.is_empty()).then(|| document(&issued.details)),
            issued.created_at,
            issued.der.clone(),
        ],
    );
    let changes = Changes::new().statement(insert);
    match key {
        None => changes,
        Some(key) => changes.statement(
            Statement::new(
                "INSERT INTO leaf_keys (certificate_pk, provider, data_key_version, sealed)
                 SELECT pk, 0, $2, $3 FROM certificates WHERE id = $1",
                params![issued.id, key.data_key_version, key.sealed.clone()],
            )
            .expect_one("the certificate was just added"),
        ),
    }
}

/// A certificate with what the record shows beside it.
#[derive(Clone, Debug)]
pub struct InventoryRow {
    /// The place in the order of issue.
    pub pk: i64,
    /// The certificate.
    pub issued: IssuedCertificate,
    /// Whether a key is stored.
    pub has_key: bool,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    /// Why it was revoked: the CRL's number.
    pub revocation_reason: Option<i64>,
}

macro_rules! select_certificate {
    ($rest:literal) => {
        concat!(
            "SELECT c.pk, c.id, c.project_id, c.profile_id, c.profile_version, c.policy_version, c.authority_id,
             c.authority_key_id, c.authority_certificate_id, c.shard, c.status, c.details, c.created_at, c.der,
             k.certificate_pk, r.revoked_at, r.reason
             FROM certificates c LEFT JOIN leaf_keys k ON k.certificate_pk = c.pk
             LEFT JOIN revocations r ON r.authority_key_id = c.authority_key_id AND r.serial = c.serial ",
            $rest
        )
    };
}

/// A certificate of the organisation.
pub async fn by_id(
    db: &Db,
    organization: OrganizationId,
    id: CertificateId,
) -> Result<Option<InventoryRow>, StoreError> {
    let row = db
        .row(
            select_certificate!(
                "JOIN projects p ON p.id = c.project_id WHERE c.id = $2 AND p.organization_id = $1"
            ),
            params![organization, id],
        )
        .await?;
    row.as_ref().map(certificate_from).transpose()
}

/// The certificates of the organisation with that serial number: one, unless two authorities drew the same.
pub async fn by_serial(
    db: &Db,
    organization: OrganizationId,
    serial: &[u8],
) -> Result<Vec<InventoryRow>, StoreError> {
    let rows = db
        .rows(
            select_certificate!(
                "JOIN projects p ON p.id = c.project_id
                 WHERE p.organization_id = $1 AND c.serial = $2
                 AND c.issuer_name_id IN (SELECT id FROM issuer_names UNION ALL SELECT 0) ORDER BY c.pk LIMIT 20"
            ),
            params![organization, serial],
        )
        .await?;
    rows.iter().map(certificate_from).collect()
}

/// What a list of certificates is narrowed by; an empty text narrows nothing.
#[derive(Clone, Debug, Default)]
pub struct CertificateFilter {
    /// Part of the common name, a SAN or the serial number.
    pub search: String,
    /// Part of the common name.
    pub common_name: String,
    /// Only this status.
    pub status: Option<ShownStatus>,
    /// Only these profiles, none for all.
    pub profiles: Vec<ProfileId>,
    /// Issued at or after.
    pub from: Option<Time>,
    /// Issued at or before.
    pub to: Option<Time>,
}

/// One page of a project's certificates, newest first, and how many match in all.
///
/// The page is found by keyset: the offset is turned into the key that it begins at within the narrowed index.
pub async fn list(
    db: &Db,
    project: ProjectId,
    filter: &CertificateFilter,
    now: Time,
    offset: u32,
    limit: u32,
) -> Result<(Vec<InventoryRow>, i64), StoreError> {
    let conditions = filter_params(project, filter, now);
    let mut page = conditions.clone();
    page.extend(params![limit, offset]);
    let keys = db
        .rows(
            concat!(
                "SELECT c.pk FROM certificates c WHERE ",
                "c.project_id = $1 AND ($2 = '' OR c.common_name LIKE $2 ESCAPE '\\' OR c.alt_names LIKE $2 ESCAPE '\\'
                 OR c.serial = $3) AND ($4 = '' OR c.common_name LIKE $4 ESCAPE '\\')
                 AND ($5 = '' OR ($5 = 'revoked' AND c.status = 1) OR ($5 = 'expired' AND c.status = 0 AND c.not_after < $6)
                 OR ($5 = 'active' AND c.status = 0 AND c.not_after >= $6)) AND c.created_at BETWEEN $7 AND $8
                 AND ($9 = 0 OR c.profile_id IN ($10, $11, $12, $13))",
                " ORDER BY c.pk DESC LIMIT $14 OFFSET $15"
            ),
            page,
        )
        .await?;
    let total = db
        .row(
            "SELECT COUNT(*) FROM certificates c WHERE
             c.project_id = $1 AND ($2 = '' OR c.common_name LIKE $2 ESCAPE '\\' OR c.alt_names LIKE $2 ESCAPE '\\'
             OR c.serial = $3) AND ($4 = '' OR c.common_name LIKE $4 ESCAPE '\\')
             AND ($5 = '' OR ($5 = 'revoked' AND c.status = 1) OR ($5 = 'expired' AND c.status = 0 AND c.not_after < $6)
             OR ($5 = 'active' AND c.status = 0 AND c.not_after >= $6)) AND c.created_at BETWEEN $7 AND $8
             AND ($9 = 0 OR c.profile_id IN ($10, $11, $12, $13))",
            conditions,
        )
        .await?
        .map_or(Ok(0), |row| row.int(0))?;
    let mut certificates = Vec::with_capacity(keys.len());
    if let (Some(first), Some(last)) = (keys.first(), keys.last()) {
        let wanted: Vec<i64> = keys.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
        let rows = db
            .rows(
                select_certificate!("WHERE c.project_id = $1 AND c.pk BETWEEN $2 AND $3 ORDER BY c.pk DESC"),
                params![project, last.int(0)?, first.int(0)?],
            )
            .await?;
        for row in &rows {
            if wanted.contains(&row.int(0)?) {
                certificates.push(certificate_from(row)?);
            }
        }
    }
    Ok((certificates, total))
}

/// How many profiles one list can be narrowed to.
pub const PROFILES_IN_FILTER_MAX: usize = 4;

fn filter_params(project: ProjectId, filter: &CertificateFilter, now: Time) -> Vec<Value> {
    let text = |text: &str| if text.is_empty() { String::new() } else { like(text) };
    let serial = x509::SerialNumber::from_hex(&filter.search).map(|serial| serial.integer_content());
    let mut params = params![
        project,
        text(&filter.search),
        serial.unwrap_or_default(),
        text(&filter.common_name),
        filter.status.map_or("", ShownStatus::as_str),
        now,
        filter.from.unwrap_or(Time::from_millis(0)),
        filter.to.unwrap_or(Time::from_millis(i64::MAX)),
        i64::try_from(filter.profiles.len()).unwrap_or(0),
    ];
    for position in 0..PROFILES_IN_FILTER_MAX {
        params.push(filter.profiles.get(position).map_or(Value::from(Vec::new()), |id| Value::from(*id)));
    }
    params
}

/// One page of a profile's certificates, newest first, and how many there are.
pub async fn list_of_profile(
    db: &Db,
    project: ProjectId,
    profile: ProfileId,
    offset: u32,
    limit: u32,
) -> Result<(Vec<InventoryRow>, i64), StoreError> {
    let rows = db
        .rows(
            select_certificate!(
                "WHERE c.profile_id = $2 AND c.project_id = $1 ORDER BY c.pk DESC LIMIT $3 OFFSET $4"
            ),
            params![project, profile, limit, offset],
        )
        .await?;
    let total = db
        .row(
            "SELECT COUNT(*) FROM certificates WHERE profile_id = $2 AND project_id = $1",
            params![project, profile],
        )
        .await?;
    Ok((rows.iter().map(certificate_from).collect::<Result<_, _>>()?, total.map_or(Ok(0), |row| row.int(0))?))
}

/// Certificates after a place in the order of issue, for checking all of them page by page.
pub async fn after(db: &Db, pk: i64, limit: u32) -> Result<Vec<InventoryRow>, StoreError> {
    let rows =
        db.rows(select_certificate!("WHERE c.pk > $1 ORDER BY c.pk LIMIT $2"), params![pk, limit]).await?;
    rows.iter().map(certificate_from).collect()
}

/// The derived columns of one certificate as they are stored, and the number of its issuer's name.
pub struct StoredColumns {
    /// The serial number.
    pub serial: Vec<u8>,
    /// The common name.
    pub common_name: String,
    /// The alternative names, joined.
    pub alt_names: String,
    /// The beginning of the lifetime.
    pub not_before: Time,
    /// The end of the lifetime.
    pub not_after: Time,
    /// The name of the key's algorithm.
    pub key_algorithm: String,
    /// The number of the issuer's name.
    pub issuer_name_id: i64,
}

/// The derived columns of one certificate as they are stored, for checking them against it.
pub async fn stored_columns(db: &Db, pk: i64) -> Result<Option<StoredColumns>, StoreError> {
    let row = db
        .row(
            "SELECT serial, common_name, alt_names, not_before, not_after, key_algorithm, issuer_name_id
             FROM certificates WHERE pk = $1",
            params![pk],
        )
        .await?;
    row.map(|row| {
        Ok(StoredColumns {
            serial: row.blob(0)?.to_vec(),
            common_name: row.text(1)?.into(),
            alt_names: row.text(2)?.into(),
            not_before: time(&row, 3)?,
            not_after: time(&row, 4)?,
            key_algorithm: row.text(5)?.into(),
            issuer_name_id: row.int(6)?,
        })
    })
    .transpose()
}

/// The stored key of a certificate.
pub async fn leaf_key(db: &Db, pk: i64) -> Result<Option<SealedLeafKey>, StoreError> {
    let row = db
        .row("SELECT data_key_version, sealed FROM leaf_keys WHERE certificate_pk = $1", params![pk])
        .await?;
    row.map(|row| Ok(SealedLeafKey { data_key_version: number(&row, 0)?, sealed: row.blob(1)?.to_vec() })).transpose()
}

/// Removes a certificate and its key. What was revoked stays revoked: that is another table.
pub fn delete(project: ProjectId, id: CertificateId) -> Statement {
    Statement::new("DELETE FROM certificates WHERE project_id = $1 AND id = $2", params![project, id])
        .expect_one("the certificate is there")
}

/// How many certificates there are.
pub async fn count(db: &Db) -> Result<i64, StoreError> {
    db.row("SELECT COUNT(*) FROM certificates", vec![]).await?.map_or(Ok(0), |row| row.int(0))
}

/// A request that waits or waited.
pub async fn request(
    db: &Db,
    organization: OrganizationId,
    id: CertificateRequestId,
) -> Result<Option<CertificateRequestRecord>, StoreError> {
    let row = db
        .row(
            "SELECT q.id, q.project_id, q.profile_id, q.status, q.certificate_id, q.error_message, q.created_at,
             q.updated_at FROM certificate_requests q JOIN projects p ON p.id = q.project_id
             WHERE q.id = $2 AND p.organization_id = $1",
            params![organization, id],
        )
        .await?;
    row.map(|row| {
        Ok(CertificateRequestRecord {
            id: CertificateRequestId(row.uuid(0)?),
            project: ProjectId(row.uuid(1)?),
            profile: ProfileId(row.uuid(2)?),
            status: row.text(3)?.into(),
            certificate: row.opt_uuid(4)?.map(CertificateId),
            error_message: row.opt_text(5)?.map(Into::into),
            created_at: time(&row, 6)?,
            updated_at: time(&row, 7)?,
        })
    })
    .transpose()
}

fn certificate_from(row: &Row) -> Result<InventoryRow, StoreError> {
    let judged_by = match (row.opt_uuid(3)?, row.opt_int(4)?, row.opt_int(5)?) {
        (Some(profile), Some(profile_version), Some(policy_version)) => Some(JudgedBy {
            profile: ProfileId(profile),
            profile_version: u32::try_from(profile_version).unwrap_or(0),
            policy_version: u32::try_from(policy_version).unwrap_or(0),
        }),
        _ => None,
    };
    let issuer = match (row.opt_uuid(6)?, row.opt_uuid(7)?, row.opt_uuid(8)?) {
        (Some(authority), Some(key), Some(certificate)) => Some(IssuedBy {
            authority: AuthorityId(authority),
            key: AuthorityKeyId(key),
            certificate: AuthorityCertificateId(certificate),
            shard: row.opt_int(9)?.and_then(|shard| u32::try_from(shard).ok()).unwrap_or(0),
        }),
        _ => None,
    };
    let details: CertificateDetails = match row.opt_text(11)? {
        None => CertificateDetails::default(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| StoreError::Corrupt(format!("the details of a certificate do not read: {error}")))?,
    };
    let status = row.int(10)?;
    Ok(InventoryRow {
        pk: row.int(0)?,
        issued: IssuedCertificate {
            id: CertificateId(row.uuid(1)?),
            project: ProjectId(row.uuid(2)?),
            judged_by,
            issuer,
            status: CertificateStatus::from_code(status)
                .ok_or_else(|| StoreError::Corrupt(format!("the unknown certificate status {status}")))?,
            details,
            created_at: time(row, 12)?,
            der: row.blob(13)?.to_vec(),
        },
        has_key: row.opt_int(14)?.is_some(),
        revoked_at: opt_time(row, 15)?,
        revocation_reason: row.opt_int(16)?,
    })
}
