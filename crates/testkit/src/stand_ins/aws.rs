//! A stand-in of Amazon Web Services: Certificate Manager, Secrets Manager, the Security Token Service, and uploads to S3.
//!
//! It checks Signature Version 4 by itself, pages its lists, and refuses what AWS refuses. One address serves all four
//! services, as it is with the other servers that speak like AWS: the request says which one is meant.

pub mod acm;
pub mod secrets_manager;
pub mod signature;
pub mod sts;

use self::acm::{CertificateStore, StoredCertificate};
use self::secrets_manager::{SecretStore, StoredSecret};
use self::signature::{Problem, SignedRequest};
use self::sts::Identities;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The account that everything belongs to.
pub const ACCOUNT: &str = "123456789012";
/// The region that everything is in.
pub const REGION: &str = "eu-central-1";

/// The largest body that is taken.
const BODY_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the answer has this status and code.
    Refuses(u16, &'static str),
    /// It is done, and the answer speaks of a failure of the service.
    FailsAfter,
    /// It is done, and the answer has this status and code, as if it was not.
    RefusesAfter(u16, &'static str),
    /// It is done, and no answer ever comes.
    FallsSilentAfter,
    /// Nothing is done, and the answer says that there is no such thing.
    DeniesExistence,
}

/// The stand-in; it ends when it is dropped.
pub struct AwsStandIn {
    url: String,
    everything: Arc<Mutex<Everything>>,
    server: tokio::task::JoinHandle<()>,
}

/// An object of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its media type.
    pub content_type: String,
    /// What it holds.
    pub body: Vec<u8>,
}

/// What an operation refuses with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The code: `ResourceNotFoundException`.
    pub code: &'static str,
    /// The words.
    pub message: String,
}

struct Everything {
    identities: Identities,
    certificates: CertificateStore,
    secrets: SecretStore,
    objects: BTreeMap<String, StoredObject>,
    faults: Vec<(String, Fault)>,
    calls: Vec<String>,
}

/// An operation that was asked for.
struct Call {
    service: &'static str,
    operation: String,
    /// Of the JSON services.
    arguments: Value,
}

struct Outcome {
    response: Response,
    is_silent: bool,
}

impl Refusal {
    /// A refusal with status 400.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into() }
    }

    fn from_problem(problem: Problem, service: &str) -> Self {
        let (json_code, other_code) = match problem {
            Problem::NoSignature => ("MissingAuthenticationTokenException", "MissingAuthenticationToken"),
            Problem::Malformed(_) => ("IncompleteSignatureException", "IncompleteSignature"),
            Problem::UnknownKey if service == "s3" => ("UnrecognizedClientException", "InvalidAccessKeyId"),
            Problem::UnknownKey | Problem::WrongToken => ("UnrecognizedClientException", "InvalidClientTokenId"),
            Problem::OutOfTime | Problem::WrongSignature => ("InvalidSignatureException", "SignatureDoesNotMatch"),
        };
        let is_json = matches!(service, "acm" | "secretsmanager");
        let (status, code) = if is_json { (400, json_code) } else { (403, other_code) };
        Self { status, code, message: problem.to_string() }
    }
}

impl AwsStandIn {
    /// Starts it on a port of its own.
    pub async fn start() -> Self {
        let everything = Arc::new(Mutex::new(Everything {
            identities: Identities::new(),
            certificates: CertificateStore::new(),
            secrets: SecretStore::default(),
            objects: BTreeMap::new(),
            faults: Vec::new(),
            calls: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port of the loopback is free");
        let address = listener.local_addr().expect("a listener has an address");
        let service = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(BODY_OCTETS_MAX))
            .with_state(Arc::clone(&everything));
        let server = tokio::spawn(async move {
            axum::serve(listener, service).await.expect("the stand-in serves until it is dropped");
        });
        Self { url: format!("http://{address}"), everything, server }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id and the secret of a key that may do everything.
    pub fn access_key(&self) -> (String, String) {
        let key = self.all().identities.owner();
        (key.id, key.secret)
    }

    /// Lets a role be taken by the owner of the key.
    pub fn add_role(&self, arn: &str) {
        self.all().identities.add_role(arn);
    }

    /// Makes the next calls of an operation fail: `ImportCertificate`.
    pub fn fail(&self, operation: &str, fault: Fault, times: usize) {
        let mut all = self.all();
        for _ in 0..times {
            all.faults.push((operation.to_owned(), fault));
        }
    }

    /// Ends all faults that are still to come.
    pub fn forget_faults(&self) {
        self.all().faults.clear();
    }

    /// How many calls of an operation were well signed.
    pub fn count(&self, operation: &str) -> usize {
        self.all().calls.iter().filter(|call| *call == operation).count()
    }

    /// Changes the certificates, or the rules by which they are kept.
    pub fn with_certificates<T>(&self, change: impl FnOnce(&mut CertificateStore) -> T) -> T {
        change(&mut self.all().certificates)
    }

    /// All certificates, by ARN.
    pub fn certificates(&self) -> BTreeMap<String, StoredCertificate> {
        self.all().certificates.all().clone()
    }

    /// Changes the secrets, or the rules by which they are kept.
    pub fn with_secrets<T>(&self, change: impl FnOnce(&mut SecretStore) -> T) -> T {
        change(&mut self.all().secrets)
    }

    /// All secrets, by name.
    pub fn secrets(&self) -> BTreeMap<String, StoredSecret> {
        self.all().secrets.all().clone()
    }

    /// All objects, by `bucket/key` as it came in the path.
    pub fn objects(&self) -> BTreeMap<String, StoredObject> {
        self.all().objects.clone()
    }

    fn all(&self) -> MutexGuard<'_, Everything> {
        self.everything.lock().expect("no test panics while it holds the stand-in")
    }
}

impl Drop for AwsStandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(everything): State<Arc<Mutex<Everything>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let outcome = {
        let mut everything = everything.lock().expect("no test panics while it holds the stand-in");
        everything.answer(&method, &uri, &headers, &body)
    };
    if outcome.is_silent {
        std::future::pending::<()>().await;
    }
    outcome.response
}

impl Everything {
    fn answer(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Outcome {
        let spoken = |response| Outcome { response, is_silent: false };
        let call = match Call::read(method, headers, body) {
            Ok(call) => call,
            Err(refusal) => return spoken(refused("acm", &refusal)),
        };
        let request = SignedRequest { method, uri, headers, body, service: call.service };
        let who = match signature::verify(&request, &self.identities, jiff::Timestamp::now()) {
            Ok(who) => who,
            Err(problem) => return spoken(refused(call.service, &Refusal::from_problem(problem, call.service))),
        };
        self.calls.push(call.operation.clone());
        let fault = self.take_fault(&call.operation);
        let denial = Refusal::new("ResourceNotFoundException", "There is no such thing.");
        match fault {
            Some(Fault::Refuses(status, code)) => {
                let refusal = Refusal { status, code, message: "The stand-in was told to refuse.".into() };
                return spoken(refused(call.service, &refusal));
            }
            Some(Fault::DeniesExistence) => return spoken(refused(call.service, &denial)),
            Some(Fault::FailsAfter | Fault::RefusesAfter(..) | Fault::FallsSilentAfter) | None => {}
        }
        let response = match self.run(&call, &who, uri, headers, body) {
            Ok(response) => response,
            Err(refusal) => return spoken(refused(call.service, &refusal)),
        };
        match fault {
            Some(Fault::FailsAfter) => {
                let failure = Refusal { status: 500, code: "InternalFailure", message: "Something broke.".into() };
                spoken(refused(call.service, &failure))
            }
            Some(Fault::RefusesAfter(status, code)) => {
                let refusal = Refusal { status, code, message: "The stand-in was told to refuse.".into() };
                spoken(refused(call.service, &refusal))
            }
            Some(Fault::FallsSilentAfter) => Outcome { response, is_silent: true },
            Some(Fault::Refuses(..) | Fault::DeniesExistence) | None => spoken(response),
        }
    }

    fn take_fault(&mut self, operation: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, _)| of == operation)?;
        Some(self.faults.remove(at).1)
    }

    fn run(
        &mut self,
        call: &Call,
        who: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        match call.service {
            "acm" => self.certificates.run(&call.operation, &call.arguments).map(spoken_json),
            "secretsmanager" => self.secrets.run(&call.operation, &call.arguments).map(spoken_json),
            "sts" => self.identities.run(&call.operation, who, &form(body)).map(spoken_xml),
            _ => {
                let content_type =
                    headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
                let object = StoredObject { content_type: content_type.to_owned(), body: body.to_vec() };
                self.objects.insert(uri.path().trim_start_matches('/').to_owned(), object);
                Ok(StatusCode::OK.into_response())
            }
        }
    }
}

impl Call {
    fn read(method: &Method, headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if method == Method::PUT {
            return Ok(Self { service: "s3", operation: "PutObject".into(), arguments: Value::Null });
        }
        if header("content-type").starts_with("application/x-www-form-urlencoded") {
            let operation = form(body).remove("Action").unwrap_or_default();
            return Ok(Self { service: "sts", operation, arguments: Value::Null });
        }
        let unknown = || Refusal::new("UnknownOperationException", "The operation is not known.");
        let (prefix, operation) = header("x-amz-target").rsplit_once('.').ok_or_else(unknown)?;
        let service = match prefix {
            "CertificateManager" => "acm",
            "secretsmanager" => "secretsmanager",
            _ => return Err(unknown()),
        };
        if header("content-type") != "application/x-amz-json-1.1" {
            return Err(unknown());
        }
        let arguments = serde_json::from_slice(body)
            .map_err(|_| Refusal::new("SerializationException", "The body is not a JSON document."))?;
        Ok(Self { service, operation: operation.to_owned(), arguments })
    }
}

fn refused(service: &str, refusal: &Refusal) -> Response {
    let Refusal { status, code, message } = refusal;
    let status = StatusCode::from_u16(*status).expect("a refusal has a status of HTTP");
    let escaped = message.replace('&', "&amp;").replace('<', "&lt;");
    match service {
        "acm" | "secretsmanager" => (status, spoken_json(json!({"__type": code, "message": message}))).into_response(),
        "sts" => {
            let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{escaped}</Message></Error>");
            (status, spoken_xml(format!("<ErrorResponse>{error}</ErrorResponse>"))).into_response()
        }
        _ => {
            let error = format!("<Error><Code>{code}</Code><Message>{escaped}</Message></Error>");
            (status, spoken_xml(error)).into_response()
        }
    }
}

fn spoken_json(body: Value) -> Response {
    ([("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

fn spoken_xml(body: String) -> Response {
    ([("content-type", "text/xml")], format!("<?xml version=\"1.0\"?>\n{body}")).into_response()
}

/// The fields of a form.
fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body).replace('+', " ");
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (signature::percent_decoded(name), signature::percent_decoded(value))).collect()
}

/// A member of a JSON document that is text.
fn text<'a>(arguments: &'a Value, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

/// The tags of a request, as they are in all JSON services here.
fn tags(arguments: &Value) -> Vec<(String, String)> {
    let tags = arguments.get("Tags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    tags.iter()
        .map(|tag| (text(tag, "Key").unwrap_or_default().into(), text(tag, "Value").unwrap_or_default().into()))
        .collect()
}

/// Tags as they are in answers.
fn tags_json(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// Where a page begins, by the token of the page before.
fn page_start(arguments: &Value) -> Result<usize, Refusal> {
    match text(arguments, "NextToken") {
        None => Ok(0),
        Some(token) => token
            .strip_prefix("page-from-")
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| Refusal::new("ValidationException", "The token is not one of ours.")),
    }
}
