//! Passwords that people choose, kept as Argon2id (contract §5.3: 19 MiB, two passes, one lane).

use crate::context::Context;
use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use domain::{Error, Result};

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
}

fn hasher() -> Result<Argon2<'static>, String> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| error.to_string())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}
