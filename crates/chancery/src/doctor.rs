//! `chancery doctor`: what an operator should look at, on this machine and in the database. Changes nothing; the server
//! may be running or not. What each sign means is in docs/doctor.md.

use crate::backup;
use crate::cli::local::DoctorArguments;
use crate::config::{Config, DataLocation, TlsSource};
use crate::local::say;
use crate::open::{self, Access};
use crate::owner;
use crate::reach;
use crate::tls::Certificates;
use outbound::alert::Mailer;
use rustix::fs::{FsWord, StatVfs};
use services::doctor::{Code, Severity, Sign, address_codes};
use services::{Addresses, Clock, Outward};
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use store::{Db, StoreError};

/// Below this much room nothing can be written soon, in octets.
const ROOM_MIN: u64 = 256 << 20;
/// Below this much room somebody should make some, in octets.
const ROOM_FEW: u64 = 2 << 30;
/// A write-ahead log of this length is not copied any more; in octets.
const LOG_LONG: u64 = 256 << 20;
/// Each connection is an open file, and the server takes 10,000 of HTTP alone.
const FILES_FEW: u64 = 16_384;
/// A certificate of the listener that ends within this time is told of, in seconds.
const TLS_ENDS_SECONDS: i64 = 14 * 86_400;
/// A backup is older than this when some were left out, in seconds.
const BACKUP_OLD_SECONDS: i64 = 7 * 86_400;
/// Connections of a node, and what is left to people and to a second node while the first is replaced.
const CONNECTIONS_MIN: i64 = 40;
/// File systems of other machines: NFS, SMB, CIFS, SMB2, AFS, Ceph, 9p.
const NETWORK_FILE_SYSTEMS: [FsWord; 7] =
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x5346_414f, 0x00c3_6400, 0x0102_1997];

/// Examines, prints, and says by the exit code whether something is wrong.
pub async fn run(arguments: &DoctorArguments, json: bool) -> Result<ExitCode, String> {
    let mut signs = Vec::new();
    let (location, mailer) = match Config::from_arguments(&arguments.serve) {
        Ok(config) => {
            examine_listeners(&config, &mut signs);
            (config.data, config.mailer)
        }
        Err(error) => {
            signs.push(Sign::new(Code::ConfigurationRefused, "the configuration", error));
            (DataLocation::from_arguments(&arguments.serve.database), None)
        }
    };
    examine_machine(&location, &mut signs);
    examine_backups(&location, &mut signs);
    examine_database(&location, mailer, &mut signs).await;
    signs.sort_by_key(|sign| std::cmp::Reverse(sign.severity));
    print(&signs, json)?;
    let worst = signs.iter().map(|sign| sign.severity).max();
    Ok(match worst {
        Some(Severity::Error) => ExitCode::FAILURE,
        Some(Severity::Warning) if arguments.strict => ExitCode::FAILURE,
        Some(Severity::Warning | Severity::Note) | None => ExitCode::SUCCESS,
    })
}

fn print(signs: &[Sign], json: bool) -> Result<(), String> {
    if json {
        say!("{}", serde_json::to_string_pretty(&signs).map_err(|error| error.to_string())?);
        return Ok(());
    }
    let is_person = std::io::stdout().is_terminal();
    for sign in signs {
        let (word, colour) = match sign.severity {
            Severity::Error => ("error", "\x1b[31m"),
            Severity::Warning => ("warning", "\x1b[33m"),
            Severity::Note => ("note", ""),
        };
        let (colour, plain) = if is_person && !colour.is_empty() { (colour, "\x1b[0m") } else { ("", "") };
        say!("{colour}{word}{plain} [{}] {}: {}", sign.code.as_str(), sign.subject, sign.message);
        say!("    {}", sign.remedy);
    }
    let count = |severity| signs.iter().filter(|sign| sign.severity == severity).count();
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => say!("nothing is wrong"),
        (errors, warnings) => say!("errors: {errors}, warnings: {warnings}"),
    }
    Ok(())
}

/// What the configuration alone tells.
fn examine_listeners(config: &Config, signs: &mut Vec<Sign>) {
    let url = reach::publication_url(config, config.listen);
    for code in address_codes(&url) {
        signs.push(Sign::new(code, "the publication URL", format!("certificates will carry {url}")));
    }
    let Some(TlsSource::Files { certificate, key }) = &config.tls else { return };
    let subject = certificate.display().to_string();
    let end = Certificates::files(certificate, key).and_then(|read| read.not_after().ok_or("it does not read".into()));
    match end {
        Err(error) => signs.push(Sign::new(Code::TlsUnreadable, subject, error)),
        Ok(end) if end < now() => signs.push(Sign::new(Code::TlsExpired, subject, "the certificate has ended")),
        Ok(end) if end < now() + TLS_ENDS_SECONDS => {
            let message = format!("the certificate ends in {} days", (end - now()) / 86_400);
            signs.push(Sign::new(Code::TlsExpires, subject, message));
        }
        Ok(_) => {}
    }
}

/// What the machine tells: room, files, limits.
fn examine_machine(location: &DataLocation, signs: &mut Vec<Sign>) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(files) = limit.current
        && files < FILES_FEW
    {
        signs.push(Sign::new(Code::OpenFiles, "this process", format!("it may open {files} files, as may a server")));
    }
    let folder = &location.folder;
    if !folder.is_dir() {
        return;
    }
    let subject = format!("the data folder {}", folder.display());
    if let Ok(room) = rustix::fs::statvfs(folder) {
        examine_room(&room, &subject, signs);
    }
    if location.database_url.is_none()
        && let Ok(system) = rustix::fs::statfs(folder)
        && NETWORK_FILE_SYSTEMS.contains(&system.f_type)
    {
        signs.push(Sign::new(Code::NetworkFileSystem, &subject, "it is on a file system of another machine"));
    }
    let open: Vec<String> = readable_by_others(folder);
    if !open.is_empty() {
        signs.push(Sign::new(Code::FilesReadable, &subject, format!("others may read {}", open.join(", "))));
    }
    if let Some((files, user, group)) = owner::foreign_files(folder) {
        let message = format!(
            "{} belong to another user than the folder: chown --recursive {user}:{group} {}",
            files.join(", "),
            folder.display()
        );
        signs.push(Sign::new(Code::FilesForeign, &subject, message));
    }
    if location.master_key_file.parent() == Some(folder) && location.master_key_file.exists() {
        signs.push(Sign::new(Code::MasterKeyBeside, &subject, "the master key is in the same folder as the data"));
    }
    if let Ok(log) = std::fs::metadata(folder.join("chancery.db-wal"))
        && log.len() > LOG_LONG
    {
        let message = format!("the write-ahead log has {} MiB", log.len() >> 20);
        signs.push(Sign::new(Code::LogLong, &subject, message));
    }
}

fn examine_room(room: &StatVfs, subject: &str, signs: &mut Vec<Sign>) {
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let code = match free {
        ..ROOM_MIN => Code::DiskFull,
        ROOM_MIN..ROOM_FEW => Code::DiskFilling,
        ROOM_FEW.. => return,
    };
    signs.push(Sign::new(code, subject, format!("its disk has {} MiB of room", free >> 20)));
}

/// The folder and the files directly in it that anybody but their owner may read or write. A key file of root that the
/// server's group reads is how systemd and Kubernetes hand over secrets.
fn readable_by_others(folder: &Path) -> Vec<String> {
    let mut open = Vec::new();
    let mut look = |path: &Path, name: String| {
        if let Ok(found) = std::fs::symlink_metadata(path)
            && !found.is_symlink()
            && found.mode() & 0o077 != 0
        {
            open.push(name);
        }
    };
    look(folder, "the folder".into());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        look(&entry.path(), entry.file_name().to_string_lossy().into_owned());
    }
    open.sort();
    open
}

/// When the embedded database was copied last by a command of ours.
fn examine_backups(location: &DataLocation, signs: &mut Vec<Sign>) {
    let folder = &location.folder;
    if location.database_url.is_some() || !folder.join(backup::DATABASE).exists() {
        return;
    }
    let subject = format!("the data folder {}", folder.display());
    match backup::last(folder) {
        None => signs.push(Sign::new(Code::BackupMissing, subject, "chancery backup was never run on it")),
        Some(made_at) if now() - made_at.as_second() > BACKUP_OLD_SECONDS => {
            signs.push(Sign::new(Code::BackupOld, subject, format!("the last backup was made at {made_at}")));
        }
        Some(_) => {}
    }
}

async fn open_database(location: &DataLocation) -> Result<Db, Sign> {
    let sign = |code, message: String| Sign::new(code, "the database", message);
    let settings = open::settings(location, Access::ReadOnly).map_err(|error| sign(Code::DatabaseClosed, error))?;
    Db::open_read_only(&settings).await.map_err(|error| match error {
        StoreError::Empty => sign(Code::DatabaseEmpty, "it is empty: no server was ever started on it".into()),
        StoreError::Refused(why) => sign(Code::DatabaseUnsafe, why),
        error => sign(Code::DatabaseClosed, error.to_string()),
    })
}

async fn examine_database(location: &DataLocation, mailer: Option<Mailer>, signs: &mut Vec<Sign>) {
    let db = match open_database(location).await {
        Ok(db) => db,
        Err(sign) => return signs.push(sign),
    };
    if let Err(error) = examine_server(&db, signs).await {
        signs.push(Sign::new(Code::DatabaseClosed, "the database", error.to_string()));
    }
    let nowhere = Addresses { public_url: String::new(), publication_url: String::new() };
    let outward = match Outward::nowhere() {
        Ok(outward) => Outward { mailer, ..outward },
        Err(error) => return signs.push(Sign::new(Code::DatabaseClosed, "the database", error.to_string())),
    };
    let services = match open::services(db, location, Access::ReadOnly, Clock::system(), nowhere, outward).await {
        Ok(services) => services,
        Err(error) => return signs.push(Sign::new(Code::MasterKeyWrong, "the master key", error)),
    };
    match services.examine().await {
        Ok(found) => signs.extend(found),
        Err(error) => signs.push(Sign::new(Code::DatabaseClosed, "the database", error.to_string())),
    }
}

/// What a database server allows and how it is set.
async fn examine_server(db: &Db, signs: &mut Vec<Sign>) -> Result<(), StoreError> {
    let Some(allowance) = db.server_allowance().await? else { return Ok(()) };
    let defaults = store::server_defaults::read(db).await?;
    let mut tell = |code, message: String| signs.push(Sign::new(code, "the database", message));
    if allowance.is_standby {
        tell(Code::DatabaseReadOnly, "it is a standby of another server".into());
    } else if defaults.is_read_only {
        tell(Code::DatabaseReadOnly, "it takes no changes: default_transaction_read_only = on".into());
    }
    if !matches!(defaults.synchronous_commit.as_str(), "on" | "remote_apply") {
        tell(Code::DatabaseAsynchronous, format!("synchronous_commit = {}", defaults.synchronous_commit));
    }
    if allowance.connections < CONNECTIONS_MIN {
        tell(Code::DatabaseConnections, format!("it takes {} connections", allowance.connections));
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
