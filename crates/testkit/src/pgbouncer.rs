//! PgBouncer for tests, from the system's package: a connection pool in front of one PostgreSQL server of a test.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pool. It ends when it is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts one in front of the server at `host:port`, with this `pool_mode`.
    ///
    /// # Panics
    /// If it is not installed, or does not begin to listen.
    pub fn start(server: &str, pool_mode: &str) -> Self {
        let (host, server_port) = server.split_once(':').expect("host:port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = crate::programs::free_port();
        let settings = format!(
            "[databases]\n* = host={host} port={server_port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\n\
             default_pool_size = 40\nmax_client_conn = 200\n"
        );
        fs::write(folder.path().join("pgbouncer.ini"), settings).expect("its settings can be written");
        let mut pool = Self { port, child: None, folder };
        pool.start_again();
        pool
    }

    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it again at the same address after [`PgBouncer::stop`].
    ///
    /// # Panics
    /// If it does not begin to listen.
    pub fn start_again(&mut self) {
        let program = crate::programs::find("pgbouncer", "pgbouncer");
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        // It refuses to run as root.
        let mut command = match is_root {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                drop(Command::new("chown").args(["-R", "postgres"]).arg(self.folder.path()).status());
                command
            }
            false => Command::new(program),
        };
        command.arg("--quiet").arg(self.folder.path().join("pgbouncer.ini"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.stop();
    }
}
