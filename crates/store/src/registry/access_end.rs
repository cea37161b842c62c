//! Credentials and owners whose access ended, for every node to close the sessions that stand on them. The other nodes are
//! told at the commit, and look by themselves, too.

use crate::announcement::Announcement;
use crate::changes::{Changes, Statement};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::Time;
use domain::registry::AccessEnd;
use uuid::Uuid;

/// Says that the access of this ended.
pub fn insert(id: Uuid, end: &AccessEnd, at: Time) -> Changes {
    let (kind, subject) = end.words();
    let insert = Statement::new(
        "INSERT INTO access_ends (id, kind, subject, at) VALUES ($1, $2, $3, $4)",
        params![id, kind, subject, at],
    );
    Changes::new().statement(insert).announce(Announcement::AccessEnds)
}

/// Says that the access of a certificate ended, when it is registered.
pub fn insert_if_registered(id: Uuid, sha256: &[u8; 32], at: Time) -> Changes {
    let (kind, subject) = AccessEnd::Certificate(*sha256).words();
    let insert = Statement::new(
        "INSERT INTO access_ends (id, kind, subject, at)
         SELECT $1, $2, $3, $4 FROM registered_certificates WHERE fingerprint = $5",
        params![id, kind, subject, at, sha256],
    );
    Changes::new().statement(insert).announce(Announcement::AccessEnds)
}

/// What ended since then, oldest first, with the ids of the rows.
pub async fn since(db: &Db, at: Time) -> Result<Vec<(Uuid, AccessEnd)>, StoreError> {
    let sql = "SELECT id, kind, subject FROM access_ends WHERE at >= $1 ORDER BY at, id";
    let rows = db.rows(sql, params![at]).await?;
    rows.iter()
        .map(|row| {
            let end = AccessEnd::parse(row.text(1)?, row.text(2)?);
            Ok((row.uuid(0)?, end.ok_or_else(|| StoreError::Corrupt("an end of access names nothing".into()))?))
        })
        .collect()
}

/// Forgets what every node has seen long ago.
pub fn prune(before: Time) -> Statement {
    Statement::new("DELETE FROM access_ends WHERE at < $1", params![before])
}
