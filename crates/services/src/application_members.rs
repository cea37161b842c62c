//! The members of an application: identities, each with one role there (contract §8).

use crate::applications::Entered;
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::application::{Application, ApplicationMember, ApplicationRole, MEMBERS_OF_APPLICATION_MAX};
use domain::caller::Caller;
use domain::permission::{Action, is_within};
use domain::{ApplicationId, Error, IdentityId, MembershipId, Result};
use serde_json::json;
use store::Changes;
pub use store::application::NamedMember;

impl Context {
    /// The members of an application, oldest first.
    #[compiled_here]
    pub async fn application_members(&self, caller: &Caller, id: ApplicationId) -> Result<Vec<NamedMember>> {
        self.enter(caller, id, Action::ReadApplication).await?;
        store::application::members(&self.db, id).await.map_err(failed)
    }

    /// Makes an identity a member.
    #[compiled_here]
    pub async fn add_application_member(
        &self,
        caller: &Caller,
        id: ApplicationId,
        identity: IdentityId,
        role: &str,
    ) -> Result<NamedMember> {
        let Entered { application, caller } = self.enter(caller, id, Action::ReadApplication).await?;
        let found = store::identity::by_id(&self.db, caller.organization, identity).await.map_err(failed)?;
        let identity = found.ok_or_else(|| Error::not_found(format!("there is no identity {identity}")))?;
        may_edit(&caller, &application)?;
        let role = parse_role(role)?;
        self.may_give(&caller, &application, role).await?;
        if store::application::member(&self.db, id, identity.id).await.map_err(failed)?.is_some() {
            return Err(Error::already_exists(format!("{} is a member of the application already", identity.name)));
        }
        let members = store::application::count_members(&self.db, id).await.map_err(failed)?;
        if members >= MEMBERS_OF_APPLICATION_MAX as i64 {
            return Err(Error::invalid(format!("an application has at most {MEMBERS_OF_APPLICATION_MAX} members")));
        }
        let now = self.now();
        let member = ApplicationMember {
            id: self.new_id(),
            project: application.project,
            application: id,
            identity: identity.id,
            role,
            created_at: now,
            updated_at: now,
        };
        let changes = Changes::new().statement(store::application::insert_member(&member));
        self.commit_application_member(&caller, changes, &application, &member, "application-member-added").await?;
        Ok(NamedMember { member, identity_name: identity.name, has_universal_auth: identity.has_universal_auth })
    }

    /// Gives a member another role.
    #[compiled_here]
    pub async fn change_application_member(
        &self,
        caller: &Caller,
        id: ApplicationId,
        identity: IdentityId,
        role: &str,
    ) -> Result<NamedMember> {
        let Entered { application, caller } = self.enter(caller, id, Action::ReadApplication).await?;
        let mut named = self.find_application_member(&application, identity).await?;
        may_edit(&caller, &application)?;
        let before = named.member.role;
        named.member.role = parse_role(role)?;
        named.member.updated_at = self.now();
        // Nobody takes a role away from somebody who has more, nor gives one that they do not have.
        self.may_give(&caller, &application, before).await?;
        self.may_give(&caller, &application, named.member.role).await?;
        let changes = Changes::new().statement(store::application::update_member(&named.member, before));
        let event = "application-member-changed";
        self.commit_application_member(&caller, changes, &application, &named.member, event).await?;
        Ok(named)
    }

    /// Removes a member: which membership that was.
    #[compiled_here]
    pub async fn remove_application_member(
        &self,
        caller: &Caller,
        id: ApplicationId,
        identity: IdentityId,
    ) -> Result<MembershipId> {
        let Entered { application, caller } = self.enter(caller, id, Action::ReadApplication).await?;
        let NamedMember { member, .. } = self.find_application_member(&application, identity).await?;
        may_edit(&caller, &application)?;
        self.may_give(&caller, &application, member.role).await?;
        let changes = Changes::new().statement(store::application::delete_member(&member));
        self.commit_application_member(&caller, changes, &application, &member, "application-member-removed").await?;
        Ok(member.id)
    }

    async fn find_application_member(&self, application: &Application, identity: IdentityId) -> Result<NamedMember> {
        let member = store::application::member(&self.db, application.id, identity).await.map_err(failed)?;
        member.ok_or_else(|| {
            Error::not_found(format!("identity {identity} is not a member of the application {}", application.name))
        })
    }

    /// Refuses a role that holds more than the caller has.
    async fn may_give(&self, caller: &Caller, application: &Application, role: ApplicationRole) -> Result<()> {
        let attached = store::application::attached(&self.db, application.id).await.map_err(failed)?;
        let mut slugs: Vec<String> = attached.into_iter().map(|attached| attached.slug).collect();
        slugs.sort_unstable();
        if is_within(caller.rules(application.project)?, &role.rules(&slugs)) {
            return Ok(());
        }
        Err(Error::permission_boundary(format!(
            "the role {} holds rights that you do not have yourself",
            role.as_str()
        )))
    }

    async fn commit_application_member(
        &self,
        caller: &Caller,
        changes: Changes,
        application: &Application,
        member: &ApplicationMember,
        event: &'static str,
    ) -> Result<()> {
        let detail = json!({ "identity": member.identity, "role": member.role.as_str() });
        self.commit_application(caller, changes, application, event, detail).await
    }
}

fn may_edit(caller: &Caller, application: &Application) -> Result<()> {
    caller.may(application.project, Action::EditApplication, &crate::applications::about(&application.name))
}

fn parse_role(text: &str) -> Result<ApplicationRole> {
    ApplicationRole::parse(text).ok_or_else(|| {
        let known = ApplicationRole::ALL.map(ApplicationRole::as_str).join(", ");
        Error::invalid(format!("an application has the roles {known}; {text} is none of them"))
    })
}
