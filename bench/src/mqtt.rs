//! Devices over MQTT with mutual TLS, on Chancery and on mosquitto in the same run: connections a second, memory of a
//! connection, and messages a second from the devices to a registry that reads all of them.
//!
//! Both brokers get the same certificates, the same load and the same cores. A message is sent when one before it has
//! arrived at the reader, so many at once, so nothing is measured that a broker only queues or drops.

mod brokers;
mod client;
mod fleet;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{Outcome, cores, kernel, process, processor, saying};
use brokers::{Broker, Chancery, Mosquitto};
use client::Quality;
use fleet::Fleet;

#[derive(clap::Args)]
pub struct Options {
    /// Numbers of connected devices, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    devices: Vec<usize>,
    /// Measured seconds of messages.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seconds of messages before the measured ones.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Messages that are under way at once.
    #[arg(long, default_value_t = 1000)]
    window: usize,
    /// Octets of a payload.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Chancery's binary; by default `chancery` beside this one.
    #[arg(long)]
    server: Option<PathBuf>,
    /// mosquitto's binary.
    #[arg(long, default_value = "/usr/sbin/mosquitto")]
    mosquitto: PathBuf,
    /// Where the data folder is made; by default beside the server's binary.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where the report goes.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

/// What one broker did with so many devices.
struct Measured {
    connections_per_second: f64,
    kib_per_connection: f64,
    /// Messages a second of QoS 0 and of QoS 1.
    messages_per_second: [f64; 2],
}

/// Measures, prints and writes the report.
pub fn run(options: &Options) -> Outcome<()> {
    raise_file_limit()?;
    let own = std::env::current_exe().map_err(saying("this program"))?;
    let binary = options.server.clone().unwrap_or_else(|| own.with_file_name("chancery"));
    let parent = options.folder.clone().or(binary.parent().map(Into::into)).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(saying("the load generator"))?;
    let mut rows = Vec::new();
    for &count in &options.devices {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&parent).map_err(saying("a data folder"))?;
        eprintln!("making {count} devices");
        let fleet = Fleet::new(count)?;
        let chancery = {
            let broker = Chancery::start(&binary, folder.path(), &fleet, &runtime)?;
            runtime.block_on(measure(options, &broker, &fleet)).map_err(saying("chancery"))?
        };
        let mosquitto = match options.mosquitto.is_file() {
            true => {
                let broker = Mosquitto::start(&options.mosquitto, folder.path(), &fleet)?;
                Some(runtime.block_on(measure(options, &broker, &fleet)).map_err(saying("mosquitto"))?)
            }
            false => None,
        };
        rows.push((count, chancery, mosquitto));
    }
    let at = jiff::Timestamp::now();
    let page = report(options, at, &rows);
    print!("{page}");
    std::fs::create_dir_all(&options.results).map_err(saying("the results"))?;
    let file = options.results.join(format!("{}-mqtt.md", at.strftime("%Y-%m-%d-%H%M")));
    std::fs::write(&file, page).map_err(saying("the results"))?;
    eprintln!("\nwritten to {}", file.display());
    Ok(())
}

async fn measure(options: &Options, broker: &impl Broker, fleet: &Fleet) -> Outcome<Measured> {
    let mut reader = broker.reader(fleet).await?;
    let before = process::resident_kib(broker.pid())?;
    let began = Instant::now();
    let mut devices = fleet::connect(broker, fleet).await?;
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = process::resident_kib(broker.pid())?;
    let count = devices.len() as f64;
    let mut messages_per_second = [0.0; 2];
    for (place, quality) in [Quality::AtMostOnce, Quality::AtLeastOnce].into_iter().enumerate() {
        let load = fleet::Load {
            quality,
            window: options.window,
            payload: options.payload,
            warm_up: Duration::from_secs(options.warm_up),
            measured: Duration::from_secs(options.seconds),
        };
        messages_per_second[place] = fleet::publish(&mut reader, &mut devices, &load).await?;
    }
    let measured = Measured {
        connections_per_second: count / took.as_secs_f64(),
        kib_per_connection: after.saturating_sub(before) as f64 / count,
        messages_per_second,
    };
    eprintln!(
        "{}: {count} devices, {:.0} connections/s, {:.1} KiB each, {:.0} and {:.0} messages/s",
        broker.name(),
        measured.connections_per_second,
        measured.kib_per_connection,
        measured.messages_per_second[0],
        measured.messages_per_second[1]
    );
    Ok(measured)
}

fn report(options: &Options, at: jiff::Timestamp, rows: &[(usize, Measured, Option<Measured>)]) -> String {
    use std::fmt::Write as _;
    let mut page = format!(
        "# Devices over MQTT\n\n- {}\n- {} cores of {}, {}; the load generator is on the same cores, with one thread\n- mutual TLS, \
         P-256, no resumption; payloads of {} octets, {} under way; {} s measured after {} s of warm-up\n\n\
         | devices | what | Chancery | mosquitto | ratio |\n|---:|---|---:|---:|---:|\n",
        at.strftime("%Y-%m-%d %H:%M UTC"),
        cores(),
        processor(),
        kernel(),
        options.payload,
        options.window,
        options.seconds,
        options.warm_up
    );
    for (count, ours, theirs) in rows {
        let mut row = |what: &str, of: fn(&Measured) -> f64| {
            let ours = of(ours);
            let (theirs, ratio) = match theirs {
                None => ("–".to_owned(), "–".to_owned()),
                Some(theirs) => (format!("{:.1}", of(theirs)), format!("{:.2}", ours / of(theirs))),
            };
            // Writing to a text does not fail.
            let _ = writeln!(page, "| {count} | {what} | {ours:.1} | {theirs} | {ratio} |");
        };
        row("connections a second", |one| one.connections_per_second);
        row("KiB of memory for a connection", |one| one.kib_per_connection);
        row("messages a second, QoS 0", |one| one.messages_per_second[0]);
        row("messages a second, QoS 1", |one| one.messages_per_second[1]);
    }
    page
}

/// Each connection is a file here and in the broker, which inherits the limit.
fn raise_file_limit() -> Outcome<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(saying("the limit of open files"))
}
