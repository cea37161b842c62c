//! The one HTTP client: it goes where [`EgressRules`] allow, follows no redirect, knows no proxy, and reads no more than it
//! was told to.

use crate::{DeliveryError, egress::EgressRules};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Method, StatusCode, Url, header::HeaderMap, redirect};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A connection attempt is given up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A request is given up after this, unless it says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An answer that is longer is a failure.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a request is sent again that was not taken: 429 and 503.
const REPEATS_MAX: u32 = 3;
/// The first pause before that; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause, whatever `Retry-After` asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    rules: EgressRules,
    roots: Roots,
    ways: Arc<Ways>,
    /// Made when it is needed first: reading the system's roots takes longer than starting the server.
    client: Arc<OnceLock<Client>>,
}

/// What the operator says about the way to other systems.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// A file of certificates in PEM that are trusted beside the system's. It is read when the client is first needed.
    pub ca_file: Option<PathBuf>,
    /// Hosts that are reached at another address, which the egress rules are held against, too.
    pub hosts: HashMap<String, SocketAddr>,
}

#[derive(Clone)]
enum Roots {
    System,
    Pinned(Vec<Certificate>),
    Nobody,
}

/// How the other side's certificate is checked.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Against the system's roots.
    System,
    /// Against these certificates alone, in PEM.
    Pinned(String),
    /// Not at all. Whoever chose that hears of it in the log.
    Nobody,
}

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers and body. The text has to be an `http` or `https` URL.
    pub fn new(method: Method, url: &str) -> Result<Self, DeliveryError> {
        let parsed = Url::parse(url).map_err(|error| DeliveryError::Refused(format!("{url} is not a URL: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(DeliveryError::Refused(format!("{url} is not an http or https URL")));
        }
        Ok(Self { method, url: parsed, headers: HeaderMap::new(), body: Vec::new(), timeout: REQUEST_TIMEOUT })
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, DeliveryError> {
        let value =
            value.parse().map_err(|_| DeliveryError::Refused(format!("the header {name} cannot carry its value")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Adds the token of a bearer. It is not shown where headers are.
    pub fn bearer(mut self, token: &str) -> Result<Self, DeliveryError> {
        let mut value: reqwest::header::HeaderValue = format!("Bearer {token}")
            .parse()
            .map_err(|_| DeliveryError::Connection("the token has characters that a header cannot carry".into()))?;
        value.set_sensitive(true);
        self.headers.insert(reqwest::header::AUTHORIZATION, value);
        Ok(self)
    }

    /// Gives it a body of JSON.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.headers
            .insert(reqwest::header::CONTENT_TYPE, reqwest::header::HeaderValue::from_static("application/json"));
        self
    }

    /// Whether sending it changes something at the other side.
    fn changes_something(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
    }
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The beginning of the body as text, for messages.
    pub fn excerpt(&self) -> String {
        const CHARACTERS_MAX: usize = 300;
        String::from_utf8_lossy(&self.body).chars().take(CHARACTERS_MAX).collect::<String>().trim().to_owned()
    }
}

impl Http {
    /// A client that trusts the system's roots.
    pub fn new(rules: EgressRules) -> Result<Self, DeliveryError> {
        Self::trusting(rules, &Trust::System)
    }

    /// A client that trusts whom it is told to.
    pub fn trusting(rules: EgressRules, trust: &Trust) -> Result<Self, DeliveryError> {
        let roots = match trust {
            Trust::System => Roots::System,
            Trust::Pinned(pem) => {
                let roots = Certificate::from_pem_bundle(pem.as_bytes())
                    .map_err(|error| DeliveryError::Refused(format!("the pinned CA is not a certificate: {error}")))?;
                if roots.is_empty() {
                    return Err(DeliveryError::Refused("the pinned CA holds no certificate".into()));
                }
                Roots::Pinned(roots)
            }
            Trust::Nobody => {
                tracing::warn!("a connection does not check the certificate of the other side, as it was configured");
                Roots::Nobody
            }
        };
        Ok(Self { rules, roots, ways: Arc::default(), client: Arc::default() })
    }

    fn client(&self) -> Result<Client, DeliveryError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        // One provider for the whole process; a second installation is refused and harmless.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(Filtering { rules: self.rules.clone(), ways: self.ways.clone() });
        let builder = match &self.roots {
            Roots::System => builder.tls_certs_merge(self.ways.roots()?),
            Roots::Pinned(roots) => builder.tls_certs_only(roots.clone()),
            Roots::Nobody => builder.tls_danger_accept_invalid_certs(true),
        };
        let client = builder
            .build()
            .map_err(|error| DeliveryError::Unavailable(format!("no HTTP client: {}", chain(&error))))?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// The same rules with other trust.
    pub fn with_trust(&self, trust: &Trust) -> Result<Self, DeliveryError> {
        Ok(Self { ways: self.ways.clone(), ..Self::trusting(self.rules.clone(), trust)? })
    }

    /// The same by the ways that the operator chose.
    pub fn by(self, ways: Ways) -> Self {
        Self { ways: Arc::new(ways), client: Arc::default(), ..self }
    }

    /// Where it may go.
    pub fn rules(&self) -> &EgressRules {
        &self.rules
    }

    /// Sends a request, again after a pause when it was not taken (429, 503), and gives any answer back.
    pub async fn send(&self, request: Request) -> Result<Answer, DeliveryError> {
        let mut pause = PAUSE_FIRST;
        for _ in 0..REPEATS_MAX {
            let answer = self.send_once(&request).await?;
            if !matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                return Ok(answer);
            }
            tokio::time::sleep(asked_pause(&answer).unwrap_or(pause).min(PAUSE_MAX)).await;
            pause *= 2;
        }
        self.send_once(&request).await
    }

    /// Sends a request once.
    pub async fn send_once(&self, request: &Request) -> Result<Answer, DeliveryError> {
        self.must_be_allowed(&request.url)?;
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let sent = self
            .client()?
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone())
            .timeout(request.timeout)
            .send()
            .await;
        let lost = |error: reqwest::Error| match (error.is_connect() || error.is_builder(), request.changes_something())
        {
            (true, _) => DeliveryError::Connection(format!("{host} cannot be reached: {}", chain(&error))),
            (false, true) => DeliveryError::Unknown(format!("the answer of {host} was lost: {}", chain(&error))),
            (false, false) => DeliveryError::Unavailable(format!("{host} did not answer: {}", chain(&error))),
        };
        let mut response = sent.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let text = format!("the answer of {host} is too long");
                return Err(match request.changes_something() {
                    true => DeliveryError::Unknown(text),
                    false => DeliveryError::Unavailable(text),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }

    /// A host that is an address is never looked up, so it is held against the rules here.
    fn must_be_allowed(&self, url: &Url) -> Result<(), DeliveryError> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match literal.parse() {
            Ok(address) if !self.rules.allow(address) => Err(DeliveryError::Connection(format!(
                "{literal} is not a public address: an operator may allow it with CHANCERY_EGRESS_ALLOW"
            ))),
            _ => Ok(()),
        }
    }
}

/// Looks names up and hands on only what is allowed: the client connects to those very addresses.
struct Filtering {
    rules: EgressRules,
    ways: Arc<Ways>,
}

impl Ways {
    /// What is trusted beside the system's roots; nothing as long as there is no such file.
    fn roots(&self) -> Result<Vec<Certificate>, DeliveryError> {
        let Some(file) = self.ca_file.as_deref().filter(|file| file.exists()) else { return Ok(Vec::new()) };
        let unusable = |why: &dyn std::fmt::Display| DeliveryError::Unavailable(format!("{}: {why}", file.display()));
        let pem = std::fs::read(file).map_err(|error| unusable(&error))?;
        Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))
    }
}

impl Resolve for Filtering {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, ways) = (self.rules.clone(), self.ways.clone());
        Box::pin(async move {
            let addresses = match ways.hosts.get(name.as_str()) {
                Some(address) => rules.resolve(&address.ip().to_string(), address.port()).await?,
                None => rules.resolve(name.as_str(), 0).await?,
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn asked_pause(answer: &Answer) -> Option<Duration> {
    let seconds: u64 = answer.headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error with its causes, without the URL, which may hold a secret.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    if text.is_empty() && error.is_timeout() {
        return "it took too long".into();
    }
    if text.is_empty() { "no cause is known".into() } else { text }
}
