//! Collections (contract §7.2): certificates and authorities that are looked after together.

use crate::app::App;
use crate::error::Result;
use crate::render::{optional_timestamp, page, timestamp, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, date, integer, list, object, one_of, optional, required, text, uuid};
use domain::caller::Caller;
use domain::collection::{Collection, CollectionItem, MemberKind};
use domain::{CollectionId, CollectionItemId, Error, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::collections::CollectionChange;
use uuid::Uuid;

const TAG: &str = "Collections";
const KINDS: &[&str] = &["certificate", "ca"];

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/pki/collections";
    const ONE: &str = "/api/v1/pki/collections/{collectionId}";
    const ITEMS: &str = "/api/v1/pki/collections/{collectionId}/items";
    const ITEM: &str = "/api/v1/pki/collections/{collectionId}/items/{collectionItemId}";
    let id = || [required("collectionId", text())];
    let name = || text().at_least(1).at_most(255);
    let description = || text().at_most(1000);
    vec![
        Endpoint::post(ALL, TAG, "Make a collection")
            .body(object([
                required("projectId", uuid()),
                required("name", name()),
                optional("description", description().default(json!(""))),
            ]))
            .returns(collection_schema())
            .bearer(create),
        Endpoint::get(ONE, TAG, "Get a collection").path(id()).returns(collection_schema()).bearer(show),
        Endpoint::patch(ONE, TAG, "Change a collection")
            .path(id())
            .body(object([optional("name", name()), optional("description", description())]))
            .returns(collection_schema())
            .bearer(change),
        Endpoint::delete(ONE, TAG, "Delete a collection")
            .describe("What was in it stays.")
            .path(id())
            .returns(collection_schema())
            .bearer(delete),
        Endpoint::get(ITEMS, TAG, "List what is in a collection")
            .path(id())
            .query([optional("type", one_of(KINDS))])
            .query(page(25, 100))
            .returns(object([required("collectionItems", list(item_schema())), required("totalCount", integer())]))
            .bearer(items),
        Endpoint::post(ITEMS, TAG, "Put a certificate or an authority into a collection")
            .path(id())
            .body(object([required("type", one_of(KINDS)), required("itemId", text())]))
            .returns(item_schema())
            .bearer(add),
        Endpoint::delete(ITEM, TAG, "Take something out of a collection")
            .path([required("collectionId", text()), required("collectionItemId", text())])
            .returns(item_schema())
            .bearer(remove),
        Endpoint::get("/api/v2/workspace/{projectId}/pki-collections", TAG, "List the collections of a project")
            .path([required("projectId", uuid())])
            .returns(wrapper("collections", list(collection_schema())))
            .bearer(list_all),
    ]
}

fn collection_schema() -> Schema {
    object([
        required("id", uuid()),
        required("createdAt", date()),
        required("updatedAt", date()),
        required("projectId", uuid()),
        required("name", text()),
        required("description", text()),
    ])
}

fn item_schema() -> Schema {
    object([
        required("id", uuid()),
        required("createdAt", date()),
        required("updatedAt", date()),
        required("pkiCollectionId", uuid()),
        required("type", one_of(KINDS)),
        required("itemId", uuid()),
        required("notBefore", date().nullable()),
        required("notAfter", date().nullable()),
        required("friendlyName", text()),
    ])
}

fn render(collection: &Collection) -> Value {
    json!({
        "id": collection.id,
        "createdAt": timestamp(collection.created_at),
        "updatedAt": timestamp(collection.updated_at),
        "projectId": collection.project,
        "name": collection.name,
        "description": collection.description,
    })
}

fn render_item(item: &CollectionItem) -> Value {
    json!({
        "id": item.id,
        "createdAt": timestamp(item.created_at),
        // A member does not change: it is put in and taken out.
        "updatedAt": timestamp(item.created_at),
        "pkiCollectionId": item.collection,
        "type": item.member.kind().as_str(),
        "itemId": item.member.id(),
        "notBefore": optional_timestamp(item.not_before),
        "notAfter": optional_timestamp(item.not_after),
        "friendlyName": item.friendly_name,
    })
}

/// Ids that are no UUIDs name nothing (contract §3).
fn collection_id(input: &Input) -> Result<CollectionId> {
    let text = input.parameter("collectionId");
    Ok(CollectionId::parse(text).ok_or_else(|| Error::not_found(format!("there is no collection {text}")))?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    project_id: ProjectId,
    name: String,
    description: String,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let New { project_id, name, description } = input.body()?;
    let project = app.services.certificate_project(&caller, project_id).await?;
    Reply::json(&render(&app.services.create_collection(&caller, project.id, name, description).await?))
}

async fn show(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&render(&app.services.collection(&caller, collection_id(&input)?).await?))
}

#[derive(Deserialize)]
struct Change {
    name: Option<String>,
    description: Option<String>,
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = collection_id(&input)?;
    let Change { name, description } = input.body()?;
    let change = CollectionChange { name, description };
    Reply::json(&render(&app.services.change_collection(&caller, id, change).await?))
}

async fn delete(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&render(&app.services.delete_collection(&caller, collection_id(&input)?).await?))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "type")]
    kind: Option<String>,
    offset: u32,
    limit: u32,
}

async fn items(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = collection_id(&input)?;
    let Asked { kind, offset, limit } = input.query()?;
    let kind = kind.as_deref().and_then(MemberKind::parse);
    let (items, total) = app.services.collection_items(&caller, id, kind, offset, limit).await?;
    let shown: Vec<Value> = items.iter().map(render_item).collect();
    Reply::json(&json!({ "collectionItems": shown, "totalCount": total }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewItem {
    #[serde(rename = "type")]
    kind: String,
    item_id: String,
}

async fn add(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = collection_id(&input)?;
    let NewItem { kind, item_id } = input.body()?;
    let kind = MemberKind::parse(&kind).ok_or_else(|| Error::failed("a kind that its schema does not let through"))?;
    let member = Uuid::try_parse(&item_id)
        .map(|id| kind.member(id))
        .map_err(|_| Error::not_found(format!("there is no {} {item_id}", kind.as_str())))?;
    Reply::json(&render_item(&app.services.add_to_collection(&caller, id, member).await?))
}

async fn remove(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let id = collection_id(&input)?;
    let item = CollectionItemId::parse(input.parameter("collectionItemId"))
        .ok_or_else(|| Error::not_found("the collection has no such item"))?;
    Reply::json(&render_item(&app.services.remove_from_collection(&caller, id, item).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProject {
    project_id: ProjectId,
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let project = app.services.certificate_project(&caller, project_id).await?;
    let collections = app.services.collections(&caller, project.id).await?;
    Reply::json(&json!({ "collections": collections.iter().map(render).collect::<Vec<_>>() }))
}
