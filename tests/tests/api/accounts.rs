//! Logging in, identities, projects, members and roles (contract §2).

use crate::server::{Server, for_each_engine, members, text};
use serde_json::{Value, json};

const LOGIN: &str = "/api/v1/auth/universal-auth/login";
const UNKNOWN: &str = "0198c5a0-0000-7000-8000-000000000001";

fn auth_path(identity: impl std::fmt::Display) -> String {
    format!("/api/v1/auth/universal-auth/identities/{identity}")
}

#[test]
fn a_login_takes_json_and_forms_with_and_without_a_slash_at_the_end() {
    for_each_engine(|server| async move {
        let (id, secret) = (server.caller.client_id.as_str(), server.caller.client_secret.as_str());
        let slashed = format!("{LOGIN}/");
        let padded = format!(" {secret}\n");
        for answer in [
            server.anonymous(LOGIN, json!({"clientId": id, "clientSecret": secret})).await,
            server
                .anonymous(&slashed, json!({"clientId": id, "clientSecret": padded, "subOrganizationName": null}))
                .await,
            server.form(LOGIN, &[("clientId", id), ("clientSecret", secret)]).await,
            server.form(&slashed, &[("clientId", id), ("clientSecret", secret), ("organizationSlug", "x")]).await,
        ] {
            assert_eq!(answer.headers["cache-control"], "no-store");
            let body = answer.ok();
            assert_eq!(members(&body), ["accessToken", "accessTokenMaxTTL", "expiresIn", "tokenType"]);
            assert_eq!((&body["expiresIn"], &body["accessTokenMaxTTL"]), (&json!(2_592_000), &json!(31_536_000)));
            assert_eq!(body["tokenType"], "Bearer");
        }
        server
            .anonymous(LOGIN, json!({"clientId": UNKNOWN, "clientSecret": secret}))
            .await
            .refused(401, "UnauthorizedError");
        server
            .anonymous(LOGIN, json!({"clientId": id, "clientSecret": "wrong"}))
            .await
            .refused(401, "UnauthorizedError");
        assert_eq!(server.anonymous(LOGIN, json!({})).await.issues(), ["clientId", "clientSecret"]);
        server.post("/api/v1/auth/checkAuth", json!({})).await.ok();
        server.anonymous("/api/v1/auth/checkAuth", json!({})).await.refused(401, "UnauthorizedError");
        // Credentials of another kind (contract §2.1).
        for (name, value) in [("x-api-key", "k"), ("authorization", "Bearer st.abc")] {
            let request = reqwest::Client::new().post(format!("{}/api/v1/auth/checkAuth", server.url));
            let status = request.header(name, value).json(&json!({})).send().await.unwrap().status();
            assert_eq!(status.as_u16(), 403, "{name}");
        }
    });
}

#[test]
fn wrong_secrets_lock_a_client_id_for_a_while() {
    for_each_engine(|server| async move {
        let session = server.identity("no-access", None).await;
        let auth = auth_path(session.identity);
        let settings = json!({"lockoutThreshold": 2, "lockoutDurationSeconds": 60, "lockoutCounterResetSeconds": 10});
        server.patch(&auth, settings).await.ok();
        let wrong = json!({"clientId": session.client_id, "clientSecret": "wrong"});
        let right = json!({"clientId": session.client_id, "clientSecret": session.client_secret});

        server.anonymous(LOGIN, wrong.clone()).await.refused(401, "UnauthorizedError");
        server.at(11);
        server.anonymous(LOGIN, wrong.clone()).await.refused(401, "UnauthorizedError");
        server.anonymous(LOGIN, right.clone()).await.ok();
        for _ in 0..2 {
            server.anonymous(LOGIN, wrong.clone()).await.refused(401, "UnauthorizedError");
        }
        server.anonymous(LOGIN, right.clone()).await.refused(401, "UnauthorizedError");
        server.at(11 + 61);
        server.anonymous(LOGIN, right.clone()).await.ok();

        for _ in 0..2 {
            server.anonymous(LOGIN, wrong.clone()).await.refused(401, "UnauthorizedError");
        }
        server.anonymous(LOGIN, right.clone()).await.refused(401, "UnauthorizedError");
        let clear = format!("{auth}/clear-lockouts");
        assert_eq!(server.post(&clear, json!({})).await.ok(), json!({"deleted": 1}));
        server.anonymous(LOGIN, right).await.ok();
        assert_eq!(server.post(&clear, json!({})).await.ok(), json!({"deleted": 0}));
    });
}

#[test]
fn a_token_is_renewed_until_its_greatest_lifetime_and_revoked_at_once() {
    for_each_engine(|server| async move {
        const RENEW: &str = "/api/v1/auth/token/renew";
        const REVOKE: &str = "/api/v1/auth/token/revoke";
        let session = server.identity("member", None).await;
        server.patch(&auth_path(session.identity), json!({"accessTokenTTL": 100, "accessTokenMaxTTL": 250})).await.ok();
        let login = json!({"clientId": session.client_id, "clientSecret": session.client_secret});
        let token = |body: Value| text(&body["accessToken"]);
        let first = token(server.anonymous(LOGIN, login.clone()).await.ok());
        let with = |token: &str| server.by(&crate::server::Session { token: token.into(), ..session.clone() });

        server.at(90);
        let second = token(server.anonymous(RENEW, json!({"accessToken": first})).await.ok());
        assert_ne!(first, second);
        server.at(140);
        with(&first).get("/api/v1/identities/details").await.refused(403, "TokenError");
        with(&second).get("/api/v1/identities/details").await.ok();
        server.at(160);
        server.anonymous(RENEW, json!({"accessToken": second})).await.refused(401, "UnauthorizedError");
        with(&second).get("/api/v1/identities/details").await.refused(401, "UnauthorizedError");

        let third = token(server.anonymous(LOGIN, login).await.ok());
        with(&third).get("/api/v1/identities/details").await.ok();
        server.anonymous(REVOKE, json!({"accessToken": third})).await.ok();
        with(&third).get("/api/v1/identities/details").await.refused(401, "UnauthorizedError");
        server.anonymous(REVOKE, json!({"accessToken": third})).await.refused(401, "UnauthorizedError");
        for forged in ["x", "a.b.c", &format!("{third}x"), &third[..third.len() - 4]] {
            server.anonymous(RENEW, json!({"accessToken": forged})).await.refused(403, "TokenError");
            with(forged).get("/api/v1/projects").await.refused(403, "TokenError");
        }
    });
}

#[test]
fn a_periodic_token_can_be_renewed_for_ever() {
    for_each_engine(|server| async move {
        let session = server.identity("member", None).await;
        let auth = auth_path(session.identity);
        server
            .patch(&auth, json!({"accessTokenTTL": 10, "accessTokenMaxTTL": 20, "accessTokenPeriod": 100}))
            .await
            .ok();
        let login = json!({"clientId": session.client_id, "clientSecret": session.client_secret});
        let mut body = server.anonymous(LOGIN, login).await.ok();
        assert_eq!((&body["expiresIn"], &body["accessTokenMaxTTL"]), (&json!(100), &json!(1_000_000_000)));
        for step in 1..=5 {
            server.at(90 * step);
            body = server.anonymous("/api/v1/auth/token/renew", json!({"accessToken": body["accessToken"]})).await.ok();
        }
        server.at(90 * 5 + 101);
        server
            .anonymous("/api/v1/auth/token/renew", json!({"accessToken": body["accessToken"]}))
            .await
            .refused(403, "TokenError");
    });
}

#[test]
fn secrets_and_tokens_end_with_their_uses_their_time_and_their_network() {
    for_each_engine(|server| async move {
        let session = server.identity("member", None).await;
        let auth = auth_path(session.identity);
        let secrets = format!("{auth}/client-secrets");
        let log_in = |secret: &Value| {
            let (server, body) = (server.clone(), json!({"clientId": session.client_id, "clientSecret": secret}));
            async move { server.anonymous(LOGIN, body).await }
        };
        let made = server.post(&secrets, json!({"description": "two", "numUsesLimit": 2, "ttl": 100})).await;
        assert_eq!(made.headers["cache-control"], "no-store");
        let made = made.ok();
        log_in(&made["clientSecret"]).await.ok();
        log_in(&made["clientSecret"]).await.ok();
        log_in(&made["clientSecret"]).await.refused(401, "UnauthorizedError");
        let id = text(&made["clientSecretData"]["id"]);
        let record = server.get(&format!("{secrets}/{id}")).await.ok()["clientSecretData"].take();
        assert_eq!(record["clientSecretNumUses"], 2);
        assert_eq!(record["isClientSecretRevoked"], true);
        assert_eq!(record["clientSecretPrefix"].as_str(), made["clientSecret"].as_str().map(|secret| &secret[..4]));
        assert!(!record.to_string().contains(&text(&made["clientSecret"])));

        let made = server.post(&secrets, json!({"ttl": 100})).await.ok();
        server.at(101);
        log_in(&made["clientSecret"]).await.refused(401, "UnauthorizedError");

        let made = server.post(&secrets, json!({})).await.ok();
        log_in(&made["clientSecret"]).await.ok();
        let revoke = format!("{secrets}/{}/revoke", text(&made["clientSecretData"]["id"]));
        assert_eq!(server.post(&revoke, json!({})).await.ok()["clientSecretData"]["isClientSecretRevoked"], true);
        log_in(&made["clientSecret"]).await.refused(401, "UnauthorizedError");
        assert_eq!(server.get(&secrets).await.ok()["clientSecretData"].as_array().map(Vec::len), Some(4));

        server.patch(&auth, json!({"accessTokenNumUsesLimit": 2})).await.ok();
        let token = text(&log_in(&json!(session.client_secret)).await.ok()["accessToken"]);
        let limited = server.by(&crate::server::Session { token, ..session.clone() });
        limited.get("/api/v1/projects").await.ok();
        limited.get("/api/v1/projects").await.ok();
        limited.get("/api/v1/projects").await.refused(401, "UnauthorizedError");

        let only = json!([{"ipAddress": "192.0.2.0/24"}]);
        server.patch(&auth, json!({"accessTokenNumUsesLimit": 0, "accessTokenTrustedIps": only})).await.ok();
        let token = text(&log_in(&json!(session.client_secret)).await.ok()["accessToken"]);
        let elsewhere = server.by(&crate::server::Session { token, ..session.clone() });
        elsewhere.get("/api/v1/projects").await.refused(403, "ForbiddenError");
        server.patch(&auth, json!({"clientSecretTrustedIps": only})).await.ok();
        log_in(&json!(session.client_secret)).await.refused(403, "ForbiddenError");
    });
}

#[test]
fn universal_auth_is_configured_shown_changed_and_taken_away() {
    for_each_engine(|server| async move {
        let made = server.post("/api/v1/identities", json!({"name": "machine"})).await.ok();
        let id = text(&made["identity"]["id"]);
        let auth = auth_path(&id);
        server.get(&auth).await.refused(404, "NotFound");
        assert_eq!(
            server.post(&auth, json!({"accessTokenTTL": 200, "accessTokenMaxTTL": 100})).await.issues(),
            ["accessTokenTTL"]
        );
        assert_eq!(
            server
                .post(
                    &auth,
                    json!({"clientSecretTrustedIps": [], "accessTokenTrustedIps": [{"ipAddress": "here"}],
                    "accessTokenTTL": -1, "lockoutThreshold": 31, "lockoutDurationSeconds": 29})
                )
                .await
                .issues(),
            [
                "clientSecretTrustedIps",
                "accessTokenTrustedIps.0.ipAddress",
                "accessTokenTTL",
                "lockoutThreshold",
                "lockoutDurationSeconds"
            ]
        );
        let networks = json!([{"ipAddress": "10.1.2.3/8"}, {"ipAddress": "::1"}]);
        let shown = server.post(&auth, json!({"accessTokenTrustedIps": networks, "accessTokenTTL": 60})).await.ok();
        let shown = &shown["identityUniversalAuth"];
        assert_eq!(
            members(shown),
            [
                "accessTokenMaxTTL",
                "accessTokenNumUsesLimit",
                "accessTokenPeriod",
                "accessTokenTTL",
                "accessTokenTrustedIps",
                "clientId",
                "clientSecretTrustedIps",
                "createdAt",
                "id",
                "identityId",
                "lockoutCounterResetSeconds",
                "lockoutDurationSeconds",
                "lockoutEnabled",
                "lockoutThreshold",
                "updatedAt"
            ]
        );
        assert_eq!(
            shown["accessTokenTrustedIps"],
            json!([{"ipAddress": "10.0.0.0", "prefix": 8, "type": "ipv4"}, {"ipAddress": "::1", "type": "ipv6"}])
        );
        assert_eq!(shown["createdAt"], server.time(0));
        server.post(&auth, json!({})).await.refused(400, "BadRequest");
        assert_eq!(server.get(&auth).await.ok()["identityUniversalAuth"], *shown);
        assert_eq!(server.patch(&auth, json!({"accessTokenMaxTTL": 59})).await.issues(), ["accessTokenTTL"]);
        let changed = server.patch(&auth, json!({"accessTokenMaxTTL": 0})).await.ok();
        assert_eq!(changed["identityUniversalAuth"]["accessTokenTTL"], 60);
        assert_eq!(
            server.get(&format!("/api/v1/identities/{id}")).await.ok()["identity"]["authMethods"],
            json!(["universal-auth"])
        );
        server.delete(&auth).await.ok();
        server.get(&auth).await.refused(404, "NotFound");
    });
}

#[test]
fn identities_are_made_listed_changed_and_deleted_by_admins_of_the_organisation() {
    for_each_engine(|server| async move {
        server.at(1);
        let all = "/api/v1/identities";
        let metadata = json!([{"key": "team", "value": "web"}]);
        let body =
            json!({"name": " web ", "role": "member", "organizationId": server.organization, "metadata": metadata});
        let made = server.post(all, body).await.ok()["identity"].take();
        assert_eq!((&made["name"], &made["role"], &made["metadata"]), (&json!("web"), &json!("member"), &metadata));
        assert_eq!(made["orgId"], json!(server.organization));
        let one = format!("{all}/{}", text(&made["id"]));
        let shown = server.get(&one).await.ok()["identity"].take();
        assert_eq!((&shown["id"], &shown["identity"]["id"]), (&made["id"], &made["id"]));
        let listed = server.get(&format!("{all}?orgId={}&limit=1&offset=1", server.organization)).await.ok();
        assert_eq!((&listed["totalCount"], &listed["identities"][0]["id"]), (&json!(2), &made["id"]));
        let details = server.get("/api/v1/identities/details").await.ok();
        let organization = json!({"id": server.organization, "name": "Chancery", "slug": "chancery"});
        assert_eq!(details, json!({"identityDetails": {"organization": organization}}));

        let changed = server.patch(&one, json!({"name": "api", "hasDeleteProtection": true})).await.ok();
        assert_eq!((&changed["identity"]["name"], &changed["identity"]["role"]), (&json!("api"), &json!("member")));
        server.delete(&one).await.refused(403, "ForbiddenError");
        server.patch(&one, json!({"hasDeleteProtection": false})).await.ok();
        server.delete(&one).await.ok();
        server.get(&one).await.refused(404, "NotFound");

        server.post(all, json!({"name": "x", "organizationId": UNKNOWN})).await.refused(404, "NotFound");
        assert_eq!(server.post(all, json!({"name": "", "role": "owner"})).await.issues(), ["name", "role"]);
        assert_eq!(server.get(&format!("{all}/x")).await.issues(), ["identityId"]);
        assert_eq!(server.get(&format!("{all}?limit=0")).await.issues(), ["limit"]);

        let member = server.by(&server.identity("member", None).await);
        member.get(all).await.ok();
        member.post(all, json!({"name": "x"})).await.refused(403, "PermissionDenied");
        let nobody = server.identity("no-access", None).await;
        server.by(&nobody).get(all).await.refused(403, "PermissionDenied");
        server.by(&nobody).get(&format!("{all}/{}", nobody.identity)).await.ok();
    });
}

#[test]
fn projects_are_made_found_changed_and_deleted() {
    for_each_engine(|server| async move {
        let body = json!({"projectName": "Web", "slug": "", "type": "cert-manager", "organizationSlug": "chancery",
            "projectDescription": "x", "shouldCreateDefaultEnvs": true, "hasDeleteProtection": true});
        let made = server.post("/api/v2/workspace", body).await.ok()["project"].take();
        let (id, slug) = (text(&made["id"]), text(&made["slug"]));
        assert!(slug.starts_with("web-"), "{slug}");
        assert_eq!(
            members(&made),
            [
                "auditLogsRetentionDays",
                "autoCapitalization",
                "createdAt",
                "description",
                "environments",
                "hasDeleteProtection",
                "id",
                "kmsSecretManagerKeyId",
                "name",
                "orgId",
                "slug",
                "type",
                "updatedAt",
                "upgradeStatus",
                "version"
            ]
        );
        for (path, member) in [
            (format!("/api/v2/workspace/{slug}"), None),
            (format!("/api/v1/projects/slug/{slug}"), None),
            (format!("/api/v1/projects/{id}"), Some("project")),
            (format!("/api/v1/workspace/{id}"), Some("workspace")),
        ] {
            let body = server.get(&path).await.ok();
            assert_eq!(member.map_or(&body, |member| &body[member]), &made, "{path}");
        }
        for (path, member) in [("/api/v1/projects", "projects"), ("/api/v1/workspace", "workspaces")] {
            assert_eq!(server.get(path).await.ok()[member].as_array().map(Vec::len), Some(2), "{path}");
        }
        let other = server.get("/api/v1/projects?type=secret-manager").await.ok();
        assert_eq!(other, json!({"projects": []}));

        let one = format!("/api/v1/projects/{id}");
        server.delete(&one).await.refused(403, "ForbiddenError");
        let change = json!({"name": "Web 2", "slug": "web-two", "description": null, "hasDeleteProtection": false});
        let changed = server.patch(&one, change).await.ok()["project"].take();
        assert_eq!((&changed["slug"], &changed["description"]), (&json!("web-two"), &Value::Null));
        server.patch(&one, json!({"slug": "default"})).await.refused(400, "BadRequest");
        server.delete("/api/v2/workspace/web-two").await.ok();
        server.get(&one).await.refused(404, "NotFound");

        server.post("/api/v1/projects", json!({"projectName": "x", "type": "kms"})).await.refused(400, "BadRequest");
        server
            .post("/api/v1/projects", json!({"projectName": "x", "organizationSlug": "y"}))
            .await
            .refused(404, "NotFound");
        assert_eq!(server.post("/api/v1/projects", json!({"slug": "a_b"})).await.issues(), ["projectName", "slug"]);
        let active = server.get("/api/v1/cert-manager/instance/active-project").await.ok();
        assert_eq!((&active["projectId"], &active["project"]["slug"]), (&json!(server.project), &json!("default")));

        let outsider = server.by(&server.identity("member", None).await);
        outsider.get(&format!("/api/v1/projects/{}", server.project)).await.refused(403, "ProjectMembershipNotFound");
        assert_eq!(outsider.get("/api/v1/projects").await.ok(), json!({"projects": []}));
        let own = outsider.post("/api/v1/projects", json!({"projectName": "Mine"})).await.ok()["project"].take();
        outsider.delete(&format!("/api/v1/projects/{}", text(&own["id"]))).await.ok();
        let nobody = server.by(&server.identity("no-access", None).await);
        nobody.post("/api/v1/projects", json!({"projectName": "Mine"})).await.refused(403, "PermissionDenied");
    });
}

#[test]
fn members_are_added_changed_and_removed_in_every_family() {
    for_each_engine(|server| async move {
        server.at(1);
        let identity = server.identity("no-access", None).await.identity;
        let project = server.project;
        for (all, one) in [
            (
                format!("/api/v2/workspace/{project}/identity-memberships"),
                format!("/api/v2/workspace/{project}/identity-memberships/{identity}"),
            ),
            (
                format!("/api/v1/projects/{project}/memberships/identities"),
                format!("/api/v1/projects/{project}/memberships/identities/{identity}"),
            ),
            (
                "/api/v1/cert-manager/access/identities".to_owned(),
                format!("/api/v1/cert-manager/access/identities/{identity}"),
            ),
        ] {
            server.get(&one).await.refused(404, "NotFound");
            let added =
                server.post(&one, json!({"roles": [{"role": "viewer"}]})).await.ok()["identityMembership"].take();
            assert_eq!(added["identityId"], json!(identity), "{one}");
            assert_eq!(added["project"], json!({"id": project, "name": "Default"}));
            assert_eq!(added["identity"]["authMethods"], json!(["universal-auth"]));
            assert_eq!(
                (&added["roles"][0]["role"], &added["roles"][0]["isTemporary"]),
                (&json!("viewer"), &json!(false))
            );
            server.post(&one, json!({"role": "viewer"})).await.refused(400, "BadRequest");
            assert_eq!(server.get(&one).await.ok()["identityMembership"], added);
            let listed = server.get(&all).await.ok();
            assert_eq!((&listed["totalCount"], &listed["identityMemberships"][1]), (&json!(2), &added));

            let temporary = json!({"role": "issuer", "isTemporary": true, "temporaryMode": "relative",
                "temporaryRange": "1h", "temporaryAccessStartTime": server.time(0)});
            let changed = server.patch(&one, json!({"roles": [temporary]})).await.ok();
            assert_eq!(changed["roles"], changed["identityMembership"]["roles"]);
            let role = &changed["roles"][0];
            assert_eq!((&role["role"], &role["temporaryRange"]), (&json!("issuer"), &json!("1h")));
            assert_eq!(role["temporaryAccessEndTime"], server.time(3600));
            server.patch(&one, json!({"roles": [{"role": "owner"}]})).await.refused(404, "NotFound");
            assert_eq!(server.patch(&one, json!({})).await.issues(), ["roles"]);
            server.delete(&one).await.ok();
            server.delete(&one).await.refused(404, "NotFound");
        }
        let identities = server.get(&format!("/api/v1/projects/{project}/identities?limit=1000")).await.ok();
        assert_eq!(
            (&identities["totalCount"], &identities["identities"][0]["id"]),
            (&json!(1), &json!(server.caller.identity))
        );
    });
}

#[test]
fn a_temporary_role_begins_and_ends_by_itself() {
    for_each_engine(|server| async move {
        let session = server.identity("no-access", Some("no-access")).await;
        let member = server.by(&session);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        let path = format!("/api/v1/projects/{}/memberships/identities/{}", server.project, session.identity);
        let temporary = json!({"role": "viewer", "isTemporary": true, "temporaryMode": "relative",
            "temporaryRange": "1h", "temporaryAccessStartTime": server.time(3600)});
        server.patch(&path, json!({"roles": [temporary]})).await.ok();
        member.get(&roles).await.refused(403, "PermissionDenied");
        server.at(3600 + 10);
        member.get(&roles).await.ok();
        server.at(7200 + 10);
        member.get(&roles).await.refused(403, "PermissionDenied");
    });
}

#[test]
fn nobody_gives_or_takes_a_role_beyond_their_own() {
    for_each_engine(|server| async move {
        let rules = json!([{"subject": "identity", "action": ["read", "create", "edit", "delete"]},
            {"subject": "role", "action": ["read", "create", "edit", "delete"]}]);
        let path = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&path, json!({"slug": "clerk", "name": "Clerk", "permissions": rules})).await.ok();
        let clerk = server.by(&server.identity("no-access", Some("clerk")).await);
        let other = server.identity("no-access", None).await.identity;
        let one = |identity| format!("/api/v1/projects/{}/memberships/identities/{identity}", server.project);
        clerk.post(&one(other), json!({"role": "admin"})).await.refused(403, "PermissionBoundaryError");
        clerk.post(&one(other), json!({"role": "clerk"})).await.ok();
        clerk.patch(&one(other), json!({"roles": [{"role": "member"}]})).await.refused(403, "PermissionBoundaryError");
        clerk
            .patch(&one(server.caller.identity), json!({"roles": [{"role": "clerk"}]}))
            .await
            .refused(403, "PermissionBoundaryError");
        clerk.delete(&one(server.caller.identity)).await.refused(403, "PermissionBoundaryError");
        let more = json!([{"subject": "certificates", "action": "read-private-key"}]);
        clerk
            .post(&path, json!({"slug": "keys", "name": "Keys", "permissions": more}))
            .await
            .refused(403, "PermissionBoundaryError");
        clerk
            .patch(&format!("{path}/clerk"), json!({"permissions": more}))
            .await
            .refused(403, "PermissionBoundaryError");
    });
}

#[test]
fn roles_are_made_listed_changed_and_deleted() {
    for_each_engine(|server| async move {
        let all = format!("/api/v1/projects/{}/roles", server.project);
        let rules =
            json!([{"subject": "certificates", "action": ["read"], "conditions": {"commonName": {"$glob": "*.web"}}}]);
        let made = server.post(&all, json!({"slug": "Web-Reader", "name": "Reader", "permissions": rules})).await.ok();
        let made = &made["role"];
        assert_eq!(
            members(made),
            ["createdAt", "description", "id", "name", "permissions", "projectId", "slug", "updatedAt"]
        );
        assert_eq!((&made["slug"], &made["permissions"][0]["inverted"]), (&json!("web-reader"), &json!(false)));
        assert_eq!(made["permissions"][0]["conditions"], rules[0]["conditions"]);
        let one = format!("{all}/web-reader");
        assert_eq!(server.get(&one).await.ok()["role"], *made);
        let listed = server.get(&all).await.ok();
        let slugs: Vec<&str> =
            listed["roles"].as_array().unwrap().iter().filter_map(|role| role["slug"].as_str()).collect();
        assert_eq!(slugs, ["admin", "member", "viewer", "no-access", "issuer", "web-reader"]);
        assert_eq!(server.get(&format!("{all}/issuer")).await.ok()["role"]["id"], Value::Null);

        server
            .post(&all, json!({"slug": "web-reader", "name": "x", "permissions": []}))
            .await
            .refused(400, "BadRequest");
        server.post(&all, json!({"slug": "admin", "name": "x", "permissions": []})).await.refused(400, "BadRequest");
        server.patch(&format!("{all}/admin"), json!({"name": "x"})).await.refused(403, "ForbiddenError");
        server.get(&format!("{all}/nothing")).await.refused(404, "NotFound");
        assert_eq!(server.post(&all, json!({"permissions": 1})).await.issues(), ["slug", "name", "permissions"]);
        let wrong = json!([{"subject": "certificates", "action": ["read", "fly"]}, {"subject": "x", "action": "read"},
            {"subject": "certificates", "action": "read", "conditions": {"colour": "red"}}]);
        assert_eq!(
            server.post(&all, json!({"slug": "x", "name": "x", "permissions": wrong})).await.issues(),
            ["permissions.0.action.1", "permissions.1.subject", "permissions.2.conditions.colour"]
        );

        let session = server.identity("no-access", Some("web-reader")).await;
        let membership = format!("/api/v1/projects/{}/memberships/identities/{}", server.project, session.identity);
        let role = server.get(&membership).await.ok()["identityMembership"]["roles"][0].take();
        assert_eq!((&role["role"], &role["customRoleSlug"]), (&json!("custom"), &json!("web-reader")));
        assert_eq!((&role["customRoleId"], &role["customRoleName"]), (&made["id"], &json!("Reader")));
        server.delete(&one).await.refused(400, "BadRequest");
        server.patch(&one, json!({"slug": "renamed"})).await.refused(400, "BadRequest");
        server.by(&session).get(&all).await.refused(403, "PermissionDenied");
        let more = json!([{"subject": "role", "action": "read"}]);
        let changed = server.patch(&one, json!({"permissions": more, "description": "sees roles"})).await.ok();
        assert_eq!(changed["role"]["description"], "sees roles");
        server.by(&session).get(&all).await.ok();
        server.delete(&membership).await.ok();
        server.by(&session).get(&all).await.refused(403, "ProjectMembershipNotFound");
        server.delete(&one).await.ok();
    });
}

#[test]
fn another_organisation_is_not_there() {
    for_each_engine(|server| async move {
        let other = server.other_organization().await;
        let identity = other.caller.identity;
        for path in [
            format!("/api/v1/identities/{identity}"),
            auth_path(identity),
            format!("/api/v1/projects/{}", other.project),
            format!("/api/v1/projects/{}/roles", other.project),
            format!("/api/v1/projects/{}/memberships/identities/{identity}", other.project),
            format!("/api/v1/projects/{}/memberships/identities/{identity}", server.project),
            format!("/api/v1/identities?organizationId={}", other.organization),
        ] {
            server.get(&path).await.refused(404, "NotFound");
        }
        let delete: Vec<(String, &Server)> = vec![
            (format!("/api/v1/identities/{identity}"), &server),
            (format!("/api/v1/projects/{}", other.project), &server),
            (auth_path(identity), &server),
        ];
        for (path, server) in delete {
            server.delete(&path).await.refused(404, "NotFound");
        }
        server
            .post(
                &format!("/api/v1/projects/{}/memberships/identities/{identity}", server.project),
                json!({"role": "viewer"}),
            )
            .await
            .refused(404, "NotFound");
        other.get("/api/v1/identities/details").await.ok();
    });
}
