//! Whether the other system believes the credentials of a connection.

pub mod aws;
pub mod azure;
pub mod chef;
pub mod cloudflare;
pub mod f5;
pub mod gcp;
pub mod kubernetes;
mod oauth;
pub mod ssh;
pub mod vault;
pub mod webhook;

use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;
use gcp::ServerIdentity;

/// Asks the other system, and gives back what is to be kept: the credentials, with what was learned (a host key that is
/// pinned from now on). `google` is who the server itself is at Google.
pub async fn check(
    http: &Http,
    credentials: Credentials,
    google: &ServerIdentity,
) -> Result<Credentials, DeliveryError> {
    match &credentials {
        Credentials::AwsAccessKey { .. } | Credentials::AwsAssumeRole { .. } => {
            aws::check(http, &credentials).await.map(drop)?;
        }
        Credentials::AzureClientSecret { .. } => azure::check(http, &credentials).await?,
        Credentials::ChefUserKey { .. } => chef::check(http, &credentials).await?,
        Credentials::CloudflareApiToken { .. } => cloudflare::check(http, &credentials).await?,
        Credentials::F5BasicAuth { .. } => f5::check(http, &credentials).await?,
        Credentials::GcpImpersonation { .. } => gcp::check(http, &credentials, google.clone()).await?,
        Credentials::VaultAccessToken { .. } => vault::check(http, &credentials).await?,
        Credentials::KubernetesToken { .. } => kubernetes::check(http, &credentials).await?,
        Credentials::SshPassword { .. } | Credentials::SshKey { .. } => return ssh::check(http, &credentials).await,
        Credentials::WebhookHmac { .. } => webhook::check(http, &credentials).await?,
    }
    Ok(credentials)
}
