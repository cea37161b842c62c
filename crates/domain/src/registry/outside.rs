//! What a client of a broker outside may publish and subscribe to (contract §6.3).
//!
//! Our own broker knows the other names of topics and narrows filters when it delivers. A broker outside does neither:
//! `$me/…` and aliases would be topics of their own there, shared by everybody, so only canonical names are granted; and a
//! filter is granted when all that it can match may be read.

use super::DeviceId;
use super::topic::{AliasTable, Place, Principal};

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Publish to this topic.
    Publish(&'a str),
    /// Subscribe with this filter, and be given whatever matches it.
    Subscribe(&'a str),
    /// Subscribe with this filter, where every message is asked about once more.
    SubscribeNarrowed(&'a str),
    /// Be given a message of this topic.
    Receive(&'a str),
}

/// Whether a client may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Granted,
    /// It may when this is a device of its registry.
    IfOfRegistry(DeviceId),
    /// It may when its registry is the only one whose devices use that broker.
    IfOnlyRegistry,
    /// It may not.
    Refused,
}

impl Principal {
    /// Whether this principal may do that at a broker outside.
    pub fn leave(&self, wish: Wish<'_>) -> Leave {
        let (Wish::Publish(name) | Wish::Subscribe(name) | Wish::SubscribeNarrowed(name) | Wish::Receive(name)) = wish;
        let is_broker = matches!(self, Self::Broker(_));
        if is_broker == name.starts_with('$') || name.starts_with("$me/") {
            return Leave::Refused;
        }
        match wish {
            Wish::Publish(topic) => match self.target(&AliasTable::default(), topic) {
                Some(target) => self.leave_at(&target.topic),
                None => Leave::Refused,
            },
            Wish::Receive(topic) if topic.contains(['+', '#']) => Leave::Refused,
            Wish::Receive(topic) => self.leave_to_read(topic),
            Wish::SubscribeNarrowed(filter) if filter.contains(['+', '#']) => {
                match self.subscription(&AliasTable::default(), filter) {
                    Ok(_) => Leave::Granted,
                    Err(_) => Leave::Refused,
                }
            }
            Wish::Subscribe(filter) if filter.contains(['+', '#']) => self.leave_to_read_all(filter),
            Wish::Subscribe(topic) | Wish::SubscribeNarrowed(topic) => self.leave_to_read(topic),
        }
    }

    fn leave_to_read(&self, topic: &str) -> Leave {
        match self.subscription(&AliasTable::default(), topic) {
            Ok(_) => self.leave_at(topic),
            Err(_) => Leave::Refused,
        }
    }

    /// All that a filter with wildcards can match: its first three levels say of which topics it is. The second may be any
    /// device for a registry.
    fn leave_to_read_all(&self, filter: &str) -> Leave {
        if self.subscription(&AliasTable::default(), filter).is_err() {
            return Leave::Refused;
        }
        if let Self::Broker(_) = self {
            return Leave::Granted;
        }
        let levels: Vec<&str> = filter.splitn(4, '/').collect();
        let [family, id, channel, ..] = levels.as_slice() else { return Leave::Refused };
        match (*id, self) {
            (id, _) if [family, channel].iter().any(|level| level.contains(['+', '#'])) || id == "#" => Leave::Refused,
            ("+", Self::Registry(_)) if *family != "$registries" => {
                match self.subscription(&AliasTable::default(), &format!("{family}/any/{channel}")) {
                    Ok(_) => Leave::IfOnlyRegistry,
                    Err(_) => Leave::Refused,
                }
            }
            ("+", _) => Leave::Refused,
            (id, _) => self.leave_to_read(&format!("{family}/{id}/{channel}")),
        }
    }

    /// Whether a topic that this principal may use is its own, or has to be one of its registry.
    fn leave_at(&self, topic: &str) -> Leave {
        match (Place::read(topic).and_then(Place::device), self) {
            (Some(named), Self::Device { device, .. }) if named == device.as_str() => Leave::Granted,
            (Some(named), _) => Leave::IfOfRegistry(DeviceId::from(named)),
            (None, _) => Leave::Granted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{BrokerId, RegistryId};

    fn device() -> Principal {
        Principal::Device { device: DeviceId::from("d1"), registry: RegistryId::from("r1") }
    }

    #[track_caller]
    fn check(principal: &Principal, cases: &[(Wish<'_>, Leave)]) {
        for (wish, leave) in cases {
            assert_eq!(principal.leave(*wish), *leave, "{wish:?}");
        }
    }

    #[test]
    fn a_device_has_its_own_topics_and_those_of_its_registry() {
        use Leave::*;
        use Wish::*;
        check(
            &device(),
            &[
                (Publish("$devices/d1/events"), Granted),
                (Publish("$devices/d1/state/x"), Granted),
                (Publish("$registries/r1/events"), Granted),
                (Publish("$devices/d1/commands"), Refused),
                (Publish("$devices/d2/events"), Refused),
                (Publish("$registries/r2/events"), Refused),
                (Publish("$me/device/events"), Refused),
                (Publish("alias/x"), Refused),
                (Publish("$devices/d1/events/#"), Refused),
                (Publish(""), Refused),
                (Subscribe("$devices/d1/commands"), Granted),
                (Subscribe("$devices/d1/commands/#"), Granted),
                (Subscribe("$registries/r1/config/+"), Granted),
                (Subscribe("$devices/d1/events"), Refused),
                (Subscribe("$devices/d1/events/#"), Refused),
                (Subscribe("$devices/d1/#"), Refused),
                (Subscribe("$devices/+/commands"), Refused),
                (Subscribe("$devices/#"), Refused),
                (Subscribe("#"), Refused),
                (Subscribe("$me/device/commands"), Refused),
                (SubscribeNarrowed("$devices/#"), Granted),
                (SubscribeNarrowed("$devices/d1/events"), Refused),
                (Receive("$devices/d1/commands/x"), Granted),
                (Receive("$devices/d2/commands"), Refused),
                (Receive("$devices/+/commands"), Refused),
                (Receive("$monitoring/d2/json"), IfOfRegistry(DeviceId::from("d2"))),
            ],
        );
    }

    #[test]
    fn a_registry_has_its_devices_and_all_devices_only_where_they_are_all_its_own() {
        use Leave::*;
        use Wish::*;
        let of = || IfOfRegistry(DeviceId::from("d1"));
        check(
            &Principal::Registry(RegistryId::from("r1")),
            &[
                (Publish("$devices/d1/commands"), of()),
                (Publish("$devices/d1/events"), Refused),
                (Publish("$registries/r1/commands"), Granted),
                (Publish("$registries/r1/events"), Refused),
                (Subscribe("$devices/d1/events"), of()),
                (Subscribe("$devices/d1/events/#"), of()),
                (Subscribe("$devices/+/events"), IfOnlyRegistry),
                (Subscribe("$devices/+/events/#"), IfOnlyRegistry),
                (Subscribe("$devices/+/commands"), Refused),
                (Subscribe("$devices/+/+"), Refused),
                (Subscribe("$devices/#"), Refused),
                (Subscribe("$registries/r1/events/#"), Granted),
                (Subscribe("$registries/+/events"), Refused),
                (Subscribe("$registries/r2/events/#"), Refused),
                (Receive("$devices/d1/state"), of()),
            ],
        );
    }

    #[test]
    fn a_client_of_a_broker_has_every_topic_without_a_dollar() {
        use Leave::*;
        use Wish::*;
        check(
            &Principal::Broker(BrokerId::from("b1")),
            &[
                (Publish("any/topic"), Granted),
                (Publish("$devices/d1/events"), Refused),
                (Publish("any/#"), Refused),
                (Subscribe("#"), Granted),
                (Subscribe("any/+"), Granted),
                (Subscribe("any+"), Refused),
                (Subscribe("$SYS/#"), Refused),
                (Receive("any/topic"), Granted),
            ],
        );
    }
}
