//! `chancery login`: tries credentials and keeps them in a file that only its owner can read.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use serde_json::json;

use crate::cli::{
    client::Client,
    connection::{self, Credential, Kept, Target},
    environment::Environment,
    failure::Failure,
    files::{self, Existing, Privacy},
    output::{Output, fields},
};

/// Try credentials and keep them for later commands.
///
/// They are kept in $XDG_CONFIG_HOME/chancery/credentials.json, else ~/.config/chancery/credentials.json, readable by
/// you only, and are sent to this server only. What is not given is taken from the environment, and then asked for.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery login
  chancery login --url https://ca.example.com --client-id 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11
  chancery login --url https://ca.example.com --ca-file ca.pem --token -")]
pub(crate) struct LoginArguments {
    /// The server's address [env: CHANCERY_URL] [default: http://127.0.0.1:8080].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The identity's client id [env: CHANCERY_CLIENT_ID].
    #[arg(long, value_name = "ID", conflicts_with = "token")]
    client_id: Option<String>,
    /// Its client secret, or - to read it from standard input [env: CHANCERY_CLIENT_SECRET].
    ///
    /// On the command line it stands in your shell's history and in the list of processes; leave it out to be asked.
    #[arg(long, value_name = "SECRET|-", conflicts_with = "token")]
    client_secret: Option<String>,
    /// An access token in place of id and secret, or - to read it from standard input [env: CHANCERY_TOKEN].
    #[arg(long, value_name = "TOKEN|-")]
    token: Option<String>,
    /// Trust the certificates in this PEM file, and no others, for this server [env: CHANCERY_CA_FILE].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The project of later commands, by slug or id [env: CHANCERY_PROJECT].
    #[arg(long, value_name = "SLUG|ID")]
    project: Option<String>,
}

pub(crate) async fn run(arguments: LoginArguments, environment: &Environment) -> Result<Output, Failure> {
    let path = connection::credentials_file(environment)?;
    let url = arguments.url.as_deref().or(environment.url.as_deref()).unwrap_or(connection::DEFAULT_URL);
    let url = connection::parse_url(url)?;
    let ca_file = arguments.ca_file.clone().or_else(|| environment.ca_file.clone());
    let target = Target {
        // Later commands run in other folders.
        ca_file: ca_file.map(std::path::absolute).transpose().map_err(|error| Failure::new(error.to_string()))?,
        project: arguments.project.clone().or_else(|| environment.project.clone()),
        credential: credential(arguments, environment)?,
        url,
    };
    if target.url.scheme() == "http" && !connection::is_loopback(&target.url) {
        eprintln!(
            "warning: {} is not encrypted; whoever is on the way can read the secret",
            connection::plain(&target.url)
        );
    }
    let client = Client::connect(&target).await?;
    // A token has not been tried by being given; a named project has not, either.
    client.get(&["v1", "projects"], &[]).await?;
    client.project_id().await?;

    let kept = kept(&target);
    let text = serde_json::to_string_pretty(&kept).map_err(|error| Failure::new(error.to_string()))?;
    files::write(&path, text.as_bytes(), Privacy::Private, Existing::Replace)?;
    let shown = path.display().to_string();
    let described = fields([
        ("url", kept.url.clone()),
        ("client id", kept.client_id.clone().unwrap_or_default()),
        ("project", kept.project.clone().unwrap_or_default()),
        ("kept in", shown.clone()),
    ]);
    let answer = json!({ "url": kept.url, "clientId": kept.client_id, "project": kept.project, "keptIn": shown });
    Ok(Output::new(answer, format!("logged in\n{described}")))
}

fn kept(target: &Target) -> Kept {
    let (client_id, client_secret, token) = match &target.credential {
        Credential::Client { id, secret } => (Some(id.clone()), Some(secret.clone()), None),
        Credential::Token(token) => (None, None, Some(token.clone())),
        Credential::Nobody => (None, None, None),
    };
    Kept {
        url: connection::plain(&target.url).to_owned(),
        client_id,
        client_secret,
        token,
        ca_file: target.ca_file.clone(),
        project: target.project.clone(),
    }
}

/// What was typed, else what the environment has, else what a person answers.
fn credential(arguments: LoginArguments, environment: &Environment) -> Result<Credential, Failure> {
    if let Some(token) = arguments.token {
        return Ok(Credential::Token(typed_or_read(token)?));
    }
    if arguments.client_id.is_none()
        && arguments.client_secret.is_none()
        && let Some(token) = &environment.token
    {
        return Ok(Credential::Token(token.clone()));
    }
    let id = match arguments.client_id.or_else(|| environment.client_id.clone()) {
        Some(id) => id,
        None => ask("Client id: ", Echo::On)?,
    };
    let secret = match arguments.client_secret {
        Some(secret) => typed_or_read(secret)?,
        None => match &environment.client_secret {
            Some(secret) => secret.clone(),
            None => ask("Client secret: ", Echo::Off)?,
        },
    };
    if id.is_empty() || secret.is_empty() {
        return Err(Failure::usage("a client id and a client secret are needed"));
    }
    Ok(Credential::Client { id, secret })
}

fn typed_or_read(typed: String) -> Result<String, Failure> {
    if typed == "-" { read_line() } else { Ok(typed) }
}

#[derive(Clone, Copy)]
enum Echo {
    On,
    Off,
}

/// Asks a person. Without one at the terminal there is nobody to ask.
fn ask(question: &str, echo: Echo) -> Result<String, Failure> {
    let terminal = io::stdin();
    if !terminal.is_terminal() {
        return Err(Failure::usage("client id and client secret are needed")
            .hint("give --client-id and --client-secret - with the secret on standard input, or set CHANCERY_CLIENT_ID and CHANCERY_CLIENT_SECRET"));
    }
    eprint!("{question}");
    let cannot = |error: io::Error| Failure::new(format!("cannot ask for it: {error}"));
    io::stderr().flush().map_err(cannot)?;
    match echo {
        Echo::On => read_line(),
        Echo::Off => {
            let before = termios::tcgetattr(&terminal).map_err(|error| cannot(error.into()))?;
            let mut silent: Termios = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            termios::tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| cannot(error.into()))?;
            let line = read_line();
            termios::tcsetattr(&terminal, OptionalActions::Flush, &before).map_err(|error| cannot(error.into()))?;
            eprintln!();
            line
        }
    }
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
    Ok(line.trim().to_owned())
}
