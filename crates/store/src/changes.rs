//! What a use case wants to be true, as one value: statements with expectations, and the audit records that tell of them.
//!
//! A [`Changes`] is kept whole or not at all. It reads nothing and decides nothing.

use crate::{Announcement, StoreError, Value};
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
}

impl Statement {
    /// A statement that may change any number of rows.
    pub fn new(sql: &'static str, params: Vec<Value>) -> Self {
        Self { sql, params, expect: Expect::Any }
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

/// Statements and audit records that are committed together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub(crate) statements: Vec<Statement>,
    pub(crate) audit: Vec<AuditRecord>,
    pub(crate) changes_configuration: bool,
    pub(crate) announcements: Vec<Announcement>,
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

    /// And this audit record.
    pub fn audit(mut self, record: AuditRecord) -> Self {
        self.audit.push(record);
        self
    }

    /// And all of these changes, after those before.
    pub fn with(mut self, other: Changes) -> Self {
        self.statements.extend(other.statements);
        self.audit.extend(other.audit);
        self.announcements.extend(other.announcements);
        self.changes_configuration |= other.changes_configuration;
        self
    }

    /// Marks that something that callers keep in memory changes: see [`Db::configuration_epoch`](crate::Db::configuration_epoch).
    pub fn configuration(mut self) -> Self {
        self.changes_configuration = true;
        self
    }

    /// Tells the other nodes once it is committed, and does not when it is not. Alone it is nothing to commit.
    pub fn announce(mut self, announcement: Announcement) -> Self {
        self.announcements.push(announcement);
        self
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.audit.is_empty() && !self.changes_configuration
    }

    /// Whether both engines can keep all values.
    pub(crate) fn check_values(&self) -> Result<(), StoreError> {
        self.statements.iter().flat_map(|statement| &statement.params).try_for_each(Value::check)
    }
}
