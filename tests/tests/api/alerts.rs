//! Alerts over the API (contract syncs §5.1): what the endpoints take and show, what is told and that it is told once, and by
//! real receivers: a webhook behind TLS, a mail server of somebody else's, and stand-ins of Slack and PagerDuty.

use crate::authorities::DAY;
use crate::issuing::{REQUEST, issue, profile};
use crate::renewal::run_jobs;
use crate::server::{Lives, Server, for_each_engine, for_each_engine_with_lives, text};
use domain::AlertId;
use domain::caller::Caller;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use testkit::mail::MailServer;
use testkit::stand_ins::webhook::Webhook;
use testkit::stand_ins::{Fault, Material, tls};
use x509::pem;

const ALERTS: &str = "/api/v2/pki/alerts";
const ALERTS_NEW: &str = "/api/v1/cert-manager/alerts";
const SECRET: &str = "of nobody's business";
const KEY: &str = "0123456789abcdef0123456789ABCDEF";

/// The body of an alert with one channel.
fn body(server: &Server, name: &str, event: &str, channel: Value, more: Value) -> Value {
    let mut body = json!({"name": name, "projectId": server.project, "eventType": event, "channels": [channel]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn alert(server: &Server, name: &str, event: &str, channel: Value, more: Value) -> String {
    text(&server.post(ALERTS, body(server, name, event, channel, more)).await.ok()["alert"]["id"])
}

fn mail_to(recipient: &str) -> Value {
    json!({"channelType": "email", "config": {"recipients": [recipient]}})
}

fn trust(server: &Server, roots: &[&Material]) {
    let all: Vec<String> = roots.iter().map(|material| pem::encode(pem::CERTIFICATE, &material.root)).collect();
    std::fs::write(&server.outside_ca, format!("{}\n", all.join("\n"))).unwrap();
}

/// A receiver behind TLS that the server trusts, and a channel that leads there.
async fn receiver(server: &Server) -> (Arc<Webhook>, Value) {
    let receiver = Webhook::start(SECRET).await;
    let (address, material) = tls::serve_tls(receiver.address()).await;
    trust(server, &[&material]);
    let url = format!("https://{address}/hook");
    (receiver, json!({"channelType": "webhook", "config": {"url": url, "signingSecret": SECRET}}))
}

/// Lets what happened be told.
async fn tell(server: &Server, seconds: &mut i64) {
    *seconds += 3;
    server.at(*seconds);
    run_jobs(server).await;
}

async fn history(server: &Server, alert: &str) -> Vec<Value> {
    let answer = server.get(&format!("{ALERTS}/{alert}/history")).await.ok();
    answer["history"].as_array().unwrap().clone()
}

fn told(message: &Value) -> Vec<String> {
    message["data"]["certificates"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
}

#[test]
fn an_alert_is_made_changed_and_deleted_and_shows_no_secret() {
    for_each_engine(|server| async move {
        let channels = json!([
            mail_to("pki@example.com"),
            {"channelType": "webhook", "config": {"url": "https://hooks.example.com/a", "signingSecret": SECRET}},
            {"channelType": "slack", "config": {"webhookUrl": "https://hooks.slack.com/services/T0/B0/hushhush"}},
            {"channelType": "pagerduty", "config": {"integrationKey": KEY}, "enabled": false},
        ]);
        let made = json!({"name": "ends-soon", "projectId": server.project, "description": "for the team",
            "eventType": "expiration", "alertBefore": "30d", "channels": channels,
            "filters": [{"field": "common_name", "operator": "ends_with", "value": ["example.com", "example.org"]}]});
        let made = server.post(ALERTS_NEW, made).await.ok();
        let shown = &made["alert"];
        let id = text(&shown["id"]);
        let configs: Vec<Value> =
            shown["channels"].as_array().unwrap().iter().map(|one| one["config"].clone()).collect();
        assert_eq!(
            configs,
            [
                json!({"recipients": ["pki@example.com"]}),
                json!({"url": "https://hooks.example.com/a", "hasSigningSecret": true}),
                json!({"hasWebhookUrl": true}),
                json!({"hasIntegrationKey": true}),
            ]
        );
        assert_eq!(
            (&shown["enabled"], &shown["lastRun"], &shown["channels"][3]["enabled"]),
            (&json!(true), &Value::Null, &json!(false))
        );
        assert_eq!(server.get(&format!("{ALERTS}/{id}")).await.ok(), made);

        let listed = server.get(&format!("{ALERTS}?projectId={}&search=soon", server.project)).await.ok();
        assert_eq!((&listed["total"], &listed["alerts"][0]["id"]), (&json!(1), &json!(id)));
        for query in ["eventType=renewal", "enabled=false", "search=later"] {
            assert_eq!(server.get(&format!("{ALERTS}?{query}")).await.ok()["total"], 0, "{query}");
        }
        server
            .post(ALERTS, json!({"name": "ends-soon", "eventType": "renewal", "channels": [mail_to("a@b.example")]}))
            .await
            .refused(400, "BadRequest");

        // Channels that are sent with their id keep the secrets that are left out; the others go.
        let ids: Vec<String> = shown["channels"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
        let kept = json!({"enabled": false, "alertBefore": "2w", "channels": [
            {"id": ids[1], "channelType": "webhook", "config": {"url": "https://hooks.example.com/a"}},
            {"id": ids[2], "channelType": "slack", "config": {}},
        ]});
        let changed = server.patch(&format!("{ALERTS}/{id}"), kept).await.ok();
        let changed = &changed["alert"];
        assert_eq!((&changed["enabled"], &changed["alertBefore"]), (&json!(false), &json!("2w")));
        assert_eq!(changed["channels"].as_array().unwrap().len(), 2);
        assert_eq!(changed["channels"][0]["config"]["hasSigningSecret"], true);
        let elsewhere = json!({"channels": [
            {"id": ids[1], "channelType": "webhook", "config": {"url": "https://other.example.com/"}}]});
        let changed = server.patch(&format!("{ALERTS_NEW}/{id}"), elsewhere).await.ok();
        assert_eq!(changed["alert"]["channels"][0]["config"]["hasSigningSecret"], false);
        for wrong in [
            json!({"id": ids[0], "channelType": "email", "config": {"recipients": ["a@b.example"]}}),
            json!({"id": ids[1], "channelType": "slack", "config": {}}),
        ] {
            let answer = server.patch(&format!("{ALERTS}/{id}"), json!({"channels": [wrong]})).await;
            assert!([400, 404].contains(&answer.status), "{}", answer.body);
        }

        let deleted = server.delete(&format!("{ALERTS}/{id}")).await.ok();
        assert_eq!(deleted["alert"]["name"], "ends-soon");
        server.get(&format!("{ALERTS}/{id}")).await.refused(404, "NotFound");
        let audit =
            server.services.db.rows("SELECT event, detail FROM audit_records ORDER BY seq", vec![]).await.unwrap();
        let events: Vec<&str> = audit.iter().map(|row| row.text(0).unwrap()).collect();
        for event in ["alert-created", "alert-changed", "alert-deleted"] {
            assert!(events.contains(&event), "{event}");
        }
        let everything = audit.iter().map(|row| row.text(1).unwrap()).collect::<String>() + &made.to_string();
        for secret in [SECRET, "hushhush", KEY] {
            assert!(!everything.contains(secret), "{secret}");
        }
    });
}

#[test]
fn what_does_not_have_the_shape_is_said_with_its_path() {
    for_each_engine(|server| async move {
        let channel = |kind: &str, config: Value| json!({"channels": [{"channelType": kind, "config": config}]});
        let rule = |field: &str, operator: &str, value: Value| json!({"filters": [{"field": field, "operator": operator, "value": value}]});
        let twelve: Vec<Value> = (0..12).map(|_| mail_to("a@b.example")).collect();
        for (more, path) in [
            (json!({"name": "Ends Soon"}), "name"),
            (json!({"name": "a--b"}), "name"),
            (json!({"name": "x".repeat(256)}), "name"),
            (json!({"description": "x".repeat(1001)}), "description"),
            (json!({"eventType": "expiry"}), "eventType"),
            (json!({"alertBefore": "30h"}), "alertBefore"),
            (json!({"alertBefore": null}), "alertBefore"),
            (json!({"alertBefore": "1".repeat(32) + "d"}), "alertBefore"),
            (json!({"channels": []}), "channels"),
            (json!({"channels": twelve}), "channels"),
            (channel("sms", json!({})), "channels.0.channelType"),
            (channel("email", json!({})), "channels.0.config.recipients"),
            (channel("email", json!({"recipients": []})), "channels.0.config.recipients"),
            (channel("email", json!({"recipients": ["nobody"]})), "channels.0.config.recipients.0"),
            (channel("webhook", json!({})), "channels.0.config.url"),
            (channel("webhook", json!({"url": "http://hooks.example.com/"})), "channels.0.config.url"),
            (channel("webhook", json!({"url": "https://a:b@hooks.example.com/"})), "channels.0.config.url"),
            (
                channel("webhook", json!({"url": "https://a.example/", "signingSecret": "x".repeat(257)})),
                "channels.0.config.signingSecret",
            ),
            (channel("slack", json!({})), "channels.0.config.webhookUrl"),
            (
                channel("slack", json!({"webhookUrl": "https://hooks.slack.com.example.com/x"})),
                "channels.0.config.webhookUrl",
            ),
            (channel("pagerduty", json!({"integrationKey": "abc"})), "channels.0.config.integrationKey"),
            (rule("serial", "equals", json!("a")), "filters.0.field"),
            (rule("san", "like", json!("a")), "filters.0.operator"),
            (rule("san", "equals", json!(true)), "filters.0.value"),
            (rule("san", "equals", json!([])), "filters.0.value"),
            (rule("include_cas", "equals", json!("yes")), "filters.0.value"),
        ] {
            let mut sent = body(&server, "a", "expiration", mail_to("a@b.example"), json!({"alertBefore": "30d"}));
            sent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let mut paths = server.post(ALERTS, sent).await.issues();
            paths.dedup();
            assert_eq!(paths, [path], "{more}");
        }
        // Networks of one's own need the operator's word.
        let inside = json!({"channelType": "webhook", "config": {"url": "https://10.1.2.3/hook"}});
        let refused = server.post(ALERTS, body(&server, "a", "issuance", inside, json!({}))).await;
        assert!(text(&refused.refused(400, "BadRequest")["message"]).contains("CHANCERY_EGRESS_ALLOW"));
        let test = json!({"projectId": server.project, "url": "https://10.1.2.3/hook"});
        let tested = server.post(&format!("{ALERTS}/test-webhook"), test).await.ok();
        assert_eq!(tested["success"], false);
        server.post(&format!("{ALERTS}/test-webhook"), json!({"url": "http://a.example/"})).await.issues();
    });
}

#[test]
fn members_read_alerts_and_only_who_may_change_them_does() {
    for_each_engine(|server| async move {
        let id = alert(&server, "a", "issuance", mail_to("a@b.example"), json!({})).await;
        let member = server.by(&server.identity("no-access", Some("member")).await);
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        let one = format!("{ALERTS}/{id}");
        for path in [&one, &format!("{one}/history"), &format!("{one}/certificates")] {
            member.get(path).await.ok();
            viewer.get(path).await.refused(403, "PermissionDenied");
        }
        let sent = body(&server, "b", "issuance", mail_to("a@b.example"), json!({}));
        member.post(ALERTS, sent).await.refused(403, "PermissionDenied");
        member.patch(&one, json!({"enabled": false})).await.refused(403, "PermissionDenied");
        member.delete(&one).await.refused(403, "PermissionDenied");
        member.post(&format!("{one}/test"), json!({})).await.refused(403, "PermissionDenied");
        let test = json!({"url": "https://127.0.0.1:1/"});
        member.post(&format!("{ALERTS}/test-webhook"), test).await.refused(403, "PermissionDenied");

        // Nobody has told by an alert what they may not see.
        let rules = json!([{"subject": "pki-alerts", "action": ["read", "create", "edit"]},
            {"subject": "certificates", "action": ["read"], "conditions": {"commonName": {"$glob": "*.mine.example"}}}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "bell", "name": "Bell", "permissions": rules})).await.ok();
        let bell = server.by(&server.identity("no-access", Some("bell")).await);
        for (event, more) in
            [("expiration", json!({"alertBefore": "30d"})), ("ca-expiration", json!({"alertBefore": "30d"}))]
        {
            let sent = body(&server, "c", event, mail_to("a@b.example"), more);
            bell.post(ALERTS, sent).await.refused(403, "PermissionDenied");
        }
        bell.patch(&one, json!({"channels": [mail_to("c@b.example")]})).await.refused(403, "PermissionDenied");
        bell.patch(&one, json!({"enabled": false})).await.ok();
    });
}

#[test]
fn what_is_imported_with_little_time_left_is_told_at_once() {
    for_each_engine(|server| async move {
        let (receiver, channel) = receiver(&server).await;
        alert(&server, "soon", "expiration", channel.clone(), json!({"alertBefore": "365d"})).await;
        alert(&server, "later", "expiration", channel.clone(), json!({"alertBefore": "30d"})).await;
        alert(&server, "issued", "issuance", channel, json!({})).await;
        run_jobs(&server).await;
        let foreign = crate::import_leaf::foreign_body(&server);
        server.post("/api/v1/pki/certificates/import-certificate", foreign).await.ok();
        tell(&server, &mut 0).await;
        let messages = receiver.messages();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0]["data"]["certificates"][0]["commonName"], "a.example.net");
        assert_eq!(messages[0]["type"], "com.infisical.pki.certificate.expiration");
    });
}

#[test]
fn a_webhook_is_told_once_also_after_failures() {
    for_each_engine(|server| async move {
        let (receiver, channel) = receiver(&server).await;
        let open = profile(&server, "open", json!({})).await;
        let first = text(&issue(&server, &open, json!({"ttl": "10d"})).await.ok()["certificateId"]);
        issue(&server, &open, json!({"ttl": "60d"})).await.ok();
        // The first try fails at the receiver.
        receiver.faults.add("message", Fault::Refuse(500));
        let id = alert(&server, "soon", "expiration", channel, json!({"alertBefore": "30d"})).await;
        run_jobs(&server).await;
        assert_eq!(receiver.messages().len(), 0);
        let shown = server.get(&format!("{ALERTS}/{id}")).await.ok();
        assert_eq!(shown["alert"]["lastRun"]["status"], "failed");
        assert!(text(&shown["alert"]["lastRun"]["error"]).contains("500"), "{shown}");
        server.at(domain::alert::TRY_PAUSE_SECONDS + 1);
        run_jobs(&server).await;
        let messages = receiver.messages();
        assert_eq!(messages.len(), 1);
        let message = &messages[0];
        assert_eq!(told(message), std::slice::from_ref(&first));
        assert_eq!(message["type"], "com.infisical.pki.certificate.expiration");
        assert_eq!(message["source"], format!("/projects/{}/alerts/{id}", server.project));
        assert_eq!(message["data"]["certificates"][0]["daysUntilExpiry"], 10);
        assert_eq!(message["data"]["certificates"][0]["profileName"], "open");
        let runs = history(&server, &id).await;
        assert_eq!((runs.len(), &runs[0]["certificateIds"]), (1, &json!([first])));
        assert_eq!(
            (&runs[0]["deliveries"][0]["status"], &runs[0]["deliveries"][0]["attempts"]),
            (&json!("sent"), &json!(2))
        );
        let listed = server.get(ALERTS).await.ok();
        assert_eq!(listed["alerts"][0]["lastRun"]["status"], "success");

        // Nothing is told again, however often it is looked; nor when the alert is switched off and on.
        for day in 1..4 {
            server.at(day * DAY);
            run_jobs(&server).await;
        }
        server.patch(&format!("{ALERTS}/{id}"), json!({"enabled": false})).await.ok();
        server.patch(&format!("{ALERTS}/{id}"), json!({"enabled": true, "name": "again"})).await.ok();
        run_jobs(&server).await;
        assert_eq!(receiver.messages().len(), 1);

        // What is issued with so short a life is told at once; what is refused for good is not sent again.
        receiver.faults.add("message", Fault::Refuse(404));
        issue(&server, &open, json!({"ttl": "5d"})).await.ok();
        let mut seconds = 4 * DAY;
        tell(&server, &mut seconds).await;
        for _ in 0..3 {
            seconds += domain::alert::TRY_PAUSE_SECONDS;
            tell(&server, &mut seconds).await;
        }
        assert!(receiver.faults.are_used_up());
        assert_eq!(receiver.messages().len(), 1);
        let runs = history(&server, &id).await;
        assert_eq!(
            (&runs[0]["deliveries"][0]["status"], &runs[0]["deliveries"][0]["attempts"]),
            (&json!("failed"), &json!(1))
        );
    });
}

#[test]
fn what_happens_is_told_to_who_asks_for_it() {
    for_each_engine(|server| async move {
        let (receiver, channel) = receiver(&server).await;
        let only = json!({"filters": [{"field": "san", "operator": "matches", "value": "*.told.example.com"}]});
        for event in ["issuance", "renewal", "revocation"] {
            alert(&server, event, event, channel.clone(), only.clone()).await;
        }
        let rule = json!({"filters": [{"field": "profile_name", "operator": "equals", "value": "open"}]});
        alert(&server, "failed", "issuance-failure", channel.clone(), rule).await;
        let open = profile(&server, "open", json!({"validity": {"max": "30d"}})).await;
        let named = |name: &str| json!({"commonName": name, "altNames": [{"type": "dns_name", "value": name}]});
        let mut seconds = 0;

        issue(&server, &open, named("a.untold.example.com")).await.ok();
        let first = text(&issue(&server, &open, named("a.told.example.com")).await.ok()["certificateId"]);
        let second = text(&issue(&server, &open, named("b.told.example.com")).await.ok()["certificateId"]);
        tell(&server, &mut seconds).await;
        let mut messages = receiver.messages();
        assert_eq!(messages.len(), 1, "what happens together is told together");
        let mut ids = told(&messages[0]);
        ids.sort();
        let mut both = [first.clone(), second.clone()];
        both.sort();
        assert_eq!(ids, both);
        assert_eq!(messages[0]["type"], "com.infisical.pki.certificate.issuance");

        let renewed = server.post(&format!("{REQUEST}/{first}/renew"), json!({})).await.ok();
        let body = json!({"revocationReason": "SUPERSEDED"});
        server.post(&format!("{REQUEST}/{second}/revoke"), body).await.ok();
        let body = json!({"revocationReason": "KEY_COMPROMISE"});
        server.post(&format!("{REQUEST}/{second}/revoke"), body).await;
        tell(&server, &mut seconds).await;
        messages = receiver.messages().split_off(1);
        let by_type: BTreeMap<String, Value> = messages.iter().map(|one| (text(&one["type"]), one.clone())).collect();
        assert_eq!((messages.len(), by_type.len()), (2, 2));
        assert_eq!(told(&by_type["com.infisical.pki.certificate.renewal"]), [text(&renewed["certificateId"])]);
        let revoked = &by_type["com.infisical.pki.certificate.revocation"]["data"]["certificates"][0];
        assert_eq!((&revoked["id"], &revoked["status"]), (&json!(second), &json!("revoked")));
        assert!(revoked["revocationReason"].is_string() && revoked["revokedAt"].is_string());

        // The same failure is told once a day.
        for _ in 0..2 {
            issue(&server, &open, json!({"commonName": "long.example.com", "ttl": "60d"}))
                .await
                .refused(400, "BadRequest");
            tell(&server, &mut seconds).await;
        }
        server.post(&format!("{REQUEST}/{second}/renew"), json!({})).await.refused(400, "BadRequest");
        tell(&server, &mut seconds).await;
        messages = receiver.messages().split_off(3);
        assert_eq!(messages.len(), 2, "{messages:?}");
        let failure = &messages[0]["data"]["failures"][0];
        assert_eq!(
            (&messages[0]["type"], &failure["commonName"], &failure["profileName"]),
            (&json!("com.infisical.pki.certificate.issuance-failure"), &json!("long.example.com"), &json!("open"))
        );
        assert!(text(&failure["error"]).contains("30 days"), "{failure}");
        assert_eq!(messages[1]["data"]["failures"][0]["certificateId"], second);
    });
}

#[test]
fn nothing_is_sent_for_an_alert_that_was_switched_off_or_deleted() {
    for_each_engine(|server| async move {
        let (receiver, channel) = receiver(&server).await;
        let open = profile(&server, "open", json!({})).await;
        issue(&server, &open, json!({"ttl": "10d"})).await.ok();
        let mut seconds = 0;
        for (name, end) in [("off", json!({"enabled": false})), ("gone", Value::Null)] {
            receiver.faults.add("message", Fault::Refuse(503));
            let id = alert(&server, name, "expiration", channel.clone(), json!({"alertBefore": "30d"})).await;
            run_jobs(&server).await;
            assert!(receiver.faults.are_used_up());
            let one = format!("{ALERTS}/{id}");
            match end.is_null() {
                true => server.delete(&one).await.ok(),
                false => server.patch(&one, end).await.ok(),
            };
            seconds += domain::alert::TRY_PAUSE_SECONDS;
            tell(&server, &mut seconds).await;
            assert_eq!(receiver.messages().len(), 0, "{name}");
        }
        let off = server.get(&format!("{ALERTS}?search=off")).await.ok();
        let id = text(&off["alerts"][0]["id"]);
        assert_eq!(history(&server, &id).await[0]["deliveries"][0]["status"], "dropped");
        let jobs = server.get("/api/v1/jobs?limit=1000").await.ok();
        assert!(!jobs.to_string().contains("deliver-alert"), "{jobs}");
    });
}

#[test]
fn a_preview_lists_what_an_alert_would_be_about() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for (name, ttl) in
            [("a.example.com", "5d"), ("b.example.com", "3d"), ("c.example.com", "90d"), ("d.example.org", "4d")]
        {
            issue(&server, &open, json!({"commonName": name, "ttl": ttl})).await.ok();
        }
        let rules = json!([{"field": "common_name", "operator": "ends_with", "value": "example.com"},
            {"field": "profile_name", "operator": "equals", "value": ["open", "other"]}]);
        let names = |answer: &Value| -> Vec<String> {
            answer["certificates"].as_array().unwrap().iter().map(|one| text(&one["commonName"])).collect()
        };
        let preview = format!("{ALERTS}/preview/certificates");
        let asked = json!({"projectId": server.project, "filters": rules, "alertBefore": "30d"});
        let shown = server.post(&preview, asked.clone()).await.ok();
        assert_eq!((names(&shown), &shown["total"]), (vec!["b.example.com".into(), "a.example.com".into()], &json!(2)));
        assert_eq!(shown["certificates"][0]["profileName"], "open");
        let mut second = asked;
        second["offset"] = json!(1);
        second["limit"] = json!(1);
        let shown = server.post(&preview, second).await.ok();
        assert_eq!((names(&shown), &shown["total"]), (vec!["a.example.com".into()], &json!(2)));
        let more = json!({"alertBefore": "30d", "filters": rules, "enabled": false});
        let id = alert(&server, "a", "expiration", mail_to("a@b.example"), more).await;
        let listed = server.get(&format!("{ALERTS_NEW}/{id}/certificates?limit=1")).await.ok();
        assert_eq!((names(&listed), &listed["total"]), (vec!["b.example.com".into()], &json!(2)));
    });
}

/// Days are steps of the clock; in each something is looked for as often as a server that runs does at least.
#[test]
fn in_400_days_each_certificate_is_told_once_by_each_alert() {
    for_each_engine(|server| async move {
        const STEP: i64 = 5;
        let open = profile(&server, "open", json!({})).await;
        let mut ids = Vec::new();
        for days in [8, 20, 45, 100, 200, 300, 380, 600] {
            let name = format!("{days}.example.com");
            let issued = issue(&server, &open, json!({"commonName": name, "ttl": format!("{days}d")})).await.ok();
            ids.push((days, text(&issued["certificateId"])));
        }
        // Mail goes nowhere here: what counts is what was found.
        let mut alerts = Vec::new();
        for (name, before, days) in [("week", "7d", 7), ("month", "30d", 30), ("year", "1y", 365)] {
            let more = json!({"alertBefore": before});
            alerts.push((alert(&server, name, "expiration", mail_to("a@b.example"), more).await, days));
        }
        let more = json!({"alertBefore": "10y"});
        let authorities = alert(&server, "authorities", "ca-expiration", mail_to("a@b.example"), more).await;
        for step in 0..=400 / STEP {
            server.at(step * STEP * DAY);
            server.services.begin_alerts().await.unwrap();
            server.services.run_alerts(server.project).await.unwrap();
        }
        let caller = Caller::node_administering(server.organization, server.project);
        for (alert, before) in alerts {
            let id = AlertId::parse(&alert).unwrap();
            let sql = "SELECT subject FROM alert_runs WHERE alert_id = $1";
            let runs = server.services.db.rows(sql, vec![id.0.into()]).await.unwrap();
            let found: Vec<Value> =
                runs.iter().map(|run| serde_json::from_str(run.text(0).unwrap()).unwrap()).collect();
            let told: Vec<&str> = found
                .iter()
                .flat_map(|run| run["certificates"].as_array().unwrap())
                .map(|one| one["id"].as_str().unwrap())
                .collect();
            for (days, certificate) in &ids {
                let times = told.iter().filter(|one| *one == certificate).count();
                assert_eq!(times, usize::from(*days <= 400 + before), "{days} days, {before} before");
            }
        }
        let id = AlertId::parse(&authorities).unwrap();
        let (runs, _) = server.services.alert_history(&caller, id, 0, 100).await.unwrap();
        let mut told: Vec<String> = runs
            .iter()
            .flat_map(|(run, _)| &run.subject.certificates)
            .map(|one| format!("{} {}", one.id, one.serial_number))
            .collect();
        let all = told.len();
        told.sort();
        told.dedup();
        assert!(all > 0 && told.len() == all, "{told:?}");
    });
}

#[test]
fn a_daily_alert_tells_each_day_until_the_certificate_is_renewed() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let id = text(&issue(&server, &open, json!({"ttl": "10d"})).await.ok()["certificateId"]);
        let more = json!({"alertBefore": "30d", "notificationConfig": {"enableDailyNotification": true}});
        let alert = alert(&server, "daily", "expiration", mail_to("a@b.example"), more).await;
        for day in 0..5 {
            // A little later each day, as it happens to a server that looks now and then.
            server.at(day * (DAY + 600));
            server.services.run_alerts(server.project).await.unwrap();
            server.services.run_alerts(server.project).await.unwrap();
            if day == 2 {
                server.post(&format!("{REQUEST}/{id}/renew"), json!({})).await.ok();
            }
        }
        let runs = history(&server, &alert).await;
        let times = runs.iter().filter(|run| run["certificateIds"] == json!([id])).count();
        assert_eq!(times, 3, "{runs:?}");
    });
}

#[test]
fn mail_goes_to_a_real_server_by_starttls_and_after_a_login() {
    for_each_engine_with_lives(|lives| async {
        let mail_server = MailServer::start();
        let settings = outbound::alert::MailServer {
            url: mail_server.url(),
            user: Some(MailServer::USER.into()),
            password_file: Some(mail_server.password_file()),
            from: "pki@example.com".into(),
            ca_file: Some(mail_server.root_file()),
        };
        let mailer = outbound::alert::Mailer::new(settings).unwrap();
        let lives = lives.configured(|config| config.mailer = Some(mailer));
        let (running, server) = lives.begin(None).await;
        let open = profile(&server, "open", json!({})).await;
        issue(&server, &open, json!({"commonName": "mail.example.com", "ttl": "10d"})).await.ok();
        let channel = json!({"channelType": "email", "config": {"recipients": ["a@example.com", "later@example.com"]}});
        let id = alert(&server, "soon", "expiration", channel, json!({"alertBefore": "30d"})).await;
        run_jobs(&server).await;
        assert_eq!(mail_server.mails().len(), 0, "the server put it off");
        server.at(domain::alert::TRY_PAUSE_SECONDS + 1);
        run_jobs(&server).await;
        let mails = mail_server.mails();
        assert_eq!(mails.len(), 1);
        let mail = &mails[0];
        assert_eq!((&mail["tls"], &mail["user"]), (&json!(true), &json!(MailServer::USER)));
        assert_eq!(
            (&mail["from"], &mail["to"]),
            (&json!("pki@example.com"), &json!(["a@example.com", "later@example.com"]))
        );
        for part in ["Subject: 1 certificate runs out soon (soon)", "mail.example.com", "in 10 days"] {
            assert!(text(&mail["text"]).contains(part), "{part} is not in {mail}");
        }

        let tested = server.post(&format!("{ALERTS}/{id}/test"), json!({})).await.ok();
        assert_eq!(tested["channels"][0]["success"], true, "{tested}");
        assert!(text(&mail_server.mails()[1]["text"]).contains("Subject: Test of the alert soon"));
        // One that nobody takes is not tried again, and keeps nobody else from theirs.
        let both = json!({"channelType": "email", "config": {"recipients": ["never@example.com", "b@example.com"]}});
        let nobody = alert(&server, "nobody", "expiration", both, json!({"alertBefore": "30d"})).await;
        run_jobs(&server).await;
        let runs = history(&server, &nobody).await;
        assert_eq!(runs[0]["deliveries"][0]["status"], "failed");
        assert!(text(&runs[0]["deliveries"][0]["error"]).contains("nobody of that name"), "{runs:?}");
        assert_eq!(mail_server.mails()[2]["to"], json!(["b@example.com"]));
        running.stop().await;
    });
}

#[test]
fn slack_and_pagerduty_get_their_own_forms() {
    for_each_engine_with_lives(|lives| async {
        let (slack, slack_at, slack_root) = vendor("hooks.slack.com").await;
        let (pager, pager_at, pager_root) = vendor("events.pagerduty.com").await;
        let lives: Lives = lives.configured(|config| {
            config.egress_ways.hosts.insert("hooks.slack.com".into(), slack_at);
            config.egress_ways.hosts.insert("events.pagerduty.com".into(), pager_at);
        });
        let (running, server) = lives.begin(None).await;
        trust(&server, &[&slack_root, &pager_root]);
        let open = profile(&server, "open", json!({})).await;
        issue(&server, &open, json!({"commonName": "pager.example.com", "ttl": "10d"})).await.ok();
        let channels = json!([
            {"channelType": "slack", "config": {"webhookUrl": "https://hooks.slack.com/services/T0/B0/hushhush"}},
            {"channelType": "pagerduty", "config": {"integrationKey": KEY}},
        ]);
        // Of all 4xx, PagerDuty's 429 alone is tried again.
        slack.faults.add("/services/T0/B0/hushhush", Fault::Refuse(429));
        pager.faults.add("/v2/enqueue", Fault::Refuse(429));
        let made = json!({"name": "soon", "projectId": server.project, "eventType": "expiration", "alertBefore": "30d",
            "channels": channels});
        let id = text(&server.post(ALERTS, made).await.ok()["alert"]["id"]);
        run_jobs(&server).await;
        server.at(domain::alert::TRY_PAUSE_SECONDS + 1);
        run_jobs(&server).await;
        assert_eq!(slack.taken(), Vec::<Value>::new());
        let taken = pager.taken();
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert_eq!((&taken[0]["routing_key"], &taken[0]["dedup_key"]), (&json!(KEY), &json!(id)));
        assert_eq!(taken[0]["payload"]["severity"], "error");

        let tested = server.post(&format!("{ALERTS}/{id}/test"), json!({})).await.ok();
        assert!(tested["channels"].as_array().unwrap().iter().all(|one| one["success"] == true), "{tested}");
        let shown = slack.taken();
        assert_eq!(
            (&shown[0]["text"], &shown[0]["blocks"][0]["type"]),
            (&json!("Test of the alert soon"), &json!("header"))
        );
        let everything = server.get(&format!("{ALERTS}/{id}/history")).await.raw + &tested.to_string();
        assert!(!everything.contains("hushhush") && !everything.contains(KEY), "{everything}");
        running.stop().await;
    });
}

/// A stand-in of a vendor behind TLS: itself, where it is, and whom its certificate is from.
async fn vendor(name: &str) -> (Arc<testkit::stand_ins::sink::Sink>, SocketAddr, Material) {
    let sink = testkit::stand_ins::sink::Sink::start().await;
    let (address, material) = tls::serve_tls_as(name, sink.address()).await;
    (sink, address, material)
}
