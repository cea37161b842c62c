//! What the stand-ins of cloud services share: how they are served, how they are told to fail, bearer tokens, and
//! certificates to be carried to them.

use crate::chains::{Draft, TestKey, written};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use x509::{AttributeType, Certificate, DistinguishedName, DnsName, GeneralName, pem};

/// The longest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How one call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; the answer is 409.
    Conflict,
    /// Nothing is done; the answer is 429.
    TooManyRequests,
    /// It is done; the answer is 500.
    ErrorAfterSuccess,
    /// It is done; no answer comes, and the connection ends.
    SilenceAfterSuccess,
    /// Nothing is done; the answer says that the object is not there.
    SaysAbsent,
    /// It is begun and not ended, where the vendor's work has parts.
    Partial,
}

/// The faults that are to come, each for the next call of its operation.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<(String, Fault)>>>);

impl Faults {
    /// Lets the next call of an operation that has no fault before it fail.
    pub fn add(&self, operation: &str, fault: Fault) {
        locked(&self.0).push_back((operation.to_owned(), fault));
    }

    /// Whether all of them have come.
    pub fn are_used_up(&self) -> bool {
        locked(&self.0).is_empty()
    }

    fn take(&self, operation: &str) -> Option<Fault> {
        let mut faults = locked(&self.0);
        let position = faults.iter().position(|(name, _)| name == operation)?;
        faults.remove(position).map(|(_, fault)| fault)
    }
}

/// A request.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, cut at its slashes.
    pub path: Vec<String>,
    /// The query.
    pub query: HashMap<String, String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether it has to be begun and not ended.
    pub is_partial: bool,
}

impl Call {
    /// The parts of the path.
    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The token of the bearer.
    pub fn bearer(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// The body as JSON, if it says that it is that.
    pub fn json(&self) -> Option<Value> {
        let kind = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        kind.starts_with("application/json").then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }

    /// The body as a form, if it says that it is that.
    pub fn form(&self) -> Option<HashMap<String, String>> {
        let kind = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return None;
        }
        pairs(std::str::from_utf8(&self.body).ok()?)
    }
}

/// An answer.
pub struct Reply(pub u16, pub Value);

/// A stand-in: what it answers, and how it words its faults.
pub trait StandIn: Send + Sync + 'static {
    /// The faults that are to come.
    fn faults(&self) -> &Faults;
    /// What a call is about, as faults name it.
    fn operation(&self, call: &Call) -> &'static str;
    /// The body of an answer that refuses with this status.
    fn refusal(&self, status: u16) -> Value;
    /// Does what is asked.
    fn answer(&self, call: &Call) -> Reply;
}

/// Where a stand-in listens.
pub struct Place {
    listener: tokio::net::TcpListener,
    /// Its base URL, without a last slash.
    pub base_url: String,
}

impl Place {
    /// A free port of this host.
    pub async fn free() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port of this host is free");
        let address = listener.local_addr().expect("a listener has an address");
        Self { listener, base_url: format!("http://{address}") }
    }

    /// Serves there until the runtime ends.
    pub fn serve<S: StandIn>(self, stand_in: Arc<S>) {
        let router = Router::new().fallback(respond::<S>).with_state(stand_in);
        tokio::spawn(async move { axum::serve(self.listener, router).await });
    }
}

async fn respond<S: StandIn>(State(stand_in): State<Arc<S>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let path = head.uri.path().trim_start_matches('/').split('/').map(str::to_owned).collect();
    let query = pairs(head.uri.query().unwrap_or_default()).unwrap_or_default();
    let mut call = Call { method: head.method, path, query, headers: head.headers, body, is_partial: false };
    let refusal = |status: u16| render(Reply(status, stand_in.refusal(status)));
    match stand_in.faults().take(stand_in.operation(&call)) {
        None => render(stand_in.answer(&call)),
        Some(Fault::Conflict) => refusal(409),
        Some(Fault::TooManyRequests) => ([(header::RETRY_AFTER, "0")], refusal(429)).into_response(),
        Some(Fault::SaysAbsent) => refusal(404),
        Some(Fault::ErrorAfterSuccess) => {
            stand_in.answer(&call);
            refusal(500)
        }
        Some(Fault::SilenceAfterSuccess) => {
            stand_in.answer(&call);
            // Unwinding ends the task that serves this connection, and so the connection, without a word of panic.
            std::panic::resume_unwind(Box::new("the connection is broken off"))
        }
        Some(Fault::Partial) => {
            call.is_partial = true;
            render(stand_in.answer(&call))
        }
    }
}

fn render(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.0).expect("a stand-in answers with a status");
    if reply.1.is_null() { status.into_response() } else { (status, Json(reply.1)).into_response() }
}

fn pairs(text: &str) -> Option<HashMap<String, String>> {
    let uri: Uri = format!("/?{text}").parse().ok()?;
    Query::<HashMap<String, String>>::try_from_uri(&uri).ok().map(|query| query.0)
}

/// Locks, also after a test that has panicked.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tokens that were given out, each with whom it is for and the second at which it ends.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<String, (String, i64)>);

impl Tokens {
    /// A new token.
    pub(crate) fn give(&mut self, to: &str, lifetime_seconds: i64) -> String {
        let token = format!("token-{}", uuid::Uuid::new_v4());
        self.0.insert(token.clone(), (to.to_owned(), now() + lifetime_seconds));
        token
    }

    /// Whom a token that is still good is for.
    pub(crate) fn holder(&self, token: Option<&str>) -> Option<&str> {
        self.0.get(token?).filter(|(_, end)| *end > now()).map(|(holder, _)| holder.as_str())
    }

    /// How many were given out.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The second that it is.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// What kind of key a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of 2048 bits.
    Rsa2048,
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

/// A root and an authority below it.
pub struct TestAuthority {
    key: TestKey,
    issuer: Certificate,
    root: Certificate,
}

/// A certificate with all that belongs to it.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub leaf: Certificate,
    /// The authority's.
    pub issuer: Certificate,
    /// The root's.
    pub root: Certificate,
    /// The private key, PKCS#8 in PEM.
    pub key: String,
}

impl TestAuthority {
    /// A new one.
    pub fn new() -> Self {
        let (root_key, key) = (TestKey::generate(), TestKey::generate());
        let (root_name, name) = (common_name("Stand-in Root"), common_name("Stand-in Issuing"));
        let root = Draft::authority(&root_name, root_key.spki(), &root_name, now()).sign(&root_key);
        let issuer = Draft::authority(&name, key.spki(), &root_name, now()).sign(&root_key);
        Self { key, issuer: certificate(issuer), root: certificate(root) }
    }

    /// A certificate for a DNS name that ends after so many days.
    pub fn issue(&self, name: &str, kind: KeyKind, days: i64) -> Issued {
        self.issue_ending(name, kind, now() + days * 86_400)
    }

    /// A certificate for a DNS name that ends in that second.
    pub fn issue_ending(&self, name: &str, kind: KeyKind, ends: i64) -> Issued {
        let (key, spki) = new_key(kind);
        let mut draft = Draft::end_entity(&common_name(name), spki, self.issuer.contents().subject(), now());
        let dns_name = DnsName::parse(name).expect("the test gives a DNS name");
        draft.set_names(&[GeneralName::Dns(dns_name)]);
        draft.not_after = written(|writer| writer.time(ends));
        let leaf = certificate(draft.sign(&self.key));
        Issued { leaf, issuer: self.issuer.clone(), root: self.root.clone(), key: pem::encode(pem::PRIVATE_KEY, &key) }
    }
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}

/// What is wrong with a bundle of certificates and a key, as every vendor refuses it.
pub(crate) fn problem_of(certificates: &[Certificate], key: &[u8]) -> Option<&'static str> {
    let Some(leaf) = certificates.first() else {
        return Some("there is no certificate");
    };
    let octets = leaf.contents().verifying_key().map(|key| key.key_octets().to_vec());
    match (octets, public_octets(key)) {
        (Ok(certified), Some(of_key)) if certified == of_key => None,
        (_, None) => Some("the private key cannot be read"),
        _ => Some("the private key does not match the certificate"),
    }
}

/// The public half of a key in PKCS#8.
fn public_octets(pkcs8: &[u8]) -> Option<Vec<u8>> {
    for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING]
    {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8) {
            return Some(pair.public_key().as_ref().to_vec());
        }
    }
    if let Ok(pair) = RsaKeyPair::from_pkcs8(pkcs8) {
        return Some(pair.public_key().as_ref().to_vec());
    }
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok().map(|pair| pair.public_key().as_ref().to_vec())
}

/// A key in PKCS#8, and its SubjectPublicKeyInfo.
fn new_key(kind: KeyKind) -> (Vec<u8>, Vec<u8>) {
    match kind {
        KeyKind::Rsa2048 => {
            let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("the library makes RSA keys");
            let key: Pkcs8V1Der<'_> = pair.as_der().expect("the library writes its keys");
            (key.as_ref().to_vec(), spki(pair.public_key()))
        }
        KeyKind::P256 => new_ec_key(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyKind::P384 => new_ec_key(&ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyKind::P521 => new_ec_key(&ECDSA_P521_SHA512_ASN1_SIGNING),
        KeyKind::Ed25519 => {
            let pair = Ed25519KeyPair::generate().expect("the library makes Ed25519 keys");
            let key = pair.to_pkcs8v1().expect("the library writes its keys");
            (key.as_ref().to_vec(), spki(pair.public_key()))
        }
    }
}

fn new_ec_key(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(algorithm).expect("the library makes EC keys");
    let key = pair.to_pkcs8v1().expect("the library writes its keys");
    (key.as_ref().to_vec(), spki(pair.public_key()))
}

fn spki<'a>(key: &impl AsDer<PublicKeyX509Der<'a>>) -> Vec<u8> {
    key.as_der().expect("the library writes its public keys").as_ref().to_vec()
}

fn certificate(der: Vec<u8>) -> Certificate {
    Certificate::from_der(der).expect("what was made just now can be read")
}

fn common_name(text: &str) -> DistinguishedName {
    DistinguishedName::build(&[(AttributeType::CommonName, text)]).expect("the test gives a common name")
}
