//! Operations: what a change of the registry leaves behind. They are done when they are answered, and kept.

use super::credential::{RegisteredCertificate, RegisteredPassword};
use super::{Broker, BrokerId, Device, DeviceId, OperationId, Owner, PasswordId, Registry, RegistryId};
use crate::id::{CertificateId, ProjectId};
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// How long an operation can be read, in days (contract §11 row 9).
pub const KEPT_DAYS: i64 = 14;
/// How long a repeated idempotency key gives the same operation, in milliseconds (contract §2.8).
pub const REPEATABLE_MILLIS: i64 = 24 * 3600 * 1000;

/// A change that was asked for, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// The project of what it changed.
    pub project: ProjectId,
    /// What came of it.
    pub outcome: Outcome,
    /// The id of who asked.
    pub created_by: String,
    /// When it began.
    pub created_at: Time,
    /// When it ended.
    pub modified_at: Time,
}

/// What came of an operation: all that its metadata and its response show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// A registry was made.
    CreateRegistry(Registry),
    /// A registry was changed.
    UpdateRegistry(Registry),
    /// A registry was deleted.
    DeleteRegistry(RegistryId),
    /// A registry and its devices are refused from now on.
    DisableRegistry(Registry),
    /// A registry and its devices are let in again.
    EnableRegistry(Registry),
    /// A device was made.
    CreateDevice(Device),
    /// A device was made together with its certificate.
    ProvisionDevice {
        /// The device.
        device: Device,
        /// Its certificate in the inventory.
        certificate: CertificateId,
    },
    /// A device was changed.
    UpdateDevice(Device),
    /// A device was deleted.
    DeleteDevice(DeviceId),
    /// A broker was made.
    CreateBroker(Broker),
    /// A broker was changed.
    UpdateBroker(Broker),
    /// A broker was deleted.
    DeleteBroker(BrokerId),
    /// A certificate was registered.
    AddCertificate(Box<RegisteredCertificate>),
    /// A certificate was taken away; how it was shown.
    DeleteCertificate {
        /// Whose it was.
        owner: Owner,
        /// How the caller named it.
        fingerprint: String,
    },
    /// A password was added.
    AddPassword(RegisteredPassword),
    /// A password was taken away.
    DeletePassword {
        /// Whose it was.
        owner: Owner,
        /// Which one.
        password: PasswordId,
    },
}

impl Outcome {
    /// The id of the registry, device or broker that lists it.
    pub fn resource_id(&self) -> &str {
        match self {
            Self::CreateRegistry(registry)
            | Self::UpdateRegistry(registry)
            | Self::DisableRegistry(registry)
            | Self::EnableRegistry(registry) => registry.id.as_str(),
            Self::DeleteRegistry(id) => id.as_str(),
            Self::CreateDevice(device) | Self::ProvisionDevice { device, .. } | Self::UpdateDevice(device) => {
                device.id.as_str()
            }
            Self::DeleteDevice(id) => id.as_str(),
            Self::CreateBroker(broker) | Self::UpdateBroker(broker) => broker.id.as_str(),
            Self::DeleteBroker(id) => id.as_str(),
            Self::AddCertificate(certificate) => certificate.owner.id(),
            Self::DeleteCertificate { owner, .. } | Self::DeletePassword { owner, .. } => owner.id(),
            Self::AddPassword(password) => password.owner.id(),
        }
    }

    /// In words (contract §4): `Create device registry`, …
    pub fn description(&self) -> String {
        let of = |owner: &Owner| match owner {
            Owner::Registry(_) => "device registry",
            Owner::Device(_) => "device",
            Owner::Broker(_) => "broker",
        };
        match self {
            Self::CreateRegistry(_) => "Create device registry".into(),
            Self::UpdateRegistry(_) => "Update device registry".into(),
            Self::DeleteRegistry(_) => "Delete device registry".into(),
            Self::DisableRegistry(_) => "Disable device registry".into(),
            Self::EnableRegistry(_) => "Enable device registry".into(),
            Self::CreateDevice(_) => "Create device".into(),
            Self::ProvisionDevice { .. } => "Provision device".into(),
            Self::UpdateDevice(_) => "Update device".into(),
            Self::DeleteDevice(_) => "Delete device".into(),
            Self::CreateBroker(_) => "Create broker".into(),
            Self::UpdateBroker(_) => "Update broker".into(),
            Self::DeleteBroker(_) => "Delete broker".into(),
            Self::AddCertificate(certificate) => format!("Add {} certificate", of(&certificate.owner)),
            Self::DeleteCertificate { owner, .. } => format!("Delete {} certificate", of(owner)),
            Self::AddPassword(password) => format!("Add {} password", of(&password.owner)),
            Self::DeletePassword { owner, .. } => format!("Delete {} password", of(owner)),
        }
    }
}
