//! The REST API of a BIG-IP: tokens, uploads, transactions.
//!
//! A token is taken at the first request and given back at the end, or when this is dropped: an appliance has room for few.
//! Nothing of a transaction is visible before it is committed, so whatever goes wrong until then was surely not done.

use crate::DeliveryError;
use crate::destination::verdict::{Asked, failure};
use crate::http::{Answer, Http, Request, Trust};
use domain::connection::Credentials;
use domain::secret::SecretText;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use uuid::Uuid;

/// An appliance, and the user that it believes.
pub(crate) struct Appliance {
    http: Http,
    address: String,
    username: String,
    password: SecretText,
    token: Mutex<Option<SecretText>>,
}

/// A change, as a part of a transaction.
pub(super) struct Command {
    /// The method.
    pub(super) method: Method,
    /// Where it goes, below `/mgmt/tm`.
    pub(super) path: String,
    /// Its body.
    pub(super) body: Option<Value>,
}

/// A file that was uploaded, to be made an object of.
pub(super) struct Upload {
    path: String,
}

pub(super) const SYSTEM: &str = "the BIG-IP";
const DOWNLOADS: &str = "/var/config/rest/downloads/";
const CHUNK_OCTETS: usize = 512 * 1024;
const PORT: u16 = 443;
const HOST_CHARACTERS_MAX: usize = 512;
/// How often, and with which pause, a transaction that is still being validated is asked after.
const COMMIT_LOOKS_MAX: u32 = 60;
const COMMIT_PAUSE: Duration = Duration::from_millis(500);

impl Appliance {
    /// Opens it; nothing is sent.
    pub(crate) fn open(http: &Http, credentials: &Credentials) -> Result<Self, DeliveryError> {
        let Credentials::F5BasicAuth { hostname, port, username, password, ssl_reject_unauthorized, ssl_certificate } =
            credentials
        else {
            return Err(DeliveryError::Refused("the connection is not one to a BIG-IP".into()));
        };
        let is_host = (1..=HOST_CHARACTERS_MAX).contains(&hostname.len())
            && hostname.chars().all(|character| character.is_ascii_graphic() && !"/@?:#\\".contains(character));
        if !is_host {
            return Err(DeliveryError::Refused("the host name of the BIG-IP is not one".into()));
        }
        let trust = match (ssl_reject_unauthorized, ssl_certificate) {
            (Some(false), _) => Trust::Nobody,
            (_, Some(pem)) => Trust::Pinned(pem.clone()),
            (_, None) => Trust::System,
        };
        let http = match trust {
            Trust::System => http.clone(),
            Trust::Pinned(_) | Trust::Nobody => http.with_trust(&trust)?,
        };
        Ok(Self {
            http,
            address: format!("https://{hostname}:{}", port.unwrap_or(PORT)),
            username: username.clone(),
            password: password.clone(),
            token: Mutex::new(None),
        })
    }

    /// Takes a token, if there is none yet.
    pub(crate) async fn log_in(&self) -> Result<SecretText, DeliveryError> {
        let mut held = self.token.lock().await;
        if let Some(token) = &*held {
            return Ok(token.clone());
        }
        let body = json!({
            "username": self.username, "password": self.password.expose(), "loginProviderName": "tmos",
        });
        let request = Request::new(Method::POST, &format!("{}/mgmt/shared/authn/login", self.address))?.json(&body);
        let answer = self.http.send(request).await.map_err(not_done)?;
        match (answer.status, answer.json()["token"]["token"].as_str()) {
            (StatusCode::OK, Some(token)) => {
                let token = SecretText::new(token);
                *held = Some(token.clone());
                Ok(token)
            }
            _ => Err(failure(SYSTEM, &answer, Asked::Look, &said(&answer))),
        }
    }

    /// Gives the token back. One that stays behind ends by itself, so this cannot fail.
    pub(crate) async fn log_out(&self) {
        let Some(token) = self.token.lock().await.take() else { return };
        if let Ok(request) = self.log_out_request(&token) {
            let _ = self.http.send_once(&request).await;
        }
    }

    fn log_out_request(&self, token: &SecretText) -> Result<Request, DeliveryError> {
        let url = format!("{}/mgmt/shared/authz/tokens/{}", self.address, token.expose());
        with_token(Request::new(Method::DELETE, &url)?, token)
    }

    /// Asks for something, or changes something at once.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, DeliveryError> {
        let request = Request::new(method, &format!("{}/mgmt/{path}", self.address))?;
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Sends a request with the token, and with a new one if that one has ended meanwhile.
    async fn send(&self, request: Request) -> Result<Answer, DeliveryError> {
        let token = self.log_in().await?;
        let answer = self.http.send(with_token(request.clone(), &token)?).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let mut held = self.token.lock().await;
        if *held == Some(token) {
            *held = None;
        }
        drop(held);
        let token = self.log_in().await?;
        self.http.send(with_token(request, &token)?).await
    }

    /// Uploads a file, in chunks. Its name is new, so that nobody's file is written over.
    pub(super) async fn upload(&self, extension: &str, content: &str) -> Result<Upload, DeliveryError> {
        let name = format!("chancery-{}.{extension}", Uuid::new_v4().simple());
        let upload = Upload { path: format!("{DOWNLOADS}{name}") };
        let (octets, mut at) = (content.as_bytes(), 0);
        for chunk in octets.chunks(CHUNK_OCTETS) {
            let mut request =
                Request::new(Method::POST, &format!("{}/mgmt/shared/file-transfer/uploads/{name}", self.address))?
                    .header("content-type", "application/octet-stream")?
                    .header("content-range", &format!("{at}-{}/{}", at + chunk.len() - 1, octets.len()))?;
            request.body = chunk.to_vec();
            at += chunk.len();
            let sent = self.send(request).await.map_err(not_done);
            let problem = match sent {
                Ok(answer) if answer.status.is_success() => continue,
                Ok(answer) => not_done(failure(SYSTEM, &answer, Asked::Change, &said(&answer))),
                Err(error) => error,
            };
            self.discard(&upload).await;
            return Err(problem);
        }
        Ok(upload)
    }

    /// Removes an uploaded file. The objects that were made of it are copies.
    pub(super) async fn discard(&self, upload: &Upload) {
        let body = json!({"command": "run", "utilCmdArgs": upload.path});
        let answer = self.ask(Method::POST, "tm/util/unix-rm", Some(&body)).await;
        if !answer.is_ok_and(|answer| answer.status.is_success()) {
            tracing::warn!(host = self.address, file = upload.path, "an uploaded file was left behind on a BIG-IP");
        }
    }

    /// Carries commands out as one: all of them or none.
    pub(super) async fn transact(&self, commands: &[Command]) -> Result<(), Refusal> {
        let begun = self.ask(Method::POST, "tm/transaction", Some(&json!({}))).await.map_err(not_done)?;
        let body = begun.json();
        let Some(number) = body["transId"].as_u64().filter(|_| begun.status.is_success()) else {
            return Err(not_done(failure(SYSTEM, &begun, Asked::Change, &said(&begun))).into());
        };
        for command in commands {
            if let Err(problem) = self.queue(command, number).await {
                // An appliance forgets it by itself as well.
                let _ = self.ask(Method::DELETE, &format!("tm/transaction/{number}"), None).await;
                return Err(problem);
            }
        }
        let path = format!("tm/transaction/{number}");
        let mut answer = self.ask(Method::PATCH, &path, Some(&json!({"state": "VALIDATING"}))).await?;
        for _ in 0..COMMIT_LOOKS_MAX {
            let body = answer.json();
            match body["state"].as_str() {
                _ if !answer.status.is_success() => return Err(Refusal::of(&answer)),
                Some("COMPLETED") => return Ok(()),
                Some("FAILED") => {
                    let why = body["failReason"].as_str().unwrap_or_default();
                    return Err(DeliveryError::Refused(format!("{SYSTEM} refused: {why}")).into());
                }
                _ => {}
            }
            tokio::time::sleep(COMMIT_PAUSE).await;
            let asked = self.ask(Method::GET, &path, None).await;
            answer = asked.map_err(|error| DeliveryError::Unknown(error.to_string()))?;
        }
        Err(DeliveryError::Unknown(format!("{SYSTEM} did not end a transaction")).into())
    }

    async fn queue(&self, command: &Command, number: u64) -> Result<(), Refusal> {
        let request = Request::new(command.method.clone(), &format!("{}/mgmt/tm/{}", self.address, command.path))?
            .header("x-f5-rest-coordination-id", &number.to_string())?;
        let request = match &command.body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = self.send(request).await.map_err(not_done)?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(Refusal { error: not_done(Refusal::of(&answer).error), ..Refusal::of(&answer) }),
        }
    }

    /// Writes the running configuration down.
    pub(super) async fn save(&self) -> Result<(), DeliveryError> {
        let answer = self.ask(Method::POST, "tm/sys/config", Some(&json!({"command": "save"}))).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(failure(SYSTEM, &answer, Asked::Change, &said(&answer))),
        }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let Some(token) = self.token.get_mut().take() else { return };
        let (Ok(runtime), Ok(request)) = (Handle::try_current(), self.log_out_request(&token)) else { return };
        let http = self.http.clone();
        runtime.spawn(async move { http.send_once(&request).await });
    }
}

/// Why a transaction was not carried out, with what it may say about the objects.
pub(super) struct Refusal {
    /// As it is to be told.
    pub(super) error: DeliveryError,
    /// Whether an object that was to be made is there already.
    pub(super) is_taken: bool,
    /// Whether an object that was to be changed is not there.
    pub(super) is_missing: bool,
}

impl Refusal {
    fn of(answer: &Answer) -> Self {
        let text = said(answer);
        let is_refused = answer.status.is_client_error();
        Self {
            error: failure(SYSTEM, answer, Asked::Change, &text),
            is_taken: is_refused && (answer.status == StatusCode::CONFLICT || text.contains("already exists")),
            is_missing: answer.status == StatusCode::NOT_FOUND && text.contains("was not found"),
        }
    }
}

impl From<DeliveryError> for Refusal {
    fn from(error: DeliveryError) -> Self {
        Self { error, is_taken: false, is_missing: false }
    }
}

impl Upload {
    /// How an object's source is named.
    pub(super) fn source(&self) -> String {
        format!("file:{}", self.path)
    }
}

/// What failed before anything was changed that could be seen.
fn not_done(error: DeliveryError) -> DeliveryError {
    match error {
        DeliveryError::Unknown(text) => DeliveryError::Unavailable(text),
        DeliveryError::Connection(_)
        | DeliveryError::Refused(_)
        | DeliveryError::Taken(_)
        | DeliveryError::Unavailable(_) => error,
    }
}

fn with_token(mut request: Request, token: &SecretText) -> Result<Request, DeliveryError> {
    let mut value = HeaderValue::from_str(token.expose())
        .map_err(|_| DeliveryError::Unavailable(format!("{SYSTEM} gave a token that is none")))?;
    value.set_sensitive(true);
    request.headers.insert("x-f5-auth-token", value);
    Ok(request)
}

/// The appliance's own message.
pub(super) fn said(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}
