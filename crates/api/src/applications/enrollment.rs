//! How certificates of an attached profile are come to through an application (contract syncs §4.5): by the API, which is
//! served; by EST, which is kept and served later; by ACME and SCEP, which are not served yet and say so.

use domain::Error;
use domain::caller::Caller;
use domain::profile::{ApiEnrollment, EstEnrollment, IssuerKind};
use serde::Deserialize;
use serde_json::{Value, json};
use services::application_profiles::EnrollmentChange;

use super::APPLICATIONS;
use super::profiles::{OfAttached, pair_schema};
use crate::app::App;
use crate::error::Result;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, boolean, integer, object, one_of, optional, record, required, text, uuid, verbatim};

/// The routes of this file.
pub(super) fn routes() -> Vec<Route<App>> {
    [served(), not_served()].concat()
}

fn served() -> Vec<Route<App>> {
    const STATE: &str = "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}/enrollment";
    const API: &str = "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}/enrollment/api";
    const EST: &str = "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}/enrollment/est";
    vec![
        of_profile(Endpoint::get(STATE, APPLICATIONS, "Show how a profile of an application is enrolled from"))
            .returns(state_schema())
            .bearer(show),
        of_profile(Endpoint::put(API, APPLICATIONS, "Let a profile of an application be enrolled from by the API"))
            .describe("With autoRenew the server renews by itself what is issued through the application.")
            .body(object([
                optional("autoRenew", boolean().default(json!(false))),
                optional(
                    "renewBeforeDays",
                    integer().at_least(1).at_most(365).nullable().describe("With autoRenew 7 when absent"),
                ),
            ]))
            .returns(pair_schema().with([required("api", api_schema())]))
            .bearer(set_api),
        of_profile(Endpoint::delete(API, APPLICATIONS, "End enrolling by the API"))
            .returns(pair_schema())
            .bearer(|app, caller, input| clear(app, caller, input, EnrollmentChange::NoApi)),
        of_profile(Endpoint::put(EST, APPLICATIONS, "Keep how a profile of an application is enrolled from by EST"))
            .describe("EST itself is not served yet. The passphrase is never shown.")
            .body(object([
                required("passphrase", verbatim().at_least(8).at_most(1024)),
                optional("disableBootstrapCaValidation", boolean().default(json!(false))),
                optional("caChain", text().nullable().describe("PEM, each certificate signed by the one that follows")),
            ]))
            .returns(pair_schema().with([required("est", est_schema())]))
            .bearer(set_est),
        of_profile(Endpoint::delete(EST, APPLICATIONS, "End enrolling by EST"))
            .returns(pair_schema())
            .bearer(|app, caller, input| clear(app, caller, input, EnrollmentChange::NoEst)),
    ]
}

fn not_served() -> Vec<Route<App>> {
    const ACME: &str = "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}/enrollment/acme";
    const REVEAL: &str =
        "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}/enrollment/acme/eab/reveal";
    const ROTATE: &str =
        "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}/enrollment/acme/eab/rotate";
    const SCEP: &str = "/api/v1/cert-manager/applications/{applicationId}/profiles/{profileId}/enrollment/scep";
    const REFUSED: &str = "Always 400: it is not served yet, and nothing is kept that would not work.";
    let mut routes = Vec::new();
    for (path, protocol) in [(ACME, "ACME"), (SCEP, "SCEP")] {
        routes.push(
            of_profile(Endpoint::put(path, APPLICATIONS, "Let a profile of an application be enrolled from otherwise"))
                .describe(REFUSED)
                .body(record(any()))
                .bearer(move |app, caller, input| refuse(app, caller, input, protocol)),
        );
        routes.push(
            of_profile(Endpoint::delete(path, APPLICATIONS, "End enrolling otherwise"))
                .describe("There is nothing to end.")
                .returns(pair_schema())
                .bearer(|app, caller, input| clear(app, caller, input, EnrollmentChange::Nothing)),
        );
    }
    for (path, summary) in [
        (REVEAL, "Show the secret for binding ACME accounts"),
        (ROTATE, "Replace the secret for binding ACME accounts"),
    ] {
        routes.push(
            of_profile(Endpoint::post(path, APPLICATIONS, summary))
                .describe(REFUSED)
                .bearer(|app, caller, input| refuse(app, caller, input, "ACME")),
        );
    }
    routes
}

fn of_profile(endpoint: Endpoint) -> Endpoint {
    endpoint.path([required("applicationId", uuid()), required("profileId", uuid())])
}

fn api_schema() -> Schema {
    object([
        required("id", uuid()),
        required("autoRenew", boolean()),
        required("renewBeforeDays", integer().nullable()),
    ])
}

fn est_schema() -> Schema {
    object([required("id", uuid()), required("disableBootstrapCaValidation", boolean())])
}

fn state_schema() -> Schema {
    pair_schema().with([
        required("api", api_schema().nullable()),
        required("est", est_schema().with([required("estEndpointUrl", text())]).nullable()),
        required("acme", record(any()).nullable()),
        required("scep", record(any()).nullable()),
        required("caType", one_of(&["internal"]).nullable()),
        required("estConfigured", boolean()),
        required("acmeConfigured", boolean()),
        required("scepConfigured", boolean()),
    ])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentApi {
    auto_renew: bool,
    renew_before_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentEst {
    passphrase: String,
    disable_bootstrap_ca_validation: bool,
    ca_chain: Option<String>,
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let of: OfAttached = input.path()?;
    let services = &app.services;
    let (attached, profile) = services.application_enrollment(&caller, of.application_id, of.profile_id).await?;
    let enrollment = &attached.attachment.enrollment;
    let est = enrollment.est.as_ref().map(|est| {
        let mut shown = render_est(est);
        let OfAttached { application_id, profile_id } = of;
        shown["estEndpointUrl"] = format!(
            "{}/.well-known/est/applications/{application_id}/profiles/{profile_id}",
            services.addresses.public_url
        )
        .into();
        shown
    });
    let mut shown = of.pair();
    shown["api"] = enrollment.api.as_ref().map(render_api).into();
    shown["est"] = est.into();
    shown["acme"] = Value::Null;
    shown["scep"] = Value::Null;
    shown["caType"] = match profile.document.issuer {
        IssuerKind::Ca => "internal".into(),
        IssuerKind::SelfSigned => Value::Null,
    };
    shown["estConfigured"] = enrollment.est.is_some().into();
    shown["acmeConfigured"] = false.into();
    shown["scepConfigured"] = false.into();
    Reply::json(&shown)
}

async fn set_api(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let of: OfAttached = input.path()?;
    let SentApi { auto_renew, renew_before_days } = input.body()?;
    let change = EnrollmentChange::Api { auto_renew, renew_before_days };
    let attachment =
        app.services.change_application_enrollment(&caller, of.application_id, of.profile_id, change).await?;
    let mut shown = of.pair();
    shown["api"] = attachment.enrollment.api.as_ref().map(render_api).into();
    Reply::json(&shown)
}

async fn set_est(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let of: OfAttached = input.path()?;
    let SentEst { passphrase, disable_bootstrap_ca_validation, ca_chain } = input.body()?;
    let ca_chain = ca_chain.filter(|chain| !chain.is_empty());
    let change = EnrollmentChange::Est { passphrase, disable_bootstrap_ca_validation, ca_chain };
    let attachment =
        app.services.change_application_enrollment(&caller, of.application_id, of.profile_id, change).await?;
    let mut shown = of.pair();
    shown["est"] = attachment.enrollment.est.as_ref().map(render_est).into();
    Reply::json(&shown)
}

async fn clear(app: App, caller: Caller, mut input: Input, change: EnrollmentChange) -> Result<Reply> {
    let of: OfAttached = input.path()?;
    app.services.change_application_enrollment(&caller, of.application_id, of.profile_id, change).await?;
    Reply::json(&of.pair())
}

async fn refuse(app: App, caller: Caller, mut input: Input, protocol: &'static str) -> Result<Reply> {
    let of: OfAttached = input.path()?;
    // Who may not do it at all is told that, and nothing of what would come of it.
    let nothing = EnrollmentChange::Nothing;
    app.services.change_application_enrollment(&caller, of.application_id, of.profile_id, nothing).await?;
    let message = format!("enrolling by {protocol} is not served yet: enrol by the API, at .../enrollment/api");
    Err(Error::invalid(message).into())
}

fn render_api(api: &ApiEnrollment) -> Value {
    json!({ "id": api.id, "autoRenew": api.auto_renew, "renewBeforeDays": api.renew_before_days })
}

fn render_est(est: &EstEnrollment) -> Value {
    json!({ "id": est.id, "disableBootstrapCaValidation": est.disable_bootstrap_ca_validation })
}
