//! Who asks. A caller is made by authentication and carries everything that a permission check needs.
//!
//! The organisation always comes from here, never from a request.

use crate::permission::{Action, ObjectFields, Rule, Verdict, evaluate, is_possible};
use crate::role::BuiltInRole;
use crate::{AccessTokenId, ApplicationId, Error, IdentityId, OrganizationId, ProjectId, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// The kind of thing that acts. The audit names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// A machine identity with an access token.
    Identity,
    /// A person.
    User,
    /// A registered device.
    Device,
    /// An ACME account.
    Acme,
    /// An EST client.
    Est,
    /// A SCEP client.
    Scep,
    /// This server itself.
    Node,
}

impl ActorKind {
    /// The name in the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::User => "user",
            Self::Device => "device",
            Self::Acme => "acme",
            Self::Est => "est",
            Self::Scep => "scep",
            Self::Node => "node",
        }
    }
}

/// Who acts, by what credential, from where.
#[derive(Clone, Debug)]
pub struct Actor {
    /// What kind of thing acts.
    pub kind: ActorKind,
    /// Its id.
    pub id: Option<Uuid>,
    /// How it proved who it is, for example `universal-auth`.
    pub method: &'static str,
    /// The credential that it used.
    pub credential: Option<Uuid>,
    /// The address that it came from.
    pub address: Option<IpAddr>,
}

/// The role of an identity in its organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrganizationRole {
    /// May do everything in the organisation itself.
    Admin,
    /// May read identities and create projects.
    Member,
    /// May use only the projects that it is a member of.
    NoAccess,
}

impl OrganizationRole {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::NoAccess => "no-access",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::Member, Self::NoAccess].into_iter().find(|role| role.as_str() == text)
    }
}

/// An authenticated caller: an identity, its organisation, and its rules in each project that it is a member of.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who acts.
    pub actor: Actor,
    /// The organisation that every look-up stays in.
    pub organization: OrganizationId,
    /// The role in the organisation.
    pub organization_role: OrganizationRole,
    /// The project that is meant when a request names none.
    pub default_project: Option<ProjectId>,
    /// The rules of each project that the caller is a member of.
    pub projects: Arc<HashMap<ProjectId, Arc<[Rule]>>>,
    /// The applications that the caller is a member of.
    pub applications: Arc<HashMap<ApplicationId, ApplicationAccess>>,
}

/// What a member of an application may do with what belongs to it.
#[derive(Clone, Debug)]
pub struct ApplicationAccess {
    /// The project of the application.
    pub project: ProjectId,
    /// The rules of the member's role there.
    pub rules: Arc<[Rule]>,
}

impl Caller {
    /// The server itself, acting in one organisation.
    pub fn node(organization: OrganizationId) -> Self {
        Self {
            actor: Actor { kind: ActorKind::Node, id: None, method: "internal", credential: None, address: None },
            organization,
            organization_role: OrganizationRole::Admin,
            default_project: None,
            projects: Arc::new(HashMap::new()),
            applications: Arc::new(HashMap::new()),
        }
    }

    /// The server itself, acting in one project.
    pub fn node_administering(organization: OrganizationId, project: ProjectId) -> Self {
        let rules = HashMap::from([(project, Arc::from(BuiltInRole::Admin.rules()))]);
        Self { projects: Arc::new(rules), ..Self::node(organization) }
    }

    /// The identity, when the caller is one.
    pub fn identity(&self) -> Option<IdentityId> {
        match self.actor.kind {
            ActorKind::Identity => self.actor.id.map(IdentityId),
            ActorKind::User
            | ActorKind::Device
            | ActorKind::Acme
            | ActorKind::Est
            | ActorKind::Scep
            | ActorKind::Node => None,
        }
    }

    /// The access token that was used, when one was.
    pub fn access_token(&self) -> Option<AccessTokenId> {
        self.identity().and(self.actor.credential).map(AccessTokenId)
    }

    /// The caller towards an application and what was made through it: with the rules of its membership there beside
    /// those of the project. To be asked about that application's objects, and about no others of the project.
    pub fn within(&self, application: Option<ApplicationId>) -> Cow<'_, Self> {
        let Some(access) = application.and_then(|id| self.applications.get(&id)) else { return Cow::Borrowed(self) };
        let of_project = self.projects.get(&access.project).map(|rules| &**rules).unwrap_or_default();
        let rules: Arc<[Rule]> = of_project.iter().chain(&*access.rules).cloned().collect();
        let mut projects = (*self.projects).clone();
        projects.insert(access.project, rules);
        Cow::Owned(Self { projects: Arc::new(projects), ..self.clone() })
    }

    /// Whether the caller is a member of some application of a project.
    pub fn has_applications_in(&self, project: ProjectId) -> bool {
        self.applications.values().any(|access| access.project == project)
    }

    /// The caller's rules in a project of the caller's organisation.
    pub fn rules(&self, project: ProjectId) -> Result<&[Rule]> {
        match self.projects.get(&project) {
            Some(rules) => Ok(rules),
            None => Err(Error::not_a_member(format!("you are not a member of project {project}"))),
        }
    }

    /// Refuses unless the caller may do this to this object of the project.
    pub fn may(&self, project: ProjectId, action: Action, fields: &ObjectFields) -> Result<()> {
        match evaluate(self.rules(project)?, action, fields) {
            Verdict::Allowed => Ok(()),
            Verdict::Denied { considered } => Err(denied(action, considered)),
        }
    }

    /// Like [`Self::can`], for objects whose fields cost something to find: they are found only when a rule asks.
    pub fn can_with(&self, project: ProjectId, action: Action, fields: impl FnOnce() -> ObjectFields) -> bool {
        self.can_always(project, action) || self.can(project, action, &fields())
    }

    /// Whether the caller may do this to every object of the project, whatever it is.
    pub fn can_always(&self, project: ProjectId, action: Action) -> bool {
        let Ok(rules) = self.rules(project) else { return false };
        let mut named = rules.iter().filter(|rule| rule.names(action));
        named.clone().all(|rule| !rule.is_inverted()) && named.any(|rule| rule.conditions().is_empty())
    }

    /// Whether the caller may do this to this object of the project; no membership means no.
    pub fn can(&self, project: ProjectId, action: Action, fields: &ObjectFields) -> bool {
        self.may(project, action, fields).is_ok()
    }

    /// Refuses unless there is some object of the project that the caller may do this to: for lists, which then show
    /// only those.
    pub fn may_some(&self, project: ProjectId, action: Action) -> Result<()> {
        if is_possible(self.rules(project)?, action) {
            return Ok(());
        }
        self.may(project, action, &ObjectFields::unknown())
    }

    /// Refuses unless the caller administers the organisation.
    pub fn must_administer_organization(&self, what: &str) -> Result<()> {
        match self.organization_role {
            OrganizationRole::Admin => Ok(()),
            OrganizationRole::Member | OrganizationRole::NoAccess => {
                Err(Error::permission_denied(format!("only an admin of the organisation may {what}")))
            }
        }
    }
}

fn denied(action: Action, considered: Vec<&Rule>) -> Error {
    let mut refusal = crate::Refusal::new(
        crate::Reason::PermissionDenied,
        format!("your role does not allow {} on {}", action.as_str(), action.subject().as_str()),
    );
    refusal.considered = considered.into_iter().cloned().collect();
    refusal.into()
}
