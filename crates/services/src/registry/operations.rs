//! Operations: every change keeps one in its own commit, and a repeated request is answered with it.

use super::folders::may;
use super::page::{Page, PageRequest};
use crate::audit::{self, Object};
use crate::context::{Context, failed};
use crate::login::sha256;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::operation::{KEPT_DAYS, Operation, Outcome, REPEATABLE_MILLIS};
use domain::registry::{AccessEnd, OperationId, Owner};
use domain::{Error, ProjectId, Result, Time};
use serde_json::Value;
use store::{Changes, StoreError};

/// How often a change is decided again when somebody else was faster.
pub(super) const ATTEMPTS: u32 = 8;

/// Who asks for a change, and how a repetition of it is recognised.
pub struct Asked<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The idempotency key, when there is one.
    pub repeat: Option<Repeat>,
}

/// How a repeated request is recognised.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    scope: [u8; 32],
    digest: [u8; 32],
}

impl Repeat {
    /// The repetition of a request of this caller to this method with this idempotency key.
    pub fn new(caller: &Caller, method: &str, key: &str, request: &[u8]) -> Self {
        let principal = caller.actor.id.map(|id| id.to_string()).unwrap_or_default();
        let scope = [principal.as_str(), method, key].map(|part| format!("{}:{part}", part.len())).concat();
        Self { scope: sha256(scope.as_bytes()), digest: sha256(request) }
    }
}

/// Why a change was not made.
pub(super) enum Setback {
    /// Somebody else was faster; it is decided again.
    Stale,
    /// A constraint of the schema holds against it.
    Conflict(String),
    /// It is refused, or we failed.
    Refused(Error),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stale(_) => Self::Stale,
            StoreError::Conflict { constraint } => Self::Conflict(constraint),
            error => Self::Refused(failed(error)),
        }
    }
}

impl Setback {
    /// What the caller is told; `conflict` says it of a constraint.
    pub(super) fn into_error(self, conflict: impl FnOnce(&str) -> Option<Error>) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Stale => Error::conflict("it is being changed by somebody else at this moment; try again"),
            Self::Conflict(constraint) => {
                conflict(&constraint).unwrap_or_else(|| failed(StoreError::Conflict { constraint }))
            }
        }
    }
}

/// Decides and commits again for as long as somebody else was faster, within bounds.
macro_rules! decide_again {
    ($attempt:expr) => {{
        let mut left = $crate::registry::operations::ATTEMPTS;
        loop {
            match $attempt.await {
                Err($crate::registry::operations::Setback::Stale) if left > 0 => left -= 1,
                done => break done,
            }
        }
    }};
}
pub(super) use decide_again;

/// A change that was decided: what is committed besides the operation itself.
pub(super) struct Decided {
    /// The project.
    pub(super) project: ProjectId,
    /// What came of it.
    pub(super) outcome: Outcome,
    /// When it began.
    pub(super) began: Time,
    /// The event in the audit.
    pub(super) event: &'static str,
    /// The kind of what it is about.
    pub(super) kind: &'static str,
    /// What the audit says of it.
    pub(super) detail: Value,
    /// The statements.
    pub(super) changes: Changes,
    /// Whose access ends with it.
    pub(super) ends: Vec<AccessEnd>,
}

/// A change that was decided and that answers with what it changed: there is no operation of it.
pub(super) struct Recorded {
    /// The project.
    pub(super) project: ProjectId,
    /// The event in the audit.
    pub(super) event: &'static str,
    /// The kind of what it is about.
    pub(super) kind: &'static str,
    /// What the audit says of it.
    pub(super) detail: Value,
    /// The statements.
    pub(super) changes: Changes,
    /// Whose access ends with it.
    pub(super) ends: Vec<AccessEnd>,
}

impl Context {
    /// Commits a change together with its audit record, and closes the sessions that it ends.
    pub(super) async fn record_change(&self, caller: &Caller, recorded: Recorded) -> Result<(), Setback> {
        let now = self.now();
        let object = Object { kind: recorded.kind, id: None };
        let record = audit::record(caller, Some(recorded.project), recorded.event, object, &recorded.detail, now);
        let mut changes = recorded.changes.audit(record);
        for end in &recorded.ends {
            changes = changes.with(store::registry::access_end::insert(self.new_id(), end, now));
        }
        self.db.commit(changes).await?;
        self.end_access(&recorded.ends);
        Ok(())
    }

    /// The operation that an earlier request with the same idempotency key made.
    pub(super) async fn repeated(&self, asked: &Asked<'_>) -> Result<Option<Operation>> {
        let Some(repeat) = asked.repeat else { return Ok(None) };
        let since = self.now().plus_millis(-REPEATABLE_MILLIS);
        let found = store::registry::operations::by_key(&self.db, repeat.scope, since).await.map_err(failed)?;
        let Some((operation, digest)) = found else { return Ok(None) };
        if digest != repeat.digest {
            return Err(Error::wrong_state("this idempotency key was used for another request; take a new one"));
        }
        may(asked.caller, operation.project, Action::WriteRegistry, || Error::not_found("there is no such operation"))?;
        Ok(Some(operation))
    }

    /// The operation of a change, and all that is committed with it: the change, the operation and the audit record.
    pub(super) fn operation_of(&self, asked: &Asked<'_>, decided: Decided) -> (Operation, Changes) {
        let now = self.now();
        let actor = asked.caller.actor.id.map_or_else(|| "chancery".to_owned(), |id| id.to_string());
        let operation = Operation {
            id: OperationId::from_random(self.random.octets()),
            project: decided.project,
            outcome: decided.outcome,
            created_by: actor,
            created_at: decided.began,
            modified_at: now,
        };
        let object = Object { kind: decided.kind, id: None };
        let record = audit::record(asked.caller, Some(decided.project), decided.event, object, &decided.detail, now);
        let mut changes = Changes::new();
        if let Some(repeat) = asked.repeat {
            let before = now.plus_millis(-REPEATABLE_MILLIS);
            changes = changes.statement(store::registry::operations::forget_key(repeat.scope, before));
        }
        let repeat = asked.repeat.map(|repeat| (repeat.scope, repeat.digest));
        changes = changes
            .with(decided.changes)
            .statement(store::registry::operations::insert(&operation, repeat))
            .audit(record);
        for end in &decided.ends {
            let id = self.new_id();
            self.state.registry.own_ends.note(id);
            changes = changes.with(store::registry::access_end::insert(id, end, now));
        }
        (operation, changes)
    }

    /// Commits a change together with its operation and its audit record, and closes the sessions that it ends.
    pub(super) async fn carry_out(&self, asked: &Asked<'_>, decided: Decided) -> Result<Operation, Setback> {
        let ends = decided.ends.clone();
        let (operation, changes) = self.operation_of(asked, decided);
        match self.db.commit(changes).await {
            Ok(()) => {
                self.end_access(&ends);
                Ok(operation)
            }
            // Perhaps the same request came twice at once and the other one was faster: by its key, or by what it made.
            Err(StoreError::Conflict { constraint }) if asked.repeat.is_some() => match self.repeated(asked).await? {
                Some(operation) => Ok(operation),
                None if constraint == store::registry::operations::UNIQUE_IDEMPOTENCY => Err(Setback::Stale),
                None => Err(Setback::Conflict(constraint)),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets operations that were kept long enough.
    #[compiled_here]
    pub async fn prune_registry(&self) -> Result<()> {
        let before = self.now().plus_seconds(-KEPT_DAYS * 24 * 3600);
        self.commit(Changes::new().statement(store::registry::operations::prune(before))).await
    }

    /// An operation of a project that the caller may see.
    #[compiled_here]
    pub async fn registry_operation(&self, caller: &Caller, id: &str) -> Result<Operation> {
        let unknown = || Error::not_found(format!("there is no operation {id}"));
        let operation = store::registry::operations::by_id(&self.db, id).await.map_err(failed)?.ok_or_else(unknown)?;
        may(caller, operation.project, Action::ReadRegistry, unknown)?;
        Ok(operation)
    }

    /// The operations of a registry, device or broker, newest first. With a `name` there are none unless it is that of the
    /// resource: a filter is by the resource's name alone (contract §2.4).
    #[compiled_here]
    pub async fn registry_operations(
        &self,
        caller: &Caller,
        owner: &Owner,
        name: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Operation>> {
        let state = self.owner_state(caller, owner, Action::ReadRegistry).await?;
        let list = format!("operations of {owner}");
        // Nothing is younger than the end of time.
        let (number, id) = page.after(&list, (i64::MAX, "~"))?;
        if name.is_some_and(|name| name != state.name) {
            return Ok(Page { items: Vec::new(), next: String::new() });
        }
        let before = (Time::from_millis(number), id);
        let rows = store::registry::operations::page(&self.db, owner.id(), &before, page.rows()).await;
        Ok(page.page(&list, rows.map_err(failed)?, |operation| (operation.created_at.millis(), operation.id.as_str())))
    }
}
