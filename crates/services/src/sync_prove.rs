//! Proof that a delivered certificate is used: each address of a sync is asked over TLS which certificate it serves, until
//! that is the delivered one or its time is over.

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::sync_items::Member;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::inventory::serial_hex;
use domain::sync::config::{Prove, ProveAddress};
use domain::sync::{Sync, SyncStatus};
use domain::{Result, SyncId};
use futures_util::future::join_all;
use outbound::probe::served_certificate;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::Changes;
use x509::Certificate;

/// How long it is waited before the addresses are looked at again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one address may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take at least, however little time is left.
const PROBE_SHORTEST: Duration = Duration::from_millis(500);

impl Context {
    /// Looks at the addresses of a sync until each delivered certificate was seen at all of them, or its time is over.
    #[compiled_here]
    pub async fn prove_sync(&self, id: SyncId) -> Result<()> {
        loop {
            let Some(sync) = store::sync::any_by_id(&self.db, id).await.map_err(failed)? else { return Ok(()) };
            let Some(prove) = sync.options.prove.clone() else { return Ok(()) };
            let members = self.members_of_sync(&sync).await?;
            let waiting: Vec<&Member> = members
                .iter()
                .filter(|member| member.link.prove_until.is_some() && member.link.status == SyncStatus::Succeeded)
                .collect();
            let mut is_waiting = false;
            if let Some(last) = waiting.iter().filter_map(|member| member.link.prove_until).max() {
                let left = last.millis().saturating_sub(self.now().millis());
                let left = Duration::from_millis(u64::try_from(left).unwrap_or(0)).clamp(PROBE_SHORTEST, PROBE_TIMEOUT);
                // Every address is asked once for all of them.
                let served = join_all(prove.addresses.iter().map(|address| self.served_at(address, left))).await;
                for member in waiting {
                    is_waiting |= !self.prove_member(&sync, &prove, member, &served).await?;
                }
            }
            if !is_waiting {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Says whether this is settled: it was seen everywhere, or its time is over.
    async fn prove_member(&self, sync: &Sync, prove: &Prove, member: &Member, served: &[Served]) -> Result<bool> {
        let unseen = served.iter().find_map(|served| served.problem(member));
        let (now, certificate) = (self.now(), member.certificate());
        let settled = |status, message: &str| {
            Changes::new()
                .statement(store::sync::link::set_status(sync.id, certificate, status, Some(message), None, now))
                .statement(store::sync::link::prove_until(sync.id, certificate, None))
        };
        match unseen {
            None => {
                self.commit(settled(SyncStatus::Proven, "Every address serves the certificate")).await?;
                Ok(true)
            }
            Some(_) if member.link.prove_until.is_some_and(|until| now < until) => Ok(false),
            Some(problem) => {
                let message = format!("after {} seconds {problem}", prove.timeout_seconds);
                tracing::error!(sync.id = %sync.id, sync.name = sync.name, certificate.id = %certificate, problem, "a delivered certificate is not served");
                let detail = json!({ "name": sync.name, "certificate": certificate.to_string(), "problem": problem });
                let caller = Caller::node(sync.organization);
                let object = Object::new("pki-sync", sync.id);
                let alert =
                    audit::record(&caller, Some(sync.project), "sync-certificate-unproven", object, &detail, now);
                self.commit(settled(SyncStatus::Succeeded, &message).audit(alert)).await?;
                self.state.unproven.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
        }
    }

    async fn served_at(&self, address: &ProveAddress, timeout: Duration) -> Served {
        let served = served_certificate(self.outward.http.rules(), address, timeout).await;
        Served {
            place: format!("{}:{}", address.host, address.port),
            certificate: served.map_err(|error| error.to_string()),
        }
    }
}

/// What an address serves.
struct Served {
    place: String,
    /// The certificate, or why there is none.
    certificate: std::result::Result<Certificate, String>,
}

impl Served {
    /// What is wrong there; none when it serves the certificate.
    fn problem(&self, member: &Member) -> Option<String> {
        let place = &self.place;
        match &self.certificate {
            Ok(served) if served.as_der() == member.record.certificate.as_der() => None,
            Ok(served) => Some(format!("{place} serves the certificate with serial number {}", serial_hex(served))),
            Err(error) => Some(format!("{place} serves no certificate: {error}")),
        }
    }
}
