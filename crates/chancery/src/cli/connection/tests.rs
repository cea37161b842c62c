//! Every source of an address and of credentials against every other.

use super::*;

fn environment() -> Environment {
    Environment {
        url: Some("https://environment.example".to_owned()),
        client_id: Some("environment".to_owned()),
        client_secret: Some("secret".to_owned()),
        ..Environment::default()
    }
}

fn kept() -> Kept {
    Kept {
        url: "https://kept.example".to_owned(),
        client_id: Some("kept".to_owned()),
        client_secret: Some("secret".to_owned()),
        ca_file: Some("/kept.pem".into()),
        project: Some("kept-project".to_owned()),
        ..Kept::default()
    }
}

fn bootstrap() -> Bootstrap {
    Bootstrap {
        url: "http://127.0.0.1:8080".to_owned(),
        tls_url: Some("https://localhost:8443".to_owned()),
        tls_ca: Some("/data/tls-ca.pem".into()),
        client_id: "bootstrap".to_owned(),
        client_secret: "secret".to_owned(),
        project_id: Some("bootstrap-project".to_owned()),
        mqtt: None,
        mqtt_ca: None,
        folder: "/data".into(),
    }
}

fn with_url(url: &str) -> RemoteArguments {
    RemoteArguments { url: Some(url.to_owned()), ..RemoteArguments::default() }
}

/// Who is asked as whom, as `client id @ url`.
fn chosen(
    arguments: &RemoteArguments,
    environment: &Environment,
    kept: Option<Kept>,
    bootstrap: Option<Bootstrap>,
) -> Result<(String, Target), Failure> {
    let target = decide(arguments, environment, Ok(kept), Ok(bootstrap))?;
    let who = match &target.credential {
        Credential::Client { id, .. } => id.clone(),
        Credential::Token(token) => format!("token {token}"),
        Credential::Nobody => "nobody".to_owned(),
    };
    Ok((format!("{who} @ {}", target.url.as_str().trim_end_matches('/')), target))
}

#[track_caller]
fn check(
    arguments: &RemoteArguments,
    environment: &Environment,
    kept: Option<Kept>,
    bootstrap: Option<Bootstrap>,
    expected: &str,
) {
    assert_eq!(chosen(arguments, environment, kept, bootstrap).unwrap().0, expected);
}

#[track_caller]
fn check_refused(
    arguments: &RemoteArguments,
    environment: &Environment,
    kept: Option<Kept>,
    bootstrap: Option<Bootstrap>,
    expected: &str,
) {
    let failure = chosen(arguments, environment, kept, bootstrap).unwrap_err().to_string();
    assert!(failure.contains(expected), "{failure}");
}

#[test]
fn the_environment_goes_before_the_login_and_that_before_the_bootstrap_file() {
    let (none, nothing) = (RemoteArguments::default(), Environment::default());
    check(&none, &environment(), Some(kept()), Some(bootstrap()), "environment @ https://environment.example");
    check(&none, &nothing, Some(kept()), Some(bootstrap()), "kept @ https://kept.example");
    check(&none, &nothing, None, Some(bootstrap()), "bootstrap @ http://127.0.0.1:8080");
    check_refused(&none, &nothing, None, None, "chancery login");
}

#[test]
fn a_typed_address_goes_before_the_environment() {
    check(&with_url("https://typed.example/api/"), &environment(), None, None, "environment @ https://typed.example");
}

#[test]
fn credentials_without_an_address_go_to_the_server_that_is_known() {
    let without_url = Environment { url: None, ..environment() };
    let none = RemoteArguments::default();
    check(&none, &without_url, Some(kept()), Some(bootstrap()), "environment @ https://kept.example");
    check(&none, &without_url, None, Some(bootstrap()), "environment @ http://127.0.0.1:8080");
    check(&none, &without_url, None, None, "environment @ http://127.0.0.1:8080");
}

#[test]
fn a_token_goes_before_a_client_secret() {
    let with_token = Environment { token: Some("t".to_owned()), ..environment() };
    check(&RemoteArguments::default(), &with_token, None, None, "token t @ https://environment.example");
}

#[test]
fn half_a_pair_of_credentials_is_said() {
    let none = RemoteArguments::default();
    let id_only = Environment { client_secret: None, ..environment() };
    check_refused(&none, &id_only, Some(kept()), None, "CHANCERY_CLIENT_SECRET is not");
    let secret_only = Environment { client_id: None, ..environment() };
    check_refused(&none, &secret_only, Some(kept()), None, "CHANCERY_CLIENT_ID is not");
}

#[test]
fn a_typed_data_folder_goes_before_the_login() {
    let typed = RemoteArguments { data: Some("/data".into()), ..RemoteArguments::default() };
    let nothing = Environment::default();
    check(&typed, &nothing, Some(kept()), Some(bootstrap()), "bootstrap @ http://127.0.0.1:8080");
    check_refused(&typed, &nothing, Some(kept()), None, "no bootstrap.json in /data");
    let from_environment = Environment { data: Some("/data".into()), ..Environment::default() };
    check(
        &RemoteArguments::default(),
        &from_environment,
        Some(kept()),
        Some(bootstrap()),
        "kept @ https://kept.example",
    );
}

#[test]
fn what_is_kept_for_one_server_is_sent_to_no_other() {
    let nothing = Environment::default();
    check_refused(&with_url("https://evil.example"), &nothing, Some(kept()), Some(bootstrap()), "no credentials for");
    check_refused(&with_url("http://kept.example"), &nothing, Some(kept()), None, "no credentials for");
    check_refused(&with_url("https://kept.example:444"), &nothing, Some(kept()), None, "no credentials for");
    check(&with_url("https://kept.example:443/"), &nothing, Some(kept()), None, "kept @ https://kept.example");
    for url in ["http://localhost:8080", "https://127.0.0.1:8443", "http://[::1]:8080"] {
        check(&with_url(url), &nothing, Some(kept()), Some(bootstrap()), &format!("bootstrap @ {url}"));
    }
    let named = Environment { data: Some("/data".into()), ..Environment::default() };
    let public = "https://ca.example";
    check(&with_url(public), &named, None, Some(bootstrap()), "bootstrap @ https://ca.example");
}

#[test]
fn the_private_authority_comes_with_the_server_that_it_belongs_to() {
    #[track_caller]
    fn check(arguments: &RemoteArguments, environment: &Environment, kept: Option<Kept>, expected: Option<&str>) {
        let (_, target) = chosen(arguments, environment, kept, Some(bootstrap())).unwrap();
        assert_eq!(target.ca_file.as_deref(), expected.map(Path::new));
    }
    let (none, nothing) = (RemoteArguments::default(), Environment::default());
    check(&none, &nothing, None, None);
    check(&with_url("https://localhost:8443"), &nothing, None, Some("/data/tls-ca.pem"));
    check(&with_url("https://localhost:8443"), &environment(), None, Some("/data/tls-ca.pem"));
    check(&none, &environment(), Some(kept()), None);
    check(&none, &nothing, Some(kept()), Some("/kept.pem"));
    let typed = RemoteArguments { ca_file: Some("/typed.pem".into()), ..none };
    check(&typed, &nothing, Some(kept()), Some("/typed.pem"));
}

#[test]
fn the_project_is_the_typed_one_or_the_one_that_comes_with_the_credentials() {
    #[track_caller]
    fn check(arguments: &RemoteArguments, environment: &Environment, kept: Option<Kept>, expected: Option<&str>) {
        let (_, target) = chosen(arguments, environment, kept, Some(bootstrap())).unwrap();
        assert_eq!(target.project.as_deref(), expected);
    }
    let (none, nothing) = (RemoteArguments::default(), Environment::default());
    check(&none, &environment(), Some(kept()), None);
    check(&none, &nothing, Some(kept()), Some("kept-project"));
    check(&none, &nothing, None, Some("bootstrap-project"));
    let from_environment = Environment { project: Some("pki".to_owned()), ..Environment::default() };
    check(&none, &from_environment, Some(kept()), Some("pki"));
    let typed = RemoteArguments { project: Some("typed".to_owned()), ..none };
    check(&typed, &from_environment, Some(kept()), Some("typed"));
}

#[test]
fn an_unreadable_file_matters_only_when_it_is_needed() {
    let broken = || Err(Failure::new("broken"));
    let none = RemoteArguments::default();
    assert!(decide(&none, &environment(), broken(), Err(Failure::new("broken"))).is_ok());
    assert!(decide(&none, &Environment::default(), broken(), Ok(Some(bootstrap()))).is_err());
    assert!(decide(&none, &Environment::default(), Ok(Some(kept())), Err(Failure::new("broken"))).is_ok());
}

#[test]
fn only_addresses_of_servers_are_taken() {
    for text in ["", "localhost:8080", "ftp://a.example", "http://", "/tmp"] {
        assert!(parse_url(text).is_err(), "{text}");
    }
    assert_eq!(parse_url(" https://a.example/api/ ").unwrap().as_str(), "https://a.example/");
    assert_eq!(parse_url("https://a.example/pki").unwrap().as_str(), "https://a.example/pki");
}

#[test]
fn a_damaged_file_is_named_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    assert!(read_json::<Kept>(&path).unwrap().is_none());
    fs::write(&path, r#"{"url": "http://a", "clientSecret": hunter2}"#).unwrap();
    let failure = read_json::<Kept>(&path).err().unwrap().to_string();
    assert!(failure.contains("credentials.json") && !failure.contains("hunter2"), "{failure}");
}

#[test]
fn who_asks_what_everybody_may_ask_needs_an_address_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let at = |arguments: &RemoteArguments, environment: &Environment| {
        let target = address(arguments, environment).unwrap();
        assert_eq!(target.credential, Credential::Nobody);
        plain(&target.url).to_owned()
    };
    let here = RemoteArguments { data: Some(data.clone()), ..RemoteArguments::default() };
    assert_eq!(at(&here, &Environment::default()), DEFAULT_URL);
    let kept_in = Environment { configuration_folder: Some(data.clone()), ..Environment::default() };
    fs::write(data.join(CREDENTIALS_FILE), r#"{"url":"https://kept.example"}"#).unwrap();
    let elsewhere = Environment { data: Some(data.join("nothing")), ..kept_in.clone() };
    assert_eq!(at(&RemoteArguments::default(), &elsewhere), "https://kept.example");
    let facts = r#"{"url":"http://127.0.0.1:1234","clientId":"i","clientSecret":"s"}"#;
    fs::write(data.join(BOOTSTRAP_FILE), facts).unwrap();
    assert_eq!(at(&here, &kept_in), "http://127.0.0.1:1234");
    assert_eq!(at(&with_url("https://asked.example"), &kept_in), "https://asked.example");
    fs::write(data.join(BOOTSTRAP_FILE), "damaged").unwrap();
    assert_eq!(at(&here, &kept_in), DEFAULT_URL);
}
