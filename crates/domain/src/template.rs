//! Templates of the first family (contract §5.1): what certificates of an authority may be, as two patterns, a longest
//! lifetime and two lists of usages. Policies, which are also called templates, are in `policy.rs`.

mod pattern;

pub use pattern::{NamePattern, PatternProblem};

use crate::duration::parse_ttl;
use crate::{AuthorityId, CollectionId, Error, ProjectId, Result, TemplateId, Time};
use serde::{Deserialize, Serialize};

/// A template of the first family.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its id.
    pub id: TemplateId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// The authority that signs.
    pub authority: AuthorityId,
    /// The collection that its certificates are put into.
    pub collection: Option<CollectionId>,
    /// Its name, a slug.
    pub name: String,
    /// Grows with each change; a certificate keeps the version that it was judged by.
    pub version: u32,
    /// What it says of certificates.
    pub document: TemplateDocument,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// What a template says of certificates. The names are those of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateDocument {
    /// The pattern of common names.
    pub common_name: String,
    /// The pattern of alternative names.
    pub subject_alternative_name: String,
    /// The longest lifetime, and the one that is taken when none is asked for.
    pub ttl: String,
    /// The key usages that may be, in camel form.
    pub key_usages: Vec<String>,
    /// The extended key usages that may be, in camel form.
    pub extended_key_usages: Vec<String>,
}

impl TemplateDocument {
    /// Refuses patterns and a lifetime that mean nothing.
    pub fn check(&self) -> Result<()> {
        self.common_names()?;
        self.alt_names()?;
        self.ttl_millis().map(|_| ())
    }

    /// The pattern of common names.
    pub fn common_names(&self) -> Result<NamePattern> {
        NamePattern::parse(&self.common_name).map_err(|problem| Error::invalid(format!("commonName: {problem}")))
    }

    /// The pattern of alternative names.
    pub fn alt_names(&self) -> Result<NamePattern> {
        let pattern = NamePattern::parse(&self.subject_alternative_name);
        pattern.map_err(|problem| Error::invalid(format!("subjectAlternativeName: {problem}")))
    }

    /// The longest lifetime in milliseconds.
    pub fn ttl_millis(&self) -> Result<i64> {
        parse_ttl(&self.ttl).map_err(|problem| Error::invalid(format!("ttl: {problem}")))
    }
}
