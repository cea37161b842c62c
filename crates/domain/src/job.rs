//! Background work: a closed set of kinds. Jobs are idempotent; a row is a job that is still to be done.

use crate::alert::{TRIES_MAX, TRY_PAUSE_SECONDS};
use crate::{
    AlertDeliveryId, AuthorityId, AuthorityKeyId, CertificateId, CrlId, JobId, OrganizationId, ProjectId, SyncId, Time,
};
use serde::{Deserialize, Serialize};

/// One piece of background work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Job {
    /// Give the server's own TLS listener a certificate before the present one runs out.
    RenewServerCertificate,
    /// Sign a revocation list anew: something was revoked, or it runs out soon.
    PublishCrl {
        /// The list.
        crl: CrlId,
    },
    /// Give the OCSP responder of an authority's key another certificate before the present one runs out.
    RenewResponder {
        /// The key.
        key: AuthorityKeyId,
    },
    /// Put the newest list to the places outside that the operator named.
    DeliverCrl {
        /// The list.
        crl: CrlId,
    },
    /// Make a sync's destination equal to what is linked.
    RunSync {
        /// The sync.
        sync: SyncId,
    },
    /// Remove everything that a sync made at its destination.
    ClearSync {
        /// The sync.
        sync: SyncId,
    },
    /// Look once more for what a destination said is not there, before it is believed.
    RecheckSync {
        /// The sync.
        sync: SyncId,
    },
    /// Look whether a sync's certificates are the ones that are served.
    ProveSync {
        /// The sync.
        sync: SyncId,
    },
    /// Put a new certificate in the place of one that was planned to be renewed.
    RenewCertificate {
        /// The organisation that it belongs to.
        organization: OrganizationId,
        /// The certificate.
        certificate: CertificateId,
    },
    /// Prolong an authority below one of ours before its certificate ends.
    RenewAuthority {
        /// The organisation that it belongs to.
        organization: OrganizationId,
        /// The authority.
        authority: AuthorityId,
    },
    /// Find what the alerts of a project have to tell.
    RunAlerts {
        /// The project.
        project: ProjectId,
    },
    /// Send a message of an alert by one channel.
    DeliverAlert {
        /// The message.
        delivery: AlertDeliveryId,
    },
}

impl Job {
    /// The kind.
    pub const fn kind(&self) -> JobKind {
        match self {
            Self::RenewServerCertificate => JobKind::RenewServerCertificate,
            Self::PublishCrl { .. } => JobKind::PublishCrl,
            Self::RenewResponder { .. } => JobKind::RenewResponder,
            Self::DeliverCrl { .. } => JobKind::DeliverCrl,
            Self::RunSync { .. } => JobKind::RunSync,
            Self::ClearSync { .. } => JobKind::ClearSync,
            Self::RecheckSync { .. } => JobKind::RecheckSync,
            Self::ProveSync { .. } => JobKind::ProveSync,
            Self::RenewCertificate { .. } => JobKind::RenewCertificate,
            Self::RenewAuthority { .. } => JobKind::RenewAuthority,
            Self::RunAlerts { .. } => JobKind::RunAlerts,
            Self::DeliverAlert { .. } => JobKind::DeliverAlert,
        }
    }

    /// Whom it must not keep waiting.
    pub const fn lane(&self) -> Lane {
        self.kind().lane()
    }

    /// What makes two of them the same work.
    pub fn dedupe(&self) -> String {
        match self {
            Self::RenewServerCertificate => "renew-server-certificate".into(),
            Self::PublishCrl { crl } => format!("publish-crl/{crl}"),
            Self::RenewResponder { key } => format!("renew-responder/{key}"),
            Self::DeliverCrl { crl } => format!("deliver-crl/{crl}"),
            Self::RunSync { sync } => format!("run-sync/{sync}"),
            Self::ClearSync { sync } => format!("clear-sync/{sync}"),
            Self::RecheckSync { sync } => format!("recheck-sync/{sync}"),
            Self::ProveSync { sync } => format!("prove-sync/{sync}"),
            Self::RenewCertificate { certificate, .. } => format!("renew-certificate/{certificate}"),
            Self::RenewAuthority { authority, .. } => format!("renew-authority/{authority}"),
            Self::RunAlerts { project } => format!("run-alerts/{project}"),
            Self::DeliverAlert { delivery } => format!("deliver-alert/{delivery}"),
        }
    }

    /// When to try again after a number of failed attempts; none parks the job until a person looks at it.
    pub fn retry_at(&self, attempts: u32, now: Time) -> Option<Time> {
        const ATTEMPTS_MAX: u32 = 20;
        // Somebody waits for the message, and the other side is not asked too much by few of them.
        if let Self::DeliverAlert { .. } = self {
            return (attempts < TRIES_MAX).then(|| now.plus_seconds(TRY_PAUSE_SECONDS));
        }
        (attempts < ATTEMPTS_MAX).then(|| now.plus_seconds(i64::from(2_u32.saturating_pow(attempts.min(10)).min(600))))
    }
}

/// A kind of work, without what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// [`Job::RenewServerCertificate`].
    RenewServerCertificate,
    /// [`Job::PublishCrl`].
    PublishCrl,
    /// [`Job::RenewResponder`].
    RenewResponder,
    /// [`Job::DeliverCrl`].
    DeliverCrl,
    /// [`Job::RunSync`].
    RunSync,
    /// [`Job::ClearSync`].
    ClearSync,
    /// [`Job::RecheckSync`].
    RecheckSync,
    /// [`Job::ProveSync`].
    ProveSync,
    /// [`Job::RenewCertificate`].
    RenewCertificate,
    /// [`Job::RenewAuthority`].
    RenewAuthority,
    /// [`Job::RunAlerts`].
    RunAlerts,
    /// [`Job::DeliverAlert`].
    DeliverAlert,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::RenewServerCertificate,
        Self::PublishCrl,
        Self::RenewResponder,
        Self::DeliverCrl,
        Self::RunSync,
        Self::ClearSync,
        Self::RecheckSync,
        Self::ProveSync,
        Self::RenewCertificate,
        Self::RenewAuthority,
        Self::RunAlerts,
        Self::DeliverAlert,
    ];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RenewServerCertificate => "renew-server-certificate",
            Self::PublishCrl => "publish-crl",
            Self::RenewResponder => "renew-responder",
            Self::DeliverCrl => "deliver-crl",
            Self::RunSync => "run-sync",
            Self::ClearSync => "clear-sync",
            Self::RecheckSync => "recheck-sync",
            Self::ProveSync => "prove-sync",
            Self::RenewCertificate => "renew-certificate",
            Self::RenewAuthority => "renew-authority",
            Self::RunAlerts => "run-alerts",
            Self::DeliverAlert => "deliver-alert",
        }
    }

    /// Whom it must not keep waiting.
    pub const fn lane(self) -> Lane {
        match self {
            Self::PublishCrl | Self::RenewResponder => Lane::Lists,
            Self::RenewServerCertificate | Self::RenewCertificate | Self::RenewAuthority => Lane::Renewals,
            Self::DeliverCrl | Self::RunSync | Self::ClearSync | Self::RecheckSync => Lane::Outward,
            Self::ProveSync => Lane::Proofs,
            Self::RunAlerts | Self::DeliverAlert => Lane::Alerts,
        }
    }
}

/// Jobs that are done one beside the other, so that neither many keys nor slow systems keep a revocation waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Revocation lists, and certificates of those who say what became of a certificate.
    Lists,
    /// Renewals, which make keys.
    Renewals,
    /// What waits for other systems.
    Outward,
    /// What looks, for as long as it may take, whether a certificate is served.
    Proofs,
    /// What people are to hear, which no slow system may hold up.
    Alerts,
}

/// What becomes of a job. One that was done is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits for its time.
    Queued,
    /// Somebody works on it.
    Running,
    /// It failed too often, and waits for a person.
    Parked,
}

impl JobStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Queued, Self::Running, Self::Parked];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Parked => "parked",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A job as it is stored.
#[derive(Clone, Debug)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// The work.
    pub job: Job,
    /// What becomes of it.
    pub status: JobStatus,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is due; none while it is parked, since then only a person lets it run.
    pub run_at: Option<Time>,
    /// Until when somebody works on it.
    pub lease_until: Time,
    /// Why its last attempt failed.
    pub last_error: Option<String>,
    /// When it was planned first.
    pub created_at: Time,
    /// How often it was planned anew since.
    pub planned: i64,
}
