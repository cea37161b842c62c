//! `chancery restore`: a backup becomes the data of a server again. Everything is made ready in a folder of its own
//! inside the data folder, and then moved into place.

use crate::backup::{DATABASE, FACTS, HalfMade, MASTER_KEY, Manifest, folder_of, sync_folder};
use crate::cli::backup::RestoreArguments;
use crate::config::DataLocation;
use crate::local::say;
use crate::open::{self, Access, NODE};
use crate::owner::{self, Owner};
use serde_json::{Value, json};
use services::restore::{OldTokens, RestoreOrder, RestoreReport};
use services::{Addresses, Clock, Outward};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store::{Db, Settings};

/// How the folders are called in which a restore makes things ready.
pub(crate) const STAGE: &str = "restore-";

/// Brings a backup back, or ends a restore that other tools began.
pub(crate) async fn restore(arguments: &RestoreArguments, json: bool) -> Result<ExitCode, String> {
    let location = DataLocation::from_arguments(&arguments.database);
    let report = match &arguments.from {
        None => finish(arguments, &location).await?,
        Some(from) => from_backup(arguments, from, &location).await?,
    };
    owner::tell_of_root(&location.folder);
    match json {
        true => say!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?),
        false => say_report(&report),
    }
    Ok(ExitCode::SUCCESS)
}

fn say_report(report: &RestoreReport) {
    say!("{} revocation lists were published anew, with numbers from {} on", report.lists, report.lists_from_number);
    say!("{} access tokens were ended", report.tokens_ended);
    for serial in &report.revoked {
        say!("{serial}: revoked, because a later list says so");
    }
    for serial in &report.unknown {
        say!("{serial}: a later list names it, and nothing else is known of it; it stays on the lists");
    }
    say!("The restore is done: start the server, then look with `chancery fsck`.");
}

/// The lists are read before anything is touched.
fn order(arguments: &RestoreArguments, source: Value) -> Result<RestoreOrder, String> {
    let read = |path: &PathBuf| {
        let octets = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((path.display().to_string(), octets))
    };
    let lists: Result<Vec<(String, Vec<u8>)>, String> = arguments.lists.iter().map(read).collect();
    let tokens = if arguments.keep_tokens { OldTokens::Keep } else { OldTokens::End };
    Ok(RestoreOrder { lists: lists?, tokens, source })
}

/// Ends the restore of a database that is where it belongs already.
async fn finish(arguments: &RestoreArguments, location: &DataLocation) -> Result<RestoreReport, String> {
    let order = order(arguments, json!({ "by": "other tools" }))?;
    let owner = Owner::of(&location.folder);
    let _claim = open::claim(&location.folder)?;
    owner::give(owner, &location.folder, &[open::CLAIM])?;
    if let Some(url) = &location.database_url {
        let others = Db::count_others(&Settings::postgres(url.clone())).await;
        match others.map_err(|error| format!("the database: {error}"))? {
            0 => {}
            others => return Err(format!("{others} connections of servers are open on the database: stop them first")),
        }
    } else if !location.folder.join(DATABASE).exists() {
        return Err(format!("there is no database in the folder {}", location.folder.display()));
    }
    let done = finish_at(location, &order).await;
    owner::give(owner, &location.folder, &[NODE, "chancery.db.lock"])?;
    done
}

async fn finish_at(location: &DataLocation, order: &RestoreOrder) -> Result<RestoreReport, String> {
    // As the server, for a backup of an older release is brought up to date here.
    let db = open::database(location, Access::Server).await?;
    let done = finish_in(db.clone(), location, order).await;
    db.close().await;
    done
}

async fn finish_in(db: Db, location: &DataLocation, order: &RestoreOrder) -> Result<RestoreReport, String> {
    let nowhere = Addresses { public_url: String::new(), publication_url: String::new() };
    let outward = Outward::nowhere().map_err(|error| error.to_string())?;
    let services = open::services(db, location, Access::Maintenance, Clock::system(), nowhere, outward).await?;
    services.finish_restore(order).await.map_err(|error| error.to_string())
}

/// What a restore from a backup works with.
struct Restore<'a> {
    arguments: &'a RestoreArguments,
    from: &'a Path,
    manifest: Manifest,
    location: &'a DataLocation,
    /// Whom the data folder belongs to, when that is not who runs this.
    owner: Option<Owner>,
}

async fn from_backup(
    arguments: &RestoreArguments,
    from: &Path,
    location: &DataLocation,
) -> Result<RestoreReport, String> {
    if location.database_url.is_some() {
        return Err(
            "a backup folder is one of the embedded database: leave out --database. A PostgreSQL database is put back \
                    by its own tools, and then by `chancery restore --finish`; see docs/backup.md"
                .into(),
        );
    }
    let manifest = Manifest::read(from)?;
    let source = json!({ "by": "backup", "madeAt": manifest.made_at });
    let order = order(arguments, source)?;
    let folder = &location.folder;
    let is_new = !folder.exists();
    let owner = Owner::of(folder);
    let claim = open::claim_for_restore(folder)?;
    owner::give(owner, folder, &[open::CLAIM])?;
    let done = Restore { arguments, from, manifest, location, owner }.run(&order).await;
    if done.is_err() && is_new {
        // Only what the claim has made; a folder that holds anything else stays.
        let _ = fs::remove_file(folder.join(open::CLAIM)).and_then(|()| fs::remove_dir(folder));
    }
    drop(claim);
    done
}

impl Restore<'_> {
    async fn run(&self, order: &RestoreOrder) -> Result<RestoreReport, String> {
        let folder = &self.location.folder;
        if folder.join(DATABASE).exists() && !self.arguments.replace {
            return Err(format!(
                "there is a database in {} already: name another folder with --data, or put it aside with --replace",
                folder.display()
            ));
        }
        remove_old_stages(folder)?;
        let name = format!("{STAGE}{}", uuid::Uuid::new_v4().simple());
        let stage = HalfMade::folder_at(folder.join(name))?;
        let staged = |name: &str| stage.path().join(name);
        let brings_key = self.brings_key()?;
        for name in self.manifest.files.keys().filter(|name| *name != MASTER_KEY || brings_key) {
            self.manifest.copy(self.from, name, &staged(name))?;
        }
        let master_key_file = if brings_key { staged(MASTER_KEY) } else { self.location.master_key_file.clone() };
        let folder = stage.path().to_owned();
        let at_stage = DataLocation { folder, database_url: None, master_key_file, ..self.location.clone() };
        let report = finish_at(&at_stage, order).await?;
        if fs::metadata(staged("chancery.db-wal")).is_ok_and(|log| log.len() > 0) {
            return Err("the restored database was not closed well: try again".into());
        }
        owner::give(self.owner, stage.path(), &[DATABASE, NODE, FACTS])?;
        if brings_key && let Some(owner) = self.owner_of_key() {
            owner.take(&staged(MASTER_KEY))?;
        }
        self.put_in_place(stage.path(), brings_key)?;
        Ok(report)
    }

    /// Whether the backup's own master key is used. One that is there already stays, unless it is another.
    fn brings_key(&self) -> Result<bool, String> {
        let path = &self.location.master_key_file;
        let is_from_environment = std::env::var_os("CHANCERY_MASTER_KEY").is_some_and(|value| !value.is_empty());
        if is_from_environment {
            return Ok(false);
        }
        if !self.manifest.holds_master_key {
            return match path.exists() {
                true => Ok(false),
                false => Err(format!(
                    "the master key is not in the backup: put it at {}, or name it with --master-key-file or \
                     CHANCERY_MASTER_KEY; the backup opens with {}",
                    path.display(),
                    self.manifest.master_keys.join(", ")
                )),
            };
        }
        let Ok(present) = fs::read(path) else { return Ok(true) };
        let own = fs::read(self.from.join(MASTER_KEY)).map_err(|error| format!("the backup's master key: {error}"))?;
        match (present == own, self.arguments.replace) {
            (true, _) => Ok(false),
            (false, true) => Ok(true),
            (false, false) => Err(format!(
                "the backup has another master key than {}: move that away, or put it aside with --replace",
                path.display()
            )),
        }
    }

    /// Whom a master key that the backup brings is to belong to: as the one that it replaces, or as the folder that it
    /// comes into.
    fn owner_of_key(&self) -> Option<Owner> {
        let path = &self.location.master_key_file;
        let before = if path.exists() { path } else { folder_of(path) };
        Owner::of(before)
    }

    /// The mark keeps a server from starting on what a kill has left half moved.
    fn put_in_place(&self, stage: &Path, brings_key: bool) -> Result<(), String> {
        let folder = &self.location.folder;
        let mark = folder.join(open::UNDER_WAY);
        File::create(&mark).map_err(|error| format!("{}: {error}", mark.display()))?;
        owner::give(self.owner, folder, &[open::UNDER_WAY])?;
        sync_folder(folder)?;
        let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
        let aside = folder.join(format!("replaced-{at}"));
        let brings_facts = stage.join(FACTS).exists();
        for name in [DATABASE, "chancery.db-wal", "chancery.db-shm", NODE, FACTS] {
            let path = folder.join(name);
            if path.exists() && (name != FACTS || brings_facts) {
                if !aside.exists() {
                    DirBuilder::new().mode(0o700).create(&aside).map_err(|error| error.to_string())?;
                    if let Some(owner) = self.owner {
                        owner.take(&aside)?;
                    }
                }
                rename(&path, &aside.join(name))?;
            }
        }
        let key = &self.location.master_key_file;
        if brings_key {
            if key.exists() {
                let mut name = key.as_os_str().to_owned();
                name.push(format!(".replaced-{at}"));
                rename(key, Path::new(&name))?;
            }
            rename(&stage.join(MASTER_KEY), key)?;
            sync_folder(folder_of(key))?;
        }
        for name in [NODE, FACTS, DATABASE] {
            if stage.join(name).exists() {
                rename(&stage.join(name), &folder.join(name))?;
            }
        }
        sync_folder(folder)?;
        fs::remove_file(&mark).map_err(|error| format!("{}: {error}", mark.display()))?;
        sync_folder(folder)
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to).map_err(|error| format!("moving {} to {}: {error}", from.display(), to.display()))
}

/// What restores that were killed have left.
pub(crate) fn remove_old_stages(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let is_stage = name.to_str().and_then(|name| name.strip_prefix(STAGE)).is_some_and(|rest| rest.len() == 32);
        if is_stage && entry.path().is_dir() {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}
