//! `linux-server`: a directory of a host, by SSH and SFTP (contract syncs §2.5).
//!
//! Other than upstream, a file that is replaced is never removed first: it is renamed over (`posix-rename@openssh.com`). A
//! new one is given its name by SFTP's plain rename, which does not write over anything.

use super::Opening;
use crate::DeliveryError;
use crate::egress::EgressRules;
use crate::files::{self, FilePlan, shell_literal};
use crate::host::{CommandEnd, FILE_OCTETS_MAX, Host, HostFiles, LEFT_OVER_SECONDS, Placed, Stored, StoredFile};
use crate::ssh::{FileError, Sftp, Ssh, pinned_host_key};
use domain::connection::Credentials;
use domain::sync::DestinationConfig;
use russh_sftp::protocol::FileAttributes;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The destination.
pub type LinuxServer = HostFiles<RemoteHost>;

/// A host at the other end of SSH. The connection is made when it is needed first, and again after it was lost.
pub struct RemoteHost {
    rules: EgressRules,
    credentials: Credentials,
    session: Mutex<Option<Arc<Session>>>,
}

struct Session {
    ssh: Ssh,
    sftp: Sftp,
}

/// Whether a lost answer leaves it open what happened.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing that counts was to be changed.
    Harmless,
    /// Something was.
    Change,
}

impl LinuxServer {
    /// Opens the destination; nothing is connected to yet.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let DestinationConfig::Directory { destination_path } = opening.config else {
            return Err(DeliveryError::Refused("the destination's configuration is not that of a directory".into()));
        };
        let Some(credentials) = opening.credentials else {
            return Err(DeliveryError::Connection("a Linux server needs a connection".into()));
        };
        if pinned_host_key(credentials)?.is_none() {
            return Err(DeliveryError::Connection("the connection has no pinned host key: save it again".into()));
        }
        let directory = files::directory(destination_path)?;
        let plan = FilePlan::new(opening.options, opening.secrets)?;
        let host = RemoteHost {
            rules: opening.http.rules().clone(),
            credentials: credentials.clone(),
            session: Mutex::default(),
        };
        let options = opening.options;
        let (post_sync, health_check) = (options.post_sync_command.clone(), options.health_check_command.clone());
        Ok(Self::new(host, plan, directory, post_sync, health_check))
    }
}

impl RemoteHost {
    async fn session(&self) -> Result<Arc<Session>, DeliveryError> {
        let mut session = self.session.lock().await;
        if let Some(open) = &*session {
            return Ok(Arc::clone(open));
        }
        let ssh = Ssh::connect(&self.rules, &self.credentials).await?;
        let sftp = ssh.sftp().await?;
        let open = Arc::new(Session { ssh, sftp });
        *session = Some(Arc::clone(&open));
        Ok(open)
    }

    /// What went wrong, for the caller. A connection that was lost is made anew the next time.
    async fn failed(&self, error: FileError, path: &str, kind: Kind) -> DeliveryError {
        match (error, kind) {
            (FileError::Refused(error), _) => error,
            (FileError::Absent, _) => {
                DeliveryError::Unavailable(format!("{path} cannot be reached: the host says that it is not there"))
            }
            (FileError::Lost(text), Kind::Harmless) => {
                *self.session.lock().await = None;
                DeliveryError::Unavailable(text)
            }
            (FileError::Lost(text), Kind::Change) => {
                *self.session.lock().await = None;
                DeliveryError::Unknown(text)
            }
        }
    }

    /// The host says that a file is not there: either so it is, or its directory is missing.
    async fn must_have_directory(&self, session: &Session, path: &str) -> Result<(), DeliveryError> {
        let (directory, _) = files::split_path(path)?;
        match session.sftp.attributes(&directory).await {
            Ok(_) => Ok(()),
            Err(FileError::Absent) => {
                Err(DeliveryError::Refused(format!("the directory {directory} is not there on the host")))
            }
            Err(error) => Err(self.failed(error, &directory, Kind::Harmless).await),
        }
    }

    /// Gives a temporary file to its owner, by the user itself or else by `sudo`.
    async fn give_to(&self, session: &Session, path: &str, owner: &str) -> Result<(), DeliveryError> {
        let change = format!("chown -h -- {} {}", shell_literal(owner), shell_literal(path));
        let end = session.ssh.run(&format!("{change} || sudo -n {change}")).await?;
        match end.failure {
            None => Ok(()),
            Some(_) => Err(DeliveryError::Refused(format!(
                "the owner cannot be set to {owner}: {}",
                String::from_utf8_lossy(&end.output).trim()
            ))),
        }
    }
}

impl Host for RemoteHost {
    async fn read(&self, path: &str) -> Result<Stored, DeliveryError> {
        let session = self.session().await?;
        let attributes = match session.sftp.attributes(path).await {
            Ok(attributes) => attributes,
            Err(FileError::Absent) => {
                self.must_have_directory(&session, path).await?;
                return Ok(Stored::Absent);
            }
            Err(error) => return Err(self.failed(error, path, Kind::Harmless).await),
        };
        if !attributes.file_type().is_file() || attributes.len() > FILE_OCTETS_MAX as u64 {
            return Ok(Stored::Other);
        }
        match session.sftp.read(path, FILE_OCTETS_MAX).await {
            Ok(content) => Ok(Stored::File(StoredFile {
                content,
                mode: attributes.permissions.unwrap_or_default() & 0o7777,
                owner: owner_of(&attributes),
            })),
            // It went away between the two questions.
            Err(FileError::Absent) => Ok(Stored::Absent),
            Err(error) => Err(self.failed(error, path, Kind::Harmless).await),
        }
    }

    async fn stage(&self, path: &str, content: &[u8], mode: u32, owner: Option<&str>) -> Result<String, DeliveryError> {
        let session = self.session().await?;
        let (directory, name) = files::split_path(path)?;
        let staged = files::join(&directory, &files::temporary_name(name));
        if let Err(error) = session.sftp.write_new(&staged, content, mode).await {
            if let FileError::Absent = error {
                self.must_have_directory(&session, path).await?;
            }
            let error = self.failed(error, &staged, Kind::Harmless).await;
            // A half-written key should not lie about; the next run's sweep takes what this does not.
            drop(session.sftp.remove(&staged).await);
            return Err(error);
        }
        let Some(owner) = owner else { return Ok(staged) };
        let given = match session.sftp.attributes(&staged).await {
            Ok(attributes) if owner == format!("{}:{}", owner_of(&attributes).0, owner_of(&attributes).1) => Ok(()),
            Ok(_) | Err(_) => self.give_to(&session, &staged, owner).await,
        };
        if let Err(error) = given {
            self.discard(&staged).await?;
            return Err(error);
        }
        Ok(staged)
    }

    async fn place(&self, staged: &str, path: &str) -> Result<Placed, DeliveryError> {
        let session = self.session().await?;
        let refused = match session.sftp.rename(staged, path).await {
            Ok(()) => return Ok(Placed::Yes),
            Err(FileError::Refused(error)) => error,
            Err(error) => return Err(self.failed(error, path, Kind::Change).await),
        };
        // SFTP's version 3 has no word for "it is there already".
        match session.sftp.attributes(path).await {
            Ok(_) => Ok(Placed::Occupied),
            Err(FileError::Absent | FileError::Refused(_)) => Err(refused),
            Err(error) => Err(self.failed(error, path, Kind::Change).await),
        }
    }

    async fn place_over(&self, staged: &str, path: &str) -> Result<(), DeliveryError> {
        let session = self.session().await?;
        match session.sftp.rename_over(staged, path).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error, path, Kind::Change).await),
        }
    }

    async fn discard(&self, path: &str) -> Result<(), DeliveryError> {
        let session = self.session().await?;
        match session.sftp.remove(path).await {
            Ok(()) | Err(FileError::Absent) => Ok(()),
            Err(error) => Err(self.failed(error, path, Kind::Change).await),
        }
    }

    async fn settle(&self, _: &str) -> Result<(), DeliveryError> {
        // SFTP cannot ask for it: the contents are on disk before they are renamed, which is what matters after a crash.
        Ok(())
    }

    async fn sweep(&self, directory: &str, fresh: &str) -> Result<(), DeliveryError> {
        let session = self.session().await?;
        let failed = |error| self.failed(error, directory, Kind::Harmless);
        // The host's own clock, which need not be ours.
        let now = match session.sftp.attributes(fresh).await {
            Ok(attributes) => u64::from(attributes.mtime.unwrap_or_default()),
            Err(error) => return Err(failed(error).await),
        };
        let names = match session.sftp.list(directory).await {
            Ok(names) => names,
            Err(error) => return Err(failed(error).await),
        };
        for (name, attributes) in names {
            let is_old = attributes.mtime.is_some_and(|time| u64::from(time) + LEFT_OVER_SECONDS < now);
            if files::is_temporary_name(&name) && attributes.file_type().is_file() && is_old {
                self.discard(&files::join(directory, &name)).await?;
            }
        }
        Ok(())
    }

    async fn run(&self, command: &str) -> Result<CommandEnd, DeliveryError> {
        let session = self.session().await?;
        let end = session.ssh.run(command).await;
        if end.is_err() {
            *self.session.lock().await = None;
        }
        end
    }
}

fn owner_of(attributes: &FileAttributes) -> (u32, u32) {
    (attributes.uid.unwrap_or_default(), attributes.gid.unwrap_or_default())
}
