//! Where certificates came from that came from no profile: a template of the first family, or a subscriber.

use super::{InventoryRow, certificate_from};
use crate::changes::Statement;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use domain::inventory::Origin;
use domain::{CertificateId, SubscriberId, Time};

/// Keeps where a certificate came from that was just added, and the version that judged it.
pub fn insert_origin(certificate: CertificateId, origin: &Origin, version: u32) -> Statement {
    Statement::new(
        "INSERT INTO certificate_origins (certificate_pk, template_id, subscriber_id, version)
         SELECT pk, $2, $3, CAST($4 AS BIGINT) FROM certificates WHERE id = $1",
        params![certificate, origin.template, origin.subscriber, version],
    )
    .expect_one("the certificate was just added")
}

/// The certificates of a subscriber, newest first, and how many there are.
pub async fn of_subscriber(
    db: &Db,
    subscriber: SubscriberId,
    offset: u32,
    limit: u32,
) -> Result<(Vec<InventoryRow>, i64), StoreError> {
    let sql = select_certificate!("WHERE o.subscriber_id = $1 ORDER BY c.pk DESC LIMIT $2 OFFSET $3");
    let rows = db.rows(sql, params![subscriber, limit, offset]).await?;
    let count = "SELECT COUNT(*) FROM certificate_origins WHERE subscriber_id = $1";
    let total = db.row(count, params![subscriber]).await?.map_or(Ok(0), |row| row.int(0))?;
    Ok((rows.iter().map(certificate_from).collect::<Result<_, _>>()?, total))
}

/// The newest certificate of a subscriber that is valid now and whose key is kept.
pub async fn newest_of_subscriber(
    db: &Db,
    subscriber: SubscriberId,
    now: Time,
) -> Result<Option<InventoryRow>, StoreError> {
    let sql = select_certificate!(
        "WHERE o.subscriber_id = $1 AND c.status = 0 AND c.not_after >= $2 AND k.certificate_pk IS NOT NULL
         ORDER BY c.pk DESC LIMIT 1"
    );
    // A certificate is valid through the whole of its last second.
    let now = Time::from_seconds(now.seconds());
    db.row(sql, params![subscriber, now]).await?.as_ref().map(certificate_from).transpose()
}
