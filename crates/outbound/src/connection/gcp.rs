//! Google Cloud: tokens of a service account that the server's own account impersonates.
//!
//! Three steps: a JWT that the server's own key signs (RFC 7523), the token of the server's account for it, and the token of
//! the connection's account for that (IAM Credentials, `generateAccessToken`). The server's own account is the one whose
//! key file the operator names, in `GOOGLE_APPLICATION_CREDENTIALS` as for Google's own libraries.
//!
//! `tokenUrl` is where the JWT goes, in place of the key file's `token_uri`; the JWT's audience is that very address, so
//! that nobody else can use it. `endpointUrl` is the base of IAM Credentials and of Certificate Manager alike. Since whoever
//! writes a connection is not who owns the server's account, a token of Google's must not go to an endpoint that is not
//! Google's: such an endpoint needs a `tokenUrl` that is not Google's, either.

use super::oauth::{self, AccessToken, TokenKeeper};
use crate::DeliveryError;
use crate::http::{Http, Request};
use crate::refusal::{self, Purpose};
use domain::connection::Credentials;
use domain::secret::SecretText;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use x509::der::Reader;
use x509::{ParseError, pem};

/// The variable that names the key file of the server's own account.
const KEY_FILE_VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const IAM_URL: &str = "https://iamcredentials.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// As long as Google lets a JWT and a token live unless an organisation says otherwise.
const LIFETIME_SECONDS: i64 = 3600;

/// The account of the server itself; none by default.
#[derive(Clone, Debug, Default)]
pub struct ServerIdentity {
    key_file: Option<PathBuf>,
}

/// A service account that is impersonated.
pub(crate) struct Impersonation {
    http: Http,
    identity: ServerIdentity,
    email: String,
    token_url: Option<String>,
    iam_url: String,
    tokens: TokenKeeper,
}

/// The key file of a service account, as Google writes it.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: SecretText,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl ServerIdentity {
    /// The account of a key file. It is read at each use, so that a file that is replaced needs no restart.
    pub fn of_key_file(path: impl Into<PathBuf>) -> Self {
        Self { key_file: Some(path.into()) }
    }

    async fn read(&self) -> Result<KeyFile, DeliveryError> {
        let Some(path) = &self.key_file else {
            return Err(DeliveryError::Connection(format!(
                "this server has no identity at Google: an operator names the key file of a service account in \
                 {KEY_FILE_VARIABLE}"
            )));
        };
        let unreadable = |why: &dyn std::fmt::Display| {
            DeliveryError::Connection(format!("the key file that {KEY_FILE_VARIABLE} names cannot be read: {why}"))
        };
        let text = tokio::fs::read_to_string(path).await.map_err(|error| unreadable(&error))?;
        // The error of the parser would quote the file.
        serde_json::from_str(&text).map_err(|_| unreadable(&"it is not the key of a service account"))
    }
}

impl Impersonation {
    /// The one of these credentials.
    pub(crate) fn new(http: &Http, credentials: &Credentials, identity: ServerIdentity) -> Result<Self, DeliveryError> {
        let Credentials::GcpImpersonation { service_account_email, endpoint_url, token_url } = credentials else {
            return Err(DeliveryError::Refused("the connection is not one of Google Cloud".into()));
        };
        let is_of_email = |one: char| one.is_ascii_alphanumeric() || "-._@".contains(one);
        if service_account_email.is_empty() || !service_account_email.chars().all(is_of_email) {
            return Err(DeliveryError::Refused("the email is not one of a service account".into()));
        }
        let leaves_google = endpoint_url.as_deref().is_some_and(|url| !is_of_google(url));
        if leaves_google && token_url.as_deref().is_none_or(is_of_google) {
            return Err(DeliveryError::Refused(
                "an endpointUrl that is not Google's needs a tokenUrl that is not Google's: it would get the token of \
                 this server's account"
                    .into(),
            ));
        }
        Ok(Self {
            http: http.clone(),
            identity,
            email: service_account_email.clone(),
            token_url: token_url.clone(),
            iam_url: endpoint_url.as_deref().unwrap_or(IAM_URL).trim_end_matches('/').to_owned(),
            tokens: TokenKeeper::default(),
        })
    }

    /// A token that is good now.
    pub(crate) async fn token(&self) -> Result<SecretText, DeliveryError> {
        self.tokens.get(self.ask()).await
    }

    async fn ask(&self) -> Result<AccessToken, DeliveryError> {
        let key_file = self.identity.read().await?;
        let token_url = self.token_url.as_deref().or(key_file.token_uri.as_deref()).unwrap_or(TOKEN_URL);
        let assertion = key_file.sign(token_url, jiff::Timestamp::now().as_second())?;
        let fields = [("grant_type", GRANT), ("assertion", assertion.expose())];
        let own = oauth::ask(&self.http, token_url, &fields).await?;
        self.impersonate(own.text()).await
    }

    async fn impersonate(&self, own: &SecretText) -> Result<AccessToken, DeliveryError> {
        let url = format!("{}/v1/projects/-/serviceAccounts/{}:generateAccessToken", self.iam_url, self.email);
        let body = json!({"scope": [SCOPE], "lifetime": format!("{LIFETIME_SECONDS}s")});
        let request = Request::new(Method::POST, &url)?.bearer(own.expose())?.json(&body);
        let answer = self.http.send(request).await.map_err(|error| DeliveryError::Connection(error.to_string()))?;
        let body = answer.json();
        if !answer.status.is_success() {
            let hint = if answer.status.as_u16() == 403 {
                ": this server's account needs the role roles/iam.serviceAccountTokenCreator on it"
            } else {
                ""
            };
            let words = words_of(&body, answer.status.as_u16());
            return Err(DeliveryError::Connection(format!("{} cannot be impersonated ({words}){hint}", self.email)));
        }
        let text = body["accessToken"].as_str().unwrap_or_default();
        if text.is_empty() {
            return Err(DeliveryError::Connection(format!("the answer about {} holds no token", self.email)));
        }
        let ends = body["expireTime"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let seconds = ends.map(|ends| ends.as_second() - jiff::Timestamp::now().as_second());
        let lifetime = seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
        Ok(AccessToken::new(text, lifetime))
    }
}

impl KeyFile {
    /// The JWT that a token is given for.
    fn sign(&self, token_url: &str, now: i64) -> Result<SecretText, DeliveryError> {
        let refuse = |why: &dyn std::fmt::Display| {
            DeliveryError::Connection(format!("the key of {} cannot sign: {why}", self.client_email))
        };
        let key = rsa_key(self.private_key.expose()).map_err(|error| refuse(&error))?;
        let mut header = Header::new(Algorithm::RS256);
        header.kid = self.private_key_id.clone();
        let claims = json!({
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": token_url,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        });
        jsonwebtoken::encode(&header, &claims, &key).map(SecretText::new).map_err(|error| refuse(&error))
    }
}

/// The RSAPrivateKey inside of a key in PKCS#8 (RFC 5208 §5), which is what is signed with.
fn rsa_key(text: &str) -> Result<EncodingKey, ParseError> {
    let der = pem::decode_one(text, &[pem::PRIVATE_KEY])?;
    let mut fields = Reader::new(&der).sequence("PrivateKeyInfo")?;
    fields.integer("version")?;
    fields.any("privateKeyAlgorithm")?;
    Ok(EncodingKey::from_rsa_der(fields.octet_string("privateKey")?))
}

/// Whether an address is one of Google's APIs.
fn is_of_google(url: &str) -> bool {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_end_matches('.');
    ["google.com", "googleapis.com"]
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// What Google says about an error.
pub(crate) fn words_of(body: &Value, status: u16) -> String {
    let error = &body["error"];
    match (error["status"].as_str(), error["message"].as_str()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => format!("status {status}"),
    }
}

/// The error of an answer of one of Google's APIs.
pub(crate) fn error_of(answer: &crate::http::Answer, purpose: Purpose, doing: &str, name: &str) -> DeliveryError {
    let words = words_of(&answer.json(), answer.status.as_u16());
    refusal::of(answer, purpose, format!("{doing} {name} at Google: {words}"))
}

/// Whether Google lets the server's account impersonate that of these credentials.
pub async fn check(http: &Http, credentials: &Credentials, identity: ServerIdentity) -> Result<(), DeliveryError> {
    Impersonation::new(http, credentials, identity)?.token().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_googles_own_hosts_are_googles() {
        for (url, is) in [
            ("https://oauth2.googleapis.com/token", true),
            ("http://OAUTH2.GOOGLEAPIS.COM./token", true),
            ("https://accounts.google.com/o/oauth2/token", true),
            ("https://googleapis.com", true),
            ("https://notgoogleapis.com", false),
            ("https://googleapis.com.example.com", false),
            ("https://example.com/oauth2.googleapis.com", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_of_google(url), is, "{url}");
        }
    }
}
