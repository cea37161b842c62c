//! Registries, devices and brokers with the certificates that they have, for an export in the vendor's layout
//! (contract §9). Passwords are known to nobody and are left out.

use super::devices::DevicesOf;
use super::page::{Page, PageRequest};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::Result;
use domain::caller::Caller;
use domain::registry::credential::RegisteredCertificate;
use domain::registry::{Broker, Device, Owner, Registry};
use futures_util::{StreamExt, TryStreamExt, stream};
use store::registry::credentials;

/// How many owners are looked at at once.
const READ_AT_ONCE: usize = 8;

/// An object and its certificates, newest first.
pub struct Exported<T> {
    /// The object.
    pub object: T,
    /// Its certificates.
    pub certificates: Vec<RegisteredCertificate>,
}

impl Context {
    /// The registries of a folder, oldest first.
    #[compiled_here]
    pub async fn exported_registries(
        &self,
        caller: &Caller,
        folder: &str,
        page: &PageRequest,
    ) -> Result<Page<Exported<Registry>>> {
        let found = self.registries(caller, folder, page).await?;
        self.with_certificates(found, |registry| Owner::Registry(registry.id.clone())).await
    }

    /// The brokers of a folder, oldest first.
    #[compiled_here]
    pub async fn exported_brokers(
        &self,
        caller: &Caller,
        folder: &str,
        page: &PageRequest,
    ) -> Result<Page<Exported<Broker>>> {
        let found = self.brokers(caller, folder, page).await?;
        self.with_certificates(found, |broker| Owner::Broker(broker.id.clone())).await
    }

    /// The devices of a registry, oldest first.
    #[compiled_here]
    pub async fn exported_devices(
        &self,
        caller: &Caller,
        registry: &str,
        page: &PageRequest,
    ) -> Result<Page<Exported<Device>>> {
        let found = self.devices(caller, &DevicesOf::Registry(registry.to_owned()), page).await?;
        let items = found.items.into_iter().map(|(device, _)| device).collect();
        self.with_certificates(Page { items, next: found.next }, |device| Owner::Device(device.id.clone())).await
    }

    async fn with_certificates<T>(&self, page: Page<T>, owner: impl Fn(&T) -> Owner) -> Result<Page<Exported<T>>> {
        let items = stream::iter(page.items)
            .map(|object| {
                let owner = owner(&object);
                async move {
                    let certificates = credentials::certificates(&self.db, &owner).await.map_err(failed)?;
                    Ok::<_, domain::Error>(Exported { object, certificates })
                }
            })
            .buffered(READ_AT_ONCE)
            .try_collect()
            .await?;
        Ok(Page { items, next: page.next })
    }
}
