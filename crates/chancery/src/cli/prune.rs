//! `chancery prune`: how long the server keeps what is past, and removing it now.

use std::str::FromStr;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    output::{Output, fields},
};

const KINDS: [(&str, &str); 5] = [
    ("certificates", "certificates"),
    ("certificateRequests", "certificate requests"),
    ("accessTokens", "access tokens"),
    ("revocations", "revocations"),
    ("auditRecords", "audit records"),
];

/// Remove what is past and was kept for long enough.
///
/// What that is says `prune policy`; without one everything is kept for ever, but for access tokens that cannot be used any
/// more. The server removes what is due by itself; this command does not wait for it. Revocations stay until no list names
/// them.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  chancery prune policy --expired-certificates 90 --audit 400
  chancery prune --dry-run
  chancery prune"
)]
pub(crate) struct PruneArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    /// Remove nothing; say how much there is to remove.
    #[arg(long)]
    dry_run: bool,
    #[command(subcommand)]
    command: Option<PruneCommand>,
}

#[derive(Subcommand)]
enum PruneCommand {
    /// Show how long what is past is kept, or say it: in days, or "forever".
    #[command(after_help = "Examples:
  chancery prune policy
  chancery prune policy --expired-certificates 90 --requests 30 --audit 400
  chancery prune policy --audit forever")]
    Policy {
        /// Certificates and their keys, after they expired.
        #[arg(long, value_name = "DAYS")]
        expired_certificates: Option<Days>,
        /// Certificate requests that waited, after they were answered or refused. One that is answered at once is its
        /// certificate.
        #[arg(long, value_name = "DAYS")]
        requests: Option<Days>,
        /// Records of the audit; at least 7.
        #[arg(long, value_name = "DAYS")]
        audit: Option<Days>,
    },
}

/// A number of days, or none for ever.
#[derive(Clone, Copy)]
struct Days(Option<u32>);

impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => Ok(Self(None)),
            _ => text.parse().map(|days| Self(Some(days))).map_err(|_| "a number of days, or \"forever\"".into()),
        }
    }
}

pub(crate) async fn run(client: &Client, arguments: PruneArguments) -> Result<Output, Failure> {
    match arguments.command {
        Some(PruneCommand::Policy { expired_certificates, requests, audit }) => {
            let said = [
                ("expiredCertificateDays", expired_certificates),
                ("certificateRequestDays", requests),
                ("auditDays", audit),
            ];
            let change: Map<String, Value> =
                said.into_iter().filter_map(|(name, days)| Some((name.to_owned(), json!(days?.0)))).collect();
            let answer = match change.is_empty() {
                true => client.get(&["v1", "retention"], &[]).await?,
                false => client.patch(&["v1", "retention"], &change.into()).await?,
            };
            let text = policy_in_words(&answer["retention"]);
            Ok(Output::new(answer, text))
        }
        None if arguments.dry_run => {
            let answer = client.post(&["v1", "retention", "prune"], &json!({ "dryRun": true })).await?;
            let text = format!("To be removed:\n{}", removed_in_words(&answer["removed"]));
            Ok(Output::new(answer, text))
        }
        None => prune(client).await,
    }
}

/// Pass after pass until nothing is left, with a word about each that is not the last.
async fn prune(client: &Client) -> Result<Output, Failure> {
    let mut sums = [0_u64; KINDS.len()];
    loop {
        let answer = client.post(&["v1", "retention", "prune"], &json!({})).await?;
        for (sum, (kind, _)) in sums.iter_mut().zip(KINDS) {
            *sum += answer["removed"][kind].as_u64().unwrap_or(0);
        }
        if answer["isDone"] == json!(true) {
            break;
        }
        eprintln!("removed {} so far", sums.iter().sum::<u64>());
    }
    let removed: Map<String, Value> =
        KINDS.iter().zip(sums).map(|((kind, _), sum)| ((*kind).to_owned(), json!(sum))).collect();
    let removed = Value::from(removed);
    let text = format!("Removed:\n{}", removed_in_words(&removed));
    Ok(Output::new(json!({ "removed": removed, "isDone": true }), text))
}

fn policy_in_words(policy: &Value) -> String {
    let days = |name: &str| match policy[name].as_u64() {
        None => "for ever".to_owned(),
        Some(days) => format!("{days} days"),
    };
    fields([
        ("expired certificates", days("expiredCertificateDays")),
        ("certificate requests", days("certificateRequestDays")),
        ("audit records", days("auditDays")),
    ])
}

fn removed_in_words(removed: &Value) -> String {
    fields(KINDS.map(|(kind, name)| (name, removed[kind].to_string())))
}
