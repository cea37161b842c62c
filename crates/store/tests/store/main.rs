//! The store on both engines. One program, so that it is linked once.
#![allow(clippy::unwrap_used)]

mod audit_chain;
mod engine;
mod jobs;
mod pgbouncer;
mod postgres;
mod sqlite;

use store::{AuditRecord, Changes, Db, Settings, Statement};
use testkit::TestEngine;
use uuid::Uuid;

/// The settings for a database of the testkit.
fn settings(engine: &TestEngine) -> Settings {
    match engine {
        TestEngine::SqlitePath(path) => Settings::sqlite(path),
        TestEngine::PostgresUrl(url) => Settings::postgres(url),
    }
}

/// An open database with the audit key set and a table of things: `id`, a unique `name`, `text`, `octets`.
async fn open(engine: &TestEngine) -> Db {
    let db = Db::open(&settings(engine)).await.unwrap();
    prepare(&db).await;
    db
}

async fn prepare(db: &Db) {
    db.set_audit_key(KEY);
    let create = match db.engine_name() {
        "sqlite" => "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT, octets BLOB)",
        _ => "CREATE TABLE things (id BIGINT PRIMARY KEY, name TEXT UNIQUE, text TEXT, octets BYTEA)",
    };
    db.commit(one(create, vec![])).await.unwrap();
}

const KEY: [u8; 32] = [7; 32];

/// One statement as a whole.
fn one(sql: &'static str, params: Vec<store::Value>) -> Changes {
    Changes::new().statement(Statement::new(sql, params))
}

/// A new thing.
fn thing(id: i64, name: &str) -> Statement {
    Statement::new("INSERT INTO things (id, name) VALUES ($1, $2)", vec![id.into(), name.into()])
}

/// The ids of all things.
async fn ids(db: &Db) -> Vec<i64> {
    let rows = db.rows("SELECT id FROM things ORDER BY id", vec![]).await.unwrap();
    rows.iter().map(|row| row.int(0).unwrap()).collect()
}

/// Runs one statement past the store, which would refuse the database.
async fn repair(engine: &TestEngine, sql: &str) {
    match engine {
        TestEngine::SqlitePath(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
        TestEngine::PostgresUrl(url) => {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(sql).await.unwrap();
        }
    }
}

/// What happened at a time.
fn record(at_millis: i64) -> AuditRecord {
    AuditRecord {
        at_millis,
        organization: Some(Uuid::from_u128(1)),
        project: None,
        actor_kind: "identity",
        actor_id: Some(Uuid::from_u128(2)),
        actor_method: "universal-auth",
        actor_credential: None,
        actor_address: Some("192.0.2.1".into()),
        event: "thing.made",
        object_kind: "thing",
        object_id: Some(Uuid::from_u128(3)),
        detail: "{}".into(),
    }
}
