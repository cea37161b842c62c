//! Where the operator wants every new revocation list to be put, beside this server's own addresses: an HTTP server that
//! takes PUT, or a bucket that speaks S3.

use crate::aws::{Upload, put_object};
use crate::{DeliveryError, egress::EgressRules, http::Http, http::Request};
use domain::connection::Credentials;
use reqwest::{Method, Url, header};

/// The type of a list in DER (RFC 5280 §4.2.1.13).
const CONTENT_TYPE: &str = "application/pkix-crl";

/// A place for lists. It was written into the configuration, so it may be anywhere.
#[derive(Clone)]
pub struct ListTarget {
    http: Http,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Put { base: String },
    S3 { bucket: String, prefix: String, region: String, endpoint: Option<String>, keys: Credentials },
}

impl ListTarget {
    /// A folder of an HTTP server: lists are put below it.
    pub fn http_put(url: &str) -> Result<Self, DeliveryError> {
        let parsed = Request::new(Method::PUT, url)?.url;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            // Not shown: the query may be a credential.
            return Err(DeliveryError::Refused("the address must have neither a query nor a fragment".into()));
        }
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { http: Http::new(EgressRules::everywhere())?, place: Place::Put { base } })
    }

    /// A bucket, named as `s3://bucket/prefix`, with the keys of the environment.
    pub fn s3(url: &str, region: &str, endpoint: Option<&str>, keys: Credentials) -> Result<Self, DeliveryError> {
        let wrong = || DeliveryError::Refused(format!("{url} is not of the form s3://bucket/prefix"));
        let rest = url.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_fit = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || matches!(octet, b'.' | b'-');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_fit) {
            return Err(wrong());
        }
        let place = Place::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            region: region.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            keys,
        };
        Ok(Self { http: Http::new(EgressRules::everywhere())?, place })
    }

    /// What it is called where it is written down which lists it has: its address, without what is secret.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Put { base } => {
                let mut shown = base.clone();
                if let Ok(mut url) = Url::parse(base)
                    && (!url.username().is_empty() || url.password().is_some())
                    && url.set_username("").is_ok()
                    && url.set_password(None).is_ok()
                {
                    shown = url.to_string();
                }
                shown
            }
            Place::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}"),
        }
    }

    /// Puts a list there under a name, in place of the one before.
    pub async fn put(&self, file_name: &str, der: Vec<u8>) -> Result<(), DeliveryError> {
        match &self.place {
            Place::Put { base } => {
                let mut request = Request::new(Method::PUT, &format!("{base}/{file_name}"))?
                    .header(header::CONTENT_TYPE.as_str(), CONTENT_TYPE)?;
                request.body = der;
                let answer = self.http.send(request).await?;
                if answer.status.is_success() {
                    return Ok(());
                }
                Err(DeliveryError::Refused(format!("{} answered {}: {}", self.name(), answer.status, answer.excerpt())))
            }
            Place::S3 { bucket, prefix, region, endpoint, keys } => {
                let key = if prefix.is_empty() { file_name.to_owned() } else { format!("{prefix}/{file_name}") };
                let endpoint = endpoint.as_deref();
                let upload = Upload { bucket, key: &key, region, endpoint, content_type: CONTENT_TYPE, body: &der };
                put_object(&self.http, keys, upload).await
            }
        }
    }
}
