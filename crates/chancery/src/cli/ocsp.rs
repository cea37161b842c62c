//! `chancery ocsp`: asks the server what became of a certificate, as those do who rely on it, and checks the answer as they do
//! (RFC 6960 §3.2): who signed it, over what, and for how long it is true.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};
use x509::ocsp::OcspAnswer;
use x509::{
    AttributeType, Certificate, CertificateId, CertificateStatus, IdentifierHash, OcspRefusal, OcspRequest,
    SingleAnswer, pem,
};

use crate::cli::{
    cert,
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files,
    output::{Output, fields, needed, string_at, text_at},
};

/// Ask what became of a certificate (OCSP), and check the answer.
///
/// The server is asked as everybody may ask it, with a nonce, so that the answer is made for this question. It is believed
/// when the certificate's issuer, or a responder that the issuer certified, signed it. The status is good, revoked or unknown;
/// unknown is a serial number that this issuer never gave. The exit code is 0 for good and 1 for everything else.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery ocsp 3f0c9a5e7b21d4866f0e1c2d3a4b5c6d7e8f9012
  chancery ocsp --certificate www.crt --issuer issuing-ca.crt
  chancery ocsp --certificate www.fullchain.pem --no-nonce --json

The same with OpenSSL, at the address that the certificate carries:
  openssl ocsp -issuer issuing-ca.crt -cert www.crt -CAfile root-ca.crt -url URL")]
pub(crate) struct OcspArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    /// The certificate's id or its serial number in hex.
    #[arg(value_name = "ID|SERIAL", required_unless_present = "certificate")]
    name: Option<String>,
    /// The certificate in PEM; its issuer may follow it in the same file.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    certificate: Option<PathBuf>,
    /// The certificate of its issuer in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    issuer: Option<PathBuf>,
    /// The hash function by which the issuer is named.
    #[arg(long, value_enum, default_value_t = Hash::Sha256)]
    hash: Hash,
    /// Ask without a nonce: the server may give an answer that it made for others up to an hour ago.
    #[arg(long)]
    no_nonce: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hash {
    Sha1,
    Sha256,
}

pub(crate) async fn run(client: &Client, arguments: OcspArguments) -> Result<Output, Failure> {
    let (certificate, issuer) = match (&arguments.name, &arguments.certificate) {
        (Some(name), _) => kept(client, name).await?,
        (None, Some(path)) => from_files(path, arguments.issuer.as_ref())?,
        (None, None) => return Err(Failure::usage("name a certificate")),
    };
    let hash = match arguments.hash {
        Hash::Sha1 => IdentifierHash::Sha1,
        Hash::Sha256 => IdentifierHash::Sha256,
    };
    let issuer_key = issuer.verifying_key().map_err(|problem| Failure::new(format!("the issuer's key: {problem}")))?;
    let id = CertificateId::encode(
        hash,
        &hash.of(issuer.subject().as_der()),
        &hash.of(issuer_key.key_octets()),
        certificate.serial_content(),
    );
    let nonce = (!arguments.no_nonce)
        .then(|| [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat());
    let request = OcspRequest::encode(&[&id], nonce.as_deref());
    let octets = client.post_octets(&["v1", "pki", "ocsp"], "application/ocsp-request", request).await?;
    if let Some(refusal) = OcspRefusal::from_der(&octets) {
        return Err(refused(refusal));
    }
    let answer = OcspAnswer::from_der(&octets)
        .map_err(|error| Failure::new(format!("the server sent an answer that does not read: {error}")))?;
    let now = jiff::Timestamp::now().as_second();
    let single = answer
        .verified(&issuer, &id, now)
        .map_err(|problem| Failure::new(format!("the answer is not to be believed: {problem}")))?;
    if nonce.is_some() && answer.nonce() != nonce.as_deref() {
        return Err(Failure::new(
            "the answer is not to be believed: it does not repeat the nonce, so it may be an old one",
        ));
    }
    Ok(shown(&certificate, &answer, &single))
}

/// The certificate of the inventory and that of its issuer.
async fn kept(client: &Client, name: &str) -> Result<(Certificate, Certificate), Failure> {
    let answer = client.get(&cert::path(name)?.part("certificate"), &[]).await?;
    let certificate = read_all(needed(&answer, "/certificate")?)?;
    let chain = read_all(string_at(&answer, "/certificateChain").unwrap_or_default())?;
    pair(certificate.into_iter().chain(chain))
}

fn from_files(path: &std::path::Path, issuer: Option<&PathBuf>) -> Result<(Certificate, Certificate), Failure> {
    let certificates = read_all(&files::read_text(path)?)?;
    let issuers = match issuer {
        None => Vec::new(),
        Some(path) => read_all(&files::read_text(path)?)?,
    };
    pair(certificates.into_iter().chain(issuers))
}

fn read_all(text: &str) -> Result<Vec<Certificate>, Failure> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let unreadable = |error| Failure::new(format!("the certificate does not read: {error}"));
    let ders = pem::decode_all(text, pem::CERTIFICATE).map_err(unreadable)?;
    ders.into_iter().map(|der| Certificate::from_der(der).map_err(unreadable)).collect()
}

/// The first one, and the one among the others that signed it.
fn pair(certificates: impl Iterator<Item = Certificate>) -> Result<(Certificate, Certificate), Failure> {
    let mut certificates = certificates;
    let certificate = certificates.next().ok_or_else(|| Failure::new("there is no certificate in it"))?;
    let issuer = certificates.find(|issuer| {
        issuer.subject().as_der() == certificate.issuer().as_der()
            && issuer.verifying_key().is_ok_and(|key| certificate.verify_signature(&key))
    });
    match issuer {
        Some(issuer) => Ok((certificate, issuer)),
        None => Err(Failure::new("the certificate of its issuer is not there")
            .hint("name it with --issuer FILE; print it with: chancery ca show NAME --pem")),
    }
}

fn refused(refusal: OcspRefusal) -> Failure {
    let failure = Failure::new(format!("the server gives no answer: {}", refusal.name()));
    match refusal {
        OcspRefusal::Unauthorized => failure.hint("the issuer is no CA of this server, or was made without OCSP"),
        OcspRefusal::TryLater => failure.hint("ask again in a moment; if that goes on, look at the server's log"),
        OcspRefusal::InternalError => failure.hint("the cause is in the server's log"),
        OcspRefusal::MalformedRequest => failure,
    }
}

fn shown(certificate: &Certificate, answer: &OcspAnswer, single: &SingleAnswer<'_>) -> Output {
    let moment = |seconds: i64| jiff::Timestamp::from_second(seconds).map(|at| format!("{at:.3}")).unwrap_or_default();
    let (status, revoked_at, reason) = match single.status {
        CertificateStatus::Good => ("good", Value::Null, Value::Null),
        CertificateStatus::Revoked { at, reason } => {
            let reason = reason.map_or("UNSPECIFIED", |reason| reason.as_str());
            ("revoked", moment(at).into(), reason.into())
        }
        CertificateStatus::Unknown => ("unknown", Value::Null, Value::Null),
    };
    let responder = answer.certificates().first();
    let json = json!({
        "serialNumber": certificate.serial_number().map(|serial| serial.to_hex()).unwrap_or_default(),
        "commonName": certificate.subject().first(AttributeType::CommonName),
        "status": status,
        "revokedAt": revoked_at,
        "revocationReason": reason,
        "producedAt": moment(answer.produced_at()),
        "thisUpdate": moment(single.this_update),
        "nextUpdate": single.next_update.map(moment),
        "responder": responder.map(|responder| responder.subject().render()),
        "responderNotAfter": responder.map(|responder| moment(responder.not_after())),
        "hasNonce": answer.nonce().is_some(),
    });
    let text = fields([
        ("common name", text_at(&json, "/commonName")),
        ("serial", text_at(&json, "/serialNumber")),
        ("status", text_at(&json, "/status")),
        ("revoked", text_at(&json, "/revokedAt")),
        ("reason", text_at(&json, "/revocationReason")),
        ("made", text_at(&json, "/producedAt")),
        ("true from", text_at(&json, "/thisUpdate")),
        ("until", text_at(&json, "/nextUpdate")),
        ("signed by", text_at(&json, "/responder")),
        ("who ends", text_at(&json, "/responderNotAfter")),
        ("nonce", text_at(&json, "/hasNonce")),
    ]);
    let output = Output::new(json, text);
    match single.status {
        CertificateStatus::Good => output,
        CertificateStatus::Revoked { .. } | CertificateStatus::Unknown => output.of_failure(),
    }
}
