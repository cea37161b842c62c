//! The inventory in numbers: how many certificates there are, and when they end. These are ours.

use crate::app::App;
use crate::error::Result;
use crate::render::timestamp;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Field, Schema, date, integer, list, number, object, one_of, optional, required, text, uuid};
use domain::caller::Caller;
use domain::{AuthorityId, ProfileId, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::inventory::{Counts, EndsAsked, Named};

const TAG: &str = "Certificates";

const DAYS_MAX: i64 = 3660;
const STEPS: &[&str] = &["day", "week"];

pub(super) fn routes() -> Vec<Route<App>> {
    const COUNT: &str = "Count certificates";
    const COUNT_IN: &str = "Count the certificates of a project";
    const ENDS: &str = "Get how many certificates expire when";
    const ENDS_IN: &str = "Get how many certificates of a project expire when";
    let project = || [required("projectId", uuid())];
    let named = || [optional("projectId", uuid().describe("The default project when absent"))];
    vec![
        Endpoint::get("/api/v1/projects/{projectId}/certificates/counts", TAG, COUNT_IN)
            .describe("By status, CA and profile; exact, whatever their number.")
            .path(project())
            .returns(counts_schema())
            .bearer(counts_of_project),
        Endpoint::get("/api/v1/cert-manager/certificates/counts", TAG, COUNT)
            .describe("By status, CA and profile; exact, whatever their number.")
            .query(named())
            .returns(counts_schema())
            .bearer(counts_named),
        Endpoint::get("/api/v1/projects/{projectId}/certificates/expiry-histogram", TAG, ENDS_IN)
            .describe("Of certificates that are not revoked, from now on; days are those of UTC.")
            .path(project())
            .query(ends_fields())
            .returns(ends_schema())
            .bearer(ends_of_project),
        Endpoint::get("/api/v1/cert-manager/certificates/expiry-histogram", TAG, ENDS)
            .describe("Of certificates that are not revoked, from now on; days are those of UTC.")
            .query(named())
            .query(ends_fields())
            .returns(ends_schema())
            .bearer(ends_named),
    ]
}

fn counts_schema() -> Schema {
    let row =
        |id, name| object([required(id, uuid().nullable()), required(name, text().nullable())]).with(count_fields());
    object(count_fields()).with([
        required("byCa", list(row("caId", "caName"))),
        required("byProfile", list(row("profileId", "profileName"))),
    ])
}

fn count_fields() -> [Field; 4] {
    ["active", "expired", "revoked", "total"].map(|name| required(name, number()))
}

fn ends_fields() -> [Field; 4] {
    [
        optional("caId", uuid()),
        optional("profileId", uuid()),
        optional("days", integer().at_least(1).at_most(DAYS_MAX).default(json!(90))),
        optional("step", one_of(STEPS)),
    ]
}

fn ends_schema() -> Schema {
    let stretch = object([required("from", date()), required("to", date()), required("certificates", number())]);
    object([required("step", one_of(STEPS)), required("total", number()), required("buckets", list(stretch))])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InProject {
    project_id: ProjectId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfNamed {
    project_id: Option<ProjectId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    project_id: Option<ProjectId>,
    ca_id: Option<AuthorityId>,
    profile_id: Option<ProfileId>,
    days: u32,
    step: Option<String>,
}

async fn counts_of_project(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.path()?;
    let project = app.services.certificate_project(&caller, project_id).await?.id;
    counts(&app, &caller, project).await
}

async fn counts_named(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfNamed { project_id } = input.query()?;
    let project = app.services.project_for(&caller, project_id).await?;
    counts(&app, &caller, project).await
}

async fn counts(app: &App, caller: &Caller, project: ProjectId) -> Result<Reply> {
    let counted = app.services.inventory_counts(caller, project).await?;
    let by_authority = counted.by_authority.iter().map(|(authority, counts)| {
        let (id, name) = id_and_name(authority.as_ref());
        with_counts(json!({ "caId": id, "caName": name }), *counts)
    });
    let by_profile = counted.by_profile.iter().map(|(profile, counts)| {
        let (id, name) = id_and_name(profile.as_ref());
        with_counts(json!({ "profileId": id, "profileName": name }), *counts)
    });
    let shown = json!({ "byCa": by_authority.collect::<Vec<_>>(), "byProfile": by_profile.collect::<Vec<_>>() });
    Reply::json(&with_counts(shown, counted.all))
}

fn id_and_name<T: serde::Serialize>(named: Option<&Named<T>>) -> (Value, Value) {
    named.map_or((Value::Null, Value::Null), |named| (json!(named.id), json!(named.name)))
}

fn with_counts(mut shown: Value, counts: Counts) -> Value {
    shown["active"] = json!(counts.active);
    shown["expired"] = json!(counts.expired);
    shown["revoked"] = json!(counts.revoked);
    shown["total"] = json!(counts.total());
    shown
}

async fn ends_of_project(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.path()?;
    let project = app.services.certificate_project(&caller, project_id).await?.id;
    let asked: Asked = input.query()?;
    ends(&app, &caller, project, &asked).await
}

async fn ends_named(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let asked: Asked = input.query()?;
    let project = app.services.project_for(&caller, asked.project_id).await?;
    ends(&app, &caller, project, &asked).await
}

async fn ends(app: &App, caller: &Caller, project: ProjectId, asked: &Asked) -> Result<Reply> {
    let (step, days_of_step) = match asked.step.as_deref() {
        Some("week") => ("week", 7),
        Some(_) | None => ("day", 1),
    };
    let wanted = EndsAsked { authority: asked.ca_id, profile: asked.profile_id, days: asked.days, step: days_of_step };
    let ends = app.services.inventory_ends(caller, project, wanted).await?;
    let total: i64 = ends.iter().map(|stretch| stretch.certificates).sum();
    let stretch = |one: &services::inventory::Ends| json!({ "from": timestamp(one.from), "to": timestamp(one.to), "certificates": one.certificates });
    let buckets: Vec<Value> = ends.iter().map(stretch).collect();
    Reply::json(&json!({ "step": step, "total": total, "buckets": buckets }))
}
