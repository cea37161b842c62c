//! What brokers outside ask below the URL of a hook, each in the protocol of its plug-in.
//!
//! - RabbitMQ, `rabbitmq_auth_backend_http`: `user`, `vhost`, `resource` and `topic`, with form fields or parameters; the
//!   answer is `allow` or `deny`. Its routing keys are MQTT topics with `.` for `/`. It passes no certificate.
//! - EMQX 5, HTTP authentication and authorisation: `authn` and `authz`, with JSON, form fields or parameters; the answer is
//!   `{"result": "allow"}` or `deny`. A certificate is passed where the request is configured to hold it (`cert_pem`). Who
//!   is let in gets the client attribute `id`, by which `authz` may be asked in place of the username.
//! - mosquitto-go-auth, HTTP backend: `user`, `superuser` and `acl`, with JSON or form fields; the answer is the status, and
//!   `{"ok": …}` for its JSON mode. It asks again about every message that it delivers.
//!
//! Nobody is known by a wrong secret, nothing is a failure of ours to the broker, and whoever asks wrongly is told no: to some
//! of these brokers any other answer would mean that the client may.

use crate::app::App;
use crate::rest::{percent_decoded, written};
use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use domain::registry::Owner;
use domain::registry::hook::{BrokerHook, HookKind};
use domain::registry::outside::Wish;
use serde_json::{Value, json};
use services::registry::Presented;
use std::collections::HashMap;

/// The greatest length of a question, in octets.
const BODY_OCTETS_MAX: usize = 256 * 1024;
/// What mosquitto calls reading, writing and subscribing.
const READ: u32 = 1;
const WRITE: u32 = 2;
const SUBSCRIBE: u32 = 4;
/// The names under which a certificate may be passed: its PEM or its SHA-256.
const CERTIFICATE: [&str; 5] = ["certificate", "cert_pem", "cert", "fingerprint", "cert_fingerprint"];

/// The fields of a question.
struct Question(HashMap<String, String>);

/// What is answered.
enum Verdict {
    Allow,
    AllowAs(Owner),
    Deny,
}

/// Answers a question below the URL of a hook.
pub(super) async fn answer(app: &App, secret: &str, question: &str, parts: &Parts, body: Body) -> Response {
    let hook = match app.services.hook_of(secret).await {
        Ok(hook) => hook,
        Err(error) => {
            tracing::error!(%error, question, "a broker outside could not be answered");
            None
        }
    };
    let Some(hook) = hook else { return written_by_question(question) };
    let fields = Question::read(parts, body).await;
    let verdict = match hook.kind {
        HookKind::RabbitMq => rabbitmq(app, &hook, question, &fields).await,
        HookKind::Emqx => emqx(app, &hook, question, &fields).await,
        HookKind::Mosquitto => mosquitto(app, &hook, question, &fields).await,
    };
    let verdict = verdict.unwrap_or_else(|error| {
        tracing::error!(%error, hook = %hook.id, question, "a broker outside could not be answered");
        Verdict::Deny
    });
    written_for(hook.kind, &verdict)
}

async fn rabbitmq(app: &App, hook: &BrokerHook, question: &str, fields: &Question) -> domain::Result<Verdict> {
    let username = fields.text("username");
    let is_known = match question {
        "user" => app.services.hook_login(hook, &fields.presented()).await?.is_some(),
        "vhost" => app.services.hook_knows(hook, username).await?,
        "resource" => is_of_mqtt(fields) && app.services.hook_knows(hook, username).await?,
        "topic" => {
            let topic = topic_of(fields.text("routing_key"));
            let wish = match fields.text("permission") {
                "write" => Wish::Publish(&topic),
                "read" => Wish::Subscribe(&topic),
                _ => return Ok(Verdict::Deny),
            };
            app.services.hook_allows(hook, username, &wish).await?
        }
        _ => false,
    };
    Ok(if is_known { Verdict::Allow } else { Verdict::Deny })
}

/// Whether a resource is one that RabbitMQ's MQTT plug-in needs for a client: the topic exchange, and the queues of its
/// subscriptions. Whatever else there is would be a way around the topics.
fn is_of_mqtt(fields: &Question) -> bool {
    let (name, permission) = (fields.text("name"), fields.text("permission"));
    match fields.text("resource") {
        "exchange" => name == "amq.topic" && matches!(permission, "read" | "write"),
        "queue" => {
            let client = fields.text("client_id");
            let is_own = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(client));
            is_own("mqtt-subscription-") || is_own("mqtt-will-")
        }
        "topic" => name == "amq.topic",
        _ => false,
    }
}

/// RabbitMQ exchanges `/` and `.`, and calls `+` `*`.
fn topic_of(routing_key: &str) -> String {
    let letter = |letter| match letter {
        '.' => '/',
        '/' => '.',
        '*' => '+',
        other => other,
    };
    routing_key.chars().map(letter).collect()
}

async fn emqx(app: &App, hook: &BrokerHook, question: &str, fields: &Question) -> domain::Result<Verdict> {
    match question {
        "authn" => {
            let login = app.services.hook_login(hook, &fields.presented()).await?;
            Ok(login.map_or(Verdict::Deny, Verdict::AllowAs))
        }
        "authz" => {
            let topic = fields.text("topic");
            let wish = match fields.text("action") {
                "publish" => Wish::Publish(topic),
                "subscribe" => Wish::Subscribe(topic),
                _ => return Ok(Verdict::Deny),
            };
            let name = match fields.text("username") {
                "" => fields.text("id"),
                username => username,
            };
            let is_allowed = app.services.hook_allows(hook, name, &wish).await?;
            Ok(if is_allowed { Verdict::Allow } else { Verdict::Deny })
        }
        _ => Ok(Verdict::Deny),
    }
}

async fn mosquitto(app: &App, hook: &BrokerHook, question: &str, fields: &Question) -> domain::Result<Verdict> {
    let is_allowed = match question {
        "user" => app.services.hook_login(hook, &fields.presented()).await?.is_some(),
        "acl" => {
            let (username, topic) = (fields.text("username"), fields.text("topic"));
            let access: u32 = fields.text("acc").parse().unwrap_or(0);
            let wishes = [
                (READ, Wish::Receive(topic)),
                (WRITE, Wish::Publish(topic)),
                (SUBSCRIBE, Wish::SubscribeNarrowed(topic)),
            ];
            let known = READ | WRITE | SUBSCRIBE;
            let mut is_allowed = access != 0 && access & !known == 0;
            for (_, wish) in wishes.into_iter().filter(|(bit, _)| access & bit != 0) {
                is_allowed = is_allowed && app.services.hook_allows(hook, username, &wish).await?;
            }
            is_allowed
        }
        // Nobody has more rights than the topics give.
        _ => false,
    };
    Ok(if is_allowed { Verdict::Allow } else { Verdict::Deny })
}

impl Question {
    /// The parameters and the fields of the body. What cannot be read is left out, and then missing.
    async fn read(parts: &Parts, body: Body) -> Self {
        let mut fields = HashMap::new();
        add_form(&mut fields, parts.uri.query().unwrap_or_default());
        let octets = to_bytes(body, BODY_OCTETS_MAX).await.unwrap_or_default();
        let text = String::from_utf8(octets.to_vec()).unwrap_or_default();
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") || text.trim_start().starts_with('{') {
            if let Ok(Value::Object(members)) = serde_json::from_str(&text) {
                fields.extend(members.into_iter().filter_map(|(name, value)| match value {
                    Value::String(text) => Some((name, text)),
                    Value::Number(number) => Some((name, number.to_string())),
                    _ => None,
                }));
            }
        } else {
            add_form(&mut fields, &text);
        }
        Self(fields)
    }

    /// A field; empty when it is absent, or a placeholder that the broker had nothing for.
    fn text(&self, name: &str) -> &str {
        match self.0.get(name).map_or("", String::as_str) {
            "undefined" => "",
            text => text,
        }
    }

    fn presented(&self) -> Presented<'_> {
        let certificate = CERTIFICATE.into_iter().map(|name| self.text(name)).find(|text| !text.is_empty());
        Presented {
            username: self.text("username"),
            password: self.text("password"),
            certificate: certificate.unwrap_or_default(),
        }
    }
}

fn add_form(fields: &mut HashMap<String, String>, text: &str) {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
        if let (Some(name), Some(value)) = (decoded(name), decoded(value)) {
            fields.insert(name, value);
        }
    }
}

fn written_for(kind: HookKind, verdict: &Verdict) -> Response {
    match (kind, verdict) {
        (HookKind::RabbitMq, Verdict::Deny) => "deny".into_response(),
        (HookKind::RabbitMq, _) => "allow".into_response(),
        (HookKind::Emqx, Verdict::Deny) => written(StatusCode::OK, &json!({ "result": "deny" })),
        (HookKind::Emqx, Verdict::Allow) => written(StatusCode::OK, &json!({ "result": "allow" })),
        (HookKind::Emqx, Verdict::AllowAs(owner)) => {
            let attributes = json!({ "id": owner.id() });
            written(StatusCode::OK, &json!({ "result": "allow", "is_superuser": false, "client_attrs": attributes }))
        }
        (HookKind::Mosquitto, Verdict::Deny) => {
            written(StatusCode::FORBIDDEN, &json!({ "ok": false, "error": "not allowed" }))
        }
        (HookKind::Mosquitto, _) => written(StatusCode::OK, &json!({ "ok": true, "error": "" })),
    }
}

/// No to whoever has no hook. To EMQX another status than 200 would mean that it may go on asking others.
fn written_by_question(question: &str) -> Response {
    match question {
        "authn" | "authz" => written(StatusCode::OK, &json!({ "result": "deny" })),
        _ => (StatusCode::FORBIDDEN, "deny").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(fields: &[(&str, &str)]) -> Question {
        Question(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_routing_key_is_a_topic_with_other_signs() {
        for (key, topic) in [
            ("$devices.d1.events", "$devices/d1/events"),
            ("$devices.*.events.#", "$devices/+/events/#"),
            ("a/b.c", "a.b/c"),
            ("", ""),
        ] {
            assert_eq!(topic_of(key), topic);
        }
    }

    #[test]
    fn only_what_mqtt_needs_of_rabbitmq_is_given() {
        for (resource, name, permission, client, is_given) in [
            ("exchange", "amq.topic", "write", "", true),
            ("exchange", "amq.topic", "read", "", true),
            ("exchange", "amq.topic", "configure", "", false),
            ("exchange", "", "write", "", false),
            ("exchange", "amq.default", "write", "", false),
            ("queue", "mqtt-subscription-c1qos1", "configure", "", true),
            ("queue", "mqtt-subscription-c1qos1", "read", "c1", true),
            ("queue", "mqtt-subscription-c1qos1", "read", "c2", false),
            ("queue", "orders", "read", "", false),
            ("topic", "amq.topic", "write", "", true),
            ("vhost", "/", "read", "", false),
        ] {
            let fields = [("resource", resource), ("name", name), ("permission", permission), ("client_id", client)];
            assert_eq!(is_of_mqtt(&question(&fields)), is_given, "{fields:?}");
        }
    }

    #[test]
    fn a_placeholder_that_stands_for_nothing_is_nothing() {
        let asked = question(&[("password", "undefined"), ("username", "u"), ("cert_pem", ""), ("fingerprint", "ab")]);
        let presented = asked.presented();
        assert_eq!((presented.username, presented.password, presented.certificate), ("u", "", "ab"));
    }
}
