//! Identifiers: one type for each noun, so that a profile is never looked up by the id of an authority.
//!
//! All are UUIDs, version 7 when we make them (they grow with time, so the indexes over them grow at one end).

use std::fmt;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The id that this text spells, in any of the usual forms of a UUID.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }

            /// The 16 octets, as the database keeps them.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )*};
}

ids! {
    /// An organisation: the outermost tenant.
    OrganizationId;
    /// A project inside an organisation.
    ProjectId;
    /// A machine identity.
    IdentityId;
    /// The Universal Auth configuration of an identity.
    UniversalAuthId;
    /// A client secret.
    ClientSecretId;
    /// An access token.
    AccessTokenId;
    /// A membership of an identity in a project.
    MembershipId;
    /// A custom role of a project.
    RoleId;
    /// A certificate authority.
    AuthorityId;
    /// One key version of an authority.
    AuthorityKeyId;
    /// One certificate of an authority.
    AuthorityCertificateId;
    /// The revocation list record of an authority key.
    CrlId;
    /// A revocation list of an authority outside.
    ForeignListId;
    /// A certificate policy (a "template v2").
    PolicyId;
    /// A certificate profile.
    ProfileId;
    /// An application: profiles and the members who issue from them.
    ApplicationId;
    /// A profile's place in an application.
    AttachmentId;
    /// An issued certificate.
    CertificateId;
    /// An issuance request.
    CertificateRequestId;
    /// A job.
    JobId;
    /// An app connection.
    ConnectionId;
    /// A PKI sync.
    SyncId;
    /// A certificate's link to a PKI sync.
    SyncLinkId;
    /// A template of the first family.
    TemplateId;
    /// A subscriber.
    SubscriberId;
    /// A collection of certificates and authorities.
    CollectionId;
    /// A member of a collection.
    CollectionItemId;
    /// An alert.
    AlertId;
    /// A channel of an alert.
    AlertChannelId;
    /// One time that an alert had something to tell.
    AlertRunId;
    /// A message of an alert on one channel.
    AlertDeliveryId;
}
