//! Records of certificates, one and in lists (contract §5.3, 6.7, 6.10), and who sees what of them.

use crate::authorities::{UNKNOWN, first_root};
use crate::csr::Draft;
use crate::issuing::{
    POLICIES, PROFILES, REQUEST, SIGN, certificate, issue, merge, open_policy, policy, profile, profile_with, wanted,
};
use crate::server::{Server, for_each_engine, members, text};
use serde_json::{Value, json};
use testkit::chains::TestKey;

const BY_SERIAL: &str = "/api/v1/pki/certificates";

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>().join(":")
}

#[test]
fn a_record_is_one_object_under_its_serial_number_and_its_id() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let asked = json!({"keyUsages": ["digital_signature", "crl_sign"], "extendedKeyUsages": ["server_auth"],
            "altNames": [{"type": "dns_name", "value": "www.example.com"}, {"type": "ip_address", "value": "192.0.2.7"}]});
        let mut asked = asked;
        merge(&mut asked, json!({"keyUsages": ["digital_signature", "key_agreement"]}));
        let answer = issue(&server, &open, asked).await.ok();
        let issued = certificate(&answer);
        let (id, serial) = (text(&answer["certificateId"]), text(&answer["serialNumber"]));
        let by_serial = server.get(&format!("{BY_SERIAL}/{serial}")).await.ok()["certificate"].take();
        let expected = json!({
            "id": id, "createdAt": server.time(0), "updatedAt": server.time(0), "caId": server.issuing_ca,
            "caCertId": by_serial["caCertId"], "status": "active", "serialNumber": serial,
            "friendlyName": "www.example.com", "commonName": "www.example.com",
            "altNames": "www.example.com, 192.0.2.7", "notBefore": server.time(0), "notAfter": server.time(86_400),
            "revokedAt": null, "revocationReason": null, "certificateTemplateId": null,
            "keyUsages": ["digitalSignature", "keyAgreement"], "extendedKeyUsages": ["serverAuth"],
            "projectId": server.project, "pkiSubscriberId": null, "profileId": open, "renewBeforeDays": null,
            "renewedFromCertificateId": null, "renewedByCertificateId": null, "renewalError": null,
            "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256", "subjectOrganization": null,
            "subjectOrganizationalUnit": null, "subjectCountry": null, "subjectState": null, "subjectLocality": null,
            "fingerprintSha256": hex(&issued.sha256()), "fingerprintSha1": hex(&issued.sha1()), "isCA": false,
            "pathLength": null, "hasPrivateKey": true, "source": "issued",
        });
        assert_eq!(by_serial, expected);
        assert!(by_serial["caCertId"].is_string());
        assert_eq!(server.get(&format!("{BY_SERIAL}/{}", serial.to_uppercase())).await.ok()["certificate"], expected);

        let by_id = server.get(&format!("{REQUEST}/{id}")).await.ok()["certificate"].take();
        for (member, value) in expected.as_object().unwrap() {
            assert_eq!(&by_id[member], value, "{member}");
        }
        let subject = json!({"commonName": "www.example.com", "organization": null, "organizationalUnit": null,
            "country": null, "state": null, "locality": null});
        for (member, value) in [
            ("subject", subject),
            ("fingerprints", json!({"sha256": expected["fingerprintSha256"], "sha1": expected["fingerprintSha1"]})),
            ("basicConstraints", json!({"isCA": false})),
            ("certificateChain", answer["certificateChain"].clone()),
            ("caName", json!("issuing-ca")),
            ("caType", json!("internal")),
            ("profileName", json!("open")),
        ] {
            assert_eq!(by_id[member], value, "{member}");
        }

        for base in [format!("{BY_SERIAL}/{serial}"), format!("{REQUEST}/{id}")] {
            let body = server.get(&format!("{base}/certificate")).await.ok();
            assert_eq!(members(&body), ["certificate", "certificateChain", "serialNumber"]);
            let bundle = server.get(&format!("{base}/bundle")).await;
            assert_eq!(bundle.headers["cache-control"], "no-store");
            let bundle = bundle.ok();
            assert_eq!(members(&bundle), ["certificate", "certificateChain", "privateKey", "serialNumber"]);
            for member in ["certificate", "certificateChain", "serialNumber"] {
                assert_eq!((&body[member], &bundle[member]), (&answer[member], &answer[member]), "{member}");
            }
            assert_eq!(bundle["privateKey"], answer["privateKey"]);
            let key = server.get(&format!("{base}/private-key")).await;
            assert_eq!(key.headers["cache-control"], "no-store");
            assert_eq!(key.headers["content-type"], "text/plain; charset=utf-8");
            assert_eq!(key.raw, text(&answer["privateKey"]));
        }
    });
}

#[test]
fn what_is_not_there_is_404() {
    for_each_engine(|server| async move {
        let unknown_serial = "5a".repeat(20);
        for name in [unknown_serial.as_str(), "xyz", "1", &"5a".repeat(200)] {
            for below in ["", "/certificate", "/bundle", "/private-key"] {
                server.get(&format!("{BY_SERIAL}/{name}{below}")).await.refused(404, "NotFound");
            }
            server.delete(&format!("{BY_SERIAL}/{name}")).await.refused(404, "NotFound");
        }
        for name in [UNKNOWN, "xyz"] {
            for below in ["", "/certificate", "/bundle", "/private-key"] {
                server.get(&format!("{REQUEST}/{name}{below}")).await.refused(404, "NotFound");
            }
            server.delete(&format!("{REQUEST}/{name}")).await.refused(404, "NotFound");
        }
    });
}

#[test]
fn a_deleted_certificate_leaves_no_record_and_no_key() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for by_serial in [true, false] {
            let answer = issue(&server, &open, json!({})).await.ok();
            let (id, serial) = (text(&answer["certificateId"]), text(&answer["serialNumber"]));
            let path = if by_serial { format!("{BY_SERIAL}/{serial}") } else { format!("{REQUEST}/{id}") };
            let deleted = server.delete(&path).await.ok();
            assert_eq!(deleted["certificate"]["id"], answer["certificateId"]);
            for path in [format!("{BY_SERIAL}/{serial}"), format!("{REQUEST}/{id}/private-key")] {
                server.get(&path).await.refused(404, "NotFound");
            }
            server.delete(&path).await.refused(404, "NotFound");
            let audited = services::fsck::audit_records(&server.services.db, 1).await.unwrap().remove(0);
            assert_eq!((audited.event.as_str(), audited.object_id), ("certificate-deleted", Some(id)));
        }
        let keys = server.services.db.row("SELECT COUNT(*) FROM leaf_keys", vec![]).await.unwrap().unwrap();
        assert_eq!(keys.int(0).unwrap(), 0);
    });
}

#[test]
fn whoever_may_not_read_a_key_never_gets_one() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let answer = issue(&server, &open, json!({})).await.ok();
        let (id, serial) = (text(&answer["certificateId"]), text(&answer["serialNumber"]));
        let (by_serial, by_id) = (format!("{BY_SERIAL}/{serial}"), format!("{REQUEST}/{id}"));
        let paths = [
            by_serial.clone(),
            format!("{by_serial}/certificate"),
            format!("{by_serial}/bundle"),
            format!("{by_serial}/private-key"),
            by_id.clone(),
            format!("{by_id}/certificate"),
            format!("{by_id}/bundle"),
            format!("{by_id}/private-key"),
            format!("{REQUEST}/certificate-requests/{id}"),
            format!("{REQUEST}/certificate-requests?projectSlug=default"),
            format!("{PROFILES}/{open}/certificates"),
            format!("{PROFILES}/{open}/certificates/latest-active-bundle"),
            "/api/v2/workspace/default/certificates".into(),
            format!("/api/v1/projects/{}/certificates", server.project),
        ];
        let search = format!("/api/v1/projects/{}/certificates/search", server.project);
        for role in ["viewer", "member"] {
            let reader = server.by(&server.identity("no-access", Some(role)).await);
            for path in &paths {
                let shown = reader.get(path).await;
                assert!(!shown.raw.contains("PRIVATE KEY"), "{role} {path}");
                let expected = match path.ends_with("/bundle") || path.contains("private-key") {
                    true => 403,
                    // A viewer may not read profiles; a member may not read keys.
                    false if path.contains("latest") || (role == "viewer" && path.starts_with(PROFILES)) => 403,
                    false => 200,
                };
                assert_eq!(shown.status, expected, "{role} {path}: {}", shown.body);
            }
            assert_eq!(reader.post(&search, json!({})).await.ok()["totalCount"], 1);
        }
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        viewer.delete(&by_id).await.refused(403, "PermissionDenied");
        viewer.delete(&by_serial).await.refused(403, "PermissionDenied");

        // In the same organisation without membership, and from another organisation.
        let stranger = server.by(&server.identity("no-access", None).await);
        let other = server.other_organization().await;
        for path in &paths {
            let shown = stranger.get(path).await;
            assert_eq!(
                (shown.status, shown.body["error"].as_str()),
                (403, Some("ProjectMembershipNotFound")),
                "{path}"
            );
            let shown = other.get(path).await;
            // The other organisation has a project of that slug too, an empty one.
            let expected = if path.contains("default") { 200 } else { 404 };
            assert_eq!(shown.status, expected, "{path}: {}", shown.body);
            assert!(!shown.raw.contains("example.com") && !shown.raw.contains(&serial), "{path}: {}", shown.raw);
        }
        other.delete(&by_id).await.refused(404, "NotFound");
        other.delete(&by_serial).await.refused(404, "NotFound");
        other.post(&search, json!({})).await.refused(404, "NotFound");
        stranger.post(&search, json!({})).await.refused(403, "ProjectMembershipNotFound");
        assert_eq!(server.get(&by_id).await.status, 200);
        let keys_read = services::fsck::audit_records(&server.services.db, 200).await.unwrap();
        assert!(!keys_read.iter().any(|record| record.event == "private-key-read"));
        server.get(&format!("{by_id}/private-key")).await;
        let audited = services::fsck::audit_records(&server.services.db, 1).await.unwrap().remove(0);
        assert_eq!((audited.event.as_str(), audited.object_id), ("private-key-read", Some(id)));
    });
}

#[test]
fn rules_about_names_narrow_what_is_seen() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let mut ids = Vec::new();
        for name in ["a.example.com", "b.example.org", "c.example.com"] {
            ids.push(text(&issue(&server, &open, json!({"commonName": name})).await.ok()["certificateId"]));
        }
        let rules = json!([{"subject": "certificates", "action": ["read", "read-private-key"],
            "conditions": {"altNames": {"$glob": "*.example.com"}}}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "com", "name": "Com", "permissions": rules})).await.ok();
        let narrow = server.by(&server.identity("no-access", Some("com")).await);
        for path in [
            format!("/api/v1/projects/{}/certificates", server.project),
            format!("{REQUEST}/certificate-requests?projectSlug=default"),
        ] {
            let listed = narrow.get(&path).await;
            assert!(!listed.raw.contains("example.org"), "{}", listed.raw);
            let list = listed.body.get("certificates").or(listed.body.get("certificateRequests")).unwrap();
            assert_eq!(list.as_array().map(Vec::len), Some(2), "{}", listed.body);
        }
        for (id, status) in ids.iter().zip([200, 403, 200]) {
            for below in ["", "/bundle", "/private-key"] {
                assert_eq!(narrow.get(&format!("{REQUEST}/{id}{below}")).await.status, status);
            }
        }
    });
}

/// Certificates of three profiles, two authorities, several keys and usages, one a second: their ids.
async fn inventory(server: &Server) -> (Vec<String>, [String; 3]) {
    let policy = policy(server, open_policy("inventory")).await;
    let root = first_root(server).await;
    let at_issuing = profile_with(server, "at-issuing", Some(&server.issuing_ca), &policy, json!({})).await;
    let at_root = profile_with(server, "at-root", Some(&root), &policy, json!({})).await;
    let alone = profile_with(server, "alone", None, &policy, json!({})).await;
    let key = TestKey::generate();
    let mut ids = Vec::new();
    let p384 = json!({"commonName": "100%_b.example", "ttl": "3d", "keyAlgorithm": "EC_secp384r1",
        "signatureAlgorithm": "ECDSA-SHA384", "extendedKeyUsages": ["client_auth"]});
    let other = json!({"commonName": "delta", "ttl": "1h", "extendedKeyUsages": ["client_auth", "server_auth"]});
    for (second, profile, changes) in [
        (1, &at_issuing, json!({"commonName": "alpha.example.com", "ttl": "1d", "extendedKeyUsages": ["server_auth"]})),
        (2, &at_issuing, p384),
        (3, &at_root, json!({"commonName": "Charlie", "ttl": "2d", "keyAlgorithm": "Ed25519"})),
        (4, &alone, other),
    ] {
        server.at(second);
        let mut attributes = wanted(profile, changes);
        merge(&mut attributes, json!({"profileId": null}));
        let body = json!({"profileId": profile, "attributes": attributes,
            "metadata": [{"key": "n", "value": second.to_string()}, {"key": "team", "value": "a%b\"c"}]});
        ids.push(text(&server.post(REQUEST, body).await.ok()["certificateRequestId"]));
    }
    server.at(5);
    let csr = Draft::named(&key, "echo.example.com").pem(&key);
    let body = json!({"profileId": at_issuing, "csr": csr, "ttl": "1d"});
    ids.push(text(&server.post(SIGN, body).await.ok()["certificateId"]));
    (ids, [at_issuing, at_root, alone])
}

/// Which of the certificates, by their place, are in a list, and how many match.
fn found(listed: &Value, ids: &[String]) -> (Vec<usize>, i64) {
    let list = listed["certificates"].as_array().unwrap().iter();
    let place = |record: &Value| ids.iter().position(|id| record["id"] == json!(id)).unwrap();
    (list.map(place).collect(), listed["totalCount"].as_i64().unwrap())
}

#[test]
fn a_list_is_narrowed_paged_and_sorted() {
    for_each_engine(|server| async move {
        let (ids, [at_issuing, at_root, alone]) = inventory(&server).await;
        let search = format!("/api/v1/projects/{}/certificates/search", server.project);
        let root = first_root(&server).await;
        let serial = text(&server.get(&format!("{REQUEST}/{}", ids[1])).await.ok()["certificate"]["serialNumber"]);
        // An hour later the fourth has run out.
        server.at(3700);
        let all = vec![4, 3, 2, 1, 0];
        for (asked, expected, total) in [
            (json!({}), all.clone(), 5),
            (json!({"limit": 2}), vec![4, 3], 5),
            (json!({"limit": 2, "offset": 3}), vec![1, 0], 5),
            (json!({"offset": 5}), vec![], 5),
            (json!({"sortOrder": "asc"}), vec![0, 1, 2, 3, 4], 5),
            (json!({"sortBy": "createdAt", "sortOrder": "asc", "limit": 1, "offset": 1}), vec![1], 5),
            (json!({"sortBy": "notAfter"}), vec![1, 2, 4, 0, 3], 5),
            (json!({"sortBy": "notAfter", "sortOrder": "asc"}), vec![3, 0, 4, 2, 1], 5),
            (json!({"sortBy": "notBefore", "sortOrder": "asc", "limit": 2}), vec![0, 1], 5),
            (json!({"sortBy": "notBefore"}), all.clone(), 5),
            (json!({"commonName": "EXAMPLE.com"}), vec![4, 0], 2),
            (json!({"commonName": "%_"}), vec![], 0),
            (json!({"commonName": "100%_"}), vec![1], 1),
            (json!({"commonName": "1%b"}), vec![], 0),
            (json!({"friendlyName": "charlie"}), vec![2], 1),
            (json!({"friendlyName": "a", "commonName": "alpha"}), vec![0], 1),
            (json!({"search": "ECHO"}), vec![4], 1),
            (json!({"search": serial}), vec![1], 1),
            (json!({"search": serial.to_uppercase()[..9]}), vec![1], 1),
            (json!({"search": "'\";--$$"}), vec![], 0),
            (json!({"status": "active"}), vec![4, 2, 1, 0], 4),
            (json!({"status": "expired"}), vec![3], 1),
            (json!({"status": "revoked"}), vec![], 0),
            (json!({"profileIds": [at_issuing]}), vec![4, 1, 0], 3),
            (json!({"profileIds": [at_issuing], "limit": 1, "offset": 1}), vec![1], 3),
            (json!({"profileIds": [at_root, alone]}), vec![3, 2], 2),
            (json!({"profileIds": [UNKNOWN]}), vec![], 0),
            (json!({"caIds": [root]}), vec![2], 1),
            (json!({"caIds": [root, server.issuing_ca]}), vec![4, 2, 1, 0], 4),
            (json!({"enrollmentTypes": ["api"]}), all.clone(), 5),
            (json!({"enrollmentTypes": ["est", "acme"]}), vec![], 0),
            (json!({"keyAlgorithm": "EC_secp384r1"}), vec![1], 1),
            (json!({"keySizes": [256]}), vec![4, 3, 2, 0], 4),
            (json!({"keySizes": [384, 2048]}), vec![1], 1),
            (json!({"keySizes": [384], "keyAlgorithm": "Ed25519"}), vec![], 0),
            (json!({"signatureAlgorithm": "ECDSA-SHA384"}), vec![1], 1),
            (json!({"extendedKeyUsage": "client_auth"}), vec![3, 1], 2),
            (json!({"extendedKeyUsage": "server_auth"}), vec![3, 0], 2),
            (json!({"extendedKeyUsage": "serverAuth"}), vec![3, 0], 2),
            (json!({"extendedKeyUsage": "auth"}), vec![], 0),
            (json!({"metadata": [{"key": "n", "value": "2"}]}), vec![1], 1),
            (json!({"metadata": [{"key": "team", "value": "a%b\"c"}]}), vec![3, 2, 1, 0], 4),
            (json!({"metadata": [{"key": "team", "value": "a%b\"c"}, {"key": "n", "value": "4"}]}), vec![3], 1),
            (json!({"metadata": [{"key": "team", "value": "a"}]}), vec![], 0),
            (json!({"fromDate": server.time(2), "toDate": server.time(3)}), vec![2, 1], 2),
            (json!({"notAfterTo": server.time(86_401)}), vec![3, 0], 2),
            (json!({"notAfterFrom": server.time(2 * 86_400)}), vec![2, 1], 2),
            (json!({"notBeforeFrom": server.time(4), "notBeforeTo": server.time(4)}), vec![3], 1),
            (json!({"source": "issued"}), all.clone(), 5),
            (json!({"source": "discovered"}), vec![], 0),
            (json!({"forPkiSync": true}), all, 5),
            (
                json!({"status": "active", "search": "example", "profileIds": [at_issuing], "keySizes": [256]}),
                vec![4, 0],
                2,
            ),
        ] {
            let listed = server.post(&search, asked.clone()).await.ok();
            assert_eq!(found(&listed, &ids), (expected, total), "{asked}");
        }
        let long = "_".repeat(256);
        for (asked, issues) in [
            (json!({"limit": 0}), "limit"),
            (json!({"limit": 101}), "limit"),
            (json!({"offset": -1}), "offset"),
            (json!({"sortBy": "serial; DROP TABLE certificates"}), "sortBy"),
            (json!({"sortOrder": "up"}), "sortOrder"),
            (json!({"status": "gone"}), "status"),
            (json!({"profileIds": ["x"]}), "profileIds.0"),
            (json!({"fromDate": "x"}), "fromDate"),
            (json!({"metadata": [{"key": ""}]}), "metadata.0.key metadata.0.value"),
            (json!({"search": long, "commonName": long, "friendlyName": long}), "friendlyName commonName search"),
            (json!({"metadata": [{"key": long, "value": "%".repeat(1021)}]}), "metadata.0.key metadata.0.value"),
        ] {
            assert_eq!(server.post(&search, asked.clone()).await.issues().join(" "), issues, "{asked}");
        }
    });
}

#[test]
fn older_lists_take_their_filters_from_the_query() {
    for_each_engine(|server| async move {
        let (ids, [at_issuing, at_root, _]) = inventory(&server).await;
        let by_id = format!("/api/v1/projects/{}/certificates", server.project);
        for (path, expected, total) in [
            ("/api/v2/workspace/default/certificates".to_owned(), vec![4, 3, 2, 1, 0], 5),
            ("/api/v2/workspace/default/certificates?offset=1&limit=2".into(), vec![3, 2], 5),
            ("/api/v2/workspace/default/certificates?commonName=alpha".into(), vec![0], 1),
            ("/api/v2/workspace/default/certificates?friendlyName=delta".into(), vec![3], 1),
            (by_id.clone(), vec![4, 3, 2, 1, 0], 5),
            (format!("{by_id}?search=example&limit=1"), vec![4], 3),
            (format!("{by_id}?profileIds={at_root},{at_issuing}&status=active"), vec![4, 2, 1, 0], 4),
            (format!("{by_id}?fromDate={}&forPkiSync=true", server.time(4)), vec![4, 3], 2),
        ] {
            assert_eq!(found(&server.get(&path).await.ok(), &ids), (expected, total), "{path}");
        }
        let limits = "/api/v2/workspace/default/certificates?offset=101&limit=0";
        assert_eq!(server.get(limits).await.issues(), ["offset", "limit"]);
        // What is looked for has a length that both engines take, and the longest one is looked for.
        let longest = "_".repeat(255);
        for (path, parameter) in [
            ("/api/v2/workspace/default/certificates".to_owned(), "commonName"),
            ("/api/v2/workspace/default/certificates".to_owned(), "friendlyName"),
            ("/api/v2/workspace/default/cas".to_owned(), "commonName"),
            ("/api/v2/workspace/default/cas".to_owned(), "friendlyName"),
            (by_id.clone(), "search"),
            (by_id.clone(), "commonName"),
            (by_id.clone(), "friendlyName"),
            (format!("{PROFILES}/{at_root}/certificates"), "search"),
            (PROFILES.to_owned(), "search"),
            (POLICIES.to_owned(), "search"),
        ] {
            server.get(&format!("{path}?{parameter}={longest}")).await.ok();
            let issues = server.get(&format!("{path}?{parameter}={longest}_")).await.issues();
            assert_eq!(issues, [parameter], "{path}");
        }
        let requests = format!("{REQUEST}/certificate-requests?projectSlug=default&search=");
        server.get(&format!("{requests}{longest}")).await.ok();
        assert_eq!(server.get(&format!("{requests}{longest}_")).await.issues(), ["search"]);
        assert_eq!(server.get(&format!("{by_id}?profileIds=x")).await.issues(), ["profileIds"]);
        server.get("/api/v2/workspace/nothing/certificates").await.refused(404, "NotFound");
        server.get(&format!("/api/v1/projects/{UNKNOWN}/certificates")).await.refused(404, "NotFound");
    });
}

#[test]
fn a_profile_lists_its_certificates_and_gives_the_newest_that_is_valid() {
    for_each_engine(|server| async move {
        let (ids, [at_issuing, _, alone]) = inventory(&server).await;
        for family in [PROFILES, "/api/v1/pki/certificate-profiles"] {
            let list = format!("{family}/{at_issuing}/certificates");
            let listed = server.get(&list).await.ok();
            assert_eq!(found(&listed, &ids), (vec![4, 1, 0], 3));
            let first = &listed["certificates"][2];
            let names = ["cn", "createdAt", "id", "notAfter", "notBefore", "revokedAt", "serialNumber", "status"];
            assert_eq!(members(first), names);
            assert_eq!((&first["cn"], &first["status"]), (&json!("alpha.example.com"), &json!("active")));
            for (query, expected, total) in [
                ("?limit=1&offset=2", vec![0], 3),
                ("?search=ECHO", vec![4], 1),
                ("?status=active", vec![4, 1, 0], 3),
                ("?status=expired", vec![], 0),
            ] {
                assert_eq!(
                    found(&server.get(&format!("{list}{query}")).await.ok(), &ids),
                    (expected, total),
                    "{query}"
                );
            }
            let latest = format!("{family}/{alone}/certificates/latest-active-bundle");
            let bundle = server.get(&latest).await;
            assert_eq!(bundle.headers["cache-control"], "no-store");
            let bundle = bundle.ok();
            assert_eq!(members(&bundle), ["certificate", "certificateChain", "privateKey", "serialNumber"]);
            assert_eq!(bundle, server.get(&format!("{REQUEST}/{}/bundle", ids[3])).await.ok());
            // Signed from a CSR: there is no key to give.
            let bundle = server.get(&format!("{family}/{at_issuing}/certificates/latest-active-bundle")).await.ok();
            assert_eq!(bundle["privateKey"], Value::Null);
            assert!(bundle["certificate"].is_string());
            server.get(&format!("{family}/{UNKNOWN}/certificates")).await.refused(404, "NotFound");
            server.get(&format!("{family}/{UNKNOWN}/certificates/latest-active-bundle")).await.refused(404, "NotFound");
        }
        // Once the newest has run out, none is left.
        server.at(4000);
        let nothing = json!({"certificate": null, "certificateChain": null, "privateKey": null, "serialNumber": null});
        let latest = format!("{PROFILES}/{alone}/certificates/latest-active-bundle");
        assert_eq!(server.get(&latest).await.ok(), nothing);
        let member = server.by(&server.identity("no-access", Some("member")).await);
        member.get(&latest).await.refused(403, "PermissionDenied");
        server.at(86_400 + 5);
        let listed = server.get(&format!("{PROFILES}/{at_issuing}/certificates")).await.ok();
        let statuses: Vec<&Value> =
            listed["certificates"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
        // The last second of a lifetime belongs to it.
        assert_eq!(statuses, ["active", "active", "expired"]);
        let active = server.get(&format!("{PROFILES}/{at_issuing}/certificates?status=active")).await.ok();
        assert_eq!(found(&active, &ids), (vec![4, 1], 2));
    });
}
