//! AWS Certificate Manager.

use crate::delivery::{Authority, Kind, access_key, believed, open, region};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::{DestinationKind, SyncOptions};
use outbound::DeliveryError;
use outbound::destination::acm::Acm;
use outbound::destination::{Changed, Destination, Item};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::moto::Moto;
use testkit::stand_ins::aws::acm::StoredCertificate;
use testkit::stand_ins::aws::{AwsStandIn, Fault};

fn acm(credentials: &Credentials) -> Acm {
    let kind = DestinationKind::AwsCertificateManager;
    open(kind, credentials, &region(None), &SyncOptions::default_of(kind), Acm::open).expect("the opening is sound")
}

/// What somebody else put there, looking like an item in everything but the mark.
fn look_alike(item: &Item, tags: &[(&str, &str)]) -> StoredCertificate {
    StoredCertificate {
        certificate: item.leaf.to_pem(),
        chain: item.chain[0].to_pem(),
        key: item.key.as_ref().expect("items have keys").expose().to_owned(),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

#[tokio::test]
async fn a_certificate_is_created_looked_at_replaced_and_removed() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    assert!(destination.find(&item).await.unwrap().is_empty());

    let created = destination.create(&item).await.unwrap();
    assert_eq!(Some(&created.fingerprint), destination.expected(&item).as_ref());
    let stored = &aws.certificates()[&created.id];
    assert_eq!(stored.tags["InfisicalCertificate"], "infisical-one");
    assert_eq!(stored.tags["chancery-object"], item.mark.to_string());
    assert_eq!(x509::Certificate::from_pem(&stored.certificate).unwrap(), item.leaf);
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), created);
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));

    let next = authority.successor(&item);
    let replaced = destination.replace(&created, &next).await.unwrap();
    assert_eq!((&replaced.id, replaced.mark), (&created.id, Some(item.mark)));
    assert_ne!(replaced.fingerprint, created.fingerprint);
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), replaced);
    assert_eq!(aws.certificates().len(), 1);

    destination.remove(&replaced).await.unwrap();
    destination.remove(&replaced).await.unwrap();
    assert!(aws.certificates().is_empty());
    assert_eq!(destination.look(&created.id).await.unwrap(), None);
    assert!(destination.find(&item).await.unwrap().is_empty());
    destination.finish(&Changed::default()).await.unwrap();
}

#[tokio::test]
async fn every_kind_of_key_that_is_taken_is_found_again_and_others_are_refused_before() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    for kind in [Kind::P256, Kind::P384, Kind::P521, Kind::Rsa2048, Kind::Rsa4096] {
        let item = authority.item("key", kind);
        acm(&believed(&aws)).must_take(&item).unwrap();
        let created = acm(&believed(&aws)).create(&item).await.unwrap();
        // A run of its own: only the list tells what is there.
        assert_eq!(acm(&believed(&aws)).find(&item).await.unwrap(), [created], "{kind:?}");
    }
    let item = authority.item("key", Kind::Ed25519);
    let error = acm(&believed(&aws)).must_take(&item).unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("P-521")), "{error}");
}

#[tokio::test]
async fn what_can_never_be_there_is_refused_before_anything_is_sent() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let good = authority.item("good", Kind::P256);
    for (what, item) in [
        ("without its private key", Item { key: None, ..good.clone() }),
        ("cannot be a tag", Item { name: String::new(), ..good.clone() }),
        ("cannot be a tag", Item { name: "a*b".into(), ..good.clone() }),
        ("cannot be a tag", Item { name: "n".repeat(257), ..good.clone() }),
        ("private key of at most", Item { key: Some(SecretText::new("k".repeat(5_121))), ..good.clone() }),
    ] {
        let error = destination.must_take(&item).unwrap_err();
        assert!(matches!(&error, DeliveryError::Refused(text) if text.contains(what)), "{error}");
    }
    for id in ["", "x", "arn:aws:s3:::bucket", "arn:aws:acm:eu-central-1:1:certificate/../x"] {
        assert!(matches!(destination.look(id).await, Err(DeliveryError::Refused(_))), "{id}");
    }
    assert_eq!(aws.count("GetCertificate"), 0);
}

#[tokio::test]
async fn look_alikes_are_never_found_and_never_touched() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    aws.with_certificates(|store| store.page_by(7));
    let item = authority.item("infisical-one", Kind::P256);
    let other_mark = uuid::Uuid::new_v4().to_string();
    aws.with_certificates(|store| {
        for number in 0..40 {
            let tags = match number % 4 {
                0 => vec![],
                1 => vec![("InfisicalCertificate", "infisical-one")],
                2 => vec![("InfisicalCertificate", "infisical-one"), ("chancery-object", &*other_mark)],
                _ => vec![("chancery-object", "infisical-one")],
            };
            store.seed(look_alike(&item, &tags));
        }
    });
    let before = aws.certificates();
    let destination = acm(&believed(&aws));
    assert!(destination.find(&item).await.unwrap().is_empty());
    let created = destination.create(&item).await.unwrap();
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));
    let replaced = destination.replace(&created, &authority.successor(&item)).await.unwrap();
    destination.remove(&replaced).await.unwrap();
    assert_eq!(aws.certificates(), before);
}

#[tokio::test]
async fn tags_are_asked_for_once_in_a_run_however_many_certificates_there_are() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    aws.with_certificates(|store| store.page_by(10));
    let item = authority.item("stranger", Kind::P256);
    aws.with_certificates(|store| (0..35).for_each(|_| _ = store.seed(look_alike(&item, &[]))));
    let destination = acm(&believed(&aws));
    for name in ["one", "two", "three"] {
        let item = authority.item(name, Kind::P256);
        assert!(destination.find(&item).await.unwrap().is_empty());
        let created = destination.create(&item).await.unwrap();
        assert_eq!(destination.find(&item).await.unwrap(), [created]);
    }
    assert_eq!((aws.count("ListCertificates"), aws.count("ListTagsForCertificate")), (4, 35));
}

#[tokio::test]
async fn a_certificate_whose_creation_was_answered_by_a_failure_is_adopted_by_its_mark() {
    for fault in [Fault::FailsAfter, Fault::FallsSilentAfter] {
        let (aws, authority) = (AwsStandIn::start().await, Authority::new());
        let destination = acm(&believed(&aws)).giving_up_after(Duration::from_secs(2));
        let item = authority.item("infisical-one", Kind::P256);
        let stranger = aws.with_certificates(|store| store.seed(look_alike(&item, &[])));
        assert!(destination.find(&item).await.unwrap().is_empty());
        aws.fail("ImportCertificate", fault, 1);
        let error = destination.create(&item).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unknown(_)), "{error}");
        for destination in [destination, acm(&believed(&aws))] {
            let found = destination.find(&item).await.unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].mark, found[0].id == stranger), (Some(item.mark), false));
            assert_eq!(Some(&found[0].fingerprint), destination.expected(&item).as_ref());
        }
    }
}

#[tokio::test]
async fn a_replacement_whose_answer_was_lost_shows_what_is_there_now() {
    for fault in [Fault::FailsAfter, Fault::FallsSilentAfter] {
        let (aws, authority) = (AwsStandIn::start().await, Authority::new());
        let destination = acm(&believed(&aws)).giving_up_after(Duration::from_secs(2));
        let item = authority.item("infisical-one", Kind::P256);
        let created = destination.create(&item).await.unwrap();
        let next = authority.successor(&item);
        aws.fail("ImportCertificate", fault, 1);
        let error = destination.replace(&created, &next).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unknown(_)), "{error}");
        let there = destination.look(&created.id).await.unwrap().unwrap();
        assert_eq!(Some(there.fingerprint), destination.expected(&next));
        aws.fail("DeleteCertificate", fault, 1);
        assert!(matches!(destination.remove(&created).await, Err(DeliveryError::Unknown(_))));
        destination.remove(&created).await.unwrap();
        assert!(aws.certificates().is_empty());
    }
}

#[tokio::test]
async fn a_lie_about_absence_removes_and_doubles_nothing_that_bears_the_mark() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    let created = destination.create(&item).await.unwrap();
    aws.fail("GetCertificate", Fault::DeniesExistence, 1);
    assert_eq!(destination.look(&created.id).await.unwrap(), None);
    assert_eq!(destination.find(&item).await.unwrap(), std::slice::from_ref(&created));
    aws.fail("ImportCertificate", Fault::DeniesExistence, 1);
    let error = destination.replace(&created, &authority.successor(&item)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Unavailable(text) if text.contains("removed meanwhile")), "{error}");
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), created);
}

#[tokio::test]
async fn anything_but_a_plain_answer_is_not_absence() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    let created = destination.create(&item).await.unwrap();
    aws.fail("GetCertificate", Fault::FailsAfter, 1);
    assert!(matches!(destination.look(&created.id).await, Err(DeliveryError::Unavailable(_))));
    aws.fail("GetCertificate", Fault::Refuses(400, "AccessDeniedException"), 1);
    assert!(destination.look(&created.id).await.unwrap_err().is_of_connection());
    aws.fail("GetCertificate", Fault::Refuses(400, "RequestInProgressException"), 1);
    assert!(matches!(destination.look(&created.id).await, Err(DeliveryError::Unavailable(_))));
    for operation in ["ListCertificates", "ListTagsForCertificate"] {
        let destination = acm(&believed(&aws));
        aws.fail(operation, Fault::FailsAfter, 1);
        assert!(matches!(destination.find(&item).await, Err(DeliveryError::Unavailable(_))), "{operation}");
        assert_eq!(destination.find(&item).await.unwrap().len(), 1, "{operation}");
    }
}

#[tokio::test]
async fn throttling_is_waited_out_and_then_given_up() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    aws.fail("ImportCertificate", Fault::Refuses(400, "ThrottlingException"), 1);
    aws.fail("GetCertificate", Fault::Refuses(429, "TooManyRequestsException"), 1);
    let created = destination.create(&item).await.unwrap();
    assert!(destination.look(&created.id).await.unwrap().is_some());
    assert_eq!((aws.count("ImportCertificate"), aws.certificates().len()), (2, 1));
    aws.fail("DeleteCertificate", Fault::Refuses(400, "ThrottlingException"), 4);
    let error = destination.remove(&created).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Unavailable(text) if text.contains("ThrottlingException")), "{error}");
    assert_eq!(aws.count("DeleteCertificate"), 4);
}

#[tokio::test]
async fn tags_that_an_import_cleared_are_sent_again_with_the_new_name() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    aws.with_certificates(|store| store.forget_tags_on_import());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    let created = destination.create(&item).await.unwrap();
    let next = Item { name: "infisical-two".into(), ..authority.successor(&item) };
    aws.fail("AddTagsToCertificate", Fault::Refuses(500, "InternalFailure"), 1);
    destination.replace(&created, &next).await.unwrap();
    let expected = BTreeMap::from([
        ("InfisicalCertificate".to_owned(), "infisical-two".to_owned()),
        ("chancery-object".to_owned(), item.mark.to_string()),
    ]);
    assert_eq!(aws.certificates()[&created.id].tags, expected);
    assert_eq!(acm(&believed(&aws)).find(&next).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_certificate_in_use_stays_and_says_so() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let created = destination.create(&authority.item("infisical-one", Kind::P256)).await.unwrap();
    aws.with_certificates(|store| store.use_certificate(&created.id));
    let error = destination.remove(&created).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("in use")), "{error}");
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), created);
}

#[tokio::test]
async fn a_key_that_does_not_match_and_another_kind_of_key_are_refused_in_the_words_of_aws() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    let wrong = Item { key: authority.item("other", Kind::P256).key, ..item.clone() };
    let error = destination.create(&wrong).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("do not match")), "{error}");
    let created = destination.create(&item).await.unwrap();
    let error = destination.replace(&created, &authority.item("infisical-one", Kind::P384)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("type and size")), "{error}");
    assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), created);
}

#[tokio::test]
async fn a_drift_is_seen_part_by_part() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    let created = destination.create(&item).await.unwrap();
    aws.with_certificates(|store| store.change(&created.id, |stored| stored.chain = String::new()));
    let there = destination.look(&created.id).await.unwrap().unwrap();
    assert_ne!(there.fingerprint, created.fingerprint);
    let after = destination.expected(&authority.successor(&item));
    assert!(!there.fingerprint.is_between(Some(&created.fingerprint), after.as_ref()));
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_never_missing() {
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    aws.with_certificates(|store| store.forget_tags_on_import());
    let destination = acm(&believed(&aws));
    let item = authority.item("infisical-one", Kind::P256);
    let mut found = destination.create(&item).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let poller = tokio::spawn({
        let (watcher, arn, is_over) = (acm(&believed(&aws)), found.id.clone(), Arc::clone(&is_over));
        async move {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.push(watcher.look(&arn).await.unwrap().expect("it is never missing").fingerprint);
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
    let (aws, authority) = (AwsStandIn::start().await, Authority::new());
    let (id, secret) = aws.access_key();
    let item = authority.item("infisical-one", Kind::P256);
    for (credentials, code) in [
        (access_key(&id, "another secret", aws.url()), "InvalidSignatureException"),
        (access_key("AKIAUNKNOWN", &secret, aws.url()), "UnrecognizedClientException"),
    ] {
        let destination = acm(&credentials);
        for error in [destination.create(&item).await.unwrap_err(), destination.find(&item).await.unwrap_err()] {
            assert!(error.is_of_connection() && error.to_string().contains(code), "{error}");
        }
    }
    assert!(aws.certificates().is_empty());
    assert_eq!(aws.count("ImportCertificate"), 0);
}

#[tokio::test]
async fn moto_takes_replaces_and_removes_a_certificate_that_keeps_its_tags() {
    let (moto, authority) = (Moto::start(), Authority::new());
    let credentials = access_key("test", "test", &moto.url());
    let destination = acm(&credentials);
    for kind in [Kind::P256, Kind::Rsa2048] {
        let item = authority.item("infisical-one", kind);
        assert!(destination.find(&item).await.unwrap().is_empty());
        let created = destination.create(&item).await.unwrap();
        assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), created);
        let next = authority.successor(&item);
        let replaced = destination.replace(&created, &next).await.unwrap();
        assert_eq!(replaced.id, created.id);
        assert_eq!(destination.look(&created.id).await.unwrap().unwrap(), replaced);
        assert_eq!(acm(&credentials).find(&next).await.unwrap(), std::slice::from_ref(&replaced));
        destination.remove(&replaced).await.unwrap();
        destination.remove(&replaced).await.unwrap();
        assert_eq!(destination.look(&created.id).await.unwrap(), None);
    }
}
