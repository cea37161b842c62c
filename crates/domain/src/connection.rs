//! App connections: how the server reaches and convinces another system (contract syncs §3).

use crate::secret::SecretText;
use crate::{ConnectionId, Error, OrganizationId, ProjectId, Result, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kind of system at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionKind {
    /// Amazon Web Services.
    Aws,
    /// Azure Key Vault.
    AzureKeyVault,
    /// Chef Infra Server.
    Chef,
    /// Cloudflare.
    Cloudflare,
    /// F5 BIG-IP.
    F5BigIp,
    /// Google Cloud.
    Gcp,
    /// HashiCorp Vault or OpenBao.
    HashicorpVault,
    /// Kubernetes.
    Kubernetes,
    /// A host by SSH.
    Ssh,
    /// An address that is told about certificates.
    Webhook,
}

impl ConnectionKind {
    /// Every kind, by name.
    pub const ALL: [Self; 10] = [
        Self::Aws,
        Self::AzureKeyVault,
        Self::Chef,
        Self::Cloudflare,
        Self::F5BigIp,
        Self::Gcp,
        Self::HashicorpVault,
        Self::Kubernetes,
        Self::Ssh,
        Self::Webhook,
    ];

    /// The slug on the wire.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AzureKeyVault => "azure-key-vault",
            Self::Chef => "chef",
            Self::Cloudflare => "cloudflare",
            Self::F5BigIp => "f5-big-ip",
            Self::Gcp => "gcp",
            Self::HashicorpVault => "hashicorp-vault",
            Self::Kubernetes => "kubernetes",
            Self::Ssh => "ssh",
            Self::Webhook => "webhook",
        }
    }

    /// The name for people.
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::Aws => "AWS",
            Self::AzureKeyVault => "Azure Key Vault",
            Self::Chef => "Chef",
            Self::Cloudflare => "Cloudflare",
            Self::F5BigIp => "F5 BIG-IP",
            Self::Gcp => "GCP",
            Self::HashicorpVault => "HashiCorp Vault",
            Self::Kubernetes => "Kubernetes",
            Self::Ssh => "SSH",
            Self::Webhook => "Webhook",
        }
    }

    /// The ways to authenticate that it knows.
    pub const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Aws => &["access-key", "assume-role"],
            Self::AzureKeyVault => &["client-secret"],
            Self::Chef => &["user-key"],
            Self::Cloudflare => &["api-token"],
            Self::F5BigIp => &["basic-auth"],
            Self::Gcp => &["service-account-impersonation"],
            Self::HashicorpVault => &["access-token"],
            Self::Kubernetes => &["service-account-token"],
            Self::Ssh => &["password", "ssh-key"],
            Self::Webhook => &["hmac"],
        }
    }

    /// The kind of that slug.
    pub fn parse(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.slug() == slug)
    }
}

/// What convinces the other system. Kept sealed; its serde form is the sealed document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Credentials {
    /// `aws`, method `access-key`.
    AwsAccessKey {
        /// The id of the key.
        access_key_id: String,
        /// The key.
        secret_access_key: SecretText,
        /// Where AWS is, when it is not Amazon's own.
        endpoint_url: Option<String>,
    },
    /// `aws`, method `assume-role`: the server's own AWS identity (its environment) takes the role.
    AwsAssumeRole {
        /// The role.
        role_arn: String,
        /// Where AWS is, when it is not Amazon's own.
        endpoint_url: Option<String>,
    },
    /// `azure-key-vault`, method `client-secret`.
    AzureClientSecret {
        /// The application.
        client_id: String,
        /// Its secret.
        client_secret: SecretText,
        /// The directory.
        tenant_id: String,
        /// Where the vault is, in place of the destination's `vaultBaseUrl`.
        endpoint_url: Option<String>,
        /// Where tokens come from, in place of Microsoft's.
        token_url: Option<String>,
    },
    /// `chef`, method `user-key`.
    ChefUserKey {
        /// The server; Chef's hosted one when absent.
        server_url: Option<String>,
        /// The organisation.
        org_name: String,
        /// The user.
        user_name: String,
        /// The user's RSA key in PEM.
        private_key: SecretText,
    },
    /// `cloudflare`, method `api-token`.
    CloudflareApiToken {
        /// The account.
        account_id: String,
        /// The token.
        api_token: SecretText,
        /// Where the API is, in place of Cloudflare's.
        endpoint_url: Option<String>,
    },
    /// `f5-big-ip`, method `basic-auth`.
    F5BasicAuth {
        /// The host.
        hostname: String,
        /// The port; 443 when absent.
        port: Option<u16>,
        /// The user.
        username: String,
        /// The password.
        password: SecretText,
        /// Whether the server's certificate is checked; it is when absent.
        ssl_reject_unauthorized: Option<bool>,
        /// The CA that the server's certificate is checked against, in PEM; the system's when absent.
        ssl_certificate: Option<String>,
    },
    /// `gcp`, method `service-account-impersonation`.
    GcpImpersonation {
        /// The account.
        service_account_email: String,
        /// Where the APIs are, in place of Google's.
        endpoint_url: Option<String>,
        /// Where tokens come from, in place of Google's.
        token_url: Option<String>,
    },
    /// `hashicorp-vault`, method `access-token`.
    VaultAccessToken {
        /// The server.
        instance_url: String,
        /// The namespace.
        namespace: Option<String>,
        /// The token.
        access_token: SecretText,
    },
    /// `kubernetes`, method `service-account-token`.
    KubernetesToken {
        /// The API server.
        server_url: String,
        /// The token.
        token: SecretText,
        /// The CA that the server's certificate is checked against, in PEM; the system's when absent.
        ca_certificate: Option<String>,
    },
    /// `ssh`, method `password`.
    SshPassword {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The user.
        username: String,
        /// The password.
        password: SecretText,
        /// The pinned host key: `ssh-ed25519 AAAA…`, or `SHA256:…`.
        host_key: Option<String>,
    },
    /// `ssh`, method `ssh-key`.
    SshKey {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The user.
        username: String,
        /// The private key, in OpenSSH's or another PEM form.
        private_key: SecretText,
        /// What the private key is sealed with.
        passphrase: Option<SecretText>,
        /// The pinned host key: `ssh-ed25519 AAAA…`, or `SHA256:…`.
        host_key: Option<String>,
    },
    /// `webhook`, method `hmac`.
    WebhookHmac {
        /// The address.
        url: String,
        /// What messages are signed with.
        signing_secret: SecretText,
    },
}

impl Credentials {
    /// The kind of system that they are for.
    pub const fn kind(&self) -> ConnectionKind {
        match self {
            Self::AwsAccessKey { .. } | Self::AwsAssumeRole { .. } => ConnectionKind::Aws,
            Self::AzureClientSecret { .. } => ConnectionKind::AzureKeyVault,
            Self::ChefUserKey { .. } => ConnectionKind::Chef,
            Self::CloudflareApiToken { .. } => ConnectionKind::Cloudflare,
            Self::F5BasicAuth { .. } => ConnectionKind::F5BigIp,
            Self::GcpImpersonation { .. } => ConnectionKind::Gcp,
            Self::VaultAccessToken { .. } => ConnectionKind::HashicorpVault,
            Self::KubernetesToken { .. } => ConnectionKind::Kubernetes,
            Self::SshPassword { .. } | Self::SshKey { .. } => ConnectionKind::Ssh,
            Self::WebhookHmac { .. } => ConnectionKind::Webhook,
        }
    }

    /// The method on the wire.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::AwsAccessKey { .. } => "access-key",
            Self::AwsAssumeRole { .. } => "assume-role",
            Self::AzureClientSecret { .. } => "client-secret",
            Self::ChefUserKey { .. } => "user-key",
            Self::CloudflareApiToken { .. } => "api-token",
            Self::F5BasicAuth { .. } => "basic-auth",
            Self::GcpImpersonation { .. } => "service-account-impersonation",
            Self::VaultAccessToken { .. } => "access-token",
            Self::KubernetesToken { .. } => "service-account-token",
            Self::SshPassword { .. } => "password",
            Self::SshKey { .. } => "ssh-key",
            Self::WebhookHmac { .. } => "hmac",
        }
    }
}

/// An app connection without its credentials, which are kept apart and sealed.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// The organisation.
    pub organization: OrganizationId,
    /// The project that alone may use it; every project of the organisation may when absent.
    pub project: Option<ProjectId>,
    /// The kind.
    pub kind: ConnectionKind,
    /// The method.
    pub method: String,
    /// Its name, which nothing else of that kind has in the organisation.
    pub name: String,
    /// What people say about it.
    pub description: Option<String>,
    /// One more at each change; 1 at first.
    pub version: i64,
    /// The fields of the credentials that may be shown, as JSON.
    pub shown: Value,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
}

/// The fields of credentials that are never shown.
const SECRET_FIELDS: [&str; 10] = [
    "secretAccessKey",
    "clientSecret",
    "privateKey",
    "apiToken",
    "password",
    "token",
    "accessToken",
    "signingSecret",
    "passphrase",
    // Not a secret, and not given back by the published API.
    "roleArn",
];

impl Credentials {
    /// Reads credentials as they are on the wire; the shape was checked before.
    pub fn read(kind: ConnectionKind, method: &str, mut fields: Value) -> Result<Self> {
        let variant = match (kind, method) {
            (ConnectionKind::Aws, "access-key") => "aws-access-key",
            (ConnectionKind::Aws, "assume-role") => "aws-assume-role",
            (ConnectionKind::AzureKeyVault, "client-secret") => "azure-client-secret",
            (ConnectionKind::Chef, "user-key") => "chef-user-key",
            (ConnectionKind::Cloudflare, "api-token") => "cloudflare-api-token",
            (ConnectionKind::F5BigIp, "basic-auth") => "f5-basic-auth",
            (ConnectionKind::Gcp, "service-account-impersonation") => "gcp-impersonation",
            (ConnectionKind::HashicorpVault, "access-token") => "vault-access-token",
            (ConnectionKind::Kubernetes, "service-account-token") => "kubernetes-token",
            (ConnectionKind::Ssh, "password") => "ssh-password",
            (ConnectionKind::Ssh, "ssh-key") => "ssh-key",
            (ConnectionKind::Webhook, "hmac") => "webhook-hmac",
            _ => {
                return Err(Error::invalid(format!(
                    "a connection to {} has no method {method}; it has {}",
                    kind.display_name(),
                    kind.methods().join(", ")
                )));
            }
        };
        if let Some(object) = fields.as_object_mut() {
            object.insert("kind".to_owned(), variant.into());
        }
        // The message of the parser could hold a value.
        serde_json::from_value(fields)
            .map_err(|_| Error::invalid(format!("the credentials are not those of the method {method}")))
    }

    /// The same with the host key that was pinned before, when they are for the same host and name none.
    pub fn pinned_as(mut self, before: &Self) -> Self {
        let place = |one: &Self| match one {
            Self::SshPassword { host, port, host_key, .. } | Self::SshKey { host, port, host_key, .. } => {
                Some(((host.clone(), *port), host_key.clone()))
            }
            _ => None,
        };
        let Some((place_before, pinned)) = place(before) else { return self };
        if place(&self).is_some_and(|(place, key)| place == place_before && key.is_none())
            && let Self::SshPassword { host_key, .. } | Self::SshKey { host_key, .. } = &mut self
        {
            *host_key = pinned;
        }
        self
    }

    /// The fields that may be shown.
    pub fn shown(&self) -> Value {
        let mut fields = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = fields.as_object_mut() {
            object.remove("kind");
            object.retain(|name, value| !value.is_null() && !SECRET_FIELDS.contains(&name.as_str()));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_shown_holds_no_secret() {
        for (kind, method, fields, shown) in [
            (
                ConnectionKind::Aws,
                "access-key",
                json!({"accessKeyId": "AKIA", "secretAccessKey": "hush", "endpointUrl": "http://127.0.0.1:1"}),
                json!({"accessKeyId": "AKIA", "endpointUrl": "http://127.0.0.1:1"}),
            ),
            (
                ConnectionKind::Ssh,
                "ssh-key",
                json!({"host": "a", "port": 22, "username": "b", "privateKey": "hush", "passphrase": "hush"}),
                json!({"host": "a", "port": 22, "username": "b"}),
            ),
            (
                ConnectionKind::F5BigIp,
                "basic-auth",
                json!({"hostname": "a", "username": "b", "password": "hush", "sslRejectUnauthorized": false}),
                json!({"hostname": "a", "username": "b", "sslRejectUnauthorized": false}),
            ),
        ] {
            let read = Credentials::read(kind, method, fields).unwrap();
            assert_eq!((read.kind(), read.method(), read.shown()), (kind, method, shown));
            assert!(!format!("{read:?}").contains("hush"));
            let sealed = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Credentials>(&sealed).unwrap(), read);
        }
        assert!(Credentials::read(ConnectionKind::Aws, "password", json!({})).is_err());
        assert!(Credentials::read(ConnectionKind::Aws, "access-key", json!({"accessKeyId": 7})).is_err());
    }
}
