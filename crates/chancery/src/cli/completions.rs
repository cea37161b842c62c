//! Completion scripts for shells, made from the same definitions that read the arguments.

use clap_complete::Shell;
use serde_json::json;

use crate::cli::{failure::Failure, output::Output};

/// Print a completion script for a shell.
///
/// Load it in the shell's start file, or put it where the shell looks for completions.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery completions bash > /etc/bash_completion.d/chancery
  chancery completions zsh > ~/.zfunc/_chancery
  chancery completions fish > ~/.config/fish/completions/chancery.fish")]
pub(crate) struct CompletionsArguments {
    /// The shell that will load it.
    shell: Shell,
}

pub(crate) fn run(arguments: &CompletionsArguments, command: &mut clap::Command) -> Result<Output, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "chancery", &mut script);
    let script = String::from_utf8(script).map_err(|_| Failure::new("the completion script is not text"))?;
    Ok(Output::new(json!({ "shell": arguments.shell.to_string(), "script": script }), script))
}
