//! Messages about certificates, against a receiver that verifies each signature.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod appliance;

use appliance::{http, item, must_fail, pem_of, public_http, successor};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::connection::webhook::check;
use outbound::destination::webhook::Webhook;
use outbound::destination::{Destination, Item, Opening};
use outbound::http::Http;
use std::sync::Arc;
use testkit::stand_ins::{Fault, Material, webhook::Webhook as Receiver};

const SECRET: &str = "what both sides know";

fn credentials(url: &str, secret: &str) -> Credentials {
    Credentials::WebhookHmac { url: url.into(), signing_secret: SecretText::new(secret) }
}

fn open_with(http: &Http, url: &str, secret: &str) -> Webhook {
    Webhook::open(&Opening {
        kind: DestinationKind::Webhook,
        http,
        credentials: Some(&credentials(url, secret)),
        config: &DestinationConfig::Webhook {},
        options: &SyncOptions::default_of(DestinationKind::Webhook),
        secrets: &SyncCredentials::default(),
    })
    .unwrap()
}

async fn receiver_and_item() -> (Arc<Receiver>, Webhook, Item) {
    let receiver = Receiver::start(SECRET).await;
    let destination = open_with(&http(), &format!("http://{}/hook?a=b", receiver.address()), SECRET);
    (receiver, destination, item(&Material::p256("www.example.com"), "x"))
}

#[tokio::test]
async fn a_certificate_is_told_without_its_key_and_known_as_told() {
    let (receiver, destination, item) = receiver_and_item().await;
    destination.must_take(&Item { key: None, ..item.clone() }).unwrap();
    let told = destination.create(&item).await.unwrap();
    let message = serde_json::json!({
        "certificateId": item.certificate.to_string(),
        "serialNumber": item.serial_number,
        "certificate": pem_of(&item.leaf),
        "certificateChain": pem_of(&item.chain[0]) + &pem_of(&item.chain[1]),
    });
    assert_eq!(receiver.messages(), [message]);

    // The same again has nothing to do; the successor has.
    let known = destination.look(&told.id).await.unwrap().unwrap();
    assert_eq!(Some(&known.fingerprint), destination.expected(&item).as_ref());
    let next = successor(&item, &Material::p256("www.example.com"));
    assert_ne!(Some(&known.fingerprint), destination.expected(&next).as_ref());
    let with_root =
        Item { chain: [item.chain.clone(), item.root.clone().into_iter().collect()].concat(), ..item.clone() };
    assert_ne!(Some(&known.fingerprint), destination.expected(&with_root).as_ref());

    let replaced = destination.replace(&known, &next).await.unwrap();
    assert!(replaced.id.starts_with(&next.certificate.to_string()), "{}", replaced.id);
    assert_eq!(receiver.messages().len(), 2);
    must_fail(destination.look("nonsense").await, "refused");
    must_fail(destination.remove(&replaced).await, "refused");
}

#[tokio::test]
async fn a_message_that_another_secret_signed_is_not_believed() {
    let (receiver, _, item) = receiver_and_item().await;
    let destination = open_with(&http(), &format!("http://{}/", receiver.address()), "another");
    must_fail(destination.create(&item).await, "connection");
    assert!(receiver.messages().is_empty());
}

#[tokio::test]
async fn each_fault_is_told_for_what_it_is() {
    for (fault, expected, is_told) in [
        (Fault::Refuse(400), "refused", false),
        (Fault::Refuse(409), "refused", false),
        (Fault::Refuse(410), "refused", false),
        (Fault::Refuse(301), "refused", false),
        (Fault::Refuse(500), "unknown", false),
        (Fault::FailAfterSuccess, "unknown", true),
        (Fault::CloseAfterSuccess, "unknown", true),
    ] {
        let (receiver, destination, item) = receiver_and_item().await;
        receiver.faults.add("message", fault);
        must_fail(destination.create(&item).await, expected);
        assert_eq!(receiver.messages().len(), usize::from(is_told), "{fault:?}");
        // Nothing can be found, so it is told once more.
        assert!(destination.find(&item).await.unwrap().is_empty());
        destination.create(&item).await.unwrap();
        assert_eq!(receiver.messages().len(), usize::from(is_told) + 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_message_that_was_not_taken_is_sent_again() {
    let (receiver, destination, item) = receiver_and_item().await;
    receiver.faults.add("message", Fault::Refuse(429));
    receiver.faults.add("message", Fault::Refuse(503));
    destination.create(&item).await.unwrap();
    assert_eq!(receiver.messages().len(), 1);
}

#[tokio::test]
async fn an_address_is_held_against_the_rules_and_nothing_is_sent() {
    let receiver = Receiver::start(SECRET).await;
    let url = format!("http://{}/hook", receiver.address());
    check(&http(), &credentials(&url, SECRET)).await.unwrap();
    let text = must_fail(check(&public_http(), &credentials(&url, SECRET)).await, "connection");
    assert!(text.contains("CHANCERY_EGRESS_ALLOW"), "{text}");
    must_fail(check(&http(), &credentials(&url, "")).await, "refused");
    must_fail(check(&http(), &credentials("http://93.184.216.34/", SECRET)).await, "refused");
    must_fail(check(&http(), &credentials("https://10.0.0.1/", SECRET)).await, "connection");
    assert!(receiver.messages().is_empty());
    let item = item(&Material::p256("www.example.com"), "x");
    must_fail(open_with(&public_http(), &url, SECRET).create(&item).await, "connection");
}
