//! Certificates with their keys, as they are carried to a destination, and what a stand-in asks of those it is given.

use crate::chains::{Draft, TestKey, common_name};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair,
};
use x509::{Certificate, DnsName, GeneralName, IpAddress, pem};

/// A certificate, what is above it, and its key.
#[derive(Clone)]
pub struct Material {
    /// The certificate, in DER.
    pub leaf: Vec<u8>,
    /// The authority above it, in DER.
    pub issuing: Vec<u8>,
    /// The self-signed root, in DER.
    pub root: Vec<u8>,
    /// The key, PKCS#8 in PEM.
    pub key: String,
}

impl Material {
    /// With a P-256 key.
    pub fn p256(subject: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("the library makes P-256 keys");
        let key = pair.to_pkcs8v1().expect("the key can be written");
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("the key can be written");
        Self::of(subject, spki.as_ref(), key.as_ref())
    }

    /// With an RSA key of 2048 bits.
    pub fn rsa(subject: &str) -> Self {
        let pair = RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("the library makes RSA keys");
        let key: Pkcs8V1Der<'_> = pair.as_der().expect("the key can be written");
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("the key can be written");
        Self::of(subject, spki.as_ref(), key.as_ref())
    }

    fn of(subject: &str, spki: &[u8], key: &[u8]) -> Self {
        let now = jiff::Timestamp::now().as_second();
        let (root_key, issuing_key) = (TestKey::generate(), TestKey::generate());
        let (root_name, issuing_name) = (common_name("Delivery Root"), common_name("Delivery Issuing"));
        let root = Draft::authority(&root_name, root_key.spki(), &root_name, now).sign(&root_key);
        let issuing = Draft::authority(&issuing_name, issuing_key.spki(), &root_name, now).sign(&root_key);
        let mut leaf = Draft::end_entity(&common_name(subject), spki.to_vec(), &issuing_name, now);
        // Anything that is an address or a host is a name too, so that TLS can be served with it.
        let name = IpAddress::parse(subject).map(GeneralName::Ip);
        if let Ok(name) = name.or_else(|_| DnsName::parse(subject).map(GeneralName::Dns)) {
            leaf.set_names(&[name]);
        }
        Self { leaf: leaf.sign(&issuing_key), issuing, root, key: pem::encode("PRIVATE KEY", key) }
    }
}

/// Whether the first certificate of a PEM text was made for the key of another.
pub fn key_fits(certificates: &str, key: &str) -> bool {
    let Ok(found) = pem::decode_all(certificates, "CERTIFICATE") else { return false };
    let Some(Ok(leaf)) = found.into_iter().next().map(Certificate::from_der) else { return false };
    spki_of_key(key).is_some_and(|spki| spki == leaf.spki_der())
}

/// Whether a PEM text holds certificates and nothing that is none.
pub fn are_certificates(text: &str) -> bool {
    match pem::decode_all(text, "CERTIFICATE") {
        Ok(found) => !found.is_empty() && found.into_iter().all(|der| Certificate::from_der(der).is_ok()),
        Err(_) => false,
    }
}

/// Whether a PEM text is a private key that can be read.
pub fn is_key(text: &str) -> bool {
    spki_of_key(text).is_some()
}

fn spki_of_key(key: &str) -> Option<Vec<u8>> {
    let der = pem::decode_one(key, &["PRIVATE KEY"]).ok()?;
    for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, &der) {
            let written: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
            return Some(written.as_ref().to_vec());
        }
    }
    let pair = RsaKeyPair::from_pkcs8(&der).ok()?;
    let written: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    Some(written.as_ref().to_vec())
}
