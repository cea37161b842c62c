//! Answers that were signed and are given again. Of each only what cannot be made again is kept: the status, the period and
//! the signature; the rest is written anew around the same identifier, octet by octet as it was signed.
//!
//! There are 128 parts with 14,336 answers at most, in 290 MiB of memory. That takes 1.8 million certificates that were issued
//! here and asked about within half an hour; serial numbers that are unknown are not kept.

use domain::ocsp::AnswerPeriod;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use x509::CertificateStatus;
use x509::serial::SERIAL_OCTETS_MAX;

/// A power of two.
const PARTS: usize = 128;
/// As many as a table of 16,384 places holds before it grows.
const ANSWERS_PER_PART: usize = 14_336;
/// How long after the database was last heard of an answer is given that was signed before and does not say revoked.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(4);
/// The longest signature of P-256.
const SIGNATURE_OCTETS_MAX: usize = 72;

/// Which certificate an answer is about, named in which way.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The number of the issuer as requests name it.
    issuer: u32,
    octets: u8,
    serial: [u8; SERIAL_OCTETS_MAX],
}

impl Key {
    /// Nothing for a serial number that no certificate has.
    pub(super) fn new(issuer: u32, serial_content: &[u8]) -> Option<Self> {
        let mut serial = [0; SERIAL_OCTETS_MAX];
        serial.get_mut(..serial_content.len())?.copy_from_slice(serial_content);
        Some(Self { issuer, octets: u8::try_from(serial_content.len()).ok()?, serial })
    }

    fn serial(&self) -> &[u8] {
        &self.serial[..usize::from(self.octets)]
    }
}

/// An answer that is kept.
#[derive(Clone, Copy)]
pub(super) struct KeptAnswer {
    /// The version of the responder that signed it.
    pub(super) responder: u32,
    /// What it says.
    pub(super) status: CertificateStatus,
    /// For how long.
    pub(super) period: AnswerPeriod,
    /// The signature.
    pub(super) signature: Signature,
}

/// A signature of P-256.
#[derive(Clone, Copy)]
pub(super) struct Signature {
    octets: [u8; SIGNATURE_OCTETS_MAX],
    length: u8,
}

impl Signature {
    /// Nothing for one of another kind.
    pub(super) fn new(signature: &[u8]) -> Option<Self> {
        let mut octets = [0; SIGNATURE_OCTETS_MAX];
        octets.get_mut(..signature.len())?.copy_from_slice(signature);
        Some(Self { octets, length: u8::try_from(signature.len()).ok()? })
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

/// All answers that are kept.
pub(super) struct KeptAnswers {
    parts: Vec<Mutex<Part>>,
    /// Which part a serial number is in: nobody outside can choose it.
    hasher: RandomState,
    begun: Instant,
    /// When the database last said that nothing else changed, in milliseconds since the beginning.
    confirmed: AtomicU64,
}

#[derive(Default)]
struct Part {
    /// How often a status changed here.
    changes: u64,
    answers: HashMap<Key, KeptAnswer>,
}

impl Default for KeptAnswers {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            begun: Instant::now(),
            confirmed: AtomicU64::new(0),
        }
    }
}

impl KeptAnswers {
    fn part(&self, serial: &[u8]) -> MutexGuard<'_, Part> {
        let hash = usize::try_from(self.hasher.hash_one(serial) & (PARTS as u64 - 1)).unwrap_or(0);
        self.parts[hash].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer. When the database has not been heard of for longer than that, only one that says revoked: whether another
    /// node revoked a certificate that was good could not be known.
    pub(super) fn find(&self, key: &Key) -> Option<KeptAnswer> {
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Acquire));
        let is_confirmed = self.begun.elapsed() <= confirmed + UNCONFIRMED_MAX;
        let kept = self.part(key.serial()).answers.get(key).copied();
        kept.filter(|kept| is_confirmed || matches!(kept.status, CertificateStatus::Revoked { .. }))
    }

    /// How often the status of this or another certificate changed; for [`KeptAnswers::keep`].
    pub(super) fn changes(&self, serial: &[u8]) -> u64 {
        self.part(serial).changes
    }

    /// Keeps an answer whose status was looked up after the changes were counted. False when it changed since.
    pub(super) fn keep(&self, key: Key, serial: &[u8], answer: KeptAnswer, changes: u64) -> bool {
        let mut part = self.part(serial);
        if part.changes != changes {
            return false;
        }
        if part.answers.len() >= ANSWERS_PER_PART {
            let mut number = 0_u32;
            part.answers.retain(|_, _| {
                number += 1;
                !number.is_multiple_of(8)
            });
        }
        part.answers.insert(key, answer);
        true
    }

    /// Forgets the answers about a serial number, under each of these numbers of its issuer.
    pub(super) fn forget(&self, serial: &[u8], issuers: &[u32]) {
        let mut part = self.part(serial);
        part.changes += 1;
        for key in issuers.iter().filter_map(|issuer| Key::new(*issuer, serial)) {
            part.answers.remove(&key);
        }
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.changes += 1;
            part.answers.clear();
        }
    }

    /// Notes that everything that was committed until then is known here.
    pub(super) fn confirm(&self, asked: Instant) {
        let millis = u64::try_from(asked.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX);
        self.confirmed.fetch_max(millis, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Time;

    fn answer() -> KeptAnswer {
        let period = AnswerPeriod { this_update: Time::from_seconds(0), next_update: Time::from_seconds(1) };
        let signature = Signature::new(&[7; 71]).unwrap();
        KeptAnswer { responder: 1, status: CertificateStatus::Good, period, signature }
    }

    #[test]
    fn an_answer_that_was_looked_up_before_a_change_is_not_kept() {
        let kept = KeptAnswers::default();
        let (key, serial) = (Key::new(3, &[1, 2]).unwrap(), [1, 2]);
        let before = kept.changes(&serial);
        kept.forget(&serial, &[]);
        assert!(!kept.keep(key, &serial, answer(), before));
        assert!(kept.find(&key).is_none());
        assert!(kept.keep(key, &serial, answer(), kept.changes(&serial)));
        assert_eq!(kept.find(&key).unwrap().signature.octets(), [7; 71]);
        assert!(kept.find(&Key::new(4, &[1, 2]).unwrap()).is_none());
        kept.forget(&serial, &[3, 4]);
        assert!(kept.find(&key).is_none());
        assert!(kept.keep(key, &serial, answer(), kept.changes(&serial)));
        kept.forget_all();
        assert!(kept.find(&key).is_none());
    }

    #[test]
    fn serial_numbers_and_signatures_of_others_are_not_kept() {
        assert!(Key::new(1, &[1; 20]).is_some() && Key::new(1, &[1; 21]).is_none());
        assert!(Key::new(1, &[0, 1]) != Key::new(1, &[0, 1, 0]));
        assert!(Signature::new(&[0; 73]).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_in_octets() {
        // A table keeps a place for each, and one octet beside.
        let place = size_of::<(Key, KeptAnswer)>() + 1;
        assert!(place * 16_384 * PARTS <= 290 << 20, "{place} octets for each");
        let kept = KeptAnswers::default();
        for number in 0..(ANSWERS_PER_PART as u32 + 100) {
            let serial = [7, 7];
            let key = Key::new(number, &serial).unwrap();
            assert!(kept.keep(key, &serial, answer(), 0));
        }
        let count = kept.part(&[7, 7]).answers.len();
        assert!(count <= ANSWERS_PER_PART && count > ANSWERS_PER_PART / 2, "{count}");
    }

    #[test]
    fn nothing_is_good_when_the_database_was_not_heard_of_for_long() {
        let mut kept = KeptAnswers::default();
        let (key, serial) = (Key::new(3, &[1, 2]).unwrap(), [1, 2]);
        assert!(kept.keep(key, &serial, answer(), 0));
        let (revoked, other) = (Key::new(3, &[5]).unwrap(), [5]);
        let status = CertificateStatus::Revoked { at: 0, reason: None };
        assert!(kept.keep(revoked, &other, KeptAnswer { status, ..answer() }, 0));
        let Some(begun) = kept.begun.checked_sub(Duration::from_secs(5)) else { return };
        kept.begun = begun;
        assert!(kept.find(&key).is_none());
        assert_eq!(kept.find(&revoked).unwrap().status, status);
        kept.confirm(Instant::now());
        assert!(kept.find(&key).is_some());
    }
}
