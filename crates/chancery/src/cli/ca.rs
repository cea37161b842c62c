//! `chancery ca`: certificate authorities.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files::{self, Existing, Privacy},
    output::{Column, Output, fields, list_at, moment_in_words, needed, string_at, table, text_at},
    project,
    vocabulary::{self, KeyAlgorithm, Lifetime, Typed},
};

/// Where the CAs are, below `/api`.
const PATH: [&str; 4] = ["v1", "cert-manager", "ca", "internal"];
/// How long a root lives when nothing else is asked for: ten years, as the server counts them where none is asked for.
const ROOT_LIFETIME: Lifetime = Lifetime::days(10 * 365 + 2);
/// How long an intermediate lives when nothing else is asked for, if its parent lives that long.
const INTERMEDIATE_LIFETIME: Lifetime = Lifetime::days(5 * 365);

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("TYPE", "/configuration/type"),
    ("STATUS", "/status"),
    ("KEY", "/configuration/keyAlgorithm"),
    ("SUBJECT", "/configuration/dn"),
    ("EXPIRES", "/configuration/notAfter"),
    ("ID", "/id"),
];

/// Make, list, show, import and renew certificate authorities.
#[derive(clap::Args)]
pub(crate) struct CaArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: CaCommand,
}

#[derive(Subcommand)]
pub(crate) enum CaCommand {
    Create(Box<CreateArguments>),
    /// List the CAs of the project.
    #[command(after_help = "Examples:\n  chancery ca list\n  chancery ca list --json")]
    List,
    /// Show a CA.
    ///
    /// With --pem its certificate and the certificates above it, and nothing else: what to hand to whoever shall trust it.
    #[command(after_help = "Examples:
  chancery ca show issuing-ca
  chancery ca show root-ca --pem > root-ca.pem")]
    Show {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// Print its certificate and its chain in PEM.
        #[arg(long)]
        pem: bool,
    },
    /// Print or write the signing request of an intermediate CA.
    ///
    /// Have it signed by the CA that shall stand above, then install the certificate with: chancery ca import
    #[command(after_help = "Examples:
  chancery ca create partner-ca --type intermediate --common-name 'Partner CA'
  chancery ca csr partner-ca --out partner-ca.csr")]
    Csr {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// Write it to this file instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Replace the file when it is there.
        #[arg(long, requires = "out")]
        force: bool,
    },
    /// Install a certificate that an outside CA has signed.
    ///
    /// The certificate must be for this CA's own key. The chain holds the certificates above it, and nothing else; it
    /// may end below the root.
    #[command(after_help = "Example:
  chancery ca import partner-ca --certificate partner-ca.crt --chain outside-root.pem")]
    Import {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// The CA's new certificate, in PEM.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// The certificates above it, in PEM, in any order.
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
    },
    /// Prolong a CA: a new certificate for the same key, or for a new one.
    ///
    /// A root signs itself again; an intermediate is signed again by its parent here, and ends no later than that one.
    #[command(after_help = "Examples:
  chancery ca renew root-ca --ttl 15y
  chancery ca renew issuing-ca --not-after 2030-01-01
  chancery ca renew issuing-ca --new-key --ttl 4y")]
    Renew {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// How long it lives from now on, as 5y or 1000d.
        #[arg(long, value_parser = vocabulary::parse_duration, required_unless_present = "not_after", conflicts_with = "not_after")]
        ttl: Option<Lifetime>,
        /// Its new end.
        #[arg(long, value_name = "TIME", value_parser = vocabulary::parse_moment)]
        not_after: Option<jiff::Timestamp>,
        /// With a new key. The old one goes on signing the revocation list of what it signed.
        #[arg(long)]
        new_key: bool,
    },
}

/// Make a CA.
///
/// A root signs its own certificate and can issue at once. So can an intermediate that is made with --parent; without
/// it waits for a certificate from outside: chancery ca csr, then chancery ca import.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery ca create lab-root --common-name 'Lab Root CA' --organization Acme --ttl 20y
  chancery ca create lab-web --parent root-ca --common-name 'Lab Web CA' --max-path-length 0 \\
    --key-algorithm EC_secp384r1 --permit dns:lab.example.com
  chancery ca create lab-outside --type intermediate --common-name 'Lab Outside CA'")]
pub(crate) struct CreateArguments {
    /// Its name: 1 to 32 of a-z, 0-9 and -.
    name: String,
    /// What it is [default: intermediate with --parent, else root].
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// The CA here that signs it, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    parent: Option<String>,
    /// The common name of its subject.
    #[arg(long, value_name = "NAME", default_value = "")]
    common_name: String,
    /// The organization of its subject.
    #[arg(long, value_name = "NAME", default_value = "")]
    organization: String,
    /// The organizational unit of its subject.
    #[arg(long, value_name = "NAME", default_value = "")]
    organizational_unit: String,
    /// The country of its subject: two letters.
    #[arg(long, value_name = "CODE", default_value = "")]
    country: String,
    /// The state or province of its subject.
    #[arg(long, value_name = "NAME", default_value = "")]
    state: String,
    /// The locality of its subject.
    #[arg(long, value_name = "NAME", default_value = "")]
    locality: String,
    /// Its key [default: EC_secp384r1 for a root, EC_prime256v1 otherwise].
    #[arg(long, value_name = "ALGORITHM", ignore_case = true)]
    key_algorithm: Option<KeyAlgorithm>,
    /// How long it lives, as 10y or 1000d [default: 3652d for a root; otherwise 1825d, or until its parent ends].
    #[arg(long, value_parser = vocabulary::parse_duration, conflicts_with = "not_after")]
    ttl: Option<Lifetime>,
    /// Its end.
    #[arg(long, value_name = "TIME", value_parser = vocabulary::parse_moment)]
    not_after: Option<jiff::Timestamp>,
    /// How many CAs may follow below it [default: without limit].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=255))]
    max_path_length: Option<u32>,
    /// Only names within this subtree, as dns:example.com, ip:10.0.0.0/8, email:example.com. May be repeated.
    #[arg(long, value_name = "KIND:SUBTREE", value_parser = vocabulary::parse_name_constraint)]
    permit: Vec<Typed>,
    /// No names within this subtree. May be repeated.
    #[arg(long, value_name = "KIND:SUBTREE", value_parser = vocabulary::parse_name_constraint)]
    exclude: Vec<Typed>,
    /// A certificate policy by its OID. May be repeated.
    #[arg(long, value_name = "OID")]
    policy_oid: Vec<String>,
    /// Its certificate is limited to this extended key usage. May be repeated.
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::extended_key_usage())]
    eku: Vec<String>,
    /// The http address that its certificates carry for CRL, OCSP and its own certificate [default: the server's].
    #[arg(long, value_name = "URL")]
    publication_url: Option<String>,
    /// Give no answers about its certificates (OCSP), and name no address for that in them.
    #[arg(long)]
    no_ocsp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Root,
    Intermediate,
}

pub(crate) async fn run(client: &Client, command: CaCommand) -> Result<Output, Failure> {
    match command {
        CaCommand::Create(arguments) => create(client, &arguments).await,
        CaCommand::List => {
            let list = client.get_in_project(&PATH, &[]).await?;
            let text = table(COLUMNS, &list_at(&list, ""), "There is no CA. Make one: chancery ca create --help");
            Ok(Output::new(list, text))
        }
        CaCommand::Show { name, pem } => show(client, &name, pem).await,
        CaCommand::Csr { name, out, force } => csr(client, &name, out, Existing::with_force(force)).await,
        CaCommand::Import { name, certificate, chain } => {
            let body = json!({
                "certificate": files::read_text(&certificate)?,
                "certificateChain": files::read_text(&chain)?,
            });
            let authority = find(client, &name).await?;
            let answer = client.post(&below(needed(&authority, "/id")?, "import-certificate"), &body).await?;
            Ok(Output::new(answer, format!("installed the certificate of {}", text_at(&authority, "/name"))))
        }
        CaCommand::Renew { name, ttl, not_after, new_key } => {
            let authority = find(client, &name).await?;
            let not_after = end(ttl, not_after, ROOT_LIFETIME)?;
            let body =
                json!({ "type": if new_key { "new-key" } else { "existing" }, "notAfter": not_after.to_string() });
            let answer = client.post(&below(needed(&authority, "/id")?, "renew"), &body).await?;
            let described = fields([
                ("serial", text_at(&answer, "/serialNumber")),
                ("expires", moment_in_words(not_after)),
                ("certificate", text_at(&answer, "/certId")),
            ]);
            Ok(Output::new(answer, format!("renewed {}\n{described}", text_at(&authority, "/name"))))
        }
    }
}

/// A CA by its name or id.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    if project::is_id(name) {
        return client.get(&[PATH.as_slice(), &[name]].concat(), &[]).await;
    }
    let list = client.get_in_project(&PATH, &[]).await?;
    list_at(&list, "").into_iter().find(|authority| string_at(authority, "/name") == Some(name)).ok_or_else(|| {
        Failure::new(format!("there is no CA of the name {name}")).hint("see them all with: chancery ca list")
    })
}

async fn create(client: &Client, arguments: &CreateArguments) -> Result<Output, Failure> {
    let parent = match (&arguments.parent, arguments.kind) {
        (Some(_), Some(Kind::Root)) => {
            return Err(Failure::usage("a root has no parent: leave out --parent, or --type root"));
        }
        (Some(parent), Some(Kind::Intermediate) | None) => Some(find(client, parent).await?),
        (None, _) => None,
    };
    let kind = arguments.kind.unwrap_or(if parent.is_some() { Kind::Intermediate } else { Kind::Root });
    let mut body = json!({
        "name": arguments.name,
        "status": "active",
        "configuration": configuration(arguments, kind),
    });
    if kind == Kind::Root {
        // A root without an end would be made without a certificate (contract §3.1).
        body["configuration"]["notAfter"] = end(arguments.ttl, arguments.not_after, ROOT_LIFETIME)?.to_string().into();
    }
    let made = client.post(&PATH, &client.in_project(body).await?).await?;
    let id = needed(&made, "/id")?;
    if let Some(parent) = &parent
        && let Err(failure) = certify(client, id, parent, arguments).await
    {
        // What was asked for is a CA that issues, so half of one is not left behind.
        return Err(match client.delete(&[PATH.as_slice(), &[id]].concat()).await {
            Ok(_) => failure,
            Err(_) => failure.detail(format!("the CA {} was made, but has no certificate", arguments.name)),
        });
    }
    let authority = find(client, id).await?;
    let mut text = format!("made the CA {}\n{}", arguments.name, describe(&authority));
    if string_at(&authority, "/status") == Some("pending-certificate") {
        text.push_str(&format!(
            "\n\nIt waits for its certificate. Next:\n  chancery ca csr {0} --out {0}.csr\n  chancery ca import {0} \
             --certificate {0}.crt --chain chain.pem",
            arguments.name
        ));
    }
    Ok(Output::new(authority, text))
}

/// Has an intermediate's certificate made by its parent (contract §4.3).
async fn certify(client: &Client, id: &str, parent: &Value, arguments: &CreateArguments) -> Result<Value, Failure> {
    let moment = |pointer| string_at(parent, pointer).and_then(|text| vocabulary::parse_moment(text).ok());
    // This machine's clock may be behind the server's, and nothing begins before its issuer.
    let now = jiff::Timestamp::now();
    let not_before = moment("/configuration/notBefore").map_or(now, |begin| begin.max(now));
    let not_after = match (arguments.ttl, arguments.not_after) {
        (None, None) => {
            let usual = INTERMEDIATE_LIFETIME.after(now)?;
            moment("/configuration/notAfter").map_or(usual, |end| end.min(usual))
        }
        (ttl, not_after) => end(ttl, not_after, INTERMEDIATE_LIFETIME)?,
    };
    let body = json!({
        "parentCaId": needed(parent, "/id")?,
        "notBefore": not_before.to_string(),
        "notAfter": not_after.to_string(),
        "maxPathLength": arguments.max_path_length.map_or(-1, i64::from),
    });
    client.post(&below(id, "certificate"), &body).await
}

fn configuration(arguments: &CreateArguments, kind: Kind) -> Value {
    let key_algorithm = arguments.key_algorithm.unwrap_or(match kind {
        Kind::Root => KeyAlgorithm::EcP384,
        Kind::Intermediate => KeyAlgorithm::EcP256,
    });
    let mut configuration = json!({
        "type": match kind { Kind::Root => "root", Kind::Intermediate => "intermediate" },
        "commonName": arguments.common_name,
        "organization": arguments.organization,
        "ou": arguments.organizational_unit,
        "country": arguments.country,
        "province": arguments.state,
        "locality": arguments.locality,
        "keyAlgorithm": key_algorithm.name(),
        "maxPathLength": arguments.max_path_length.map_or(-1, i64::from),
    });
    let names = |typed: &[Typed]| typed.iter().map(Typed::to_json).collect::<Vec<_>>();
    if !arguments.permit.is_empty() || !arguments.exclude.is_empty() {
        configuration["nameConstraints"] =
            json!({ "permitted": names(&arguments.permit), "excluded": names(&arguments.exclude) });
    }
    let mut extension = Map::new();
    if !arguments.policy_oid.is_empty() {
        extension.insert("policyOids".to_owned(), json!(arguments.policy_oid));
    }
    if !arguments.eku.is_empty() {
        extension.insert("extendedKeyUsages".to_owned(), json!(arguments.eku));
    }
    if arguments.no_ocsp {
        extension.insert("isOcspEnabled".to_owned(), json!(false));
    }
    if let Some(url) = &arguments.publication_url {
        extension.insert("publicationUrl".to_owned(), json!(url));
    }
    if let Some(object) = configuration.as_object_mut() {
        object.append(&mut extension);
    }
    configuration
}

async fn show(client: &Client, name: &str, pem: bool) -> Result<Output, Failure> {
    let authority = find(client, name).await?;
    if !pem {
        let text = describe(&authority);
        return Ok(Output::new(authority, text));
    }
    let answer = client.get(&below(needed(&authority, "/id")?, "certificate"), &[]).await?;
    let blocks =
        ["/certificate", "/certificateChain"].map(|pointer| string_at(&answer, pointer).unwrap_or_default().trim());
    let text = blocks.into_iter().filter(|block| !block.is_empty()).collect::<Vec<_>>().join("\n");
    Ok(Output::new(answer, text))
}

async fn csr(client: &Client, name: &str, out: Option<PathBuf>, existing: Existing) -> Result<Output, Failure> {
    files::must_be_free(out.as_slice(), existing)?;
    let authority = find(client, name).await?;
    let answer = client.get(&below(needed(&authority, "/id")?, "csr"), &[]).await?;
    let csr = format!("{}\n", needed(&answer, "/csr")?.trim());
    match out {
        None => Ok(Output::new(answer, csr)),
        Some(path) => {
            files::write(&path, csr.as_bytes(), Privacy::Public, existing)?;
            let text = format!("wrote the request of {} to {}", text_at(&authority, "/name"), path.display());
            Ok(Output::new(answer, text))
        }
    }
}

pub(crate) fn below<'a>(id: &'a str, part: &'a str) -> [&'a str; 6] {
    let [version, family, noun, kind] = PATH;
    [version, family, noun, kind, id, part]
}

fn end(ttl: Option<Lifetime>, not_after: Option<jiff::Timestamp>, usual: Lifetime) -> Result<jiff::Timestamp, Failure> {
    match not_after {
        Some(moment) => Ok(moment),
        None => ttl.unwrap_or(usual).after(jiff::Timestamp::now()),
    }
}

fn describe(authority: &Value) -> String {
    let path_length = match authority.pointer("/configuration/maxPathLength").and_then(Value::as_i64) {
        None | Some(-1) => String::new(),
        Some(length) => length.to_string(),
    };
    let constraints = |pointer| {
        let names = list_at(authority, pointer);
        names.iter().map(|name| format!("{}:{}", text_at(name, "/type"), text_at(name, "/value"))).collect::<Vec<_>>()
    };
    fields([
        ("name", text_at(authority, "/name")),
        ("type", text_at(authority, "/configuration/type")),
        ("status", text_at(authority, "/status")),
        ("subject", text_at(authority, "/configuration/dn")),
        ("key", text_at(authority, "/configuration/keyAlgorithm")),
        ("serial", text_at(authority, "/configuration/serialNumber")),
        ("begins", text_at(authority, "/configuration/notBefore")),
        ("expires", text_at(authority, "/configuration/notAfter")),
        ("path length", path_length),
        ("permitted", constraints("/configuration/nameConstraints/permitted").join(", ")),
        ("excluded", constraints("/configuration/nameConstraints/excluded").join(", ")),
        ("policies", text_at(authority, "/configuration/policyOids")),
        ("limited to", text_at(authority, "/configuration/extendedKeyUsages")),
        ("publishes at", text_at(authority, "/configuration/publicationUrl")),
        ("answers (OCSP)", text_at(authority, "/configuration/isOcspEnabled")),
        ("parent", text_at(authority, "/configuration/parentCaId")),
        ("id", text_at(authority, "/id")),
    ])
}
