//! Backups of a server that works, restored again and again (invariant I17): what was acknowledged before a backup is
//! in it, what later lists say is read back, numbers of lists only grow, and no serial number comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use x509::{Crl, RevocationReason, SerialNumber};

use crate::api::{Answer, Api, ISSUE, issue_body};
use crate::random::Random;
use crate::site::{Ran, Site, block_on};
use crate::withdrawal::{list, names, number};

/// How often, and how long the server works before and after each backup at most.
pub struct Plan {
    pub restores: usize,
    pub load_millis_max: usize,
    pub seed: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub restores: usize,
    /// Certificates that clients received, and those of them that no backup had.
    pub issued: usize,
    pub lost: usize,
    /// Revocations that were acknowledged, and those that were read back from lists.
    pub revoked: usize,
    pub read_back: usize,
    /// Certificates that only a list knows.
    pub unknown: usize,
    /// The numbers of the issuing authority's list after each restore.
    pub list_numbers: Vec<u64>,
}

const CLIENTS: usize = 4;

/// Certificates that are looked at one by one after each restore.
const LOOKED_AT: usize = 40;

/// What clients know.
#[derive(Default)]
struct History {
    /// By serial number: the answer, and when it came.
    issued: BTreeMap<String, (Value, Instant)>,
    revoked: BTreeMap<String, Instant>,
    /// Serial numbers that came more than once.
    twice: Vec<String>,
}

pub fn run(site: &Site, plan: &Plan) -> Seen {
    block_on(rounds(site, plan))
}

async fn rounds(site: &Site, plan: &Plan) -> Seen {
    let mut random = Random::new(plan.seed);
    let mut seen = Seen::default();
    let mut serials = BTreeSet::new();
    site.start().stop();
    for round in 0..plan.restores {
        let server = site.start();
        let api = Api::log_in(site, &server).await;
        let history: Arc<Mutex<History>> = Arc::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|client| {
            let name = format!("b{round}-{client}");
            tokio::spawn(work(api.clone(), site.fact("/profiles/web-server"), name, history.clone(), is_over.clone()))
        });
        let clients: Vec<_> = clients.collect();
        let pause = || Duration::from_millis(100 + random.below(plan.load_millis_max) as u64);
        let pauses: Vec<Duration> = std::iter::repeat_with(pause).take(2).collect();
        tokio::time::sleep(pauses[0]).await;

        let before = Instant::now();
        let backup = site.path(&format!("backup-{round}"));
        let mut command = backup_command(site, &backup);
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(ran.status.success(), "{ran:?}");
        tokio::time::sleep(pauses[1]).await;
        let later = list(&api, site).await;
        let later_file = site.path(&format!("later-{round}.crl"));
        std::fs::write(&later_file, later.as_der()).unwrap();
        match random.below(2) {
            0 => server.kill(),
            _ => {
                is_over.store(true, Ordering::Relaxed);
                server.stop();
            }
        }
        for client in clients {
            client.await.unwrap();
        }

        let report = restore(site, &backup, &["--list", later_file.to_str().unwrap()]);
        site.check_clean();
        let server = site.start();
        assert_eq!(api_at(&api, &server.url).get("/api/v1/retention").await.unwrap().status, 401, "an old token");
        let api = Api::log_in(site, &server).await;
        let history = Arc::into_inner(history).unwrap().into_inner().unwrap();
        assert!(history.twice.is_empty(), "{:?}", history.twice);
        let kept = check_certificates(&api, site, &history, before).await;
        let now = check_list(&api, site, &history, &later, before).await;
        for serial in history.issued.keys() {
            assert!(serials.insert(serial.clone()), "{serial} was given twice");
        }
        seen.restores += 1;
        seen.issued += history.issued.len();
        seen.lost += history.issued.len() - kept;
        seen.revoked += history.revoked.len();
        seen.read_back += report["revoked"].as_array().unwrap().len();
        seen.unknown += report["unknown"].as_array().unwrap().len();
        assert!(seen.list_numbers.last().is_none_or(|last| *last < now), "{:?} {now}", seen.list_numbers);
        seen.list_numbers.push(now);
        server.stop();
        site.check_clean();
    }
    assert_eq!(site.count("SELECT COUNT(*) - COUNT(DISTINCT serial) FROM certificates"), 0);
    seen
}

/// The same token at another address.
fn api_at(api: &Api, url: &str) -> Api {
    Api { url: url.to_owned(), ..api.clone() }
}

/// What makes a backup of a site.
pub fn backup_command(site: &Site, to: &std::path::Path) -> std::process::Command {
    match site.database_url() {
        None => site.command(&["backup", to.to_str().unwrap()]),
        Some(url) => {
            let mut command = testkit::postgres::client("pg_dump");
            command.arg("--format=custom").arg(format!("--file={}", to.display())).arg(url);
            command
        }
    }
}

/// Restores a site, and gives the report.
#[track_caller]
pub fn restore(site: &Site, backup: &std::path::Path, arguments: &[&str]) -> Value {
    let ran = match site.database_url() {
        None => {
            let mut command = site.command(&["restore", backup.to_str().unwrap(), "--replace", "--json"]);
            command.args(arguments);
            Ran::of(command)
        }
        Some(url) => {
            site.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
            let mut command = testkit::postgres::client("pg_restore");
            command.args(["--single-transaction", "--exit-on-error", "--no-owner", "--dbname", url]).arg(backup);
            let ran = Ran::of(command);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let mut command = site.command(&["restore", "--finish", "--json"]);
            command.args(arguments);
            Ran::of(command)
        }
    };
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.out).unwrap()
}

/// One client: issues, and revokes every other of its own. Ends when the server does.
async fn work(api: Api, profile: String, name: String, history: Arc<Mutex<History>>, is_over: Arc<AtomicBool>) {
    let api = Api { client: crate::api::new_client(), ..api };
    let reasons = [RevocationReason::Superseded, RevocationReason::KeyCompromise, RevocationReason::CertificateHold];
    for turn in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let body = issue_body(&profile, &format!("{name}-{turn}.example.com"));
        let Ok(answer) = api.post(ISSUE, &body).await else { return };
        let answer = answer.ok();
        let serial = answer["serialNumber"].as_str().unwrap().to_owned();
        let id = answer["certificateId"].as_str().unwrap().to_owned();
        {
            let mut history = history.lock().unwrap();
            if history.issued.insert(serial.clone(), (answer, Instant::now())).is_some() {
                history.twice.push(serial.clone());
            }
        }
        if turn % 2 == 1 {
            let path = format!("/api/v1/cert-manager/certificates/{id}/revoke");
            let body = json!({"revocationReason": reasons[turn / 2 % reasons.len()].as_str()});
            let Ok(answer) = api.post(&path, &body).await else { return };
            answer.ok();
            history.lock().unwrap().revoked.insert(serial, Instant::now());
        }
    }
}

/// What was acknowledged before the backup began is there byte for byte. Gives how many are there at all.
async fn check_certificates(api: &Api, site: &Site, history: &History, before: Instant) -> usize {
    let mut in_time: Vec<&Value> = Vec::new();
    let mut kept = 0;
    let there = serials_of(site);
    for (serial, (answer, at)) in &history.issued {
        let is_there = there.contains(serial);
        kept += usize::from(is_there);
        if *at < before {
            assert!(is_there, "{serial} was acknowledged before the backup and is not in it");
            in_time.push(answer);
        }
    }
    for answer in in_time.iter().rev().take(LOOKED_AT) {
        let base = format!("/api/v1/cert-manager/certificates/{}", answer["certificateId"].as_str().unwrap());
        let stored = Answer::ok(api.get(&format!("{base}/certificate")).await.unwrap());
        assert_eq!(stored["certificate"], answer["certificate"]);
    }
    kept
}

/// The serial numbers of the inventory, in hex.
fn serials_of(site: &Site) -> BTreeSet<String> {
    let text = match site.is_sqlite() {
        true => site.text("SELECT group_concat(hex(serial), ' ') FROM certificates"),
        false => site.text("SELECT string_agg(encode(serial, 'hex'), ' ') FROM certificates"),
    };
    let octets = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    text.split(' ').map(|hex| SerialNumber::from_integer(&octets(hex)).unwrap().to_hex()).collect()
}

/// The list is a later one than any before, and names what was revoked before the backup and what the later list named.
/// Gives its number.
async fn check_list(api: &Api, site: &Site, history: &History, later: &Crl, before: Instant) -> u64 {
    let now = list(api, site).await;
    assert!(number(&now) > number(later), "{} {}", number(&now), number(later));
    assert!(now.this_update() >= later.this_update());
    for entry in later.entries() {
        let found = now.find(entry.serial_content).expect("what a later list names is on the next one");
        assert_eq!((found.reason_code, found.revoked_at), (entry.reason_code, entry.revoked_at));
    }
    for (serial, at) in &history.revoked {
        if *at < before {
            assert!(names(&now, serial), "{serial} was revoked before the backup");
        }
    }
    number(&now)
}

/// The folder or file of a backup that was made of a stopped server.
pub fn backup_of(site: &Site, name: &str) -> PathBuf {
    let to = site.path(name);
    let ran = Ran::of(backup_command(site, &to));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    to
}
