//! Sessions: takeover, last wills, keep-alive, violations, limits (contract §6.1, §6.4), and paho over TLS and WebSocket.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use domain::registry::Owner;

use crate::clients::{Proof, Raw, Subscriber, connect, publish, succeeded};
use crate::world::for_each_engine;

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
