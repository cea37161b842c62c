//! Moving from Yandex IoT Core: `chancery iot import` and `export` of a thousand devices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::live::{Live, Ran, on_both_engines};
use crate::vendor_export::{DEVICES, VendorExport, broker_id, certificate, device_id, read, registry_id};

#[track_caller]
fn report(live: &Live, line: &str) -> Value {
    let began = Instant::now();
    let report = live.json(line);
    eprintln!("{line}: {:?}", began.elapsed());
    report
}

fn lines(report: &Value, is_meant: impl Fn(&Value) -> bool) -> Vec<&Value> {
    report["lines"].as_array().unwrap().iter().filter(|line| is_meant(line)).collect()
}

fn ids(lines: &[&Value], member: &str) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line[member].as_str().map(str::to_owned)).collect()
}

fn set(texts: &[String]) -> BTreeSet<String> {
    texts.iter().cloned().collect()
}

#[test]
fn a_thousand_devices_are_taken_over_again_and_again_and_exported_as_they_were() {
    let export = VendorExport::make();
    on_both_engines(|live| {
        export.write(&live.path("vendor"));

        let dry = report(live, "iot import vendor --dry-run");
        assert_eq!(dry["dryRun"], true);
        assert_eq!(live.json("iot registry list")["registries"], json!([]));
        live.fails(&format!("iot device show {}", device_id(1)), 1, "there is no device");

        let began = Instant::now();
        let real = report(live, "iot import vendor");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!(dry["summary"], real["summary"]);
        assert_eq!(dry["lines"], real["lines"], "a dry run says what is then done");
        check_report(&export, &real, "created");

        let again = report(live, "iot import vendor");
        check_report(&export, &again, "kept");
        assert_eq!(again["summary"]["created"], 0);

        check_exported(&export, live);
        // What we export can be taken over, too.
        assert_eq!(report(live, "iot import out")["summary"]["created"], 0);
        live.fails("iot export out", 1, "is not empty");
        live.says("fsck", &["clean"]);
    });
}

fn check_report(export: &VendorExport, report: &Value, outcome: &str) {
    let of = |kind: &str| lines(report, |line| line["kind"] == kind && line["outcome"] == outcome).len();
    assert_eq!((of("registry"), of("device"), of("broker")), (2, DEVICES, 1));
    let shared = export.sharing.len() / 2;
    assert_eq!(of("certificate"), export.certificates - shared);
    assert_eq!(report["summary"]["failed"], 0);

    let passwords = lines(report, |line| line["kind"] == "password");
    assert_eq!(ids(&passwords, "id"), set(&export.without_certificate));
    let sharing = lines(report, |line| line["reason"].as_str().unwrap().contains("share it"));
    assert_eq!(ids(&sharing, "id"), set(&export.sharing));
    if outcome == "created" {
        let expired = lines(report, |line| line["reason"].as_str().unwrap().contains("has expired"));
        assert_eq!(ids(&expired, "fingerprint"), set(&export.expired));
        let expiring = lines(report, |line| line["reason"].as_str().unwrap().contains("within 30 days"));
        assert_eq!(ids(&expiring, "fingerprint"), set(&export.expiring));
        let moved = lines(report, |line| line["reason"].as_str().unwrap().contains("b1gfolderofthevendor"));
        assert_eq!(moved.len(), 2);
    }
}

/// All of it is as it was, but for what the report said: folders and shared certificates.
fn check_exported(export: &VendorExport, live: &Live) {
    let began = Instant::now();
    live.says("iot export out", &["2 registries", "1000 devices", "1 brokers"]);
    eprintln!("iot export: {:?}", began.elapsed());
    let (exported, folder) = (read(&live.path("out")), live.fact("projectId"));
    let mut expected = export.files.clone();
    for registry in expected.get_mut("registries.json").unwrap().as_array_mut().unwrap() {
        registry["folder_id"] = folder.as_str().into();
    }
    for id in &export.sharing {
        let (name, _) = expected.iter().find(|(name, _)| name.ends_with(&format!("/{id}.json"))).unwrap();
        expected.insert(name.clone(), json!([]));
    }
    assert_eq!(exported.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, mut contents) in exported {
        if name.starts_with("aliases-") {
            // A list without an order at the vendor.
            let order = |row: &Value| row["alias"].as_str().unwrap().to_owned();
            contents.as_array_mut().unwrap().sort_by_key(order);
            expected.get_mut(&name).unwrap().as_array_mut().unwrap().sort_by_key(order);
        }
        assert_eq!(contents, expected[&name], "{name}");
    }
    assert_eq!(live.mode("out"), 0o700);
    assert_eq!(live.mode("out/registries.json"), 0o600);
    assert_eq!(live.mode(&format!("out/device-certs-{}", registry_id(0))), 0o700);
}

#[test]
fn what_was_taken_over_is_found_under_the_names_that_it_had() {
    on_both_engines(|live| {
        let (data, sha256, sha1) = certificate("localhost", 90);
        let (registry, device) = (registry_id(0), device_id(0));
        std::fs::create_dir_all(live.path(&format!("vendor/device-certs-{registry}"))).unwrap();
        live.write("vendor/registries.json", &json!([{ "id": registry, "name": "plant" }]).to_string());
        live.write(
            &format!("vendor/devices-{registry}.json"),
            &json!([{ "id": device, "registry_id": registry, "name": "pump" }]).to_string(),
        );
        let certificates = json!([{ "fingerprint": "the vendor's own", "certificate_data": data }]);
        live.write(&format!("vendor/device-certs-{registry}/{device}.json"), &certificates.to_string());
        live.says("iot import vendor", &[&registry, &device, &sha256, "3 created, 0 kept"]);

        let listed = live.json("iot certificate list --device pump");
        assert_eq!(listed["certificates"][0]["fingerprint"], sha256.as_str());
        live.fails(&format!("iot certificate delete {} --device pump", "0".repeat(40)), 1, "has no certificate");
        live.says(&format!("iot certificate delete {sha1} --device {device}"), &["no more"]);
        // It is repeated: what was taken away comes back, what is there stays.
        live.says("iot import vendor", &["1 created, 2 kept"]);
        let delete = ["iot", "certificate", "delete", "the vendor's own", "--device", "pump"];
        live.run_with(&delete, &[], "").succeeded("by the vendor's fingerprint");

        live.json("iot password add --registry plant --generate");
        let passwords = |report: &Value| ids(&lines(report, |line| line["kind"] == "password"), "id");
        std::fs::remove_dir_all(live.path(&format!("vendor/device-certs-{registry}"))).unwrap();
        assert_eq!(passwords(&live.json("iot import vendor")), set(&[device]), "who has a new password needs none");
    });
}

#[test]
fn what_fails_is_reported_and_the_rest_is_taken_over() {
    on_both_engines(|live| {
        let (registry, other) = (registry_id(0), registry_id(1));
        let (data, sha256, _) = certificate("localhost", 90);
        live.json("iot registry create taken");
        std::fs::create_dir_all(live.path("vendor")).unwrap();
        live.write(
            "vendor/registries.json",
            &json!([{ "id": registry, "name": "plant" }, { "id": other, "name": "taken" }]).to_string(),
        );
        let devices = json!([
            { "id": device_id(0), "name": "good", "topic_aliases": { "my/": format!("$devices/{}/", device_id(0)) } },
            { "id": device_id(1), "name": "good" },
            { "id": device_id(2), "name": "clash", "topic_aliases": { "my/2": format!("$devices/{}/", device_id(2)) } },
            { "id": device_id(3), "name": "foreign", "topic_aliases": { "x": format!("$devices/{}/", device_id(0)) } },
            { "id": device_id(4), "name": "no name at all" },
            { "id": device_id(5), "name": "bad-certificate" },
            { "id": registry, "name": "same-id" },
            { "id": device_id(6), "name": "leaving", "status": "DELETING" },
        ]);
        live.write(&format!("vendor/devices-{registry}.json"), &devices.to_string());
        std::fs::create_dir_all(live.path(&format!("vendor/device-certs-{registry}"))).unwrap();
        let certificates = json!([{ "fingerprint": "f", "certificate_data": "nonsense" }]);
        live.write(&format!("vendor/device-certs-{registry}/{}.json", device_id(5)), &certificates.to_string());
        live.write("vendor/brokers.json", &json!([{ "id": broker_id(), "name": "shop" }]).to_string());
        live.write(
            &format!("vendor/broker-certs-{}.json", broker_id()),
            &json!([{ "certificate_data": data, "fingerprint": sha256 }, { "certificate_data": data }]).to_string(),
        );
        for line in ["iot import vendor --dry-run", "iot import vendor", "iot import vendor"] {
            let ran = live.run(&format!("{line} --json"));
            assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{line}\n{}", ran.out);
            let report: Value = serde_json::from_str(&ran.out).unwrap();
            let failed = lines(&report, |line| line["outcome"] == "failed");
            let expected: BTreeSet<String> =
                [1, 2, 3, 4, 5].map(device_id).into_iter().chain([registry.clone(), other.clone()]).collect();
            let mut found = ids(&failed, "id");
            if line.ends_with("--dry-run") {
                // Two of one name are seen once the first is there, and the id of a registry once that is.
                found.extend([device_id(1), registry.clone()]);
            }
            assert_eq!(found, expected, "{line}\n{failed:#?}");
            let notices = lines(&report, |line| line["reason"].as_str().unwrap().contains("left out"));
            assert_eq!(ids(&notices, "id"), set(&[device_id(6)]));
        }
        let names: Vec<Value> = live.json("iot device list --registry plant")["devices"].as_array().unwrap().clone();
        assert_eq!(names.len(), 2, "good and bad-certificate: {names:?}");
        assert_eq!(live.json("iot certificate list --broker shop")["certificates"].as_array().unwrap().len(), 1);
        let ran = live.run("iot import vendor");
        assert_eq!(ran.code, Some(1));
        assert!(ran.out.contains("KIND") && ran.out.contains("failed"), "{}", ran.out);
    });
}

#[test]
fn a_folder_that_is_no_export_and_a_server_that_says_no_are_said() {
    on_both_engines(|live| {
        live.fails("iot import nowhere", 1, "there is no folder nowhere");
        std::fs::create_dir(live.path("empty")).unwrap();
        live.fails("iot import empty", 1, "neither registries.json nor brokers.json");
        live.write("empty/registries.json", "[{\"id\": ]");
        live.fails("iot import empty", 1, "registries.json is not JSON: expected value at line 1 column 9");
        live.write("empty/registries.json", "[{\"id\": \"r\"}]");
        live.fails("iot import empty --folder nowhere", 1, "there is no folder \"nowhere\"");
        live.fails("iot export other --folder nowhere", 1, "there is no folder \"nowhere\"");
        assert!(!live.path("other").exists());
        live.write("a-file", "");
        live.fails("iot export a-file", 1, "a-file");

        live.json("identity create viewer");
        live.json("identity grant viewer --role viewer");
        let id = live.json("identity show viewer")["identityUniversalAuth"]["clientId"].as_str().unwrap().to_owned();
        let secret = live.json("identity secret create viewer")["clientSecret"].as_str().unwrap().to_owned();
        let environment = [("CHANCERY_CLIENT_ID", id.as_str()), ("CHANCERY_CLIENT_SECRET", &secret)];
        let by_viewer =
            |line: &str| -> Ran { live.run_with(&line.split_whitespace().collect::<Vec<_>>(), &environment, "") };
        by_viewer("iot import empty").failed("import by a viewer", 1, "request id: ");
        by_viewer("iot export theirs").succeeded("export by a viewer");
    });
}
