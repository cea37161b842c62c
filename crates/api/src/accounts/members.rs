//! Who is a member of a project, with which roles (contract §2.6). One set of handlers for three families of paths; the
//! `access` family is always about the default project.

use domain::caller::Caller;
use domain::duration::parse_ttl;
use domain::identity::RoleAssignment;
use domain::role::BuiltInRole;
use domain::{IdentityId, ProjectId, Time};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use services::members::Member;

use super::PROJECTS;
use super::identities::{auth_methods, identity_schema, render};
use crate::app::App;
use crate::error::Result;
use crate::render::{Page, page, timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, boolean, date, integer, list, object, one_of, optional, required, text, uuid};

/// The routes of this file.
pub fn routes() -> Vec<Route<App>> {
    [in_named_project(), in_default_project(), identities_of_project()].concat()
}

fn in_named_project() -> Vec<Route<App>> {
    const ALL: &str = "/api/v2/workspace/{projectId}/identity-memberships";
    const ALL_NEW: &str = "/api/v1/projects/{projectId}/memberships/identities";
    const ONE: &str = "/api/v2/workspace/{projectId}/identity-memberships/{identityId}";
    const ONE_NEW: &str = "/api/v1/projects/{projectId}/memberships/identities/{identityId}";
    let one = |endpoint: Endpoint| {
        endpoint
            .also_at(ONE_NEW)
            .path([required("projectId", uuid()), required("identityId", uuid())])
            .returns(wrapper("identityMembership", membership_schema()))
    };
    vec![
        Endpoint::get(ALL, PROJECTS, "List the members of a project")
            .also_at(ALL_NEW)
            .path([required("projectId", uuid())])
            .query(page(100, 1000))
            .returns(memberships_schema())
            .bearer(list_all),
        one(Endpoint::post(ONE, PROJECTS, "Make an identity a member of a project"))
            .body(new_member_schema())
            .bearer(add),
        one(Endpoint::get(ONE, PROJECTS, "Show a member of a project")).bearer(show),
        one(Endpoint::patch(ONE, PROJECTS, "Change the roles of a member"))
            .body(change_schema())
            .returns(changed_schema())
            .bearer(change),
        one(Endpoint::delete(ONE, PROJECTS, "Remove a member from a project")).bearer(remove),
    ]
}

fn in_default_project() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/cert-manager/access/identities";
    const ONE: &str = "/api/v1/cert-manager/access/identities/{identityId}";
    let one = |endpoint: Endpoint| {
        endpoint.path([required("identityId", uuid())]).returns(wrapper("identityMembership", membership_schema()))
    };
    vec![
        Endpoint::get(ALL, PROJECTS, "List the members of the default project")
            .query(page(100, 1000))
            .returns(memberships_schema())
            .bearer(list_all),
        one(Endpoint::post(ONE, PROJECTS, "Make an identity a member of the default project"))
            .body(new_member_schema())
            .bearer(add),
        one(Endpoint::get(ONE, PROJECTS, "Show a member of the default project")).bearer(show),
        one(Endpoint::patch(ONE, PROJECTS, "Change the roles of a member of the default project"))
            .body(change_schema())
            .returns(changed_schema())
            .bearer(change),
        one(Endpoint::delete(ONE, PROJECTS, "Remove a member from the default project")).bearer(remove),
    ]
}

fn identities_of_project() -> Vec<Route<App>> {
    vec![
        Endpoint::get("/api/v1/projects/{projectId}/identities", PROJECTS, "List the identities of a project")
            .path([required("projectId", uuid())])
            .query(page(100, 1000))
            .returns(object([required("identities", list(identity_schema())), required("totalCount", integer())]))
            .bearer(list_identities),
        Endpoint::get(
            "/api/v1/projects/{projectId}/identities/{identityId}",
            PROJECTS,
            "Show an identity of a project",
        )
        .path([required("projectId", uuid()), required("identityId", uuid())])
        .returns(wrapper("identity", identity_schema()))
        .bearer(show_identity),
    ]
}

/// The path: without a project it means the default one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfMember {
    project_id: Option<ProjectId>,
    identity_id: IdentityId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProject {
    project_id: Option<ProjectId>,
}

#[derive(Deserialize)]
struct Roles {
    roles: Option<Vec<SentRole>>,
    role: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentRole {
    role: String,
    is_temporary: bool,
    temporary_range: Option<String>,
    temporary_access_start_time: Option<Time>,
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let Page { offset, limit } = input.query()?;
    let project = named_or_default(&app, &caller, project_id).await?;
    let (members, total) = app.services.members(&caller, project, offset, limit).await?;
    let members: Vec<Value> = members.iter().map(render_membership).collect();
    Reply::json(&json!({ "identityMemberships": members, "totalCount": total }))
}

async fn add(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { project_id, identity_id } = input.path()?;
    let roles = input.body::<Roles>()?.assignments();
    let project = named_or_default(&app, &caller, project_id).await?;
    reply(&app.services.add_member(&caller, project, identity_id, roles).await?)
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { project_id, identity_id } = input.path()?;
    let project = named_or_default(&app, &caller, project_id).await?;
    reply(&app.services.member(&caller, project, identity_id).await?)
}

/// The reply names the roles once more by themselves: that is where clients read them (C:TF).
async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { project_id, identity_id } = input.path()?;
    let roles = input.body::<Roles>()?.assignments();
    let project = named_or_default(&app, &caller, project_id).await?;
    let member = app.services.change_member(&caller, project, identity_id, roles).await?;
    Reply::json(&json!({ "identityMembership": render_membership(&member), "roles": render_roles(&member) }))
}

async fn remove(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { project_id, identity_id } = input.path()?;
    let project = named_or_default(&app, &caller, project_id).await?;
    reply(&app.services.remove_member(&caller, project, identity_id).await?)
}

async fn list_identities(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let Page { offset, limit } = input.query()?;
    let project = named_or_default(&app, &caller, project_id).await?;
    let (members, total) = app.services.members(&caller, project, offset, limit).await?;
    let identities: Vec<Value> = members.iter().map(|member| render(&member.identity)).collect();
    Reply::json(&json!({ "identities": identities, "totalCount": total }))
}

async fn show_identity(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { project_id, identity_id } = input.path()?;
    let project = named_or_default(&app, &caller, project_id).await?;
    let member = app.services.member(&caller, project, identity_id).await?;
    Reply::json(&wrapped("identity", render(&member.identity)))
}

async fn named_or_default(app: &App, caller: &Caller, named: Option<ProjectId>) -> Result<ProjectId> {
    match named {
        Some(id) => Ok(id),
        None => Ok(app.services.project_for(caller, None).await?),
    }
}

impl Roles {
    /// The roles that were sent; without any, the one that allows nothing.
    fn assignments(self) -> Vec<RoleAssignment> {
        match (self.roles, self.role) {
            (Some(roles), _) => roles.into_iter().map(SentRole::assignment).collect(),
            (None, Some(role)) => vec![RoleAssignment::permanent(role)],
            (None, None) => vec![RoleAssignment::permanent(BuiltInRole::NoAccess.slug())],
        }
    }
}

impl SentRole {
    fn assignment(self) -> RoleAssignment {
        if !self.is_temporary {
            return RoleAssignment::permanent(self.role);
        }
        let seconds = self.temporary_range.as_deref().and_then(range_seconds);
        RoleAssignment { role: self.role, starts_at: self.temporary_access_start_time, range_seconds: seconds }
    }
}

/// Seconds of a range such as `1h`; less than one is none.
fn range_seconds(text: &str) -> Option<i64> {
    parse_ttl(text).ok().map(|millis| millis / 1000).filter(|seconds| *seconds > 0)
}

/// A range in the greatest unit that it is a whole number of.
fn range_text(seconds: i64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds % length == 0).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

fn reply(member: &Member) -> Result<Reply> {
    Reply::json(&wrapped("identityMembership", render_membership(member)))
}

fn render_membership(member: &Member) -> Value {
    let Member { membership, identity, project, .. } = member;
    json!({
        "id": membership.id,
        "identityId": identity.id,
        "projectId": project.id,
        "roles": render_roles(member),
        "identity": {
            "id": identity.id,
            "name": identity.name,
            "hasDeleteProtection": identity.has_delete_protection,
            "authMethods": auth_methods(identity),
            "orgId": identity.organization,
        },
        "project": { "id": project.id, "name": project.name },
        "createdAt": timestamp(membership.created_at),
        "updatedAt": timestamp(membership.updated_at),
    })
}

/// A custom role shows as `custom`, with its own slug beside it.
fn render_roles(member: &Member) -> Vec<Value> {
    let render = |assignment: &RoleAssignment| {
        let mut shown = Map::new();
        shown.insert("id".into(), format!("{}:{}", member.membership.id, assignment.role).into());
        match member.custom_roles.iter().find(|role| role.slug == assignment.role) {
            None => {
                shown.insert("role".into(), assignment.role.as_str().into());
            }
            Some(role) => {
                shown.insert("role".into(), "custom".into());
                shown.insert("customRoleId".into(), role.id.to_string().into());
                shown.insert("customRoleName".into(), role.name.as_str().into());
                shown.insert("customRoleSlug".into(), role.slug.as_str().into());
            }
        }
        shown.insert("isTemporary".into(), assignment.starts_at.is_some().into());
        if let (Some(start), Some(seconds)) = (assignment.starts_at, assignment.range_seconds) {
            shown.insert("temporaryMode".into(), "relative".into());
            shown.insert("temporaryRange".into(), range_text(seconds).into());
            shown.insert("temporaryAccessStartTime".into(), timestamp(start).into());
            shown.insert("temporaryAccessEndTime".into(), timestamp(start.plus_seconds(seconds)).into());
        }
        Value::Object(shown)
    };
    member.membership.roles.iter().map(render).collect()
}

fn sent_roles_schema() -> Schema {
    fn is_temporary(role: &Value) -> bool {
        role["isTemporary"] == true
    }
    let role = object([
        required("role", text().at_least(1)),
        optional("isTemporary", boolean().default(json!(false))),
        optional("temporaryMode", text().nullable()),
        optional("temporaryRange", text().nullable().describe("Such as 1h or 7d")),
        optional("temporaryAccessStartTime", date().nullable()),
    ])
    .rule(&["temporaryMode"], "Must be relative for a temporary role", |role| {
        !is_temporary(role) || role["temporaryMode"] == "relative"
    })
    .rule(&["temporaryRange"], "Must be a duration of at least a second, such as 1h, for a temporary role", |role| {
        !is_temporary(role) || role["temporaryRange"].as_str().and_then(range_seconds).is_some()
    })
    .rule(&["temporaryAccessStartTime"], "Must be a date for a temporary role", |role| {
        !is_temporary(role) || role["temporaryAccessStartTime"].is_i64()
    });
    list(role).at_least(1).at_most(50)
}

fn new_member_schema() -> Schema {
    object([
        optional("roles", sent_roles_schema()),
        optional("role", text().at_least(1).describe("One role, when roles is absent; no-access when both are")),
    ])
}

fn change_schema() -> Schema {
    object([required("roles", sent_roles_schema())])
}

fn roles_schema() -> Schema {
    list(object([
        required("id", text()),
        required("role", text()),
        optional("customRoleId", uuid()),
        optional("customRoleName", text()),
        optional("customRoleSlug", text()),
        required("isTemporary", boolean()),
        optional("temporaryMode", one_of(&["relative"])),
        optional("temporaryRange", text()),
        optional("temporaryAccessStartTime", date()),
        optional("temporaryAccessEndTime", date()),
    ]))
}

fn membership_schema() -> Schema {
    object([
        required("id", uuid()),
        required("identityId", uuid()),
        required("projectId", uuid()),
        required("roles", roles_schema()),
        required("identity", identity_schema().without(&["createdAt", "updatedAt", "role", "metadata", "identity"])),
        required("project", object([required("id", uuid()), required("name", text())])),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

fn memberships_schema() -> Schema {
    object([required("identityMemberships", list(membership_schema())), required("totalCount", integer())])
}

fn changed_schema() -> Schema {
    object([required("identityMembership", membership_schema()), required("roles", roles_schema())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shown_in_its_greatest_whole_unit() {
        for (text, seconds, shown) in [
            ("1h", 3600, "1h"),
            ("90m", 5400, "90m"),
            ("2 days", 172_800, "2d"),
            ("1500", 1, "1s"),
            ("1w", 604_800, "7d"),
        ] {
            assert_eq!(range_seconds(text), Some(seconds), "{text}");
            assert_eq!(range_text(seconds), shown);
        }
        for text in ["", "0h", "-1h", "999", "1 fortnight"] {
            assert_eq!(range_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_temporary_role_needs_its_times() {
        let schema = new_member_schema();
        for (body, is_right) in [
            (json!({}), true),
            (json!({"role": "viewer"}), true),
            (json!({"roles": [{"role": "viewer"}]}), true),
            (
                json!({"roles": [{"role": "viewer", "isTemporary": false, "temporaryMode": "", "temporaryRange": "",
                    "temporaryAccessStartTime": "0001-01-01T00:00:00Z"}]}),
                true,
            ),
            (
                json!({"roles": [{"role": "viewer", "isTemporary": true, "temporaryMode": "relative",
                    "temporaryRange": "1h", "temporaryAccessStartTime": "2030-01-01T00:00:00Z"}]}),
                true,
            ),
            (json!({"roles": []}), false),
            (json!({"roles": [{}]}), false),
            (json!({"roles": [{"role": "viewer", "isTemporary": true}]}), false),
            (
                json!({"roles": [{"role": "viewer", "isTemporary": true, "temporaryMode": "relative",
                    "temporaryRange": "soon", "temporaryAccessStartTime": "2030-01-01"}]}),
                false,
            ),
        ] {
            assert_eq!(schema.check(body.clone()).is_ok(), is_right, "{body}");
        }
    }
}
