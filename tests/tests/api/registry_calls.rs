//! What holds for many calls of the device registry, over HTTP: what was revoked stays so, repetitions, filters, refusals that the
//! framework makes by itself, HEAD, and the lives of tokens.

use crate::issuing::{count, first_profile};
use crate::registry_extension::{DEVICES, REGISTRIES, device, invalid, provisioned, registry};
use crate::server::{Answer, Server, Session, for_each_engine, members, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

const BROKERS: &str = "/iot-broker/v1/brokers";
const TOKENS: &str = "/iam/v1/tokens";
const CREATE_TOKEN: &str = "/yandex.cloud.iam.v1.IamTokenService/Create";

/// A refusal of a certificate that was revoked.
#[track_caller]
fn is_revoked(answer: Answer) {
    let said = answer.says(400, 9);
    assert!(said.contains("revoked"), "{said}");
}

#[test]
fn a_certificate_that_was_revoked_is_registered_for_nobody_again() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let made = provisioned(&server, &registry_id, "pump-1").await;
        let (id, certificate) = (text(&made["device"]["id"]), text(&made["certificate"]));
        let list = format!("{DEVICES}/{id}/certificates");
        let fingerprint = text(&server.get(&list).await.ok()["certificates"][0]["fingerprint"]);
        let one = format!("{list}/{fingerprint}");
        let given = json!({"certificateData": certificate});
        // What was INACTIVE may come back.
        server.patch(&one, json!({"state": "INACTIVE"})).await.ok();
        server.delete(&one).await.ok();
        server.post(&list, given.clone()).await.ok();
        server.patch(&one, json!({"state": "REVOKED"})).await.ok();
        is_revoked(server.post(&list, given.clone()).await);
        server.delete(&one).await.ok();
        assert_eq!(server.get(&list).await.ok(), json!({}));

        let fellow = device(&server, &registry_id, "pump-2").await;
        let other = server.other_organization().await;
        let theirs = registry(&other, "theirs").await;
        let everywhere = async || {
            is_revoked(server.post(&format!("{DEVICES}/{fellow}/certificates"), given.clone()).await);
            is_revoked(server.post(&format!("{REGISTRIES}/{registry_id}/certificates"), given.clone()).await);
            is_revoked(other.post(&format!("{REGISTRIES}/{theirs}/certificates"), given.clone()).await);
            let new = json!({"folderId": "default", "name": "new", "registryId": registry_id, "certificates": [given]});
            for path in [REGISTRIES, DEVICES, BROKERS] {
                is_revoked(server.post(path, new.clone()).await);
            }
        };
        is_revoked(server.post(&list, given.clone()).await);
        everywhere().await;
        // Nothing was made on the way.
        server.get(&format!("{DEVICES}:getByName?registryId={registry_id}&deviceName=new")).await.says(404, 5);
        server.delete(&format!("{DEVICES}/{id}")).await.ok();
        everywhere().await;

        // Nor does it come in by an import, unless as what it is; the rest of its owner does.
        let import = async |state: Value, is_dry_run: bool| {
            let certificates = json!([{"certificate_data": certificate, "fingerprint": fingerprint, "state": state}]);
            let pump = json!({"id": id, "registry_id": registry_id, "name": "pump-1", "certificates": certificates});
            let body = json!({"devices": [pump], "dry_run": is_dry_run});
            let lines = server.post("/iot-devices/v1/imports", body).await.ok();
            let outcomes = lines["lines"].as_array().unwrap().iter();
            outcomes.map(|line| format!("{} {}", text(&line["kind"]), text(&line["outcome"]))).collect::<Vec<_>>()
        };
        assert_eq!(import(Value::Null, true).await, ["device created", "certificate failed"]);
        assert_eq!(import(Value::Null, false).await, ["device created", "certificate failed"]);
        assert_eq!(server.get(&list).await.ok(), json!({}));
        assert_eq!(import(json!("REVOKED"), false).await, ["device kept", "certificate created"]);
        let full = server.get(&format!("{list}?view=FULL")).await.ok();
        assert_eq!(full["certificates"][0]["state"], "REVOKED");
    });
}

#[test]
fn a_certificate_that_comes_revoked_by_an_import_stays_so() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let made = provisioned(&server, &registry_id, "pump-1").await;
        let (id, certificate) = (text(&made["device"]["id"]), text(&made["certificate"]));
        server.delete(&format!("{DEVICES}/{id}")).await.ok();
        let certificates = json!([{"certificate_data": certificate, "state": "REVOKED"}]);
        let pump = json!({"id": id, "registry_id": registry_id, "name": "pump-1", "certificates": certificates});
        server.post("/iot-devices/v1/imports", json!({"devices": [pump]})).await.ok();
        server.delete(&format!("{DEVICES}/{id}")).await.ok();
        let fellow = device(&server, &registry_id, "pump-2").await;
        let given = json!({"certificateData": certificate});
        is_revoked(server.post(&format!("{DEVICES}/{fellow}/certificates"), given).await);
    });
}

#[test]
fn a_device_is_provisioned_once_for_one_idempotency_key() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let path = format!("{DEVICES}:provision");
        let before = count(&server).await;
        let profile = first_profile(&server, "device").await;
        let body = json!({"registryId": registry_id, "name": "pump-1", "profileId": profile, "labels": {"line": "a"}});
        // Two at once, then one later, with the members in other words: all get the same, key and all.
        let (one, other) = tokio::join!(server.post_once("k1", &path, &body), server.post_once("k1", &path, &body));
        let made = one.ok();
        assert_eq!(members(&made), ["certificate", "certificateChain", "device", "privateKey"]);
        assert_eq!(other.ok(), made);
        let in_other_words =
            json!({"name": "pump-1", "registry_id": registry_id, "labels": {"line": "a"}, "profile_id": profile});
        assert_eq!(server.post_once("k1", &path, &in_other_words).await.ok(), made);
        assert_eq!(count(&server).await, before + 1);
        // The same key for something else, another key for the same, another caller.
        let mut another = body.clone();
        another["name"] = json!("pump-2");
        let said = server.post_once("k1", &path, &another).await.says(400, 9);
        assert!(said.contains("idempotency key"), "{said}");
        server.post_once("k2", &path, &body).await.says(409, 6);
        let member = server.by(&server.identity("member", Some("admin")).await);
        member.post_once("k1", &path, &body).await.says(409, 6);
        // A refusal is not remembered.
        let mut wrong = another.clone();
        wrong["profileId"] = json!(uuid::Uuid::nil());
        server.post_once("k3", &path, &wrong).await.says(404, 5);
        let second = server.post_once("k3", &path, &another).await.ok();
        assert_eq!(count(&server).await, before + 2);
        // The operation says what it was.
        let id = text(&second["device"]["id"]);
        let operations = server.get(&format!("{DEVICES}/{id}/operations")).await.ok();
        let operation = &operations["operations"][0];
        assert_eq!(operation["description"], "Provision device");
        assert_eq!((&operation["metadata"]["deviceId"], &operation["response"]["id"]), (&json!(id), &json!(id)));
        // After a day the key is free, and the name is what stands against it.
        server.at(24 * 60 * 60 + 60);
        server.post_once("k1", &path, &body).await.says(409, 6);
        assert_eq!(count(&server).await, before + 2);
    });
}

#[test]
fn operations_are_filtered_by_the_name_of_their_resource_and_by_nothing_else() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let device_id = device(&server, &registry_id, "pump-1").await;
        let broker = json!({"folderId": "default", "name": "plain"});
        let broker_id = text(&server.post(BROKERS, broker).await.ok()["response"]["id"]);
        for (path, name) in [
            (format!("{REGISTRIES}/{registry_id}/operations"), "pumps"),
            (format!("{DEVICES}/{device_id}/operations"), "pump-1"),
            (format!("{BROKERS}/{broker_id}/operations"), "plain"),
        ] {
            let all = server.get(&path).await.ok();
            assert_eq!(all["operations"].as_array().unwrap().len(), 1);
            let filtered = async |filter: &str| {
                let encoded: String = filter.bytes().map(|octet| format!("%{octet:02x}")).collect();
                server.get(&format!("{path}?filter={encoded}")).await
            };
            for filter in [format!("name=\"{name}\""), format!("name = {name}"), String::new()] {
                assert_eq!(filtered(&filter).await.ok(), all, "{filter}");
            }
            assert_eq!(filtered("name=another").await.ok(), json!({}));
            for filter in ["id=x", "name", "name != x", "name IN (a)", "name=a AND name=b", "createdAt=x"] {
                let said = invalid(filtered(filter).await);
                assert!(said.contains("filter"), "{said}");
            }
        }
    });
}

#[test]
fn what_the_framework_refuses_is_told_like_everything_else() {
    for_each_engine(|server| async move {
        let framed =
            |message: &[u8]| [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
        for (path, body, code) in [
            ("/yandex.cloud.iot.NoSuchService/Get", framed(b""), "12"),
            ("/yandex.cloud.iam.v1.IamTokenService/NoSuchMethod", framed(b""), "12"),
            (CREATE_TOKEN, framed(&[0x0a, 0xff]), "3"),
            (CREATE_TOKEN, vec![], "3"),
            (CREATE_TOKEN, vec![7, 0, 0, 0, 0], "3"),
            (CREATE_TOKEN, framed(b"")[..3].to_vec(), "3"),
            (CREATE_TOKEN, [&[0][..], &(5_u32 << 20).to_be_bytes()].concat(), "3"),
            (CREATE_TOKEN, framed(b""), "3"),
        ] {
            let answer = server.grpc(path, body).await;
            let header = |name: &str| text(&json!(answer.headers[name].to_str().unwrap()));
            assert_eq!((answer.status, header("grpc-status").as_str()), (200, code), "{path}");
            assert!(!header("grpc-message").is_empty(), "{path}");
            let details = STANDARD_NO_PAD.decode(header("grpc-status-details-bin").trim_end_matches('=')).unwrap();
            let details = String::from_utf8_lossy(&details).into_owned();
            assert!(details.contains("type.googleapis.com/google.rpc.RequestInfo"), "{details}");
            assert!(details.contains(&header("x-request-id")), "{details}");
            assert_eq!(details.contains("google.rpc.BadRequest"), code == "3", "{details}");
            assert_eq!(header("x-request-id"), header("x-server-trace-id"));
        }
    });
}

#[test]
fn head_is_what_get_answers_without_its_content() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let paths = [
            "/endpoints".to_owned(),
            format!("{REGISTRIES}/{registry_id}"),
            format!("{REGISTRIES}/{registry_id}/authorities"),
            format!("{REGISTRIES}/{registry_id}/certificates:expiring"),
            format!("{REGISTRIES}/{registry_id}/certificates?view=FULL"),
            format!("{REGISTRIES}/none"),
            format!("{REGISTRIES}/{registry_id}/publish"),
            "/iot-devices/v1/nothing".to_owned(),
        ];
        for path in paths {
            let (get, head) = (server.get(&path).await, server.call(Method::HEAD, &path, &Value::Null).await);
            assert_eq!((head.status, head.raw.as_str()), (get.status, ""), "{path}");
            for name in ["content-type", "content-length"] {
                assert_eq!(head.headers.get(name), get.headers.get(name), "{path}");
            }
        }
        let nobody = server.by(&Session { token: "no.such.token".into(), ..server.caller.clone() });
        let path = format!("{REGISTRIES}/{registry_id}");
        assert_eq!(nobody.call(Method::HEAD, &path, &Value::Null).await.status, 401);
    });
}

#[test]
fn a_token_of_the_exchange_lives_twelve_hours_at_most() {
    const HOURS_12: i64 = 12 * 60 * 60;
    for_each_engine(|server| async move {
        let exchange = async |server: &Server, credential: &str| {
            let made = server.anonymous(TOKENS, json!({"yandexPassportOauthToken": credential})).await.ok();
            let session = Session { token: text(&made["iamToken"]), ..server.caller.clone() };
            (server.by(&session), text(&made["expiresAt"]))
        };
        let end = server.time(HOURS_12).replace(".000Z", "Z");
        let pair = format!("{}:{}", server.caller.client_id, server.caller.client_secret);
        let is_good = async |server: &Server| server.get("/api/v1/projects").await.status == 200;
        let mut sessions = Vec::new();
        for credential in [&pair, &server.caller.token] {
            let (session, ends_at) = exchange(&server, credential).await;
            assert_eq!(ends_at, end);
            assert!(is_good(&session).await);
            sessions.push(session);
        }
        // A token that is exchanged for another one does not live longer.
        server.at(60);
        let (again, ends_at) = exchange(&server, &sessions[0].caller.token).await;
        assert_eq!((&again.caller.token, &ends_at), (&sessions[0].caller.token, &end));
        server.at(HOURS_12 - 1);
        for session in &sessions {
            assert!(is_good(session).await);
        }
        server.at(HOURS_12);
        for session in &sessions {
            assert!(!is_good(session).await);
            let body = json!({"yandexPassportOauthToken": session.caller.token});
            server.anonymous(TOKENS, body).await.says(401, 16);
        }
        // What it was made of lives on, and gives another one.
        assert!(is_good(&server).await);
        for credential in [&pair, &server.caller.token] {
            let (session, ends_at) = exchange(&server, credential).await;
            assert_eq!(ends_at, server.time(2 * HOURS_12).replace(".000Z", "Z"));
            assert!(is_good(&session).await);
        }
    });
}
