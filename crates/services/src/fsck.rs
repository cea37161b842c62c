//! Checks the inventory against itself: columns against the stored DER, certificates against their issuers, keys against
//! their certificates, authorities against their keys, and the chain of the audit. Changes nothing.

use crate::context::{Context, failed, key_failed};
use crate::issue::leaf_place;
use domain::authority::Authority;
use domain::inventory::DerivedColumns;
use domain::{AuthorityCertificateId, Error, Result, Time};
use keys::{Place, PrivateKey};
use serde::Serialize;
use std::collections::HashMap;
use store::audit_chain::Verification;
use store::certificate::InventoryRow;
use uuid::Uuid;
use x509::{Certificate, VerifyingKey};

/// What was looked at, and what was found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Certificates in the inventory.
    pub certificates: u64,
    /// Private keys of leaves.
    pub keys: u64,
    /// Authorities, deleted ones too.
    pub authorities: u64,
    /// Records of the audit.
    pub audit_records: u64,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What it is about.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A record of the audit for people and scripts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownRecord {
    /// When it happened, in milliseconds since 1970.
    pub at_millis: i64,
    /// When it happened, in UTC.
    pub at: String,
    /// What happened.
    pub event: String,
    /// To what kind of thing.
    pub object_kind: String,
    /// To which one.
    pub object_id: Option<String>,
    /// What kind of thing acted.
    pub actor_kind: String,
    /// Which one.
    pub actor_id: Option<String>,
    /// How it proved who it is.
    pub actor_method: String,
    /// The credential that it used.
    pub actor_credential: Option<String>,
    /// Where it came from.
    pub actor_address: Option<String>,
    /// The organisation.
    pub organization_id: Option<String>,
    /// The project.
    pub project_id: Option<String>,
    /// More about it.
    pub detail: serde_json::Value,
}

const PAGE: u32 = 500;

impl Context {
    /// Checks everything, and says after each page how many certificates were checked.
    pub async fn fsck(&self, progress: impl Fn(u64)) -> Result<Report> {
        let mut report = Report::default();
        for problem in self.db.integrity_problems().await.map_err(failed)? {
            report.find("the database file", problem);
        }
        let mut issuers = HashMap::new();
        for authority in store::authority::all(&self.db).await.map_err(failed)? {
            report.authorities += 1;
            self.check_authority(&authority, &mut issuers, &mut report).await?;
        }
        let mut last = 0;
        loop {
            let page = store::certificate::after(&self.db, last, PAGE).await.map_err(failed)?;
            for row in &page {
                last = row.pk;
                report.certificates += 1;
                self.check_certificate(row, &issuers, &mut report).await?;
            }
            progress(report.certificates);
            if page.len() < PAGE as usize {
                break;
            }
        }
        match self.verify_audit().await? {
            Ok(records) => report.audit_records = records,
            Err(broken) => report.find("the audit", broken),
        }
        Ok(report)
    }

    async fn check_authority(
        &self,
        authority: &Authority,
        issuers: &mut HashMap<AuthorityCertificateId, VerifyingKey>,
        report: &mut Report,
    ) -> Result<()> {
        let subject = format!("certificate authority {} ({})", authority.name, authority.id);
        let key = match store::authority::key(&self.db, authority.active_key).await.map_err(failed)? {
            Some(key) => key,
            None => {
                report.find(&subject, "its key is not stored");
                return Ok(());
            }
        };
        if let Some(sealed) = &key.sealed {
            let place = Place { table: "authority_keys", row: key.id.as_bytes(), project: key.project.as_bytes() };
            match self.open(place, sealed).await {
                Err(error) => report.find(&subject, format!("its private key does not open: {error}")),
                Ok(opened) => match PrivateKey::from_pkcs8(opened.expose()) {
                    Err(error) => report.find(&subject, format!("its private key does not read: {error}")),
                    Ok(private) if private.public_spki_der() != key.spki => {
                        report.find(&subject, "its private key is not that of its public key");
                    }
                    Ok(_) => {}
                },
            }
        }
        let mut has_active = authority.active_certificate.is_none();
        for stored in store::authority::certificates(&self.db, authority.id).await.map_err(failed)? {
            has_active |= authority.active_certificate == Some(stored.id);
            let name = format!("{subject}, certificate {}", stored.version);
            match Certificate::from_der(stored.der) {
                Err(error) => report.find(&name, format!("it does not read: {error}")),
                Ok(certificate) => {
                    if stored.key == key.id && certificate.spki_der() != key.spki {
                        report.find(&name, "it certifies another key");
                    }
                    match certificate.verifying_key() {
                        Ok(key) => drop(issuers.insert(stored.id, key)),
                        Err(problem) => report.find(&name, format!("its key is not usable: {problem}")),
                    }
                }
            }
        }
        if !has_active {
            report.find(&subject, "its active certificate is not stored");
        }
        if store::authority::crls(&self.db, authority.id).await.map_err(failed)?.is_empty() {
            report.find(&subject, "it has no revocation list");
        }
        Ok(())
    }

    async fn check_certificate(
        &self,
        row: &InventoryRow,
        issuers: &HashMap<AuthorityCertificateId, VerifyingKey>,
        report: &mut Report,
    ) -> Result<()> {
        let issued = &row.issued;
        let subject = format!("certificate {}", issued.id);
        let certificate = match Certificate::from_der(issued.der.clone()) {
            Ok(certificate) => certificate,
            Err(error) => {
                report.find(&subject, format!("it does not read: {error}"));
                return Ok(());
            }
        };
        let stored = store::certificate::stored_columns(&self.db, row.pk).await.map_err(failed)?;
        if let Some(stored) = stored {
            let derived = DerivedColumns::of(&certificate);
            let same = [
                ("serial number", stored.serial == derived.serial),
                ("common name", stored.common_name == derived.common_name),
                ("alternative names", stored.alt_names == derived.alt_names.join(", ")),
                ("beginning", stored.not_before == derived.not_before),
                ("end", stored.not_after == derived.not_after),
                ("key algorithm", stored.key_algorithm == derived.key_algorithm),
            ];
            for (column, _) in same.iter().filter(|(_, same)| !same) {
                report.find(&subject, format!("its stored {column} is not that of the certificate"));
            }
        }
        if let Some(by) = issued.issuer {
            match issuers.get(&by.certificate) {
                None => report.find(&subject, "the certificate of its issuer is not stored"),
                Some(key) if !certificate.verify_signature(key) => report.find(&subject, "its signature does not hold"),
                Some(_) => {}
            }
        }
        if !row.has_key {
            return Ok(());
        }
        report.keys += 1;
        let Some(sealed) = store::certificate::leaf_key(&self.db, row.pk).await.map_err(failed)? else {
            return Ok(());
        };
        match self.open(leaf_place(issued), &sealed.sealed).await {
            Err(error) => report.find(&subject, format!("its private key does not open: {error}")),
            Ok(opened) => {
                let private = PrivateKey::from_pkcs8(opened.expose()).map_err(key_failed);
                if !private.is_ok_and(|private| private.public_spki_der() == certificate.spki_der()) {
                    report.find(&subject, "its private key is not that of the certificate");
                }
            }
        }
        Ok(())
    }

    /// Whether the chain of the audit is whole: how many records it has, or what is broken first.
    pub async fn verify_audit(&self) -> Result<std::result::Result<u64, String>> {
        let key = self.read_server_secret("audit-key").await?;
        let key = key.ok_or_else(|| Error::failed("the database holds no audit key: no server has run on it"))?;
        let key: [u8; 32] = key.expose().try_into().map_err(|_| Error::failed("the audit key does not have 32 octets"))?;
        match store::audit_chain::verify(&self.db, key).await.map_err(failed)? {
            Verification::Whole { records } => Ok(Ok(records)),
            Verification::Broken { node, node_seq, what } => {
                Ok(Err(format!("record {node_seq} of node {node} is not as it was written: {what}")))
            }
        }
    }

    /// The newest records of the audit, newest first.
    pub async fn audit_records(&self, limit: u32) -> Result<Vec<ShownRecord>> {
        let records = store::audit::newest(&self.db, limit).await.map_err(failed)?;
        let text = |id: Option<Uuid>| id.map(|id| id.to_string());
        Ok(records
            .into_iter()
            .map(|record| ShownRecord {
                at_millis: record.at.millis(),
                at: rfc3339(record.at),
                event: record.event,
                object_kind: record.object_kind,
                object_id: text(record.object_id),
                actor_kind: record.actor_kind,
                actor_id: text(record.actor_id),
                actor_method: record.actor_method,
                actor_credential: text(record.actor_credential),
                actor_address: record.actor_address,
                organization_id: text(record.organization),
                project_id: text(record.project),
                detail: serde_json::from_str(&record.detail).unwrap_or(serde_json::Value::String(record.detail)),
            })
            .collect())
    }
}

impl Report {
    fn find(&mut self, subject: &str, problem: impl Into<String>) {
        self.findings.push(Finding { subject: subject.to_owned(), problem: problem.into() });
    }
}

/// The time as `2025-11-07T05:31:56Z`, by the calendar of certificates.
fn rfc3339(at: Time) -> String {
    let text = x509::time::encode_generalized(at.seconds());
    let text = String::from_utf8_lossy(&text);
    match (text.get(0..4), text.get(4..6), text.get(6..8), text.get(8..10), text.get(10..12), text.get(12..14)) {
        (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) => {
            format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        }
        _ => text.into_owned(),
    }
}
