//! Certificate authorities: making, finding, changing and deleting them (contract §3.1–3.5, 3.7–3.9, 4.1).

use crate::audit::{self, Object};
use crate::context::{Context, failed, key_failed};
use crate::subject::{self, subject_of};
use async_recursion::async_recursion as compiled_here;
use domain::authority::{
    Authority, AuthorityCertificate, AuthorityConfiguration, AuthorityKey, AuthorityKind, AuthorityStatus, KeyProvider,
};
use domain::caller::Caller;
use domain::inventory::serial_hex;
use domain::permission::{Action, Field, ObjectFields};
use domain::revocation::{ListIssuer, ListToBeSigned, RequestToBeSigned};
use domain::slug::{SLUG_CHARACTERS, parse_slug, slugify};
use domain::{AuthorityCertificateId, AuthorityId, Error, OrganizationId, ProjectId, Result, Time};
use keys::sign::Signer;
use keys::{Place, PrivateKey};
use serde_json::json;
use std::sync::Arc;
use store::authority::{AuthorityUsers, CrlRecord, OcspHashes};
use store::{Changes, StoreError};
use x509::{KeyAlgorithm, RevocationReason, Uri, UriHost, pem};

/// What an authority is made with.
pub struct NewAuthority {
    /// Its name, a slug; made from the friendly name or the subject when absent.
    pub name: Option<String>,
    /// Root or intermediate.
    pub kind: AuthorityKind,
    /// Its subject and what its certificate shall say.
    pub configuration: AuthorityConfiguration,
    /// Its key.
    pub key_algorithm: KeyAlgorithm,
    /// How many authorities may follow; none is without limit.
    pub path_length_max: Option<u32>,
    /// When its certificate begins; roots only.
    pub not_before: Option<Time>,
    /// When its certificate ends; roots only.
    pub not_after: Option<Time>,
    /// Whether it issues without a template or profile.
    pub enable_direct_issuance: bool,
}

/// What can change in an authority. Absent stays as it is.
#[derive(Default)]
pub struct AuthorityChange {
    /// Its name.
    pub name: Option<String>,
    /// Active or disabled.
    pub status: Option<AuthorityStatus>,
    /// Whether it issues without a template or profile.
    pub enable_direct_issuance: Option<bool>,
}

/// A certificate of an authority, rendered.
pub struct RenderedCertificate {
    /// Its id.
    pub id: AuthorityCertificateId,
    /// Its number among the authority's certificates.
    pub version: u32,
    /// The certificate in PEM.
    pub certificate: String,
    /// Its parents in PEM; empty for a root.
    pub chain: String,
    /// The certificate itself.
    pub parsed: x509::Certificate,
    /// The authority that certified it, when it is one of ours.
    pub parent: Option<AuthorityId>,
}

/// How long from now a root lives when nothing else is asked for: ten years, which hold two leap days or three
/// (contract §3.1).
const ROOT_LIFETIME_SECONDS: i64 = (10 * 365 + 2) * 24 * 60 * 60;

/// The subject of an authority as text, `C=DE,O=Acme,CN=Root`: in the order in which it is encoded.
pub fn distinguished_name(configuration: &AuthorityConfiguration) -> String {
    subject_of(configuration).map_or_else(|_| String::new(), |subject| subject.render())
}

impl Context {
    /// Makes an authority: its key, its empty revocation list, and for a root its own certificate, in one commit.
    #[compiled_here]
    pub async fn create_authority(&self, caller: &Caller, project: ProjectId, new: NewAuthority) -> Result<Authority> {
        let name = match &new.name {
            Some(name) => checked_name(name)?,
            None => self.made_up_name(&new.configuration),
        };
        caller.may(project, Action::CreateAuthority, &about(&name))?;
        let subject = subject_of(&new.configuration)?;
        subject::check(&new.configuration)?;
        let now = self.clock.now_to_sign()?;
        let private = Arc::new(self.key_pool.generate(new.key_algorithm).await.map_err(key_failed)?);
        let signer = Signer::new(private.clone(), self.key_pool.clone());
        let mut authority = Authority {
            id: self.new_id(),
            project,
            name,
            kind: new.kind,
            status: AuthorityStatus::PendingCertificate,
            enable_direct_issuance: new.enable_direct_issuance,
            key_algorithm: new.key_algorithm,
            configuration: new.configuration,
            path_length_max: new.path_length_max,
            serial_number: None,
            not_before: None,
            not_after: None,
            active_key: self.new_id(),
            active_certificate: None,
            parent: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        if authority.configuration.friendly_name.is_empty() {
            authority.configuration.friendly_name = subject.render();
        }
        let key = self.new_authority_key(&authority, &private, 1).await?;
        let certificate = match authority.kind {
            AuthorityKind::Intermediate => None,
            AuthorityKind::Root => {
                let not_before = new.not_before.unwrap_or(now);
                let not_after = new.not_after.unwrap_or(now.plus_seconds(ROOT_LIFETIME_SECONDS));
                let made = self.self_signed(&authority, &subject, &signer, (not_before, not_after), now).await?;
                activate(&mut authority, &made.parsed, made.stored.id, None);
                Some(made)
            }
        };
        let added = self.key_added(&authority, &key, &subject, &signer, now).await?;
        let detail = json!({
            "name": authority.name, "type": authority.kind.as_str(), "subject": subject.render(),
            "keyAlgorithm": authority.key_algorithm.as_str(),
            "publicKeySha256": crate::context::hex(&x509::digest::sha256(&key.spki)), "serialNumber": authority.serial_number,
        });
        let mut changes = Changes::new().statement(store::authority::insert(&authority)).with(added);
        if let Some(made) = &certificate {
            changes = changes.statement(store::authority::insert_certificate(&made.stored, &made.parsed));
        }
        self.warn_of_loopback(&authority);
        self.commit_authority(caller, changes, &authority, "authority-created", &detail).await?;
        if certificate.is_some() {
            self.prepare_responder(key.id).await;
        }
        Ok(authority)
    }

    fn made_up_name(&self, configuration: &AuthorityConfiguration) -> String {
        let source = match configuration.friendly_name.as_str() {
            "" => distinguished_name(configuration),
            name => name.to_owned(),
        };
        let start: String = source.chars().take(16).collect();
        match slugify(&start) {
            slug if slug.is_empty() => format!("ca-{}", self.random.hex(4)),
            slug => format!("{slug}-{}", self.random.hex(4)),
        }
    }

    /// A loopback address stays in the certificates for as long as they live, so it is said once, loudly.
    fn warn_of_loopback(&self, authority: &Authority) {
        let url = authority.configuration.publication_url.as_deref().unwrap_or(&self.addresses.publication_url);
        if names_this_machine(url) {
            tracing::warn!(
                authority.name = %authority.name, publication_url = %url,
                "certificates of this authority will name a loopback address for its revocation list; \
                 set publication_url before issuing for other machines"
            );
        }
    }

    pub(crate) async fn new_authority_key(
        &self,
        authority: &Authority,
        private: &PrivateKey,
        version: u32,
    ) -> Result<AuthorityKey> {
        let exported = private.export_pkcs8().map_err(key_failed)?;
        let data_key = self.data_key(authority.project).await?;
        let id = authority.active_key;
        let place = Place { table: "authority_keys", row: id.as_bytes(), project: authority.project.as_bytes() };
        Ok(AuthorityKey {
            id,
            authority: authority.id,
            project: authority.project,
            version,
            provider: KeyProvider::Software,
            handle: None,
            algorithm: private.algorithm(),
            spki: private.public_spki_der().to_vec(),
            sealed: Some(data_key.seal(place, exported.expose()).map_err(key_failed)?),
            data_key_version: data_key.version(),
            is_exportable: false,
            issuer_name_id: 0,
            crl: self.new_id(),
        })
    }

    /// What adds a key to an authority, with its empty list.
    pub(crate) async fn key_added(
        &self,
        authority: &Authority,
        key: &AuthorityKey,
        subject: &x509::DistinguishedName,
        signer: &Signer,
        now: Time,
    ) -> Result<Changes> {
        let public = x509::PublicKey::from_spki_der(&key.spki)
            .map_err(|problem| Error::failed(format!("a key that was just made is not usable: {problem}")))?;
        let list = self.first_list(authority, key, subject, &public, signer, now).await?;
        let hashes = OcspHashes {
            name_sha1: x509::digest::sha1(subject.as_der()),
            name_sha256: x509::digest::sha256(subject.as_der()),
            key_sha1: public.key_id_sha1(),
            key_sha256: x509::digest::sha256(public.key_octets()),
        };
        Ok(Changes::new()
            .statement(store::authority::ensure_issuer_name(subject.as_der()))
            .statement(store::authority::insert_key(key, subject.as_der(), &hashes, now))
            .statement(store::authority::insert_crl(&list)))
    }

    /// The empty list that is there from the first moment, so that no certificate ever names one that is missing.
    async fn first_list(
        &self,
        authority: &Authority,
        key: &AuthorityKey,
        subject: &x509::DistinguishedName,
        public: &x509::PublicKey,
        signer: &Signer,
        now: Time,
    ) -> Result<CrlRecord> {
        let issuer = ListIssuer {
            name: subject,
            key_id: &public.key_id_sha1(),
            key_algorithm: key.algorithm,
            number: 1,
            urls: &[],
            delta_urls: &[],
        };
        let der = signer.revocation_list(ListToBeSigned::complete(&issuer, [], now)).await?;
        Ok(CrlRecord {
            id: key.crl,
            project: authority.project,
            authority: authority.id,
            key: key.id,
            shard: 0,
            number: 1,
            der: Some(der),
            this_update: Some(now),
            next_update: Some(now.plus_seconds(domain::revocation::LIST_LIFETIME_SECONDS)),
            delta: None,
        })
    }

    /// An authority by its id.
    #[compiled_here]
    pub async fn authority(&self, caller: &Caller, id: AuthorityId) -> Result<Authority> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::ReadAuthority, &about(&authority.name))?;
        Ok(authority)
    }

    pub(crate) async fn find_authority(&self, caller: &Caller, id: AuthorityId) -> Result<Authority> {
        let authority = store::authority::by_id(&self.db, caller.organization, id).await.map_err(failed)?;
        let authority = authority.ok_or_else(|| Error::not_found(format!("there is no certificate authority {id}")))?;
        caller.rules(authority.project)?;
        Ok(authority)
    }

    /// Which authority of the project has a name: for members, whatever they may do to it.
    #[compiled_here]
    pub async fn authority_named(&self, caller: &Caller, project: ProjectId, name: &str) -> Result<AuthorityId> {
        caller.rules(project)?;
        let authority = store::authority::by_name(&self.db, project, name).await.map_err(failed)?;
        let missing = || Error::not_found(format!("the project has no certificate authority {name}"));
        Ok(authority.ok_or_else(missing)?.id)
    }

    /// The authorities of a project that the caller may see.
    #[compiled_here]
    pub async fn authorities(&self, caller: &Caller, project: ProjectId) -> Result<Vec<Authority>> {
        caller.may_some(project, Action::ReadAuthority)?;
        let authorities = store::authority::list(&self.db, project).await.map_err(failed)?;
        let visible = authorities
            .into_iter()
            .filter(|authority| caller.can(project, Action::ReadAuthority, &about(&authority.name)));
        Ok(visible.collect())
    }

    /// Changes an authority.
    #[compiled_here]
    pub async fn change_authority(
        &self,
        caller: &Caller,
        id: AuthorityId,
        change: AuthorityChange,
    ) -> Result<Authority> {
        let mut authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::EditAuthority, &about(&authority.name))?;
        if let Some(name) = &change.name {
            authority.name = checked_name(name)?;
            caller.may(authority.project, Action::EditAuthority, &about(&authority.name))?;
        }
        if change.status == Some(AuthorityStatus::Active) {
            self.authority_must_not_be_withdrawn(&authority, caller.organization).await?;
        }
        authority.status = change.status.unwrap_or(authority.status);
        authority.enable_direct_issuance = change.enable_direct_issuance.unwrap_or(authority.enable_direct_issuance);
        authority.version += 1;
        authority.updated_at = self.now();
        let detail = json!({
            "name": authority.name, "status": authority.status.as_str(),
            "enableDirectIssuance": authority.enable_direct_issuance,
        });
        let changes = Changes::new().statement(store::authority::update(&authority));
        self.commit_authority(caller, changes, &authority, "authority-changed", &detail).await?;
        Ok(authority)
    }

    /// Refuses an authority that was withdrawn: whatever it signed would be worth nothing.
    async fn authority_must_not_be_withdrawn(&self, authority: &Authority, organization: OrganizationId) -> Result<()> {
        match self.withdrawal_of(authority, organization).await? {
            None => Ok(()),
            Some(why) => Err(Error::wrong_state(format!(
                "{why}: give {} another certificate first, by a renewal with a new key",
                authority.name
            ))),
        }
    }

    /// Why an authority must not sign with its present key again: its certificate was revoked, or another one of that key
    /// was for KEY_COMPROMISE.
    pub(crate) async fn withdrawal_of(
        &self,
        authority: &Authority,
        organization: OrganizationId,
    ) -> Result<Option<String>> {
        let Some(active) = authority.active_certificate else { return Ok(None) };
        let stored = store::authority::certificate(&self.db, authority.id, active).await.map_err(failed)?;
        let Some(stored) = stored else { return Ok(None) };
        let certificate = x509::Certificate::from_der(stored.der)
            .map_err(|error| Error::failed_because("an authority's certificate does not read", error))?;
        if let Some(reason) = self.revocation_in_inventory(authority.project, &certificate).await? {
            return Ok(Some(format!("the certificate of {} is revoked ({})", authority.name, reason.as_str())));
        }
        let key = x509::digest::sha256(certificate.spki_der());
        let is_blocked = store::revocation::is_key_blocked(&self.db, organization, key).await.map_err(failed)?;
        Ok(is_blocked.then(|| format!("the key of {} was revoked for KEY_COMPROMISE", authority.name)))
    }

    /// Why the inventory of a project has this certificate as revoked, if it does.
    pub(crate) async fn revocation_in_inventory(
        &self,
        project: ProjectId,
        certificate: &x509::Certificate,
    ) -> Result<Option<RevocationReason>> {
        let serial = certificate.serial_content();
        let rows = store::certificate::in_project_by_serial(&self.db, project, serial).await.map_err(failed)?;
        let row = rows.into_iter().find(|row| row.issued.der == certificate.as_der());
        Ok(row.and_then(|row| row.revocation_reason))
    }

    /// Deletes an authority that no profile names and that certified no other. What it signed goes on being looked
    /// after: its key is kept until the last certificate has expired.
    #[compiled_here]
    pub async fn delete_authority(&self, caller: &Caller, id: AuthorityId) -> Result<Authority> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::DeleteAuthority, &about(&authority.name))?;
        let users = store::authority::users(&self.db, authority.project, id).await.map_err(failed)?;
        let AuthorityUsers { profiles, authorities, templates, subscribers } = users;
        if [profiles, authorities, templates, subscribers].iter().any(|count| *count > 0) {
            return Err(Error::wrong_state(format!(
                "the certificate authority {} is in use by {profiles} profiles, {templates} templates, {subscribers} \
                 subscribers and {authorities} authorities below it",
                authority.name
            )));
        }
        let changes = Changes::new().statement(store::authority::delete(
            authority.project,
            authority.id,
            authority.version,
            self.now(),
        ));
        let changes = changes.statement(store::collection::remove_authority(authority.project, authority.id));
        let detail = json!({ "name": authority.name });
        self.commit_authority(caller, changes, &authority, "authority-deleted", &detail).await?;
        Ok(authority)
    }

    /// A certification request for an intermediate's key.
    #[compiled_here]
    pub async fn authority_csr(&self, caller: &Caller, id: AuthorityId) -> Result<String> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::CreateAuthority, &about(&authority.name))?;
        match authority.kind {
            AuthorityKind::Root => return Err(Error::invalid("a root signs its own certificate and needs no CSR")),
            AuthorityKind::Intermediate => {}
        }
        let subject = subject_of(&authority.configuration)?;
        let signer = self.signer(authority.active_key).await?;
        let request = RequestToBeSigned::new(&subject, signer.public_spki_der(), authority.key_algorithm);
        Ok(pem::encode(pem::CERTIFICATE_REQUEST, &signer.request(request).await?))
    }

    /// The active certificate of an authority.
    #[compiled_here]
    pub async fn authority_certificate(&self, caller: &Caller, id: AuthorityId) -> Result<RenderedCertificate> {
        let authority = self.find_authority(caller, id).await?;
        let Some(active) = authority.active_certificate else {
            return Err(Error::wrong_state(format!(
                "the certificate authority {} has no certificate installed",
                authority.name
            )));
        };
        caller.may(authority.project, Action::ReadAuthority, &about(&authority.name))?;
        let stored = store::authority::certificate(&self.db, id, active).await.map_err(failed)?;
        let stored = stored.ok_or_else(|| Error::failed("an authority's active certificate is not stored"))?;
        self.rendered(stored).await
    }

    /// One certificate of an authority.
    #[compiled_here]
    pub async fn authority_certificate_by_id(
        &self,
        caller: &Caller,
        id: AuthorityId,
        certificate: AuthorityCertificateId,
    ) -> Result<RenderedCertificate> {
        let authority = self.authority(caller, id).await?;
        let stored = store::authority::certificate(&self.db, authority.id, certificate).await.map_err(failed)?;
        let stored =
            stored.ok_or_else(|| Error::not_found(format!("the authority has no certificate {certificate}")))?;
        self.rendered(stored).await
    }

    /// Every certificate of an authority, oldest first.
    #[compiled_here]
    pub async fn authority_certificates(&self, caller: &Caller, id: AuthorityId) -> Result<Vec<RenderedCertificate>> {
        let authority = self.authority(caller, id).await?;
        let mut rendered = Vec::new();
        for stored in store::authority::certificates(&self.db, authority.id).await.map_err(failed)? {
            rendered.push(self.rendered(stored).await?);
        }
        Ok(rendered)
    }

    async fn rendered(&self, stored: AuthorityCertificate) -> Result<RenderedCertificate> {
        let parent = match stored.parent_certificate {
            None => None,
            Some(id) => store::authority::owner_of(&self.db, id).await.map_err(failed)?,
        };
        rendered(stored, parent)
    }

    /// The certificate of an authority for anybody who follows a certificate's AIA URL; deleted authorities too.
    #[compiled_here]
    pub async fn published_certificate(
        &self,
        authority: AuthorityId,
        certificate: AuthorityCertificateId,
    ) -> Result<Vec<u8>> {
        let stored = store::authority::certificate(&self.db, authority, certificate).await.map_err(failed)?;
        Ok(stored.ok_or_else(|| Error::not_found("there is no such certificate"))?.der)
    }

    pub(crate) async fn commit_authority(
        &self,
        caller: &Caller,
        changes: Changes,
        authority: &Authority,
        event: &'static str,
        detail: &serde_json::Value,
    ) -> Result<()> {
        let object = Object::new("certificate-authority", authority.id);
        let now = self.now();
        let record = audit::record(caller, Some(authority.project), event, object, detail, now);
        match self.db.commit(changes.audit(record).configuration()).await {
            Ok(()) => {
                self.clock.note_committed(now);
                Ok(())
            }
            Err(StoreError::Conflict { constraint }) if constraint == store::authority::UNIQUE_NAME => {
                let message = format!("the project has a certificate authority {} already", authority.name);
                Err(Error::already_exists(message))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Makes a certificate the active one of its authority. A disabled authority stays disabled (contract §3.11 step 10).
pub(crate) fn activate(
    authority: &mut Authority,
    certificate: &x509::Certificate,
    id: AuthorityCertificateId,
    parent: Option<AuthorityId>,
) {
    let constraints = certificate.extensions().basic_constraints().ok().flatten();
    authority.status = match authority.status {
        AuthorityStatus::Disabled => AuthorityStatus::Disabled,
        AuthorityStatus::Active | AuthorityStatus::PendingCertificate => AuthorityStatus::Active,
    };
    authority.active_certificate = Some(id);
    authority.serial_number = Some(serial_hex(certificate));
    authority.not_before = Some(Time::from_seconds(certificate.not_before()));
    authority.not_after = Some(Time::from_seconds(certificate.not_after()));
    authority.path_length_max = constraints.and_then(|constraints| constraints.path_length);
    authority.parent = parent;
}

pub(crate) fn rendered(stored: AuthorityCertificate, parent: Option<AuthorityId>) -> Result<RenderedCertificate> {
    let certificate = pem::encode(pem::CERTIFICATE, &stored.der);
    let parsed = x509::Certificate::from_der(stored.der)
        .map_err(|error| Error::failed_because("a stored authority certificate does not read", error))?;
    Ok(RenderedCertificate { id: stored.id, version: stored.version, certificate, chain: stored.chain, parsed, parent })
}

/// Whether a URL leads to the machine that follows it.
fn names_this_machine(url: &str) -> bool {
    match Uri::parse(url).ok().as_ref().and_then(Uri::host) {
        Some(UriHost::Name(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(UriHost::Address(address)) => address.is_loopback(),
        None => false,
    }
}

pub(crate) fn about(name: &str) -> ObjectFields {
    ObjectFields::with(Field::Name, name)
}

fn checked_name(name: &str) -> Result<String> {
    parse_slug(name, SLUG_CHARACTERS).map_err(|problem| Error::invalid(format!("name {problem}")))
}
