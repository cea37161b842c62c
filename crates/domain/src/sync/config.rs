//! What a sync is told about its destination, and how it goes about its work there. Field by field as in contract syncs §2;
//! the serde forms are those of the wire, and of the database.

use super::DestinationKind;
use crate::secret::SecretText;
use serde::{Deserialize, Serialize};

/// The place inside the system that the connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum DestinationConfig {
    /// `aws-secrets-manager` with a key, and both AWS destinations without one.
    Aws {
        /// The region.
        region: String,
        /// The KMS key that encrypts secrets.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
    },
    /// `azure-key-vault`.
    AzureKeyVault {
        /// The vault.
        vault_base_url: String,
    },
    /// `chef`.
    Chef {
        /// The data bag.
        data_bag_name: String,
    },
    /// `cloudflare-custom-certificate`.
    Cloudflare {
        /// The zone.
        zone_id: String,
    },
    /// `gcp-certificate-manager`.
    Gcp {
        /// The project.
        gcp_project_id: String,
        /// The location: `global` or a region.
        location: String,
        /// `default`, `edge-cache`, `all-regions` or `client-auth`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        /// The entry of a map that is to point at the certificates.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        certificate_map_binding: Option<CertificateMapBinding>,
    },
    /// `kubernetes-tls-secret`.
    Kubernetes {
        /// The namespace.
        namespace: String,
    },
    /// `hashicorp-vault`.
    Vault {
        /// The mount of the KV version 2 store.
        mount: String,
        /// The folder below which secrets are written.
        path: String,
    },
    /// `linux-server` and `local-directory`.
    Directory {
        /// The absolute path.
        destination_path: String,
    },
    /// `f5-big-ip`.
    F5 {
        /// The partition.
        partition: String,
        /// `none`, `client-ssl` or `server-ssl`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile_type: Option<String>,
        /// The profile that is to use the certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile_name: Option<String>,
        /// Whether the profile is made when it is not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        create_profile_if_missing: Option<bool>,
        /// What a profile that is made inherits from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_profile: Option<String>,
    },
    /// `webhook`: nothing.
    Webhook {},
}

/// An entry of a certificate map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateMapBinding {
    /// The map.
    pub certificate_map: String,
    /// The host name; the map's primary entry when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// How a sync goes about its work. A field that a destination does not have is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncOptions {
    /// Never true: no destination can.
    pub can_import_certificates: bool,
    /// Whether objects whose certificate is not meant to be there any more are removed.
    pub can_remove_certificates: bool,
    /// Whether the chain ends with the self-signed root.
    #[serde(default)]
    pub include_root_ca: bool,
    /// How objects are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_name_schema: Option<String>,
    /// ACM: a renewal keeps the ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_arn: Option<bool>,
    /// Secrets Manager: a renewal keeps the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_secret_on_renewal: Option<bool>,
    /// Key Vault: a renewal is a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_versioning: Option<bool>,
    /// Chef, F5, GCP and ours: a renewal keeps the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_item_on_renewal: Option<bool>,
    /// Stored and never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_existing_certificates: Option<bool>,
    /// Chef, Secrets Manager: the names of the fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_mappings: Option<FieldMappings>,
    /// GCP: labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<Label>>,
    /// Files: whether the key is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_private_key: Option<bool>,
    /// Files: `pem` or `pkcs12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_format: Option<String>,
    /// Files: `pem` or `crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem_certificate_extension: Option<String>,
    /// Files: whether leaf and chain are one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combine_certificate_chain: Option<bool>,
    /// Files: the mode, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<String>,
    /// Files: the mode of the key, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_file_mode: Option<String>,
    /// Files: whose they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Files: whose group's they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Files: what is run when files have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_sync_command: Option<String>,
    /// Files: what says whether all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_command: Option<String>,
    /// Where the new certificate has to be served before it is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove: Option<Prove>,
}

/// The names of the fields of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FieldMappings {
    /// The leaf.
    pub certificate: String,
    /// Its key.
    pub private_key: String,
    /// What is above it.
    pub certificate_chain: String,
    /// The root.
    pub ca_certificate: String,
}

impl Default for FieldMappings {
    fn default() -> Self {
        Self {
            certificate: "certificate".into(),
            private_key: "private_key".into(),
            certificate_chain: "certificate_chain".into(),
            ca_certificate: "ca_certificate".into(),
        }
    }
}

/// A label of a GCP certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Where a certificate has to be served, and how long that may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prove {
    /// All of these.
    pub addresses: Vec<ProveAddress>,
    /// Within so many seconds after delivery.
    #[serde(default = "prove_seconds")]
    pub timeout_seconds: u32,
}

const fn prove_seconds() -> u32 {
    60
}

/// One address where a certificate is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProveAddress {
    /// The host name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name that TLS asks for; the host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// What is spoken before TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_tls: Option<StartTls>,
}

/// A protocol that begins in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartTls {
    /// RFC 3207.
    Smtp,
    /// RFC 9051 §6.2.1.
    Imap,
    /// PostgreSQL's SSLRequest.
    Postgres,
}

/// Secrets of the sync itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncCredentials {
    /// Files: the password of PKCS#12 files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_password: Option<SecretText>,
}

impl SyncOptions {
    /// What holds at a destination when nothing is said.
    pub fn default_of(kind: DestinationKind) -> Self {
        let mut options = Self { can_remove_certificates: kind.removes_by_default(), ..Self::default() };
        match kind {
            DestinationKind::AwsCertificateManager => options.preserve_arn = Some(true),
            DestinationKind::AwsSecretsManager => {
                options.preserve_secret_on_renewal = Some(true);
                options.update_existing_certificates = Some(true);
                options.field_mappings = Some(FieldMappings::default());
            }
            DestinationKind::AzureKeyVault => options.enable_versioning = Some(true),
            DestinationKind::Chef => {
                options.preserve_item_on_renewal = Some(true);
                options.update_existing_certificates = Some(true);
                options.field_mappings = Some(FieldMappings::default());
            }
            DestinationKind::F5BigIp
            | DestinationKind::GcpCertificateManager
            | DestinationKind::HashicorpVault
            | DestinationKind::KubernetesTlsSecret => options.preserve_item_on_renewal = Some(true),
            DestinationKind::LinuxServer | DestinationKind::LocalDirectory => {
                options.include_private_key = Some(true);
                options.export_format = Some("pem".into());
                options.pem_certificate_extension = Some("pem".into());
                options.combine_certificate_chain = Some(false);
            }
            DestinationKind::CloudflareCustomCertificate | DestinationKind::Webhook => {}
        }
        options
    }

    /// Whether a successor takes the object of its predecessor over. Files, certificates of Cloudflare and messages have no
    /// option for it: they do.
    pub fn preserves_on_renewal(&self) -> bool {
        self.preserve_arn
            .or(self.preserve_secret_on_renewal)
            .or(self.enable_versioning)
            .or(self.preserve_item_on_renewal)
            .unwrap_or(true)
    }
}
