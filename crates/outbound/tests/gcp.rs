//! Google's Certificate Manager, against the stand-in that holds the vendor's rules.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod cloud_items;

use cloud_items::{Witness, http, item, renewed};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::{CertificateMapBinding, Label, SyncCredentials};
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::DeliveryError;
use outbound::connection::gcp::{self, ServerIdentity};
use outbound::destination::gcp::CertificateManager;
use outbound::destination::{Changed, Destination, Opening};
use outbound::http::Request;
use reqwest::Method;
use std::sync::Arc;
use tempfile::TempDir;
use testkit::stand_ins::cloud::{Fault, Issued, KeyKind, TestAuthority};
use testkit::stand_ins::gcp::{ACCOUNT_EMAIL, Gcp, MAP, PROJECT, SERVER_EMAIL};
use uuid::Uuid;

const NAME: &str = "infisical-4f2a";

struct World {
    stand_in: Arc<Gcp>,
    authority: TestAuthority,
    directory: TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { stand_in: Gcp::start().await, authority: TestAuthority::new(), directory }
    }

    fn credentials(&self) -> Credentials {
        Credentials::GcpImpersonation {
            service_account_email: ACCOUNT_EMAIL.into(),
            endpoint_url: Some(format!("{}/", self.stand_in.base_url)),
            token_url: Some(self.stand_in.token_url()),
        }
    }

    fn identity(&self, key_file: &str) -> ServerIdentity {
        let path = self.directory.path().join(Uuid::new_v4().to_string());
        std::fs::write(&path, key_file).unwrap();
        ServerIdentity::of_key_file(path)
    }

    fn open(&self) -> CertificateManager {
        self.open_with(&config(None), &options())
    }

    fn open_with(&self, config: &DestinationConfig, options: &SyncOptions) -> CertificateManager {
        open_as(&self.credentials(), config, options, self.identity(&self.stand_in.key_file())).unwrap()
    }

    fn issue(&self) -> Issued {
        self.authority.issue("a.example.com", KeyKind::P256, 90)
    }
}

fn config(binding: Option<&str>) -> DestinationConfig {
    DestinationConfig::Gcp {
        gcp_project_id: PROJECT.into(),
        location: "global".into(),
        scope: Some("default".into()),
        certificate_map_binding: binding.map(|hostname| CertificateMapBinding {
            certificate_map: MAP.into(),
            hostname: (!hostname.is_empty()).then(|| hostname.into()),
        }),
    }
}

fn options() -> SyncOptions {
    SyncOptions::default_of(DestinationKind::GcpCertificateManager)
}

fn open_as(
    credentials: &Credentials,
    config: &DestinationConfig,
    options: &SyncOptions,
    identity: ServerIdentity,
) -> Result<CertificateManager, DeliveryError> {
    let opening = Opening {
        kind: DestinationKind::GcpCertificateManager,
        http: &http(),
        credentials: Some(credentials),
        config,
        options,
        secrets: &SyncCredentials::default(),
    };
    CertificateManager::open(&opening, identity)
}

fn full(name: &str) -> String {
    format!("projects/{PROJECT}/locations/global/certificates/{name}")
}

#[tokio::test]
async fn a_certificate_is_created_looked_at_replaced_and_removed() {
    let world = World::new().await;
    let labels = vec![Label { key: "team".into(), value: "edge".into() }];
    let google = world.open_with(&config(None), &SyncOptions { labels: Some(labels), ..options() });
    world.stand_in.set_polls(1);
    for (name, kind) in [("rsa", KeyKind::Rsa2048), ("p256", KeyKind::P256), ("p384", KeyKind::P384)] {
        let first = item(name, &world.authority.issue("a.example.com", kind, 90));
        assert_eq!(google.find(&first).await.unwrap(), []);
        let created = google.create(&first).await.unwrap();
        assert_eq!((created.id.clone(), created.mark), (full(name), Some(first.mark)));
        assert_eq!(Some(&created.fingerprint), google.expected(&first).as_ref());
        assert_eq!(google.look(&created.id).await.unwrap().as_ref(), Some(&created));
        assert_eq!(google.find(&first).await.unwrap(), std::slice::from_ref(&created));

        let second = renewed(&first, &world.authority.issue("a.example.com", kind, 90));
        let replaced = google.replace(&created, &second).await.unwrap();
        assert_eq!(Some(&replaced.fingerprint), google.expected(&second).as_ref());
        assert_eq!((&replaced.id, replaced.mark), (&created.id, Some(first.mark)));
        let labels = world.stand_in.certificates()[&created.id].labels.clone();
        assert_eq!(labels.len(), 4);
        assert_eq!(labels["team"], "edge");
        assert_eq!(labels["managed-by"], "chancery");
        assert_eq!(labels["infisical-certificate-id"], first.certificate.to_string());

        google.remove(&replaced).await.unwrap();
        google.remove(&replaced).await.unwrap();
        assert_eq!(google.look(&created.id).await.unwrap(), None);
    }
    assert_eq!(world.stand_in.tokens_given(), 2, "one of the server's account, one of the connection's");
    assert!(world.stand_in.certificates().is_empty());
}

#[tokio::test]
async fn an_identity_that_is_not_believed_is_an_error_of_the_connection() {
    let world = World::new().await;
    let good = world.identity(&world.stand_in.key_file());
    gcp::check(&http(), &world.credentials(), good.clone()).await.unwrap();
    let stranger = Credentials::GcpImpersonation {
        service_account_email: "other@stand-in-project.iam.gserviceaccount.com".into(),
        endpoint_url: Some(world.stand_in.base_url.clone()),
        token_url: Some(world.stand_in.token_url()),
    };
    // The audience of the JWT is where it is sent to, so what is signed for one endpoint is not taken by another.
    let elsewhere = Credentials::GcpImpersonation {
        service_account_email: ACCOUNT_EMAIL.into(),
        endpoint_url: Some(world.stand_in.base_url.clone()),
        token_url: Some(format!("{}?for=somebody-else", world.stand_in.token_url())),
    };
    let own = world.stand_in.key_file();
    for (credentials, identity, words) in [
        (world.credentials(), world.identity(&world.stand_in.foreign_key_file()), "InvalidSignature"),
        (world.credentials(), world.identity(&own.replace(SERVER_EMAIL, "nobody@example.com")), "InvalidIssuer"),
        (world.credentials(), world.identity("{\"type\":\"authorized_user\"}"), "not the key of a service account"),
        (world.credentials(), ServerIdentity::of_key_file("/nonexistent/key.json"), "GOOGLE_APPLICATION_CREDENTIALS"),
        (stranger, good.clone(), "serviceAccountTokenCreator"),
        (elsewhere, good, "InvalidAudience"),
    ] {
        let checked = gcp::check(&http(), &credentials, identity.clone()).await.unwrap_err();
        let google = open_as(&credentials, &config(None), &options(), identity).unwrap();
        let created = google.create(&item(NAME, &world.issue())).await.unwrap_err();
        for error in [checked, created] {
            assert!(error.is_of_connection() && error.to_string().contains(words), "{error:?}");
            assert!(!error.to_string().contains("BEGIN"), "{error:?}");
        }
    }
    assert!(world.stand_in.certificates().is_empty());
}

#[tokio::test]
async fn a_token_that_was_not_given_out_for_the_account_is_refused() {
    let world = World::new().await;
    for token in ["made-up", ""] {
        let url = format!("{}/v1/{}", world.stand_in.base_url, full(NAME));
        let request = Request::new(Method::GET, &url).unwrap().bearer(token).unwrap();
        let answer = http().send(request).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json()["error"]["status"].as_str()), (401, Some("UNAUTHENTICATED")));
    }
    // The server's own account may impersonate, and no more.
    let own = world.stand_in.token_of_server();
    let url = format!("{}/v1/{}", world.stand_in.base_url, full(NAME));
    let request = Request::new(Method::GET, &url).unwrap().bearer(&own).unwrap();
    assert_eq!(http().send(request).await.unwrap().status.as_u16(), 403);
}

#[tokio::test]
async fn a_server_without_an_identity_says_what_is_missing() {
    let world = World::new().await;
    let error = gcp::check(&http(), &world.credentials(), ServerIdentity::default()).await.unwrap_err();
    assert!(error.is_of_connection() && error.to_string().contains("no identity at Google"), "{error:?}");
}

#[tokio::test]
async fn a_token_of_google_never_goes_to_an_endpoint_that_is_not_googles() {
    let world = World::new().await;
    let identity = world.identity(&world.stand_in.key_file());
    let google = "https://oauth2.googleapis.com/token";
    for (endpoint_url, token_url, is_good) in [
        (None, None, true),
        (Some("https://us.rep.googleapis.com"), None, true),
        (Some("https://google.internal"), Some("https://tokens.internal"), true),
        (Some("https://google.internal"), None, false),
        (Some("https://google.internal"), Some(google), false),
    ] {
        let credentials = Credentials::GcpImpersonation {
            service_account_email: ACCOUNT_EMAIL.into(),
            endpoint_url: endpoint_url.map(str::to_owned),
            token_url: token_url.map(str::to_owned),
        };
        let opened = open_as(&credentials, &config(None), &options(), identity.clone());
        assert_eq!(opened.is_ok(), is_good, "{endpoint_url:?} {token_url:?}");
    }
}

#[tokio::test]
async fn what_google_cannot_take_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    let google = world.open();
    let good = item(NAME, &world.issue());
    google.must_take(&good).unwrap();
    let mut without_key = good.clone();
    without_key.key = None;
    for (item, words) in [
        (without_key, "no private key"),
        (item(NAME, &world.authority.issue("a.example.com", KeyKind::P521, 90)), "keys"),
        (item(NAME, &world.authority.issue("a.example.com", KeyKind::Ed25519, 90)), "keys"),
        (item("Upper", &world.issue()), "names"),
        (item("1st", &world.issue()), "names"),
        (item(&"a".repeat(64), &world.issue()), "names"),
    ] {
        for error in [google.must_take(&item).unwrap_err(), google.create(&item).await.unwrap_err()] {
            assert!(matches!(&error, DeliveryError::Refused(text) if text.contains(words)), "{error:?}");
        }
    }
    let mut mismatched = good.clone();
    mismatched.key = Some(SecretText::new(world.issue().key));
    let error = google.create(&mismatched).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("does not match")), "{error:?}");

    let labels = |count: usize| (0..count).map(|one| Label { key: format!("l{one}"), value: "v".into() }).collect();
    let many = world.open_with(&config(None), &SyncOptions { labels: Some(labels(63)), ..options() });
    assert!(matches!(many.must_take(&good), Err(DeliveryError::Refused(_))));
    let full = world.open_with(&config(None), &SyncOptions { labels: Some(labels(62)), ..options() });
    assert_eq!(full.create(&good).await.unwrap().mark, Some(good.mark));
}

#[tokio::test]
async fn a_binding_needs_the_global_location_and_the_default_scope() {
    let world = World::new().await;
    let identity = world.identity(&world.stand_in.key_file());
    let change = |place: &str, scope: Option<&str>, binding: Option<&str>| {
        let mut changed = config(binding);
        if let DestinationConfig::Gcp { location, scope: old, .. } = &mut changed {
            (*location, *old) = (place.into(), scope.map(str::to_owned));
        }
        open_as(&world.credentials(), &changed, &options(), identity.clone()).err()
    };
    assert_eq!(change("europe-west1", Some("all-regions"), None), None);
    assert_eq!(change("global", None, Some("")), None);
    for error in [
        change("europe-west1", None, Some("")),
        change("global", Some("edge-cache"), Some("")),
        change("global", Some("everywhere"), None),
        change("global/x", None, None),
    ] {
        assert!(matches!(error, Some(DeliveryError::Refused(_))), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_never_touched() {
    let world = World::new().await;
    let google = world.open();
    let ours = item(NAME, &world.issue());
    let text = ours.leaf.to_pem();
    let (managed, strange) = (("managed-by", "chancery"), Uuid::now_v7().to_string());
    world.stand_in.put(&full(NAME), &text, &[managed, ("chancery-object", &strange)]);
    for number in 0..50 {
        world.stand_in.put(&full(&format!("{NAME}-{number}")), &text, &[managed, ("chancery-object", "ours")]);
    }
    let before = world.stand_in.certificates();
    assert_ne!(google.find(&ours).await.unwrap()[0].mark, Some(ours.mark));
    for _ in 0..2 {
        assert!(matches!(google.create(&ours).await, Err(DeliveryError::Taken(_))));
        // The second time Google says first that it is not there.
        world.stand_in.faults.add("get", Fault::SaysAbsent);
    }
    assert_eq!(world.stand_in.certificates(), before);
}

#[tokio::test]
async fn a_certificate_that_was_changed_since_it_was_looked_at_is_not_replaced() {
    let world = World::new().await;
    let google = world.open();
    let first = item(NAME, &world.issue());
    let created = google.create(&first).await.unwrap();
    world.stand_in.put(&created.id, &world.issue().leaf.to_pem(), &[]);
    let before = world.stand_in.certificates();
    let error = google.replace(&created, &renewed(&first, &world.issue())).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Unavailable(_)), "{error:?}");
    assert_eq!(world.stand_in.certificates(), before);
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_found_by_its_mark() {
    let world = World::new().await;
    let google = world.open();
    for (name, operation, fault) in [
        ("failed", "create", Fault::ErrorAfterSuccess),
        ("silent", "create", Fault::SilenceAfterSuccess),
        ("unpolled", "poll", Fault::SilenceAfterSuccess),
        ("unseen", "get", Fault::SaysAbsent),
    ] {
        let item = item(name, &world.issue());
        world.stand_in.faults.add(operation, fault);
        let error = google.create(&item).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unknown(_)), "{name}: {error:?}");
        let found = google.find(&item).await.unwrap();
        assert_eq!(found[0].mark, Some(item.mark));
        assert_eq!(Some(&found[0].fingerprint), google.expected(&item).as_ref());
        // Asked again, it is content with what the first attempt made.
        assert_eq!(google.create(&item).await.unwrap(), found[0]);
    }
    assert!(world.stand_in.faults.are_used_up());
}

#[tokio::test]
async fn what_was_surely_not_done_is_told_apart_from_what_may_have_been() {
    let world = World::new().await;
    let google = world.open();
    let first = item(NAME, &world.issue());
    world.stand_in.faults.add("create", Fault::Conflict);
    assert!(matches!(google.create(&first).await, Err(DeliveryError::Unavailable(_))));
    assert!(world.stand_in.certificates().is_empty());

    world.stand_in.faults.add("create", Fault::TooManyRequests);
    let created = google.create(&first).await.unwrap();
    world.stand_in.faults.add("patch", Fault::Conflict);
    assert!(matches!(
        google.replace(&created, &renewed(&first, &world.issue())).await,
        Err(DeliveryError::Unavailable(_))
    ));
    assert_eq!(google.look(&created.id).await.unwrap(), Some(created.clone()));

    for fault in [Fault::ErrorAfterSuccess, Fault::SilenceAfterSuccess, Fault::Partial] {
        let (current, next) = (google.look(&created.id).await.unwrap().unwrap(), renewed(&first, &world.issue()));
        world.stand_in.faults.add("patch", fault);
        let error = google.replace(&current, &next).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unknown(_)), "{fault:?}: {error:?}");
        let after = google.look(&created.id).await.unwrap().unwrap();
        assert!(after.fingerprint.is_between(Some(&current.fingerprint), google.expected(&next).as_ref()));
        assert_eq!(after.mark, Some(first.mark));
        let replaced = google.replace(&after, &next).await.unwrap();
        assert_eq!(Some(&replaced.fingerprint), google.expected(&next).as_ref());
    }
    let current = google.look(&created.id).await.unwrap().unwrap();
    world.stand_in.faults.add("delete", Fault::Conflict);
    assert!(matches!(google.remove(&current).await, Err(DeliveryError::Unavailable(_))));
    world.stand_in.faults.add("delete", Fault::ErrorAfterSuccess);
    assert!(matches!(google.remove(&current).await, Err(DeliveryError::Unknown(_))));
    google.remove(&current).await.unwrap();
    assert!(world.stand_in.faults.are_used_up());
}

#[tokio::test]
async fn a_certificate_that_is_being_replaced_is_never_missing() {
    let world = World::new().await;
    let google = world.open();
    let first = item(NAME, &world.issue());
    let mut found = google.create(&first).await.unwrap();
    let (seen, name) = (world.stand_in.clone(), found.id.clone());
    let witness = Witness::of(move || seen.certificates().contains_key(&name));
    let mut replacements = 0;
    while replacements < 5 || witness.looks() < 20 {
        found = google.replace(&found, &renewed(&first, &world.issue())).await.unwrap();
        replacements += 1;
    }
    assert_eq!(witness.gaps().await, 0);
    assert!(world.stand_in.deletions().is_empty());
}

#[tokio::test]
async fn the_entry_of_the_map_follows_and_always_points_at_a_certificate() {
    for hostname in ["a.example.com", ""] {
        let world = World::new().await;
        let google = world.open_with(&config(Some(hostname)), &options());
        let first = item("first", &world.issue());
        let old = google.create(&first).await.unwrap();
        let changed = Changed { delivered: vec![(old.clone(), first.common_name.clone())], removed: vec![] };
        google.finish(&changed).await.unwrap();
        google.finish(&changed).await.unwrap();
        let entries = world.stand_in.entries();
        let (name, entry) = entries.first_key_value().unwrap();
        assert_eq!(entry.subject, if hostname.is_empty() { "PRIMARY" } else { hostname });
        assert_eq!(entry.certificates, std::slice::from_ref(&old.id));

        // The next run makes a new object and removes the old one, which Google refuses while the entry points at it.
        let google = world.open_with(&config(Some(hostname)), &options());
        let (seen, key) = (world.stand_in.clone(), name.clone());
        let witness = Witness::of(move || seen.entries().get(&key).is_some_and(|one| !one.certificates.is_empty()));
        let second = item("second", &world.issue());
        let new = google.create(&second).await.unwrap();
        world.stand_in.faults.add("entry-patch", Fault::Conflict);
        assert!(google.remove(&old).await.is_err());
        assert!(world.stand_in.certificates().contains_key(&old.id), "nothing is deleted while the entry is as it was");
        google.remove(&old).await.unwrap();
        let changed =
            Changed { delivered: vec![(new.clone(), second.common_name.clone())], removed: vec![old.id.clone()] };
        google.finish(&changed).await.unwrap();
        assert_eq!(witness.gaps().await, 0);
        assert_eq!(world.stand_in.entries()[name].certificates, std::slice::from_ref(&new.id));

        google.remove(&new).await.unwrap();
        assert!(world.stand_in.entries().is_empty());
        assert!(world.stand_in.certificates().is_empty());
    }
}

#[tokio::test]
async fn an_entry_of_somebody_else_and_a_full_one_stay_as_they_are() {
    let world = World::new().await;
    world.stand_in.put(&full("theirs"), &world.issue().leaf.to_pem(), &[]);
    world.stand_in.put_entry("theirs", "a.example.com", &[&full("theirs")]);
    let before = world.stand_in.entries();
    let google = world.open_with(&config(Some("a.example.com")), &options());
    let ours = item(NAME, &world.issue());
    let found = google.create(&ours).await.unwrap();
    let changed = Changed { delivered: vec![(found, ours.common_name.clone())], removed: vec![] };
    let error = google.finish(&changed).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(words) if words.contains("somebody else")), "{error:?}");
    assert_eq!(world.stand_in.entries(), before);

    let google = world.open_with(&config(Some("")), &options());
    let mut changed = Changed::default();
    for number in 0..5 {
        let item = item(&format!("many-{number}"), &world.issue());
        changed.delivered.push((google.create(&item).await.unwrap(), item.common_name.clone()));
    }
    let error = google.finish(&changed).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(words) if words.contains("at most")), "{error:?}");
    assert_eq!(world.stand_in.entries(), before);
}
