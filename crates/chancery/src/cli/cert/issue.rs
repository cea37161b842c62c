//! `chancery cert issue` and `chancery cert sign`: from options to a certificate in files.
//!
//! What is left out is taken from the profile and its policy, so that a profile and a name are enough. The private key
//! of an issued certificate goes into a file of mode 0600, or, with --json and without --out, to standard output.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::{
    client::Client,
    failure::Failure,
    files::{self, Existing, Privacy},
    output::{Output, fields, list_at, moment_in_words, needed, string_at, text_at},
    profile,
    vocabulary::{self, KeyAlgorithm, Lifetime, NO_USAGE, SignatureAlgorithm, Typed},
};

/// The lifetime that is asked for when neither the caller nor the profile says one, in days.
const LIFETIME_DAYS: i64 = 30;

/// Have a key made and a certificate issued for it.
///
/// A profile and a name are enough: the common name is added to the alternative names by the server, and what is left
/// out is what the profile's policy requires, or what fits it. Written are NAME.key (readable by you only), NAME.crt,
/// NAME.chain.pem (the issuing CA and those above it) and NAME.fullchain.pem (the certificate, then the chain).
/// With --json and without --out no file is written and all goes to standard output, the private key included.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert issue --profile web-server --common-name www.example.com
  chancery cert issue --profile web-server --common-name www.example.com --san ip:10.0.0.1 \\
    --san dns:www.example.com --ttl 30d --key-algorithm RSA_2048 --out tls/
  chancery cert issue --profile client --common-name build-agent-7 --out agents/7
  chancery cert issue --profile web-server --common-name www.example.com --json")]
pub(crate) struct IssueArguments {
    /// The profile to issue from, by slug or id.
    #[arg(long, value_name = "SLUG|ID")]
    profile: String,
    /// The common name of the subject.
    #[arg(long, value_name = "NAME", required_unless_present = "san")]
    common_name: Option<String>,
    /// A subject alternative name: dns:…, ip:…, email:… or uri:…; without a kind it is told from the value. May be
    /// repeated.
    #[arg(long, value_name = "KIND:NAME", value_parser = vocabulary::parse_alternative_name)]
    san: Vec<Typed>,
    /// The lifetime, as 30d, 12h or 1y (m is a minute) [default: the profile's, else 30d].
    #[arg(long, value_parser = parse_ttl)]
    ttl: Option<String>,
    /// The key to make [default: the profile's, else EC_prime256v1].
    #[arg(long, value_name = "ALGORITHM", ignore_case = true)]
    key_algorithm: Option<KeyAlgorithm>,
    /// How the CA signs [default: what fits its key, as ECDSA-SHA256].
    #[arg(long, value_name = "ALGORITHM", ignore_case = true)]
    signature_algorithm: Option<SignatureAlgorithm>,
    /// A key usage, or none. May be repeated [default: the profile's, else what the policy requires, and
    /// digital_signature, with RSA key_encipherment, as far as it allows them].
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::key_usage_or_none())]
    usage: Vec<String>,
    /// An extended key usage, or none. May be repeated [default: the profile's, else what the policy requires, else
    /// server_auth and client_auth as far as it allows them, else the first that it allows].
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::extended_key_usage_or_none())]
    eku: Vec<String>,
    #[command(flatten)]
    delivery: DeliveryArguments,
}

/// Have a certificate signed for a key of your own.
///
/// Names, usages and key come from the signing request, which must be signed by that key; the private key stays with
/// you. Written are NAME.crt, NAME.chain.pem and NAME.fullchain.pem, named after the request's file.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout www.key -out www.csr \\
    -subj /CN=www.example.com -addext subjectAltName=DNS:www.example.com
  chancery cert sign --profile web-server --csr www.csr --ttl 30d")]
pub(crate) struct SignArguments {
    /// The profile to sign for, by slug or id.
    #[arg(long, value_name = "SLUG|ID")]
    profile: String,
    /// The signing request in PEM, or - for standard input.
    #[arg(long, value_name = "FILE|-")]
    csr: PathBuf,
    /// The lifetime, as 30d, 12h or 1y (m is a minute) [default: the profile's, else 30d].
    #[arg(long, value_parser = parse_ttl)]
    ttl: Option<String>,
    #[command(flatten)]
    delivery: DeliveryArguments,
}

/// Renew a certificate: the same names and usages, a new key.
///
/// The old certificate stays valid until its end. Files are written as for chancery cert issue; --force replaces those of
/// the old certificate.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert renew 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11 --out tls/ --force
  chancery cert renew 3f0c9a5e7b21d4866f0e1c2d3a4b5c6d7e8f9012 --json")]
pub(crate) struct RenewArguments {
    /// Its id or its serial number in hex.
    #[arg(value_name = "ID|SERIAL")]
    pub(super) certificate: String,
    /// Leave the root out of the chain.
    #[arg(long)]
    without_root: bool,
    /// A folder, or the beginning of the files' names [default: the certificate's name, here].
    #[arg(long, value_name = "FOLDER/|PREFIX")]
    out: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct DeliveryArguments {
    /// Leave the root out of the chain.
    #[arg(long)]
    without_root: bool,
    /// A folder, or the beginning of the files' names [default: the certificate's name, here].
    #[arg(long, value_name = "FOLDER/|PREFIX")]
    out: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// Sent again with the same key within 24 hours, the same request has the same answer and happens once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(crate) async fn issue(client: &Client, arguments: &IssueArguments, json: bool) -> Result<Output, Failure> {
    let name = arguments.common_name.as_deref().or(arguments.san.first().map(|san| san.value.as_str()));
    let destination = Destination::new(&arguments.delivery, name.unwrap_or_default(), KeyFile::Expected, json)?;
    let profile = profile::find(client, &arguments.profile).await?;
    let key_algorithm = key_algorithm(arguments.key_algorithm, &profile);
    let signature_algorithm = match arguments.signature_algorithm {
        Some(algorithm) => algorithm,
        None => signer(client, &profile, key_algorithm).await?.signs_with(),
    };
    let policy = match (arguments.usage.is_empty(), arguments.eku.is_empty()) {
        (false, false) => Value::Null,
        (true, _) | (_, true) => policy_of(client, &profile).await?,
    };
    let mut body = json!({
        "profileId": needed(&profile, "/id")?,
        "ttl": lifetime(arguments.ttl.as_deref(), &profile),
        "keyAlgorithm": key_algorithm.name(),
        "signatureAlgorithm": signature_algorithm.name(),
        "altNames": arguments.san.iter().map(Typed::to_json).collect::<Vec<_>>(),
    });
    if let Some(common_name) = &arguments.common_name {
        body["commonName"] = json!(common_name);
    }
    if let Some(usages) = typed_usages(&arguments.usage).or_else(|| key_usages(&profile, &policy, key_algorithm)) {
        body["keyUsages"] = json!(usages);
    }
    if let Some(usages) = typed_usages(&arguments.eku).or_else(|| extended_key_usages(&profile, &policy)) {
        body["extendedKeyUsages"] = json!(usages);
    }
    let answer = ask(client, "issue-certificate", body, &arguments.delivery).await?;
    destination.deliver(answer)
}

pub(crate) async fn sign(client: &Client, arguments: &SignArguments, json: bool) -> Result<Output, Failure> {
    let csr = files::read_text(&arguments.csr)?;
    let stem = arguments.csr.file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != "-");
    let destination =
        Destination::new(&arguments.delivery, stem.unwrap_or("certificate"), KeyFile::WithTheCaller, json)?;
    let profile = profile::find(client, &arguments.profile).await?;
    let body = json!({
        "profileId": needed(&profile, "/id")?,
        "csr": csr.trim(),
        "ttl": lifetime(arguments.ttl.as_deref(), &profile),
    });
    let answer = ask(client, "sign-certificate", body, &arguments.delivery).await?;
    destination.deliver(answer)
}

/// Renews the certificate with this record.
pub(crate) async fn renew(
    client: &Client,
    arguments: &RenewArguments,
    record: &Value,
    json: bool,
) -> Result<Output, Failure> {
    let delivery = DeliveryArguments {
        without_root: arguments.without_root,
        out: arguments.out.clone(),
        force: arguments.force,
        idempotency_key: None,
    };
    let name = string_at(record, "/commonName").filter(|name| !name.is_empty());
    let name = name.unwrap_or(needed(record, "/serialNumber")?);
    let destination = Destination::new(&delivery, name, KeyFile::Expected, json)?;
    let body = json!({ "removeRootsFromChain": arguments.without_root });
    let path = ["v1", "cert-manager", "certificates", needed(record, "/id")?, "renew"];
    destination.deliver(client.post(&path, &body).await?)
}

async fn ask(client: &Client, what: &str, mut body: Value, delivery: &DeliveryArguments) -> Result<Value, Failure> {
    if delivery.without_root {
        body["removeRootsFromChain"] = json!(true);
    }
    client.post_once(&["v3", "pki", "certificates", what], &body, delivery.idempotency_key.as_deref()).await
}

/// Whose key signs: the CA's, or, for a self-signed profile, the new one.
async fn signer(client: &Client, profile: &Value, own: KeyAlgorithm) -> Result<KeyAlgorithm, Failure> {
    let Some(id) = string_at(profile, "/caId") else {
        return Ok(own);
    };
    let authority = client.get(&["v1", "cert-manager", "ca", "internal", id], &[]).await.map_err(|failure| {
        failure.hint("to issue without looking at the CA, say what it signs with: --signature-algorithm ECDSA-SHA256")
    })?;
    let name = needed(&authority, "/configuration/keyAlgorithm")?;
    KeyAlgorithm::from_str(name, false)
        .map_err(|_| Failure::new(format!("the CA has a key of the kind {name}")).hint("name --signature-algorithm"))
}

/// The policy of a profile; null when the caller may not see it, who then has to say what it asks for.
async fn policy_of(client: &Client, profile: &Value) -> Result<Value, Failure> {
    let Some(id) = string_at(profile, "/certificatePolicyId").or_else(|| string_at(profile, "/certificateTemplateId"))
    else {
        return Ok(Value::Null);
    };
    match client.get(&["v1", "cert-manager", "certificate-policies", id], &[]).await {
        Ok(mut answer) => Ok(answer["certificatePolicy"].take()),
        Err(failure) if matches!(failure.status, Some(403 | 404)) => Ok(Value::Null),
        Err(failure) => Err(failure),
    }
}

fn key_algorithm(typed: Option<KeyAlgorithm>, profile: &Value) -> KeyAlgorithm {
    let usual =
        || string_at(profile, "/defaults/keyAlgorithm").and_then(|name| KeyAlgorithm::from_str(name, false).ok());
    typed.or_else(usual).unwrap_or(KeyAlgorithm::EcP256)
}

fn lifetime(typed: Option<&str>, profile: &Value) -> String {
    let usual = profile.pointer("/defaults/ttlDays").and_then(Value::as_i64).unwrap_or(LIFETIME_DAYS);
    typed.map_or_else(|| format!("{usual}d"), str::to_owned)
}

/// What was typed; `none` asks for no usage.
fn typed_usages(typed: &[String]) -> Option<Vec<String>> {
    if typed.is_empty() { None } else { Some(typed.iter().filter(|usage| *usage != NO_USAGE).cloned().collect()) }
}

/// The key usages to ask for when none were typed; none leaves them to the profile.
fn key_usages(profile: &Value, policy: &Value, key: KeyAlgorithm) -> Option<Vec<String>> {
    if profile.pointer("/defaults/keyUsages").is_some_and(Value::is_array) {
        return None;
    }
    let rule = Rule::at(policy, "/keyUsages")?;
    let mut usages = rule.required.clone();
    let usual = [("digital_signature", true), ("key_encipherment", key.enciphers())];
    for (usage, fits) in usual {
        if fits && rule.allows(usage) && !usages.iter().any(|known| known == usage) {
            usages.push(usage.to_owned());
        }
    }
    Some(usages)
}

/// The extended key usages to ask for when none were typed; none leaves them to the profile.
fn extended_key_usages(profile: &Value, policy: &Value) -> Option<Vec<String>> {
    if profile.pointer("/defaults/extendedKeyUsages").is_some_and(Value::is_array) {
        return None;
    }
    let rule = Rule::at(policy, "/extendedKeyUsages")?;
    if !rule.required.is_empty() {
        return Some(rule.required);
    }
    let usual = ["server_auth", "client_auth"].into_iter().filter(|usage| rule.allows(usage));
    let usual: Vec<String> = usual.map(str::to_owned).collect();
    let first = || rule.allowed.iter().find(|usage| rule.allows(usage)).cloned().into_iter().collect();
    Some(if usual.is_empty() { first() } else { usual })
}

/// A policy's rule about usages (contract §5.2).
struct Rule {
    allowed: Vec<String>,
    required: Vec<String>,
    denied: Vec<String>,
}

impl Rule {
    fn at(policy: &Value, pointer: &str) -> Option<Self> {
        let rule = policy.pointer(pointer).filter(|rule| rule.is_object())?;
        let list = |name: &str| {
            let values = list_at(rule, &format!("/{name}"));
            values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Some(Self { allowed: list("allowed"), required: list("required"), denied: list("denied") })
    }

    fn allows(&self, usage: &str) -> bool {
        let holds = |list: &[String]| list.iter().any(|known| known == usage);
        holds(&self.allowed) && !holds(&self.denied)
    }
}

fn parse_ttl(text: &str) -> Result<String, String> {
    // Read here for the message, sent as it was typed: the server is who decides.
    vocabulary::parse_duration(text).map(|_: Lifetime| text.trim().to_owned())
}

/// Where the result goes. Made before the server is asked, so that nothing is issued for files that cannot be written.
enum Destination {
    /// All of it to standard output.
    StandardOutput,
    /// Into files.
    Files { prefix: PathBuf, key: KeyFile, existing: Existing },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyFile {
    /// The server makes the key and sends it.
    Expected,
    /// The caller has it.
    WithTheCaller,
}

impl Destination {
    fn new(delivery: &DeliveryArguments, name: &str, key: KeyFile, json: bool) -> Result<Self, Failure> {
        if json && delivery.out.is_none() {
            return Ok(Self::StandardOutput);
        }
        let prefix = files::prefix(delivery.out.as_deref(), &files::file_name(name));
        let existing = Existing::with_force(delivery.force);
        let suffixes = [".key", ".crt", ".chain.pem", ".fullchain.pem"];
        let wanted = suffixes.iter().filter(|suffix| key == KeyFile::Expected || **suffix != ".key");
        let paths: Vec<PathBuf> = wanted.map(|suffix| files::with_suffix(&prefix, suffix)).collect();
        files::must_be_free(&paths, existing)?;
        Ok(Self::Files { prefix, key, existing })
    }

    fn deliver(self, mut answer: Value) -> Result<Output, Failure> {
        let (prefix, key, existing) = match self {
            Self::StandardOutput => return Ok(Output::new(answer, String::new())),
            Self::Files { prefix, key, existing } => (prefix, key, existing),
        };
        let files = write_all(&prefix, &answer, existing).map_err(|failure| {
            let id = text_at(&answer, "/certificateId");
            failure.detail(format!(
                "the certificate was issued; get it with: chancery cert export {id} --key --out FOLDER/"
            ))
        })?;
        let shown: Vec<(&str, String)> = files.iter().map(|(name, path)| (*name, path.display().to_string())).collect();
        let certificate = string_at(&answer, "/certificate").and_then(|pem| x509::Certificate::from_pem(pem).ok());
        let mut text = fields(
            [
                ("serial", text_at(&answer, "/serialNumber")),
                ("id", text_at(&answer, "/certificateId")),
                ("expires", certificate.and_then(|certificate| expiry(&certificate)).unwrap_or_default()),
            ]
            .into_iter()
            .chain(shown.clone()),
        );
        text.insert_str(0, "issued\n");
        if key == KeyFile::Expected && string_at(&answer, "/privateKey").is_none() {
            text.push_str("\n\nThe private key stays at the server: this identity may not read private keys.");
        }
        if let Some(object) = answer.as_object_mut() {
            // It is in its file, and in no terminal's memory.
            object.remove("privateKey");
            object.insert("files".to_owned(), shown.iter().map(|(name, path)| (camel(name), json!(path))).collect());
        }
        Ok(Output::new(answer, text))
    }
}

/// Writes what there is, the private key first. Gives what was written, and where.
fn write_all(prefix: &Path, answer: &Value, existing: Existing) -> Result<Vec<(&'static str, PathBuf)>, Failure> {
    let part = |pointer| string_at(answer, pointer).unwrap_or_default().trim();
    let (key, certificate, chain) = (part("/privateKey"), part("/certificate"), part("/certificateChain"));
    // A self-signed certificate is its own chain (contract §6.2).
    let above = if chain == certificate { "" } else { chain };
    let full_chain = format!("{certificate}\n{above}");
    let parts = [
        ("private key", ".key", key, Privacy::Private),
        ("certificate", ".crt", certificate, Privacy::Public),
        ("chain", ".chain.pem", chain, Privacy::Public),
        ("full chain", ".fullchain.pem", full_chain.trim(), Privacy::Public),
    ];
    let mut written = Vec::new();
    for (name, suffix, contents, privacy) in parts {
        if contents.is_empty() {
            continue;
        }
        let path = files::with_suffix(prefix, suffix);
        files::write(&path, format!("{contents}\n").as_bytes(), privacy, existing)?;
        written.push((name, path));
    }
    Ok(written)
}

fn expiry(certificate: &x509::Certificate) -> Option<String> {
    jiff::Timestamp::from_second(certificate.contents().not_after()).ok().map(moment_in_words)
}

fn camel(name: &str) -> String {
    match name.split_once(' ') {
        Some((first, second)) => {
            let mut letters = second.chars();
            let head: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            format!("{first}{head}{}", letters.as_str())
        }
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
