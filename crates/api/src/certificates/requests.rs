//! Certificate requests: what one has come to, and the list of a project's (contract §6.10).

use super::lists::{AskedPage, ProfileIds, bounds, profile_ids, sorting};
use super::shapes::{SUBJECT_PARTS, basic_constraints, chain};
use crate::app::App;
use crate::error::Result;
use crate::render::timestamp;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Schema, boolean, boolean_or_text, date, integer, list, number, object, one_of, optional, required, search_text,
    text, uuid,
};
use domain::caller::Caller;
use domain::inventory::{alt_names, serial_hex};
use domain::{CertificateRequestId, ProfileId, ProjectId, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::certificates::{PROFILES_IN_FILTER_MAX, Period, Record, RequestFilter, RequestState};
use std::collections::HashMap;
use x509::{AttributeType, pem};

const TAG: &str = "Certificates";
const STATUSES: &[&str] = &["pending", "issued", "failed", "pending_approval", "rejected", "pending_validation"];

pub(super) fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/cert-manager/certificates/certificate-requests";
    const SEARCH: &str = "/api/v1/cert-manager/certificates/certificate-requests/search";
    const ONE: &str = "/api/v1/cert-manager/certificates/certificate-requests/{requestId}";
    vec![
        Endpoint::get(ALL, TAG, "List certificate requests")
            .describe("A request that was answered at once is the certificate that it made, under the same id.")
            .query([
                required("projectSlug", text().at_least(1)),
                optional("search", search_text()),
                optional("status", one_of(STATUSES)),
                optional("profileIds", profile_ids()),
                optional("fromDate", date()),
                optional("toDate", date()),
            ])
            .query(sorting())
            .query(bounds(20, 10_000))
            .returns(listed_schema())
            .bearer(list_all),
        Endpoint::post(SEARCH, TAG, "Search certificate requests")
            .describe("As the list, with the filter in the body.")
            .body(
                object([
                    optional(
                        "projectId",
                        uuid().describe("The default project when neither this nor projectSlug is there"),
                    ),
                    optional("projectSlug", text().at_least(1)),
                    optional("search", search_text()),
                    optional("status", one_of(STATUSES)),
                    optional("profileIds", list(uuid()).at_most(PROFILES_IN_FILTER_MAX as i64)),
                    optional("fromDate", date()),
                    optional("toDate", date()),
                ])
                .with(sorting())
                .with(bounds(20, 10_000)),
            )
            .returns(listed_schema())
            .bearer(search),
        Endpoint::get(ONE, TAG, "Get a certificate request")
            .path([required("requestId", uuid())])
            .query([optional("removeRootsFromChain", boolean_or_text())])
            .returns(request_schema())
            .bearer(show),
    ]
}

fn listed_schema() -> Schema {
    object([required("certificateRequests", list(entry_schema())), required("totalCount", number())])
}

fn entry_schema() -> Schema {
    object([
        required("id", uuid()),
        required("status", text()),
        required("profileId", uuid().nullable()),
        required("profileName", text().nullable()),
        required("applicationId", uuid().nullable()),
        required("caId", uuid().nullable()),
        required("certificateId", uuid().nullable()),
        required("approvalRequestId", uuid().nullable()),
        required("serialNumber", text().nullable()),
        required("commonName", text().nullable()),
        required("altNames", text().nullable()),
        required("errorMessage", text().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
        required(
            "certificate",
            object([required("id", uuid()), required("serialNumber", text()), required("status", text())]).nullable(),
        ),
    ])
}

fn request_schema() -> Schema {
    object([
        required("id", uuid()),
        required("status", text()),
        required("certificate", text().nullable()),
        required("certificateId", uuid().nullable()),
        required("privateKey", text().nullable()),
        required("serialNumber", text().nullable()),
        required("errorMessage", text().nullable()),
        required("certificateChain", text().nullable()),
        required("issuingCaCertificate", text().nullable()),
        required("profileId", uuid().nullable()),
        required("applicationId", uuid().nullable()),
        required(
            "basicConstraints",
            object([required("isCA", boolean()), optional("pathLength", integer())]).nullable(),
        ),
        required("commonName", text().nullable()),
        required("organization", text().nullable()),
        required("organizationalUnit", text().nullable()),
        required("country", text().nullable()),
        required("state", text().nullable()),
        required("locality", text().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    project_id: Option<ProjectId>,
    project_slug: Option<String>,
    search: Option<String>,
    status: Option<String>,
    profile_ids: Option<ProfileIds>,
    from_date: Option<Time>,
    to_date: Option<Time>,
    #[serde(flatten)]
    page: AskedPage,
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let asked = input.query()?;
    list_of(&app, &caller, asked).await
}

async fn search(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let asked = input.body()?;
    list_of(&app, &caller, asked).await
}

async fn list_of(app: &App, caller: &Caller, asked: Asked) -> Result<Reply> {
    let project = match (asked.project_id, &asked.project_slug) {
        (None, Some(slug)) => app.services.certificate_project_by_slug(caller, slug).await?.id,
        (named, _) => app.services.project_for(caller, named).await?,
    };
    let filter = RequestFilter {
        search: asked.search.unwrap_or_default(),
        status: asked.status.unwrap_or_default(),
        profiles: asked.profile_ids.map_or_else(Vec::new, ProfileIds::into_list),
        created_at: Period::new(asked.from_date, asked.to_date),
    };
    let (states, total) = app.services.certificate_requests(caller, project, &filter, asked.page.page()).await?;
    let names = app.services.profile_names(caller, project, &states).await?;
    let shown: Vec<Value> = states.iter().map(|state| entry(state, &names)).collect();
    Reply::json(&json!({ "certificateRequests": shown, "totalCount": total }))
}

fn entry(state: &RequestState, profile_names: &HashMap<ProfileId, String>) -> Value {
    let record = state.record.as_ref();
    let certificate = record.map(|record| &record.certificate);
    json!({
        "id": state.id,
        "status": state.status,
        "profileId": state.profile,
        "profileName": state.profile.and_then(|profile| profile_names.get(&profile)),
        "applicationId": record.and_then(Record::application),
        "caId": record.and_then(|record| record.row.issued.issuer).map(|by| by.authority),
        "certificateId": record.map(|record| record.row.issued.id),
        "approvalRequestId": null,
        "serialNumber": certificate.map(serial_hex),
        "commonName": certificate.and_then(|certificate| certificate.subject().first(AttributeType::CommonName)),
        "altNames": certificate.map(|certificate| alt_names(certificate).join(", ")),
        "errorMessage": state.error_message,
        "createdAt": timestamp(state.created_at),
        "updatedAt": timestamp(state.updated_at),
        "certificate": record.map(|record| json!({
            "id": record.row.issued.id,
            "serialNumber": serial_hex(&record.certificate),
            "status": record.status.as_str(),
        })),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfRequest {
    request_id: CertificateRequestId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShowQuery {
    #[serde(default)]
    remove_roots_from_chain: bool,
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfRequest { request_id } = input.path()?;
    let ShowQuery { remove_roots_from_chain } = input.query()?;
    let request = app.services.certificate_request(&caller, request_id).await?;
    let (state, bundle) = (&request.state, request.bundle.as_ref());
    let certificate = bundle.map(|bundle| &bundle.record.certificate);
    let subject = |kind| certificate.and_then(|certificate| certificate.subject().first(kind));
    let mut shown = json!({
        "id": state.id,
        "status": state.status,
        "certificate": bundle.map(|bundle| &bundle.certificate_pem),
        "certificateId": bundle.map(|bundle| bundle.record.row.issued.id),
        "privateKey": request.private_key.as_ref().map(|key| pem::encode(pem::PRIVATE_KEY, key.expose())),
        "serialNumber": certificate.map(serial_hex),
        "errorMessage": state.error_message,
        "certificateChain": bundle.map(|bundle| chain(&bundle.chain_pem, remove_roots_from_chain)),
        "issuingCaCertificate": bundle.map(|bundle| &bundle.issuing_ca_pem),
        "profileId": state.profile,
        "applicationId": bundle.and_then(|bundle| bundle.record.application()),
        "basicConstraints": certificate.map(basic_constraints),
        "createdAt": timestamp(state.created_at),
        "updatedAt": timestamp(state.updated_at),
    });
    for (name, kind) in SUBJECT_PARTS {
        shown[name] = subject(kind).into();
    }
    Ok(Reply::json(&shown)?.no_store())
}
