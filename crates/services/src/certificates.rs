//! Certificate records: finding, listing, exporting and deleting what was issued (contract §6.7, 6.10).

use crate::audit::{self, Object};
use crate::bookmarks::LeafedList;
use crate::context::{Context, failed};
use crate::issue::{Issued, certificate_fields};
use crate::issue_from::Source;
use crate::revoke::{changes_all_the_time, is_of_authority};
use crate::visible::VisiblePage;
use crate::{authorities, profiles};
use async_recursion::async_recursion as compiled_here;
use domain::authority::Authority;
use domain::caller::Caller;
use domain::inventory::{CertificateStatus, IssuedCertificate, ShownStatus, serial_hex};
use domain::permission::{Action, Field, ObjectFields};
use domain::profile::Profile;
use domain::{ApplicationId, CertificateId, CertificateRequestId, Error, ProfileId, ProjectId, Result};
use keys::Secret;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
pub use store::certificate::{
    AUTHORITIES_IN_FILTER_MAX, CertificateFilter, METADATA_IN_FILTER_MAX, PROFILES_IN_FILTER_MAX, Period, RecordSource,
    RequestFilter, SortBy, SortOrder, Total,
};
use store::certificate::{InventoryRow, Listing, Part, RequestName, RequestPage, Scale};
use store::{Changes, StoreError};
use x509::{AttributeType, Certificate, pem};

/// A certificate of the inventory with its content read.
#[derive(Clone)]
pub struct Record {
    /// What is stored.
    pub row: InventoryRow,
    /// The certificate.
    pub certificate: Certificate,
    /// What a person sees.
    pub status: ShownStatus,
}

impl Record {
    /// Whether somebody else issued it.
    pub fn is_imported(&self) -> bool {
        self.row.issued.details.imported.is_some()
    }

    /// The application that it was asked for through.
    pub fn application(&self) -> Option<ApplicationId> {
        self.row.issued.details.application
    }

    /// The common name of its subject; empty when there is none.
    pub(crate) fn common_name(&self) -> &str {
        self.certificate.subject().first(AttributeType::CommonName).unwrap_or_default()
    }
}

/// A certificate with its chain, as it is handed out.
pub struct Bundle {
    /// The record.
    pub record: Record,
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The issuing authority's certificate in PEM; empty when the certificate signed itself.
    pub issuing_ca_pem: String,
    /// The issuing authority and its parents in PEM; the certificate itself when it signed itself, and nothing when it was
    /// imported without those above it.
    pub chain_pem: String,
}

/// How a private key is handed out.
#[derive(Clone, Copy)]
pub(crate) enum KeyForm {
    /// As it is.
    Plain,
    /// In a PKCS#12 file.
    Pkcs12,
    /// In a Java key store.
    Jks,
}

impl KeyForm {
    /// The name in the audit.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Pkcs12 => "pkcs12",
            Self::Jks => "jks",
        }
    }
}

/// What a request has come to.
pub struct RequestState {
    /// Its id.
    pub id: CertificateRequestId,
    /// `issued`, `pending`, …
    pub status: String,
    /// Why it failed.
    pub error_message: Option<String>,
    /// The profile.
    pub profile: Option<ProfileId>,
    /// When it was made.
    pub created_at: domain::Time,
    /// When it was last changed.
    pub updated_at: domain::Time,
    /// The certificate, once there is one.
    pub record: Option<Record>,
}

/// A request with all that belongs to its certificate.
pub struct Request {
    /// What it has come to.
    pub state: RequestState,
    /// The certificate with its chain, once there is one.
    pub bundle: Option<Bundle>,
    /// The private key, when it was made here and the caller may have it.
    pub private_key: Option<Secret>,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// What it is sorted by.
    pub by: SortBy,
    /// Which end comes first.
    pub order: SortOrder,
    /// Entries to leave out at the beginning.
    pub offset: u32,
    /// The most entries to give.
    pub limit: u32,
}

/// How a certificate is named in a path.
pub enum CertificateName {
    /// By its id.
    Id(CertificateId),
    /// By its serial number in hex.
    Serial(String),
}

impl Context {
    /// A certificate's record.
    #[compiled_here]
    pub async fn certificate(&self, caller: &Caller, name: &CertificateName) -> Result<Record> {
        self.certificate_for(caller, name, Action::ReadCertificate).await
    }

    /// A certificate with its chain.
    #[compiled_here]
    pub async fn bundle(&self, caller: &Caller, name: &CertificateName) -> Result<Bundle> {
        let record = self.certificate(caller, name).await?;
        self.bundle_of(record).await
    }

    /// A certificate with its chain and its key.
    #[compiled_here]
    pub async fn bundle_with_key(&self, caller: &Caller, name: &CertificateName) -> Result<(Bundle, Option<Secret>)> {
        let record = self.certificate(caller, name).await?;
        let key = self.key_of(caller, &record).await?;
        Ok((self.bundle_of(record).await?, key))
    }

    /// A certificate's private key.
    #[compiled_here]
    pub async fn private_key(&self, caller: &Caller, name: &CertificateName) -> Result<Secret> {
        let record = self.find_certificate(caller, name).await?;
        let key = self.key_of(caller, &record).await?;
        key.ok_or_else(|| Error::not_found("no private key is stored for this certificate: it was made from a CSR"))
    }

    /// Deletes a certificate's record and key. A revocation stays.
    #[compiled_here]
    pub async fn delete_certificate(&self, caller: &Caller, name: &CertificateName) -> Result<Record> {
        /// How often it is read anew when it was revoked or released at the same moment.
        const ATTEMPTS_MAX: usize = 5;
        for _ in 1..ATTEMPTS_MAX {
            if let Some(deleted) = self.try_to_delete(caller, name).await? {
                return Ok(deleted);
            }
        }
        Err(changes_all_the_time())
    }

    /// Nothing when the certificate changed after it was read.
    async fn try_to_delete(&self, caller: &Caller, name: &CertificateName) -> Result<Option<Record>> {
        let record = self.certificate_for(caller, name, Action::DeleteCertificate).await?;
        if is_of_authority(&record) {
            return Err(Error::forbidden(
                "the certificate of an authority stays in the inventory, where it can be revoked",
            ));
        }
        let issued = &record.row.issued;
        let now = self.now();
        let detail = json!({ "serialNumber": serial_hex(&record.certificate) });
        let object = Object::new("certificate", issued.id);
        let changes = Changes::new()
            .with(self.syncs_follow(issued.id).await?)
            .statement(store::ocsp::keep_serial(issued.project, issued.id, now))
            .with(store::certificate::delete(issued, &record.certificate))
            .audit(audit::record(caller, Some(issued.project), "certificate-deleted", object, &detail, now));
        match self.db.commit(changes).await {
            Ok(()) => Ok(Some(record)),
            Err(StoreError::Stale(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Certificates of a project, and how many match.
    #[compiled_here]
    pub async fn certificates(
        &self,
        caller: &Caller,
        project: ProjectId,
        filter: &CertificateFilter,
        page: Page,
    ) -> Result<(Vec<Record>, Total)> {
        caller.may_some(project, Action::ReadCertificate)?;
        let sorted = (page.by, page.order);
        let listing = Listing::open(&self.db, project, filter, self.now(), sorted, Scale::default()).await;
        let Some(listing) = listing.map_err(failed)? else { return Ok((Vec::new(), Total::Exact(0))) };
        if caller.can_always(project, Action::ReadCertificate) {
            let described = format!("{filter:?} {:?} {:?}", page.by, page.order);
            let list = LeafedList { reader: caller.actor.id, project, described };
            return self.page_of_all(&listing, list, page).await;
        }
        let mut visible = VisiblePage::new(page.offset, page.limit, false);
        let mut part = Part::Behind(0);
        while let Some((_, limit)) = visible.wanted() {
            let found = listing.page(part.clone(), limit).await.map_err(failed)?;
            let records: Result<Vec<_>> = found.rows.into_iter().map(|row| self.read_if_visible(caller, row)).collect();
            visible.add(records?.into_iter())?;
            if let Some(end) = found.end {
                part = Part::After(end);
            }
        }
        let (records, seen) = visible.finish();
        Ok((records, Total::Exact(seen.unwrap_or_default())))
    }

    /// A page for somebody who sees everything that is on the list.
    async fn page_of_all(&self, listing: &Listing<'_>, list: LeafedList, page: Page) -> Result<(Vec<Record>, Total)> {
        let bookmark = self.state.bookmarks.find(&list, page.offset).filter(|_| page.offset > 0);
        let part = bookmark.map_or(Part::Behind(page.offset), Part::After);
        let found = listing.page(part, page.limit).await.map_err(failed)?;
        let behind = page.offset.saturating_add(u32::try_from(found.rows.len()).unwrap_or(u32::MAX));
        if let Some(end) = found.end {
            self.state.bookmarks.keep(list, behind, end);
        }
        let records: Result<Vec<Record>> = found.rows.into_iter().map(|row| self.read(row)).collect();
        let records = records?;
        let total = match listing.total().await.map_err(failed)? {
            // There are as many at least as were given.
            Total::Estimated(about) if !records.is_empty() => Total::Estimated(about.max(i64::from(behind))),
            total => total,
        };
        Ok((records, total))
    }

    /// Certificates of a profile, and how many match. The filter is narrowed to the profile.
    #[compiled_here]
    pub async fn certificates_of_profile(
        &self,
        caller: &Caller,
        profile: ProfileId,
        filter: CertificateFilter,
        page: Page,
    ) -> Result<(Vec<Record>, Total)> {
        let profile = self.profile(caller, profile).await?.profile;
        let filter = CertificateFilter { profiles: vec![profile.id], ..filter };
        self.certificates(caller, profile.project, &filter, page).await
    }

    /// The newest certificate of a profile that is valid now, with its key.
    #[compiled_here]
    pub async fn latest_active(&self, caller: &Caller, profile: ProfileId) -> Result<Option<(Bundle, Option<Secret>)>> {
        /// How far back a caller is served who may see only some of them.
        const LOOKED_AT: u32 = 100;
        let project = self.profile(caller, profile).await?.profile.project;
        caller.may_some(project, Action::ReadPrivateKey)?;
        let active = CertificateFilter { status: Some(ShownStatus::Active), ..CertificateFilter::default() };
        let newest = Page { by: SortBy::CreatedAt, order: SortOrder::Descending, offset: 0, limit: LOOKED_AT };
        let (records, _) = self.certificates_of_profile(caller, profile, active, newest).await?;
        match records.into_iter().next() {
            None => Ok(None),
            Some(record) => {
                let key = self.key_of(caller, &record).await?;
                Ok(Some((self.bundle_of(record).await?, key)))
            }
        }
    }

    /// Requests of a project by the time when they were made, and how many match. Keys are not among what is given.
    #[compiled_here]
    pub async fn certificate_requests(
        &self,
        caller: &Caller,
        project: ProjectId,
        filter: &RequestFilter,
        page: Page,
    ) -> Result<(Vec<RequestState>, i64)> {
        caller.may_some(project, Action::ReadCertificate)?;
        let sees_all = caller.can_always(project, Action::ReadCertificate);
        let mut visible = VisiblePage::new(page.offset, page.limit, sees_all);
        while let Some((offset, limit)) = visible.wanted() {
            let page = RequestPage { order: page.order, offset, limit };
            let names = store::certificate::requests(&self.db, project, filter, page).await.map_err(failed)?;
            let mut states = Vec::with_capacity(names.len());
            for name in names {
                states.push(self.request_state_if_visible(caller, name).await?);
            }
            visible.add(states.into_iter())?;
        }
        let (states, seen) = visible.finish();
        let total = match seen {
            Some(seen) => seen,
            None => store::certificate::count_requests(&self.db, project, filter).await.map_err(failed)?,
        };
        Ok((states, total))
    }

    /// The slugs of the profiles of these requests, of those that are still there and that the caller may see.
    #[compiled_here]
    pub async fn profile_names(
        &self,
        caller: &Caller,
        project: ProjectId,
        states: &[RequestState],
    ) -> Result<HashMap<ProfileId, String>> {
        let mut names = HashMap::new();
        for id in states.iter().filter_map(|state| state.profile).collect::<BTreeSet<_>>() {
            let profile = store::profile::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
            let seen = profile.filter(|one| caller.can(project, Action::ReadProfile, &profiles::about(&one.slug)));
            names.extend(seen.map(|profile| (id, profile.slug)));
        }
        Ok(names)
    }

    async fn request_state_if_visible(&self, caller: &Caller, name: RequestName) -> Result<Option<RequestState>> {
        let id = match name {
            RequestName::Instant(id) => CertificateRequestId(id.0),
            RequestName::Waiting(id) => id,
        };
        match self.request_state(caller, id).await {
            Ok(state) => Ok(Some(state)),
            // Out of this caller's sight, or deleted meanwhile.
            Err(error) if error.reason().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a request has come to, with its certificate and the key if the caller may have it.
    #[compiled_here]
    pub async fn certificate_request(&self, caller: &Caller, id: CertificateRequestId) -> Result<Request> {
        let state = self.request_state(caller, id).await?;
        let Some(record) = state.record.clone() else {
            return Ok(Request { state, bundle: None, private_key: None });
        };
        let may_have = may_have_key(caller, &record);
        let private_key = if may_have { self.key_of(caller, &record).await? } else { None };
        Ok(Request { state, bundle: Some(self.bundle_of(record).await?), private_key })
    }

    /// What a request has come to. One that was answered at once has its certificate's id and no row of its own.
    async fn request_state(&self, caller: &Caller, id: CertificateRequestId) -> Result<RequestState> {
        let waiting = store::certificate::request(&self.db, caller.organization, id).await.map_err(failed)?;
        let Some(waiting) = waiting else {
            let record = self.requested(caller, id, CertificateId(id.0)).await?;
            let issued = &record.row.issued;
            return Ok(RequestState {
                id,
                status: "issued".into(),
                error_message: None,
                profile: issued.judged_by.map(|judged| judged.profile),
                created_at: issued.created_at,
                updated_at: issued.created_at,
                record: Some(record),
            });
        };
        caller.may_some(waiting.project, Action::ReadCertificate)?;
        let record = match waiting.certificate {
            None => None,
            Some(certificate) => Some(self.requested(caller, id, certificate).await?),
        };
        Ok(RequestState {
            id,
            status: waiting.status,
            error_message: waiting.error_message,
            profile: Some(waiting.profile),
            created_at: waiting.created_at,
            updated_at: waiting.updated_at,
            record,
        })
    }

    /// The certificate of a request; what is missing is the request.
    async fn requested(&self, caller: &Caller, id: CertificateRequestId, certificate: CertificateId) -> Result<Record> {
        let found = self.certificate(caller, &CertificateName::Id(certificate)).await;
        found.map_err(|error| match error.reason() {
            Some(domain::Reason::NotFound) => Error::not_found(format!("there is no certificate request {id}")),
            _ => error,
        })
    }

    /// What a repeated request gets whose first answer was not kept: the same certificate, and the key if the caller may
    /// still have it.
    #[compiled_here]
    pub async fn issued_again(&self, caller: &Caller, source: Source, certificate: CertificateId) -> Result<Issued> {
        let record = self.find_certificate(caller, &CertificateName::Id(certificate)).await?;
        let private_key = match may_have_key_again(caller, source, &record) {
            true => self.kept_key_of(caller, &record).await?,
            false => None,
        };
        let bundle = self.bundle_of(record).await?;
        Ok(Issued {
            id: certificate,
            certificate: bundle.record.certificate,
            certificate_pem: bundle.certificate_pem,
            issuing_ca_pem: bundle.issuing_ca_pem,
            chain_pem: bundle.chain_pem,
            private_key,
        })
    }

    /// Whether the caller is given the key of a certificate once more, out of a kept answer; a yes is written to the audit.
    /// A certificate that is gone gives no key.
    #[compiled_here]
    pub async fn gives_key_again(&self, caller: &Caller, source: Source, certificate: CertificateId) -> Result<bool> {
        let record = match self.find_certificate(caller, &CertificateName::Id(certificate)).await {
            Ok(record) => record,
            Err(error) if error.reason().is_some() => return Ok(false),
            Err(error) => return Err(error),
        };
        let may_have = may_have_key_again(caller, source, &record);
        if may_have {
            self.note_key_given(caller, &record, KeyForm::Plain).await?;
        }
        Ok(may_have)
    }

    /// What a record shows beside its ids: its profile and its authority, those that are still there and that the caller
    /// may see.
    #[compiled_here]
    pub async fn origin_of(&self, caller: &Caller, record: &Record) -> Result<(Option<Profile>, Option<Authority>)> {
        let issued = &record.row.issued;
        let profile = match issued.judged_by {
            None => None,
            Some(judged) => {
                store::profile::by_id(&self.db, caller.organization, judged.profile).await.map_err(failed)?
            }
        };
        let authority = match issued.issuer {
            None => None,
            Some(by) => store::authority::by_id_even_deleted(&self.db, by.authority).await.map_err(failed)?,
        };
        let caller = &*caller.within(record.application());
        let may_see = |action, name: ObjectFields| caller.can(issued.project, action, &name);
        let profile = profile.filter(|one| may_see(Action::ReadProfile, profiles::about(&one.slug)));
        let authority = authority.filter(|one| may_see(Action::ReadAuthority, authorities::about(&one.name)));
        Ok((profile, authority))
    }

    pub(crate) async fn find_certificate(&self, caller: &Caller, name: &CertificateName) -> Result<Record> {
        let missing = || Error::not_found("there is no such certificate");
        let row = match name {
            CertificateName::Id(id) => {
                store::certificate::by_id(&self.db, caller.organization, *id).await.map_err(failed)?
            }
            CertificateName::Serial(text) => {
                // Those of imported certificates are of any length.
                let serial = x509::SerialNumber::from_foreign_hex(text).ok_or_else(missing)?;
                let rows = store::certificate::by_serial(&self.db, caller.organization, &serial.integer_content())
                    .await
                    .map_err(failed)?;
                // Of two with one serial number the caller means one of its own projects.
                let mut rows = rows.into_iter();
                let first = rows.next();
                match &first {
                    Some(row) if caller.projects.contains_key(&row.issued.project) => first,
                    _ => rows.find(|row| caller.projects.contains_key(&row.issued.project)).or(first),
                }
            }
        };
        let row = row.ok_or_else(missing)?;
        caller.within(row.issued.details.application).rules(row.issued.project)?;
        self.read(row)
    }

    pub(crate) async fn certificate_for(
        &self,
        caller: &Caller,
        name: &CertificateName,
        action: Action,
    ) -> Result<Record> {
        let record = self.find_certificate(caller, name).await?;
        caller.within(record.application()).may(record.row.issued.project, action, &fields(&record))?;
        Ok(record)
    }

    pub(crate) fn read(&self, row: InventoryRow) -> Result<Record> {
        let certificate = Certificate::from_der(row.issued.der.clone())
            .map_err(|error| Error::failed_because(format!("certificate {} does not read", row.issued.id), error))?;
        let status = match row.issued.status {
            CertificateStatus::Revoked => ShownStatus::Revoked,
            CertificateStatus::Active if certificate.not_after() < self.now().seconds() => ShownStatus::Expired,
            CertificateStatus::Active => ShownStatus::Active,
        };
        Ok(Record { row, certificate, status })
    }

    pub(crate) fn read_if_visible(&self, caller: &Caller, row: InventoryRow) -> Result<Option<Record>> {
        let record = self.read(row)?;
        let project = record.row.issued.project;
        Ok(caller.can_with(project, Action::ReadCertificate, || fields(&record)).then_some(record))
    }

    pub(crate) async fn key_of(&self, caller: &Caller, record: &Record) -> Result<Option<Secret>> {
        caller.within(record.application()).may(record.row.issued.project, Action::ReadPrivateKey, &fields(record))?;
        self.kept_key_of(caller, record).await
    }

    /// The key of a record for a caller who may have it.
    pub(crate) async fn kept_key_of(&self, caller: &Caller, record: &Record) -> Result<Option<Secret>> {
        let key = self.stored_key_of(record).await?;
        if key.is_some() {
            self.note_key_given(caller, record, KeyForm::Plain).await?;
        }
        Ok(key)
    }

    /// The key, if the caller may have it. Whoever hands it out notes that with [`Self::note_key_given`] before.
    pub(crate) async fn unrecorded_key_of(&self, caller: &Caller, record: &Record) -> Result<Option<Secret>> {
        caller.within(record.application()).may(record.row.issued.project, Action::ReadPrivateKey, &fields(record))?;
        self.stored_key_of(record).await
    }

    async fn stored_key_of(&self, record: &Record) -> Result<Option<Secret>> {
        let issued = &record.row.issued;
        let Some(sealed) = store::certificate::leaf_key(&self.db, record.row.pk).await.map_err(failed)? else {
            return Ok(None);
        };
        Ok(Some(self.open_leaf_key(issued, &record.certificate, &sealed.sealed).await?))
    }

    /// Refuses unless the caller may see a record.
    pub(crate) fn must_see(&self, caller: &Caller, record: &Record) -> Result<()> {
        caller.may(record.row.issued.project, Action::ReadCertificate, &fields(record))
    }

    pub(crate) async fn note_key_given(&self, caller: &Caller, record: &Record, form: KeyForm) -> Result<()> {
        let issued = &record.row.issued;
        let detail = json!({ "serialNumber": serial_hex(&record.certificate), "form": form.as_str() });
        let object = Object::new("certificate", issued.id);
        let read = audit::record(caller, Some(issued.project), "private-key-read", object, &detail, self.now());
        self.commit(Changes::new().audit(read)).await
    }

    pub(crate) async fn bundle_of(&self, record: Record) -> Result<Bundle> {
        let certificate_pem = pem::encode(pem::CERTIFICATE, &record.row.issued.der);
        let above = self.chain_above(&record.row.issued).await?;
        let pems: Vec<String> = above.iter().map(|der| pem::encode(pem::CERTIFICATE, der)).collect();
        let is_alone = pems.is_empty() && record.certificate.is_self_issued();
        let chain_pem = if is_alone { certificate_pem.clone() } else { pems.join("\n") };
        let issuing_ca_pem = pems.into_iter().next().unwrap_or_default();
        Ok(Bundle { record, certificate_pem, issuing_ca_pem, chain_pem })
    }

    /// The certificates above one in DER, its issuer first; none above one that signed itself.
    pub(crate) async fn chain_above(&self, issued: &IssuedCertificate) -> Result<Vec<Vec<u8>>> {
        let unread = |error| Error::failed_because("the chain of a certificate does not read", error);
        let Some(by) = issued.issuer else {
            let chain = issued.details.imported.as_ref().map_or("", |imported| &imported.chain);
            return pem::decode_all(chain, pem::CERTIFICATE).map_err(unread);
        };
        let stored = store::authority::certificate(&self.db, by.authority, by.certificate).await.map_err(failed)?;
        let stored = stored.ok_or_else(|| Error::failed("the authority certificate of a certificate is not stored"))?;
        let mut above = pem::decode_all(&stored.chain, pem::CERTIFICATE).map_err(unread)?;
        above.insert(0, stored.der);
        Ok(above)
    }
}

/// Whether a caller who may issue from there is given the key once more that was made for its own request.
fn may_have_key_again(caller: &Caller, source: Source, record: &Record) -> bool {
    source.gives_key_always() || may_have_key(caller, record)
}

fn may_have_key(caller: &Caller, record: &Record) -> bool {
    caller.within(record.application()).can(record.row.issued.project, Action::ReadPrivateKey, &fields(record))
}

/// What conditions of roles can ask about a record.
fn fields(record: &Record) -> ObjectFields {
    let fields = certificate_fields(&record.certificate, record.status);
    match &record.row.issued.details.friendly_name {
        Some(name) => fields.and(Field::FriendlyName, [name.clone()]),
        None => fields,
    }
}
