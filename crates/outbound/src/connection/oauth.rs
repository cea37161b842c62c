//! Access tokens of OAuth 2.0 (RFC 6749): asked for with a form, and kept until shortly before they end.

use crate::DeliveryError;
use crate::http::{Http, Request};
use domain::secret::SecretText;
use reqwest::{Method, Url};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A token is not used any more so long before its end; one that lives shortly, after half its life.
const MARGIN: Duration = Duration::from_secs(60);
/// What is believed of a token that does not say how long it lives (RFC 6749 §5.1 only recommends that it does).
const LIFETIME_UNKNOWN: Duration = Duration::from_secs(300);

/// A token and the moment from which it is not used any more.
pub(crate) struct AccessToken {
    text: SecretText,
    stale_at: Instant,
}

/// Keeps the token of one account.
#[derive(Default)]
pub(crate) struct TokenKeeper(Mutex<Option<AccessToken>>);

impl AccessToken {
    /// One that was given out just now.
    pub(crate) fn new(text: &str, lifetime: Option<Duration>) -> Self {
        let lifetime = lifetime.unwrap_or(LIFETIME_UNKNOWN);
        let margin = MARGIN.min(lifetime / 2);
        Self { text: SecretText::new(text), stale_at: Instant::now() + (lifetime - margin) }
    }

    /// The token itself.
    pub(crate) fn text(&self) -> &SecretText {
        &self.text
    }
}

impl TokenKeeper {
    /// The token that is kept, or else a new one. Whoever comes meanwhile waits for that one instead of asking, too.
    pub(crate) async fn get(
        &self,
        ask: impl Future<Output = Result<AccessToken, DeliveryError>> + Send,
    ) -> Result<SecretText, DeliveryError> {
        let mut kept = self.0.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| Instant::now() < token.stale_at) {
            return Ok(token.text.clone());
        }
        let token = ask.await?;
        let text = token.text.clone();
        *kept = Some(token);
        Ok(text)
    }
}

/// Asks a token endpoint. Whatever goes wrong is about the whole connection: without a token nothing else fares better.
pub(crate) async fn ask(http: &Http, token_url: &str, fields: &[(&str, &str)]) -> Result<AccessToken, DeliveryError> {
    let mut request = Request::new(Method::POST, token_url)?
        .header("content-type", "application/x-www-form-urlencoded")?
        .header("accept", "application/json")?;
    let host = request.url.host_str().unwrap_or_default().to_owned();
    request.body = form(fields)?.into_bytes();
    let answer = http.send(request).await.map_err(|error| DeliveryError::Connection(error.to_string()))?;
    let body = answer.json();
    if !answer.status.is_success() {
        // RFC 6749 §5.2. The rest of the body is not shown: an endpoint may repeat there what it was sent.
        let code = body["error"].as_str().unwrap_or("no reason");
        let description = body["error_description"].as_str().unwrap_or_default();
        let words = first_line(description);
        return Err(DeliveryError::Connection(format!(
            "{host} gives no token ({}, {code}): {words}",
            answer.status.as_u16()
        )));
    }
    let text = body["access_token"].as_str().unwrap_or_default();
    if text.is_empty() {
        return Err(DeliveryError::Connection(format!("the answer of {host} holds no access token")));
    }
    Ok(AccessToken::new(text, seconds(&body["expires_in"]).map(Duration::from_secs)))
}

/// The fields as `application/x-www-form-urlencoded`, which is what a query is written in.
fn form(fields: &[(&str, &str)]) -> Result<String, DeliveryError> {
    let url = Url::parse_with_params("http://form.invalid/", fields)
        .map_err(|error| DeliveryError::Refused(format!("a form cannot be written: {error}")))?;
    Ok(url.query().unwrap_or_default().to_owned())
}

/// Some endpoints give the seconds as text.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn first_line(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    text.lines().next().unwrap_or_default().chars().take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_with_any_characters_survives_the_form() {
        assert_eq!(form(&[("a", "x y&=+~/"), ("b", "ü")]).unwrap(), "a=x+y%26%3D%2B%7E%2F&b=%C3%BC");
    }

    #[tokio::test]
    async fn a_token_is_asked_for_again_only_when_it_is_stale() {
        let keeper = TokenKeeper::default();
        let given = |text, seconds| async move { Ok(AccessToken::new(text, Some(Duration::from_secs(seconds)))) };
        assert_eq!(keeper.get(given("first", 0)).await.unwrap().expose(), "first");
        assert_eq!(keeper.get(given("second", 3600)).await.unwrap().expose(), "second");
        assert_eq!(keeper.get(given("third", 3600)).await.unwrap().expose(), "second");
    }
}
