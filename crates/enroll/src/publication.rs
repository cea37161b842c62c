//! Revocation lists and certificates of authorities in DER (contract §3.9, 4.5; RFC 5280 §4.2.1.13, 4.2.2.1).

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::{AuthorityCertificateId, AuthorityId, CrlId, Error, Time};
use services::Context;
use services::revocation_lists::PublishedList;

/// The public endpoints. They know no caller; `E` is how the server around them says no.
pub fn router<E: From<Error> + IntoResponse + 'static>(services: Context) -> Router {
    Router::new()
        .route("/api/v1/pki/crl/{p0}", get(list::<E>))
        .route("/api/v1/pki/crl/{p0}/der", get(list::<E>))
        .route("/api/v1/cert-manager/crl/{p0}", get(list::<E>))
        .route("/api/v1/cert-manager/crl/{p0}/der", get(list::<E>))
        .route("/api/v1/pki/crl/{p0}/delta", get(changes::<E>))
        .route("/api/v1/cert-manager/crl/{p0}/delta", get(changes::<E>))
        .route("/api/v1/pki/ca/{p0}/certificates/{p1}/der", get(certificate::<E>))
        .route("/api/v1/cert-manager/ca/internal/{p0}/certificates/{p1}/der", get(certificate::<E>))
        .with_state(services.clone())
        .merge(crate::ocsp::router(services))
}

/// How long a list may be kept by those in between: a revocation is to be seen soon.
const LIST_CACHED_SECONDS: i64 = 60;

async fn list<E: From<Error>>(
    State(services): State<Context>,
    named: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, E> {
    let id = list_id(named)?;
    let list = services.published_list(id).await?;
    let tag = format!("\"{id}-{}\"", list.number);
    Ok(published_list(&services, &headers, &list, tag))
}

/// The list of the changes since a complete one (RFC 5280 §5.2.4, 5.2.6).
async fn changes<E: From<Error>>(
    State(services): State<Context>,
    named: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, E> {
    let id = list_id(named)?;
    let list = services.published_changes(id).await?;
    let tag = format!("\"{id}-{}-changes\"", list.number);
    Ok(published_list(&services, &headers, &list, tag))
}

fn list_id(named: Result<Path<String>, PathRejection>) -> Result<CrlId, Error> {
    let id = named.ok().and_then(|Path(text)| CrlId::parse(&text));
    id.ok_or_else(|| Error::not_found("there is no such revocation list"))
}

fn published_list(services: &Context, headers: &HeaderMap, list: &PublishedList, tag: String) -> Response {
    let left = (list.next_update.seconds() - services.now().seconds()).clamp(0, LIST_CACHED_SECONDS);
    let about = [
        (ETAG, tag.clone()),
        (LAST_MODIFIED, http_date(list.this_update)),
        (CACHE_CONTROL, format!("public, max-age={left}")),
    ];
    if is_known(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(CONTENT_TYPE, "application/pkix-crl")], list.der.clone()).into_response()
}

/// Whether the client has this already (RFC 9110 §13.1.2). `If-Modified-Since` is not answered: two lists may be of one second,
/// and the date of the first must not keep a client from the second.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get(IF_NONE_MATCH).and_then(|value: &HeaderValue| value.to_str().ok());
    tags.is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*"))
}

/// A point in time as HTTP writes it (RFC 9110 §5.6.7).
pub(crate) fn http_date(time: Time) -> String {
    jiff::Timestamp::from_second(time.seconds())
        .ok()
        .and_then(|at| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok())
        .unwrap_or_default()
}

async fn certificate<E: From<Error>>(
    State(services): State<Context>,
    named: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, E> {
    let ids = named
        .ok()
        .and_then(|Path((authority, id))| Some((AuthorityId::parse(&authority)?, AuthorityCertificateId::parse(&id)?)));
    let Some((authority, id)) = ids else {
        return Err(Error::not_found("there is no such certificate").into());
    };
    let der = services.published_certificate(authority, id).await?;
    Ok(published("application/pkix-cert", "public, max-age=86400", der))
}

fn published(content_type: &'static str, cache_control: &'static str, der: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, cache_control)], der).into_response()
}
