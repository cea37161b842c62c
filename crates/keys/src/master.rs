//! The master key: 32 bytes from a file or the environment that seal the data keys of all projects.
//!
//! It is never stored in the database. What stands there is its short public id, so that each sealed data key says
//! which master key opens it.

use std::path::Path;

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT},
};
use zeroize::Zeroizing;

use crate::{KeyError, Secret, private_file, rotation};

/// Length of a master key and of a data key in bytes (AES-256).
pub(crate) const KEY_LENGTH: usize = 32;

/// The key over all keys. Wiped when dropped.
pub struct MasterKey {
    key: Secret,
    id: String,
}

impl MasterKey {
    /// A new random key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_secret(Secret::random(KEY_LENGTH)?)
    }

    /// The key in this file; [`KeyError::Failed`] when there is none, or when group or others may read it.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_file_if_present(path)?
            .ok_or_else(|| KeyError::Failed(format!("there is no master key file {}", path.display())))
    }

    /// The key in this file, which is made (0600, synced) with a new key when there is none.
    ///
    /// Call it only for a database that holds no sealed key yet, or check afterwards that the sealed keys name this id:
    /// a new key in the place of a lost one opens nothing.
    pub fn from_file_or_create(path: &Path) -> Result<Self, KeyError> {
        private_file::sweep(path)?;
        match Self::from_file_if_present(path)? {
            Some(key) => Ok(key),
            None if rotation::is_under_way(path) => Err(KeyError::Failed(format!(
                "the master key file {} is gone, but files of its rotation are there (.next, .previous); put it back",
                path.display()
            ))),
            None => Self::generate()?.store_or_read(path),
        }
    }

    /// The key in an environment variable's value: 32 bytes as base64 (either alphabet, padded or not) or as 64
    /// hexadecimal digits.
    pub fn from_environment(value: &str) -> Result<Self, KeyError> {
        let text = value.trim_ascii().as_bytes();
        // 64 characters of base64 would be 48 bytes, so the length tells the two forms apart.
        let bytes = match text.len() {
            64 => decode_hexadecimal(text)?,
            43 | 44 => decode_base64(text)?,
            _ => return Err(KeyError::Malformed),
        };
        Self::from_secret(bytes)
    }

    /// The public name of this key: 16 hexadecimal digits, a truncated hash from which the key cannot be found.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key in this file, or `None` when there is no such file.
    pub(crate) fn from_file_if_present(path: &Path) -> Result<Option<Self>, KeyError> {
        let Some(contents) = private_file::read(path)? else { return Ok(None) };
        let text = std::str::from_utf8(&contents).map_err(|_| malformed_file(path))?;
        Self::from_environment(text).map(Some).map_err(|_| malformed_file(path))
    }

    /// Stores this key in a new file; when another process was faster, its key counts.
    pub(crate) fn store_or_read(self, path: &Path) -> Result<Self, KeyError> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        STANDARD.encode_string(self.key.expose(), &mut text);
        text.push('\n');
        match private_file::create(path, text.as_bytes())? {
            true => Ok(self),
            false => Self::from_file(path),
        }
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.key.expose()
    }

    fn from_secret(key: Secret) -> Result<Self, KeyError> {
        if key.expose().len() != KEY_LENGTH {
            return Err(KeyError::Malformed);
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"chancery master key id\0");
        context.update(key.expose());
        let hash = context.finish();
        let id = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { key, id })
    }
}

fn malformed_file(path: &Path) -> KeyError {
    KeyError::Failed(format!("{} is not a master key: 32 bytes as base64 or hexadecimal", path.display()))
}

fn decode_base64(text: &[u8]) -> Result<Secret, KeyError> {
    // The decoder wants room for whole quanta: 44 characters are up to 33 bytes.
    let mut bytes = Secret::new(vec![0; 33]);
    let length = STANDARD_PAD_INDIFFERENT
        .decode_slice(text, bytes.expose_mut())
        .or_else(|_| URL_SAFE_PAD_INDIFFERENT.decode_slice(text, bytes.expose_mut()))
        .map_err(|_| KeyError::Malformed)?;
    bytes.truncate(length);
    Ok(bytes)
}

fn decode_hexadecimal(text: &[u8]) -> Result<Secret, KeyError> {
    let mut bytes = Secret::new(vec![0; text.len() / 2]);
    for (byte, pair) in bytes.expose_mut().iter_mut().zip(text.chunks_exact(2)) {
        *byte = hexadecimal_digit(pair[0])? << 4 | hexadecimal_digit(pair[1])?;
    }
    Ok(bytes)
}

fn hexadecimal_digit(character: u8) -> Result<u8, KeyError> {
    match char::from(character).to_digit(16) {
        Some(digit) => Ok(digit as u8),
        None => Err(KeyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const HEXADECIMAL: &str = "fbff000102030405060708090a0b0c0d0e0f101112131415161718191a1b1cff";

    #[test]
    fn every_text_form_of_a_key_is_the_same_key() {
        let key = MasterKey::from_environment(HEXADECIMAL).unwrap();
        assert_eq!(key.expose()[..3], [0xfb, 0xff, 0x00]);
        let standard = STANDARD.encode(key.expose());
        let url_safe = standard.replace('+', "-").replace('/', "_");
        for text in [
            HEXADECIMAL.to_uppercase(),
            standard.clone(),
            standard.trim_end_matches('=').to_owned(),
            url_safe.clone(),
            url_safe.trim_end_matches('=').to_owned(),
            format!("  {standard}\n"),
        ] {
            let other = MasterKey::from_environment(&text).unwrap();
            assert!(other.key.constant_time_eq(key.expose()), "{text}");
            assert_eq!(other.id(), key.id());
        }
    }

    #[test]
    fn text_that_is_not_32_bytes_is_refused() {
        for text in [
            "".to_owned(),
            "secret".to_owned(),
            HEXADECIMAL[2..].to_owned(),
            HEXADECIMAL.replace('f', "g"),
            format!("{HEXADECIMAL}00"),
            STANDARD.encode([0; 31]),
            STANDARD.encode([0; 33]),
            "é".repeat(32),
            "!".repeat(44),
        ] {
            assert_eq!(MasterKey::from_environment(&text).map(|_| ()), Err(KeyError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_id_names_the_key_and_does_not_show_it() {
        let one = MasterKey::generate().unwrap();
        let other = MasterKey::generate().unwrap();
        assert_ne!(one.id(), other.id());
        assert_eq!(one.id().len(), 16);
        assert!(
            !one.expose()
                .windows(4)
                .any(|part| one.id().contains(&format!("{:08x}", u32::from_be_bytes(part.try_into().unwrap()))))
        );
    }

    #[test]
    fn the_file_is_made_once_and_read_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(MasterKey::from_file(&path).is_err());
        let made = MasterKey::from_file_or_create(&path).unwrap();
        let read = MasterKey::from_file_or_create(&path).unwrap();
        assert_eq!(made.id(), read.id());
        assert_eq!(MasterKey::from_file(&path).unwrap().id(), made.id());
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", STANDARD.encode(made.expose())));
    }

    #[test]
    fn a_damaged_file_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        private_file::create(&path, b"").unwrap();
        assert!(MasterKey::from_file_or_create(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn processes_that_start_together_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| MasterKey::from_file_or_create(&path).unwrap().id().to_owned()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ids.len(), 1);
    }
}
