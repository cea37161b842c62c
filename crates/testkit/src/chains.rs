//! Certificates of a small hierarchy, made in the process, with any one thing about them wrong.
//!
//! [`import_cases`] is the table of the import of an authority's certificate: what is broken, and under which rule it must
//! be refused. Signatures are real ones by keys that are made on the spot; no test depends on their values.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use x509::der::{Writer, tag};
use x509::extension::{EmailSubtree, Subtree, UriSubtree, encode_extended_key_usages};
use x509::{
    AttributeType, BasicConstraints, DistinguishedName, DnsName, EmailAddress, ExtendedKeyUsage, GeneralName,
    IpAddress, KeyUsage, KeyUsages, NameConstraints, Uri, oid, time,
};

/// A P-256 key pair.
pub struct TestKey {
    pair: EcdsaKeyPair,
}

/// A certificate that is about to be made, field by field; nothing about it is checked.
#[derive(Clone)]
pub struct Draft {
    /// The version as it is encoded: 2 stands for version 3.
    pub version: u8,
    /// The contents octets of the serial number.
    pub serial: Vec<u8>,
    /// The AlgorithmIdentifier inside of what is signed.
    pub inner_algorithm: Vec<u8>,
    /// The AlgorithmIdentifier beside the signature.
    pub outer_algorithm: Vec<u8>,
    /// The issuer, in DER.
    pub issuer: Vec<u8>,
    /// notBefore, in DER.
    pub not_before: Vec<u8>,
    /// notAfter, in DER.
    pub not_after: Vec<u8>,
    /// The subject, in DER.
    pub subject: Vec<u8>,
    /// The SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// The extensions, in their order.
    pub extensions: Vec<DraftExtension>,
    /// Whether the signature is spoilt.
    pub bad_signature: bool,
}

/// An extension of a [`Draft`].
#[derive(Clone)]
pub struct DraftExtension {
    /// The contents octets of its object identifier.
    pub oid: Vec<u8>,
    /// What is written for `critical`; nothing when absent.
    pub critical: Option<bool>,
    /// The contents of extnValue.
    pub value: Vec<u8>,
}

impl TestKey {
    /// A new key.
    pub fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("the library makes P-256 keys");
        Self { pair }
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        let point = self.pair.public_key().as_ref();
        ec_spki(|writer| writer.oid(oid::CURVE_P256), point)
    }

    /// The key identifier: SHA-1 of the point.
    pub fn key_id(&self) -> Vec<u8> {
        x509::digest::sha1(self.pair.public_key().as_ref()).to_vec()
    }

    /// The private key, PKCS#8 in PEM.
    pub fn to_pkcs8_pem(&self) -> String {
        let der = self.pair.to_pkcs8v1().expect("the library writes its own keys");
        x509::pem::encode("PRIVATE KEY", der.as_ref())
    }

    /// An ECDSA signature with SHA-256.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        signature.expect("the library signs with P-256 keys").as_ref().to_vec()
    }
}

impl Draft {
    /// The certificate of an authority, valid a day before and a year after a time.
    pub fn authority(subject: &DistinguishedName, spki: Vec<u8>, issuer: &DistinguishedName, now: i64) -> Self {
        let mut draft = Self::end_entity(subject, spki, issuer, now);
        let constraints = BasicConstraints { ca: true, path_length: None };
        draft.set(oid::BASIC_CONSTRAINTS, Some(true), written(|writer| constraints.encode(writer)));
        draft.set_usages(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign]);
        draft
    }

    /// A certificate without extensions, valid a day before and a year after a time.
    pub fn end_entity(subject: &DistinguishedName, spki: Vec<u8>, issuer: &DistinguishedName, now: i64) -> Self {
        let serial = [&[0x40], &x509::digest::sha256(&[subject.as_der(), &spki].concat())[..15]].concat();
        Self {
            version: 2,
            serial,
            inner_algorithm: algorithm(oid::ECDSA_SHA256),
            outer_algorithm: algorithm(oid::ECDSA_SHA256),
            issuer: issuer.as_der().to_vec(),
            not_before: written(|writer| writer.time(now - DAY)),
            not_after: written(|writer| writer.time(now + 365 * DAY)),
            subject: subject.as_der().to_vec(),
            spki,
            extensions: Vec::new(),
            bad_signature: false,
        }
    }

    /// Puts an extension in, in place of one of the same kind.
    pub fn set(&mut self, oid: &[u8], critical: Option<bool>, value: Vec<u8>) {
        self.remove(oid);
        self.extensions.push(DraftExtension { oid: oid.to_vec(), critical, value });
    }

    /// Takes an extension out.
    pub fn remove(&mut self, oid: &[u8]) {
        self.extensions.retain(|extension| extension.oid != oid);
    }

    /// Changes what is written for `critical`.
    pub fn set_critical(&mut self, oid: &[u8], critical: Option<bool>) {
        for extension in self.extensions.iter_mut().filter(|extension| extension.oid == oid) {
            extension.critical = critical;
        }
    }

    /// keyUsage, critical.
    pub fn set_usages(&mut self, usages: &[KeyUsage]) {
        self.set(oid::KEY_USAGE, Some(true), written(|writer| KeyUsages::of(usages).encode(writer)));
    }

    /// Subject and authority key identifier.
    pub fn set_key_ids(&mut self, subject: &[u8], authority: &[u8]) {
        self.set(oid::SUBJECT_KEY_IDENTIFIER, None, written(|writer| writer.octet_string(subject)));
        self.set(oid::AUTHORITY_KEY_IDENTIFIER, None, key_id_value(authority));
    }

    /// subjectAltName, not critical.
    pub fn set_names(&mut self, names: &[GeneralName]) {
        let value = written(|writer| writer.sequence(|writer| names.iter().for_each(|name| name.encode(writer))));
        self.set(oid::SUBJECT_ALT_NAME, None, value);
    }

    /// nameConstraints, critical.
    pub fn set_constraints(&mut self, permitted: Vec<Subtree>, excluded: Vec<Subtree>) {
        let constraints = NameConstraints { permitted, excluded };
        self.set(oid::NAME_CONSTRAINTS, Some(true), written(|writer| constraints.encode(writer)));
    }

    /// basicConstraints of an authority with a path length, critical.
    pub fn set_path_length(&mut self, path_length: u32) {
        let constraints = BasicConstraints { ca: true, path_length: Some(path_length) };
        self.set(oid::BASIC_CONSTRAINTS, Some(true), written(|writer| constraints.encode(writer)));
    }

    /// extKeyUsage, not critical.
    pub fn set_purposes(&mut self, purposes: &[ExtendedKeyUsage]) {
        self.set(oid::EXTENDED_KEY_USAGE, None, written(|writer| encode_extended_key_usages(purposes, writer)));
    }

    /// The certificate, signed with this key.
    pub fn sign(&self, key: &TestKey) -> Vec<u8> {
        let contents = written(|writer| writer.sequence(|writer| self.write_contents(writer)));
        let mut signature = key.sign(&contents);
        if self.bad_signature {
            let last = signature.len() - 1;
            signature[last] ^= 1;
        }
        written(|writer| {
            writer.sequence(|writer| {
                writer.raw(&contents);
                writer.raw(&self.outer_algorithm);
                writer.bit_string(&signature);
            });
        })
    }

    fn write_contents(&self, writer: &mut Writer) {
        writer.context(0, |writer| writer.unsigned_u64(self.version.into()));
        writer.primitive(tag::INTEGER, &self.serial);
        writer.raw(&self.inner_algorithm);
        writer.raw(&self.issuer);
        writer.sequence(|writer| {
            writer.raw(&self.not_before);
            writer.raw(&self.not_after);
        });
        writer.raw(&self.subject);
        writer.raw(&self.spki);
        writer.context(3, |writer| {
            writer.sequence(|writer| {
                for extension in &self.extensions {
                    writer.sequence(|writer| {
                        writer.oid(&extension.oid);
                        if let Some(critical) = extension.critical {
                            writer.boolean(critical);
                        }
                        writer.octet_string(&extension.value);
                    });
                }
            });
        });
    }
}

/// What an authority's certificate is imported with, with one thing wrong, and how it must be refused.
pub struct ImportCase {
    /// What is wrong.
    pub name: &'static str,
    /// The rule that must be named; `unreadable` where a certificate is not even one.
    pub rule: &'static str,
    /// The subject of the certificate that must be named.
    pub at_fault: String,
    /// The authority's certificate, in DER.
    pub certificate: Vec<u8>,
    /// The certificates given with it, in DER, in no particular order.
    pub chain: Vec<Vec<u8>>,
}

/// A certificate for this subject and key, and the two above it, that can be imported at a time.
pub fn good_import(subject: &DistinguishedName, spki: &[u8], now: i64) -> (Vec<u8>, Vec<Vec<u8>>) {
    Plan::new(subject, spki, now).certificates()
}

/// The table: each case breaks one rule and no other.
pub fn import_cases(subject: &DistinguishedName, spki: &[u8], now: i64) -> Vec<ImportCase> {
    let tables = [SIGNATURE_CASES, FIELD_CASES, EXTENSION_CASES, AUTHORITY_CASES, LINK_CASES, NAME_CASES];
    let cases = tables.iter().flat_map(|table| table.iter());
    cases
        .map(|(name, rule, at_fault, break_one)| {
            let mut plan = Plan::new(subject, spki, now);
            break_one(&mut plan);
            let at_fault = match at_fault {
                Fault::Imported => name_of(&plan.imported.subject),
                Fault::Issuing => name_of(&plan.issuing.subject),
                Fault::Root => name_of(&plan.root.subject),
                Fault::Stranger => name_of(plan.stranger().subject.as_slice()),
            };
            let (certificate, chain) = plan.certificates();
            ImportCase { name, rule, at_fault, certificate, chain }
        })
        .collect()
}

/// Which certificate breaks the rule.
#[derive(Clone, Copy)]
enum Fault {
    Imported,
    Issuing,
    Root,
    Stranger,
}

/// The hierarchy of an import: a root, an issuing authority below it, and the imported one below that.
struct Plan {
    now: i64,
    root_key: TestKey,
    issuing_key: TestKey,
    stranger_key: TestKey,
    root: Draft,
    issuing: Draft,
    imported: Draft,
    issuing_signer: Signer,
    given: Vec<Given>,
}

#[derive(Clone, Copy)]
enum Signer {
    Root,
    Stranger,
}

/// A certificate of the chain.
#[derive(Clone, Copy)]
enum Given {
    Root,
    Issuing,
    Imported,
    Stranger,
}

type CaseRow = (&'static str, &'static str, Fault, fn(&mut Plan));

const DAY: i64 = 86_400;

impl Plan {
    fn new(subject: &DistinguishedName, spki: &[u8], now: i64) -> Self {
        let (root_key, issuing_key, stranger_key) = (TestKey::generate(), TestKey::generate(), TestKey::generate());
        let (root_name, issuing_name) = (common_name("Import Root"), common_name("Import Issuing"));
        let mut root = Draft::authority(&root_name, root_key.spki(), &root_name, now);
        root.set_key_ids(&root_key.key_id(), &root_key.key_id());
        let mut issuing = Draft::authority(&issuing_name, issuing_key.spki(), &root_name, now);
        issuing.set_key_ids(&issuing_key.key_id(), &root_key.key_id());
        let mut imported = Draft::authority(subject, spki.to_vec(), &issuing_name, now);
        imported.set_key_ids(&x509::digest::sha1(spki), &issuing_key.key_id());
        let given = vec![Given::Root, Given::Issuing];
        let issuing_signer = Signer::Root;
        Self { now, root_key, issuing_key, stranger_key, root, issuing, imported, issuing_signer, given }
    }

    /// The imported certificate and the chain. Each certificate is signed once, however often it is given.
    fn certificates(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let issuing_signer = match self.issuing_signer {
            Signer::Root => &self.root_key,
            Signer::Stranger => &self.stranger_key,
        };
        let root = self.root.sign(&self.root_key);
        let issuing = self.issuing.sign(issuing_signer);
        let imported = self.imported.sign(&self.issuing_key);
        let stranger = self.stranger().sign(&self.stranger_key);
        let of = |given: &Given| match given {
            Given::Root => root.clone(),
            Given::Issuing => issuing.clone(),
            Given::Imported => imported.clone(),
            Given::Stranger => stranger.clone(),
        };
        let chain = self.given.iter().map(of).collect();
        (imported, chain)
    }

    /// A root that has nothing to do with the others.
    fn stranger(&self) -> Draft {
        let name = common_name("Unrelated Root");
        let mut draft = Draft::authority(&name, self.stranger_key.spki(), &name, self.now);
        draft.set_key_ids(&self.stranger_key.key_id(), &self.stranger_key.key_id());
        draft
    }
}

const SIGNATURE_CASES: &[CaseRow] = &[
    ("the signature of the certificate is spoilt", "signature-invalid", Fault::Imported, |plan| {
        plan.imported.bad_signature = true;
    }),
    (
        "the issuing certificate is signed by another key of the root's name",
        "signature-invalid",
        Fault::Issuing,
        |plan| {
            plan.issuing_signer = Signer::Stranger;
        },
    ),
    ("the signature of the root is spoilt", "signature-invalid", Fault::Root, |plan| plan.root.bad_signature = true),
    ("the certificate is signed with SHA-1", "signature-algorithm-not-allowed", Fault::Imported, |plan| {
        plan.imported.inner_algorithm = algorithm(ECDSA_SHA1);
        plan.imported.outer_algorithm = algorithm(ECDSA_SHA1);
    }),
    ("the issuing certificate is signed with SHA-1", "signature-algorithm-not-allowed", Fault::Issuing, |plan| {
        plan.issuing.inner_algorithm = algorithm(ECDSA_SHA1);
        plan.issuing.outer_algorithm = algorithm(ECDSA_SHA1);
    }),
    ("the two signature algorithms differ", "signature-algorithm-mismatch", Fault::Imported, |plan| {
        plan.imported.inner_algorithm = algorithm(oid::ECDSA_SHA384);
    }),
    ("the root has an RSA key of 1024 bits", "weak-key", Fault::Root, |plan| plan.root.spki = rsa_spki(128, 1)),
    ("the root has an even RSA modulus", "weak-key", Fault::Root, |plan| plan.root.spki = rsa_spki(256, 0)),
    ("the root has a point off its curve", "weak-key", Fault::Root, |plan| {
        plan.root.spki = ec_spki(|writer| writer.oid(oid::CURVE_P256), &[&[4][..], &[7; 64]].concat());
    }),
    ("the root has a key on an unknown curve", "unsupported-key", Fault::Root, |plan| {
        plan.root.spki = ec_spki(|writer| writer.oid(SECP256K1), &[&[4][..], &[7; 64]].concat());
    }),
    ("the root describes its curve", "explicit-curve", Fault::Root, |plan| {
        plan.root.spki =
            ec_spki(|writer| writer.sequence(|writer| writer.unsigned_u64(1)), &[&[4][..], &[7; 64]].concat());
    }),
];

const FIELD_CASES: &[CaseRow] = &[
    ("the certificate is of version 2", "version-not-3", Fault::Imported, |plan| plan.imported.version = 1),
    ("the serial number is zero", "serial-invalid", Fault::Imported, |plan| plan.imported.serial = vec![0]),
    ("the serial number is negative", "serial-invalid", Fault::Imported, |plan| plan.imported.serial = vec![0x80]),
    ("the serial number has 21 octets", "serial-invalid", Fault::Issuing, |plan| plan.issuing.serial = vec![1; 21]),
    ("the certificate has expired", "expired", Fault::Imported, |plan| {
        plan.imported.not_after = written(|writer| writer.time(plan.now - 1));
    }),
    ("the issuing certificate has expired", "expired", Fault::Issuing, |plan| {
        plan.issuing.not_after = written(|writer| writer.time(plan.now - 1));
    }),
    ("the root has expired", "expired", Fault::Root, |plan| {
        plan.root.not_after = written(|writer| writer.time(plan.now - 1));
    }),
    ("the certificate is not valid yet", "not-yet-valid", Fault::Imported, |plan| {
        plan.imported.not_before = written(|writer| writer.time(plan.now + DAY));
    }),
    ("a time before 2050 is a GeneralizedTime", "time-malformed", Fault::Imported, |plan| {
        plan.imported.not_after =
            written(|writer| writer.primitive(tag::GENERALIZED_TIME, &time::encode_generalized(plan.now + DAY)));
    }),
    ("the certificate ends before it begins", "time-malformed", Fault::Issuing, |plan| {
        plan.issuing.not_before = written(|writer| writer.time(plan.now + 400 * DAY));
    }),
    ("the issuer has no name", "empty-issuer", Fault::Imported, |plan| {
        plan.imported.issuer = DistinguishedName::empty().as_der().to_vec();
    }),
    ("the subject has no name", "empty-subject", Fault::Imported, |plan| {
        plan.imported.subject = DistinguishedName::empty().as_der().to_vec();
    }),
];

const EXTENSION_CASES: &[CaseRow] = &[
    ("a critical extension is unknown", "unknown-critical-extension", Fault::Imported, |plan| {
        plan.imported.set(&[0x2a, 3, 4], Some(true), vec![5, 0]);
    }),
    ("a critical extension of the root is unknown", "unknown-critical-extension", Fault::Root, |plan| {
        plan.root.set(&[0x2a, 3, 4], Some(true), vec![5, 0]);
    }),
    ("the key usage is empty", "malformed-extension", Fault::Imported, |plan| {
        plan.imported.set(oid::KEY_USAGE, Some(true), vec![3, 1, 0]);
    }),
    ("octets follow the basicConstraints", "malformed-extension", Fault::Issuing, |plan| {
        plan.issuing.set(oid::BASIC_CONSTRAINTS, Some(true), vec![0x30, 3, 1, 1, 0xff, 0]);
    }),
    ("a default is written out", "extension-not-der", Fault::Imported, |plan| {
        plan.imported.set_critical(oid::SUBJECT_KEY_IDENTIFIER, Some(false));
    }),
    ("an extension is there twice", "unreadable", Fault::Imported, |plan| {
        let twice = plan.imported.extensions[0].clone();
        plan.imported.extensions.push(twice);
    }),
    ("an alternative name is malformed", "malformed-san", Fault::Imported, |plan| {
        plan.imported.set(oid::SUBJECT_ALT_NAME, None, vec![0x30, 5, 0x82, 3, b'a', b'_', b'b']);
    }),
    ("name constraints hold a wildcard", "name-constraints-malformed", Fault::Root, |plan| {
        let name = [0x30, 9, 0xa0, 7, 0x30, 5, 0x82, 3, b'*', b'.', b'a'];
        plan.root.set(oid::NAME_CONSTRAINTS, Some(true), name.to_vec());
    }),
    ("name constraints hold a mask with a gap", "name-constraints-malformed", Fault::Imported, |plan| {
        let network = [0x30, 14, 0xa0, 12, 0x30, 10, 0x87, 8, 10, 0, 0, 0, 255, 0, 255, 0];
        plan.imported.set(oid::NAME_CONSTRAINTS, Some(true), network.to_vec());
    }),
    ("name constraints are not critical", "name-constraints-not-critical", Fault::Issuing, |plan| {
        plan.issuing.set_constraints(vec![dns_subtree("example")], vec![]);
        plan.issuing.set_critical(oid::NAME_CONSTRAINTS, None);
    }),
    ("policy constraints are not critical", "policy-constraints-not-critical", Fault::Issuing, |plan| {
        plan.issuing.set(oid::POLICY_CONSTRAINTS, None, vec![0x30, 3, 0x80, 1, 5]);
    }),
    ("inhibitAnyPolicy is not critical", "inhibit-any-policy-not-critical", Fault::Issuing, |plan| {
        plan.issuing.set(oid::INHIBIT_ANY_POLICY, None, vec![2, 1, 5]);
    }),
    ("authorityInfoAccess is critical", "access-information-critical", Fault::Imported, |plan| {
        let place = [0x30, 18, 0x30, 16, 6, 8, 0x2b, 6, 1, 5, 5, 7, 48, 2, 0x86, 4, b'a', b':', b'/', b'b'];
        plan.imported.set(oid::AUTHORITY_INFORMATION_ACCESS, Some(true), place.to_vec());
    }),
    ("the authority key identifier is critical", "aki-critical", Fault::Imported, |plan| {
        plan.imported.set_critical(oid::AUTHORITY_KEY_IDENTIFIER, Some(true));
    }),
    ("the subject key identifier is critical", "ski-critical", Fault::Root, |plan| {
        plan.root.set_critical(oid::SUBJECT_KEY_IDENTIFIER, Some(true));
    }),
    ("the extended key usages are empty", "eku-malformed", Fault::Imported, |plan| {
        plan.imported.set_purposes(&[]);
    }),
];

const AUTHORITY_CASES: &[CaseRow] = &[
    ("the certificate has no basicConstraints", "basic-constraints-missing", Fault::Imported, |plan| {
        plan.imported.remove(oid::BASIC_CONSTRAINTS);
    }),
    ("the issuing certificate has no basicConstraints", "basic-constraints-missing", Fault::Issuing, |plan| {
        plan.issuing.remove(oid::BASIC_CONSTRAINTS);
    }),
    ("the certificate is not that of an authority", "not-a-ca", Fault::Imported, |plan| {
        plan.imported.set(oid::BASIC_CONSTRAINTS, Some(true), vec![0x30, 0]);
    }),
    ("the root is no authority", "not-a-ca", Fault::Root, |plan| {
        plan.root.set(oid::BASIC_CONSTRAINTS, Some(true), vec![0x30, 0]);
    }),
    ("basicConstraints are not critical", "basic-constraints-not-critical", Fault::Imported, |plan| {
        plan.imported.set_critical(oid::BASIC_CONSTRAINTS, None);
    }),
    ("the key usage does not hold keyCertSign", "key-cert-sign-missing", Fault::Imported, |plan| {
        plan.imported.set_usages(&[KeyUsage::DigitalSignature, KeyUsage::CrlSign]);
    }),
    ("there is no key usage", "key-cert-sign-missing", Fault::Imported, |plan| {
        plan.imported.remove(oid::KEY_USAGE);
    }),
    ("the key usage of the root does not hold keyCertSign", "key-cert-sign-missing", Fault::Root, |plan| {
        plan.root.set_usages(&[KeyUsage::CrlSign]);
    }),
    ("the issuing authority may have none below it", "path-length-exceeded", Fault::Issuing, |plan| {
        plan.issuing.set_path_length(0);
    }),
    ("the root may have one authority below it", "path-length-exceeded", Fault::Root, |plan| {
        plan.root.set_path_length(1);
    }),
    ("a policy is required and there is none", "policy-required", Fault::Imported, |plan| {
        plan.issuing.set(oid::POLICY_CONSTRAINTS, Some(true), vec![0x30, 3, 0x80, 1, 0]);
    }),
];

const LINK_CASES: &[CaseRow] = &[
    ("the issuer's name is in another string type", "issuer-name-mismatch", Fault::Imported, |plan| {
        plan.imported.issuer = printable_common_name("Import Issuing");
    }),
    ("the issuer's name is another one", "issuer-name-mismatch", Fault::Issuing, |plan| {
        plan.issuing.issuer = common_name("Import Root 2").as_der().to_vec();
    }),
    ("the key identifiers differ", "key-id-mismatch", Fault::Imported, |plan| {
        plan.imported.set(oid::AUTHORITY_KEY_IDENTIFIER, None, key_id_value(&[1; 20]));
    }),
    ("the key identifiers of issuing certificate and root differ", "key-id-mismatch", Fault::Issuing, |plan| {
        plan.root.set(oid::SUBJECT_KEY_IDENTIFIER, None, written(|writer| writer.octet_string(&[1; 20])));
        plan.root.remove(oid::AUTHORITY_KEY_IDENTIFIER);
    }),
    ("another certificate of the issuer is named", "authority-certificate-mismatch", Fault::Imported, |plan| {
        let names = GeneralName::Directory(common_name("Import Root"));
        let value = written(|writer| {
            writer.sequence(|writer| {
                writer.context(1, |writer| names.encode(writer));
                writer.primitive(tag::context(2), &[0x55]);
            });
        });
        plan.imported.set(oid::AUTHORITY_KEY_IDENTIFIER, None, value);
    }),
    ("a certificate is given twice", "duplicate-certificate", Fault::Issuing, |plan| plan.given.push(Given::Issuing)),
    ("the certificate itself is in the chain", "subject-in-chain", Fault::Imported, |plan| {
        plan.given.push(Given::Imported)
    }),
    ("an unrelated certificate is in the chain", "unused-certificate", Fault::Stranger, |plan| {
        plan.given.push(Given::Stranger);
    }),
    ("the issuing certificate is not given", "unused-certificate", Fault::Root, |plan| plan.given = vec![Given::Root]),
];

const NAME_CASES: &[CaseRow] = &[
    ("a host is not permitted", VIOLATED, Fault::Imported, |plan| {
        plan.imported.set_names(&[GeneralName::Dns(DnsName::parse("ca.example.org").expect("it is a host"))]);
        plan.root.set_constraints(vec![dns_subtree("example.com")], vec![]);
    }),
    ("a host that a wildcard stands for is excluded", VIOLATED, Fault::Imported, |plan| {
        plan.imported.set_names(&[GeneralName::Dns(DnsName::parse("*.example.com").expect("it is a wildcard"))]);
        plan.issuing.set_constraints(vec![], vec![dns_subtree("secret.example.com")]);
    }),
    ("an address is not permitted", VIOLATED, Fault::Imported, |plan| {
        plan.imported.set_names(&[GeneralName::Ip(IpAddress::parse("192.0.2.1").expect("it is an address"))]);
        plan.root.set_constraints(vec![Subtree::Ip("10.0.0.0/8".parse().expect("it is a network"))], vec![]);
    }),
    ("a mailbox is excluded", VIOLATED, Fault::Imported, |plan| {
        plan.imported.set_names(&[GeneralName::Email(EmailAddress::parse("ca@example.com").expect("it is a mailbox"))]);
        plan.root.set_constraints(vec![], vec![Subtree::Email(EmailSubtree::Host("example.com".to_owned()))]);
    }),
    ("the host of a URI is not permitted", VIOLATED, Fault::Imported, |plan| {
        plan.imported.set_names(&[GeneralName::Uri(Uri::parse("https://ca.example.org/").expect("it is a URI"))]);
        plan.issuing.set_constraints(vec![Subtree::Uri(UriSubtree::Domain("example.com".to_owned()))], vec![]);
    }),
    ("a URI without a host is constrained", VIOLATED, Fault::Imported, |plan| {
        plan.imported.set_names(&[GeneralName::Uri(Uri::parse("urn:x:y").expect("it is a URI"))]);
        plan.issuing.set_constraints(vec![], vec![Subtree::Uri(UriSubtree::Host("example.com".to_owned()))]);
    }),
    ("the subject is not permitted", VIOLATED, Fault::Imported, |plan| {
        let permitted = DistinguishedName::build(&[(AttributeType::Country, "ZZ")]).expect("it is a name");
        plan.issuing.set_constraints(vec![Subtree::Directory(permitted)], vec![]);
    }),
    ("the subject of the issuing authority is excluded", VIOLATED, Fault::Issuing, |plan| {
        plan.root.set_constraints(vec![], vec![Subtree::Directory(common_name("IMPORT  issuing"))]);
    }),
    ("another kind of names is excluded by the root", "name-constraints-malformed", Fault::Root, |plan| {
        let other = vec![0xa0, 9, 6, 3, 0x2a, 3, 4, 0xa0, 2, 5, 0];
        plan.root.set_constraints(vec![dns_subtree("example")], vec![Subtree::Other { tag: 0xa0, der: other }]);
    }),
    (
        "registered identifiers are permitted by the certificate",
        "name-constraints-malformed",
        Fault::Imported,
        |plan| {
            let identifier = Subtree::Other { tag: 0x88, der: vec![0x88, 3, 0x2a, 3, 4] };
            plan.imported.set_constraints(vec![identifier], vec![]);
        },
    ),
];

const VIOLATED: &str = "name-constraint-violated";
/// 1.2.840.10045.4.1 ecdsa-with-SHA1.
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
/// 1.3.132.0.10 secp256k1.
const SECP256K1: &[u8] = &[0x2b, 0x81, 4, 0, 10];

/// A name of one common name.
pub fn common_name(value: &str) -> DistinguishedName {
    DistinguishedName::build(&[(AttributeType::CommonName, value)]).expect("the tests' names are names")
}

/// What a closure writes.
pub fn written(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    fill(&mut writer);
    writer.into_bytes()
}

fn printable_common_name(value: &str) -> Vec<u8> {
    written(|writer| {
        writer.sequence(|writer| {
            writer.set_of_one(|writer| {
                writer.sequence(|writer| {
                    writer.oid(oid::COMMON_NAME);
                    writer.primitive(tag::PRINTABLE_STRING, value.as_bytes());
                });
            });
        });
    })
}

fn name_of(der: &[u8]) -> String {
    DistinguishedName::from_der(der).expect("the tests' names are names").render()
}

fn key_id_value(key_id: &[u8]) -> Vec<u8> {
    written(|writer| writer.sequence(|writer| writer.primitive(tag::context(0), key_id)))
}

fn dns_subtree(host: &str) -> Subtree {
    Subtree::dns(host).expect("the tests' hosts are hosts")
}

fn algorithm(oid: &[u8]) -> Vec<u8> {
    written(|writer| writer.sequence(|writer| writer.oid(oid)))
}

fn ec_spki(parameters: impl FnOnce(&mut Writer), point: &[u8]) -> Vec<u8> {
    written(|writer| {
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.oid(oid::EC_PUBLIC_KEY);
                parameters(writer);
            });
            writer.bit_string(point);
        });
    })
}

/// An RSA key that nobody has the other half of: a modulus of so many octets, the last bit of which is given.
fn rsa_spki(octets: usize, last_bit: u8) -> Vec<u8> {
    let mut modulus = vec![0xc3; octets];
    modulus[octets - 1] = 0xc2 | last_bit;
    written(|writer| {
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.oid(oid::RSA_ENCRYPTION);
                writer.null();
            });
            let numbers = written(|writer| {
                writer.sequence(|writer| {
                    writer.unsigned(&modulus);
                    writer.unsigned_u64(65_537);
                });
            });
            writer.bit_string(&numbers);
        });
    })
}
