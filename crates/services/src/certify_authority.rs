//! Certificates for authorities: self-signed, from a parent of ours, renewed, and for somebody else's request
//! (contract §3.6, 3.10, 4.3). All go through `decide`.

use crate::authorities::{RenderedCertificate, about, activate, rendered};
use crate::context::{Context, failed, key_failed};
use crate::subject::{extended_key_usages, name_constraints, policies, subject_of};
use async_recursion::async_recursion as compiled_here;
use domain::authority::{Authority, AuthorityCertificate, AuthorityKey, AuthorityKind};
use domain::caller::Caller;
use domain::inventory::serial_hex;
use domain::issuance::{AuthorityRequest, Case, IssuingAuthority, decide, requested_extensions, requested_subject};
use domain::job::Job;
use domain::permission::Action;
use domain::{AuthorityId, Error, OrganizationId, Result, Time};
use keys::sign::Signer;
use serde_json::json;
use std::sync::Arc;
use store::Changes;
use x509::{Certificate, CertificationRequest, DistinguishedName, digest, pem};

/// A certificate of an authority that was made and is not stored yet.
pub(crate) struct Made {
    pub(crate) stored: AuthorityCertificate,
    pub(crate) parsed: Certificate,
}

/// A certificate that was made for somebody else's authority.
pub struct SignedIntermediate {
    /// The certificate in PEM.
    pub certificate: String,
    /// The issuing authority and its parents in PEM.
    pub chain: String,
    /// The issuing authority's certificate in PEM.
    pub issuing_ca: String,
    /// The serial number in hex.
    pub serial_number: String,
}

/// What a certificate for an authority that is not ours is asked for with, besides its request.
pub struct SignIntermediate {
    /// The beginning; now when absent.
    pub not_before: Option<Time>,
    /// The end.
    pub not_after: Time,
    /// How many authorities may follow; none is without limit.
    pub path_length: Option<u32>,
}

/// What a certificate for an authority of ours is asked for with.
pub struct CertifyAuthority {
    /// The beginning.
    pub not_before: Time,
    /// The end.
    pub not_after: Time,
    /// How many authorities may follow; none is without limit.
    pub path_length: Option<u32>,
    /// The authority of ours that signs; none signs itself.
    pub parent: Option<AuthorityId>,
}

/// What is made for an authority of ours, and how it is told of.
struct Installation {
    lifetime: (Time, Time),
    path_length: Option<u32>,
    key: RenewalKey,
    event: &'static str,
}

/// Which key an authority is renewed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalKey {
    /// The one that it has.
    Existing,
    /// A new one. The old one goes on signing its list until all that it signed has expired.
    New,
}

/// The key that a certificate for an authority of ours is made for.
struct SubjectKey {
    key: AuthorityKey,
    signer: Signer,
    /// What adds the key and its list, when it is new.
    added: Option<Changes>,
}

/// How many certificates may stand above one: a chain that is stored must be readable again.
const CHAIN_MAX: usize = pem::BLOCKS_MAX;

impl Context {
    /// Makes a new certificate for an authority's own key: self-signed, or from a parent of ours (contract §4.3).
    #[compiled_here]
    pub async fn certify_authority(
        &self,
        caller: &Caller,
        id: AuthorityId,
        asked: CertifyAuthority,
    ) -> Result<RenderedCertificate> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::RenewAuthority, &about(&authority.name))?;
        match (asked.parent, authority.kind) {
            (None, AuthorityKind::Intermediate) => {
                return Err(Error::invalid("an intermediate needs a parent: name it with parentCaId"));
            }
            (Some(_), AuthorityKind::Root) => {
                return Err(Error::invalid("a root signs itself and takes no parentCaId"));
            }
            (Some(_), AuthorityKind::Intermediate) | (None, AuthorityKind::Root) => {}
        }
        let parent = match asked.parent {
            None => None,
            Some(parent) => {
                let (parent, issuing) = self.parent_of(&authority, parent).await?;
                // The caller chose the parent, so the caller must have a right over it too.
                if !caller.can(parent.project, Action::SignIntermediate, &about(&parent.name)) {
                    caller.may(parent.project, Action::RenewAuthority, &about(&parent.name))?;
                }
                self.must_not_be_below(&authority, &parent).await?;
                Some((parent, issuing))
            }
        };
        let asked = Installation {
            lifetime: (asked.not_before, asked.not_after),
            path_length: asked.path_length,
            key: RenewalKey::Existing,
            event: "authority-certified",
        };
        self.install(caller, authority, parent, asked).await
    }

    /// Prolongs an authority (contract §3.6).
    #[compiled_here]
    pub async fn renew_authority(
        &self,
        caller: &Caller,
        id: AuthorityId,
        not_after: Time,
        key: RenewalKey,
    ) -> Result<RenderedCertificate> {
        let authority = self.find_authority(caller, id).await?;
        let (Some(_), Some(current_end)) = (authority.active_certificate, authority.not_after) else {
            return Err(Error::wrong_state(format!(
                "the certificate authority {} has no certificate installed",
                authority.name
            )));
        };
        caller.may(authority.project, Action::RenewAuthority, &about(&authority.name))?;
        // One that stopped since its certificate or its key was revoked goes on with a new key.
        if key == RenewalKey::Existing || self.withdrawal_of(&authority, caller.organization).await?.is_none() {
            must_not_be_disabled(&authority)?;
        }
        // A new key may live for a shorter time than the one before.
        if key == RenewalKey::Existing && not_after <= current_end {
            return Err(Error::invalid("notAfter must be later than the end of the present certificate"));
        }
        let parent = match (authority.kind, authority.parent) {
            (AuthorityKind::Root, _) => None,
            (AuthorityKind::Intermediate, Some(parent)) => Some(self.parent_of(&authority, parent).await?),
            (AuthorityKind::Intermediate, None) => {
                return Err(Error::invalid(
                    "the authority was certified outside; renew it there with its CSR and import the new certificate",
                ));
            }
        };
        let asked = Installation {
            lifetime: (self.now(), not_after),
            path_length: authority.path_length_max,
            key,
            event: "authority-renewed",
        };
        self.install(caller, authority, parent, asked).await
    }

    /// Plans the jobs for authorities below one of ours that are in the last third of their life, and that their parent can
    /// prolong.
    #[compiled_here]
    pub async fn begin_authority_renewals(&self) -> Result<()> {
        let now = self.now();
        for (organization, authority) in self.authorities_due().await? {
            let job = Job::RenewAuthority { organization, authority };
            self.commit(Changes::new().statement(store::job::enqueue_if_absent(self.new_id(), &job, now, now))).await?;
        }
        Ok(())
    }

    async fn authorities_due(&self) -> Result<Vec<(OrganizationId, AuthorityId)>> {
        store::authority::renewals_due(&self.db, self.now()).await.map_err(failed)
    }

    /// Prolongs an authority by as much as it lived, as far as its parent lives.
    #[compiled_here]
    pub async fn renew_authority_by_plan(&self, organization: OrganizationId, id: AuthorityId) -> Result<()> {
        let due = self.authorities_due().await?;
        if !due.contains(&(organization, id)) {
            return Ok(());
        }
        let authority = store::authority::by_id(&self.db, organization, id).await.map_err(failed)?;
        let Some(authority) = authority else { return Ok(()) };
        let (Some(from), Some(to), Some(parent)) = (authority.not_before, authority.not_after, authority.parent) else {
            return Ok(());
        };
        let parent = store::authority::in_project(&self.db, authority.project, parent).await.map_err(failed)?;
        let Some(limit) = parent.and_then(|parent| parent.not_after) else { return Ok(()) };
        let wanted = self.now().plus_seconds(to.seconds() - from.seconds());
        let caller = Caller::node_administering(organization, authority.project);
        self.renew_authority(&caller, id, wanted.min(limit), RenewalKey::Existing).await.map(drop)
    }

    /// An authority of the same project.
    async fn parent_of(
        &self,
        authority: &Authority,
        parent: AuthorityId,
    ) -> Result<(Authority, Arc<IssuingAuthority>)> {
        let found = store::authority::in_project(&self.db, authority.project, parent).await.map_err(failed)?;
        let parent = found
            .ok_or_else(|| Error::not_found(format!("there is no certificate authority {parent} in the project")))?;
        let issuing = self.issuing(&parent).await?;
        Ok((parent, issuing))
    }

    /// Refuses a parent that hangs below the authority itself: a path must end.
    pub(crate) async fn must_not_be_below(&self, authority: &Authority, parent: &Authority) -> Result<()> {
        let mut above = Some(parent.id);
        for _ in 0..=CHAIN_MAX {
            let Some(id) = above else { return Ok(()) };
            if id == authority.id {
                return Err(Error::invalid(format!(
                    "{} is below {} and cannot certify it",
                    parent.name, authority.name
                )));
            }
            let next = store::authority::in_project(&self.db, authority.project, id).await.map_err(failed)?;
            above = next.and_then(|next| next.parent);
        }
        Err(Error::invalid(format!("{} has more than {CHAIN_MAX} authorities above it", parent.name)))
    }

    async fn install(
        &self,
        caller: &Caller,
        mut authority: Authority,
        parent: Option<(Authority, Arc<IssuingAuthority>)>,
        asked: Installation,
    ) -> Result<RenderedCertificate> {
        let now = self.clock.now_to_sign()?;
        authority.path_length_max = asked.path_length;
        let subject = self.certified_subject(&authority).await?;
        let SubjectKey { key, signer, added } = match asked.key {
            RenewalKey::New => self.added_key(&mut authority, &subject, now).await?,
            RenewalKey::Existing => {
                let key = self.authority_key(authority.active_key).await?;
                self.key_must_not_be_blocked(caller, &key.spki).await?;
                SubjectKey { signer: self.signer(key.id).await?, key, added: None }
            }
        };
        let made = match &parent {
            None => self.self_signed(&authority, &subject, &signer, asked.lifetime, now).await?,
            Some((_, issuing)) => self.signed_by(&authority, &subject, &key.spki, issuing, asked.lifetime, now).await?,
        };
        activate(&mut authority, &made.parsed, made.stored.id, parent.as_ref().map(|(parent, _)| parent.id));
        authority.version += 1;
        authority.updated_at = now;
        let detail = json!({
            "name": authority.name, "serialNumber": authority.serial_number,
            "parent": authority.parent.map(|id| id.to_string()), "keyVersion": key.version,
        });
        // First what is held to the version that was read: whoever was slower is told so.
        let mut changes = Changes::new().statement(store::authority::update(&authority));
        let list = match added {
            Some(added) => {
                changes = changes.with(added);
                None
            }
            None => Some(self.list_for(&key, &made.parsed).await?),
        };
        changes = changes.statement(store::authority::insert_certificate(&made.stored, &made.parsed));
        if let Some(list) = &list {
            changes = changes.statement(store::authority::publish_crl(list));
        }
        if let Some((parent, _)) = &parent {
            let unchanged = store::authority::is_unchanged(parent.project, parent.id, parent.version);
            changes = changes.statement(unchanged).with(self.inventory_of(&made, parent).await?);
        }
        let spki_sha256 = digest::sha256(&key.spki);
        changes = changes.statement(store::revocation::key_is_not_blocked(caller.organization, spki_sha256));
        self.commit_authority(caller, changes, &authority, asked.event, &detail).await?;
        self.prepare_responder(key.id).await;
        rendered(made.stored, authority.parent)
    }

    /// Makes a new key for an authority, with its own empty list, and makes it the active one.
    async fn added_key(&self, authority: &mut Authority, subject: &DistinguishedName, now: Time) -> Result<SubjectKey> {
        let private = Arc::new(self.key_pool.generate(authority.key_algorithm).await.map_err(key_failed)?);
        let before = self.authority_key(authority.active_key).await?;
        authority.active_key = self.new_id();
        let key = self.new_authority_key(authority, &private, before.version + 1).await?;
        let signer = Signer::new(private, self.key_pool.clone());
        let added = self.key_added(authority, &key, subject, &signer, now).await?;
        Ok(SubjectKey { key, signer, added: Some(added) })
    }

    /// The subject of the active certificate, byte for byte, or the configured one while there is none: certificates
    /// that were issued before name it.
    async fn certified_subject(&self, authority: &Authority) -> Result<DistinguishedName> {
        match &self.issuing(authority).await?.active {
            Some(active) => Ok(active.certificate.subject().clone()),
            None => subject_of(&authority.configuration),
        }
    }

    pub(crate) async fn self_signed(
        &self,
        authority: &Authority,
        subject: &DistinguishedName,
        signer: &Signer,
        (not_before, not_after): (Time, Time),
        now: Time,
    ) -> Result<Made> {
        let request = authority_request(authority, subject.clone(), not_before, not_after)?;
        let approved = decide(Case::Authority(None, request), now)?;
        let to_be_signed = approved.certify(signer.public_spki_der(), self.serial_number()?)?;
        let der = signer.certificate(to_be_signed).await?;
        self.made(authority, der, String::new(), None, now).await
    }

    async fn signed_by(
        &self,
        authority: &Authority,
        subject: &DistinguishedName,
        spki: &[u8],
        parent: &Arc<IssuingAuthority>,
        (not_before, not_after): (Time, Time),
        now: Time,
    ) -> Result<Made> {
        let request = authority_request(authority, subject.clone(), not_before, not_after)?;
        let approved = decide(Case::Authority(Some(parent), request), now)?;
        let above = parent.active.iter().map(|active| active.chain_pem.matches("-----BEGIN").count()).sum::<usize>();
        if above > CHAIN_MAX {
            let message = format!("the chain would be longer than {CHAIN_MAX} certificates above {}", authority.name);
            return Err(Error::invalid(message));
        }
        let to_be_signed = approved.certify(spki, self.serial_number()?)?;
        let der = self.signer(parent.key).await?.certificate(to_be_signed).await?;
        let active = parent.active.as_ref().ok_or_else(|| Error::failed("a parent without a certificate signed"))?;
        self.made(authority, der, active.chain_pem.clone(), Some(active.id), now).await
    }

    async fn made(
        &self,
        authority: &Authority,
        der: Vec<u8>,
        chain: String,
        parent_certificate: Option<domain::AuthorityCertificateId>,
        now: Time,
    ) -> Result<Made> {
        let parsed = Certificate::from_der(der.clone())
            .map_err(|error| Error::failed_because("a certificate that was just signed does not read", error))?;
        let version = store::authority::newest_version(&self.db, authority.id).await.map_err(failed)? + 1;
        let stored = AuthorityCertificate {
            id: self.new_id(),
            authority: authority.id,
            project: authority.project,
            key: authority.active_key,
            version,
            der,
            chain,
            parent_certificate,
            created_at: now,
        };
        Ok(Made { stored, parsed })
    }

    /// Signs the certificate of an authority that is not ours from its request (contract §3.10).
    #[compiled_here]
    pub async fn sign_intermediate(
        &self,
        caller: &Caller,
        id: AuthorityId,
        csr: &str,
        asked: SignIntermediate,
    ) -> Result<SignedIntermediate> {
        let parent = self.find_authority(caller, id).await?;
        caller.may(parent.project, Action::SignIntermediate, &about(&parent.name))?;
        let now = self.clock.now_to_sign()?;
        let issuing = self.issuing(&parent).await?;
        let csr = CertificationRequest::from_pem(csr).map_err(|error| Error::invalid(format!("csr: {error}")))?;
        let key = csr.public_key().map_err(|problem| Error::bad_key(format!("the key of the CSR: {problem}")))?;
        requested_extensions(&csr)?;
        let request = AuthorityRequest {
            subject: requested_subject(&csr)?,
            key_algorithm: key.algorithm(),
            path_length: asked.path_length,
            not_before: asked.not_before.unwrap_or(now),
            not_after: asked.not_after,
            name_constraints: None,
            policies: Vec::new(),
            extended_key_usages: Vec::new(),
        };
        let approved = decide(Case::Authority(Some(&issuing), request), now)?;
        if !csr.verify() {
            return Err(Error::bad_request_signature("the CSR's own signature does not hold"));
        }
        let to_be_signed = approved.certify(key.spki_der(), self.serial_number()?)?;
        let der = self.signer(issuing.key).await?.certificate(to_be_signed).await?;
        let parsed = Certificate::from_der(der.clone())
            .map_err(|error| Error::failed_because("a certificate that was just signed does not read", error))?;
        let active = issuing.active.as_ref().ok_or_else(|| Error::failed("a parent without a certificate signed"))?;
        let serial_number = serial_hex(&parsed);
        let detail = json!({
            "serialNumber": serial_number, "subject": parsed.subject().render(),
            "droppedKeyUsages": approved.dropped_key_usages(),
        });
        self.key_must_not_be_blocked(caller, key.spki_der()).await?;
        let changes = Changes::new()
            .statement(store::authority::is_unchanged(parent.project, parent.id, parent.version))
            .statement(store::revocation::key_is_not_blocked(caller.organization, digest::sha256(key.spki_der())))
            .with(self.inventory_entry(&der, &parsed, &parent, &issuing, now));
        self.commit_authority(caller, changes, &parent, "intermediate-signed", &detail).await?;
        Ok(SignedIntermediate {
            certificate: pem::encode(pem::CERTIFICATE, &der),
            chain: active.chain_pem.clone(),
            issuing_ca: active.pem.clone(),
            serial_number,
        })
    }

    async fn inventory_of(&self, made: &Made, parent: &Authority) -> Result<Changes> {
        let issuing = self.issuing(parent).await?;
        Ok(self.inventory_entry(&made.stored.der, &made.parsed, parent, &issuing, made.stored.created_at))
    }

    /// Every certificate that an authority of ours signs stands in the inventory under its serial number, those of
    /// authorities too: so none is drawn twice, and each can be revoked.
    fn inventory_entry(
        &self,
        der: &[u8],
        parsed: &Certificate,
        parent: &Authority,
        issuing: &IssuingAuthority,
        now: Time,
    ) -> Changes {
        let issued = domain::inventory::IssuedCertificate {
            id: self.new_id(),
            project: parent.project,
            judged_by: None,
            issuer: issuing.active.as_ref().map(|active| domain::inventory::IssuedBy {
                authority: issuing.id,
                key: issuing.key,
                certificate: active.id,
                shard: issuing.shard,
            }),
            status: domain::inventory::CertificateStatus::Active,
            details: domain::inventory::CertificateDetails::default(),
            created_at: now,
            der: der.to_vec(),
        };
        store::certificate::insert(&issued, parsed, issuing.issuer_name_id, None)
    }
}

fn authority_request(
    authority: &Authority,
    subject: DistinguishedName,
    not_before: Time,
    not_after: Time,
) -> Result<AuthorityRequest> {
    // RFC 5280 §4.1.2.5: times until 2049 are UTCTimes, and those begin with the year 1950.
    if not_before.seconds() < x509::time::UTC_TIME_FIRST {
        return Err(Error::invalid("notBefore lies before the year 1950, which a certificate cannot say"));
    }
    Ok(AuthorityRequest {
        subject,
        key_algorithm: authority.key_algorithm,
        path_length: authority.path_length_max,
        not_before,
        not_after,
        name_constraints: name_constraints(&authority.configuration)?,
        policies: policies(&authority.configuration)?,
        extended_key_usages: extended_key_usages(&authority.configuration)?,
    })
}

fn must_not_be_disabled(authority: &Authority) -> Result<()> {
    match authority.status {
        domain::authority::AuthorityStatus::Disabled => {
            Err(Error::wrong_state(format!("the certificate authority {} is disabled", authority.name)))
        }
        domain::authority::AuthorityStatus::Active | domain::authority::AuthorityStatus::PendingCertificate => Ok(()),
    }
}
