//! The outside of the whole HTTP server: what holds for every request of every family.
//!
//! Each request gets a name (`x-request-id`), loses the slash at the end of its path (contract §1.1), and is answered: a
//! refusal in its JSON shape, a failure of ours or a panic as 500 with one line in the log. It wraps the router as a
//! service, because a layer of the router would run only after a path was matched:
//!
//! ```no_run
//! # use api::edge::Edge;
//! # use std::net::SocketAddr;
//! # async fn serve(listener: tokio::net::TcpListener, router: axum::Router) -> std::io::Result<()> {
//! let edge = Edge::new(router); // route::router(routes).merge(documentation.router()).with_state(app)
//! axum::serve(listener, edge.into_router().into_make_service_with_connect_info::<SocketAddr>()).await
//! # }
//! ```
//!
//! On hyper-util it is `TowerToHyperService::new(edge)`, with `ConnectInfo` put into the extensions of each request.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use axum::{BoxError, Router};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tower::Service;

use crate::admission::Admission;
use crate::error::{ApiError, RequestId};
use crate::traffic::{RequestKind, Traffic};

/// The whole HTTP server as a service.
#[derive(Clone)]
pub struct Edge {
    router: Router,
    family: Option<Family>,
    time_limit: Duration,
    admission: Arc<Admission>,
    /// Where requests are worked at that are not urgent; here, when there is no other place.
    lane: Option<Handle>,
    counts: Arc<Counts>,
}

/// Requests of another API beside this one, which is answered by routes of its own and says no in its own shape.
#[derive(Clone)]
pub struct Family {
    /// What answers them. Each comes with a name in its header `x-request-id`, whatever the client wrote there.
    pub router: Router,
    /// Whether a request is one of them.
    pub is_theirs: fn(&Request<Body>) -> bool,
    /// Writes out what went wrong outside of the routes.
    pub refuse: Refuse,
}

/// From an error, and the headers of the request that it is about, to an answer.
pub type Refuse = Arc<dyn Fn(&HeaderMap, domain::Error) -> Response + Send + Sync>;

/// What was answered since the start.
#[derive(Debug, Default)]
pub struct Counts {
    panics: AtomicU64,
    /// By the first digit of the status: 2xx at 2.
    answers: [AtomicU64; 6],
    traffic: Traffic,
}

impl Counts {
    /// How many requests panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// How many requests were answered with a status of this class: 2 for 2xx.
    pub fn answers(&self, class: u16) -> u64 {
        self.answers.get(usize::from(class)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How long requests took and how they ended, by kind.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How many requests of either kind are under way at once, unless something else is configured.
pub const REQUESTS_AT_ONCE: usize = 2048;

/// From so many requests under way on, those that are not urgent are worked at on threads of their own. With fewer, an urgent
/// one waits for few, and the change of threads would cost each of the others a fifth of its time.
const CROWD: usize = 128;

/// How long a request may take, unless something else is configured.
const TIME_LIMIT: Duration = Duration::from_secs(60);

impl Edge {
    /// Around all routes. Unknown paths, and known ones with another method, are 404 in the shape of every other error.
    pub fn new(router: Router) -> Self {
        let router = router.fallback(no_route).method_not_allowed_fallback(no_route);
        let admission = Arc::new(Admission::new(REQUESTS_AT_ONCE));
        Self { router, family: None, time_limit: TIME_LIMIT, admission, lane: None, counts: Arc::default() }
    }

    /// With threads of their own for the requests that are not urgent.
    pub fn with_lane(self, lane: Option<Handle>) -> Self {
        Self { lane, ..self }
    }

    /// With other room for requests.
    pub fn with_admission(self, admission: Arc<Admission>) -> Self {
        Self { admission, ..self }
    }

    /// With the requests of another API.
    pub fn with_family(self, family: Family) -> Self {
        Self { family: Some(family), ..self }
    }

    /// With another limit to how long a request may take, its body included. One that takes longer is answered 504.
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// What was answered since the start.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// As a router, for servers that want one.
    pub fn into_router(self) -> Router {
        Router::new().fallback_service(self)
    }

    async fn answer(self, request: Request<Body>) -> Response {
        let admission = self.admission.clone();
        let response = self.answer_at_once(request).await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            admission.hold_back().await;
        }
        response
    }

    async fn answer_at_once(mut self, mut request: Request<Body>) -> Response {
        trim_trailing_slashes(request.uri_mut());
        let family = self.family.take().filter(|family| (family.is_theirs)(&request));
        let named = Named::new(&mut request, family.is_some());
        let Some(entry) = self.admission.enter(&request) else {
            let turned_away = self.admission.turn_away(request.uri());
            let response = turned_away.unwrap_or_else(|| named.refuse(too_full(), family.as_ref()));
            return self.counted(response, named);
        };
        let mut router = family.as_ref().map_or(&self.router, |family| &family.router).clone();
        // Called inside the guarded future, so that a panic before the first await is caught too.
        let guarded = AssertUnwindSafe(async move { router.call(request).await }).catch_unwind();
        let is_crowded = self.admission.ordinary_room().taken() > CROWD;
        let answered = match self.lane.as_ref().filter(|_| is_crowded && !entry.is_urgent()) {
            None => tokio::time::timeout(self.time_limit, guarded).await,
            Some(lane) => tokio::time::timeout(self.time_limit, Elsewhere(lane.spawn(making_way(guarded)))).await,
        };
        let answered = match answered {
            Err(_) => Err(too_slow()),
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(panic)) => {
                self.counts.panics.fetch_add(1, Ordering::Relaxed);
                Err(domain::Error::failed(format!("a request panicked: {}", words(panic.as_ref()))))
            }
        };
        let response = match answered {
            Ok(response) => match response.extensions().get::<Arc<ApiError>>() {
                Some(error) => named.say(error),
                None => response,
            },
            Err(error) => named.refuse(error, family.as_ref()),
        };
        self.counted(response, named)
    }

    /// Counts an answer, and gives it the name of its request.
    fn counted(&self, mut response: Response, named: Named) -> Response {
        let class = usize::from(response.status().as_u16() / 100);
        if let Some(count) = self.counts.answers.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.traffic.note(named.kind, named.began.elapsed(), response.status());
        response.headers_mut().insert(X_REQUEST_ID, named.name);
        response
    }
}

/// Does a part of the work only after everything that waits for a processor had its turn. The system would let a thread of
/// the lane go on for some milliseconds, however urgent the one that waits.
async fn making_way<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        std::thread::yield_now();
        work.as_mut().poll(context)
    })
    .await
}

/// Work on other threads, which ends when nobody waits for it any more, as it would here.
struct Elsewhere<T>(JoinHandle<std::thread::Result<T>>);

impl<T> Future for Elsewhere<T> {
    type Output = std::thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(Pin::new(&mut self.0).poll(context));
        // Panics were caught there; what is left is that the server ends.
        Poll::Ready(ended.unwrap_or_else(|error| Err(Box::new(error.to_string()))))
    }
}

impl<T> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request as the log and the answers name it.
struct Named {
    began: Instant,
    kind: RequestKind,
    request_id: RequestId,
    /// What stands in `x-request-id`.
    name: HeaderValue,
    method: Method,
    uri: Uri,
    /// Those of a request of the other API.
    headers: HeaderMap,
}

impl Named {
    /// Names a request. The other API wants its names to be UUIDs, and looks for them in a header.
    fn new(request: &mut Request<Body>, is_of_family: bool) -> Self {
        let (began, request_id) = (Instant::now(), RequestId::new());
        let kind = match is_of_family {
            true => RequestKind::Registry,
            false => RequestKind::of(request.method(), request.uri().path()),
        };
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let text = if is_of_family { uuid::Uuid::new_v4().to_string() } else { request_id.to_string() };
        let name = HeaderValue::from_str(&text).expect("a request id is made of letters, digits and hyphens");
        request.extensions_mut().insert(request_id);
        let mut headers = HeaderMap::new();
        if is_of_family {
            request.headers_mut().insert(X_REQUEST_ID, name.clone());
            headers.clone_from(request.headers());
        }
        Self { began, kind, request_id, name, method, uri, headers }
    }

    /// Writes an error out; a failure of ours is logged here and nowhere else.
    fn say(&self, error: &ApiError) -> Response {
        if let ApiError::Said(error) = error {
            self.log(error);
        }
        error.answer(&self.request_id)
    }

    /// Writes out what went wrong outside of the routes.
    fn refuse(&self, error: domain::Error, family: Option<&Family>) -> Response {
        match family {
            None => self.say(&error.into()),
            Some(family) => {
                self.log(&error);
                (family.refuse)(&self.headers, error)
            }
        }
    }

    fn log(&self, error: &domain::Error) {
        if let domain::Error::Failed(cause) = error {
            // The path alone: a query may hold a secret.
            let (name, path) = (self.name.to_str().unwrap_or_default(), without_secret(self.uri.path()));
            tracing::error!(request.id = %name, method = %self.method, path, %cause, "a request failed");
        }
    }
}

impl<B> Service<Request<B>> for Edge
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let edge = self.clone();
        Box::pin(async move { Ok(edge.answer(request.map(Body::new)).await) })
    }
}

async fn no_route() -> ApiError {
    ApiError::no_route()
}

/// There are more requests than there is room for.
fn too_full() -> domain::Error {
    domain::Error::too_many("The server has as many requests as it takes; nothing was done", 1)
}

/// The request took longer than it may.
fn too_slow() -> domain::Error {
    domain::Error::outcome_unknown("The request took longer than the server allows; its outcome is unknown", 5)
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn trim_trailing_slashes(uri: &mut Uri) {
    let trimmed = uri.path().trim_end_matches('/');
    if trimmed.len() == uri.path().len() || trimmed.is_empty() {
        return;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = PathAndQuery::try_from(path_and_query).ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// A path for the log: what follows `hooks/` is the secret of a broker outside.
fn without_secret(path: &str) -> &str {
    const HOOKS: &str = "/hooks/";
    path.find(HOOKS).map_or(path, |at| &path[..at + HOOKS.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::Documentation;
    use crate::error::Result;
    use crate::openapi::About;
    use crate::route::{Application, Endpoint, Input, Reply, Route, router};
    use crate::schema::*;
    use axum::body::to_bytes;
    use axum::extract::ConnectInfo;
    use serde_json::{Value, json};
    use std::net::SocketAddr;
    use tower::ServiceExt;

    /// A server that knows the token `good` and says what its handlers saw.
    #[derive(Clone)]
    struct Toy;

    struct Caller(&'static str);

    impl Application for Toy {
        type Caller = Caller;

        async fn authenticate(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Caller> {
            assert_eq!(peer.map(|peer| peer.port()), Some(4711));
            match headers.get("authorization").and_then(|value| value.to_str().ok()) {
                None => Err(domain::Error::unauthenticated("no token").into()),
                Some("Bearer good") => Ok(Caller("machine")),
                Some(_) => Err(domain::Error::bad_token("not a token of ours").into()),
            }
        }

        fn admit(&self, _: &Caller) -> Result<()> {
            Ok(())
        }
    }

    fn routes() -> Vec<Route<Toy>> {
        let body = || object([required("name", slug(1, 9)), optional("count", integer().default(json!(1)))]);
        vec![
            Endpoint::post("/api/things/{thingId}", "Things", "Make a thing")
                .also_at("/api/objects/{id}")
                .path([required("thingId", uuid())])
                .query([optional("limit", integer().at_most(10)), optional("dry", boolean())])
                .body(body())
                .body_limit(1000)
                .returns(body())
                .bearer(|_, caller: Caller, mut input: Input| async move {
                    let path = input.parameter("thingId").to_owned();
                    Reply::json(&json!([caller.0, path, input.query::<Value>()?, input.body::<Value>()?]))
                }),
            Endpoint::get("/api/things/{otherName}/key", "Things", "Read the key of a thing")
                .public(|_, input| async move { Ok(Reply::text(input.parameter("otherName")).no_store()) }),
            Endpoint::patch("/api/options", "Things", "Change options")
                .body(object([optional("a", any())]))
                .public(|_, mut input| async move { Reply::json(&input.body::<Value>()?) }),
            Endpoint::delete("/api/panic", "Things", "Panic").public(|_, _| async move { panic!("the toy is broken") }),
            Endpoint::get("/api/fail", "Things", "Fail")
                .public(|_, _| async move { Err(domain::Error::failed("the toy is broken").into()) }),
        ]
    }

    fn edge() -> Edge {
        let about = About {
            title: "Toy <API>".into(),
            version: "1".into(),
            description: "For tests".into(),
            public_url: "https://toy.example/".into(),
        };
        let routes = routes();
        let documentation = Documentation::new(about, &routes, Vec::new());
        Edge::new(router(routes).merge(documentation.router()).with_state(Toy))
    }

    struct Answer {
        status: u16,
        headers: HeaderMap,
        body: String,
    }

    impl Answer {
        fn json(&self) -> Value {
            serde_json::from_str(&self.body).expect("it is JSON")
        }
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded;charset=UTF-8");
    const GOOD: (&str, &str) = ("authorization", "Bearer good");
    const THING: &str = "/api/things/0198c5f2-7b1e-7c30-9d41-5a6f0e2b8c17";

    async fn send_to(edge: &Edge, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 4711)));
        let mut request = Request::builder().method(method).uri(uri).extension(peer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("it is a request");
        let response = edge.clone().oneshot(request).await.expect("it always answers");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("it is in memory");
        let body = String::from_utf8(body.to_vec()).expect("it is text");
        assert!(parts.headers["x-request-id"].to_str().expect("text").starts_with("req-"));
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn send(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send_to(&edge(), method, uri, headers, body).await
    }

    /// Sends, and expects an error of this status and name whose `reqId` is the one in the header.
    async fn check_error(
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &str,
        status: u16,
        error: &str,
    ) -> Value {
        let answer = send(method, uri, headers, body).await;
        let json = answer.json();
        assert_eq!((answer.status, json["error"].as_str()), (status, Some(error)), "{method} {uri}: {json}");
        assert_eq!(json["statusCode"], status);
        assert_eq!(json["reqId"].as_str(), answer.headers["x-request-id"].to_str().ok());
        json["message"].clone()
    }

    #[tokio::test]
    async fn a_handler_gets_what_was_checked() {
        for (uri, headers, body) in [
            (THING.to_owned() + "?limit=7&dry=true&unknown=1", [GOOD, JSON], r#"{"name":" ABC ","x":0}"#),
            (THING.to_owned() + "/?limit=7&dry=true", [GOOD, JSON], r#"{"name":"abc","count":1}"#),
            (THING.to_owned() + "//?dry=true&limit=7", [GOOD, FORM], "name=abc&count=1"),
            (THING.replace("things", "objects") + "?dry=true&limit=7", [GOOD, FORM], "name=abc"),
            (THING.to_owned() + "?limit=7&dry=true", [GOOD, ("x-no", "content-type")], r#"{"name":"abc"}"#),
        ] {
            let answer = send("POST", &uri, &headers, body).await;
            let id = THING.rsplit('/').next();
            let expected = json!(["machine", id, {"limit": 7, "dry": true}, {"name": "abc", "count": 1}]);
            assert_eq!((answer.status, answer.json()), (200, expected), "{uri}");
        }
    }

    #[tokio::test]
    async fn the_token_is_judged_before_the_shape_and_the_shape_before_the_handler() {
        let (bad, none) = (("authorization", "Bearer bad"), ("x-none", ""));
        let wrong = "/api/things/not-a-uuid?limit=11";
        check_error("POST", wrong, &[none], "{", 401, "UnauthorizedError").await;
        check_error("POST", wrong, &[bad], "{", 403, "TokenError").await;
        check_error("POST", wrong, &[GOOD], "{", 400, "BadRequest").await;
        let issues = check_error("POST", wrong, &[GOOD], "", 422, "ValidationFailure").await;
        let paths: Vec<_> = issues.as_array().expect("a list").iter().map(|issue| issue["path"].clone()).collect();
        assert_eq!(paths, [json!(["thingId"]), json!(["limit"]), json!(["name"])]);
    }

    #[tokio::test]
    async fn a_body_within_bounds_is_optional_where_all_of_it_is() {
        for body in ["", "{}"] {
            assert_eq!(send("PATCH", "/api/options/", &[JSON], body).await.json(), json!({}));
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(31), "]".repeat(31));
        assert_eq!(send("PATCH", "/api/options", &[JSON], &deep).await.status, 200);
        let deeper = deep.replace("[]", "[[]]");
        check_error("PATCH", "/api/options", &[JSON], &deeper, 400, "BadRequest").await;
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_413_whether_its_length_is_declared_or_not() {
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(1000));
        let length = long.len().to_string();
        check_error("POST", THING, &[GOOD, JSON], &long, 413, "PayloadTooLarge").await;
        check_error("POST", THING, &[GOOD, JSON, ("content-length", &length)], &long, 413, "PayloadTooLarge").await;
        let fits = format!(r#"{{"name":"abc"{}}}"#, " ".repeat(1000 - 14));
        assert_eq!(send("POST", THING, &[GOOD, JSON], &fits).await.status, 200);
    }

    #[test]
    fn the_secret_of_a_hook_is_not_logged() {
        assert_eq!(without_secret("/iot-devices/v1/hooks/secret/user"), "/iot-devices/v1/hooks/");
        assert_eq!(without_secret("/iot-devices/v1/devices"), "/iot-devices/v1/devices");
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_404_like_every_error() {
        for (method, uri) in [("GET", "/nothing"), ("GET", "/"), ("PUT", THING), ("GET", "/api/options"), ("GET", "//")]
        {
            check_error(method, uri, &[GOOD], "", 404, "NotFound").await;
        }
        check_error("GET", "/api/things/a%00b/key", &[], "", 404, "NotFound").await;
        check_error("GET", "/api/things/%ff/key", &[], "", 404, "NotFound").await;
    }

    #[tokio::test]
    async fn path_parameters_are_decoded_and_secrets_are_not_stored() {
        let answer = send("GET", "/api/things/a%2Fb/key/", &[], "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "a/b"));
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }

    #[tokio::test]
    async fn failures_and_panics_are_500_and_the_next_request_is_served() {
        let edge = edge();
        for (method, uri) in [("DELETE", "/api/panic"), ("GET", "/api/fail")] {
            let answer = send_to(&edge, method, uri, &[], "").await;
            assert_eq!((answer.status, answer.json()["message"].as_str()), (500, Some("Something went wrong")));
            assert!(!answer.body.contains("broken"));
        }
        assert_eq!(edge.counts().panics(), 1);
        assert_eq!(send_to(&edge, "PATCH", "/api/options", &[], "").await.status, 200);
    }

    #[tokio::test]
    async fn the_edge_works_inside_a_router_too() {
        let answer = edge().into_router().oneshot(Request::get("/api/docs/").body(Body::empty()).expect("a request"));
        assert_eq!(answer.await.expect("it always answers").status(), 200);
    }

    #[tokio::test]
    async fn another_api_is_answered_by_its_own_routes_and_refused_in_its_own_shape() {
        let name = |headers: &HeaderMap| headers["x-request-id"].to_str().expect("text").to_owned();
        let said = move |request: Request<Body>| async move {
            assert_ne!(request.uri().path(), "/other/panic", "the other API is broken");
            name(request.headers())
        };
        let family = Family {
            router: Router::new().fallback(said),
            is_theirs: |request| request.uri().path().starts_with("/other"),
            refuse: Arc::new(move |headers, error| Response::new(format!("{} {error}", name(headers)).into())),
        };
        let edge = Edge::new(router(routes()).with_state(Toy)).with_family(family);
        let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 4711)));
        for (path, words) in [("/other", ""), ("/other/panic", " a request panicked: ")] {
            let request = Request::get(path).extension(peer).header("x-request-id", "what the client wrote");
            let response =
                edge.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("answers");
            let named = response.headers()["x-request-id"].to_str().expect("text").to_owned();
            assert!(uuid::Uuid::parse_str(&named).is_ok(), "{named}");
            let body = to_bytes(response.into_body(), usize::MAX).await.expect("it is in memory");
            assert!(body.starts_with(format!("{named}{words}").as_bytes()), "{path}: {body:?}");
        }
        assert_eq!(edge.counts().panics(), 1);
        assert_eq!(send_to(&edge, "GET", "/nothing", &[], "").await.json()["error"], "NotFound");
    }

    #[tokio::test]
    async fn the_server_documents_itself_without_scripts() {
        let page = send("GET", "/api/docs", &[], "").await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        assert!(page.headers["content-security-policy"].to_str().expect("text").starts_with("default-src 'none'"));
        for part in ["Toy &lt;API&gt;", "Make a thing", "<var>{thingId}</var>", "curl -X POST", "$TOKEN"] {
            assert!(page.body.contains(part), "{part}");
        }
        assert!(!page.body.contains("<script") && !page.body.contains(" style="));
        let style = send("GET", "/api/docs/style.css", &[], "").await;
        assert_eq!(
            (style.status, &style.headers["content-type"]),
            (200, &HeaderValue::from_static("text/css; charset=utf-8"))
        );
        assert_eq!(send("GET", "/api/docs/json", &[], "").await.json()["openapi"], "3.1.0");
    }
}
