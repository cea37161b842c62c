//! Opens what the configuration names: the database, the master key, and the use cases over both.

use crate::config::DataLocation;
use keys::{KeyPool, Keyring, MasterKey, PoolSize};
use services::{Addresses, Clock, Context, Random};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use store::{Db, Settings};

/// Opens the database as a server, or to read beside one.
pub enum Access {
    /// As the server: brings the schema up to date, writes.
    Server,
    /// Beside a server: reads only.
    ReadOnly,
    /// Beside a server: a few writes, under a node name of its own.
    Maintenance,
}

/// Opens the database.
pub async fn database(location: &DataLocation, access: &Access) -> Result<Db, String> {
    make_folder(&location.folder)?;
    let settings = match &location.database_url {
        Some(url) => Settings::postgres(url.clone()).with_node(node_name(&location.folder)?),
        None => Settings::sqlite(location.folder.join("chancery.db")),
    };
    let opened = match access {
        Access::Server => Db::open(&settings).await,
        Access::ReadOnly => Db::open_read_only(&settings).await,
        Access::Maintenance => Db::open_beside(&settings.with_node("maintenance")).await,
    };
    opened.map_err(|error| format!("the database: {error}"))
}

/// Opens the use cases over a database.
pub async fn services(db: Db, location: &DataLocation, clock: Clock, addresses: Addresses) -> Result<Context, String> {
    let keyring = keyring(&db, location).await?;
    let pool = KeyPool::start(PoolSize::default()).map_err(|error| error.to_string())?;
    let services = Context::new(db, keyring, pool, clock, Random::system(), addresses);
    services.open_up().await.map_err(|error| error.to_string())?;
    Ok(services)
}

/// The master key from the environment, or from its file, which is made at the first start only: a database with sealed
/// keys and no master key is not opened with a new one.
async fn keyring(db: &Db, location: &DataLocation) -> Result<Keyring, String> {
    if let Ok(value) = std::env::var("CHANCERY_MASTER_KEY") {
        let previous = match std::env::var("CHANCERY_MASTER_KEY_PREVIOUS") {
            Ok(value) => Some(MasterKey::from_environment(&value).map_err(|error| format!("CHANCERY_MASTER_KEY_PREVIOUS: {error}"))?),
            Err(_) => None,
        };
        let current = MasterKey::from_environment(&value).map_err(|error| format!("CHANCERY_MASTER_KEY: {error}"))?;
        return Ok(Keyring::with(current, previous));
    }
    let path = &location.master_key_file;
    let is_new = store::secret::data_keys(db).await.map_err(|error| error.to_string())?.is_empty();
    if is_new {
        MasterKey::from_file_or_create(path).map_err(|error| format!("the master key: {error}"))?;
    }
    Keyring::from_file(path).map_err(|error| format!("the master key {}: {error}", path.display()))
}

fn make_folder(folder: &Path) -> Result<(), String> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| format!("the data folder {}: {error}", folder.display()))
}

/// The name of this node in the audit, kept in its data folder: each node of one database needs its own.
pub fn node_name(folder: &Path) -> Result<String, String> {
    let path = folder.join("node");
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
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
