//! `GET /metrics`: what an operator watches, in the Prometheus text format. Numbers, and ids that stand in certificates
//! anyway; no name of a tenant.

use crate::traffic_metrics::TrafficMetrics;
use api::admission::Admission;
use api::edge::Counts;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::Time;
use domain::sync::SyncStatus;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use services::Context;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The numbers and where they come from.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    services: Context,
    data_folder: PathBuf,
    started: Time,
    observed: OnceLock<Observed>,
}

/// What is looked at beside the use cases.
pub struct Observed {
    /// What the edge answered.
    pub counts: Arc<Counts>,
    /// The room for requests.
    pub admission: Arc<Admission>,
    /// The places of the listeners.
    pub connections: Connections,
}

/// How many connections there may be.
pub struct Connections {
    /// A place for each that is not there.
    pub free: Arc<Semaphore>,
    /// All places.
    pub most: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Label {
    name: &'static str,
    value: String,
}

/// How long the metrics wait for the database.
const DATABASE_PATIENCE: Duration = Duration::from_secs(2);

/// How many authorities and how many revocation lists have a number of their own: those that end first.
const NAMED_MAX: u32 = 100;
/// For how long an authority that has ended still has one.
const ENDED_SECONDS: i64 = 30 * 24 * 60 * 60;

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeLabel;
        (self.name, self.value.as_str()).encode(encoder.encode_label())
    }
}

impl Metrics {
    /// Over the use cases and their database, and the disk of the data folder.
    pub fn new(services: Context, data_folder: PathBuf) -> Self {
        let started = services.now();
        Self(Arc::new(Inner { services, observed: OnceLock::new(), data_folder, started }))
    }

    /// Also over what the edge and the listeners count.
    pub fn observe(&self, observed: Observed) {
        // A second call would be about the same edge.
        let _ = self.0.observed.set(observed);
    }

    /// The endpoint.
    pub fn router(&self) -> Router {
        let metrics = self.clone();
        Router::new().route("/metrics", get(move || metrics.clone().answer()))
    }

    async fn answer(self) -> Response {
        match self.text().await {
            Ok(text) => {
                ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics cannot be read");
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
        }
    }

    async fn text(&self) -> Result<String, String> {
        let mut registry = Registry::with_prefix("chancery");
        let Inner { services, .. } = &*self.0;
        let statistics = services.db.statistics();
        let totals = [
            ("commits", "Changes that were committed", statistics.commits),
            ("commit_batches", "Durable transactions that held them", statistics.batches),
            ("commit_failures", "Changes that were refused or failed", statistics.failures),
            ("panics", "Requests that panicked", self.0.observed.get().map_or(0, |observed| observed.counts.panics())),
            (
                "sync_unproven",
                "Certificates that were delivered and not seen being served in time",
                services.unproven_certificates(),
            ),
        ];
        for (name, help, value) in totals {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        let mqtt = &self.0.services.hub().counts;
        let sessions = u64::try_from(mqtt.sessions.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        for (name, help, value) in [
            ("mqtt_sessions", "MQTT sessions that are open", sessions),
            ("mqtt_messages_in", "Messages that were published", mqtt.messages_in.load(Ordering::Relaxed)),
            ("mqtt_messages_out", "Messages that were given to sessions", mqtt.messages_out.load(Ordering::Relaxed)),
            ("mqtt_dropped", "Messages that slow readers lost", mqtt.dropped.load(Ordering::Relaxed)),
            ("mqtt_refused", "MQTT connections that were refused", mqtt.refused.load(Ordering::Relaxed)),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        let answers = Family::<Label, Gauge>::default();
        if let Some(Observed { counts, .. }) = self.0.observed.get() {
            for class in 1..=5 {
                let label = Label { name: "class", value: format!("{class}xx") };
                answers.get_or_create(&label).set(i64::try_from(counts.answers(class)).unwrap_or(i64::MAX));
            }
        }
        registry.register("http_answers", "Answers by the class of their status", answers);
        for (name, help, value) in [
            (
                "certificates_issued",
                "Certificates that were issued, those of authorities left out",
                services.issued_certificates(),
            ),
            ("certificates_revoked", "Certificates that were revoked", services.revoked_certificates()),
        ] {
            registry.register(name, help, ConstCounter::new(value));
        }
        if let Some(observed) = self.0.observed.get() {
            registry.register_collector(Box::new(TrafficMetrics(observed.counts.clone())));
        }
        self.of_process(&mut registry);
        self.of_admission(&mut registry);
        let is_up = tokio::time::timeout(DATABASE_PATIENCE, self.of_database(&mut registry)).await;
        let up: Gauge = Gauge::default();
        up.set(i64::from(matches!(is_up, Ok(Ok(())))));
        registry.register("database_up", "Whether the database answers; without it some metrics are left out", up);
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| error.to_string())?;
        Ok(text)
    }

    /// What this process is and holds. What the system does not say is left out.
    fn of_process(&self, registry: &mut Registry) {
        let build = Family::<Label, Gauge>::default();
        build.get_or_create(&Label { name: "version", value: env!("CARGO_PKG_VERSION").into() }).set(1);
        registry.register("build", "The version of the program", build);
        let started = ConstGauge::new(self.0.started.seconds());
        registry.register("start_timestamp_seconds", "When the server was started, in seconds since 1970", started);
        if let Some(free) = free_octets(&self.0.data_folder) {
            let help = "What is free on the disk of the data folder";
            registry.register_with_unit("disk_free", help, Unit::Bytes, ConstGauge::new(free));
        }
        if let Some(resident) = resident_octets() {
            let help = "Memory that the server holds";
            registry.register_with_unit("resident_memory", help, Unit::Bytes, ConstGauge::new(resident));
        }
    }

    /// How full the queues are, and how many were refused since the start.
    fn of_admission(&self, registry: &mut Registry) {
        let services = &self.0.services;
        let (issuances, answers) = (services.issuances(), services.status_answers());
        let (requests_refused, certificates_refused) = services.refused_by_rate();
        let (keys, signatures) = services.key_pool.waiting();
        let commits = services.db.statistics().waiting;
        let mut depths = vec![
            ("issuances", issuances.taken),
            ("issuances_waiting", issuances.waiting),
            ("ocsp_answers", answers.taken),
            ("ocsp_answers_waiting", answers.waiting),
            ("rsa_keys_waiting", keys),
            ("rsa_signatures_waiting", signatures),
            ("commits_waiting", commits),
        ];
        let mut refusals = vec![
            ("issuances", issuances.refused),
            ("ocsp_answers", answers.refused),
            ("identity_rate", requests_refused),
            ("project_rate", certificates_refused),
        ];
        if let Some(Observed { admission, connections, .. }) = self.0.observed.get() {
            let (ordinary, urgent) = (admission.ordinary_room(), admission.urgent_room());
            depths.extend([("requests", ordinary.taken()), ("urgent_requests", urgent.taken())]);
            depths.push(("connections", connections.most.saturating_sub(connections.free.available_permits())));
            refusals.extend([("requests", ordinary.refused()), ("urgent_requests", urgent.refused())]);
        }
        let depth = Family::<Label, Gauge>::default();
        for (queue, number) in depths {
            let label = Label { name: "queue", value: queue.into() };
            depth.get_or_create(&label).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        registry.register("admitted", "What is under way or waits, by its queue", depth);
        let refused = Family::<Label, Gauge>::default();
        for (queue, number) in refusals {
            let label = Label { name: "queue", value: queue.into() };
            refused.get_or_create(&label).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        registry.register("refused", "What was told to come later, by the queue that was full", refused);
    }

    /// What is counted in the database.
    async fn of_database(&self, registry: &mut Registry) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let services = &self.0.services;
        let jobs = Family::<Label, Gauge>::default();
        for status in ["queued", "running", "parked"] {
            jobs.get_or_create(&Label { name: "status", value: status.into() }).set(0);
        }
        for (status, count) in store::job::counts(&services.db, services.now()).await? {
            jobs.get_or_create(&Label { name: "status", value: status }).set(count);
        }
        registry.register("jobs", "Jobs by status", jobs);
        let due: Gauge = Gauge::default();
        let lists = services.lists_due().await?;
        due.set(i64::try_from(lists.len()).unwrap_or(i64::MAX));
        registry.register("lists_due", "Revocation lists that run out soon and are not signed anew", due);
        self.ends(registry).await?;
        let links = Family::<Label, Gauge>::default();
        for status in SyncStatus::ALL {
            links.get_or_create(&Label { name: "status", value: status.as_str().into() }).set(0);
        }
        for (status, count) in store::watch::sync_links(&services.db).await? {
            links.get_or_create(&Label { name: "status", value: status }).set(count);
        }
        registry.register("sync_links", "Certificates that syncs carry, by what became of them", links);
        Ok(())
    }

    /// When authorities and revocation lists end, those that end first.
    async fn ends(&self, registry: &mut Registry) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let services = &self.0.services;
        let now = services.now();
        let authorities = Family::<Label, Gauge>::default();
        for (id, end) in store::watch::authority_ends(&services.db, now.plus_seconds(-ENDED_SECONDS), NAMED_MAX).await?
        {
            authorities.get_or_create(&Label { name: "authority", value: id.to_string() }).set(end.seconds());
        }
        let help = "When active authorities end, in seconds since 1970; the hundred that end first";
        registry.register("authority_end_timestamp_seconds", help, authorities);
        let lists = Family::<Label, Gauge>::default();
        for (id, end) in store::watch::crl_ends(&services.db, now, NAMED_MAX).await? {
            lists.get_or_create(&Label { name: "crl", value: id.to_string() }).set(end.seconds());
        }
        let help =
            "When a new revocation list is due at the latest, in seconds since 1970; the hundred that are due first";
        registry.register("crl_next_update_timestamp_seconds", help, lists);
        Ok(())
    }
}

/// What is free for this process on the disk that a folder is on.
fn free_octets(folder: &Path) -> Option<i64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    i64::try_from(disk.f_bavail.saturating_mul(disk.f_frsize)).ok()
}

/// The memory of this process that is not swapped out, where the system keeps /proc.
fn resident_octets() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}
