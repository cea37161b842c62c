//! Alerts (contract syncs §5.1): what people want to hear of certificates, by mail, webhook, Slack or PagerDuty.

mod shapes;

use crate::app::App;
use crate::error::Result;
use crate::render::{Page, page, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    boolean, integer, list, object, one_of, optional, present, required, search_text, text, uuid, verbatim,
};
use domain::alert::{EventKind, Filter};
use domain::caller::Caller;
use domain::secret::SecretText;
use domain::{AlertId, ProjectId, Result as Decided};
use serde::Deserialize;
use serde_json::json;
use services::alerts::{AlertChange, AlertFilter, NewAlert, WantedChannel};
use shapes::{
    EVENTS, SentChannel, alert_schema, before_schema, certificate_schema, certificate_shown, change_schema,
    delivery_schema, filters_schema, https_schema, new_schema, run_shown, shown, tested_schema, tested_shown,
};

const TAG: &str = "Alerts";

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    const BASE: &str = "/api/v2/pki/alerts";
    const ONE: &str = "/api/v2/pki/alerts/{alertId}";
    let id = || [required("alertId", uuid())];
    let one = || wrapper("alert", alert_schema());
    let certificates = || object([required("certificates", list(certificate_schema())), required("total", integer())]);
    vec![
        Endpoint::post(BASE, TAG, "Make an alert")
            .also_at("/api/v1/cert-manager/alerts")
            .describe(
                "An alert about an end tells of each certificate once, as soon as that is within alertBefore of its end, or \
                 each day with enableDailyNotification. The others tell what happens from now on.",
            )
            .body(new_schema())
            .returns(one())
            .bearer(create),
        Endpoint::get(BASE, TAG, "List alerts")
            .also_at("/api/v1/cert-manager/alerts")
            .query([
                optional("projectId", uuid()),
                optional("search", search_text()),
                optional("eventType", one_of(EVENTS)),
                optional("enabled", boolean()),
            ])
            .query(page(20, 100))
            .returns(object([required("alerts", list(alert_schema())), required("total", integer())]))
            .bearer(list_all),
        Endpoint::get(ONE, TAG, "Get an alert")
            .also_at("/api/v1/cert-manager/alerts/{alertId}")
            .path(id())
            .returns(one())
            .bearer(show),
        Endpoint::patch(ONE, TAG, "Change an alert")
            .also_at("/api/v1/cert-manager/alerts/{alertId}")
            .describe(
                "Sent channels replace all of them; one that is sent with its id keeps the secrets that are left out. An alert \
                 that gets another eventType or alertBefore begins anew.",
            )
            .path(id())
            .body(change_schema())
            .returns(one())
            .bearer(change),
        Endpoint::delete(ONE, TAG, "Delete an alert")
            .also_at("/api/v1/cert-manager/alerts/{alertId}")
            .describe("What it waits to send is not sent.")
            .path(id())
            .returns(one())
            .bearer(delete),
        Endpoint::get("/api/v2/pki/alerts/{alertId}/certificates", TAG, "List the certificates that an alert is about")
            .also_at("/api/v1/cert-manager/alerts/{alertId}/certificates")
            .describe("The first to end first. Up to 50,000 certificates are looked at.")
            .path(id())
            .query(page(20, 100))
            .returns(certificates())
            .bearer(list_certificates),
        Endpoint::get("/api/v2/pki/alerts/{alertId}/history", TAG, "List what an alert told")
            .also_at("/api/v1/cert-manager/alerts/{alertId}/history")
            .describe("The newest first, with what became of each message. Kept for 90 days.")
            .path(id())
            .query(page(20, 100))
            .returns(object([required("history", list(delivery_schema())), required("total", integer())]))
            .bearer(list_history),
        Endpoint::post("/api/v2/pki/alerts/{alertId}/test", TAG, "Send a test by each channel of an alert")
            .also_at("/api/v1/cert-manager/alerts/{alertId}/test")
            .describe("Each channel that is on is tried once, and says what came of it.")
            .path(id())
            .returns(object([required("channels", list(tested_schema()))]))
            .bearer(test),
        Endpoint::post("/api/v2/pki/alerts/preview/certificates", TAG, "See which certificates an alert would be about")
            .also_at("/api/v1/cert-manager/alerts/preview/certificates")
            .body(
                object([
                    optional("projectId", uuid()),
                    optional("filters", filters_schema().default(json!([]))),
                    optional("alertBefore", before_schema()),
                ])
                .with(page(20, 100)),
            )
            .returns(certificates())
            .bearer(preview),
        Endpoint::post("/api/v2/pki/alerts/test-webhook", TAG, "Send a test to an address")
            .also_at("/api/v1/cert-manager/alerts/test-webhook")
            .body(object([
                optional("projectId", uuid()),
                required("url", https_schema()),
                optional("signingSecret", verbatim().at_most(256).nullable()),
            ]))
            .returns(object([required("success", boolean()), optional("error", text())]))
            .bearer(test_address),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Of {
    alert_id: AlertId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notifications {
    enable_daily_notification: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    project_id: Option<ProjectId>,
    name: String,
    description: Option<String>,
    event_type: String,
    alert_before: Option<String>,
    filters: Vec<Filter>,
    enabled: bool,
    channels: Vec<SentChannel>,
    notification_config: Option<Notifications>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    event_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    alert_before: Option<Option<String>>,
    filters: Option<Vec<Filter>>,
    enabled: Option<bool>,
    channels: Option<Vec<SentChannel>>,
    notification_config: Option<Notifications>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    project_id: Option<ProjectId>,
    search: Option<String>,
    event_type: Option<String>,
    enabled: Option<bool>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Previewed {
    project_id: Option<ProjectId>,
    filters: Vec<Filter>,
    alert_before: Option<String>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    project_id: Option<ProjectId>,
    url: String,
    signing_secret: Option<SecretText>,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: New = input.body()?;
    let new = NewAlert {
        project: app.services.project_for(&caller, body.project_id).await?,
        name: body.name,
        description: body.description,
        event: event(&body.event_type)?,
        before: body.alert_before,
        filters: body.filters,
        is_enabled: body.enabled,
        is_daily: body.notification_config.is_some_and(|config| config.enable_daily_notification),
        channels: wanted(body.channels)?,
    };
    reply(&app.services.create_alert(&caller, new).await?)
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let asked: Asked = input.query()?;
    let filter = AlertFilter {
        search: asked.search.unwrap_or_default(),
        event: asked.event_type.as_deref().and_then(EventKind::parse),
        is_enabled: asked.enabled,
    };
    let Page { offset, limit } = asked.page;
    let (alerts, total) = app.services.alerts(&caller, asked.project_id, &filter, offset, limit).await?;
    Reply::json(&json!({ "alerts": alerts.iter().map(shown).collect::<Vec<_>>(), "total": total }))
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { alert_id } = input.path()?;
    reply(&app.services.alert(&caller, alert_id).await?)
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { alert_id } = input.path()?;
    let body: Change = input.body()?;
    let change = AlertChange {
        name: body.name,
        description: body.description,
        event: body.event_type.as_deref().map(event).transpose()?,
        before: body.alert_before,
        filters: body.filters,
        is_enabled: body.enabled,
        is_daily: body.notification_config.map(|config| config.enable_daily_notification),
        channels: body.channels.map(wanted).transpose()?,
    };
    reply(&app.services.change_alert(&caller, alert_id, change).await?)
}

async fn delete(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { alert_id } = input.path()?;
    reply(&app.services.delete_alert(&caller, alert_id).await?)
}

async fn list_certificates(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { alert_id } = input.path()?;
    let Page { offset, limit } = input.query()?;
    let (found, total) = app.services.alerted_certificates(&caller, alert_id, offset, limit).await?;
    Reply::json(&json!({ "certificates": found.iter().map(certificate_shown).collect::<Vec<_>>(), "total": total }))
}

async fn list_history(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { alert_id } = input.path()?;
    let Page { offset, limit } = input.query()?;
    let (runs, total) = app.services.alert_history(&caller, alert_id, offset, limit).await?;
    Reply::json(&json!({ "history": runs.iter().map(run_shown).collect::<Vec<_>>(), "total": total }))
}

async fn test(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Of { alert_id } = input.path()?;
    let tested = app.services.test_alert(&caller, alert_id).await?;
    Reply::json(&wrapped("channels", tested.iter().map(tested_shown).collect::<Vec<_>>()))
}

async fn preview(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Previewed = input.body()?;
    let page = (body.page.offset, body.page.limit);
    let before = body.alert_before.as_deref();
    let (found, total) = app.services.preview_alert(&caller, body.project_id, &body.filters, before, page).await?;
    Reply::json(&json!({ "certificates": found.iter().map(certificate_shown).collect::<Vec<_>>(), "total": total }))
}

async fn test_address(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Address { project_id, url, signing_secret } = input.body()?;
    let secret = signing_secret.filter(|secret| !secret.expose().is_empty());
    Reply::json(&match app.services.test_webhook(&caller, project_id, url, secret).await? {
        None => json!({ "success": true }),
        Some(error) => json!({ "success": false, "error": error }),
    })
}

fn reply(alert: &services::alerts::ShownAlert) -> Result<Reply> {
    Reply::json(&wrapped("alert", shown(alert)))
}

fn event(name: &str) -> Decided<EventKind> {
    EventKind::parse(name).ok_or_else(|| domain::Error::invalid(format!("{name} is no eventType")))
}

fn wanted(channels: Vec<SentChannel>) -> Decided<Vec<WantedChannel>> {
    channels.into_iter().map(SentChannel::wanted).collect()
}
