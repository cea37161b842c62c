//! `chancery iot broker`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Api, Found, NewArguments, made, response, unless_unknown};
use crate::cli::{
    failure::Failure,
    output::{Column, Output, fields, table, text_at},
};

const COLUMNS: &[Column] =
    &[("NAME", "/name"), ("CREATED", "/createdAt"), ("DESCRIPTION", "/description"), ("ID", "/id")];
const BROKERS: [&str; 3] = ["iot-broker", "v1", "brokers"];

#[derive(Subcommand)]
pub(crate) enum BrokerCommand {
    /// Make a broker: a space of topics that is open to whoever has one of its credentials.
    #[command(after_help = "Examples:
  chancery iot broker create shop --certificate client.pem
  chancery iot broker create shop --generate")]
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        new: NewArguments,
    },
    /// List the brokers of the folder.
    #[command(after_help = "Example:\n  chancery iot broker list")]
    List {
        /// How many at most.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// Show a broker.
    #[command(after_help = "Example:\n  chancery iot broker show shop")]
    Show {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        broker: String,
    },
    /// Delete a broker, and close its connections.
    #[command(after_help = "Example:\n  chancery iot broker delete shop")]
    Delete {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        broker: String,
    },
}

pub(super) async fn run(api: &Api<'_>, command: BrokerCommand) -> Result<Output, Failure> {
    match command {
        BrokerCommand::Create { name, new } => {
            let (mut body, password) = new.body(&name)?;
            body["folderId"] = api.folder.as_str().into();
            let operation = api.post(&BROKERS, &body).await?;
            let description = describe(response(&operation));
            Ok(made("broker", operation, &description, password))
        }
        BrokerCommand::List { limit } => {
            let all = list(api, limit).await?;
            let text = table(COLUMNS, &all, "There is no broker in this folder.");
            Ok(Output::new(json!({ "brokers": all }), text))
        }
        BrokerCommand::Show { broker } => {
            let found = find(api, &broker).await?.object;
            let text = describe(&found);
            Ok(Output::new(found, text))
        }
        BrokerCommand::Delete { broker } => {
            let found = find(api, &broker).await?;
            let operation = api.delete(&found.place(&[])?).await?;
            Ok(Output::new(operation, format!("deleted {}", found.title())))
        }
    }
}

async fn list(api: &Api<'_>, limit: Option<usize>) -> Result<Vec<Value>, Failure> {
    api.list(&BROKERS, &[("folderId", api.folder.as_str())], "/brokers", limit).await
}

/// The broker of that id, else of that name in the folder.
pub(super) async fn find(api: &Api<'_>, name: &str) -> Result<Found, Failure> {
    match unless_unknown(api.get(&[&BROKERS[..], &[name]].concat(), &[]).await)? {
        Some(object) => Ok(Found { noun: "broker", object }),
        None => Api::one_of("broker", name, list(api, None).await?),
    }
}

fn describe(broker: &Value) -> String {
    fields([
        ("name", text_at(broker, "/name")),
        ("description", text_at(broker, "/description")),
        ("labels", text_at(broker, "/labels")),
        ("folder", text_at(broker, "/folderId")),
        ("log", text_at(broker, "/logOptions")),
        ("created", text_at(broker, "/createdAt")),
        ("id", text_at(broker, "/id")),
    ])
}
