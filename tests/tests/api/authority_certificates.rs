//! What authorities are certified with and certify: CSR, renewal, certification by one of ours, certificates for somebody
//! else's authority, their publication and their revocation lists (contract §3.5–3.10, 3.15, 4.2, 4.3, 4.5).

use crate::authorities::{
    DAY, FLAT, TYPED, UNKNOWN, authority, certificate_of, first_root, intermediate, list_of, typed_body,
};
use crate::csr::{Draft, subject};
use crate::server::{Answer, Server, for_each_engine, members, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;
use x509::der::tag;
use x509::extension::AccessMethod;
use x509::{Certificate, Crl, KeyUsage, KeyUsages, oid};

async fn renew(server: &Server, id: &str, not_after: impl Into<Value>) -> Answer {
    let body = json!({"type": "existing", "notAfter": not_after.into()});
    server.post(&format!("{FLAT}/{id}/renew"), body).await
}

async fn certify(server: &Server, id: &str, body: Value) -> Answer {
    server.post(&format!("{TYPED}/{id}/certificate"), body).await
}

async fn sign(server: &Server, id: &str, body: Value) -> Answer {
    server.post(&format!("{FLAT}/{id}/sign-intermediate"), body).await
}

async fn csr(server: &Server, id: &str) -> String {
    text(&server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"])
}

async fn versions(server: &Server, id: &str) -> Vec<Value> {
    server.get(&format!("{FLAT}/{id}/ca-certificates")).await.ok().as_array().unwrap().clone()
}

fn pem(value: &Value) -> Certificate {
    Certificate::from_pem(&text(value)).unwrap()
}

#[test]
fn a_root_is_prolonged_with_the_same_key_and_name() {
    for_each_engine(|server| async move {
        let id = authority(&server, "root", "top").await;
        let before = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"].take();
        let old = certificate_of(&server, &id).await;
        server.at(DAY);
        assert_eq!(
            server.post(&format!("{FLAT}/{id}/renew"), json!({"type": "new"})).await.issues(),
            ["type", "notAfter"]
        );
        renew(&server, &id, before["notAfter"].clone()).await.refused(400, "BadRequest");
        let renewed = renew(&server, &id, "2060-01-01").await.ok();
        assert_eq!(members(&renewed), ["certificate", "certificateChain", "serialNumber"]);
        assert_eq!(renewed["certificateChain"], "");
        let new = pem(&renewed["certificate"]);
        assert_eq!((new.spki_der(), new.subject()), (old.spki_der(), old.subject()));
        assert_eq!(new.not_before(), server.start.seconds() + DAY);
        assert_ne!(new.serial_content(), old.serial_content());

        let after = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"].take();
        assert_eq!(after["serialNumber"], renewed["serialNumber"]);
        assert_eq!(
            (&after["notBefore"], &after["notAfter"]),
            (&json!(server.time(DAY)), &json!("2060-01-01T00:00:00.000Z"))
        );
        assert_ne!(after["activeCaCertId"], before["activeCaCertId"]);
        let listed = versions(&server, &id).await;
        assert_eq!(members(&listed[0]), ["certificate", "certificateChain", "serialNumber", "version"]);
        let numbers: Vec<&Value> = listed.iter().map(|one| &one["version"]).collect();
        assert_eq!(numbers, [&json!(1), &json!(2)]);
        assert_eq!(listed[1]["certificate"], renewed["certificate"]);
        for (version, certificate) in [(&before, &old), (&after, &new)] {
            let aia = format!("{FLAT}/{id}/certificates/{}/der", text(&version["activeCaCertId"]));
            assert_eq!(server.fetch(&aia).await.2, certificate.as_der());
        }
    });
}

#[test]
fn an_intermediate_is_prolonged_by_its_parent_and_no_further() {
    for_each_engine(|server| async move {
        let top = authority(&server, "root", "top").await;
        let id = intermediate(&server, "below", &top, 0).await;
        let end = server.get(&format!("{FLAT}/{top}")).await.ok()["ca"]["notAfter"].take();
        server.at(DAY);
        renew(&server, &id, server.time(365 * DAY)).await.refused(400, "BadRequest");
        renew(&server, &id, server.time(3653 * DAY)).await.refused(400, "BadRequest");
        let renewed = renew(&server, &id, end.clone()).await.ok();
        let (new, parent) = (pem(&renewed["certificate"]), certificate_of(&server, &top).await);
        assert_eq!(renewed["certificateChain"], parent.to_pem());
        check_below(&server, &new, &parent, &top).await;
        assert_eq!(new.extensions().basic_constraints().unwrap().unwrap().path_length, Some(0));
        let ca = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"].take();
        assert_eq!((&ca["notAfter"], &ca["parentCaId"], &ca["maxPathLength"]), (&end, &json!(top), &json!(0)));

        // Two at once: both hold one after the other, or the slower is told to try again.
        renew(&server, &top, "2090-01-01").await.ok();
        let (one, two) = tokio::join!(renew(&server, &id, "2080-01-01"), renew(&server, &id, "2081-01-01"));
        let won = [&one, &two].iter().filter(|answer| answer.status == 200).count();
        assert!(won >= 1, "{one:?} {two:?}");
        for lost in [one, two].into_iter().filter(|answer| answer.status != 200) {
            // The one that came second may also find that the other's end is later.
            assert!([400, 409].contains(&lost.status), "{lost:?}");
        }
        assert_eq!(versions(&server, &id).await.len(), 2 + won);
        server.patch(&format!("{FLAT}/{top}"), json!({"status": "disabled"})).await.ok();
        renew(&server, &id, "2082-01-01").await.refused(400, "BadRequest");
    });
}

/// A certificate of an authority as one of ours makes it (contract §1.8), with working addresses in it.
async fn check_below(server: &Server, certificate: &Certificate, parent: &Certificate, parent_id: &str) {
    let extensions = certificate.extensions();
    assert_eq!(certificate.issuer(), parent.subject());
    assert!(certificate.verify_signature(&parent.public_key().unwrap()));
    let usages = KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign, KeyUsage::DigitalSignature]);
    assert_eq!(extensions.key_usages(), Ok(Some(usages)));
    let identifier = extensions.authority_key_id().unwrap().unwrap();
    assert_eq!(identifier.key_id.as_deref(), parent.extensions().subject_key_id().unwrap());
    let access = extensions.authority_information_access().unwrap().unwrap();
    let urls: Vec<String> = access.urls(AccessMethod::CaIssuers).map(ToString::to_string).collect();
    assert_eq!(urls.len(), 1);
    assert_eq!(server.fetch(&urls[0]).await.2, parent.as_der());
    let points = extensions.crl_distribution_points().unwrap().unwrap();
    let urls: Vec<String> = points.urls().map(ToString::to_string).collect();
    let (list, _) = list_of(server, parent_id).await;
    assert_eq!(urls, [format!("{}/api/v1/pki/crl/{list}/der", server.url)]);
    let list = Crl::from_der(server.fetch(&urls[0]).await.2).unwrap();
    assert!(list.verify_signature(&parent.public_key().unwrap()));
}

#[test]
fn one_certified_outside_is_not_renewed_here() {
    for_each_engine(|server| async move {
        let id = authority(&server, "intermediate", "outside").await;
        let key = x509::CertificationRequest::from_pem(&csr(&server, &id).await).unwrap();
        let now = server.start.seconds();
        let (certificate, chain) = testkit::chains::good_import(key.subject(), key.spki_der(), now);
        let body = crate::import::body(&[certificate], &chain);
        server.post(&format!("{FLAT}/{id}/import-certificate"), body).await.ok();
        renew(&server, &id, server.time(400 * DAY)).await.refused(400, "BadRequest");
        // But one of ours may certify it from now on.
        let top = first_root(&server).await;
        let body = json!({"notBefore": server.time(0), "notAfter": server.time(DAY), "parentCaId": top});
        assert_eq!(certify(&server, &id, body).await.ok()["parentCaId"], json!(top));
        renew(&server, &id, server.time(400 * DAY)).await.ok();
    });
}

#[test]
fn an_authority_is_certified_by_itself_or_by_one_of_ours() {
    for_each_engine(|server| async move {
        let top = authority(&server, "root", "top").await;
        let id = authority(&server, "intermediate", "below").await;
        let lifetime = |from: i64, to: i64| json!({"notBefore": server.time(from), "notAfter": server.time(to)});
        let with = |mut body: Value, member: &str, value: Value| {
            body[member] = value;
            body
        };
        assert_eq!(
            certify(&server, &id, json!({"maxPathLength": "x"})).await.issues(),
            ["notBefore", "notAfter", "maxPathLength"]
        );
        certify(&server, &id, lifetime(0, DAY)).await.refused(400, "BadRequest");
        let by = |parent: &str| with(lifetime(0, DAY), "parentCaId", json!(parent));
        certify(&server, &top, by(&id)).await.refused(400, "BadRequest");
        certify(&server, &id, by(&id)).await.refused(400, "BadRequest");
        certify(&server, &id, by(UNKNOWN)).await.refused(404, "NotFound");
        certify(&server, UNKNOWN, by(&top)).await.refused(404, "NotFound");
        certify(&server, &id, with(by(&top), "notBefore", json!(server.time(-1)))).await.refused(400, "BadRequest");
        certify(&server, &id, with(by(&top), "notAfter", json!(server.time(3653 * DAY))))
            .await
            .refused(400, "BadRequest");
        certify(&server, &id, with(by(&top), "notAfter", json!(server.time(-1)))).await.refused(400, "BadRequest");
        assert_eq!(versions(&server, &id).await, [] as [Value; 0]);

        let made = certify(&server, &id, with(by(&top), "maxPathLength", json!(1))).await.ok();
        assert_eq!(
            members(&made),
            [
                "certId",
                "certificate",
                "certificateChain",
                "maxPathLength",
                "notAfter",
                "notBefore",
                "parentCaId",
                "serialNumber"
            ]
        );
        let parent = certificate_of(&server, &top).await;
        assert_eq!((&made["certificateChain"], &made["maxPathLength"]), (&json!(parent.to_pem()), &json!(1)));
        check_below(&server, &pem(&made["certificate"]), &parent, &top).await;
        let ca = server.get(&format!("{TYPED}/{id}")).await.ok();
        assert_eq!((&ca["status"], &ca["configuration"]["parentCaId"]), (&json!("active"), &json!(top)));
        assert_eq!(ca["configuration"]["activeCaCertId"], made["certId"]);
        let one = format!("{TYPED}/{id}/certificate/{}", text(&made["certId"]));
        assert_eq!(server.get(&one).await.ok(), made);
        server.get(&format!("{TYPED}/{top}/certificate/{}", text(&made["certId"]))).await.refused(404, "NotFound");
        server.get(&format!("{TYPED}/{id}/certificate/x")).await.refused(404, "NotFound");

        // A path length bounds those below, and a chain never closes into a circle.
        let lowest = authority(&server, "intermediate", "lowest").await;
        certify(&server, &lowest, by(&id)).await.refused(400, "BadRequest");
        certify(&server, &lowest, with(by(&id), "maxPathLength", json!(1))).await.refused(400, "BadRequest");
        let chain =
            certify(&server, &lowest, with(by(&id), "maxPathLength", json!(0))).await.ok()["certificateChain"].take();
        assert_eq!(chain, format!("{}\n{}", text(&made["certificate"]), parent.to_pem()));
        let under = authority(&server, "intermediate", "under").await;
        certify(&server, &under, with(by(&lowest), "maxPathLength", json!(0))).await.refused(400, "BadRequest");
        let circle = certify(&server, &id, with(by(&lowest), "maxPathLength", json!(0))).await;
        assert!(text(&circle.refused(400, "BadRequest")["message"]).contains("below"));

        // A root may be certified anew at any time; the list keeps growing.
        let (_, first) = list_of(&server, &top).await;
        let again = certify(&server, &top, lifetime(-DAY, DAY)).await.ok();
        assert!(again.get("parentCaId").is_none());
        assert_eq!((&again["certificateChain"], &again["notBefore"]), (&json!(""), &json!(server.time(-DAY))));
        let (_, second) = list_of(&server, &top).await;
        assert_eq!((first.number(), second.number()), (Ok(Some(&[1][..])), Ok(Some(&[2][..]))));
        assert_eq!(versions(&server, &top).await.len(), 2);
    });
}

#[test]
fn the_authority_of_somebody_else_is_signed_within_the_limits_of_ours() {
    for_each_engine(|server| async move {
        let top = text(
            &server
                .post(TYPED, {
                    let mut body = typed_body("root", "top", "EC_secp384r1");
                    body["configuration"]["maxPathLength"] = json!(2);
                    body["configuration"]["notBefore"] = json!(server.time(-DAY));
                    body["configuration"]["notAfter"] = json!(server.time(30 * DAY));
                    body
                })
                .await
                .ok()["id"],
        );
        let foreign = authority(&server, "intermediate", "foreign").await;
        let csr = csr(&server, &foreign).await;
        let ask = |length: i64, to: i64| json!({"csr": csr, "maxPathLength": length, "notAfter": server.time(to)});
        assert_eq!(
            sign(&server, &top, json!({"maxPathLength": -2})).await.issues(),
            ["csr", "notAfter", "maxPathLength"]
        );
        sign(&server, UNKNOWN, ask(1, DAY)).await.refused(404, "NotFound");
        sign(&server, "no-uuid", ask(1, DAY)).await.refused(404, "NotFound");
        let broken = json!({"csr": "-----BEGIN NOTHING-----", "notAfter": server.time(DAY)});
        sign(&server, UNKNOWN, broken.clone()).await.refused(404, "NotFound");
        sign(&server, &top, broken).await.refused(400, "BadRequest");
        for (why, from, length, to) in [
            ("an unbounded path below a bounded one", 0, -1, DAY),
            ("the issuer's own path length", 0, 2, DAY),
            ("a beginning before the issuer's", -DAY - 1, 1, DAY),
            ("an end before the beginning", 2 * DAY, 1, DAY),
            ("an end at the beginning", DAY, 1, DAY),
            ("an end after the issuer's", 0, 1, 30 * DAY + 1),
        ] {
            let mut body = ask(length, to);
            body["notBefore"] = json!(server.time(from));
            let refused = sign(&server, &top, body).await;
            assert_eq!(refused.status, 400, "{why}: {}", refused.body);
        }
        let mut spoilt = x509::CertificationRequest::from_pem(&csr).unwrap().as_der().to_vec();
        *spoilt.last_mut().unwrap() ^= 1;
        let spoilt = json!({"csr": x509::pem::encode("CERTIFICATE REQUEST", &spoilt), "notAfter": server.time(DAY), "maxPathLength": 0});
        sign(&server, &top, spoilt).await.refused(400, "BadRequest");

        let audited = audit_records(&server).await;
        let signed = sign(&server, &top, ask(1, 30 * DAY)).await.ok();
        assert_eq!(members(&signed), ["certificate", "certificateChain", "issuingCaCertificate", "serialNumber"]);
        let (certificate, parent) = (pem(&signed["certificate"]), certificate_of(&server, &top).await);
        assert_eq!(
            (&signed["issuingCaCertificate"], &signed["certificateChain"]),
            (&json!(parent.to_pem()), &json!(parent.to_pem()))
        );
        check_below(&server, &certificate, &parent, &top).await;
        assert_eq!(certificate.not_before(), server.start.seconds());
        assert_eq!(certificate.extensions().basic_constraints().unwrap().unwrap().path_length, Some(1));
        assert_eq!(domain::inventory::serial_hex(&certificate), text(&signed["serialNumber"]));
        // The authority is as before; the certificate is in the inventory, so that it can be revoked.
        assert_eq!(versions(&server, &foreign).await, [] as [Value; 0]);
        assert_eq!(audit_records(&server).await, audited + 1);
        let stored = server
            .services
            .db
            .row("SELECT COUNT(*) FROM certificates WHERE der = $1", vec![certificate.as_der().into()]);
        assert_eq!(stored.await.unwrap().unwrap().int(0), Ok(1));

        let last = authority(&server, "intermediate", "last").await;
        let body =
            json!({"notBefore": server.time(0), "notAfter": server.time(DAY), "parentCaId": top, "maxPathLength": 0});
        certify(&server, &last, body).await.ok();
        sign(&server, &last, ask(0, DAY)).await.refused(400, "BadRequest");
        server.at(31 * DAY - DAY / 2);
        let login = json!({"clientId": server.caller.client_id, "clientSecret": server.caller.client_secret});
        let token = text(&server.anonymous("/api/v1/auth/universal-auth/login", login).await.ok()["accessToken"]);
        let server = server.by(&crate::server::Session { token, ..server.caller.clone() });
        let mut late = ask(1, 30 * DAY);
        late["notBefore"] = json!(server.time(0));
        let refused = sign(&server, &top, late).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("expired"), "{refused}");
    });
}

#[test]
fn the_request_of_somebody_elses_authority_is_held_to_the_rules_for_new_certificates() {
    for_each_engine(|server| async move {
        let top = authority(&server, "root", "top").await;
        let key = TestKey::generate();
        let ask = |draft: &Draft| json!({"csr": draft.pem(&key), "notAfter": server.time(DAY)});
        let named = |kind, string_type, value: &[u8]| {
            let mut draft = Draft::named(&key, "x");
            draft.subject = subject(&[(kind, string_type, value)]);
            draft
        };
        for string_type in [tag::IA5_STRING, tag::NUMERIC_STRING, tag::VISIBLE_STRING, tag::TELETEX_STRING] {
            for kind in [oid::COMMON_NAME, oid::ORGANIZATION, oid::LOCALITY] {
                let signed = sign(&server, &top, ask(&named(kind, string_type, b"4711"))).await.ok();
                let expected = subject(&[(kind, tag::UTF8_STRING, b"4711")]);
                assert_eq!(pem(&signed["certificate"]).subject().as_der(), expected, "{string_type}");
            }
        }
        let bad = named(oid::COUNTRY, tag::PRINTABLE_STRING, b"DEU");
        let unknown = Draft::named(&key, "x").with(&[0x2a, 3, 4], Some(true), vec![5, 0]);
        let constraints = Draft::named(&key, "x").with(oid::NAME_CONSTRAINTS, Some(true), vec![5, 0]);
        for (draft, says) in [(bad, "country"), (unknown, "1.2.3.4"), (constraints, "2.5.29.30")] {
            let refused = sign(&server, &top, ask(&draft)).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(says), "{says}: {refused}");
        }
        // Other extensions are read over, as contract §3.10 has it.
        let read_over = Draft::named(&key, "x").with(&[0x2a, 3, 4], None, vec![5, 0]).with_hosts(&["www.example.com"]);
        let signed = pem(&sign(&server, &top, ask(&read_over)).await.ok()["certificate"]);
        assert!(signed.extensions().find(oid::SUBJECT_ALT_NAME).is_none());
    });
}

pub async fn audit_records(server: &Server) -> i64 {
    let row = server.services.db.row("SELECT COUNT(*) FROM audit_records", vec![]).await.unwrap();
    row.unwrap().int(0).unwrap()
}

#[test]
fn everything_below_an_authority_is_under_both_prefixes() {
    for_each_engine(|server| async move {
        let top = authority(&server, "root", "top").await;
        let id = intermediate(&server, "below", &top, 0).await;
        for path in ["certificate", "ca-certificates"] {
            let (flat, typed) = (
                server.get(&format!("{FLAT}/{id}/{path}")).await.ok(),
                server.get(&format!("{TYPED}/{id}/{path}")).await.ok(),
            );
            let (flat, typed) = if path == "certificate" { (flat, typed) } else { (flat[0].clone(), typed[0].clone()) };
            for (name, value) in flat.as_object().unwrap() {
                assert_eq!(&typed[name], value, "{path} {name}");
            }
            let ca = server.get(&format!("{FLAT}/{id}")).await.ok();
            assert_eq!(typed["certId"], ca["ca"]["activeCaCertId"]);
            let aia = format!("certificates/{}/der", text(&typed["certId"]));
            let der = server.fetch(&format!("{FLAT}/{id}/{aia}")).await;
            assert_eq!(server.fetch(&format!("{TYPED}/{id}/{aia}")).await, der);
            assert_eq!(der.2, pem(&flat["certificate"]).as_der());
        }
        assert_eq!(
            server.get(&format!("{TYPED}/{id}/crls")).await.ok(),
            server.get(&format!("{FLAT}/{id}/crls")).await.ok()
        );
        let typed_csr = text(&server.get(&format!("{TYPED}/{id}/csr")).await.ok()["csr"]);
        let (one, other) = (typed_csr, csr(&server, &id).await);
        let spki = |pem: &str| x509::CertificationRequest::from_pem(pem).unwrap().spki_der().to_vec();
        assert_eq!(spki(&one), spki(&other), "each CSR is by the same key");
        for base in [FLAT, TYPED] {
            server.get(&format!("{base}/{top}/csr")).await.refused(400, "BadRequest");
            let renewed = server
                .post(
                    &format!("{base}/{top}/renew"),
                    json!({"type": "existing", "notAfter": if base == FLAT { "2060-01-01" } else { "2061-01-01" }}),
                )
                .await
                .ok();
            assert_eq!(renewed.get("certId").is_some(), base == TYPED);
            let body = json!({"csr": one, "notAfter": server.time(DAY)});
            server.post(&format!("{base}/{top}/sign-intermediate"), body).await.ok();
            let body = json!({"certificate": "x", "certificateChain": ""});
            server.post(&format!("{base}/{id}/import-certificate"), body).await.refused(400, "BadRequest");
        }
    });
}

#[test]
fn a_list_is_there_from_the_beginning_and_signed_anew_when_it_has_run_out() {
    for_each_engine(|server| async move {
        let id = authority(&server, "root", "top").await;
        let (list, first) = list_of(&server, &id).await;
        let certificate = certificate_of(&server, &id).await;
        assert_eq!((first.version(), first.entries().count(), first.number()), (2, 0, Ok(Some(&[1][..]))));
        assert_eq!(first.issuer(), certificate.subject());
        assert_eq!(first.next_update(), Some(first.this_update() + 7 * DAY));
        let identifier = first.extensions().authority_key_id().unwrap().unwrap();
        assert_eq!(identifier.key_id.as_deref(), certificate.extensions().subject_key_id().unwrap());
        let places = ["pki", "cert-manager"].map(|family| format!("/api/v1/{family}/crl/{list}"));
        let places = places.iter().flat_map(|place| [place.clone(), format!("{place}/der"), format!("{place}/")]);
        let places: Vec<String> = places.collect();
        for place in &places {
            assert_eq!(
                server.fetch(place).await,
                (200, "application/pkix-crl".into(), first.as_der().to_vec()),
                "{place}"
            );
        }
        let mut newest = first;
        for days in [7, 15, 22] {
            server.at(days * DAY);
            let next = Crl::from_der(server.fetch(&places[0]).await.2).unwrap();
            assert_eq!(next.this_update(), server.start.seconds() + days * DAY);
            assert!(next.number().unwrap() > newest.number().unwrap(), "numbers of one octet grow");
            assert!(next.verify_signature(&certificate.public_key().unwrap()));
            newest = next;
        }
        // One that is about to run out is due, whoever asks.
        server.at(22 * DAY + 3 * DAY + 1);
        let due = domain::CrlId::parse(&list).unwrap();
        server.services.publish_list(due).await.unwrap();
        assert!(!server.services.lists_due().await.unwrap().contains(&due));

        for place in [
            format!("/api/v1/pki/crl/{UNKNOWN}/der"),
            "/api/v1/cert-manager/crl/x".into(),
            format!("{FLAT}/{id}/certificates/{UNKNOWN}/der"),
            format!("{TYPED}/x/certificates/{UNKNOWN}/der"),
        ] {
            let (status, _, body) = server.fetch(&place).await;
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status, members(&body)), (404, vec!["error", "message", "reqId", "statusCode"]), "{place}");
        }
    });
}
