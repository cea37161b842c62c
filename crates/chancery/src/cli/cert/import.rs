//! `chancery cert import`: a certificate that somebody else issued joins the inventory.

use std::path::PathBuf;

use serde_json::json;
use x509::pem;

use crate::cli::{
    client::Client,
    failure::Failure,
    files,
    output::{Output, text_at},
};

/// Take a certificate that somebody else issued into the inventory.
///
/// It is found, watched and carried to other systems like those that were issued here; whoever issued it renews and revokes
/// it. Without --chain the certificates that follow the first one in its file are the chain.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert import --certificate www.crt --chain chain.pem --key www.key
  chancery cert import --certificate fullchain.pem --key privkey.pem --friendly-name \"Shop\"
  chancery cert import --certificate partner.crt")]
pub(crate) struct ImportArguments {
    /// The certificate in PEM, or - for standard input; those above it may follow.
    #[arg(long, value_name = "FILE|-")]
    certificate: PathBuf,
    /// The certificates above it in PEM, its issuer first.
    #[arg(long, value_name = "FILE|-")]
    chain: Option<PathBuf>,
    /// Its private key in PEM, not encrypted; it is kept sealed.
    #[arg(long, value_name = "FILE|-")]
    key: Option<PathBuf>,
    /// A name for people [default: the common name].
    #[arg(long, value_name = "NAME")]
    friendly_name: Option<String>,
}

pub(super) async fn import(client: &Client, arguments: &ImportArguments) -> Result<Output, Failure> {
    let mut certificate = files::read_text(&arguments.certificate)?;
    let mut chain = arguments.chain.as_deref().map(files::read_text).transpose()?;
    if chain.is_none() {
        let unreadable = |error| Failure::new(format!("{} does not read: {error}", arguments.certificate.display()));
        let blocks = pem::decode_all(&certificate, pem::CERTIFICATE).map_err(unreadable)?;
        let mut blocks = blocks.iter().map(|der| pem::encode(pem::CERTIFICATE, der));
        certificate = blocks.next().unwrap_or(certificate);
        chain = Some(blocks.collect::<Vec<_>>().join("\n")).filter(|chain| !chain.is_empty());
    }
    let mut body = json!({ "certificatePem": certificate });
    if let Some(chain) = chain {
        body["chainPem"] = chain.into();
    }
    if let Some(key) = &arguments.key {
        body["privateKeyPem"] = files::read_text(key)?.into();
    }
    if let Some(name) = &arguments.friendly_name {
        body["friendlyName"] = name.as_str().into();
    }
    let body = client.in_project(body).await?;
    let mut answer = client.post(&["v1", "cert-manager", "certificates", "import-certificate"], &body).await?;
    // Whoever imports it has the key, and did not ask for it to be printed.
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("privateKey");
    }
    let text = format!("imported {} as {}", text_at(&answer, "/serialNumber"), text_at(&answer, "/certificateId"));
    Ok(Output::new(answer, text))
}
