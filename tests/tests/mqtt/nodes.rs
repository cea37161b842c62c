//! Two nodes on one database: messages cross, by the database and by NATS, access ends on both, and of a client id one session
//! stays.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use testkit::nats::Nats;
use x509::Certificate;

use crate::api::{Answer, Api, new_client};
use crate::clients::{PATIENCE, Raw, connect};
use crate::kill::fill;
use crate::site::{Server, Site, block_on};
use crate::world::Pair;

const TOPIC: &str = "$devices/dev1/events";
/// The octets of a PUBLISH with QoS 1 there and a payload of ten.
const FRAME: usize = 2 + 2 + TOPIC.len() + 2 + 10;

/// A server on the common database.
struct Node {
    server: Server,
    port: u16,
    ca: PathBuf,
    site: Site,
}

/// Two of them, with one registry and one device.
struct Nodes {
    one: Node,
    two: Node,
    registry: Pair,
    device: Pair,
}

impl Node {
    fn start(site: Site, relay: &str) -> Self {
        let mut command = site.serve(&[]);
        command.env("CHANCERY_MQTT_LISTEN", "127.0.0.1:0").env("CHANCERY_IOT_RELAY", relay);
        let server = site.start_as(command);
        let port = site.fact("/mqtt").rsplit(':').next().unwrap().parse().unwrap();
        Self { server, port, ca: site.fact("/mqttCa").into(), site }
    }

    fn raw(&self, pair: &Pair) -> Raw {
        Raw::to(self.port, &self.ca, &rustls::version::TLS13, Some(pair))
    }

    /// A client that is connected.
    fn client(&self, pair: &Pair, client_id: &str) -> Raw {
        let mut raw = self.raw(pair);
        assert_eq!(raw.connack(client_id), Some(0));
        raw
    }

    /// One that has a subscription, too.
    fn reader(&self, pair: &Pair, client_id: &str, filter: &str) -> Raw {
        let mut raw = self.client(pair, client_id);
        raw.send(&subscribe(filter));
        assert_eq!(raw.read(5), [0x90, 3, 0, 1, 1]);
        raw
    }
}

impl Nodes {
    fn start(relay: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let site = Site::postgres();
        let one = Node::start(site, relay);
        let mut pairs = fill(&one.site, &["dev1"]);
        let two = Node::start(one.site.node_beside(), relay);
        let mut pair = |name: &str| pairs.remove(name).unwrap();
        Self { registry: pair("reg1"), device: pair("dev1"), one, two }
    }

    fn execute(&self, sql: &str) {
        self.one.site.execute(sql);
    }

    fn stop(self) {
        // The first one has the database.
        self.two.server.stop();
        self.one.server.stop();
    }
}

/// Runs a test with letters that go by the database, and with letters that go by NATS.
fn each_way(test: impl Fn(Nodes)) {
    eprintln!("by PostgreSQL");
    test(Nodes::start("postgresql"));
    eprintln!("by NATS");
    let nats = Nats::start();
    test(Nodes::start(&nats.url()));
}

/// SUBSCRIBE of MQTT 3.1.1 with the id 1 and QoS 1.
fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(1);
    [&[0x82, u8::try_from(body.len()).unwrap()], &*body].concat()
}

/// The payloads of the next messages on the topic of the tests.
fn payloads(reader: &mut Raw, count: usize) -> Vec<String> {
    let octets = reader.read(FRAME * count);
    assert_eq!(octets.len(), FRAME * count, "{}", String::from_utf8_lossy(&octets));
    octets
        .chunks(FRAME)
        .map(|frame| {
            assert_eq!(&frame[4..4 + TOPIC.len()], TOPIC.as_bytes());
            String::from_utf8(frame[FRAME - 10..].to_vec()).unwrap()
        })
        .collect()
}

fn publish(publisher: &mut Raw, payload: &str) {
    assert!(publisher.publish(TOPIC, payload), "{payload} was not acknowledged");
}

/// Whether the server still answers.
fn is_alive(raw: &mut Raw) -> bool {
    raw.send(&[0xc0, 0]);
    match &*raw.read(2) {
        [0xd0, 0] => true,
        [] => false,
        other => panic!("{other:?}"),
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn messages_cross_in_order_and_come_once() {
    each_way(|nodes| {
        let mut registry = nodes.one.reader(&nodes.registry, "registry", "$devices/+/events");
        let mut here = nodes.one.client(&nodes.device, "here");
        let mut there = nodes.two.client(&nodes.device, "there");
        // NATS may not have joined them yet.
        until("nothing crosses", || {
            publish(&mut there, "warming-up");
            registry.has_octets(Duration::from_millis(100))
        });
        publish(&mut there, "begin-----");
        while payloads(&mut registry, 1) != ["begin-----"] {}
        for number in 0..30 {
            publish(&mut here, &format!("here-{number:05}"));
            publish(&mut there, &format!("away-{number:05}"));
        }
        let seen = payloads(&mut registry, 60);
        for from in ["here", "away"] {
            let seen: Vec<&String> = seen.iter().filter(|payload| payload.starts_with(from)).collect();
            let expected: Vec<String> = (0..30).map(|number| format!("{from}-{number:05}")).collect();
            assert_eq!(seen, expected.iter().collect::<Vec<_>>());
        }
        assert!(is_alive(&mut registry));
        nodes.stop();
    });
}

#[test]
fn access_ends_on_both_nodes() {
    each_way(|nodes| {
        let registry = nodes.one.client(&nodes.registry, "registry");
        let device = nodes.two.client(&nodes.device, "device");
        // As a node does that writes it down and is gone before it can tell.
        let now = "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)";
        nodes.execute(&format!(
            "INSERT INTO access_ends (id, kind, subject, at) VALUES (decode('{}', 'hex'), 'registry', 'reg1', {now})",
            "07".repeat(16)
        ));
        let begun = Instant::now();
        for mut raw in [registry, device] {
            assert_eq!(raw.read(1), b"");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        nodes.stop();
    });
}

/// A certificate that is removed on one node opens no session on the other from then on, and the one that stands on it ends.
#[test]
fn a_certificate_that_is_removed_on_one_node_is_refused_on_the_other_at_once() {
    let nodes = Nodes::start("postgresql");
    let pem = std::fs::read_to_string(&nodes.device.certificate).unwrap();
    let fingerprint = Certificate::from_pem(&pem).unwrap().sha256();
    let fingerprint: String = fingerprint.iter().map(|octet| format!("{octet:02x}")).collect();
    nodes.execute("CREATE TABLE kept AS SELECT * FROM registered_certificates WHERE owner_kind = 'device'");
    let path = format!("/iot-devices/v1/devices/dev1/certificates/{fingerprint}");
    for round in 0..6 {
        let (here, there) = if round % 2 == 0 { (&nodes.one, &nodes.two) } else { (&nodes.two, &nodes.one) };
        let mut standing = there.client(&nodes.device, "standing");
        block_on(async {
            let api = Api::log_in_at(&here.server.url, new_client(), &nodes.one.site.facts()).await;
            Answer::of(api.request(Method::DELETE, &path)).await.unwrap().ok();
        });
        assert_eq!(there.raw(&nodes.device).connack("newcomer"), Some(5), "round {round}");
        until("the session stays", || !is_alive(&mut standing));
        nodes.execute("INSERT INTO registered_certificates SELECT * FROM kept");
    }
    nodes.stop();
}

#[test]
fn a_newer_session_takes_the_place_of_an_older_one_on_another_node() {
    each_way(|nodes| {
        let mut older = nodes.one.raw(&nodes.device);
        // CONNECT of MQTT 5: another level, and no properties.
        let mut packet = connect("same");
        packet[1] += 1;
        packet[8] = 5;
        packet.insert(12, 0);
        older.send(&packet);
        let length = older.read(2)[1];
        assert_eq!(older.read(length.into())[..2], [0, 0]);
        let mut other = nodes.one.client(&nodes.device, "other");
        let mut newer = nodes.two.client(&nodes.device, "same");
        let goodbye = older.read(usize::MAX);
        assert!(goodbye.first() == Some(&0xe0) && goodbye.get(2) == Some(&0x8e), "{goodbye:?}");
        for node in [&nodes.one, &nodes.two, &nodes.one] {
            let mut newest = node.client(&nodes.device, "same");
            assert_eq!(newer.read(1), b"");
            assert!(is_alive(&mut newest));
            newer = newest;
        }
        assert!(is_alive(&mut other));
        nodes.stop();
    });
}

#[test]
fn of_two_sessions_that_are_opened_at_once_one_stays() {
    each_way(|nodes| {
        for round in 0..8 {
            let client_id = format!("same-{round}");
            let mut both = [&nodes.one, &nodes.two].map(|node| node.raw(&nodes.device));
            both.iter_mut().for_each(|raw| raw.send(&connect(&client_id)));
            assert!(both.iter_mut().all(|raw| raw.read(4) == [0x20, 2, 0, 0]));
            let mut alive = [true; 2];
            until("both stay", || {
                alive = [is_alive(&mut both[0]), is_alive(&mut both[1])];
                alive != [true; 2]
            });
            assert_ne!(alive, [false; 2]);
            assert_eq!([is_alive(&mut both[0]), is_alive(&mut both[1])], alive);
        }
        nodes.stop();
    });
}

#[test]
fn monitoring_is_told_to_readers_on_another_node() {
    each_way(|nodes| {
        let mut registry = nodes.one.client(&nodes.registry, "registry");
        let topic = "$monitoring/dev1/json";
        registry.send(&subscribe(topic));
        assert_eq!(registry.read(5)[..2], [0x90, 3]);
        let mut device = nodes.two.client(&nodes.device, "device");
        until("nothing is told", || {
            assert!(is_alive(&mut device));
            registry.has_octets(Duration::from_millis(50))
        });
        let told = registry.packet();
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(topic) && told.contains("last_online_time"), "{told}");
        nodes.stop();
    });
}

#[test]
fn messages_cross_without_the_connections_that_listen() {
    let nodes = Nodes::start("postgresql");
    let mut registry = nodes.one.reader(&nodes.registry, "registry", "$devices/+/events");
    let mut there = nodes.two.client(&nodes.device, "there");
    for number in 0..3 {
        nodes.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        );
        let payload = format!("cut-{number:06}");
        publish(&mut there, &payload);
        assert_eq!(payloads(&mut registry, 1), [payload]);
    }
    nodes.stop();
}

#[test]
fn messages_and_takeovers_go_on_after_nats_was_away() {
    let mut nats = Nats::start();
    let nodes = Nodes::start(&nats.url());
    let mut registry = nodes.one.reader(&nodes.registry, "registry", "$devices/+/events");
    let mut older = nodes.one.client(&nodes.device, "same");
    let mut there = nodes.two.client(&nodes.device, "there");
    until("nothing crosses", || {
        publish(&mut there, "0000000000");
        registry.has_octets(Duration::from_millis(100))
    });
    nats.stop();
    let mut newer = nodes.two.client(&nodes.device, "same");
    publish(&mut there, "0000000001");
    nats.start_again();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                publish(&mut there, &format!("{number:010}"));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        // What was on its way may be lost; what comes is in order.
        let (mut last, mut new) = (0, 0);
        while new < 5 {
            let number: u32 = payloads(&mut registry, 1)[0].parse().unwrap();
            assert!(number == 0 || number > last, "{number} came after {last}");
            new += usize::from(number > 1);
            last = number;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(older.read(1), b"");
    assert!(is_alive(&mut newer));
    nodes.stop();
}
