//! Certificates to deliver, and where connections of tests may go.

use domain::CertificateId;
use domain::secret::SecretText;
use outbound::destination::Item;
use outbound::egress::EgressRules;
use testkit::chains::{Draft, TestKey, common_name};
use x509::Certificate;

/// 2026-01-01.
const NOW: i64 = 1_767_225_600;

/// An authority, and what it issues.
pub struct Authority {
    key: TestKey,
    certificate: Certificate,
}

impl Authority {
    pub fn new() -> Self {
        let key = TestKey::generate();
        let name = common_name("Test authority");
        let certificate = Certificate::from_der(Draft::authority(&name, key.spki(), &name, NOW).sign(&key)).unwrap();
        Self { key, certificate }
    }

    /// A new certificate with a new key, to be delivered under that name.
    pub fn item(&self, name: &str) -> Item {
        let key = TestKey::generate();
        let mut draft =
            Draft::end_entity(&common_name("www.example.com"), key.spki(), &common_name("Test authority"), NOW);
        draft.set_key_ids(&key.key_id(), &self.key.key_id());
        let leaf = Certificate::from_der(draft.sign(&self.key)).unwrap();
        Item {
            certificate: CertificateId::from(uuid::Uuid::new_v4()),
            mark: uuid::Uuid::new_v4(),
            name: name.into(),
            leaf,
            chain: vec![self.certificate.clone()],
            root: Some(self.certificate.clone()),
            key: Some(SecretText::new(key.to_pkcs8_pem())),
            common_name: "www.example.com".into(),
            serial_number: "01".into(),
        }
    }
}

pub fn rules() -> EgressRules {
    EgressRules::public_and(vec!["127.0.0.0/8".parse().unwrap()])
}
