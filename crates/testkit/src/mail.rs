//! aiosmtpd: a mail server of somebody else's. It wants STARTTLS and a login, and keeps what it takes.

use crate::stand_ins::Material;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use x509::pem;

/// Where `scripts/install-test-tools` puts it, from this crate.
const PYTHON: &str = "../../.test/venv/bin/python";
const SCRIPT: &str = "../../tests/python/mail_sink.py";

/// A mail server of its own, which ends when this is dropped.
pub struct MailServer {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl MailServer {
    /// Who may log in.
    pub const USER: &'static str = "chancery";
    /// By this password.
    pub const PASSWORD: &'static str = "of nobody's business";

    /// Starts it, and waits until it listens.
    pub fn start() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = here.join(PYTHON);
        assert!(program.exists(), "{} is not there: run scripts/install-test-tools", program.display());
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let material = Material::p256("127.0.0.1");
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("there is room for a file");
            path
        };
        let certificate = |der: &[u8]| pem::encode(pem::CERTIFICATE, der);
        let chain = format!("{}\n{}\n", certificate(&material.leaf), certificate(&material.issuing));
        let (chain, key) = (written("chain.pem", &chain), written("key.pem", &format!("{}\n", material.key)));
        written("root.pem", &format!("{}\n", certificate(&material.root)));
        written("password", &format!("{}\n", Self::PASSWORD));
        let port = free_port();
        let mut process = Command::new(&program)
            .arg(here.join(SCRIPT))
            .arg(port.to_string())
            .args([&chain, &key])
            .args([Self::USER, Self::PASSWORD])
            .arg(folder.path().join("mails"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let mut line = String::new();
        let output = process.stdout.take().expect("its output is piped");
        BufReader::new(output).read_line(&mut line).expect("it says when it listens");
        assert_eq!(line.trim(), "listening", "the mail server ended before it listened");
        Self { process, port, folder }
    }

    /// Where it is, for STARTTLS.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// The root of its certificate, in PEM.
    pub fn root_file(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// The file of the password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Every mail that it took, in order: `from`, `to`, `text`, `tls`, `user`.
    pub fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("mails")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback is free");
    listener.local_addr().expect("a listener has an address").port()
}
