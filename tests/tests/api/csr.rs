//! Certification requests as clients may send them, part by part, with anything wrong about them.

use testkit::chains::TestKey;
use x509::der::{Writer, tag};
use x509::extension::encode_extended_key_usages;
use x509::{AttributeType, DistinguishedName, ExtendedKeyUsage, GeneralName, KeyUsage, KeyUsages, oid, pem};

/// A request that is about to be made; nothing about it is checked.
#[derive(Clone)]
pub struct Draft {
    /// The subject, in DER.
    pub subject: Vec<u8>,
    /// The SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Extensions: identifier, what is written for `critical`, value.
    pub extensions: Vec<(Vec<u8>, Option<bool>, Vec<u8>)>,
    /// Further attributes, each in DER.
    pub attributes: Vec<Vec<u8>>,
    /// The AlgorithmIdentifier beside the signature, in DER.
    pub algorithm: Vec<u8>,
}

impl Draft {
    /// A request without extensions.
    pub fn new(key: &TestKey, subject: &[(AttributeType, &str)]) -> Self {
        Self {
            subject: DistinguishedName::build(subject).unwrap().as_der().to_vec(),
            spki: key.spki(),
            extensions: Vec::new(),
            attributes: Vec::new(),
            algorithm: written(|writer| writer.sequence(|writer| writer.oid(oid::ECDSA_SHA256))),
        }
    }

    /// A request with a common name.
    pub fn named(key: &TestKey, common_name: &str) -> Self {
        Self::new(key, &[(AttributeType::CommonName, common_name)])
    }

    pub fn with(mut self, oid: &[u8], critical: Option<bool>, value: Vec<u8>) -> Self {
        self.extensions.push((oid.to_vec(), critical, value));
        self
    }

    /// With alternative names, in DER each.
    pub fn with_names(self, names: &[Vec<u8>]) -> Self {
        let value = written(|writer| writer.sequence(|writer| names.iter().for_each(|name| writer.raw(name))));
        self.with(oid::SUBJECT_ALT_NAME, None, value)
    }

    /// With DNS names, unchecked.
    pub fn with_hosts(self, hosts: &[&str]) -> Self {
        self.with_names(&hosts.iter().map(|host| name(0x82, host.as_bytes())).collect::<Vec<_>>())
    }

    pub fn with_usages(self, usages: &[KeyUsage]) -> Self {
        self.with(oid::KEY_USAGE, Some(true), written(|writer| KeyUsages::of(usages).encode(writer)))
    }

    pub fn with_purposes(self, purposes: &[ExtendedKeyUsage]) -> Self {
        self.with(oid::EXTENDED_KEY_USAGE, None, written(|writer| encode_extended_key_usages(purposes, writer)))
    }

    /// The attribute that asks for the extensions.
    pub fn extension_request(&self) -> Vec<u8> {
        let list = written(|writer| {
            writer.sequence(|writer| {
                for (oid, critical, value) in &self.extensions {
                    writer.sequence(|writer| {
                        writer.oid(oid);
                        critical.iter().for_each(|critical| writer.boolean(*critical));
                        writer.octet_string(value);
                    });
                }
            });
        });
        attribute(oid::EXTENSION_REQUEST, &[list])
    }

    /// The request in DER, signed with this key.
    pub fn der(&self, key: &TestKey) -> Vec<u8> {
        let info = written(|writer| {
            writer.sequence(|writer| {
                writer.unsigned_u64(0);
                writer.raw(&self.subject);
                writer.raw(&self.spki);
                writer.context(0, |writer| {
                    if !self.extensions.is_empty() {
                        writer.raw(&self.extension_request());
                    }
                    self.attributes.iter().for_each(|attribute| writer.raw(attribute));
                });
            });
        });
        let signature = key.sign(&info);
        written(|writer| {
            writer.sequence(|writer| {
                writer.raw(&info);
                writer.raw(&self.algorithm);
                writer.bit_string(&signature);
            });
        })
    }

    /// The request in PEM, signed with this key.
    pub fn pem(&self, key: &TestKey) -> String {
        as_pem(&self.der(key))
    }
}

pub fn as_pem(der: &[u8]) -> String {
    pem::encode(pem::CERTIFICATE_REQUEST, der)
}

/// What a function writes.
pub fn written(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    fill(&mut writer);
    writer.into_bytes()
}

/// An attribute of a request with these values.
pub fn attribute(kind: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    written(|writer| {
        writer.sequence(|writer| {
            writer.oid(kind);
            writer.nested(tag::SET, |writer| values.iter().for_each(|value| writer.raw(value)));
        });
    })
}

/// An alternative name of this tag and these octets, whatever they are.
pub fn name(tag: u8, content: &[u8]) -> Vec<u8> {
    written(|writer| writer.primitive(tag, content))
}

/// An alternative name that is in order.
pub fn general_name(name: &GeneralName) -> Vec<u8> {
    written(|writer| name.encode(writer))
}

/// A subject of one relative distinguished name for each attribute: its kind, its string tag, its octets.
pub fn subject(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
    written(|writer| {
        writer.sequence(|writer| {
            for (kind, tag, value) in attributes {
                writer.set_of_one(|writer| {
                    writer.sequence(|writer| {
                        writer.oid(kind);
                        writer.primitive(*tag, value);
                    });
                });
            }
        });
    })
}
