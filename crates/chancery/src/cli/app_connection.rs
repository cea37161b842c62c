//! `chancery connection`: how the server reaches other systems.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files,
    output::{Column, Output, fields, list_at, needed, string_at, table, text_at},
    vocabulary::{Setting, settings},
};

const COLUMNS: &[Column] =
    &[("NAME", "/name"), ("KIND", "/app"), ("METHOD", "/method"), ("VERSION", "/version"), ("ID", "/id")];

/// Make, check, change and delete connections to other systems.
///
/// A sync carries certificates over a connection. Credentials are checked with the other system before they are kept, are kept
/// sealed, and are never shown again.
#[derive(clap::Args)]
pub(crate) struct AppConnectionArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: AppConnectionCommand,
}

#[derive(Subcommand)]
pub(crate) enum AppConnectionCommand {
    /// List the kinds of connections and their methods.
    #[command(after_help = "Example:\n  chancery connection kinds")]
    Kinds,
    /// List connections.
    #[command(after_help = "Example:\n  chancery connection list")]
    List,
    /// Show a connection, without its secrets.
    #[command(after_help = "Example:\n  chancery connection show web-1")]
    Show {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        connection: String,
    },
    /// Make a connection, once the other system has accepted the credentials.
    #[command(after_help = "Examples:
  chancery connection create web-1 --kind ssh --method ssh-key --set host=web-1.example.com \\
    --set port=22 --set username=deploy --set-file privateKey=deploy.key
  chancery connection create cloud --kind aws --method access-key --set accessKeyId=AKIAEXAMPLE \\
    --set-file secretAccessKey=secret.txt")]
    Create {
        /// Its name.
        name: String,
        /// The kind of system: see chancery connection kinds.
        #[arg(long, value_name = "KIND")]
        kind: String,
        /// How to authenticate: see chancery connection kinds.
        #[arg(long, value_name = "METHOD")]
        method: String,
        #[command(flatten)]
        credentials: CredentialArguments,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Let only the project use it that --project names.
        #[arg(long)]
        only_for_project: bool,
    },
    /// Give a connection other credentials; every sync uses them from then on.
    #[command(after_help = "Example:
  chancery connection rotate cloud --set accessKeyId=AKIANEXT --set-file secretAccessKey=next.txt")]
    Rotate {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        connection: String,
        #[command(flatten)]
        credentials: CredentialArguments,
    },
    /// Ask the other system whether it accepts the credentials.
    #[command(after_help = "Example:\n  chancery connection check web-1")]
    Check {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        connection: String,
    },
    /// Delete a connection that no sync uses.
    #[command(after_help = "Example:\n  chancery connection delete web-1")]
    Delete {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        connection: String,
    },
}

/// What convinces the other system.
#[derive(clap::Args)]
pub(crate) struct CredentialArguments {
    /// A field of the credentials. Give secrets by --set-file: a command line is seen by others.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<Setting>,
    /// A field of the credentials, read from a file; - reads standard input.
    #[arg(long = "set-file", value_name = "FIELD=FILE")]
    set_file: Vec<Setting>,
}

impl CredentialArguments {
    fn read(&self) -> Result<Value, Failure> {
        let mut fields = settings(&self.set);
        for setting in &self.set_file {
            let text = files::read_text(&PathBuf::from(&setting.value))?;
            fields.insert(setting.name.clone(), text.trim_end_matches('\n').into());
        }
        Ok(Value::Object(fields))
    }
}

pub(crate) async fn run(client: &Client, command: AppConnectionCommand) -> Result<Output, Failure> {
    match command {
        AppConnectionCommand::Kinds => {
            let answer = client.get(&["v1", "app-connections", "options"], &[]).await?;
            let columns: &[Column] = &[("KIND", "/app"), ("METHODS", "/methods"), ("NAME", "/name")];
            let text = table(columns, &list_at(&answer, "/appConnectionOptions"), "There is no kind.");
            Ok(Output::new(answer, text))
        }
        AppConnectionCommand::List => {
            let answer = client.get(&["v1", "app-connections"], &[]).await?;
            let text = table(COLUMNS, &list_at(&answer, "/appConnections"), "There is no connection yet.");
            Ok(Output::new(answer, text))
        }
        AppConnectionCommand::Show { connection } => {
            let found = find(client, &connection).await?;
            let text = describe(&found);
            Ok(Output::new(json!({ "appConnection": found }), text))
        }
        AppConnectionCommand::Create { name, kind, method, credentials, description, only_for_project } => {
            let mut body = json!({ "name": name, "method": method, "credentials": credentials.read()? });
            if let Some(description) = description {
                body["description"] = description.into();
            }
            if only_for_project {
                body = client.in_project(body).await?;
            }
            shown(client.post(&["v1", "app-connections", &kind], &body).await?)
        }
        AppConnectionCommand::Rotate { connection, credentials } => {
            let found = find(client, &connection).await?;
            let body = json!({ "credentials": credentials.read()? });
            shown(client.patch(&place(&found)?, &body).await?)
        }
        AppConnectionCommand::Check { connection } => {
            let found = find(client, &connection).await?;
            let path = [&place(&found)?[..], &["check"]].concat();
            let answer = client.post(&path, &json!({})).await?;
            Ok(Output::new(answer, format!("{} is accepted by the other system", text_at(&found, "/name"))))
        }
        AppConnectionCommand::Delete { connection } => {
            let found = find(client, &connection).await?;
            let answer = client.delete(&place(&found)?).await?;
            Ok(Output::new(answer, format!("deleted connection {}", text_at(&found, "/name"))))
        }
    }
}

/// The connection of that name or id.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    let answer = client.get(&["v1", "app-connections"], &[]).await?;
    let named: Vec<Value> = list_at(&answer, "/appConnections")
        .into_iter()
        .filter(|one| [string_at(one, "/name"), string_at(one, "/id")].contains(&Some(name)))
        .collect();
    match &named[..] {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new(format!("there is no connection {name}; chancery connection list shows all"))),
        _ => Err(Failure::new(format!("several kinds of connections are named {name}: give the id"))),
    }
}

fn place(connection: &Value) -> Result<[&str; 4], Failure> {
    Ok(["v1", "app-connections", needed(connection, "/app")?, needed(connection, "/id")?])
}

fn shown(answer: Value) -> Result<Output, Failure> {
    let text = describe(&answer["appConnection"]);
    Ok(Output::new(answer, text))
}

fn describe(connection: &Value) -> String {
    let credentials = connection["credentials"].as_object().cloned().unwrap_or_else(Map::new);
    let credentials: Vec<(String, String)> =
        credentials.into_iter().map(|(name, value)| (name, text_at(&value, ""))).collect();
    let known = [
        ("name", text_at(connection, "/name")),
        ("kind", text_at(connection, "/app")),
        ("method", text_at(connection, "/method")),
        ("description", text_at(connection, "/description")),
        ("version", text_at(connection, "/version")),
        ("id", text_at(connection, "/id")),
    ];
    fields(known.into_iter().chain(credentials.iter().map(|(name, value)| (name.as_str(), value.clone()))))
}
