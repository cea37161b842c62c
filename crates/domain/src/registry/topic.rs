//! Topics: who may publish and subscribe to what, and under which name it arrives (contract §6.3, §6.4).
//!
//! A topic has one canonical name, `$devices/<id>/events/…`, and may have others: an alias, or `$me/…` for the device itself.
//! What a client writes is read into a [`Target`] or a [`Subscription`]; whether a device that is named there belongs to
//! the registry is for the caller to find out. How filters are read and matched is in `registry/filter.rs`.

use super::{BrokerId, DeviceId, Owner, RegistryId};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

pub use super::filter::{DeliveryName, Refused, Spot, Subscription, filter_matches};

/// The greatest length of a topic or a filter, in characters.
pub const TOPIC_CHARACTERS_MAX: usize = 1024;
/// The greatest length of a payload, in octets.
pub const PAYLOAD_OCTETS_MAX: usize = 256 * 1024;
/// How many stored values a subscription with wildcards is given at most.
pub const REPLAYED_VALUES_MAX: u32 = 1000;

/// Who publishes and subscribes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A device of a registry.
    Device {
        /// The device.
        device: DeviceId,
        /// Its registry.
        registry: RegistryId,
    },
    /// The system that works with a registry's devices.
    Registry(RegistryId),
    /// A client of a broker.
    Broker(BrokerId),
}

/// What a topic of a device or registry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// From devices, as it happens.
    Events,
    /// From devices, the last value is kept.
    State,
    /// To devices, as it happens.
    Commands,
    /// To devices, the last value is kept.
    Config,
}

/// What a canonical topic belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// `$devices/<id>/<channel>`, with anything below.
    Device {
        /// The device's id.
        device: &'a str,
        /// The third level.
        channel: Channel,
    },
    /// `$registries/<id>/<channel>`, with anything below.
    Registry {
        /// The registry's id.
        registry: &'a str,
        /// The third level.
        channel: Channel,
    },
    /// `$monitoring/<device id>/json`.
    Monitoring {
        /// The device's id.
        device: &'a str,
    },
    /// Any topic of a broker.
    Plain,
}

/// A topic that may be published to, by its canonical name.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The canonical name.
    pub topic: Cow<'a, str>,
}

/// The aliases of a registry's devices, and whether topics may be named without their `$`, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AliasTable {
    by_alias: BTreeMap<String, Alias>,
    by_device: BTreeMap<DeviceId, Vec<String>>,
    takes_plain_names: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Alias {
    device: DeviceId,
    prefix: String,
}

impl Principal {
    /// The owner of the credentials.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Device { device, .. } => Owner::Device(device.clone()),
            Self::Registry(registry) => Owner::Registry(registry.clone()),
            Self::Broker(broker) => Owner::Broker(broker.clone()),
        }
    }

    /// The id of the registry or broker whose topics it is among.
    pub fn space(&self) -> &str {
        match self {
            Self::Device { registry, .. } | Self::Registry(registry) => registry.as_str(),
            Self::Broker(broker) => broker.as_str(),
        }
    }

    /// The device, when it is one.
    pub fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Device { device, .. } => Some(device),
            Self::Registry(_) | Self::Broker(_) => None,
        }
    }

    /// Whether it may read a canonical topic.
    pub fn may_read(&self, topic: &str) -> bool {
        Place::read(topic).is_some_and(|place| self.may_subscribe(place))
    }

    /// The topic that a name means for this principal, if it may publish there.
    pub fn target<'a>(&self, aliases: &AliasTable, name: &'a str) -> Option<Target<'a>> {
        if !is_topic_name(name) {
            return None;
        }
        let topic = self.canonical(aliases, name)?;
        self.may_publish(Place::read(&topic)?).then_some(Target { topic })
    }

    /// The canonical name of what a name means for this principal, whether it may use it or not.
    pub(super) fn canonical<'a>(&self, aliases: &AliasTable, name: &'a str) -> Option<Cow<'a, str>> {
        if let Self::Broker(_) = self {
            return (!name.starts_with('$')).then_some(Cow::Borrowed(name));
        }
        match name.strip_prefix("$me/") {
            Some(rest) => self.canonical_me(rest).map(Cow::Owned),
            None if name.starts_with('$') => Some(Cow::Borrowed(name)),
            None => aliases.canonical(name).or_else(|| aliases.plain(name)).map(Cow::Owned),
        }
    }

    /// `$me/device/…`, `$me/registry/{commands,config}/…` and `$me/monitoring/json` of a device.
    fn canonical_me(&self, rest: &str) -> Option<String> {
        let Self::Device { device, registry } = self else { return None };
        match rest.split_once('/')? {
            ("device", rest) => Some(format!("$devices/{device}/{rest}")),
            ("registry", rest) => {
                let channel = Channel::parse(rest.split('/').next()?)?;
                channel.is_downward().then(|| format!("$registries/{registry}/{rest}"))
            }
            ("monitoring", "json") => Some(format!("$monitoring/{device}/json")),
            _ => None,
        }
    }

    /// The `$me` name of a canonical topic, for a device.
    pub(super) fn me_name(&self, topic: &str) -> Option<String> {
        let Self::Device { device, registry } = self else { return None };
        let below = |family: &str, id: &str| {
            topic.strip_prefix(family).and_then(|rest| rest.strip_prefix(id)).and_then(|rest| rest.strip_prefix('/'))
        };
        if let Some(rest) = below("$devices/", device.as_str()) {
            Some(format!("$me/device/{rest}"))
        } else if let Some(rest) = below("$registries/", registry.as_str()) {
            Some(format!("$me/registry/{rest}"))
        } else {
            below("$monitoring/", device.as_str()).map(|rest| format!("$me/monitoring/{rest}"))
        }
    }

    fn may_publish(&self, place: Place<'_>) -> bool {
        match (self, place) {
            (Self::Device { device: own, .. }, Place::Device { device, channel }) => {
                own.as_str() == device && !channel.is_downward()
            }
            (Self::Device { registry: own, .. }, Place::Registry { registry, channel }) => {
                own.as_str() == registry && !channel.is_downward()
            }
            (Self::Registry(_), Place::Device { channel, .. }) => channel.is_downward(),
            (Self::Registry(own), Place::Registry { registry, channel }) => {
                own.as_str() == registry && channel.is_downward()
            }
            (Self::Broker(_), Place::Plain) => true,
            // Monitoring is the server's to write, and other topics are a broker's alone.
            (Self::Device { .. } | Self::Registry(_), Place::Monitoring { .. } | Place::Plain)
            | (Self::Broker(_), Place::Device { .. } | Place::Registry { .. } | Place::Monitoring { .. }) => false,
        }
    }

    pub(super) fn may_subscribe(&self, place: Place<'_>) -> bool {
        match (self, place) {
            (Self::Device { device: own, .. }, Place::Device { device, channel }) => {
                own.as_str() == device && channel.is_downward()
            }
            (Self::Device { registry: own, .. }, Place::Registry { registry, channel }) => {
                own.as_str() == registry && channel.is_downward()
            }
            (Self::Registry(_), Place::Device { channel, .. }) => !channel.is_downward(),
            (Self::Registry(own), Place::Registry { registry, channel }) => {
                own.as_str() == registry && !channel.is_downward()
            }
            (Self::Device { .. } | Self::Registry(_), Place::Monitoring { .. }) => true,
            (Self::Broker(_), Place::Plain) => true,
            (Self::Device { .. } | Self::Registry(_), Place::Plain)
            | (Self::Broker(_), Place::Device { .. } | Place::Registry { .. } | Place::Monitoring { .. }) => false,
        }
    }
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 4] = [Self::Events, Self::State, Self::Commands, Self::Config];

    /// The third level of the topic.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::State => "state",
            Self::Commands => "commands",
            Self::Config => "config",
        }
    }

    /// The channel of that level.
    pub fn parse(level: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == level)
    }

    /// Whether it goes from the registry to devices.
    pub const fn is_downward(self) -> bool {
        matches!(self, Self::Commands | Self::Config)
    }

    /// Whether the last value of each of its topics is kept.
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::State | Self::Config)
    }
}

impl<'a> Place<'a> {
    /// Where a canonical topic belongs; nothing when there is no such topic.
    pub fn read(topic: &'a str) -> Option<Self> {
        if !topic.starts_with('$') {
            return Some(Self::Plain);
        }
        let (family, rest) = topic.split_once('/')?;
        let (id, rest) = rest.split_once('/')?;
        if id.is_empty() {
            return None;
        }
        let channel = || Channel::parse(rest.split('/').next()?);
        match family {
            "$devices" => Some(Self::Device { device: id, channel: channel()? }),
            "$registries" => Some(Self::Registry { registry: id, channel: channel()? }),
            "$monitoring" if rest == "json" => Some(Self::Monitoring { device: id }),
            _ => None,
        }
    }

    /// The device whose topic it is.
    pub const fn device(self) -> Option<&'a str> {
        match self {
            Self::Device { device, .. } | Self::Monitoring { device } => Some(device),
            Self::Registry { .. } | Self::Plain => None,
        }
    }

    /// Whether the last value of the topic is kept.
    pub const fn is_permanent(self) -> bool {
        match self {
            Self::Device { channel, .. } | Self::Registry { channel, .. } => channel.is_permanent(),
            Self::Monitoring { .. } | Self::Plain => false,
        }
    }
}

impl AliasTable {
    /// The table of these: alias, device, topic prefix.
    pub fn new(aliases: impl IntoIterator<Item = (String, DeviceId, String)>) -> Self {
        let mut table = Self::default();
        for (alias, device, prefix) in aliases {
            table.by_device.entry(device.clone()).or_default().push(alias.clone());
            table.by_alias.insert(alias, Alias { device, prefix });
        }
        table
    }

    /// With `devices/…` and `registries/…` as names of the same topics with a `$` in front, unless an alias says otherwise.
    pub fn with_plain_names(self) -> Self {
        Self { takes_plain_names: true, ..self }
    }

    /// Whether topics may be named without their `$`.
    pub(super) const fn takes_plain_names(&self) -> bool {
        self.takes_plain_names
    }

    /// What a name without its `$` means.
    fn plain(&self, name: &str) -> Option<String> {
        let is_plain = self.takes_plain_names && (name.starts_with("devices/") || name.starts_with("registries/"));
        is_plain.then(|| format!("${name}"))
    }

    /// What a name under an alias means. No alias is a prefix of another, so the last one that is not after the name is the
    /// only one that can be its beginning.
    fn canonical(&self, name: &str) -> Option<String> {
        let range = (Bound::Unbounded, Bound::Included(name));
        let (alias, to) = self.by_alias.range::<str, _>(range).next_back()?;
        super::alias::resolve(alias, &to.prefix, name)
    }

    /// The names that a device's topic has by aliases, in the order in which the aliases were given.
    pub(super) fn names<'a>(&'a self, device: &DeviceId, topic: &'a str) -> impl Iterator<Item = String> + 'a {
        let aliases = self.by_device.get(device).map_or(&[][..], Vec::as_slice);
        aliases.iter().filter_map(move |alias| {
            let to = self.by_alias.get(alias)?;
            topic.strip_prefix(to.prefix.as_str()).map(|rest| format!("{alias}{rest}"))
        })
    }

    /// The device that an alias belongs to.
    pub fn device_of(&self, alias: &str) -> Option<&DeviceId> {
        self.by_alias.get(alias).map(|alias| &alias.device)
    }
}

/// Whether a text can be the name of a topic: not empty, not too long, without wildcards and U+0000.
pub fn is_topic_name(name: &str) -> bool {
    !name.is_empty() && is_short(name) && !name.contains(['+', '#', '\0'])
}

pub(super) fn is_short(text: &str) -> bool {
    text.len() <= TOPIC_CHARACTERS_MAX || text.chars().count() <= TOPIC_CHARACTERS_MAX
}

#[cfg(test)]
#[path = "topic_tests.rs"]
mod tests;
