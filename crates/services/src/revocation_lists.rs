//! Revocation lists: served to anybody, signed anew when they run out.

use crate::authorities::about;
use crate::context::{Context, failed};
use crate::subject::subject_of;
use domain::authority::AuthorityKey;
use domain::caller::Caller;
use domain::job::Job;
use domain::permission::Action;
use domain::revocation::{LIST_LIFETIME_SECONDS, LIST_RENEWAL_SECONDS, ListIssuer, ListToBeSigned, missing_from};
use domain::{AuthorityId, CrlId, Error, Result, Time};
use store::authority::CrlRecord;
use store::{Changes, StoreError};
use x509::{Certificate, Crl, DistinguishedName, PublicKey, RevokedCertificate, Uri, pem};

/// A list as its record names it.
pub struct RenderedList {
    /// The record's id, which certificates name.
    pub id: CrlId,
    /// The list in PEM.
    pub crl: String,
}

/// A list as it is handed to anybody.
pub struct PublishedList {
    /// Its number.
    pub number: u32,
    /// The list.
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Time,
    /// When it runs out.
    pub next_update: Time,
}

impl Context {
    /// The newest list of a record, signed anew when it has run out.
    pub async fn published_list(&self, id: CrlId) -> Result<PublishedList> {
        let mut record = self.list_record(id).await?;
        let now = self.now();
        if record.der.is_none() || record.next_update.is_none_or(|end| end <= now) {
            self.publish_list(id).await?;
            record = self.list_record(id).await?;
        }
        match (record.der, record.this_update, record.next_update) {
            (Some(der), Some(this_update), Some(next_update)) => {
                Ok(PublishedList { number: record.number, der, this_update, next_update })
            }
            _ => Err(Error::failed("a list that was just published is not there")),
        }
    }

    /// The lists of an authority.
    pub async fn lists(&self, caller: &Caller, id: AuthorityId) -> Result<Vec<RenderedList>> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::ReadAuthority, &about(&authority.name))?;
        let mut lists = Vec::new();
        for record in store::authority::crls(&self.db, authority.id).await.map_err(failed)? {
            let list = self.published_list(record.id).await?;
            lists.push(RenderedList { id: record.id, crl: pem::encode(pem::CRL, &list.der) });
        }
        Ok(lists)
    }

    /// Signs and publishes the next list of a record: what was committed before this was called is in it. Its number is one
    /// more than that of the list it replaces; when another list was published in between, that one may have been read
    /// too early, and this begins anew.
    pub async fn publish_list(&self, id: CrlId) -> Result<()> {
        const ATTEMPTS_MAX: usize = 5;
        for _ in 0..ATTEMPTS_MAX {
            let record = self.list_record(id).await?;
            let certificate = store::authority::newest_certificate_of(&self.db, record.key).await.map_err(failed)?;
            let next = match certificate {
                Some(certificate) => {
                    let certificate = Certificate::from_der(certificate.der)
                        .map_err(|error| Error::failed_because("an authority's certificate does not read", error))?;
                    self.list_under(record, &certificate).await?
                }
                None => {
                    let authority = store::authority::by_id_even_deleted(&self.db, record.authority).await;
                    let authority = authority.map_err(failed)?;
                    let authority = authority.ok_or_else(|| Error::failed("a list without its authority"))?;
                    self.next_list(record, &subject_of(&authority.configuration)?, None).await?
                }
            };
            match self.db.commit(Changes::new().statement(store::authority::publish_crl(&next))).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Error::unavailable("other lists are published all the time", 1))
    }

    /// Signs and publishes all lists of an authority now.
    pub async fn publish_lists(&self, caller: &Caller, id: AuthorityId) -> Result<Vec<RenderedList>> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::EditAuthority, &about(&authority.name))?;
        for record in store::authority::crls(&self.db, authority.id).await.map_err(failed)? {
            self.publish_list(record.id).await?;
        }
        self.lists(caller, id).await
    }

    /// The list of a key with the name and key identifier of a certificate that is about to become active, so that both
    /// are committed together: relying parties find the list's issuer by them.
    pub(crate) async fn list_for(&self, key: &AuthorityKey, certificate: &Certificate) -> Result<CrlRecord> {
        self.list_under(self.list_record(key.crl).await?, certificate).await
    }

    async fn list_under(&self, record: CrlRecord, certificate: &Certificate) -> Result<CrlRecord> {
        let key_id = certificate.extensions().subject_key_id().ok().flatten();
        self.next_list(record, certificate.subject(), key_id).await
    }

    /// The list after a record's newest one. It is not stored yet.
    async fn next_list(&self, record: CrlRecord, name: &DistinguishedName, key_id: Option<&[u8]>) -> Result<CrlRecord> {
        let now = self.clock.now_to_sign()?;
        if record.this_update.is_some_and(|previous| now < previous) {
            return Err(Error::unavailable(
                "the clock is behind the newest revocation list; the list stays as it is",
                60,
            ));
        }
        let key = self.authority_key(record.key).await?;
        let public = PublicKey::from_spki_der(&key.spki)
            .map_err(|problem| Error::failed(format!("a stored authority key is not usable: {problem}")))?;
        let number = record.number + 1;
        let key_id = key_id.map_or_else(|| public.key_id_sha1().to_vec(), <[u8]>::to_vec);
        let (name, urls) = (name.clone(), self.scope_of(&record).await?);
        let entries = self.list_entries(&record, now).await?;
        let signer = self.signer(key.id).await?;
        let runtime = tokio::runtime::Handle::current();
        let der = apart(move || {
            let issuer = ListIssuer {
                name: &name,
                key_id: &key_id,
                key_algorithm: key.algorithm,
                number: number.into(),
                urls: &urls,
            };
            runtime.block_on(signer.revocation_list(ListToBeSigned::new(&issuer, entries, now)))
        })
        .await?;
        Ok(CrlRecord {
            number,
            der: Some(der),
            this_update: Some(now),
            next_update: Some(now.plus_seconds(LIST_LIFETIME_SECONDS)),
            ..record
        })
    }

    /// The addresses by which certificates name a list that is one of several of its key; none for the only one.
    async fn scope_of(&self, record: &CrlRecord) -> Result<Vec<Uri>> {
        let open = store::authority::open_crl(&self.db, record.key).await.map_err(failed)?;
        if open.is_none_or(|(_, shard)| shard == 0) {
            return Ok(Vec::new());
        }
        let urls = store::authority::crl_urls(&self.db, record.id).await.map_err(failed)?;
        let read =
            |url: &String| Uri::parse(url).map_err(|error| Error::failed_because("the address of a list", error));
        urls.iter().map(read).collect()
    }

    /// Opens another list for each key whose open one is named by so many certificates, and signs the full ones anew: from
    /// now on they are for their own certificates alone.
    pub async fn open_lists(&self, certificates: u32) -> Result<()> {
        let counted = store::authority::count_into_crls(&self.db).await.map_err(failed)?;
        match self.db.commit(counted).await {
            Ok(()) | Err(StoreError::Stale(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        for full in store::authority::full_crls(&self.db, certificates).await.map_err(failed)? {
            let next = CrlRecord {
                id: self.new_id(),
                shard: full.shard + 1,
                number: 0,
                der: None,
                this_update: None,
                next_update: None,
                ..full
            };
            match self.db.commit(Changes::new().statement(store::authority::insert_crl(&next)).configuration()).await {
                Ok(()) => {}
                // Another node was faster.
                Err(StoreError::Conflict { .. }) => continue,
                Err(error) => return Err(failed(error)),
            }
            // The addresses of the new one are noted before its first list is signed.
            let authority = store::authority::by_id_even_deleted(&self.db, next.authority).await.map_err(failed)?;
            if let Some(authority) = authority {
                self.issuing(&authority).await?;
            }
            for id in [next.id, full.id] {
                self.publish_list(id).await?;
            }
        }
        Ok(())
    }

    /// Every revocation under the key that has not expired by the previous list: an entry stays for one list longer
    /// than its certificate lives.
    async fn list_entries(&self, record: &CrlRecord, now: Time) -> Result<Vec<RevokedCertificate>> {
        const PIECE: u32 = 5_000;
        let kept_from = record.this_update.unwrap_or(now);
        let mut entries: Vec<RevokedCertificate> = Vec::new();
        loop {
            let after = entries.last().map(|last| last.serial_number.integer_content()).unwrap_or_default();
            let (key, shard) = (record.key, record.shard);
            let piece = store::revocation::entries(&self.db, key, shard, kept_from, &after, PIECE).await;
            let piece = piece.map_err(failed)?;
            let is_last = piece.len() < PIECE as usize;
            entries.extend(piece);
            if is_last {
                break;
            }
        }
        self.must_name_what_was_named(record, entries, kept_from).await
    }

    /// Gives the entries back unless they lack what the previous list named and whose certificate has not expired by then
    /// and whose hold was not ended (invariant D4): rows that were lost must not make revoked certificates good again.
    async fn must_name_what_was_named(
        &self,
        record: &CrlRecord,
        entries: Vec<RevokedCertificate>,
        kept_from: Time,
    ) -> Result<Vec<RevokedCertificate>> {
        let Some(der) = record.der.clone() else { return Ok(entries) };
        let (entries, missing) = apart(move || {
            let previous = Crl::from_der(der)
                .map_err(|error| Error::failed_because("a stored revocation list does not read", error))?;
            let named = previous.entries().map(|entry| entry.serial_content);
            let missing: Vec<Vec<u8>> = missing_from(named, &entries).map(<[u8]>::to_vec).collect();
            Ok((entries, missing))
        })
        .await?;
        for serial in missing {
            let ended = store::revocation::ended(&self.db, record.key, &serial).await.map_err(failed)?;
            if !ended.is_some_and(|ended| ended.released_at.is_some() || ended.not_after < kept_from) {
                let serial: String = serial.iter().map(|octet| format!("{octet:02x}")).collect();
                return Err(Error::failed(format!(
                    "the next revocation list {} would lack the serial number {serial}, which the present one names; \
                     the present one stays",
                    record.id
                )));
            }
        }
        Ok(entries)
    }

    /// The numbers of the newest lists.
    pub async fn list_numbers(&self) -> Result<Vec<(CrlId, u32)>> {
        store::authority::crl_numbers(&self.db).await.map_err(failed)
    }

    /// Plans the jobs that sign the lists anew that run out soon, however often they failed.
    pub async fn begin_lists(&self) -> Result<()> {
        for crl in self.lists_due().await? {
            self.enqueue(&Job::PublishCrl { crl }, self.now()).await?;
        }
        Ok(())
    }

    /// The lists that run out soon.
    pub async fn lists_due(&self) -> Result<Vec<CrlId>> {
        let now = self.now();
        store::authority::crls_due(&self.db, now.plus_seconds(LIST_RENEWAL_SECONDS), now).await.map_err(failed)
    }

    async fn list_record(&self, id: CrlId) -> Result<CrlRecord> {
        let record = store::authority::crl(&self.db, id).await.map_err(failed)?;
        record.ok_or_else(|| Error::not_found("there is no such revocation list"))
    }
}

/// Long lists are made apart, so that no request waits for them.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::failed_because("making a revocation list", error))?
}
