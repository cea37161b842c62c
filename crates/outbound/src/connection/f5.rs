//! Whether a BIG-IP believes a user.

use crate::destination::f5::appliance::Appliance;
use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;

/// Logs in and out again.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<(), DeliveryError> {
    let appliance = Appliance::open(http, credentials)?;
    appliance.log_in().await?;
    appliance.log_out().await;
    Ok(())
}
