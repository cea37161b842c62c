//! Issues a certificate. The whole story stands in [`Context::issue`].

use crate::audit::{self, Object};
use crate::context::{Context, failed, key_failed};
use crate::idempotency::Mark;
use crate::registry::ReadyDevice;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::identity::MetadataEntry;
use domain::inventory::{CertificateDetails, CertificateStatus, IssuedCertificate, ShownStatus, alt_names, serial_hex};
use domain::issuance::{Approved, Case, IssuanceRequest, Issuer, Subject, decide};
use domain::permission::{Action, Field, ObjectFields};
use domain::profile::Enrollment;
use domain::renewal::{can_be_planned, renew_at};
use domain::{CertificateId, Error, ProfileId, Result, Time};
use keys::sign::Signer;
use keys::{Place, PrivateKey, Secret, leaf_form};
use serde_json::json;
use std::sync::Arc;
use store::certificate::SealedLeafKey;
use store::{Changes, StoreError};
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
    /// The certificate whose place it takes.
    pub renews: Option<CertificateId>,
    /// How many days before its end that one was to be renewed by itself; its successor is, too.
    pub renew_before_days: Option<u32>,
    /// The device that is made in the same commit.
    pub device: Option<ReadyDevice>,
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
        let outcome = self.try_to_issue(caller, profile, &request, &options).await;
        // A renewal notes its refusal in the record of the certificate.
        if let (Err(error), None) = (&outcome, options.renews) {
            self.note_failed_issuance(caller.organization, profile, &request, error).await;
        }
        outcome
    }

    async fn try_to_issue(
        &self,
        caller: &Caller,
        profile: ProfileId,
        request: &IssuanceRequest,
        options: &IssueOptions,
    ) -> Result<Issued> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            // Decide. Nothing is written yet.
            let issuer = self.issuer_for(caller.organization, profile).await?;
            may_issue(caller, &issuer)?;
            let now = self.clock.now_to_sign()?;
            let approved = decide(Case::Leaf(&issuer, request), now)?;

            // Make the key, build, judge the final bytes, sign. No transaction is open.
            let made = self.subject_key(&request.subject, &approved).await?;
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
            match self.record(caller, &issuer, &approved, der, made, options).await {
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
        issuer: &Issuer,
        approved: &Approved,
        der: Vec<u8>,
        made: Option<Arc<PrivateKey>>,
        options: &IssueOptions,
    ) -> Result<Issued, StoreError> {
        let profile = &issuer.profile;
        let now = self.now();
        let certificate = Certificate::from_der(der.clone()).map_err(|error| {
            StoreError::Engine(format!("a certificate that was just signed does not read: {error}"))
        })?;
        let issued = IssuedCertificate {
            id: self.new_id(),
            project: profile.project,
            judged_by: approved.judged_by(),
            issuer: approved.issued_by(),
            status: CertificateStatus::Active,
            details: CertificateDetails {
                dropped_key_usages: approved.dropped_key_usages(),
                metadata: options.metadata.clone(),
            },
            created_at: now,
            der,
        };
        let mut changes = Changes::new().statement(store::profile::is_unchanged(profile, issuer.policy.version));
        let (sealed, private_key) = match made {
            None => {
                let key = digest::sha256(certificate.spki_der());
                changes = changes.statement(store::revocation::key_is_not_blocked(caller.organization, key));
                (None, None)
            }
            Some(key) => {
                let (sealed, exported) = self.seal_leaf_key(&issued, &key).await.map_err(lost)?;
                let fields = || certificate_fields(&certificate, ShownStatus::Active);
                let may_have = caller.can_with(profile.project, Action::ReadPrivateKey, fields);
                (Some(sealed), may_have.then_some(exported))
            }
        };
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
        let object = Object::new("certificate", issued.id);
        changes = changes
            .with(store::certificate::insert(&issued, &certificate, name, sealed.as_ref()))
            .audit(audit::record(caller, Some(profile.project), "certificate-issued", object, &detail, now));
        if let Some(authority) = approved.authority() {
            changes =
                changes.statement(store::authority::is_unchanged(profile.project, authority.id, authority.version));
        }
        if let Some(predecessor) = options.renews {
            changes = changes
                .with(self.syncs_follow_renewal(predecessor, issued.id).await?)
                .with(store::renewal::insert(predecessor, issued.id, now));
        }
        let planned = domain::renewal::days_of_profile(profile.document.api.as_ref(), &certificate, now)
            .or_else(|| options.renew_before_days.filter(|days| can_be_planned(renew_at(&certificate, *days), now)));
        if let (Some(days), Some(_)) = (planned, &sealed) {
            let plan = store::renewal::plan(issued.id, days, renew_at(&certificate, days));
            changes = changes.statement(plan);
        }
        let not_after = Time::from_seconds(certificate.not_after());
        changes =
            changes.with(self.alerts_follow_issuance(profile.project, issued.id, not_after, options.renews).await?);
        if let Some(device) = &options.device {
            changes = changes.with(self.device_follows(caller, device, &issued, &certificate));
        }
        if let Some(mark) = &options.idempotency {
            changes = changes.statement(store::idempotency::note_certificate(mark, issued.id));
        }
        self.db.commit(changes).await?;
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

    async fn seal_leaf_key(&self, issued: &IssuedCertificate, key: &PrivateKey) -> Result<(SealedLeafKey, Secret)> {
        let exported = key.export_pkcs8().map_err(key_failed)?;
        let data_key = self.data_key(issued.project).await?;
        let kept = leaf_form::compact(&exported);
        let sealed = data_key.seal(leaf_place(issued), kept.expose()).map_err(key_failed)?;
        Ok((SealedLeafKey { data_key_version: data_key.version(), sealed }, exported))
    }

    /// Refuses unless the caller may issue from the profile at this moment.
    #[compiled_here]
    pub async fn must_be_allowed_to_issue(&self, caller: &Caller, profile: ProfileId) -> Result<()> {
        let issuer = self.issuer_for(caller.organization, profile).await?;
        may_issue(caller, &issuer)
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

/// Contract §6.1 steps 2 and 3.
fn may_issue(caller: &Caller, issuer: &Issuer) -> Result<()> {
    let profile = &issuer.profile;
    match profile.enrollment {
        Enrollment::Api => {}
        Enrollment::Est | Enrollment::Acme => {
            return Err(Error::forbidden(format!(
                "the profile {} enrols by {}, not by the API",
                profile.slug,
                profile.enrollment.as_str()
            )));
        }
    }
    caller.may(profile.project, Action::IssueCertificate, &ObjectFields::with(Field::Slug, profile.slug.as_str()))
}

/// Where a leaf's key is sealed for.
fn leaf_place(issued: &IssuedCertificate) -> Place<'_> {
    Place { table: "leaf_keys", row: issued.id.as_bytes(), project: issued.project.as_bytes() }
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
