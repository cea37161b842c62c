//! Data keys: each project has its own, sealed under a master key; it seals the project's private keys and secrets.
//!
//! AES-256-GCM with random 96-bit nonces (NIST SP 800-38D). The associated data names the place of the value: a
//! ciphertext that is moved to another row, table or project does not open. Not a store: all values are bytes.
//!
//! One data key may seal 2^32 values (SP 800-38D §8.3); a project that nears this takes a new version.
//!
//! A sealed value is `format (1) ‖ data key version (4, big endian) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::{KeyError, MasterKey, Secret, master::KEY_LENGTH};

/// The only format so far.
const FORMAT: u8 = 1;
const HEADER_LENGTH: usize = 1 + 4;
const TAG_LENGTH: usize = 16;

/// Where a sealed value stands. It opens only there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The table, or `table.column` when a row holds several sealed values.
    pub table: &'static str,
    /// The row's id.
    pub row: &'a [u8; 16],
    /// The project to which the row belongs.
    pub project: &'a [u8; 16],
}

/// A project's data key as it is stored: sealed under a master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedDataKey {
    /// [`MasterKey::id`] of the key that opens it.
    pub master_key_id: String,
    /// The ciphertext, which also holds the version.
    pub sealed: Vec<u8>,
}

/// A project's data key, opened. Wiped when dropped.
pub struct DataKey {
    version: u32,
    key: Secret,
    cipher: RandomizedNonceKey,
}

impl SealedDataKey {
    /// The version of the data key within its project. Trustworthy only once it has been opened.
    pub fn version(&self) -> Result<u32, KeyError> {
        sealed_version(&self.sealed)
    }
}

impl DataKey {
    /// A new random key. Versions of a project's keys count from 1.
    pub fn generate(version: u32) -> Result<Self, KeyError> {
        Self::from_secret(version, Secret::random(KEY_LENGTH)?)
    }

    /// The version of this key within its project.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Seals a value for one place. Sealing the same value twice gives two different ciphertexts.
    pub fn seal(&self, place: Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, KeyError> {
        seal(&self.cipher, self.version, &place.associated_data(self.version), plaintext)
    }

    /// Opens a value that [`Self::seal`] sealed for the same place.
    ///
    /// [`KeyError::Malformed`] when it is too short or of an unknown format, [`KeyError::WrongKey`] when it was sealed by
    /// another key or version, for another place, or was changed.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, KeyError> {
        if sealed_version(sealed)? != self.version {
            return Err(KeyError::WrongKey);
        }
        open(&self.cipher, &place.associated_data(self.version), sealed)
    }

    /// This key, sealed under the master key for that project.
    pub fn seal_under(&self, master: &MasterKey, project: &[u8; 16]) -> Result<SealedDataKey, KeyError> {
        let associated_data = data_key_associated_data(project, self.version);
        Ok(SealedDataKey {
            master_key_id: master.id().to_owned(),
            sealed: seal(&cipher(master.expose())?, self.version, &associated_data, self.key.expose())?,
        })
    }

    /// Opens a project's data key. [`KeyError::WrongKey`] when another master key sealed it, or it is another project's.
    pub fn open_under(sealed: &SealedDataKey, master: &MasterKey, project: &[u8; 16]) -> Result<Self, KeyError> {
        if sealed.master_key_id != master.id() {
            return Err(KeyError::WrongKey);
        }
        let version = sealed.version()?;
        let associated_data = data_key_associated_data(project, version);
        Self::from_secret(version, open(&cipher(master.expose())?, &associated_data, &sealed.sealed)?)
    }

    fn from_secret(version: u32, key: Secret) -> Result<Self, KeyError> {
        let cipher = cipher(key.expose())?;
        Ok(Self { version, key, cipher })
    }
}

/// Re-seals a data key from the old master key to the new one; the data key stays the same. One that the new key has
/// already sealed is given back as it is, so that an interrupted rotation can simply be run again.
pub fn rewrap(
    sealed: &SealedDataKey,
    project: &[u8; 16],
    old: &MasterKey,
    new: &MasterKey,
) -> Result<SealedDataKey, KeyError> {
    if sealed.master_key_id == new.id() {
        DataKey::open_under(sealed, new, project)?;
        return Ok(sealed.clone());
    }
    DataKey::open_under(sealed, old, project)?.seal_under(new, project)
}

/// The version of the data key that sealed this value, as the value says.
pub(crate) fn sealed_version(sealed: &[u8]) -> Result<u32, KeyError> {
    match sealed {
        [FORMAT, a, b, c, d, rest @ ..] if rest.len() >= NONCE_LEN + TAG_LENGTH => {
            Ok(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => Err(KeyError::Malformed),
    }
}

impl Place<'_> {
    /// The table has a length before it and the rest are of fixed length, so that no two places give the same bytes.
    fn associated_data(&self, version: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.table.len());
        bytes.extend_from_slice(b"chancery value\0");
        bytes.extend_from_slice(&(self.table.len() as u64).to_be_bytes());
        bytes.extend_from_slice(self.table.as_bytes());
        bytes.extend_from_slice(self.row);
        bytes.extend_from_slice(self.project);
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes
    }
}

fn data_key_associated_data(project: &[u8; 16], version: u32) -> Vec<u8> {
    let mut bytes = b"chancery data-key\0".to_vec();
    bytes.extend_from_slice(project);
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes
}

fn cipher(key: &[u8]) -> Result<RandomizedNonceKey, KeyError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| KeyError::Malformed)
}

fn seal(
    cipher: &RandomizedNonceKey,
    version: u32,
    associated_data: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let mut sealed = Vec::with_capacity(HEADER_LENGTH + NONCE_LEN + plaintext.len() + TAG_LENGTH);
    sealed.push(FORMAT);
    sealed.extend_from_slice(&version.to_be_bytes());
    sealed.extend_from_slice(&[0; NONCE_LEN]);
    sealed.extend_from_slice(plaintext);
    let (nonce, tag) = cipher
        .seal_in_place_separate_tag(Aad::from(associated_data), &mut sealed[HEADER_LENGTH + NONCE_LEN..])
        .map_err(|_| KeyError::Failed("sealing failed".to_owned()))?;
    sealed[HEADER_LENGTH..HEADER_LENGTH + NONCE_LEN].copy_from_slice(nonce.as_ref());
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn open(cipher: &RandomizedNonceKey, associated_data: &[u8], sealed: &[u8]) -> Result<Secret, KeyError> {
    let nonce_and_ciphertext = sealed.get(HEADER_LENGTH..).ok_or(KeyError::Malformed)?;
    let (nonce, ciphertext) = nonce_and_ciphertext.split_first_chunk::<NONCE_LEN>().ok_or(KeyError::Malformed)?;
    let mut opened = Secret::new(ciphertext.to_vec());
    let length = cipher
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(associated_data), opened.expose_mut())
        .map_err(|_| KeyError::WrongKey)?
        .len();
    opened.truncate(length);
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: [u8; 16] = [1; 16];
    const PROJECT: [u8; 16] = [2; 16];
    const PLACE: Place<'static> = Place { table: "leaf_keys", row: &ROW, project: &PROJECT };

    /// Opening must fail with this error.
    fn check_refused(what: &str, opened: Result<Secret, KeyError>, expected: KeyError) {
        assert_eq!(opened.map(|_| ()), Err(expected), "{what}");
    }

    #[test]
    fn a_sealed_value_opens_in_its_place() {
        let key = DataKey::generate(7).unwrap();
        for plaintext in [&b""[..], b"x", &[0xa5; 4096]] {
            let sealed = key.seal(PLACE, plaintext).unwrap();
            assert_eq!(sealed.len(), 33 + plaintext.len());
            assert_eq!(sealed_version(&sealed), Ok(7));
            assert!(key.open(PLACE, &sealed).unwrap().constant_time_eq(plaintext));
            assert!(plaintext.len() < 16 || !sealed.windows(16).any(|part| part == &plaintext[..16]));
        }
        assert_ne!(key.seal(PLACE, b"same").unwrap(), key.seal(PLACE, b"same").unwrap());
    }

    #[test]
    fn a_sealed_value_does_not_open_elsewhere() {
        let key = DataKey::generate(1).unwrap();
        let sealed = key.seal(PLACE, b"secret").unwrap();
        let other = [3; 16];
        for (what, place) in [
            ("another row", Place { row: &other, ..PLACE }),
            ("another project", Place { project: &other, ..PLACE }),
            ("another table", Place { table: "authority_keys", ..PLACE }),
            ("a longer table", Place { table: "leaf_keys\u{1}", ..PLACE }),
            ("row and project exchanged", Place { row: &PROJECT, project: &ROW, ..PLACE }),
        ] {
            check_refused(what, key.open(place, &sealed), KeyError::WrongKey);
        }
        check_refused("another key", DataKey::generate(1).unwrap().open(PLACE, &sealed), KeyError::WrongKey);
    }

    #[test]
    fn a_sealed_value_does_not_open_as_another_version() {
        let key = DataKey::generate(1).unwrap();
        let sealed = key.seal(PLACE, b"secret").unwrap();
        let same_key_as_version_2 = DataKey::from_secret(2, Secret::new(key.key.expose().to_vec())).unwrap();
        check_refused("the next version", same_key_as_version_2.open(PLACE, &sealed), KeyError::WrongKey);
        let mut relabelled = sealed;
        relabelled[4] = 2;
        check_refused("relabelled", same_key_as_version_2.open(PLACE, &relabelled), KeyError::WrongKey);
    }

    #[test]
    fn a_changed_or_cut_value_does_not_open() {
        let key = DataKey::generate(1).unwrap();
        let sealed = key.seal(PLACE, b"secret").unwrap();
        for length in 0..sealed.len() {
            let expected = if length < 33 { KeyError::Malformed } else { KeyError::WrongKey };
            check_refused(&format!("cut to {length}"), key.open(PLACE, &sealed[..length]), expected);
        }
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 8 { KeyError::Malformed } else { KeyError::WrongKey };
            check_refused(&format!("bit {bit}"), key.open(PLACE, &changed), expected);
        }
        check_refused("longer", key.open(PLACE, &[&sealed[..], &[0]].concat()), KeyError::WrongKey);
    }

    #[test]
    fn a_data_key_opens_under_its_master_key_for_its_project_only() {
        let master = MasterKey::generate().unwrap();
        let key = DataKey::generate(3).unwrap();
        let sealed = key.seal_under(&master, &PROJECT).unwrap();
        assert_eq!(sealed.master_key_id, master.id());
        assert_eq!(sealed.version(), Ok(3));
        let opened = DataKey::open_under(&sealed, &master, &PROJECT).unwrap();
        assert!(opened.key.constant_time_eq(key.key.expose()));
        assert_eq!(opened.version(), 3);

        let other = MasterKey::generate().unwrap();
        let refused =
            |sealed: &SealedDataKey, master, project| DataKey::open_under(sealed, master, project).map(|_| ());
        assert_eq!(refused(&sealed, &master, &ROW), Err(KeyError::WrongKey));
        assert_eq!(refused(&sealed, &other, &PROJECT), Err(KeyError::WrongKey));
        let renamed = SealedDataKey { master_key_id: other.id().to_owned(), ..sealed.clone() };
        assert_eq!(refused(&renamed, &other, &PROJECT), Err(KeyError::WrongKey));
        let mut relabelled = sealed.clone();
        relabelled.sealed[4] ^= 1;
        assert_eq!(refused(&relabelled, &master, &PROJECT), Err(KeyError::WrongKey));
        let cut = SealedDataKey { sealed: sealed.sealed[..20].to_vec(), ..sealed };
        assert_eq!(refused(&cut, &master, &PROJECT), Err(KeyError::Malformed));
    }

    #[test]
    fn rewrapping_changes_the_master_key_and_keeps_the_data_key() {
        let (old, new) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let key = DataKey::generate(1).unwrap();
        let value = key.seal(PLACE, b"secret").unwrap();
        let sealed = key.seal_under(&old, &PROJECT).unwrap();

        let rewrapped = rewrap(&sealed, &PROJECT, &old, &new).unwrap();
        assert_eq!(rewrapped.master_key_id, new.id());
        let opened = DataKey::open_under(&rewrapped, &new, &PROJECT).unwrap();
        assert!(opened.open(PLACE, &value).unwrap().constant_time_eq(b"secret"));

        assert_eq!(rewrap(&rewrapped, &PROJECT, &old, &new).unwrap(), rewrapped);
        let stranger = MasterKey::generate().unwrap();
        assert_eq!(rewrap(&sealed, &PROJECT, &stranger, &new), Err(KeyError::WrongKey));
    }
}
