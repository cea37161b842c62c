//! Damaged requests: bits of a CSR, characters of a PEM, octets of a JSON body. Each is refused in the shape of every
//! error, nothing panics, and what is refused leaves no row.

use keys::PrivateKey;
use reqwest::Method;
use serde_json::{Value, json};
use x509::{KeyAlgorithm, pem};

use crate::api::{Answer, Api, ISSUE, SIGN, issue_body};
use crate::crash::csr;
use crate::random::Random;
use crate::site::{Site, block_on};

/// What the mutated requests came to.
#[derive(Debug, Default)]
pub struct Seen {
    pub refused: usize,
    /// Mutations that left a request as good as it was: a changed name, a changed space.
    pub harmless: usize,
}

/// Sends so many mutated requests and holds the server to what it may do with them.
pub fn run(site: &Site, count: usize, seed: u64) -> Seen {
    let server = site.start();
    let seen = block_on(async {
        let api = Api::log_in(site, &server).await;
        let requests = Requests::new(site);
        let mut random = Random::new(seed);
        let before = rows(site);
        let mut seen = Seen::default();
        for _ in 0..count {
            let mutated = requests.mutated(&mut random);
            let request = api
                .request(Method::POST, &mutated.path)
                .header("content-type", "application/json")
                .body(mutated.body.clone());
            let answer = Answer::of(request).await.unwrap();
            match answer.status {
                400..=499 => {
                    assert_eq!(answer.body["statusCode"], answer.status, "{}", answer.body);
                    seen.refused += 1;
                }
                200 if mutated.may_be_harmless => seen.harmless += 1,
                status => panic!("{status} {} for {}", answer.body, String::from_utf8_lossy(&mutated.body)),
            }
        }
        let after = rows(site);
        let made = i64::try_from(seen.harmless).unwrap();
        assert_eq!(after, [before[0] + made, before[1], before[2], before[3], before[4] + made]);
        assert_eq!(api.metric("chancery_panics").await, 0);
        seen
    });
    server.stop();
    site.check_clean();
    seen
}

/// Certificates, authorities, policies, profiles and audit records.
fn rows(site: &Site) -> [i64; 5] {
    ["certificates", "authorities", "policies", "profiles", "audit_records"]
        .map(|table| site.count(&format!("SELECT COUNT(*) FROM {table}")))
}

struct Mutated {
    path: String,
    body: Vec<u8>,
    may_be_harmless: bool,
}

/// Good requests, and requests that are good but for one thing, to be damaged.
struct Requests {
    profile: String,
    issuing_ca: String,
    csr: Vec<u8>,
    root: Vec<u8>,
}

const NOBODY: &str = "0198c5a0-0000-7000-8000-000000000001";

impl Requests {
    fn new(site: &Site) -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let csr = pem::decode_one(&csr(&key, "mutated.example.com"), &[pem::CERTIFICATE_REQUEST]).unwrap();
        Self {
            profile: site.fact("/profiles/web-server"),
            issuing_ca: site.fact("/issuingCaId"),
            csr,
            root: site.octets("der", "authority_certificates ORDER BY created_at LIMIT 1"),
        }
    }

    fn mutated(&self, random: &mut Random) -> Mutated {
        match random.below(8) {
            0 | 1 => self.refused(SIGN, &self.sign(&csr_pem(&damaged(&self.csr, random)))),
            2 => {
                let body = json!({"csr": csr_pem(&damaged(&self.csr, random)), "notAfter": "2030-01-01"});
                self.refused(&format!("/api/v1/pki/ca/{}/sign-intermediate", self.issuing_ca), &body)
            }
            3 => {
                let text = String::from_utf8_lossy(&damaged(csr_pem(&self.csr).as_bytes(), random)).into_owned();
                // A changed line end or a word before the block leaves the CSR as it was.
                Mutated { may_be_harmless: true, ..self.refused(SIGN, &self.sign(&text)) }
            }
            4 => {
                // The issuing authority stands below one of ours, so no certificate at all may be imported.
                let text = String::from_utf8_lossy(&damaged(root_pem(&self.root).as_bytes(), random)).into_owned();
                let body = json!({"certificate": text, "certificateChain": root_pem(&damaged(&self.root, random))});
                self.refused(&format!("/api/v1/pki/ca/{}/import-certificate", self.issuing_ca), &body)
            }
            5 => {
                let body = issue_body(&self.profile, "mutated.example.com").to_string();
                Mutated { path: ISSUE.into(), body: damaged(body.as_bytes(), random), may_be_harmless: true }
            }
            6 => {
                let (path, body) = self.for_nobody(random.below(4));
                Mutated { path, body: damaged(body.to_string().as_bytes(), random), may_be_harmless: false }
            }
            _ => {
                let mut body = issue_body(&self.profile, "mutated.example.com");
                let member = random.below(body.as_object().unwrap().len());
                let hostile = hostile(random.below(9));
                let name = body.as_object().unwrap().keys().nth(member).unwrap().clone();
                body[name] = hostile;
                self.refused(ISSUE, &body)
            }
        }
    }

    fn sign(&self, csr: &str) -> Value {
        json!({"profileId": self.profile, "csr": csr, "ttl": "1d"})
    }

    fn refused(&self, path: &str, body: &Value) -> Mutated {
        Mutated { path: path.to_owned(), body: body.to_string().into_bytes(), may_be_harmless: false }
    }

    /// Requests that name a project or a client that does not exist, and have a second fault: a damaged name of a member
    /// takes only one of them away.
    fn for_nobody(&self, which: usize) -> (String, Value) {
        let configuration =
            json!({"type": "root", "commonName": "X", "keyAlgorithm": "EC_prime256v1", "maxPathLength": -7});
        match which {
            0 => (
                "/api/v1/cert-manager/ca/internal".into(),
                json!({"name": "mutated", "projectId": NOBODY, "status": "active", "configuration": configuration}),
            ),
            1 => (
                "/api/v1/cert-manager/certificate-policies".into(),
                json!({"projectId": NOBODY, "name": "mutated", "subject": [{"type": "nickname", "allowed": ["*"]}]}),
            ),
            2 => (
                "/api/v1/cert-manager/certificate-profiles".into(),
                json!({"projectId": NOBODY, "slug": "mutated", "caId": NOBODY, "certificatePolicyId": NOBODY,
                       "enrollmentType": "api", "apiConfig": {"autoRenew": false}}),
            ),
            _ => (
                "/api/v1/auth/universal-auth/login".into(),
                json!({"clientId": NOBODY, "clientSecret": "0123456789abcdef"}),
            ),
        }
    }
}

/// Values that no member of an issue request takes.
fn hostile(which: usize) -> Value {
    match which {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!({"a": {"b": [1, 2, 3]}}),
        3 => json!(vec!["x"; 40]),
        4 => json!("x\u{0}y"),
        5 => json!("'\";--$$"),
        6 => json!("../".repeat(200)),
        7 => json!(1e308),
        _ => json!(false),
    }
}

/// The octets with a bit flipped, an octet removed, one added, or the end cut off.
fn damaged(octets: &[u8], random: &mut Random) -> Vec<u8> {
    let mut damaged = octets.to_vec();
    let place = random.below(octets.len());
    match random.below(6) {
        0..=2 => damaged[place] ^= 1 << random.below(8),
        3 => drop(damaged.remove(place)),
        4 => damaged.insert(place, u8::try_from(random.below(256)).unwrap()),
        _ => damaged.truncate(place),
    }
    damaged
}

fn csr_pem(der: &[u8]) -> String {
    pem::encode(pem::CERTIFICATE_REQUEST, der)
}

fn root_pem(der: &[u8]) -> String {
    pem::encode(pem::CERTIFICATE, der)
}
