//! `chancery backup`, `restore`, `export` and `import`: how they are typed. They work on this machine's own data, and
//! what they do is elsewhere.

use std::path::PathBuf;

use clap::Args;

use super::local::DatabaseArguments;

/// Copy the embedded database into a folder, also while the server runs.
///
/// The copy is the database as it is at one moment, with a manifest that has the SHA-256 of every file. The folder must
/// not be there yet. The MASTER KEY IS NOT IN IT, unless --with-secrets asks for it: keep a copy of it elsewhere, since
/// without it nothing in a backup opens. For PostgreSQL the command says which of its tools to use.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  chancery backup /var/backups/chancery/2026-11-28
  chancery backup --with-secrets /mnt/vault/chancery --data /var/lib/chancery")]
pub struct BackupArguments {
    /// The folder that is made for it.
    #[arg(value_name = "FOLDER")]
    pub to: PathBuf,
    /// Put the master key and bootstrap.json into it, too: whoever has such a backup has every private key.
    #[arg(long)]
    pub with_secrets: bool,
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// Bring a backup back as the data of a server, or end the restore of a PostgreSQL database.
///
/// After a restore every revocation list jumps to a number that none has had, access tokens end, and nothing that was
/// under way counts any more. Lists that were published after the backup say what was revoked since: name them with
/// --list.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  chancery restore /var/backups/chancery/2026-11-28 --data data
  chancery restore /var/backups/chancery/2026-11-28 --replace --list /var/www/crl/issuing.crl
  chancery restore --finish --database postgres://chancery@db/chancery --list issuing.crl")]
pub struct RestoreArguments {
    /// The folder of the backup.
    #[arg(value_name = "BACKUP", required_unless_present = "finish", conflicts_with = "finish")]
    pub from: Option<PathBuf>,
    /// Only end a restore: the database was put back by other means, as by PostgreSQL's own tools.
    #[arg(long, conflicts_with = "replace")]
    pub finish: bool,
    /// Put the data that are in the folder aside, into a folder beside them.
    #[arg(long)]
    pub replace: bool,
    /// A revocation list that was published after the backup, in PEM or DER; may be given many times.
    #[arg(long = "list", value_name = "FILE")]
    pub lists: Vec<PathBuf>,
    /// Let access tokens that were issued before go on, also those that were revoked after the backup.
    #[arg(long)]
    pub keep_tokens: bool,
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// Write everything that is in the database into one file, to move it to the other engine.
///
/// Stop the server before: what is done after this begins is not in the file. Secrets stay sealed, and the master key
/// is not in it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  chancery export chancery.export
  chancery export chancery.export --database postgres://chancery@db/chancery")]
pub struct ExportArguments {
    /// The file, which must not be there yet.
    #[arg(value_name = "FILE")]
    pub to: PathBuf,
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// Read everything that was exported into an empty database of either engine.
///
/// All of it or nothing. The program must have the schema of the one that wrote the file. The master key goes with the
/// data: copy it, too.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  chancery import chancery.export --database postgres://chancery@db/chancery
  chancery import chancery.export --data /var/lib/chancery")]
pub struct ImportArguments {
    /// The file.
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
    /// Where the data is to be.
    #[command(flatten)]
    pub database: DatabaseArguments,
}
