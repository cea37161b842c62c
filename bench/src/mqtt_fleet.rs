//! A fleet of devices: certificates of one authority, and clients that speak just enough MQTT 3.1.1 over TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509::build::{CertificateTemplate, RequiredFields};
use x509::{AttributeType, DistinguishedName, SerialNumber, SignatureAlgorithm, signed};

use crate::{Outcome, saying};

/// A certificate and its key.
pub struct Identity {
    pub id: String,
    pub der: Vec<u8>,
    key: Vec<u8>,
}

/// An authority that signs the certificates of a fleet, for the broker that wants one.
pub struct Authority {
    pair: EcdsaKeyPair,
    name: DistinguishedName,
    pub der: Vec<u8>,
}

/// Certificates begin a day ago and end in a year.
fn validity() -> (i64, i64) {
    let now = jiff::Timestamp::now().as_second();
    (now - 86_400, now + 365 * 86_400)
}

impl Authority {
    pub fn new() -> Outcome<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(saying("a P-256 key"))?;
        let name = name("bench")?;
        let mut authority = Self { pair, name: name.clone(), der: Vec::new() };
        authority.der = authority.sign(0, &name, &spki(&authority.pair)?, true)?;
        Ok(authority)
    }

    /// A device of the number, or the registry for 0.
    pub fn identity(&self, number: usize) -> Outcome<Identity> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(saying("a P-256 key"))?;
        let id = if number == 0 { "are-bench".to_owned() } else { format!("are-{number:08}") };
        let der = self.sign(number + 1, &name(&id)?, &spki(&pair)?, false)?;
        let key = pair.to_pkcs8v1().map_err(saying("a P-256 key"))?.as_ref().to_vec();
        Ok(Identity { id, der, key })
    }

    /// A certificate for a server on this machine, in PEM, with its key.
    pub fn server(&self) -> Outcome<(String, String)> {
        let identity = self.identity(usize::MAX / 2)?;
        Ok((
            x509::pem::encode(x509::pem::CERTIFICATE, &identity.der),
            x509::pem::encode(x509::pem::PRIVATE_KEY, &identity.key),
        ))
    }

    fn sign(&self, number: usize, subject: &DistinguishedName, spki: &[u8], is_authority: bool) -> Outcome<Vec<u8>> {
        let mut serial = [1_u8; 20];
        serial[12..].copy_from_slice(&(number as u64).to_be_bytes());
        let (not_before, not_after) = validity();
        let mut template = CertificateTemplate::new(RequiredFields {
            serial_number: SerialNumber::from_hex(&hex(&serial)).ok_or("a serial number")?,
            signature_algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer_der: self.name.as_der(),
            not_before,
            not_after,
            subject,
            spki_der: spki,
        });
        let names = [x509::GeneralName::Dns(x509::DnsName::parse("localhost").map_err(saying("localhost"))?)];
        template.subject_alt_names = &names;
        if is_authority {
            let constraints = x509::extension::BasicConstraints { ca: true, path_length: None };
            template.basic_constraints = Some((constraints, x509::extension::Criticality::Critical));
        }
        let contents = template.to_be_signed();
        let signature = self.pair.sign(&SystemRandom::new(), &contents).map_err(saying("a signature"))?;
        Ok(signed::assemble(&contents, SignatureAlgorithm::EcdsaSha256, signature.as_ref()))
    }
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn name(common_name: &str) -> Outcome<DistinguishedName> {
    DistinguishedName::build(&[(AttributeType::CommonName, common_name)]).map_err(saying("a name"))
}

fn spki(pair: &EcdsaKeyPair) -> Outcome<Vec<u8>> {
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(saying("a P-256 key"))?;
    Ok(public.as_ref().to_vec())
}

impl Identity {
    /// How it connects to a server that has its certificate from the authority of that file.
    pub fn config(&self, root: &Path) -> Outcome<Arc<ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(root).map_err(saying("the server's authority"))? {
            let certificate = certificate.map_err(saying("the server's authority"))?;
            roots.add(certificate).map_err(saying("the server's authority"))?;
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(saying("TLS"))?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![CertificateDer::from(self.der.clone())], key)
            .map_err(saying("TLS"))?;
        Ok(Arc::new(config))
    }
}

/// A client that is connected.
pub struct Client {
    stream: TlsStream<TcpStream>,
    input: Vec<u8>,
}

impl Client {
    /// Connects and waits for CONNACK.
    pub async fn connect(address: SocketAddr, config: Arc<ClientConfig>, id: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await.map_err(saying("a connection"))?;
        stream.set_nodelay(true).map_err(saying("a connection"))?;
        let server = ServerName::try_from("localhost").map_err(saying("localhost"))?;
        let stream = TlsConnector::from(config).connect(server, stream).await.map_err(saying("a handshake"))?;
        let mut client = Self { stream, input: Vec::new() };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 4, 0];
        body.extend((id.len() as u16).to_be_bytes());
        body.extend(id.as_bytes());
        client.send(&packet(0x10, &body)).await?;
        match client.packet().await? {
            (0x20, body) if body == [0, 0] => Ok(client),
            (head, body) => Err(format!("CONNECT was answered with {head:x} {body:?}")),
        }
    }

    pub async fn send(&mut self, octets: &[u8]) -> Outcome<()> {
        self.stream.write_all(octets).await.map_err(saying("a connection"))?;
        self.stream.flush().await.map_err(saying("a connection"))
    }

    /// The next packet: its first octet and its body.
    pub async fn packet(&mut self) -> Outcome<(u8, Vec<u8>)> {
        loop {
            if let Some((head, start, end)) = whole(&self.input) {
                let body = self.input[start..end].to_vec();
                self.input.drain(..end);
                return Ok((head, body));
            }
            self.read().await?;
        }
    }

    /// Subscribes with QoS 1 or 0.
    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome<()> {
        let mut body = vec![0, 1];
        body.extend((filter.len() as u16).to_be_bytes());
        body.extend(filter.as_bytes());
        body.push(qos);
        self.send(&packet(0x82, &body)).await?;
        match self.packet().await? {
            (0x90, body) if body[2] == qos => Ok(()),
            (head, body) => Err(format!("SUBSCRIBE was answered with {head:x} {body:?}")),
        }
    }

    /// Reads once, acknowledges what is to be, and gives how many messages there were.
    pub async fn messages(&mut self) -> Outcome<usize> {
        self.read().await?;
        let (mut count, mut at, mut answers) = (0, 0, Vec::new());
        while let Some((head, start, end)) = whole(&self.input[at..]) {
            let body = &self.input[at + start..at + end];
            if head >> 4 == 3 {
                count += 1;
                if head & 2 != 0 {
                    let topic = usize::from(body[0]) << 8 | usize::from(body[1]);
                    answers.extend([0x40, 2, body[2 + topic], body[3 + topic]]);
                }
            }
            at += end;
        }
        self.input.drain(..at);
        if !answers.is_empty() {
            self.send(&answers).await?;
        }
        Ok(count)
    }

    async fn read(&mut self) -> Outcome<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer).await.map_err(saying("a connection"))? {
            0 => Err("the server closed a connection".to_owned()),
            count => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

/// PUBLISH with QoS 0, or 1 with the id 1.
pub fn publish(topic: &str, payload: &[u8], qos: u8) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    if qos == 1 {
        body.extend([0, 1]);
    }
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![head];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        octets.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    octets.extend(body);
    octets
}

/// The first packet of the input: its first octet, and where its body begins and ends.
fn whole(input: &[u8]) -> Option<(u8, usize, usize)> {
    let mut length = 0;
    for position in 0..4 {
        let octet = *input.get(1 + position)?;
        length |= usize::from(octet & 0x7f) << (7 * position);
        if octet & 0x80 == 0 {
            let end = 2 + position + length;
            return (input.len() >= end).then_some((input[0], 2 + position, end));
        }
    }
    None
}
