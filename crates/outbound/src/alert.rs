//! Messages of alerts (contract syncs §5.1): each channel gives a message its own form and sends it once. Whether it is sent
//! again is decided elsewhere, by [`DeliveryError::may_pass`].

pub mod mail;
mod pager_duty;
mod slack;
mod webhook;

pub use mail::{MailServer, Mailer};

use crate::DeliveryError;
use crate::http::{Answer, Http, Request};
use domain::Time;
use domain::alert::{ChannelSettings, Message, ToldCertificate};
use jiff::Timestamp;
use reqwest::StatusCode;
use std::time::Duration;

/// A receiver that has not answered after this has not said whether it took the message.
const TIMEOUT: Duration = Duration::from_secs(7);

/// Sends a message by a channel.
pub async fn send(
    http: &Http,
    mailer: Option<&Mailer>,
    settings: &ChannelSettings,
    message: &Message,
) -> Result<(), DeliveryError> {
    match settings {
        ChannelSettings::Email { recipients } => match mailer {
            Some(mailer) => mailer.send(recipients, message).await,
            None => Err(DeliveryError::Refused(
                "this server has no mail server: its operator names one with CHANCERY_SMTP_URL".into(),
            )),
        },
        ChannelSettings::Webhook { url, signing_secret } => {
            post(http, webhook::request(url, signing_secret.as_ref(), message)?, "the receiver", &[]).await
        }
        ChannelSettings::Slack { webhook_url } => post(http, slack::request(webhook_url, message)?, "Slack", &[]).await,
        ChannelSettings::PagerDuty { integration_key } => {
            let passing = [StatusCode::TOO_MANY_REQUESTS];
            post(http, pager_duty::request(integration_key, message)?, "PagerDuty", &passing).await
        }
    }
}

/// Sends a request once. Its answer is not repeated: a receiver may send back what it was told.
async fn post(http: &Http, mut request: Request, whose: &str, passing: &[StatusCode]) -> Result<(), DeliveryError> {
    request.timeout = TIMEOUT;
    let Answer { status, .. } = http.send_once(&request).await?;
    let text = format!("{whose} answered {status}");
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_server_error() || passing.contains(&status) => Err(DeliveryError::Unknown(text)),
        _ => Err(DeliveryError::Refused(text)),
    }
}

/// A point in time as messages show it.
fn text_of(time: Time) -> String {
    let at = Timestamp::from_millisecond(time.millis()).unwrap_or(Timestamp::MAX);
    format!("{at:.3}")
}

/// The day of a point in time.
fn day_of(time: Time) -> String {
    text_of(time).chars().take(10).collect()
}

/// What a certificate is called.
fn name_of(certificate: &ToldCertificate) -> &str {
    match (certificate.common_name.as_str(), certificate.alt_names.first()) {
        ("", Some(name)) => name,
        ("", None) => &certificate.serial_number,
        (name, _) => name,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use domain::alert::{Alert, EventKind, Subject, ToldFailure};
    use domain::{AlertDeliveryId, AlertId, OrganizationId, ProjectId};
    use uuid::Uuid;

    pub(crate) fn message(event: EventKind, days: &[i64]) -> Message {
        let at = Time::from_seconds(1_800_000_000);
        let certificates = days.iter().enumerate().map(|(number, days)| ToldCertificate {
            id: Uuid::from_u128(number as u128),
            serial_number: format!("0{number}"),
            common_name: format!("{number}.example.com"),
            alt_names: vec![format!("{number}.example.com")],
            profile_name: Some("web".into()),
            not_before: at.plus_seconds(-86_400),
            not_after: at.plus_seconds(days * 86_400),
            status: "active".into(),
            revoked_at: (event == EventKind::Revocation).then_some(at),
            revocation_reason: (event == EventKind::Revocation).then(|| "SUPERSEDED".into()),
        });
        let failure = ToldFailure {
            certificate_id: None,
            profile_name: "web".into(),
            common_name: "<b>.example.com".into(),
            error: "not allowed".into(),
            at,
        };
        Message {
            id: AlertDeliveryId(Uuid::from_u128(1)),
            at,
            alert: Alert {
                id: AlertId(Uuid::from_u128(2)),
                organization: OrganizationId(Uuid::from_u128(3)),
                project: ProjectId(Uuid::from_u128(4)),
                name: "soon".into(),
                description: None,
                event,
                before: event.is_about_an_end().then(|| "30d".into()),
                filters: Vec::new(),
                is_enabled: true,
                is_daily: false,
                version: 1,
                created_at: at,
                updated_at: at,
            },
            is_test: false,
            subject: Subject {
                certificates: certificates.collect(),
                failures: if event == EventKind::IssuanceFailure { vec![failure] } else { Vec::new() },
            },
            view_url: "https://ca.example.com/x".into(),
        }
    }
}
