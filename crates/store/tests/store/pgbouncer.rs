//! Through a connection pool: what holds when it gives each client a session, and what is said when it does not.

use crate::{ids, prepare, record, thing};
use std::time::Duration;
use store::{Announcement, Changes, Db, Heard, Settings, StoreError};
use testkit::PrivateCluster;
use testkit::pgbouncer::PgBouncer;

#[tokio::test]
async fn a_pool_of_sessions_carries_everything() {
    let cluster = PrivateCluster::start(&[]);
    let mut pool = PgBouncer::start(&cluster.address(), "session");
    let settings = Settings::postgres(pool.url("postgres"));
    let first = Db::open(&settings).await.unwrap();
    prepare(&first).await;
    let second = Db::open(&settings.clone().with_node("second")).await.unwrap();
    // What is told is heard, and what is prepared is found again.
    let mut ear = second.listen().unwrap();
    assert_eq!(ear.next().await, Heard::Listening);
    for at in 0..20 {
        first
            .commit(
                Changes::new()
                    .statement(thing(at, &at.to_string()))
                    .audit(record(at))
                    .announce(Announcement::AccessEnds),
            )
            .await
            .unwrap();
        assert_eq!(ear.next().await, Heard::Told(Announcement::AccessEnds));
    }
    assert_eq!(ids(&second).await, (0..20).collect::<Vec<_>>());
    // A lock of a session is held for as long as it is kept.
    let held = first.hold_first_start().await.unwrap();
    let waiting = tokio::spawn({
        let second = second.clone();
        async move { second.hold_first_start().await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(held);
    waiting.await.unwrap().unwrap();
    // A pool that was started again is used again.
    pool.stop();
    let down = first.commit(Changes::new().statement(thing(20, "20"))).await;
    assert!(matches!(down, Err(StoreError::Unavailable(_))), "{down:?}");
    pool.start_again();
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.commit(Changes::new().statement(thing(21, "21"))).await.unwrap();
    assert_eq!(ids(&second).await.last(), Some(&21));
}

#[tokio::test]
async fn a_pool_that_shares_sessions_is_refused() {
    let cluster = PrivateCluster::start(&[]);
    for pool_mode in ["transaction", "statement"] {
        let pool = PgBouncer::start(&cluster.address(), pool_mode);
        match Db::open(&Settings::postgres(pool.url("postgres"))).await {
            Err(StoreError::Refused(why)) => assert!(why.contains("pool_mode = session"), "{pool_mode}: {why}"),
            other => panic!("{pool_mode}: {:?}", other.err()),
        }
    }
}

/// Somebody who reads has told a session of the pool that it changes nothing: that is not what an import is told.
#[tokio::test]
async fn an_import_through_a_pool_that_shares_sessions_is_told_so() {
    let cluster = PrivateCluster::start(&[]);
    let direct = Settings::postgres(cluster.url());
    Db::open(&direct).await.unwrap().close().await;
    let mut export = Vec::new();
    store::transfer::export(&direct, "test", "now", &mut export, |_, _| ()).await.unwrap();
    let pool = PgBouncer::start(&cluster.address(), "transaction");
    let pooled = Settings::postgres(pool.url("postgres"));
    for _ in 0..2 {
        match store::transfer::import(&pooled, &export[..], |_, _| ()).await {
            Err(StoreError::Refused(why)) => assert!(why.contains("pool_mode = session"), "{why}"),
            other => panic!("{other:?}"),
        }
        drop(Db::count_others(&pooled).await);
    }
}
