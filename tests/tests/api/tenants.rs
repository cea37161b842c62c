//! Two organisations on one server (invariant A11): the admin of one walks every endpoint of the document with the ids of
//! the other, in paths, queries and bodies. Nothing is shown, nothing is changed.

use crate::authorities::authority;
use crate::issuing::{ISSUE, open_policy, policy, profile_with};
use crate::server::{Server, for_each_engine, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Stands in every name of the organisation that is to be kept to itself.
const NAME: &str = "quokka";

#[test]
fn the_admin_of_another_organisation_sees_and_changes_nothing() {
    for_each_engine(|server| async move {
        let ids = furnish(&server).await;
        let other = server.other_organization().await;
        let document = server.get("/api/docs/json").await.ok();
        let ours = rows(&other).await;
        let mut walked = 0;
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                // What is for everybody belongs to nobody.
                if path.ends_with("/der") || path.contains("/crl/") || path.contains("/ocsp") {
                    assert_eq!(operation["security"], json!([]), "{path}");
                    continue;
                }
                // Making a connection asks the other system, and names nothing of anybody.
                if method == "post" && path.starts_with("/api/v1/app-connections/") && !path.contains('{') {
                    continue;
                }
                for foreign in [Foreign::InPath, Foreign::Everywhere] {
                    call(&other, path, method, operation, &ids, foreign).await;
                    walked += 1;
                }
            }
        }
        assert!(walked > 200, "{walked} calls");
        let now = rows(&other).await;
        for (table, before) in &ours {
            for row in before {
                assert!(now[table].contains(row), "a row of {table} was changed or removed: {row:?}");
            }
        }
        // Nothing was added to the other's either.
        for (table, rows) in now {
            let added: Vec<_> = rows.iter().filter(|row| !ours[table].contains(row)).collect();
            let project = store::Value::Blob(server.project.0.as_bytes().to_vec());
            assert!(added.iter().all(|row| !row.contains(&project)), "{table}: {added:?}");
        }
    });
}

/// Where the ids of the other organisation stand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Foreign {
    InPath,
    /// In the path, in the query and in each member of the body that is an id.
    Everywhere,
}

/// One object of each kind, and the parameters and members that name them.
async fn furnish(server: &Server) -> BTreeMap<&'static str, Value> {
    let project = format!("/api/v1/projects/{}", server.project);
    server.patch(&project, json!({"name": NAME, "slug": format!("{NAME}-project")})).await.ok();
    let root = authority(server, "root", &format!("{NAME}-ca")).await;
    let policy = policy(server, open_policy(&format!("{NAME}-policy"))).await;
    let profile =
        profile_with(server, &format!("{NAME}-profile"), Some(&root), &policy, json!({"apiConfig": {}})).await;
    let body = json!({
        "profileId": profile, "commonName": format!("{NAME}.example.com"), "ttl": "1d", "keyUsages": ["digital_signature"],
        "extendedKeyUsages": ["server_auth"], "signatureAlgorithm": "ECDSA-SHA256", "keyAlgorithm": "EC_prime256v1",
    });
    let issued = server.post(ISSUE, body).await.ok();
    let identity = json!({"name": format!("{NAME}-identity"), "organizationId": server.organization, "role": "member"});
    let identity = text(&server.post("/api/v1/identities", identity).await.ok()["identity"]["id"]);
    let auth = format!("/api/v1/auth/universal-auth/identities/{identity}");
    server.post(&auth, json!({})).await.ok();
    let secret = json!({"description": format!("{NAME}-secret")});
    let secret = server.post(&format!("{auth}/client-secrets"), secret).await.ok()["clientSecretData"]["id"].take();
    server.post(&format!("{project}/memberships/identities/{identity}"), json!({"role": "viewer"})).await.ok();
    let role = json!({"slug": format!("{NAME}-role"), "name": NAME, "permissions": []});
    server.post(&format!("{project}/roles"), role).await.ok();
    let ca = server.get(&format!("/api/v1/pki/ca/{root}")).await.ok();
    let held = json!({"revocationReason": "CERTIFICATE_HOLD"});
    let place = format!("/api/v1/cert-manager/certificates/{}", text(&issued["certificateId"]));
    server.post(&format!("{place}/revoke"), held).await.ok();
    let connection = json!({"name": format!("{NAME}-connection"), "method": "hmac", "projectId": server.project,
        "credentials": {"url": "http://127.0.0.1:1/", "signingSecret": "of nobody's business"}});
    let connection =
        server.post("/api/v1/app-connections/webhook", connection).await.ok()["appConnection"]["id"].take();
    let sync = json!({"name": format!("{NAME}-sync"), "connectionId": connection, "projectId": server.project,
        "destinationConfig": {}, "isAutoSyncEnabled": false});
    let sync = server.post("/api/v1/pki/syncs/webhook", sync).await.ok()["id"].take();
    let application = json!({"name": format!("{NAME}-application"), "profileIds": [profile]});
    let application =
        server.post("/api/v1/cert-manager/applications", application).await.ok()["application"]["id"].take();
    let member = format!("/api/v1/cert-manager/applications/{}/identities/{identity}", text(&application));
    server.post(&member, json!({"role": "auditor"})).await.ok();
    let collection = json!({"projectId": server.project, "name": format!("{NAME}-collection")});
    let collection = server.post("/api/v1/pki/collections", collection).await.ok()["id"].take();
    let template = json!({"caId": root, "name": format!("{NAME}-template"), "commonName": ".*",
        "subjectAlternativeName": ".*", "ttl": "1d", "pkiCollectionId": collection});
    let template = server.post("/api/v1/pki/certificate-templates", template).await.ok()["id"].take();
    let subscriber = json!({"projectId": server.project, "caId": root, "name": format!("{NAME}-subscriber"),
        "commonName": format!("{NAME}.example.com"), "ttl": "1d"});
    server.post("/api/v1/pki/subscribers", subscriber).await.ok();
    let issued_for = format!("/api/v1/pki/subscribers/{NAME}-subscriber/issue-certificate");
    server.post(&issued_for, json!({"projectId": server.project})).await.ok();
    let items = format!("/api/v1/pki/collections/{}/items", text(&collection));
    let item = json!({"type": "certificate", "itemId": issued["certificateId"]});
    let item = server.post(&items, item).await.ok()["id"].take();
    let alert = json!({"name": format!("{NAME}-alert"), "projectId": server.project, "eventType": "expiration",
        "alertBefore": "30d", "enabled": false,
        "channels": [{"channelType": "email", "config": {"recipients": [format!("{NAME}@example.com")]}}]});
    let alert = server.post("/api/v2/pki/alerts", alert).await.ok()["alert"]["id"].take();
    let job = server.get("/api/v1/jobs").await.ok()["jobs"][0]["id"].take();
    BTreeMap::from([
        ("identityId", json!(identity)),
        ("clientSecretId", secret),
        ("caId", json!(root)),
        ("parentCaId", json!(root)),
        ("certId", ca["ca"]["activeCaCertId"].clone()),
        ("caName", json!(format!("{NAME}-ca"))),
        ("policyId", json!(policy)),
        ("certificatePolicyId", json!(policy)),
        ("certificateTemplateId", json!(policy)),
        ("profileId", json!(profile)),
        ("profileIds", json!([profile])),
        ("caIds", json!([root])),
        ("id", issued["certificateId"].clone()),
        ("requestId", issued["certificateId"].clone()),
        ("certificateId", issued["certificateId"].clone()),
        ("jobId", job),
        ("applicationId", application),
        ("userId", json!(identity)),
        ("groupId", json!(identity)),
        ("connectionId", connection),
        ("pkiSyncId", sync),
        ("pkiCollectionId", collection.clone()),
        ("collectionId", collection),
        ("collectionItemId", item),
        ("itemId", issued["certificateId"].clone()),
        ("subscriberName", json!(format!("{NAME}-subscriber"))),
        // Where a path names a template of the first family.
        ("templateId", template),
        ("alertId", alert),
        ("certificateIds", json!([issued["certificateId"]])),
        ("serialNumber", issued["serialNumber"].clone()),
        ("projectId", json!(server.project)),
        ("workspaceId", json!(server.project)),
        ("projectSlug", json!(format!("{NAME}-project"))),
        ("organizationId", json!(server.organization)),
        ("slug", Value::Null),
    ])
}

/// Calls an operation as the other admin, and holds its answer to what it may say.
async fn call(
    other: &Server,
    path: &str,
    method: &str,
    operation: &Value,
    ids: &BTreeMap<&'static str, Value>,
    foreign: Foreign,
) {
    let mut filled = path.to_owned();
    for (name, id) in ids {
        let slug = match path {
            path if path.contains("roles") => format!("{NAME}-role"),
            path if path.contains("profiles") => format!("{NAME}-profile"),
            _ => format!("{NAME}-project"),
        };
        let of_first_family = *name == "certificateTemplateId" && path.contains("/pki/certificate-templates/");
        let id = if of_first_family { &ids["templateId"] } else { id };
        let value = if *name == "slug" { slug } else { id.as_str().unwrap_or_default().to_owned() };
        filled = filled.replace(&format!("{{{name}}}"), &value);
    }
    filled = filled.replace("{name}", &format!("{NAME}-connection"));
    assert!(!filled.contains('{'), "a parameter without an id: {filled}");
    let names_other = filled != path;
    if foreign == Foreign::Everywhere {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let query: Vec<String> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| {
                let name = parameter["name"].as_str()?;
                let id = ids.get(name)?;
                Some(format!("{name}={}", id.as_str().or(id[0].as_str())?))
            })
            .collect();
        filled = format!("{filled}?{}", query.join("&"));
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let body = if schema.is_object() { fill("", schema, ids, foreign) } else { Value::Null };
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let answer = other.call(method.clone(), &filled, &body).await;
    let case = format!("{method} {filled} {body}: {} {}", answer.status, answer.body);
    assert!(answer.status < 500, "{case}");
    if names_other {
        assert!(answer.status >= 400, "{case}");
    }
    // A refusal may repeat what it was told, and nothing beside.
    let told = format!("{filled} {body}");
    let said = answer.body.to_string();
    for word in said.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')) {
        assert!(!word.contains(NAME) || told.contains(word), "{word} in {case}");
    }
}

/// A value of this shape: what must be there, and what could name an object of the other organisation.
fn fill(name: &str, schema: &Value, ids: &BTreeMap<&'static str, Value>, foreign: Foreign) -> Value {
    // A slug of one's own may be like that of another.
    if let (Foreign::Everywhere, Some(id)) = (foreign, ids.get(name).filter(|id| !id.is_null())) {
        return id.clone();
    }
    if let Some(options) = schema["enum"].as_array() {
        return options[0].clone();
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or_default();
    match (kind, schema["format"].as_str()) {
        ("object", _) => {
            let empty = json!({});
            let members = schema["properties"].as_object().unwrap_or(empty.as_object().unwrap());
            let is_required = |member: &str| {
                schema["required"].as_array().is_some_and(|required| required.iter().any(|one| one == member))
            };
            let wanted =
                |member: &str| is_required(member) || (foreign == Foreign::Everywhere && ids.contains_key(member));
            let members = members.iter().filter(|(member, _)| wanted(member));
            members.map(|(member, schema)| (member.clone(), fill(member, schema, ids, foreign))).collect()
        }
        ("array", _) => json!([fill("", &schema["items"], ids, foreign)]),
        ("boolean", _) => json!(false),
        ("integer" | "number", _) => schema.get("minimum").cloned().unwrap_or(json!(1)),
        (_, Some("uuid")) => json!(Uuid::new_v4()),
        (_, Some("date-time")) => json!("2027-01-01T00:00:00Z"),
        _ if name == "ttl" => json!("1d"),
        _ if name == "commonName" => json!("x.example.com"),
        _ => json!("x".repeat(schema["minLength"].as_u64().unwrap_or(5).max(5) as usize)),
    }
}

/// Every row that belongs to somebody, by its table; those of the one who walks are left out.
async fn rows(walker: &Server) -> BTreeMap<&'static str, Vec<Vec<store::Value>>> {
    let own: Vec<store::Value> = [walker.organization.0, walker.project.0, walker.caller.identity.0]
        .map(|id| store::Value::Blob(id.as_bytes().to_vec()))
        .to_vec();
    let mut tables = BTreeMap::new();
    for (table, sql) in [
        ("projects", "SELECT * FROM projects ORDER BY id"),
        ("identities", "SELECT * FROM identities ORDER BY id"),
        ("universal_auths", "SELECT * FROM universal_auths ORDER BY id"),
        ("client_secrets", "SELECT * FROM client_secrets ORDER BY id"),
        ("access_tokens", "SELECT * FROM access_tokens ORDER BY id"),
        ("memberships", "SELECT * FROM memberships ORDER BY id"),
        ("roles", "SELECT * FROM roles ORDER BY id"),
        ("authorities", "SELECT * FROM authorities ORDER BY id"),
        ("authority_certificates", "SELECT * FROM authority_certificates ORDER BY id"),
        ("authority_keys", "SELECT * FROM authority_keys ORDER BY id"),
        ("crls", "SELECT * FROM crls ORDER BY id"),
        ("ocsp_responders", "SELECT * FROM ocsp_responders ORDER BY id"),
        ("deleted_serials", "SELECT * FROM deleted_serials ORDER BY authority_key_id, serial"),
        ("policies", "SELECT * FROM policies ORDER BY id"),
        ("profiles", "SELECT * FROM profiles ORDER BY id"),
        ("certificates", "SELECT * FROM certificates ORDER BY id"),
        ("certificate_requests", "SELECT * FROM certificate_requests ORDER BY id"),
        ("applications", "SELECT * FROM applications ORDER BY id"),
        ("application_profiles", "SELECT * FROM application_profiles ORDER BY id"),
        ("application_members", "SELECT * FROM application_members ORDER BY id"),
        ("certificate_origins", "SELECT * FROM certificate_origins ORDER BY certificate_pk"),
        ("certificate_collections", "SELECT * FROM certificate_collections ORDER BY id"),
        ("certificate_collection_items", "SELECT * FROM certificate_collection_items ORDER BY id"),
        ("templates", "SELECT * FROM templates ORDER BY id"),
        ("subscribers", "SELECT * FROM subscribers ORDER BY id"),
        ("connections", "SELECT * FROM connections ORDER BY id"),
        ("syncs", "SELECT * FROM syncs ORDER BY id"),
        ("sync_links", "SELECT * FROM sync_links ORDER BY id"),
        ("alerts", "SELECT * FROM alerts ORDER BY id"),
        ("alert_channels", "SELECT * FROM alert_channels ORDER BY id"),
        ("alert_runs", "SELECT * FROM alert_runs ORDER BY id"),
        ("alert_deliveries", "SELECT * FROM alert_deliveries ORDER BY id"),
        ("audit_records", "SELECT * FROM audit_records ORDER BY seq"),
    ] {
        let found = walker.services.db.rows(sql, vec![]).await.unwrap().into_iter().map(store::Row::into_values);
        tables.insert(table, found.filter(|row| !row.iter().any(|value| own.contains(value))).collect());
    }
    tables
}
