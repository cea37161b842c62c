//! Retention: what is past goes after its time, what is not stays, and a revocation stays until no list names it. The server's
//! own runner removes things beside these tests, so they ask what is there, not which call removed it.

use crate::authorities::{DAY, TYPED};
use crate::issuing::{REQUEST, issue, profile};
use crate::server::{Server, for_each_engine, text};
use serde_json::{Value, json};
use store::{Changes, Statement};
use x509::{Crl, SerialNumber};

const POLICY: &str = "/api/v1/retention";

async fn prune(server: &Server) {
    while server.post(&format!("{POLICY}/prune"), json!({})).await.ok()["isDone"] == false {}
}

async fn to_be_pruned(server: &Server) -> Value {
    server.post(&format!("{POLICY}/prune"), json!({"dryRun": true})).await.ok()["removed"].clone()
}

async fn number(server: &Server, sql: &'static str) -> i64 {
    server.services.db.row(sql, vec![]).await.unwrap().unwrap().int(0).unwrap()
}

async fn findings(server: &Server) -> Vec<String> {
    let report = server.services.fsck(|_| ()).await.unwrap();
    report.findings.into_iter().map(|finding| format!("{}: {}", finding.subject, finding.problem)).collect()
}

/// Whether the list that is up names a serial number, once a new one was signed.
async fn is_listed(server: &Server, serial: &str) -> bool {
    let lists = server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
    let list = Crl::from_pem(&text(&lists[0]["crl"])).unwrap();
    list.find(&SerialNumber::from_hex(serial).unwrap().integer_content()).is_some()
}

#[test]
fn expired_certificates_go_after_their_time_and_a_revocation_when_no_list_names_it() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let place = |issued: &Value| format!("{REQUEST}/{}", text(&issued["certificateId"]));
        let short = issue(&server, &open, json!({"ttl": "1d"})).await.ok();
        let revoked = issue(&server, &open, json!({"ttl": "1d"})).await.ok();
        let long = issue(&server, &open, json!({"ttl": "20d"})).await.ok();
        server.post(&format!("{}/revoke", place(&revoked)), json!({"revocationReason": "SUPERSEDED"})).await.ok();
        let serial = text(&revoked["serialNumber"]);
        assert!(is_listed(&server, &serial).await);

        let forever = json!({"expiredCertificateDays": null, "certificateRequestDays": null, "auditDays": null});
        assert_eq!(server.get(POLICY).await.ok()["retention"], forever);
        server.at(3 * DAY);
        prune(&server).await;
        server.get(&place(&short)).await.ok();

        let kept = server.patch(POLICY, json!({"expiredCertificateDays": 4})).await.ok();
        assert_eq!(kept["retention"]["expiredCertificateDays"], 4);
        prune(&server).await;
        server.get(&place(&short)).await.ok();

        server.at(6 * DAY);
        let counted = to_be_pruned(&server).await["certificates"].as_i64();
        assert!(matches!(counted, Some(0 | 2)), "{counted:?}");
        prune(&server).await;
        for gone in [&short, &revoked] {
            server.get(&place(gone)).await.refused(404, "NotFound");
        }
        server.get(&place(&long)).await.ok();
        // The list that is up is from before, or the first one after its end: both name it.
        assert_eq!(number(&server, "SELECT COUNT(*) FROM revocations").await, 1);
        assert_eq!(findings(&server).await, [] as [&str; 0]);

        while is_listed(&server, &serial).await {
            prune(&server).await;
        }
        prune(&server).await;
        assert_eq!(number(&server, "SELECT COUNT(*) FROM revocations").await, 0);
        assert!(!is_listed(&server, &serial).await);
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn the_audit_is_shortened_from_its_beginning_and_can_still_be_proven() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        issue(&server, &open, json!({})).await.ok();
        server.patch(POLICY, json!({"auditDays": 7})).await.ok();
        prune(&server).await;
        let issued = "SELECT COUNT(*) FROM audit_records WHERE event = 'certificate-issued'";
        assert_eq!(number(&server, issued).await, 1);

        server.at(8 * DAY);
        issue(&server, &open, json!({})).await.ok();
        prune(&server).await;
        // Of before there is nothing left, of now everything.
        let old = format!(
            "SELECT COUNT(*) FROM audit_records WHERE at < {}",
            server.services.now().millis() - 7 * DAY * 1000
        );
        assert_eq!(number(&server, old.leak()).await, 0);
        assert_eq!(number(&server, issued).await, 1);
        assert_eq!(number(&server, "SELECT COUNT(*) FROM audit_records WHERE event = 'past-removed'").await.min(1), 1);
        assert_eq!(findings(&server).await, [] as [&str; 0]);

        // Nobody can make the chain begin elsewhere.
        let damages = [
            "UPDATE audit_starts SET node_seq = node_seq + 1",
            "DELETE FROM audit_starts",
            "UPDATE audit_records SET seq = seq - 1000000 WHERE event = 'certificate-issued'",
        ];
        for damage in damages {
            let shown = findings_after(&server, damage).await;
            assert!(shown.iter().any(|finding| finding.contains("audit")), "{damage}: {shown:?}");
        }
    });
}

/// What the check says of a database that was changed behind the server's back, on a copy of the chain's beginning.
async fn findings_after(server: &Server, damage: &'static str) -> Vec<String> {
    let columns = "SELECT node, node_seq, hash, seal, at FROM audit_starts";
    let start = server.services.db.row(columns, vec![]).await.unwrap().unwrap().into_values();
    let commit = |sql, params| server.services.db.commit(Changes::new().statement(Statement::new(sql, params)));
    commit(damage, vec![]).await.unwrap();
    let found = findings(server).await;
    commit("DELETE FROM audit_starts", vec![]).await.unwrap();
    commit("INSERT INTO audit_starts (node, node_seq, hash, seal, at) VALUES ($1, $2, $3, $4, $5)", start)
        .await
        .unwrap();
    let back = "UPDATE audit_records SET seq = seq + 1000000 WHERE seq < (SELECT MAX(seq) FROM audit_records) - 900000";
    commit(back, vec![]).await.unwrap();
    assert_eq!(findings(server).await, [] as [&str; 0], "{damage}");
    found
}

#[test]
fn another_organization_that_keeps_its_audit_longer_keeps_what_is_behind_it() {
    for_each_engine(|server| async move {
        let other = server.other_organization().await;
        server.patch(POLICY, json!({"auditDays": 7})).await.ok();
        server.at(8 * DAY);
        let other_records = "SELECT COUNT(*) FROM audit_records WHERE event = 'project-created'";
        let kept = number(&server, other_records).await;
        prune(&server).await;
        assert!(number(&server, other_records).await >= 1 && kept >= 2, "{kept}");
        other.patch(POLICY, json!({"auditDays": 7})).await.ok();
        prune(&other).await;
        assert_eq!(number(&server, other_records).await, 0);
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn only_admins_of_the_organization_say_what_is_kept_and_nonsense_is_refused() {
    for_each_engine(|server| async move {
        let member = server.by(&server.identity("member", Some("admin")).await);
        member.get(POLICY).await.refused(403, "PermissionDenied");
        member.patch(POLICY, json!({"auditDays": 30})).await.refused(403, "PermissionDenied");
        member.post(&format!("{POLICY}/prune"), json!({})).await.refused(403, "PermissionDenied");
        for (body, path) in [
            (json!({"auditDays": 6}), "auditDays"),
            (json!({"expiredCertificateDays": -1}), "expiredCertificateDays"),
            (json!({"certificateRequestDays": "30"}), "certificateRequestDays"),
            (json!({"expiredCertificateDays": 36_501}), "expiredCertificateDays"),
        ] {
            assert_eq!(server.patch(POLICY, body).await.issues(), [path]);
        }
        assert_eq!(server.get(POLICY).await.ok()["retention"]["auditDays"], Value::Null);
    });
}
