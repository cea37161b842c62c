//! The device registry's API from outside: REST as curl speaks it, gRPC and the vendor's SDK as Python does, on every
//! listener.

use std::path::Path;
use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api::{Answer, Api, new_client};
use crate::site::{Ran, Site, block_on, on_both_engines};

const SERVICES: [&str; 8] =
    ["broker-data", "endpoint", "iam", "iot-broker", "iot-data", "iot-devices", "operation", "resource-manager"];
const TOKENS: &str = "/iam/v1/tokens";

#[test]
fn grpc_and_the_vendors_sdk_find_the_services_and_get_tokens() {
    on_both_engines(|site| {
        let server = site.start_as(site.serve(&["--tls-listen", "127.0.0.1:0"]));
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(directory.join("../.test/venv/bin/python"));
        command.arg(directory.join("python/iot_session.py")).arg(site.data().join("bootstrap.json"));
        let ran = Ran::of(command);
        assert_eq!(ran.code, Some(0), "{ran:?}; did scripts/install-test-tools run?");
        let said: Value = serde_json::from_str(&ran.out).unwrap();
        for (listener, url) in [("plain", &server.url), ("secure", &site.fact("/tlsUrl"))] {
            check_endpoints(&said[listener]["all"], url.split_once("//").unwrap().1);
            assert_eq!(said[listener]["iam"], said[listener]["all"]["iam"]);
        }
        for tokens in said["tokens"].as_array().unwrap() {
            check_tokens(tokens, &site.fact("/identityId"));
        }
        for answer in said["reflection"].as_array().unwrap() {
            let services: Vec<&str> = answer["services"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            for name in [
                "grpc.health.v1.Health",
                "yandex.cloud.endpoint.ApiEndpointService",
                "yandex.cloud.iam.v1.IamTokenService",
            ] {
                assert!(services.contains(&name), "{services:?}");
            }
            assert_eq!(answer["hasOptions"], true);
        }
        // Field 1 of the answer is 1, SERVING.
        assert_eq!(said["health"], "0801");
        for (case, code, fields) in [
            ("unknown", "UNIMPLEMENTED", json!([])),
            ("garbage", "INVALID_ARGUMENT", json!(["body"])),
            ("large", "INVALID_ARGUMENT", json!(["body"])),
        ] {
            let failure = &said["refused"][case];
            assert_eq!((&failure["code"], &failure["fields"]), (&code.into(), &fields), "{case}: {failure}");
            assert_eq!(failure["isNamed"], true, "{case}: {failure}");
        }
        // It got as far as the service, with the token that was given or exchanged; with a wrong secret it does not.
        let sdk: Vec<bool> = said["sdk"].as_array().unwrap().iter().map(is_from_the_service).collect();
        assert_eq!(sdk, [true, true, false], "{}", said["sdk"]);
        block_on(async {
            let api = Api::log_in(site, &server).await;
            assert_eq!(api.metric("chancery_panics").await, 0);
        });
        server.stop();
    });
}

fn is_from_the_service(code: &Value) -> bool {
    ["UNIMPLEMENTED", "NOT_FOUND"].contains(&code.as_str().unwrap())
}

#[track_caller]
fn check_endpoints(found: &Value, address: &str) {
    let expected: Value = SERVICES.iter().map(|id| ((*id).to_owned(), json!(address))).collect();
    assert_eq!(*found, expected);
}

#[track_caller]
fn check_tokens(said: &Value, identity: &str) {
    let token = said["token"].as_str().unwrap();
    assert!(token.starts_with("t1.") && token.matches('.').count() == 2, "{token}");
    assert_eq!((&said["isSame"], &said["subject"]), (&true.into(), &identity.into()));
    assert!(said["lifetime"].as_i64().unwrap() > 1_700_000_000, "{said}");
    for (case, code, fields) in [
        ("wrong", "UNAUTHENTICATED", json!([])),
        ("empty", "INVALID_ARGUMENT", json!(["yandex_passport_oauth_token"])),
        ("jwt", "UNIMPLEMENTED", json!([])),
        ("other", "UNIMPLEMENTED", json!([])),
        ("nobody", "UNAUTHENTICATED", json!([])),
        ("revoked", "UNAUTHENTICATED", json!([])),
    ] {
        let failure = &said["failures"][case];
        assert_eq!((&failure["code"], &failure["fields"]), (&code.into(), &fields), "{case}: {failure}");
        assert_eq!(failure["isNamed"], true, "{case}: {failure}");
    }
}

#[test]
fn rest_answers_like_grpc_and_a_token_in_either_form_works_everywhere() {
    on_both_engines(|site| {
        let server = site.start();
        block_on(async {
            let api = Api::log_in(site, &server).await;
            let stranger = Api { token: String::new(), ..api.clone() };
            let listed = stranger.get("/endpoints?pageSize=100").await.unwrap().ok();
            let found = listed["endpoints"].as_array().unwrap().iter();
            let found: Value = found
                .map(|endpoint| (endpoint["id"].as_str().unwrap().to_owned(), endpoint["address"].clone()))
                .collect();
            check_endpoints(&found, server.url.trim_start_matches("http://"));
            let one = stranger.get("/endpoints/iot-data").await.unwrap().ok();
            assert_eq!(one, json!({"id": "iot-data", "address": server.url.trim_start_matches("http://")}));

            let pair = format!("{}:{}", site.fact("/clientId"), site.fact("/clientSecret"));
            for credential in [&pair, &api.token] {
                for name in ["yandexPassportOauthToken", "yandex_passport_oauth_token"] {
                    let made = stranger.post(TOKENS, &json!({name: credential, "unknown": 1})).await.unwrap().ok();
                    let session = Api { token: made["iamToken"].as_str().unwrap().to_owned(), ..api.clone() };
                    assert!(session.token.starts_with("t1.") && made["expiresAt"].as_str().unwrap().ends_with('Z'));
                    // The same token on the other API.
                    assert_eq!(session.get("/api/v1/projects").await.unwrap().status, 200);
                    // It ends within twelve hours, and for good.
                    let renewal = json!({"accessToken": session.token});
                    let answer = stranger.post("/api/v1/auth/token/renew", &renewal).await.unwrap();
                    assert_eq!(answer.status, 401, "{answer:?}");
                }
            }
            check_revocation(&stranger, &pair, &site.fact("/identityId")).await;
        });
        server.stop();
    });
}

async fn check_revocation(stranger: &Api, pair: &str, identity: &str) {
    let made = stranger.post(TOKENS, &json!({"yandexPassportOauthToken": pair})).await.unwrap().ok();
    let session = Api { token: made["iamToken"].as_str().unwrap().to_owned(), ..stranger.clone() };
    let body = json!({"iamToken": session.token});
    let revoke = format!("{TOKENS}:revoke");
    assert_eq!(session.post(&revoke, &body).await.unwrap().ok(), json!({"subjectId": identity}));
    assert_eq!(session.post(&revoke, &body).await.unwrap().status, 401);
    assert_eq!(session.get("/api/v1/projects").await.unwrap().status, 401);
}

#[test]
fn refusals_of_the_registry_have_its_shape_and_not_the_other_apis() {
    let site = Site::sqlite();
    let server = site.start();
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let stranger = Api { token: String::new(), ..api.clone() };
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
        let large = format!(r#"{{"jwt":"{}"}}"#, "x".repeat(1 << 20));
        let revoke = format!("{TOKENS}:revoke");
        for (method, path, body, status, code, fields) in [
            (Method::GET, "/endpoints/none", "", 404, 5, &[][..]),
            (Method::GET, "/endpoints/a/b", "", 404, 5, &[]),
            (Method::GET, "/iot-devices/v1/nothing", "", 404, 5, &[]),
            (Method::GET, "/iot-devices", "", 404, 5, &[]),
            (Method::GET, "/iam/v2/tokens", "", 404, 5, &[]),
            (Method::DELETE, "/endpoints", "", 501, 12, &[]),
            (Method::OPTIONS, "/iam/v1/tokens", "", 501, 12, &[]),
            (Method::GET, "/endpoints?unknown=1", "", 400, 3, &["unknown"]),
            (Method::GET, "/endpoints?pageSize=many", "", 400, 3, &["pageSize"]),
            (Method::POST, TOKENS, "", 400, 3, &["yandex_passport_oauth_token"]),
            (Method::POST, TOKENS, "{}", 400, 3, &["yandex_passport_oauth_token"]),
            (Method::POST, TOKENS, r#"{"yandexPassportOauthToken":1}"#, 400, 3, &["yandex_passport_oauth_token"]),
            (
                Method::POST,
                TOKENS,
                r#"{"yandexPassportOauthToken":"a","jwt":"b"}"#,
                400,
                3,
                &["yandex_passport_oauth_token"],
            ),
            (Method::POST, TOKENS, r#"{"jwt":"a.b.c"}"#, 501, 12, &[]),
            (Method::POST, TOKENS, r#"{"yandexPassportOauthToken":"a:b"}"#, 401, 16, &[]),
            (Method::POST, TOKENS, "{", 400, 3, &["body"]),
            (Method::POST, TOKENS, "[]", 400, 3, &["body"]),
            (Method::POST, TOKENS, &deep, 400, 3, &["body"]),
            (Method::POST, TOKENS, &large, 400, 3, &["body"]),
            (Method::POST, &revoke, r#"{"iamToken":"x"}"#, 401, 16, &[]),
        ] {
            check_refusal(&stranger, method, path, body, status, code, fields).await;
        }
        check_refusal(&api, Method::POST, &revoke, r#"{"iamToken":"x"}"#, 400, 3, &["iam_token"]).await;
        let service_account = format!("{TOKENS}:createForServiceAccount");
        check_refusal(&api, Method::POST, &service_account, "{}", 501, 12, &[]).await;
        // What only looks like a path of the registry is the other API's.
        for path in ["/endpointsx", "/iamb/v1", "/yandex.cloud.iam.v1.IamTokenService/Create"] {
            assert_eq!(stranger.get(path).await.unwrap().body["statusCode"], 404, "{path}");
        }
        assert_eq!(api.metric("chancery_panics").await, 0);
    });
    server.stop();
}

/// Sends, and expects an error in the form of `google.rpc.Status`, named by the headers (contract §2.6).
async fn check_refusal(api: &Api, method: Method, path: &str, body: &str, status: u16, code: i64, fields: &[&str]) {
    let request = api.request(method.clone(), path).body(body.to_owned());
    let response = request.send().await.unwrap();
    let headers = response.headers().clone();
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{method} {path}");
    assert_eq!(headers.contains_key("www-authenticate"), status == 401);
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["code"], code, "{method} {path}: {body}");
    let named = &body["details"][0];
    assert_eq!(named["@type"], "type.googleapis.com/google.rpc.RequestInfo", "{body}");
    assert_eq!(
        (&named["requestId"], &named["requestId"]),
        (&json!(headers["x-request-id"].to_str().unwrap()), &json!(headers["x-server-trace-id"].to_str().unwrap()))
    );
    let violations = body["details"][1]["fieldViolations"].as_array().cloned().unwrap_or_default();
    let found: Vec<&str> = violations.iter().filter_map(|violation| violation["field"].as_str()).collect();
    assert_eq!(found, fields, "{method} {path}: {body}");
}

#[test]
fn what_is_configured_goes_before_what_is_listened_on() {
    let site = Site::sqlite();
    let server = site.start_as(site.serve(&["--iot-endpoint", "iot.example.com:7443"]));
    block_on(async {
        let url = format!("{}/endpoints/iam", server.url);
        // Whatever a stranger writes there.
        let request = new_client().get(url).header("host", "evil.example.com");
        let answer = Answer::of(request).await.unwrap().ok();
        assert_eq!(answer["address"], "iot.example.com:7443");
    });
    server.stop();
    site.run(&["serve", "--iot-endpoint", "iot.example.com"]).failed_with("iot_endpoint");
}
