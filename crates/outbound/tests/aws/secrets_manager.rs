//! AWS Secrets Manager.

use crate::delivery::{Authority, Kind, access_key, believed, open, region};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::{DestinationKind, FieldMappings, SyncOptions};
use outbound::DeliveryError;
use outbound::destination::secrets_manager::SecretsManager;
use outbound::destination::{Destination, Found, Item};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::moto::Moto;
use testkit::stand_ins::aws::secrets_manager::StoredSecret;
use testkit::stand_ins::aws::{AwsStandIn, Fault};

const KIND: DestinationKind = DestinationKind::AwsSecretsManager;

fn secrets(credentials: &Credentials) -> SecretsManager {
    secrets_with(credentials, None)
}

fn secrets_with(credentials: &Credentials, key_id: Option<&str>) -> SecretsManager {
    open(KIND, credentials, &region(key_id), &SyncOptions::default_of(KIND), SecretsManager::open)
        .expect("the opening is sound")
}

fn item() -> (Authority, Item) {
    let authority = Authority::new();
    let item = authority.item("infisical-one", Kind::P256);
    (authority, item)
}

fn members(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("the value is JSON")
}

#[tokio::test]
async fn a_secret_is_created_looked_at_replaced_and_removed() {
    let (aws, (authority, item)) = (AwsStandIn::start().await, item());
    let destination = secrets(&believed(&aws));
    destination.must_take(&item).unwrap();
    assert!(destination.find(&item).await.unwrap().is_empty());

    let created = destination.create(&item).await.unwrap();
    assert_eq!((&*created.id, created.mark), ("infisical-one", Some(item.mark)));
    assert_eq!(Some(&created.fingerprint), destination.expected(&item).as_ref());
    let stored = &aws.secrets()["infisical-one"];
    assert_eq!(stored.key.as_deref(), Some("alias/aws/secretsmanager"));
    assert_eq!(stored.tags["chancery-object"], item.mark.to_string());
    let value = members(stored.value().unwrap());
    assert_eq!(value["certificate"], item.leaf.to_pem());
    assert_eq!(value["private_key"], item.key.as_ref().unwrap().expose());
    assert_eq!(value["certificate_chain"], item.chain[0].to_pem());
    assert_eq!(value["ca_certificate"], item.root.as_ref().unwrap().to_pem());
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), created);
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));

    let next = authority.successor(&item);
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!((&replaced.id, replaced.mark), (&created.id, Some(item.mark)));
    assert_eq!(Some(&replaced.fingerprint), destination.expected(&next).as_ref());
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), replaced);
    let again = destination.replace(&replaced, &authority.successor(&item)).await.unwrap();
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), again);

    destination.remove(&again).await.unwrap();
    destination.remove(&again).await.unwrap();
    assert!(aws.secrets().is_empty());
    assert_eq!(destination.look(&created.id).await.unwrap(), None);
}

#[tokio::test]
async fn fields_have_the_names_of_the_sync_and_are_left_out_when_they_are_empty() {
    let (aws, (_, item)) = (AwsStandIn::start().await, item());
    let mut options = SyncOptions::default_of(KIND);
    let names = ["tls.crt", "tls.key", "chain", "ca.crt"].map(str::to_owned);
    let [certificate, private_key, certificate_chain, ca_certificate] = names;
    let fields = FieldMappings { certificate, private_key, certificate_chain, ca_certificate };
    options.field_mappings = Some(fields.clone());
    let destination = open(KIND, &believed(&aws), &region(Some("alias/pki")), &options, SecretsManager::open).unwrap();
    let item = Item { chain: vec![], root: None, ..item };
    destination.create(&item).await.unwrap();
    let stored = &aws.secrets()["infisical-one"];
    assert_eq!(stored.key.as_deref(), Some("alias/pki"));
    let value = members(stored.value().unwrap());
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["tls.crt", "tls.key"]);

    for fields in [
        FieldMappings { private_key: "chain".into(), ..fields.clone() },
        FieldMappings { ca_certificate: String::new(), ..fields },
    ] {
        options.field_mappings = Some(fields);
        let opened = open(KIND, &believed(&aws), &region(None), &options, SecretsManager::open);
        assert!(matches!(opened.err(), Some(DeliveryError::Refused(_))));
    }
}

#[tokio::test]
async fn what_can_never_be_there_is_refused_before_anything_is_sent() {
    let (aws, (_, good)) = (AwsStandIn::start().await, item());
    let destination = secrets(&believed(&aws));
    for (what, item) in [
        ("the private key", Item { key: None, ..good.clone() }),
        ("cannot be the name", Item { name: String::new(), ..good.clone() }),
        ("cannot be the name", Item { name: "a b".into(), ..good.clone() }),
        ("cannot be the name", Item { name: "n".repeat(513), ..good.clone() }),
        ("at most 65536", Item { key: Some(SecretText::new("k".repeat(65_536))), ..good.clone() }),
    ] {
        let error = destination.must_take(&item).unwrap_err();
        assert!(matches!(&error, DeliveryError::Refused(text) if text.contains(what)), "{error}");
    }
    let opened = open(
        KIND,
        &believed(&aws),
        &domain::sync::DestinationConfig::Aws { region: "evil.example/".into(), key_id: None },
        &SyncOptions::default_of(KIND),
        SecretsManager::open,
    );
    assert!(matches!(opened.err(), Some(DeliveryError::Refused(_))));
}

#[tokio::test]
async fn a_secret_of_that_name_that_is_not_ours_is_taken_and_stays() {
    let (aws, (_, item)) = (AwsStandIn::start().await, item());
    let mark = item.mark.to_string();
    let stranger = uuid::Uuid::new_v4();
    aws.with_secrets(|store| {
        store.seed("infisical-one", StoredSecret::of("theirs", &[("chancery-object", &stranger.to_string())]));
        // Others that a careless look would take for ours.
        store.seed("infisical-one-more", StoredSecret::of("theirs", &[("chancery-object", &format!("{mark}-2"))]));
        store.seed("another", StoredSecret::of("theirs", &[("owner", &mark)]));
    });
    let before = aws.secrets();
    let destination = secrets(&believed(&aws));
    let found = destination.find(&item).await.unwrap();
    assert_eq!(found.iter().map(|one| (&*one.id, one.mark)).collect::<Vec<_>>(), [("infisical-one", Some(stranger))]);
    let error = destination.create(&item).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Taken(text) if text.contains("infisical-one")), "{error}");
    // A lie about absence leads to the same.
    aws.fail("DescribeSecret", Fault::DeniesExistence, 1);
    assert_eq!(destination.look("infisical-one").await.unwrap(), None);
    assert!(matches!(destination.create(&item).await, Err(DeliveryError::Taken(_))));
    assert_eq!(aws.secrets(), before);
}

#[tokio::test]
async fn a_secret_that_bears_the_mark_under_an_older_name_is_found() {
    let (aws, (_, item)) = (AwsStandIn::start().await, item());
    aws.with_secrets(|store| store.page_by(2));
    let destination = secrets(&believed(&aws));
    destination.create(&item).await.unwrap();
    for number in 0..9 {
        let secret = StoredSecret::of("x", &[("other", &item.mark.to_string())]);
        aws.with_secrets(|store| store.seed(&format!("a-{number}"), secret));
    }
    let renamed = Item { name: "pki-one".into(), ..item.clone() };
    let found = destination.find(&renamed).await.unwrap();
    assert_eq!(found.iter().map(|one| (&*one.id, one.mark)).collect::<Vec<_>>(), [("infisical-one", Some(item.mark))]);
}

#[tokio::test]
async fn a_secret_whose_creation_was_answered_by_a_failure_is_adopted_by_its_mark() {
    for fault in [Fault::FailsAfter, Fault::FallsSilentAfter] {
        let (aws, (authority, item)) = (AwsStandIn::start().await, item());
        let destination = secrets(&believed(&aws)).giving_up_after(Duration::from_secs(2));
        aws.fail("CreateSecret", fault, 1);
        let error = destination.create(&item).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unknown(_)), "{error}");
        let found = destination.find(&item).await.unwrap();
        assert_eq!((found.len(), found[0].mark), (1, Some(item.mark)));
        assert_eq!(Some(&found[0].fingerprint), destination.expected(&item).as_ref());
        // The same request again is the same secret; another one of that name is not.
        let created = destination.create(&item).await.unwrap();
        assert_eq!(created, found[0]);
        let another = authority.item(&item.name, Kind::P256);
        assert!(matches!(destination.create(&another).await, Err(DeliveryError::Taken(_))));
        assert_eq!(aws.secrets().len(), 1);
    }
}

#[tokio::test]
async fn a_replacement_whose_answer_was_lost_shows_what_is_there_now() {
    for fault in [Fault::FailsAfter, Fault::FallsSilentAfter] {
        let (aws, (authority, item)) = (AwsStandIn::start().await, item());
        let destination = secrets(&believed(&aws)).giving_up_after(Duration::from_secs(2));
        let created = destination.create(&item).await.unwrap();
        let next = authority.successor(&item);
        aws.fail("UpdateSecret", fault, 1);
        let error = destination.replace(&created, &next).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unknown(_)), "{error}");
        let there = destination.look(&created.id).await.unwrap().unwrap();
        let after = destination.expected(&next);
        assert!(there.fingerprint.is_between(Some(&created.fingerprint), after.as_ref()));
        // From what is there now it goes on.
        let replaced = destination.replace(&there, &next).await.unwrap();
        assert_eq!(Some(&replaced.fingerprint), after.as_ref());
        assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), replaced);
        aws.fail("DeleteSecret", fault, 1);
        assert!(matches!(destination.remove(&replaced).await, Err(DeliveryError::Unknown(_))));
        destination.remove(&replaced).await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_that_somebody_changed_since_it_was_found_is_not_replaced() {
    let (aws, (authority, item)) = (AwsStandIn::start().await, item());
    let key = Some("alias/another");
    let destination = secrets(&believed(&aws));
    let created = destination.create(&item).await.unwrap();
    let theirs = uuid::Uuid::new_v4().to_string();
    aws.with_secrets(|store| store.change("infisical-one", |secret| secret.put(&theirs, "theirs")));
    for found in [created.clone(), Found { version: None, ..created }] {
        for destination in [&destination, &secrets_with(&believed(&aws), key)] {
            let error = destination.replace(&found, &authority.successor(&item)).await.unwrap_err();
            assert!(matches!(&error, DeliveryError::Unavailable(text) if text.contains("meanwhile")), "{error}");
            let stored = &aws.secrets()["infisical-one"];
            assert_eq!((stored.value(), stored.key.as_deref()), (Some("theirs"), Some("alias/aws/secretsmanager")));
        }
    }
}

#[tokio::test]
async fn a_secret_found_without_its_version_is_replaced_when_it_is_as_it_was() {
    let (aws, (authority, item)) = (AwsStandIn::start().await, item());
    let destination = secrets_with(&believed(&aws), Some("alias/pki"));
    let created = secrets(&believed(&aws)).create(&item).await.unwrap();
    let next = authority.successor(&item);
    let replaced = destination.replace(&Found { version: None, ..created }, &next).await.unwrap();
    assert_eq!(destination.look("infisical-one").await.unwrap().unwrap(), replaced);
    // The key is that of the sync now.
    assert_eq!(aws.secrets()["infisical-one"].key.as_deref(), Some("alias/pki"));
    aws.fail("UpdateSecret", Fault::DeniesExistence, 1);
    let error = destination.replace(&replaced, &authority.successor(&item)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Unavailable(text) if text.contains("removed meanwhile")), "{error}");
}

#[tokio::test]
async fn a_mark_that_somebody_took_off_is_put_on_again_by_a_replacement() {
    let (aws, (authority, item)) = (AwsStandIn::start().await, item());
    let destination = secrets(&believed(&aws));
    let created = destination.create(&item).await.unwrap();
    aws.with_secrets(|store| store.change("infisical-one", |secret| secret.tags.clear()));
    destination.replace(&created, &authority.successor(&item)).await.unwrap();
    assert_eq!(aws.secrets()["infisical-one"].tags["chancery-object"], item.mark.to_string());
}

#[tokio::test]
async fn a_secret_that_is_scheduled_for_deletion_is_a_clear_refusal_and_needs_no_removal() {
    let (aws, (authority, item)) = (AwsStandIn::start().await, item());
    let destination = secrets(&believed(&aws));
    let created = destination.create(&item).await.unwrap();
    aws.with_secrets(|store| store.change("infisical-one", |secret| secret.is_scheduled_for_deletion = true));
    for error in [
        destination.look("infisical-one").await.unwrap_err(),
        destination.find(&item).await.unwrap_err(),
        destination.create(&item).await.unwrap_err(),
        destination.replace(&created, &authority.successor(&item)).await.unwrap_err(),
    ] {
        assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("scheduled for deletion")), "{error}");
    }
    destination.remove(&created).await.unwrap();
    assert_eq!(aws.secrets().len(), 1);
}

#[tokio::test]
async fn a_secret_without_a_value_is_there_all_the_same() {
    let (aws, (_, item)) = (AwsStandIn::start().await, item());
    aws.with_secrets(|store| store.seed("infisical-one", StoredSecret::default()));
    let destination = secrets(&believed(&aws));
    let there = destination.look("infisical-one").await.unwrap().unwrap();
    assert_eq!((there.mark, there.version), (None, None));
    assert_ne!(Some(there.fingerprint), destination.expected(&item));
}

#[tokio::test]
async fn spaces_and_order_are_no_drift_and_anything_else_is() {
    let (aws, (_, item)) = (AwsStandIn::start().await, item());
    let destination = secrets(&believed(&aws));
    let created = destination.create(&item).await.unwrap();
    let value = members(aws.secrets()["infisical-one"].value().unwrap());
    let mut drifted = value.clone();
    drifted["note"] = "ours now".into();
    for (value, is_same) in [(value, true), (drifted, false)] {
        let (text, version) = (serde_json::to_string_pretty(&value).unwrap(), uuid::Uuid::new_v4().to_string());
        aws.with_secrets(|store| store.change("infisical-one", |secret| secret.put(&version, &text)));
        let there = destination.look("infisical-one").await.unwrap().unwrap();
        assert_eq!(there.fingerprint == created.fingerprint, is_same);
    }
}

#[tokio::test]
async fn trouble_of_each_kind_is_told_apart() {
    let (aws, (_, item)) = (AwsStandIn::start().await, item());
    let destination = secrets(&believed(&aws));
    aws.fail("CreateSecret", Fault::Refuses(400, "ThrottlingException"), 1);
    let created = destination.create(&item).await.unwrap();
    assert_eq!(aws.count("CreateSecret"), 2);
    for (operation, fault) in [("DescribeSecret", Fault::FailsAfter), ("GetSecretValue", Fault::FailsAfter)] {
        aws.fail(operation, fault, 1);
        assert!(matches!(destination.look("infisical-one").await, Err(DeliveryError::Unavailable(_))), "{operation}");
    }
    aws.fail("DescribeSecret", Fault::Refuses(400, "AccessDeniedException"), 1);
    assert!(destination.look("infisical-one").await.unwrap_err().is_of_connection());
    aws.fail("UpdateSecret", Fault::Refuses(400, "EncryptionFailure"), 1);
    let error = destination.replace(&created, &item).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("EncryptionFailure")), "{error}");
    assert_eq!(destination.look("infisical-one").await.unwrap().unwrap(), created);
}

#[tokio::test]
async fn a_secret_that_is_replaced_is_never_missing() {
    let (aws, (authority, item)) = (AwsStandIn::start().await, item());
    let destination = secrets(&believed(&aws));
    let mut found = destination.create(&item).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let poller = tokio::spawn({
        let (watcher, is_over) = (secrets(&believed(&aws)), Arc::clone(&is_over));
        async move {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.push(watcher.look("infisical-one").await.unwrap().expect("it is never missing").fingerprint);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            seen
        }
    });
    let mut fingerprints = vec![found.fingerprint.clone()];
    for _ in 0..20 {
        found = destination.replace(&found, &authority.successor(&item)).await.unwrap();
        fingerprints.push(found.fingerprint.clone());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let seen = poller.await.unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|one| fingerprints.contains(one)));
}

#[tokio::test]
async fn credentials_that_are_not_believed_are_trouble_with_the_connection() {
    let (aws, (_, item)) = (AwsStandIn::start().await, item());
    let (id, secret) = aws.access_key();
    for (credentials, code) in [
        (access_key(&id, "another secret", aws.url()), "InvalidSignatureException"),
        (access_key("AKIAUNKNOWN", &secret, aws.url()), "UnrecognizedClientException"),
    ] {
        let destination = secrets(&credentials);
        for error in [destination.create(&item).await.unwrap_err(), destination.find(&item).await.unwrap_err()] {
            assert!(error.is_of_connection() && error.to_string().contains(code), "{error}");
        }
    }
    assert!(aws.secrets().is_empty());
}

#[tokio::test]
async fn moto_takes_replaces_and_removes_a_secret() {
    let (moto, (authority, item)) = (Moto::start(), item());
    let credentials = access_key("test", "test", &moto.url());
    let destination = secrets(&credentials);
    assert!(destination.find(&item).await.unwrap().is_empty());
    let created = destination.create(&item).await.unwrap();
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), created);
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));
    let another = authority.item(&item.name, Kind::P256);
    assert!(matches!(destination.create(&another).await, Err(DeliveryError::Taken(_))));
    let mut found = created.clone();
    for _ in 0..3 {
        let next = authority.successor(&item);
        found = destination.replace(&found, &next).await.unwrap();
        assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), found);
    }
    let error = destination.replace(&created, &authority.successor(&item)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Unavailable(text) if text.contains("meanwhile")), "{error}");
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), found);
    destination.remove(&found).await.unwrap();
    destination.remove(&found).await.unwrap();
    assert_eq!(destination.look(&created.id).await.unwrap(), None);
    destination.create(&item).await.unwrap();
}
