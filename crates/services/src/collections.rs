//! Collections and what is in them (contract §7.2).

use crate::audit::{self, Object};
use crate::certificates::CertificateName;
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::collection::{Collection, CollectionItem, Member, MemberKind};
use domain::permission::{Action, ObjectFields};
use domain::{CollectionId, CollectionItemId, Error, ProjectId, Result};
use serde_json::json;
use store::{Changes, StoreError};

/// What can change in a collection. Absent stays as it is.
#[derive(Default)]
pub struct CollectionChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

impl Context {
    /// Makes an empty collection.
    #[compiled_here]
    pub async fn create_collection(
        &self,
        caller: &Caller,
        project: ProjectId,
        name: String,
        description: String,
    ) -> Result<Collection> {
        caller.may(project, Action::CreateCollection, &anything())?;
        let now = self.now();
        let collection = Collection { id: self.new_id(), project, name, description, created_at: now, updated_at: now };
        let changes = Changes::new().statement(store::collection::insert(&collection));
        self.commit_collection(caller, changes, &collection, "pki-collection-created", json!({})).await?;
        Ok(collection)
    }

    /// A collection by its id.
    #[compiled_here]
    pub async fn collection(&self, caller: &Caller, id: CollectionId) -> Result<Collection> {
        self.collection_to(caller, id, Action::ReadCollection).await
    }

    pub(crate) async fn find_collection(&self, caller: &Caller, id: CollectionId) -> Result<Collection> {
        let collection = store::collection::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let collection = collection.ok_or_else(|| Error::not_found(format!("there is no collection {id}")))?;
        caller.rules(collection.project)?;
        Ok(collection)
    }

    async fn collection_to(&self, caller: &Caller, id: CollectionId, action: Action) -> Result<Collection> {
        let collection = self.find_collection(caller, id).await?;
        caller.may(collection.project, action, &anything())?;
        Ok(collection)
    }

    /// Refuses a collection that is not there or is of another project.
    pub(crate) async fn collection_of_project(
        &self,
        caller: &Caller,
        project: ProjectId,
        id: Option<CollectionId>,
    ) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        match self.find_collection(caller, id).await?.project == project {
            true => Ok(()),
            false => Err(Error::invalid(format!("the collection {id} is of another project"))),
        }
    }

    /// The collections of a project.
    #[compiled_here]
    pub async fn collections(&self, caller: &Caller, project: ProjectId) -> Result<Vec<Collection>> {
        caller.may(project, Action::ReadCollection, &anything())?;
        store::collection::list(&self.db, project).await.map_err(failed)
    }

    /// Changes a collection.
    #[compiled_here]
    pub async fn change_collection(
        &self,
        caller: &Caller,
        id: CollectionId,
        change: CollectionChange,
    ) -> Result<Collection> {
        let mut collection = self.collection_to(caller, id, Action::EditCollection).await?;
        collection.name = change.name.unwrap_or(collection.name);
        collection.description = change.description.unwrap_or(collection.description);
        collection.updated_at = self.now();
        let changes = Changes::new().statement(store::collection::update(&collection));
        self.commit_collection(caller, changes, &collection, "pki-collection-changed", json!({})).await?;
        Ok(collection)
    }

    /// Deletes a collection. What was in it stays.
    #[compiled_here]
    pub async fn delete_collection(&self, caller: &Caller, id: CollectionId) -> Result<Collection> {
        let collection = self.collection_to(caller, id, Action::DeleteCollection).await?;
        let changes = Changes::new().statement(store::collection::delete(collection.project, id));
        self.commit_collection(caller, changes, &collection, "pki-collection-deleted", json!({})).await?;
        Ok(collection)
    }

    /// What is in a collection, oldest first, and how many there are.
    #[compiled_here]
    pub async fn collection_items(
        &self,
        caller: &Caller,
        id: CollectionId,
        kind: Option<MemberKind>,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<CollectionItem>, i64)> {
        let collection = self.collection_to(caller, id, Action::ReadCollection).await?;
        let (mut items, total) =
            store::collection::items(&self.db, collection.id, kind, offset, limit).await.map_err(failed)?;
        if !caller.can_always(collection.project, Action::ReadCertificate) {
            // That they are members is the collection's; what they are like is theirs.
            for item in items.iter_mut().filter(|item| item.member.kind() == MemberKind::Certificate) {
                (item.not_before, item.not_after, item.friendly_name) = (None, None, String::new());
            }
        }
        Ok((items, total))
    }

    /// Puts a certificate or an authority into a collection of its project.
    #[compiled_here]
    pub async fn add_to_collection(&self, caller: &Caller, id: CollectionId, member: Member) -> Result<CollectionItem> {
        let collection = self.collection_to(caller, id, Action::EditCollection).await?;
        let project = match member {
            Member::Certificate(id) => {
                let name = CertificateName::Id(id);
                self.certificate_for(caller, &name, Action::ReadCertificate).await?.row.issued.project
            }
            Member::Authority(id) => self.authority(caller, id).await?.project,
        };
        if project != collection.project {
            return Err(Error::invalid("the collection is of another project"));
        }
        let item = self.new_id();
        let added = store::collection::add(project, collection.id, item, member, self.now());
        let detail = json!({ "type": member.kind().as_str(), "itemId": member.id() });
        let changes = Changes::new().statement(added);
        self.commit_collection(caller, changes, &collection, "pki-collection-item-added", detail).await?;
        let item = store::collection::item(&self.db, collection.id, item).await.map_err(failed)?;
        item.ok_or_else(|| Error::wrong_state("it was taken out of the collection meanwhile"))
    }

    /// Takes a member out of a collection.
    #[compiled_here]
    pub async fn remove_from_collection(
        &self,
        caller: &Caller,
        id: CollectionId,
        item: CollectionItemId,
    ) -> Result<CollectionItem> {
        let collection = self.collection_to(caller, id, Action::EditCollection).await?;
        let item = store::collection::item(&self.db, collection.id, item).await.map_err(failed)?;
        let item = item.ok_or_else(|| Error::not_found("the collection has no such item"))?;
        let detail = json!({ "type": item.member.kind().as_str(), "itemId": item.member.id() });
        let changes = Changes::new().statement(store::collection::remove(collection.id, item.id));
        self.commit_collection(caller, changes, &collection, "pki-collection-item-removed", detail).await?;
        Ok(item)
    }

    async fn commit_collection(
        &self,
        caller: &Caller,
        changes: Changes,
        collection: &Collection,
        event: &'static str,
        mut detail: serde_json::Value,
    ) -> Result<()> {
        detail["name"] = json!(collection.name);
        let object = Object::new("pki-collection", collection.id);
        let record = audit::record(caller, Some(collection.project), event, object, &detail, self.now());
        match self.db.commit(changes.audit(record)).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict { constraint }) if constraint == "foreign key" => Err(Error::wrong_state(
                format!("the collection {} is in use, or was deleted meanwhile", collection.name),
            )),
            Err(StoreError::Conflict { .. }) => {
                Err(Error::already_exists(format!("it is in the collection {} already", collection.name)))
            }
            Err(StoreError::Stale(_)) => Err(Error::wrong_state(format!(
                "the collection {} or what is in it was deleted meanwhile",
                collection.name
            ))),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Conditions cannot ask about collections.
fn anything() -> ObjectFields {
    ObjectFields::unknown()
}
