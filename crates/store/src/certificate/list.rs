//! Lists of the inventory: pages of a project's certificates, narrowed and sorted, and how many match.
//!
//! A list that an index narrows to few certificates is looked through whole. Any other is gone along in its own order,
//! piece by piece, until the page is full: each piece begins behind the last row of the one before, so that nothing is
//! skipped or given twice while certificates are added. Only the rows of the page are read whole.

use super::filter::{
    CertificateFilter, Period, SortBy, SortOrder, beginning, condition_params, last_second, serials_from,
};
use super::statements::{self, Along, Narrow};
use super::{InventoryRow, certificate_from};
use crate::db::Db;
use crate::error::StoreError;
use crate::inventory::{self, Counts, Group};
use crate::params;
use crate::value::{Row, Value};
use domain::inventory::ShownStatus;
use domain::{ProjectId, Time};
use std::cmp::Ordering;
use std::collections::HashMap;

/// At which numbers of certificates a list is found and counted in which way.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Up to so many a list is looked through whole; at most [`FEW_MAX`].
    pub few: i64,
    /// Up to so many are counted one by one.
    pub counted: i64,
    /// So many are gone along at a time, at first.
    pub piece: i64,
}

/// What the statements can look through whole: they say one more.
pub const FEW_MAX: i64 = 10_000;

impl Default for Scale {
    fn default() -> Self {
        Self { few: FEW_MAX, counted: 200_000, piece: 1_000 }
    }
}

/// Up to which number a total is exact. The statement that counts says one more.
const EXACT_MAX: i64 = 10_000;

/// How many groups are gone along side by side.
const GROUPS_MAX: usize = 32;

/// Rows that are gone along at a time at most.
const PIECE_MAX: i64 = 16_000;

/// How many certificates are read by one statement.
const READ_AT_ONCE: usize = 50;

/// Where a page ended: the value that the list is sorted by, and the place in the order of issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    key: Value,
    pk: i64,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub enum Part {
    /// What follows so many entries.
    Behind(u32),
    /// What follows the end of a page.
    After(Mark),
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The certificates.
    pub rows: Vec<InventoryRow>,
    /// Where it ended; nothing for an empty one.
    pub end: Option<Mark>,
}

/// How many certificates match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Exactly so many.
    Exact(i64),
    /// About so many.
    Estimated(i64),
}

/// A list that is given in pages.
pub struct Listing<'a> {
    db: &'a Db,
    filter: &'a CertificateFilter,
    now: Time,
    by: SortBy,
    order: SortOrder,
    project: ProjectId,
    space: i64,
    /// The groups of the project and of the filter.
    groups: Vec<(Group, Counts)>,
    taken: Vec<i64>,
    scale: Scale,
    way: Way,
}

/// How the certificates of a list are found.
enum Way {
    /// There are few: all of them, in order.
    Whole(Vec<Mark>),
    /// There may be many: in the order of the list.
    Along(Along),
}

impl<'a> Listing<'a> {
    /// A list of a project's certificates; nothing when none can be on it.
    pub async fn open(
        db: &'a Db,
        project: ProjectId,
        filter: &'a CertificateFilter,
        now: Time,
        (by, order): (SortBy, SortOrder),
        scale: Scale,
    ) -> Result<Option<Self>, StoreError> {
        let Some(space) = inventory::space(db, project).await? else { return Ok(None) };
        let groups = inventory::counted(db, project, now).await?;
        let takes = |(group, counts): &&(Group, Counts)| counts.total() != 0 && filter.takes(group);
        let taken: Vec<i64> = groups.iter().filter(takes).map(|(group, _)| group.id).collect();
        if taken.is_empty() {
            return Ok(None);
        }
        let way = Way::Along(Along::Space);
        let mut listing = Self { db, filter, now, by, order, project, space, groups, taken, scale, way };
        listing.way = match listing.narrow().await? {
            Some((narrow, params)) => Way::Whole(listing.whole(narrow, params).await?),
            None => Way::Along(listing.along()),
        };
        Ok(Some(listing))
    }

    /// A page of it.
    pub async fn page(&self, part: Part, limit: u32) -> Result<Page, StoreError> {
        let marks = match (&self.way, part) {
            (Way::Whole(all), Part::Behind(skip)) => {
                all.iter().skip(skip as usize).take(limit as usize).cloned().collect()
            }
            (Way::Whole(all), Part::After(mark)) => {
                let is_before = |one: &&Mark| !self.is_ahead(one, &mark);
                all.iter().skip_while(is_before).take(limit as usize).cloned().collect()
            }
            (Way::Along(along), part) => self.along_from(*along, part, limit).await?,
        };
        let mut rows = Vec::with_capacity(marks.len());
        for some in marks.chunks(READ_AT_ONCE) {
            rows.extend(self.read(some).await?);
        }
        Ok(Page { rows, end: marks.last().cloned() })
    }

    /// How many certificates are on it. Exact up to 10,000, and at any size where all that is asked for is the same of all
    /// certificates of a group; with a filter that no index narrows to 200,000 it may be estimated below that, too.
    pub async fn total(&self) -> Result<Total, StoreError> {
        if let Way::Whole(all) = &self.way {
            return Ok(Total::Exact(all.len() as i64));
        }
        let of_taken = |groups: &[(Group, Counts)]| {
            let taken = groups.iter().filter(|(group, _)| self.taken.contains(&group.id));
            taken.fold(Counts::default(), |sum, (_, counts)| sum.and(*counts))
        };
        let counts = of_taken(&self.groups);
        if self.filter.is_of_groups() {
            return Ok(Total::Exact(match self.filter.status {
                None => counts.total(),
                Some(ShownStatus::Revoked) => counts.revoked,
                Some(status) => {
                    let exact = of_taken(&inventory::counts(self.db, self.project, self.now).await?);
                    if status == ShownStatus::Expired { exact.expired } else { exact.active }
                }
            }));
        }
        let all = self.groups.iter().fold(0, |sum, (_, counts)| sum + counts.total());
        if all <= self.scale.counted {
            let counted = self.count(statements::COUNT, self.condition_params()).await?;
            if counted <= EXACT_MAX {
                return Ok(Total::Exact(counted));
            }
        }
        self.estimate(all).await.map(Total::Estimated)
    }

    /// Looks at some stretches of the inventory and takes the rest to be like them.
    async fn estimate(&self, all: i64) -> Result<i64, StoreError> {
        const STRETCHES: i64 = 24;
        const LENGTH: i64 = 200;
        // Each end by itself is the end of an index; both in one would be a walk over everything in SQLite.
        let ends = "SELECT COALESCE((SELECT MIN(pk) FROM certificates), 0),
                    COALESCE((SELECT MAX(pk) FROM certificates), 0)";
        let row = self.db.row(ends, vec![]).await?.ok_or_else(|| StoreError::Engine("no row of two ends".into()))?;
        let (first, last) = (row.int(0)?, row.int(1)?);
        let step = ((last - first) / STRETCHES).max(1);
        let mut params = self.condition_params();
        params.extend(params![first, step, last, LENGTH.min(step)]);
        let row = self
            .db
            .row(statements::STRETCHES, params)
            .await?
            .ok_or_else(|| StoreError::Engine("no row of two counts".into()))?;
        let (seen, matching) = (row.int(0)?.max(1), row.int(1)?);
        let about = i64::try_from(i128::from(all) * i128::from(matching) / i128::from(seen)).unwrap_or(i64::MAX);
        Ok(rounded(about.max(EXACT_MAX + 1)))
    }

    /// What narrows the list to few certificates, if anything does, and what its statement takes beside the conditions.
    async fn narrow(&self) -> Result<Option<(Narrow, Vec<Value>)>, StoreError> {
        let filter = self.filter;
        if filter.is_empty() {
            return Ok(None);
        }
        let all = self.groups.iter().fold(Counts::default(), |sum, (_, counts)| sum.and(*counts));
        let taken = self.groups.iter().filter(|(group, _)| self.taken.contains(&group.id));
        let of_taken = taken.fold(0, |sum, (_, counts)| sum + counts.total());
        if of_taken <= self.scale.few && self.taken.len() <= GROUPS_MAX {
            return Ok(Some((Narrow::Groups, self.group_params())));
        }
        if filter.status == Some(ShownStatus::Revoked) && all.revoked <= self.scale.few {
            return Ok(Some((Narrow::Revoked, vec![])));
        }
        let (from, to) = serials_from(&filter.search);
        for (narrow, text, sql, serials) in [
            (Narrow::Search, &filter.search, statements::COUNT_NAMED, params![from, to]),
            (Narrow::CommonName, &filter.common_name, statements::COUNT_COMMON_NAMED, vec![]),
            (Narrow::FriendlyName, &filter.friendly_name, statements::COUNT_FRIENDLY_NAMED, vec![]),
        ] {
            if text.is_empty() {
                continue;
            }
            let params = [params![self.space], beginning(text).to_vec(), serials].concat();
            if self.count(sql, params).await? <= self.scale.few {
                return Ok(Some((narrow, vec![])));
            }
        }
        for (narrow, period, sql) in [
            (Narrow::CreatedAt, filter.created_at.clone(), statements::COUNT_CREATED),
            (Narrow::NotAfter, self.lifetime_ends(), statements::COUNT_ENDING),
            (Narrow::NotBefore, filter.not_before.clone(), statements::COUNT_BEGINNING),
        ] {
            let ends = params![*period.0.start(), *period.0.end()];
            let params = [params![self.space], ends.clone()].concat();
            if period.narrows() && self.count(sql, params).await? <= self.scale.few {
                return Ok(Some((narrow, ends)));
            }
        }
        Ok(None)
    }

    async fn count(&self, sql: &'static str, params: Vec<Value>) -> Result<i64, StoreError> {
        self.db.row(sql, params).await?.map_or(Ok(0), |row| row.int(0))
    }

    /// The ends of lifetimes that the filter lets through.
    fn lifetime_ends(&self) -> Period {
        let now = last_second(self.now);
        let of_status = match self.filter.status {
            Some(ShownStatus::Active) => Period::new(Some(now), None),
            Some(ShownStatus::Expired) => Period::new(None, Some(Time::from_millis(now.millis() - 1))),
            Some(ShownStatus::Revoked) | None => Period::default(),
        };
        self.filter.not_after.and(&of_status)
    }

    /// All that is on the list, in its order.
    async fn whole(&self, narrow: Narrow, beside: Vec<Value>) -> Result<Vec<Mark>, StoreError> {
        let sql = statements::whole(self.by, narrow);
        let mut params = self.condition_params();
        params.extend(beside);
        let mut marks = marks_of(self.db.rows(sql, params).await?)?;
        marks.sort_unstable_by(|one, other| self.compare(one, other));
        Ok(marks)
    }

    /// What a list is gone along that nothing narrows to few.
    fn along(&self) -> Along {
        match (self.by, self.filter.status, self.order) {
            (SortBy::CreatedAt, Some(ShownStatus::Revoked), _) => Along::Revoked,
            (SortBy::CreatedAt, Some(ShownStatus::Expired), _) => Along::Ended,
            (SortBy::CreatedAt, Some(ShownStatus::Active), SortOrder::Ascending) => Along::Ending,
            (SortBy::CreatedAt, _, _) if self.taken.len() <= GROUPS_MAX && self.taken.len() < self.groups.len() => {
                Along::Groups
            }
            _ => Along::Space,
        }
    }

    async fn along_from(&self, along: Along, part: Part, limit: u32) -> Result<Vec<Mark>, StoreError> {
        let (mut start, last) = self.ends();
        let mut skip = 0;
        match part {
            Part::After(mark) => start = mark,
            Part::Behind(0) => {}
            // Where nothing is left out, the index alone says where the page begins.
            Part::Behind(some) if self.filter.is_empty() => {
                match self.bound(Along::Space, &start, &last, i64::from(some) - 1).await? {
                    Some(mark) => start = mark,
                    None => return Ok(vec![]),
                }
            }
            Part::Behind(some) => skip = some as usize,
        }
        let wanted = skip + limit as usize;
        let mut found: Vec<Mark> = vec![];
        let mut length = self.scale.piece;
        while found.len() < wanted {
            let bound = self.bound(along, &start, &last, length).await?;
            let end = bound.as_ref().unwrap_or(&last);
            found.extend(self.piece(along, &start, end, wanted - found.len()).await?);
            match bound {
                None => break,
                Some(mark) => start = mark,
            }
            length = (length * 2).min(PIECE_MAX);
        }
        Ok(found.split_off(skip.min(found.len())))
    }

    /// What is before the first and what is the last place that can be on the list.
    fn ends(&self) -> (Mark, Mark) {
        let period = match self.by {
            SortBy::CreatedAt => self.filter.created_at.clone(),
            SortBy::NotBefore => self.filter.not_before.clone(),
            SortBy::NotAfter => self.lifetime_ends(),
            SortBy::CommonName => {
                let least = Mark { key: Value::Text(String::new()), pk: i64::MIN };
                let most = Mark { key: Value::Text("\u{10ffff}".into()), pk: i64::MAX };
                return match self.order {
                    SortOrder::Descending => (most, least),
                    SortOrder::Ascending => (least, most),
                };
            }
        };
        let mark = |time: &Time, pk| Mark { key: Value::from(*time), pk };
        let (least, most) = (mark(period.0.start(), i64::MIN), mark(period.0.end(), i64::MAX));
        match self.order {
            SortOrder::Descending => (most, least),
            SortOrder::Ascending => (least, most),
        }
    }

    /// The place so many rows further on; nothing when there are not as many. Of several groups or days, the nearest.
    async fn bound(&self, along: Along, start: &Mark, last: &Mark, length: i64) -> Result<Option<Mark>, StoreError> {
        let ends =
            |first: Value| vec![first, start.key.clone(), Value::Int(start.pk), last.key.clone(), Value::Int(last.pk)];
        let params = match along {
            Along::Space | Along::Revoked => {
                let mut params = ends(Value::Int(self.space));
                params.push(Value::Int(length));
                params
            }
            Along::Groups => {
                let mut params = ends(self.project.into());
                params.push(Value::Int(length / self.taken.len().max(1) as i64 + 1));
                params.extend(self.group_params());
                params
            }
            Along::Ended | Along::Ending => {
                let mut params = ends(Value::Int(self.space));
                // There may be many days.
                params.push(Value::Int(length / 50 + 1));
                params.extend(params![self.project, self.today()]);
                params
            }
        };
        let sql = statements::bound(along, self.by, self.order);
        let rows = self.db.rows(sql, params).await?;
        let mut nearest: Option<Mark> = None;
        for row in rows {
            let Some(pk) = row.opt_int(1)? else { continue };
            let mark = Mark { key: row.value(0)?.clone(), pk };
            if nearest.as_ref().is_none_or(|nearest| self.is_ahead(nearest, &mark)) {
                nearest = Some(mark);
            }
        }
        Ok(nearest)
    }

    async fn piece(&self, along: Along, start: &Mark, end: &Mark, limit: usize) -> Result<Vec<Mark>, StoreError> {
        let mut params = self.condition_params();
        if along == Along::Groups {
            params.extend(self.group_params());
        }
        params.extend([start.key.clone(), Value::Int(start.pk), end.key.clone(), Value::Int(end.pk)]);
        params.push(Value::Int(limit as i64));
        let sql = statements::piece(along, self.by, self.order);
        if matches!(along, Along::Ended | Along::Ending) {
            params.extend(params![self.project, self.today()]);
        }
        marks_of(self.db.rows(sql, params).await?)
    }

    /// The certificates at these places, in their order; one that was deleted meanwhile is left out.
    async fn read(&self, marks: &[Mark]) -> Result<Vec<InventoryRow>, StoreError> {
        let sql = select_certificate!(
            "WHERE c.pk IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
             $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43,
             $44, $45, $46, $47, $48, $49, $50)"
        );
        let places = marks.iter().map(|mark| mark.pk).chain(std::iter::repeat(-1)).take(READ_AT_ONCE);
        let rows = self.db.rows(sql, places.map(Value::Int).collect()).await?;
        let read: Result<Vec<InventoryRow>, StoreError> = rows.iter().map(certificate_from).collect();
        let mut by_place: HashMap<i64, InventoryRow> = read?.into_iter().map(|row| (row.pk, row)).collect();
        Ok(marks.iter().filter_map(|mark| by_place.remove(&mark.pk)).collect())
    }

    fn condition_params(&self) -> Vec<Value> {
        condition_params(self.space, self.filter, self.now)
    }

    /// The numbers of the groups, in as many places as a statement has for them.
    fn group_params(&self) -> Vec<Value> {
        self.taken.iter().copied().chain(std::iter::repeat(-1)).take(GROUPS_MAX).map(Value::Int).collect()
    }

    fn today(&self) -> i64 {
        inventory::day(last_second(self.now))
    }

    /// Whether a place comes after another one in the order of the list.
    fn is_ahead(&self, one: &Mark, other: &Mark) -> bool {
        self.compare(one, other) == Ordering::Greater
    }

    fn compare(&self, one: &Mark, other: &Mark) -> Ordering {
        let rising = compare_keys(&one.key, &other.key).then(one.pk.cmp(&other.pk));
        match self.order {
            SortOrder::Descending => rising.reverse(),
            SortOrder::Ascending => rising,
        }
    }
}

/// Keys of one list are of one kind. Texts are in the order of their octets, as in both engines.
fn compare_keys(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => one.cmp(other),
        (Value::Text(one), Value::Text(other)) => one.cmp(other),
        _ => Ordering::Equal,
    }
}

/// Rows of a place and of what the list is sorted by.
fn marks_of(rows: Vec<Row>) -> Result<Vec<Mark>, StoreError> {
    rows.iter().map(|row| Ok(Mark { pk: row.int(0)?, key: row.value(1)?.clone() })).collect()
}

/// A number of which only the first two digits are given, so that nobody takes it for an exact one.
fn rounded(number: i64) -> i64 {
    let mut step = 1;
    while number / step >= 100 {
        step *= 10;
    }
    (number / step * step).max(EXACT_MAX + 1)
}
