//! More than the server takes (invariant I18): each queue has an end, what comes beyond it is told to come later in the words
//! of its protocol, and revocation, lists and OCSP go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use x509::{Certificate, CertificateId, IdentifierHash, OcspAnswer, OcspRefusal, OcspRequest};

use crate::api::{Api, ISSUE, issue_body};
use crate::site::{PATIENCE, Server, Site, block_on, on_both_engines};

const CERTIFICATES: &str = "/api/v1/cert-manager/certificates";
const OCSP: &str = "/api/v1/pki/ocsp";

/// A server with these limits.
fn start(site: &Site, configuration: &str) -> Server {
    std::fs::write(site.path("chancery.toml"), configuration).unwrap();
    site.start_as(site.serve(&["--config", site.path("chancery.toml").to_str().unwrap()]))
}

async fn revoke(api: &Api, issued: &Value) -> u16 {
    let path = format!("{CERTIFICATES}/{}/revoke", issued["certificateId"].as_str().unwrap());
    api.post(&path, &json!({"revocationReason": "SUPERSEDED"})).await.unwrap().status
}

/// What OCSP answers about a certificate: an answer, or to come later.
async fn is_answered(api: &Api, issued: &Value) -> bool {
    let certificate = Certificate::from_pem(issued["certificate"].as_str().unwrap()).unwrap();
    let issuer = Certificate::from_pem(issued["issuingCaCertificate"].as_str().unwrap()).unwrap();
    let (hash, key) = (IdentifierHash::Sha256, issuer.verifying_key().unwrap());
    let (name_hash, key_hash) = (hash.of(issuer.subject().as_der()), hash.of(key.key_octets()));
    let id = CertificateId::encode(hash, &name_hash, &key_hash, certificate.serial_content());
    let request = OcspRequest::encode(&[&id], Some(b"nonce"));
    let reply = api.client.post(format!("{}{OCSP}", api.url)).body(request).send().await.unwrap();
    assert_eq!(reply.status(), 200, "OCSP says no in its own words");
    let der = reply.bytes().await.unwrap();
    match OcspRefusal::from_der(&der) {
        None => OcspAnswer::from_der(&der).unwrap().answers().next().is_some(),
        Some(refusal) => {
            assert_eq!(refusal, OcspRefusal::TryLater);
            false
        }
    }
}

/// A request as it is answered: its status, `Retry-After` and body.
async fn answer(api: &Api, method: Method, path: &str, body: Option<&Value>) -> (u16, Option<String>, Value) {
    let request = api.request(method, path);
    let request = match body {
        None => request,
        Some(body) => request.json(body),
    };
    let reply = request.send().await.unwrap();
    let later = reply.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = reply.status().as_u16();
    (status, later, serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or(Value::Null))
}

#[track_caller]
fn is_told_to_come_later((status, later, body): &(u16, Option<String>, Value)) {
    assert_eq!((*status, &body["error"]), (429, &"RateLimitExceeded".into()), "{body}");
    assert!(later.as_ref().is_some_and(|seconds| seconds.parse::<u32>().unwrap() > 0), "{later:?}");
}

/// Until a number of `/metrics` is at least this.
async fn until(api: &Api, name: &str, at_least: u64) {
    let deadline = Instant::now() + PATIENCE;
    while api.metric(name).await < at_least {
        assert!(Instant::now() < deadline, "{name} does not reach {at_least}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn rsa_body(site: &Site) -> Value {
    let mut body = issue_body(&site.fact("/profiles/web-server"), "rsa.example.com");
    body["keyAlgorithm"] = "RSA_4096".into();
    body
}

#[test]
fn certificates_wait_for_their_turn_a_while_and_revocation_does_not_wait_for_them() {
    on_both_engines(|site| {
        let server = start(site, "[limits]\nissuances_at_once = 1\nissuances_waiting = 2\n");
        block_on(async {
            let api = Api::log_in(site, &server).await;
            let first = api.issue(site, "first.example.com").await;
            let body = issue_body(&site.fact("/profiles/web-server"), "many.example.com");
            let issuing: Vec<_> = (0..200)
                .map(|_| {
                    let (api, body) = (api.clone(), body.clone());
                    tokio::spawn(async move { answer(&api, Method::POST, ISSUE, Some(&body)).await })
                })
                .collect();
            until(&api, "chancery_refused{queue=\"issuances\"}", 1).await;
            assert_eq!(revoke(&api, &first).await, 200);
            assert!(is_answered(&api, &first).await);
            let mut made = 0;
            for answered in issuing {
                match answered.await.unwrap() {
                    (200, _, _) => made += 1,
                    refused => is_told_to_come_later(&refused),
                }
            }
            assert!((1..200).contains(&made), "{made}");
            assert_eq!(api.metric("chancery_refused{queue=\"issuances\"}").await, 200 - made);
            assert_eq!(api.metric("chancery_admitted{queue=\"issuances\"}").await, 0);
            let there = site.count("SELECT COUNT(*) FROM certificates WHERE common_name = 'many.example.com'");
            assert_eq!(u64::try_from(there).unwrap(), made);
            api.issue(site, "last.example.com").await;
        });
        server.stop();
        site.check_clean();
    });
}

/// A request whose body does not come.
fn begin(server: &Server, path: &str, token: &str) -> TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn requests_have_an_end_and_those_that_revoke_have_room_of_their_own() {
    let site = Site::sqlite();
    let server = start(&site, "[limits]\nrequests_at_once = 2\n");
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let (one, other) = (api.issue(&site, "one.example.com").await, api.issue(&site, "other.example.com").await);
        let slow = [begin(&server, ISSUE, &api.token), begin(&server, ISSUE, &api.token)];
        until(&api, "chancery_admitted{queue=\"requests\"}", 2).await;
        let body = issue_body(&site.fact("/profiles/web-server"), "late.example.com");
        is_told_to_come_later(&answer(&api, Method::POST, ISSUE, Some(&body)).await);
        is_told_to_come_later(&answer(&api, Method::GET, "/nothing", None).await);
        let (status, later, said) = answer(&api, Method::GET, "/iot-devices/v1/registries?folderId=x", None).await;
        // RESOURCE_EXHAUSTED.
        assert_eq!((status, &said["code"], later.as_deref()), (429, &8.into(), Some("1")), "{said}");
        assert_eq!(revoke(&api, &one).await, 200);
        assert!(is_answered(&api, &one).await);
        assert_eq!(api.get("/api/status").await.unwrap().status, 200);
        drop(slow);

        // One that came while the question before was answered may have found no room.
        let mut strangers = vec![begin(&server, OCSP, ""), begin(&server, OCSP, "")];
        while is_answered(&api, &other).await {
            strangers.push(begin(&server, OCSP, ""));
            assert!(strangers.len() < 100, "slow requests take no room");
        }
        assert_eq!(revoke(&api, &other).await, 429);
        drop(strangers);
        let deadline = Instant::now() + PATIENCE;
        while revoke(&api, &other).await != 200 {
            assert!(Instant::now() < deadline, "the room is not given back");
        }
        api.issue(&site, "late.example.com").await;
        assert!(api.metric("chancery_refused{queue=\"requests\"}").await >= 3);
        assert!(api.metric("chancery_refused{queue=\"urgent_requests\"}").await >= 2);
    });
    server.stop();
}

#[test]
fn rsa_keys_have_a_queue_with_an_end_and_others_do_not_stand_in_it() {
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let body = rsa_body(&site);
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..400 {
            let (api, body) = (api.clone(), body.clone());
            asking.spawn(async move { answer(&api, Method::POST, ISSUE, Some(&body)).await });
        }
        until(&api, "chancery_admitted{queue=\"rsa_keys_waiting\"}", 200).await;
        let refused = loop {
            match asking.join_next().await.unwrap().unwrap() {
                (200, _, _) => {}
                refused => break refused,
            }
        };
        is_told_to_come_later(&refused);
        let issued = api.issue(&site, "ec.example.com").await;
        assert_eq!(revoke(&api, &issued).await, 200);
        assert!(is_answered(&api, &issued).await);
        asking.abort_all();
    });
    server.kill();
}

#[test]
fn an_idle_connection_ends_and_gives_its_place_to_the_next() {
    let site = Site::sqlite();
    let server = start(&site, "connections_max = 5\n[limits]\nidle_seconds = 1\n");
    let address = server.url.strip_prefix("http://").unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let whole = format!("GET /api/status HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let half = &whole.as_bytes()[..30];
    let beginnings = [&b""[..], b"PRI * HT", preface, half, whole.as_bytes()];
    let idle = beginnings.map(|beginning| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(beginning).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    });
    // There is no place for this one before.
    block_on(async { Api::log_in(&site, &server).await.issue(&site, "next.example.com").await });
    for (mut stream, beginning) in idle.into_iter().zip(beginnings) {
        let mut said = Vec::new();
        // To the end, which may be a reset.
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{}", beginning.escape_ascii()),
        }
    }
    server.stop();
}

#[test]
fn an_identity_and_a_project_have_the_rates_that_the_operator_gave_them() {
    let site = Site::sqlite();
    let server = start(&site, "[limits]\nidentity_requests_per_second = 20\nproject_certificates_per_second = 1\n");
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let issued = api.issue(&site, "first.example.com").await;
        let body = issue_body(&site.fact("/profiles/web-server"), "more.example.com");
        let refused = loop {
            match answer(&api, Method::POST, ISSUE, Some(&body)).await {
                (200, _, _) => {}
                refused => break refused,
            }
        };
        is_told_to_come_later(&refused);
        assert!(refused.2["message"].as_str().unwrap().contains("project"), "{}", refused.2);
        let all = (0..400).map(|_| {
            let (api, path) = (api.clone(), format!("{CERTIFICATES}/{}", issued["certificateId"].as_str().unwrap()));
            tokio::spawn(async move { answer(&api, Method::GET, &path, None).await })
        });
        let mut refused = 0;
        for answered in all.collect::<Vec<_>>() {
            let answered = answered.await.unwrap();
            if answered.0 != 200 {
                is_told_to_come_later(&answered);
                assert!(answered.2["message"].as_str().unwrap().contains("identity"), "{}", answered.2);
                refused += 1;
            }
        }
        assert!(refused > 0);
        assert_eq!(revoke(&api, &issued).await, 200);
        assert_eq!(api.metric("chancery_refused{queue=\"identity_rate\"}").await, refused);
        assert!(api.metric("chancery_refused{queue=\"project_rate\"}").await > 0);
    });
    server.stop();
}
