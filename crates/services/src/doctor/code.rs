//! The kinds of signs: a stable code for scripts, how much each matters, and what to do about it.

use serde::Serialize;

/// How much a sign matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It will be a problem.
    Warning,
    /// It is a problem now.
    Error,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $severity:ident, $remedy:literal;)*) => {
        /// The kind of a sign.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl Code {
            /// All of them, in the order of docs/doctor.md.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code, which stays the same over releases.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How much it matters.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What to do.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    /// The configuration is refused.
    ConfigurationRefused, "configuration-refused", Error,
        "correct what the message names: the server does not start with it";
    /// The database cannot be opened.
    DatabaseClosed, "database-closed", Error,
        "start the database server, or correct --data or --database; see also what the server logs";
    /// No server was ever started on the database.
    DatabaseEmpty, "database-empty", Error,
        "correct --database if there should be data; else start the server on it once, or bring a backup back";
    /// The database server may lose what it acknowledged.
    DatabaseUnsafe, "database-unsafe", Error,
        "set what the message names (fsync, full_page_writes, release, encoding): no server starts on it before";
    /// The master key is missing or another one.
    MasterKeyWrong, "master-key-wrong", Error,
        "bring the master key back from its copy: without it no private key opens";
    /// The only copy of the master key may be beside what it protects.
    MasterKeyBeside, "master-key-beside", Note,
        "keep a copy of the master key elsewhere, and better the key itself: --master-key-file or CHANCERY_MASTER_KEY";
    /// No backup was made here.
    BackupMissing, "backup-missing", Note,
        "make one each day (chancery backup FOLDER), unless something else copies the database: docs/backup.md";
    /// The last backup is old.
    BackupOld, "backup-old", Warning,
        "make one each day (chancery backup FOLDER), and see why the last ones failed";
    /// Others may read files of the data folder.
    FilesReadable, "files-readable", Error,
        "chmod 700 the folder and 600 its files; if others had access: chancery keys rotate-master";
    /// Files of the data folder belong to somebody else than the folder.
    FilesForeign, "files-foreign", Error,
        "give them to the user of the server by the command in the message: its server cannot open them else";
    /// The disk is full.
    DiskFull, "disk-full", Error,
        "make room: nothing can be issued or revoked; chancery prune removes what is past";
    /// The disk is nearly full.
    DiskFilling, "disk-filling", Warning,
        "make room before writes are refused; chancery prune removes what is past";
    /// The data are on a file system of another machine.
    NetworkFileSystem, "network-file-system", Error,
        "move the data folder to a local disk: SQLite's locks do not hold over a network; or use PostgreSQL";
    /// The write-ahead log does not shrink.
    LogLong, "log-long", Warning,
        "end the process that reads the database for so long (a copy, an editor): the log cannot be begun anew before";
    /// Few connections can be open at once.
    OpenFiles, "open-files", Warning,
        "raise the limit of open files to 65536 (LimitNOFILE= of the unit, or ulimit -n)";
    /// PostgreSQL gives fewer connections than the nodes may ask for.
    DatabaseConnections, "database-connections", Warning,
        "raise max_connections of PostgreSQL: each node takes up to 16 connections";
    /// The database is read-only.
    DatabaseReadOnly, "database-read-only", Error,
        "connect to the primary (target_session_attrs=read-write in the URL), or take the setting back (ALTER DATABASE)";
    /// PostgreSQL answers commits of other programs before they are on the disk.
    DatabaseAsynchronous, "database-asynchronous", Note,
        "nothing for Chancery, which sets it on in each of its sessions; for others: synchronous_commit = on";
    /// This machine's clock is behind what was recorded.
    ClockBehind, "clock-behind", Error,
        "set the clock (NTP): nothing is issued while it is more than five minutes behind the newest record";
    /// This machine and the database disagree about the time.
    ClocksApart, "clocks-apart", Warning,
        "let both machines keep the time by NTP: beyond an hour nothing is issued";
    /// A job was given up.
    JobParked, "job-parked", Warning,
        "remove the cause that the message names, then: chancery job retry ID";
    /// A job fails again and again.
    JobFailing, "job-failing", Warning,
        "remove the cause that the message names; it is tried again by itself, or at once: chancery job retry ID";
    /// An authority has ended.
    AuthorityExpired, "authority-expired", Error,
        "renew it (chancery ca renew NAME), or disable or delete it if nothing needs it any more";
    /// An authority ends soon.
    AuthorityExpires, "authority-expires", Warning,
        "renew it (chancery ca renew NAME): what it issues cannot outlive it";
    /// An authority is switched off.
    AuthorityDisabled, "authority-disabled", Note,
        "nothing, if that is meant; else switch it on: PATCH /api/v1/pki/ca/{id} with status active";
    /// An authority has no certificate yet.
    AuthorityPending, "authority-pending", Note,
        "have its request signed (chancery ca csr NAME) and import the certificate (chancery ca import NAME)";
    /// The private key of an authority does not open.
    KeyUnusable, "key-unusable", Error,
        "see what chancery fsck finds; bring database and master key back from one and the same backup";
    /// A revocation list has run out.
    ListExpired, "list-expired", Error,
        "start the server, see why its job fails (chancery job list), or sign it now: chancery crl publish NAME";
    /// A revocation list is not followed by the next one.
    ListOverdue, "list-overdue", Warning,
        "start the server, or see why its job fails: chancery job list";
    /// Certificates carry an address that only this machine can reach.
    AddressLoopback, "address-loopback", Warning,
        "set --publication-url to an http address that everybody reaches, and issue those certificates anew";
    /// Certificates carry an address that only a private network can reach.
    AddressPrivate, "address-private", Note,
        "nothing, if all who check certificates are in that network; else set --publication-url to a public name";
    /// Certificates carry an https address.
    AddressHttps, "address-https", Warning,
        "set --publication-url to an http address: who must check a certificate to learn of revocations gives up";
    /// A sync fails.
    SyncFailing, "sync-failing", Warning,
        "remove the cause that the message names, then: chancery sync run NAME";
    /// An alert is not delivered.
    AlertUndelivered, "alert-undelivered", Warning,
        "correct the channel; chancery alert test NAME tries it";
    /// There are alerts by e-mail and no mail server.
    MailUnset, "mail-unset", Warning,
        "set --smtp-url and --smtp-from, or give the alert another channel";
    /// The listener's certificate has ended.
    TlsExpired, "tls-expired", Error,
        "put a new certificate into the files of --tls-certificate and --tls-key, or have one issued: --tls auto";
    /// The listener's certificate ends soon.
    TlsExpires, "tls-expires", Warning,
        "put a new certificate into the files of --tls-certificate and --tls-key, or have one issued: --tls auto";
    /// The files of the listener's certificate do not read.
    TlsUnreadable, "tls-unreadable", Error,
        "correct the files of --tls-certificate and --tls-key: the server does not start with them";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/doctor.md has a row for each code, in the same order, with its severity, and no other.
    #[test]
    fn the_document_names_every_code() {
        let document = include_str!("../../../../docs/doctor.md");
        let rows: Vec<(&str, &str)> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(code, rest)| (code, rest.split(" | ").next().unwrap_or_default()))
            .collect();
        let words = |code: &Code| match code.severity() {
            Severity::Note => (code.as_str(), "note"),
            Severity::Warning => (code.as_str(), "warning"),
            Severity::Error => (code.as_str(), "error"),
        };
        assert_eq!(rows, Code::ALL.iter().map(words).collect::<Vec<_>>());
    }
}
