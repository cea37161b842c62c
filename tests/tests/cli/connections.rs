//! `chancery login`, and where commands take their server and their credentials from.

use crate::live::{Live, on_both_engines};

const KEPT: &str = "home/.config/chancery/credentials.json";

/// An identity that may read, and its secret.
fn viewer(live: &Live) -> (String, String) {
    live.json("identity create viewer");
    live.json("identity grant viewer --role viewer");
    let id = live.json("identity show viewer")["identityUniversalAuth"]["clientId"].as_str().unwrap().to_owned();
    let secret = live.json("identity secret create viewer")["clientSecret"].as_str().unwrap().to_owned();
    (id, secret)
}

#[test]
fn what_login_keeps_is_private_and_used_by_later_commands() {
    on_both_engines(|live| {
        let (url, (id, secret)) = (live.fact("url"), viewer(live));
        let login = ["login", "--url", &url, "--client-id", &id, "--client-secret"];
        live.run_with(&[&login[..], &["wrong"]].concat(), &[], "").failed("login", 1, "request id: req-");
        live.run_with(&["login", "--url", &url], &[], "").failed("login", 2, "--client-id");
        assert!(!live.path(KEPT).exists());

        let out = live.run_with(&[&login[..], &["-"]].concat(), &[], &format!("{secret}\n")).succeeded("login");
        assert!(out.contains("logged in") && !out.contains(&secret), "{out}");
        assert_eq!(live.mode(KEPT), 0o600);
        assert!(live.read(KEPT).contains(&secret));
        live.fails("ca create x --common-name x", 1, "create");
        // The data folder, named, goes before it.
        live.says("ca create x --common-name x --data data", &["made the CA x"]);
        live.fails("ca list --url http://127.0.0.1:1", 1, "sent to no other server");

        let environment =
            [("CHANCERY_URL", url.as_str()), ("CHANCERY_CLIENT_ID", &id), ("CHANCERY_CLIENT_SECRET", &secret)];
        let json = live.run_with(&["login", "--json", "--project", "default"], &environment, "").succeeded("login");
        assert!(json.contains("\"project\": \"default\"") && !json.contains(&secret), "{json}");
        live.says("ca list", &["root-ca"]);
        live.run_with(&["login", "--project", "nothing"], &environment, "").failed("login", 1, "nothing");
    });
}

#[test]
fn the_environment_goes_first_and_a_token_is_enough() {
    on_both_engines(|live| {
        let (url, (id, secret)) = (live.fact("url"), viewer(live));
        let by = |environment: &[(&str, &str)], line: &str| {
            live.run_with(&line.split_whitespace().collect::<Vec<_>>(), environment, "")
        };
        let pair = [("CHANCERY_URL", url.as_str()), ("CHANCERY_CLIENT_ID", &id), ("CHANCERY_CLIENT_SECRET", &secret)];
        by(&pair, "ca list").succeeded("ca list");
        by(&pair, "ca create x --common-name x").failed("ca create", 1, "create");
        by(&pair[..2], "ca list").failed("half a pair", 2, "CHANCERY_CLIENT_SECRET");
        by(&[("CHANCERY_TOKEN", "forged")], "ca list").failed("a forged token", 1, "request id: req-");
        by(&[("CHANCERY_TOKEN", "forged"), pair[0]], "login").failed("a forged token", 1, "request id: req-");
        let data = live.path("data").display().to_string();
        by(&[("CHANCERY_DATA", &data)], "ca list").succeeded("CHANCERY_DATA");
    });
}

#[test]
fn tls_is_trusted_by_the_authority_of_the_data_folder_or_of_a_file() {
    on_both_engines(|live| {
        let (url, (id, secret)) = (live.fact("tlsUrl"), viewer(live));
        live.says(&format!("ca list --url {url}"), &["root-ca"]);
        live.write("other.pem", &live.says("ca show root-ca --pem", &[]));
        live.json("cert issue --profile web-server --common-name stranger.example.com --out ./");
        live.fails(&format!("ca list --url {url} --ca-file stranger.example.com.crt"), 1, "--ca-file");
        live.fails(&format!("ca list --url {url} --ca-file missing.pem"), 1, "missing.pem");
        live.write("empty.pem", "");
        live.fails(&format!("ca list --url {url} --ca-file empty.pem"), 1, "empty.pem");

        let authority = live.fact("tlsCa");
        let login = ["login", "--url", &url, "--client-id", &id, "--client-secret", &secret];
        live.run_with(&login, &[], "").failed("login without the authority", 1, "--ca-file");
        live.run_with(&[&login[..], &["--ca-file", &authority]].concat(), &[], "").succeeded("login");
        live.says("ca list", &["root-ca"]);
    });
}
