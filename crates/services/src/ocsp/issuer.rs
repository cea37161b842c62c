//! Keys of authorities as requests name them: by hashes of their name and of themselves. Each belongs to one epoch of the
//! configuration and is looked up again when that has moved on.

use super::responder::Responder;
use crate::context::{Context, failed};
use crate::list_shelf::is_passing;
use domain::{AuthorityKeyId, Error, Result, Time};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use store::ocsp::IssuerKey;
use x509::CertificateId;

/// How many keys of authorities are remembered before anybody asks.
const REMEMBERED_MAX: u32 = 1000;
/// How many of their names are read in a row.
const READ_AT_ONCE: usize = 32;

/// A key whose certificates are asked about.
pub(super) struct StatusIssuer {
    /// The number of this way to name it, which stays for the life of the process.
    pub(super) number: u32,
    pub(super) key: IssuerKey,
    /// Whether its authority lets anybody speak of its certificates.
    pub(super) is_spoken_of: bool,
    /// Its responders, the newest first.
    pub(super) responders: Vec<Arc<Responder>>,
    epoch: u64,
}

/// What is remembered of issuers. Names that are none of ours are not, so there are four for each key at most: two hash
/// functions, each with or without parameters.
#[derive(Default)]
pub(super) struct Issuers(RwLock<Known>);

#[derive(Default)]
struct Known {
    by_name: HashMap<Box<[u8]>, Arc<StatusIssuer>>,
    numbers: HashMap<Box<[u8]>, (AuthorityKeyId, u32)>,
}

impl Issuers {
    /// The issuer of this name, if what is remembered of it belongs to this epoch.
    pub(super) fn find(&self, name: &[u8], epoch: u64) -> Option<Arc<StatusIssuer>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.by_name.get(name).filter(|issuer| issuer.epoch == epoch).cloned()
    }

    /// The issuer of this name as it was when it was last looked up.
    fn find_of_any_epoch(&self, name: &[u8]) -> Option<Arc<StatusIssuer>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.by_name.get(name).cloned()
    }

    /// The numbers of a key.
    pub(super) fn numbers_of(&self, key: AuthorityKeyId) -> Vec<u32> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.numbers.values().filter(|(one, _)| *one == key).map(|(_, number)| *number).collect()
    }

    /// The number of a name, which is that of this key.
    fn number(&self, name: &[u8], key: AuthorityKeyId) -> u32 {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(known.numbers.len()).unwrap_or(u32::MAX);
        known.numbers.entry(name.into()).or_insert((key, next)).1
    }

    fn remember(&self, name: &[u8], issuer: Arc<StatusIssuer>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let newest = known.by_name.get(name).map_or(0, |known| known.epoch);
        if newest <= issuer.epoch {
            known.by_name.insert(name.into(), issuer);
        }
    }
}

impl Context {
    /// The issuer that a request names; nothing when it is none of ours. While the shared database is away it is what was
    /// known of it before: nothing but revoked is said then.
    pub(super) async fn status_issuer(&self, id: &CertificateId<'_>) -> Result<Option<Arc<StatusIssuer>>> {
        // What changes while it is read belongs to a later epoch.
        let epoch = self.db.configuration_epoch();
        let issuers = &self.state.ocsp.issuers;
        if let Some(known) = issuers.find(id.issuer_der, epoch) {
            return Ok(Some(known));
        }
        match self.read_issuer(id, epoch).await {
            Err(error) if is_passing(&error) => issuers.find_of_any_epoch(id.issuer_der).map(Some).ok_or(error),
            read => read,
        }
    }

    /// Remembers issuers before anybody asks about them, so that they are known while the shared database is away.
    pub(crate) async fn remember_issuers(&self) -> Result<()> {
        let hashes = store::ocsp::issuer_hashes(&self.db, REMEMBERED_MAX).await.map_err(failed)?;
        let mut read = 0;
        for (hash, name_hash, key_hash) in hashes {
            let der = CertificateId::encode(hash, &name_hash, &key_hash, &[1]);
            let id = CertificateId::read(&der).map_err(|error| Error::failed_because("hashes of a key", error))?;
            if read < READ_AT_ONCE
                && self.state.ocsp.issuers.find(id.issuer_der, self.db.configuration_epoch()).is_none()
            {
                self.status_issuer(&id).await?;
                read += 1;
            }
        }
        Ok(())
    }

    async fn read_issuer(&self, id: &CertificateId<'_>, epoch: u64) -> Result<Option<Arc<StatusIssuer>>> {
        let issuers = &self.state.ocsp.issuers;
        let Some(hash) = id.hash else { return Ok(None) };
        let key = store::ocsp::issuer(&self.db, hash, id.issuer_name_hash, id.issuer_key_hash).await;
        let Some(key) = key.map_err(failed)? else { return Ok(None) };
        let authority = store::authority::by_id_even_deleted(&self.db, key.authority).await.map_err(failed)?;
        let authority = authority.ok_or_else(|| Error::failed("a key without its authority"))?;
        let issuer = Arc::new(StatusIssuer {
            number: issuers.number(id.issuer_der, key.key),
            key,
            is_spoken_of: authority.configuration.ocsp.is_on(),
            responders: self.responders_of(key.key).await?,
            epoch,
        });
        issuers.remember(id.issuer_der, issuer.clone());
        Ok(Some(issuer))
    }

    /// The issuer with a responder that is valid now. One that is missing is made.
    pub(super) async fn issuer_with_responder(
        &self,
        issuer: Arc<StatusIssuer>,
        now: Time,
    ) -> Result<(Arc<StatusIssuer>, Arc<Responder>)> {
        let valid = |responders: &[Arc<Responder>]| responders.iter().find(|one| one.is_valid(now)).cloned();
        if let Some(responder) = valid(&issuer.responders) {
            return Ok((issuer, responder));
        }
        self.make_missing_responder(issuer.key.key).await?;
        let responders = self.responders_of(issuer.key.key).await?;
        let responder = valid(&responders)
            .ok_or_else(|| Error::unavailable("the authority has no responder whose certificate is valid", 60))?;
        let (number, key, epoch) = (issuer.number, issuer.key, issuer.epoch);
        Ok((Arc::new(StatusIssuer { number, key, is_spoken_of: true, responders, epoch }), responder))
    }
}
