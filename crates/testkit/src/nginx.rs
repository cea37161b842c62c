//! nginx for tests, from the system's package: one server of one test, on a free port of the loopback, serving TLS with the
//! certificate and key at two paths.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long it may take to begin and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running nginx. It ends when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    /// Starts a server that serves the certificate chain and key at these paths.
    ///
    /// # Panics
    /// If nginx is not installed, or does not take the files; the message says which.
    pub fn start(certificate: &Path, key: &Path) -> Self {
        let program = crate::programs::find("nginx", "nginx");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = crate::programs::free_port();
        let (home, certificate, key) = (folder.path().display(), certificate.display(), key.display());
        let text = format!(
            "pid {home}/nginx.pid;\nerror_log {home}/error.log info;\nworker_processes 1;\nevents {{ worker_connections 64; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {home}/body;\n  proxy_temp_path {home}/proxy;\n  \
             fastcgi_temp_path {home}/fastcgi;\n  uwsgi_temp_path {home}/uwsgi;\n  scgi_temp_path {home}/scgi;\n  \
             server {{\n    listen 127.0.0.1:{port} ssl;\n    ssl_certificate {certificate};\n    \
             ssl_certificate_key {key};\n    return 204;\n  }}\n}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), text).expect("the configuration can be written");
        let nginx = Self { program, folder, port };
        let started = nginx.run(&[]);
        assert!(started.status.success(), "nginx: {}", String::from_utf8_lossy(&started.stderr));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "nginx does not listen: {}", nginx.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The command that tests the configuration and then has it read again. nginx itself only logs that a reload went
    /// wrong, so the test comes first, as in a service's unit.
    pub fn reload_command(&self) -> String {
        let (program, configuration) = (self.program.display(), self.configuration());
        let configuration = configuration.display();
        format!("{program} -q -t -c '{configuration}' && {program} -q -c '{configuration}' -s reload")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("nginx.conf")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("-q").arg("-c").arg(self.configuration()).args(arguments);
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.run(&["-s", "stop"]));
        // Its folder is needed until it has ended.
        let begun = Instant::now();
        while self.folder.path().join("nginx.pid").exists() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
