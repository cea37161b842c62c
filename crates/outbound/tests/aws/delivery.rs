//! What the tests deliver, and with what.

use domain::connection::Credentials;
use domain::secret::SecretText;
use outbound::egress::EgressRules;
use outbound::http::Http;
use testkit::stand_ins::aws::AwsStandIn;

/// A client that may go to the loopback.
pub fn http() -> Http {
    Http::new(EgressRules::public_and(vec!["127.0.0.0/8".parse().unwrap()])).unwrap()
}

/// Credentials by an access key.
pub fn access_key(id: &str, secret: &str, endpoint: &str) -> Credentials {
    Credentials::AwsAccessKey {
        access_key_id: id.into(),
        secret_access_key: SecretText::new(secret),
        endpoint_url: Some(endpoint.into()),
    }
}

/// The credentials that the stand-in believes.
pub fn believed(stand_in: &AwsStandIn) -> Credentials {
    let (id, secret) = stand_in.access_key();
    access_key(&id, &secret, stand_in.url())
}
