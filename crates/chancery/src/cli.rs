//! The command line: what can be typed, and which file answers it.
//!
//! Every command but the local ones (`serve`, `doctor`, `fsck`, `audit`, `keys`, `backup`, `restore`, `export`, `import`)
//! is a client of the REST API and knows nothing that another client could not know. One file per noun; each holds its
//! arguments, its requests and its tables.
//! This is not where the server is: local commands are only read here, and handed back as a [`LocalCommand`].

mod alert;
mod app_connection;
pub mod backup;
mod ca;
mod cert;
mod client;
mod completions;
mod connection;
mod crl;
mod environment;
mod failure;
mod files;
mod identity;
mod iot;
mod job;
pub mod local;
mod login;
mod ocsp;
mod output;
mod policy;
mod profile;
mod project;
mod prune;
mod status;
mod sync;
mod verify;
mod vocabulary;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use environment::Environment;

use client::Client;
use connection::RemoteArguments;
use failure::Failure;
use local::{LocalCommand, LocalSubcommand};
use output::Output;

/// The version of this program, as `chancery version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is left to do after the arguments were read.
pub enum Next {
    /// Nothing: the command ran and the program ends with this code.
    Done(ExitCode),
    /// A command that works on this machine's own data folder.
    Local(LocalCommand),
}

/// Reads the arguments, the program's name first, and runs the command. Exit code 0 is success, 1 a failure, 2 a
/// command that was typed wrongly. Local commands are handed back unrun.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> Next {
    let parsed = without_empty_variables(Cli::command())
        .try_get_matches_from(arguments)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do when not even this can be printed.
            let _ = error.print();
            return Next::Done(ExitCode::from(if error.use_stderr() { 2 } else { 0 }));
        }
    };
    let json = cli.json;
    let result = match cli.command {
        Command::Local(command) => return Next::Local(command.with_output(json)),
        Command::Remote(command) => run_to_output(command, environment, json),
    };
    Next::Done(match result.and_then(|output| output.print(json)) {
        Ok(code) => code,
        Err(failure) => failure.print(),
    })
}

/// An empty variable counts as none: files of environment variables often name some without a value.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| match argument.get_env() {
            Some(name) if is_empty(name) => argument.env(None::<&'static str>),
            Some(_) | None => argument,
        })
        .mut_subcommands(without_empty_variables)
}

fn run_to_output(command: RemoteCommand, environment: &Environment, json: bool) -> Result<Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(command.run(environment, json))
}

/// Chancery is a private certificate authority. This one program is its server (`chancery serve`) and the command line
/// of a running server.
///
/// Commands that talk to a server take its address and their credentials from CHANCERY_URL, CHANCERY_CLIENT_ID and
/// CHANCERY_CLIENT_SECRET (or CHANCERY_TOKEN); else from what `chancery login` kept; else from bootstrap.json in the
/// data folder that the server made at its first start. So beside `make run` they need nothing at all.
#[derive(Parser)]
#[command(
    name = "chancery",
    version,
    max_term_width = 110,
    after_help = "Examples:
  chancery serve
  chancery ca list
  chancery cert issue --profile web-server --common-name www.example.com"
)]
struct Cli {
    /// Print JSON for scripts instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Local(LocalSubcommand),
    #[command(flatten)]
    Remote(RemoteCommand),
}

/// What runs here and prints: nearly all of it asks a server.
#[derive(Subcommand)]
enum RemoteCommand {
    Login(login::LoginArguments),
    Ca(ca::CaArguments),
    Policy(policy::PolicyArguments),
    Profile(profile::ProfileArguments),
    Cert(cert::CertArguments),
    Crl(crl::CrlArguments),
    Ocsp(ocsp::OcspArguments),
    Verify(Box<verify::VerifyArguments>),
    Identity(identity::IdentityArguments),
    Project(project::ProjectArguments),
    Connection(app_connection::AppConnectionArguments),
    Sync(Box<sync::SyncArguments>),
    Alert(Box<alert::AlertArguments>),
    Iot(Box<iot::IotArguments>),
    Job(job::JobArguments),
    Prune(prune::PruneArguments),
    Status(status::StatusArguments),
    Completions(completions::CompletionsArguments),
    Version(VersionArguments),
}

impl RemoteCommand {
    async fn run(self, environment: &Environment, json: bool) -> Result<Output, Failure> {
        match self {
            Self::Login(arguments) => login::run(arguments, environment).await,
            Self::Ca(arguments) => ca::run(&connect(&arguments.remote, environment).await?, arguments.command).await,
            Self::Policy(arguments) => {
                policy::run(&connect(&arguments.remote, environment).await?, arguments.command).await
            }
            Self::Profile(arguments) => {
                profile::run(&connect(&arguments.remote, environment).await?, arguments.command).await
            }
            Self::Cert(arguments) => {
                cert::run(&connect(&arguments.remote, environment).await?, arguments.command, json).await
            }
            Self::Crl(arguments) => crl::run(&connect(&arguments.remote, environment).await?, arguments.command).await,
            Self::Ocsp(arguments) => ocsp::run(&connect(&arguments.remote, environment).await?, arguments).await,
            Self::Verify(arguments) => verify::run(&connect(&arguments.remote, environment).await?, *arguments).await,
            Self::Connection(arguments) => {
                app_connection::run(&connect(&arguments.remote, environment).await?, arguments.command).await
            }
            Self::Sync(arguments) => {
                sync::run(&connect(&arguments.remote, environment).await?, arguments.command).await
            }
            Self::Alert(arguments) => {
                alert::run(&connect(&arguments.remote, environment).await?, arguments.command).await
            }
            Self::Iot(arguments) => iot::run(*arguments, environment, json).await,
            Self::Job(arguments) => job::run(&connect(&arguments.remote, environment).await?, arguments.command).await,
            Self::Prune(arguments) => prune::run(&connect(&arguments.remote, environment).await?, arguments).await,
            Self::Identity(arguments) => {
                identity::run(&connect(&arguments.remote, environment).await?, arguments.command).await
            }
            Self::Project(arguments) => {
                project::run(&connect(&arguments.remote, environment).await?, arguments.command).await
            }
            Self::Status(arguments) => status::run(&arguments, environment).await,
            Self::Completions(arguments) => completions::run(&arguments, &mut Cli::command()),
            Self::Version(VersionArguments {}) => Ok(version()),
        }
    }
}

/// Print the version of this program.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  chancery version")]
struct VersionArguments {}

fn version() -> Output {
    Output::new(serde_json::json!({ "version": VERSION }), format!("chancery {VERSION}"))
}

async fn connect(remote: &RemoteArguments, environment: &Environment) -> Result<Client, Failure> {
    Client::connect(&connection::target(remote, environment)?).await
}

#[cfg(test)]
mod tests;
