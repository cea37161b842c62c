//! PKI syncs (contract syncs §1.1): the routes of all destinations, and the same routes again for each one.

mod shapes;

use crate::app::App;
use crate::error::Result;
use crate::render::{Page, page};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{integer, list, object, optional, present, required, text, uuid};
use domain::caller::Caller;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use domain::{ApplicationId, CertificateId, ConnectionId, Error, ProjectId, SyncId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::syncs::{CERTIFICATES_MAX, NewSync, SyncChange};
use shapes::{
    change_schema, general, general_schema, link, link_schema, linked, linked_schema, new_schema, of_destination,
    of_destination_schema, option, option_schema, planned, planned_schema,
};

const TAG: &str = "PKI syncs";
const BASE: &str = "/api/v1/pki/syncs";
const BASE_NEW: &str = "/api/v1/cert-manager/syncs";

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    let mut routes = of_all();
    for kind in DestinationKind::ALL {
        routes.extend(of_one(kind));
    }
    routes
}

fn of_all() -> Vec<Route<App>> {
    const CERTIFICATES: &str = "/api/v1/pki/syncs/{pkiSyncId}/certificates";
    const CERTIFICATES_NEW: &str = "/api/v1/cert-manager/syncs/{pkiSyncId}/certificates";
    let id = || [required("pkiSyncId", uuid())];
    let certificates =
        || object([required("certificateIds", list(uuid()).at_least(1).at_most(CERTIFICATES_MAX as i64))]);
    vec![
        Endpoint::get("/api/v1/pki/syncs/options", TAG, "List destinations and what they can do")
            .also_at("/api/v1/cert-manager/syncs/options")
            .returns(object([required("pkiSyncOptions", list(option_schema()))]))
            .bearer(options),
        Endpoint::get(BASE, TAG, "List PKI syncs")
            .also_at(BASE_NEW)
            .query([optional("projectId", uuid()), optional("certificateId", uuid())])
            .returns(object([required("pkiSyncs", list(general_schema()))]))
            .bearer(list_all),
        Endpoint::get("/api/v1/pki/syncs/{pkiSyncId}", TAG, "Get a PKI sync")
            .also_at("/api/v1/cert-manager/syncs/{pkiSyncId}")
            .path(id())
            .returns(general_schema())
            .bearer(show),
        Endpoint::get(CERTIFICATES, TAG, "List the certificates of a PKI sync")
            .also_at(CERTIFICATES_NEW)
            .describe("The newest link first, with what became of each certificate at the destination.")
            .path(id())
            .query(page(20, 100))
            .returns(object([required("certificates", list(linked_schema())), required("totalCount", integer())]))
            .bearer(list_certificates),
        Endpoint::post(CERTIFICATES, TAG, "Add certificates to a PKI sync")
            .also_at(CERTIFICATES_NEW)
            .describe("One that is linked already stays as it is. The destination is not waited for.")
            .path(id())
            .body(certificates())
            .returns(object([required("addedCertificates", list(link_schema()))]))
            .bearer(add),
        Endpoint::delete(CERTIFICATES, TAG, "Remove certificates from a PKI sync")
            .also_at(CERTIFICATES_NEW)
            .path(id())
            .body(certificates())
            .returns(object([required("removedCount", integer())]))
            .bearer(remove),
    ]
}

/// The routes of one destination. Their paths are made once, when the server starts.
fn of_one(kind: DestinationKind) -> Vec<Route<App>> {
    let at = |rest: &str| {
        let path = |base: &str| -> &'static str { String::leak(format!("{base}/{}{rest}", kind.slug())) };
        (path(BASE), path(BASE_NEW))
    };
    let id = || [required("pkiSyncId", uuid())];
    let ((all, all_new), (one, one_new)) = (at(""), at("/{pkiSyncId}"));
    let message = || object([required("message", text())]);
    let (run, run_new) = at("/{pkiSyncId}/sync");
    let (clear, clear_new) = at("/{pkiSyncId}/remove-certificates");
    let (preview, preview_new) = at("/{pkiSyncId}/preview");
    let mut routes = vec![
        Endpoint::get(all, TAG, "List the PKI syncs of a destination")
            .also_at(all_new)
            .query([optional("projectId", uuid())])
            .returns(object([required("pkiSyncs", list(of_destination_schema(kind)))]))
            .bearer(move |app, caller, input| list_of(kind, app, caller, input)),
        Endpoint::post(all, TAG, "Make a PKI sync")
            .also_at(all_new)
            .body(new_schema(kind))
            .returns(of_destination_schema(kind))
            .bearer(move |app, caller, input| create(kind, app, caller, input)),
        Endpoint::get(one, TAG, "Get a PKI sync of a destination")
            .also_at(one_new)
            .path(id())
            .returns(of_destination_schema(kind))
            .bearer(move |app, caller, input| show_of(kind, app, caller, input)),
        Endpoint::patch(one, TAG, "Change a PKI sync")
            .also_at(one_new)
            .describe("Sent syncOptions replace all of them. A change does not make the sync run.")
            .path(id())
            .body(change_schema(kind))
            .returns(of_destination_schema(kind))
            .bearer(move |app, caller, input| change(kind, app, caller, input)),
        Endpoint::delete(one, TAG, "Delete a PKI sync")
            .also_at(one_new)
            .describe("What it delivered stays at the destination.")
            .path(id())
            .returns(of_destination_schema(kind))
            .bearer(move |app, caller, input| delete(kind, app, caller, input)),
        Endpoint::post(run, TAG, "Run a PKI sync")
            .also_at(run_new)
            .path(id())
            .returns(message())
            .bearer(move |app, caller, input| begin(kind, app, caller, input)),
        Endpoint::get(preview, TAG, "See what a run of a PKI sync would do")
            .also_at(preview_new)
            .describe("The destination is asked; nothing is changed.")
            .path(id())
            .returns(object([
                required("create", list(planned_schema())),
                required("replace", list(planned_schema())),
                required("remove", list(planned_schema())),
                required("unchanged", list(planned_schema())),
            ]))
            .bearer(move |app, caller, input| preview_of(kind, app, caller, input)),
    ];
    if kind.can_remove() {
        routes.push(
            Endpoint::post(clear, TAG, "Remove what a PKI sync delivered")
                .also_at(clear_new)
                .path(id())
                .returns(message())
                .bearer(move |app, caller, input| begin_clearing(kind, app, caller, input)),
        );
    }
    routes
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Of {
    pki_sync_id: SyncId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    project_id: Option<ProjectId>,
    certificate_id: Option<CertificateId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificates {
    certificate_ids: Vec<CertificateId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    name: String,
    description: Option<String>,
    is_auto_sync_enabled: bool,
    destination_config: DestinationConfig,
    sync_options: Option<SyncOptions>,
    subscriber_id: Option<String>,
    connection_id: Option<ConnectionId>,
    project_id: Option<ProjectId>,
    application_id: Option<ApplicationId>,
    certificate_ids: Option<Vec<CertificateId>>,
    credentials: Option<SyncCredentials>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    is_auto_sync_enabled: Option<bool>,
    destination_config: Option<DestinationConfig>,
    sync_options: Option<SyncOptions>,
    subscriber_id: Option<String>,
    connection_id: Option<ConnectionId>,
    credentials: Option<SyncCredentials>,
}

async fn options(_: App, _: Caller, _: Input) -> Result<Reply> {
    let mut kinds = DestinationKind::ALL;
    kinds.sort_by_key(|kind| kind.display_name());
    Reply::json(&json!({ "pkiSyncOptions": kinds.map(option) }))
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let asked: Asked = input.query()?;
    let project = app.services.project_for(&caller, asked.project_id).await?;
    let syncs = app.services.syncs(&caller, project, None, asked.certificate_id).await?;
    let shown: Vec<Value> = syncs.iter().map(|(sync, carries)| general(sync, *carries)).collect();
    Reply::json(&json!({ "pkiSyncs": shown }))
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { pki_sync_id } = input.path()?;
    Reply::json(&general(&app.services.sync(&caller, pki_sync_id).await?, None))
}

async fn list_certificates(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { pki_sync_id } = input.path()?;
    let Page { offset, limit } = input.query()?;
    let (sync, certificates, total) = app.services.sync_certificates(&caller, pki_sync_id, offset, limit).await?;
    let shown: Vec<Value> = certificates.iter().map(|one| linked(&sync, one)).collect();
    Reply::json(&json!({ "certificates": shown, "totalCount": total }))
}

async fn add(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { pki_sync_id } = input.path()?;
    let Certificates { certificate_ids } = input.body()?;
    let links = app.services.add_to_sync(&caller, pki_sync_id, &certificate_ids).await?;
    Reply::json(&json!({ "addedCertificates": links.iter().map(link).collect::<Vec<_>>() }))
}

async fn remove(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { pki_sync_id } = input.path()?;
    let Certificates { certificate_ids } = input.body()?;
    let removed = app.services.remove_from_sync(&caller, pki_sync_id, &certificate_ids).await?;
    Reply::json(&json!({ "removedCount": removed }))
}

async fn list_of(kind: DestinationKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let asked: Asked = input.query()?;
    let project = app.services.project_for(&caller, asked.project_id).await?;
    let syncs = app.services.syncs(&caller, project, Some(kind), None).await?;
    let shown: Vec<Value> = syncs.iter().map(|(sync, _)| of_destination(&sync.sync)).collect();
    Reply::json(&json!({ "pkiSyncs": shown }))
}

async fn create(kind: DestinationKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: New = input.body()?;
    must_have_no_subscriber(body.subscriber_id.as_deref())?;
    let project = app.services.project_for(&caller, body.project_id).await?;
    let new = NewSync {
        project,
        application: body.application_id,
        name: body.name,
        description: body.description,
        destination: kind,
        connection: body.connection_id,
        is_automatic: body.is_auto_sync_enabled,
        config: body.destination_config,
        options: body.sync_options.unwrap_or_else(|| SyncOptions::default_of(kind)),
        secrets: body.credentials.unwrap_or_default(),
        certificates: body.certificate_ids.unwrap_or_default(),
    };
    Reply::json(&of_destination(&app.services.create_sync(&caller, new).await?.sync))
}

async fn show_of(kind: DestinationKind, app: App, caller: Caller, input: Input) -> Result<Reply> {
    let id = sync_of(kind, &app, &caller, input).await?;
    Reply::json(&of_destination(&app.services.sync(&caller, id).await?.sync))
}

async fn change(kind: DestinationKind, app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Change = input.body()?;
    let id = sync_of(kind, &app, &caller, input).await?;
    must_have_no_subscriber(body.subscriber_id.as_deref())?;
    let change = SyncChange {
        name: body.name,
        description: body.description,
        connection: body.connection_id,
        is_automatic: body.is_auto_sync_enabled,
        config: body.destination_config,
        options: body.sync_options,
        secrets: body.credentials,
    };
    Reply::json(&of_destination(&app.services.change_sync(&caller, id, change).await?.sync))
}

async fn delete(kind: DestinationKind, app: App, caller: Caller, input: Input) -> Result<Reply> {
    let id = sync_of(kind, &app, &caller, input).await?;
    Reply::json(&of_destination(&app.services.delete_sync(&caller, id).await?.sync))
}

async fn begin(kind: DestinationKind, app: App, caller: Caller, input: Input) -> Result<Reply> {
    let id = sync_of(kind, &app, &caller, input).await?;
    app.services.begin_sync(&caller, id).await?;
    Reply::json(&json!({ "message": "The sync will run in a moment" }))
}

async fn begin_clearing(kind: DestinationKind, app: App, caller: Caller, input: Input) -> Result<Reply> {
    let id = sync_of(kind, &app, &caller, input).await?;
    app.services.begin_clearing(&caller, id).await?;
    Reply::json(&json!({ "message": "What the sync delivered will be removed in a moment" }))
}

async fn preview_of(kind: DestinationKind, app: App, caller: Caller, input: Input) -> Result<Reply> {
    let id = sync_of(kind, &app, &caller, input).await?;
    let preview = app.services.preview_sync(&caller, id).await?;
    Reply::json(&json!({
        "create": planned(&preview.create),
        "replace": planned(&preview.replace),
        "remove": planned(&preview.remove),
        "unchanged": planned(&preview.unchanged),
    }))
}

/// The id in the path, once it is known to be of a sync of this destination.
async fn sync_of(kind: DestinationKind, app: &App, caller: &Caller, mut input: Input) -> Result<SyncId> {
    let Of { pki_sync_id } = input.path()?;
    match app.services.destination_of_sync(caller, pki_sync_id).await? == kind {
        true => Ok(pki_sync_id),
        false => Err(Error::not_found(format!("there is no PKI sync {pki_sync_id} to {}", kind.display_name())).into()),
    }
}

/// Subscribers are not served: a sync cannot have one.
fn must_have_no_subscriber(subscriber: Option<&str>) -> Result<()> {
    match subscriber {
        None => Ok(()),
        Some(id) => Err(Error::not_found(format!("there is no subscriber {id}")).into()),
    }
}
