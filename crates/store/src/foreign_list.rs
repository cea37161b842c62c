//! Revocation lists of authorities outside that were handed in: the newest of each issuer's key, by the authority of ours
//! that it stands above.

use crate::changes::Statement;
use crate::columns::{opt_time, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::{AuthorityId, ForeignListId, ProjectId, Time};

/// A list that was handed in.
#[derive(Clone, Debug)]
pub struct ForeignListRow {
    /// Its id.
    pub id: ForeignListId,
    /// The project.
    pub project: ProjectId,
    /// The authority of ours whose chain its issuer is in.
    pub authority: AuthorityId,
    /// The SHA-256 of the issuer's key.
    pub issuer_spki_sha256: [u8; 32],
    /// Its number, if it has one.
    pub number: Option<Vec<u8>>,
    /// When it was made.
    pub this_update: Time,
    /// By when the next one is there.
    pub next_update: Option<Time>,
    /// The list.
    pub der: Vec<u8>,
    /// When it was handed in.
    pub created_at: Time,
}

/// Keeps a list in place of one that was made earlier, or in the same second with a lower number; a newer one is never replaced.
pub fn keep(row: &ForeignListRow) -> Statement {
    Statement::new(
        "INSERT INTO foreign_crls (id, project_id, authority_id, issuer_spki_sha256, number, this_update, next_update, der,
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (authority_id, issuer_spki_sha256) DO UPDATE SET id = excluded.id, number = excluded.number,
         this_update = excluded.this_update, next_update = excluded.next_update, der = excluded.der,
         created_at = excluded.created_at WHERE foreign_crls.this_update < excluded.this_update
         OR (foreign_crls.this_update = excluded.this_update AND (length(foreign_crls.number) < length(excluded.number)
         OR (length(foreign_crls.number) = length(excluded.number) AND foreign_crls.number < excluded.number)))",
        params![
            row.id,
            row.project,
            row.authority,
            row.issuer_spki_sha256,
            row.number.clone(),
            row.this_update,
            row.next_update,
            row.der.clone(),
            row.created_at,
        ],
    )
    .expect_one("no newer list of that issuer is there")
}

/// The lists of an authority's parents outside, by issuer.
pub async fn of_authority(db: &Db, authority: AuthorityId) -> Result<Vec<ForeignListRow>, StoreError> {
    let sql =
        "SELECT id, project_id, authority_id, issuer_spki_sha256, number, this_update, next_update, der, created_at
               FROM foreign_crls WHERE authority_id = $1 ORDER BY issuer_spki_sha256";
    db.rows(sql, params![authority]).await?.iter().map(row_from).collect()
}

/// The newest list of an issuer outside that was handed in to a project.
pub async fn of_issuer(
    db: &Db,
    project: ProjectId,
    issuer_spki_sha256: [u8; 32],
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT der FROM foreign_crls WHERE project_id = $1 AND issuer_spki_sha256 = $2
               ORDER BY this_update DESC LIMIT 1";
    db.row(sql, params![project, issuer_spki_sha256]).await?.map(|row| Ok(row.blob(0)?.to_vec())).transpose()
}

fn row_from(row: &Row) -> Result<ForeignListRow, StoreError> {
    let digest = row.blob(3)?.try_into();
    Ok(ForeignListRow {
        id: ForeignListId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        authority: AuthorityId(row.uuid(2)?),
        issuer_spki_sha256: digest.map_err(|_| StoreError::Corrupt("a digest is not of 32 octets".into()))?,
        number: row.opt_blob(4)?.map(<[u8]>::to_vec),
        this_update: time(row, 5)?,
        next_update: opt_time(row, 6)?,
        der: row.blob(7)?.to_vec(),
        created_at: time(row, 8)?,
    })
}
