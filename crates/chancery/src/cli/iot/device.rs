//! `chancery iot device`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Api, ChangeArguments, Found, NewArguments, made, masked, registry, response, texts, unless_unknown};
use crate::cli::{
    failure::Failure,
    output::{Column, Output, fields, table, text_at},
    vocabulary::Setting,
};

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("REGISTRY", "/registryId"),
    ("CREATED", "/createdAt"),
    ("DESCRIPTION", "/description"),
    ("ID", "/id"),
];
const DEVICES: [&str; 3] = ["iot-devices", "v1", "devices"];

#[derive(Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device.
    #[command(after_help = "Examples:
  chancery iot device create pump-7 --registry plant --certificate pump-7.pem
  chancery iot device create pump-7 --registry plant --alias 'pumps/7=$devices/{id}' --generate")]
    Create {
        /// Its name.
        name: String,
        /// Its registry, by name or id.
        #[arg(long, value_name = "NAME|ID")]
        registry: String,
        /// Another name of its topics, and what it stands for; {id} is the new device's id.
        #[arg(long = "alias", value_name = "ALIAS=TOPIC")]
        aliases: Vec<Setting>,
        #[command(flatten)]
        new: NewArguments,
    },
    /// List the devices of a registry, or of all registries of the folder.
    #[command(after_help = "Examples:
  chancery iot device list
  chancery iot device list --registry plant --limit 20")]
    List {
        /// Only of this registry, by name or id.
        #[arg(long, value_name = "NAME|ID")]
        registry: Option<String>,
        /// How many at most.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// Show a device and when it was last seen.
    #[command(after_help = "Example:\n  chancery iot device show pump-7 --registry plant")]
    Show {
        #[command(flatten)]
        device: DeviceArguments,
    },
    /// Change the name, the description, the labels or the aliases of a device.
    #[command(after_help = "Example:
  chancery iot device update pump-7 --registry plant --name pump-8 --no-aliases")]
    Update {
        #[command(flatten)]
        device: DeviceArguments,
        #[command(flatten)]
        change: ChangeArguments,
        /// Another name of its topics; all aliases that it has are replaced by those given.
        #[arg(long = "alias", value_name = "ALIAS=TOPIC", conflicts_with = "no_aliases")]
        aliases: Vec<Setting>,
        /// Take all aliases away.
        #[arg(long)]
        no_aliases: bool,
    },
    /// Delete a device with its credentials and aliases, and close its connections.
    #[command(after_help = "Example:\n  chancery iot device delete pump-7 --registry plant")]
    Delete {
        #[command(flatten)]
        device: DeviceArguments,
    },
}

/// Which device is meant.
#[derive(clap::Args)]
pub(crate) struct DeviceArguments {
    /// Its id, or its name.
    #[arg(value_name = "NAME|ID")]
    device: String,
    /// Its registry, by name or id; needed only when several devices of the folder have this name.
    #[arg(long, value_name = "NAME|ID")]
    registry: Option<String>,
}

pub(super) async fn run(api: &Api<'_>, command: DeviceCommand) -> Result<Output, Failure> {
    match command {
        DeviceCommand::Create { name, registry, aliases, new } => {
            let (mut body, password) = new.body(&name)?;
            body["registryId"] = registry::find(api, &registry).await?.id()?.into();
            body["topicAliases"] = texts(&aliases);
            let operation = api.post(&DEVICES, &body).await?;
            let description = describe(response(&operation));
            Ok(made("device", operation, &description, password))
        }
        DeviceCommand::List { registry, limit } => {
            let of = match &registry {
                Some(name) => ("registryId", registry::find(api, name).await?.id()?.to_owned()),
                None => ("folderId", api.folder.clone()),
            };
            let all = api.list(&DEVICES, &[(of.0, of.1.as_str())], "/devices", limit).await?;
            let text = table(COLUMNS, &all, "There is no device.");
            Ok(Output::new(json!({ "devices": all }), text))
        }
        DeviceCommand::Show { device } => {
            let found = device.find(api).await?;
            let full = api.get(&found.place(&[])?, &[("deviceView", "FULL")]).await?;
            let text = describe(&full);
            Ok(Output::new(full, text))
        }
        DeviceCommand::Update { device, change, aliases, no_aliases } => {
            let mut body = change.body();
            if no_aliases || !aliases.is_empty() {
                body.insert("topicAliases".into(), texts(&aliases));
            }
            let body = masked(body)?;
            let operation = api.patch(&device.find(api).await?.place(&[])?, &body).await?;
            let text = format!("changed the device\n{}", describe(response(&operation)));
            Ok(Output::new(operation, text))
        }
        DeviceCommand::Delete { device } => {
            let found = device.find(api).await?;
            let operation = api.delete(&found.place(&[])?).await?;
            Ok(Output::new(operation, format!("deleted {}", found.title())))
        }
    }
}

impl DeviceArguments {
    async fn find(&self, api: &Api<'_>) -> Result<Found, Failure> {
        find(api, &self.device, self.registry.as_deref()).await
    }
}

/// The device of that id, else of that name in the registry, else the only one of that name in the folder.
pub(super) async fn find(api: &Api<'_>, name: &str, registry: Option<&str>) -> Result<Found, Failure> {
    if let Some(object) = unless_unknown(api.get(&[&DEVICES[..], &[name]].concat(), &[]).await)? {
        return Ok(Found { noun: "device", object });
    }
    let all = match registry {
        Some(registry) => {
            let registry = registry::find(api, registry).await?;
            let query = [("registryId", registry.id()?), ("deviceName", name)];
            let found = unless_unknown(api.get(&["iot-devices", "v1", "devices:getByName"], &query).await)?;
            found.into_iter().collect()
        }
        None => api.list(&DEVICES, &[("folderId", api.folder.as_str())], "/devices", None).await?,
    };
    Api::one_of("device", name, all)
}

fn describe(device: &Value) -> String {
    fields([
        ("name", text_at(device, "/name")),
        ("description", text_at(device, "/description")),
        ("registry", text_at(device, "/registryId")),
        ("labels", text_at(device, "/labels")),
        ("aliases", text_at(device, "/topicAliases")),
        ("created", text_at(device, "/createdAt")),
        ("last login", text_at(device, "/monitoringData/lastAuthTime")),
        ("last login from", text_at(device, "/monitoringData/lastAuthIp")),
        ("last publication", text_at(device, "/monitoringData/lastPubActivityTime")),
        ("last subscription", text_at(device, "/monitoringData/lastSubActivityTime")),
        ("last online", text_at(device, "/monitoringData/lastOnlineTime")),
        ("last disconnect", text_at(device, "/monitoringData/lastDisconnectTime")),
        ("id", text_at(device, "/id")),
    ])
}
