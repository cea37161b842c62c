//! `chancery cert`: certificates. Making them is in `cert/issue.rs`, searching and counting them in `cert/inventory.rs`, taking
//! them out and in in `cert/export.rs` and `cert/import.rs`.

mod export;
mod import;
mod inventory;
mod issue;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    output::{Column, Output, fields, list_at, needed, table, text_at},
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

/// Issue, sign, import, list, show, export, renew and revoke certificates.
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
    Export(export::ExportArguments),
    Import(import::ImportArguments),
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
        CertCommand::Export(arguments) => export::export(client, &arguments).await,
        CertCommand::Import(arguments) => import::import(client, &arguments).await,
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
    pub(crate) fn whole(&self) -> [&str; 4] {
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
