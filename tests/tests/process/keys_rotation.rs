//! The master key: exchanged while the server works, taken up after a kill, given by the environment, lost, wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::api::Api;
use crate::random::Random;
use crate::site::{Site, block_on, on_both_engines};

#[test]
fn the_master_key_is_exchanged_while_the_server_issues_and_no_request_fails() {
    on_both_engines(|site| {
        let server = site.start();
        let before = fs::read_to_string(site.data().join("master.key")).unwrap();
        block_on(async {
            let api = Api::log_in(site, &server).await;
            let is_done = Arc::new(AtomicBool::new(false));
            let clients = (0..3).map(|client| {
                let (api, is_done) = (api.clone(), is_done.clone());
                let body =
                    crate::api::issue_body(&site.fact("/profiles/web-server"), &format!("r{client}.example.com"));
                tokio::spawn(async move {
                    let mut issued = 0;
                    while !is_done.load(Ordering::Relaxed) {
                        api.post(crate::api::ISSUE, &body).await.unwrap().ok();
                        issued += 1;
                    }
                    issued
                })
            });
            let clients: Vec<_> = clients.collect();
            for round in 0..4 {
                // A project brings a data key of its own, which may come at any moment of the rotation.
                let project = json!({"projectName": format!("rotation {round}"), "type": "cert-manager"});
                let (made, ran) = tokio::join!(
                    api.post("/api/v2/workspace", &project),
                    tokio::task::spawn_blocking({
                        let mut command = site.command(&["keys", "rotate-master", "--json"]);
                        move || command.output().unwrap()
                    })
                );
                let project = made.unwrap().ok()["project"]["id"].as_str().unwrap().to_owned();
                assert!(ran.as_ref().unwrap().status.success(), "{ran:?}");
                make_authority(&api, &project, "sealed").await;
            }
            is_done.store(true, Ordering::Relaxed);
            for client in clients {
                assert!(client.await.unwrap() > 0);
            }
        });
        assert_rotated(site, &before);
        let resealed = site.count("SELECT COUNT(*) FROM audit_records WHERE event = 'data-key-resealed'");
        assert!(resealed >= 8, "{resealed} records");
        site.check_clean();
        server.stop();
        site.start().stop();
        site.check_clean();
    });
}

/// An authority of a project has a key that is sealed under the project's own data key.
async fn make_authority(api: &Api, project: &str, name: &str) {
    let body = json!({
        "projectId": project, "type": "root", "name": name, "status": "active", "commonName": name,
        "keyAlgorithm": "EC_prime256v1", "notAfter": "2040-01-01T00:00:00Z",
        "configuration": {
            "type": "root", "commonName": name, "keyAlgorithm": "EC_prime256v1", "notAfter": "2040-01-01T00:00:00Z",
        },
    });
    api.post("/api/v1/cert-manager/ca/internal", &body).await.unwrap().ok();
}

/// One key file, private, with another key than before, which seals everything.
#[track_caller]
fn assert_rotated(site: &Site, before: &str) {
    let path = site.data().join("master.key");
    assert_ne!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let beside = fs::read_dir(site.data()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let beside: Vec<String> = beside.filter(|name| name.starts_with("master.key") && name != "master.key").collect();
    assert!(beside.is_empty(), "{beside:?}");
    assert_eq!(site.count("SELECT COUNT(DISTINCT master_key_id) FROM data_keys"), 1);
}

#[test]
fn a_rotation_that_is_killed_at_any_moment_goes_on_when_it_is_run_again() {
    on_both_engines(|site| {
        let mut random = Random::new(0x5eed_0002);
        let server = site.start();
        let before = fs::read_to_string(site.data().join("master.key")).unwrap();
        block_on(async {
            let api = Api::log_in(site, &server).await;
            for round in 0..10 {
                let rotation = site.launch(site.command(&["keys", "rotate-master"]));
                tokio::time::sleep(Duration::from_millis(random.below(150) as u64)).await;
                rotation.kill();
                api.issue(site, &format!("k{round}.example.com")).await;
            }
        });
        server.kill();
        // A server that starts in the middle opens everything too.
        let server = site.start();
        site.check_clean();
        let ran = site.run(&["keys", "rotate-master"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_rotated(site, &before);
        site.check_clean();
        server.stop();
        site.start().stop();
    });
}

#[test]
fn a_master_key_from_the_environment_is_exchanged_by_a_start_with_both() {
    const NEW: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    on_both_engines(|site| {
        site.start().stop();
        let path = site.data().join("master.key");
        let old = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let with = |variables: &[(&str, &str)]| {
            let mut command = site.serve(&[]);
            command.envs(variables.iter().copied());
            command
        };
        site.start_as(with(&[("CHANCERY_MASTER_KEY", &old)])).stop();
        let said = site.launch(with(&[("CHANCERY_MASTER_KEY", NEW)])).refused();
        assert!(said.contains("master key"), "{said}");
        let server = site.start_as(with(&[("CHANCERY_MASTER_KEY", NEW), ("CHANCERY_MASTER_KEY_PREVIOUS", old.trim())]));
        assert_eq!(site.count("SELECT COUNT(DISTINCT master_key_id) FROM data_keys"), 1);
        let mut command = site.command(&["keys", "rotate-master"]);
        command.env("CHANCERY_MASTER_KEY", NEW);
        crate::site::Ran::of(command).failed_with("CHANCERY_MASTER_KEY_PREVIOUS");
        server.stop();

        let server = site.start_as(with(&[("CHANCERY_MASTER_KEY", NEW)]));
        block_on(async { Api::log_in(site, &server).await.issue(site, "new.example.com").await });
        server.stop();
        let said = site.launch(with(&[("CHANCERY_MASTER_KEY", &old)])).refused();
        assert!(said.contains("the master key at hand does not open"), "{said}");
        for wrong in ["short", "00112233"] {
            let said = site.launch(with(&[("CHANCERY_MASTER_KEY", wrong)])).refused();
            assert!(said.contains("CHANCERY_MASTER_KEY is not a master key"), "{said}");
            assert!(!said.contains(wrong), "{said}");
        }
        assert!(!path.exists());
    });
}

#[test]
fn a_lost_or_wrong_master_key_is_said_and_never_replaced() {
    on_both_engines(|site| {
        site.start().stop();
        let path = site.data().join("master.key");
        let right = fs::read_to_string(&path).unwrap();
        let put = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        let refused = |words: &str| {
            for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["fsck"], &["keys", "rotate-master"]] {
                site.run(arguments).failed_with(words);
            }
        };

        fs::remove_file(&path).unwrap();
        refused("no master key file");
        assert!(!path.exists());
        put("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", 0o600);
        refused("the master key at hand does not open");
        put("nonsense\n", 0o600);
        refused("is not a master key");
        put(&right, 0o644);
        refused("chmod 600");
        put(&right, 0o600);
        let beside = fs::read_dir(site.data())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("master.key."));
        assert_eq!(beside.count(), 0);
        site.start().stop();
        site.check_clean();
    });
}
