//! `chancery iot certificate`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Api, OwnerArguments, response};
use crate::cli::{
    failure::Failure,
    files,
    output::{Column, Output, list_at, table, text_at},
};

const COLUMNS: &[Column] = &[("FINGERPRINT", "/fingerprint"), ("ADDED", "/createdAt")];

#[derive(Subcommand)]
pub(crate) enum CertificateCommand {
    /// Add a certificate. It is recognised exactly as it is; self-signed ones are as good as others.
    #[command(after_help = "Examples:
  chancery iot certificate add pump-7.pem --device pump-7
  chancery iot certificate add - --registry plant")]
    Add {
        /// The certificate in PEM; - reads standard input.
        file: PathBuf,
        #[command(flatten)]
        owner: OwnerArguments,
    },
    /// List the certificates of a registry, a device or a broker, newest first.
    #[command(after_help = "Example:\n  chancery iot certificate list --device pump-7")]
    List {
        #[command(flatten)]
        owner: OwnerArguments,
    },
    /// Take a certificate away, and close the connections that were made with it.
    #[command(after_help = "Example:
  chancery iot certificate delete 65e5b050069da5ca5996a4a8a92514098b0a5dd1 --device pump-7")]
    Delete {
        /// Its fingerprint: SHA-256 or SHA-1, with or without colons.
        fingerprint: String,
        #[command(flatten)]
        owner: OwnerArguments,
    },
}

pub(super) async fn run(api: &Api<'_>, command: CertificateCommand) -> Result<Output, Failure> {
    match command {
        CertificateCommand::Add { file, owner } => {
            let body = json!({ "certificateData": files::read_text(&file)? });
            let found = api.owner(&owner).await?;
            let operation = api.post(&found.place(&["certificates"])?, &body).await?;
            let fingerprint = text_at(response(&operation), "/fingerprint");
            Ok(Output::new(operation, format!("{} has the certificate {fingerprint}", found.title())))
        }
        CertificateCommand::List { owner } => {
            let found = api.owner(&owner).await?;
            let all = list_at(&api.get(&found.place(&["certificates"])?, &[]).await?, "/certificates");
            let text = table(COLUMNS, &all, "It has no certificate.");
            Ok(Output::new(json!({ "certificates": all }), text))
        }
        CertificateCommand::Delete { fingerprint, owner } => {
            let found = api.owner(&owner).await?;
            let operation = api.delete(&found.place(&["certificates", &fingerprint])?).await?;
            Ok(Output::new(operation, format!("{} has this certificate no more", found.title())))
        }
    }
}
