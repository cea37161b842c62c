//! What became of a certificate, for anybody who asks (RFC 6960, RFC 5019).
//!
//! An answer without a nonce is signed once and given again from memory (`ocsp/kept.rs`) until it is half an hour old or the
//! certificate's status changes. Every other one is read from the database and signed on its own, so many at once and no more
//! (`places.rs`), so that whoever asks much keeps nobody from revoking. Issuers are found by their hashes
//! (`ocsp/issuer.rs`), answers are signed by responders (`ocsp/responder.rs`), and what changes on other nodes is followed
//! (`ocsp/follow.rs`). While the shared database is away, what is revoked is still said to be (`list_shelf.rs`), and nothing
//! is said to be good.

mod follow;
mod issuer;
mod kept;
mod responder;

use crate::context::{Context, failed};
use crate::list_shelf::is_passing;
use crate::places::{Occupancy, Places};
use async_recursion::async_recursion as compiled_here;
use domain::ocsp::{AnswerPeriod, AnswerToBeSigned, RESPONDER_SIGNATURE, SerialFacts};
use domain::{AuthorityKeyId, Error, Reason, Result, Time};
use issuer::{Issuers, StatusIssuer};
use kept::{KeptAnswer, KeptAnswers, Key, Signature};
use responder::{Responder, Responders};
use std::sync::Arc;
use std::time::Duration;
use x509::ocsp::{AnswerTemplate, plain_certificate_id};
use x509::{CertificateId, CertificateStatus, OcspRefusal, OcspRequest, SingleAnswer, assemble_answer};

/// How long those in between may keep an answer: a revocation is to be seen soon.
const CACHED_SECONDS: i64 = 60;
/// How long the database may take to say what became of a certificate.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);
/// How many answers are looked up and signed at once.
const AT_ONCE: usize = 32;
/// How many wait for that.
const WAITING_MAX: usize = 1024;
/// How long they do.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How often an answer is made anew because the status changed while it was.
const ATTEMPTS_MAX: usize = 3;

/// An answer, signed or not.
pub struct StatusReply {
    /// The OCSPResponse.
    pub der: Vec<u8>,
    /// How it may be kept by those in between; one that is for one caller or says nothing is not kept.
    pub caching: Option<StatusCaching>,
}

/// How an answer may be kept by those in between (RFC 5019 §6.2).
pub struct StatusCaching {
    /// What tells it from every other answer.
    pub tag: [u8; 16],
    /// When it was made.
    pub this_update: Time,
    /// For how long from now on it may be kept.
    pub seconds: i64,
}

/// What is remembered for answers.
pub(crate) struct OcspState {
    issuers: Issuers,
    responders: Responders,
    kept: KeptAnswers,
    places: Places,
}

impl Default for OcspState {
    fn default() -> Self {
        let places = Places::new(AT_ONCE, WAITING_MAX, WAIT_MAX);
        Self { issuers: Issuers::default(), responders: Responders::default(), kept: KeptAnswers::default(), places }
    }
}

impl OcspState {
    /// Forgets what is kept of a certificate: it was revoked, or is good again. To be called for every such change, whether it
    /// is known to be committed or not.
    pub(crate) fn forget(&self, key: AuthorityKeyId, serial: &[u8]) {
        self.kept.forget(serial, &self.issuers.numbers_of(key));
    }
}

/// An answer about one certificate that was signed.
struct Signed {
    status: CertificateStatus,
    period: AnswerPeriod,
    tbs: Vec<u8>,
    signature: Vec<u8>,
}

impl Context {
    /// The answer to a request in DER that is kept ready, if there is one. It waits for nothing.
    pub fn ready_status(&self, request: &[u8]) -> Option<StatusReply> {
        let id = CertificateId::read(plain_certificate_id(request)?).ok()?;
        let issuer = self.state.ocsp.issuers.find(id.issuer_der, self.db.configuration_epoch())?;
        let now = self.now();
        let kept = self.state.ocsp.kept.find(&Key::new(issuer.number, id.serial_content)?)?;
        let period = kept.period;
        if !period.is_fresh(id.serial_content, now) {
            return None;
        }
        let responder = issuer.responders.iter().find(|responder| responder.version == kept.responder)?;
        let single = single(&id, kept.status, period);
        let tbs = responder.template(period.this_update, None).to_be_signed(&[single]);
        Some(reply(&tbs, kept.signature.octets(), responder, Some((period, now))))
    }

    /// How many answers are made, wait, and were put off.
    pub fn status_answers(&self) -> Occupancy {
        self.state.ocsp.places.occupancy()
    }

    /// The answer to a request in DER.
    #[compiled_here]
    pub async fn status_reply(&self, request: Vec<u8>) -> StatusReply {
        if let Some(ready) = self.ready_status(&request) {
            return ready;
        }
        let is_plain = plain_certificate_id(&request).is_some();
        let Ok(read) = OcspRequest::from_der(request) else { return refusal(OcspRefusal::MalformedRequest) };
        let Some(_place) = self.state.ocsp.places.take().await else { return refusal(OcspRefusal::TryLater) };
        let made = tokio::time::timeout(LOOK_UP_MAX, self.made_reply(&read, is_plain)).await;
        match made.unwrap_or_else(|_| Err(Error::unavailable("the database takes too long", 5))) {
            Ok(reply) => reply,
            Err(error) => match error.reason() {
                Some(
                    Reason::Unavailable { .. }
                    | Reason::OutcomeUnknown { .. }
                    | Reason::WrongState
                    | Reason::TooMany { .. }
                    | Reason::Conflict,
                ) => refusal(OcspRefusal::TryLater),
                Some(_) | None => {
                    tracing::error!(%error, "the status of a certificate cannot be told");
                    refusal(OcspRefusal::InternalError)
                }
            },
        }
    }

    async fn made_reply(&self, request: &OcspRequest, is_plain: bool) -> Result<StatusReply> {
        let ids: Vec<CertificateId<'_>> = request.certificates().collect();
        let Some(issuer) = self.issuer_of_all(&ids).await? else { return Ok(refusal(OcspRefusal::Unauthorized)) };
        let now = self.clock.now_to_sign()?;
        let (issuer, responder) = self.issuer_with_responder(issuer, now).await?;
        match &ids[..] {
            [id] if is_plain => self.kept_reply(id, &issuer, &responder).await,
            _ => self.reply_for_one(request, &ids, &issuer, &responder, now).await,
        }
    }

    /// The issuer of all of them, when that is one key of ours whose certificates are spoken of: a responder speaks of those
    /// of one key (RFC 6960 §4.2.2.2).
    async fn issuer_of_all(&self, ids: &[CertificateId<'_>]) -> Result<Option<Arc<StatusIssuer>>> {
        let mut issuer: Option<Arc<StatusIssuer>> = None;
        for id in ids {
            let Some(found) = self.status_issuer(id).await? else { return Ok(None) };
            if issuer.as_ref().is_some_and(|issuer| issuer.key.key != found.key.key) {
                return Ok(None);
            }
            issuer = Some(found);
        }
        Ok(issuer.filter(|issuer| issuer.is_spoken_of))
    }

    /// Signs an answer that is kept, unless the status changed while it was made.
    async fn kept_reply(
        &self,
        id: &CertificateId<'_>,
        issuer: &StatusIssuer,
        responder: &Responder,
    ) -> Result<StatusReply> {
        let kept = &self.state.ocsp.kept;
        for _ in 0..ATTEMPTS_MAX {
            let before = kept.changes(id.serial_content);
            let Signed { status, period, tbs, signature } = self.signed_status(id, issuer, responder).await?;
            let is_known = status != CertificateStatus::Unknown;
            let key = Key::new(issuer.number, id.serial_content).filter(|_| is_known);
            let (Some(key), Some(stored)) = (key, Signature::new(&signature)) else {
                // What is unknown may be issued at any moment, so that is said once.
                return Ok(reply(&tbs, &signature, responder, None));
            };
            let answer = KeptAnswer { responder: responder.version, status, period, signature: stored };
            if kept.keep(key, id.serial_content, answer, before) {
                return Ok(reply(&tbs, &signature, responder, Some((period, self.now()))));
            }
        }
        Err(Error::unavailable("the status changes all the time", 1))
    }

    /// What is known of a certificate. While the shared database is away it is what a list that is up says of it: revoked,
    /// or nothing, since what is on no list may have been revoked a moment ago.
    async fn status_of(
        &self,
        id: &CertificateId<'_>,
        issuer: &StatusIssuer,
        responder: &Responder,
    ) -> Result<CertificateStatus> {
        let listed = |key_id| self.state.shelf.revocation(&responder.issuer, key_id, id.serial_content, self.now());
        let facts = match store::ocsp::facts(&self.db, &issuer.key, id.serial_content).await.map_err(failed) {
            Err(error) if is_passing(&error) => {
                let revocation = responder.issuer_key_id.as_deref().and_then(listed).ok_or(error)?;
                SerialFacts { is_issued: true, revocation: Some(revocation) }
            }
            read => read?,
        };
        Ok(facts.status())
    }

    /// Looks up one certificate and signs what is known of it.
    async fn signed_status(
        &self,
        id: &CertificateId<'_>,
        issuer: &StatusIssuer,
        responder: &Responder,
    ) -> Result<Signed> {
        let status = self.status_of(id, issuer, responder).await?;
        let now = self.clock.now_to_sign()?;
        let period = AnswerPeriod::new(status, id.serial_content, now, responder.not_after).ok_or_else(ran_out)?;
        let to_be_signed =
            AnswerToBeSigned::new(&responder.template(period.this_update, None), &[single(id, status, period)]);
        let (tbs, signature) = responder.signer.answer(to_be_signed)?;
        Ok(Signed { status, period, tbs, signature })
    }

    /// Signs an answer that is for one caller: it repeats a nonce, or is about several certificates.
    async fn reply_for_one(
        &self,
        request: &OcspRequest,
        ids: &[CertificateId<'_>],
        issuer: &StatusIssuer,
        responder: &Responder,
        now: Time,
    ) -> Result<StatusReply> {
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let status = self.status_of(id, issuer, responder).await?;
            let period = AnswerPeriod::new(status, id.serial_content, now, responder.not_after).ok_or_else(ran_out)?;
            answers.push(single(id, status, period));
        }
        let to_be_signed = AnswerToBeSigned::new(&responder.template(now, request.nonce()), &answers);
        let (tbs, signature) = responder.signer.answer(to_be_signed)?;
        Ok(reply(&tbs, &signature, responder, None))
    }
}

impl Responder {
    fn template<'a>(&'a self, produced_at: Time, nonce: Option<&'a [u8]>) -> AnswerTemplate<'a> {
        AnswerTemplate { responder_key_id: &self.key_id, produced_at: produced_at.seconds(), nonce }
    }
}

fn single<'a>(id: &CertificateId<'a>, status: CertificateStatus, period: AnswerPeriod) -> SingleAnswer<'a> {
    SingleAnswer {
        id_der: id.der,
        status,
        this_update: period.this_update.seconds(),
        next_update: Some(period.next_update.seconds()),
    }
}

fn reply(tbs: &[u8], signature: &[u8], responder: &Responder, kept: Option<(AnswerPeriod, Time)>) -> StatusReply {
    let caching = kept.map(|(period, now)| {
        // The end of a signature is as good as random, and no two answers have the same.
        let tag = signature.last_chunk().copied().unwrap_or_default();
        let left = period.next_update.seconds() - now.seconds();
        StatusCaching { tag, this_update: period.this_update, seconds: left.clamp(0, CACHED_SECONDS) }
    });
    StatusReply { der: assemble_answer(tbs, RESPONDER_SIGNATURE, signature, &responder.der), caching }
}

fn refusal(refusal: OcspRefusal) -> StatusReply {
    StatusReply { der: refusal.to_der().to_vec(), caching: None }
}

fn ran_out() -> Error {
    Error::unavailable("the certificate of the responder has run out", 60)
}
