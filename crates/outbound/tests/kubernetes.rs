//! TLS Secrets, against a stand-in of the Kubernetes API.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod appliance;

use appliance::{http, item, must_fail, never_without, public_http, root_of, successor};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::DeliveryError;
use outbound::connection::kubernetes::check;
use outbound::destination::kubernetes::KubernetesTlsSecret;
use outbound::destination::{Destination, Fingerprint, Item, Opening};
use outbound::http::Http;
use serde_json::json;
use std::time::Duration;
use testkit::stand_ins::kubernetes::{Access, Kubernetes};
use testkit::stand_ins::tls::serve_tls;
use testkit::stand_ins::{Fault, Material};
use x509::{Certificate, pem};

const TOKEN: &str = "a-service-account-token";

fn credentials(server_url: String, token: &str, ca_certificate: Option<String>) -> Credentials {
    Credentials::KubernetesToken { server_url, token: SecretText::new(token), ca_certificate }
}

fn open_at(http: &Http, credentials: &Credentials, namespace: &str) -> Result<KubernetesTlsSecret, DeliveryError> {
    KubernetesTlsSecret::open(&Opening {
        kind: DestinationKind::KubernetesTlsSecret,
        http,
        credentials: Some(credentials),
        config: &DestinationConfig::Kubernetes { namespace: namespace.into() },
        options: &SyncOptions::default_of(DestinationKind::KubernetesTlsSecret),
        secrets: &SyncCredentials::default(),
    })
}

fn open(server: &Kubernetes, token: &str) -> KubernetesTlsSecret {
    open_at(&http(), &credentials(format!("http://{}", server.address()), token, None), "web").unwrap()
}

async fn server_and_item() -> (std::sync::Arc<Kubernetes>, KubernetesTlsSecret, Item) {
    let server = Kubernetes::start("web", TOKEN).await;
    let destination = open(&server, TOKEN);
    (server, destination, item(&Material::p256("www.example.com"), "infisical-1"))
}

#[tokio::test]
async fn a_secret_is_created_looked_at_replaced_and_removed() {
    let (server, destination, item) = server_and_item().await;
    destination.must_take(&item).unwrap();
    assert_eq!(destination.look("web/infisical-1").await.unwrap(), None);
    assert!(destination.find(&item).await.unwrap().is_empty());

    let created = destination.create(&item).await.unwrap();
    assert_eq!(created.id, "web/infisical-1");
    assert_eq!(created.mark, Some(item.mark));
    assert_eq!(Some(&created.fingerprint), destination.expected(&item).as_ref());
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));
    let secret = &server.secrets()["infisical-1"];
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let text = STANDARD.decode(secret["data"]["tls.crt"].as_str().unwrap()).unwrap();
    let certificates = pem::decode_all(std::str::from_utf8(&text).unwrap(), pem::CERTIFICATE).unwrap();
    let chain: Vec<&[u8]> = [&item.leaf].into_iter().chain(&item.chain).map(Certificate::as_der).collect();
    assert_eq!(certificates, chain);
    assert_eq!(secret["metadata"]["annotations"]["chancery-object"], item.mark.to_string());

    let next = successor(&item, &Material::rsa("www.example.com"));
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!(Some(&replaced.fingerprint), destination.expected(&next).as_ref());
    assert_eq!(destination.look(&created.id).await.unwrap(), Some(replaced.clone()));
    assert_eq!(replaced.mark, Some(item.mark));

    destination.remove(&replaced).await.unwrap();
    assert!(server.secrets().is_empty());
    destination.remove(&replaced).await.unwrap();
}

#[tokio::test]
async fn another_token_is_not_believed() {
    let (server, _, item) = server_and_item().await;
    let destination = open(&server, "another");
    must_fail(destination.look("web/infisical-1").await, "connection");
    must_fail(destination.create(&item).await, "connection");
    let address = format!("http://{}", server.address());
    check(&http(), &credentials(address.clone(), TOKEN, None)).await.unwrap();
    let text = must_fail(check(&http(), &credentials(address.clone(), "another", None)).await, "connection");
    assert!(text.contains("401"), "{text}");
    server.faults.add("review", Fault::Refuse(403));
    let text = must_fail(check(&http(), &credentials(address, TOKEN, None)).await, "connection");
    assert!(text.contains("403"), "{text}");
}

#[tokio::test]
async fn an_account_that_may_not_is_told_apart_from_a_secret_that_is_not_admitted() {
    let (server, destination, item) = server_and_item().await;
    server.set_access(Access::Forbidden);
    must_fail(destination.find(&item).await, "connection");
    must_fail(destination.create(&item).await, "connection");
    server.set_access(Access::OverQuota);
    let text = must_fail(destination.create(&item).await, "refused");
    assert!(text.contains("exceeded quota"), "{text}");
}

#[tokio::test]
async fn each_fault_is_told_for_what_it_is() {
    let cases = [
        (Fault::Refuse(409), "unavailable", false),
        (Fault::Refuse(500), "unknown", false),
        (Fault::FailAfterSuccess, "unknown", true),
        (Fault::CloseAfterSuccess, "unknown", true),
    ];
    for (fault, expected, is_done) in cases {
        let (server, destination, item) = server_and_item().await;
        server.faults.add("create", fault);
        must_fail(destination.create(&item).await, expected);
        assert_eq!(server.secrets().len(), usize::from(is_done), "{fault:?}");
        // What the interrupted attempt made is known by its mark.
        let found = destination.find(&item).await.unwrap();
        assert_eq!(found.len(), usize::from(is_done));
        for one in &found {
            assert_eq!((one.mark, Some(&one.fingerprint)), (Some(item.mark), destination.expected(&item).as_ref()));
        }
        let present = match found.into_iter().next() {
            Some(found) => found,
            None => destination.create(&item).await.unwrap(),
        };

        let next = successor(&item, &Material::p256("www.example.com"));
        server.faults.add("replace", fault);
        must_fail(destination.replace(&present, &next).await, expected);
        let after = destination.look(&present.id).await.unwrap().unwrap();
        let (old, new) = (destination.expected(&item), destination.expected(&next));
        assert_eq!(Some(after.fingerprint.clone()), if is_done { new } else { old }, "{fault:?}");

        server.faults.add("delete", fault);
        must_fail(destination.remove(&after).await, expected);
        assert_eq!(server.secrets().len(), usize::from(!is_done), "{fault:?}");
        assert!(server.faults.are_used_up());
    }
}

#[tokio::test]
async fn a_request_that_was_not_taken_is_sent_again() {
    let (server, destination, item) = server_and_item().await;
    server.faults.add("create", Fault::Refuse(429));
    server.faults.add("create", Fault::Refuse(503));
    destination.create(&item).await.unwrap();
    assert!(server.faults.are_used_up());
}

#[tokio::test]
async fn a_lie_about_absence_overwrites_nothing() {
    let (server, destination, item) = server_and_item().await;
    server.put("infisical-1", json!({"tls.crt": "YQ==", "tls.key": "Yg=="}));
    let before = server.secrets();
    server.faults.add("get", Fault::DenyPresence);
    assert!(destination.find(&item).await.unwrap().is_empty());
    must_fail(destination.create(&item).await, "taken");
    assert_eq!(server.secrets(), before);
}

#[tokio::test]
async fn only_the_api_s_own_word_means_absence() {
    let (server, _, item) = server_and_item().await;
    server.faults.add("get", Fault::Refuse(404));
    must_fail(open(&server, TOKEN).look("web/infisical-1").await, "refused");
    let elsewhere = credentials(format!("http://{}", server.address()), TOKEN, None);
    let destination = open_at(&http(), &elsewhere, "missing").unwrap();
    let text = must_fail(destination.create(&item).await, "refused");
    assert!(text.contains("namespaces \"missing\" not found"), "{text}");
}

#[tokio::test]
async fn a_look_alike_is_never_ours() {
    let (server, destination, item) = server_and_item().await;
    let material = Material::p256("www.example.com");
    let twin = appliance::item(&material, "infisical-1");
    let created = destination.create(&twin).await.unwrap();
    // The same content under the same name, with another mark or none.
    assert_ne!(destination.find(&item).await.unwrap()[0].mark, Some(item.mark));
    server.edit("infisical-1", |secret| secret["metadata"]["annotations"] = json!({}));
    assert_eq!(destination.find(&twin).await.unwrap()[0].mark, None);
    let before = server.secrets();
    must_fail(destination.replace(&created, &successor(&twin, &material)).await, "unavailable");
    must_fail(destination.remove(&created).await, "unavailable");
    assert_eq!(server.secrets(), before);
}

#[tokio::test]
async fn what_somebody_changed_meanwhile_is_left_alone_and_what_is_not_ours_is_kept() {
    let (server, destination, item) = server_and_item().await;
    let created = destination.create(&item).await.unwrap();
    server.edit("infisical-1", |secret| {
        secret["metadata"]["labels"] = json!({"team": "web"});
        secret["data"]["extra"] = json!("ZXh0cmE=");
    });
    let next = successor(&item, &Material::p256("www.example.com"));
    let replaced = destination.replace(&created, &next).await.unwrap();
    let secret = server.secrets()["infisical-1"].clone();
    assert_eq!((&secret["metadata"]["labels"]["team"], &secret["data"]["extra"]), (&json!("web"), &json!("ZXh0cmE=")));

    server.edit("infisical-1", |secret| secret["data"]["tls.key"] = json!("c29tZXRoaW5n"));
    let before = server.secrets();
    must_fail(destination.replace(&replaced, &item).await, "unavailable");
    must_fail(destination.remove(&replaced).await, "unavailable");
    assert_eq!(server.secrets(), before);
    let now = destination.look(&replaced.id).await.unwrap().unwrap().fingerprint;
    assert!(!Fingerprint::is_between(&now, Some(&created.fingerprint), Some(&replaced.fingerprint)));
}

#[tokio::test]
async fn a_change_that_comes_between_look_and_write_is_not_written_over() {
    let (server, destination, item) = server_and_item().await;
    let created = destination.create(&item).await.unwrap();
    let before = server.secrets()["infisical-1"]["data"].clone();
    server.faults.add("replace", Fault::Overtake);
    let next = successor(&item, &Material::p256("www.example.com"));
    must_fail(destination.replace(&created, &next).await, "unavailable");
    let found = destination.look(&created.id).await.unwrap().unwrap();
    server.faults.add("delete", Fault::Overtake);
    must_fail(destination.remove(&found).await, "unavailable");
    let secret = &server.secrets()["infisical-1"];
    assert_eq!((&secret["data"], &secret["metadata"]["labels"]["overtaken"]), (&before, &json!("yes")));
}

#[tokio::test]
async fn a_secret_that_is_replaced_is_never_missing() {
    let (server, destination, item) = server_and_item().await;
    let mut found = destination.create(&item).await.unwrap();
    server.faults.slow_down(Duration::from_millis(15));
    for _ in 0..3 {
        let next = successor(&item, &Material::p256("www.example.com"));
        let watched = server.clone();
        let is_there = move || watched.secrets().contains_key("infisical-1");
        found = never_without(is_there, destination.replace(&found, &next)).await.unwrap();
    }
}

#[tokio::test]
async fn names_and_keys_are_looked_at_before_anything_is_sent() {
    let (_, destination, good) = server_and_item().await;
    let long = "a".repeat(254);
    for name in ["", "Upper", "under_score", "-a", "a-", "a..b", "a/b", &long] {
        must_fail(destination.must_take(&Item { name: name.into(), ..good.clone() }), "refused");
    }
    must_fail(destination.must_take(&Item { key: None, ..good.clone() }), "refused");
    destination.must_take(&Item { name: "a.b-c.1".into(), ..good }).unwrap();
    let address = || credentials("https://127.0.0.1:6443".into(), TOKEN, None);
    must_fail(open_at(&http(), &address(), "Not A Namespace").map(|_| ()), "refused");
    let inside = open_at(&public_http(), &address(), "web").unwrap();
    assert!(must_fail(inside.look("web/a").await, "connection").contains("CHANCERY_EGRESS_ALLOW"));
}

#[tokio::test]
async fn a_server_is_believed_by_its_pinned_authority_alone() {
    let server = Kubernetes::start("web", TOKEN).await;
    let (address, material) = serve_tls(server.address()).await;
    let url = format!("https://{address}");
    let stranger = Material::p256("127.0.0.1");
    check(&http(), &credentials(url.clone(), TOKEN, Some(root_of(&material)))).await.unwrap();
    must_fail(check(&http(), &credentials(url.clone(), TOKEN, None)).await, "connection");
    must_fail(check(&http(), &credentials(url.clone(), TOKEN, Some(root_of(&stranger)))).await, "connection");
    must_fail(check(&http(), &credentials(url, TOKEN, Some("no certificate".into()))).await, "refused");
}
