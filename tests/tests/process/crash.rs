//! Kills a server that works, again and again, and holds what its clients received against what it kept: everything is
//! there byte for byte, nothing is there twice, and nothing that was kept contradicts itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use keys::PrivateKey;
use serde_json::{Value, json};
use x509::{AttributeType, DistinguishedName, KeyAlgorithm, KeyUsages, SignatureAlgorithm, pem};

use crate::api::{Answer, Api, ISSUE, SIGN, issue_body};
use crate::random::Random;
use crate::site::{Site, block_on};

/// How often, and until when.
pub struct Plan {
    /// Kills under load; those during a start come on top.
    pub kills: usize,
    /// Goes on beyond the kills until clients have received so many certificates.
    pub acknowledged_min: usize,
    /// The longest time from the first request to the kill.
    pub load_millis_max: usize,
    pub seed: u64,
}

/// Clients that work at once, each over one connection.
const CLIENTS: usize = 8;

/// A request whose answer a client has, or has not.
struct Sent {
    common_name: String,
    path: &'static str,
    body: Value,
    /// Nothing when the server died first.
    received: Option<Value>,
}

/// What became of it all.
#[derive(Default)]
struct Seen {
    kills: usize,
    kills_during_a_start: usize,
    unknown: usize,
    repeated: usize,
    slowest_start: Duration,
    received: Vec<Value>,
    asked: Vec<Sent>,
}

pub fn run(site: &Site, plan: &Plan) {
    block_on(rounds(site, plan));
}

async fn rounds(site: &Site, plan: &Plan) {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let mut random = Random::new(plan.seed);
    let mut seen = Seen::default();
    while seen.kills < plan.kills || seen.received.len() < plan.acknowledged_min {
        let begun = Instant::now();
        let server = site.start();
        seen.slowest_start = seen.slowest_start.max(begun.elapsed());
        let api = Api::log_in(site, &server).await;
        let profile = site.fact("/profiles/web-server");
        if site.is_sqlite() {
            repeat_unknown(&api, &mut seen).await;
        }
        check_received(&api, &seen.received[seen.received.len().saturating_sub(50)..]).await;
        site.check_clean();

        let pause = Duration::from_millis(50 + random.below(plan.load_millis_max) as u64);
        let clients = (0..CLIENTS).map(|client| {
            let name = format!("k{}-{client}", seen.kills);
            tokio::spawn(work(api.clone(), profile.clone(), name, key.export_pkcs8().unwrap().expose().to_vec()))
        });
        let clients: Vec<_> = clients.collect();
        tokio::time::sleep(pause).await;
        server.kill();
        seen.kills += 1;
        for client in clients {
            for sent in client.await.unwrap() {
                match &sent.received {
                    Some(received) => seen.received.push(received.clone()),
                    None => seen.unknown += 1,
                }
                seen.asked.push(sent);
            }
        }
        if random.below(4) == 0 {
            let starting = site.launch(site.serve(&[]));
            tokio::time::sleep(Duration::from_millis(random.below(400) as u64)).await;
            starting.kill();
            seen.kills_during_a_start += 1;
        }
    }
    conclude(site, seen).await;
}

/// One client: every other time it has a key made, else it has its own signed. Ends when the server does.
async fn work(api: Api, profile: String, name: String, key: Vec<u8>) -> Vec<Sent> {
    let key = PrivateKey::from_pkcs8(&key).unwrap();
    let api = Api { client: crate::api::new_client(), ..api };
    let mut asked = Vec::new();
    loop {
        let common_name = format!("{name}-{}.example.com", asked.len());
        let (path, body) = match asked.len() % 2 {
            0 => (ISSUE, issue_body(&profile, &common_name)),
            _ => (SIGN, json!({"profileId": profile, "csr": csr(&key, &common_name), "ttl": "1d"})),
        };
        let answer = Answer::of(once(&api, path, &common_name, &body)).await;
        let received = answer.ok().map(Answer::ok);
        let is_over = received.is_none();
        asked.push(Sent { common_name, path, body, received });
        if is_over {
            return asked;
        }
    }
}

/// A request that may be sent again: its name is its key.
fn once(api: &Api, path: &str, name: &str, body: &Value) -> reqwest::RequestBuilder {
    api.request(reqwest::Method::POST, path).header("idempotency-key", name).json(body)
}

/// A request for this name, signed by this key.
pub fn csr(key: &PrivateKey, common_name: &str) -> String {
    let subject = DistinguishedName::build(&[(AttributeType::CommonName, common_name)]).unwrap();
    let info = x509::csr::build_request_info(&subject, key.public_spki_der(), KeyUsages::NONE);
    let algorithm = SignatureAlgorithm::EcdsaSha256;
    let signature = key.sign_message(algorithm, &info).unwrap();
    pem::encode(pem::CERTIFICATE_REQUEST, &x509::signed::assemble(&info, algorithm, &signature))
}

/// Sends again what had no answer. Whether it was done before or not, it is done now, and once.
async fn repeat_unknown(api: &Api, seen: &mut Seen) {
    for sent in seen.asked.iter_mut().filter(|sent| sent.received.is_none()) {
        let answer = Answer::of(once(api, sent.path, &sent.common_name, &sent.body)).await.unwrap().ok();
        seen.received.push(answer.clone());
        sent.received = Some(answer);
        seen.repeated += 1;
    }
}

/// Asserts that the server gives out what it gave out before, byte for byte.
async fn check_received(api: &Api, received: &[Value]) {
    for received in received {
        let base = format!("/api/v1/cert-manager/certificates/{}", received["certificateId"].as_str().unwrap());
        let kept = api.get(&format!("{base}/certificate")).await.unwrap().ok();
        for member in ["certificate", "certificateChain", "serialNumber"] {
            assert_eq!(kept[member], received[member], "{member} of {base}");
        }
        if let Some(key) = received["privateKey"].as_str() {
            assert_eq!(api.text(&format!("{base}/private-key")).await.trim(), key.trim(), "{base}");
        }
    }
}

async fn conclude(site: &Site, mut seen: Seen) {
    let server = site.start();
    let api = Api::log_in(site, &server).await;
    let has_waited = !site.is_sqlite() && seen.kills > 20;
    if site.is_sqlite() || has_waited {
        repeat_unknown(&api, &mut seen).await;
    }
    check_received(&api, &seen.received).await;

    let serials: BTreeSet<&str> = seen.received.iter().map(|one| one["serialNumber"].as_str().unwrap()).collect();
    assert_eq!(serials.len(), seen.received.len(), "a serial number was given out twice");
    let kept = inventory(&api, &site.fact("/projectId")).await;
    for sent in &seen.asked {
        let serials = kept.get(&sent.common_name).map_or(&[][..], Vec::as_slice);
        match &sent.received {
            Some(received) => assert_eq!(serials, [received["serialNumber"].as_str().unwrap()], "{}", sent.common_name),
            None => assert!(serials.len() <= 1, "{} is there {} times", sent.common_name, serials.len()),
        }
    }
    // Those of authorities have an event of another name.
    let certificates = site.count("SELECT COUNT(*) FROM certificates WHERE profile_id IS NOT NULL");
    assert_eq!(certificates, site.count("SELECT COUNT(*) FROM audit_records WHERE event = 'certificate-issued'"));
    assert_eq!(api.metric("chancery_panics").await, 0);
    site.check_clean();
    server.stop();
    site.check_clean();
    println!(
        "{}: {} kills under load and {} during a start; {} certificates received, all in the inventory byte for byte, \
         none twice; {} requests without an answer, {} of them sent again and done once; {} certificates in the \
         inventory; fsck and audit verify clean after every kill; slowest start {} ms",
        site.engine(),
        seen.kills,
        seen.kills_during_a_start,
        seen.received.len(),
        seen.unknown,
        seen.repeated,
        certificates,
        seen.slowest_start.as_millis(),
    );
}

/// The serial numbers of all certificates by their common names.
async fn inventory(api: &Api, project: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for page in 0.. {
        let path = format!("/api/v1/projects/{project}/certificates?limit=100&offset={}", page * 100);
        let answer = api.get(&path).await.unwrap().ok();
        let certificates = answer["certificates"].as_array().unwrap();
        for certificate in certificates {
            let text = |member: &str| certificate[member].as_str().unwrap().to_owned();
            found.entry(text("commonName")).or_default().push(text("serialNumber"));
        }
        if certificates.len() < 100 {
            break;
        }
    }
    found
}
