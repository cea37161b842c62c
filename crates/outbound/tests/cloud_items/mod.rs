//! What the tests of the cloud destinations share: a client, items, and a witness that looks every five milliseconds.

#![allow(dead_code)]

use domain::CertificateId;
use domain::secret::SecretText;
use outbound::destination::Item;
use outbound::egress::EgressRules;
use outbound::http::Http;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::stand_ins::cloud::Issued;
use uuid::Uuid;

/// A client that may go to this host.
pub fn http() -> Http {
    Http::new(EgressRules::public_and(vec!["127.0.0.0/8".parse().unwrap()])).unwrap()
}

/// A certificate of ours under a name, with a new mark.
pub fn item(name: &str, issued: &Issued) -> Item {
    Item {
        certificate: CertificateId::from(Uuid::new_v4()),
        mark: Uuid::now_v7(),
        name: name.into(),
        leaf: issued.leaf.clone(),
        chain: vec![issued.issuer.clone()],
        root: Some(issued.root.clone()),
        key: Some(SecretText::new(issued.key.clone())),
        common_name: "service.example.com".into(),
        serial_number: "01".into(),
    }
}

/// The same object with another certificate.
pub fn renewed(item: &Item, issued: &Issued) -> Item {
    Item { leaf: issued.leaf.clone(), key: Some(SecretText::new(issued.key.clone())), ..item.clone() }
}

/// Looks every five milliseconds whether something is there.
pub struct Witness {
    is_over: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<usize>,
}

impl Witness {
    /// Begins to look.
    pub fn of(is_there: impl Fn() -> bool + Send + 'static) -> Self {
        let (is_over, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, counted) = (is_over.clone(), looks.clone());
        let task = tokio::spawn(async move {
            let mut gaps = 0;
            while !over.load(Ordering::Relaxed) {
                gaps += usize::from(!is_there());
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            gaps
        });
        Self { is_over, looks, task }
    }

    /// How often it looked up to now.
    pub fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// How often it was not there.
    pub async fn gaps(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
