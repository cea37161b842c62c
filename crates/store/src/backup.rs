//! What a copy of a database is told by.

use crate::db::Db;
use crate::error::StoreError;
use crate::migrate::MIGRATIONS;

/// The version of the schema that this program knows.
pub fn schema_version() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

/// How much there is in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Certificates in the inventory.
    pub certificates: u64,
    /// Authorities, deleted ones too.
    pub authorities: u64,
    /// Revocations.
    pub revocations: u64,
    /// Records of the audit.
    pub audit_records: u64,
}

/// Counts what is in a database.
pub async fn contents(db: &Db) -> Result<Contents, StoreError> {
    let row = db
        .row(
            "SELECT (SELECT COUNT(*) FROM certificates), (SELECT COUNT(*) FROM authorities),
             (SELECT COUNT(*) FROM revocations), (SELECT COUNT(*) FROM audit_records)",
            vec![],
        )
        .await?;
    let row = row.ok_or_else(|| StoreError::Engine("a query without a row".into()))?;
    let count = |column| row.int(column).map(i64::unsigned_abs);
    Ok(Contents { certificates: count(0)?, authorities: count(1)?, revocations: count(2)?, audit_records: count(3)? })
}

/// The ids of the master keys that data keys are sealed under.
pub async fn master_keys(db: &Db) -> Result<Vec<String>, StoreError> {
    let rows = db.rows("SELECT DISTINCT master_key_id FROM data_keys ORDER BY master_key_id", vec![]).await?;
    rows.iter().map(|row| row.string(0)).collect()
}
