//! `chancery status`: whether a server answers, asked as a probe asks it.

use crate::cli::{
    client::Client,
    connection::{self, RemoteArguments},
    environment::Environment,
    failure::Failure,
    output::{Output, string_at},
};

/// Ask whether the server is up.
///
/// Needs no credentials. The address is that of --url or CHANCERY_URL, else of what `chancery login` kept, else of the
/// server on this machine. The exit code is 0 only when the server answers: it is what containers are probed with.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery status
  chancery status --url https://ca.example.com --ca-file root.crt")]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    remote: RemoteArguments,
}

pub(crate) async fn run(arguments: &StatusArguments, environment: &Environment) -> Result<Output, Failure> {
    let client = Client::connect(&connection::address(&arguments.remote, environment)?).await?;
    let answer = client.get(&["status"], &[]).await?;
    let version = string_at(&answer, "/version").unwrap_or_default();
    let text = format!("chancery {version} answers at {}", client.base());
    Ok(Output::new(answer, text))
}
