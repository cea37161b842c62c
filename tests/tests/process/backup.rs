//! `chancery backup` and `chancery restore`: what is in a backup, what is refused, what a restore ends, and what a kill
//! leaves. Restores under load are in `restores.rs`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use x509::{CertificateStatus, RevocationReason};

use crate::api::Api;
use crate::ocsp::status;
use crate::random::Random;
use crate::restores::{self, Plan, backup_of, restore};
use crate::site::{Ran, Site, block_on, on_both_engines};
use crate::withdrawal::{list, names, number, revoke};

const SHORT: Plan = Plan { restores: 3, load_millis_max: 500, seed: 0x5eed_0031 };

#[test]
fn a_sqlite_server_that_works_is_backed_up_and_restored_again_and_again() {
    let seen = restores::run(&Site::sqlite(), &SHORT);
    assert!(seen.issued > seen.lost && seen.revoked > 0, "{seen:?}");
}

#[test]
fn a_postgresql_server_that_works_is_backed_up_and_restored_again_and_again() {
    let seen = restores::run(&Site::postgres(), &SHORT);
    assert!(seen.issued > seen.lost && seen.revoked > 0, "{seen:?}");
}

#[test]
fn what_only_a_later_list_knows_is_told_and_stays_revoked_and_an_ended_hold_stays_ended() {
    on_both_engines(|site| {
        let server = site.start();
        let (known, unknown, held, api, backup) = block_on(async {
            let api = Api::log_in(site, &server).await;
            let known = api.issue(site, "known.example.com").await;
            let held = api.issue(site, "held.example.com").await;
            revoke(&api, held["certificateId"].as_str().unwrap(), RevocationReason::CertificateHold).await.ok();
            let old = publish(&api, site).await;
            let path = format!("/api/v1/cert-manager/certificates/{}/release", held["certificateId"].as_str().unwrap());
            // The first list names the hold, the next one does not.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            api.post(&path, &json!({})).await.unwrap().ok();
            fs::write(site.path("old.crl"), old).unwrap();
            let backup = tokio::task::block_in_place(|| backup_of(site, "backup"));
            let unknown = api.issue(site, "unknown.example.com").await;
            for one in [&known, &unknown] {
                revoke(&api, one["certificateId"].as_str().unwrap(), RevocationReason::KeyCompromise).await.ok();
            }
            fs::write(site.path("later.crl"), publish(&api, site).await).unwrap();
            (known, unknown, held, api, backup)
        });
        server.stop();
        let paths = [site.path("later.crl"), site.path("old.crl")];
        let lists = paths.iter().flat_map(|path| ["--list", path.to_str().unwrap()]);
        let report = restore(site, &backup, &lists.collect::<Vec<_>>());
        let serial = |one: &Value| one["serialNumber"].as_str().unwrap().to_owned();
        assert_eq!(report["revoked"], json!([serial(&known)]));
        assert_eq!(report["unknown"], json!([serial(&unknown)]));
        assert!(report["tokensEnded"].as_u64().unwrap() >= 1, "{report}");
        site.check_clean();
        let audited = |event: &str| site.count(&format!("SELECT COUNT(*) FROM audit_records WHERE event = '{event}'"));
        assert_eq!(audited("database-restored"), 1);
        assert_eq!(audited("restore-finished"), 1);
        assert_eq!(audited("unknown-certificate-revoked"), 1);

        let server = site.start();
        block_on(async {
            let old_token = Api { url: server.url.clone(), ..api };
            assert_eq!(old_token.get("/api/v1/retention").await.unwrap().status, 401);
            let api = Api::log_in(site, &server).await;
            let now = list(&api, site).await;
            assert!(names(&now, &serial(&known)) && names(&now, &serial(&unknown)) && !names(&now, &serial(&held)));
            for one in [&known, &unknown] {
                let found = status(&api, one, None).await;
                assert!(matches!(found, Some(CertificateStatus::Revoked { .. })), "{found:?}");
            }
            assert_eq!(status(&api, &held, None).await, Some(CertificateStatus::Good));
            let next = api.issue(site, "next.example.com").await;
            revoke(&api, next["certificateId"].as_str().unwrap(), RevocationReason::Superseded).await.ok();
            let after = publish(&api, site).await;
            let after = x509::Crl::from_der(after).unwrap();
            assert!(number(&after) > number(&now) && names(&after, &serial(&next)));
        });
        server.stop();
        site.check_clean();
    });
}

/// Has the lists of the issuing authority signed, and gives the newest.
async fn publish(api: &Api, site: &Site) -> Vec<u8> {
    let path = format!("/api/v1/cert-manager/ca/internal/{}/crls/publish", site.fact("/issuingCaId"));
    api.post(&path, &json!({})).await.unwrap().ok();
    list(api, site).await.as_der().to_vec()
}

#[test]
fn tokens_go_on_when_that_is_asked_for() {
    on_both_engines(|site| {
        let server = site.start();
        let api = block_on(Api::log_in(site, &server));
        server.stop();
        let report = restore(site, &backup_of(site, "backup"), &["--keep-tokens"]);
        assert_eq!(report["tokensEnded"], 0);
        let server = site.start();
        let api = Api { url: server.url.clone(), ..api };
        block_on(async { api.get("/api/v1/retention").await.unwrap().ok() });
        server.stop();
    });
}

#[test]
fn leases_letters_and_requests_under_way_are_not_taken_for_live() {
    on_both_engines(|site| {
        site.start().stop();
        let blob = |octet: u8| site.literal(&[octet; 16]);
        site.execute(&format!(
            "INSERT INTO jobs (id, kind, payload, status, run_at, attempts, lease_owner, lease_until, created_at,
             updated_at) VALUES ({0}, 'x', '{{}}', 'queued', 4000000000000, 0, 'gone', 4000000000000, 1, 1);
             INSERT INTO node_letters (id, node, octets, at) VALUES ({0}, 'gone', {0}, 1);
             INSERT INTO idempotency_keys (id, project_id, body_sha256, created_at) VALUES ({0}, {0}, {0}, 1);
             INSERT INTO idempotency_keys (id, project_id, body_sha256, sealed, created_at)
             VALUES ({1}, {0}, {0}, {0}, 1)",
            blob(1),
            blob(2)
        ));
        restore(site, &backup_of(site, "backup"), &[]);
        for (what, expected) in [
            ("jobs WHERE lease_owner = 'gone'", 0),
            ("jobs WHERE lease_until <> 0", 0),
            ("jobs WHERE kind = 'x'", 1),
            ("node_letters", 0),
            ("idempotency_keys", 1),
        ] {
            assert_eq!(site.count(&format!("SELECT COUNT(*) FROM {what}")), expected, "{what}");
        }
    });
}

#[test]
fn a_restored_authority_has_a_list_for_certificates_that_name_one_which_was_opened_later() {
    on_both_engines(|site| {
        site.start().stop();
        let backup = backup_of(site, "backup");
        // As the server does it when a list is full.
        let crl = site.path("later.crl");
        let server = site.start();
        let serial = block_on(async {
            let api = Api::log_in(site, &server).await;
            let first = text_of_list_id(&api, site).await;
            let next = "01a220fd-df33-7139-ae3e-d577e60eaf0b";
            let literal = |id: &str| site.literal(&octets_of(id));
            site.execute(&format!(
                "INSERT INTO crls (id, project_id, authority_id, authority_key_id, shard, number)
                 SELECT {0}, project_id, authority_id, authority_key_id, 1, 0 FROM crls WHERE id = {1};
                 UPDATE configuration_epoch SET epoch = epoch + 1",
                literal(next),
                literal(&first)
            ));
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let issued = api.issue(site, "named.example.com").await;
            assert!(crl_url(&issued).contains(next), "{}", crl_url(&issued));
            revoke(&api, issued["certificateId"].as_str().unwrap(), RevocationReason::Superseded).await.ok();
            publish(&api, site).await;
            let der = api.client.get(format!("{}/api/v1/pki/crl/{next}/der", api.url)).send().await.unwrap();
            let der = der.bytes().await.unwrap();
            assert!(names(&x509::Crl::from_der(der.to_vec()).unwrap(), issued["serialNumber"].as_str().unwrap()));
            fs::write(&crl, &der).unwrap();
            issued["serialNumber"].as_str().unwrap().to_owned()
        });
        server.stop();
        let report = restore(site, &backup, &["--list", crl.to_str().unwrap()]);
        assert_eq!(report["unknown"], json!([serial]));
        site.check_clean();
        let server = site.start();
        block_on(async {
            let path = format!("{}/api/v1/pki/crl/01a220fd-df33-7139-ae3e-d577e60eaf0b/der", server.url);
            let response = crate::api::new_client().get(path).send().await.unwrap();
            assert_eq!(response.status(), 200);
            let now = x509::Crl::from_der(response.bytes().await.unwrap().to_vec()).unwrap();
            assert!(names(&now, &serial));
        });
        server.stop();
    });
}

async fn text_of_list_id(api: &Api, site: &Site) -> String {
    let lists = api.get(&format!("/api/v1/pki/ca/{}/crls", site.fact("/issuingCaId"))).await.unwrap().ok();
    lists[0]["id"].as_str().unwrap().to_owned()
}

fn octets_of(id: &str) -> Vec<u8> {
    uuid::Uuid::parse_str(id).unwrap().as_bytes().to_vec()
}

fn crl_url(issued: &Value) -> String {
    let certificate = x509::Certificate::from_pem(issued["certificate"].as_str().unwrap()).unwrap();
    let points = certificate.extensions().crl_distribution_points().unwrap().unwrap();
    points.urls().next().unwrap().as_str().to_owned()
}

#[test]
fn a_backup_holds_the_master_key_only_when_that_is_asked_for_and_is_private() {
    let site = Site::sqlite();
    let server = site.start();
    let plain = site.path("plain");
    let ran = site.run(&["backup", plain.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("The master key is not in it"), "{ran:?}");
    assert_eq!(modes(&plain), [("chancery.db".into(), 0o600), ("manifest.json".into(), 0o600)].into());
    assert_eq!(fs::metadata(&plain).unwrap().permissions().mode() & 0o777, 0o700);
    site.run(&["backup", plain.to_str().unwrap()]).failed_with("is there already");

    let whole = site.path("whole");
    let ran = site.run(&["backup", "--with-secrets", whole.to_str().unwrap()]);
    assert!(ran.code == Some(0) && ran.out.contains("The master key is in it"), "{ran:?}");
    let names: Vec<String> = modes(&whole).into_keys().collect();
    assert_eq!(names, ["bootstrap.json", "chancery.db", "manifest.json", "master.key"]);
    server.stop();

    // Without the key it is not brought back, and nothing is made; with it all is there.
    let elsewhere = site.path("elsewhere");
    let on_it = |arguments: &[&str]| {
        let mut command = site.bare_command(arguments);
        command.args(["--data", elsewhere.to_str().unwrap()]);
        Ran::of(command)
    };
    on_it(&["restore", plain.to_str().unwrap()]).failed_with("the master key is not in the backup");
    assert!(!elsewhere.exists());
    let ran = on_it(&["restore", whole.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(on_it(&["fsck"]).code, Some(0));
    for name in ["bootstrap.json", "master.key"] {
        assert_eq!(fs::read(elsewhere.join(name)).unwrap(), fs::read(site.data().join(name)).unwrap(), "{name}");
    }
    assert_eq!(modes(&elsewhere).into_values().max(), Some(0o600));
    assert_ne!(fs::read(elsewhere.join("node")).unwrap(), fs::read(site.data().join("node")).unwrap());
    on_it(&["restore", whole.to_str().unwrap()]).failed_with("put it aside with --replace");
}

/// The files of a folder and what may be done with them.
fn modes(folder: &Path) -> BTreeMap<String, u32> {
    let of = |entry: fs::DirEntry| {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        (entry.file_name().into_string().unwrap(), mode)
    };
    fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap())).collect()
}

#[test]
fn a_damaged_backup_is_refused_and_what_is_there_stays() {
    let site = Site::sqlite();
    site.start().stop();
    let backup = backup_of(&site, "backup");
    let before = fs::read(site.data().join("chancery.db")).unwrap();
    let file = |name: &str| backup.join(name);
    let whole = |name: &str| fs::read(file(name)).unwrap();
    let (database, manifest) = (whole("chancery.db"), String::from_utf8(whole("manifest.json")).unwrap());
    let mut flipped = database.clone();
    flipped[database.len() / 2] ^= 1;
    let newer = manifest.replace("\"schemaVersion\": ", "\"schemaVersion\": 9");
    let cases: [(&str, &str, Vec<u8>, &str); 7] = [
        ("an octet that was changed", "chancery.db", flipped, "is damaged"),
        ("a file that was cut", "chancery.db", database[..database.len() / 2].to_vec(), "is damaged"),
        ("an empty file", "chancery.db", vec![], "is damaged"),
        ("a manifest that was cut", "manifest.json", manifest.as_bytes()[..100].to_vec(), "it is damaged"),
        ("a newer schema", "manifest.json", newer.into_bytes(), "this program knows up to"),
        (
            "another format",
            "manifest.json",
            manifest.replace("chancery backup 1", "chancery backup 9").into_bytes(),
            "is not \"chancery backup 1\"",
        ),
        (
            "a name that leads elsewhere",
            "manifest.json",
            manifest.replace("\"chancery.db\"", "\"../chancery.db\"").into_bytes(),
            "does not name the files of a backup",
        ),
    ];
    for (what, name, damage, words) in cases {
        let kept = whole(name);
        fs::write(file(name), damage).unwrap();
        eprintln!("{what}");
        site.run(&["restore", backup.to_str().unwrap(), "--replace"]).failed_with(words);
        fs::write(file(name), kept).unwrap();
    }
    site.run(&["restore", "nowhere", "--replace"]).failed_with("is it a backup?");
    fs::write(site.path("no.crl"), "nothing").unwrap();
    let list = site.path("no.crl");
    let arguments = ["restore", backup.to_str().unwrap(), "--replace", "--list", list.to_str().unwrap()];
    site.run(&arguments).failed_with("it is not a revocation list");
    assert!(fs::read(site.data().join("chancery.db")).unwrap() == before, "the database was touched");
    // Whoever reads the database last leaves what SQLite shares between readers.
    let names = modes(site.data()).into_keys().filter(|name| !name.starts_with("chancery.db-"));
    assert_eq!(
        names.collect::<Vec<String>>(),
        ["bootstrap.json", "chancery.db", "chancery.db.lock", "last-backup", "master.key", "node", "server.lock"]
    );
    site.start().stop();
}

#[test]
fn a_server_that_runs_keeps_its_database_and_one_of_another_authority_is_no_list() {
    on_both_engines(|site| {
        let other = Site::sqlite();
        let server = other.start();
        let foreign = block_on(async {
            let api = Api::log_in(&other, &server).await;
            list(&api, &other).await.as_der().to_vec()
        });
        server.stop();
        fs::write(site.path("foreign.crl"), foreign).unwrap();

        let server = site.start();
        let finish = ["restore", "--finish"];
        site.run(&finish).failed_with("another server runs on the data folder");
        if let Some(url) = site.database_url() {
            let mut command = site.bare_command(&finish);
            command.args(["--database", url, "--data", site.path("other").to_str().unwrap()]);
            command.args(["--master-key-file", site.data().join("master.key").to_str().unwrap()]);
            Ran::of(command).failed_with("stop them first");
            site.run(&["backup", "never"]).failed_with("pg_dump");
        }
        server.stop();
        let list = site.path("foreign.crl");
        site.run(&[&finish[..], &["--list", list.to_str().unwrap()]].concat()).failed_with("no key of an authority");
        assert_eq!(site.count("SELECT COUNT(*) FROM audit_records WHERE event = 'database-restored'"), 0);
    });
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_data_or_says_that_it_was_cut_off() {
    let site = Site::sqlite();
    let mut random = Random::new(0x5eed_0032);
    site.start().stop();
    let backup = backup_of(&site, "backup");
    let arguments = ["restore", backup.to_str().unwrap(), "--replace"];
    for _ in 0..8 {
        let restoring = site.launch(site.command(&arguments));
        std::thread::sleep(Duration::from_millis(random.below(400) as u64));
        restoring.kill();
        match site.data().join("restore-under-way").exists() {
            true => {
                let said = site.launch(site.serve(&[])).refused();
                assert!(said.contains("a restore was cut off"), "{said}");
                assert_eq!(site.run(&arguments).code, Some(0));
            }
            false => site.check_clean(),
        }
    }
    assert_eq!(site.run(&arguments).code, Some(0));
    let stages = fs::read_dir(site.data())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("restore-"));
    assert_eq!(stages.count(), 0);
    site.start().stop();
    site.check_clean();

    // Where the kill came in the middle of the moves.
    fs::write(site.data().join("restore-under-way"), "").unwrap();
    fs::rename(site.data().join("chancery.db"), site.path("aside.db")).unwrap();
    let said = site.launch(site.serve(&[])).refused();
    assert!(said.contains("a restore was cut off"), "{said}");
    assert!(!site.data().join("chancery.db").exists());
    assert_eq!(site.run(&arguments).code, Some(0));
    site.start().stop();
    site.check_clean();
}

#[test]
fn what_a_killed_backup_has_left_is_removed_by_the_next_one_and_what_another_is_at_work_on_is_not() {
    let site = Site::sqlite();
    site.start().stop();
    let folder = site.path("backups");
    let to = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let hidden = || -> Vec<std::path::PathBuf> {
        let paths = fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
    };
    let is_begun = |path: &std::path::PathBuf| path.join("chancery.db").exists();
    // One that is caught in the middle: it may be done before it is seen.
    let (caught, left) = (0..100)
        .find_map(|turn| {
            let mut process = site.launch(site.command(&["backup", &to(&format!("cut{turn}"))]));
            while !process.has_ended() {
                if let Some(path) = hidden().into_iter().find(is_begun) {
                    process.signal(rustix::process::Signal::STOP);
                    return path.exists().then_some((process, path));
                }
            }
            None
        })
        .expect("a backup was seen half made");
    let foreign = folder.join(".foreign.0123456789abcdef0123456789abcdef");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("chancery.db"), "").unwrap();
    fs::write(foreign.join("letter"), "").unwrap();
    assert_eq!(site.run(&["backup", &to("beside")]).code, Some(0));
    assert!(left.exists(), "somebody is at work on it");
    caught.kill();
    let ran = site.run(&["backup", &to("after")]);
    assert!(ran.code == Some(0) && ran.err.contains(left.to_str().unwrap()), "{ran:?}");
    assert_eq!(hidden(), [foreign]);
}

/// A user that a server runs as, and its group.
const USER: u32 = 65_534;

/// Asserts that everything in a folder belongs to that user, and that a server of that user runs on it.
#[track_caller]
fn check_usable(site: &Site, what: &str) {
    for entry in fs::read_dir(site.data()).unwrap() {
        let entry = entry.unwrap();
        let found = entry.metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (USER, USER), "{what}: {:?}", entry.path());
    }
    let mut serve = site.serve(&[]);
    serve.uid(USER).gid(USER);
    site.start_as(serve).stop();
}

#[test]
fn what_root_puts_into_the_folder_of_another_user_belongs_to_that_user() {
    if !rustix::process::geteuid().is_root() {
        println!("files are given away by root only: not done");
        return;
    }
    let site = Site::sqlite();
    fs::set_permissions(site.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(site.data()).unwrap();
    chown(site.data(), Some(USER), Some(USER)).unwrap();
    let mut serve = site.serve(&[]);
    serve.uid(USER).gid(USER);
    site.start_as(serve).stop();
    // The folder above it is made.
    let backup = site.path("made/backup");
    let at = backup.to_str().unwrap();
    assert_eq!(site.run(&["backup", "--with-secrets", at]).code, Some(0));
    assert_eq!(fs::metadata(site.path("made")).unwrap().permissions().mode() & 0o777, 0o700);
    check_usable(&site, "backup");
    assert_eq!(site.run(&["keys", "rotate-master"]).code, Some(0));
    check_usable(&site, "keys rotate-master");
    // The backup has the key from before.
    let ran = site.run(&["restore", at, "--replace"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    check_usable(&site, "restore");
    assert_eq!(site.run(&["restore", "--finish"]).code, Some(0));
    check_usable(&site, "restore --finish");
    let export = site.path("all.export").to_str().unwrap().to_owned();
    assert_eq!(site.run(&["export", &export]).code, Some(0));
    for name in ["chancery.db", "server.lock"] {
        fs::remove_file(site.data().join(name)).unwrap();
    }
    assert_eq!(site.run(&["import", &export]).code, Some(0));
    check_usable(&site, "import");
    // Also by way of a link that is root's.
    let link = site.path("link");
    symlink(site.data(), &link).unwrap();
    let mut command = site.bare_command(&["restore", at, "--replace", "--data"]);
    command.arg(&link);
    let ran = Ran::of(command);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    check_usable(&site, "restore by a link");
    // A key that is elsewhere is not left behind as a key that opens nothing any more.
    let (key, elsewhere) = (site.data().join("master.key"), site.path("elsewhere.key"));
    fs::rename(&key, &elsewhere).unwrap();
    symlink(&elsewhere, &key).unwrap();
    let ran = site.run(&["keys", "rotate-master"]);
    assert!(ran.code != Some(0) && ran.err.contains("is a link"), "{ran:?}");
    assert!(key.is_symlink() && elsewhere.exists());

    // What root makes itself stays its own, and that is said.
    let mut command = site.bare_command(&["restore", at, "--data"]);
    let ran = Ran::of({
        command.arg(site.path("new"));
        command
    });
    assert!(ran.code == Some(0) && ran.err.contains("chown --recursive USER"), "{ran:?}");
}
