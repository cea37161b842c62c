//! Opens what the configuration names: the data folder, the database, the master key, and the use cases over them.

use crate::config::DataLocation;
use keys::{KeyPool, Keyring, MasterKey, PoolSize};
use services::{Addresses, Clock, Context, Outward, Random};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use store::{Db, Settings};

/// As what the data are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// As the server: makes what is missing, brings the schema up to date, writes.
    Server,
    /// Beside a server: reads only, and makes nothing.
    ReadOnly,
    /// Beside a server: a few writes, under a node name of its own.
    Maintenance,
}

/// How long a start waits for the server before it, which may be about to end.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(3);

/// The file that is locked by whoever holds a data folder.
pub const CLAIM: &str = "server.lock";
/// The file with the name of this node.
pub const NODE: &str = "node";
/// The file that is there while a restore moves files.
pub const UNDER_WAY: &str = "restore-under-way";

/// Makes the data folder when it is missing, and holds it for one server until the file is closed or the process ends.
pub fn claim(folder: &Path) -> Result<File, String> {
    let claim = claim_for_restore(folder)?;
    match folder.join(UNDER_WAY).exists() {
        false => Ok(claim),
        true => Err(format!(
            "a restore was cut off while it moved files in {}: run `chancery restore` again, with --replace",
            folder.display()
        )),
    }
}

/// Whether a server holds a data folder at the moment.
pub fn is_claimed(folder: &Path) -> bool {
    File::open(folder.join(CLAIM)).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Like [`claim`], also where a restore was cut off.
pub fn claim_for_restore(folder: &Path) -> Result<File, String> {
    make_folder(folder)?;
    let path = folder.join(CLAIM);
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
    let file = options.open(&path).map_err(failed)?;
    let until = Instant::now() + CLAIM_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => {
                return Err(format!("another server runs on the data folder {}", folder.display()));
            }
        }
    }
}

/// Opens the database.
pub async fn database(location: &DataLocation, access: Access) -> Result<Db, String> {
    let settings = settings(location, access)?;
    let opened = match access {
        Access::Server => Db::open(&settings.with_node(node_name(&location.folder)?)).await,
        Access::ReadOnly => Db::open_read_only(&settings).await,
        Access::Maintenance => Db::open_beside(&settings.with_node("maintenance")).await,
    };
    opened.map_err(|error| format!("the database: {error}"))
}

/// Where the database is. Only a server makes one.
pub fn settings(location: &DataLocation, access: Access) -> Result<Settings, String> {
    let settings = match &location.database_url {
        Some(url) => Settings {
            readers: location.readers(),
            statement_time: Duration::from_secs(location.database_statement_seconds.into()),
            ..Settings::postgres(url.clone())
        },
        None => Settings::sqlite(location.folder.join("chancery.db")),
    };
    if location.database_url.is_none() && access != Access::Server && !location.folder.join("chancery.db").exists() {
        return Err(format!(
            "there is no database in the folder {}: name the data folder of the server with --data, or its database \
             with --database",
            location.folder.display()
        ));
    }
    Ok(settings)
}

/// Opens the use cases over a database.
pub async fn services(
    db: Db,
    location: &DataLocation,
    access: Access,
    clock: Clock,
    addresses: Addresses,
    outward: Outward,
) -> Result<Context, String> {
    let keyring = keyring(&db, location, access).await?;
    let pool = KeyPool::start(PoolSize::default()).map_err(|error| error.to_string())?;
    let services = Context::new(db, keyring, pool, clock, Random::system(), addresses, outward);
    services.open_up().await.map_err(|error| error.to_string())?;
    if access == Access::Server {
        // Under a new key from the environment, or that of a rotation that was broken off.
        services.reseal_data_keys().await.map_err(|error| error.to_string())?;
    }
    Ok(services)
}

/// The master key from the environment, or from its file, which is made at the first start only: a database with sealed
/// keys and no master key is not opened with a new one.
async fn keyring(db: &Db, location: &DataLocation, access: Access) -> Result<Keyring, String> {
    if let Some(current) = master_key_from_environment("CHANCERY_MASTER_KEY")? {
        return Ok(Keyring::with(current, master_key_from_environment("CHANCERY_MASTER_KEY_PREVIOUS")?));
    }
    let path = &location.master_key_file;
    let is_new = store::secret::data_keys(db).await.map_err(|error| error.to_string())?.is_empty();
    match (is_new, access) {
        (true, Access::Server) => {
            MasterKey::from_file_or_create(path).map_err(|error| format!("the master key: {error}"))?;
        }
        (true, Access::ReadOnly | Access::Maintenance) => {
            return Err("the database is empty: start the server on it once".into());
        }
        (false, _) => {}
    }
    Keyring::from_file(path).map_err(|error| {
        format!(
            "the master key: {error}. Without the key that sealed this database nothing in it opens, so no new one is \
             made: name the data folder of a server with --data, or its key with --master-key-file or CHANCERY_MASTER_KEY; \
             if {} is lost, bring it back from a backup",
            path.display()
        )
    })
}

/// A master key in a variable. An empty variable counts as none.
fn master_key_from_environment(name: &str) -> Result<Option<MasterKey>, String> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => MasterKey::from_environment(&value)
            .map(Some)
            .map_err(|_| format!("{name} is not a master key: 32 bytes as base64 or as 64 hexadecimal digits")),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{name} is not text")),
    }
}

/// A folder that is new, or empty as somebody made it for us, is for its owner only.
fn make_folder(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the data folder {}: {error}", folder.display());
    if !folder.is_dir() {
        return make_new_folder(folder).map_err(failed);
    }
    let is_empty = std::fs::read_dir(folder).map_err(failed)?.next().is_none();
    if is_empty {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Makes a folder and those that it is in. Its name outlives a loss of power when the folder that has the name is synced.
pub(crate) fn make_new_folder(folder: &Path) -> std::io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The name of this node in the audit, kept in its data folder: each node of one database needs its own.
pub fn node_name(folder: &Path) -> Result<String, String> {
    let path = folder.join(NODE);
    if let Ok(name) = std::fs::read_to_string(&path) {
        return Ok(name.trim().to_owned());
    }
    let name = format!("node-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    write_private(&path, &name)?;
    Ok(name)
}

/// Writes a file that only its owner can read: beside its place first, then moved there, so that it is whole or absent.
pub fn write_private(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = folder.join(format!(
        ".{}.{}",
        path.file_name().and_then(|name| name.to_str()).unwrap_or("file"),
        uuid::Uuid::new_v4().simple()
    ));
    let written = write_whole(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&beside);
        return Err(failed(error));
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
