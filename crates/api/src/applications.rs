//! Applications (contract §8): what they are called, which profiles they have, who their members are. Current clients name
//! no project and mean the default one.

mod enrollment;
mod members;
mod profiles;

use domain::application::Application;
use domain::caller::Caller;
use domain::{ApplicationId, ProfileId, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::applications::{ApplicationChange, NewApplication};

use crate::app::App;
use crate::error::Result;
use crate::render::{Page, page, timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, date, integer, list, object, optional, present, required, search_text, slug, text, uuid};

const APPLICATIONS: &str = "Applications";
/// The most profiles that one request attaches.
const PROFILES_MAX: i64 = domain::application::PROFILES_OF_APPLICATION_MAX as i64;

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    [own(), profiles::routes(), enrollment::routes(), members::routes()].concat()
}

fn own() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/cert-manager/applications";
    const ONE: &str = "/api/v1/cert-manager/applications/{applicationId}";
    const NAMED: &str = "/api/v1/cert-manager/applications/by-name/{name}";
    let one = |endpoint: Endpoint| {
        endpoint.path([required("applicationId", uuid())]).returns(wrapper("application", application_schema()))
    };
    vec![
        Endpoint::post(ALL, APPLICATIONS, "Make an application")
            .body(object([
                optional("projectId", uuid().describe("The default project when absent")),
                required("name", slug(1, 64)),
                optional("description", description()),
                optional("profileIds", list(uuid()).at_most(PROFILES_MAX)),
            ]))
            .returns(wrapper("application", application_schema()))
            .bearer(create),
        Endpoint::get(ALL, APPLICATIONS, "List applications")
            .describe("Those that you may see: by your role in the project, or as a member of the application.")
            .query([
                optional("projectId", uuid().describe("The default project when absent")),
                optional("search", search_text().default(json!(""))),
            ])
            .query(page(20, 100))
            .returns(object([
                required(
                    "applications",
                    list(
                        application_schema()
                            .with([required("profileCount", integer()), required("memberCount", integer())]),
                    ),
                ),
                required("total", integer()),
            ]))
            .bearer(list_all),
        one(Endpoint::get(ONE, APPLICATIONS, "Show an application")).bearer(show),
        Endpoint::get(NAMED, APPLICATIONS, "Show an application by its name")
            .path([required("name", text())])
            .query([optional("projectId", uuid().describe("The default project when absent"))])
            .returns(wrapper("application", application_schema()))
            .bearer(show_by_name),
        one(Endpoint::patch(ONE, APPLICATIONS, "Change an application"))
            .body(object([optional("name", slug(1, 64)), optional("description", description())]).rule(
                &[],
                "name or description must be there",
                |body| body.get("name").is_some() || body.get("description").is_some(),
            ))
            .bearer(change),
        one(Endpoint::delete(ONE, APPLICATIONS, "Delete an application"))
            .describe("With its attachments and memberships. Certificates that were made through it stay as they are.")
            .bearer(delete),
    ]
}

fn description() -> Schema {
    text().at_most(256).nullable()
}

fn application_schema() -> Schema {
    object([
        required("id", uuid()),
        required("projectId", uuid()),
        required("name", text()),
        required("description", text().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

/// The path of what belongs to one application.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfApplication {
    application_id: ApplicationId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    project_id: Option<ProjectId>,
    name: String,
    description: Option<String>,
    #[serde(default)]
    profile_ids: Vec<ProfileId>,
}

#[derive(Deserialize)]
struct Change {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    project_id: Option<ProjectId>,
    search: String,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InProject {
    project_id: Option<ProjectId>,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let New { project_id, name, description, profile_ids } = input.body()?;
    let project = app.services.project_for(&caller, project_id).await?;
    let new = NewApplication { name, description, profiles: profile_ids };
    reply(&app.services.create_application(&caller, project, new).await?)
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let List { project_id, search, page: Page { offset, limit } } = input.query()?;
    let (listed, total) = app.services.applications(&caller, project_id, &search, offset, limit).await?;
    let shown = listed.iter().map(|listed| {
        let mut shown = render(&listed.application);
        shown["profileCount"] = listed.profiles.into();
        shown["memberCount"] = listed.members.into();
        shown
    });
    Reply::json(&json!({ "applications": shown.collect::<Vec<_>>(), "total": total }))
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    reply(&app.services.application(&caller, application_id).await?)
}

async fn show_by_name(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.query()?;
    reply(&app.services.application_by_name(&caller, project_id, input.parameter("name")).await?)
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    let Change { name, description } = input.body()?;
    let change = ApplicationChange { name, description };
    reply(&app.services.change_application(&caller, application_id, change).await?)
}

async fn delete(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    reply(&app.services.delete_application(&caller, application_id).await?)
}

fn reply(application: &Application) -> Result<Reply> {
    Reply::json(&wrapped("application", render(application)))
}

fn render(application: &Application) -> Value {
    json!({
        "id": application.id,
        "projectId": application.project,
        "name": application.name,
        "description": application.description,
        "createdAt": timestamp(application.created_at),
        "updatedAt": timestamp(application.updated_at),
    })
}
