//! An address that is told of each certificate: a POST of JSON, signed with a secret that both sides know.
//!
//! A message is not an object: it cannot be looked at, found or taken back. What is known is what was delivered, so that is
//! what the identifier says: `certificateId/fingerprint`. [`Destination::look`] reads the fingerprint back out of it, so a
//! certificate that is the same as when it was delivered is not sent again, and one that was reissued or has another chain
//! is. Nothing is ever found, so after a lost answer the message is sent once more: receivers are told to take a message
//! twice for one (the certificate's id and serial number are in it). The key is never sent.

use super::server_address::is_this_host;
use super::verdict::{Asked, failure};
use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::http::{Http, Request};
use aws_lc_rs::hmac;
use domain::connection::Credentials;
use domain::secret::SecretText;
use jiff::Timestamp;
use reqwest::{Method, Url};
use serde_json::json;
use std::time::Duration;

/// An address, opened.
pub struct Webhook {
    http: Http,
    url: Url,
    secret: SecretText,
}

const SYSTEM: &str = "the receiver";
pub(crate) const SIGNATURE_HEADER: &str = "x-infisical-signature";
/// A receiver that has not answered after this has not said whether it took the message.
const TIMEOUT: Duration = Duration::from_secs(7);

impl Webhook {
    /// Opens it; nothing is sent.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let Some(Credentials::WebhookHmac { url, signing_secret }) = opening.credentials else {
            return Err(DeliveryError::Refused("a webhook connection is needed".into()));
        };
        Ok(Self { http: opening.http.clone(), url: webhook_address(url)?, secret: signing_secret.clone() })
    }

    /// Tells the receiver of a certificate.
    async fn tell(&self, item: &Item) -> Result<Found, DeliveryError> {
        let answer = self.http.send(self.message(item, Timestamp::now())?).await?;
        match answer.status {
            status if status.is_success() => Ok(delivered(item)),
            // A receiver that repeats the secret does not get it into our messages.
            _ => {
                let said = answer.excerpt().replace(self.secret.expose(), "(the signing secret)");
                Err(failure(SYSTEM, &answer, Asked::Change, &said))
            }
        }
    }

    fn message(&self, item: &Item, now: Timestamp) -> Result<Request, DeliveryError> {
        let body = json!({
            "certificateId": item.certificate,
            "serialNumber": item.serial_number,
            "certificate": item.leaf_text(),
            "certificateChain": item.chain_text(),
        });
        let mut request = Request::new(Method::POST, self.url.as_str())?.json(&body);
        request.timeout = TIMEOUT;
        let signature = signature(self.secret.expose(), now.as_millisecond(), &request.body);
        request.header(SIGNATURE_HEADER, &signature)
    }
}

impl Destination for Webhook {
    fn must_take(&self, _item: &Item) -> Result<(), DeliveryError> {
        Ok(())
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        Some(fingerprint_of(item))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        let Some((_, fingerprint)) = id.split_once('/') else {
            return Err(DeliveryError::Refused(format!("{id} is not a message that was delivered")));
        };
        Ok(Some(found(id, Fingerprint::from_text(fingerprint))))
    }

    async fn find(&self, _item: &Item) -> Result<Vec<Found>, DeliveryError> {
        Ok(Vec::new())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        self.tell(item).await
    }

    async fn replace(&self, _found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        self.tell(item).await
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        Err(DeliveryError::Refused(format!("{} is a message, which cannot be taken back", found.id)))
    }

    async fn finish(&self, _changed: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// The address of a receiver: `https`, or `http` to a loopback address, and without credentials, because it is shown.
pub(crate) fn webhook_address(text: &str) -> Result<Url, DeliveryError> {
    let refused = |why: &str| DeliveryError::Refused(format!("the address of the webhook {why}"));
    let url = Url::parse(text.trim()).map_err(|error| refused(&format!("is not a URL: {error}")))?;
    let Some(host) = url.host_str() else { return Err(refused("names no host")) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("must not hold credentials"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_this_host(host) => Ok(url),
        _ => Err(refused("must begin with https:// (http:// only to a loopback address)")),
    }
}

fn fingerprint_of(item: &Item) -> Fingerprint {
    Fingerprint::of(&[("certificate", item.leaf.as_der()), ("chain", item.chain_text().as_bytes())])
}

fn delivered(item: &Item) -> Found {
    let fingerprint = fingerprint_of(item);
    let id = format!("{}/{fingerprint}", item.certificate);
    Found { mark: Some(item.mark), ..found(&id, fingerprint) }
}

fn found(id: &str, fingerprint: Fingerprint) -> Found {
    Found { id: id.to_owned(), fingerprint, mark: None, version: None, details: Vec::new() }
}

/// `t=<milliseconds>,v1=<hex>`: the HMAC-SHA256 of the time, a full stop and the body as it is sent.
pub(crate) fn signature(secret: &str, milliseconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(milliseconds.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("t={milliseconds},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_time_and_body() {
        // Of "1.2", by another implementation of HMAC.
        let tag = "8fd3e425c8cc4125a575713fa5d5dc02925157009da4f86dd92a59cfd9138253";
        let whole = signature("key", 1, b"2");
        assert_eq!(whole, format!("t=1,v1={tag}"));
        assert_ne!(whole, signature("key", 1, b"3"));
        assert_ne!(whole[7..], signature("key", 2, b"2")[7..]);
        assert_ne!(whole, signature("kez", 1, b"2"));
    }

    #[test]
    fn messages_go_out_enciphered_or_to_this_host() {
        for (text, is_good) in [
            ("https://hooks.example.com/a?b=c", true),
            ("http://127.0.0.1:9000/hook", true),
            ("http://[::1]/hook", true),
            ("http://hooks.example.com/", false),
            ("http://10.1.2.3/", false),
            ("https://user:secret@hooks.example.com/", false),
            ("file:///etc/passwd", false),
            ("hooks.example.com", false),
        ] {
            assert_eq!(webhook_address(text).is_ok(), is_good, "{text}");
        }
    }
}
