//! Certificates, keys and profiles of a BIG-IP, against a stand-in behind TLS.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod appliance;

use appliance::{http, item, key_of, must_fail, never_without, pem_of, root_of, successor};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::DeliveryError;
use outbound::connection::f5::check;
use outbound::destination::f5::F5Partition;
use outbound::destination::{Changed, Destination, Found, Item, Opening};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use testkit::chains::{Draft, TestKey, common_name};
use testkit::stand_ins::f5::{F5, USER};
use testkit::stand_ins::tls::serve_tls;
use testkit::stand_ins::{Fault, Material};
use x509::Certificate;

const PASSWORD: &str = "the password";
const ID: &str = "/Common/Infisical-1";
const PROFILE: &str = "/Common/web";

/// An appliance with TLS in front of it, and who vouches for that.
struct Site {
    server: Arc<F5>,
    address: SocketAddr,
    root: String,
}

impl Site {
    async fn start() -> Self {
        let server = F5::start(PASSWORD).await;
        let (address, material) = serve_tls(server.address()).await;
        Self { server, address, root: root_of(&material) }
    }

    fn credentials(&self, password: &str) -> Credentials {
        Credentials::F5BasicAuth {
            hostname: self.address.ip().to_string(),
            port: Some(self.address.port()),
            username: USER.into(),
            password: SecretText::new(password),
            ssl_reject_unauthorized: None,
            ssl_certificate: Some(self.root.clone()),
        }
    }

    fn open_with(&self, password: &str, config: &DestinationConfig) -> Result<F5Partition, DeliveryError> {
        F5Partition::open(&Opening {
            kind: DestinationKind::F5BigIp,
            http: &http(),
            credentials: Some(&self.credentials(password)),
            config,
            options: &SyncOptions::default_of(DestinationKind::F5BigIp),
            secrets: &SyncCredentials::default(),
        })
    }

    fn open(&self) -> F5Partition {
        self.open_with(PASSWORD, &config("Common", None, None)).unwrap()
    }

    fn open_bound(&self, kind: &str, create: Option<bool>) -> F5Partition {
        self.open_with(PASSWORD, &config("Common", Some(kind), create)).unwrap()
    }

    /// A profile that uses an object, and another entry.
    fn use_in_profile(&self) {
        let chain = format!("{ID}-chain");
        let ours = json!({
            "name": "site", "cert": ID, "key": ID, "chain": chain, "serverName": "www.example.com",
            "certReference": {"link": "https://localhost/"},
        });
        let other = json!({"name": "other", "cert": "/Common/default.crt", "key": "/Common/default.key"});
        self.server.edit(|running| {
            let profile = json!({"fullPath": PROFILE, "certKeyChain": [ours, other]});
            running.client_profiles.insert(PROFILE.into(), profile);
        });
    }

    fn entries(&self) -> Value {
        self.server.running().client_profiles[PROFILE]["certKeyChain"].clone()
    }
}

fn config(partition: &str, profile_type: Option<&str>, create: Option<bool>) -> DestinationConfig {
    DestinationConfig::F5 {
        partition: partition.into(),
        profile_type: profile_type.map(str::to_owned),
        profile_name: profile_type.map(|_| "web".to_owned()),
        create_profile_if_missing: create,
        parent_profile: None,
    }
}

fn chain_of(item: &Item) -> String {
    item.chain.iter().map(pem_of).collect()
}

fn delivered(found: &Found) -> Changed {
    Changed { delivered: vec![(found.clone(), "www.example.com".into())], removed: vec![] }
}

async fn site_and_item() -> (Site, F5Partition, Item) {
    let site = Site::start().await;
    let destination = site.open();
    (site, destination, item(&Material::p256("www.example.com"), "Infisical-1"))
}

#[tokio::test]
async fn certificate_key_and_chain_are_created_looked_at_replaced_and_removed() {
    let (site, destination, item) = site_and_item().await;
    destination.must_take(&item).unwrap();
    assert_eq!(destination.look(ID).await.unwrap(), None);

    let created = destination.create(&item).await.unwrap();
    assert_eq!((created.id.as_str(), created.mark), (ID, Some(item.mark)));
    assert_eq!(Some(&created.fingerprint), destination.expected(&item).as_ref());
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));
    let running = site.server.running();
    assert_eq!(running.certificates[ID], pem_of(&item.leaf).into_bytes());
    assert_eq!(running.certificates[&format!("{ID}-chain")], chain_of(&item).into_bytes());
    assert_eq!(running.keys[ID], key_of(&item).into_bytes());

    let next = successor(&item, &Material::rsa("www.example.com"));
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!(Some(&replaced.fingerprint), destination.expected(&next).as_ref());
    assert_eq!(destination.look(ID).await.unwrap().unwrap().fingerprint, replaced.fingerprint);

    destination.remove(&replaced).await.unwrap();
    destination.remove(&replaced).await.unwrap();
    assert_eq!(site.server.running(), testkit::stand_ins::f5::Configuration::default());
    // No private key stays behind among the uploads, and no token.
    assert!(site.server.uploads().is_empty());
    destination.finish(&Changed::default()).await.unwrap();
    assert_eq!(site.server.tokens(), 0);
}

#[tokio::test]
async fn another_password_is_not_believed_and_no_token_stays_behind() {
    let (site, _, item) = site_and_item().await;
    let wrong = site.open_with("another", &config("Common", None, None)).unwrap();
    must_fail(wrong.look(ID).await, "connection");
    must_fail(wrong.create(&item).await, "connection");
    must_fail(check(&http(), &site.credentials("another")).await, "connection");
    check(&http(), &site.credentials(PASSWORD)).await.unwrap();
    assert_eq!(site.server.tokens(), 0);

    let unfinished = site.open();
    unfinished.look(ID).await.unwrap();
    assert_eq!(site.server.tokens(), 1);
    drop(unfinished);
    for _ in 0..1000 {
        if site.server.tokens() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the token stayed behind");
}

#[tokio::test]
async fn a_token_that_ended_is_taken_anew() {
    let (site, destination, item) = site_and_item().await;
    let created = destination.create(&item).await.unwrap();
    site.server.expire_tokens();
    assert!(destination.look(&created.id).await.unwrap().is_some());
}

#[tokio::test]
async fn an_appliance_is_believed_by_its_pinned_authority_alone_unless_that_is_turned_off() {
    let site = Site::start().await;
    let with = |ssl_reject_unauthorized: Option<bool>, ssl_certificate: Option<String>| {
        let Credentials::F5BasicAuth { hostname, port, username, password, .. } = site.credentials(PASSWORD) else {
            unreachable!()
        };
        Credentials::F5BasicAuth { hostname, port, username, password, ssl_reject_unauthorized, ssl_certificate }
    };
    let stranger = root_of(&Material::p256("127.0.0.1"));
    must_fail(check(&http(), &with(None, None)).await, "connection");
    must_fail(check(&http(), &with(Some(true), None)).await, "connection");
    must_fail(check(&http(), &with(None, Some(stranger))).await, "connection");
    check(&http(), &with(Some(true), Some(site.root.clone()))).await.unwrap();
    check(&http(), &with(Some(false), None)).await.unwrap();
}

#[tokio::test]
async fn each_fault_of_a_commit_is_told_for_what_it_is() {
    let cases = [
        (Fault::Refuse(400), "refused", false),
        (Fault::Refuse(500), "unknown", false),
        (Fault::FailAfterSuccess, "unknown", true),
        (Fault::CloseAfterSuccess, "unknown", true),
    ];
    for (fault, expected, is_done) in cases {
        let (site, destination, item) = site_and_item().await;
        site.server.faults.add("commit", fault);
        must_fail(destination.create(&item).await, expected);
        let found = destination.find(&item).await.unwrap();
        assert_eq!(found.len(), usize::from(is_done), "{fault:?}");
        assert!(found.iter().all(|one| one.mark == Some(item.mark)));
        let present = match found.into_iter().next() {
            Some(found) => found,
            None => destination.create(&item).await.unwrap(),
        };

        let next = successor(&item, &Material::p256("www.example.com"));
        site.server.faults.add("commit", fault);
        must_fail(destination.replace(&present, &next).await, expected);
        let after = destination.look(ID).await.unwrap().unwrap();
        let (old, new) = (destination.expected(&item), destination.expected(&next));
        assert_eq!(Some(after.fingerprint.clone()), if is_done { new } else { old }, "{fault:?}");

        site.server.faults.add("commit", fault);
        must_fail(destination.remove(&after).await, expected);
        assert_eq!(site.server.running().keys.len(), usize::from(!is_done), "{fault:?}");
        assert!(site.server.faults.are_used_up() && site.server.uploads().is_empty());
    }
}

#[tokio::test]
async fn what_fails_before_the_commit_was_surely_not_done() {
    for operation in ["upload", "begin", "queue"] {
        for fault in [Fault::Refuse(500), Fault::FailAfterSuccess, Fault::CloseAfterSuccess] {
            let (site, destination, item) = site_and_item().await;
            site.server.faults.add(operation, fault);
            must_fail(destination.create(&item).await, "unavailable");
            assert!(site.server.running().certificates.is_empty() && site.server.uploads().is_empty());
            destination.create(&item).await.unwrap();
        }
    }
    let (site, destination, item) = site_and_item().await;
    site.server.faults.add("upload", Fault::Partial);
    must_fail(destination.create(&item).await, "unavailable");
    site.server.faults.add("queue", Fault::Refuse(429));
    site.server.faults.add("commit", Fault::Refuse(503));
    destination.create(&item).await.unwrap();
    assert!(site.server.faults.are_used_up());
}

#[tokio::test]
async fn a_commit_that_left_a_part_behind_is_seen_part_by_part() {
    let (site, destination, item) = site_and_item().await;
    let created = destination.create(&item).await.unwrap();
    let next = successor(&item, &Material::p256("www.example.com"));
    site.server.faults.add("commit", Fault::Partial);
    must_fail(destination.replace(&created, &next).await, "unknown");
    let now = destination.look(ID).await.unwrap().unwrap();
    let after = destination.expected(&next).unwrap();
    assert!(now.fingerprint != created.fingerprint && now.fingerprint != after);
    assert!(now.fingerprint.is_between(Some(&created.fingerprint), Some(&after)));
    let replaced = destination.replace(&now, &next).await.unwrap();
    assert_eq!(replaced.fingerprint, after);
}

#[tokio::test]
async fn a_lie_about_absence_overwrites_nothing_and_only_the_appliance_s_word_means_absence() {
    let (site, destination, item) = site_and_item().await;
    site.server.edit(|running| {
        running.certificates.insert(ID.into(), b"of somebody else".to_vec());
    });
    let before = site.server.running();
    must_fail(destination.create(&item).await, "taken");
    site.server.faults.add("read-cert", Fault::DenyPresence);
    must_fail(destination.create(&item).await, "taken");
    site.server.faults.add("read-cert", Fault::Refuse(404));
    must_fail(destination.look(ID).await, "refused");
    assert_eq!(site.server.running(), before);
    assert!(site.server.faults.are_used_up());
}

#[tokio::test]
async fn a_look_alike_is_never_ours_and_what_somebody_changed_is_left_alone() {
    let (site, destination, item) = site_and_item().await;
    let created = destination.create(&item).await.unwrap();
    let twin = successor(&item, &Material::p256("www.example.com"));
    assert_eq!(destination.find(&twin).await.unwrap()[0].mark, None);
    // The very certificate, but another key beside it.
    site.server.edit(|running| {
        running.keys.insert(ID.into(), key_of(&twin).into_bytes());
    });
    assert_eq!(destination.find(&item).await.unwrap()[0].mark, None);
    let before = site.server.running();
    must_fail(destination.replace(&created, &twin).await, "unavailable");
    must_fail(destination.remove(&created).await, "unavailable");
    assert_eq!(site.server.running(), before);

    // Only the name of the chain is taken.
    let other = Item { name: "Infisical-2".into(), ..item.clone() };
    site.server.edit(|running| {
        running.certificates.insert("/Common/Infisical-2-chain".into(), chain_of(&item).into_bytes());
    });
    must_fail(destination.create(&other).await, "taken");
    assert_eq!(destination.find(&other).await.unwrap()[0].mark, None);
}

#[tokio::test]
async fn a_pair_that_is_replaced_is_never_missing_and_always_matches() {
    let (site, destination, item) = site_and_item().await;
    let mut found = destination.create(&item).await.unwrap();
    site.use_in_profile();
    site.server.faults.slow_down(Duration::from_millis(6));
    for _ in 0..2 {
        let next = successor(&item, &Material::p256("www.example.com"));
        let watched = site.server.clone();
        let matches = move || watched.running().has_matching_pair(ID);
        found = never_without(matches, destination.replace(&found, &next)).await.unwrap();
    }
}

#[tokio::test]
async fn a_chain_that_is_no_more_is_taken_out_of_profiles_and_removed() {
    let (site, destination, item) = site_and_item().await;
    let created = destination.create(&item).await.unwrap();
    site.use_in_profile();
    let next = Item { chain: vec![], ..successor(&item, &Material::p256("www.example.com")) };
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!(Some(&replaced.fingerprint), destination.expected(&next).as_ref());
    assert_eq!(destination.look(ID).await.unwrap().unwrap().fingerprint, replaced.fingerprint);
    assert_eq!((&site.entries()[0]["cert"], &site.entries()[0]["chain"]), (&json!(ID), &json!("none")));
}

#[tokio::test]
async fn a_removal_takes_the_pair_out_of_the_profiles_of_its_partition_first() {
    let (site, destination, item) = site_and_item().await;
    let created = destination.create(&item).await.unwrap();
    site.use_in_profile();
    site.server.edit(|running| {
        let profile = json!({"fullPath": "/Common/inside", "cert": ID, "key": ID, "chain": format!("{ID}-chain")});
        running.server_profiles.insert("/Common/inside".into(), profile);
    });
    destination.remove(&created).await.unwrap();
    let running = site.server.running();
    assert!(running.certificates.is_empty() && running.keys.is_empty());
    assert_eq!(site.entries().as_array().unwrap().len(), 1);
    assert_eq!(running.server_profiles["/Common/inside"]["cert"], "none");

    // A profile elsewhere that uses it holds the removal back, and nothing is half done.
    let created = destination.create(&item).await.unwrap();
    site.server.edit(|running| {
        let profile = json!({"fullPath": "/Other/web", "certKeyChain": [{"name": "x", "cert": ID, "key": ID}]});
        running.client_profiles.insert("/Other/web".into(), profile);
    });
    let before = site.server.running();
    assert!(must_fail(destination.remove(&created).await, "refused").contains("in use"));
    assert_eq!(site.server.running(), before);
}

#[tokio::test]
async fn a_profile_is_bound_and_everything_saved_at_the_end() {
    let (site, _, item) = site_and_item().await;
    let destination = site.open_bound("client-ssl", Some(true));
    let created = destination.create(&item).await.unwrap();
    assert_eq!(site.server.saved(), testkit::stand_ins::f5::Configuration::default());
    destination.finish(&delivered(&created)).await.unwrap();
    assert_eq!(site.server.saved(), site.server.running());
    assert_eq!(site.entries()[0]["cert"], ID);
    assert_eq!(site.server.running().client_profiles[PROFILE]["defaultsFrom"], "/Common/clientssl");
    assert_eq!(site.server.tokens(), 0);

    // An entry of ours keeps its server name; those of others stay as they are.
    site.server.edit(|running| {
        let own = json!({"name": "site", "cert": ID, "key": ID, "chain": "none", "serverName": "www.example.com"});
        let other = json!({"name": "z", "cert": "/Common/default.crt", "key": "/Common/default.key"});
        running.client_profiles.insert(PROFILE.into(), json!({"fullPath": PROFILE, "certKeyChain": [own, other]}));
    });
    destination.finish(&delivered(&created)).await.unwrap();
    let entries = site.entries();
    assert_eq!(entries[0]["serverName"], "www.example.com");
    assert_eq!(entries[0]["chain"], format!("{ID}-chain"));
    assert_eq!(entries[1]["cert"], "/Common/default.crt");

    // The default of the appliance gives way.
    site.server.edit(|running| {
        let other = json!({"name": "default", "cert": "/Common/default.crt", "key": "/Common/default.key"});
        running.client_profiles.insert(PROFILE.into(), json!({"fullPath": PROFILE, "certKeyChain": [other]}));
    });
    destination.finish(&delivered(&created)).await.unwrap();
    assert_eq!(site.entries().as_array().unwrap().len(), 1);
    assert_eq!(site.entries()[0]["cert"], ID);
}

#[tokio::test]
async fn a_profile_of_the_server_side_uses_one_certificate() {
    let (site, _, item) = site_and_item().await;
    let destination = site.open_bound("server-ssl", Some(true));
    let created = destination.create(&item).await.unwrap();
    destination.finish(&delivered(&created)).await.unwrap();
    let profile = site.server.running().server_profiles[PROFILE].clone();
    assert_eq!((&profile["cert"], &profile["key"]), (&json!(ID), &json!(ID)));
    let second = (created.clone(), "www.example.com".to_owned());
    let two = Changed { delivered: vec![second.clone(), second], removed: vec![] };
    must_fail(destination.finish(&two).await, "refused");
}

#[tokio::test]
async fn a_profile_that_cannot_be_bound_leaves_the_objects_saved() {
    let (site, _, item) = site_and_item().await;
    let destination = site.open_bound("client-ssl", None);
    let created = destination.create(&item).await.unwrap();
    assert!(must_fail(destination.finish(&delivered(&created)).await, "refused").contains(PROFILE));
    assert_eq!(site.server.saved(), site.server.running());
    site.use_in_profile();
    site.server.edit(|running| running.client_profiles.get_mut(PROFILE).unwrap()["certKeyChain"] = json!([]));
    site.server.faults.add("write-profile", Fault::Refuse(400));
    must_fail(destination.finish(&delivered(&created)).await, "refused");
    site.server.faults.add("save", Fault::Refuse(500));
    must_fail(destination.finish(&delivered(&created)).await, "unknown");
    destination.finish(&delivered(&created)).await.unwrap();
    assert_eq!(site.server.tokens(), 0);
}

#[tokio::test]
async fn names_keys_and_places_are_looked_at_before_anything_is_sent() {
    let (site, destination, good) = site_and_item().await;
    for name in ["", "a/b", "a~b", "a b", &"a".repeat(250)] {
        must_fail(destination.must_take(&Item { name: name.into(), ..good.clone() }), "refused");
    }
    must_fail(destination.must_take(&Item { key: None, ..good.clone() }), "refused");
    let nameless = DestinationConfig::F5 {
        partition: "Common".into(),
        profile_type: Some("client-ssl".into()),
        profile_name: None,
        create_profile_if_missing: None,
        parent_profile: None,
    };
    for config in [config("a/b", None, None), config("Common", Some("no-kind"), None), nameless] {
        must_fail(site.open_with(PASSWORD, &config).map(|_| ()), "refused");
    }
    let elsewhere = site.open_with(PASSWORD, &config("Missing", None, None)).unwrap();
    must_fail(elsewhere.create(&good).await, "refused");
    let Credentials::F5BasicAuth { port, username, password, .. } = site.credentials(PASSWORD) else { unreachable!() };
    for hostname in ["", "a/b", "user@host", "host:443", "host?x"] {
        let (username, password) = (username.clone(), password.clone());
        let hostname = hostname.to_owned();
        let credentials = Credentials::F5BasicAuth {
            hostname,
            port,
            username,
            password,
            ssl_reject_unauthorized: None,
            ssl_certificate: None,
        };
        must_fail(check(&http(), &credentials).await, "refused");
    }
}

#[tokio::test]
async fn a_long_chain_is_uploaded_in_ranges() {
    let (site, destination, item) = site_and_item().await;
    let key = TestKey::generate();
    let name = common_name("Long");
    let mut draft = Draft::authority(&name, key.spki(), &name, 1_700_000_000);
    // An extension of an enterprise that does not exist.
    draft.set(&[0x2b, 6, 1, 4, 1, 0x87, 0x67, 1], None, vec![0; 60_000]);
    let certificate = Certificate::from_der(draft.sign(&key)).unwrap();
    let long = Item { chain: vec![certificate; 8], ..item };
    assert!(chain_of(&long).len() > 512 * 1024);
    let created = destination.create(&long).await.unwrap();
    assert_eq!(destination.look(ID).await.unwrap().unwrap().fingerprint, created.fingerprint);
    assert!(site.server.uploads().is_empty());
}
