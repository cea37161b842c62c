//! The two brokers: how each is started and told of the devices, and how their topics are called there.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509::pem;

use super::client::{Client, Quality};
use super::fleet::{Fleet, certificate_pem};
use crate::http::Connection;
use crate::requests::Caller;
use crate::server::{Engine, Installation, Server};
use crate::{Outcome, saying};

/// A running broker that knows the devices of a fleet.
pub trait Broker {
    /// Its name in the report.
    fn name(&self) -> &'static str;
    /// Its process.
    fn pid(&self) -> u32;
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// Whom its certificate is from.
    fn trusted(&self) -> Arc<RootCertStore>;
    /// What a device publishes to.
    fn topic(&self, device: usize) -> String;
    /// What reads all of that.
    fn filter(&self) -> &'static str;

    /// Connects the reader.
    async fn reader(&self, fleet: &Fleet) -> Outcome<Client> {
        let config = fleet.client(&fleet.reader, &self.trusted())?;
        let mut reader = Client::connect(self.address(), config, "reader").await?;
        reader.subscribe(self.filter(), Quality::AtLeastOnce).await?;
        Ok(reader)
    }
}

/// Chancery, with a registry of the fleet.
pub struct Chancery {
    server: Server,
    address: SocketAddr,
    trusted: Arc<RootCertStore>,
    devices: Vec<String>,
}

impl Chancery {
    /// Starts it and registers the devices over its API.
    pub fn start(binary: &Path, folder: &Path, fleet: &Fleet, runtime: &tokio::runtime::Runtime) -> Outcome<Self> {
        let installation = Installation::new(binary, folder, Engine::Sqlite);
        let mut server = installation.start()?;
        let bootstrap = installation.bootstrap(&mut server)?;
        let devices = runtime.block_on(register(&server, &bootstrap, fleet))?;
        let text = |name: &str| bootstrap[name].as_str().ok_or(format!("bootstrap.json has no {name}"));
        let port = text("mqtt")?.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).ok_or("mqtt has no port")?;
        let mut trusted = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(text("mqttCa")?).map_err(saying("mqttCa"))? {
            trusted.add(certificate.map_err(saying("mqttCa"))?).map_err(saying("mqttCa"))?;
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self { server, address, trusted: Arc::new(trusted), devices })
    }
}

/// Makes the registry and its devices: their ids.
async fn register(server: &Server, bootstrap: &Value, fleet: &Fleet) -> Outcome<Vec<String>> {
    let target = server.plain();
    let caller = Caller::login(&target, bootstrap).await?;
    let mut connection = Connection::open(&target).await.map_err(saying("registering"))?;
    let mut make = async |path: &str, body: Value, id: &str| {
        let request = caller.post(&target, path, &body);
        let reply = connection.exchange(&request).await.map_err(saying("registering"))?;
        let answer: Value = serde_json::from_slice(reply.body).unwrap_or_default();
        answer["metadata"][id].as_str().map(str::to_owned).ok_or(format!("{path}: {} {answer}", reply.status))
    };
    let of = |certificate: &[u8]| json!([{ "certificateData": certificate_pem(certificate) }]);
    let body = json!({ "folderId": "default", "name": "bench", "certificates": of(&fleet.reader) });
    let registry = make("/iot-devices/v1/registries", body, "registryId").await?;
    let mut devices = Vec::with_capacity(fleet.devices.len());
    for certificate in &fleet.devices {
        let body = json!({ "registryId": registry, "certificates": of(certificate) });
        devices.push(make("/iot-devices/v1/devices", body, "deviceId").await?);
    }
    Ok(devices)
}

impl Broker for Chancery {
    fn name(&self) -> &'static str {
        "chancery"
    }

    fn pid(&self) -> u32 {
        self.server.pid()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn trusted(&self) -> Arc<RootCertStore> {
        self.trusted.clone()
    }

    fn topic(&self, device: usize) -> String {
        format!("$devices/{}/events", self.devices[device])
    }

    fn filter(&self) -> &'static str {
        "$devices/#"
    }
}

/// mosquitto, which takes whoever has a certificate of the fleet's authority.
pub struct Mosquitto {
    child: Child,
    address: SocketAddr,
    trusted: Arc<RootCertStore>,
}

impl Mosquitto {
    /// Starts it, without limits on what may be under way.
    pub fn start(binary: &Path, folder: &Path, fleet: &Fleet) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(saying("a free port"))?;
        let address = listener.local_addr().map_err(saying("a free port"))?;
        drop(listener);
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(saying(name)).map(|()| path.display().to_string())
        };
        let authority = write("authority.pem", certificate_pem(&fleet.authority))?;
        let certificate = write("server.pem", certificate_pem(&fleet.server))?;
        let key = write("server.key", format!("{}\n", pem::encode(pem::PRIVATE_KEY, &fleet.key)))?;
        let configuration = write(
            "mosquitto.conf",
            format!(
                "listener {} 127.0.0.1\ncafile {authority}\ncertfile {certificate}\nkeyfile {key}\n\
                 require_certificate true\nuse_identity_as_username true\nmax_inflight_messages 0\n\
                 max_queued_messages 0\nset_tcp_nodelay true\nlog_dest none\nuser root\n",
                address.port()
            ),
        )?;
        let child = Command::new(binary)
            .args(["-c", &configuration])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(saying("mosquitto"))?;
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from(fleet.authority.clone())).map_err(saying("the authority"))?;
        let started = Self { child, address, trusted: Arc::new(trusted) };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err("mosquitto does not listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(started)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Both are errors when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker for Mosquitto {
    fn name(&self) -> &'static str {
        "mosquitto"
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn trusted(&self) -> Arc<RootCertStore> {
        self.trusted.clone()
    }

    fn topic(&self, device: usize) -> String {
        format!("devices/{device}/events")
    }

    fn filter(&self) -> &'static str {
        "devices/#"
    }
}
