//! Values of the domain as `google.protobuf` has them.

use domain::Time;
use prost_types::Timestamp;

/// A time; ours have milliseconds.
pub fn timestamp(time: Time) -> Timestamp {
    let millis = time.millis();
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or_default();
    Timestamp { seconds: millis.div_euclid(1000), nanos }
}
