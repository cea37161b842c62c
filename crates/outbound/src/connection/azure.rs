//! Azure: tokens of an application by its client secret (OAuth 2.0 client credentials, RFC 6749 §4.4).

use super::oauth::{self, AccessToken, TokenKeeper};
use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;
use domain::secret::SecretText;

const LOGIN: &str = "https://login.microsoftonline.com";

/// One of Microsoft's clouds, as far as vaults go.
pub(crate) struct Cloud {
    /// What the hosts of its vaults end with.
    pub(crate) vault_suffix: &'static str,
    /// Where its tokens come from.
    login_host: &'static str,
    /// What a token for vaults is asked for with.
    pub(crate) scope: &'static str,
}

const PUBLIC: Cloud = Cloud {
    vault_suffix: ".vault.azure.net",
    login_host: "login.microsoftonline.com",
    scope: "https://vault.azure.net/.default",
};
const CHINA: Cloud = Cloud {
    vault_suffix: ".vault.azure.cn",
    login_host: "login.partner.microsoftonline.cn",
    scope: "https://vault.azure.cn/.default",
};
const US_GOVERNMENT: Cloud = Cloud {
    vault_suffix: ".vault.usgovcloudapi.net",
    login_host: "login.microsoftonline.us",
    scope: "https://vault.usgovcloudapi.net/.default",
};

impl Cloud {
    /// Every cloud.
    pub(crate) const ALL: [Self; 3] = [PUBLIC, CHINA, US_GOVERNMENT];

    /// The cloud that a vault is in, if the host is one of a vault.
    pub(crate) fn of_vault(host: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cloud| {
            let name = host.strip_suffix(cloud.vault_suffix).unwrap_or_default();
            !name.is_empty() && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '-')
        })
    }
}

/// An application of a directory.
pub(crate) struct Application {
    http: Http,
    client_id: String,
    client_secret: SecretText,
    token_url: String,
    scope: &'static str,
    tokens: TokenKeeper,
}

impl Application {
    /// The one of these credentials, which ask for tokens of this scope.
    pub(crate) fn new(http: &Http, credentials: &Credentials, scope: &'static str) -> Result<Self, DeliveryError> {
        let Credentials::AzureClientSecret { client_id, client_secret, tenant_id, token_url, .. } = credentials else {
            return Err(DeliveryError::Refused("the connection is not one of Azure Key Vault".into()));
        };
        // A directory is named by its id or by a domain of it; nothing else may get into the path.
        if tenant_id.is_empty() || !tenant_id.chars().all(|one| one.is_ascii_alphanumeric() || "-.".contains(one)) {
            return Err(DeliveryError::Refused("the tenant id is not one of a directory".into()));
        }
        let token_url = token_url.clone().unwrap_or_else(|| format!("{LOGIN}/{tenant_id}/oauth2/v2.0/token"));
        Ok(Self {
            http: http.clone(),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            token_url,
            scope,
            tokens: TokenKeeper::default(),
        })
    }

    /// A token that is good now.
    pub(crate) async fn token(&self) -> Result<SecretText, DeliveryError> {
        self.tokens.get(self.ask()).await
    }

    async fn ask(&self) -> Result<AccessToken, DeliveryError> {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.expose()),
            ("scope", self.scope),
        ];
        oauth::ask(&self.http, &self.token_url, &fields).await
    }
}

/// Whether Microsoft gives a token for these credentials. Which vault it is for is not known here, so the cloud is the one
/// whose token endpoint is named.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<(), DeliveryError> {
    let token_url = match credentials {
        Credentials::AzureClientSecret { token_url: Some(token_url), .. } => token_url.as_str(),
        _ => LOGIN,
    };
    let host = reqwest::Url::parse(token_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let cloud = Cloud::ALL.into_iter().find(|cloud| host.as_deref() == Some(cloud.login_host)).unwrap_or(PUBLIC);
    Application::new(http, credentials, cloud.scope)?.token().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_vaults_are_in_a_cloud() {
        for (host, scope) in [
            ("my-vault.vault.azure.net", Some("https://vault.azure.net/.default")),
            ("v.vault.azure.cn", Some("https://vault.azure.cn/.default")),
            ("v.vault.usgovcloudapi.net", Some("https://vault.usgovcloudapi.net/.default")),
            (".vault.azure.net", None),
            ("vault.azure.net", None),
            ("a.b.vault.azure.net", None),
            ("vvault.azure.net", None),
            ("my.vault.azure.net.example.com", None),
            ("169.254.169.254", None),
        ] {
            assert_eq!(Cloud::of_vault(host).map(|cloud| cloud.scope), scope, "{host}");
        }
    }
}
