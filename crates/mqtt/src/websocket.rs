//! MQTT over WebSocket (MQTT 5 §6): the octets of binary messages as one stream.

use bytes::Bytes;
use futures_util::{Sink, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// The subprotocol that clients must offer.
const SUBPROTOCOL: &str = "mqtt";
/// The largest message and frame that is taken.
const MESSAGE_OCTETS_MAX: usize = 512 * 1024;
/// How much is put into one message.
const WRITE_OCTETS: usize = 64 * 1024;

/// A WebSocket as a stream of octets.
pub struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// What was received and not read yet.
    rest: Bytes,
}

/// Shakes hands with a client that speaks MQTT.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<WebSocket<S>> {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * WRITE_OCTETS)
        .max_message_size(Some(MESSAGE_OCTETS_MAX))
        .max_frame_size(Some(MESSAGE_OCTETS_MAX));
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, choose_subprotocol, Some(config)).await;
    let inner = accepted.map_err(io::Error::other)?;
    Ok(WebSocket { inner, rest: Bytes::new() })
}

#[allow(clippy::result_large_err, reason = "the shape is the library's")]
fn choose_subprotocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if !offered.any(|name| name.trim() == SUBPROTOCOL) {
        let mut refusal = ErrorResponse::new(Some("the subprotocol must be mqtt\n".into()));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Err(refusal);
    }
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(context)) {
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(Message::Binary(octets))) => self.rest = octets,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                // MQTT 5 §6.0: only binary messages.
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a message of text")));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(context)).map_err(io::Error::other)?;
        let octets = &octets[..octets.len().min(WRITE_OCTETS)];
        let message = Message::Binary(Bytes::copy_from_slice(octets));
        Pin::new(&mut self.inner).start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context).map_err(io::Error::other)
    }
}
