//! Secrets of accounts of ACME, one for each profile.

use crate::changes::Statement;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::{ProfileId, Time};

/// The sealed secret of a profile.
pub async fn of_profile(db: &Db, profile: ProfileId) -> Result<Option<Vec<u8>>, StoreError> {
    let row = db.row("SELECT sealed FROM account_bindings WHERE profile_id = $1", params![profile]).await?;
    row.map(|row| Ok(row.blob(0)?.to_vec())).transpose()
}

/// Keeps the first secret of a profile; one that is there already stays.
pub fn insert(profile: ProfileId, data_key_version: u32, sealed: Vec<u8>, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO account_bindings (profile_id, data_key_version, sealed, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (profile_id) DO NOTHING",
        params![profile, data_key_version, sealed, now],
    )
}

/// Puts another secret in the place of a profile's.
pub fn replace(profile: ProfileId, data_key_version: u32, sealed: Vec<u8>, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO account_bindings (profile_id, data_key_version, sealed, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (profile_id) DO UPDATE SET data_key_version = excluded.data_key_version, sealed = excluded.sealed,
         created_at = excluded.created_at",
        params![profile, data_key_version, sealed, now],
    )
}
