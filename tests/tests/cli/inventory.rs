//! `chancery cert search` and `chancery cert counts`.

use crate::live::on_both_engines;

#[test]
fn certificates_are_searched_by_every_flag_and_counted() {
    on_both_engines(|live| {
        for name in ["shop.example.com", "db.shop.example.com", "agent-7"] {
            let profile = if name == "agent-7" { "client" } else { "web-server" };
            live.says(&format!("cert issue --profile {profile} --common-name {name} --out {name}"), &["issued"]);
        }
        let names = |line: &str| -> Vec<String> {
            let found = live.json(line);
            let list = found["certificates"].as_array().unwrap().iter();
            let names: Vec<String> = list.map(|one| one["commonName"].as_str().unwrap().to_owned()).collect();
            assert_eq!(found["totalCount"], names.len(), "{line}");
            names
        };
        let both = ["db.shop.example.com", "shop.example.com"];
        for (flags, expected) in [
            ("shop", &both[..]),
            ("SHOP.example --oldest", &["shop.example.com", "db.shop.example.com"]),
            ("hop", &[]),
            ("--common-name agent", &["agent-7"]),
            ("example.com --profile web-server --status active --sort common-name --oldest", &both),
            ("shop --ca issuing-ca --source issued --enrollment api", &both),
            ("shop --ca root-ca", &[]),
            ("shop --eku server_auth --key-size 256", &both),
            ("shop --key-algorithm RSA_2048", &[]),
            ("shop --metadata team=web", &[]),
            ("shop --expires-after 2020-01-01T00:00:00Z --issued-after 2020-01-01T00:00:00Z", &both),
            ("shop --expires-before 2020-01-01T00:00:00Z", &[]),
            ("shop --begins-after 2020-01-01T00:00:00Z --begins-before 2020-01-02T00:00:00Z", &[]),
        ] {
            assert_eq!(names(&format!("cert search {flags}")), expected, "{flags}");
        }
        live.says("cert search shop --limit 1", &["db.shop.example.com", "1 of 2"]);
        live.fails("cert search --metadata team", 2, "KEY=VALUE");
        live.fails("cert search --expires-after soon", 1, "notAfterFrom");

        let counts = live.json("cert counts");
        assert_eq!(counts["active"], live.json("cert list --limit 100")["totalCount"]);
        live.says("cert counts", &["active", "PROFILE", "web-server", "issuing-ca"]);
        let ends = live.json("cert counts --expiring 3660 --by-week --ca issuing-ca");
        assert_eq!((&ends["step"], &ends["total"]), (&"week".into(), &counts["active"]));
        live.says("cert counts --expiring 3660 --profile client", &["FROM", "CERTIFICATES"]);
        live.fails("cert counts --by-week", 2, "--expiring");
    });
}
