//! A client of the REST API over keep-alive connections, logged in as the admin of the first start.

use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Server, Site};

/// A logged-in client.
#[derive(Clone)]
pub struct Api {
    pub client: reqwest::Client,
    pub url: String,
    pub token: String,
}

/// What a server answered with.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Api {
    /// Logs in with what bootstrap.json says.
    pub async fn log_in(site: &Site, server: &Server) -> Self {
        let facts = site.facts();
        Self::log_in_at(&server.url, new_client(), &facts).await
    }

    /// Logs in at an address with a client of the caller's making.
    pub async fn log_in_at(url: &str, client: reqwest::Client, facts: &Value) -> Self {
        let mut api = Self { client, url: url.to_owned(), token: String::new() };
        let body = json!({"clientId": facts["clientId"], "clientSecret": facts["clientSecret"]});
        let answer = api.post("/api/v1/auth/universal-auth/login", &body).await.unwrap().ok();
        api.token = answer["accessToken"].as_str().unwrap().to_owned();
        api
    }

    /// Issues a certificate of the profile `web-server` for a P-256 key that the server makes.
    pub async fn issue(&self, site: &Site, common_name: &str) -> Value {
        self.post(ISSUE, &issue_body(&site.fact("/profiles/web-server"), common_name)).await.unwrap().ok()
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    pub async fn get(&self, path: &str) -> reqwest::Result<Answer> {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        Answer::of(self.request(Method::PATCH, path).json(body)).await
    }

    /// The text of an endpoint that does not answer with JSON.
    pub async fn text(&self, path: &str) -> String {
        self.request(Method::GET, path).send().await.unwrap().text().await.unwrap()
    }

    /// One number of `/metrics`.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.text("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

impl Answer {
    pub async fn of(request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let octets = response.bytes().await?;
        Ok(Self { status, body: serde_json::from_slice(&octets).unwrap_or(Value::Null) })
    }

    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Asserts a refusal in the shape of every error.
    #[track_caller]
    pub fn refused(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["statusCode"], status, "{}", self.body);
        self.body
    }
}

/// A client for the loopback, whatever proxies this machine has.
pub fn new_client() -> reqwest::Client {
    client_with(reqwest::Client::builder())
}

/// The same with more settings.
pub fn client_with(builder: reqwest::ClientBuilder) -> reqwest::Client {
    // One provider for the whole process; a second installation is refused and harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    builder.no_proxy().timeout(std::time::Duration::from_secs(60)).build().unwrap()
}

/// What issues a certificate of the profile `web-server` for a P-256 key that the server makes.
pub fn issue_body(profile: &str, common_name: &str) -> Value {
    json!({
        "profileId": profile, "commonName": common_name, "ttl": "1d",
        "keyUsages": ["digital_signature"], "extendedKeyUsages": ["server_auth"],
        "signatureAlgorithm": "ECDSA-SHA256", "keyAlgorithm": "EC_prime256v1",
    })
}

pub const ISSUE: &str = "/api/v3/pki/certificates/issue-certificate";
pub const SIGN: &str = "/api/v3/pki/certificates/sign-certificate";
