//! No secret stands where it is not meant to: not in a log, not in what commands print, not in metrics or the audit, not
//! in the clear in the database and its write-ahead log (invariants E1, I7).

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::json;
use x509::pem;

use crate::api::{Answer, Api, ISSUE};
use crate::site::{Server, Site, block_on};

/// A secret in every form in which it could leak.
struct Canary {
    name: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn text(name: &'static str, text: &str) -> Self {
        Self { name, forms: forms(text.as_bytes()) }
    }

    fn octets(name: &'static str, octets: &[u8]) -> Self {
        Self { name, forms: forms(octets) }
    }
}

/// As it is, in hexadecimal of either case, in base64 of either alphabet at any offset, and in UTF-16.
fn forms(octets: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let mut forms = vec![octets.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    forms.push(octets.iter().flat_map(|octet| [*octet, 0]).collect());
    for offset in 0..3 {
        // Whole groups of three octets read the same whatever stands before them.
        let inner = &octets[offset..];
        let inner = &inner[..inner.len() / 3 * 3];
        forms.extend([STANDARD_NO_PAD.encode(inner).into_bytes(), URL_SAFE_NO_PAD.encode(inner).into_bytes()]);
    }
    forms
}

#[test]
fn no_secret_stands_where_it_is_not_meant_to() {
    let site = Site::sqlite();
    let mut command = site.serve(&["--tls-listen", "127.0.0.1:0"]);
    command.env("CHANCERY_LOG", "debug");
    let server = site.start_as(command);
    let (canaries, public) = block_on(make_canaries(&site, &server));
    let mut places = vec![("metrics, documents and errors", public.into_bytes())];
    for (name, arguments) in [
        ("fsck", &["fsck"][..]),
        ("audit list", &["audit", "list", "--json", "--limit", "1000"]),
        ("rotate-master", &["keys", "rotate-master", "--json"]),
        ("ca list", &["ca", "list", "--json"]),
        ("cert list", &["cert", "list", "--json"]),
        ("identity list", &["identity", "list", "--json"]),
    ] {
        let ran = site.run(arguments);
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
        places.push((name, (ran.out + &ran.err).into_bytes()));
    }
    // The one place where a person sees the secret of the first start.
    let printed = server.process.printed("API documentation");
    let secret = site.fact("/clientSecret");
    // In the line that names it, and in the one to copy.
    assert_eq!(printed.matches(&secret).count(), 2);
    places.push(("standard output", printed.replace(&secret, "").into_bytes()));
    places.push(("the log", server.process.err_text().into_bytes()));
    // With the write-ahead log as it is at that moment.
    for (name, octets) in files(&site) {
        check("a file of a running server", &octets, &canaries, &name);
    }
    server.kill();
    site.start().stop();
    for (name, octets) in files(&site) {
        check("a file of a stopped server", &octets, &canaries, &name);
    }
    for (place, octets) in places {
        assert!(octets.len() > 10, "{place} is empty");
        check(place, &octets, &canaries, "");
    }
}

#[track_caller]
fn check(place: &str, octets: &[u8], canaries: &[Canary], name: &str) {
    let place_text = one_character_each(octets);
    for canary in canaries {
        for form in &canary.forms {
            assert!(!place_text.contains(&one_character_each(form)), "{} is in {place} {name}", canary.name);
        }
    }
}

/// Octets as text, so that the search of the standard library can be used.
fn one_character_each(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

/// Everything in the data folder but what is meant to hold secrets.
fn files(site: &Site) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(site.data()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !["bootstrap.json", "master.key"].contains(&name.as_str()) {
            files.push((name, fs::read(&path).unwrap()));
        }
    }
    // Before its first checkpoint nearly everything is in the write-ahead log.
    assert!(files.iter().map(|(_, octets)| octets.len()).sum::<usize>() > 100_000);
    // The search finds what is there.
    assert!(files.iter().any(|(_, octets)| one_character_each(octets).contains("canary.example.com")));
    files
}

/// Uses every kind of secret rightly and wrongly. Gives them, and what the server said to those who may not have them.
async fn make_canaries(site: &Site, server: &Server) -> (Vec<Canary>, String) {
    let api = Api::log_in(site, server).await;
    let secret = site.fact("/clientSecret");
    let mut canaries = vec![
        Canary::text("the admin's secret", &secret),
        Canary::text("an access token", &api.token),
        Canary::octets("the master key", &decoded(&fs::read_to_string(site.data().join("master.key")).unwrap())),
    ];

    let made = format!("/api/v1/auth/universal-auth/identities/{}/client-secrets", site.fact("/identityId"));
    let made = api.post(&made, &json!({"description": "canary"})).await.unwrap().ok();
    canaries.push(Canary::text("a client secret", made["clientSecret"].as_str().unwrap()));

    for (name, algorithm, usage) in
        [("an EC key", "EC_prime256v1", "digital_signature"), ("an RSA key", "RSA_2048", "key_encipherment")]
    {
        let mut body = crate::api::issue_body(&site.fact("/profiles/web-server"), "canary.example.com");
        body["keyAlgorithm"] = algorithm.into();
        body["keyUsages"] = json!([usage]);
        let request = api.request(Method::POST, ISSUE).header("idempotency-key", name).json(&body);
        let issued = Answer::of(request).await.unwrap().ok();
        let key = pem::decode_one(issued["privateKey"].as_str().unwrap(), &[pem::PRIVATE_KEY]).unwrap();
        // What is private in it: an EC key's scalar comes after the tag and length 04 20; of RSA the last third is enough.
        let private = match algorithm {
            "EC_prime256v1" => {
                let at = key.windows(2).position(|window| window == [0x04, 0x20]).unwrap() + 2;
                &key[at..at + 32]
            }
            _ => &key[key.len() - 100..],
        };
        canaries.push(Canary::octets(name, private));
    }
    canaries.push(Canary::octets("the key of the server's own certificate", &own_key(site, &api).await));

    let mut public = api.text("/metrics").await + &api.text("/api/docs/json").await;
    let stranger = Api { token: String::new(), ..api.clone() };
    let login = "/api/v1/auth/universal-auth/login";
    for request in [
        stranger.request(Method::POST, login).body(format!("{{\"clientSecret\":\"{secret}\"")),
        stranger.request(Method::POST, login).json(&json!({"clientId": secret, "clientSecret": [secret]})),
        stranger.request(Method::POST, login).json(&json!({"clientId": "x", "clientSecret": {"a": secret}})),
        stranger.request(Method::POST, &format!("{login}?clientSecret={secret}")).json(&json!({})),
        stranger.request(Method::POST, "/api/v1/auth/token/renew").json(&json!({"accessToken": secret})),
        api.request(Method::GET, &format!("/api/v1/pki/certificates/{secret}")),
        stranger.request(Method::GET, "/api/v1/projects").bearer_auth(&secret),
    ] {
        let answer = Answer::of(request).await.unwrap();
        assert!((400..500).contains(&answer.status), "{}", answer.body);
        public += &answer.body.to_string();
    }
    (canaries, public)
}

/// The admin may read the key of the server's own certificate, like that of any other.
async fn own_key(site: &Site, api: &Api) -> Vec<u8> {
    let list = format!("/api/v1/projects/{}/certificates?commonName=localhost", site.fact("/projectId"));
    let list = api.get(&list).await.unwrap().ok();
    let id = list["certificates"][0]["id"].as_str().unwrap().to_owned();
    let key = api.text(&format!("/api/v1/cert-manager/certificates/{id}/private-key")).await;
    let key = pem::decode_one(&key, &[pem::PRIVATE_KEY]).unwrap();
    let at = key.windows(2).position(|window| window == [0x04, 0x20]).unwrap() + 2;
    key[at..at + 32].to_vec()
}

fn decoded(base64: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(base64.trim()).unwrap()
}

#[test]
fn the_password_in_a_database_url_is_not_said() {
    let site = Site::at("postgresql://chancery:s3cr3t-canary@127.0.0.1:9/chancery".into());
    let said = site.launch(site.serve(&[])).refused();
    assert!(said.contains("database") && !said.contains("s3cr3t-canary"), "{said}");
    let ran = site.run(&["fsck", "--help"]);
    assert!(!ran.out.contains("s3cr3t-canary"), "{ran:?}");
}
