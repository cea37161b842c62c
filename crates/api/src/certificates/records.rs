//! The record of one certificate: by serial number (v1), by id (cert-manager) (contract §6.7, 6.10).

use super::shapes::{body, body_schema, detailed, detailed_schema, record, record_schema};
use crate::app::App;
use crate::error::Result;
use crate::render::{REVOCATION_REASONS, revocation_reason, timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, date, object, one_of, required, text};
use domain::caller::Caller;
use domain::{CertificateId, Error};
use serde::Deserialize;
use serde_json::json;
use services::certificates::CertificateName;
use x509::pem;

const TAG: &str = "Certificates";

pub(super) fn routes() -> Vec<Route<App>> {
    let mut routes = by_name("/api/v1/pki/certificates/{serialNumber}");
    routes.extend(by_name("/api/v1/cert-manager/certificates/{id}"));
    routes
}

/// The same endpoints under a serial number and under an id.
fn by_name(base: &'static str) -> Vec<Route<App>> {
    let (parameter, shown, below): (&'static str, Schema, [&'static str; 5]) = match base {
        "/api/v1/pki/certificates/{serialNumber}" => (
            "serialNumber",
            record_schema(),
            [
                "/api/v1/pki/certificates/{serialNumber}/certificate",
                "/api/v1/pki/certificates/{serialNumber}/bundle",
                "/api/v1/pki/certificates/{serialNumber}/private-key",
                "/api/v1/pki/certificates/{serialNumber}/revoke",
                "/api/v1/pki/certificates/{serialNumber}/release",
            ],
        ),
        _ => (
            "id",
            detailed_schema(),
            [
                "/api/v1/cert-manager/certificates/{id}/certificate",
                "/api/v1/cert-manager/certificates/{id}/bundle",
                "/api/v1/cert-manager/certificates/{id}/private-key",
                "/api/v1/cert-manager/certificates/{id}/revoke",
                "/api/v1/cert-manager/certificates/{id}/release",
            ],
        ),
    };
    let path = || [required(parameter, text())];
    vec![
        Endpoint::get(base, TAG, "Get a certificate's record")
            .path(path())
            .returns(wrapper("certificate", shown))
            .bearer(get),
        Endpoint::delete(base, TAG, "Delete a certificate's record and key")
            .path(path())
            .returns(wrapper("certificate", record_schema()))
            .bearer(delete),
        Endpoint::get(below[0], TAG, "Get a certificate and its chain")
            .path(path())
            .returns(body_schema())
            .bearer(certificate),
        Endpoint::get(below[1], TAG, "Get a certificate, its chain and its private key")
            .path(path())
            .returns(body_schema().with([required("privateKey", text().nullable())]))
            .bearer(bundle),
        Endpoint::get(below[2], TAG, "Get a certificate's private key")
            .path(path())
            .returns_bytes("text/plain; charset=utf-8")
            .bearer(private_key),
        Endpoint::post(below[3], TAG, "Revoke a certificate")
            .urgent()
            .describe(
                "Its revocation list names it within two seconds. A revocation is final: only CERTIFICATE_HOLD may be \
                 released or become another reason, and any reason may become KEY_COMPROMISE, which also blocks the key.",
            )
            .path(path())
            .body(object([required("revocationReason", one_of(&REVOCATION_REASONS))]))
            .returns(withdrawn_schema().with([required("revokedAt", date())]))
            .bearer(revoke),
        Endpoint::post(below[4], TAG, "End the hold of a certificate")
            .path(path())
            .returns(withdrawn_schema())
            .bearer(release),
    ]
}

/// How the path names a certificate. An id that is none names nothing.
pub(super) fn name(input: &Input) -> Result<CertificateName> {
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

fn withdrawn_schema() -> Schema {
    object([required("message", text()), required("serialNumber", text())])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Revoke {
    revocation_reason: String,
}

async fn revoke(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let name = name(&input)?;
    let body: Revoke = input.body()?;
    let reason = revocation_reason(&body.revocation_reason)?;
    let revoked = app.services.revoke(&caller, &name, reason).await?;
    Reply::json(&json!({
        "message": "The certificate is revoked",
        "serialNumber": revoked.serial_number,
        "revokedAt": timestamp(revoked.revoked_at),
    }))
}

async fn release(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let released = app.services.release(&caller, &name(&input)?).await?;
    Reply::json(&json!({ "message": "The certificate is valid again", "serialNumber": released.serial_number }))
}
