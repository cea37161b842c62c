//! Certificate authorities: making, finding, changing and deleting them (contract §3.1–3.4, 3.16, 4.1, 4.4).

use crate::server::{Server, for_each_engine, members, text};
use serde_json::{Value, json};
use x509::{Certificate, Crl, KeyUsage, KeyUsages, SignatureAlgorithm};

pub const FLAT: &str = "/api/v1/pki/ca";
pub const TYPED: &str = "/api/v1/cert-manager/ca/internal";
pub const NAMED: &str = "/api/v1/pki/ca/internal";
const PROFILES: &str = "/api/v1/cert-manager/certificate-profiles";
pub const UNKNOWN: &str = "0198c5a0-0000-7000-8000-000000000001";
pub const DAY: i64 = 86_400;

/// The body that makes an authority of the typed family.
pub fn typed_body(kind: &str, name: &str, algorithm: &str) -> Value {
    json!({"name": name, "configuration": {"type": kind, "commonName": name, "keyAlgorithm": algorithm}})
}

/// A new P-256 authority: its id.
pub async fn authority(server: &Server, kind: &str, name: &str) -> String {
    text(&server.post(TYPED, typed_body(kind, name, "EC_prime256v1")).await.ok()["id"])
}

/// A new intermediate, certified for a year by an authority of ours: its id.
pub async fn intermediate(server: &Server, name: &str, parent: &str, path_length: i64) -> String {
    let id = authority(server, "intermediate", name).await;
    let body = json!({"notBefore": server.time(0), "notAfter": server.time(365 * DAY), "parentCaId": parent,
        "maxPathLength": path_length});
    server.post(&format!("{TYPED}/{id}/certificate"), body).await.ok();
    id
}

/// The active certificate of an authority.
pub async fn certificate_of(server: &Server, id: &str) -> Certificate {
    let shown = server.get(&format!("{FLAT}/{id}/certificate")).await.ok();
    Certificate::from_pem(&text(&shown["certificate"])).unwrap()
}

/// The revocation list of an authority, after checking that it is signed by a certificate.
pub async fn list_of(server: &Server, id: &str) -> (String, Crl) {
    let lists = server.get(&format!("{FLAT}/{id}/crls")).await.ok();
    assert_eq!(lists.as_array().map(Vec::len), Some(1), "{lists}");
    assert_eq!(members(&lists[0]), ["crl", "id"]);
    (text(&lists[0]["id"]), Crl::from_pem(&text(&lists[0]["crl"])).unwrap())
}

/// The root of the server's first start, which has no path length.
pub async fn first_root(server: &Server) -> String {
    text(&server.get(&format!("{NAMED}/root-ca?projectId={}", server.project)).await.ok()["id"])
}

fn names(authorities: &Value) -> Vec<String> {
    authorities.as_array().unwrap().iter().map(|ca| text(&ca["name"])).collect()
}

fn flat_body(kind: &str) -> Value {
    json!({"projectSlug": "default", "type": kind, "commonName": "Root X1", "organization": "Acme, Inc", "ou": "",
        "country": "DE", "province": "", "locality": "Berlin", "keyAlgorithm": "EC_secp384r1"})
}

const FLAT_MEMBERS: [&str; 22] = [
    "activeCaCertId",
    "commonName",
    "country",
    "createdAt",
    "dn",
    "enableDirectIssuance",
    "friendlyName",
    "id",
    "keyAlgorithm",
    "locality",
    "maxPathLength",
    "name",
    "organization",
    "ou",
    "parentCaId",
    "projectId",
    "province",
    "requireTemplateForIssuance",
    "serialNumber",
    "status",
    "type",
    "updatedAt",
];

#[test]
fn a_root_signs_itself_at_once_and_is_the_same_in_every_family() {
    for_each_engine(|server| async move {
        let made = server.post(FLAT, flat_body("root")).await.ok();
        assert_eq!(members(&made), ["ca"]);
        let ca = &made["ca"];
        let mut expected = [&FLAT_MEMBERS[..], &["notAfter", "notBefore"]].concat();
        expected.sort_unstable();
        assert_eq!(members(ca), expected);
        for (member, value) in [
            ("projectId", json!(server.project)),
            ("status", json!("active")),
            ("type", json!("root")),
            ("friendlyName", json!("C=DE,O=Acme\\, Inc,CN=Root X1,L=Berlin")),
            ("dn", json!("C=DE,O=Acme\\, Inc,CN=Root X1,L=Berlin")),
            ("organization", json!("Acme, Inc")),
            ("ou", json!("")),
            ("maxPathLength", json!(-1)),
            ("keyAlgorithm", json!("EC_secp384r1")),
            ("notBefore", json!(server.time(0))),
            ("notAfter", json!(server.time(3652 * DAY))),
            ("parentCaId", Value::Null),
            ("enableDirectIssuance", json!(true)),
            ("requireTemplateForIssuance", json!(false)),
            ("createdAt", json!(server.time(0))),
            ("updatedAt", json!(server.time(0))),
        ] {
            assert_eq!(ca[member], value, "{member}");
        }
        let random = text(&ca["name"]).strip_prefix("c-de-o-acme-in-").map(str::len);
        assert_eq!(random, Some(8), "{}", ca["name"]);
        let id = text(&ca["id"]);
        assert_eq!(server.get(&format!("{FLAT}/{id}")).await.ok(), made);

        let certificate = certificate_of(&server, &id).await;
        check_root(&certificate, SignatureAlgorithm::EcdsaSha384);
        assert_eq!(domain::inventory::serial_hex(&certificate), text(&ca["serialNumber"]));
        let aia = format!("{FLAT}/{id}/certificates/{}/der", text(&ca["activeCaCertId"]));
        assert_eq!(server.fetch(&aia).await, (200, "application/pkix-cert".into(), certificate.as_der().to_vec()));

        let nested = server.get(&format!("{TYPED}/{id}")).await.ok();
        let named = server.get(&format!("{NAMED}/{}?projectId={}", text(&ca["name"]), server.project)).await.ok();
        assert_eq!(nested, named);
        for (name, value) in nested["configuration"].as_object().unwrap() {
            assert_eq!(value, &ca[name], "{name}");
        }
    });
}

fn check_root(certificate: &Certificate, algorithm: SignatureAlgorithm) {
    let extensions = certificate.extensions();
    assert_eq!(certificate.issuer(), certificate.subject());
    assert!(certificate.verify_signature(&certificate.public_key().unwrap()));
    assert_eq!(certificate.signature_algorithm(), Some(algorithm));
    assert_eq!(certificate.serial_content().len(), 20);
    assert!((0x01..0x80).contains(&certificate.serial_content()[0]), "its text has 40 digits");
    let usages = KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign]);
    assert_eq!(extensions.key_usages(), Ok(Some(usages)));
    let critical: Vec<bool> = extensions.iter().map(|extension| extension.critical).collect();
    assert_eq!(critical.iter().filter(|critical| **critical).count(), 2, "basicConstraints and keyUsage");
    assert!(extensions.basic_constraints().unwrap().unwrap().ca);
    assert!(extensions.subject_key_id().unwrap().is_some());
    assert_eq!(extensions.authority_information_access(), Ok(None));
    assert_eq!(extensions.crl_distribution_points(), Ok(None));
}

#[test]
fn nothing_but_a_name_and_a_kind_is_needed() {
    for_each_engine(|server| async move {
        let mut body = flat_body("root");
        body["friendlyName"] = json!("Ünser Wurzel-Aussteller");
        body.as_object_mut().unwrap().remove("keyAlgorithm");
        let ca = server.post(FLAT, body).await.ok()["ca"].take();
        assert_eq!((&ca["keyAlgorithm"], &ca["maxPathLength"]), (&json!("RSA_2048"), &json!(-1)));
        assert!(text(&ca["name"]).starts_with("nser-wurzel-aus-"), "{}", ca["name"]);
        assert_eq!(ca["friendlyName"], "Ünser Wurzel-Aussteller");
        check_root(&certificate_of(&server, &text(&ca["id"])).await, SignatureAlgorithm::RsaSha256);

        let mut body = flat_body("root");
        body["notBefore"] = json!("2020-02-03");
        body["notAfter"] = json!("2050-01-01T00:00:00+01:00");
        body["maxPathLength"] = json!(0);
        body["requireTemplateForIssuance"] = json!(true);
        let ca = server.post(FLAT, body.clone()).await.ok()["ca"].take();
        assert_eq!(
            (&ca["notBefore"], &ca["notAfter"]),
            (&json!("2020-02-03T00:00:00.000Z"), &json!("2049-12-31T23:00:00.000Z"))
        );
        assert_eq!((&ca["maxPathLength"], &ca["enableDirectIssuance"]), (&json!(0), &json!(false)));
        let certificate = certificate_of(&server, &text(&ca["id"])).await;
        assert_eq!(certificate.extensions().basic_constraints().unwrap().unwrap().path_length, Some(0));
        body["notAfter"] = json!("9999-12-31T23:59:59Z");
        assert_eq!(server.post(FLAT, body.clone()).await.ok()["ca"]["notAfter"], "9999-12-31T23:59:59.000Z");
        // The end is counted from now, not from a beginning in the past.
        body.as_object_mut().unwrap().remove("notAfter");
        assert_eq!(server.post(FLAT, body).await.ok()["ca"]["notAfter"], server.time(3652 * DAY));
    });
}

#[test]
fn an_intermediate_has_a_key_and_a_list_and_waits_for_its_certificate() {
    for_each_engine(|server| async move {
        let mut body = flat_body("intermediate");
        body["notAfter"] = json!("2001-01-01");
        let ca = server.post(FLAT, body).await.ok()["ca"].take();
        assert_eq!(members(&ca), FLAT_MEMBERS);
        assert_eq!(ca["status"], "pending-certificate");
        for member in ["serialNumber", "maxPathLength", "activeCaCertId", "parentCaId"] {
            assert_eq!(ca[member], Value::Null, "{member}");
        }
        let one = format!("{FLAT}/{}", text(&ca["id"]));
        server.get(&format!("{one}/certificate")).await.refused(400, "BadRequest");
        assert_eq!(server.get(&format!("{one}/ca-certificates")).await.ok(), json!([]));
        let later = server.time(DAY);
        server
            .post(&format!("{one}/renew"), json!({"type": "existing", "notAfter": later}))
            .await
            .refused(400, "BadRequest");

        let csr = server.get(&format!("{one}/csr")).await.ok();
        assert_eq!(members(&csr), ["csr"]);
        let csr = x509::CertificationRequest::from_pem(&text(&csr["csr"])).unwrap();
        assert!(csr.verify());
        assert_eq!(csr.subject().render(), text(&ca["dn"]));
        let usages = KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign, KeyUsage::DigitalSignature]);
        assert_eq!(csr.requested_extensions().unwrap().key_usages(), Ok(Some(usages)));
        let (_, list) = list_of(&server, &text(&ca["id"])).await;
        assert!(list.verify_signature(csr.public_key().unwrap()));
        assert_eq!((list.entries().count(), list.issuer()), (0, csr.subject()));

        // It can be switched on without a certificate; then it says what it lacks.
        let on = server.patch(&one, json!({"status": "active"})).await.ok();
        assert_eq!(on["ca"]["status"], "active");
        let sign = json!({"csr": csr_of(&server, &one).await, "notAfter": later});
        server.post(&format!("{one}/sign-intermediate"), sign).await.refused(400, "BadRequest");
    });
}

async fn csr_of(server: &Server, one: &str) -> Value {
    server.get(&format!("{one}/csr")).await.ok()["csr"].take()
}

#[test]
fn every_mistake_in_a_new_authority_is_named() {
    for_each_engine(|server| async move {
        let missing = json!({"type": "leaf", "keyAlgorithm": "RSA_1024", "maxPathLength": -2, "notAfter": "tomorrow",
            "commonName": "x", "organization": "", "ou": ""});
        assert_eq!(
            server.post(FLAT, missing).await.issues(),
            ["projectSlug", "type", "country", "province", "locality", "notAfter", "maxPathLength", "keyAlgorithm"]
        );
        let mut empty = flat_body("root");
        for part in ["commonName", "organization", "country", "locality"] {
            empty[part] = json!("  ");
        }
        assert_eq!(server.post(FLAT, empty).await.issues(), [""]);
        assert_eq!(
            server.post(NAMED, json!({"name": "A b", "configuration": {"type": "root"}})).await.issues(),
            ["name", "projectId", "enableDirectIssuance", "status", "configuration.keyAlgorithm"]
        );
        let nobody = json!({"name": "a", "configuration": {"type": "root", "keyAlgorithm": "RSA_2048"}});
        assert_eq!(server.post(TYPED, nobody).await.issues(), ["configuration"]);
        let mut elsewhere = flat_body("root");
        elsewhere["projectSlug"] = json!("nowhere");
        server.post(FLAT, elsewhere).await.refused(404, "NotFound");
        for (member, value) in [
            ("country", json!("DEU")),
            ("country", json!("D1")),
            ("commonName", json!("x".repeat(65))),
            ("commonName", json!("a\nb")),
            ("notAfter", json!("2001-01-01")),
            ("notBefore", json!("1949-12-31T23:59:59Z")),
            ("notBefore", json!("9000-01-01")),
        ] {
            let mut body = flat_body("root");
            body[member] = value;
            server.post(FLAT, body).await.refused(400, "BadRequest");
        }
    });
}

#[test]
fn the_typed_families_are_addressed_by_name_and_by_id() {
    for_each_engine(|server| async move {
        let project = server.project;
        let mut body = typed_body("root", "Csr", "Ed25519");
        body["projectId"] = json!(project);
        body["enableDirectIssuance"] = json!(false);
        body["status"] = json!("pending-certificate");
        body["configuration"]["dn"] = json!("ignored");
        body["configuration"]["maxPathLength"] = Value::Null;
        let mut made = server.post(NAMED, body).await.ok();
        let top = [
            "configuration",
            "createdAt",
            "enableDirectIssuance",
            "id",
            "name",
            "projectId",
            "status",
            "type",
            "updatedAt",
        ];
        assert_eq!(members(&made), top);
        assert_eq!(
            members(&made["configuration"]),
            [
                "activeCaCertId",
                "commonName",
                "country",
                "dn",
                "friendlyName",
                "keyAlgorithm",
                "locality",
                "maxPathLength",
                "notAfter",
                "notBefore",
                "organization",
                "ou",
                "province",
                "serialNumber",
                "type"
            ]
        );
        // What was sent is echoed; what is stored follows from the certificate.
        assert_eq!(
            (&made["status"], &made["type"], &made["name"]),
            (&json!("pending-certificate"), &json!("internal"), &json!("csr"))
        );
        assert_eq!((&made["enableDirectIssuance"], &made["configuration"]["dn"]), (&json!(false), &json!("CN=Csr")));
        made["status"] = json!("active");
        let (by_id, by_name) = (format!("{TYPED}/{}", text(&made["id"])), format!("{NAMED}/csr"));
        assert_eq!(server.get(&by_id).await.ok(), made);
        assert_eq!(server.get(&format!("{by_name}?projectId={project}")).await.ok(), made);
        assert_eq!(server.get(&by_name).await.issues(), ["projectId"]);
        assert_eq!(server.get(&format!("{TYPED}/csr")).await.issues(), ["caId"]);
        let taken = server.post(TYPED, typed_body("root", "csr", "EC_prime256v1")).await;
        assert!(text(&taken.refused(400, "BadRequest")["message"]).contains("csr"));

        server.at(1);
        let other = authority(&server, "intermediate", "other").await;
        for path in [format!("{TYPED}?projectId={project}"), TYPED.into(), format!("{NAMED}?projectId={project}")] {
            let listed = server.get(&path).await.ok();
            let listed_names = names(&listed);
            assert_eq!((listed_names.len(), listed_names[3].as_str()), (4, "other"), "{listed_names:?}");
            assert!(listed.as_array().unwrap().contains(&made), "{listed_names:?}");
            for all in ["/api/v1/cert-manager/ca", "/api/v2/pki/ca"] {
                let all = server.get(&format!("{all}?projectId={project}")).await.ok();
                assert_eq!(all, json!({"certificateAuthorities": listed}));
            }
        }
        for kind in ["acme", "azure-ad-cs"] {
            for base in ["/api/v1/pki/ca", "/api/v1/cert-manager/ca"] {
                assert_eq!(server.get(&format!("{base}/{kind}?projectId={project}")).await.ok(), json!([]));
                server.post(&format!("{base}/{kind}"), json!({"name": "x"})).await.refused(400, "BadRequest");
            }
        }

        server.at(5);
        let change = json!({"name": "renamed", "status": "disabled", "configuration": {"commonName": "Other"}});
        let changed = server.patch(&by_id, change).await.ok();
        assert_eq!((&changed["name"], &changed["status"]), (&json!("renamed"), &json!("disabled")));
        assert_eq!((&changed["updatedAt"], &changed["createdAt"]), (&json!(server.time(5)), &json!(server.time(0))));
        assert_eq!(
            changed["configuration"], made["configuration"],
            "the configuration of an internal one does not change"
        );
        server.patch(&format!("{TYPED}/{other}"), json!({"name": "renamed"})).await.refused(400, "BadRequest");
        server.patch(&by_name, json!({"projectId": project})).await.refused(404, "NotFound");
        let by_name = format!("{NAMED}/renamed");
        assert_eq!(server.patch(&by_name, json!({"name": "a"})).await.issues(), ["projectId"]);
        let change = json!({"projectId": project, "enableDirectIssuance": true, "status": "active"});
        let changed = server.patch(&by_name, change).await.ok();
        assert_eq!((&changed["enableDirectIssuance"], &changed["status"]), (&json!(true), &json!("active")));

        assert_eq!(server.delete(&by_name).await.issues(), ["projectId"]);
        assert_eq!(server.delete_with(&by_name, json!({"projectId": project})).await.ok(), changed);
        server.get(&by_id).await.refused(404, "NotFound");
        server.delete(&by_id).await.refused(404, "NotFound");
        assert_eq!(text(&server.delete(&format!("{TYPED}/{other}")).await.ok()["id"]), other);
    });
}

#[test]
fn a_project_lists_its_authorities_by_what_they_are() {
    for_each_engine(|server| async move {
        let list = |query: &'static str| {
            let server = server.clone();
            async move {
                let listed = server.get(&format!("/api/v2/workspace/default/cas?{query}")).await.ok();
                assert_eq!(members(&listed), ["cas"]);
                names(&listed["cas"])
            }
        };
        server.at(1);
        authority(&server, "intermediate", "waiting").await;
        server.at(2);
        authority(&server, "root", "youngest").await;
        assert_eq!(list("").await[2..], ["waiting", "youngest"]);
        assert_eq!(list("status=active").await[2..], ["youngest"]);
        assert_eq!(list("offset=2&limit=1").await, ["waiting"]);
        assert_eq!(list("status=active&offset=1").await.len(), 2);
        assert_eq!(list("status=pending-certificate").await, ["waiting"]);
        assert_eq!(list("commonName=waiting&friendlyName=CN%3Dwaiting").await, ["waiting"]);
        assert_eq!(list("commonName=waitin").await, [] as [&str; 0]);
        let bad = server.get("/api/v2/workspace/default/cas?status=x&offset=101&limit=0").await;
        assert_eq!(bad.issues(), ["status", "offset", "limit"]);
        server.get("/api/v2/workspace/nowhere/cas").await.refused(404, "NotFound");
        let whole = server.get("/api/v2/workspace/default/cas").await.ok()["cas"][0].take();
        assert_eq!(server.get(&format!("{FLAT}/{}", text(&whole["id"]))).await.ok()["ca"], whole);
    });
}

#[test]
fn the_v1_family_changes_the_status_and_the_need_of_a_template() {
    for_each_engine(|server| async move {
        let id = authority(&server, "root", "one").await;
        let one = format!("{FLAT}/{id}");
        let changed = server.patch(&one, json!({"requireTemplateForIssuance": true})).await.ok()["ca"].take();
        assert_eq!(
            (&changed["requireTemplateForIssuance"], &changed["enableDirectIssuance"]),
            (&json!(true), &json!(false))
        );
        let off = server.patch(&one, json!({"status": "disabled", "name": "dropped"})).await.ok()["ca"].take();
        assert_eq!((&off["status"], &off["name"]), (&json!("disabled"), &json!("one")));
        assert_eq!(server.patch(&one, json!({"status": "pending-certificate"})).await.issues(), ["status"]);

        // Switched off it signs nothing, and goes on signing its list.
        let csr = csr_of(&server, &format!("{FLAT}/{}", authority(&server, "intermediate", "two").await)).await;
        let sign = json!({"csr": csr, "notAfter": server.time(DAY)});
        let refused = server.post(&format!("{one}/sign-intermediate"), sign.clone()).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("disabled"), "{refused}");
        let renew = json!({"type": "existing", "notAfter": "2090-01-01"});
        server.post(&format!("{one}/renew"), renew).await.refused(400, "BadRequest");
        server.at(8 * DAY);
        let (_, list) = list_of(&server, &id).await;
        assert_eq!(list.this_update(), server.start.seconds() + 8 * DAY);
        server.patch(&one, json!({"status": "active"})).await.ok();
        let sign = json!({"csr": csr, "notAfter": server.time(9 * DAY)});
        server.post(&format!("{one}/sign-intermediate"), sign).await.ok();
    });
}

#[test]
fn an_authority_in_use_stays_and_a_deleted_one_is_still_looked_after() {
    for_each_engine(|server| async move {
        let root = authority(&server, "root", "top").await;
        let below = intermediate(&server, "below", &root, 0).await;
        let policy = "/api/v1/cert-manager/certificate-policies";
        let policy = text(&server.post(policy, json!({"name": "any"})).await.ok()["certificatePolicy"]["id"]);
        let profile = json!({"slug": "uses", "issuerType": "ca", "caId": below, "certificatePolicyId": policy,
            "enrollmentType": "api", "apiConfig": {}});
        let profile = text(&server.post(PROFILES, profile).await.ok()["certificateProfile"]["id"]);
        for (id, why) in [(&root, "1 authorities"), (&below, "1 profiles")] {
            let refused = server.delete(&format!("{FLAT}/{id}")).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains(why), "{refused}");
        }
        let shown = server.get(&format!("{FLAT}/{below}")).await.ok();
        let certificate = certificate_of(&server, &below).await;
        let aia = format!("{FLAT}/{below}/certificates/{}/der", text(&shown["ca"]["activeCaCertId"]));
        let (list, first) = list_of(&server, &below).await;
        server.delete(&format!("{PROFILES}/{profile}")).await.ok();
        assert_eq!(server.delete(&format!("{FLAT}/{below}")).await.ok(), shown, "the last state");

        for path in ["", "/certificate", "/ca-certificates", "/csr", "/crls"] {
            server.get(&format!("{FLAT}/{below}{path}")).await.refused(404, "NotFound");
        }
        assert_eq!(server.fetch(&aia).await, (200, "application/pkix-cert".into(), certificate.as_der().to_vec()));
        assert_eq!(server.fetch(&format!("/api/v1/pki/crl/{list}/der")).await.2, first.as_der());
        server.at(8 * DAY);
        let (status, _, der) = server.fetch(&format!("/api/v1/pki/crl/{list}/der")).await;
        let next = Crl::from_der(der).unwrap();
        assert_eq!((status, next.this_update()), (200, server.start.seconds() + 8 * DAY));
        assert!(next.verify_signature(&certificate.public_key().unwrap()));

        // It is nobody's child and its name is free.
        intermediate(&server, "below", &first_root(&server).await, 0).await;
        server.delete(&format!("{FLAT}/{root}")).await.ok();
        // When all that it signed has expired, nobody asks for its list any more.
        server.at(400 * DAY);
        let due = server.services.lists_due().await.unwrap();
        assert!(!due.contains(&domain::CrlId::parse(&list).unwrap()), "{due:?}");
    });
}
