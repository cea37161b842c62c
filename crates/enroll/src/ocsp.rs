//! What became of a certificate, over HTTP (RFC 6960 Appendix A, RFC 5019 §5, §6): asked by GET or POST, for anybody.
//!
//! Every OCSPResponse is a 200, also one that says no: its own status says so. One that those in between may keep says for how
//! long; all others say that they are not kept.

use crate::publication::{http_date, is_known};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderValue, LAST_MODIFIED};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use services::Context;
use services::ocsp::{StatusCaching, StatusReply};
use x509::OcspRefusal;
use x509::ocsp::{REQUEST_OCTETS_MAX, request_in_path};

const RESPONSE: HeaderValue = HeaderValue::from_static("application/ocsp-response");
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");
const KEPT_FOR_A_MINUTE: HeaderValue = HeaderValue::from_static("public, max-age=60, no-transform, must-revalidate");

/// The public endpoints.
pub(crate) fn router(services: Context) -> Router {
    Router::new()
        .route("/api/v1/pki/ocsp", post(asked))
        .route("/api/v1/cert-manager/ocsp", post(asked))
        .route("/api/v1/pki/ocsp/{*request}", get(asked_in_path))
        .route("/api/v1/cert-manager/ocsp/{*request}", get(asked_in_path))
        .layer(DefaultBodyLimit::max(REQUEST_OCTETS_MAX))
        .with_state(services)
}

async fn asked(State(services): State<Context>, body: Result<Bytes, BytesRejection>) -> Response {
    let reply = match body {
        Ok(octets) => services.status_reply(octets.into()).await,
        // It is longer than any request, or was not sent to its end.
        Err(_) => malformed(),
    };
    // RFC 9110 §9.3.3: an answer to a POST is kept by nobody unless it says so.
    answer(reply.der)
}

async fn asked_in_path(State(services): State<Context>, uri: Uri, headers: HeaderMap) -> Response {
    let request = uri.path().split_once("/ocsp/").and_then(|(_, request)| request_in_path(request));
    let reply = match request {
        None => malformed(),
        Some(request) => match services.ready_status(&request) {
            Some(ready) => ready,
            None => services.status_reply(request).await,
        },
    };
    match reply.caching {
        None => answer(reply.der),
        Some(caching) => kept_answer(&services, &headers, reply.der, &caching),
    }
}

/// Come later (RFC 6960 §2.3).
pub(crate) fn try_later() -> Response {
    answer(OcspRefusal::TryLater.to_der().to_vec())
}

fn malformed() -> StatusReply {
    StatusReply { der: OcspRefusal::MalformedRequest.to_der().to_vec(), caching: None }
}

fn answer(der: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, RESPONSE), (CACHE_CONTROL, NOT_KEPT)], der).into_response()
}

fn kept_answer(services: &Context, headers: &HeaderMap, der: Vec<u8>, caching: &StatusCaching) -> Response {
    let tag = format!("\"{:032x}\"", u128::from_be_bytes(caching.tag));
    let cache_control = match caching.seconds {
        60 => KEPT_FOR_A_MINUTE,
        seconds => HeaderValue::try_from(format!("public, max-age={seconds}, no-transform, must-revalidate"))
            .unwrap_or(NOT_KEPT),
    };
    let is_known = is_known(headers, &tag);
    let text = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    let about = [
        (ETAG, text(tag)),
        (LAST_MODIFIED, text(http_date(caching.this_update))),
        // Not nextUpdate, as RFC 5019 §6.2 has it: those who read this alone would miss a revocation for hours.
        (EXPIRES, text(http_date(services.now().plus_seconds(caching.seconds)))),
        (CACHE_CONTROL, cache_control),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(CONTENT_TYPE, RESPONSE)], der).into_response()
}
