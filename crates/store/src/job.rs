//! The job table: what is to be done, by whom, until when.

use crate::changes::{Changes, Statement};
use crate::columns::{number, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::{Row, Value};
use domain::job::{Job, JobKind, JobRecord, JobStatus, Lane};
use domain::{JobId, Time};

macro_rules! insert_job {
    ($on_conflict:literal) => {
        concat!(
            "INSERT INTO jobs (id, kind, dedupe, payload, status, run_at, attempts, lease_owner, lease_until, created_at,
             updated_at) VALUES ($1, $2, $3, $4, 'queued', $5, 0, NULL, 0, $6, $6) ON CONFLICT (dedupe) ",
            $on_conflict
        )
    };
}

/// Adds a job; one with the same dedupe key that is there already stays as it is, unless it would run later. One that is being
/// worked on is done once more after that, never beside it.
pub fn enqueue(id: JobId, job: &Job, run_at: Time, now: Time) -> Statement {
    Statement::new(
        insert_job!(
            "DO UPDATE SET status = 'queued', attempts = 0, planned = jobs.planned + 1,
         run_at = CASE WHEN jobs.status = 'queued' AND jobs.lease_until <= excluded.updated_at AND jobs.run_at < excluded.run_at
                  THEN jobs.run_at ELSE excluded.run_at END,
         updated_at = excluded.updated_at"
        ),
        params![id, job.kind().as_str(), job.dedupe(), crate::columns::document(job), run_at, now,],
    )
}

/// Adds a job unless one with the same dedupe key is there: it waits, fails and parks as it would have.
pub fn enqueue_if_absent(id: JobId, job: &Job, run_at: Time, now: Time) -> Statement {
    Statement::new(
        insert_job!("DO NOTHING"),
        params![id, job.kind().as_str(), job.dedupe(), crate::columns::document(job), run_at, now],
    )
}

/// The longest lease that is believed. One that ends later was given by a clock that was wrong.
const LEASE_SECONDS_MAX: i64 = 2 * 60 * 60;

macro_rules! select_job {
    ($($rest:expr),+) => {
        concat!(
            "SELECT id, payload, attempts, run_at, lease_until, status, last_error, created_at, planned FROM jobs ",
            $($rest),+
        )
    };
}

/// The next jobs of a lane that are due, the earliest first. A lease that has run out is due again.
pub async fn due(db: &Db, lane: Lane, now: Time, limit: u32) -> Result<Vec<JobRecord>, StoreError> {
    let rows = db
        .rows(
            select_job!(
                "WHERE status = 'queued' AND run_at <= $1 AND (lease_until <= $1 OR lease_until > $2)
             AND kind IN ($4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             ORDER BY run_at LIMIT $3"
            ),
            due_params(lane, now, limit),
        )
        .await?;
    rows.iter().map(|row| record_from(row, now)).collect()
}

/// With a place for each kind there is; one that is not of the lane leaves its place to what no kind is named.
fn due_params(lane: Lane, now: Time, limit: u32) -> Vec<Value> {
    let mut params = params![now, now.plus_seconds(LEASE_SECONDS_MAX), limit];
    params.extend(JobKind::ALL.map(|kind| Value::from(if kind.lane() == lane { kind.as_str() } else { "" })));
    params
}

macro_rules! of_status {
    () => {
        "WHERE ($1 = '' OR ($1 = 'parked' AND status = 'parked')
         OR ($1 = 'running' AND status = 'queued' AND lease_until > $2)
         OR ($1 = 'queued' AND status = 'queued' AND lease_until <= $2))"
    };
}

/// Jobs, the next one first, and how many there are.
pub async fn list(
    db: &Db,
    status: Option<JobStatus>,
    now: Time,
    offset: u32,
    limit: u32,
) -> Result<(Vec<JobRecord>, i64), StoreError> {
    let status = status.map_or("", JobStatus::as_str);
    let rows = db
        .rows(select_job!(of_status!(), " ORDER BY run_at, id LIMIT $3 OFFSET $4"), params![status, now, limit, offset])
        .await?;
    let total = db.row(concat!("SELECT COUNT(*) FROM jobs ", of_status!()), params![status, now]).await?;
    let records: Result<_, _> = rows.iter().map(|row| record_from(row, now)).collect();
    Ok((records?, total.map_or(Ok(0), |row| row.int(0))?))
}

/// Jobs that failed so often or more and are to be tried again, the next one first.
pub async fn failing(db: &Db, attempts: u32, limit: u32) -> Result<Vec<JobRecord>, StoreError> {
    let sql = select_job!(
        "WHERE status = 'queued' AND lease_until = 0 AND attempts >= $1 AND last_error IS NOT NULL
         ORDER BY run_at, id LIMIT $2"
    );
    let rows = db.rows(sql, params![attempts, limit]).await?;
    rows.iter().map(|row| record_from(row, Time::from_millis(0))).collect()
}

/// A job by its id.
pub async fn by_id(db: &Db, id: JobId, now: Time) -> Result<Option<JobRecord>, StoreError> {
    let row = db.row(select_job!("WHERE id = $1"), params![id]).await?;
    row.map(|row| record_from(&row, now)).transpose()
}

/// Lets a job that nobody works on run now, as if it had not failed yet.
pub fn retry(record: &JobRecord, now: Time) -> Statement {
    Statement::new(
        "UPDATE jobs SET status = 'queued', attempts = 0, run_at = $2, updated_at = $2, lease_until = 0
         WHERE id = $1 AND (status = 'parked' OR lease_until <= $2)",
        params![record.id, now],
    )
    .expect_one("nobody works on the job")
}

/// Whether somebody works on a job.
pub async fn is_running(db: &Db, job: &Job, now: Time) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM jobs WHERE dedupe = $1 AND status = 'queued' AND lease_until > $2";
    Ok(db.row(sql, params![job.dedupe(), now]).await?.is_some())
}

/// Lets a job that was given up before a moment be tried again.
pub fn revive(job: &Job, given_up_before: Time, now: Time) -> Statement {
    Statement::new(
        "UPDATE jobs SET status = 'queued', attempts = 0, run_at = $3, updated_at = $3, lease_until = 0
         WHERE dedupe = $1 AND status = 'parked' AND updated_at < $2",
        params![job.dedupe(), given_up_before, now],
    )
}

/// Takes a job for a while; whoever comes second finds it taken.
pub fn lease(record: &JobRecord, owner: &str, until: Time) -> Statement {
    Statement::new(
        "UPDATE jobs SET lease_owner = $2, lease_until = $3, attempts = attempts + 1
         WHERE id = $1 AND status = 'queued' AND lease_until = $4",
        params![record.id, owner, until, record.lease_until],
    )
    .expect_one("the job is free")
}

/// Gives back what a node held when it ended without a word: nobody else works under its name.
pub fn give_back(owner: &str) -> Statement {
    let sql = "UPDATE jobs SET lease_until = 0, lease_owner = NULL WHERE lease_owner = $1";
    Statement::new(sql, params![owner])
}

/// Ends a job that was done by its holder: it is removed, unless it was planned anew while it ran; then it is free.
pub fn done(record: &JobRecord, owner: &str) -> Changes {
    let remove = "DELETE FROM jobs WHERE id = $1 AND lease_owner = $2 AND planned = $3";
    let free = "UPDATE jobs SET lease_until = 0, lease_owner = NULL WHERE id = $1 AND lease_owner = $2";
    Changes::new()
        .statement(Statement::new(remove, params![record.id, owner, record.planned]))
        .statement(Statement::new(free, params![record.id, owner]))
}

/// Holds a job for longer, for who works on it.
pub fn prolong(id: JobId, owner: &str, until: Time) -> Statement {
    let sql = "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND lease_owner = $2";
    Statement::new(sql, params![id, owner, until])
}

/// Puts a job back for another try, or parks it. One that was planned anew while it ran is tried as it was planned.
pub fn failed(record: &JobRecord, owner: &str, retry_at: Option<Time>, error: &str, now: Time) -> Statement {
    Statement::new(
        "UPDATE jobs SET
         status = CASE WHEN planned = $6 AND $3 = CAST(0 AS BIGINT) THEN 'parked' ELSE 'queued' END,
         run_at = CASE WHEN planned = $6 THEN $3 ELSE run_at END,
         lease_until = 0, lease_owner = NULL, last_error = $4, updated_at = $5 WHERE id = $1 AND lease_owner = $2",
        params![record.id, owner, retry_at.unwrap_or(Time::from_millis(0)), error, now, record.planned],
    )
}

/// How many jobs are in each status.
pub async fn counts(db: &Db, now: Time) -> Result<Vec<(String, i64)>, StoreError> {
    let sql =
        "SELECT CASE WHEN status = 'queued' AND lease_until > $1 THEN 'running' ELSE status END AS shown, COUNT(*)
               FROM jobs GROUP BY shown ORDER BY shown";
    let rows = db.rows(sql, params![now]).await?;
    rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?))).collect()
}

fn record_from(row: &Row, now: Time) -> Result<JobRecord, StoreError> {
    let lease_until = time(row, 4)?;
    let status = match row.text(5)? {
        "parked" => JobStatus::Parked,
        _ if lease_until > now => JobStatus::Running,
        _ => JobStatus::Queued,
    };
    Ok(JobRecord {
        id: JobId(row.uuid(0)?),
        job: parse_document(row, 1)?,
        attempts: number(row, 2)?,
        run_at: if status == JobStatus::Parked { None } else { Some(time(row, 3)?) },
        lease_until,
        status,
        last_error: row.opt_text(6)?.map(Into::into),
        created_at: time(row, 7)?,
        planned: row.int(8)?,
    })
}
