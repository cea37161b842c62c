//! Certificates, requests and lists of another implementation are read, our own are written and read back, and damaged
//! ones do no harm.

#![allow(clippy::unwrap_used)] // Test code outside of test functions.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use x509::extension::{AccessMethod, Subtree};
use x509::*;

const ROOT: &str = include_str!("../testdata/root.pem");
const LEAF: &str = include_str!("../testdata/leaf.pem");
const ONE_CRL: &str = include_str!("../testdata/one.crl");
const EMPTY_CRL: &str = include_str!("../testdata/empty.crl");
const EC_CSR: &str = include_str!("../testdata/ec.csr");
const RSA_CSR: &str = include_str!("../testdata/rsa.csr");
const ED_CSR: &str = include_str!("../testdata/ed.csr");
const SHA1_CSR: &str = include_str!("../testdata/sha1.csr");
const PSS_CSR: &str = include_str!("../testdata/pss.csr");

#[test]
fn a_root_of_another_implementation_is_read() {
    let root = Certificate::from_der_strict(Certificate::from_pem(ROOT).unwrap().into_der()).unwrap();
    assert_eq!(root.version(), 3);
    assert_eq!(root.serial_number().unwrap().to_hex(), "1234567890abcdef");
    assert_eq!(root.subject().render(), "C=DE,O=Acme,OU=Grüße,CN=Test Root");
    assert!(root.is_self_issued());
    assert!(root.verify_signature(&root.public_key().unwrap()));
    assert_eq!(root.not_after() - root.not_before(), 40_000 * 86_400);
    let extensions = root.extensions();
    assert_eq!(extensions.len(), 4);
    assert_eq!(extensions.unknown_critical(), None);
    assert_eq!(extensions.basic_constraints(), Ok(Some(BasicConstraints { ca: true, path_length: Some(2) })));
    assert_eq!(extensions.key_usages(), Ok(Some(KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign]))));
    let key_id = root.public_key().unwrap().key_id_sha1();
    assert_eq!(extensions.subject_key_id(), Ok(Some(&key_id[..])));
    let constraints = extensions.name_constraints().unwrap().unwrap();
    let directory = DistinguishedName::build(&[(AttributeType::Country, "DE")]).unwrap();
    let permitted = [
        Subtree::dns("example.com").unwrap(),
        Subtree::Ip("10.0.0.0/8".parse().unwrap()),
        Subtree::Directory(directory),
    ];
    assert_eq!(constraints.permitted, permitted);
    assert_eq!(constraints.excluded, [Subtree::email(".bad.example").unwrap(), Subtree::uri("bad.example").unwrap()]);
    assert_eq!(pem::encode(pem::CERTIFICATE, root.as_der()), ROOT.trim_end());
}

#[test]
fn a_leaf_of_another_implementation_is_read() {
    let (root, leaf) = (Certificate::from_pem(ROOT).unwrap(), Certificate::from_pem(LEAF).unwrap());
    assert_eq!(leaf.issuer(), root.subject());
    assert!(leaf.verify_signature(&root.verifying_key().unwrap()));
    assert!(!leaf.verify_signature(&leaf.verifying_key().unwrap()));
    let extensions = leaf.extensions();
    assert_eq!(extensions.unknown_critical(), None);
    let usages = extensions.extended_key_usages().unwrap().unwrap();
    let other = ExtendedKeyUsage::Other(oid::from_dotted("1.2.3.4.5").unwrap());
    assert_eq!(usages, [ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth, other]);
    let names = extensions.subject_alt_names().unwrap().unwrap().into_valid().unwrap();
    let texts: Vec<String> = names.iter().map(|name| format!("{}: {}", name.kind(), name.text())).collect();
    let expected = [
        "DNS name: www.example.com",
        "DNS name: *.example.com",
        "IP address: 192.0.2.1",
        "IP address: 2001:db8::1",
        "e-mail address: a@example.com",
        "URI: https://example.com/x",
        "directory name: C=DE",
        "registered id: 1.2.3.4",
        "other name: #a00e06032a0304a0070c0568656c6c6f",
    ];
    assert_eq!(texts, expected);
    let authority = extensions.authority_key_id().unwrap().unwrap();
    assert_eq!(authority.key_id.as_deref(), root.extensions().subject_key_id().unwrap());
    let urls = |urls: Vec<&Uri>| urls.into_iter().map(Uri::as_str).collect::<Vec<_>>().join(" ");
    let points = extensions.crl_distribution_points().unwrap().unwrap();
    assert_eq!(urls(points.urls().collect()), "http://crl.example.com/1.crl");
    let access = extensions.authority_information_access().unwrap().unwrap();
    assert_eq!(urls(access.urls(AccessMethod::Ocsp).collect()), "http://ocsp.example.com/");
    assert_eq!(urls(access.urls(AccessMethod::CaIssuers).collect()), "http://ca.example.com/1.der");
    let policies = extensions.certificate_policies().unwrap().unwrap().policies;
    assert_eq!(
        policies.iter().map(|policy| oid::to_dotted(&policy.oid)).collect::<Vec<_>>().join(" "),
        "2.5.29.32.0 1.3.6.1.4.1.99999.1"
    );
    assert_eq!(extensions.policy_constraints().unwrap().unwrap().require_explicit_policy, Some(3));
    assert_eq!(extensions.inhibit_any_policy().unwrap().map(|inhibit| inhibit.0), Some(2));
    let contents = parse_tbs(leaf.tbs_der()).unwrap();
    assert_eq!(contents.serial_number(), leaf.serial_number());
    assert_eq!(contents.tbs_der(), leaf.tbs_der());
}

#[test]
fn requests_of_another_implementation_are_read() {
    let algorithms = [
        (EC_CSR, KeyAlgorithm::EcP256, SignatureAlgorithm::EcdsaSha256),
        (RSA_CSR, KeyAlgorithm::Rsa2048, SignatureAlgorithm::RsaSha384),
        (ED_CSR, KeyAlgorithm::Ed25519, SignatureAlgorithm::Ed25519),
    ];
    for (text, key, signature) in algorithms {
        let request = CertificationRequest::from_pem(text).unwrap();
        assert_eq!(request.public_key().unwrap().algorithm(), key);
        assert_eq!(request.signature_algorithm(), Ok(signature));
        assert!(request.verify());
        assert_eq!(request.subject().render(), "C=DE,CN=a.example.com");
        let extensions = request.requested_extensions().unwrap();
        assert_eq!(extensions.key_usages(), Ok(Some(KeyUsages::of(&[KeyUsage::DigitalSignature]))));
        assert_eq!(extensions.basic_constraints(), Ok(Some(BasicConstraints::default())));
        let names = extensions.subject_alt_names().unwrap().unwrap().into_valid().unwrap();
        assert_eq!(names.iter().map(GeneralName::text).collect::<Vec<_>>(), ["a.example.com", "192.0.2.7"]);
    }
}

#[test]
fn a_request_with_another_signature_algorithm_does_not_verify_and_names_it() {
    for (text, name) in [(SHA1_CSR, "1.2.840.113549.1.1.5"), (PSS_CSR, "1.2.840.113549.1.1.10")] {
        let request = CertificationRequest::from_pem(text).unwrap();
        assert!(!request.verify());
        assert!(request.signature_algorithm().unwrap_err().to_string().contains(name));
    }
}

#[test]
fn a_request_with_a_changed_or_added_octet_is_refused() {
    let der = CertificationRequest::from_pem(EC_CSR).unwrap().as_der().to_vec();
    let is_good = |der: &[u8]| CertificationRequest::from_der(der).is_ok_and(|request| request.verify());
    assert!(is_good(&der));
    for index in 0..der.len() {
        let mut changed = der.clone();
        changed[index] ^= 0x01;
        assert!(!is_good(&changed), "octet {index}");
        assert!(!is_good(&der[..index]));
    }
    assert!(!is_good(&[&der[..], &[0]].concat()));
}

#[test]
fn lists_of_another_implementation_are_read() {
    let root = Certificate::from_pem(ROOT).unwrap();
    let leaf = Certificate::from_pem(LEAF).unwrap();
    for (text, number, count) in [(EMPTY_CRL, [0x10, 0x00], 0), (ONE_CRL, [0x10, 0x01], 1)] {
        let crl = Crl::from_pem(text).unwrap();
        assert_eq!((crl.version(), crl.issuer()), (2, root.subject()));
        assert_eq!(crl.number(), Ok(Some(&number[..])));
        assert_eq!(crl.next_update().unwrap() - crl.this_update(), 30 * 86_400);
        assert_eq!(crl.entries().count(), count);
        assert!(crl.verify_signature(&root.verifying_key().unwrap()));
        assert!(!crl.verify_signature(&leaf.verifying_key().unwrap()));
        assert_eq!(crl.unknown_critical(), None);
        assert_eq!(crl.issuing_distribution_point(), Ok(None));
        assert_eq!(crl.find(root.serial_content()), None);
        let found = crl.find(leaf.serial_content());
        assert_eq!(found.and_then(|entry| entry.reason_code), (count == 1).then_some(1));
    }
}

/// A key pair on P-256 and the name of its authority.
struct Authority {
    key_pair: EcdsaKeyPair,
    name: DistinguishedName,
    spki: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        use aws_lc_rs::encoding::AsDer as _;
        let key_pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let name = DistinguishedName::build(&[(AttributeType::Country, "DE"), (AttributeType::CommonName, "Own CA")]);
        let spki = key_pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self { key_pair, name: name.unwrap(), spki }
    }

    fn sign(&self, contents: &[u8]) -> Vec<u8> {
        self.key_pair.sign(&SystemRandom::new(), contents).unwrap().as_ref().to_vec()
    }

    fn required<'a>(&'a self, subject: &'a DistinguishedName) -> RequiredFields<'a> {
        RequiredFields {
            serial_number: SerialNumber::from_random([0xa5; 20]).unwrap(),
            signature_algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer_der: self.name.as_der(),
            not_before: 1_700_000_000,
            not_after: 2_600_000_000,
            subject,
            spki_der: &self.spki,
        }
    }

    fn certify(&self, template: &CertificateTemplate<'_>) -> Certificate {
        let tbs = template.to_be_signed();
        let der = assemble_certificate(&tbs, template.signature_algorithm, &self.sign(&tbs));
        Certificate::from_der_strict(der).unwrap()
    }
}

#[test]
fn a_certificate_of_ours_says_what_was_asked_for() {
    let authority = Authority::new();
    let subject = DistinguishedName::build(&[(AttributeType::CommonName, "www.example.com")]).unwrap();
    let names = [
        GeneralName::Dns(DnsName::parse("www.example.com").unwrap()),
        GeneralName::Ip(IpAddress::parse("192.0.2.1").unwrap()),
    ];
    let url = |text: &str| vec![Uri::parse(text).unwrap()];
    let (crl, ocsp, issuers) = (url("http://a.example/crl"), url("http://a.example/ocsp"), url("http://a.example/ca"));
    let other = OtherExtension { oid: vec![0x2a, 3, 4], criticality: Criticality::NonCritical, value: vec![5, 0] };
    let usages = KeyUsages::of(&[KeyUsage::DigitalSignature]);
    let template = CertificateTemplate {
        basic_constraints: Some((BasicConstraints::default(), Criticality::NonCritical)),
        key_usages: usages,
        extended_key_usages: &[ExtendedKeyUsage::ServerAuth],
        subject_key_id: Some(&[1, 2, 3]),
        authority_key_id: Some(&[4, 5, 6]),
        subject_alt_names: &names,
        policies: &[oid::ANY_POLICY],
        crl_urls: &crl,
        ocsp_urls: &ocsp,
        ca_issuers_urls: &issuers,
        other_extensions: std::slice::from_ref(&other),
        ..CertificateTemplate::new(authority.required(&subject))
    };
    let certificate = authority.certify(&template);
    assert!(certificate.verify_signature(&certificate.public_key().unwrap()));
    assert_eq!(certificate.serial_number().unwrap(), template.serial_number);
    assert_eq!((certificate.issuer(), certificate.subject()), (&authority.name, &subject));
    assert_eq!((certificate.not_before(), certificate.not_after()), (1_700_000_000, 2_600_000_000));
    assert_eq!(certificate.signature_algorithm(), Some(SignatureAlgorithm::EcdsaSha256));
    let extensions = certificate.extensions();
    let critical: Vec<&[u8]> = extensions.iter().filter(|found| found.critical).map(|found| found.oid).collect();
    assert_eq!(critical, [oid::KEY_USAGE]);
    assert_eq!(extensions.len(), 10);
    assert_eq!(extensions.basic_constraints(), Ok(Some(BasicConstraints::default())));
    assert_eq!(extensions.key_usages(), Ok(Some(usages)));
    assert_eq!(extensions.extended_key_usages(), Ok(Some(vec![ExtendedKeyUsage::ServerAuth])));
    assert_eq!(extensions.subject_key_id(), Ok(Some(&[1, 2, 3][..])));
    assert_eq!(extensions.authority_key_id().unwrap().unwrap().key_id, Some(vec![4, 5, 6]));
    assert_eq!(extensions.subject_alt_names().unwrap().unwrap().into_valid().unwrap(), names);
    assert_eq!(extensions.certificate_policies().unwrap().unwrap().policies[0].oid, oid::ANY_POLICY);
    assert!(extensions.crl_distribution_points().unwrap().unwrap().urls().eq(&crl));
    let access = extensions.authority_information_access().unwrap().unwrap();
    assert!(access.urls(AccessMethod::Ocsp).eq(&ocsp));
    assert!(access.urls(AccessMethod::CaIssuers).eq(&issuers));
    assert_eq!(extensions.find(&other.oid).map(|found| found.value), Some(&other.value[..]));
}

#[test]
fn alternative_names_are_critical_only_without_a_subject() {
    let authority = Authority::new();
    let names = [GeneralName::Dns(DnsName::parse("a.example").unwrap())];
    let named = DistinguishedName::build(&[(AttributeType::CommonName, "x")]).unwrap();
    for subject in [named, DistinguishedName::empty()] {
        let template =
            CertificateTemplate { subject_alt_names: &names, ..CertificateTemplate::new(authority.required(&subject)) };
        let certificate = authority.certify(&template);
        let found = certificate.extensions().find(oid::SUBJECT_ALT_NAME).unwrap();
        assert_eq!(found.critical, subject.is_empty());
    }
}

#[test]
fn constraints_of_an_authority_of_ours_are_critical() {
    let authority = Authority::new();
    let constraints = NameConstraints { permitted: vec![Subtree::dns("example.com").unwrap()], excluded: Vec::new() };
    let template = CertificateTemplate {
        basic_constraints: Some((BasicConstraints { ca: true, path_length: Some(0) }, Criticality::Critical)),
        name_constraints: Some(&constraints),
        ..CertificateTemplate::new(authority.required(&authority.name))
    };
    let certificate = authority.certify(&template);
    assert!(certificate.extensions().iter().all(|extension| extension.critical));
    assert_eq!(certificate.extensions().name_constraints(), Ok(Some(constraints)));
    assert!(certificate.is_self_issued());
    let bare = authority.certify(&CertificateTemplate::new(authority.required(&authority.name)));
    assert!(bare.extensions().is_empty());
}

#[test]
fn a_request_of_ours_is_read_back_and_verifies() {
    let authority = Authority::new();
    for usages in [KeyUsages::NONE, KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign])] {
        let info = build_request_info(&authority.name, &authority.spki, usages);
        let der = signed::assemble(&info, SignatureAlgorithm::EcdsaSha256, &authority.sign(&info));
        let request = CertificationRequest::from_der(&der).unwrap();
        assert!(request.verify());
        assert_eq!((request.subject(), request.spki_der()), (&authority.name, &authority.spki[..]));
        let asked = request.requested_extensions().unwrap().key_usages().unwrap();
        assert_eq!(asked, (!usages.is_empty()).then_some(usages));
    }
}

#[test]
fn a_list_of_ours_is_read_back() {
    let authority = Authority::new();
    let serial = |last: u8| SerialNumber::from_integer(&[0x11, last]).unwrap();
    let revoked: Vec<RevokedCertificate> = RevocationReason::ALL
        .into_iter()
        .map(|reason| RevokedCertificate {
            serial_number: serial(reason.code()),
            revoked_at: 1_700_000_000,
            reason: ListedReason::Revoked(reason),
        })
        .collect();
    let urls = [Uri::parse("http://a.example/1.crl").unwrap()];
    for (entries, distribution_point_urls) in [(&revoked[..], &[][..]), (&[], &urls[..])] {
        let template = CrlTemplate {
            signature_algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer_der: authority.name.as_der(),
            this_update: 1_700_000_000,
            next_update: 1_700_600_000,
            authority_key_id: &[1, 2, 3],
            number: 300,
            distribution_point_urls,
            base_number: None,
            freshest_urls: &[],
        };
        let tbs = template.to_be_signed(entries.iter().copied());
        let der = assemble_crl(&tbs, template.signature_algorithm, &authority.sign(&tbs));
        let crl = Crl::from_der(der).unwrap();
        assert!(crl.verify_signature(&PublicKey::from_spki_der(&authority.spki).unwrap()));
        assert_eq!((crl.version(), crl.this_update(), crl.next_update()), (2, 1_700_000_000, Some(1_700_600_000)));
        assert_eq!(crl.number(), Ok(Some(&[1, 44][..])));
        let key_id = crl.extensions().authority_key_id().unwrap().unwrap().key_id;
        assert_eq!(key_id, Some(vec![1, 2, 3]));
        let point = crl.issuing_distribution_point().unwrap();
        assert_eq!(point.map_or(0, |point| point.urls().count()), distribution_point_urls.len());
        assert_eq!(crl.extensions().iter().filter(|found| found.critical).count(), distribution_point_urls.len());
        assert_eq!(crl.unknown_critical(), None);
        let codes: Vec<Option<u8>> = crl.entries().map(|entry| entry.reason_code).collect();
        let expected: Vec<Option<u8>> =
            entries.iter().map(|entry| Some(entry.reason.code()).filter(|code| *code != 0)).collect();
        assert_eq!(codes, expected);
    }
}

/// A small generator, so that every run damages the same octets.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn damage(&mut self, der: &[u8]) -> Vec<u8> {
        let mut damaged = der.to_vec();
        for _ in 0..=self.below(3) {
            let index = self.below(damaged.len());
            match self.below(5) {
                0 => damaged[index] ^= 1 << self.below(8),
                1 => damaged[index] = u8::try_from(self.below(256)).unwrap(),
                2 => damaged.truncate(index.max(1)),
                3 => damaged.insert(index, 0x80),
                _ => drop(damaged.remove(index)),
            }
            if damaged.is_empty() {
                damaged.push(0x30);
            }
        }
        damaged
    }
}

/// Reads everything that can be read out of extensions, whatever comes of it.
fn read_all(extensions: Extensions<'_>) -> usize {
    let outcomes = [
        extensions.basic_constraints().is_ok(),
        extensions.key_usages().is_ok(),
        extensions.extended_key_usages().is_ok(),
        extensions.subject_alt_names().is_ok(),
        extensions.subject_key_id().is_ok(),
        extensions.authority_key_id().is_ok(),
        extensions.name_constraints().is_ok(),
        extensions.crl_distribution_points().is_ok(),
        extensions.authority_information_access().is_ok(),
        extensions.certificate_policies().is_ok(),
        extensions.policy_constraints().is_ok(),
        extensions.inhibit_any_policy().is_ok(),
        extensions.unknown_critical().is_none(),
    ];
    outcomes.into_iter().filter(|outcome| *outcome).count()
}

#[test]
fn damaged_documents_never_panic_and_never_verify_as_others() {
    let root = Certificate::from_pem(ROOT).unwrap();
    let key = root.verifying_key().unwrap();
    let originals = [
        root.as_der().to_vec(),
        Certificate::from_pem(LEAF).unwrap().into_der(),
        CertificationRequest::from_pem(EC_CSR).unwrap().as_der().to_vec(),
        Crl::from_pem(ONE_CRL).unwrap().as_der().to_vec(),
    ];
    let mut sequence = Sequence(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        let damaged = sequence.damage(&originals[round % originals.len()]);
        let unchanged = originals.contains(&damaged);
        if let Ok(certificate) = Certificate::from_der(damaged.clone()) {
            read += read_all(certificate.extensions()) + certificate.subject().render().len();
            read += usize::from(certificate.public_key().is_ok()) + certificate.oddities().count();
            assert!(unchanged || !certificate.verify_signature(&key), "round {round}");
        } else if let Ok(crl) = Crl::from_der(damaged.clone()) {
            read += crl.entries().count() + usize::from(crl.number().is_ok());
            read += usize::from(crl.issuing_distribution_point().is_ok());
        } else if let Ok(request) = CertificationRequest::from_der(&damaged) {
            read += request.requested_extensions().map_or(0, read_all);
            assert!(unchanged || !request.verify(), "round {round}");
        } else {
            refused += 1;
            let error = Certificate::from_der(damaged).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
    }
    assert!(read > 10_000 && refused > 5_000, "{read} {refused}");
}
