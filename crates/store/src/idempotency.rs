//! Answers kept for repeated requests, for a day.

use crate::changes::Statement;
use crate::columns::{octets, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::{CertificateId, ProjectId, Time};

/// A request that was begun: the digest of caller, route and key, and when. A later request under the same key, once the
/// first is forgotten, has a mark of its own, which nothing of the first can touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The digest.
    pub id: [u8; 16],
    /// When the request came.
    pub created_at: Time,
}

/// A kept answer, or the mark of a request that is still running.
#[derive(Clone, Debug)]
pub struct KeptAnswer {
    /// The mark.
    pub mark: Mark,
    /// Digest of the body.
    pub body_sha256: [u8; 32],
    /// The certificate that the request made, written in the same commit as the certificate.
    pub certificate: Option<CertificateId>,
    /// The sealed answer.
    pub sealed: Option<Vec<u8>>,
}

/// The answer under a digest of caller, route and key.
pub async fn find(db: &Db, id: &[u8; 16]) -> Result<Option<KeptAnswer>, StoreError> {
    let row = db
        .row("SELECT body_sha256, certificate_id, sealed, created_at FROM idempotency_keys WHERE id = $1", params![*id])
        .await?;
    row.map(|row| {
        Ok(KeptAnswer {
            mark: Mark { id: *id, created_at: time(&row, 3)? },
            body_sha256: octets(&row, 0)?,
            certificate: row.opt_uuid(1)?.map(CertificateId),
            sealed: row.opt_blob(2)?.map(<[u8]>::to_vec),
        })
    })
    .transpose()
}

/// Marks a request as running; a conflict says that the same key is known already.
pub fn begin(mark: &Mark, project: ProjectId, body_sha256: [u8; 32]) -> Statement {
    Statement::new(
        "INSERT INTO idempotency_keys (id, project_id, body_sha256, created_at) VALUES ($1, $2, $3, $4)",
        params![mark.id, project, body_sha256, mark.created_at],
    )
}

/// Notes the certificate that a running request made.
pub fn note_certificate(mark: &Mark, certificate: CertificateId) -> Statement {
    Statement::new(
        "UPDATE idempotency_keys SET certificate_id = $3
         WHERE id = $1 AND created_at = $2 AND certificate_id IS NULL",
        params![mark.id, mark.created_at, certificate],
    )
    .expect_one("the request is still running")
}

/// Keeps the answer.
pub fn finish(mark: &Mark, sealed: Vec<u8>) -> Statement {
    Statement::new(
        "UPDATE idempotency_keys SET sealed = $3 WHERE id = $1 AND created_at = $2",
        params![mark.id, mark.created_at, sealed],
    )
}

/// Forgets a request that was refused, or whose day is over.
pub fn forget(mark: &Mark) -> Statement {
    Statement::new("DELETE FROM idempotency_keys WHERE id = $1 AND created_at = $2", params![mark.id, mark.created_at])
}

/// Forgets a mark that was left by a request which died before it made anything.
pub fn forget_abandoned(mark: &Mark) -> Statement {
    Statement::new(
        "DELETE FROM idempotency_keys WHERE id = $1 AND created_at = $2 AND sealed IS NULL AND certificate_id IS NULL",
        params![mark.id, mark.created_at],
    )
}

/// Forgets every answer from before a time.
pub fn prune(before: Time) -> Statement {
    Statement::new("DELETE FROM idempotency_keys WHERE created_at < $1", params![before])
}
