//! Authorities that registries trust.

use crate::changes::Statement;
use crate::columns::{document, octets, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::registry::trust::TrustedAuthority;
use domain::registry::{RegistryId, TrustedAuthorityId};
use domain::{AuthorityId, ProjectId, Time};

/// The constraint that keeps an authority's key to one registry, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_KEY: &str = "trusted_authorities_key";
/// How many names [`of_subjects`] looks for at most.
pub const SUBJECTS_MAX: usize = 12;
/// How many authorities [`of_subjects`] gives at most.
const FOUND_MAX: u32 = 4;

macro_rules! select_trusted {
    ($rest:literal) => {
        concat!(
            "SELECT id, registry_id, project_id, authority_id, der, spki_sha256, subject_sha256, template, created_at
             FROM trusted_authorities ",
            $rest
        )
    };
}

/// Lets a registry trust an authority.
pub fn insert(trusted: &TrustedAuthority) -> Statement {
    Statement::new(
        "INSERT INTO trusted_authorities (id, registry_id, project_id, authority_id, spki_sha256, subject_sha256, der,
         template, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            trusted.id.as_str(),
            trusted.registry.as_str(),
            trusted.project,
            trusted.authority,
            trusted.spki_sha256,
            trusted.subject_sha256,
            trusted.der.clone(),
            document(&trusted.template),
            trusted.created_at,
        ],
    )
}

/// Ends the trust of a registry in an authority.
pub fn delete(registry: &RegistryId, id: &TrustedAuthorityId) -> Statement {
    Statement::new(
        "DELETE FROM trusted_authorities WHERE id = $1 AND registry_id = $2",
        params![id.as_str(), registry.as_str()],
    )
    .expect_one("the registry trusts the authority")
}

/// Holds a commit to a trust that is still there. It writes the row, so that two commits on one trust follow each other.
pub fn hold(id: &TrustedAuthorityId) -> Statement {
    Statement::new("UPDATE trusted_authorities SET created_at = created_at WHERE id = $1", params![id.as_str()])
        .expect_one("the registry trusts the authority")
}

/// How many authorities a registry trusts.
pub async fn count(db: &Db, registry: &RegistryId) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) FROM trusted_authorities WHERE registry_id = $1";
    db.row(sql, params![registry.as_str()]).await?.map_or(Ok(0), |row| row.int(0))
}

/// An authority that a registry trusts.
pub async fn by_id(db: &Db, registry: &RegistryId, id: &str) -> Result<Option<TrustedAuthority>, StoreError> {
    let sql = select_trusted!("WHERE id = $1 AND registry_id = $2");
    db.row(sql, params![id, registry.as_str()]).await?.as_ref().map(trusted_from).transpose()
}

/// The authorities that a registry trusts after this place, oldest first.
pub async fn page(
    db: &Db,
    registry: &RegistryId,
    after: &(Time, String),
    limit: u32,
) -> Result<Vec<TrustedAuthority>, StoreError> {
    let sql =
        select_trusted!("WHERE registry_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4");
    let rows = db.rows(sql, params![registry.as_str(), after.0, after.1.as_str(), limit]).await?;
    rows.iter().map(trusted_from).collect()
}

/// Trusted authorities whose names have one of these digests, of whichever registry; of more digests than
/// [`SUBJECTS_MAX`] the first ones count.
pub async fn of_subjects(db: &Db, subjects: &[[u8; 32]]) -> Result<Vec<TrustedAuthority>, StoreError> {
    let Some(first) = subjects.first() else { return Ok(Vec::new()) };
    let sql = select_trusted!(
        "WHERE subject_sha256 IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ORDER BY created_at, id LIMIT $13"
    );
    let padded = subjects.iter().chain(std::iter::repeat(first)).take(SUBJECTS_MAX);
    let mut params: Vec<_> = padded.flat_map(|digest| params![*digest]).collect();
    params.extend(params![FOUND_MAX]);
    db.rows(sql, params).await?.iter().map(trusted_from).collect()
}

/// Whether a key of ours with this name revoked the certificate of this serial number, or put it on hold.
pub async fn is_revoked_by(db: &Db, issuer_sha256: [u8; 32], serial: &[u8]) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM authority_keys k JOIN revocations r ON r.authority_key_id = k.id
               WHERE k.name_sha256 = $1 AND r.serial = $2 AND r.released_at IS NULL LIMIT 1";
    Ok(db.row(sql, params![issuer_sha256, serial]).await?.is_some())
}

/// Whether a key was revoked as compromised in the organisation of a project.
pub async fn is_key_blocked(db: &Db, project: ProjectId, spki_sha256: [u8; 32]) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM projects p JOIN blocked_keys b ON b.organization_id = p.organization_id
               WHERE p.id = $1 AND b.spki_sha256 = $2";
    Ok(db.row(sql, params![project, spki_sha256]).await?.is_some())
}

fn trusted_from(row: &Row) -> Result<TrustedAuthority, StoreError> {
    Ok(TrustedAuthority {
        id: TrustedAuthorityId(row.string(0)?),
        registry: RegistryId(row.string(1)?),
        project: ProjectId(row.uuid(2)?),
        authority: row.opt_uuid(3)?.map(AuthorityId),
        der: row.blob(4)?.to_vec(),
        spki_sha256: octets(row, 5)?,
        subject_sha256: octets(row, 6)?,
        template: parse_document(row, 7)?,
        created_at: time(row, 8)?,
    })
}
