//! Which certificate an address serves: the proof that a delivery arrived.
//!
//! Any certificate is taken, whoever issued it and whatever its name, because only its octets are compared afterwards. The
//! server has to show that it holds the key, as in every handshake; nothing is sent to it once TLS is up.

use crate::DeliveryError;
use crate::egress::EgressRules;
use domain::sync::config::{ProveAddress, StartTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509::Certificate;

/// A line of a protocol is no longer.
const LINE_OCTETS_MAX: usize = 2048;
/// An answer has no more lines.
const LINES_MAX: usize = 100;
/// PostgreSQL's SSLRequest: its length, and the number that stands for it.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The leaf that an address serves.
pub async fn served_certificate(
    rules: &EgressRules,
    address: &ProveAddress,
    time_limit: Duration,
) -> Result<Certificate, DeliveryError> {
    match tokio::time::timeout(time_limit, ask(rules, address)).await {
        Ok(result) => result,
        Err(_) => Err(DeliveryError::Unavailable(format!(
            "{}:{} did not serve a certificate within {} ms",
            address.host,
            address.port,
            time_limit.as_millis()
        ))),
    }
}

async fn ask(rules: &EgressRules, address: &ProveAddress) -> Result<Certificate, DeliveryError> {
    let place = format!("{}:{}", address.host, address.port);
    let unavailable = |text: String| DeliveryError::Unavailable(format!("{place} {text}"));
    let asked_for = address.server_name.as_deref().unwrap_or(&address.host);
    let asked_for = asked_for.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(asked_for);
    let server_name = ServerName::try_from(asked_for.to_owned())
        .map_err(|_| DeliveryError::Refused(format!("{asked_for:?} is not a name that TLS can ask for")))?;
    let mut stream = connect(rules, address).await?;
    match address.start_tls {
        None => Ok(()),
        Some(StartTls::Smtp) => start_smtp(&mut stream).await,
        Some(StartTls::Imap) => start_imap(&mut stream).await,
        Some(StartTls::Postgres) => start_postgres(&mut stream).await,
    }
    .map_err(|error| unavailable(format!("does not begin TLS: {error}")))?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let seen = Arc::new(Seen { provider: Arc::clone(&provider), leaf: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| DeliveryError::Unavailable(format!("no TLS client: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let ended = TlsConnector::from(Arc::new(config)).connect(server_name, stream).await;
    // A server that wants a certificate of the client's has shown its own by the time it says so.
    let leaf = seen.leaf.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (leaf, ended) {
        (Some(der), _) => Certificate::from_der(der)
            .map_err(|error| unavailable(format!("serves a certificate that cannot be read: {error}"))),
        (None, Err(error)) => Err(unavailable(format!("does not speak TLS: {error}"))),
        (None, Ok(_)) => Err(unavailable("serves no certificate".into())),
    }
}

/// Connects to the first address that takes the connection.
pub(crate) async fn connect_to(rules: &EgressRules, host: &str, port: u16) -> Result<TcpStream, DeliveryError> {
    let mut last = None;
    for address in rules.resolve(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(format!("{address} cannot be reached: {error}")),
        }
    }
    Err(DeliveryError::Connection(last.unwrap_or_else(|| format!("{host} has no address"))))
}

async fn connect(rules: &EgressRules, address: &ProveAddress) -> Result<TcpStream, DeliveryError> {
    connect_to(rules, &address.host, address.port).await
}

/// RFC 3207.
async fn start_smtp(stream: &mut TcpStream) -> std::io::Result<()> {
    smtp_answer(stream, "220").await?;
    let name = match stream.local_addr()?.ip() {
        std::net::IpAddr::V4(address) => format!("[{address}]"),
        std::net::IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    stream.write_all(format!("EHLO {name}\r\n").as_bytes()).await?;
    smtp_answer(stream, "250").await?;
    stream.write_all(b"STARTTLS\r\n").await?;
    smtp_answer(stream, "220").await
}

/// Reads one answer, whose lines but the last have a `-` after the code.
async fn smtp_answer(stream: &mut TcpStream, code: &str) -> std::io::Result<()> {
    for _ in 0..LINES_MAX {
        let line = read_line(stream).await?;
        if !line.starts_with(code) {
            return Err(std::io::Error::other(format!("it says {line:?}")));
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
    Err(std::io::Error::other("its answer does not end"))
}

/// RFC 9051 §6.2.1.
async fn start_imap(stream: &mut TcpStream) -> std::io::Result<()> {
    let greeting = read_line(stream).await?;
    if !greeting.starts_with("* OK") && !greeting.starts_with("* PREAUTH") {
        return Err(std::io::Error::other(format!("it says {greeting:?}")));
    }
    stream.write_all(b"a1 STARTTLS\r\n").await?;
    for _ in 0..LINES_MAX {
        let line = read_line(stream).await?;
        match line.strip_prefix("a1 ") {
            Some(answer) if answer.get(..2).is_some_and(|word| word.eq_ignore_ascii_case("OK")) => return Ok(()),
            Some(answer) => return Err(std::io::Error::other(format!("it says {answer:?}"))),
            None => {}
        }
    }
    Err(std::io::Error::other("its answer does not end"))
}

/// PostgreSQL's protocol 3.0, "SSL Session Encryption".
async fn start_postgres(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(()),
        b'N' => Err(std::io::Error::other("it has no TLS")),
        other => Err(std::io::Error::other(format!("it answers {other:#04x}"))),
    }
}

/// Reads one line and not an octet more: what comes after it may be TLS already.
async fn read_line(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    while line.len() < LINE_OCTETS_MAX {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            octet => line.push(octet),
        }
    }
    Err(std::io::Error::other("its line does not end"))
}

/// Keeps the leaf once the server has signed with its key.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    leaf: Mutex<Option<Vec<u8>>>,
}

impl Seen {
    fn keep(&self, leaf: &CertificateDer<'_>) {
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.to_vec());
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let valid = verify_tls12_signature(message, leaf, signature, algorithms)?;
        self.keep(leaf);
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let valid = verify_tls13_signature(message, leaf, signature, algorithms)?;
        self.keep(leaf);
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
