//! Slow key work off the threads that serve requests: making RSA keys, and RSA signatures.
//!
//! The two have threads and queues of their own, so that a flood of key generation holds up neither signatures nor, in
//! the signing queue, the signatures of CRLs and OCSP answers. EC and Ed25519 take microseconds and are done at once.

use std::{num::NonZero, sync::Arc, thread};

use x509::algorithm::{KeyAlgorithm, KeyFamily, SignatureAlgorithm};

use crate::{
    KeyError, PrivateKey,
    workers::{Priority, Workers},
};

/// Which signatures go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Revocation: CRLs and OCSP answers. Taken before everything ordinary, with room of its own in the queue.
    Urgent,
    /// Issuance and everything else.
    Ordinary,
}

/// How many threads, and how much may wait before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Threads that make RSA keys, at the lowest priority.
    pub generation_threads: usize,
    /// Threads that make RSA signatures.
    pub signing_threads: usize,
    /// Pieces of work that may wait in each queue; the next is refused with [`KeyError::Busy`].
    pub queue_length: usize,
}

impl Default for PoolSize {
    /// Half of the processors make keys, each may sign, 256 wait.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self { generation_threads: (processors / 2).max(1), signing_threads: processors, queue_length: 256 }
    }
}

/// The threads for slow key work. One per process.
pub struct KeyPool {
    generation: Workers<PrivateKey>,
    signing: Workers<Vec<u8>>,
}

impl KeyPool {
    /// Starts the threads.
    pub fn start(size: PoolSize) -> Result<Self, KeyError> {
        Ok(Self {
            generation: Workers::start("keygen", size.generation_threads, Priority::Lowest, size.queue_length)?,
            signing: Workers::start("sign", size.signing_threads, Priority::Normal, size.queue_length)?,
        })
    }

    /// How many RSA keys, and how many RSA signatures, wait for a thread.
    pub fn waiting(&self) -> (usize, usize) {
        (self.generation.waiting(), self.signing.waiting())
    }

    /// A new key pair. [`KeyError::Busy`] when too many RSA keys are being waited for.
    pub async fn generate(&self, algorithm: KeyAlgorithm) -> Result<PrivateKey, KeyError> {
        match algorithm.family() {
            KeyFamily::Rsa => self.generation.run(Lane::Ordinary, move || PrivateKey::generate(algorithm)).await,
            KeyFamily::Ecdsa | KeyFamily::Ed25519 => PrivateKey::generate(algorithm),
        }
    }

    /// [`PrivateKey::sign_message`], on a thread of its own where that takes long.
    /// [`KeyError::Busy`] when too many signatures are being waited for.
    pub async fn sign_message(
        &self,
        lane: Lane,
        key: &Arc<PrivateKey>,
        algorithm: SignatureAlgorithm,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, KeyError> {
        match key.algorithm().family() {
            KeyFamily::Rsa => {
                let key = Arc::clone(key);
                self.signing.run(lane, move || key.sign_message(algorithm, &message)).await
            }
            KeyFamily::Ecdsa | KeyFamily::Ed25519 => key.sign_message(algorithm, &message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ec_keys_are_made_and_used_while_rsa_is_busy() {
        // No RSA work may wait, so each is refused; EC does not pass the queues.
        let pool = KeyPool::start(PoolSize { generation_threads: 1, signing_threads: 1, queue_length: 0 }).unwrap();
        assert!(matches!(pool.generate(KeyAlgorithm::Rsa2048).await, Err(KeyError::Busy)));
        for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::EcP521, KeyAlgorithm::Ed25519] {
            let key = Arc::new(pool.generate(algorithm).await.unwrap());
            let signature =
                pool.sign_message(Lane::Ordinary, &key, algorithm.default_signature(), b"message".to_vec()).await;
            assert!(signature.is_ok(), "{algorithm}");
        }
        let rsa = Arc::new(PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap());
        let refused = pool.sign_message(Lane::Urgent, &rsa, SignatureAlgorithm::RsaSha256, b"message".to_vec()).await;
        assert_eq!(refused, Err(KeyError::Busy));
    }

    #[tokio::test]
    async fn rsa_keys_are_made_and_used_on_the_pool() {
        let pool = KeyPool::start(PoolSize::default()).unwrap();
        let key = Arc::new(pool.generate(KeyAlgorithm::Rsa2048).await.unwrap());
        assert_eq!(key.algorithm(), KeyAlgorithm::Rsa2048);
        for lane in [Lane::Urgent, Lane::Ordinary] {
            let signature =
                pool.sign_message(lane, &key, SignatureAlgorithm::RsaSha256, b"message".to_vec()).await.unwrap();
            // PKCS#1 v1.5 signatures are deterministic.
            assert_eq!(signature, key.sign_message(SignatureAlgorithm::RsaSha256, b"message").unwrap());
        }
        let refused = pool.sign_message(Lane::Ordinary, &key, SignatureAlgorithm::Ed25519, b"message".to_vec()).await;
        assert_eq!(refused, Err(KeyError::Unsupported));
    }
}
