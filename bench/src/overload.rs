//! Ten times as many certificates as the server can make, for minutes, with thousands of idle connections and slow senders
//! beside it: what becomes of each request, what the server holds in memory, and how soon it revokes and answers by OCSP,
//! compared with how soon it does when nobody else asks.
//!
//! The flood is offered by the clock: a request that is due is sent whether earlier ones were answered or not, as long as
//! there is a connection; what finds none is counted apart. It shares the cores with the server, and stands back there as
//! clients on other machines do. Who revokes has a thread of its own, so that no answer of the flood is read before its.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setpriority_process, setrlimit};
use rustix::thread::gettid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;
use x509::{Certificate, OcspAnswer};

use crate::http::{Connection, Target};
use crate::latency::Latencies;
use crate::load::{self, Answer, Schedule, Workload};
use crate::ocsp::Asking;
use crate::place::Place;
use crate::requests::{self, Caller};
use crate::server::{Engine, Installation, Server};
use crate::{Outcome, commit, cores, kernel, process, processor, saying};

#[derive(clap::Args)]
pub struct Options {
    /// Seconds of the flood.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Seconds of the measurement before it, when nobody else asks.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// The flood, as a multiple of what the server can make.
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// Connections of the flood.
    #[arg(long, default_value_t = 4000)]
    connections: usize,
    /// Connections on which nothing is sent.
    #[arg(long, default_value_t = 5000)]
    idle_sockets: usize,
    /// Connections on which an octet is sent each second.
    #[arg(long, default_value_t = 200)]
    slow_senders: usize,
    /// Revocations a second, and questions to OCSP.
    #[arg(long, default_value_t = 10)]
    urgent_per_second: u64,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    place: Place,
}

/// How long the rate is measured that the server can answer.
const CALIBRATION: Schedule = Schedule { warm_up: Duration::from_secs(1), measured: Duration::from_secs(4) };
/// How many connections measure it.
const CALIBRATION_CONNECTIONS: usize = 64;
/// How long a request may go unanswered. The server's own limit is a minute.
const PATIENCE: Duration = Duration::from_secs(70);
/// How far the threads of the flood stand back.
const NICE: i32 = 10;
/// Files that are open beside the connections.
const FILES_BESIDE: usize = 512;

/// What became of the requests of the flood.
#[derive(Default)]
struct Flood {
    sent: AtomicU64,
    made: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    unanswered: AtomicU64,
}

/// How soon the urgent requests were answered.
struct Urgent {
    revoked: Latencies,
    asked: Latencies,
    /// Those that were not answered as they should be, and the first of them.
    failures: usize,
    first_failure: Option<String>,
}

/// What was found.
struct Found {
    rate: f64,
    /// How long the flood was kept up.
    flood_time: Duration,
    idle: Urgent,
    flooded: Urgent,
    flood: Arc<Flood>,
    idle_sockets: usize,
    resident_before_kib: u64,
    resident_max_kib: u64,
}

/// Measures, prints and writes the report.
pub fn run(options: &Options) -> Outcome<()> {
    let idle_sockets = options
        .idle_sockets
        .min(raised_files().saturating_sub(FILES_BESIDE + options.connections + options.slow_senders));
    let binary = options.place.server()?;
    let folder = options.place.folder()?;
    let crowd = crowd(options.threads)?;
    let alone = Builder::new_current_thread().enable_all().build().map_err(saying("the load generator"))?;
    let installation = Installation::new(&binary, folder.path(), Engine::Sqlite);
    let mut server = installation.start()?;
    let bootstrap = installation.bootstrap(&mut server)?;
    let found = alone.block_on(measure(options, &server, &bootstrap, idle_sockets, crowd.handle()))?;
    crowd.shutdown_background();
    server.stop()?;
    options.place.report("overload", &page(options, &found))?;
    let unanswered = found.flood.unanswered.load(Ordering::Relaxed);
    let failed = found.flood.failed.load(Ordering::Relaxed);
    match found.idle.first_failure.or(found.flooded.first_failure) {
        Some(failure) => Err(format!("an urgent request: {failure}")),
        None if unanswered + failed > 0 => Err(format!("{unanswered} requests were not answered, {failed} failed")),
        None => Ok(()),
    }
}

/// How many files this process may have open, and the server that it starts, after asking for as many as it may have.
fn raised_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused, there are fewer idle connections, and the report says how many.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// What the flood runs on: threads that get what the server and the urgent requests leave.
fn crowd(threads: usize) -> Outcome<Runtime> {
    let step_back = || {
        // Where that is refused, the server is measured with less of the processor than it could have.
        let _ = setpriority_process(Some(gettid()), NICE);
    };
    Builder::new_multi_thread()
        .worker_threads(threads)
        .on_thread_start(step_back)
        .enable_all()
        .build()
        .map_err(saying("the load generator"))
}

async fn measure(
    options: &Options,
    server: &Server,
    bootstrap: &Value,
    idle_sockets: usize,
    crowd: &Handle,
) -> Outcome<Found> {
    let target = server.plain();
    let caller = Arc::new(Caller::login(&target, bootstrap).await?);
    let asking = Arc::new(Asking::of(&requests::issued(&target, bootstrap).await?)?);
    let wanted = (options.seconds + options.idle_seconds) * options.urgent_per_second;
    eprintln!("issuing {wanted} certificates that are revoked later");
    let mut certificates = issue(&target, &caller, usize::try_from(wanted).map_err(saying("so many"))?).await?;

    let workload = [Workload {
        requests: caller.issue(&target, "EC_prime256v1"),
        connections: CALIBRATION_CONNECTIONS,
        answer: Answer::Certificate,
    }];
    let (measured, _) = load::run(&target, &workload, CALIBRATION, server.pid()).await?;
    let rate = measured.first().map_or(0.0, |measured| measured.rate);
    if let Some(error) = measured.first().and_then(|measured| measured.first_error.as_ref()) {
        return Err(format!("the rate of the server: {error}"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let resident_before_kib = process::resident_kib(server.pid())?;

    eprintln!(
        "{} s with nobody else, then {} s of {} × {rate:.0} a second",
        options.idle_seconds, options.seconds, options.times
    );
    let first = usize::try_from(options.idle_seconds * options.urgent_per_second).map_err(saying("so many"))?;
    let later = certificates.split_off(first.min(certificates.len()));
    let interval = Duration::from_secs(1) / u32::try_from(options.urgent_per_second.max(1)).unwrap_or(u32::MAX);
    let idle = urgent(&target, &caller, &asking, certificates, interval).await?;

    let over = Arc::new(AtomicBool::new(false));
    let (flood, mut company) = (Arc::new(Flood::default()), JoinSet::new());
    (0..idle_sockets).for_each(|_| drop(company.spawn_on(stay_idle(target.clone(), over.clone()), crowd)));
    (0..options.slow_senders).for_each(|_| drop(company.spawn_on(send_slowly(target.clone(), over.clone()), crowd)));
    let requests = caller.issue(&target, "EC_prime256v1");
    let due = Arc::new(Due { begun: Instant::now(), rate: rate * options.times as f64, next: AtomicU64::new(0) });
    let mut senders = JoinSet::new();
    for _ in 0..options.connections {
        let (target, requests, due) = (target.clone(), requests.clone(), due.clone());
        senders.spawn_on(send(target, requests, due, flood.clone(), over.clone()), crowd);
    }
    let watched = tokio::spawn(watch_memory(server.pid(), over.clone()));
    let flooded = urgent(&target, &caller, &asking, later, interval).await?;
    over.store(true, Ordering::Relaxed);
    let flood_time = due.begun.elapsed();
    // Each of them waits for its last answer.
    while let Some(ended) = senders.join_next().await {
        ended.map_err(saying("a client"))?;
    }
    company.abort_all();
    let resident_max_kib = watched.await.map_err(saying("the memory of the server"))??;
    Ok(Found { rate, flood_time, idle, flooded, flood, idle_sockets, resident_before_kib, resident_max_kib })
}

/// Certificates with their ids and serial numbers.
async fn issue(target: &Target, caller: &Caller, count: usize) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut connection = Connection::open(target).await.map_err(saying("the server"))?;
    let mut certificates = Vec::with_capacity(count);
    for request in caller.issue(target, "EC_prime256v1").iter().cycle().take(count) {
        let reply = connection.exchange(request).await.map_err(saying("a certificate"))?;
        let answer: Value = serde_json::from_slice(reply.body).map_err(saying("a certificate"))?;
        let id = answer["certificateId"].as_str().ok_or("an answer without certificateId")?;
        let certificate = Certificate::from_pem(answer["certificate"].as_str().unwrap_or_default());
        let certificate = certificate.map_err(saying("a certificate"))?;
        certificates.push((id.to_owned(), certificate.serial_content().to_vec()));
    }
    Ok(certificates)
}

/// Revokes these one after the other, by the clock, and asks about each with a nonce, so that the answer is made anew.
async fn urgent(
    target: &Target,
    caller: &Caller,
    asking: &Asking,
    certificates: Vec<(String, Vec<u8>)>,
    interval: Duration,
) -> Outcome<Urgent> {
    let (mut revoked, mut asked, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    let micros = |since: Instant| u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
    let mut connection = Connection::open(target).await.map_err(saying("the server"))?;
    let begun = Instant::now();
    for (number, (id, serial)) in certificates.into_iter().enumerate() {
        let number = u32::try_from(number).map_err(saying("so many"))?;
        tokio::time::sleep_until((begun + interval * number).into()).await;
        let path = format!("/api/v1/cert-manager/certificates/{id}/revoke");
        let revoke = caller.post(target, &path, &json!({"revocationReason": "SUPERSEDED"}));
        let since = Instant::now();
        match tokio::time::timeout(PATIENCE, connection.exchange(&revoke)).await {
            Ok(Ok(reply)) if reply.status == 200 => revoked.push(micros(since)),
            Ok(Ok(reply)) => failures.push(format!("{} {}", reply.status, String::from_utf8_lossy(reply.body))),
            Ok(Err(error)) => {
                failures.push(error.to_string());
                connection = Connection::open(target).await.map_err(saying("the server"))?;
            }
            Err(_) => return Err("a revocation was not answered".into()),
        }
        let question = asking.post(target, &serial, &number.to_be_bytes());
        let since = Instant::now();
        match tokio::time::timeout(PATIENCE, connection.exchange(&question)).await {
            Ok(Ok(reply)) if OcspAnswer::from_der(reply.body).is_ok() => asked.push(micros(since)),
            Ok(Ok(reply)) => failures.push(format!("OCSP: {} {:02x?}", reply.status, reply.body)),
            Ok(Err(error)) => {
                failures.push(error.to_string());
                connection = Connection::open(target).await.map_err(saying("the server"))?;
            }
            Err(_) => return Err("a question to OCSP was not answered".into()),
        }
    }
    let (count, first_failure) = (failures.len(), failures.into_iter().next());
    let (revoked, asked) = (Latencies::new(revoked), Latencies::new(asked));
    Ok(Urgent { revoked, asked, failures: count, first_failure })
}

/// When the requests of the flood are due.
struct Due {
    begun: Instant,
    rate: f64,
    next: AtomicU64,
}

/// Sends what is due, over one connection.
async fn send(target: Target, requests: Arc<[Vec<u8>]>, due: Arc<Due>, flood: Arc<Flood>, over: Arc<AtomicBool>) {
    let count = |counter: &AtomicU64| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let mut connection = None;
    while !over.load(Ordering::Relaxed) {
        let number = due.next.fetch_add(1, Ordering::Relaxed);
        let at = due.begun + Duration::from_secs_f64(number as f64 / due.rate.max(1.0));
        tokio::time::sleep_until(at.into()).await;
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(&target).await {
                Ok(open) => open,
                // Nothing was accepted, so nothing is owed.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        count(&flood.sent);
        let request = &requests[usize::try_from(number).unwrap_or(0) % requests.len()];
        let status = match tokio::time::timeout(PATIENCE, open.exchange(request)).await {
            Ok(Ok(reply)) => reply.status,
            Ok(Err(_)) | Err(_) => {
                count(&flood.unanswered);
                continue;
            }
        };
        count(match status {
            200 => &flood.made,
            429 | 503 => &flood.refused,
            504 => &flood.timed_out,
            _ => &flood.failed,
        });
        connection = Some(open);
    }
}

/// Connects, sends nothing, and begins anew when it is closed.
async fn stay_idle(target: Target, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        if let Ok(mut stream) = TcpStream::connect(target.address).await {
            // Until the server has enough of it.
            let _ = stream.read_u8().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends the head of a request, an octet each second, and begins anew when it is closed.
async fn send_slowly(target: Target, over: Arc<AtomicBool>) {
    let head = target.post("/api/v1/auth/universal-auth/login", None, &json!({"clientId": "slow"}));
    while !over.load(Ordering::Relaxed) {
        if let Ok(mut stream) = TcpStream::connect(target.address).await {
            for octet in &head {
                if stream.write_all(std::slice::from_ref(octet)).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The most memory that the server was seen to hold.
async fn watch_memory(pid: u32, over: Arc<AtomicBool>) -> Outcome<u64> {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = process::resident_kib(pid)?.max(most);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(most)
}

fn page(options: &Options, found: &Found) -> String {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let flood = &found.flood;
    let sent = count(&flood.sent);
    let offered = (found.rate * options.times as f64 * found.flood_time.as_secs_f64()) as u64;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let mut page = format!(
        "# Overload\n\n- {} UTC, commit {}\n- {} cores of {}, {}\n- SQLite; {:.0} s of {} times what the server can make, which is {:.0} \
         certificates per second, over {} connections\n- beside it {} idle connections and {} slow senders; {} thread(s) of the \
         load generator on the same cores, at nice {NICE}\n\n\
         | requests of the flood | number |\n|---|---:|\n\
         | due | {offered} |\n\
         | not sent, since each connection waited for an answer | {} |\n\
         | sent | {sent} |\n\
         | answered with a certificate | {} |\n\
         | told to come later | {} |\n\
         | answered that they took too long | {} |\n\
         | failed | {} |\n\
         | not answered (aim: 0) | {} |\n\n\
         | urgent requests, {} a second | p50 ms | p99 ms | max ms | failed | p99 to idle (aim: 3) |\n\
         |---|---:|---:|---:|---:|---:|\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M"),
        commit(),
        cores(),
        processor(),
        kernel(),
        found.flood_time.as_secs_f64(),
        options.times,
        found.rate,
        options.connections,
        found.idle_sockets,
        options.slow_senders,
        options.threads,
        offered.saturating_sub(sent),
        count(&flood.made),
        count(&flood.refused),
        count(&flood.timed_out),
        count(&flood.failed),
        count(&flood.unanswered),
        options.urgent_per_second,
    );
    let (idle, flooded) = (&found.idle, &found.flooded);
    for (what, before, during) in
        [("revocation", &idle.revoked, &flooded.revoked), ("OCSP with a nonce", &idle.asked, &flooded.asked)]
    {
        let ratio = during.milliseconds_at(990) / before.milliseconds_at(990).max(0.001);
        for (when, latencies, failures, ratio) in [
            ("idle", before, idle.failures, String::new()),
            ("in the flood", during, flooded.failures, format!("{ratio:.1}")),
        ] {
            let at = |per_mille| latencies.milliseconds_at(per_mille);
            page += &format!(
                "| {what}, {when} | {:.2} | {:.2} | {:.2} | {failures} | {ratio} |\n",
                at(500),
                at(990),
                at(1000)
            );
        }
    }
    page += &format!(
        "\nMemory of the server: {:.0} MiB before the flood, {:.0} MiB at most in it.\n",
        mib(found.resident_before_kib),
        mib(found.resident_max_kib)
    );
    page
}
