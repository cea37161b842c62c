//! Records of certificates: by serial number (v1), by id (cert-manager), their lists, and requests (contract §6.7, 6.10).

use super::shapes::{chain, detailed, record, record_schema};
use crate::app::App;
use crate::error::Result;
use crate::render::{timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, boolean_or_text, date, integer, list, number, object, one_of, optional, required, text, uuid};
use domain::caller::Caller;
use domain::inventory::{ShownStatus, serial_hex};
use domain::{CertificateId, CertificateRequestId, Error, ProfileId, ProjectId, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::certificates::{Bundle, CertificateFilter, CertificateName, PROFILES_IN_FILTER_MAX};
use x509::{AttributeType, pem};

const TAG: &str = "Certificates";

pub(super) fn routes() -> Vec<Route<App>> {
    let mut routes = by_name("/api/v1/pki/certificates/{serialNumber}");
    routes.extend(by_name("/api/v1/cert-manager/certificates/{id}"));
    routes.extend(lists());
    routes.push(
        Endpoint::get(
            "/api/v1/cert-manager/certificates/certificate-requests/{requestId}",
            TAG,
            "Get a certificate request",
        )
        .path([required("requestId", uuid())])
        .query([optional("removeRootsFromChain", boolean_or_text())])
        .returns(object([
            required("status", text()),
            required("certificate", text().nullable()),
            required("certificateId", uuid().nullable()),
            required("privateKey", text().nullable()),
            required("serialNumber", text().nullable()),
            required("errorMessage", text().nullable()),
            required("createdAt", date()),
            required("updatedAt", date()),
        ]))
        .bearer(request),
    );
    routes
}

/// The same endpoints under a serial number and under an id.
fn by_name(base: &'static str) -> Vec<Route<App>> {
    let (parameter, below): (&'static str, [&'static str; 3]) = match base {
        "/api/v1/pki/certificates/{serialNumber}" => (
            "serialNumber",
            [
                "/api/v1/pki/certificates/{serialNumber}/certificate",
                "/api/v1/pki/certificates/{serialNumber}/bundle",
                "/api/v1/pki/certificates/{serialNumber}/private-key",
            ],
        ),
        _ => (
            "id",
            [
                "/api/v1/cert-manager/certificates/{id}/certificate",
                "/api/v1/cert-manager/certificates/{id}/bundle",
                "/api/v1/cert-manager/certificates/{id}/private-key",
            ],
        ),
    };
    let path = || [required(parameter, text())];
    let body = || {
        object([
            required("certificate", text()),
            required("certificateChain", text().nullable()),
            required("serialNumber", text()),
        ])
    };
    vec![
        Endpoint::get(base, TAG, "Get a certificate's record")
            .path(path())
            .returns(wrapper("certificate", record_schema()))
            .bearer(get),
        Endpoint::delete(base, TAG, "Delete a certificate's record and key")
            .path(path())
            .returns(wrapper("certificate", record_schema()))
            .bearer(delete),
        Endpoint::get(below[0], TAG, "Get a certificate and its chain").path(path()).returns(body()).bearer(certificate),
        Endpoint::get(below[1], TAG, "Get a certificate, its chain and its private key")
            .path(path())
            .returns(body().with([required("privateKey", text().nullable())]))
            .bearer(bundle),
        Endpoint::get(below[2], TAG, "Get a certificate's private key")
            .path(path())
            .returns_bytes("text/plain; charset=utf-8")
            .bearer(private_key),
    ]
}

fn lists() -> Vec<Route<App>> {
    let page = || {
        object([required("certificates", list(record_schema())), required("totalCount", number())])
    };
    vec![
        Endpoint::get("/api/v2/workspace/{slug}/certificates", TAG, "List the certificates of a project by its slug")
            .path([required("slug", text())])
            .query([
                optional("friendlyName", text()),
                optional("commonName", text()),
                optional("offset", integer().at_least(0).at_most(100).default(json!(0))),
                optional("limit", integer().at_least(1).at_most(100).default(json!(25))),
            ])
            .returns(page())
            .bearer(list_by_slug),
        Endpoint::get("/api/v1/projects/{projectId}/certificates", TAG, "List the certificates of a project")
            .path([required("projectId", uuid())])
            .query([
                optional("friendlyName", text()),
                optional("commonName", text()),
                optional("search", text()),
                optional("status", one_of(STATUSES)),
                optional("profileIds", text().describe("Ids separated by commas.")),
                optional("fromDate", date()),
                optional("toDate", date()),
                optional("forPkiSync", boolean_or_text()),
                optional("offset", integer().at_least(0).at_most(1_000_000_000).default(json!(0))),
                optional("limit", integer().at_least(1).at_most(100).default(json!(25))),
            ])
            .returns(page())
            .bearer(list_by_id),
        Endpoint::post("/api/v1/projects/{projectId}/certificates/search", TAG, "Search the certificates of a project")
            .path([required("projectId", uuid())])
            .body(search_schema())
            .returns(page())
            .bearer(search),
    ]
}

const STATUSES: &[&str] = &["active", "expired", "revoked"];

fn search_schema() -> Schema {
    object([
        optional("friendlyName", text()),
        optional("commonName", text()),
        optional("search", text()),
        optional("status", one_of(STATUSES)),
        optional("profileIds", list(uuid()).at_most(4)),
        optional("fromDate", date()),
        optional("toDate", date()),
        optional("forPkiSync", any()),
        optional("offset", integer().at_least(0).at_most(1_000_000_000).default(json!(0))),
        optional("limit", integer().at_least(1).at_most(100).default(json!(25))),
    ])
}

/// How the path names a certificate. An id that is none names nothing.
fn name(input: &Input) -> Result<CertificateName> {
    match input.parameter("serialNumber") {
        "" => {
            let text = input.parameter("id");
            let missing = || Error::not_found(format!("there is no certificate {text}"));
            Ok(CertificateName::Id(CertificateId::parse(text).ok_or_else(missing)?))
        }
        serial => Ok(CertificateName::Serial(serial.to_ascii_lowercase())),
    }
}

async fn get(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let name = name(&input)?;
    let bundle = app.services.bundle(&caller, &name).await?;
    let shown = match name {
        CertificateName::Serial(_) => record(&bundle.record),
        CertificateName::Id(_) => {
            let (profile, authority) = app.services.origin_of(&caller, &bundle.record).await?;
            detailed(
                &bundle,
                profile.as_ref().map(|profile| profile.slug.as_str()),
                authority.as_ref().map(|authority| authority.name.as_str()),
            )
        }
    };
    Reply::json(&wrapped("certificate", shown))
}

async fn delete(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let deleted = app.services.delete_certificate(&caller, &name(&input)?).await?;
    Reply::json(&wrapped("certificate", record(&deleted)))
}

fn body(bundle: &Bundle) -> Value {
    json!({
        "certificate": bundle.certificate_pem,
        "certificateChain": bundle.chain_pem,
        "serialNumber": serial_hex(&bundle.record.certificate),
    })
}

async fn certificate(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&body(&app.services.bundle(&caller, &name(&input)?).await?))
}

async fn bundle(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let (bundle, key) = app.services.bundle_with_key(&caller, &name(&input)?).await?;
    let mut shown = body(&bundle);
    shown["privateKey"] = json!(key.map(|key| pem::encode(pem::PRIVATE_KEY, key.expose())));
    Ok(Reply::json(&shown)?.no_store())
}

async fn private_key(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let key = app.services.private_key(&caller, &name(&input)?).await?;
    Ok(Reply::text(pem::encode(pem::PRIVATE_KEY, key.expose())).no_store())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    friendly_name: Option<String>,
    common_name: Option<String>,
    search: Option<String>,
    status: Option<String>,
    profile_ids: Option<ProfileIds>,
    from_date: Option<Time>,
    to_date: Option<Time>,
    offset: u32,
    limit: u32,
}

/// A list in a body, a text with commas in a query.
#[derive(Deserialize)]
#[serde(untagged)]
enum ProfileIds {
    List(Vec<ProfileId>),
    Text(String),
}

impl Asked {
    fn filter(self) -> Result<(CertificateFilter, u32, u32)> {
        let profiles = match self.profile_ids {
            None => Vec::new(),
            Some(ProfileIds::List(ids)) => ids,
            Some(ProfileIds::Text(text)) => text
                .split(',')
                .map(|id| ProfileId::parse(id.trim()).ok_or_else(|| Error::invalid(format!("profileIds: {id} is not an id"))))
                .collect::<domain::Result<_>>()?,
        };
        if profiles.len() > PROFILES_IN_FILTER_MAX {
            return Err(Error::invalid(format!(
                "profileIds takes at most {} ids",
                PROFILES_IN_FILTER_MAX
            ))
            .into());
        }
        let filter = CertificateFilter {
            search: self.search.unwrap_or_default(),
            // The friendly name is the common name (contract §6.7).
            common_name: self.common_name.or(self.friendly_name).unwrap_or_default(),
            status: self.status.as_deref().and_then(ShownStatus::parse),
            profiles,
            from: self.from_date,
            to: self.to_date,
        };
        Ok((filter, self.offset, self.limit))
    }
}

async fn list_in(app: &App, caller: &Caller, project: ProjectId, asked: Asked) -> Result<Reply> {
    let (filter, offset, limit) = asked.filter()?;
    let (records, total) = app.services.certificates(caller, project, &filter, offset, limit).await?;
    let shown: Vec<Value> = records.iter().map(record).collect();
    Reply::json(&json!({ "certificates": shown, "totalCount": total }))
}

async fn list_by_slug(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let project = app.services.certificate_project_by_slug(&caller, input.parameter("slug")).await?;
    let asked: Asked = input.query()?;
    list_in(&app, &caller, project.id, asked).await
}

async fn project_of(app: &App, caller: &Caller, input: &Input) -> Result<ProjectId> {
    let text = input.parameter("projectId");
    let missing = || Error::not_found(format!("there is no project {text}"));
    let id = ProjectId::parse(text).ok_or_else(missing)?;
    Ok(app.services.certificate_project(caller, id).await?.id)
}

async fn list_by_id(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let project = project_of(&app, &caller, &input).await?;
    let asked: Asked = input.query()?;
    list_in(&app, &caller, project, asked).await
}

async fn search(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let project = project_of(&app, &caller, &input).await?;
    let asked: Asked = input.body()?;
    list_in(&app, &caller, project, asked).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestQuery {
    #[serde(default)]
    remove_roots_from_chain: bool,
}

async fn request(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let text = input.parameter("requestId");
    let missing = || Error::not_found(format!("there is no certificate request {text}"));
    let id = CertificateRequestId::parse(text).ok_or_else(missing)?;
    let query: RequestQuery = input.query()?;
    let state = app.services.certificate_request(&caller, id).await?;
    let bundle = state.bundle.as_ref();
    let certificate = bundle.map(|bundle| &bundle.record.certificate);
    let subject = |kind| certificate.and_then(|certificate| certificate.subject().first(kind));
    let shown = json!({
        "id": state.id,
        "status": state.status,
        "certificate": bundle.map(|bundle| &bundle.certificate_pem),
        "certificateId": bundle.map(|bundle| bundle.record.row.issued.id),
        "privateKey": state.private_key.as_ref().map(|key| pem::encode(pem::PRIVATE_KEY, key.expose())),
        "serialNumber": certificate.map(serial_hex),
        "errorMessage": state.error_message,
        "certificateChain": bundle.map(|bundle| chain(&bundle.chain_pem, query.remove_roots_from_chain)),
        "issuingCaCertificate": bundle.map(|bundle| &bundle.issuing_ca_pem),
        "profileId": state.profile,
        "commonName": subject(AttributeType::CommonName),
        "organization": subject(AttributeType::Organization),
        "organizationalUnit": subject(AttributeType::OrganizationalUnit),
        "country": subject(AttributeType::Country),
        "state": subject(AttributeType::State),
        "locality": subject(AttributeType::Locality),
        "createdAt": timestamp(state.created_at),
        "updatedAt": timestamp(state.updated_at),
    });
    Ok(Reply::json(&shown)?.no_store())
}
