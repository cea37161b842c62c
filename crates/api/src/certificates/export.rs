//! A certificate as a file: PEM, DER, and key stores that a password opens (contract §6.7, 6.10).

use super::records::name;
use crate::app::App;
use crate::error::Result;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, object, one_of, optional, required, text, verbatim};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_DISPOSITION;
use domain::Error;
use domain::caller::Caller;
use domain::inventory::serial_hex;
use domain::secret::SecretText;
use serde::Deserialize;
use serde_json::json;
use services::certificates::Bundle;
use services::export::{Encryption, KeyStoreFormat, KeyStoreRequest};
use x509::pem;

const TAG: &str = "Certificates";
const PASSWORD_CHARACTERS_MAX: i64 = 256;
const ALIAS_CHARACTERS_MAX: i64 = 255;
const PKCS12: &str = "The certificate, its chain and its private key. Modern encryption is AES-256 with SHA-256; legacy is \
                      triple DES with SHA-1, for old Java and Windows. Takes the right to read private keys.";
const JKS: &str = "The certificate, its chain and its private key as a Java key store. The format has one encryption, \
                   whichever is asked for, and a weak one: prefer PKCS#12. Its aliases are in small letters. Takes the right \
                   to read private keys.";
const DOWNLOAD: &str = "As a file: pem and der are the certificate, fullchain adds those above it, and bundle puts the private \
                        key before them, which takes the right to read private keys.";

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::post("/api/v1/pki/certificates/{serialNumber}/pkcs12", TAG, "Export a certificate as PKCS#12")
            .describe(PKCS12)
            .path([required("serialNumber", text())])
            .body(store_schema())
            .returns_bytes("application/octet-stream")
            .bearer(pkcs12),
        Endpoint::post("/api/v1/cert-manager/certificates/{id}/pkcs12", TAG, "Export a certificate as PKCS#12")
            .describe(PKCS12)
            .path([required("id", text())])
            .body(store_schema())
            .returns_bytes("application/octet-stream")
            .bearer(pkcs12),
        Endpoint::post("/api/v1/pki/certificates/{serialNumber}/jks", TAG, "Export a certificate as a Java key store")
            .describe(JKS)
            .path([required("serialNumber", text())])
            .body(store_schema())
            .returns_bytes("application/octet-stream")
            .bearer(jks),
        Endpoint::post("/api/v1/cert-manager/certificates/{id}/jks", TAG, "Export a certificate as a Java key store")
            .describe(JKS)
            .path([required("id", text())])
            .body(store_schema())
            .returns_bytes("application/octet-stream")
            .bearer(jks),
        Endpoint::get("/api/v1/pki/certificates/{serialNumber}/download", TAG, "Download a certificate")
            .describe(DOWNLOAD)
            .path([required("serialNumber", text())])
            .query([optional("format", format())])
            .returns_bytes("*/*")
            .bearer(download),
        Endpoint::get("/api/v1/cert-manager/certificates/{id}/download", TAG, "Download a certificate")
            .describe(DOWNLOAD)
            .path([required("id", text())])
            .query([optional("format", format())])
            .returns_bytes("*/*")
            .bearer(download),
    ]
}

fn store_schema() -> Schema {
    object([
        required("password", verbatim().at_least(6).at_most(PASSWORD_CHARACTERS_MAX)),
        required(
            "alias",
            text()
                .at_least(1)
                .at_most(ALIAS_CHARACTERS_MAX)
                .must("Must not hold control characters", |alias| !alias.chars().any(char::is_control)),
        ),
        optional("encryption", one_of(&["modern", "legacy"]).default(json!("modern"))),
    ])
}

fn format() -> Schema {
    one_of(&["pem", "der", "bundle", "fullchain"]).default(json!("pem"))
}

#[derive(Deserialize)]
struct Store {
    password: SecretText,
    alias: String,
    encryption: Option<String>,
}

async fn pkcs12(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Store = input.body()?;
    let encryption = match body.encryption.as_deref() {
        Some("legacy") => Encryption::Legacy,
        Some(_) | None => Encryption::Modern,
    };
    key_store(app, caller, input, body, KeyStoreFormat::Pkcs12(encryption)).await
}

async fn jks(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Store = input.body()?;
    key_store(app, caller, input, body, KeyStoreFormat::Jks).await
}

async fn key_store(app: App, caller: Caller, input: Input, body: Store, format: KeyStoreFormat) -> Result<Reply> {
    let wanted = KeyStoreRequest { format, alias: body.alias, password: body.password };
    let store = app.services.key_store(&caller, &name(&input)?, &wanted).await?;
    let ending = match format {
        KeyStoreFormat::Pkcs12(_) => "p12",
        KeyStoreFormat::Jks => "jks",
    };
    let reply = Reply::bytes("application/octet-stream", store.octets);
    Ok(attached(reply, &store.serial_number, ending)?.no_store())
}

#[derive(Deserialize)]
struct Wanted {
    format: String,
}

async fn download(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Wanted { format } = input.query()?;
    let name = name(&input)?;
    if format == "bundle" {
        let (bundle, key) = app.services.bundle_with_key(&caller, &name).await?;
        let key = key.ok_or_else(|| {
            Error::invalid("no private key is stored for this certificate; fullchain is a file without one")
        })?;
        let key = pem::encode(pem::PRIVATE_KEY, key.expose());
        let file = lines([key.as_str(), &bundle.certificate_pem, above(&bundle)]);
        let reply = Reply::bytes("application/x-pem-file", file).no_store();
        return attached(reply, &serial_hex(&bundle.record.certificate), "bundle.pem");
    }
    let bundle = app.services.bundle(&caller, &name).await?;
    let (reply, ending) = match format.as_str() {
        // RFC 2585 §4.1 and RFC 8555 §9.1.
        "der" => (Reply::bytes("application/pkix-cert", bundle.record.row.issued.der.clone()), "der"),
        "fullchain" => {
            let file = lines([&bundle.certificate_pem, above(&bundle)]);
            (Reply::bytes("application/pem-certificate-chain", file), "fullchain.pem")
        }
        _ => (Reply::bytes("application/pem-certificate-chain", lines([bundle.certificate_pem.as_str()])), "pem"),
    };
    attached(reply, &serial_hex(&bundle.record.certificate), ending)
}

/// The certificates above one; a certificate that signed itself is not wanted twice.
fn above(bundle: &Bundle) -> &str {
    if bundle.chain_pem == bundle.certificate_pem { "" } else { &bundle.chain_pem }
}

/// The texts that are not empty as one file.
fn lines<const N: usize>(texts: [&str; N]) -> String {
    texts.into_iter().filter(|text| !text.is_empty()).flat_map(|text| [text, "\n"]).collect()
}

/// With the name under which a browser keeps it.
fn attached(reply: Reply, serial_number: &str, ending: &str) -> Result<Reply> {
    let name = format!("attachment; filename=\"certificate-{serial_number}.{ending}\"");
    let name = HeaderValue::from_str(&name).map_err(|error| Error::failed_because("the name of a file", error))?;
    Ok(reply.header(CONTENT_DISPOSITION, name))
}
