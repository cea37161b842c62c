//! The import of a certificate that an outside authority made for one of ours (contract §3.11, invariant I15).

use crate::authorities::{DAY, FLAT, TYPED, UNKNOWN, authority, certificate_of, intermediate, list_of, typed_body};
use crate::authority_certificates::audit_records;
use crate::issuing::{issue, open_policy, policy, profile_with};
use crate::server::{Answer, Server, for_each_engine, members, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::chains::{Draft, TestKey, common_name, good_import, import_cases, written};
use x509::extension::CertificatePolicies;
use x509::{Certificate, CertificationRequest, DistinguishedName, KeyUsage, oid, pem};

/// The body of an import.
pub fn body(certificates: &[Vec<u8>], chain: &[Vec<u8>]) -> Value {
    let text =
        |ders: &[Vec<u8>]| ders.iter().map(|der| pem::encode(pem::CERTIFICATE, der)).collect::<Vec<_>>().join("\n");
    json!({"certificate": text(certificates), "certificateChain": text(chain)})
}

async fn import(server: &Server, id: &str, certificate: &[u8], chain: &[Vec<u8>]) -> Answer {
    server.post(&format!("{FLAT}/{id}/import-certificate"), body(&[certificate.to_vec()], chain)).await
}

/// The subject and key of an authority, from its CSR.
async fn request(server: &Server, id: &str) -> CertificationRequest {
    CertificationRequest::from_pem(&text(&server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"])).unwrap()
}

/// All that there is of authorities, and how much audit: as the API shows it and as it is stored.
async fn everything(server: &Server, id: &str) -> (Vec<Value>, Vec<Vec<store::Value>>, i64) {
    let mut shown = Vec::new();
    for path in ["", "/ca-certificates", "/crls"] {
        shown.push(server.get(&format!("{FLAT}/{id}{path}")).await.ok());
    }
    let mut rows = Vec::new();
    for sql in [
        "SELECT * FROM authorities ORDER BY id",
        "SELECT * FROM authority_keys ORDER BY id",
        "SELECT * FROM authority_certificates ORDER BY id",
        "SELECT * FROM crls ORDER BY id",
        "SELECT * FROM issuer_names ORDER BY id",
        "SELECT * FROM certificates ORDER BY id",
    ] {
        rows.extend(server.services.db.rows(sql, vec![]).await.unwrap().into_iter().map(store::Row::into_values));
    }
    (shown, rows, audit_records(server).await)
}

#[test]
fn each_broken_rule_is_named_and_nothing_is_changed() {
    for_each_engine(|server| async move {
        let id = authority(&server, "intermediate", "ours").await;
        let request = request(&server, &id).await;
        let (subject, spki, now) = (request.subject(), request.spki_der(), server.start.seconds());
        let before = everything(&server, &id).await;
        let mut rules = BTreeSet::new();
        for case in import_cases(subject, spki, now) {
            let answer = import(&server, &id, &case.certificate, &case.chain).await;
            assert_eq!(answer.status, 400, "{}: {}", case.name, answer.body);
            let message = text(&answer.refused(400, "BadRequest")["message"]);
            assert!(message.ends_with(&format!("[{}]", case.rule)), "{}: {message}", case.name);
            let named =
                if case.rule == "unreadable" { "certificate:".to_owned() } else { format!("\"{}\"", case.at_fault) };
            assert!(message.contains(&named), "{}: {message}", case.name);
            rules.insert(case.rule);
        }
        assert!(rules.len() >= 25, "{rules:?}");
        assert_eq!(everything(&server, &id).await, before);

        let (certificate, chain) = good_import(subject, spki, now);
        let done = import(&server, &id, &certificate, &chain).await.ok();
        assert_eq!((members(&done), &done["caId"]), (vec!["caId", "message"], &json!(id)));
        let active = everything(&server, &id).await;
        // The import, and who speaks of the status of its certificates from now on.
        assert_eq!(active.2, before.2 + 2);
        // What is refused leaves a working authority as it is, too.
        for case in import_cases(subject, spki, now).iter().step_by(7) {
            import(&server, &id, &case.certificate, &case.chain).await.refused(400, "BadRequest");
        }
        assert_eq!(everything(&server, &id).await, active);
    });
}

#[test]
fn an_imported_certificate_is_active_with_its_chain_in_order() {
    for_each_engine(|server| async move {
        let id = authority(&server, "intermediate", "ours").await;
        let request = request(&server, &id).await;
        let (subject, spki, now) = (request.subject(), request.spki_der(), server.start.seconds());
        let (certificate, chain) = good_import(subject, spki, now);
        // The chain is given root first, padded; it is kept with the direct issuer first.
        let mut sent = body(std::slice::from_ref(&certificate), &chain);
        for member in ["certificate", "certificateChain"] {
            sent[member] = json!(format!("  \n{}\r\n\n", text(&sent[member]).replace('\n', "\r\n")));
        }
        server.post(&format!("{TYPED}/{id}/import-certificate"), sent).await.ok();
        let shown = server.get(&format!("{FLAT}/{id}/certificate")).await.ok();
        let reversed: Vec<Vec<u8>> = chain.iter().rev().cloned().collect();
        let expected = body(std::slice::from_ref(&certificate), &reversed);
        assert_eq!(
            (&shown["certificate"], &shown["certificateChain"]),
            (&expected["certificate"], &expected["certificateChain"])
        );
        let ca = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"].take();
        let parsed = Certificate::from_der(certificate.clone()).unwrap();
        for (member, value) in [
            ("status", json!("active")),
            ("serialNumber", json!(domain::inventory::serial_hex(&parsed))),
            ("maxPathLength", json!(-1)),
            ("notBefore", json!(server.time(-DAY))),
            ("notAfter", json!(server.time(365 * DAY))),
            ("parentCaId", Value::Null),
        ] {
            assert_eq!(ca[member], value, "{member}");
        }
        // The list's issuer and key identifier are the certificate's.
        let (_, list) = list_of(&server, &id).await;
        assert!(list.verify_signature(&parsed.public_key().unwrap()));
        let identifier = list.extensions().authority_key_id().unwrap().unwrap();
        assert_eq!(identifier.key_id.as_deref(), parsed.extensions().subject_key_id().unwrap());
        assert_eq!(list.number(), Ok(Some(&[2][..])));

        // Its renewal is another import: here with a chain that does not reach a root.
        let (next, chain) = good_import(subject, spki, now);
        server.at(1);
        import(&server, &id, &next, &chain[1..]).await.ok();
        let versions = server.get(&format!("{FLAT}/{id}/ca-certificates")).await.ok();
        assert_eq!((&versions[0]["version"], &versions[1]["version"]), (&json!(1), &json!(2)));
        assert_eq!(versions[0]["certificate"], shown["certificate"]);
        assert_eq!(certificate_of(&server, &id).await.as_der(), next);
    });
}

#[test]
fn what_is_not_one_certificate_for_this_key_and_subject_is_refused() {
    for_each_engine(|server| async move {
        let mut new = typed_body("intermediate", "ours", "EC_prime256v1");
        new["configuration"]["organization"] = json!("Acme");
        new["configuration"]["maxPathLength"] = json!(0);
        let id = text(&server.post(TYPED, new).await.ok()["id"]);
        let request = request(&server, &id).await;
        let (subject, spki, now) = (request.subject(), request.spki_der(), server.start.seconds());
        let path = format!("{FLAT}/{id}/import-certificate");
        let refused = |sent: Value, rule: &'static str| {
            let (server, path) = (server.clone(), path.clone());
            async move {
                let message = text(&server.post(&path, sent).await.refused(400, "BadRequest")["message"]);
                assert!(message.ends_with(&format!("[{rule}]")), "{rule}: {message}");
                message
            }
        };
        assert_eq!(server.post(&path, json!({"certificate": 1})).await.issues(), ["certificate", "certificateChain"]);
        let (certificate, chain) = good_import(subject, spki, now);
        let one = [certificate.clone()];
        refused(body(&one, &[]), "no-chain").await;
        refused(json!({"certificate": text(&body(&one, &[])["certificate"]), "certificateChain": "none"}), "no-chain")
            .await;
        refused(body(&[], &chain), "no-certificate").await;
        refused(body(&[certificate.clone(), chain[1].clone()], &chain[..1]), "several-certificates").await;
        refused(body(&[certificate.clone(), certificate.clone()], &chain), "several-certificates").await;
        refused(body(&[b"\x30\x00".to_vec()], &chain), "unreadable").await;
        let message = refused(body(&one, &[chain[0].clone(), b"\x30\x00".to_vec()]), "unreadable").await;
        assert!(message.contains("certificate 2"), "{message}");
        refused(body(&one, &vec![chain[0].clone(); 21]), "unreadable").await;
        let dashes = json!({"certificate": "-----BEGIN ".repeat(20_000), "certificateChain": ""});
        server.post(&path, dashes).await.refused(400, "BadRequest");

        let other = TestKey::generate();
        let (foreign, chain) = good_import(subject, &other.spki(), now);
        refused(body(&[foreign], &chain), "key-mismatch").await;
        let (renamed, chain) = good_import(&common_name("theirs"), spki, now);
        let message = refused(body(&[renamed], &chain), "configuration-mismatch").await;
        for part in
            ["commonName is \"theirs\" and \"ours\"", "organization is \"\" and \"Acme\"", "path length is none and 0"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
        server.post(&format!("{FLAT}/{UNKNOWN}/import-certificate"), body(&one, &chain)).await.refused(404, "NotFound");

        // With the path length that was asked for it is taken, and the certificate's own stands from then on.
        let (certificate, chain) = signed_by_stranger(subject, spki, now, |draft| draft.set_path_length(0));
        import(&server, &id, &certificate, &chain).await.ok();
        assert_eq!(server.get(&format!("{FLAT}/{id}")).await.ok()["ca"]["maxPathLength"], 0);
    });
}

/// A certificate of an authority below a root that nobody knows.
fn signed_by_stranger(
    subject: &DistinguishedName,
    spki: &[u8],
    now: i64,
    change: impl FnOnce(&mut Draft),
) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (key, name) = (TestKey::generate(), common_name("Stranger"));
    let root = Draft::authority(&name, key.spki(), &name, now).sign(&key);
    let mut draft = Draft::authority(subject, spki.to_vec(), &name, now);
    change(&mut draft);
    (draft.sign(&key), vec![root])
}

#[test]
fn the_parent_is_found_when_it_is_one_of_ours() {
    for_each_engine(|server| async move {
        let top = authority(&server, "root", "top").await;
        let id = authority(&server, "intermediate", "ours").await;
        let csr = server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"].take();
        let sign = json!({"csr": csr, "notAfter": server.time(10 * DAY), "maxPathLength": -1});
        let signed = server.post(&format!("{FLAT}/{top}/sign-intermediate"), sign).await.ok();
        let sent = json!({"certificate": signed["certificate"], "certificateChain": signed["certificateChain"]});
        let path = format!("{FLAT}/{id}/import-certificate");
        server.post(&path, sent.clone()).await.ok();
        let ca = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"].take();
        assert_eq!((&ca["parentCaId"], &ca["status"]), (&json!(top), &json!("active")));
        // From now on it is renewed here, and not imported.
        let again = server.post(&path, sent.clone()).await.refused(400, "BadRequest");
        assert!(text(&again["message"]).contains("certified by another one here"), "{again}");
        let renew = json!({"type": "existing", "notAfter": server.time(20 * DAY)});
        server.post(&format!("{FLAT}/{id}/renew"), renew).await.ok();
        server.delete(&format!("{FLAT}/{top}")).await.refused(400, "BadRequest");
        let certified = intermediate(&server, "certified", &top, -1).await;
        server
            .post(
                &format!("{FLAT}/{certified}/import-certificate"),
                json!({"certificate": "x", "certificateChain": ""}),
            )
            .await
            .refused(400, "BadRequest");

        // An issuer of the same name and serial number that is not ours is no parent.
        let other = authority(&server, "intermediate", "other").await;
        let request = request(&server, &other).await;
        let ours = certificate_of(&server, &top).await;
        let (key, now) = (TestKey::generate(), server.start.seconds());
        let mut twin = Draft::authority(ours.subject(), key.spki(), ours.issuer(), now);
        twin.serial = ours.serial_content().to_vec();
        let certificate =
            Draft::authority(request.subject(), request.spki_der().to_vec(), ours.subject(), now).sign(&key);
        import(&server, &other, &certificate, &[twin.sign(&key)]).await.ok();
        assert_eq!(server.get(&format!("{FLAT}/{other}")).await.ok()["ca"]["parentCaId"], Value::Null);
    });
}

#[test]
fn an_authority_that_was_switched_off_stays_so() {
    for_each_engine(|server| async move {
        let id = authority(&server, "intermediate", "ours").await;
        let one = format!("{FLAT}/{id}");
        server.patch(&one, json!({"status": "disabled"})).await.ok();
        let request = request(&server, &id).await;
        let (certificate, chain) = good_import(request.subject(), request.spki_der(), server.start.seconds());
        import(&server, &id, &certificate, &chain).await.ok();
        let ca = server.get(&one).await.ok()["ca"].take();
        assert_eq!(ca["status"], "disabled");
        assert_ne!(ca["activeCaCertId"], Value::Null);
        let sign = json!({"csr": server.get(&format!("{one}/csr")).await.ok()["csr"], "notAfter": server.time(DAY)});
        let path = format!("{one}/sign-intermediate");
        server.post(&path, sign.clone()).await.refused(400, "BadRequest");
        server.patch(&one, json!({"status": "active"})).await.ok();
        server.post(&path, sign).await.ok();
    });
}

#[test]
fn two_imports_at_once_leave_one_whole_state() {
    for_each_engine(|server| async move {
        let id = authority(&server, "intermediate", "ours").await;
        let request = request(&server, &id).await;
        let (subject, spki, now) = (request.subject(), request.spki_der(), server.start.seconds());
        let (one, two) = (good_import(subject, spki, now), good_import(subject, spki, now));
        let answers = tokio::join!(import(&server, &id, &one.0, &one.1), import(&server, &id, &two.0, &two.1));
        let answers = [answers.0, answers.1];
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(won >= 1 && answers.iter().all(|answer| [200, 409].contains(&answer.status)), "{answers:?}");
        let versions = server.get(&format!("{FLAT}/{id}/ca-certificates")).await.ok();
        assert_eq!(versions.as_array().map(Vec::len), Some(won));
        let active = server.get(&format!("{FLAT}/{id}/certificate")).await.ok();
        assert_eq!(versions[won - 1]["certificate"], active["certificate"]);
        let ca = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"].take();
        assert_eq!(ca["serialNumber"], active["serialNumber"]);
    });
}

#[test]
fn an_authority_whose_lists_nobody_accepts_is_installed_with_a_warning() {
    for_each_engine(|server| async move {
        let id = authority(&server, "intermediate", "ours").await;
        let request = request(&server, &id).await;
        let (subject, spki, now) = (request.subject(), request.spki_der(), server.start.seconds());
        for (usages, is_warned) in
            [(vec![KeyUsage::KeyCertSign], true), (vec![KeyUsage::KeyCertSign, KeyUsage::CrlSign], false)]
        {
            let (certificate, chain) = signed_by_stranger(subject, spki, now, |draft| draft.set_usages(&usages));
            let done = import(&server, &id, &certificate, &chain).await.ok();
            assert_eq!(text(&done["message"]).contains("cRLSign"), is_warned, "{done}");
        }
    });
}

/// An authority of ours below a root that requires a policy of every certificate: with this policy, and with anyPolicy
/// standing for all or for none.
async fn below_a_requiring_root(server: &Server, name: &str, policy_oid: &[u8], inhibits_any: bool) -> String {
    let id = authority(server, "intermediate", name).await;
    let request = request(server, &id).await;
    let (key, root_name, now) = (TestKey::generate(), common_name("Requiring Root"), server.start.seconds());
    let mut root = Draft::authority(&root_name, key.spki(), &root_name, now);
    root.set(oid::POLICY_CONSTRAINTS, Some(true), vec![0x30, 3, 0x80, 1, 0]);
    if inhibits_any {
        root.set(oid::INHIBIT_ANY_POLICY, Some(true), vec![2, 1, 0]);
    }
    let mut draft = Draft::authority(request.subject(), request.spki_der().to_vec(), &root_name, now);
    let policies = written(|writer| CertificatePolicies::encode_oids(&[policy_oid], writer));
    draft.set(oid::CERTIFICATE_POLICIES, None, policies);
    import(server, &id, &draft.sign(&key), &[root.sign(&key)]).await.ok();
    id
}

#[test]
fn nothing_is_signed_that_lacks_a_policy_which_an_authority_above_requires() {
    for_each_engine(|server| async move {
        let open = policy(&server, open_policy("open")).await;
        for (name, oid, inhibits_any, leaf_status) in
            [("any", oid::ANY_POLICY, false, 200), ("named", &[0x2a, 3, 4][..], true, 400)]
        {
            let id = below_a_requiring_root(&server, name, oid, inhibits_any).await;
            // Certificates of authorities have no policies but configured ones.
            let lower = authority(&server, "intermediate", &format!("below-{name}")).await;
            let csr = server.get(&format!("{FLAT}/{lower}/csr")).await.ok()["csr"].take();
            let sign = json!({"csr": csr, "notAfter": server.time(DAY)});
            let refused = server.post(&format!("{FLAT}/{id}/sign-intermediate"), sign).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains("requires a certificate policy"), "{refused}");
            // Leaves have anyPolicy.
            let profile = profile_with(&server, name, Some(&id), &open, json!({})).await;
            let issued = issue(&server, &profile, json!({})).await;
            assert_eq!(issued.status, leaf_status, "{name}: {}", issued.body);
        }
    });
}
