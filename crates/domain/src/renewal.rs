//! Renewal of leaf certificates: what a new one is asked for with, when it is due, and what stands against it
//! (contract §6.5, 6.6).

use crate::issuance::{IssuanceRequest, Wishes, request_of};
use crate::profile::ApiEnrollment;
use crate::{Result, Time};
use x509::Certificate;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// What the successor of a certificate is asked for with: the same names, usages and algorithms, a new key, and as many
/// whole days as the certificate lived, rounded up.
pub fn request_for_successor(certificate: &Certificate) -> Result<IssuanceRequest> {
    let (subject, wishes) = request_of(certificate)?;
    let ttl_millis = Some(lifetime_days_up(certificate) * DAY_SECONDS * 1000);
    Ok(IssuanceRequest { subject, wishes: Wishes { ttl_millis, ..wishes } })
}

/// Whole days of a certificate's life, rounded up.
fn lifetime_days_up(certificate: &Certificate) -> i64 {
    (certificate.not_after() - certificate.not_before() + DAY_SECONDS - 1).div_euclid(DAY_SECONDS).max(1)
}

/// Whole days of a certificate's life.
pub fn lifetime_days(certificate: &Certificate) -> i64 {
    (certificate.not_after() - certificate.not_before()).div_euclid(DAY_SECONDS)
}

/// When a certificate is renewed that is to be so many days before its end.
pub fn renew_at(certificate: &Certificate, days: u32) -> Time {
    Time::from_seconds(certificate.not_after() - i64::from(days) * DAY_SECONDS)
}

/// Whether a renewal at that time can still be planned: not before the next midnight in UTC.
pub fn can_be_planned(renew_at: Time, now: Time) -> bool {
    renew_at.seconds() >= (now.seconds().div_euclid(DAY_SECONDS) + 1) * DAY_SECONDS
}

/// How many days before its end a new certificate of a profile is renewed by itself, if it is.
pub fn days_of_profile(profile: Option<&ApiEnrollment>, certificate: &Certificate, now: Time) -> Option<u32> {
    days_before_end(profile.filter(|api| api.auto_renew)?.renew_before_days?, certificate, now)
}

/// How many days before its end a new certificate is renewed by itself that is to be so many days before: fewer when it
/// lives for less.
pub fn days_before_end(wanted: u32, certificate: &Certificate, now: Time) -> Option<u32> {
    let days = match lifetime_days(certificate) {
        lifetime if lifetime > i64::from(wanted) => wanted,
        lifetime => u32::try_from(lifetime - 1).unwrap_or(0).max(1),
    };
    can_be_planned(renew_at(certificate, days), now).then_some(days)
}

/// When a renewal that was refused is tried again: whoever mends the cause needs do nothing more.
pub fn next_try(certificate: &Certificate, now: Time) -> Option<Time> {
    let next = now.plus_seconds(DAY_SECONDS);
    (next.seconds() <= certificate.not_after()).then_some(next)
}
