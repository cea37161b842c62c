//! The use cases of the device registry: registries, devices, brokers, their credentials and topics.
//!
//! What is not found and what the caller may not know of answer alike. Every change is an operation, kept in the same
//! commit, and repeated requests are answered with it.
//!
//! `connect.rs` lets somebody in, `publish.rs` and `values.rs` are the way of a message, `hub.rs` and `outbox.rs` hold the
//! sessions of this process, `follow.rs` what happens while they are open, `relay.rs` the way to other nodes.

mod brokers;
pub mod connect;
mod credentials;
mod devices;
mod expiring;
mod export;
mod folders;
mod follow;
mod hook_answers;
mod hooks;
pub mod hub;
mod import;
pub mod monitoring;
mod operations;
mod ordered_id;
pub mod outbox;
mod page;
mod password;
mod provision;
pub mod publish;
mod rate;
mod registries;
mod relay;
mod states;
mod take_in;
mod trust;
pub mod values;

pub use brokers::{BrokerChange, NewBroker};
pub use credentials::NewCredentials;
pub use devices::{DeviceChange, DevicesOf, NewDevice, SeenDevice};
pub use expiring::{EXPIRING_DAYS, EXPIRING_DAYS_MAX};
pub use export::Exported;
pub use hook_answers::Presented;
pub use import::{ImportLine, ImportMode, ImportOutcome, ImportedCertificate, ImportedItem, ImportedObject};
pub use operations::{Asked, Repeat};
pub use page::{Page, PageRequest};
pub use provision::{NewProvision, Provisioned, ReadyDevice};
pub use registries::{NewRegistry, RegistryChange};
pub use relay::Relaying;
pub use states::FullCertificate;
pub use take_in::INTERMEDIATES_MAX;
pub use trust::{NewTemplate, NewTrust};

use crate::context::{Context, Random};
use domain::registry::credential::{CERTIFICATES_PER_OWNER, FingerprintFormat, PASSWORDS_PER_OWNER};
use domain::{Error, Result};
use follow::OwnEnds;
use hub::Hub;
use monitoring::Departed;
use password::Passwords;
use rate::Rates;
use relay::Relay;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use take_in::TakeIn;
use values::Values;

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
    /// How nodes of one database reach each other.
    pub relay: Relaying,
    /// Whether topics may be named without their `$`: `devices/<id>/events`.
    pub accepts_plain_prefix: bool,
    /// How many messages a device may publish in a second by MQTT.
    pub messages_per_second: Option<NonZeroU32>,
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
            relay: Relaying::default(),
            accepts_plain_prefix: false,
            messages_per_second: None,
        }
    }
}

/// What the device registry remembers between calls.
pub(crate) struct RegistryState {
    pub(crate) hub: Hub,
    pub(crate) passwords: Passwords,
    pub(crate) values: Values,
    pub(crate) departed: Departed,
    pub(crate) own_ends: OwnEnds,
    take_in: TakeIn,
    rates: Rates,
    pub(crate) relay: Relay,
}

impl RegistryState {
    pub(crate) fn new(random: &Random) -> Self {
        Self {
            hub: Hub::default(),
            passwords: Passwords::new(random.octets()),
            values: Values::default(),
            departed: Departed::default(),
            own_ends: OwnEnds::default(),
            take_in: TakeIn::default(),
            rates: Rates::default(),
            relay: Relay::new(random.hex(16)),
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
    /// The sessions of this process.
    pub fn hub(&self) -> &Hub {
        &self.state.registry.hub
    }
}
