//! OCSP responders against their keys and the keys that let them speak.

use super::Report;
use crate::context::{Context, failed};
use domain::authority::AuthorityKey;
use domain::{AuthorityKeyId, Result, Time};
use keys::Keyring;
use std::collections::HashMap;
use store::ocsp::ResponderRecord;
use x509::{Certificate, ExtendedKeyUsage, VerifyingKey};

impl Context {
    /// Holds the responders of each key against it.
    pub(super) async fn check_responders(
        &self,
        subject: &str,
        keys: &HashMap<AuthorityKeyId, AuthorityKey>,
        report: &mut Report,
    ) -> Result<()> {
        for key in keys.values() {
            for record in store::ocsp::responders(&self.db, key.id).await.map_err(failed)? {
                let name = format!("{subject}, OCSP responder {} of key {}", record.version, key.id);
                match self.read_responder(&record).await {
                    Err(error) => report.find(&name, format!("it cannot be used: {error}")),
                    Ok((certificate, _)) => self.check_responder(&name, &record, &certificate, key, report).await?,
                }
            }
        }
        Ok(())
    }

    async fn check_responder(
        &self,
        name: &str,
        record: &ResponderRecord,
        certificate: &Certificate,
        key: &AuthorityKey,
        report: &mut Report,
    ) -> Result<()> {
        if Keyring::value_version(&record.sealed).ok() != Some(record.data_key_version) {
            report.find(name, "the stored version of its data key is not the one that sealed it");
        }
        let issuer = VerifyingKey::from_spki_der(&key.spki).ok();
        if !issuer.is_some_and(|issuer| certificate.verify_signature(&issuer)) {
            report.find(name, "its signature does not hold");
        }
        let usages = certificate.extensions().extended_key_usages().ok().flatten();
        if usages.as_deref() != Some(&[ExtendedKeyUsage::OcspSigning]) {
            report.find(name, "its certificate is not one for answers about certificates alone");
        }
        let columns = store::check::responder_columns(&self.db, record.id).await.map_err(failed)?;
        let is_derived = columns.is_none_or(|columns| {
            columns.authority == key.authority
                && columns.serial == certificate.serial_content()
                && columns.not_before == Time::from_seconds(certificate.not_before())
                && columns.not_after == Time::from_seconds(certificate.not_after())
        });
        if !is_derived {
            report.find(name, "its stored authority, serial number or lifetime is not that of its certificate");
        }
        Ok(())
    }
}
