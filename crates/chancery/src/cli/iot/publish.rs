//! `chancery iot publish`.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Api, OwnerArguments};
use crate::cli::{failure::Failure, files, output::Output};

/// The longest message that the server takes (contract §3.4).
const PAYLOAD_OCTETS_MAX: u64 = 262_144;

/// Publish a message with the rights of a registry, a device or a broker.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery iot publish --device pump-7 --topic $me/device/events '{\"pressure\":4.2}'
  chancery iot publish --registry plant --topic $registries/are0123456789abcdefg/commands stop
  chancery iot publish --broker shop --topic till/1 --file receipt.bin")]
pub(crate) struct PublishArguments {
    #[command(flatten)]
    owner: OwnerArguments,
    /// The topic; aliases and $me are taken, too.
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// The message.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    message: Option<String>,
    /// Read the message from a file, octet by octet; - reads standard input.
    #[arg(long, value_name = "FILE|-")]
    file: Option<PathBuf>,
}

pub(super) async fn run(api: &Api<'_>, arguments: PublishArguments) -> Result<Output, Failure> {
    let payload = match (&arguments.file, arguments.message) {
        (Some(path), _) => files::read_octets(path, PAYLOAD_OCTETS_MAX)?,
        (None, Some(message)) => message.into_bytes(),
        (None, None) => Vec::new(),
    };
    let found = api.owner(&arguments.owner).await?;
    let body = json!({ "topic": arguments.topic, "data": STANDARD.encode(&payload) });
    let answer = api.post(&found.place(&["publish"])?, &body).await?;
    let count = payload.len();
    Ok(Output::new(answer, format!("{} published {count} bytes to {}", found.title(), arguments.topic)))
}
