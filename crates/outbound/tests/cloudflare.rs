//! Custom certificates of Cloudflare, against the stand-in that holds the vendor's rules.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod cloud_items;

use cloud_items::{Witness, http, item, renewed};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::DeliveryError;
use outbound::connection::cloudflare;
use outbound::destination::cloudflare::CustomCertificates;
use outbound::destination::{Destination, Item, Opening};
use std::sync::Arc;
use std::time::Duration;
use testkit::stand_ins::cloud::{Fault, Issued, KeyKind, TestAuthority};
use testkit::stand_ins::cloudflare::{ACCOUNT, Cloudflare, Identifiers, TOKEN, ZONE};
use uuid::Uuid;

struct World {
    stand_in: Arc<Cloudflare>,
    zone: CustomCertificates,
    authority: TestAuthority,
}

impl World {
    async fn new(identifiers: Identifiers) -> Self {
        let stand_in = Cloudflare::start(identifiers).await;
        let zone = open(&credentials(&stand_in, ACCOUNT, TOKEN), ZONE).unwrap();
        Self { stand_in, zone, authority: TestAuthority::new() }
    }

    /// Each ends on another day, so no two of them look alike.
    fn issue(&self, days: i64) -> Issued {
        self.authority.issue("a.example.com", KeyKind::P256, days)
    }
}

/// An item whose mark is older than whatever is uploaded from now on: a mark knows its millisecond, not more.
async fn marked(name: &str, issued: &Issued) -> Item {
    let item = item(name, issued);
    tokio::time::sleep(Duration::from_millis(5)).await;
    item
}

fn credentials(stand_in: &Cloudflare, account: &str, token: &str) -> Credentials {
    Credentials::CloudflareApiToken {
        account_id: account.into(),
        api_token: SecretText::new(token),
        endpoint_url: Some(format!("{}/", stand_in.base_url)),
    }
}

fn open(credentials: &Credentials, zone_id: &str) -> Result<CustomCertificates, DeliveryError> {
    CustomCertificates::open(&Opening {
        kind: DestinationKind::CloudflareCustomCertificate,
        http: &http(),
        credentials: Some(credentials),
        config: &DestinationConfig::Cloudflare { zone_id: zone_id.into() },
        options: &SyncOptions::default_of(DestinationKind::CloudflareCustomCertificate),
        secrets: &SyncCredentials::default(),
    })
}

#[tokio::test]
async fn a_certificate_is_created_looked_at_replaced_and_removed() {
    for identifiers in [Identifiers::Stay, Identifiers::Change] {
        let world = World::new(identifiers).await;
        for (kind, days) in [(KeyKind::Rsa2048, 60), (KeyKind::P256, 61), (KeyKind::P384, 62)] {
            let first = item("first", &world.authority.issue("a.example.com", kind, days));
            assert_eq!(world.zone.find(&first).await.unwrap(), []);
            let created = world.zone.create(&first).await.unwrap();
            assert_eq!(created.mark, Some(first.mark));
            let looked = world.zone.look(&created.id).await.unwrap().unwrap();
            assert_eq!((&looked.id, &looked.fingerprint), (&created.id, &created.fingerprint));
            // What Cloudflare does by itself is not a change by somebody else.
            world.stand_in.touch_all();
            assert_eq!(world.zone.look(&created.id).await.unwrap(), Some(looked));

            let second = renewed(&first, &world.authority.issue("a.example.com", kind, days + 30));
            let replaced = world.zone.replace(&created, &second).await.unwrap();
            assert_eq!(replaced.id == created.id, identifiers == Identifiers::Stay);
            assert_ne!(replaced.fingerprint, created.fingerprint);
            let objects = world.stand_in.objects();
            let chain = [&second.leaf, &second.chain[0], second.root.as_ref().unwrap()];
            assert_eq!(objects[0].bundle, chain.map(|one| one.as_der().to_vec()));
            assert_eq!((objects.len(), objects[0].bundle_method.as_str()), (1, "force"));

            world.zone.remove(&replaced).await.unwrap();
            world.zone.remove(&replaced).await.unwrap();
            assert_eq!(world.zone.look(&replaced.id).await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn the_chain_of_a_certificate_of_a_public_authority_is_completed_by_cloudflare() {
    let world = World::new(Identifiers::Stay).await;
    let mut public = item("public", &world.issue(60));
    public.root = None;
    let error = world.zone.create(&public).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(words) if words.contains("2100")), "{error:?}");
    world.stand_in.trust(&public.chain[0]);
    world.zone.create(&public).await.unwrap();
    assert_eq!(world.stand_in.objects()[0].bundle_method, "ubiquitous");
}

#[tokio::test]
async fn a_token_that_is_not_believed_is_an_error_of_the_connection() {
    let world = World::new(Identifiers::Stay).await;
    cloudflare::check(&http(), &credentials(&world.stand_in, ACCOUNT, TOKEN)).await.unwrap();
    let wrong = credentials(&world.stand_in, ACCOUNT, "guessed");
    let other_account = credentials(&world.stand_in, "another", TOKEN);
    for credentials in [&wrong, &other_account] {
        let error = cloudflare::check(&http(), credentials).await.unwrap_err();
        assert!(error.is_of_connection() && error.to_string().contains("Invalid API Token"), "{error:?}");
    }
    let zone = open(&wrong, ZONE).unwrap();
    let error = zone.create(&item("first", &world.issue(60))).await.unwrap_err();
    assert!(error.is_of_connection() && !error.to_string().contains("guessed"), "{error:?}");
    assert!(world.stand_in.objects().is_empty());

    // A zone that is not there is not a certificate that is not there.
    let elsewhere = open(&credentials(&world.stand_in, ACCOUNT, TOKEN), "zone2").unwrap();
    assert!(elsewhere.look("0123456789abcdef").await.is_err());
    assert!(open(&wrong, "zone/../other").is_err());
}

#[tokio::test]
async fn what_cloudflare_cannot_take_is_refused_with_its_reason() {
    let world = World::new(Identifiers::Stay).await;
    let good = item("first", &world.issue(60));
    let mut without_key = good.clone();
    without_key.key = None;
    let ed25519 = item("first", &world.authority.issue("a.example.com", KeyKind::Ed25519, 60));
    for (item, words) in [(without_key, "no private key"), (ed25519, "keys")] {
        for error in [world.zone.must_take(&item).unwrap_err(), world.zone.create(&item).await.unwrap_err()] {
            assert!(matches!(&error, DeliveryError::Refused(text) if text.contains(words)), "{error:?}");
        }
    }
    assert_eq!(world.stand_in.lists(), 0, "nothing was sent");
    let mut mismatched = good.clone();
    mismatched.key = Some(SecretText::new(world.issue(60).key));
    let foreign = item("first", &world.authority.issue("a.example.org", KeyKind::P256, 60));
    for (item, words) in [(mismatched, "2200"), (foreign, "2103"), (item("first", &world.issue(10)), "1010")] {
        let error = world.zone.create(&item).await.unwrap_err();
        assert!(matches!(&error, DeliveryError::Refused(text) if text.contains(words)), "{error:?}");
    }
    world.stand_in.set_quota(0);
    let error = world.zone.create(&good).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("maximum number")), "{error:?}");
    assert!(world.stand_in.objects().is_empty());
}

#[tokio::test]
async fn a_certificate_that_somebody_else_uploaded_is_never_touched() {
    let world = World::new(Identifiers::Stay).await;
    let issued = world.issue(60);
    world.stand_in.put(&issued.leaf);
    let ours = item("first", &issued);
    for days in 100..220 {
        world.stand_in.put(&world.issue(days).leaf);
    }
    let before = world.stand_in.objects();
    assert_eq!(world.zone.find(&ours).await.unwrap(), []);
    assert_eq!(world.stand_in.lists(), 3, "121 certificates are three pages");
    let error = world.zone.create(&ours).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Taken(words) if words.contains("somebody else")), "{error:?}");
    assert_eq!(world.stand_in.objects(), before);

    // Nor when our own request fails without having been done, and a look-alike is there.
    let alike = item("alike", &world.issue(60));
    world.stand_in.faults.add("create", Fault::Conflict);
    assert!(matches!(world.zone.create(&alike).await, Err(DeliveryError::Unavailable(_))));
    assert_eq!(world.zone.find(&alike).await.unwrap(), []);
    assert_eq!(world.stand_in.objects(), before);
}

#[tokio::test]
async fn only_what_was_uploaded_after_the_mark_was_made_and_is_alone_is_claimed() {
    let world = World::new(Identifiers::Stay).await;
    let issued = world.issue(60);
    let ends = issued.leaf.contents().not_after();
    let twin = || world.authority.issue_ending("a.example.com", KeyKind::P256, ends).leaf;
    world.stand_in.put(&twin());
    let earlier = marked("first", &issued).await;
    world.zone.create(&earlier).await.unwrap();
    // A run that broke off comes again with its mark.
    assert_eq!(world.zone.find(&earlier).await.unwrap()[0].mark, Some(earlier.mark));
    // Another item has a mark of its own, which is newer than the object; an old kind of mark has no time.
    let mut later = earlier.clone();
    later.mark = Uuid::now_v7();
    let mut random = earlier.clone();
    random.mark = Uuid::new_v4();
    for other in [later, random] {
        assert_eq!(world.zone.find(&other).await.unwrap(), []);
        assert!(matches!(world.zone.create(&other).await, Err(DeliveryError::Taken(_))));
    }
    // Two that look alike and came later: neither is surely the one.
    world.stand_in.put(&twin());
    assert_eq!(world.zone.find(&earlier).await.unwrap(), []);
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_seen_to_have_been_made() {
    let world = World::new(Identifiers::Stay).await;
    for (days, fault) in [(60, Fault::ErrorAfterSuccess), (61, Fault::SilenceAfterSuccess)] {
        let ours = marked("first", &world.issue(days)).await;
        world.stand_in.faults.add("create", fault);
        let created = world.zone.create(&ours).await.unwrap();
        let found = world.zone.find(&ours).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&created));
        assert_eq!(world.zone.create(&ours).await.unwrap(), created);
    }
    // A list that is refused is not an empty list.
    let ours = item("second", &world.issue(62));
    world.stand_in.faults.add("list", Fault::SaysAbsent);
    assert!(matches!(world.zone.create(&ours).await, Err(DeliveryError::Unavailable(_))));
    world.stand_in.faults.add("list", Fault::TooManyRequests);
    assert_eq!(world.zone.create(&ours).await.unwrap().mark, Some(ours.mark));
    assert_eq!(world.stand_in.objects().len(), 3);
}

#[tokio::test]
async fn a_replacement_whose_answer_was_lost_is_seen_to_have_been_made() {
    for identifiers in [Identifiers::Stay, Identifiers::Change] {
        let world = World::new(identifiers).await;
        let first = item("first", &world.issue(60));
        let mut current = world.zone.create(&first).await.unwrap();
        for (days, fault) in [(61, Fault::ErrorAfterSuccess), (62, Fault::SilenceAfterSuccess)] {
            let next = renewed(&first, &world.issue(days));
            world.stand_in.faults.add("patch", fault);
            let replaced = world.zone.replace(&current, &next).await.unwrap();
            assert_eq!(world.stand_in.objects()[0].bundle[0], next.leaf.as_der());
            let looked = world.zone.look(&replaced.id).await.unwrap().unwrap();
            assert_eq!(looked.fingerprint, replaced.fingerprint);
            // Again: it is there already.
            let again = world.zone.replace(&replaced, &next).await.unwrap();
            current = again;
        }
        let next = renewed(&first, &world.issue(63));
        world.stand_in.faults.add("patch", Fault::Conflict);
        assert!(matches!(world.zone.replace(&current, &next).await, Err(DeliveryError::Unavailable(_))));
        let before = world.stand_in.objects();
        let mut stale = current.clone();
        stale.fingerprint = world.zone.create(&item("other", &world.issue(64))).await.unwrap().fingerprint;
        assert!(matches!(world.zone.replace(&stale, &next).await, Err(DeliveryError::Unavailable(_))));
        assert_eq!(world.stand_in.objects()[..1], before);
    }
}

#[tokio::test]
async fn one_word_of_absence_is_not_believed() {
    let world = World::new(Identifiers::Stay).await;
    let created = world.zone.create(&item("first", &world.issue(60))).await.unwrap();
    world.stand_in.faults.add("get", Fault::SaysAbsent);
    assert_eq!(world.zone.look(&created.id).await.unwrap().map(|found| found.id), Some(created.id.clone()));
    world.stand_in.faults.add("delete", Fault::SaysAbsent);
    assert!(matches!(world.zone.remove(&created).await, Err(DeliveryError::Unavailable(_))));
    world.stand_in.faults.add("delete", Fault::TooManyRequests);
    world.stand_in.faults.add("delete", Fault::ErrorAfterSuccess);
    assert!(matches!(world.zone.remove(&created).await, Err(DeliveryError::Unknown(_))));
    world.zone.remove(&created).await.unwrap();
    assert!(world.stand_in.faults.are_used_up());
}

#[tokio::test]
async fn a_certificate_that_is_being_replaced_is_never_missing() {
    let world = World::new(Identifiers::Change).await;
    let first = item("first", &world.issue(60));
    let mut found = world.zone.create(&first).await.unwrap();
    let seen = world.stand_in.clone();
    let witness = Witness::of(move || seen.objects().len() == 1);
    let mut replacements = 0;
    while replacements < 20 || witness.looks() < 20 {
        replacements += 1;
        found = world.zone.replace(&found, &renewed(&first, &world.issue(60 + replacements))).await.unwrap();
    }
    assert_eq!(witness.gaps().await, 0);
    assert_eq!(world.stand_in.deletions(), 0);
}
