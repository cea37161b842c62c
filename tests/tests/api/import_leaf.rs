//! The import of a certificate that somebody else issued (contract §6.9).

use crate::authorities::UNKNOWN;
use crate::authority_certificates::audit_records;
use crate::issuing::{Bench, REQUEST, issue, profile};
use crate::server::{Server, for_each_engine, members, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::chains::{Draft, TestKey, common_name};
use x509::{DnsName, GeneralName, oid, pem};

const BY_SLUG: &str = "/api/v1/pki/certificates/import-certificate";
const BY_ID: &str = "/api/v1/cert-manager/certificates/import-certificate";

/// A leaf below an intermediate below a root, all of somebody else.
struct Foreign {
    keys: [TestKey; 3],
    leaf: Draft,
    intermediate: Draft,
    root: Draft,
}

impl Foreign {
    fn new(name: &str, now: i64) -> Self {
        let keys = [TestKey::generate(), TestKey::generate(), TestKey::generate()];
        let (root_name, middle_name) = (common_name("Foreign Root"), common_name("Foreign Issuing"));
        let root = Draft::authority(&root_name, keys[2].spki(), &root_name, now);
        let intermediate = Draft::authority(&middle_name, keys[1].spki(), &root_name, now);
        let mut leaf = Draft::end_entity(&common_name(name), keys[0].spki(), &middle_name, now);
        let dns = |name| GeneralName::Dns(DnsName::parse(name).unwrap());
        leaf.set_names(&[dns("a.example.net"), dns("b.example.net")]);
        Self { keys, leaf, intermediate, root }
    }

    fn leaf(&self) -> String {
        as_pem(&self.leaf.sign(&self.keys[1]))
    }

    fn intermediate(&self) -> String {
        as_pem(&self.intermediate.sign(&self.keys[2]))
    }

    fn root(&self) -> String {
        as_pem(&self.root.sign(&self.keys[2]))
    }

    /// A body that is in order.
    fn body(&self) -> Value {
        let (leaf, intermediate, root) = (self.leaf(), self.intermediate(), self.root());
        json!({"projectSlug": "default", "certificatePem": leaf, "privateKeyPem": self.keys[0].to_pkcs8_pem(),
            "chainPem": format!("{intermediate}\n{root}")})
    }
}

/// A body that is in order, for other tests.
pub fn foreign_body(server: &Server) -> Value {
    Foreign::new("a.example.net", server.start.seconds()).body()
}

fn as_pem(der: &[u8]) -> String {
    pem::encode(pem::CERTIFICATE, der)
}

/// All that an import could add.
async fn everything(server: &Server) -> (Vec<Vec<store::Value>>, i64) {
    let mut rows = Vec::new();
    for sql in [
        "SELECT * FROM certificates ORDER BY pk",
        "SELECT * FROM leaf_keys ORDER BY certificate_pk",
        "SELECT * FROM issuer_names ORDER BY id",
    ] {
        rows.extend(server.services.db.rows(sql, vec![]).await.unwrap().into_iter().map(store::Row::into_values));
    }
    (rows, audit_records(server).await)
}

async fn findings(server: &Server) -> Vec<String> {
    let report = server.services.fsck(|_| ()).await.unwrap();
    report.findings.into_iter().map(|finding| format!("{}: {}", finding.subject, finding.problem)).collect()
}

#[test]
fn an_imported_certificate_is_in_the_inventory_with_its_chain_and_its_key() {
    for_each_engine(|server| async move {
        let foreign = Foreign::new("a.example.net", server.start.seconds());
        let mut sent = foreign.body();
        // A copy of the certificate may lead the chain.
        sent["chainPem"] = json!(format!("{}\n{}", text(&sent["certificatePem"]), text(&sent["chainPem"])));
        sent["friendlyName"] = json!("The Shop");
        let answer = server.post(BY_SLUG, sent.clone()).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let answer = answer.ok();
        assert_eq!(members(&answer), ["certificate", "certificateChain", "privateKey", "serialNumber"]);
        for (shown, given) in
            [("certificate", "certificatePem"), ("certificateChain", "chainPem"), ("privateKey", "privateKeyPem")]
        {
            assert_eq!(answer[shown], sent[given], "{shown}");
        }
        let serial = text(&answer["serialNumber"]);
        let record = server.get(&format!("/api/v1/pki/certificates/{serial}")).await.ok()["certificate"].take();
        for (member, value) in [
            ("source", json!("imported")),
            ("status", json!("active")),
            ("caId", Value::Null),
            ("caCertId", Value::Null),
            ("profileId", Value::Null),
            ("commonName", json!("a.example.net")),
            ("friendlyName", json!("The Shop")),
            ("altNames", json!("a.example.net, b.example.net")),
            ("hasPrivateKey", json!(true)),
            ("projectId", json!(server.project)),
            ("createdAt", json!(server.time(0))),
        ] {
            assert_eq!(record[member], value, "{member}");
        }
        let place = format!("{REQUEST}/{}", text(&record["id"]));
        let chain = format!("{}\n{}", foreign.intermediate(), foreign.root());
        let bundle = server.get(&format!("{place}/bundle")).await.ok();
        let public = |key: &Value| keys::PrivateKey::from_pem(&text(key)).unwrap().public_spki_der().to_vec();
        assert_eq!(bundle["certificate"], sent["certificatePem"]);
        // ECDSA signs anew each time, so the chain is the one that was sent.
        assert_eq!(bundle["certificateChain"].as_str().map(|kept| kept.matches("BEGIN").count()), Some(2));
        assert!(text(&sent["chainPem"]).ends_with(&text(&bundle["certificateChain"])), "{chain}");
        assert_eq!(public(&bundle["privateKey"]), public(&sent["privateKeyPem"]));

        let bench = Bench::new();
        let store = server.post(&format!("{place}/pkcs12"), json!({"password": "secret", "alias": "shop"})).await;
        std::fs::write(bench.path("store.p12"), store.octets).unwrap();
        let opened = bench.openssl(&["pkcs12", "-in", "store.p12", "-noenc", "-passin", "pass:secret"]);
        assert_eq!(opened.matches("BEGIN CERTIFICATE").count(), 3);

        let listed =
            server.get(&format!("/api/v1/projects/{}/certificates?search=b.example", server.project)).await.ok();
        assert_eq!(listed["certificates"][0]["id"], record["id"]);
        let search = format!("/api/v1/projects/{}/certificates/search", server.project);
        for (name, count) in [("the sh", 1), ("a.example", 0)] {
            let found = server.post(&search, json!({"friendlyName": name})).await.ok();
            assert_eq!(found["totalCount"], count, "{name}");
        }
        let audited = services::fsck::audit_records(&server.services.db, 10).await.unwrap();
        let audited = audited.iter().find(|one| one.event == "certificate-imported").unwrap();
        assert_eq!(audited.object_id, Some(text(&record["id"])));
        assert_eq!((&audited.detail["serialNumber"], &audited.detail["key"]), (&json!(serial), &json!("kept")));
        assert_eq!(findings(&server).await, [] as [&str; 0]);

        // Whoever issued it renews and revokes it.
        for reason in ["KEY_COMPROMISE", "CERTIFICATE_HOLD"] {
            let refused = server.post(&format!("{place}/revoke"), json!({"revocationReason": reason})).await;
            assert!(text(&refused.refused(400, "BadRequest")["message"]).contains("imported"));
        }
        server.post(&format!("{place}/renew"), json!({})).await.refused(403, "ForbiddenError");
        server.patch(&format!("{place}/config"), json!({"renewBeforeDays": 5})).await.refused(400, "BadRequest");
        // It is taken out like any other, and may come again.
        server.delete(&place).await.ok();
        server.get(&place).await.refused(404, "NotFound");
        assert_eq!(findings(&server).await, [] as [&str; 0]);
        server.post(BY_SLUG, sent).await.ok();
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn the_later_family_takes_certificates_without_chain_and_key() {
    for_each_engine(|server| async move {
        let now = server.start.seconds();
        let open = profile(&server, "open", json!({})).await;
        let foreign = Foreign::new("x.example.net", now);
        let mut sent = json!({"certificatePem": foreign.leaf(), "chainPem": null, "profileId": open,
            "applicationId": UNKNOWN});
        let answer = server.post(BY_ID, sent.clone()).await.ok();
        assert_eq!(
            members(&answer),
            ["certificate", "certificateChain", "certificateId", "privateKey", "serialNumber"]
        );
        assert_eq!((&answer["certificateChain"], &answer["privateKey"]), (&Value::Null, &Value::Null));
        let place = format!("{REQUEST}/{}", text(&answer["certificateId"]));
        let record = server.get(&place).await.ok()["certificate"].take();
        assert_eq!((&record["hasPrivateKey"], &record["profileId"]), (&json!(false), &Value::Null));
        let body = server.get(&format!("{place}/certificate")).await.ok();
        assert_eq!((&body["certificate"], &body["certificateChain"]), (&sent["certificatePem"], &Value::Null));
        server
            .post(&format!("{place}/jks"), json!({"password": "secret", "alias": "a"}))
            .await
            .refused(400, "BadRequest");

        // One that signed itself, of an authority as OpenSSL makes them, by any of its own keys.
        let bench = Bench::new();
        for (number, arguments) in
            [["rsa:2048", "-nodes"], ["ec", "-pkeyopt=ec_paramgen_curve:P-384"]].iter().enumerate()
        {
            let mut line = vec!["req", "-x509", "-newkey", arguments[0], "-noenc", "-subj", "/CN=self.example.net"];
            if let Some(option) = arguments[1].strip_prefix("-pkeyopt=") {
                line.extend(["-pkeyopt", option]);
            }
            line.extend(["-keyout", "self.key", "-out", "self.crt", "-days", "30"]);
            bench.openssl(&line);
            bench.openssl(&["pkey", "-in", "self.key", "-traditional", "-out", "older.key"]);
            let key = bench.read("older.key");
            assert!(key.contains(if number == 0 { "RSA PRIVATE KEY" } else { "EC PRIVATE KEY" }), "{key}");
            sent = json!({"projectId": server.project, "certificatePem": bench.read("self.crt"), "privateKeyPem": key});
            let answer = server.post(BY_ID, sent.clone()).await.ok();
            let place = format!("{REQUEST}/{}", text(&answer["certificateId"]));
            let body = server.get(&format!("{place}/certificate")).await.ok();
            assert_eq!(body["certificateChain"], body["certificate"]);
            let record = server.get(&place).await.ok()["certificate"].take();
            assert_eq!((&record["isCA"], &record["hasPrivateKey"]), (&json!(true), &json!(true)));
            let list = format!("/api/v1/projects/{}/certificates?search=self.example", server.project);
            assert_eq!(server.get(&list).await.ok()["totalCount"], number + 1);
            assert_eq!(findings(&server).await, [] as [&str; 0]);
            if number == 0 {
                server.get(&format!("/api/v1/pki/certificates/{}", text(&answer["serialNumber"]))).await.ok();
            }
        }
        // An expired one is recorded, too.
        let mut old = Foreign::new("old.example.net", now - 400 * 24 * 60 * 60);
        old.leaf.serial = vec![7];
        let answer = server.post(BY_ID, json!({"certificatePem": old.leaf(), "friendlyName": "Old"})).await.ok();
        assert_eq!(answer["serialNumber"], "07");
        let record = server.get("/api/v1/pki/certificates/07").await.ok()["certificate"].take();
        assert_eq!((&record["status"], &record["friendlyName"]), (&json!("expired"), &json!("Old")));
        // A number whose first bit is set is found by its first digits all the same.
        let mut high = Foreign::new("high.example.net", now);
        high.leaf.serial = vec![0, 0xf3, 0x11];
        let id = server.post(BY_ID, json!({"certificatePem": high.leaf()})).await.ok()["certificateId"].take();
        let found = format!("/api/v1/projects/{}/certificates?search=F31", server.project);
        assert_eq!(server.get(&found).await.ok()["certificates"][0]["id"], id);
    });
}

#[test]
fn a_certificate_of_an_authority_here_is_no_foreign_one() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let issued = issue(&server, &open, json!({})).await.ok();
        let id = text(&issued["certificateId"]);
        let body = json!({"certificatePem": issued["certificate"], "chainPem": issued["certificateChain"]});
        let refused = server.post(BY_ID, body.clone()).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).ends_with("[issued-here]"), "{refused}");
        server.post(&format!("{REQUEST}/{id}/revoke"), json!({"revocationReason": "KEY_COMPROMISE"})).await.ok();
        server.delete(&format!("{REQUEST}/{id}")).await.ok();
        let refused = server.post(BY_ID, body).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).ends_with("[issued-here]"), "{refused}");
    });
}

/// A body with one thing wrong, and the rule that it breaks.
fn cases(now: i64) -> Vec<(&'static str, Value, &'static str)> {
    let case = |name, rule, change: &dyn Fn(&mut Foreign, &mut Value)| {
        let mut foreign = Foreign::new("broken.example.net", now);
        let mut body = foreign.body();
        change(&mut foreign, &mut body);
        (name, body, rule)
    };
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----";
    vec![
        case("no certificate", "no-certificate", &|_, body| body["certificatePem"] = json!("none")),
        case("two certificates", "several-certificates", &|foreign, body| {
            body["certificatePem"] = json!(format!("{}\n{}", foreign.leaf(), foreign.intermediate()));
        }),
        case("no DER", "unreadable", &|_, body| body["certificatePem"] = json!(as_pem(&[0x30, 0]))),
        case("a cut block", "unreadable", &|_, body| {
            body["certificatePem"] = json!("-----BEGIN CERTIFICATE-----\nAQID")
        }),
        case("a serial number of 0", "serial-invalid", &|foreign, body| {
            foreign.leaf.serial = vec![0];
            body["certificatePem"] = json!(foreign.leaf());
        }),
        case("a name with U+0000", "name-invalid", &|foreign, body| {
            for octet in foreign.leaf.subject.iter_mut().filter(|octet| **octet == b'k') {
                *octet = 0;
            }
            body["certificatePem"] = json!(foreign.leaf());
        }),
        case("a negative serial number", "serial-invalid", &|foreign, body| {
            foreign.leaf.serial = vec![0x80];
            body["certificatePem"] = json!(foreign.leaf());
        }),
        case("a chain of nothing", "no-chain", &|_, body| body["chainPem"] = json!("none")),
        case("a chain of the certificate alone", "no-chain", &|_, body| {
            body["chainPem"] = body["certificatePem"].clone()
        }),
        case("a key in the chain", "private-key", &|foreign, body| {
            body["chainPem"] = json!(format!("{}\n{}", foreign.keys[0].to_pkcs8_pem(), foreign.intermediate()));
        }),
        case("no DER in the chain", "unreadable", &|foreign, body| {
            body["chainPem"] = json!(format!("{}\n{}", foreign.intermediate(), as_pem(&[0x30, 0])));
        }),
        case("too long a chain", "unreadable", &|foreign, body| {
            body["chainPem"] = json!(vec![foreign.root(); 21].join("\n"));
        }),
        case("the wrong order", "signature-invalid", &|foreign, body| {
            body["chainPem"] = json!(format!("{}\n{}", foreign.root(), foreign.intermediate()));
        }),
        case("a gap", "signature-invalid", &|foreign, body| body["chainPem"] = json!(foreign.root())),
        case("a stranger at the end", "signature-invalid", &|foreign, body| {
            let other = Foreign::new("other", now);
            body["chainPem"] = json!(format!("{}\n{}", foreign.intermediate(), other.root()));
        }),
        case("the certificate twice", "signature-invalid", &|foreign, body| {
            let leaf = text(&body["certificatePem"]);
            body["chainPem"] = json!(format!("{leaf}\n{leaf}\n{}", foreign.intermediate()));
        }),
        case("a spoilt signature", "signature-invalid", &|foreign, body| {
            foreign.leaf.bad_signature = true;
            body["certificatePem"] = json!(foreign.leaf());
        }),
        case("an unknown signature", "signature-algorithm-not-allowed", &|foreign, body| {
            let mut writer = x509::der::Writer::new();
            writer.sequence(|writer| writer.oid(oid::EC_PUBLIC_KEY));
            foreign.leaf.inner_algorithm = writer.clone().into_bytes();
            foreign.leaf.outer_algorithm = writer.into_bytes();
            body["certificatePem"] = json!(foreign.leaf());
        }),
        case("no key", "key-unreadable", &|_, body| body["privateKeyPem"] = json!("none")),
        case("a key that does not read", "key-unreadable", &|_, body| {
            body["privateKeyPem"] = json!(pem::encode(pem::PRIVATE_KEY, &[0x30, 0]));
        }),
        case("a key that signs nothing", "unsupported-key", &|_, body| {
            // X25519 (RFC 8410 §3).
            let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20];
            body["privateKeyPem"] = json!(pem::encode(pem::PRIVATE_KEY, &[&head[..], &[7; 32]].concat()));
        }),
        case("an encrypted key", "key-unreadable", &|_, body| body["privateKeyPem"] = json!(sealed)),
        case("two keys", "key-unreadable", &|_, body| {
            let key = text(&body["privateKeyPem"]);
            body["privateKeyPem"] = json!(format!("{key}\n{key}"));
        }),
        case("the key of another", "key-mismatch", &|foreign, body| {
            body["privateKeyPem"] = json!(foreign.keys[1].to_pkcs8_pem());
        }),
    ]
}

#[test]
fn each_broken_rule_of_an_import_is_named_and_nothing_is_changed() {
    for_each_engine(|server| async move {
        let now = server.start.seconds();
        let before = everything(&server).await;
        let mut rules = BTreeSet::new();
        for (name, body, rule) in cases(now) {
            for path in [BY_SLUG, BY_ID] {
                let message = text(&server.post(path, body.clone()).await.refused(400, "BadRequest")["message"]);
                assert!(message.ends_with(&format!("[{rule}]")), "{name}: {message}");
                assert!(!message.contains("PRIVATE KEY"), "{name}: {message}");
            }
            rules.insert(rule);
        }
        assert!(rules.len() >= 11, "{rules:?}");
        // One that names itself and did not sign itself.
        let mut lone = Foreign::new("lone.example.net", now);
        lone.leaf.issuer = lone.leaf.subject.clone();
        let refused = server.post(BY_ID, json!({"certificatePem": lone.leaf()})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("its own key"), "{refused}");
        assert_eq!(everything(&server).await, before);

        let foreign = Foreign::new("a.example.net", now);
        let body = foreign.body();
        for missing in ["projectSlug", "certificatePem", "privateKeyPem", "chainPem"] {
            for value in [Value::Null, json!(""), json!(7)] {
                let mut body = body.clone();
                body[missing] = value;
                assert_eq!(server.post(BY_SLUG, body).await.issues(), [missing]);
            }
        }
        for (member, value, status) in [
            ("projectSlug", json!("nothing"), 404),
            ("pkiCollectionId", json!(UNKNOWN), 404),
            ("pkiCollectionId", json!("x"), 422),
            ("friendlyName", json!("x".repeat(256)), 422),
            ("certificatePem", json!("x".repeat(70_000)), 422),
            ("privateKeyPem", json!("x".repeat(20_000)), 422),
        ] {
            let mut body = body.clone();
            body[member] = value;
            assert_eq!(server.post(BY_SLUG, body).await.status, status, "{member}");
        }
        for (member, value) in [("projectId", json!(UNKNOWN)), ("profileId", json!(UNKNOWN))] {
            let mut body = body.clone();
            body[member] = value;
            server.post(BY_ID, body).await.refused(404, "NotFound");
        }
        assert_eq!(everything(&server).await, before);

        // A serial number that the project has, imported or issued here.
        server.post(BY_SLUG, body.clone()).await.ok();
        let after = everything(&server).await;
        let mut twin = Foreign::new("twin.example.net", now);
        twin.leaf.serial = foreign.leaf.serial.clone();
        let open = profile(&server, "open", json!({})).await;
        let issued = issue(&server, &open, json!({})).await.ok();
        let mut ours = Foreign::new("ours.example.net", now);
        ours.leaf.serial = crate::issuing::certificate(&issued).serial_content().to_vec();
        let with_issued = everything(&server).await;
        assert_eq!(with_issued.0.len(), after.0.len() + 2);
        for body in [body, twin.body(), ours.body()] {
            for path in [BY_SLUG, BY_ID] {
                let refused = server.post(path, body.clone()).await.refused(400, "BadRequest");
                assert!(text(&refused["message"]).ends_with("[duplicate-serial]"), "{refused}");
            }
        }
        assert_eq!(everything(&server).await, with_issued);
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn imports_of_two_projects_and_at_one_time_do_not_meet() {
    for_each_engine(|server| async move {
        let foreign = Foreign::new("a.example.net", server.start.seconds());
        let body = foreign.body();
        let (one, two) = (body.clone(), body.clone());
        let answers = tokio::join!(server.post(BY_SLUG, one), server.post(BY_SLUG, two));
        let mut statuses = [answers.0.status, answers.1.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400], "{} {}", answers.0.body, answers.1.body);
        // Another organisation does not learn that it is here: its project of that slug is another one.
        let other = server.other_organization().await;
        let theirs = other.post(BY_SLUG, body.clone()).await.ok();
        other.post(BY_SLUG, body.clone()).await.refused(400, "BadRequest");
        let serial = text(&theirs["serialNumber"]);
        let mut ids = BTreeSet::new();
        for who in [&server, &other] {
            let record = who.get(&format!("/api/v1/pki/certificates/{serial}")).await.ok()["certificate"].take();
            assert_eq!(record["projectId"], json!(who.project));
            ids.insert(text(&record["id"]));
        }
        assert_eq!(ids.len(), 2);
        let mut foreign_project = body.clone();
        foreign_project["projectId"] = json!(server.project);
        other.post(BY_ID, foreign_project).await.refused(404, "NotFound");
        assert_eq!(findings(&server).await, [] as [&str; 0]);

        // Who may import: a member, and nobody who may only look.
        let next = Foreign::new("b.example.net", server.start.seconds()).body();
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        let stranger = server.by(&server.identity("no-access", None).await);
        let member = server.by(&server.identity("no-access", Some("member")).await);
        for path in [BY_SLUG, BY_ID] {
            viewer.post(path, next.clone()).await.refused(403, "PermissionDenied");
            stranger.post(path, next.clone()).await.refused(403, "ProjectMembershipNotFound");
        }
        let rules = json!([{"subject": "certificates", "action": ["import"],
            "conditions": {"commonName": {"$glob": "*.example.org"}}}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "org", "name": "Org", "permissions": rules})).await.ok();
        let narrow = server.by(&server.identity("no-access", Some("org")).await);
        narrow.post(BY_SLUG, next.clone()).await.refused(403, "PermissionDenied");
        narrow.post(BY_SLUG, Foreign::new("c.example.org", server.start.seconds()).body()).await.ok();
        member.post(BY_SLUG, next).await.ok();
    });
}
