//! `chancery doctor` on installations that something is wrong with.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use testkit::PrivateCluster;

use crate::site::{Ran, Site, on_both_engines};

/// The codes that it tells, each with its severity and its message, and the exit code.
fn examined(site: &Site, arguments: &[&str]) -> (Vec<(String, String, String)>, Option<i32>) {
    let mut all = vec!["doctor", "--json"];
    all.extend(arguments);
    let Ran { code, out, err } = site.run(&all);
    let signs: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let text = |sign: &Value, member: &str| sign[member].as_str().unwrap().to_owned();
    let sign = |sign: &Value| {
        assert!(!text(sign, "remedy").is_empty() && !text(sign, "subject").is_empty(), "{sign}");
        (text(sign, "code"), text(sign, "severity"), text(sign, "message"))
    };
    (signs.iter().map(sign).collect(), code)
}

fn codes(site: &Site, arguments: &[&str]) -> Vec<String> {
    examined(site, arguments).0.into_iter().map(|(code, _, _)| code).collect()
}

/// The sign with that code, and that the exit code says whether it is an error.
#[track_caller]
fn check(site: &Site, arguments: &[&str], code: &str, words: &str) {
    let (signs, exit) = examined(site, arguments);
    let found = signs.iter().find(|(found, _, message)| found == code && message.contains(words));
    let Some((_, severity, _)) = found else { panic!("no {code} with {words:?} on {}: {signs:?}", site.engine()) };
    if severity == "error" {
        assert_eq!(exit, Some(1), "{code}");
    }
}

/// What server and doctor are given, so that no certificate carries an address of this machine.
const ELSEWHERE: [&str; 2] = ["--publication-url", "http://pki.example.com"];

#[test]
fn what_is_wrong_with_an_installation_is_told_and_nothing_else() {
    on_both_engines(|site| {
        let server = site.start_as(site.serve(&ELSEWHERE));
        let errors = |(signs, exit): (Vec<(String, String, String)>, Option<i32>)| {
            assert_eq!(exit, Some(0), "{signs:?}");
            signs.into_iter().filter(|(_, severity, _)| severity == "error").count()
        };
        assert_eq!(errors(examined(site, &ELSEWHERE)), 0, "while the server runs");
        server.stop();
        assert_eq!(errors(examined(site, &ELSEWHERE)), 0, "while it does not");
        let told = codes(site, &ELSEWHERE);
        assert!(!told.contains(&"address-loopback".into()), "{told:?}");
        check(site, &["--publication-url", "http://127.0.0.1:8080"], "address-loopback", "http://127.0.0.1:8080");
        check(site, &["--publication-url", "http://10.1.2.3"], "address-private", "http://10.1.2.3");
        check(site, &["--listen", "0.0.0.0:8443", "--tls", "auto"], "address-https", "https://127.0.0.1:8443");
        check(site, &[], "master-key-beside", "same folder");

        let at = |seconds: i64| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
            i64::try_from(now).unwrap() + 1000 * seconds
        };
        let (month, hour) = (at(30 * 86_400), at(3600));
        let job = site.literal(&[7; 16]);
        for (table, change, code, words) in [
            ("authorities", "not_after = 1000 WHERE name = 'issuing-ca'".to_owned(), "authority-expired", "1970-01-01"),
            (
                "authorities",
                format!("not_after = {month} WHERE name = 'issuing-ca'"),
                "authority-expires",
                "its certificate",
            ),
            ("authorities", "status = 'disabled' WHERE name = 'issuing-ca'".into(), "authority-disabled", "disabled"),
            ("authority_keys", format!("sealed = {job}"), "key-unusable", "private key"),
            ("crls", "next_update = 1000".into(), "list-expired", "1970-01-01"),
            ("crls", format!("next_update = {hour}"), "list-overdue", "no next one"),
            ("audit_heads", format!("highest_at = {hour}"), "clock-behind", "nothing is issued"),
        ] {
            assert!(!codes(site, &ELSEWHERE).contains(&code.to_owned()), "{code} before");
            site.execute(&format!("CREATE TABLE kept AS SELECT * FROM {table}"));
            site.execute(&format!("UPDATE {table} SET {change}"));
            check(site, &ELSEWHERE, code, words);
            let column = change.split(' ').next().unwrap();
            let key = if table == "audit_heads" { "node" } else { "id" };
            site.execute(&format!(
                "UPDATE {table} SET {column} = (SELECT k.{column} FROM kept k WHERE k.{key} = {table}.{key})"
            ));
            site.execute("DROP TABLE kept");
        }
        site.execute(&format!(
            "INSERT INTO jobs (id, kind, dedupe, payload, status, run_at, attempts, lease_until, last_error,
             created_at, updated_at)
             VALUES ({job}, 'renew-server-certificate', 'other', '{{\"kind\":\"renew-server-certificate\"}}', 'parked',
             0, 9, 0, 'the disk was away', 0, 0)"
        ));
        check(site, &ELSEWHERE, "job-parked", "the disk was away");
        for (attempts, is_told) in [(2, false), (3, true)] {
            site.execute(&format!("UPDATE jobs SET status = 'queued', attempts = {attempts} WHERE dedupe = 'other'"));
            let (signs, _) = examined(site, &ELSEWHERE);
            let told = signs.iter().find(|(code, ..)| code == "job-failing").map(|(.., message)| message.as_str());
            assert_eq!(told, is_told.then_some("it was tried 3 times: the disk was away"), "{signs:?}");
        }
        site.execute("DELETE FROM jobs WHERE dedupe = 'other'");
        site.check_clean();

        let database = site.data().join(if site.is_sqlite() { "chancery.db" } else { "bootstrap.json" });
        fs::set_permissions(&database, Permissions::from_mode(0o644)).unwrap();
        check(site, &ELSEWHERE, "files-readable", database.file_name().unwrap().to_str().unwrap());
        fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap();

        let (key, elsewhere) = (site.data().join("master.key"), site.path("kept.key"));
        fs::rename(&key, &elsewhere).unwrap();
        check(site, &ELSEWHERE, "master-key-wrong", "master.key");
        fs::rename(&elsewhere, &key).unwrap();

        check(site, &["--tls", "files"], "configuration-refused", "tls_certificate");
        assert_eq!(errors(examined(site, &ELSEWHERE)), 0, "in the end");
        let strict = examined(site, &["--strict", "--publication-url", "http://localhost"]);
        assert_eq!(strict.1, Some(1), "a warning, with --strict");
    });
}

#[test]
fn a_sync_and_an_alert_that_do_not_arrive_are_told() {
    let site = Site::sqlite();
    let folder = site.path("served");
    fs::create_dir(&folder).unwrap();
    let mut serve = site.serve(&ELSEWHERE);
    serve.env("CHANCERY_LOCAL_DIRECTORIES", site.path(""));
    let server = site.start_as(serve);
    let run = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command.env("CHANCERY_URL", &server.url);
        let ran = Ran::of(command);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.out, ran.err);
    };
    let destination = format!("destinationPath={}", folder.display());
    let schema = "certificateNameSchema={{commonName}}";
    run(&["sync", "create", "web", "--destination", "local-directory", "--config", &destination, "--option", schema]);
    run(&["alert", "create", "expiring", "--event", "expiration", "--before", "30d", "--webhook", "https://8.8.8.8/x"]);
    run(&["alert", "create", "mailed", "--event", "expiration", "--before", "30d", "--email", "a@example.com"]);
    server.stop();
    let told = codes(&site, &ELSEWHERE);
    assert!(!told.iter().any(|code| code == "sync-failing" || code == "alert-undelivered"), "{told:?}");

    check(&site, &ELSEWHERE, "mail-unset", "no mail server");
    let server = ["--smtp-url", "smtps://mail.example.com", "--smtp-from", "ca@example.com"];
    assert!(!codes(&site, &server).contains(&"mail-unset".into()));
    site.execute("UPDATE alerts SET is_enabled = 0 WHERE name = 'mailed'");
    assert!(!codes(&site, &ELSEWHERE).contains(&"mail-unset".into()));

    site.execute("UPDATE syncs SET status = 'failed', last_message = 'no room there'");
    check(&site, &ELSEWHERE, "sync-failing", "no room there");
    site.execute(
        "INSERT INTO alert_runs (id, alert_id, subject, created_at)
         SELECT X'01020304050607080102030405060708', id, '{}', 5 FROM alerts WHERE name = 'expiring';
         INSERT INTO alert_deliveries (id, run_id, channel_id, kind, status, attempts, error, updated_at)
         SELECT X'02020304050607080102030405060708', X'01020304050607080102030405060708', id, kind, 'failed', 5,
         'connection refused', 5 FROM alert_channels WHERE kind = 'webhook'",
    );
    check(&site, &ELSEWHERE, "alert-undelivered", "connection refused");
}

#[test]
fn a_listeners_certificate_that_ends_and_one_that_does_not_read_are_told() {
    let site = Site::sqlite();
    site.start().stop();
    let (certificate, key) = (site.path("tls.crt"), site.path("tls.key"));
    let files = ["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    for (days, code) in [("30", None), ("3", Some("tls-expires"))] {
        let made = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-addext", "subjectAltName=DNS:localhost", "-days", days, "-keyout", files[3], "-out", files[1]])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let told = codes(&site, &files);
        let found = told.iter().find(|found| found.starts_with("tls-"));
        assert_eq!(found.map(String::as_str), code, "{told:?}");
    }
    fs::write(&certificate, "nothing").unwrap();
    check(&site, &files, "tls-unreadable", "no certificates");
}

#[test]
fn without_a_database_the_doctor_says_where_it_looked() {
    let site = Site::sqlite();
    check(&site, &[], "database-closed", "data");
}

#[test]
fn a_backup_that_was_never_made_or_long_ago_is_told() {
    let site = Site::sqlite();
    site.start().stop();
    check(&site, &[], "backup-missing", "never");
    let to = site.path("backup");
    assert_eq!(site.run(&["backup", to.to_str().unwrap()]).code, Some(0));
    let told = codes(&site, &[]);
    assert!(!told.iter().any(|code| code.starts_with("backup-") || code == "files-readable"), "{told:?}");
    fs::write(site.data().join("last-backup"), "2026-01-01T00:00:00Z\n").unwrap();
    check(&site, &[], "backup-old", "2026-01-01");
    site.start().stop();
    site.check_clean();
}

#[test]
fn files_of_another_user_than_the_folder_are_told() {
    if !rustix::process::geteuid().is_root() {
        println!("files are given away by root only: not done");
        return;
    }
    let site = Site::sqlite();
    site.start().stop();
    assert!(!codes(&site, &[]).contains(&"files-foreign".to_owned()));
    chown(site.data(), Some(4711), Some(4712)).unwrap();
    check(&site, &[], "files-foreign", "chancery.db");
    check(&site, &[], "files-foreign", &format!("chown --recursive 4711:4712 {}", site.data().display()));
}

#[test]
fn a_log_that_does_not_shrink_and_few_open_files_are_told() {
    let site = Site::sqlite();
    site.start().stop();
    let told = codes(&site, &[]);
    assert!(!told.iter().any(|code| code == "log-long"), "{told:?}");
    let log = fs::File::create(site.data().join("chancery.db-wal")).unwrap();
    log.set_permissions(Permissions::from_mode(0o600)).unwrap();
    log.set_len(300 << 20).unwrap();
    check(&site, &[], "log-long", "300 MiB");

    let mut limited = std::process::Command::new("sh");
    let program = site.command(&["doctor", "--json"]);
    limited.args(["-c", "ulimit -n 1024 && exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let Ran { out, err, .. } = Ran::of(limited);
    assert!(out.contains("\"open-files\"") && out.contains("1024"), "{out}{err}");
}

#[test]
fn a_database_server_that_loses_commits_or_takes_few_connections_is_told() {
    for (setting, code, words) in [
        ("fsync = off", "database-unsafe", "fsync = off"),
        ("full_page_writes = off", "database-unsafe", "full_page_writes = off"),
        ("max_connections = 30", "database-connections", "30 connections"),
    ] {
        let cluster = PrivateCluster::start(&[setting]);
        let site = Site::at(cluster.url());
        if code == "database-connections" {
            site.start().stop();
        }
        check(&site, &ELSEWHERE, code, words);
    }
}

#[test]
fn a_database_that_is_empty_or_takes_no_changes_by_its_settings_is_told() {
    let site = Site::postgres();
    check(&site, &ELSEWHERE, "database-empty", "no server was ever started");
    site.run(&["fsck"]).failed_with("the database is empty: start the server on it once");
    site.run(&["export", site.path("none").to_str().unwrap()]).failed_with("the database is empty");
    site.start().stop();
    for (setting, code) in [
        ("default_transaction_read_only = on", "database-read-only"),
        ("synchronous_commit = off", "database-asynchronous"),
    ] {
        assert!(!codes(&site, &ELSEWHERE).contains(&code.to_owned()), "{code} before");
        let (name, _) = setting.split_once(' ').unwrap();
        let alter = |what: &str| {
            let change = "BEGIN READ WRITE; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I ";
            site.execute(&format!("{change}{what}', current_database()); END $$; COMMIT"));
        };
        alter(&format!("SET {setting}"));
        check(&site, &ELSEWHERE, code, setting);
        alter(&format!("RESET {name}"));
    }
    assert!(!codes(&site, &ELSEWHERE).iter().any(|code| code.starts_with("database-")));
}
