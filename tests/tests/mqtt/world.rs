//! A server with MQTT, and rows of registries and devices put into its database.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use chancery::cli::local::{AddressOrOff, DatabaseArguments, ServeArguments};
use chancery::config::Config;
use chancery::server::RunningServer;
use domain::Time;
use domain::caller::Caller;
use domain::registry::{AccessEnd, Owner};
use services::{Clock, Context};
use store::{Changes, Statement, Value};
use testkit::{TestEngine, both_engines};
use x509::{Certificate, pem};

/// A running server, its registry and the files of its clients.
pub struct World {
    running: RunningServer,
    pub services: Context,
    /// The ports of MQTT and of MQTT over WebSocket.
    pub port: u16,
    pub web_socket_port: u16,
    /// What is to be trusted.
    pub ca: PathBuf,
    pub start: Time,
    folder: tempfile::TempDir,
    numbers: AtomicUsize,
    pub registry: String,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Runs a test once on each engine.
pub fn for_each_engine<F: Future<Output = World>>(test: impl Fn(World) -> F) {
    for_each_engine_with("", test);
}

/// Runs a test once on each engine, with what stands in a configuration file.
pub fn for_each_engine_with<F: Future<Output = World>>(configuration: &str, test: impl Fn(World) -> F) {
    both_engines(|engine| async {
        let world = World::start(engine, configuration).await;
        test(world).await.stop().await;
    });
}

impl World {
    async fn start(engine: TestEngine, configuration: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (data, database) = match engine {
            TestEngine::SqlitePath(path) => (path.parent().unwrap().to_owned(), None),
            TestEngine::PostgresUrl(url) => (folder.path().join("data"), Some(url)),
        };
        let free = || Some(AddressOrOff::At("127.0.0.1:0".parse().unwrap()));
        let file = folder.path().join("chancery.toml");
        std::fs::write(&file, configuration).unwrap();
        let arguments = ServeArguments {
            config: Some(file),
            database: DatabaseArguments { data: Some(data), database, ..DatabaseArguments::default() },
            listen: Some("127.0.0.1:0".parse().unwrap()),
            mqtt_listen: free(),
            mqtt_ws_listen: free(),
            ..ServeArguments::default()
        };
        let config = Config::from_arguments(&arguments).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = Time::from_seconds(i64::try_from(now.as_secs()).unwrap());
        let running = chancery::server::start(&config, Clock::manual(now)).await.unwrap();
        // The clock stands still from here on, and certificates that are made meanwhile are to be valid.
        let start = now.plus_seconds(600);
        running.services.clock.set(start);
        let reachable = running.reachable.clone();
        let port = |text: String| text.rsplit(':').next().unwrap().trim_end_matches("/mqtt").parse().unwrap();
        let world = Self {
            services: running.services.clone(),
            port: port(reachable.mqtt.unwrap()),
            web_socket_port: port(reachable.mqtt_web_socket.unwrap()),
            ca: reachable.tls_ca.unwrap(),
            start,
            folder,
            numbers: AtomicUsize::new(0),
            registry: "are-registry".into(),
            running,
        };
        world.add_registry(&world.registry).await;
        world
    }

    async fn stop(self) {
        self.running.stop().await;
    }

    /// The server itself, with every right in the first project.
    pub async fn admin(&self) -> Caller {
        let bootstrap = &self.running.bootstrap;
        Caller::node_administering(bootstrap.organization_id, bootstrap.project_id)
    }

    pub fn number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts the clock to some seconds after the beginning of the test.
    pub fn at(&self, seconds: i64) {
        self.services.clock.set(self.start.plus_seconds(seconds));
    }

    pub async fn execute(&self, sql: &'static str, values: Vec<Value>) {
        let changes = Changes::new().statement(Statement::new(sql, values));
        self.services.db.commit(changes).await.unwrap();
    }

    fn project(&self) -> Value {
        self.running.bootstrap.project_id.into()
    }

    pub async fn add_registry(&self, id: &str) {
        let options = serde_json::to_string(&domain::registry::LogOptions::default()).unwrap();
        let values = vec![id.into(), self.project(), id.into(), options.into(), self.start.into()];
        self.execute(
            "INSERT INTO registries (id, project_id, folder_key, folder_id, name, description, labels, log_options,
             log_group_id, is_disabled, version, created_at)
             VALUES ($1, $2, '', 'default', $3, '', '{}', $4, '', 0, 1, $5)",
            values,
        )
        .await;
    }

    pub async fn add_broker(&self, id: &str) {
        let options = serde_json::to_string(&domain::registry::LogOptions::default()).unwrap();
        let values = vec![id.into(), self.project(), id.into(), options.into(), self.start.into()];
        self.execute(
            "INSERT INTO brokers (id, project_id, folder_key, folder_id, name, description, labels, log_options, version,
             created_at) VALUES ($1, $2, '', 'default', $3, '', '{}', $4, 1, $5)",
            values,
        )
        .await;
    }

    pub async fn add_device(&self, id: &str) {
        self.add_device_to(&self.registry, id).await;
    }

    pub async fn add_device_to(&self, registry: &str, id: &str) {
        let values = vec![id.into(), registry.into(), self.project(), id.into(), self.start.into()];
        self.execute(
            "INSERT INTO devices (id, registry_id, project_id, folder_key, name, description, labels, version, created_at)
             VALUES ($1, $2, $3, '', $4, '', '{}', 1, $5)",
            values,
        )
        .await;
    }

    pub async fn add_alias(&self, alias: &str, device: &str, prefix: &str) {
        let values = vec![self.registry.as_str().into(), alias.into(), device.into(), prefix.into()];
        self.execute(
            "INSERT INTO topic_aliases (registry_id, alias, device_id, topic_prefix) VALUES ($1, $2, $3, $4)",
            values,
        )
        .await;
        self.services.topic_aliases_changed(&self.registry.as_str().into()).await.unwrap();
    }

    pub async fn add_password(&self, owner: &Owner, password: &str) -> String {
        let id = format!("are-password-{}", self.number());
        let hash = self.services.hash_registered_password(password).await.unwrap();
        let values = vec![
            id.as_str().into(),
            self.project(),
            owner.kind().as_str().into(),
            owner.id().into(),
            hash.into(),
            self.start.into(),
        ];
        self.execute(
            "INSERT INTO registered_passwords (id, project_id, owner_kind, owner_id, hash, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            values,
        )
        .await;
        id
    }

    /// Registers the certificate of a file.
    pub async fn register(&self, owner: &Owner, certificate: &Path) -> [u8; 32] {
        let data = std::fs::read_to_string(certificate).unwrap();
        let certificate = Certificate::from_der(pem::decode_all(&data, pem::CERTIFICATE).unwrap().remove(0)).unwrap();
        let registry = match owner {
            Owner::Broker(_) => Value::Null,
            _ => self.registry.as_str().into(),
        };
        let values = vec![
            certificate.sha256().into(),
            certificate.sha1().into(),
            self.project(),
            owner.kind().as_str().into(),
            owner.id().into(),
            registry,
            data.into(),
            Time::from_seconds(certificate.not_before()).into(),
            Time::from_seconds(certificate.not_after()).into(),
            self.start.into(),
        ];
        self.execute(
            "INSERT INTO registered_certificates (fingerprint, fingerprint_sha1, project_id, owner_kind, owner_id,
             registry_id, certificate_data, not_before, not_after, state, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'ACTIVE', $10)",
            values,
        )
        .await;
        certificate.sha256()
    }

    /// A device with a certificate of its own.
    pub async fn device(&self, id: &str) -> Pair {
        self.add_device(id).await;
        let pair = self.pair(id, &[]);
        self.register(&Owner::Device(id.into()), &pair.certificate).await;
        pair
    }

    /// A certificate of the registry.
    pub async fn registry_pair(&self) -> Pair {
        let pair = self.pair(&format!("registry-{}", self.number()), &[]);
        self.register(&Owner::Registry(self.registry.as_str().into()), &pair.certificate).await;
        pair
    }

    /// A certificate that signed itself, in the test's folder.
    pub fn pair(&self, name: &str, arguments: &[&str]) -> Pair {
        let file = |suffix: &str| self.path(&format!("{name}.{suffix}"));
        self_signed(Pair { certificate: file("pem"), key: file("key") }, arguments)
    }

    /// Says that something's access ended, as another node does.
    pub async fn end_access_elsewhere(&self, end: &AccessEnd) {
        let id = self.services.random.id(self.services.now());
        let changes = store::registry::access_end::insert(id, end, self.services.now());
        self.services.db.commit(changes).await.unwrap();
    }
}

/// Makes a certificate that signs itself, with a P-256 key unless the arguments say otherwise.
pub fn self_signed(pair: Pair, arguments: &[&str]) -> Pair {
    let usual = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let has_key = arguments.iter().any(|argument| matches!(*argument, "-newkey" | "-key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=localhost"]);
    command.args(if has_key { &[][..] } else { &usual }).args(arguments);
    command.arg("-keyout").arg(&pair.key).arg("-out").arg(&pair.certificate);
    let made = command.stdin(Stdio::null()).output().unwrap();
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    pair
}
