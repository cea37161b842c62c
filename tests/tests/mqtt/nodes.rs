//! Two nodes on one database: messages cross, and access ends on both.

use std::time::{Duration, Instant};

use crate::clients::{Raw, connect};
use crate::kill::{fill, start};
use crate::site::Site;

/// SUBSCRIBE of MQTT 3.1.1 with the id 1 and QoS 1.
fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(1);
    [&[0x82, u8::try_from(body.len()).unwrap()], &*body].concat()
}

#[test]
fn messages_cross_between_nodes_and_access_ends_on_both() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let site = Site::postgres();
    let (one, one_port, one_ca) = start(&site);
    let pairs = fill(&site, &["dev1"]);
    let beside = site.node_beside();
    let (two, two_port, two_ca) = start(&beside);
    let mut registry = Raw::to(one_port, &one_ca, &rustls::version::TLS13, Some(&pairs["reg1"]));
    assert_eq!(registry.connack("registry"), Some(0));
    registry.send(&subscribe("$devices/+/events"));
    assert_eq!(registry.read(5), [0x90, 3, 0, 1, 1]);
    let mut device = Raw::to(two_port, &two_ca, &rustls::version::TLS13, Some(&pairs["dev1"]));
    device.send(&connect("device"));
    assert_eq!(device.read(4), [0x20, 2, 0, 0]);
    assert!(device.publish("$devices/dev1/events", "over there"));
    let expected = [&[0x32, 34, 0, 20][..], b"$devices/dev1/events", &[0, 1], b"over there"].concat();
    assert_eq!(registry.read(expected.len()), expected);

    let now = "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)";
    site.execute(&format!(
        "INSERT INTO access_ends (id, kind, subject, at) VALUES (decode('{}', 'hex'), 'registry', 'reg1', {now})",
        "07".repeat(16)
    ));
    let begun = Instant::now();
    for mut raw in [registry, device] {
        assert_eq!(raw.read(1), b"");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    two.stop();
    one.stop();
}
