//! Connections and syncs as a person makes and watches them.

use serde_json::Value;

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
        let refused = live.fails("sync create bad --destination nope", 1, "there is no destination nope");
        assert!(refused.contains("aws-certificate-manager, aws-secrets-manager"), "{refused}");
        assert!(refused.contains("local-directory"), "{refused}");
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
fn a_sync_is_changed_and_takes_back_what_it_delivered() {
    on_both_engines(|live| {
        let place = live.path("places/web");
        std::fs::create_dir(&place).unwrap();
        let issued = live.json("cert issue --profile web-server --common-name www.example.com");
        let id = issued["certificateId"].as_str().unwrap();
        let create = format!(
            "sync create web --destination local-directory --config destinationPath={} --option certificateNameSchema={{{{commonName}}}} \
             --certificate {id} --manual",
            place.display()
        );
        live.says(&create, &["web"]);
        let before = live.json("sync show web")["pkiSync"].clone();

        // What is named changes, and nothing else does.
        let update = "sync update web --name edge --description ours --option fileMode=640 --option combineCertificateChain=true --automatic";
        live.says(update, &["edge", "ours"]);
        let after = live.json("sync show edge")["pkiSync"].clone();
        let mut options = before["syncOptions"].clone();
        options["fileMode"] = "640".into();
        options["combineCertificateChain"] = true.into();
        assert_eq!((&after["syncOptions"], &after["isAutoSyncEnabled"]), (&options, &true.into()));
        assert_eq!((&after["destinationConfig"], &after["id"]), (&before["destinationConfig"], &before["id"]));
        live.says("sync update edge --unset-option fileMode --description= --manual", &["edge"]);
        let after = live.json("sync show edge")["pkiSync"].clone();
        assert_eq!((&after["syncOptions"]["fileMode"], &after["description"]), (&Value::Null, &Value::Null));
        assert_eq!(after["isAutoSyncEnabled"], false);
        live.fails("sync update edge --unset-option fileMode", 1, "fileMode is not set; set are canImportCertificates");
        live.fails("sync update edge --option certificateNameSchema={{nope}}", 1, "there is no placeholder");
        live.fails("sync update edge --config destinationPath=/etc", 1, "CHANCERY_LOCAL_DIRECTORIES");
        live.fails("sync update edge --manual --automatic", 2, "cannot be used with");
        live.fails("sync update edge", 2, "required");
        live.fails("sync update web --manual", 1, "chancery sync list");

        // Form and password of files in one change.
        live.write("password.txt", "a long password\n");
        live.fails("sync update edge --option exportFormat=pkcs12", 1, "exportPassword");
        live.says("sync update edge --option exportFormat=pkcs12 --export-password-file password.txt", &["edge"]);
        live.says("sync run edge", &["succeeded"]);
        assert!(place.join("www.example.com.pfx").exists());

        live.says("sync remove-certificates edge", &["removed what sync edge put"]);
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        live.says("sync show edge", &["It carries no certificate"]);

        // What somebody changed since stays, and the command says so.
        live.says(&format!("sync add edge {id}"), &["1 certificates"]);
        live.says("sync run edge", &["succeeded"]);
        live.write("places/web/www.example.com.pfx", "somebody else's");
        live.fails("sync remove-certificates edge", 1, "was changed by somebody else");
        assert_eq!(live.read("places/web/www.example.com.pfx"), "somebody else's");
        live.fails("sync remove-certificates web", 1, "chancery sync list");
        live.write("secret.txt", "between the two of us\n");
        live.says(
            "connection create hook --kind webhook --method hmac --set url=http://127.0.0.1:9/ --set-file signingSecret=secret.txt",
            &["hook"],
        );
        live.says("sync create told --destination webhook --connection hook --manual", &["told"]);
        live.fails("sync remove-certificates told", 1, "nothing can be removed from webhook");
    });
}

#[test]
fn a_job_that_was_given_up_has_no_time() {
    on_both_engines(|live| {
        let place = live.path("places/gone");
        std::fs::create_dir(&place).unwrap();
        let issued = live.json("cert issue --profile web-server --common-name www.example.com");
        let id = issued["certificateId"].as_str().unwrap();
        live.says(
            &format!(
                "sync create gone --destination local-directory --config destinationPath={} \
                 --option certificateNameSchema={{{{commonName}}}} --manual",
                place.display()
            ),
            &["gone"],
        );
        std::fs::remove_dir(&place).unwrap();
        live.says(&format!("sync add gone {id}"), &["1 certificates"]);
        let ran = live.run("sync run gone");
        assert!(ran.code == Some(1) && ran.err.contains("1 of 1 certificates failed"), "{ran:?}");
        assert!(ran.out.contains("is not there"), "the cause is named: {ran:?}");
        // As it is after twenty attempts, which take hours.
        live.change_database("UPDATE jobs SET status = 'parked', run_at = 0 WHERE kind = 'run-sync'");
        let shown = live.says("job list --status parked", &["run-sync", "parked"]);
        assert!(!shown.contains("1970"), "{shown}");
        let jobs = live.json("job list --status parked");
        assert_eq!((&jobs["totalCount"], &jobs["jobs"][0]["runAt"]), (&1.into(), &Value::Null));
        let job = jobs["jobs"][0]["id"].as_str().unwrap().to_owned();
        let shown = live.says(&format!("job show {job}"), &["run-sync", "is not there"]);
        assert!(!shown.contains("1970") && !shown.contains("runs at"), "{shown}");
        std::fs::create_dir(&place).unwrap();
        live.says(&format!("job retry {job}"), &["queued", "runs at"]);
        live.says("sync run gone", &["succeeded"]);
        live.says("job list --status parked", &["There is no such job"]);
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
