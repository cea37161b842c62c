//! Whatever is done to the audit records behind the server's back shows.

use crate::{KEY, one, open, record, settings, thing};
use store::audit_chain::{Verification, verify};
use store::{Changes, Db};
use testkit::both_engines;

/// The first record of the first node.
const FIRST: i64 = (1 << 40) + 1;

#[test]
fn a_chain_that_nobody_touched_is_whole() {
    both_engines(async |engine| {
        let db = open(&engine).await;
        assert_eq!(verify(&db, KEY).await.unwrap(), Verification::Whole { records: 0 });
        // More than one page, several records in one change, changes that fail in between.
        let commits = (0..600).map(|id| {
            let failing = if id % 10 == 0 { 0 } else { id };
            let changes = Changes::new().statement(thing(failing, &format!("{failing}")));
            let db = db.clone();
            tokio::spawn(async move { db.commit(changes.audit(record(id)).audit(record(-id))).await })
        });
        let mut kept = 0;
        for commit in commits.collect::<Vec<_>>() {
            kept += u64::from(commit.await.unwrap().is_ok());
        }
        assert_eq!(kept, 541);
        assert_eq!(verify(&db, KEY).await.unwrap(), Verification::Whole { records: 1082 });
        db.close().await;

        // Also when it goes on after a restart, under this name and under another.
        for node in ["main", "second"] {
            let db = Db::open(&settings(&engine).with_node(node)).await.unwrap();
            db.set_audit_key(KEY);
            db.commit(Changes::new().audit(record(1))).await.unwrap();
            db.close().await;
        }
        let db = Db::open_read_only(&settings(&engine)).await.unwrap();
        assert_eq!(verify(&db, KEY).await.unwrap(), Verification::Whole { records: 1084 });
        let other = verify(&db, [8; 32]).await.unwrap();
        assert!(matches!(other, Verification::Broken { .. }), "{other:?}");
    });
}

#[test]
fn two_nodes_that_append_at_once_keep_two_chains() {
    both_engines(async |engine| {
        let first = open(&engine).await;
        let second = match first.engine_name() {
            // One server at a time.
            "sqlite" => first.clone(),
            _ => Db::open(&settings(&engine).with_node("second")).await.unwrap(),
        };
        second.set_audit_key(KEY);
        let commits = (0..100).map(|at| {
            let db = if at % 2 == 0 { first.clone() } else { second.clone() };
            tokio::spawn(async move { db.commit(Changes::new().audit(record(at))).await })
        });
        for commit in commits.collect::<Vec<_>>() {
            commit.await.unwrap().unwrap();
        }
        assert_eq!(verify(&first, KEY).await.unwrap(), Verification::Whole { records: 100 });
    });
}

#[test]
fn every_damage_is_found_where_it_is() {
    both_engines(async |engine| {
        let db = open(&engine).await;
        for at in 1..=5 {
            db.commit(Changes::new().audit(record(at))).await.unwrap();
        }
        let check = async |damage: &[&'static str], repair: &[&'static str], node_seq: i64, what: &str| {
            for sql in damage {
                db.commit(one(sql, vec![])).await.unwrap();
            }
            match verify(&db, KEY).await.unwrap() {
                Verification::Whole { .. } => panic!("not found: {damage:?}"),
                Verification::Broken { node_seq: found, what: found_what, .. } => {
                    assert_eq!((found, found_what), (node_seq, what), "{damage:?}");
                }
            }
            for sql in repair {
                db.commit(one(sql, vec![])).await.unwrap();
            }
            assert_eq!(verify(&db, KEY).await.unwrap(), Verification::Whole { records: 5 }, "{repair:?}");
        };
        // A copy to put back what was removed.
        db.commit(one("CREATE TABLE records_before AS SELECT * FROM audit_records", vec![])).await.unwrap();
        db.commit(one("CREATE TABLE heads_before AS SELECT * FROM audit_heads", vec![])).await.unwrap();
        let restore: &[&str] = &[
            "DELETE FROM audit_records",
            "INSERT INTO audit_records SELECT * FROM records_before",
            "DELETE FROM audit_heads",
            "INSERT INTO audit_heads SELECT * FROM heads_before",
        ];
        assert_eq!(FIRST, 1_099_511_627_777);

        check(&["UPDATE audit_records SET detail = '{ }' WHERE at = 3"], restore, 3, "the record was changed").await;
        check(&["UPDATE audit_records SET actor_id = NULL WHERE at = 1"], restore, 1, "the record was changed").await;
        check(&["UPDATE audit_records SET at = 6 WHERE at = 5"], restore, 5, "the record was changed").await;
        check(&["DELETE FROM audit_records WHERE at = 1"], restore, 1, "the record is missing").await;
        check(&["DELETE FROM audit_records WHERE at = 4"], restore, 4, "the record is missing").await;
        check(&["DELETE FROM audit_records WHERE at = 5"], restore, 5, "the record and those after it are missing")
            .await;
        check(&["DELETE FROM audit_records"], restore, 1, "the record and those after it are missing").await;
        // Two records change places.
        check(
            &[
                "UPDATE audit_records SET seq = 9 WHERE at = 2",
                "UPDATE audit_records SET seq = 1099511627778 WHERE at = 3",
                "UPDATE audit_records SET seq = 1099511627779 WHERE at = 2",
            ],
            restore,
            2,
            "the record was changed",
        )
        .await;
        // The end is cut off and the head made to fit.
        check(
            &[
                "DELETE FROM audit_records WHERE at = 5",
                "UPDATE audit_heads SET node_seq = 4, hash = (SELECT hash FROM audit_records WHERE at = 4)",
            ],
            restore,
            4,
            "the head was changed",
        )
        .await;
        check(&["DELETE FROM audit_heads"], restore, 1, "the record is of a node without a head").await;
        // A record that nobody wrote, after the last one.
        check(
            &["INSERT INTO audit_records SELECT 1099511627782, at, organization_id, project_id, actor_kind, actor_id, \
               actor_method, actor_credential, actor_address, event, object_kind, object_id, detail, hash \
               FROM records_before WHERE at = 5"],
            restore,
            6,
            "the record was changed",
        )
        .await;
    });
}
