//! The only way to a signature over something that leaves the process: a decided value goes in by value, a signed one
//! comes out.

use crate::{KeyError, KeyPool, Lane, PrivateKey};
use domain::issuance::ToBeSigned;
use domain::ocsp::AnswerToBeSigned;
use domain::revocation::{ListToBeSigned, RequestToBeSigned};
use std::sync::Arc;
use x509::{KeyFamily, SignatureAlgorithm};

/// A private key and where its slow operations run.
#[derive(Clone)]
pub struct Signer {
    key: Arc<PrivateKey>,
    pool: Arc<KeyPool>,
}

impl Signer {
    /// A signer with this key.
    pub fn new(key: Arc<PrivateKey>, pool: Arc<KeyPool>) -> Self {
        Self { key, pool }
    }

    /// The public half, SubjectPublicKeyInfo in DER.
    pub fn public_spki_der(&self) -> &[u8] {
        self.key.public_spki_der()
    }

    /// Signs a certificate that was judged. Bytes that are not the judged ones are refused.
    pub async fn certificate(&self, to_be_signed: ToBeSigned) -> domain::Result<Vec<u8>> {
        let (bytes, algorithm) = to_be_signed.into_judged_bytes()?;
        let signature = self.signature(Lane::Ordinary, algorithm, &bytes).await.map_err(refused)?;
        Ok(x509::signed::assemble(&bytes, algorithm, &signature))
    }

    /// Signs a revocation list. Lists go before certificates, so that revocation never waits for issuance.
    pub async fn revocation_list(&self, to_be_signed: ListToBeSigned) -> domain::Result<Vec<u8>> {
        let (bytes, algorithm) = to_be_signed.into_bytes();
        let signature = self.signature(Lane::Urgent, algorithm, &bytes).await.map_err(refused)?;
        Ok(x509::signed::assemble(&bytes, algorithm, &signature))
    }

    /// Signs an answer about certificates, on the calling thread: the keys of responders are P-256. Gives what was signed and
    /// the signature.
    pub fn answer(&self, to_be_signed: AnswerToBeSigned) -> domain::Result<(Vec<u8>, Vec<u8>)> {
        let (bytes, algorithm) = to_be_signed.into_bytes();
        let signature = self.key.sign_message(algorithm, &bytes).map_err(refused)?;
        Ok((bytes, signature))
    }

    /// Signs a certification request for the key itself.
    pub async fn request(&self, to_be_signed: RequestToBeSigned) -> domain::Result<Vec<u8>> {
        let (bytes, algorithm) = to_be_signed.into_bytes();
        let signature = self.signature(Lane::Ordinary, algorithm, &bytes).await.map_err(refused)?;
        Ok(x509::signed::assemble(&bytes, algorithm, &signature))
    }

    async fn signature(&self, lane: Lane, algorithm: SignatureAlgorithm, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self.key.algorithm().family() {
            KeyFamily::Ecdsa | KeyFamily::Ed25519 => self.key.sign_message(algorithm, bytes),
            KeyFamily::Rsa => self.pool.sign_message(lane, &self.key, algorithm, bytes.to_vec()).await,
        }
    }
}

fn refused(error: KeyError) -> domain::Error {
    match error {
        KeyError::Busy => domain::Error::unavailable("too many signatures are being waited for", 2),
        KeyError::Malformed | KeyError::Unsupported | KeyError::WrongKey | KeyError::Failed(_) => {
            domain::Error::failed_because("signing", error)
        }
    }
}
