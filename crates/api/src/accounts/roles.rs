//! The roles of a project: the built-in ones, and the ones that it made for itself (contract §2.7).

use domain::caller::Caller;
use domain::permission::{Rule, parse_rules};
use domain::role::{BuiltInRole, CustomRole};
use domain::{Error, ProjectId, Reason, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use services::members::RoleChange;

use super::PROJECTS;
use crate::app::App;
use crate::error::Result;
use crate::render::{timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, boolean, date, list, object, optional, present, required, slug, text, uuid};

/// The routes of this file.
pub fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/projects/{projectId}/roles";
    const ONE: &str = "/api/v1/projects/{projectId}/roles/{slug}";
    let one = |endpoint: Endpoint| {
        endpoint.path([required("projectId", uuid()), required("slug", text())]).returns(wrapper("role", role_schema()))
    };
    vec![
        Endpoint::post(ALL, PROJECTS, "Make a role")
            .path([required("projectId", uuid())])
            .body(new_role_schema())
            .returns(wrapper("role", role_schema()))
            .bearer(create),
        Endpoint::get(ALL, PROJECTS, "List the roles of a project, the built-in ones first")
            .path([required("projectId", uuid())])
            .returns(wrapper("roles", list(role_schema())))
            .bearer(list_all),
        one(Endpoint::get(ONE, PROJECTS, "Show a role")).bearer(show),
        one(Endpoint::patch(ONE, PROJECTS, "Change a role"))
            .describe("Members have the new rules with this answer.")
            .body(new_role_schema().partial())
            .bearer(change),
        one(Endpoint::delete(ONE, PROJECTS, "Delete a role that nobody holds")).bearer(delete),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProject {
    project_id: ProjectId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfRole {
    project_id: ProjectId,
    slug: String,
}

#[derive(Deserialize)]
struct SentRole {
    slug: Option<String>,
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    permissions: Option<Value>,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let new = input.body::<SentRole>()?.change()?;
    reply(&app.services.create_role(&caller, project_id, new).await?)
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let custom = app.services.roles(&caller, project_id).await?;
    let roles =
        BuiltInRole::ALL.into_iter().map(|role| render_built_in(role, project_id)).chain(custom.iter().map(render));
    Reply::json(&wrapped("roles", roles.collect::<Vec<_>>()))
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfRole { project_id, slug } = input.path()?;
    let custom = app.services.roles(&caller, project_id).await?;
    let role = match BuiltInRole::parse(&slug) {
        Some(role) => render_built_in(role, project_id),
        None => match custom.iter().find(|role| role.slug == slug) {
            Some(role) => render(role),
            None => return Err(Error::not_found(format!("the project has no role {slug}")).into()),
        },
    };
    Reply::json(&wrapped("role", role))
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfRole { project_id, slug } = input.path()?;
    let change = input.body::<SentRole>()?.change()?;
    reply(&app.services.change_role(&caller, project_id, &slug, change).await?)
}

async fn delete(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfRole { project_id, slug } = input.path()?;
    reply(&app.services.delete_role(&caller, project_id, &slug).await?)
}

impl SentRole {
    fn change(self) -> Result<RoleChange> {
        Ok(RoleChange {
            slug: self.slug,
            name: self.name,
            description: self.description,
            permissions: self.permissions.as_ref().map(rules).transpose()?,
        })
    }
}

/// The rules, or 422 with every mistake at its path.
fn rules(sent: &Value) -> Result<Vec<Rule>> {
    parse_rules("permissions", sent).map_err(|mistakes| Refusal::violations(Reason::Malformed, mistakes).into())
}

fn reply(role: &CustomRole) -> Result<Reply> {
    Reply::json(&wrapped("role", render(role)))
}

fn render(role: &CustomRole) -> Value {
    json!({
        "id": role.id,
        "projectId": role.project,
        "slug": role.slug,
        "name": role.name,
        "description": role.description,
        "permissions": role.permissions,
        "createdAt": timestamp(role.created_at),
        "updatedAt": timestamp(role.updated_at),
    })
}

/// A built-in role has neither id nor times: it is the same in every project and was never made.
fn render_built_in(role: BuiltInRole, project: ProjectId) -> Value {
    json!({
        "id": null,
        "projectId": project,
        "slug": role.slug(),
        "name": role.name(),
        "description": role.description(),
        "permissions": role.rules(),
        "createdAt": null,
        "updatedAt": null,
    })
}

fn new_role_schema() -> Schema {
    object([
        required("slug", slug(1, 64)),
        required("name", text().at_least(1).at_most(255)),
        optional("description", text().at_most(1000).nullable()),
        required(
            "permissions",
            list(any()).describe("Rules: action (a name or several), subject, inverted, conditions"),
        ),
    ])
}

fn role_schema() -> Schema {
    let rule = object([
        required("subject", text()),
        required("action", any()),
        required("inverted", boolean()),
        optional("conditions", any()),
    ]);
    object([
        required("id", uuid().nullable()),
        required("projectId", uuid()),
        required("slug", text()),
        required("name", text()),
        required("description", text().nullable()),
        required("permissions", list(rule)),
        required("createdAt", date().nullable()),
        required("updatedAt", date().nullable()),
    ])
}
