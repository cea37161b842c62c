//! Whether a host lets us in by SSH.

use crate::DeliveryError;
use crate::http::Http;
use crate::ssh::Ssh;
use domain::connection::Credentials;

/// Logs in and out, and gives the credentials back with the host's key pinned: the one that was seen, if none was pinned.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<Credentials, DeliveryError> {
    let ssh = Ssh::connect(http.rules(), credentials).await?;
    ssh.close().await;
    let mut checked = credentials.clone();
    if let Credentials::SshPassword { host_key, .. } | Credentials::SshKey { host_key, .. } = &mut checked {
        host_key.get_or_insert_with(|| ssh.host_key().to_owned());
    }
    Ok(checked)
}
