//! One certificate's life at each destination, over the API and against what stands in for the other system: delivered,
//! shown, left as it is, renewed in place, and removed. Every endpoint of a destination is walked on the way, with the members
//! of its answers (contract syncs §1.1, 1.3, 2).

use crate::issuing::{REQUEST, issue, profile};
use crate::renewal::run_jobs;
use crate::server::{Server, for_each_engine, members, text};
use serde_json::{Value, json};
use testkit::stand_ins::aws::{AwsStandIn, REGION};
use testkit::stand_ins::azure::{Azure, CLIENT_ID, CLIENT_SECRET, TENANT};
use testkit::stand_ins::chef::{BAG, Chef, ORGANIZATION, USER};
use testkit::stand_ins::cloudflare::{ACCOUNT, Cloudflare, Identifiers, TOKEN, ZONE};
use testkit::stand_ins::f5::{F5, USER as F5_USER};
use testkit::stand_ins::gcp::{ACCOUNT_EMAIL, Gcp, MAP, PROJECT};
use testkit::stand_ins::kubernetes::Kubernetes;
use testkit::stand_ins::tls::serve_tls;
use testkit::stand_ins::vault::{MOUNT, Vault};
use testkit::stand_ins::webhook::Webhook;

const OF_DESTINATION: [&str; 14] = [
    "connectionId",
    "createdAt",
    "description",
    "destination",
    "destinationConfig",
    "id",
    "isAutoSyncEnabled",
    "lastSyncedAt",
    "name",
    "projectId",
    "subscriberId",
    "syncOptions",
    "syncStatus",
    "updatedAt",
];

const LINK: [&str; 8] =
    ["certificateId", "createdAt", "id", "lastSyncMessage", "lastSyncedAt", "pkiSyncId", "syncStatus", "updatedAt"];

/// How a destination is reached.
struct Place<'a> {
    destination: &'a str,
    kind: &'a str,
    method: &'a str,
    credentials: Value,
    config: Value,
    options: Value,
}

/// A life at a destination of which `count` says how many objects it has, where that can be said.
async fn live_at(server: &Server, place: Place<'_>, count: impl Fn() -> Option<usize>) {
    let Place { destination, kind, method, credentials, config, options } = place;
    let open = profile(server, &format!("for-{destination}"), json!({})).await;
    let connection = json!({"name": destination, "method": method, "credentials": credentials});
    let connection =
        server.post(&format!("/api/v1/app-connections/{kind}"), connection).await.ok()["appConnection"].take();
    let base = format!("/api/v1/cert-manager/syncs/{destination}");
    let body = json!({"name": destination, "projectId": server.project, "connectionId": connection["id"],
        "destinationConfig": config, "syncOptions": options, "isAutoSyncEnabled": false});
    let made = server.post(&base, body).await.ok();
    assert_eq!(members(&made), OF_DESTINATION, "{destination}");
    let sync = text(&made["id"]);
    let one = format!("{base}/{sync}");
    let wanted = json!({"commonName": "www.example.com", "ttl": "30d"});
    let issued = issue(server, &open, wanted).await.ok();
    let id = text(&issued["certificateId"]);
    let certificates = format!("/api/v1/pki/syncs/{sync}/certificates");
    let added = server.post(&certificates, json!({"certificateIds": [id]})).await.ok();
    assert_eq!(members(&added["addedCertificates"][0]), LINK);
    let preview = server.get(&format!("{one}/preview")).await.ok();
    assert_eq!(preview["create"][0]["certificateId"], id, "{destination}: {preview}");
    // It ran not by itself until here, so that the preview was before any run, and does from now on.
    server.patch(&one, json!({"isAutoSyncEnabled": true})).await.ok();
    server.post(&format!("{one}/sync"), json!({})).await.ok();
    run_jobs(server).await;
    let link = server.get(&certificates).await.ok()["certificates"][0].take();
    assert_eq!(link["syncStatus"], "succeeded", "{destination}: {link}");
    assert!(link["externalIdentifier"].is_string());
    assert!(count().is_none_or(|count| count == 1), "{destination}");
    let preview = server.get(&format!("{one}/preview")).await.ok();
    assert_eq!(preview["unchanged"].as_array().map(Vec::len), Some(1), "{destination}: {preview}");
    server.post(&format!("{one}/sync"), json!({})).await.ok();
    run_jobs(server).await;

    let shown = server.get(&one).await.ok();
    assert_eq!((members(&shown), &shown["syncStatus"]), (OF_DESTINATION.to_vec(), &json!("succeeded")));
    let general = server.get(&format!("/api/v1/pki/syncs/{sync}")).await.ok();
    assert_eq!(
        (&general["lastSyncMessage"], &general["connection"]["id"]),
        (&Value::Null, &connection["id"]),
        "{destination}: {general}"
    );
    let listed = server.get(&format!("{base}?projectId={}", server.project)).await.ok();
    assert_eq!(listed["pkiSyncs"].as_array().map(Vec::len), Some(1));
    let changed = server.patch(&one, json!({"description": "ours", "syncOptions": options})).await.ok();
    assert_eq!((&changed["description"], &changed["syncOptions"]), (&json!("ours"), &made["syncOptions"]));

    let renewed = server.post(&format!("{REQUEST}/{id}/renew"), json!({})).await.ok();
    run_jobs(server).await;
    let after = server.get(&certificates).await.ok();
    assert_eq!(after["totalCount"], 1, "{destination}: {after}");
    let next = &after["certificates"][0];
    assert_eq!(
        (&next["certificateId"], &next["syncStatus"]),
        (&renewed["certificateId"], &json!("succeeded")),
        "{destination}"
    );
    assert!(count().is_none_or(|count| count == 1), "{destination}");

    let body = json!({"revocationReason": "CESSATION_OF_OPERATION"});
    server.post(&format!("{REQUEST}/{}/revoke", text(&renewed["certificateId"])), body).await.ok();
    run_jobs(server).await;
    assert!(count().is_none_or(|count| count == 0), "{destination}");
    assert_eq!(server.delete(&one).await.ok()["id"], made["id"]);
    server.delete(&format!("/api/v1/app-connections/{kind}/{}", text(&connection["id"]))).await.ok();
}

#[test]
fn at_aws() {
    for_each_engine(|server| async move {
        let aws = AwsStandIn::start().await;
        let (id, secret) = aws.access_key();
        for (destination, is_acm) in [("aws-certificate-manager", true), ("aws-secrets-manager", false)] {
            let place = Place {
                destination,
                kind: "aws",
                method: "access-key",
                credentials: json!({"accessKeyId": id, "secretAccessKey": secret, "endpointUrl": aws.url()}),
                config: json!({"region": REGION}),
                options: json!({}),
            };
            live_at(&server, place, || Some(if is_acm { aws.certificates().len() } else { aws.secrets().len() })).await;
        }
    });
}

#[test]
fn at_azure_and_cloudflare() {
    for_each_engine(|server| async move {
        let azure = Azure::start().await;
        let place = Place {
            destination: "azure-key-vault",
            kind: "azure-key-vault",
            method: "client-secret",
            credentials: json!({"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "tenantId": TENANT,
                "endpointUrl": azure.base_url, "tokenUrl": azure.token_url()}),
            config: json!({"vaultBaseUrl": "https://ours.vault.azure.net"}),
            options: json!({}),
        };
        live_at(&server, place, || Some(azure.objects().len())).await;
        let cloudflare = Cloudflare::start(Identifiers::Change).await;
        let place = Place {
            destination: "cloudflare-custom-certificate",
            kind: "cloudflare",
            method: "api-token",
            credentials: json!({"accountId": ACCOUNT, "apiToken": TOKEN, "endpointUrl": cloudflare.base_url}),
            config: json!({"zoneId": ZONE}),
            options: json!({}),
        };
        live_at(&server, place, || Some(cloudflare.objects().len())).await;
    });
}

#[test]
fn at_chef_kubernetes_vault_and_a_webhook() {
    for_each_engine(|server| async move {
        let chef = Chef::start().await;
        let place = Place {
            destination: "chef",
            kind: "chef",
            method: "user-key",
            credentials: json!({"serverUrl": format!("http://{}", chef.address()), "orgName": ORGANIZATION,
                "userName": USER, "privateKey": chef.key}),
            config: json!({"dataBagName": BAG}),
            options: json!({}),
        };
        live_at(&server, place, || Some(chef.items().len())).await;
        let kubernetes = Kubernetes::start("web", "a token").await;
        let place = Place {
            destination: "kubernetes-tls-secret",
            kind: "kubernetes",
            method: "service-account-token",
            credentials: json!({"serverUrl": format!("http://{}", kubernetes.address()), "token": "a token"}),
            config: json!({"namespace": "web"}),
            options: json!({}),
        };
        live_at(&server, place, || Some(kubernetes.secrets().len())).await;
        let vault = Vault::start("team", "a token").await;
        let place = Place {
            destination: "hashicorp-vault",
            kind: "hashicorp-vault",
            method: "access-token",
            credentials: json!({"instanceUrl": format!("http://{}", vault.address()), "namespace": "team",
                "accessToken": "a token"}),
            config: json!({"mount": MOUNT, "path": "tls"}),
            options: json!({}),
        };
        live_at(&server, place, || Some(vault.secrets().len())).await;
        let webhook = Webhook::start("known to both").await;
        let place = Place {
            destination: "webhook",
            kind: "webhook",
            method: "hmac",
            credentials: json!({"url": format!("http://{}/", webhook.address()), "signingSecret": "known to both"}),
            config: json!({}),
            options: json!({}),
        };
        live_at(&server, place, || None).await;
        assert_eq!(webhook.messages().len(), 2, "one for each certificate, none for a run that changes nothing");
    });
}

/// The server's own account is the one of a key file, and a map points at what was delivered.
#[test]
fn at_google() {
    for_each_engine(|server| async move {
        let google = Gcp::start().await;
        let credentials = json!({"serviceAccountEmail": ACCOUNT_EMAIL, "endpointUrl": google.base_url,
            "tokenUrl": google.token_url()});
        let body = json!({"name": "early", "method": "service-account-impersonation", "credentials": credentials});
        let refused = server.post("/api/v1/app-connections/gcp", body).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("GOOGLE_APPLICATION_CREDENTIALS"), "{refused}");
        std::fs::write(&server.google_key_file, google.key_file()).unwrap();
        let place = Place {
            destination: "gcp-certificate-manager",
            kind: "gcp",
            method: "service-account-impersonation",
            credentials,
            config: json!({"gcpProjectId": PROJECT, "location": "global",
                "certificateMapBinding": {"certificateMap": MAP, "hostname": "www.example.com"}}),
            options: json!({"certificateNameSchema": "infisical-{{certificateId}}"}),
        };
        let count = || {
            let (certificates, entries) = (google.certificates(), google.entries());
            let bound: Vec<&String> = entries.values().flat_map(|entry| &entry.certificates).collect();
            assert!(bound.iter().all(|name| certificates.contains_key(*name)), "{bound:?}");
            // Each of them is bound.
            assert_eq!(bound.len(), certificates.len());
            Some(certificates.len())
        };
        live_at(&server, place, count).await;
    });
}

/// It is reached over TLS by a pinned authority, and a profile that the sync makes uses what was delivered.
#[test]
fn at_a_big_ip() {
    for_each_engine(|server| async move {
        let appliance = F5::start("the password").await;
        let (address, material) = serve_tls(appliance.address()).await;
        let place = Place {
            destination: "f5-big-ip",
            kind: "f5-big-ip",
            method: "basic-auth",
            credentials: json!({"hostname": "127.0.0.1", "port": address.port(), "username": F5_USER,
                "password": "the password", "sslCertificate": x509::pem::encode("CERTIFICATE", &material.root)}),
            config: json!({"partition": "Common", "profileType": "client-ssl", "profileName": "web",
                "createProfileIfMissing": true}),
            options: json!({}),
        };
        let count = || {
            let saved = appliance.saved();
            assert_eq!((appliance.running() == saved, appliance.tokens()), (true, 0), "{saved:?}");
            assert!(saved.keys.keys().all(|path| saved.has_matching_pair(path)));
            Some(saved.keys.len())
        };
        live_at(&server, place, count).await;
        assert_eq!(appliance.uploads(), Vec::<String>::new());
    });
}
