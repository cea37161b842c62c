//! Revocations. They outlive the certificates that they revoke.

use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::{AuthorityKeyId, Time};
use x509::{RevocationReason, RevokedCertificate, SerialNumber};

/// What a list has to name: the revocations under a key and shard whose certificates ended at or after a time.
pub async fn entries(
    db: &Db,
    key: AuthorityKeyId,
    shard: u32,
    not_after_from: Time,
) -> Result<Vec<RevokedCertificate>, StoreError> {
    let rows = db
        .rows(
            "SELECT serial, revoked_at, reason FROM revocations
             WHERE authority_key_id = $1 AND shard = $2 AND not_after >= $3 ORDER BY serial",
            params![key, shard, not_after_from],
        )
        .await?;
    rows.iter()
        .map(|row| {
            // A row that cannot be listed stops the list: leaving it out would make a revoked certificate good again.
            let serial = SerialNumber::from_integer(row.blob(0)?)
                .ok_or_else(|| StoreError::Corrupt("a revocation holds an unusable serial number".into()))?;
            let reason = u8::try_from(row.int(2)?).ok().and_then(RevocationReason::from_code);
            let reason = reason.ok_or_else(|| StoreError::Corrupt("a revocation holds an unusable reason".into()))?;
            let revoked_at = Time::from_millis(row.int(1)?).seconds();
            Ok(RevokedCertificate { serial_number: serial, revoked_at, reason })
        })
        .collect()
}
