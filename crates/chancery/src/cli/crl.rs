//! `chancery crl`: the revocation lists of a CA.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use x509::Crl;

use crate::cli::{
    ca,
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files::{self, Existing, Privacy},
    output::{Output, fields, list_at, moment_in_words, needed, text_at},
};

/// Show and publish revocation lists.
#[derive(clap::Args)]
pub(crate) struct CrlArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: CrlCommand,
}

#[derive(Subcommand)]
pub(crate) enum CrlCommand {
    /// Show the revocation lists of a CA: one for each of its keys.
    #[command(after_help = "Examples:
  chancery crl show issuing-ca
  chancery crl show issuing-ca --pem --out issuing-ca.crl")]
    Show {
        /// The CA's name or id.
        #[arg(value_name = "NAME|ID")]
        ca: String,
        /// The lists themselves, in PEM.
        #[arg(long)]
        pem: bool,
        /// Write them to this file instead of printing them.
        #[arg(long, value_name = "FILE", requires = "pem")]
        out: Option<PathBuf>,
        /// Replace the file when it is there.
        #[arg(long, requires = "out")]
        force: bool,
    },
    /// Sign the revocation lists of a CA now.
    ///
    /// They are signed by themselves within two seconds of a revocation, and long before they run out.
    #[command(after_help = "Example:\n  chancery crl publish issuing-ca")]
    Publish {
        /// The CA's name or id.
        #[arg(value_name = "NAME|ID")]
        ca: String,
    },
}

pub(crate) async fn run(client: &Client, command: CrlCommand) -> Result<Output, Failure> {
    match command {
        CrlCommand::Show { ca, pem, out, force } => {
            let authority = ca::find(client, &ca).await?;
            let answer = client.get(&ca::below(needed(&authority, "/id")?, "crls"), &[]).await?;
            if !pem {
                return described(answer);
            }
            let lists = list_at(&answer, "");
            let pems: Result<Vec<&str>, Failure> =
                lists.iter().map(|list| needed(list, "/crl").map(str::trim)).collect();
            let text = pems?.join("\n");
            match out {
                None => Ok(Output::new(answer, text)),
                Some(path) => {
                    let existing = Existing::with_force(force);
                    files::write(&path, format!("{text}\n").as_bytes(), Privacy::Public, existing)?;
                    Ok(Output::new(json!({ "files": [path] }), format!("wrote {}", path.display())))
                }
            }
        }
        CrlCommand::Publish { ca } => {
            let authority = ca::find(client, &ca).await?;
            let path = [&ca::below(needed(&authority, "/id")?, "crls")[..], &["publish"]].concat();
            described(client.post(&path, &json!({})).await?)
        }
    }
}

fn described(lists: Value) -> Result<Output, Failure> {
    let mut texts = Vec::new();
    for list in list_at(&lists, "") {
        let crl = Crl::from_pem(needed(&list, "/crl")?)
            .map_err(|error| Failure::new(format!("the server sent a revocation list that does not read: {error}")))?;
        let moment = |seconds: i64| {
            jiff::Timestamp::from_second(seconds).map(moment_in_words).unwrap_or_else(|_| "-".to_owned())
        };
        let number = crl.number().ok().flatten().unwrap_or_default();
        texts.push(fields([
            ("list", text_at(&list, "/id")),
            ("issuer", crl.issuer().to_string()),
            ("number", number.iter().fold(0_u128, |sum, octet| sum << 8 | u128::from(*octet)).to_string()),
            ("revoked", crl.entries().count().to_string()),
            ("made", moment(crl.this_update())),
            ("runs out", crl.next_update().map_or_else(|| "-".to_owned(), moment)),
        ]));
    }
    Ok(Output::new(lists, texts.join("\n\n")))
}
