//! `chancery policy` and `chancery profile`.

use crate::live::on_both_engines;
use serde_json::json;

#[test]
fn policies_are_made_listed_shown_changed_and_deleted() {
    on_both_engines(|live| {
        live.says("policy list", &["NAME", "web-server", "90d"]);
        assert!(live.json("policy list --search web")["totalCount"].as_u64().unwrap() >= 1);
        live.fails("policy list --project no-such-project", 1, "no-such-project");
        live.says("policy show web-server", &["server_auth", "90d"]);
        let shown = live.json("policy show web-server");
        assert_eq!(shown["certificatePolicy"]["name"], "web-server");
        live.fails("policy show nothing", 1, "chancery policy list");

        let rules = "--allow-subject common_name:*.lab.example --allow-san dns:*.lab.example --deny-san dns:x.lab.example \
                     --allow-usage digital_signature --allow-eku server_auth --key-algorithm p256 \
                     --signature-algorithm ecdsa-sha256 --max-ttl 90d";
        live.says(
            &format!("policy create lab {rules}"),
            &["made the policy lab", "denied x.lab.example", "ECDSA-SHA256"],
        );
        live.write("policy.json", r#"{"description": "from a file", "validity": {"max": "1y"}}"#);
        let made = live.json("policy create copy --file policy.json --max-ttl 7d");
        assert_eq!(made["certificatePolicy"]["description"], "from a file");
        assert_eq!(made["certificatePolicy"]["validity"]["max"], "7d");
        live.fails("policy create lab2 --file missing.json", 1, "missing.json");
        live.write("wrong.json", r#"{"subject": [{"type": "shoe_size", "allowed": ["*"]}]}"#);
        live.fails("policy create lab2 --file wrong.json", 1, "subject.0.type");

        live.says("policy update copy --description changed", &["changed the policy copy", "7d"]);
        assert_eq!(live.json("policy update copy --max-ttl 30d")["certificatePolicy"]["description"], "changed");
        live.fails("policy update copy", 2, "nothing");
        live.fails("policy update nothing --max-ttl 1d", 1, "there is no policy");

        live.fails("policy delete web-server", 1, "request id: req-");
        live.says("policy delete copy", &["deleted the policy copy"]);
        assert_eq!(live.json("policy delete lab")["certificatePolicy"]["name"], "lab");
        live.fails("policy show lab", 1, "there is no policy");
    });
}

#[test]
fn profiles_are_made_listed_shown_changed_and_deleted() {
    on_both_engines(|live| {
        live.says("profile list", &["SLUG", "web-server", "issuing-ca"]);
        assert_eq!(live.json("profile list --search client")["certificateProfiles"][0]["slug"], "client");
        live.fails("profile list --project no-such-project", 1, "no-such-project");
        live.says("profile show web-server", &["issuing-ca", "web-server"]);
        assert_eq!(live.json("profile show device")["certificateProfile"]["caId"], live.fact("issuingCaId"));
        live.fails("profile show nothing", 1, "chancery profile list");

        live.says(
            "profile create lab --ca issuing-ca --policy web-server --renew-before-days 7 --default-ttl-days 14",
            &["made the profile lab", "7 days before the end", "14 days"],
        );
        let made = live.json("profile create self --issuer self-signed --policy web-server");
        assert_eq!(made["certificateProfile"]["caId"], json!(null));
        live.fails("profile create lab --ca issuing-ca --policy web-server", 1, "request id: req-");
        live.fails("profile create lab2 --ca issuing-ca --policy nothing", 1, "there is no policy");
        live.fails("profile create lab2 --ca nobody --policy web-server", 1, "there is no CA");

        live.says("profile update lab --renew-before-days 3", &["changed the profile lab", "3 days before the end"]);
        assert_eq!(live.json("profile update lab --description new")["certificateProfile"]["description"], "new");
        live.fails("profile update lab", 2, "nothing");
        live.fails("profile update lab --rename web-server", 1, "request id: req-");

        live.says("profile delete lab", &["deleted the profile lab"]);
        assert_eq!(live.json("profile delete self")["certificateProfile"]["slug"], "self");
        live.fails("profile delete lab", 1, "chancery profile list");
    });
}
