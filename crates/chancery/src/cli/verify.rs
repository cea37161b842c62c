//! `chancery verify`: why a certificate is good, or which rule it breaks.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use x509::{AttributeType, Certificate};

use crate::cli::{
    ca,
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files,
    output::{Column, Output, list_at, needed, string_at, table},
};

const REFUSED: &[Column] = &[("REFUSED", "/name"), ("RULE", "/rule"), ("WHY", "/message")];

/// Verify a certificate against trusted ones.
///
/// The rules are those of RFC 5280 §6. Trusted are the certificates of --trust, and with --ca those of an authority of the
/// server, whose own revocation lists are then looked at, too. Nothing is fetched from elsewhere. The exit code is 0 when there is
/// a path that keeps all rules, and 1 when there is none.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery verify www.crt --ca issuing-ca
  chancery verify www.fullchain.pem --trust root.crt --name www.example.com --purpose server_auth
  chancery verify old.crt --trust root.crt --crl root.crl --time 2026-01-31T12:00:00Z")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    /// The certificate in PEM; what follows it in the file may be part of the path.
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// Certificates that are trusted, in PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "ca")]
    trust: Vec<PathBuf>,
    /// An authority of the server that is trusted: its id or its name.
    #[arg(long, value_name = "ID|NAME")]
    ca: Option<String>,
    /// Certificates that may be part of the path, in PEM.
    #[arg(long, value_name = "FILE")]
    intermediates: Vec<PathBuf>,
    /// Revocation lists in PEM.
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// When; now by default.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// What it is used for: an extended key usage, such as server_auth, or web-pki for the rules of the public web.
    #[arg(long)]
    purpose: Option<String>,
    /// A host, an address or a mailbox for which it must be valid.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The most intermediate certificates of a path.
    #[arg(long, value_name = "COUNT")]
    max_depth: Option<u32>,
}

pub(crate) async fn run(client: &Client, arguments: VerifyArguments) -> Result<Output, Failure> {
    let read = |paths: &[PathBuf]| paths.iter().map(|path| files::read_text(path)).collect::<Result<Vec<_>, _>>();
    let mut body = Map::new();
    body.insert("leaf".to_owned(), files::read_text(&arguments.certificate)?.into());
    for (name, paths) in
        [("anchors", &arguments.trust), ("intermediates", &arguments.intermediates), ("crls", &arguments.crl)]
    {
        if !paths.is_empty() {
            body.insert(name.to_owned(), read(paths)?.into());
        }
    }
    if let Some(name) = &arguments.ca {
        let authority = ca::find(client, name).await?;
        body.insert("caId".to_owned(), needed(&authority, "/id")?.into());
    }
    body.insert("names".to_owned(), arguments.name.into());
    body.extend(arguments.time.map(|time| ("time".to_owned(), time.into())));
    body.extend(arguments.purpose.map(|purpose| ("purpose".to_owned(), purpose.into())));
    body.extend(arguments.max_depth.map(|depth| ("maxDepth".to_owned(), depth.into())));
    Ok(shown(client.post(&["v1", "pki", "verify"], &Value::Object(body)).await?))
}

fn shown(answer: Value) -> Output {
    let path: Vec<String> = list_at(&answer, "/path").iter().map(name_of).collect();
    let refused: Vec<Value> = list_at(&answer, "/refused")
        .iter()
        .map(|one| {
            let name = one.pointer("/certificate").map(name_of);
            json!({ "name": name, "rule": string_at(one, "/rule"), "message": string_at(one, "/message") })
        })
        .collect();
    let is_valid = answer["valid"] == true;
    let mut text = match is_valid {
        true => format!("valid: {}\n", path.join(" < ")),
        false => "not valid\n".to_owned(),
    };
    if !refused.is_empty() {
        text.push('\n');
        text.push_str(&table(REFUSED, &refused, ""));
    }
    let output = Output::new(answer, text);
    if is_valid { output } else { output.of_failure() }
}

/// What a certificate is called: its common name, or its whole subject.
fn name_of(pem: &Value) -> String {
    let Some(Ok(certificate)) = pem.as_str().map(Certificate::from_pem) else { return String::new() };
    let subject = certificate.subject();
    subject.first(AttributeType::CommonName).map_or_else(|| subject.render(), str::to_owned)
}
