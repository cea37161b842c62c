//! An event for PagerDuty, in version 2 of its API: one alert is one incident there, which later events add to.

use super::{name_of, text_of};
use crate::DeliveryError;
use crate::http::Request;
use domain::alert::{EventKind, Message, days_until};
use domain::secret::SecretText;
use reqwest::Method;
use serde_json::{Value, json};

const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// How many certificates are told in full.
const NAMED_MAX: usize = 10;

pub(super) fn request(key: &SecretText, message: &Message) -> Result<Request, DeliveryError> {
    Ok(Request::new(Method::POST, URL)?.json(&payload(key, message)))
}

fn payload(key: &SecretText, message: &Message) -> Value {
    let certificates = message.subject.certificates.iter().take(NAMED_MAX).map(|one| {
        json!({
            "id": one.id,
            "name": name_of(one),
            "serialNumber": one.serial_number,
            "profileName": one.profile_name,
            "notAfter": text_of(one.not_after),
            "daysUntilExpiry": days_until(one.not_after, message.at),
            "revocationReason": one.revocation_reason,
        })
    });
    let failures = message
        .subject
        .failures
        .iter()
        .take(NAMED_MAX)
        .map(|one| json!({ "profileName": one.profile_name, "commonName": one.common_name, "error": one.error }));
    let mut details = json!({
        "alert": message.alert.name,
        "totalCertificates": message.subject.count(),
        "certificates": certificates.collect::<Vec<_>>(),
    });
    if !message.subject.failures.is_empty() {
        details["failures"] = failures.collect();
    }
    json!({
        "routing_key": key.expose(),
        "event_action": "trigger",
        "dedup_key": message.alert.id,
        "client": "Chancery",
        "client_url": message.view_url,
        "payload": {
            "summary": format!("{}: {}", message.alert.name, message.headline()),
            "source": format!("/projects/{}/alerts/{}", message.alert.project, message.alert.id),
            "severity": severity(message),
            "timestamp": text_of(message.at),
            "component": "pki",
            "class": message.alert.event.as_str(),
            "custom_details": details,
        },
    })
}

fn severity(message: &Message) -> &'static str {
    match (message.alert.event, message.days_left()) {
        _ if message.is_test => "info",
        (EventKind::Issuance | EventKind::Renewal, _) => "info",
        (EventKind::Revocation, _) => "warning",
        (EventKind::IssuanceFailure, _) => "error",
        (EventKind::Expiration | EventKind::CaExpiration, Some(days)) if days <= 7 => "critical",
        (EventKind::Expiration | EventKind::CaExpiration, Some(days)) if days <= 14 => "error",
        (EventKind::Expiration | EventKind::CaExpiration, Some(days)) if days <= 30 => "warning",
        (EventKind::Expiration | EventKind::CaExpiration, _) => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    #[test]
    fn the_most_urgent_certificate_says_how_grave_it_is() {
        for (event, days, expected) in [
            (EventKind::Expiration, &[40, 7][..], "critical"),
            (EventKind::Expiration, &[8], "error"),
            (EventKind::CaExpiration, &[14], "error"),
            (EventKind::Expiration, &[15], "warning"),
            (EventKind::Expiration, &[31], "info"),
            (EventKind::Issuance, &[1], "info"),
            (EventKind::Renewal, &[1], "info"),
            (EventKind::Revocation, &[90], "warning"),
        ] {
            let shown = payload(&SecretText::new("k"), &message(event, days));
            assert_eq!(shown["payload"]["severity"], expected, "{event:?} {days:?}");
        }
        let many = payload(&SecretText::new("k"), &message(EventKind::Expiration, &[5; 12]));
        assert_eq!(many["payload"]["custom_details"]["certificates"].as_array().unwrap().len(), NAMED_MAX);
        assert_eq!(many["payload"]["custom_details"]["totalCertificates"], 12);
        assert_eq!(
            (&many["dedup_key"], &many["event_action"]),
            (&json!("00000000-0000-0000-0000-000000000002"), &json!("trigger"))
        );
    }
}
