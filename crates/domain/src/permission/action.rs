//! The table of subjects, actions and condition fields, with their names on the wire (contract §2.7).
//!
//! The certificate subjects are the contract's. Four subjects for managing a project follow the published API in kind
//! (`project`, `role`, `member`, `identity`), and `audit-logs` is for reading the audit. Newer names of the published
//! API mean the older action: `certificate-policies` are `certificate-templates`, `issue-ca-certificate` is `renew`,
//! `list` of authorities and of applications is `read`, `workspace` is `project`.

use std::fmt;

macro_rules! actions {
    ($($(#[$subject_doc:meta])* $subject:ident $subject_name:literal [$($field:ident)*] {
        $($(#[$doc:meta])* $action:ident $action_name:literal;)*
    })*) => {
        /// What an action is done to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Subject {
            $($(#[$subject_doc])* $subject,)*
        }

        /// One action on one subject: what a permission is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action {
            $($($(#[$doc])* $action,)*)*
        }

        impl Subject {
            /// Every subject, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$subject),*];

            /// The name on the wire: `certificate-authorities`, …
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$subject => $subject_name,)* }
            }

            /// The fields that conditions on this subject can ask about.
            pub const fn fields(self) -> &'static [Field] {
                match self { $(Self::$subject => &[$(Field::$field),*],)* }
            }
        }

        impl Action {
            /// Every action, in the order of the table.
            pub const ALL: &[Self] = &[$($(Self::$action),*),*];

            /// What the action is done to.
            pub const fn subject(self) -> Subject {
                match self { $($(Self::$action => Subject::$subject,)*)* }
            }

            /// The name on the wire, within its subject: `read`, `issue-cert`, …
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$action => $action_name,)*)* }
            }
        }
    };
}

actions! {
    /// Certificate authorities.
    Authorities "certificate-authorities" [Name] {
        /// Seeing authorities, their certificates and revocation lists.
        ReadAuthority "read";
        /// Making an authority.
        CreateAuthority "create";
        /// Changing an authority, importing its certificate.
        EditAuthority "edit";
        /// Deleting an authority.
        DeleteAuthority "delete";
        /// Renewing an authority's certificate.
        RenewAuthority "renew";
        /// Signing the certificate of a subordinate authority.
        SignIntermediate "sign-intermediate";
    }
    /// Issued certificates.
    Certificates "certificates" [CommonName AltNames SerialNumber FriendlyName Status] {
        /// Seeing certificates.
        ReadCertificate "read";
        /// Issuing or signing without a profile.
        CreateCertificate "create";
        /// Changing what is recorded about a certificate.
        EditCertificate "edit";
        /// Revoking and deleting certificates.
        DeleteCertificate "delete";
        /// Being given the private key of a certificate.
        ReadPrivateKey "read-private-key";
        /// Recording a certificate that was made elsewhere.
        ImportCertificate "import";
    }
    /// Certificate policies, also called templates.
    Policies "certificate-templates" [Name] {
        /// Seeing policies.
        ReadPolicy "read";
        /// Making a policy.
        CreatePolicy "create";
        /// Changing a policy.
        EditPolicy "edit";
        /// Deleting a policy.
        DeletePolicy "delete";
        /// Issuing from a v1 template.
        IssueFromTemplate "issue-cert";
        /// Listing what a v1 template issued.
        ListTemplateCertificates "list-certs";
    }
    /// Certificate profiles.
    Profiles "certificate-profiles" [Slug] {
        /// Seeing profiles.
        ReadProfile "read";
        /// Making a profile.
        CreateProfile "create";
        /// Changing a profile.
        EditProfile "edit";
        /// Deleting a profile.
        DeleteProfile "delete";
        /// Issuing and signing from a profile.
        IssueCertificate "issue-cert";
        /// Being shown a profile's secret for ACME account binding.
        RevealAcmeSecret "reveal-acme-eab-secret";
        /// Replacing that secret.
        RotateAcmeSecret "rotate-acme-eab-secret";
    }
    /// Applications, which group profiles and the members who issue from them.
    Applications "certificate-application" [Name] {
        /// Seeing applications, their profiles and their members.
        ReadApplication "read";
        /// Making an application.
        CreateApplication "create";
        /// Changing an application, its members and how its profiles are enrolled from.
        EditApplication "edit";
        /// Deleting an application.
        DeleteApplication "delete";
        /// Attaching profiles to an application and detaching them.
        ManageApplicationProfiles "manage-profiles";
    }
    /// Subscribers.
    Subscribers "pki-subscribers" [Name] {
        /// Seeing subscribers.
        ReadSubscriber "read";
        /// Making a subscriber.
        CreateSubscriber "create";
        /// Changing a subscriber.
        EditSubscriber "edit";
        /// Deleting a subscriber.
        DeleteSubscriber "delete";
        /// Issuing for a subscriber.
        IssueForSubscriber "issue-cert";
        /// Listing what was issued for a subscriber.
        ListSubscriberCertificates "list-certs";
    }
    /// Alerts about certificates that run out.
    Alerts "pki-alerts" [] {
        /// Seeing alerts.
        ReadAlert "read";
        /// Making an alert.
        CreateAlert "create";
        /// Changing an alert.
        EditAlert "edit";
        /// Deleting an alert.
        DeleteAlert "delete";
    }
    /// Collections of certificates.
    Collections "pki-collections" [] {
        /// Seeing collections.
        ReadCollection "read";
        /// Making a collection.
        CreateCollection "create";
        /// Changing a collection.
        EditCollection "edit";
        /// Deleting a collection.
        DeleteCollection "delete";
    }
    /// Syncs, which carry certificates to where they are used.
    Syncs "pki-syncs" [SubscriberName Name] {
        /// Seeing syncs.
        ReadSync "read";
        /// Making a sync.
        CreateSync "create";
        /// Changing a sync.
        EditSync "edit";
        /// Deleting a sync.
        DeleteSync "delete";
        /// Carrying certificates to the destination.
        SyncCertificates "sync-certificates";
        /// Fetching certificates from the destination.
        SyncImport "import-certificates";
        /// Removing certificates from the destination.
        SyncRemove "remove-certificates";
    }
    /// The project itself.
    Project "project" [] {
        /// Seeing the project.
        ReadProject "read";
        /// Changing the project.
        EditProject "edit";
        /// Deleting the project.
        DeleteProject "delete";
    }
    /// Roles of the project.
    Roles "role" [] {
        /// Seeing roles.
        ReadRole "read";
        /// Making a role.
        CreateRole "create";
        /// Changing a role.
        EditRole "edit";
        /// Deleting a role.
        DeleteRole "delete";
    }
    /// People in the project.
    Members "member" [] {
        /// Seeing members.
        ReadMember "read";
        /// Adding a member.
        CreateMember "create";
        /// Changing the roles of a member.
        EditMember "edit";
        /// Removing a member.
        DeleteMember "delete";
    }
    /// Machine identities in the project.
    Identities "identity" [IdentityId] {
        /// Seeing identities.
        ReadIdentity "read";
        /// Adding an identity.
        CreateIdentity "create";
        /// Changing an identity and its roles.
        EditIdentity "edit";
        /// Removing an identity.
        DeleteIdentity "delete";
    }
    /// The device registry: registries, devices and brokers.
    DeviceRegistry "iot" [] {
        /// Seeing registries, devices, brokers and their certificates.
        ReadRegistry "read";
        /// Making, changing and deleting them and their credentials.
        WriteRegistry "write";
        /// Publishing with the rights of a device.
        PublishAsDevice "publish-device";
        /// Publishing with the rights of a registry or a broker.
        PublishAsRegistry "publish-registry";
    }
    /// The audit.
    AuditLogs "audit-logs" [] {
        /// Reading the audit.
        ReadAudit "read";
    }
}

/// A field of an object that conditions can ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The name of an authority, a policy, an application, a subscriber or a sync.
    Name,
    /// The slug of a profile.
    Slug,
    /// The common name of a certificate.
    CommonName,
    /// The alternative names of a certificate, each one a value.
    AltNames,
    /// The serial number of a certificate, as 40 lower-case hexadecimal digits.
    SerialNumber,
    /// The friendly name of a certificate.
    FriendlyName,
    /// The status of a certificate.
    Status,
    /// The subscriber of a sync.
    SubscriberName,
    /// The id of an identity.
    IdentityId,
}

impl Subject {
    /// The subject of that name, older or newer.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "certificate-policies" => Some(Self::Policies),
            "workspace" => Some(Self::Project),
            _ => Self::ALL.iter().copied().find(|subject| subject.as_str() == text),
        }
    }

    /// The actions on this subject, in the order of the table.
    pub fn actions(self) -> impl Iterator<Item = Action> {
        Action::ALL.iter().copied().filter(move |action| action.subject() == self)
    }
}

impl Action {
    /// The action of that name on a subject, older or newer.
    pub fn parse(subject: Subject, text: &str) -> Option<Self> {
        match (subject, text) {
            (Subject::Authorities, "issue-ca-certificate") => Some(Self::RenewAuthority),
            (Subject::Authorities, "list") => Some(Self::ReadAuthority),
            (Subject::Applications, "list") => Some(Self::ReadApplication),
            _ => subject.actions().find(|action| action.as_str() == text),
        }
    }
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 9] = [
        Self::Name,
        Self::Slug,
        Self::CommonName,
        Self::AltNames,
        Self::SerialNumber,
        Self::FriendlyName,
        Self::Status,
        Self::SubscriberName,
        Self::IdentityId,
    ];

    /// The name on the wire: `name`, `altNames`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Slug => "slug",
            Self::CommonName => "commonName",
            Self::AltNames => "altNames",
            Self::SerialNumber => "serialNumber",
            Self::FriendlyName => "friendlyName",
            Self::Status => "status",
            Self::SubscriberName => "subscriberName",
            Self::IdentityId => "identityId",
        }
    }

    /// The field of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == text)
    }
}

impl fmt::Display for Action {
    /// In words for messages: `issue-cert on certificate-profiles`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} on {}", self.as_str(), self.subject().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the contract, written again, so that a slip in either shows.
    const TABLE: [(&str, &str, &str); 8] = [
        ("certificate-authorities", "read create edit delete renew sign-intermediate", "name"),
        (
            "certificates",
            "read create edit delete read-private-key import",
            "commonName altNames serialNumber friendlyName status",
        ),
        ("certificate-templates", "read create edit delete issue-cert list-certs", "name"),
        (
            "certificate-profiles",
            "read create edit delete issue-cert reveal-acme-eab-secret rotate-acme-eab-secret",
            "slug",
        ),
        ("pki-subscribers", "read create edit delete issue-cert list-certs", "name"),
        ("pki-alerts", "read create edit delete", ""),
        ("pki-collections", "read create edit delete", ""),
        (
            "pki-syncs",
            "read create edit delete sync-certificates import-certificates remove-certificates",
            "subscriberName name",
        ),
    ];

    #[test]
    fn the_certificate_subjects_have_the_actions_and_fields_of_the_contract() {
        for (subject_name, actions, fields) in TABLE {
            let subject = Subject::parse(subject_name).unwrap();
            assert_eq!(subject.as_str(), subject_name);
            assert_eq!(subject.actions().map(Action::as_str).collect::<Vec<_>>().join(" "), actions);
            assert_eq!(subject.fields().iter().map(|field| field.as_str()).collect::<Vec<_>>().join(" "), fields);
        }
    }

    #[test]
    fn names_go_both_ways() {
        for action in Action::ALL.iter().copied() {
            assert_eq!(Action::parse(action.subject(), action.as_str()), Some(action));
            assert_eq!(Subject::parse(action.subject().as_str()), Some(action.subject()));
        }
        for field in Field::ALL {
            assert_eq!(Field::parse(field.as_str()), Some(field));
        }
        assert_eq!(Subject::parse("certificate-policies"), Some(Subject::Policies));
        assert_eq!(Action::parse(Subject::Authorities, "issue-ca-certificate"), Some(Action::RenewAuthority));
        assert_eq!(Action::parse(Subject::Authorities, "list"), Some(Action::ReadAuthority));
        assert_eq!(Action::parse(Subject::Alerts, "issue-cert"), None);
        assert_eq!(Subject::parse("secrets"), None);
        assert_eq!(Action::IssueCertificate.to_string(), "issue-cert on certificate-profiles");
    }
}
