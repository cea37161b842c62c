//! Puts the parts together and runs them: database, use cases, edges, listeners, jobs. Nothing is decided here.

use crate::config::{Config, TlsSource};
use crate::first_run::{self, Reachable};
use crate::listen::{self, Service};
use crate::metrics::Metrics;
use crate::open::{self, Access};
use crate::tls::{self, Certificates};
use api::app::App;
use api::docs::Documentation;
use api::edge::Edge;
use api::openapi::About;
use services::bootstrap::Bootstrap;
use services::{Addresses, Clock, Context};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::Db;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// A server that runs.
pub struct RunningServer {
    /// Where it can be reached.
    pub reachable: Reachable,
    /// What the first start made.
    pub bootstrap: Bootstrap,
    /// The admin's secret, when this start made it.
    pub secret: Option<String>,
    /// The use cases.
    pub services: Context,
    db: Db,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts a server. When this returns, it answers.
pub async fn start(config: &Config, clock: Clock) -> Result<RunningServer, String> {
    let db = open::database(&config.data, &Access::Server).await?;
    let listener = bind(config.listen).await?;
    let tls_listener = match config.tls_listen {
        None => None,
        Some(address) => Some(bind(address).await?),
    };
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let plain = format!("http://{address}");
    let first_url = if config.first_is_tls() { format!("https://{address}") } else { plain.clone() };
    let addresses = Addresses {
        public_url: config.public_url.clone().unwrap_or_else(|| first_url.clone()),
        publication_url: config.publication_url.clone().unwrap_or(plain),
    };
    let services = open::services(db.clone(), &config.data, clock, addresses).await?;
    let (bootstrap, secret) = services.bootstrap().await.map_err(|error| error.to_string())?;

    let edge = edge(&services, config);
    let (stop, stopped) = watch::channel(false);
    let service = Service { edge, connections: Arc::new(Semaphore::new(config.connections_max)) };
    let mut tasks = Vec::new();
    let mut reachable = Reachable { url: first_url, tls_url: None, tls_ca: None };
    let names = server_names(config);
    let acceptor = if tls_listener.is_some() || config.first_is_tls() {
        let source = config.tls.clone().unwrap_or(TlsSource::Auto);
        let certificates = certificates(&services, &source, &names, &config.data.folder, &mut reachable).await?;
        tasks.push(tokio::spawn(tls::follow(certificates.clone(), source, services.clone(), stopped.clone())));
        Some(certificates.acceptor()?)
    } else {
        None
    };
    if let Some(listener) = tls_listener {
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        reachable.tls_url = Some(format!("https://localhost:{port}"));
        tasks.push(tokio::spawn(listen::serve(listener, acceptor.clone(), service.clone(), stopped.clone())));
    } else if config.first_is_tls() {
        reachable.tls_url = Some(format!("https://localhost:{}", address.port()));
    }
    let first_acceptor = if config.first_is_tls() { acceptor } else { None };
    tasks.push(tokio::spawn(listen::serve(listener, first_acceptor, service, stopped.clone())));
    let is_auto = reachable.tls_ca.is_some();
    let settings = jobs::Settings {
        node: open::node_name(&config.data.folder)?,
        server_names: is_auto.then_some(names),
    };
    tasks.push(tokio::spawn(jobs::run(services.clone(), settings, stopped)));

    first_run::write_facts(&config.data.folder, &bootstrap, secret.as_deref(), &reachable)?;
    if secret.is_some() {
        services.bootstrap_announced(&bootstrap).await.map_err(|error| error.to_string())?;
    }
    Ok(RunningServer { reachable, bootstrap, secret, services, db, stop, tasks })
}

impl RunningServer {
    /// Stops accepting, finishes what was accepted, closes the database.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the server ended badly");
            }
        }
        drop(self.services);
        self.db.close().await;
    }
}

fn edge(services: &Context, config: &Config) -> Edge {
    let app = App { services: services.clone(), trusted_proxies: config.trusted_proxies.clone().into() };
    let routes = api::routes::routes();
    let about = About {
        title: "Chancery".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        description: "A private certificate authority and certificate lifecycle server.".into(),
        public_url: services.addresses.public_url.clone(),
    };
    let documentation = Documentation::new(&about, &routes);
    let metrics = Metrics::new(services.db.clone());
    let router = api::route::router(routes)
        .with_state(app)
        .merge(documentation.router())
        .merge(enroll::publication::router(services.clone()))
        .merge(metrics.router());
    let edge = Edge::new(router).with_time_limit(Duration::from_secs(config.request_seconds_max));
    metrics.observe(edge.counts());
    edge
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// The names of the server's own certificate: localhost, 127.0.0.1, the public host, and what is configured.
fn server_names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let host = config.public_url.as_deref().and_then(|url| url.split("://").nth(1)).map(|rest| {
        let authority = rest.split('/').next().unwrap_or_default();
        authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']).to_owned()
    });
    let listening = (!config.listen.ip().is_unspecified()).then(|| config.listen.ip().to_string());
    for name in host.into_iter().chain(listening).chain(config.tls_names.iter().cloned()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

async fn certificates(
    services: &Context,
    source: &TlsSource,
    names: &[String],
    folder: &Path,
    reachable: &mut Reachable,
) -> Result<Arc<Certificates>, String> {
    match source {
        TlsSource::Files { certificate, key } => Certificates::files(certificate, key),
        TlsSource::Auto => {
            let own = services.server_certificate(names).await.map_err(|error| error.to_string())?;
            let path = absolute(&folder.join("tls-ca.pem"));
            open::write_private(&path, &format!("{}\n", own.root))?;
            reachable.tls_ca = Some(path);
            Certificates::own(&own)
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
