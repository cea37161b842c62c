//! The report of certificates that end soon, over a registry and its devices.

use super::page::{Page, PageRequest};
use super::states::FullCertificate;
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::caller::Caller;
use domain::{Error, Result, Time};
use store::registry::standing;

/// How many days ahead the report looks, unless it is told.
pub const EXPIRING_DAYS: u32 = 30;
/// How many days ahead the report looks at most.
pub const EXPIRING_DAYS_MAX: u32 = 3650;

impl Context {
    /// The certificates of a registry and its devices that end within so many days, or that have ended already; the first
    /// to end first.
    #[compiled_here]
    pub async fn expiring_certificates(
        &self,
        caller: &Caller,
        registry: &str,
        days: u32,
        page: &PageRequest,
    ) -> Result<Page<FullCertificate>> {
        let registry = self.registry(caller, registry).await?;
        if !(1..=EXPIRING_DAYS_MAX).contains(&days) {
            return Err(Error::invalid_field(
                "days",
                "range",
                format!("days is a number from 1 to {EXPIRING_DAYS_MAX}"),
            ));
        }
        let list = format!("certificates of {} that end within {days} days", registry.id);
        let (ends, place) = page.after(&list, (i64::MIN, ""))?;
        let refused =
            |_| Error::invalid_field("page_token", "pattern", "page_token is not one that a page of this list gave");
        let fingerprint = URL_SAFE_NO_PAD.decode(&place).map_err(refused)?;
        let before = self.now().plus_seconds(i64::from(days) * 24 * 60 * 60);
        let after = (Time::from_millis(ends), fingerprint.as_slice());
        let rows = standing::expiring(&self.db, &registry.id, before, after, page.rows()).await.map_err(failed)?;
        let rows: Vec<(i64, String, FullCertificate)> = rows
            .into_iter()
            .map(|row| {
                let (ends, fingerprint) = (row.certificate.not_after, row.certificate.fingerprint.sha256);
                (ends.millis(), URL_SAFE_NO_PAD.encode(fingerprint), FullCertificate::of(row))
            })
            .collect();
        let page = page.page(&list, rows, |(ends, place, _)| (*ends, place.as_str()));
        Ok(Page { items: page.items.into_iter().map(|(_, _, full)| full).collect(), next: page.next })
    }
}
