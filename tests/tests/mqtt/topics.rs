//! Messages between devices, registries and brokers: rights, aliases, permanent topics, monitoring (contract §6.3).

use bytes::Bytes;
use domain::Error;
use domain::caller::Caller;
use domain::registry::Owner;
use services::registry::{Asked, DeviceChange};

use crate::clients::{Proof, Raw, Subscriber, publish, said, succeeded};
use crate::world::for_each_engine;

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

#[test]
fn device_and_registry_talk_with_certificates_and_with_passwords() {
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        world.add_password(&Owner::Device("dev1".into()), "Passw0rdForDevice").await;
        world.add_password(&Owner::Registry(world.registry.as_str().into()), "Passw0rdForRegistry").await;
        let device_by_password = Proof::Password("dev1".into(), "Passw0rdForDevice".into());
        let registry_by_password = Proof::Password(world.registry.clone(), "Passw0rdForRegistry".into());
        for version in VERSIONS {
            for (device, registry) in [(&device, &registry), (&device_by_password, &registry_by_password)] {
                for qos in ["0", "1"] {
                    let up = Subscriber::start(&world, version, registry, &["$devices/dev1/events"]).await;
                    let topic = "$devices/dev1/events";
                    succeeded(&publish(&world, version, device, &["-t", topic, "-m", "hot", "-q", qos]).await);
                    assert_eq!(up.message().await, format!("{topic}|{qos}|0|hot"));
                    let filter = format!("$registries/{}/commands", world.registry);
                    let down = Subscriber::start(&world, version, device, &[&filter]).await;
                    succeeded(&publish(&world, version, registry, &["-t", &filter, "-m", "go", "-q", qos, "-r"]).await);
                    assert_eq!(down.message().await, format!("{filter}|{qos}|0|go"));
                }
            }
        }
        world
    });
}

#[test]
fn a_publication_that_is_not_allowed_ends_the_connection_unanswered() {
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        world.add_device("dev2").await;
        world.add_registry("are-other").await;
        world.add_device_to("are-other", "dev9").await;
        for version in VERSIONS {
            for (proof, topic) in [
                (&device, "$devices/dev2/events"),
                (&device, "$devices/dev1/commands"),
                (&device, "$monitoring/dev1/json"),
                (&device, "no/alias"),
                (&device, "devices/dev1/events"),
                (&registry, "$devices/dev1/events"),
                (&registry, "$devices/dev9/commands"),
                (&registry, "$devices/nobody/commands"),
                (&registry, "$registries/are-other/commands"),
            ] {
                let output = publish(&world, version, proof, &["-t", topic, "-m", "x", "-q", "1"]).await;
                assert!(!output.status.success(), "{topic}: {}", said(&output));
            }
            let topic = ["-t", "$devices/dev2/commands", "-m", "x", "-q", "1"];
            succeeded(&publish(&world, version, &registry, &topic).await);
        }
        world
    });
}

#[test]
fn a_filter_that_is_not_allowed_is_refused_and_the_connection_stays() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        world.add_device("dev2").await;
        let mut raw = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
        assert_eq!(raw.connack("c"), Some(0));
        for (filter, code) in [
            ("$devices/dev1/commands", 1),
            ("$devices/dev1/events", 0x80),
            ("$devices/dev2/commands", 0x80),
            ("$monitoring/dev2/json", 1),
            ("$monitoring/nobody/json", 0x80),
            ("no/alias", 0x80),
            ("$devices/dev2/#", 1),
            ("#", 1),
            ("a/#/b", 0x80),
            ("$share/g/#", 0x80),
        ] {
            raw.send(&subscribe(filter));
            assert_eq!(raw.read(5), [0x90, 3, 0, 7, code], "{filter}");
        }
        raw.send(&[0xc0, 0]);
        assert_eq!(raw.read(2), [0xd0, 0]);
        world
    });
}

/// SUBSCRIBE of MQTT 3.1.1 with QoS 2, which is granted as 1.
fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 7];
    body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(2);
    let mut packet = vec![0x82, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

#[test]
fn aliases_and_me_name_topics_both_ways() {
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        world.add_alias("my/alias/", "dev1", "$devices/dev1/").await;
        for version in VERSIONS {
            let one = Subscriber::start(&world, version, &registry, &["my/alias/events"]).await;
            let all = Subscriber::start(&world, version, &registry, &["#"]).await;
            let canonical = Subscriber::start(&world, version, &registry, &["$devices/#"]).await;
            for topic in ["$me/device/events", "my/alias/events", "$devices/dev1/events"] {
                succeeded(&publish(&world, version, &device, &["-t", topic, "-m", topic]).await);
                assert_eq!(one.message().await, format!("my/alias/events|0|0|{topic}"));
                assert_eq!(all.message().await, format!("my/alias/events|0|0|{topic}"));
                assert_eq!(canonical.message().await, format!("$devices/dev1/events|0|0|{topic}"));
            }
            let me = Subscriber::start(&world, version, &device, &["$me/device/commands/#"]).await;
            succeeded(&publish(&world, version, &registry, &["-t", "my/alias/commands/x", "-m", "1"]).await);
            assert_eq!(me.message().await, "$me/device/commands/x|0|0|1");
        }
        world
    });
}

#[test]
fn an_alias_that_is_made_while_somebody_listens_counts_at_once() {
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        let all = Subscriber::start(&world, "mqttv311", &registry, &["#"]).await;
        world.add_alias("new/", "dev1", "$devices/dev1/").await;
        succeeded(&publish(&world, "mqttv311", &device, &["-t", "new/events", "-m", "1"]).await);
        assert_eq!(all.message().await, "new/events|0|0|1");
        world
    });
}

#[test]
fn an_alias_that_is_changed_or_taken_away_while_somebody_listens_counts_at_once() {
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        let _listening = Subscriber::start(&world, "mqttv311", &registry, &["#"]).await;
        let admin = world.admin().await;
        for aliases in [vec!["one/"], vec!["two/"], vec![]] {
            let change = DeviceChange {
                topic_aliases: Some(aliases.iter().map(|one| ((*one).into(), "$devices/dev1/".into())).collect()),
                ..DeviceChange::default()
            };
            let asked = Asked { caller: &admin, repeat: None };
            world.services.update_device(&asked, "dev1", change).await.unwrap();
            for alias in ["one/", "two/"] {
                let topic = format!("{alias}events");
                let published = publish(&world, "mqttv311", &device, &["-q", "1", "-t", &topic, "-m", "1"]).await;
                assert_eq!(
                    published.status.success(),
                    aliases.contains(&alias),
                    "{alias} of {aliases:?}: {published:?}"
                );
            }
        }
        world
    });
}

#[test]
fn a_permanent_topic_keeps_its_last_value_for_who_comes_later() {
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        world.add_alias("my/alias/", "dev1", "$devices/dev1/").await;
        for (version, qos) in [("mqttv311", "1"), ("mqttv5", "1"), ("mqttv5", "0")] {
            let topic = "$devices/dev1/state/x";
            for payload in ["old", "new"] {
                succeeded(&publish(&world, version, &device, &["-t", topic, "-m", payload, "-q", qos]).await);
            }
            if qos == "0" {
                // Without an answer the message may still be on its way.
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            }
            for (filter, name) in [(topic, topic), ("$devices/#", topic), ("my/alias/state/x", "my/alias/state/x")] {
                let later = Subscriber::start(&world, version, &registry, &[filter]).await;
                assert_eq!(later.message().await, format!("{name}|1|1|new"), "{filter}");
                succeeded(&publish(&world, version, &device, &["-t", topic, "-m", "new"]).await);
                assert_eq!(later.message().await, format!("{name}|0|0|new"), "{filter}");
            }
            let live = Subscriber::start(&world, version, &registry, &[topic]).await;
            assert_eq!(live.message().await, format!("{topic}|1|1|new"));
            succeeded(&publish(&world, version, &device, &["-t", topic, "-n", "-q", "1"]).await);
            assert_eq!(live.message().await, format!("{topic}|1|0|"), "the empty message that clears it");
            let nothing = Subscriber::start(&world, version, &registry, &[topic]).await;
            succeeded(&publish(&world, version, &device, &["-t", topic, "-m", "first", "-q", "1"]).await);
            assert_eq!(nothing.message().await, format!("{topic}|1|0|first"));
        }
        world
    });
}

#[test]
fn each_contact_of_a_device_is_told_on_its_monitoring_topic() {
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        let monitoring = Subscriber::start(&world, "mqttv311", &registry, &["$monitoring/+/json"]).await;
        succeeded(&publish(&world, "mqttv311", &device, &["-t", "$devices/dev1/events", "-m", "1"]).await);
        let line = monitoring.wait_for(|line| line.contains("last_pub_activity_time")).await;
        let (head, json) = line.split_once('{').unwrap();
        assert_eq!(head, "$monitoring/dev1/json|0|0|");
        let told: serde_json::Value = serde_json::from_str(&format!("{{{json}")).unwrap();
        assert_eq!(told["device_id"], "dev1");
        assert_eq!(told["registry_id"], world.registry.as_str());
        assert_eq!(told["last_auth_ip"], "127.0.0.1");
        assert_eq!(told["last_auth_time"], format!("{}", api::render::timestamp(world.start)));
        world
    });
}

#[test]
fn a_broker_has_topics_of_its_own() {
    for_each_engine(|world| async {
        world.add_broker("are-broker").await;
        let pair = world.pair("broker", &[]);
        world.register(&Owner::Broker("are-broker".into()), &pair.certificate).await;
        let proof = Proof::from(&pair);
        let reader = Subscriber::start(&world, "mqttv5", &proof, &["a/+"]).await;
        succeeded(&publish(&world, "mqttv5", &proof, &["-t", "a/b", "-m", "1", "-q", "1"]).await);
        assert_eq!(reader.message().await, "a/b|1|0|1");
        let output = publish(&world, "mqttv5", &proof, &["-t", "$devices/dev1/commands", "-m", "1", "-q", "1"]).await;
        assert!(!output.status.success());
        world
    });
}

#[test]
fn a_caller_of_the_api_publishes_with_the_rights_of_an_owner() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let registry = Owner::Registry(world.registry.as_str().into());
        let device = Owner::Device("dev1".into());
        let caller = world.admin().await;
        let listener = Subscriber::start(&world, "mqttv311", &Proof::from(&pair), &["$me/device/commands"]).await;
        let say = |owner: &Owner, topic: &str, octets: usize| {
            let (services, caller, owner, topic) =
                (world.services.clone(), caller.clone(), owner.clone(), topic.to_owned());
            async move { services.publish_as(&caller, &owner, &topic, Bytes::from(vec![b'x'; octets])).await }
        };
        say(&registry, "$devices/dev1/commands", 1).await.unwrap();
        assert_eq!(listener.message().await, "$me/device/commands|1|0|x");
        say(&device, "$me/device/events", 0).await.unwrap();
        let reason = |outcome: Result<(), Error>| outcome.unwrap_err().reason().unwrap();
        use domain::error::Reason;
        assert_eq!(reason(say(&registry, "$devices/dev1/events", 1).await), Reason::PermissionDenied);
        assert_eq!(reason(say(&registry, "$devices/nobody/commands", 1).await), Reason::PermissionDenied);
        assert_eq!(reason(say(&device, "$devices/dev1/events", 262_145).await), Reason::Invalid);
        assert_eq!(reason(say(&device, "a/+", 1).await), Reason::Invalid);
        assert_eq!(reason(say(&Owner::Device("nobody".into()), "$me/device/events", 1).await), Reason::NotFound);
        let stranger = Caller::node(world.services.new_id());
        let as_stranger = world.services.publish_as(&stranger, &device, "$me/device/events", Bytes::new()).await;
        assert_eq!(reason(as_stranger), Reason::NotFound);
        world.execute("UPDATE registries SET is_disabled = 1", vec![]).await;
        assert_eq!(reason(say(&device, "$devices/dev1/events", 1).await), Reason::WrongState);
        world
    });
}
