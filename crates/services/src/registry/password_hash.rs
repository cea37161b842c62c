//! Passwords that people choose, kept as Argon2id (contract §5.3: 19 MiB, two passes, one lane).

use crate::context::Context;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use domain::{Error, Result};

/// How many passwords are looked at at once on this node.
pub(crate) const PASSWORDS_AT_ONCE: usize = 4;

impl Context {
    /// What is kept of a password.
    pub(super) async fn hash_of_password(&self, password: &str) -> Result<String> {
        let (password, salt) = (password.to_owned(), self.random.octets::<16>());
        let hashed = tokio::task::spawn_blocking(move || {
            hasher()?
                .hash_password_with_salt(password.as_bytes(), &salt)
                .map(|hash| hash.to_string())
                .map_err(|error| error.to_string())
        });
        let hashed = hashed.await.map_err(|error| Error::failed_because("hashing a password", error))?;
        hashed.map_err(|error| Error::failed(format!("hashing a password: {error}")))
    }

    /// Whether it is the password of any of these hashes. At most a few are looked at at once on this node: each look takes
    /// 19 MiB.
    pub(super) async fn is_any_password(&self, password: &str, hashes: Vec<String>) -> Result<bool> {
        let turn = self.state.password_turns.acquire().await;
        let _turn = turn.map_err(|closed| Error::failed_because("the turns of passwords", closed))?;
        let password = password.to_owned();
        let looked = tokio::task::spawn_blocking(move || {
            let hasher = hasher()?;
            let is_it = |hash: &String| {
                PasswordHash::new(hash).is_ok_and(|hash| hasher.verify_password(password.as_bytes(), &hash).is_ok())
            };
            Ok(hashes.iter().any(is_it))
        });
        let looked = looked.await.map_err(|error| Error::failed_because("looking at a password", error))?;
        looked.map_err(|error: String| Error::failed(format!("looking at a password: {error}")))
    }
}

fn hasher() -> Result<Argon2<'static>, String> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| error.to_string())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}
