//! `chancery cert export`: a certificate as a file, with those above it, with its key, or in a key store.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};
use x509::pem;
use zeroize::Zeroizing;

use crate::cli::{
    client::Client,
    failure::Failure,
    files::{self, Existing, Privacy},
    output::{Output, needed, string_at},
};

/// Print or write a certificate.
///
/// Without --out it goes to standard output, but for the formats that are no text. The private key of a certificate that
/// the server has it of comes along with --key, or with the formats bundle, pkcs12 and jks; that takes the permission to
/// read private keys.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert export 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11 --format fullchain > www.pem
  chancery cert export 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11 --key --out tls/
  chancery cert export 3f0c9a5e7b21d4866f0e1c2d3a4b5c6d7e8f9012 --format bundle --out haproxy/www
  chancery cert export 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11 --format pkcs12 --out www \\
    --password-file secret.txt --alias www")]
pub(crate) struct ExportArguments {
    /// Its id or its serial number in hex.
    #[arg(value_name = "ID|SERIAL")]
    certificate: String,
    /// What to export: pem and der are the certificate alone, fullchain adds the CAs above it, bundle adds the private key,
    /// too; pkcs12 and jks are key stores with all of that.
    #[arg(long, value_enum, default_value_t = Format::Pem)]
    format: Format,
    /// With the private key, in a file of its own.
    #[arg(long)]
    key: bool,
    /// A folder, or the beginning of the files' names: .crt, .der, .fullchain.pem, .bundle.pem, .p12, .jks or .key is added.
    #[arg(long, value_name = "FOLDER/|PREFIX")]
    out: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// What a key store is made with.
#[derive(clap::Args)]
struct StoreArguments {
    /// The password of the key store, in a file; - reads standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with = "password_env")]
    password_file: Option<PathBuf>,
    /// The environment variable that holds the password of the key store.
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<String>,
    /// The name of the entry in the key store [default: the certificate's common name].
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Encrypt a PKCS#12 file as old Java and Windows read it, with triple DES and SHA-1.
    #[arg(long)]
    legacy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Pem,
    Der,
    Fullchain,
    Bundle,
    Pkcs12,
    Jks,
}

/// A file that is to be written or printed.
struct Wanted {
    suffix: &'static str,
    contents: Zeroizing<Vec<u8>>,
    privacy: Privacy,
}

pub(super) async fn export(client: &Client, arguments: &ExportArguments) -> Result<Output, Failure> {
    match arguments.format {
        Format::Pem | Format::Der | Format::Fullchain | Format::Bundle => {
            if !arguments.store.is_empty() {
                return Err(Failure::usage("a password, an alias and --legacy are for the formats pkcs12 and jks"));
            }
            export_certificate(client, arguments).await
        }
        Format::Pkcs12 => export_store(client, arguments, "pkcs12", ".p12").await,
        Format::Jks if arguments.store.legacy => {
            Err(Failure::usage("--legacy is for the format pkcs12: a Java key store has no choice of encryption"))
        }
        Format::Jks => export_store(client, arguments, "jks", ".jks").await,
    }
}

async fn export_certificate(client: &Client, arguments: &ExportArguments) -> Result<Output, Failure> {
    if arguments.format == Format::Der {
        must_go_to_a_file(arguments)?;
    }
    let at = super::path(&arguments.certificate)?;
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
        Format::Der => {
            let der = pem::decode_one(&certificate, &[pem::CERTIFICATE]);
            let der = der.map_err(|error| Failure::new(format!("the server's certificate does not read: {error}")))?;
            (der, ".der", Privacy::Public)
        }
        Format::Fullchain => ((certificate + &chain).into_bytes(), ".fullchain.pem", Privacy::Public),
        // The order of one file for all: the key, then the certificate, then those above it.
        Format::Bundle => {
            let bundle = key.clone().unwrap_or_default() + &certificate + &chain;
            (bundle.into_bytes(), ".bundle.pem", Privacy::Private)
        }
        Format::Pem | Format::Pkcs12 | Format::Jks => (certificate.into_bytes(), ".crt", Privacy::Public),
    };
    let separate_key = key.filter(|_| arguments.key && arguments.format != Format::Bundle);
    let Some(out) = &arguments.out else {
        let text = separate_key.unwrap_or_default() + &String::from_utf8_lossy(&main);
        return Ok(Output::new(answer, text));
    };
    let record = client.get(&at.whole(), &[]).await?;
    let mut wanted = vec![Wanted { suffix, contents: Zeroizing::new(main), privacy }];
    if let Some(key) = separate_key {
        let contents = Zeroizing::new(key.into_bytes());
        wanted.insert(0, Wanted { suffix: ".key", contents, privacy: Privacy::Private });
    }
    write(&record, out, wanted, arguments.force)
}

async fn export_store(
    client: &Client,
    arguments: &ExportArguments,
    format: &'static str,
    suffix: &'static str,
) -> Result<Output, Failure> {
    must_go_to_a_file(arguments)?;
    if arguments.key {
        return Err(Failure::usage("a key store holds the private key; --key is for the other formats"));
    }
    let password = arguments.store.password()?;
    let at = super::path(&arguments.certificate)?;
    let record = client.get(&at.whole(), &[]).await?;
    let out = arguments.out.as_deref().unwrap_or(Path::new(""));
    let existing = Existing::with_force(arguments.force);
    files::must_be_free(&[files::with_suffix(&prefix(&record, out)?, suffix)], existing)?;
    let alias = match &arguments.store.alias {
        Some(alias) => alias.as_str(),
        None => name(&record)?,
    };
    let mut body = json!({ "password": password.as_str(), "alias": alias });
    if arguments.store.legacy {
        body["encryption"] = "legacy".into();
    }
    let contents = Zeroizing::new(client.post_for_octets(&at.part(format), &body).await?);
    write(&record, out, vec![Wanted { suffix, contents, privacy: Privacy::Private }], arguments.force)
}

impl StoreArguments {
    fn is_empty(&self) -> bool {
        self.password_file.is_none() && self.password_env.is_none() && self.alias.is_none() && !self.legacy
    }

    /// The password; never from the command line, which others on the machine can see.
    fn password(&self) -> Result<Zeroizing<String>, Failure> {
        match (&self.password_file, &self.password_env) {
            (Some(path), _) => {
                let text = Zeroizing::new(files::read_text(path)?);
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Ok(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()))
            }
            (None, Some(variable)) => match std::env::var(variable) {
                Ok(password) => Ok(Zeroizing::new(password)),
                Err(_) => Err(Failure::usage(format!("there is no environment variable {variable} with a text"))),
            },
            (None, None) => Err(Failure::usage("a key store needs a password")
                .hint("name a file with --password-file, or a variable with --password-env")),
        }
    }
}

fn must_go_to_a_file(arguments: &ExportArguments) -> Result<(), Failure> {
    match arguments.out {
        Some(_) => Ok(()),
        None => Err(Failure::usage("the formats der, pkcs12 and jks are no text: name a file with --out")),
    }
}

/// What a certificate is called: its common name, else its serial number.
fn name(record: &Value) -> Result<&str, Failure> {
    match string_at(record, "/certificate/commonName").filter(|name| !name.is_empty()) {
        Some(name) => Ok(name),
        None => needed(record, "/certificate/serialNumber"),
    }
}

fn prefix(record: &Value, out: &Path) -> Result<PathBuf, Failure> {
    Ok(files::prefix(Some(out), &files::file_name(name(record)?)))
}

fn write(record: &Value, out: &Path, wanted: Vec<Wanted>, force: bool) -> Result<Output, Failure> {
    let prefix = prefix(record, out)?;
    let existing = Existing::with_force(force);
    let paths: Vec<PathBuf> = wanted.iter().map(|file| files::with_suffix(&prefix, file.suffix)).collect();
    files::must_be_free(&paths, existing)?;
    for (path, file) in paths.iter().zip(&wanted) {
        files::write(path, &file.contents, file.privacy, existing)?;
    }
    let lines: Vec<String> = paths.iter().map(|path| format!("wrote {}", path.display())).collect();
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let summary = json!({ "serialNumber": needed(record, "/certificate/serialNumber")?, "files": shown });
    Ok(Output::new(summary, lines.join("\n")))
}
