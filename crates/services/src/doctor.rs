//! What an operator should look at: everything that is not wrong enough to stop the server and will be one day. Changes
//! nothing and waits for nobody but the database.
//!
//! What stands in the database is looked at here; `chancery/src/doctor.rs` adds what only the machine knows: files,
//! disk, limits, the configuration. docs/doctor.md says of each code what it means and what to do.

mod code;

pub use code::{Code, Severity};

use crate::context::{Context, failed};
use crate::fsck::rfc3339;
use async_recursion::async_recursion as compiled_here;
use domain::alert::ChannelKind;
use domain::authority::{Authority, AuthorityStatus};
use domain::job::JobStatus;
use domain::revocation::LIST_RENEWAL_SECONDS;
use domain::sync::SyncStatus;
use domain::{ProjectId, Result};
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr};
use store::alert::AlertFilter;

/// Something to look at.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Sign {
    /// What kind of thing it is.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// What was seen.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Sign {
    /// A sign of this kind about a subject.
    pub fn new(code: Code, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let (subject, message) = (subject.into(), message.into());
        Self { code, severity: code.severity(), subject, message, remedy: code.remedy() }
    }
}

/// An authority that ends within this time is told of, in seconds: what it issues cannot outlive it.
const AUTHORITY_ENDS_SECONDS: i64 = 90 * 86_400;
/// How far the clocks of server and database may be apart, in milliseconds.
const CLOCKS_APART_MILLIS: i64 = 60_000;
/// How far this machine's clock may be behind the newest record before issuing stops, in milliseconds.
const CLOCK_BEHIND_MILLIS: i64 = 5 * 60_000;
/// A job that was tried so often and is still there fails.
const JOB_ATTEMPTS: u32 = 3;
/// How many of one kind are told of by name.
const NAMED_MAX: u32 = 20;

impl Context {
    /// Looks at everything that stands in the database.
    #[compiled_here]
    pub async fn examine(&self) -> Result<Vec<Sign>> {
        let mut signs = Vec::new();
        self.examine_clock(&mut signs).await?;
        self.examine_jobs(&mut signs).await?;
        for project in store::project::all(&self.db).await.map_err(failed)? {
            for authority in store::authority::list(&self.db, project).await.map_err(failed)? {
                self.examine_authority(&authority, &mut signs).await?;
            }
            self.examine_syncs(project, &mut signs).await?;
            self.examine_alerts(project, &mut signs).await?;
        }
        Ok(signs)
    }

    async fn examine_clock(&self, signs: &mut Vec<Sign>) -> Result<()> {
        let now = self.now().millis();
        if let Some(highest) = self.db.highest_time().await.map_err(failed)?
            && highest - now > CLOCK_BEHIND_MILLIS
        {
            let seconds = (highest - now) / 1000;
            let message = format!("it is {seconds} s behind the newest audit record: nothing is issued");
            signs.push(Sign::new(Code::ClockBehind, "the clock of this machine", message));
        }
        if let Some(theirs) = self.db.database_time_millis().await.map_err(failed)?
            && (theirs - now).abs() > CLOCKS_APART_MILLIS
        {
            let message = format!("it is {} s ahead of the database server's", (now - theirs) / 1000);
            signs.push(Sign::new(Code::ClocksApart, "the clock of this machine", message));
        }
        Ok(())
    }

    async fn examine_jobs(&self, signs: &mut Vec<Sign>) -> Result<()> {
        let (parked, count) =
            store::job::list(&self.db, Some(JobStatus::Parked), self.now(), 0, NAMED_MAX).await.map_err(failed)?;
        for job in parked {
            let why = job.last_error.unwrap_or_default();
            signs.push(Sign::new(Code::JobParked, format!("job {}", job.id), format!("it was given up: {why}")));
        }
        if count > i64::from(NAMED_MAX) {
            let message = format!("{} more were given up", count - i64::from(NAMED_MAX));
            signs.push(Sign::new(Code::JobParked, "jobs", message));
        }
        for job in store::job::failing(&self.db, JOB_ATTEMPTS, NAMED_MAX).await.map_err(failed)? {
            let why = job.last_error.unwrap_or_default();
            let message = format!("it was tried {} times: {why}", job.attempts);
            let subject = format!("job {} ({})", job.id, job.job.kind().as_str());
            signs.push(Sign::new(Code::JobFailing, subject, message));
        }
        Ok(())
    }

    async fn examine_authority(&self, authority: &Authority, signs: &mut Vec<Sign>) -> Result<()> {
        let subject = format!("certificate authority {}", authority.name);
        let mut tell = |code, message: String| signs.push(Sign::new(code, subject.as_str(), message));
        let now = self.now();
        match (authority.status, authority.not_after) {
            (AuthorityStatus::Active | AuthorityStatus::Disabled, Some(end)) if end < now => {
                tell(Code::AuthorityExpired, format!("its certificate ended at {}", rfc3339(end)));
            }
            (AuthorityStatus::Active, Some(end)) if end < now.plus_seconds(AUTHORITY_ENDS_SECONDS) => {
                tell(Code::AuthorityExpires, format!("its certificate ends at {}", rfc3339(end)));
            }
            (AuthorityStatus::Disabled, _) => tell(Code::AuthorityDisabled, "it is disabled and issues nothing".into()),
            (AuthorityStatus::PendingCertificate, _) => {
                tell(Code::AuthorityPending, "it waits for its certificate".into());
            }
            (AuthorityStatus::Active, _) => {}
        }
        if let Err(error) = self.signer(authority.active_key).await {
            tell(Code::KeyUnusable, format!("its private key cannot be used: {error}"));
        }
        for list in store::authority::crls(&self.db, authority.id).await.map_err(failed)? {
            let name = format!("its revocation list {}", list.id);
            match list.next_update {
                Some(end) if end < now => tell(Code::ListExpired, format!("{name} ran out at {}", rfc3339(end))),
                // The server signs the next one long before.
                Some(end) if end < now.plus_seconds(LIST_RENEWAL_SECONDS / 2) => {
                    tell(Code::ListOverdue, format!("{name} runs out at {}, and there is no next one", rfc3339(end)));
                }
                Some(_) => {}
                // Of an authority that cannot sign yet there is none.
                None if authority.active_certificate.is_none() => {}
                None => tell(Code::ListExpired, format!("{name} was never signed")),
            }
            for url in store::authority::crl_urls(&self.db, list.id).await.map_err(failed)? {
                for code in address_codes(&url) {
                    tell(code, format!("certificates that it issued carry {url}"));
                }
            }
        }
        Ok(())
    }

    async fn examine_syncs(&self, project: ProjectId, signs: &mut Vec<Sign>) -> Result<()> {
        for sync in store::sync::list(&self.db, project).await.map_err(failed)? {
            for (what, run) in
                [("its last run failed", &sync.last_run), ("its last removal failed", &sync.last_removal)]
            {
                if run.status == Some(SyncStatus::Failed) {
                    let why = run.message.as_deref().unwrap_or("no reason was kept");
                    signs.push(Sign::new(Code::SyncFailing, format!("sync {}", sync.name), format!("{what}: {why}")));
                }
            }
        }
        Ok(())
    }

    async fn examine_alerts(&self, project: ProjectId, signs: &mut Vec<Sign>) -> Result<()> {
        let (alerts, _) =
            store::alert::list(&self.db, project, &AlertFilter::default(), 0, 1000).await.map_err(failed)?;
        for alert in alerts {
            let last = store::alert::run::last(&self.db, alert.id).await.map_err(failed)?;
            if let Some(why) = last.and_then(|run| run.error) {
                let message = format!("its last message was not taken: {why}");
                signs.push(Sign::new(Code::AlertUndelivered, format!("alert {}", alert.name), message));
            }
            let channels = store::alert::channels(&self.db, alert.id).await.map_err(failed)?;
            let is_mailed = channels.iter().any(|channel| channel.is_enabled && channel.kind == ChannelKind::Email);
            if alert.is_enabled && is_mailed && self.outward.mailer.is_none() {
                let message = "it is to be sent by e-mail, and no mail server is configured";
                signs.push(Sign::new(Code::MailUnset, format!("alert {}", alert.name), message));
            }
        }
        Ok(())
    }
}

/// What is wrong with an address that certificates carry for revocation lists, OCSP and CA certificates.
pub fn address_codes(url: &str) -> Vec<Code> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let mut codes = Vec::new();
    match reach(host(rest)) {
        Reach::ThisMachine => codes.push(Code::AddressLoopback),
        Reach::PrivateNetwork => codes.push(Code::AddressPrivate),
        Reach::Others => {}
    }
    if scheme.eq_ignore_ascii_case("https") {
        codes.push(Code::AddressHttps);
    }
    codes
}

/// Who reaches a host, as far as its address tells.
enum Reach {
    ThisMachine,
    PrivateNetwork,
    Others,
}

/// The host of what stands after the scheme.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    }
}

fn reach(host: &str) -> Reach {
    if host.eq_ignore_ascii_case("localhost") {
        return Reach::ThisMachine;
    }
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() || address.is_unspecified() => Reach::ThisMachine,
        Ok(IpAddr::V4(address)) if address.is_private() || address.is_link_local() || is_shared(address) => {
            Reach::PrivateNetwork
        }
        Ok(IpAddr::V6(address)) if address.is_unique_local() || address.is_unicast_link_local() => {
            Reach::PrivateNetwork
        }
        Ok(_) | Err(_) => Reach::Others,
    }
}

/// RFC 6598: 100.64.0.0/10, between a provider and its customers.
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0b1100_0000 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_who_cannot_reach_an_address() {
        use Code::{AddressHttps, AddressLoopback, AddressPrivate};
        for (url, expected) in [
            ("http://127.0.0.1:8080/crl/x/der", &[AddressLoopback][..]),
            ("http://localhost/crl", &[AddressLoopback]),
            ("http://LOCALHOST:80/crl", &[AddressLoopback]),
            ("http://[::1]:8080/crl", &[AddressLoopback]),
            ("http://0.0.0.0:8080", &[AddressLoopback]),
            ("https://localhost:8443/crl", &[AddressLoopback, AddressHttps]),
            ("https://pki.example.com/crl", &[AddressHttps]),
            ("http://10.0.0.1:8080", &[AddressPrivate]),
            ("http://172.31.0.1", &[AddressPrivate]),
            ("http://100.127.0.1", &[AddressPrivate]),
            ("http://169.254.1.1", &[AddressPrivate]),
            ("http://[fd00::1]:8080/crl", &[AddressPrivate]),
            ("http://[fe80::1]/crl", &[AddressPrivate]),
            ("http://pki.example.com/crl", &[]),
            ("http://pki.example.com:8080?x=127.0.0.1", &[]),
            ("http://localhost.example.com", &[]),
            ("http://100.128.0.1", &[]),
            ("http://172.32.0.1", &[]),
            ("http://8.8.8.8", &[]),
            ("http://[2001:db8::1]", &[]),
        ] {
            assert_eq!(address_codes(url), expected, "{url}");
        }
    }
}
