//! Connections on which nothing happens are closed, so that they keep no place from others.
//!
//! HTTP/1.1 has the time limit of its headers, which hyper also holds a connection to that waits for the next request.
//! What it does not look at is here: a connection on which not even a protocol was begun, and HTTP/2 without requests.

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails when what comes first does not come in time.
pub(crate) struct Beginning<S> {
    stream: S,
    /// How many octets of the preface have come.
    seen: usize,
    /// Nothing once it is clear which protocol is spoken.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Beginning<S> {
    pub(crate) fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, seen: 0, deadline: Some(Box::pin(tokio::time::sleep(timeout))) }
    }

    fn saw(&mut self, octets: &[u8]) {
        let left = &PREFACE[self.seen..];
        self.seen += octets.len();
        if octets.is_empty() || self.seen >= PREFACE.len() || !left.starts_with(octets) {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Beginning<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else { return polled };
        if polled.is_pending() {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.saw(&buffer.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Beginning<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What happens on a connection of HTTP/2.
pub(crate) struct Activity {
    under_way: AtomicUsize,
    last: Mutex<Instant>,
    /// HTTP/1.1 has time limits of its own.
    is_http1: AtomicBool,
}

impl Activity {
    pub(crate) fn begin() -> Arc<Self> {
        let (under_way, last) = (AtomicUsize::new(0), Mutex::new(Instant::now()));
        Arc::new(Self { under_way, last, is_http1: AtomicBool::new(false) })
    }

    pub(crate) fn speaks_http1(&self) {
        self.is_http1.store(true, Ordering::Relaxed);
    }

    /// Returns when there was no request for so long.
    pub(crate) async fn ended(&self, idle: Duration) {
        loop {
            if self.is_http1.load(Ordering::Relaxed) {
                return pending().await;
            }
            let quiet = self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            let is_busy = self.under_way.load(Ordering::Relaxed) > 0;
            if !is_busy && quiet >= idle {
                return;
            }
            tokio::time::sleep(if is_busy { idle } else { idle - quiet }).await;
        }
    }
}

/// A request of HTTP/2, until the end of its answer.
pub(crate) struct Busy(Arc<Activity>);

impl Busy {
    pub(crate) fn begin(activity: &Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(activity.clone())
    }

    /// Goes on until this body ends.
    pub(crate) fn with(self, body: Body) -> Body {
        Body::new(BusyBody { body, _busy: self })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SOON: Duration = Duration::from_millis(1);

    /// Whether a connection that goes quiet after these octets is given up.
    async fn check(octets: &[u8], expected: Result<(), io::ErrorKind>) {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(octets).await.unwrap();
        let mut server = Beginning::new(server, SOON);
        let mut read = vec![0; octets.len()];
        server.read_exact(&mut read).await.unwrap();
        tokio::time::sleep(SOON * 2).await;
        let more = tokio::time::timeout(Duration::from_millis(50), server.read_u8()).await;
        let found = more.map_or(Ok(()), |read| read.map(drop).map_err(|error| error.kind()));
        assert_eq!(found, expected, "{}", octets.escape_ascii());
    }

    #[tokio::test]
    async fn who_does_not_begin_is_given_up_and_who_has_begun_is_not() {
        for octets in [&b""[..], b"P", b"PRI * HTTP/2"] {
            check(octets, Err(io::ErrorKind::TimedOut)).await;
        }
        for octets in [&b"G"[..], b"PO", b"PRIVATE", PREFACE] {
            check(octets, Ok(())).await;
        }
    }

    #[tokio::test]
    async fn only_a_quiet_connection_of_http2_has_ended() {
        let activity = Activity::begin();
        activity.ended(SOON).await;
        let body = Busy::begin(&activity).with(Body::from("answer"));
        let ended = tokio::time::timeout(SOON * 20, activity.ended(SOON)).await;
        assert!(ended.is_err(), "an answer is on its way");
        drop(body);
        activity.ended(SOON).await;
        activity.speaks_http1();
        assert!(tokio::time::timeout(SOON * 20, activity.ended(SOON)).await.is_err());
    }
}
