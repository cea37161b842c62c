//! What is let in: how many certificates are made at once, and how many requests and certificates a second there may be.
//!
//! Certificates have places of their own, so that whoever asks for many of them keeps nobody from revoking one. The rates
//! are those of this node alone, and off unless the operator wants them. docs/decisions/0019-admission.md

use crate::context::Context;
use crate::places::{Occupancy, Places};
use domain::caller::{ActorKind, Caller};
use domain::{Error, ProjectId, Result};
use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::SemaphorePermit;
use uuid::Uuid;

/// How long they do.
const ISSUANCE_WAIT_MAX: Duration = Duration::from_secs(2);
/// What may come at once of a rate, in seconds of it.
const BURST: Duration = Duration::from_secs(1);
/// How many identities or projects are remembered before those are forgotten that have been quiet.
const REMEMBERED_MAX: usize = 10_000;

/// What the operator lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Certificates that are made at once.
    pub issuances_at_once: usize,
    /// Certificates that wait for their turn.
    pub issuances_waiting: usize,
    /// Requests a second of one identity, but those that revoke.
    pub identity_requests_per_second: Option<NonZeroU32>,
    /// Certificates a second of one project, but those that the server renews by itself.
    pub project_certificates_per_second: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            issuances_at_once: 64,
            issuances_waiting: 1024,
            identity_requests_per_second: None,
            project_certificates_per_second: None,
        }
    }
}

/// What of it is taken.
pub(crate) struct Admission {
    issuances: Places,
    requests: Rates<Uuid>,
    certificates: Rates<ProjectId>,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            issuances: Places::new(limits.issuances_at_once, limits.issuances_waiting, ISSUANCE_WAIT_MAX),
            requests: Rates::new(limits.identity_requests_per_second),
            certificates: Rates::new(limits.project_certificates_per_second),
        }
    }
}

impl Context {
    /// Refuses an identity that asks more often than it may.
    pub fn must_be_within_rate(&self, caller: &Caller) -> Result<()> {
        let Some(id) = caller.actor.id else { return Ok(()) };
        self.admission.requests.take(id, Instant::now()).map_err(|seconds| {
            Error::too_many("this identity sends more requests a second than the server allows one", seconds)
        })
    }

    /// A place to make a certificate at, once there is one.
    pub(crate) async fn place_to_issue(&self) -> Result<SemaphorePermit<'_>> {
        let place = self.admission.issuances.take().await;
        place.ok_or_else(|| {
            Error::too_many("more certificates are asked for than the server makes; nothing was done", 2)
        })
    }

    /// A place again, for a certificate whose key was made meanwhile.
    pub(crate) async fn place_to_go_on(&self) -> Result<SemaphorePermit<'_>> {
        self.admission.issuances.take_again().await.ok_or_else(|| Error::failed("the places of issuances are closed"))
    }

    /// Refuses a certificate of a project that was given as many as it may have. What the server renews by itself is not
    /// counted.
    pub(crate) fn must_be_within_rate_of(&self, project: ProjectId, caller: &Caller) -> Result<()> {
        if caller.actor.kind == ActorKind::Node {
            return Ok(());
        }
        self.admission.certificates.take(project, Instant::now()).map_err(|seconds| {
            Error::too_many("this project asks for more certificates a second than the server allows one", seconds)
        })
    }

    /// How many certificates are made, wait, and were sent away.
    pub fn issuances(&self) -> Occupancy {
        self.admission.issuances.occupancy()
    }

    /// Requests and certificates that were refused because of a rate.
    pub fn refused_by_rate(&self) -> (u64, u64) {
        let count = |refused: &AtomicU64| refused.load(Ordering::Relaxed);
        (count(&self.admission.requests.refused), count(&self.admission.certificates.refused))
    }
}

/// A rate that each of many has to itself: a token bucket, kept as the time at which it is full again.
struct Rates<K> {
    interval: Option<Duration>,
    full_at: Mutex<HashMap<K, Instant>>,
    refused: AtomicU64,
}

impl<K: Eq + Hash> Rates<K> {
    fn new(per_second: Option<NonZeroU32>) -> Self {
        let interval = per_second.map(|per_second| Duration::from_secs(1) / per_second.get());
        Self { interval, full_at: Mutex::default(), refused: AtomicU64::new(0) }
    }

    /// Takes one, or says after how many seconds there is one again.
    fn take(&self, key: K, now: Instant) -> std::result::Result<(), u32> {
        let Some(interval) = self.interval else { return Ok(()) };
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= REMEMBERED_MAX && !full_at.contains_key(&key) {
            // Who is not remembered has a full bucket. When all of them ask, all begin anew: the memory is bounded.
            full_at.retain(|_, full_at| *full_at > now);
            if full_at.len() >= REMEMBERED_MAX {
                full_at.clear();
            }
        }
        let entry = full_at.entry(key).or_insert(now);
        let next = (*entry).max(now) + interval;
        let too_early = (next - now).saturating_sub(BURST.max(interval));
        if too_early > Duration::ZERO {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(u32::try_from(too_early.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX));
        }
        *entry = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(per_second: u32) -> Rates<u32> {
        Rates::new(NonZeroU32::new(per_second))
    }

    #[test]
    fn a_second_of_the_rate_may_come_at_once_and_then_one_by_one() {
        for per_second in [1, 4, 50] {
            let (rates, start) = (rates(per_second), Instant::now());
            let taken = (0..1000).take_while(|_| rates.take(7, start).is_ok()).count();
            assert_eq!(taken, per_second as usize);
            assert_eq!(rates.take(7, start), Err(1));
            assert_eq!(rates.take(8, start), Ok(()), "each has its own");
            let later = start + Duration::from_secs(1) / per_second;
            assert_eq!(rates.take(7, later), Ok(()));
            assert_eq!(rates.take(7, later), Err(1));
            // Whoever was quiet for long has a second of it, not more.
            let much_later = start + Duration::from_secs(1000);
            let taken = (0..1000).take_while(|_| rates.take(7, much_later).is_ok()).count();
            assert_eq!(taken, per_second as usize);
            assert_eq!(rates.refused.load(Ordering::Relaxed), 4);
        }
    }

    #[test]
    fn without_a_rate_nobody_is_refused_or_remembered() {
        let (rates, now) = (rates(0), Instant::now());
        assert!((0..1000).all(|_| rates.take(7, now).is_ok()));
        assert!(rates.full_at.lock().unwrap().is_empty());
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (rates, now) = (rates(1), Instant::now());
        let most = u32::try_from(REMEMBERED_MAX).unwrap();
        assert!((0..most + 10).all(|key| rates.take(key, now).is_ok()));
        assert!(rates.full_at.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
