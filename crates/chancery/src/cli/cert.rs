//! `chancery cert`: certificates. Making them is in `cert/issue.rs`, searching and counting them in `cert/inventory.rs`.

mod inventory;
mod issue;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files::{self, Existing, Privacy},
    output::{Column, Output, fields, list_at, needed, string_at, table, text_at},
    profile, project,
};

/// The most that the server gives at once (contract §6.7).
const PAGE: usize = 100;

const COLUMNS: &[Column] = &[
    ("COMMON NAME", "/commonName"),
    ("STATUS", "/status"),
    ("EXPIRES", "/notAfter"),
    ("SERIAL", "/serialNumber"),
    ("ID", "/id"),
];

/// Issue, sign, list, show, export, renew and revoke certificates.
#[derive(clap::Args)]
pub(crate) struct CertArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: CertCommand,
}

#[derive(Subcommand)]
pub(crate) enum CertCommand {
    Issue(Box<issue::IssueArguments>),
    Sign(issue::SignArguments),
    List(ListArguments),
    Search(Box<inventory::SearchArguments>),
    Counts(inventory::CountsArguments),
    /// Show a certificate's record.
    #[command(after_help = "Examples:
  chancery cert show 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11
  chancery cert show 3f0c9a5e7b21d4866f0e1c2d3a4b5c6d7e8f9012 --json")]
    Show {
        /// Its id or its serial number in hex.
        #[arg(value_name = "ID|SERIAL")]
        certificate: String,
    },
    Export(ExportArguments),
    Renew(issue::RenewArguments),
    /// Revoke a certificate.
    ///
    /// The revocation list names it within two seconds. This is final: only a certificate-hold can be ended, with
    /// chancery cert release. key-compromise also blocks the key for ever.
    #[command(after_help = "Examples:
  chancery cert revoke 3f0c9a5e7b21d4866f0e1c2d3a4b5c6d7e8f9012 --reason key-compromise
  chancery cert revoke 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11 --reason certificate-hold")]
    Revoke {
        /// Its id or its serial number in hex.
        #[arg(value_name = "ID|SERIAL")]
        certificate: String,
        /// Why.
        #[arg(long, value_enum, default_value_t = Reason::Unspecified)]
        reason: Reason,
    },
    /// End the hold of a certificate.
    #[command(after_help = "Example:\n  chancery cert release 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11")]
    Release {
        /// Its id or its serial number in hex.
        #[arg(value_name = "ID|SERIAL")]
        certificate: String,
    },
}

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Reason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    PrivilegeWithdrawn,
    AaCompromise,
}

/// List certificates, the newest first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert list
  chancery cert list --status active --profile web-server --search example.com --limit 200
  chancery cert list --json")]
pub(crate) struct ListArguments {
    /// Only those of this status.
    #[arg(long)]
    status: Option<Status>,
    /// Only those of which a name, a label of it, or the serial number begins like this.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only those of this profile, by slug or id.
    #[arg(long, value_name = "SLUG|ID")]
    profile: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Status {
    Active,
    Expired,
    Revoked,
}

/// Print or write a certificate.
///
/// Without --out it goes to standard output. The private key of a certificate whose key was made by the server comes
/// along with --key, or with the format bundle; that takes the permission to read private keys.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert export 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11 --format fullchain > www.pem
  chancery cert export 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11 --key --out tls/
  chancery cert export 3f0c9a5e7b21d4866f0e1c2d3a4b5c6d7e8f9012 --format bundle --out haproxy/www")]
pub(crate) struct ExportArguments {
    /// Its id or its serial number in hex.
    #[arg(value_name = "ID|SERIAL")]
    certificate: String,
    /// What to export: pem is the certificate alone, fullchain adds the CAs above it, bundle adds the private key, too.
    #[arg(long, value_enum, default_value_t = Format::Pem)]
    format: Format,
    /// With the private key.
    #[arg(long)]
    key: bool,
    /// A folder, or the beginning of the files' names: .crt, .fullchain.pem, .bundle.pem or .key is added.
    #[arg(long, value_name = "FOLDER/|PREFIX")]
    out: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long, requires = "out")]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Pem,
    Fullchain,
    Bundle,
}

pub(crate) async fn run(client: &Client, command: CertCommand, json: bool) -> Result<Output, Failure> {
    match command {
        CertCommand::Issue(arguments) => issue::issue(client, &arguments, json).await,
        CertCommand::Sign(arguments) => issue::sign(client, &arguments, json).await,
        CertCommand::List(arguments) => list(client, &arguments).await,
        CertCommand::Search(arguments) => inventory::search(client, &arguments).await,
        CertCommand::Counts(arguments) => inventory::counts(client, &arguments).await,
        CertCommand::Show { certificate } => {
            let answer = client.get(&path(&certificate)?.whole(), &[]).await?;
            let text = describe(&answer["certificate"]);
            Ok(Output::new(answer, text))
        }
        CertCommand::Export(arguments) => export(client, &arguments).await,
        CertCommand::Renew(arguments) => {
            let record = client.get(&path(&arguments.certificate)?.whole(), &[]).await?;
            issue::renew(client, &arguments, &record["certificate"], json).await
        }
        CertCommand::Revoke { certificate, reason } => {
            let body = json!({ "revocationReason": reason.name() });
            let answer = client.post(&path(&certificate)?.part("revoke"), &body).await?;
            let text = format!("revoked {} at {}", text_at(&answer, "/serialNumber"), text_at(&answer, "/revokedAt"));
            Ok(Output::new(answer, text))
        }
        CertCommand::Release { certificate } => {
            let answer = client.post(&path(&certificate)?.part("release"), &json!({})).await?;
            let text = format!("{} is valid again", text_at(&answer, "/serialNumber"));
            Ok(Output::new(answer, text))
        }
    }
}

impl Reason {
    /// The name on the wire (contract §1.6).
    fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::KeyCompromise => "KEY_COMPROMISE",
            Self::CaCompromise => "CA_COMPROMISE",
            Self::AffiliationChanged => "AFFILIATION_CHANGED",
            Self::Superseded => "SUPERSEDED",
            Self::CessationOfOperation => "CESSATION_OF_OPERATION",
            Self::CertificateHold => "CERTIFICATE_HOLD",
            Self::PrivilegeWithdrawn => "PRIVILEGE_WITHDRAWN",
            Self::AaCompromise => "A_A_COMPROMISE",
        }
    }
}

/// Where a certificate is, below `/api`: by its id, or by its serial number.
pub(crate) struct CertificatePath {
    family: &'static str,
    key: String,
}

impl CertificatePath {
    fn whole(&self) -> [&str; 4] {
        ["v1", self.family, "certificates", &self.key]
    }

    pub(crate) fn part<'a>(&'a self, part: &'a str) -> [&'a str; 5] {
        ["v1", self.family, "certificates", &self.key, part]
    }
}

pub(crate) fn path(name: &str) -> Result<CertificatePath, Failure> {
    if project::is_id(name) {
        return Ok(CertificatePath { family: "cert-manager", key: name.to_owned() });
    }
    let serial = name.replace(':', "").to_ascii_lowercase();
    if serial.is_empty() || serial.len() > 40 || !serial.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!("{name} is neither an id nor a serial number in hex"))
            .hint("find it with: chancery cert list --search NAME"));
    }
    Ok(CertificatePath { family: "pki", key: serial })
}

async fn list(client: &Client, arguments: &ListArguments) -> Result<Output, Failure> {
    let project = project::meant(client).await?;
    let mut filters: Vec<(&str, String)> = Vec::new();
    if let Some(status) = arguments.status {
        filters.push(("status", status.name().to_owned()));
    }
    if let Some(search) = &arguments.search {
        filters.push(("search", search.clone()));
    }
    if let Some(name) = &arguments.profile {
        filters.push(("profileIds", needed(&profile::find(client, name).await?, "/id")?.to_owned()));
    }
    let wanted = arguments.limit as usize;
    let mut certificates: Vec<Value> = Vec::new();
    let mut total;
    loop {
        let (offset, limit) = (certificates.len().to_string(), (wanted - certificates.len()).min(PAGE));
        let limit_text = limit.to_string();
        let mut query = vec![("offset", offset.as_str()), ("limit", limit_text.as_str())];
        query.extend(filters.iter().map(|(name, value)| (*name, value.as_str())));
        let answer = client.get(&["v1", "projects", &project, "certificates"], &query).await?;
        let page = list_at(&answer, "/certificates");
        total = answer.get("totalCount").and_then(Value::as_u64).unwrap_or_default();
        let page_length = page.len();
        certificates.extend(page);
        if page_length < limit || certificates.len() >= wanted {
            break;
        }
    }
    let mut text = table(COLUMNS, &certificates, "There is no such certificate.");
    if total > certificates.len() as u64 && !certificates.is_empty() {
        text.push_str(&format!("\n{} of {total}; see more with --limit", certificates.len()));
    }
    Ok(Output::new(json!({ "certificates": certificates, "totalCount": total }), text))
}

async fn export(client: &Client, arguments: &ExportArguments) -> Result<Output, Failure> {
    let at = path(&arguments.certificate)?;
    let with_key = arguments.key || arguments.format == Format::Bundle;
    let answer = client.get(&at.part(if with_key { "bundle" } else { "certificate" }), &[]).await?;
    let certificate = format!("{}\n", needed(&answer, "/certificate")?.trim());
    let chain = match string_at(&answer, "/certificateChain").unwrap_or_default().trim() {
        // A self-signed certificate is its own chain (contract §6.2), and is not wanted twice.
        chain if chain.is_empty() || chain == certificate.trim() => String::new(),
        chain => format!("{chain}\n"),
    };
    let key = match (with_key, string_at(&answer, "/privateKey")) {
        (true, Some(key)) => Some(format!("{}\n", key.trim())),
        (true, None) => {
            return Err(Failure::new("there is no private key for this certificate here")
                .hint("it was made from a signing request; whoever made that has the key"));
        }
        (false, _) => None,
    };
    let (main, suffix, privacy) = match arguments.format {
        Format::Pem => (certificate, ".crt", Privacy::Public),
        Format::Fullchain => (certificate + &chain, ".fullchain.pem", Privacy::Public),
        // The order of one file for all: the key, then the certificate, then those above it.
        Format::Bundle => (key.clone().unwrap_or_default() + &certificate + &chain, ".bundle.pem", Privacy::Private),
    };
    let separate_key = key.filter(|_| arguments.key && arguments.format != Format::Bundle);
    let Some(out) = &arguments.out else {
        return Ok(Output::new(answer, separate_key.unwrap_or_default() + &main));
    };
    let record = client.get(&at.whole(), &[]).await?;
    let name = string_at(&record, "/certificate/commonName").filter(|name| !name.is_empty());
    let prefix = files::prefix(Some(out), &files::file_name(name.unwrap_or(needed(&answer, "/serialNumber")?)));
    let mut wanted = vec![(files::with_suffix(&prefix, suffix), main, privacy)];
    if let Some(key) = separate_key {
        wanted.insert(0, (files::with_suffix(&prefix, ".key"), key, Privacy::Private));
    }
    let existing = Existing::with_force(arguments.force);
    let paths: Vec<PathBuf> = wanted.iter().map(|(path, _, _)| path.clone()).collect();
    files::must_be_free(&paths, existing)?;
    for (path, contents, privacy) in &wanted {
        files::write(path, contents.as_bytes(), *privacy, existing)?;
    }
    let lines: Vec<String> = paths.iter().map(|path| format!("wrote {}", path.display())).collect();
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let summary = json!({ "serialNumber": needed(&answer, "/serialNumber")?, "files": shown });
    Ok(Output::new(summary, lines.join("\n")))
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

fn describe(certificate: &Value) -> String {
    let either = |named: &str, id: &str| match text_at(certificate, named) {
        name if name == "-" => text_at(certificate, id),
        name => name,
    };
    fields([
        ("common name", text_at(certificate, "/commonName")),
        ("SANs", text_at(certificate, "/altNames")),
        ("status", text_at(certificate, "/status")),
        ("begins", text_at(certificate, "/notBefore")),
        ("expires", text_at(certificate, "/notAfter")),
        ("revoked", text_at(certificate, "/revokedAt")),
        ("renewed from", text_at(certificate, "/renewedFromCertificateId")),
        ("renewed by", text_at(certificate, "/renewedByCertificateId")),
        ("renewal error", text_at(certificate, "/renewalError")),
        ("key", text_at(certificate, "/keyAlgorithm")),
        ("signature", text_at(certificate, "/signatureAlgorithm")),
        ("key usages", text_at(certificate, "/keyUsages")),
        ("extended", text_at(certificate, "/extendedKeyUsages")),
        ("dropped", text_at(certificate, "/droppedKeyUsages")),
        ("CA", either("/caName", "/caId")),
        ("profile", either("/profileName", "/profileId")),
        ("SHA-256", text_at(certificate, "/fingerprintSha256")),
        ("serial", text_at(certificate, "/serialNumber")),
        ("id", text_at(certificate, "/id")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_named_by_id_or_by_serial_number() {
        let check = |name: &str, expected: [&str; 4]| assert_eq!(path(name).unwrap().whole(), expected, "{name}");
        let id = "7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11";
        check(id, ["v1", "cert-manager", "certificates", id]);
        check("3F:0C:9a", ["v1", "pki", "certificates", "3f0c9a"]);
        for name in ["", "www.example.com", "../x", &"a".repeat(41)] {
            assert!(path(name).is_err(), "{name}");
        }
    }
}
