//! `chancery iot`: the device registry, over its own REST API (device registry contract §2).
//!
//! This file holds what its nouns have in common: how objects are found by name or id, how lists are read whole, and
//! how credentials are taken in.

mod broker;
mod certificate;
mod device;
mod export;
mod import;
mod layout;
mod mqtt;
mod operation;
mod password;
mod publish;
mod registry;
mod watch;

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::cli::{
    client::Client,
    connection::{self, RemoteArguments},
    environment::Environment,
    failure::Failure,
    files,
    output::{Output, list_at, needed, printable, string_at},
    vocabulary::Setting,
};

/// How many objects a page of a list has.
const PAGE: usize = 1000;

/// Registries, their devices and brokers, what they connect with, and what they say.
///
/// This is the API of Yandex IoT Core on this server. A folder is a project: its id, its slug, or default.
#[derive(clap::Args)]
pub(crate) struct IotArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    /// The folder [default: the project, and without one: default].
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) folder: Option<String>,
    #[command(subcommand)]
    pub(crate) command: IotCommand,
}

#[derive(Subcommand)]
pub(crate) enum IotCommand {
    #[command(flatten)]
    OverRest(RestCommand),
    Watch(watch::WatchArguments),
}

#[derive(Subcommand)]
pub(crate) enum RestCommand {
    /// Make, list, change and delete registries, and refuse or admit them with all their devices.
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Make, list, change and delete devices.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Make, list and delete brokers.
    #[command(subcommand)]
    Broker(broker::BrokerCommand),
    /// Add, list and delete the certificates that a registry, a device or a broker connects with.
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Add, list and delete the passwords that a registry, a device or a broker connects with.
    #[command(subcommand)]
    Password(password::PasswordCommand),
    /// See what was changed.
    #[command(subcommand)]
    Operation(operation::OperationCommand),
    Publish(publish::PublishArguments),
    Import(import::ImportArguments),
    Export(export::ExportArguments),
}

pub(crate) async fn run(arguments: IotArguments, environment: &Environment, json: bool) -> Result<Output, Failure> {
    let IotArguments { remote, folder, command } = arguments;
    let command = match command {
        // It speaks MQTT, with credentials of its own.
        IotCommand::Watch(arguments) => return watch::run(arguments, &remote, environment, json).await,
        IotCommand::OverRest(command) => command,
    };
    let client = Client::connect(&connection::target(&remote, environment)?).await?;
    let folder = folder.or_else(|| client.named_project().map(str::to_owned)).unwrap_or_else(|| "default".to_owned());
    let api = Api { client: &client, folder };
    match command {
        RestCommand::Registry(command) => registry::run(&api, command).await,
        RestCommand::Device(command) => device::run(&api, command).await,
        RestCommand::Broker(command) => broker::run(&api, command).await,
        RestCommand::Certificate(command) => certificate::run(&api, command).await,
        RestCommand::Password(command) => password::run(&api, command).await,
        RestCommand::Operation(command) => operation::run(&api, command).await,
        RestCommand::Publish(arguments) => publish::run(&api, arguments).await,
        RestCommand::Import(arguments) => import::run(&api, arguments).await,
        RestCommand::Export(arguments) => export::run(&api, arguments).await,
    }
}

/// The device registry of a server, and the folder that is meant.
pub(crate) struct Api<'a> {
    client: &'a Client,
    folder: String,
}

/// What has credentials, publishes, and keeps operations.
pub(crate) struct Found {
    /// `registry`, `device` or `broker`.
    noun: &'static str,
    /// What the server says of it.
    object: Value,
}

/// Of whom something is.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct OwnerArguments {
    /// A registry, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    registry: Option<String>,
    /// A device, by id, or by a name that only one device of the folder has.
    #[arg(long, value_name = "NAME|ID")]
    device: Option<String>,
    /// A broker, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    broker: Option<String>,
}

/// What a new object is made with besides its name.
#[derive(clap::Args)]
pub(crate) struct NewArguments {
    /// What it is for.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// A label.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Setting>,
    /// A certificate that it connects with, in PEM; - reads standard input.
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,
    #[command(flatten)]
    password: password::PasswordArguments,
}

impl NewArguments {
    /// The body of the request, and the password that was made for it.
    fn body(&self, name: &str) -> Result<(Value, Option<String>), Failure> {
        let mut certificates = Vec::new();
        for path in &self.certificates {
            certificates.push(json!({ "certificateData": files::read_text(path)? }));
        }
        let mut body = json!({
            "name": name, "description": self.description, "labels": texts(&self.labels), "certificates": certificates,
        });
        let password = self.password.take()?;
        if let Some(password) = &password {
            body["password"] = password.text().into();
        }
        Ok((body, password.and_then(password::Password::shown_once)))
    }
}

/// What changes in an object.
#[derive(clap::Args)]
pub(crate) struct ChangeArguments {
    /// Another name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Another description.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A label; all labels that it has are replaced by those given.
    #[arg(long = "label", value_name = "KEY=VALUE", conflicts_with = "no_labels")]
    labels: Vec<Setting>,
    /// Take all labels away.
    #[arg(long)]
    no_labels: bool,
}

impl ChangeArguments {
    /// The body of the request without its mask, whose paths are the body's keys: see [`masked`].
    fn body(self) -> Map<String, Value> {
        let mut body = Map::new();
        if let Some(name) = self.name {
            body.insert("name".into(), name.into());
        }
        if let Some(description) = self.description {
            body.insert("description".into(), description.into());
        }
        if self.no_labels || !self.labels.is_empty() {
            body.insert("labels".into(), texts(&self.labels));
        }
        body
    }
}

/// The body of an update that changes what it holds and nothing else (contract §2.5).
fn masked(mut body: Map<String, Value>) -> Result<Value, Failure> {
    if body.is_empty() {
        return Err(Failure::usage("nothing is to be changed").hint("name what changes; --help shows what can"));
    }
    let paths: Vec<String> = body.keys().cloned().collect();
    body.insert("updateMask".into(), paths.join(",").into());
    Ok(Value::Object(body))
}

/// Names and texts as an object, whatever the texts look like.
fn texts(settings: &[Setting]) -> Value {
    settings.iter().map(|setting| (setting.name.clone(), Value::from(setting.value.as_str()))).collect()
}

impl Api<'_> {
    async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.client.registry(Method::GET, path, query, None).await
    }

    async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.client.registry(Method::POST, path, &[], Some(body)).await
    }

    async fn patch(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.client.registry(Method::PATCH, path, &[], Some(body)).await
    }

    async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        self.client.registry(Method::DELETE, path, &[], None).await
    }

    /// The objects of a list, page by page, up to a limit.
    async fn list(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        key: &str,
        limit: Option<usize>,
    ) -> Result<Vec<Value>, Failure> {
        let (limit, mut all, mut token) = (limit.unwrap_or(usize::MAX), Vec::new(), String::new());
        loop {
            let size = PAGE.min(limit - all.len()).to_string();
            let mut query = query.to_vec();
            query.extend([("pageSize", size.as_str()), ("pageToken", token.as_str())]);
            let answer = self.get(path, &query).await?;
            all.extend(list_at(&answer, key));
            token = string_at(&answer, "/nextPageToken").unwrap_or_default().to_owned();
            if token.is_empty() || all.len() >= limit {
                all.truncate(limit);
                return Ok(all);
            }
        }
    }

    /// The owner that is meant.
    async fn owner(&self, named: &OwnerArguments) -> Result<Found, Failure> {
        match (&named.registry, &named.device, &named.broker) {
            (Some(name), _, _) => registry::find(self, name).await,
            (_, Some(name), _) => device::find(self, name, None).await,
            (_, _, Some(name)) => broker::find(self, name).await,
            (None, None, None) => Err(Failure::usage("name a registry, a device or a broker")),
        }
    }

    /// The one object of that name or id in a list.
    fn one_of(noun: &'static str, name: &str, all: Vec<Value>) -> Result<Found, Failure> {
        let mut named: Vec<Value> = all.into_iter().filter(|one| string_at(one, "/name") == Some(name)).collect();
        match (named.pop(), named.is_empty()) {
            (Some(object), true) => Ok(Found { noun, object }),
            (Some(_), false) => Err(Failure::new(format!("several objects of the kind {noun} are named {name}"))
                .hint(format!("give the id; chancery iot {noun} list shows all"))),
            (None, _) => Err(Failure::new(format!("there is no {noun} {name}"))
                .hint(format!("chancery iot {noun} list shows all; another folder is named with --folder"))),
        }
    }
}

/// The answer, or nothing when the server knows no such object, or takes the text for no id at all.
fn unless_unknown(answer: Result<Value, Failure>) -> Result<Option<Value>, Failure> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(failure) if matches!(failure.status, Some(400 | 404)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Found {
    fn id(&self) -> Result<&str, Failure> {
        needed(&self.object, "/id")
    }

    /// Its place, and something below it.
    fn place<'a>(&'a self, below: &[&'a str]) -> Result<Vec<&'a str>, Failure> {
        let (family, list) = match self.noun {
            "registry" => ("iot-devices", "registries"),
            "device" => ("iot-devices", "devices"),
            _ => ("iot-broker", "brokers"),
        };
        Ok([&[family, "v1", list, self.id()?][..], below].concat())
    }

    /// As people call it.
    fn title(&self) -> String {
        let name = string_at(&self.object, "/name").filter(|name| !name.is_empty());
        let name = name.or_else(|| string_at(&self.object, "/id")).unwrap_or_default();
        format!("{} {}", self.noun, printable(name))
    }
}

/// The object that a change made or changed, from its operation.
fn response(operation: &Value) -> &Value {
    &operation["response"]
}

/// What a command that made something says; a password that was made for it is shown this once.
fn made(noun: &str, mut operation: Value, description: &str, password: Option<String>) -> Output {
    let mut text = format!("made the {noun}\n{description}");
    if let Some(password) = password {
        text.push_str(&format!("\npassword: {password}\nIt is shown this once."));
        operation["password"] = password.into();
    }
    Output::new(operation, text)
}
