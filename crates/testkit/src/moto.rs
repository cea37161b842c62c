//! moto: somebody else's server that speaks like AWS. It checks no signatures, pages no lists of certificates, takes keys
//! that do not match, and loses tags when a certificate is imported again; for the rest there is
//! [`crate::stand_ins::aws`].

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where `scripts/install-test-tools` puts it, from this crate.
const PROGRAM: &str = "../../.test/venv/bin/moto_server";
/// How long it may take to listen: it imports a lot.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A server of its own, which ends when this is dropped.
pub struct Moto {
    process: Child,
    address: SocketAddr,
}

impl Moto {
    /// Starts it, and waits until it listens.
    pub fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(PROGRAM);
        assert!(program.exists(), "{} is not there: run scripts/install-test-tools", program.display());
        let address = free_address();
        let process = Command::new(&program)
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let mut moto = Self { process, address };
        moto.wait();
        moto
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn wait(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("moto_server ended before it listened: {status}");
            }
            assert!(start.elapsed() < START_TIMEOUT, "moto_server does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody listens on now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback is free");
    listener.local_addr().expect("a listener has an address")
}
