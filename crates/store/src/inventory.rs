//! What is kept beside the certificates so that the inventory is searched and counted at any size: the group of each, the
//! domains of their names, and how many there are of each group, status and day of their end.
//!
//! Everything goes through `added`, `moved` and `removed`, in the commit of the certificate itself.

use crate::changes::{Changes, Statement, Tally};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::{Row, Value};
use domain::inventory::{CertificateStatus, DerivedColumns, IssuedCertificate, domain_of, searched_name};
use domain::{AuthorityId, ProfileId, ProjectId, Time};
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds of the days that certificates are counted by.
const DAY: i64 = 86_400_000;

/// Whether a certificate is shown in lists. One that came from a profile is what somebody asked for, also when it is that
/// of an authority.
pub(crate) fn is_listed(issued: &IssuedCertificate, derived: &DerivedColumns) -> bool {
    // One that came from a profile or was imported is what somebody asked for, also when it is that of an authority.
    issued.judged_by.is_some() || issued.details.imported.is_some() || !derived.is_authority
}

/// What the columns of a certificate stand on: committed before its row.
pub(crate) fn prepared(issued: &IssuedCertificate, derived: &DerivedColumns) -> Changes {
    if !is_listed(issued, derived) {
        return Changes::new();
    }
    let space = "INSERT INTO inventory_spaces (project_id) VALUES ($1) ON CONFLICT (project_id) DO NOTHING";
    let group =
        "INSERT INTO certificate_groups (project_id, authority_id, profile_id, key_algorithm, signature_algorithm,
                 extended_key_usages, space)
                 VALUES ($1, $2, $3, $4, $5, $6, (SELECT number FROM inventory_spaces WHERE project_id = $1))
                 ON CONFLICT (project_id, authority_id, profile_id, key_algorithm, signature_algorithm,
                 extended_key_usages) DO NOTHING";
    let domain = "INSERT INTO certificate_domains (space, domain)
                  VALUES ((SELECT number FROM inventory_spaces WHERE project_id = $1), $2)
                  ON CONFLICT (space, domain) DO NOTHING";
    let mut changes = Changes::new()
        .statement(Statement::new(space, params![issued.project]).lasting())
        .statement(Statement::new(group, group_key(issued, derived)).lasting());
    let names: Vec<String> = names(derived).collect();
    let domains: BTreeSet<&str> = names.iter().filter_map(|name| domain_of(name)).collect();
    for one in domains {
        changes = changes.statement(Statement::new(domain, params![issued.project, one]).lasting());
    }
    changes
}

/// What follows a certificate that was added, after its row.
pub(crate) fn added(issued: &IssuedCertificate, derived: &DerivedColumns) -> Changes {
    if !is_listed(issued, derived) {
        return Changes::new();
    }
    let sql = "INSERT INTO certificate_names (certificate_pk, name, space, domain_id)
               VALUES ((SELECT pk FROM certificates WHERE id = $1), $2,
               (SELECT number FROM inventory_spaces WHERE project_id = $3),
               (SELECT d.id FROM certificate_domains d JOIN inventory_spaces s ON s.number = d.space
               WHERE s.project_id = $3 AND d.domain = $4))";
    let common_name = searched_name(&derived.common_name);
    let others: BTreeSet<String> = names(derived).filter(|name| *name != common_name).collect();
    let mut changes = Changes::new().tally(tally(issued, derived, issued.status, 1));
    for name in &others {
        changes = changes.statement(Statement::new(sql, params![issued.id, name, issued.project, domain_of(name)]));
    }
    if let Some(name) = &issued.details.friendly_name {
        let sql = "INSERT INTO certificate_friendly_names (certificate_pk, space, name)
                   VALUES ((SELECT pk FROM certificates WHERE id = $1),
                   (SELECT number FROM inventory_spaces WHERE project_id = $2), $3)";
        changes = changes.statement(Statement::new(sql, params![issued.id, issued.project, searched_name(name)]));
    }
    changes
}

/// What follows a certificate whose status was changed.
pub(crate) fn moved(
    issued: &IssuedCertificate,
    derived: &DerivedColumns,
    from: CertificateStatus,
    to: CertificateStatus,
) -> Changes {
    match is_listed(issued, derived) {
        false => Changes::new(),
        true => Changes::new().tally(tally(issued, derived, from, -1)).tally(tally(issued, derived, to, 1)),
    }
}

/// What follows a certificate that was removed with this status.
pub(crate) fn removed(issued: &IssuedCertificate, derived: &DerivedColumns) -> Changes {
    match is_listed(issued, derived) {
        false => Changes::new(),
        true => Changes::new().tally(tally(issued, derived, issued.status, -1)),
    }
}

/// All names of a certificate as they are searched; the common name, which may be empty, first.
fn names(derived: &DerivedColumns) -> impl Iterator<Item = String> {
    let all = std::iter::once(&derived.common_name).chain(&derived.alt_names);
    all.map(|name| searched_name(name)).filter(|name| !name.is_empty())
}

/// The domain of the common name, which stands in the row of the certificate.
pub(crate) fn domain_of_common_name(derived: &DerivedColumns) -> Option<String> {
    domain_of(&searched_name(&derived.common_name)).map(str::to_owned)
}

/// The columns that a group is found by, in their order.
pub(crate) fn group_key(issued: &IssuedCertificate, derived: &DerivedColumns) -> Vec<Value> {
    params![
        issued.project,
        issued.issuer.map_or(Value::Blob(vec![]), |by| by.authority.into()),
        issued.judged_by.map_or(Value::Blob(vec![]), |judged| judged.profile.into()),
        derived.key_algorithm,
        derived.signature_algorithm,
        derived.extended_key_usages.join(", "),
    ]
}

fn tally(issued: &IssuedCertificate, derived: &DerivedColumns, status: CertificateStatus, add: i64) -> Tally {
    let sql = "INSERT INTO certificate_counts (group_id, status, day, node, certificates)
               SELECT id, CAST($7 AS BIGINT), CAST($8 AS BIGINT), CAST($9 AS BIGINT), CAST($10 AS BIGINT)
               FROM certificate_groups WHERE project_id = $1 AND authority_id = $2 AND profile_id = $3
               AND key_algorithm = $4 AND signature_algorithm = $5 AND extended_key_usages = $6
               ON CONFLICT (group_id, status, day, node)
               DO UPDATE SET certificates = certificate_counts.certificates + excluded.certificates";
    let mut params = group_key(issued, derived);
    params.extend(params![status.code(), derived.not_after.millis() / DAY]);
    Tally::new(sql, params, add)
}

/// What many certificates have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub(crate) id: i64,
    /// The authority; none for what signed itself or was issued elsewhere.
    pub authority: Option<AuthorityId>,
    /// The profile.
    pub profile: Option<ProfileId>,
    /// The algorithm of the keys, by its wire name.
    pub key_algorithm: String,
    /// The algorithm of the signatures, by its wire name.
    pub signature_algorithm: String,
    /// The extended key usages, joined.
    pub extended_key_usages: String,
    /// The enrollment of the profile; empty without one.
    pub(crate) enrollment: String,
}

/// The number that stands for a project in the inventory; nothing before its first certificate.
pub(crate) async fn space(db: &Db, project: ProjectId) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT number FROM inventory_spaces WHERE project_id = $1";
    db.row(sql, params![project]).await?.map(|row| row.int(0)).transpose()
}

/// The groups of a project.
pub async fn groups(db: &Db, project: ProjectId) -> Result<Vec<Group>, StoreError> {
    let rows = db
        .rows(
            "SELECT g.id, g.authority_id, g.profile_id, g.key_algorithm, g.signature_algorithm, g.extended_key_usages,
             COALESCE(p.enrollment, '') FROM certificate_groups g LEFT JOIN profiles p ON p.id = g.profile_id
             WHERE g.project_id = $1 ORDER BY g.id",
            params![project],
        )
        .await?;
    let id = |row: &Row, column| {
        Ok::<_, StoreError>(if row.blob(column)?.is_empty() { None } else { row.opt_uuid(column)? })
    };
    let group = |row: &Row| {
        Ok(Group {
            id: row.int(0)?,
            authority: id(row, 1)?.map(AuthorityId),
            profile: id(row, 2)?.map(ProfileId),
            key_algorithm: row.string(3)?,
            signature_algorithm: row.string(4)?,
            extended_key_usages: row.string(5)?,
            enrollment: row.string(6)?,
        })
    };
    rows.iter().map(group).collect()
}

/// How many certificates of a group there are, by what is shown of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Valid now.
    pub active: i64,
    /// Past their end.
    pub expired: i64,
    /// Withdrawn.
    pub revoked: i64,
}

impl Counts {
    /// All of them.
    pub fn total(self) -> i64 {
        self.active + self.expired + self.revoked
    }

    /// These and those.
    pub fn and(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            expired: self.expired + other.expired,
            revoked: self.revoked + other.revoked,
        }
    }
}

/// The day that a time is on, since 1970.
pub(crate) fn day(time: Time) -> i64 {
    time.millis() / DAY
}

/// How many certificates there are of each group of a project, as they are counted by days: those that end today are
/// active until tomorrow.
pub(crate) async fn counted(db: &Db, project: ProjectId, now: Time) -> Result<Vec<(Group, Counts)>, StoreError> {
    let groups = groups(db, project).await?;
    let sql = "SELECT g.id, CAST(SUM(CASE WHEN n.status = 0 AND n.day < $2 THEN n.certificates ELSE 0 END) AS BIGINT),
               CAST(SUM(CASE WHEN n.status = 0 AND n.day >= $2 THEN n.certificates ELSE 0 END) AS BIGINT),
               CAST(SUM(CASE WHEN n.status = 1 THEN n.certificates ELSE 0 END) AS BIGINT)
               FROM certificate_groups g JOIN certificate_counts n ON n.group_id = g.id WHERE g.project_id = $1
               GROUP BY g.id";
    let mut counted: BTreeMap<i64, Counts> = BTreeMap::new();
    for row in db.rows(sql, params![project, day(now)]).await? {
        counted.insert(row.int(0)?, Counts { expired: row.int(1)?, active: row.int(2)?, revoked: row.int(3)? });
    }
    let with_counts = |group: Group| {
        let counts = counted.get(&group.id).copied().unwrap_or_default();
        (group, counts)
    };
    Ok(groups.into_iter().map(with_counts).collect())
}

/// How many certificates there are of each group of a project, at a time: exact, whatever their number.
///
/// Of the day that is under way, those that ended are counted one by one on the index; the other days are added up.
pub async fn counts(db: &Db, project: ProjectId, now: Time) -> Result<Vec<(Group, Counts)>, StoreError> {
    // A certificate is valid through the whole of its last second.
    let now = Time::from_seconds(now.seconds());
    let sql = "SELECT c.group_id, COUNT(*) FROM certificates c
               WHERE c.space = (SELECT number FROM inventory_spaces WHERE project_id = $1)
               AND c.not_after >= $2 AND c.not_after < $3 AND c.status = 0 GROUP BY c.group_id";
    let mut counted = counted(db, project, now).await?;
    for row in db.rows(sql, params![project, day(now) * DAY, now]).await? {
        let (id, ended) = (row.int(0)?, row.int(1)?);
        if let Some((_, counts)) = counted.iter_mut().find(|(group, _)| group.id == id) {
            counts.active -= ended;
            counts.expired += ended;
        }
    }
    Ok(counted)
}

/// How many certificates that are not revoked end on each day from a time on, by group: the number of the day since 1970,
/// and only days on which some end. The first day is counted from the time on.
pub async fn ends(db: &Db, project: ProjectId, from: Time, days: u32) -> Result<Vec<(i64, Group, i64)>, StoreError> {
    let groups: BTreeMap<i64, Group> = groups(db, project).await?.into_iter().map(|group| (group.id, group)).collect();
    let from = Time::from_seconds(from.seconds()).millis();
    let first = from / DAY;
    let sql = "SELECT n.day, n.group_id, CAST(SUM(n.certificates) AS BIGINT) FROM certificate_counts n
               JOIN certificate_groups g ON g.id = n.group_id
               WHERE g.project_id = $1 AND n.status = 0 AND n.day > $2 AND n.day < $3 GROUP BY n.day, n.group_id
               UNION ALL
               SELECT CAST($2 AS BIGINT), c.group_id, COUNT(*) FROM certificates c
               WHERE c.space = (SELECT number FROM inventory_spaces WHERE project_id = $1)
               AND c.not_after >= $4 AND c.not_after < $5 AND c.status = 0 GROUP BY c.group_id";
    let last = first + i64::from(days);
    let rows = db.rows(sql, params![project, first, last, from, (first + 1) * DAY]).await?;
    let mut ends = Vec::with_capacity(rows.len());
    for row in &rows {
        let count = row.int(2)?;
        if let Some(group) = groups.get(&row.int(1)?).filter(|_| count != 0) {
            ends.push((row.int(0)?, group.clone(), count));
        }
    }
    ends.sort_by_key(|(day, group, _)| (*day, group.id));
    Ok(ends)
}

/// A group, status and day whose certificates are not as many as is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// The number of the group.
    pub group: i64,
    /// The day of their end, since 1970.
    pub day: i64,
    /// What is counted.
    pub counted: i64,
    /// How many there are.
    pub there: i64,
}

/// Counts all certificates anew and compares: what differs. What is revoked says the table of revocations.
pub async fn miscounts(db: &Db) -> Result<Vec<Miscount>, StoreError> {
    let sql = "SELECT group_id, day, CAST(SUM(counted) AS BIGINT), CAST(SUM(there) AS BIGINT) FROM
               (SELECT group_id, status, day, certificates AS counted, 0 AS there FROM certificate_counts
               UNION ALL SELECT c.group_id, CASE WHEN r.serial IS NULL THEN 0 ELSE 1 END, c.not_after / 86400000, 0, 1
               FROM certificates c LEFT JOIN revocations r ON r.authority_key_id = c.authority_key_id
               AND r.serial = c.serial AND r.released_at IS NULL WHERE c.group_id IS NOT NULL) u
               GROUP BY group_id, status, day HAVING SUM(counted) <> SUM(there) ORDER BY group_id, day LIMIT 100";
    let rows = db.rows(sql, vec![]).await?;
    let read =
        |row: &Row| Ok(Miscount { group: row.int(0)?, day: row.int(1)?, counted: row.int(2)?, there: row.int(3)? });
    rows.iter().map(read).collect()
}
