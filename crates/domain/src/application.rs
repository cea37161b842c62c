//! Applications: the profiles that a team uses, how it comes to certificates of each, and what its members may do
//! (contract §8, syncs §4.5).

use crate::permission::{Action, Field, Rule, Subject};
use crate::profile::{ApiEnrollment, EstEnrollment};
use crate::{ApplicationId, AttachmentId, IdentityId, MembershipId, ProfileId, ProjectId, Time};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The length of an application's name.
pub const APPLICATION_NAME_CHARACTERS: RangeInclusive<usize> = 1..=64;
/// How many profiles an application has at most.
pub const PROFILES_OF_APPLICATION_MAX: usize = 100;
/// How many members an application has at most.
pub const MEMBERS_OF_APPLICATION_MAX: usize = 500;
/// How many days before its end a certificate is renewed by itself, when that is wanted and no number was sent.
pub const RENEW_BEFORE_DAYS: u32 = 7;

/// An application.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Its name, a slug, unique in the project.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// One more at each change; 1 at first.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// A profile that is attached to an application.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// The project of both.
    pub project: ProjectId,
    /// The application.
    pub application: ApplicationId,
    /// The profile.
    pub profile: ProfileId,
    /// How certificates are come to.
    pub enrollment: ApplicationEnrollment,
    /// One more at each change; 1 at first.
    pub version: i64,
    /// When it was attached.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// How certificates of an attached profile are come to through the application. Its serde form is the stored document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationEnrollment {
    /// By the REST API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiEnrollment>,
    /// By EST: stored now and served later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub est: Option<EstEnrollment>,
}

/// An identity's membership of an application.
#[derive(Clone, Debug)]
pub struct ApplicationMember {
    /// Its id.
    pub id: MembershipId,
    /// The project of the application.
    pub project: ProjectId,
    /// The application.
    pub application: ApplicationId,
    /// The member.
    pub identity: IdentityId,
    /// The role.
    pub role: ApplicationRole,
    /// When it became a member.
    pub created_at: Time,
    /// When its role was last changed.
    pub updated_at: Time,
}

/// What a member may do with an application and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplicationRole {
    /// Configures the application and its members, and all that an operator does.
    Admin,
    /// Issues, renews and revokes, and is given the keys.
    Operator,
    /// Sees.
    Auditor,
}

impl ApplicationRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Operator, Self::Auditor];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// What it grants over the application, the certificates that were made through it, and the profiles of these slugs,
    /// which are those that are attached.
    pub fn rules(self, profiles: &[String]) -> Vec<Rule> {
        let (application, certificates, of_profiles): (&[Action], &[Action], &[Action]) = match self {
            Self::Admin => (
                &[Action::ReadApplication, Action::EditApplication, Action::DeleteApplication],
                OPERATED,
                &[Action::ReadProfile, Action::IssueCertificate],
            ),
            Self::Operator => (&[Action::ReadApplication], OPERATED, &[Action::ReadProfile, Action::IssueCertificate]),
            Self::Auditor => (&[Action::ReadApplication], &[Action::ReadCertificate], &[Action::ReadProfile]),
        };
        vec![
            Rule::allow(Subject::Applications, application.iter().copied()),
            Rule::allow(Subject::Certificates, certificates.iter().copied()),
            Rule::allow_where(Subject::Profiles, of_profiles.iter().copied(), Field::Slug, profiles.to_vec()),
        ]
    }
}

const OPERATED: &[Action] =
    &[Action::ReadCertificate, Action::EditCertificate, Action::DeleteCertificate, Action::ReadPrivateKey];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{ApplicationAccess, Caller};
    use crate::permission::{ObjectFields, is_within};
    use crate::role::BuiltInRole;
    use std::collections::HashMap;
    use std::sync::Arc;
    use uuid::Uuid;

    fn slugs(slugs: &[&str]) -> Vec<String> {
        slugs.iter().map(|slug| (*slug).to_owned()).collect()
    }

    #[test]
    fn a_role_reaches_the_attached_profiles_and_no_others() {
        let (project, application) = (ProjectId(Uuid::from_u128(1)), ApplicationId(Uuid::from_u128(2)));
        for (role, issues, edits) in [
            (ApplicationRole::Admin, true, true),
            (ApplicationRole::Operator, true, false),
            (ApplicationRole::Auditor, false, false),
        ] {
            assert_eq!(ApplicationRole::parse(role.as_str()), Some(role));
            let access = ApplicationAccess { project, rules: role.rules(&slugs(&["web", "mail"])).into() };
            let caller = Caller {
                applications: Arc::new(HashMap::from([(application, access)])),
                ..Caller::node(crate::OrganizationId(Uuid::from_u128(3)))
            };
            let about = |slug: &str| ObjectFields::with(Field::Slug, slug);
            let within = caller.within(Some(application));
            assert_eq!(within.can(project, Action::IssueCertificate, &about("mail")), issues, "{role:?}");
            assert!(within.can(project, Action::ReadProfile, &about("web")));
            for action in [Action::ReadProfile, Action::IssueCertificate] {
                assert!(!within.can(project, action, &about("other")), "{role:?}");
                assert!(!within.can(project, action, &ObjectFields::unknown()), "{role:?}");
            }
            assert_eq!(within.can(project, Action::EditApplication, &about("x")), edits, "{role:?}");
            assert!(!within.can(project, Action::ManageApplicationProfiles, &about("x")), "{role:?}");
            // Outside of the application it is nobody.
            assert!(caller.rules(project).is_err());
            assert!(caller.within(None).rules(project).is_err());
            assert!(caller.within(Some(ApplicationId(Uuid::from_u128(9)))).rules(project).is_err());
        }
    }

    #[test]
    fn rules_of_the_project_stand_beside_those_of_the_application() {
        let (project, application) = (ProjectId(Uuid::from_u128(1)), ApplicationId(Uuid::from_u128(2)));
        let access = ApplicationAccess { project, rules: ApplicationRole::Operator.rules(&slugs(&["web"])).into() };
        let forbidding = serde_json::json!({"subject": "certificates", "action": "read-private-key", "inverted": true});
        let of_project = [
            BuiltInRole::Viewer.rules(),
            &[Rule::parse(&forbidding).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))],
        ]
        .concat();
        let caller = Caller {
            projects: Arc::new(HashMap::from([(project, of_project.into())])),
            applications: Arc::new(HashMap::from([(application, access)])),
            ..Caller::node(crate::OrganizationId(Uuid::from_u128(3)))
        };
        let within = caller.within(Some(application));
        assert!(within.can_always(project, Action::ReadPolicy));
        assert!(within.can_always(project, Action::DeleteCertificate));
        // What the project takes, no application gives.
        assert!(!within.can(project, Action::ReadPrivateKey, &ObjectFields::unknown()));
        assert!(!caller.can(project, Action::DeleteCertificate, &ObjectFields::unknown()));
    }

    #[test]
    fn nobody_gives_a_greater_role_than_their_own() {
        use ApplicationRole::{Admin, Auditor, Operator};
        let profiles = slugs(&["web"]);
        for (actor, given, expected) in [
            (Admin, Admin, true),
            (Admin, Operator, true),
            (Operator, Admin, false),
            (Operator, Auditor, true),
            (Auditor, Operator, false),
        ] {
            assert_eq!(is_within(&actor.rules(&profiles), &given.rules(&profiles)), expected, "{actor:?} {given:?}");
        }
        assert!(is_within(BuiltInRole::Admin.rules(), &Admin.rules(&profiles)));
        assert!(!is_within(BuiltInRole::Member.rules(), &Operator.rules(&profiles)));
    }
}
