//! What lives long: keys of authorities that are exchanged, and more than a year of renewals and lists on a clock that the
//! test puts.

use crate::authorities::{DAY, FLAT, TYPED, authority, certificate_of, intermediate};
use crate::issuing::{REQUEST, certificate, issue, open_policy, policy, profile_with};
use crate::ocsp::{id_of, post};
use crate::renewal::run_jobs;
use crate::server::{Server, for_each_engine, text};
use domain::authority::Authority;
use domain::caller::Caller;
use domain::ocsp::ANSWER_LIFETIME_SECONDS;
use serde_json::{Value, json};
use store::{Value as Column, certificate::InventoryRow};
use x509::{Certificate, CertificateStatus, Crl, IdentifierHash, OcspAnswer, OcspRequest, SerialNumber};

async fn renew_authority(server: &Server, id: &str, kind: &str, days: i64) -> Value {
    let body = json!({"type": kind, "notAfter": server.time(days * DAY)});
    server.post(&format!("{FLAT}/{id}/renew"), body).await.ok()
}

/// The lists of an authority, signed now, oldest key first.
async fn lists(server: &Server, id: &str) -> Vec<Crl> {
    let lists = server.post(&format!("{TYPED}/{id}/crls/publish"), json!({})).await.ok();
    lists.as_array().unwrap().iter().map(|list| Crl::from_pem(&text(&list["crl"])).unwrap()).collect()
}

#[test]
fn the_server_keeps_its_certificate_when_its_authority_has_run_out() {
    for_each_engine(|server| async move {
        let names = ["localhost".to_owned()];
        let kept = server.services.server_certificate(&names).await.unwrap();
        server.at(6 * 365 * DAY);
        // It would not start otherwise, and nobody could renew the authority.
        let still = server.services.server_certificate(&names).await.unwrap();
        assert_eq!((still.not_after, still.chain), (kept.not_after, kept.chain));
    });
}

#[test]
fn a_new_key_takes_over_and_the_old_one_goes_on_signing_its_list() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let below = intermediate(&server, "below", &root, 0).await;
        let policy = policy(&server, open_policy("any")).await;
        let profile = profile_with(&server, "below", Some(&below), &policy, json!({"apiConfig": {}})).await;
        let old_root = certificate_of(&server, &root).await;
        for (id, days) in [(&below, 300), (&root, 4_000)] {
            let before = certificate_of(&server, id).await;
            let leaf = issue(&server, &profile, json!({})).await.ok();
            let renewed = renew_authority(&server, id, "new-key", days).await;
            let after = Certificate::from_pem(&text(&renewed["certificate"])).unwrap();
            assert_eq!(after.subject().as_der(), before.subject().as_der());
            assert_ne!(after.spki_der(), before.spki_der());
            assert_eq!(certificate_of(&server, id).await.as_der(), after.as_der());
            let next = issue(&server, &profile, json!({})).await.ok();
            let issuer = certificate_of(&server, &below).await;
            assert!(certificate(&next).verify_signature(&issuer.public_key().unwrap()));

            if id == &below {
                // What the old key signed is revoked on the old key's list.
                let place = format!("{REQUEST}/{}", text(&leaf["certificateId"]));
                server.post(&format!("{place}/revoke"), json!({"revocationReason": "SUPERSEDED"})).await.ok();
                let serial = SerialNumber::from_hex(&text(&leaf["serialNumber"])).unwrap().integer_content();
                let lists = lists(&server, id).await;
                assert_eq!(lists.len(), 2);
                for list in &lists {
                    let is_old = list.verify_signature(&before.public_key().unwrap());
                    assert_ne!(is_old, list.verify_signature(&after.public_key().unwrap()));
                    assert_eq!(list.find(&serial).is_some(), is_old);
                }
            } else {
                assert!(after.verify_signature(&after.public_key().unwrap()));
                assert!(
                    lists(&server, id).await.iter().any(|one| one.verify_signature(&old_root.public_key().unwrap()))
                );
            }
        }
        let body = json!({"type": "another", "notAfter": server.time(5000 * DAY)});
        assert_eq!(server.post(&format!("{FLAT}/{root}/renew"), body).await.issues(), ["type"]);
        let versions = server.get(&format!("{FLAT}/{root}/ca-certificates")).await.ok();
        assert_eq!(versions.as_array().map(Vec::len), Some(2));
    });
}

/// Everything in the inventory.
async fn inventory(server: &Server) -> Vec<InventoryRow> {
    store::certificate::after(&server.services.db, 0, 10_000).await.unwrap()
}

#[test]
fn in_four_hundred_days_nothing_runs_out_and_nothing_is_renewed_twice() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "long").await;
        let below = {
            let configuration = json!({"type": "intermediate", "commonName": "Short", "keyAlgorithm": "EC_prime256v1"});
            let body = json!({"name": "short", "status": "active", "configuration": configuration});
            let id = text(&server.post(TYPED, body).await.ok()["id"]);
            let certify = json!({"notBefore": server.time(0), "notAfter": server.time(90 * DAY), "parentCaId": root});
            server.post(&format!("{TYPED}/{id}/certificate"), certify).await.ok();
            id
        };
        let policy = policy(&server, open_policy("auto")).await;
        let enrollment = json!({"apiConfig": {"autoRenew": true, "renewBeforeDays": 5}});
        let profile = profile_with(&server, "auto", Some(&below), &policy, enrollment).await;
        let mut lines = Vec::new();
        for (at, days) in [("a", 10), ("b", 20), ("c", 20)] {
            let wanted = json!({"commonName": format!("{at}.example.com"), "ttl": format!("{days}d")});
            lines.push((
                format!("{at}.example.com"),
                issue(&server, &profile, wanted).await.ok()["serialNumber"].clone(),
            ));
        }
        let mut numbers = std::collections::HashMap::new();
        for day in 1..=400 {
            server.at(day * DAY);
            run_jobs(&server).await;
            let failures = "SELECT kind, last_error FROM jobs WHERE last_error IS NOT NULL";
            let failures = server.services.db.rows(failures, vec![]).await.unwrap();
            assert!(
                failures.is_empty(),
                "day {day}: {:?}",
                failures.into_iter().map(store::Row::into_values).collect::<Vec<_>>()
            );
            let now = server.services.now();
            // Each line has exactly one certificate at its end, and it is valid for days yet.
            let inventory = inventory(&server).await;
            for (name, _) in &lines {
                let ends: Vec<&InventoryRow> = inventory
                    .iter()
                    .filter(|row| row.renewed_by.is_none())
                    .filter(|row| common_name(row) == *name)
                    .collect();
                assert_eq!(ends.len(), 1, "day {day}, {name}");
                let left = Certificate::from_der(ends[0].issued.der.clone()).unwrap().not_after() - now.seconds();
                assert!(left >= 4 * DAY, "day {day}, {name}: {left} seconds left, {:?}", ends[0].renewal_error);
            }
            // No list is about to run out, and numbers grow.
            let lists = server.services.db.rows("SELECT id, number, next_update FROM crls", vec![]).await.unwrap();
            for list in lists {
                let [Column::Blob(id), Column::Int(number), Column::Int(until)] = &list.into_values()[..] else {
                    panic!()
                };
                assert!(until - now.millis() >= 2 * DAY * 1000, "day {day}");
                let before = numbers.insert(id.clone(), *number);
                assert!(before.is_none_or(|before| before <= *number), "day {day}");
            }
            // The authority is renewed long before its end.
            let node = Caller::node(server.organization);
            let id = domain::AuthorityId::parse(&below).unwrap();
            let authority = store::authority::by_id(&server.services.db, node.organization, id).await.unwrap().unwrap();
            assert!(authority.not_after.unwrap().seconds() - now.seconds() > 20 * DAY, "day {day}");
            must_be_answered_for(&server, &authority, &inventory, day).await;
        }
        let made = inventory(&server).await;
        let of = |name: &str| made.iter().filter(|row| common_name(row) == name).count();
        // Every 5 days and every 15 days, and the first ones.
        assert_eq!((of("a.example.com"), of("b.example.com"), of("c.example.com")), (81, 27, 27));
        let parked = server.services.db.rows("SELECT 1 FROM jobs WHERE status = 'parked'", vec![]).await.unwrap();
        assert!(parked.is_empty());
    });
}

/// Every key has a responder for days to come, and what is said of a certificate is new and true for hours.
async fn must_be_answered_for(server: &Server, authority: &Authority, inventory: &[InventoryRow], day: i64) {
    let (db, now) = (&server.services.db, server.services.now());
    let sql = "SELECT MAX(r.not_after) FROM authority_keys k LEFT JOIN ocsp_responders r ON r.authority_key_id = k.id
               GROUP BY k.id";
    let responders = db.rows(sql, vec![]).await.unwrap();
    assert_eq!(responders.len(), 4);
    for responder in responders {
        let [Column::Int(until)] = responder.into_values()[..] else { panic!("day {day}: a key without a responder") };
        assert!(until - now.millis() >= 3 * DAY * 1000, "day {day}");
    }
    let active = authority.active_certificate.unwrap();
    let issuer = store::authority::certificate(db, authority.id, active).await.unwrap().unwrap();
    let issuer = Certificate::from_der(issuer.der).unwrap();
    let newest = inventory.iter().rfind(|row| common_name(row) == "a.example.com").unwrap();
    let certificate = Certificate::from_der(newest.issued.der.clone()).unwrap();
    let id = id_of(&issuer, IdentifierHash::Sha256, certificate.serial_content());
    let answer = OcspAnswer::from_der(&post(server, OcspRequest::encode(&[&id], None)).await).unwrap();
    let said = answer.verified(&issuer, &id, now.seconds()).unwrap();
    assert_eq!(said.status, CertificateStatus::Good, "day {day}");
    let left = said.next_update.unwrap() - now.seconds();
    assert!(left >= ANSWER_LIFETIME_SECONDS && said.this_update == now.seconds(), "day {day}: {left}");
}

fn common_name(row: &InventoryRow) -> String {
    let certificate = Certificate::from_der(row.issued.der.clone()).unwrap();
    certificate.subject().first(x509::AttributeType::CommonName).unwrap_or_default().to_owned()
}
