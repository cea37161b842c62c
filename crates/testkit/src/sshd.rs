//! OpenSSH's server for tests, from the system's package: one server of one test, on a free port of the loopback, that lets
//! the user of the test in by a key.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running sshd. It ends when it is dropped; sessions that are open end with it.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Sshd {
    /// Starts a server with these lines in its configuration ahead of the usual ones.
    ///
    /// # Panics
    /// If OpenSSH's server is not installed; the message names the package.
    pub fn start(settings: &[&str]) -> Self {
        let program = crate::programs::find("sshd", "openssh-server");
        let folder = tempfile::tempdir().expect("a temporary folder");
        make_key(&folder.path().join("host_ed25519"), "ed25519", "");
        make_key(&folder.path().join("host_ecdsa"), "ecdsa", "");
        make_key(&folder.path().join("client"), "ed25519", "");
        make_key(&folder.path().join("client_sealed"), "rsa", "open sesame");
        let keys: String = ["client.pub", "client_sealed.pub"]
            .map(|name| fs::read_to_string(folder.path().join(name)).expect("ssh-keygen wrote the public key"))
            .concat();
        fs::write(folder.path().join("authorized_keys"), keys).expect("the keys can be written");
        if user() == "root" {
            // Where sshd wants to shut its unprivileged half away.
            fs::create_dir_all("/run/sshd").expect("root can make the folder");
        }
        let port = crate::programs::free_port();
        let home = folder.path().display();
        // The first of two lines about the same thing holds.
        let mut text: String = settings.iter().map(|line| format!("{line}\n")).collect();
        text.push_str(&format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {home}/host_ed25519\nHostKey {home}/host_ecdsa\nPidFile none\n\
             AuthorizedKeysFile {home}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication yes\n\
             PermitRootLogin yes\nUseDNS no\nLogLevel VERBOSE\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
        ));
        fs::write(folder.path().join("sshd_config"), text).expect("the configuration can be written");
        let log = File::create(folder.path().join("log")).expect("the log can be written");
        let child = Command::new(&program)
            .args(["-D", "-e", "-f"])
            .arg(folder.path().join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut sshd = Self { child, folder, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = sshd.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "sshd does not listen: {}", sshd.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user that it lets in.
    pub fn user(&self) -> String {
        user()
    }

    /// A private key that it lets in, in OpenSSH's form.
    pub fn client_key(&self) -> String {
        self.text("client")
    }

    /// Another one, an RSA key, and what it is sealed with.
    pub fn sealed_client_key(&self) -> (String, String) {
        (self.text("client_sealed"), "open sesame".into())
    }

    /// Its host keys, Ed25519 and ECDSA, as `type base64`.
    pub fn host_keys(&self) -> [String; 2] {
        ["host_ed25519.pub", "host_ecdsa.pub"].map(|name| {
            let text = self.text(name);
            text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
        })
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.text("log")
    }

    fn text(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        fs::read(&path).map_or_else(
            |error| panic!("{}: {error}", path.display()),
            |octets| String::from_utf8_lossy(&octets).into_owned(),
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn make_key(path: &Path, kind: &str, passphrase: &str) {
    let program: PathBuf = crate::programs::find("ssh-keygen", "openssh-client");
    let mut command = Command::new(program);
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(path);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id is everywhere");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
