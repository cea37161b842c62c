//! Syncs run when a certificate of theirs ends: at that moment, not when it is looked next at what is due.
//!
//! The table of certificates is asked at each look for the first end until well after the next look. Until then a clock is
//! all that it takes.

use domain::{Result, Time};
use services::Context;
use std::time::Duration;

/// The next end that is known.
#[derive(Debug, Default)]
pub struct Ends {
    next: Option<Time>,
}

impl Ends {
    /// Asks for the first end until two looks from now, so that one look may be late.
    pub async fn look(&mut self, services: &Context, pause: Duration) -> Result<()> {
        let seconds = i64::try_from(2 * pause.as_secs()).unwrap_or(i64::MAX);
        self.next = services.next_end_in_syncs(seconds).await?;
        Ok(())
    }

    /// Plans the runs of what has ended, if it is time, and asks for the next end.
    pub async fn pass(&mut self, services: &Context, pause: Duration) -> Result<()> {
        let now = services.now();
        // A certificate is good up to and with its last second.
        if self.next.is_none_or(|end| now <= end) {
            return Ok(());
        }
        // What ends between the two questions is in both answers, and not in none.
        let mut after = Self::default();
        after.look(services, pause).await?;
        services.begin_syncs_of_expired().await?;
        *self = after;
        Ok(())
    }
}
