//! Which server is asked, and with whose credentials. A decision over what was typed, what the environment says, what
//! `chancery login` kept and what a server on this machine wrote down; nothing is sent from here.
//!
//! What is kept for one server is never sent to another: kept credentials go to the address that they were kept for.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::cli::{environment::Environment, failure::Failure};

/// Where a server listens when nothing says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The data folder when nothing says otherwise.
const DEFAULT_DATA: &str = "data";
/// The file of facts that the server keeps in its data folder.
const BOOTSTRAP_FILE: &str = "bootstrap.json";
/// The file of `chancery login`.
const CREDENTIALS_FILE: &str = "credentials.json";

/// Options of every command that asks a server.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub(crate) struct RemoteArguments {
    /// The server's address [env: CHANCERY_URL].
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Trust the certificates in this PEM file, and no others, for https [env: CHANCERY_CA_FILE].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The project, by slug or id [env: CHANCERY_PROJECT]. Without it the server takes the organisation's default one.
    #[arg(long, global = true, value_name = "SLUG|ID")]
    pub(crate) project: Option<String>,
    /// Take address and credentials from bootstrap.json in this data folder [env: CHANCERY_DATA] [default: data].
    ///
    /// Given here it goes before what `chancery login` kept; from the environment it comes after.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
}

/// Whom to ask and as whom.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) credential: Credential,
    /// The only roots to trust; none are the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// A slug or an id.
    pub(crate) project: Option<String>,
}

/// How the command line proves who it is.
#[derive(Clone, PartialEq)]
pub(crate) enum Credential {
    /// Universal Auth (contract §2.2).
    Client { id: String, secret: String },
    /// An access token that somebody else obtained.
    Token(String),
    /// Not at all: what everybody may ask.
    Nobody,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Client { .. } => "Client",
            Self::Token(_) => "Token",
            Self::Nobody => "Nobody",
        })
    }
}

/// What `chancery login` keeps.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Kept {
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
}

/// What a server on this machine wrote down about itself: those of its facts that are needed here.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bootstrap {
    url: String,
    tls_url: Option<String>,
    tls_ca: Option<PathBuf>,
    client_id: String,
    client_secret: String,
    project_id: Option<String>,
    mqtt: Option<String>,
    mqtt_ca: Option<PathBuf>,
    /// The folder that it was read from.
    #[serde(skip)]
    folder: PathBuf,
}

/// Reads the files that there are and decides.
pub(crate) fn target(arguments: &RemoteArguments, environment: &Environment) -> Result<Target, Failure> {
    decide(arguments, environment, read_kept(environment), read_bootstrap(arguments, environment))
}

/// Whom to ask what everybody may ask, without credentials. Files that cannot be read do not matter.
pub(crate) fn address(arguments: &RemoteArguments, environment: &Environment) -> Result<Target, Failure> {
    let asked = arguments.url.as_ref().or(environment.url.as_ref()).map(|text| parse_url(text)).transpose()?;
    let named = Named {
        ca_file: arguments.ca_file.clone().or_else(|| environment.ca_file.clone()),
        project: arguments.project.clone(),
    };
    // A data folder that was named goes before what was kept.
    let kept = read_kept(environment).ok().flatten().filter(|_| arguments.data.is_none());
    let bootstrap = read_bootstrap(arguments, environment).ok().flatten();
    named.with_environment(asked, Credential::Nobody, kept, bootstrap)
}

fn read_kept(environment: &Environment) -> Result<Option<Kept>, Failure> {
    match &environment.configuration_folder {
        Some(folder) => read_json(&folder.join(CREDENTIALS_FILE)),
        None => Ok(None),
    }
}

fn read_bootstrap(arguments: &RemoteArguments, environment: &Environment) -> Result<Option<Bootstrap>, Failure> {
    let data = data_folder(arguments, environment);
    let found = read_json::<Bootstrap>(&data.join(BOOTSTRAP_FILE))?;
    Ok(found.map(|facts| Bootstrap { folder: data.to_owned(), ..facts }))
}

/// The MQTT address of a server on this machine and the file of its authority, when there is one and it has MQTT.
pub(crate) fn mqtt(
    arguments: &RemoteArguments,
    environment: &Environment,
) -> Result<Option<(String, PathBuf)>, Failure> {
    let data = data_folder(arguments, environment);
    let facts = read_json::<Bootstrap>(&data.join(BOOTSTRAP_FILE))?.unwrap_or_default();
    Ok(facts.mqtt.zip(facts.mqtt_ca.map(|file| in_folder(data, file))))
}

fn data_folder<'a>(arguments: &'a RemoteArguments, environment: &'a Environment) -> &'a Path {
    arguments.data.as_deref().or(environment.data.as_deref()).unwrap_or(Path::new(DEFAULT_DATA))
}

/// A file that the server named, which may have moved with its folder.
fn in_folder(folder: &Path, file: PathBuf) -> PathBuf {
    let in_folder = folder.join(&file);
    if in_folder.exists() { in_folder } else { file }
}

/// The file that `chancery login` writes.
pub(crate) fn credentials_file(environment: &Environment) -> Result<PathBuf, Failure> {
    let folder = environment.configuration_folder.as_ref();
    folder.map(|folder| folder.join(CREDENTIALS_FILE)).ok_or_else(|| {
        Failure::new("there is no home folder to keep credentials in").hint("set HOME or XDG_CONFIG_HOME")
    })
}

/// The address as it is used: http or https, a host, no trailing slash, and without the `/api` that other clients want.
pub(crate) fn parse_url(text: &str) -> Result<Url, Failure> {
    let trimmed = text.trim().trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/api").unwrap_or(trimmed);
    let url = Url::parse(trimmed).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        Failure::usage(format!("{text} is not the address of a server")).hint(format!("write it as {DEFAULT_URL}"))
    })
}

/// Whether the address means this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The address without the slash that it is parsed to.
pub(crate) fn plain(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

fn decide(
    arguments: &RemoteArguments,
    environment: &Environment,
    kept: Result<Option<Kept>, Failure>,
    bootstrap: Result<Option<Bootstrap>, Failure>,
) -> Result<Target, Failure> {
    let asked = arguments.url.as_ref().or(environment.url.as_ref()).map(|text| parse_url(text)).transpose()?;
    let named = Named {
        ca_file: arguments.ca_file.clone().or_else(|| environment.ca_file.clone()),
        project: arguments.project.clone().or_else(|| environment.project.clone()),
    };
    if let Some(credential) = from_environment(environment)? {
        // Files that cannot be read do not matter to whoever brings all that is needed.
        return named.with_environment(asked, credential, kept.ok().flatten(), bootstrap.ok().flatten());
    }
    if let Some(folder) = &arguments.data {
        return match bootstrap? {
            Some(facts) => named.with_bootstrap(asked, &facts),
            None => Err(Failure::new(format!("there is no {BOOTSTRAP_FILE} in {}", folder.display()))
                .hint("the server writes it when it has started; is this its data folder?")),
        };
    }
    let mut kept_for = None;
    if let Some(kept) = kept? {
        let kept_url = parse_url(&kept.url)?;
        if asked.as_ref().is_none_or(|asked| is_same_server(asked, &kept_url)) {
            return named.with_kept(asked.unwrap_or(kept_url), kept);
        }
        kept_for = Some(kept_url);
    }
    let facts = bootstrap?;
    let is_named = environment.data.is_some();
    match facts.filter(|facts| is_named || asked.as_ref().is_none_or(|asked| facts.is_of(asked))) {
        Some(facts) => named.with_bootstrap(asked, &facts),
        None => Err(no_credentials(asked.as_ref(), kept_for.as_ref())),
    }
}

/// What the caller named beside the credentials.
struct Named {
    ca_file: Option<PathBuf>,
    project: Option<String>,
}

impl Named {
    fn with_environment(
        self,
        asked: Option<Url>,
        credential: Credential,
        kept: Option<Kept>,
        bootstrap: Option<Bootstrap>,
    ) -> Result<Target, Failure> {
        let url = match (asked, &kept, &bootstrap) {
            (Some(url), _, _) => url,
            (None, Some(kept), _) => parse_url(&kept.url)?,
            (None, None, Some(facts)) => parse_url(&facts.url)?,
            (None, None, None) => parse_url(DEFAULT_URL)?,
        };
        let from_kept = kept
            .filter(|kept| parse_url(&kept.url).is_ok_and(|known| is_same_server(&known, &url)))
            .and_then(|kept| kept.ca_file);
        let from_bootstrap = bootstrap.filter(|facts| facts.is_of(&url)).and_then(|facts| facts.ca_file_for(&url));
        Ok(Target { url, credential, ca_file: self.ca_file.or(from_kept).or(from_bootstrap), project: self.project })
    }

    fn with_kept(self, url: Url, kept: Kept) -> Result<Target, Failure> {
        let credential = match (kept.token, kept.client_id, kept.client_secret) {
            (Some(token), _, _) => Credential::Token(token),
            (None, Some(id), Some(secret)) => Credential::Client { id, secret },
            (None, _, _) => {
                return Err(Failure::new("what chancery login kept is incomplete").hint("run chancery login again"));
            }
        };
        let ca_file = self.ca_file.or(kept.ca_file);
        Ok(Target { url, credential, ca_file, project: self.project.or(kept.project) })
    }

    fn with_bootstrap(self, asked: Option<Url>, facts: &Bootstrap) -> Result<Target, Failure> {
        let url = match asked {
            Some(url) => url,
            None => parse_url(&facts.url)?,
        };
        let ca_file = self.ca_file.or_else(|| facts.ca_file_for(&url));
        let credential = Credential::Client { id: facts.client_id.clone(), secret: facts.client_secret.clone() };
        Ok(Target { url, credential, ca_file, project: self.project.or_else(|| facts.project_id.clone()) })
    }
}

impl Bootstrap {
    fn is_of(&self, url: &Url) -> bool {
        [Some(&self.url), self.tls_url.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|known| parse_url(known).ok())
            .any(|known| is_same_server(&known, url))
    }

    /// The server's own authority, which no system trusts by itself.
    fn ca_file_for(&self, url: &Url) -> Option<PathBuf> {
        let file = self.tls_ca.clone().filter(|_| url.scheme() == "https")?;
        Some(in_folder(&self.folder, file))
    }
}

fn from_environment(environment: &Environment) -> Result<Option<Credential>, Failure> {
    match (&environment.token, &environment.client_id, &environment.client_secret) {
        (Some(token), _, _) => Ok(Some(Credential::Token(token.clone()))),
        (None, Some(id), Some(secret)) => Ok(Some(Credential::Client { id: id.clone(), secret: secret.clone() })),
        (None, Some(_), None) => {
            Err(Failure::usage("CHANCERY_CLIENT_ID is set, but CHANCERY_CLIENT_SECRET is not")
                .hint("set both, or none"))
        }
        (None, None, Some(_)) => {
            Err(Failure::usage("CHANCERY_CLIENT_SECRET is set, but CHANCERY_CLIENT_ID is not")
                .hint("set both, or none"))
        }
        (None, None, None) => Ok(None),
    }
}

/// The same scheme and port, and the same host; all names of this machine are one host.
fn is_same_server(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.port_or_known_default() == other.port_or_known_default()
        && (one.host_str() == other.host_str() || (is_loopback(one) && is_loopback(other)))
}

fn no_credentials(asked: Option<&Url>, kept_for: Option<&Url>) -> Failure {
    let failure = match asked.map(plain) {
        Some(asked) => Failure::new(format!("there are no credentials for {asked}")),
        None => Failure::new("there is neither a server nor credentials to ask it with"),
    };
    let failure = match kept_for.map(plain) {
        Some(kept) => failure.detail(format!("chancery login kept some for {kept}; they are sent to no other server")),
        None => failure,
    };
    failure.hint(
        "set CHANCERY_URL, CHANCERY_CLIENT_ID and CHANCERY_CLIENT_SECRET, or run chancery login, or name the data \
         folder of a server on this machine with --data",
    )
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
    };
    // The parser's own message could quote a secret; its place in the file cannot.
    serde_json::from_str(&text).map(Some).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::new(format!("{} is damaged at line {line}, column {column}", path.display()))
    })
}

#[cfg(test)]
mod tests;
