//! Which profiles an application has.

use domain::caller::Caller;
use domain::{ApplicationId, ProfileId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::application_profiles::AttachedProfile;

use super::{APPLICATIONS, OfApplication, PROFILES_MAX};
use crate::app::App;
use crate::error::Result;
use crate::render::timestamp;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, date, list, object, required, text, uuid};

/// The routes of this file.
pub(super) fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/cert-manager/applications/{applicationId}/profiles";
    const ONE: &str = "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}";
    let all = |endpoint: Endpoint| {
        endpoint
            .path([required("applicationId", uuid())])
            .returns(object([required("profiles", list(attached_schema()))]))
    };
    vec![
        all(Endpoint::get(ALL, APPLICATIONS, "List the profiles of an application")).bearer(list_all),
        all(Endpoint::post(ALL, APPLICATIONS, "Attach profiles to an application"))
            .describe("Its operators issue from them then, so it takes somebody who may issue from them, too.")
            .body(object([required("profileIds", list(uuid()).at_least(1).at_most(PROFILES_MAX))]))
            .bearer(attach),
        Endpoint::delete(ONE, APPLICATIONS, "Detach a profile from an application")
            .describe(
                "Certificates that were made through the application stay as they are, and are renewed as before.",
            )
            .path([required("applicationId", uuid()), required("profileId", uuid())])
            .returns(pair_schema())
            .bearer(detach),
    ]
}

/// Which attachment a reply is about.
pub(super) fn pair_schema() -> Schema {
    object([required("applicationId", uuid()), required("profileId", uuid())])
}

fn attached_schema() -> Schema {
    pair_schema().with([
        required("profileSlug", text()),
        required("profileDescription", text().nullable()),
        required("apiConfigId", uuid().nullable()),
        required("estConfigId", uuid().nullable()),
        required("acmeConfigId", uuid().nullable()),
        required("scepConfigId", uuid().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attach {
    profile_ids: Vec<ProfileId>,
}

/// The path of a profile that is attached to an application.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OfAttached {
    pub(super) application_id: ApplicationId,
    pub(super) profile_id: ProfileId,
}

impl OfAttached {
    /// Which attachment that is, in a reply.
    pub(super) fn pair(self) -> Value {
        json!({ "applicationId": self.application_id, "profileId": self.profile_id })
    }
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    reply(&app.services.attached_profiles(&caller, application_id).await?)
}

async fn attach(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfApplication { application_id } = input.path()?;
    let Attach { profile_ids } = input.body()?;
    reply(&app.services.attach_profiles(&caller, application_id, &profile_ids).await?)
}

async fn detach(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let of: OfAttached = input.path()?;
    app.services.detach_profile(&caller, of.application_id, of.profile_id).await?;
    Reply::json(&of.pair())
}

fn reply(attached: &[AttachedProfile]) -> Result<Reply> {
    let shown: Vec<Value> = attached.iter().map(render).collect();
    Reply::json(&json!({ "profiles": shown }))
}

fn render(attached: &AttachedProfile) -> Value {
    let AttachedProfile { attachment, slug, description } = attached;
    json!({
        "applicationId": attachment.application,
        "profileId": attachment.profile,
        "profileSlug": slug,
        "profileDescription": description,
        "apiConfigId": attachment.enrollment.api.as_ref().map(|api| api.id),
        "estConfigId": attachment.enrollment.est.as_ref().map(|est| est.id),
        "acmeConfigId": null,
        "scepConfigId": null,
        "createdAt": timestamp(attachment.created_at),
        "updatedAt": timestamp(attachment.updated_at),
    })
}
