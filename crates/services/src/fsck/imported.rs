//! Imported certificates against the chain that came with them and against the audit.

use super::{PAGE, Report};
use crate::context::{Context, failed};
use domain::Result;
use domain::inventory::ImportedWith;
use x509::{Certificate, pem};

impl Context {
    /// Imported certificates against what the audit says of them.
    pub(super) async fn check_imports_against_audit(&self, report: &mut Report) -> Result<()> {
        for id in store::imported::without_record(&self.db, PAGE).await.map_err(failed)? {
            report.find(&format!("certificate {id}"), "the audit does not say that it was imported so");
        }
        for id in store::imported::without_certificate(&self.db, PAGE).await.map_err(failed)? {
            report
                .find(&format!("certificate {id}"), "the audit says that it was imported, and it is not there as such");
        }
        for id in store::imported::without_key(&self.db, PAGE).await.map_err(failed)? {
            report.find(
                &format!("certificate {id}"),
                "the audit says that its key was imported with it, and it is not kept",
            );
        }
        Ok(())
    }
}

/// Each certificate of the chain signed the one before it. One that came alone is checked when it names itself.
pub(super) fn problems_of(certificate: &Certificate, imported: &ImportedWith) -> Vec<&'static str> {
    let chain: std::result::Result<Vec<Certificate>, _> = pem::decode_all(&imported.chain, pem::CERTIFICATE)
        .and_then(|ders| ders.into_iter().map(Certificate::from_der).collect());
    let Ok(chain) = chain else { return vec!["the chain that was imported with it does not read"] };
    let is_signed =
        |one: &Certificate, issuer: &Certificate| issuer.verifying_key().is_ok_and(|key| one.verify_signature(&key));
    let issuers: Vec<&Certificate> = match chain.is_empty() && certificate.is_self_issued() {
        true => vec![certificate],
        false => chain.iter().collect(),
    };
    let mut problems = Vec::new();
    for (place, (one, issuer)) in std::iter::once(certificate).chain(&chain).zip(issuers).enumerate() {
        if !is_signed(one, issuer) {
            problems.push(if place == 0 {
                "its signature does not hold"
            } else {
                "a signature in the chain that was imported with it does not hold"
            });
        }
    }
    problems
}
