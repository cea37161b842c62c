//! Cloudflare: an API token, of an account or of a user.

use crate::DeliveryError;
use crate::http::{Answer, Http, Request};
use crate::refusal::{self, Purpose};
use domain::connection::Credentials;
use domain::secret::SecretText;
use reqwest::{Method, StatusCode};
use serde_json::Value;

const API_URL: &str = "https://api.cloudflare.com/client/v4";
/// The headers are not those of a token that exists: said with a 400.
const INVALID_HEADERS: i64 = 6003;

/// The API as it is reached with a token.
pub(crate) struct Api {
    http: Http,
    base_url: String,
    account_id: String,
    token: SecretText,
}

impl Api {
    /// The one of these credentials.
    pub(crate) fn new(http: &Http, credentials: &Credentials) -> Result<Self, DeliveryError> {
        let Credentials::CloudflareApiToken { account_id, api_token, endpoint_url } = credentials else {
            return Err(DeliveryError::Refused("the connection is not one of Cloudflare".into()));
        };
        must_be_id("account", account_id)?;
        Ok(Self {
            http: http.clone(),
            base_url: endpoint_url.as_deref().unwrap_or(API_URL).trim_end_matches('/').to_owned(),
            account_id: account_id.clone(),
            token: api_token.clone(),
        })
    }

    /// Sends a request to a path below the base.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, DeliveryError> {
        let request = Request::new(method, &format!("{}/{path}", self.base_url))?.bearer(self.token.expose())?;
        self.http.send(body.into_iter().fold(request, Request::json)).await
    }
}

/// Whether Cloudflare believes the token: as one of the account, or else as one of a user.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<(), DeliveryError> {
    let api = Api::new(http, credentials)?;
    let of_account = format!("accounts/{}/tokens/verify", api.account_id);
    let mut refused = DeliveryError::Connection("Cloudflare does not believe the token".into());
    for path in [of_account.as_str(), "user/tokens/verify"] {
        let answer = api.send(Method::GET, path, None).await?;
        if answer.status.is_success() {
            let status = answer.json()["result"]["status"].as_str().unwrap_or("unknown").to_owned();
            if status == "active" {
                return Ok(());
            }
            refused = DeliveryError::Connection(format!("the token is {status}"));
        } else if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(error_of(&answer, Purpose::Reading, "verifying the token"));
        } else {
            refused = DeliveryError::Connection(format!("verifying the token: {}", words_of(&answer)));
        }
    }
    Err(refused)
}

/// The codes of the errors that an answer names.
pub(crate) fn codes_of(answer: &Answer) -> Vec<i64> {
    let body = answer.json();
    let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().filter_map(|error| error["code"].as_i64()).collect()
}

/// What Cloudflare says about an error.
pub(crate) fn words_of(answer: &Answer) -> String {
    let body = answer.json();
    let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<String> = errors
        .iter()
        .map(|error| format!("{} (code {})", error["message"].as_str().unwrap_or("no reason"), error["code"]))
        .collect();
    if words.is_empty() { format!("{} {}", answer.status.as_u16(), answer.excerpt()) } else { words.join(", ") }
}

/// The error of an answer.
pub(crate) fn error_of(answer: &Answer, purpose: Purpose, doing: &str) -> DeliveryError {
    let words = format!("{doing} at Cloudflare: {}", words_of(answer));
    if codes_of(answer).contains(&INVALID_HEADERS) {
        return DeliveryError::Connection(words);
    }
    refusal::of(answer, purpose, words)
}

/// An identifier gets into paths.
pub(crate) fn must_be_id(what: &str, id: &str) -> Result<(), DeliveryError> {
    if id.is_empty() || !id.chars().all(|one| one.is_ascii_alphanumeric() || one == '-' || one == '_') {
        return Err(DeliveryError::Refused(format!("{id:?} is not the id of a {what} of Cloudflare")));
    }
    Ok(())
}
