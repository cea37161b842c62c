//! Authorities, their keys, their certificates and their revocation lists.

use crate::changes::{Changes, Statement};
use crate::columns::{document, long_number, number, opt_time, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::authority::{Authority, AuthorityCertificate, AuthorityKey, AuthorityKind, AuthorityStatus, KeyProvider};
use domain::revocation::ListSettings;
use domain::{AuthorityCertificateId, AuthorityId, AuthorityKeyId, CrlId, OrganizationId, ProjectId, Time};
use x509::KeyAlgorithm;

macro_rules! select_authority {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.project_id, a.name, a.kind, a.status, a.enable_direct_issuance, a.key_algorithm,
             a.configuration, a.path_length_max, a.serial_number, a.not_before, a.not_after, a.active_key_id,
             a.active_certificate_id, a.parent_id, a.version, a.created_at, a.updated_at
             FROM authorities a JOIN projects p ON p.id = a.project_id ",
            $rest
        )
    };
}

/// The constraint that keeps names unique in a project, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "authorities_name";

/// An authority of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: AuthorityId) -> Result<Option<Authority>, StoreError> {
    let row = db
        .row(
            select_authority!(
                "WHERE a.id = $2 AND p.organization_id = $1 AND a.deleted_at IS NULL AND p.deleted_at IS NULL"
            ),
            params![organization, id],
        )
        .await?;
    row.as_ref().map(authority_from).transpose()
}

/// An authority, deleted or not: what it signed goes on being looked after.
pub async fn by_id_even_deleted(db: &Db, id: AuthorityId) -> Result<Option<Authority>, StoreError> {
    let row = db.row(select_authority!("WHERE a.id = $1"), params![id]).await?;
    row.as_ref().map(authority_from).transpose()
}

/// An authority of the project by its id.
pub async fn in_project(db: &Db, project: ProjectId, id: AuthorityId) -> Result<Option<Authority>, StoreError> {
    let row = db
        .row(select_authority!("WHERE a.project_id = $1 AND a.id = $2 AND a.deleted_at IS NULL"), params![project, id])
        .await?;
    row.as_ref().map(authority_from).transpose()
}

/// An authority of the project by its name.
pub async fn by_name(db: &Db, project: ProjectId, name: &str) -> Result<Option<Authority>, StoreError> {
    let row = db
        .row(
            select_authority!("WHERE a.project_id = $1 AND a.name = $2 AND a.deleted_at IS NULL"),
            params![project, name],
        )
        .await?;
    row.as_ref().map(authority_from).transpose()
}

/// The authorities of a project, oldest first.
pub async fn list(db: &Db, project: ProjectId) -> Result<Vec<Authority>, StoreError> {
    let rows = db
        .rows(
            select_authority!(
                "WHERE a.project_id = $1 AND a.deleted_at IS NULL ORDER BY a.created_at, a.id LIMIT 10000"
            ),
            params![project],
        )
        .await?;
    rows.iter().map(authority_from).collect()
}

/// Every authority of the server, for checking and for lists.
pub async fn all(db: &Db) -> Result<Vec<Authority>, StoreError> {
    let rows = db.rows(select_authority!("ORDER BY a.created_at, a.id"), vec![]).await?;
    rows.iter().map(authority_from).collect()
}

/// Adds an authority.
pub fn insert(authority: &Authority) -> Statement {
    Statement::new(
        "INSERT INTO authorities (id, project_id, name, kind, status, enable_direct_issuance, key_algorithm,
         configuration, path_length_max, serial_number, not_before, not_after, active_key_id, active_certificate_id,
         parent_id, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        params![
            authority.id,
            authority.project,
            authority.name.as_str(),
            authority.kind.as_str(),
            authority.status.as_str(),
            authority.enable_direct_issuance,
            authority.key_algorithm.as_str(),
            document(&authority.configuration),
            authority.path_length_max,
            authority.serial_number.as_deref(),
            authority.not_before,
            authority.not_after,
            authority.active_key,
            authority.active_certificate,
            authority.parent,
            authority.version,
            authority.created_at,
            authority.updated_at,
        ],
    )
}

/// Writes an authority that was read as `authority.version - 1`; somebody else's change in between is a conflict.
pub fn update(authority: &Authority) -> Statement {
    Statement::new(
        "UPDATE authorities SET name = $4, status = $5, enable_direct_issuance = $6, path_length_max = $7,
         serial_number = $8, not_before = $9, not_after = $10, active_key_id = $11, active_certificate_id = $12,
         parent_id = $13, version = $14, updated_at = $15, key_algorithm = $16
         WHERE project_id = $1 AND id = $2 AND version = $3 AND deleted_at IS NULL",
        params![
            authority.project,
            authority.id,
            authority.version - 1,
            authority.name.as_str(),
            authority.status.as_str(),
            authority.enable_direct_issuance,
            authority.path_length_max,
            authority.serial_number.as_deref(),
            authority.not_before,
            authority.not_after,
            authority.active_key,
            authority.active_certificate,
            authority.parent,
            authority.version,
            authority.updated_at,
            authority.key_algorithm.as_str(),
        ],
    )
    .expect_one("the authority is as it was when this was decided")
}

/// Holds a commit to the authority that it was decided on.
pub fn is_unchanged(project: ProjectId, id: AuthorityId, version: u32) -> Statement {
    Statement::new(
        "SELECT 1 FROM authorities WHERE project_id = $1 AND id = $2 AND version = $3 AND deleted_at IS NULL
         FOR SHARE",
        params![project, id, version],
    )
    .expect_one("the authority is as it was when this was decided")
}

/// Hides an authority that nothing needs. Its keys go on signing lists until its certificate has expired; it is nobody's
/// parent.
pub fn delete(project: ProjectId, id: AuthorityId, version: u32, now: Time) -> Statement {
    Statement::new(
        "UPDATE authorities SET deleted_at = $4 WHERE project_id = $1 AND id = $2 AND version = $3
         AND deleted_at IS NULL
         AND NOT EXISTS (SELECT 1 FROM profiles f WHERE f.project_id = $1 AND f.authority_id = $2)
         AND NOT EXISTS (SELECT 1 FROM authorities c WHERE c.project_id = $1 AND c.parent_id = $2
                         AND c.deleted_at IS NULL)
         AND NOT EXISTS (SELECT 1 FROM templates t WHERE t.authority_id = $2)
         AND NOT EXISTS (SELECT 1 FROM subscribers s WHERE s.authority_id = $2)",
        params![project, id, version, now],
    )
    .expect_one("the authority is as it was when this was decided")
}

/// What still needs an authority, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityUsers {
    /// Profiles that name it.
    pub profiles: i64,
    /// Authorities below it.
    pub authorities: i64,
    /// Templates of the first family that name it.
    pub templates: i64,
    /// Subscribers that it signs for.
    pub subscribers: i64,
}

/// What still needs an authority.
pub async fn users(db: &Db, project: ProjectId, id: AuthorityId) -> Result<AuthorityUsers, StoreError> {
    let row = db
        .row(
            "SELECT (SELECT COUNT(*) FROM profiles WHERE project_id = $1 AND authority_id = $2),
             (SELECT COUNT(*) FROM authorities WHERE project_id = $1 AND parent_id = $2 AND deleted_at IS NULL),
             (SELECT COUNT(*) FROM templates WHERE authority_id = $2),
             (SELECT COUNT(*) FROM subscribers WHERE authority_id = $2)",
            params![project, id],
        )
        .await?
        .ok_or_else(|| StoreError::Corrupt("a count returned no row".into()))?;
    Ok(AuthorityUsers {
        profiles: row.int(0)?,
        authorities: row.int(1)?,
        templates: row.int(2)?,
        subscribers: row.int(3)?,
    })
}

/// Makes sure that an issuer name has a number.
pub fn ensure_issuer_name(der: &[u8]) -> Statement {
    Statement::new("INSERT INTO issuer_names (der) VALUES ($1) ON CONFLICT (der) DO NOTHING", params![der])
}

/// The hashes of an issuer's name and key that OCSP requests carry (RFC 6960 §4.1.1).
pub struct OcspHashes {
    /// SHA-1 of the name in DER.
    pub name_sha1: [u8; 20],
    /// SHA-256 of the name in DER.
    pub name_sha256: [u8; 32],
    /// SHA-1 of the key bits.
    pub key_sha1: [u8; 20],
    /// SHA-256 of the key bits.
    pub key_sha256: [u8; 32],
}

/// Adds a key; its issuer name must have a number already.
pub fn insert_key(key: &AuthorityKey, issuer_name: &[u8], hashes: &OcspHashes, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO authority_keys (id, project_id, authority_id, version, provider, handle, algorithm, spki, sealed,
         data_key_version, is_exportable, issuer_name_id, name_sha1, name_sha256, key_sha1, key_sha256, created_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, n.id, $13, $14, $15, $16, $17
         FROM issuer_names n WHERE n.der = $12",
        params![
            key.id,
            key.project,
            key.authority,
            key.version,
            key.provider.as_str(),
            key.handle.as_deref(),
            key.algorithm.as_str(),
            key.spki.clone(),
            key.sealed.clone(),
            key.data_key_version,
            key.is_exportable,
            issuer_name,
            hashes.name_sha1,
            hashes.name_sha256,
            hashes.key_sha1,
            hashes.key_sha256,
            now,
        ],
    )
    .expect_one("the issuer name has a number")
}

/// Points a key at the name that its certificates carry, which an imported certificate may have spelled differently.
pub fn rename_issuer(key: AuthorityKeyId, issuer_name: &[u8], name_sha1: [u8; 20], name_sha256: [u8; 32]) -> Statement {
    Statement::new(
        "UPDATE authority_keys SET issuer_name_id = (SELECT id FROM issuer_names WHERE der = $2), name_sha1 = $3,
         name_sha256 = $4 WHERE id = $1",
        params![key, issuer_name, name_sha1, name_sha256],
    )
    .expect_one("the key is there")
}

/// A key by its id.
pub async fn key(db: &Db, id: AuthorityKeyId) -> Result<Option<AuthorityKey>, StoreError> {
    let row = db
        .row(
            "SELECT k.id, k.authority_id, k.project_id, k.version, k.provider, k.handle, k.algorithm, k.spki, k.sealed,
             k.data_key_version, k.is_exportable, k.issuer_name_id, c.id
             FROM authority_keys k JOIN crls c ON c.authority_key_id = k.id AND c.shard = 0 WHERE k.id = $1",
            params![id],
        )
        .await?;
    row.as_ref().map(key_from).transpose()
}

/// Adds a certificate of an authority.
pub fn insert_certificate(certificate: &AuthorityCertificate, parsed: &x509::Certificate) -> Statement {
    Statement::new(
        "INSERT INTO authority_certificates (id, project_id, authority_id, authority_key_id, version, der, chain,
         parent_certificate_id, issuer_sha256, serial, not_before, not_after, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        params![
            certificate.id,
            certificate.project,
            certificate.authority,
            certificate.key,
            certificate.version,
            certificate.der.clone(),
            certificate.chain.as_str(),
            certificate.parent_certificate,
            x509::digest::sha256(parsed.issuer().as_der()),
            parsed.serial_content(),
            Time::from_seconds(parsed.not_before()),
            Time::from_seconds(parsed.not_after()),
            certificate.created_at,
        ],
    )
}

macro_rules! select_certificate {
    ($rest:literal) => {
        concat!(
            "SELECT id, authority_id, project_id, authority_key_id, version, der, chain, parent_certificate_id,
             created_at FROM authority_certificates ",
            $rest
        )
    };
}

/// A certificate of an authority, by both ids.
pub async fn certificate(
    db: &Db,
    authority: AuthorityId,
    id: AuthorityCertificateId,
) -> Result<Option<AuthorityCertificate>, StoreError> {
    let row = db.row(select_certificate!("WHERE authority_id = $1 AND id = $2"), params![authority, id]).await?;
    row.as_ref().map(certificate_from).transpose()
}

/// The newest certificate of a key.
pub async fn newest_certificate_of(db: &Db, key: AuthorityKeyId) -> Result<Option<AuthorityCertificate>, StoreError> {
    let sql = select_certificate!("WHERE authority_key_id = $1 ORDER BY version DESC LIMIT 1");
    db.row(sql, params![key]).await?.as_ref().map(certificate_from).transpose()
}

/// The certificates of the organisation's authorities with that subject, as DER; of many the newest.
pub async fn certificates_named(
    db: &Db,
    organization: OrganizationId,
    subject: &[u8],
) -> Result<Vec<Vec<u8>>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.der FROM issuer_names n JOIN authority_keys k ON k.issuer_name_id = n.id
             JOIN authority_certificates c ON c.authority_key_id = k.id JOIN projects p ON p.id = c.project_id
             WHERE n.der = $1 AND p.organization_id = $2 ORDER BY c.created_at DESC LIMIT 100",
            params![subject, organization],
        )
        .await?;
    rows.iter().map(|row| Ok(row.blob(0)?.to_vec())).collect()
}

/// The certificates of an authority, oldest first.
pub async fn certificates(db: &Db, authority: AuthorityId) -> Result<Vec<AuthorityCertificate>, StoreError> {
    let rows = db.rows(select_certificate!("WHERE authority_id = $1 ORDER BY version"), params![authority]).await?;
    rows.iter().map(certificate_from).collect()
}

/// The number of an authority's newest certificate; 0 before the first.
pub async fn newest_version(db: &Db, authority: AuthorityId) -> Result<u32, StoreError> {
    let row = db
        .row("SELECT COALESCE(MAX(version), 0) FROM authority_certificates WHERE authority_id = $1", params![authority])
        .await?;
    row.map_or(Ok(0), |row| number(&row, 0))
}

/// The authority that a certificate belongs to.
pub async fn owner_of(db: &Db, certificate: AuthorityCertificateId) -> Result<Option<AuthorityId>, StoreError> {
    let row = db.row("SELECT authority_id FROM authority_certificates WHERE id = $1", params![certificate]).await?;
    row.map(|row| Ok(AuthorityId(row.uuid(0)?))).transpose()
}

/// The authority of the project that holds exactly this certificate.
pub async fn owner_of_certificate(
    db: &Db,
    project: ProjectId,
    der: &[u8],
) -> Result<Option<(AuthorityId, AuthorityCertificateId)>, StoreError> {
    let row = db
        .row(
            "SELECT c.authority_id, c.id FROM authority_certificates c JOIN authorities a ON a.id = c.authority_id
             WHERE c.project_id = $1 AND c.der = $2 AND a.deleted_at IS NULL",
            params![project, der],
        )
        .await?;
    row.map(|row| Ok((AuthorityId(row.uuid(0)?), AuthorityCertificateId(row.uuid(1)?)))).transpose()
}

/// A revocation list record.
#[derive(Clone, Debug)]
pub struct CrlRecord {
    /// Its id, which certificates name.
    pub id: CrlId,
    /// The project.
    pub project: ProjectId,
    /// The authority.
    pub authority: AuthorityId,
    /// The key that signs it.
    pub key: AuthorityKeyId,
    /// The shard.
    pub shard: u32,
    /// The number of the newest list; 0 before the first.
    pub number: u64,
    /// The newest list.
    pub der: Option<Vec<u8>>,
    /// When the newest list was made.
    pub this_update: Option<Time>,
    /// When the newest list runs out.
    pub next_update: Option<Time>,
    /// The newest list of changes, if the authority has one.
    pub delta: Option<DeltaRecord>,
}

/// A list of the changes since a complete one. Its number is that of the complete list that was made with it.
#[derive(Clone, Debug)]
pub struct DeltaRecord {
    /// The list.
    pub der: Vec<u8>,
    /// The number of the complete list that it begins from.
    pub base_number: u64,
    /// When that one was made.
    pub base_at: Time,
}

macro_rules! select_crl {
    ($rest:literal) => {
        concat!(
            "SELECT id, project_id, authority_id, authority_key_id, shard, number, der, this_update, next_update, delta,
             delta_base_number, delta_base_at FROM crls ",
            $rest
        )
    };
}

/// Adds the record of a list, with its first list.
pub fn insert_crl(record: &CrlRecord) -> Statement {
    Statement::new(
        "INSERT INTO crls (id, project_id, authority_id, authority_key_id, shard, number, der, this_update, next_update)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            record.id,
            record.project,
            record.authority,
            record.key,
            record.shard,
            record.number,
            record.der.clone(),
            record.this_update,
            record.next_update,
        ],
    )
}

/// Publishes the next list; a list with that number is there already when somebody else was faster.
pub fn publish_crl(record: &CrlRecord) -> Statement {
    publish_crl_after(record, record.number - 1)
}

/// Publishes a list that comes after the one with that number, and leaves numbers out in between.
pub fn publish_crl_after(record: &CrlRecord, before: u64) -> Statement {
    Statement::new(
        "UPDATE crls SET number = $2, der = $3, this_update = $4, next_update = $5, delta = $7, delta_base_number = $8,
         delta_base_at = $9 WHERE id = $1 AND number = $6",
        params![
            record.id,
            record.number,
            record.der.clone(),
            record.this_update,
            record.next_update,
            before,
            record.delta.as_ref().map(|delta| delta.der.clone()),
            record.delta.as_ref().map(|delta| delta.base_number),
            record.delta.as_ref().map(|delta| delta.base_at),
        ],
    )
    .expect_one("no other list was published in between")
}

/// A list by its id.
pub async fn crl(db: &Db, id: CrlId) -> Result<Option<CrlRecord>, StoreError> {
    let row = db.row(select_crl!("WHERE id = $1"), params![id]).await?;
    row.as_ref().map(crl_from).transpose()
}

/// The list of a key's shard, and what was chosen about the lists of its authority.
pub async fn crl_of(db: &Db, key: AuthorityKeyId, shard: u32) -> Result<Option<(CrlId, ListSettings)>, StoreError> {
    let sql =
        "SELECT c.id, a.has_delta_lists, a.list_delay_seconds FROM crls c JOIN authorities a ON a.id = c.authority_id
               WHERE c.authority_key_id = $1 AND c.shard = $2";
    let row = db.row(sql, params![key, shard]).await?;
    row.map(|row| Ok((CrlId(row.uuid(0)?), settings_from(&row, 1)?))).transpose()
}

/// What was chosen about the lists of an authority.
pub async fn list_settings(db: &Db, authority: AuthorityId) -> Result<ListSettings, StoreError> {
    let sql = "SELECT has_delta_lists, list_delay_seconds FROM authorities WHERE id = $1";
    let row = db.row(sql, params![authority]).await?;
    row.map_or(Ok(ListSettings::default()), |row| settings_from(&row, 0))
}

/// Chooses what an authority's lists are like.
pub fn choose_list_settings(authority: AuthorityId, settings: ListSettings) -> Statement {
    Statement::new(
        "UPDATE authorities SET has_delta_lists = $2, list_delay_seconds = $3 WHERE id = $1 AND deleted_at IS NULL",
        params![authority, settings.has_delta, settings.delay_seconds],
    )
    .expect_one("the authority is there")
}

fn settings_from(row: &Row, at: usize) -> Result<ListSettings, StoreError> {
    Ok(ListSettings { has_delta: row.bool(at)?, delay_seconds: number(row, at + 1)? })
}

/// The numbers of the newest lists.
pub async fn crl_numbers(db: &Db) -> Result<Vec<(CrlId, u64)>, StoreError> {
    let rows = db.rows("SELECT id, number FROM crls WHERE next_update IS NOT NULL ORDER BY id", vec![]).await?;
    rows.iter().map(|row| Ok((CrlId(row.uuid(0)?), long_number(row, 1)?))).collect()
}

/// The number of a list that was put to a place last; 0 before the first.
pub async fn crl_delivered(db: &Db, crl: CrlId, target: &str) -> Result<u64, StoreError> {
    let sql = "SELECT number FROM crl_deliveries WHERE crl_id = $1 AND target = $2";
    db.row(sql, params![crl, target]).await?.map_or(Ok(0), |row| long_number(&row, 0))
}

/// Notes that a list was put to a place; a later one that was put there stays noted.
pub fn note_crl_delivered(crl: CrlId, target: &str, number: u64) -> Statement {
    Statement::new(
        "INSERT INTO crl_deliveries (crl_id, target, number) VALUES ($1, $2, $3)
         ON CONFLICT (crl_id, target) DO UPDATE SET number = excluded.number
         WHERE crl_deliveries.number < excluded.number",
        params![crl, target, number],
    )
}

/// The lists of which a place does not have the newest.
pub async fn crls_undelivered(db: &Db, target: &str) -> Result<Vec<CrlId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM crls c LEFT JOIN crl_deliveries d ON d.crl_id = c.id AND d.target = $1
             WHERE c.number > COALESCE(d.number, 0) AND c.next_update IS NOT NULL ORDER BY c.id LIMIT 1000",
            params![target],
        )
        .await?;
    rows.iter().map(|row| Ok(CrlId(row.uuid(0)?))).collect()
}

/// The list that new certificates of a key name: that of the highest shard.
pub async fn open_crl(db: &Db, key: AuthorityKeyId) -> Result<Option<(CrlId, u32)>, StoreError> {
    let sql = "SELECT id, shard FROM crls WHERE authority_key_id = $1 ORDER BY shard DESC LIMIT 1";
    db.row(sql, params![key]).await?.map(|row| Ok((CrlId(row.uuid(0)?), number(&row, 1)?))).transpose()
}

/// The addresses of a list that certificates name.
pub async fn crl_urls(db: &Db, crl: CrlId) -> Result<Vec<String>, StoreError> {
    let rows = db.rows("SELECT url FROM crl_urls WHERE crl_id = $1 ORDER BY url", params![crl]).await?;
    rows.iter().map(|row| row.string(0)).collect()
}

/// Notes an address that certificates are going to name.
pub fn note_crl_url(crl: CrlId, url: &str) -> Statement {
    let sql = "INSERT INTO crl_urls (crl_id, url) VALUES ($1, $2) ON CONFLICT (crl_id, url) DO NOTHING";
    Statement::new(sql, params![crl, url])
}

/// Counts the certificates that were issued since the last time into their lists.
pub async fn count_into_crls(db: &Db) -> Result<Changes, StoreError> {
    let sql = "SELECT n.counted_to, (SELECT COALESCE(MAX(pk), 0) FROM certificates) FROM certificate_count n";
    let row =
        db.row(sql, vec![]).await?.ok_or_else(|| StoreError::Corrupt("the count of certificates is gone".into()))?;
    let (from, to) = (row.int(0)?, row.int(1)?);
    if from >= to {
        return Ok(Changes::new());
    }
    let rows = db
        .rows(
            "SELECT authority_key_id, shard, COUNT(*) FROM certificates
             WHERE pk > $1 AND pk <= $2 AND authority_key_id IS NOT NULL GROUP BY authority_key_id, shard",
            params![from, to],
        )
        .await?;
    let moved = Statement::new("UPDATE certificate_count SET counted_to = $2 WHERE counted_to = $1", params![from, to]);
    let mut changes = Changes::new().statement(moved.expect_one("nobody else counts"));
    for row in &rows {
        changes = changes.statement(Statement::new(
            "UPDATE crls SET certificates = certificates + $3 WHERE authority_key_id = $1 AND shard = $2",
            params![AuthorityKeyId(row.uuid(0)?), row.int(1)?, row.int(2)?],
        ));
    }
    Ok(changes)
}

/// The open lists of active keys that so many certificates name at least.
pub async fn full_crls(db: &Db, certificates: u32) -> Result<Vec<CrlRecord>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id, c.project_id, c.authority_id, c.authority_key_id, c.shard, c.number, c.der, c.this_update,
             c.next_update, c.delta, c.delta_base_number, c.delta_base_at FROM crls c JOIN authorities a ON a.active_key_id = c.authority_key_id
             WHERE c.certificates >= $1 AND a.deleted_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM crls h WHERE h.authority_key_id = c.authority_key_id AND h.shard > c.shard)",
            params![certificates],
        )
        .await?;
    rows.iter().map(crl_from).collect()
}

/// The lists of an authority, oldest key first.
pub async fn crls(db: &Db, authority: AuthorityId) -> Result<Vec<CrlRecord>, StoreError> {
    let rows =
        db.rows(select_crl!("WHERE authority_id = $1 ORDER BY authority_key_id, shard"), params![authority]).await?;
    rows.iter().map(crl_from).collect()
}

/// The lists that run out before a time, the earliest first. Those of a deleted authority are left out once its
/// certificate has expired, and with it all that it signed.
pub async fn crls_due(db: &Db, before: Time, now: Time) -> Result<Vec<CrlId>, StoreError> {
    let rows = db
        .rows(
            "SELECT c.id FROM crls c JOIN authorities a ON a.id = c.authority_id
             WHERE (c.next_update IS NULL OR c.next_update < $1) AND (a.deleted_at IS NULL OR a.not_after >= $2)
             ORDER BY c.next_update LIMIT 100",
            params![before, now],
        )
        .await?;
    rows.iter().map(|row| Ok(CrlId(row.uuid(0)?))).collect()
}

/// Active authorities below one of ours that are in the last third of their life and whose parent lives longer, each with
/// its organisation.
pub async fn renewals_due(db: &Db, now: Time) -> Result<Vec<(OrganizationId, AuthorityId)>, StoreError> {
    let rows = db
        .rows(
            "SELECT p.organization_id, a.id FROM authorities a JOIN projects p ON p.id = a.project_id
             JOIN authorities above ON above.id = a.parent_id
             WHERE a.deleted_at IS NULL AND p.deleted_at IS NULL AND a.status = 'active' AND above.status = 'active'
             AND above.deleted_at IS NULL AND a.not_after > $1 AND above.not_after > a.not_after
             AND (a.not_after - $1) * 3 < a.not_after - a.not_before ORDER BY a.not_after LIMIT 100",
            params![now],
        )
        .await?;
    rows.iter().map(|row| Ok((OrganizationId(row.uuid(0)?), AuthorityId(row.uuid(1)?)))).collect()
}

fn authority_from(row: &Row) -> Result<Authority, StoreError> {
    Ok(Authority {
        id: AuthorityId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        name: row.text(2)?.into(),
        kind: word(row, 3, AuthorityKind::parse)?,
        status: word(row, 4, AuthorityStatus::parse)?,
        enable_direct_issuance: row.bool(5)?,
        key_algorithm: word(row, 6, KeyAlgorithm::parse)?,
        configuration: parse_document(row, 7)?,
        path_length_max: row.opt_int(8)?.and_then(|length| u32::try_from(length).ok()),
        serial_number: row.opt_text(9)?.map(Into::into),
        not_before: opt_time(row, 10)?,
        not_after: opt_time(row, 11)?,
        active_key: AuthorityKeyId(row.uuid(12)?),
        active_certificate: row.opt_uuid(13)?.map(AuthorityCertificateId),
        parent: row.opt_uuid(14)?.map(AuthorityId),
        version: number(row, 15)?,
        created_at: time(row, 16)?,
        updated_at: time(row, 17)?,
    })
}

fn key_from(row: &Row) -> Result<AuthorityKey, StoreError> {
    Ok(AuthorityKey {
        id: AuthorityKeyId(row.uuid(0)?),
        authority: AuthorityId(row.uuid(1)?),
        project: ProjectId(row.uuid(2)?),
        version: number(row, 3)?,
        provider: word(row, 4, KeyProvider::parse)?,
        handle: row.opt_text(5)?.map(Into::into),
        algorithm: word(row, 6, KeyAlgorithm::parse)?,
        spki: row.blob(7)?.to_vec(),
        sealed: row.opt_blob(8)?.map(<[u8]>::to_vec),
        data_key_version: number(row, 9)?,
        is_exportable: row.bool(10)?,
        issuer_name_id: row.int(11)?,
        crl: CrlId(row.uuid(12)?),
    })
}

fn certificate_from(row: &Row) -> Result<AuthorityCertificate, StoreError> {
    Ok(AuthorityCertificate {
        id: AuthorityCertificateId(row.uuid(0)?),
        authority: AuthorityId(row.uuid(1)?),
        project: ProjectId(row.uuid(2)?),
        key: AuthorityKeyId(row.uuid(3)?),
        version: number(row, 4)?,
        der: row.blob(5)?.to_vec(),
        chain: row.text(6)?.into(),
        parent_certificate: row.opt_uuid(7)?.map(AuthorityCertificateId),
        created_at: time(row, 8)?,
    })
}

fn crl_from(row: &Row) -> Result<CrlRecord, StoreError> {
    Ok(CrlRecord {
        id: CrlId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        authority: AuthorityId(row.uuid(2)?),
        key: AuthorityKeyId(row.uuid(3)?),
        shard: number(row, 4)?,
        number: long_number(row, 5)?,
        der: row.opt_blob(6)?.map(<[u8]>::to_vec),
        this_update: opt_time(row, 7)?,
        next_update: opt_time(row, 8)?,
        delta: match (row.opt_blob(9)?, row.opt_int(10)?, opt_time(row, 11)?) {
            (Some(der), Some(_), Some(base_at)) => {
                Some(DeltaRecord { der: der.to_vec(), base_number: long_number(row, 10)?, base_at })
            }
            _ => None,
        },
    })
}
