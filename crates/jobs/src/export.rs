//! Puts every new revocation list into a folder too, for web servers that hand lists to the world.

use domain::{CrlId, Error, Result};
use services::Context;
use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// After how long a folder that could not be written to is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// A folder of lists, each under its id with `.crl`, and those of changes with `.delta.crl`.
pub(crate) struct ListFolder {
    folder: PathBuf,
    /// The numbers of the lists that were put there.
    numbers: HashMap<CrlId, u64>,
    failed_at: Option<Instant>,
}

impl ListFolder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, numbers: HashMap::new(), failed_at: None }
    }

    /// Puts the lists there that are newer than those that are; nothing for a while after that failed.
    pub(crate) async fn update(&mut self, services: &Context) -> Result<()> {
        if self.failed_at.is_some_and(|at| at.elapsed() < RETRY) {
            return Ok(());
        }
        let outcome = self.put_what_is_new(services).await;
        self.failed_at = outcome.is_err().then(Instant::now);
        outcome
    }

    async fn put_what_is_new(&mut self, services: &Context) -> Result<()> {
        for (id, number) in services.list_numbers().await? {
            if self.numbers.get(&id).is_some_and(|there| *there >= number) {
                continue;
            }
            let lists = services.lists_to_deliver(id).await?;
            let (folder, number) = (self.folder.clone(), lists.number);
            let write_all = move || lists.files.iter().try_for_each(|(name, der)| write(&folder, name, der));
            let written = tokio::task::spawn_blocking(write_all).await;
            let failed = |error: String| Error::failed(format!("the folder of revocation lists: {error}"));
            written.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
            self.numbers.insert(id, number);
        }
        Ok(())
    }
}

/// Whoever reads the file sees the old list or the new one, never a part.
fn write(folder: &Path, name: &str, der: &[u8]) -> std::io::Result<()> {
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let partial = folder.join(format!("{name}.partial"));
    let mut file = File::create(&partial)?;
    file.write_all(der)?;
    file.sync_all()?;
    // A web server of another user reads it, whatever this one's umask is.
    fs::set_permissions(&partial, Permissions::from_mode(0o644))?;
    fs::rename(&partial, folder.join(name))
}
