//! The statements of lists: how what narrows a list is looked through whole, and how a list is gone along. Which of them a
//! list takes is decided in `list.rs`.
//!
//! In all of them the conditions take $1 to $54; what else a statement takes comes behind.

use super::filter::{SortBy, SortOrder, conditions, domains_like, searched};

/// What a list is gone along.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Along {
    /// All certificates of the project.
    Space,
    /// Those of some groups.
    Groups,
    /// Those that end on some days: on or before today, or on and after it.
    Ended,
    Ending,
    /// Those that are revoked.
    Revoked,
}

/// What narrows a list to few certificates.
#[derive(Clone, Copy, Debug)]
pub(super) enum Narrow {
    Search,
    CommonName,
    FriendlyName,
    Groups,
    Revoked,
    CreatedAt,
    NotBefore,
    NotAfter,
}

macro_rules! by_name {
    ($from:literal, $to:literal, $first:literal, $later:literal) => {
        concat!(
            "SELECT pk FROM (SELECT c.pk FROM certificates c WHERE c.space = $1 AND ",
            searched!(),
            " >= ",
            $from,
            " AND ",
            searched!(),
            " < ",
            $to,
            " LIMIT 10001) a UNION SELECT pk FROM (SELECT c.pk FROM certificates c WHERE c.domain_id IN ",
            domains_like!($first, $later),
            " LIMIT 10001) b"
        )
    };
}

macro_rules! by_any_name {
    () => {
        concat!(
            by_name!("$2", "$3", "$4", "$5"),
            " UNION SELECT pk FROM (SELECT n.certificate_pk AS pk FROM certificate_names n
             WHERE n.space = $1 AND n.name >= $2 AND n.name < $3 LIMIT 10001) e
             UNION SELECT pk FROM (SELECT n.certificate_pk AS pk FROM certificate_names n WHERE n.domain_id IN ",
            domains_like!("$4", "$5"),
            " LIMIT 10001) f UNION SELECT pk FROM (SELECT c.pk FROM certificates c
             WHERE c.issuer_name_id IN (SELECT id FROM issuer_names UNION ALL SELECT 0)
             AND c.serial BETWEEN $6 AND $7 AND c.space + 0 = $1 LIMIT 10001) g"
        )
    };
}

macro_rules! by_friendly_name {
    ($from:literal, $to:literal, $first:literal, $later:literal) => {
        concat!(
            by_name!($from, $to, $first, $later),
            " UNION SELECT pk FROM (SELECT f.certificate_pk AS pk FROM certificate_friendly_names f
             WHERE f.space = $1 AND f.name >= ",
            $from,
            " AND f.name < ",
            $to,
            " LIMIT 10001) h"
        )
    };
}

macro_rules! by_period {
    ($column:literal, $from:literal, $to:literal) => {
        concat!(
            "SELECT c.pk FROM certificates c WHERE c.space = $1 AND c.",
            $column,
            " BETWEEN ",
            $from,
            " AND ",
            $to,
            " LIMIT 10001"
        )
    };
}

macro_rules! group_places {
    () => {
        "($55, $56, $57, $58, $59, $60, $61, $62, $63, $64, $65, $66, $67, $68, $69, $70, $71, $72, $73, $74, $75, $76,
        $77, $78, $79, $80, $81, $82, $83, $84, $85, $86)"
    };
}

macro_rules! whole {
    ($key:expr, $candidates:expr) => {
        concat!(
            "SELECT c.pk, ",
            $key,
            " FROM (",
            $candidates,
            ") x CROSS JOIN certificates c WHERE c.pk = x.pk AND c.space + 0 = $1 AND ",
            conditions!()
        )
    };
}

macro_rules! wholes {
    ($key:expr, $narrow:expr) => {
        match $narrow {
            Narrow::Search => whole!($key, by_any_name!()),
            Narrow::CommonName => whole!($key, by_name!("$8", "$9", "$10", "$11")),
            Narrow::FriendlyName => whole!($key, by_friendly_name!("$12", "$13", "$14", "$15")),
            Narrow::Groups => whole!(
                $key,
                concat!("SELECT c.pk FROM certificates c WHERE c.group_id IN ", group_places!(), " LIMIT 10001")
            ),
            Narrow::Revoked => {
                whole!($key, "SELECT c.pk FROM certificates c WHERE c.space = $1 AND c.status = 1 LIMIT 10001")
            }
            Narrow::CreatedAt => whole!($key, by_period!("created_at", "$55", "$56")),
            Narrow::NotBefore => whole!($key, by_period!("not_before", "$55", "$56")),
            Narrow::NotAfter => whole!($key, by_period!("not_after", "$55", "$56")),
        }
    };
}

/// The place so many rows further on, at which a piece ends.
macro_rules! bound {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal) => {
        concat!(
            "SELECT ",
            $key,
            ", c.pk FROM certificates c WHERE c.space = $1 AND (",
            $key,
            ", c.pk) ",
            $ahead,
            " ($2, $3) AND (",
            $key,
            ", c.pk) ",
            $back,
            " ($4, $5) ORDER BY ",
            $key,
            $direction,
            ", c.pk",
            $direction,
            " LIMIT 1 OFFSET $6"
        )
    };
}

/// The same by name. SQLite takes an index over an expression for a comparison of that alone, so it is there as well.
macro_rules! name_bound {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal) => {
        concat!(
            "SELECT ",
            $key,
            ", c.pk FROM certificates c WHERE c.space = $1 AND ",
            $key,
            $ahead,
            "= $2 AND ",
            $key,
            $back,
            " $4 AND (",
            $key,
            ", c.pk) ",
            $ahead,
            " ($2, $3) AND (",
            $key,
            ", c.pk) ",
            $back,
            " ($4, $5) ORDER BY ",
            $key,
            $direction,
            ", c.pk",
            $direction,
            " LIMIT 1 OFFSET $6"
        )
    };
}

macro_rules! revoked_bound {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal) => {
        concat!(
            "SELECT c.created_at, c.pk FROM certificates c WHERE c.space = $1 AND c.status = 1 AND (c.created_at, c.pk) ",
            $ahead,
            " ($2, $3) AND (c.created_at, c.pk) ",
            $back,
            " ($4, $5) ORDER BY c.created_at",
            $direction,
            ", c.pk",
            $direction,
            " LIMIT 1 OFFSET $6"
        )
    };
}

/// The rows of a piece that match.
macro_rules! piece {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal, $from:expr, $start:literal, $end:literal, $limit:literal) => {
        concat!(
            "SELECT c.pk, ",
            $key,
            " FROM ",
            $from,
            " AND (",
            $key,
            ", c.pk) ",
            $ahead,
            $start,
            " AND (",
            $key,
            ", c.pk) ",
            $back,
            $end,
            " AND ",
            conditions!(),
            " ORDER BY ",
            $key,
            $direction,
            ", c.pk",
            $direction,
            $limit
        )
    };
}

macro_rules! both_orders {
    ($order:expr, $statement:ident, $key:expr $(, $rest:expr)*) => {
        match $order {
            SortOrder::Descending => $statement!($key, "<", ">=", " DESC" $(, $rest)*),
            SortOrder::Ascending => $statement!($key, ">", "<=", "" $(, $rest)*),
        }
    };
}

macro_rules! space_piece {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal) => {
        piece!(
            $key,
            $ahead,
            $back,
            $direction,
            "certificates c WHERE c.space = $1",
            "($55, $56)",
            "($57, $58)",
            " LIMIT $59"
        )
    };
}

macro_rules! name_piece {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal) => {
        piece!(
            $key,
            $ahead,
            $back,
            $direction,
            concat!("certificates c WHERE c.space = $1 AND ", $key, $ahead, "= $55 AND ", $key, $back, " $57"),
            "($55, $56)",
            "($57, $58)",
            " LIMIT $59"
        )
    };
}

macro_rules! revoked_piece {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal) => {
        piece!(
            $key,
            $ahead,
            $back,
            $direction,
            "certificates c WHERE c.space = $1 AND c.status = 1",
            "($55, $56)",
            "($57, $58)",
            " LIMIT $59"
        )
    };
}

macro_rules! groups_piece {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal) => {
        piece!(
            $key,
            $ahead,
            $back,
            $direction,
            concat!("certificates c WHERE c.group_id IN ", group_places!()),
            "($87, $88)",
            "($89, $90)",
            " LIMIT $91"
        )
    };
}

macro_rules! days {
    ($which:literal, $project:literal, $day:literal) => {
        concat!(
            "(SELECT DISTINCT n.day FROM certificate_counts n JOIN certificate_groups g ON g.id = n.group_id
             WHERE g.project_id = ",
            $project,
            " AND n.status = 0 AND n.day ",
            $which,
            $day,
            ") t"
        )
    };
}

macro_rules! days_piece {
    ($key:expr, $ahead:literal, $back:literal, $direction:literal, $which:literal) => {
        piece!(
            $key,
            $ahead,
            $back,
            $direction,
            // A sum has no type of a column, for which SQLite would not take the index over an expression.
            concat!(
                days!($which, "$60", "$61"),
                " CROSS JOIN certificates c WHERE c.space = $1 AND (c.not_after / 86400000) = t.day + 0"
            ),
            "($55, $56)",
            "($57, $58)",
            " LIMIT $59"
        )
    };
}

macro_rules! one_bound {
    ($of:literal, $value:literal, $ahead:literal, $back:literal, $direction:literal) => {
        concat!(
            "(SELECT c.",
            $value,
            " FROM certificates c WHERE ",
            $of,
            " AND (c.created_at, c.pk) ",
            $ahead,
            " ($2, $3) AND (c.created_at, c.pk) ",
            $back,
            " ($4, $5) ORDER BY c.created_at",
            $direction,
            ", c.pk",
            $direction,
            " LIMIT 1 OFFSET $6)"
        )
    };
}

macro_rules! groups_bound {
    ($of:literal, $ahead:literal, $back:literal, $direction:literal) => {
        concat!(
            "SELECT ",
            one_bound!($of, "created_at", $ahead, $back, $direction),
            ", ",
            one_bound!($of, "pk", $ahead, $back, $direction),
            " FROM certificate_groups g WHERE g.project_id = $1 AND g.id IN ($7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
             $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38)"
        )
    };
}

macro_rules! days_bound {
    ($of:literal, $ahead:literal, $back:literal, $direction:literal, $which:literal) => {
        concat!(
            "SELECT ",
            one_bound!($of, "created_at", $ahead, $back, $direction),
            ", ",
            one_bound!($of, "pk", $ahead, $back, $direction),
            " FROM ",
            days!($which, "$7", "$8")
        )
    };
}

/// How many match, but no more than 10,001.
pub(super) const COUNT: &str = concat!(
    "SELECT COUNT(*) FROM (SELECT 1 FROM certificates c WHERE c.space = $1 AND ",
    conditions!(),
    " LIMIT 10001) u"
);

/// How many there are in some stretches of the order of issue, and how many of these match: takes the first place, from
/// there to the next, the last, and the length of each.
pub(super) const STRETCHES: &str = concat!(
    "WITH RECURSIVE w (pk) AS (SELECT CAST($55 AS BIGINT) UNION ALL SELECT w.pk + CAST($56 AS BIGINT) FROM w
             WHERE w.pk + CAST($56 AS BIGINT) <= $57)
             SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN ",
    conditions!(),
    " THEN 1 ELSE 0 END), 0) AS BIGINT) FROM w CROSS JOIN certificates c
             WHERE c.pk >= w.pk AND c.pk < w.pk + CAST($58 AS BIGINT) AND c.space + 0 = $1"
);

/// The place and the key of all candidates that match.
pub(super) fn whole(by: SortBy, narrow: Narrow) -> &'static str {
    match by {
        SortBy::CreatedAt => wholes!("c.created_at", narrow),
        SortBy::NotBefore => wholes!("c.not_before", narrow),
        SortBy::NotAfter => wholes!("c.not_after", narrow),
        SortBy::CommonName => wholes!(searched!(), narrow),
    }
}

/// How many candidates there are by any name or the serial number, but no more than 10,001 of each kind of name: takes the
/// space, a beginning in four forms, and the first and the last serial number.
pub(super) const COUNT_NAMED: &str = concat!("SELECT COUNT(*) FROM (", by_any_name!(), ") u");

/// How many there are by the common name: takes the space and a beginning in four forms.
pub(super) const COUNT_COMMON_NAMED: &str = concat!("SELECT COUNT(*) FROM (", by_name!("$2", "$3", "$4", "$5"), ") u");

/// The same by the name for people.
pub(super) const COUNT_FRIENDLY_NAMED: &str =
    concat!("SELECT COUNT(*) FROM (", by_friendly_name!("$2", "$3", "$4", "$5"), ") u");

/// How many were issued in a period, but no more than 10,001: takes the space and both ends.
pub(super) const COUNT_CREATED: &str = concat!("SELECT COUNT(*) FROM (", by_period!("created_at", "$2", "$3"), ") u");

/// The same of those that begin in it.
pub(super) const COUNT_BEGINNING: &str = concat!("SELECT COUNT(*) FROM (", by_period!("not_before", "$2", "$3"), ") u");

/// The same of those that end in it.
pub(super) const COUNT_ENDING: &str = concat!("SELECT COUNT(*) FROM (", by_period!("not_after", "$2", "$3"), ") u");

/// The place so many rows further on: takes the space or the project, the start, the end, the number of rows, and what
/// it goes along.
pub(super) fn bound(along: Along, by: SortBy, order: SortOrder) -> &'static str {
    match (by, along) {
        (SortBy::CreatedAt, Along::Space) => both_orders!(order, bound, "c.created_at"),
        (SortBy::CreatedAt, Along::Revoked) => both_orders!(order, revoked_bound, "c.created_at"),
        (SortBy::CreatedAt, Along::Groups) => both_orders!(order, groups_bound, "c.group_id = g.id"),
        (SortBy::CreatedAt, Along::Ended) => {
            both_orders!(order, days_bound, "c.space = $1 AND (c.not_after / 86400000) = t.day + 0", "<= ")
        }
        (SortBy::CreatedAt, Along::Ending) => {
            both_orders!(order, days_bound, "c.space = $1 AND (c.not_after / 86400000) = t.day + 0", ">= ")
        }
        (SortBy::NotBefore, _) => both_orders!(order, bound, "c.not_before"),
        (SortBy::NotAfter, _) => both_orders!(order, bound, "c.not_after"),
        (SortBy::CommonName, _) => both_orders!(order, name_bound, searched!()),
    }
}

/// The rows of a piece that match: takes its start, its end and the most rows; for groups these first, for days the
/// project and the day at the end.
pub(super) fn piece(along: Along, by: SortBy, order: SortOrder) -> &'static str {
    match (by, along) {
        (SortBy::CreatedAt, Along::Space) => both_orders!(order, space_piece, "c.created_at"),
        (SortBy::CreatedAt, Along::Revoked) => both_orders!(order, revoked_piece, "c.created_at"),
        (SortBy::CreatedAt, Along::Groups) => both_orders!(order, groups_piece, "c.created_at"),
        (SortBy::CreatedAt, Along::Ended) => both_orders!(order, days_piece, "c.created_at", "<= "),
        (SortBy::CreatedAt, Along::Ending) => both_orders!(order, days_piece, "c.created_at", ">= "),
        (SortBy::NotBefore, _) => both_orders!(order, space_piece, "c.not_before"),
        (SortBy::NotAfter, _) => both_orders!(order, space_piece, "c.not_after"),
        (SortBy::CommonName, _) => both_orders!(order, name_piece, searched!()),
    }
}
