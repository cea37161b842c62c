//! Templates of the first family (contract §5.1): making, finding, changing and deleting them. Policies, which are also called
//! templates, are in `policies.rs`; what is issued from a template is in `issue_from.rs`.

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::authority::Authority;
use domain::caller::Caller;
use domain::permission::{Action, Field, ObjectFields};
use domain::template::{Template, TemplateDocument};
use domain::{AuthorityId, CollectionId, Error, ProjectId, Result, TemplateId};
use serde_json::json;
pub use store::template::ShownTemplate;
use store::{Changes, StoreError};

/// What a template is made with.
pub struct NewTemplate {
    /// The authority that signs; the template belongs to its project.
    pub authority: AuthorityId,
    /// The collection that certificates are put into.
    pub collection: Option<CollectionId>,
    /// Its name, a slug.
    pub name: String,
    /// What it says of certificates.
    pub document: TemplateDocument,
}

/// What can change in a template. Absent stays as it is.
#[derive(Default)]
pub struct TemplateChange {
    /// The authority that signs.
    pub authority: Option<AuthorityId>,
    /// The collection that certificates are put into.
    pub collection: Option<Option<CollectionId>>,
    /// Its name.
    pub name: Option<String>,
    /// The pattern of common names.
    pub common_name: Option<String>,
    /// The pattern of alternative names.
    pub subject_alternative_name: Option<String>,
    /// The longest lifetime.
    pub ttl: Option<String>,
    /// The key usages that may be.
    pub key_usages: Option<Vec<String>>,
    /// The extended key usages that may be.
    pub extended_key_usages: Option<Vec<String>>,
}

impl Context {
    /// Makes a template.
    #[compiled_here]
    pub async fn create_template(&self, caller: &Caller, new: NewTemplate) -> Result<ShownTemplate> {
        let authority = self.find_authority(caller, new.authority).await?;
        caller.may(authority.project, Action::CreatePolicy, &about(&new.name))?;
        self.collection_of_project(caller, authority.project, new.collection).await?;
        new.document.check()?;
        let now = self.now();
        let template = Template {
            id: self.new_id(),
            project: authority.project,
            authority: authority.id,
            collection: new.collection,
            name: new.name,
            version: 1,
            document: new.document,
            created_at: now,
            updated_at: now,
        };
        let changes = Changes::new().statement(store::template::insert(&template));
        self.commit_template(caller, changes, &authority, &template, "certificate-template-created").await?;
        Ok(ShownTemplate { template, authority_name: authority.name })
    }

    /// A template by its id.
    #[compiled_here]
    pub async fn template(&self, caller: &Caller, id: TemplateId) -> Result<ShownTemplate> {
        let shown = self.find_template(caller, id).await?;
        caller.may(shown.template.project, Action::ReadPolicy, &about(&shown.template.name))?;
        Ok(shown)
    }

    pub(crate) async fn find_template(&self, caller: &Caller, id: TemplateId) -> Result<ShownTemplate> {
        let shown = store::template::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let shown = shown.ok_or_else(|| Error::not_found(format!("there is no certificate template {id}")))?;
        caller.rules(shown.template.project)?;
        Ok(shown)
    }

    /// The templates of a project that the caller may see.
    #[compiled_here]
    pub async fn templates(&self, caller: &Caller, project: ProjectId) -> Result<Vec<ShownTemplate>> {
        caller.may_some(project, Action::ReadPolicy)?;
        let all = store::template::list(&self.db, project).await.map_err(failed)?;
        Ok(seen(caller, project, all))
    }

    /// The templates of an authority that the caller may see.
    #[compiled_here]
    pub async fn templates_of_authority(&self, caller: &Caller, id: AuthorityId) -> Result<Vec<ShownTemplate>> {
        let authority = self.find_authority(caller, id).await?;
        caller.may_some(authority.project, Action::ReadPolicy)?;
        let all = store::template::of_authority(&self.db, authority.id).await.map_err(failed)?;
        Ok(seen(caller, authority.project, all))
    }

    /// Changes a template. Certificates keep the version that they were judged by.
    #[compiled_here]
    pub async fn change_template(
        &self,
        caller: &Caller,
        id: TemplateId,
        change: TemplateChange,
    ) -> Result<ShownTemplate> {
        let mut template = self.find_template(caller, id).await?.template;
        caller.may(template.project, Action::EditPolicy, &about(&template.name))?;
        if let Some(name) = change.name {
            caller.may(template.project, Action::EditPolicy, &about(&name))?;
            template.name = name;
        }
        let authority = self.find_authority(caller, change.authority.unwrap_or(template.authority)).await?;
        if authority.project != template.project {
            return Err(Error::invalid(format!("the certificate authority {} is of another project", authority.id)));
        }
        template.authority = authority.id;
        if let Some(collection) = change.collection {
            self.collection_of_project(caller, template.project, collection).await?;
            template.collection = collection;
        }
        let document = &mut template.document;
        document.common_name = change.common_name.unwrap_or_else(|| document.common_name.clone());
        document.subject_alternative_name =
            change.subject_alternative_name.unwrap_or_else(|| document.subject_alternative_name.clone());
        document.ttl = change.ttl.unwrap_or_else(|| document.ttl.clone());
        document.key_usages = change.key_usages.unwrap_or_else(|| document.key_usages.clone());
        document.extended_key_usages =
            change.extended_key_usages.unwrap_or_else(|| document.extended_key_usages.clone());
        document.check()?;
        template.version += 1;
        template.updated_at = self.now();
        let changes = Changes::new().statement(store::template::update(&template));
        self.commit_template(caller, changes, &authority, &template, "certificate-template-changed").await?;
        Ok(ShownTemplate { template, authority_name: authority.name })
    }

    /// Deletes a template. What was issued from it stays.
    #[compiled_here]
    pub async fn delete_template(&self, caller: &Caller, id: TemplateId) -> Result<ShownTemplate> {
        let shown = self.find_template(caller, id).await?;
        let template = &shown.template;
        caller.may(template.project, Action::DeletePolicy, &about(&template.name))?;
        let authority = self.find_authority(caller, template.authority).await?;
        let changes = Changes::new().statement(store::template::delete(template));
        self.commit_template(caller, changes, &authority, template, "certificate-template-deleted").await?;
        Ok(shown)
    }

    async fn commit_template(
        &self,
        caller: &Caller,
        changes: Changes,
        authority: &Authority,
        template: &Template,
        event: &'static str,
    ) -> Result<()> {
        let detail = json!({
            "name": template.name, "version": template.version, "caId": template.authority,
            "pkiCollectionId": template.collection, "rules": template.document,
        });
        let object = Object::new("certificate-template", template.id);
        let record = audit::record(caller, Some(template.project), event, object, &detail, self.now());
        // The authority must be there when the template is: one that a template uses is not deleted.
        let held = store::authority::is_unchanged(authority.project, authority.id, authority.version);
        match self.db.commit(changes.statement(held).audit(record).configuration()).await {
            Ok(()) => Ok(()),
            Err(StoreError::Stale(_)) => Err(Error::wrong_state(format!(
                "the template {} or its certificate authority was changed meanwhile: try again",
                template.name
            ))),
            Err(error) => Err(failed(error)),
        }
    }
}

fn seen(caller: &Caller, project: ProjectId, all: Vec<ShownTemplate>) -> Vec<ShownTemplate> {
    let is_seen = |shown: &ShownTemplate| caller.can(project, Action::ReadPolicy, &about(&shown.template.name));
    all.into_iter().filter(is_seen).collect()
}

fn about(name: &str) -> ObjectFields {
    ObjectFields::with(Field::Name, name)
}
