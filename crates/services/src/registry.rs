//! The device registry (contract/yandex): registries, devices, brokers, their credentials and topics.
//!
//! `connect.rs` lets somebody in, `publish.rs` and `values.rs` are the way of a message, `hub.rs` and `outbox.rs` hold the
//! sessions of this process, `follow.rs` what happens while they are open.

pub mod connect;
mod follow;
pub mod hub;
pub mod monitoring;
pub mod outbox;
mod password;
pub mod publish;
pub mod values;

use hub::Hub;
use monitoring::Departed;
use password::Passwords;
use values::Values;

use crate::context::{Context, Random};

/// What the device registry remembers between calls.
pub(crate) struct RegistryState {
    pub(crate) hub: Hub,
    pub(crate) passwords: Passwords,
    pub(crate) values: Values,
    pub(crate) departed: Departed,
}

impl RegistryState {
    pub(crate) fn new(random: &Random) -> Self {
        Self {
            hub: Hub::default(),
            passwords: Passwords::new(random.octets()),
            values: Values::default(),
            departed: Departed::default(),
        }
    }
}

impl Context {
    /// The sessions of this process.
    pub fn hub(&self) -> &Hub {
        &self.state.registry.hub
    }
}
