//! What is said of a certificate to whoever asks (RFC 6960), for how long it is true, and which bytes are signed.
//!
//! A serial number is known when this server signed it: it stands in the inventory, or its record was deleted, or it is that of
//! a root or of a responder. Such a certificate is good until it is revoked, also after its end and after its record was
//! deleted; every other serial number is unknown.

use crate::Time;
use x509::ocsp::AnswerTemplate;
use x509::{CertificateStatus, RevocationReason, SignatureAlgorithm, SingleAnswer};

/// How long the certificate of a responder is valid: nobody can revoke it (id-pkix-ocsp-nocheck).
pub const RESPONDER_LIFETIME_SECONDS: i64 = 7 * 24 * 60 * 60;
/// How long before its end it is followed by another: as long as with revocation lists.
pub const RESPONDER_RENEWAL_SECONDS: i64 = 4 * 24 * 60 * 60;
/// How long before now it begins, for clocks that are slow.
pub const RESPONDER_BACKDATED_SECONDS: i64 = 60 * 60;

/// How long an answer is valid at least.
pub const ANSWER_LIFETIME_SECONDS: i64 = 8 * 60 * 60;
/// By how much longer an answer may be valid, by its serial number: so clients do not all come back at once.
pub const ANSWER_SPREAD_SECONDS: i64 = 8 * 60 * 60;
/// How long an answer without a nonce is given again at least before it is signed anew.
pub const ANSWER_KEPT_SECONDS: i64 = 30 * 60;
/// By how much longer it may be given again, by its serial number.
pub const ANSWER_KEPT_SPREAD_SECONDS: i64 = 30 * 60;
/// How long it is said that a serial number is unknown: it may be used at any moment.
pub const UNKNOWN_LIFETIME_SECONDS: i64 = 60;

/// The algorithm of a responder's key, whose signatures take microseconds.
pub const RESPONDER_SIGNATURE: SignatureAlgorithm = SignatureAlgorithm::EcdsaSha256;

/// What is stored about a serial number under an issuer's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerialFacts {
    /// Whether it was signed here.
    pub is_issued: bool,
    /// Its revocation, when that was not ended.
    pub revocation: Option<(Time, RevocationReason)>,
}

impl SerialFacts {
    /// What is said of it.
    pub fn status(&self) -> CertificateStatus {
        match (self.revocation, self.is_issued) {
            (Some((at, reason)), _) => CertificateStatus::Revoked {
                at: at.seconds(),
                // RFC 5280 §5.3.1: the reason is left out rather than unspecified.
                reason: Some(reason).filter(|reason| *reason != RevocationReason::Unspecified),
            },
            (None, true) => CertificateStatus::Good,
            (None, false) => CertificateStatus::Unknown,
        }
    }
}

/// From when until when an answer is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerPeriod {
    /// Its beginning.
    pub this_update: Time,
    /// Its end.
    pub next_update: Time,
}

impl AnswerPeriod {
    /// The period of an answer that is made now by a responder whose certificate ends then; nothing when it has ended.
    pub fn new(status: CertificateStatus, serial: &[u8], now: Time, responder_ends: Time) -> Option<Self> {
        let lifetime = match status {
            CertificateStatus::Good | CertificateStatus::Revoked { .. } => {
                ANSWER_LIFETIME_SECONDS + spread(serial, ANSWER_SPREAD_SECONDS)
            }
            CertificateStatus::Unknown => UNKNOWN_LIFETIME_SECONDS,
        };
        let this_update = Time::from_seconds(now.seconds());
        let next_update = this_update.plus_seconds(lifetime).min(responder_ends);
        (next_update > this_update).then_some(Self { this_update, next_update })
    }

    /// Whether an answer of this period is given again now: it is not from the future, it is not old, and whoever gets it has
    /// most of it before them. One that the end of the responder cut short is good until that end.
    pub fn is_fresh(&self, serial: &[u8], now: Time) -> bool {
        let kept = ANSWER_KEPT_SECONDS + spread(serial, ANSWER_KEPT_SPREAD_SECONDS);
        now.seconds() >= self.this_update.seconds()
            && now < self.this_update.plus_seconds(kept)
            && now.seconds() < self.next_update.seconds()
    }
}

/// A number of seconds below a bound, which the serial number chooses: those of this server are random to the last octet.
fn spread(serial: &[u8], below_seconds: i64) -> i64 {
    let number = serial.iter().rev().take(4).fold(0_i64, |number, octet| number << 8 | i64::from(*octet));
    number % below_seconds
}

/// The bytes of an answer. Signing takes it by value.
#[derive(Debug)]
pub struct AnswerToBeSigned {
    bytes: Vec<u8>,
}

impl AnswerToBeSigned {
    /// An answer about these certificates.
    pub fn new(template: &AnswerTemplate<'_>, answers: &[SingleAnswer<'_>]) -> Self {
        Self { bytes: template.to_be_signed(answers) }
    }

    /// The bytes to sign and how.
    pub fn into_bytes(self) -> (Vec<u8>, SignatureAlgorithm) {
        (self.bytes, RESPONDER_SIGNATURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_is_said_before_anything_else_and_what_was_not_issued_is_unknown() {
        let at = Time::from_millis(1_700_000_000_999);
        for reason in RevocationReason::ALL {
            let said = Some(reason).filter(|reason| reason.code() != 0);
            let revoked = CertificateStatus::Revoked { at: 1_700_000_000, reason: said };
            for is_issued in [true, false] {
                assert_eq!(SerialFacts { is_issued, revocation: Some((at, reason)) }.status(), revoked);
            }
        }
        assert_eq!(SerialFacts { is_issued: true, revocation: None }.status(), CertificateStatus::Good);
        assert_eq!(SerialFacts::default().status(), CertificateStatus::Unknown);
    }

    #[test]
    fn answers_end_at_different_times_and_never_after_their_responder() {
        let now = Time::from_millis(1_700_000_000_500);
        let ends = now.plus_seconds(RESPONDER_RENEWAL_SECONDS);
        let mut lifetimes = std::collections::BTreeSet::new();
        for number in 0..1000_u32 {
            let serial = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
            let period = AnswerPeriod::new(CertificateStatus::Good, &serial, now, ends).unwrap();
            let lifetime = period.next_update.seconds() - period.this_update.seconds();
            assert_eq!(period.this_update.seconds(), now.seconds());
            assert!((ANSWER_LIFETIME_SECONDS..ANSWER_LIFETIME_SECONDS + ANSWER_SPREAD_SECONDS).contains(&lifetime));
            lifetimes.insert(lifetime);
            let late = now.plus_seconds(ANSWER_KEPT_SECONDS + ANSWER_KEPT_SPREAD_SECONDS);
            assert!(period.is_fresh(&serial, now) && !period.is_fresh(&serial, late));
            assert!(!period.is_fresh(&serial, now.plus_seconds(-1)));
        }
        assert!(lifetimes.len() > 900, "{}", lifetimes.len());
        let soon = now.plus_seconds(10);
        let period = AnswerPeriod::new(CertificateStatus::Good, &[1], now, soon).unwrap();
        assert_eq!(period.next_update, soon);
        assert!(period.is_fresh(&[1], now.plus_seconds(9)) && !period.is_fresh(&[1], now.plus_seconds(11)));
        assert_eq!(AnswerPeriod::new(CertificateStatus::Good, &[1], now, now.plus_seconds(-1)), None);
    }
}
