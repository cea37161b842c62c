//! How values look in replies, and the shapes that several families share. No decisions, no noun of its own.

use domain::Time;
use domain::policy::SubjectAttribute;
use jiff::SignedDuration;
use jiff::civil::date;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use x509::{KeyAlgorithm, RevocationReason, SignatureAlgorithm};

use crate::schema::{Field, Schema, integer, object, optional, required};

/// A point in time as every reply shows it: ISO 8601 in UTC with milliseconds, `2025-11-07T05:31:56.000Z`.
pub fn timestamp(time: Time) -> String {
    // Calendar arithmetic without a time zone: RFC 5280 §4.1.2.5 uses 9999-12-31T23:59:59Z, which a time zone would
    // put out of range.
    let at = date(1970, 1, 1).at(0, 0, 0, 0).saturating_add(SignedDuration::from_millis(time.millis()));
    format!("{at:.3}Z")
}

/// A point in time that may be missing, which is `null`.
pub fn optional_timestamp(time: Option<Time>) -> Value {
    time.map_or(Value::Null, |time| timestamp(time).into())
}

/// A reply of one member: `{ name: value }`.
pub fn wrapped(name: &str, value: impl Into<Value>) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value.into())]))
}

/// Which part of a list a request wants.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Page {
    /// Entries to leave out at the beginning.
    pub(crate) offset: u32,
    /// The most entries to give.
    pub(crate) limit: u32,
}

/// The query parameters of a [`Page`].
pub(crate) fn page(limit_default: u32, limit_max: u32) -> [Field; 2] {
    [
        optional(
            "offset",
            integer()
                .at_least(0)
                .at_most(i64::from(u32::MAX))
                .default(json!(0))
                .describe("Entries to leave out at the beginning"),
        ),
        optional(
            "limit",
            integer()
                .at_least(1)
                .at_most(i64::from(limit_max))
                .default(json!(limit_default))
                .describe("The most entries to give"),
        ),
    ]
}

/// An object of one member, for a reply that is wrapped.
pub(crate) fn wrapper(name: &'static str, schema: Schema) -> Schema {
    object([required(name, schema)])
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident: $kind:ty) => {
        $(#[$doc])*
        pub const $name: [&str; <$kind>::ALL.len()] = {
            let mut names = [""; <$kind>::ALL.len()];
            let mut index = 0;
            while index < names.len() {
                names[index] = <$kind>::ALL[index].as_str();
                index += 1;
            }
            names
        };
    };
}

names! {
    /// The key algorithms by their names on the wire.
    KEY_ALGORITHMS: KeyAlgorithm
}
names! {
    /// The signature algorithms by their names on the wire.
    SIGNATURE_ALGORITHMS: SignatureAlgorithm
}
names! {
    /// The subject attributes that policies know, by their names on the wire.
    SUBJECT_ATTRIBUTES: SubjectAttribute
}

names! {
    /// The reasons of a revocation by their names on the wire.
    REVOCATION_REASONS: RevocationReason
}

/// The reason of a revocation by its name.
pub(crate) fn revocation_reason(name: &str) -> domain::Result<RevocationReason> {
    RevocationReason::parse(name).ok_or_else(|| domain::Error::invalid(format!("{name} is no reason for a revocation")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_milliseconds_and_a_z() {
        for (millis, text) in [
            (1_762_493_516_000, "2025-11-07T05:31:56.000Z"),
            (1_762_493_516_007, "2025-11-07T05:31:56.007Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59.000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(timestamp(Time::from_millis(millis)), text);
        }
        assert_eq!(optional_timestamp(None), Value::Null);
    }
}
