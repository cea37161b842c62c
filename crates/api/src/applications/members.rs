//! Who is a member of an application. Members are machine identities: this server keeps no users and no groups, and says so
//! to whoever asks for them.

use domain::caller::Caller;
use domain::{ApplicationId, Error, IdentityId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::application_members::NamedMember;

use super::{APPLICATIONS, OfApplication};
use crate::app::App;
use crate::error::Result;
use crate::render::{timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, date, list, object, record, required, text, uuid};

/// The routes of this file.
pub(super) fn routes() -> Vec<Route<App>> {
    [
        of_identities(),
        others_of_application(USERS),
        others_of_application(GROUPS),
        others_of_project(USERS),
        others_of_project(GROUPS),
    ]
    .concat()
}

fn of_identities() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/cert-manager/applications/{applicationId}/identities";
    const ONE: &str = "/api/v1/cert-manager/applications/{applicationId}/identities/{identityId}";
    let one = |endpoint: Endpoint| {
        endpoint
            .path([required("applicationId", uuid()), required("identityId", uuid())])
            .returns(wrapper("membership", member_schema()))
    };
    let body = || object([required("role", text().at_least(1).describe("admin, operator or auditor"))]);
    vec![
        Endpoint::get(ALL, APPLICATIONS, "List the members of an application")
            .path([required("applicationId", uuid())])
            .returns(object([required("memberships", list(member_schema()))]))
            .bearer(list_all),
        one(Endpoint::post(ONE, APPLICATIONS, "Make an identity a member of an application"))
            .describe(
                "An admin configures the application and its members. An operator issues, renews and revokes certificates \
                 through it and is given their keys. An auditor sees them. None needs to be a member of the project.",
            )
            .body(body())
            .bearer(add),
        one(Endpoint::patch(ONE, APPLICATIONS, "Change the role of a member of an application"))
            .body(body())
            .bearer(change),
        one(Endpoint::delete(ONE, APPLICATIONS, "Remove a member from an application"))
            .returns(object([required("membershipId", uuid()), required("applicationId", uuid())]))
            .bearer(remove),
    ]
}

/// A kind of members that there are none of, and their paths: in an application, and in the default project.
#[derive(Clone, Copy)]
struct Absent {
    one: &'static str,
    many: &'static str,
    parameter: &'static str,
    in_application: [&'static str; 2],
    in_project: [&'static str; 2],
}

const USERS: Absent = Absent {
    one: "user",
    many: "users",
    parameter: "userId",
    in_application: [
        "/api/v1/cert-manager/applications/{applicationId}/users",
        "/api/v1/cert-manager/applications/{applicationId}/users/{userId}",
    ],
    in_project: ["/api/v1/cert-manager/access/users", "/api/v1/cert-manager/access/users/{userId}"],
};

const GROUPS: Absent = Absent {
    one: "group",
    many: "groups",
    parameter: "groupId",
    in_application: [
        "/api/v1/cert-manager/applications/{applicationId}/groups",
        "/api/v1/cert-manager/applications/{applicationId}/groups/{groupId}",
    ],
    in_project: ["/api/v1/cert-manager/access/groups", "/api/v1/cert-manager/access/groups/{groupId}"],
};

const NONE: &str = "This server keeps neither users nor groups: members are machine identities.";

fn others_of_application(kind: Absent) -> Vec<Route<App>> {
    let [all_path, one_path] = kind.in_application;
    let all = |endpoint: Endpoint| endpoint.describe(NONE).path([required("applicationId", uuid())]);
    let one = |endpoint: Endpoint| {
        endpoint.describe(NONE).path([required("applicationId", uuid()), required(kind.parameter, uuid())])
    };
    let missing = move |app, caller, input| missing_in_application(app, caller, input, kind);
    vec![
        all(Endpoint::get(all_path, APPLICATIONS, "List other members of an application: there are none"))
            .returns(object([required("memberships", list(member_schema()))]))
            .bearer(list_none),
        all(Endpoint::post(all_path, APPLICATIONS, "Add other members to an application: always 400"))
            .body(record(any()))
            .bearer(move |app, caller, input| add_none(app, caller, input, kind)),
        one(Endpoint::post(one_path, APPLICATIONS, "Add another member to an application: always 404"))
            .body(record(any()))
            .bearer(missing),
        one(Endpoint::patch(one_path, APPLICATIONS, "Change another member of an application: always 404"))
            .body(record(any()))
            .bearer(missing),
        one(Endpoint::delete(one_path, APPLICATIONS, "Remove another member of an application: always 404"))
            .bearer(missing),
    ]
}

fn others_of_project(kind: Absent) -> Vec<Route<App>> {
    let [all_path, one_path] = kind.in_project;
    let one = |endpoint: Endpoint| endpoint.describe(NONE).path([required(kind.parameter, uuid())]);
    let missing = move |app, caller, input| missing_in_project(app, caller, input, kind);
    vec![
        Endpoint::get(all_path, APPLICATIONS, "List other members of the default project: always 404")
            .describe(NONE)
            .bearer(missing),
        Endpoint::post(all_path, APPLICATIONS, "Add other members to the default project: always 400")
            .describe(NONE)
            .body(record(any()))
            .bearer(move |app, caller, input| add_none_to_project(app, caller, input, kind)),
        one(Endpoint::get(one_path, APPLICATIONS, "Show another member of the default project: always 404"))
            .bearer(missing),
        one(Endpoint::post(one_path, APPLICATIONS, "Add another member to the default project: always 404"))
            .body(record(any()))
            .bearer(missing),
        one(Endpoint::patch(one_path, APPLICATIONS, "Change another member of the default project: always 404"))
            .body(record(any()))
            .bearer(missing),
        one(Endpoint::delete(one_path, APPLICATIONS, "Remove another member of the default project: always 404"))
            .bearer(missing),
    ]
}

impl Absent {
    fn not_kept(self) -> Error {
        Error::invalid(format!("this server keeps no {}: members are machine identities, at .../identities", self.many))
    }

    fn missing(self, input: &Input) -> Error {
        Error::not_found(match input.parameter(self.parameter) {
            "" => format!("this server keeps no {}: members are machine identities", self.many),
            id => format!("there is no {} {id}: members are machine identities", self.one),
        })
    }
}

fn member_schema() -> Schema {
    object([
        required("membershipId", uuid()),
        required("applicationId", uuid()),
        required("actorUserId", uuid().nullable()),
        required("actorIdentityId", uuid().nullable()),
        required("actorGroupId", uuid().nullable()),
        required("role", text()),
        required("customRoleId", uuid().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
        required("details", object([required("name", text()), required("authMethod", text().nullable())])),
    ])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfMember {
    application_id: ApplicationId,
    identity_id: IdentityId,
}

#[derive(Deserialize)]
struct SentRole {
    role: String,
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    let members = app.services.application_members(&caller, application_id).await?;
    Reply::json(&json!({ "memberships": members.iter().map(render).collect::<Vec<_>>() }))
}

async fn add(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { application_id, identity_id } = input.path()?;
    let SentRole { role } = input.body()?;
    reply(&app.services.add_application_member(&caller, application_id, identity_id, &role).await?)
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { application_id, identity_id } = input.path()?;
    let SentRole { role } = input.body()?;
    reply(&app.services.change_application_member(&caller, application_id, identity_id, &role).await?)
}

async fn remove(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfMember { application_id, identity_id } = input.path()?;
    let membership = app.services.remove_application_member(&caller, application_id, identity_id).await?;
    Reply::json(&json!({ "membershipId": membership, "applicationId": application_id }))
}

async fn list_none(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    app.services.application(&caller, application_id).await?;
    Reply::json(&json!({ "memberships": [] }))
}

async fn add_none(app: App, caller: Caller, mut input: Input, kind: Absent) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    app.services.application(&caller, application_id).await?;
    Err(kind.not_kept().into())
}

async fn missing_in_application(app: App, caller: Caller, mut input: Input, kind: Absent) -> Result<Reply> {
    let missing = kind.missing(&input);
    let OfApplication { application_id } = input.path()?;
    app.services.application(&caller, application_id).await?;
    Err(missing.into())
}

async fn add_none_to_project(_: App, _: Caller, _: Input, kind: Absent) -> Result<Reply> {
    Err(kind.not_kept().into())
}

async fn missing_in_project(_: App, _: Caller, input: Input, kind: Absent) -> Result<Reply> {
    Err(kind.missing(&input).into())
}

fn reply(member: &NamedMember) -> Result<Reply> {
    Reply::json(&wrapped("membership", render(member)))
}

fn render(named: &NamedMember) -> Value {
    let member = &named.member;
    json!({
        "membershipId": member.id,
        "applicationId": member.application,
        "actorUserId": null,
        "actorIdentityId": member.identity,
        "actorGroupId": null,
        "role": member.role.as_str(),
        "customRoleId": null,
        "createdAt": timestamp(member.created_at),
        "updatedAt": timestamp(member.updated_at),
        "details": {
            "name": named.identity_name,
            "authMethod": named.has_universal_auth.then_some("universal-auth"),
        },
    })
}
