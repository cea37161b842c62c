//! Jobs: the background work of the server, for its operators.

use crate::app::App;
use crate::error::Result;
use crate::render::{Page, optional_timestamp, page, timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, date, integer, list, object, one_of, optional, required, text, uuid};
use domain::caller::Caller;
use domain::job::{JobRecord, JobStatus};
use domain::{Error, JobId};
use serde::Deserialize;
use serde_json::{Value, json};

const TAG: &str = "Jobs";
const STATUSES: &[&str] = &[JobStatus::Queued.as_str(), JobStatus::Running.as_str(), JobStatus::Parked.as_str()];

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::get("/api/v1/jobs", TAG, "List jobs")
            .describe(
                "The next one first. A job that was done is removed; one that failed too often is parked, and runs when \
                 somebody says so.",
            )
            .query([optional("status", one_of(STATUSES))])
            .query(page(25, 1000))
            .returns(object([required("jobs", list(job_schema())), required("totalCount", integer())]))
            .bearer(list_all),
        Endpoint::get("/api/v1/jobs/{jobId}", TAG, "Get a job")
            .path([required("jobId", uuid())])
            .returns(wrapper("job", job_schema()))
            .bearer(show),
        Endpoint::post("/api/v1/jobs/{jobId}/retry", TAG, "Run a job now")
            .path([required("jobId", uuid())])
            .returns(wrapper("job", job_schema()))
            .bearer(retry),
    ]
}

fn job_schema() -> Schema {
    object([
        required("id", uuid()),
        required("kind", text()),
        required("about", any()),
        required("status", one_of(STATUSES)),
        required("attempts", integer()),
        required("runAt", date().nullable()),
        required("lastError", text().nullable()),
        required("createdAt", date()),
    ])
}

fn shown(record: &JobRecord) -> Value {
    let mut about = serde_json::to_value(&record.job).unwrap_or_default();
    if let Some(about) = about.as_object_mut() {
        about.remove("kind");
    }
    json!({
        "id": record.id,
        "kind": record.job.kind().as_str(),
        "about": about,
        "status": record.status.as_str(),
        "attempts": record.attempts,
        "runAt": optional_timestamp(record.run_at),
        "lastError": record.last_error,
        "createdAt": timestamp(record.created_at),
    })
}

#[derive(Deserialize)]
struct Asked {
    status: Option<String>,
    #[serde(flatten)]
    page: Page,
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Asked { status, page } = input.query()?;
    let status = status.as_deref().and_then(JobStatus::parse);
    let (jobs, total) = app.services.jobs(&caller, status, page.offset, page.limit).await?;
    Reply::json(&json!({ "jobs": jobs.iter().map(shown).collect::<Vec<_>>(), "totalCount": total }))
}

async fn show(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&wrapped("job", shown(&app.services.job(&caller, job_id(&input)?).await?)))
}

async fn retry(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&wrapped("job", shown(&app.services.retry_job(&caller, job_id(&input)?).await?)))
}

fn job_id(input: &Input) -> Result<JobId> {
    let text = input.parameter("jobId");
    let missing = || Error::not_found(format!("there is no job {text}"));
    Ok(JobId::parse(text).ok_or_else(missing)?)
}
