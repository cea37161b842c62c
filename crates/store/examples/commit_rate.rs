//! How many commits a second each engine keeps, by the number of callers that wait at a time.
//!
//! One commit is what an issued certificate costs: a row of about a kilobyte with a unique serial and two indexes, a
//! guard on the authority, and an audit record. It measures; it is not a test.
//!
//! `cargo run --release -p store --example commit_rate -- sqlite FILE` or `-- postgres URL`, each time a new database.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use store::{AuditRecord, Changes, Db, Settings, Statement};
use uuid::Uuid;

const TIME: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let settings = match arguments.as_slice() {
        [engine, path] if engine == "sqlite" => Settings::sqlite(path),
        [engine, url] if engine == "postgres" => Settings::postgres(url),
        _ => {
            eprintln!("give: sqlite FILE, or: postgres URL");
            std::process::exit(2);
        }
    };
    let db = Db::open(&settings).await.expect("the database opens");
    db.set_audit_key([1; 32]);
    create(&db).await;
    println!("callers   commits/s   per batch   p50 µs   p99 µs");
    let next = Arc::new(AtomicI64::new(1));
    for callers in [1, 4, 16, 64, 256] {
        let before = db.statistics();
        let until = Instant::now() + TIME;
        let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(call(db.clone(), next.clone(), until))).collect();
        let mut times = vec![];
        for task in tasks {
            times.extend(task.await.expect("a caller does not panic"));
        }
        times.sort_unstable();
        let after = db.statistics();
        let commits = after.commits - before.commits;
        let batches = (after.batches - before.batches).max(1);
        println!(
            "{callers:7}   {:9.0}   {:9.1}   {:6}   {:6}",
            commits as f64 / TIME.as_secs_f64(),
            commits as f64 / batches as f64,
            times.get(times.len() / 2).map_or(0, Duration::as_micros),
            times.get(times.len() * 99 / 100).map_or(0, Duration::as_micros),
        );
    }
    db.close().await;
}

async fn create(db: &Db) {
    let types =
        if db.engine_name() == "sqlite" { ("INTEGER PRIMARY KEY", "BLOB") } else { ("BIGINT PRIMARY KEY", "BYTEA") };
    let (key, blob) = types;
    for sql in [
        format!("CREATE TABLE rate_authorities (id {key}, status TEXT NOT NULL)"),
        "INSERT INTO rate_authorities (id, status) VALUES (1, 'active')".into(),
        format!(
            "CREATE TABLE rate_certificates (pk {key}, id {blob} NOT NULL UNIQUE, project {blob} NOT NULL, \
             serial {blob} NOT NULL UNIQUE, common_name TEXT NOT NULL, not_after BIGINT NOT NULL, der {blob} NOT NULL)"
        ),
        "CREATE INDEX rate_certificates_project ON rate_certificates (project, pk)".into(),
    ] {
        let statement = Statement::new(Box::leak(sql.into_boxed_str()), vec![]);
        db.commit(Changes::new().statement(statement)).await.expect("a new database");
    }
}

/// Commits one after the other until the time is over, and gives how long each took.
async fn call(db: Db, next: Arc<AtomicI64>, until: Instant) -> Vec<Duration> {
    let mut times = vec![];
    while Instant::now() < until {
        let pk = next.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        db.commit(changes(pk)).await.expect("nothing stands against it");
        times.push(since.elapsed());
    }
    times
}

fn changes(pk: i64) -> Changes {
    let id = Uuid::now_v7();
    let guard = "SELECT id FROM rate_authorities WHERE id = $1 AND status = 'active' FOR SHARE";
    let insert = "INSERT INTO rate_certificates (pk, id, project, serial, common_name, not_after, der) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let name = format!("host-{pk}.example.com");
    let serial = Uuid::new_v4();
    let params = vec![
        pk.into(),
        id.into(),
        [1; 16].into(),
        serial.into(),
        name.into(),
        1_900_000_000_000_i64.into(),
        vec![0x30; 700].into(),
    ];
    Changes::new()
        .statement(Statement::new(guard, vec![1.into()]).expect_one("the authority is active"))
        .statement(Statement::new(insert, params))
        .audit(AuditRecord {
            at_millis: pk,
            organization: Some(Uuid::from_u128(1)),
            project: Some(Uuid::from_u128(2)),
            actor_kind: "identity",
            actor_id: Some(Uuid::from_u128(3)),
            actor_method: "universal-auth",
            actor_credential: Some(Uuid::from_u128(4)),
            actor_address: Some("192.0.2.1".into()),
            event: "certificate.issued",
            object_kind: "certificate",
            object_id: Some(id),
            detail: "{}".into(),
        })
}
