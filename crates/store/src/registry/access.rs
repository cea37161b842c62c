//! What is asked when somebody connects: whose certificate or password it is, and whether it gives access now.

use crate::columns::{opt_time, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::Time;
use domain::registry::credential::CertificateState;
use domain::registry::topic::Principal;
use domain::registry::{BrokerId, DeviceId, LogOptions, Owner, OwnerKind, PasswordId, RegistryId};
use domain::{OrganizationId, ProjectId};

/// A registered certificate, as far as it is about access.
#[derive(Clone, Debug)]
pub struct CertificateAccess {
    /// Whose it is, and whether that is let in.
    pub holder: Holder,
    /// Whether it gives access.
    pub state: CertificateState,
    /// From when it holds.
    pub not_before: Time,
    /// Until when it holds.
    pub not_after: Time,
    /// When it was revoked, when an authority of ours issued it and it is revoked or on hold.
    pub revoked_at: Option<Time>,
}

/// A password, as far as it is about access.
#[derive(Clone, Debug)]
pub struct PasswordAccess {
    /// Whose it is, and whether that is let in.
    pub holder: Holder,
    /// Its id.
    pub password: PasswordId,
    /// Argon2id, in the PHC string format.
    pub hash: String,
}

/// Who has a credential.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Who it is.
    pub principal: Principal,
    /// Whether the registry is disabled.
    pub is_disabled: bool,
}

/// An owner, and where it belongs.
#[derive(Clone, Debug)]
pub struct OwnerAccess {
    /// Who it is.
    pub holder: Holder,
    /// Its project.
    pub project: ProjectId,
    /// The organisation of that.
    pub organization: OrganizationId,
}

/// The registry or broker whose topics sessions are about.
#[derive(Clone, Debug)]
pub struct SpaceFacts {
    /// Grows with each change.
    pub version: i64,
    /// What is logged of its connections.
    pub log_options: LogOptions,
}

/// The certificate of this SHA-256.
pub async fn certificate(db: &Db, sha256: &[u8; 32]) -> Result<Option<CertificateAccess>, StoreError> {
    let row = db
        .row(
            "SELECT c.owner_kind, c.owner_id, d.registry_id, r.is_disabled, c.state, c.not_before, c.not_after, v.revoked_at
             FROM registered_certificates c JOIN projects p ON p.id = c.project_id AND p.deleted_at IS NULL
             LEFT JOIN devices d ON d.id = c.owner_id AND c.owner_kind = 'device'
             LEFT JOIN registries r ON r.id = COALESCE(d.registry_id, c.owner_id)
             LEFT JOIN revocations v ON v.authority_key_id = c.authority_key_id AND v.serial = c.serial
                  AND v.released_at IS NULL
             WHERE c.fingerprint = $1",
            params![sha256],
        )
        .await?;
    row.map(|row| {
        Ok(CertificateAccess {
            holder: holder(&row)?,
            state: word(&row, 4, CertificateState::parse)?,
            not_before: time(&row, 5)?,
            not_after: time(&row, 6)?,
            revoked_at: opt_time(&row, 7)?,
        })
    })
    .transpose()
}

/// The passwords of the registry, device or broker of this id.
pub async fn passwords(db: &Db, owner: &str) -> Result<Vec<PasswordAccess>, StoreError> {
    let rows = db
        .rows(
            "SELECT p.owner_kind, p.owner_id, d.registry_id, r.is_disabled, p.id, p.hash
             FROM registered_passwords p JOIN projects j ON j.id = p.project_id AND j.deleted_at IS NULL
             LEFT JOIN devices d ON d.id = p.owner_id AND p.owner_kind = 'device'
             LEFT JOIN registries r ON r.id = COALESCE(d.registry_id, p.owner_id)
             WHERE p.owner_id = $1 ORDER BY p.created_at DESC, p.id",
            params![owner],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(PasswordAccess { holder: holder(row)?, password: PasswordId(row.string(4)?), hash: row.string(5)? })
        })
        .collect()
}

/// A registry, device or broker, and where it belongs.
pub async fn owner(db: &Db, owner: &Owner) -> Result<Option<OwnerAccess>, StoreError> {
    let sql = match owner {
        Owner::Device(_) => {
            "SELECT 'device', o.id, o.registry_id, r.is_disabled, p.id, p.organization_id FROM devices o
             JOIN registries r ON r.id = o.registry_id JOIN projects p ON p.id = o.project_id
             WHERE o.id = $1 AND p.deleted_at IS NULL"
        }
        Owner::Registry(_) => {
            "SELECT 'registry', o.id, CAST(NULL AS TEXT), o.is_disabled, p.id, p.organization_id FROM registries o
             JOIN projects p ON p.id = o.project_id WHERE o.id = $1 AND p.deleted_at IS NULL"
        }
        Owner::Broker(_) => {
            "SELECT 'broker', o.id, CAST(NULL AS TEXT), CAST(0 AS BIGINT), p.id, p.organization_id FROM brokers o
             JOIN projects p ON p.id = o.project_id WHERE o.id = $1 AND p.deleted_at IS NULL"
        }
    };
    let row = db.row(sql, params![owner.id()]).await?;
    row.map(|row| {
        Ok(OwnerAccess {
            holder: holder(&row)?,
            project: ProjectId(row.uuid(4)?),
            organization: OrganizationId(row.uuid(5)?),
        })
    })
    .transpose()
}

/// Whether a registry has this device.
pub async fn has_device(db: &Db, registry: &RegistryId, device: &DeviceId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM devices WHERE id = $1 AND registry_id = $2";
    Ok(db.row(sql, params![device.as_str(), registry.as_str()]).await?.is_some())
}

/// What holds for the sessions of a registry or broker.
pub async fn space(db: &Db, principal: &Principal) -> Result<Option<SpaceFacts>, StoreError> {
    let sql = match principal {
        Principal::Device { .. } | Principal::Registry(_) => {
            "SELECT version, log_options FROM registries WHERE id = $1"
        }
        Principal::Broker(_) => "SELECT version, log_options FROM brokers WHERE id = $1",
    };
    let row = db.row(sql, params![principal.space()]).await?;
    row.map(|row| Ok(SpaceFacts { version: row.int(0)?, log_options: crate::columns::parse_document(&row, 1)? }))
        .transpose()
}

/// The versions of all registries and brokers.
pub async fn versions(db: &Db) -> Result<Vec<(String, i64)>, StoreError> {
    let sql = "SELECT id, version FROM registries UNION ALL SELECT id, version FROM brokers";
    db.rows(sql, vec![]).await?.iter().map(|row| Ok((row.string(0)?, row.int(1)?))).collect()
}

/// The aliases of a registry: alias, device, topic prefix.
pub async fn aliases(db: &Db, registry: &RegistryId) -> Result<Vec<(String, DeviceId, String)>, StoreError> {
    let sql = "SELECT alias, device_id, topic_prefix FROM topic_aliases WHERE registry_id = $1 ORDER BY alias";
    let rows = db.rows(sql, params![registry.as_str()]).await?;
    rows.iter().map(|row| Ok((row.string(0)?, DeviceId(row.string(1)?), row.string(2)?))).collect()
}

/// Owner, registry of the device, and whether the registry is disabled, in the first four columns.
fn holder(row: &Row) -> Result<Holder, StoreError> {
    let id = row.string(1)?;
    let registry_of_device = row.opt_string(2)?.map(RegistryId);
    let is_disabled = row.opt_int(3)?.unwrap_or(0) != 0;
    let principal = match (word(row, 0, OwnerKind::parse)?, registry_of_device) {
        (OwnerKind::Device, Some(registry)) => Principal::Device { device: DeviceId(id), registry },
        (OwnerKind::Device, None) => return Err(StoreError::Corrupt(format!("the device {id} has no registry"))),
        (OwnerKind::Registry, _) => Principal::Registry(RegistryId(id)),
        (OwnerKind::Broker, _) => Principal::Broker(BrokerId(id)),
    };
    Ok(Holder { principal, is_disabled })
}
