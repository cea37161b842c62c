//! A certificate in the inventory, and a request for one.

use crate::{
    AuthorityCertificateId, AuthorityId, AuthorityKeyId, CertificateId, CertificateRequestId, ProfileId, ProjectId,
    SubscriberId, TemplateId, Time,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use x509::{AttributeType, Certificate, oid};

/// The status of a certificate as it is stored. Whether it has expired is read from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    /// It was issued.
    Active,
    /// It was withdrawn.
    Revoked,
}

impl CertificateStatus {
    /// The number in the database.
    pub const fn code(self) -> i64 {
        match self {
            Self::Active => 0,
            Self::Revoked => 1,
        }
    }

    /// The status of that number.
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Active),
            1 => Some(Self::Revoked),
            _ => None,
        }
    }
}

/// What a person sees: a stored status, or the end of a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownStatus {
    /// Valid now.
    Active,
    /// Past its end.
    Expired,
    /// Withdrawn.
    Revoked,
}

impl ShownStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Expired, Self::Revoked].into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for ShownStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A certificate that this server issued, or that was imported. Everything that the certificate itself says is read from its DER.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// Its id, which is also the id of the request that was answered at once.
    pub id: CertificateId,
    /// The project.
    pub project: ProjectId,
    /// The profile that it came from, and the versions of profile and policy that judged it.
    pub judged_by: Option<JudgedBy>,
    /// The authority, its key and its certificate; none for a self-signed certificate and for an imported one.
    pub issuer: Option<IssuedBy>,
    /// The stored status.
    pub status: CertificateStatus,
    /// What is known beside the certificate.
    pub details: CertificateDetails,
    /// When it was issued or imported.
    pub created_at: Time,
    /// The certificate.
    pub der: Vec<u8>,
}

/// What a certificate came from that came from no profile; neither when it came from an authority itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The template of the first family.
    pub template: Option<TemplateId>,
    /// The subscriber.
    pub subscriber: Option<SubscriberId>,
}

/// The profile of a certificate, and the versions that judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedBy {
    /// The profile.
    pub profile: ProfileId,
    /// Its version.
    pub profile_version: u32,
    /// The version of its policy.
    pub policy_version: u32,
}

/// Who signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuedBy {
    /// The authority.
    pub authority: AuthorityId,
    /// The key that signed.
    pub key: AuthorityKeyId,
    /// The certificate that the chain was built with.
    pub certificate: AuthorityCertificateId,
    /// The shard of the revocation list that the certificate names.
    pub shard: u32,
}

/// What is known of a certificate beside its content. Stored only where something differs from nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateDetails {
    /// What came with a certificate that somebody else issued; nothing for one that was issued here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportedWith>,
    /// Key usages that were asked for and that the key's algorithm cannot have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped_key_usages: Vec<String>,
    /// Free pairs of key and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<crate::identity::MetadataEntry>,
    /// The name for people, where it is not the common name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub friendly_name: Option<String>,
    /// The application that it was asked for through; it may be gone since.
    #[serde(rename = "applicationId", skip_serializing_if = "Option::is_none")]
    pub application: Option<crate::ApplicationId>,
}

/// What came with a certificate that somebody else issued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedWith {
    /// The certificates above it in PEM, its issuer first; empty when none was given.
    pub chain: String,
}

impl CertificateDetails {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the inventory keeps of a certificate beside its DER, read from that DER and from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedColumns {
    /// The contents of the serial number's INTEGER.
    pub serial: Vec<u8>,
    /// The common name, or nothing.
    pub common_name: String,
    /// The alternative names as text, in their order; none when the only one is the common name, which says it already.
    pub alt_names: Vec<String>,
    /// The beginning of the lifetime.
    pub not_before: Time,
    /// The end of the lifetime.
    pub not_after: Time,
    /// The algorithm of the key, by its wire name.
    pub key_algorithm: &'static str,
    /// The algorithm of the signature, by its wire name.
    pub signature_algorithm: &'static str,
    /// The extended key usages by their snake names, or as dotted object identifiers, in their order.
    pub extended_key_usages: Vec<String>,
    /// Whether it is the certificate of an authority.
    pub is_authority: bool,
}

impl DerivedColumns {
    /// Reads them.
    pub fn of(certificate: &Certificate) -> Self {
        let common_name = certificate.subject().first(AttributeType::CommonName).unwrap_or_default();
        let mut alt_names = alt_names(certificate);
        if alt_names == [common_name] {
            alt_names.clear();
        }
        Self {
            serial: certificate.serial_content().to_vec(),
            common_name: common_name.to_owned(),
            alt_names,
            not_before: Time::from_seconds(certificate.not_before()),
            not_after: Time::from_seconds(certificate.not_after()),
            key_algorithm: certificate.key_algorithm().map_or("", x509::KeyAlgorithm::as_str),
            signature_algorithm: certificate.signature_algorithm().map_or("", x509::SignatureAlgorithm::as_str),
            extended_key_usages: extended_key_usages(certificate),
            is_authority: is_authority(certificate),
        }
    }
}

/// How many characters of a name are looked at by a search.
pub const NAME_SEARCHED_MAX: usize = 255;

/// Signs of the first label of a name, beside letters and digits. The migration that fills the inventory has them, too.
const LABEL_SIGNS: &str = "-_*%+!#$&=?~";

/// A name as it is searched: upper-case ASCII as lower-case, and no more than [`NAME_SEARCHED_MAX`] characters.
pub fn searched_name(name: &str) -> String {
    name.chars().take(NAME_SEARCHED_MAX).map(|character| character.to_ascii_lowercase()).collect()
}

/// What follows the first label of a host's name, or the user of a mail address; nothing for other names, such as
/// addresses and URIs. Takes a [`searched_name`].
pub fn domain_of(name: &str) -> Option<&str> {
    let is_of_label = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || LABEL_SIGNS.contains(character)
    };
    let domain = match name.contains('@') {
        true => name.trim_start_matches(|character| is_of_label(character) || character == '.').strip_prefix('@'),
        false => name.trim_start_matches(is_of_label).strip_prefix('.'),
    };
    domain.filter(|domain| domain.chars().any(|character| !(character.is_ascii_digit() || character == '.')))
}

/// The serial number as it is shown everywhere: lower-case hex without separators.
pub fn serial_hex(certificate: &Certificate) -> String {
    certificate.serial_number().map(|serial| serial.to_hex()).unwrap_or_default()
}

/// The alternative names of a certificate as text, in their order.
pub fn alt_names(certificate: &Certificate) -> Vec<String> {
    match certificate.extensions().subject_alt_names() {
        Ok(Some(names)) => names.valid().map(|name| name.text().into_owned()).collect(),
        Ok(None) | Err(_) => Vec::new(),
    }
}

/// Whether a certificate is that of an authority.
pub fn is_authority(certificate: &Certificate) -> bool {
    certificate.extensions().basic_constraints().ok().flatten().is_some_and(|constraints| constraints.ca)
}

fn extended_key_usages(certificate: &Certificate) -> Vec<String> {
    let usages = certificate.extensions().extended_key_usages().ok().flatten().unwrap_or_default();
    usages.iter().map(|usage| usage.snake_name().map_or_else(|| oid::to_dotted(usage.oid()), str::to_owned)).collect()
}

/// A request that waits, or waited, for a person or another server.
#[derive(Clone, Debug)]
pub struct CertificateRequestRecord {
    /// Its id.
    pub id: CertificateRequestId,
    /// The project.
    pub project: ProjectId,
    /// The profile.
    pub profile: ProfileId,
    /// `pending`, `issued`, `failed`, … (contract §1.6).
    pub status: String,
    /// The certificate, once there is one.
    pub certificate: Option<CertificateId>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_mail_addresses_have_a_domain() {
        for (name, domain) in [
            ("www.example.com", Some("example.com")),
            ("*.example.com", Some("example.com")),
            ("100%_b.example", Some("example")),
            ("host.", None),
            (".example", Some("example")),
            ("host", None),
            ("", None),
            ("192.0.2.7", None),
            ("2001:db8::1.2", None),
            ("first.last@mail.example", Some("mail.example")),
            ("@example", Some("example")),
            ("someone@", None),
            ("a b@example.com", None),
            ("https://example.com/a", None),
            ("device 4711.a", None),
        ] {
            assert_eq!(domain_of(name), domain, "{name}");
        }
    }

    #[test]
    fn a_name_is_searched_in_lower_case_and_by_its_beginning() {
        assert_eq!(searched_name("WWW.Example.com"), "www.example.com");
        assert_eq!(searched_name(&"\u{c4}".repeat(300)), "\u{c4}".repeat(255));
    }
}
