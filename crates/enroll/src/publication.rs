//! Revocation lists and certificates of authorities in DER (contract §3.9, 4.5; RFC 5280 §4.2.1.13, 4.2.2.1).

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::{AuthorityCertificateId, AuthorityId, CrlId, Error};
use services::Context;

/// The public endpoints. They know no caller; `E` is how the server around them says no.
pub fn router<E: From<Error> + IntoResponse + 'static>(services: Context) -> Router {
    Router::new()
        .route("/api/v1/pki/crl/{p0}", get(list::<E>))
        .route("/api/v1/pki/crl/{p0}/der", get(list::<E>))
        .route("/api/v1/cert-manager/crl/{p0}", get(list::<E>))
        .route("/api/v1/cert-manager/crl/{p0}/der", get(list::<E>))
        .route("/api/v1/pki/ca/{p0}/certificates/{p1}/der", get(certificate::<E>))
        .route("/api/v1/cert-manager/ca/internal/{p0}/certificates/{p1}/der", get(certificate::<E>))
        .with_state(services)
}

async fn list<E: From<Error>>(State(services): State<Context>, Path(id): Path<String>) -> Result<Response, E> {
    let id = CrlId::parse(&id).ok_or_else(|| Error::not_found("there is no such revocation list"))?;
    Ok(published("application/pkix-crl", "public, max-age=60", services.published_list(id).await?))
}

async fn certificate<E: From<Error>>(
    State(services): State<Context>,
    Path((authority, id)): Path<(String, String)>,
) -> Result<Response, E> {
    let (Some(authority), Some(id)) = (AuthorityId::parse(&authority), AuthorityCertificateId::parse(&id)) else {
        return Err(Error::not_found("there is no such certificate").into());
    };
    let der = services.published_certificate(authority, id).await?;
    Ok(published("application/pkix-cert", "public, max-age=86400", der))
}

fn published(content_type: &'static str, cache_control: &'static str, der: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, cache_control)], der).into_response()
}
