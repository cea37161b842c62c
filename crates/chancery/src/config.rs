//! Configuration: a TOML file, before it the environment, before that the command line. Unknown keys are refused.

use crate::cli::local::{AddressOrOff, DatabaseArguments, LogFormat, ServeArguments, TlsMode};
use api::edge::REQUESTS_AT_ONCE;
use domain::identity::TrustedNetwork;
use domain::registry::credential::FingerprintFormat;
use ipnet::IpNet;
use outbound::alert::{MailServer, Mailer};
use outbound::destination::local_directory::LocalPlaces;
use outbound::http::Ways;
use outbound::nats::NatsServer;
use serde::Deserialize;
use services::registry::Relaying;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Everything that the server is told from outside.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the data is.
    pub data: DataLocation,
    /// The first listener.
    pub listen: SocketAddr,
    /// A further listener with TLS.
    pub tls_listen: Option<SocketAddr>,
    /// MQTT over TLS.
    pub mqtt_listen: ListenAt,
    /// MQTT over WebSocket.
    pub mqtt_ws_listen: ListenAt,
    /// Whether certificates give access to MQTT before their beginning and after their end.
    pub mqtt_accept_expired: bool,
    /// MQTT connections that are open at once.
    pub mqtt_connections_max: usize,
    /// Where TLS certificates come from.
    pub tls: Option<TlsSource>,
    /// Names of the server's own certificate beside localhost and 127.0.0.1.
    pub tls_names: Vec<String>,
    /// The address under which callers reach the API.
    pub public_url: Option<String>,
    /// What the device registry tells its clients as the address of its services, `host:port`.
    pub iot_endpoint: Option<String>,
    /// The http address that certificates carry.
    pub publication_url: Option<String>,
    /// A folder that every new revocation list is put into, too.
    pub crl_folder: Option<PathBuf>,
    /// Where every new revocation list is put by HTTP, too.
    pub crl_put_url: Option<String>,
    /// The bucket that every new revocation list is put into, too.
    pub crl_s3: Option<Bucket>,
    /// Networks beside the public internet that connections and syncs may reach.
    pub egress_allow: Vec<IpNet>,
    /// Whom connections trust beside the system's roots, and hosts that are reached at another address.
    pub egress_ways: Ways,
    /// Who takes the mail of alerts.
    pub mailer: Option<Mailer>,
    /// What syncs may do on this host.
    pub places: LocalPlaces,
    /// The key file of the server's own account at Google.
    pub google_key_file: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<TrustedNetwork>,
    /// How to log; by the kind of the output when absent.
    pub log_format: Option<LogFormat>,
    /// Seconds that a request may take.
    pub request_seconds_max: u64,
    /// Connections that are open at once.
    pub connections_max: usize,
    /// What is let in.
    pub limits: ServerLimits,
    /// The device registry.
    pub iot: services::registry::Settings,
}

/// How much is taken on at once, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Requests that are under way at once; as many that revoke, or ask what is revoked, beside them.
    pub requests_at_once: usize,
    /// How long nothing may happen on a connection.
    pub idle_seconds: NonZeroU32,
    /// What the use cases hold to.
    pub services: services::admission::Limits,
}

/// Where a listener is to be that is there unless it is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// Nowhere.
    Off,
    /// Where somebody asked for it.
    Asked(SocketAddr),
    /// Where it is when nobody asks. When something else is there already, the server goes on without it.
    Usual(SocketAddr),
}

/// A bucket that speaks S3.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// `s3://bucket/prefix`.
    pub url: String,
    /// Its region.
    pub region: String,
    /// Where it is, when it is not Amazon's own.
    pub endpoint: Option<String>,
}

/// Where the data of a server is.
#[derive(Clone, Debug)]
pub struct DataLocation {
    /// The folder of the embedded database, the master key and bootstrap.json.
    pub folder: PathBuf,
    /// PostgreSQL in place of the embedded database.
    pub database_url: Option<String>,
    /// The file of the master key.
    pub master_key_file: PathBuf,
    /// How many connections are made to PostgreSQL at most.
    pub database_connections: u16,
    /// How long a statement on them may take.
    pub database_statement_seconds: u32,
}

/// Where the server's TLS certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// An internal authority.
    Auto,
    /// Files in PEM.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    data: Option<PathBuf>,
    database_url: Option<String>,
    database_connections: Option<u16>,
    database_statement_seconds: Option<NonZeroU32>,
    master_key_file: Option<PathBuf>,
    listen: Option<SocketAddr>,
    tls_listen: Option<SocketAddr>,
    mqtt_listen: Option<String>,
    mqtt_ws_listen: Option<String>,
    mqtt_accept_expired_certificates: bool,
    mqtt_connections_max: Option<usize>,
    tls: Option<String>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_names: Vec<String>,
    public_url: Option<String>,
    iot_endpoint: Option<String>,
    publication_url: Option<String>,
    crl_folder: Option<PathBuf>,
    crl_put_url: Option<String>,
    crl_s3: Option<String>,
    crl_s3_region: Option<String>,
    crl_s3_endpoint: Option<String>,
    egress_allow: Vec<String>,
    egress_ca_file: Option<PathBuf>,
    egress_hosts: Vec<String>,
    smtp_url: Option<String>,
    smtp_user: Option<String>,
    smtp_password_file: Option<PathBuf>,
    smtp_from: Option<String>,
    local_directories: Vec<PathBuf>,
    local_commands: bool,
    google_key_file: Option<PathBuf>,
    trusted_proxies: Vec<String>,
    log_format: Option<String>,
    request_seconds_max: Option<u64>,
    connections_max: Option<usize>,
    limits: LimitsFile,
    iot: IotFile,
}

/// The part of the configuration file about what is let in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsFile {
    requests_at_once: Option<NonZeroU32>,
    issuances_at_once: Option<NonZeroU32>,
    issuances_waiting: Option<u32>,
    idle_seconds: Option<NonZeroU32>,
    identity_requests_per_second: Option<NonZeroU32>,
    project_certificates_per_second: Option<NonZeroU32>,
}

/// The part of the configuration file about the device registry.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IotFile {
    folders: BTreeMap<String, String>,
    fingerprint_format: Option<String>,
    certificates_per_owner: Option<usize>,
    passwords_per_owner: Option<usize>,
    registries_per_project: Option<u32>,
    devices_per_project: Option<u32>,
    relay: Option<String>,
    mqtt: IotMqttFile,
}

/// What of it is about MQTT.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IotMqttFile {
    accept_plain_prefix: bool,
    messages_per_second: Option<NonZeroU32>,
}

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const MQTT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8883);
const MQTT_WS_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8884);
const MQTT_CONNECTIONS_MAX: usize = 100_000;
const REQUEST_SECONDS_MAX: u64 = 60;
const CONNECTIONS_MAX: usize = 10_000;
const DATABASE_CONNECTIONS: u16 = 8;
/// One commits, one listens to the other nodes, one looks whether the database answers, and one reads.
const DATABASE_CONNECTIONS_MIN: u16 = 4;
const DATABASE_CONNECTIONS_MAX: u16 = 200;
const DATABASE_STATEMENT_SECONDS: u32 = 30;
const IDLE_SECONDS: NonZeroU32 = NonZeroU32::new(120).expect("it is not zero");

impl DataLocation {
    /// From the command line and the environment alone.
    pub fn from_arguments(arguments: &DatabaseArguments) -> Self {
        Self::merged(arguments, None, None, None)
    }

    fn merged(
        arguments: &DatabaseArguments,
        data: Option<PathBuf>,
        database_url: Option<String>,
        master_key_file: Option<PathBuf>,
    ) -> Self {
        let folder = arguments.data.clone().or(data).unwrap_or_else(|| PathBuf::from("data"));
        let master_key_file =
            arguments.master_key_file.clone().or(master_key_file).unwrap_or_else(|| folder.join("master.key"));
        Self {
            database_url: arguments.database.clone().or(database_url),
            master_key_file,
            folder,
            database_connections: DATABASE_CONNECTIONS,
            database_statement_seconds: DATABASE_STATEMENT_SECONDS,
        }
    }

    /// Connections beside those that commit, listen and look.
    pub fn readers(&self) -> usize {
        usize::from(self.database_connections.saturating_sub(DATABASE_CONNECTIONS_MIN - 1)).max(1)
    }
}

fn database_connections(asked: Option<u16>) -> Result<u16, String> {
    match asked {
        None => Ok(DATABASE_CONNECTIONS),
        Some(count @ DATABASE_CONNECTIONS_MIN..=DATABASE_CONNECTIONS_MAX) => Ok(count),
        Some(count) => Err(format!(
            "database_connections is {DATABASE_CONNECTIONS_MIN} to {DATABASE_CONNECTIONS_MAX}, not {count}: one \
             commits, one listens to the other nodes, one looks whether the database answers, the others read"
        )),
    }
}

impl Config {
    /// Puts the three sources together.
    pub fn from_arguments(arguments: &ServeArguments) -> Result<Self, String> {
        let file = match &arguments.config {
            None => File::default(),
            Some(path) => File::read(path)?,
        };
        let mode = match (arguments.tls, file.tls.as_deref()) {
            (Some(mode), _) => Some(mode),
            (None, Some("auto")) => Some(TlsMode::Auto),
            (None, Some("files")) => Some(TlsMode::Files),
            (None, Some(other)) => return Err(format!("tls is \"auto\" or \"files\", not \"{other}\"")),
            (None, None) => None,
        };
        let certificate = arguments.tls_certificate.clone().or(file.tls_certificate);
        let key = arguments.tls_key.clone().or(file.tls_key);
        let tls = match (mode, certificate, key) {
            (Some(TlsMode::Files) | None, Some(certificate), Some(key)) => Some(TlsSource::Files { certificate, key }),
            (Some(TlsMode::Files), _, _) => return Err("tls \"files\" needs tls_certificate and tls_key".into()),
            (Some(TlsMode::Auto), _, _) => Some(TlsSource::Auto),
            (None, None, None) => None,
            (None, _, _) => return Err("tls_certificate and tls_key go together".into()),
        };
        let proxies =
            if arguments.trusted_proxies.is_empty() { &file.trusted_proxies } else { &arguments.trusted_proxies };
        let trusted_proxies = proxies
            .iter()
            .map(|text| TrustedNetwork::parse(text).map_err(|error| format!("trusted_proxies: {error}")))
            .collect::<Result<Vec<_>, _>>()?;
        let allowed = if arguments.egress_allow.is_empty() { &file.egress_allow } else { &arguments.egress_allow };
        let egress_allow = allowed.iter().map(|text| network(text)).collect::<Result<Vec<_>, _>>()?;
        let hosts = if arguments.egress_hosts.is_empty() { &file.egress_hosts } else { &arguments.egress_hosts };
        let hosts = hosts.iter().map(|text| host_at(text)).collect::<Result<HashMap<_, _>, _>>()?;
        let egress_ways = Ways { ca_file: arguments.egress_ca_file.clone().or(file.egress_ca_file), hosts };
        let mailer = mailer(
            arguments.smtp_url.clone().or(file.smtp_url),
            arguments.smtp_user.clone().or(file.smtp_user),
            arguments.smtp_password_file.clone().or(file.smtp_password_file),
            arguments.smtp_from.clone().or(file.smtp_from),
            egress_ways.ca_file.clone(),
        )?;
        let crl_s3 = arguments.crl_s3.clone().or(file.crl_s3).map(|url| Bucket {
            url,
            region: arguments
                .crl_s3_region
                .clone()
                .or(file.crl_s3_region)
                .or_else(|| std::env::var("AWS_REGION").ok())
                .unwrap_or_else(|| "us-east-1".into()),
            endpoint: arguments.crl_s3_endpoint.clone().or(file.crl_s3_endpoint),
        });
        let log_format = match (arguments.log_format, file.log_format.as_deref()) {
            (Some(format), _) => Some(format),
            (None, Some("human")) => Some(LogFormat::Human),
            (None, Some("json")) => Some(LogFormat::Json),
            (None, Some(other)) => return Err(format!("log_format is \"human\" or \"json\", not \"{other}\"")),
            (None, None) => None,
        };
        let config = Self {
            data: DataLocation {
                database_connections: database_connections(
                    arguments.database_connections.or(file.database_connections),
                )?,
                database_statement_seconds: file
                    .database_statement_seconds
                    .map_or(DATABASE_STATEMENT_SECONDS, NonZeroU32::get),
                ..DataLocation::merged(&arguments.database, file.data, file.database_url, file.master_key_file)
            },
            listen: arguments.listen.or(file.listen).unwrap_or(LISTEN),
            tls_listen: arguments.tls_listen.or(file.tls_listen),
            mqtt_listen: listen_at(arguments.mqtt_listen, file.mqtt_listen, "mqtt_listen", MQTT_LISTEN)?,
            mqtt_ws_listen: listen_at(arguments.mqtt_ws_listen, file.mqtt_ws_listen, "mqtt_ws_listen", MQTT_WS_LISTEN)?,
            mqtt_accept_expired: file.mqtt_accept_expired_certificates,
            mqtt_connections_max: file.mqtt_connections_max.unwrap_or(MQTT_CONNECTIONS_MAX),
            tls,
            tls_names: file.tls_names,
            public_url: url(arguments.public_url.clone().or(file.public_url), "public_url", &["http", "https"])?,
            iot_endpoint: endpoint(arguments.iot_endpoint.clone().or(file.iot_endpoint))?,
            publication_url: url(
                arguments.publication_url.clone().or(file.publication_url),
                "publication_url",
                &["http"],
            )?,
            crl_folder: arguments.crl_folder.clone().or(file.crl_folder),
            crl_put_url: url(arguments.crl_put_url.clone().or(file.crl_put_url), "crl_put_url", &["http", "https"])?,
            crl_s3,
            egress_allow,
            egress_ways,
            mailer,
            places: LocalPlaces {
                roots: if arguments.local_directories.is_empty() {
                    file.local_directories
                } else {
                    arguments.local_directories.clone()
                },
                commands_allowed: arguments.local_commands || file.local_commands,
            },
            google_key_file: arguments.google_key_file.clone().or(file.google_key_file),
            trusted_proxies,
            log_format,
            request_seconds_max: file.request_seconds_max.unwrap_or(REQUEST_SECONDS_MAX),
            connections_max: file.connections_max.unwrap_or(CONNECTIONS_MAX),
            limits: limits(&file.limits),
            iot: iot(arguments, file.iot)?,
        };
        config.must_be_safe()?;
        config.must_have_nodes()?;
        Ok(config)
    }

    /// Secrets cross the wire in clear only on this machine, or between here and a proxy that was named.
    fn must_be_safe(&self) -> Result<(), String> {
        if self.listen.ip().is_loopback() || self.tls.is_some() || !self.trusted_proxies.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} is not a loopback address, so TLS is required: set tls to \"auto\", give tls_certificate and tls_key, or \
             name the proxy in front with trusted_proxies",
            self.listen
        ))
    }

    /// What is to reach other nodes needs a database that can have some.
    fn must_have_nodes(&self) -> Result<(), String> {
        match (&self.iot.relay, &self.data.database_url) {
            (Relaying::Database, _) | (Relaying::Nats(_), Some(_)) => Ok(()),
            (Relaying::Nats(_), None) => {
                Err("iot.relay names NATS, which carries messages between the nodes of one PostgreSQL \
                 database; the embedded database has one node: set database_url, or take iot.relay out"
                    .into())
            }
        }
    }

    /// Every address that it listens on, or is to.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let mqtt = [self.mqtt_listen, self.mqtt_ws_listen].into_iter().filter_map(ListenAt::address);
        [Some(self.listen), self.tls_listen].into_iter().flatten().chain(mqtt)
    }

    /// Whether the first listener speaks TLS: on every address that is not a loopback one, when TLS is configured.
    pub fn first_is_tls(&self) -> bool {
        !self.listen.ip().is_loopback() && self.tls.is_some()
    }
}

impl ListenAt {
    /// Where it is to be.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::Asked(address) | Self::Usual(address) => Some(address),
        }
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// What the operator chose to let in.
fn limits(file: &LimitsFile) -> ServerLimits {
    let default = services::admission::Limits::default();
    let chosen = |number: Option<NonZeroU32>, default: usize| number.map_or(default, |number| number.get() as usize);
    ServerLimits {
        requests_at_once: chosen(file.requests_at_once, REQUESTS_AT_ONCE),
        idle_seconds: file.idle_seconds.unwrap_or(IDLE_SECONDS),
        services: services::admission::Limits {
            issuances_at_once: chosen(file.issuances_at_once, default.issuances_at_once),
            issuances_waiting: file.issuances_waiting.map_or(default.issuances_waiting, |number| number as usize),
            identity_requests_per_second: file.identity_requests_per_second,
            project_certificates_per_second: file.project_certificates_per_second,
        },
    }
}

/// What the operator chose for the device registry.
fn iot(arguments: &ServeArguments, file: IotFile) -> Result<services::registry::Settings, String> {
    let default = services::registry::Settings::default();
    let format = arguments.iot_fingerprint_format.clone().or(file.fingerprint_format);
    let mut folders = file.folders;
    for pair in &arguments.iot_folders {
        let (folder, project) = pair
            .split_once('=')
            .ok_or_else(|| format!("iot_folders: \"{pair}\" is not a folder and a project, as b1gexample=default"))?;
        folders.insert(folder.trim().to_owned(), project.trim().to_owned());
    }
    Ok(services::registry::Settings {
        folders,
        fingerprint_format: match format {
            None => default.fingerprint_format,
            Some(word) => FingerprintFormat::parse(&word)
                .ok_or_else(|| format!("iot.fingerprint_format is \"sha256\" or \"sha1\", not \"{word}\""))?,
        },
        certificates_per_owner: file.certificates_per_owner.unwrap_or(default.certificates_per_owner),
        passwords_per_owner: file.passwords_per_owner.unwrap_or(default.passwords_per_owner),
        registries_per_project: file.registries_per_project,
        devices_per_project: file.devices_per_project,
        accepts_plain_prefix: file.mqtt.accept_plain_prefix,
        messages_per_second: file.mqtt.messages_per_second,
        relay: relay(arguments.iot_relay.clone().or(file.relay))?,
    })
}

/// How nodes reach each other. What is wrong is said without the text, which may hold a password.
fn relay(text: Option<String>) -> Result<Relaying, String> {
    match text.as_deref() {
        None | Some("postgresql") => Ok(Relaying::Database),
        Some(text) => match NatsServer::parse(text) {
            Ok(server) => Ok(Relaying::Nats(server)),
            Err(error) => Err(format!("iot.relay is \"postgresql\" or the URL of a NATS server: {error}")),
        },
    }
}

fn listen_at(
    argument: Option<AddressOrOff>,
    file: Option<String>,
    name: &str,
    usual: SocketAddr,
) -> Result<ListenAt, String> {
    let asked = match (argument, file) {
        (Some(asked), _) => Some(asked),
        (None, Some(text)) => Some(text.parse().map_err(|error| format!("{name}: {error}"))?),
        (None, None) => None,
    };
    Ok(match asked {
        None => ListenAt::Usual(usual),
        Some(AddressOrOff::Off) => ListenAt::Off,
        Some(AddressOrOff::At(address)) => ListenAt::Asked(address),
    })
}

/// A network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let single = || text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address));
    text.parse()
        .ok()
        .or_else(single)
        .ok_or_else(|| format!("egress_allow: \"{text}\" is not a network such as 10.1.0.0/16"))
}

/// A host and the address that it is reached at.
fn host_at(text: &str) -> Result<(String, SocketAddr), String> {
    let parts = text.trim().split_once('=').and_then(|(host, address)| Some((host, address.parse().ok()?)));
    match parts {
        Some((host, address)) if !host.is_empty() => Ok((host.to_ascii_lowercase(), address)),
        Some(_) | None => {
            Err(format!("egress_hosts: \"{text}\" is not a host and an address, as hooks.slack.com=10.1.2.3:8443"))
        }
    }
}

/// The mail server, when there is one.
fn mailer(
    url: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    from: Option<String>,
    ca_file: Option<PathBuf>,
) -> Result<Option<Mailer>, String> {
    match (url, from) {
        (None, None) if user.is_none() && password_file.is_none() => Ok(None),
        (Some(url), Some(from)) => Mailer::new(MailServer { url, user, password_file, from, ca_file }).map(Some),
        _ => Err("smtp_url and smtp_from go together, and the others of smtp need both".into()),
    }
}

fn endpoint(text: Option<String>) -> Result<Option<String>, String> {
    let is_endpoint = |text: &String| {
        let authority = text.parse::<axum::http::uri::Authority>();
        authority.is_ok_and(|authority| authority.port_u16().is_some() && !text.contains('@'))
    };
    match text {
        Some(text) if !is_endpoint(&text) => {
            Err(format!("iot_endpoint: \"{text}\" is not a host and a port, such as iot.example.com:443"))
        }
        text => Ok(text),
    }
}

fn url(text: Option<String>, name: &str, schemes: &[&str]) -> Result<Option<String>, String> {
    let Some(text) = text else { return Ok(None) };
    let text = text.trim_end_matches('/').to_owned();
    let parsed = x509::Uri::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    if schemes.contains(&parsed.scheme()) && parsed.host().is_some() {
        return Ok(Some(text));
    }
    Err(format!("{name} must be a URL that begins with {}://", schemes.join(":// or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_on_a_public_address_is_refused() {
        let cases: [(&str, Option<TlsMode>, &[&str], bool); 5] = [
            ("127.0.0.1:8080", None, &[], true),
            ("[::1]:8080", None, &[], true),
            ("0.0.0.0:8080", None, &[], false),
            ("0.0.0.0:8080", Some(TlsMode::Auto), &[], true),
            ("0.0.0.0:8080", None, &["10.0.0.1"], true),
        ];
        for (listen, tls, proxies, accepted) in cases {
            let arguments = ServeArguments {
                listen: Some(listen.parse().unwrap()),
                tls,
                trusted_proxies: proxies.iter().map(|text| (*text).to_owned()).collect(),
                ..ServeArguments::default()
            };
            assert_eq!(Config::from_arguments(&arguments).is_ok(), accepted, "{listen} {tls:?} {proxies:?}");
        }
    }

    /// What the package installs changes nothing but the data folder, and each line that is off can be switched on.
    #[test]
    fn the_settings_of_the_package_are_the_usual_ones() {
        const TEXT: &str = include_str!("../../../packaging/deb/chancery.toml");
        let file: File = toml::from_str(TEXT).unwrap();
        assert_eq!(file.data.as_deref(), Some(Path::new("/var/lib/chancery")));
        assert_eq!(file.listen, Some(LISTEN));
        assert_eq!(file.mqtt_listen, Some(MQTT_LISTEN.to_string()));
        assert_eq!(file.mqtt_ws_listen, Some(MQTT_WS_LISTEN.to_string()));
        let is_off = |line: &str| line.strip_prefix("# ").is_some_and(|line| line.contains(" = "));
        let is_kept = |line: &&str| is_off(line) || line.starts_with('[');
        let switched_on = TEXT.lines().filter(is_kept).map(|line| line.trim_start_matches("# "));
        let switched_on: Vec<&str> = switched_on.collect();
        assert!(switched_on.len() >= 17, "{switched_on:?}");
        let file: File = toml::from_str(&switched_on.join("\n")).unwrap();
        check_limits(&file);
    }

    /// Limits as they are shown to operators: the usual ones, and rates, which are off.
    #[track_caller]
    fn check_limits(file: &File) {
        assert_eq!(file.connections_max, Some(CONNECTIONS_MAX));
        assert_eq!(file.mqtt_connections_max, Some(MQTT_CONNECTIONS_MAX));
        assert_eq!(file.request_seconds_max, Some(REQUEST_SECONDS_MAX));
        let usual = limits(&LimitsFile::default());
        let mut shown = limits(&file.limits);
        let rates = &mut shown.services;
        assert!(rates.identity_requests_per_second.take().is_some());
        assert!(rates.project_certificates_per_second.take().is_some());
        assert_eq!(shown, usual);
        let LimitsFile { requests_at_once, issuances_at_once, issuances_waiting, idle_seconds, .. } = file.limits;
        assert!(requests_at_once.and(issuances_at_once).and(idle_seconds).is_some() && issuances_waiting.is_some());
    }

    /// docs/operations.md says of each limit where it stands and how much it is.
    #[test]
    fn the_manual_lists_every_limit_in_its_table() {
        const TEXT: &str = include_str!("../../../docs/operations.md");
        let (_, section) = TEXT.split_once("\n## Limits\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let rows: Vec<Vec<&str>> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
            .collect();
        let mut file = String::new();
        for place in ["the top", "[limits]", "[iot]", "[iot.mqtt]"] {
            if place != "the top" {
                file.push_str(&format!("{place}\n"));
            }
            for row in rows.iter().filter(|row| row[2] == place) {
                let number = row[3].replace(',', "");
                file.push_str(&format!("{} = {}\n", row[1], if number == "off" { "7" } else { &number }));
            }
        }
        assert_eq!(file.lines().filter(|line| line.contains(" = ")).count(), rows.len(), "{file}");
        let file: File = toml::from_str(&file).unwrap_or_else(|error| panic!("{error}"));
        check_limits(&file);
        let usual = services::registry::Settings::default();
        assert_eq!(file.iot.certificates_per_owner, Some(usual.certificates_per_owner));
        assert_eq!(file.iot.passwords_per_owner, Some(usual.passwords_per_owner));
        let rates = [file.iot.registries_per_project, file.iot.devices_per_project];
        assert!(rates.iter().all(Option::is_some) && file.iot.mqtt.messages_per_second.is_some());
    }

    #[test]
    fn an_unknown_key_of_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (text, accepted) in [
            ("listen = \"127.0.0.1:1\"", true),
            ("lisen = \"127.0.0.1:1\"", false),
            ("database_connections = 4\ndatabase_statement_seconds = 5", true),
            ("database_connections = 3", false),
            ("database_statement_seconds = 0", false),
            ("tls = \"on\"", false),
            ("[iot.mqtt]\naccept_plain_prefix = true\nmessages_per_second = 1", true),
            ("[iot.mqtt]\nmessages_per_second = 0", false),
            ("[iot.mqtt]\naccept_plain = true", false),
        ] {
            let path = folder.path().join("chancery.toml");
            std::fs::write(&path, text).unwrap();
            let arguments = ServeArguments { config: Some(path), ..ServeArguments::default() };
            assert_eq!(Config::from_arguments(&arguments).is_ok(), accepted, "{text}");
        }
    }

    #[test]
    fn nats_needs_a_database_that_nodes_share() {
        let nats = "nats://user:hunter2@nats.example";
        let cases = [
            (None, None, true),
            (Some("postgresql"), None, true),
            (Some(nats), None, false),
            (Some(nats), Some("postgresql://a@h/d"), true),
            (Some("nats:/user:hunter2@nats.example"), Some("postgresql://a@h/d"), false),
        ];
        for (relay, database, accepted) in cases {
            let arguments = ServeArguments {
                database: DatabaseArguments { database: database.map(str::to_owned), ..DatabaseArguments::default() },
                iot_relay: relay.map(str::to_owned),
                ..ServeArguments::default()
            };
            let config = Config::from_arguments(&arguments);
            assert_eq!(config.is_ok(), accepted, "{relay:?} {database:?}");
            assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        }
    }

    #[test]
    fn urls_are_http_and_lose_their_last_slash() {
        assert_eq!(url(Some("http://pki.example/".into()), "x", &["http"]), Ok(Some("http://pki.example".into())));
        for bad in ["https://pki.example", "pki.example", "ftp://pki.example", "http://"] {
            assert!(url(Some(bad.into()), "x", &["http"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for (text, accepted) in [
            ("iot.example.com:443", true),
            ("[::1]:443", true),
            ("iot.example.com", false),
            ("https://iot.example.com:443", false),
            ("a@iot.example.com:443", false),
            ("iot.example.com:99999", false),
            ("", false),
        ] {
            assert_eq!(endpoint(Some(text.into())).is_ok(), accepted, "{text}");
        }
        assert_eq!(endpoint(None), Ok(None));
    }
}
