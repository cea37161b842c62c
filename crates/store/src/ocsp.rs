//! What answers about the status of certificates rest on, and the responders that sign them.

use crate::changes::{Changes, Statement};
use crate::columns::{number, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::revocation::reason_from;
use crate::value::Row;
use domain::ocsp::SerialFacts;
use domain::{AuthorityId, AuthorityKeyId, CertificateId, ProjectId, Time};
use uuid::Uuid;
use x509::{Certificate, IdentifierHash};

/// A key whose certificates are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuerKey {
    /// The key.
    pub key: AuthorityKeyId,
    /// Its authority.
    pub authority: AuthorityId,
    /// The number of the name that its certificates give as their issuer.
    pub issuer_name_id: i64,
}

/// The key with these hashes of itself and of its name.
pub async fn issuer(
    db: &Db,
    hash: IdentifierHash,
    name_hash: &[u8],
    key_hash: &[u8],
) -> Result<Option<IssuerKey>, StoreError> {
    let sql = match hash {
        IdentifierHash::Sha1 => {
            "SELECT id, authority_id, issuer_name_id FROM authority_keys WHERE key_sha1 = $1 AND name_sha1 = $2 LIMIT 1"
        }
        IdentifierHash::Sha256 => {
            "SELECT id, authority_id, issuer_name_id FROM authority_keys
             WHERE key_sha256 = $1 AND name_sha256 = $2 LIMIT 1"
        }
    };
    let row = db.row(sql, params![key_hash, name_hash]).await?;
    row.map(|row| {
        Ok(IssuerKey {
            key: AuthorityKeyId(row.uuid(0)?),
            authority: AuthorityId(row.uuid(1)?),
            issuer_name_id: row.int(2)?,
        })
    })
    .transpose()
}

/// The hashes of the name and of the key of each key of an authority, the newest first.
pub async fn issuer_hashes(db: &Db, most: u32) -> Result<Vec<(IdentifierHash, Vec<u8>, Vec<u8>)>, StoreError> {
    let sql = "SELECT name_sha1, key_sha1, name_sha256, key_sha256 FROM authority_keys ORDER BY id DESC LIMIT $1";
    let mut hashes = Vec::new();
    for row in db.rows(sql, params![i64::from(most)]).await? {
        for (hash, name, key) in [(IdentifierHash::Sha1, 0, 1), (IdentifierHash::Sha256, 2, 3)] {
            hashes.push((hash, row.blob(name)?.to_vec(), row.blob(key)?.to_vec()));
        }
    }
    Ok(hashes)
}

/// What is stored about a serial number, given by the contents of its INTEGER, in one look: its revocation, and every place
/// where what a key signed is kept. A root signed itself, and is not in the inventory.
pub async fn facts(db: &Db, issuer: &IssuerKey, serial: &[u8]) -> Result<SerialFacts, StoreError> {
    let rows = db
        .rows(
            "SELECT revoked_at, reason FROM revocations
             WHERE authority_key_id = $1 AND serial = $2 AND released_at IS NULL
             UNION ALL SELECT CAST(NULL AS BIGINT), CAST(NULL AS BIGINT) FROM revocations
             WHERE authority_key_id = $1 AND serial = $2 AND released_at IS NOT NULL
             UNION ALL SELECT CAST(NULL AS BIGINT), CAST(NULL AS BIGINT) FROM certificates
             WHERE issuer_name_id = $3 AND serial = $2 AND authority_key_id = $1
             UNION ALL SELECT CAST(NULL AS BIGINT), CAST(NULL AS BIGINT) FROM deleted_serials
             WHERE authority_key_id = $1 AND serial = $2
             UNION ALL SELECT CAST(NULL AS BIGINT), CAST(NULL AS BIGINT) FROM ocsp_responders
             WHERE authority_key_id = $1 AND serial = $2
             UNION ALL SELECT CAST(NULL AS BIGINT), CAST(NULL AS BIGINT) FROM authority_certificates
             WHERE authority_key_id = $1 AND serial = $2 AND parent_certificate_id IS NULL AND chain = ''",
            params![issuer.key, serial, issuer.issuer_name_id],
        )
        .await?;
    let mut facts = SerialFacts { is_issued: !rows.is_empty(), revocation: None };
    for row in &rows {
        if let (Some(_), Some(reason)) = (row.opt_int(0)?, row.opt_int(1)?) {
            facts.revocation = Some((time(row, 0)?, reason_from(reason)?));
        }
    }
    Ok(facts)
}

/// A revocation that was made, was given another reason or was ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusChange {
    /// The key that signed the certificate.
    pub key: AuthorityKeyId,
    /// The contents of the INTEGER of its serial number.
    pub serial: Vec<u8>,
    /// When it changed, by the clock of the node that changed it.
    pub changed_at: Time,
}

/// What changed since a time, so many at most.
pub async fn changes_since(db: &Db, at: Time, limit: u32) -> Result<Vec<StatusChange>, StoreError> {
    let sql = "SELECT authority_key_id, serial, changed_at FROM revocations WHERE changed_at >= $1
               ORDER BY changed_at DESC LIMIT $2";
    let rows = db.rows(sql, params![at, limit]).await?;
    rows.iter()
        .map(|row| {
            let key = AuthorityKeyId(row.uuid(0)?);
            Ok(StatusChange { key, serial: row.blob(1)?.to_vec(), changed_at: time(row, 2)? })
        })
        .collect()
}

/// Keeps the serial number of a certificate that is about to be deleted: what was issued stays known.
pub fn keep_serial(project: ProjectId, id: CertificateId, at: Time) -> Statement {
    Statement::new(
        "INSERT INTO deleted_serials (authority_key_id, serial, project_id, not_after, deleted_at)
         SELECT authority_key_id, serial, project_id, not_after, CAST($3 AS BIGINT) FROM certificates
         WHERE project_id = $1 AND id = $2 AND authority_key_id IS NOT NULL
         ON CONFLICT (authority_key_id, serial) DO NOTHING",
        params![project, id, at],
    )
}

/// A responder as it is stored.
#[derive(Clone, Debug)]
pub struct ResponderRecord {
    /// Its id.
    pub id: Uuid,
    /// The project.
    pub project: ProjectId,
    /// The authority.
    pub authority: AuthorityId,
    /// The key that lets it speak.
    pub key: AuthorityKeyId,
    /// 1 for the first responder of the key.
    pub version: u32,
    /// Its certificate.
    pub der: Vec<u8>,
    /// The data key that seals its private key.
    pub data_key_version: u32,
    /// Its private key, sealed.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Time,
}

/// Adds a responder, and forgets those of its key that have ended. One of that version is there already when somebody else
/// was faster.
pub fn insert_responder(responder: &ResponderRecord, parsed: &Certificate) -> Changes {
    let insert = Statement::new(
        "INSERT INTO ocsp_responders (id, project_id, authority_id, authority_key_id, version, serial, not_before,
         not_after, der, data_key_version, sealed, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        params![
            responder.id,
            responder.project,
            responder.authority,
            responder.key,
            responder.version,
            parsed.serial_content(),
            Time::from_seconds(parsed.not_before()),
            Time::from_seconds(parsed.not_after()),
            responder.der.clone(),
            responder.data_key_version,
            responder.sealed.clone(),
            responder.created_at,
        ],
    );
    let forget = Statement::new(
        "DELETE FROM ocsp_responders WHERE authority_key_id = $1 AND not_after < $2",
        params![responder.key, responder.created_at],
    );
    Changes::new().statement(insert).statement(forget)
}

macro_rules! select_responder {
    ($rest:literal) => {
        concat!(
            "SELECT id, project_id, authority_id, authority_key_id, version, der, data_key_version, sealed, created_at
             FROM ocsp_responders ",
            $rest
        )
    };
}

/// The responders of a key, the newest first.
pub async fn responders(db: &Db, key: AuthorityKeyId) -> Result<Vec<ResponderRecord>, StoreError> {
    let sql = select_responder!("WHERE authority_key_id = $1 ORDER BY version DESC LIMIT 10");
    db.rows(sql, params![key]).await?.iter().map(responder_from).collect()
}

/// Keys without a responder until a time, unless it lives as long as their certificate. Those of a deleted authority are left
/// out once its certificate has expired, and those of an authority that has no responders.
pub async fn responders_due(db: &Db, before: Time, now: Time) -> Result<Vec<AuthorityKeyId>, StoreError> {
    let rows = db
        .rows(
            "SELECT k.id FROM authority_keys k JOIN authorities a ON a.id = k.authority_id
             JOIN authority_certificates c ON c.authority_key_id = k.id
             AND c.version = (SELECT MAX(n.version) FROM authority_certificates n WHERE n.authority_key_id = k.id)
             WHERE (a.deleted_at IS NULL OR a.not_after >= $2) AND c.not_after > $2
             AND a.configuration NOT LIKE '%\"ocsp\":\"off\"%'
             AND NOT EXISTS (SELECT 1 FROM ocsp_responders r WHERE r.authority_key_id = k.id
                             AND r.not_after > $2 AND (r.not_after >= $1 OR r.not_after >= c.not_after))
             ORDER BY k.id LIMIT 100",
            params![before, now],
        )
        .await?;
    rows.iter().map(|row| Ok(AuthorityKeyId(row.uuid(0)?))).collect()
}

fn responder_from(row: &Row) -> Result<ResponderRecord, StoreError> {
    Ok(ResponderRecord {
        id: row.uuid(0)?,
        project: ProjectId(row.uuid(1)?),
        authority: AuthorityId(row.uuid(2)?),
        key: AuthorityKeyId(row.uuid(3)?),
        version: number(row, 4)?,
        der: row.blob(5)?.to_vec(),
        data_key_version: number(row, 6)?,
        sealed: row.blob(7)?.to_vec(),
        created_at: time(row, 8)?,
    })
}
