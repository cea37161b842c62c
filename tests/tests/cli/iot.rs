//! The device registry as a person works with it: every noun once, and one thing of each that fails.

use serde_json::Value;

use crate::live::on_both_engines;
use crate::vendor_export::certificate;

#[test]
fn registries_are_made_listed_changed_refused_and_deleted() {
    on_both_engines(|live| {
        live.says("iot registry list", &["There is no registry in this folder."]);
        let (pem, sha256, _) = certificate("backend", 90);
        live.write("backend.pem", &pem);
        let create = "iot registry create plant --description north --label site=1 --certificate backend.pem";
        live.says(create, &["made the registry", "plant", "ACTIVE", "\"site\":\"1\""]);
        live.fails(create, 1, "plant");
        live.fails("iot registry create twin --certificate backend.pem", 1, "registered already");
        live.fails("iot registry create a.b", 1, "request id: ");
        let made = live.json("iot registry create other --generate");
        assert_eq!(made["done"], true);
        assert_eq!(made["response"]["name"], "other");
        assert!(made["password"].as_str().unwrap().len() >= 32);
        live.says("iot registry list", &["NAME", "plant", "other"]);
        live.says("iot registry list --folder default", &["plant", "other"]);
        assert_eq!(live.json("iot registry list --limit 1")["registries"].as_array().unwrap().len(), 1);
        live.fails("iot registry list --folder nowhere", 1, "there is no folder \"nowhere\"");

        let shown = live.json("iot registry show plant");
        let id = shown["id"].as_str().unwrap();
        live.says(&format!("iot registry show {id}"), &["plant", id]);
        live.fails("iot registry show nothing", 1, "chancery iot registry list");
        live.fails("iot registry update plant", 2, "nothing is to be changed");
        live.says("iot registry update plant --label site=2 --description south", &["\"site\":\"2\"", "south"]);
        let renamed = live.json("iot registry update plant --name factory --no-labels");
        assert_eq!(
            (&renamed["response"]["labels"], &renamed["response"]["description"]),
            (&Value::Null, &"south".into())
        );
        live.says("iot registry disable factory", &["disabled registry factory"]);
        assert_eq!(live.json("iot registry show factory")["status"], "DISABLED");
        live.says("iot registry enable factory", &["enabled registry factory"]);

        live.says("iot certificate list --registry factory", &[&sha256]);
        live.says("iot operation list --registry factory --limit 3", &["WHAT", "yes"]);
        let operations = live.json("iot operation list --registry factory");
        let operation = operations["operations"][0]["id"].as_str().unwrap();
        live.says(&format!("iot operation show {operation}"), &[operation, id]);
        live.fails("iot operation show nothing", 1, "nothing");

        live.json("iot device create pump --registry factory");
        live.fails("iot registry delete factory", 1, "device");
        live.json("iot device delete pump");
        live.says("iot registry delete factory", &["deleted registry factory"]);
        live.fails("iot registry delete factory", 1, "there is no registry factory");
    });
}

#[test]
fn devices_and_their_credentials_are_made_changed_and_deleted() {
    on_both_engines(|live| {
        live.json("iot registry create plant");
        live.json("iot registry create mill");
        let (pem, sha256, sha1) = certificate("pump", 90);
        live.write("pump.pem", &pem);
        let create = "iot device create pump --registry plant --alias pumps/1=$devices/{id} --label a=b";
        live.says(create, &["made the device", "pumps/1", "\"a\":\"b\""]);
        live.fails(create, 1, "pump");
        live.fails("iot device create valve --registry nothing", 1, "there is no registry nothing");
        live.json("iot device create pump --registry mill");
        live.says("iot device list", &["NAME", "pump"]);
        live.says("iot device list --registry plant --limit 5", &["pump"]);
        live.fails("iot device list --registry nothing", 1, "there is no registry nothing");
        // Two of one name: the registry or the id says which.
        live.fails("iot device show pump", 1, "several objects of the kind device are named pump");
        let shown = live.json("iot device show pump --registry plant");
        let id = shown["id"].as_str().unwrap();
        assert_eq!(shown["topicAliases"]["pumps/1"], format!("$devices/{id}"));
        live.says(&format!("iot device show {id}"), &[id, "pumps/1"]);
        live.says("iot device update pump --registry plant --name pump-1 --no-aliases", &["pump-1"]);
        assert_eq!(live.json("iot device show pump-1")["topicAliases"], Value::Null);
        live.says("iot device update pump-1 --alias p=$devices/{id}/state", &["/state"]);
        live.fails("iot device update pump-1 --alias p=elsewhere", 1, "elsewhere");

        live.says("iot certificate list --device pump-1", &["It has no certificate."]);
        live.says("iot certificate add pump.pem --device pump-1", &["device pump-1 has the certificate", &sha256]);
        live.fails("iot certificate add pump.pem --registry plant", 1, "registered already");
        live.fails("iot certificate add missing.pem --registry plant", 1, "missing.pem");
        let listed = live.json("iot certificate list --device pump-1");
        assert_eq!(listed["certificates"][0]["certificateData"], pem.as_str());
        live.says(&format!("iot certificate delete {sha1} --device pump-1"), &["no more"]);
        live.fails(&format!("iot certificate delete {sha1} --device pump-1"), 1, "has no certificate");
        let add = ["iot", "certificate", "add", "-", "--device", "pump-1"];
        live.run_with(&add, &[], &pem).succeeded("certificate add -");

        live.fails("iot password add --device pump-1", 2, "there is no password");
        let said = live.says("iot password add --device pump-1 --generate", &["password: ", "shown this once"]);
        let password = said.split("password: ").nth(1).unwrap().lines().next().unwrap();
        assert!(!live.says("iot password list --device pump-1", &["ID"]).contains(password));
        live.write("weak.txt", "password\n");
        live.fails("iot password add --device pump-1 --password-file weak.txt", 1, "14");
        let add = ["iot", "password", "add", "--device", "pump-1", "--password-file", "-", "--json"];
        let added = live.run_with(&add, &[], "Correct-Horse-7\n").succeeded("password add -");
        assert!(!added.contains("Correct"), "{added}");
        let passwords = live.json("iot password list --device pump-1");
        assert_eq!(passwords["passwords"].as_array().unwrap().len(), 2);
        let password = passwords["passwords"][0]["id"].as_str().unwrap();
        live.says(&format!("iot password delete {password} --device pump-1"), &["no more"]);
        live.fails(&format!("iot password delete {password} --device pump-1"), 1, password);

        live.says("iot device delete pump-1", &["deleted device pump-1"]);
        live.fails("iot device delete pump-1", 1, "there is no device pump-1");
    });
}

#[test]
fn brokers_are_made_listed_and_deleted() {
    on_both_engines(|live| {
        live.says("iot broker list", &["There is no broker in this folder."]);
        live.says("iot broker create shop --generate --label a=b", &["made the broker", "password: "]);
        live.fails("iot broker create shop", 1, "shop");
        live.says("iot broker list", &["shop"]);
        let id = live.json("iot broker show shop")["id"].as_str().unwrap().to_owned();
        live.says(&format!("iot broker show {id}"), &["shop"]);
        assert_eq!(live.json("iot password list --broker shop")["passwords"].as_array().unwrap().len(), 1);
        live.says("iot operation list --broker shop", &["yes"]);
        live.says("iot broker delete shop", &["deleted broker shop"]);
        live.fails("iot broker show shop", 1, "chancery iot broker list");
    });
}

#[test]
fn a_message_is_published_from_the_command_line_a_file_or_standard_input() {
    on_both_engines(|live| {
        live.json("iot registry create plant");
        let id = live.json("iot device create pump --registry plant")["response"]["id"].as_str().unwrap().to_owned();
        live.says("iot publish --device pump --topic $me/device/events hello", &["device pump published 5 bytes"]);
        live.write("message", "from a file");
        live.says(&format!("iot publish --device {id} --topic $devices/{id}/state --file message"), &["11 bytes"]);
        let publish =
            ["iot", "publish", "--registry", "plant", "--topic", &format!("$devices/{id}/commands"), "--file", "-"];
        live.run_with(&publish, &[], "stop").succeeded("publish --file -");
        live.fails("iot publish --device pump --topic $devices/other/events hello", 1, "request id: ");
        live.write("long", &"x".repeat(262_145));
        live.fails("iot publish --device pump --topic $me/device/events --file long", 1, "longer than 256 KiB");
        live.fails("iot publish --device pump --topic $me/device/events", 2, "MESSAGE");
    });
}

#[test]
fn messages_are_watched_with_a_password_and_with_a_certificate() {
    on_both_engines(|live| {
        let registry = live.json("iot registry create plant")["response"]["id"].as_str().unwrap().to_owned();
        let id = live.json("iot device create pump --registry plant")["response"]["id"].as_str().unwrap().to_owned();
        live.write("secret.txt", "Correct-Horse-7\n");
        live.says("iot password add --registry plant --password-file secret.txt", &["registry plant"]);
        live.says("cert issue --profile client --common-name backend --out ./", &["backend"]);
        live.says("iot certificate add backend.crt --registry plant", &["registry plant"]);
        // A permanent topic: what it holds is sent to whoever subscribes.
        live.says(&format!("iot publish --device pump --topic $devices/{id}/state warm"), &["4 bytes"]);

        let watch = format!("iot watch $devices/{id}/state --count 1 --timeout 60");
        let by_password = format!("{watch} --user {registry} --password-file secret.txt");
        assert_eq!(live.says(&by_password, &[]), format!("$devices/{id}/state warm\n"));
        let message = live.json(&by_password);
        assert_eq!((message["payload"].as_str(), message["stored"].as_bool()), (Some("warm"), Some(true)));
        let environment = [("CHANCERY_MQTT_PASSWORD", "Correct-Horse-7")];
        let line = format!("{watch} --user {registry}");
        live.run_with(&line.split_whitespace().collect::<Vec<_>>(), &environment, "").succeeded(&line);
        let by_certificate = "--certificate backend.crt --key backend.key";
        live.says(&format!("{watch} {by_certificate}"), &["warm"]);
        let nothing = live.says(&format!("iot watch $devices/{id}/events --timeout 1 {by_certificate}"), &[]);
        assert_eq!(nothing, "");

        live.write("wrong.txt", "Incorrect-Horse-7\n");
        live.fails(
            &format!("{watch} --user {registry} --password-file wrong.txt"),
            1,
            "the user or the password is wrong",
        );
        live.fails(&format!("iot watch $devices/{id}/commands {by_certificate}"), 1, "not allowed to subscribe");
        live.fails(&watch, 2, "neither a password nor a certificate");
        live.fails(&format!("{watch} {by_certificate} --mqtt 127.0.0.1:1"), 1, "cannot connect to 127.0.0.1:1");
        live.json("cert issue --profile client --common-name stranger --out ./");
        let stranger = "--certificate stranger.crt --key stranger.key";
        live.fails(&format!("{watch} {stranger}"), 1, "the certificate is not registered");
        live.fails(&format!("{watch} --certificate backend.crt --key stranger.key"), 1, "does not fit its key");
    });
}
