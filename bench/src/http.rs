//! The cheapest HTTP/1.1 client that is still honest: requests are ready-made octets, one is under way per connection,
//! and a reply is read to the end of its Content-Length (RFC 9112 §6.3). It is no client for any other server: chunked
//! bodies and redirects are errors here, since the server under test sends neither.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// No reply of the server is longer, head and body together, in octets.
const REPLY_LENGTH_MAX: usize = 32 << 20;

/// Where to send requests, and over what.
#[derive(Clone)]
pub struct Target {
    /// What to connect to.
    pub address: SocketAddr,
    /// The Host header.
    pub host: String,
    /// TLS with this name when set, else plain.
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

impl Target {
    /// The octets of a GET.
    pub fn get(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host).into_bytes()
    }

    /// The octets of a POST of a JSON body; `token` is the bearer's.
    pub fn post(&self, path: &str, token: Option<&str>, body: &serde_json::Value) -> Vec<u8> {
        let body = body.to_string();
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )
        .into_bytes()
    }
}

/// One connection that is kept alive.
pub struct Connection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

/// A reply, borrowed from its connection until the next request.
pub struct Reply<'a> {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
}

impl Connection {
    /// Connects, and with TLS shakes hands.
    pub async fn open(target: &Target) -> io::Result<Self> {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(tcp),
            Some((config, name)) => Box::new(TlsConnector::from(config.clone()).connect(name.clone(), tcp).await?),
        };
        Ok(Self { stream, received: Vec::with_capacity(16 << 10) })
    }

    /// Sends a request and waits for its whole reply.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply<'_>> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.received.clear();
        let head = loop {
            self.read_more().await?;
            if let Some(head) = Head::parse(&self.received)? {
                break head;
            }
        };
        let end = head.length.saturating_add(head.body_length);
        if end > REPLY_LENGTH_MAX {
            return Err(bad("a reply longer than any that the server has"));
        }
        while self.received.len() < end {
            self.read_more().await?;
        }
        if self.received.len() > end {
            return Err(bad("octets after the end of a reply"));
        }
        Ok(Reply { status: head.status, body: &self.received[head.length..] })
    }

    async fn read_more(&mut self) -> io::Result<()> {
        if self.received.len() >= REPLY_LENGTH_MAX {
            return Err(bad("a reply without an end"));
        }
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }
}

/// A plain or a TLS stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a reply's head says that matters here.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    /// Octets of the head, the empty line included.
    length: usize,
    body_length: usize,
}

impl Head {
    /// Reads a head, or says that it is not all there yet.
    fn parse(received: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&received[..end]).map_err(|_| bad("a head that is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| bad("no HTTP/1.1 status line"))?;
        let mut body_length = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                body_length = Some(value.trim().parse().map_err(|_| bad("a Content-Length that is no number"))?);
            }
            if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
                return Err(bad("the server does not keep the connection alive"));
            }
        }
        let body_length = body_length.ok_or_else(|| bad("a reply without Content-Length"))?;
        Ok(Some(Self { status, length: end + 4, body_length }))
    }
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let check = |received: &str, expected: Result<Option<(u16, usize, usize)>, &str>| {
            let found = Head::parse(received.as_bytes())
                .map(|head| head.map(|head| (head.status, head.length, head.body_length)))
                .map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{received:?}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok(Some((200, 38, 5))));
        check("HTTP/1.1 422 \r\ncontent-length:0\r\n\r\n", Ok(Some((422, 35, 0))));
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Ok(None));
        check("", Ok(None));
        check("HTTP/1.1 200 OK\r\n\r\n", Err("a reply without Content-Length"));
        check("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Err("a Content-Length that is no number"));
        check("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", Err("no HTTP/1.1 status line"));
        check("HTTP/1.1 2\r\nContent-Length: 1\r\n\r\n", Err("no HTTP/1.1 status line"));
        let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        check(closing, Err("the server does not keep the connection alive"));
    }

    #[tokio::test]
    async fn a_reply_in_pieces_is_put_together_and_a_broken_one_is_an_error() {
        let check = async |pieces: &'static [&'static str], expected: Result<(u16, &str), &str>| {
            let (client, mut server) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                for piece in pieces {
                    server.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut connection = Connection { stream: Box::new(client), received: Vec::new() };
            let found = connection.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
            let found = found.map(|reply| (reply.status, std::str::from_utf8(reply.body).unwrap()));
            assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{pieces:?}");
        };
        check(&["HTTP/1.1 200 OK\r\nContent-", "Length: 5\r\n", "\r\nhe", "llo"], Ok((200, "hello"))).await;
        check(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], Ok((404, ""))).await;
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"], Err("the server closed the connection")).await;
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhel"], Err("octets after the end of a reply")).await;
        check(
            &["HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551000\r\n\r\n"],
            Err("a reply longer than any that the server has"),
        )
        .await;
    }
}
