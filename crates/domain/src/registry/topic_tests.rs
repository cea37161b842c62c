//! Every row and every rule of contract §6.3, as data.

use super::*;

const DEVICE: &str = "dev1";
const REGISTRY: &str = "reg1";

fn device() -> Principal {
    Principal::Device { device: DEVICE.into(), registry: REGISTRY.into() }
}

fn registry() -> Principal {
    Principal::Registry(REGISTRY.into())
}

fn broker() -> Principal {
    Principal::Broker("bro1".into())
}

fn aliases() -> AliasTable {
    let alias = |alias: &str, device: &str, prefix: &str| (alias.to_owned(), DeviceId::from(device), prefix.to_owned());
    AliasTable::new([
        alias("my/alias/", DEVICE, "$devices/dev1/"),
        alias("my/ali/", "dev2", "$devices/dev2/"),
        alias("orders", DEVICE, "$devices/dev1/commands"),
        alias("house/heat", "dev2", "$devices/dev2/events"),
    ])
}

/// Whether each of these may publish to a name, and under which canonical one.
#[track_caller]
fn check_publish(name: &str, topic: &str, by_device: bool, by_registry: bool, by_broker: bool) {
    for (principal, may) in [(device(), by_device), (registry(), by_registry), (broker(), by_broker)] {
        let target = principal.target(&aliases(), name).map(|target| target.topic.into_owned());
        assert_eq!(target.as_deref(), may.then_some(topic), "{principal:?} publishes to {name}");
    }
}

#[test]
fn each_row_says_who_may_publish() {
    for (name, by_device, by_registry, by_broker) in [
        ("$devices/dev1/events", true, false, false),
        ("$devices/dev1/state", true, false, false),
        ("$devices/dev1/commands", false, true, false),
        ("$devices/dev1/config", false, true, false),
        ("$registries/reg1/events", true, false, false),
        ("$registries/reg1/state", true, false, false),
        ("$registries/reg1/commands", false, true, false),
        ("$registries/reg1/config", false, true, false),
        ("$monitoring/dev1/json", false, false, false),
        ("any/topic", false, false, true),
        ("devices/dev1/events", false, false, true),
    ] {
        check_publish(name, name, by_device, by_registry, by_broker);
        if !name.starts_with("$monitoring") {
            for below in ["/deeper", "/a/b/c", "/", "//x"] {
                let name = format!("{name}{below}");
                check_publish(&name, &name, by_device, by_registry, by_broker);
            }
        }
    }
}

#[test]
fn other_devices_and_registries_are_out_of_reach() {
    for name in ["$devices/dev2/events", "$devices/dev2/state", "$registries/reg2/events", "$registries/reg2/commands"]
    {
        check_publish(name, name, false, false, false);
    }
    // Whether dev2 is one of the registry's is looked up by who asks.
    check_publish("$devices/dev2/commands", "$devices/dev2/commands", false, true, false);
}

#[test]
fn what_is_no_topic_is_nobodys() {
    for name in [
        "$devices/dev1",
        "$devices/dev1/",
        "$devices/dev1/eventsx",
        "$devices//events",
        "$devices",
        "$registries/reg1/other",
        "$me/device",
        "$me",
        "$SYS/broker",
        "$",
        "",
        "a\0b",
        "a/+/b",
        "a/#",
    ] {
        check_publish(name, name, false, false, false);
    }
    let long = "x".repeat(TOPIC_CHARACTERS_MAX);
    check_publish(&long, &long, false, false, true);
    check_publish(&format!("{long}x"), "", false, false, false);
    let wide = "ж".repeat(TOPIC_CHARACTERS_MAX);
    check_publish(&wide, &wide, false, false, true);
}

#[test]
fn me_stands_for_the_device_and_its_registry() {
    for (name, topic, may_publish, may_subscribe) in [
        ("$me/device/events", "$devices/dev1/events", true, false),
        ("$me/device/state/x", "$devices/dev1/state/x", true, false),
        ("$me/device/commands", "$devices/dev1/commands", false, true),
        ("$me/device/config", "$devices/dev1/config", false, true),
        ("$me/registry/commands", "$registries/reg1/commands", false, true),
        ("$me/registry/config/a", "$registries/reg1/config/a", false, true),
        ("$me/registry/events", "", false, false),
        ("$me/registry/state", "", false, false),
        ("$me/monitoring/json", "$monitoring/dev1/json", false, true),
        ("$me/monitoring/xml", "", false, false),
        ("$me/device/other", "", false, false),
        ("$me/monitoring", "", false, false),
    ] {
        check_publish(name, topic, may_publish, false, false);
        let subscription = device().subscription(&aliases(), name);
        assert_eq!(subscription.is_ok(), may_subscribe, "{name}");
        if let Ok(subscription) = subscription {
            assert_eq!(subscription.name_of(topic, &aliases()), Some(DeliveryName::Filter), "{name}");
        }
        assert_eq!(registry().subscription(&aliases(), name), Err(Refused::Forbidden), "{name}");
    }
}

#[test]
fn an_alias_stands_for_a_topic_of_one_device() {
    assert_eq!(device().target(&aliases(), "my/alias/events").unwrap().topic, "$devices/dev1/events");
    assert_eq!(registry().target(&aliases(), "my/alias/events"), None);
    assert_eq!(device().target(&aliases(), "my/alias/commands"), None);
    assert_eq!(device().target(&aliases(), "my/ali/events"), None, "the alias of another device");
    assert_eq!(device().target(&aliases(), "my/other/events"), None);
    assert_eq!(registry().target(&aliases(), "my/alias/commands/x").unwrap().topic, "$devices/dev1/commands/x");
    assert_eq!(registry().target(&aliases(), "orders").unwrap().topic, "$devices/dev1/commands");
    assert_eq!(registry().target(&aliases(), "orders/now").unwrap().topic, "$devices/dev1/commands/now");
    assert_eq!(registry().target(&aliases(), "ordersnow"), None);
    assert_eq!(broker().target(&aliases(), "orders").unwrap().topic, "orders");
}

#[test]
fn each_row_says_who_may_subscribe() {
    for (name, device_may, registry_may, broker_may) in [
        ("$devices/dev1/events", false, true, false),
        ("$devices/dev1/state/x", false, true, false),
        ("$devices/dev1/commands", true, false, false),
        ("$devices/dev1/config/x", true, false, false),
        ("$devices/dev2/commands", false, false, false),
        ("$registries/reg1/events", false, true, false),
        ("$registries/reg1/state", false, true, false),
        ("$registries/reg1/commands", true, false, false),
        ("$registries/reg1/config", true, false, false),
        ("$registries/reg2/events", false, false, false),
        ("$registries/reg2/commands", false, false, false),
        ("$monitoring/dev1/json", true, true, false),
        ("$monitoring/dev2/json", true, true, false),
        ("$monitoring/dev1/json/x", false, false, false),
        ("my/alias/commands", true, false, false),
        ("my/ali/commands", false, false, false),
        ("house/heat", false, true, true),
        ("nobody/knows", false, false, true),
        ("$devices", false, false, false),
        ("$SYS/x", false, false, false),
    ] {
        for (principal, may) in [(device(), device_may), (registry(), registry_may)] {
            let granted = principal.subscription(&aliases(), name);
            assert_eq!(granted.is_ok(), may, "{principal:?} on {name}");
            assert!(may || granted == Err(Refused::Forbidden));
        }
        let broker_may = broker_may || !name.starts_with('$');
        assert_eq!(broker().subscription(&aliases(), name).is_ok(), broker_may, "{name}");
    }
}

#[test]
fn what_is_no_filter_is_refused() {
    for filter in ["", "a/#/b", "a#", "#a", "a+/b", "+a", "a/b+", "a\0"] {
        assert_eq!(registry().subscription(&aliases(), filter), Err(Refused::Malformed), "{filter}");
    }
    let long = format!("{}/#", "x".repeat(TOPIC_CHARACTERS_MAX));
    assert_eq!(registry().subscription(&aliases(), &long), Err(Refused::Malformed));
    assert_eq!(registry().subscription(&aliases(), "$share/g/$devices/#"), Err(Refused::Shared));
}

/// Under which names a principal gets messages on all the topics that there are, by one filter with wildcards.
#[track_caller]
fn check_wildcards(principal: &Principal, filter: &str, expected: &[&str]) {
    let subscription = principal.subscription(&aliases(), filter).unwrap();
    let mut names = Vec::new();
    for device in ["dev1", "dev2"] {
        for channel in Channel::ALL {
            for below in ["", "/x"] {
                names.push(format!("$devices/{device}/{}{below}", channel.as_str()));
            }
        }
        names.push(format!("$monitoring/{device}/json"));
    }
    for channel in Channel::ALL {
        names.push(format!("$registries/reg1/{}", channel.as_str()));
    }
    let delivered = names.iter().filter(|topic| is_at(&subscription, topic)).filter_map(|topic| {
        match subscription.name_of(topic, &aliases())? {
            DeliveryName::Canonical => Some(topic.clone()),
            DeliveryName::Filter => Some(filter.to_owned()),
            DeliveryName::Other(name) => Some(name),
        }
    });
    assert_eq!(delivered.collect::<Vec<_>>(), expected, "{principal:?} on {filter}");
}

/// Whether a topic is at one of the spots, as whoever delivers finds it.
fn is_at(subscription: &Subscription, topic: &str) -> bool {
    subscription.spots.iter().any(|spot| match (spot, Place::read(topic).unwrap()) {
        (Spot::Device(id, of), Place::Device { device, channel }) => id.as_str() == device && *of == channel,
        (Spot::AnyDevice(of), Place::Device { channel, .. }) => *of == channel,
        (Spot::Registry(of), Place::Registry { channel, .. }) => *of == channel,
        (Spot::Monitoring(id), Place::Monitoring { device }) => id.as_str() == device,
        (Spot::AnyMonitoring, Place::Monitoring { .. }) | (Spot::Plain, Place::Plain) => true,
        _ => false,
    })
}

#[test]
fn wildcards_are_granted_and_narrowed() {
    let all_events =
        ["$devices/dev1/events", "$devices/dev1/events/x", "$devices/dev2/events", "$devices/dev2/events/x"];
    let upward = [
        "$devices/dev1/events",
        "$devices/dev1/events/x",
        "$devices/dev1/state",
        "$devices/dev1/state/x",
        "$devices/dev2/events",
        "$devices/dev2/events/x",
        "$devices/dev2/state",
        "$devices/dev2/state/x",
    ];
    check_wildcards(&registry(), "$devices/#", &upward);
    check_wildcards(&registry(), "$devices/+/#", &upward);
    check_wildcards(&registry(), "$devices/+/+/#", &upward);
    check_wildcards(&registry(), "$devices/+/events/#", &all_events);
    check_wildcards(&registry(), "$devices/+/events", &["$devices/dev1/events", "$devices/dev2/events"]);
    check_wildcards(&registry(), "$devices/dev2/#", &upward[4..]);
    check_wildcards(&registry(), "$devices/dev2/+/x", &["$devices/dev2/events/x", "$devices/dev2/state/x"]);
    check_wildcards(&registry(), "$devices/+/commands/#", &[]);
    check_wildcards(&registry(), "$registries/#", &["$registries/reg1/events", "$registries/reg1/state"]);
    check_wildcards(&registry(), "$monitoring/#", &["$monitoring/dev1/json", "$monitoring/dev2/json"]);
    check_wildcards(&registry(), "$me/#", &[]);
    check_wildcards(
        &device(),
        "$devices/#",
        &["$devices/dev1/commands", "$devices/dev1/commands/x", "$devices/dev1/config", "$devices/dev1/config/x"],
    );
    check_wildcards(&device(), "$devices/dev2/#", &[]);
    check_wildcards(&device(), "$registries/#", &["$registries/reg1/commands", "$registries/reg1/config"]);
    check_wildcards(&device(), "$registries/+/config", &["$registries/reg1/config"]);
    check_wildcards(&device(), "$monitoring/+/json", &["$monitoring/dev1/json", "$monitoring/dev2/json"]);
    for principal in [device(), registry()] {
        for filter in ["$devices/+", "$registries/+", "$registries/reg2/#", "$SYS/#", "$devices/+/other/#"] {
            check_wildcards(&principal, filter, &[]);
        }
    }
}

#[test]
fn what_came_by_an_alias_or_by_me_arrives_under_that_name() {
    check_wildcards(
        &registry(),
        "#",
        &[
            "my/alias/events",
            "my/alias/events/x",
            "my/alias/state",
            "my/alias/state/x",
            "my/ali/events",
            "my/ali/events/x",
            "my/ali/state",
            "my/ali/state/x",
        ],
    );
    check_wildcards(
        &registry(),
        "+/alias/#",
        &["my/alias/events", "my/alias/events/x", "my/alias/state", "my/alias/state/x"],
    );
    check_wildcards(&registry(), "house/#", &["house/heat", "house/heat/x"]);
    check_wildcards(
        &device(),
        "my/#",
        &["my/alias/commands", "my/alias/commands/x", "my/alias/config", "my/alias/config/x"],
    );
    check_wildcards(&device(), "orders/#", &["orders", "orders/x"]);
    check_wildcards(
        &device(),
        "$me/device/#",
        &["$me/device/commands", "$me/device/commands/x", "$me/device/config", "$me/device/config/x"],
    );
    check_wildcards(&device(), "$me/+/commands", &["$me/device/commands", "$me/registry/commands"]);
    check_wildcards(&device(), "$me/monitoring/#", &["$me/monitoring/json"]);
}

#[test]
fn stored_values_go_to_who_names_them() {
    for (principal, filter, one, matches) in [
        (registry(), "$devices/dev1/state/x", Some("$devices/dev1/state/x"), false),
        (registry(), "$devices/dev1/events", None, false),
        (registry(), "$devices/#", None, true),
        (registry(), "$devices/+/events", None, false),
        (registry(), "my/alias/state", Some("$devices/dev1/state"), false),
        (registry(), "my/#", None, false),
        (device(), "$me/device/config", Some("$devices/dev1/config"), false),
        (device(), "$me/registry/config/a", Some("$registries/reg1/config/a"), false),
        (device(), "$me/#", None, false),
        (device(), "$registries/#", None, true),
        (registry(), "$monitoring/dev1/json", None, false),
        (broker(), "a/b", None, false),
        (broker(), "#", None, false),
    ] {
        let subscription = principal.subscription(&aliases(), filter).unwrap();
        assert_eq!(subscription.replayed_topic(), one, "{filter}");
        assert_eq!(subscription.replays_matches(), matches, "{filter}");
    }
}

#[test]
fn a_filter_matches_level_by_level() {
    for (filter, topic, is_match) in [
        ("#", "a/b", true),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("a/+", "a", false),
        ("a/+", "a/", true),
        ("a/+", "a/b/c", false),
        ("+/+", "a/b", true),
        ("+", "/a", false),
        ("/+", "/a", true),
        ("+/b", "$a/b", false),
        ("#", "$a", false),
        ("$a/#", "$a/b", true),
        ("a/b", "a/b", true),
        ("a/b", "a/b/", false),
    ] {
        assert_eq!(filter_matches(filter, topic), is_match, "{filter} {topic}");
    }
}

#[test]
fn the_device_that_is_named_is_known_for_looking_it_up() {
    let named = |principal: Principal, filter: &str| {
        principal.subscription(&aliases(), filter).unwrap().named_device().map(|device| device.0.clone())
    };
    assert_eq!(named(registry(), "$devices/dev9/events").as_deref(), Some("dev9"));
    assert_eq!(named(device(), "$monitoring/dev9/json").as_deref(), Some("dev9"));
    assert_eq!(named(registry(), "$devices/dev9/#"), None);
    assert_eq!(named(registry(), "$registries/reg1/events"), None);
}

#[test]
fn plain_names_mean_the_same_topics_when_they_are_taken() {
    let plain = AliasTable::new([("devices/x".to_owned(), "dev2".into(), "$devices/dev2/events".to_owned())]);
    assert!(device().target(&plain, "devices/dev1/events").is_none());
    let plain = plain.with_plain_names();
    let target = |who: Principal, name: &str| who.target(&plain, name).map(|target| target.topic.into_owned());
    for (who, name, topic) in [
        (device(), "devices/dev1/events/a", Some("$devices/dev1/events/a")),
        (device(), "registries/reg1/state", Some("$registries/reg1/state")),
        (registry(), "devices/dev7/commands", Some("$devices/dev7/commands")),
        (broker(), "devices/dev1/events", Some("devices/dev1/events")),
        (device(), "devices/dev2/events", None),
        (device(), "devices/dev1/commands", None),
        (device(), "monitoring/dev1/json", None),
        (device(), "devicesdev1/events", None),
    ] {
        assert_eq!(target(who, name).as_deref(), topic, "{name}");
    }
    for (filter, topic, name) in [
        ("devices/dev7/events", "$devices/dev7/events", Some(DeliveryName::Filter)),
        ("devices/+/events/#", "$devices/dev7/events/a", Some(DeliveryName::Other("devices/dev7/events/a".into()))),
        ("devices/#", "$devices/dev7/state", Some(DeliveryName::Other("devices/dev7/state".into()))),
        ("registries/#", "$registries/reg1/events", Some(DeliveryName::Other("registries/reg1/events".into()))),
        ("devices/+/state", "$devices/dev7/events", None),
        // An alias goes before.
        ("devices/x", "$devices/dev2/events", Some(DeliveryName::Filter)),
    ] {
        let subscription = registry().subscription(&plain, filter).unwrap();
        assert!(!subscription.spots.is_empty(), "{filter}");
        assert_eq!(subscription.name_of(topic, &plain), name, "{filter}");
        assert_eq!(subscription.read_anew(&registry(), &plain), subscription);
    }
    assert_eq!(registry().subscription(&plain, "devices/dev7/commands"), Err(Refused::Forbidden));
}
