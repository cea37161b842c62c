//! What an authority can be made with beyond the published API: name constraints, policies, extended key usages, and an
//! address of its own; and where the addresses in certificates come from.

use crate::authorities::{DAY, FLAT, TYPED, authority, certificate_of, first_root};
use crate::chains::{issue, profile};
use crate::server::{Server, for_each_engine, text};
use domain::authority::{AuthorityConfiguration, AuthorityKind};
use domain::caller::Caller;
use domain::role::BuiltInRole;
use serde_json::{Value, json};
use services::authorities::NewAuthority;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use x509::extension::{AccessMethod, Subtree};
use x509::{Certificate, ExtendedKeyUsage, KeyAlgorithm, oid};

fn body(kind: &str, name: &str, extra: Value) -> Value {
    let mut body = json!({"name": name, "configuration": {"type": kind, "commonName": name, "organization": "Acme",
        "country": "DE", "keyAlgorithm": "EC_prime256v1"}});
    for (member, value) in extra.as_object().unwrap() {
        body["configuration"][member] = value.clone();
    }
    body
}

fn constraints() -> Value {
    json!({"nameConstraints": {
        "permitted": [
            {"type": "dns_name", "value": "example.com"}, {"type": "ip_address", "value": "10.0.0.0/8"},
            {"type": "email", "value": "example.com"}, {"type": "uri", "value": ".example.com"},
            {"type": "directory_name", "value": "C=DE, O=Acme"},
        ],
        "excluded": [{"type": "dns_name", "value": "secret.example.com"}, {"type": "ip_address", "value": "2001:db8::/32"}],
    }, "policyOids": ["1.3.6.1.4.1.55555.1.1", "2.5.29.32.0"], "extendedKeyUsages": ["server_auth", "client_auth"]})
}

/// The certificate says what was configured, name constraints and basic constraints critical.
fn check(certificate: &Certificate) {
    let extensions = certificate.extensions();
    let found = extensions.name_constraints().unwrap().unwrap();
    assert_eq!((found.permitted.len(), found.excluded.len()), (5, 2));
    assert_eq!(found.permitted[0], Subtree::dns("example.com").unwrap());
    assert_eq!(found.permitted[1], Subtree::Ip("10.0.0.0/8".parse().unwrap()));
    assert_eq!(found.excluded[1], Subtree::Ip("2001:db8::/32".parse().unwrap()));
    assert!(extensions.find(oid::NAME_CONSTRAINTS).unwrap().critical);
    assert!(!extensions.find(oid::EXTENDED_KEY_USAGE).unwrap().critical);
    let usages = vec![ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth];
    assert_eq!(extensions.extended_key_usages(), Ok(Some(usages)));
    assert!(extensions.certificate_policies().unwrap().is_some());
}

#[test]
fn constraints_policies_and_usages_stand_in_the_certificate_and_hold_below_it() {
    for_each_engine(|server| async move {
        let root = server.post(TYPED, body("root", "top", constraints())).await.ok();
        let id = text(&root["id"]);
        for (member, value) in constraints().as_object().unwrap() {
            assert_eq!(&root["configuration"][member], value, "{member}");
            assert_eq!(&server.get(&format!("{TYPED}/{id}")).await.ok()["configuration"][member], value);
        }
        check(&certificate_of(&server, &id).await);
        let below = text(&server.post(TYPED, body("intermediate", "below", constraints())).await.ok()["id"]);
        let certify = json!({"notBefore": server.time(0), "notAfter": server.time(90 * DAY), "parentCaId": id, "maxPathLength": 0});
        server.post(&format!("{TYPED}/{below}/certificate"), certify.clone()).await.ok();
        check(&certificate_of(&server, &below).await);
        let renew = json!({"type": "existing", "notAfter": server.time(100 * DAY)});
        server.post(&format!("{FLAT}/{below}/renew"), renew).await.ok();
        check(&certificate_of(&server, &below).await);

        // The subject is a name too: one outside of C=DE, O=Acme is not certified, in either way.
        let stranger = authority(&server, "intermediate", "stranger").await;
        let refused = server.post(&format!("{TYPED}/{stranger}/certificate"), certify).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("name constraints of top"), "{refused}");
        let sign = json!({"csr": server.get(&format!("{FLAT}/{stranger}/csr")).await.ok()["csr"], "notAfter": server.time(DAY)});
        server.post(&format!("{FLAT}/{id}/sign-intermediate"), sign).await.refused(400, "BadRequest");
        assert_eq!(server.get(&format!("{FLAT}/{stranger}/ca-certificates")).await.ok(), json!([]));

        let hosts = text(
            &server
                .post(
                    TYPED,
                    body(
                        "root",
                        "hosts",
                        json!({"nameConstraints": {
            "permitted": [{"type": "dns_name", "value": "Example.COM"}],
            "excluded": [{"type": "dns_name", "value": "secret.example.com"}]}}),
                    ),
                )
                .await
                .ok()["id"],
        );
        let profile = profile(&server, &hosts, "hosts", "EC_prime256v1", "ECDSA-SHA256").await;
        for (name, status) in [
            ("www.example.com", 200),
            ("example.com", 200),
            ("example.org", 400),
            ("notexample.com", 400),
            ("secret.example.com", 400),
            ("a.secret.example.com", 400),
            ("*.example.com", 400),
        ] {
            let answer = issue(&server, &profile, name, "EC_prime256v1", "ECDSA-SHA256").await;
            assert_eq!(answer.status, status, "{name}: {}", answer.body);
        }
    });
}

#[test]
fn what_a_certificate_cannot_say_is_refused() {
    for_each_engine(|server| async move {
        let permitted =
            |kind: &str, value: &str| json!({"nameConstraints": {"permitted": [{"type": kind, "value": value}]}});
        for extra in [
            permitted("dns_name", "*.example.com"),
            permitted("dns_name", "a b"),
            permitted("ip_address", "10.0.0.0"),
            permitted("ip_address", "10.0.0.0/33"),
            permitted("email", "a@b@c"),
            permitted("uri", "http://example.com/"),
            permitted("directory_name", "Acme"),
            permitted("directory_name", "X=1"),
            permitted("directory_name", "C=Germany"),
            json!({"policyOids": ["1.a.2"]}),
            json!({"policyOids": ["9.1.1"]}),
            json!({"policyOids": ["1.3.6.1.4.1.5", "2.5.29.32.0", "1.3.6.1.4.1.5"]}),
            json!({"extendedKeyUsages": ["server_auth", "client_auth", "server_auth"]}),
            json!({"publicationUrl": "https://pki.example.com"}),
            json!({"publicationUrl": "http://pki.example.com/?a=b"}),
            json!({"publicationUrl": "http://user@pki.example.com"}),
            json!({"publicationUrl": "http://pki.example.com/#x"}),
            json!({"publicationUrl": "pki.example.com"}),
        ] {
            // An intermediate says it in a certificate that is only made later, so it is refused as early.
            for kind in ["root", "intermediate"] {
                let refused = server.post(TYPED, body(kind, "x", extra.clone())).await;
                assert_eq!(refused.status, 400, "{kind} {extra}: {}", refused.body);
            }
            let refused = server.post(TYPED, body("root", "x", extra.clone())).await;
            let member = extra.as_object().unwrap().keys().next().unwrap().clone();
            assert!(text(&refused.body["message"]).contains(&member), "{extra}: {}", refused.body);
        }
        for (extra, path) in [
            (permitted("dns", "x"), "configuration.nameConstraints.permitted.0.type"),
            (
                json!({"nameConstraints": {"excluded": [{"type": "uri"}]}}),
                "configuration.nameConstraints.excluded.0.value",
            ),
            (json!({"extendedKeyUsages": ["any"]}), "configuration.extendedKeyUsages.0"),
            (json!({"policyOids": "1.2.3"}), "configuration.policyOids"),
        ] {
            assert_eq!(server.post(TYPED, body("root", "x", extra)).await.issues(), [path]);
        }
    });
}

fn urls(certificate: &Certificate) -> [Vec<String>; 2] {
    let extensions = certificate.extensions();
    let lists = extensions.crl_distribution_points().unwrap().unwrap();
    let access = extensions.authority_information_access().unwrap().unwrap();
    [
        lists.urls().map(ToString::to_string).collect(),
        access.urls(AccessMethod::CaIssuers).map(ToString::to_string).collect(),
    ]
}

#[test]
fn addresses_in_certificates_come_from_the_configuration_alone() {
    for_each_engine(|server| async move {
        let own = json!({"publicationUrl": "http://pki.example.com/lists/"});
        let own = text(&server.post(TYPED, body("root", "own", own)).await.ok()["id"]);
        let csr =
            server.get(&format!("{FLAT}/{}/csr", authority(&server, "intermediate", "asks").await)).await.ok()["csr"]
                .take();
        for (id, base) in [(own, "http://pki.example.com/lists"), (first_root(&server).await, server.url.as_str())] {
            let sign = json!({"csr": csr, "notAfter": server.time(DAY)});
            let url = format!("{}{FLAT}/{id}/sign-intermediate", server.url);
            let request = reqwest::Client::new().post(url).bearer_auth(&server.caller.token).json(&sign);
            let forged = request.header("host", "evil.example").header("x-forwarded-host", "evil.example");
            let signed: Value = serde_json::from_slice(&forged.send().await.unwrap().bytes().await.unwrap()).unwrap();
            let certificate = Certificate::from_pem(&text(&signed["certificate"])).unwrap();
            let list = server.get(&format!("{FLAT}/{id}/crls")).await.ok()[0]["id"].take();
            let active = server.get(&format!("{FLAT}/{id}")).await.ok()["ca"]["activeCaCertId"].take();
            let expected = [
                vec![format!("{base}/api/v1/pki/crl/{}/der", text(&list))],
                vec![format!("{base}/api/v1/pki/ca/{id}/certificates/{}/der", text(&active))],
            ];
            assert_eq!(urls(&certificate), expected);
        }
    });
}

/// What is logged, kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The warnings while an authority is made, on this thread.
async fn warnings(server: &Server, name: &str, publication_url: Option<&str>) -> String {
    let rules = HashMap::from([(server.project, Arc::from(BuiltInRole::Admin.rules()))]);
    let admin = Caller { projects: Arc::new(rules), ..Caller::node(server.organization) };
    let new = NewAuthority {
        name: Some(name.into()),
        kind: AuthorityKind::Root,
        configuration: AuthorityConfiguration {
            common_name: name.into(),
            publication_url: publication_url.map(Into::into),
            ..AuthorityConfiguration::default()
        },
        key_algorithm: KeyAlgorithm::EcP256,
        path_length_max: None,
        not_before: None,
        not_after: None,
        enable_direct_issuance: true,
    };
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    server.services.create_authority(&admin, server.project, new).await.unwrap();
    drop(guard);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
}

#[test]
fn an_address_that_only_this_machine_reaches_is_warned_of_when_an_authority_is_made() {
    for_each_engine(|server| async move {
        for (name, url, is_warned_of) in [
            ("default", None, true),
            ("local", Some("http://localhost:8080"), true),
            ("loopback", Some("http://[::1]:80/x"), true),
            ("public", Some("http://pki.example.com/localhost"), false),
            ("prefixed", Some("http://localhost.example.com"), false),
        ] {
            let said = warnings(&server, name, url).await;
            assert_eq!(said.contains("loopback") && said.contains(name), is_warned_of, "{name}: {said}");
        }
    });
}
