//! Roles: the built-in ones, and the ones that a project makes for itself.
//!
//! A role is a named list of rules; what the rules mean is in `permission.rs`. The rights of the built-in roles over
//! certificates are those of the contract (§2.7); `issuer` is ours and is what a program needs that fetches
//! certificates for itself: see, issue, and be given the key.

use crate::error::Violation;
use crate::id::{ProjectId, RoleId};
use crate::permission::{Action, Rule, Subject};
use crate::slug::{SLUG_CHARACTERS, parse_slug};
use crate::time::Time;
use std::sync::LazyLock;

/// A role that every project has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuiltInRole {
    /// Every action.
    Admin,
    /// Works with certificates and profiles; does not issue from profiles and is given no keys.
    Member,
    /// Sees authorities, certificates, policies and syncs.
    Viewer,
    /// Nothing.
    NoAccess,
    /// Sees, issues, and is given the keys.
    Issuer,
}

/// A role that a project made.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomRole {
    /// Its id.
    pub id: RoleId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Its name in memberships, unique in the project and none of the built-in ones.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it grants and takes.
    pub permissions: Vec<Rule>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl BuiltInRole {
    /// Every built-in role.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Member, Self::Viewer, Self::NoAccess, Self::Issuer];

    /// Its name in memberships.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
            Self::NoAccess => "no-access",
            Self::Issuer => "issuer",
        }
    }

    /// The role of that slug.
    pub fn parse(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.slug() == slug)
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::Member => "Member",
            Self::Viewer => "Viewer",
            Self::NoAccess => "No Access",
            Self::Issuer => "Issuer",
        }
    }

    /// What it is for.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Admin => "Every right in the project",
            Self::Member => "Manages certificates and profiles, without issuing from profiles and without private keys",
            Self::Viewer => "Sees authorities, certificates, policies and syncs",
            Self::NoAccess => "No rights in the project",
            Self::Issuer => "Issues from profiles and is given the private keys",
        }
    }

    /// What it grants.
    pub fn rules(self) -> &'static [Rule] {
        match self {
            Self::Admin => &ADMIN,
            Self::Member => &MEMBER,
            Self::Viewer => &VIEWER,
            Self::NoAccess => &[],
            Self::Issuer => &ISSUER,
        }
    }
}

/// The slug of a custom role, or why it cannot be one.
pub fn parse_role_slug(text: &str) -> Result<String, Violation> {
    let slug = parse_slug(text, SLUG_CHARACTERS)
        .map_err(|problem| Violation::new("slug", "slug", format!("slug {problem}")))?;
    match BuiltInRole::parse(&slug) {
        None => Ok(slug),
        Some(_) => Err(Violation::new("slug", "built-in", format!("{slug} is a built-in role; choose another slug"))),
    }
}

static ADMIN: LazyLock<Vec<Rule>> = LazyLock::new(|| rules_of(Action::ALL));

static MEMBER: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules_of(&[
        Action::ReadAuthority,
        Action::ReadPolicy,
        Action::ReadCertificate,
        Action::CreateCertificate,
        Action::EditCertificate,
        Action::DeleteCertificate,
        Action::ImportCertificate,
        Action::ReadProfile,
        Action::CreateProfile,
        Action::EditProfile,
        Action::DeleteProfile,
        Action::ReadApplication,
        Action::ReadAlert,
        Action::ReadCollection,
        Action::ReadSubscriber,
        Action::ReadSync,
        Action::CreateSync,
        Action::EditSync,
        Action::DeleteSync,
        Action::SyncCertificates,
        Action::SyncImport,
        Action::SyncRemove,
        Action::ReadRegistry,
        Action::WriteRegistry,
        Action::PublishAsDevice,
        Action::PublishAsRegistry,
        Action::ReadProject,
        Action::ReadRole,
        Action::ReadMember,
        Action::ReadIdentity,
    ])
});

static VIEWER: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules_of(&[
        Action::ReadAuthority,
        Action::ReadCertificate,
        Action::ReadPolicy,
        Action::ReadApplication,
        Action::ReadSync,
        Action::ReadRegistry,
        Action::ReadProject,
        Action::ReadRole,
        Action::ReadMember,
        Action::ReadIdentity,
    ])
});

static ISSUER: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules_of(&[
        Action::ReadAuthority,
        Action::ReadPolicy,
        Action::ReadProfile,
        Action::ReadApplication,
        Action::IssueCertificate,
        Action::ReadCertificate,
        Action::CreateCertificate,
        Action::ReadPrivateKey,
        Action::ReadProject,
    ])
});

/// One rule for each subject of these actions.
fn rules_of(actions: &[Action]) -> Vec<Rule> {
    Subject::ALL
        .iter()
        .map(|subject| Rule::allow(*subject, actions.iter().copied()))
        .filter(|rule| !rule.actions().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::{ObjectFields, Verdict, evaluate, is_within};

    fn check(role: BuiltInRole, subject: &str, expected: &str) {
        let subject = Subject::parse(subject).unwrap();
        let allowed = subject
            .actions()
            .filter(|action| evaluate(role.rules(), *action, &ObjectFields::unknown()) == Verdict::Allowed)
            .map(Action::as_str)
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(allowed, expected, "{role:?} {subject:?}");
    }

    #[test]
    fn built_in_roles_have_the_rights_of_the_table() {
        use BuiltInRole::{Issuer, Member, NoAccess, Viewer};
        for (subject, member, viewer, issuer) in [
            ("certificate-authorities", "read", "read", "read"),
            ("certificates", "read create edit delete import", "read", "read create read-private-key"),
            ("certificate-templates", "read", "read", "read"),
            ("certificate-profiles", "read create edit delete", "", "read issue-cert"),
            ("certificate-application", "read", "read", "read"),
            ("pki-subscribers", "read", "", ""),
            ("pki-alerts", "read", "", ""),
            ("pki-collections", "read", "", ""),
            (
                "pki-syncs",
                "read create edit delete sync-certificates import-certificates remove-certificates",
                "read",
                "",
            ),
            ("project", "read", "read", "read"),
            ("role", "read", "read", ""),
            ("member", "read", "read", ""),
            ("identity", "read", "read", ""),
            ("audit-logs", "", "", ""),
        ] {
            check(Member, subject, member);
            check(Viewer, subject, viewer);
            check(Issuer, subject, issuer);
            check(NoAccess, subject, "");
        }
    }

    #[test]
    fn an_admin_may_do_everything() {
        for action in Action::ALL {
            let verdict = evaluate(BuiltInRole::Admin.rules(), *action, &ObjectFields::unknown());
            assert_eq!(verdict, Verdict::Allowed, "{action}");
        }
    }

    #[test]
    fn only_those_who_have_it_give_a_built_in_role() {
        use BuiltInRole::{Admin, Issuer, Member, NoAccess, Viewer};
        for (actor, given, expected) in [
            (Admin, Admin, true),
            (Admin, Issuer, true),
            (Member, Member, true),
            (Member, Viewer, true),
            (Member, Issuer, false),
            (Member, Admin, false),
            (Issuer, Member, false),
            (Viewer, NoAccess, true),
            (NoAccess, NoAccess, true),
            (NoAccess, Viewer, false),
        ] {
            assert_eq!(is_within(actor.rules(), given.rules()), expected, "{actor:?} {given:?}");
        }
    }

    #[test]
    fn rules_of_built_in_roles_read_back_as_they_are_shown() {
        for role in BuiltInRole::ALL {
            assert_eq!(BuiltInRole::parse(role.slug()), Some(role));
            let shown = serde_json::to_value(role.rules()).unwrap();
            assert_eq!(serde_json::from_value::<Vec<Rule>>(shown).unwrap(), role.rules());
        }
    }

    #[test]
    fn a_custom_role_does_not_take_a_built_in_name() {
        assert_eq!(parse_role_slug(" Web-Issuer "), Ok("web-issuer".to_owned()));
        for (slug, rule) in [("admin", "built-in"), (" Issuer", "built-in"), ("a b", "slug"), ("", "slug")] {
            assert_eq!(parse_role_slug(slug).map_err(|violation| violation.rule), Err(rule), "{slug}");
        }
    }
}
