//! Whether AWS believes the credentials of a connection: STS says who they belong to, after it lent a key where they name
//! a role.

use crate::aws::caller_identity;
use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;

/// Asks STS, and gives back the ARN of whoever the credentials belong to.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<String, DeliveryError> {
    caller_identity(http, credentials).await
}
