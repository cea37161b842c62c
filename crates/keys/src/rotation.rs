//! Exchanging the master key's file without a moment in which something cannot be opened.
//!
//! ```text
//! step               <file>   <file>.next   <file>.previous
//!                    old
//! begin              old      new                               rows are re-sealed: the first pass
//! promote, linked    old      new           old
//! promote, renamed   new                    old                 rows that came meanwhile: the last pass
//! finish             new
//! ```
//!
//! Each step is one atomic change of a folder, synced before the next, and each may be repeated: after a kill the whole
//! procedure is run again from [`begin`], which takes up what it finds. Servers read all three files
//! ([`crate::Keyring::reload`]) and go on working with both keys.
//!
//! The last pass is needed: a server may have sealed a new data key under the old key and committed it after the first
//! pass. Servers read the files again before such a seal and after its commit ([`crate::Keyring::rewrap`]). The caller
//! finishes only when no row names the old key any more.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{
    KeyError, MasterKey,
    private_file::{self, link_new, sync_folder, with_suffix},
};

/// How often a look at the files that another process changes at that moment is repeated.
const LOOKS_MAX: u32 = 100;

/// What the master key files say.
pub enum MasterKeyState {
    /// One key.
    Stable(MasterKey),
    /// A rotation is under way: sealed data keys may be under either key, and new ones are under `next`.
    InProgress {
        /// The key that is being replaced.
        old: MasterKey,
        /// The key that replaces it.
        next: MasterKey,
    },
}

/// A rotation that has begun: the new key is on the disk, and rows may be re-sealed under it.
pub struct Rotation {
    path: PathBuf,
    old: MasterKey,
    next: MasterKey,
}

/// A rotation whose new key has taken the old one's place; the old one is still there to be read.
pub struct Promoted {
    path: PathBuf,
    old: MasterKey,
    next: MasterKey,
}

/// What the files say now. Never waits for a rotation.
pub fn state(path: &Path) -> Result<MasterKeyState, KeyError> {
    for _ in 0..LOOKS_MAX {
        let next = MasterKey::from_file_if_present(&next_file(path))?;
        let previous = MasterKey::from_file_if_present(&previous_file(path))?;
        let current = MasterKey::from_file(path)?;
        match (next, previous) {
            (None, None) => return Ok(MasterKeyState::Stable(current)),
            // The look at `.next` was just before `begin`, the others after the link: so far there is one key.
            (None, Some(previous)) if previous.id() == current.id() => return Ok(MasterKeyState::Stable(current)),
            (None, Some(previous)) => return Ok(MasterKeyState::InProgress { old: previous, next: current }),
            (Some(next), None) if next.id() != current.id() => {
                return Ok(MasterKeyState::InProgress { old: current, next });
            }
            (Some(next), Some(previous)) if previous.id() == current.id() && next.id() != current.id() => {
                return Ok(MasterKeyState::InProgress { old: current, next });
            }
            // The names were changed between the looks; no step leaves them like this.
            (Some(_), None | Some(_)) => std::thread::yield_now(),
        }
    }
    Err(KeyError::Failed(format!(
        "{} and the files beside it (.next, .previous) are from different rotations",
        path.display()
    )))
}

/// Makes the new key, durably, unless a rotation is under way, which is then taken up.
pub fn begin(path: &Path) -> Result<Rotation, KeyError> {
    let (old, next) = match state(path)? {
        MasterKeyState::Stable(old) => (old, MasterKey::generate()?.store_or_read(&next_file(path))?),
        MasterKeyState::InProgress { old, next } => (old, next),
    };
    Ok(Rotation { path: path.to_owned(), old, next })
}

impl Rotation {
    /// The key that is being replaced.
    pub fn old(&self) -> &MasterKey {
        &self.old
    }

    /// The key under which rows are re-sealed.
    pub fn next(&self) -> &MasterKey {
        &self.next
    }

    /// Puts the new key in the old one's place and keeps the old one beside it. Call it after the first pass over the rows.
    pub fn promote(self) -> Result<Promoted, KeyError> {
        let Self { path, old, next } = self;
        if MasterKey::from_file(&path)?.id() == old.id() {
            // The old key gets its second name first, so that it has one at every moment.
            link_new(&path, &previous_file(&path))?;
            sync_folder(&path)?;
            match fs::rename(next_file(&path), &path) {
                Ok(()) => {}
                // Another process that runs the same rotation was faster; the check below decides.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(KeyError::file("replace", &path, &error)),
            }
            sync_folder(&path)?;
        }
        if MasterKey::from_file(&path)?.id() != next.id() {
            return Err(KeyError::Failed(format!(
                "{} was changed by somebody else during the rotation",
                path.display()
            )));
        }
        Ok(Promoted { path, old, next })
    }
}

impl Promoted {
    /// The key that was replaced.
    pub fn old(&self) -> &MasterKey {
        &self.old
    }

    /// The key under which the last rows are re-sealed.
    pub fn next(&self) -> &MasterKey {
        &self.next
    }

    /// Removes the old key for good. Call it only when no row names [`Self::old`] any more.
    pub fn finish(self) -> Result<(), KeyError> {
        private_file::sweep(&self.path)?;
        private_file::sweep(&next_file(&self.path))?;
        let previous = previous_file(&self.path);
        let current_id = MasterKey::from_file(&self.path)?.id().to_owned();
        match MasterKey::from_file_if_present(&previous)? {
            None => return Ok(()),
            Some(kept) if kept.id() == self.old.id() && current_id == self.next.id() => {}
            Some(_) => {
                return Err(KeyError::Failed(format!("{} belongs to another rotation and stays", previous.display())));
            }
        }
        match fs::remove_file(&previous) {
            Ok(()) => sync_folder(&self.path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(KeyError::file("remove", &previous, &error)),
        }
    }
}

/// Whether files of a rotation stand beside this one.
pub(crate) fn is_under_way(path: &Path) -> bool {
    next_file(path).exists() || previous_file(path).exists()
}

fn next_file(path: &Path) -> PathBuf {
    with_suffix(path, ".next")
}

fn previous_file(path: &Path) -> PathBuf {
    with_suffix(path, ".previous")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataKey, Keyring, SealedDataKey};
    use std::path::Path;

    const PROJECT: [u8; 16] = [9; 16];

    /// The rows of a database, reduced to what a rotation sees.
    type Rows = Vec<SealedDataKey>;

    /// A folder with a master key and three data keys under it.
    fn world() -> (tempfile::TempDir, PathBuf, Rows) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let master = MasterKey::from_file_or_create(&path).unwrap();
        let rows =
            (1..=3).map(|version| DataKey::generate(version).unwrap().seal_under(&master, &PROJECT).unwrap()).collect();
        (folder, path, rows)
    }

    fn pass(rows: &mut Rows, old: &MasterKey, next: &MasterKey) {
        for row in rows {
            *row = crate::rewrap(row, &PROJECT, old, next).unwrap();
        }
    }

    fn rotate(path: &Path, rows: &mut Rows) {
        let rotation = begin(path).unwrap();
        pass(rows, rotation.old(), rotation.next());
        let promoted = rotation.promote().unwrap();
        pass(rows, promoted.old(), promoted.next());
        promoted.finish().unwrap();
    }

    /// A server that starts now opens every row.
    fn check_all_open(path: &Path, rows: &Rows, when: &str) {
        let keyring = Keyring::from_file(path).unwrap();
        for row in rows {
            assert!(keyring.open_data_key(&PROJECT, row).is_ok(), "{when}: version {:?}", row.version());
        }
    }

    fn stable_id(path: &Path) -> String {
        match state(path).unwrap() {
            MasterKeyState::Stable(current) => current.id().to_owned(),
            MasterKeyState::InProgress { .. } => panic!("a rotation is under way"),
        }
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_rotation_leaves_one_file_with_a_new_key() {
        let (folder, path, mut rows) = world();
        let before = stable_id(&path);
        rotate(&path, &mut rows);
        let after = stable_id(&path);
        assert_ne!(before, after);
        assert_eq!(names(&folder), ["master.key"]);
        assert!(rows.iter().all(|row| row.master_key_id == after));
        check_all_open(&path, &rows, "afterwards");
    }

    #[test]
    fn a_rotation_killed_at_any_step_goes_on_when_run_again() {
        // Each case does the steps up to the kill by hand; the file operations are those between two syncs.
        type Steps = fn(&Path, &mut Rows);
        let cases: [(&str, Steps); 8] = [
            ("a half-written new key", |path, _| {
                fs::write(with_suffix(path, ".next.0123456789abcdef.partial"), "hal").unwrap()
            }),
            ("begun", |path, _| drop(begin(path).unwrap())),
            ("one row re-sealed", |path, rows| {
                let rotation = begin(path).unwrap();
                rows[0] = crate::rewrap(&rows[0], &PROJECT, rotation.old(), rotation.next()).unwrap();
            }),
            ("first pass done", |path, rows| {
                let rotation = begin(path).unwrap();
                pass(rows, rotation.old(), rotation.next());
            }),
            ("old key linked", |path, rows| {
                let rotation = begin(path).unwrap();
                pass(rows, rotation.old(), rotation.next());
                fs::hard_link(path, previous_file(path)).unwrap();
            }),
            ("linked, a row came meanwhile", |path, rows| {
                let rotation = begin(path).unwrap();
                pass(rows, rotation.old(), rotation.next());
                rows.push(DataKey::generate(4).unwrap().seal_under(rotation.old(), &PROJECT).unwrap());
                fs::hard_link(path, previous_file(path)).unwrap();
            }),
            ("promoted, a row came meanwhile", |path, rows| {
                let rotation = begin(path).unwrap();
                pass(rows, rotation.old(), rotation.next());
                rows.push(DataKey::generate(4).unwrap().seal_under(rotation.old(), &PROJECT).unwrap());
                drop(rotation.promote().unwrap());
            }),
            ("last pass done", |path, rows| {
                let rotation = begin(path).unwrap();
                pass(rows, rotation.old(), rotation.next());
                let promoted = rotation.promote().unwrap();
                pass(rows, promoted.old(), promoted.next());
            }),
        ];
        for (what, steps) in cases {
            let (folder, path, mut rows) = world();
            let before = stable_id(&path);
            steps(&path, &mut rows);
            check_all_open(&path, &rows, what);
            let begun = match state(&path).unwrap() {
                MasterKeyState::Stable(_) => None,
                MasterKeyState::InProgress { old, next } => {
                    assert_eq!(old.id(), before, "{what}");
                    Some(next.id().to_owned())
                }
            };
            rotate(&path, &mut rows);
            check_all_open(&path, &rows, what);
            let after = stable_id(&path);
            assert_ne!(before, after, "{what}");
            // The same rotation went on, not a second one on top of it.
            assert!(begun.is_none_or(|next| next == after), "{what}");
            assert!(rows.iter().all(|row| row.master_key_id == after), "{what}");
            assert_eq!(names(&folder), ["master.key"], "{what}");
        }
    }

    #[test]
    fn finishing_twice_is_no_error_and_never_removes_the_key_of_another_rotation() {
        let (_folder, path, mut rows) = world();
        let slow = begin(&path).unwrap().promote().unwrap();
        rotate(&path, &mut rows);
        let second = begin(&path).unwrap();
        slow.finish().unwrap();
        let slow = second.promote().unwrap();
        rotate(&path, &mut rows);
        let third = begin(&path).unwrap().promote().unwrap();
        assert!(slow.finish().is_err());
        pass(&mut rows, third.old(), third.next());
        check_all_open(&path, &rows, "after a late finish");
    }

    #[test]
    fn files_of_different_rotations_are_refused() {
        let (_folder, path, _) = world();
        for file in [next_file(&path), previous_file(&path)] {
            MasterKey::from_file_or_create(&file).unwrap();
        }
        assert!(state(&path).is_err());
        assert!(begin(&path).is_err());
    }

    #[test]
    fn a_lost_master_key_is_not_replaced_while_a_rotation_is_under_way() {
        let (_folder, path, _) = world();
        drop(begin(&path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(MasterKey::from_file_or_create(&path).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn readers_during_rotations_always_find_the_key_of_every_row() {
        let (_folder, path, mut rows) = world();
        let keyring = Keyring::from_file(&path).unwrap();
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut looks = 0;
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    keyring.reload().unwrap();
                    assert!(state(&path).is_ok());
                    looks += 1;
                }
                looks
            });
            for _ in 0..50 {
                rotate(&path, &mut rows);
            }
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
        check_all_open(&path, &rows, "after fifty rotations");
    }
}
