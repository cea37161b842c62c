//! `chancery iot registry`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Api, ChangeArguments, Found, NewArguments, made, masked, response, unless_unknown};
use crate::cli::{
    failure::Failure,
    output::{Column, Output, fields, table, text_at},
};

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("STATUS", "/status"),
    ("CREATED", "/createdAt"),
    ("DESCRIPTION", "/description"),
    ("ID", "/id"),
];
const REGISTRIES: [&str; 3] = ["iot-devices", "v1", "registries"];

#[derive(Subcommand)]
pub(crate) enum RegistryCommand {
    /// Make a registry.
    #[command(after_help = "Examples:
  chancery iot registry create plant
  chancery iot registry create plant --label site=north --certificate backend.pem
  chancery iot registry create plant --generate")]
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        new: NewArguments,
    },
    /// List the registries of the folder.
    #[command(after_help = "Example:\n  chancery iot registry list")]
    List {
        /// How many at most.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// Show a registry.
    #[command(after_help = "Example:\n  chancery iot registry show plant")]
    Show {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        registry: String,
    },
    /// Change the name, the description or the labels of a registry.
    #[command(after_help = "Example:\n  chancery iot registry update plant --label site=south")]
    Update {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        registry: String,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Delete a registry that has no devices.
    #[command(after_help = "Example:\n  chancery iot registry delete plant")]
    Delete {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        registry: String,
    },
    /// Admit a disabled registry and its devices again.
    #[command(after_help = "Example:\n  chancery iot registry enable plant")]
    Enable {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        registry: String,
    },
    /// Refuse a registry and all its devices, and close their connections.
    #[command(after_help = "Example:\n  chancery iot registry disable plant")]
    Disable {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        registry: String,
    },
}

pub(super) async fn run(api: &Api<'_>, command: RegistryCommand) -> Result<Output, Failure> {
    match command {
        RegistryCommand::Create { name, new } => {
            let (mut body, password) = new.body(&name)?;
            body["folderId"] = api.folder.as_str().into();
            let operation = api.post(&REGISTRIES, &body).await?;
            let description = describe(response(&operation));
            Ok(made("registry", operation, &description, password))
        }
        RegistryCommand::List { limit } => {
            let query = [("folderId", api.folder.as_str())];
            let all = api.list(&REGISTRIES, &query, "/registries", limit).await?;
            let text = table(COLUMNS, &all, "There is no registry in this folder.");
            Ok(Output::new(json!({ "registries": all }), text))
        }
        RegistryCommand::Show { registry } => {
            let found = find(api, &registry).await?.object;
            let text = describe(&found);
            Ok(Output::new(found, text))
        }
        RegistryCommand::Update { registry, change } => {
            let body = masked(change.body())?;
            let found = find(api, &registry).await?;
            let operation = api.patch(&found.place(&[])?, &body).await?;
            let text = format!("changed the registry\n{}", describe(response(&operation)));
            Ok(Output::new(operation, text))
        }
        RegistryCommand::Delete { registry } => {
            let found = find(api, &registry).await?;
            let operation = api.delete(&found.place(&[])?).await?;
            Ok(Output::new(operation, format!("deleted {}", found.title())))
        }
        RegistryCommand::Enable { registry } => switch(api, &registry, "enable").await,
        RegistryCommand::Disable { registry } => switch(api, &registry, "disable").await,
    }
}

/// The registry of that id, else of that name in the folder.
pub(super) async fn find(api: &Api<'_>, name: &str) -> Result<Found, Failure> {
    let found = match unless_unknown(api.get(&[&REGISTRIES[..], &[name]].concat(), &[]).await)? {
        Some(object) => Some(object),
        None => {
            let query = [("folderId", api.folder.as_str()), ("registryName", name)];
            unless_unknown(api.get(&["iot-devices", "v1", "registries:getByName"], &query).await)?
        }
    };
    match found {
        Some(object) => Ok(Found { noun: "registry", object }),
        None => Api::one_of("registry", name, Vec::new()),
    }
}

async fn switch(api: &Api<'_>, name: &str, verb: &str) -> Result<Output, Failure> {
    let found = find(api, name).await?;
    let last = format!("{}:{verb}", found.id()?);
    let operation = api.post(&[&REGISTRIES[..], &[&last]].concat(), &json!({})).await?;
    Ok(Output::new(operation, format!("{verb}d {}", found.title())))
}

fn describe(registry: &Value) -> String {
    fields([
        ("name", text_at(registry, "/name")),
        ("description", text_at(registry, "/description")),
        ("status", text_at(registry, "/status")),
        ("labels", text_at(registry, "/labels")),
        ("folder", text_at(registry, "/folderId")),
        ("log", text_at(registry, "/logOptions")),
        ("created", text_at(registry, "/createdAt")),
        ("id", text_at(registry, "/id")),
    ])
}
