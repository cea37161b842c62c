//! `chancery export` and `chancery import`: everything from one engine to the other and back, whole or not at all
//! (invariant E11).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use x509::RevocationReason;

use crate::api::{Api, ISSUE, issue_body};
use crate::random::Random;
use crate::site::{Ran, Site, block_on, on_both_engines};
use crate::withdrawal::{list, names, revoke};

/// A server on which something of nearly everything was done.
async fn fill(api: &Api, site: &Site) {
    for turn in 0..5 {
        let issued = api.issue(site, &format!("moved{turn}.example.com")).await;
        if turn % 2 == 0 {
            revoke(api, issued["certificateId"].as_str().unwrap(), RevocationReason::ALL[turn]).await.ok();
        }
    }
    let key = api.request(reqwest::Method::POST, ISSUE).header("idempotency-key", "moved");
    let body = issue_body(&site.fact("/profiles/web-server"), "once.example.com");
    assert_eq!(key.json(&body).send().await.unwrap().status(), 200);
    let project = json!({"projectName": "moved ü", "type": "cert-manager"});
    let project = api.post("/api/v2/workspace", &project).await.unwrap().ok();
    // Authorities below each other, which refer to rows of their own table.
    let project = project["project"]["id"].as_str().unwrap();
    let body = |name: &str| {
        json!({
            "projectId": project, "type": "root", "name": name, "status": "active", "commonName": name,
            "keyAlgorithm": "EC_prime256v1", "notAfter": "2040-01-01T00:00:00Z",
            "configuration": {
                "type": "root", "commonName": name, "keyAlgorithm": "EC_prime256v1", "notAfter": "2040-01-01T00:00:00Z",
            },
        })
    };
    api.post("/api/v1/cert-manager/ca/internal", &body("moved")).await.unwrap().ok();
}

/// The tables of a site, as it says itself, and how many rows each has.
fn counts(site: &Site) -> Value {
    let names = match site.is_sqlite() {
        true => site.text("SELECT group_concat(name, ' ') FROM sqlite_schema WHERE type = 'table'"),
        false => site.text("SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'"),
    };
    let count = |name: &str| site.count(&format!("SELECT COUNT(*) FROM {name}"));
    let tables = names.split(' ').filter(|name| *name != "schema_migrations" && !name.starts_with("sqlite_"));
    tables.map(|name| (name.to_owned(), json!(count(name)))).collect::<serde_json::Map<_, _>>().into()
}

#[track_caller]
fn export(site: &Site, name: &str) -> (String, Value) {
    let file = site.path(name).to_str().unwrap().to_owned();
    let ran = site.run(&["export", &file, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    (file, serde_json::from_str(&ran.out).unwrap())
}

/// Imports a file, with the master key of the site that it comes from.
#[track_caller]
fn import(from: &Site, file: &str, site: &Site) -> Value {
    let ran = site.run(&["import", file, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    fs::create_dir_all(site.data()).unwrap();
    for name in ["master.key", "bootstrap.json"] {
        fs::copy(from.data().join(name), site.data().join(name)).unwrap();
    }
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn everything_moves_from_sqlite_to_postgresql_and_back_row_for_row() {
    let (first, shared, last) = (Site::sqlite(), Site::postgres(), Site::sqlite());
    let server = first.start();
    block_on(async { fill(&Api::log_in(&first, &server).await, &first).await });
    server.stop();
    let (file, exported) = export(&first, "first.export");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(exported["rows"], counts(&first));

    assert_eq!(import(&first, &file, &shared), exported);
    assert_eq!(counts(&shared), exported["rows"]);
    shared.check_clean();
    assert_eq!(export(&shared, "shared.export").1, exported, "what is there is not what was exported");
    // The database goes on numbering where the other one was, and references hold as before.
    let loose = "SELECT COUNT(*) FROM pg_constraint WHERE condeferrable";
    assert_eq!(shared.count(loose), 0);
    let server = shared.start();
    block_on(async {
        let api = Api::log_in(&shared, &server).await;
        fill_again(&api, &shared).await;
    });
    server.stop();
    shared.check_clean();

    let (file, exported) = export(&shared, "again.export");
    assert_eq!(import(&shared, &file, &last), exported);
    assert_eq!(counts(&last), exported["rows"]);
    last.check_clean();
    assert_eq!(export(&last, "last.export").1, exported);
    let server = last.start();
    block_on(async { fill_again(&Api::log_in(&last, &server).await, &last).await });
    server.stop();
    last.check_clean();
}

async fn fill_again(api: &Api, site: &Site) {
    let issued = api.issue(site, "after.example.com").await;
    revoke(api, issued["certificateId"].as_str().unwrap(), RevocationReason::Superseded).await.ok();
    let begun = std::time::Instant::now();
    while !names(&list(api, site).await, issued["serialNumber"].as_str().unwrap()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the list does not name it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn an_export_that_is_damaged_and_a_database_that_is_not_empty_are_refused() {
    let from = Site::sqlite();
    from.start().stop();
    let (file, _) = export(&from, "whole.export");
    from.run(&["export", &file]).failed_with("is there already");
    let whole = fs::read(&file).unwrap();
    let damaged = from.path("damaged.export").to_str().unwrap().to_owned();
    on_both_engines(|site| {
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (octets, words) in [
            (&whole[..whole.len() - 1], "cut off"),
            (&whole[..whole.len() / 2], "cut off"),
            (&whole[..10], "is not an export"),
            (&b""[..], "is not an export"),
            (&flipped[..], "the export"),
        ] {
            fs::write(&damaged, octets).unwrap();
            site.run(&["import", &damaged]).failed_with(words);
        }
        assert!(!site.data().join("chancery.db").exists());

        import(&from, &file, site);
        let before = counts(site);
        site.run(&["import", &file]).failed_with(match site.is_sqlite() {
            true => "there is a database",
            false => "the database is not empty",
        });
        assert_eq!(counts(site), before);
        site.check_clean();
    });
}

#[test]
fn an_import_that_is_killed_leaves_nothing() {
    let from = Site::sqlite();
    let server = from.start();
    block_on(async {
        let api = Api::log_in(&from, &server).await;
        for turn in 0..100 {
            api.issue(&from, &format!("many{turn}.example.com")).await;
        }
    });
    server.stop();
    let (file, exported) = export(&from, "whole.export");
    on_both_engines(|site| {
        let mut random = Random::new(0x5eed_0033);
        let mut command = site.bare_command(&["fsck", "--data", from.data().to_str().unwrap()]);
        assert!(command.status().unwrap().success());
        for _ in 0..6 {
            let importing = site.launch(site.command(&["import", &file]));
            std::thread::sleep(Duration::from_millis(random.below(120) as u64));
            importing.kill();
            let is_there = match site.is_sqlite() {
                true => site.data().join("chancery.db").exists(),
                false => {
                    let has_table = "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'certificates'";
                    until_alone(site);
                    site.count(has_table) == 1 && site.count("SELECT COUNT(*) FROM organizations") > 0
                }
            };
            if is_there {
                // It was done before the kill.
                assert_eq!(counts(site), exported["rows"]);
                return;
            }
        }
        assert_eq!(import(&from, &file, site), exported);
        site.check_clean();
        let left = fs::read_dir(site.data())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("restore-"));
        assert_eq!(left.count(), 0);
    });
}

/// Waits until the server has noticed that a client is gone.
fn until_alone(site: &Site) {
    let others = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                  AND backend_type = 'client backend'";
    let begun = std::time::Instant::now();
    while site.count(others) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "a connection of a killed import stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_export_of_a_server_that_runs_says_so_and_an_older_one_is_finished_like_a_restore() {
    on_both_engines(|site| {
        let server = site.start();
        let ran = site.run(&["export", site.path("running.export").to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.contains("a server works on the database"), "{ran:?}");
        server.stop();
        let to = Site::sqlite();
        import(site, site.path("running.export").to_str().unwrap(), &to);
        let ran: Ran = to.run(&["restore", "--finish"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        to.check_clean();
        to.start().stop();
    });
}
