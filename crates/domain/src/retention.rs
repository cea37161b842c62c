//! How long what is past is kept. Revocations are not a matter of choice: they stay for as long as a list names them.

use crate::{Error, Result, Time};
use serde::Serialize;

/// The most days that can be said; more is for ever.
pub const DAYS_MAX: u32 = 36_500;
/// The fewest days that the audit is kept, so that nobody removes the traces of today.
pub const AUDIT_DAYS_MIN: u32 = 7;

/// How many days things are kept after their end; none keeps them for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// Certificates, after they expired.
    pub expired_certificate_days: Option<u32>,
    /// Certificate requests, after they were answered or refused.
    pub certificate_request_days: Option<u32>,
    /// Records of the audit, after they were written.
    pub audit_days: Option<u32>,
}

impl RetentionPolicy {
    /// Refuses numbers that nobody can mean.
    pub fn check(&self) -> Result<()> {
        let days = |name: &str, days: Option<u32>, min: u32| match days {
            Some(days) if !(min..=DAYS_MAX).contains(&days) => {
                Err(Error::invalid(format!("{name} is a number from {min} to {DAYS_MAX}, or null to keep for ever")))
            }
            Some(_) | None => Ok(()),
        };
        days("expiredCertificateDays", self.expired_certificate_days, 0)?;
        days("certificateRequestDays", self.certificate_request_days, 0)?;
        days("auditDays", self.audit_days, AUDIT_DAYS_MIN)
    }
}

/// What ended before this time has been kept for that many days.
pub fn kept_until(now: Time, days: u32) -> Time {
    now.plus_seconds(-i64::from(days) * 24 * 3600)
}

/// How much was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Expired certificates with their keys.
    pub certificates: u64,
    /// Certificate requests that were answered or refused.
    pub certificate_requests: u64,
    /// Access tokens that could not be used any more.
    pub access_tokens: u64,
    /// Revocations that no list names any more, of certificates that are gone.
    pub revocations: u64,
    /// Records of the audit.
    pub audit_records: u64,
}

impl Removed {
    /// Whether that is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_nobody_can_mean_are_refused() {
        let policy = |certificates, audit| RetentionPolicy {
            expired_certificate_days: certificates,
            certificate_request_days: None,
            audit_days: audit,
        };
        for (sent, is_taken) in [
            (policy(None, None), true),
            (policy(Some(0), Some(AUDIT_DAYS_MIN)), true),
            (policy(Some(DAYS_MAX), Some(DAYS_MAX)), true),
            (policy(Some(DAYS_MAX + 1), None), false),
            (policy(None, Some(AUDIT_DAYS_MIN - 1)), false),
        ] {
            assert_eq!(sent.check().is_ok(), is_taken, "{sent:?}");
        }
    }
}
