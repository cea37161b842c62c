//! A million revoked certificates of one authority: how long its lists take, how much memory, and how long a revocation.
//!
//! The revocations are put into the database directly, as a million of them would have got there; what is measured goes
//! through the server's socket.

use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, params};
use serde_json::{Value, json};

use crate::http::{Connection, Target};
use crate::latency::Latencies;
use crate::place::Place;
use crate::requests::Caller;
use crate::server::{Engine, Installation, Server};
use crate::{Outcome, cores, kernel, process, processor, saying};

#[derive(clap::Args)]
pub struct Options {
    /// Revoked certificates in the authority.
    #[arg(long, default_value_t = 1_000_000)]
    revoked: u32,
    /// Certificates that name one list.
    #[arg(long, default_value_t = 25_000)]
    per_list: u32,
    /// Certificates that are revoked over the API, one after the other.
    #[arg(long, default_value_t = 3_000)]
    measured: usize,
    #[command(flatten)]
    place: Place,
}

/// Measures, prints and writes the report.
pub fn run(options: &Options) -> Outcome<()> {
    let binary = options.place.server()?;
    let folder = options.place.folder()?;
    let installation = Installation::new(&binary, folder.path(), Engine::Sqlite);
    let mut server = installation.start()?;
    let bootstrap = installation.bootstrap(&mut server)?;
    server.stop()?;
    eprintln!("filling the inventory with {} revocations", options.revoked);
    let database = folder.path().join("data").join("chancery.db");
    let lists = fill(&database, &bootstrap, options).map_err(saying("filling the inventory"))?;

    let mut server = installation.start()?;
    let bootstrap = installation.bootstrap(&mut server)?;
    std::thread::sleep(Duration::from_secs(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(saying("the load"))?;
    let page = runtime.block_on(measure(options, &server, &bootstrap, &lists))?;
    server.stop()?;
    options.place.report("revocation", &page)
}

/// The ids of the lists, the open one last.
fn fill(database: &std::path::Path, bootstrap: &Value, options: &Options) -> rusqlite::Result<Vec<String>> {
    let mut database = Database::open(database)?;
    let authority = bootstrap["issuingCaId"].as_str().unwrap_or_default().replace('-', "");
    let (key, project): (Vec<u8>, Vec<u8>) = database.query_row(
        "SELECT active_key_id, project_id FROM authorities WHERE lower(hex(id)) = ?1",
        params![authority],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let now = jiff::Timestamp::now().as_millisecond();
    let in_a_year = now + 365 * 24 * 60 * 60 * 1000;
    let transaction = database.transaction()?;
    let shards = options.revoked.div_ceil(options.per_list);
    for shard in 1..shards {
        transaction.execute(
            "INSERT INTO crls (id, project_id, authority_id, authority_key_id, shard, number)
             SELECT randomblob(16), project_id, authority_id, authority_key_id, ?2, 0 FROM crls
             WHERE authority_key_id = ?1 AND shard = 0",
            params![key, shard],
        )?;
    }
    {
        let mut insert = transaction.prepare(
            "INSERT INTO revocations (authority_key_id, serial, project_id, shard, not_after, reason, revoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 4, ?6)",
        )?;
        for number in 0..options.revoked {
            // Unique, positive, and as spread as random ones.
            let mut serial = [0_u8; 20];
            let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            serial[..8].copy_from_slice(&spread.to_be_bytes());
            serial[0] = serial[0] & 0x7f | 0x01;
            serial[8..12].copy_from_slice(&number.to_be_bytes());
            insert.execute(params![key, &serial[..], project, number / options.per_list, in_a_year, now])?;
        }
    }
    transaction.commit()?;
    let mut select = database.prepare("SELECT lower(hex(id)) FROM crls WHERE authority_key_id = ?1 ORDER BY shard")?;
    let ids = select.query_map(params![key], |row| row.get::<_, String>(0))?;
    ids.map(|id| {
        let id = id?;
        Ok(format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]))
    })
    .collect()
}

async fn measure(options: &Options, server: &Server, bootstrap: &Value, lists: &[String]) -> Outcome<String> {
    let target = server.plain();
    let caller = Caller::login(&target, bootstrap).await?;
    let idle = process::resident_kib(server.pid())?;
    let mut connection = Connection::open(&target).await.map_err(saying("the server"))?;

    eprintln!("signing {} lists", lists.len());
    let (mut slowest, mut all, mut octets) = (Duration::ZERO, Duration::ZERO, 0);
    for list in lists {
        let begun = Instant::now();
        let reply = connection.exchange(&target.get(&format!("/api/v1/pki/crl/{list}/der"))).await;
        let reply = reply.map_err(saying("a list"))?;
        if reply.status != 200 {
            return Err(format!("a list was answered with {}", reply.status));
        }
        octets += reply.body.len();
        slowest = slowest.max(begun.elapsed());
        all += begun.elapsed();
    }
    let after_lists = process::peak_kib(server.pid())?;

    eprintln!("revoking {} certificates", options.measured);
    let mut ids = Vec::with_capacity(options.measured);
    for request in caller.issue(&target, "EC_prime256v1").iter().cycle().take(options.measured) {
        let answer = read(&mut connection, request).await?;
        ids.push(answer["certificateId"].as_str().ok_or("an answer without certificateId")?.to_owned());
    }
    let mut microseconds = Vec::with_capacity(ids.len());
    for id in &ids {
        let path = format!("/api/v1/cert-manager/certificates/{id}/revoke");
        let request = caller.post(&target, &path, &json!({"revocationReason": "SUPERSEDED"}));
        let begun = Instant::now();
        read(&mut connection, &request).await?;
        microseconds.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    let revoked = Latencies::new(microseconds);
    let peak = process::peak_kib(server.pid())?;
    let seen = until_listed(&target, &mut connection, lists).await?;

    let mib = |kib: u64| kib as f64 / 1024.0;
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    Ok(format!(
        "# A million revoked certificates\n\n\
         - {} UTC\n- {} cores of {}, {}\n- SQLite, {} revoked certificates of one authority in {} lists\n\n\
         | what | measured | aim |\n|---|---:|---:|\n\
         | one list signed and fetched, the slowest | {:.0} ms | 1000 ms |\n\
         | all lists signed and fetched | {:.0} ms | |\n\
         | octets of one list | {} | |\n\
         | memory before, at the peak of the lists, at the peak of all | {:.0}, {:.0}, {:.0} MiB | 250 MB more |\n\
         | revocation, one connection, p50 | {:.2} ms | 1 ms |\n\
         | revocation, one connection, p99 | {:.2} ms | 5 ms |\n\
         | revocation, one connection, slowest | {:.2} ms | |\n\
         | from the last revocation to its list | {:.0} ms | 2000 ms |\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M"),
        cores(),
        processor(),
        kernel(),
        options.revoked,
        lists.len(),
        millis(slowest),
        millis(all),
        octets / lists.len().max(1),
        mib(idle),
        mib(after_lists),
        mib(peak),
        revoked.milliseconds_at(500),
        revoked.milliseconds_at(990),
        revoked.milliseconds_at(1000),
        millis(seen),
    ))
}

/// How long it takes until the open list does not change any more: the job that follows the last revocation is done.
async fn until_listed(target: &Target, connection: &mut Connection, lists: &[String]) -> Outcome<Duration> {
    let open = lists.last().ok_or("no list")?;
    let request = target.get(&format!("/api/v1/pki/crl/{open}/der"));
    let begun = Instant::now();
    let (mut last, mut changed) = (0, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(5) {
        let octets = connection.exchange(&request).await.map_err(saying("the list"))?.body.len();
        if octets != last {
            (last, changed) = (octets, begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(changed)
}

async fn read(connection: &mut Connection, request: &[u8]) -> Outcome<Value> {
    let reply = connection.exchange(request).await.map_err(saying("a request"))?;
    if reply.status != 200 {
        return Err(format!("a request was answered with {}: {}", reply.status, String::from_utf8_lossy(reply.body)));
    }
    serde_json::from_slice(reply.body).map_err(saying("an answer"))
}
