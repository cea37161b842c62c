//! What an alert says: which certificates, as they were when it was found. Each channel puts it into its own form.

use crate::alert::{Alert, EventKind, days_until};
use crate::{AlertDeliveryId, CertificateId, Time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One certificate that is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldCertificate {
    /// The certificate, or the authority whose certificate it is.
    pub id: Uuid,
    /// Its serial number in hex.
    pub serial_number: String,
    /// Its common name; the name of an authority.
    pub common_name: String,
    /// Its alternative names.
    pub alt_names: Vec<String>,
    /// The slug of its profile.
    pub profile_name: Option<String>,
    /// Its beginning.
    pub not_before: Time,
    /// Its end.
    pub not_after: Time,
    /// `active`, `expired`, `revoked`.
    pub status: String,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// Why it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<String>,
}

/// One failure that is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldFailure {
    /// The certificate that was to be renewed; none when a new one was asked for.
    pub certificate_id: Option<CertificateId>,
    /// The slug of the profile.
    pub profile_name: String,
    /// The common name that was asked for.
    pub common_name: String,
    /// Why there is no certificate.
    pub error: String,
    /// When that was.
    pub at: Time,
}

/// What is told. Its serde form is the document of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// Certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<ToldCertificate>,
    /// Failures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ToldFailure>,
}

impl Subject {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.certificates.len() + self.failures.len()
    }

    /// The same with what is most urgent first.
    pub fn most_urgent_first(mut self) -> Self {
        self.certificates.sort_by_key(|one| one.not_after);
        self
    }
}

/// A message, before a channel gives it its form.
#[derive(Clone, Debug)]
pub struct Message {
    /// What names it: the same each time that it is tried.
    pub id: AlertDeliveryId,
    /// When what it tells was found.
    pub at: Time,
    /// The alert.
    pub alert: Alert,
    /// Whether it only shows that the channel works.
    pub is_test: bool,
    /// What is told.
    pub subject: Subject,
    /// Where a person can look.
    pub view_url: String,
}

impl Message {
    /// How many days the most urgent certificate has left; none when there is no certificate.
    pub fn days_left(&self) -> Option<i64> {
        self.subject.certificates.iter().map(|one| days_until(one.not_after, self.at)).min()
    }

    /// What happened, in one line.
    pub fn headline(&self) -> String {
        let count = self.subject.count();
        let what = |one: &str, many: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {many}"),
        };
        if self.is_test {
            return format!("Test of the alert {}", self.alert.name);
        }
        match self.alert.event {
            EventKind::Expiration => what("certificate runs out soon", "certificates run out soon"),
            EventKind::Renewal => what("certificate was renewed", "certificates were renewed"),
            EventKind::Issuance => what("certificate was issued", "certificates were issued"),
            EventKind::Revocation => what("certificate was revoked", "certificates were revoked"),
            EventKind::IssuanceFailure => what("certificate was not issued", "certificates were not issued"),
            EventKind::CaExpiration => {
                what("certificate authority runs out soon", "certificate authorities run out soon")
            }
        }
    }
}
