//! A CloudEvent of JSON, signed like the messages of syncs. Names and prefix are the contract's, since receivers know them.

use super::text_of;
use crate::DeliveryError;
use crate::destination::webhook::{SIGNATURE_HEADER, signature};
use crate::http::Request;
use domain::alert::{Message, ToldCertificate, days_until};
use domain::secret::SecretText;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

pub(super) fn request(url: &str, secret: Option<&SecretText>, message: &Message) -> Result<Request, DeliveryError> {
    let request = Request::new(Method::POST, url)?.json(&event(message));
    match secret {
        None => Ok(request),
        Some(secret) => {
            let signature = signature(secret.expose(), Timestamp::now().as_millisecond(), &request.body);
            request.header(SIGNATURE_HEADER, &signature)
        }
    }
}

fn event(message: &Message) -> Value {
    let alert = &message.alert;
    let kind = if message.is_test { "test" } else { alert.event.as_str() };
    let mut data = json!({
        "alert": {
            "id": alert.id,
            "name": alert.name,
            "alertBefore": alert.before,
            "projectId": alert.project,
        },
        "certificates": message.subject.certificates.iter().map(|one| certificate(one, message)).collect::<Vec<_>>(),
        "metadata": { "totalCertificates": message.subject.count(), "viewUrl": message.view_url },
    });
    if !message.subject.failures.is_empty() {
        let failures = message.subject.failures.iter().map(|one| {
            json!({
                "certificateId": one.certificate_id,
                "profileName": one.profile_name,
                "commonName": one.common_name,
                "error": one.error,
                "time": text_of(one.at),
            })
        });
        data["failures"] = failures.collect();
    }
    json!({
        "specversion": "1.0",
        "type": format!("com.infisical.pki.certificate.{kind}"),
        "source": format!("/projects/{}/alerts/{}", alert.project, alert.id),
        "id": message.id,
        "time": text_of(message.at),
        "datacontenttype": "application/json",
        "subject": format!("certificate-{kind}-alert"),
        "data": data,
    })
}

fn certificate(one: &ToldCertificate, message: &Message) -> Value {
    let mut shown = json!({
        "id": one.id,
        "serialNumber": one.serial_number,
        "commonName": one.common_name,
        "san": one.alt_names,
        "profileName": one.profile_name,
        "notBefore": text_of(one.not_before),
        "notAfter": text_of(one.not_after),
        "status": one.status,
        "daysUntilExpiry": days_until(one.not_after, message.at),
    });
    if let Some(at) = one.revoked_at {
        shown["revokedAt"] = text_of(at).into();
    }
    if let Some(reason) = &one.revocation_reason {
        shown["revocationReason"] = reason.as_str().into();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;
    use domain::alert::EventKind;

    #[test]
    fn an_event_has_the_names_of_the_contract() {
        let shown = event(&message(EventKind::Expiration, &[3]));
        assert_eq!(
            shown,
            json!({
                "specversion": "1.0",
                "type": "com.infisical.pki.certificate.expiration",
                "source": "/projects/00000000-0000-0000-0000-000000000004/alerts/00000000-0000-0000-0000-000000000002",
                "id": "00000000-0000-0000-0000-000000000001",
                "time": "2027-01-15T08:00:00.000Z",
                "datacontenttype": "application/json",
                "subject": "certificate-expiration-alert",
                "data": {
                    "alert": {"id": "00000000-0000-0000-0000-000000000002", "name": "soon", "alertBefore": "30d",
                        "projectId": "00000000-0000-0000-0000-000000000004"},
                    "certificates": [{
                        "id": "00000000-0000-0000-0000-000000000000", "serialNumber": "00",
                        "commonName": "0.example.com", "san": ["0.example.com"], "profileName": "web",
                        "notBefore": "2027-01-14T08:00:00.000Z", "notAfter": "2027-01-18T08:00:00.000Z",
                        "status": "active", "daysUntilExpiry": 3,
                    }],
                    "metadata": {"totalCertificates": 1, "viewUrl": "https://ca.example.com/x"},
                },
            })
        );
        let revoked = event(&message(EventKind::Revocation, &[3]));
        assert_eq!(revoked["data"]["certificates"][0]["revocationReason"], "SUPERSEDED");
        let failed = event(&message(EventKind::IssuanceFailure, &[]));
        assert_eq!(failed["type"], "com.infisical.pki.certificate.issuance-failure");
        assert_eq!(failed["data"]["failures"][0]["error"], "not allowed");
        assert_eq!(failed["data"]["certificates"], json!([]));
        let test = event(&Message { is_test: true, ..message(EventKind::Expiration, &[3]) });
        assert_eq!(
            (&test["type"], &test["subject"]),
            (&json!("com.infisical.pki.certificate.test"), &json!("certificate-test-alert"))
        );
    }
}
