//! The devices: their certificates, which all come from one authority since mosquitto knows no others, their connections
//! and the messages that they send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use x509::build::{CertificateTemplate, RequiredFields, assemble_certificate};
use x509::extension::BasicConstraints;
use x509::{AttributeType, DistinguishedName, SerialNumber, SignatureAlgorithm, pem};

use super::brokers::Broker;
use super::client::{Client, Packet, Quality, publish as publish_packet};
use crate::{Outcome, saying};

/// Connections that are being opened at once.
const OPENING_MAX: usize = 64;

/// Certificates of so many devices and of their reader.
pub struct Fleet {
    /// The authority's certificate.
    pub authority: Vec<u8>,
    /// The certificate of a server of this authority.
    pub server: Vec<u8>,
    /// The reader's.
    pub reader: Vec<u8>,
    /// The devices'.
    pub devices: Vec<Vec<u8>>,
    /// The one key of all of them, PKCS#8: keys are not what is measured.
    pub key: Vec<u8>,
}

impl Fleet {
    /// Makes the certificates.
    pub fn new(count: usize) -> Outcome<Self> {
        let generated = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(saying("a key"))?;
        let key = generated.to_pkcs8v1().map_err(saying("a key"))?.as_ref().to_vec();
        let maker = Maker { key: generated, issuer: name("bench")? };
        Ok(Self {
            authority: maker.certificate(0, "bench", Kind::Authority)?,
            server: maker.certificate(1, "localhost", Kind::EndEntity)?,
            reader: maker.certificate(2, "reader", Kind::EndEntity)?,
            devices: (0..count)
                .map(|at| maker.certificate(at + 3, &format!("device-{at}"), Kind::EndEntity))
                .collect::<Outcome<_>>()?,
            key,
        })
    }

    /// What a client with this certificate connects with; the server is `trusted`.
    pub fn client(&self, certificate: &[u8], trusted: &Arc<rustls::RootCertStore>) -> Outcome<Arc<ClientConfig>> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(saying("TLS"))?
            .with_root_certificates(trusted.clone())
            .with_client_auth_cert(vec![CertificateDer::from(certificate.to_vec())], key)
            .map_err(saying("TLS"))?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

struct Maker {
    key: EcdsaKeyPair,
    issuer: DistinguishedName,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Authority,
    EndEntity,
}

impl Maker {
    fn certificate(&self, number: usize, subject: &str, kind: Kind) -> Outcome<Vec<u8>> {
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(self.key.public_key()).map_err(saying("a key"))?;
        let mut serial = [0x5a; 20];
        serial[12..].copy_from_slice(&(number as u64).to_be_bytes());
        let now = jiff::Timestamp::now().as_second();
        let subject = name(subject)?;
        let names = [x509::GeneralName::Dns(x509::DnsName::parse("localhost").map_err(saying("a name"))?)];
        let mut template = CertificateTemplate::new(RequiredFields {
            serial_number: SerialNumber::from_random(serial).ok_or("a serial number")?,
            signature_algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer_der: self.issuer.as_der(),
            not_before: now - 60,
            not_after: now + 24 * 3600,
            subject: &subject,
            spki_der: spki.as_ref(),
        });
        match kind {
            Kind::Authority => {
                let constraints = BasicConstraints { ca: true, path_length: None };
                template.basic_constraints = Some((constraints, x509::extension::Criticality::Critical));
            }
            Kind::EndEntity => template.subject_alt_names = &names,
        }
        let to_be_signed = template.to_be_signed();
        let signature = self.key.sign(&SystemRandom::new(), &to_be_signed).map_err(saying("a signature"))?;
        Ok(assemble_certificate(&to_be_signed, SignatureAlgorithm::EcdsaSha256, signature.as_ref()))
    }
}

fn name(common_name: &str) -> Outcome<DistinguishedName> {
    DistinguishedName::build(&[(AttributeType::CommonName, common_name)]).map_err(saying("a name"))
}

/// A certificate in PEM, with a newline at its end.
pub fn certificate_pem(der: &[u8]) -> String {
    format!("{}\n", pem::encode(pem::CERTIFICATE, der))
}

/// A device that is connected.
pub struct Device {
    client: Client,
    topic: String,
}

/// Connects all devices, so many at once.
pub async fn connect(broker: &impl Broker, fleet: &Fleet) -> Outcome<Vec<Device>> {
    let trusted = broker.trusted();
    // Made before, so that the reading of keys is not measured.
    let configs = fleet.devices.iter().map(|certificate| fleet.client(certificate, &trusted));
    let configs = configs.collect::<Outcome<Vec<_>>>()?;
    let permits = Arc::new(Semaphore::new(OPENING_MAX));
    let mut opening = JoinSet::new();
    for (at, config) in configs.into_iter().enumerate() {
        let (permits, address, topic) = (permits.clone(), broker.address(), broker.topic(at));
        opening.spawn(async move {
            let _permit = permits.acquire_owned().await.map_err(saying("the load"))?;
            let client = Client::connect(address, config, &format!("device-{at}")).await?;
            Ok::<Device, String>(Device { client, topic })
        });
    }
    let mut devices = Vec::with_capacity(fleet.devices.len());
    while let Some(opened) = opening.join_next().await {
        devices.push(opened.map_err(saying("the load"))??);
    }
    Ok(devices)
}

/// What is sent, and for how long.
pub struct Load {
    /// How often a message may arrive.
    pub quality: Quality,
    /// How many are under way at once.
    pub window: usize,
    /// Octets of a payload.
    pub payload: usize,
    /// Not counted at first.
    pub warm_up: Duration,
    /// Counted.
    pub measured: Duration,
}

/// Lets all devices send in turn until the time is over: messages that arrived at the reader, a second.
pub async fn publish(reader: &mut Client, devices: &mut Vec<Device>, load: &Load) -> Outcome<f64> {
    let window = Arc::new(Semaphore::new(load.window));
    let is_over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let mut sending = JoinSet::new();
    for mut device in devices.drain(..) {
        let (window, is_over, sent) = (window.clone(), is_over.clone(), sent.clone());
        let packet = publish_packet(&device.topic, &vec![0x42; load.payload], load.quality);
        let quality = load.quality;
        sending.spawn(async move {
            loop {
                window.acquire().await.map_err(saying("the load"))?.forget();
                if is_over.load(Ordering::Relaxed) {
                    return Ok::<Device, String>(device);
                }
                sent.fetch_add(1, Ordering::Relaxed);
                device.client.send(&packet).await?;
                if quality == Quality::AtLeastOnce && !matches!(device.client.receive().await?, Packet::Acknowledged) {
                    return Err("a message was not acknowledged".to_owned());
                }
            }
        });
    }
    let began = Instant::now();
    let (mut arrived, mut counted, mut counting_since) = (0_usize, 0_usize, None);
    let rate = loop {
        let (count, answers) = reader.messages().await?;
        arrived += count;
        window.add_permits(count);
        if !answers.is_empty() {
            reader.send(&answers).await?;
        }
        match counting_since {
            None if began.elapsed() >= load.warm_up => counting_since = Some(Instant::now()),
            None => {}
            Some(since) => {
                counted += count;
                if since.elapsed() >= load.measured {
                    break counted as f64 / since.elapsed().as_secs_f64();
                }
            }
        }
    };
    // Whoever waits for its turn wakes, sees that it is over, and gives its connection back.
    is_over.store(true, Ordering::Relaxed);
    window.add_permits(sending.len());
    let mut left = sending.len();
    while left > 0 || arrived < sent.load(Ordering::Relaxed) {
        tokio::select! {
            ended = sending.join_next(), if left > 0 => {
                left -= 1;
                devices.push(ended.ok_or("the load")?.map_err(saying("the load"))??);
            }
            more = reader.messages() => {
                let (count, answers) = more?;
                arrived += count;
                reader.send(&answers).await?;
            }
        }
    }
    Ok(rate)
}
