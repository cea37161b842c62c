//! A schema that grows under servers that are at work (docs/upgrades.md): what only adds is lived with by servers that
//! do not know it, everything else is refused by them, and a migration that is killed goes on at the next start
//! (invariant I16).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::{Api, ISSUE, issue_body, new_client};
use crate::random::Random;
use crate::site::{PATIENCE, Site, block_on, on_both_engines};

/// What a later release would do to the schema: only adding.
const LATER: &str =
    "ALTER TABLE certificates ADD COLUMN later BIGINT; CREATE TABLE later (id BIGINT NOT NULL PRIMARY KEY);
    CREATE INDEX certificates_later ON certificates (later);";

/// The newest migration that this program knows.
fn known(site: &Site) -> i64 {
    site.count("SELECT MAX(version) FROM schema_migrations")
}

fn record(site: &Site, version: i64, name: &str) {
    site.execute(&format!(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ({version}, '{name}', '', 0)"
    ));
}

#[test]
fn servers_go_on_beside_a_later_one_that_only_adds() {
    let site = Site::postgres();
    let first = site.start();
    let other = site.node_beside();
    let known = known(&site);
    block_on(async {
        let one = Api::log_in(&site, &first).await;
        let body = issue_body(&site.fact("/profiles/web-server"), "grows.example.com");
        // It issues without a pause while the schema grows and another server starts on what is there then.
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let load = tokio::spawn({
            let (api, body) = (one.clone(), body.clone());
            async move {
                let mut issued = 0;
                while !*stopped.borrow() {
                    api.post(ISSUE, &body).await.unwrap().ok();
                    issued += 1;
                }
                issued
            }
        });
        let later = format!(
            "BEGIN; {LATER} INSERT INTO schema_migrations (version, name, checksum, applied_at)
             VALUES ({}, 'later serves {known}', '', 0); COMMIT;",
            known + 1
        );
        tokio::task::block_in_place(|| site.execute(&later));
        let second = tokio::task::block_in_place(|| other.start());
        let two = Api::log_in_at(&second.url, new_client(), &site.facts()).await;
        for at in 0..20 {
            let issued = two.post(ISSUE, &body).await.unwrap().ok();
            // What the later one writes, the earlier ones leave as it is.
            let id = issued["certificateId"].as_str().unwrap().replace('-', "");
            let write = format!("UPDATE certificates SET later = {at} WHERE id = decode('{id}', 'hex')");
            tokio::task::block_in_place(|| site.execute(&write));
            let path =
                format!("/api/v1/cert-manager/certificates/{}/revoke", issued["certificateId"].as_str().unwrap());
            one.post(&path, &json!({"revocationReason": "SUPERSEDED"})).await.unwrap().ok();
        }
        stop.send(true).unwrap();
        let issued: i64 = load.await.unwrap();
        assert!(issued > 0);
        let all = "SELECT COUNT(*) FROM certificates WHERE common_name = 'grows.example.com'";
        assert_eq!(site.count(all), issued + 20);
        assert_eq!(site.count("SELECT COUNT(*) FROM certificates WHERE later IS NOT NULL"), 20);
        second.stop();
    });
    first.stop();
    site.check_clean();
}

#[test]
fn a_later_schema_that_does_not_serve_it_is_refused() {
    on_both_engines(|site| {
        site.start().stop();
        let known = known(site);
        let refused = |said: String| {
            assert!(said.contains("run the newer program"), "{said}");
            assert!(said.contains(&format!("knows up to {known}")), "{said}");
        };
        record(site, known + 1, &format!("0099_more serves {known}"));
        site.start().stop();
        site.check_clean();
        for name in ["0100_other".to_owned(), format!("0100_other serves {}", known + 1)] {
            record(site, known + 2, &name);
            refused(site.launch(site.serve(&[])).refused());
            let ran = site.run(&["fsck"]);
            assert_eq!(ran.code, Some(1), "{ran:?}");
            site.execute(&format!("DELETE FROM schema_migrations WHERE version = {}", known + 2));
        }
        site.start().stop();
    });
}

#[test]
fn a_migration_that_is_killed_goes_on_at_the_next_start() {
    // All steps are one transaction there, so a kill leaves nothing or everything.
    let site = Site::sqlite();
    let mut random = Random::new(0x5eed_0023);
    for _ in 0..8 {
        let process = site.launch(site.serve(&[]));
        std::thread::sleep(Duration::from_millis(random.below(150) as u64));
        process.kill();
    }
    ends_well(&site);

    // Here each step is one.
    let mut partial = Vec::new();
    for _ in 0..2 {
        let site = Site::postgres();
        for enough in [1, 4, 7, 10, 13] {
            let process = site.launch(site.serve(&[]));
            let deadline = Instant::now() + PATIENCE;
            while steps(&site) < enough {
                assert!(Instant::now() < deadline, "{}", process.err_text());
            }
            process.kill();
            partial.push(steps(&site));
        }
        let whole = ends_well(&site);
        partial.retain(|steps| *steps < whole);
    }
    println!("stopped with so many steps: {partial:?}");
    assert!(!partial.is_empty(), "it was never stopped in the middle");
}

/// Starts the server to its end, and says how many steps the schema has.
fn ends_well(site: &Site) -> i64 {
    site.start().stop();
    site.check_clean();
    steps(site)
}

/// How many steps of the schema are there.
fn steps(site: &Site) -> i64 {
    let table = match site.is_sqlite() {
        true => "sqlite_master WHERE name = 'schema_migrations'",
        false => "pg_class WHERE relname = 'schema_migrations'",
    };
    match site.count(&format!("SELECT COUNT(*) FROM {table}")) {
        0 => 0,
        _ => site.count("SELECT COUNT(*) FROM schema_migrations"),
    }
}
