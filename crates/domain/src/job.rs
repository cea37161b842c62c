//! Background work: a closed set of kinds. Jobs are idempotent; a row is a job that is still to be done.

use crate::{CrlId, JobId, Time};
use serde::{Deserialize, Serialize};

/// One piece of background work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Job {
    /// Give the server's own TLS listener a certificate before the present one runs out.
    RenewServerCertificate,
    /// Sign a revocation list anew before it runs out.
    RenewCrl {
        /// The list.
        crl: CrlId,
    },
}

impl Job {
    /// The name of the kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RenewServerCertificate => "renew-server-certificate",
            Self::RenewCrl { .. } => "renew-crl",
        }
    }

    /// What makes two of them the same work.
    pub fn dedupe(&self) -> String {
        match self {
            Self::RenewServerCertificate => "renew-server-certificate".into(),
            Self::RenewCrl { crl } => format!("renew-crl/{crl}"),
        }
    }

    /// When to try again after a number of failed attempts; none parks the job until a person looks at it.
    pub fn retry_at(&self, attempts: u32, now: Time) -> Option<Time> {
        const ATTEMPTS_MAX: u32 = 20;
        (attempts < ATTEMPTS_MAX).then(|| now.plus_seconds(i64::from(2_u32.saturating_pow(attempts.min(10)).min(600))))
    }
}

/// A job as it is stored.
#[derive(Clone, Debug)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// The work.
    pub job: Job,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is due.
    pub run_at: Time,
    /// Until when somebody works on it.
    pub lease_until: Time,
}
