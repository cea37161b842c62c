//! `chancery job`: the server's background work.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    output::{Column, Output, fields, list_at, table, text_at},
};

const COLUMNS: &[Column] =
    &[("KIND", "/kind"), ("STATUS", "/status"), ("ATTEMPTS", "/attempts"), ("RUNS AT", "/runAt"), ("ID", "/id")];

/// List, show and run again the server's jobs.
///
/// Jobs sign revocation lists, renew certificates and the like. One that is done is removed; one that failed too often is
/// parked until somebody runs it again.
#[derive(clap::Args)]
pub(crate) struct JobArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Subcommand)]
pub(crate) enum JobCommand {
    /// List jobs, the next one first.
    #[command(after_help = "Examples:\n  chancery job list\n  chancery job list --status parked")]
    List {
        /// Only those of this status.
        #[arg(long)]
        status: Option<Status>,
        /// How many at most.
        #[arg(long, value_name = "COUNT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show a job.
    #[command(after_help = "Example:\n  chancery job show 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11")]
    Show {
        /// Its id.
        id: String,
    },
    /// Run a job now, also one that is parked.
    #[command(after_help = "Example:\n  chancery job retry 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11")]
    Retry {
        /// Its id.
        id: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Status {
    Queued,
    Running,
    Parked,
}

pub(crate) async fn run(client: &Client, command: JobCommand) -> Result<Output, Failure> {
    match command {
        JobCommand::List { status, limit } => {
            let limit = limit.to_string();
            let mut query = vec![("limit", limit.as_str())];
            query.extend(status.map(|status| ("status", status.name())));
            let answer = client.get(&["v1", "jobs"], &query).await?;
            let text = table(COLUMNS, &list_at(&answer, "/jobs"), "There is no such job.");
            Ok(Output::new(answer, text))
        }
        JobCommand::Show { id } => {
            let answer = client.get(&["v1", "jobs", &id], &[]).await?;
            let text = describe(&answer["job"]);
            Ok(Output::new(answer, text))
        }
        JobCommand::Retry { id } => {
            let answer = client.post(&["v1", "jobs", &id, "retry"], &json!({})).await?;
            let text = describe(&answer["job"]);
            Ok(Output::new(answer, text))
        }
    }
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Parked => "parked",
        }
    }
}

fn describe(job: &Value) -> String {
    fields([
        ("kind", text_at(job, "/kind")),
        ("about", job["about"].to_string()),
        ("status", text_at(job, "/status")),
        ("attempts", text_at(job, "/attempts")),
        ("runs at", text_at(job, "/runAt")),
        ("last error", text_at(job, "/lastError")),
        ("planned", text_at(job, "/createdAt")),
        ("id", text_at(job, "/id")),
    ])
}
