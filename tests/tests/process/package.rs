//! What an operator installs and watches: the Debian package and its unit in a system of its own, the container, the
//! manifests, the alerts and the dashboard, each held against the program itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::api::Api;
use crate::site::{PATIENCE, Ran, Site, block_on, on_both_engines, program};

/// The most that the unit may leave open, in tenths of what `systemd-analyze security` counts.
const EXPOSURE_MAX: &str = "20";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Asserts that a program ended well, and gives what it printed.
#[track_caller]
fn well(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// The package of the program that belongs to this test, made once.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PACKAGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        // It is taken apart again in a moment.
        let mut command = Command::new(root().join("scripts/package"));
        command.env("BINARY", program()).env("OUT", folder.path());
        command.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
        let path = PathBuf::from(well(&mut command).trim_end());
        (folder, path)
    });
    path
}

#[test]
fn the_package_has_what_debian_asks_for() {
    let contents = well(Command::new("dpkg-deb").arg("--contents").arg(package()));
    for (path, mode) in [
        ("./usr/bin/chancery", "-rwxr-xr-x root/root"),
        ("./usr/lib/systemd/system/chancery.service", "-rw-r--r-- root/root"),
        ("./etc/chancery/chancery.toml", "-rw-r--r-- root/root"),
        ("./usr/share/man/man1/chancery.1.gz", "-rw-r--r-- root/root"),
        ("./usr/share/doc/chancery/copyright", "-rw-r--r-- root/root"),
        ("./usr/share/doc/chancery/examples/chancery.rules.yml", "-rw-r--r-- root/root"),
        ("./usr/share/bash-completion/completions/chancery", "-rw-r--r-- root/root"),
    ] {
        let line = contents.lines().find(|line| line.ends_with(&format!(" {path}")));
        assert!(line.is_some_and(|line| line.starts_with(mode)), "{path} in {contents}");
    }
    // Whatever the package points to is in it.
    let texts = ["packaging/deb/chancery.toml", "packaging/deb/README.Debian", "docs/doctor.md", "docs/backup.md"];
    let codes = read("crates/services/src/doctor/code.rs");
    let texts: String = texts.map(read).concat() + &codes;
    let mut named = 0;
    for word in texts.split(|c: char| !(c.is_ascii_alphanumeric() || "/-._".contains(c))) {
        let word = word.trim_end_matches('.');
        let name = word.strip_prefix("docs/").or_else(|| word.strip_prefix("/usr/share/doc/chancery/"));
        if let Some(name) = name.filter(|name| name.ends_with(".md") && !name.contains('/')) {
            assert!(contents.contains(&format!(" ./usr/share/doc/chancery/{name}\n")), "{name} in {contents}");
            named += 1;
        }
    }
    assert!(named >= 4, "{named}");
    // An upload would close a bug of Debian's own tracker.
    let tags = "initial-upload-closes-no-bugs";
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--suppress-tags", tags]).arg(package());
    assert_eq!(well(&mut lintian), "");
}

#[test]
fn the_unit_leaves_little_open() {
    let unit = root().join("packaging/systemd/chancery.service");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--no-pager", "--offline=true", "--threshold", EXPOSURE_MAX]).arg(unit);
    let said = well(&mut command);
    let overall = said.lines().find(|line| line.contains("Overall exposure level")).expect("it says how much");
    println!("{overall}");
}

/// Installs the package in a system that is booted for it, with systemd, and lets inside.sh run the server there.
#[test]
fn the_installed_package_runs_under_its_unit_and_issues() {
    if !rustix::process::geteuid().is_root() {
        println!("a system is booted by root only: not done");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(root().join("tests/packaging/boot.sh"));
    print!("{}", well(command.arg(folder.path()).arg(package())));
}

#[test]
fn a_service_manager_is_told_when_the_server_answers_and_when_it_ends() {
    let site = Site::sqlite();
    let path = site.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut octets = [0; 500];
        let length = manager.recv(&mut octets).unwrap();
        String::from_utf8(octets[..length].to_vec()).unwrap()
    };
    let mut command = site.serve(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let server = site.start_as(command);
    assert_eq!(heard(), format!("READY=1\nSTATUS=answers at {}", server.url));
    server.stop();
    assert_eq!(heard(), "STOPPING=1\nSTATUS=finishes what was accepted");
}

#[test]
fn status_says_whether_a_server_answers() {
    let site = Site::sqlite();
    let server = site.start();
    for arguments in [&["status"][..], &["status", "--url", &server.url]] {
        let ran = site.run(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        assert!(ran.out.contains(&server.url), "{ran:?}");
    }
    // Not even the credentials that stand there are needed.
    fs::write(site.data().join("bootstrap.json"), "{}").unwrap();
    let ran = site.run(&["status", "--json", "--url", &server.url]);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["message"], "Ok");
    let url = server.url.clone();
    server.stop();
    site.run(&["status", "--url", &url]).failed_with("no answer from");
}

/// What `chancery serve --help` says, wherever its lines are broken.
fn help_of_serve(site: &Site) -> String {
    site.run(&["serve", "--help"]).out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The variables that `chancery serve` says it reads, and those beside the arguments.
fn variables(site: &Site) -> BTreeSet<String> {
    let help = help_of_serve(site);
    let named = help.split("[env: ").skip(1).map(|rest| rest.split([']', '=']).next().unwrap().to_owned());
    let beside = ["CHANCERY_MASTER_KEY", "CHANCERY_LOG"].map(str::to_owned);
    let all: BTreeSet<String> = named.chain(beside).collect();
    assert!(all.len() > 30, "{all:?}");
    all
}

/// The port of an address.
fn port(address: &str) -> u64 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Where the server listens, as variables say it, by what the container calls the port.
fn listeners(variable: impl Fn(&str) -> String) -> Vec<(&'static str, u64)> {
    let names = [
        ("http", "CHANCERY_LISTEN"),
        ("https", "CHANCERY_TLS_LISTEN"),
        ("mqtts", "CHANCERY_MQTT_LISTEN"),
        ("mqtt-wss", "CHANCERY_MQTT_WS_LISTEN"),
    ];
    names.map(|(name, listen)| (name, port(&variable(listen)))).to_vec()
}

/// The ports are those at which the server listens when nobody says otherwise.
fn check_usual(site: &Site, listeners: &[(&str, u64)]) {
    let help = help_of_serve(site);
    for (name, port) in listeners.iter().filter(|(name, _)| *name != "https") {
        assert!(help.contains(&format!("[default: 127.0.0.1:{port}]")), "{name} {port}");
    }
}

#[test]
fn the_container_sets_what_the_server_knows_and_is_no_root() {
    let site = Site::sqlite();
    let text = read("packaging/docker/Dockerfile").replace("\\\n", " ");
    let of = |word: &str| -> Vec<String> {
        let rest = |line: &str| line.strip_prefix(word)?.strip_prefix(' ').map(|rest| rest.trim().to_owned());
        text.lines().filter_map(rest).collect()
    };
    let settings: Vec<(String, String)> = of("ENV")
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    let known = variables(&site);
    for (name, _) in &settings {
        assert!(known.contains(name), "{name}");
    }
    let value = |name: &str| settings.iter().find(|(known, _)| known == name).expect(name).1.clone();
    let listeners = listeners(value);
    check_usual(&site, &listeners);
    let exposed: Vec<u64> = of("EXPOSE").join(" ").split_whitespace().map(|port| port.parse().unwrap()).collect();
    let outside: Vec<u64> = listeners.iter().map(|(_, port)| *port).filter(|port| *port != 8080).collect();
    assert_eq!(exposed, outside);
    assert_eq!(of("USER"), ["10001:10001"]);
    assert_eq!((of("VOLUME"), of("STOPSIGNAL")), (vec!["/var/lib/chancery".into()], vec!["SIGTERM".into()]));

    // The compiler is the one that the manifest asks for, and its profile is there.
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(of("FROM")[0].starts_with(&format!("rust:{version}-")), "{version}");
    assert!(manifest.contains("\n[profile.dist]\n") && text.contains("--profile dist --locked"));
    // With a profile of its own for this package, cargo leaves its symbols in the program.
    assert!(!manifest.contains("\nchancery = { opt-level"));

    // What it is probed with is what says whether a server answers.
    let check = text.split("HEALTHCHECK").nth(1).unwrap();
    let check = &check[check.find('[').unwrap()..=check.find(']').unwrap()];
    let check: Vec<String> = serde_json::from_str(check).unwrap();
    let server = site.start();
    let arguments: Vec<String> =
        check[1..].iter().map(|word| word.replace("http://127.0.0.1:8080", &server.url)).collect();
    assert!(arguments.contains(&server.url), "{check:?}");
    let ran = Ran::of(site.bare_command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The documents of a file in YAML.
fn yaml(path: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let mut command = Command::new(root().join(".test/venv/bin/python"));
    serde_json::from_str(&well(command.args(["-c", script]).arg(root().join(path)))).unwrap()
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// What there is of a kind, by its name.
fn named<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
    documents.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn names(values: &[Value]) -> BTreeSet<&str> {
    values.iter().map(|value| text_at(value, "/name")).collect()
}

#[test]
fn the_manifests_fit_each_other_and_the_server() {
    for (path, site, replicas) in [
        ("packaging/kubernetes/single-node.yaml", Site::sqlite(), 1),
        ("packaging/kubernetes/three-nodes.yaml", Site::postgres(), 3),
    ] {
        println!("{path}");
        let documents = yaml(path);
        let mut all = BTreeSet::new();
        for document in &documents {
            assert!(document["apiVersion"].is_string());
            assert_eq!(document["metadata"]["namespace"], "chancery");
            let name = (text_at(document, "/kind"), text_at(document, "/metadata/name"));
            assert!(all.insert(name), "{name:?} is there twice");
        }
        let set = named(&documents, "StatefulSet", "chancery");
        assert_eq!(set["spec"]["replicas"], replicas);
        check_pod(&documents, set, &read(path));
        check_ways_in(&documents, set);
        let file = text_at(named(&documents, "ConfigMap", "chancery-file"), "/data/chancery.toml");
        check_settings(&site, named(&documents, "ConfigMap", "chancery"), file, set);
        let budgets = documents.iter().filter(|document| document["kind"] == "PodDisruptionBudget").count();
        assert_eq!(budgets, usize::from(replicas > 1));
    }
}

/// Everything that the pods name is there, and they have no more rights than they need.
fn check_pod(documents: &[Value], set: &Value, text: &str) {
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    named(documents, "ServiceAccount", text_at(pod, "/serviceAccountName"));
    named(documents, "Service", text_at(set, "/spec/serviceName"));
    named(documents, "ConfigMap", text_at(container, "/envFrom/0/configMapRef/name"));
    for variable in list_at(container, "/env") {
        let (secret, key) =
            (text_at(variable, "/valueFrom/secretKeyRef/name"), text_at(variable, "/valueFrom/secretKeyRef/key"));
        let begin = text.find(&format!("create secret generic {secret}")).expect("how the secret is made");
        let made: String = text[begin..].lines().take(2).collect();
        assert!(made.contains(&format!("--from-literal={key}=")), "{secret}: {made}");
    }
    let volumes = list_at(pod, "/volumes").iter().map(|volume| text_at(volume, "/name"));
    let claims = list_at(set, "/spec/volumeClaimTemplates").iter().map(|claim| text_at(claim, "/metadata/name"));
    let there: BTreeSet<&str> = volumes.chain(claims).collect();
    assert_eq!(names(list_at(container, "/volumeMounts")), there);
    let ports = names(list_at(container, "/ports"));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let probe = &container[probe]["httpGet"];
        assert_eq!(probe["path"], "/api/status");
        assert!(ports.contains(text_at(probe, "/port")));
    }
    assert_eq!(text_at(container, "/image"), format!("chancery:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["args"], json!(["serve"]));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 10001);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let rights = &container["securityContext"];
    assert_eq!(rights["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!((&rights["allowPrivilegeEscalation"], &rights["readOnlyRootFilesystem"]), (&json!(false), &json!(true)));
    assert_eq!(pod["automountServiceAccountToken"], false);
}

/// Services, the ingress, the budget and the network policy lead to the pods and to ports that they have.
fn check_ways_in(documents: &[Value], set: &Value) {
    let template = &set["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    let ports = list_at(template, "/spec/containers/0/ports");
    let port_names = names(ports);
    assert_eq!(set.pointer("/spec/selector/matchLabels"), Some(labels));
    for document in documents {
        let spec = &document["spec"];
        match text_at(document, "/kind") {
            "Service" => {
                assert_eq!(&spec["selector"], labels);
                for port in list_at(spec, "/ports") {
                    assert!(port_names.contains(text_at(port, "/targetPort")), "{port}");
                }
            }
            "PodDisruptionBudget" => assert_eq!(spec.pointer("/selector/matchLabels"), Some(labels)),
            "NetworkPolicy" => {
                assert_eq!(spec.pointer("/podSelector/matchLabels"), Some(labels));
                let open = list_at(spec, "/ingress").iter().flat_map(|rule| list_at(rule, "/ports"));
                assert_eq!(open.map(|port| text_at(port, "/port")).collect::<BTreeSet<_>>(), port_names);
            }
            "Ingress" => {
                for path in list_at(spec, "/rules/0/http/paths") {
                    let to = &path["backend"]["service"];
                    let service = named(documents, "Service", text_at(to, "/name"));
                    assert!(names(list_at(service, "/spec/ports")).contains(text_at(to, "/port/name")));
                }
            }
            "ServiceAccount" | "ConfigMap" | "StatefulSet" => {}
            other => panic!("nobody looks at a {other}"),
        }
    }
    let notes = &template["metadata"]["annotations"];
    let http = ports.iter().find(|port| port["name"] == "http").unwrap();
    assert_eq!(notes["prometheus.io/port"], http["containerPort"].to_string());
}

/// A server starts with these settings and certifies what they say; the ports are those that the pods name.
fn check_settings(site: &Site, settings: &Value, file: &str, set: &Value) {
    let settings = settings["data"].as_object().unwrap();
    let known = variables(site);
    let secrets = list_at(set, "/spec/template/spec/containers/0/env").iter().map(|value| text_at(value, "/name"));
    for name in settings.keys().map(String::as_str).chain(secrets) {
        assert!(known.contains(name), "{name}");
    }
    let value = |name: &str| settings[name].as_str().unwrap().to_owned();
    let listeners = listeners(value);
    check_usual(site, &listeners);
    let ports = list_at(set, "/spec/template/spec/containers/0/ports");
    let named: Vec<(&str, u64)> =
        ports.iter().map(|port| (text_at(port, "/name"), port["containerPort"].as_u64().unwrap())).collect();
    assert_eq!(named, listeners);
    let mounts = list_at(set, "/spec/template/spec/containers/0/volumeMounts");
    let data = mounts.iter().find(|mount| mount["name"] == "data").unwrap();
    // Not the volume itself: its folder belongs to root, and the server makes one that is its own.
    assert!(Path::new(&value("CHANCERY_DATA")).parent() == Some(Path::new(text_at(data, "/mountPath"))));

    // The file is where it is looked for, and what is off in it can be switched on.
    let mount = mounts.iter().find(|mount| mount["name"] == "file").unwrap();
    assert_eq!(value("CHANCERY_CONFIG"), format!("{}/chancery.toml", text_at(mount, "/mountPath")));
    let on: Vec<&str> =
        file.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).filter(|line| !line.is_empty()).collect();
    assert!(on.iter().filter(|line| line.contains(" = ")).count() >= 5, "{on:?}");
    fs::write(site.path("chancery.toml"), on.join("\n")).unwrap();

    let mut command = site.serve(&[]);
    for (name, value) in settings {
        let value = value.as_str().unwrap();
        match name.as_str() {
            "CHANCERY_DATA" => {}
            "CHANCERY_CONFIG" => drop(command.env(name, site.path("chancery.toml"))),
            // Many servers run at once.
            name if name.ends_with("LISTEN") => drop(command.env(name, "0.0.0.0:0")),
            name => drop(command.env(name, value)),
        }
    }
    command.env("CHANCERY_MASTER_KEY", "fbff000102030405060708090a0b0c0d0e0f101112131415161718191a1b1cff");
    let server = site.start_as(command);
    let issued = block_on(async { Api::log_in(site, &server).await.issue(site, "pod.example.com").await });
    let der = x509::Certificate::from_pem(text_at(&issued, "/certificate")).unwrap();
    let url = value("CHANCERY_PUBLICATION_URL");
    assert!(der.as_der().windows(url.len()).any(|octets| octets == url.as_bytes()));
    server.stop();
}

#[test]
fn alerts_and_dashboard_ask_for_what_the_server_gives() {
    let rules = yaml("packaging/prometheus/chancery.rules.yml");
    let rules: Vec<&Value> =
        rules[0]["groups"].as_array().unwrap().iter().flat_map(|group| list_at(group, "/rules")).collect();
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/chancery.json")).unwrap();
    let panels = list_at(&dashboard, "/panels").iter().filter(|panel| panel["type"] != "row");
    let mut asked: Vec<String> = rules.iter().map(|rule| text_at(rule, "/expr").to_owned()).collect();
    for panel in panels {
        asked.extend(list_at(panel, "/targets").iter().map(|target| text_at(target, "/expr").to_owned()));
    }
    asked.push(text_at(&dashboard, "/templating/list/1/query/query").to_owned());
    assert!(rules.len() >= 15 && asked.len() > 40, "{} {}", rules.len(), asked.len());

    on_both_engines(|site| check_given(site, &asked));
    well(Command::new("promtool").args(["check", "rules"]).arg(root().join("packaging/prometheus/chancery.rules.yml")));
    // Whoever is woken finds what to do.
    let manual = read("docs/operations.md");
    for rule in rules {
        let (name, wakes) = (text_at(rule, "/alert"), rule["labels"]["severity"] == "page");
        let row = format!("| {name} | {} |", if wakes { "yes" } else { "no" });
        assert!(manual.contains(&row), "{row}");
    }
}

/// After a certificate was issued and revoked, every metric and every value of a label that is asked for is given.
fn check_given(site: &Site, asked: &[String]) {
    let server = site.start();
    let given = block_on(async {
        let api = Api::log_in(site, &server).await;
        let issued = api.issue(site, "watched.example.com").await;
        let path = format!("/api/v1/cert-manager/certificates/{}/revoke", text_at(&issued, "/certificateId"));
        api.post(&path, &json!({"revocationReason": "SUPERSEDED"})).await.unwrap().ok();
        api.post(&path, &json!({"revocationReason": "SUPERSEDED"})).await.unwrap().refused(400);
        let given = api.text("/metrics").await;
        for line in [
            "chancery_certificates_issued_total 1",
            "chancery_certificates_revoked_total 1",
            "chancery_request_seconds_count{kind=\"issue\"} 1",
            "chancery_request_seconds_bucket{le=\"+Inf\",kind=\"revoke\"} 2",
            "chancery_requests_refused_total{kind=\"revoke\"} 1",
            "chancery_requests_failed_total{kind=\"issue\"} 0",
            "chancery_sync_links{status=\"failed\"} 0",
            "chancery_database_up 1",
        ] {
            assert!(given.lines().any(|given| given == line), "{line} is not in {given}");
        }
        given
    });
    let facts = site.facts();
    for authority in ["rootCaId", "issuingCaId"] {
        let id = text_at(&facts, &format!("/{authority}"));
        assert!(given.contains(&format!("chancery_authority_end_timestamp_seconds{{authority=\"{id}\"}} ")), "{given}");
    }
    let samples: Vec<&str> = given.lines().filter(|line| !line.starts_with('#')).collect();
    let there: BTreeSet<&str> = samples.iter().filter_map(|line| line.split(['{', ' ']).next()).collect();
    for expression in asked {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let words: Vec<&str> = words.filter(|word| word.starts_with("chancery_")).collect();
        assert!(!words.is_empty() || expression.contains("up{job=\"chancery\"}"), "{expression}");
        for word in words {
            assert!(there.contains(word), "{word} of {expression} is not in {given}");
        }
        for (label, value) in label_values(expression) {
            assert!(samples.iter().any(|line| line.contains(&format!("{label}=\"{value}\""))), "{label}={value}");
        }
    }
}

/// The values of our own labels that an expression picks, alternatives one by one.
fn label_values(expression: &str) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    for label in ["kind", "status", "class", "queue"] {
        for operator in ["=\"", "=~\"", "!~\""] {
            for rest in expression.split(&format!("{label}{operator}")).skip(1) {
                found.extend(rest.split('"').next().unwrap().split('|').map(|value| (label, value)));
            }
        }
    }
    found
}
