//! `chancery sync`: carrying certificates to where they are used.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::{
    app_connection,
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files,
    output::{Column, Output, fields, list_at, needed, printable, string_at, table, text_at},
    vocabulary::{Setting, settings},
};

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("DESTINATION", "/destination"),
    ("STATUS", "/syncStatus"),
    ("LAST SYNCED", "/lastSyncedAt"),
    ("ID", "/id"),
];
const CERTIFICATES: &[Column] = &[
    ("COMMON NAME", "/certificateCommonName"),
    ("STATUS", "/syncStatus"),
    ("LAST SYNCED", "/lastSyncedAt"),
    ("AT", "/externalIdentifier"),
    ("MESSAGE", "/lastSyncMessage"),
    ("CERTIFICATE", "/certificateId"),
];
/// How often `watch` looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Carry certificates to where they are used, and see whether they arrived.
#[derive(clap::Args)]
pub(crate) struct SyncArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: SyncCommand,
}

#[derive(Subcommand)]
pub(crate) enum SyncCommand {
    /// List the destinations and what they take.
    #[command(after_help = "Example:\n  chancery sync destinations")]
    Destinations,
    /// Make a sync.
    #[command(after_help = "Examples:
  chancery sync create web-1 --destination linux-server --connection web-1 \\
    --config destinationPath=/etc/nginx/tls --option certificateNameSchema={{commonName}} \\
    --option 'postSyncCommand=systemctl reload nginx'
  chancery sync create cloud --destination aws-certificate-manager --connection cloud \\
    --config region=eu-central-1")]
    Create {
        /// Its name.
        name: String,
        /// Where to: see chancery sync destinations.
        #[arg(long, value_name = "DESTINATION")]
        destination: String,
        /// The connection that leads there, by name or id.
        #[arg(long, value_name = "NAME|ID")]
        connection: Option<String>,
        /// A field of the destination's configuration; a value may be JSON.
        #[arg(long, value_name = "FIELD=VALUE")]
        config: Vec<Setting>,
        /// An option; a value may be JSON.
        #[arg(long, value_name = "OPTION=VALUE")]
        option: Vec<Setting>,
        /// A certificate that it carries from the beginning, by id.
        #[arg(long = "certificate", value_name = "ID")]
        certificates: Vec<String>,
        /// Let it run only when it is told to.
        #[arg(long)]
        manual: bool,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// A file with the password of PKCS#12 files; - reads standard input.
        #[arg(long, value_name = "FILE")]
        export_password_file: Option<PathBuf>,
    },
    /// Change a sync. What is not named stays as it is.
    ///
    /// A change does not make it run: chancery sync preview shows what a run would do. What was made at another place stays
    /// there.
    #[command(after_help = "Examples:
  chancery sync update web-1 --option 'postSyncCommand=systemctl reload haproxy'
  chancery sync update web-1 --name edge-1 --description 'the edge' --manual
  chancery sync update web-1 --unset-option postSyncCommand --automatic")]
    Update {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
        #[command(flatten)]
        change: Box<ChangeArguments>,
    },
    /// List syncs.
    #[command(after_help = "Example:\n  chancery sync list")]
    List,
    /// Show a sync and what became of its certificates.
    #[command(after_help = "Example:\n  chancery sync show web-1")]
    Show {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
    },
    /// Run a sync now, and wait for the end unless told otherwise.
    #[command(after_help = "Examples:\n  chancery sync run web-1\n  chancery sync run web-1 --no-wait")]
    Run {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// See what a run would do. The destination is asked; nothing is changed.
    #[command(after_help = "Example:\n  chancery sync preview web-1")]
    Preview {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
    },
    /// Add certificates to a sync.
    #[command(after_help = "Example:\n  chancery sync add web-1 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11")]
    Add {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
        /// The certificates, by id.
        #[arg(value_name = "CERTIFICATE", required = true)]
        certificates: Vec<String>,
    },
    /// Remove certificates from a sync.
    #[command(after_help = "Example:\n  chancery sync remove web-1 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11")]
    Remove {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
        /// The certificates, by id.
        #[arg(value_name = "CERTIFICATE", required = true)]
        certificates: Vec<String>,
    },
    /// Remove from the destination what the sync put there, and wait for the end unless told otherwise.
    ///
    /// Only what the sync made goes, and only if nobody changed it since. Its certificates are not linked any more afterwards.
    #[command(
        after_help = "Examples:\n  chancery sync remove-certificates web-1\n  chancery sync remove-certificates web-1 --no-wait"
    )]
    RemoveCertificates {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// Watch what becomes of the certificates of a sync until nothing waits any more.
    #[command(after_help = "Example:\n  chancery sync watch web-1")]
    Watch {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
        /// For how many seconds at most.
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u64,
    },
    /// Delete a sync. What it delivered stays at the destination.
    #[command(after_help = "Example:\n  chancery sync delete web-1")]
    Delete {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        sync: String,
    },
}

/// What is to be changed in a sync.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ChangeArguments {
    /// Another name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it is for; an empty text takes the description back.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Another connection of the same kind, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    connection: Option<String>,
    /// A field of the destination's configuration; a value may be JSON.
    #[arg(long, value_name = "FIELD=VALUE")]
    config: Vec<Setting>,
    /// A field of the destination's configuration that is taken back.
    #[arg(long, value_name = "FIELD")]
    unset_config: Vec<String>,
    /// An option; a value may be JSON.
    #[arg(long, value_name = "OPTION=VALUE")]
    option: Vec<Setting>,
    /// An option that gets its default again.
    #[arg(long, value_name = "OPTION")]
    unset_option: Vec<String>,
    /// Let it run only when it is told to.
    #[arg(long, conflicts_with = "automatic")]
    manual: bool,
    /// Let it run by itself when something changes, and once a day.
    #[arg(long)]
    automatic: bool,
    /// A file with the password of PKCS#12 files; - reads standard input.
    #[arg(long, value_name = "FILE")]
    export_password_file: Option<PathBuf>,
}

impl ChangeArguments {
    /// The change as the server takes it. It replaces configuration and options as a whole, so what stays is sent along.
    async fn of(self, client: &Client, sync: &Value) -> Result<Value, Failure> {
        let mut body = json!({});
        if let Some(name) = self.name {
            body["name"] = name.into();
        }
        if let Some(description) = self.description {
            body["description"] = if description.is_empty() { Value::Null } else { description.into() };
        }
        if let Some(connection) = self.connection {
            let found = app_connection::find(client, &connection).await?;
            body["connectionId"] = needed(&found, "/id")?.into();
        }
        for (field, set, unset) in
            [("destinationConfig", self.config, self.unset_config), ("syncOptions", self.option, self.unset_option)]
        {
            if !set.is_empty() || !unset.is_empty() {
                body[field] = changed(&sync[field], &set, &unset)?;
            }
        }
        if self.manual || self.automatic {
            body["isAutoSyncEnabled"] = self.automatic.into();
        }
        if let Some(file) = self.export_password_file {
            body["credentials"] = export_password(&file)?;
        }
        Ok(body)
    }
}

/// An object with some members set and some taken out.
fn changed(before: &Value, set: &[Setting], unset: &[String]) -> Result<Value, Failure> {
    let mut members = before.as_object().cloned().unwrap_or_default();
    for name in unset {
        if members.remove(name).is_none() {
            let known: Vec<&str> = members.keys().map(String::as_str).collect();
            return Err(Failure::new(format!("{name} is not set; set are {}", known.join(", "))));
        }
    }
    members.extend(self::members(set));
    Ok(Value::Object(members))
}

/// The settings as an object. No field of a sync is a plain number: what is all digits is the mode of a file, or a name.
fn members(given: &[Setting]) -> Map<String, Value> {
    let mut members = settings(given);
    for setting in given {
        if let Some(value) = members.get_mut(&setting.name).filter(|value| value.is_number()) {
            *value = setting.value.as_str().into();
        }
    }
    members
}

fn export_password(file: &Path) -> Result<Value, Failure> {
    let text = files::read_text(file)?;
    Ok(json!({ "exportPassword": text.trim_end_matches('\n') }))
}

pub(crate) async fn run(client: &Client, command: SyncCommand) -> Result<Output, Failure> {
    match command {
        SyncCommand::Destinations => {
            let answer = client.get(&["v1", "cert-manager", "syncs", "options"], &[]).await?;
            let columns: &[Column] = &[
                ("DESTINATION", "/destination"),
                ("CONNECTION", "/connection"),
                ("REMOVES", "/canRemoveCertificates"),
                ("NAMES BY DEFAULT", "/defaultCertificateNameSchema"),
                ("NAME", "/name"),
            ];
            let text = table(columns, &list_at(&answer, "/pkiSyncOptions"), "There is no destination.");
            Ok(Output::new(answer, text))
        }
        SyncCommand::Create {
            name,
            destination,
            connection,
            config,
            option,
            certificates,
            manual,
            description,
            export_password_file,
        } => {
            must_be_destination(client, &destination).await?;
            let mut body = json!({
                "name": name, "isAutoSyncEnabled": !manual, "destinationConfig": members(&config),
                "syncOptions": members(&option), "certificateIds": certificates,
            });
            if let Some(description) = description {
                body["description"] = description.into();
            }
            if let Some(connection) = connection {
                let found = app_connection::find(client, &connection).await?;
                body["connectionId"] = needed(&found, "/id")?.into();
            }
            if let Some(file) = export_password_file {
                body["credentials"] = export_password(&file)?;
            }
            let body = client.in_project(body).await?;
            let answer = client.post(&["v1", "cert-manager", "syncs", &destination], &body).await?;
            let text = describe(&answer);
            Ok(Output::new(answer, text))
        }
        SyncCommand::Update { sync, change } => {
            let found = find(client, &sync).await?;
            let answer = client.patch(&place(&found)?, &change.of(client, &found).await?).await?;
            let text = describe(&answer);
            Ok(Output::new(answer, text))
        }
        SyncCommand::List => {
            let answer = client.get_in_project(&["v1", "cert-manager", "syncs"], &[]).await?;
            let text = table(COLUMNS, &list_at(&answer, "/pkiSyncs"), "There is no sync yet.");
            Ok(Output::new(answer, text))
        }
        SyncCommand::Show { sync } => {
            let found = find(client, &sync).await?;
            let certificates = certificates(client, &found).await?;
            let rows = table(CERTIFICATES, &certificates, "It carries no certificate.");
            let text = format!("{}\n\n{rows}", describe(&found));
            Ok(Output::new(json!({ "pkiSync": found, "certificates": certificates }), text))
        }
        SyncCommand::Run { sync, no_wait } => {
            let found = find(client, &sync).await?;
            let answer = client.post(&[&place(&found)?[..], &["sync"]].concat(), &json!({})).await?;
            match no_wait {
                true => {
                    let text = text_at(&answer, "/message");
                    Ok(Output::new(answer, text))
                }
                false => watch(client, &found, Duration::from_secs(600)).await,
            }
        }
        SyncCommand::Preview { sync } => {
            let found = find(client, &sync).await?;
            let answer = client.get(&[&place(&found)?[..], &["preview"]].concat(), &[]).await?;
            let text = previewed(&answer);
            Ok(Output::new(answer, text))
        }
        SyncCommand::Add { sync, certificates } => {
            let found = find(client, &sync).await?;
            let path = ["v1", "cert-manager", "syncs", needed(&found, "/id")?, "certificates"];
            let answer = client.post(&path, &json!({ "certificateIds": certificates })).await?;
            let count = list_at(&answer, "/addedCertificates").len();
            Ok(Output::new(
                answer,
                format!("{count} certificates are linked; chancery sync watch {sync} shows what becomes of them"),
            ))
        }
        SyncCommand::Remove { sync, certificates } => {
            let found = find(client, &sync).await?;
            let path = ["v1", "cert-manager", "syncs", needed(&found, "/id")?, "certificates"];
            let answer = client.delete_with(&path, &json!({ "certificateIds": certificates })).await?;
            let text = format!("{} certificates are not linked any more", text_at(&answer, "/removedCount"));
            Ok(Output::new(answer, text))
        }
        SyncCommand::RemoveCertificates { sync, no_wait } => {
            let found = find(client, &sync).await?;
            let path = [&place(&found)?[..], &["remove-certificates"]].concat();
            let answer = client.post(&path, &json!({})).await.map_err(|failure| match failure.status {
                Some(404) => Failure::new(format!("nothing can be removed from {}", text_at(&found, "/destination"))),
                _ => failure,
            })?;
            match no_wait {
                true => {
                    let text = text_at(&answer, "/message");
                    Ok(Output::new(answer, text))
                }
                false => watch_removal(client, &found, Duration::from_secs(600)).await,
            }
        }
        SyncCommand::Watch { sync, timeout } => {
            watch(client, &find(client, &sync).await?, Duration::from_secs(timeout)).await
        }
        SyncCommand::Delete { sync } => {
            let found = find(client, &sync).await?;
            let answer = client.delete(&place(&found)?).await?;
            Ok(Output::new(answer, format!("deleted sync {}", text_at(&found, "/name"))))
        }
    }
}

async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    let answer = client.get_in_project(&["v1", "cert-manager", "syncs"], &[]).await?;
    list_at(&answer, "/pkiSyncs")
        .into_iter()
        .find(|one| [string_at(one, "/name"), string_at(one, "/id")].contains(&Some(name)))
        .ok_or_else(|| Failure::new(format!("there is no sync {name}; chancery sync list shows all")))
}

/// Refuses a destination that the server does not know, and says which ones it does.
async fn must_be_destination(client: &Client, destination: &str) -> Result<(), Failure> {
    let answer = client.get(&["v1", "cert-manager", "syncs", "options"], &[]).await?;
    let all = list_at(&answer, "/pkiSyncOptions");
    let mut known: Vec<&str> = all.iter().filter_map(|one| string_at(one, "/destination")).collect();
    known.sort_unstable();
    match known.contains(&destination) {
        true => Ok(()),
        false => Err(Failure::new(format!("there is no destination {destination}; there are {}", known.join(", ")))),
    }
}

fn place(sync: &Value) -> Result<[&str; 5], Failure> {
    Ok(["v1", "cert-manager", "syncs", needed(sync, "/destination")?, needed(sync, "/id")?])
}

async fn certificates(client: &Client, sync: &Value) -> Result<Vec<Value>, Failure> {
    const PAGE: usize = 100;
    let path = ["v1", "cert-manager", "syncs", needed(sync, "/id")?, "certificates"];
    let mut all = Vec::new();
    loop {
        let offset = all.len().to_string();
        let answer = client.get(&path, &[("limit", "100"), ("offset", offset.as_str())]).await?;
        let page = list_at(&answer, "/certificates");
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// Shows a person each change as it happens, and ends when nothing waits any more. Certificates that failed make
/// the command fail.
async fn watch(client: &Client, sync: &Value, time_limit: Duration) -> Result<Output, Failure> {
    let (begun, is_person) = (Instant::now(), std::io::stderr().is_terminal());
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let now = client.get(&["v1", "cert-manager", "syncs", needed(sync, "/id")?], &[]).await?;
        let all = certificates(client, sync).await?;
        let (mut waiting, mut failed) = (0, 0);
        for one in &all {
            let status = text_at(one, "/syncStatus");
            waiting += usize::from(matches!(status.as_str(), "pending" | "running"));
            failed += usize::from(status == "failed");
            let line = format!(
                "{}: {status} {}",
                printable(&text_at(one, "/certificateCommonName")),
                printable(&text_at(one, "/lastSyncMessage")),
            );
            let key = text_at(one, "/certificateId");
            if seen.get(&key) != Some(&line) {
                if is_person {
                    eprintln!("{line}");
                }
                seen.insert(key, line);
            }
        }
        let status = text_at(&now, "/syncStatus");
        if waiting == 0 && !matches!(status.as_str(), "pending" | "running") {
            let text = table(CERTIFICATES, &all, "It carries no certificate.");
            let why = match (failed, status.as_str()) {
                (0, "succeeded" | "-") => None,
                (0, _) => Some(format!("the sync failed: {}", printable(&text_at(&now, "/lastSyncMessage")))),
                (failed, _) => Some(format!("{failed} of {} certificates failed", all.len())),
            };
            let output = Output::new(json!({ "pkiSync": now, "certificates": all }), text);
            return Ok(match why {
                None => output,
                Some(why) => {
                    eprintln!("error: {why}");
                    output.of_failure()
                }
            });
        }
        if begun.elapsed() > time_limit {
            return Err(Failure::new(format!("{waiting} of {} certificates still wait", all.len())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until a removal has ended. What stayed there makes the command fail.
async fn watch_removal(client: &Client, sync: &Value, time_limit: Duration) -> Result<Output, Failure> {
    let begun = Instant::now();
    loop {
        let now = client.get(&["v1", "cert-manager", "syncs", needed(sync, "/id")?], &[]).await?;
        let (name, status) = (text_at(sync, "/name"), text_at(&now, "/removeStatus"));
        match status.as_str() {
            "pending" | "running" if begun.elapsed() <= time_limit => tokio::time::sleep(PAUSE).await,
            "succeeded" => return Ok(Output::new(now, format!("removed what sync {name} put to its destination"))),
            "failed" => {
                let why = text_at(&now, "/lastRemoveMessage");
                return Err(Failure::new(format!("the removal failed and is tried again: {why}")));
            }
            _ => return Err(Failure::new(format!("the removal has not ended yet: it is {status}"))),
        }
    }
}

fn previewed(preview: &Value) -> String {
    let columns: &[Column] =
        &[("NAME", "/name"), ("AT", "/externalIdentifier"), ("WHY", "/reason"), ("CERTIFICATE", "/certificateId")];
    ["create", "replace", "remove", "unchanged"]
        .into_iter()
        .filter_map(|part| {
            let rows = list_at(preview, &format!("/{part}"));
            (!rows.is_empty()).then(|| format!("{part} {}\n{}", rows.len(), table(columns, &rows, "")))
        })
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn describe(sync: &Value) -> String {
    fields([
        ("name", text_at(sync, "/name")),
        ("description", text_at(sync, "/description")),
        ("destination", text_at(sync, "/destination")),
        ("place", sync["destinationConfig"].to_string()),
        ("connection", text_at(sync, "/appConnectionName")),
        ("by itself", text_at(sync, "/isAutoSyncEnabled")),
        ("status", text_at(sync, "/syncStatus")),
        ("message", text_at(sync, "/lastSyncMessage")),
        ("last synced", text_at(sync, "/lastSyncedAt")),
        ("id", text_at(sync, "/id")),
    ])
}
