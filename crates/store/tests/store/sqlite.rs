//! What only a database file can get wrong.

use crate::{ids, one, open, record, settings, thing};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::{Changes, Db, Settings, StoreError};
use testkit::{TestDatabase, TestEngine};

fn path(database: &TestDatabase) -> &Path {
    match database.engine() {
        TestEngine::SqlitePath(path) => path,
        TestEngine::PostgresUrl(_) => unreachable!("the database is a file"),
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let database = TestDatabase::sqlite();
    let db = open(database.engine()).await;
    let file = path(&database);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let name = format!("{}{suffix}", file.display());
        assert_eq!(mode(Path::new(&name)), 0o600, "{name}");
    }
    db.close().await;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let db = Db::open(&settings(database.engine())).await.unwrap();
    assert_eq!(mode(file), 0o600);
    db.close().await;
}

#[tokio::test]
async fn a_second_server_on_one_file_is_refused_until_the_first_ends() {
    let database = TestDatabase::sqlite();
    let first = open(database.engine()).await;
    match Db::open(&settings(database.engine())).await {
        Err(StoreError::Refused(why)) => assert!(why.contains("another server"), "{why}"),
        other => panic!("{:?}", other.err()),
    }
    first.commit(Changes::new().statement(thing(1, "a"))).await.unwrap();
    drop(first);
    let second = Db::open(&settings(database.engine())).await.unwrap();
    assert_eq!(ids(&second).await, [1]);
}

#[tokio::test]
async fn a_writer_beside_the_server_keeps_its_own_chain_and_the_server_sees_its_configuration() {
    let database = TestDatabase::sqlite();
    let missing = Db::open_beside(&settings(database.engine())).await;
    assert!(matches!(missing, Err(StoreError::Unavailable(_))), "{:?}", missing.err());
    let server = open(database.engine()).await;
    let before = server.configuration_epoch();
    let maintenance = settings(database.engine()).with_node("maintenance");
    let writers = [Db::open_beside(&maintenance).await.unwrap(), Db::open_beside(&maintenance).await.unwrap()];
    for at in 0..30 {
        let db = [&server, &writers[0], &writers[1]][at as usize % 3];
        db.set_audit_key(crate::KEY);
        db.commit(Changes::new().statement(thing(at, &at.to_string())).audit(record(at))).await.unwrap();
    }
    for writer in writers {
        writer.commit(Changes::new().configuration()).await.unwrap();
        writer.close().await;
    }
    let since = std::time::Instant::now();
    while server.configuration_epoch() < before + 2 {
        assert!(since.elapsed().as_secs() < 10, "the server saw nothing");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.commit(Changes::new().audit(record(30))).await.unwrap();
    let verified = store::audit_chain::verify(&server, crate::KEY).await.unwrap();
    assert_eq!(verified, store::audit_chain::Verification::Whole { records: 31 });
}

#[tokio::test]
async fn closing_leaves_one_file() {
    let database = TestDatabase::sqlite();
    let db = open(database.engine()).await;
    db.commit(Changes::new().statement(thing(1, "a")).audit(record(1))).await.unwrap();
    db.close().await;
    let wal = format!("{}-wal", path(&database).display());
    assert_eq!(std::fs::metadata(wal).map_or(0, |file| file.len()), 0);
}

#[tokio::test]
async fn the_log_stays_short_while_commits_go_on() {
    const LONG: usize = 64 << 10;
    let database = TestDatabase::sqlite();
    let db = open(database.engine()).await;
    let long = "x".repeat(LONG);
    // 96 MiB in all, since the names stand in an index as well, and nearly always a commit that waits.
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (db, long) = (db.clone(), long.clone());
            tokio::spawn(async move {
                for id in writer * 96..(writer + 1) * 96 {
                    db.commit(Changes::new().statement(thing(id, &format!("{id}{long}")))).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let log = std::fs::metadata(format!("{}-wal", path(&database).display())).unwrap().len();
    assert!(log < 48 << 20, "{log} octets");
    db.close().await;
}

#[tokio::test]
async fn what_is_not_a_database_is_told_as_damage() {
    let database = TestDatabase::sqlite();
    std::fs::create_dir_all(path(&database).parent().unwrap()).unwrap();
    std::fs::write(path(&database), "not a database, but long enough to be taken for one".repeat(100)).unwrap();
    match Db::open(&settings(database.engine())).await {
        Err(StoreError::Corrupt(_)) => {}
        other => panic!("{:?}", other.err()),
    }
}

/// A full disk is made by a limit on the pages of the file.
#[tokio::test]
async fn without_room_commits_are_unavailable_and_nothing_is_half_made() {
    let db = Db::open(&Settings::sqlite_in_memory()).await.unwrap();
    crate::prepare(&db).await;
    db.commit(one("PRAGMA max_page_count = 500", vec![])).await.unwrap();
    let big = |id: i64| {
        let params = vec![id.into(), vec![1; 50_000].into()];
        let insert = store::Statement::new("INSERT INTO things (id, octets) VALUES ($1, $2)", params);
        Changes::new().statement(thing(id + 1000, &id.to_string())).statement(insert).audit(record(id))
    };
    let mut kept = 0;
    let full = loop {
        match db.commit(big(kept)).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Unavailable(_)), "{full:?}");
    assert!(kept > 0);
    assert_eq!(ids(&db).await.len() as i64, 2 * kept);
    db.commit(one("PRAGMA max_page_count = 2000", vec![])).await.unwrap();
    db.commit(big(kept)).await.unwrap();
    let verified = store::audit_chain::verify(&db, crate::KEY).await.unwrap();
    assert_eq!(verified, store::audit_chain::Verification::Whole { records: kept as u64 + 1 });
}
