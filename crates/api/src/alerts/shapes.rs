//! What an alert is told and what it shows (contract syncs §5.1).

use crate::render::{timestamp, wrapped};
use crate::schema::{
    Schema, any, boolean, date, email, integer, list, object, one_of, optional, required, text, uuid, verbatim,
};
use domain::alert::{
    CHANNELS_MAX, Channel, ChannelKind, ChannelSettings, Delivery, EventKind, FILTERS_MAX, Field, Operator,
    RECIPIENTS_MAX, Run, VALUES_MAX, is_https_url, is_slack_url, parse_before,
};
use domain::inventory::{alt_names, serial_hex};
use domain::secret::SecretText;
use domain::{AlertChannelId, Error, Result, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::alerts::{AlertedCertificate, ShownAlert, TestedChannel, WantedChannel, WantedSettings};
use x509::AttributeType;

/// What an alert can be about.
pub(super) const EVENTS: &[&str] = &[
    EventKind::Expiration.as_str(),
    EventKind::Renewal.as_str(),
    EventKind::Issuance.as_str(),
    EventKind::Revocation.as_str(),
    EventKind::IssuanceFailure.as_str(),
    EventKind::CaExpiration.as_str(),
];

const CHANNELS: &[&str] = &[
    ChannelKind::Email.as_str(),
    ChannelKind::Webhook.as_str(),
    ChannelKind::Slack.as_str(),
    ChannelKind::PagerDuty.as_str(),
];

/// The body that makes an alert.
pub(super) fn new_schema() -> Schema {
    fields()
        .with([
            optional("projectId", uuid()),
            required("name", name()),
            required("eventType", one_of(EVENTS)),
            optional("filters", filters_schema().default(json!([]))),
            optional("enabled", boolean().default(json!(true))),
            required("channels", channels_schema()),
        ])
        .rule(&["alertBefore"], "alertBefore is needed for an alert about an end", |it| {
            let is_about_an_end = it["eventType"] == "expiration" || it["eventType"] == "ca-expiration";
            !is_about_an_end || it["alertBefore"].is_string()
        })
}

/// The body that changes an alert.
pub(super) fn change_schema() -> Schema {
    fields().with([
        optional("name", name()),
        optional("eventType", one_of(EVENTS)),
        optional("filters", filters_schema()),
        optional("enabled", boolean()),
        optional("channels", channels_schema()),
    ])
}

fn fields() -> Schema {
    object([
        optional("description", text().at_most(1000).nullable()),
        optional("alertBefore", before_schema().nullable()),
        optional(
            "notificationConfig",
            object([optional("enableDailyNotification", boolean().default(json!(false)))]).nullable(),
        ),
    ])
}

fn name() -> Schema {
    text()
        .at_least(1)
        .at_most(255)
        .must("a name has lower-case letters and digits, with single hyphens between them", |text| {
            text.split('-').all(|part| {
                !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit())
            })
        })
        .example("ends-soon")
}

/// How long before an end.
pub(super) fn before_schema() -> Schema {
    text()
        .at_least(1)
        .at_most(32)
        .must("digits and one of d, w, m (30 days) or y (365 days), such as 30d", |text| parse_before(text).is_some())
        .example("30d")
}

/// An address that messages go to.
pub(super) fn https_schema() -> Schema {
    text().at_least(1).at_most(2048).must("an https:// address without credentials", is_https_url)
}

/// Which certificates.
pub(super) fn filters_schema() -> Schema {
    list(
        object([
            required("field", one_of(Field::NAMES)),
            required("operator", one_of(Operator::NAMES)),
            required("value", any().describe("A text, a list of texts, or for include_cas true or false.")),
        ])
        .rule(&["value"], "include_cas is compared by equals with true or false", |it| {
            it["field"] != "include_cas" || (it["value"].is_boolean() && it["operator"] == "equals")
        })
        .rule(&["value"], "a text of 1 to 255 characters, or a list of 1 to 50 of them", |it| {
            let is_text = |value: &Value| {
                value.as_str().is_some_and(|text| (1..=255).contains(&text.chars().count()) && !text.contains('\0'))
            };
            match &it["value"] {
                Value::Array(texts) => (1..=VALUES_MAX).contains(&texts.len()) && texts.iter().all(is_text),
                value => it["field"] == "include_cas" || is_text(value),
            }
        }),
    )
    .at_most(FILTERS_MAX as i64)
    .describe("All must be met, each by one of its values. In matches, * stands for any text.")
}

fn channels_schema() -> Schema {
    let config = object([
        optional("recipients", list(email().at_most(320)).at_least(1).at_most(RECIPIENTS_MAX as i64)),
        optional("url", https_schema()),
        optional("signingSecret", verbatim().at_most(256).nullable()),
        optional("webhookUrl", text().at_most(2048).must("an address of https://hooks.slack.com", is_slack_url)),
        optional(
            "integrationKey",
            text().must("32 hexadecimal digits", |text| {
                text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit())
            }),
        ),
    ]);
    let channel = object([
        optional("id", uuid()),
        required("channelType", one_of(CHANNELS)),
        required("config", config),
        optional("enabled", boolean().default(json!(true))),
    ])
    .rule(&["config", "recipients"], "Required", |it| {
        it["channelType"] != "email" || it["config"]["recipients"].is_array()
    })
    .rule(&["config", "url"], "Required", |it| it["channelType"] != "webhook" || it["config"]["url"].is_string())
    .rule(&["config", "webhookUrl"], "Required", |it| {
        it["channelType"] != "slack" || it["id"].is_string() || it["config"]["webhookUrl"].is_string()
    })
    .rule(&["config", "integrationKey"], "Required", |it| {
        it["channelType"] != "pagerduty" || it["id"].is_string() || it["config"]["integrationKey"].is_string()
    });
    list(channel).at_least(1).at_most(CHANNELS_MAX as i64)
}

/// A channel as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentChannel {
    id: Option<AlertChannelId>,
    channel_type: String,
    config: SentConfig,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentConfig {
    recipients: Option<Vec<String>>,
    url: Option<String>,
    #[serde(default, deserialize_with = "crate::schema::present")]
    signing_secret: Option<Option<SecretText>>,
    webhook_url: Option<SecretText>,
    integration_key: Option<SecretText>,
}

impl SentChannel {
    /// What is wanted by it.
    pub(super) fn wanted(self) -> Result<WantedChannel> {
        let config = self.config;
        let settings = match (ChannelKind::parse(&self.channel_type), config) {
            (Some(ChannelKind::Email), SentConfig { recipients: Some(recipients), .. }) => {
                WantedSettings::Whole(ChannelSettings::Email { recipients })
            }
            (Some(ChannelKind::Webhook), SentConfig { url: Some(url), signing_secret, .. }) => match signing_secret {
                None => WantedSettings::Signed(ChannelSettings::Webhook { url, signing_secret: None }),
                Some(secret) => {
                    let signing_secret = secret.filter(|secret| !secret.expose().is_empty());
                    WantedSettings::Whole(ChannelSettings::Webhook { url, signing_secret })
                }
            },
            (Some(ChannelKind::Slack), SentConfig { webhook_url: Some(webhook_url), .. }) => {
                WantedSettings::Whole(ChannelSettings::Slack { webhook_url })
            }
            (Some(ChannelKind::PagerDuty), SentConfig { integration_key: Some(integration_key), .. }) => {
                WantedSettings::Whole(ChannelSettings::PagerDuty { integration_key })
            }
            (Some(kind), _) => WantedSettings::AsBefore(kind),
            (None, _) => return Err(Error::invalid(format!("{} is no channelType", self.channel_type))),
        };
        Ok(WantedChannel { id: self.id, is_enabled: self.enabled, settings })
    }
}

/// An alert.
pub(super) fn alert_schema() -> Schema {
    let last_run = object([
        required("timestamp", date()),
        required("status", one_of(&["success", "failed"])),
        required("error", text().nullable()),
    ]);
    let channel = object([
        required("id", uuid()),
        required("channelType", text()),
        required("config", any().describe("What may be shown of it.")),
        required("enabled", boolean()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ]);
    object([
        required("id", uuid()),
        required("projectId", uuid()),
        required("name", text()),
        required("description", text().nullable()),
        required("eventType", text()),
        required("alertBefore", text().nullable()),
        required("filters", any()),
        required("enabled", boolean()),
        required("notificationConfig", object([required("enableDailyNotification", boolean())])),
        required("channels", list(channel)),
        required("lastRun", last_run.nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

pub(super) fn shown(shown: &ShownAlert) -> Value {
    let ShownAlert { alert, channels, last_run } = shown;
    json!({
        "id": alert.id,
        "projectId": alert.project,
        "name": alert.name,
        "description": alert.description,
        "eventType": alert.event.as_str(),
        "alertBefore": alert.before,
        "filters": alert.filters,
        "enabled": alert.is_enabled,
        "notificationConfig": wrapped("enableDailyNotification", alert.is_daily),
        "channels": channels.iter().map(channel_shown).collect::<Vec<_>>(),
        "lastRun": last_run.as_ref().map(|last| json!({
            "timestamp": timestamp(last.at),
            "status": if last.error.is_none() { "success" } else { "failed" },
            "error": last.error,
        })),
        "createdAt": timestamp(alert.created_at),
        "updatedAt": timestamp(alert.updated_at),
    })
}

fn channel_shown(channel: &Channel) -> Value {
    json!({
        "id": channel.id,
        "channelType": channel.kind.as_str(),
        "config": channel.shown,
        "enabled": channel.is_enabled,
        "createdAt": timestamp(channel.created_at),
        "updatedAt": timestamp(channel.updated_at),
    })
}

/// A certificate that an alert is about.
pub(super) fn certificate_schema() -> Schema {
    object([
        required("id", uuid()),
        required("serialNumber", text()),
        required("commonName", text()),
        required("san", list(text())),
        required("profileName", text().nullable()),
        required("enrollmentType", text().nullable()),
        required("notBefore", date()),
        required("notAfter", date()),
        required("status", text()),
    ])
}

pub(super) fn certificate_shown(found: &AlertedCertificate) -> Value {
    let certificate = &found.record.certificate;
    json!({
        "id": found.record.row.issued.id,
        "serialNumber": serial_hex(certificate),
        "commonName": certificate.subject().first(AttributeType::CommonName).unwrap_or_default(),
        "san": alt_names(certificate),
        "profileName": found.profile_name,
        "enrollmentType": found.enrollment,
        "notBefore": timestamp(Time::from_seconds(certificate.not_before())),
        "notAfter": timestamp(Time::from_seconds(certificate.not_after())),
        "status": found.record.status.as_str(),
    })
}

/// One time that an alert told something.
pub(super) fn delivery_schema() -> Schema {
    let delivery = object([
        required("id", uuid()),
        required("channelId", uuid()),
        required("channelType", text()),
        required("status", text()),
        required("attempts", integer()),
        required("error", text().nullable()),
        required("updatedAt", date()),
    ]);
    object([
        required("id", uuid()),
        required("timestamp", date()),
        required("total", integer()),
        required("certificateIds", list(uuid())),
        required("failures", integer()),
        required("deliveries", list(delivery)),
    ])
}

pub(super) fn run_shown((run, deliveries): &(Run, Vec<Delivery>)) -> Value {
    let deliveries = deliveries.iter().map(|one| {
        json!({
            "id": one.id,
            "channelId": one.channel,
            "channelType": one.kind.as_str(),
            "status": one.status.as_str(),
            "attempts": one.attempts,
            "error": one.error,
            "updatedAt": timestamp(one.updated_at),
        })
    });
    json!({
        "id": run.id,
        "timestamp": timestamp(run.created_at),
        "total": run.subject.count(),
        "certificateIds": run.subject.certificates.iter().map(|one| one.id).collect::<Vec<_>>(),
        "failures": run.subject.failures.len(),
        "deliveries": deliveries.collect::<Vec<_>>(),
    })
}

/// What came of a test.
pub(super) fn tested_schema() -> Schema {
    object([
        required("channelId", uuid()),
        required("channelType", text()),
        required("success", boolean()),
        optional("error", text()),
    ])
}

pub(super) fn tested_shown(tested: &TestedChannel) -> Value {
    let mut shown = json!({
        "channelId": tested.id,
        "channelType": tested.kind.as_str(),
        "success": tested.error.is_none(),
    });
    if let Some(error) = &tested.error {
        shown["error"] = error.as_str().into();
    }
    shown
}
