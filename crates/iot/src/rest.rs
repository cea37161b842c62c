//! REST, transcoded: each request becomes a call of the same gRPC service, and its answer becomes JSON (contract §2).
//!
//! Which method a path is for stands in the `google.api.http` options of `proto/`; no handler knows of REST.

pub(crate) mod read;
mod table;
pub(crate) mod write;

use crate::error::{Error, REQUEST_ID, packed, request_id, request_info};
use crate::proto::DESCRIPTORS;
use crate::proto::google::rpc;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use domain::{Reason, Refusal};
use http_body_util::BodyExt;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};
pub(crate) use read::percent_decoded;
use serde_json::{Value, json};
use std::sync::Arc;
use table::{Found, Route, Table};
use tonic::{Code, Status};
use tower::ServiceExt;

/// The REST edge. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rest {
    inner: Arc<Inner>,
    /// The gRPC services that answer.
    services: Router,
}

struct Inner {
    pool: DescriptorPool,
    table: Table,
}

/// How many octets of a body are read: a message of 262144 bytes in base64, and more.
const BODY_OCTETS_MAX: usize = 1 << 20;
/// What stands before a message of gRPC: a flag and the length.
const FRAME_OCTETS: usize = 5;

impl Rest {
    /// In front of these services.
    pub(crate) fn new(services: Router) -> Result<Self, String> {
        let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|error| format!("proto/: {error}"))?;
        let table = Table::new(&pool)?;
        Ok(Self { inner: Arc::new(Inner { pool, table }), services })
    }

    /// What `proto/` describes.
    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.inner.pool
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn answer(self, request: Request<Body>) -> Response {
        let name = request_id(request.headers()).to_owned();
        match self.transcoded(request, &name).await {
            Ok(response) => response,
            Err(status) => self.refusal(&status, &name),
        }
    }

    /// A refusal that no service made, in the shape of those that one made.
    pub(crate) fn refusal(&self, status: &Status, request_id: &str) -> Response {
        let mut body = rpc::Status::decode(status.details()).unwrap_or_default();
        if body.details.is_empty() {
            body.details.push(packed(&request_info(request_id)));
        }
        let details = body.details.iter().map(|any| write::any(&self.inner.pool, &any.type_url, &any.value));
        // What cannot be shown is left out rather than failing once more.
        let details: Vec<Value> = details.filter_map(Result::ok).collect();
        let json = json!({ "code": i32::from(status.code()), "message": status.message(), "details": details });
        let mut response = written(http_status(status.code()), &json);
        if status.code() == Code::Unauthenticated {
            // RFC 9110 §15.5.2: a 401 names the scheme that it wants.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = status.metadata().get(RETRY_AFTER.as_str()).and_then(|value| value.to_str().ok())
            && let Ok(seconds) = HeaderValue::from_str(seconds)
        {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }

    /// A message of `proto/` as JSON.
    pub(crate) fn json<M: Message + Name>(&self, message: &M) -> Result<Value, String> {
        let name = M::full_name();
        let descriptor = self.inner.pool.get_message_by_name(&name);
        let descriptor = descriptor.ok_or_else(|| format!("{name} is not described by proto/"))?;
        let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice());
        write::message(&message.map_err(|error| format!("{name}: {error}"))?)
    }

    async fn transcoded(&self, request: Request<Body>, request_id: &str) -> Result<Response, Status> {
        let (parts, body) = request.into_parts();
        let said = |error: domain::Error| Error::from(error).status(request_id);
        let uri = parts.uri.clone();
        let (route, path) = match self.inner.table.find(parts.method.as_str(), uri.path()) {
            Found::Method(route, path) => (route, path),
            Found::OtherVerb => return Err(Error::Unsupported("this path has no such method").status(request_id)),
            Found::Nothing => return Err(said(domain::Error::not_found("there is no such path"))),
        };
        let body = whole(body).await.map_err(|refusal| said(refusal.into()))?;
        let mut reader = read::Reader::new(route.method.input(), &path);
        match route.has_body {
            true => reader.body(&body),
            // A GET has no body, whatever somebody sends with it.
            false if parts.method == axum::http::Method::GET => {}
            false => reader.no_body(&body),
        }
        reader.query(uri.query().unwrap_or_default());
        let message = reader.finish().map_err(|refusal| said(refusal.into()))?;
        let answer = self.call(route, &message, parts).await?;
        let json = write::message(&answer).map_err(|cause| {
            tracing::error!(request.id = %request_id, %cause, "an answer of the device registry has no JSON form");
            said(domain::Error::failed(cause))
        })?;
        Ok(written(StatusCode::OK, &json))
    }

    /// Calls the service as a client of gRPC does, with the headers and the extensions of the request.
    async fn call(
        &self,
        route: &Route,
        message: &DynamicMessage,
        parts: axum::http::request::Parts,
    ) -> Result<DynamicMessage, Status> {
        let method = &route.method;
        let mut call = Request::new(Body::from(framed(message)));
        *call.method_mut() = axum::http::Method::POST;
        *call.version_mut() = Version::HTTP_2;
        let uri = format!("/{}/{}", method.parent_service().full_name(), method.name());
        *call.uri_mut() = uri.parse().map_err(|_| Status::internal("a method's name is no path"))?;
        for name in ["authorization", "idempotency-key", "user-agent", "x-forwarded-for", REQUEST_ID] {
            for value in parts.headers.get_all(name) {
                call.headers_mut().append(name, value.clone());
            }
        }
        call.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        *call.extensions_mut() = parts.extensions;

        let answer = self.services.clone().oneshot(call).await.unwrap_or_else(|never| match never {});
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| Status::internal(error.to_string()))?;
        let no_trailers = HeaderMap::new();
        let trailers = body.trailers().unwrap_or(&no_trailers);
        let status = Status::from_header_map(trailers).or_else(|| Status::from_header_map(&head.headers));
        match status {
            Some(status) if status.code() != Code::Ok => return Err(status),
            Some(_) => {}
            None => return Err(Status::internal("a service did not say how a call ended")),
        }
        let octets = body.to_bytes();
        let octets = octets.get(FRAME_OCTETS..).unwrap_or_default();
        DynamicMessage::decode(method.output(), octets).map_err(|error| Status::internal(error.to_string()))
    }
}

fn framed(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_OCTETS + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // It fails when there is no room, and BytesMut makes room.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// A body of the usual length at most.
pub(crate) async fn whole(body: Body) -> Result<Bytes, Refusal> {
    whole_up_to(body, BODY_OCTETS_MAX).await
}

/// A body of at most so many octets.
pub(crate) async fn whole_up_to(body: Body, octets_max: usize) -> Result<Bytes, Refusal> {
    let read = to_bytes(body, octets_max).await;
    read.map_err(|error| {
        let is_too_large =
            std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        let (rule, what) = match is_too_large {
            true => ("size", format!("must have at most {octets_max} bytes")),
            false => ("incomplete", "did not arrive whole, or not in time".to_owned()),
        };
        let violation = domain::Violation::new("body", rule, format!("body {what}"));
        Refusal::violations(Reason::Malformed, vec![violation])
    })
}

/// An answer in JSON.
pub(crate) fn written(status: StatusCode, json: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

/// Contract §2.6.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // Nginx's "client closed request", which has no name of its own.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
