//! Whether a Vault or OpenBao server believes a token.

use crate::destination::vault::{VaultServer, refusal};
use crate::destination::verdict::Asked;
use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;
use reqwest::{Method, StatusCode};

/// Lets the token be shown itself, which the default policy allows.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<(), DeliveryError> {
    let server = VaultServer::open(http, credentials)?;
    let answer = server.send(Method::GET, "auth/token/lookup-self", None).await?;
    match answer.status {
        StatusCode::OK if answer.json()["data"].is_object() => Ok(()),
        _ => Err(refusal(&answer, Asked::Look)),
    }
}
