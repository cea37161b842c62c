//! The load generator and the harness around it: starts a server of its own on an empty data folder, loads it over HTTP,
//! and reports rates, latencies, processor time, memory and octets on disk beside what the machine can do at all.
//!
//! It shares the cores with the server, so it does as little as it can per request. It decides no test: a run fails when
//! a request does, never because it was slow.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::Value;

use crate::http::Target;
use crate::limits::Limits;
use crate::load::{Answer, Schedule, Workload};
use crate::place::Place;
use crate::postgres::Database;
use crate::report::{Aims, Company, InstallationRow, Kind, Report, Row, Transport};
use crate::requests::{Caller, CertificationRequest};
use crate::server::{Engine, Installation, Server};

mod http;
mod inventory;
mod latency;
mod limits;
mod load;
mod mqtt;
mod mqtt_fleet;
mod nodes;
mod ocsp;
mod overload;
mod place;
mod postgres;
mod process;
mod report;
mod requests;
mod revocation;
mod server;

/// A value, or what a person should read about why there is none.
type Outcome<T> = Result<T, String>;

/// Puts a subject before an error.
fn saying<E: Display>(subject: &str) -> impl Fn(E) -> String {
    move |error| format!("{subject}: {error}")
}

/// Measures a Chancery release build.
#[derive(Parser)]
enum Arguments {
    /// Start a server, load it, and write down what it did.
    Run(Options),
    /// Measure revocation in an authority with a million revoked certificates.
    Revocation(revocation::Options),
    /// Measure answers about the status of certificates (OCSP).
    Ocsp(ocsp::Options),
    /// Measure lists, searches, counts and issuing in an inventory of ten million certificates.
    Inventory(inventory::Options),
    /// Measure revocation and OCSP while ten times as much is asked for as can be answered.
    Overload(overload::Options),
    /// Measure MQTT beside mosquitto.
    Mqtt(mqtt::Options),
    /// Measure one, two and three servers on one PostgreSQL.
    Nodes(nodes::Options),
}

#[derive(clap::Args)]
struct Options {
    /// Measured seconds of each workload.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seconds of load before the measured ones.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Numbers of connections to try, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    connections: Vec<usize>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "status,issue,sign,mixed")]
    scenario: Vec<Scenario>,
    /// How requests travel.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "plain,tls")]
    transport: Vec<Carrier>,
    /// What the server keeps its inventory in.
    #[arg(long, value_enum, default_value = "sqlite")]
    engine: EngineName,
    /// A PostgreSQL database beside which one is made for each scenario, as `postgres://user@host:port/name`.
    #[arg(long, required_if_eq("engine", "postgres"))]
    database: Option<String>,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Scenario {
    /// `GET /api/status`: HTTP alone.
    Status,
    /// Certificates with P-256 keys that the server makes.
    Issue,
    /// Certificates for P-256 certification requests.
    Sign,
    /// RSA-2048 issuance on 4 connections beside P-256 issuance on 16.
    Mixed,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Carrier {
    Plain,
    Tls,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum EngineName {
    Sqlite,
    Postgres,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse() {
        Arguments::Run(options) => run(options),
        Arguments::Revocation(options) => revocation::run(&options).map(|()| Vec::new()),
        Arguments::Ocsp(options) => ocsp::run(&options).map(|()| Vec::new()),
        Arguments::Inventory(options) => inventory::run(&options).map(|()| Vec::new()),
        Arguments::Overload(options) => overload::run(&options).map(|()| Vec::new()),
        Arguments::Mqtt(options) => mqtt::run(&options).map(|()| Vec::new()),
        Arguments::Nodes(options) => nodes::run(&options).map(|()| Vec::new()),
    };
    match outcome {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("\nfailed:\n{}", failures.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("chancery-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything asked for, prints and writes the report, and returns what failed.
fn run(options: Options) -> Outcome<Vec<String>> {
    let bench = Bench::new(options)?;
    eprintln!("measuring the machine");
    let mut report = Report {
        circumstances: bench.circumstances(),
        cores: cores(),
        limits: Limits::measure(bench.folder.path(), &bench.certification_requests)?,
        rows: Vec::new(),
        installations: Vec::new(),
        aims: match bench.options.engine {
            EngineName::Sqlite => Aims::Shown,
            EngineName::Postgres => Aims::Hidden,
        },
    };
    for scenario in &bench.options.scenario {
        bench.measure(*scenario, &mut report)?;
    }
    let page = report.markdown();
    let failures: Vec<_> = report.rows.iter().filter_map(Row::failure).collect();
    let engine = match bench.options.engine {
        EngineName::Sqlite => "sqlite",
        EngineName::Postgres => "postgres",
    };
    if failures.is_empty() {
        bench.options.place.report(&format!("bench-{engine}"), &page)?;
    } else {
        print!("{page}");
    }
    Ok(failures)
}

/// What stays the same through a run.
struct Bench {
    options: Options,
    server: PathBuf,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    certification_requests: Vec<CertificationRequest>,
    at: jiff::Timestamp,
}

impl Bench {
    fn new(options: Options) -> Outcome<Self> {
        let (server, folder) = (options.place.server()?, options.place.folder()?);
        let runtime = load::generator(options.threads)?;
        let certification_requests = requests::certification_requests()?;
        Ok(Self { options, server, folder, runtime, certification_requests, at: jiff::Timestamp::now() })
    }

    /// One scenario on an installation of its own.
    fn measure(&self, scenario: Scenario, report: &mut Report) -> Outcome<()> {
        let name = scenario.to_possible_value().expect("no scenario is hidden").get_name().to_owned();
        let installation = self.installation(&name)?;
        let mut server = installation.start()?;
        installation.bootstrap(&mut server)?;
        let first_start = server.first_answer;
        server.stop()?;
        let octets_before = installation.octets_on_disk()?;

        let mut server = installation.start()?;
        let bootstrap = installation.bootstrap(&mut server)?;
        std::thread::sleep(Duration::from_secs(1));
        let idle_kib = process::resident_kib(server.pid())?;
        let rows = self.load(scenario, &server, &bootstrap)?;
        server.stop()?;

        let kind = rows.first().map_or(Kind::Status, |row| row.kind);
        let certificates = match kind {
            Kind::Status => 0,
            Kind::Issue | Kind::IssueRsa | Kind::Sign => rows.iter().map(|row| row.measured.answered).sum(),
        };
        let octets = installation.octets_on_disk()?.saturating_sub(octets_before);
        report.rows.extend(rows);
        // RSA and P-256 in one inventory would blur the size of both.
        if matches!(scenario, Scenario::Issue | Scenario::Sign) {
            let start = median_start(&installation)?;
            report.installations.push(InstallationRow { kind, idle_kib, first_start, start, certificates, octets });
        }
        Ok(())
    }

    fn installation(&self, name: &str) -> Outcome<Installation> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).map_err(saying("a data folder"))?;
        let engine = match (self.options.engine, &self.options.database) {
            (EngineName::Postgres, Some(url)) => {
                Engine::Postgres(Database::create(url, &format!("chancery_bench_{}_{name}", std::process::id()))?)
            }
            (EngineName::Postgres, None) => return Err("--engine postgres needs --database".to_owned()),
            (EngineName::Sqlite, _) => Engine::Sqlite,
        };
        Ok(Installation::new(&self.server, &folder, engine))
    }

    /// All workloads of a scenario against a running server.
    fn load(&self, scenario: Scenario, server: &Server, bootstrap: &Value) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for carrier in &self.options.transport {
            let (transport, target) = match carrier {
                Carrier::Plain => (Transport::Plain, server.plain()),
                Carrier::Tls => (Transport::Tls, server.tls(bootstrap)?),
            };
            let caller = self.runtime.block_on(Caller::login(&target, bootstrap))?;
            for turn in scenario.turns(&self.options.connections) {
                rows.extend(self.turn(&turn, transport, &target, &caller, server)?);
            }
        }
        Ok(rows)
    }

    /// Workloads beside each other.
    fn turn(
        &self,
        turn: &[(Kind, usize)],
        transport: Transport,
        target: &Target,
        caller: &Caller,
        server: &Server,
    ) -> Outcome<Vec<Row>> {
        let workloads: Vec<_> = turn
            .iter()
            .map(|&(kind, connections)| Workload {
                requests: match kind {
                    Kind::Status => [target.get("/api/status")].into(),
                    Kind::Issue => caller.issue(target, "EC_prime256v1"),
                    Kind::IssueRsa => caller.issue(target, "RSA_2048"),
                    Kind::Sign => caller.sign(target, &self.certification_requests),
                },
                connections,
                answer: match kind {
                    Kind::Status => Answer::Any,
                    Kind::Issue | Kind::IssueRsa | Kind::Sign => Answer::Certificate,
                },
            })
            .collect();
        let schedule = Schedule {
            warm_up: Duration::from_secs(self.options.warm_up),
            measured: Duration::from_secs(self.options.seconds),
        };
        let (measured, usage) = self.runtime.block_on(load::run(target, &workloads, schedule, server.pid()))?;
        let (company, mut usage) = if turn.len() > 1 { (Company::Mixed, None) } else { (Company::Alone, Some(usage)) };
        let rows: Vec<_> = turn
            .iter()
            .zip(measured)
            .map(|(&(kind, connections), measured)| Row {
                kind,
                company,
                transport,
                connections,
                measured,
                usage: usage.take(),
            })
            .collect();
        for row in &rows {
            eprintln!("{}", row.summary());
        }
        Ok(rows)
    }

    fn circumstances(&self) -> Vec<String> {
        let options = &self.options;
        vec![
            format!("{}, commit {}", self.at.strftime("%Y-%m-%d %H:%M UTC"), commit()),
            format!("{} cores of {}, {}", cores(), processor(), kernel()),
            match options.engine {
                EngineName::Sqlite => "SQLite".to_owned(),
                EngineName::Postgres => "PostgreSQL; its own processor time and memory are not counted".to_owned(),
            },
            format!(
                "{} s measured after {} s of warm-up, {} thread(s) of the load generator",
                options.seconds, options.warm_up, options.threads
            ),
        ]
    }
}

impl Scenario {
    /// What runs one after the other, and within each what runs at the same time: kinds and their connections.
    fn turns(self, connections: &[usize]) -> Vec<Vec<(Kind, usize)>> {
        let each = |kind| connections.iter().map(|connections| vec![(kind, *connections)]).collect();
        match self {
            Self::Status => each(Kind::Status),
            Self::Issue => each(Kind::Issue),
            Self::Sign => each(Kind::Sign),
            Self::Mixed => vec![vec![(Kind::Issue, 16)], vec![(Kind::Issue, 16), (Kind::IssueRsa, 4)]],
        }
    }
}

/// From process start to first answer on a data folder that is in use.
fn median_start(installation: &Installation) -> Outcome<Duration> {
    let mut starts = Vec::new();
    for _ in 0..5 {
        let mut server = installation.start()?;
        installation.bootstrap(&mut server)?;
        starts.push(server.first_answer);
        server.stop()?;
    }
    starts.sort_unstable();
    Ok(starts[starts.len() / 2])
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("an unnamed processor".to_owned(), |(_, model)| model.trim().to_owned())
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

fn commit() -> String {
    let output = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let found = output.ok().filter(|output| output.status.success());
    found.map_or("unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
