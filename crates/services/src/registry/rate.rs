//! How fast devices publish, where the operator limits it (contract §6.4): a bucket of one second's messages for each device,
//! which fills up evenly.
//!
//! Of a device only the time is kept at which its bucket is full again. A device whose bucket is full is not kept at all.

use domain::registry::DeviceId;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many devices are kept before those are looked for whose buckets are full.
const KEPT_MIN: usize = 1024;

/// When the buckets of devices are full.
#[derive(Default)]
pub(super) struct Rates(Mutex<Buckets>);

#[derive(Default)]
struct Buckets {
    full_at: HashMap<DeviceId, Instant>,
    /// At how many devices it is looked for full buckets the next time.
    look_at: usize,
}

impl Rates {
    /// Takes a message out of the bucket of a device; when there is none, says when there is.
    pub(super) fn take(&self, device: &DeviceId, per_second: NonZeroU32, now: Instant) -> Result<(), Instant> {
        let bucket = Duration::from_secs(1);
        let message = bucket / per_second.get();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.full_at.get(device).map_or(now, |at| now.max(*at));
        let after = full_at + message;
        if let Some(early) = after.checked_duration_since(now + bucket).filter(|early| !early.is_zero()) {
            return Err(now + early);
        }
        if buckets.full_at.len() >= buckets.look_at.max(KEPT_MIN) {
            buckets.full_at.retain(|_, at| *at > now);
            buckets.look_at = buckets.full_at.len() * 2;
        }
        buckets.full_at.insert(device.clone(), after);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_publish_a_seconds_messages_at_once_and_then_evenly() {
        let (rates, two, began) = (Rates::default(), NonZeroU32::new(2).unwrap(), Instant::now());
        let take = |device: &str, millis: u64| {
            let at = began + Duration::from_millis(millis);
            rates.take(&device.into(), two, at).map_err(|then| then.duration_since(began).as_millis())
        };
        for (device, millis, answer) in [
            ("a", 0, Ok(())),
            ("a", 0, Ok(())),
            ("a", 0, Err(500)),
            ("b", 0, Ok(())),
            ("a", 499, Err(500)),
            ("a", 500, Ok(())),
            ("a", 500, Err(1000)),
            ("a", 2500, Ok(())),
            ("a", 2500, Ok(())),
            ("a", 2500, Err(3000)),
        ] {
            assert_eq!(take(device, millis), answer, "{device} {millis}");
        }
    }

    #[test]
    fn devices_that_are_silent_are_forgotten() {
        let (rates, one, began) = (Rates::default(), NonZeroU32::MIN, Instant::now());
        for number in 0..10 * KEPT_MIN as u64 {
            let device = DeviceId(number.to_string());
            rates.take(&device, one, began + Duration::from_secs(number)).unwrap();
        }
        assert!(rates.0.lock().unwrap().full_at.len() <= 2 * KEPT_MIN);
    }
}
