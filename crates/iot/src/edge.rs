//! The outside of this family of paths, for the server's own edge: which requests are its, its router, and its words for
//! what went wrong outside of the router.

use crate::app::App;
use crate::error::{Error, REQUEST_ID, TRACE_ID, of_framework, request_id};
use crate::extension::Extension;
use crate::grpc;
use crate::rest::Rest;
use async_recursion::async_recursion as compiled_here;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use axum::response::Response;
use http_body_util::BodyExt;
use tonic::{Code, Status};
use tower::ServiceExt;

/// Everything that the device registry answers.
#[derive(Clone)]
pub struct Edge {
    services: Router,
    rest: Rest,
    extension: Extension,
}

/// The first parts of the paths of REST (contract §2.1).
const PATHS: [&str; 5] = ["/iot-devices", "/iot-broker", "/operations", "/endpoints", "/iam"];

/// Whether a request is for the device registry: a call of gRPC, or a path below one of its own.
pub fn is_ours(request: &Request<Body>) -> bool {
    let path = request.uri().path();
    let is_below =
        |first: &&str| path.strip_prefix(*first).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']));
    PATHS.iter().any(is_below) || is_grpc(request.headers())
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.and_then(|kind| kind.strip_prefix("application/grpc")).is_some_and(|rest| {
        // Not gRPC-Web, which is framed otherwise.
        rest.is_empty() || rest.starts_with(['+', ';', ' '])
    })
}

impl Edge {
    /// All services, by gRPC and by REST.
    #[compiled_here]
    pub async fn new(app: App) -> Result<Self, String> {
        let services = grpc::router(&app).await;
        let rest = Rest::new(services.clone())?;
        let extension = Extension::new(app, rest.clone());
        Ok(Self { rest, extension, services })
    }

    /// Answers a request that is ours.
    #[compiled_here]
    pub async fn answer(self, mut request: Request<Body>) -> Response {
        let trace_id = request.headers().get(REQUEST_ID).cloned();
        let is_http2 = request.version() == Version::HTTP_2;
        let mut response = if is_grpc(request.headers()) {
            match self.called(request).await {
                // Only there clients take trailers without being asked.
                response if is_http2 => headed(response, trace_id.clone()),
                response => response,
            }
        } else if request.method() == Method::HEAD {
            // RFC 9110 §9.3.2: what GET answers, without the content.
            *request.method_mut() = Method::GET;
            without_content(self.by_rest(request).await)
        } else {
            self.by_rest(request).await
        };
        if let Some(trace_id) = trace_id {
            response.headers_mut().insert(TRACE_ID, trace_id);
        }
        response
    }

    async fn by_rest(self, request: Request<Body>) -> Response {
        match self.extension.answers(&request) {
            true => self.extension.answer(request).await,
            false => self.rest.answer(request).await,
        }
    }

    /// Calls a service. What is refused before a handler is reached has no details yet.
    async fn called(self, request: Request<Body>) -> Response {
        let name = request_id(request.headers()).to_owned();
        let response = self.services.oneshot(request).await.unwrap_or_else(|never| match never {});
        if response.headers().contains_key(Status::GRPC_STATUS_DETAILS) {
            return response;
        }
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => of_framework(&status, &name).into_http(),
            Some(_) | None => response,
        }
    }

    /// Says what went wrong outside of the handlers: a time limit, a panic.
    pub fn refusal(&self, request_headers: &HeaderMap, error: domain::Error) -> Response {
        let name = request_id(request_headers);
        let status = Error::from(error).status(name);
        if is_grpc(request_headers) { status.into_http() } else { self.rest.refusal(&status, name) }
    }

    /// As a router.
    pub fn into_router(self) -> Router {
        Router::new().fallback(move |request: Request<Body>| self.clone().answer(request))
    }
}

/// An error of gRPC whose status comes in trailers of its own, so that clients find the other headers among the headers: one
/// of the vendor's SDKs looks for the name of the request there (contract §2.8), and takes everything for trailers when
/// there is one block only.
fn headed(response: Response, name: Option<HeaderValue>) -> Response {
    let (mut head, body) = response.into_parts();
    let mut trailers = HeaderMap::new();
    for key in [Status::GRPC_STATUS, Status::GRPC_MESSAGE, Status::GRPC_STATUS_DETAILS] {
        trailers.extend(head.headers.remove(&key).map(|value| (key, value)));
    }
    if trailers.is_empty() {
        return Response::from_parts(head, body);
    }
    // Whoever reads only the trailers finds these there, as before.
    trailers.extend(name.map(|name| (HeaderName::from_static(REQUEST_ID), name)));
    trailers.extend(head.headers.get(RETRY_AFTER).map(|seconds| (RETRY_AFTER, seconds.clone())));
    Response::from_parts(head, Body::new(body.with_trailers(std::future::ready(Some(Ok(trailers))))))
}

/// The head of an answer, with the length of what it would have.
fn without_content(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(octets) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(octets));
    }
    Response::from_parts(head, Body::empty())
}
