//! Renewal of certificates, now and by themselves (contract §6.5, 6.6).

use super::shapes::{issued, issued_schema};
use crate::app::App;
use crate::error::Result;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{boolean, boolean_or_text, integer, object, optional, required, text, uuid};
use domain::CertificateId;
use domain::Error;
use domain::caller::Caller;
use serde::Deserialize;
use serde_json::{Value, json};
use services::renew::PlanChange;

const TAG: &str = "Certificates";

pub(super) fn routes() -> Vec<Route<App>> {
    let body = || object([optional("removeRootsFromChain", boolean_or_text())]);
    vec![
        Endpoint::post("/api/v3/pki/certificates/{certificateId}/renew", TAG, "Renew a certificate")
            .describe("Makes a certificate like this one with a new key. This one stays valid until its end.")
            .path([required("certificateId", uuid())])
            .body(body())
            .returns(issued_schema())
            .bearer(|app, caller, input| renew(app, caller, input, false)),
        Endpoint::post("/api/v1/cert-manager/certificates/{certificateId}/renew", TAG, "Renew a certificate by its id")
            .describe("Makes a certificate like this one with a new key. This one stays valid until its end.")
            .path([required("certificateId", uuid())])
            .body(body())
            .returns(issued_schema().with([required("certificateRequestId", uuid())]))
            .bearer(|app, caller, input| renew(app, caller, input, true)),
        Endpoint::patch("/api/v3/pki/certificates/{certificateId}/config", TAG, "Change a certificate's renewal")
            .also_at("/api/v1/cert-manager/certificates/{certificateId}/config")
            .describe("With renewBeforeDays the server renews the certificate by itself so many days before its end.")
            .path([required("certificateId", uuid())])
            .body(
                object([
                    optional("renewBeforeDays", integer().at_least(1).at_most(30)),
                    optional("enableAutoRenewal", boolean()),
                ])
                .rule(
                    &[],
                    "renewBeforeDays cannot be combined with enableAutoRenewal: false",
                    days_or_off,
                ),
            )
            .returns(object([required("message", text()), optional("renewBeforeDays", integer())]))
            .bearer(configure),
    ]
}

fn days_or_off(body: &Value) -> bool {
    !(body.get("renewBeforeDays").is_some() && body.get("enableAutoRenewal") == Some(&json!(false)))
}

fn certificate_id(input: &Input) -> Result<CertificateId> {
    let text = input.parameter("certificateId");
    let missing = || Error::not_found(format!("there is no certificate {text}"));
    Ok(CertificateId::parse(text).ok_or_else(missing)?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Renew {
    #[serde(default)]
    remove_roots_from_chain: bool,
}

async fn renew(app: App, caller: Caller, mut input: Input, with_request: bool) -> Result<Reply> {
    let id = certificate_id(&input)?;
    let body: Renew = input.body()?;
    let renewed = app.services.renew(&caller, id).await?;
    let mut shown = issued(&renewed, body.remove_roots_from_chain);
    if with_request {
        shown["certificateRequestId"] = json!(renewed.id);
    }
    let reply = Reply::json(&shown)?;
    Ok(if renewed.private_key.is_some() { reply.no_store() } else { reply })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configure {
    renew_before_days: Option<u32>,
    enable_auto_renewal: Option<bool>,
}

async fn configure(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = certificate_id(&input)?;
    let body: Configure = input.body()?;
    let change = match (body.renew_before_days, body.enable_auto_renewal) {
        (Some(days), _) => PlanChange::RenewBefore { days },
        (None, Some(false)) => PlanChange::Never,
        (None, Some(true) | None) => PlanChange::Nothing,
    };
    Reply::json(&match app.services.plan_renewal(&caller, id, change).await? {
        Some(days) => json!({ "message": "The certificate is renewed by itself", "renewBeforeDays": days }),
        None => json!({ "message": "The certificate is not renewed by itself" }),
    })
}
