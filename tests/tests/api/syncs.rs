//! PKI syncs over the API (contract syncs §1): what the endpoints take and show, what a run does at a real directory and at
//! stand-ins of other systems, and what it leaves alone.

use crate::authorities::DAY;
use crate::issuing::{REQUEST, issue, profile};
use crate::renewal::run_jobs;
use crate::server::{Server, for_each_engine, members, text};
use domain::CertificateId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use testkit::stand_ins::aws::{AwsStandIn, Fault, REGION};
use testkit::stand_ins::tls::serve_tls;

const SYNCS: &str = "/api/v1/pki/syncs";
const SYNCS_NEW: &str = "/api/v1/cert-manager/syncs";
const CONNECTIONS: &str = "/api/v1/app-connections";

/// A certificate: its id and its PEM.
async fn issued(server: &Server, profile: &str, name: &str) -> (String, String) {
    let answer = issue(server, profile, json!({"commonName": name})).await.ok();
    (text(&answer["certificateId"]), text(&answer["certificate"]))
}

/// A sync to a directory of this machine.
async fn to_directory(
    server: &Server,
    name: &str,
    options: Value,
    certificates: &[&str],
) -> (String, std::path::PathBuf) {
    let place = server.places.join(name);
    std::fs::create_dir(&place).unwrap();
    let mut all = json!({"certificateNameSchema": "{{commonName}}"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let body = json!({"name": name, "projectId": server.project, "destinationConfig": {"destinationPath": place},
        "syncOptions": all, "certificateIds": certificates});
    (text(&server.post(&format!("{SYNCS}/local-directory"), body).await.ok()["id"]), place)
}

async fn certificates(server: &Server, sync: &str) -> Vec<Value> {
    let answer = server.get(&format!("{SYNCS}/{sync}/certificates")).await.ok();
    answer["certificates"].as_array().unwrap().clone()
}

async fn sync_now(server: &Server, destination: &str, sync: &str) {
    server.post(&format!("{SYNCS}/{destination}/{sync}/sync"), json!({})).await.ok();
    run_jobs(server).await;
}

fn files(place: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(place).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

/// A connection to a stand-in of AWS.
async fn aws_connection(server: &Server, aws: &AwsStandIn) -> String {
    let (id, secret) = aws.access_key();
    let credentials = json!({"accessKeyId": id, "secretAccessKey": secret, "endpointUrl": aws.url()});
    let body = json!({"name": "cloud", "method": "access-key", "credentials": credentials});
    let made = server.post(&format!("{CONNECTIONS}/aws"), body).await.ok();
    assert_eq!(made["appConnection"]["credentials"], json!({"accessKeyId": id, "endpointUrl": aws.url()}));
    text(&made["appConnection"]["id"])
}

#[test]
fn certificates_are_added_once_and_follow_their_renewal_and_revocation() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, pem) = issued(&server, &open, "www.example.com").await;
        let (sync, place) = to_directory(&server, "web", json!({"canRemoveCertificates": true}), &[]).await;

        let added =
            server.post(&format!("{SYNCS}/{sync}/certificates"), json!({"certificateIds": [first, first]})).await.ok();
        let link = &added["addedCertificates"][0];
        assert_eq!(added["addedCertificates"].as_array().unwrap().len(), 1);
        assert_eq!((&link["certificateId"], &link["pkiSyncId"]), (&json!(first), &json!(sync)));
        let again = server
            .post(&format!("{SYNCS_NEW}/{sync}/certificates"), json!({"certificateIds": [first.to_uppercase()]}))
            .await
            .ok();
        assert_eq!(again["addedCertificates"][0]["id"], link["id"]);
        run_jobs(&server).await;
        let shown = certificates(&server, &sync).await;
        assert_eq!(
            (&shown[0]["syncStatus"], &shown[0]["certificateCommonName"]),
            (&json!("succeeded"), &json!("www.example.com"))
        );
        let there = files(&place);
        assert_eq!(
            there.keys().collect::<Vec<_>>(),
            ["www.example.com.chain.pem", "www.example.com.key", "www.example.com.pem"]
        );
        assert_eq!(there["www.example.com.pem"].trim(), pem.trim());
        assert!(there["www.example.com.key"].contains("PRIVATE KEY"));

        // The successor takes the place of its predecessor.
        server.at(DAY);
        let renewed = server.post(&format!("{REQUEST}/{first}/renew"), json!({})).await.ok();
        let second = text(&renewed["certificateId"]);
        run_jobs(&server).await;
        let shown = certificates(&server, &sync).await;
        assert!(shown.len() == 1 && text(&shown[0]["certificateId"]) == second, "{shown:?}");
        assert_eq!(files(&place)["www.example.com.pem"].trim(), text(&renewed["certificate"]).trim());
        assert_eq!(files(&place).len(), 3);
        let refused = server.post(&format!("{SYNCS}/{sync}/certificates"), json!({"certificateIds": [first]})).await;
        assert!(text(&refused.refused(400, "BadRequest")["message"]).contains(&first));

        // A revoked one goes, with its files.
        server.post(&format!("{REQUEST}/{second}/revoke"), json!({"revocationReason": "SUPERSEDED"})).await.ok();
        run_jobs(&server).await;
        assert_eq!(files(&place).len(), 0);
        assert_eq!(certificates(&server, &sync).await.len(), 0);
        let refused = server.post(&format!("{SYNCS}/{sync}/certificates"), json!({"certificateIds": [second]})).await;
        assert!(text(&refused.refused(404, "NotFound")["message"]).contains(&second));
        let removed =
            server.delete_with(&format!("{SYNCS}/{sync}/certificates"), json!({"certificateIds": [second]})).await.ok();
        assert_eq!(removed, json!({"removedCount": 0}));
    });
}

#[test]
fn what_is_not_of_the_sync_is_left_alone_and_said() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (taken, _) = issued(&server, &open, "taken.example.com").await;
        let (ours, _) = issued(&server, &open, "ours.example.com").await;
        let (sync, place) = to_directory(&server, "shared", json!({"canRemoveCertificates": true}), &[]).await;
        std::fs::write(place.join("taken.example.com.pem"), "somebody else's").unwrap();
        std::fs::write(place.join("other.pem"), "not a certificate").unwrap();
        server.post(&format!("{SYNCS}/{sync}/certificates"), json!({"certificateIds": [taken, ours]})).await.ok();
        run_jobs(&server).await;
        let by_id: BTreeMap<String, Value> =
            certificates(&server, &sync).await.into_iter().map(|one| (text(&one["certificateId"]), one)).collect();
        assert_eq!(by_id[&ours]["syncStatus"], "succeeded");
        assert_eq!(by_id[&taken]["syncStatus"], "failed");
        assert!(text(&by_id[&taken]["lastSyncMessage"]).contains("taken.example.com"), "{}", by_id[&taken]);
        let preview = server.get(&format!("{SYNCS}/local-directory/{sync}/preview")).await.ok();
        assert_eq!(members(&preview), ["create", "remove", "replace", "unchanged"]);
        assert_eq!(preview["unchanged"].as_array().unwrap().len(), 2, "{preview}");

        // What somebody changed meanwhile is neither replaced nor removed.
        std::fs::write(place.join("ours.example.com.pem"), "changed by hand").unwrap();
        server
            .delete_with(&format!("{SYNCS}/{sync}/certificates"), json!({"certificateIds": [ours, taken]}))
            .await
            .ok();
        run_jobs(&server).await;
        let there = files(&place);
        assert_eq!(there["ours.example.com.pem"], "changed by hand");
        assert_eq!(there["taken.example.com.pem"], "somebody else's");
        assert_eq!(there["other.pem"], "not a certificate");
    });
}

#[test]
fn a_command_that_fails_rolls_the_files_back() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, pem) = issued(&server, &open, "app.example.com").await;
        let log = server.places.join("runs.log");
        let command = format!("echo run >> {0}; test ! -e {0}.broken", log.display());
        let (sync, place) = to_directory(&server, "app", json!({"postSyncCommand": command}), &[&first]).await;
        run_jobs(&server).await;
        assert_eq!(files(&place)["app.example.com.pem"].trim(), pem.trim());
        let runs = || std::fs::read_to_string(&log).unwrap().lines().count();
        assert_eq!(runs(), 1);
        // Nothing changed, so nothing is written and nothing is run.
        sync_now(&server, "local-directory", &sync).await;
        assert_eq!(runs(), 1);

        std::fs::write(format!("{}.broken", log.display()), "").unwrap();
        server.at(DAY);
        let renewed = server.post(&format!("{REQUEST}/{first}/renew"), json!({})).await.ok();
        run_jobs(&server).await;
        assert_eq!(files(&place)["app.example.com.pem"].trim(), pem.trim(), "the files are as they were");
        let shown = server.get(&format!("{SYNCS}/{sync}")).await.ok();
        assert_eq!(shown["syncStatus"], "failed", "{shown}");
        std::fs::remove_file(format!("{}.broken", log.display())).unwrap();
        sync_now(&server, "local-directory", &sync).await;
        assert_eq!(files(&place)["app.example.com.pem"].trim(), text(&renewed["certificate"]).trim());
        assert_eq!(server.get(&format!("{SYNCS}/{sync}")).await.ok()["syncStatus"], "succeeded");
    });
}

#[test]
fn an_answer_that_was_lost_makes_nothing_twice_and_look_alikes_stay() {
    for_each_engine(|server| async move {
        let aws = AwsStandIn::start().await;
        let connection = aws_connection(&server, &aws).await;
        let open = profile(&server, "open", json!({})).await;
        let body = json!({"name": "acm", "connectionId": connection, "projectId": server.project,
            "destinationConfig": {"region": REGION}});
        let sync = text(&server.post(&format!("{SYNCS}/aws-certificate-manager"), body).await.ok()["id"]);
        let (first, _) = issued(&server, &open, "www.example.com").await;
        let (second, _) = issued(&server, &open, "api.example.com").await;
        aws.fail("ImportCertificate", Fault::FailsAfter, 1);
        server.post(&format!("{SYNCS}/{sync}/certificates"), json!({"certificateIds": [first, second]})).await.ok();
        run_jobs(&server).await;
        assert_eq!(aws.certificates().len(), 2);
        sync_now(&server, "aws-certificate-manager", &sync).await;
        assert_eq!(aws.certificates().len(), 2);
        for one in certificates(&server, &sync).await {
            assert_eq!(one["syncStatus"], "succeeded", "{one}");
            assert!(text(&one["externalIdentifier"]).starts_with("arn:aws:acm:"), "{one}");
        }
        // The ARN stays when the certificate is renewed.
        let before: Vec<String> = aws.certificates().into_keys().collect();
        let renewed = server.post(&format!("{REQUEST}/{first}/renew"), json!({})).await.ok();
        run_jobs(&server).await;
        assert_eq!(aws.certificates().into_keys().collect::<Vec<_>>(), before);
        // What is removed is what this sync made.
        server
            .post(
                &format!("{REQUEST}/{}/revoke", text(&renewed["certificateId"])),
                json!({"revocationReason": "SUPERSEDED"}),
            )
            .await
            .ok();
        run_jobs(&server).await;
        assert_eq!(aws.certificates().len(), 1);
        server.post(&format!("{SYNCS}/aws-certificate-manager/{sync}/remove-certificates"), json!({})).await.ok();
        run_jobs(&server).await;
        assert_eq!(aws.certificates().len(), 0);
    });
}

#[test]
fn what_a_revoked_successor_never_took_over_is_removed_too() {
    for_each_engine(|server| async move {
        let aws = AwsStandIn::start().await;
        let connection = aws_connection(&server, &aws).await;
        let open = profile(&server, "open", json!({})).await;
        let (first, _) = issued(&server, &open, "www.example.com").await;
        let body = json!({"name": "acm", "connectionId": connection, "projectId": server.project,
            "destinationConfig": {"region": REGION}, "certificateIds": [first]});
        let sync = text(&server.post(&format!("{SYNCS}/aws-certificate-manager"), body).await.ok()["id"]);
        run_jobs(&server).await;
        assert_eq!(aws.certificates().len(), 1);
        // The destination takes no certificate that begins tomorrow: the object stays for the successor.
        server.at(DAY);
        let renewed = server.post(&format!("{REQUEST}/{first}/renew"), json!({})).await.ok();
        let second = text(&renewed["certificateId"]);
        run_jobs(&server).await;
        let by_id: BTreeMap<String, Value> =
            certificates(&server, &sync).await.into_iter().map(|one| (text(&one["certificateId"]), one)).collect();
        assert_eq!((aws.certificates().len(), &by_id[&second]["syncStatus"]), (1, &json!("failed")));
        server.post(&format!("{REQUEST}/{second}/revoke"), json!({"revocationReason": "SUPERSEDED"})).await.ok();
        run_jobs(&server).await;
        assert_eq!(aws.certificates().len(), 0);
    });
}

#[test]
fn a_key_that_a_command_prints_gets_into_no_message() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, _) = issued(&server, &open, "www.example.com").await;
        let command = "cat {{certificateDirectory}}/*.key; echo it broke; exit 1";
        let (sync, place) = to_directory(&server, "loud", json!({"postSyncCommand": command}), &[&first]).await;
        run_jobs(&server).await;
        assert_eq!(files(&place).len(), 0);
        let shown = server.get(&format!("{SYNCS}/{sync}")).await.ok();
        assert!(text(&shown["lastSyncMessage"]).contains("it broke"), "{shown}");
        let jobs = server.get("/api/v1/jobs").await.ok();
        let audit = server.services.db.rows("SELECT detail FROM audit_records", vec![]).await.unwrap();
        let audit: Vec<_> = audit.into_iter().map(store::Row::into_values).collect();
        for told in [
            shown.to_string(),
            json!(certificates(&server, &sync).await).to_string(),
            jobs.to_string(),
            format!("{audit:?}"),
        ] {
            assert!(!told.contains("BEGIN PRIVATE"), "{told}");
        }
    });
}

#[test]
fn a_change_of_the_place_or_of_the_form_of_files_is_followed() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, _) = issued(&server, &open, "www.example.com").await;
        let (sync, place) = to_directory(&server, "before", json!({}), &[&first]).await;
        run_jobs(&server).await;
        assert_eq!(files(&place).len(), 3);
        let url = format!("{SYNCS}/local-directory/{sync}");
        let one_file = json!({"certificateNameSchema": "{{commonName}}", "combineCertificateChain": true, "includePrivateKey": false});
        server.patch(&url, json!({"syncOptions": one_file})).await.ok();
        sync_now(&server, "local-directory", &sync).await;
        let there = files(&place);
        assert_eq!(
            there.keys().collect::<Vec<_>>(),
            ["www.example.com.pem"],
            "{}",
            json!(certificates(&server, &sync).await)
        );
        assert_eq!(there["www.example.com.pem"].matches("BEGIN CERTIFICATE").count(), 2);

        let after = server.places.join("after");
        std::fs::create_dir(&after).unwrap();
        server.patch(&url, json!({"destinationConfig": {"destinationPath": after}})).await.ok();
        sync_now(&server, "local-directory", &sync).await;
        assert_eq!(files(&after), there);
        assert_eq!(files(&place), there, "what is at the old place stays");
        // A file that was removed by hand is put back.
        std::fs::remove_file(after.join("www.example.com.pem")).unwrap();
        sync_now(&server, "local-directory", &sync).await;
        assert_eq!(files(&after), there);

        // Another sync to the same place finds its name taken, and says so.
        let body = json!({"name": "again", "projectId": server.project, "destinationConfig": {"destinationPath": after},
            "syncOptions": one_file, "certificateIds": [first]});
        let again = text(&server.post(&format!("{SYNCS}/local-directory"), body).await.ok()["id"]);
        run_jobs(&server).await;
        let link = certificates(&server, &again).await.remove(0);
        assert_eq!(link["syncStatus"], "failed", "{link}");
        assert!(text(&link["lastSyncMessage"]).contains("not of this sync"), "{link}");
    });
}

#[test]
fn connections_are_checked_before_they_are_kept_and_never_show_a_secret() {
    for_each_engine(|server| async move {
        let aws = AwsStandIn::start().await;
        let (id, _) = aws.access_key();
        let wrong = json!({"name": "wrong", "method": "access-key", "credentials":
            {"accessKeyId": id, "secretAccessKey": "not-the-key", "endpointUrl": aws.url()}});
        let refused = server.post(&format!("{CONNECTIONS}/aws"), wrong).await.refused(400, "BadRequest");
        assert!(!refused.to_string().contains("not-the-key"));
        let inside = json!({"name": "inside", "method": "access-key", "credentials":
            {"accessKeyId": id, "secretAccessKey": "x", "endpointUrl": "https://10.0.0.1:1"}});
        let refused = server.post(&format!("{CONNECTIONS}/aws"), inside).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("CHANCERY_EGRESS_ALLOW"), "{refused}");
        assert_eq!(server.get(CONNECTIONS).await.ok(), json!({"appConnections": []}));

        let connection = aws_connection(&server, &aws).await;
        for path in [format!("{CONNECTIONS}/aws/{connection}"), format!("{CONNECTIONS}/aws/connection-name/cloud")] {
            let shown = server.get(&path).await.ok();
            assert_eq!(shown["appConnection"]["id"], json!(connection));
            assert!(!shown.to_string().contains("secretAccessKey"), "{shown}");
        }
        let available = server.get(&format!("{CONNECTIONS}/aws/available?projectId={}", server.project)).await.ok();
        assert_eq!(available, json!({"appConnections": [{"app": "aws", "name": "cloud", "id": connection}]}));
        let changed =
            server.patch(&format!("{CONNECTIONS}/aws/{connection}"), json!({"description": "ours"})).await.ok();
        assert_eq!(
            (&changed["appConnection"]["version"], &changed["appConnection"]["description"]),
            (&json!(2), &json!("ours"))
        );
        server.post(&format!("{CONNECTIONS}/aws/{connection}/check"), json!({})).await.ok();

        let body = json!({"name": "acm", "connectionId": connection, "projectId": server.project,
            "destinationConfig": {"region": REGION}, "isAutoSyncEnabled": false});
        let sync = server.post(&format!("{SYNCS}/aws-certificate-manager"), body.clone()).await.ok();
        assert_eq!(
            sync["syncOptions"],
            json!({"canImportCertificates": false, "canRemoveCertificates": true,
            "includeRootCa": false, "preserveArn": true})
        );
        assert_eq!(sync["syncStatus"], Value::Null);
        server.post(&format!("{SYNCS}/aws-certificate-manager"), body).await.refused(400, "BadRequest");
        server.delete(&format!("{CONNECTIONS}/aws/{connection}")).await.refused(400, "BadRequest");
        let general = server.get(&format!("{SYNCS}/{}", text(&sync["id"]))).await.ok();
        assert_eq!(
            (&general["connection"]["encryptedCredentials"], &general["appConnectionApp"]),
            (&Value::Null, &json!("aws"))
        );
        let wrong_kind = json!({"name": "other", "connectionId": connection, "projectId": server.project,
            "destinationConfig": {"dataBagName": "tls"}});
        server.post(&format!("{SYNCS}/chef"), wrong_kind).await.refused(400, "BadRequest");
        server.get(&format!("{SYNCS}/chef/{}", text(&sync["id"]))).await.refused(404, "NotFound");
        let listed = server.get(&format!("{SYNCS}/chef?projectId={}", server.project)).await.ok();
        assert_eq!(listed, json!({"pkiSyncs": []}));
        let deleted = server.delete(&format!("{SYNCS}/aws-certificate-manager/{}", text(&sync["id"]))).await.ok();
        assert_eq!(deleted["id"], sync["id"]);
        server.delete(&format!("{CONNECTIONS}/aws/{connection}")).await.ok();
    });
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_sent() {
    for_each_engine(|server| async move {
        let options = server.get(&format!("{SYNCS}/options")).await.ok();
        let names: Vec<String> =
            options["pkiSyncOptions"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!((names.len(), &names), (12, &sorted));
        let place = server.places.join("somewhere");
        std::fs::create_dir(&place).unwrap();
        let body = |path: &Path, options: Value| {
            json!({"name": "a", "projectId": server.project,
            "destinationConfig": {"destinationPath": path}, "syncOptions": options})
        };
        let url = format!("{SYNCS}/local-directory");
        assert_eq!(server.post(&url, body(&place, json!({}))).await.issues(), ["syncOptions.certificateNameSchema"]);
        for (path, options) in [
            (place.as_path(), json!({"certificateNameSchema": "../{{commonName}}"})),
            (place.as_path(), json!({"certificateNameSchema": "{{commonName}}", "canImportCertificates": true})),
            (Path::new("/etc"), json!({"certificateNameSchema": "{{commonName}}"})),
            (&place.join(".."), json!({"certificateNameSchema": "{{commonName}}"})),
            (place.as_path(), json!({"certificateNameSchema": "{{commonName}}", "exportFormat": "pkcs12"})),
        ] {
            server.post(&url, body(path, options.clone())).await.refused(400, "BadRequest");
        }
        let two = {
            let open = profile(&server, "open", json!({})).await;
            [issued(&server, &open, "a.example.com").await.0, issued(&server, &open, "b.example.com").await.0]
        };
        let mut constant = body(&place, json!({"certificateNameSchema": "site"}));
        constant["certificateIds"] = json!(two);
        server.post(&url, constant).await.refused(400, "BadRequest");
    });
}

/// The links of a sync, by certificate.
async fn by_certificate(server: &Server, sync: &str) -> BTreeMap<String, Value> {
    certificates(server, sync).await.into_iter().map(|one| (text(&one["certificateId"]), one)).collect()
}

#[test]
fn two_certificates_of_one_name_are_both_named_with_what_mends_it() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, pem) = issued(&server, &open, "www.example.com").await;
        let (second, _) = issued(&server, &open, "www.example.com").await;
        let (sync, place) = to_directory(&server, "web", json!({}), &[&first, &second]).await;
        run_jobs(&server).await;
        let links = by_certificate(&server, &sync).await;
        let failed: Vec<&Value> = links.values().filter(|link| link["syncStatus"] == "failed").collect();
        assert_eq!(failed.len(), 1, "{links:?}");
        let message = text(&failed[0]["lastSyncMessage"]);
        for part in [first.as_str(), second.as_str(), "www.example.com", "{{certificateId}}"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
        assert_eq!(files(&place).len(), 3);
        let is_first = failed[0]["certificateId"] == json!(second);
        assert_eq!(files(&place)["www.example.com.pem"].trim() == pem.trim(), is_first);
    });
}

#[test]
fn a_name_goes_from_a_certificate_that_is_not_to_be_there_any_more_to_the_next_one() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, _) = issued(&server, &open, "www.example.com").await;
        let (second, second_pem) = issued(&server, &open, "www.example.com").await;
        let (third, third_pem) = issued(&server, &open, "www.example.com").await;
        // By this schema one certificate can be linked, and those that gave way do not count.
        let (sync, place) = to_directory(&server, "web", json!({"certificateNameSchema": "site"}), &[&first]).await;
        run_jobs(&server).await;
        let links = format!("{SYNCS}/{sync}/certificates");
        let revoke = json!({"revocationReason": "KEY_COMPROMISE"});
        server.post(&format!("{REQUEST}/{first}/revoke"), revoke).await.ok();
        server.post(&links, json!({"certificateIds": [second]})).await.ok();
        server.patch(&format!("{SYNCS}/local-directory/{sync}"), json!({"description": "x"})).await.ok();
        run_jobs(&server).await;
        assert_eq!(files(&place)["site.pem"].trim(), second_pem.trim());
        assert_eq!(by_certificate(&server, &sync).await[&second]["syncStatus"], "succeeded");
        server.post(&links, json!({"certificateIds": [third]})).await.refused(400, "BadRequest");

        // One that is taken out, and another one that waits for its name: the files are replaced, and never missing.
        let options = json!({"canRemoveCertificates": true});
        let (sync, place) = to_directory(&server, "names", options, &[&second]).await;
        let links = format!("{SYNCS}/{sync}/certificates");
        run_jobs(&server).await;
        server.post(&links, json!({"certificateIds": [third]})).await.ok();
        run_jobs(&server).await;
        assert_eq!(by_certificate(&server, &sync).await[&third]["syncStatus"], "failed");
        let is_there = async {
            loop {
                assert!(place.join("www.example.com.pem").exists(), "there was a moment without a certificate");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let exchanged = async {
            let removed = server.delete_with(&links, json!({"certificateIds": [second]})).await.ok();
            assert_eq!(removed["removedCount"], 1);
            run_jobs(&server).await;
        };
        tokio::select! { () = is_there => {}, () = exchanged => {} }
        assert_eq!(files(&place)["www.example.com.pem"].trim(), third_pem.trim());
        assert_eq!(files(&place).len(), 3);
        let linked = by_certificate(&server, &sync).await;
        assert!(linked.len() == 1 && linked[&third]["syncStatus"] == "succeeded", "{linked:?}");
    });
}

#[test]
fn a_region_or_a_host_that_is_none_is_refused() {
    for_each_engine(|server| async move {
        let prove = json!({"addresses": [{"host": "a b/", "port": 443}]});
        let body = json!({"name": "a", "projectId": server.project, "destinationConfig": {"destinationPath": "/x"},
            "syncOptions": {"certificateNameSchema": "site", "prove": prove}});
        let issues = server.post(&format!("{SYNCS}/local-directory"), body).await.issues();
        assert_eq!(issues, ["syncOptions.prove.addresses.0.host"]);
        for destination in ["aws-certificate-manager", "aws-secrets-manager"] {
            let body = json!({"name": "a", "projectId": server.project, "connectionId": server.project,
                "destinationConfig": {"region": "eu-centrall-1"}});
            let issues = server.post(&format!("{SYNCS}/{destination}"), body).await.issues();
            assert_eq!(issues, ["destinationConfig.region"]);
        }
        assert!(domain::sync::region::AWS_REGIONS.contains(&REGION));
        assert!(domain::sync::region::AWS_REGIONS.is_sorted());
    });
}

#[test]
fn a_certificate_that_is_not_served_raises_an_alert_that_says_where_and_what_is() {
    for_each_engine(|server| async move {
        let (address, other) = serve_tls("127.0.0.1:9".parse().unwrap()).await;
        let other = domain::inventory::serial_hex(&x509::Certificate::from_der(other.leaf).unwrap());
        let open = profile(&server, "open", json!({})).await;
        let (first, _) = issued(&server, &open, "www.example.com").await;
        let prove = json!({"addresses": [{"host": "127.0.0.1", "port": address.port()}], "timeoutSeconds": 5});
        let (sync, _) = to_directory(&server, "web", json!({"prove": prove}), &[&first]).await;
        let passing_time = async {
            for second in 1.. {
                tokio::time::sleep(Duration::from_millis(50)).await;
                server.at(second);
            }
        };
        tokio::select! { () = run_jobs(&server) => {}, () = passing_time => {} }
        let link = certificates(&server, &sync).await.remove(0);
        assert_eq!(link["syncStatus"], "succeeded", "it is there, and not proven: {link}");
        let place = format!("127.0.0.1:{}", address.port());
        let said = text(&link["lastSyncMessage"]);
        assert!(said.contains(&place) && said.contains(&other), "{said}");
        let sql = "SELECT detail FROM audit_records WHERE event = 'sync-certificate-unproven'";
        let alerts = server.services.db.rows(sql, vec![]).await.unwrap();
        assert_eq!(alerts.len(), 1);
        let alert = alerts[0].text(0).unwrap();
        for part in ["\"web\"", first.as_str(), place.as_str(), other.as_str()] {
            assert!(alert.contains(part), "{part} is not in {alert}");
        }
        let (_, _, metrics) = server.fetch("/metrics").await;
        let metrics = String::from_utf8(metrics).unwrap();
        assert!(metrics.lines().any(|line| line == "chancery_sync_unproven 1"), "{metrics}");
    });
}

#[test]
fn a_mode_that_was_changed_by_hand_is_seen_and_put_right() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, pem) = issued(&server, &open, "www.example.com").await;
        let (sync, place) = to_directory(&server, "web", json!({"fileMode": "640"}), &[&first]).await;
        run_jobs(&server).await;
        let mode = |name: &str| std::fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o7777;
        let modes = || (mode("www.example.com.pem"), mode("www.example.com.key"));
        assert_eq!(modes(), (0o640, 0o600));
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(place.join("www.example.com.key"), readable).unwrap();
        let preview = server.get(&format!("{SYNCS}/local-directory/{sync}/preview")).await.ok();
        let why = text(&preview["replace"][0]["reason"]);
        assert!(why.contains("www.example.com.key has the mode 644 and not 600"), "{preview}");
        assert_eq!(modes(), (0o640, 0o644), "a preview changes nothing");
        sync_now(&server, "local-directory", &sync).await;
        assert_eq!(modes(), (0o640, 0o600));
        assert_eq!(files(&place)["www.example.com.pem"].trim(), pem.trim());
        assert_eq!(certificates(&server, &sync).await[0]["syncStatus"], "succeeded");
        let preview = server.get(&format!("{SYNCS}/local-directory/{sync}/preview")).await.ok();
        assert_eq!(preview["unchanged"].as_array().map(Vec::len), Some(1), "{preview}");
    });
}

/// Between the look at the links and the commit of a renewal somebody may link the certificate to one more sync.
#[test]
fn a_link_that_comes_while_a_certificate_is_renewed_is_handed_over_too() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let (first, _) = issued(&server, &open, "www.example.com").await;
        let (successor, _) = issued(&server, &open, "www.example.com").await;
        let id = |text: &str| CertificateId::parse(text).unwrap();
        let (one, _) = to_directory(&server, "one", json!({}), &[&first]).await;
        let (two, _) = to_directory(&server, "two", json!({}), &[]).await;
        let db = &server.services.db;
        let seen = store::sync::link::syncs_of(db, id(&first)).await.unwrap();
        let links: Vec<_> = seen.iter().map(|(sync, _)| (server.services.new_id(), *sync)).collect();
        let renewal = store::sync::link::hand_over(id(&first), id(&successor), &links, server.start);
        server.post(&format!("{SYNCS}/{two}/certificates"), json!({"certificateIds": [first]})).await.ok();
        assert!(matches!(db.commit(renewal).await, Err(store::StoreError::Stale(_))));
        let has = async |sync: &str, certificate: &str| {
            certificates(&server, sync).await.iter().any(|link| link["certificateId"] == json!(certificate))
        };
        assert!(!has(&one, &successor).await && !has(&two, &successor).await, "all of it or nothing");

        // Whichever of the two comes first.
        for round in 0..5 {
            let (certificate, _) = issued(&server, &open, &format!("{round}.example.com")).await;
            let body = json!({"certificateIds": [certificate]});
            let (link, renew) = (format!("{SYNCS}/{one}/certificates"), format!("{REQUEST}/{certificate}/renew"));
            let (added, renewed) = tokio::join!(server.post(&link, body), server.post(&renew, json!({})));
            let next = text(&renewed.ok()["certificateId"]);
            if added.status == 200 {
                assert!(has(&one, &next).await, "round {round}");
            } else {
                added.refused(400, "BadRequest");
                assert!(!has(&one, &certificate).await && !has(&one, &next).await, "round {round}");
            }
        }
    });
}

#[test]
fn a_sync_runs_when_a_certificate_ends_and_not_at_the_next_look() {
    for_each_engine(|server| async move {
        const MINUTE: Duration = Duration::from_secs(60);
        let open = profile(&server, "open", json!({})).await;
        let answer = issue(&server, &open, json!({"commonName": "www.example.com", "ttl": "1h"})).await.ok();
        let id = text(&answer["certificateId"]);
        let (sync, place) = to_directory(&server, "web", json!({"canRemoveCertificates": true}), &[&id]).await;
        run_jobs(&server).await;
        assert_eq!(files(&place).len(), 3);
        let mut ends = jobs::ends::Ends::default();
        let run = format!("SELECT 1 FROM jobs WHERE dedupe = 'run-sync/{sync}'");
        let run: &'static str = run.leak();
        let is_planned = async || !server.services.db.rows(run, vec![]).await.unwrap().is_empty();
        server.at(3600 - 90);
        ends.look(&server.services, MINUTE).await.unwrap();
        for second in [3600 - 1, 3600] {
            server.at(second);
            ends.pass(&server.services, MINUTE).await.unwrap();
            assert!(!is_planned().await && files(&place).len() == 3, "{second}");
        }
        server.at(3601);
        ends.pass(&server.services, MINUTE).await.unwrap();
        // The server's own runner may have been faster than this test.
        assert!(is_planned().await || files(&place).is_empty());
        run_jobs(&server).await;
        assert_eq!(files(&place).len(), 0);
    });
}
