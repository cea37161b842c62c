//! PKI syncs: which certificates are carried where, and by which rules (contract syncs §1, 2).

pub mod config;
pub mod name;
pub mod region;

pub use config::{DestinationConfig, FieldMappings, SyncOptions};

use crate::connection::ConnectionKind;
use crate::{ApplicationId, CertificateId, ConnectionId, JobId, OrganizationId, ProjectId, SyncId, SyncLinkId, Time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a sync carries certificates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestinationKind {
    /// AWS Certificate Manager.
    AwsCertificateManager,
    /// AWS Secrets Manager.
    AwsSecretsManager,
    /// Azure Key Vault.
    AzureKeyVault,
    /// A data bag of a Chef Infra Server.
    Chef,
    /// Custom certificates of a Cloudflare zone.
    CloudflareCustomCertificate,
    /// F5 BIG-IP.
    F5BigIp,
    /// Google Cloud's Certificate Manager.
    GcpCertificateManager,
    /// A KV version 2 store of HashiCorp Vault or OpenBao.
    HashicorpVault,
    /// TLS secrets of a Kubernetes namespace.
    KubernetesTlsSecret,
    /// A host, by SSH.
    LinuxServer,
    /// A directory of the server's own host.
    LocalDirectory,
    /// An address that is told of each certificate.
    Webhook,
}

impl DestinationKind {
    /// Every kind, by slug.
    pub const ALL: [Self; 12] = [
        Self::AwsCertificateManager,
        Self::AwsSecretsManager,
        Self::AzureKeyVault,
        Self::Chef,
        Self::CloudflareCustomCertificate,
        Self::F5BigIp,
        Self::GcpCertificateManager,
        Self::HashicorpVault,
        Self::KubernetesTlsSecret,
        Self::LinuxServer,
        Self::LocalDirectory,
        Self::Webhook,
    ];

    /// The slug on the wire.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::AwsCertificateManager => "aws-certificate-manager",
            Self::AwsSecretsManager => "aws-secrets-manager",
            Self::AzureKeyVault => "azure-key-vault",
            Self::Chef => "chef",
            Self::CloudflareCustomCertificate => "cloudflare-custom-certificate",
            Self::F5BigIp => "f5-big-ip",
            Self::GcpCertificateManager => "gcp-certificate-manager",
            Self::HashicorpVault => "hashicorp-vault",
            Self::KubernetesTlsSecret => "kubernetes-tls-secret",
            Self::LinuxServer => "linux-server",
            Self::LocalDirectory => "local-directory",
            Self::Webhook => "webhook",
        }
    }

    /// The name for people.
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::AwsCertificateManager => "AWS Certificate Manager",
            Self::AwsSecretsManager => "AWS Secrets Manager",
            Self::AzureKeyVault => "Azure Key Vault",
            Self::Chef => "Chef",
            Self::CloudflareCustomCertificate => "Cloudflare Custom SSL Certificate",
            Self::F5BigIp => "F5 BIG-IP",
            Self::GcpCertificateManager => "GCP Certificate Manager",
            Self::HashicorpVault => "HashiCorp Vault",
            Self::KubernetesTlsSecret => "Kubernetes TLS Secret",
            Self::LinuxServer => "Linux Server",
            Self::LocalDirectory => "Local Directory",
            Self::Webhook => "Webhook",
        }
    }

    /// The kind of connection that leads there; none for a place that needs none.
    pub const fn connection(self) -> Option<ConnectionKind> {
        Some(match self {
            Self::AwsCertificateManager | Self::AwsSecretsManager => ConnectionKind::Aws,
            Self::AzureKeyVault => ConnectionKind::AzureKeyVault,
            Self::Chef => ConnectionKind::Chef,
            Self::CloudflareCustomCertificate => ConnectionKind::Cloudflare,
            Self::F5BigIp => ConnectionKind::F5BigIp,
            Self::GcpCertificateManager => ConnectionKind::Gcp,
            Self::HashicorpVault => ConnectionKind::HashicorpVault,
            Self::KubernetesTlsSecret => ConnectionKind::Kubernetes,
            Self::LinuxServer => ConnectionKind::Ssh,
            Self::LocalDirectory => return None,
            Self::Webhook => ConnectionKind::Webhook,
        })
    }

    /// The kind of that slug.
    pub fn parse(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.slug() == slug)
    }

    /// Whether objects can be removed there.
    pub const fn can_remove(self) -> bool {
        match self {
            Self::Webhook => false,
            Self::AwsCertificateManager
            | Self::AwsSecretsManager
            | Self::AzureKeyVault
            | Self::Chef
            | Self::CloudflareCustomCertificate
            | Self::F5BigIp
            | Self::GcpCertificateManager
            | Self::HashicorpVault
            | Self::KubernetesTlsSecret
            | Self::LinuxServer
            | Self::LocalDirectory => true,
        }
    }

    /// Whether removal is on when nothing is said: not for hosts, whose files somebody else may have come to use.
    pub const fn removes_by_default(self) -> bool {
        self.can_remove() && !self.is_files()
    }

    /// Whether it takes files, and so the options of files.
    pub const fn is_files(self) -> bool {
        matches!(self, Self::LinuxServer | Self::LocalDirectory)
    }

    /// What a sync of this kind names objects by when nothing is said; none where the caller has to say it.
    pub const fn default_name_schema(self) -> Option<&'static str> {
        match self {
            Self::AzureKeyVault => Some("Infisical-PKI-Sync-{{certificateId}}"),
            Self::AwsCertificateManager | Self::F5BigIp => Some("Infisical-{{certificateId}}"),
            Self::AwsSecretsManager | Self::KubernetesTlsSecret | Self::HashicorpVault => {
                Some("infisical-{{certificateId}}")
            }
            Self::Chef | Self::CloudflareCustomCertificate | Self::Webhook => Some("{{certificateId}}"),
            Self::GcpCertificateManager | Self::LinuxServer | Self::LocalDirectory => None,
        }
    }
}

/// What became of a certificate's link, or of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncStatus {
    /// A run is to come.
    Pending,
    /// A run is under way.
    Running,
    /// It is at the destination.
    Succeeded,
    /// It is not; the message says why.
    Failed,
    /// It was seen being served (links only).
    Proven,
}

impl SyncStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Proven];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Proven => "proven",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What became of a kind of work of a sync when it was last done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastRun {
    /// The status; none when it was never asked for.
    pub status: Option<SyncStatus>,
    /// The job.
    pub job: Option<JobId>,
    /// What went wrong.
    pub message: Option<String>,
    /// When it last went well.
    pub succeeded_at: Option<Time>,
}

/// A sync.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Its id.
    pub id: SyncId,
    /// The organisation of its project.
    pub organization: OrganizationId,
    /// The project.
    pub project: ProjectId,
    /// The application that it was made in.
    pub application: Option<ApplicationId>,
    /// Its name, which no other sync of the project has.
    pub name: String,
    /// What people say about it.
    pub description: Option<String>,
    /// The kind of destination.
    pub destination: DestinationKind,
    /// The connection that leads there; none for a place that needs none.
    pub connection: Option<ConnectionId>,
    /// Whether it runs by itself when something changes.
    pub is_automatic: bool,
    /// The place.
    pub config: DestinationConfig,
    /// How it goes about its work.
    pub options: SyncOptions,
    /// One more at each change; 1 at first.
    pub version: i64,
    /// What became of carrying certificates there.
    pub last_run: LastRun,
    /// What became of removing everything from there.
    pub last_removal: LastRun,
    /// Whether delivered changes still want their last step.
    pub is_unfinished: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
}

/// A certificate that a sync carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncLink {
    /// Its id.
    pub id: SyncLinkId,
    /// The sync.
    pub sync: SyncId,
    /// The certificate.
    pub certificate: CertificateId,
    /// What became of it.
    pub status: SyncStatus,
    /// Why.
    pub message: Option<String>,
    /// When it was last brought there.
    pub last_synced_at: Option<Time>,
    /// Until when it has to be seen being served.
    pub prove_until: Option<Time>,
    /// When it was linked.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
}

/// How far an object of the ledger has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// It is being made: it may be there or not.
    Making,
    /// It is there.
    There,
    /// It is there, and may hold the certificate before or the one to come.
    Replacing,
    /// It is being removed: it may be there or not.
    Removing,
    /// Nothing is to be there any more, and it was said that nothing is: it is forgotten once that was said often enough. No
    /// certificate counts it as its own.
    Retired,
}

impl ObjectState {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::There => "there",
            Self::Replacing => "replacing",
            Self::Removing => "removing",
            Self::Retired => "retired",
        }
    }

    /// The state of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Making, Self::There, Self::Replacing, Self::Removing, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// An object of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncObject {
    /// Its id, which is also the mark that it bears at the destination.
    pub id: Uuid,
    /// The sync.
    pub sync: SyncId,
    /// The certificate that it holds, or is to hold.
    pub certificate: CertificateId,
    /// Its name by the name schema.
    pub name: String,
    /// How far it has come.
    pub state: ObjectState,
    /// The other system's identifier, once it is known.
    pub external_id: Option<String>,
    /// What stands there.
    pub fingerprint: Option<String>,
    /// What is to stand there, while it is being made or replaced.
    pub intended: Option<String>,
    /// What was asked for: a digest of the certificate with its chain and of the options that shape the object.
    pub content: String,
    /// Further identifiers, such as all the files.
    pub details: Vec<String>,
    /// In how many runs, some time apart, it was said not to be there, since it was last seen.
    pub absences: u32,
    /// When it is looked for next because of that.
    pub look_at: Option<Time>,
}

impl SyncObject {
    /// Whether it is the object of its certificate, or of the one that takes its place.
    pub fn is_current(&self) -> bool {
        self.state != ObjectState::Retired
    }

    /// Whether it is time to look for it once more.
    pub fn is_due(&self, now: Time) -> bool {
        self.look_at.is_none_or(|at| at <= now)
    }
}
