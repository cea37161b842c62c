//! Commands that work on this machine's own data, server running or stopped: how they are typed. What they do is
//! elsewhere; this file hands over a [`LocalCommand`].

use super::backup::{BackupArguments, ExportArguments, ImportArguments, RestoreArguments};
use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};

/// A command that was typed and is yet to be run.
#[derive(Debug)]
pub enum LocalCommand {
    /// Run the server in the foreground until SIGTERM or SIGINT.
    Serve(Box<ServeArguments>),
    /// Look for what an operator should see to. Exit code 0 only when nothing is wrong.
    Doctor {
        /// What the server is started with.
        arguments: Box<DoctorArguments>,
        /// Print JSON.
        json: bool,
    },
    /// Check the inventory. Exit code 0 only when it is clean.
    Fsck {
        /// Where the data is.
        database: DatabaseArguments,
        /// Print JSON.
        json: bool,
    },
    /// Print audit records, newest first.
    AuditList {
        /// Which records.
        arguments: AuditListArguments,
        /// Print JSON.
        json: bool,
    },
    /// Check the hash chain of the audit. Exit code 0 only when it is whole.
    AuditVerify {
        /// Where the data is.
        database: DatabaseArguments,
        /// Print JSON.
        json: bool,
    },
    /// Put a new master key in place and seal the data keys anew.
    RotateMaster {
        /// Where the data is.
        database: DatabaseArguments,
        /// Print JSON.
        json: bool,
    },
    /// Copy the embedded database into a folder.
    Backup {
        /// Which, and where to.
        arguments: BackupArguments,
        /// Print JSON.
        json: bool,
    },
    /// Bring a backup back.
    Restore {
        /// Which, and where to.
        arguments: RestoreArguments,
        /// Print JSON.
        json: bool,
    },
    /// Write everything into a file.
    Export {
        /// Which, and where to.
        arguments: ExportArguments,
        /// Print JSON.
        json: bool,
    },
    /// Read everything from a file.
    Import {
        /// Which, and where to.
        arguments: ImportArguments,
        /// Print JSON.
        json: bool,
    },
}

/// Where the data of a server is.
#[derive(Args, Clone, Debug, Default)]
pub struct DatabaseArguments {
    /// The folder of the embedded database, the master key and bootstrap.json [default: data].
    #[arg(long, env = "CHANCERY_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// A PostgreSQL database in place of the embedded one, as postgres://user@host/name.
    #[arg(long, env = "CHANCERY_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,
    /// The file of the master key [default: master.key in the data folder].
    #[arg(long, env = "CHANCERY_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
}

/// Run the server in the foreground.
///
/// On an empty data folder it makes a project, a root and an issuing CA, policies and profiles and an admin identity,
/// and prints that identity's secret once; the facts stand in bootstrap.json. On a later start it keeps everything.
/// It ends on SIGTERM or SIGINT, after it has finished what it has accepted.
///
/// Plain HTTP is only served on a loopback address, or behind proxies that are named as trusted; anywhere else TLS is
/// required.
///
/// How much is taken on at once, and how often, is set in the configuration file alone, most of it in its table `[limits]`:
/// requests_at_once, issuances_at_once, identity_requests_per_second, project_certificates_per_second and others.
/// docs/operations.md lists them with their defaults.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  chancery serve
  chancery serve --listen 127.0.0.1:8080 --tls-listen 127.0.0.1:8443
  chancery serve --listen 0.0.0.0:443 --tls auto --public-url https://ca.example.com")]
pub struct ServeArguments {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// Connections that this node makes to PostgreSQL at most, 4 to 200; the nodes together stay below its
    /// max_connections [default: 8].
    #[arg(long, env = "CHANCERY_DATABASE_CONNECTIONS", value_name = "NUMBER")]
    pub database_connections: Option<u16>,
    /// A configuration file in TOML. What is given here or in the environment goes before it.
    #[arg(long, env = "CHANCERY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, env = "CHANCERY_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// A further address, with TLS and every service; port 0 takes a free one.
    #[arg(long, env = "CHANCERY_TLS_LISTEN", value_name = "ADDRESS")]
    pub tls_listen: Option<SocketAddr>,
    /// The address of MQTT over TLS; port 0 takes a free one, `off` switches it off [default: 127.0.0.1:8883].
    #[arg(long, env = "CHANCERY_MQTT_LISTEN", value_name = "ADDRESS")]
    pub mqtt_listen: Option<AddressOrOff>,
    /// The address of MQTT over WebSocket (wss); port 0 takes a free one, `off` switches it off [default: 127.0.0.1:8884].
    #[arg(long, env = "CHANCERY_MQTT_WS_LISTEN", value_name = "ADDRESS")]
    pub mqtt_ws_listen: Option<AddressOrOff>,
    /// Where TLS certificates come from: `auto` has one issued by an internal CA and renews it.
    #[arg(long, env = "CHANCERY_TLS", value_name = "MODE")]
    pub tls: Option<TlsMode>,
    /// The certificate chain for `--tls files`, in PEM, the server's own first.
    #[arg(long, env = "CHANCERY_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "CHANCERY_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// The address under which callers reach the API [default: http:// and the plain listener].
    #[arg(long, env = "CHANCERY_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// What the device registry tells its clients as the address of all its services [default: the public URL's, or the
    /// listener that was asked].
    #[arg(long, env = "CHANCERY_IOT_ENDPOINT", value_name = "HOST:PORT")]
    pub iot_endpoint: Option<String>,
    /// The http address that certificates carry for CRL, OCSP and CA certificates [default: the plain listener].
    #[arg(long, env = "CHANCERY_PUBLICATION_URL", value_name = "URL")]
    pub publication_url: Option<String>,
    /// A folder that every new revocation list is put into, too, for a web server that hands them out.
    #[arg(long, env = "CHANCERY_CRL_FOLDER", value_name = "FOLDER")]
    pub crl_folder: Option<PathBuf>,
    /// An http or https address below which every new revocation list is put, too, by PUT, as ADDRESS/ID.crl.
    #[arg(long, env = "CHANCERY_CRL_PUT_URL", value_name = "URL")]
    pub crl_put_url: Option<String>,
    /// A bucket that every new revocation list is put into, too, as s3://BUCKET/PREFIX. The keys are those of
    /// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[arg(long, env = "CHANCERY_CRL_S3", value_name = "URL")]
    pub crl_s3: Option<String>,
    /// The region of that bucket [default: AWS_REGION, or us-east-1].
    #[arg(long, env = "CHANCERY_CRL_S3_REGION", value_name = "REGION")]
    pub crl_s3_region: Option<String>,
    /// The address of another server that speaks S3.
    #[arg(long, env = "CHANCERY_CRL_S3_ENDPOINT", value_name = "URL")]
    pub crl_s3_endpoint: Option<String>,
    /// Networks beside the public internet that connections and syncs may reach, as 10.1.0.0/16,127.0.0.1 [default: none].
    #[arg(long, env = "CHANCERY_EGRESS_ALLOW", value_name = "NETWORKS", value_delimiter = ',')]
    pub egress_allow: Vec<String>,
    /// A file of certificates in PEM that connections trust beside the system's: webhooks and the mail server of alerts.
    #[arg(long, env = "CHANCERY_EGRESS_CA_FILE", value_name = "FILE")]
    pub egress_ca_file: Option<PathBuf>,
    /// Hosts that are reached at another address, as hooks.slack.com=10.1.2.3:8443 [default: none].
    #[arg(long, env = "CHANCERY_EGRESS_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub egress_hosts: Vec<String>,
    /// The mail server for alerts: smtp://HOST:587 for STARTTLS, smtps://HOST:465, or smtp://HOST:25?tls=none [default: none].
    #[arg(long, env = "CHANCERY_SMTP_URL", value_name = "URL")]
    pub smtp_url: Option<String>,
    /// Who this server is at the mail server.
    #[arg(long, env = "CHANCERY_SMTP_USER", value_name = "NAME")]
    pub smtp_user: Option<String>,
    /// The file of the password there.
    #[arg(long, env = "CHANCERY_SMTP_PASSWORD_FILE", value_name = "FILE")]
    pub smtp_password_file: Option<PathBuf>,
    /// Who mails come from, as pki@example.com.
    #[arg(long, env = "CHANCERY_SMTP_FROM", value_name = "ADDRESS")]
    pub smtp_from: Option<String>,
    /// Directories of this host that syncs may write below, as /etc/nginx/tls:/srv/certificates [default: none].
    #[arg(long, env = "CHANCERY_LOCAL_DIRECTORIES", value_name = "DIRECTORIES", value_delimiter = ':')]
    pub local_directories: Vec<PathBuf>,
    /// Let syncs run their commands on this host, as the user of this server.
    #[arg(long, env = "CHANCERY_LOCAL_COMMANDS")]
    pub local_commands: bool,
    /// More names of folders of the device registry, each with the project that it stands for, as b1gexample=default.
    #[arg(long, env = "CHANCERY_IOT_FOLDERS", value_name = "FOLDERS", value_delimiter = ',')]
    pub iot_folders: Vec<String>,
    /// The digest by which certificates of devices are shown: sha256, or sha1 as the vendor does [default: sha256].
    #[arg(long, env = "CHANCERY_IOT_FINGERPRINT_FORMAT", value_name = "DIGEST")]
    pub iot_fingerprint_format: Option<String>,
    /// How messages of devices reach the other nodes of one PostgreSQL database: `postgresql`, by a table of it, or by NATS as
    /// nats://user:password@host:4222, or tls://…; the same on every node [default: postgresql].
    #[arg(long, env = "CHANCERY_IOT_RELAY", hide_env_values = true, value_name = "WAY")]
    pub iot_relay: Option<String>,
    /// The key file of a service account at Google, as which this server reaches Google Cloud [default: none].
    #[arg(long, env = "GOOGLE_APPLICATION_CREDENTIALS", value_name = "FILE")]
    pub google_key_file: Option<PathBuf>,
    /// Networks of proxies whose X-Forwarded-For is believed, as 10.0.0.0/8,192.168.1.5.
    #[arg(long, env = "CHANCERY_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',')]
    pub trusted_proxies: Vec<String>,
    /// How to log [default: human on a terminal, json otherwise].
    #[arg(long, env = "CHANCERY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Where a listener is, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOrOff {
    /// There.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl std::str::FromStr for AddressOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => text
                .parse()
                .map(Self::At)
                .map_err(|_| format!("\"{text}\" is neither \"off\" nor an address such as 127.0.0.1:8883")),
        }
    }
}

/// Where the server's TLS certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// From an internal CA, renewed by itself.
    Auto,
    /// From files.
    Files,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// For machines: one object on each line.
    Json,
}

/// What the server is started with, and how strict to be.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  chancery doctor
  chancery doctor --config /etc/chancery/chancery.toml --strict
  chancery doctor --data /var/lib/chancery --json")]
pub struct DoctorArguments {
    /// The configuration of the server: give what `chancery serve` is given.
    #[command(flatten)]
    pub serve: ServeArguments,
    /// End with exit code 1 for warnings, too.
    #[arg(long)]
    pub strict: bool,
}

/// Which audit records to print.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  chancery audit list
  chancery audit list --limit 5 --json")]
pub struct AuditListArguments {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// How many records, the newest first.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// Keys of the server itself.
#[derive(Args)]
pub(crate) struct KeysArguments {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Replace the master key and seal the data keys anew.
    ///
    /// A running server goes on meanwhile. When the command is interrupted, run it again: it goes on where it was.
    #[command(after_help = "Example:\n  chancery keys rotate-master --data data")]
    RotateMaster(DatabaseArguments),
}

/// Read and check the audit.
#[derive(Args)]
pub(crate) struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// List audit records, newest first.
    ///
    /// Works on the data folder or the database itself, whether the server runs or not.
    List(AuditListArguments),
    /// Check that no audit record was changed or removed.
    ///
    /// Each record carries a hash over itself and the one before it. The exit code is 0 only when the chain is whole.
    #[command(after_help = "Example:\n  chancery audit verify")]
    Verify(DatabaseArguments),
}

/// The local commands as they are typed.
#[derive(Subcommand)]
pub(crate) enum LocalSubcommand {
    Serve(Box<ServeArguments>),
    Keys(KeysArguments),
    /// Look for what is wrong, or will be, and say what to do about it.
    ///
    /// The configuration, the database, disk and files, the clock, keys, CAs and revocation lists that run out, addresses
    /// in certificates, jobs, syncs and alerts that fail. Works whether the server runs or not, and changes nothing. The
    /// exit code is 1 for errors. docs/doctor.md says what each sign means.
    Doctor(Box<DoctorArguments>),
    /// Check the inventory against the certificates, keys, CAs and the audit.
    ///
    /// Parses every stored certificate again and compares it with the columns beside it. Works whether the server runs
    /// or not, changes nothing, and ends with exit code 0 only when all is well.
    #[command(after_help = "Example:\n  chancery fsck")]
    Fsck(DatabaseArguments),
    Audit(AuditArguments),
    Backup(BackupArguments),
    Restore(RestoreArguments),
    Export(ExportArguments),
    Import(ImportArguments),
}

impl LocalSubcommand {
    /// The command to run, and in which form it prints.
    pub(crate) fn with_output(self, json: bool) -> LocalCommand {
        match self {
            Self::Serve(arguments) => LocalCommand::Serve(arguments),
            Self::Keys(KeysArguments { command: KeysCommand::RotateMaster(database) }) => {
                LocalCommand::RotateMaster { database, json }
            }
            Self::Doctor(arguments) => LocalCommand::Doctor { arguments, json },
            Self::Fsck(database) => LocalCommand::Fsck { database, json },
            Self::Audit(AuditArguments { command: AuditCommand::List(arguments) }) => {
                LocalCommand::AuditList { arguments, json }
            }
            Self::Audit(AuditArguments { command: AuditCommand::Verify(database) }) => {
                LocalCommand::AuditVerify { database, json }
            }
            Self::Backup(arguments) => LocalCommand::Backup { arguments, json },
            Self::Restore(arguments) => LocalCommand::Restore { arguments, json },
            Self::Export(arguments) => LocalCommand::Export { arguments, json },
            Self::Import(arguments) => LocalCommand::Import { arguments, json },
        }
    }
}
