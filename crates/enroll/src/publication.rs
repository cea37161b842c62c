//! Revocation lists and certificates of authorities in DER (contract §3.9, 4.5; RFC 5280 §4.2.1.13, 4.2.2.1).

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::{AuthorityCertificateId, AuthorityId, CrlId, Error, Reason};
use services::Context;

/// The public endpoints. They know no caller.
pub fn router(services: Context) -> Router {
    Router::new()
        .route("/api/v1/pki/crl/{p0}", get(list))
        .route("/api/v1/pki/crl/{p0}/der", get(list))
        .route("/api/v1/cert-manager/crl/{p0}", get(list))
        .route("/api/v1/cert-manager/crl/{p0}/der", get(list))
        .route("/api/v1/pki/ca/{p0}/certificates/{p1}/der", get(certificate))
        .route("/api/v1/cert-manager/ca/internal/{p0}/certificates/{p1}/der", get(certificate))
        .with_state(services)
}

async fn list(State(services): State<Context>, Path(id): Path<String>) -> Response {
    let Some(id) = CrlId::parse(&id) else { return StatusCode::NOT_FOUND.into_response() };
    match services.published_list(id).await {
        Ok(der) => ([(CONTENT_TYPE, "application/pkix-crl"), (CACHE_CONTROL, "public, max-age=60")], der).into_response(),
        Err(error) => refusal(&error),
    }
}

async fn certificate(State(services): State<Context>, Path((authority, id)): Path<(String, String)>) -> Response {
    let (Some(authority), Some(id)) = (AuthorityId::parse(&authority), AuthorityCertificateId::parse(&id)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match services.published_certificate(authority, id).await {
        Ok(der) => {
            ([(CONTENT_TYPE, "application/pkix-cert"), (CACHE_CONTROL, "public, max-age=86400")], der).into_response()
        }
        Err(error) => refusal(&error),
    }
}

/// Clients of these URLs are TLS stacks: they read the status and nothing else.
fn refusal(error: &Error) -> Response {
    match error.reason() {
        Some(Reason::NotFound) => StatusCode::NOT_FOUND.into_response(),
        Some(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        None => {
            tracing::error!(%error, "a published document cannot be served");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
