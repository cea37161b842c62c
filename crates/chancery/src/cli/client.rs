//! The HTTP client of the REST API: one login, then requests in JSON. It follows no redirects, so that a credential
//! goes to the named server only, and knows no path by itself.

use std::{path::Path, time::Duration};

use reqwest::{Method, Response, StatusCode, Url, header, redirect};
use serde_json::{Value, json};

use crate::cli::{
    VERSION,
    connection::{Credential, Target, is_loopback, plain},
    failure::Failure,
    files, output, project,
};

/// A connection attempt is given up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is given up after this; making an RSA-4096 key may take some seconds, and it may have to wait its turn.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a request is sent again after `429 Too Many Requests`, which says that nothing was done yet.
const REPEATS_MAX: u32 = 4;
/// The longest pause before a repeat, whatever `Retry-After` asks for.
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// No answer is longer: a page of 100 certificates is well below a megabyte.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A server that has accepted our credentials.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
    project: Option<String>,
}

/// A request: where it goes and what it carries.
struct Request<'a> {
    method: Method,
    below: Below,
    path: &'a [&'a str],
    query: &'a [(&'a str, &'a str)],
    body: Option<&'a Value>,
    idempotency_key: Option<&'a str>,
}

/// Where a path begins.
#[derive(Clone, Copy)]
enum Below {
    /// At `/api`.
    Api,
    /// At the server's address itself.
    Address,
}

impl Client {
    /// Logs in, unless everybody may ask what will be asked.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Failure> {
        let http = build(target)?;
        let mut client = Self { http, base: target.url.clone(), token: String::new(), project: target.project.clone() };
        client.token = match &target.credential {
            Credential::Token(token) => token.clone(),
            Credential::Nobody => String::new(),
            Credential::Client { id, secret } => {
                let body = json!({ "clientId": id, "clientSecret": secret });
                let answer = client.post(&["v1", "auth", "universal-auth", "login"], &body).await?;
                output::needed(&answer, "/accessToken")?.to_owned()
            }
        };
        Ok(client)
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        plain(&self.base)
    }

    /// The id of the project that the caller named; none leaves the choice to the server.
    pub(crate) async fn project_id(&self) -> Result<Option<String>, Failure> {
        match &self.project {
            None => Ok(None),
            Some(name) => Ok(Some(project::id_of(self, name).await?)),
        }
    }

    /// An object with the project's id in it, if the caller named one.
    pub(crate) async fn in_project(&self, mut body: Value) -> Result<Value, Failure> {
        if let (Some(id), Some(object)) = (self.project_id().await?, body.as_object_mut()) {
            object.insert("projectId".to_owned(), Value::String(id));
        }
        Ok(body)
    }

    /// GET; the path is below `/api`.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.send(Request { below: Below::Api, method: Method::GET, path, query, body: None, idempotency_key: None })
            .await
    }

    /// DELETE with a body.
    pub(crate) async fn delete_with(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.send(Request {
            below: Below::Api,
            method: Method::DELETE,
            path,
            query: &[],
            body: Some(body),
            idempotency_key: None,
        })
        .await
    }

    /// GET of a list that belongs to the project.
    pub(crate) async fn get_in_project(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        let project = self.project_id().await?;
        let with_project: Vec<(&str, &str)> =
            project.iter().map(|id| ("projectId", id.as_str())).chain(query.iter().copied()).collect();
        self.get(path, &with_project).await
    }

    /// POST.
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.post_once(path, body, None).await
    }

    /// POST with an `Idempotency-Key`: sent again under the same key it has the same answer and happens once.
    pub(crate) async fn post_once(&self, path: &[&str], body: &Value, key: Option<&str>) -> Result<Value, Failure> {
        self.send(Request {
            below: Below::Api,
            method: Method::POST,
            path,
            query: &[],
            body: Some(body),
            idempotency_key: key,
        })
        .await
    }

    /// POST of octets that are no JSON, to which the answer is none either; the path is below `/api`. No credential is sent.
    pub(crate) async fn post_octets(
        &self,
        path: &[&str],
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let url = url(&self.base, Below::Api, path, &[]);
        let request = self.http.post(url).header(header::CONTENT_TYPE, content_type).body(body);
        let response = request.send().await.map_err(|error| no_answer(&self.base, &error))?;
        let status = response.status();
        let octets = octets(&self.base, response).await?;
        match status.is_success() {
            true => Ok(octets),
            false => Err(Failure::answered(status.as_u16(), &serde_json::from_slice(&octets).unwrap_or_default())),
        }
    }

    /// PATCH.
    pub(crate) async fn patch(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.send(Request {
            below: Below::Api,
            method: Method::PATCH,
            path,
            query: &[],
            body: Some(body),
            idempotency_key: None,
        })
        .await
    }

    /// DELETE.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        self.send(Request {
            below: Below::Api,
            method: Method::DELETE,
            path,
            query: &[],
            body: None,
            idempotency_key: None,
        })
        .await
    }

    /// A request of the device registry, whose paths begin at the server's address.
    pub(crate) async fn registry(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.send(Request { below: Below::Address, method, path, query, body, idempotency_key: None }).await
    }

    /// The project that the caller named, as it was named.
    pub(crate) fn named_project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// POST to which the answer is octets.
    pub(crate) async fn post_for_octets(&self, path: &[&str], body: &Value) -> Result<Vec<u8>, Failure> {
        let request = Request {
            below: Below::Api,
            method: Method::POST,
            path,
            query: &[],
            body: Some(body),
            idempotency_key: None,
        };
        let response = self.response(request).await?;
        let status = response.status();
        let octets = octets(&self.base, response).await?;
        match status.is_success() {
            true => Ok(octets),
            false => Err(Failure::answered(status.as_u16(), &serde_json::from_slice(&octets).unwrap_or_default())),
        }
    }

    async fn send(&self, request: Request<'_>) -> Result<Value, Failure> {
        answer(&self.base, self.response(request).await?).await
    }

    async fn response(&self, request: Request<'_>) -> Result<Response, Failure> {
        let url = url(&self.base, request.below, request.path, request.query);
        let mut repeats = 0;
        loop {
            let mut builder = self.http.request(request.method.clone(), url.clone());
            if !self.token.is_empty() {
                builder = builder.bearer_auth(&self.token);
            }
            if let Some(body) = request.body {
                builder = builder.json(body);
            }
            if let Some(key) = request.idempotency_key {
                builder = builder.header("Idempotency-Key", key);
            }
            let response = builder.send().await.map_err(|error| no_answer(&self.base, &error))?;
            if response.status() != StatusCode::TOO_MANY_REQUESTS || repeats == REPEATS_MAX {
                return Ok(response);
            }
            let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            tokio::time::sleep(pause(asked, repeats)).await;
            repeats += 1;
        }
    }
}

fn build(target: &Target) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .user_agent(format!("chancery-cli/{VERSION}"))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .redirect(redirect::Policy::none());
    if is_loopback(&target.url) {
        // A proxy has another idea of what this machine is.
        builder = builder.no_proxy();
    }
    builder = match (&target.ca_file, target.url.scheme()) {
        (Some(path), _) => builder.tls_certs_only(read_roots(path)?),
        // Plain HTTP must also work where no root is installed, which the system's verifier takes for an error.
        (None, "http") => builder.tls_certs_only([]),
        (None, _) => builder,
    };
    builder.build().map_err(|error| Failure::new(format!("cannot prepare the connection: {}", cause(&error))))
}

fn read_roots(path: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let roots = reqwest::Certificate::from_pem_bundle(files::read_text(path)?.as_bytes()).unwrap_or_default();
    if roots.is_empty() {
        return Err(Failure::new(format!("{} holds no certificate in PEM", path.display())));
    }
    Ok(roots)
}

/// Every part of a path is text from somewhere, and is encoded as one segment.
fn url(base: &Url, below: Below, path: &[&str], query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        let segments = segments.pop_if_empty();
        match below {
            Below::Api => segments.push("api").extend(path),
            Below::Address => segments.extend(path),
        };
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// What the server asks for, else a second, doubled with each repeat.
fn pause(retry_after: Option<&str>, repeats: u32) -> Duration {
    let asked = retry_after.and_then(|text| text.trim().parse().ok());
    Duration::from_secs(asked.unwrap_or(1 << repeats.min(6))).min(PAUSE_MAX)
}

async fn octets(base: &Url, mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(base, &error))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Failure::new("the server's answer is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn answer(base: &Url, response: Response) -> Result<Value, Failure> {
    let status = response.status();
    let bytes = octets(base, response).await?;
    let body = serde_json::from_slice::<Value>(&bytes);
    match (status.is_success(), body) {
        (true, Ok(body)) => Ok(body),
        (true, Err(_)) => Err(is_no_chancery(base, "answers, but not in JSON")),
        (false, Ok(body)) => Err(Failure::answered(status.as_u16(), &body)),
        (false, Err(_)) if status.is_redirection() => Err(is_no_chancery(base, "wants to be asked elsewhere")),
        (false, Err(_)) => Err(Failure::answered(status.as_u16(), &Value::Null)),
    }
}

fn is_no_chancery(base: &Url, what: &str) -> Failure {
    Failure::new(format!("{} {what}", plain(base))).hint("is this the address of a Chancery server?")
}

fn no_answer(base: &Url, error: &reqwest::Error) -> Failure {
    let cause = cause(error);
    let failure = Failure::new(format!("no answer from {}: {cause}", plain(base)));
    if cause.contains("certificate") {
        failure.hint("name the authority that the server's certificate comes from with --ca-file FILE")
    } else if error.is_connect() && is_loopback(base) {
        failure.hint("is the server running? start it with: chancery serve")
    } else if error.is_connect() {
        failure.hint("check the address in CHANCERY_URL, and that the server runs")
    } else if error.is_timeout() {
        failure.hint("the server took the request and may have carried it out; look before asking again")
    } else {
        failure
    }
}

/// The innermost cause of an error; the layers around it only repeat what was tried.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_stay_one_segment_each() {
        let base = Url::parse("https://a.example/pki/").unwrap();
        let api = url(&base, Below::Api, &["v1", "projects", "slug", "a/../b?c#d"], &[("search", "x&y=z")]);
        assert_eq!(api.as_str(), "https://a.example/pki/api/v1/projects/slug/a%2F..%2Fb%3Fc%23d?search=x%26y%3Dz");
        let registry = url(&base, Below::Address, &["iot-devices", "v1", "registries", "a/b:disable"], &[]);
        assert_eq!(registry.as_str(), "https://a.example/pki/iot-devices/v1/registries/a%2Fb:disable");
    }

    #[test]
    fn a_pause_is_what_the_server_asks_for_within_reason() {
        for (asked, repeats, seconds) in
            [(Some("3"), 0, 3), (Some("86400"), 0, 20), (None, 0, 1), (None, 3, 8), (Some("Wed, 21 Oct"), 2, 4)]
        {
            assert_eq!(pause(asked, repeats), Duration::from_secs(seconds), "{asked:?} {repeats}");
        }
    }
}
