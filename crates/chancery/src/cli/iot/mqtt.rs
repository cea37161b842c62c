//! A small MQTT 3.1.1 client over TLS: one session that subscribes and reads. The codec knows the packets; what is here is
//! the order in which they come, and the limits of what is taken.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mqtt_protocol_core::mqtt::{
    packet::{Qos, SubEntry, SubOpts, v3_1_1},
    result_code::{ConnectReturnCode, MqttError, SubackReturnCode},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zeroize::Zeroizing;

use crate::cli::{failure::Failure, files};

/// A connection attempt, and an answer that is waited for, are given up after this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server hears of us, and at the latest we of it.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_SECONDS: u16 = 60;
/// No packet is longer: the longest message, its topic and its head.
const PACKET_OCTETS_MAX: usize = 512 * 1024;
const PUBLISH: u8 = 3;
const SUBACK: u8 = 9;

/// Where the server is and who we are.
pub(super) struct Login {
    /// `host:port`.
    pub(super) address: String,
    /// The authority that the server's certificate comes from.
    pub(super) ca_file: PathBuf,
    /// The id of a registry, device or broker.
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    /// A certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
}

/// A message that was received.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Whether it is what a permanent topic held before.
    pub(super) is_stored: bool,
}

/// A session.
pub(super) struct Session {
    stream: TlsStream<TcpStream>,
    input: Vec<u8>,
    next_ping: Instant,
}

struct Packet {
    kind: u8,
    flags: u8,
    body: Arc<[u8]>,
}

impl Session {
    /// Connects and logs in.
    pub(super) async fn open(login: &Login) -> Result<Self, Failure> {
        let address = &login.address;
        let cannot = |why: String| Failure::new(format!("cannot connect to {address}: {why}"));
        let host = address.rsplit_once(':').map(|(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
        let host =
            host.ok_or_else(|| Failure::usage(format!("{address} is not a host and a port, such as localhost:8883")))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| cannot(error.to_string()))?;
        let connector = TlsConnector::from(Arc::new(tls(login)?));
        let connected = timeout(ANSWER_TIMEOUT, async {
            let stream = TcpStream::connect(address).await?;
            connector.connect(name, stream).await
        });
        let stream = connected.await.map_err(|_| cannot("no answer".to_owned()))?;
        let stream = stream.map_err(|error| cannot(error.to_string()))?;
        let mut session = Self { stream, input: Vec::new(), next_ping: Instant::now() + PING_INTERVAL };
        session.send(connect(login).map_err(wrong)?.to_continuous_buffer()).await?;
        let answer = session.answer().await?;
        let (connack, _) = v3_1_1::Connack::parse(&answer.body).map_err(wrong)?;
        match connack.return_code() {
            ConnectReturnCode::Accepted => Ok(session),
            ConnectReturnCode::BadUserNameOrPassword => Err(refused("the user or the password is wrong")),
            ConnectReturnCode::NotAuthorized => Err(refused(
                "the certificate is not registered or gives no access, or there is no credential, or the registry is disabled",
            )),
            other => Err(refused(&format!("{other:?}"))),
        }
    }

    /// Subscribes to all of these, or fails and names those that were refused.
    pub(super) async fn subscribe(&mut self, filters: &[String]) -> Result<(), Failure> {
        let entries: Result<Vec<SubEntry>, MqttError> = filters
            .iter()
            .map(|filter| SubEntry::new(filter.as_str(), SubOpts::new().set_qos(Qos::AtLeastOnce)))
            .collect();
        let packet = entries.and_then(|entries| v3_1_1::Subscribe::builder().packet_id(1).entries(entries).build());
        let packet = packet.map_err(|error| Failure::new(format!("this cannot be subscribed to: {error:?}")))?;
        self.send(packet.to_continuous_buffer()).await?;
        let answer = self.answer().await?;
        if answer.kind != SUBACK {
            return Err(Failure::new("the server did not answer the subscription"));
        }
        let (suback, _) = v3_1_1::Suback::parse(&answer.body).map_err(wrong)?;
        let codes = suback.return_codes();
        let refused = filters.iter().zip(codes).filter(|(_, code)| *code == SubackReturnCode::Failure);
        let refused: Vec<&str> = refused.map(|(filter, _)| filter.as_str()).collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("not allowed to subscribe to {}", refused.join(", "))))
    }

    /// The next message; nothing when none came before the end.
    pub(super) async fn next(&mut self, end: Option<Instant>) -> Result<Option<Message>, Failure> {
        loop {
            let until = end.map_or(self.next_ping, |end| end.min(self.next_ping));
            match timeout_at(until, self.packet()).await {
                Ok(packet) => {
                    let packet = packet?;
                    if packet.kind == PUBLISH {
                        return self.received(packet).await.map(Some);
                    }
                }
                Err(_) if end.is_some_and(|end| Instant::now() >= end) => return Ok(None),
                Err(_) => {
                    self.send(v3_1_1::Pingreq::new().to_continuous_buffer()).await?;
                    self.next_ping = Instant::now() + PING_INTERVAL;
                }
            }
        }
    }

    /// Says that we go.
    pub(super) async fn close(mut self) {
        // Nobody waits for it.
        let _ = self.send(v3_1_1::Disconnect::new().to_continuous_buffer()).await;
        let _ = self.stream.shutdown().await;
    }

    async fn received(&mut self, packet: Packet) -> Result<Message, Failure> {
        let (publish, _) = v3_1_1::Publish::parse(packet.flags, packet.body).map_err(wrong)?;
        if let Some(id) = publish.packet_id() {
            let acknowledgement = v3_1_1::Puback::builder().packet_id(id).build().map_err(wrong)?;
            self.send(acknowledgement.to_continuous_buffer()).await?;
        }
        Ok(Message {
            topic: publish.topic_name().to_owned(),
            payload: publish.payload().as_slice().to_vec(),
            is_stored: publish.retain(),
        })
    }

    /// The answer to what was sent just now. Nothing else comes before one is subscribed.
    async fn answer(&mut self) -> Result<Packet, Failure> {
        let answer = timeout(ANSWER_TIMEOUT, self.packet()).await;
        answer.map_err(|_| Failure::new("the server does not answer"))?
    }

    async fn send(&mut self, octets: Vec<u8>) -> Result<(), Failure> {
        let sent = timeout(ANSWER_TIMEOUT, async {
            self.stream.write_all(&octets).await?;
            self.stream.flush().await
        });
        sent.await.map_err(|_| lost("it takes nothing"))?.map_err(|error| lost(&error.to_string()))
    }

    /// The next packet. Given up half-way, it goes on where it was.
    async fn packet(&mut self) -> Result<Packet, Failure> {
        loop {
            if let Some((packet, length)) = first_packet(&self.input)? {
                self.input.drain(..length);
                return Ok(packet);
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(lost("the server closed it")),
                Ok(_) => {}
                Err(error) => return Err(lost(&error.to_string())),
            }
        }
    }
}

/// The packet that a buffer begins with and its length, once it is whole.
fn first_packet(input: &[u8]) -> Result<Option<(Packet, usize)>, Failure> {
    let Some(head) = input.first() else { return Ok(None) };
    let mut length = 0;
    for position in 0..4 {
        let Some(octet) = input.get(1 + position) else { return Ok(None) };
        length |= usize::from(octet & 0x7f) << (7 * position);
        if octet & 0x80 == 0 {
            let (start, end) = (2 + position, 2 + position + length);
            if end > PACKET_OCTETS_MAX {
                return Err(Failure::new(format!("the server sends a packet of {end} bytes")));
            }
            let body = input.get(start..end);
            return Ok(body.map(|body| (Packet { kind: head >> 4, flags: head & 0x0f, body: body.into() }, end)));
        }
    }
    Err(Failure::new("the server does not speak MQTT"))
}

fn connect(login: &Login) -> Result<v3_1_1::Connect, MqttError> {
    let id = format!("chancery-{}", uuid::Uuid::new_v4().simple());
    let mut connect = v3_1_1::Connect::builder().client_id(id)?.clean_session(true).keep_alive(KEEP_ALIVE_SECONDS);
    if let Some(user) = &login.user {
        connect = connect.user_name(user.as_str())?;
    }
    if let Some(password) = &login.password {
        connect = connect.password(password.as_str())?;
    }
    connect.build()
}

fn tls(login: &Login) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&login.ca_file)? {
        let cannot = |error| Failure::new(format!("{} holds no authority: {error}", login.ca_file.display()));
        roots.add(certificate).map_err(cannot)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(error.to_string()))?
        .with_root_certificates(roots);
    match &login.certificate {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let text = Zeroizing::new(files::read_text(key)?);
            let parsed = PrivateKeyDer::from_pem_slice(text.as_bytes());
            let parsed = parsed.map_err(|_| Failure::new(format!("{} holds no private key in PEM", key.display())))?;
            let config = builder.with_client_auth_cert(certificates(certificate)?, parsed);
            config.map_err(|error| Failure::new(format!("{} does not fit its key: {error}", certificate.display())))
        }
    }
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = files::read_text(path)?;
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes()).flatten().collect();
    match found.is_empty() {
        true => Err(Failure::new(format!("{} holds no certificate in PEM", path.display()))),
        false => Ok(found),
    }
}

fn wrong(error: MqttError) -> Failure {
    Failure::new(format!("a packet cannot be read or made: {error:?}"))
}

fn refused(why: &str) -> Failure {
    Failure::new(format!("the server refuses the connection: {why}"))
}

fn lost(why: &str) -> Failure {
    Failure::new(format!("the connection is lost: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_where_their_length_says_and_none_is_too_long() {
        let (packet, length) = first_packet(&[0x32, 0x83, 0x00, 1, 2, 3, 0xd0]).unwrap().unwrap();
        assert_eq!((packet.kind, packet.flags, &*packet.body, length), (3, 2, &[1, 2, 3][..], 6));
        for input in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 2, 1]] {
            assert!(first_packet(input).unwrap().is_none(), "{input:?}");
        }
        for input in [&[0x30, 0xff, 0xff, 0xff, 0x7f][..], &[0x30, 0xff, 0xff, 0xff, 0xff]] {
            assert!(first_packet(input).is_err(), "{input:?}");
        }
    }
}
