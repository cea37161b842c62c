//! Whether messages may go to an address. None is sent: a receiver must not be told of what is no certificate.

use crate::destination::webhook::webhook_address;
use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;

/// Holds the address against the rules: how it is written, and where its host is.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<(), DeliveryError> {
    let Credentials::WebhookHmac { url, signing_secret } = credentials else {
        return Err(DeliveryError::Refused("the connection is not one to a webhook".into()));
    };
    if signing_secret.expose().is_empty() {
        return Err(DeliveryError::Refused("the signing secret is empty".into()));
    }
    let url = webhook_address(url)?;
    let port = url.port_or_known_default().unwrap_or_default();
    http.rules().resolve(url.host_str().unwrap_or_default(), port).await.map(|_| ())
}
