//! Topic filters: what a client subscribes to, narrowed to what it may see (contract §6.3).
//!
//! A filter is read once into a [`Subscription`]: the few spots where its messages can come from, by which they are found,
//! and how a message's topic is held against it. Rights are in the spots: what a principal may not see is at none of them.

use super::topic::{AliasTable, Channel, Place, Principal, is_short};
use super::{DeviceId, RegistryId};
use std::sync::Arc;

/// A filter that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// As the client wrote it.
    pub filter: Arc<str>,
    /// Where its messages come from.
    pub spots: Vec<Spot>,
    reading: Reading,
}

/// Topics that a subscription can be about: an index, not yet a match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Spot {
    /// A channel of one device.
    Device(DeviceId, Channel),
    /// A channel of every device of the registry.
    AnyDevice(Channel),
    /// A channel of the registry itself.
    Registry(Channel),
    /// The monitoring of one device.
    Monitoring(DeviceId),
    /// The monitoring of every device of the registry.
    AnyMonitoring,
    /// The topics of a broker.
    Plain,
}

/// How topics are held against it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    /// One topic, by its canonical name.
    One(String),
    /// Canonical names that match the filter.
    Canonical,
    /// Canonical names that match the filter once their `$` is left out.
    Plain,
    /// `$me` names that match the filter.
    Me(Principal),
    /// Names by aliases that match the filter.
    Aliases,
}

/// Why a filter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not a filter, or too long.
    Malformed,
    /// It shares a subscription among sessions, which is not supported.
    Shared,
    /// It names a topic that this principal may not read, or none at all.
    Forbidden,
}

/// The name under which a message is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryName {
    /// The canonical one.
    Canonical,
    /// The filter itself, which is the name of one topic.
    Filter,
    /// Another one.
    Other(String),
}

impl Principal {
    /// Reads a filter. One without wildcards must name a topic that this principal may read; one with wildcards is always
    /// granted, and narrowed.
    pub fn subscription(&self, aliases: &AliasTable, filter: &str) -> Result<Subscription, Refused> {
        if !is_filter(filter) {
            return Err(Refused::Malformed);
        }
        if filter.starts_with("$share/") {
            return Err(Refused::Shared);
        }
        let (spots, reading) = match filter.contains(['+', '#']) {
            true => self.with_wildcards(aliases, filter),
            false => self.without_wildcards(aliases, filter).ok_or(Refused::Forbidden)?,
        };
        Ok(Subscription { filter: filter.into(), spots, reading })
    }

    fn without_wildcards(&self, aliases: &AliasTable, filter: &str) -> Option<(Vec<Spot>, Reading)> {
        let topic = self.canonical(aliases, filter)?;
        let place = Place::read(&topic)?;
        if !self.may_subscribe(place) {
            return None;
        }
        let spot = match place {
            Place::Device { device, channel } => Spot::Device(device.into(), channel),
            Place::Registry { channel, .. } => Spot::Registry(channel),
            Place::Monitoring { device } => Spot::Monitoring(device.into()),
            Place::Plain => Spot::Plain,
        };
        Some((vec![spot], Reading::One(topic.into_owned())))
    }

    fn with_wildcards(&self, aliases: &AliasTable, filter: &str) -> (Vec<Spot>, Reading) {
        if let Self::Broker(_) = self {
            return (vec![Spot::Plain], Reading::Canonical);
        }
        let levels: Vec<&str> = filter.split('/').collect();
        match levels[0] {
            "$devices" => (self.device_spots(&levels), Reading::Canonical),
            "$registries" => (self.registry_spots(&levels), Reading::Canonical),
            "$monitoring" => (monitoring_spots(&levels), Reading::Canonical),
            "$me" => (self.me_spots(), Reading::Me(self.clone())),
            level if level.starts_with('$') => (Vec::new(), Reading::Canonical),
            "devices" if aliases.takes_plain_names() => (self.device_spots(&levels), Reading::Plain),
            "registries" if aliases.takes_plain_names() => (self.registry_spots(&levels), Reading::Plain),
            _ => (self.readable(Step::Rest).map(|channel| self.device_spot(None, channel)).collect(), Reading::Aliases),
        }
    }

    fn device_spots(&self, levels: &[&str]) -> Vec<Spot> {
        let named = match (self, step(levels, 1)) {
            (Self::Device { device, .. }, Step::Literal(id)) if id != device.as_str() => return Vec::new(),
            (_, Step::Literal(id)) => Some(DeviceId::from(id)),
            (_, Step::Any | Step::Rest) => None,
            (_, Step::End) => return Vec::new(),
        };
        self.readable(step(levels, 2)).map(|channel| self.device_spot(named.clone(), channel)).collect()
    }

    fn registry_spots(&self, levels: &[&str]) -> Vec<Spot> {
        let is_own = match (step(levels, 1), self.registry()) {
            (Step::Literal(id), Some(own)) => id == own.as_str(),
            (Step::Any | Step::Rest, own) => own.is_some(),
            (Step::End, _) | (Step::Literal(_), None) => false,
        };
        if is_own { self.readable(step(levels, 2)).map(Spot::Registry).collect() } else { Vec::new() }
    }

    /// The channels that a third level is about and that this principal reads. Three levels are needed: `$devices/+` is
    /// about none.
    fn readable(&self, level: Step<'_>) -> impl Iterator<Item = Channel> {
        let is_downward = match self {
            Self::Device { .. } => Some(true),
            Self::Registry(_) => Some(false),
            Self::Broker(_) => None,
        };
        let is_meant = move |channel: &Channel| match level {
            Step::Literal(name) => channel.as_str() == name,
            Step::Any | Step::Rest => true,
            Step::End => false,
        };
        Channel::ALL.into_iter().filter(is_meant).filter(move |channel| Some(channel.is_downward()) == is_downward)
    }

    /// A device has no spot but its own.
    fn device_spot(&self, id: Option<DeviceId>, channel: Channel) -> Spot {
        match (self, id) {
            (Self::Device { device, .. }, _) => Spot::Device(device.clone(), channel),
            (Self::Registry(_) | Self::Broker(_), Some(id)) => Spot::Device(id, channel),
            (Self::Registry(_) | Self::Broker(_), None) => Spot::AnyDevice(channel),
        }
    }

    fn me_spots(&self) -> Vec<Spot> {
        let Self::Device { device, .. } = self else { return Vec::new() };
        let mut spots = vec![Spot::Monitoring(device.clone())];
        for channel in [Channel::Commands, Channel::Config] {
            spots.extend([Spot::Device(device.clone(), channel), Spot::Registry(channel)]);
        }
        spots
    }

    fn registry(&self) -> Option<&RegistryId> {
        match self {
            Self::Device { registry, .. } | Self::Registry(registry) => Some(registry),
            Self::Broker(_) => None,
        }
    }
}

impl Subscription {
    /// Whether a message on this canonical topic, which comes from one of the spots, is for it, and under which name.
    pub fn name_of(&self, topic: &str, aliases: &AliasTable) -> Option<DeliveryName> {
        match &self.reading {
            Reading::One(canonical) => (canonical == topic).then_some(DeliveryName::Filter),
            Reading::Canonical => filter_matches(&self.filter, topic).then_some(DeliveryName::Canonical),
            Reading::Plain => {
                let name = topic.strip_prefix('$').filter(|name| filter_matches(&self.filter, name));
                name.map(|name| DeliveryName::Other(name.to_owned()))
            }
            Reading::Me(principal) => {
                let name = principal.me_name(topic).filter(|name| filter_matches(&self.filter, name));
                name.map(DeliveryName::Other)
            }
            Reading::Aliases => {
                let device = DeviceId::from(Place::read(topic)?.device()?);
                let name = aliases.names(&device, topic).find(|name| filter_matches(&self.filter, name));
                name.map(DeliveryName::Other)
            }
        }
    }

    /// Whether other aliases can make it mean something else.
    pub fn depends_on_aliases(&self) -> bool {
        !self.filter.starts_with('$') && !self.spots.contains(&Spot::Plain)
    }

    /// The same filter as it reads with other aliases. One that names nothing any more stays granted and gets nothing.
    pub fn read_anew(&self, principal: &Principal, aliases: &AliasTable) -> Self {
        let nothing = || Self { filter: self.filter.clone(), spots: Vec::new(), reading: Reading::Canonical };
        principal.subscription(aliases, &self.filter).unwrap_or_else(|_| nothing())
    }

    /// The device that it names, which has to be one of the registry.
    pub fn named_device(&self) -> Option<&DeviceId> {
        match (&self.reading, self.spots.as_slice()) {
            (Reading::One(_), [Spot::Device(device, _) | Spot::Monitoring(device)]) => Some(device),
            _ => None,
        }
    }

    /// The one topic whose stored value it is given, when it names one.
    pub fn replayed_topic(&self) -> Option<&str> {
        match &self.reading {
            Reading::One(topic) if self.reads_permanent() => Some(topic),
            Reading::One(_) | Reading::Canonical | Reading::Plain | Reading::Me(_) | Reading::Aliases => None,
        }
    }

    /// Whether it is given every stored value that it matches: those with wildcards in canonical names are, with or without
    /// their `$`, those in other names are not.
    pub fn replays_matches(&self) -> bool {
        matches!(self.reading, Reading::Canonical | Reading::Plain) && self.reads_permanent()
    }

    fn reads_permanent(&self) -> bool {
        self.spots.iter().any(|spot| match spot {
            Spot::Device(_, channel) | Spot::AnyDevice(channel) | Spot::Registry(channel) => channel.is_permanent(),
            Spot::Monitoring(_) | Spot::AnyMonitoring | Spot::Plain => false,
        })
    }
}

/// What a filter says of one level.
#[derive(Clone, Copy)]
enum Step<'a> {
    Literal(&'a str),
    Any,
    /// This level and all that follow, or none.
    Rest,
    /// There is no such level.
    End,
}

fn step<'a>(levels: &[&'a str], level: usize) -> Step<'a> {
    match levels.get(level).or(levels.last()) {
        Some(&"#") => Step::Rest,
        _ if level >= levels.len() => Step::End,
        Some(&"+") => Step::Any,
        Some(name) => Step::Literal(name),
        None => Step::End,
    }
}

fn monitoring_spots(levels: &[&str]) -> Vec<Spot> {
    match step(levels, 1) {
        Step::Literal(id) => vec![Spot::Monitoring(id.into())],
        Step::Any | Step::Rest => vec![Spot::AnyMonitoring],
        Step::End => Vec::new(),
    }
}

/// Whether a text is a filter: `#` only as the last level, `+` only as a whole one.
fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').rev();
    let last = levels.next().unwrap_or_default();
    let is_well_formed = (last == "#" || is_level(last)) && levels.all(is_level);
    is_well_formed && !filter.is_empty() && is_short(filter) && !filter.contains('\0')
}

fn is_level(level: &str) -> bool {
    level == "+" || !level.contains(['+', '#'])
}

/// Whether a filter matches the name of a topic, level by level (MQTT 5 §4.7). One that begins with a wildcard matches no name
/// that begins with `$`.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            Some(_) | None => return false,
        }
    }
    levels.next().is_none()
}
