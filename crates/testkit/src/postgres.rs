//! PostgreSQL for tests, from the system's packages: one server that all tests of this machine share, and private ones
//! for tests that need settings of their own or stop the server.
//!
//! The shared server is left running, because the next test process wants it too.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Makes an empty database on the shared server and gives its URL.
pub(crate) fn create_database() -> String {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    let cluster = SHARED.get_or_init(start_shared);
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    cluster.administer(&format!("CREATE DATABASE {name}"));
    cluster.url(&name)
}

/// Removes a database that [`create_database`] made, together with what is still connected to it.
pub(crate) fn drop_database(url: &str) {
    let Some((base, name)) = url.rsplit_once('/') else { return };
    let (name, _) = name.split_once('?').unwrap_or((name, ""));
    // A test that failed may have stopped the server; then there is nothing to remove.
    drop(run_sql(&format!("{base}/postgres"), &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
}

/// A client program of PostgreSQL, as `pg_dump`, run as whoever runs the test.
///
/// # Panics
/// If PostgreSQL is not installed; the message names the package.
pub fn client(program: &str) -> Command {
    Command::new(binaries().join(program))
}

/// A server of one test's own.
#[derive(Debug)]
pub struct PrivateCluster {
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl PrivateCluster {
    /// Starts a server with lines for `postgresql.conf`, such as `fsync = off`.
    ///
    /// # Panics
    /// If PostgreSQL is not installed; the message names the package.
    pub fn start(settings: &[&str]) -> Self {
        let (folder, cluster) = Cluster::in_a_folder();
        cluster.initialize(settings);
        cluster.start();
        Self { cluster, _folder: folder }
    }

    /// The same with its data in a folder of the caller's.
    pub fn start_in(folder: &Path, settings: &[&str]) -> Self {
        let holder = tempfile::tempdir_in(folder).expect("a folder in it");
        // The server's user has to get there.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, open).expect("the folder is the caller's");
        open_to_server(holder.path());
        let cluster = Cluster { data: holder.path().join("data"), port: free_port() };
        cluster.initialize(settings);
        cluster.start();
        Self { cluster, _folder: holder }
    }

    /// Starts the server again if it has ended by itself.
    pub fn start_if_it_ended(&self) {
        // One that recovers from a crash runs.
        if !self.cluster.is_running() {
            self.cluster.start();
        }
    }

    /// Starts a server that follows another one by streaming replication, and takes no changes.
    pub fn start_standby_of(primary: &Self) -> Self {
        let (folder, cluster) = Cluster::in_a_folder();
        cluster.copy_of(&primary.cluster);
        cluster.start();
        Self { cluster, _folder: folder }
    }

    /// Throws its data away and follows another server from now on, at its old address.
    pub fn follow(&self, primary: &Self) {
        fs::remove_dir_all(&self.cluster.data).expect("a folder that nobody uses");
        self.cluster.copy_of(&primary.cluster);
        self.cluster.start();
    }

    /// Waits until a standby follows, and answers no commit from now on before the standby has it, too.
    pub fn wait_for_standby(&self) {
        self.cluster.administer("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.cluster.administer("SELECT pg_reload_conf()");
        let wait = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync') LOOP \
                    PERFORM pg_sleep(0.02); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$";
        self.cluster.administer(&format!("SET statement_timeout = '60s'; {wait}"));
    }

    /// Waits for no standby any more.
    pub fn commit_alone(&self) {
        self.cluster.administer("ALTER SYSTEM RESET synchronous_standby_names");
        self.cluster.administer("SELECT pg_reload_conf()");
    }

    /// Lets a standby take changes from now on.
    pub fn promote(&self) {
        self.cluster.control(&["promote", "-w"]);
    }

    /// Where its servers are, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.cluster.port)
    }

    /// Stops every process of the server in its tracks: connections stay open, and nothing is answered.
    pub fn freeze(&self) {
        self.cluster.signal_all("STOP");
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.cluster.signal_all("CONT");
    }

    /// Runs statements on its one database.
    ///
    /// # Panics
    /// If they are refused.
    pub fn execute(&self, sql: &str) {
        self.cluster.administer(sql);
    }

    /// The URL of its one database.
    pub fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    /// Starts the server again after [`PrivateCluster::stop`].
    pub fn start_again(&self) {
        self.cluster.start();
    }

    /// Ends the server in good order, whoever is connected.
    pub fn stop_in_order(&self) {
        self.cluster.control(&["stop", "-w", "-m", "fast"]);
    }

    /// Ends the server at once, as a crash would.
    pub fn stop(&self) {
        self.cluster.control(&["stop", "-m", "immediate"]);
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        self.thaw();
        drop(self.cluster.command("pg_ctl").args(["stop", "-m", "immediate"]).output());
    }
}

/// A folder of data and the port on which its server listens.
#[derive(Debug)]
struct Cluster {
    data: PathBuf,
    port: u16,
}

impl Cluster {
    /// A place for a server that is not there yet.
    fn in_a_folder() -> (tempfile::TempDir, Self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        open_to_server(folder.path());
        let cluster = Self { data: folder.path().join("data"), port: free_port() };
        (folder, cluster)
    }

    /// Makes these data of those of a server that runs, which they are to follow.
    fn copy_of(&self, primary: &Self) {
        let mut copy = self.command("pg_basebackup");
        let url = format!("postgresql://postgres@127.0.0.1:{}/", primary.port);
        copy.args(["--wal-method=stream", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        copy.arg(format!("--dbname={url}")).arg(format!("--pgdata={}", self.data.display()));
        finish(copy);
    }

    /// Sends a signal to the server and to every process that it has started.
    fn signal_all(&self, signal: &str) {
        let first = fs::read_to_string(self.data.join("postmaster.pid")).ok();
        let Some(first) = first.as_deref().and_then(|text| text.lines().next()) else { return };
        let mut kill = Command::new("sh");
        // The first process stops first, so that it starts no others.
        kill.arg("-c").arg(format!("kill -{signal} {first}; kill -{signal} $(ps -o pid= --ppid {first}) 2>/dev/null"));
        drop(kill.output());
    }

    /// Without a password, over the loopback: the data are of a test.
    fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn initialize(&self, settings: &[&str]) {
        let mut command = self.command("initdb");
        command.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        finish(command);
        let socket_folder = self.data.parent().expect("the data are in a folder").display();
        let mut text = format!(
            "\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{socket_folder}'\n\
             max_connections = 300\nshared_buffers = 64MB\nfsync = on\n"
        );
        for line in settings {
            text.push_str(line);
            text.push('\n');
        }
        let file = self.data.join("postgresql.conf");
        let before = fs::read_to_string(&file).expect("initdb wrote the configuration");
        fs::write(&file, before + &text).expect("the configuration can be written");
    }

    fn start(&self) {
        finish(self.start_command());
    }

    fn start_command(&self) -> Command {
        let mut command = self.command("pg_ctl");
        command.args(["start", "-w", "-t", "60", "-l"]).arg(self.data.join("log"));
        command.arg("-o").arg(format!("-p {}", self.port));
        command
    }

    fn is_running(&self) -> bool {
        self.command("pg_ctl").arg("status").output().is_ok_and(|output| output.status.success())
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = self.command("pg_ctl");
        command.args(arguments);
        finish(command);
    }

    /// A program of PostgreSQL on these data. The server refuses to run as root, so root becomes `postgres`.
    fn command(&self, program: &str) -> Command {
        let path = binaries().join(program);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(path);
                command
            }
            false => Command::new(path),
        };
        // A folder that every user may be in.
        command.current_dir("/").env("PGDATA", &self.data).env("LC_ALL", "C.UTF-8");
        command
    }

    fn administer(&self, sql: &str) {
        run_sql(&self.url("postgres"), sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// Starts the server that all tests of this user on this machine share, unless it runs.
fn start_shared() -> Cluster {
    let user = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    let folder = std::env::temp_dir().join(format!("chancery-test-postgres-{user}"));
    fs::create_dir_all(&folder).expect("a folder for PostgreSQL");
    open_to_server(&folder);
    let guard = lock(&folder.join("lock"));
    let port_file = folder.join("port");
    let known = fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse().ok());
    let mut cluster = Cluster { data: folder.join("data"), port: known.unwrap_or(0) };
    if known.is_none() || !cluster.is_running() {
        cluster.port = free_port();
        // What is left of an interrupted start or of another release is made anew.
        if !cluster.data.exists() || !run(cluster.start_command()).0 {
            drop(fs::remove_dir_all(&cluster.data));
            cluster.initialize(&[]);
            cluster.start();
        }
        fs::write(&port_file, cluster.port.to_string()).expect("the port can be written");
    }
    drop(guard);
    cluster
}

/// Held until it is dropped; other test processes wait.
fn lock(path: &Path) -> File {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("a lock file");
    file.lock().expect("the lock");
    file
}

/// Lets the user `postgres` write into a folder of root's.
fn open_to_server(folder: &Path) {
    if is_root() {
        let mut command = Command::new("chown");
        command.arg("postgres").arg(folder);
        finish(command);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The folder of the newest installed PostgreSQL's programs.
fn binaries() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let mut found: Vec<(u32, PathBuf)> =
            versions.filter_map(|entry| Some((number(&entry.path())?, entry.path().join("bin")))).collect();
        found.retain(|(_, folder)| folder.join("initdb").exists());
        found.sort();
        found.pop().map(|(_, folder)| folder).or_else(configured_binaries).unwrap_or_else(|| {
            panic!("PostgreSQL is not installed: install the Debian package `postgresql` (15 or newer)")
        })
    })
}

/// Where `pg_config` says that they are.
fn configured_binaries() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    folder.join("initdb").exists().then_some(folder)
}

/// Runs a program of the system and wants it to succeed.
fn finish(command: Command) {
    let text = format!("{command:?}");
    let (succeeded, output) = run(command);
    assert!(succeeded, "{text}: {output}");
}

/// Runs a program and says whether it succeeded, and what it wrote.
fn run(mut command: Command) -> (bool, String) {
    // The server inherits what the starting program writes to, so it must not be a pipe that we wait on.
    let log = tempfile::tempfile().expect("a temporary file");
    command.stdout(log.try_clone().expect("a second handle")).stderr(log.try_clone().expect("a third handle"));
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (status.success(), text_of(log))
}

fn text_of(mut file: File) -> String {
    use std::io::{Read, Seek};
    let mut text = String::new();
    // What cannot be read is missing from a message, no more.
    drop(file.rewind().and_then(|()| file.read_to_string(&mut text)));
    text
}

/// Runs one statement on a connection of its own. Works inside and outside of an asynchronous runtime.
fn run_sql(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
                let driver = tokio::spawn(connection);
                let result = client.batch_execute(sql).await;
                driver.abort();
                result
            })
        };
        scope.spawn(run).join().expect("the statement does not panic")
    })
}
