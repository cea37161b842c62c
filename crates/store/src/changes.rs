//! What a use case wants to be true, as one value: statements with expectations, and the audit records that tell of them.
//!
//! A [`Changes`] is kept whole or not at all. It reads nothing and decides nothing.

use crate::{Announcement, StoreError, Value};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// What must hold of the number of rows that a statement changed or returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is expected.
    Any,
    /// Exactly one row; otherwise the whole [`Changes`] fails with [`StoreError::Stale`] and this text.
    One(&'static str),
}

/// One statement with `$1` to `$n` parameters, in the SQL that both engines speak.
///
/// A `SELECT … FOR SHARE` with [`Statement::expect_one`] is a guard: the row must exist, and on PostgreSQL it is locked
/// until the commit. SQLite has one writer, so there the locking words are dropped. What a guard reads may change only in
/// [`Changes`] that are marked [`Changes::configuration`]: within one transaction equal guards are looked at once.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
    pub(crate) expect: Expect,
    pub(crate) lasts: bool,
}

impl Statement {
    /// A statement that may change any number of rows.
    pub fn new(sql: &'static str, params: Vec<Value>) -> Self {
        Self { sql, params, expect: Expect::Any, lasts: false }
    }

    /// The same statement, which makes sure of something that is never undone: once it was committed with these
    /// parameters, it need not be run again, and mostly is not.
    pub fn lasting(self) -> Self {
        Self { lasts: true, ..self }
    }

    /// The same statement, where exactly one row must be changed or returned. `what` completes "no longer true: …".
    pub fn expect_one(self, what: &'static str) -> Self {
        Self { expect: Expect::One(what), ..self }
    }

    /// Whether it can fail by the number of rows alone.
    pub(crate) fn expects_one(&self) -> bool {
        self.expect != Expect::Any
    }

    /// Whether it only holds a commit to something: see [`Statement`].
    pub(crate) fn is_guard(&self) -> bool {
        self.sql.starts_with("SELECT")
    }

    /// Whether the number of rows that it changed or returned is as expected.
    pub(crate) fn check_count(&self, count: u64) -> Result<(), StoreError> {
        match self.expect {
            Expect::Any => Ok(()),
            Expect::One(what) if count != 1 => Err(StoreError::Stale(what)),
            Expect::One(_) => Ok(()),
        }
    }
}

/// One entry of the audit log. The store adds its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When, in milliseconds since the epoch.
    pub at_millis: i64,
    /// The organisation that the object belongs to.
    pub organization: Option<Uuid>,
    /// The project that the object belongs to.
    pub project: Option<Uuid>,
    /// Who, by kind: `identity`, `system` and the like.
    pub actor_kind: &'static str,
    /// Who, by id.
    pub actor_id: Option<Uuid>,
    /// How the actor proved who it is.
    pub actor_method: &'static str,
    /// Which credential of the actor was used.
    pub actor_credential: Option<Uuid>,
    /// From where, as the text of an IP address.
    pub actor_address: Option<String>,
    /// What happened.
    pub event: &'static str,
    /// To what, by kind.
    pub object_kind: &'static str,
    /// To what, by id.
    pub object_id: Option<Uuid>,
    /// The rest, as a small JSON object. Never a secret.
    pub detail: String,
}

/// A number that is added to another one in the database. Equal ones of a transaction are added up and kept by one
/// statement, after all others, in rows of this node's own: a counter is no row that commits wait for.
///
/// The statement takes the parameters, then the number of the node, then the sum, and changes exactly one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
    pub(crate) add: i64,
}

impl Tally {
    /// What is added by a statement.
    pub fn new(sql: &'static str, params: Vec<Value>, add: i64) -> Self {
        Self { sql, params, add }
    }

    /// The statements for these, those that are equal as one, with the number of the node and the sum.
    pub(crate) fn merged<'a>(
        tallies: impl Iterator<Item = &'a Tally>,
        node: i64,
    ) -> impl Iterator<Item = (&'static str, Vec<Value>)> {
        let mut sums: Vec<Tally> = Vec::new();
        for tally in tallies {
            match sums.iter_mut().find(|sum| std::ptr::eq(sum.sql, tally.sql) && sum.params == tally.params) {
                Some(sum) => sum.add += tally.add,
                None => sums.push(tally.clone()),
            }
        }
        sums.into_iter().filter(|sum| sum.add != 0).map(move |sum| {
            let mut params = sum.params;
            params.extend([Value::Int(node), Value::Int(sum.add)]);
            (sum.sql, params)
        })
    }
}

/// Where a statement's text lies, which says which one it is: texts are never moved, and a place is hashed sooner than a
/// text. A text that lies in two places counts as two.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place(usize, usize);

impl Place {
    pub(crate) fn of(sql: &'static str) -> Self {
        Self(sql.as_ptr() as usize, sql.len())
    }
}

/// The lasting statements that were committed not long ago.
#[derive(Default)]
pub(crate) struct Lasting(HashMap<Place, HashSet<Vec<Value>>>);

/// How many of each kind are remembered at a time.
const LASTING_MAX: usize = 8192;

impl Lasting {
    /// Whether a statement need not be run.
    pub(crate) fn has(&self, statement: &Statement) -> bool {
        statement.lasts && self.0.get(&Place::of(statement.sql)).is_some_and(|known| known.contains(&statement.params))
    }

    /// Takes note of those that were committed.
    pub(crate) fn committed<'a>(&mut self, statements: impl Iterator<Item = &'a Statement>) {
        for statement in statements.filter(|statement| statement.lasts) {
            let known = self.0.entry(Place::of(statement.sql)).or_default();
            if !known.contains(&statement.params) {
                if known.len() >= LASTING_MAX {
                    known.clear();
                }
                known.insert(statement.params.clone());
            }
        }
    }
}

/// Statements and audit records that are committed together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub(crate) statements: Vec<Statement>,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) audit: Vec<AuditRecord>,
    pub(crate) changes_configuration: bool,
    pub(crate) announcements: Vec<Announcement>,
    pub(crate) is_urgent: bool,
}

impl Changes {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this statement, after those before.
    pub fn statement(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// And this number, added to what it is added to.
    pub fn tally(mut self, tally: Tally) -> Self {
        self.tallies.push(tally);
        self
    }

    /// And this audit record.
    pub fn audit(mut self, record: AuditRecord) -> Self {
        self.audit.push(record);
        self
    }

    /// And all of these changes, after those before.
    pub fn with(mut self, other: Changes) -> Self {
        self.statements.extend(other.statements);
        self.tallies.extend(other.tallies);
        self.audit.extend(other.audit);
        self.announcements.extend(other.announcements);
        self.changes_configuration |= other.changes_configuration;
        self.is_urgent |= other.is_urgent;
        self
    }

    /// Marks that something that callers keep in memory changes: see [`Db::configuration_epoch`](crate::Db::configuration_epoch).
    pub fn configuration(mut self) -> Self {
        self.changes_configuration = true;
        self
    }

    /// Goes before what is not marked so: it revokes, or publishes what is revoked.
    pub fn urgent(mut self) -> Self {
        self.is_urgent = true;
        self
    }

    /// Tells the other nodes once it is committed, and does not when it is not. Alone it is nothing to commit.
    pub fn announce(mut self, announcement: Announcement) -> Self {
        self.announcements.push(announcement);
        self
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.tallies.is_empty() && self.audit.is_empty() && !self.changes_configuration
    }

    /// Whether both engines can keep all values.
    pub(crate) fn check_values(&self) -> Result<(), StoreError> {
        let of_tallies = self.tallies.iter().flat_map(|tally| &tally.params);
        self.statements.iter().flat_map(|statement| &statement.params).chain(of_tallies).try_for_each(Value::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tallies_of_a_transaction_are_one_statement() {
        const ONE: &str = "one";
        const OTHER: &str = "other";
        let tally = |sql, key: i64, add| Tally::new(sql, vec![key.into()], add);
        let all = [tally(ONE, 1, 1), tally(ONE, 2, 1), tally(OTHER, 1, -1), tally(ONE, 1, 2), tally(ONE, 2, -1)];
        let merged: Vec<_> = Tally::merged(all.iter(), 7).collect();
        let expected = |sql, sum: i64| (sql, vec![1.into(), 7.into(), sum.into()]);
        assert_eq!(merged, [expected(ONE, 3), expected(OTHER, -1)]);
    }

    #[test]
    fn only_a_lasting_statement_is_remembered_and_with_its_parameters() {
        const SQL: &str = "INSERT";
        let statement = |key: i64| Statement::new(SQL, vec![key.into()]);
        let mut lasting = Lasting::default();
        lasting.committed([statement(1), statement(2).lasting()].iter());
        assert!(!lasting.has(&statement(1).lasting()));
        assert!(lasting.has(&statement(2).lasting()));
        assert!(!lasting.has(&statement(2)));
        assert!(!lasting.has(&statement(3).lasting()));
    }
}
