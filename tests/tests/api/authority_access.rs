//! Who may do what with authorities: roles, conditions, other projects and other organisations, and the order in which a
//! request is checked (contract §1.4, 2.7; invariants A14, A16).

use crate::authorities::{DAY, FLAT, NAMED, TYPED, UNKNOWN, authority, first_root, intermediate, list_of, typed_body};
use crate::server::{Answer, Server, for_each_engine, text};
use serde_json::{Value, json};

/// What a request does to an authority.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Right {
    Read,
    Create,
    Edit,
    Renew,
    SignIntermediate,
    Delete,
}

struct Request {
    right: Right,
    method: &'static str,
    path: String,
    /// A body of the right shape, when the endpoint has one.
    body: Option<Value>,
}

/// Every request about one authority, under every prefix; those that delete it come last.
async fn requests(server: &Server, id: &str) -> Vec<Request> {
    let (name, project) = (text(&server.get(&format!("{FLAT}/{id}")).await.ok()["ca"]["name"]), server.project);
    let csr = server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"].take();
    let mut requests = Vec::new();
    let mut add = |right, method, path: String, body| requests.push(Request { right, method, path, body });
    for base in [FLAT, TYPED] {
        for path in ["", "/certificate", "/ca-certificates", "/crls"] {
            add(Right::Read, "GET", format!("{base}/{id}{path}"), None);
        }
        add(Right::Create, "GET", format!("{base}/{id}/csr"), None);
        add(Right::Edit, "PATCH", format!("{base}/{id}"), Some(json!({"status": "active"})));
        let end = json!({"type": "existing", "notAfter": server.time(if base == FLAT { 400 } else { 500 } * DAY)});
        add(Right::Renew, "POST", format!("{base}/{id}/renew"), Some(end));
        let sign = json!({"csr": csr, "notAfter": server.time(DAY)});
        add(Right::SignIntermediate, "POST", format!("{base}/{id}/sign-intermediate"), Some(sign));
        let import = json!({"certificate": "x", "certificateChain": "y"});
        add(Right::Create, "POST", format!("{base}/{id}/import-certificate"), Some(import));
    }
    let active = text(&server.get(&format!("{FLAT}/{id}")).await.ok()["ca"]["activeCaCertId"]);
    add(Right::Read, "GET", format!("{TYPED}/{id}/certificate/{active}"), None);
    let lifetime = json!({"notBefore": server.time(0), "notAfter": server.time(DAY)});
    add(Right::Renew, "POST", format!("{TYPED}/{id}/certificate"), Some(lifetime));
    add(Right::Read, "GET", format!("{NAMED}/{name}?projectId={project}"), None);
    add(Right::Edit, "PATCH", format!("{NAMED}/{name}"), Some(json!({"projectId": project})));
    add(Right::Delete, "DELETE", format!("{NAMED}/{name}"), Some(json!({"projectId": project})));
    add(Right::Delete, "DELETE", format!("{FLAT}/{id}"), None);
    add(Right::Delete, "DELETE", format!("{TYPED}/{id}"), None);
    requests
}

async fn send(server: &Server, request: &Request) -> Answer {
    send_to(server, request, &request.path, request.body.clone()).await
}

async fn send_to(server: &Server, request: &Request, path: &str, body: Option<Value>) -> Answer {
    match (request.method, body) {
        ("GET", _) => server.get(path).await,
        ("POST", Some(body)) => server.post(path, body).await,
        ("PATCH", Some(body)) => server.patch(path, body).await,
        (_, Some(body)) => server.delete_with(path, body).await,
        (_, None) => server.delete(path).await,
    }
}

#[test]
fn each_right_opens_what_it_names_and_nothing_else() {
    for_each_engine(|server| async move {
        let id = intermediate(&server, "mine", &first_root(&server).await, -1).await;
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        let reads = [Right::Read].as_slice();
        let everything =
            [Right::Read, Right::Create, Right::Edit, Right::Renew, Right::SignIntermediate, Right::Delete];
        let mut cases = vec![
            ("viewer".to_owned(), reads),
            ("member".into(), reads),
            ("issuer".into(), reads),
            ("no-access".into(), &[]),
        ];
        for (action, rights) in [
            ("read", [Right::Read].as_slice()),
            ("create", &[Right::Create]),
            ("edit", &[Right::Edit]),
            ("renew", &[Right::Renew]),
            ("sign-intermediate", &[Right::SignIntermediate]),
        ] {
            let rule = json!([{"subject": "certificate-authorities", "action": action}]);
            server
                .post(&roles, json!({"slug": format!("may-{action}"), "name": action, "permissions": rule}))
                .await
                .ok();
            cases.push((format!("may-{action}"), rights));
        }
        cases.push(("admin".into(), &everything[..5]));
        for (role, rights) in cases {
            let somebody = server.by(&server.identity("no-access", Some(&role)).await);
            for request in requests(&server, &id)
                .await
                .iter()
                .filter(|request| request.right != Right::Delete || !rights.contains(&Right::Edit))
            {
                let answer = send(&somebody, request).await;
                let what = format!("{role}: {} {}: {}", request.method, request.path, answer.body);
                if rights.contains(&request.right) {
                    // Whoever may, meets the rules of the matter or has it done.
                    assert!([200, 400].contains(&answer.status), "{what}");
                } else {
                    assert_eq!((answer.status, &answer.body["error"]), (403, &json!("PermissionDenied")), "{what}");
                    assert!(answer.body["details"].is_array(), "{what}");
                }
                assert!(!answer.body.to_string().contains("PRIVATE KEY"), "{what}");
            }
            let new = typed_body("root", &format!("by-{role}"), "EC_prime256v1");
            let status = server.by(&somebody.caller).post(TYPED, new).await.status;
            assert_eq!(status, if rights.contains(&Right::Create) { 200 } else { 403 }, "{role}");
            let listed = somebody.get(TYPED).await;
            assert_eq!(listed.status, if rights.contains(&Right::Read) { 200 } else { 403 }, "{role}");
        }
        server.delete(&format!("{TYPED}/{id}")).await.ok();
    });
}

#[test]
fn a_condition_on_the_name_holds_at_every_door() {
    for_each_engine(|server| async move {
        let top = first_root(&server).await;
        let mine = intermediate(&server, "mine", &top, -1).await;
        let other = intermediate(&server, "other", &top, -1).await;
        let all = ["read", "create", "edit", "delete", "renew", "sign-intermediate"];
        let rules =
            json!([{"subject": "certificate-authorities", "action": all, "conditions": {"name": {"$glob": "mine*"}}}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "own", "name": "Own", "permissions": rules})).await.ok();
        let narrow = server.by(&server.identity("no-access", Some("own")).await);
        for request in requests(&server, &other).await {
            send(&narrow, &request).await.refused(403, "PermissionDenied");
        }
        let listed = narrow.get(TYPED).await.ok();
        assert_eq!((listed.as_array().map(Vec::len), &listed[0]["name"]), (Some(1), &json!("mine")));
        for path in ["/api/v2/workspace/default/cas", "/api/v1/cert-manager/ca", "/api/v2/pki/ca"] {
            let listed = narrow.get(path).await.ok();
            let listed = listed["cas"].as_array().or(listed["certificateAuthorities"].as_array()).unwrap().clone();
            assert_eq!(listed.len(), 1, "{path}");
        }
        narrow
            .post(TYPED, typed_body("intermediate", "theirs", "EC_prime256v1"))
            .await
            .refused(403, "PermissionDenied");
        narrow.patch(&format!("{TYPED}/{mine}"), json!({"name": "theirs"})).await.refused(403, "PermissionDenied");

        // What is its parent already prolongs it; a parent that the request chooses takes a right over the parent.
        let renew = json!({"type": "existing", "notAfter": server.time(400 * DAY)});
        narrow.post(&format!("{FLAT}/{mine}/renew"), renew).await.ok();
        let below = text(&narrow.post(TYPED, typed_body("intermediate", "mine-too", "EC_prime256v1")).await.ok()["id"]);
        let by =
            |parent: &str| json!({"notBefore": server.time(0), "notAfter": server.time(DAY), "parentCaId": parent});
        let certify = format!("{TYPED}/{below}/certificate");
        narrow.post(&certify, by(&other)).await.refused(403, "PermissionDenied");
        narrow.post(&certify, by(&top)).await.refused(403, "PermissionDenied");
        narrow.post(&certify, by(&mine)).await.ok();
    });
}

#[test]
fn a_request_is_checked_in_the_order_of_the_contract() {
    for_each_engine(|server| async move {
        let id = intermediate(&server, "mine", &first_root(&server).await, -1).await;
        let outsider = server.by(&server.identity("member", None).await);
        let nobody = server.by(&crate::server::Session { token: String::new(), ..server.caller.clone() });
        let other = server.other_organization().await;
        for request in requests(&server, &id).await {
            let what = format!("{} {}", request.method, request.path);
            assert_eq!(send(&nobody, &request).await.status, 401, "{what}");
            let unknown = request.path.replace(&id, UNKNOWN).replace("/mine", "/nobody");
            // The shape comes before everything else, then whether there is such an authority, then whose it is.
            if request.method == "POST" {
                let shapeless = send_to(&server, &request, &unknown, Some(json!({"notAfter": true}))).await;
                assert!(!shapeless.issues().is_empty(), "{what}");
            }
            send_to(&server, &request, &unknown, request.body.clone()).await.refused(404, "NotFound");
            send(&outsider, &request).await.refused(403, "ProjectMembershipNotFound");
            send(&other, &request).await.refused(404, "NotFound");
        }
        for body in [typed_body("root", "x", "EC_prime256v1"), json!({"name": "x"})] {
            let status = if body.get("configuration").is_some() { 403 } else { 422 };
            assert_eq!(outsider.post(TYPED, body).await.status, status);
        }
        let flat = json!({"projectSlug": "default", "type": "root", "commonName": "x", "organization": "", "ou": "",
            "country": "NOWHERE", "province": "", "locality": ""});
        outsider.post(FLAT, flat.clone()).await.refused(403, "ProjectMembershipNotFound");
        let viewer = server.by(&server.identity("no-access", Some("viewer")).await);
        viewer.post(FLAT, flat.clone()).await.refused(403, "PermissionDenied");
        server.post(FLAT, flat).await.refused(400, "BadRequest");

        // An authority without a certificate says so to every member, before it asks for a right.
        let waiting = authority(&server, "intermediate", "waiting").await;
        let member = server.by(&server.identity("no-access", Some("no-access")).await);
        member.get(&format!("{FLAT}/{waiting}/certificate")).await.refused(400, "BadRequest");
        let renew = json!({"type": "existing", "notAfter": server.time(DAY)});
        member.post(&format!("{FLAT}/{waiting}/renew"), renew.clone()).await.refused(400, "BadRequest");
        member.post(&format!("{FLAT}/{id}/renew"), renew).await.refused(403, "PermissionDenied");
        // The v1 family does not look at the form of ids; the typed one does.
        server.get(&format!("{FLAT}/x")).await.refused(404, "NotFound");
        assert_eq!(server.get(&format!("{TYPED}/x")).await.issues(), ["caId"]);
        // An authority that has been certified here refuses an import before it reads it, and a CSR after the right.
        server
            .post(&format!("{FLAT}/{id}/import-certificate"), json!({"certificate": "", "certificateChain": ""}))
            .await
            .refused(400, "BadRequest");
        viewer
            .post(&format!("{FLAT}/{id}/sign-intermediate"), json!({"csr": "x", "notAfter": server.time(DAY)}))
            .await
            .refused(403, "PermissionDenied");
    });
}

#[test]
fn authorities_of_another_project_or_organisation_are_out_of_reach() {
    for_each_engine(|server| async move {
        let other = server.other_organization().await;
        let theirs = authority(&other, "root", "root-ca").await;
        // The older project is the one that is meant when none is named.
        server.at(1);
        let project = json!({"projectName": "Second", "slug": "second", "type": "cert-manager"});
        let second = text(&server.post("/api/v2/workspace", project).await.ok()["project"]["id"]);
        let mut body = typed_body("root", "root-ca", "EC_prime256v1");
        body["projectId"] = json!(second);
        let elsewhere = text(&server.post(TYPED, body.clone()).await.ok()["id"]);
        body["projectId"] = json!(other.project);
        server.post(TYPED, body).await.refused(404, "NotFound");
        server.get(&format!("{TYPED}?projectId={}", other.project)).await.refused(404, "NotFound");

        // Neither can be the parent of one of this project, in either way.
        let id = authority(&server, "intermediate", "mine").await;
        for parent in [&theirs, &elsewhere] {
            let body = json!({"notBefore": server.time(1), "notAfter": server.time(DAY), "parentCaId": parent});
            server.post(&format!("{TYPED}/{id}/certificate"), body).await.refused(404, "NotFound");
        }
        let csr = server.get(&format!("{FLAT}/{id}/csr")).await.ok()["csr"].take();
        let sign = json!({"csr": csr, "notAfter": server.time(DAY)});
        for (signer, parent) in [(&other, &theirs), (&server, &elsewhere)] {
            let signed = signer.post(&format!("{FLAT}/{parent}/sign-intermediate"), sign.clone()).await.ok();
            let import = json!({"certificate": signed["certificate"], "certificateChain": signed["certificateChain"]});
            server.post(&format!("{FLAT}/{id}/import-certificate"), import).await.ok();
            assert_eq!(server.get(&format!("{FLAT}/{id}")).await.ok()["ca"]["parentCaId"], Value::Null);
        }
        let policy = json!({"name": "any"});
        let policy = text(
            &server.post("/api/v1/cert-manager/certificate-policies", policy).await.ok()["certificatePolicy"]["id"],
        );
        for ca in [&theirs, &elsewhere] {
            let profile = json!({"slug": "x", "issuerType": "ca", "caId": ca, "certificatePolicyId": policy, "enrollmentType": "api", "apiConfig": {}});
            let status = server.post("/api/v1/cert-manager/certificate-profiles", profile).await.status;
            assert!([400, 403, 404].contains(&status), "{status}");
        }

        // What a deleted project has signed is looked after, and its authorities are gone.
        let (list, _) = list_of(&server, &elsewhere).await;
        let active = text(&server.get(&format!("{FLAT}/{elsewhere}")).await.ok()["ca"]["activeCaCertId"]);
        server.delete("/api/v2/workspace/second").await.ok();
        server.get(&format!("{FLAT}/{elsewhere}")).await.refused(404, "NotFound");
        server.at(8 * DAY);
        for place in [format!("/api/v1/pki/crl/{list}/der"), format!("{FLAT}/{elsewhere}/certificates/{active}/der")] {
            assert_eq!(server.fetch(&place).await.0, 200, "{place}");
        }
    });
}
