//! A signer signs the bytes that were judged, once, and no others (invariants A5, D11).

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use domain::issuance::{AuthorityRequest, Case, IssuanceRequest, Issuer, Subject, ToBeSigned, Wishes, decide};
use domain::policy::{SanType, SubjectAttribute};
use domain::profile::{Enrollment, IssuerKind, Policy, Profile, ProfileDocument};
use domain::{PolicyId, ProfileId, ProjectId, Time};
use keys::sign::Signer;
use keys::{KeyPool, PoolSize, PrivateKey};
use serde_json::json;
use x509::{AttributeType, Certificate, DistinguishedName, KeyAlgorithm, SerialNumber, SignatureAlgorithm};

const ID: &str = "0198c5a0-0000-7000-8000-000000000001";

/// A new key, and something that signs with it.
async fn signer() -> Signer {
    let pool = Arc::new(KeyPool::start(PoolSize::default()).unwrap());
    let key: PrivateKey = pool.generate(KeyAlgorithm::EcP256).await.unwrap();
    Signer::new(Arc::new(key), pool)
}

fn serial() -> SerialNumber {
    SerialNumber::from_random([0x5a; 20]).unwrap()
}

/// A leaf of a self-signed profile, decided and judged by its policy.
fn leaf(spki: &[u8]) -> ToBeSigned {
    let now = Time::from_seconds(1_800_000_000);
    let rules = json!({
        "subject": [{"type": "common_name", "allowed": ["*.example.com"]}],
        "sans": [{"type": "dns_name", "allowed": ["*.example.com"]}],
        "algorithms": {"signature": ["ECDSA-SHA256"], "keyAlgorithm": ["EC_prime256v1"]},
        "validity": {"max": "1d"},
    });
    let project = ProjectId::parse(ID).unwrap();
    let policy = PolicyId::parse(ID).unwrap();
    let issuer = Arc::new(Issuer {
        profile: Profile {
            id: ProfileId::parse(ID).unwrap(),
            project,
            slug: "leaf".into(),
            description: None,
            version: 1,
            policy,
            enrollment: Enrollment::Api,
            document: ProfileDocument {
                issuer: IssuerKind::SelfSigned,
                issuers: Vec::new(),
                api: None,
                est: None,
                acme: None,
                defaults: None,
                external_configs: None,
            },
            created_at: now,
            updated_at: now,
        },
        policy: Policy {
            id: policy,
            project,
            name: "leaf".into(),
            description: None,
            version: 1,
            rules: serde_json::from_value(rules).unwrap(),
            created_at: now,
            updated_at: now,
        },
        authority: None,
    });
    let request = IssuanceRequest {
        subject: Subject::Fields {
            attributes: vec![(SubjectAttribute::CommonName, "www.example.com".into())],
            alt_names: vec![(SanType::DnsName, "www.example.com".into())],
            key_algorithm: Some(KeyAlgorithm::EcP256),
        },
        wishes: Wishes {
            ttl_millis: Some(3_600_000),
            signature_algorithm: Some(SignatureAlgorithm::EcdsaSha256),
            ..Wishes::default()
        },
    };
    decide(Case::Leaf(&issuer, &request), now).unwrap().certify(spki, serial()).unwrap()
}

/// The certificate of a root.
fn root(spki: &[u8]) -> ToBeSigned {
    let now = Time::from_seconds(1_800_000_000);
    let request = AuthorityRequest {
        subject: DistinguishedName::build(&[(AttributeType::CommonName, "Root")]).unwrap(),
        key_algorithm: KeyAlgorithm::EcP256,
        path_length: None,
        not_before: now,
        not_after: now.plus_seconds(86_400),
        name_constraints: None,
        policies: Vec::new(),
        extended_key_usages: Vec::new(),
    };
    decide(Case::Authority(None, request), now).unwrap().certify(spki, serial()).unwrap()
}

#[tokio::test]
async fn judged_bytes_are_signed_and_any_other_bit_is_refused() {
    let signer = signer().await;
    let spki = signer.public_spki_der();
    for make in [leaf, root] {
        let der = signer.certificate(make(spki)).await.unwrap();
        let bits = der.len() * 8;
        let certificate = Certificate::from_der(der).unwrap();
        assert!(certificate.verify_signature(&certificate.verifying_key().unwrap()));
        for bit in 0..bits {
            let refused = signer.certificate(make(spki).with_flipped_bit(bit)).await;
            // Not a refusal of the caller's, who did nothing wrong: a failure of ours.
            let error = refused.unwrap_err();
            assert!(error.reason().is_none(), "bit {bit}: {error}");
            assert!(error.to_string().contains("changed after it had been judged"), "bit {bit}: {error}");
        }
    }
}
