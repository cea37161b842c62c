//! Certificates that are carried to where they are used: they arrive, they are served, and nothing else is touched, whatever
//! fails on the way and whatever dies in between (invariants E5, E6, I8).

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::nginx::Nginx;
use testkit::sshd::Sshd;
use testkit::stand_ins::aws::acm::StoredCertificate;
use testkit::stand_ins::aws::{AwsStandIn, Fault, REGION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use x509::Certificate;

use crate::api::Api;
use crate::random::Random;
use crate::site::{PATIENCE, Server, Site, block_on};

const SYNCS: &str = "/api/v1/pki/syncs";
const CONNECTIONS: &str = "/api/v1/app-connections";
const ISSUED: &str = "/api/v3/pki/certificates";
const RECORDS: &str = "/api/v1/cert-manager/certificates";

fn start(site: &Site, places: &std::path::Path) -> Server {
    let mut command = site.serve(&["--local-commands", "--egress-allow", "127.0.0.0/8"]);
    command.arg("--local-directories").arg(places);
    site.start_as(command)
}

async fn make(api: &Api, path: &str, body: Value) -> Value {
    api.post(path, &body).await.unwrap().ok()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

async fn links(api: &Api, sync: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    loop {
        let path = format!("{SYNCS}/{sync}/certificates?limit=100&offset={}", all.len());
        let page = api.get(&path).await.unwrap().ok();
        let page = page["certificates"].as_array().unwrap();
        all.extend(page.iter().map(|one| (text(&one["certificateId"]), one.clone())));
        if page.len() < 100 {
            return all;
        }
    }
}

/// Waits until a link has a status.
async fn until(api: &Api, sync: &str, certificate: &str, status: &str) -> Value {
    let begun = Instant::now();
    loop {
        let links = links(api, sync).await;
        match links.get(certificate) {
            Some(link) if link["syncStatus"] == status => return link.clone(),
            other => assert!(begun.elapsed() < PATIENCE, "not {status}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What nginx serves, as another program sees it.
fn served(port: u16) -> Certificate {
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "www.example.com"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(client.stdout).unwrap();
    let begin = said.find("-----BEGIN CERTIFICATE").unwrap_or_else(|| panic!("{said}"));
    let end = said.find("-----END CERTIFICATE-----").unwrap() + "-----END CERTIFICATE-----".len();
    Certificate::from_pem(&said[begin..end]).unwrap()
}

/// A certificate goes to a host by SSH, where nginx serves it; the served one follows its renewal, and a reload that fails
/// takes nothing away.
pub fn the_served_certificate_follows(site: &Site) {
    let (tls, sshd) = (site.path("tls"), Sshd::start(&[]));
    std::fs::create_dir(&tls).unwrap();
    let server = start(site, &tls);
    block_on(async {
        let api = Api::log_in(site, &server).await;
        let credentials =
            json!({"host": "127.0.0.1", "port": sshd.port(), "username": sshd.user(), "privateKey": sshd.client_key()});
        let connection = json!({"name": "web-1", "method": "ssh-key", "credentials": credentials});
        let connection = make(&api, &format!("{CONNECTIONS}/ssh"), connection).await["appConnection"].take();
        let pinned = text(&connection["credentials"]["hostKey"]);
        assert!(sshd.host_keys().contains(&pinned), "{pinned}");
        let first = api.issue(site, "www.example.com").await;
        let options = |command: &str, port: u16| {
            json!({"certificateNameSchema": "{{commonName}}", "combineCertificateChain": true, "canRemoveCertificates": true,
                "postSyncCommand": command, "prove": {"timeoutSeconds": 20, "addresses":
                    [{"host": "127.0.0.1", "port": port, "serverName": "www.example.com"}]}})
        };
        let body = json!({"name": "web-1", "connectionId": connection["id"], "destinationConfig": {"destinationPath": tls},
            "syncOptions": {"certificateNameSchema": "{{commonName}}", "combineCertificateChain": true},
            "certificateIds": [first["certificateId"]]});
        let sync = text(&make(&api, &format!("{SYNCS}/linux-server"), body).await["id"]);
        let id = text(&first["certificateId"]);
        until(&api, &sync, &id, "succeeded").await;
        let nginx = Nginx::start(&tls.join("www.example.com.pem"), &tls.join("www.example.com.key"));
        let of = |answer: &Value| Certificate::from_pem(&text(&answer["certificate"])).unwrap();
        assert_eq!(served(nginx.port()).as_der(), of(&first).as_der());

        let change = |command: &str| json!({"syncOptions": options(command, nginx.port())});
        let place = format!("{SYNCS}/linux-server/{sync}");
        api.patch(&place, &change(&nginx.reload_command())).await.unwrap().ok();
        let renewed = make(&api, &format!("{ISSUED}/{id}/renew"), json!({})).await;
        let next = text(&renewed["certificateId"]);
        until(&api, &sync, &next, "proven").await;
        assert_eq!(served(nginx.port()).as_der(), of(&renewed).as_der());

        // A reload that fails: the files are as they were, the served certificate is, and everybody is told.
        api.patch(&place, &change("echo the reload broke >&2; exit 3")).await.unwrap().ok();
        let again = make(&api, &format!("{ISSUED}/{next}/renew"), json!({})).await;
        let last = text(&again["certificateId"]);
        let link = until(&api, &sync, &last, "failed").await;
        assert!(text(&link["lastSyncMessage"]).contains("the reload broke"), "{link}");
        let shown = api.get(&format!("{SYNCS}/{sync}")).await.unwrap().ok();
        assert!(matches!(shown["syncStatus"].as_str(), Some("failed" | "running" | "pending")), "{shown}");
        let there = std::fs::read_to_string(tls.join("www.example.com.pem")).unwrap();
        assert!(there.starts_with(text(&renewed["certificate"]).trim()), "the files are as they were");
        assert_eq!(served(nginx.port()).as_der(), of(&renewed).as_der());
        api.patch(&place, &change(&nginx.reload_command())).await.unwrap().ok();
        make(&api, &format!("{place}/sync"), json!({})).await;
        until(&api, &sync, &last, "proven").await;
        assert_eq!(served(nginx.port()).as_der(), of(&again).as_der());

        // A certificate that is not served within its time stays delivered, and the link says what is served.
        let stuck = json!({"syncOptions": {"certificateNameSchema": "{{commonName}}", "combineCertificateChain": true,
            "canRemoveCertificates": true, "prove": {"timeoutSeconds": 2, "addresses": [{"host": "127.0.0.1", "port": nginx.port()}]}}});
        api.patch(&place, &stuck).await.unwrap().ok();
        let unseen = make(&api, &format!("{ISSUED}/{last}/renew"), json!({})).await;
        let id = text(&unseen["certificateId"]);
        let begun = Instant::now();
        let serial = text(&again["serialNumber"]);
        loop {
            let link = until(&api, &sync, &id, "succeeded").await;
            if text(&link["lastSyncMessage"]).contains(&serial) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{link}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }

        // What is revoked goes.
        let body = json!({"revocationReason": "SUPERSEDED"});
        make(&api, &format!("{RECORDS}/{id}/revoke"), body).await;
        let begun = Instant::now();
        while std::fs::read_dir(&tls).unwrap().count() > 0 || !links(&api, &sync).await.is_empty() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    server.stop();
    site.check_clean();
}

/// What was done to a destination full of look-alikes.
#[derive(Debug, Default)]
pub struct Done {
    pub operations: usize,
    pub kills: usize,
    pub faults: usize,
    pub delivered: usize,
}

/// Links, unlinks, renews and revokes certificates at random while the destination fails in every way and the server is
/// killed; at the end ours are there as wanted and nothing else was touched. What is being replaced is never missing.
pub fn look_alikes_stay(site: &Site, operations: usize, look_alikes: usize, kills: usize, seed: u64) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let aws = runtime.block_on(AwsStandIn::start());
    let mut done = Done::default();
    let mut random = Random::new(seed);
    let places = site.path("places");
    std::fs::create_dir(&places).unwrap();
    let mut server = start(site, &places);
    let (sync, pattern) = runtime.block_on(async {
        let api = Api::log_in(site, &server).await;
        let (id, secret) = aws.access_key();
        let credentials = json!({"accessKeyId": id, "secretAccessKey": secret, "endpointUrl": aws.url()});
        let connection = json!({"name": "cloud", "method": "access-key", "credentials": credentials});
        let connection = make(&api, &format!("{CONNECTIONS}/aws"), connection).await;
        let body = json!({"name": "cloud", "connectionId": connection["appConnection"]["id"],
            "destinationConfig": {"region": REGION}});
        let sync = text(&make(&api, &format!("{SYNCS}/aws-certificate-manager"), body).await["id"]);
        (sync, api.issue(site, "www.example.com").await)
    });
    // The same names, the same tags, the same common name; only the ledger tells them from ours.
    let strangers: BTreeMap<String, StoredCertificate> = (0..look_alikes)
        .map(|at| {
            let tags = BTreeMap::from([
                ("InfisicalCertificate".to_owned(), format!("Infisical-{at:032x}")),
                ("chancery-object".to_owned(), format!("00000000-0000-7000-8000-{at:012x}")),
            ]);
            let (certificate, key) = (text(&pattern["certificate"]), text(&pattern["privateKey"]));
            let stranger = StoredCertificate { certificate, chain: String::new(), key, tags };
            (aws.with_certificates(|store| store.seed(stranger.clone())), stranger)
        })
        .collect();
    let aws = Arc::new(aws);
    let (guarded, is_over) = (Arc::new(Mutex::new(BTreeSet::<String>::new())), Arc::new(AtomicBool::new(false)));
    let guard = {
        let (aws, guarded, is_over) = (aws.clone(), guarded.clone(), is_over.clone());
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let arns = guarded.lock().unwrap();
                let missing = aws.with_certificates(|store| arns.iter().find(|arn| !store.has(arn)).cloned());
                assert_eq!(missing, None, "an object that is to be there was missing");
                drop(arns);
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    };
    let mut wanted: Vec<String> = Vec::new();
    for round in 0..operations {
        let is_killed = kills > 0 && round % (operations / kills).max(1) == operations / kills / 2;
        runtime.block_on(async {
            let api = Api::log_in(site, &server).await;
            one_operation(&api, site, &aws, &sync, &mut wanted, &guarded, &mut random, &mut done).await;
            if is_killed {
                tokio::time::sleep(Duration::from_millis(random.below(300) as u64)).await;
            }
        });
        done.operations += 1;
        if is_killed {
            server.kill();
            server = start(site, &places);
            done.kills += 1;
        }
    }
    runtime.block_on(async {
        aws.forget_faults();
        let api = Api::log_in(site, &server).await;
        settle(&api, &aws, &sync, &wanted, &strangers, &mut done).await;
    });
    is_over.store(true, Ordering::Relaxed);
    guard.join().unwrap();
    server.stop();
    site.check_clean();
    done
}

/// Links, unlinks, renews, revokes, runs, or lets the destination fail.
#[expect(clippy::too_many_arguments, reason = "one operation of a test on everything that it is about")]
async fn one_operation(
    api: &Api,
    site: &Site,
    aws: &AwsStandIn,
    sync: &str,
    wanted: &mut Vec<String>,
    guarded: &Mutex<BTreeSet<String>>,
    random: &mut Random,
    done: &mut Done,
) {
    const CERTIFICATES_MAX: usize = 30;
    const OPERATIONS: [&str; 6] = [
        "ImportCertificate",
        "DeleteCertificate",
        "GetCertificate",
        "ListCertificates",
        "DescribeCertificate",
        "ListTagsForCertificate",
    ];
    let certificates = format!("{SYNCS}/{sync}/certificates");
    match random.below(10) {
        0..=3 if wanted.len() < CERTIFICATES_MAX => {
            let id = text(&api.issue(site, "www.example.com").await["certificateId"]);
            make(api, &certificates, json!({"certificateIds": [id]})).await;
            wanted.push(id);
        }
        4..=5 if !wanted.is_empty() => {
            let at = random.below(wanted.len());
            let link = links(api, sync).await.remove(&wanted[at]);
            if let Some(arn) = link.and_then(|link| link["externalIdentifier"].as_str().map(str::to_owned)) {
                guarded.lock().unwrap().insert(arn);
            }
            let renewed = make(api, &format!("{ISSUED}/{}/renew", wanted[at]), json!({})).await;
            wanted[at] = text(&renewed["certificateId"]);
        }
        6 if !wanted.is_empty() => {
            let id = wanted.swap_remove(random.below(wanted.len()));
            // From now on nothing of it needs to be there; which object that is, only the server knows.
            guarded.lock().unwrap().clear();
            if random.below(2) == 0 {
                make(api, &format!("{RECORDS}/{id}/revoke"), json!({"revocationReason": "SUPERSEDED"})).await;
            } else {
                let body = json!({"certificateIds": [id]});
                crate::api::Answer::of(api.request(reqwest::Method::DELETE, &certificates).json(&body))
                    .await
                    .unwrap()
                    .ok();
            }
        }
        7..=8 => {
            let fault = match random.below(4) {
                0 => Fault::Refuses(409, "ConflictException"),
                1 => Fault::FailsAfter,
                2 => Fault::Refuses(500, "InternalFailure"),
                _ => Fault::DeniesExistence,
            };
            let operation = OPERATIONS[random.below(OPERATIONS.len())];
            aws.fail(operation, fault, 1 + random.below(2));
            done.faults += 1;
        }
        _ => {
            make(api, &format!("{SYNCS}/aws-certificate-manager/{sync}/sync"), json!({})).await;
        }
    }
}

/// Waits until the destination holds what is wanted and nothing else of ours, and sees that the rest is as it was.
async fn settle(
    api: &Api,
    aws: &AwsStandIn,
    sync: &str,
    wanted: &[String],
    strangers: &BTreeMap<String, StoredCertificate>,
    done: &mut Done,
) {
    let begun = Instant::now();
    loop {
        make(api, &format!("{SYNCS}/aws-certificate-manager/{sync}/sync"), json!({})).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let all = links(api, sync).await;
        let there = aws.certificates();
        for (arn, stranger) in strangers {
            assert_eq!(there.get(arn), Some(stranger), "a look-alike was touched: {arn}");
        }
        let ours: BTreeSet<&String> = there.keys().filter(|arn| !strangers.contains_key(*arn)).collect();
        let linked: BTreeSet<&String> = all.keys().collect();
        let is_settled = linked == wanted.iter().collect()
            && all.values().all(|link| link["syncStatus"] == "succeeded")
            && ours.len() == wanted.len();
        if is_settled {
            for link in all.values() {
                let arn = text(&link["externalIdentifier"]);
                let stored = Certificate::from_pem(&there[&arn].certificate).unwrap();
                let serial: String = stored.serial_content().iter().map(|octet| format!("{octet:02x}")).collect();
                assert!(text(&link["certificateSerialNumber"]).ends_with(serial.trim_start_matches("00")), "{link}");
            }
            done.delivered = wanted.len();
            return;
        }
        let failed: Vec<&Value> = all.values().filter(|link| link["syncStatus"] != "succeeded").collect();
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{} linked, {} wanted, {} of ours there; {failed:?}",
            linked.len(),
            wanted.len(),
            ours.len()
        );
    }
}

/// Twenty destinations, of which one does not answer and one is slow: how long the others took, and how much the memory of
/// the server grew, in MiB.
pub fn twenty_destinations(site: &Site, certificates: usize) -> (Duration, i64) {
    const DESTINATIONS: usize = 20;
    let places = site.path("places");
    std::fs::create_dir(&places).unwrap();
    let server = start(site, &places);
    block_on(async {
        let api = Api::log_in(site, &server).await;
        let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slow_port = slow.local_addr().unwrap().port();
        tokio::spawn(answer_slowly(slow));
        let mut ids = Vec::new();
        for at in 0..certificates {
            ids.push(text(&api.issue(site, &format!("host-{at}.example.com")).await["certificateId"]));
        }
        let before = server.process.peak_memory_kib();
        let mut syncs = Vec::new();
        for (at, part) in ids.chunks(certificates.div_ceil(DESTINATIONS)).enumerate() {
            let (destination, mut body) = match at {
                0 | 1 => {
                    let port = if at == 0 { 1 } else { slow_port };
                    let connection = json!({"name": format!("hook-{at}"), "method": "hmac",
                        "credentials": {"url": format!("http://127.0.0.1:{port}/"), "signingSecret": "known to both"}});
                    let connection = make(&api, &format!("{CONNECTIONS}/webhook"), connection).await;
                    ("webhook", json!({"connectionId": connection["appConnection"]["id"], "destinationConfig": {}}))
                }
                _ => {
                    let place = places.join(at.to_string());
                    std::fs::create_dir(&place).unwrap();
                    (
                        "local-directory",
                        json!({"destinationConfig": {"destinationPath": place},
                        "syncOptions": {"certificateNameSchema": "{{commonName}}"}}),
                    )
                }
            };
            body["name"] = format!("place-{at}").into();
            body["certificateIds"] = json!(part);
            syncs.push((at, text(&make(&api, &format!("{SYNCS}/{destination}"), body).await["id"]), part.len()));
        }
        let begun = Instant::now();
        for (at, sync, count) in syncs.iter().skip(2) {
            loop {
                let shown = api.get(&format!("{SYNCS}/{sync}")).await.unwrap().ok();
                if shown["syncStatus"] == "succeeded" {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "place-{at}: {shown}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(std::fs::read_dir(places.join(at.to_string())).unwrap().count(), count * 3, "place-{at}");
        }
        let took = begun.elapsed();
        let dead = api.get(&format!("{SYNCS}/{}", syncs[0].1)).await.unwrap().ok();
        assert_eq!(dead["syncStatus"], "failed", "{dead}");
        assert!(text(&dead["lastSyncMessage"]).contains("127.0.0.1"), "{dead}");
        (took, (server.process.peak_memory_kib() - before) / 1024)
    })
}

/// A server that takes two seconds for each answer.
async fn answer_slowly(listener: tokio::net::TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut octets = [0; 16 * 1024];
            while stream.read(&mut octets).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(Duration::from_secs(2)).await;
                if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                    return;
                }
            }
        });
    }
}
