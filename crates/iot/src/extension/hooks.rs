//! Hooks for brokers outside, as who manages them sees them.

use super::read::Fields;
use super::{page, time};
use crate::app::Call;
use crate::error::Result;
use domain::Error;
use domain::registry::hook::{BrokerHook, HookKind};
use serde_json::{Value, json};

/// `POST /iot-devices/v1/hooks`.
pub(super) async fn create(call: &Call, mut body: Fields) -> Result<Value> {
    let folder = body.text("folder_id");
    body.checks.id("folder_id", &folder);
    let kind = HookKind::parse(&body.text("kind"));
    if kind.is_none() {
        body.wrong("kind", "enum", "must be rabbitmq, emqx or mosquitto");
    }
    body.finish()?;
    let Some(kind) = kind else { return Err(Error::invalid("there is no kind in the request").into()) };
    let (hook, url) = call.services.create_hook(&call.caller, &folder, kind).await?;
    let mut shown = shown(&hook);
    shown["url"] = json!(url);
    Ok(shown)
}

/// `GET /iot-devices/v1/hooks?folderId=`.
pub(super) async fn list(call: &Call, mut query: Fields) -> Result<Value> {
    let folder = query.text("folder_id");
    query.checks.id("folder_id", &folder);
    let asked = query.page();
    query.finish()?;
    let found = call.services.hooks(&call.caller, &folder, &asked).await?;
    Ok(page("hooks", found.items.iter().map(shown).collect(), found.next))
}

fn shown(hook: &BrokerHook) -> Value {
    json!({
        "id": hook.id.as_str(),
        "folderId": hook.folder.id,
        "kind": hook.kind.as_str(),
        "createdAt": time(hook.created_at),
    })
}
