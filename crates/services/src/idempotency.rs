//! Repeated requests: the same key with the same body gets the same answer for a day, and the work is done once.
//!
//! A request that begins leaves a mark; a certificate that it makes is noted on the mark in the certificate's own commit;
//! its answer is kept sealed. So a request that is repeated after a crash finds its certificate, or finds that nothing
//! was done.

use crate::context::{Context, failed, key_failed};
use crate::login::sha256;
use crate::vault::SERVER;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::{CertificateId, Error, Result, Time};
use keys::{Place, Secret};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::idempotency::KeptAnswer;
pub use store::idempotency::Mark;
use store::{Changes, StoreError};
use tokio::sync::OwnedMutexGuard;

/// How long an answer is kept.
pub const KEPT_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// How long another node may take for an answer before its request counts as dead.
const ABANDONED_MILLIS: i64 = 60_000;
/// The longest key, in characters.
const KEY_CHARACTERS_MAX: usize = 255;

/// The requests that run in this process, so that a repeated one waits for the first.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<[u8; 16], Arc<tokio::sync::Mutex<()>>>>);

/// What is to be done with a request that carries a key.
pub enum Begun {
    /// It is new: do it, then [`Context::finish`] or [`Context::abandon`].
    Run(Slot),
    /// It was done, and its certificate is in the inventory, but its answer was not kept: make the answer again.
    Recover(CertificateId, Slot),
    /// It was done: this is its answer, and the certificate that it made.
    Replay(Secret, Option<CertificateId>),
}

/// The place of a running request. While it is held, a repeated request waits.
pub struct Slot {
    mark: Mark,
    _running: OwnedMutexGuard<()>,
}

impl Slot {
    /// The mark, on which the certificate that the request makes is noted.
    pub fn mark(&self) -> Mark {
        self.mark
    }
}

impl Context {
    /// Begins a request that carries a key. Another body under the same key is a conflict.
    #[compiled_here]
    pub async fn begin(&self, caller: &Caller, route: &str, key: &str, body: &[u8]) -> Result<Begun> {
        if key.is_empty() || key.chars().count() > KEY_CHARACTERS_MAX {
            return Err(Error::invalid(format!("Idempotency-Key takes 1 to {KEY_CHARACTERS_MAX} characters")));
        }
        let id = slot_id(caller, route, key);
        let body_sha256 = sha256(body);
        let running = self.running(id).lock_owned().await;
        loop {
            let now = self.now();
            let mark = Mark { id, created_at: now };
            let begin = Changes::new().statement(store::idempotency::begin(&mark, SERVER, body_sha256));
            match self.db.commit(begin).await {
                Ok(()) => return Ok(Begun::Run(Slot { mark, _running: running })),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
            let Some(kept) = store::idempotency::find(&self.db, &id).await.map_err(failed)? else { continue };
            if kept.mark.created_at.plus_millis(KEPT_MILLIS) < now {
                self.commit(Changes::new().statement(store::idempotency::forget(&kept.mark))).await?;
                continue;
            }
            if kept.body_sha256 != body_sha256 {
                return Err(Error::conflict("this Idempotency-Key was used with another body"));
            }
            match (&kept.sealed, kept.certificate) {
                (Some(sealed), certificate) => {
                    return Ok(Begun::Replay(self.open(place(&id), sealed).await?, certificate));
                }
                (None, Some(certificate)) if self.is_dead(&kept, now) => {
                    return Ok(Begun::Recover(certificate, Slot { mark: kept.mark, _running: running }));
                }
                (None, None) if self.is_dead(&kept, now) => {
                    let forget = store::idempotency::forget_abandoned(&kept.mark);
                    self.commit(Changes::new().statement(forget)).await?;
                }
                (None, _) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Whether nobody works on a request any more. Nobody else in this process does: we hold its lock. On SQLite there
    /// is no other process; on PostgreSQL another node gets a minute.
    fn is_dead(&self, kept: &KeptAnswer, now: Time) -> bool {
        self.db.is_shared().then_some(ABANDONED_MILLIS).is_none_or(|wait| kept.mark.created_at.plus_millis(wait) < now)
    }

    /// Keeps the answer of a request.
    #[compiled_here]
    pub async fn finish(&self, slot: Slot, answer: &[u8]) -> Result<()> {
        let sealed = self.data_key(SERVER).await?.seal(place(&slot.mark.id), answer).map_err(key_failed)?;
        self.commit(Changes::new().statement(store::idempotency::finish(&slot.mark, sealed))).await
    }

    /// Forgets a request that was refused or failed, so that it may be tried again.
    #[compiled_here]
    pub async fn abandon(&self, slot: Slot) -> Result<()> {
        self.commit(Changes::new().statement(store::idempotency::forget(&slot.mark))).await
    }

    /// Forgets the answers whose day is over.
    #[compiled_here]
    pub async fn prune_idempotency_keys(&self) -> Result<()> {
        let before = self.now().plus_millis(-KEPT_MILLIS);
        self.commit(Changes::new().statement(store::idempotency::prune(before))).await
    }

    fn running(&self, id: [u8; 16]) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.state.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody holds or waits for any more is dropped here.
        running.retain(|_, lock| Arc::strong_count(lock) > 1);
        running.entry(id).or_default().clone()
    }
}

fn slot_id(caller: &Caller, route: &str, key: &str) -> [u8; 16] {
    let who = caller.actor.id.unwrap_or_default();
    let text = format!("{}\0{who}\0{route}\0{key}", caller.organization);
    sha256(text.as_bytes())[..16].try_into().expect("the first half of a digest has 16 octets")
}

fn place(id: &[u8; 16]) -> Place<'_> {
    Place { table: "idempotency_keys", row: id, project: SERVER.as_bytes() }
}
