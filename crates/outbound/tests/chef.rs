//! Items of a Chef data bag, against a stand-in that verifies the signature of each request.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod appliance;

use appliance::{http, item, key_of, must_fail, never_without, pem_of, successor};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, FieldMappings, SyncOptions};
use outbound::DeliveryError;
use outbound::connection::chef::check;
use outbound::destination::chef::ChefDataBag;
use outbound::destination::{Destination, Item, Opening};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use testkit::stand_ins::chef::{BAG, Chef, ORGANIZATION, USER};
use testkit::stand_ins::{Fault, Material};

const ID: &str = "certificates/infisical-1";

fn credentials(server: &Chef, organization: &str, user: &str, key: &str) -> Credentials {
    Credentials::ChefUserKey {
        server_url: Some(format!("http://{}", server.address())),
        org_name: organization.into(),
        user_name: user.into(),
        private_key: SecretText::new(key),
    }
}

fn open_with(credentials: &Credentials, bag: &str, options: &SyncOptions) -> Result<ChefDataBag, DeliveryError> {
    ChefDataBag::open(&Opening {
        kind: DestinationKind::Chef,
        http: &http(),
        credentials: Some(credentials),
        config: &DestinationConfig::Chef { data_bag_name: bag.into() },
        options,
        secrets: &SyncCredentials::default(),
    })
}

fn open(server: &Chef, bag: &str) -> ChefDataBag {
    let options = SyncOptions::default_of(DestinationKind::Chef);
    open_with(&credentials(server, ORGANIZATION, USER, &server.key), bag, &options).unwrap()
}

async fn server_and_item() -> (Arc<Chef>, ChefDataBag, Item) {
    let server = Chef::start().await;
    let destination = open(&server, BAG);
    (server, destination, item(&Material::p256("www.example.com"), "infisical-1"))
}

#[tokio::test]
async fn an_item_is_created_looked_at_replaced_and_removed() {
    let (server, destination, item) = server_and_item().await;
    destination.must_take(&item).unwrap();
    assert_eq!(destination.look(ID).await.unwrap(), None);

    let created = destination.create(&item).await.unwrap();
    assert_eq!((created.id.as_str(), created.mark), (ID, Some(item.mark)));
    assert_eq!(Some(&created.fingerprint), destination.expected(&item).as_ref());
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));
    let fields = server.items()["infisical-1"].clone();
    assert_eq!(fields["certificate"], pem_of(&item.leaf));
    assert_eq!(fields["private_key"], key_of(&item));
    assert_eq!(fields["chancery-object"], item.mark.to_string());

    let next = Item { root: None, ..successor(&item, &Material::rsa("www.example.com")) };
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!(Some(&replaced.fingerprint), destination.expected(&next).as_ref());
    assert_eq!(destination.look(ID).await.unwrap(), Some(replaced.clone()));
    assert!(server.items()["infisical-1"]["ca_certificate"].is_null());

    destination.remove(&replaced).await.unwrap();
    assert!(server.items().is_empty());
    destination.remove(&replaced).await.unwrap();
}

#[tokio::test]
async fn only_the_user_s_own_signature_is_believed() {
    let (server, _, item) = server_and_item().await;
    let other = Material::rsa("x").key;
    let options = SyncOptions::default_of(DestinationKind::Chef);
    for (user, key) in [(USER, other.as_str()), ("somebody", &server.key)] {
        let wrong = credentials(&server, ORGANIZATION, user, key);
        let destination = open_with(&wrong, BAG, &options).unwrap();
        must_fail(destination.create(&item).await, "connection");
        must_fail(destination.look(ID).await, "connection");
        must_fail(check(&http(), &wrong).await, "connection");
    }
    assert!(server.items().is_empty());
    check(&http(), &credentials(&server, ORGANIZATION, USER, &server.key)).await.unwrap();
    check(&http(), &credentials(&server, ORGANIZATION, USER, &server.key.replace('\n', "\\n"))).await.unwrap();
    let text = must_fail(check(&http(), &credentials(&server, "other", USER, &server.key)).await, "connection");
    assert!(text.contains("does not exist"), "{text}");
    must_fail(check(&http(), &credentials(&server, ORGANIZATION, USER, "no key")).await, "refused");
}

#[tokio::test]
async fn a_request_that_is_not_signed_is_not_believed() {
    let server = Chef::start().await;
    let address = format!("http://{}/organizations/{ORGANIZATION}/data/{BAG}", server.address());
    let request = outbound::http::Request::new(reqwest::Method::POST, &address).unwrap().json(&json!({"id": "a"}));
    let answer = http().send(request).await.unwrap();
    assert_eq!(answer.status.as_u16(), 401);
    assert!(server.items().is_empty());
}

#[tokio::test]
async fn the_address_of_the_organisation_will_do_for_that_of_the_server() {
    let (server, _, item) = server_and_item().await;
    let Credentials::ChefUserKey { org_name, user_name, private_key, .. } =
        credentials(&server, ORGANIZATION, USER, &server.key)
    else {
        unreachable!()
    };
    let server_url = Some(format!("http://{}/organizations/{ORGANIZATION}/", server.address()));
    let pasted = Credentials::ChefUserKey { server_url, org_name, user_name, private_key };
    let options = SyncOptions::default_of(DestinationKind::Chef);
    open_with(&pasted, BAG, &options).unwrap().create(&item).await.unwrap();
}

#[tokio::test]
async fn each_fault_is_told_for_what_it_is() {
    let cases = [
        (Fault::Refuse(413), "refused", false),
        (Fault::Refuse(403), "connection", false),
        (Fault::Refuse(500), "unknown", false),
        (Fault::FailAfterSuccess, "unknown", true),
        (Fault::CloseAfterSuccess, "unknown", true),
    ];
    for (fault, expected, is_done) in cases {
        let (server, destination, item) = server_and_item().await;
        server.faults.add("create", fault);
        must_fail(destination.create(&item).await, expected);
        let found = destination.find(&item).await.unwrap();
        assert_eq!(found.len(), usize::from(is_done), "{fault:?}");
        assert!(found.iter().all(|one| one.mark == Some(item.mark)));
        let present = match found.into_iter().next() {
            Some(found) => found,
            None => destination.create(&item).await.unwrap(),
        };

        let next = successor(&item, &Material::p256("www.example.com"));
        server.faults.add("update", fault);
        must_fail(destination.replace(&present, &next).await, expected);
        let after = destination.look(ID).await.unwrap().unwrap();
        let (old, new) = (destination.expected(&item), destination.expected(&next));
        assert_eq!(Some(after.fingerprint.clone()), if is_done { new } else { old }, "{fault:?}");

        server.faults.add("delete", fault);
        must_fail(destination.remove(&after).await, expected);
        assert_eq!(server.items().len(), usize::from(!is_done), "{fault:?}");
        assert!(server.faults.are_used_up());
    }
}

#[tokio::test]
async fn a_request_that_was_not_taken_is_sent_again_and_a_conflict_is_not() {
    let (server, destination, item) = server_and_item().await;
    server.faults.add("create", Fault::Refuse(429));
    server.faults.add("create", Fault::Refuse(503));
    let created = destination.create(&item).await.unwrap();
    for operation in ["update", "delete"] {
        server.faults.add(operation, Fault::Refuse(409));
    }
    must_fail(destination.replace(&created, &item).await, "unavailable");
    must_fail(destination.remove(&created).await, "unavailable");
    assert!(server.faults.are_used_up());
}

#[tokio::test]
async fn a_lie_about_absence_overwrites_nothing_and_only_the_server_s_word_means_absence() {
    let (server, destination, item) = server_and_item().await;
    server.put("infisical-1", json!({"id": "infisical-1", "certificate": "of somebody else"}));
    let before = server.items();
    server.faults.add("read", Fault::DenyPresence);
    assert!(destination.find(&item).await.unwrap().is_empty());
    must_fail(destination.create(&item).await, "taken");
    server.faults.add("read", Fault::Refuse(404));
    must_fail(destination.look(ID).await, "refused");
    assert_eq!(server.items(), before);
    assert!(must_fail(open(&server, "missing").create(&item).await, "refused").contains("missing"));
}

#[tokio::test]
async fn a_look_alike_is_never_ours_and_what_somebody_changed_is_left_alone() {
    let (server, destination, item) = server_and_item().await;
    let twin = Item { mark: uuid::Uuid::new_v4(), ..item.clone() };
    let created = destination.create(&twin).await.unwrap();
    assert_ne!(destination.find(&item).await.unwrap()[0].mark, Some(item.mark));

    let mut fields = server.items()["infisical-1"].clone();
    fields["note"] = json!("kept");
    server.put("infisical-1", fields.clone());
    let next = successor(&twin, &Material::p256("www.example.com"));
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!(server.items()["infisical-1"]["note"], "kept");

    let mut fields = server.items()["infisical-1"].clone();
    fields["private_key"] = json!("another");
    server.put("infisical-1", fields);
    let before = server.items();
    must_fail(destination.replace(&replaced, &item).await, "unavailable");
    must_fail(destination.remove(&replaced).await, "unavailable");
    assert_eq!(server.items(), before);
}

#[tokio::test]
async fn an_item_that_is_replaced_is_never_missing() {
    let (server, destination, item) = server_and_item().await;
    let mut found = destination.create(&item).await.unwrap();
    server.faults.slow_down(Duration::from_millis(15));
    for _ in 0..3 {
        let next = successor(&item, &Material::p256("www.example.com"));
        let watched = server.clone();
        let is_there = move || watched.items().contains_key("infisical-1");
        found = never_without(is_there, destination.replace(&found, &next)).await.unwrap();
    }
}

#[tokio::test]
async fn names_fields_and_keys_are_looked_at_before_anything_is_sent() {
    let (server, destination, good) = server_and_item().await;
    for name in ["", "a/b", "a b", "a.b", &"a".repeat(256)] {
        must_fail(destination.must_take(&Item { name: name.into(), ..good.clone() }), "refused");
    }
    must_fail(destination.must_take(&Item { key: None, ..good.clone() }), "refused");
    let believed = credentials(&server, ORGANIZATION, USER, &server.key);
    let mut options = SyncOptions::default_of(DestinationKind::Chef);
    must_fail(open_with(&believed, "not a bag", &options).map(|_| ()), "refused");
    options.field_mappings = Some(FieldMappings { certificate: "id".into(), ..FieldMappings::default() });
    must_fail(open_with(&believed, BAG, &options).unwrap().must_take(&good), "refused");
    options.field_mappings = Some(FieldMappings { certificate: "crt".into(), ..FieldMappings::default() });
    open_with(&believed, BAG, &options).unwrap().create(&good).await.unwrap();
    assert_eq!(server.items()["infisical-1"]["crt"], pem_of(&good.leaf));
}
