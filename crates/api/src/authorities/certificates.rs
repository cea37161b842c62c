//! What an authority has and makes: its CSR, its certificates, certificates for authorities below it, its lists. The v1
//! family and the typed family have the same paths below the authority and share these handlers.

use super::authority_id;
use super::shapes::path_length;
use crate::app::App;
use crate::error::Result;
use crate::render::{REVOCATION_REASONS, revocation_reason, timestamp};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, date, integer, list, number, object, one_of, optional, required, text, uuid};
use domain::caller::Caller;
use domain::{AuthorityCertificateId, AuthorityId, Error, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::authorities::RenderedCertificate;
use services::certify_authority::{CertifyAuthority, RenewalKey, SignIntermediate};
use services::import_certificate::ImportWarning;

const TAG: &str = "Certificate authorities";

pub(super) fn routes() -> Vec<Route<App>> {
    let mut routes = shared();
    routes.extend(of_family(
        ["/api/v1/pki/ca/{caId}/renew", "/api/v1/pki/ca/{caId}/certificate", "/api/v1/pki/ca/{caId}/ca-certificates"],
        flat_schema,
        flat,
    ));
    routes.extend(of_family(
        [
            "/api/v1/cert-manager/ca/internal/{caId}/renew",
            "/api/v1/cert-manager/ca/internal/{caId}/certificate",
            "/api/v1/cert-manager/ca/internal/{caId}/ca-certificates",
        ],
        typed_schema,
        typed,
    ));
    routes
}

/// The three endpoints whose results differ between the families (contract §4.2): renew, certificate, ca-certificates.
fn of_family(
    [renew_path, certificate_path, certificates_path]: [&'static str; 3],
    schema: fn() -> Schema,
    show: Show,
) -> [Route<App>; 3] {
    let id = || [required("caId", text())];
    [
        Endpoint::post(renew_path, TAG, "Renew the certificate of an authority")
            .describe(
                "With the same key, or with a new one; the old key goes on signing its revocation list until all that it \
                 signed has expired.",
            )
            .path(id())
            .body(object([required("type", one_of(&["existing", "new-key"])), required("notAfter", date())]))
            .returns(schema())
            .bearer(move |app, caller, input| renew(app, caller, input, show)),
        Endpoint::get(certificate_path, TAG, "Get the active certificate of an authority")
            .path(id())
            .returns(schema())
            .bearer(move |app, caller, input| certificate(app, caller, input, show)),
        Endpoint::get(certificates_path, TAG, "List the certificates of an authority")
            .path(id())
            .returns(list(schema().with([required("version", number())])))
            .bearer(move |app, caller, input| certificates(app, caller, input, show)),
    ]
}

fn shared() -> Vec<Route<App>> {
    let id = || [required("caId", text())];
    vec![
        Endpoint::get("/api/v1/pki/ca/{caId}/csr", TAG, "Get the CSR of an intermediate")
            .also_at("/api/v1/cert-manager/ca/internal/{caId}/csr")
            .path(id())
            .returns(object([required("csr", text())]))
            .bearer(csr),
        Endpoint::post("/api/v1/cert-manager/ca/internal/{caId}/certificate", TAG, "Make the certificate of an authority")
            .describe("Without parentCaId a root signs itself; with it an authority of this project signs.")
            .path(id())
            .body(object([
                required("notBefore", date()),
                required("notAfter", date()),
                optional("maxPathLength", integer().at_least(-1).at_most(255).default(json!(-1))),
                optional("parentCaId", uuid()),
            ]))
            .returns(typed_schema())
            .bearer(certify),
        Endpoint::get(
            "/api/v1/cert-manager/ca/internal/{caId}/certificate/{certId}",
            TAG,
            "Get one certificate of an authority",
        )
        .path([required("caId", text()), required("certId", text())])
        .returns(typed_schema())
        .bearer(certificate_by_id),
        Endpoint::post("/api/v1/pki/ca/{caId}/sign-intermediate", TAG, "Sign the certificate of another authority")
            .also_at("/api/v1/cert-manager/ca/internal/{caId}/sign-intermediate")
            .path(id())
            .body(object([
                required("csr", text().at_least(1).at_most(16_384)),
                optional("notBefore", date()),
                required("notAfter", date()),
                optional("maxPathLength", integer().at_least(-1).at_most(255).default(json!(-1))),
            ]))
            .returns(object([
                required("certificate", text()),
                required("certificateChain", text()),
                required("issuingCaCertificate", text()),
                required("serialNumber", text()),
            ]))
            .bearer(sign_intermediate),
        Endpoint::post(
            "/api/v1/pki/ca/{caId}/import-certificate",
            TAG,
            "Import certificate and chain to CA",
        )
        .also_at("/api/v1/cert-manager/ca/internal/{caId}/import-certificate")
        .describe(
            "The path must build from exactly the given certificates and hold under RFC 5280. What is refused leaves the \
             authority as it was, and the answer names the rule and the certificate.",
        )
        .path([required("caId", text().describe("The ID of the CA to import the certificate for."))])
        .body(object([
            required("certificate", text().describe("The certificate of the authority in PEM.")),
            required("certificateChain", text().describe("Its issuer and the issuer's parents in PEM.")),
        ]))
        .returns(object([required("message", text()), required("caId", text())]))
        .bearer(import),
        Endpoint::post(
            "/api/v1/cert-manager/ca/internal/{caId}/revoke-intermediate",
            TAG,
            "Revoke the certificate of an authority that this one signed",
        )
        .urgent()
        .describe("An authority of this server whose active certificate is revoked is disabled.")
        .path(id())
        .body(object([
            required("serialNumber", text().at_least(1)),
            required("revocationReason", one_of(&REVOCATION_REASONS)),
        ]))
        .returns(object([
            required("message", text()),
            required("serialNumber", text()),
            required("revokedAt", date()),
        ]))
        .bearer(revoke_intermediate),
    ]
}

/// How a certificate of an authority is shown.
type Show = fn(&RenderedCertificate) -> Value;

fn flat_schema() -> Schema {
    object([required("certificate", text()), required("certificateChain", text()), required("serialNumber", text())])
}

fn typed_schema() -> Schema {
    flat_schema().with([
        required("certId", uuid()),
        optional("notBefore", date()),
        optional("notAfter", date()),
        optional("maxPathLength", number()),
        optional("parentCaId", uuid()),
    ])
}

fn flat(rendered: &RenderedCertificate) -> Value {
    json!({
        "certificate": rendered.certificate,
        "certificateChain": rendered.chain,
        "serialNumber": domain::inventory::serial_hex(&rendered.parsed),
    })
}

fn typed(rendered: &RenderedCertificate) -> Value {
    let constraints = rendered.parsed.extensions().basic_constraints().ok().flatten();
    let length = constraints.and_then(|constraints| constraints.path_length);
    let mut shown = flat(rendered);
    shown["certId"] = json!(rendered.id);
    shown["notBefore"] = timestamp(Time::from_seconds(rendered.parsed.not_before())).into();
    shown["notAfter"] = timestamp(Time::from_seconds(rendered.parsed.not_after())).into();
    shown["maxPathLength"] = json!(length.map_or(-1, i64::from));
    if let Some(parent) = rendered.parent {
        shown["parentCaId"] = json!(parent);
    }
    shown
}

async fn csr(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let csr = app.services.authority_csr(&caller, authority_id(&input)?).await?;
    Reply::json(&json!({ "csr": csr }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Renew {
    r#type: String,
    not_after: Time,
}

async fn renew(app: App, caller: Caller, mut input: Input, show: Show) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: Renew = input.body()?;
    let key = if body.r#type == "new-key" { RenewalKey::New } else { RenewalKey::Existing };
    Reply::json(&show(&app.services.renew_authority(&caller, id, body.not_after, key).await?))
}

async fn certificate(app: App, caller: Caller, input: Input, show: Show) -> Result<Reply> {
    Reply::json(&show(&app.services.authority_certificate(&caller, authority_id(&input)?).await?))
}

async fn certificates(app: App, caller: Caller, input: Input, show: Show) -> Result<Reply> {
    let certificates = app.services.authority_certificates(&caller, authority_id(&input)?).await?;
    let with_version = |rendered: &RenderedCertificate| {
        let mut shown = show(rendered);
        shown["version"] = json!(rendered.version);
        shown
    };
    Reply::json(&certificates.iter().map(with_version).collect::<Vec<_>>())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certify {
    not_before: Time,
    not_after: Time,
    max_path_length: i64,
    parent_ca_id: Option<AuthorityId>,
}

async fn certify(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: Certify = input.body()?;
    let asked = CertifyAuthority {
        not_before: body.not_before,
        not_after: body.not_after,
        path_length: path_length(Some(body.max_path_length)),
        parent: body.parent_ca_id,
    };
    Reply::json(&typed(&app.services.certify_authority(&caller, id, asked).await?))
}

async fn certificate_by_id(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let text = input.parameter("certId");
    let missing = || Error::not_found(format!("the authority has no certificate {text}"));
    let certificate = AuthorityCertificateId::parse(text).ok_or_else(missing)?;
    Reply::json(&typed(&app.services.authority_certificate_by_id(&caller, id, certificate).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignBody {
    csr: String,
    not_before: Option<Time>,
    not_after: Time,
    max_path_length: i64,
}

async fn sign_intermediate(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: SignBody = input.body()?;
    let asked = SignIntermediate {
        not_before: body.not_before,
        not_after: body.not_after,
        path_length: path_length(Some(body.max_path_length)),
    };
    let signed = app.services.sign_intermediate(&caller, id, &body.csr, asked).await?;
    Reply::json(&json!({
        "certificate": signed.certificate,
        "certificateChain": signed.chain,
        "issuingCaCertificate": signed.issuing_ca,
        "serialNumber": signed.serial_number,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Import {
    certificate: String,
    certificate_chain: String,
}

async fn import(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: Import = input.body()?;
    let warning =
        app.services.import_authority_certificate(&caller, id, &body.certificate, &body.certificate_chain).await?;
    let message = match warning {
        None => "The certificate and its chain are installed",
        Some(ImportWarning::ListsNotAccepted) => {
            "The certificate and its chain are installed. Its key usage does not hold cRLSign, so nobody will accept the \
             authority's revocation lists: better have it made again"
        }
    };
    Reply::json(&json!({ "message": message, "caId": input.parameter("caId") }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevokeIntermediate {
    serial_number: String,
    revocation_reason: String,
}

async fn revoke_intermediate(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: RevokeIntermediate = input.body()?;
    let reason = revocation_reason(&body.revocation_reason)?;
    let revoked = app.services.revoke_intermediate(&caller, id, &body.serial_number, reason).await?;
    Reply::json(&json!({
        "message": "The certificate is revoked",
        "serialNumber": revoked.serial_number,
        "revokedAt": timestamp(revoked.revoked_at),
    }))
}
