//! Certificate authorities: an authority, its keys and its certificates are three nouns, since several certificates may
//! exist for one key (renewed, cross-signed) and several keys for one authority (rollover).

use crate::{AuthorityCertificateId, AuthorityId, AuthorityKeyId, CrlId, ProjectId, Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use x509::KeyAlgorithm;

/// Where an authority stands in the hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityKind {
    /// Signs its own certificate.
    Root,
    /// Is certified by a parent, ours or an outside one.
    Intermediate,
}

impl AuthorityKind {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Root, Self::Intermediate].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What an authority can do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityStatus {
    /// It issues.
    Active,
    /// It was switched off; lists are still signed.
    Disabled,
    /// It has a key and no certificate yet.
    PendingCertificate,
}

impl AuthorityStatus {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::PendingCertificate => "pending-certificate",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled, Self::PendingCertificate].into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for AuthorityStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A certificate authority.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its id.
    pub id: AuthorityId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Its short name, unique in the project.
    pub name: String,
    /// Root or intermediate.
    pub kind: AuthorityKind,
    /// What it can do.
    pub status: AuthorityStatus,
    /// Whether it issues without a template or profile.
    pub enable_direct_issuance: bool,
    /// The algorithm of its active key.
    pub key_algorithm: KeyAlgorithm,
    /// What it was made with.
    pub configuration: AuthorityConfiguration,
    /// Path length of the active certificate, or the one asked for while there is none.
    pub path_length_max: Option<u32>,
    /// Serial number of the active certificate, in hex.
    pub serial_number: Option<String>,
    /// When the active certificate begins.
    pub not_before: Option<Time>,
    /// When the active certificate ends.
    pub not_after: Option<Time>,
    /// The key that signs now.
    pub active_key: AuthorityKeyId,
    /// The certificate that chains are built with.
    pub active_certificate: Option<AuthorityCertificateId>,
    /// The authority of this project that certified it.
    pub parent: Option<AuthorityId>,
    /// Grows with each change; a commit names the version that it was decided on.
    pub version: u32,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// What an authority was made with: its subject and what its certificate shall say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorityConfiguration {
    /// A name for people.
    pub friendly_name: String,
    /// Subject: common name.
    pub common_name: String,
    /// Subject: organisation.
    pub organization: String,
    /// Subject: organisational unit.
    pub ou: String,
    /// Subject: country, two letters.
    pub country: String,
    /// Subject: state or province.
    pub province: String,
    /// Subject: locality.
    pub locality: String,
    /// Names that certificates below it may and may not have.
    #[serde(skip_serializing_if = "NameConstraintsConfiguration::is_empty")]
    pub name_constraints: NameConstraintsConfiguration,
    /// Certificate policies in its certificate, as dotted OIDs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_oids: Vec<String>,
    /// Extended key usages in its certificate, in snake form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extended_key_usages: Vec<String>,
    /// The base of the URLs that its certificates carry, in place of the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publication_url: Option<String>,
    /// Whether it is told who asks what became of its certificates.
    #[serde(skip_serializing_if = "Switch::is_on")]
    pub ocsp: Switch,
}

/// Whether something is done that is done unless it was turned off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// It is done.
    #[default]
    On,
    /// It is not.
    Off,
}

impl Switch {
    /// Whether it is done.
    pub fn is_on(&self) -> bool {
        match self {
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// Name constraints as they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameConstraintsConfiguration {
    /// Names must lie in one of these, kind by kind.
    pub permitted: Vec<ConstrainedName>,
    /// Names must lie in none of these.
    pub excluded: Vec<ConstrainedName>,
}

/// One subtree of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConstrainedName {
    /// `dns_name`, `ip_address` (CIDR), `email`, `uri` or `directory_name`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The subtree.
    pub value: String,
}

impl NameConstraintsConfiguration {
    /// Whether nothing is constrained.
    pub fn is_empty(&self) -> bool {
        self.permitted.is_empty() && self.excluded.is_empty()
    }
}

/// One key version of an authority. The private half is sealed, or lives with a provider.
#[derive(Clone, Debug)]
pub struct AuthorityKey {
    /// Its id.
    pub id: AuthorityKeyId,
    /// The authority.
    pub authority: AuthorityId,
    /// The project.
    pub project: ProjectId,
    /// 1 for the first key.
    pub version: u32,
    /// Where the private half lives.
    pub provider: KeyProvider,
    /// How the provider calls it.
    pub handle: Option<String>,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// The public half, SubjectPublicKeyInfo in DER.
    pub spki: Vec<u8>,
    /// The private half, sealed, when the provider is `software`.
    pub sealed: Option<Vec<u8>>,
    /// The data key that seals it.
    pub data_key_version: u32,
    /// Whether the private half may ever be handed out.
    pub is_exportable: bool,
    /// The subject that certificates under this key name as their issuer.
    pub issuer_name_id: i64,
    /// The record of its revocation list, shard 0.
    pub crl: CrlId,
}

/// Where the private half of an authority key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProvider {
    /// In our database, sealed.
    Software,
}

impl KeyProvider {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Software => "software",
        }
    }

    /// The provider of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Software].into_iter().find(|provider| provider.as_str() == text)
    }
}

/// One certificate of an authority.
#[derive(Clone, Debug)]
pub struct AuthorityCertificate {
    /// Its id.
    pub id: AuthorityCertificateId,
    /// The authority.
    pub authority: AuthorityId,
    /// The project.
    pub project: ProjectId,
    /// The key that it certifies.
    pub key: AuthorityKeyId,
    /// 1 for the first certificate.
    pub version: u32,
    /// The certificate.
    pub der: Vec<u8>,
    /// The parents in PEM, the direct issuer first; empty for a root.
    pub chain: String,
    /// The certificate of ours that issued it.
    pub parent_certificate: Option<AuthorityCertificateId>,
    /// When it was stored.
    pub created_at: Time,
}
