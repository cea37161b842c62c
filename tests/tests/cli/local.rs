//! Commands on the server's own data, server running or stopped, and those that need no server at all.

use crate::live::on_both_engines;

#[test]
fn the_data_is_checked_and_the_audit_read_with_the_server_running_and_stopped() {
    on_both_engines(|live| {
        live.json("cert issue --profile client --common-name c");
        for _ in ["running", "stopped"] {
            live.says("fsck", &["clean"]);
            assert!(live.json("fsck")["certificates"].as_u64().unwrap() >= 2);
            live.says("audit verify", &["whole"]);
            assert_eq!(live.json("audit verify")["valid"], true);
            live.says("audit list --limit 5", &["time"]);
            let records = live.json("audit list --limit 3");
            assert_eq!(records.as_array().unwrap().len(), 3);
            if live.path("stopped").exists() {
                continue;
            }
            live.stop();
            live.write("stopped", "");
        }
        live.fails("audit list --limit 0", 2, "--limit");
    });
}

#[test]
fn the_master_key_is_exchanged_while_the_server_runs() {
    on_both_engines(|live| {
        let before = live.read("data/master.key");
        live.says("keys rotate-master", &["master key"]);
        assert_ne!(live.read("data/master.key"), before);
        assert_eq!(live.mode("data/master.key"), 0o600);
        live.json("keys rotate-master");
        live.json("cert issue --profile client --common-name after");
        live.stop();
        live.start();
        live.json("cert issue --profile client --common-name later");
        live.says("fsck", &["clean"]);
    });
}

#[test]
fn a_folder_without_data_is_said() {
    on_both_engines(|live| {
        // An empty variable counts as none, so this is the embedded database on either engine.
        let elsewhere = [("CHANCERY_DATABASE_URL", "")];
        for line in [
            "fsck --data nowhere",
            "audit list --data nowhere",
            "audit verify --data nowhere",
            "keys rotate-master --data nowhere",
        ] {
            let ran = live.run_with(&line.split_whitespace().collect::<Vec<_>>(), &elsewhere, "");
            ran.failed(line, 1, "error: ");
        }
        live.fails("serve --listen 0.0.0.0:0 --data other", 1, "TLS");
    });
}

#[test]
fn what_needs_no_server_works_without_one() {
    on_both_engines(|live| {
        live.stop();
        live.says("version", &["chancery 0."]);
        assert!(live.json("version")["version"].as_str().unwrap().starts_with("0."));
        live.fails("version now", 2, "now");
        for shell in ["bash", "zsh", "fish"] {
            live.says(&format!("completions {shell}"), &["chancery", "fullchain"]);
        }
        assert_eq!(live.json("completions bash")["shell"], "bash");
        live.fails("completions ksh", 2, "ksh");
        live.says("--help", &["chancery cert issue", "login"]);
        live.says("cert issue --help", &["--profile", "Examples:"]);
        live.fails("ca list", 1, "is the server running?");
        assert_eq!(live.run("frobnicate").code, Some(2));
    });
}
