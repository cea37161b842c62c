//! `chancery alert`: what people are to hear of certificates, and by which channels.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files,
    output::{Column, Output, fields, list_at, needed, string_at, table, text_at},
};

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("EVENT", "/eventType"),
    ("BEFORE", "/alertBefore"),
    ("ON", "/enabled"),
    ("LAST RUN", "/lastRun/status"),
    ("ID", "/id"),
];
const FIELDS: [&str; 4] = ["profile_name", "common_name", "san", "include_cas"];
/// Each before those that it begins with.
const OPERATORS: [(&str, &str); 5] =
    [("^=", "starts_with"), ("$=", "ends_with"), ("*=", "contains"), ("~=", "matches"), ("=", "equals")];

/// Make, test, change and delete alerts, and see what they told.
///
/// An alert tells by mail, webhook, Slack or PagerDuty which certificates run out soon, or were issued, renewed, revoked or
/// refused. Secrets of channels are kept sealed and never shown again.
#[derive(clap::Args)]
pub(crate) struct AlertArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: AlertCommand,
}

#[derive(Subcommand)]
pub(crate) enum AlertCommand {
    /// List alerts.
    #[command(after_help = "Example:\n  chancery alert list")]
    List,
    /// Show an alert, without the secrets of its channels.
    #[command(after_help = "Example:\n  chancery alert show ends-soon")]
    Show(Named),
    /// Make an alert.
    #[command(after_help = "Examples:
  chancery alert create ends-soon --event expiration --before 30d --email pki@example.com
  chancery alert create revoked --event revocation --where common_name$=.example.com \\
    --webhook https://hooks.example.com/pki --signing-secret-file secret.txt
  chancery alert create ca --event ca-expiration --before 1y --pagerduty-key-file key.txt")]
    Create {
        /// Its name.
        name: String,
        /// expiration, ca-expiration, issuance, issuance-failure, renewal or revocation.
        #[arg(long, value_name = "EVENT")]
        event: String,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Change an alert; given channels replace all of its channels.
    #[command(after_help = "Examples:
  chancery alert update ends-soon --before 14d
  chancery alert update ends-soon --enabled false")]
    Update {
        #[command(flatten)]
        named: Named,
        /// Another name.
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Delete an alert. What it waits to send is not sent.
    #[command(after_help = "Example:\n  chancery alert delete ends-soon")]
    Delete(Named),
    /// Send a test by each channel. Exit code 1 when one does not take it.
    #[command(after_help = "Example:\n  chancery alert test ends-soon")]
    Test(Named),
    /// See what an alert told, and what became of each message.
    #[command(after_help = "Example:\n  chancery alert history ends-soon")]
    History {
        #[command(flatten)]
        named: Named,
        /// How many at most.
        #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// List the certificates that an alert is about now, the first to end first.
    #[command(after_help = "Example:\n  chancery alert certificates ends-soon")]
    Certificates(Named),
}

/// Which alert.
#[derive(Args)]
pub(crate) struct Named {
    /// Its name or id.
    #[arg(value_name = "NAME|ID")]
    alert: String,
}

/// What can be chosen of an alert.
#[derive(Args)]
pub(crate) struct Wanted {
    /// How long before the end it tells, as 30d, 2w, 1m (30 days) or 1y.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// What a certificate must be like: profile_name, common_name or san, then = ^= $= *= or ~= (with * for any text), then
    /// values with | between. All must be met.
    #[arg(long = "where", value_name = "RULE")]
    rules: Vec<String>,
    /// Whether it tells anything.
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// Whether it tells of the same certificate each day.
    #[arg(long, value_name = "BOOL")]
    daily: Option<bool>,
    /// An address that gets mail.
    #[arg(long, value_name = "ADDRESS")]
    email: Vec<String>,
    /// An https address that gets a message.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// The file of the secret that messages to the webhook are signed with; - reads standard input.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    signing_secret_file: Option<PathBuf>,
    /// The file of the address of a Slack channel, https://hooks.slack.com/…; - reads standard input.
    #[arg(long, value_name = "FILE")]
    slack_url_file: Option<PathBuf>,
    /// The file of the integration key of a service at PagerDuty; - reads standard input.
    #[arg(long, value_name = "FILE")]
    pagerduty_key_file: Option<PathBuf>,
}

impl Wanted {
    fn into_body(self) -> Result<Value, Failure> {
        let mut body = Map::new();
        let channels = self.channels()?;
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("alertBefore", self.before.map(Value::from));
        put("description", self.description.map(Value::from));
        put("enabled", self.enabled.map(Value::from));
        put("notificationConfig", self.daily.map(|daily| json!({ "enableDailyNotification": daily })));
        if !self.rules.is_empty() {
            put("filters", Some(self.rules.iter().map(|rule| filter(rule)).collect::<Result<_, _>>()?));
        }
        if !channels.is_empty() {
            put("channels", Some(channels.into()));
        }
        Ok(Value::Object(body))
    }

    fn channels(&self) -> Result<Vec<Value>, Failure> {
        let secret = |file: &PathBuf| files::read_text(file).map(|text| text.trim().to_owned());
        let mut channels = Vec::new();
        if !self.email.is_empty() {
            channels.push(json!({ "channelType": "email", "config": { "recipients": self.email } }));
        }
        if let Some(url) = &self.webhook {
            let mut config = json!({ "url": url });
            if let Some(file) = &self.signing_secret_file {
                config["signingSecret"] = secret(file)?.into();
            }
            channels.push(json!({ "channelType": "webhook", "config": config }));
        }
        if let Some(file) = &self.slack_url_file {
            channels.push(json!({ "channelType": "slack", "config": { "webhookUrl": secret(file)? } }));
        }
        if let Some(file) = &self.pagerduty_key_file {
            channels.push(json!({ "channelType": "pagerduty", "config": { "integrationKey": secret(file)? } }));
        }
        Ok(channels)
    }
}

pub(crate) async fn run(client: &Client, command: AlertCommand) -> Result<Output, Failure> {
    match command {
        AlertCommand::List => {
            let alerts = all(client).await?;
            let text = table(COLUMNS, &alerts, "There is no alert yet.");
            Ok(Output::new(json!({ "alerts": alerts }), text))
        }
        AlertCommand::Show(Named { alert }) => {
            let found = find(client, &alert).await?;
            let text = describe(&found);
            Ok(Output::new(json!({ "alert": found }), text))
        }
        AlertCommand::Create { name, event, wanted } => {
            let mut body = wanted.into_body()?;
            body["name"] = name.into();
            body["eventType"] = event.into();
            if body["channels"].is_null() {
                return Err(Failure::new(
                    "an alert needs a channel: --email, --webhook, --slack-url-file or --pagerduty-key-file",
                ));
            }
            let body = client.in_project(body).await?;
            shown(client.post(&["v2", "pki", "alerts"], &body).await?)
        }
        AlertCommand::Update { named, rename, wanted } => {
            let found = find(client, &named.alert).await?;
            let mut body = wanted.into_body()?;
            if let Some(name) = rename {
                body["name"] = name.into();
            }
            shown(client.patch(&place(&found)?, &body).await?)
        }
        AlertCommand::Delete(Named { alert }) => {
            let found = find(client, &alert).await?;
            let answer = client.delete(&place(&found)?).await?;
            Ok(Output::new(answer, format!("deleted alert {}", text_at(&found, "/name"))))
        }
        AlertCommand::Test(Named { alert }) => {
            let found = find(client, &alert).await?;
            let path = [&place(&found)?[..], &["test"]].concat();
            let answer = client.post(&path, &json!({})).await?;
            let columns: &[Column] = &[("CHANNEL", "/channelType"), ("TAKEN", "/success"), ("ERROR", "/error")];
            let tested = list_at(&answer, "/channels");
            let is_taken = tested.iter().all(|one| one["success"] == true);
            let text = table(columns, &tested, "The alert has no channel that is on.");
            match is_taken {
                true => Ok(Output::new(answer, text)),
                false => Err(Failure::new(format!("not every channel took the test:\n{text}"))),
            }
        }
        AlertCommand::History { named, limit } => {
            let found = find(client, &named.alert).await?;
            let path = [&place(&found)?[..], &["history"]].concat();
            let limit = limit.to_string();
            let answer = client.get(&path, &[("limit", limit.as_str())]).await?;
            let columns: &[Column] = &[
                ("WHEN", "/timestamp"),
                ("TOLD", "/total"),
                ("CHANNEL", "/channelType"),
                ("STATUS", "/status"),
                ("TRIES", "/attempts"),
                ("ERROR", "/error"),
            ];
            let text = table(columns, &messages(&answer), "The alert has told nothing yet.");
            Ok(Output::new(answer, text))
        }
        AlertCommand::Certificates(Named { alert }) => {
            let found = find(client, &alert).await?;
            let path = [&place(&found)?[..], &["certificates"]].concat();
            let answer = client.get(&path, &[("limit", "100")]).await?;
            let columns: &[Column] = &[
                ("COMMON NAME", "/commonName"),
                ("ENDS", "/notAfter"),
                ("PROFILE", "/profileName"),
                ("SERIAL NUMBER", "/serialNumber"),
            ];
            let text = table(columns, &list_at(&answer, "/certificates"), "The alert is about no certificate now.");
            Ok(Output::new(answer, text))
        }
    }
}

/// One row for each message.
fn messages(answer: &Value) -> Vec<Value> {
    let mut rows = Vec::new();
    for run in list_at(answer, "/history") {
        for mut message in list_at(&run, "/deliveries") {
            message["timestamp"] = run["timestamp"].clone();
            message["total"] = run["total"].clone();
            rows.push(message);
        }
    }
    rows
}

/// Reads `common_name$=.example.com`, or `san=a|b`.
fn filter(rule: &str) -> Result<Value, Failure> {
    let wrong = || {
        Failure::new(format!(
            "{rule} is not a rule: write profile_name, common_name or san, then = ^= $= *= or ~=, then a value"
        ))
    };
    let at = rule.find('=').ok_or_else(wrong)?;
    let start = if at > 0 && matches!(rule.as_bytes()[at - 1], b'^' | b'$' | b'*' | b'~') { at - 1 } else { at };
    let (field, sign, value) = (&rule[..start], &rule[start..=at], &rule[at + 1..]);
    let operator = OPERATORS.iter().find(|(known, _)| *known == sign).map(|(_, name)| *name).ok_or_else(wrong)?;
    if !FIELDS.contains(&field) || value.is_empty() {
        return Err(wrong());
    }
    let value = match (field, value.split_once('|')) {
        ("include_cas", _) => json!(value == "true"),
        (_, None) => json!(value),
        (_, Some(_)) => value.split('|').collect(),
    };
    Ok(json!({ "field": field, "operator": operator, "value": value }))
}

async fn all(client: &Client) -> Result<Vec<Value>, Failure> {
    const PAGE: usize = 100;
    let mut alerts = Vec::new();
    loop {
        let offset = alerts.len().to_string();
        let query = [("limit", "100"), ("offset", offset.as_str())];
        let page = list_at(&client.get_in_project(&["v2", "pki", "alerts"], &query).await?, "/alerts");
        let is_last = page.len() < PAGE;
        alerts.extend(page);
        if is_last {
            return Ok(alerts);
        }
    }
}

/// The alert of that name or id.
async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    let named = all(client)
        .await?
        .into_iter()
        .find(|one| [string_at(one, "/name"), string_at(one, "/id")].contains(&Some(name)));
    named.ok_or_else(|| Failure::new(format!("there is no alert {name}; chancery alert list shows all")))
}

fn place(alert: &Value) -> Result<[&str; 4], Failure> {
    Ok(["v2", "pki", "alerts", needed(alert, "/id")?])
}

fn shown(answer: Value) -> Result<Output, Failure> {
    let text = describe(&answer["alert"]);
    Ok(Output::new(answer, text))
}

fn describe(alert: &Value) -> String {
    let channels: Vec<(String, String)> = list_at(alert, "/channels")
        .into_iter()
        .map(|one| {
            let state = if one["enabled"] == true { "" } else { " (off)" };
            (format!("{}{state}", text_at(&one, "/channelType")), one["config"].to_string())
        })
        .collect();
    let known = [
        ("name", text_at(alert, "/name")),
        ("event", text_at(alert, "/eventType")),
        ("before", text_at(alert, "/alertBefore")),
        ("rules", alert["filters"].to_string()),
        ("enabled", text_at(alert, "/enabled")),
        ("daily", text_at(alert, "/notificationConfig/enableDailyNotification")),
        ("last run", text_at(alert, "/lastRun/timestamp")),
        ("outcome", text_at(alert, "/lastRun/status")),
        ("error", text_at(alert, "/lastRun/error")),
        ("description", text_at(alert, "/description")),
        ("id", text_at(alert, "/id")),
    ];
    fields(known.into_iter().chain(channels.iter().map(|(name, value)| (name.as_str(), value.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_field_a_sign_and_values() {
        for (rule, expected) in [
            ("common_name=a", Some(json!({"field": "common_name", "operator": "equals", "value": "a"}))),
            ("common_name$=.a", Some(json!({"field": "common_name", "operator": "ends_with", "value": ".a"}))),
            ("san^=a|b", Some(json!({"field": "san", "operator": "starts_with", "value": ["a", "b"]}))),
            ("profile_name*=a=b", Some(json!({"field": "profile_name", "operator": "contains", "value": "a=b"}))),
            ("san~=*.a", Some(json!({"field": "san", "operator": "matches", "value": "*.a"}))),
            ("include_cas=true", Some(json!({"field": "include_cas", "operator": "equals", "value": true}))),
            ("serial=a", None),
            ("common_name", None),
            ("common_name=", None),
            ("=a", None),
        ] {
            assert_eq!(filter(rule).ok(), expected, "{rule}");
        }
    }
}
