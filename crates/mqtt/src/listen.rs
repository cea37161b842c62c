//! The listeners: accept, shake hands, and leave the rest to the connection.

use crate::connection;
use crate::websocket;
use services::Context;
use services::registry::connect::{PresentedCertificate, Validity};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take for the handshakes.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sessions may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the listeners share.
#[derive(Clone)]
pub struct Service {
    /// The use cases.
    pub services: Context,
    /// What shakes hands.
    pub tls: TlsAcceptor,
    /// How many connections may be open at once.
    pub connections: Arc<Semaphore>,
    /// Whether the time matters to client certificates.
    pub validity: Validity,
}

/// What is spoken on a listener, inside of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// MQTT itself.
    Plain,
    /// MQTT in WebSocket.
    WebSocket,
}

/// Accepts connections until `stop` says so, then ends the sessions and waits for their goodbyes.
pub async fn serve(listener: TcpListener, transport: Transport, service: Service, mut stop: watch::Receiver<bool>) {
    // Everybody who is connected holds a clone; when all are gone, so is the last sender.
    let (present, mut all_gone) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        // The limit is looked at before a connection is accepted: who is too many waits in the system's queue.
        let permit = tokio::select! {
            permit = service.connections.clone().acquire_owned() => permit,
            () = stopped(&mut stop) => break,
        };
        let Ok(permit) = permit else { break };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an MQTT connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        let (service, present) = (service.clone(), present.clone());
        tokio::spawn(async move {
            let _held = (permit, present);
            let _ = stream.set_nodelay(true);
            converse(stream, address, transport, service).await;
        });
    }
    drop((listener, present));
    service.services.hub().stop();
    if tokio::time::timeout(FAREWELL, all_gone.recv()).await.is_err() {
        tracing::warn!("some MQTT connections were still open at the end");
    }
}

async fn converse(stream: TcpStream, address: SocketAddr, transport: Transport, service: Service) {
    // Boxed: the state of a handshake is not to be part of every connection's memory for good.
    let handshake = Box::pin(tokio::time::timeout(HANDSHAKE_TIMEOUT, service.tls.accept(stream)));
    let stream = match handshake.await {
        // Boxed too: it is handed on a few times, and each of those places would have room for it.
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, %address, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificate = presented(&stream);
    let Service { services, validity, .. } = service;
    match transport {
        Transport::Plain => Box::pin(connection::serve(stream, services, certificate, address, validity)).await,
        Transport::WebSocket => {
            let handshake = Box::pin(tokio::time::timeout(HANDSHAKE_TIMEOUT, websocket::accept(stream)));
            match handshake.await {
                Ok(Ok(stream)) => {
                    Box::pin(connection::serve(Box::new(stream), services, certificate, address, validity)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, %address, "a WebSocket handshake failed"),
                Err(_) => {}
            }
        }
    }
}

fn presented(stream: &TlsStream<TcpStream>) -> Option<PresentedCertificate> {
    let (leaf, intermediates) = stream.get_ref().1.peer_certificates()?.split_first()?;
    let intermediates = intermediates.iter().map(|certificate| certificate.to_vec()).collect();
    Some(PresentedCertificate { leaf: leaf.to_vec(), intermediates })
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
