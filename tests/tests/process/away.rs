//! The database is away, silent, a standby, or kept from taking changes: what is answered meanwhile, in the shape of
//! each edge, and that it comes back by itself (invariants I2, I4, I6, I12).

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::postgres::PrivateCluster;
use x509::Certificate;

use crate::api::{Api, ISSUE, issue_body};
use crate::site::{PATIENCE, Server, Site, block_on};

const LOGIN: &str = "/api/v1/auth/universal-auth/login";
const REGISTRIES: &str = "/iot-devices/v1/registries?folderId=default";
const TOKENS: &str = "/iam/v1/tokens";

/// A server with a certificate, a caller, and the address of a revocation list.
struct Stage {
    site: Site,
    server: Server,
    api: Api,
    issued: Value,
    list: String,
}

impl Stage {
    async fn set(site: Site) -> Self {
        let server = site.start();
        let api = Api::log_in(&site, &server).await;
        let issued = api.issue(&site, "away.example.com").await;
        let certificate = Certificate::from_pem(issued["certificate"].as_str().unwrap()).unwrap();
        let points = certificate.extensions().crl_distribution_points().unwrap().unwrap();
        let list = points.urls().next().unwrap().as_str().to_owned();
        let list = list[list.find("/api/").unwrap()..].to_owned();
        Self { site, server, api, issued, list }
    }

    async fn list(&self) -> (u16, Vec<u8>) {
        let answer = self.api.client.get(format!("{}{}", self.server.url, self.list)).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    /// The list, which is then kept for bad times.
    async fn list_is_kept(&self) -> Vec<u8> {
        let (status, list) = self.list().await;
        assert_eq!(status, 200);
        list
    }

    /// Sends a request of each kind; every one must be told to come later, by the edge's own kind of error.
    async fn is_told_to_come_later(&self, body: Value, requests: &[(Method, &str)]) {
        for (method, path) in requests {
            let asked = self.api.request(method.clone(), path).json(&body).send().await.unwrap();
            let (status, headers) = (asked.status().as_u16(), asked.headers().clone());
            let said: Value = serde_json::from_slice(&asked.bytes().await.unwrap()).unwrap();
            assert_eq!(status, 503, "{method} {path}: {said}");
            let seconds: u32 = headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!(seconds > 0, "{method} {path}");
            match said.get("statusCode") {
                Some(code) => assert_eq!((code, &said["error"]), (&json!(503), &json!("ServiceUnavailable"))),
                None => assert_eq!(said["code"], 14, "{method} {path}: {said}"),
            }
            assert!(said["message"].as_str().unwrap().contains("the database"), "{said}");
        }
    }

    fn issue_body(&self) -> Value {
        issue_body(&self.site.fact("/profiles/web-server"), "later.example.com")
    }

    /// Requests that need the database to write, to read, and to know who asks.
    async fn nothing_is_done(&self) {
        let certificates = format!("/api/v1/projects/{}/certificates/counts", self.site.fact("/projectId"));
        let id = self.issued["certificateId"].as_str().unwrap();
        let revoke = format!("/api/v1/cert-manager/certificates/{id}/revoke");
        self.is_told_to_come_later(self.issue_body(), &[(Method::POST, ISSUE)]).await;
        let reason = json!({"revocationReason": "UNSPECIFIED"});
        self.is_told_to_come_later(reason, &[(Method::POST, &revoke)]).await;
        let facts = self.site.facts();
        let secret = json!({"clientId": facts["clientId"], "clientSecret": facts["clientSecret"]});
        self.is_told_to_come_later(secret, &[(Method::POST, LOGIN)]).await;
        let read = [(Method::GET, &*certificates), (Method::GET, REGISTRIES)];
        self.is_told_to_come_later(json!({}), &read).await;
        let token = json!({"yandexPassportOauthToken": self.api.token});
        self.is_told_to_come_later(token, &[(Method::POST, TOKENS)]).await;
    }

    /// Waits until a certificate is issued.
    async fn comes_back(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.api.post(ISSUE, &self.issue_body()).await.unwrap();
            if answer.status == 200 {
                break;
            }
            assert!([503, 504].contains(&answer.status), "{}", answer.body);
            assert!(Instant::now() < deadline, "it does not come back by itself");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(self.api.metric("chancery_panics").await, 0);
    }

    fn end(self) {
        self.server.stop();
        self.site.check_clean();
    }
}

#[test]
fn a_database_that_is_away_is_503_at_every_edge_and_the_last_list_is_still_given() {
    let cluster = PrivateCluster::start(&[]);
    block_on(async {
        let stage = Stage::set(Site::at(cluster.url())).await;
        let list = stage.list_is_kept().await;
        for _ in 0..2 {
            tokio::task::block_in_place(|| cluster.stop());
            stage.nothing_is_done().await;
            assert_eq!(stage.list().await, (200, list.clone()));
            tokio::task::block_in_place(|| cluster.start_again());
            stage.comes_back().await;
        }
        assert_eq!(stage.site.count("SELECT COUNT(*) FROM certificates WHERE common_name = 'later.example.com'"), 2);
        stage.end();
    });
}

#[test]
fn a_database_that_says_nothing_is_away_too() {
    let cluster = PrivateCluster::start(&[]);
    block_on(async {
        let stage = Stage::set(Site::at(cluster.url())).await;
        let list = stage.list_is_kept().await;
        cluster.freeze();
        // Before it is noticed, what was sent may have been done.
        let answer = stage.api.post(ISSUE, &stage.issue_body()).await.unwrap();
        assert!([503, 504].contains(&answer.status), "{}", answer.body);
        stage.nothing_is_done().await;
        assert_eq!(stage.list().await, (200, list));
        cluster.thaw();
        stage.comes_back().await;
        stage.end();
    });
}

#[test]
fn a_database_that_takes_no_changes_is_read_and_changes_are_503() {
    let cluster = PrivateCluster::start(&[]);
    block_on(async {
        let stage = Stage::set(Site::at(cluster.url())).await;
        let id = stage.issued["certificateId"].as_str().unwrap().to_owned();
        let certificate = format!("/api/v1/cert-manager/certificates/{id}");
        cluster.execute("ALTER SYSTEM SET default_transaction_read_only = on");
        cluster.execute("SELECT pg_reload_conf()");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = stage.api.post(ISSUE, &stage.issue_body()).await.unwrap();
            if answer.status == 503 {
                assert!(answer.body["message"].as_str().unwrap().contains("read-only"), "{}", answer.body);
                break;
            }
            assert!(answer.status == 200 && Instant::now() < deadline, "{}", answer.body);
        }
        // A server that connects anew reads, too.
        let mut cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()".to_owned();
        cut += " AND backend_type = 'client backend'";
        cluster.execute(&cut);
        stage.api.get(&certificate).await.unwrap().ok();
        stage.api.get(REGISTRIES).await.unwrap().ok();
        assert_eq!(stage.list().await.0, 200);
        let revoke = format!("{certificate}/revoke");
        let reason = json!({"revocationReason": "UNSPECIFIED"});
        stage.is_told_to_come_later(reason, &[(Method::POST, &revoke)]).await;
        stage.is_told_to_come_later(stage.issue_body(), &[(Method::POST, ISSUE)]).await;
        cluster.execute("ALTER SYSTEM RESET default_transaction_read_only");
        cluster.execute("SELECT pg_reload_conf()");
        stage.comes_back().await;
        stage.end();
    });
}

#[test]
fn nothing_is_read_from_a_standby_and_its_promotion_ends_the_pause() {
    let primary = PrivateCluster::start(&[]);
    let standby = PrivateCluster::start_standby_of(&primary);
    let url = format!("postgresql://postgres@{},{}/postgres", primary.address(), standby.address());
    block_on(async {
        let stage = Stage::set(Site::at(url)).await;
        let list = stage.list_is_kept().await;
        // The standby has everything by then.
        let copied = "SELECT COUNT(*) FROM certificates WHERE common_name = 'away.example.com'";
        let follower = Site::at(standby.url());
        while follower.count(copied) != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::task::block_in_place(|| primary.stop());
        stage.nothing_is_done().await;
        assert_eq!(stage.list().await, (200, list));
        // Nobody starts on a standby either.
        let refused = Site::at(standby.url());
        let said = refused.launch(refused.serve(&[])).refused();
        assert!(said.contains("standby"), "{said}");
        tokio::task::block_in_place(|| standby.promote());
        stage.comes_back().await;
        stage.end();
    });
}
