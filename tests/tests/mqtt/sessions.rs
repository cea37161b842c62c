//! Sessions: takeover, last wills, keep-alive, violations, limits (contract §6.1, §6.4), and paho over TLS and WebSocket.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use domain::registry::Owner;

use crate::clients::{Proof, Raw, Subscriber, connect, publish, succeeded};
use crate::world::{for_each_engine, for_each_engine_with};

const PING: [u8; 2] = [0xc0, 0];
const PONG: [u8; 2] = [0xd0, 0];

#[test]
fn a_newer_session_takes_the_place_of_one_with_its_client_id() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let other = world.device("dev2").await;
        let mut first = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
        let mut of_other = Raw::connect(&world, &rustls::version::TLS13, Some(&other));
        assert_eq!((first.connack("same"), of_other.connack("same")), (Some(0), Some(0)));
        let mut second = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
        assert_eq!(second.connack("same"), Some(0));
        assert_eq!(tokio::task::spawn_blocking(move || first.read(1)).await.unwrap(), b"");
        for raw in [&mut second, &mut of_other] {
            raw.send(&PING);
            assert_eq!(raw.read(2), PONG);
        }
        world
    });
}

#[test]
fn what_comes_together_with_connect_is_answered_at_once() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut raw = Raw::connect(&world, version, Some(&pair));
            raw.send(&[connect("eager").as_slice(), &PING].concat());
            assert_eq!(raw.read(6), [0x20, 2, 0, 0, 0xd0, 0]);
        }
        world
    });
}

#[test]
fn a_last_will_is_published_when_the_connection_breaks_and_not_when_the_client_says_goodbye() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let registry = Proof::from(&world.registry_pair().await);
        let reader = Subscriber::start(&world, "mqttv311", &registry, &["$devices/dev1/events"]).await;
        let with_will = |topic: &str, payload: &str| {
            let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1110, 0, 60, 0, 1, b'w'];
            for text in [topic, payload] {
                body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                body.extend(text.as_bytes());
            }
            let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
            packet.extend(body);
            packet
        };
        let connected = |packet: Vec<u8>| {
            let mut raw = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
            raw.send(&packet);
            let code = raw.read(4).get(3).copied();
            (raw, code)
        };
        let (mut polite, code) = connected(with_will("$me/device/events", "not-this"));
        assert_eq!(code, Some(0));
        polite.send(&[0xe0, 0]);
        assert_eq!(tokio::task::spawn_blocking(move || polite.read(1)).await.unwrap(), b"");
        let (broken, code) = connected(with_will("$me/device/events", "gone"));
        assert_eq!(code, Some(0));
        drop(broken);
        assert_eq!(reader.message().await, "$devices/dev1/events|1|0|gone");
        assert_eq!(connected(with_will("$devices/dev2/events", "x")).1, Some(5));
        world
    });
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let topic = b"$devices/dev1/events";
        let qos_2 = [&[0x34, 24, 0, 20][..], topic, &[0, 1]].concat();
        let too_large = vec![0x30, 0xff, 0xff, 0xff, 0x7f];
        let wildcard = vec![0x30, 5, 0, 3, b'a', b'/', b'+'];
        for octets in [qos_2, too_large, wildcard, connect("c"), vec![0xf0, 0], vec![0x30, 0xff, 0xff, 0xff, 0xff]] {
            let mut raw = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
            assert_eq!(raw.connack("c"), Some(0));
            raw.send(&octets);
            assert_eq!(tokio::task::spawn_blocking(move || raw.read(1)).await.unwrap(), b"", "{octets:?}");
        }
        // Before a session there is only CONNECT, and of MQTT 3.1 there is none.
        for (octets, answer) in [
            (PING.to_vec(), vec![]),
            (vec![0x10, 14, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 60, 0, 0], vec![0x20, 2, 0, 1]),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![]),
        ] {
            let mut raw = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
            raw.send(&octets);
            assert_eq!(tokio::task::spawn_blocking(move || raw.read(99)).await.unwrap(), answer, "{octets:?}");
        }
        world
    });
}

#[test]
fn a_client_that_is_silent_for_too_long_is_gone() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let mut raw = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
        let mut packet = connect("c");
        packet[11] = 1;
        raw.send(&packet);
        assert_eq!(raw.read(4).get(3), Some(&0));
        assert_eq!(tokio::task::spawn_blocking(move || raw.read(1)).await.unwrap(), b"");
        world
    });
}

#[test]
fn a_reader_that_does_not_read_loses_the_oldest_and_holds_up_nobody_for_long() {
    for_each_engine(|world| async {
        let device = world.device("dev1").await;
        let registry = world.registry_pair().await;
        let mut slow = Raw::connect(&world, &rustls::version::TLS13, Some(&registry));
        assert_eq!(slow.connack("slow"), Some(0));
        let filter = b"$devices/dev1/events";
        slow.send(&[&[0x82, 25, 0, 1, 0, 20][..], filter, &[0]].concat());
        assert_eq!(slow.read(5).len(), 5);
        let payload = "x".repeat(60_000);
        let publisher = Proof::from(&device);
        for _ in 0..3 {
            let arguments = ["-t", "$devices/dev1/events", "-q", "1", "-m", &payload, "--repeat", "100"];
            succeeded(&publish(&world, "mqttv311", &publisher, &arguments).await);
        }
        let dropped = world.services.hub().counts.dropped.load(std::sync::atomic::Ordering::Relaxed);
        assert!(dropped > 0, "nothing was dropped");
        world
    });
}

/// PUBLISH with QoS 1 of these numbers by a device of its own events.
fn publishes(numbers: Range<u16>) -> Vec<u8> {
    let packet = |number: u16| {
        let payload = format!("{number:04}");
        [&[0x32, 28, 0, 20], &b"$devices/dev1/events"[..], &(number + 1).to_be_bytes(), payload.as_bytes()].concat()
    };
    numbers.flat_map(packet).collect()
}

#[test]
fn a_reader_that_acknowledges_nothing_loses_the_oldest_of_what_waits_in_both_versions() {
    for_each_engine(|world| async {
        let device = world.device("dev1").await;
        let registry = world.registry_pair().await;
        let filter = b"$devices/dev1/events";
        // CONNECT, SUBSCRIBE and the length of a message.
        let of_3 = (connect("reader"), [&[0x82, 25, 0, 1, 0, 20][..], filter, &[1]].concat(), 30);
        let mut connect_5 = connect("reader");
        connect_5[1] += 1;
        connect_5[8] = 5;
        connect_5.insert(12, 0);
        let of_5 = (connect_5, [&[0x82, 26, 0, 1, 0, 0, 20][..], filter, &[1]].concat(), 31);
        for (connect, subscribe, length) in [of_3, of_5] {
            let mut reader = Raw::connect(&world, &rustls::version::TLS13, Some(&registry));
            reader.send(&connect);
            assert_eq!(reader.packet().get(1), Some(&0));
            reader.send(&subscribe);
            assert_eq!(reader.packet().last(), Some(&1));
            let mut publisher = Raw::connect(&world, &rustls::version::TLS13, Some(&device));
            assert_eq!(publisher.connack("publisher"), Some(0));
            let mut publish = |numbers: Range<u16>| {
                publisher.send(&publishes(numbers.clone()));
                assert_eq!(publisher.read(numbers.len() * 4).len(), numbers.len() * 4);
            };
            let number = |packet: &[u8]| String::from_utf8_lossy(&packet[length - 4..]).parse().unwrap();
            let numbers = |octets: &[u8]| octets.chunks(length).map(number).collect::<Vec<u16>>();
            // Half of what is kept for a session may be in flight.
            publish(0..500);
            let in_flight = reader.read(500 * length);
            assert_eq!(numbers(&in_flight), (0..500).collect::<Vec<_>>());
            publish(500..1200);
            let acknowledge = |packet: &[u8]| [0x40, 2, packet[24], packet[25]];
            reader.send(&in_flight.chunks(length).flat_map(acknowledge).collect::<Vec<_>>());
            assert_eq!(numbers(&reader.read(500 * length)), (700..1200).collect::<Vec<_>>());
        }
        world
    });
}

#[test]
fn a_device_that_publishes_faster_than_it_may_waits_or_is_not_heard() {
    for_each_engine_with("[iot.mqtt]\nmessages_per_second = 2\n", |world| async {
        let mut device = Raw::connect(&world, &rustls::version::TLS13, Some(&world.device("dev1").await));
        let mut other = Raw::connect(&world, &rustls::version::TLS13, Some(&world.device("dev2").await));
        assert_eq!((device.connack("a"), other.connack("b")), (Some(0), Some(0)));
        let heard = || world.services.hub().counts.messages_in.load(std::sync::atomic::Ordering::Relaxed);
        let began = Instant::now();
        device.send(&publishes(0..5));
        assert_eq!(device.read(20).len(), 20);
        assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
        assert_eq!(heard(), 5);
        // With QoS 0 nobody waits.
        let silent = [&[0x30, 24, 0, 20][..], b"$devices/dev2/events", b"xx"].concat();
        other.send(&[silent.repeat(200), PING.to_vec()].concat());
        assert_eq!(other.read(2), PONG);
        assert!((7..205).contains(&heard()), "{}", heard());
        world
    });
}

#[test]
fn topics_are_named_without_their_dollar_only_when_the_operator_says_so() {
    let arguments = ["-q", "1", "-m", "x", "-t", "devices/dev1/events"];
    for_each_engine(|world| async {
        let device = Proof::from(&world.device("dev1").await);
        assert!(!publish(&world, "mqttv311", &device, &arguments).await.status.success());
        world
    });
    for_each_engine_with("[iot.mqtt]\naccept_plain_prefix = true\n", |world| async {
        let device = Proof::from(&world.device("dev1").await);
        let registry = Proof::from(&world.registry_pair().await);
        let filters = ["devices/dev1/events", "devices/+/state/#", "registries/are-registry/events"];
        let reader = Subscriber::start(&world, "mqttv311", &registry, &filters).await;
        for topic in ["devices/dev1/events", "devices/dev1/state/a", "registries/are-registry/events"] {
            for written in [topic.to_owned(), format!("${topic}")] {
                let arguments = ["-q", "1", "-m", "x", "-t", &written];
                succeeded(&publish(&world, "mqttv311", &device, &arguments).await);
                assert_eq!(reader.message().await, format!("{topic}|1|0|x"));
            }
        }
        // The rights are those of the same topics, and so are the values that are kept.
        let foreign = ["-q", "1", "-m", "x", "-t", "devices/dev2/events"];
        assert!(!publish(&world, "mqttv311", &device, &foreign).await.status.success());
        for filter in ["devices/#", "devices/dev1/state/a"] {
            let late = Subscriber::start(&world, "mqttv5", &registry, &[filter]).await;
            assert_eq!(late.message().await, "devices/dev1/state/a|1|1|x");
        }
        world
    });
}

#[test]
fn paho_speaks_both_versions_over_tls_and_web_socket() {
    for_each_engine(|world| async {
        let device = world.device("dev1").await;
        let registry = world.registry_pair().await;
        world.add_password(&Owner::Registry(world.registry.as_str().into()), "Passw0rdForRegistry").await;
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.test/venv/bin/python");
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/mqtt_session.py"));
        command.arg(&world.ca).arg(world.port.to_string()).arg(world.web_socket_port.to_string());
        command.arg(&device.certificate).arg(&device.key).arg(&registry.certificate).arg(&registry.key);
        command.args([&world.registry, "Passw0rdForRegistry"]);
        let output = tokio::time::timeout(
            Duration::from_secs(120),
            tokio::task::spawn_blocking(move || command.output().unwrap()),
        );
        let output = output.await.unwrap().unwrap();
        succeeded(&output);
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().last(), Some("done"));
        world
    });
}
