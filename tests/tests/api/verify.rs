//! Verification over HTTP: what is good, what is refused and by which rule. The rules themselves are tried in `x509`.

use crate::authorities::{DAY, FLAT, TYPED, authority, certificate_of, first_root, intermediate};
use crate::issuing::{issue, open_policy, policy, profile_with};
use crate::server::{Server, for_each_engine, text};
use serde_json::{Value, json};
use x509::{Certificate, pem};

const VERIFY: &str = "/api/v1/pki/verify";

fn in_pem(certificate: &Certificate) -> String {
    pem::encode(pem::CERTIFICATE, certificate.as_der())
}

/// The names of the rules that were broken.
fn rules(answer: &Value) -> Vec<&str> {
    answer["refused"].as_array().unwrap().iter().map(|refused| refused["rule"].as_str().unwrap()).collect()
}

async fn verified(server: &Server, body: Value) -> Value {
    server.post(VERIFY, body).await.ok()
}

#[test]
fn a_certificate_is_verified_against_anchors_or_an_authority_and_every_refusal_names_its_rule() {
    for_each_engine(|server| async move {
        let open = policy(&server, open_policy("open")).await;
        let open = profile_with(&server, "open", Some(&server.issuing_ca), &open, json!({"apiConfig": {}})).await;
        let issued = issue(&server, &open, json!({"commonName": "www.example.com"})).await.ok();
        let leaf = text(&issued["certificate"]);
        let root_id = first_root(&server).await;
        let root = in_pem(&certificate_of(&server, &root_id).await);
        let issuing = in_pem(&certificate_of(&server, &server.issuing_ca).await);

        let question = json!({"leaf": leaf, "anchors": [root], "intermediates": [issuing]});
        let good = verified(&server, question.clone()).await;
        assert_eq!(good, json!({"valid": true, "path": [leaf.trim(), issuing.trim(), root.trim()], "refused": []}));
        // What follows the certificate may be part of the path.
        let good = verified(&server, json!({"leaf": format!("{leaf}\n{issuing}"), "anchors": [root]})).await;
        assert_eq!(good["valid"], true, "{good}");
        let by_authority = json!({"leaf": leaf, "caId": server.issuing_ca});
        let good = verified(&server, by_authority.clone()).await;
        assert_eq!(good["path"], json!([leaf.trim(), issuing.trim()]));

        let with = |name: &str, value: Value| {
            let mut body = question.clone();
            body[name] = value;
            body
        };
        for (body, rule) in [
            (with("intermediates", json!([])), "untrusted"),
            (with("names", json!(["www.example.com", "other.example.com"])), "name-mismatch"),
            (with("names", json!(["192.0.2.1"])), "name-mismatch"),
            (with("time", json!(server.time(2 * DAY))), "expired"),
            (with("time", json!(server.time(-2 * DAY))), "not-yet-valid"),
            (with("maxDepth", json!(0)), "depth-exceeded"),
            (with("purpose", json!("web-pki")), "web-"),
        ] {
            let answer = verified(&server, body.clone()).await;
            assert_eq!((&answer["valid"], &answer["path"]), (&json!(false), &json!([])), "{rule}: {answer}");
            assert!(rules(&answer).iter().any(|broken| broken.starts_with(rule)), "{rule}: {answer}");
            assert!(!text(&answer["refused"][0]["message"]).is_empty());
        }

        let list = text(&server.get(&format!("{TYPED}/{}/crls", server.issuing_ca)).await.ok()[0]["crl"]);
        assert_eq!(verified(&server, with("crls", json!([list]))).await["valid"], true);
        let place = format!("/api/v1/pki/certificates/{}/revoke", text(&issued["serialNumber"]));
        server.post(&place, json!({"revocationReason": "SUPERSEDED"})).await.ok();
        let list = server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
        assert_eq!(rules(&verified(&server, by_authority.clone()).await), ["revoked"]);
        assert!(rules(&verified(&server, with("crls", json!([list[0]["crl"]]))).await).contains(&"revoked"));
        // Nothing is looked up for those who trust something else.
        assert_eq!(verified(&server, question).await["valid"], true);
    });
}

#[test]
fn an_authority_that_was_revoked_is_not_trusted() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let below = intermediate(&server, "below", &root, 0).await;
        let open = policy(&server, open_policy("open")).await;
        let open = profile_with(&server, "open", Some(&below), &open, json!({"apiConfig": {}})).await;
        let leaf = text(&issue(&server, &open, json!({})).await.ok()["certificate"]);
        let question = json!({"leaf": leaf, "caId": below});
        assert_eq!(verified(&server, question.clone()).await["valid"], true);
        let serial = text(&server.get(&format!("{FLAT}/{below}/certificate")).await.ok()["serialNumber"]);
        let body = json!({"serialNumber": serial, "revocationReason": "CA_COMPROMISE"});
        server.post(&format!("{TYPED}/{root}/revoke-intermediate"), body).await.ok();
        let answer = verified(&server, question).await;
        assert_eq!(answer["valid"], false);
        assert_eq!(rules(&answer)[0], "revoked");
    });
}

#[test]
fn what_does_not_parse_is_refused_and_so_is_an_authority_of_others() {
    for_each_engine(|server| async move {
        let root_id = first_root(&server).await;
        let root = in_pem(&certificate_of(&server, &root_id).await);
        let body = |change: Value| {
            let mut body = json!({"leaf": root, "anchors": [root]});
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            body
        };
        for change in [
            json!({"leaf": "no certificate"}),
            json!({"leaf": root.replace("MI", "MA")}),
            json!({"anchors": ["no certificate"]}),
            json!({"intermediates": [root, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]}),
            json!({"crls": [root]}),
            json!({"names": ["not a name"]}),
        ] {
            server.post(VERIFY, body(change)).await.refused(400, "BadRequest");
        }
        for change in [
            json!({"anchors": []}),
            json!({"leaf": ""}),
            json!({"time": "yesterday"}),
            json!({"purpose": "fun"}),
            json!({"maxDepth": -1}),
            json!({"anchors": vec![root.as_str(); 101]}),
        ] {
            server.post(VERIFY, body(change)).await.refused(422, "ValidationFailure");
        }
        let unknown = json!({"leaf": root, "caId": "01a21e0b-d288-7b9d-bc3d-43875167feb8"});
        server.post(VERIFY, unknown).await.refused(404, "NotFound");
        let nobody = server.by(&server.identity("no-access", Some("no-access")).await);
        let own = json!({"leaf": root, "caId": root_id});
        nobody.post(VERIFY, own).await.refused(403, "PermissionDenied");
    });
}
