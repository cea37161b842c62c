//! A server of the real binary in a process of its own, and the same binary as its client.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{TestDatabase, TestEngine};

/// A running server and the folder in which commands run.
pub struct Live {
    server: Option<Child>,
    folder: tempfile::TempDir,
    database: TestDatabase,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a test once on each engine.
pub fn on_both_engines(test: impl Fn(&mut Live)) {
    for database in [TestDatabase::sqlite as fn() -> TestDatabase, TestDatabase::postgres] {
        let mut live = Live::new(database());
        eprintln!("on {}", live.database.engine().name());
        live.start();
        test(&mut live);
    }
}

impl Live {
    fn new(database: TestDatabase) -> Self {
        Self { server: None, folder: tempfile::tempdir().unwrap(), database }
    }

    /// Starts the server and waits until it says that it answers, by when it has written down where.
    pub fn start(&mut self) {
        let mut command = self.command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"]);
        command.env("CHANCERY_MQTT_LISTEN", "127.0.0.1:0").env("CHANCERY_MQTT_WS_LISTEN", "127.0.0.1:0");
        let places = self.path("places");
        fs::create_dir_all(&places).unwrap();
        command.env("CHANCERY_EGRESS_ALLOW", "127.0.0.0/8").env("CHANCERY_LOCAL_DIRECTORIES", places);
        let log = fs::File::create(self.path("serve.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.log().contains("chancery is ready") {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "no server: {ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server as an operator does, and waits.
    pub fn stop(&mut self) {
        let mut server = self.server.take().unwrap();
        let ended = Command::new("kill").arg(server.id().to_string()).status().unwrap();
        assert!(ended.success());
        assert!(server.wait().unwrap().success(), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("serve.log")).unwrap_or_default()
    }

    /// A path in the folder in which commands run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file there.
    pub fn write(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// Reads a file there.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Changes the database behind the server's back.
    pub fn change_database(&self, sql: &str) {
        match self.database.engine() {
            TestEngine::SqlitePath(_) => {
                let file = rusqlite::Connection::open(self.path("data/chancery.db")).unwrap();
                file.busy_timeout(Duration::from_secs(30)).unwrap();
                file.execute_batch(sql).unwrap();
            }
            TestEngine::PostgresUrl(url) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
                    tokio::spawn(connection);
                    client.batch_execute(sql).await.unwrap();
                });
            }
        }
    }

    /// The mode of a file there.
    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// What the server wrote down about itself.
    pub fn fact(&self, name: &str) -> String {
        let facts: Value = serde_json::from_str(&self.read("data/bootstrap.json")).unwrap();
        facts[name].as_str().unwrap().to_owned()
    }

    /// The binary, with nothing of this process's environment that could matter, in a folder of its own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHANCERY_") {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.path("home")).env_remove("XDG_CONFIG_HOME").current_dir(self.folder.path());
        if let TestEngine::PostgresUrl(url) = self.database.engine() {
            command.env("CHANCERY_DATABASE_URL", url);
        }
        command
    }

    /// Runs a command line, split at blanks.
    pub fn run(&self, line: &str) -> Ran {
        self.run_with(&line.split_whitespace().collect::<Vec<_>>(), &[], "")
    }

    /// Runs a command in an environment and with something on standard input.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Ran {
        let mut command = self.command();
        command.args(arguments).envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Succeeds, and prints for people what it has to say.
    #[track_caller]
    pub fn says(&self, line: &str, expected: &[&str]) -> String {
        let out = self.run(line).succeeded(line);
        for part in expected {
            assert!(out.contains(part), "{line}: {part} is not in\n{out}");
        }
        out
    }

    /// Succeeds, and prints JSON for scripts.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let out = self.run(&format!("{line} --json")).succeeded(line);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}\n{out}"))
    }

    /// Fails with a message, and prints nothing else.
    #[track_caller]
    pub fn fails(&self, line: &str, code: i32, expected: &str) -> String {
        self.run(line).failed(line, code, expected)
    }
}

impl Ran {
    /// What a command printed that succeeded and had nothing to complain about.
    #[track_caller]
    pub fn succeeded(self, line: &str) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{line}\n{}", self.out);
        self.out
    }

    /// What a command complained about that failed.
    #[track_caller]
    pub fn failed(self, line: &str, code: i32, expected: &str) -> String {
        assert_eq!(self.code, Some(code), "{line}\n{}\n{}", self.out, self.err);
        assert!(
            self.err.starts_with("error: ") && self.err.contains(expected),
            "{line}: {expected} is not in\n{}",
            self.err
        );
        assert_eq!(self.out, "", "{line}");
        self.err
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Runs OpenSSL in a folder.
#[track_caller]
pub fn openssl(folder: &Path, line: &str) -> String {
    let output = Command::new("openssl").args(line.split_whitespace()).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "openssl {line}\n{}", text(&output.stderr));
    text(&output.stdout)
}

/// The binary that was built beside this test.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).unwrap().join("chancery");
    assert!(binary.exists(), "{} is not there; build it with: cargo build --bins", binary.display());
    binary
}
