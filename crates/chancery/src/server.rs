//! Puts the parts together and runs them: database, use cases, edges, listeners, jobs. Nothing is decided here.

use crate::config::{Bucket, Config, TlsSource};
use crate::first_run::{self, Reachable};
use crate::lane::Lane;
use crate::listen::{self, Service};
use crate::metrics::{Connections, Metrics, Observed};
use crate::mqtt_listeners::MqttListeners;
use crate::open::{self, Access};
use crate::reach::{self, first_url, tls_url};
use crate::tls::{self, Certificates};
use api::admission::Admission;
use api::app::App;
use api::docs::Documentation;
use api::edge::{Edge, Family};
use api::error::ApiError;
use api::openapi::About;
use api::route::Endpoint;
use axum::http::{HeaderMap, Uri};
use domain::connection::Credentials;
use domain::secret::SecretText;
use iot::app::ListenerAddress;
use outbound::DeliveryError;
use outbound::connection::gcp::ServerIdentity;
use outbound::egress::EgressRules;
use outbound::http::Http;
use outbound::list_target::ListTarget;
use services::bootstrap::{Bootstrap, FirstStart};
use services::{Addresses, Clock, Context, Outward};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::Db;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// How long a client may take for the body of a request at most.
const BODY_TIMEOUT_MAX: Duration = Duration::from_secs(20);

/// Files that are open beside connections: databases, lists, what goes out.
const FILES_BESIDE: usize = 256;

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
    /// Requests are worked at there until this is closed.
    _lane: Lane,
    /// The data folder is ours until this is closed.
    _claim: File,
}

/// Starts a server. When this returns, it answers.
pub async fn start(config: &Config, clock: Clock) -> Result<RunningServer, String> {
    let claim = open::claim(&config.data.folder)?;
    let db = open::database(&config.data, Access::Server).await?;
    let listener = bind(config.listen).await?;
    let tls_listener = match config.tls_listen {
        None => None,
        Some(address) => Some(bind(address).await?),
    };
    let mut mqtt_listeners = MqttListeners::bind(config).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let first_url = first_url(config, address);
    let addresses = addresses(config, address, &first_url);
    let services = open::services(db.clone(), &config.data, Access::Server, clock, addresses, outward(config)?).await?;
    let services = services.with_registry(config.iot.clone()).with_limits(config.limits.services);
    let handed_out = first_run::read_facts(&config.data.folder)?;
    let handed_out = handed_out.get("clientSecret").and_then(serde_json::Value::as_str);
    let first_start = services.bootstrap(handed_out).await.map_err(|error| error.to_string())?;

    let connections_max = connections_max(config.connections_max);
    let connections = Arc::new(Semaphore::new(connections_max));
    let watched = Connections { free: connections.clone(), most: connections_max };
    let lane = Lane::start()?;
    let edge = edge(&services, config, watched).await?.with_lane(lane.handle());
    let (stop, stopped) = watch::channel(false);
    let service = Service {
        edge,
        listener: ListenerAddress(reach::registry(config, address, None)),
        connections,
        idle: Duration::from_secs(config.limits.idle_seconds.get().into()),
        // A slow client is told so before the whole request has taken too long.
        body_timeout: BODY_TIMEOUT_MAX.min(Duration::from_secs(config.request_seconds_max) / 2),
        under_way: Arc::default(),
    };
    let mut tasks = Vec::new();
    let mut reachable = Reachable { url: first_url, tls_url: None, tls_ca: None, mqtt: None, mqtt_web_socket: None };
    let names = server_names(config);
    let is_tls = tls_listener.is_some() || config.first_is_tls();
    let source = config.tls.clone().unwrap_or(TlsSource::Auto);
    let shown = match is_tls || mqtt_listeners.are_there() {
        false => None,
        true => match certificates(&services, &source, &names, &config.data.folder, &mut reachable).await {
            Ok(shown) => Some(shown),
            Err(error) if !is_tls && !mqtt_listeners.were_asked_for() => {
                tracing::warn!(%error, "there is no certificate for MQTT, so it is not served");
                mqtt_listeners = MqttListeners::default();
                None
            }
            Err(error) => return Err(error),
        },
    };
    if let Some(shown) = &shown {
        tasks.push(tokio::spawn(tls::follow(shown.clone(), source.clone(), services.clone(), stopped.clone())));
        tasks.extend(mqtt_listeners.serve(shown, &services, config, &mut reachable, &stopped)?);
    }
    let certified = shown.as_ref().map(|shown| shown.dns_names()).unwrap_or_default();
    let with_tls = |address| {
        let listener = ListenerAddress(reach::registry(config, address, Some(&certified)));
        Service { listener, ..service.clone() }
    };
    let acceptor = match &shown {
        Some(shown) if is_tls => Some(shown.clone().acceptor()?),
        Some(_) | None => None,
    };
    if let Some(listener) = tls_listener {
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        reachable.tls_url = Some(tls_url(address));
        tasks.push(tokio::spawn(listen::serve(listener, acceptor.clone(), with_tls(address), stopped.clone())));
    } else if config.first_is_tls() {
        reachable.tls_url = Some(tls_url(address));
    }
    let (first_acceptor, first_service) =
        if config.first_is_tls() { (acceptor, with_tls(address)) } else { (None, service) };
    tasks.push(tokio::spawn(listen::serve(listener, first_acceptor, first_service, stopped.clone())));
    let is_auto = shown.is_some() && source == TlsSource::Auto;
    let settings = jobs::Settings {
        node: open::node_name(&config.data.folder)?,
        server_names: is_auto.then_some(names),
        certificates_per_list: domain::revocation::CERTIFICATES_PER_LIST,
        list_folder: config.crl_folder.clone(),
        places: Arc::default(),
    };
    tasks.push(tokio::spawn({
        let (services, stopped) = (services.clone(), stopped.clone());
        async move { services.follow_registry(stopped).await }
    }));
    tasks.push(tokio::spawn({
        let (services, stopped) = (services.clone(), stopped.clone());
        async move { services.follow_statuses(stopped).await }
    }));
    tasks.push(tokio::spawn({
        let (services, stopped) = (services.clone(), stopped.clone());
        async move { services.follow_lists(stopped).await }
    }));
    tasks.push(tokio::spawn(jobs::run(services.clone(), settings, stopped)));

    let FirstStart { bootstrap, secret, .. } = &first_start;
    first_run::write_facts(&config.data.folder, bootstrap, secret.as_deref(), &reachable)?;
    if secret.is_some() {
        services.bootstrap_announced(bootstrap).await.map_err(|error| error.to_string())?;
    }
    let FirstStart { bootstrap, secret, .. } = first_start;
    Ok(RunningServer { reachable, bootstrap, secret, services, db, stop, tasks, _lane: lane, _claim: claim })
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

/// As many connections as are wanted and as there are files for.
fn connections_max(wanted: usize) -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let most = files.saturating_sub(FILES_BESIDE).max(files / 2);
    if wanted > most {
        tracing::warn!(wanted, most, "this process may open too few files for connections_max: raise its limit");
    }
    wanted.min(most).min(Semaphore::MAX_PERMITS)
}

async fn edge(services: &Context, config: &Config, connections: Connections) -> Result<Edge, String> {
    let app = App { services: services.clone(), trusted_proxies: config.trusted_proxies.clone().into() };
    let routes = api::routes::routes();
    let about = About {
        title: "Chancery".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        description: "A private certificate authority and certificate lifecycle server.".into(),
        public_url: services.addresses.public_url.clone(),
    };
    let beside = api::routes::beside();
    // An operator wants to see what is refused when much is.
    let watched = Endpoint::get("/metrics", "Server", "What an operator watches").urgent();
    let admission =
        Admission::new(config.limits.requests_at_once).urgent(&routes, &beside).urgent::<App>(&[], &[watched]);
    let admission = Arc::new(admission.turning_away_by(enroll::publication::turned_away));
    let documentation = Documentation::new(about, &routes, beside);
    let metrics = Metrics::new(services.clone(), config.data.folder.clone());
    let router = api::route::router(routes)
        .with_state(app)
        .merge(documentation.router())
        .merge(enroll::publication::router::<ApiError>(services.clone()))
        .merge(metrics.router());
    let edge = Edge::new(router).with_time_limit(Duration::from_secs(config.request_seconds_max));
    let edge = edge.with_admission(admission.clone());
    metrics.observe(Observed { counts: edge.counts(), admission, connections });
    Ok(edge.with_family(registry(services, config).await?))
}

/// The device registry, which answers by gRPC and by paths of its own, and says no in another shape.
async fn registry(services: &Context, config: &Config) -> Result<Family, String> {
    let app = iot::app::App { services: services.clone(), trusted_proxies: config.trusted_proxies.clone().into() };
    let registry = iot::edge::Edge::new(app).await?;
    let router = registry.clone().into_router();
    let refuse = Arc::new(move |headers: &HeaderMap, error| registry.refusal(headers, error));
    Ok(Family { router, is_theirs: iot::edge::is_ours, refuse })
}

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// How other systems are reached, and where lists are put.
fn outward(config: &Config) -> Result<Outward, String> {
    let text = |error: DeliveryError| error.to_string();
    let mut list_targets = Vec::new();
    if let Some(url) = &config.crl_put_url {
        list_targets.push(ListTarget::http_put(url).map_err(text)?);
    }
    if let Some(Bucket { url, region, endpoint }) = &config.crl_s3 {
        let keys = keys_of_environment().map_err(|name| format!("crl_s3 needs {name} in the environment"))?;
        let target = ListTarget::s3(url, region, endpoint.as_deref(), keys);
        list_targets.push(target.map_err(|error| format!("crl_s3: {error}"))?);
    }
    let http = Http::new(EgressRules::public_and(config.egress_allow.clone())).map_err(text)?;
    let http = http.by(config.egress_ways.clone());
    let google = config.google_key_file.clone().map(ServerIdentity::of_key_file).unwrap_or_default();
    Ok(Outward { http, list_targets, places: config.places.clone(), google, mailer: config.mailer.clone() })
}

fn keys_of_environment() -> Result<Credentials, &'static str> {
    let named = |name: &'static str| std::env::var(name).map_err(|_| name);
    Ok(Credentials::AwsAccessKey {
        access_key_id: named("AWS_ACCESS_KEY_ID")?,
        secret_access_key: SecretText::new(named("AWS_SECRET_ACCESS_KEY")?),
        endpoint_url: None,
    })
}

fn addresses(config: &Config, address: SocketAddr, first_url: &str) -> Addresses {
    let publication_url = reach::publication_url(config, address);
    if config.publication_url.is_none() && config.first_is_tls() {
        tracing::warn!(
            %publication_url,
            "there is no plain listener, so certificates name an https address for revocation lists, which many \
             verifiers do not follow: set publication_url"
        );
    }
    Addresses { public_url: config.public_url.clone().unwrap_or_else(|| first_url.to_owned()), publication_url }
}

/// The names of the server's own certificate: localhost, 127.0.0.1, the public host, the addresses that are listened on,
/// and what is configured.
fn server_names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let host = config.public_url.as_deref().and_then(|url| url.parse::<Uri>().ok());
    let host = host.as_ref().and_then(Uri::host).map(|host| host.trim_matches(['[', ']']).to_owned());
    let listening =
        config.addresses().map(|address| address.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::local::{ServeArguments, TlsMode};

    fn config(listen: &str, tls_listen: Option<&str>, public_url: Option<&str>) -> Config {
        let arguments = ServeArguments {
            listen: Some(listen.parse().unwrap()),
            tls_listen: tls_listen.map(|address| address.parse().unwrap()),
            tls: Some(TlsMode::Auto),
            public_url: public_url.map(str::to_owned),
            ..ServeArguments::default()
        };
        Config::from_arguments(&arguments).unwrap()
    }

    #[test]
    fn the_servers_certificate_is_for_every_name_that_it_is_called_by() {
        for (listen, tls_listen, public_url, more) in [
            ("127.0.0.1:8080", None, None, &[][..]),
            ("127.0.0.1:8080", Some("192.0.2.7:8443"), None, &["192.0.2.7"]),
            ("0.0.0.0:443", None, Some("https://ca.example.com"), &["ca.example.com"]),
            ("0.0.0.0:443", None, Some("https://ca.example.com:8443/pki"), &["ca.example.com"]),
            ("[::]:443", None, Some("https://[2001:db8::1]"), &["2001:db8::1"]),
            ("[::1]:443", None, Some("https://[2001:db8::1]:8443"), &["2001:db8::1", "::1"]),
        ] {
            let names = server_names(&config(listen, tls_listen, public_url));
            assert_eq!(names[..2], ["localhost", "127.0.0.1"]);
            assert_eq!(names[2..], *more, "{listen} {tls_listen:?} {public_url:?}");
        }
    }
}
