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
use std::collections::{HashMap, HashSet};
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
/// How often it is looked whether another node has answered.
const AGAIN: Duration = Duration::from_millis(100);
/// After how many of those looks an answer is made of a certificate that is there.
const ANSWER_AWAITED: u32 = 20;
/// The longest key, in characters.
const KEY_CHARACTERS_MAX: usize = 255;

/// The requests that run in this process, so that a repeated one waits for the first.
#[derive(Default)]
pub(crate) struct Running {
    locks: Mutex<HashMap<[u8; 16], Arc<tokio::sync::Mutex<()>>>>,
    /// Marks of this process on which nobody works any more, and which could not be forgotten.
    left: Mutex<HashSet<Mark>>,
}

/// How many marks that could not be forgotten are remembered; others count as dead after a minute.
const LEFT_MAX: usize = 10_000;

impl Running {
    fn leave(&self, mark: Mark) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= LEFT_MAX {
            left.clear();
        }
        left.insert(mark);
    }

    fn has_left(&self, mark: &Mark) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.contains(mark)
    }
}

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
        let mut waited = 0;
        loop {
            let now = self.now();
            let mark = Mark { id, created_at: now };
            let begin = Changes::new().statement(store::idempotency::begin(&mark, SERVER, body_sha256));
            match self.db.commit(begin).await {
                Ok(()) => return Ok(Begun::Run(Slot { mark, _running: running })),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => {
                    if matches!(error, StoreError::Unknown(_)) {
                        self.state.running.leave(mark);
                    }
                    return Err(failed(error));
                }
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
                // The certificate is there, so the answer can be made anew whoever is at it.
                (None, Some(certificate)) if waited >= ANSWER_AWAITED || self.is_dead(&kept, now) => {
                    return Ok(Begun::Recover(certificate, Slot { mark: kept.mark, _running: running }));
                }
                (None, None) if self.is_dead(&kept, now) => {
                    let forget = store::idempotency::forget_abandoned(&kept.mark);
                    self.commit(Changes::new().statement(forget)).await?;
                }
                (None, _) => {
                    waited += 1;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Whether nobody works on a request any more. Nobody else in this process does: we hold its lock. On SQLite there
    /// is no other process; on PostgreSQL another node gets a minute.
    fn is_dead(&self, kept: &KeptAnswer, now: Time) -> bool {
        if !self.db.is_shared() || self.state.running.has_left(&kept.mark) {
            return true;
        }
        kept.mark.created_at.plus_millis(ABANDONED_MILLIS) < now
    }

    /// Keeps the answer of a request, which was done: that the answer cannot be kept is no reason not to give it.
    #[compiled_here]
    pub async fn finish(&self, slot: Slot, answer: &[u8]) -> Result<()> {
        let sealed = self.data_key(SERVER).await?.seal(place(&slot.mark.id), answer).map_err(key_failed)?;
        let finish = Changes::new().statement(store::idempotency::finish(&slot.mark, sealed));
        if let Err(error) = self.commit(finish).await {
            // Whoever asks again has the answer made of the certificate that is noted.
            self.state.running.leave(slot.mark);
            tracing::warn!(%error, "the answer of a request with an Idempotency-Key is not kept");
        }
        Ok(())
    }

    /// Forgets a request that was refused or failed, so that it may be tried again. When its certificate is there all
    /// the same, because only the answer to the commit was lost, this gives it, with the place to answer in.
    #[compiled_here]
    pub async fn abandon(&self, slot: Slot) -> Result<Option<(CertificateId, Slot)>> {
        // Where the commit is still under way on the server, this waits for the row.
        let forgotten = self.commit(Changes::new().statement(store::idempotency::forget_abandoned(&slot.mark))).await;
        let kept = match forgotten {
            Ok(()) => store::idempotency::find(&self.db, &slot.mark.id).await.map_err(failed),
            Err(error) => Err(error),
        };
        match kept {
            Ok(kept) => {
                let kept = kept.filter(|kept| kept.mark == slot.mark).and_then(|kept| kept.certificate);
                Ok(kept.map(|certificate| (certificate, slot)))
            }
            Err(error) => {
                self.state.running.leave(slot.mark);
                Err(error)
            }
        }
    }

    /// Forgets the answers whose day is over.
    #[compiled_here]
    pub async fn prune_idempotency_keys(&self) -> Result<()> {
        let before = self.now().plus_millis(-KEPT_MILLIS);
        self.commit(Changes::new().statement(store::idempotency::prune(before))).await
    }

    fn running(&self, id: [u8; 16]) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.state.running.locks.lock().unwrap_or_else(PoisonError::into_inner);
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
