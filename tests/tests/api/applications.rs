//! Applications (contract §8): what the endpoints take and show, whom they let in, and what a member may do and may not.

use crate::authorities::DAY;
use crate::issuing::{PROFILES, REQUEST, certificate, issue, merge, profile};
use crate::renewal::run_jobs;
use crate::server::{Answer, Server, for_each_engine, members, text};
use domain::permission::Action;
use reqwest::Method;
use serde_json::{Value, json};

pub const APPLICATIONS: &str = "/api/v1/cert-manager/applications";
const UNKNOWN: &str = "0198c5a0-0000-7000-8000-000000000001";
const REQUESTS: &str = "/api/v1/cert-manager/certificates/certificate-requests";

/// A new application: its path and its id.
async fn application(server: &Server, name: &str, profiles: &[&str]) -> (String, String) {
    let made = server.post(APPLICATIONS, json!({"name": name, "profileIds": profiles})).await.ok();
    let id = text(&made["application"]["id"]);
    for profile in profiles {
        put(server, &format!("{APPLICATIONS}/{id}/profiles/{profile}/enrollment/api"), json!({})).await.ok();
    }
    (format!("{APPLICATIONS}/{id}"), id)
}

pub async fn put(server: &Server, path: &str, body: Value) -> Answer {
    server.call(Method::PUT, path, &body).await
}

/// Somebody who is in no project, with a role in an application.
async fn member(server: &Server, application: &str, role: &str) -> Server {
    let session = server.identity("no-access", None).await;
    server.post(&format!("{application}/identities/{}", session.identity), json!({"role": role})).await.ok();
    server.by(&session)
}

/// Asks for a certificate through an application.
async fn ask(server: &Server, profile: &str, application: &str, changes: Value) -> Answer {
    let mut attributes = json!({"commonName": "www.example.com", "ttl": "30d", "keyAlgorithm": "EC_prime256v1",
        "signatureAlgorithm": "ECDSA-SHA256"});
    merge(&mut attributes, changes);
    let body = json!({"profileId": profile, "applicationId": application, "attributes": attributes});
    server.post(REQUEST, body).await
}

/// A role of the project with these rules, and somebody who has it.
async fn with_rules(server: &Server, slug: &str, rules: Value) -> Server {
    let roles = format!("/api/v1/projects/{}/roles", server.project);
    server.post(&roles, json!({"slug": slug, "name": slug, "permissions": rules})).await.ok();
    server.by(&server.identity("no-access", Some(slug)).await)
}

#[test]
fn an_application_is_made_found_changed_and_deleted() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let made = server.post(APPLICATIONS, json!({"name": " Web-Shop ", "description": "shop", "unknown": 1})).await;
        let made = made.ok();
        assert_eq!(members(&made), ["application"]);
        let shown = json!({"id": made["application"]["id"], "projectId": server.project, "name": "web-shop",
            "description": "shop", "createdAt": server.time(0), "updatedAt": server.time(0)});
        assert_eq!(made["application"], shown);
        let one = format!("{APPLICATIONS}/{}", text(&shown["id"]));
        assert_eq!(server.get(&one).await.ok(), made);
        assert_eq!(server.get(&format!("{one}/")).await.ok(), made);
        assert_eq!(server.get(&format!("{APPLICATIONS}/by-name/web-shop")).await.ok(), made);
        assert_eq!(
            server.get(&format!("{APPLICATIONS}/by-name/Web-Shop?projectId={}", server.project)).await.ok(),
            made
        );
        server.get(&format!("{APPLICATIONS}/by-name/other")).await.refused(404, "NotFound");

        for (body, issues) in [
            (json!({}), &["name"][..]),
            (json!({"name": "a b"}), &["name"]),
            (json!({"name": "-", "description": "d".repeat(257)}), &["name", "description"]),
            (json!({"name": "a".repeat(65), "profileIds": ["x"]}), &["name", "profileIds.0"]),
        ] {
            assert_eq!(server.post(APPLICATIONS, body.clone()).await.issues(), issues, "{body}");
        }
        let taken = server.post(APPLICATIONS, json!({"name": "web-shop"})).await.refused(400, "BadRequest");
        assert!(text(&taken["message"]).contains("web-shop"), "{taken}");
        server.post(APPLICATIONS, json!({"name": "x", "profileIds": [UNKNOWN]})).await.refused(404, "NotFound");
        let (second, _) = application(&server, "mail", &[&open, &open.to_uppercase()]).await;

        server.at(60);
        assert_eq!(server.patch(&one, json!({})).await.issues(), [""]);
        server.patch(&one, json!({"name": "mail"})).await.refused(400, "BadRequest");
        let changed = server.patch(&one, json!({"name": "shop", "description": null})).await.ok();
        let mut expected = shown.clone();
        merge(&mut expected, json!({"name": "shop", "updatedAt": server.time(60)}));
        expected["description"] = Value::Null;
        assert_eq!(changed["application"], expected);
        assert_eq!(server.patch(&one, json!({"description": ""})).await.ok()["application"]["description"], "");

        for (query, names, total) in [
            ("", &["mail", "shop"][..], 2),
            ("?limit=1&offset=1", &["shop"], 2),
            ("?search=MAI", &["mail"], 1),
            ("?search=%25", &[], 0),
        ] {
            let listed = server.get(&format!("{APPLICATIONS}{query}")).await.ok();
            assert_eq!(members(&listed), ["applications", "total"]);
            let applications = listed["applications"].as_array().unwrap();
            let found: Vec<String> = applications.iter().map(|one| text(&one["name"])).collect();
            assert_eq!(
                (found.iter().map(String::as_str).collect::<Vec<_>>(), &listed["total"]),
                (names.to_vec(), &json!(total))
            );
        }
        let listed = server.get(&format!("{APPLICATIONS}?search=mail")).await.ok()["applications"][0].take();
        assert_eq!((&listed["profileCount"], &listed["memberCount"]), (&json!(1), &json!(0)));

        let deleted = server.delete(&second).await.ok();
        assert_eq!(deleted["application"]["name"], "mail");
        server.get(&second).await.refused(404, "NotFound");
        server.delete(&second).await.refused(404, "NotFound");
        assert_eq!(server.get(&format!("{APPLICATIONS}/x")).await.issues(), ["applicationId"]);
    });
}

#[test]
fn profiles_are_attached_once_and_hold_their_profile() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        let mail = profile(&server, "mail", json!({})).await;
        let (one, id) = application(&server, "shop", &[]).await;
        let all = format!("{one}/profiles");
        assert_eq!(server.get(&all).await.ok(), json!({"profiles": []}));
        assert_eq!(server.post(&all, json!({"profileIds": []})).await.issues(), ["profileIds"]);
        server.patch(&format!("{PROFILES}/{web}"), json!({"description": "for sites"})).await.ok();
        let attached = server.post(&all, json!({"profileIds": [web, web]})).await.ok();
        let place = json!({"applicationId": id, "profileId": web, "profileSlug": "web", "profileDescription": "for sites",
            "apiConfigId": null, "estConfigId": null, "acmeConfigId": null, "scepConfigId": null,
            "createdAt": server.time(0), "updatedAt": server.time(0)});
        assert_eq!(attached, json!({"profiles": [place]}));
        server.at(5);
        let both = server.post(&all, json!({"profileIds": [mail, web]})).await.ok();
        assert_eq!(both["profiles"].as_array().unwrap().len(), 2);
        assert_eq!((&both["profiles"][0]["profileSlug"], &both["profiles"][1]), (&json!("mail"), &place));
        assert_eq!(server.get(&all).await.ok(), both);

        // All or nothing.
        let other = server.other_organization().await;
        server.post(&all, json!({"profileIds": [UNKNOWN]})).await.refused(404, "NotFound");
        let foreign = first_profile_of(&other).await;
        server.post(&all, json!({"profileIds": [foreign]})).await.refused(404, "NotFound");
        let project = json!({"projectName": "Second", "slug": "second", "type": "cert-manager"});
        let project = text(&server.post("/api/v2/workspace", project).await.ok()["project"]["id"]);
        let elsewhere = json!({"projectId": project, "name": "elsewhere", "profileIds": [web]});
        let refused = server.post(APPLICATIONS, elsewhere).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("another project"), "{refused}");
        assert_eq!(server.get(&all).await.ok(), both);

        // What is attached is not deleted, and may be called otherwise.
        let refused = server.delete(&format!("{PROFILES}/{web}")).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("shop"), "{refused}");
        server.patch(&format!("{PROFILES}/{mail}"), json!({"slug": "post"})).await.ok();
        assert_eq!(server.get(&all).await.ok()["profiles"][0]["profileSlug"], "post");
        let detached = server.delete(&format!("{all}/{web}")).await.ok();
        assert_eq!(detached, json!({"applicationId": id, "profileId": web}));
        server.delete(&format!("{all}/{web}")).await.refused(404, "NotFound");
        server.delete(&format!("{PROFILES}/{web}")).await.ok();
        server.delete(&one).await.ok();
        server.delete(&format!("{PROFILES}/{mail}")).await.ok();
    });
}

/// A profile of another organisation.
async fn first_profile_of(other: &Server) -> String {
    let policy = crate::issuing::policy(other, crate::issuing::open_policy("theirs")).await;
    crate::issuing::profile_with(other, "theirs", None, &policy, json!({})).await
}

#[test]
fn enrolment_by_the_api_is_switched_and_the_others_say_that_they_wait() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        let made = server.post(APPLICATIONS, json!({"name": "shop", "profileIds": [web]})).await.ok();
        let id = text(&made["application"]["id"]);
        let state = format!("{APPLICATIONS}/{id}/profiles/{web}/enrollment");
        let pair = json!({"applicationId": id, "profileId": web});
        let with = |changes: Value| {
            let mut all = pair.clone();
            for (name, value) in changes.as_object().unwrap() {
                all[name] = value.clone();
            }
            all
        };
        let nothing = json!({"api": null, "est": null, "acme": null, "scep": null, "caType": "internal",
            "estConfigured": false, "acmeConfigured": false, "scepConfigured": false});
        assert_eq!(server.get(&state).await.ok(), with(nothing.clone()));
        let api = format!("{state}/api");
        let set = put(&server, &api, json!({"autoRenew": true, "renewBeforeDays": 12})).await.ok();
        let config = json!({"id": set["api"]["id"], "autoRenew": true, "renewBeforeDays": 12});
        assert_eq!(set, with(json!({"api": config})));
        let mut expected = with(nothing.clone());
        expected["api"] = config.clone();
        assert_eq!(server.get(&state).await.ok(), expected);
        let listed = server.get(&format!("{APPLICATIONS}/{id}/profiles")).await.ok();
        assert_eq!(listed["profiles"][0]["apiConfigId"], config["id"]);
        for (body, auto_renew, days) in [
            (json!({"autoRenew": true}), true, json!(7)),
            (json!({"autoRenew": true, "renewBeforeDays": null}), true, json!(7)),
            (json!({"autoRenew": false}), false, json!(null)),
            (json!({}), false, json!(null)),
            (json!({"renewBeforeDays": 365}), false, json!(365)),
        ] {
            let set = put(&server, &api, body.clone()).await.ok()["api"].take();
            assert_eq!(set, json!({"id": config["id"], "autoRenew": auto_renew, "renewBeforeDays": days}), "{body}");
        }
        for days in [json!(0), json!(366), json!("x"), json!(1.5)] {
            let answer = put(&server, &api, json!({"autoRenew": true, "renewBeforeDays": days})).await;
            assert_eq!(answer.issues(), ["renewBeforeDays"], "{days}");
        }
        for _ in 0..2 {
            assert_eq!(server.delete(&api).await.ok(), pair);
        }
        assert_eq!(server.get(&state).await.ok(), with(nothing.clone()));

        // EST is kept: never its passphrase.
        let est = format!("{state}/est");
        assert_eq!(put(&server, &est, json!({"passphrase": "short"})).await.issues(), ["passphrase"]);
        let broken = json!({"passphrase": "long enough", "caChain": "no certificate"});
        put(&server, &est, broken).await.refused(400, "BadRequest");
        let set = put(&server, &est, json!({"passphrase": "long enough", "disableBootstrapCaValidation": true})).await;
        assert!(!set.raw.contains("long enough"));
        let set = set.ok();
        assert_eq!(set, with(json!({"est": {"id": set["est"]["id"], "disableBootstrapCaValidation": true}})));
        let shown = server.get(&state).await.ok();
        assert_eq!((&shown["estConfigured"], &shown["est"]["id"]), (&json!(true), &set["est"]["id"]));
        assert!(text(&shown["est"]["estEndpointUrl"]).ends_with(&format!("/applications/{id}/profiles/{web}")));
        assert_eq!(members(&shown["est"]), ["disableBootstrapCaValidation", "estEndpointUrl", "id"]);
        assert_eq!(server.delete(&est).await.ok(), pair);
        assert_eq!(server.get(&state).await.ok(), with(nothing.clone()));

        for protocol in ["acme", "scep"] {
            let refused = put(&server, &format!("{state}/{protocol}"), json!({})).await.refused(400, "BadRequest");
            assert!(text(&refused["message"]).contains("not served yet"), "{refused}");
            assert_eq!(server.delete(&format!("{state}/{protocol}")).await.ok(), pair);
        }
        for what in ["reveal", "rotate"] {
            server.post(&format!("{state}/acme/eab/{what}"), json!({})).await.refused(400, "BadRequest");
        }
        for (path, status) in [
            (format!("{APPLICATIONS}/{UNKNOWN}/profiles/{web}/enrollment"), 404),
            (format!("{APPLICATIONS}/{id}/profiles/{UNKNOWN}/enrollment"), 404),
            (format!("{APPLICATIONS}/{id}/profiles/x/enrollment"), 422),
        ] {
            assert_eq!(server.get(&path).await.status, status, "{path}");
            for below in ["api", "est", "acme", "scep"] {
                let body = json!({"passphrase": "long enough"});
                assert_eq!(put(&server, &format!("{path}/{below}"), body).await.status, status, "{path}/{below}");
                assert_eq!(server.delete(&format!("{path}/{below}")).await.status, status, "{path}/{below}");
            }
        }
        let policy = crate::issuing::policy(&server, crate::issuing::open_policy("own")).await;
        let own = crate::issuing::profile_with(&server, "own", None, &policy, json!({})).await;
        server.post(&format!("{APPLICATIONS}/{id}/profiles"), json!({"profileIds": [own]})).await.ok();
        let state = server.get(&format!("{APPLICATIONS}/{id}/profiles/{own}/enrollment")).await.ok();
        assert_eq!(state["caType"], Value::Null);
    });
}

#[test]
fn members_are_identities_with_one_role() {
    for_each_engine(|server| async move {
        let (one, id) = application(&server, "shop", &[]).await;
        let all = format!("{one}/identities");
        assert_eq!(server.get(&all).await.ok(), json!({"memberships": []}));
        let session = server.identity("no-access", None).await;
        let place = format!("{all}/{}", session.identity);
        assert_eq!(server.post(&place, json!({})).await.issues(), ["role"]);
        server.post(&place, json!({"role": "member"})).await.refused(400, "BadRequest");
        let added = server.post(&place, json!({"role": "operator"})).await.ok();
        assert_eq!(members(&added), ["membership"]);
        let membership = json!({"membershipId": added["membership"]["membershipId"], "applicationId": id,
            "actorUserId": null, "actorIdentityId": session.identity, "actorGroupId": null, "role": "operator",
            "customRoleId": null, "createdAt": server.time(0), "updatedAt": server.time(0),
            "details": {"name": "another", "authMethod": "universal-auth"}});
        assert_eq!(added["membership"], membership);
        server.post(&place, json!({"role": "auditor"})).await.refused(400, "BadRequest");
        assert_eq!(server.get(&all).await.ok(), json!({"memberships": [membership]}));
        server.at(9);
        let changed = server.patch(&place, json!({"role": "auditor"})).await.ok();
        assert_eq!(
            (&changed["membership"]["role"], &changed["membership"]["updatedAt"]),
            (&json!("auditor"), &json!(server.time(9)))
        );
        server.patch(&place, json!({"role": "owner"})).await.refused(400, "BadRequest");
        let removed = server.delete(&place).await.ok();
        assert_eq!(removed, json!({"membershipId": membership["membershipId"], "applicationId": id}));
        for (method, body) in [(Method::PATCH, json!({"role": "admin"})), (Method::DELETE, Value::Null)] {
            server.call(method, &place, &body).await.refused(404, "NotFound");
        }
        for who in [UNKNOWN, &server.other_organization().await.caller.identity.to_string()] {
            server.post(&format!("{all}/{who}"), json!({"role": "admin"})).await.refused(404, "NotFound");
        }
        // With the identity goes the membership.
        server.post(&place, json!({"role": "operator"})).await.ok();
        server.delete(&format!("/api/v1/identities/{}", session.identity)).await.ok();
        assert_eq!(server.get(&all).await.ok(), json!({"memberships": []}));

        // There are neither users nor groups.
        for kind in ["users", "groups"] {
            assert_eq!(server.get(&format!("{one}/{kind}")).await.ok(), json!({"memberships": []}));
            let refused =
                server.post(&format!("{one}/{kind}"), json!({"emails": ["a@example.com"], "role": "admin"})).await;
            assert!(text(&refused.refused(400, "BadRequest")["message"]).contains(kind));
            server.get(&format!("{APPLICATIONS}/{UNKNOWN}/{kind}")).await.refused(404, "NotFound");
            let access = format!("/api/v1/cert-manager/access/{kind}");
            server.get(&access).await.refused(404, "NotFound");
            server.post(&access, json!({"emails": ["a@example.com"]})).await.refused(400, "BadRequest");
            server.get(&format!("{access}/{UNKNOWN}")).await.refused(404, "NotFound");
            for base in [format!("{one}/{kind}"), access] {
                for method in [Method::POST, Method::PATCH, Method::DELETE] {
                    let body = json!({"role": "admin"});
                    server.call(method, &format!("{base}/{UNKNOWN}"), &body).await.refused(404, "NotFound");
                }
            }
        }
    });
}

#[test]
fn a_member_works_with_what_belongs_to_the_application_and_sees_nothing_else() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        let other = profile(&server, "other", json!({})).await;
        let (shop, id) = application(&server, "shop", &[&web]).await;
        let (_, second) = application(&server, "second", &[&web, &other]).await;
        let operator = member(&server, &shop, "operator").await;
        let auditor = member(&server, &shop, "auditor").await;
        let theirs = text(&issue(&server, &web, json!({})).await.ok()["certificateId"]);

        // It finds its application, and no other.
        assert_eq!(operator.get(&format!("{APPLICATIONS}/by-name/shop")).await.ok()["application"]["id"], json!(id));
        operator.get(&format!("{APPLICATIONS}/by-name/second")).await.refused(403, "ProjectMembershipNotFound");
        operator.get(&format!("{APPLICATIONS}/{second}")).await.refused(403, "ProjectMembershipNotFound");
        for reader in [&operator, &auditor] {
            let listed = reader.get(APPLICATIONS).await.ok();
            assert_eq!((&listed["total"], &listed["applications"][0]["id"]), (&json!(1), &json!(id)));
            assert_eq!(reader.get(&format!("{shop}/profiles")).await.ok()["profiles"][0]["profileId"], json!(web));
            assert!(reader.get(&format!("{shop}/profiles/{web}/enrollment")).await.ok()["api"].is_object());
            assert_eq!(
                reader.get(&format!("{shop}/identities")).await.ok()["memberships"].as_array().unwrap().len(),
                2
            );
        }

        // It issues from what is attached, through the application alone.
        let answer = ask(&operator, &web, &id, json!({})).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let answer = answer.ok();
        let made = text(&answer["certificate"]["certificateId"]);
        assert!(answer["certificate"]["privateKey"].is_string());
        ask(&operator, &other, &id, json!({})).await.refused(403, "PermissionDenied");
        ask(&operator, &web, &second, json!({})).await.refused(403, "ProjectMembershipNotFound");
        ask(&auditor, &web, &id, json!({})).await.refused(403, "PermissionDenied");
        let body = json!({"profileId": web, "attributes": {"commonName": "www.example.com", "ttl": "1d"}});
        operator.post(REQUEST, body).await.refused(403, "ProjectMembershipNotFound");
        issue(&operator, &web, json!({})).await.refused(403, "ProjectMembershipNotFound");

        // What came of it is theirs to see, by the role.
        let one = format!("{REQUEST}/{made}");
        for (reader, key) in [(&operator, true), (&auditor, false)] {
            let record = reader.get(&one).await.ok()["certificate"].take();
            assert_eq!((&record["applicationId"], &record["profileName"]), (&json!(id), &json!("web")));
            let request = reader.get(&format!("{REQUESTS}/{made}")).await.ok();
            assert_eq!((request["privateKey"].is_string(), &request["applicationId"]), (key, &json!(id)));
            let status = if key { 200 } else { 403 };
            assert_eq!(reader.get(&format!("{one}/bundle")).await.status, status);
            assert_eq!(reader.get(&format!("{one}/private-key")).await.status, status);
            reader.get(&format!("{REQUEST}/{theirs}")).await.refused(403, "ProjectMembershipNotFound");
            reader.get(&format!("{REQUESTS}/{theirs}")).await.refused(403, "ProjectMembershipNotFound");
            let list = format!("/api/v1/projects/{}/certificates", server.project);
            reader.get(&list).await.refused(403, "ProjectMembershipNotFound");
            reader.get(&format!("{REQUESTS}?projectSlug=default")).await.refused(403, "ProjectMembershipNotFound");
            reader.get(&format!("{PROFILES}/{web}")).await.refused(403, "ProjectMembershipNotFound");
        }
        auditor.post(&format!("{one}/renew"), json!({})).await.refused(403, "PermissionDenied");
        auditor
            .post(&format!("{one}/revoke"), json!({"revocationReason": "SUPERSEDED"}))
            .await
            .refused(403, "PermissionDenied");
        let renewed = operator.post(&format!("{one}/renew"), json!({})).await.ok();
        let next = format!("{REQUEST}/{}", text(&renewed["certificateId"]));
        assert_eq!(operator.get(&next).await.ok()["certificate"]["applicationId"], json!(id));
        operator.post(&format!("{next}/revoke"), json!({"revocationReason": "SUPERSEDED"})).await.ok();
        operator
            .post(&format!("{REQUEST}/{theirs}/revoke"), json!({"revocationReason": "SUPERSEDED"}))
            .await
            .refused(403, "ProjectMembershipNotFound");

        // With the attachment, the role or the application ends the right, at once.
        let made = text(&ask(&operator, &web, &id, json!({})).await.ok()["certificate"]["certificateId"]);
        let one = format!("{REQUEST}/{made}");
        server.delete(&format!("{shop}/profiles/{web}")).await.ok();
        ask(&operator, &web, &id, json!({})).await.refused(403, "PermissionDenied");
        operator.post(&format!("{one}/renew"), json!({})).await.refused(403, "PermissionDenied");
        operator.get(&format!("{one}/bundle")).await.ok();
        server.patch(&format!("{shop}/identities/{}", operator.caller.identity), json!({"role": "auditor"})).await.ok();
        operator.get(&format!("{one}/bundle")).await.refused(403, "PermissionDenied");
        operator.get(&one).await.ok();
        server.delete(&shop).await.ok();
        operator.get(&one).await.refused(403, "ProjectMembershipNotFound");
        operator.get(APPLICATIONS).await.refused(403, "ProjectMembershipNotFound");
        // The certificate is as it was, and is renewed by who may issue from its profile.
        let record = server.get(&one).await.ok()["certificate"].take();
        assert_eq!((&record["status"], &record["applicationId"]), (&json!("active"), &json!(id)));
        let renewed = server.post(&format!("{one}/renew"), json!({})).await.ok();
        assert!(renewed["privateKey"].is_string());
    });
}

#[test]
fn nobody_gives_rights_that_they_do_not_have() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        let other = profile(&server, "other", json!({})).await;
        let (shop, _) = application(&server, "shop", &[&web]).await;
        let admin = member(&server, &shop, "admin").await;
        let operator = member(&server, &shop, "operator").await;
        let newcomer = server.identity("no-access", None).await.identity;
        let place = format!("{shop}/identities/{newcomer}");
        let of_admin = format!("{shop}/identities/{}", admin.caller.identity);

        operator.post(&place, json!({"role": "auditor"})).await.refused(403, "PermissionDenied");
        operator.delete(&of_admin).await.refused(403, "PermissionDenied");
        operator.patch(&shop, json!({"name": "mine"})).await.refused(403, "PermissionDenied");
        operator.delete(&shop).await.refused(403, "PermissionDenied");
        put(&operator, &format!("{shop}/profiles/{web}/enrollment/api"), json!({}))
            .await
            .refused(403, "PermissionDenied");
        put(&operator, &format!("{shop}/profiles/{web}/enrollment/acme"), json!({}))
            .await
            .refused(403, "PermissionDenied");
        admin.post(&place, json!({"role": "admin"})).await.ok();
        admin.patch(&place, json!({"role": "operator"})).await.ok();
        admin.delete(&place).await.ok();
        admin.patch(&shop, json!({"description": "ours"})).await.ok();
        put(&admin, &format!("{shop}/profiles/{web}/enrollment/api"), json!({"autoRenew": true})).await.ok();
        // Which profiles an application has is not for its members to say.
        admin.post(&format!("{shop}/profiles"), json!({"profileIds": [other]})).await.refused(403, "PermissionDenied");
        admin.delete(&format!("{shop}/profiles/{web}")).await.refused(403, "PermissionDenied");
        admin.post(APPLICATIONS, json!({"name": "own"})).await.refused(403, "ProjectMembershipNotFound");

        // A role of the project that manages applications gives nothing that it lacks.
        let actions = Action::ALL.iter().filter(|action| action.subject().as_str() == "certificate-application");
        let all: Vec<&str> = actions.map(|action| action.as_str()).collect();
        assert_eq!(all, ["read", "create", "edit", "delete", "manage-profiles"]);
        let manager =
            with_rules(&server, "manager", json!([{"subject": "certificate-application", "action": all}])).await;
        manager
            .post(&format!("{shop}/profiles"), json!({"profileIds": [other]}))
            .await
            .refused(403, "PermissionBoundaryError");
        manager
            .post(APPLICATIONS, json!({"name": "own", "profileIds": [other]}))
            .await
            .refused(403, "PermissionBoundaryError");
        manager.post(&place, json!({"role": "operator"})).await.refused(403, "PermissionBoundaryError");
        manager.patch(&of_admin, json!({"role": "auditor"})).await.refused(403, "PermissionBoundaryError");
        manager.delete(&of_admin).await.refused(403, "PermissionBoundaryError");
        manager.delete(&format!("{shop}/profiles/{web}")).await.ok();
        let own = manager.post(APPLICATIONS, json!({"name": "own"})).await.ok();
        manager.delete(&format!("{APPLICATIONS}/{}", text(&own["application"]["id"]))).await.ok();

        // Conditions on the name hold, also for the name that it is to have.
        let rules = json!([{"subject": "certificate-application", "action": ["list", "create", "edit"],
            "conditions": {"name": {"$glob": "team-*"}}}]);
        let team = with_rules(&server, "team", rules).await;
        let made = text(&team.post(APPLICATIONS, json!({"name": "team-a"})).await.ok()["application"]["id"]);
        team.post(APPLICATIONS, json!({"name": "shop-b"})).await.refused(403, "PermissionDenied");
        team.patch(&format!("{APPLICATIONS}/{made}"), json!({"name": "shop-b"})).await.refused(403, "PermissionDenied");
        team.patch(&format!("{APPLICATIONS}/{made}"), json!({"name": "team-b"})).await.ok();
        team.get(&shop).await.refused(403, "PermissionDenied");
        assert_eq!(team.get(APPLICATIONS).await.ok()["total"], 1);

        for (role, reads, makes) in [
            ("admin", 200, 200),
            ("member", 200, 403),
            ("viewer", 200, 403),
            ("issuer", 200, 403),
            ("no-access", 403, 403),
        ] {
            let caller = server.by(&server.identity("no-access", Some(role)).await);
            assert_eq!(caller.get(&shop).await.status, reads, "{role}");
            assert_eq!(caller.get(APPLICATIONS).await.status, reads, "{role}");
            assert_eq!(caller.post(APPLICATIONS, json!({"name": format!("of-{role}")})).await.status, makes, "{role}");
        }
    });
}

#[test]
fn a_request_names_an_application_that_issues_from_the_profile() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        let other = profile(&server, "other", json!({})).await;
        let made = server.post(APPLICATIONS, json!({"name": "shop", "profileIds": [web]})).await.ok();
        let id = text(&made["application"]["id"]);
        ask(&server, &web, UNKNOWN, json!({})).await.refused(404, "NotFound");
        let body = json!({"profileId": web, "applicationId": "x", "attributes": {"ttl": "1d"}});
        assert_eq!(server.post(REQUEST, body).await.issues(), ["applicationId"]);
        let refused = ask(&server, &other, &id, json!({})).await.refused(400, "BadRequest");
        assert!(text(&refused["message"]).contains("not attached"), "{refused}");
        let refused = ask(&server, &web, &id, json!({})).await.refused(403, "ForbiddenError");
        assert!(text(&refused["message"]).contains("enrollment/api"), "{refused}");
        put(&server, &format!("{APPLICATIONS}/{id}/profiles/{web}/enrollment/api"), json!({})).await.ok();
        let issued = ask(&server, &web, &id, json!({})).await.ok();
        let path = format!("{REQUEST}/{}", text(&issued["certificate"]["certificateId"]));
        assert_eq!(server.get(&path).await.ok()["certificate"]["applicationId"], json!(id));
        let bare = json!({"profileId": web, "applicationId": null, "attributes": {"commonName": "a.example.com", "ttl": "1d",
            "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256"}});
        let bare = server.post(REQUEST, bare).await.ok();
        let path = format!("{REQUEST}/{}", text(&bare["certificate"]["certificateId"]));
        assert_eq!(server.get(&path).await.ok()["certificate"]["applicationId"], Value::Null);

        // Repeating is safe, and a kept answer is for who may still ask.
        let operator = member(&server, &format!("{APPLICATIONS}/{id}"), "operator").await;
        let body = json!({"profileId": web, "applicationId": id, "attributes": {"commonName": "b.example.com", "ttl": "1d",
            "keyAlgorithm": "EC_prime256v1", "signatureAlgorithm": "ECDSA-SHA256"}});
        let first = operator.post_once("once", REQUEST, &body).await;
        assert_eq!(operator.post_once("once", REQUEST, &body).await.raw, first.raw);
        assert!(first.ok()["certificate"]["privateKey"].is_string());
        server.delete(&format!("{APPLICATIONS}/{id}/profiles/{web}/enrollment/api")).await.ok();
        ask(&operator, &web, &id, json!({})).await.refused(403, "ForbiddenError");
        server.delete(&format!("{APPLICATIONS}/{id}/identities/{}", operator.caller.identity)).await.ok();
        operator.post_once("once", REQUEST, &body).await.refused(403, "ProjectMembershipNotFound");
    });
}

#[test]
fn the_application_says_whether_what_it_issued_is_renewed_by_itself() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        server
            .patch(&format!("{PROFILES}/{web}"), json!({"apiConfig": {"autoRenew": true, "renewBeforeDays": 20}}))
            .await
            .ok();
        let (shop, id) = application(&server, "shop", &[&web]).await;
        let days = async |certificate: &Value| {
            let path = format!("{REQUEST}/{}", text(&certificate["certificateId"]));
            server.get(&path).await.ok()["certificate"]["renewBeforeDays"].take()
        };
        // Without renewal here, the profile's does not count.
        assert_eq!(days(&ask(&server, &web, &id, json!({})).await.ok()["certificate"]).await, Value::Null);
        assert_eq!(days(&issue(&server, &web, json!({"ttl": "30d"})).await.ok()).await, 20);
        let api = format!("{shop}/profiles/{web}/enrollment/api");
        put(&server, &api, json!({"autoRenew": true, "renewBeforeDays": 5})).await.ok();
        let planned = ask(&server, &web, &id, json!({})).await.ok()["certificate"].take();
        assert_eq!(days(&planned).await, 5);
        let until = certificate(&planned).not_after() - server.start.seconds();

        // It happens also once the profile is detached, and the successor goes on.
        server.delete(&format!("{shop}/profiles/{web}")).await.ok();
        server.at(until - 5 * DAY + 1);
        run_jobs(&server).await;
        let record =
            server.get(&format!("{REQUEST}/{}", text(&planned["certificateId"]))).await.ok()["certificate"].take();
        let next =
            server.get(&format!("{REQUEST}/{}", text(&record["renewedByCertificateId"]))).await.ok()["certificate"]
                .take();
        assert_eq!((&next["applicationId"], &next["renewBeforeDays"]), (&json!(id), &json!(5)));
    });
}

#[test]
fn another_organisation_finds_no_application() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        let (shop, id) = application(&server, "shop", &[&web]).await;
        let other = server.other_organization().await;
        let theirs = first_profile_of(&other).await;
        for (method, path, body) in [
            (Method::GET, shop.clone(), Value::Null),
            (Method::PATCH, shop.clone(), json!({"name": "x"})),
            (Method::DELETE, shop.clone(), Value::Null),
            (Method::GET, format!("{shop}/profiles"), Value::Null),
            (Method::POST, format!("{shop}/profiles"), json!({"profileIds": [theirs]})),
            (Method::DELETE, format!("{shop}/profiles/{web}"), Value::Null),
            (Method::GET, format!("{shop}/profiles/{web}/enrollment"), Value::Null),
            (Method::PUT, format!("{shop}/profiles/{web}/enrollment/api"), json!({})),
            (Method::GET, format!("{shop}/identities"), Value::Null),
            (Method::POST, format!("{shop}/identities/{}", other.caller.identity), json!({"role": "admin"})),
            (Method::GET, format!("{APPLICATIONS}/by-name/shop"), Value::Null),
        ] {
            other.call(method, &path, &body).await.refused(404, "NotFound");
        }
        ask(&other, &theirs, &id, json!({})).await.refused(404, "NotFound");
        assert_eq!(other.get(APPLICATIONS).await.ok(), json!({"applications": [], "total": 0}));
        // A name belongs to a project.
        other.post(APPLICATIONS, json!({"name": "shop"})).await.ok();
    });
}

#[test]
fn changes_of_applications_are_in_the_audit() {
    for_each_engine(|server| async move {
        let web = profile(&server, "web", json!({})).await;
        let (shop, _) = application(&server, "shop", &[&web]).await;
        let operator = member(&server, &shop, "operator").await;
        put(&server, &format!("{shop}/profiles/{web}/enrollment/est"), json!({"passphrase": "long enough"})).await.ok();
        let place = format!("{shop}/identities/{}", operator.caller.identity);
        server.patch(&place, json!({"role": "auditor"})).await.ok();
        server.delete(&place).await.ok();
        server.delete(&format!("{shop}/profiles/{web}")).await.ok();
        server.post(&format!("{shop}/profiles"), json!({"profileIds": [web]})).await.ok();
        server.patch(&shop, json!({"name": "store"})).await.ok();
        server.delete(&shop).await.ok();
        let sql = "SELECT event, detail FROM audit_records WHERE event LIKE 'application%' ORDER BY seq";
        let rows = server.services.db.rows(sql, vec![]).await.unwrap();
        let events: Vec<&str> = rows.iter().map(|row| row.text(0).unwrap()).collect();
        assert_eq!(
            events,
            [
                "application-created",
                "application-enrollment-changed",
                "application-member-added",
                "application-enrollment-changed",
                "application-member-changed",
                "application-member-removed",
                "application-profile-detached",
                "application-profiles-attached",
                "application-changed",
                "application-deleted",
            ]
        );
        for row in rows {
            let detail = row.text(1).unwrap();
            assert!(!detail.contains("long enough") && !detail.contains("pbkdf2"), "{detail}");
        }
    });
}
