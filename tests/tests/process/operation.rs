//! What an operator does with the server: starts it, ends it, reads its log, starts it twice by mistake, takes its
//! database away.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::PrivateCluster;

use crate::api::{Api, ISSUE, issue_body};
use crate::edges::log_lines;
use crate::site::{Server, Site, block_on, on_both_engines};

#[test]
fn the_end_finishes_what_was_accepted_however_often_it_is_asked_for() {
    on_both_engines(|site| {
        let mut server = site.start();
        block_on(async {
            let api = Api::log_in(site, &server).await;
            let mut body = issue_body(&site.fact("/profiles/web-server"), "last.example.com");
            body["keyAlgorithm"] = "RSA_4096".into();
            let requests = (0..2).map(|_| {
                let (api, body) = (api.clone(), body.clone());
                tokio::spawn(async move { api.post(ISSUE, &body).await.unwrap().ok() })
            });
            let requests: Vec<_> = requests.collect();
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.process.terminate();
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.process.terminate();
            for request in requests {
                assert!(request.await.unwrap()["certificate"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
            }
            // It takes no more.
            assert!(api.get("/api/status").await.is_err());
        });
        let status = server.process.wait();
        assert_eq!(status.code(), Some(0), "{}", server.process.err_text());
        let last = site.count("SELECT COUNT(*) FROM certificates WHERE common_name = 'last.example.com'");
        assert_eq!(last, 2);
        site.check_clean();
    });
}

#[test]
fn an_end_during_the_start_is_an_end() {
    on_both_engines(|site| {
        for millis in [40, 120, 250] {
            let mut starting = site.launch(site.serve(&[]));
            std::thread::sleep(Duration::from_millis(millis));
            starting.terminate();
            let status = starting.wait();
            // Before the program listens for the signal, it ends it as any other.
            assert!(status.success() || std::os::unix::process::ExitStatusExt::signal(&status) == Some(15), "{status}");
        }
        site.start().stop();
        site.check_clean();
    });
}

#[test]
fn the_log_is_json_where_nobody_looks_and_names_failures_by_their_request() {
    let site = Site::sqlite();
    let server = site.start();
    let before = server.process.err_text();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        api.post(ISSUE, &json!({})).await.unwrap().refused(422);
        // A row that does not read is our failure: 500 for the caller, its cause in the log.
        let id = api.issue(&site, "broken.example.com").await["certificateId"].as_str().unwrap().to_owned();
        site.execute("UPDATE certificates SET details = 'no document' WHERE common_name = 'broken.example.com'");
        let answer = api.get(&format!("/api/v1/cert-manager/certificates/{id}")).await.unwrap();
        let failed = answer.refused(500);
        assert!(!failed.to_string().contains("read"), "{failed}");
        let log = server.process.err_text();
        let line = log[before.len()..].lines().find(|line| line.contains(failed["reqId"].as_str().unwrap())).unwrap();
        assert!(line.contains("do not read") && line.contains("\"level\":\"ERROR\""), "{line}");
        // What a caller did wrong is no event.
        assert_eq!(log[before.len()..].lines().count(), 1, "{log}");
    });
    let log = log_lines(&server.process.err_text());
    assert!(log.iter().all(|line| line["timestamp"].is_string() && line["message"].is_string()), "{log:?}");
    server.stop();

    let server = site.launch(site.serve(&["--log-format", "human"]));
    let deadline = Instant::now() + crate::site::PATIENCE;
    while !server.err_text().contains("chancery is ready") {
        assert!(Instant::now() < deadline, "{}", server.err_text());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!server.err_text().starts_with('{'), "{}", server.err_text());
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    on_both_engines(|site| {
        let server = site.start();
        let said = site.launch(site.serve(&[])).refused();
        assert!(said.contains("another server runs on"), "{said}");
        block_on(async { Api::log_in(site, &server).await.issue(site, "first.example.com").await });
        server.kill();
        site.start().stop();
    });
}

#[test]
fn two_nodes_serve_one_database() {
    let site = Site::postgres();
    let first = site.start();
    let other = site.node_beside();
    let second = other.start();
    block_on(async {
        let apis = [Api::log_in(&site, &first).await, {
            // The secret stands with the first node only.
            Api::log_in_at(&second.url, crate::api::new_client(), &site.facts()).await
        }];
        let work = apis.iter().cycle().take(20).enumerate().map(|(number, api)| {
            let (api, body) =
                (api.clone(), issue_body(&site.fact("/profiles/web-server"), &format!("n{number}.example.com")));
            tokio::spawn(async move { api.post(ISSUE, &body).await.unwrap().ok() })
        });
        let issued: Vec<_> = work.collect();
        for (number, issued) in issued.into_iter().enumerate() {
            let id = issued.await.unwrap()["certificateId"].as_str().unwrap().to_owned();
            // What one node has answered the other one knows.
            let path = format!("/api/v1/cert-manager/certificates/{id}");
            apis[(number + 1) % 2].get(&path).await.unwrap().ok();
        }
    });
    assert_eq!(other.fact("/projectId"), site.fact("/projectId"));
    assert!(other.facts().get("clientSecret").is_none());
    assert!(site.count("SELECT COUNT(*) FROM audit_heads") >= 2);
    site.check_clean();
    second.stop();
    first.stop();
    site.check_clean();
}

#[test]
fn two_nodes_that_start_for_the_first_time_at_once_make_one_first_start() {
    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let site = Site::postgres();
    let other = Site::at(site.database_url().unwrap().to_owned());
    let nodes = [&site, &other].map(|site| {
        let mut command = site.serve(&[]);
        command.env("CHANCERY_MASTER_KEY", KEY);
        site.launch(command)
    });
    let servers = nodes.map(|node| node.ready());
    for (table, count) in [("organizations", 1), ("identities", 1), ("authorities", 2), ("profiles", 4)] {
        assert_eq!(site.count(&format!("SELECT COUNT(*) FROM {table}")), count, "{table}");
    }
    // One of the two has the secret, and it is good.
    let mut with_secret: Vec<_> = [&site, &other]
        .into_iter()
        .zip(&servers)
        .filter(|(site, _)| site.facts().get("clientSecret").is_some())
        .collect();
    assert_eq!(with_secret.len(), 1);
    let (first, server) = with_secret.remove(0);
    block_on(async { Api::log_in(first, server).await.issue(first, "first.example.com").await });
    servers.into_iter().for_each(Server::stop);
}

#[test]
fn a_newer_schema_is_refused_by_every_command() {
    on_both_engines(|site| {
        site.start().stop();
        site.execute("INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (9999, 'x', 'x', 0)");
        for arguments in
            [&["serve", "--listen", "127.0.0.1:0"][..], &["fsck"], &["audit", "verify"], &["keys", "rotate-master"]]
        {
            site.run(arguments).failed_with("newer");
        }
        site.execute("DELETE FROM schema_migrations WHERE version = 9999");
        site.start().stop();
        site.check_clean();
    });
}

#[test]
fn while_the_database_is_away_nothing_is_issued_and_afterwards_all_is_well() {
    let cluster = PrivateCluster::start(&[]);
    let site = Site::at(cluster.url());
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let facts = site.facts();
        api.issue(&site, "before.example.com").await;
        let body = issue_body(facts["profiles"]["web-server"].as_str().unwrap(), "away.example.com");
        for _ in 0..2 {
            let before = site.count("SELECT COUNT(*) FROM certificates");
            tokio::task::block_in_place(|| cluster.stop());
            for path in [ISSUE, "/api/v1/auth/universal-auth/login"] {
                let asked = if path == ISSUE {
                    body.clone()
                } else {
                    json!({"clientId": facts["clientId"], "clientSecret": facts["clientSecret"]})
                };
                let answer = api.post(path, &asked).await.unwrap();
                assert!((500..600).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
                assert!(answer.body.get("certificate").is_none() && answer.body.get("accessToken").is_none());
            }
            api.get("/api/status").await.unwrap().ok();
            tokio::task::block_in_place(|| cluster.start_again());
            let deadline = Instant::now() + crate::site::PATIENCE;
            while api.post(ISSUE, &body).await.unwrap().status != 200 {
                assert!(Instant::now() < deadline, "it does not come back by itself");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(site.count("SELECT COUNT(*) FROM certificates"), before + 1);
        }
        // A connection that could not be made just before the database was back says so for 200 ms.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(api.metric("chancery_panics").await, 0);
    });
    server.stop();
    site.check_clean();
}
