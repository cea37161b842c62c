//! Who may do what in a project: memberships and custom roles (contract §2.6, 2.7).

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::visible::VisiblePage;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::identity::{Identity, Membership, Project, RoleAssignment};
use domain::permission::{Action, Field, ObjectFields, Rule, is_within};
use domain::role::{BuiltInRole, CustomRole, parse_role_slug};
use domain::{Error, IdentityId, ProjectId, Result};
use serde_json::json;
use store::{Changes, StoreError};

/// An identity in a project, with everything that its membership names.
pub struct Member {
    /// The membership.
    pub membership: Membership,
    /// The member.
    pub identity: Identity,
    /// The project.
    pub project: Project,
    /// Those of the project's custom roles that the member holds.
    pub custom_roles: Vec<CustomRole>,
}

/// What a custom role is made with, or changed to.
#[derive(Default)]
pub struct RoleChange {
    /// Its short name.
    pub slug: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// Its rules.
    pub permissions: Option<Vec<Rule>>,
}

impl Context {
    /// Makes an identity a member of a project.
    #[compiled_here]
    pub async fn add_member(
        &self,
        caller: &Caller,
        project: ProjectId,
        identity: IdentityId,
        roles: Vec<RoleAssignment>,
    ) -> Result<Member> {
        let project = self.project(caller, project).await?;
        caller.may(project.id, Action::CreateIdentity, &about(identity))?;
        let identity = self.member_identity(caller, identity).await?;
        self.must_be_within(caller, project.id, &roles).await?;
        let now = self.now();
        let membership = Membership {
            id: self.new_id(),
            project: project.id,
            identity: identity.id,
            identity_name: identity.name.clone(),
            roles,
            created_at: now,
            updated_at: now,
        };
        let changes = Changes::new().statement(store::identity::insert_membership(&membership));
        match self.commit_member(caller, changes, &membership, "member-added").await {
            Ok(()) => self.with_roles(membership, identity, project).await,
            Err(StoreError::Conflict { .. }) => Err(Error::already_exists("the identity is a member already")),
            Err(error) => Err(failed(error)),
        }
    }

    /// The members of a project, and how many there are.
    #[compiled_here]
    pub async fn members(
        &self,
        caller: &Caller,
        project: ProjectId,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<Member>, i64)> {
        let project = self.project(caller, project).await?;
        caller.may_some(project.id, Action::ReadIdentity)?;
        let roles = store::identity::roles(&self.db, project.id).await.map_err(failed)?;
        let mut visible = VisiblePage::new(offset, limit, caller.can_always(project.id, Action::ReadIdentity));
        while let Some((offset, limit)) = visible.wanted() {
            let found = store::identity::members(&self.db, project.id, offset, limit).await.map_err(failed)?;
            visible.add(found.into_iter().map(|(membership, identity)| {
                let may_see = caller.can(project.id, Action::ReadIdentity, &about(identity.id));
                may_see.then(|| Member {
                    custom_roles: held(&roles, &membership),
                    membership,
                    identity,
                    project: project.clone(),
                })
            }))?;
        }
        let (members, seen) = visible.finish();
        let total = match seen {
            Some(seen) => seen,
            None => store::identity::count_members(&self.db, project.id).await.map_err(failed)?,
        };
        Ok((members, total))
    }

    /// One member of a project.
    #[compiled_here]
    pub async fn member(&self, caller: &Caller, project: ProjectId, identity: IdentityId) -> Result<Member> {
        let project = self.project(caller, project).await?;
        caller.may(project.id, Action::ReadIdentity, &about(identity))?;
        self.find_member(caller, project, identity).await
    }

    async fn find_member(&self, caller: &Caller, project: Project, identity: IdentityId) -> Result<Member> {
        let identity = self.member_identity(caller, identity).await?;
        let membership =
            store::identity::membership(&self.db, project.id, identity.id).await.map_err(failed)?.ok_or_else(|| {
                Error::not_found(format!("identity {} is not a member of the project {}", identity.id, project.slug))
            })?;
        self.with_roles(membership, identity, project).await
    }

    async fn member_identity(&self, caller: &Caller, id: IdentityId) -> Result<Identity> {
        let identity = store::identity::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        identity.ok_or_else(|| Error::not_found(format!("there is no identity {id}")))
    }

    async fn with_roles(&self, membership: Membership, identity: Identity, project: Project) -> Result<Member> {
        let roles = store::identity::roles(&self.db, project.id).await.map_err(failed)?;
        Ok(Member { custom_roles: held(&roles, &membership), membership, identity, project })
    }

    /// Changes the roles of a member.
    #[compiled_here]
    pub async fn change_member(
        &self,
        caller: &Caller,
        project: ProjectId,
        identity: IdentityId,
        roles: Vec<RoleAssignment>,
    ) -> Result<Member> {
        let project = self.project(caller, project).await?;
        caller.may(project.id, Action::EditIdentity, &about(identity))?;
        let Member { mut membership, identity, project, .. } = self.find_member(caller, project, identity).await?;
        // Nobody takes a role away from somebody who has more, nor gives one that they do not have.
        self.must_be_within(caller, project.id, &membership.roles).await?;
        self.must_be_within(caller, project.id, &roles).await?;
        membership.roles = roles;
        membership.updated_at = self.now();
        let changes = Changes::new().statement(store::identity::update_membership(&membership));
        self.commit_member(caller, changes, &membership, "member-changed").await.map_err(failed)?;
        self.with_roles(membership, identity, project).await
    }

    /// Removes a member.
    #[compiled_here]
    pub async fn remove_member(&self, caller: &Caller, project: ProjectId, identity: IdentityId) -> Result<Member> {
        let project = self.project(caller, project).await?;
        caller.may(project.id, Action::DeleteIdentity, &about(identity))?;
        let member = self.find_member(caller, project, identity).await?;
        self.must_be_within(caller, member.project.id, &member.membership.roles).await?;
        let changes = Changes::new().statement(store::identity::delete_membership(member.project.id, identity));
        self.commit_member(caller, changes, &member.membership, "member-removed").await.map_err(failed)?;
        Ok(member)
    }

    async fn commit_member(
        &self,
        caller: &Caller,
        changes: Changes,
        membership: &Membership,
        event: &'static str,
    ) -> Result<(), StoreError> {
        let roles: Vec<&str> = membership.roles.iter().map(|assignment| assignment.role.as_str()).collect();
        let object = Object::new("identity", membership.identity);
        let detail = json!({ "roles": roles });
        let record = audit::record(caller, Some(membership.project), event, object, &detail, self.now());
        self.db.commit(changes.audit(record).configuration()).await
    }

    /// Refuses roles that do not exist, and roles that hold more than the caller has.
    async fn must_be_within(&self, caller: &Caller, project: ProjectId, roles: &[RoleAssignment]) -> Result<()> {
        let custom = store::identity::roles(&self.db, project).await.map_err(failed)?;
        for assignment in roles {
            let rules = match BuiltInRole::parse(&assignment.role) {
                Some(role) => role.rules(),
                None => match custom.iter().find(|role| role.slug == assignment.role) {
                    Some(role) => &role.permissions,
                    None => return Err(Error::not_found(format!("the project has no role {}", assignment.role))),
                },
            };
            if !is_within(caller.rules(project)?, rules) {
                return Err(Error::permission_boundary(format!(
                    "the role {} holds rights that you do not have yourself",
                    assignment.role
                )));
            }
        }
        Ok(())
    }

    /// The custom roles of a project.
    #[compiled_here]
    pub async fn roles(&self, caller: &Caller, project: ProjectId) -> Result<Vec<CustomRole>> {
        self.project(caller, project).await?;
        caller.may(project, Action::ReadRole, &ObjectFields::unknown())?;
        store::identity::roles(&self.db, project).await.map_err(failed)
    }

    /// Makes a custom role. It may not hold more than its maker.
    #[compiled_here]
    pub async fn create_role(&self, caller: &Caller, project: ProjectId, new: RoleChange) -> Result<CustomRole> {
        self.project(caller, project).await?;
        caller.may(project, Action::CreateRole, &ObjectFields::unknown())?;
        let now = self.now();
        let role = CustomRole {
            id: self.new_id(),
            project,
            slug: checked_slug(&new.slug.unwrap_or_default())?,
            name: new.name.unwrap_or_default(),
            description: new.description.flatten(),
            permissions: new.permissions.unwrap_or_default(),
            created_at: now,
            updated_at: now,
        };
        within(caller, project, &role.permissions)?;
        let changes = Changes::new().statement(store::identity::insert_role(&role));
        self.commit_role(caller, changes, &role, "role-created").await?;
        Ok(role)
    }

    /// Changes a custom role; members have the new rules with this answer.
    #[compiled_here]
    pub async fn change_role(
        &self,
        caller: &Caller,
        project: ProjectId,
        slug: &str,
        change: RoleChange,
    ) -> Result<CustomRole> {
        self.project(caller, project).await?;
        caller.may(project, Action::EditRole, &ObjectFields::unknown())?;
        let mut role = find_role(store::identity::roles(&self.db, project).await.map_err(failed)?, slug)?;
        let renamed = match change.slug {
            Some(new) => checked_slug(&new)?,
            None => role.slug.clone(),
        };
        if renamed != role.slug {
            self.must_be_unassigned(project, &role, "renamed").await?;
        }
        within(caller, project, &role.permissions)?;
        role.slug = renamed;
        role.name = change.name.unwrap_or(role.name);
        role.description = change.description.unwrap_or(role.description);
        role.permissions = change.permissions.unwrap_or(role.permissions);
        role.updated_at = self.now();
        within(caller, project, &role.permissions)?;
        let changes = Changes::new().statement(store::identity::update_role(&role));
        self.commit_role(caller, changes, &role, "role-changed").await?;
        Ok(role)
    }

    /// Deletes a custom role that nobody holds.
    #[compiled_here]
    pub async fn delete_role(&self, caller: &Caller, project: ProjectId, slug: &str) -> Result<CustomRole> {
        self.project(caller, project).await?;
        caller.may(project, Action::DeleteRole, &ObjectFields::unknown())?;
        let role = find_role(store::identity::roles(&self.db, project).await.map_err(failed)?, slug)?;
        self.must_be_unassigned(project, &role, "deleted").await?;
        let changes = Changes::new().statement(store::identity::delete_role(project, role.id));
        self.commit_role(caller, changes, &role, "role-deleted").await?;
        Ok(role)
    }

    async fn must_be_unassigned(&self, project: ProjectId, role: &CustomRole, what: &str) -> Result<()> {
        let held = store::identity::held_roles(&self.db, project).await.map_err(failed)?;
        if held.iter().any(|held| held.role == role.slug) {
            return Err(Error::wrong_state(format!(
                "members hold the role {}; it cannot be {what} while they do",
                role.slug
            )));
        }
        Ok(())
    }

    async fn commit_role(
        &self,
        caller: &Caller,
        changes: Changes,
        role: &CustomRole,
        event: &'static str,
    ) -> Result<()> {
        let detail = json!({ "slug": role.slug });
        let record =
            audit::record(caller, Some(role.project), event, Object::new("role", role.id), &detail, self.now());
        match self.db.commit(changes.audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { .. }) => {
                Err(Error::already_exists(format!("the project has a role {} already", role.slug)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn held(roles: &[CustomRole], membership: &Membership) -> Vec<CustomRole> {
    let is_held = |role: &&CustomRole| membership.roles.iter().any(|assignment| assignment.role == role.slug);
    roles.iter().filter(is_held).cloned().collect()
}

fn find_role(roles: Vec<CustomRole>, slug: &str) -> Result<CustomRole> {
    if BuiltInRole::parse(slug).is_some() {
        return Err(Error::forbidden(format!("{slug} is a built-in role: it cannot be changed or deleted")));
    }
    roles
        .into_iter()
        .find(|role| role.slug == slug)
        .ok_or_else(|| Error::not_found(format!("the project has no role {slug}")))
}

fn checked_slug(slug: &str) -> Result<String> {
    parse_role_slug(slug).map_err(|violation| Error::invalid(violation.message))
}

fn within(caller: &Caller, project: ProjectId, rules: &[Rule]) -> Result<()> {
    if is_within(caller.rules(project)?, rules) {
        return Ok(());
    }
    Err(Error::permission_boundary("the role would hold rights that you do not have yourself"))
}

fn about(identity: IdentityId) -> ObjectFields {
    ObjectFields::with(Field::IdentityId, identity.to_string())
}
