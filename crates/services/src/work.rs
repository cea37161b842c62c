//! Background work as its operators see it: what waits, what runs, what was given up.

use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::job::{Job, JobRecord, JobStatus};
use domain::{Error, JobId, Result, Time};
use serde_json::json;
use store::{Changes, StoreError};

use crate::audit::{self, Object};

impl Context {
    /// Plans a job.
    #[compiled_here]
    pub async fn enqueue(&self, job: &Job, run_at: Time) -> Result<()> {
        let id = self.new_id();
        self.commit(Changes::new().statement(store::job::enqueue(id, job, run_at, self.now()))).await
    }

    /// Jobs, the next one first, and how many there are.
    #[compiled_here]
    pub async fn jobs(
        &self,
        caller: &Caller,
        status: Option<JobStatus>,
        offset: u32,
        limit: u32,
    ) -> Result<(Vec<JobRecord>, i64)> {
        self.must_operate(caller, "see its jobs").await?;
        store::job::list(&self.db, status, self.now(), offset, limit).await.map_err(failed)
    }

    /// One job.
    #[compiled_here]
    pub async fn job(&self, caller: &Caller, id: JobId) -> Result<JobRecord> {
        self.must_operate(caller, "see its jobs").await?;
        self.find_job(id).await
    }

    /// Lets a job run now, also one that was given up.
    #[compiled_here]
    pub async fn retry_job(&self, caller: &Caller, id: JobId) -> Result<JobRecord> {
        self.must_operate(caller, "run its jobs again").await?;
        let record = self.find_job(id).await?;
        let now = self.now();
        let detail = json!({ "kind": record.job.kind().as_str(), "statusBefore": record.status.as_str() });
        let changes = Changes::new().statement(store::job::retry(&record, now)).audit(audit::record(
            caller,
            None,
            "job-retried",
            Object::new("job", record.id),
            &detail,
            now,
        ));
        match self.db.commit(changes).await {
            Ok(()) => self.find_job(id).await,
            Err(StoreError::Stale(_)) => Err(Error::wrong_state("the job is running")),
            Err(error) => Err(failed(error)),
        }
    }

    async fn find_job(&self, id: JobId) -> Result<JobRecord> {
        let job = store::job::by_id(&self.db, id, self.now()).await.map_err(failed)?;
        job.ok_or_else(|| Error::not_found(format!("there is no job {id}: one that was done is removed")))
    }

    /// Jobs are the server's own, of all organisations: the admins of the first one operate it.
    async fn must_operate(&self, caller: &Caller, what: &str) -> Result<()> {
        let first = store::project::first_organization(&self.db).await.map_err(failed)?;
        if first.is_some_and(|first| first.id == caller.organization) {
            return caller.must_administer_organization(what);
        }
        Err(Error::permission_denied(format!("only an operator of the server may {what}")))
    }
}
