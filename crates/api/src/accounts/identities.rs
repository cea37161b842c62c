//! Machine identities of the organisation (contract §2.6).

use domain::caller::{Caller, OrganizationRole};
use domain::identity::{Identity, MetadataEntry};
use domain::{Error, IdentityId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::identities::{IdentityChange, NewIdentity};

use super::{IDENTITIES, must_be_own_organization};
use crate::app::App;
use crate::error::Result;
use crate::render::{Page, page, timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, boolean, date, integer, list, object, one_of, optional, required, text, uuid};

const ROLES: &[&str] =
    &[OrganizationRole::Admin.as_str(), OrganizationRole::Member.as_str(), OrganizationRole::NoAccess.as_str()];

/// The routes of this file.
pub fn routes() -> Vec<Route<App>> {
    let one = |endpoint: Endpoint| {
        endpoint.path([required("identityId", uuid())]).returns(wrapper("identity", identity_schema()))
    };
    vec![
        Endpoint::post("/api/v1/identities", IDENTITIES, "Make a machine identity")
            .describe("Only an admin of the organisation may.")
            .body(new_identity_schema())
            .returns(wrapper("identity", identity_schema()))
            .bearer(create),
        Endpoint::get("/api/v1/identities", IDENTITIES, "List the machine identities of the organisation")
            .query([optional("orgId", text()), optional("organizationId", text())])
            .query(page(100, 1000))
            .returns(object([required("identities", list(identity_schema())), required("totalCount", integer())]))
            .bearer(list_all),
        Endpoint::get("/api/v1/identities/details", IDENTITIES, "Show whose organisation the caller belongs to")
            .returns(wrapper("identityDetails", wrapper("organization", organization_schema())))
            .bearer(details),
        one(Endpoint::get("/api/v1/identities/{identityId}", IDENTITIES, "Show a machine identity")).bearer(show),
        one(Endpoint::patch("/api/v1/identities/{identityId}", IDENTITIES, "Change a machine identity"))
            .body(new_identity_schema().without(&["organizationId"]).partial())
            .bearer(change),
        one(Endpoint::delete("/api/v1/identities/{identityId}", IDENTITIES, "Delete a machine identity"))
            .describe("With its credentials and memberships; its tokens stop working with this answer.")
            .bearer(delete),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    name: String,
    organization_id: Option<String>,
    role: String,
    has_delete_protection: bool,
    metadata: Vec<MetadataEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    name: Option<String>,
    role: Option<String>,
    has_delete_protection: Option<bool>,
    metadata: Option<Vec<MetadataEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    org_id: Option<String>,
    organization_id: Option<String>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfIdentity {
    identity_id: IdentityId,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let new: New = input.body()?;
    must_be_own_organization(&caller, new.organization_id.as_deref())?;
    let new = NewIdentity {
        name: new.name,
        role: role(&new.role)?,
        has_delete_protection: new.has_delete_protection,
        metadata: new.metadata,
    };
    reply(&app.services.create_identity(&caller, new).await?)
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let List { org_id, organization_id, page } = input.query()?;
    must_be_own_organization(&caller, org_id.as_deref())?;
    must_be_own_organization(&caller, organization_id.as_deref())?;
    let (identities, total) = app.services.identities(&caller, page.offset, page.limit).await?;
    let identities: Vec<Value> = identities.iter().map(render_member_of_organization).collect();
    Reply::json(&json!({ "identities": identities, "totalCount": total }))
}

async fn details(app: App, caller: Caller, _input: Input) -> Result<Reply> {
    let organization = app.services.organization(&caller).await?;
    let organization = json!({ "id": organization.id, "name": organization.name, "slug": organization.slug });
    Reply::json(&wrapped("identityDetails", wrapped("organization", organization)))
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    let identity = app.services.identity(&caller, identity_id).await?;
    Reply::json(&wrapped("identity", render_member_of_organization(&identity)))
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    let sent: Change = input.body()?;
    let change = IdentityChange {
        name: sent.name,
        role: sent.role.as_deref().map(role).transpose()?,
        has_delete_protection: sent.has_delete_protection,
        metadata: sent.metadata,
    };
    reply(&app.services.change_identity(&caller, identity_id, change).await?)
}

async fn delete(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    reply(&app.services.delete_identity(&caller, identity_id).await?)
}

fn reply(identity: &Identity) -> Result<Reply> {
    Reply::json(&wrapped("identity", render(identity)))
}

/// The schema lets only known roles through.
fn role(name: &str) -> Result<OrganizationRole> {
    Ok(OrganizationRole::parse(name).ok_or_else(|| Error::failed("the schema let an unknown role through"))?)
}

/// An identity with its place in the organisation.
pub(crate) fn render(identity: &Identity) -> Value {
    json!({
        "id": identity.id,
        "name": identity.name,
        "hasDeleteProtection": identity.has_delete_protection,
        "authMethods": auth_methods(identity),
        "createdAt": timestamp(identity.created_at),
        "updatedAt": timestamp(identity.updated_at),
        "orgId": identity.organization,
        "role": identity.role.as_str(),
        "metadata": identity.metadata,
    })
}

/// How an identity can log in.
pub(crate) fn auth_methods(identity: &Identity) -> &'static [&'static str] {
    if identity.has_universal_auth { &["universal-auth"] } else { &[] }
}

/// As [`render`], and the identity once more as its own member: clients read one or the other (contract §2.6, C:TF).
fn render_member_of_organization(identity: &Identity) -> Value {
    let mut shown = render(identity);
    shown["identity"] = json!({
        "id": identity.id,
        "name": identity.name,
        "hasDeleteProtection": identity.has_delete_protection,
        "authMethods": auth_methods(identity),
        "createdAt": timestamp(identity.created_at),
        "updatedAt": timestamp(identity.updated_at),
        "orgId": identity.organization,
    });
    shown
}

fn new_identity_schema() -> Schema {
    let entry = object([required("key", text().at_least(1).at_most(255)), required("value", text().at_most(1020))]);
    object([
        required("name", text().at_least(1).at_most(255)),
        optional("organizationId", text().nullable().describe("The caller's own organisation")),
        optional("role", one_of(ROLES).default(json!(OrganizationRole::NoAccess.as_str()))),
        optional("hasDeleteProtection", boolean().default(json!(false))),
        optional("metadata", list(entry).at_most(100).default(json!([]))),
    ])
}

pub(crate) fn identity_schema() -> Schema {
    object([
        required("id", uuid()),
        required("name", text()),
        required("hasDeleteProtection", boolean()),
        required("authMethods", list(one_of(&["universal-auth"]))),
        required("createdAt", date()),
        required("updatedAt", date()),
        required("orgId", uuid()),
        optional("role", one_of(ROLES)),
        optional("metadata", list(object([required("key", text()), required("value", text())]))),
        optional("identity", any().describe("The identity once more, in lists and when one is shown")),
    ])
}

fn organization_schema() -> Schema {
    object([required("id", uuid()), required("name", text()), required("slug", text())])
}
