//! The inventory: issued certificates and their keys. Lists are in `certificate/list.rs`, requests in
//! `certificate/request.rs`, origins other than profiles in `certificate/origin.rs`.
//!
//! Column values are read from the certificate's own DER, never from the request that asked for it.

macro_rules! select_certificate {
    ($($rest:expr),+) => {
        concat!(
            "SELECT c.pk, c.id, c.project_id, c.profile_id, c.profile_version, c.policy_version, c.authority_id,
             c.authority_key_id, c.authority_certificate_id, c.shard, c.status, c.details, c.created_at, c.der,
             k.certificate_pk, r.revoked_at, r.reason, s.predecessor_id, n.successor_id, w.renew_before_days, w.last_error,
             o.template_id, o.subscriber_id
             FROM certificates c LEFT JOIN leaf_keys k ON k.certificate_pk = c.pk
             LEFT JOIN revocations r ON r.authority_key_id = c.authority_key_id AND r.serial = c.serial
             AND r.released_at IS NULL
             LEFT JOIN renewals s ON s.successor_id = c.id LEFT JOIN renewals n ON n.predecessor_id = c.id
             LEFT JOIN renewal_plans w ON w.certificate_pk = c.pk
             LEFT JOIN certificate_origins o ON o.certificate_pk = c.pk ",
            $($rest),+
        )
    };
}

mod ending;
mod filter;
mod list;
mod origin;
mod request;
mod statements;

pub use ending::{Authorities, EndingAfter, ending, ending_untold};
pub use filter::{
    AUTHORITIES_IN_FILTER_MAX, CertificateFilter, METADATA_IN_FILTER_MAX, PROFILES_IN_FILTER_MAX, Period, RecordSource,
    SortBy, SortOrder,
};
pub use list::{FEW_MAX, Listing, Mark, Page, Part, Scale, Total};
pub use origin::{insert_origin, newest_of_subscriber, of_subscriber};
pub use request::{RequestFilter, RequestName, RequestPage, count_requests, request, requests};

use crate::changes::{Changes, Statement};
use crate::columns::{document, number, opt_time, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::inventory;
use crate::params;
use crate::revocation::reason_from;
use crate::value::{Row, Value};
use domain::inventory::{
    CertificateDetails, CertificateStatus, DerivedColumns, IssuedBy, IssuedCertificate, JudgedBy, Origin,
};
use domain::{
    AuthorityCertificateId, AuthorityId, AuthorityKeyId, CertificateId, OrganizationId, ProfileId, ProjectId,
    SubscriberId, TemplateId, Time,
};
use x509::{Certificate, RevocationReason};

/// A private key of a leaf as it is stored.
#[derive(Clone, Debug)]
pub struct SealedLeafKey {
    /// The data key that seals it.
    pub data_key_version: u32,
    /// The sealed PKCS#8.
    pub sealed: Vec<u8>,
}

/// Adds a certificate, and its key when it was made here. `issuer_name` is the number of the issuer's name, under which
/// serial numbers are unique; a self-signed certificate stands under number 0, an imported one under that of its project
/// ([`crate::imported`]).
///
/// Every certificate of the inventory comes in here: what is searched and counted follows by itself.
pub fn insert(
    issued: &IssuedCertificate,
    parsed: &Certificate,
    issuer_name: i64,
    key: Option<&SealedLeafKey>,
) -> Changes {
    let derived = DerivedColumns::of(parsed);
    let is_listed = inventory::is_listed(issued, &derived);
    let group = inventory::group_key(issued, &derived);
    let mut params = params![
        issued.id,
        issued.project,
        issued.judged_by.map(|judged| judged.profile),
        issued.judged_by.map(|judged| judged.profile_version),
        issued.judged_by.map(|judged| judged.policy_version),
        issued.issuer.map(|by| by.authority),
        issued.issuer.map(|by| by.key),
        issued.issuer.map(|by| by.certificate),
        issuer_name,
        derived.serial.clone(),
        issued.issuer.map(|by| by.shard),
        issued.status.code(),
        derived.common_name.as_str(),
        derived.alt_names.join(", "),
        derived.not_before,
        derived.not_after,
        is_listed,
        (!issued.details.is_empty()).then(|| document(&issued.details)),
        issued.created_at,
        issued.der.clone(),
    ];
    let insert = match is_listed {
        false => INSERT_HIDDEN,
        true => {
            params.extend(group.into_iter().skip(1));
            params.push(Value::from(inventory::domain_of_common_name(&derived)));
            INSERT_LISTED
        }
    };
    let changes = inventory::prepared(issued, &derived)
        .statement(Statement::new(insert, params))
        .with(inventory::added(issued, &derived));
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

macro_rules! insert_certificate {
    ($columns:literal, $values:literal) => {
        concat!(
            "INSERT INTO certificates (id, project_id, profile_id, profile_version, policy_version, authority_id,
             authority_key_id, authority_certificate_id, issuer_name_id, serial, shard, status, common_name, alt_names,
             not_before, not_after, is_listed, details, created_at, der",
            $columns,
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20",
            $values,
            ")"
        )
    };
}

/// A certificate that stands in no list.
const INSERT_HIDDEN: &str = insert_certificate!("", "");

/// One that stands in lists: with the numbers that it is found and counted by.
const INSERT_LISTED: &str = insert_certificate!(
    ", space, group_id, domain_id",
    ", (SELECT number FROM inventory_spaces WHERE project_id = $2),
    (SELECT id FROM certificate_groups WHERE project_id = $2 AND authority_id = $21 AND profile_id = $22
    AND key_algorithm = $23 AND signature_algorithm = $24 AND extended_key_usages = $25),
    (SELECT d.id FROM certificate_domains d JOIN inventory_spaces s ON s.number = d.space
    WHERE s.project_id = $2 AND d.domain = $26)"
);

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
    /// Why it was revoked.
    pub revocation_reason: Option<RevocationReason>,
    /// The certificate whose place it took.
    pub renewed_from: Option<CertificateId>,
    /// The certificate that took its place.
    pub renewed_by: Option<CertificateId>,
    /// Days before its end at which this server renews it.
    pub renew_before_days: Option<u32>,
    /// Why its last renewal failed.
    pub renewal_error: Option<String>,
    /// The template or the subscriber that it came from.
    pub origin: Origin,
}

/// A certificate of the organisation.
pub async fn by_id(
    db: &Db,
    organization: OrganizationId,
    id: CertificateId,
) -> Result<Option<InventoryRow>, StoreError> {
    let row = db
        .row(
            select_certificate!("JOIN projects p ON p.id = c.project_id WHERE c.id = $2 AND p.organization_id = $1"),
            params![organization, id],
        )
        .await?;
    row.as_ref().map(certificate_from).transpose()
}

/// The certificates of the organisation with that serial number: one, unless two authorities drew the same.
pub async fn by_serial(db: &Db, organization: OrganizationId, serial: &[u8]) -> Result<Vec<InventoryRow>, StoreError> {
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

/// The certificates of a project with this serial number.
pub async fn in_project_by_serial(db: &Db, project: ProjectId, serial: &[u8]) -> Result<Vec<InventoryRow>, StoreError> {
    let sql = select_certificate!(
        "WHERE c.project_id = $1 AND c.serial = $2
         AND c.issuer_name_id IN (SELECT id FROM issuer_names UNION ALL SELECT 0) ORDER BY c.pk LIMIT 20"
    );
    db.rows(sql, params![project, serial]).await?.iter().map(certificate_from).collect()
}

/// Which key signed this certificate, when it is one of the inventory.
pub async fn issuer_key_of(db: &Db, certificate: &Certificate) -> Result<Option<AuthorityKeyId>, StoreError> {
    let sql = "SELECT c.authority_key_id FROM certificates c WHERE c.serial = $1 AND c.der = $2
               AND c.issuer_name_id IN (SELECT id FROM issuer_names WHERE der = $3)";
    let issuer = certificate.contents().issuer().as_der();
    let row = db.row(sql, params![certificate.contents().serial_content(), certificate.as_der(), issuer]).await?;
    row.map_or(Ok(None), |row| Ok(row.opt_uuid(0)?.map(AuthorityKeyId)))
}

/// Certificates after a place in the order of issue, for checking all of them page by page.
pub async fn after(db: &Db, pk: i64, limit: u32) -> Result<Vec<InventoryRow>, StoreError> {
    let rows = db.rows(select_certificate!("WHERE c.pk > $1 ORDER BY c.pk LIMIT $2"), params![pk, limit]).await?;
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
    /// For one that stands in lists: the names of the key's and of the signature's algorithm, and the extended key usages,
    /// joined.
    pub in_group: Option<[String; 3]>,
    /// The number of the issuer's name.
    pub issuer_name_id: i64,
}

/// The derived columns of one certificate as they are stored, for checking them against it.
pub async fn stored_columns(db: &Db, pk: i64) -> Result<Option<StoredColumns>, StoreError> {
    let row = db
        .row(
            "SELECT c.serial, c.common_name, c.alt_names, c.not_before, c.not_after, c.issuer_name_id, g.id,
             g.key_algorithm, g.signature_algorithm, g.extended_key_usages
             FROM certificates c LEFT JOIN certificate_groups g ON g.id = c.group_id WHERE c.pk = $1",
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
            issuer_name_id: row.int(5)?,
            in_group: match row.opt_int(6)? {
                Some(_) => Some([row.string(7)?, row.string(8)?, row.string(9)?]),
                None => None,
            },
        })
    })
    .transpose()
}

/// The stored key of a certificate.
pub async fn leaf_key(db: &Db, pk: i64) -> Result<Option<SealedLeafKey>, StoreError> {
    let row = db.row("SELECT data_key_version, sealed FROM leaf_keys WHERE certificate_pk = $1", params![pk]).await?;
    row.map(|row| Ok(SealedLeafKey { data_key_version: number(&row, 0)?, sealed: row.blob(1)?.to_vec() })).transpose()
}

/// Removes a certificate and its key. What was revoked stays revoked: that is another table. Fails when its status changed
/// since it was read.
pub fn delete(issued: &IssuedCertificate, parsed: &Certificate) -> Changes {
    let sql = "DELETE FROM certificates WHERE project_id = $1 AND id = $2 AND status = $3";
    let delete = Statement::new(sql, params![issued.project, issued.id, issued.status.code()]);
    Changes::new()
        .statement(delete.expect_one("the certificate is there as it was"))
        .with(inventory::removed(issued, &DerivedColumns::of(parsed)))
}

/// How many certificates there are.
pub async fn count(db: &Db) -> Result<i64, StoreError> {
    db.row("SELECT COUNT(*) FROM certificates", vec![]).await?.map_or(Ok(0), |row| row.int(0))
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
        revocation_reason: row.opt_int(16)?.map(reason_from).transpose()?,
        renewed_from: row.opt_uuid(17)?.map(CertificateId),
        renewed_by: row.opt_uuid(18)?.map(CertificateId),
        renew_before_days: row.opt_int(19)?.and_then(|days| u32::try_from(days).ok()),
        renewal_error: row.opt_text(20)?.map(Into::into),
        origin: Origin { template: row.opt_uuid(21)?.map(TemplateId), subscriber: row.opt_uuid(22)?.map(SubscriberId) },
    })
}
