//! A NATS server that carries letters between the nodes of one database: one subject that each of them writes and reads.
//!
//! What is written while there is no connection waits, as far as there is room. NATS keeps nothing: who is not connected at that
//! moment does not get it. The server was written into the configuration, so it may be anywhere.

use crate::DeliveryError;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use bytes::Bytes;
use domain::secret::SecretText;
use futures_util::StreamExt;
use reqwest::Url;
use std::fmt;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many letters that came wait to be read at most; then NATS's client drops what comes.
const INCOMING_MAX: usize = 1024;
/// How many that are to go wait inside the client.
const OUTGOING_MAX: usize = 128;
/// How many events of the connection wait to be read.
const EVENTS_MAX: usize = 64;
/// How often the connection is tried. It is given up when two answers are missing.
const PING: Duration = Duration::from_secs(10);
/// How long goodbye may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a NATS server is, or several of one cluster, and who we are there.
#[derive(Clone)]
pub struct NatsServer {
    addresses: Vec<ServerAddr>,
    login: Login,
}

#[derive(Clone)]
enum Login {
    Anybody,
    User { name: String, password: SecretText },
    Token(SecretText),
}

/// The way out.
#[derive(Clone)]
pub struct NatsWriter {
    client: Client,
    subject: String,
}

/// The way in.
pub struct NatsReader {
    subscriber: Subscriber,
    events: mpsc::Receiver<Event>,
}

/// What comes in.
#[derive(Debug)]
pub enum FromNats {
    /// A letter, as another node wrote it.
    Letter(Bytes),
    /// There is a connection now.
    Connected,
    /// There is none any more. It is tried again until there is.
    Lost,
    /// Letters came faster than they were read, and some were dropped.
    Dropped,
    /// Something that is not as it should be, in words.
    Trouble(String),
}

impl NatsServer {
    /// Reads `nats://user:password@host:4222`, or several with commas between them. `tls://` (or `nats+tls://`) wants TLS, a
    /// name without a password is a token. What is wrong is said without the text, which may hold a secret.
    pub fn parse(text: &str) -> Result<Self, DeliveryError> {
        let (mut addresses, mut login) = (Vec::new(), Login::Anybody);
        for one in text.split(',').map(str::trim) {
            let (address, its_login) = address(one)?;
            addresses.push(address);
            if matches!(login, Login::Anybody) {
                login = its_login;
            }
        }
        Ok(Self { addresses, login })
    }

    /// Writes and reads a subject under a name. It is connected to as soon as that can be, and again whenever it was lost.
    pub async fn join(&self, name: &str, subject: &str) -> Result<(NatsWriter, NatsReader), DeliveryError> {
        let (to_reader, events) = mpsc::channel(EVENTS_MAX);
        let mut options = ConnectOptions::new()
            .name(name)
            .no_echo()
            .retry_on_initial_connect()
            .ping_interval(PING)
            .subscription_capacity(INCOMING_MAX)
            .client_capacity(OUTGOING_MAX)
            .tls_client_config(tls()?)
            .event_callback(move |event| {
                // Nobody reads only at the end.
                drop(to_reader.try_send(event));
                std::future::ready(())
            });
        options = match &self.login {
            Login::Anybody => options,
            Login::User { name, password } => options.user_and_password(name.clone(), password.expose().to_owned()),
            Login::Token(token) => options.token(token.expose().to_owned()),
        };
        let failed = |error: &dyn fmt::Display| DeliveryError::Connection(format!("NATS at {self}: {error}"));
        let client = options.connect(self.addresses.as_slice()).await.map_err(|error| failed(&error))?;
        let subscriber = client.subscribe(subject.to_owned()).await.map_err(|error| failed(&error))?;
        Ok((NatsWriter { client, subject: subject.to_owned() }, NatsReader { subscriber, events }))
    }
}

/// An address without what is secret, and what was taken out of it.
fn address(text: &str) -> Result<(ServerAddr, Login), DeliveryError> {
    let wrong = || DeliveryError::Refused("it is not of the form nats://user:password@host:4222, or tls://…".into());
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let scheme = match scheme {
        "nats" => "nats",
        "tls" | "nats+tls" => "tls",
        _ => return Err(wrong()),
    };
    let mut url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| wrong())?;
    let is_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
    if url.host_str().is_none_or(str::is_empty) || is_more {
        return Err(wrong());
    }
    let login = match (url.username(), url.password()) {
        ("", None) => Login::Anybody,
        (token, None) => Login::Token(SecretText::new(decoded(token).ok_or_else(wrong)?)),
        (name, Some(password)) => Login::User {
            name: decoded(name).ok_or_else(wrong)?,
            password: SecretText::new(decoded(password).ok_or_else(wrong)?),
        },
    };
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| wrong())?;
    Ok((ServerAddr::from_url(url).map_err(|_| wrong())?, login))
}

/// A part of a URL without its percent signs.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(octets).ok()
}

/// With the roots that the system trusts; `SSL_CERT_FILE` names others.
fn tls() -> Result<rustls::ClientConfig, DeliveryError> {
    let mut roots = rustls::RootCertStore::empty();
    // A system has odd certificates among its roots; those that cannot be used are left out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| DeliveryError::Refused(format!("TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl fmt::Display for NatsServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, address) in self.addresses.iter().enumerate() {
            let between = if number > 0 { ", " } else { "" };
            let (host, port) = (address.host(), address.port());
            match host.contains(':') {
                true => write!(formatter, "{between}[{host}]:{port}")?,
                false => write!(formatter, "{between}{host}:{port}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for NatsServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NatsServer({self})")
    }
}

impl NatsWriter {
    /// Hands a letter to the client; waits while that has no room. Nothing comes back to the node that wrote it.
    pub async fn write(&self, letter: Vec<u8>) -> Result<(), DeliveryError> {
        let written = self.client.publish(self.subject.clone(), letter.into()).await;
        written.map_err(|error| DeliveryError::Refused(error.to_string()))
    }

    /// Waits a moment until all that was written is on its way.
    pub async fn flush(&self) {
        // Who goes waits for nobody.
        drop(tokio::time::timeout(FLUSH_TIMEOUT, self.client.flush()).await);
    }
}

impl NatsReader {
    /// What comes next.
    pub async fn next(&mut self) -> FromNats {
        loop {
            tokio::select! {
                Some(message) = self.subscriber.next() => return FromNats::Letter(message.payload),
                Some(event) = self.events.recv() => match event {
                    Event::Connected => return FromNats::Connected,
                    Event::Disconnected | Event::Closed => return FromNats::Lost,
                    Event::SlowConsumer(_) => return FromNats::Dropped,
                    Event::LameDuckMode | Event::Draining => {}
                    Event::ServerError(error) => return FromNats::Trouble(error.to_string()),
                    Event::ClientError(error) => return FromNats::Trouble(error.to_string()),
                },
                // The client is gone, and with it all that could come.
                else => std::future::pending::<()>().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_without_its_secret() {
        for (text, shown) in [
            ("nats://nats.example", "nats.example:4222"),
            ("nats://user:hunter2@nats.example:4223", "nats.example:4223"),
            ("tls://hunter2@nats.example/", "nats.example:4222"),
            ("nats+tls://user:hunter2@[::1]:4222", "[::1]:4222"),
            ("nats://user:hunter2@one:1, nats://two:2", "one:1, two:2"),
        ] {
            let server = NatsServer::parse(text).unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(format!("{server:?}"), format!("NatsServer({shown})"));
            assert!(server.addresses.iter().all(|address| !format!("{address:?}").contains("hunter2")), "{server:?}");
        }
    }

    #[test]
    fn what_is_not_a_server_is_refused_without_its_secret() {
        for text in [
            "",
            "nats.example:4222",
            "http://user:hunter2@nats.example",
            "nats://user:hunter2@",
            "nats://user:hunter2@nats.example/subject",
            "nats://user:hunter2@nats.example?tls=1",
            "nats://user:%zz@nats.example",
            "nats://user:hunter2@one:1,",
        ] {
            let Err(error) = NatsServer::parse(text) else { panic!("{text}") };
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_login_is_read_as_it_was_meant() {
        let server = NatsServer::parse("nats://a%40b:p%3A%2F%25@one,nats://other:secret@two").unwrap();
        let Login::User { name, password } = &server.login else { panic!("no user") };
        assert_eq!((name.as_str(), password.expose()), ("a@b", "p:/%"));
        assert!(
            matches!(NatsServer::parse("nats://t@one").unwrap().login, Login::Token(token) if token.expose() == "t")
        );
    }
}
