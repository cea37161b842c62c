//! Revocation lists: served to anybody, signed anew when they run out.

use crate::authorities::about;
use crate::context::{Context, failed};
use crate::subject::subject_of;
use domain::authority::AuthorityKey;
use domain::caller::Caller;
use domain::permission::Action;
use domain::revocation::{LIST_LIFETIME_SECONDS, LIST_RENEWAL_SECONDS, ListIssuer, ListToBeSigned};
use domain::{AuthorityId, CrlId, Error, Result, Time};
use store::authority::CrlRecord;
use store::{Changes, StoreError};
use x509::{Certificate, DistinguishedName, PublicKey, RevokedCertificate, pem};

/// A list as its record names it.
pub struct RenderedList {
    /// The record's id, which certificates name.
    pub id: CrlId,
    /// The list in PEM.
    pub crl: String,
}

impl Context {
    /// The newest list of a record in DER, signed anew when it has run out.
    pub async fn published_list(&self, id: CrlId) -> Result<Vec<u8>> {
        let record = self.list_record(id).await?;
        let now = self.now();
        let is_good = record.next_update.is_some_and(|end| now < end);
        if let (true, Some(der)) = (is_good, record.der) {
            return Ok(der);
        }
        self.publish_list(id).await?;
        let record = self.list_record(id).await?;
        record.der.ok_or_else(|| Error::failed("a list that was just published is not there"))
    }

    /// The lists of an authority.
    pub async fn lists(&self, caller: &Caller, id: AuthorityId) -> Result<Vec<RenderedList>> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::ReadAuthority, &about(&authority.name))?;
        let mut lists = Vec::new();
        for record in store::authority::crls(&self.db, authority.id).await.map_err(failed)? {
            let der = self.published_list(record.id).await?;
            lists.push(RenderedList { id: record.id, crl: pem::encode(pem::CRL, &der) });
        }
        Ok(lists)
    }

    /// Signs and publishes the next list of a record. Its number is one more than that of the list it replaces, and the
    /// commit fails when another list was published in between; that one is newer than what was asked for.
    pub async fn publish_list(&self, id: CrlId) -> Result<()> {
        let record = self.list_record(id).await?;
        let authority = store::authority::by_id_even_deleted(&self.db, record.authority).await.map_err(failed)?;
        let authority = authority.ok_or_else(|| Error::failed("a list without its authority"))?;
        let issuing = self.issuing(&authority).await?;
        let next = match &issuing.active {
            Some(active) => self.list_under(record, &active.certificate).await?,
            None => self.next_list(record, &subject_of(&authority.configuration)?, None).await?,
        };
        match self.db.commit(Changes::new().statement(store::authority::publish_crl(&next))).await {
            Ok(()) | Err(StoreError::Stale(_)) => Ok(()),
            Err(error) => Err(failed(error)),
        }
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
        let computed_key_id = public.key_id_sha1();
        let issuer = ListIssuer {
            name,
            key_id: key_id.unwrap_or(&computed_key_id),
            key_algorithm: key.algorithm,
            number: number.into(),
        };
        let entries = self.list_entries(&record, now).await?;
        let der = self.signer(key.id).await?.revocation_list(ListToBeSigned::new(&issuer, entries, now)).await?;
        Ok(CrlRecord {
            number,
            der: Some(der),
            this_update: Some(now),
            next_update: Some(now.plus_seconds(LIST_LIFETIME_SECONDS)),
            ..record
        })
    }

    /// Every revocation under the key that has not expired by the previous list: an entry stays for one list longer
    /// than its certificate lives.
    async fn list_entries(&self, record: &CrlRecord, now: Time) -> Result<Vec<RevokedCertificate>> {
        let kept_from = record.this_update.unwrap_or(now);
        store::revocation::entries(&self.db, record.key, record.shard, kept_from).await.map_err(failed)
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
