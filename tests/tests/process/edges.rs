//! What strangers send: too much, too slowly, too deep, to no address, with other hosts' names. Each is answered like
//! every error or cut off, nothing panics, and the server stays small.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Answer, Api, ISSUE, SIGN, issue_body, new_client};
use crate::first_run::urls;
use crate::site::{Server, Site, block_on};

const LOGIN: &str = "/api/v1/auth/universal-auth/login";

#[test]
fn nothing_that_a_stranger_sends_costs_more_than_an_answer() {
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let stranger = Api { token: String::new(), ..api.clone() };
        let before = memory(&server);
        let dashes = "-----BEGIN ".repeat((1 << 20) / 11);
        let nested = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
        let keys: String = (0..20_000).map(|key| format!("\"k{key}\":0,")).collect();
        for (what, api, path, body, status) in [
            ("a body of 2 MiB", &stranger, LOGIN, "x".repeat(2 << 20), &[413][..]),
            ("deep lists", &stranger, LOGIN, nested("[", "]"), &[400]),
            ("deep objects", &stranger, LOGIN, nested("{\"a\":", "}"), &[400]),
            ("many keys", &stranger, LOGIN, format!("{{{keys}\"z\":0}}"), &[413, 422]),
            ("a key twice", &stranger, LOGIN, r#"{"clientId":"a","clientId":"b"}"#.into(), &[400]),
            ("a number without end", &stranger, LOGIN, r#"{"clientId":1e400}"#.into(), &[400]),
            ("half a body", &stranger, LOGIN, "{\"clientId\":".into(), &[400]),
            ("no JSON", &stranger, LOGIN, "\u{feff}hello".into(), &[400]),
            ("a list", &stranger, LOGIN, "[]".into(), &[422]),
            (
                "beginnings of PEM",
                &api,
                SIGN,
                json!({"profileId": "x", "ttl": "1d", "csr": dashes}).to_string(),
                &[413, 422],
            ),
            ("a body without a token", &stranger, ISSUE, nested("[", "]"), &[401]),
        ] {
            let request = api.request(Method::POST, path).header("content-type", "application/json").body(body);
            let answer = Answer::of(request).await.unwrap();
            assert!(status.contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
            assert_eq!(answer.body["statusCode"], answer.status, "{what}");
        }
        let begun = Instant::now();
        let import = format!("/api/v1/pki/ca/{}/import-certificate", site.fact("/issuingCaId"));
        for text in [dashes.clone(), dashes.replace("BEGIN ", "BEGIN CERTIFICATE-----\n"), "\r\n".repeat(100_000)] {
            let answer = api.post(&import, &json!({"certificate": text, "certificateChain": text})).await.unwrap();
            assert!((400..500).contains(&answer.status), "{}", answer.body);
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "PEM takes longer than linear time");
        check_gzip(&stranger).await;
        assert_eq!(api.metric("chancery_panics").await, 0);
        let grown = memory(&server).saturating_sub(before);
        assert!(grown < 100 << 10, "{grown} KiB more memory");
        api.issue(&site, "still.example.com").await;
    });
    server.stop();
}

/// A compressed body is not opened: it is not JSON.
async fn check_gzip(api: &Api) {
    // A gzip member that says nothing: header, an empty stored block, check sum and length.
    let empty = [31, 139, 8, 0, 0, 0, 0, 0, 0, 255, 1, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
    let request = api.request(Method::POST, LOGIN).header("content-encoding", "gzip").body(empty.to_vec());
    let answer = Answer::of(request).await.unwrap();
    assert!([400, 415].contains(&answer.status), "{}", answer.body);
}

/// Resident memory in KiB.
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn unknown_paths_and_methods_are_404_and_a_slash_at_the_end_is_nothing() {
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/nothing"),
            (Method::GET, "/api"),
            (Method::GET, LOGIN),
            (Method::PUT, ISSUE),
            (Method::DELETE, "/api/status"),
            (Method::OPTIONS, ISSUE),
            (Method::GET, "/api/v1/pki/crl/not-a-uuid/der"),
            (Method::GET, "/api/v1/pki/ca/%00/certificate"),
            (Method::GET, "/metrics/../api/nothing"),
        ] {
            let answer = Answer::of(api.request(method.clone(), path)).await.unwrap();
            assert_eq!(
                (answer.status, &answer.body["error"]),
                (404, &json!("NotFound")),
                "{method} {path}: {}",
                answer.body
            );
            let name = answer.body["reqId"].as_str().unwrap();
            assert!(name.starts_with("req-") && name.len() == 18, "{name}");
        }
        for path in ["/api/status/", "/api/status//", "/metrics/", "/api/docs/json/"] {
            assert_eq!(api.request(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
        }
        let status = api.get("/api/status").await.unwrap().ok();
        assert_eq!((&status["message"], status["date"].is_string()), (&json!("Ok"), true));
        let metrics = api.request(Method::GET, "/metrics").send().await.unwrap();
        let kind = metrics.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        let text = metrics.text().await.unwrap();
        assert!(text.contains("chancery_commits ") && text.ends_with("# EOF\n"), "{text}");
    });
    server.stop();
}

#[test]
fn a_client_that_is_slow_is_cut_off_and_holds_nobody_up() {
    let site = Site::sqlite();
    fs::write(site.path("chancery.toml"), "request_seconds_max = 4\n").unwrap();
    let server = site.start_as(site.serve(&["--config", site.path("chancery.toml").to_str().unwrap()]));
    let address = server.url.trim_start_matches("http://").to_owned();
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();

    let mut slow = TcpStream::connect(&address).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    write!(slow, "POST {LOGIN} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
        .unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    loop {
        // A broken pipe is an end as good as any.
        let is_open = slow.write_all(b" ").is_ok();
        let mut buffer = [0; 4096];
        match slow.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(_) if is_open => {}
            Err(_) => break,
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "it goes on");
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(answer.contains("\"statusCode\":4"), "{answer}");

    block_on(async { Api::log_in(&site, &server).await.issue(&site, "meanwhile.example.com").await });
    drop(idle);
    server.stop();
}

#[test]
fn a_half_sent_request_does_not_hold_up_the_end() {
    let site = Site::sqlite();
    let server = site.start();
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(b"POST /api/v1/auth/universal-auth/login HTTP/1.1\r\nhost: a\r\n").unwrap();
    let idle = TcpStream::connect(&address).unwrap();
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop((half, idle));
}

#[test]
fn no_header_of_a_request_gets_into_a_url() {
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let body = issue_body(&site.fact("/profiles/web-server"), "host.example.com");
        let paths = ["/api/docs/json", "/api/docs"];
        let mut plain = Vec::new();
        for path in paths {
            plain.push(api.text(path).await);
        }
        for (name, value) in [
            ("host", "evil.example"),
            ("host", "evil.example:1/../x"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-port", "666"),
            ("x-forwarded-for", "203.0.113.66"),
            ("x-original-url", "/evil"),
            ("forwarded", "host=evil.example;proto=evil"),
            ("x-real-ip", "203.0.113.66"),
        ] {
            let issued =
                Answer::of(api.request(Method::POST, ISSUE).header(name, value).json(&body)).await.unwrap().ok();
            let urls = urls(issued["certificate"].as_str().unwrap());
            assert!(urls.len() >= 2 && urls.iter().all(|url| url.starts_with(&server.url)), "{name}: {urls:?}");
            for (path, plain) in paths.iter().zip(&plain) {
                let answer = api.request(Method::GET, path).header(name, value).send().await.unwrap();
                assert_eq!(&answer.text().await.unwrap(), plain, "{name} changes {path}");
            }
        }
        // Who is no trusted proxy says nothing about where a caller comes from.
        let forged = site.count("SELECT COUNT(*) FROM audit_records WHERE actor_address = '203.0.113.66'");
        assert_eq!(forged, 0);
    });
    server.stop();
}

#[test]
fn without_a_token_only_what_is_meant_for_everybody_answers() {
    const PUBLIC: [&str; 16] = [
        "get /api/status",
        "get /api/v1/pki/crl/{crlId}/der",
        "get /api/v1/pki/crl/{crlId}",
        "get /api/v1/cert-manager/crl/{crlId}/der",
        "get /api/v1/cert-manager/crl/{crlId}",
        "get /api/v1/pki/crl/{crlId}/delta",
        "get /api/v1/cert-manager/crl/{crlId}/delta",
        "get /api/v1/pki/ca/{caId}/certificates/{caCertId}/der",
        "get /api/v1/cert-manager/ca/internal/{caId}/certificates/{caCertId}/der",
        "post /api/v1/pki/ocsp",
        "post /api/v1/cert-manager/ocsp",
        "get /api/v1/pki/ocsp/{request}",
        "get /api/v1/cert-manager/ocsp/{request}",
        "post /api/v1/auth/universal-auth/login",
        "post /api/v1/auth/token/renew",
        "post /api/v1/auth/token/revoke",
    ];
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let stranger = Api { client: new_client(), url: server.url.clone(), token: String::new() };
        let document = stranger.get("/api/docs/json").await.unwrap().ok();
        let mut walked = 0;
        let before = site.count("SELECT COUNT(*) FROM audit_records");
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let Ok(name) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
                let filled = fill(path, &site);
                for authorization in [None, Some(""), Some("Bearer "), Some("Basic YTpi"), Some("bearer null")] {
                    let mut request = stranger.request(name.clone(), &filled).json(&json!({}));
                    if let Some(authorization) = authorization {
                        request = request.header("authorization", authorization);
                    }
                    let answer = Answer::of(request).await.unwrap();
                    let is_public = PUBLIC.contains(&format!("{method} {path}").as_str());
                    let is_refused = matches!(answer.status, 401 | 403);
                    assert!(is_public || is_refused, "{method} {path}: {} {}", answer.status, answer.body);
                }
                walked += 1;
            }
        }
        assert!(walked > 60, "{walked} operations");
        assert_eq!(site.count("SELECT COUNT(*) FROM audit_records"), before);
        assert_eq!(stranger.metric("chancery_panics").await, 0);
    });
    server.stop();
}

/// A path with ids that exist in the place of its parameters.
fn fill(path: &str, site: &Site) -> String {
    let parts = path.split('/').map(|part| match part {
        "{caId}" => site.fact("/issuingCaId"),
        "{projectId}" => site.fact("/projectId"),
        "{identityId}" => site.fact("/identityId"),
        "{slug}" | "{projectSlug}" => site.fact("/projectSlug"),
        part if part.starts_with('{') => site.fact("/profiles/web-server"),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn a_flood_of_rsa_keys_does_not_keep_an_ec_key_waiting() {
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let mut body = issue_body(&site.fact("/profiles/web-server"), "rsa.example.com");
        body["keyAlgorithm"] = "RSA_4096".into();
        let flood = (0..6).map(|_| {
            let (api, body) = (api.clone(), body.clone());
            tokio::spawn(async move { api.post(ISSUE, &body).await.unwrap() })
        });
        let flood: Vec<_> = flood.collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..5 {
            api.issue(&site, "ec.example.com").await;
        }
        let waiting = flood.iter().filter(|request| !request.is_finished()).count();
        assert!(waiting > 0, "all RSA keys were made before five EC ones");
        for answer in flood {
            answer.await.unwrap().ok();
        }
    });
    server.stop();
}

/// The names of the members of each line of a log.
pub fn log_lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
