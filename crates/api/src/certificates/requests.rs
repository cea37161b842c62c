//! Certificate requests: what one has come to, and the list of a project's (contract §6.10).

use super::lists::{AskedPage, ProfileIds, bounds, profile_ids, sorting};
use super::shapes::{SUBJECT_PARTS, chain};
use crate::app::App;
use crate::error::Result;
use crate::render::timestamp;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Schema, boolean_or_text, date, list, number, object, one_of, optional, required, search_text, text, uuid,
};
use domain::caller::Caller;
use domain::inventory::{alt_names, serial_hex};
use domain::{CertificateRequestId, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::certificates::{Period, RequestFilter, RequestState};
use x509::{AttributeType, pem};

const TAG: &str = "Certificates";
const STATUSES: &[&str] = &["pending", "issued", "failed", "pending_approval", "rejected", "pending_validation"];

pub(super) fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/cert-manager/certificates/certificate-requests";
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
            .returns(object([required("certificateRequests", list(entry_schema())), required("totalCount", number())]))
            .bearer(list_all),
        Endpoint::get(ONE, TAG, "Get a certificate request")
            .path([required("requestId", uuid())])
            .query([optional("removeRootsFromChain", boolean_or_text())])
            .returns(request_schema())
            .bearer(show),
    ]
}

fn entry_schema() -> Schema {
    object([
        required("id", uuid()),
        required("status", text()),
        required("profileId", uuid().nullable()),
        required("certificateId", uuid().nullable()),
        required("serialNumber", text().nullable()),
        required("commonName", text().nullable()),
        required("altNames", text().nullable()),
        required("errorMessage", text().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
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
    project_slug: String,
    search: Option<String>,
    status: Option<String>,
    profile_ids: Option<ProfileIds>,
    from_date: Option<Time>,
    to_date: Option<Time>,
    #[serde(flatten)]
    page: AskedPage,
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let asked: Asked = input.query()?;
    let project = app.services.certificate_project_by_slug(&caller, &asked.project_slug).await?;
    let filter = RequestFilter {
        search: asked.search.unwrap_or_default(),
        status: asked.status.unwrap_or_default(),
        profiles: asked.profile_ids.map_or_else(Vec::new, ProfileIds::into_list),
        created_at: Period::new(asked.from_date, asked.to_date),
    };
    let (states, total) = app.services.certificate_requests(&caller, project.id, &filter, asked.page.page()).await?;
    let shown: Vec<Value> = states.iter().map(entry).collect();
    Reply::json(&json!({ "certificateRequests": shown, "totalCount": total }))
}

fn entry(state: &RequestState) -> Value {
    let certificate = state.record.as_ref().map(|record| &record.certificate);
    json!({
        "id": state.id,
        "status": state.status,
        "profileId": state.profile,
        "certificateId": state.record.as_ref().map(|record| record.row.issued.id),
        "serialNumber": certificate.map(serial_hex),
        "commonName": certificate.and_then(|certificate| certificate.subject().first(AttributeType::CommonName)),
        "altNames": certificate.map(|certificate| alt_names(certificate).join(", ")),
        "errorMessage": state.error_message,
        "createdAt": timestamp(state.created_at),
        "updatedAt": timestamp(state.updated_at),
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
        "createdAt": timestamp(state.created_at),
        "updatedAt": timestamp(state.updated_at),
    });
    for (name, kind) in SUBJECT_PARTS {
        shown[name] = subject(kind).into();
    }
    Ok(Reply::json(&shown)?.no_store())
}
