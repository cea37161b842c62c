//! The program itself in a process of its own, started, signalled and killed as an operator or an accident does it, on a
//! data folder and a database that outlive it. Nothing of the server is linked in.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use testkit::{TestDatabase, TestEngine};

/// How long a start or an end may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder and an empty database of either engine. Servers run on it one after the other.
pub struct Site {
    database: TestDatabase,
    /// PostgreSQL, where that is the engine.
    url: Option<String>,
    data: PathBuf,
    starts: AtomicUsize,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A server process. Killed when this is dropped.
pub struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// A server that answers.
pub struct Server {
    pub process: Process,
    /// Where the first listener is.
    pub url: String,
}

impl Site {
    pub fn sqlite() -> Self {
        Self::on(TestDatabase::sqlite())
    }

    pub fn postgres() -> Self {
        Self::on(TestDatabase::postgres())
    }

    /// On a database that somebody else looks after.
    pub fn at(url: String) -> Self {
        Self { url: Some(url), ..Self::sqlite() }
    }

    /// With its data folder, and its SQLite file in it, somewhere else.
    pub fn sqlite_in(data: PathBuf) -> Self {
        Self { data, ..Self::sqlite() }
    }

    /// A second node: a folder of its own with the same master key, on the same database.
    pub fn node_beside(&self) -> Self {
        let node = Self::at(self.url.clone().unwrap());
        DirBuilder::new().mode(0o700).create(&node.data).unwrap();
        fs::copy(self.data.join("master.key"), node.data.join("master.key")).unwrap();
        node
    }

    fn on(database: TestDatabase) -> Self {
        let data = database.folder().join("data");
        let url = match database.engine() {
            TestEngine::SqlitePath(_) => None,
            TestEngine::PostgresUrl(url) => Some(url.clone()),
        };
        Self { database, url, data, starts: AtomicUsize::new(0) }
    }

    pub fn engine(&self) -> &'static str {
        if self.is_sqlite() { "sqlite" } else { "postgresql" }
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.is_none()
    }

    /// The URL of the PostgreSQL database.
    pub fn database_url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A path beside the data folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.database.folder().join(name)
    }

    /// The program with this folder and this database in its environment, and with nothing of the test's own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_command(arguments);
        command.env("CHANCERY_DATA", &self.data);
        if let Some(url) = self.database_url() {
            command.env("CHANCERY_DATABASE_URL", url);
        }
        command
    }

    /// The program without a word about where anything is.
    pub fn bare_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CHANCERY_")) {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(self.database.folder()).env("HOME", self.database.folder());
        // Many servers run at once: what they do not need is not to be looked for at its usual place.
        command.env("CHANCERY_MQTT_LISTEN", "off").env("CHANCERY_MQTT_WS_LISTEN", "off");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments))
    }

    /// `serve` on a free port, as a command that is still to be changed.
    pub fn serve(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["serve"]);
        command.args(arguments).env("CHANCERY_LISTEN", "127.0.0.1:0");
        command
    }

    /// Starts a server and waits until it answers.
    pub fn start(&self) -> Server {
        self.start_as(self.serve(&[]))
    }

    /// Starts this server and waits until it answers.
    pub fn start_as(&self, command: Command) -> Server {
        self.launch(command).ready()
    }

    /// Starts a server and waits for nothing. It leads a process group of its own.
    pub fn launch(&self, mut command: Command) -> Process {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.path(&format!("{number}.out")), self.path(&format!("{number}.err")));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Process { child: command.process_group(0).spawn().unwrap(), out, err }
    }

    /// What bootstrap.json says.
    pub fn facts(&self) -> Value {
        let text = fs::read_to_string(self.data.join("bootstrap.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A fact of bootstrap.json that is a text.
    pub fn fact(&self, pointer: &str) -> String {
        self.facts().pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no fact {pointer}")).to_owned()
    }

    /// Runs statements behind the server's back.
    pub fn execute(&self, sql: &str) {
        match self.database_url() {
            None => self.sqlite_file().execute_batch(sql).unwrap(),
            Some(url) => postgres(url, sql, |_| ()),
        }
    }

    /// The one number that a query gives.
    pub fn count(&self, sql: &str) -> i64 {
        match self.database_url() {
            None => self.sqlite_file().query_row(sql, [], |row| row.get(0)).unwrap(),
            Some(url) => postgres(url, sql, |messages| first_value(messages).unwrap().parse().unwrap()),
        }
    }

    /// The one value of octets that a query gives.
    pub fn octets(&self, expression: &str, from: &str) -> Vec<u8> {
        let function =
            if self.is_sqlite() { format!("hex({expression})") } else { format!("encode({expression}, 'hex')") };
        let hex = self.text(&format!("SELECT {function} FROM {from}"));
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    /// Octets as they are written in a statement.
    pub fn literal(&self, octets: &[u8]) -> String {
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        if self.is_sqlite() { format!("X'{hex}'") } else { format!("'\\x{hex}'::bytea") }
    }

    /// The one text that a query gives.
    pub fn text(&self, sql: &str) -> String {
        match self.database_url() {
            None => self.sqlite_file().query_row(sql, [], |row| row.get(0)).unwrap(),
            Some(url) => postgres(url, sql, |messages| first_value(messages).unwrap()),
        }
    }

    /// All rows that a query gives, as texts.
    pub fn table(&self, sql: &str) -> Vec<Vec<String>> {
        match self.database_url() {
            None => {
                let file = self.sqlite_file();
                let mut statement = file.prepare(sql).unwrap();
                let columns = statement.column_count();
                let read = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
                statement.query_map([], read).unwrap().map(Result::unwrap).collect()
            }
            Some(url) => postgres(url, sql, |messages| messages.iter().filter_map(texts).collect()),
        }
    }

    /// An expression of octets as lower-case hexadecimal digits.
    pub fn hex(&self, expression: &str) -> String {
        match self.is_sqlite() {
            true => format!("lower(hex({expression}))"),
            false => format!("encode({expression}, 'hex')"),
        }
    }

    fn sqlite_file(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.data.join("chancery.db")).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection
    }

    /// Asserts that the inventory and the audit are without a finding.
    #[track_caller]
    pub fn check_clean(&self) {
        for arguments in [["fsck", "--json"], ["audit", "verify"]] {
            let ran = self.run(&arguments);
            assert_eq!(ran.code, Some(0), "{} on {}: {}{}", arguments[0], self.engine(), ran.out, ran.err);
        }
    }
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Asserts that it failed, and that what it said on standard error holds these words.
    #[track_caller]
    pub fn failed_with(&self, words: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains(words), "{words:?} is not in {self:?}");
    }
}

impl Process {
    /// Waits until the server says that it answers, by when it has written down where.
    pub fn ready(mut self) -> Server {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(url) = ready_url(&self.err_text()) {
                return Server { process: self, url };
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "no server: {ended:?}\n{}", self.err_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output.
    pub fn out_text(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// What it has written to standard output, once these words are there.
    pub fn printed(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while !self.out_text().contains(words) {
            assert!(Instant::now() < deadline, "{words:?} is not in {}", self.out_text());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.out_text()
    }

    /// What it has written to standard error: its log.
    pub fn err_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    /// SIGKILL, as the kernel does it, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// SIGTERM to the process group.
    pub fn terminate(&self) {
        rustix::process::kill_process_group(self.pid(), Signal::TERM).unwrap();
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end\n{}", self.err_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of a start that must fail, and gives what it said.
    #[track_caller]
    pub fn refused(mut self) -> String {
        let status = self.wait();
        assert_eq!(status.code(), Some(1), "{}", self.err_text());
        self.err_text()
    }

    /// The most memory that it has had, in KiB.
    pub fn peak_memory_kib(&self) -> i64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// SIGKILL.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Ends it as an operator does, and asserts that it ended well.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.terminate();
        let status = self.process.wait();
        assert!(status.success(), "{status}\n{}", self.process.err_text());
    }
}

/// The address in the line of the log that tells that the server answers.
fn ready_url(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("chancery is ready"))?;
    let line: Value = serde_json::from_str(line).ok()?;
    Some(line["url"].as_str()?.to_owned())
}

/// The program that belongs to this test, beside which `cargo` builds it.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("chancery");
    assert!(program.exists(), "{} is not built: run `cargo build --bins` first", program.display());
    program
}

/// The library that puts the clock of a process wrong.
pub fn faketime() -> PathBuf {
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"].into_iter().find_map(|machine| {
        let path = PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketime.so.1"));
        path.exists().then_some(path)
    });
    found.expect("libfaketime is not installed: run scripts/install-test-tools first")
}

/// Runs an asynchronous test to its end.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// Runs a test once on each engine.
pub fn on_both_engines(test: impl Fn(&Site)) {
    for site in [Site::sqlite as fn() -> Site, Site::postgres] {
        let site = site();
        eprintln!("on {}", site.engine());
        test(&site);
    }
}

fn texts(message: &tokio_postgres::SimpleQueryMessage) -> Option<Vec<String>> {
    match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).unwrap().to_owned()).collect())
        }
        _ => None,
    }
}

fn first_value(messages: &[tokio_postgres::SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// Runs statements over the simple protocol, inside and outside of a runtime.
fn postgres<T: Send>(url: &str, sql: &str, read: impl Fn(&[tokio_postgres::SimpleQueryMessage]) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
                let driver = tokio::spawn(connection);
                let messages = client.simple_query(sql).await.unwrap();
                driver.abort();
                read(&messages)
            })
        };
        scope.spawn(run).join().unwrap()
    })
}
