//! Certificate authorities over REST: the v1 family, the typed families by name and by id, and the lists of both
//! (contract §3.1–3.11, 3.15, 3.16, 4.1–4.4). One set of use cases behind all of them.

mod certificates;
mod lists;
mod shapes;

use crate::app::App;
use crate::error::Result;
use crate::render::{wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{any, boolean, integer, list, object, one_of, optional, required, search_text, slug, text, uuid};
use domain::authority::AuthorityStatus;
use domain::caller::Caller;
use domain::{AuthorityId, Error, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::authorities::{AuthorityChange, NewAuthority};
use shapes::{
    Configuration, CreateFlat, configuration_schema, flat, flat_create_schema, flat_schema, nested, nested_schema,
};

const TAG: &str = "Certificate authorities";

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    let mut routes = vec![
        Endpoint::post("/api/v1/pki/ca", TAG, "Create a certificate authority")
            .body(flat_create_schema())
            .returns(wrapper("ca", flat_schema()))
            .bearer(create_flat),
        Endpoint::get("/api/v1/pki/ca/{caId}", TAG, "Get a certificate authority")
            .path([required("caId", text())])
            .returns(wrapper("ca", flat_schema()))
            .bearer(get_flat),
        Endpoint::patch("/api/v1/pki/ca/{caId}", TAG, "Change a certificate authority")
            .path([required("caId", text())])
            .body(object([
                optional("status", one_of(&["active", "disabled"])),
                optional("requireTemplateForIssuance", boolean()),
            ]))
            .returns(wrapper("ca", flat_schema()))
            .bearer(change_flat),
        Endpoint::delete("/api/v1/pki/ca/{caId}", TAG, "Delete a certificate authority")
            .path([required("caId", text())])
            .returns(wrapper("ca", flat_schema()))
            .bearer(delete_flat),
        Endpoint::get("/api/v2/workspace/{slug}/cas", TAG, "List the certificate authorities of a project")
            .path([required("slug", text())])
            .query([
                optional("status", one_of(&["active", "pending-certificate", "disabled"])),
                optional("friendlyName", search_text()),
                optional("commonName", search_text()),
                optional("offset", integer().at_least(0).at_most(100).default(json!(0))),
                optional("limit", integer().at_least(1).at_most(100).default(json!(25))),
            ])
            .returns(wrapper("cas", list(flat_schema())))
            .bearer(list_flat),
        Endpoint::get("/api/v1/cert-manager/ca", TAG, "List certificate authorities of all types")
            .also_at("/api/v2/pki/ca")
            .query([optional("projectId", uuid())])
            .returns(wrapper("certificateAuthorities", list(nested_schema())))
            .bearer(list_all),
    ];
    routes.extend(typed_by_id());
    routes.extend(typed_by_name());
    routes.extend(certificates::routes());
    routes.extend(lists::routes());
    routes.extend(external_types());
    routes
}

fn typed_by_id() -> Vec<Route<App>> {
    const LIST: &str = "/api/v1/cert-manager/ca/internal";
    const ONE: &str = "/api/v1/cert-manager/ca/internal/{caId}";
    vec![
        Endpoint::get(LIST, TAG, "List internal certificate authorities")
            .query([optional("projectId", uuid())])
            .returns(list(nested_schema()))
            .bearer(list_nested),
        Endpoint::post(LIST, TAG, "Create an internal certificate authority")
            .body(object([
                required("name", slug(1, 64)),
                optional("projectId", uuid()),
                optional("status", one_of(&["active", "disabled", "pending-certificate"])),
                optional("enableDirectIssuance", boolean()),
                required("configuration", configuration_schema()),
            ]))
            .returns(nested_schema())
            .bearer(create_nested),
        Endpoint::get(ONE, TAG, "Get an internal certificate authority")
            .path([required("caId", uuid())])
            .returns(nested_schema())
            .bearer(get_nested),
        Endpoint::patch(ONE, TAG, "Change an internal certificate authority")
            .path([required("caId", uuid())])
            .body(object([
                optional("name", slug(1, 64)),
                optional("status", one_of(&["active", "disabled", "pending-certificate"])),
                optional("enableDirectIssuance", boolean()),
                optional("configuration", any()),
            ]))
            .returns(nested_schema())
            .bearer(change_nested),
        Endpoint::delete(ONE, TAG, "Delete an internal certificate authority")
            .path([required("caId", uuid())])
            .returns(nested_schema())
            .bearer(delete_nested),
    ]
}

fn typed_by_name() -> Vec<Route<App>> {
    const LIST: &str = "/api/v1/pki/ca/internal";
    const ONE: &str = "/api/v1/pki/ca/internal/{caName}";
    vec![
        Endpoint::get(LIST, TAG, "List internal certificate authorities by project")
            .query([required("projectId", uuid())])
            .returns(list(nested_schema()))
            .bearer(list_nested),
        Endpoint::post(LIST, TAG, "Create a named internal certificate authority")
            .body(object([
                required("name", slug(1, 64)),
                required("projectId", uuid()),
                required("enableDirectIssuance", boolean()),
                required("status", one_of(&["active", "disabled", "pending-certificate"])),
                required("configuration", configuration_schema()),
            ]))
            .returns(nested_schema())
            .bearer(create_nested),
        Endpoint::get(ONE, TAG, "Get a named internal certificate authority")
            .path([required("caName", text())])
            .query([required("projectId", uuid())])
            .returns(nested_schema())
            .bearer(get_named),
        Endpoint::patch(ONE, TAG, "Change a named internal certificate authority")
            .path([required("caName", text())])
            .body(object([
                required("projectId", uuid()),
                optional("name", slug(1, 64)),
                optional("status", one_of(&["active", "disabled", "pending-certificate"])),
                optional("enableDirectIssuance", boolean()),
                optional("configuration", any()),
            ]))
            .returns(nested_schema())
            .bearer(change_named),
        Endpoint::delete(ONE, TAG, "Delete a named internal certificate authority")
            .path([required("caName", text())])
            .body(object([required("projectId", uuid())]))
            .returns(nested_schema())
            .bearer(delete_named),
    ]
}

/// Authorities outside this server are not served; their collections are empty, so that clients can list them.
fn external_types() -> Vec<Route<App>> {
    let paths = [
        ("/api/v1/cert-manager/ca/acme", "/api/v1/pki/ca/acme"),
        ("/api/v1/cert-manager/ca/azure-ad-cs", "/api/v1/pki/ca/azure-ad-cs"),
    ];
    let mut routes = Vec::new();
    for (path, alias) in paths {
        routes.push(
            Endpoint::get(path, TAG, "List external certificate authorities: there are none")
                .also_at(alias)
                .returns(list(any()))
                .bearer(|_, _, _| async { Reply::json(&json!([])) }),
        );
        routes.push(
            Endpoint::post(path, TAG, "External certificate authorities are not supported").also_at(alias).bearer(
                |_: App, _: Caller, _| async {
                    Err(Error::invalid(
                        "certificate authorities outside this server are not supported; create an internal one",
                    )
                    .into())
                },
            ),
        );
    }
    routes
}

/// The id in the path; what is no UUID names nothing.
pub(crate) fn authority_id(input: &Input) -> Result<AuthorityId> {
    let text = input.parameter("caId");
    let missing = || Error::not_found(format!("there is no certificate authority {text}"));
    Ok(AuthorityId::parse(text).ok_or_else(missing)?)
}

async fn create_flat(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: CreateFlat = input.body()?;
    let project = app.services.certificate_project_by_slug(&caller, &body.project_slug).await?;
    let authority = app.services.create_authority(&caller, project.id, body.into_new()?).await?;
    Reply::json(&wrapped("ca", flat(&authority)))
}

async fn get_flat(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let authority = app.services.authority(&caller, authority_id(&input)?).await?;
    Reply::json(&wrapped("ca", flat(&authority)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeFlat {
    status: Option<String>,
    require_template_for_issuance: Option<bool>,
}

async fn change_flat(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: ChangeFlat = input.body()?;
    let change = AuthorityChange {
        name: None,
        status: body.status.as_deref().and_then(AuthorityStatus::parse),
        enable_direct_issuance: body.require_template_for_issuance.map(|required| !required),
    };
    let authority = app.services.change_authority(&caller, id, change).await?;
    Reply::json(&wrapped("ca", flat(&authority)))
}

async fn delete_flat(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let authority = app.services.delete_authority(&caller, authority_id(&input)?).await?;
    Reply::json(&wrapped("ca", flat(&authority)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListFlat {
    status: Option<String>,
    friendly_name: Option<String>,
    common_name: Option<String>,
    offset: usize,
    limit: usize,
}

async fn list_flat(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let project = app.services.certificate_project_by_slug(&caller, input.parameter("slug")).await?;
    let query: ListFlat = input.query()?;
    let same = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
    let authorities = app.services.authorities(&caller, project.id).await?;
    let found = authorities.iter().filter(|authority| {
        same(&query.status, authority.status.as_str())
            && same(&query.friendly_name, &authority.configuration.friendly_name)
            && same(&query.common_name, &authority.configuration.common_name)
    });
    let shown: Vec<Value> = found.skip(query.offset).take(query.limit).map(flat).collect();
    Reply::json(&wrapped("cas", shown))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InProject {
    project_id: Option<ProjectId>,
}

async fn nested_of_project(app: &App, caller: &Caller, input: &mut Input) -> Result<Vec<Value>> {
    let query: InProject = input.query()?;
    let project = app.services.project_for(caller, query.project_id).await?;
    Ok(app.services.authorities(caller, project).await?.iter().map(nested).collect())
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    Reply::json(&wrapped("certificateAuthorities", nested_of_project(&app, &caller, &mut input).await?))
}

async fn list_nested(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    Reply::json(&nested_of_project(&app, &caller, &mut input).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateNested {
    name: String,
    project_id: Option<ProjectId>,
    status: Option<String>,
    enable_direct_issuance: Option<bool>,
    configuration: Configuration,
}

async fn create_nested(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: CreateNested = input.body()?;
    let project = app.services.project_for(&caller, body.project_id).await?;
    let new: NewAuthority =
        body.configuration.into_new(Some(body.name), body.enable_direct_issuance.unwrap_or(true))?;
    let authority = app.services.create_authority(&caller, project, new).await?;
    let mut shown = nested(&authority);
    if let Some(status) = body.status {
        // contract §4.1: the status that was sent is echoed here; what is stored follows from the certificate.
        shown["status"] = status.into();
    }
    Reply::json(&shown)
}

async fn get_nested(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let authority = app.services.authority(&caller, authority_id(&input)?).await?;
    Reply::json(&nested(&authority))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeNested {
    name: Option<String>,
    status: Option<String>,
    enable_direct_issuance: Option<bool>,
    project_id: Option<ProjectId>,
}

impl ChangeNested {
    fn into_change(self) -> AuthorityChange {
        AuthorityChange {
            name: self.name,
            status: self.status.as_deref().and_then(AuthorityStatus::parse),
            enable_direct_issuance: self.enable_direct_issuance,
        }
    }
}

async fn change_nested(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: ChangeNested = input.body()?;
    Reply::json(&nested(&app.services.change_authority(&caller, id, body.into_change()).await?))
}

async fn delete_nested(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&nested(&app.services.delete_authority(&caller, authority_id(&input)?).await?))
}

async fn named(app: &App, caller: &Caller, project: Option<ProjectId>, name: &str) -> Result<AuthorityId> {
    let project = app.services.project_for(caller, project).await?;
    Ok(app.services.authority_named(caller, project, name).await?)
}

async fn get_named(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let query: InProject = input.query()?;
    let id = named(&app, &caller, query.project_id, input.parameter("caName")).await?;
    Reply::json(&nested(&app.services.authority(&caller, id).await?))
}

async fn change_named(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: ChangeNested = input.body()?;
    let id = named(&app, &caller, body.project_id, input.parameter("caName")).await?;
    Reply::json(&nested(&app.services.change_authority(&caller, id, body.into_change()).await?))
}

async fn delete_named(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: InProject = input.body()?;
    let id = named(&app, &caller, body.project_id, input.parameter("caName")).await?;
    Reply::json(&nested(&app.services.delete_authority(&caller, id).await?))
}
