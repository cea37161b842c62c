//! The revocation lists of authorities: those that they sign, what they are like, and those of the authorities outside that
//! certified one of ours. The lists themselves are published for anybody by their ids (`enroll`).

use super::authority_id;
use crate::app::App;
use crate::error::Result;
use crate::render::timestamp;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Field, Schema, boolean, date, integer, list, object, optional, required, text, uuid};
use domain::caller::Caller;
use domain::revocation::{LIST_DELAY_SECONDS_MAX, ListSettings};
use serde::Deserialize;
use serde_json::{Value, json};
use services::foreign_lists::ForeignList;
use services::revocation_lists::RenderedList;

/// The longest request with a list of an authority outside: some two hundred thousand entries.
const FOREIGN_LIST_BYTES_MAX: usize = 16 * 1024 * 1024;

const TAG: &str = "Certificate authorities";

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::get("/api/v1/pki/ca/{caId}/crls", TAG, "Get the revocation lists of an authority")
            .also_at("/api/v1/cert-manager/ca/internal/{caId}/crls")
            .path(id())
            .returns(lists_schema())
            .bearer(crls),
        Endpoint::post(
            "/api/v1/cert-manager/ca/internal/{caId}/crls/publish",
            TAG,
            "Sign the revocation lists of an authority now",
        )
        .describe("Lists are signed by themselves within two seconds of a revocation, and long before they run out.")
        .path(id())
        .returns(lists_schema())
        .bearer(publish),
        Endpoint::get(
            "/api/v1/cert-manager/ca/internal/{caId}/crls/config",
            TAG,
            "Get what was chosen about an authority's revocation lists",
        )
        .path(id())
        .returns(list_settings_schema())
        .bearer(list_settings),
        Endpoint::patch(
            "/api/v1/cert-manager/ca/internal/{caId}/crls/config",
            TAG,
            "Choose what an authority's revocation lists are like",
        )
        .describe(
            "With isDeltaEnabled each complete list names another one, of the changes since a complete list of the last \
             day (RFC 5280 §5.2.4). publishDelaySeconds is for how long revocations are collected before a list is signed; \
             with 0 it is signed within two seconds.",
        )
        .path(id())
        .body(object([
            optional("isDeltaEnabled", boolean()),
            optional("publishDelaySeconds", integer().at_least(0).at_most(LIST_DELAY_SECONDS_MAX.into())),
        ]))
        .returns(list_settings_schema())
        .bearer(choose_list_settings),
        Endpoint::post(
            "/api/v1/cert-manager/ca/internal/{caId}/foreign-crls",
            TAG,
            "Hand in a revocation list of an authority outside",
        )
        .describe(
            "The list of an authority that stands above this one in its chain and is not of this server, in PEM. It is kept \
             for verification in place of an older one of the same issuer, when that issuer signed it.",
        )
        .path(id())
        .body_limit(FOREIGN_LIST_BYTES_MAX)
        .body(object([required("crl", text().at_least(1))]))
        .returns(foreign_schema())
        .bearer(hand_in),
        Endpoint::get(
            "/api/v1/cert-manager/ca/internal/{caId}/foreign-crls",
            TAG,
            "Get the revocation lists of authorities outside that were handed in",
        )
        .path(id())
        .returns(list(foreign_schema()))
        .bearer(foreign_lists),
    ]
}

fn id() -> [Field; 1] {
    [required("caId", text())]
}

fn lists_schema() -> Schema {
    list(object([required("id", uuid()), required("crl", text())]))
}

async fn crls(app: App, caller: Caller, input: Input) -> Result<Reply> {
    shown_lists(&app.services.lists(&caller, authority_id(&input)?).await?)
}

async fn publish(app: App, caller: Caller, input: Input) -> Result<Reply> {
    shown_lists(&app.services.publish_lists(&caller, authority_id(&input)?).await?)
}

fn list_settings_schema() -> Schema {
    object([required("isDeltaEnabled", boolean()), required("publishDelaySeconds", integer())])
}

async fn list_settings(app: App, caller: Caller, input: Input) -> Result<Reply> {
    shown_settings(app.services.list_settings(&caller, authority_id(&input)?).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChosenListSettings {
    is_delta_enabled: Option<bool>,
    publish_delay_seconds: Option<u32>,
}

async fn choose_list_settings(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: ChosenListSettings = input.body()?;
    let before = app.services.list_settings(&caller, id).await?;
    let settings = ListSettings {
        has_delta: body.is_delta_enabled.unwrap_or(before.has_delta),
        delay_seconds: body.publish_delay_seconds.unwrap_or(before.delay_seconds),
    };
    shown_settings(app.services.choose_list_settings(&caller, id, settings).await?)
}

fn shown_settings(settings: ListSettings) -> Result<Reply> {
    Reply::json(&json!({
        "isDeltaEnabled": settings.has_delta, "publishDelaySeconds": settings.delay_seconds,
    }))
}

fn shown_lists(lists: &[RenderedList]) -> Result<Reply> {
    Reply::json(&lists.iter().map(|list| json!({ "id": list.id, "crl": list.crl })).collect::<Vec<_>>())
}

fn foreign_schema() -> Schema {
    object([
        required("id", uuid()),
        required("issuer", text()),
        optional("number", text().nullable().describe("In hex.")),
        required("thisUpdate", date()),
        optional("nextUpdate", date().nullable()),
        required("revokesThisCa", boolean()),
        required("crl", text()),
    ])
}

#[derive(Deserialize)]
struct HandIn {
    crl: String,
}

async fn hand_in(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = authority_id(&input)?;
    let body: HandIn = input.body()?;
    Reply::json(&shown_foreign(&app.services.hand_in_list(&caller, id, &body.crl).await?))
}

async fn foreign_lists(app: App, caller: Caller, input: Input) -> Result<Reply> {
    let lists = app.services.foreign_lists(&caller, authority_id(&input)?).await?;
    Reply::json(&lists.iter().map(shown_foreign).collect::<Vec<_>>())
}

fn shown_foreign(list: &ForeignList) -> Value {
    json!({
        "id": list.id, "issuer": list.issuer, "number": list.number, "thisUpdate": timestamp(list.this_update),
        "nextUpdate": list.next_update.map(timestamp), "revokesThisCa": list.revokes_authority, "crl": list.crl,
    })
}
