//! Issuers: a profile with its policy and its authority, read together and kept until the configuration changes; and the
//! signing keys of authorities, opened once.

use crate::context::{Context, failed, key_failed};
use domain::authority::{Authority, AuthorityKey, Switch};
use domain::issuance::{ActiveCertificate, Issuer, IssuingAuthority};
use domain::job::Job;
use domain::{AuthorityKeyId, CrlId, Error, OrganizationId, ProfileId, Result};
use keys::sign::Signer;
use keys::{Place, PrivateKey};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use store::Changes;
use uuid::Uuid;
use x509::chain::PolicyFacts;
use x509::{Certificate, Uri, pem};

/// Issuers by profile, and authorities by id, of one epoch of the configuration.
#[derive(Default)]
pub(crate) struct IssuerCache(RwLock<Known>);

#[derive(Default)]
struct Known {
    epoch: u64,
    issuers: HashMap<(OrganizationId, ProfileId), Arc<Issuer>>,
    authorities: HashMap<Uuid, Arc<IssuingAuthority>>,
}

impl IssuerCache {
    fn read<T>(&self, epoch: u64, find: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.epoch == epoch { find(&known) } else { None }
    }

    /// Forgets everything: a commit has shown that something of it is out of date.
    pub(crate) fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }

    fn write(&self, epoch: u64, add: impl FnOnce(&mut Known)) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.epoch < epoch {
            *known = Known { epoch, ..Known::default() };
        }
        if known.epoch == epoch {
            add(&mut known);
        }
    }
}

impl Context {
    /// The issuer behind a profile of the caller's organisation.
    pub(crate) async fn issuer_for(&self, organization: OrganizationId, profile: ProfileId) -> Result<Arc<Issuer>> {
        let epoch = self.db.configuration_epoch();
        let key = (organization, profile);
        if let Some(issuer) = self.state.issuers.read(epoch, |known| known.issuers.get(&key).cloned()) {
            return Ok(issuer);
        }
        let found = store::profile::by_id(&self.db, organization, profile).await.map_err(failed)?;
        let profile = found.ok_or_else(|| Error::not_found(format!("there is no certificate profile {profile}")))?;
        let policy = store::profile::policy(&self.db, organization, profile.policy).await.map_err(failed)?;
        let policy =
            policy.ok_or_else(|| Error::not_found("the profile's certificate policy is not there any more"))?;
        let authority = match profile.authority() {
            None => None,
            Some(id) => match store::authority::by_id(&self.db, organization, id).await.map_err(failed)? {
                None => None,
                Some(authority) => Some(self.issuing(&authority).await?),
            },
        };
        let issuer = Arc::new(Issuer { profile, policy, authority });
        self.state.issuers.write(epoch, |known| {
            known.issuers.insert(key, issuer.clone());
        });
        Ok(issuer)
    }

    /// An authority as an issuer of certificates.
    pub(crate) async fn issuing(&self, authority: &Authority) -> Result<Arc<IssuingAuthority>> {
        let epoch = self.db.configuration_epoch();
        let known = self.state.issuers.read(epoch, |known| known.authorities.get(&authority.id.0).cloned());
        if let Some(issuing) = known.filter(|known| known.version == authority.version) {
            return Ok(issuing);
        }
        let key = self.authority_key(authority.active_key).await?;
        let active = match authority.active_certificate {
            None => None,
            Some(id) => {
                let stored = store::authority::certificate(&self.db, authority.id, id).await.map_err(failed)?;
                let stored = stored.ok_or_else(|| Error::failed("an authority's active certificate is not stored"))?;
                Some(active_certificate(stored)?)
            }
        };
        let (crl, shard) = store::authority::open_crl(&self.db, key.id).await.map_err(failed)?.unwrap_or((key.crl, 0));
        let (crl_urls, ocsp_urls, ca_issuer_urls) = self.publication_urls(authority, crl, active.as_ref())?;
        self.note_list_urls(crl, &crl_urls).await?;
        let issuing = Arc::new(IssuingAuthority {
            id: authority.id,
            name: authority.name.clone(),
            status: authority.status,
            version: authority.version,
            key: key.id,
            key_algorithm: key.algorithm,
            issuer_name_id: key.issuer_name_id,
            crl,
            shard,
            active,
            crl_urls,
            ocsp_urls,
            ca_issuer_urls,
        });
        self.state.issuers.write(epoch, |known| {
            known.authorities.insert(authority.id.0, issuing.clone());
        });
        Ok(issuing)
    }

    /// Where certificates of an authority say that its list is, that their status is told and that its certificate is (contract
    /// §1.8). From configuration only, never from a request.
    fn publication_urls(
        &self,
        authority: &Authority,
        crl: CrlId,
        active: Option<&ActiveCertificate>,
    ) -> Result<(Vec<Uri>, Vec<Uri>, Vec<Uri>)> {
        let base = self.publication_base(authority);
        let parse = |text: String| {
            Uri::parse(&text).map_err(|error| Error::failed(format!("the publication URL is not usable: {error}")))
        };
        let crl = parse(format!("{base}/api/v1/pki/crl/{crl}/der"))?;
        let ocsp = match authority.configuration.ocsp {
            Switch::On => vec![parse(format!("{base}/api/v1/pki/ocsp"))?],
            Switch::Off => Vec::new(),
        };
        let ca_issuers = match active {
            None => Vec::new(),
            Some(active) => {
                vec![parse(format!("{base}/api/v1/pki/ca/{}/certificates/{}/der", authority.id, active.id))?]
            }
        };
        Ok((vec![crl], ocsp, ca_issuers))
    }

    /// Where what certificates name is published.
    pub(crate) fn publication_base<'a>(&'a self, authority: &'a Authority) -> &'a str {
        let base = authority.configuration.publication_url.as_deref().unwrap_or(&self.addresses.publication_url);
        base.trim_end_matches('/')
    }

    /// Keeps the addresses of a list that certificates are going to name: when the list is for a part of the certificates
    /// some day, it says so by them. A list that names others only is signed anew, before certificates with a new address are
    /// held against it.
    async fn note_list_urls(&self, crl: CrlId, urls: &[Uri]) -> Result<()> {
        let known = store::authority::crl_urls(&self.db, crl).await.map_err(failed)?;
        let mut changes = Changes::new();
        for url in urls.iter().filter(|url| !known.iter().any(|known| known == url.as_str())) {
            changes = changes.statement(store::authority::note_crl_url(crl, url.as_str()));
        }
        if !changes.is_empty() && !known.is_empty() {
            let now = self.now();
            changes = changes.statement(store::job::enqueue(self.new_id(), &Job::PublishCrl { crl }, now, now));
        }
        if changes.is_empty() { Ok(()) } else { self.commit(changes).await }
    }

    pub(crate) async fn authority_key(&self, id: AuthorityKeyId) -> Result<AuthorityKey> {
        let key = store::authority::key(&self.db, id).await.map_err(failed)?;
        key.ok_or_else(|| Error::failed(format!("authority key {id} is not stored")))
    }

    /// What signs with an authority's key. The opened key is kept for the life of the process.
    pub(crate) async fn signer(&self, id: AuthorityKeyId) -> Result<Signer> {
        let known = self.state.signers.read().unwrap_or_else(PoisonError::into_inner).get(&id.0).cloned();
        if let Some(key) = known {
            return Ok(Signer::new(key, self.key_pool.clone()));
        }
        let key = self.authority_key(id).await?;
        let sealed = key.sealed.as_deref().ok_or_else(|| Error::failed("a software key without its sealed half"))?;
        let place = Place { table: "authority_keys", row: key.id.as_bytes(), project: key.project.as_bytes() };
        let opened = self.open(place, sealed).await?;
        let private = Arc::new(PrivateKey::from_pkcs8(opened.expose()).map_err(key_failed)?);
        if private.public_spki_der() != key.spki {
            return Err(Error::failed(format!(
                "the private half of authority key {id} is not that of its public half"
            )));
        }
        self.state.signers.write().unwrap_or_else(PoisonError::into_inner).insert(id.0, private.clone());
        Ok(Signer::new(private, self.key_pool.clone()))
    }
}

pub(crate) fn active_certificate(stored: domain::authority::AuthorityCertificate) -> Result<ActiveCertificate> {
    let unreadable = |error| Error::failed_because("a stored authority certificate does not read", error);
    let pem = pem::encode(pem::CERTIFICATE, &stored.der);
    let chain_pem = if stored.chain.is_empty() { pem.clone() } else { format!("{pem}\n{}", stored.chain) };
    let certificate = Certificate::from_der(stored.der).map_err(unreadable)?;
    let mut constraints = Vec::new();
    let mut extended_key_usages = Vec::new();
    let mut policies = vec![PolicyFacts::of(&certificate).map_err(unreadable)?];
    constraints.extend(certificate.extensions().name_constraints().map_err(unreadable)?);
    extended_key_usages.extend(certificate.extensions().extended_key_usages().map_err(unreadable)?);
    if !stored.chain.is_empty() {
        for der in pem::decode_all(&stored.chain, pem::CERTIFICATE).map_err(unreadable)? {
            let parent = Certificate::from_der(der).map_err(unreadable)?;
            constraints.extend(parent.extensions().name_constraints().map_err(unreadable)?);
            extended_key_usages.extend(parent.extensions().extended_key_usages().map_err(unreadable)?);
            policies.push(PolicyFacts::of(&parent).map_err(unreadable)?);
        }
    }
    Ok(ActiveCertificate { id: stored.id, certificate, pem, chain_pem, constraints, extended_key_usages, policies })
}
