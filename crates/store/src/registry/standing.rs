//! How registered certificates stand: which authority of ours signed them, and whether it has withdrawn them.

use super::credentials::certificate_from;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::revocation::reason_from;
use crate::value::Row;
use domain::registry::credential::RegisteredCertificate;
use domain::registry::{Owner, RegistryId};
use domain::{AuthorityId, Time};
use x509::RevocationReason;

/// A registered certificate, and what the inventory knows of it.
pub struct StandingRow {
    /// The certificate.
    pub certificate: RegisteredCertificate,
    /// The authority of ours that signed it, when one did.
    pub authority: Option<AuthorityId>,
    /// Why that authority has withdrawn it, when it has.
    pub withdrawn: Option<RevocationReason>,
}

macro_rules! select_standing {
    ($rest:literal) => {
        concat!(
            "SELECT c.fingerprint, c.fingerprint_sha1, c.fingerprint_imported, c.project_id, c.owner_kind, c.owner_id,
             c.registry_id, c.certificate_data, c.not_before, c.not_after, c.state, c.authority_key_id, c.serial,
             c.trusted_authority_id, c.created_at, k.authority_id, r.reason
             FROM registered_certificates c LEFT JOIN authority_keys k ON k.id = c.authority_key_id
             LEFT JOIN revocations r ON r.authority_key_id = c.authority_key_id AND r.serial = c.serial
             AND r.released_at IS NULL ",
            $rest
        )
    };
}

/// The certificates of an owner, newest first.
pub async fn of_owner(db: &Db, owner: &Owner) -> Result<Vec<StandingRow>, StoreError> {
    let sql = select_standing!("WHERE c.owner_id = $1 AND c.owner_kind = $2 ORDER BY c.created_at DESC, c.fingerprint");
    db.rows(sql, params![owner.id(), owner.kind().as_str()]).await?.iter().map(standing_from).collect()
}

/// The certificate of this digest, whose ever it is.
pub async fn of_fingerprint(db: &Db, sha256: [u8; 32]) -> Result<Option<StandingRow>, StoreError> {
    let sql = select_standing!("WHERE c.fingerprint = $1");
    db.row(sql, params![sha256]).await?.as_ref().map(standing_from).transpose()
}

/// The certificates of a registry and its devices that end before a time, after this place; the first to end first.
pub async fn expiring(
    db: &Db,
    registry: &RegistryId,
    before: Time,
    (after, fingerprint): (Time, &[u8]),
    limit: u32,
) -> Result<Vec<StandingRow>, StoreError> {
    let sql = select_standing!(
        "WHERE c.registry_id = $1 AND c.not_after < $2 AND (c.not_after, c.fingerprint) > ($3, $4)
         ORDER BY c.not_after, c.fingerprint LIMIT $5"
    );
    let rows = db.rows(sql, params![registry.as_str(), before, after, fingerprint, limit]).await?;
    rows.iter().map(standing_from).collect()
}

fn standing_from(row: &Row) -> Result<StandingRow, StoreError> {
    Ok(StandingRow {
        certificate: certificate_from(row)?,
        authority: row.opt_uuid(15)?.map(AuthorityId),
        withdrawn: row.opt_int(16)?.map(reason_from).transpose()?,
    })
}
