//! The listeners of MQTT: where they are, with which certificate, and where clients find them.

use crate::config::{Config, ListenAt};
use crate::first_run::Reachable;
use crate::reach::reached;
use crate::server::bind;
use crate::tls::Certificates;
use mqtt::listen::{self, Service, Transport};
use services::Context;
use services::registry::connect::Validity;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Sockets that are listened on and not served yet.
#[derive(Default)]
pub(crate) struct MqttListeners {
    plain: Option<TcpListener>,
    web_socket: Option<TcpListener>,
    were_asked_for: bool,
}

impl MqttListeners {
    /// Listens where the configuration says. Where nobody asked for it and something else is, there is none.
    pub(crate) async fn bind(config: &Config) -> Result<Self, String> {
        let is_asked = |at: ListenAt| matches!(at, ListenAt::Asked(_));
        Ok(Self {
            plain: bind_at(config.mqtt_listen, "mqtt_listen").await?,
            web_socket: bind_at(config.mqtt_ws_listen, "mqtt_ws_listen").await?,
            were_asked_for: is_asked(config.mqtt_listen) || is_asked(config.mqtt_ws_listen),
        })
    }

    /// Whether there is one.
    pub(crate) fn are_there(&self) -> bool {
        self.plain.is_some() || self.web_socket.is_some()
    }

    /// Whether somebody asked for one.
    pub(crate) fn were_asked_for(&self) -> bool {
        self.were_asked_for
    }

    /// Serves them, and notes where they are.
    pub(crate) fn serve(
        self,
        certificates: &Arc<Certificates>,
        services: &Context,
        config: &Config,
        reachable: &mut Reachable,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>, String> {
        let service = Service {
            services: services.clone(),
            tls: mqtt::tls::acceptor(certificates.clone())?,
            connections: Arc::new(Semaphore::new(config.mqtt_connections_max.min(Semaphore::MAX_PERMITS))),
            validity: if config.mqtt_accept_expired { Validity::Ignored } else { Validity::Checked },
        };
        reachable.mqtt = self.plain.as_ref().map(host_and_port).transpose()?;
        let web_socket = self.web_socket.as_ref().map(host_and_port).transpose()?;
        reachable.mqtt_web_socket = web_socket.map(|address| format!("wss://{address}/mqtt"));
        let listeners = [(self.plain, Transport::Plain), (self.web_socket, Transport::WebSocket)];
        let listeners = listeners.into_iter().filter_map(|(listener, transport)| Some((listener?, transport)));
        let serve =
            |(listener, transport)| tokio::spawn(listen::serve(listener, transport, service.clone(), stopped.clone()));
        Ok(listeners.map(serve).collect())
    }
}

async fn bind_at(at: ListenAt, name: &str) -> Result<Option<TcpListener>, String> {
    match at {
        ListenAt::Off => Ok(None),
        ListenAt::Asked(address) => bind(address).await.map(Some),
        ListenAt::Usual(address) => match bind(address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => {
                tracing::warn!(%error, "MQTT is not served there: set {name} to another address, or to \"off\"");
                Ok(None)
            }
        },
    }
}

/// By a name that stands in the server's own certificate.
fn host_and_port(listener: &TcpListener) -> Result<String, String> {
    let address = reached(listener.local_addr().map_err(|error| error.to_string())?);
    Ok(match address.ip().is_loopback() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    })
}
