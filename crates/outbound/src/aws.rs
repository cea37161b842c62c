//! Amazon Web Services as far as destinations need them: Signature Version 4, calls of the JSON services, STS for roles,
//! and one upload to S3.
//!
//! A call is told whether it [changes something](Effect): the answer that is lost of one that only reads has no
//! consequences. Throttling is waited out here; every other complaint that is about one object goes to the caller, who
//! knows what it means there.

mod complaint;
mod role;
mod upload;

pub use complaint::{CallError, Complaint};
pub use upload::{Upload, put_object};

use crate::DeliveryError;
use crate::http::{Answer, Http, Request};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use domain::connection::Credentials;
use domain::secret::SecretText;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use role::Role;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often a call is made again that was throttled.
const REPEATS_MAX: u32 = 3;
/// The first pause before that; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// A name of a region is no longer than a label of a host name.
const REGION_CHARACTERS_MAX: usize = 63;

/// The name of a region, fit to be a part of a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region(String);

/// A service that is called, by the name that its signatures carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Certificate Manager.
    Acm,
    /// Simple Storage Service.
    S3,
    /// Secrets Manager.
    SecretsManager,
    /// Security Token Service.
    Sts,
}

/// Whether a call changes something at the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only reads.
    Reads,
    /// It creates, replaces or removes.
    Changes,
}

/// An access key.
#[derive(Clone, Debug)]
struct AccessKey {
    id: String,
    secret: SecretText,
    /// What goes with a key that is only lent.
    session: Option<SecretText>,
}

/// Where the access key comes from.
#[derive(Clone)]
enum Identity {
    /// From the connection.
    Own(AccessKey),
    /// From a role that the server takes.
    Role(Arc<Role>),
}

/// A client of one service in one region. Cheap to clone; the key that is lent for a role is shared.
#[derive(Clone)]
pub struct AwsClient {
    place: Place,
    identity: Identity,
}

/// A service in a region, and the way there.
#[derive(Clone)]
struct Place {
    http: Http,
    region: Region,
    service: Service,
    endpoint: String,
    timeout: Option<Duration>,
}

impl Region {
    /// Reads a name: lower-case letters, digits and hyphens.
    pub fn parse(name: &str) -> Result<Self, DeliveryError> {
        let allowed =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
        let is_label = !name.is_empty()
            && name.len() <= REGION_CHARACTERS_MAX
            && name.chars().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if is_label {
            Ok(Self(name.to_owned()))
        } else {
            Err(DeliveryError::Refused(format!(
                "{name:?} is not the name of an AWS region, such as eu-central-1: lower-case letters, digits and hyphens"
            )))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the host names of its services end with.
    fn domain(&self) -> &'static str {
        if self.0.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
    }
}

impl Service {
    /// The name in signatures and host names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acm => "acm",
            Self::S3 => "s3",
            Self::SecretsManager => "secretsmanager",
            Self::Sts => "sts",
        }
    }

    /// What stands before the operation in `X-Amz-Target`; the services that are not called by it have none.
    const fn target(self) -> Option<&'static str> {
        match self {
            Self::Acm => Some("CertificateManager"),
            Self::SecretsManager => Some("secretsmanager"),
            Self::S3 | Self::Sts => None,
        }
    }

    /// How paths and bodies enter the signature: S3 has rules of its own.
    fn signing_settings(self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        if self == Self::S3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        settings
    }
}

impl AwsClient {
    /// A client for a service, with the credentials of a connection to AWS. Nothing is sent yet.
    pub fn new(
        http: &Http,
        service: Service,
        region: Region,
        credentials: &Credentials,
    ) -> Result<Self, DeliveryError> {
        let own_endpoint = endpoint_of(credentials)?;
        let endpoint = endpoint_or_standard(own_endpoint.as_deref(), service, &region);
        let identity = Identity::of(http, &region, own_endpoint.as_deref(), credentials)?;
        Ok(Self { place: Place { http: http.clone(), region, service, endpoint, timeout: None }, identity })
    }

    /// The same client, which gives an answer up after so long.
    pub fn giving_up_after(mut self, timeout: Duration) -> Self {
        self.place.timeout = Some(timeout);
        self
    }

    /// Calls an operation of a JSON service.
    pub async fn call(&self, operation: &str, effect: Effect, arguments: &Value) -> Result<Value, CallError> {
        let target =
            self.place.service.target().expect("only services that are called by a target are called with JSON");
        let request = Request::new(Method::POST, &format!("{}/", self.place.endpoint))?
            .header("x-amz-target", &format!("{target}.{operation}"))?
            .header("content-type", "application/x-amz-json-1.1")?;
        let request = Request { body: arguments.to_string().into_bytes(), ..request };
        let answer = self.send(request, effect).await?;
        serde_json::from_slice(&answer.body).map_err(|_| {
            let message = format!("the answer of AWS to {operation} is not JSON");
            CallError::Delivery(match effect {
                Effect::Reads => DeliveryError::Unavailable(message),
                Effect::Changes => DeliveryError::Unknown(message),
            })
        })
    }

    /// Sends a request, and gives back only an answer that says that it was done.
    async fn send(&self, request: Request, effect: Effect) -> Result<Answer, CallError> {
        let key = self.identity.access_key().await?;
        self.place.send(&key, request, effect).await
    }
}

impl Place {
    /// Sends a request, signed anew and after a pause each time that it was throttled, and gives back only an answer that
    /// says that it was done.
    async fn send(&self, key: &AccessKey, request: Request, effect: Effect) -> Result<Answer, CallError> {
        let mut pause = PAUSE_FIRST;
        let mut repeats = 0;
        loop {
            let mut signed = request.clone();
            signed.timeout = self.timeout.unwrap_or(signed.timeout);
            sign_request(&mut signed, key, self.service, &self.region, SystemTime::now())?;
            let answer = self.http.send(signed).await.map_err(|error| effect.of_lost(error))?;
            if answer.status.is_success() {
                return Ok(answer);
            }
            let complaint = Complaint::read(&answer);
            if !complaint.is_throttling() || repeats == REPEATS_MAX {
                return Err(complaint.judge(effect));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            repeats += 1;
        }
    }
}

impl Effect {
    /// What it means that an answer was lost. All calls are POST, so the client below takes each for a change.
    fn of_lost(self, error: DeliveryError) -> DeliveryError {
        match (self, error) {
            (Self::Reads, DeliveryError::Unknown(text)) => DeliveryError::Unavailable(text),
            (_, error) => error,
        }
    }
}

impl Identity {
    fn of(
        http: &Http,
        region: &Region,
        endpoint: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Self, DeliveryError> {
        match credentials {
            Credentials::AwsAccessKey { access_key_id, secret_access_key, .. } => {
                Ok(Self::Own(AccessKey { id: access_key_id.clone(), secret: secret_access_key.clone(), session: None }))
            }
            Credentials::AwsAssumeRole { role_arn, .. } => {
                let endpoint = endpoint_or_standard(endpoint, Service::Sts, region);
                let (http, region) = (http.clone(), region.clone());
                let tokens = Place { http, region, service: Service::Sts, endpoint, timeout: None };
                Ok(Self::Role(Arc::new(Role::new(tokens, role_arn.clone()))))
            }
            _ => Err(DeliveryError::Refused(not_aws(credentials))),
        }
    }

    async fn access_key(&self) -> Result<AccessKey, DeliveryError> {
        match self {
            Self::Own(key) => Ok(key.clone()),
            Self::Role(role) => role.access_key().await,
        }
    }
}

/// Asks STS who the credentials belong to, and gives back the ARN.
pub async fn caller_identity(http: &Http, credentials: &Credentials) -> Result<String, DeliveryError> {
    let region = Region(role::home_region(credentials).to_owned());
    let client = AwsClient::new(http, Service::Sts, region, credentials)?;
    let key = client.identity.access_key().await?;
    role::caller_identity(&client.place, &key).await
}

/// Where AWS is, when the credentials say that it is not Amazon's own.
fn endpoint_of(credentials: &Credentials) -> Result<Option<String>, DeliveryError> {
    match credentials {
        Credentials::AwsAccessKey { endpoint_url, .. } | Credentials::AwsAssumeRole { endpoint_url, .. } => {
            Ok(endpoint_url.as_ref().map(|url| url.trim_end_matches('/').to_owned()))
        }
        _ => Err(DeliveryError::Refused(not_aws(credentials))),
    }
}

fn endpoint_or_standard(endpoint: Option<&str>, service: Service, region: &Region) -> String {
    match endpoint {
        Some(endpoint) => endpoint.to_owned(),
        None => format!("https://{}.{}.{}", service.as_str(), region.as_str(), region.domain()),
    }
}

fn not_aws(credentials: &Credentials) -> String {
    format!("a connection to {} does not lead to AWS", credentials.kind().slug())
}

/// Signs a request by its headers (Signature Version 4).
fn sign_request(
    request: &mut Request,
    key: &AccessKey,
    service: Service,
    region: &Region,
    now: SystemTime,
) -> Result<(), DeliveryError> {
    let unsigned = |what: &str| DeliveryError::Connection(format!("a request to AWS cannot be signed: {what}"));
    let session = key.session.as_ref().map(|token| token.expose().to_owned());
    let identity = aws_credential_types::Credentials::from_keys(&*key.id, key.secret.expose(), session).into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_str())
        .name(service.as_str())
        .time(now)
        .settings(service.signing_settings())
        .build()
        .map_err(|error| unsigned(&error.to_string()))?
        .into();
    let (method, url) = (request.method.clone(), request.url.to_string());
    let headers: Vec<(&str, &str)> =
        request.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let body = SignableBody::Bytes(&request.body);
    let signable = SignableRequest::new(method.as_str(), url, headers.into_iter(), body)
        .map_err(|error| unsigned(&error.to_string()))?;
    let (instructions, _) = sign(signable, &parameters).map_err(|error| unsigned(&error.to_string()))?.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsigned("a header has no name"))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| unsigned("the access key has characters that a header cannot carry"))?;
        value.set_sensitive(true);
        request.headers.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::EgressRules;

    fn credentials(endpoint_url: Option<&str>) -> Credentials {
        Credentials::AwsAccessKey {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: SecretText::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            endpoint_url: endpoint_url.map(str::to_owned),
        }
    }

    #[test]
    fn only_a_name_of_a_region_becomes_part_of_a_host_name() {
        for name in ["eu-central-1", "us-gov-west-1", "cn-north-1", "ap-southeast-5"] {
            assert_eq!(Region::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(64);
        for name in
            ["", "-", "eu-", "EU-central-1", "eu.central.1", "a/b", "a@b", "a#", "a?b", "a b", "eu-zürich-1", &long]
        {
            let error = Region::parse(name).unwrap_err();
            assert!(matches!(error, DeliveryError::Refused(_)), "{name}: {error}");
        }
    }

    #[test]
    fn a_service_is_at_its_regional_host_unless_the_connection_says_where() {
        let http = Http::new(EgressRules::public_and(vec![])).unwrap();
        for (region, endpoint, expected) in [
            ("eu-central-1", None, "https://acm.eu-central-1.amazonaws.com"),
            ("cn-north-1", None, "https://acm.cn-north-1.amazonaws.com.cn"),
            ("eu-central-1", Some("http://127.0.0.1:5000/"), "http://127.0.0.1:5000"),
        ] {
            let region = Region::parse(region).unwrap();
            let client = AwsClient::new(&http, Service::Acm, region, &credentials(endpoint)).unwrap();
            assert_eq!(client.place.endpoint, expected);
        }
    }

    #[test]
    fn a_signature_names_its_scope_and_is_not_shown() {
        let key = AccessKey {
            id: "AKIDEXAMPLE".into(),
            secret: SecretText::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session: None,
        };
        let mut request = Request::new(Method::GET, "https://example.amazonaws.com/").unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        sign_request(&mut request, &key, Service::Sts, &Region::parse("us-east-1").unwrap(), now).unwrap();
        let header = request.headers["authorization"].to_str().unwrap();
        let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/sts/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature=";
        assert!(header.starts_with(start), "{header}");
        assert!(!format!("{request:?}").contains("Signature="));
    }
}
