//! What the tests of destinations share. Each of them uses a part of it.
#![allow(dead_code, reason = "each test uses a part of this")]

use domain::CertificateId;
use domain::secret::SecretText;
use outbound::DeliveryError;
use outbound::destination::Item;
use outbound::egress::EgressRules;
use outbound::http::Http;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::stand_ins::Material;
use uuid::Uuid;
use x509::{Certificate, pem};

/// How often a poller looks.
const POLL_PAUSE: Duration = Duration::from_millis(5);

/// A client that may go to this host.
pub fn http() -> Http {
    Http::new(EgressRules::public_and(vec!["127.0.0.0/8".parse().unwrap()])).unwrap()
}

/// A client that may go to public addresses only.
pub fn public_http() -> Http {
    Http::new(EgressRules::public_and(vec![])).unwrap()
}

/// What is delivered, under a name.
pub fn item(material: &Material, name: &str) -> Item {
    let leaf = Certificate::from_der(material.leaf.clone()).unwrap();
    Item {
        certificate: CertificateId(Uuid::new_v4()),
        mark: Uuid::new_v4(),
        name: name.to_owned(),
        serial_number: "4001".into(),
        common_name: leaf.subject().render(),
        leaf,
        // Two, so that what joins texts is put to the test; destinations are not to mind that one is a root.
        chain: [&material.issuing, &material.root].map(|der| Certificate::from_der(der.clone()).unwrap()).into(),
        root: Some(Certificate::from_der(material.root.clone()).unwrap()),
        key: Some(SecretText::new(material.key.clone())),
    }
}

/// The successor of an item, in its place: the same name and mark.
pub fn successor(item: &Item, material: &Material) -> Item {
    Item { name: item.name.clone(), mark: item.mark, ..self::item(material, "x") }
}

/// The name of an error's kind, for assertions.
pub fn kind(error: &DeliveryError) -> &'static str {
    match error {
        DeliveryError::Connection(_) => "connection",
        DeliveryError::Refused(_) => "refused",
        DeliveryError::Taken(_) => "taken",
        DeliveryError::Unavailable(_) => "unavailable",
        DeliveryError::Unknown(_) => "unknown",
    }
}

/// Asserts that something failed in this way.
pub fn must_fail<T>(result: Result<T, DeliveryError>, expected: &str) -> String {
    let Err(error) = result else { panic!("it succeeded, and had to be {expected}") };
    assert_eq!(kind(&error), expected, "{error}");
    assert!(!error.to_string().contains("PRIVATE KEY"), "{error}");
    error.to_string()
}

/// Carries a change out while a poller looks every 5 ms. The poller has looked before, and looks until it is over.
pub async fn never_without<T>(is_good: impl Fn() -> bool + Send + 'static, change: impl Future<Output = T>) -> T {
    let (over, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let poller = {
        let (over, looks) = (Arc::clone(&over), Arc::clone(&looks));
        std::thread::spawn(move || {
            let mut gaps = 0;
            while !over.load(Ordering::SeqCst) {
                gaps += usize::from(!is_good());
                looks.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(POLL_PAUSE);
            }
            gaps
        })
    };
    while looks.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(POLL_PAUSE).await;
    }
    let result = change.await;
    over.store(true, Ordering::SeqCst);
    assert_eq!(poller.join().unwrap(), 0, "the object was missing or broken in between");
    result
}

/// A certificate as it is delivered.
pub fn pem_of(certificate: &Certificate) -> String {
    certificate.to_pem() + "\n"
}

/// The key of an item as it is delivered.
pub fn key_of(item: &Item) -> String {
    item.key.as_ref().unwrap().expose().to_owned() + "\n"
}

/// A root in PEM.
pub fn root_of(material: &Material) -> String {
    pem::encode("CERTIFICATE", &material.root)
}
