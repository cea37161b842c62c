//! What only a server that others use too can get wrong.

use crate::{KEY, ids, one, open, prepare, record, settings, thing};
use std::time::{Duration, Instant};
use store::audit_chain::{Verification, verify};
use store::{Announcement, Changes, Db, Heard, Settings, Statement, StoreError};
use testkit::{PrivateCluster, TestDatabase};
use uuid::Uuid;

#[tokio::test]
async fn settings_that_lose_commits_are_refused() {
    for setting in ["fsync", "full_page_writes"] {
        let cluster = PrivateCluster::start(&[&format!("{setting} = off")]);
        match Db::open(&Settings::postgres(cluster.url())).await {
            Err(StoreError::Refused(why)) => assert!(why.contains(setting), "{why}"),
            other => panic!("{:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn commits_are_synchronous_whatever_the_default_is() {
    let database = TestDatabase::postgres();
    let db = open(database.engine()).await;
    let name = "ALTER ROLE postgres IN DATABASE";
    let current = db.row("SELECT current_database()", vec![]).await.unwrap().unwrap();
    let sql = format!("{name} {} SET synchronous_commit = off", current.text(0).unwrap());
    db.commit(one(Box::leak(sql.into_boxed_str()), vec![])).await.unwrap();
    let later = Db::open(&settings(database.engine()).with_node("second")).await.unwrap();
    let read = later.row("SELECT current_setting('synchronous_commit')", vec![]).await.unwrap().unwrap();
    assert_eq!(read.text(0).unwrap(), "on");
}

#[tokio::test]
async fn another_node_sees_a_new_configuration_within_a_second() {
    let database = TestDatabase::postgres();
    let first = open(database.engine()).await;
    let second = Db::open(&settings(database.engine()).with_node("second")).await.unwrap();
    let before = second.configuration_epoch();
    first.commit(Changes::new().configuration()).await.unwrap();
    let since = Instant::now();
    while second.configuration_epoch() == before {
        assert!(since.elapsed() < Duration::from_secs(10), "the other node saw nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(second.configuration_epoch(), first.configuration_epoch());
}

#[tokio::test]
async fn nodes_that_start_together_migrate_once() {
    let database = TestDatabase::postgres();
    let settings = settings(database.engine());
    let starts: Vec<_> = (0..4)
        .map(|node| {
            let settings = settings.clone().with_node(format!("node {node}"));
            tokio::spawn(async move { Db::open(&settings).await })
        })
        .collect();
    for start in starts {
        let db = start.await.unwrap().unwrap();
        db.set_audit_key(KEY);
        db.commit(Changes::new().audit(record(1))).await.unwrap();
    }
    let reader = Db::open_read_only(&settings).await.unwrap();
    assert_eq!(verify(&reader, KEY).await.unwrap(), Verification::Whole { records: 4 });
}

#[tokio::test]
async fn two_processes_with_the_name_of_one_node_keep_one_chain() {
    let database = TestDatabase::postgres();
    let first = open(database.engine()).await;
    let second = Db::open(&settings(database.engine())).await.unwrap();
    second.set_audit_key(KEY);
    for at in 0..20 {
        let db = if at % 2 == 0 { &first } else { &second };
        db.commit(Changes::new().statement(thing(at, &at.to_string())).audit(record(at))).await.unwrap();
    }
    assert_eq!(verify(&first, KEY).await.unwrap(), Verification::Whole { records: 20 });
}

#[tokio::test]
async fn two_nodes_that_lock_in_opposite_order_both_commit() {
    let database = TestDatabase::postgres();
    let first = open(database.engine()).await;
    let second = Db::open(&settings(database.engine()).with_node("second")).await.unwrap();
    first.commit(Changes::new().statement(thing(1, "a")).statement(thing(2, "b"))).await.unwrap();
    let touch =
        |id: i64| Statement::new("UPDATE things SET text = 'x' WHERE id = $1", vec![id.into()]).expect_one("it is");
    let pause = || Statement::new("SELECT pg_sleep(0.3)", vec![]);
    let (one, other) = tokio::join!(
        first.commit(Changes::new().statement(touch(1)).statement(pause()).statement(touch(2))),
        second.commit(Changes::new().statement(touch(2)).statement(pause()).statement(touch(1))),
    );
    assert_eq!((one, other), (Ok(()), Ok(())));
}

#[tokio::test]
async fn batches_of_three_nodes_that_want_the_same_rows_all_commit() {
    const ROWS: i64 = 16;
    let database = TestDatabase::postgres();
    let first = open(database.engine()).await;
    let current = first.row("SELECT current_database()", vec![]).await.unwrap().unwrap();
    let soon = format!("ALTER DATABASE {} SET deadlock_timeout = '20ms'", current.text(0).unwrap());
    first.commit(one(Box::leak(soon.into_boxed_str()), vec![])).await.unwrap();
    for id in 0..ROWS {
        first.commit(Changes::new().statement(thing(id, &id.to_string()))).await.unwrap();
    }
    let mut clients = vec![];
    // Each node takes the rows in an order of its own, so batches wait for each other in a circle.
    for (node, step) in [("second", 1), ("third", 5), ("fourth", 11)] {
        let db = Db::open(&settings(database.engine()).with_node(node)).await.unwrap();
        for client in 0..ROWS {
            let db = db.clone();
            clients.push(tokio::spawn(async move {
                for turn in 0..20 {
                    let id = (client + turn) * step % ROWS;
                    let touch = Statement::new("UPDATE things SET text = 'x' WHERE id = $1", vec![id.into()]);
                    let pause = Statement::new("SELECT pg_sleep(0.002)", vec![]);
                    let changes = Changes::new().statement(touch.expect_one("it is")).statement(pause);
                    db.commit(changes).await?;
                }
                Ok::<_, StoreError>(())
            }));
        }
    }
    for client in clients {
        assert_eq!(client.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn a_server_that_crashes_and_comes_back_is_used_again() {
    let cluster = PrivateCluster::start(&[]);
    let db = Db::open(&Settings::postgres(cluster.url())).await.unwrap();
    prepare(&db).await;
    db.commit(Changes::new().statement(thing(1, "a")).audit(record(1))).await.unwrap();
    cluster.stop();
    let down = db.commit(Changes::new().statement(thing(2, "b")).audit(record(2))).await;
    assert!(matches!(down, Err(StoreError::Unavailable(_))), "{down:?}");
    let down = db.rows("SELECT id FROM things", vec![]).await;
    assert!(matches!(down, Err(StoreError::Unavailable(_))), "{down:?}");
    cluster.start_again();
    tokio::time::sleep(Duration::from_millis(300)).await;
    db.commit(Changes::new().statement(thing(3, "c")).audit(record(3))).await.unwrap();
    assert_eq!(ids(&db).await, [1, 3]);
    assert_eq!(verify(&db, KEY).await.unwrap(), Verification::Whole { records: 2 });
    // A connection that is found dead before anything was committed costs nobody anything.
    cluster.stop();
    cluster.start_again();
    db.commit(Changes::new().statement(thing(4, "d")).audit(record(4))).await.unwrap();
    assert_eq!(ids(&db).await, [1, 3, 4]);
}

#[tokio::test]
async fn what_is_announced_is_heard_once_it_is_committed() {
    let database = TestDatabase::postgres();
    let db = open(database.engine()).await;
    let other = Db::open(&settings(database.engine()).with_node("second")).await.unwrap();
    let mut ear = other.listen().unwrap();
    assert_eq!(ear.next().await, Heard::Listening);
    let letters = |last: u128| Announcement::Letters {
        node: "first".into(),
        first: Uuid::from_u128(1),
        last: Uuid::from_u128(last),
    };
    db.commit(Changes::new().statement(thing(1, "a")).announce(letters(1))).await.unwrap();
    let taken = db.commit(Changes::new().statement(thing(1, "b")).announce(letters(2))).await;
    assert!(matches!(taken, Err(StoreError::Conflict { .. })), "{taken:?}");
    // What is told twice in one transaction is heard once.
    let twice =
        Changes::new().announce(Announcement::AccessEnds).with(Changes::new().announce(Announcement::AccessEnds));
    db.commit(twice.statement(thing(3, "c"))).await.unwrap();
    db.commit(Changes::new().statement(thing(4, "d")).announce(letters(4))).await.unwrap();
    for expected in [letters(1), Announcement::AccessEnds, letters(4)] {
        assert_eq!(ear.next().await, Heard::Told(expected));
    }
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    db.row(cut, vec![]).await.unwrap();
    assert_eq!(ear.next().await, Heard::Listening);
    db.commit(Changes::new().statement(thing(5, "e")).announce(letters(5))).await.unwrap();
    assert_eq!(ear.next().await, Heard::Told(letters(5)));
}
