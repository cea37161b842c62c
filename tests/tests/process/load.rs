//! Clients that issue, sign, renew and revoke while a fault goes on, and the look at everything after it. What they
//! were told is in their histories; `history.rs` compares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keys::PrivateKey;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use x509::{Certificate, CertificateStatus, Crl, IdentifierHash, KeyAlgorithm, OcspAnswer, OcspRefusal, OcspRequest};

use crate::api::{Answer, Api, ISSUE, SIGN, issue_body, new_client};
use crate::crash::csr;
use crate::history::{Asked, Given, History, Kept, List, Observed, Said, Told, Violation, Wish, read, violations};
use crate::site::{PATIENCE, Site};

const CERTIFICATES: &str = "/api/v1/cert-manager/certificates";
/// Clients that work at once, each over one connection.
const CLIENTS: usize = 4;
/// How long another node of PostgreSQL counts as being at a request whose node died.
const ABANDONED: Duration = Duration::from_secs(61);
/// How many certificates OCSP is asked about in the last look.
const OCSP_MAX: usize = 2_000;

/// Everything that clients saw of one server and its successors.
pub struct Load<'a> {
    site: &'a Site,
    folder: PathBuf,
    key: Vec<u8>,
    rounds: usize,
    lists: Vec<List>,
    pub counts: Counts,
    pub found: Vec<Violation>,
    /// Histories in which something may be unknown, and since when.
    unresolved: Vec<(PathBuf, Instant)>,
    /// How long a list may take to name what was revoked.
    pub patience: Duration,
}

/// What there was, by number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub faults: usize,
    pub issued: usize,
    pub signed: usize,
    pub renewed: usize,
    pub revoked: usize,
    pub refused: usize,
    pub unknown: usize,
    pub resolved: usize,
    pub lists: usize,
}

/// Clients at work, until they are told to end.
pub struct Clients {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    watcher: JoinHandle<Vec<List>>,
    paths: Vec<PathBuf>,
}

impl<'a> Load<'a> {
    pub fn new(site: &'a Site) -> Self {
        let folder = site.path("histories");
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(site.path("requests")).unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().export_pkcs8().unwrap().expose().to_vec();
        let (lists, unresolved, found) = (vec![], vec![], vec![]);
        Self { site, folder, key, rounds: 0, lists, counts: Counts::default(), found, unresolved, patience: PATIENCE }
    }

    /// Lets clients begin, each with a file of its own.
    pub fn begin(&mut self, api: &Api) -> Clients {
        let round = self.rounds;
        self.rounds += 1;
        let is_over = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicBool::new(false));
        let profile = self.site.fact("/profiles/web-server");
        let paths: Vec<PathBuf> =
            (0..CLIENTS).map(|client| self.folder.join(format!("f{round}-{client}.jsonl"))).collect();
        let client = |(client, path): (usize, &PathBuf)| {
            let worker = Client {
                api: Api { client: new_client(), ..api.clone() },
                profile: profile.clone(),
                key: PrivateKey::from_pkcs8(&self.key).unwrap(),
                requests: self.site.path("requests"),
                name: format!("f{round}-{client}"),
                history: History::create(path),
                renewable: vec![],
                revocable: vec![],
            };
            tokio::spawn(worker.work(is_over.clone()))
        };
        let tasks = paths.iter().enumerate().map(client).collect();
        let watcher = tokio::spawn(watch(api.clone(), self.site.fact("/issuingCaId"), done.clone()));
        Clients { is_over, done, tasks, watcher, paths }
    }

    /// Ends the clients, whatever they wait for.
    pub async fn end(&mut self, clients: Clients) {
        clients.is_over.store(true, Ordering::SeqCst);
        for task in clients.tasks {
            task.await.unwrap();
        }
        clients.done.store(true, Ordering::SeqCst);
        self.lists.extend(clients.watcher.await.unwrap());
        let now = Instant::now();
        self.unresolved.extend(clients.paths.into_iter().map(|path| (path, now)));
    }

    /// Asks again for what nobody knows, then looks at what this round left: in the database, in the list, by OCSP, in
    /// the audit.
    pub async fn look(&mut self, api: &Api) {
        self.resolve(api).await;
        let asked: Vec<Asked> = self.histories(&format!("f{}-", self.rounds - 1)).concat();
        self.compare(api, &asked, &format!("f{}-%", self.rounds - 1), usize::MAX).await;
    }

    /// The same for all rounds, once more.
    pub async fn last_look(&mut self, api: &Api) {
        self.resolve(api).await;
        let asked: Vec<Asked> = self.histories("f").concat();
        let counts = &mut self.counts;
        for one in &asked {
            counts.refused += one.told.iter().filter(|told| matches!(told, Told::Refused(_))).count();
            counts.unknown += usize::from(one.is_unknown() || one.told.contains(&Told::Unknown));
            counts.resolved += usize::from(one.is_done() && one.told.contains(&Told::Unknown));
            *match one.wish {
                Wish::Issue => &mut counts.issued,
                Wish::Sign => &mut counts.signed,
                Wish::Renew { .. } => &mut counts.renewed,
                Wish::Revoke { .. } => &mut counts.revoked,
            } += usize::from(one.is_done());
        }
        self.compare(api, &asked, "f%", OCSP_MAX).await;
        let numbers: BTreeSet<u64> = self.lists.iter().map(|list| list.number).collect();
        self.counts.lists = numbers.len();
    }

    /// Waits until no request counts as being worked on by a node that died.
    pub async fn wait_until_all_is_known(&self) {
        if let Some(newest) = self.unresolved.iter().map(|(_, since)| *since).max() {
            tokio::time::sleep(ABANDONED.saturating_sub(newest.elapsed()) + Duration::from_secs(1)).await;
        }
    }

    fn histories(&self, prefix: &str) -> Vec<Vec<Asked>> {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|file| file.unwrap());
        let ours = files.filter(|file| file.file_name().to_str().unwrap().starts_with(prefix));
        ours.map(|file| read(&file.path())).collect()
    }

    /// Sends again what had no answer, with the same key, where an answer can be had by now.
    async fn resolve(&mut self, api: &Api) {
        let profile = self.site.fact("/profiles/web-server");
        for (path, since) in std::mem::take(&mut self.unresolved) {
            let asked = read(&path);
            let mut client = Client {
                api: api.clone(),
                profile: profile.clone(),
                key: PrivateKey::from_pkcs8(&self.key).unwrap(),
                requests: self.site.path("requests"),
                name: String::new(),
                history: History::append(&path),
                renewable: vec![],
                revocable: vec![],
            };
            let mut waits = false;
            for (number, one) in asked.iter().enumerate().filter(|(_, one)| one.is_unknown()) {
                // The node that died may be alive for all that the database knows, and its request with it.
                let is_there = self.site.is_sqlite() || since.elapsed() > ABANDONED || self.is_kept(&one.name);
                if is_there || !matches!(one.wish, Wish::Issue | Wish::Sign) {
                    let told = client.ask(&one.name, &one.wish).await;
                    client.history.told(number, &told);
                    waits |= matches!(told, Told::Unknown | Told::Refused(503 | 504));
                } else {
                    waits = true;
                }
            }
            if waits {
                self.unresolved.push((path, since));
            }
        }
    }

    fn is_kept(&self, name: &str) -> bool {
        self.site.count(&format!("SELECT COUNT(*) FROM certificates WHERE common_name = '{name}'")) > 0
    }

    async fn compare(&mut self, api: &Api, asked: &[Asked], names: &str, ocsp_max: usize) {
        let acknowledged: BTreeSet<String> = asked
            .iter()
            .filter(|one| one.is_done())
            .filter_map(|one| match &one.wish {
                Wish::Revoke { serial, .. } => Some(serial.clone()),
                Wish::Issue | Wish::Sign | Wish::Renew { .. } => None,
            })
            .collect();
        let begun = Instant::now();
        loop {
            let is_named = match list(api, &self.site.fact("/issuingCaId")).await {
                Some(list) => {
                    let is_named = acknowledged.is_subset(&list.serials);
                    keep(&mut self.lists, list);
                    is_named
                }
                None => false,
            };
            if is_named || begun.elapsed() > self.patience {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let kept = self.kept(names);
        let mut ocsp = BTreeMap::new();
        let every = kept.len().div_ceil(ocsp_max).max(1);
        let issuer = match kept.first() {
            Some(first) => issuer(api, &first.given.id).await,
            // Then there is nothing to ask about either.
            None => {
                return self
                    .found
                    .extend(violations(asked, &Observed { lists: self.lists.clone(), ..Observed::default() }));
            }
        };
        for kept in kept.iter().step_by(every) {
            let serial = &kept.given.serial;
            ocsp.insert(serial.clone(), said(api, &issuer, serial, None).await);
        }
        let later = ocsp.values().filter(|said| **said == Said::Later).count();
        assert_eq!(later, 0, "OCSP says to come later, and nothing is wrong any more");
        let observed = Observed { kept, lists: self.lists.clone(), ocsp };
        self.found.extend(violations(asked, &observed));
        // What was compared needs not be compared again, but what comes next is.
        let newest = self.lists.last().cloned();
        self.counts.lists += 1;
        if self.lists.len() > 50 {
            self.lists = newest.into_iter().collect();
        }
    }

    /// The inventory, with what the audit says of each.
    fn kept(&self, names: &str) -> Vec<Kept> {
        let hex = |expression: &str| self.site.hex(expression);
        let records = |event: &str| {
            format!(
                "(SELECT COUNT(*) FROM audit_records a WHERE a.object_id = c.id AND a.event = '{event}' \
                 AND a.object_kind = 'certificate')"
            )
        };
        let sql = format!(
            "SELECT {}, {}, {}, c.common_name, CAST((SELECT COUNT(*) FROM revocations r \
             WHERE r.authority_key_id = c.authority_key_id AND r.serial = c.serial) AS TEXT), \
             CAST({} AS TEXT), CAST({} AS TEXT) FROM certificates c WHERE c.common_name LIKE '{names}'",
            hex("c.id"),
            hex("c.serial"),
            hex("c.der"),
            records("certificate-issued"),
            records("certificate-revoked"),
        );
        let read = |row: Vec<String>| {
            let [id, serial, der, name, revoked, issued_records, revoked_records] = row.try_into().unwrap();
            Kept {
                given: Given { id, serial, der },
                name,
                is_revoked: revoked != "0",
                issued_records: issued_records.parse().unwrap(),
                revoked_records: revoked_records.parse().unwrap(),
            }
        };
        self.site.table(&sql).into_iter().map(read).collect()
    }
}

/// One client, with the certificates that it may renew and revoke.
struct Client {
    api: Api,
    profile: String,
    key: PrivateKey,
    requests: PathBuf,
    name: String,
    history: History,
    /// Those to be renewed, and those to be revoked.
    renewable: Vec<(String, Given)>,
    revocable: Vec<(String, Given)>,
}

impl Client {
    async fn work(mut self, is_over: Arc<AtomicBool>) {
        for turn in 0.. {
            if is_over.load(Ordering::SeqCst) {
                return;
            }
            let new_name = format!("{}-{turn}.example.com", self.name);
            let (name, wish) = match turn % 8 {
                3 | 7 if !self.revocable.is_empty() => {
                    let (name, Given { id, serial, .. }) = self.revocable.remove(0);
                    (name, Wish::Revoke { id, serial })
                }
                5 if !self.renewable.is_empty() => {
                    let (name, Given { id, .. }) = self.renewable.remove(0);
                    (name, Wish::Renew { id })
                }
                1 | 6 => (new_name, Wish::Sign),
                _ => (new_name, Wish::Issue),
            };
            let number = self.history.asks(&name, &wish);
            let told = self.ask(&name, &wish).await;
            self.history.told(number, &told);
            match told {
                // Only whose key the server has it can renew.
                Told::Done(Some(given)) => match wish {
                    Wish::Issue if turn % 8 != 4 => self.renewable.push((name, given)),
                    Wish::Issue | Wish::Sign | Wish::Renew { .. } | Wish::Revoke { .. } => {
                        self.revocable.push((name, given));
                    }
                },
                Told::Done(None) => {}
                // Nobody is there, or it asks for patience.
                Told::Refused(_) | Told::Failed(_) | Told::Unknown => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Sends one request and says what came of it.
    async fn ask(&self, name: &str, wish: &Wish) -> Told {
        let post = |path: &str, body: &Value| self.api.request(Method::POST, path).json(body);
        let request = match wish {
            Wish::Issue => post(ISSUE, &issue_body(&self.profile, name)).header("idempotency-key", name),
            Wish::Sign => {
                let body = json!({"profileId": self.profile, "csr": self.request(name), "ttl": "1d"});
                post(SIGN, &body).header("idempotency-key", name)
            }
            Wish::Renew { id } => post(&format!("{CERTIFICATES}/{}/renew", dashed(id)), &json!({})),
            Wish::Revoke { id, .. } => {
                let reason = json!({"revocationReason": "SUPERSEDED"});
                post(&format!("{CERTIFICATES}/{}/revoke", dashed(id)), &reason)
            }
        };
        let answer = match Answer::of(request).await {
            Ok(answer) => answer,
            // Nothing was sent.
            Err(error) if error.is_connect() => return Told::Refused(0),
            Err(_) => return Told::Unknown,
        };
        let is_done_already = answer.body["message"].as_str().is_some_and(|said| said.contains("already"));
        match (answer.status, wish) {
            (200, Wish::Revoke { .. }) => Told::Done(None),
            (200, Wish::Issue | Wish::Sign | Wish::Renew { .. }) => Told::Done(Some(given(&answer.body))),
            (400, Wish::Revoke { .. } | Wish::Renew { .. }) if is_done_already => Told::Done(None),
            (504, _) => Told::Unknown,
            (503 | 429, _) => Told::Refused(answer.status),
            // Whatever else is said is a defect: these requests are as good as they can be.
            (status, _) => {
                eprintln!("{wish:?} of {name}: {status} {}", answer.body);
                Told::Failed(status)
            }
        }
    }

    /// The request of this name, in a file: a repeated one has the same octets, or its key would stand for another
    /// request.
    fn request(&self, name: &str) -> String {
        let path = self.requests.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|_| {
            let request = csr(&self.key, name);
            std::fs::write(&path, &request).unwrap();
            request
        })
    }
}

fn dashed(id: &str) -> String {
    uuid::Uuid::parse_str(id).unwrap().to_string()
}

fn given(answer: &Value) -> Given {
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}"));
    let certificate = Certificate::from_pem(text("certificate")).unwrap();
    Given {
        id: text("certificateId").replace('-', ""),
        serial: hex(certificate.serial_content()),
        der: hex(certificate.as_der()),
    }
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The list of the issuing authority, if it is given.
pub async fn list(api: &Api, authority: &str) -> Option<List> {
    let lists = api.get(&format!("/api/v1/pki/ca/{authority}/crls")).await.ok().filter(|lists| lists.status == 200)?;
    list_at(api, &format!("/api/v1/pki/crl/{}/der", lists.body[0]["id"].as_str()?)).await
}

/// The list at this path, if it is given.
pub async fn list_at(api: &Api, path: &str) -> Option<List> {
    let response = api.client.get(format!("{}{path}", api.url)).send().await.ok()?;
    if response.status().as_u16() != 200 {
        return None;
    }
    let der = response.bytes().await.ok()?.to_vec();
    let list = Crl::from_der(der.clone()).unwrap();
    let number = list.number().unwrap().unwrap().iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let serials = list.entries().map(|entry| hex(entry.serial_content)).collect();
    Some(List { number, der, this_update: list.this_update(), serials })
}

/// Keeps a list, unless it is the one before.
fn keep(lists: &mut Vec<List>, list: List) {
    if lists.last().is_none_or(|last| last.der != list.der) {
        lists.push(list);
    }
}

/// Looks at the list all the time.
async fn watch(api: Api, authority: String, done: Arc<AtomicBool>) -> Vec<List> {
    let mut lists = vec![];
    while !done.load(Ordering::SeqCst) {
        if let Some(list) = list(&api, &authority).await {
            keep(&mut lists, list);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lists
}

/// The certificate of the authority that signed this one.
pub async fn issuer(api: &Api, id: &str) -> Certificate {
    let bundle = api.get(&format!("{CERTIFICATES}/{}/certificate", dashed(id))).await.unwrap().ok();
    let chain = x509::pem::decode_all(bundle["certificateChain"].as_str().unwrap(), x509::pem::CERTIFICATE).unwrap();
    Certificate::from_der(chain[0].clone()).unwrap()
}

/// What OCSP says of a serial.
pub async fn said(api: &Api, issuer: &Certificate, serial: &str, nonce: Option<&[u8]>) -> Said {
    let octets: Vec<u8> =
        (0..serial.len()).step_by(2).map(|at| u8::from_str_radix(&serial[at..at + 2], 16).unwrap()).collect();
    let (hash, key) = (IdentifierHash::Sha256, issuer.verifying_key().unwrap());
    let (name_hash, key_hash) = (hash.of(issuer.subject().as_der()), hash.of(key.key_octets()));
    let id = x509::CertificateId::encode(hash, &name_hash, &key_hash, &octets);
    let body = OcspRequest::encode(&[&id], nonce);
    let asked = api.client.post(format!("{}/api/v1/pki/ocsp", api.url)).body(body).send().await.unwrap();
    let der = asked.bytes().await.unwrap();
    if let Some(refusal) = OcspRefusal::from_der(&der) {
        assert_eq!(refusal, OcspRefusal::TryLater);
        return Said::Later;
    }
    match OcspAnswer::from_der(&der).unwrap().answers().next().unwrap().status {
        CertificateStatus::Good => Said::Good,
        CertificateStatus::Revoked { .. } => Said::Revoked,
        CertificateStatus::Unknown => Said::Unknown,
    }
}
