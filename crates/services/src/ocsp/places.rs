//! How many answers are made at once. Those that come meanwhile wait for a moment, and then are told to come later.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many answers are looked up and signed at once.
const AT_ONCE: usize = 32;
/// How many wait for that.
const WAITING_MAX: usize = 1024;
/// How long they do.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The places at which answers are made.
pub(super) struct Places {
    free: Semaphore,
    waiting: AtomicUsize,
}

impl Default for Places {
    fn default() -> Self {
        Self { free: Semaphore::new(AT_ONCE), waiting: AtomicUsize::new(0) }
    }
}

impl Places {
    /// A place, as soon as one is free; nothing when that takes too long or too many wait already.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.free.try_acquire() {
            return Some(place);
        }
        let _waiting = Waiting::begin(&self.waiting)?;
        tokio::time::timeout(WAIT_MAX, self.free.acquire()).await.ok()?.ok()
    }
}

/// One that waits, also when it goes away.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(count);
        (before < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn so_many_are_made_at_once_so_many_wait_and_the_rest_is_sent_away() {
        let places = Places::default();
        let mut taken: Vec<_> = (0..AT_ONCE).map(|_| places.take().now_or_never().flatten().unwrap()).collect();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(places.take())).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        assert!(places.take().now_or_never().unwrap().is_none());
        taken.pop();
        // Who came first is the next one.
        assert!(waiting[1].as_mut().now_or_never().is_none());
        assert!(waiting[0].as_mut().now_or_never().flatten().is_some());
        drop(waiting);
        drop(taken);
        assert!(places.take().now_or_never().flatten().is_some());
        assert_eq!(places.waiting.load(Ordering::Relaxed), 0);
    }
}
