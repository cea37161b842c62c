//! The clients: mosquitto_pub and mosquitto_sub, and one of our own that sends what it is told.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion};

use crate::world::{Pair, World};

/// How long a test waits for something before it gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How somebody proves who they are.
#[derive(Clone, Debug)]
pub enum Proof {
    Certificate(Pair),
    Password(String, String),
    /// By what the arguments say.
    None,
}

impl From<&Pair> for Proof {
    fn from(pair: &Pair) -> Self {
        Self::Certificate(pair.clone())
    }
}

fn mosquitto(world: &World, program: &str, version: &str, proof: &Proof, arguments: &[&str]) -> Command {
    // What it prints is to come line by line.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program]);
    command.args(["-h", "localhost", "-p", &world.port.to_string(), "-V", version, "--cafile"]).arg(&world.ca);
    match proof {
        Proof::Certificate(pair) => command.arg("--cert").arg(&pair.certificate).arg("--key").arg(&pair.key),
        Proof::Password(user, password) => command.args(["-u", user, "-P", password]),
        Proof::None => &mut command,
    };
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Publishes with mosquitto_pub.
pub async fn publish(world: &World, version: &str, proof: &Proof, arguments: &[&str]) -> Output {
    let mut command = mosquitto(world, "mosquitto_pub", version, proof, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Publishes, which has to succeed.
#[track_caller]
pub fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A mosquitto_sub that has its subscription.
pub struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    /// Starts it, and waits until it is subscribed. What it receives it prints as `topic|qos|retain|payload`.
    pub async fn start(world: &World, version: &str, proof: &Proof, filters: &[&str]) -> Self {
        let mut arguments = vec!["-d", "-q", "1", "-F", "%t|%q|%r|%p"];
        filters.iter().for_each(|filter| arguments.extend(["-t", filter]));
        let mut command = mosquitto(world, "mosquitto_sub", version, proof, &arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = child.stdout.take().unwrap();
        let err = child.stderr.take().unwrap();
        let of_err = sender.clone();
        std::thread::spawn(move || forward(BufReader::new(out), &sender));
        std::thread::spawn(move || forward(BufReader::new(err), &of_err));
        let subscriber = Self { child, lines };
        subscriber.wait_for(|line| line.contains("Subscribed (mid")).await;
        subscriber
    }

    /// Waits for a line.
    pub async fn wait_for(&self, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "it did not come: {seen:?}");
            match self.lines.try_recv() {
                Ok(line) if is_it(&line) => return line,
                Ok(line) => seen.push(line),
                Err(std::sync::mpsc::TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => panic!("mosquitto_sub ended: {seen:?}"),
            }
        }
    }

    /// The next message.
    pub async fn message(&self) -> String {
        self.wait_for(|line| line.contains('|')).await
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn forward(lines: impl BufRead, to: &std::sync::mpsc::Sender<String>) {
    for line in lines.lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

/// A connection of our own: it shows any certificate with any key, and sends any octets.
pub struct Raw(StreamOwned<ClientConnection, TcpStream>);

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Raw {
    /// Connects. Whether the certificate and the key belong together is not looked at.
    pub fn connect(world: &World, version: &'static SupportedProtocolVersion, pair: Option<&Pair>) -> Self {
        Self::to(world.port, &world.ca, version, pair)
    }

    /// The same to a server that is not of a [`World`].
    pub fn to(port: u16, ca: &Path, version: &'static SupportedProtocolVersion, pair: Option<&Pair>) -> Self {
        use rustls_pki_types::pem::PemObject;
        let mut roots = RootCertStore::empty();
        for root in rustls_pki_types::CertificateDer::pem_file_iter(ca).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
        let config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = rustls_pki_types::CertificateDer::pem_file_iter(&pair.certificate).unwrap();
                let key = rustls_pki_types::PrivateKeyDer::from_pem_file(&pair.key).unwrap();
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
                let chain = chain.map(Result::unwrap).collect();
                builder.with_client_cert_resolver(Arc::new(Always(Arc::new(CertifiedKey::new(chain, key)))))
            }
        };
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(StreamOwned::new(connection, stream))
    }

    /// Sends octets, as far as the server takes them.
    pub fn send(&mut self, octets: &[u8]) {
        let _ = self.0.write_all(octets);
        let _ = self.0.flush();
    }

    /// What comes until so many octets are there or the connection is closed. What is more is left for the next time.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        let mut buffer = [0; 1024];
        while octets.len() < count {
            let wanted = buffer.len().min(count - octets.len());
            match self.0.read(&mut buffer[..wanted]) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing came, nor the end"),
                Err(_) => break,
                Ok(read) => octets.extend_from_slice(&buffer[..read]),
            }
        }
        octets
    }

    /// The contents of the next packet, without its fixed header.
    pub fn packet(&mut self) -> Vec<u8> {
        let _ = self.read(1);
        let (mut length, mut place) = (0, 0);
        while let [octet] = self.read(1)[..] {
            length |= usize::from(octet & 0x7f) << place;
            place += 7;
            if octet & 0x80 == 0 {
                break;
            }
        }
        self.read(length)
    }

    /// Whether something comes within that time. Nothing of it is read.
    pub fn has_octets(&mut self, within: Duration) -> bool {
        self.0.sock.set_read_timeout(Some(within)).unwrap();
        let is_read = self.0.conn.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
        let is_there = is_read || self.0.sock.peek(&mut [0]).is_ok_and(|octets| octets > 0);
        self.0.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        is_there
    }

    /// Publishes with QoS 1; whether it was acknowledged.
    pub fn publish(&mut self, topic: &str, payload: &str) -> bool {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend([0, 9]);
        body.extend(payload.as_bytes());
        self.send(&[&[0x32, u8::try_from(body.len()).unwrap()], &*body].concat());
        self.read(4) == [0x40, 2, 0, 9]
    }

    /// Sends CONNECT of MQTT 3.1.1 and gives the return code of the answer, if there is one.
    pub fn connack(&mut self, client_id: &str) -> Option<u8> {
        self.send(&connect(client_id));
        self.read(4).get(3).copied()
    }
}

/// CONNECT of MQTT 3.1.1 with a clean session and a minute of keep-alive.
pub fn connect(client_id: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60];
    body.extend(u16::try_from(client_id.len()).unwrap().to_be_bytes());
    body.extend(client_id.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}
