//! `local-directory`: a directory of the server's own host (contract syncs §2.5, without the SSH).
//!
//! Off unless the operator named a root that holds the place. Below a root no symbolic link is followed, on the way or at the
//! end: each directory is opened from the one above it, and files are named relative to the directory that was opened.

use super::Opening;
use crate::DeliveryError;
use crate::files::{self, FilePlan};
use crate::host::{
    COMMAND_TIMEOUT, CommandEnd, FILE_OCTETS_MAX, Host, HostFiles, LEFT_OVER_SECONDS, OUTPUT_OCTETS_MAX, Placed,
    Stored, StoredFile,
};
use domain::sync::DestinationConfig;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// How long the output of a command is waited for once it ended; what it left running may hold it open for ever.
const OUTPUT_WAIT: Duration = Duration::from_millis(500);
/// What commands find programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the operator allows on the server's own host.
#[derive(Clone, Debug, Default)]
pub struct LocalPlaces {
    /// Below these directories files may be written (`CHANCERY_LOCAL_DIRECTORIES`).
    pub roots: Vec<PathBuf>,
    /// Whether commands may be run (`CHANCERY_LOCAL_COMMANDS`).
    pub commands_allowed: bool,
}

/// The destination.
pub type LocalDirectory = HostFiles<LocalHost>;

/// The server's own host.
#[derive(Clone)]
pub struct LocalHost {
    places: Arc<LocalPlaces>,
}

impl LocalDirectory {
    /// Opens the destination; nothing is looked at yet.
    pub fn open(opening: &Opening<'_>, places: &LocalPlaces) -> Result<Self, DeliveryError> {
        let DestinationConfig::Directory { destination_path } = opening.config else {
            return Err(DeliveryError::Refused("the destination's configuration is not that of a directory".into()));
        };
        let directory = files::directory(destination_path)?;
        let plan = FilePlan::new(opening.options, opening.secrets)?;
        let host = LocalHost { places: Arc::new(places.clone()) };
        host.root_of(&directory)?;
        let options = opening.options;
        let has_command = options.post_sync_command.is_some() || options.health_check_command.is_some();
        if has_command && !places.commands_allowed {
            return Err(DeliveryError::Refused(
                "commands on the server's own host are off: an operator turns them on with CHANCERY_LOCAL_COMMANDS"
                    .into(),
            ));
        }
        let (post_sync, health_check) = (options.post_sync_command.clone(), options.health_check_command.clone());
        Ok(Self::new(host, plan, directory, post_sync, health_check))
    }
}

impl LocalHost {
    /// The root that holds a directory, and the way down from there.
    fn root_of<'a>(&'a self, directory: &'a str) -> Result<(&'a Path, &'a Path), DeliveryError> {
        let path = Path::new(directory);
        let roots = self.places.roots.iter().filter(|root| root.is_absolute());
        roots.filter_map(|root| Some((root.as_path(), path.strip_prefix(root).ok()?))).next().ok_or_else(|| {
            DeliveryError::Refused(format!(
                "{directory} is not below a directory that the operator named in CHANCERY_LOCAL_DIRECTORIES"
            ))
        })
    }

    /// Opens a directory from its root, segment by segment. None when it is not there.
    fn directory(&self, directory: &str) -> Result<Option<OwnedFd>, DeliveryError> {
        let (root, below) = self.root_of(directory)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let refused = |error: Errno| match error {
            Errno::NOTDIR | Errno::LOOP => DeliveryError::Refused(format!(
                "{directory} leads over a symbolic link or over what is no directory, and is not followed"
            )),
            other => failed("opened", directory, other),
        };
        let mut opened = match rustix::fs::open(root, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(refused(error)),
        };
        for segment in below.iter() {
            opened = match rustix::fs::openat(&opened, segment, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(opened) => opened,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(refused(error)),
            };
        }
        Ok(Some(opened))
    }

    /// The directory of a file, which has to be there, and the file's name.
    fn place_of<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), DeliveryError> {
        let (directory, name) = files::split_path(path)?;
        match self.directory(&directory)? {
            Some(opened) => Ok((opened, name)),
            None => Err(DeliveryError::Refused(format!("the directory {directory} is not there"))),
        }
    }

    fn read_now(&self, path: &str) -> Result<Stored, DeliveryError> {
        let (directory, name) = self.place_of(path)?;
        // Without waiting: what is there may be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Stored::Absent),
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Stored::Other),
            Err(error) => return Err(failed("read", path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| failed("read", path, error))?;
        let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || length > FILE_OCTETS_MAX as u64 {
            return Ok(Stored::Other);
        }
        let mut content = Zeroizing::new(Vec::with_capacity(FILE_OCTETS_MAX.min(length as usize + 1)));
        File::from(file)
            .take(FILE_OCTETS_MAX as u64)
            .read_to_end(&mut content)
            .map_err(|error| failed("read", path, error))?;
        Ok(Stored::File(StoredFile { content, mode: permissions(&stat), owner: (stat.st_uid, stat.st_gid) }))
    }

    /// Writes the temporary file and gives its name and owner.
    fn write_now(&self, path: &str, content: &[u8], mode: u32) -> Result<(String, (u32, u32)), DeliveryError> {
        let (directory, name) = self.place_of(path)?;
        let temporary = files::temporary_name(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write = || -> std::io::Result<(u32, u32)> {
            let file = rustix::fs::openat(&directory, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(file);
            file.write_all(content)?;
            // The umask has a say when a file is made, and none here.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            file.sync_all()?;
            let stat = rustix::fs::fstat(&file)?;
            Ok((stat.st_uid, stat.st_gid))
        };
        match write() {
            Ok(owner) => Ok((sibling(path, &temporary)?, owner)),
            Err(error) => {
                // A file that was not made is not there to be removed.
                let _ = rustix::fs::unlinkat(&directory, temporary.as_str(), AtFlags::empty());
                Err(failed("written", path, error))
            }
        }
    }

    /// Renames within one directory.
    fn rename_now(&self, staged: &str, path: &str, flags: RenameFlags) -> Result<Placed, DeliveryError> {
        let (directory, name) = self.place_of(path)?;
        let (_, from) = files::split_path(staged)?;
        match rustix::fs::renameat_with(&directory, from, &directory, name, flags) {
            Ok(()) => Ok(Placed::Yes),
            Err(Errno::EXIST) if flags == RenameFlags::NOREPLACE => Ok(Placed::Occupied),
            // File systems that do not know the flag know hard links, and a link is never made over a name.
            Err(Errno::INVAL) if flags == RenameFlags::NOREPLACE => {
                match rustix::fs::linkat(&directory, from, &directory, name, AtFlags::empty()) {
                    Ok(()) => rustix::fs::unlinkat(&directory, from, AtFlags::empty())
                        .map(|()| Placed::Yes)
                        .map_err(|error| failed("removed", staged, error)),
                    Err(Errno::EXIST) => Ok(Placed::Occupied),
                    Err(error) => Err(failed("created", path, error)),
                }
            }
            Err(error) => Err(failed("switched", path, error)),
        }
    }

    fn discard_now(&self, path: &str) -> Result<(), DeliveryError> {
        let (directory, name) = files::split_path(path)?;
        let Some(opened) = self.directory(&directory)? else { return Ok(()) };
        match rustix::fs::unlinkat(&opened, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("removed", path, error)),
        }
    }

    fn settle_now(&self, directory: &str) -> Result<(), DeliveryError> {
        let Some(opened) = self.directory(directory)? else { return Ok(()) };
        rustix::fs::fsync(&opened).map_err(|error| failed("brought to disk", directory, error))
    }

    fn sweep_now(&self, directory: &str, fresh: &str) -> Result<(), DeliveryError> {
        let Some(opened) = self.directory(directory)? else { return Ok(()) };
        let (_, fresh) = files::split_path(fresh)?;
        let stat_of = |name: &str| rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW);
        let limit = stat_of(fresh).map_err(|error| failed("read", fresh, error))?.st_mtime - LEFT_OVER_SECONDS as i64;
        let entries = rustix::fs::Dir::read_from(&opened).map_err(|error| failed("listed", directory, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed("listed", directory, error))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let is_left_over =
                |stat: Stat| stat.st_mtime < limit && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if files::is_temporary_name(name) && stat_of(name).is_ok_and(is_left_over) {
                rustix::fs::unlinkat(&opened, name, AtFlags::empty())
                    .map_err(|error| failed("removed", name, error))?;
            }
        }
        Ok(())
    }

    /// Does what may wait for a disk where waiting is allowed.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, DeliveryError> + Send + 'static,
    ) -> Result<T, DeliveryError> {
        let host = self.clone();
        match tokio::task::spawn_blocking(move || work(host)).await {
            Ok(result) => result,
            Err(error) => Err(DeliveryError::Unknown(format!("the work on the directory was broken off: {error}"))),
        }
    }

    /// Gives a temporary file to its owner, by itself or else by `sudo`.
    async fn give_to(&self, path: &str, owner: &str) -> Result<(), DeliveryError> {
        let arguments = ["chown", "--no-dereference", "--", owner, path];
        let direct = run_program(&arguments).await?;
        if direct.failure.is_none() {
            return Ok(());
        }
        let sudo = run_program(&[["sudo", "-n"].as_slice(), &arguments].concat()).await;
        match sudo {
            Ok(CommandEnd { failure: None, .. }) => Ok(()),
            Ok(_) | Err(_) => Err(DeliveryError::Refused(format!(
                "the owner cannot be set to {owner}: {}",
                String::from_utf8_lossy(&direct.output).trim()
            ))),
        }
    }
}

impl Host for LocalHost {
    async fn read(&self, path: &str) -> Result<Stored, DeliveryError> {
        let path = path.to_owned();
        self.on_disk(move |host| host.read_now(&path)).await
    }

    async fn stage(&self, path: &str, content: &[u8], mode: u32, owner: Option<&str>) -> Result<String, DeliveryError> {
        let (path, content) = (path.to_owned(), Zeroizing::new(content.to_vec()));
        let (staged, (user, group)) = self.on_disk(move |host| host.write_now(&path, &content, mode)).await?;
        if let Some(owner) = owner.filter(|owner| *owner != format!("{user}:{group}"))
            && let Err(error) = self.give_to(&staged, owner).await
        {
            self.discard(&staged).await?;
            return Err(error);
        }
        Ok(staged)
    }

    async fn place(&self, staged: &str, path: &str) -> Result<Placed, DeliveryError> {
        let (staged, path) = (staged.to_owned(), path.to_owned());
        self.on_disk(move |host| host.rename_now(&staged, &path, RenameFlags::NOREPLACE)).await
    }

    async fn place_over(&self, staged: &str, path: &str) -> Result<(), DeliveryError> {
        let (staged, path) = (staged.to_owned(), path.to_owned());
        self.on_disk(move |host| host.rename_now(&staged, &path, RenameFlags::empty())).await.map(drop)
    }

    async fn discard(&self, path: &str) -> Result<(), DeliveryError> {
        let path = path.to_owned();
        self.on_disk(move |host| host.discard_now(&path)).await
    }

    async fn settle(&self, directory: &str) -> Result<(), DeliveryError> {
        let directory = directory.to_owned();
        self.on_disk(move |host| host.settle_now(&directory)).await
    }

    async fn sweep(&self, directory: &str, fresh: &str) -> Result<(), DeliveryError> {
        let (directory, fresh) = (directory.to_owned(), fresh.to_owned());
        self.on_disk(move |host| host.sweep_now(&directory, &fresh)).await
    }

    async fn run(&self, command: &str) -> Result<CommandEnd, DeliveryError> {
        run_program(&["/bin/sh", "-c", command]).await
    }
}

/// Runs a program in a process group of its own, without the server's environment, and kills all of the group when it takes
/// too long.
async fn run_program(arguments: &[&str]) -> Result<CommandEnd, DeliveryError> {
    let [program, arguments @ ..] = arguments else {
        return Err(DeliveryError::Refused("no program is named".into()));
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| DeliveryError::Refused(format!("{program} cannot be run: {error}")))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let output = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        child.stdout.take().map(|stream| tokio::spawn(collect(stream, Arc::clone(&output)))),
        child.stderr.take().map(|stream| tokio::spawn(collect(stream, Arc::clone(&output)))),
    ];
    let failure = match tokio::time::timeout(COMMAND_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) if status.success() => None,
        Ok(Ok(status)) => Some(match status.code() {
            Some(code) => format!("ended with status {code}"),
            None => "was ended by a signal".to_owned(),
        }),
        Ok(Err(error)) => Some(format!("cannot be waited for: {error}")),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended in this very moment; then there is nobody to be killed.
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            drop(child.wait().await);
            Some(format!("took longer than {} seconds and was killed", COMMAND_TIMEOUT.as_secs()))
        }
    };
    for reader in readers.into_iter().flatten() {
        let abort = reader.abort_handle();
        if tokio::time::timeout(OUTPUT_WAIT, reader).await.is_err() {
            abort.abort();
        }
    }
    let output = std::mem::take(&mut *output.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(CommandEnd { failure, output })
}

/// Reads to the end, and keeps the beginning.
async fn collect(mut stream: impl AsyncRead + Unpin, output: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT_OCTETS_MAX.saturating_sub(output.len());
        output.extend_from_slice(&buffer[..length.min(room)]);
    }
}

fn sibling(path: &str, name: &str) -> Result<String, DeliveryError> {
    let (directory, _) = files::split_path(path)?;
    Ok(files::join(&directory, name))
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// What the system says: later for what passes, never for what somebody has to change.
fn failed(what: &str, path: &str, error: impl Into<std::io::Error>) -> DeliveryError {
    let error = error.into();
    let text = format!("{path} cannot be {what}: {error}");
    match error.kind() {
        std::io::ErrorKind::PermissionDenied
        | std::io::ErrorKind::ReadOnlyFilesystem
        | std::io::ErrorKind::NotADirectory
        | std::io::ErrorKind::IsADirectory => DeliveryError::Refused(text),
        _ => DeliveryError::Unavailable(text),
    }
}
