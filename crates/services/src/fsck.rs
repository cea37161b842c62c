//! Checks the inventory against itself: columns against the stored DER, certificates against their issuers, keys against
//! their certificates, authorities against their keys, and all of it against the audit. Changes nothing.

mod authorities;
mod imported;
mod responders;
mod revocations;
mod surroundings;

use crate::context::{Context, failed, key_failed};
use crate::vault::SERVER;
use async_recursion::async_recursion as compiled_here;
use domain::authority::AuthorityCertificate;
use domain::inventory::{CertificateStatus, DerivedColumns, IssuedBy};
use domain::{AuthorityCertificateId, AuthorityId, AuthorityKeyId, CrlId, Error, Result, Time};
use keys::{Keyring, Place, PrivateKey};
use serde::Serialize;
use std::collections::HashMap;
use store::Db;
use store::audit_chain::Verification;
use store::certificate::InventoryRow;
use uuid::Uuid;
use x509::{Certificate, SerialNumber, VerifyingKey};

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

/// What the inventory is held against.
#[derive(Default)]
struct Issuers {
    /// The keys under which signatures hold, by the certificates that they were issued with.
    keys: HashMap<AuthorityCertificateId, IssuingKey>,
    /// The lists by their keys and shards.
    lists: HashMap<(AuthorityKeyId, u32), CrlId>,
}

/// A key that certificates were signed with.
struct IssuingKey {
    authority: AuthorityId,
    key: AuthorityKeyId,
    verifying: VerifyingKey,
}

impl Context {
    /// Checks everything, and says after each page how many certificates were checked.
    pub async fn fsck(&self, progress: impl Fn(u64)) -> Result<Report> {
        let mut report = Report::default();
        for problem in self.db.integrity_problems().await.map_err(failed)? {
            report.find("the database file", problem);
        }
        self.check_server_secrets(&mut report).await?;
        let mut issuers = self.check_authorities(&mut report).await?;
        let mut last = 0;
        loop {
            let page = match store::certificate::after(&self.db, last, PAGE).await {
                Ok(page) => page,
                Err(store::StoreError::Corrupt(_) | store::StoreError::Engine(_)) => {
                    // One of them does not read: find it, and go on behind it.
                    match self.next_that_reads(last, &mut report).await? {
                        Some(one) => one,
                        None => break,
                    }
                }
                Err(error) => return Err(failed(error)),
            };
            let Some(newest) = page.last() else { break };
            self.check_surroundings(last + 1, &page, &mut issuers, &mut report).await?;
            for row in &page {
                report.certificates += 1;
                self.check_certificate(row, &mut issuers, &mut report).await?;
            }
            last = newest.pk;
            progress(report.certificates);
        }
        self.check_against_audit(&mut report).await?;
        Ok(report)
    }

    /// The next certificate after a place whose row can be read, and a finding for each before it that cannot.
    async fn next_that_reads(&self, mut last: i64, report: &mut Report) -> Result<Option<Vec<InventoryRow>>> {
        while let Some((pk, id)) = store::check::next_certificate(&self.db, last).await.map_err(failed)? {
            match store::certificate::after(&self.db, last, 1).await {
                Ok(one) => return Ok(Some(one)),
                Err(error) => report.find(&format!("certificate {id}"), format!("its row does not read: {error}")),
            }
            last = pk;
        }
        Ok(None)
    }

    async fn check_server_secrets(&self, report: &mut Report) -> Result<()> {
        for (name, id, sealed) in store::check::server_secrets(&self.db).await.map_err(failed)? {
            let place = Place { table: "server_secrets", row: id.as_bytes(), project: SERVER.as_bytes() };
            if let Err(error) = self.open(place, &sealed).await {
                report.find(&format!("the server secret {name}"), format!("it does not open: {error}"));
            }
        }
        for row in store::check::sealed_of_connections_and_syncs(&self.db).await.map_err(failed)? {
            let project = row.project.unwrap_or(SERVER);
            let place = Place { table: row.table, row: row.id.as_bytes(), project: project.as_bytes() };
            if let Err(error) = self.open(place, &row.sealed).await {
                report.find(&format!("{} of {}", row.id, row.table), format!("its secrets do not open: {error}"));
            }
        }
        Ok(())
    }

    /// The chain of the audit, and the inventory against what it says.
    async fn check_against_audit(&self, report: &mut Report) -> Result<()> {
        match self.verify_audit().await? {
            Ok(records) => report.audit_records = records,
            Err(broken) => report.find("the audit", broken),
        }
        for id in store::check::certificates_without_record(&self.db, PAGE).await.map_err(failed)? {
            report.find(&format!("certificate {id}"), "the audit does not say that it was issued so");
        }
        for id in store::check::records_without_certificate(&self.db, PAGE).await.map_err(failed)? {
            report.find(&format!("certificate {id}"), "the audit says that it was issued, and it is not there");
        }
        for id in store::check::certificates_that_are_hidden(&self.db, PAGE).await.map_err(failed)? {
            report.find(&format!("certificate {id}"), "it was issued from a profile, and is left out of the lists");
        }
        for id in store::check::certificates_that_are_misplaced(&self.db, PAGE).await.map_err(failed)? {
            report.find(&format!("certificate {id}"), "searches find it by something else than what is stored of it");
        }
        for wrong in store::inventory::miscounts(&self.db).await.map_err(failed)? {
            let subject = format!("the count of certificates of group {} that end on day {}", wrong.group, wrong.day);
            report.find(&subject, format!("{} are counted, and {} are there", wrong.counted, wrong.there));
        }
        for id in store::check::certificates_without_profile(&self.db, PAGE).await.map_err(failed)? {
            report.find(
                &format!("certificate {id}"),
                "the audit says that it was issued from a profile, and it names none",
            );
        }
        for id in store::check::certificates_without_key(&self.db, PAGE).await.map_err(failed)? {
            report.find(&format!("certificate {id}"), "the audit says that its key was made here, and it is not kept");
        }
        self.check_imports_against_audit(report).await?;
        match store::check::keys_without_certificate(&self.db).await.map_err(failed)? {
            0 => {}
            count => report.find("the keys of certificates", format!("{count} of them belong to no certificate")),
        }
        self.check_certificates_of_authorities(report).await
    }

    /// What an authority here signed for any authority stands in the inventory, where it can be revoked.
    async fn check_certificates_of_authorities(&self, report: &mut Report) -> Result<()> {
        let mut serials = Vec::new();
        for detail in store::check::signed_for_authorities(&self.db).await.map_err(failed)? {
            let detail: serde_json::Value = serde_json::from_str(&detail).unwrap_or_default();
            serials.extend(detail["serialNumber"].as_str().and_then(SerialNumber::from_hex));
        }
        for content in store::check::signed_among_authorities(&self.db).await.map_err(failed)? {
            serials.extend(SerialNumber::from_integer(&content));
        }
        for serial in serials {
            let hex = serial.to_hex();
            let is_there = store::check::is_accounted_for(&self.db, &serial.integer_content(), &hex).await;
            if !is_there.map_err(failed)? {
                report.find(&format!("the certificate of an authority, {hex}"), "it is not in the inventory");
            }
        }
        Ok(())
    }

    async fn check_certificate(&self, row: &InventoryRow, issuers: &mut Issuers, report: &mut Report) -> Result<()> {
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
            let in_group = |at: usize, value: &str| stored.in_group.as_ref().is_none_or(|group| group[at] == value);
            let same = [
                ("serial number", stored.serial == derived.serial),
                ("common name", stored.common_name == derived.common_name),
                ("alternative names", stored.alt_names == derived.alt_names.join(", ")),
                ("beginning", stored.not_before == derived.not_before),
                ("end", stored.not_after == derived.not_after),
                ("key algorithm", in_group(0, derived.key_algorithm)),
                ("signature algorithm", in_group(1, derived.signature_algorithm)),
                ("extended key usages", in_group(2, &derived.extended_key_usages.join(", "))),
            ];
            for (column, _) in same.iter().filter(|(_, same)| !same) {
                report.find(&subject, format!("its stored {column} is not that of the certificate"));
            }
        }
        self.check_signature(row, &certificate, &subject, issuers, report).await?;
        if (issued.status == CertificateStatus::Revoked) != row.revoked_at.is_some() {
            report.find(&subject, "its stored status is not that of its revocation");
        }
        if !row.has_key {
            return Ok(());
        }
        report.keys += 1;
        let Some(sealed) = store::certificate::leaf_key(&self.db, row.pk).await.map_err(failed)? else {
            return Ok(());
        };
        if Keyring::value_version(&sealed.sealed).ok() != Some(sealed.data_key_version) {
            report
                .find(&subject, "the stored version of the data key of its private key is not the one that sealed it");
        }
        match self.open_leaf_key(issued, &certificate, &sealed.sealed).await {
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

    async fn check_signature(
        &self,
        row: &InventoryRow,
        certificate: &Certificate,
        subject: &str,
        issuers: &mut Issuers,
        report: &mut Report,
    ) -> Result<()> {
        if let Some(imported) = &row.issued.details.imported {
            for problem in imported::problems_of(certificate, imported) {
                report.find(subject, problem);
            }
            return Ok(());
        }
        let own;
        let key = match row.issued.issuer {
            Some(by) => self.issuer_key(by, issuers).await?.map(|issuing| &issuing.verifying),
            None => {
                own = certificate.verifying_key().ok();
                own.as_ref()
            }
        };
        match key {
            None => report.find(subject, "the certificate of its issuer is not stored"),
            Some(key) if !certificate.verify_signature(key) => report.find(subject, "its signature does not hold"),
            Some(_) => {}
        }
        Ok(())
    }

    /// The key of an issuer. One that is not known may have been made while this runs.
    async fn issuer_key<'a>(&self, by: IssuedBy, issuers: &'a mut Issuers) -> Result<Option<&'a IssuingKey>> {
        if !issuers.keys.contains_key(&by.certificate) {
            for stored in store::authority::certificates(&self.db, by.authority).await.map_err(failed)? {
                issuers.add(&stored);
            }
        }
        Ok(issuers.keys.get(&by.certificate))
    }

    /// Whether the chain of the audit is whole: how many records it has, or what is broken first.
    #[compiled_here]
    pub async fn verify_audit(&self) -> Result<std::result::Result<u64, String>> {
        let key = self.read_server_secret("audit-key").await?;
        let key = key.ok_or_else(|| Error::failed("the database holds no audit key: no server has run on it"))?;
        let key: [u8; 32] =
            key.expose().try_into().map_err(|_| Error::failed("the audit key does not have 32 octets"))?;
        match store::audit_chain::verify(&self.db, key).await.map_err(failed)? {
            Verification::Whole { records } => Ok(Ok(records)),
            Verification::Broken { node, node_seq, what } => {
                Ok(Err(format!("record {node_seq} of node {node} is not as it was written: {what}")))
            }
        }
    }
}

/// The newest records of the audit, newest first. Reading them takes no key.
#[compiled_here]
pub async fn audit_records(db: &Db, limit: u32) -> Result<Vec<ShownRecord>> {
    let records = store::audit::newest(db, limit).await.map_err(failed)?;
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

impl Issuers {
    /// Notes the key of a certificate that reads.
    fn add(&mut self, stored: &AuthorityCertificate) {
        let certificate = Certificate::from_der(stored.der.clone()).ok();
        if let Some(verifying) = certificate.and_then(|certificate| certificate.verifying_key().ok()) {
            self.keys.insert(stored.id, IssuingKey { authority: stored.authority, key: stored.key, verifying });
        }
    }
}

impl Report {
    fn find(&mut self, subject: &str, problem: impl Into<String>) {
        self.findings.push(Finding { subject: subject.to_owned(), problem: problem.into() });
    }
}

/// The time as `2025-11-07T05:31:56Z`, by the calendar of certificates.
pub(crate) fn rfc3339(at: Time) -> String {
    let text = x509::time::encode_generalized(at.seconds());
    let text = String::from_utf8_lossy(&text);
    match (text.get(0..4), text.get(4..6), text.get(6..8), text.get(8..10), text.get(10..12), text.get(12..14)) {
        (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) => {
            format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        }
        _ => text.into_owned(),
    }
}
