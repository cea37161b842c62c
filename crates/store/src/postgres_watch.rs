//! Whether PostgreSQL answers at all. A server that is stopped, or behind a network that swallows everything, closes no
//! connection: whoever asked it would wait for minutes. So one connection asks the smallest of questions again and again, and when
//! that is not answered in time, everybody who waits is told that the database is away, until it is answered again.

use crate::StoreError;
use crate::db::{SELECT_EPOCH, Shared};
use crate::postgres_link::{Connector, LinkError, Remedy};
use crate::postgres_slot::Slot;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is asked. The answer is the number of the configuration, which other nodes change.
const PAUSE: Duration = Duration::from_millis(400);

/// How long the answer may take. It is a row that is in memory.
const SILENCE: Duration = Duration::from_secs(4);

/// What is known of the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watch(Arc<watch::Sender<Voice>>);

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
    pub(crate) async fn keep(self, connector: Arc<Connector>, shared: Arc<Shared>) {
        let slot = Slot::new(connector, None);
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
