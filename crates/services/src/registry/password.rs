//! Passwords of registries, devices and brokers: Argon2id, a few at a time, and remembered once they were right.

use crate::context::Context;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use async_recursion::async_recursion as compiled_here;
use aws_lc_rs::hmac;
use domain::registry::{AccessEnd, PasswordId};
use domain::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use store::registry::access::PasswordAccess;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Memory of one hash, in KiB (contract §5.3).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// How many hashes are computed at once: each takes 19 MiB and some hundredths of a second of a processor.
const AT_ONCE: usize = 2;
/// How many wait for that at most.
const WAITING_MAX: usize = 512;
/// How many right passwords are remembered.
const REMEMBERED_MAX: usize = 50_000;

/// Where passwords are looked at.
pub(crate) struct Passwords {
    /// The key of this process: what is remembered is of no use elsewhere.
    key: hmac::Key,
    remembered: Mutex<HashMap<PasswordId, Remembered>>,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

struct Remembered {
    tag: [u8; 32],
    /// The hash that it was right for.
    hash: String,
}

/// A hash that no password has, for owners that there are not: they are to cost the same time.
static NOBODYS: LazyLock<String> = LazyLock::new(|| {
    let salt = [0x5a; 16];
    let hash = hasher().hash_password_with_salt(b"nobody's password", &salt);
    hash.map(|hash| hash.to_string()).unwrap_or_default()
});

impl Passwords {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            remembered: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    fn tag(&self, password: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, password).as_ref());
        tag
    }

    fn recall(&self, candidates: &[PasswordAccess], tag: &[u8; 32]) -> Option<usize> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        candidates.iter().position(|candidate| {
            remembered
                .get(&candidate.password)
                .is_some_and(|known| known.hash == candidate.hash && bool::from(known.tag.ct_eq(tag)))
        })
    }

    fn remember(&self, candidate: &PasswordAccess, tag: [u8; 32]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(candidate.password.clone(), Remembered { tag, hash: candidate.hash.clone() });
    }

    /// Forgets the passwords whose access ended. Those of an owner are not read any more once it is gone.
    pub(crate) fn forget(&self, ends: &[AccessEnd]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        for end in ends {
            if let AccessEnd::Password(id) = end {
                remembered.remove(id);
            }
        }
    }

    /// Runs slow work, a few at a time.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = |_| Error::unavailable("too many passwords are being checked at the moment", 2);
        let _waiting = self.waiting.clone().try_acquire_owned().map_err(busy)?;
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|error| Error::failed_because("the line for passwords", error))?;
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::failed_because("hashing a password", error))
    }
}

impl Context {
    /// The hash of a new password, to be stored.
    #[compiled_here]
    pub async fn hash_registered_password(&self, password: &str) -> Result<String> {
        let (password, salt) = (password.as_bytes().to_vec(), self.random.octets::<16>());
        let hash = move || {
            let hash = hasher().hash_password_with_salt(&password, &salt);
            hash.map(|hash| hash.to_string())
        };
        let hash = self.state.registry.passwords.run(hash).await?;
        hash.map_err(|error| Error::failed(format!("hashing a password: {error}")))
    }

    /// Which of an owner's passwords this is, if any.
    pub(super) async fn right_password(&self, candidates: &[PasswordAccess], password: &[u8]) -> Result<Option<usize>> {
        let tag = self.state.registry.passwords.tag(password);
        if let Some(found) = self.state.registry.passwords.recall(candidates, &tag) {
            return Ok(Some(found));
        }
        let hashes: Vec<String> = match candidates {
            [] => vec![NOBODYS.clone()],
            _ => candidates.iter().map(|candidate| candidate.hash.clone()).collect(),
        };
        let password = password.to_vec();
        let verify = move || hashes.iter().position(|hash| is_of(&password, hash));
        let found = self.state.registry.passwords.run(verify).await?;
        let found = found.and_then(|found| candidates.get(found).map(|candidate| (found, candidate)));
        if let Some((_, candidate)) = found {
            self.state.registry.passwords.remember(candidate, tag);
        }
        Ok(found.map(|(found, _)| found))
    }
}

fn is_of(password: &[u8], hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| hasher().verify_password(password, &hash).is_ok())
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within Argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_says_how_it_was_made_and_fits_its_password_alone() {
        let hash = hasher().hash_password_with_salt(b"Passw0rdForYou", &[7; 16]).unwrap().to_string();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(is_of(b"Passw0rdForYou", &hash));
        assert!(!is_of(b"Passw0rdForYoU", &hash));
        assert!(!is_of(b"Passw0rdForYou", "$argon2id$broken"));
        assert!(!is_of(b"nobody", &NOBODYS));
    }
}
