//! Issues a certificate. The whole story stands in [`Context::issue`].

use crate::audit::{self, Object};
use crate::context::{Context, failed, key_failed};
use crate::idempotency::Mark;
use crate::issue_from::{Basis, Source};
use crate::registry::ReadyDevice;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::collection::Member;
use domain::identity::MetadataEntry;
use domain::inventory::{CertificateDetails, CertificateStatus, IssuedCertificate, ShownStatus, alt_names, serial_hex};
use domain::issuance::{Approved, IssuanceRequest, Subject, decide};
use domain::permission::{Action, Field, ObjectFields};
use domain::renewal::{can_be_planned, renew_at};
use domain::{ApplicationId, CertificateId, CollectionId, Error, ProfileId, Result, Time};
use keys::sign::Signer;
use keys::{Place, PrivateKey, Secret, leaf_form};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use store::StoreError;
use store::application::AttachedProfile;
use store::certificate::SealedLeafKey;
use tokio::sync::SemaphorePermit;
use x509::algorithm::KeyFamily;
use x509::{AttributeType, Certificate, SerialNumber, digest, pem};

/// A certificate that was made, and that is in the inventory.
pub struct Issued {
    /// Its id, and the id of the request.
    pub id: CertificateId,
    /// The certificate.
    pub certificate: Certificate,
    /// The same in PEM.
    pub certificate_pem: String,
    /// The issuing authority's certificate in PEM; empty when the certificate signed itself.
    pub issuing_ca_pem: String,
    /// The issuing authority and its parents in PEM; the certificate itself when it signed itself.
    pub chain_pem: String,
    /// The private key in PKCS#8, when it was made here and the caller may have it.
    pub private_key: Option<Secret>,
}

/// How a request came in.
#[derive(Default)]
pub struct IssueOptions {
    /// The mark of a request that may be repeated.
    pub idempotency: Option<Mark>,
    /// Free pairs to keep with the certificate.
    pub metadata: Vec<MetadataEntry>,
    /// The name for people, where it is not the common name.
    pub friendly_name: Option<String>,
    /// The collection that it is put into; else that of its template.
    pub collection: Option<CollectionId>,
    /// The certificate whose place it takes.
    pub renews: Option<CertificateId>,
    /// How many days before its end that one was to be renewed by itself; its successor is, too.
    pub renew_before_days: Option<u32>,
    /// The device that is made in the same commit.
    pub device: Option<ReadyDevice>,
    /// The application that it is asked for through.
    pub application: Option<ApplicationId>,
}

/// How often a draw of a serial number is repeated when it was drawn before, or a decision when its basis moved.
const ATTEMPTS_MAX: usize = 4;

impl Context {
    /// Issues a certificate from a profile of the `api` enrollment.
    #[compiled_here]
    pub async fn issue(
        &self,
        caller: &Caller,
        profile: ProfileId,
        request: IssuanceRequest,
        options: IssueOptions,
    ) -> Result<Issued> {
        self.issue_from(caller, Source::Profile(profile), request, options).await
    }

    /// Issues a certificate from whatever certificates come from.
    #[compiled_here]
    pub async fn issue_from(
        &self,
        caller: &Caller,
        source: Source,
        request: IssuanceRequest,
        options: IssueOptions,
    ) -> Result<Issued> {
        let place = self.place_to_issue().await?;
        let outcome = self.try_to_issue(place, caller, source, &request, &options).await;
        // A renewal notes its refusal in the record of the certificate.
        if let (Err(error), None) = (&outcome, options.renews) {
            self.note_failed_issuance(caller, source, &request, error).await;
        }
        outcome
    }

    async fn try_to_issue<'a>(
        &'a self,
        mut place: SemaphorePermit<'a>,
        caller: &Caller,
        source: Source,
        request: &IssuanceRequest,
        options: &IssueOptions,
    ) -> Result<Issued> {
        let caller = &*caller.within(options.application);
        let mut attempt = 0;
        loop {
            attempt += 1;
            // Decide. Nothing is written yet.
            let basis = self.basis_of(caller, source).await?;
            basis.must_allow(caller)?;
            if attempt == 1 {
                self.must_be_within_rate_of(basis.project(), caller)?;
            }
            let attached = self.attached_to_issue_by(caller, basis.profile(), options).await?;
            let collection = self.collection_for(caller, &basis, options.collection).await?;
            let now = self.clock.now_to_sign()?;
            let approved = decide(basis.case(request), now)?;
            basis.must_allow_names(caller, &approved)?;

            // Make the key, build, judge the final bytes, sign. No transaction is open.
            let made = match &request.subject {
                // It takes a thousand times as long as the rest: nobody else is to wait for it.
                Subject::Fields { .. } if approved.key_algorithm().family() == KeyFamily::Rsa => {
                    drop(place);
                    let made = self.subject_key(&request.subject, &approved).await?;
                    place = self.place_to_go_on().await?;
                    made
                }
                Subject::Fields { .. } | Subject::Csr(_) => self.subject_key(&request.subject, &approved).await?,
            };
            let spki = match (&request.subject, &made) {
                (Subject::Csr(csr), _) => csr.spki_der(),
                (Subject::Fields { .. }, Some(key)) => key.public_spki_der(),
                (Subject::Fields { .. }, None) => return Err(Error::failed("a key that was to be made is not there")),
            };
            let to_be_signed = approved.certify(spki, self.serial_number()?)?;
            let signer = match (approved.authority(), &made) {
                (Some(authority), _) => self.signer(authority.key).await?,
                (None, Some(key)) => Signer::new(key.clone(), self.key_pool.clone()),
                (None, None) => return Err(Error::failed("a CSR was approved that nobody can sign")),
            };
            let der = signer.certificate(to_be_signed).await?;

            // Make it real, together with everything that follows from it.
            let record = self.record(caller, (&basis, collection), &approved, der, made, (options, attached.as_ref()));
            match record.await {
                Ok(issued) => return Ok(issued),
                Err(error) if let Some(refusal) = options.device.as_ref().and_then(|device| device.refusal(&error)) => {
                    self.state.issuers.forget();
                    return Err(refusal);
                }
                Err(StoreError::Conflict { .. } | StoreError::Stale(_))
                    if self.was_overtaken(caller, options).await? =>
                {
                    return Err(Error::wrong_state("the certificate was renewed, revoked or deleted meanwhile"));
                }
                Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS_MAX => {}
                // What was decided on has changed, perhaps on another node: decide again on what is there now.
                Err(StoreError::Stale(_)) if attempt < ATTEMPTS_MAX => {
                    if let Subject::Csr(csr) = &request.subject {
                        self.key_must_not_be_blocked(caller, csr.spki_der()).await?;
                    }
                    self.state.issuers.forget();
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Whether the certificate whose place is to be taken cannot be renewed any more.
    async fn was_overtaken(&self, caller: &Caller, options: &IssueOptions) -> Result<bool> {
        let Some(id) = options.renews else { return Ok(false) };
        let row = store::certificate::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        Ok(row.is_none_or(|row| row.renewed_by.is_some() || row.issued.status != CertificateStatus::Active))
    }

    /// Refuses a key that was revoked as compromised.
    pub(crate) async fn key_must_not_be_blocked(&self, caller: &Caller, spki: &[u8]) -> Result<()> {
        let key = digest::sha256(spki);
        match store::revocation::is_key_blocked(&self.db, caller.organization, key).await.map_err(failed)? {
            true => Err(Error::bad_key("a certificate of this key was revoked for KEY_COMPROMISE: make a new key")),
            false => Ok(()),
        }
    }

    async fn subject_key(&self, subject: &Subject, approved: &Approved) -> Result<Option<Arc<PrivateKey>>> {
        match subject {
            Subject::Csr(_) => Ok(None),
            Subject::Fields { .. } => {
                let key = self.key_pool.generate(approved.key_algorithm()).await.map_err(key_failed)?;
                Ok(Some(Arc::new(key)))
            }
        }
    }

    /// 20 random octets (contract §1.8). A source of randomness that is stuck fails closed.
    pub(crate) fn serial_number(&self) -> Result<SerialNumber> {
        const DRAWS_MAX: usize = 8;
        (0..DRAWS_MAX)
            .find_map(|_| SerialNumber::from_random(self.random.octets()))
            .ok_or_else(|| Error::failed("the source of randomness gives no usable serial number"))
    }

    async fn record(
        &self,
        caller: &Caller,
        (basis, collection): (&Basis, Option<CollectionId>),
        approved: &Approved,
        der: Vec<u8>,
        made: Option<Arc<PrivateKey>>,
        (options, attached): (&IssueOptions, Option<&AttachedProfile>),
    ) -> Result<Issued, StoreError> {
        let project = basis.project();
        let now = self.now();
        let certificate = Certificate::from_der(der.clone()).map_err(|error| {
            StoreError::Engine(format!("a certificate that was just signed does not read: {error}"))
        })?;
        let issued = IssuedCertificate {
            id: self.new_id(),
            project,
            judged_by: approved.judged_by(),
            issuer: approved.issued_by(),
            status: CertificateStatus::Active,
            details: CertificateDetails {
                dropped_key_usages: approved.dropped_key_usages(),
                metadata: options.metadata.clone(),
                application: options.application,
                friendly_name: options.friendly_name.clone(),
                ..CertificateDetails::default()
            },
            created_at: now,
            der,
        };
        let mut changes = basis.unchanged();
        let (sealed, private_key) = match made {
            None => {
                let key = digest::sha256(certificate.spki_der());
                changes = changes.statement(store::revocation::key_is_not_blocked(caller.organization, key));
                (None, None)
            }
            Some(key) => {
                let (sealed, exported) = self.seal_leaf_key(&issued, &key).await.map_err(lost)?;
                let fields = || certificate_fields(&certificate, ShownStatus::Active);
                let may_have = basis.gives_key_always() || caller.can_with(project, Action::ReadPrivateKey, fields);
                (Some(sealed), may_have.then_some(exported))
            }
        };
        if let (Some(attached), None) = (attached, options.renews) {
            changes = changes.statement(store::application::is_unchanged(&attached.attachment));
        }
        let name = approved.authority().map_or(0, |authority| authority.issuer_name_id);
        let mut detail = json!({ "serialNumber": serial_hex(&certificate) });
        if !issued.details.dropped_key_usages.is_empty() {
            detail["droppedKeyUsages"] = json!(issued.details.dropped_key_usages);
        }
        if sealed.is_some() {
            detail["key"] = json!(if private_key.is_some() { "given" } else { "kept" });
        }
        if let Some(predecessor) = options.renews {
            detail["renews"] = predecessor.to_string().into();
        }
        if let Some(application) = options.application {
            detail["applicationId"] = application.to_string().into();
        }
        basis.describe(&mut detail);
        if let Some(collection) = collection {
            detail["pkiCollectionId"] = json!(collection);
        }
        let object = Object::new("certificate", issued.id);
        changes = changes
            .with(store::certificate::insert(&issued, &certificate, name, sealed.as_ref()))
            .with(basis.origin_of(issued.id))
            .audit(audit::record(caller, Some(project), "certificate-issued", object, &detail, now));
        if let Some(authority) = approved.authority() {
            changes = changes.statement(store::authority::is_unchanged(project, authority.id, authority.version));
        }
        if let Some(collection) = collection {
            let member = Member::Certificate(issued.id);
            changes = changes.statement(store::collection::add(project, collection, self.new_id(), member, now));
        }
        if let Some(predecessor) = options.renews {
            changes = changes
                .with(self.syncs_follow_renewal(predecessor, issued.id).await?)
                .with(store::renewal::insert(predecessor, issued.id, now));
        }
        // An application says it for what is asked for through it.
        let said = match options.application {
            None => basis.renew_before_days(&certificate, now),
            Some(_) => {
                let api = attached.and_then(|attached| attached.attachment.enrollment.api.as_ref());
                domain::renewal::days_of_profile(api, &certificate, now)
            }
        };
        let planned = said
            .or_else(|| options.renew_before_days.filter(|days| can_be_planned(renew_at(&certificate, *days), now)));
        if let (Some(days), Some(_)) = (planned, &sealed) {
            let plan = store::renewal::plan(issued.id, days, renew_at(&certificate, days));
            changes = changes.with(basis.plans_end()).statement(plan);
        }
        let not_after = Time::from_seconds(certificate.not_after());
        changes = changes.with(self.alerts_follow_issuance(project, issued.id, not_after, options.renews).await?);
        if let Some(device) = &options.device {
            changes = changes.with(self.device_follows(caller, device, &issued, &certificate));
        }
        if let Some(mark) = &options.idempotency {
            changes = changes.statement(store::idempotency::note_certificate(mark, issued.id));
        }
        self.db.commit(changes).await?;
        self.state.issued.fetch_add(1, Ordering::Relaxed);
        self.clock.note_committed(now);

        let certificate_pem = pem::encode(pem::CERTIFICATE, &issued.der);
        let active = approved.authority().and_then(|authority| authority.active.as_ref());
        Ok(Issued {
            id: issued.id,
            issuing_ca_pem: active.map(|active| active.pem.clone()).unwrap_or_default(),
            chain_pem: active.map_or_else(|| certificate_pem.clone(), |active| active.chain_pem.clone()),
            certificate_pem,
            certificate,
            private_key,
        })
    }

    /// A leaf's key as it is kept, and as PKCS#8.
    pub(crate) async fn seal_leaf_key(
        &self,
        issued: &IssuedCertificate,
        key: &PrivateKey,
    ) -> Result<(SealedLeafKey, Secret)> {
        let exported = key.export_pkcs8().map_err(key_failed)?;
        let data_key = self.data_key(issued.project).await?;
        let kept = leaf_form::compact(&exported);
        let sealed = data_key.seal(leaf_place(issued), kept.expose()).map_err(key_failed)?;
        Ok((SealedLeafKey { data_key_version: data_key.version(), sealed }, exported))
    }

    /// Refuses unless the caller may issue from there at this moment.
    #[compiled_here]
    pub async fn must_be_allowed_to_issue(&self, caller: &Caller, source: Source) -> Result<()> {
        self.basis_of(caller, source).await?.must_allow(caller)
    }

    /// A leaf's kept key as PKCS#8.
    pub(crate) async fn open_leaf_key(
        &self,
        issued: &IssuedCertificate,
        certificate: &Certificate,
        sealed: &[u8],
    ) -> Result<Secret> {
        let kept = self.open(leaf_place(issued), sealed).await?;
        leaf_form::expand(&kept, certificate.spki_der()).map_err(key_failed)
    }
}

/// Where a leaf's key is sealed for.
fn leaf_place(issued: &IssuedCertificate) -> Place<'_> {
    Place { table: "leaf_keys", row: issued.id.as_bytes(), project: issued.project.as_bytes() }
}

/// What conditions of roles can ask about a certificate that is not made yet.
pub(crate) fn certificate_fields_of(common_name: &str, alt_names: Vec<String>) -> ObjectFields {
    ObjectFields::with(Field::CommonName, common_name)
        .and(Field::AltNames, alt_names)
        .and(Field::FriendlyName, [common_name.to_owned()])
        .and(Field::Status, [ShownStatus::Active.as_str().to_owned()])
}

/// What conditions of roles can ask about a certificate.
pub(crate) fn certificate_fields(certificate: &Certificate, status: ShownStatus) -> ObjectFields {
    let common_name = certificate.subject().first(AttributeType::CommonName).unwrap_or_default();
    ObjectFields::with(Field::CommonName, common_name)
        .and(Field::AltNames, alt_names(certificate))
        .and(Field::SerialNumber, [serial_hex(certificate)])
        .and(Field::FriendlyName, [common_name.to_owned()])
        .and(Field::Status, [status.as_str().to_owned()])
}

fn lost(error: Error) -> StoreError {
    StoreError::Engine(error.to_string())
}
