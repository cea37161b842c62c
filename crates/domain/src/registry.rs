//! The device registry: registries, the devices in them, brokers, and what they prove themselves with.
//!
//! Ids are opaque texts here, since those of imported objects are kept. What may be published and subscribed to is in
//! `registry/topic.rs`, aliases in `registry/alias.rs`, credentials in `registry/credential.rs`, what a change leaves
//! behind in `registry/operation.rs`, authorities that a registry trusts in `registry/trust.rs`.

pub mod alias;
pub mod credential;
mod filter;
pub mod hook;
mod id;
pub mod operation;
pub mod outside;
pub mod provision;
pub mod topic;
pub mod trust;

use credential::hex;
pub use id::{
    BrokerHookId, BrokerId, DeviceId, OperationId, PasswordId, RESOURCE_ID_CHARACTERS_MAX, RegistryId,
    TrustedAuthorityId,
};

use crate::id::ProjectId;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Labels of an object, in the order of their keys.
pub type Labels = BTreeMap<String, String>;

/// A folder as the caller names it, and the project that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// The project.
    pub project: ProjectId,
    /// Empty for the project's own names; otherwise the name that the operator gave it besides.
    pub key: String,
    /// The name that the caller used.
    pub id: String,
}

/// A registry: devices, and the credentials of the system that works with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Its id.
    pub id: RegistryId,
    /// Where it belongs.
    pub folder: Folder,
    /// Its name; empty, or unique in its folder.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its labels.
    pub labels: Labels,
    /// Where its connections are logged.
    pub log_options: LogOptions,
    /// The log group of a registry from before log options; only imported ones have it.
    pub log_group_id: String,
    /// Whether it and its devices are refused.
    pub is_disabled: bool,
    /// Counts its changes.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
}

/// A device of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its registry.
    pub registry: RegistryId,
    /// The project of its registry.
    pub project: ProjectId,
    /// The folder of its registry: see [`Folder::key`].
    pub folder_key: String,
    /// Its name; empty, or unique in its registry.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its labels.
    pub labels: Labels,
    /// Other names of its topics: alias to topic prefix.
    pub topic_aliases: BTreeMap<String, String>,
    /// Counts its changes.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
}

/// A broker: a space of topics of its own, open to whoever has one of its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Where it belongs.
    pub folder: Folder,
    /// Its name; empty, or unique in its folder.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its labels.
    pub labels: Labels,
    /// Where its connections are logged.
    pub log_options: LogOptions,
    /// Counts its changes.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
}

/// Where and what is logged of connections. Kept and shown; lines go to the server's own log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// Whether nothing is logged.
    pub is_disabled: bool,
    /// Where.
    pub destination: Option<LogDestination>,
    /// The least level, by its number (contract §3.1); 0 is not set.
    pub min_level: i32,
}

/// Where lines of a log go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDestination {
    /// A log group.
    LogGroup(String),
    /// The default log group of a folder.
    Folder(String),
}

/// What changes in log options. Absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct LogOptionsChange {
    /// Whether nothing is logged.
    pub is_disabled: Option<bool>,
    /// Where.
    pub destination: Option<Option<LogDestination>>,
    /// The least level.
    pub min_level: Option<i32>,
}

impl LogOptionsChange {
    /// All of it changes.
    pub fn whole(options: LogOptions) -> Self {
        Self {
            is_disabled: Some(options.is_disabled),
            destination: Some(options.destination),
            min_level: Some(options.min_level),
        }
    }
}

impl LogOptions {
    /// These options, changed.
    pub fn changed(self, change: LogOptionsChange) -> Self {
        Self {
            is_disabled: change.is_disabled.unwrap_or(self.is_disabled),
            destination: change.destination.unwrap_or(self.destination),
            min_level: change.min_level.unwrap_or(self.min_level),
        }
    }

    /// These options with the destination that is meant when none is given: the default group of the folder
    /// (contract §7).
    pub fn or_folder(mut self, folder: &str) -> Self {
        self.destination.get_or_insert_with(|| LogDestination::Folder(folder.to_owned()));
        self
    }
}

/// What can have credentials and connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Owner {
    /// A registry.
    Registry(RegistryId),
    /// A device.
    Device(DeviceId),
    /// A broker.
    Broker(BrokerId),
}

/// The kind of an [`Owner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// A registry.
    Registry,
    /// A device.
    Device,
    /// A broker.
    Broker,
}

impl Owner {
    /// Its kind.
    pub const fn kind(&self) -> OwnerKind {
        match self {
            Self::Registry(_) => OwnerKind::Registry,
            Self::Device(_) => OwnerKind::Device,
            Self::Broker(_) => OwnerKind::Broker,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Registry(id) => id.as_str(),
            Self::Device(id) => id.as_str(),
            Self::Broker(id) => id.as_str(),
        }
    }

    /// The owner of that kind and id.
    pub fn of(kind: OwnerKind, id: impl Into<String>) -> Self {
        let id = id.into();
        match kind {
            OwnerKind::Registry => Self::Registry(RegistryId(id)),
            OwnerKind::Device => Self::Device(DeviceId(id)),
            OwnerKind::Broker => Self::Broker(BrokerId(id)),
        }
    }
}

impl OwnerKind {
    /// The word in the database and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Device => "device",
            Self::Broker => "broker",
        }
    }

    /// The kind of that word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Registry, Self::Device, Self::Broker].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind().as_str(), self.id())
    }
}

/// When a device was last seen (contract §3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitoring {
    /// The address that it last logged in from.
    pub last_auth_ip: Option<String>,
    /// When it last logged in.
    pub last_auth: Option<Time>,
    /// When it last published.
    pub last_pub_activity: Option<Time>,
    /// When it last subscribed.
    pub last_sub_activity: Option<Time>,
    /// When it was last seen connected.
    pub last_online: Option<Time>,
    /// When its last session ended.
    pub last_disconnect: Option<Time>,
}

/// Something whose access ended: every session that stands on it is closed, on every node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessEnd {
    /// A certificate, by its SHA-256.
    Certificate([u8; 32]),
    /// A password.
    Password(PasswordId),
    /// A registry with all its devices, a device, or a broker.
    Owner(Owner),
}

impl AccessEnd {
    /// The words in the database: the kind and the subject.
    pub fn words(&self) -> (&'static str, String) {
        match self {
            Self::Certificate(sha256) => ("certificate", hex(sha256)),
            Self::Password(id) => ("password", id.0.clone()),
            Self::Owner(owner) => (owner.kind().as_str(), owner.id().to_owned()),
        }
    }

    /// What these words name.
    pub fn parse(kind: &str, subject: &str) -> Option<Self> {
        match kind {
            "certificate" => match credential::FingerprintQuery::parse(subject) {
                credential::FingerprintQuery::Sha256(sha256) => Some(Self::Certificate(sha256)),
                _ => None,
            },
            "password" => Some(Self::Password(PasswordId(subject.to_owned()))),
            kind => OwnerKind::parse(kind).map(|kind| Self::Owner(Owner::of(kind, subject))),
        }
    }
}
