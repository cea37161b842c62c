//! What is changed while a certificate is made: it is judged by what holds when it is recorded (invariants A5, D1, D11).

use crate::authorities::TYPED;
use crate::idempotency::{caller, request};
use crate::issuing::{POLICIES, certificate, count, issue, profile};
use crate::server::{Server, for_each_engine, text};
use domain::duration::parse_limit;
use domain::profile::Policy;
use domain::{PolicyId, ProfileId};
use serde_json::json;
use services::Random;
use services::issue::IssueOptions;
use store::{Changes, Statement};

/// The policy of that name.
async fn policy_of(server: &Server, name: &str) -> Policy {
    let listed = server.get(&format!("{POLICIES}?search={name}")).await.ok();
    let id = PolicyId::parse(&text(&listed["certificatePolicies"][0]["id"])).unwrap();
    store::profile::policy(&server.services.db, server.organization, id).await.unwrap().unwrap()
}

/// Changes the longest lifetime of a policy as another node does: this one has not heard of it yet.
async fn limit_elsewhere(server: &Server, name: &str, limit: &str) {
    let mut policy = policy_of(server, name).await;
    policy.version += 1;
    policy.rules.validity.as_mut().unwrap().max = Some(limit.into());
    server.services.db.commit(store::profile::update_policy(&policy)).await.unwrap();
}

#[test]
fn a_policy_that_another_node_has_tightened_holds_at_once() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        issue(&server, &open, json!({"ttl": "2h"})).await.ok();
        limit_elsewhere(&server, "open", "1h").await;
        let refused = issue(&server, &open, json!({"ttl": "2h"})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("at most 1 hour"), "{refused}");
        assert_eq!(count(&server).await, 1);
        issue(&server, &open, json!({"ttl": "1h"})).await.ok();
        limit_elsewhere(&server, "open", "3h").await;
        issue(&server, &open, json!({"ttl": "1h"})).await.ok();
        let row =
            server.services.db.row("SELECT MAX(policy_version) FROM certificates", vec![]).await.unwrap().unwrap();
        assert_eq!(row.int(0).unwrap(), 3);
    });
}

#[test]
fn an_authority_that_another_node_has_disabled_signs_nothing_more() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        issue(&server, &open, json!({})).await.ok();
        let disable = Statement::new(
            "UPDATE authorities SET status = 'disabled', version = version + 1 WHERE name = 'issuing-ca'",
            vec![],
        );
        server.services.db.commit(Changes::new().statement(disable.expect_one("it is there"))).await.unwrap();
        let refused = issue(&server, &open, json!({})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("disabled"), "{refused}");
        assert_eq!(count(&server).await, 1);
        assert_eq!(server.get(&format!("{TYPED}/{}", server.issuing_ca)).await.ok()["status"], "disabled");
    });
}

#[test]
fn every_certificate_keeps_the_policy_of_the_version_that_it_names() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let policy = format!("{POLICIES}/{}", policy_of(&server, "open").await.id);
        let mut issuing = Vec::new();
        for _ in 0..4 {
            let (server, open) = (server.clone(), open.clone());
            issuing.push(tokio::spawn(async move {
                let mut issued = 0;
                for _ in 0..25 {
                    let answer = issue(&server, &open, json!({"ttl": "2h"})).await;
                    assert!([200, 400, 409].contains(&answer.status), "{}", answer.body);
                    issued += usize::from(answer.status == 200);
                }
                issued
            }));
        }
        for round in 0..20 {
            let limit = if round % 2 == 0 { "1h" } else { "1d" };
            server.patch(&policy, json!({"validity": {"max": limit}})).await.ok();
        }
        let mut issued = 0;
        for one in issuing {
            issued += one.await.unwrap();
        }
        let rows = server
            .services
            .db
            .rows(
                "SELECT c.der, v.rules FROM certificates c
                 JOIN profiles f ON f.id = c.profile_id
                 JOIN policy_versions v ON v.policy_id = f.policy_id AND v.version = c.policy_version",
                vec![],
            )
            .await
            .unwrap();
        assert_eq!(rows.len(), issued);
        for row in &rows {
            let certificate = x509::Certificate::from_der(row.blob(0).unwrap().to_vec()).unwrap();
            let rules: serde_json::Value = serde_json::from_str(row.text(1).unwrap()).unwrap();
            let limit = parse_limit(&text(&rules["validity"]["max"])).unwrap();
            assert!((certificate.not_after() - certificate.not_before()) * 1000 <= limit, "{rules}");
        }
    });
}

#[test]
fn a_stuck_source_of_randomness_issues_no_second_certificate() {
    for_each_engine(|server| async move {
        let open = ProfileId::parse(&profile(&server, "open", json!({})).await).unwrap();
        let caller = caller(&server);
        let mut stuck = server.services.clone();
        stuck.random = Random::constant(0x5a);
        let first = stuck.issue(&caller, open, request(), IssueOptions::default()).await.unwrap();
        assert_eq!(first.certificate.serial_content(), [0x5a; 20]);
        // Not even under another id.
        server.at(1);
        let failed = stuck.issue(&caller, open, request(), IssueOptions::default()).await;
        assert_eq!(failed.map(|_| ()).unwrap_err().reason(), None);
        stuck.random = Random::constant(0);
        let failed = stuck.issue(&caller, open, request(), IssueOptions::default()).await;
        assert!(failed.map(|_| ()).unwrap_err().to_string().contains("serial"));
        assert_eq!(count(&server).await, 1);
        let answer = issue(&server, &open.to_string(), json!({})).await.ok();
        assert_ne!(certificate(&answer).serial_content(), [0x5a; 20]);
    });
}
