//! What changes on other nodes, and what a caller changed here who went away before it was known: the revocations of the last
//! moments are read again and again, and what is kept about those certificates is forgotten.
//!
//! The nodes of a PostgreSQL database tell each other at the commit, too (`registry/relay.rs`). An answer that is kept is
//! given for as long as this look works.

use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::{Result, Time};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use store::ocsp::StatusChange;
use tokio::sync::watch;

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(400);
/// How far before the last look changes are read: clocks of nodes may differ by ten seconds, and a commit takes a while.
const LOOK_BACK_SECONDS: i64 = 20;
/// How many changes are read; when there are more, everything that is kept is forgotten.
const CHANGES_MAX: u32 = 20_000;

/// What was read already.
struct Seen {
    looked: Time,
    changes: HashSet<StatusChange>,
}

impl Context {
    /// Follows what becomes of certificates until `stop` says so.
    #[compiled_here]
    pub async fn follow_statuses(&self, mut stop: watch::Receiver<bool>) {
        let mut seen = Seen { looked: self.now(), changes: HashSet::new() };
        let mut is_away = false;
        loop {
            let outcome = self.look_for_changes(&mut seen).await;
            if let Err(error) = &outcome
                && !is_away
            {
                tracing::warn!(%error, "changes of the status of certificates cannot be followed");
            }
            is_away = outcome.is_err();
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn look_for_changes(&self, seen: &mut Seen) -> Result<()> {
        let (asked, now) = (Instant::now(), self.now());
        let since = seen.looked.plus_seconds(-LOOK_BACK_SECONDS);
        let changes = store::ocsp::changes_since(&self.db, since, CHANGES_MAX).await.map_err(failed)?;
        if changes.len() == CHANGES_MAX as usize {
            self.state.ocsp.kept.forget_all();
        }
        let changes: HashSet<StatusChange> = changes.into_iter().collect();
        for change in changes.difference(&seen.changes) {
            self.state.ocsp.forget(change.key, &change.serial);
        }
        // A clock that was put back must not leave out what comes next.
        *seen = Seen { looked: now, changes };
        self.state.ocsp.kept.confirm(asked);
        Ok(())
    }
}
