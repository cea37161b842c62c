//! Projects (contract §2.6). The older families call them workspaces.

use domain::caller::Caller;
use domain::identity::{PROJECT_KIND_CERTIFICATES, Project};
use domain::slug::{PROJECT_SLUG_CHARACTERS, parse_slug};
use domain::{Error, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::projects::{NewProject, ProjectChange};

use super::PROJECTS;
use crate::app::App;
use crate::error::Result;
use crate::render::{timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, boolean, date, integer, list, object, optional, present, required, text, uuid};

/// The routes of this file.
pub fn routes() -> Vec<Route<App>> {
    let by_id = |endpoint: Endpoint| endpoint.path([required("projectId", uuid())]);
    let project = || wrapper("project", project_schema());
    vec![
        Endpoint::post("/api/v2/workspace", PROJECTS, "Make a project")
            .also_at("/api/v1/projects")
            .describe("Whoever makes a project is its admin.")
            .body(new_project_schema())
            .returns(project())
            .bearer(create),
        Endpoint::get("/api/v2/workspace/{slug}", PROJECTS, "Show a project by its slug")
            .also_at("/api/v1/projects/slug/{slug}")
            .returns(project_schema())
            .bearer(show_by_slug),
        Endpoint::patch("/api/v2/workspace/{slug}", PROJECTS, "Change a project by its slug")
            .body(change_schema().without(&["slug"]))
            .returns(project_schema())
            .bearer(change_by_slug),
        Endpoint::delete("/api/v2/workspace/{slug}", PROJECTS, "Delete a project by its slug")
            .returns(project_schema())
            .bearer(delete_by_slug),
        Endpoint::get("/api/v1/projects", PROJECTS, "List the projects that the caller is a member of")
            .query([optional("type", text())])
            .returns(wrapper("projects", list(project_schema())))
            .bearer(|app, caller, input| list_all(app, caller, input, "projects")),
        Endpoint::get("/api/v1/workspace", PROJECTS, "List the projects that the caller is a member of")
            .query([optional("type", text())])
            .returns(wrapper("workspaces", list(project_schema())))
            .bearer(|app, caller, input| list_all(app, caller, input, "workspaces")),
        by_id(Endpoint::get("/api/v1/projects/{projectId}", PROJECTS, "Show a project"))
            .returns(project())
            .bearer(|app, caller, input| show(app, caller, input, "project")),
        by_id(Endpoint::get("/api/v1/workspace/{projectId}", PROJECTS, "Show a project"))
            .returns(wrapper("workspace", project_schema()))
            .bearer(|app, caller, input| show(app, caller, input, "workspace")),
        by_id(Endpoint::patch("/api/v1/projects/{projectId}", PROJECTS, "Change a project"))
            .body(change_schema())
            .returns(project())
            .bearer(change),
        by_id(Endpoint::delete("/api/v1/projects/{projectId}", PROJECTS, "Delete a project"))
            .returns(project())
            .bearer(delete),
        Endpoint::get("/api/v1/cert-manager/instance/active-project", PROJECTS, "Show the default project")
            .describe("The project that is meant when a request names none.")
            .returns(object([required("projectId", uuid()), required("project", project_schema())]))
            .bearer(show_default),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    project_name: String,
    project_description: Option<String>,
    slug: Option<String>,
    organization_slug: Option<String>,
    r#type: String,
    has_delete_protection: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    name: Option<String>,
    slug: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    has_delete_protection: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProject {
    project_id: ProjectId,
}

#[derive(Deserialize)]
struct List {
    r#type: Option<String>,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let new: New = input.body()?;
    if new.r#type != PROJECT_KIND_CERTIFICATES {
        let message =
            format!("projects of type {} are not served; the only type is {PROJECT_KIND_CERTIFICATES}", new.r#type);
        return Err(Error::invalid(message).into());
    }
    if let Some(named) = new.organization_slug.filter(|slug| !slug.is_empty())
        && named != app.services.organization(&caller).await?.slug
    {
        return Err(Error::not_found(format!("there is no organisation {named}")).into());
    }
    let new = NewProject {
        name: new.project_name,
        slug: new.slug.filter(|slug| !slug.is_empty()),
        description: new.project_description,
        has_delete_protection: new.has_delete_protection,
    };
    reply(&app.services.create_project(&caller, new).await?)
}

async fn show_by_slug(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let project = app.services.project_by_slug(&caller, input.parameter("slug")).await?;
    Reply::json(&render(&project))
}

async fn change_by_slug(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let project = app.services.project_by_slug(&caller, input.parameter("slug")).await?;
    let change: Change = input.body()?;
    Reply::json(&render(&app.services.change_project(&caller, project.id, change.into()).await?))
}

async fn delete_by_slug(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let project = app.services.project_by_slug(&caller, input.parameter("slug")).await?;
    Reply::json(&render(&app.services.delete_project(&caller, project).await?))
}

async fn list_all(app: App, caller: Caller, mut input: Input, name: &'static str) -> Result<Reply> {
    let List { r#type } = input.query()?;
    let projects = app.services.projects(&caller).await?;
    let of_type = projects.iter().filter(|project| r#type.as_ref().is_none_or(|wanted| matches(wanted, project)));
    Reply::json(&wrapped(name, of_type.map(render).collect::<Vec<_>>()))
}

fn matches(wanted: &str, project: &Project) -> bool {
    wanted == "all" || wanted == project.kind
}

async fn show(app: App, caller: Caller, mut input: Input, name: &'static str) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    Reply::json(&wrapped(name, render(&app.services.project(&caller, project_id).await?)))
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let change: Change = input.body()?;
    reply(&app.services.change_project(&caller, project_id, change.into()).await?)
}

async fn delete(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let project = app.services.project(&caller, project_id).await?;
    reply(&app.services.delete_project(&caller, project).await?)
}

async fn show_default(app: App, caller: Caller, _input: Input) -> Result<Reply> {
    let id = app.services.project_for(&caller, None).await?;
    let project = app.services.project(&caller, id).await?;
    Reply::json(&json!({ "projectId": id, "project": render(&project) }))
}

impl From<Change> for ProjectChange {
    fn from(sent: Change) -> Self {
        Self {
            name: sent.name,
            slug: sent.slug,
            description: sent.description,
            has_delete_protection: sent.has_delete_protection,
        }
    }
}

fn reply(project: &Project) -> Result<Reply> {
    Reply::json(&wrapped("project", render(project)))
}

/// A project. Members that other products of the original need have the value that says "nothing of it".
fn render(project: &Project) -> Value {
    json!({
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "slug": project.slug,
        "type": project.kind,
        "orgId": project.organization,
        "autoCapitalization": false,
        "version": 3,
        "upgradeStatus": null,
        "environments": [],
        "hasDeleteProtection": project.has_delete_protection,
        "auditLogsRetentionDays": null,
        "kmsSecretManagerKeyId": null,
        "createdAt": timestamp(project.created_at),
        "updatedAt": timestamp(project.updated_at),
    })
}

fn name() -> Schema {
    text().at_least(1).at_most(255)
}

fn description() -> Schema {
    text().at_most(1000).nullable()
}

fn slug() -> Schema {
    text().must("Must be a slug of 5 to 64 lower-case letters, digits and single hyphens between them", |slug| {
        parse_slug(slug, PROJECT_SLUG_CHARACTERS).is_ok()
    })
}

fn new_project_schema() -> Schema {
    let slug_or_nothing = text()
        .must("Must be a slug of 5 to 64 lower-case letters, digits and single hyphens between them", |slug| {
            slug.is_empty() || parse_slug(slug, PROJECT_SLUG_CHARACTERS).is_ok()
        })
        .nullable()
        .describe("Made from the name when absent or empty");
    object([
        required("projectName", name()),
        optional("projectDescription", description()),
        optional("slug", slug_or_nothing),
        optional("type", text().default(json!(PROJECT_KIND_CERTIFICATES))),
        optional("organizationSlug", text().nullable().describe("The caller's own organisation")),
        optional("hasDeleteProtection", boolean().default(json!(false))),
    ])
}

fn change_schema() -> Schema {
    object([
        optional("name", name()),
        optional("slug", slug()),
        optional("description", description()),
        optional("hasDeleteProtection", boolean()),
    ])
}

fn project_schema() -> Schema {
    object([
        required("id", uuid()),
        required("name", text()),
        required("description", text().nullable()),
        required("slug", text()),
        required("type", text()),
        required("orgId", uuid()),
        required("autoCapitalization", boolean()),
        required("version", integer()),
        required("upgradeStatus", text().nullable()),
        required("environments", list(any())),
        required("hasDeleteProtection", boolean()),
        required("auditLogsRetentionDays", integer().nullable()),
        required("kmsSecretManagerKeyId", text().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}
