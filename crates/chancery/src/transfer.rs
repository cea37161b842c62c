//! `chancery export` and `chancery import`: everything from a database of one engine into one of the other.

use crate::backup::{DATABASE, HalfMade, create_private, sync_folder};
use crate::cli::backup::{ExportArguments, ImportArguments};
use crate::config::DataLocation;
use crate::local::say;
use crate::open;
use crate::owner::{self, Owner};
use crate::restore::{STAGE, remove_old_stages};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::process::ExitCode;
use store::transfer::{self, Summary};
use store::{Db, Settings};

const BUFFER: usize = 1 << 20;

/// Writes everything into a file.
pub(crate) async fn export(arguments: &ExportArguments, json: bool) -> Result<ExitCode, String> {
    let location = DataLocation::from_arguments(&arguments.database);
    let to = &arguments.to;
    if fs::symlink_metadata(to).is_ok() {
        return Err(format!("{} is there already: name a file that is not", to.display()));
    }
    let settings = settings(&location);
    if location.database_url.is_none() && !location.folder.join(DATABASE).exists() {
        return Err(format!(
            "there is no database in the folder {}: name the data folder of the server with --data, or its database \
             with --database",
            location.folder.display()
        ));
    }
    let is_worked_on = match location.database_url {
        None => open::is_claimed(&location.folder),
        Some(_) => Db::count_others(&settings).await.map_err(|error| format!("the database: {error}"))? > 0,
    };
    if is_worked_on {
        eprintln!("a server works on the database: what it does from now on is not in the export");
    }
    let half = HalfMade::beside(to)?;
    let mut file = create_private(half.path())?;
    let made_at = jiff::Timestamp::now().to_string();
    let program = env!("CARGO_PKG_VERSION");
    let exported = transfer::export(&settings, program, &made_at, BufWriter::with_capacity(BUFFER, &mut file), tell);
    let summary = exported.await.map_err(|error| error.to_string())?;
    file.sync_all().map_err(|error| format!("{}: {error}", to.display()))?;
    half.finish(to)?;
    say_summary("exported", &summary, json)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads everything from a file into an empty database.
pub(crate) async fn import(arguments: &ImportArguments, json: bool) -> Result<ExitCode, String> {
    let location = DataLocation::from_arguments(&arguments.database);
    let path = &arguments.from;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    // All of it is read once before anything is begun.
    let (header, expected) = transfer::check(open_file(path)?).map_err(|error| failed(&error))?;
    eprintln!(
        "{}: {} rows of a {} database, made at {} by chancery {}",
        path.display(),
        expected.total(),
        header.engine,
        header.made_at,
        header.program
    );
    let summary = match &location.database_url {
        Some(_) => {
            transfer::import(&settings(&location), open_file(path)?, tell).await.map_err(|error| failed(&error))?
        }
        None => import_into_folder(&location.folder, path).await?,
    };
    if summary != expected {
        return Err(format!("{} was changed while it was imported; what was imported is whole", path.display()));
    }
    say_summary("imported", &summary, json)?;
    if location.database_url.is_none() {
        owner::tell_of_root(&location.folder);
    }
    if !json {
        match location.master_key_file.exists() {
            true => say!("Look at it with `chancery fsck`."),
            false => {
                say!("Copy the master key to {}, then look with `chancery fsck`.", location.master_key_file.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The database is filled where no server looks for it, and moved when it is whole.
async fn import_into_folder(folder: &Path, path: &Path) -> Result<Summary, String> {
    let owner = Owner::of(folder);
    let _claim = open::claim(folder)?;
    owner::give(owner, folder, &[open::CLAIM])?;
    let database = folder.join(DATABASE);
    if database.exists() {
        return Err(format!("there is a database in {} already: import into another folder", folder.display()));
    }
    remove_old_stages(folder)?;
    let stage = HalfMade::folder_at(folder.join(format!("{STAGE}{}", uuid::Uuid::new_v4().simple())))?;
    let staged = stage.path().join(DATABASE);
    let imported = transfer::import(&Settings::sqlite(&staged), open_file(path)?, tell).await;
    let summary = imported.map_err(|error| format!("{}: {error}", path.display()))?;
    File::open(&staged).and_then(|file| file.sync_all()).map_err(|error| format!("{}: {error}", staged.display()))?;
    owner::give(owner, stage.path(), &[DATABASE])?;
    fs::rename(&staged, &database).map_err(|error| format!("{}: {error}", database.display()))?;
    sync_folder(folder)?;
    Ok(summary)
}

fn settings(location: &DataLocation) -> Settings {
    match &location.database_url {
        Some(url) => Settings::postgres(url.clone()),
        None => Settings::sqlite(location.folder.join(DATABASE)),
    }
}

fn open_file(path: &Path) -> Result<BufReader<File>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(BufReader::with_capacity(BUFFER, file))
}

fn tell(table: &str, rows: u64) {
    if rows > 0 {
        eprintln!("{table}: {rows}");
    }
}

fn say_summary(done: &str, summary: &Summary, json: bool) -> Result<(), String> {
    if json {
        say!("{}", serde_json::to_string_pretty(summary).map_err(|error| error.to_string())?);
        return Ok(());
    }
    for (table, rows) in summary.rows.iter().filter(|(_, rows)| **rows > 0) {
        say!("{rows:>12}  {table}");
    }
    say!("{} rows were {done}", summary.total());
    say!("SHA-256 of the contents: {}", summary.contents);
    Ok(())
}
