//! `chancery fsck` and `chancery audit` find what was changed behind the server's back, and name it.

use serde_json::Value;

use crate::api::Api;
use crate::site::{Ran, Site, block_on, on_both_engines};

/// What is done to one place, and what the finding has to name.
struct Damage {
    what: &'static str,
    table: &'static str,
    column: &'static str,
    key: String,
    value: String,
    named: String,
}

/// The tables that are damaged, and the column that tells their rows apart.
const TABLES: [(&str, &str); 9] = [
    ("certificates", "pk"),
    ("leaf_keys", "certificate_pk"),
    ("authorities", "id"),
    ("authority_keys", "id"),
    ("authority_certificates", "id"),
    ("crls", "id"),
    ("ocsp_responders", "id"),
    ("server_secrets", "name"),
    ("audit_records", "seq"),
];

#[test]
fn every_change_behind_the_servers_back_is_found_and_named() {
    on_both_engines(|site| {
        let server = site.start();
        let ids: Vec<String> = block_on(async {
            let api = Api::log_in(site, &server).await;
            let mut ids = Vec::new();
            for name in ["a.example.com", "b.example.com", "c.example.com"] {
                ids.push(api.issue(site, name).await["certificateId"].as_str().unwrap().to_owned());
            }
            ids
        });
        site.check_clean();
        for (table, _) in TABLES {
            site.execute(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
        }
        for damage in damages(site, &ids) {
            check(site, &damage);
        }
        check_audit(site);
        site.check_clean();
        server.stop();
        check_removals(site, &ids);

        site.execute("DELETE FROM leaf_keys WHERE certificate_pk = 3");
        site.execute("DELETE FROM certificates WHERE pk = 3");
        let found = subjects(site);
        assert_eq!(
            found.len(),
            2,
            "a certificate that was removed, and the count that is not that of the rest: {found:?}"
        );
        assert_eq!(found[0], format!("certificate {}", ids[1]));
        assert!(found[1].starts_with("the count of certificates of group"), "{found:?}");
    });
}

fn damages(site: &Site, ids: &[String]) -> Vec<Damage> {
    // The first certificate of the inventory is that of the issuing authority.
    let first = || "2".to_owned();
    let certificate = format!("certificate {}", ids[0]);
    let on_certificate = |what, column, value: String| Damage {
        what,
        table: "certificates",
        column,
        key: first(),
        value,
        named: certificate.clone(),
    };
    let issuing = format!("certificate authority issuing-ca ({}", site.fact("/issuingCaId"));
    let root = format!("certificate authority root-ca ({}", site.fact("/rootCaId"));
    let by_name = |name: &str, table: &str| {
        let column = if table == "authorities" { "id" } else { "authority_id" };
        format!(
            "(SELECT t.id FROM kept_{table} t JOIN kept_authorities a ON a.id = t.{column} WHERE a.name = '{name}')"
        )
    };
    let flipped = |table: &str, column: &str, key: &str, at: usize| {
        let key_column = TABLES.iter().find(|(name, _)| *name == table).unwrap().1;
        let mut octets = site.octets(column, &format!("{table} WHERE {key_column} = {key}"));
        let at = at.min(octets.len() - 1);
        octets[at] ^= 1;
        site.literal(&octets)
    };
    let mut damages = vec![
        on_certificate("an octet of the subject", "der", flipped("certificates", "der", "2", 200)),
        on_certificate("the last octet of the signature", "der", flipped("certificates", "der", "2", usize::MAX)),
        on_certificate("no DER at all", "der", site.literal(b"x")),
        on_certificate("its common name", "common_name", "'evil.example.com'".into()),
        on_certificate("its alternative names", "alt_names", "'evil.example.com'".into()),
        on_certificate("its end", "not_after", "not_after + 1000".into()),
        on_certificate("its beginning", "not_before", "0".into()),
        on_certificate("its serial number", "serial", flipped("certificates", "serial", "2", 9)),
        on_certificate("its status", "status", "1".into()),
        on_certificate("a status that there is not", "status", "7".into()),
        on_certificate("its details", "details", "'no document'".into()),
        on_certificate("when it was issued", "created_at", "created_at - 1".into()),
        on_certificate("its issuer", "issuer_name_id", "issuer_name_id + 1".into()),
        on_certificate("that it is listed", "is_listed", "0".into()),
        Damage {
            what: "the parent of an authority",
            table: "authorities",
            column: "parent_id",
            key: by_name("issuing-ca", "authorities"),
            value: "NULL".into(),
            named: issuing.clone(),
        },
        Damage {
            what: "the key of another certificate",
            table: "leaf_keys",
            column: "sealed",
            key: first(),
            value: "(SELECT k.sealed FROM kept_leaf_keys k WHERE k.certificate_pk = 3)".into(),
            named: certificate.clone(),
        },
        Damage {
            what: "the key of another authority",
            table: "authority_keys",
            column: "sealed",
            key: by_name("root-ca", "authority_keys"),
            value: "(SELECT k.sealed FROM kept_authority_keys k JOIN kept_authorities a ON a.id = k.authority_id
                    WHERE a.name = 'issuing-ca')"
                .into(),
            named: root.clone(),
        },
        Damage {
            what: "the key of another OCSP responder",
            table: "ocsp_responders",
            column: "sealed",
            key: by_name("root-ca", "ocsp_responders"),
            value: "(SELECT k.sealed FROM kept_ocsp_responders k JOIN kept_authorities a ON a.id = k.authority_id
                    WHERE a.name = 'issuing-ca')"
                .into(),
            named: root.clone(),
        },
        Damage {
            what: "the serial number of an OCSP responder",
            table: "ocsp_responders",
            column: "serial",
            key: by_name("issuing-ca", "ocsp_responders"),
            value: site.literal(&[1]),
            named: issuing.clone(),
        },
        Damage {
            what: "a hash that OCSP asks for",
            table: "authority_keys",
            column: "name_sha1",
            key: by_name("issuing-ca", "authority_keys"),
            value: site.literal(&[0; 20]),
            named: issuing.clone(),
        },
        Damage {
            what: "the serial number of an authority",
            table: "authorities",
            column: "serial_number",
            key: by_name("issuing-ca", "authorities"),
            value: "'00'".into(),
            named: issuing.clone(),
        },
        Damage {
            what: "a secret of the server",
            table: "server_secrets",
            column: "sealed",
            key: "'bootstrap'".into(),
            value: flipped("server_secrets", "sealed", "'bootstrap'", usize::MAX),
            named: "the server secret bootstrap".into(),
        },
    ];
    for (name, named) in [("root-ca", root), ("issuing-ca", issuing)] {
        for (what, table) in [
            ("its certificate", "authority_certificates"),
            ("its revocation list", "crls"),
            ("its OCSP responder", "ocsp_responders"),
        ] {
            let key = by_name(name, table);
            let value = flipped(table, "der", &key, usize::MAX);
            damages.push(Damage { what, table, column: "der", key, value, named: named.clone() });
        }
    }
    damages
}

/// Does the damage, wants it to be found, and takes it back.
#[track_caller]
fn check(site: &Site, damage: &Damage) {
    let Damage { what, table, column, key, value, named } = damage;
    let key_column = TABLES.iter().find(|(name, _)| name == table).unwrap().1;
    site.execute(&format!("UPDATE {table} SET {column} = {value} WHERE {key_column} = {key}"));
    let subjects = subjects(site);
    assert!(subjects.iter().any(|subject| subject.starts_with(named)), "{what} of {named}: {subjects:?}");
    // One damage is not blamed on what is sound.
    assert!(subjects.iter().all(|subject| subject.starts_with(named)), "{what} of {named}: {subjects:?}");
    site.execute(&format!(
        "UPDATE {table} SET {column} = (SELECT k.{column} FROM kept_{table} k WHERE k.{key_column} = {table}.{key_column})
         WHERE {key_column} = {key}"
    ));
}

/// Rows that are gone, or that belong to nothing: each is found and put back.
fn check_removals(site: &Site, ids: &[String]) {
    let of_issuing =
        "(SELECT a.serial FROM kept_authority_certificates a JOIN kept_authorities o ON o.id = a.authority_id
                       WHERE o.name = 'issuing-ca')";
    let group = "(SELECT group_id FROM kept_certificates WHERE pk = 2)";
    for (what, damage, repair, named) in [
        (
            "the key algorithm of a group of certificates",
            format!("UPDATE certificate_groups SET key_algorithm = 'RSA_2048' WHERE id = {group}"),
            format!("UPDATE certificate_groups SET key_algorithm = 'EC_prime256v1' WHERE id = {group}"),
            "certificate ".to_owned(),
        ),
        (
            "a key that was removed",
            "DELETE FROM leaf_keys WHERE certificate_pk = 3".to_owned(),
            "INSERT INTO leaf_keys SELECT * FROM kept_leaf_keys WHERE certificate_pk = 3".to_owned(),
            format!("certificate {}", ids[1]),
        ),
        (
            "the certificate of an authority that was removed",
            format!("DELETE FROM certificates WHERE serial = {of_issuing}"),
            format!("INSERT INTO certificates SELECT * FROM kept_certificates WHERE serial = {of_issuing}"),
            "the certificate of an authority".to_owned(),
        ),
        (
            "an authority without its active certificate",
            "UPDATE authorities SET active_certificate_id = NULL WHERE name = 'issuing-ca'".to_owned(),
            "UPDATE authorities SET active_certificate_id = (SELECT k.active_certificate_id FROM kept_authorities k
             WHERE k.id = authorities.id) WHERE name = 'issuing-ca'"
                .to_owned(),
            "certificate authority issuing-ca".to_owned(),
        ),
    ] {
        site.execute(&damage);
        let subjects = subjects(site);
        assert!(!subjects.is_empty() && subjects.iter().all(|one| one.starts_with(&named)), "{what}: {subjects:?}");
        site.execute(&repair);
    }
    // One that is found by nothing is counted nowhere, either.
    site.execute("UPDATE certificates SET group_id = NULL WHERE pk = 2");
    let found = subjects(site);
    assert_eq!((found.len(), &found[0]), (2, &format!("certificate {}", ids[0])), "{found:?}");
    assert!(found[1].starts_with("the count of certificates of group"), "{found:?}");
    site.execute(&format!("UPDATE certificates SET group_id = {group} WHERE pk = 2"));
    site.check_clean();
}

/// What the findings are about. The exit code says that there are some, in both forms of the output.
fn subjects(site: &Site) -> Vec<String> {
    let ran = site.run(&["fsck", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let subjects: Vec<String> =
        report["findings"].as_array().unwrap().iter().map(|one| one["subject"].as_str().unwrap().to_owned()).collect();
    subjects
}

/// A record that was edited, removed, moved or added; and the end of the chain cut off.
fn check_audit(site: &Site) {
    let seq = |offset: i64| site.count(&format!("SELECT seq FROM audit_records ORDER BY seq LIMIT 1 OFFSET {offset}"));
    let last = site.count("SELECT MAX(seq) FROM audit_records");
    for (what, sql) in [
        ("edited", format!("UPDATE audit_records SET detail = '{{}}' WHERE seq = {}", seq(2))),
        ("another actor", format!("UPDATE audit_records SET actor_address = '192.0.2.1' WHERE seq = {}", seq(3))),
        ("removed", format!("DELETE FROM audit_records WHERE seq = {}", seq(4))),
        ("the first removed", format!("DELETE FROM audit_records WHERE seq = {}", seq(0))),
        ("the last removed", format!("DELETE FROM audit_records WHERE seq = {last}")),
        ("moved", format!("UPDATE audit_records SET seq = {last} + 1 WHERE seq = {}", seq(1))),
        (
            "added",
            format!(
                "INSERT INTO audit_records SELECT {last} + 1, at, organization_id, project_id, actor_kind, actor_id,
                 actor_method, actor_credential, actor_address, event, object_kind, object_id, detail, hash
                 FROM kept_audit_records WHERE event <> 'certificate-issued' AND seq < {last} AND seq = {}",
                seq(1)
            ),
        ),
    ] {
        site.execute(&sql);
        let verified = site.run(&["audit", "verify"]);
        let checked = site.run(&["fsck"]);
        assert_eq!((verified.code, checked.code), (Some(1), Some(1)), "{what}: {verified:?} {checked:?}");
        assert!(verified.out.contains("record "), "{what}: {verified:?}");
        site.execute("DELETE FROM audit_records");
        site.execute("INSERT INTO audit_records SELECT * FROM kept_audit_records");
    }
    site.execute("CREATE TABLE kept_audit_heads AS SELECT * FROM audit_heads");
    site.execute("DELETE FROM audit_records");
    site.execute("DELETE FROM audit_heads");
    let verified = site.run(&["audit", "verify"]);
    assert!(verified.code == Some(1) && verified.out.contains("every record"), "{verified:?}");
    site.execute("INSERT INTO audit_records SELECT * FROM kept_audit_records");
    site.execute("INSERT INTO audit_heads SELECT * FROM kept_audit_heads");
    site.execute("DROP TABLE kept_audit_heads");
}

#[test]
fn the_audit_is_listed_newest_first_wherever_the_data_are_named() {
    on_both_engines(|site| {
        let server = site.start();
        block_on(async {
            let api = Api::log_in(site, &server).await;
            api.issue(site, "newest.example.com").await;
        });
        check_list(site, "running");
        server.stop();
        check_list(site, "stopped");
    });
}

fn check_list(site: &Site, state: &str) {
    let mut command = site.bare_command(&["audit", "list", "--json", "--data"]);
    command.arg(site.data());
    if let Some(url) = site.database_url() {
        command.args(["--database", url]);
    }
    let ran = Ran::of(command);
    assert_eq!(ran.code, Some(0), "{state}: {ran:?}");
    let records: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(records[0]["event"], "certificate-issued", "{state}");
    assert_eq!((&records[0]["actorKind"], &records[0]["actorAddress"]), (&"identity".into(), &"127.0.0.1".into()));
    let times: Vec<i64> = records.iter().map(|record| record["atMillis"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{state}: {times:?}");
}
