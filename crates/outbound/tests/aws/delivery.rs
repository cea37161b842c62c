//! What the tests deliver, and with what.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair,
};
use domain::CertificateId;
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::destination::{Item, Opening};
use outbound::egress::EgressRules;
use outbound::http::Http;
use testkit::chains::{Draft, TestKey, common_name};
use testkit::stand_ins::aws::{AwsStandIn, REGION};
use uuid::Uuid;
use x509::{Certificate, KeyUsage};

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 4096 bits.
    Rsa4096,
    /// Ed25519.
    Ed25519,
}

/// An authority, with the root above it.
pub struct Authority {
    key: TestKey,
    certificate: Certificate,
    root: Certificate,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let (root_key, key) = (TestKey::generate(), TestKey::generate());
        let (root_name, name) = (common_name("Delivery Root"), common_name("Delivery Issuing"));
        let certificate = |der: Vec<u8>| Certificate::from_der(der).expect("it is a certificate");
        let root = Draft::authority(&root_name, root_key.spki(), &root_name, now()).sign(&root_key);
        let issuing = Draft::authority(&name, key.spki(), &root_name, now()).sign(&root_key);
        Self { key, certificate: certificate(issuing), root: certificate(root) }
    }

    /// A new certificate with a new key of a kind, to be delivered under a name.
    pub fn item(&self, name: &str, kind: Kind) -> Item {
        let (spki, key) = key_pair(kind);
        let common = format!("{name}.example");
        let mut draft = Draft::end_entity(&common_name(&common), spki, &common_name("Delivery Issuing"), now());
        draft.set_usages(&[KeyUsage::DigitalSignature]);
        let leaf = Certificate::from_der(draft.sign(&self.key)).expect("it is a certificate");
        let serial_number = leaf.contents().serial_content().iter().map(|octet| format!("{octet:02x}")).collect();
        Item {
            certificate: CertificateId(Uuid::new_v4()),
            mark: Uuid::new_v4(),
            name: name.to_owned(),
            leaf,
            chain: vec![self.certificate.clone()],
            root: Some(self.root.clone()),
            key: Some(SecretText::new(x509::pem::encode("PRIVATE KEY", &key))),
            common_name: common,
            serial_number,
        }
    }

    /// What comes after an item: another certificate and key in the same place.
    pub fn successor(&self, item: &Item) -> Item {
        let kind = match item.leaf.contents().key_algorithm() {
            Ok(x509::KeyAlgorithm::Rsa2048) => Kind::Rsa2048,
            _ => Kind::P256,
        };
        Item { mark: item.mark, ..self.item(&item.name, kind) }
    }
}

/// The SubjectPublicKeyInfo and the PKCS#8 of a new key.
fn key_pair(kind: Kind) -> (Vec<u8>, Vec<u8>) {
    const MADE: &str = "the library makes keys and writes them";
    let curve = match kind {
        Kind::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Kind::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        Kind::P521 => &ECDSA_P521_SHA512_ASN1_SIGNING,
        Kind::Rsa2048 | Kind::Rsa4096 => {
            let size = if kind == Kind::Rsa2048 { rsa::KeySize::Rsa2048 } else { rsa::KeySize::Rsa4096 };
            let pair = rsa::KeyPair::generate(size).expect(MADE);
            let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect(MADE);
            let key: Pkcs8V1Der<'_> = pair.as_der().expect(MADE);
            return (spki.as_ref().to_vec(), key.as_ref().to_vec());
        }
        Kind::Ed25519 => {
            let pair = Ed25519KeyPair::generate().expect(MADE);
            let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect(MADE);
            return (spki.as_ref().to_vec(), pair.to_pkcs8v1().expect(MADE).as_ref().to_vec());
        }
    };
    let pair = EcdsaKeyPair::generate(curve).expect(MADE);
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect(MADE);
    (spki.as_ref().to_vec(), pair.to_pkcs8v1().expect(MADE).as_ref().to_vec())
}

/// Opens a destination as a run does.
pub fn open<T>(
    kind: DestinationKind,
    credentials: &Credentials,
    config: &DestinationConfig,
    options: &SyncOptions,
    open: impl FnOnce(&Opening<'_>) -> T,
) -> T {
    let (http, secrets) = (http(), SyncCredentials::default());
    open(&Opening { kind, http: &http, credentials: Some(credentials), config, options, secrets: &secrets })
}

/// The region that everything is in.
pub fn region(key_id: Option<&str>) -> DestinationConfig {
    DestinationConfig::Aws { region: REGION.into(), key_id: key_id.map(str::to_owned) }
}

/// A client that may go to the loopback.
pub fn http() -> Http {
    let loopback = "127.0.0.0/8".parse().expect("it is a network");
    Http::new(EgressRules::public_and(vec![loopback])).expect("there is a client")
}

/// Credentials by an access key.
pub fn access_key(id: &str, secret: &str, endpoint: &str) -> Credentials {
    Credentials::AwsAccessKey {
        access_key_id: id.into(),
        secret_access_key: SecretText::new(secret),
        endpoint_url: Some(endpoint.into()),
    }
}

/// The credentials that the stand-in believes.
pub fn believed(stand_in: &AwsStandIn) -> Credentials {
    let (id, secret) = stand_in.access_key();
    access_key(&id, &secret, stand_in.url())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
