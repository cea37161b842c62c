//! The TLS listener: its certificate from an internal authority or from files, every service on it, HTTP/2 and HTTP/1.1,
//! and the renewal of the certificate while the server runs.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use chancery::cli::local::{AddressOrOff, DatabaseArguments, ServeArguments};
use chancery::config::Config;
use domain::Time;
use services::Clock;
use x509::Certificate;

use crate::api::{Api, client_with};
use crate::site::{Ran, Site, block_on, on_both_engines};

#[test]
fn every_service_is_there_over_tls_in_both_versions_of_http() {
    on_both_engines(|site| {
        let server = site.start_as(site.serve(&["--tls-listen", "127.0.0.1:0"]));
        let (url, ca) = (site.fact("/tlsUrl"), site.fact("/tlsCa"));
        assert!(url.starts_with("https://localhost:"), "{url}");
        assert_eq!(fs::read_to_string(&ca).unwrap().matches("BEGIN CERTIFICATE").count(), 1);
        let by_address = url.replace("localhost", "127.0.0.1");
        for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
            for url in [&url, &by_address] {
                let format = ["--write-out", "\n%{http_version} %{ssl_verify_result}"];
                let ran = curl(&[&["--cacert", &ca, option], &format[..], &[&format!("{url}/api/status")]].concat());
                assert!(
                    ran.out.contains("\"message\":\"Ok\"") && ran.out.ends_with(&format!("\n{version} 0")),
                    "{ran:?}"
                );
            }
        }
        let untrusting = curl(&[&format!("{url}/api/status")]);
        assert_ne!(untrusting.code, Some(0), "a certificate of nobody's");
        assert_ne!(curl(&["--cacert", &ca, "--tls-max", "1.1", &format!("{url}/api/status")]).code, Some(0));

        let root = reqwest::Certificate::from_pem(&fs::read(&ca).unwrap()).unwrap();
        let client = client_with(reqwest::Client::builder().tls_certs_only([root]));
        block_on(async {
            let api = Api::log_in_at(&url, client, &site.facts()).await;
            let issued = api.issue(site, "tls.example.com").await;
            assert_eq!(api.metric("chancery_panics").await, 0);
            assert!(api.text("/api/docs").await.contains("issue-certificate"));
            let at = crate::first_run::urls(issued["certificate"].as_str().unwrap());
            // Those that a browser gets: OCSP is asked with a question.
            for at in at.iter().filter(|at| at.starts_with(&server.url) && !at.ends_with("/ocsp")) {
                let path = &at[server.url.len()..];
                let answer = api.request(reqwest::Method::GET, path).send().await.unwrap();
                assert_eq!(answer.status(), 200, "{path}");
            }
            assert!(at.len() >= 2, "{at:?}");
        });
        // Who speaks in clear to it is not kept waiting.
        assert_ne!(curl(&[&format!("{}/api/status", url.replace("https", "http"))]).code, Some(0));
        server.stop();
    });
}

fn curl(arguments: &[&str]) -> Ran {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]).args(arguments);
    Ran::of(command)
}

#[test]
fn a_certificate_from_files_is_served_and_a_wrong_one_refuses_the_start() {
    let site = Site::sqlite();
    for name in ["good", "other"] {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        command.args(["-subj", "/CN=files.example.com", "-addext", "subjectAltName=DNS:localhost"]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]).current_dir(site.path(""));
        assert_eq!(Ran::of(command).code, Some(0));
    }
    fs::write(site.path("empty.pem"), "").unwrap();
    fs::write(site.path("text.pem"), "no certificate\n").unwrap();
    let serve = |certificate: &str, key: &str| {
        site.serve(&["--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key])
    };
    for (certificate, key, words) in [
        ("missing.pem", "good.key", "missing.pem"),
        ("good.pem", "missing.key", "missing.key"),
        ("good.pem", "other.key", "certificate and its key"),
        ("empty.pem", "good.key", "certificate"),
        ("text.pem", "good.key", "certificate"),
        ("good.pem", "good.pem", "TLS key"),
    ] {
        let said = site.launch(serve(certificate, key)).refused();
        assert!(said.contains(words), "{certificate} {key}: {said}");
    }
    site.run(&["serve", "--listen", "127.0.0.1:0", "--tls", "files"]).failed_with("tls_certificate and tls_key");

    let server = site.start_as(serve("good.pem", "good.key"));
    assert!(site.facts().get("tlsCa").is_none());
    let status = format!("{}/api/status", site.fact("/tlsUrl"));
    let trusting = |name: &str| {
        let file = site.path(&format!("{name}.pem"));
        curl(&["--cacert", file.to_str().unwrap(), &status]).code
    };
    assert_eq!((trusting("good"), trusting("other") == Some(0)), (Some(0), false));
    // Exchanged files are taken up while it runs.
    for end in ["key", "pem"] {
        fs::rename(site.path(&format!("other.{end}")), site.path(&format!("good.{end}"))).unwrap();
    }
    until("the new files are served", || trusting("good") == Some(0));
    server.stop();
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_address_for_others_takes_tls() {
    let site = Site::sqlite();
    for (arguments, words) in [
        (&["--listen", "0.0.0.0:0"][..], "TLS is required"),
        (&["--listen", "[::]:0"], "TLS is required"),
        (&["--listen", "0.0.0.0:0", "--tls-listen", "127.0.0.1:0"], "TLS is required"),
        (&["--publication-url", "https://pki.example.com"], "publication_url"),
        (&["--public-url", "ca.example.com"], "public_url"),
        (&["--trusted-proxies", "everyone"], "trusted_proxies"),
    ] {
        let ran = Ran::of({
            let mut command = site.command(&["serve"]);
            command.args(arguments);
            command
        });
        ran.failed_with(words);
    }
    assert!(!site.data().exists(), "a refused configuration made something");

    let server = site.start_as(site.serve(&["--listen", "0.0.0.0:0", "--tls", "auto"]));
    assert!(server.url.starts_with("https://localhost:"), "{}", server.url);
    let ran = curl(&["--cacert", &site.fact("/tlsCa"), &format!("{}/api/status", server.url)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(server.process.err_text().contains("set publication_url"));
    // The command line finds the way too.
    let ran = site.run(&["ca", "list"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    server.stop();
}

#[test]
fn the_certificate_is_renewed_by_a_job_and_served_without_a_restart() {
    const DAY: i64 = 24 * 60 * 60;
    on_both_engines(|site| {
        block_on(async {
            let start = Time::from_seconds(system_seconds());
            let clock = Clock::manual(start);
            let running = chancery::server::start(&config(site), clock.clone()).await.unwrap();
            let first = served(site);
            assert_eq!(first.not_after() - first.not_before(), 30 * DAY);
            clock.set(start.plus_seconds(19 * DAY));
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(site.count("SELECT COUNT(*) FROM certificates WHERE profile_id IS NOT NULL"), 1);
            clock.set(start.plus_seconds(21 * DAY));
            tokio::task::block_in_place(|| until("a new one is served", || served(site).as_der() != first.as_der()));
            let second = served(site);
            assert_eq!(second.not_after(), first.not_after() + 21 * DAY);
            assert_eq!(domain::inventory::alt_names(&second), domain::inventory::alt_names(&first));
            let planned = site.count("SELECT run_at FROM jobs WHERE kind = 'renew-server-certificate'");
            assert_eq!(planned, (second.not_before() + 20 * DAY) * 1000);
            running.stop().await;
        });
    });
}

fn system_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// The same in this process.
pub fn config(site: &Site) -> Config {
    let database = DatabaseArguments {
        data: Some(site.data().to_owned()),
        database: site.database_url().map(str::to_owned),
        ..DatabaseArguments::default()
    };
    let arguments = ServeArguments {
        database,
        listen: Some("127.0.0.1:0".parse().unwrap()),
        tls_listen: Some("127.0.0.1:0".parse().unwrap()),
        mqtt_listen: Some(AddressOrOff::Off),
        mqtt_ws_listen: Some(AddressOrOff::Off),
        ..ServeArguments::default()
    };
    Config::from_arguments(&arguments).unwrap()
}

/// The certificate that the TLS listener shows.
fn served(site: &Site) -> Certificate {
    let address = site.fact("/tlsUrl").replace("https://localhost", "127.0.0.1");
    let line = format!("openssl s_client -connect {address} -servername localhost </dev/null | openssl x509");
    let mut command = Command::new("bash");
    command.args(["-c", &line]);
    let ran = Ran::of(command);
    Certificate::from_pem(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}
