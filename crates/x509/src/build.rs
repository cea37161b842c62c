//! The to-be-signed form of a certificate, out of typed fields (RFC 5280 §4.1.2, §4.2).
//!
//! Building cannot fail: what a field may hold is in its type. Whether the whole keeps a profile's policy is judged on
//! the octets that come out, read back with [`crate::TbsCertificate`].

use crate::algorithm::SignatureAlgorithm;
use crate::certificate::TbsCertificate;
use crate::der::Writer;
use crate::error::ParseError;
use crate::extension::{
    AuthorityInformationAccess, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies, Criticality,
    ExtendedKeyUsage, KeyUsages, NameConstraints, encode_crl_urls, encode_extended_key_usages, encode_extension,
};
use crate::general_name::GeneralName;
use crate::name::DistinguishedName;
use crate::oid;
use crate::serial::SerialNumber;
use crate::signed;
use crate::uri::Uri;

/// The fields of a certificate. Those without a value are left out.
#[derive(Clone, Debug)]
pub struct CertificateTemplate<'a> {
    /// The serial number.
    pub serial_number: SerialNumber,
    /// The algorithm that it will be signed with.
    pub signature_algorithm: SignatureAlgorithm,
    /// The DER of the issuer: octet by octet the subject of the issuer's certificate.
    pub issuer_der: &'a [u8],
    /// The first second of the validity, in seconds since the epoch.
    pub not_before: i64,
    /// The last second of the validity, in seconds since the epoch.
    pub not_after: i64,
    /// The subject.
    pub subject: &'a DistinguishedName,
    /// The SubjectPublicKeyInfo of the subject's key.
    pub spki_der: &'a [u8],
    /// basicConstraints.
    pub basic_constraints: Option<(BasicConstraints, Criticality)>,
    /// keyUsage, critical (RFC 5280 §4.2.1.3); absent when empty.
    pub key_usages: KeyUsages,
    /// extKeyUsage, not critical unless it is timeStamping alone; absent when empty.
    pub extended_key_usages: &'a [ExtendedKeyUsage],
    /// The key identifier of the subject.
    pub subject_key_id: Option<&'a [u8]>,
    /// The key identifier of the issuer, as it is in the issuer's certificate.
    pub authority_key_id: Option<&'a [u8]>,
    /// subjectAltName, critical when the subject is empty (RFC 5280 §4.2.1.6); absent when empty.
    pub subject_alt_names: &'a [GeneralName],
    /// nameConstraints, critical (RFC 5280 §4.2.1.10).
    pub name_constraints: Option<&'a NameConstraints>,
    /// certificatePolicies, as contents octets of object identifiers; absent when empty.
    pub policies: &'a [&'a [u8]],
    /// The URIs of the revocation list of the issuer; absent when empty.
    pub crl_urls: &'a [Uri],
    /// The URIs of OCSP responders.
    pub ocsp_urls: &'a [Uri],
    /// The URIs of the certificate of the issuer.
    pub ca_issuers_urls: &'a [Uri],
    /// Extensions of other kinds, after all others, in this order.
    pub other_extensions: &'a [OtherExtension],
}

/// An extension that this crate has no type for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherExtension {
    /// The contents octets of its object identifier.
    pub oid: Vec<u8>,
    /// Whether it is critical.
    pub criticality: Criticality,
    /// The DER of its value: the contents of extnValue.
    pub value: Vec<u8>,
}

/// The fields that every certificate has, by name; the others of a [`CertificateTemplate`] are empty to begin with.
#[derive(Clone, Copy, Debug)]
pub struct RequiredFields<'a> {
    /// The serial number.
    pub serial_number: SerialNumber,
    /// The algorithm that it will be signed with.
    pub signature_algorithm: SignatureAlgorithm,
    /// The DER of the issuer.
    pub issuer_der: &'a [u8],
    /// The first second of the validity, in seconds since the epoch.
    pub not_before: i64,
    /// The last second of the validity, in seconds since the epoch.
    pub not_after: i64,
    /// The subject.
    pub subject: &'a DistinguishedName,
    /// The SubjectPublicKeyInfo of the subject's key.
    pub spki_der: &'a [u8],
}

impl<'a> CertificateTemplate<'a> {
    /// A certificate with these fields and no extension.
    pub fn new(fields: RequiredFields<'a>) -> Self {
        Self {
            serial_number: fields.serial_number,
            signature_algorithm: fields.signature_algorithm,
            issuer_der: fields.issuer_der,
            not_before: fields.not_before,
            not_after: fields.not_after,
            subject: fields.subject,
            spki_der: fields.spki_der,
            basic_constraints: None,
            key_usages: KeyUsages::NONE,
            extended_key_usages: &[],
            subject_key_id: None,
            authority_key_id: None,
            subject_alt_names: &[],
            name_constraints: None,
            policies: &[],
            crl_urls: &[],
            ocsp_urls: &[],
            ca_issuers_urls: &[],
            other_extensions: &[],
        }
    }

    /// The TBSCertificate.
    pub fn to_be_signed(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(1024 + self.spki_der.len());
        writer.sequence(|writer| {
            writer.context(0, |writer| writer.unsigned_u64(2));
            writer.unsigned(self.serial_number.octets());
            signed::encode_algorithm(self.signature_algorithm, writer);
            writer.raw(self.issuer_der);
            writer.sequence(|writer| {
                writer.time(self.not_before);
                writer.time(self.not_after);
            });
            writer.raw(self.subject.as_der());
            writer.raw(self.spki_der);
            if self.has_extensions() {
                writer.context(3, |writer| writer.sequence(|writer| self.encode_extensions(writer)));
            }
        });
        writer.into_bytes()
    }

    fn has_extensions(&self) -> bool {
        let lists = [
            self.extended_key_usages.is_empty(),
            self.subject_alt_names.is_empty(),
            self.policies.is_empty(),
            self.crl_urls.is_empty(),
            self.ocsp_urls.is_empty(),
            self.ca_issuers_urls.is_empty(),
            self.other_extensions.is_empty(),
            self.key_usages.is_empty(),
        ];
        lists.contains(&false)
            || self.basic_constraints.is_some()
            || self.subject_key_id.is_some()
            || self.authority_key_id.is_some()
            || self.name_constraints.is_some()
    }

    fn encode_extensions(&self, writer: &mut Writer) {
        self.encode_usage(writer);
        self.encode_names(writer);
        self.encode_issuer_places(writer);
        for extension in self.other_extensions {
            encode_extension(writer, &extension.oid, extension.criticality, |writer| writer.raw(&extension.value));
        }
    }

    /// basicConstraints, keyUsage, extKeyUsage, certificatePolicies.
    fn encode_usage(&self, writer: &mut Writer) {
        if let Some((constraints, criticality)) = self.basic_constraints {
            encode_extension(writer, oid::BASIC_CONSTRAINTS, criticality, |writer| constraints.encode(writer));
        }
        if !self.key_usages.is_empty() {
            encode_extension(writer, oid::KEY_USAGE, Criticality::Critical, |writer| self.key_usages.encode(writer));
        }
        if !self.extended_key_usages.is_empty() {
            // RFC 3161 §2.3: the certificate of a time-stamping authority has this usage alone, and critical.
            let criticality = match self.extended_key_usages {
                [ExtendedKeyUsage::TimeStamping] => Criticality::Critical,
                _ => Criticality::NonCritical,
            };
            encode_extension(writer, oid::EXTENDED_KEY_USAGE, criticality, |writer| {
                encode_extended_key_usages(self.extended_key_usages, writer);
            });
        }
        if !self.policies.is_empty() {
            encode_extension(writer, oid::CERTIFICATE_POLICIES, Criticality::NonCritical, |writer| {
                CertificatePolicies::encode_oids(self.policies, writer);
            });
        }
    }

    /// subjectKeyIdentifier, authorityKeyIdentifier, subjectAltName, nameConstraints.
    fn encode_names(&self, writer: &mut Writer) {
        if let Some(key_id) = self.subject_key_id {
            encode_extension(writer, oid::SUBJECT_KEY_IDENTIFIER, Criticality::NonCritical, |writer| {
                writer.octet_string(key_id);
            });
        }
        if let Some(key_id) = self.authority_key_id {
            encode_extension(writer, oid::AUTHORITY_KEY_IDENTIFIER, Criticality::NonCritical, |writer| {
                AuthorityKeyIdentifier::encode_key_id(key_id, writer);
            });
        }
        if !self.subject_alt_names.is_empty() {
            let criticality = if self.subject.is_empty() { Criticality::Critical } else { Criticality::NonCritical };
            encode_extension(writer, oid::SUBJECT_ALT_NAME, criticality, |writer| {
                writer.sequence(|writer| self.subject_alt_names.iter().for_each(|name| name.encode(writer)));
            });
        }
        if let Some(constraints) = self.name_constraints {
            encode_extension(writer, oid::NAME_CONSTRAINTS, Criticality::Critical, |writer| {
                constraints.encode(writer);
            });
        }
    }

    /// cRLDistributionPoints, authorityInfoAccess.
    fn encode_issuer_places(&self, writer: &mut Writer) {
        if !self.crl_urls.is_empty() {
            encode_extension(writer, oid::CRL_DISTRIBUTION_POINTS, Criticality::NonCritical, |writer| {
                encode_crl_urls(self.crl_urls, writer);
            });
        }
        if !self.ocsp_urls.is_empty() || !self.ca_issuers_urls.is_empty() {
            encode_extension(writer, oid::AUTHORITY_INFORMATION_ACCESS, Criticality::NonCritical, |writer| {
                AuthorityInformationAccess::encode_urls(self.ocsp_urls, self.ca_issuers_urls, writer);
            });
        }
    }
}

/// Puts a TBSCertificate and its signature together.
pub fn assemble_certificate(tbs: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    signed::assemble(tbs, algorithm, signature)
}

/// Reads a TBSCertificate back: policy is judged on these octets.
pub fn parse_tbs(tbs: &[u8]) -> Result<TbsCertificate, ParseError> {
    TbsCertificate::from_der(tbs.to_vec())
}
