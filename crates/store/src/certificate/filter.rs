//! What lists of certificates are narrowed and sorted by, and how that reads in SQL.
//!
//! The conditions are written so that no engine takes an index for them: which index is gone along, the list decides.

use crate::inventory::Group;
use crate::params;
use crate::value::Value;
use domain::identity::MetadataEntry;
use domain::inventory::{ShownStatus, searched_name};
use domain::profile::Enrollment;
use domain::{AuthorityId, ProfileId, Time};
use std::ops::RangeInclusive;
use x509::{KeyAlgorithm, SignatureAlgorithm};

/// How many profiles one list can be narrowed to.
pub const PROFILES_IN_FILTER_MAX: usize = 10;
/// How many authorities one list can be narrowed to.
pub const AUTHORITIES_IN_FILTER_MAX: usize = 10;
/// How many pairs of metadata one list can be narrowed to.
pub const METADATA_IN_FILTER_MAX: usize = 4;

/// What a list of certificates is narrowed by; an empty text or list narrows nothing.
///
/// A text is looked for at the beginning of names, and at the beginning of each further label of hosts' names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificateFilter {
    /// The beginning of the common name, of a SAN or of a label of theirs, or of the serial number.
    pub search: String,
    /// The beginning of the common name or of a label of it.
    pub common_name: String,
    /// The beginning of the name for people; the same as for the common name where none was given.
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
    /// Only from there.
    pub source: Option<RecordSource>,
    /// When it was issued.
    pub created_at: Period,
    /// When it begins.
    pub not_before: Period,
    /// When it ends.
    pub not_after: Period,
}

/// Where a certificate of the inventory is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordSource {
    /// It was issued here.
    Issued,
    /// It was issued elsewhere.
    Imported,
}

/// A stretch of time with both ends in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Period(pub RangeInclusive<Time>);

impl Period {
    /// From one time to another; an absent one is without end.
    pub fn new(from: Option<Time>, to: Option<Time>) -> Self {
        Self(from.unwrap_or(Time::from_millis(i64::MIN))..=to.unwrap_or(Time::from_millis(i64::MAX)))
    }

    /// Whether it leaves anything out.
    pub(super) fn narrows(&self) -> bool {
        *self != Self::default()
    }

    /// What is in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self(*self.0.start().max(other.0.start())..=*self.0.end().min(other.0.end()))
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
    /// The time of issue.
    #[default]
    CreatedAt,
    /// The beginning of the lifetime.
    NotBefore,
    /// The end of the lifetime.
    NotAfter,
    /// The common name, in lower case.
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

/// The common name as it is searched and sorted by: the text of an index.
macro_rules! searched {
    () => {
        "substr(lower(c.common_name), 1, 255)"
    };
}

/// Numbers of the domains with a label that begins like one of two patterns.
macro_rules! domains_like {
    ($first:literal, $later:literal) => {
        concat!(
            "(SELECT d.id FROM certificate_domains d WHERE d.space = $1 AND (d.domain LIKE ",
            $first,
            " ESCAPE '\\' OR d.domain LIKE ",
            $later,
            " ESCAPE '\\'))"
        )
    };
}

/// What holds of each certificate `c` that a filter lets through. $1 is the space; the others are [`condition_params`].
/// The names of one certificate are counted, and not asked whether they exist: PostgreSQL would take that for a question
/// about all names of all certificates.
macro_rules! conditions {
    () => {
        concat!(
            "($2 = '' OR (",
            searched!(),
            " >= $2 AND ",
            searched!(),
            " < $3) OR c.domain_id + 0 IN ",
            domains_like!("$4", "$5"),
            " OR c.serial BETWEEN $6 AND $7 OR 0 < (SELECT COUNT(*) FROM certificate_names n WHERE n.certificate_pk = c.pk
             AND ((n.name >= $2 AND n.name < $3) OR n.domain_id + 0 IN ",
            domains_like!("$4", "$5"),
            "))) AND ($8 = '' OR (",
            searched!(),
            " >= $8 AND ",
            searched!(),
            " < $9) OR c.domain_id + 0 IN ",
            domains_like!("$10", "$11"),
            ") AND ($12 = '' OR 0 < (SELECT COUNT(*) FROM certificate_friendly_names f WHERE f.certificate_pk = c.pk
             AND f.name >= $12 AND f.name < $13) OR (((",
            searched!(),
            " >= $12 AND ",
            searched!(),
            " < $13) OR c.domain_id + 0 IN ",
            domains_like!("$14", "$15"),
            ") AND 0 = (SELECT COUNT(*) FROM certificate_friendly_names f WHERE f.certificate_pk = c.pk)))
             AND ($16 = '' OR ($16 = 'revoked' AND c.status + 0 = 1)
             OR ($16 = 'expired' AND c.status + 0 = 0 AND c.not_after + 0 < $17)
             OR ($16 = 'active' AND c.status + 0 = 0 AND c.not_after + 0 >= $17))
             AND c.created_at + 0 BETWEEN $18 AND $19 AND c.not_before + 0 BETWEEN $20 AND $21
             AND c.not_after + 0 BETWEEN $22 AND $23
             AND (($24 = '' AND $25 = '' AND $26 = '') OR EXISTS (SELECT 1 FROM certificate_groups g
             WHERE g.id = c.group_id + 0 AND ($24 = '' OR $24 LIKE '%,' || g.key_algorithm || ',%')
             AND ($25 = '' OR g.signature_algorithm = $25)
             AND ($26 = '' OR ', ' || g.extended_key_usages || ',' LIKE $26 ESCAPE '\\')))
             AND ($27 = '' OR c.details LIKE $27 ESCAPE '\\') AND ($28 = '' OR c.details LIKE $28 ESCAPE '\\')
             AND ($29 = '' OR c.details LIKE $29 ESCAPE '\\') AND ($30 = '' OR c.details LIKE $30 ESCAPE '\\')
             AND ($31 = '' OR EXISTS (SELECT 1 FROM profiles f
             WHERE f.id = c.profile_id AND $31 LIKE '%,' || f.enrollment || ',%'))
             AND ($32 = 0 OR c.profile_id IN ($33, $34, $35, $36, $37, $38, $39, $40, $41, $42))
             AND ($43 = 0 OR c.authority_id IN ($44, $45, $46, $47, $48, $49, $50, $51, $52, $53))
             AND ($54 = '' OR ($54 = 'imported' AND c.profile_id IS NULL AND c.authority_id IS NULL)
             OR ($54 = 'issued' AND (c.profile_id IS NOT NULL OR c.authority_id IS NOT NULL)))"
        )
    };
}

pub(super) use {conditions, domains_like, searched};

/// What is more than every text that begins like this one.
const AFTER_ALL: char = '\u{10ffff}';

/// The beginning of a name, and how the labels of a domain begin like it: four parameters.
pub(super) fn beginning(text: &str) -> [Value; 4] {
    if text.is_empty() {
        return [const { String::new() }; 4].map(Value::Text);
    }
    let text = searched_name(text);
    let pattern = escaped(&text) + "%";
    let (after, later) = (format!("{text}{AFTER_ALL}"), format!("%.{pattern}"));
    [text, after, pattern, later].map(Value::Text)
}

impl CertificateFilter {
    /// Whether it leaves nothing out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all that it asks for is the same of all certificates of a group, but for the status.
    pub(super) fn is_of_groups(&self) -> bool {
        let of_groups = Self {
            status: self.status,
            profiles: self.profiles.clone(),
            authorities: self.authorities.clone(),
            enrollments: self.enrollments.clone(),
            key_algorithms: self.key_algorithms.clone(),
            signature_algorithm: self.signature_algorithm,
            extended_key_usage: self.extended_key_usage.clone(),
            source: self.source,
            ..Self::default()
        };
        *self == of_groups
    }

    /// Whether certificates of a group can be among what it lets through.
    pub(super) fn takes(&self, group: &Group) -> bool {
        let is_imported = group.profile.is_none() && group.authority.is_none();
        let usages = &group.extended_key_usages;
        (self.profiles.is_empty() || group.profile.is_some_and(|id| self.profiles.contains(&id)))
            && (self.authorities.is_empty() || group.authority.is_some_and(|id| self.authorities.contains(&id)))
            && (self.enrollments.is_empty()
                || self.enrollments.iter().any(|enrollment| enrollment.as_str() == group.enrollment))
            && self
                .key_algorithms
                .as_ref()
                .is_none_or(|listed| listed.iter().any(|algorithm| algorithm.as_str() == group.key_algorithm))
            && self.signature_algorithm.is_none_or(|algorithm| algorithm.as_str() == group.signature_algorithm)
            && (self.extended_key_usage.is_empty() || usages.split(", ").any(|usage| usage == self.extended_key_usage))
            && self.source.is_none_or(|source| (source == RecordSource::Imported) == is_imported)
    }
}

/// The values of the conditions for `c`, $1 to $54.
pub(super) fn condition_params(space: i64, filter: &CertificateFilter, now: Time) -> Vec<Value> {
    let (serial_from, serial_to) = serials_from(&filter.search);
    let key_algorithms = filter.key_algorithms.as_ref().map(|listed| listed.iter().map(|algorithm| algorithm.as_str()));
    let enrollments: Vec<&str> = filter.enrollments.iter().map(|enrollment| enrollment.as_str()).collect();
    let usage = &filter.extended_key_usage;
    let mut params = params![space];
    params.extend(beginning(&filter.search));
    params.extend(params![serial_from, serial_to]);
    params.extend(beginning(&filter.common_name));
    params.extend(beginning(&filter.friendly_name));
    params.extend(params![
        filter.status.map_or("", ShownStatus::as_str),
        last_second(now),
        *filter.created_at.0.start(),
        *filter.created_at.0.end(),
        *filter.not_before.0.start(),
        *filter.not_before.0.end(),
        *filter.not_after.0.start(),
        *filter.not_after.0.end(),
        key_algorithms.map_or(String::new(), |names| between_commas(&names.collect::<Vec<_>>())),
        filter.signature_algorithm.map_or("", |algorithm| algorithm.as_str()),
        if usage.is_empty() { String::new() } else { format!("%, {},%", escaped(usage)) },
    ]);
    for position in 0..METADATA_IN_FILTER_MAX {
        // An entry stands in the document as it is written here.
        let entry = filter.metadata.get(position).map(|entry| format!("%{}%", escaped(&as_json(entry))));
        params.push(Value::from(entry.unwrap_or_default()));
    }
    params.push(Value::from(if enrollments.is_empty() { String::new() } else { between_commas(&enrollments) }));
    push_ids(&mut params, filter.profiles.iter().map(|id| Value::from(*id)).collect(), PROFILES_IN_FILTER_MAX);
    push_ids(&mut params, filter.authorities.iter().map(|id| Value::from(*id)).collect(), AUTHORITIES_IN_FILTER_MAX);
    params.push(Value::from(match filter.source {
        None => "",
        Some(RecordSource::Issued) => "issued",
        Some(RecordSource::Imported) => "imported",
    }));
    params
}

/// A certificate is valid through the whole of its last second.
pub(super) fn last_second(now: Time) -> Time {
    Time::from_seconds(now.seconds())
}

fn as_json(entry: &MetadataEntry) -> String {
    serde_json::to_string(entry).expect("two texts have a JSON form")
}

fn between_commas(names: &[&str]) -> String {
    format!(",{},", names.join(","))
}

/// A text as a pattern that finds it.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// A number of ids and the ids, in as many places as a statement has for them.
pub(super) fn push_ids(params: &mut Vec<Value>, ids: Vec<Value>, most: usize) {
    params.push(Value::from(i64::try_from(ids.len()).unwrap_or(i64::MAX)));
    let absent = std::iter::repeat_with(|| Value::from(Vec::new()));
    params.extend(ids.into_iter().chain(absent).take(most));
}

/// The least and the greatest serial number whose hexadecimal digits begin like this; none lie between for a text that is
/// not of such digits.
pub(super) fn serials_from(text: &str) -> (Vec<u8>, Vec<u8>) {
    const NONE: (Vec<u8>, Vec<u8>) = (vec![], vec![]);
    const OCTETS_MAX: usize = 20;
    if text.is_empty() || text.len() > 2 * OCTETS_MAX || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return NONE;
    }
    // X.690 §8.3.3: a positive number whose first bit is set has an octet of zeros before it.
    let sign = if text.as_bytes()[0] >= b'8' { "00" } else { "" };
    let fill = |with: &str| {
        let digits = format!("{sign}{text}{}", with.repeat(text.len() % 2));
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
