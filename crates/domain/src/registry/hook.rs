//! Hooks: how a broker outside asks here who may connect, publish and subscribe.

use super::{BrokerHookId, Folder};
use crate::time::Time;

/// How many hooks a folder has at most.
pub const HOOKS_PER_FOLDER_MAX: usize = 20;

/// A way in for a broker outside. Its secret stays in the store, as a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerHook {
    /// Its id.
    pub id: BrokerHookId,
    /// Whose registries, devices and brokers it lets in.
    pub folder: Folder,
    /// Which broker asks.
    pub kind: HookKind,
    /// When it was made.
    pub created_at: Time,
}

/// The broker that asks, and with it the protocol of its plug-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// RabbitMQ with `rabbitmq_auth_backend_http`.
    RabbitMq,
    /// EMQX with its HTTP authentication and authorisation.
    Emqx,
    /// Mosquitto with mosquitto-go-auth.
    Mosquitto,
}

impl HookKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::RabbitMq, Self::Emqx, Self::Mosquitto];

    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Emqx => "emqx",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// The kind of that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
