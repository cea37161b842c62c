//! `chancery backup`: a copy of the embedded database in a folder of its own, and what tells whether it is whole.

use crate::cli::backup::BackupArguments;
use crate::config::DataLocation;
use crate::local::say;
use crate::open;
use crate::owner::{self, Owner};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store::{Db, Settings};
use x509::digest::Sha256;

/// The database in a backup and in a data folder.
pub(crate) const DATABASE: &str = "chancery.db";
/// The master key in a backup.
pub(crate) const MASTER_KEY: &str = "master.key";
/// What the first start handed over, in a backup and in a data folder.
pub(crate) const FACTS: &str = "bootstrap.json";
const MANIFEST: &str = "manifest.json";
/// The file of a data folder that says when it was copied last.
const LAST: &str = "last-backup";
const FORMAT: &str = "chancery backup 1";

/// What is in a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    /// The version of the program that made it.
    program: String,
    /// The version of the database's schema.
    pub(crate) schema_version: i64,
    /// When it was made, in UTC: what was committed before is in it.
    pub(crate) made_at: String,
    /// The ids of the master keys that open it.
    pub(crate) master_keys: Vec<String>,
    /// Whether the master key is in it.
    pub(crate) holds_master_key: bool,
    /// How much there is in the database.
    counts: BTreeMap<String, u64>,
    /// The other files.
    pub(crate) files: BTreeMap<String, FileFacts>,
}

/// What a file must be like.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileFacts {
    octets: u64,
    sha256: String,
}

/// What to do where the database is PostgreSQL's.
const POSTGRES_WAYS: &str = "a PostgreSQL database is backed up by PostgreSQL's own tools, also while the servers run:
  pg_dump --format=custom --file=chancery.dump \"$CHANCERY_DATABASE_URL\"
  pg_basebackup --pgdata=base --wal-method=stream --checkpoint=fast
Keep the master key beside neither of them. docs/backup.md says how they are brought back; `chancery restore --finish`
is the last step of it";

/// Makes a backup.
pub(crate) async fn backup(arguments: &BackupArguments, json: bool) -> Result<ExitCode, String> {
    let location = DataLocation::from_arguments(&arguments.database);
    if location.database_url.is_some() {
        return Err(POSTGRES_WAYS.into());
    }
    let database = location.folder.join(DATABASE);
    if !database.exists() {
        return Err(format!(
            "there is no database in the folder {}: name the data folder of the server with --data",
            location.folder.display()
        ));
    }
    let to = &arguments.to;
    if fs::symlink_metadata(to).is_ok() {
        return Err(format!("{} is there already: name a folder that is not", to.display()));
    }
    let parent = folder_of(to);
    open::make_new_folder(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let half = HalfMade::folder_beside(to)?;
    let made_at = jiff::Timestamp::now();
    let before = match arguments.with_secrets {
        true => Some(read_master_key(&location)?),
        false => None,
    };
    let copy = half.path().join(DATABASE);
    drop(create_private(&copy)?);
    Db::copy(&Settings::sqlite(database), &copy).await.map_err(|error| format!("copying the database: {error}"))?;
    let mut manifest = manifest_of(&copy, made_at).await?;
    if let Some(key) = &before {
        // A rotation that came in between may have sealed the copy under the other key.
        if read_master_key(&location)? != *key {
            return Err("the master key was exchanged meanwhile: run the backup again".into());
        }
        write_durable(&half.path().join(MASTER_KEY), key)?;
        manifest.holds_master_key = true;
        if let Ok(facts) = fs::read(location.folder.join(FACTS)) {
            write_durable(&half.path().join(FACTS), &facts)?;
        }
    }
    for name in [DATABASE, MASTER_KEY, FACTS] {
        let path = half.path().join(name);
        if path.exists() {
            manifest.files.insert(name.into(), facts_of(&path)?);
        }
    }
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| error.to_string())?;
    write_durable(&half.path().join(MANIFEST), format!("{text}\n").as_bytes())?;
    half.finish(to)?;
    // The backup is whole; the mark is for `chancery doctor` only.
    let noted = open::write_private(&location.folder.join(LAST), &format!("{made_at}\n"));
    let owner = Owner::of(&location.folder);
    if let Err(error) = noted.and_then(|()| owner::give(owner, &location.folder, &[LAST])) {
        eprintln!("warning: when this backup was made could not be noted: {error}");
    }
    match json {
        true => say!("{text}"),
        false => say_made(to, &manifest),
    }
    Ok(ExitCode::SUCCESS)
}

/// When a data folder was copied last, as far as it is noted in it.
pub(crate) fn last(folder: &Path) -> Option<jiff::Timestamp> {
    fs::read_to_string(folder.join(LAST)).ok()?.trim().parse().ok()
}

fn say_made(to: &Path, manifest: &Manifest) {
    let counts: Vec<String> = manifest.counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    say!("{}: {}", to.display(), counts.join(", "));
    match manifest.holds_master_key {
        true => say!("The master key is in it: whoever has this backup has every private key."),
        false => say!("The master key is not in it: keep a copy of {} elsewhere.", manifest.master_keys.join(", ")),
    }
}

async fn manifest_of(copy: &Path, made_at: jiff::Timestamp) -> Result<Manifest, String> {
    let failed = |error: store::StoreError| format!("reading the copy: {error}");
    let db = Db::open_read_only(&Settings::sqlite(copy)).await.map_err(failed)?;
    let contents = store::backup::contents(&db).await.map_err(failed)?;
    let master_keys = store::backup::master_keys(&db).await.map_err(failed)?;
    db.close().await;
    if master_keys.is_empty() {
        return Err("the database is empty: start the server on it once".into());
    }
    let counts = [
        ("certificates", contents.certificates),
        ("authorities", contents.authorities),
        ("revocations", contents.revocations),
        ("audit records", contents.audit_records),
    ];
    Ok(Manifest {
        format: FORMAT.into(),
        program: env!("CARGO_PKG_VERSION").into(),
        schema_version: store::backup::schema_version(),
        made_at: made_at.to_string(),
        master_keys,
        holds_master_key: false,
        counts: counts.map(|(name, count)| (name.to_owned(), count)).into(),
        files: BTreeMap::new(),
    })
}

impl Manifest {
    /// Reads the manifest of a backup, and refuses one that this program cannot bring back.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join(MANIFEST);
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}: is it a backup?", path.display()))?;
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| format!("{}: it is damaged: {error}", path.display()))?;
        if manifest.format != FORMAT {
            return Err(format!("{}: {} is not \"{FORMAT}\"", path.display(), manifest.format));
        }
        let known = store::backup::schema_version();
        if manifest.schema_version > known {
            return Err(format!(
                "the backup has schema version {}, this program knows up to {known}: use chancery {}",
                manifest.schema_version, manifest.program
            ));
        }
        let is_known = |name: &String| [DATABASE, MASTER_KEY, FACTS].contains(&name.as_str());
        if !manifest.files.keys().all(is_known) || !manifest.files.contains_key(DATABASE) {
            return Err(format!("{}: it is damaged: it does not name the files of a backup", path.display()));
        }
        Ok(manifest)
    }

    /// Copies a file of the backup to a place where there is none, and refuses one that is not as it was.
    pub(crate) fn copy(&self, folder: &Path, name: &str, to: &Path) -> Result<(), String> {
        let path = folder.join(name);
        let facts = self.files.get(name).ok_or_else(|| format!("{} is not in the manifest", path.display()))?;
        let failed = |error: std::io::Error| format!("copying {}: {error}", path.display());
        let mut from = File::open(&path).map_err(failed)?;
        let mut file = create_private(to)?;
        let (octets, sha256) = pass_on(&mut from, &mut file).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        if octets != facts.octets || sha256 != facts.sha256 {
            return Err(format!(
                "{} is damaged: it has {octets} octets and SHA-256 {sha256}, the manifest says {} and {}",
                path.display(),
                facts.octets,
                facts.sha256
            ));
        }
        Ok(())
    }
}

/// The master key as it stands in its file, when that is the only one.
fn read_master_key(location: &DataLocation) -> Result<Vec<u8>, String> {
    if std::env::var_os("CHANCERY_MASTER_KEY").is_some_and(|value| !value.is_empty()) {
        return Err("the master key comes from the environment: leave out --with-secrets and keep it elsewhere".into());
    }
    let path = &location.master_key_file;
    for beside in [".next", ".previous"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        if Path::new(&name).exists() {
            return Err("the master key is being exchanged: run `chancery keys rotate-master` to its end first".into());
        }
    }
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn facts_of(path: &Path) -> Result<FileFacts, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let (octets, sha256) = pass_on(&mut file, &mut std::io::sink()).map_err(failed)?;
    Ok(FileFacts { octets, sha256 })
}

/// Copies octets, and gives their number and their SHA-256 in hex.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<(u64, String)> {
    let (mut octets, mut digest) = (0, Sha256::default());
    let mut piece = vec![0; 1 << 18];
    loop {
        let length = match from.read(&mut piece) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok((octets, digest.finish().iter().map(|octet| format!("{octet:02x}")).collect()));
        }
        digest.update(&piece[..length]);
        to.write_all(&piece[..length])?;
        octets += length as u64;
    }
}

/// A new file that only its owner can read.
pub(crate) fn create_private(path: &Path) -> Result<File, String> {
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    options.open(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write_durable(path: &Path, octets: &[u8]) -> Result<(), String> {
    let mut file = create_private(path)?;
    file.write_all(octets).and_then(|()| file.sync_all()).map_err(|error| format!("{}: {error}", path.display()))
}

/// Makes what was done in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), String> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| format!("{}: {error}", folder.display()))
}

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file or folder under a name of its own until it is whole. What is not finished is removed.
pub(crate) struct HalfMade {
    path: PathBuf,
    is_finished: bool,
    /// What says to others that somebody is at work on the folder; a process that is killed lets go of it.
    lock: Option<File>,
}

impl HalfMade {
    /// A folder for its owner only, beside the place that it is meant for.
    pub(crate) fn folder_beside(to: &Path) -> Result<Self, String> {
        remove_left(folder_of(to));
        let mut half = Self::beside(to)?;
        half.make_folder()?;
        let lock = File::open(&half.path).and_then(|folder| folder.lock().map(|()| folder));
        half.lock = Some(lock.map_err(|error| format!("{}: {error}", half.path.display()))?);
        Ok(half)
    }

    /// A folder for its owner only, at this path.
    pub(crate) fn folder_at(path: PathBuf) -> Result<Self, String> {
        let half = Self { path, is_finished: false, lock: None };
        half.make_folder()?;
        Ok(half)
    }

    fn make_folder(&self) -> Result<(), String> {
        let made = DirBuilder::new().mode(0o700).create(&self.path);
        made.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// A path beside the place that it is meant for, at which there is nothing yet.
    pub(crate) fn beside(to: &Path) -> Result<Self, String> {
        let name = to.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| format!("{} is not a name for it", to.display()))?;
        let path = folder_of(to).join(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
        Ok(Self { path, is_finished: false, lock: None })
    }

    /// Where it is until it is whole.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, unless something has that name by now.
    pub(crate) fn finish(mut self, to: &Path) -> Result<(), String> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if self.path.is_dir() {
            sync_folder(&self.path)?;
        }
        renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE)
            .map_err(|error| format!("{}: {}", to.display(), std::io::Error::from(error)))?;
        self.is_finished = true;
        sync_folder(folder_of(to))
    }
}

/// Removes the half-made backups in a folder that were left by processes which are gone. One that somebody is at work on is
/// locked. Other things may be called like that: what holds anything but the files of a backup stays, and so does an
/// empty folder, which may be about to be locked.
fn remove_left(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_half_made = name
            .to_str()
            .and_then(|name| name.strip_prefix('.')?.rsplit_once('.'))
            .is_some_and(|(_, unique)| unique.len() == 32 && unique.bytes().all(|octet| octet.is_ascii_hexdigit()));
        if !is_half_made || !entry.file_type().is_ok_and(|kind| kind.is_dir()) || !holds_backup_only(&path) {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        if lock.try_lock().is_ok() {
            eprintln!("{}: a backup that was cut off has left it; it is removed", path.display());
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Whether there is something in a folder, and nothing but files that a backup has or makes on its way.
fn holds_backup_only(folder: &Path) -> bool {
    let known = |name: &str| [MASTER_KEY, FACTS, MANIFEST].contains(&name) || name.starts_with(DATABASE);
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let names: Vec<_> = names.collect();
    !names.is_empty() && names.iter().all(|name| name.to_str().is_some_and(known))
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nothing is left to do when it cannot be removed; its name says that it is nothing whole.
            let _ = match self.path.is_dir() {
                true => fs::remove_dir_all(&self.path),
                false => fs::remove_file(&self.path),
            };
        }
    }
}
