//! Connections and syncs as a person makes and watches them.

use crate::live::on_both_engines;

#[test]
fn a_certificate_is_carried_to_a_directory_and_watched_on_its_way() {
    on_both_engines(|live| {
        let place = live.path("places/web");
        std::fs::create_dir(&place).unwrap();
        let issued = live.json("cert issue --profile web-server --common-name www.example.com");
        let id = issued["certificateId"].as_str().unwrap();
        live.says("sync destinations", &["local-directory", "aws-certificate-manager", "{{certificateId}}"]);
        live.says("sync list", &["There is no sync yet"]);
        let create = format!(
            "sync create web --destination local-directory --config destinationPath={} --option certificateNameSchema={{{{commonName}}}} \
             --option combineCertificateChain=true --manual",
            place.display()
        );
        live.says(&create, &["web", "local-directory"]);
        live.fails(&create, 1, "already");
        live.fails("sync create bad --destination nowhere", 1, "");
        live.says(&format!("sync add web {id}"), &["1 certificates are linked", "sync watch web"]);
        live.says("sync preview web", &["create 1", "www.example.com"]);
        live.says("sync run web", &["www.example.com", "succeeded"]);
        assert!(live.read("places/web/www.example.com.pem").contains("BEGIN CERTIFICATE"));
        live.says("sync watch web", &["succeeded"]);
        live.says("sync preview web", &["unchanged 1"]);
        let shown = live.json("sync show web");
        assert_eq!(shown["certificates"][0]["certificateId"], id);
        live.says(&format!("sync remove web {id}"), &["1 certificates are not linked"]);
        live.says("sync delete web", &["deleted sync web"]);
        live.fails("sync show web", 1, "chancery sync list");
    });
}

#[test]
fn a_connection_is_made_checked_rotated_and_deleted_and_never_shows_its_secret() {
    on_both_engines(|live| {
        live.write("secret.txt", "between the two of us\n");
        live.says("connection kinds", &["webhook", "hmac", "ssh-key"]);
        live.says("connection list", &["There is no connection yet"]);
        let create = "connection create hook --kind webhook --method hmac --set url=http://127.0.0.1:9/ --set-file signingSecret=secret.txt";
        let said = live.says(create, &["hook", "webhook", "http://127.0.0.1:9/"]);
        assert!(!said.contains("between"), "{said}");
        live.fails(create, 1, "already");
        let outside = "connection create lan --kind webhook --method hmac --set url=https://10.0.0.1/ --set-file signingSecret=secret.txt";
        live.fails(outside, 1, "CHANCERY_EGRESS_ALLOW");
        live.says("connection check hook", &["accepted"]);
        live.says(
            "connection rotate hook --set url=http://127.0.0.1:9/next --set-file signingSecret=secret.txt",
            &["http://127.0.0.1:9/next", "version"],
        );
        let shown = live.says("connection show hook", &["hook"]);
        assert!(!shown.contains("between"), "{shown}");
        live.says("connection delete hook", &["deleted connection hook"]);
        live.fails("connection show hook", 1, "chancery connection list");
    });
}
