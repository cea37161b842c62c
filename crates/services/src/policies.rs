//! Certificate policies: making, finding, changing and deleting them (contract §5.2).

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::visible::VisiblePage;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::{Action, Field, ObjectFields};
use domain::policy::{PolicyRules, PolicyRulesPatch};
use domain::profile::Policy;
use domain::slug::slugify;
use domain::{Error, PolicyId, ProjectId, Result};
use serde_json::json;
use store::{Changes, StoreError};

/// What a policy is made with.
pub struct NewPolicy {
    /// Its name; stored as a slug.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its rules.
    pub rules: PolicyRules,
}

/// What can change in a policy. Absent stays as it is; rules that are named replace the old ones whole.
#[derive(Default)]
pub struct PolicyChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<Option<String>>,
    /// Its rules.
    pub rules: PolicyRulesPatch,
}

impl Context {
    /// Makes a policy. A taken name gets a random ending (contract §5.2).
    #[compiled_here]
    pub async fn create_policy(&self, caller: &Caller, project: ProjectId, new: NewPolicy) -> Result<Policy> {
        let wanted = checked_name(&new.name)?;
        caller.may(project, Action::CreatePolicy, &about(&wanted))?;
        new.rules.check()?;
        let taken = store::profile::policy_name_is_taken(&self.db, project, &wanted).await.map_err(failed)?;
        let name = if taken { format!("{wanted}-{}", self.random.hex(4)) } else { wanted };
        let now = self.now();
        let policy = Policy {
            id: self.new_id(),
            project,
            name,
            description: new.description,
            version: 1,
            rules: new.rules,
            created_at: now,
            updated_at: now,
        };
        self.commit_policy(caller, store::profile::insert_policy(&policy), &policy, "policy-created").await?;
        Ok(policy)
    }

    /// A policy by its id.
    #[compiled_here]
    pub async fn policy(&self, caller: &Caller, id: PolicyId) -> Result<Policy> {
        let policy = self.find_policy(caller, id).await?;
        caller.may(policy.project, Action::ReadPolicy, &about(&policy.name))?;
        Ok(policy)
    }

    pub(crate) async fn find_policy(&self, caller: &Caller, id: PolicyId) -> Result<Policy> {
        let policy = store::profile::policy(&self.db, caller.organization, id).await.map_err(failed)?;
        policy.ok_or_else(|| Error::not_found(format!("there is no certificate policy {id}")))
    }

    /// Policies of a project whose name holds a text, and how many there are.
    #[compiled_here]
    pub async fn policies(
        &self,
        caller: &Caller,
        project: ProjectId,
        search: &str,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<Policy>, i64)> {
        caller.may_some(project, Action::ReadPolicy)?;
        let mut visible = VisiblePage::new(offset, limit, caller.can_always(project, Action::ReadPolicy));
        let mut total = 0;
        while let Some((offset, limit)) = visible.wanted() {
            let (policies, count) =
                store::profile::policies(&self.db, project, search, offset, limit).await.map_err(failed)?;
            visible.add(
                policies
                    .into_iter()
                    .map(|policy| caller.can(project, Action::ReadPolicy, &about(&policy.name)).then_some(policy)),
            )?;
            total = count;
        }
        let (policies, seen) = visible.finish();
        Ok((policies, seen.unwrap_or(total)))
    }

    /// Changes a policy. Certificates keep the version that they were judged by; renewals are judged by the newest.
    #[compiled_here]
    pub async fn change_policy(&self, caller: &Caller, id: PolicyId, change: PolicyChange) -> Result<Policy> {
        let mut policy = self.find_policy(caller, id).await?;
        caller.may(policy.project, Action::EditPolicy, &about(&policy.name))?;
        if let Some(name) = change.name {
            policy.name = checked_name(&name)?;
            caller.may(policy.project, Action::EditPolicy, &about(&policy.name))?;
        }
        policy.description = change.description.unwrap_or(policy.description);
        policy.rules = policy.rules.patched(change.rules);
        policy.rules.check()?;
        policy.version += 1;
        policy.updated_at = self.now();
        self.commit_policy(caller, store::profile::update_policy(&policy), &policy, "policy-changed").await?;
        Ok(policy)
    }

    /// Deletes a policy that no profile uses.
    #[compiled_here]
    pub async fn delete_policy(&self, caller: &Caller, id: PolicyId) -> Result<Policy> {
        let policy = self.find_policy(caller, id).await?;
        caller.may(policy.project, Action::DeletePolicy, &about(&policy.name))?;
        let users = store::profile::profiles_of_policy(&self.db, policy.project, id).await.map_err(failed)?;
        let used = || Error::forbidden(format!("the policy {} is used by certificate profiles", policy.name));
        if users > 0 {
            return Err(used());
        }
        let changes = Changes::new().statement(store::profile::delete_policy(policy.project, id));
        match self.commit_policy(caller, changes, &policy, "policy-deleted").await {
            // A profile was made in between: the reference from it refuses.
            Err(error) if error.reason() == Some(domain::Reason::AlreadyExists) => Err(used()),
            other => other.map(|()| policy.clone()),
        }
    }

    async fn commit_policy(
        &self,
        caller: &Caller,
        changes: Changes,
        policy: &Policy,
        event: &'static str,
    ) -> Result<()> {
        let detail = json!({ "name": policy.name, "version": policy.version });
        let object = Object::new("certificate-policy", policy.id);
        let record = audit::record(caller, Some(policy.project), event, object, &detail, self.now());
        match self.db.commit(changes.audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { .. }) => {
                Err(Error::already_exists(format!("the project has a policy {} already", policy.name)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn checked_name(name: &str) -> Result<String> {
    match slugify(name) {
        slug if slug.is_empty() => Err(Error::invalid(format!("\"{name}\" has no letter or digit to make a name of"))),
        slug => Ok(slug),
    }
}

fn about(name: &str) -> ObjectFields {
    ObjectFields::with(Field::Name, name)
}
