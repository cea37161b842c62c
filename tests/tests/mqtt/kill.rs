//! `kill -9` under load: no value whose PUBACK the client saw is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use x509::{Certificate, pem};

use crate::clients::Raw;
use crate::site::{PATIENCE, Server, Site, on_both_engines};
use crate::world::{Pair, self_signed};

const TOPICS: usize = 5;
const KILLS: usize = 3;

/// A server on this site with MQTT, and where that is.
pub fn start(site: &Site) -> (Server, u16, PathBuf) {
    let mut command = site.serve(&[]);
    command.env("CHANCERY_MQTT_LISTEN", "127.0.0.1:0");
    let server = site.start_as(command);
    let port = site.fact("/mqtt").rsplit(':').next().unwrap().parse().unwrap();
    (server, port, site.fact("/mqttCa").into())
}

/// A registry with devices, each with a certificate.
pub fn fill(site: &Site, devices: &[&str]) -> BTreeMap<String, Pair> {
    let options = r#"{"is_disabled":false,"destination":null,"min_level":0}"#;
    site.execute(&format!(
        "INSERT INTO registries (id, project_id, folder_key, folder_id, name, description, labels, log_options, log_group_id,
         is_disabled, version, created_at) SELECT 'reg1', id, '', 'f', '', '', '{{}}', '{options}', '', 0, 1, 0 FROM projects LIMIT 1"
    ));
    let mut pairs = BTreeMap::new();
    for (owner, kind) in devices.iter().map(|device| (*device, "device")).chain([("reg1", "registry")]) {
        if kind == "device" {
            site.execute(&format!(
                "INSERT INTO devices (id, registry_id, project_id, folder_key, name, description, labels, version, created_at)
                 SELECT '{owner}', id, project_id, '', '', '', '{{}}', 1, 0 FROM registries"
            ));
        }
        let pair = self_signed(
            Pair { certificate: site.path(&format!("{owner}.pem")), key: site.path(&format!("{owner}.key")) },
            &[],
        );
        let text = std::fs::read_to_string(&pair.certificate).unwrap();
        let certificate = Certificate::from_der(pem::decode_all(&text, pem::CERTIFICATE).unwrap().remove(0)).unwrap();
        site.execute(&format!(
            "INSERT INTO registered_certificates (fingerprint, fingerprint_sha1, project_id, owner_kind, owner_id, registry_id,
             certificate_data, not_before, not_after, state, created_at)
             SELECT {}, {}, project_id, '{kind}', '{owner}', id, '', 0, 9999999999999, 'ACTIVE', 0 FROM registries",
            site.literal(&certificate.sha256()),
            site.literal(&certificate.sha1()),
        ));
        pairs.insert(owner.to_owned(), pair);
    }
    pairs
}

#[test]
fn no_value_of_a_permanent_topic_whose_puback_was_seen_is_lost() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    on_both_engines(|site| {
        let (server, _, _) = start(site);
        let pair = fill(site, &["dev1"]).remove("dev1").unwrap();
        server.kill();
        let mut number = 0;
        for kill in 0..KILLS {
            let (server, port, ca) = start(site);
            let is_over = Arc::new(AtomicBool::new(false));
            let acknowledged = Arc::new(AtomicUsize::new(0));
            let publisher = {
                let (is_over, acknowledged, pair) = (is_over.clone(), acknowledged.clone(), pair.clone());
                std::thread::spawn(move || {
                    let mut raw = Raw::to(port, &ca, &rustls::version::TLS13, Some(&pair));
                    assert_eq!(raw.connack("c"), Some(0));
                    let mut seen = [0; TOPICS];
                    while !is_over.load(Ordering::Relaxed) {
                        number += 1;
                        let topic = number % TOPICS;
                        let payload = format!("{number:09}");
                        if raw.publish(&format!("$devices/dev1/state/{topic}"), &payload) {
                            seen[topic] = number;
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        } else {
                            break;
                        }
                    }
                    (number, seen)
                })
            };
            // In the midst of it, each time at another place.
            let deadline = Instant::now() + PATIENCE;
            while acknowledged.load(Ordering::Relaxed) < TOPICS * 4 + 7 * kill {
                assert!(Instant::now() < deadline && !publisher.is_finished(), "too little was acknowledged");
                std::thread::sleep(Duration::from_millis(1));
            }
            server.kill();
            is_over.store(true, Ordering::Relaxed);
            let (last, seen) = publisher.join().unwrap();
            number = last;
            assert!(seen.iter().all(|number| *number > 0), "nothing was acknowledged: {seen:?}");
            // Another one reads the database as a server would that comes after it.
            start(site).0.stop();
            for (topic, seen) in seen.iter().enumerate() {
                let from = format!("topic_values WHERE topic = '$devices/dev1/state/{topic}'");
                let kept: usize = String::from_utf8(site.octets("payload", &from)).unwrap().parse().unwrap();
                assert!(kept >= *seen, "{seen} was acknowledged on topic {topic}, {kept} is kept");
            }
        }
    });
}
