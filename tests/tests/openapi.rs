//! The served OpenAPI document: held against the published shapes of the endpoints, which are written down here, and
//! each route that it documents against the running server.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::server::{Answer, Server, for_each_engine, members};

#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "api/server.rs"]
mod server;

const ID: &str = "0198c5a0-0000-7000-8000-000000000001";

#[test]
fn the_document_is_served_for_programs_and_for_people() {
    for_each_engine(|server| async move {
        let (document, _) = document(&server).await;
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        let (status, content_type, page) = server.fetch("/api/docs").await;
        assert_eq!((status, content_type.split(';').next()), (200, Some("text/html")));
        let page = String::from_utf8(page).unwrap();
        assert!(page.to_lowercase().contains("<html"), "{page}");
        assert!(page.contains("issue-certificate"));
    });
}

#[test]
fn the_published_endpoints_have_the_published_shapes() {
    for_each_engine(|server| async move {
        let (document, _) = document(&server).await;
        for (path, body, reply) in published() {
            let operation = &document["paths"][path]["post"];
            let shown = schema(&document, &operation["requestBody"]["content"]);
            assert_eq!(operation["requestBody"]["required"], true, "{path}");
            check_shape(&format!("{path} body"), shown, &body, &more_in_bodies());
            let shown = schema(&document, &operation["responses"]["200"]["content"]);
            check_shape(&format!("{path} 200"), shown, &reply, &BTreeSet::new());
            for status in [400, 401, 403, 404, 422, 500] {
                let shown = schema(&document, &operation["responses"][status.to_string()]["content"]);
                check_shape(&format!("{path} {status}"), shown, &failure(status), &BTreeSet::new());
            }
        }
        let parameters = document["paths"][IMPORT]["post"]["parameters"].as_array().unwrap();
        let [parameter] = &parameters[..] else { panic!("{parameters:?}") };
        assert_eq!(
            (&parameter["name"], &parameter["in"], &parameter["required"], &parameter["schema"]["type"]),
            (&json!("caId"), &json!("path"), &json!(true), &json!("string"))
        );
    });
}

#[test]
fn every_documented_route_is_served_and_asks_for_a_token_where_it_says_so() {
    for_each_engine(|server| async move {
        let (document, routes) = document(&server).await;
        let (mut closed, mut open) = (0, 0);
        for (path, method) in &routes {
            let operation = &document["paths"][path][method];
            let answer = send(&server, method, path).await;
            if operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty()) {
                closed += 1;
                assert_eq!(answer.status, 401, "{method} {path}: {}", answer.body);
                assert_eq!(
                    answer.headers["content-type"].to_str().unwrap().split(';').next(),
                    Some("application/json")
                );
                assert_eq!(members(&answer.body), ["error", "message", "reqId", "statusCode"], "{method} {path}");
                assert_eq!(answer.body["statusCode"], 401);
                assert!(answer.body["reqId"].as_str().unwrap().starts_with("req-"), "{}", answer.body);
            } else {
                open += 1;
                // A list or a certificate that there is not is a 404, too.
                let may_be_missing = path.ends_with("/der") || path.contains("/crl/");
                assert!(
                    answer.status < 500 && (answer.status != 404 || may_be_missing),
                    "{method} {path}: {}",
                    answer.status
                );
            }
        }
        assert!(closed > 100 && open >= 4, "{closed} with a token and {open} without");
        // What an unknown route says is something else.
        assert_eq!(send(&server, "get", "/api/v1/unknown").await.status, 404);
    });
}

#[test]
fn the_document_is_whole() {
    for_each_engine(|server| async move {
        let (document, routes) = document(&server).await;
        let mut identifiers = BTreeSet::new();
        for (path, method) in &routes {
            let operation = &document["paths"][path][method];
            let identifier = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
            assert!(identifiers.insert(identifier.to_owned()), "{identifier} twice");
            let placeholders: BTreeSet<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let described: BTreeSet<&str> =
                parameters.filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap()).collect();
            assert_eq!(described, placeholders, "{method} {path}");
            assert!(operation["responses"]["200"].is_object(), "{method} {path}");
        }
        check_references(&document, &document);
    });
}

/// The document and its routes: path and method in small letters.
async fn document(server: &Server) -> (Value, Vec<(String, String)>) {
    let (status, content_type, body) = server.fetch("/api/docs/json").await;
    assert_eq!((status, content_type.split(';').next()), (200, Some("application/json")));
    let document: Value = serde_json::from_slice(&body).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
    };
    let routes = paths.iter().flat_map(of_path).collect();
    (document, routes)
}

/// A request without a token, with an id for each placeholder.
async fn send(server: &Server, method: &str, path: &str) -> Answer {
    let filled: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { ID } else { part }).collect();
    let mut session = server.caller.clone();
    session.token = String::new();
    let (nobody, path) = (server.by(&session), filled.join("/"));
    match method {
        "get" => nobody.get(&path).await,
        "post" => nobody.anonymous(&path, json!({})).await,
        "patch" => nobody.patch(&path, json!({})).await,
        "put" => nobody.call(reqwest::Method::PUT, &path, &json!({})).await,
        "delete" => nobody.delete(&path).await,
        other => panic!("{other} {path}"),
    }
}

/// The schema of a JSON content, followed where it is a reference.
fn schema<'a>(document: &'a Value, content: &'a Value) -> &'a Value {
    let schema = &content["application/json"]["schema"];
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
            object.values().for_each(|one| check_references(document, one));
        }
        Value::Array(all) => all.iter().for_each(|one| check_references(document, one)),
        _ => {}
    }
}

/// Asserts that a schema says all that is published, and nothing else but descriptions, tighter texts and what we add.
fn check_shape(what: &str, shown: &Value, published: &Value, more: &BTreeSet<&str>) {
    let (shown, published) =
        (shown.as_object().unwrap_or_else(|| panic!("{what}: {shown}")), published.as_object().unwrap());
    for (keyword, value) in published {
        match keyword.as_str() {
            "properties" => check_properties(what, &shown["properties"], value.as_object().unwrap(), more),
            "items" => check_shape(&format!("{what}[]"), &shown["items"], value, more),
            "required" | "enum" => {
                let mut extra = list(&shown[keyword]);
                let missing: Vec<Value> =
                    list(value).into_iter().filter(|one| !list(&shown[keyword]).contains(one)).collect();
                assert!(missing.is_empty(), "{what} {keyword}: without {missing:?}");
                extra.retain(|one| !list(value).contains(one));
                // The only value of ours that the published enumerations lack.
                extra.retain(|one| !(keyword == "enum" && one == "Ed25519"));
                assert!(extra.is_empty(), "{what} {keyword}: also {extra:?}");
            }
            _ => assert_eq!(shown.get(keyword), Some(value), "{what} {keyword}"),
        }
    }
    // A text may be narrower than published; whatever else narrows would refuse requests that are in order.
    let allowed = ["description", "example", "examples", "pattern", "format", "maxLength", "default"];
    for keyword in shown.keys().filter(|keyword| !published.contains_key(*keyword)) {
        assert!(allowed.contains(&keyword.as_str()), "{what}: {keyword}");
    }
}

fn check_properties(what: &str, shown: &Value, published: &Map<String, Value>, more: &BTreeSet<&str>) {
    for (name, value) in published {
        check_shape(&format!("{what}.{name}"), &shown[name], value, more);
    }
    for name in members(shown) {
        assert!(published.contains_key(name) || more.contains(name), "{what}: also {name}");
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

const IMPORT: &str = "/api/v1/pki/ca/{caId}/import-certificate";

/// Optional properties of requests that newer clients send.
fn more_in_bodies() -> BTreeSet<&'static str> {
    BTreeSet::from(["removeRootsFromChain"])
}

/// The endpoints: path, body and reply.
fn published() -> [(&'static str, Value, Value); 3] {
    let text = || json!({"type": "string"});
    let filled = || json!({"type": "string", "minLength": 1});
    let id = || json!({"type": "string", "format": "uuid"});
    let one_of = |values: &[&str]| json!({"type": "string", "enum": values});
    let list_of = |items: Value| json!({"type": "array", "items": items});
    let import = object(&[("certificate", text()), ("certificateChain", text())], &[]);
    let imported = object(&[("message", text()), ("caId", text())], &[]);
    let usages = [
        "digital_signature",
        "key_encipherment",
        "non_repudiation",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ];
    let purposes = ["client_auth", "server_auth", "code_signing", "email_protection", "ocsp_signing", "time_stamping"];
    let signatures = ["RSA-SHA256", "RSA-SHA384", "RSA-SHA512", "ECDSA-SHA256", "ECDSA-SHA384", "ECDSA-SHA512"];
    let keys = ["RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1"];
    let name = object(&[("type", one_of(&["dns_name", "ip_address", "email", "uri"])), ("value", filled())], &[]);
    let issue = object(
        &[
            ("profileId", id()),
            ("ttl", filled()),
            ("signatureAlgorithm", one_of(&signatures)),
            ("keyAlgorithm", one_of(&keys)),
        ],
        &[
            ("commonName", json!({"type": "string", "minLength": 1, "maxLength": 100})),
            ("keyUsages", list_of(one_of(&usages))),
            ("extendedKeyUsages", list_of(one_of(&purposes))),
            ("notBefore", text()),
            ("notAfter", text()),
            ("altNames", list_of(name)),
        ],
    );
    let sign = object(
        &[
            ("profileId", id()),
            ("csr", json!({"type": "string", "minLength": 1, "maxLength": 4096})),
            ("ttl", filled()),
        ],
        &[("notBefore", text()), ("notAfter", text())],
    );
    let made = [
        ("certificate", text()),
        ("issuingCaCertificate", text()),
        ("certificateChain", text()),
        ("serialNumber", text()),
        ("certificateId", text()),
    ];
    [
        (IMPORT, import, imported),
        ("/api/v3/pki/certificates/issue-certificate", issue, object(&made, &[("privateKey", text())])),
        ("/api/v3/pki/certificates/sign-certificate", sign, object(&made, &[])),
    ]
}

/// What a refusal or a failure looks like.
fn failure(status: u16) -> Value {
    let text = || json!({"type": "string"});
    let mut required =
        vec![("reqId", text()), ("statusCode", json!({"type": "number", "enum": [status]})), ("error", text())];
    match status {
        // Its message is a list of issues.
        422 => object(&required, &[("message", json!({}))]),
        403 => {
            required.push(("message", text()));
            object(&required, &[("details", json!({}))])
        }
        _ => {
            required.push(("message", text()));
            object(&required, &[])
        }
    }
}

/// An object of these properties and no others.
fn object(required: &[(&str, Value)], optional: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        required.iter().chain(optional).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}
