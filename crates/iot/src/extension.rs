//! What this server offers beside the vendor's methods: by REST only, with the same authentication and the same errors.
//! These calls answer the thing itself, not an operation.

mod export;
mod import;

use crate::app::{App, Call};
use crate::error::{Error, Result, request_id};
use crate::rest::{Rest, whole, written};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::uri::Uri;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::Value;
use tonic::metadata::MetadataMap;

/// The state of these handlers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Extension {
    app: App,
    rest: Rest,
}

/// A request of somebody who is known.
struct Asked {
    uri: Uri,
    body: Bytes,
}

/// These calls; everything else is one of the vendor's.
pub(crate) fn router(app: App, rest: Rest) -> Router {
    Router::new()
        .route("/iot-devices/v1/imports", post(import::handle).fallback(other_verb))
        .route("/iot-devices/v1/exports", get(export::handle).fallback(other_verb))
        .fallback(async |State(extension): State<Extension>, request: Request<Body>| {
            extension.rest.answer(request).await
        })
        .with_state(Extension { app, rest })
}

async fn other_verb(State(extension): State<Extension>, request: Request<Body>) -> Response {
    let name = request_id(request.headers());
    extension.rest.refusal(&Error::Unsupported("this path has no such method").status(name), name)
}

impl Extension {
    /// Answers a request with JSON. Who asks is looked at before the body is read.
    async fn answer<F>(
        &self,
        request: Request<Body>,
        body_octets_max: usize,
        handle: impl FnOnce(Call, Asked) -> F,
    ) -> Response
    where
        F: Future<Output = Result<Value>>,
    {
        let (parts, body) = request.into_parts();
        let name = request_id(&parts.headers).to_owned();
        let metadata = MetadataMap::from_headers(parts.headers);
        let call = tonic::Request::from_parts(metadata, parts.extensions, body);
        let answered = self.app.answer(call, |call, body| async move {
            let body = whole(body, body_octets_max).await?;
            handle(call, Asked { uri: parts.uri, body }).await
        });
        match answered.await {
            Ok(answer) => written(StatusCode::OK, answer.get_ref()),
            Err(status) => self.rest.refusal(&status, &name),
        }
    }
}
