//! Takes in certificates that are not registered, on the first connection of their devices (contract §10, "just in time").
//!
//! A certificate is taken in when a registry trusts an authority above it, the chain holds, and nothing of it is withdrawn.
//! It becomes a device by the trust's template, or one more certificate of the device that the same trust made of the same
//! name before (a renewal). A device that was made otherwise is never taken over.
//!
//! To shut a device out, its certificate is made INACTIVE or REVOKED or is revoked by its authority: a device that is
//! deleted comes back with its next connection for as long as the trust is there.

use super::devices::clash;
use super::operations::{Asked, Decided, Setback, decide_again};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::authority::AuthorityStatus;
use domain::caller::{Actor, ActorKind, Caller, OrganizationRole};
use domain::inventory::is_authority;
use domain::registry::credential::{CertificateState, FingerprintQuery, HandedIn, RegisteredCertificate, hex};
use domain::registry::operation::Outcome;
use domain::registry::trust::{CertificateNames, Expanded, TrustedAuthority};
use domain::registry::{Device, DeviceId, Owner};
use domain::{Error, Refusal, Result, Time};
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use store::Changes;
use store::registry::{credentials, devices, registries, trust};
use tokio::sync::Semaphore;
use x509::chain::{self, Options, Place, Purpose};
use x509::{Certificate, Crl, digest, pem};

/// How many intermediate certificates of a client are looked at.
pub const INTERMEDIATES_MAX: usize = 8;
/// The greatest length of a certificate that is looked at, in octets.
const DER_OCTETS_MAX: usize = 16 * 1024;
/// How many chains are validated at once on this node.
const AT_ONCE: usize = 4;
/// How long a refusal is remembered, in milliseconds.
const REMEMBERED_MILLIS: i64 = 5_000;
/// How many refusals are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// When a certificate was refused, and why, unless no trust applied to it.
type Refused = (Time, Option<Refusal>);

/// What is remembered of certificates that were not taken in, and how many are looked at at once.
pub(super) struct TakeIn {
    refused: Mutex<HashMap<[u8; 32], Refused>>,
    turns: Semaphore,
}

impl Default for TakeIn {
    fn default() -> Self {
        Self { refused: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl TakeIn {
    /// Forgets every refusal.
    pub(super) fn forget(&self) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn remembered(&self, what: &[u8; 32], now: Time) -> Option<Result<Option<RegisteredCertificate>>> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, refusal) = refused.get(what)?;
        let is_fresh = *at <= now && now < at.plus_millis(REMEMBERED_MILLIS);
        is_fresh.then(|| refusal.clone().map_or(Ok(None), |refusal| Err(refusal.into())))
    }

    fn remember(&self, what: [u8; 32], refusal: Option<Refusal>, now: Time) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REMEMBERED_MAX {
            refused.retain(|_, (at, _)| *at <= now && now < at.plus_millis(REMEMBERED_MILLIS));
        }
        if refused.len() >= REMEMBERED_MAX {
            refused.clear();
        }
        refused.insert(what, (now, refusal));
    }
}

/// A certificate whose chain ends in a trusted authority and holds.
struct Proven {
    trusted: TrustedAuthority,
    /// What the template makes of it.
    device: Expanded,
}

impl Context {
    /// Takes in the certificate of a client that has shown that it has its key, with the intermediate certificates that the
    /// client sent. Nothing when no registry trusts an authority above it or the chain does not hold; an error when the trust
    /// is there and the registry or the device refuses.
    #[compiled_here]
    pub async fn take_in(
        &self,
        leaf_der: &[u8],
        intermediates_der: &[Vec<u8>],
        address: Option<IpAddr>,
    ) -> Result<Option<RegisteredCertificate>> {
        let given = intermediates_der.get(..INTERMEDIATES_MAX).unwrap_or(intermediates_der);
        if std::iter::once(leaf_der).chain(given.iter().map(Vec::as_slice)).any(|der| der.len() > DER_OCTETS_MAX) {
            return Ok(None);
        }
        let digests: Vec<[u8; 32]> =
            std::iter::once(leaf_der).chain(given.iter().map(Vec::as_slice)).map(digest::sha256).collect();
        let what = digest::sha256(digests.as_flattened());
        if let Some(answer) = self.state.registry.take_in.remembered(&what, self.now()) {
            return answer;
        }
        let done = self.take_in_unremembered(leaf_der, given, address).await;
        match &done {
            Ok(None) => self.state.registry.take_in.remember(what, None, self.now()),
            // What is refused for a moment only is not remembered.
            Err(Error::Refused(refusal)) if refusal.reason == domain::Reason::WrongState => {
                self.state.registry.take_in.remember(what, Some((**refusal).clone()), self.now());
            }
            Ok(Some(_)) | Err(_) => {}
        }
        done
    }

    async fn take_in_unremembered(
        &self,
        leaf_der: &[u8],
        given: &[Vec<u8>],
        address: Option<IpAddr>,
    ) -> Result<Option<RegisteredCertificate>> {
        let handed_in = match HandedIn::read(&pem::encode(pem::CERTIFICATE, leaf_der), "certificate") {
            Ok(handed_in) => handed_in,
            Err(Error::Refused(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let leaf = &handed_in.certificate;
        let mut intermediates: Vec<Certificate> =
            given.iter().filter_map(|der| Certificate::from_der(der.clone()).ok()).collect();
        intermediates.extend(self.own_chain(leaf).await?);
        // The certificate of an authority is no device's.
        if is_authority(leaf) {
            return Ok(None);
        }
        let Some(proven) = self.proven(leaf, &intermediates).await? else { return Ok(None) };
        decide_again!(self.try_take_in(&handed_in.data, leaf, &proven, address))
            .map(Some)
            .map_err(|setback| setback.into_error(|constraint| clash(constraint, &proven.device.name)))
    }

    /// The authorities of ours above a certificate of the inventory, which its device need not send.
    async fn own_chain(&self, leaf: &Certificate) -> Result<Vec<Certificate>> {
        let key = store::certificate::issuer_key_of(&self.db, leaf).await.map_err(failed)?;
        let Some(key) = key else { return Ok(Vec::new()) };
        let Some(issuer) = store::authority::newest_certificate_of(&self.db, key).await.map_err(failed)? else {
            return Ok(Vec::new());
        };
        let mut ders = vec![issuer.der];
        if !issuer.chain.is_empty() {
            let unreadable = |error| Error::failed_because("a stored chain does not read", error);
            ders.extend(pem::decode_all(&issuer.chain, pem::CERTIFICATE).map_err(unreadable)?);
        }
        Ok(ders.into_iter().filter_map(|der| Certificate::from_der(der).ok()).collect())
    }

    /// The trust under which this certificate holds, when there is one.
    async fn proven(&self, leaf: &Certificate, intermediates: &[Certificate]) -> Result<Option<Proven>> {
        let mut issuers: Vec<[u8; 32]> = Vec::new();
        for certificate in std::iter::once(leaf).chain(intermediates) {
            let issuer = digest::sha256(certificate.issuer().as_der());
            if !issuers.contains(&issuer) {
                issuers.push(issuer);
            }
        }
        let mut holding = Vec::new();
        for trusted in trust::of_subjects(&self.db, &issuers).await.map_err(failed)? {
            let anchors = self.anchors(&trusted).await?;
            let lists = self.lists_of(&trusted).await?;
            if let Some(path) = self.path_to(leaf, intermediates, anchors, lists).await? {
                holding.push((trusted, path));
            }
        }
        // Whoever trusts the issuer itself comes before whoever trusts one above it.
        holding.sort_by_key(|(_, path)| path.len());
        for (trusted, path) in holding {
            if self.any_is_withdrawn(&path, &trusted).await? {
                tracing::info!(registry = %trusted.registry, "a certificate was not taken in: it or one above it is revoked");
                continue;
            }
            let names = CertificateNames::of(leaf);
            if self.is_proof(&names).await? {
                tracing::info!(registry = %trusted.registry, "a certificate was not taken in: it is named by a registry, as \
                    the proof of an authority is, which is no device");
                continue;
            }
            let Some(device) = trusted.template.expand(&names) else {
                tracing::info!(registry = %trusted.registry, "a certificate was not taken in: it lacks what the template names");
                continue;
            };
            return Ok(Some(Proven { trusted, device }));
        }
        Ok(None)
    }

    /// Whether these are the names of a certificate by which an authority proved to a registry whose it is.
    async fn is_proof(&self, names: &CertificateNames) -> Result<bool> {
        // No text of the database holds U+0000.
        let name = Some(names.common_name.as_str()).filter(|name| !name.is_empty() && !name.contains('\0'));
        let Some(name) = name else { return Ok(false) };
        Ok(registries::by_id(&self.db, name).await.map_err(failed)?.is_some())
    }

    /// The certificates of a trusted authority: of one of ours all of the trusted key, so that it may be renewed. None when
    /// it is not active any more.
    async fn anchors(&self, trusted: &TrustedAuthority) -> Result<Vec<Certificate>> {
        let read = |der: &[u8]| {
            Certificate::from_der(der.to_vec())
                .map_err(|error| Error::failed_because("a trusted authority's certificate does not read", error))
        };
        let Some(id) = trusted.authority else { return Ok(vec![read(&trusted.der)?]) };
        let authority = store::authority::in_project(&self.db, trusted.project, id).await.map_err(failed)?;
        if !authority.is_some_and(|authority| authority.status == AuthorityStatus::Active) {
            return Ok(Vec::new());
        }
        let mut anchors = Vec::new();
        for stored in store::authority::certificates(&self.db, id).await.map_err(failed)? {
            let certificate = read(&stored.der)?;
            if digest::sha256(certificate.spki_der()) == trusted.spki_sha256 {
                anchors.push(certificate);
            }
        }
        Ok(anchors)
    }

    /// The revocation lists of a trusted authority outside that were handed in to the project.
    async fn lists_of(&self, trusted: &TrustedAuthority) -> Result<Vec<Crl>> {
        if trusted.authority.is_some() {
            return Ok(Vec::new());
        }
        let lists = store::foreign_list::of_issuer(&self.db, trusted.project, trusted.spki_sha256).await;
        Ok(lists.map_err(failed)?.and_then(|der| Crl::from_der(der).ok()).into_iter().collect())
    }

    /// A path that keeps all rules, validated beside the other work of this thread.
    async fn path_to(
        &self,
        leaf: &Certificate,
        intermediates: &[Certificate],
        anchors: Vec<Certificate>,
        lists: Vec<Crl>,
    ) -> Result<Option<Vec<Certificate>>> {
        let turn = self.state.registry.take_in.turns.acquire().await;
        let _turn = turn.map_err(|closed| Error::failed_because("the turns of taking in", closed))?;
        let (leaf, intermediates, now) = (leaf.clone(), intermediates.to_vec(), self.now());
        let validate = move || {
            let options = Options {
                intermediates: &intermediates,
                crls: &lists,
                purpose: Purpose::ClientAuth,
                ..Options::new(&anchors, now.seconds())
            };
            let verdict = chain::verify(&leaf, &options);
            if !verdict.valid {
                let why = verdict.refused.last().map_or_else(|| "no path".to_owned(), ToString::to_string);
                tracing::info!(%why, "a certificate was not taken in");
                return None;
            }
            let of = |place: &Place| match *place {
                Place::Leaf => Some(leaf.clone()),
                Place::Intermediate(index) => intermediates.get(index).cloned(),
                Place::Anchor(index) => anchors.get(index).cloned(),
            };
            verdict.path.iter().map(of).collect()
        };
        let done = tokio::task::spawn_blocking(validate).await;
        done.map_err(|error| Error::failed_because("validating a chain", error))
    }

    /// Whether a key of ours withdrew anything of the path, or the leaf's key is known as compromised. What is on hold is
    /// withdrawn for now.
    async fn any_is_withdrawn(&self, path: &[Certificate], trusted: &TrustedAuthority) -> Result<bool> {
        for certificate in path {
            let issuer = digest::sha256(certificate.issuer().as_der());
            if trust::is_revoked_by(&self.db, issuer, certificate.serial_content()).await.map_err(failed)? {
                return Ok(true);
            }
            let key = digest::sha256(certificate.spki_der());
            if trust::is_key_blocked(&self.db, trusted.project, key).await.map_err(failed)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn try_take_in(
        &self,
        data: &str,
        leaf: &Certificate,
        proven: &Proven,
        address: Option<IpAddr>,
    ) -> Result<RegisteredCertificate, Setback> {
        let began = self.now();
        let trusted = &proven.trusted;
        // The first of two connections may have registered it a moment ago.
        if let Some(known) = credentials::certificate(&self.db, &FingerprintQuery::Sha256(leaf.sha256())).await? {
            return Ok(known);
        }
        self.must_not_be_withdrawn(leaf).await?;
        let registry = registries::by_id(&self.db, trusted.registry.as_str()).await?.ok_or(Setback::Stale)?;
        if registry.is_disabled {
            return Err(Error::wrong_state(format!("the registry {} is disabled", registry.id)).into());
        }
        let named = devices::by_name(&self.db, &registry.id, &proven.device.name).await?;
        let (device, ready) = match &named {
            Some((device, _)) => (device.clone(), self.ready_renewal(device, leaf, proven, began).await?),
            None => {
                self.must_have_room_for_device(trusted.project).await?;
                let device = Device {
                    id: DeviceId::from_random(self.random.octets()),
                    registry: registry.id,
                    project: trusted.project,
                    folder_key: registry.folder.key,
                    name: proven.device.name.clone(),
                    description: String::new(),
                    labels: proven.device.labels.clone(),
                    topic_aliases: Default::default(),
                    version: 1,
                    created_at: began,
                };
                let insert = devices::insert(&device);
                (device, insert)
            }
        };
        let owner = Owner::Device(device.id.clone());
        let handed_in = HandedIn::read(data, "certificate")?;
        let registered =
            self.registered(handed_in, owner, trusted.project, Some(device.registry.clone()), began).await?;
        let registered = RegisteredCertificate { trusted_authority: Some(trusted.id.clone()), ..registered };
        let (event, outcome) = match named {
            Some(_) => (
                "yandex.cloud.audit.iot.devices.AddDeviceCertificate",
                Outcome::AddCertificate(Box::new(registered.clone())),
            ),
            None => ("yandex.cloud.audit.iot.devices.CreateDevice", Outcome::CreateDevice(device.clone())),
        };
        let decided = Decided {
            project: trusted.project,
            event,
            kind: "device",
            detail: json!({
                "id": device.id.as_str(), "registryId": device.registry.as_str(), "name": device.name,
                "fingerprint": hex(&registered.fingerprint.sha256), "trustedAuthority": trusted.id.as_str(),
            }),
            changes: Changes::new()
                .statement(trust::hold(&trusted.id))
                .with(ready)
                .with(credentials::insert_certificate(&registered)),
            ends: Vec::new(),
            began,
            outcome,
        };
        let caller = self.taken_in(trusted, address).await?;
        match self.carry_out(&Asked { caller: &caller, repeat: None }, decided).await {
            Ok(_) => Ok(registered),
            // Somebody else was faster: it is looked at again, what is there now decides.
            Err(Setback::Conflict(constraint)) if clash(&constraint, &device.name).is_some() => Err(Setback::Stale),
            Err(setback) => Err(setback),
        }
    }

    /// What makes room for one more certificate of a device that this trust made of the same name.
    async fn ready_renewal(
        &self,
        device: &Device,
        leaf: &Certificate,
        proven: &Proven,
        now: Time,
    ) -> Result<Changes, Setback> {
        let owner = Owner::Device(device.id.clone());
        let certificates = credentials::certificates(&self.db, &owner).await?;
        let refuse = |why: &str| Setback::from(Error::wrong_state(format!("the device \"{}\" {why}", device.name)));
        let of_trust: Vec<&RegisteredCertificate> =
            certificates.iter().filter(|known| known.trusted_authority.as_ref() == Some(&proven.trusted.id)).collect();
        if of_trust.is_empty() {
            return Err(refuse("was made otherwise and is not taken over"));
        }
        let is_same = |known: &&RegisteredCertificate| {
            let names = Certificate::from_pem(&known.certificate_data).ok().map(|known| CertificateNames::of(&known));
            names
                .and_then(|names| proven.trusted.template.expand(&names))
                .is_some_and(|it| it.exact == proven.device.exact)
        };
        if !of_trust.iter().all(is_same) {
            return Err(refuse("is another one, whose certificates only come to the same name"));
        }
        if of_trust.iter().any(|known| known.state == CertificateState::Inactive) {
            return Err(refuse("is shut out: a certificate of it is INACTIVE"));
        }
        let mut changes = Changes::new().statement(devices::touch(&device.id, device.version));
        if certificates.len() >= self.registry_settings.certificates_per_owner {
            // One that was revoked here stays for as long as it could be shown again.
            let may_go =
                |known: &&&RegisteredCertificate| known.state == CertificateState::Active || known.not_after < now;
            let oldest = of_trust.iter().filter(may_go).min_by_key(|known| known.not_before);
            let oldest = oldest.filter(|oldest| oldest.not_before <= Time::from_seconds(leaf.not_before()));
            let oldest = oldest.ok_or_else(|| refuse("has as many certificates as it may, and none that could go"))?;
            changes = changes.statement(credentials::delete_certificate(&owner, oldest.fingerprint.sha256));
        }
        Ok(changes)
    }

    /// Who registers: the device itself, known by its certificate.
    async fn taken_in(&self, trusted: &TrustedAuthority, address: Option<IpAddr>) -> Result<Caller> {
        let organization = store::project::organization_of(&self.db, trusted.project).await.map_err(failed)?;
        let organization = organization.ok_or_else(|| Error::failed("a registry without its project"))?;
        Ok(Caller {
            actor: Actor { kind: ActorKind::Device, id: None, method: "certificate", credential: None, address },
            organization,
            organization_role: OrganizationRole::NoAccess,
            default_project: Some(trusted.project),
            projects: Default::default(),
            applications: Default::default(),
        })
    }
}
