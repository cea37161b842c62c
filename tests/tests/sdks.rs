//! The official SDKs of Python and Node against a running server: log in, renew, call with the renewed token.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use x509::Certificate;

use crate::issuing::first_profile;
use crate::server::{Server, for_each_engine, text};

#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "api/issuing.rs"]
mod issuing;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "api/server.rs"]
mod server;

#[test]
fn the_python_sdk_logs_in_renews_and_calls() {
    for_each_engine(|server| async move {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.test/venv/bin/python");
        let said = session(&server, &python, "python/sdk_session.py").await;
        for answer in [&said["login"], &said["renewed"]] {
            check_token(&server, &text(&answer["accessToken"])).await;
            assert_eq!(answer["tokenType"], "Bearer");
            assert_eq!((&answer["expiresIn"], &answer["accessTokenMaxTTL"]), (&600.into(), &3600.into()));
        }
        assert_ne!(said["login"]["accessToken"], said["renewed"]["accessToken"]);
        assert_eq!(said["projects"]["projects"][0]["id"], server.project.to_string());
        check_issued(&server, &said, "CN=python.example.com");
        assert_eq!(said["refusal"]["status"], 401);
        assert_eq!(said["refusal"]["body"]["error"], "UnauthorizedError");
    });
}

#[test]
fn the_node_sdk_logs_in_renews_and_calls() {
    for_each_engine(|server| async move {
        let said = session(&server, Path::new("node"), "node/sdk-session.mjs").await;
        for token in ["login", "renewed"] {
            check_token(&server, &text(&said[token])).await;
        }
        assert_ne!(said["login"], said["renewed"]);
        // What the SDK made is there, under the id that the SDK gives.
        let project = server.get(&format!("/api/v1/projects/{}", text(&said["project"]["id"]))).await.ok();
        assert_eq!(text(&project["project"]["slug"]), "from-node");
        assert_eq!(said["status"], 200);
        check_issued(&server, &said, "CN=node.example.com");
        let refusal = text(&said["refusal"]);
        assert!(refusal.contains("StatusCode=401"), "{refusal}");
    });
}

/// Runs a script with the server's facts: what it printed.
async fn session(server: &Server, program: &Path, script: &str) -> Value {
    // A token that may live as long as it lives at first is never renewed (contract §2.3).
    let auth = format!("/api/v1/auth/universal-auth/identities/{}", server.caller.identity);
    server.patch(&auth, json!({"accessTokenTTL": 600, "accessTokenMaxTTL": 3600})).await.ok();
    let profile = first_profile(server, "web-server").await;
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
    command.args([&server.url, &server.caller.client_id, &server.caller.client_secret, &profile]);
    // Time goes on meanwhile, so that a renewed token differs from the one before.
    let clock = server.clone();
    let ticking = tokio::spawn(async move {
        for second in 1.. {
            tokio::time::sleep(Duration::from_millis(100)).await;
            clock.at(second);
        }
    });
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    ticking.abort();
    let output = output.unwrap_or_else(|error| panic!("{script}: {error}; run scripts/install-test-tools first"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{script}: {error}: {errors}"))
}

/// Asserts that a token is one of the caller's.
async fn check_token(server: &Server, token: &str) {
    let mut session = server.caller.clone();
    session.token = token.to_owned();
    let known = server.by(&session).post("/api/v1/auth/checkAuth", Value::Null).await;
    assert_eq!(known.status, 200, "{}", known.body);
}

#[track_caller]
fn check_issued(server: &Server, said: &Value, subject: &str) {
    let certificate = Certificate::from_pem(&text(&said["certificate"])).unwrap();
    assert_eq!(certificate.subject().to_string(), subject);
    assert!(certificate.not_before() >= server.start.seconds());
}
