//! What brokers outside ask: who a client is, and what it may do (contract §6.2, §6.3). Only the registries, devices and
//! brokers of the hook's project are known to it.
//!
//! A client is known by its username, the id of its registry, device or broker. What it does later is asked by that name,
//! so a client with a certificate alone must use the name that the certificate stands for, or none. Certificates are not
//! taken in on this way: that a client has the key is only the other broker's word.

use super::states::FullCertificate;
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::registry::credential::{CertificateState, FingerprintQuery};
use domain::registry::hook::BrokerHook;
use domain::registry::outside::{Leave, Wish};
use domain::registry::topic::Principal;
use domain::registry::{DeviceId, Owner, OwnerKind, RESOURCE_ID_CHARACTERS_MAX, RegistryId};
use domain::{ProjectId, Result};
use store::registry::{access, registries, standing};
use x509::Certificate;

/// The greatest length of a certificate that a broker passes on, in characters.
const CERTIFICATE_CHARACTERS_MAX: usize = 64 * 1024;
/// The greatest length of a password that is looked at, in octets.
const PASSWORD_OCTETS_MAX: usize = 1024;

/// What a client showed the broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'a> {
    /// Its username; empty when it gave none.
    pub username: &'a str,
    /// Its password; empty when it gave none.
    pub password: &'a str,
    /// Its certificate, as PEM or as the SHA-256 of its DER in hexadecimal; empty when there is none.
    pub certificate: &'a str,
}

impl Context {
    /// Who a client is; nothing when it is nobody that is let in.
    #[compiled_here]
    pub async fn hook_login(&self, hook: &BrokerHook, presented: &Presented<'_>) -> Result<Option<Owner>> {
        let project = hook.folder.project;
        // A password, when there is one, decides (contract §6.2).
        if !presented.password.is_empty() {
            return self.login_by_password(project, presented).await;
        }
        let Some(sha256) = fingerprint_of(presented.certificate) else { return Ok(None) };
        let row = standing::of_fingerprint(&self.db, sha256).await.map_err(failed)?;
        let Some(full) = row.map(FullCertificate::of) else { return Ok(None) };
        let (certificate, now) = (&full.certificate, self.now());
        let is_valid = certificate.not_before <= now && now <= certificate.not_after;
        let owner = certificate.owner.clone();
        let is_named = presented.username.is_empty() || presented.username == owner.id();
        if full.state != CertificateState::Active || !is_valid || !is_named {
            return Ok(None);
        }
        let principal = self.principal_named(project, owner.id()).await?;
        Ok(principal.filter(|principal| principal.owner() == owner).map(|_| owner))
    }

    async fn login_by_password(&self, project: ProjectId, presented: &Presented<'_>) -> Result<Option<Owner>> {
        if presented.password.len() > PASSWORD_OCTETS_MAX || !is_id(presented.username) {
            return Ok(None);
        }
        // A name that there is not costs as much time as one that there is.
        let candidates = access::passwords(&self.db, presented.username).await.map_err(failed)?;
        let right = self.right_password(&candidates, presented.password.as_bytes()).await?;
        match right {
            None => Ok(None),
            Some(_) => Ok(self.principal_named(project, presented.username).await?.map(|principal| principal.owner())),
        }
    }

    /// Whether the client of that name is one that is let in.
    #[compiled_here]
    pub async fn hook_knows(&self, hook: &BrokerHook, username: &str) -> Result<bool> {
        Ok(self.principal_named(hook.folder.project, username).await?.is_some())
    }

    /// Whether the client of that name may do this.
    #[compiled_here]
    pub async fn hook_allows(&self, hook: &BrokerHook, username: &str, wish: &Wish<'_>) -> Result<bool> {
        let project = hook.folder.project;
        let Some(principal) = self.principal_named(project, username).await? else { return Ok(false) };
        match principal.leave(*wish) {
            Leave::Granted => Ok(true),
            Leave::Refused => Ok(false),
            Leave::IfOfRegistry(device) => self.is_beside(&principal, &device).await,
            Leave::IfOnlyRegistry => Ok(registries::count(&self.db, project).await.map_err(failed)? == 1),
        }
    }

    async fn is_beside(&self, principal: &Principal, device: &DeviceId) -> Result<bool> {
        let registry = RegistryId::from(principal.space());
        access::has_device(&self.db, &registry, device).await.map_err(failed)
    }

    /// The registry, device or broker of that id in the project, unless it is disabled.
    async fn principal_named(&self, project: ProjectId, id: &str) -> Result<Option<Principal>> {
        if !is_id(id) {
            return Ok(None);
        }
        for kind in [OwnerKind::Device, OwnerKind::Registry, OwnerKind::Broker] {
            let found = access::owner(&self.db, &Owner::of(kind, id)).await.map_err(failed)?;
            if let Some(found) = found {
                let is_let_in = found.project == project && !found.holder.is_disabled;
                return Ok(is_let_in.then_some(found.holder.principal));
            }
        }
        Ok(None)
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= RESOURCE_ID_CHARACTERS_MAX && !text.contains('\0')
}

/// Only SHA-256 lets anybody in (contract §5.2).
fn fingerprint_of(certificate: &str) -> Option<[u8; 32]> {
    if certificate.len() > CERTIFICATE_CHARACTERS_MAX {
        return None;
    }
    match FingerprintQuery::parse(certificate.trim()) {
        FingerprintQuery::Sha256(sha256) => Some(sha256),
        FingerprintQuery::Sha1(_) => None,
        FingerprintQuery::Imported(_) => {
            Certificate::from_pem(certificate).ok().map(|certificate| certificate.sha256())
        }
    }
}
