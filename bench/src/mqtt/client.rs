//! As much of MQTT 3.1.1 as the load needs: CONNECT, SUBSCRIBE, PUBLISH, PUBACK, over TLS with a client certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Outcome, saying};

/// How often a message may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// A connection that was accepted.
pub struct Client {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// A packet, as far as the load looks at it.
pub enum Packet {
    /// A message; its packet identifier when it is to be acknowledged.
    Publish(Option<u16>),
    /// An acknowledgement.
    Acknowledged,
    /// Anything else: the type and the body.
    Other(u8, Vec<u8>),
}

const KEEP_ALIVE_SECONDS: u16 = 1200;
const CONNACK: u8 = 2;
const SUBACK: u8 = 9;

impl Client {
    /// Connects with a client certificate and a clean session.
    pub async fn connect(address: SocketAddr, config: Arc<ClientConfig>, client_id: &str) -> Outcome<Self> {
        let tcp = TcpStream::connect(address).await.map_err(saying("connecting"))?;
        tcp.set_nodelay(true).map_err(saying("connecting"))?;
        let name = ServerName::try_from("localhost").map_err(saying("the server's name"))?;
        let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(saying("TLS"))?;
        let mut client = Self { stream, buffer: Vec::new() };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2];
        body.extend_from_slice(&KEEP_ALIVE_SECONDS.to_be_bytes());
        text(&mut body, client_id);
        client.send(&framed(0x10, &body)).await?;
        match client.receive().await? {
            Packet::Other(CONNACK, body) if body == [0, 0] => Ok(client),
            Packet::Other(kind, body) => Err(format!("CONNECT was answered with {kind} {body:?}")),
            Packet::Publish(_) | Packet::Acknowledged => Err("CONNECT was answered with a message".to_owned()),
        }
    }

    /// Subscribes to a filter.
    pub async fn subscribe(&mut self, filter: &str, quality: Quality) -> Outcome<()> {
        let mut body = vec![0, 1];
        text(&mut body, filter);
        body.push(u8::from(quality == Quality::AtLeastOnce));
        self.send(&framed(0x82, &body)).await?;
        match self.receive().await? {
            Packet::Other(SUBACK, body) if body.get(2).is_some_and(|code| *code < 0x80) => Ok(()),
            Packet::Other(..) | Packet::Publish(_) | Packet::Acknowledged => Err(format!("{filter} was refused")),
        }
    }

    /// Sends octets of whole packets.
    pub async fn send(&mut self, octets: &[u8]) -> Outcome<()> {
        self.stream.write_all(octets).await.map_err(saying("writing"))?;
        self.stream.flush().await.map_err(saying("writing"))
    }

    /// The next packet.
    pub async fn receive(&mut self) -> Outcome<Packet> {
        loop {
            if let Some((packet, length)) = first(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// All packets that have come, at least one: how many messages, and the acknowledgements of those that want one.
    pub async fn messages(&mut self) -> Outcome<(usize, Vec<u8>)> {
        let (mut count, mut answers) = (0, Vec::new());
        loop {
            let mut read = 0;
            while let Some((packet, length)) = first(&self.buffer[read..])? {
                read += length;
                if let Packet::Publish(identifier) = packet {
                    count += 1;
                    if let Some(identifier) = identifier {
                        answers.extend_from_slice(&framed(0x40, &identifier.to_be_bytes()));
                    }
                }
            }
            self.buffer.drain(..read);
            if count > 0 {
                return Ok((count, answers));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Outcome<()> {
        if self.buffer.capacity() - self.buffer.len() < 512 {
            self.buffer.reserve(if self.buffer.is_empty() { 512 } else { 64 * 1024 });
        }
        match self.stream.read_buf(&mut self.buffer).await.map_err(saying("reading"))? {
            0 => Err("the broker closed a connection".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A PUBLISH.
pub fn publish(topic: &str, payload: &[u8], quality: Quality) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    text(&mut body, topic);
    if quality == Quality::AtLeastOnce {
        body.extend_from_slice(&1_u16.to_be_bytes());
    }
    body.extend_from_slice(payload);
    framed(if quality == Quality::AtLeastOnce { 0x32 } else { 0x30 }, &body)
}

fn text(body: &mut Vec<u8>, text: &str) {
    // Texts of the load are short.
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// The first packet of these octets, when it is whole, and how long it is.
fn first(octets: &[u8]) -> Outcome<Option<(Packet, usize)>> {
    let Some((&head, rest)) = octets.split_first() else { return Ok(None) };
    let (mut length, mut digits) = (0_usize, 0);
    loop {
        let Some(&digit) = rest.get(digits) else { return Ok(None) };
        length |= usize::from(digit & 0x7f) << (7 * digits);
        digits += 1;
        match digit & 0x80 {
            0 => break,
            _ if digits == 4 => return Err("a packet's length is malformed".to_owned()),
            _ => {}
        }
    }
    let Some(body) = rest.get(digits..digits + length) else { return Ok(None) };
    let packet = match head >> 4 {
        3 => Packet::Publish(match head & 0x06 {
            0 => None,
            _ => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                Some(u16::from_be_bytes([body[2 + topic], body[3 + topic]]))
            }
        }),
        4 => Packet::Acknowledged,
        kind => Packet::Other(kind, body.to_vec()),
    };
    Ok(Some((packet, 1 + digits + length)))
}
