//! A message to a Slack channel: a line, a header, and what is most urgent beside a colour.

use super::{day_of, name_of};
use crate::DeliveryError;
use crate::http::Request;
use domain::alert::{EventKind, Message, days_until};
use domain::secret::SecretText;
use reqwest::Method;
use serde_json::{Value, json};

/// How many certificates are named; the rest is counted.
const NAMED_MAX: usize = 2;
/// How many characters a header may have at Slack.
const HEADER_CHARACTERS_MAX: usize = 150;
/// How many characters of a text of somebody else's are shown.
const CHARACTERS_MAX: usize = 300;

pub(super) fn request(url: &SecretText, message: &Message) -> Result<Request, DeliveryError> {
    Ok(Request::new(Method::POST, url.expose())
        .map_err(|_| DeliveryError::Refused("the address of the Slack channel is not a URL".into()))?
        .json(&payload(message)))
}

fn payload(message: &Message) -> Value {
    let headline: String = message.headline().chars().take(HEADER_CHARACTERS_MAX).collect();
    let mut sections: Vec<Value> = lines(message).into_iter().take(NAMED_MAX).map(section).collect();
    let rest = message.subject.count().saturating_sub(NAMED_MAX);
    if rest > 0 {
        sections.push(section(format!("and {rest} more")));
    }
    sections.push(section(format!("<{}|Alert {}>", message.view_url, escaped(&message.alert.name))));
    json!({
        "text": headline,
        "blocks": [{ "type": "header", "text": { "type": "plain_text", "text": headline } }],
        "attachments": [{ "color": colour(message), "blocks": sections }],
    })
}

fn section(text: String) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

fn lines(message: &Message) -> Vec<String> {
    let certificates = message.subject.certificates.iter().map(|one| {
        let profile = one.profile_name.as_deref().map(|name| format!(", profile {}", escaped(name)));
        let end = match message.alert.event {
            EventKind::Expiration | EventKind::CaExpiration => {
                format!("ends {} (in {} days)", day_of(one.not_after), days_until(one.not_after, message.at))
            }
            EventKind::Revocation => format!("revoked: {}", one.revocation_reason.as_deref().unwrap_or("-")),
            EventKind::Renewal | EventKind::Issuance | EventKind::IssuanceFailure => {
                format!("ends {}", day_of(one.not_after))
            }
        };
        format!("*{}* {end}{}\n`{}`", escaped(name_of(one)), profile.unwrap_or_default(), one.serial_number)
    });
    let failures =
        message.subject.failures.iter().map(|one| {
            format!("*{}*, profile {}: {}", escaped(&one.common_name), one.profile_name, escaped(&one.error))
        });
    failures.chain(certificates).collect()
}

/// Nothing of a certificate becomes a link or a mention.
fn escaped(text: &str) -> String {
    let short: String = text.chars().filter(|one| !one.is_control()).take(CHARACTERS_MAX).collect();
    short.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace(['*', '`'], "'")
}

fn colour(message: &Message) -> &'static str {
    match (message.alert.event, message.days_left()) {
        (EventKind::IssuanceFailure, _) => "#d32f2f",
        (EventKind::Revocation, _) => "#f9a825",
        (EventKind::Renewal | EventKind::Issuance, _) => "#2e7d32",
        (EventKind::Expiration | EventKind::CaExpiration, Some(days)) if days <= 7 => "#d32f2f",
        (EventKind::Expiration | EventKind::CaExpiration, Some(days)) if days <= 30 => "#f9a825",
        (EventKind::Expiration | EventKind::CaExpiration, _) => "#1565c0",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    #[test]
    fn two_are_named_and_the_rest_is_counted() {
        let shown = payload(&message(EventKind::Expiration, &[3, 5, 9, 20]));
        assert_eq!(shown["text"], "4 certificates run out soon");
        assert_eq!(shown["blocks"][0]["type"], "header");
        let sections = shown["attachments"][0]["blocks"].as_array().unwrap();
        let text = |at: usize| sections[at]["text"]["text"].as_str().unwrap();
        assert!(text(0).starts_with("*0.example.com* ends 2027-01-18 (in 3 days), profile web"), "{}", text(0));
        assert!(text(1).starts_with("*1.example.com*"));
        assert_eq!((text(2), sections.len()), ("and 2 more", 4));
        assert_eq!(shown["attachments"][0]["color"], "#d32f2f");
        let failed = payload(&message(EventKind::IssuanceFailure, &[])).to_string();
        assert!(failed.contains("&lt;b&gt;.example.com") && !failed.contains("<b>"), "{failed}");
    }
}
