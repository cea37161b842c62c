//! Small files that hold a secret: made 0600 and durably, read only when nobody else can read them.
//!
//! A file appears under its name with its whole contents or not at all: it is written and synced under a name of its
//! own, then linked. So a process that dies in between leaves no half key.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::KeyError;

/// No key file is longer; what follows is not read.
const LENGTH_MAX: u64 = 1024;

/// The contents, or `None` when there is no such file. Refuses a file that group or others may read or write.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyError::file("open", path, &error)),
    };
    // The mode is asked of the opened file, not of the name, which may have been exchanged since.
    let metadata = file.metadata().map_err(|error| KeyError::file("look at", path, &error))?;
    if !metadata.is_file() {
        return Err(KeyError::Failed(format!("{} is not a file", path.display())));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyError::Failed(format!(
            "{} is open to group or others (mode {:03o}); make it private with chmod 600",
            path.display(),
            metadata.mode() & 0o777
        )));
    }
    // The capacity is there from the start: a growing vector would leave copies behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(LENGTH_MAX as usize + 1));
    file.take(LENGTH_MAX).read_to_end(&mut contents).map_err(|error| KeyError::file("read", path, &error))?;
    Ok(Some(contents))
}

/// Makes the file with these contents, readable by its owner only, on the disk when this returns.
/// False when a file of that name is already there; it is left as it was.
pub(crate) fn create(path: &Path, contents: &[u8]) -> Result<bool, KeyError> {
    let partial = partial_name(path)?;
    // The file stays open, and with it locked, until its first name is gone.
    let written = write_new(&partial, contents)
        .map_err(|error| KeyError::file("write", &partial, &error))
        .and_then(|file| link_new(&partial, path).map(|is_new| (is_new, file)));
    let removed = fs::remove_file(&partial);
    let (is_new, _file) = written?;
    removed.map_err(|error| KeyError::file("remove", &partial, &error))?;
    sync_folder(path)?;
    Ok(is_new)
}

/// Removes what processes that were killed while they made this file have left beside it: copies of a key. One that is
/// being written is locked and stays.
pub(crate) fn sweep(path: &Path) -> Result<(), KeyError> {
    let failed = |error: io::Error| KeyError::file("sweep beside", path, &error);
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    for entry in fs::read_dir(folder_of(path)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file_name = entry.file_name();
        let random = file_name.as_encoded_bytes().strip_prefix(name).and_then(|rest| rest.strip_suffix(b".partial"));
        let is_partial = matches!(random, Some([b'.', digits @ ..]) if is_random(digits));
        if !is_partial {
            continue;
        }
        match File::open(entry.path()) {
            Ok(file) if file.try_lock().is_ok() => match fs::remove_file(entry.path()) {
                Ok(()) => {}
                // Its process, or another sweep, was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            },
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn is_random(digits: &[u8]) -> bool {
    digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Gives an existing file a second name. False when that name is taken.
pub(crate) fn link_new(from: &Path, to: &Path) -> Result<bool, KeyError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(KeyError::file("make", to, &error)),
    }
}

/// Makes the names in the file's folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), KeyError> {
    let folder = folder_of(path);
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(|error| KeyError::file("sync", folder, &error))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path with something added to its last part: `master.key` and `.next` is `master.key.next`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn write_new(path: &Path, contents: &[u8]) -> io::Result<File> {
    loop {
        // create_new is O_EXCL: neither an existing file nor a symbolic link that somebody put there is written to.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.lock()?;
        // A sweep that came before the lock has taken the file away; once it is locked, none does.
        if path.try_exists()? {
            file.write_all(contents)?;
            file.sync_all()?;
            return Ok(file);
        }
    }
}

/// A name that no other process uses at the same time.
fn partial_name(path: &Path) -> Result<PathBuf, KeyError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| KeyError::Failed("the random generator failed".to_owned()))?;
    Ok(with_suffix(path, &format!(".{:016x}.partial", u64::from_be_bytes(random))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_is_private_whole_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(create(&path, b"first").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!create(&path, b"second").unwrap());
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), b"first");
        // Nothing else is left in the folder.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_swept_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, b"contents").unwrap();
        let being_written = folder.path().join("key.0123456789abcdef.partial");
        let file = write_new(&being_written, b"half").unwrap();
        let others = [
            "key.partial",
            "key.next.0123456789abcdef.partial",
            "key.0123.partial",
            "other",
            "akey.0123456789abcdef.partial",
        ];
        for name in others.into_iter().chain(["key.fedcba9876543210.partial"]) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        sweep(&path).unwrap();
        assert!(!folder.path().join("key.fedcba9876543210.partial").exists());
        assert!(others.iter().all(|name| folder.path().join(name).exists()) && path.exists() && being_written.exists());
        drop(file);
        sweep(&path).unwrap();
        assert!(!being_written.exists());
    }

    #[test]
    fn a_file_is_made_whatever_is_swept_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    sweep(&path).unwrap();
                }
            });
            let made: Vec<_> = (0..300).map(|_| create(&path, b"contents")).collect();
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(made.into_iter().all(|made| made.is_ok()));
        });
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), b"contents");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, b"contents").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o610, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{mode:o}: {error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(read(&path).unwrap().is_some(), "{mode:o}");
        }
    }

    #[test]
    fn a_missing_file_is_none_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("none")).unwrap().is_none());
        assert!(read(folder.path()).is_err());
    }
}
