//! Files that the command line reads and writes.
//!
//! Private keys appear with mode 0600 and are on the disk before the command says so. Nothing is written over an
//! existing file unless the caller said `--force`, and never through a symbolic link.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::cli::failure::Failure;

/// No file that we read is longer: a request's body is limited to the same size (contract §1.1).
const INPUT_BYTES_MAX: u64 = 1024 * 1024;

/// What happens to a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and the command fails.
    Keep,
    /// It is replaced as a whole.
    Replace,
}

impl Existing {
    /// Replaced only with `--force`.
    pub(crate) fn with_force(force: bool) -> Self {
        if force { Self::Replace } else { Self::Keep }
    }
}

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// Its owner only: mode 0600.
    Private,
    /// Everybody that the umask lets: mode 0644.
    Public,
}

/// Writes a whole file, and returns once it is on the disk.
pub(crate) fn write(path: &Path, contents: &[u8], privacy: Privacy, existing: Existing) -> Result<(), Failure> {
    let written = match existing {
        Existing::Keep => write_new(path, contents, privacy),
        Existing::Replace => replace(path, contents, privacy),
    };
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => Failure::new(format!("cannot write {}: {error}", path.display())),
    })
}

/// Fails when one of the files is already there and must stay. Asked before a server is asked for what would go into
/// them; [`write`] makes sure once more.
pub(crate) fn must_be_free(paths: &[PathBuf], existing: Existing) -> Result<(), Failure> {
    match existing {
        Existing::Replace => Ok(()),
        Existing::Keep => match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) => Err(is_there(path)),
            None => Ok(()),
        },
    }
}

/// Reads a text file, or standard input for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let octets = read_octets(path, INPUT_BYTES_MAX)?;
    String::from_utf8(octets).map_err(|_| Failure::new(format!("cannot read {}: it is not UTF-8", path.display())))
}

/// Reads a file of at most so many octets, or standard input for `-`.
pub(crate) fn read_octets(path: &Path, octets_max: u64) -> Result<Vec<u8>, Failure> {
    let read = |source: &mut dyn Read| {
        let mut octets = Vec::new();
        source.take(octets_max + 1).read_to_end(&mut octets).map(|_| octets)
    };
    let octets = if path == Path::new("-") {
        read(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    };
    let octets = octets.map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    if octets.len() as u64 > octets_max {
        return Err(Failure::new(format!("{} is longer than {} KiB", path.display(), octets_max / 1024)));
    }
    Ok(octets)
}

/// Reads a JSON object, for `--file`.
pub(crate) fn read_object(path: &Path) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| Failure::new(format!("{} is not a JSON object: {error}", path.display())))
}

/// Where files of one name go: `--out folder/` or an existing folder keeps the name in it, anything else is the
/// beginning of the files' names, and nothing is the present folder.
pub(crate) fn prefix(out: Option<&Path>, name: &str) -> PathBuf {
    match out {
        None => PathBuf::from(name),
        Some(path) if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") => path.join(name),
        Some(path) => path.to_owned(),
    }
}

/// The path with something added to its last part: `www.example.com` and `.crt` is `www.example.com.crt`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A name that is safe as a file's: `*.example.com` is `_.example.com`.
pub(crate) fn file_name(name: &str) -> String {
    let safe: String = name
        .trim()
        .chars()
        .map(|character| if character.is_alphanumeric() || "-_.@".contains(character) { character } else { '_' })
        .take(100)
        .collect();
    match safe.strip_prefix('.') {
        // Neither a hidden file nor the folder above.
        Some(rest) => format!("_{rest}"),
        None if safe.is_empty() => "certificate".to_owned(),
        None => safe,
    }
}

/// Makes a folder that only its owner can look into, or takes one that is there and empty.
pub(crate) fn empty_folder(path: &Path) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::new(format!("cannot write to {}: {error}", path.display()));
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::new(format!("{} is not empty", path.display())).hint("name a new folder")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => private_folder(path),
        Err(error) => Err(cannot(error)),
    }
}

/// Makes a folder that only its owner can look into.
pub(crate) fn private_folder(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::new(format!("cannot make {}: {error}", path.display())))
}

/// Writes one of many new private files; only [`settle`] brings them to the disk, all at once.
pub(crate) fn write_one_of_many(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(contents));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// Returns once what was written into a folder is on the disk.
pub(crate) fn settle(folder: &Path) -> Result<(), Failure> {
    let settled = File::open(folder).and_then(|file| Ok(rustix::fs::syncfs(file)?));
    settled.map_err(|error| Failure::new(format!("cannot bring {} to the disk: {error}", folder.display())))
}

fn is_there(path: &Path) -> Failure {
    Failure::new(format!("{} is already there and was left as it is", path.display()))
        .hint("write elsewhere with --out, or replace it with --force")
}

fn write_new(path: &Path, contents: &[u8], privacy: Privacy) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mode = match privacy {
        Privacy::Private => 0o600,
        Privacy::Public => 0o644,
    };
    // create_new is O_EXCL: neither an existing file nor a symbolic link that somebody put there is written to.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
    if written.is_err() {
        // Half a file is worse than none; the error that is told is that of the writing.
        let _ = fs::remove_file(path);
    }
    written
}

/// The new file takes the old one's place in one step, so there is never half a file, nor an old mode.
fn replace(path: &Path, contents: &[u8], privacy: Privacy) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let partial = with_suffix(path, &format!(".{}.partial", std::process::id()));
    write_new(&partial, contents, privacy)?;
    let renamed = fs::rename(&partial, path);
    if renamed.is_err() {
        let _ = fs::remove_file(&partial);
    }
    renamed.and_then(|()| sync_folder(path))
}

/// Makes a name durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_private_file_is_for_its_owner_only_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/a.key");
        write(&path, b"first", Privacy::Private, Existing::Keep).unwrap();
        assert_eq!(mode(&path), 0o600);
        let refused = write(&path, b"second", Privacy::Private, Existing::Keep).unwrap_err();
        assert!(refused.to_string().contains("--force"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert!(must_be_free(std::slice::from_ref(&path), Existing::Keep).is_err());
        assert!(must_be_free(std::slice::from_ref(&path), Existing::Replace).is_ok());
        assert!(must_be_free(&[folder.path().join("other")], Existing::Keep).is_ok());
    }

    #[test]
    fn a_replaced_file_is_private_whatever_it_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        write(&path, b"new", Privacy::Private, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symbolic_link_is_never_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, b"untouched").unwrap();
        symlink(&target, &link).unwrap();
        assert!(write(&link, b"key", Privacy::Private, Existing::Keep).is_err());
        write(&link, b"key", Privacy::Private, Existing::Replace).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"untouched");
        assert_eq!(fs::read(&link).unwrap(), b"key");
        // A link to nowhere is a name that is taken, too.
        let dangling = folder.path().join("dangling");
        symlink(folder.path().join("nowhere"), &dangling).unwrap();
        assert!(must_be_free(&[dangling], Existing::Keep).is_err());
    }

    #[test]
    fn the_place_of_files_follows_what_out_names() {
        let folder = tempfile::tempdir().unwrap();
        let check = |out: Option<&Path>, expected: &Path| assert_eq!(prefix(out, "www"), expected, "{out:?}");
        check(None, Path::new("www"));
        check(Some(folder.path()), &folder.path().join("www"));
        check(Some(Path::new("to-be-made/")), Path::new("to-be-made/www"));
        check(Some(Path::new("etc/server")), Path::new("etc/server"));
        assert_eq!(with_suffix(Path::new("etc/www.example.com"), ".crt"), Path::new("etc/www.example.com.crt"));
    }

    #[test]
    fn a_file_name_never_leaves_its_folder() {
        for (name, expected) in [
            ("www.example.com", "www.example.com"),
            ("*.example.com", "_.example.com"),
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("..", "_."),
            (".bashrc", "_bashrc"),
            ("", "certificate"),
            ("Build Agent 7", "Build_Agent_7"),
            ("zoë@example.com", "zoë@example.com"),
            ("a/b\0c", "a_b_c"),
        ] {
            assert_eq!(file_name(name), expected, "{name}");
        }
    }

    #[test]
    fn too_long_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        fs::write(&path, vec![b'a'; INPUT_BYTES_MAX as usize]).unwrap();
        assert_eq!(read_text(&path).unwrap().len() as u64, INPUT_BYTES_MAX);
        fs::write(&path, vec![b'a'; INPUT_BYTES_MAX as usize + 1]).unwrap();
        assert!(read_text(&path).is_err());
        assert!(read_text(&folder.path().join("missing")).unwrap_err().to_string().contains("missing"));
        fs::write(&path, "[1]").unwrap();
        assert!(read_object(&path).unwrap_err().to_string().contains("JSON object"));
    }
}
