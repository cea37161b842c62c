//! What the check of the inventory holds columns against that the certificate does not say itself, or not alone. The command,
//! and what it finds in DER and keys, is in `process/fsck.rs`.

use crate::authorities::{TYPED, first_root};
use crate::issuing::{REQUEST, issue, open_policy, policy, profile, profile_with};
use crate::server::{Server, for_each_engine, text};
use serde_json::json;
use store::{Changes, Row, Statement, Value};
use uuid::Uuid;

/// A column that is changed behind the server's back.
struct Damage {
    table: &'static str,
    column: &'static str,
    /// What it becomes, as SQL.
    to: &'static str,
    /// Which row: SQL in which `$1` is the certificate's id.
    row: &'static str,
    /// How what is found begins.
    named: String,
}

async fn execute(server: &Server, sql: String, params: Vec<Value>) {
    let statement = Statement::new(sql.leak(), params).expect_one("there is the row");
    server.services.db.commit(Changes::new().statement(statement)).await.unwrap();
}

async fn findings(server: &Server) -> Vec<String> {
    let report = server.services.fsck(|_| ()).await.unwrap();
    report.findings.into_iter().map(|finding| format!("{}: {}", finding.subject, finding.problem)).collect()
}

/// Does the damage, wants it to be found and nothing else, and takes it back.
async fn check(server: &Server, id: Uuid, damage: &Damage) {
    let Damage { table, column, to, row, named } = damage;
    let select = format!("SELECT {column} FROM {table} WHERE {row}").leak();
    let before =
        server.services.db.row(select, vec![id.into()]).await.unwrap().map(Row::into_values).unwrap().remove(0);
    execute(server, format!("UPDATE {table} SET {column} = {to} WHERE {row}"), vec![id.into()]).await;
    let found = findings(server).await;
    assert!(!found.is_empty(), "{table}.{column} = {to}");
    assert!(found.iter().all(|one| one.starts_with(named)), "{table}.{column} = {to}, {named}: {found:?}");
    execute(server, format!("UPDATE {table} SET {column} = $2 WHERE {row}"), vec![id.into(), before]).await;
    assert_eq!(findings(server).await, [] as [&str; 0], "{table}.{column}");
}

#[test]
fn every_column_beside_an_imported_certificate_is_held_against_what_came_with_it() {
    for_each_engine(|server| async move {
        let sent = crate::import_leaf::foreign_body(&server);
        let path = "/api/v1/cert-manager/certificates/import-certificate";
        let id = Uuid::parse_str(&text(&server.post(path, sent).await.ok()["certificateId"])).unwrap();
        assert_eq!(findings(&server).await, [] as [&str; 0]);
        for (column, to) in [
            ("issuer_name_id", "0"),
            ("issuer_name_id", "(SELECT MIN(id) FROM issuer_names)"),
            ("created_at", "created_at + 1000"),
            ("details", "NULL"),
            ("details", r#"replace(details, 'BEGIN CERTIFICATE', 'BEGIN NOTHING')"#),
            ("authority_id", "(SELECT id FROM authorities WHERE name = 'root-ca')"),
            ("status", "1"),
        ] {
            let named = format!("certificate {id}");
            check(&server, id, &Damage { table: "certificates", column, to, row: "id = $1", named }).await;
        }
        let delete = "DELETE FROM leaf_keys WHERE certificate_pk = (SELECT pk FROM certificates WHERE id = $1)";
        execute(&server, delete.into(), vec![id.into()]).await;
        let found = findings(&server).await;
        assert!(found.len() == 1 && found[0].contains("its key was imported"), "{found:?}");
    });
}

#[test]
fn every_column_beside_a_certificate_is_held_against_what_it_leads_to() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let root = first_root(&server).await;
        let other_policy = policy(&server, open_policy("other")).await;
        profile_with(&server, "at-root", Some(&root), &other_policy, json!({})).await;
        let kept = issue(&server, &open, json!({})).await.ok();
        let revoked = issue(&server, &open, json!({})).await.ok();
        let revoke = format!("{REQUEST}/{}/revoke", text(&revoked["certificateId"]));
        server.post(&revoke, json!({"revocationReason": "SUPERSEDED"})).await.ok();
        server.at(10);
        server.post(&format!("{TYPED}/{}/crls/publish", server.issuing_ca), json!({})).await.ok();
        assert_eq!(findings(&server).await, [] as [&str; 0]);

        let id_of = |answer: &serde_json::Value| Uuid::parse_str(&text(&answer["certificateId"])).unwrap();
        let of_certificate = |column, to| Damage {
            table: "certificates",
            column,
            to,
            row: "id = $1",
            named: format!("certificate {}", id_of(&kept)),
        };
        for damage in [
            of_certificate("authority_id", "(SELECT id FROM authorities WHERE name = 'root-ca')"),
            of_certificate("authority_key_id", "(SELECT active_key_id FROM authorities WHERE name = 'root-ca')"),
            of_certificate("shard", "1"),
            of_certificate("shard", "NULL"),
            of_certificate("profile_id", "(SELECT id FROM policies WHERE name = 'other')"),
            of_certificate("profile_id", "(SELECT id FROM profiles WHERE slug = 'at-root')"),
            of_certificate("profile_id", "NULL"),
            of_certificate("profile_version", "profile_version + 1"),
            of_certificate("profile_version", "NULL"),
            of_certificate("policy_version", "policy_version + 1"),
            Damage {
                table: "leaf_keys",
                column: "data_key_version",
                to: "data_key_version + 1",
                row: "certificate_pk = (SELECT pk FROM certificates WHERE id = $1)",
                named: format!("certificate {}", id_of(&kept)),
            },
            Damage {
                table: "authority_keys",
                column: "data_key_version",
                to: "data_key_version + 1",
                row: "id = (SELECT authority_key_id FROM certificates WHERE id = $1)",
                named: "certificate authority issuing-ca".into(),
            },
        ] {
            check(&server, id_of(&kept), &damage).await;
        }
        for (column, to) in [
            ("not_after", "not_after + 1000"),
            ("reason", "1"),
            ("revoked_at", "revoked_at - 5000"),
            ("shard", "1"),
            ("project_id", "authority_key_id"),
        ] {
            let row = "serial = (SELECT serial FROM certificates WHERE id = $1)";
            let named = format!("revocation of {}", text(&revoked["serialNumber"]));
            check(&server, id_of(&revoked), &Damage { table: "revocations", column, to, row, named }).await;
        }
    });
}
