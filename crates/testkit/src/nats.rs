//! A NATS server for tests, from the system's package: one server of one test, on a free port of the loopback, for one user with
//! a password.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A NATS server. It ends when it is dropped.
#[derive(Debug)]
pub struct Nats {
    port: u16,
    child: Option<Child>,
}

impl Nats {
    /// Starts a server.
    ///
    /// # Panics
    /// If it is not installed, or does not begin to listen.
    pub fn start() -> Self {
        let mut nats = Self { port: crate::programs::free_port(), child: None };
        nats.start_again();
        nats
    }

    /// Its address with the name and the password that it wants.
    pub fn url(&self) -> String {
        format!("nats://chancery:s%23cret@127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it again at the same address after [`Nats::stop`].
    ///
    /// # Panics
    /// If it does not begin to listen.
    pub fn start_again(&mut self) {
        let mut command = Command::new(crate::programs::find("nats-server", "nats-server"));
        command.args([
            "--addr",
            "127.0.0.1",
            "--port",
            &self.port.to_string(),
            "--user",
            "chancery",
            "--pass",
            "s#cret",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "nats-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.stop();
    }
}
