//! App connections (contract syncs §3): how other systems are reached. Secrets go in and never come out.

use crate::app::App;
use crate::error::Result;
use crate::render::{timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Schema, any, boolean, date, integer, list, object, one_of, optional, present, required, slug, text, uuid, verbatim,
};
use domain::caller::Caller;
use domain::connection::{Connection, ConnectionKind, Credentials};
use domain::{ConnectionId, Error, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::connections::{ConnectionChange, NewConnection};

const TAG: &str = "App connections";

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    let mut routes = vec![
        Endpoint::get("/api/v1/app-connections", TAG, "List app connections")
            .query([optional("projectId", uuid())])
            .returns(wrapper("appConnections", list(connection_schema())))
            .bearer(list_all),
        Endpoint::get("/api/v1/app-connections/options", TAG, "List the kinds of app connections")
            .returns(wrapper(
                "appConnectionOptions",
                list(object([required("name", text()), required("app", text()), required("methods", list(text()))])),
            ))
            .bearer(options),
    ];
    for kind in ConnectionKind::ALL {
        routes.extend(of_one(kind));
    }
    routes
}

/// The routes of one kind. Their paths are made once, when the server starts.
fn of_one(kind: ConnectionKind) -> Vec<Route<App>> {
    let at = |rest: &str| -> &'static str { String::leak(format!("/api/v1/app-connections/{}{rest}", kind.slug())) };
    let one = at("/{connectionId}");
    let id = || [required("connectionId", uuid())];
    let shown = || wrapper("appConnection", connection_schema());
    let brief = object([required("app", text()), required("name", text()), required("id", uuid())]);
    vec![
        Endpoint::get(at(""), TAG, "List app connections of a kind")
            .query([optional("projectId", uuid())])
            .returns(wrapper("appConnections", list(connection_schema())))
            .bearer(move |app, caller, input| list_of(kind, app, caller, input)),
        Endpoint::get(at("/available"), TAG, "List app connections that may be used")
            .query([optional("projectId", uuid())])
            .returns(wrapper("appConnections", list(brief)))
            .bearer(move |app, caller, input| available(kind, app, caller, input)),
        Endpoint::get(one, TAG, "Get an app connection")
            .path(id())
            .returns(shown())
            .bearer(move |app, caller, input| show(kind, app, caller, input)),
        Endpoint::get(at("/connection-name/{name}"), TAG, "Get an app connection by its name")
            .path([required("name", text().at_least(1))])
            .returns(shown())
            .bearer(move |app, caller, input| show_named(kind, app, caller, input)),
        Endpoint::post(at(""), TAG, "Make an app connection")
            .describe("The other system is asked first: credentials that it does not accept are not kept.")
            .body(object([
                required("name", slug(1, 64)),
                optional("description", text().at_most(256).nullable()),
                required("method", one_of(kind.methods())),
                required("credentials", credentials_schema(kind)),
                optional("projectId", uuid()),
                optional("gatewayId", uuid().nullable()),
                optional("isPlatformManagedCredentials", boolean()),
            ]))
            .returns(shown())
            .bearer(move |app, caller, input| create(kind, app, caller, input)),
        Endpoint::patch(one, TAG, "Change an app connection")
            .describe("New credentials are checked first, and hold for every sync from then on.")
            .path(id())
            .body(object([
                optional("name", slug(1, 64)),
                optional("description", text().at_most(256).nullable()),
                optional("credentials", credentials_schema(kind)),
                optional("gatewayId", uuid().nullable()),
                optional("isPlatformManagedCredentials", boolean()),
            ]))
            .returns(shown())
            .bearer(move |app, caller, input| change(kind, app, caller, input)),
        Endpoint::post(at("/{connectionId}/check"), TAG, "Ask whether an app connection works")
            .path(id())
            .returns(shown())
            .bearer(move |app, caller, input| check(kind, app, caller, input)),
        Endpoint::delete(one, TAG, "Delete an app connection")
            .describe("One that a sync uses is not deleted.")
            .path(id())
            .returns(shown())
            .bearer(move |app, caller, input| delete(kind, app, caller, input)),
    ]
}

/// What convinces a system, whatever the method: which fields belong together is checked after this.
fn credentials_schema(kind: ConnectionKind) -> Schema {
    let words = |max| text().at_least(1).at_most(max);
    let secret = |max| verbatim().at_least(1).at_most(max);
    match kind {
        ConnectionKind::Aws => object([
            optional("accessKeyId", words(128)),
            optional("secretAccessKey", secret(256)),
            optional("roleArn", words(2048)),
            optional("endpointUrl", words(2048)),
        ]),
        ConnectionKind::AzureKeyVault => object([
            required("clientId", words(50)),
            required("clientSecret", secret(50)),
            required("tenantId", uuid()),
            optional("endpointUrl", words(2048)),
            optional("tokenUrl", words(2048)),
        ]),
        ConnectionKind::Chef => object([
            optional("serverUrl", words(2048)),
            required("orgName", words(256)),
            required("userName", words(256)),
            required("privateKey", secret(16_384)),
        ]),
        ConnectionKind::Cloudflare => object([
            required("accountId", words(256)),
            required("apiToken", secret(256)),
            optional("endpointUrl", words(2048)),
        ]),
        ConnectionKind::F5BigIp => object([
            required("hostname", words(512)),
            optional("port", integer().at_least(1).at_most(65_535)),
            required("username", words(256)),
            required("password", secret(512)),
            optional("sslRejectUnauthorized", boolean()),
            optional("sslCertificate", verbatim().at_least(1).at_most(65_536)),
        ]),
        ConnectionKind::Gcp => object([
            required("serviceAccountEmail", words(320)),
            optional("endpointUrl", words(2048)),
            optional("tokenUrl", words(2048)),
        ]),
        ConnectionKind::HashicorpVault => object([
            required("instanceUrl", words(2048)),
            optional("namespace", words(256)),
            required("accessToken", secret(4096)),
        ]),
        ConnectionKind::Kubernetes => object([
            required("serverUrl", words(2048)),
            required("token", secret(16_384)),
            optional("caCertificate", verbatim().at_least(1).at_most(65_536)),
        ]),
        ConnectionKind::Ssh => object([
            required("host", words(253)),
            required("port", integer().at_least(1).at_most(65_535)),
            required("username", words(256)),
            optional("password", secret(1024)),
            optional("privateKey", secret(16_384)),
            optional("passphrase", secret(1024)),
            optional("hostKey", words(4096)),
        ]),
        ConnectionKind::Webhook => object([required("url", words(2048)), required("signingSecret", secret(256))]),
    }
}

fn connection_schema() -> Schema {
    object([
        required("id", uuid()),
        required("name", text()),
        optional("description", text().nullable()),
        required("app", text()),
        required("method", text()),
        required("orgId", uuid()),
        optional("projectId", uuid().nullable()),
        required("version", integer()),
        optional("gatewayId", uuid().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
        optional("isPlatformManagedCredentials", boolean()),
        required("credentials", any().describe("What may be shown of them.")),
    ])
}

fn shown(connection: &Connection) -> Value {
    json!({
        "id": connection.id,
        "name": connection.name,
        "description": connection.description,
        "app": connection.kind.slug(),
        "method": connection.method,
        "orgId": connection.organization,
        "projectId": connection.project,
        "version": connection.version,
        "gatewayId": null,
        "createdAt": timestamp(connection.created_at),
        "updatedAt": timestamp(connection.updated_at),
        "isPlatformManagedCredentials": false,
        "credentials": connection.shown,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Of {
    connection_id: ConnectionId,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InProject {
    project_id: Option<ProjectId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    name: String,
    description: Option<String>,
    method: String,
    credentials: Value,
    project_id: Option<ProjectId>,
    gateway_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    credentials: Option<Value>,
    gateway_id: Option<String>,
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.query()?;
    let connections = app.services.connections(&caller, None, project_id).await?;
    Reply::json(&wrapped("appConnections", connections.iter().map(shown).collect::<Vec<_>>()))
}

async fn options(_: App, _: Caller, _: Input) -> Result<Reply> {
    let option =
        |kind: ConnectionKind| json!({ "name": kind.display_name(), "app": kind.slug(), "methods": kind.methods() });
    Reply::json(&wrapped("appConnectionOptions", ConnectionKind::ALL.map(option).to_vec()))
}

async fn list_of(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.query()?;
    let connections = app.services.connections(&caller, Some(kind), project_id).await?;
    Reply::json(&wrapped("appConnections", connections.iter().map(shown).collect::<Vec<_>>()))
}

async fn available(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.query()?;
    let connections = app.services.connections(&caller, Some(kind), project_id).await?;
    let brief = |one: &Connection| json!({ "app": one.kind.slug(), "name": one.name, "id": one.id });
    Reply::json(&wrapped("appConnections", connections.iter().map(brief).collect::<Vec<_>>()))
}

async fn show(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { connection_id } = input.path()?;
    reply(&app.services.connection(&caller, kind, connection_id).await?)
}

async fn show_named(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Named { name } = input.path()?;
    reply(&app.services.connection_named(&caller, kind, &name).await?)
}

async fn create(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: New = input.body()?;
    must_have_no_gateway(body.gateway_id.as_deref())?;
    let new = NewConnection {
        name: body.name,
        description: body.description,
        project: body.project_id,
        credentials: Credentials::read(kind, &body.method, body.credentials)?,
    };
    reply(&app.services.create_connection(&caller, new).await?)
}

async fn change(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { connection_id } = input.path()?;
    let body: Change = input.body()?;
    must_have_no_gateway(body.gateway_id.as_deref())?;
    let change = ConnectionChange { name: body.name, description: body.description, credentials: body.credentials };
    reply(&app.services.change_connection(&caller, kind, connection_id, change).await?)
}

async fn check(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { connection_id } = input.path()?;
    reply(&app.services.check_connection(&caller, kind, connection_id).await?)
}

async fn delete(kind: ConnectionKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { connection_id } = input.path()?;
    reply(&app.services.delete_connection(&caller, kind, connection_id).await?)
}

fn reply(connection: &Connection) -> Result<Reply> {
    Reply::json(&wrapped("appConnection", shown(connection)))
}

fn must_have_no_gateway(gateway: Option<&str>) -> Result<()> {
    match gateway {
        None => Ok(()),
        Some(_) => Err(Error::invalid("gatewayId: connections go out from the server itself, not by a gateway").into()),
    }
}
