//! Load: a number of connections, each with one request under way, and what it measured. Every workload of a run starts
//! at the same moment; what is answered during the warm-up counts for the inventory and for nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::http::{Connection, Reply, Target};
use crate::latency::Latencies;
use crate::process;
use crate::{Outcome, saying};

/// One answer in so many is read to see that it holds a certificate; reading all would be the generator's main work.
const INSPECT_EVERY: u64 = 256;
/// A connection gives up after so many refusals.
const ERRORS_MAX: u64 = 100;
/// How long after the end of a run the last answers may take.
const LAST_ANSWER: Duration = Duration::from_secs(60);

/// What the load runs on: so many threads.
pub fn generator(threads: usize) -> Outcome<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(saying("the load generator"))
}

/// Requests and how many connections send them.
pub struct Workload {
    /// Whole requests; the connections take turns through them, over and over.
    pub requests: Arc<[Vec<u8>]>,
    /// Each with one request under way at a time.
    pub connections: usize,
    /// What an answer must be.
    pub answer: Answer,
}

/// What an answer must be, over and above its status of 200.
#[derive(Clone, Copy, PartialEq)]
pub enum Answer {
    /// Anything.
    Any,
    /// JSON with a PEM certificate in `certificate`.
    Certificate,
    /// An OCSPResponse that is signed, and not one that says no.
    Ocsp,
}

/// How long a run takes.
#[derive(Clone, Copy)]
pub struct Schedule {
    /// Load that is not measured.
    pub warm_up: Duration,
    /// Load that is.
    pub measured: Duration,
}

/// What one workload measured.
pub struct Measured {
    /// Answers per second in the measured time.
    pub rate: f64,
    /// Of the answers that came in the measured time.
    pub latencies: Latencies,
    /// Answers in all, warm-up included.
    pub answered: u64,
    /// Requests that failed or were refused.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
}

/// What the processes used in the measured time.
pub struct Usage {
    /// Processor time of the server.
    pub server: Duration,
    /// Processor time of this load generator.
    pub generator: Duration,
    /// The most memory that the server held, in KiB, looked at ten times a second.
    pub resident_kib: u64,
}

/// Runs the workloads beside each other against the server of process `pid`; one result for each, in order.
pub async fn run(
    target: &Target,
    workloads: &[Workload],
    schedule: Schedule,
    pid: u32,
) -> Outcome<(Vec<Measured>, Usage)> {
    let mut ready = Vec::new();
    for (index, workload) in workloads.iter().enumerate() {
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..workload.connections {
            let connection = Connection::open(target).await.map_err(|error| format!("connecting: {error}"))?;
            ready.push((index, connection, workload.requests.clone(), next.clone(), workload.answer));
        }
    }
    let start = Instant::now() + schedule.warm_up;
    let window = Window { start, end: start + schedule.measured };
    let mut driving = JoinSet::new();
    for (index, connection, requests, next, answer) in ready {
        driving.spawn(async move { (index, drive(connection, &requests, &next, answer, window).await) });
    }
    let usage = usage(pid, window).await?;

    let mut tallies: Vec<Tally> = workloads.iter().map(|_| Tally::default()).collect();
    let collecting = async {
        while let Some(joined) = driving.join_next().await {
            let (index, tally) = joined.map_err(|error| error.to_string())?;
            tallies[index].add(tally);
        }
        Outcome::Ok(())
    };
    tokio::time::timeout(LAST_ANSWER, collecting)
        .await
        .map_err(|_| format!("a request has had no answer for {} s", LAST_ANSWER.as_secs()))??;
    Ok((tallies.into_iter().map(|tally| tally.measured(schedule.measured)).collect(), usage))
}

/// The measured time.
#[derive(Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
}

/// What one connection, or all of a workload, saw.
#[derive(Default)]
struct Tally {
    microseconds: Vec<u32>,
    answered: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn fail(&mut self, message: String) {
        self.errors += 1;
        self.first_error.get_or_insert(message);
    }

    fn add(&mut self, other: Self) {
        self.microseconds.extend(other.microseconds);
        self.answered += other.answered;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn measured(self, measured: Duration) -> Measured {
        Measured {
            rate: self.microseconds.len() as f64 / measured.as_secs_f64(),
            latencies: Latencies::new(self.microseconds),
            answered: self.answered,
            errors: self.errors,
            first_error: self.first_error,
        }
    }
}

async fn drive(
    mut connection: Connection,
    requests: &[Vec<u8>],
    next: &AtomicUsize,
    answer: Answer,
    window: Window,
) -> Tally {
    let mut tally = Tally::default();
    while tally.errors < ERRORS_MAX {
        let sent = Instant::now();
        if sent >= window.end {
            break;
        }
        let request = &requests[next.fetch_add(1, Ordering::Relaxed) % requests.len()];
        match connection.exchange(request).await {
            Err(error) => {
                tally.fail(error.to_string());
                break;
            }
            Ok(reply) => match judge(&reply, answer, tally.answered) {
                Err(message) => tally.fail(message),
                Ok(()) => {
                    tally.answered += 1;
                    let came = Instant::now();
                    if came >= window.start && came < window.end {
                        tally.microseconds.push(u32::try_from((came - sent).as_micros()).unwrap_or(u32::MAX));
                    }
                }
            },
        }
    }
    tally
}

/// Whether a reply is what was asked for; `answered` is how many were before it on this connection.
fn judge(reply: &Reply<'_>, answer: Answer, answered: u64) -> Result<(), String> {
    let body = || String::from_utf8_lossy(&reply.body[..reply.body.len().min(400)]).into_owned();
    if reply.status != 200 {
        return Err(format!("{} {}", reply.status, body()));
    }
    if answer == Answer::Ocsp && !reply.body.starts_with(&[0x30, 0x82]) {
        return Err(format!("200 without an answer: {:02x?}", &reply.body[..reply.body.len().min(400)]));
    }
    if answer == Answer::Certificate && answered.is_multiple_of(INSPECT_EVERY) {
        let json: serde_json::Value = serde_json::from_slice(reply.body).unwrap_or_default();
        let certificate = json["certificate"].as_str().unwrap_or_default();
        if !certificate.starts_with("-----BEGIN CERTIFICATE-----") {
            return Err(format!("200 without a certificate: {}", body()));
        }
    }
    Ok(())
}

/// Waits through the window and says what the processes used in it.
async fn usage(pid: u32, window: Window) -> Outcome<Usage> {
    tokio::time::sleep_until(window.start.into()).await;
    let own = std::process::id();
    let (server_before, own_before) = (process::processor_time(pid)?, process::processor_time(own)?);
    let mut resident_kib = process::resident_kib(pid)?;
    while Instant::now() < window.end {
        let pause = Duration::from_millis(100).min(window.end - Instant::now().min(window.end));
        tokio::time::sleep(pause).await;
        resident_kib = resident_kib.max(process::resident_kib(pid)?);
    }
    Ok(Usage {
        server: process::processor_time(pid)? - server_before,
        generator: process::processor_time(own)? - own_before,
        resident_kib,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_200_with_what_was_asked_for_is_an_answer() {
        let check = |status, body: &str, answer, answered, expected: Result<(), &str>| {
            let reply = Reply { status, body: body.as_bytes() };
            assert_eq!(judge(&reply, answer, answered), expected.map_err(str::to_owned), "{status} {body}");
        };
        let certificate = r#"{"certificate":"-----BEGIN CERTIFICATE-----\n"}"#;
        check(200, certificate, Answer::Certificate, 0, Ok(()));
        check(200, "", Answer::Any, 0, Ok(()));
        check(200, "{}", Answer::Certificate, 0, Err("200 without a certificate: {}"));
        check(200, "{", Answer::Certificate, INSPECT_EVERY, Err("200 without a certificate: {"));
        check(200, "{}", Answer::Certificate, 1, Ok(()));
        check(200, "0\u{3}\n\u{1}\u{3}", Answer::Ocsp, 1, Err("200 without an answer: [30, 03, 0a, 01, 03]"));
        check(400, certificate, Answer::Any, 1, Err(&format!("400 {certificate}")));
    }

    /// Answers every request on every connection, each third of a connection with 503 when `refuses`.
    async fn stand_in(refuses: bool) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    for turn in 0.. {
                        if stream.read(&mut request).await.unwrap_or(0) == 0 {
                            break;
                        }
                        let status = if refuses && turn % 3 == 2 { "503 Busy" } else { "200 OK" };
                        let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        stream.write_all(reply.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Target { address, host: address.to_string(), tls: None }
    }

    #[tokio::test]
    async fn a_run_counts_answers_and_refusals_of_each_workload() {
        let schedule = Schedule { warm_up: Duration::from_millis(100), measured: Duration::from_millis(300) };
        let check = async |refuses, answer, errs| {
            let target = stand_in(refuses).await;
            let requests: Arc<[_]> = Arc::new([target.get("/one"), target.get("/two")]);
            let workload = |connections| Workload { requests: requests.clone(), connections, answer };
            let workloads = [workload(1), workload(4)];
            let (found, usage) = run(&target, &workloads, schedule, std::process::id()).await.unwrap();
            assert!(usage.resident_kib > 0);
            for measured in &found {
                assert_eq!(measured.errors > 0, errs, "{:?}", measured.first_error);
                assert_eq!(measured.first_error.is_some(), errs);
                assert!(measured.answered >= measured.latencies.count() as u64);
            }
            found
        };
        let answered = check(false, Answer::Any, false).await;
        assert!(answered.iter().all(|measured| measured.latencies.count() > 0 && measured.rate > 0.0));
        assert!(answered.iter().all(|measured| measured.latencies.milliseconds_at(0) >= 2.0));
        assert!(answered[0].answered < answered[1].answered);
        check(true, Answer::Any, true).await;
        check(false, Answer::Certificate, true).await;
    }
}
