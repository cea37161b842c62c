//! What happened, by whom, in the same commit as the change itself.

use domain::caller::Caller;
use domain::{ProjectId, Time};
use serde_json::Value;
use store::AuditRecord;
use uuid::Uuid;

/// The thing that an event is about.
#[derive(Clone, Copy)]
pub(crate) struct Object {
    pub(crate) kind: &'static str,
    pub(crate) id: Option<Uuid>,
}

impl Object {
    pub(crate) fn new(kind: &'static str, id: impl Into<Uuid>) -> Self {
        Self { kind, id: Some(id.into()) }
    }
}

/// One record of the audit.
pub(crate) fn record(
    caller: &Caller,
    project: Option<ProjectId>,
    event: &'static str,
    object: Object,
    detail: &Value,
    at: Time,
) -> AuditRecord {
    AuditRecord {
        at_millis: at.millis(),
        organization: Some(caller.organization.0),
        project: project.map(|id| id.0),
        actor_kind: caller.actor.kind.as_str(),
        actor_id: caller.actor.id,
        actor_method: caller.actor.method,
        actor_credential: caller.actor.credential,
        actor_address: caller.actor.address.map(|address| address.to_string()),
        event,
        object_kind: object.kind,
        object_id: object.id,
        detail: detail.to_string(),
    }
}
