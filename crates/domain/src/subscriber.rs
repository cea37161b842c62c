//! Subscribers (contract §7.1): somebody who is given certificates of one name by one authority, again and again.

use crate::duration::parse_ttl;
use crate::policy::SubjectAttribute;
use crate::{AuthorityId, Error, ProjectId, Result, SubscriberId, Time};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The length of a subscriber's name.
pub const SUBSCRIBER_NAME_CHARACTERS: RangeInclusive<usize> = 1..=64;

/// A subscriber.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its id.
    pub id: SubscriberId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// The authority that signs.
    pub authority: AuthorityId,
    /// Its name, a slug, unique in the project.
    pub name: String,
    /// Whether it is given certificates.
    pub status: SubscriberStatus,
    /// Grows with each change; a certificate keeps the version that it was judged by.
    pub version: u32,
    /// What its certificates say.
    pub document: SubscriberDocument,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// Whether a subscriber is given certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberStatus {
    /// It is.
    Active,
    /// It is not.
    Disabled,
}

/// What the certificates of a subscriber say. The names are those of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriberDocument {
    /// The common name.
    pub common_name: String,
    /// How long a certificate lives.
    pub ttl: String,
    /// The alternative names, each of whatever type it looks like.
    pub subject_alternative_names: Vec<String>,
    /// The key usages, in camel form.
    pub key_usages: Vec<String>,
    /// The extended key usages, in camel form.
    pub extended_key_usages: Vec<String>,
    /// Whether its certificates are renewed by this server.
    pub enable_auto_renewal: bool,
    /// How many days before their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_renewal_period_in_days: Option<u32>,
    /// The rest of the subject.
    #[serde(default)]
    pub properties: SubscriberProperties,
}

/// The rest of a subscriber's subject, and what is only kept for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriberProperties {
    /// The template of an authority outside; kept, and not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_template_type: Option<String>,
    /// Subject: organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Subject: organisational unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organizational_unit: Option<String>,
    /// Subject: country, two capital letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Subject: state or province.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Subject: locality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
    /// An address to reach somebody; kept, and in no certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_address: Option<String>,
}

impl SubscriberStatus {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled].into_iter().find(|status| status.as_str() == text)
    }
}

impl Subscriber {
    /// Refuses one that is given no certificates.
    pub fn must_be_active(&self) -> Result<()> {
        match self.status {
            SubscriberStatus::Active => Ok(()),
            SubscriberStatus::Disabled => Err(Error::wrong_state(format!("the subscriber {} is disabled", self.name))),
        }
    }

    /// How many days before its end a certificate is renewed by this server, if it is.
    pub fn renew_before_days(&self) -> Option<u32> {
        match (self.status, self.document.enable_auto_renewal) {
            (SubscriberStatus::Active, true) => self.document.auto_renewal_period_in_days,
            (SubscriberStatus::Active | SubscriberStatus::Disabled, _) => None,
        }
    }
}

impl SubscriberDocument {
    /// How long a certificate lives, in milliseconds.
    pub fn ttl_millis(&self) -> Result<i64> {
        parse_ttl(&self.ttl).map_err(|problem| Error::invalid(format!("ttl: {problem}")))
    }

    /// The subject, in the order of contract §1.8.
    pub fn subject(&self) -> Vec<(SubjectAttribute, String)> {
        let properties = &self.properties;
        let parts = [
            (SubjectAttribute::Country, properties.country.as_ref()),
            (SubjectAttribute::Organization, properties.organization.as_ref()),
            (SubjectAttribute::OrganizationalUnit, properties.organizational_unit.as_ref()),
            (SubjectAttribute::State, properties.state.as_ref()),
            (SubjectAttribute::CommonName, Some(&self.common_name)),
            (SubjectAttribute::Locality, properties.locality.as_ref()),
        ];
        let named = parts.into_iter().filter_map(|(kind, value)| Some((kind, value?.clone())));
        named.filter(|(_, value)| !value.is_empty()).collect()
    }
}
