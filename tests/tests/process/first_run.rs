//! The first start: what it hands over, what a kill in the middle of it leaves, what the environment moves, and what
//! the profile `web-server` takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use x509::{Certificate, KeyAlgorithm};

use crate::api::{Answer, Api, ISSUE, SIGN, new_client};
use crate::site::{Ran, Site, block_on, on_both_engines};

#[test]
fn bootstrap_json_holds_the_facts_and_keeps_them() {
    on_both_engines(|site| {
        let server = site.start();
        let first = site.facts();
        let members: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "clientId",
            "clientSecret",
            "identityId",
            "issuingCaId",
            "organizationId",
            "profiles",
            "projectId",
            "projectSlug",
            "rootCaId",
            "url",
        ];
        assert_eq!(members, expected);
        let profiles: Vec<&str> = first["profiles"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(profiles, ["client", "device", "web-server"]);
        assert_eq!(first["url"], server.url);
        let secret = first["clientSecret"].as_str().unwrap().to_owned();
        let printed = server.process.printed("API documentation");
        assert_eq!(printed.matches(&format!("client secret  {secret}")).count(), 1, "{printed}");
        check_files(site);
        server.stop();

        let mut command = site.serve(&[]);
        command.env("CHANCERY_TLS_LISTEN", "127.0.0.1:0");
        let server = site.start_as(command);
        let second = site.facts();
        assert_eq!((&second["url"], second["tlsUrl"].is_string()), (&json!(server.url), true));
        assert!(second["tlsCa"].as_str().is_some_and(|path| fs::read_to_string(path).unwrap().contains("BEGIN CERT")));
        assert_eq!(without(&second, &["url", "tlsUrl", "tlsCa"]), without(&first, &["url"]));
        assert!(!server.process.out_text().contains(&secret));
        check_files(site);
        server.stop();

        let server = site.start();
        assert_eq!(without(&site.facts(), &["url"]), without(&first, &["url"]));
        block_on(async { Api::log_in(site, &server).await.issue(site, "kept.example.com").await });
        server.stop();
        assert!(site.facts()["clientSecret"] == secret);
    });
}

fn without(facts: &Value, names: &[&str]) -> Value {
    let mut facts = facts.clone();
    names.iter().for_each(|name| drop(facts.as_object_mut().unwrap().remove(*name)));
    facts
}

/// Nobody else of this machine may read anything.
fn check_files(site: &Site) {
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(site.data()), 0o700);
    for entry in fs::read_dir(site.data()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_first_start_that_is_killed_at_any_moment_goes_on_at_the_next_one() {
    on_both_engines(|site| {
        for millis in [5, 30, 80, 130, 180, 230, 300, 380, 470, 600] {
            let starting = site.launch(site.serve(&[]));
            std::thread::sleep(Duration::from_millis(millis));
            starting.kill();
        }
        let server = site.start();
        block_on(async {
            let api = Api::log_in(site, &server).await;
            api.issue(site, "after.example.com").await;
            let authorities = api.get("/api/v1/cert-manager/ca").await.unwrap().ok();
            assert_eq!(authorities["certificateAuthorities"].as_array().map(Vec::len), Some(2), "{authorities}");
        });
        for (table, count) in
            [("organizations", 1), ("projects", 1), ("identities", 1), ("profiles", 4), ("policies", 4)]
        {
            assert_eq!(site.count(&format!("SELECT COUNT(*) FROM {table}")), count, "{table}");
        }
        let usable = site.count("SELECT COUNT(*) FROM client_secrets WHERE is_revoked = 0");
        assert_eq!(usable, 1, "secrets that nobody has");
        site.check_clean();
        server.stop();
    });
}

#[test]
fn a_secret_that_was_written_down_stays_good_when_the_start_is_killed_right_after() {
    // Somebody may have read it; that it was written is noted in the database only a moment later.
    for _ in 0..4 {
        let site = Site::sqlite();
        let starting = site.launch(site.serve(&[]));
        while !site.data().join("bootstrap.json").exists() {
            std::hint::spin_loop();
        }
        starting.kill();
        let secret = site.fact("/clientSecret");
        let server = site.start();
        assert_eq!(site.fact("/clientSecret"), secret);
        block_on(async { Api::log_in(&site, &server).await });
        server.stop();
    }
}

#[test]
fn the_printed_lines_issue_a_certificate_that_openssl_accepts() {
    let site = Site::sqlite();
    let server = site.start();
    let printed = server.process.printed("API documentation");
    let line = printed.lines().map(str::trim).find(|line| line.starts_with("TOKEN=")).unwrap();
    let ran = shell(&site, line);
    let issued: Value = serde_json::from_str(&ran.out).unwrap();
    let write = |name: &str, member: &str| {
        fs::write(site.path(name), issued[member].as_str().unwrap()).unwrap();
    };
    write("www.pem", "certificate");
    write("chain.pem", "certificateChain");
    let verified = shell(&site, "openssl verify -CAfile chain.pem www.pem");
    assert!(verified.out.contains("www.pem: OK"), "{verified:?}");

    let line = printed.lines().map(str::trim).find(|line| line.contains(" cert issue ")).unwrap();
    shell(&site, line);
    let verified = shell(&site, "openssl verify -CAfile www.example.com.chain.pem www.example.com.crt");
    assert!(verified.out.contains(": OK"), "{verified:?}");
    assert_eq!(fs::metadata(site.path("www.example.com.key")).unwrap().permissions().mode() & 0o777, 0o600);
    server.stop();
}

/// Runs a line as a person does who copies it.
#[track_caller]
fn shell(site: &Site, line: &str) -> Ran {
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(site.path("")).env_remove("CHANCERY_DATA").env("no_proxy", "127.0.0.1");
    let ran = Ran::of(command);
    assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
    ran
}

#[test]
fn the_environment_moves_address_data_database_and_the_urls_in_certificates() {
    on_both_engines(|site| {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = site.bare_command(&["serve"]);
        command
            .env("CHANCERY_LISTEN", format!("127.0.0.1:{port}"))
            .env("CHANCERY_DATA", site.data())
            .env("CHANCERY_PUBLIC_URL", "https://ca.example.com/")
            .env("CHANCERY_PUBLICATION_URL", "http://pki.example.com");
        if let Some(url) = site.database_url() {
            command.env("CHANCERY_DATABASE_URL", url);
        }
        let server = site.start_as(command);
        assert_eq!(server.url, format!("http://127.0.0.1:{port}"));
        assert_eq!(site.fact("/url"), server.url);
        assert_eq!(site.data().join("chancery.db").exists(), site.is_sqlite());
        block_on(async {
            let api = Api::log_in(site, &server).await;
            let issued = api.issue(site, "www.example.com").await;
            let urls = urls(issued["certificate"].as_str().unwrap());
            assert!(!urls.is_empty());
            assert!(urls.iter().all(|url| url.starts_with("http://pki.example.com/")), "{urls:?}");
            let documented = api.get("/api/docs/json").await.unwrap().ok();
            assert_eq!(documented["servers"][0]["url"], "https://ca.example.com");
        });
        server.stop();
    });
}

/// Every http URL that a certificate names: a GeneralName of kind 6 with a length of one octet.
pub fn urls(certificate: &str) -> Vec<String> {
    let der = Certificate::from_pem(certificate).unwrap().into_der();
    let name_at = |at: usize| {
        let [0x86, length, rest @ ..] = &der[at..] else { return None };
        let url = rest.get(..usize::from(*length)).filter(|url| url.starts_with(b"http"))?;
        Some(String::from_utf8(url.to_vec()).unwrap())
    };
    (0..der.len()).filter_map(name_at).collect()
}

#[test]
fn the_web_server_profile_takes_what_a_web_server_needs() {
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let profile = site.fact("/profiles/web-server");
        for name in [
            "www.example.com",
            "localhost",
            "a.b.c.d.e.internal",
            "xn--bcher-kva.example",
            "*.example.com",
            "192.0.2.7",
        ] {
            let body = crate::api::issue_body(&profile, name);
            let issued = api.post(ISSUE, &body).await.unwrap().ok();
            assert_eq!(sans(&issued), [name], "{name}");
        }
        let mut body = crate::api::issue_body(&profile, "www.example.com");
        body["altNames"] = json!([
            {"type": "dns_name", "value": "example.com"},
            {"type": "ip_address", "value": "192.0.2.7"},
            {"type": "ip_address", "value": "2001:db8::7"},
        ]);
        let issued = api.post(ISSUE, &body).await.unwrap().ok();
        assert_eq!(sans(&issued).len(), 4, "{issued}");
        check_algorithms(&api, &profile).await;
        check_lifetimes(&api, &profile).await;
        check_requests(&site, &api, &profile).await;
    });
    server.stop();
}

fn sans(issued: &Value) -> Vec<String> {
    domain::inventory::alt_names(&Certificate::from_pem(issued["certificate"].as_str().unwrap()).unwrap())
}

async fn check_algorithms(api: &Api, profile: &str) {
    let mut body = crate::api::issue_body(profile, "www.example.com");
    for key in ["EC_prime256v1", "EC_secp384r1", "RSA_2048", "RSA_3072", "RSA_4096"] {
        body["keyAlgorithm"] = key.into();
        body["keyUsages"] = match key.starts_with("RSA") {
            true => json!(["digital_signature", "key_encipherment"]),
            false => json!(["digital_signature"]),
        };
        let issued = api.post(ISSUE, &body).await.unwrap().ok();
        let certificate = Certificate::from_pem(issued["certificate"].as_str().unwrap()).unwrap();
        assert_eq!(certificate.key_algorithm().map(KeyAlgorithm::as_str), Ok(key));
    }
    body["keyAlgorithm"] = "EC_prime256v1".into();
    body["keyUsages"] = json!(["digital_signature"]);
    for signature in ["ECDSA-SHA256", "ECDSA-SHA384", "ECDSA-SHA512"] {
        body["signatureAlgorithm"] = signature.into();
        api.post(ISSUE, &body).await.unwrap().ok();
    }
    // The issuing authority has an EC key.
    body["signatureAlgorithm"] = "RSA-SHA256".into();
    api.post(ISSUE, &body).await.unwrap().refused(400);
}

async fn check_lifetimes(api: &Api, profile: &str) {
    let mut body = crate::api::issue_body(profile, "www.example.com");
    for (ttl, accepted) in [("1h", true), ("90d", true), ("91d", false), ("2161h", false)] {
        body["ttl"] = ttl.into();
        let answer = api.post(ISSUE, &body).await.unwrap();
        match accepted {
            true => drop(answer.ok()),
            false => {
                let refused = answer.refused(400).to_string();
                assert!(refused.contains("90"), "{refused}");
            }
        }
    }
}

/// Requests that another program made, without usages.
async fn check_requests(site: &Site, api: &Api, profile: &str) {
    for (key, name) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "csr.example.com"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "2001:db8::9"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "192.0.2.9"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "csr.example.com"),
    ] {
        let line = format!(
            "openssl genpkey {key} -out csr.key && openssl req -new -key csr.key -subj /CN={name} \
             -addext 'subjectAltName=DNS:csr.example.com,DNS:*.example.org,IP:192.0.2.9' -out csr.pem"
        );
        shell(site, &line);
        let csr = fs::read_to_string(site.path("csr.pem")).unwrap();
        let body = json!({"profileId": profile, "csr": csr, "ttl": "90d"});
        let answer = api.post(SIGN, &body).await.unwrap();
        if key.contains("RSA") {
            // Contract §6.3: the CSR's own algorithm becomes the certificate's, and an EC authority cannot make it.
            answer.refused(400);
            continue;
        }
        let issued = answer.ok();
        let sans = sans(&issued);
        assert!(sans.len() >= 3 && sans.iter().any(|san| san == name), "{name}: {sans:?}");
        assert!(issued.get("privateKey").is_none());
    }
}

#[test]
fn a_start_without_an_answer_in_time_is_no_start() {
    // Whoever reads bootstrap.json may call at once: it is there only when the server answers.
    let site = Site::sqlite();
    let mut process = site.launch(site.serve(&[]));
    let path = site.data().join("bootstrap.json");
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    block_on(async {
        let status = Api { client: new_client(), url: site.fact("/url"), token: String::new() };
        let answer = Answer::of(status.request(reqwest::Method::GET, "/api/status")).await.unwrap().ok();
        assert_eq!(answer["message"], "Ok");
        Api::log_in_at(&site.fact("/url"), new_client(), &site.facts()).await;
    });
    process.terminate();
    assert!(process.wait().success());
}
