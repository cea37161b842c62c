//! MQTT beside mosquitto: connections with mutual TLS, messages from devices to their registry, memory.
//!
//! Registries, devices and their certificates are put into the database directly. mosquitto trusts the authority of the
//! same certificates and lets everybody do everything, which is less work than rights. The load shares the machine with
//! the server, so processor time of the server is given beside what was reached.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, params};
use tokio::sync::Semaphore;

use crate::mqtt_fleet::{Authority, Client, Identity, publish};
use crate::place::Place;
use crate::server::{Engine, Installation, free_address};
use crate::{Outcome, cores, kernel, process, processor, saying};

/// How many messages are on their way at most: neither server has to drop any.
const ON_THEIR_WAY: usize = 400;
/// How many clients connect at once.
const CONNECTING: usize = 32;
/// How many devices publish at once.
const PUBLISHING: usize = 64;
const PAYLOAD: [u8; 256] = [b'x'; 256];

#[derive(clap::Args)]
pub struct Options {
    /// Numbers of connected devices, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    devices: Vec<usize>,
    /// Messages of each measurement.
    #[arg(long, default_value_t = 200_000)]
    messages: usize,
    #[command(flatten)]
    place: Place,
}

/// A broker that runs.
struct Broker {
    name: &'static str,
    pid: u32,
    address: SocketAddr,
    /// Whose certificate the server has.
    root: PathBuf,
}

/// What was measured with one number of devices.
struct Measured {
    broker: &'static str,
    devices: usize,
    connections_per_second: f64,
    milliseconds_per_connection: f64,
    kib_per_connection: f64,
    /// For QoS 0 and 1: messages a second, and microseconds of the server's processors for each.
    messages: [(f64, f64); 2],
}

/// Measures, prints and writes the report.
pub fn run(options: &Options) -> Outcome<()> {
    let binary = options.place.server()?;
    let folder = options.place.folder()?;
    let most = options.devices.iter().copied().max().unwrap_or(0);
    eprintln!("making {most} certificates");
    let authority = Authority::new()?;
    let fleet = (0..=most).map(|number| authority.identity(number)).collect::<Outcome<Vec<Identity>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(saying("the load"))?;
    let mut measured = Vec::new();
    for devices in &options.devices {
        let installation = Installation::new(&binary, folder.path(), Engine::Sqlite);
        let mut server = installation.start_with("127.0.0.1:0")?;
        let bootstrap = installation.bootstrap(&mut server)?;
        let database = installation.data().join("chancery.db");
        register(&database, &fleet).map_err(saying("filling the registry"))?;
        let text = |name: &str| bootstrap[name].as_str().map(str::to_owned).ok_or(format!("no {name}"));
        let port = text("mqtt")?.rsplit(':').next().and_then(|port| port.parse().ok()).ok_or("mqtt has no port")?;
        let broker = Broker {
            name: "chancery",
            pid: server.pid(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            root: text("mqttCa")?.into(),
        };
        measured.push(runtime.block_on(measure(&broker, &fleet[..=*devices], options.messages))?);
        server.stop()?;
        let (mosquitto, broker) = mosquitto(folder.path(), &authority)?;
        measured.push(runtime.block_on(measure(&broker, &fleet[..=*devices], options.messages))?);
        drop(mosquitto);
    }
    let page = page(&measured, options.messages);
    options.place.report("mqtt", &page)
}

/// A registry with all devices, once.
fn register(database: &Path, fleet: &[Identity]) -> rusqlite::Result<()> {
    let mut database = Database::open(database)?;
    database.busy_timeout(Duration::from_secs(10))?;
    let now = jiff::Timestamp::now().as_millisecond();
    let (before, after) = (now - 86_400_000, now + 86_400_000);
    let transaction = database.transaction()?;
    transaction.execute(
        "INSERT OR IGNORE INTO registries (id, project_id, folder_key, folder_id, name, description, labels, log_options,
         log_group_id, is_disabled, version, created_at)
         SELECT ?1, id, '', 'default', ?1, '', '{}', '{\"is_disabled\":true,\"destination\":null,\"min_level\":0}', '', 0, 1, ?2
         FROM projects WHERE deleted_at IS NULL LIMIT 1",
        params![fleet[0].id, now],
    )?;
    for (number, identity) in fleet.iter().enumerate() {
        if number > 0 {
            transaction.execute(
                "INSERT OR IGNORE INTO devices (id, registry_id, project_id, folder_key, name, description, labels, version,
                 created_at) SELECT ?1, id, project_id, '', ?1, '', '{}', 1, ?3 FROM registries WHERE id = ?2",
                params![identity.id, fleet[0].id, now],
            )?;
        }
        let certificate = x509::Certificate::from_der(identity.der.clone()).expect("it was just made");
        let kind = if number > 0 { "device" } else { "registry" };
        transaction.execute(
            "INSERT OR IGNORE INTO registered_certificates (fingerprint, fingerprint_sha1, project_id, owner_kind, owner_id,
             registry_id, certificate_data, not_before, not_after, state, created_at)
             SELECT ?1, ?2, project_id, ?3, ?4, id, '', ?6, ?7, 'ACTIVE', ?6 FROM registries WHERE id = ?5",
            params![certificate.sha256(), certificate.sha1(), kind, identity.id, fleet[0].id, before, after],
        )?;
    }
    transaction.commit()
}

/// Ends it when it is dropped.
struct Mosquitto(Child);

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Both are errors when it has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mosquitto(folder: &Path, authority: &Authority) -> Outcome<(Mosquitto, Broker)> {
    let failed = saying("mosquitto");
    let file = |name: &str| folder.join(name);
    let (certificate, key) = authority.server()?;
    let root = x509::pem::encode(x509::pem::CERTIFICATE, &authority.der);
    for (name, text) in [("root.pem", &root), ("server.pem", &certificate), ("server.key", &key)] {
        std::fs::write(file(name), text).map_err(&failed)?;
    }
    let address = free_address()?;
    let configuration = format!(
        "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nallow_anonymous true\n\
         persistence false\nlog_type error\nset_tcp_nodelay true\nuser root\n\
         max_inflight_messages 0\nmax_queued_messages 0\n",
        address.port(),
        file("root.pem").display(),
        file("server.pem").display(),
        file("server.key").display(),
    );
    std::fs::write(file("mosquitto.conf"), configuration).map_err(&failed)?;
    let program =
        ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.unwrap_or("mosquitto"));
    let child = command.arg("-c").arg(file("mosquitto.conf")).stdin(Stdio::null()).spawn().map_err(&failed)?;
    let broker = Broker { name: "mosquitto", pid: child.id(), address, root: file("root.pem") };
    let began = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err("mosquitto does not answer".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((Mosquitto(child), broker))
}

async fn measure(broker: &Broker, fleet: &[Identity], messages: usize) -> Outcome<Measured> {
    let devices = fleet.len() - 1;
    eprintln!("{}: {devices} devices connect", broker.name);
    let mut registry = Client::connect(broker.address, fleet[0].config(&broker.root)?, "registry").await?;
    let configs = fleet[1..].iter().map(|identity| identity.config(&broker.root)).collect::<Outcome<Vec<_>>>()?;
    let memory = process::resident_kib(broker.pid)?;
    let (begun, time) = (Instant::now(), process::processor_time(broker.pid)?);
    let clients = connect(broker.address, &fleet[1..], configs).await?;
    let (elapsed, time) = (begun.elapsed(), process::processor_time(broker.pid)? - time);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let memory = process::resident_kib(broker.pid)?.saturating_sub(memory);

    let clients = Arc::new(clients);
    let mut rates = [(0.0, 0.0); 2];
    for (qos, rate) in [0, 1].into_iter().zip(&mut rates) {
        eprintln!("{}: {messages} messages with QoS {qos}", broker.name);
        registry.subscribe("$devices/+/events", qos).await?;
        let time = process::processor_time(broker.pid)?;
        let (elapsed, back) = load(registry, &clients, fleet, messages, qos).await?;
        registry = back;
        let time = process::processor_time(broker.pid)? - time;
        *rate = (messages as f64 / elapsed.as_secs_f64(), time.as_secs_f64() * 1e6 / messages as f64);
    }
    Ok(Measured {
        broker: broker.name,
        devices,
        connections_per_second: devices as f64 / elapsed.as_secs_f64(),
        milliseconds_per_connection: time.as_secs_f64() * 1e3 / devices as f64,
        kib_per_connection: memory as f64 / devices as f64,
        messages: rates,
    })
}

type Clients = Vec<tokio::sync::Mutex<Client>>;

async fn connect(address: SocketAddr, fleet: &[Identity], configs: Vec<Arc<rustls::ClientConfig>>) -> Outcome<Clients> {
    let places = Arc::new(Semaphore::new(CONNECTING));
    let mut tasks = Vec::with_capacity(fleet.len());
    for (identity, config) in fleet.iter().zip(configs) {
        let place = places.clone().acquire_owned().await.map_err(saying("the load"))?;
        let id = identity.id.clone();
        tasks.push(tokio::spawn(async move {
            let client = Client::connect(address, config, &id).await;
            drop(place);
            client
        }));
    }
    let mut clients = Vec::with_capacity(tasks.len());
    for task in tasks {
        clients.push(tokio::sync::Mutex::new(task.await.map_err(saying("the load"))??));
    }
    Ok(clients)
}

/// Devices publish in turn, as many at once as there are publishers; the registry counts what arrives.
async fn load(
    mut registry: Client,
    clients: &Arc<Clients>,
    fleet: &[Identity],
    messages: usize,
    qos: u8,
) -> Outcome<(Duration, Client)> {
    let packets: Arc<Vec<Vec<u8>>> = Arc::new(
        fleet[1..].iter().map(|device| publish(&format!("$devices/{}/events", device.id), &PAYLOAD, qos)).collect(),
    );
    let room = Arc::new(Semaphore::new(ON_THEIR_WAY));
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut publishers: Vec<tokio::task::JoinHandle<Outcome<()>>> = Vec::new();
    for _ in 0..PUBLISHING.min(clients.len()) {
        let (clients, packets, room, next) = (clients.clone(), packets.clone(), room.clone(), next.clone());
        publishers.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= messages {
                    return Ok(());
                }
                room.acquire().await.map_err(saying("the load"))?.forget();
                let device = number % clients.len();
                let mut client = clients[device].lock().await;
                client.send(&packets[device]).await?;
                if qos == 1 {
                    client.packet().await?;
                }
            }
        }));
    }
    let reader = {
        let room = room.clone();
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < messages {
                let count = tokio::time::timeout(Duration::from_secs(30), registry.messages()).await;
                let count = count.map_err(|_| format!("{seen} of {messages} messages came"))??;
                seen += count;
                room.add_permits(count);
            }
            Ok::<_, String>(registry)
        })
    };
    let registry = reader.await.map_err(saying("the load"))??;
    let elapsed = begun.elapsed();
    for publisher in publishers {
        publisher.await.map_err(saying("the load"))??;
    }
    Ok((elapsed, registry))
}

fn page(measured: &[Measured], messages: usize) -> String {
    let mut page = format!(
        "# MQTT beside mosquitto\n\n{} cores of {}, {}; {messages} messages of {} octets for each rate; the load runs on the \
         same machine.\n\n| broker | devices | connections/s | ms of processor per connection | KiB per connection | \
         messages/s QoS 0 | µs of processor | messages/s QoS 1 | µs of processor |\n|---|---|---|---|---|---|---|---|---|\n",
        cores(),
        processor(),
        kernel(),
        PAYLOAD.len(),
    );
    for row in measured {
        let [(rate_0, cost_0), (rate_1, cost_1)] = row.messages;
        page.push_str(&format!(
            "| {} | {} | {:.0} | {:.2} | {:.1} | {rate_0:.0} | {cost_0:.1} | {rate_1:.0} | {cost_1:.1} |\n",
            row.broker,
            row.devices,
            row.connections_per_second,
            row.milliseconds_per_connection,
            row.kib_per_connection,
        ));
    }
    page
}
