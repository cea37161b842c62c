//! Verification over HTTP against the public x509-limbo suite, which lies beside the repository and is not a part of it. The
//! validator itself is held against it in `x509/tests/limbo.rs`; here is what a caller of the server gets.

use crate::server::{Server, for_each_engine};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

const VERIFY: &str = "/api/v1/pki/verify";
/// For the cases that do not say when.
const USUAL_TIME: &str = "2025-06-15T00:00:00Z";

/// The cases where the server's answer is another one than the suite expects, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "cve::cve-2024-0567",
        "the trusted certificate is issued by another and has no authority key identifier, for which \
         rfc5280::aki::cross-signed-root-missing-aki asks to refuse it",
    ),
    ("webpki::nc::nc-permits-dns-san-pattern", COMMON_NAME_IS_NO_COPY),
    ("webpki::san::exact-localhost-ip-san", COMMON_NAME_IS_NO_COPY),
    ("webpki::san::leftmost-wildcard-san", COMMON_NAME_IS_NO_COPY),
];

const COMMON_NAME_IS_NO_COPY: &str = "the common name is none of the alternative names, for which webpki::cn::not-in-san \
                                      and the Baseline Requirements (section 7.1.4.3) ask to refuse it";

fn suite() -> Option<Vec<Value>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/x509-limbo.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: the x509-limbo suite is not at {}", path.display());
        return None;
    };
    let suite: Value = serde_json::from_str(&text).unwrap();
    Some(suite["testcases"].as_array().unwrap().clone())
}

fn is_of_the_web(case: &Value) -> bool {
    let id = case["id"].as_str().unwrap();
    id.starts_with("webpki::") || id.starts_with("online::")
}

fn question(case: &Value) -> Value {
    let names = [&case["expected_peer_name"]].into_iter().chain(case["expected_peer_names"].as_array().unwrap());
    let names: Vec<&Value> = names.filter(|name| !name.is_null()).map(|name| &name["value"]).collect();
    let purpose = match case["extended_key_usage"].as_array().unwrap().first().and_then(Value::as_str) {
        _ if is_of_the_web(case) => "web-pki",
        Some("serverAuth") => "server_auth",
        Some("clientAuth") => "client_auth",
        Some(other) => panic!("{case}: {other}"),
        None => "any",
    };
    let mut body = json!({
        "leaf": case["peer_certificate"],
        "anchors": case["trusted_certs"],
        "intermediates": case["untrusted_intermediates"],
        "crls": case["crls"].as_array().cloned().unwrap_or_default(),
        "time": case["validation_time"].as_str().unwrap_or(USUAL_TIME),
        "names": names,
    });
    if purpose != "any" {
        body["purpose"] = purpose.into();
    }
    if let Some(depth) = case["max_chain_depth"].as_u64() {
        body["maxDepth"] = depth.into();
    }
    body
}

/// Whether the server calls the certificate valid, and what it says if not.
async fn verdict(server: &Server, case: &Value) -> (bool, String) {
    let answer = server.post(VERIFY, question(case)).await;
    let is_valid = answer.body["valid"] == true;
    assert!(matches!(answer.status, 200 | 400 | 422), "{}: {}", case["id"], answer.raw);
    assert!(is_valid || answer.status != 200 || answer.body["refused"][0]["rule"].is_string(), "{}", answer.raw);
    (is_valid, answer.raw.chars().take(2000).collect())
}

#[test]
fn the_servers_verdicts_are_those_of_the_suite_but_for_the_listed_ones() {
    let Some(suite) = suite() else { return };
    let reasons: BTreeMap<&str, &str> = DIFFERENCES.iter().copied().collect();
    for_each_engine(|server| {
        let (suite, reasons) = (&suite, &reasons);
        async move {
            let mut wrong = Vec::new();
            for case in suite {
                let id = case["id"].as_str().unwrap();
                let (is_valid, said) = verdict(&server, case).await;
                let agrees = is_valid == (case["expected_result"] == "SUCCESS");
                if agrees == reasons.contains_key(id) {
                    wrong.push(format!("{id}: expected {}, {said}", case["expected_result"]));
                }
                let is_lax = !agrees && is_valid && !is_of_the_web(case);
                assert!(!is_lax, "{id} must fail and is called valid");
            }
            assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
        }
    });
}
