//! An inventory of ten million certificates: its lists, searches, counts and the rate of issuing, beside the same with ten
//! thousand, in one run.
//!
//! The inventory is filled in the database directly, as that many certificates would have got there, without keys and with
//! one certificate's DER; what is measured goes through the server's socket.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, params};
use serde_json::{Value, json};

use crate::http::Connection;
use crate::latency::Latencies;
use crate::load::{self, Answer, Measured, Schedule, Workload};
use crate::place::Place;
use crate::requests::{self, Caller};
use crate::server::{Engine, Installation, Server};
use crate::{Outcome, commit, cores, kernel, process, processor, saying};

/// Rows that are put in at a time.
const CHUNK: u64 = 100_000;
/// Different domains of the names.
const FLEETS: u64 = 500;
/// One certificate in so many is revoked.
const REVOKED: u64 = 100;
/// One certificate in so many has a key of another kind.
const RARE: u64 = 2_000;
/// A day in milliseconds.
const DAY: i64 = 86_400_000;
/// The lifetimes end between so many days ago and as many from now on.
const DAYS: u64 = 90;

#[derive(clap::Args)]
pub struct Options {
    /// Certificates in the large inventory.
    #[arg(long, default_value_t = 10_000_000)]
    count: u64,
    /// Certificates in the small one.
    #[arg(long, default_value_t = 10_000)]
    beside: u64,
    /// Requests of each kind.
    #[arg(long, default_value_t = 60)]
    requests: u64,
    /// Measured seconds of issuing.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Connections that issue.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    place: Place,
}

/// What was measured of one inventory.
struct Column {
    certificates: u64,
    rows: Vec<(&'static str, Latencies)>,
    issue: Measured,
    octets: u64,
    filling: Duration,
    start: Duration,
    resident_kib: u64,
}

/// Measures, prints and writes the report.
pub fn run(options: &Options) -> Outcome<()> {
    let binary = options.place.server()?;
    let folder = options.place.folder()?;
    let runtime = load::generator(options.threads)?;
    let mut columns = Vec::new();
    for certificates in [options.beside, options.count] {
        let place = folder.path().join(certificates.to_string());
        std::fs::create_dir(&place).map_err(saying("a data folder"))?;
        columns.push(runtime.block_on(installation(options, &binary, &place, certificates))?);
        std::fs::remove_dir_all(&place).map_err(saying("a data folder"))?;
    }
    let page = page(options, &columns);
    options.place.report("inventory", &page)
}

async fn installation(options: &Options, binary: &Path, folder: &Path, certificates: u64) -> Outcome<Column> {
    let installation = Installation::new(binary, folder, Engine::Sqlite);
    let mut server = installation.start()?;
    let bootstrap = installation.bootstrap(&mut server)?;
    let issued = requests::issued(&server.plain(), &bootstrap).await?;
    server.stop()?;
    let before = installation.octets_on_disk()?;
    eprintln!("filling the inventory with {certificates} certificates");
    let begun = Instant::now();
    let database = installation.data().join("chancery.db");
    fill(&database, &issued, certificates).map_err(saying("filling the inventory"))?;
    let filling = begun.elapsed();

    // What the engine notes about its tables when it is closed is there from then on.
    let mut server = installation.start()?;
    installation.bootstrap(&mut server)?;
    server.stop()?;
    let octets = installation.octets_on_disk()?.saturating_sub(before);
    let mut server = installation.start()?;
    let bootstrap = installation.bootstrap(&mut server)?;
    let start = server.first_answer;
    let rows = lists(options, &server, &bootstrap, certificates).await?;
    let issue = issuing(options, &server, &bootstrap).await?;
    let resident_kib = process::resident_kib(server.pid())?;
    server.stop()?;
    Ok(Column { certificates, rows, issue, octets, filling, start, resident_kib })
}

/// A number that is unlike those of its neighbours.
fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn name(number: u64) -> String {
    format!("n{:08x}.fleet-{}.example.com", spread(number) >> 32, number % FLEETS)
}

/// Certificates with names, serial numbers and lifetimes of their own, oldest first.
fn fill(database: &Path, issued: &Value, count: u64) -> rusqlite::Result<()> {
    let mut database = Database::open(database)?;
    database.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1500000; PRAGMA foreign_keys = OFF;")?;
    let id = issued["certificateId"].as_str().unwrap_or_default().replace('-', "");
    let group: i64 =
        database
            .query_row("SELECT group_id FROM certificates WHERE lower(hex(id)) = ?1", params![id], |row| row.get(0))?;
    // Indexes are made anew at the end, in one go.
    let indexes: Vec<(String, String)> = {
        let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'certificates' AND sql IS NOT NULL";
        let mut select = database.prepare(sql)?;
        let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.collect::<rusqlite::Result<_>>()?
    };
    for (index, _) in &indexes {
        database.execute_batch(&format!("DROP INDEX {index}"))?;
    }
    database.execute(
        "INSERT INTO certificate_groups (space, project_id, authority_id, profile_id, key_algorithm, signature_algorithm,
         extended_key_usages)
         SELECT space, project_id, authority_id, profile_id, 'EC_secp384r1', signature_algorithm, extended_key_usages
         FROM certificate_groups WHERE id = ?1",
        params![group],
    )?;
    let rare = database.last_insert_rowid();
    for fleet in 0..FLEETS {
        database.execute(
            "INSERT INTO certificate_domains (space, domain) SELECT space, ?2 FROM certificate_groups WHERE id = ?1",
            params![group, format!("fleet-{fleet}.example.com")],
        )?;
    }
    let now = jiff::Timestamp::now().as_millisecond();
    for first in (0..count).step_by(CHUNK as usize) {
        chunk(&mut database, &id, [group, rare], now, first..(first + CHUNK).min(count), count)?;
    }
    for (_, sql) in &indexes {
        database.execute_batch(sql)?;
    }
    database.execute_batch(
        "DELETE FROM certificate_counts;
         INSERT INTO certificate_counts (group_id, status, day, node, certificates)
         SELECT group_id, status, not_after / 86400000, 0, COUNT(*) FROM certificates WHERE group_id IS NOT NULL
         GROUP BY group_id, status, not_after / 86400000;
         UPDATE certificate_count SET counted_to = (SELECT MAX(pk) FROM certificates);
         PRAGMA wal_checkpoint(TRUNCATE);",
    )
}

fn chunk(
    database: &mut Database,
    id: &str,
    [group, rare]: [i64; 2],
    now: i64,
    numbers: std::ops::Range<u64>,
    count: u64,
) -> rusqlite::Result<()> {
    let of: i64 =
        database.query_row("SELECT pk FROM certificates WHERE lower(hex(id)) = ?1", params![id], |row| row.get(0))?;
    let transaction = database.transaction()?;
    {
        let mut insert = transaction.prepare(
            "INSERT INTO certificates (id, project_id, profile_id, profile_version, policy_version, authority_id,
             authority_key_id, authority_certificate_id, issuer_name_id, serial, shard, status, common_name, alt_names,
             not_before, not_after, is_listed, details, created_at, der, space, group_id, domain_id)
             SELECT ?2, project_id, profile_id, profile_version, policy_version, authority_id, authority_key_id,
             authority_certificate_id, issuer_name_id, ?3, shard, ?4, ?5, alt_names, ?6, ?7, is_listed, details, ?6,
             der, space, ?8, (SELECT d.id FROM certificate_domains d WHERE d.space = c.space AND d.domain = ?9)
             FROM certificates c WHERE c.pk = ?1",
        )?;
        let mut revoke = transaction.prepare(
            "INSERT INTO revocations (authority_key_id, serial, project_id, shard, not_after, reason, revoked_at, changed_at)
             SELECT authority_key_id, ?2, project_id, shard, ?3, 4, ?4, ?4 FROM certificates WHERE pk = ?1",
        )?;
        for number in numbers {
            let mixed = spread(number);
            // The oldest began half a year ago; how long each lives differs.
            let age = (2 * DAYS) as i64 * DAY / count.max(1) as i64 * (count - number) as i64;
            let created = now - age;
            let ends = (now - DAYS as i64 * DAY + (mixed >> 16) as i64 % (2 * DAYS as i64 * DAY)) / 1000 * 1000;
            let mut serial = [7_u8; 20];
            serial[..8].copy_from_slice(&mixed.to_be_bytes());
            serial[0] = serial[0] & 0x7f | 0x01;
            serial[8..16].copy_from_slice(&number.to_be_bytes());
            // An id grows with time, as the server's do.
            let mut row = [0x70_u8; 16];
            row[..6].copy_from_slice(&created.to_be_bytes()[2..]);
            row[8..].copy_from_slice(&mixed.to_be_bytes());
            let is_revoked = number % REVOKED == 7;
            let of_group = if number % RARE == 3 { rare } else { group };
            let domain = format!("fleet-{}.example.com", number % FLEETS);
            insert.execute(params![of, row, serial, is_revoked, name(number), created, ends, of_group, domain])?;
            if is_revoked {
                revoke.execute(params![of, serial, ends, created])?;
            }
        }
    }
    transaction.commit()
}

/// What is asked, by what it is called; the number makes each request another one.
fn questions(certificates: u64, number: u64) -> Vec<(&'static str, Value)> {
    let some = spread(number + 1) % certificates.max(1);
    let now = jiff::Timestamp::now();
    let at = |days: i64| {
        let time = now + jiff::SignedDuration::from_hours(24 * days);
        json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    };
    let host = name(some);
    let serial = format!("{:016x}", (spread(some) & 0x7fff_ffff_ffff_ffff) | 0x0100_0000_0000_0000);
    vec![
        ("first page, newest first", json!({})),
        ("page at offset 10,000 of all", json!({"offset": 9_000 + number % 1_000})),
        ("first page, those that end soonest", json!({"status": "active", "sortBy": "notAfter", "sortOrder": "asc"})),
        ("first page, by name", json!({"sortBy": "commonName", "sortOrder": "asc"})),
        ("active, oldest first", json!({"status": "active", "sortOrder": "asc"})),
        ("expired, newest first", json!({"status": "expired"})),
        ("revoked, newest first", json!({"status": "revoked"})),
        ("by CA and profile algorithm", json!({"keyAlgorithm": "EC_secp384r1"})),
        ("one host by its name", json!({"search": host})),
        ("beginning of a name", json!({"search": host[..6]})),
        ("label of a domain, active", json!({"search": format!("fleet-{}", 10 + number % 40), "status": "active"})),
        ("label that all names have", json!({"search": "example"})),
        (
            "common name of a fleet, ends soonest",
            json!({
            "commonName": format!("fleet-{}", 100 + number % 400), "sortBy": "notAfter", "sortOrder": "asc"}),
        ),
        ("serial number", json!({"search": serial})),
        (
            "ends within a day",
            json!({"notAfterFrom": at(number as i64 % 60), "notAfterTo": at(number as i64 % 60 + 1)}),
        ),
        ("issued within a week, long ago", json!({"fromDate": at(-100), "toDate": at(-93)})),
    ]
}

async fn lists(
    options: &Options,
    server: &Server,
    bootstrap: &Value,
    certificates: u64,
) -> Outcome<Vec<(&'static str, Latencies)>> {
    let target = server.plain();
    let caller = Caller::login(&target, bootstrap).await?;
    let mut connection = Connection::open(&target).await.map_err(saying("the server"))?;
    let mut rows = Vec::new();
    let names: Vec<&str> = questions(certificates, 0).into_iter().map(|(name, _)| name).collect();
    for (at, name) in names.into_iter().enumerate() {
        let requests = (0..options.requests).map(|number| {
            let body = questions(certificates, number).swap_remove(at).1;
            caller.post(&target, "/api/v1/cert-manager/certificates/search", &body)
        });
        rows.push((name, measured(&mut connection, requests.collect(), name).await?));
    }
    for (name, path) in [
        ("counts by status, CA and profile", "/api/v1/cert-manager/certificates/counts"),
        ("ends of 90 days", "/api/v1/cert-manager/certificates/expiry-histogram"),
    ] {
        let requests = (0..options.requests).map(|_| caller.get(&target, path)).collect();
        rows.push((name, measured(&mut connection, requests, name).await?));
    }
    Ok(rows)
}

/// One request after the other; what the first ones load into memory is not measured.
async fn measured(connection: &mut Connection, requests: Vec<Vec<u8>>, name: &'static str) -> Outcome<Latencies> {
    let mut microseconds = Vec::with_capacity(requests.len());
    for (number, request) in requests.iter().take(3).chain(&requests).enumerate() {
        let begun = Instant::now();
        let reply = connection.exchange(request).await.map_err(saying(name))?;
        if reply.status != 200 {
            return Err(format!("{name}: {} {}", reply.status, String::from_utf8_lossy(reply.body)));
        }
        if number >= 3 {
            microseconds.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    let latencies = Latencies::new(microseconds);
    eprintln!("{name}: p50 {:.1} ms, max {:.1} ms", latencies.milliseconds_at(500), latencies.milliseconds_at(1000));
    Ok(latencies)
}

async fn issuing(options: &Options, server: &Server, bootstrap: &Value) -> Outcome<Measured> {
    let target = server.plain();
    let caller = Caller::login(&target, bootstrap).await?;
    let requests = caller.issue(&target, "EC_prime256v1");
    let workload = [Workload { requests, connections: options.connections, answer: Answer::Certificate }];
    let schedule = Schedule { warm_up: Duration::from_secs(2), measured: Duration::from_secs(options.seconds) };
    let (mut measured, _) = load::run(&target, &workload, schedule, server.pid()).await?;
    let measured = measured.pop().ok_or("no measurement")?;
    match &measured.first_error {
        Some(error) => Err(format!("{} errors, the first: {error}", measured.errors)),
        None => Ok(measured),
    }
}

fn page(options: &Options, columns: &[Column]) -> String {
    let mut page = format!(
        "# Inventory\n\n- {} UTC, commit {}\n- {} cores of {}, {}\n- SQLite; {} requests of each kind, one after the other; issuing \
         on {} connections for {} s\n\nMilliseconds (aim: 80 for each page)\n\n| what |",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M"),
        commit(),
        cores(),
        processor(),
        kernel(),
        options.requests,
        options.connections,
        options.seconds,
    );
    for column in columns {
        page += &format!(" {0}: p50 | p99 | max |", column.certificates);
    }
    page += "\n|---|";
    page += &"---:|---:|---:|".repeat(columns.len());
    for at in 0..columns.first().map_or(0, |column| column.rows.len()) {
        page += &format!("\n| {} |", columns[0].rows[at].0);
        for column in columns {
            let at = |per_mille| column.rows[at].1.milliseconds_at(per_mille);
            page += &format!(" {:.1} | {:.1} | {:.1} |", at(500), at(990), at(1000));
        }
    }
    page += "\n\n| certificates | issued per second | p50 ms | p99 ms | octets on disk for each | first answer ms | MiB held | filled in s |\n\
             |---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for column in columns {
        let at = |per_mille| column.issue.latencies.milliseconds_at(per_mille);
        page += &format!(
            "| {} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            column.certificates,
            column.issue.rate,
            at(500),
            at(990),
            column.octets as f64 / column.certificates.max(1) as f64,
            column.start.as_secs_f64() * 1000.0,
            column.resident_kib as f64 / 1024.0,
            column.filling.as_secs_f64(),
        );
    }
    if let [small, large] = columns {
        page += &format!(
            "\nIssuing with {} certificates takes {:.2} times as long as with {} (aim: 1.2).\n",
            large.certificates,
            small.issue.rate / large.issue.rate,
            small.certificates,
        );
    }
    page
}
