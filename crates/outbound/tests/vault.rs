//! Secrets of Vault and OpenBao, against a stand-in.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod appliance;

use appliance::{http, item, key_of, must_fail, never_without, pem_of, successor};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, FieldMappings, SyncOptions};
use outbound::DeliveryError;
use outbound::connection::vault::check;
use outbound::destination::vault::VaultStore;
use outbound::destination::{Destination, Item, Opening};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use testkit::stand_ins::vault::{MOUNT, MOUNT_OF_VERSION_1, Vault};
use testkit::stand_ins::{Fault, Material};

const TOKEN: &str = "hvs.token";
const NAMESPACE: &str = "team/pki";
const PATH: &str = "certs/web/infisical-1";
const ID: &str = "kv/data/certs/web/infisical-1";

fn credentials(server: &Vault, namespace: &str, token: &str) -> Credentials {
    Credentials::VaultAccessToken {
        instance_url: format!("http://{}", server.address()),
        namespace: Some(namespace.into()),
        access_token: SecretText::new(token),
    }
}

fn open_with(
    credentials: &Credentials,
    mount: &str,
    path: &str,
    options: &SyncOptions,
) -> Result<VaultStore, DeliveryError> {
    VaultStore::open(&Opening {
        kind: DestinationKind::HashicorpVault,
        http: &http(),
        credentials: Some(credentials),
        config: &DestinationConfig::Vault { mount: mount.into(), path: path.into() },
        options,
        secrets: &SyncCredentials::default(),
    })
}

fn open(server: &Vault, mount: &str, token: &str) -> VaultStore {
    let options = SyncOptions::default_of(DestinationKind::HashicorpVault);
    open_with(&credentials(server, NAMESPACE, token), mount, "/certs/web/", &options).unwrap()
}

async fn server_and_item() -> (Arc<Vault>, VaultStore, Item) {
    let server = Vault::start(NAMESPACE, TOKEN).await;
    let destination = open(&server, MOUNT, TOKEN);
    (server, destination, item(&Material::p256("www.example.com"), "infisical-1"))
}

#[tokio::test]
async fn a_secret_is_created_looked_at_replaced_and_removed() {
    let (server, destination, item) = server_and_item().await;
    destination.must_take(&item).unwrap();
    assert_eq!(destination.look(ID).await.unwrap(), None);

    let created = destination.create(&item).await.unwrap();
    assert_eq!((created.id.as_str(), created.mark), (ID, Some(item.mark)));
    assert_eq!(Some(&created.fingerprint), destination.expected(&item).as_ref());
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));
    let data = server.newest(PATH).unwrap();
    assert_eq!(data["certificate"], pem_of(&item.leaf));
    assert_eq!(data["private_key"], key_of(&item));
    assert_eq!(data["certificate_chain"], pem_of(&item.chain[0]) + &pem_of(&item.chain[1]));
    assert_eq!(data["ca_certificate"], pem_of(item.root.as_ref().unwrap()));
    assert_eq!(data["chancery-object"], item.mark.to_string());

    // A successor without a chain leaves no chain of its predecessor behind.
    let next = Item { chain: vec![], ..successor(&item, &Material::rsa("www.example.com")) };
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!(Some(&replaced.fingerprint), destination.expected(&next).as_ref());
    assert_eq!(destination.look(ID).await.unwrap(), Some(replaced.clone()));
    assert!(server.newest(PATH).unwrap()["certificate_chain"].is_null());

    destination.remove(&replaced).await.unwrap();
    assert!(server.secrets().is_empty());
    destination.remove(&replaced).await.unwrap();
}

#[tokio::test]
async fn another_token_or_namespace_is_not_believed() {
    let (server, _, item) = server_and_item().await;
    let destination = open(&server, MOUNT, "another");
    must_fail(destination.look(ID).await, "connection");
    must_fail(destination.create(&item).await, "connection");
    check(&http(), &credentials(&server, NAMESPACE, TOKEN)).await.unwrap();
    must_fail(check(&http(), &credentials(&server, NAMESPACE, "another")).await, "connection");
    must_fail(check(&http(), &credentials(&server, "elsewhere", TOKEN)).await, "connection");
    server.faults.add("self", Fault::Refuse(404));
    must_fail(check(&http(), &credentials(&server, NAMESPACE, TOKEN)).await, "refused");
}

#[tokio::test]
async fn each_fault_is_told_for_what_it_is() {
    let cases = [
        (Fault::Refuse(412), "unavailable", false),
        (Fault::Refuse(409), "refused", false),
        (Fault::Refuse(500), "unknown", false),
        (Fault::FailAfterSuccess, "unknown", true),
        (Fault::CloseAfterSuccess, "unknown", true),
    ];
    for (fault, expected, is_done) in cases {
        let (server, destination, item) = server_and_item().await;
        server.faults.add("write", fault);
        must_fail(destination.create(&item).await, expected);
        let found = destination.find(&item).await.unwrap();
        assert_eq!(found.len(), usize::from(is_done), "{fault:?}");
        assert!(found.iter().all(|one| one.mark == Some(item.mark)));
        let present = match found.into_iter().next() {
            Some(found) => found,
            None => destination.create(&item).await.unwrap(),
        };

        let next = successor(&item, &Material::p256("www.example.com"));
        server.faults.add("write", fault);
        must_fail(destination.replace(&present, &next).await, expected);
        let after = destination.look(ID).await.unwrap().unwrap();
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
    server.faults.add("write", Fault::Refuse(429));
    server.faults.add("write", Fault::Refuse(503));
    destination.create(&item).await.unwrap();
    assert!(server.faults.are_used_up());
}

#[tokio::test]
async fn a_lie_about_absence_overwrites_nothing() {
    let (server, destination, item) = server_and_item().await;
    server.put(PATH, json!({"certificate": "of somebody else"}));
    let before = server.secrets();
    must_fail(destination.create(&item).await, "taken");
    server.faults.add("read", Fault::DenyPresence);
    must_fail(destination.create(&item).await, "taken");
    assert_eq!(server.secrets(), before);
    assert!(server.faults.are_used_up());
}

#[tokio::test]
async fn a_deleted_secret_is_absent_and_its_versions_stay_their_owner_s() {
    let (server, destination, item) = server_and_item().await;
    server.put(PATH, json!({"password": "of somebody else"}));
    server.delete_softly(PATH);
    let theirs = server.secrets()[PATH].versions.clone();
    assert!(destination.find(&item).await.unwrap().is_empty());
    let created = destination.create(&item).await.unwrap();
    let next = successor(&item, &Material::p256("www.example.com"));
    let replaced = destination.replace(&created, &next).await.unwrap();
    destination.remove(&replaced).await.unwrap();
    assert_eq!(destination.look(ID).await.unwrap(), None);
    let versions = server.secrets()[PATH].versions.clone();
    assert_eq!(versions[..1], theirs);
    assert!(versions[1..].iter().all(|version| version.data.is_none()));
    // What was destroyed can be made anew.
    destination.create(&item).await.unwrap();
}

#[tokio::test]
async fn a_look_alike_is_never_ours_and_what_somebody_changed_is_left_alone() {
    let (server, destination, item) = server_and_item().await;
    let twin = Item { mark: uuid::Uuid::new_v4(), ..item.clone() };
    let created = destination.create(&twin).await.unwrap();
    assert_ne!(destination.find(&item).await.unwrap()[0].mark, Some(item.mark));

    let mut data = server.newest(PATH).unwrap();
    data["private_key"] = json!("another");
    server.put(PATH, data);
    let before = server.secrets();
    must_fail(destination.replace(&created, &item).await, "unavailable");
    must_fail(destination.remove(&created).await, "unavailable");
    assert_eq!(server.secrets(), before);
}

#[tokio::test]
async fn a_change_that_comes_between_look_and_write_is_not_written_over() {
    let (server, destination, item) = server_and_item().await;
    server.faults.add("write", Fault::Overtake);
    must_fail(destination.create(&item).await, "taken");
    assert_eq!(server.newest(PATH), Some(json!({"overtaken": "yes"})));
    let (server, destination, item) = server_and_item().await;
    let created = destination.create(&item).await.unwrap();
    server.faults.add("write", Fault::Overtake);
    must_fail(destination.replace(&created, &item).await, "unavailable");
    assert_eq!(server.newest(PATH), Some(json!({"overtaken": "yes"})));
}

#[tokio::test]
async fn a_field_that_somebody_added_is_kept() {
    let (server, destination, item) = server_and_item().await;
    let created = destination.create(&item).await.unwrap();
    let mut data = server.newest(PATH).unwrap();
    data["note"] = json!("kept");
    server.put(PATH, data);
    let next = successor(&item, &Material::p256("www.example.com"));
    destination.replace(&created, &next).await.unwrap();
    assert_eq!(server.newest(PATH).unwrap()["note"], "kept");
}

#[tokio::test]
async fn a_secret_that_is_replaced_is_never_missing() {
    let (server, destination, item) = server_and_item().await;
    let mut found = destination.create(&item).await.unwrap();
    server.faults.slow_down(Duration::from_millis(15));
    for _ in 0..3 {
        let next = successor(&item, &Material::p256("www.example.com"));
        let watched = server.clone();
        let is_there = move || watched.newest(PATH).is_some();
        found = never_without(is_there, destination.replace(&found, &next)).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_of_version_1_or_none_is_refused_and_not_written_to() {
    let (server, _, item) = server_and_item().await;
    let text = must_fail(open(&server, MOUNT_OF_VERSION_1, TOKEN).create(&item).await, "refused");
    assert!(text.contains("version 2"), "{text}");
    let text = must_fail(open(&server, "missing", TOKEN).create(&item).await, "refused");
    assert!(text.contains("no handler for route"), "{text}");
}

#[tokio::test]
async fn names_fields_and_keys_are_looked_at_before_anything_is_sent() {
    let (server, destination, good) = server_and_item().await;
    for name in ["", ".", "..", "a/b", "a b", &"a".repeat(256)] {
        must_fail(destination.must_take(&Item { name: name.into(), ..good.clone() }), "refused");
    }
    must_fail(destination.must_take(&Item { key: None, ..good.clone() }), "refused");
    let mut options = SyncOptions::default_of(DestinationKind::HashicorpVault);
    options.field_mappings = Some(FieldMappings { private_key: "certificate".into(), ..FieldMappings::default() });
    let believed = credentials(&server, NAMESPACE, TOKEN);
    must_fail(open_with(&believed, MOUNT, "certs", &options).unwrap().must_take(&good), "refused");
    for (mount, path) in [("", "certs"), ("kv", "../other"), ("kv/../sys", "certs")] {
        must_fail(open_with(&believed, mount, path, &options).map(|_| ()), "refused");
    }
    options.field_mappings = Some(FieldMappings { certificate: "crt".into(), ..FieldMappings::default() });
    let mapped = open_with(&believed, MOUNT, "", &options).unwrap();
    assert_eq!(mapped.create(&good).await.unwrap().id, "kv/data/infisical-1");
    assert_eq!(server.newest("infisical-1").unwrap()["crt"], pem_of(&good.leaf));
}
