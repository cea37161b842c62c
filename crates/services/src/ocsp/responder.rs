//! Responders: keys of this server that an authority lets speak of its certificates (RFC 6960 §4.2.2.2), by certificates of a
//! few days that nobody can revoke. Each key of an authority has one, and gets the next long before that ends.
//!
//! Such a certificate is not in the inventory: it is nobody's but this server's, no policy judges it and no list names it.

use crate::audit::{self, Object};
use crate::context::{Context, failed, key_failed};
use crate::issuer::active_certificate;
use async_recursion::async_recursion as compiled_here;
use domain::authority::{Authority, AuthorityCertificate, AuthorityKey};
use domain::caller::Caller;
use domain::inventory::serial_hex;
use domain::issuance::{Case, IssuingAuthority, decide};
use domain::job::Job;
use domain::ocsp::RESPONDER_RENEWAL_SECONDS;
use domain::{AuthorityKeyId, Error, OrganizationId, Result, Time};
use keys::sign::Signer;
use keys::{Place, PrivateKey};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::ocsp::ResponderRecord;
use store::{Changes, StoreError};
use uuid::Uuid;
use x509::{Certificate, KeyAlgorithm};

/// How long after a failure to make one it is tried again for somebody who asks.
const AGAIN: Duration = Duration::from_secs(5);

/// A responder that can sign.
pub(super) struct Responder {
    pub(super) version: u32,
    /// Its certificate.
    pub(super) der: Vec<u8>,
    /// SHA-1 of its key.
    pub(super) key_id: [u8; 20],
    not_before: Time,
    pub(super) not_after: Time,
    pub(super) signer: Signer,
    /// The name of the key that made it, and that key's identifier.
    pub(super) issuer: Vec<u8>,
    pub(super) issuer_key_id: Option<Vec<u8>>,
}

impl Responder {
    pub(super) fn is_valid(&self, now: Time) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

/// What is remembered of responders.
#[derive(Default)]
pub(super) struct Responders {
    /// Those whose key was opened, by their ids.
    opened: Mutex<HashMap<Uuid, Arc<Responder>>>,
    /// Whose turn it is to make one, and when that failed last, for each key of an authority.
    turns: Mutex<HashMap<AuthorityKeyId, Arc<tokio::sync::Mutex<Option<Instant>>>>>,
}

impl Responders {
    fn opened(&self, id: Uuid) -> Option<Arc<Responder>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn remember(&self, id: Uuid, responder: Arc<Responder>, now: Time) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, one| now <= one.not_after);
        opened.insert(id, responder);
    }

    fn turn(&self, key: AuthorityKeyId) -> Arc<tokio::sync::Mutex<Option<Instant>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }
}

impl Context {
    /// The responders of a key whose certificates name it as it is called now, the newest first.
    pub(super) async fn responders_of(&self, key: AuthorityKeyId) -> Result<Vec<Arc<Responder>>> {
        let certificate = store::authority::newest_certificate_of(&self.db, key).await.map_err(failed)?;
        let Some(certificate) = certificate else { return Ok(Vec::new()) };
        let issuer = read(certificate.der)?;
        let mut responders = Vec::new();
        for record in store::ocsp::responders(&self.db, key).await.map_err(failed)? {
            let responder = self.open_responder(record).await?;
            if responder.issuer == issuer.subject().as_der() {
                responders.push(responder);
            }
        }
        Ok(responders)
    }

    async fn open_responder(&self, record: ResponderRecord) -> Result<Arc<Responder>> {
        if let Some(known) = self.state.ocsp.responders.opened(record.id) {
            return Ok(known);
        }
        let (id, version) = (record.id, record.version);
        let (certificate, private) = self.read_responder(&record).await?;
        let responder = Arc::new(Responder {
            version,
            key_id: x509::key::key_id_sha1(private.public_spki_der())
                .map_err(|problem| Error::failed(format!("the key of a responder is not usable: {problem}")))?,
            not_before: Time::from_seconds(certificate.not_before()),
            not_after: Time::from_seconds(certificate.not_after()),
            signer: Signer::new(Arc::new(private), self.key_pool.clone()),
            issuer: certificate.issuer().as_der().to_vec(),
            issuer_key_id: issuer_key_id(&certificate)?,
            der: record.der,
        });
        self.state.ocsp.responders.remember(id, responder.clone(), self.now());
        Ok(responder)
    }

    /// The certificate and the private key of a responder, which belong together.
    pub(crate) async fn read_responder(&self, record: &ResponderRecord) -> Result<(Certificate, PrivateKey)> {
        let certificate = read(record.der.clone())?;
        let place = Place { table: "ocsp_responders", row: record.id.as_bytes(), project: record.project.as_bytes() };
        let opened = self.open(place, &record.sealed).await?;
        let private = PrivateKey::from_pkcs8(opened.expose()).map_err(key_failed)?;
        if private.public_spki_der() != certificate.spki_der() {
            return Err(Error::failed("the key of a responder is not that of its certificate"));
        }
        Ok((certificate, private))
    }

    /// Plans the jobs for keys of authorities whose responder ends soon, or that have none.
    #[compiled_here]
    pub async fn begin_responders(&self) -> Result<()> {
        for key in self.responders_due().await? {
            self.enqueue(&Job::RenewResponder { key }, self.now()).await?;
        }
        Ok(())
    }

    /// The keys of authorities whose responder ends soon, or that have none.
    #[compiled_here]
    pub async fn responders_due(&self) -> Result<Vec<AuthorityKeyId>> {
        let now = self.now();
        let before = now.plus_seconds(RESPONDER_RENEWAL_SECONDS);
        store::ocsp::responders_due(&self.db, before, now).await.map_err(failed)
    }

    /// Makes the next responder of a key, if it is time.
    #[compiled_here]
    pub async fn renew_responder(&self, key: AuthorityKeyId) -> Result<()> {
        let turn = self.state.ocsp.responders.turn(key);
        let _turn = turn.lock().await;
        self.make_responder(key).await
    }

    /// Makes the responder of a key for somebody who asks; when that failed a moment ago, it is not tried again.
    pub(super) async fn make_missing_responder(&self, key: AuthorityKeyId) -> Result<()> {
        let turn = self.state.ocsp.responders.turn(key);
        let mut failed_at = turn.lock().await;
        if failed_at.is_some_and(|at| at.elapsed() < AGAIN) {
            return Err(Error::unavailable("the responder cannot be made at the moment", 5));
        }
        let made = self.make_responder(key).await;
        *failed_at = made.is_err().then(Instant::now);
        if let Err(error) = &made {
            tracing::warn!(key = %key.0, %error, "an authority's key has no responder");
        }
        made
    }

    /// Makes the responder of a key that just got a certificate. When that fails, a job does it a minute later.
    pub(crate) async fn prepare_responder(&self, key: AuthorityKeyId) {
        if let Err(error) = self.renew_responder(key).await {
            tracing::warn!(key = %key.0, %error, "an authority's key has no responder yet");
        }
    }

    async fn make_responder(&self, key: AuthorityKeyId) -> Result<()> {
        let now = self.clock.now_to_sign()?;
        let key = self.authority_key(key).await?;
        let authority = store::authority::by_id_even_deleted(&self.db, key.authority).await.map_err(failed)?;
        let authority = authority.ok_or_else(|| Error::failed("a key without its authority"))?;
        let certificate = store::authority::newest_certificate_of(&self.db, key.id).await.map_err(failed)?;
        let Some(certificate) = certificate.filter(|_| authority.configuration.ocsp.is_on()) else { return Ok(()) };
        let records = store::ocsp::responders(&self.db, key.id).await.map_err(failed)?;
        if let Some(newest) = records.first()
            && !is_due(&read(newest.der.clone())?, &read(certificate.der.clone())?, now)
        {
            return Ok(());
        }
        let organization = store::project::organization_of(&self.db, authority.project).await.map_err(failed)?;
        let organization = organization.ok_or_else(|| Error::failed("a project without its organisation"))?;
        let version = records.first().map_or(1, |newest| newest.version + 1);
        let (record, parsed) = self.new_responder(&authority, &key, certificate, version, now).await?;
        self.commit_responder(organization, &authority, &record, &parsed, now).await
    }

    /// A new key, and a certificate for it by the key of the authority.
    async fn new_responder(
        &self,
        authority: &Authority,
        key: &AuthorityKey,
        certificate: AuthorityCertificate,
        version: u32,
        now: Time,
    ) -> Result<(ResponderRecord, Certificate)> {
        let issuing = Arc::new(issuing_of(authority, key, certificate)?);
        let approved = decide(Case::Responder(&issuing), now)?;
        let private = self.key_pool.generate(KeyAlgorithm::EcP256).await.map_err(key_failed)?;
        let to_be_signed = approved.certify(private.public_spki_der(), self.serial_number()?)?;
        let der = self.signer(key.id).await?.certificate(to_be_signed).await?;
        let parsed = read(der.clone())?;
        let id = self.random.id(now);
        let exported = private.export_pkcs8().map_err(key_failed)?;
        let data_key = self.data_key(authority.project).await?;
        let place = Place { table: "ocsp_responders", row: id.as_bytes(), project: authority.project.as_bytes() };
        let record = ResponderRecord {
            id,
            project: authority.project,
            authority: authority.id,
            key: key.id,
            version,
            der,
            data_key_version: data_key.version(),
            sealed: data_key.seal(place, exported.expose()).map_err(key_failed)?,
            created_at: now,
        };
        Ok((record, parsed))
    }

    async fn commit_responder(
        &self,
        organization: OrganizationId,
        authority: &Authority,
        record: &ResponderRecord,
        parsed: &Certificate,
        now: Time,
    ) -> Result<()> {
        let detail = json!({
            "name": authority.name, "serialNumber": serial_hex(parsed), "version": record.version,
        });
        let object = Object::new("certificate-authority", authority.id);
        let caller = Caller::node(organization);
        let made = audit::record(&caller, Some(authority.project), "ocsp-responder-made", object, &detail, now);
        let changes = Changes::new().with(store::ocsp::insert_responder(record, parsed)).audit(made).configuration();
        match self.db.commit(changes.urgent()).await {
            Ok(()) => {
                self.clock.note_committed(now);
                Ok(())
            }
            // Another node was faster.
            Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

fn issuer_key_id(certificate: &Certificate) -> Result<Option<Vec<u8>>> {
    let identifier = certificate.extensions().authority_key_id();
    let unread = |error| Error::failed_because("the certificate of a responder does not read", error);
    Ok(identifier.map_err(unread)?.and_then(|identifier| identifier.key_id))
}

/// Whether a responder is to be followed by another: it ends soon and could live longer, or the key's certificates name
/// another issuer by now.
fn is_due(responder: &Certificate, certificate: &Certificate, now: Time) -> bool {
    let ends_soon = responder.not_after() < now.seconds() + RESPONDER_RENEWAL_SECONDS;
    let is_of_another = responder.issuer().as_der() != certificate.subject().as_der();
    (ends_soon && responder.not_after() < certificate.not_after()) || is_of_another
}

/// An authority with one of its keys, which need not be the one that it issues with now.
fn issuing_of(
    authority: &Authority,
    key: &AuthorityKey,
    certificate: AuthorityCertificate,
) -> Result<IssuingAuthority> {
    Ok(IssuingAuthority {
        id: authority.id,
        name: authority.name.clone(),
        status: authority.status,
        version: authority.version,
        key: key.id,
        key_algorithm: key.algorithm,
        issuer_name_id: key.issuer_name_id,
        crl: key.crl,
        shard: 0,
        active: Some(active_certificate(certificate)?),
        crl_urls: Vec::new(),
        ocsp_urls: Vec::new(),
        ca_issuer_urls: Vec::new(),
    })
}

fn read(der: Vec<u8>) -> Result<Certificate> {
    Certificate::from_der(der).map_err(|error| Error::failed_because("a stored certificate does not read", error))
}
