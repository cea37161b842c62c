//! Certificate requests. One that was answered at once is the certificate that it made, under the same id; one that waits
//! or waited has a row of its own.

use super::filter::push_ids;
use super::{PROFILES_IN_FILTER_MAX, Period, SortOrder};
use crate::columns::time;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::profile::like;
use crate::value::Value;
use domain::inventory::CertificateRequestRecord;
use domain::{CertificateId, CertificateRequestId, OrganizationId, ProfileId, ProjectId};

/// A request that waits or waited.
pub async fn request(
    db: &Db,
    organization: OrganizationId,
    id: CertificateRequestId,
) -> Result<Option<CertificateRequestRecord>, StoreError> {
    let row = db
        .row(
            "SELECT q.id, q.project_id, q.profile_id, q.status, q.certificate_id, q.error_message, q.created_at,
             q.updated_at FROM certificate_requests q JOIN projects p ON p.id = q.project_id
             WHERE q.id = $2 AND p.organization_id = $1",
            params![organization, id],
        )
        .await?;
    row.map(|row| {
        Ok(CertificateRequestRecord {
            id: CertificateRequestId(row.uuid(0)?),
            project: ProjectId(row.uuid(1)?),
            profile: ProfileId(row.uuid(2)?),
            status: row.text(3)?.into(),
            certificate: row.opt_uuid(4)?.map(CertificateId),
            error_message: row.opt_text(5)?.map(Into::into),
            created_at: time(&row, 6)?,
            updated_at: time(&row, 7)?,
        })
    })
    .transpose()
}

/// What a list of requests is narrowed by; an empty text or list narrows nothing.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Part of the common name or of a SAN.
    pub search: String,
    /// Only this status.
    pub status: String,
    /// Only these profiles, at most [`PROFILES_IN_FILTER_MAX`].
    pub profiles: Vec<ProfileId>,
    /// When it was made.
    pub created_at: Period,
}

/// A request in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestName {
    /// It was answered at once: the certificate.
    Instant(CertificateId),
    /// It waits, or waited.
    Waiting(CertificateRequestId),
}

macro_rules! instant {
    () => {
        "c.space = (SELECT number FROM inventory_spaces WHERE project_id = $1) AND ($2 = '' OR lower(c.common_name) LIKE lower($2) ESCAPE '\\'
         OR lower(c.alt_names) LIKE lower($2) ESCAPE '\\') AND ($3 = '' OR $3 = 'issued')
         AND c.created_at BETWEEN $4 AND $5
         AND ($6 = 0 OR c.profile_id IN ($7, $8, $9, $10, $11, $12, $13, $14, $15, $16))
         AND NOT EXISTS (SELECT 1 FROM certificate_requests w WHERE w.project_id = $1 AND w.certificate_id = c.id)"
    };
}

macro_rules! waiting {
    () => {
        "q.project_id = $1 AND ($2 = '' OR lower(q.request) LIKE lower($2) ESCAPE '\\')
         AND ($3 = '' OR q.status = $3) AND q.created_at BETWEEN $4 AND $5
         AND ($6 = 0 OR q.profile_id IN ($7, $8, $9, $10, $11, $12, $13, $14, $15, $16))"
    };
}

macro_rules! page {
    ($direction:literal) => {
        concat!(
            "SELECT u.id, u.waits FROM (SELECT * FROM (SELECT c.id AS id, c.created_at AS created_at, 0 AS waits
             FROM certificates c WHERE ",
            instant!(),
            " ORDER BY c.created_at ",
            $direction,
            ", c.pk ",
            $direction,
            " LIMIT $17) a UNION ALL SELECT * FROM (SELECT q.id AS id, q.created_at AS created_at, 1 AS waits
             FROM certificate_requests q WHERE ",
            waiting!(),
            " ORDER BY q.created_at ",
            $direction,
            " LIMIT $17) b) u ORDER BY u.created_at ",
            $direction,
            ", u.id ",
            $direction,
            " LIMIT $18 OFFSET $19"
        )
    };
}

/// Which part of a list of requests is wanted.
#[derive(Clone, Copy, Debug)]
pub struct RequestPage {
    /// Which end comes first.
    pub order: SortOrder,
    /// Entries to leave out at the beginning.
    pub offset: u32,
    /// The most entries to give.
    pub limit: u32,
}

/// One page of a project's requests by the time when they were made.
pub async fn requests(
    db: &Db,
    project: ProjectId,
    filter: &RequestFilter,
    page: RequestPage,
) -> Result<Vec<RequestName>, StoreError> {
    let sql = match page.order {
        SortOrder::Descending => page!("DESC"),
        SortOrder::Ascending => page!("ASC"),
    };
    let mut params = filter_params(project, filter);
    // No more of either kind can be on the page or before it.
    params.extend(params![page.offset.saturating_add(page.limit), page.limit, page.offset]);
    let rows = db.rows(sql, params).await?;
    let names = rows.iter().map(|row| {
        Ok(match row.int(1)? {
            0 => RequestName::Instant(CertificateId(row.uuid(0)?)),
            _ => RequestName::Waiting(CertificateRequestId(row.uuid(0)?)),
        })
    });
    names.collect()
}

/// How many of a project's requests match.
pub async fn count_requests(db: &Db, project: ProjectId, filter: &RequestFilter) -> Result<i64, StoreError> {
    let sql = concat!(
        "SELECT (SELECT COUNT(*) FROM certificates c WHERE ",
        instant!(),
        ") + (SELECT COUNT(*) FROM certificate_requests q WHERE ",
        waiting!(),
        ")"
    );
    db.row(sql, filter_params(project, filter)).await?.map_or(Ok(0), |row| row.int(0))
}

fn filter_params(project: ProjectId, filter: &RequestFilter) -> Vec<Value> {
    let search = if filter.search.is_empty() { String::new() } else { like(&filter.search) };
    let mut params =
        params![project, search, filter.status.as_str(), *filter.created_at.0.start(), *filter.created_at.0.end()];
    push_ids(&mut params, filter.profiles.iter().map(|id| Value::from(*id)).collect(), PROFILES_IN_FILTER_MAX);
    params
}
