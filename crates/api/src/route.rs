//! One list of routes per family, which is registered, checked and documented.
//!
//! The order of checks is that of contract §1.4: the token first (401, 403), then the shapes of path, query and body (422
//! with all issues of the three together), then the handler. A handler receives what was checked and gives back a
//! [`Reply`]; it is a plain function:
//!
//! ```
//! # use api::{error::{ApiError, Result}, route::*, schema::*};
//! # use axum::http::HeaderMap; use std::net::SocketAddr; use serde::{Deserialize, Serialize};
//! # #[derive(Clone)] struct App; struct Caller;
//! impl Application for App {
//!     type Caller = Caller;
//!     async fn authenticate(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Caller> {
//! #       let _ = (headers, peer);
//!         Ok(Caller)
//!     }
//!     fn admit(&self, _: &Caller) -> Result<()> { Ok(()) }
//! }
//!
//! pub fn routes() -> Vec<Route<App>> {
//!     vec![
//!         Endpoint::post("/api/v1/pki/ca/{caId}/renew", "Certificate authorities", "Renew a CA certificate")
//!             .also_at("/api/v1/cert-manager/ca/internal/{caId}/renew")
//!             .path([required("caId", uuid())])
//!             .body(object([required("type", one_of(&["existing"])), required("notAfter", date())]))
//!             .returns(object([required("serialNumber", text())]))
//!             .bearer(renew),
//!     ]
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "camelCase")]
//! struct Renew { not_after: domain::Time }
//!
//! #[derive(Serialize)]
//! #[serde(rename_all = "camelCase")]
//! struct Renewed { serial_number: String }
//!
//! async fn renew(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
//!     let body: Renew = input.body()?;
//! #   let _ = (app, caller, body.not_after);
//!     Reply::json(&Renewed { serial_number: input.parameter("caId").to_owned() })
//! }
//! # let _: axum::Router<App> = router(routes());
//! ```
//!
//! The whole server is `Edge::new(router(routes).with_state(app))`, see [`crate::edge`].

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, PRAGMA};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::body::{self, Parsed};
use crate::error::{ApiError, RequestId, Result};
use crate::schema::{self, Field, Issue, Kind, Schema, object, required, verbatim};

/// Octets that a body may have, unless its endpoint says otherwise.
pub const BODY_LIMIT: usize = 256 * 1024;

/// The state of the server, as far as this edge asks it: who is calling.
pub trait Application: Clone + Send + Sync + 'static {
    /// Who calls, once known.
    type Caller: Send + 'static;

    /// Reads the bearer token.
    ///
    /// # Errors
    /// 401 without a token or with an unknown one, 403 for one that is malformed or of another kind.
    fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = Result<Self::Caller>> + Send;

    /// Whether the caller may ask once more at this moment; not asked where an endpoint is urgent.
    ///
    /// # Errors
    /// 429 when it asks too often.
    fn admit(&self, caller: &Self::Caller) -> Result<()>;
}

/// An endpoint before it has a handler: what it is called, takes and gives.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) method: Method,
    pub(crate) paths: Vec<&'static str>,
    pub(crate) tag: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) description: &'static str,
    pub(crate) path: Schema,
    pub(crate) query: Schema,
    pub(crate) body: Option<Schema>,
    pub(crate) returns: Returns,
    pub(crate) access: Access,
    pub(crate) is_urgent: bool,
    body_limit: usize,
}

/// What an endpoint gives with its 200.
#[derive(Clone, Debug)]
pub(crate) enum Returns {
    Json(Schema),
    Bytes(&'static str),
}

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Access {
    Bearer,
    Public,
}

/// An endpoint with its handler.
#[derive(Clone)]
pub struct Route<S> {
    pub(crate) endpoint: Arc<Endpoint>,
    handler: MethodRouter<S>,
}

/// What a handler receives, checked.
#[derive(Debug)]
pub struct Input {
    /// The headers of the request.
    pub headers: HeaderMap,
    /// Where the connection comes from, when the listener says so.
    pub peer: Option<SocketAddr>,
    /// The name of the request.
    pub request_id: RequestId,
    route: &'static str,
    path: Value,
    query: Value,
    body: Value,
}

/// What a handler answers with, always with status 200.
#[derive(Clone, Debug)]
pub struct Reply {
    headers: HeaderMap,
    body: Bytes,
}

/// All routes in one router. Two routes of the same method and path are a defect and panic here, at the start.
pub fn router<S: Application>(routes: Vec<Route<S>>) -> Router<S> {
    let mut router = Router::new();
    for Route { endpoint, handler } in routes {
        for path in &endpoint.paths {
            router = router.route(&positional(path), handler.clone());
        }
    }
    router
}

impl Endpoint {
    /// An endpoint at a path with parameters in braces; undeclared parameters are plain texts.
    pub fn new(method: Method, path: &'static str, tag: &'static str, summary: &'static str) -> Self {
        let mut parameters = object([]);
        for name in parameter_names(path) {
            parameters = parameters.with([required(name, verbatim())]);
        }
        Self {
            method,
            paths: vec![path],
            tag,
            summary,
            description: "",
            path: parameters,
            query: object([]),
            body: None,
            returns: Returns::Json(object([])),
            access: Access::Public,
            is_urgent: false,
            body_limit: BODY_LIMIT,
        }
    }

    /// A GET.
    pub fn get(path: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, path, tag, summary)
    }

    /// A POST.
    pub fn post(path: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self::new(Method::POST, path, tag, summary)
    }

    /// A PATCH.
    pub fn patch(path: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self::new(Method::PATCH, path, tag, summary)
    }

    /// A PUT.
    pub fn put(path: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self::new(Method::PUT, path, tag, summary)
    }

    /// A DELETE.
    pub fn delete(path: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self::new(Method::DELETE, path, tag, summary)
    }

    /// The same endpoint at another path, with as many parameters in the same order.
    pub fn also_at(mut self, path: &'static str) -> Self {
        self.paths.push(path);
        self
    }

    /// What a stranger should know beyond the summary.
    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The shapes of path parameters.
    pub fn path<const N: usize>(mut self, parameters: [Field; N]) -> Self {
        self.path = self.path.with(parameters);
        self
    }

    /// The shapes of query parameters.
    pub fn query<const N: usize>(mut self, parameters: [Field; N]) -> Self {
        self.query = self.query.with(parameters);
        self
    }

    /// The shape of the body, JSON or form.
    pub fn body(mut self, schema: Schema) -> Self {
        self.body = Some(schema);
        self
    }

    /// Octets that the body may have.
    pub fn body_limit(mut self, octets: usize) -> Self {
        self.body_limit = octets;
        self
    }

    /// With room of its own, and without a rate: it revokes, or tells what is revoked.
    pub fn urgent(mut self) -> Self {
        self.is_urgent = true;
        self
    }

    /// The shape of the reply.
    pub fn returns(mut self, schema: Schema) -> Self {
        self.returns = Returns::Json(schema);
        self
    }

    /// The content type of a reply that is not JSON.
    pub fn returns_bytes(mut self, content_type: &'static str) -> Self {
        self.returns = Returns::Bytes(content_type);
        self
    }

    /// With a handler that needs to know the caller.
    pub fn bearer<S, F, Answer>(mut self, handler: F) -> Route<S>
    where
        S: Application,
        F: Fn(S, S::Caller, Input) -> Answer + Clone + Send + Sync + 'static,
        Answer: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.access = Access::Bearer;
        Route::new(self, move |endpoint: Arc<Endpoint>, app: S, mut parts: Parts, body: Body| {
            let handler = handler.clone();
            async move {
                let caller = app.authenticate(&parts.headers, peer(&parts)).await?;
                if !endpoint.is_urgent {
                    app.admit(&caller)?;
                }
                let input = endpoint.read(&mut parts, body).await?;
                handler(app, caller, input).await
            }
        })
    }

    /// With a handler that answers anybody.
    pub fn public<S, F, Answer>(mut self, handler: F) -> Route<S>
    where
        S: Application,
        F: Fn(S, Input) -> Answer + Clone + Send + Sync + 'static,
        Answer: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.access = Access::Public;
        Route::new(self, move |endpoint: Arc<Endpoint>, app: S, mut parts: Parts, body: Body| {
            let handler = handler.clone();
            async move {
                let input = endpoint.read(&mut parts, body).await?;
                handler(app, input).await
            }
        })
    }

    /// Path, query and body, checked together so that the caller sees every issue at once.
    async fn read(&self, parts: &mut Parts, body: Body) -> Result<Input> {
        let mut issues = Vec::new();
        let path = keep(self.path.check(path_values(&self.path, parts).await?), &mut issues);
        let texts = body::parse_texts(parts.uri.query().unwrap_or_default().as_bytes())?;
        let query = keep(self.query.check_texts(texts), &mut issues);
        let body = match &self.body {
            None => Value::Null,
            Some(schema) => {
                let octets = body::read(&parts.headers, body, self.body_limit).await?;
                let checked = match body::parse(&parts.headers, &octets)? {
                    Parsed::Json(value) => schema.check(value),
                    Parsed::Form(value) => schema.check_texts(value),
                };
                keep(checked, &mut issues)
            }
        };
        if !issues.is_empty() {
            return Err(issues.into());
        }
        let (headers, peer) = (std::mem::take(&mut parts.headers), peer(parts));
        let request_id = parts.extensions.get().copied().unwrap_or_default();
        Ok(Input { headers, peer, request_id, route: self.paths[0], path, query, body })
    }
}

impl<S: Application> Route<S> {
    fn new<F, Answer>(endpoint: Endpoint, answer: F) -> Self
    where
        F: Fn(Arc<Endpoint>, S, Parts, Body) -> Answer + Clone + Send + Sync + 'static,
        Answer: Future<Output = Result<Reply>> + Send + 'static,
    {
        let endpoint = Arc::new(endpoint);
        let filter = MethodFilter::try_from(endpoint.method.clone()).expect("endpoints use the usual methods");
        let described = endpoint.clone();
        let handler = on(filter, move |State(app): State<S>, request: Request| {
            let (parts, body) = request.into_parts();
            answer(described, app, parts, body)
        });
        Self { endpoint, handler }
    }
}

impl Input {
    /// The body as its type. Takes it: a second call fails.
    ///
    /// # Errors
    /// Failed, when the schema promises what `T` does not take.
    pub fn body<T: DeserializeOwned>(&mut self) -> Result<T> {
        schema::decode(self.body.take())
    }

    /// The query as its type. Takes it: a second call fails.
    ///
    /// # Errors
    /// Failed, when the schema promises what `T` does not take.
    pub fn query<T: DeserializeOwned>(&mut self) -> Result<T> {
        schema::decode(self.query.take())
    }

    /// The path parameters as their type. Takes them: a second call fails.
    ///
    /// # Errors
    /// Failed, when the schema promises what `T` does not take.
    pub fn path<T: DeserializeOwned>(&mut self) -> Result<T> {
        schema::decode(self.path.take())
    }

    /// One path parameter as text; empty when the path has none of that name.
    pub fn parameter(&self, name: &str) -> &str {
        self.path.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The endpoint, by its first path: the same under all of its aliases.
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// The clean body before it is taken: what an `Idempotency-Key` is bound to.
    pub fn body_value(&self) -> &Value {
        &self.body
    }
}

impl Reply {
    /// A value as JSON.
    ///
    /// # Errors
    /// Failed, when the value has no JSON form, which is a defect of ours.
    pub fn json(value: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value)
            .map_err(|error| domain::Error::failed_because("the reply cannot be written as JSON", error))?;
        Ok(Self::bytes("application/json; charset=utf-8", body))
    }

    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into().into_bytes())
    }

    /// Octets of a content type.
    pub fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { headers, body: body.into() }
    }

    /// Nobody may keep a copy: for replies with a private key or a secret.
    pub fn no_store(self) -> Self {
        self.header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .header(PRAGMA, HeaderValue::from_static("no-cache"))
    }

    /// With another header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (StatusCode::OK, self.headers, self.body).into_response()
    }
}

/// The names in braces, in order.
pub(crate) fn parameter_names(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// The path as the router wants it: parameters by position, since it refuses two names for one place.
fn positional(path: &'static str) -> String {
    parameter_names(path).enumerate().fold(path.to_owned(), |path, (position, name)| {
        path.replacen(&format!("{{{name}}}"), &format!("{{p{position}}}"), 1)
    })
}

/// The values of the path parameters under the names of the schema.
async fn path_values(schema: &Schema, parts: &mut Parts) -> Result<Value> {
    let Kind::Object(fields) = &schema.kind else {
        return Ok(Value::Null);
    };
    let mut values = Map::new();
    if fields.is_empty() {
        return Ok(Value::Object(values));
    }
    let given = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| ApiError::no_route())?;
    for (field, (_, value)) in fields.iter().zip(&given) {
        if value.contains('\0') {
            return Err(ApiError::no_route());
        }
        values.insert(field.name.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Value::Object(values))
}

fn keep(checked: Result<Value, Vec<Issue>>, issues: &mut Vec<Issue>) -> Value {
    checked.unwrap_or_else(|found| {
        issues.extend(found);
        Value::Null
    })
}

fn peer(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}
