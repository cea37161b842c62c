//! Collections of certificates and authorities (contract §7.2).

use crate::authorities::{FLAT, UNKNOWN, authority};
use crate::direct::{ISSUE, findings, record_of};
use crate::issuing::merge;
use crate::server::{Server, for_each_engine, members, text};
use crate::templates::template;
use serde_json::{Value, json};

pub const COLLECTIONS: &str = "/api/v1/pki/collections";

/// A new collection: its id.
pub async fn collection(server: &Server, name: &str) -> String {
    let body = json!({"projectId": server.project, "name": name});
    text(&server.post(COLLECTIONS, body).await.ok()["id"])
}

async fn issue(server: &Server, changes: Value) -> Value {
    let mut body = json!({"caId": server.issuing_ca, "commonName": "www.example.com", "ttl": "1d"});
    merge(&mut body, changes);
    server.post(ISSUE, body).await.ok()
}

async fn items(server: &Server, id: &str, query: &str) -> (Vec<Value>, i64) {
    let shown = server.get(&format!("{COLLECTIONS}/{id}/items{query}")).await.ok();
    assert_eq!(members(&shown), ["collectionItems", "totalCount"]);
    (shown["collectionItems"].as_array().unwrap().clone(), shown["totalCount"].as_i64().unwrap())
}

#[test]
fn a_collection_is_made_shown_changed_and_deleted() {
    for_each_engine(|server| async move {
        let made = server.post(COLLECTIONS, json!({"projectId": server.project, "name": " The web "})).await.ok();
        assert_eq!(members(&made), ["createdAt", "description", "id", "name", "projectId", "updatedAt"]);
        assert_eq!((&made["name"], &made["description"]), (&json!("The web"), &json!("")));
        let path = format!("{COLLECTIONS}/{}", text(&made["id"]));
        assert_eq!(server.get(&path).await.ok(), made);
        server.at(60);
        let changed = server.patch(&path, json!({"description": "All of it"})).await.ok();
        assert_eq!((&changed["name"], &changed["description"]), (&json!("The web"), &json!("All of it")));
        assert_eq!((&changed["createdAt"], &changed["updatedAt"]), (&made["createdAt"], &json!(server.time(60))));
        collection(&server, "second").await;
        let all = format!("/api/v2/workspace/{}/pki-collections", server.project);
        let shown = server.get(&all).await.ok();
        assert_eq!(members(&shown), ["collections"]);
        let names: Vec<&str> =
            shown["collections"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["The web", "second"]);
        assert_eq!(server.delete(&path).await.ok(), changed);
        server.get(&path).await.refused(404, "NotFound");
        assert_eq!(server.get(&all).await.ok()["collections"].as_array().unwrap().len(), 1);
        for (body, issues) in [
            (json!({}), &["projectId", "name"][..]),
            (json!({"projectId": "x", "name": ""}), &["projectId", "name"]),
            (json!({"projectId": server.project, "name": "a".repeat(256)}), &["name"]),
            (json!({"projectId": server.project, "name": "a", "description": "a".repeat(1001)}), &["description"]),
        ] {
            assert_eq!(server.post(COLLECTIONS, body).await.issues(), issues);
        }
        server.post(COLLECTIONS, json!({"projectId": UNKNOWN, "name": "a"})).await.refused(404, "NotFound");
    });
}

#[test]
fn certificates_are_put_where_the_request_or_the_template_says() {
    for_each_engine(|server| async move {
        let (named, of_template) = (collection(&server, "named").await, collection(&server, "of-template").await);
        let direct = issue(&server, json!({"pkiCollectionId": named, "friendlyName": "The web"})).await;
        let record = record_of(&server, &direct).await;
        let (found, total) = items(&server, &named, "").await;
        assert_eq!(total, 1);
        let expected = json!({
            "id": found[0]["id"], "createdAt": server.time(0), "updatedAt": server.time(0), "pkiCollectionId": named,
            "type": "certificate", "itemId": record["id"], "notBefore": record["notBefore"],
            "notAfter": record["notAfter"], "friendlyName": "The web",
        });
        assert_eq!(found[0], expected);
        let web = template(&server, json!({"pkiCollectionId": of_template})).await;
        let from = |more: Value| {
            let mut changes = json!({"caId": null, "certificateTemplateId": web});
            merge(&mut changes, more);
            changes
        };
        issue(&server, from(json!({}))).await;
        assert_eq!(items(&server, &of_template, "").await.1, 1);
        // The request goes before the template.
        issue(&server, from(json!({"pkiCollectionId": named}))).await;
        assert_eq!(items(&server, &named, "").await.1, 2);
        assert_eq!(items(&server, &of_template, "").await.1, 1);
        // A collection that is gone takes none, and its template goes on without.
        server.delete(&format!("{COLLECTIONS}/{of_template}")).await.ok();
        issue(&server, from(json!({}))).await;
        let shown = server.get(&format!("{}/{web}", crate::templates::TEMPLATES)).await.ok();
        assert_eq!(shown["pkiCollectionId"], Value::Null);
        for (id, status) in [(UNKNOWN, 404), ("no-uuid", 404)] {
            let body = json!({"caId": server.issuing_ca, "commonName": "a", "ttl": "1d", "pkiCollectionId": id});
            server.post(ISSUE, body).await.refused(status, "NotFound");
        }
        // One of another project of the organisation.
        let second = json!({"projectName": "Second", "slug": "second", "type": "cert-manager"});
        let second = text(&server.post("/api/v2/workspace", second).await.ok()["project"]["id"]);
        let theirs = text(&server.post(COLLECTIONS, json!({"projectId": second, "name": "b"})).await.ok()["id"]);
        let body = json!({"caId": server.issuing_ca, "commonName": "a", "ttl": "1d", "pkiCollectionId": theirs});
        server.post(ISSUE, body).await.refused(400, "BadRequest");
        let patch = json!({"pkiCollectionId": theirs});
        server.patch(&format!("{}/{web}", crate::templates::TEMPLATES), patch).await.refused(400, "BadRequest");
        let add = json!({"type": "certificate", "itemId": record["id"]});
        server.post(&format!("{COLLECTIONS}/{theirs}/items"), add).await.refused(400, "BadRequest");
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn members_come_and_go_and_end_with_what_they_are() {
    for_each_engine(|server| async move {
        let id = collection(&server, "all").await;
        let path = format!("{COLLECTIONS}/{id}/items");
        let record = record_of(&server, &issue(&server, json!({})).await).await;
        let second = record_of(&server, &issue(&server, json!({})).await).await;
        let lonely = authority(&server, "root", "lonely").await;
        let pending = authority(&server, "intermediate", "pending").await;
        let add = |kind: &str, item: &Value| json!({"type": kind, "itemId": item});
        let first = server.post(&path, add("certificate", &record["id"])).await.ok();
        assert_eq!(first["friendlyName"], "www.example.com");
        server.at(1);
        server.post(&path, add("certificate", &second["id"])).await.ok();
        server.at(2);
        let ca = server.post(&path, add("ca", &json!(lonely))).await.ok();
        assert_eq!(
            (&ca["type"], &ca["itemId"], &ca["friendlyName"]),
            (&json!("ca"), &json!(lonely), &json!("CN=lonely"))
        );
        assert_eq!(ca["notBefore"], server.time(0));
        server.at(3);
        let unborn = server.post(&path, add("ca", &json!(pending))).await.ok();
        assert_eq!((&unborn["notBefore"], &unborn["notAfter"]), (&Value::Null, &Value::Null));
        // Twice is once.
        server.post(&path, add("certificate", &record["id"])).await.refused(400, "BadRequest");
        server.post(&path, add("ca", &json!(lonely))).await.refused(400, "BadRequest");
        for (query, ids, total) in [
            ("", &[&record["id"], &second["id"], &json!(lonely), &json!(pending)][..], 4),
            ("?type=certificate", &[&record["id"], &second["id"]], 2),
            ("?type=ca", &[&json!(lonely), &json!(pending)], 2),
            ("?limit=1&offset=1", &[&second["id"]], 4),
        ] {
            let (found, count) = items(&server, &id, query).await;
            let found: Vec<&Value> = found.iter().map(|one| &one["itemId"]).collect();
            assert_eq!((&found[..], count), (ids, total), "{query}");
        }
        assert_eq!(server.get(&format!("{path}?type=x&limit=0")).await.issues(), ["type", "limit"]);
        assert_eq!(server.post(&path, json!({"type": "x"})).await.issues(), ["type", "itemId"]);
        for item in [UNKNOWN, "no-uuid"] {
            server.post(&path, add("certificate", &json!(item))).await.refused(404, "NotFound");
            server.post(&path, add("ca", &json!(item))).await.refused(404, "NotFound");
            server.delete(&format!("{path}/{item}")).await.refused(404, "NotFound");
            server.get(&format!("{COLLECTIONS}/{item}/items")).await.refused(404, "NotFound");
        }
        // A member of another collection is not this one's.
        let other = collection(&server, "other").await;
        let item = text(&first["id"]);
        server.delete(&format!("{COLLECTIONS}/{other}/items/{item}")).await.refused(404, "NotFound");
        assert_eq!(server.delete(&format!("{path}/{item}")).await.ok(), first);
        assert_eq!(items(&server, &id, "").await.1, 3);
        // What is deleted is a member no more.
        server.delete(&format!("/api/v1/pki/certificates/{}", text(&second["serialNumber"]))).await.ok();
        server.delete(&format!("{FLAT}/{lonely}")).await.ok();
        let (left, total) = items(&server, &id, "").await;
        assert_eq!((&left[0]["itemId"], total), (&json!(pending), 1));
        assert_eq!(findings(&server).await, [] as [&str; 0]);
    });
}

#[test]
fn collections_are_for_who_may() {
    for_each_engine(|server| async move {
        let id = collection(&server, "all").await;
        let path = format!("{COLLECTIONS}/{id}");
        let items = format!("{path}/items");
        let all = format!("/api/v2/workspace/{}/pki-collections", server.project);
        let record = record_of(&server, &issue(&server, json!({})).await).await;
        let add = json!({"type": "certificate", "itemId": record["id"]});
        let item = format!("{items}/{}", text(&server.post(&items, add.clone()).await.ok()["id"]));
        let make = json!({"projectId": server.project, "name": "x"});
        let member = server.by(&server.identity("no-access", Some("member")).await);
        for path in [&path, &items, &all] {
            member.get(path).await.ok();
        }
        for answer in [
            member.post(COLLECTIONS, make.clone()).await,
            member.patch(&path, json!({})).await,
            member.delete(&path).await,
            member.post(&items, add.clone()).await,
            member.delete(&item).await,
        ] {
            answer.refused(403, "PermissionDenied");
        }
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        for path in [&path, &items, &all] {
            viewer.get(path).await.refused(403, "PermissionDenied");
        }
        let stranger = server.by(&server.identity("no-access", None).await);
        stranger.get(&path).await.refused(403, "ProjectMembershipNotFound");
        let other = server.other_organization().await;
        for answer in [
            other.get(&path).await,
            other.get(&items).await,
            other.get(&all).await,
            other.post(COLLECTIONS, make).await,
            other.patch(&path, json!({})).await,
            other.delete(&path).await,
            other.post(&items, add.clone()).await,
            other.delete(&item).await,
        ] {
            answer.refused(404, "NotFound");
        }
        // What is theirs is not put into one's own.
        let own = collection(&other, "own").await;
        other.post(&format!("{COLLECTIONS}/{own}/items"), add).await.refused(404, "NotFound");
    });
}
