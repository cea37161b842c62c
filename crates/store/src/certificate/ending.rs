//! Certificates in the order of their ends, page by page: for alerts, which look at what ends soon. Those of lists are found by
//! the order of ends that lists have; those of authorities, of which there are few, by an order of their own.

use super::{InventoryRow, certificate_from};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::{AlertId, ProjectId, Time};

/// The place behind a certificate in the order of ends.
#[derive(Clone, Copy, Debug)]
pub struct EndingAfter {
    /// Its end.
    pub not_after: Time,
    /// Its place in the order of issue.
    pub pk: i64,
}

impl EndingAfter {
    /// Behind everything that ends until then.
    pub const fn time(not_after: Time) -> Self {
        Self { not_after, pk: i64::MAX }
    }
}

/// Whether certificates of authorities are among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// They are.
    Included,
    /// They are not.
    LeftOut,
}

macro_rules! ending {
    ($listed:literal, $conditions:literal) => {
        select_certificate!(
            "WHERE c.project_id = $1 AND ",
            $listed,
            " AND c.status = 0 AND c.not_after >= $2 AND c.not_after <= $4 AND (c.not_after > $2 OR c.pk > $3) ",
            $conditions,
            " ORDER BY c.not_after, c.pk LIMIT $5"
        )
    };
}

/// Active certificates of a project that end after a place and until a moment.
pub async fn ending(
    db: &Db,
    project: ProjectId,
    authorities: Authorities,
    after: EndingAfter,
    until: Time,
    limit: u32,
) -> Result<Vec<InventoryRow>, StoreError> {
    let sql = match authorities {
        Authorities::LeftOut => {
            ending!("c.space = (SELECT s.number FROM inventory_spaces s WHERE s.project_id = $1)", "")
        }
        Authorities::Included => ending!(
            "(c.is_listed = 0 OR c.space = (SELECT s.number FROM inventory_spaces s WHERE s.project_id = $1))",
            ""
        ),
    };
    let params = params![project, after.not_after, after.pk, until, limit];
    db.rows(sql, params).await?.iter().map(certificate_from).collect()
}

macro_rules! untold {
    ($listed:literal) => {
        ending!(
            $listed,
            "AND n.successor_id IS NULL AND NOT EXISTS (SELECT 1 FROM alert_notices t
             WHERE t.alert_id = $6 AND t.subject = c.id AND t.told_at > $7)"
        )
    };
}

/// Those of them that have no successor and that an alert has not told of after `again`.
pub async fn ending_untold(
    db: &Db,
    project: ProjectId,
    authorities: Authorities,
    after: EndingAfter,
    until: Time,
    told: (AlertId, Time),
    limit: u32,
) -> Result<Vec<InventoryRow>, StoreError> {
    let (alert, again) = told;
    let sql = match authorities {
        Authorities::LeftOut => untold!("c.space = (SELECT s.number FROM inventory_spaces s WHERE s.project_id = $1)"),
        Authorities::Included => {
            untold!("(c.is_listed = 0 OR c.space = (SELECT s.number FROM inventory_spaces s WHERE s.project_id = $1))")
        }
    };
    let params = params![project, after.not_after, after.pk, until, limit, alert, again];
    db.rows(sql, params).await?.iter().map(certificate_from).collect()
}
