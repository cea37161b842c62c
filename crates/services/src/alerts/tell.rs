//! From what is stored to what is told: the facts that rules look at, and the certificates as messages name them.

use super::KnownProfiles;
use crate::certificates::Record;
use crate::context::{Context, failed};
use domain::alert::{Facts, ToldCertificate};
use domain::inventory::{alt_names, serial_hex};
use domain::{OrganizationId, Result, Time};
use uuid::Uuid;
use x509::{AttributeType, Certificate};

/// The alternative names that rules look at.
pub(crate) fn names(record: &Record) -> Vec<String> {
    alt_names(&record.certificate)
}

/// What rules look at.
pub(crate) fn facts<'a>(record: &'a Record, profile_name: Option<&'a str>, names: &'a [String]) -> Facts<'a> {
    Facts { profile_name, common_name: record.common_name(), alt_names: names }
}

/// A certificate as messages name it.
pub(crate) fn told(record: &Record, profile_name: Option<&str>) -> ToldCertificate {
    let issued = &record.row.issued;
    ToldCertificate {
        profile_name: profile_name.map(str::to_owned),
        status: record.status.as_str().to_owned(),
        revoked_at: record.row.revoked_at,
        revocation_reason: record.row.revocation_reason.map(|reason| reason.as_str().to_owned()),
        ..told_alone(issued.id.0, &record.certificate)
    }
}

/// What the certificate itself says.
pub(crate) fn told_alone(id: Uuid, certificate: &Certificate) -> ToldCertificate {
    ToldCertificate {
        id,
        serial_number: serial_hex(certificate),
        common_name: certificate.subject().first(AttributeType::CommonName).unwrap_or_default().to_owned(),
        alt_names: alt_names(certificate),
        profile_name: None,
        not_before: Time::from_seconds(certificate.not_before()),
        not_after: Time::from_seconds(certificate.not_after()),
        status: "active".to_owned(),
        revoked_at: None,
        revocation_reason: None,
    }
}

impl Context {
    /// The slug and the enrollment of a certificate's profile.
    pub(crate) async fn profile_of(
        &self,
        organization: OrganizationId,
        record: &Record,
        known: &mut KnownProfiles,
    ) -> Result<Option<(String, &'static str)>> {
        let Some(judged) = record.row.issued.judged_by else { return Ok(None) };
        if let Some(found) = known.get(&judged.profile) {
            return Ok(found.clone());
        }
        let profile = store::profile::by_id(&self.db, organization, judged.profile).await.map_err(failed)?;
        let found = profile.map(|profile| (profile.slug, profile.enrollment.as_str()));
        known.insert(judged.profile, found.clone());
        Ok(found)
    }
}
