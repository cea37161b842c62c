//! What became of a certificate, asked by GET for answers that are signed already: how many a second, and how soon a
//! revocation shows in the middle of it.
//!
//! The inventory is filled in the database directly, as that many certificates would have got there; what is measured goes
//! through the server's socket. Before, each certificate is asked about once, so that its answer is there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, params};
use serde_json::{Value, json};
use x509::ocsp::OcspAnswer;
use x509::{Certificate, CertificateId, CertificateStatus, IdentifierHash, OcspRequest};

use crate::http::{Connection, Target};
use crate::limits::Limits;
use crate::load::{self, Answer, Measured, Schedule, Usage, Workload};
use crate::place::Place;
use crate::requests::{self, Caller, certification_requests};
use crate::server::{Engine, Installation, Server};
use crate::{Outcome, commit, cores, kernel, process, processor, saying};

#[derive(clap::Args)]
pub struct Options {
    /// Certificates in the inventory, one installation after the other.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    certificates: Vec<u32>,
    /// Of them, so many are asked about at most, evenly spread.
    #[arg(long, default_value_t = 1_000_000)]
    asked: u32,
    /// Connections that ask.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Measured seconds of each workload.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    place: Place,
}

const WARM_UP: Duration = Duration::from_secs(2);
/// How many distinct requests with a nonce there are.
const NONCES: usize = 4096;

/// What one installation measured.
struct Row {
    certificates: usize,
    asked: usize,
    /// How long it took to sign all answers.
    signing: Duration,
    get: (Measured, Usage),
    nonce: (Measured, Usage),
    status: (Measured, Usage),
    /// From the request for a revocation to its answer, and from there to the first answer that says so.
    revocation: (Duration, Duration),
    resident_kib: u64,
}

/// Measures, prints and writes the report.
pub fn run(options: &Options) -> Outcome<()> {
    let binary = options.place.server()?;
    let folder = options.place.folder()?;
    let runtime = load::generator(options.threads)?;
    let limits = Limits::measure(folder.path(), &certification_requests()?)?;
    let mut rows = Vec::new();
    for certificates in &options.certificates {
        let place = folder.path().join(certificates.to_string());
        std::fs::create_dir(&place).map_err(saying("a data folder"))?;
        rows.push(runtime.block_on(installation(options, &binary, &place, *certificates))?);
        std::fs::remove_dir_all(&place).map_err(saying("a data folder"))?;
    }
    let page = page(options, &limits, &rows);
    options.place.report("ocsp", &page)
}

async fn installation(options: &Options, binary: &Path, folder: &Path, certificates: u32) -> Outcome<Row> {
    let installation = Installation::new(binary, folder, Engine::Sqlite);
    let mut server = installation.start()?;
    let bootstrap = installation.bootstrap(&mut server)?;
    let issued = requests::issued(&server.plain(), &bootstrap).await?;
    server.stop()?;
    eprintln!("filling the inventory with {certificates} certificates");
    let database = installation.data().join("chancery.db");
    let serials = fill(&database, &issued, certificates).map_err(saying("filling the inventory"))?;

    let mut server = installation.start()?;
    let bootstrap = installation.bootstrap(&mut server)?;
    let row = measure(options, &server, &bootstrap, &issued, &serials).await?;
    server.stop()?;
    Ok(row)
}

/// Copies of one certificate under serial numbers of their own.
fn fill(database: &Path, issued: &Value, count: u32) -> rusqlite::Result<Vec<[u8; 20]>> {
    let mut database = Database::open(database)?;
    let id = issued["certificateId"].as_str().unwrap_or_default().replace('-', "");
    let transaction = database.transaction()?;
    let mut serials = Vec::with_capacity(count as usize);
    {
        let mut insert = transaction.prepare(
            "INSERT INTO certificates (id, project_id, profile_id, profile_version, policy_version, authority_id,
             authority_key_id, authority_certificate_id, issuer_name_id, serial, shard, status, common_name, alt_names,
             not_before, not_after, is_listed, details, created_at, der)
             SELECT randomblob(16), project_id, profile_id, profile_version, policy_version, authority_id, authority_key_id,
             authority_certificate_id, issuer_name_id, ?2, shard, status, common_name, alt_names, not_before, not_after,
             is_listed, details, created_at, der FROM certificates WHERE lower(hex(id)) = ?1 LIMIT 1",
        )?;
        for number in 0..count {
            // Unique, positive, and as spread as random ones.
            let mut serial = [7_u8; 20];
            let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            serial[..8].copy_from_slice(&spread.to_be_bytes());
            serial[0] = serial[0] & 0x7f | 0x01;
            serial[8..12].copy_from_slice(&number.to_be_bytes());
            serial[12..].copy_from_slice(&spread.rotate_left(29).to_be_bytes());
            insert.execute(params![id, &serial[..]])?;
            serials.push(serial);
        }
    }
    transaction.commit()?;
    Ok(serials)
}

/// Writes the requests about certificates of one issuer.
pub struct Asking {
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
}

impl Asking {
    /// About those of the issuer of this one.
    pub fn of(issued: &Value) -> Outcome<Self> {
        let issuer = issued["issuingCaCertificate"].as_str().unwrap_or_default();
        let issuer = Certificate::from_pem(issuer).map_err(saying("the issuer"))?;
        let key = issuer.verifying_key().map_err(saying("the issuer"))?;
        let hash = IdentifierHash::Sha256;
        Ok(Self { name_hash: hash.of(issuer.subject().as_der()), key_hash: hash.of(key.key_octets()) })
    }

    fn der(&self, serial: &[u8], nonce: Option<&[u8]>) -> Vec<u8> {
        let id = CertificateId::encode(IdentifierHash::Sha256, &self.name_hash, &self.key_hash, serial);
        OcspRequest::encode(&[&id], nonce)
    }

    fn get(&self, target: &Target, serial: &[u8]) -> Vec<u8> {
        target.get(&format!("/api/v1/pki/ocsp/{}", base64_url_encoded(&self.der(serial, None))))
    }

    /// The octets of a question with a nonce.
    pub fn post(&self, target: &Target, serial: &[u8], nonce: &[u8]) -> Vec<u8> {
        let body = self.der(serial, Some(nonce));
        let head = format!(
            "POST /api/v1/pki/ocsp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
            target.host,
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

/// Base64 whose signs are written by their numbers (RFC 6960 §A.1).
fn base64_url_encoded(octets: &[u8]) -> String {
    let text = x509::pem::encode("X", octets);
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    lines.collect::<String>().replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

async fn measure(
    options: &Options,
    server: &Server,
    bootstrap: &Value,
    issued: &Value,
    serials: &[[u8; 20]],
) -> Outcome<Row> {
    let target = server.plain();
    let asking = Asking::of(issued)?;
    let step = serials.len().div_ceil(options.asked as usize).max(1);
    let asked: Vec<&[u8; 20]> = serials.iter().step_by(step).collect();
    let requests: Arc<[Vec<u8>]> = asked.iter().map(|serial| asking.get(&target, &serial[..])).collect();
    eprintln!("asking about {} of {} certificates once", asked.len(), serials.len());
    let signing = ask_once(options, &target, &requests).await?;
    let schedule = Schedule { warm_up: WARM_UP, measured: Duration::from_secs(options.seconds) };
    let alone = async |requests: Arc<[Vec<u8>]>, answer| {
        let workload = [Workload { requests, connections: options.connections, answer }];
        let (mut measured, usage) = load::run(&target, &workload, schedule, server.pid()).await?;
        let measured = measured.pop().ok_or("no measurement")?;
        match &measured.first_error {
            Some(error) => Err(format!("{} errors, the first: {error}", measured.errors)),
            None => Ok((measured, usage)),
        }
    };
    let status = alone([target.get("/api/status")].into(), Answer::Any).await?;
    let (get, revocation) =
        tokio::join!(alone(requests, Answer::Ocsp), revocation(&target, bootstrap, &asking, schedule));
    let (get, revocation) = (get?, revocation?);
    let resident_kib = process::resident_kib(server.pid())?;
    let nonces =
        (0..NONCES).map(|number| asking.post(&target, &asked[number % asked.len()][..], &number.to_be_bytes()));
    let nonce = alone(nonces.collect(), Answer::Ocsp).await?;
    let (certificates, asked) = (serials.len(), asked.len());
    Ok(Row { certificates, asked, signing, get, nonce, status, revocation, resident_kib })
}

/// Asks each once, so that the answers are signed, and says how long that took.
async fn ask_once(options: &Options, target: &Target, requests: &Arc<[Vec<u8>]>) -> Outcome<Duration> {
    // No more than the server signs at once, so that none waits for long.
    let connections = options.connections.min(32);
    let begun = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for first in 0..connections {
        let (target, requests) = (target.clone(), requests.clone());
        asking.spawn(async move {
            let mut connection = Connection::open(&target).await.map_err(saying("the server"))?;
            for request in requests.iter().skip(first).step_by(connections) {
                let reply = connection.exchange(request).await.map_err(saying("an answer"))?;
                if reply.status != 200 || OcspAnswer::from_der(reply.body).is_err() {
                    return Err(format!("no answer, but {} {:02x?}", reply.status, reply.body));
                }
            }
            Ok(())
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.map_err(saying("asking"))??;
    }
    Ok(begun.elapsed())
}

/// Revokes a certificate in the middle of the load whose answer is kept, and asks until it is told.
async fn revocation(
    target: &Target,
    bootstrap: &Value,
    asking: &Asking,
    schedule: Schedule,
) -> Outcome<(Duration, Duration)> {
    let caller = Caller::login(target, bootstrap).await?;
    let issued = requests::issued(target, bootstrap).await?;
    let certificate = Certificate::from_pem(issued["certificate"].as_str().unwrap_or_default());
    let certificate = certificate.map_err(saying("a certificate"))?;
    let request = asking.get(target, certificate.serial_content());
    let mut connection = Connection::open(target).await.map_err(saying("the server"))?;
    if status_of(&mut connection, &request).await? != CertificateStatus::Good {
        return Err("a certificate that was just issued is not good".into());
    }
    tokio::time::sleep(schedule.warm_up + schedule.measured / 2).await;
    let path =
        format!("/api/v1/cert-manager/certificates/{}/revoke", issued["certificateId"].as_str().unwrap_or_default());
    let revoke = caller.post(target, &path, &json!({"revocationReason": "SUPERSEDED"}));
    let begun = Instant::now();
    let reply = connection.exchange(&revoke).await.map_err(saying("a revocation"))?;
    if reply.status != 200 {
        return Err(format!("a revocation: {} {}", reply.status, String::from_utf8_lossy(reply.body)));
    }
    let acknowledged = begun.elapsed();
    while status_of(&mut connection, &request).await? == CertificateStatus::Good {}
    Ok((acknowledged, begun.elapsed() - acknowledged))
}

async fn status_of(connection: &mut Connection, request: &[u8]) -> Outcome<CertificateStatus> {
    let reply = connection.exchange(request).await.map_err(saying("an answer"))?;
    let answer = OcspAnswer::from_der(reply.body).map_err(saying("an answer"))?;
    answer.answers().next().map(|answer| answer.status).ok_or("an answer about nothing".into())
}

fn page(options: &Options, limits: &Limits, rows: &[Row]) -> String {
    let mut page = format!(
        "# OCSP\n\n- {} UTC, commit {}\n- {} cores of {}, {}\n- SQLite; {} connections, {} s measured, {} thread(s) of the load \
         generator on the same cores\n- P-256 signatures on one core of this machine: {:.0} per second\n\n\
         | certificates | what | per second | p50 ms | p99 ms | max ms | server CPU per 1000 | server MiB |\n\
         |---:|---|---:|---:|---:|---:|---:|---:|\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M"),
        commit(),
        cores(),
        processor(),
        kernel(),
        options.connections,
        options.seconds,
        options.threads,
        limits.p256_sign,
    );
    for row in rows {
        let nonce = "POST with a nonce: looked up and signed for one";
        for (what, (measured, usage)) in [
            ("GET of answers that are signed (aim: 35,000)", &row.get),
            (nonce, &row.nonce),
            ("GET /api/status: HTTP alone", &row.status),
        ] {
            let at = |per_mille| measured.latencies.milliseconds_at(per_mille);
            page += &format!(
                "| {} | {what} | {:.0} | {:.2} | {:.2} | {:.2} | {:.3} | {:.0} |\n",
                row.certificates,
                measured.rate,
                at(500),
                at(990),
                at(1000),
                usage.server.as_secs_f64() * 1000.0 / measured.latencies.count().max(1) as f64,
                usage.resident_kib as f64 / 1024.0,
            );
        }
    }
    for row in rows {
        let (acknowledged, told) = row.revocation;
        page += &format!(
            "\nWith {} certificates, {} of which are asked about: the first answers were looked up and signed at {:.0} per second; \
             {:.0} MiB held afterwards. In the middle of the load a revocation was acknowledged after {:.1} ms, and told {:.1} ms \
             later (aim: 2000).\n",
            row.certificates,
            row.asked,
            row.asked as f64 / row.signing.as_secs_f64(),
            row.resident_kib as f64 / 1024.0,
            acknowledged.as_secs_f64() * 1000.0,
            told.as_secs_f64() * 1000.0,
        );
    }
    page
}
