//! `chancery identity` and `chancery project`.

use crate::live::on_both_engines;

#[test]
fn identities_get_secrets_and_roles_and_lose_them() {
    on_both_engines(|live| {
        live.says("identity list", &["NAME", "admin", "universal-auth"]);
        live.says(
            "identity create agent --token-ttl 1h --trusted-ip 127.0.0.0/8",
            &["no-access", "3600", "127.0.0.0/8"],
        );
        let other = live.json("identity create other --role member");
        assert_eq!(other["identity"]["role"], "member");
        assert_eq!(live.json("identity list")["totalCount"], 3);
        live.fails("identity create x --trusted-ip everywhere", 1, "request id: req-");
        assert_eq!(live.json("identity list")["totalCount"], 3, "half an identity is not left behind");
        live.says("identity show agent", &["client id", "3600"]);
        let client_id =
            live.json("identity show agent")["identityUniversalAuth"]["clientId"].as_str().unwrap().to_owned();
        live.fails("identity show nobody", 1, "chancery identity list");

        live.says("identity secret create agent --description first --uses 5", &["client secret", &client_id]);
        let made = live.json("identity secret create agent --ttl 1d");
        let (secret, id) = (made["clientSecret"].as_str().unwrap(), made["clientSecretData"]["id"].as_str().unwrap());
        live.fails("identity secret create nobody", 1, "there is no identity");
        live.says("identity secret list agent", &["PREFIX", "first"]);
        assert_eq!(live.json("identity secret list agent")["clientSecretData"].as_array().unwrap().len(), 2);
        live.fails("identity secret list nobody", 1, "there is no identity");

        let as_agent = |line: &str| {
            let environment = [("CHANCERY_CLIENT_ID", client_id.as_str()), ("CHANCERY_CLIENT_SECRET", secret)];
            live.run_with(&line.split_whitespace().collect::<Vec<_>>(), &environment, "")
        };
        let issue = "cert issue --profile client --common-name agent.example.com --force";
        as_agent(issue).failed(issue, 1, "hint: ");
        live.says("identity grant agent --role issuer", &["agent is now issuer"]);
        as_agent(issue).succeeded(issue);
        as_agent("ca create x --common-name x").failed("as agent", 1, "chancery identity grant");
        // Another grant takes the place of the first.
        let granted = live.json("identity grant agent --role viewer");
        assert_eq!(granted["identityMembership"]["roles"][0]["role"], "viewer");
        as_agent(issue).failed(issue, 1, "hint: ");
        live.fails("identity grant agent --role king", 1, "king");

        live.says(&format!("identity secret revoke agent {id}"), &["revoked"]);
        as_agent("ca list").failed("as agent", 1, "chancery login");
        live.fails("identity secret revoke agent 0198c5a0-0000-7000-8000-000000000001", 1, "request id: req-");
        let first = live.json("identity secret list agent");
        let first =
            first["clientSecretData"].as_array().unwrap().iter().find(|one| one["description"] == "first").unwrap();
        let revoked = live.json(&format!("identity secret revoke agent {}", first["id"].as_str().unwrap()));
        assert_eq!(revoked["clientSecretData"]["isClientSecretRevoked"], true);

        live.says("identity delete agent", &["deleted the identity agent"]);
        assert_eq!(live.json("identity delete other")["identity"]["name"], "other");
        live.fails("identity delete agent", 1, "there is no identity");
        live.fails("identity list --url http://127.0.0.1:1 --data data", 1, "no answer from http://127.0.0.1:1");
    });
}

#[test]
fn projects_are_made_listed_shown_and_deleted_and_keep_things_apart() {
    on_both_engines(|live| {
        live.says("project list", &["SLUG", &live.fact("projectSlug")]);
        live.says("project create Payments --slug payments --description money", &["payments", "money"]);
        let other = live.json("project create Others")["project"].clone();
        assert_eq!((&other["type"], &other["name"]), (&"cert-manager".into(), &"Others".into()));
        live.fails("project create Again --slug payments", 1, "request id: req-");
        assert_eq!(live.json("project list")["projects"].as_array().unwrap().len(), 3);
        live.says("project show payments", &["Payments", "money"]);
        assert_eq!(live.json(&format!("project show {}", other["id"].as_str().unwrap()))["name"], "Others");
        live.fails("project show nothing", 1, "nothing");

        live.says("ca list --project payments", &["There is no CA"]);
        live.says("ca create pay-root --common-name Pay --project payments", &["pay-root", "active"]);
        live.says("ca list --project payments", &["pay-root"]);
        live.fails("ca show pay-root", 1, "there is no CA");

        live.says("project delete payments", &["deleted the project payments"]);
        assert_eq!(live.json(&format!("project delete {}", other["id"].as_str().unwrap()))["name"], "Others");
        live.fails("project delete payments", 1, "payments");
        live.fails("project list --data nowhere", 1, "bootstrap.json");
    });
}
