//! Revocation lists: served to anybody, signed anew when they run out.

use crate::audit::{self, Object};
use crate::authorities::about;
use crate::context::{Context, failed};
use crate::list_shelf::Kind;
use crate::patient::patiently;
use crate::subject::subject_of;
use async_recursion::async_recursion as compiled_here;
use domain::authority::AuthorityKey;
use domain::caller::Caller;
use domain::job::Job;
use domain::permission::Action;
use domain::revocation::{
    DELTA_BASE_SECONDS, DELTA_OVERLAP_SECONDS, LIST_LIFETIME_SECONDS, LIST_RENEWAL_SECONDS, ListIssuer, ListSettings,
    ListToBeSigned, missing_from,
};
use domain::{AuthorityId, CrlId, Error, Result, Time};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;
use store::authority::{CrlRecord, DeltaRecord};
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
    pub number: u64,
    /// The list.
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Time,
    /// When it runs out.
    pub next_update: Time,
}

/// What is put to another place.
pub struct ListsToDeliver {
    /// The number of the complete list.
    pub number: u64,
    /// File names and lists.
    pub files: Vec<(String, Vec<u8>)>,
}

/// What a list of changes says.
struct ListChanges {
    base_number: u64,
    base_at: Time,
    entries: Vec<RevokedCertificate>,
}

impl Context {
    /// The newest list of a record, signed anew when it has run out. While the shared database is away, the newest that
    /// this node knows.
    #[compiled_here]
    pub async fn published_list(&self, id: CrlId) -> Result<Arc<PublishedList>> {
        self.shelved(id, Kind::Complete, self.read_list(id).await)
    }

    async fn read_list(&self, id: CrlId) -> Result<PublishedList> {
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
    #[compiled_here]
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
    #[compiled_here]
    pub async fn publish_list(&self, id: CrlId) -> Result<()> {
        let asked_at = Instant::now();
        let turn = self.state.publishing.turn(id);
        let mut last_began = turn.lock().await;
        // One that began after this was asked for has everything in it that was committed before.
        if last_began.is_some_and(|began| began >= asked_at) {
            return Ok(());
        }
        let began = Instant::now();
        self.publish_list_now(id).await?;
        *last_began = Some(began);
        Ok(())
    }

    async fn publish_list_now(&self, id: CrlId) -> Result<()> {
        const ATTEMPTS_MAX: usize = 5;
        for _ in 0..ATTEMPTS_MAX {
            let record = self.list_record(id).await?;
            let next = self.list_after(record, 0).await?;
            let mut changes = Changes::new().statement(store::authority::publish_crl(&next));
            if !self.outward.list_targets.is_empty() {
                let now = self.now();
                changes = changes.statement(store::job::enqueue(self.new_id(), &Job::DeliverCrl { crl: id }, now, now));
            }
            match self.db.commit(changes.urgent()).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Error::unavailable("other lists are published all the time", 1))
    }

    /// Signs and publishes a list whose number is not below this one, after a restore: what there was of changes begins
    /// anew with it, because it may follow lists that are not known here. Gives its number.
    pub(crate) async fn publish_list_from(&self, id: CrlId, number_min: u64) -> Result<u64> {
        let record = CrlRecord { delta: None, ..self.list_record(id).await? };
        let before = record.number;
        let next = self.list_after(record, number_min).await?;
        self.commit(Changes::new().statement(store::authority::publish_crl_after(&next, before))).await?;
        Ok(next.number)
    }

    /// The list after a record's newest one, with a number that is not below `number_min`.
    async fn list_after(&self, record: CrlRecord, number_min: u64) -> Result<CrlRecord> {
        let certificate = store::authority::newest_certificate_of(&self.db, record.key).await.map_err(failed)?;
        match certificate {
            Some(certificate) => {
                let certificate = Certificate::from_der(certificate.der)
                    .map_err(|error| Error::failed_because("an authority's certificate does not read", error))?;
                self.list_under(record, &certificate, number_min).await
            }
            None => {
                let authority = store::authority::by_id_even_deleted(&self.db, record.authority).await;
                let authority = authority.map_err(failed)?;
                let authority = authority.ok_or_else(|| Error::failed("a list without its authority"))?;
                self.next_list(record, subject_of(&authority.configuration)?, None, number_min).await
            }
        }
    }

    /// Signs and publishes all lists of an authority now.
    #[compiled_here]
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
        self.list_under(self.list_record(key.crl).await?, certificate, 0).await
    }

    async fn list_under(&self, record: CrlRecord, certificate: &Certificate, number_min: u64) -> Result<CrlRecord> {
        let key_id = certificate.extensions().subject_key_id().ok().flatten();
        self.next_list(record, certificate.subject().clone(), key_id.map(<[u8]>::to_vec), number_min).await
    }

    /// The list after a record's newest one. It is not stored yet. Reading, comparing and signing it takes as long as
    /// hundreds of requests, and gives way to them.
    async fn next_list(
        &self,
        record: CrlRecord,
        name: DistinguishedName,
        key_id: Option<Vec<u8>>,
        number_min: u64,
    ) -> Result<CrlRecord> {
        let context = Self { db: self.db.patiently(), ..self.clone() };
        patiently(async move { context.make_list(record, name, key_id, number_min).await }).await
    }

    async fn make_list(
        &self,
        record: CrlRecord,
        name: DistinguishedName,
        key_id: Option<Vec<u8>>,
        number_min: u64,
    ) -> Result<CrlRecord> {
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
        let number = number_min.max(record.number + 1);
        let key_id = key_id.unwrap_or_else(|| public.key_id_sha1().to_vec());
        let urls = self.scope_of(&record).await?;
        // Changes first: what is committed while both are read is then on the complete list at least.
        let changes = self.changes_since_base(&record, number, &urls, now).await?;
        let delta_urls = match &changes {
            Some(_) => vec![self.delta_url(&record).await?],
            None => Vec::new(),
        };
        let entries = self.list_entries(&record, now).await?;
        let signer = self.signer(key.id).await?;
        let issuer = ListIssuer {
            name: &name,
            key_id: &key_id,
            key_algorithm: key.algorithm,
            number,
            urls: &urls,
            delta_urls: &delta_urls,
        };
        let der = signer.revocation_list(ListToBeSigned::complete(&issuer, entries, now)).await?;
        let delta = match changes {
            None => None,
            Some(changes) => {
                let list = ListToBeSigned::changes_since(changes.base_number, &issuer, changes.entries, now);
                let der = signer.revocation_list(list).await?;
                Some(DeltaRecord { der, base_number: changes.base_number, base_at: changes.base_at })
            }
        };
        Ok(CrlRecord {
            number,
            der: Some(der),
            this_update: Some(now),
            next_update: Some(now.plus_seconds(LIST_LIFETIME_SECONDS)),
            delta,
            ..record
        })
    }

    /// What changed since the complete list that lists of changes begin from; none when the authority has no such lists. One
    /// that is a day old gives way to the list that is being made.
    async fn changes_since_base(
        &self,
        record: &CrlRecord,
        number: u64,
        urls: &[Uri],
        now: Time,
    ) -> Result<Option<ListChanges>> {
        const PIECE: u32 = 5_000;
        let settings = store::authority::list_settings(&self.db, record.authority).await.map_err(failed)?;
        if !settings.has_delta {
            return Ok(None);
        }
        let base = record.delta.as_ref().filter(|delta| {
            // RFC 5280 §5.2.4: a list of changes has the scope of its base.
            now < delta.base_at.plus_seconds(DELTA_BASE_SECONDS) && has_scope(&delta.der, urls)
        });
        let (base_number, base_at) = base.map_or((number, now), |delta| (delta.base_number, delta.base_at));
        let mut entries = Vec::new();
        let mut mark = Some((base_at.plus_seconds(-DELTA_OVERLAP_SECONDS), Vec::new()));
        while let Some(after) = mark {
            let piece = store::revocation::changes(&self.db, record.key, record.shard, &after, PIECE).await;
            let (piece, next) = piece.map_err(failed)?;
            entries.extend(piece);
            mark = next;
        }
        Ok(Some(ListChanges { base_number, base_at, entries }))
    }

    /// Where the list of changes beside a list is.
    async fn delta_url(&self, record: &CrlRecord) -> Result<Uri> {
        let authority = store::authority::by_id_even_deleted(&self.db, record.authority).await.map_err(failed)?;
        let authority = authority.ok_or_else(|| Error::failed("a list without its authority"))?;
        let url = format!("{}/api/v1/pki/crl/{}/delta", self.publication_base(&authority), record.id);
        Uri::parse(&url).map_err(|error| Error::failed(format!("the publication URL is not usable: {error}")))
    }

    /// The newest list of the changes of a record. While the shared database is away, the newest that this node knows.
    #[compiled_here]
    pub async fn published_changes(&self, id: CrlId) -> Result<Arc<PublishedList>> {
        self.shelved(id, Kind::Changes, self.read_changes(id).await)
    }

    async fn read_changes(&self, id: CrlId) -> Result<PublishedList> {
        // The complete list is signed anew when it has run out, and this one with it.
        let complete = self.published_list(id).await?;
        let record = self.list_record(id).await?;
        match (record.delta, record.this_update, record.next_update) {
            (Some(delta), Some(this_update), Some(next_update)) => {
                Ok(PublishedList { number: record.number, der: delta.der, this_update, next_update })
            }
            _ => Err(Error::not_found(format!(
                "the authority of list number {} has no lists of changes only",
                complete.number
            ))),
        }
    }

    /// What was chosen about the lists of an authority.
    #[compiled_here]
    pub async fn list_settings(&self, caller: &Caller, id: AuthorityId) -> Result<ListSettings> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::ReadAuthority, &about(&authority.name))?;
        store::authority::list_settings(&self.db, authority.id).await.map_err(failed)
    }

    /// Chooses what the lists of an authority are like, and signs them anew.
    #[compiled_here]
    pub async fn choose_list_settings(
        &self,
        caller: &Caller,
        id: AuthorityId,
        settings: ListSettings,
    ) -> Result<ListSettings> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::EditAuthority, &about(&authority.name))?;
        let now = self.now();
        let detail = json!({
            "name": authority.name, "hasDeltaLists": settings.has_delta, "delaySeconds": settings.delay_seconds,
        });
        let object = Object::new("certificate-authority", authority.id);
        let mut changes = Changes::new()
            .statement(store::authority::choose_list_settings(authority.id, settings))
            .audit(audit::record(caller, Some(authority.project), "list-settings-chosen", object, &detail, now));
        for record in store::authority::crls(&self.db, authority.id).await.map_err(failed)? {
            let job = Job::PublishCrl { crl: record.id };
            changes = changes.statement(store::job::enqueue(self.new_id(), &job, now, now));
        }
        self.commit(changes).await?;
        Ok(settings)
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
    #[compiled_here]
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
                delta: None,
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
        const ATTEMPTS_MAX: usize = 5;
        for _ in 1..ATTEMPTS_MAX {
            match self.entries_at_once(record, now).await? {
                Read::Whole(entries) => return Ok(entries),
                Read::HeldAgain(_) => {}
            }
        }
        match self.entries_at_once(record, now).await? {
            Read::Whole(entries) => Ok(entries),
            Read::HeldAgain(serial) => Err(would_lack(record, &serial)),
        }
    }

    async fn entries_at_once(&self, record: &CrlRecord, now: Time) -> Result<Read> {
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
    ) -> Result<Read> {
        let Some(der) = record.der.clone() else { return Ok(Read::Whole(entries)) };
        let previous = Crl::from_der(der)
            .map_err(|error| Error::failed_because("a stored revocation list does not read", error))?;
        let named = previous.entries().map(|entry| entry.serial_content);
        let missing: Vec<Vec<u8>> = missing_from(named, &entries).map(<[u8]>::to_vec).collect();
        for serial in missing {
            let ended = store::revocation::ended(&self.db, record.key, &serial).await.map_err(failed)?;
            match ended {
                None => return Err(would_lack(record, &serial)),
                Some(ended) if ended.released_at.is_some() || ended.not_after < kept_from => {}
                // It was released when the entries were read, and is revoked by now.
                Some(_) => return Ok(Read::HeldAgain(serial)),
            }
        }
        Ok(Read::Whole(entries))
    }

    /// Puts the newest list of a record to the places outside that do not have it yet. One that fails keeps no other from
    /// getting it; the first failure is told.
    #[compiled_here]
    pub async fn deliver_list(&self, id: CrlId) -> Result<()> {
        let mut outcome = Ok(());
        for target in &self.outward.list_targets {
            let name = target.name();
            let delivered = store::authority::crl_delivered(&self.db, id, &name).await.map_err(failed)?;
            let lists = self.lists_to_deliver(id).await?;
            if delivered >= lists.number {
                continue;
            }
            let mut put = Ok(());
            for (file_name, der) in lists.files {
                if put.is_ok() {
                    put = target.put(&file_name, der).await;
                }
            }
            match put {
                Ok(()) => {
                    let noted = store::authority::note_crl_delivered(id, &name, lists.number);
                    self.commit(Changes::new().statement(noted)).await?;
                }
                Err(error) => {
                    outcome = outcome.and(Err(Error::failed(format!("putting a revocation list to {name}: {error}"))));
                }
            }
        }
        outcome
    }

    /// The newest list of a record, and that of the changes if there is one, each with its file name.
    #[compiled_here]
    pub async fn lists_to_deliver(&self, id: CrlId) -> Result<ListsToDeliver> {
        let list = self.read_list(id).await?;
        let mut files = vec![(format!("{id}.crl"), list.der)];
        if let Some(delta) = self.list_record(id).await?.delta {
            files.push((format!("{id}.delta.crl"), delta.der));
        }
        Ok(ListsToDeliver { number: list.number, files })
    }

    /// Plans that lists are put to the places outside that lack the newest: at a first start with a new place, and when a
    /// job was given up.
    #[compiled_here]
    pub async fn begin_list_deliveries(&self) -> Result<()> {
        let now = self.now();
        for target in &self.outward.list_targets {
            for crl in store::authority::crls_undelivered(&self.db, &target.name()).await.map_err(failed)? {
                let job = store::job::enqueue_if_absent(self.new_id(), &Job::DeliverCrl { crl }, now, now);
                self.commit(Changes::new().statement(job)).await?;
            }
        }
        Ok(())
    }

    /// The numbers of the newest lists.
    #[compiled_here]
    pub async fn list_numbers(&self) -> Result<Vec<(CrlId, u64)>> {
        store::authority::crl_numbers(&self.db).await.map_err(failed)
    }

    /// Plans the jobs that sign the lists anew that run out soon, however often they failed.
    #[compiled_here]
    pub async fn begin_lists(&self) -> Result<()> {
        for crl in self.lists_due().await? {
            self.enqueue(&Job::PublishCrl { crl }, self.now()).await?;
        }
        Ok(())
    }

    /// The lists that run out soon.
    #[compiled_here]
    pub async fn lists_due(&self) -> Result<Vec<CrlId>> {
        let now = self.now();
        store::authority::crls_due(&self.db, now.plus_seconds(LIST_RENEWAL_SECONDS), now).await.map_err(failed)
    }

    async fn list_record(&self, id: CrlId) -> Result<CrlRecord> {
        let record = store::authority::crl(&self.db, id).await.map_err(failed)?;
        record.ok_or_else(|| Error::not_found("there is no such revocation list"))
    }
}

/// What was read of the revocations while they went on changing.
enum Read {
    Whole(Vec<RevokedCertificate>),
    /// The certificate with this serial number was released and revoked once more meanwhile.
    HeldAgain(Vec<u8>),
}

/// Told to whoever asks for a list: somebody has to look for the rows that are gone.
fn would_lack(record: &CrlRecord, serial: &[u8]) -> Error {
    const AGAIN_SECONDS: u32 = 60;
    let serial: String = serial.iter().map(|octet| format!("{octet:02x}")).collect();
    let message = format!(
        "the next revocation list {} would lack the serial number {serial}, which the present one names; the present one \
         stays: see what `chancery fsck` finds",
        record.id
    );
    Error::unavailable(message, AGAIN_SECONDS)
}

/// Whether a list is for the certificates alone that name one of these addresses; for all of its key when there is none.
fn has_scope(der: &[u8], urls: &[Uri]) -> bool {
    let Ok(list) = Crl::from_der(der.to_vec()) else { return false };
    let Ok(point) = list.issuing_distribution_point() else { return false };
    point.as_ref().map(|point| point.urls().cloned().collect::<Vec<_>>()).unwrap_or_default() == urls
}
