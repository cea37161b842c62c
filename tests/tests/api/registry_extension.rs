//! What goes beyond the vendor's API, over HTTP: every call with what it answers, what it refuses, and to strangers.

use crate::authorities::authority;
use crate::csr;
use crate::issuing::{count, first_profile, issue};
use crate::server::{Answer, Server, Session, for_each_engine, members, text};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::chains::{Draft, TestKey, common_name};
use x509::{Certificate, ExtendedKeyUsage, pem};

pub const REGISTRIES: &str = "/iot-devices/v1/registries";
pub const DEVICES: &str = "/iot-devices/v1/devices";
const HOOKS: &str = "/iot-devices/v1/hooks";
const PASSWORD: &str = "Correct-Horse-42";

impl Answer {
    /// Asserts a refusal in the vendor's shape, and gives its message.
    #[track_caller]
    pub fn says(self, status: u16, code: i32) -> String {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.raw);
        let details = self.body["details"].as_array().unwrap();
        assert_eq!(details[0]["@type"], "type.googleapis.com/google.rpc.RequestInfo");
        text(&self.body["message"])
    }
}

#[track_caller]
pub fn invalid(answer: Answer) -> String {
    answer.says(400, 3)
}

#[track_caller]
fn not_found(answer: Answer) {
    answer.says(404, 5);
}

pub async fn registry(server: &Server, name: &str) -> String {
    let body = json!({"folderId": server.project, "name": name});
    text(&server.post(REGISTRIES, body).await.ok()["response"]["id"])
}

pub async fn device(server: &Server, registry: &str, name: &str) -> String {
    let body = json!({"registryId": registry, "name": name});
    text(&server.post(DEVICES, body).await.ok()["response"]["id"])
}

pub async fn provisioned(server: &Server, registry: &str, name: &str) -> Value {
    let profile = first_profile(server, "device").await;
    let body = json!({"registryId": registry, "name": name, "profileId": profile});
    server.post(&format!("{DEVICES}:provision"), body).await.ok()
}

/// An end to every test: what no token may ask, and what is no method.
async fn is_guarded(server: &Server, method: Method, path: &str) {
    let nobody = server.by(&Session { token: "no.such.token".into(), ..server.caller.clone() });
    nobody.call(method, path, &json!({})).await.says(401, 16);
    server.call(Method::PUT, path, &json!({})).await.says(501, 12);
}

#[test]
fn authorities_are_trusted_listed_and_let_go() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let path = format!("{REGISTRIES}/{registry_id}/authorities");
        is_guarded(&server, Method::POST, &path).await;
        assert_eq!(server.get(&path).await.ok(), json!({}));
        let template = json!({"name": "pump-{{commonName}}", "labels": {"serial": "{{serialNumber}}"}});
        let trusted = server.post(&path, json!({"caId": server.issuing_ca, "template": template})).await.ok();
        assert_eq!(
            members(&trusted),
            ["caId", "certificateData", "createdAt", "fingerprint", "id", "registryId", "template"]
        );
        assert_eq!((&trusted["caId"], &trusted["registryId"]), (&json!(server.issuing_ca), &json!(registry_id)));
        assert_eq!(trusted["template"], template);
        let read = Certificate::from_pem(&text(&trusted["certificateData"])).unwrap();
        assert_eq!(trusted["fingerprint"], domain::registry::credential::hex(&read.sha256()));
        // An outside one, in the names of messages.
        let (key, now) = (TestKey::generate(), server.start.seconds());
        let name = common_name("Outside");
        let ca = Draft::authority(&name, key.spki(), &name, now).sign(&key);
        let proof = |subject: &str| {
            let mut draft = Draft::end_entity(&common_name(subject), TestKey::generate().spki(), &name, now);
            draft.set_purposes(&[ExtendedKeyUsage::ClientAuth]);
            pem::encode(pem::CERTIFICATE, &draft.sign(&key))
        };
        let body = |subject: &str| json!({"certificate_data": pem::encode(pem::CERTIFICATE, &ca), "verification_certificate": proof(subject)});
        assert!(invalid(server.post(&path, body("another")).await).contains(&registry_id));
        server.at(1);
        let outside = server.post(&path, body(&registry_id)).await.ok();
        assert!(outside.get("caId").is_none());
        assert_eq!(outside["template"], json!({"name": "{{commonName}}"}));
        // By one registry at most.
        let second = registry(&server, "more").await;
        let again =
            server.post(&format!("{REGISTRIES}/{second}/authorities"), json!({"caId": server.issuing_ca})).await;
        again.says(409, 6);
        // Pages.
        let first = server.get(&format!("{path}?pageSize=1")).await.ok();
        assert_eq!(first["authorities"], json!([trusted]));
        let next = server.get(&format!("{path}?page_size=1&page_token={}", text(&first["nextPageToken"]))).await.ok();
        assert_eq!(next, json!({"authorities": [outside]}));
        for query in ["pageSize=1001", "pageSize=-1", "pageSize=x", "pageToken=x", "other=1"] {
            invalid(server.get(&format!("{path}?{query}")).await);
        }
        for body in [
            json!({}),
            json!({"caId": "x"}),
            json!({"caId": server.issuing_ca, "certificateData": "x"}),
            json!({"certificateData": "x"}),
            json!({"certificateData": "x", "verificationCertificate": "y"}),
            json!({"caId": 1}),
            json!({"caId": server.issuing_ca, "template": {"name": "{{unknown}}"}}),
            json!({"caId": server.issuing_ca, "template": {"name": "fixed"}}),
            json!({"caId": server.issuing_ca, "template": {"name": "{{commonName}}", "labels": {"A": "b"}}}),
            json!({"caId": server.issuing_ca, "template": "x"}),
            json!([]),
        ] {
            invalid(server.post(&path, body).await);
        }
        not_found(server.post(&path, json!({"caId": uuid::Uuid::nil()})).await);
        not_found(server.post(&format!("{REGISTRIES}/none/authorities"), json!({"caId": server.issuing_ca})).await);
        // Strangers.
        let other = server.other_organization().await;
        let theirs = registry(&other, "theirs").await;
        let one = format!("{path}/{}", text(&trusted["id"]));
        not_found(other.get(&path).await);
        not_found(other.post(&path, json!({"caId": server.issuing_ca})).await);
        not_found(other.post(&format!("{REGISTRIES}/{theirs}/authorities"), json!({"caId": server.issuing_ca})).await);
        not_found(other.delete(&one).await);
        not_found(other.delete(&format!("{REGISTRIES}/{theirs}/authorities/{}", text(&trusted["id"]))).await);
        let viewer = server.by(&server.identity("member", Some("viewer")).await);
        assert_eq!(viewer.get(&path).await.ok()["authorities"].as_array().unwrap().len(), 2);
        viewer.delete(&one).await.says(403, 7);
        assert_eq!(server.delete(&one).await.ok(), json!({}));
        not_found(server.delete(&one).await);
        assert_eq!(server.get(&path).await.ok(), json!({"authorities": [outside]}));
    });
}

#[test]
fn a_device_is_provisioned_in_one_call() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let path = format!("{DEVICES}:provision");
        is_guarded(&server, Method::POST, &path).await;
        let profile = first_profile(&server, "device").await;
        let before = count(&server).await;
        let body = json!({"registryId": registry_id, "name": "pump-1", "profileId": profile, "labels": {"line": "a"},
            "topicAliases": {"p1/": "$devices/{id}/"}});
        let made = server.post(&path, body.clone()).await.ok();
        assert_eq!(members(&made), ["certificate", "certificateChain", "device", "privateKey"]);
        let id = text(&made["device"]["id"]);
        assert_eq!(made["device"]["topicAliases"], json!({"p1/": format!("$devices/{id}/")}));
        assert_eq!((&made["device"]["status"], &made["device"]["labels"]["line"]), (&json!("ACTIVE"), &json!("a")));
        assert_eq!(server.get(&format!("{DEVICES}/{id}")).await.ok(), made["device"]);
        let certificates = server.get(&format!("{DEVICES}/{id}/certificates")).await.ok();
        let registered = Certificate::from_pem(&text(&certificates["certificates"][0]["certificateData"])).unwrap();
        assert_eq!(registered, Certificate::from_pem(&text(&made["certificate"])).unwrap());
        assert!(text(&made["privateKey"]).starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(text(&made["certificateChain"]).contains("-----BEGIN CERTIFICATE-----"));
        let key = TestKey::generate();
        let csr = csr::Draft::named(&key, "pump-2").with_purposes(&[ExtendedKeyUsage::ClientAuth]).pem(&key);
        let with_csr = json!({"registry_id": registry_id, "name": "pump-2", "profile_id": profile, "csr": csr});
        let made = server.post(&path, with_csr).await.ok();
        assert_eq!(members(&made), ["certificate", "certificateChain", "device"]);
        assert_eq!(count(&server).await, before + 2);
        // All or nothing.
        server.post(&path, body.clone()).await.says(409, 6);
        let clash = json!({"registryId": registry_id, "name": "pump-3", "profileId": profile,
            "topicAliases": {"p1/x": "$devices/{id}/"}});
        server.post(&path, clash).await.says(409, 6);
        for (member, value) in [
            ("registryId", Value::Null),
            ("name", json!("")),
            ("name", json!("a b")),
            ("name", json!(7)),
            ("profileId", json!("x")),
            ("profileId", Value::Null),
            ("labels", json!({"A": "b"})),
            ("labels", json!([])),
            ("topicAliases", json!({"#": "$devices/{id}/"})),
            ("csr", json!("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----")),
            ("csr", json!("")),
        ] {
            let mut wrong = body.clone();
            wrong["name"] = json!("pump-4");
            wrong["topicAliases"] = Value::Null;
            wrong[member] = value;
            invalid(server.post(&path, wrong.clone()).await);
        }
        assert_eq!(count(&server).await, before + 2);
        invalid(server.call(Method::POST, &format!("{path}?name=x"), &body).await);
        // Whose role gives no keys gets none.
        let viewer = server.by(&server.identity("member", Some("viewer")).await);
        viewer.post(&path, body.clone()).await.says(403, 7);
        let other = server.other_organization().await;
        not_found(other.post(&path, body.clone()).await);
        let theirs = registry(&other, "theirs").await;
        let mut foreign = body;
        foreign["registryId"] = json!(theirs);
        not_found(other.post(&path, foreign).await);
        assert_eq!(count(&server).await, before + 2);
    });
}

#[test]
fn states_are_set_and_shown_only_to_who_asks_for_all() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let made = provisioned(&server, &registry_id, "pump-1").await;
        let id = text(&made["device"]["id"]);
        let list = format!("{DEVICES}/{id}/certificates");
        let closed = server.get(&list).await.ok();
        let shown = &closed["certificates"][0];
        assert_eq!(members(shown), ["certificateData", "createdAt", "deviceId", "fingerprint"]);
        assert_eq!(server.get(&format!("{list}?view=BASIC")).await.ok(), closed);
        let full = server.get(&format!("{list}?view=FULL")).await.ok()["certificates"][0].take();
        let all = ["certificateData", "createdAt", "deviceId", "fingerprint", "issuedBy", "notAfter", "state"];
        assert_eq!(members(&full), all);
        assert_eq!((&full["state"], &full["issuedBy"]), (&json!("ACTIVE"), &json!(server.issuing_ca)));
        let one = format!("{list}/{}", text(&shown["fingerprint"]));
        let set = async |state: &str| server.patch(&one, json!({"state": state})).await;
        let off = set("INACTIVE").await.ok();
        assert_eq!((members(&off), &off["state"]), (all.to_vec(), &json!("INACTIVE")));
        // With colons and in capitals, percent-encoded or not.
        let octets: Vec<String> = text(&shown["fingerprint"])
            .to_uppercase()
            .as_bytes()
            .chunks(2)
            .map(|two| String::from_utf8_lossy(two).into_owned())
            .collect();
        for name in [octets.join(":"), octets.join("%3A")] {
            let on = server.patch(&format!("{list}/{name}"), json!({"state": "ACTIVE"})).await.ok();
            assert_eq!(on["state"], "ACTIVE");
        }
        assert_eq!(set("REVOKED").await.ok()["state"], "REVOKED");
        assert_eq!(set("REVOKED").await.ok()["state"], "REVOKED");
        set("ACTIVE").await.says(400, 9);
        assert_eq!(server.get(&format!("{list}?view=1")).await.ok()["certificates"][0]["state"], "REVOKED");
        for body in
            [json!({}), json!({"state": "active"}), json!({"state": 1}), json!({"state": null}), json!("ACTIVE")]
        {
            invalid(server.patch(&one, body).await);
        }
        for query in ["view=ALL", "view=FULL&other=1"] {
            invalid(server.get(&format!("{list}?{query}")).await);
        }
        not_found(server.patch(&format!("{list}/{}", "00".repeat(32)), json!({"state": "ACTIVE"})).await);
        invalid(server.patch(&format!("{list}/{}", "0".repeat(129)), json!({"state": "ACTIVE"})).await);
        not_found(server.get(&format!("{DEVICES}/none/certificates?view=FULL")).await);
        // Of a registry, one from elsewhere.
        let (key, name) = (TestKey::generate(), common_name("Elsewhere"));
        let mut draft = Draft::end_entity(&common_name("pump"), key.spki(), &name, server.start.seconds());
        draft.set_purposes(&[ExtendedKeyUsage::ClientAuth]);
        let foreign = draft.sign(&key);
        let list = format!("{REGISTRIES}/{registry_id}/certificates");
        let foreign = json!({"certificateData": pem::encode(pem::CERTIFICATE, &foreign)});
        server.post(&list, foreign).await.ok();
        let full = server.get(&format!("{list}?view=FULL")).await.ok()["certificates"][0].take();
        assert_eq!((&full["issuedBy"], &full["registryId"]), (&json!("CN=Elsewhere"), &json!(registry_id)));
        let one = format!("{list}/{}", text(&full["fingerprint"]));
        assert_eq!(server.patch(&one, json!({"state": "INACTIVE"})).await.ok()["state"], "INACTIVE");
        let other = server.other_organization().await;
        not_found(other.patch(&one, json!({"state": "ACTIVE"})).await);
        not_found(other.get(&format!("{list}?view=FULL")).await);
        let viewer = server.by(&server.identity("member", Some("viewer")).await);
        viewer.patch(&one, json!({"state": "ACTIVE"})).await.says(403, 7);
        // Taking it away is still the vendor's call.
        server.delete(&one).await.ok();
        assert_eq!(server.get(&format!("{list}?view=FULL")).await.ok(), json!({}));
    });
}

#[test]
fn the_report_names_what_ends_soon_with_its_owner() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let path = format!("{REGISTRIES}/{registry_id}/certificates:expiring");
        is_guarded(&server, Method::GET, &path).await;
        assert_eq!(server.get(&path).await.ok(), json!({}));
        let client = first_profile(&server, "client").await;
        let mut expected = Vec::new();
        for days in [3, 20, 45] {
            let wanted = json!({"commonName": "pump", "ttl": format!("{days}d"), "extendedKeyUsages": ["client_auth"]});
            let certificate = text(&issue(&server, &client, wanted).await.ok()["certificate"]);
            let device = device(&server, &registry_id, &format!("pump-{days}")).await;
            let added = json!({"certificateData": certificate});
            server.post(&format!("{DEVICES}/{device}/certificates"), added).await.ok();
            expected.push(device);
        }
        let owners = |answer: &Value| -> Vec<String> {
            answer["certificates"].as_array().unwrap().iter().map(|one| text(&one["deviceId"])).collect()
        };
        let soon = server.get(&path).await.ok();
        assert_eq!(owners(&soon), expected[..2]);
        assert_eq!(soon["certificates"][0]["notAfter"], server.time(3 * 24 * 60 * 60).replace(".000Z", "Z"));
        assert_eq!(owners(&server.get(&format!("{path}?days=60")).await.ok()), expected);
        let first = server.get(&format!("{path}?days=60&pageSize=2")).await.ok();
        let token = text(&first["nextPageToken"]);
        let rest = server.get(&format!("{path}?days=60&pageSize=2&pageToken={token}")).await.ok();
        assert_eq!((owners(&first), owners(&rest)), (expected[..2].to_vec(), expected[2..].to_vec()));
        assert!(rest.get("nextPageToken").is_none());
        let wrong = format!("pageToken={token}");
        for query in ["days=0", "days=x", "days=-1", "days=3651", "other=1", &wrong] {
            invalid(server.get(&format!("{path}?{query}")).await);
        }
        not_found(server.other_organization().await.get(&path).await);
        not_found(server.get(&format!("{REGISTRIES}/none/certificates:expiring")).await);
    });
}

#[test]
fn hooks_show_their_url_once() {
    for_each_engine(|server| async move {
        is_guarded(&server, Method::POST, HOOKS).await;
        let list = format!("{HOOKS}?folderId=default");
        assert_eq!(server.get(&list).await.ok(), json!({}));
        let made = server.post(HOOKS, json!({"folderId": "default", "kind": "emqx"})).await.ok();
        assert_eq!(members(&made), ["createdAt", "folderId", "id", "kind", "url"]);
        assert!(text(&made["url"]).starts_with(&server.url));
        let secret = text(&made["url"]).rsplit('/').next().unwrap().to_owned();
        let listed = server.get(&list).await.ok();
        assert_eq!(members(&listed["hooks"][0]), ["createdAt", "folderId", "id", "kind"]);
        assert!(!listed.to_string().contains(&secret));
        for body in [
            json!({}),
            json!({"folderId": "default"}),
            json!({"folderId": "default", "kind": "nats"}),
            json!({"kind": "emqx"}),
            json!({"folderId": 1, "kind": "emqx"}),
        ] {
            invalid(server.post(HOOKS, body).await);
        }
        not_found(server.post(HOOKS, json!({"folderId": "none", "kind": "emqx"})).await);
        invalid(server.get(HOOKS).await);
        let other = server.other_organization().await;
        not_found(other.get(&format!("{HOOKS}?folderId={}", server.project)).await);
        not_found(other.post(HOOKS, json!({"folderId": server.project, "kind": "emqx"})).await);
        let one = format!("{HOOKS}/{}", text(&made["id"]));
        not_found(other.delete(&one).await);
        // The secret is no name of it.
        not_found(server.delete(&format!("{HOOKS}/{secret}")).await);
        assert_eq!(server.delete(&one).await.ok(), json!({}));
        not_found(server.delete(&one).await);
        let audit = store_audit(&server).await;
        assert!(audit.contains("broker-hook-deleted") && !audit.contains(&secret));
    });
}

/// All that the audit says, as text.
async fn store_audit(server: &Server) -> String {
    let rows = server.services.db.rows("SELECT event, detail FROM audit_records", vec![]).await.unwrap();
    format!("{rows:?}")
}

/// What a broker is answered: status and body.
async fn ask(server: &Server, url: &str, question: &str, form: &[(&str, &str)]) -> (u16, String) {
    let path = url.strip_prefix(&server.url).unwrap().to_owned();
    let posted = server.form(&format!("{path}/{question}"), form).await;
    (posted.status, posted.raw)
}

#[test]
fn brokers_outside_are_answered_in_their_own_words() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let made = provisioned(&server, &registry_id, "pump-1").await;
        let id = text(&made["device"]["id"]);
        server.post(&format!("{DEVICES}/{id}/passwords"), json!({"password": PASSWORD})).await.ok();
        let hook = async |kind: &str| {
            let body = json!({"folderId": "default", "kind": kind});
            text(&server.post(HOOKS, body).await.ok()["url"])
        };
        let (events, commands) = (format!("$devices/{id}/events"), format!("$devices/{id}/commands"));

        // RabbitMQ, by POST and by GET.
        let url = hook("rabbitmq").await;
        let dotted = |topic: &str| topic.replace('/', ".");
        let (key, other_key) = (dotted(&events), dotted("$devices/other/events"));
        let resource = [("username", &id[..]), ("vhost", "/"), ("resource", "exchange"), ("name", "amq.topic")];
        for (question, form, answer) in [
            ("user", vec![("username", &id[..]), ("password", PASSWORD)], "allow"),
            ("user", vec![("username", &id[..]), ("password", "wrong")], "deny"),
            ("user", vec![("username", &id[..])], "deny"),
            ("vhost", vec![("username", &id[..]), ("vhost", "/"), ("ip", "127.0.0.1")], "allow"),
            ("vhost", vec![("username", "nobody"), ("vhost", "/")], "deny"),
            ("resource", [&resource[..], &[("permission", "write")]].concat(), "allow"),
            ("resource", [&resource[..], &[("permission", "configure")]].concat(), "deny"),
            (
                "topic",
                vec![("username", &id[..]), ("name", "amq.topic"), ("permission", "write"), ("routing_key", &key)],
                "allow",
            ),
            ("topic", vec![("username", &id[..]), ("permission", "read"), ("routing_key", &key)], "deny"),
            ("topic", vec![("username", &id[..]), ("permission", "write"), ("routing_key", &other_key)], "deny"),
            ("topic", vec![("username", &id[..]), ("permission", "write")], "deny"),
            ("authn", vec![("username", &id[..]), ("password", PASSWORD)], "deny"),
        ] {
            assert_eq!(ask(&server, &url, question, &form).await, (200, answer.to_owned()), "{question} {form:?}");
        }
        let (status, _, body) = server.fetch(&format!("{url}/user?username={id}&password={PASSWORD}")).await;
        assert_eq!((status, &body[..]), (200, &b"allow"[..]));

        // EMQX, with JSON.
        let url = hook("emqx").await;
        let place = url.strip_prefix(&server.url).unwrap().to_owned();
        let emqx = async |question: &str, body: Value| {
            let answer = server.anonymous(&format!("{place}/{question}"), body).await;
            assert_eq!(answer.status, 200);
            text(&answer.body["result"])
        };
        let certificate = text(&made["certificate"]);
        let let_in =
            server.anonymous(&format!("{place}/authn"), json!({"username": id, "password": PASSWORD})).await.ok();
        assert_eq!((&let_in["is_superuser"], &let_in["client_attrs"]["id"]), (&json!(false), &json!(id)));
        for (question, body, result) in [
            ("authn", json!({"username": id, "password": PASSWORD, "clientid": "c"}), "allow"),
            ("authn", json!({"username": id, "password": "wrong"}), "deny"),
            ("authn", json!({"username": "", "password": "undefined", "cert_pem": certificate}), "allow"),
            ("authn", json!({"username": registry_id, "cert_pem": certificate}), "deny"),
            ("authn", json!({"username": {"a": 1}}), "deny"),
            ("authn", json!([1]), "deny"),
            ("authn", json!({}), "deny"),
            ("authz", json!({"username": id, "topic": events, "action": "publish"}), "allow"),
            ("authz", json!({"username": "", "id": id, "topic": commands, "action": "subscribe"}), "allow"),
            ("authz", json!({"username": id, "topic": commands, "action": "publish"}), "deny"),
            ("authz", json!({"username": id, "topic": "$devices/#", "action": "subscribe"}), "deny"),
            ("authz", json!({"username": id, "topic": events, "action": "other"}), "deny"),
            ("authz", json!({"username": id, "action": "publish"}), "deny"),
            ("authz", json!({"username": "a\u{0}", "topic": "a\u{0}", "action": "publish"}), "deny"),
            ("user", json!({"username": id, "password": PASSWORD}), "deny"),
        ] {
            assert_eq!(emqx(question, body.clone()).await, result, "{question} {body}");
        }

        // mosquitto-go-auth, with JSON and with form fields.
        let url = hook("mosquitto").await;
        let place = url.strip_prefix(&server.url).unwrap().to_owned();
        for (question, body, status) in [
            ("user", json!({"username": id, "password": PASSWORD, "clientid": "c"}), 200),
            ("user", json!({"username": id, "password": ""}), 403),
            ("superuser", json!({"username": id}), 403),
            ("acl", json!({"username": id, "clientid": "c", "topic": events, "acc": 2}), 200),
            ("acl", json!({"username": id, "topic": events, "acc": 1}), 403),
            ("acl", json!({"username": id, "topic": commands, "acc": 1}), 200),
            ("acl", json!({"username": id, "topic": commands, "acc": 4}), 200),
            ("acl", json!({"username": id, "topic": "$devices/#", "acc": 4}), 200),
            ("acl", json!({"username": id, "topic": commands, "acc": 3}), 403),
            ("acl", json!({"username": id, "topic": commands, "acc": 0}), 403),
            ("acl", json!({"username": id, "topic": commands, "acc": 9}), 403),
            ("acl", json!({"username": "nobody", "topic": commands, "acc": 4}), 403),
            ("other", json!({}), 403),
        ] {
            let answer = server.anonymous(&format!("{place}/{question}"), body.clone()).await;
            assert_eq!((answer.status, &answer.body["ok"]), (status, &json!(status == 200)), "{question} {body}");
        }
        let acl = [("username", &id[..]), ("topic", &events[..]), ("acc", "2"), ("clientid", "c")];
        assert_eq!(ask(&server, &url, "acl", &acl).await.0, 200);

        // Who has no hook is told no.
        let (status, _) = ask(&server, &format!("{}{HOOKS}/guess", server.url), "user", &[]).await;
        assert_eq!(status, 403);
        let guessed =
            server.anonymous(&format!("{HOOKS}/guess/authn"), json!({"username": id, "password": PASSWORD})).await;
        assert_eq!((guessed.status, &guessed.body["result"]), (200, &json!("deny")));
        // Nobody of another project is known.
        let other = server.other_organization().await;
        let url = text(&other.post(HOOKS, json!({"folderId": "default", "kind": "rabbitmq"})).await.ok()["url"]);
        let form = [("username", &id[..]), ("password", PASSWORD)];
        assert_eq!(ask(&server, &url, "user", &form).await, (200, "deny".to_owned()));
    });
}

#[test]
fn an_authority_of_another_kind_is_trusted_only_when_it_is_active() {
    for_each_engine(|server| async move {
        let registry_id = registry(&server, "pumps").await;
        let path = format!("{REGISTRIES}/{registry_id}/authorities");
        let pending = authority(&server, "intermediate", "pending").await;
        server.post(&path, json!({"caId": pending})).await.says(400, 9);
        let root = authority(&server, "root", "another-root").await;
        server.patch(&format!("/api/v1/pki/ca/{root}"), json!({"status": "disabled"})).await.ok();
        server.post(&path, json!({"caId": root})).await.says(400, 9);
    });
}
