//! `chancery crl`: the revocation lists of a CA.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value, json};
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
    /// Show or choose what the revocation lists of a CA are like.
    #[command(after_help = "Examples:
  chancery crl config issuing-ca
  chancery crl config issuing-ca --delta on
  chancery crl config issuing-ca --delay 60")]
    Config {
        /// The CA's name or id.
        #[arg(value_name = "NAME|ID")]
        ca: String,
        /// Whether there is a list of the changes of the last day, too (RFC 5280 §5.2.4).
        #[arg(long, value_name = "ON|OFF")]
        delta: Option<Switch>,
        /// For how many seconds revocations are collected before a list is signed; with 0 that is within two seconds.
        #[arg(long, value_name = "SECONDS")]
        delay: Option<u32>,
    },
    /// Hand in a revocation list of an authority outside that stands above a CA.
    ///
    /// It is kept for verification in place of an older one of the same issuer, when that issuer signed it.
    #[command(after_help = "Example:\n  chancery crl hand-in issuing-ca --crl outside-root.crl")]
    HandIn {
        /// The CA's name or id.
        #[arg(value_name = "NAME|ID")]
        ca: String,
        /// The list in PEM; - reads standard input.
        #[arg(long, value_name = "FILE")]
        crl: PathBuf,
    },
}

/// On or off.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Switch {
    /// It is there.
    On,
    /// It is not.
    Off,
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
        CrlCommand::Config { ca, delta, delay } => {
            let authority = ca::find(client, &ca).await?;
            let path = [&ca::below(needed(&authority, "/id")?, "crls")[..], &["config"]].concat();
            let mut wanted = Map::new();
            if let Some(switch) = delta {
                wanted.insert("isDeltaEnabled".to_owned(), matches!(switch, Switch::On).into());
            }
            if let Some(seconds) = delay {
                wanted.insert("publishDelaySeconds".to_owned(), seconds.into());
            }
            let answer = match wanted.is_empty() {
                true => client.get(&path, &[]).await?,
                false => client.patch(&path, &Value::Object(wanted)).await?,
            };
            let is_on = answer.pointer("/isDeltaEnabled").and_then(Value::as_bool).unwrap_or_default();
            let text = fields([
                ("lists of changes", if is_on { "on" } else { "off" }.to_owned()),
                ("signed after", format!("{} s", text_at(&answer, "/publishDelaySeconds"))),
            ]);
            Ok(Output::new(answer, text))
        }
        CrlCommand::HandIn { ca, crl } => {
            let authority = ca::find(client, &ca).await?;
            let text = files::read_text(&crl)?;
            let path = ca::below(needed(&authority, "/id")?, "foreign-crls");
            let answer = client.post(&path, &json!({ "crl": text })).await?;
            let mut shown = fields([
                ("issuer", text_at(&answer, "/issuer")),
                ("number", text_at(&answer, "/number")),
                ("made", text_at(&answer, "/thisUpdate")),
                ("runs out", text_at(&answer, "/nextUpdate")),
            ]);
            if answer.pointer("/revokesThisCa").and_then(Value::as_bool) == Some(true) {
                shown.push_str("\nthe list names a certificate of this CA: it is revoked");
            }
            Ok(Output::new(answer, shown))
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
