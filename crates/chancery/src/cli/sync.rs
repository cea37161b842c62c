//! `chancery sync`: carrying certificates to where they are used.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::{
    app_connection,
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
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
        SyncCommand::Create { name, destination, connection, config, option, certificates, manual, description } => {
            let mut body = json!({
                "name": name, "isAutoSyncEnabled": !manual, "destinationConfig": settings(&config),
                "syncOptions": settings(&option), "certificateIds": certificates,
            });
            if let Some(description) = description {
                body["description"] = description.into();
            }
            if let Some(connection) = connection {
                let found = app_connection::find(client, &connection).await?;
                body["connectionId"] = needed(&found, "/id")?.into();
            }
            let body = client.in_project(body).await?;
            let answer = client.post(&["v1", "cert-manager", "syncs", &destination], &body).await?;
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
            return match (failed, status.as_str()) {
                (0, "succeeded" | "-") => Ok(Output::new(json!({ "pkiSync": now, "certificates": all }), text)),
                (0, _) => Err(Failure::new(format!("the sync failed: {}", text_at(&now, "/lastSyncMessage")))),
                (failed, _) => Err(Failure::new(format!("{failed} of {} certificates failed", all.len()))),
            };
        }
        if begun.elapsed() > time_limit {
            return Err(Failure::new(format!("{waiting} of {} certificates still wait", all.len())));
        }
        tokio::time::sleep(PAUSE).await;
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
