//! What registries, devices and brokers prove themselves with: certificates and passwords.

use crate::changes::{Changes, Statement};
use crate::columns::{time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::registry::credential::{
    CertificateState, FingerprintQuery, Fingerprints, RegisteredCertificate, RegisteredPassword,
};
use domain::registry::{Owner, OwnerKind, PasswordId, RegistryId, TrustedAuthorityId};
use domain::{AuthorityKeyId, ProjectId, Time};

/// The constraints that keep a certificate to one owner, as a [`StoreError::Conflict`] names them.
pub const UNIQUE_CERTIFICATE: [&str; 2] = ["registered_certificates_pkey", "registered_certificates_sha1"];

macro_rules! select_certificate {
    ($rest:literal) => {
        concat!(
            "SELECT c.fingerprint, c.fingerprint_sha1, c.fingerprint_imported, c.project_id, c.owner_kind, c.owner_id,
             c.registry_id, c.certificate_data, c.not_before, c.not_after, c.state, c.authority_key_id, c.serial,
             c.trusted_authority_id, c.created_at FROM registered_certificates c ",
            $rest
        )
    };
}

/// Registers a certificate, unless it was revoked. One that is REVOKED when it comes gives no access, so it may stand beside
/// what is known of it, and stays revoked.
pub fn insert_certificate(certificate: &RegisteredCertificate) -> Changes {
    let (key, serial) = certificate.issued_by.clone().unzip();
    let is_revoked = certificate.state == CertificateState::Revoked;
    let held_against_it = (!is_revoked).then_some(certificate.fingerprint.sha256);
    let insert = Statement::new(
        "INSERT INTO registered_certificates (fingerprint, fingerprint_sha1, fingerprint_imported, project_id,
         owner_kind, owner_id, registry_id, certificate_data, not_before, not_after, state, authority_key_id, serial,
         trusted_authority_id, created_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
         WHERE NOT EXISTS (SELECT 1 FROM revoked_certificates r WHERE r.fingerprint = $16)",
        params![
            certificate.fingerprint.sha256,
            certificate.fingerprint.sha1,
            certificate.fingerprint.imported.as_deref(),
            certificate.project,
            certificate.owner.kind().as_str(),
            certificate.owner.id(),
            certificate.registry.as_ref().map(RegistryId::as_str),
            certificate.certificate_data.as_str(),
            certificate.not_before,
            certificate.not_after,
            certificate.state.as_str(),
            key,
            serial,
            certificate.trusted_authority.as_ref().map(TrustedAuthorityId::as_str),
            certificate.created_at,
            held_against_it,
        ],
    )
    .expect_one("the certificate was not revoked");
    let revoked = is_revoked.then(|| note_revoked(certificate, certificate.created_at));
    revoked.into_iter().fold(Changes::new().statement(insert), Changes::statement)
}

/// Gives a certificate another state.
pub fn set_state(certificate: &RegisteredCertificate, to: CertificateState, at: Time) -> Changes {
    let update = Statement::new(
        "UPDATE registered_certificates SET state = $3 WHERE fingerprint = $1 AND state = $2",
        params![certificate.fingerprint.sha256, certificate.state.as_str(), to.as_str()],
    )
    .expect_one("the certificate is in the state that it was in");
    let revoked = (to == CertificateState::Revoked).then(|| note_revoked(certificate, at));
    revoked.into_iter().fold(Changes::new().statement(update), Changes::statement)
}

/// Keeps that a certificate was revoked, also for when it is nobody's any more.
fn note_revoked(certificate: &RegisteredCertificate, at: Time) -> Statement {
    Statement::new(
        "INSERT INTO revoked_certificates (fingerprint, project_id, revoked_at) VALUES ($1, $2, $3)
         ON CONFLICT (fingerprint) DO NOTHING",
        params![certificate.fingerprint.sha256, certificate.project, at],
    )
}

/// Whether the certificate of this SHA-256 was revoked in the registry, whoever had it.
pub async fn was_revoked(db: &Db, sha256: &[u8; 32]) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM revoked_certificates WHERE fingerprint = $1";
    Ok(db.row(sql, params![sha256]).await?.is_some())
}

/// Takes a certificate away from its owner.
pub fn delete_certificate(owner: &Owner, sha256: [u8; 32]) -> Statement {
    Statement::new(
        "DELETE FROM registered_certificates WHERE fingerprint = $1 AND owner_id = $2 AND owner_kind = $3",
        params![sha256, owner.id(), owner.kind().as_str()],
    )
    .expect_one("the certificate is the owner's")
}

/// Takes everything away that an owner proves itself with.
pub fn delete_all(owner: &Owner) -> Changes {
    let of_owner = || params![owner.id(), owner.kind().as_str()];
    let certificates = "DELETE FROM registered_certificates WHERE owner_id = $1 AND owner_kind = $2";
    let passwords = "DELETE FROM registered_passwords WHERE owner_id = $1 AND owner_kind = $2";
    Changes::new().statement(Statement::new(certificates, of_owner())).statement(Statement::new(passwords, of_owner()))
}

/// The certificates of an owner, newest first.
pub async fn certificates(db: &Db, owner: &Owner) -> Result<Vec<RegisteredCertificate>, StoreError> {
    let sql =
        select_certificate!("WHERE c.owner_id = $1 AND c.owner_kind = $2 ORDER BY c.created_at DESC, c.fingerprint");
    db.rows(sql, params![owner.id(), owner.kind().as_str()]).await?.iter().map(certificate_from).collect()
}

/// The certificate that somebody names, of whomever it is.
pub async fn certificate(db: &Db, query: &FingerprintQuery) -> Result<Option<RegisteredCertificate>, StoreError> {
    let row = match query {
        FingerprintQuery::Sha256(sha256) => {
            db.row(select_certificate!("WHERE c.fingerprint = $1"), params![*sha256]).await?
        }
        FingerprintQuery::Sha1(sha1) => {
            db.row(select_certificate!("WHERE c.fingerprint_sha1 = $1"), params![*sha1]).await?
        }
        FingerprintQuery::Imported(_) => None,
    };
    row.as_ref().map(certificate_from).transpose()
}

/// Adds a password.
pub fn insert_password(password: &RegisteredPassword, project: ProjectId, hash: &str) -> Statement {
    Statement::new(
        "INSERT INTO registered_passwords (id, project_id, owner_kind, owner_id, hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            password.id.as_str(),
            project,
            password.owner.kind().as_str(),
            password.owner.id(),
            hash,
            password.created_at,
        ],
    )
}

/// Takes a password away from its owner.
pub fn delete_password(owner: &Owner, id: &PasswordId) -> Statement {
    Statement::new(
        "DELETE FROM registered_passwords WHERE id = $1 AND owner_id = $2 AND owner_kind = $3",
        params![id.as_str(), owner.id(), owner.kind().as_str()],
    )
    .expect_one("the password is the owner's")
}

/// The passwords of an owner, newest first.
pub async fn passwords(db: &Db, owner: &Owner) -> Result<Vec<RegisteredPassword>, StoreError> {
    let sql = "SELECT id, owner_kind, owner_id, created_at FROM registered_passwords
               WHERE owner_id = $1 AND owner_kind = $2 ORDER BY created_at DESC, id";
    let rows = db.rows(sql, params![owner.id(), owner.kind().as_str()]).await?;
    rows.iter()
        .map(|row| {
            Ok(RegisteredPassword {
                id: PasswordId(row.string(0)?),
                owner: Owner::of(word(row, 1, OwnerKind::parse)?, row.string(2)?),
                created_at: time(row, 3)?,
            })
        })
        .collect()
}

pub(super) fn certificate_from(row: &Row) -> Result<RegisteredCertificate, StoreError> {
    let digest = |_| StoreError::Corrupt("a fingerprint has the wrong length".into());
    let fingerprint = Fingerprints {
        sha256: row.blob(0)?.try_into().map_err(digest)?,
        sha1: row.blob(1)?.try_into().map_err(digest)?,
        imported: row.opt_text(2)?.map(Into::into),
    };
    let issuer = row.opt_uuid(11)?.map(AuthorityKeyId);
    Ok(RegisteredCertificate {
        fingerprint,
        project: ProjectId(row.uuid(3)?),
        owner: Owner::of(word(row, 4, OwnerKind::parse)?, row.string(5)?),
        registry: row.opt_text(6)?.map(RegistryId::from),
        certificate_data: row.string(7)?,
        not_before: time(row, 8)?,
        not_after: time(row, 9)?,
        state: word(row, 10, CertificateState::parse)?,
        issued_by: issuer.zip(row.opt_blob(12)?.map(<[u8]>::to_vec)),
        trusted_authority: row.opt_text(13)?.map(TrustedAuthorityId::from),
        created_at: time(row, 14)?,
    })
}
