//! Whether PostgreSQL answers at all. A server that is stopped, or behind a network that swallows everything, closes no
//! connection: whoever asked it would wait for minutes. So one connection asks the smallest of questions again and
//! again, and when that is not answered in time, everybody who waits is told that the database is away, until it is
//! answered again.
//!
//! The question is for the number of the configuration. Who is about to act on what is remembered of the configuration
//! has it asked once more, so that what another node has committed before holds here, too.

use crate::StoreError;
use crate::db::{SELECT_EPOCH, Shared};
use crate::postgres_link::{LinkError, Remedy};
use crate::postgres_slot::Slot;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often it is asked. The answer is the number of the configuration, which other nodes change.
const PAUSE: Duration = Duration::from_millis(400);

/// How long the answer may take. It is a row that is in memory.
const SILENCE: Duration = Duration::from_secs(4);

/// How long after one confirmation has begun the next one begins at the earliest: they answer all who came meanwhile.
const CONFIRMATION: Duration = Duration::from_millis(1);

/// What is known of the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watch(Arc<watch::Sender<Voice>>);

/// Asks for the number of the configuration, for all who want it confirmed at a time at once.
pub(crate) struct Confirmations {
    slot: Arc<Slot>,
    /// When the last one began, and what came of it.
    last: tokio::sync::Mutex<Option<(Instant, Result<(), StoreError>)>>,
}

impl Confirmations {
    /// On this connection, which nobody keeps waiting by a long query.
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self { slot, last: tokio::sync::Mutex::default() }
    }

    /// Takes note of a number that is at least what was committed before this was called.
    pub(crate) async fn confirm(&self, watch: &Watch, shared: &Shared) -> Result<(), StoreError> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((began, outcome)) = &*last {
            if *began >= asked {
                return outcome.clone();
            }
            tokio::time::sleep((*began + CONFIRMATION).saturating_duration_since(Instant::now())).await;
        }
        let began = Instant::now();
        let outcome = match watch.unless_silent(ask(&self.slot)).await {
            Ok(Err(_)) => watch.unless_silent(ask(&self.slot)).await,
            other => other,
        };
        let outcome = outcome.and_then(|asked| asked).map(|epoch| shared.saw_epoch(epoch));
        *last = Some((began, outcome.clone()));
        outcome
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Answers,
    Silent,
}

impl Default for Watch {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Voice::Answers)))
    }
}

impl Watch {
    /// What comes of the work, unless the database falls silent before, or is.
    pub(crate) async fn unless_silent<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let mut voice = self.0.subscribe();
        tokio::select! {
            biased;
            // The sender is ours, so this does not fail.
            _ = voice.wait_for(|voice| *voice == Voice::Silent) => {
                Err(StoreError::Unavailable(format!("PostgreSQL said nothing for {} s", SILENCE.as_secs())))
            }
            outcome = work => Ok(outcome),
        }
    }

    /// Asks until nobody keeps the task, and takes note of the number of the configuration.
    pub(crate) async fn keep(self, slot: Arc<Slot>, shared: Arc<Shared>) {
        loop {
            tokio::time::sleep(PAUSE).await;
            match tokio::time::timeout(SILENCE, ask(&slot)).await {
                Ok(Ok(epoch)) => {
                    shared.saw_epoch(epoch);
                    self.note(Voice::Answers);
                }
                // It does answer. That it refuses, each query tells its own caller.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the number of the configuration cannot be read");
                    self.note(Voice::Answers);
                }
                Err(_) => {
                    self.note(Voice::Silent);
                    slot.forget_any().await;
                }
            }
        }
    }

    fn note(&self, now: Voice) {
        let is_new = self.0.send_if_modified(|voice| std::mem::replace(voice, now) != now);
        match (is_new, now) {
            (true, Voice::Silent) => tracing::error!("PostgreSQL does not answer; what waits for it is refused"),
            (true, Voice::Answers) => tracing::info!("PostgreSQL answers again"),
            (false, _) => {}
        }
    }
}

async fn ask(slot: &Slot) -> Result<i64, StoreError> {
    let link = slot.link().await?;
    match link.rows(SELECT_EPOCH, &[]).await {
        Ok(rows) => rows.first().map_or(Ok(0), |row| row.int(0)),
        Err(LinkError { error, remedy }) => {
            if remedy == Remedy::Reconnect {
                slot.forget(&link).await;
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_silent_database_is_told_and_who_asks_then_too() {
        let watch = Watch::default();
        assert_eq!(watch.unless_silent(async { 7 }).await, Ok(7));
        let waits = tokio::spawn({
            let watch = watch.clone();
            async move { watch.unless_silent(std::future::pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        watch.note(Voice::Silent);
        assert!(matches!(waits.await, Ok(Err(StoreError::Unavailable(_)))));
        assert!(matches!(watch.unless_silent(async { 7 }).await, Err(StoreError::Unavailable(_))));
        watch.note(Voice::Answers);
        assert_eq!(watch.unless_silent(async { 7 }).await, Ok(7));
    }
}
