//! Three servers on one PostgreSQL that a standby follows; the clock of the third is 90 seconds ahead (invariants I3 to
//! I5, I10, I13). What the short tests and the long ones do with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::postgres::PrivateCluster;
use x509::Crl;

use crate::api::{Answer, Api, ISSUE, issue_body, new_client};
use crate::site::{PATIENCE, Server, Site, block_on};
use crate::withdrawal;

/// How far the clock of the third node is ahead.
const SKEW: &str = "+90s";

/// The servers and their database.
pub struct ThreeNodes {
    pub sites: [Site; 3],
    pub servers: [Server; 3],
    /// An admin at each of them.
    pub apis: [Api; 3],
    pub standby: PrivateCluster,
    /// Kept for as long as they run.
    _primary: PrivateCluster,
}

impl ThreeNodes {
    /// Starts them; each `serve` has these arguments, too.
    pub fn start(arguments: &[&str]) -> Self {
        let primary = PrivateCluster::start(&[]);
        let standby = PrivateCluster::start_standby_of(&primary);
        let first = Site::at(primary.url());
        let one = first.start_as(first.serve(arguments));
        let (second, third) = (first.node_beside(), first.node_beside());
        let two = second.start_as(second.serve(arguments));
        let mut ahead = third.serve(arguments);
        ahead.env("LD_PRELOAD", crate::site::faketime()).env("FAKETIME", SKEW).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let three = third.start_as(ahead);
        let servers = [one, two, three];
        let facts = first.facts();
        let log_in = servers.each_ref().map(|server| block_on(Api::log_in_at(&server.url, new_client(), &facts)));
        Self { sites: [first, second, third], servers, apis: log_in, standby, _primary: primary }
    }

    /// Clients of a runtime of their own.
    pub fn apis(&self) -> [Api; 3] {
        self.apis.clone().map(|api| Api { client: new_client(), ..api })
    }

    pub fn site(&self) -> &Site {
        &self.sites[0]
    }

    /// Ends them, looks into what they leave, and waits until the standby has all of it.
    pub fn end(self) {
        for server in self.servers {
            server.stop();
        }
        let site = &self.sites[0];
        assert_eq!(site.count("SELECT COUNT(*) FROM audit_heads"), 3, "each node has a chain of its own");
        assert_eq!(
            site.count(
                "SELECT COUNT(*) FROM (SELECT serial FROM certificates GROUP BY serial HAVING COUNT(*) > 1) twice"
            ),
            0
        );
        site.check_clean();
        let follower = Site::at(self.standby.url());
        let count = "SELECT COUNT(*) FROM certificates";
        let deadline = Instant::now() + PATIENCE;
        while follower.count(count) != site.count(count) {
            assert!(Instant::now() < deadline, "the standby does not follow");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Something that is withdrawn on one node and put back, so many times, and tried on the two others at that moment.
pub fn what_is_withdrawn_holds_everywhere(nodes: &ThreeNodes, rounds: usize) {
    let site = nodes.site();
    let authority = format!("/api/v1/pki/ca/{}", site.fact("/issuingCaId"));
    let profile = site.fact("/profiles/web-server");
    let profile_path = format!("/api/v1/cert-manager/certificate-profiles/{profile}");
    block_on(async {
        let apis = nodes.apis();
        let shown = apis[0].get(&profile_path).await.unwrap().ok();
        let policy = shown["certificateProfile"]["certificatePolicyId"].as_str().unwrap().to_owned();
        let policy = format!("/api/v1/cert-manager/certificate-policies/{policy}");
        let shown = apis[0].get(&policy).await.unwrap().ok();
        let sans = shown["certificatePolicy"]["sans"].clone();
        let no_names = json!([{"type": "dns_name", "denied": ["*"]}]);
        // What is changed how, and back.
        let changes = [
            ("the authority", authority, json!({"status": "disabled"}), json!({"status": "active"})),
            ("the policy", policy, json!({"sans": no_names}), json!({"sans": sans})),
        ];
        for round in 0..rounds {
            for (what, path, withdrawn, back) in &changes {
                let changer = round % 3;
                apis[changer].patch(path, withdrawn).await.unwrap().ok();
                for (answer, node) in issue_on_the_others(&apis, changer, &profile).await {
                    assert_eq!(answer.status, 400, "{what} on node {node}, round {round}: {}", answer.body);
                }
                apis[changer].patch(path, back).await.unwrap().ok();
                for (answer, node) in issue_on_the_others(&apis, changer, &profile).await {
                    assert_eq!(answer.status, 200, "{what} on node {node}, round {round}: {}", answer.body);
                }
            }
        }
    });
}

/// Asks both other nodes for a certificate at once.
async fn issue_on_the_others(apis: &[Api; 3], changer: usize, profile: &str) -> [(Answer, usize); 2] {
    let body = issue_body(profile, "withdrawn.example.com");
    let (one, other) = ((changer + 1) % 3, (changer + 2) % 3);
    let (first, second) = tokio::join!(apis[one].post(ISSUE, &body), apis[other].post(ISSUE, &body));
    [(first.unwrap(), one), (second.unwrap(), other)]
}

/// Tokens that are revoked, and identities that are deleted, on one node: none is accepted on another from then on, not
/// even to read.
pub fn who_is_sent_away_is_gone_everywhere(nodes: &ThreeNodes, rounds: usize) {
    block_on(async {
        let apis = nodes.apis();
        for round in 0..rounds {
            let here = &apis[round % 3];
            let there = [&apis[(round + 1) % 3], &apis[(round + 2) % 3]];
            let identity = json!({"name": format!("guest {round}"), "role": "admin"});
            let identity = here.post("/api/v1/identities", &identity).await.unwrap().ok();
            let id = identity["identity"]["id"].as_str().unwrap();
            let auth = format!("/api/v1/auth/universal-auth/identities/{id}");
            let auth_made = here.post(&auth, &json!({})).await.unwrap().ok();
            let secret = here.post(&format!("{auth}/client-secrets"), &json!({})).await.unwrap().ok();
            let facts = json!({"clientId": auth_made["identityUniversalAuth"]["clientId"],
                "clientSecret": secret["clientSecret"]});
            let guest = Api::log_in_at(&here.url, new_client(), &facts).await;
            let at = |node: &Api| Api { token: guest.token.clone(), ..node.clone() };
            const READ: &str = "/api/v1/identities/details";
            for node in there {
                at(node).get(READ).await.unwrap().ok();
            }
            match round % 2 {
                0 => {
                    let revoke = json!({"accessToken": guest.token});
                    here.post("/api/v1/auth/token/revoke", &revoke).await.unwrap().ok();
                }
                _ => {
                    let path = format!("/api/v1/identities/{id}");
                    Answer::of(here.request(Method::DELETE, &path)).await.unwrap().ok();
                }
            }
            for node in there {
                let answer = at(node).get(READ).await.unwrap();
                assert_eq!(answer.status, 401, "round {round} at {}: {}", node.url, answer.body);
            }
        }
    });
}

/// One key on all nodes at once, so many times: one certificate, and everybody gets it.
pub fn one_key_is_one_certificate(nodes: &ThreeNodes, rounds: usize) {
    block_on(async {
        let (apis, profile) = (nodes.apis(), nodes.site().fact("/profiles/web-server"));
        for round in 0..rounds {
            let name = format!("once-{round}.example.com");
            let body = issue_body(&profile, &name);
            let ask = |api: &Api| {
                let request = api.request(Method::POST, ISSUE).header("idempotency-key", &name).json(&body);
                Answer::of(request)
            };
            let (one, two, three) = tokio::join!(ask(&apis[0]), ask(&apis[1]), ask(&apis[2]));
            let answers = [one, two, three].map(|answer| answer.unwrap().ok());
            assert!(answers.iter().all(|answer| answer["certificate"] == answers[0]["certificate"]), "{answers:?}");
            let count = format!("SELECT COUNT(*) FROM certificates WHERE common_name = '{name}'");
            assert_eq!(nodes.site().count(&count), 1);
        }
    });
}

/// Lists that all nodes sign at once, while certificates are revoked: numbers grow, no two lists with one number
/// differ, the time of a list is never before that of the one before.
pub fn lists_grow(nodes: &ThreeNodes, rounds: usize) {
    block_on(async {
        let (apis, site) = (nodes.apis(), nodes.site());
        let publish = format!("/api/v1/cert-manager/ca/internal/{}/crls/publish", site.fact("/issuingCaId"));
        let mut lists: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut revoked = BTreeSet::new();
        for _ in 0..rounds {
            let work = apis.iter().map(|api| async {
                let issued = api.issue(site, "listed.example.com").await;
                let id = issued["certificateId"].as_str().unwrap();
                let path = format!("/api/v1/cert-manager/certificates/{id}/revoke");
                api.post(&path, &json!({"revocationReason": "SUPERSEDED"})).await.unwrap().ok();
                let serial = issued["serialNumber"].as_str().unwrap().to_owned();
                let published = api.post(&publish, &json!({})).await.unwrap();
                // Another node was faster again and again.
                assert!([200, 503].contains(&published.status), "{}", published.body);
                // What this node hands out now names what it has revoked.
                let list = withdrawal::list(api, site).await;
                assert!(published.status == 503 || withdrawal::names(&list, &serial), "{serial} is not in {list:?}");
                (serial, list)
            });
            let [one, two, three]: [_; 3] = work.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("three"));
            let (one, two, three) = tokio::join!(one, two, three);
            for (serial, list) in [one, two, three] {
                revoked.insert(serial);
                let number = withdrawal::number(&list);
                let der = list.as_der().to_vec();
                assert_eq!(*lists.entry(number).or_insert(der.clone()), der, "two lists with the number {number}");
            }
        }
        let read: Vec<Crl> = lists.into_values().map(|der| Crl::from_der(der).unwrap()).collect();
        assert!(read.windows(2).all(|pair| pair[0].this_update() <= pair[1].this_update()));
        let last = withdrawal::list(&apis[0], site).await;
        assert!(revoked.iter().all(|serial| withdrawal::names(&last, serial)));
    });
}

/// A sync whose command takes a moment, begun on all nodes again and again: no two of them are at it at once.
pub fn one_sync_runs_at_a_time(nodes: &ThreeNodes, place: &std::path::Path, rounds: usize) {
    block_on(async {
        let (apis, site) = (nodes.apis(), nodes.site());
        let folder = place.join("certificates");
        std::fs::create_dir(&folder).unwrap();
        let (lock, ran, met) = (place.join("lock"), place.join("ran"), place.join("met"));
        let command = format!(
            "mkdir {lock} || echo met >>{met}; sleep 0.3; echo ran >>{ran}; rmdir {lock}",
            lock = lock.display(),
            met = met.display(),
            ran = ran.display()
        );
        let issued = apis[0].issue(site, "synced.example.com").await;
        let options = json!({"certificateNameSchema": "{{commonName}}", "postSyncCommand": command});
        let body = json!({"name": "everywhere", "destinationConfig": {"destinationPath": folder},
            "syncOptions": options, "certificateIds": [issued["certificateId"]]});
        let sync = apis[0].post("/api/v1/pki/syncs/local-directory", &body).await.unwrap().ok();
        let mut certificate = issued["certificateId"].as_str().unwrap().to_owned();
        for round in 0..rounds {
            let renew = format!("/api/v3/pki/certificates/{certificate}/renew");
            let renewed = apis[round % 3].post(&renew, &json!({})).await.unwrap().ok();
            certificate = renewed["certificateId"].as_str().unwrap().to_owned();
            let path = format!("/api/v1/pki/syncs/local-directory/{}/sync", sync["id"].as_str().unwrap());
            let begin = apis.iter().map(|api| async { api.post(&path, &json!({})).await.unwrap().status });
            let [one, two, three]: [_; 3] = begin.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("three"));
            tokio::join!(one, two, three);
        }
        let deadline = Instant::now() + PATIENCE;
        let path = format!("/api/v1/pki/syncs/{}/certificates", sync["id"].as_str().unwrap());
        loop {
            let links = apis[1].get(&path).await.unwrap().ok();
            let is_done = |link: &Value| link["certificateId"] == *certificate && link["syncStatus"] == "succeeded";
            if links["certificates"].as_array().unwrap().iter().any(is_done) {
                break;
            }
            assert!(Instant::now() < deadline, "{links}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
        assert!(lines(&ran) > 0);
        assert_eq!(lines(&met), 0, "two nodes were at it at once");
    });
}
