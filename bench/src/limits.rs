//! What this machine can do at all, one core at a time and without a server: the ceiling that rates are held beside.

use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

use rusqlite::Connection;
use x509::{
    CertificateTemplate, DnsName, ExtendedKeyUsage, GeneralName, KeyUsage, KeyUsages, RequiredFields, SerialNumber,
    SignatureAlgorithm, Uri, assemble_certificate,
};

use crate::requests::CertificationRequest;
use crate::{Outcome, saying};

/// How long each limit is measured.
const MEASURED: Duration = Duration::from_millis(700);
/// A block of the log that is made durable at once, in octets, and how many of them the file is long.
const BLOCK: usize = 8 << 10;
const BLOCKS: u64 = 128;
/// Certificates of a transaction, and the octets of each.
const ROWS: usize = 128;
const ROW: usize = 800;

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
    /// Leaf certificates built, encoded and signed with P-256 on one core.
    pub leaf: f64,
    /// Rows with a unique serial number and two indexes, each beside a row of audit, made durable by SQLite, 128 at once.
    pub rows: f64,
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
            leaf: per_second(|| {
                let to_be_signed = leaf(requests.first().ok_or("no certification requests")?)?;
                let signature = pair.sign(&random, &to_be_signed).map_err(&failed)?;
                black_box(assemble_certificate(&to_be_signed, SignatureAlgorithm::EcdsaSha256, signature.as_ref()));
                Ok(())
            })?,
            rows: rows(folder)?,
            durable_write: durable_writes(folder)?,
        })
    }

    /// Certificates per second and core if only the cryptography of `issue` were done: a key and a signature.
    pub fn issue_cryptography(&self) -> f64 {
        together(&[self.p256_generate, self.p256_sign])
    }

    /// The same of `sign`: a certification request verified and a signature.
    pub fn sign_cryptography(&self) -> f64 {
        together(&[self.request_verify, self.p256_sign])
    }

    /// Certificates per second and core if `issue` were nothing but an answer over HTTP (of which `http` are possible), a
    /// key, a leaf certificate and its rows: no authentication, no policy, no chain of audit, no sealed key, no JSON.
    pub fn issue_ceiling(&self, http: f64) -> f64 {
        together(&[http, self.p256_generate, self.leaf, self.rows])
    }

    /// The same of `sign`, with a certification request instead of a key.
    pub fn sign_ceiling(&self, http: f64) -> f64 {
        together(&[http, self.request_verify, self.leaf, self.rows])
    }
}

/// The rate of doing all of it, one after the other.
fn together(rates: &[f64]) -> f64 {
    1.0 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

/// What is signed of a leaf with a common name and the extensions that each has.
fn leaf(request: &CertificationRequest) -> Outcome<Vec<u8>> {
    let failed = saying("a leaf certificate");
    let request = x509::CertificationRequest::from_der(&request.0).map_err(saying("a certification request"))?;
    let serial_number = loop {
        let mut octets = [0; 20];
        SystemRandom::new().fill(&mut octets).map_err(saying("random octets"))?;
        if let Some(serial_number) = SerialNumber::from_random(octets) {
            break serial_number;
        }
    };
    let name = [GeneralName::Dns(DnsName::parse("host.bench.example.com").map_err(&failed)?)];
    let uri = [Uri::parse("http://lists.example.com/issuing.crl").map_err(&failed)?];
    let mut template = CertificateTemplate::new(RequiredFields {
        serial_number,
        signature_algorithm: SignatureAlgorithm::EcdsaSha256,
        issuer_der: request.subject().as_der(),
        not_before: 1_764_000_000,
        not_after: 1_766_592_000,
        subject: request.subject(),
        spki_der: request.spki_der(),
    });
    template.key_usages = KeyUsages::of(&[KeyUsage::DigitalSignature]);
    template.extended_key_usages = &[ExtendedKeyUsage::ServerAuth];
    template.subject_key_id = Some(&[1; 20]);
    template.authority_key_id = Some(&[2; 20]);
    template.subject_alt_names = &name;
    template.crl_urls = &uri;
    Ok(template.to_be_signed())
}

/// A file beside which nothing runs, written as the inventory is.
fn rows(folder: &Path) -> Outcome<f64> {
    let failed = saying("SQLite");
    let file = tempfile::Builder::new().suffix(".db").tempfile_in(folder).map_err(saying("SQLite"))?;
    let mut database = Connection::open(file.path()).map_err(&failed)?;
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             CREATE TABLE certificates (pk INTEGER PRIMARY KEY, serial BLOB NOT NULL UNIQUE, name TEXT NOT NULL,
                 ends INTEGER NOT NULL, der BLOB NOT NULL) STRICT;
             CREATE INDEX certificates_name ON certificates (name);
             CREATE INDEX certificates_ends ON certificates (ends);
             CREATE TABLE audit (pk INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;",
        )
        .map_err(&failed)?;
    let mut count = 0_u64;
    let random = SystemRandom::new();
    let batches = per_second(|| {
        let transaction = database.transaction().map_err(&failed)?;
        for _ in 0..ROWS {
            count += 1;
            let mut serial = [0; 20];
            random.fill(&mut serial).map_err(saying("random octets"))?;
            transaction
                .prepare_cached("INSERT INTO certificates (serial, name, ends, der) VALUES (?1, ?2, ?3, ?4)")
                .and_then(|mut insert| insert.execute((serial, format!("host-{count}"), count as i64, [7_u8; ROW])))
                .and_then(|_| transaction.prepare_cached("INSERT INTO audit (record) VALUES (?1)"))
                .and_then(|mut insert| insert.execute([[7_u8; 200]]))
                .map_err(&failed)?;
        }
        transaction.commit().map_err(&failed)
    })?;
    Ok(batches * ROWS as f64)
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
    fn every_leaf_is_built() {
        let request = certification_request("host.example.com").unwrap();
        for _ in 0..1000 {
            let to_be_signed = leaf(&request).unwrap();
            assert!(x509::parse_tbs(&to_be_signed).is_ok());
        }
    }

    #[test]
    fn doing_two_things_takes_the_time_of_both() {
        assert_eq!(together(&[100.0, 100.0]), 50.0);
        assert!((together(&[40_000.0, 10_000.0]) - 8_000.0).abs() < 1e-6);
    }
}
