//! How many of one kind of work are done at once. What comes meanwhile waits for a moment, and then is told to come later.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The places at which work is done, and the bounded queue before them.
pub(crate) struct Places {
    free: Semaphore,
    at_once: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    wait_max: Duration,
    refused: AtomicU64,
}

/// How full places are, and how many were sent away since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Work that is done.
    pub taken: usize,
    /// Work that waits for a place.
    pub waiting: usize,
    /// Work that was sent away.
    pub refused: u64,
}

impl Places {
    /// So many places, before which so many wait, for so long.
    pub(crate) fn new(at_once: usize, waiting_max: usize, wait_max: Duration) -> Self {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        let free = Semaphore::new(at_once);
        Self { free, at_once, waiting: AtomicUsize::new(0), waiting_max, wait_max, refused: AtomicU64::new(0) }
    }

    /// A place, as soon as one is free; nothing when that takes too long or too many wait already.
    pub(crate) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.free.try_acquire() {
            return Some(place);
        }
        let taken = match Waiting::begin(self) {
            None => None,
            Some(_waiting) => tokio::time::timeout(self.wait_max, self.free.acquire()).await.ok().and_then(Result::ok),
        };
        if taken.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// A place again, for work that had one and gave it back. It waits behind all others, and is not sent away.
    pub(crate) async fn take_again(&self) -> Option<SemaphorePermit<'_>> {
        self.free.acquire().await.ok()
    }

    /// How full they are at this moment.
    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy {
            taken: self.at_once.saturating_sub(self.free.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// One that waits, also when it goes away.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(places: &'a Places) -> Option<Self> {
        let before = places.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(&places.waiting);
        (before < places.waiting_max).then_some(waiting)
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
        const AT_ONCE: usize = 8;
        const WAITING_MAX: usize = 64;
        let places = Places::new(AT_ONCE, WAITING_MAX, Duration::from_secs(60));
        let mut taken: Vec<_> = (0..AT_ONCE).map(|_| places.take().now_or_never().flatten().unwrap()).collect();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(places.take())).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        assert!(places.take().now_or_never().unwrap().is_none());
        assert_eq!(places.occupancy(), Occupancy { taken: AT_ONCE, waiting: WAITING_MAX, refused: 1 });
        taken.pop();
        // Who came first is the next one.
        assert!(waiting[1].as_mut().now_or_never().is_none());
        assert!(waiting[0].as_mut().now_or_never().flatten().is_some());
        drop(waiting);
        drop(taken);
        assert!(places.take().now_or_never().flatten().is_some());
        assert_eq!(places.occupancy(), Occupancy { taken: 0, waiting: 0, refused: 1 });
    }

    #[tokio::test]
    async fn who_waits_too_long_is_sent_away() {
        let places = Places::new(1, 1, Duration::from_millis(1));
        let taken = places.take().await.unwrap();
        assert!(places.take().await.is_none());
        drop(taken);
        assert!(places.take().await.is_some());
    }
}
