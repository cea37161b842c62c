//! Certificates that are renewed: by request, and by themselves as it was planned (contract §6.5, 6.6; invariant D3).

use crate::authorities::{DAY, TYPED};
use crate::csr::Draft;
use crate::issuing::{REQUEST, SIGN, certificate, count, issue, open_policy, policy, profile, profile_with};
use crate::server::{Answer, Server, for_each_engine, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;
use x509::AttributeType;

const V3: &str = "/api/v3/pki/certificates";

async fn renew(server: &Server, id: &str) -> Answer {
    server.post(&format!("{V3}/{id}/renew"), json!({})).await
}

async fn record(server: &Server, id: &str) -> Value {
    server.get(&format!("{REQUEST}/{id}")).await.ok()["certificate"].take()
}

/// What the runner of the jobs does when it looks, and then when it works.
pub async fn run_jobs(server: &Server) {
    run_jobs_with(server, domain::revocation::CERTIFICATES_PER_LIST).await;
}

/// The same with another number of certificates for each list.
pub async fn run_jobs_with(server: &Server, certificates_per_list: u32) {
    let settings = jobs::Settings {
        node: "test".into(),
        server_names: None,
        certificates_per_list,
        list_folder: None,
        places: std::sync::Arc::default(),
    };
    jobs::look_ahead(&server.services, &settings).await.unwrap();
    // The server's own runner may hold some of them: they are done when it has done its part, too.
    // What it ends may plan another one in between, so nothing is left only when nothing was twice.
    let mut quiet = 0;
    while quiet < 2 {
        let is_busy = jobs::work(&server.services, &settings).await.unwrap() > 0 || is_working(server).await;
        quiet = if is_busy { 0 } else { quiet + 1 };
    }
}

async fn is_working(server: &Server) -> bool {
    let (running, now) = (Some(domain::job::JobStatus::Running), server.services.now());
    let (_, count) = store::job::list(&server.services.db, running, now, 0, 1).await.unwrap();
    if count > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    count > 0
}

#[test]
fn a_successor_is_like_its_predecessor_with_a_new_key() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let wanted = json!({
            "ttl": "60h", "keyUsages": ["digital_signature"], "extendedKeyUsages": ["server_auth", "client_auth"],
            "altNames": [{"type": "dns_name", "value": "www.example.com"}, {"type": "ip_address", "value": "192.0.2.7"},
                         {"type": "email", "value": "a@example.com"}, {"type": "uri", "value": "spiffe://example.com/a"}],
        });
        let first = issue(&server, &open, wanted).await.ok();
        let id = text(&first["certificateId"]);
        server.at(DAY);
        let second = renew(&server, &id).await.ok();
        let (before, after) = (certificate(&first), certificate(&second));
        assert_eq!(after.subject().as_der(), before.subject().as_der());
        assert_ne!(after.spki_der(), before.spki_der());
        assert_eq!(domain::inventory::alt_names(&after), domain::inventory::alt_names(&before));
        let usages = |one: &x509::Certificate| {
            (one.extensions().key_usages().unwrap(), one.extensions().extended_key_usages().unwrap())
        };
        assert_eq!(usages(&after), usages(&before));
        // 60 hours are three days, rounded up.
        assert_eq!(after.not_after() - after.not_before(), 3 * DAY);
        assert!(text(&second["privateKey"]).contains("PRIVATE KEY"));
        let next = text(&second["certificateId"]);
        let (old, new) = (record(&server, &id).await, record(&server, &next).await);
        assert_eq!((&old["renewedByCertificateId"], &old["status"]), (&json!(next), &json!("active")));
        assert_eq!((&new["renewedFromCertificateId"], &new["renewedByCertificateId"]), (&json!(id), &Value::Null));

        // One successor each, in a line.
        let refused = renew(&server, &id).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains(&next), "{refused}");
        assert_eq!(record(&server, &id).await["renewalError"], refused["message"]);
        let third = server.post(&format!("{REQUEST}/{next}/renew"), json!({})).await.ok();
        assert_eq!(third["certificateRequestId"], third["certificateId"]);
        assert_eq!(count(&server).await, 3);
    });
}

#[test]
fn what_cannot_be_renewed_is_refused_with_every_reason() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        renew(&server, crate::authorities::UNKNOWN).await.refused(404, "NotFound");
        let key = TestKey::generate();
        let csr = Draft::new(&key, &[(AttributeType::CommonName, "csr.example.com")]).pem(&key);
        let signed = server.post(SIGN, json!({"profileId": open, "csr": csr, "ttl": "1d"})).await.ok();
        renew(&server, &text(&signed["certificateId"])).await.refused(403, "ForbiddenError");

        let answer = issue(&server, &open, json!({"ttl": "2d"})).await.ok();
        let id = text(&answer["certificateId"]);
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        renew(&viewer, &id).await.refused(403, "PermissionDenied");
        server.post(&format!("{REQUEST}/{id}/revoke"), json!({"revocationReason": "CERTIFICATE_HOLD"})).await.ok();
        server.patch(&format!("{TYPED}/{}", server.issuing_ca), json!({"status": "disabled"})).await.ok();
        let refused = renew(&server, &id).await.refused(400, "BadRequest");
        for part in ["is revoked", "is not active"] {
            assert!(text(&refused["message"]).contains(part), "{refused}");
        }
        assert_eq!(record(&server, &id).await["renewalError"], refused["message"]);
        server.patch(&format!("{TYPED}/{}", server.issuing_ca), json!({"status": "active"})).await.ok();
        server.post(&format!("{REQUEST}/{id}/release"), json!({})).await.ok();

        // The policy of today judges.
        let policies = "/api/v1/cert-manager/certificate-policies";
        let listed = server.get(&format!("{policies}?search=open")).await.ok();
        let policy = text(&listed["certificatePolicies"][0]["id"]);
        server.patch(&format!("{policies}/{policy}"), json!({"validity": {"max": "1d"}})).await.ok();
        let refused = renew(&server, &id).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("at most 1 day"), "{refused}");
        server.patch(&format!("{policies}/{policy}"), json!({"validity": {"max": "90d"}})).await.ok();
        server.at(3 * DAY);
        let refused = renew(&server, &id).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("expired"), "{refused}");
        assert_eq!(count(&server).await, 2);
    });
}

#[test]
fn a_plan_is_kept_within_its_bounds() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let id = text(&issue(&server, &open, json!({"ttl": "20d"})).await.ok()["certificateId"]);
        let config = format!("{V3}/{id}/config");
        for (body, path) in [
            (json!({"renewBeforeDays": 0}), "renewBeforeDays"),
            (json!({"renewBeforeDays": 31}), "renewBeforeDays"),
            (json!({"renewBeforeDays": 5, "enableAutoRenewal": false}), ""),
        ] {
            assert_eq!(server.patch(&config, body.clone()).await.issues(), [path], "{body}");
        }
        server.patch(&config, json!({"renewBeforeDays": 20})).await.refused(400, "BadRequest");
        assert_eq!(server.patch(&config, json!({"renewBeforeDays": 5})).await.ok()["renewBeforeDays"], 5);
        assert_eq!(record(&server, &id).await["renewBeforeDays"], 5);
        let off = server.patch(&config, json!({"enableAutoRenewal": false})).await.ok();
        assert_eq!(off.get("renewBeforeDays"), None);
        assert_eq!(record(&server, &id).await["renewBeforeDays"], Value::Null);
        assert!(server.patch(&config, json!({})).await.ok()["message"].is_string());
        // Due before the next midnight: too late to plan.
        server.at(15 * DAY);
        server.patch(&config, json!({"renewBeforeDays": 5})).await.refused(400, "BadRequest");
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        viewer.patch(&config, json!({"renewBeforeDays": 2})).await.refused(403, "PermissionDenied");
    });
}

#[test]
fn a_profile_plans_and_the_runner_renews_once_until_the_chain_ends() {
    for_each_engine(|server| async move {
        let policy = policy(&server, open_policy("auto")).await;
        let enrollment = json!({"apiConfig": {"autoRenew": true, "renewBeforeDays": 7}});
        let auto = profile_with(&server, "auto", Some(&server.issuing_ca), &policy, enrollment).await;
        let first = text(&issue(&server, &auto, json!({"ttl": "20d"})).await.ok()["certificateId"]);
        assert_eq!(record(&server, &first).await["renewBeforeDays"], 7);
        // Shorter than the days: all but one day of its life.
        let short = text(&issue(&server, &auto, json!({"ttl": "5d"})).await.ok()["certificateId"]);
        assert_eq!(record(&server, &short).await["renewBeforeDays"], 4);
        server.patch(&format!("{V3}/{short}/config"), json!({"enableAutoRenewal": false})).await.ok();

        server.at(12 * DAY);
        run_jobs(&server).await;
        assert_eq!(record(&server, &first).await["renewedByCertificateId"], Value::Null);
        server.at(13 * DAY);
        run_jobs(&server).await;
        run_jobs(&server).await;
        let second = text(&record(&server, &first).await["renewedByCertificateId"]);
        let shown = record(&server, &second).await;
        assert_eq!((&shown["renewBeforeDays"], &shown["notBefore"]), (&json!(7), &json!(server.time(13 * DAY))));
        assert_eq!(count(&server).await, 3);

        // What is refused stands in the record, and is tried again a day later.
        let policies = "/api/v1/cert-manager/certificate-policies";
        server.patch(&format!("{policies}/{policy}"), json!({"validity": {"max": "1d"}})).await.ok();
        server.at(26 * DAY);
        run_jobs(&server).await;
        run_jobs(&server).await;
        let shown = record(&server, &second).await;
        assert!(text(&shown["renewalError"]).contains("at most 1 day"), "{shown}");
        server.patch(&format!("{policies}/{policy}"), json!({"validity": {"max": "90d"}})).await.ok();
        run_jobs(&server).await;
        assert_eq!(record(&server, &second).await["renewedByCertificateId"], Value::Null);
        server.at(27 * DAY);
        run_jobs(&server).await;
        assert!(record(&server, &second).await["renewedByCertificateId"].is_string());
        assert_eq!(count(&server).await, 4);
    });
}

#[test]
fn renewing_revoking_and_deleting_at_once_never_loses_a_revocation() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for round in 0..25 {
            let answer = issue(&server, &open, json!({})).await.ok();
            let (id, serial) = (text(&answer["certificateId"]), text(&answer["serialNumber"]));
            let place = format!("{REQUEST}/{id}");
            let act = |what: &'static str| {
                let (server, id, place) = (server.clone(), id.clone(), place.clone());
                tokio::spawn(async move {
                    match what {
                        "renew" => renew(&server, &id).await,
                        "delete" => server.delete(&place).await,
                        _ => server.post(&format!("{place}/revoke"), json!({"revocationReason": "SUPERSEDED"})).await,
                    }
                })
            };
            let acts = match round % 3 {
                0 => [act("renew"), act("revoke"), act("revoke")],
                1 => [act("revoke"), act("delete"), act("renew")],
                _ => [act("renew"), act("renew"), act("revoke")],
            };
            let mut revoked = false;
            for (at, acting) in acts.into_iter().enumerate() {
                let answer = acting.await.unwrap();
                assert!([200, 400, 404].contains(&answer.status), "{}", answer.body);
                revoked |= answer.status == 200 && answer.body["revokedAt"].is_string();
                assert!(at < 3);
            }
            let lists = server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
            let list = x509::Crl::from_pem(&text(&lists[0]["crl"])).unwrap();
            let number = x509::SerialNumber::from_hex(&serial).unwrap().integer_content();
            assert_eq!(list.find(&number).is_some(), revoked, "{round}");
            let shown = server.get(&place).await;
            if shown.status == 200 {
                assert_eq!(shown.body["certificate"]["status"] == json!("revoked"), revoked, "{round}");
            }
        }
        // No certificate has two successors.
        let sql = "SELECT COUNT(*) FROM renewals GROUP BY predecessor_id HAVING COUNT(*) > 1";
        assert!(server.services.db.rows(sql, vec![]).await.unwrap().is_empty());
    });
}
