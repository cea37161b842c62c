//! What holds of a commit and of a value, whatever the engine.

use crate::{ids, one, open, prepare, record, settings, thing};
use std::task::{Context, Poll};
use store::{Changes, Db, Settings, Statement, StoreError, Value};
use testkit::both_engines;

/// Runs a test on SQLite in a file, on PostgreSQL, and on SQLite in memory.
fn on_each<F: Future<Output = ()>>(test: impl Fn(Db) -> F) {
    both_engines(async |engine| test(open(&engine).await).await);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let db = Db::open(&Settings::sqlite_in_memory()).await.unwrap();
        prepare(&db).await;
        test(db).await;
    });
}

fn conflict(constraint: &str) -> Result<(), StoreError> {
    Err(StoreError::Conflict { constraint: constraint.into() })
}

#[test]
fn all_of_a_change_is_kept_or_nothing() {
    on_each(async |db| {
        db.commit(Changes::new().statement(thing(1, "a")).statement(thing(2, "b"))).await.unwrap();
        let second_fails = Changes::new().statement(thing(3, "c")).statement(thing(4, "a")).audit(record(5));
        assert_eq!(db.commit(second_fails).await, conflict("things_name_key"));
        let stale = Statement::new("UPDATE things SET text = $1 WHERE id = $2", vec!["x".into(), 99.into()]);
        let second_is_stale = Changes::new().statement(thing(5, "e")).statement(stale.expect_one("the thing is there"));
        assert_eq!(db.commit(second_is_stale).await, Err(StoreError::Stale("the thing is there")));
        assert_eq!(ids(&db).await, [1, 2]);
        assert_eq!(db.highest_time().await.unwrap(), None);
    });
}

#[test]
fn a_change_that_fails_takes_no_other_with_it() {
    on_each(async |db| {
        // More failures than are taken out of a batch one by one.
        let commits = (0..60).map(|id| {
            let name = if id % 3 == 0 { "same".to_owned() } else { format!("thing {id}") };
            let changes =
                Changes::new().statement(thing(id, &name)).statement(thing(id + 1000, &format!("other {id}")));
            let db = db.clone();
            tokio::spawn(async move { db.commit(changes.audit(record(id))).await })
        });
        let mut kept = 0;
        for commit in commits.collect::<Vec<_>>() {
            match commit.await.unwrap() {
                Ok(()) => kept += 1,
                error => assert_eq!(error, conflict("things_name_key")),
            }
        }
        assert_eq!(kept, 41);
        assert_eq!(ids(&db).await.len(), 82);
        let records = db.row("SELECT COUNT(*) FROM audit_records", vec![]).await.unwrap().unwrap();
        assert_eq!(records.int(0).unwrap(), 41);
        let statistics = db.statistics();
        assert_eq!((statistics.commits, statistics.failures), (42, 19));
    });
}

#[test]
fn one_row_means_exactly_one() {
    on_each(async |db| {
        db.commit(Changes::new().statement(thing(1, "a")).statement(thing(2, "b"))).await.unwrap();
        let check = async |sql: &'static str, holds: bool| {
            let statement = Statement::new(sql, vec![]).expect_one("one");
            let expected = if holds { Ok(()) } else { Err(StoreError::Stale("one")) };
            assert_eq!(db.commit(Changes::new().statement(statement)).await, expected, "{sql}");
        };
        check("UPDATE things SET text = 'x' WHERE id = 1", true).await;
        check("UPDATE things SET text = 'x' WHERE id = 1 RETURNING id", true).await;
        check("SELECT id FROM things WHERE id = 1 FOR SHARE", true).await;
        check("SELECT id FROM things WHERE id = 9 FOR UPDATE", false).await;
        check("UPDATE things SET text = 'all'", false).await;
        check("UPDATE things SET text = 'all' RETURNING id", false).await;
        check("DELETE FROM things WHERE id = 9", false).await;
        let rows = db.rows("SELECT id FROM things WHERE text = 'all'", vec![]).await.unwrap();
        assert_eq!(rows.len(), 0);
    });
}

#[test]
fn a_conflict_names_the_constraint() {
    on_each(async |db| {
        let create = |sql| one(sql, vec![]);
        for sql in [
            "CREATE TABLE parents (id BIGINT NOT NULL, a TEXT NOT NULL, b TEXT, PRIMARY KEY (id), UNIQUE (a, b))",
            "CREATE TABLE children (parent BIGINT NOT NULL REFERENCES parents (id), \
             CONSTRAINT children_parent_small CHECK (parent < 100))",
            "CREATE UNIQUE INDEX parents_b ON parents (b) WHERE b IS NOT NULL",
            "CREATE UNIQUE INDEX parents_lower_a ON parents (lower(a))",
            "INSERT INTO parents (id, a, b) VALUES (1, 'a', 'b')",
        ] {
            db.commit(create(sql)).await.unwrap();
        }
        let check = async |sql: &'static str, constraint: &str| {
            assert_eq!(db.commit(one(sql, vec![])).await, conflict(constraint), "{sql}");
        };
        check("INSERT INTO parents (id, a, b) VALUES (1, 'c', 'd')", "parents_pkey").await;
        check("INSERT INTO parents (id, a, b) VALUES (2, 'c', 'b')", "parents_b").await;
        check("INSERT INTO parents (id, a, b) VALUES (2, 'A', 'd')", "parents_lower_a").await;
        check("INSERT INTO parents (id, a, b) VALUES (2, NULL, 'd')", "parents.a").await;
        check("INSERT INTO children (parent) VALUES (9)", "foreign key").await;
        check("INSERT INTO children (parent) VALUES (100)", "children_parent_small").await;
        check("INSERT INTO things (id) VALUES (1), (1)", "things_pkey").await;
        db.commit(create("DROP INDEX parents_b")).await.unwrap();
        db.commit(create("DROP INDEX parents_lower_a")).await.unwrap();
        check("INSERT INTO parents (id, a, b) VALUES (2, 'a', 'b')", "parents_a_b_key").await;
    });
}

#[test]
fn values_come_back_as_they_were() {
    on_each(async |db| {
        let texts = ["", "'\";--$$", "$1", "%_\\", "é\u{1F512}\u{FEFF}", "line\nline\r\n\t", &"x".repeat(100_000)];
        let blobs: [&[u8]; 4] = [&[], &[0], &[0, 255, 39, 34], &[9; 100_000]];
        let integers = [i64::MIN, -1, 0, 1, 1 << 53, i64::MAX];
        let mut cases: Vec<(Value, Value, Value)> = vec![(Value::Int(0), Value::Null, Value::Null)];
        cases.extend(texts.iter().enumerate().map(|(id, text)| ((id as i64 + 10).into(), (*text).into(), Value::Null)));
        cases.extend(blobs.iter().enumerate().map(|(id, blob)| ((id as i64 + 30).into(), Value::Null, (*blob).into())));
        cases.extend(integers.iter().filter(|id| **id != 0).map(|id| ((*id).into(), Value::Null, Value::Null)));
        for (id, text, octets) in cases {
            let params = vec![id.clone(), text.clone(), octets.clone()];
            db.commit(one("INSERT INTO things (id, text, octets) VALUES ($1, $2, $3)", params)).await.unwrap();
            // The order of the parameters is that of their numbers, not that of the text.
            let sql = "SELECT id, text, octets FROM things WHERE COALESCE(text, '') = COALESCE($2, '') AND id = $1";
            let row = db.row(sql, vec![id.clone(), text.clone()]).await.unwrap().unwrap();
            assert_eq!(row.into_values(), [id, text, octets]);
        }
    });
}

#[test]
fn a_value_that_one_engine_cannot_keep_is_refused_by_both() {
    on_each(async |db| {
        let insert = "INSERT INTO things (id, text, octets) VALUES (1, $1, $2)";
        let check = async |text: Value, octets: Value| {
            let refused = db.commit(one(insert, vec![text, octets])).await;
            assert!(matches!(refused, Err(StoreError::Engine(_))), "{refused:?}");
        };
        check("a\0b".into(), Value::Null).await;
        check(Value::Null, vec![0; store::VALUE_LENGTH_MAX + 1].into()).await;
        assert!(matches!(db.rows("SELECT $1", vec!["a\0b".into()]).await, Err(StoreError::Engine(_))));
        assert!(ids(&db).await.is_empty());
        db.commit(one(insert, vec![Value::Null, vec![0; store::VALUE_LENGTH_MAX].into()])).await.unwrap();
    });
}

#[test]
fn a_wrong_statement_fails_alone_and_harms_nothing() {
    on_each(async |db| {
        let check = async |sql: &'static str, params: Vec<Value>| {
            let changes = Changes::new().statement(thing(1, "a")).statement(Statement::new(sql, params.clone()));
            assert!(matches!(db.commit(changes).await, Err(StoreError::Engine(_))), "{sql}");
            assert!(matches!(db.rows(sql, params).await, Err(StoreError::Engine(_))), "{sql}");
        };
        check("SELECT FROM WHERE", vec![]).await;
        check("SELECT id FROM nothing", vec![]).await;
        check("SELECT id FROM things WHERE id = $1", vec![]).await;
        check("SELECT id FROM things WHERE id = $1", vec![1.into(), 2.into()]).await;
        check("SELECT \"not a string\"", vec![]).await;
        assert!(ids(&db).await.is_empty());
        db.commit(Changes::new().statement(thing(1, "a"))).await.unwrap();
    });
}

#[test]
fn a_query_cannot_write() {
    on_each(async |db| {
        let sql = "INSERT INTO things (id, name) VALUES (1, 'a') RETURNING id";
        let refused = db.rows(sql, vec![]).await;
        assert!(matches!(refused, Err(StoreError::Engine(_))), "{refused:?}");
        assert!(ids(&db).await.is_empty());
    });
}

#[test]
fn like_tells_upper_from_lower_case() {
    on_each(async |db| {
        db.commit(Changes::new().statement(thing(1, "Name")).statement(thing(2, "name"))).await.unwrap();
        let rows = db.rows("SELECT id FROM things WHERE name LIKE $1", vec!["n%".into()]).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].int(0).unwrap(), 2);
    });
}

#[test]
fn commits_that_come_together_are_committed_together() {
    on_each(async |db| {
        let before = db.statistics();
        let commits = (0..200).map(|id| {
            let db = db.clone();
            tokio::spawn(async move { db.commit(Changes::new().statement(thing(id, &id.to_string()))).await })
        });
        for commit in commits.collect::<Vec<_>>() {
            commit.await.unwrap().unwrap();
        }
        let after = db.statistics();
        assert_eq!(ids(&db).await.len(), 200);
        assert_eq!(after.commits - before.commits, 200);
        assert_eq!(after.statements - before.statements, 200);
        assert!(after.batches - before.batches <= 100, "{} batches", after.batches - before.batches);
    });
}

#[test]
fn a_commit_whose_caller_went_away_is_kept() {
    on_each(async |db| {
        let mut commit = Box::pin(db.commit(Changes::new().statement(thing(1, "a"))));
        // Polled once, so it is on its way; then nobody waits for it.
        let poll = |context: &mut Context<'_>| Poll::Ready(commit.as_mut().poll(context).map(Result::unwrap));
        // In memory it may be done by then.
        let _: Poll<()> = std::future::poll_fn(poll).await;
        drop(commit);
        db.commit(Changes::new().statement(thing(2, "b"))).await.unwrap();
        assert_eq!(ids(&db).await, [1, 2]);
    });
}

#[test]
fn the_epoch_grows_with_the_configuration_only() {
    on_each(async |db| {
        let start = db.configuration_epoch();
        db.commit(Changes::new().statement(thing(1, "a"))).await.unwrap();
        assert_eq!(db.configuration_epoch(), start);
        db.commit(Changes::new().statement(thing(2, "b")).configuration()).await.unwrap();
        let second = db.configuration_epoch();
        assert!(second > start);
        assert_eq!(db.commit(Changes::new().statement(thing(2, "b")).configuration()).await, conflict("things_pkey"));
        assert_eq!(db.configuration_epoch(), second);
        db.commit(Changes::new().with(Changes::new().configuration())).await.unwrap();
        assert!(db.configuration_epoch() > second);
    });
}

#[test]
fn the_highest_time_never_goes_back() {
    on_each(async |db| {
        for (at, expected) in [(5, 5), (9, 9), (7, 9)] {
            db.commit(Changes::new().audit(record(at))).await.unwrap();
            assert_eq!(db.highest_time().await.unwrap(), Some(expected));
        }
    });
}

#[test]
fn an_audited_commit_without_a_key_is_refused() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        let refused = db.commit(Changes::new().audit(record(1))).await;
        assert!(matches!(refused, Err(StoreError::Engine(_))), "{refused:?}");
        db.set_audit_key([1; 32]);
        db.commit(Changes::new().audit(record(1))).await.unwrap();
    });
}

#[test]
fn a_closed_database_answers_that_it_is() {
    on_each(async |db| {
        let waiting: Vec<_> = (0..20)
            .map(|id| {
                let db = db.clone();
                tokio::spawn(async move { db.commit(Changes::new().statement(thing(id, &id.to_string()))).await })
            })
            .collect();
        tokio::task::yield_now().await;
        db.clone().close().await;
        for commit in waiting {
            // Of one that was handed over as the committer ended nobody says what became of it.
            let outcome = commit.await.unwrap();
            let is_told = matches!(outcome, Ok(()) | Err(StoreError::Unavailable(_) | StoreError::Unknown(_)));
            assert!(is_told, "{outcome:?}");
        }
        let late = db.commit(Changes::new().statement(thing(100, "late"))).await;
        assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
        let late = db.rows("SELECT id FROM things", vec![]).await;
        assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    });
}

#[test]
fn opening_again_finds_everything_and_migrates_nothing() {
    both_engines(async |engine| {
        let db = open(&engine).await;
        db.commit(Changes::new().statement(thing(1, "a")).audit(record(3)).configuration()).await.unwrap();
        let applied = "SELECT version, applied_at, checksum FROM schema_migrations ORDER BY version";
        let (migrations, epoch) = (db.rows(applied, vec![]).await.unwrap(), db.configuration_epoch());
        db.close().await;
        let db = Db::open(&settings(&engine)).await.unwrap();
        assert_eq!(ids(&db).await, [1]);
        assert_eq!(db.rows(applied, vec![]).await.unwrap(), migrations);
        assert_eq!(db.configuration_epoch(), epoch);
        assert_eq!(db.highest_time().await.unwrap(), Some(3));
        assert_eq!(db.integrity_problems().await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_newer_and_an_edited_schema_are_refused() {
    both_engines(async |engine| {
        let check = async |break_it: &'static str, mend_it: &'static str, expected: fn(&StoreError) -> bool| {
            let db = Db::open(&settings(&engine)).await.unwrap();
            db.commit(one(break_it, vec![])).await.unwrap();
            let reader = Db::open_read_only(&settings(&engine)).await.err().unwrap();
            assert!(expected(&reader), "{reader}");
            db.clone().close().await;
            let error = Db::open(&settings(&engine)).await.err().unwrap();
            assert!(expected(&error), "{error}");
            crate::repair(&engine, mend_it).await;
        };
        check(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (9999, 'later', '', 0)",
            "DELETE FROM schema_migrations WHERE version = 9999",
            |error| matches!(error, StoreError::SchemaTooNew { found: 9999, .. }),
        )
        .await;
        check(
            "UPDATE schema_migrations SET checksum = 'x' || checksum WHERE version = 0",
            "UPDATE schema_migrations SET checksum = substr(checksum, 2) WHERE version = 0",
            |error| matches!(error, StoreError::Refused(why) if why.contains("0000_engine")),
        )
        .await;
        Db::open(&settings(&engine)).await.unwrap();
    });
}

#[test]
fn a_reader_sees_what_a_running_server_commits_and_cannot_write() {
    both_engines(async |engine| {
        let db = open(&engine).await;
        let reader = Db::open_read_only(&settings(&engine)).await.unwrap();
        db.commit(Changes::new().statement(thing(1, "a"))).await.unwrap();
        assert_eq!(ids(&reader).await, [1]);
        let refused = reader.commit(Changes::new().statement(thing(2, "b"))).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        let refused = reader.rows("INSERT INTO things (id) VALUES (3) RETURNING id", vec![]).await;
        assert!(matches!(refused, Err(StoreError::Engine(_))), "{refused:?}");
        assert_eq!(ids(&db).await, [1]);
    });
}
