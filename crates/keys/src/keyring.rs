//! The keys that a running server holds open: one or two master keys, and the data keys of the projects it has served.
//!
//! Two master keys are open while a rotation runs: a data key says which of them sealed it, so both halves of a
//! rotation can be read at any moment. A server that meets a master key it does not know reads the files again.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    DataKey, KeyError, MasterKey, Place, SealedDataKey, Secret,
    data_key::{self, sealed_version},
    rotation::{self, MasterKeyState},
};

/// The open keys of a process. Shared between threads.
pub struct Keyring {
    source: Source,
    masters: RwLock<Masters>,
    data_keys: RwLock<OpenDataKeys>,
}

/// By project id and version. As many as there are projects in use; each is some hundred bytes.
type OpenDataKeys = HashMap<([u8; 16], u32), Arc<DataKey>>;

/// Where the master keys come from.
enum Source {
    /// Given once, from the environment.
    Given,
    /// Read from this file and those that a rotation puts beside it.
    File(PathBuf),
}

#[derive(Clone)]
struct Masters {
    current: Arc<MasterKey>,
    previous: Option<Arc<MasterKey>>,
}

impl Keyring {
    /// With given master keys: the current one seals, the previous one, if any, still opens.
    pub fn with(current: MasterKey, previous: Option<MasterKey>) -> Self {
        let masters = Masters { current: Arc::new(current), previous: previous.map(Arc::new) };
        Self::new(Source::Given, masters)
    }

    /// With the master key in this file, and the second one of a rotation that is under way.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Ok(Self::new(Source::File(path.to_owned()), Masters::read(path)?))
    }

    /// [`MasterKey::id`] of the key that seals new data keys.
    pub fn current_master_key_id(&self) -> String {
        self.masters().current.id().to_owned()
    }

    /// A new data key for a project, as it is used and as it is stored.
    ///
    /// It is not kept open here: had the commit that stores it lost a race, values would be sealed under a key that
    /// nobody stored. Call [`Self::open_data_key`] with the row that stands.
    pub fn new_data_key(&self, project: &[u8; 16], version: u32) -> Result<(DataKey, SealedDataKey), KeyError> {
        // A rotation may have begun since the files were last read, and its last pass may be near.
        self.reload()?;
        let key = DataKey::generate(version)?;
        let sealed = key.seal_under(&self.masters().current, project)?;
        Ok((key, sealed))
    }

    /// The project's data key of that version, if it is open already; saves the read of its row.
    pub fn data_key(&self, project: &[u8; 16], version: u32) -> Option<Arc<DataKey>> {
        let data_keys = self.data_keys.read().unwrap_or_else(PoisonError::into_inner);
        data_keys.get(&(*project, version)).cloned()
    }

    /// Opens a project's stored data key and keeps it open.
    /// [`KeyError::WrongKey`] when no master key at hand opens it, or it is another project's.
    pub fn open_data_key(&self, project: &[u8; 16], sealed: &SealedDataKey) -> Result<Arc<DataKey>, KeyError> {
        let version = sealed.version()?;
        if let Some(open) = self.data_key(project, version) {
            return Ok(open);
        }
        let master = match self.masters().named(&sealed.master_key_id) {
            Some(master) => master,
            None => {
                self.reload()?;
                self.masters().named(&sealed.master_key_id).ok_or(KeyError::WrongKey)?
            }
        };
        let opened = Arc::new(DataKey::open_under(sealed, &master, project)?);
        let mut data_keys = self.data_keys.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(data_keys.entry((*project, version)).or_insert(opened)))
    }

    /// Opens a sealed value with the data key that it names, if that is open already; `None` when its row must be read
    /// first, by [`Self::value_version`].
    pub fn open_value(&self, place: Place<'_>, sealed: &[u8]) -> Option<Result<Secret, KeyError>> {
        match sealed_version(sealed) {
            Ok(version) => self.data_key(place.project, version).map(|key| key.open(place, sealed)),
            Err(error) => Some(Err(error)),
        }
    }

    /// The version of the project's data key that sealed this value.
    pub fn value_version(sealed: &[u8]) -> Result<u32, KeyError> {
        sealed_version(sealed)
    }

    /// Forgets the open data keys of a project that was deleted.
    pub fn forget(&self, project: &[u8; 16]) {
        let mut data_keys = self.data_keys.write().unwrap_or_else(PoisonError::into_inner);
        data_keys.retain(|(owner, _), _| owner != project);
    }

    /// The data key, re-sealed under the newest master key; `None` when that key has sealed it already.
    ///
    /// Call it after the commit of a new data key too, and store what it gives: a rotation may have run from begin to
    /// end between the sealing and the commit, and the replaced master key is then known to this process only.
    pub fn rewrap(&self, project: &[u8; 16], sealed: &SealedDataKey) -> Result<Option<SealedDataKey>, KeyError> {
        let known_before = self.masters().named(&sealed.master_key_id);
        self.reload()?;
        let masters = self.masters();
        if sealed.master_key_id == masters.current.id() {
            return Ok(None);
        }
        let old = known_before.or_else(|| masters.named(&sealed.master_key_id)).ok_or(KeyError::WrongKey)?;
        data_key::rewrap(sealed, project, &old, &masters.current).map(Some)
    }

    /// Reads the master key files again. Does nothing when the keys were given.
    pub fn reload(&self) -> Result<(), KeyError> {
        match &self.source {
            Source::Given => Ok(()),
            Source::File(path) => {
                let read = Masters::read(path)?;
                *self.masters.write().unwrap_or_else(PoisonError::into_inner) = read;
                Ok(())
            }
        }
    }

    fn new(source: Source, masters: Masters) -> Self {
        Self { source, masters: RwLock::new(masters), data_keys: RwLock::new(HashMap::new()) }
    }

    fn masters(&self) -> Masters {
        self.masters.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Masters {
    fn read(path: &Path) -> Result<Self, KeyError> {
        Ok(match rotation::state(path)? {
            MasterKeyState::Stable(current) => Self { current: Arc::new(current), previous: None },
            // From its first step on, a rotation's new key is the one that seals.
            MasterKeyState::InProgress { old, next } => Self { current: Arc::new(next), previous: Some(Arc::new(old)) },
        })
    }

    fn named(&self, id: &str) -> Option<Arc<MasterKey>> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|master| master.id() == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: [u8; 16] = [1; 16];
    const OTHER: [u8; 16] = [2; 16];
    const ROW: [u8; 16] = [3; 16];
    const PLACE: Place<'static> = Place { table: "secrets", row: &ROW, project: &PROJECT };

    fn file_keyring() -> (tempfile::TempDir, PathBuf, Keyring) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::from_file_or_create(&path).unwrap();
        let keyring = Keyring::from_file(&path).unwrap();
        (folder, path, keyring)
    }

    #[test]
    fn a_stored_data_key_is_opened_once_and_then_at_hand() {
        let (_folder, _, keyring) = file_keyring();
        let (key, sealed) = keyring.new_data_key(&PROJECT, 1).unwrap();
        assert!(keyring.data_key(&PROJECT, 1).is_none());
        let value = key.seal(PLACE, b"secret").unwrap();
        assert!(keyring.open_value(PLACE, &value).is_none());

        let opened = keyring.open_data_key(&PROJECT, &sealed).unwrap();
        assert!(opened.open(PLACE, &value).unwrap().constant_time_eq(b"secret"));
        assert!(keyring.open_value(PLACE, &value).unwrap().unwrap().constant_time_eq(b"secret"));
        assert!(Arc::ptr_eq(&opened, &keyring.open_data_key(&PROJECT, &sealed).unwrap()));
        assert!(keyring.data_key(&PROJECT, 2).is_none());
        assert!(keyring.data_key(&OTHER, 1).is_none());
        assert_eq!(Keyring::value_version(&value), Ok(1));
        assert!(matches!(keyring.open_value(PLACE, b"short"), Some(Err(KeyError::Malformed))));

        keyring.forget(&PROJECT);
        assert!(keyring.data_key(&PROJECT, 1).is_none());
    }

    #[test]
    fn a_data_key_of_another_project_or_master_key_is_refused() {
        let (_folder, _, keyring) = file_keyring();
        let (_, sealed) = keyring.new_data_key(&PROJECT, 1).unwrap();
        let refused = |keyring: &Keyring, project, sealed| keyring.open_data_key(project, sealed).map(|_| ());
        assert_eq!(refused(&keyring, &OTHER, &sealed), Err(KeyError::WrongKey));
        let stranger = Keyring::with(MasterKey::generate().unwrap(), None);
        assert_eq!(refused(&stranger, &PROJECT, &sealed), Err(KeyError::WrongKey));
    }

    #[test]
    fn given_keys_open_what_either_sealed_and_the_current_one_seals() {
        let texts = ["00".repeat(32), "11".repeat(32)];
        let [old, new] = texts.each_ref().map(|text| MasterKey::from_environment(text).unwrap());
        let (_, sealed) = Keyring::with(old, None).new_data_key(&PROJECT, 1).unwrap();
        let old = MasterKey::from_environment(&texts[0]).unwrap();
        let keyring = Keyring::with(new, Some(old));
        assert!(keyring.open_data_key(&PROJECT, &sealed).is_ok());
        let rewrapped = keyring.rewrap(&PROJECT, &sealed).unwrap().unwrap();
        assert_eq!(rewrapped.master_key_id, keyring.current_master_key_id());
        assert_eq!(keyring.rewrap(&PROJECT, &rewrapped), Ok(None));
    }

    #[test]
    fn a_running_server_goes_on_through_a_rotation() {
        let (_folder, path, server) = file_keyring();
        let (_, first) = server.new_data_key(&PROJECT, 1).unwrap();
        let rotation = rotation::begin(&path).unwrap();
        // Sealed by the rotation while the server knows the old key only.
        let rewrapped = data_key::rewrap(&first, &PROJECT, rotation.old(), rotation.next()).unwrap();
        assert!(server.open_data_key(&PROJECT, &rewrapped).is_ok());
        // From then on the server seals under the new key.
        let (_, second) = server.new_data_key(&OTHER, 1).unwrap();
        assert_eq!(second.master_key_id, rotation.next().id());
        let promoted = rotation.promote().unwrap();
        server.forget(&PROJECT);
        assert!(server.open_data_key(&PROJECT, &first).is_ok());
        promoted.finish().unwrap();
        server.forget(&PROJECT);
        assert!(server.open_data_key(&PROJECT, &rewrapped).is_ok());
        assert!(Keyring::from_file(&path).unwrap().open_data_key(&OTHER, &second).is_ok());
    }

    #[test]
    fn a_data_key_that_a_whole_rotation_missed_is_rescued_by_the_server_that_made_it() {
        let (_folder, path, server) = file_keyring();
        let (_, sealed) = server.new_data_key(&PROJECT, 1).unwrap();
        rotation::begin(&path).unwrap().promote().unwrap().finish().unwrap();
        let rescued = server.rewrap(&PROJECT, &sealed).unwrap().unwrap();
        assert!(Keyring::from_file(&path).unwrap().open_data_key(&PROJECT, &rescued).is_ok());
    }
}
