//! Ids that grow: by time, and by a count where the time is the same.

use domain::Time;
use uuid::Uuid;

/// A UUID of version 7 that grows with the count within a millisecond, with randomness behind both.
pub(super) fn ordered_id(at: Time, count: u32, random: [u8; 3]) -> Uuid {
    let mut octets = [0; 10];
    // Before these are the bits of the version and the variant.
    octets[3..7].copy_from_slice(&count.to_be_bytes());
    octets[7..].copy_from_slice(&random);
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(at.millis()).unwrap_or(0), &octets).into_uuid()
}

/// The time of such an id.
pub(super) fn time_of(id: Uuid) -> Time {
    // The first 48 of its bits, so it always fits.
    Time::from_millis(i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_millisecond_are_in_the_order_of_their_count() {
        let at = Time::from_millis(1_700_000_000_000);
        let ids: Vec<Uuid> = (0..1000).map(|count| ordered_id(at, count, [(count % 251) as u8; 3])).collect();
        assert!(ids.is_sorted());
        assert!(ids[999] < ordered_id(at.plus_millis(1), 0, [0; 3]));
        assert!(ids.iter().all(|id| time_of(*id) == at));
    }
}
