//! What this machine can do at all, one core at a time and without a server: the ceiling that rates are held beside.

use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

use crate::requests::CertificationRequest;
use crate::{Outcome, saying};

/// How long each limit is measured.
const MEASURED: Duration = Duration::from_millis(700);
/// A block of the log that is made durable at once, in octets, and how many of them the file is long.
const BLOCK: usize = 8 << 10;
const BLOCKS: u64 = 128;

/// Operations per second.
pub struct Limits {
    /// P-256 signatures on one core.
    pub p256_sign: f64,
    /// P-256 keys made on one core.
    pub p256_generate: f64,
    /// P-256 signatures verified on one core.
    pub p256_verify: f64,
    /// P-256 certification requests read and their signatures verified on one core.
    pub request_verify: f64,
    /// Blocks of 8 kB written and made durable one after the other by fdatasync.
    pub durable_write: f64,
}

impl Limits {
    /// Measures for a few seconds; the writes go to a file in `folder`.
    pub fn measure(folder: &Path, requests: &[CertificationRequest]) -> Outcome<Self> {
        let failed = saying("P-256");
        let message = [7; 600];
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(&failed)?;
        let signature = pair.sign(&random, &message).map_err(&failed)?;
        let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
        let mut next = requests.iter().cycle();
        Ok(Self {
            p256_sign: per_second(|| {
                black_box(pair.sign(&random, &message).map_err(&failed)?);
                Ok(())
            })?,
            p256_generate: per_second(|| {
                black_box(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(&failed)?);
                Ok(())
            })?,
            p256_verify: per_second(|| public_key.verify(&message, signature.as_ref()).map_err(&failed))?,
            request_verify: per_second(|| verify(next.next().ok_or("no certification requests")?))?,
            durable_write: durable_writes(folder)?,
        })
    }

    /// Certificates per second and core if only the cryptography of `issue` were done: a key and a signature.
    pub fn issue_cryptography(&self) -> f64 {
        together(self.p256_generate, self.p256_sign)
    }

    /// The same of `sign`: a certification request verified and a signature.
    pub fn sign_cryptography(&self) -> f64 {
        together(self.request_verify, self.p256_sign)
    }
}

/// The rate of doing both, one after the other.
fn together(one: f64, other: f64) -> f64 {
    1.0 / (1.0 / one + 1.0 / other)
}

fn verify(request: &CertificationRequest) -> Outcome<()> {
    let request = x509::CertificationRequest::from_der(&request.0).map_err(saying("a certification request"))?;
    if request.verify() { Ok(()) } else { Err("a certification request of our own does not verify".to_owned()) }
}

fn per_second(mut operation: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < MEASURED {
        operation()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Over and over through one file, as SQLite goes through its log.
fn durable_writes(folder: &Path) -> Outcome<f64> {
    let failed = saying("durable writes");
    let mut file = tempfile::tempfile_in(folder).map_err(&failed)?;
    file.write_all(&vec![1; BLOCK * BLOCKS as usize]).and_then(|()| file.sync_all()).map_err(&failed)?;
    let mut turn = 0;
    per_second(|| {
        let offset = (turn % BLOCKS) * BLOCK as u64;
        turn += 1;
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.write_all(&[turn as u8; BLOCK]))
            .and_then(|()| file.sync_data())
            .map_err(&failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::certification_request;

    #[test]
    fn a_request_verifies_and_not_after_a_change() {
        let request = certification_request("host.example.com").unwrap();
        assert_eq!(verify(&request), Ok(()));
        let mut changed = request.0.clone();
        let at = changed.windows(4).position(|window| window == b"host").unwrap();
        changed[at] = b'm';
        assert!(verify(&CertificationRequest(changed)).is_err());
    }

    #[test]
    fn doing_two_things_takes_the_time_of_both() {
        assert_eq!(together(100.0, 100.0), 50.0);
        assert!((together(40_000.0, 10_000.0) - 8_000.0).abs() < 1e-6);
    }
}
