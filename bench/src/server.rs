//! The server under test: a data folder of its own, and the release binary started and stopped on it as an operator
//! would, with its log in a file beside it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use crate::http::Target;
use crate::postgres::Database;
use crate::{Outcome, saying};

/// How long a start or a stop may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a start is asked whether it answers: the resolution of the start time.
const POLL: Duration = Duration::from_micros(500);

/// A data folder, the binary that serves it, and the database it stands on.
pub struct Installation {
    binary: PathBuf,
    folder: PathBuf,
    engine: Engine,
}

/// What the inventory is kept in.
pub enum Engine {
    /// A file in the data folder.
    Sqlite,
    /// A database made for this installation.
    Postgres(Database),
    /// A database that somebody else made, by its URL.
    PostgresAt(String),
}

impl Installation {
    /// An installation that has never been started; `folder` must exist and be empty.
    pub fn new(binary: &Path, folder: &Path, engine: Engine) -> Self {
        Self { binary: binary.to_owned(), folder: folder.to_owned(), engine }
    }

    /// Starts the server without MQTT and waits for its first answer.
    pub fn start(&self) -> Outcome<Server> {
        self.start_with("off")
    }

    /// The same with MQTT over TLS at an address, or `off`.
    pub fn start_with(&self, mqtt: &str) -> Outcome<Server> {
        let address = free_address()?;
        let log = File::options().create(true).append(true).open(self.log()).map_err(saying("the server's log"))?;
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHANCERY_")) {
            command.env_remove(name);
        }
        command
            .arg("serve")
            .args(["--listen", &address.to_string(), "--tls-listen", "127.0.0.1:0"])
            .args(["--mqtt-listen", mqtt, "--mqtt-ws-listen", "off"])
            .arg("--data")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(saying("the server's log"))?)
            .stderr(log);
        if let Some(url) = self.database_url() {
            command.args(["--database", url]);
        }
        let spawned = Instant::now();
        let child = command.spawn().map_err(saying(&self.binary.display().to_string()))?;
        let mut server = Server { child, address, first_answer: Duration::ZERO };
        self.wait_until(&mut server, "answer", POLL, |server| answers(server.address))?;
        server.first_answer = spawned.elapsed();
        Ok(server)
    }

    /// What the server wrote to bootstrap.json when it first answered: waits until that names `server`'s address.
    pub fn bootstrap(&self, server: &mut Server) -> Outcome<Value> {
        let url = format!("http://{}", server.address);
        let mut found = Value::Null;
        self.wait_until(server, "write bootstrap.json", Duration::from_millis(5), |_| {
            found = std::fs::read(self.data().join("bootstrap.json"))
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .unwrap_or_default();
            found["url"] == url.as_str()
        })?;
        Ok(found)
    }

    /// Octets that the inventory takes on the disk; the server must be stopped, so that SQLite's log is in its database.
    pub fn octets_on_disk(&self) -> Outcome<u64> {
        match &self.engine {
            Engine::Sqlite => octets_under(&self.data()),
            Engine::Postgres(database) => database.octets_on_disk(),
            Engine::PostgresAt(_) => Err("it is asked where the database was made".to_owned()),
        }
    }

    /// Another node of the same database, with the same master key; `folder` must exist and be empty.
    pub fn beside(&self, folder: &Path) -> Outcome<Self> {
        let url = self.database_url().ok_or("SQLite has one node")?.to_owned();
        let node = Self::new(&self.binary, folder, Engine::PostgresAt(url));
        std::fs::DirBuilder::new().mode(0o700).create(node.data()).map_err(saying("a data folder"))?;
        let key = "master.key";
        std::fs::copy(self.data().join(key), node.data().join(key)).map_err(saying("the master key"))?;
        Ok(node)
    }

    fn database_url(&self) -> Option<&str> {
        match &self.engine {
            Engine::Sqlite => None,
            Engine::Postgres(database) => Some(database.url()),
            Engine::PostgresAt(url) => Some(url),
        }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn wait_until(
        &self,
        server: &mut Server,
        what: &str,
        pause: Duration,
        mut is_so: impl FnMut(&Server) -> bool,
    ) -> Outcome<()> {
        let began = Instant::now();
        while !is_so(server) {
            let ended = server.child.try_wait().map_err(saying("the server"))?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(20).collect();
                let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
                let state = ended.map_or("is running".to_owned(), |status| format!("ended with {status}"));
                return Err(format!("the server did not {what}; it {state}; the end of its log:\n{last}"));
            }
            std::thread::sleep(pause);
        }
        Ok(())
    }
}

/// A running server; dropped, it is killed.
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// From the start of the process to its first answer.
    pub first_answer: Duration,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its plain listener.
    pub fn plain(&self) -> Target {
        Target { address: self.address, host: self.address.to_string(), tls: None }
    }

    /// Its TLS listener, trusted by the CA that bootstrap.json names.
    pub fn tls(&self, bootstrap: &Value) -> Outcome<Target> {
        let url = bootstrap["tlsUrl"].as_str().ok_or("bootstrap.json has no tlsUrl")?;
        let file = bootstrap["tlsCa"].as_str().ok_or("bootstrap.json has no tlsCa")?;
        let host =
            url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/')).ok_or("tlsUrl is no https URL")?;
        let (name, port) = host.rsplit_once(':').ok_or("tlsUrl has no port")?;
        let port: u16 = port.parse().map_err(saying("the port of tlsUrl"))?;
        let name = ServerName::try_from(name.to_owned()).map_err(saying("the name in tlsUrl"))?;

        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(saying("tlsCa"))? {
            roots.add(certificate.map_err(saying("tlsCa"))?).map_err(saying("tlsCa"))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(saying("TLS"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Target { address, host: host.to_owned(), tls: Some((Arc::new(config), name)) })
    }

    /// Stops it by SIGTERM; an error unless it then ends by itself with success.
    pub fn stop(mut self) -> Outcome<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(saying("SIGTERM"))?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.child.try_wait().map_err(saying("the server"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the server, asked to stop, ended with {status}")),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Err("the server, asked to stop, did not".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both are errors when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address whose port nobody listens on now.
pub fn free_address() -> Outcome<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(saying("a free port"))
}

/// Whether `GET /api/status` is answered with 200 there, on a connection of its own.
fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(
            format!("GET /api/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        std::io::Result::Ok(status)
    };
    ask().is_ok_and(|status| &status == b"HTTP/1.1 200")
}

/// The lengths of all files below a folder.
fn octets_under(folder: &Path) -> Outcome<u64> {
    let mut octets = 0;
    for entry in std::fs::read_dir(folder).map_err(saying("the data folder"))? {
        let entry = entry.map_err(saying("the data folder"))?;
        let metadata = entry.metadata().map_err(saying("the data folder"))?;
        octets += if metadata.is_dir() { octets_under(&entry.path())? } else { metadata.len() };
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_folder_and_of_those_within_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("within")).unwrap();
        std::fs::write(folder.path().join("a"), [0; 100]).unwrap();
        std::fs::write(folder.path().join("within/b"), [0; 23]).unwrap();
        assert_eq!(octets_under(folder.path()), Ok(123));
        assert!(octets_under(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn only_a_status_of_200_counts_as_an_answer() {
        let check = |reply: &'static str, expected| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(reply.as_bytes()).unwrap();
            });
            assert_eq!(answers(address), expected, "{reply:?}");
            serving.join().unwrap();
        };
        check("HTTP/1.1 200 OK\r\n\r\n", true);
        check("HTTP/1.1 503 Service Unavailable\r\n\r\n", false);
        check("HTTP/1.1", false);
        assert!(!answers(free_address().unwrap()));
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_that_shows_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("server");
        std::fs::write(&binary, "#!/bin/sh\necho last words\nexit 3\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&binary, executable).unwrap();
        let error = Installation::new(&binary, folder.path(), Engine::Sqlite).start().err().unwrap();
        assert!(error.contains("ended with exit status: 3") && error.contains("last words"), "{error}");
    }
}
