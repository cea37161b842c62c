//! States of certificates, and all that is known of them.

use super::read::Fields;
use super::{fingerprint, page, time};
use crate::app::Call;
use crate::error::Result;
use domain::Error;
use domain::registry::credential::CertificateState;
use domain::registry::{Owner, OwnerKind};
use serde_json::{Value, json};
use services::registry::{EXPIRING_DAYS, EXPIRING_DAYS_MAX, FullCertificate};

/// How much of a certificate is shown.
#[derive(Clone, Copy)]
enum View {
    Basic,
    Full,
}

/// How much is asked for.
fn view_of(query: &mut Fields, otherwise: View) -> View {
    match query.text("view").as_str() {
        "" => otherwise,
        "FULL" | "1" => View::Full,
        "BASIC" | "0" => View::Basic,
        _ => {
            query.wrong("view", "enum", "must be BASIC or FULL");
            otherwise
        }
    }
}

/// `GET …/certificates?view=`.
pub(super) async fn list(call: &Call, owner: &Owner, mut query: Fields) -> Result<Value> {
    let view = view_of(&mut query, View::Basic);
    query.checks.id("id", owner.id());
    query.finish()?;
    let found = call.services.full_certificates(&call.caller, owner).await?;
    Ok(page("certificates", found.iter().map(|full| shown(call, full, view)).collect(), String::new()))
}

/// `PATCH …/certificates/{fingerprint}`.
pub(super) async fn set_state(call: &Call, owner: &Owner, name: &str, mut body: Fields) -> Result<Value> {
    let state = CertificateState::parse(&body.text("state"));
    if state.is_none() {
        body.wrong("state", "enum", "must be ACTIVE, INACTIVE or REVOKED");
    }
    body.checks.id("id", owner.id());
    body.checks.fingerprint("fingerprint", name);
    body.finish()?;
    let Some(state) = state else { return Err(Error::invalid("there is no state in the request").into()) };
    let full = call.services.set_certificate_state(&call.caller, owner, name, state).await?;
    Ok(shown(call, &full, View::Full))
}

/// `GET …/registries/{registryId}/certificates:expiring`. The end is what it is asked for: all is shown unless less is wanted.
pub(super) async fn expiring(call: &Call, registry: &str, mut query: Fields) -> Result<Value> {
    let (asked, view) = (query.page(), view_of(&mut query, View::Full));
    let days = query.number("days").map_or(Some(EXPIRING_DAYS), |days| u32::try_from(days).ok());
    let days = days.filter(|days| (1..=EXPIRING_DAYS_MAX).contains(days)).unwrap_or_else(|| {
        query.wrong("days", "range", &format!("must be between 1 and {EXPIRING_DAYS_MAX}"));
        EXPIRING_DAYS
    });
    query.finish()?;
    let found = call.services.expiring_certificates(&call.caller, registry, days, &asked).await?;
    let items = found.items.iter().map(|full| shown(call, full, view)).collect();
    Ok(page("certificates", items, found.next))
}

fn shown(call: &Call, full: &FullCertificate, view: View) -> Value {
    let certificate = &full.certificate;
    let owner = match certificate.owner.kind() {
        OwnerKind::Registry => "registryId",
        OwnerKind::Device => "deviceId",
        OwnerKind::Broker => "brokerId",
    };
    let mut shown = json!({
        owner: certificate.owner.id(),
        "fingerprint": fingerprint(call, &certificate.fingerprint),
        "certificateData": certificate.certificate_data,
        "createdAt": time(certificate.created_at),
    });
    if let View::Full = view {
        shown["state"] = json!(full.state.as_str());
        shown["notAfter"] = time(certificate.not_after);
        shown["issuedBy"] = json!(full.issued_by);
    }
    shown
}
