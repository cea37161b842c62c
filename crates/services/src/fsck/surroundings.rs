//! What stands beside a certificate in its row, and the rows that this leads to: the issuer's name, authority, key and
//! list, the versions of profile and policy, and the revocation.

use super::revocations::revocation_of;
use super::{Issuers, Report};
use crate::context::{Context, failed};
use domain::inventory::IssuedBy;
use domain::{AuthorityKeyId, CrlId, Result, Time};
use std::collections::HashMap;
use store::certificate::InventoryRow;
use store::check::{RevocationColumns, Surroundings};
use x509::Certificate;

impl Context {
    /// Holds a page of the inventory against what its rows lead to.
    pub(super) async fn check_surroundings(
        &self,
        first: i64,
        page: &[InventoryRow],
        issuers: &mut Issuers,
        report: &mut Report,
    ) -> Result<()> {
        let Some(newest) = page.last() else { return Ok(()) };
        let found = store::check::surroundings(&self.db, first, newest.pk).await.map_err(failed)?;
        let found: HashMap<i64, Surroundings> = found.into_iter().map(|one| (one.pk, one)).collect();
        for row in page {
            let Ok(certificate) = Certificate::from_der(row.issued.der.clone()) else { continue };
            // One that is not there any more was deleted meanwhile.
            let Some(around) = found.get(&row.pk) else { continue };
            let subject = format!("certificate {}", row.issued.id);
            if around.issuer_name != expected_issuer_name(row, &certificate) {
                report.find(&subject, "it stands under the name of another issuer");
            }
            if let Some(problem) = judging_problem(row, around) {
                report.find(&subject, problem);
            }
            let Some(by) = row.issued.issuer else { continue };
            self.check_issuer(by, around.shard, &certificate, &subject, issuers, report).await?;
            if let Some(revocation) = &around.revocation {
                self.check_revocation(by, revocation, row, &certificate, issuers, report).await?;
            }
        }
        Ok(())
    }

    /// The authority and key beside it are those of the certificate that it was issued with, and its list is the one that
    /// it names.
    async fn check_issuer(
        &self,
        by: IssuedBy,
        shard: Option<u32>,
        certificate: &Certificate,
        subject: &str,
        issuers: &mut Issuers,
        report: &mut Report,
    ) -> Result<()> {
        let Some(issuing) = self.issuer_key(by, issuers).await? else { return Ok(()) };
        let (authority, key) = (issuing.authority, issuing.key);
        if (by.authority, by.key) != (authority, key) {
            report.find(subject, "its stored authority or key is not the one that signed it");
        }
        let is_named = match shard {
            None => false,
            Some(shard) => {
                let list = self.list_of(key, shard, issuers).await?;
                list.is_some_and(|list| names_list(certificate, list))
            }
        };
        if !is_named {
            report.find(subject, "its stored shard is not that of the revocation list that it names");
        }
        Ok(())
    }

    async fn check_revocation(
        &self,
        by: IssuedBy,
        revocation: &RevocationColumns,
        row: &InventoryRow,
        certificate: &Certificate,
        issuers: &mut Issuers,
        report: &mut Report,
    ) -> Result<()> {
        let list = self.list_of(by.key, revocation.shard, issuers).await?;
        let is_derived = revocation.not_after == Time::from_seconds(certificate.not_after())
            && revocation.project == row.issued.project
            && list.is_some_and(|list| names_list(certificate, list));
        if !is_derived {
            let problem = "its stored end, project or shard is not that of the certificate";
            report.find(&revocation_of(certificate.serial_content()), problem);
        }
        Ok(())
    }

    /// The list of a key's shard. One that is not known may have been opened while this runs.
    async fn list_of(&self, key: AuthorityKeyId, shard: u32, issuers: &mut Issuers) -> Result<Option<CrlId>> {
        if !issuers.lists.contains_key(&(key, shard))
            && let Some((list, _)) = store::authority::crl_of(&self.db, key, shard).await.map_err(failed)?
        {
            issuers.lists.insert((key, shard), list);
        }
        Ok(issuers.lists.get(&(key, shard)).copied())
    }
}

/// Whether a certificate says that it is on this list when it is revoked. One that names no list says nothing else.
fn names_list(certificate: &Certificate, list: CrlId) -> bool {
    let end = format!("/crl/{list}/der");
    match certificate.extensions().crl_distribution_points() {
        Ok(Some(points)) => points.urls().any(|url| url.as_str().ends_with(&end)),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// What a certificate stands under among the issuers' names.
fn expected_issuer_name(row: &InventoryRow, certificate: &Certificate) -> Option<Vec<u8>> {
    match (row.issued.issuer, &row.issued.details.imported) {
        (Some(_), _) => Some(certificate.issuer().as_der().to_vec()),
        (None, Some(_)) => Some(store::imported::name(row.issued.project)),
        (None, None) => None,
    }
}

/// What is wrong with the versions of profile and policy that a row names.
fn judging_problem(row: &InventoryRow, around: &Surroundings) -> Option<&'static str> {
    match (around.judging_columns, &around.judging) {
        (0, _) => None,
        (1 | 2, _) => Some("it names its profile, the profile's version and the policy's version, but not all of them"),
        (_, None) => Some("the version of a profile that it names is not stored"),
        (_, Some(version)) if !version.has_policy => Some("the version of a policy that it names is not stored"),
        (_, Some(version)) if version.authority != row.issued.issuer.map(|by| by.authority) => {
            Some("the version of a profile that it names issues from another authority")
        }
        (_, Some(_)) => None,
    }
}
