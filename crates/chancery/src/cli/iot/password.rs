//! `chancery iot password`, and how every command takes a password in: from a file, from standard input, or made here.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Api, OwnerArguments, response};
use crate::cli::{
    failure::Failure,
    files,
    output::{Column, Output, list_at, table, text_at},
};

const COLUMNS: &[Column] = &[("ID", "/id"), ("ADDED", "/createdAt")];

#[derive(Subcommand)]
pub(crate) enum PasswordCommand {
    /// Add a password: from a file, from standard input, or a new one that is shown once.
    #[command(after_help = "Examples:
  chancery iot password add --device pump-7 --generate
  chancery iot password add --registry plant --password-file secret.txt")]
    Add {
        #[command(flatten)]
        owner: OwnerArguments,
        #[command(flatten)]
        password: PasswordArguments,
    },
    /// List the passwords of a registry, a device or a broker, without what they are.
    #[command(after_help = "Example:\n  chancery iot password list --device pump-7")]
    List {
        #[command(flatten)]
        owner: OwnerArguments,
    },
    /// Take a password away, and close the connections that were made with it.
    #[command(after_help = "Example:
  chancery iot password delete are0123456789abcdefg --device pump-7")]
    Delete {
        /// Its id: see chancery iot password list.
        id: String,
        #[command(flatten)]
        owner: OwnerArguments,
    },
}

/// Where a password comes from. Never the command line, which others see.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(crate) struct PasswordArguments {
    /// A password that it connects with, read from a file; - reads standard input.
    #[arg(long, value_name = "FILE|-")]
    password_file: Option<PathBuf>,
    /// Make a password that it connects with, and show it once.
    #[arg(long, alias = "generate-password")]
    generate: bool,
}

/// A password, and whether somebody knows it already.
pub(crate) enum Password {
    /// Somebody brought it.
    Given(Zeroizing<String>),
    /// It was made here.
    Made(Zeroizing<String>),
}

impl PasswordArguments {
    /// The password, if there is to be one.
    pub(super) fn take(&self) -> Result<Option<Password>, Failure> {
        match (&self.password_file, self.generate) {
            (Some(path), _) => Ok(Some(Password::Given(read(path)?))),
            (None, true) => Ok(Some(Password::Made(generated()))),
            (None, false) => Ok(None),
        }
    }
}

impl Password {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Given(text) | Self::Made(text) => text,
        }
    }

    /// What somebody has to be told.
    pub(super) fn shown_once(self) -> Option<String> {
        match self {
            Self::Given(_) => None,
            Self::Made(text) => Some(text.to_string()),
        }
    }
}

/// The password in a file, without the end of its line; - reads standard input.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = Zeroizing::new(files::read_text(path)?);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

/// 192 random bits, of at least three kinds of characters (contract §5.3).
fn generated() -> Zeroizing<String> {
    let random = services::Random::system();
    loop {
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(random.octets::<24>()));
        let has = |kind: fn(&u8) -> bool| text.as_bytes().iter().any(kind);
        if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit) {
            return text;
        }
    }
}

pub(super) async fn run(api: &Api<'_>, command: PasswordCommand) -> Result<Output, Failure> {
    match command {
        PasswordCommand::Add { owner, password } => {
            let Some(password) = password.take()? else {
                return Err(Failure::usage("there is no password")
                    .hint("name a file with --password-file, or have one made with --generate"));
            };
            let found = api.owner(&owner).await?;
            let body = json!({ "password": password.text() });
            let mut operation = api.post(&found.place(&["passwords"])?, &body).await?;
            let mut text = format!("{} has the password {}", found.title(), text_at(response(&operation), "/id"));
            if let Some(shown) = password.shown_once() {
                text.push_str(&format!("\npassword: {shown}\nIt is shown this once."));
                operation["password"] = shown.into();
            }
            Ok(Output::new(operation, text))
        }
        PasswordCommand::List { owner } => {
            let found = api.owner(&owner).await?;
            let all = list_at(&api.get(&found.place(&["passwords"])?, &[]).await?, "/passwords");
            let text = table(COLUMNS, &all, "It has no password.");
            Ok(Output::new(json!({ "passwords": all }), text))
        }
        PasswordCommand::Delete { id, owner } => {
            let found = api.owner(&owner).await?;
            let operation = api.delete(&found.place(&["passwords", &id])?).await?;
            Ok(Output::new(operation, format!("{} has this password no more", found.title())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_made_is_good_enough_and_never_the_same() {
        let (one, other) = (generated(), generated());
        assert_ne!(*one, *other);
        assert_eq!(domain::registry::credential::check_password(&one), Ok(()));
    }
}
