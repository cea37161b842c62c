//! Revocations that were acknowledged: in the list within two seconds, whatever dies in between, and for good, whatever is
//! done at the same time (invariants D3, I4, I5).

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::stand_ins::aws::{AwsStandIn, REGION, StoredObject};
use testkit::stand_ins::put_folder::PutFolder;
use x509::{Crl, RevocationReason, SerialNumber};

use crate::api::{Answer, Api};
use crate::random::Random;
use crate::site::{Site, block_on};

/// How soon a list names what was revoked.
const SOON: Duration = Duration::from_secs(2);

const CERTIFICATES: &str = "/api/v1/cert-manager/certificates";

/// The list of the issuing authority as anybody gets it.
pub async fn list(api: &Api, site: &Site) -> Crl {
    let lists = api.get(&format!("/api/v1/pki/ca/{}/crls", site.fact("/issuingCaId"))).await.unwrap().ok();
    let path = format!("/api/v1/pki/crl/{}/der", lists[0]["id"].as_str().unwrap());
    let response = api.client.get(format!("{}{path}", api.url)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/pkix-crl");
    Crl::from_der(response.bytes().await.unwrap().to_vec()).unwrap()
}

pub fn names(list: &Crl, serial: &str) -> bool {
    list.find(&SerialNumber::from_hex(serial).unwrap().integer_content()).is_some()
}

pub fn number(list: &Crl) -> u64 {
    list.number().unwrap().unwrap().iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

pub async fn revoke(api: &Api, id: &str, reason: RevocationReason) -> Answer {
    let body = json!({"revocationReason": reason.as_str()});
    api.post(&format!("{CERTIFICATES}/{id}/revoke"), &body).await.unwrap()
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap()
}

/// Waits until the list names all of them, and says how long that took.
async fn until_named(api: &Api, site: &Site, serials: &[String]) -> Duration {
    let begun = Instant::now();
    loop {
        let list = list(api, site).await;
        if serials.iter().all(|serial| names(&list, serial)) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{serials:?} are not all in {list:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every new list is put to a web server and into a bucket, too: the newest one soon, whatever the place said at first.
pub fn new_lists_are_put_elsewhere(site: &Site) {
    block_on(async {
        let (folder, bucket) = (PutFolder::start(1).await, AwsStandIn::start().await);
        let (id, secret) = bucket.access_key();
        let mut command = site.serve(&["--crl-put-url", folder.url(), "--crl-s3", "s3://some-lists/of/ours"]);
        command.args(["--crl-s3-region", REGION, "--crl-s3-endpoint", bucket.url()]);
        command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        let server = site.start_as(command);
        let api = Api::log_in(site, &server).await;
        let answer = api.issue(site, "elsewhere.example.com").await;
        revoke(&api, text(&answer, "certificateId"), RevocationReason::Superseded).await.ok();
        let serial = text(&answer, "serialNumber");
        let lists = api.get(&format!("/api/v1/pki/ca/{}/crls", site.fact("/issuingCaId"))).await.unwrap().ok();
        let name = format!("{}.crl", text(&lists[0], "id"));
        let names_it = |der: Option<Vec<u8>>| der.is_some_and(|der| names(&Crl::from_der(der).unwrap(), serial));
        let begun = Instant::now();
        let object = |objects: std::collections::BTreeMap<String, _>| {
            objects.get(&format!("some-lists/of/ours/{name}")).map(|object: &StoredObject| object.body.clone())
        };
        while !names_it(folder.file(&name)) || !names_it(object(bucket.objects())) {
            assert!(begun.elapsed() < Duration::from_secs(30), "the list is not in both places");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(folder.refused(), 1);
    });
}

/// The list of what changed, after the authority was told to have one and something did.
async fn changes_since(api: &Api, site: &Site) -> String {
    let authority = format!("/api/v1/cert-manager/ca/internal/{}", site.fact("/issuingCaId"));
    let choice = json!({"isDeltaEnabled": true});
    api.patch(&format!("{authority}/crls/config"), &choice).await.unwrap().ok();
    let answer = api.issue(site, "changed.example.com").await;
    revoke(api, text(&answer, "certificateId"), RevocationReason::CertificateHold).await.ok();
    let lists = api.post(&format!("{authority}/crls/publish"), &json!({})).await.unwrap().ok();
    let path = format!("/api/v1/pki/crl/{}/delta", text(&lists[0], "id"));
    let der = api.client.get(format!("{}{path}", api.url)).send().await.unwrap().bytes().await.unwrap().to_vec();
    assert!(names(&Crl::from_der(der.clone()).unwrap(), text(&answer, "serialNumber")));
    x509::pem::encode(x509::pem::CRL, &der)
}

/// What lists look like to others: OpenSSL and GnuTLS check certificates by them, and pkilint finds no error.
pub fn others_read_the_lists(site: &Site) {
    let lists = site.path("lists");
    let server = site.start_as(site.serve(&["--crl-folder", lists.to_str().unwrap()]));
    let folder = site.path("others");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, contents: &str| std::fs::write(folder.join(name), contents).unwrap();
    block_on(async {
        let api = Api::log_in(site, &server).await;
        let good = api.issue(site, "good.example.com").await;
        let mut revoked = Vec::new();
        for reason in RevocationReason::ALL {
            let answer = api.issue(site, "revoked.example.com").await;
            revoke(&api, text(&answer, "certificateId"), reason).await.ok();
            revoked.push(answer);
        }
        let serials: Vec<String> = revoked.iter().map(|one| text(one, "serialNumber").to_owned()).collect();
        let took = until_named(&api, site, &serials).await;
        assert!(took < SOON, "{took:?}");
        in_the_folder(&list(&api, site).await, &lists);
        let mut crls = String::new();
        for (name, id) in [("root.crl", "/rootCaId"), ("issuing.crl", "/issuingCaId")] {
            let lists = api.get(&format!("/api/v1/pki/ca/{}/crls", site.fact(id))).await.unwrap().ok();
            write(name, text(&lists[0], "crl"));
            crls.push_str(text(&lists[0], "crl"));
            crls.push('\n');
        }
        write("all.crl", &crls);
        write("delta.crl", &changes_since(&api, site).await);
        let chain = text(&good, "certificateChain");
        let (issuing, root) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
        write("issuing.pem", issuing);
        write("root.pem", root);
        write("good.pem", text(&good, "certificate"));
        write("revoked.pem", text(&revoked[1], "certificate"));
    });
    let run = |program: &str, arguments: &str| {
        let output = Command::new(program).args(arguments.split(' ')).current_dir(&folder).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let verify = "verify -crl_check_all -x509_strict -CAfile root.pem -untrusted issuing.pem -CRLfile all.crl";
    let (holds, said) = run("openssl", &format!("{verify} good.pem"));
    assert!(holds, "{said}");
    let (holds, said) = run("openssl", &format!("{verify} revoked.pem"));
    assert!(!holds && said.contains("certificate revoked"), "{said}");
    for (list, issuer) in [("issuing", "issuing"), ("root", "root"), ("delta", "issuing")] {
        let (holds, said) =
            run("certtool", &format!("--verify-crl --load-ca-certificate {issuer}.pem --infile {list}.crl"));
        assert!(holds && said.contains("Verified"), "{said}");
        let lint = concat!(env!("CARGO_MANIFEST_DIR"), "/../.test/venv/bin/lint_crl");
        let (holds, said) = run(lint, &format!("lint -t CRL -p PKIX -s ERROR {list}.crl"));
        assert!(holds && !said.contains("(ERROR)") && !said.contains("(FATAL)"), "{list}: {said}");
    }
    let (_, said) = run("certtool", "--crl-info --infile issuing.crl");
    assert!(said.contains("Revoked certificates (9)"), "{said}");
    server.stop();
}

/// The list is in the folder too, byte for byte, under the name that certificates say.
fn in_the_folder(list: &Crl, folder: &std::path::Path) {
    let is_there = || {
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files
            .filter(|path| path.extension() == Some("crl".as_ref()))
            .any(|path| std::fs::read(path).unwrap() == list.as_der())
    };
    let begun = Instant::now();
    while !is_there() {
        assert!(begun.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills the server between revocations and their list, so many times. Says how long the slowest list took.
pub fn killed_before_the_list(site: &Site, kills: usize, seed: u64) -> Duration {
    let mut random = Random::new(seed);
    let mut slowest = Duration::ZERO;
    let mut last_number = 0;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..kills {
        let server = site.start();
        block_on(async {
            let api = Api::log_in(site, &server).await;
            // What was acknowledged before the kill is there soon after the start.
            if !acknowledged.is_empty() {
                let took = until_named(&api, site, &acknowledged).await;
                assert!(took < SOON, "round {round}: {took:?}");
                slowest = slowest.max(took);
            }
            let list = list(&api, site).await;
            assert!(number(&list) >= last_number, "round {round}");
            last_number = number(&list);
            acknowledged.clear();
            for _ in 0..=random.below(3) {
                let answer = api.issue(site, "kill.example.com").await;
                revoke(&api, text(&answer, "certificateId"), RevocationReason::Superseded).await.ok();
                acknowledged.push(text(&answer, "serialNumber").to_owned());
            }
            tokio::time::sleep(Duration::from_millis(random.below(1_000) as u64)).await;
        });
        server.kill();
    }
    let server = site.start();
    block_on(async {
        let api = Api::log_in(site, &server).await;
        let took = until_named(&api, site, &acknowledged).await;
        assert!(took < SOON, "{took:?}");
    });
    server.stop();
    site.check_clean();
    slowest
}

/// Renews, revokes and deletes the same certificates at once, so many times. A certificate whose revocation was
/// acknowledged is revoked in the inventory, unless it was deleted, and in the list in any case.
pub fn races(site: &Site, count: usize, seed: u64) -> Races {
    let server = site.start();
    let api = block_on(Api::log_in(site, &server));
    let seen = races_over(site, &[api.clone(), api.clone(), api], count, seed);
    server.stop();
    site.check_clean();
    seen
}

/// The same, where renewals go to the first of these, revocations to the second, deletions to the third.
pub fn races_over(site: &Site, apis: &[Api; 3], count: usize, seed: u64) -> Races {
    const AT_ONCE: usize = 16;
    let mut random = Random::new(seed);
    let mut seen = Races::default();
    block_on(async {
        // A runtime of its own wants connections of its own.
        let apis = apis.clone().map(|api| Api { client: crate::api::new_client(), ..api });
        let api = apis[0].clone();
        let mut revoked = Vec::new();
        let mut spared = Vec::new();
        for _ in 0..count.div_ceil(AT_ONCE) {
            let orders: Vec<usize> = (0..AT_ONCE).map(|_| random.below(6)).collect();
            let racing = orders.into_iter().map(|order| {
                let (apis, profile) = (apis.clone(), site.fact("/profiles/web-server"));
                tokio::spawn(async move { race(&apis, &profile, order).await })
            });
            for outcome in racing.collect::<Vec<_>>() {
                let outcome = outcome.await.unwrap();
                seen.races += 1;
                seen.revoked += usize::from(outcome.is_revoked);
                seen.renewed += usize::from(outcome.is_renewed);
                seen.deleted += usize::from(outcome.is_deleted);
                if outcome.is_revoked { &mut revoked } else { &mut spared }.push(outcome.serial);
            }
        }
        let took = until_named(&api, site, &revoked).await;
        assert!(took < SOON, "{took:?}");
        let list = list(&api, site).await;
        assert!(spared.iter().all(|serial| !names(&list, serial)));
    });
    assert_eq!(
        site.count(
            "SELECT COUNT(*) FROM (SELECT predecessor_id FROM renewals GROUP BY predecessor_id HAVING COUNT(*) > 1) d"
        ),
        0
    );
    seen
}

/// What became of the races.
#[derive(Debug, Default)]
pub struct Races {
    pub races: usize,
    pub revoked: usize,
    pub renewed: usize,
    pub deleted: usize,
}

struct Outcome {
    serial: String,
    is_revoked: bool,
    is_renewed: bool,
    is_deleted: bool,
}

async fn race([api, revoker, deleter]: &[Api; 3], profile: &str, order: usize) -> Outcome {
    let body = crate::api::issue_body(profile, "race.example.com");
    let issued = api.post(crate::api::ISSUE, &body).await.unwrap().ok();
    let id = text(&issued, "certificateId").to_owned();
    let place = format!("{CERTIFICATES}/{id}");
    let nothing = json!({});
    let renew = async { api.post(&format!("{place}/renew"), &nothing).await.unwrap() };
    let revoking = revoke(revoker, &id, RevocationReason::Superseded);
    let delete = async { Answer::of(deleter.request(reqwest::Method::DELETE, &place)).await.unwrap() };
    // The order in which they are sent; all but one of these overlap.
    let (renewed, revoked, deleted) = match order {
        // One order in which a renewal is through, however the nodes are loaded.
        0 => {
            let renewed = renew.await;
            let (revoked, deleted) = tokio::join!(revoking, delete);
            (renewed, revoked, deleted)
        }
        1 => tokio::join!(renew, revoking, delete),
        2 | 3 => {
            let (revoked, renewed, deleted) = tokio::join!(revoking, renew, delete);
            (renewed, revoked, deleted)
        }
        _ => {
            let (deleted, revoked, renewed) = tokio::join!(delete, revoking, renew);
            (renewed, revoked, deleted)
        }
    };
    for answer in [&renewed, &revoked, &deleted] {
        assert!([200, 400, 404].contains(&answer.status), "{}", answer.body);
    }
    let is = |answer: &Answer| answer.status == 200;
    let outcome = Outcome {
        serial: text(&issued, "serialNumber").to_owned(),
        is_revoked: is(&revoked),
        is_renewed: is(&renewed),
        is_deleted: is(&deleted),
    };
    let record = deleter.get(&place).await.unwrap();
    assert_eq!(record.status == 404, outcome.is_deleted, "{}", record.body);
    if record.status == 200 {
        let shown = &record.body["certificate"];
        assert_eq!(shown["status"] == "revoked", outcome.is_revoked, "{shown}");
        assert_eq!(shown["renewedByCertificateId"].is_string(), outcome.is_renewed, "{shown}");
    }
    outcome
}
