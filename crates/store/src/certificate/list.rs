//! Lists of the inventory: a page of a project's or a profile's certificates, narrowed and sorted, and how many match.
//!
//! The page is found on the rows without their DER, and only those on it are read whole. What is not narrowed is counted
//! and skipped on the index alone.

use super::{InventoryRow, certificate_from};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::profile::like;
use crate::value::Value;
use domain::identity::MetadataEntry;
use domain::inventory::ShownStatus;
use domain::profile::Enrollment;
use domain::{AuthorityId, ProfileId, ProjectId, Time};
use std::ops::RangeInclusive;
use x509::{KeyAlgorithm, SignatureAlgorithm};

/// How many profiles one list can be narrowed to.
pub const PROFILES_IN_FILTER_MAX: usize = 10;
/// How many authorities one list can be narrowed to.
pub const AUTHORITIES_IN_FILTER_MAX: usize = 10;
/// How many pairs of metadata one list can be narrowed to.
pub const METADATA_IN_FILTER_MAX: usize = 4;

/// What a list of certificates is narrowed by; an empty text or list narrows nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificateFilter {
    /// Part of the common name or of a SAN, or the beginning of the serial number.
    pub search: String,
    /// Part of the common name.
    pub common_name: String,
    /// Part of the name for people, which is the common name.
    pub friendly_name: String,
    /// Only this status.
    pub status: Option<ShownStatus>,
    /// Only these profiles, at most [`PROFILES_IN_FILTER_MAX`].
    pub profiles: Vec<ProfileId>,
    /// Only these authorities, at most [`AUTHORITIES_IN_FILTER_MAX`].
    pub authorities: Vec<AuthorityId>,
    /// Only from profiles of these enrollments.
    pub enrollments: Vec<Enrollment>,
    /// Only keys of these algorithms.
    pub key_algorithms: Option<Vec<KeyAlgorithm>>,
    /// Only this signature.
    pub signature_algorithm: Option<SignatureAlgorithm>,
    /// Only with this extended key usage, by its snake name.
    pub extended_key_usage: String,
    /// Only with all of these pairs, at most [`METADATA_IN_FILTER_MAX`].
    pub metadata: Vec<MetadataEntry>,
    /// When it was issued.
    pub created_at: Period,
    /// When it begins.
    pub not_before: Period,
    /// When it ends.
    pub not_after: Period,
}

/// A stretch of time with both ends in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Period(pub RangeInclusive<Time>);

impl Period {
    /// From one time to another; an absent one is without end.
    pub fn new(from: Option<Time>, to: Option<Time>) -> Self {
        Self(from.unwrap_or(Time::from_millis(i64::MIN))..=to.unwrap_or(Time::from_millis(i64::MAX)))
    }
}

impl Default for Period {
    fn default() -> Self {
        Self::new(None, None)
    }
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// The order of issue.
    #[default]
    CreatedAt,
    /// The beginning of the lifetime.
    NotBefore,
    /// The end of the lifetime.
    NotAfter,
    /// The common name.
    CommonName,
}

/// Which end of a list comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// The newest, the latest, the last of the alphabet.
    #[default]
    Descending,
    /// The oldest, the earliest, the first of the alphabet.
    Ascending,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// What it is sorted by.
    pub by: SortBy,
    /// Which end comes first.
    pub order: SortOrder,
    /// Entries to leave out at the beginning.
    pub offset: u32,
    /// The most entries to give.
    pub limit: u32,
}

/// One page of a project's certificates.
pub async fn list(
    db: &Db,
    project: ProjectId,
    filter: &CertificateFilter,
    now: Time,
    page: Page,
) -> Result<Vec<InventoryRow>, StoreError> {
    let scope = Scope::of(filter);
    let mut params = scope.params(project, filter, now);
    params.extend(params![page.limit, page.offset]);
    let rows = db.rows(scope.page(page.by, page.order), params).await?;
    rows.iter().map(certificate_from).collect()
}

/// How many of a project's certificates match.
pub async fn count_listed(
    db: &Db,
    project: ProjectId,
    filter: &CertificateFilter,
    now: Time,
) -> Result<i64, StoreError> {
    let scope = Scope::of(filter);
    db.row(scope.count(), scope.params(project, filter, now)).await?.map_or(Ok(0), |row| row.int(0))
}

/// Where the rows of a list are looked for.
#[derive(Clone, Copy)]
enum Scope {
    /// Everything of the project.
    Project,
    /// The project, narrowed.
    Filtered,
    /// One profile, narrowed.
    Profile,
}

macro_rules! filter {
    ($scope:literal) => {
        concat!(
            $scope,
            " AND c.is_listed = 1 AND ($2 = '' OR lower(c.common_name) LIKE lower($2) ESCAPE '\\'
             OR lower(c.alt_names) LIKE lower($2) ESCAPE '\\' OR c.serial BETWEEN $3 AND $4)
             AND ($5 = '' OR lower(c.common_name) LIKE lower($5) ESCAPE '\\')
             AND ($6 = '' OR lower(c.common_name) LIKE lower($6) ESCAPE '\\')
             AND ($7 = '' OR ($7 = 'revoked' AND c.status = 1)
             OR ($7 = 'expired' AND c.status = 0 AND c.not_after < $8)
             OR ($7 = 'active' AND c.status = 0 AND c.not_after >= $8))
             AND c.created_at BETWEEN $9 AND $10 AND c.not_before BETWEEN $11 AND $12
             AND c.not_after BETWEEN $13 AND $14
             AND ($15 = '' OR $15 LIKE '%,' || c.key_algorithm || ',%')
             AND ($16 = '' OR c.signature_algorithm = $16)
             AND ($17 = '' OR ', ' || c.extended_key_usages || ',' LIKE $17 ESCAPE '\\')
             AND ($18 = '' OR c.details LIKE $18 ESCAPE '\\') AND ($19 = '' OR c.details LIKE $19 ESCAPE '\\')
             AND ($20 = '' OR c.details LIKE $20 ESCAPE '\\') AND ($21 = '' OR c.details LIKE $21 ESCAPE '\\')
             AND ($22 = '' OR EXISTS (SELECT 1 FROM profiles f
             WHERE f.id = c.profile_id AND $22 LIKE '%,' || f.enrollment || ',%'))
             AND ($23 = 0 OR c.profile_id IN ($24, $25, $26, $27, $28, $29, $30, $31, $32, $33))
             AND ($34 = 0 OR c.authority_id IN ($35, $36, $37, $38, $39, $40, $41, $42, $43, $44))"
        )
    };
}

macro_rules! page {
    ($conditions:expr, $bounds:literal, $order:literal) => {
        select_certificate!(
            "WHERE c.pk IN (SELECT c.pk FROM certificates c WHERE ",
            $conditions,
            " ORDER BY ",
            $order,
            " ",
            $bounds,
            ") ORDER BY ",
            $order
        )
    };
}

macro_rules! pages {
    ($by:expr, $order:expr, $conditions:expr, $bounds:literal) => {
        match ($by, $order) {
            (SortBy::CreatedAt, SortOrder::Descending) => page!($conditions, $bounds, "c.pk DESC"),
            (SortBy::CreatedAt, SortOrder::Ascending) => page!($conditions, $bounds, "c.pk"),
            (SortBy::NotBefore, SortOrder::Descending) => page!($conditions, $bounds, "c.not_before DESC, c.pk DESC"),
            (SortBy::NotBefore, SortOrder::Ascending) => page!($conditions, $bounds, "c.not_before, c.pk"),
            (SortBy::NotAfter, SortOrder::Descending) => page!($conditions, $bounds, "c.not_after DESC, c.pk DESC"),
            (SortBy::NotAfter, SortOrder::Ascending) => page!($conditions, $bounds, "c.not_after, c.pk"),
            (SortBy::CommonName, SortOrder::Descending) => page!($conditions, $bounds, "c.common_name DESC, c.pk DESC"),
            (SortBy::CommonName, SortOrder::Ascending) => page!($conditions, $bounds, "c.common_name, c.pk"),
        }
    };
}

impl Scope {
    fn of(filter: &CertificateFilter) -> Self {
        match filter.profiles.len() {
            _ if *filter == CertificateFilter::default() => Self::Project,
            1 => Self::Profile,
            _ => Self::Filtered,
        }
    }

    fn params(self, project: ProjectId, filter: &CertificateFilter, now: Time) -> Vec<Value> {
        match self {
            Self::Project => params![project],
            Self::Filtered | Self::Profile => filter_params(project, filter, now),
        }
    }

    fn count(self) -> &'static str {
        match self {
            Self::Project => "SELECT COUNT(*) FROM certificates WHERE project_id = $1 AND is_listed = 1",
            Self::Filtered => {
                concat!("SELECT COUNT(*) FROM certificates c WHERE ", filter!("c.project_id = $1"))
            }
            Self::Profile => {
                concat!(
                    "SELECT COUNT(*) FROM certificates c WHERE ",
                    filter!("c.profile_id = $24 AND c.project_id = $1")
                )
            }
        }
    }

    fn page(self, by: SortBy, order: SortOrder) -> &'static str {
        match self {
            Self::Project => pages!(by, order, "c.project_id = $1 AND c.is_listed = 1", "LIMIT $2 OFFSET $3"),
            Self::Filtered => pages!(by, order, filter!("c.project_id = $1"), "LIMIT $45 OFFSET $46"),
            Self::Profile => {
                pages!(by, order, filter!("c.profile_id = $24 AND c.project_id = $1"), "LIMIT $45 OFFSET $46")
            }
        }
    }
}

fn filter_params(project: ProjectId, filter: &CertificateFilter, now: Time) -> Vec<Value> {
    let part = |text: &str| if text.is_empty() { String::new() } else { like(text) };
    let (serial_from, serial_to) = serials_from(&filter.search);
    let key_algorithms = filter.key_algorithms.as_ref().map(|listed| listed.iter().map(|algorithm| algorithm.as_str()));
    let enrollments: Vec<&str> = filter.enrollments.iter().map(|enrollment| enrollment.as_str()).collect();
    let usage = &filter.extended_key_usage;
    let mut params = params![
        project,
        part(&filter.search),
        serial_from,
        serial_to,
        part(&filter.common_name),
        part(&filter.friendly_name),
        filter.status.map_or("", ShownStatus::as_str),
        // A certificate is valid through the whole of its last second.
        Time::from_seconds(now.seconds()),
        *filter.created_at.0.start(),
        *filter.created_at.0.end(),
        *filter.not_before.0.start(),
        *filter.not_before.0.end(),
        *filter.not_after.0.start(),
        *filter.not_after.0.end(),
        key_algorithms.map_or(String::new(), |names| between_commas(&names.collect::<Vec<_>>())),
        filter.signature_algorithm.map_or("", |algorithm| algorithm.as_str()),
        if usage.is_empty() { String::new() } else { like(&format!(", {usage},")) },
    ];
    for position in 0..METADATA_IN_FILTER_MAX {
        // An entry stands in the document as it is written here.
        params.push(Value::from(filter.metadata.get(position).map(|entry| like(&as_json(entry))).unwrap_or_default()));
    }
    params.push(Value::from(if enrollments.is_empty() { String::new() } else { between_commas(&enrollments) }));
    push_ids(&mut params, filter.profiles.iter().map(|id| Value::from(*id)).collect(), PROFILES_IN_FILTER_MAX);
    push_ids(&mut params, filter.authorities.iter().map(|id| Value::from(*id)).collect(), AUTHORITIES_IN_FILTER_MAX);
    params
}

fn as_json(entry: &MetadataEntry) -> String {
    serde_json::to_string(entry).expect("two texts have a JSON form")
}

fn between_commas(names: &[&str]) -> String {
    format!(",{},", names.join(","))
}

/// A number of ids and the ids, in as many places as a statement has for them.
pub(super) fn push_ids(params: &mut Vec<Value>, ids: Vec<Value>, most: usize) {
    params.push(Value::from(i64::try_from(ids.len()).unwrap_or(i64::MAX)));
    let absent = std::iter::repeat_with(|| Value::from(Vec::new()));
    params.extend(ids.into_iter().chain(absent).take(most));
}

/// The least and the greatest serial number whose hexadecimal digits begin like this; none lie between for a text that is
/// not of such digits.
fn serials_from(text: &str) -> (Vec<u8>, Vec<u8>) {
    const NONE: (Vec<u8>, Vec<u8>) = (vec![], vec![]);
    const OCTETS_MAX: usize = 20;
    if text.is_empty() || text.len() > 2 * OCTETS_MAX || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return NONE;
    }
    let fill = |with: &str| {
        let digits = format!("{text}{}", with.repeat(text.len() % 2));
        let octets = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
        octets.collect::<Result<Vec<u8>, _>>()
    };
    let (Ok(from), Ok(mut to)) = (fill("0"), fill("f")) else { return NONE };
    to.resize(OCTETS_MAX + 1, 0xff);
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_serial_number_is_a_range() {
        let serial = [0x5a; 20];
        for (text, expected) in [
            ("5a", true),
            ("5A5a5", true),
            ("5", true),
            (&"5a".repeat(20)[..], true),
            (&"5a".repeat(21)[..], false),
            ("5a5b", false),
            ("5a5", true),
            ("4", false),
            ("", false),
            ("5a.example", false),
        ] {
            let (from, to) = serials_from(text);
            assert_eq!(serial.as_slice() >= from.as_slice() && serial.as_slice() <= to.as_slice(), expected, "{text}");
        }
    }
}
