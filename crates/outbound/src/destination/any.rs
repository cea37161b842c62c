//! Every destination as one: the only place that lists them.

use super::acm::Acm;
use super::chef::ChefDataBag;
use super::cloudflare::CustomCertificates;
use super::f5::F5Partition;
use super::gcp::CertificateManager;
use super::key_vault::KeyVault;
use super::kubernetes::KubernetesTlsSecret;
use super::linux_server::LinuxServer;
use super::local_directory::{LocalDirectory, LocalPlaces};
use super::secrets_manager::SecretsManager;
use super::vault::VaultStore;
use super::webhook::Webhook;
use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::connection::gcp::ServerIdentity;
use domain::sync::DestinationKind;

macro_rules! destinations {
    ($($kind:ident($destination:ty) = $open:expr;)*) => {
        /// A destination of any kind, opened for one run.
        pub enum AnyDestination {
            $(#[doc = concat!("`DestinationKind::", stringify!($kind), "`.")] $kind(Box<$destination>),)*
        }

        impl AnyDestination {
            /// Opens a destination; nothing is sent yet. `places` is what the operator allows on the server's own host,
            /// `google` who the server is at Google.
            pub fn open(
                opening: &Opening<'_>,
                places: &LocalPlaces,
                google: &ServerIdentity,
            ) -> Result<Self, DeliveryError> {
                let own = (places, google);
                Ok(match opening.kind {
                    $(DestinationKind::$kind => Self::$kind(Box::new($open(opening, own)?)),)*
                })
            }

            /// The kind.
            pub const fn kind(&self) -> DestinationKind {
                match self { $(Self::$kind(_) => DestinationKind::$kind,)* }
            }
        }

        impl Destination for AnyDestination {
            fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
                match self { $(Self::$kind(one) => one.must_take(item),)* }
            }

            fn expected(&self, item: &Item) -> Option<Fingerprint> {
                match self { $(Self::$kind(one) => one.expected(item),)* }
            }

            async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
                match self { $(Self::$kind(one) => one.look(id).await,)* }
            }

            async fn strayed(&self, found: &Found, item: &Item) -> Result<Option<String>, DeliveryError> {
                match self { $(Self::$kind(one) => one.strayed(found, item).await,)* }
            }

            async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
                match self { $(Self::$kind(one) => one.find(item).await,)* }
            }

            async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
                match self { $(Self::$kind(one) => one.create(item).await,)* }
            }

            async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
                match self { $(Self::$kind(one) => one.replace(found, item).await,)* }
            }

            async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
                match self { $(Self::$kind(one) => one.remove(found).await,)* }
            }

            async fn finish(&self, changed: &Changed) -> Result<(), DeliveryError> {
                match self { $(Self::$kind(one) => one.finish(changed).await,)* }
            }
        }
    };
}

destinations! {
    AwsCertificateManager(Acm) = elsewhere(Acm::open);
    AwsSecretsManager(SecretsManager) = elsewhere(SecretsManager::open);
    AzureKeyVault(KeyVault) = elsewhere(KeyVault::open);
    Chef(ChefDataBag) = elsewhere(ChefDataBag::open);
    CloudflareCustomCertificate(CustomCertificates) = elsewhere(CustomCertificates::open);
    F5BigIp(F5Partition) = elsewhere(F5Partition::open);
    GcpCertificateManager(CertificateManager) = |opening, (_, google): Own<'_>| CertificateManager::open(opening, google.clone());
    HashicorpVault(VaultStore) = elsewhere(VaultStore::open);
    KubernetesTlsSecret(KubernetesTlsSecret) = elsewhere(KubernetesTlsSecret::open);
    LinuxServer(LinuxServer) = elsewhere(LinuxServer::open);
    LocalDirectory(LocalDirectory) = |opening, (places, _): Own<'_>| LocalDirectory::open(opening, places);
    Webhook(Webhook) = elsewhere(Webhook::open);
}

/// What the server itself has: places on its host, and an account at Google.
type Own<'a> = (&'a LocalPlaces, &'a ServerIdentity);

/// Opens a destination that needs nothing of what the server itself has.
fn elsewhere<D>(
    open: impl FnOnce(&Opening<'_>) -> Result<D, DeliveryError>,
) -> impl FnOnce(&Opening<'_>, Own<'_>) -> Result<D, DeliveryError> {
    |opening, _| open(opening)
}

impl AnyDestination {
    /// Whether the last step of a run may undo what was delivered before it.
    pub const fn can_undo(&self) -> bool {
        self.kind().is_files()
    }

    /// Whether an object's name keeps others from having it. Where it does not, an object is known by its mark alone, and a
    /// mark that was never used needs not be looked for.
    pub const fn has_unique_names(&self) -> bool {
        match self {
            Self::AwsCertificateManager(_) | Self::CloudflareCustomCertificate(_) | Self::Webhook(_) => false,
            Self::AwsSecretsManager(_)
            | Self::AzureKeyVault(_)
            | Self::Chef(_)
            | Self::F5BigIp(_)
            | Self::GcpCertificateManager(_)
            | Self::HashicorpVault(_)
            | Self::KubernetesTlsSecret(_)
            | Self::LinuxServer(_)
            | Self::LocalDirectory(_) => true,
        }
    }

    /// Whether an object bears its mark, so that it is known whatever it holds.
    pub const fn bears_marks(&self) -> bool {
        match self {
            Self::CloudflareCustomCertificate(_)
            | Self::F5BigIp(_)
            | Self::LinuxServer(_)
            | Self::LocalDirectory(_)
            | Self::Webhook(_) => false,
            Self::AwsCertificateManager(_)
            | Self::AwsSecretsManager(_)
            | Self::AzureKeyVault(_)
            | Self::Chef(_)
            | Self::GcpCertificateManager(_)
            | Self::HashicorpVault(_)
            | Self::KubernetesTlsSecret(_) => true,
        }
    }

    /// Whether only the mark tells objects apart: two attempts to make one leave two, where a name would keep the second out.
    pub const fn tells_by_marks_alone(&self) -> bool {
        self.bears_marks() && !self.has_unique_names()
    }

    /// Whether a run has a last step that has to be done once something has changed, even by a later run.
    pub const fn has_last_step(&self) -> bool {
        match self {
            Self::F5BigIp(_) | Self::GcpCertificateManager(_) => true,
            Self::AwsCertificateManager(_)
            | Self::AwsSecretsManager(_)
            | Self::AzureKeyVault(_)
            | Self::Chef(_)
            | Self::CloudflareCustomCertificate(_)
            | Self::HashicorpVault(_)
            | Self::KubernetesTlsSecret(_)
            | Self::LinuxServer(_)
            | Self::LocalDirectory(_)
            | Self::Webhook(_) => false,
        }
    }
}
