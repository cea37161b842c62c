//! Collections (contract §7.2): certificates and authorities that are looked after together.

use crate::{AuthorityId, CertificateId, CollectionId, CollectionItemId, ProjectId, Time};
use uuid::Uuid;

/// A collection.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Its id.
    pub id: CollectionId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// What a collection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// A certificate of the inventory.
    Certificate(CertificateId),
    /// An authority.
    Authority(AuthorityId),
}

/// The kinds of [`Member`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// Certificates of the inventory.
    Certificate,
    /// Authorities.
    Authority,
}

/// A member of a collection, with what is shown of it.
#[derive(Clone, Debug)]
pub struct CollectionItem {
    /// Its id.
    pub id: CollectionItemId,
    /// The collection.
    pub collection: CollectionId,
    /// What it is.
    pub member: Member,
    /// When that begins; nothing of an authority without a certificate.
    pub not_before: Option<Time>,
    /// When that ends.
    pub not_after: Option<Time>,
    /// Its name for people.
    pub friendly_name: String,
    /// When it was put in.
    pub created_at: Time,
}

impl Member {
    /// Its kind.
    pub const fn kind(self) -> MemberKind {
        match self {
            Self::Certificate(_) => MemberKind::Certificate,
            Self::Authority(_) => MemberKind::Authority,
        }
    }

    /// The id of what it is.
    pub const fn id(self) -> Uuid {
        match self {
            Self::Certificate(id) => id.0,
            Self::Authority(id) => id.0,
        }
    }
}

impl MemberKind {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Authority => "ca",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Certificate, Self::Authority].into_iter().find(|kind| kind.as_str() == text)
    }

    /// The member of this kind with that id.
    pub const fn member(self, id: Uuid) -> Member {
        match self {
            Self::Certificate => Member::Certificate(CertificateId(id)),
            Self::Authority => Member::Authority(AuthorityId(id)),
        }
    }
}
