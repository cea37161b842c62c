//! The device registry (contract/yandex): registries, devices, brokers, their credentials and topics.
//!
//! `connect.rs` lets somebody in, `publish.rs` and `values.rs` are the way of a message, `hub.rs` and `outbox.rs` hold the
//! sessions of this process, `follow.rs` what happens while they are open, `relay.rs` the way to other nodes.

pub mod connect;
mod follow;
pub mod hub;
pub mod monitoring;
pub mod outbox;
mod password;
pub mod publish;
mod relay;
pub mod values;

use hub::Hub;
use monitoring::Departed;
use password::Passwords;
use relay::Relay;
use values::Values;

use crate::context::{Context, Random};

/// What the device registry remembers between calls.
pub(crate) struct RegistryState {
    pub(crate) hub: Hub,
    pub(crate) passwords: Passwords,
    pub(crate) values: Values,
    pub(crate) departed: Departed,
    pub(crate) relay: Relay,
}

impl RegistryState {
    pub(crate) fn new(random: &Random) -> Self {
        Self {
            hub: Hub::default(),
            passwords: Passwords::new(random.octets()),
            values: Values::default(),
            departed: Departed::default(),
            relay: Relay::new(random.hex(16)),
        }
    }
}

impl Context {
    /// The sessions of this process.
    pub fn hub(&self) -> &Hub {
        &self.state.registry.hub
    }
}
