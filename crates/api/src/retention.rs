//! How long what is past is kept, and removing it. For admins of the organisation.

use crate::app::App;
use crate::error::Result;
use crate::render::{wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, boolean, integer, object, optional, present, required};
use domain::caller::Caller;
use domain::retention::{AUDIT_DAYS_MIN, DAYS_MAX, RetentionPolicy};
use serde::Deserialize;
use serde_json::json;

const TAG: &str = "Retention";

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    const POLICY: &str = "/api/v1/retention";
    let shown = || wrapper("retention", policy_schema(required));
    vec![
        Endpoint::get(POLICY, TAG, "Show how long what is past is kept")
            .describe("In days; null keeps for ever, which is the default.")
            .returns(shown())
            .bearer(show),
        Endpoint::patch(POLICY, TAG, "Say how long what is past is kept")
            .describe(
                "In days after the end; null keeps for ever. Certificates that a sync still delivers, those of authorities, and \
                 what a revocation list names stay whatever is said. Access tokens that cannot be used any more are always \
                 removed. The server looks each hour by itself, and then removes a piece each minute until nothing is left.",
            )
            .body(policy_schema(optional))
            .returns(shown())
            .bearer(change),
        Endpoint::post("/api/v1/retention/prune", TAG, "Remove what is past now")
            .describe(
                "One pass, which removes at most some thousands of things; it is called again until `isDone` is true. With \
                 `dryRun` nothing is removed, and all that there is to remove is counted.",
            )
            .body(object([optional("dryRun", boolean().default(json!(false)))]))
            .returns(object([required("removed", removed_schema()), required("isDone", boolean())]))
            .bearer(prune),
    ]
}

fn policy_schema(field: fn(&'static str, Schema) -> crate::schema::Field) -> Schema {
    let days = |min: u32| integer().at_least(i64::from(min)).at_most(i64::from(DAYS_MAX)).nullable();
    object([
        field("expiredCertificateDays", days(0)),
        field("certificateRequestDays", days(0)),
        field("auditDays", days(AUDIT_DAYS_MIN)),
    ])
}

fn removed_schema() -> Schema {
    object(
        ["certificates", "certificateRequests", "accessTokens", "revocations", "auditRecords"]
            .map(|name| required(name, integer())),
    )
}

/// What is said, key by key: absent stays as it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    #[serde(default, deserialize_with = "present")]
    expired_certificate_days: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    certificate_request_days: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    audit_days: Option<Option<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    dry_run: bool,
}

async fn show(app: App, caller: Caller, _: Input) -> Result<Reply> {
    reply(&app.services.retention_policy(&caller).await?)
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let change: Change = input.body()?;
    let before = app.services.retention_policy(&caller).await?;
    let policy = RetentionPolicy {
        expired_certificate_days: change.expired_certificate_days.unwrap_or(before.expired_certificate_days),
        certificate_request_days: change.certificate_request_days.unwrap_or(before.certificate_request_days),
        audit_days: change.audit_days.unwrap_or(before.audit_days),
    };
    app.services.set_retention_policy(&caller, policy).await?;
    reply(&policy)
}

async fn prune(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Asked { dry_run } = input.body()?;
    if dry_run {
        let removed = app.services.prune_preview(&caller).await?;
        return Reply::json(&json!({ "removed": removed, "isDone": removed.is_nothing() }));
    }
    let pass = app.services.prune(&caller).await?;
    Reply::json(&json!({ "removed": pass.removed, "isDone": pass.is_done }))
}

fn reply(policy: &RetentionPolicy) -> Result<Reply> {
    Reply::json(&wrapped("retention", json!(policy)))
}
