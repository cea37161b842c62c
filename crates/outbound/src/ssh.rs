//! The SSH client: a connection to a host whose key is pinned, commands on it, and files by SFTP.
//!
//! The host's key is held against the pinned one while keys are exchanged, so with another key no login is tried and no
//! secret leaves. The address that the rules allowed is the one that is connected to.

use crate::DeliveryError;
use crate::egress::EgressRules;
use crate::files::shell_literal;
use crate::host::{COMMAND_TIMEOUT, CommandEnd, OUTPUT_OCTETS_MAX};
use crate::probe::connect_to;
use domain::connection::Credentials;
use domain::secret::SecretText;
use russh::client::{AuthResult, Config, Handle, Handler, KeyboardInteractiveAuthResponse};
use russh::keys::ssh_key::Fingerprint;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, decode_secret_key};
use russh::{AlgorithmKind, ChannelMsg, Disconnect, MethodKind};
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Connecting to the host may take so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Agreeing on keys may take so long, and so may a login, and opening a channel.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// An answer of SFTP may take so long, in seconds.
const SFTP_TIMEOUT_SECONDS: u64 = 20;
/// What a command has beyond its limit, to be ended by the host itself.
const COMMAND_GRACE: Duration = Duration::from_secs(10);
/// How long the output of a command is waited for once it ended.
const OUTPUT_WAIT: Duration = Duration::from_millis(500);
/// So much is read or written at once; every server takes it (draft-ietf-secsh-filexfer-02 §3).
const CHUNK_OCTETS: u32 = 32 * 1024;
/// So many names of a directory are looked at.
const NAMES_MAX: usize = 100_000;
const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";

/// A host, logged in to.
pub(crate) struct Ssh {
    handle: Handle<Watch>,
    host_key: String,
    alive: watch::Receiver<()>,
}

/// The key that a host has to have.
enum Pin {
    /// This one.
    Key(PublicKey),
    /// The one with this digest.
    Digest(Fingerprint),
}

/// Holds the host's key against the pin.
struct Watch {
    pin: Arc<Option<Pin>>,
    seen: Arc<Mutex<Option<PublicKey>>>,
    /// Dropped with this when the connection ends.
    _alive: watch::Sender<()>,
}

impl Handler for Watch {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, Self::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(match &*self.pin {
            None => true,
            Some(Pin::Key(pinned)) => pinned.key_data() == key.key_data(),
            Some(Pin::Digest(pinned)) => key.fingerprint(HashAlg::Sha256) == *pinned,
        })
    }
}

impl Pin {
    fn parse(text: &str) -> Result<Self, DeliveryError> {
        let text = text.trim();
        let pin = match text.starts_with("SHA256:") {
            true => text.parse().ok().map(Self::Digest),
            false => PublicKey::from_openssh(text).ok().map(Self::Key),
        };
        pin.ok_or_else(|| {
            DeliveryError::Refused(
                "hostKey is a public key, as in \"ssh-ed25519 AAAA…\", or its digest \"SHA256:…\"".into(),
            )
        })
    }
}

/// What a connection is made with.
struct Login<'a> {
    host: &'a str,
    port: u16,
    user: &'a str,
    proof: Proof<'a>,
    host_key: Option<&'a str>,
}

enum Proof<'a> {
    Password(&'a SecretText),
    Key { key: &'a SecretText, passphrase: Option<&'a SecretText> },
}

impl<'a> Login<'a> {
    fn of(credentials: &'a Credentials) -> Result<Self, DeliveryError> {
        match credentials {
            Credentials::SshPassword { host, port, username, password, host_key } => Ok(Self {
                host,
                port: *port,
                user: username,
                proof: Proof::Password(password),
                host_key: host_key.as_deref(),
            }),
            Credentials::SshKey { host, port, username, private_key, passphrase, host_key } => Ok(Self {
                host,
                port: *port,
                user: username,
                proof: Proof::Key { key: private_key, passphrase: passphrase.as_ref() },
                host_key: host_key.as_deref(),
            }),
            Credentials::AwsAccessKey { .. }
            | Credentials::AwsAssumeRole { .. }
            | Credentials::AzureClientSecret { .. }
            | Credentials::ChefUserKey { .. }
            | Credentials::CloudflareApiToken { .. }
            | Credentials::F5BasicAuth { .. }
            | Credentials::GcpImpersonation { .. }
            | Credentials::VaultAccessToken { .. }
            | Credentials::KubernetesToken { .. }
            | Credentials::WebhookHmac { .. } => {
                Err(DeliveryError::Connection("the connection's credentials are not those of SSH".into()))
            }
        }
    }
}

/// The key that is pinned in credentials, if one is.
pub(crate) fn pinned_host_key(credentials: &Credentials) -> Result<Option<&str>, DeliveryError> {
    let pinned = Login::of(credentials)?.host_key;
    pinned.map(Pin::parse).transpose()?;
    Ok(pinned)
}

impl Ssh {
    /// Connects and logs in. Without a pinned key any is taken, and said in [`Ssh::host_key`].
    pub(crate) async fn connect(rules: &EgressRules, credentials: &Credentials) -> Result<Self, DeliveryError> {
        let login = Login::of(credentials)?;
        // Before anything is sent: a key that cannot be read is no reason to knock.
        let key = match &login.proof {
            Proof::Password(_) => None,
            Proof::Key { key, passphrase } => Some(read_key(key, *passphrase).await?),
        };
        let pin = Arc::new(login.host_key.map(Pin::parse).transpose()?);
        let mut ssh = exchange_keys(rules, &login, &pin).await?;
        let place = format!("{}@{}", login.user, login.host);
        let entered = match timeout(STEP_TIMEOUT, enter(&mut ssh.handle, &login, key)).await {
            Ok(entered) => entered,
            Err(_) => return Err(DeliveryError::Connection(format!("logging in to {place} took too long"))),
        };
        match entered {
            Ok(Ok(())) => Ok(ssh),
            Ok(Err(offered)) => Err(DeliveryError::Connection(format!(
                "{} does not let {} in by {}{offered}",
                login.host,
                login.user,
                match login.proof {
                    Proof::Password(_) => "this password",
                    Proof::Key { .. } => "this key",
                }
            ))),
            Err(error) => Err(DeliveryError::Connection(format!("logging in to {place}: {error}"))),
        }
    }

    /// The host's key, as `type base64`.
    pub(crate) fn host_key(&self) -> &str {
        &self.host_key
    }

    /// Says good-bye.
    pub(crate) async fn close(&self) {
        // Whether it is heard or not, the connection ends.
        drop(timeout(STEP_TIMEOUT, self.handle.disconnect(Disconnect::ByApplication, "", "en")).await);
    }

    /// Runs a command of the host's shell. The host is asked to kill it with its children when it takes too long, where it
    /// has `timeout` for that.
    pub(crate) async fn run(&self, command: &str) -> Result<CommandEnd, DeliveryError> {
        let seconds = COMMAND_TIMEOUT.as_secs();
        let literal = shell_literal(command);
        let script = format!(
            "if timeout -k 2 9 true 2>/dev/null; then exec timeout -k 2 {seconds} sh -c {literal}; else exec sh -c {literal}; fi"
        );
        let script = format!("sh -c {}", shell_literal(&script));
        let begun = Instant::now();
        let mut end = match timeout(COMMAND_TIMEOUT + COMMAND_GRACE, self.execute(&script)).await {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => {
                return Err(DeliveryError::Unavailable(format!("the connection broke off during a command: {error}")));
            }
            Err(_) => {
                let failure = format!("took longer than {seconds} seconds, and may be running still");
                return Ok(CommandEnd { failure: Some(failure), output: Vec::new() });
            }
        };
        if end.failure.is_some() && begun.elapsed() >= COMMAND_TIMEOUT {
            end.failure = Some(format!("took longer than {seconds} seconds and was killed"));
        }
        Ok(end)
    }

    async fn execute(&self, command: &str) -> Result<CommandEnd, russh::Error> {
        let mut channel = self.handle.channel_open_session().await?;
        channel.exec(true, command).await?;
        channel.eof().await?;
        let mut output = Vec::new();
        let mut ended: Option<Option<String>> = None;
        loop {
            let next = match ended {
                None => channel.wait().await,
                // What it left running may hold its output open for ever.
                Some(_) => timeout(OUTPUT_WAIT, channel.wait()).await.unwrap_or(None),
            };
            match next {
                Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                    let room = OUTPUT_OCTETS_MAX.saturating_sub(output.len());
                    output.extend_from_slice(&data[..data.len().min(room)]);
                }
                Some(ChannelMsg::ExitStatus { exit_status: 0 }) => ended = Some(None),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    ended = Some(Some(format!("ended with status {exit_status}")));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    ended = Some(Some(format!("was ended by the signal {signal_name:?}")));
                }
                Some(ChannelMsg::Failure) => ended = Some(Some("was refused by the host".into())),
                Some(_) => {}
                None => break,
            }
        }
        // The other side may have closed it already.
        drop(channel.close().await);
        match ended {
            Some(failure) => Ok(CommandEnd { failure, output }),
            None => Err(russh::Error::HUP),
        }
    }

    /// Opens SFTP.
    pub(crate) async fn sftp(&self) -> Result<Sftp, DeliveryError> {
        let opened = timeout(STEP_TIMEOUT, async {
            let channel = self.handle.channel_open_session().await.map_err(|error| error.to_string())?;
            channel.request_subsystem(true, "sftp").await.map_err(|error| error.to_string())?;
            let session = RawSftpSession::new(channel.into_stream());
            session.set_timeout(SFTP_TIMEOUT_SECONDS);
            let version = session.init().await.map_err(|error| error.to_string())?;
            Ok::<Sftp, String>(Sftp { session, extensions: version.extensions, alive: self.alive.clone() })
        });
        match opened.await {
            Ok(Ok(sftp)) => Ok(sftp),
            Ok(Err(error)) => Err(DeliveryError::Connection(format!("the host does not open SFTP: {error}"))),
            Err(_) => Err(DeliveryError::Connection("the host does not open SFTP: it took too long".into())),
        }
    }
}

/// Connects and agrees on keys with the host that has the pinned key. A host with several keys shows the one that is asked
/// for, so for a digest, which does not tell the kind, each kind is asked for in turn.
async fn exchange_keys(rules: &EgressRules, login: &Login<'_>, pin: &Arc<Option<Pin>>) -> Result<Ssh, DeliveryError> {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let all_ecdsa = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521].map(ecdsa).to_vec();
    let rsa = [HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }).to_vec();
    let kinds: Vec<Vec<Algorithm>> = match &**pin {
        None => vec![[vec![Algorithm::Ed25519], all_ecdsa, rsa].concat()],
        Some(Pin::Key(key)) if key.algorithm().is_rsa() => vec![rsa],
        Some(Pin::Key(key)) => vec![vec![key.algorithm()]],
        Some(Pin::Digest(_)) => vec![vec![Algorithm::Ed25519], all_ecdsa, rsa],
    };
    let mut shown: Vec<String> = Vec::new();
    for kind in kinds {
        let seen = Arc::new(Mutex::new(None));
        let stream = match timeout(CONNECT_TIMEOUT, connect_to(rules, login.host, login.port)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(DeliveryError::Connection(format!("{} does not take the connection", login.host))),
        };
        let mut config =
            Config { keepalive_interval: Some(Duration::from_secs(10)), nodelay: true, ..Config::default() };
        config.preferred.key = Cow::Owned(kind);
        let (living, alive) = watch::channel(());
        let watch = Watch { pin: Arc::clone(pin), seen: Arc::clone(&seen), _alive: living };
        let exchanged =
            match timeout(STEP_TIMEOUT, russh::client::connect_stream(Arc::new(config), stream, watch)).await {
                Ok(exchanged) => exchanged,
                Err(_) => return Err(DeliveryError::Connection(format!("{} does not answer in SSH", login.host))),
            };
        let key = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (exchanged, key) {
            (Ok(handle), Some(key)) => return Ok(Ssh { handle, host_key: text_of(&key), alive }),
            (Err(russh::Error::UnknownKey), Some(key)) => shown.push(key.fingerprint(HashAlg::Sha256).to_string()),
            (Err(russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, .. }), _) => {}
            (Err(error), _) => {
                return Err(DeliveryError::Connection(format!("no SSH connection to {}: {error}", login.host)));
            }
            (Ok(_), None) => return Err(DeliveryError::Connection(format!("{} shows no key", login.host))),
        }
    }
    let shown = if shown.is_empty() { "none of the pinned kind".to_owned() } else { shown.join(", ") };
    Err(DeliveryError::Connection(format!(
        "the host key of {} is not the pinned one (it shows {shown}), so no login was tried",
        login.host
    )))
}

/// Logs in, or says what the host would take instead.
async fn enter(
    handle: &mut Handle<Watch>,
    login: &Login<'_>,
    key: Option<PrivateKey>,
) -> Result<Result<(), String>, russh::Error> {
    let result = match (&login.proof, key) {
        (Proof::Password(password), _) => {
            let result = handle.authenticate_password(login.user, password.expose()).await?;
            match &result {
                // Some hosts ask for the password in their own words.
                AuthResult::Failure { remaining_methods, .. }
                    if remaining_methods.contains(&MethodKind::KeyboardInteractive)
                        && !remaining_methods.contains(&MethodKind::Password) =>
                {
                    return answer_questions(handle, login.user, password).await;
                }
                AuthResult::Success | AuthResult::Failure { .. } => result,
            }
        }
        (Proof::Key { .. }, Some(key)) => {
            let hash = match key.algorithm().is_rsa() {
                true => handle.best_supported_rsa_hash().await?.flatten().or(Some(HashAlg::Sha256)),
                false => None,
            };
            handle.authenticate_publickey(login.user, PrivateKeyWithHashAlg::new(Arc::new(key), hash)).await?
        }
        (Proof::Key { .. }, None) => return Ok(Err(String::new())),
    };
    Ok(match result {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { partial_success: true, .. } => Err(" alone".into()),
        AuthResult::Failure { remaining_methods, .. } => {
            let offered: Vec<String> = remaining_methods.iter().map(String::from).collect();
            Err(if offered.is_empty() { String::new() } else { format!(" (it offers {})", offered.join(", ")) })
        }
    })
}

async fn answer_questions(
    handle: &mut Handle<Watch>,
    user: &str,
    password: &SecretText,
) -> Result<Result<(), String>, russh::Error> {
    const ROUNDS_MAX: usize = 4;
    let mut response = handle.authenticate_keyboard_interactive_start(user, None).await?;
    for _ in 0..ROUNDS_MAX {
        let prompts = match response {
            KeyboardInteractiveAuthResponse::Success => return Ok(Ok(())),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(Err(String::new())),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        if prompts.len() > 1 || prompts.iter().any(|prompt| prompt.echo) {
            return Ok(Err(": it asks for more than a password".into()));
        }
        let answers = prompts.iter().map(|_| password.expose().to_owned()).collect();
        response = handle.authenticate_keyboard_interactive_respond(answers).await?;
    }
    Ok(Err(String::new()))
}

/// Reads a private key. Opening a sealed one may take as long as its maker chose, so it is given up after a while.
async fn read_key(key: &SecretText, passphrase: Option<&SecretText>) -> Result<PrivateKey, DeliveryError> {
    let (key, passphrase) = (key.clone(), passphrase.cloned());
    let work = tokio::task::spawn_blocking(move || {
        decode_secret_key(key.expose(), passphrase.as_ref().map(SecretText::expose)).map_err(|error| error.to_string())
    });
    match timeout(STEP_TIMEOUT, work).await {
        Ok(Ok(Ok(key))) => Ok(key),
        Ok(Ok(Err(error))) => {
            Err(DeliveryError::Connection(format!("the private key cannot be read with this passphrase: {error}")))
        }
        Ok(Err(_)) | Err(_) => Err(DeliveryError::Connection("the private key cannot be read".into())),
    }
}

/// A public key as `type base64`.
fn text_of(key: &PublicKey) -> String {
    let bare = PublicKey::new(key.key_data().clone(), "");
    bare.to_openssh().map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

/// Files of a host.
pub(crate) struct Sftp {
    session: RawSftpSession,
    extensions: HashMap<String, String>,
    alive: watch::Receiver<()>,
}

/// What went wrong with a file.
pub(crate) enum FileError {
    /// There is no such file.
    Absent,
    /// The host refuses it, or cannot.
    Refused(DeliveryError),
    /// The answer did not come; the connection is of no more use.
    Lost(String),
}

impl Sftp {
    /// Does not wait for an answer that cannot come any more.
    async fn or_lost<T>(
        &self,
        path: &str,
        work: impl Future<Output = Result<T, FileError>> + Send,
    ) -> Result<T, FileError> {
        let mut alive = self.alive.clone();
        tokio::select! {
            biased;
            done = work => done,
            _ = alive.changed() => Err(FileError::Lost(format!("{path}: the connection to the host broke off"))),
        }
    }

    /// The attributes of a path; a link is not followed.
    pub(crate) async fn attributes(&self, path: &str) -> Result<FileAttributes, FileError> {
        self.or_lost(path, async {
            Ok(self.session.lstat(path).await.map_err(|error| told("read", path, error))?.attrs)
        })
        .await
    }

    /// Reads a file whose length was looked at.
    pub(crate) async fn read(&self, path: &str, octets_max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
        self.or_lost(path, async {
            let failed = |error| told("read", path, error);
            let opened = self.session.open(path, OpenFlags::READ, FileAttributes::empty()).await.map_err(failed)?;
            let mut content = Zeroizing::new(Vec::new());
            let ended = loop {
                let room =
                    u32::try_from(octets_max.saturating_sub(content.len())).unwrap_or(u32::MAX).min(CHUNK_OCTETS);
                if room == 0 {
                    break Ok(());
                }
                match self.session.read(opened.handle.as_str(), content.len() as u64, room).await {
                    Ok(data) if data.data.is_empty() => break Ok(()),
                    Ok(data) => content.extend_from_slice(&data.data),
                    Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => break Ok(()),
                    Err(error) => break Err(failed(error)),
                }
            };
            self.session.close(opened.handle).await.map_err(failed)?;
            ended.map(|()| content)
        })
        .await
    }

    /// Writes a file that must not be there yet, its mode set whatever the host's umask says.
    pub(crate) async fn write_new(&self, path: &str, content: &[u8], mode: u32) -> Result<(), FileError> {
        self.or_lost(path, async {
            let failed = |error| told("written", path, error);
            let with_mode = |mode| FileAttributes { permissions: Some(mode), ..FileAttributes::empty() };
            let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
            let handle = self.session.open(path, flags, with_mode(0o600)).await.map_err(failed)?.handle;
            let mut offset = 0;
            for chunk in content.chunks(CHUNK_OCTETS as usize) {
                self.session.write(handle.as_str(), offset, chunk.to_vec()).await.map_err(failed)?;
                offset += chunk.len() as u64;
            }
            self.session.fsetstat(handle.as_str(), with_mode(mode)).await.map_err(failed)?;
            if self.extensions.contains_key(FSYNC) {
                self.session.fsync(handle.as_str()).await.map_err(failed)?;
            }
            self.session.close(handle).await.map_err(failed)?;
            Ok(())
        })
        .await
    }

    /// Renames to a name that is free. OpenSSH makes a link and removes the old name, which fails when the name is taken.
    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        self.or_lost(to, async {
            self.session.rename(from, to).await.map(drop).map_err(|error| told("created", to, error))
        })
        .await
    }

    /// Renames over what is there, at once.
    pub(crate) async fn rename_over(&self, from: &str, to: &str) -> Result<(), FileError> {
        self.or_lost(to, async {
            if !self.extensions.contains_key(POSIX_RENAME) {
                return Err(FileError::Refused(DeliveryError::Refused(format!(
                    "the host's SFTP cannot replace a file at once (it has no {POSIX_RENAME}), so nothing was changed"
                ))));
            }
            let mut data = Vec::new();
            for path in [from, to] {
                let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
                data.extend_from_slice(&length.to_be_bytes());
                data.extend_from_slice(path.as_bytes());
            }
            match self.session.extended(POSIX_RENAME, data).await {
                Ok(Packet::Status(status)) if status.status_code == StatusCode::Ok => Ok(()),
                Ok(Packet::Status(status)) => Err(told("switched", to, SftpError::Status(status))),
                Ok(_) => Err(FileError::Lost(format!("{to}: the host's answer is not understood"))),
                Err(error) => Err(told("switched", to, error)),
            }
        })
        .await
    }

    /// Removes a file.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), FileError> {
        self.or_lost(path, async {
            self.session.remove(path).await.map(drop).map_err(|error| told("removed", path, error))
        })
        .await
    }

    /// The names in a directory, with attributes.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<(String, FileAttributes)>, FileError> {
        self.or_lost(path, async {
            let failed = |error| told("listed", path, error);
            let handle = self.session.opendir(path).await.map_err(failed)?.handle;
            let mut names = Vec::new();
            while names.len() < NAMES_MAX {
                match self.session.readdir(handle.as_str()).await {
                    Ok(more) => names.extend(more.files.into_iter().map(|file| (file.filename, file.attrs))),
                    Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => break,
                    Err(error) => return Err(failed(error)),
                }
            }
            self.session.close(handle).await.map_err(failed)?;
            Ok(names)
        })
        .await
    }
}

fn told(what: &str, path: &str, error: SftpError) -> FileError {
    let SftpError::Status(status) = error else {
        return FileError::Lost(format!("{path} could not be {what}: {error}"));
    };
    let text = format!("{path} cannot be {what}: {}", status.error_message);
    match status.status_code {
        StatusCode::NoSuchFile => FileError::Absent,
        StatusCode::PermissionDenied | StatusCode::OpUnsupported => FileError::Refused(DeliveryError::Refused(text)),
        StatusCode::NoConnection | StatusCode::ConnectionLost => FileError::Lost(text),
        StatusCode::Ok | StatusCode::Eof | StatusCode::Failure | StatusCode::BadMessage => {
            FileError::Refused(DeliveryError::Unavailable(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use testkit::sshd::Sshd;

    #[tokio::test]
    async fn openssh_renames_over_a_file_only_when_it_is_asked_to() {
        let sshd = Sshd::start(&[]);
        let rules = EgressRules::public_and(vec!["127.0.0.0/8".parse().unwrap()]);
        let credentials = Credentials::SshKey {
            host: "127.0.0.1".into(),
            port: sshd.port(),
            username: sshd.user(),
            private_key: SecretText::new(sshd.client_key()),
            passphrase: None,
            host_key: Some(sshd.host_keys()[0].clone()),
        };
        let ssh = Ssh::connect(&rules, &credentials).await.unwrap();
        let sftp = ssh.sftp().await.ok().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("old"), "old").unwrap();
        let long = vec![b'x'; 100_000];
        assert!(sftp.write_new(&path("new"), &long, 0o640).await.is_ok());
        assert!(matches!(sftp.write_new(&path("new"), b"other", 0o640).await, Err(FileError::Refused(_))));
        assert!(matches!(sftp.rename(&path("new"), &path("old")).await, Err(FileError::Refused(_))));
        assert_eq!((fs::read(path("old")).unwrap(), fs::read(path("new")).unwrap()), (b"old".to_vec(), long.clone()));
        assert!(sftp.rename_over(&path("new"), &path("old")).await.is_ok());
        assert_eq!(*sftp.read(&path("old"), 1 << 20).await.ok().unwrap(), long);
        assert_eq!(sftp.read(&path("old"), 70_000).await.ok().unwrap().len(), 70_000, "no more than is asked for");
        assert!(matches!(sftp.attributes(&path("new")).await, Err(FileError::Absent)));
        assert!(matches!(sftp.remove(&path("new")).await, Err(FileError::Absent)));
    }
}
