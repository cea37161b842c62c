//! The ways by which people hear of something. What a channel holds is kept sealed, since most of it is secret.

use crate::secret::SecretText;
use crate::{AlertChannelId, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use x509::uri::UriHost;

/// How many addresses an e-mail channel has at most.
pub const RECIPIENTS_MAX: usize = 10;
/// The one host that takes messages for Slack.
const SLACK_HOST: &str = "hooks.slack.com";

/// The kind of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// Mail.
    Email,
    /// A signed message to an address.
    Webhook,
    /// A message to a Slack channel.
    Slack,
    /// An event for PagerDuty.
    PagerDuty,
}

impl ChannelKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Email, Self::Webhook, Self::Slack, Self::PagerDuty];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::PagerDuty => "pagerduty",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A channel without what is secret of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its id.
    pub id: AlertChannelId,
    /// The kind.
    pub kind: ChannelKind,
    /// Whether anything is sent by it.
    pub is_enabled: bool,
    /// What may be shown of its settings, as JSON.
    pub shown: Value,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
}

/// Where a channel leads. Its serde form is the sealed document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum ChannelSettings {
    /// Mail.
    Email {
        /// Who gets it.
        recipients: Vec<String>,
    },
    /// A signed message to an address.
    Webhook {
        /// The address.
        url: String,
        /// What messages are signed with.
        signing_secret: Option<SecretText>,
    },
    /// A message to a Slack channel.
    Slack {
        /// The address, which is secret: whoever knows it may write there.
        webhook_url: SecretText,
    },
    /// An event for PagerDuty.
    PagerDuty {
        /// What names the service there.
        integration_key: SecretText,
    },
}

impl ChannelSettings {
    /// The kind of the channel.
    pub const fn kind(&self) -> ChannelKind {
        match self {
            Self::Email { .. } => ChannelKind::Email,
            Self::Webhook { .. } => ChannelKind::Webhook,
            Self::Slack { .. } => ChannelKind::Slack,
            Self::PagerDuty { .. } => ChannelKind::PagerDuty,
        }
    }

    /// What may be shown.
    pub fn shown(&self) -> Value {
        match self {
            Self::Email { recipients } => json!({ "recipients": recipients }),
            Self::Webhook { url, signing_secret } => {
                json!({ "url": url, "hasSigningSecret": signing_secret.is_some() })
            }
            Self::Slack { .. } => json!({ "hasWebhookUrl": true }),
            Self::PagerDuty { .. } => json!({ "hasIntegrationKey": true }),
        }
    }
}

/// Whether a text is an address that messages go to enciphered: `https`, with a host and without credentials.
pub fn is_https_url(text: &str) -> bool {
    x509::Uri::parse(text)
        .is_ok_and(|url| url.scheme() == "https" && url.host().is_some() && !authority(text).contains('@'))
}

/// Whether a text is an address of Slack's host for messages.
pub fn is_slack_url(text: &str) -> bool {
    let is_of_slack = |url: &x509::Uri| matches!(url.host(), Some(UriHost::Name(name)) if name == SLACK_HOST);
    is_https_url(text) && authority(text) == SLACK_HOST && x509::Uri::parse(text).is_ok_and(|url| is_of_slack(&url))
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_out_enciphered_and_slacks_only_to_slack() {
        for (text, is_https, is_slack) in [
            ("https://hooks.slack.com/services/T0/B0/x", true, true),
            ("https://hooks.slack.com", true, true),
            ("https://hooks.slack.com.example.com/x", true, false),
            ("https://hooks.slack.com:444/x", true, false),
            ("https://example.com/?hooks.slack.com", true, false),
            ("https://hooks.slack.com@example.com/", false, false),
            ("https://user:secret@example.com/", false, false),
            ("http://hooks.slack.com/services/x", false, false),
            ("http://example.com/", false, false),
            ("ftp://example.com/", false, false),
            ("https://", false, false),
            ("example.com", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_https_url(text), is_slack_url(text)), (is_https, is_slack), "{text}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let hush = || SecretText::new("hush");
        for settings in [
            ChannelSettings::Webhook { url: "https://example.com/".into(), signing_secret: Some(hush()) },
            ChannelSettings::Slack { webhook_url: hush() },
            ChannelSettings::PagerDuty { integration_key: hush() },
        ] {
            assert!(!settings.shown().to_string().contains("hush"));
            assert!(!format!("{settings:?}").contains("hush"));
            let sealed = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<ChannelSettings>(&sealed).unwrap(), settings);
        }
    }
}
