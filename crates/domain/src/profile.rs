//! Certificate profiles and policies: what an issuance starts from and what it is judged by. Both grow by versions.

use crate::policy::PolicyRules;
use crate::{AuthorityId, PolicyId, ProfileId, ProjectId, Time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A certificate policy (contract §5.2; the same object is called a template in the older families).
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Its name, a slug, unique in the project.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Grows with each change of the rules.
    pub version: u32,
    /// The rules.
    pub rules: PolicyRules,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// A certificate profile (contract §5.3).
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Its short name, unique in the project.
    pub slug: String,
    /// What it is for.
    pub description: Option<String>,
    /// Grows with each change.
    pub version: u32,
    /// The policy that certificates are judged by.
    pub policy: PolicyId,
    /// How clients come to certificates.
    pub enrollment: Enrollment,
    /// Everything else.
    pub document: ProfileDocument,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// How clients come to certificates of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrollment {
    /// By the REST API.
    Api,
    /// By EST (RFC 7030).
    Est,
    /// By ACME (RFC 8555).
    Acme,
}

impl Enrollment {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Est => "est",
            Self::Acme => "acme",
        }
    }

    /// The enrollment of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Api, Self::Est, Self::Acme].into_iter().find(|enrollment| enrollment.as_str() == text)
    }
}

/// Who signs the certificates of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerKind {
    /// An authority.
    Ca,
    /// The certificate's own key.
    SelfSigned,
}

impl IssuerKind {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::SelfSigned => "self-signed",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ca, Self::SelfSigned].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A profile as it is stored: one document for each version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileDocument {
    /// Who signs.
    pub issuer: IssuerKind,
    /// The authorities that sign, the preferred one first; the API shows the first.
    pub issuers: Vec<AuthorityId>,
    /// Configuration of the `api` enrollment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiEnrollment>,
    /// Configuration of the `est` enrollment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub est: Option<EstEnrollment>,
    /// Configuration of the `acme` enrollment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeEnrollment>,
    /// Values taken where a request leaves them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<ProfileDefaults>,
    /// Configuration for outside authorities, kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_configs: Option<serde_json::Value>,
}

/// Issue by the REST API, and renewal by this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiEnrollment {
    /// The id that the API shows.
    pub id: Uuid,
    /// Whether this server renews by itself.
    pub auto_renew: bool,
    /// Days before the end at which it renews, 1 to 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before_days: Option<u32>,
}

/// EST, stored now and served later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EstEnrollment {
    /// The id that the API shows.
    pub id: Uuid,
    /// Whether a client certificate from elsewhere is accepted for the first enrolment.
    pub disable_bootstrap_ca_validation: bool,
    /// Salted SHA-256 chain of the passphrase (`algorithm$salt$hash`); never the passphrase.
    pub passphrase_hash: String,
    /// The authorities whose certificates are accepted for the first enrolment, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_chain: Option<String>,
}

/// ACME, stored now and served later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmeEnrollment {
    /// The id that the API shows.
    pub id: Uuid,
    /// Whether names are taken without proof of control.
    pub skip_dns_ownership_verification: bool,
    /// Whether accounts need no external account binding.
    pub skip_eab_binding: bool,
}

/// Values taken where a request leaves them out (contract §5.3). An empty one is no default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileDefaults {
    /// Lifetime in days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_days: Option<u32>,
    /// Subject: common name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// Key algorithm by its wire name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<String>,
    /// Signature algorithm by its wire name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_algorithm: Option<String>,
    /// Key usages in snake form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_usages: Option<Vec<String>>,
    /// Extended key usages in snake form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_key_usages: Option<Vec<String>>,
    /// Whether certificates are for authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_constraints: Option<DefaultBasicConstraints>,
    /// Subject: organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Subject: organisational unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organizational_unit: Option<String>,
    /// Subject: country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Subject: state or province.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Subject: locality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
}

/// Basic constraints taken where a request leaves them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultBasicConstraints {
    /// Whether the certificate is one of an authority.
    #[serde(rename = "isCA")]
    pub is_ca: bool,
    /// How many authorities may follow.
    #[serde(rename = "pathLength", default, skip_serializing_if = "Option::is_none")]
    pub path_length: Option<u32>,
}

impl Profile {
    /// The authority that signs, when one does.
    pub fn authority(&self) -> Option<AuthorityId> {
        match self.document.issuer {
            IssuerKind::Ca => self.document.issuers.first().copied(),
            IssuerKind::SelfSigned => None,
        }
    }
}
