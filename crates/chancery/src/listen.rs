//! The listeners: accept, speak TLS where that is asked for, hand requests to the edge, and stop in good order.

use crate::idle::{Activity, Beginning, Busy};
use api::edge::Edge;
use axum::BoxError;
use axum::extract::ConnectInfo;
use axum::http::Version;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use iot::app::ListenerAddress;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

/// How long a client may take for a TLS handshake or for the headers of a request.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// How long what is under way at the end may take.
const FAREWELL: Duration = Duration::from_secs(30);

/// What connections share.
#[derive(Clone)]
pub struct Service {
    /// The routes.
    pub edge: Edge,
    /// Where this listener is reached, for what tells clients so.
    pub listener: ListenerAddress,
    /// How many connections may be open at once.
    pub connections: Arc<Semaphore>,
    /// How long nothing may happen on a connection.
    pub idle: Duration,
    /// How long a client may take for the body of a request.
    pub body_timeout: Duration,
    /// Requests that are not answered yet.
    pub under_way: Arc<AtomicUsize>,
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
            let hello = HELLO_TIMEOUT.min(service.idle);
            if let Some(stream) = shake_hands(stream, tls, hello).await {
                let (activity, idle) = (Activity::begin(), service.idle);
                let noted = activity.clone();
                let answer = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
                    request.extensions_mut().insert(ConnectInfo(peer));
                    request.extensions_mut().insert(service.listener.clone());
                    let busy = match request.version() {
                        Version::HTTP_2 => Some(Busy::begin(&noted)),
                        _ => {
                            noted.speaks_http1();
                            None
                        }
                    };
                    let (give_back, given_back) = oneshot::channel();
                    let request = request.map(|body| PunctualBody::new(body, service.body_timeout, give_back));
                    let (under_way, mut edge) = (UnderWay::begin(&service.under_way), service.edge.clone());
                    async move {
                        let answered = edge.call(request).await;
                        read_over(given_back).await;
                        drop(under_way);
                        match busy {
                            None => answered,
                            Some(busy) => answered.map(|response| response.map(|body| busy.with(body))),
                        }
                    }
                });
                let builder = builder(hello);
                let stream = TokioIo::new(Beginning::new(stream, hello));
                let connection = builder.serve_connection(stream, TowerToHyperService::new(answer));
                tokio::select! {
                    // A client that breaks off is no event.
                    _ = watcher.watch(connection) => {}
                    () = activity.ended(idle) => {}
                }
            }
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = all_answered(&service.under_way) => {}
        () = tokio::time::sleep(FAREWELL) => tracing::warn!("some requests were still running at the end"),
    }
}

/// Returns when no request has been under way for a moment, in which the last answers leave. A connection on which only
/// a part of a request has come is not waited for.
async fn all_answered(under_way: &AtomicUsize) {
    const MOMENT: u32 = 10;
    let mut quiet = 0;
    while quiet < MOMENT {
        tokio::time::sleep(Duration::from_millis(100)).await;
        quiet = if under_way.load(Ordering::Relaxed) == 0 { quiet + 1 } else { 0 };
    }
}

/// Counts a request from its headers to its answer, also when the client breaks off.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns when the server stops, or when nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The body of a request, which does not arrive any more when its time is over: whoever waits for it goes on without.
struct PunctualBody {
    /// Nothing once it was given back.
    body: Option<Incoming>,
    timeout: Duration,
    /// Set when it first has to be waited for; most bodies come together with their headers.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Where it goes when it is dropped before its end.
    give_back: Option<oneshot::Sender<Incoming>>,
}

impl PunctualBody {
    fn new(body: Incoming, timeout: Duration, give_back: oneshot::Sender<Incoming>) -> Self {
        Self { body: Some(body), timeout, deadline: None, give_back: Some(give_back) }
    }
}

impl Drop for PunctualBody {
    fn drop(&mut self) {
        if let (Some(body), Some(give_back)) = (self.body.take(), self.give_back.take())
            && !body.is_end_stream()
        {
            // The connection may be gone already.
            drop(give_back.send(body));
        }
    }
}

/// Reads what nobody wanted to read of a body, within bounds. A client that is still sending when the connection is
/// closed does not get to see the answer.
async fn read_over(mut given_back: oneshot::Receiver<Incoming>) {
    const OCTETS_MAX: usize = 4 << 20;
    const TIME_MAX: Duration = Duration::from_secs(2);
    let Ok(mut body) = given_back.try_recv() else { return };
    let read = async {
        let mut octets = 0;
        while octets < OCTETS_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            octets += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // What comes more slowly than that is cut off.
    let _ = tokio::time::timeout(TIME_MAX, read).await;
}

impl Body for PunctualBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timeout = this.timeout;
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Some(Err("the body took too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn shake_hands(stream: TcpStream, tls: Option<TlsAcceptor>, hello: Duration) -> Option<Box<dyn Stream>> {
    match tls {
        None => Some(Box::new(stream)),
        Some(acceptor) => match tokio::time::timeout(hello, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(_)) | Err(_) => None,
        },
    }
}

fn builder(hello: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(hello).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(200);
    builder
}
