//! The listeners: accept, speak TLS where that is asked for, hand requests to the edge, and stop in good order.

use api::edge::Edge;
use axum::BoxError;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// How long a client may take for a TLS handshake or for the headers of a request.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// How long what is under way at the end may take.
const FAREWELL: Duration = Duration::from_secs(30);

/// What connections share.
#[derive(Clone)]
pub struct Service {
    /// The routes.
    pub edge: Edge,
    /// How many connections may be open at once.
    pub connections: Arc<Semaphore>,
    /// How long a client may take for the body of a request.
    pub body_timeout: Duration,
}

/// Accepts connections until `stop` says so, then waits for those that are busy.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, service: Service, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    loop {
        let permit = tokio::select! {
            permit = service.connections.clone().acquire_owned() => permit,
            () = stopped(&mut stop) => break,
        };
        let Ok(permit) = permit else { break };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, for example: give others time to close theirs.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        let watcher = graceful.watcher();
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            if let Some(stream) = shake_hands(stream, tls).await {
                let edge = service.edge.map_request(move |mut request: hyper::Request<Incoming>| {
                    request.extensions_mut().insert(ConnectInfo(peer));
                    request.map(|body| PunctualBody { body, timeout: service.body_timeout, deadline: None })
                });
                let builder = builder();
                let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(edge));
                // A client that breaks off is no event.
                let _ = watcher.watch(connection).await;
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were still running at the end");
    }
}

/// Returns when the server stops, or when nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The body of a request, which does not arrive any more when its time is over: whoever waits for it goes on without.
struct PunctualBody {
    body: Incoming,
    timeout: Duration,
    /// Set when it first has to be waited for; most bodies come together with their headers.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Body for PunctualBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timeout = this.timeout;
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Some(Err("the body took too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn shake_hands(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    match tls {
        None => Some(Box::new(stream)),
        Some(acceptor) => match tokio::time::timeout(HELLO_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(_)) | Err(_) => None,
        },
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HELLO_TIMEOUT).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(200);
    builder
}
