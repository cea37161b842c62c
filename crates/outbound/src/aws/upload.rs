//! One object put into a bucket of S3, or of what speaks like it.

use super::{AwsClient, Effect, Region, Service};
use crate::DeliveryError;
use crate::http::{Http, Request};
use domain::connection::Credentials;
use reqwest::Method;

/// The longest key of an object, in octets.
const KEY_OCTETS_MAX: usize = 1024;

/// An object that is put into a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The object's key: its path inside the bucket, as it is, not encoded.
    pub key: &'a str,
    /// The bucket's region.
    pub region: &'a str,
    /// Where the store is, when neither this nor the credentials' endpoint is Amazon's own.
    pub endpoint: Option<&'a str>,
    /// The media type.
    pub content_type: &'a str,
    /// The object.
    pub body: &'a [u8],
}

/// Puts an object into a bucket, in place of one that has the key: readers see the one or the other, never a part.
pub async fn put_object(http: &Http, credentials: &Credentials, upload: Upload<'_>) -> Result<(), DeliveryError> {
    let mut client = AwsClient::new(http, Service::S3, Region::parse(upload.region)?, credentials)?;
    let own_endpoint = super::endpoint_of(credentials)?;
    let endpoint = upload.endpoint.map(|url| url.trim_end_matches('/')).or(own_endpoint.as_deref());
    let (base, path) = address(endpoint, upload, &client.place.region)?;
    client.place.endpoint = base;
    let request = Request::new(Method::PUT, &format!("{}{path}", client.place.endpoint))?
        .header("content-type", upload.content_type)?;
    client.send(Request { body: upload.body.to_vec(), ..request }, Effect::Changes).await?;
    Ok(())
}

/// Where an object is: the base address, and the path with what is special encoded.
fn address(endpoint: Option<&str>, upload: Upload<'_>, region: &Region) -> Result<(String, String), DeliveryError> {
    let Upload { bucket, key, .. } = upload;
    must_be_a_bucket(bucket)?;
    must_be_a_key(key)?;
    let key = percent_encoded(key, "/");
    let standard = format!("s3.{}.{}", region.as_str(), region.domain());
    Ok(match endpoint {
        Some(endpoint) => (endpoint.to_owned(), format!("/{bucket}/{key}")),
        // The certificate of the standard host covers one label before it.
        None if bucket.contains('.') => (format!("https://{standard}"), format!("/{bucket}/{key}")),
        None => (format!("https://{bucket}.{standard}"), format!("/{key}")),
    })
}

fn must_be_a_bucket(bucket: &str) -> Result<(), DeliveryError> {
    let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || matches!(octet, b'-' | b'.');
    let octets = bucket.as_bytes();
    let ends = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
    if (3..=63).contains(&octets.len())
        && octets.iter().all(|octet| allowed(*octet))
        && ends(octets.first())
        && ends(octets.last())
        && !bucket.contains("..")
    {
        return Ok(());
    }
    Err(DeliveryError::Refused(format!(
        "{bucket:?} is not the name of a bucket: 3 to 63 lower-case letters, digits, hyphens and dots"
    )))
}

fn must_be_a_key(key: &str) -> Result<(), DeliveryError> {
    if key.is_empty() || key.len() > KEY_OCTETS_MAX {
        return Err(DeliveryError::Refused(format!("the key of an object has 1 to {KEY_OCTETS_MAX} octets")));
    }
    // A path with these means another one to whatever is on the way.
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(DeliveryError::Refused(format!("the key {key:?} of an object has a segment `.` or `..`")));
    }
    Ok(())
}

/// Encodes all but the unreserved characters of RFC 3986 and those that are named.
pub(super) fn percent_encoded(text: &str, kept: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        let character = char::from(octet);
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) || kept.contains(character) {
            encoded.push(character);
        } else {
            encoded.push_str(&format!("%{octet:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address_of(endpoint: Option<&str>, bucket: &str, key: &str) -> Result<String, DeliveryError> {
        let upload = Upload { bucket, key, region: "eu-west-1", endpoint, content_type: "text/plain", body: b"" };
        address(endpoint, upload, &Region::parse("eu-west-1")?).map(|(base, path)| base + &path)
    }

    #[test]
    fn the_bucket_is_in_the_host_unless_the_store_is_elsewhere() {
        for (endpoint, bucket, key, expected) in [
            (None, "lists", "ca/a b.crl", "https://lists.s3.eu-west-1.amazonaws.com/ca/a%20b.crl"),
            (None, "lists.example.com", "x.crl", "https://s3.eu-west-1.amazonaws.com/lists.example.com/x.crl"),
            (Some("http://127.0.0.1:9"), "lists", "x+ü.crl", "http://127.0.0.1:9/lists/x%2B%C3%BC.crl"),
        ] {
            assert_eq!(address_of(endpoint, bucket, key).unwrap(), expected);
        }
    }

    #[test]
    fn a_bucket_or_a_key_that_would_lead_elsewhere_is_refused() {
        let long = "k".repeat(1025);
        for (bucket, key) in [
            ("evil.example/", "x"),
            ("a@b", "x"),
            ("ab", "x"),
            ("Lists", "x"),
            ("lists", ""),
            ("lists", "../other/x"),
            ("lists", "a/./x"),
            ("lists", &long),
        ] {
            assert!(matches!(address_of(None, bucket, key), Err(DeliveryError::Refused(_))), "{bucket} {key}");
        }
    }
}
