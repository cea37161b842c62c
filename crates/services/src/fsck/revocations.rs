//! Revocations against the lists that name them, one list at a time.

use super::{PAGE, Report};
use crate::context::{Context, failed, hex};
use domain::revocation::DELTA_OVERLAP_SECONDS;
use domain::{AuthorityKeyId, Result, Time};
use std::collections::HashMap;
use store::authority::CrlRecord;
use store::check::ListedColumns;
use x509::{Crl, CrlEntry, SerialNumber};

/// A change has the time of its request, and another node may sign the list before it is committed; the list after that one
/// has it.
const COMMITTED_WITHIN_SECONDS: i64 = 5;

impl Context {
    /// Whatever a list names is stored so, and whatever was stored when it was signed is on it.
    pub(super) async fn check_entries(&self, crl: &Crl, list: &CrlRecord, report: &mut Report) -> Result<()> {
        let mut named: HashMap<&[u8], CrlEntry<'_>> =
            crl.entries().map(|entry| (entry.serial_content, entry)).collect();
        let mut after = Vec::new();
        // To the millisecond, where there is one: a revocation is on a list half a second later.
        let signed_at = list.this_update.unwrap_or(Time::from_seconds(crl.this_update()));
        loop {
            let page = store::check::revocations(&self.db, list.key, list.shard, &after, PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.serial);
            for stored in &page {
                if let Some(problem) = difference(stored, named.remove(&stored.serial[..]).as_ref(), signed_at) {
                    report.find(&revocation_of(&stored.serial), problem);
                }
            }
        }
        let mut left: Vec<&[u8]> = named.into_keys().collect();
        left.sort_unstable();
        for serial in left {
            self.check_unmatched(list.key, list.shard, serial, report).await?;
        }
        Ok(())
    }

    /// A serial number that a list names and that does not stand under it.
    async fn check_unmatched(
        &self,
        key: AuthorityKeyId,
        list_shard: u32,
        serial: &[u8],
        report: &mut Report,
    ) -> Result<()> {
        let place = store::check::revocation_place(&self.db, key, serial).await.map_err(failed)?;
        match place {
            None => report.find(&revocation_of(serial), "a revocation list names it, and it is not stored"),
            Some((shard, _)) if shard != list_shard => {
                report.find(&revocation_of(serial), "it stands under another list than the one that names it");
            }
            // A hold that was ended: the next list does not name it any more. Or it was made while this runs.
            Some(_) => {}
        }
        Ok(())
    }
}

/// How findings call a revocation.
pub(super) fn revocation_of(serial_content: &[u8]) -> String {
    let serial = SerialNumber::from_integer(serial_content);
    format!("revocation of {}", serial.map_or_else(|| hex(serial_content), |serial| serial.to_hex()))
}

/// What is wrong between a stored revocation and the list that was signed at a time.
fn difference(stored: &ListedColumns, entry: Option<&CrlEntry<'_>>, signed_at: Time) -> Option<&'static str> {
    match entry {
        Some(entry) => {
            let is_so = entry.revoked_at == stored.revoked_at.seconds()
                && i64::from(entry.reason_code.unwrap_or(0)) == stored.reason;
            let changed_since = stored.changed_at.plus_seconds(COMMITTED_WITHIN_SECONDS) >= signed_at;
            (!is_so && !changed_since).then_some("its stored time or reason is not that of the revocation list")
        }
        None => {
            // Clocks of nodes differ, and what is revoked meanwhile comes onto the next list.
            let is_old = stored.changed_at.plus_seconds(DELTA_OVERLAP_SECONDS) < signed_at;
            let must_be_named = is_old && stored.not_after >= signed_at;
            must_be_named.then_some("the revocation list that was signed after it does not name it")
        }
    }
}
