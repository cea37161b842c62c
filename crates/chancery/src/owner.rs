//! Whom the files of a data folder belong to. What root makes there is to belong to the owner of the folder: a server
//! that runs as its own user opens no file of root.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// A user and a group other than root, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// Who owns what is at a path, or what a link there leads to, when this process is root and that is somebody else.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let is_for_others = rustix::process::geteuid().is_root() && found.uid() != 0;
        is_for_others.then(|| Self { user: found.uid(), group: found.gid() })
    }

    /// Gives a file or a folder that root has just made to this owner. What belongs to somebody already stays theirs; so
    /// does a file with a second name, since that may be one which is not to be given away. Nothing there is no error.
    pub(crate) fn take(self, path: &Path) -> Result<(), String> {
        let failed =
            |error: std::io::Error| format!("{}: it could not be given to user {}: {error}", path.display(), self.user);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        let found = file.metadata().map_err(failed)?;
        let is_ours = found.uid() == 0 && (found.is_dir() || (found.is_file() && found.nlink() == 1));
        match is_ours {
            true => fchown(&file, Some(self.user), Some(self.group)).map_err(failed),
            false => Ok(()),
        }
    }
}

/// Gives what root has made in a folder to the owner, if there is one beside root.
pub(crate) fn give(owner: Option<Owner>, folder: &Path, names: &[&str]) -> Result<(), String> {
    let Some(owner) = owner else { return Ok(()) };
    names.iter().try_for_each(|name| owner.take(&folder.join(name)))
}

/// Says whose files these are, where a server may run as somebody else: root has no other user to give them to.
pub(crate) fn tell_of_root(folder: &Path) {
    let is_root = std::fs::metadata(folder).is_ok_and(|found| found.uid() == 0);
    if is_root && rustix::process::geteuid().is_root() {
        eprintln!(
            "the files in {0} belong to root: if the server runs as a user of its own, `chown --recursive USER: {0}` \
             before it starts",
            folder.display()
        );
    }
}

/// The regular files directly in a folder that belong to another user than the folder, and the user and group that it
/// belongs to. A folder that root shares with a group, as Kubernetes makes volumes, may hold files of others.
pub(crate) fn foreign_files(folder: &Path) -> Option<(Vec<String>, u32, u32)> {
    let owner = std::fs::metadata(folder).ok()?;
    if owner.uid() == 0 && owner.mode() & 0o020 != 0 {
        return None;
    }
    let mut foreign: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|found| found.is_file() && found.uid() != owner.uid()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    foreign.sort();
    (!foreign.is_empty()).then(|| (foreign, owner.uid(), owner.gid()))
}
