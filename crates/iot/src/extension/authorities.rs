//! Authorities that a registry trusts.

use super::read::Fields;
use super::{fingerprint, page, time};
use crate::app::Call;
use crate::error::Result;
use domain::AuthorityId;
use domain::registry::trust::TrustedAuthority;
use serde_json::{Value, json};
use services::registry::{NewTemplate, NewTrust};

/// `POST …/registries/{registryId}/authorities`.
pub(super) async fn trust(call: &Call, registry: &str, mut body: Fields) -> Result<Value> {
    let own = body.optional_text("ca_id");
    let certificate = body.optional_text("certificate_data");
    let verification = body.optional_text("verification_certificate");
    let mut given = body.object("template");
    let template = NewTemplate { name: given.optional_text("name"), labels: given.texts("labels") };
    body.take_back(given);
    let new = match (own, certificate, verification) {
        (Some(id), None, None) => {
            let id = AuthorityId::parse(&id);
            if id.is_none() {
                body.wrong("ca_id", "uuid", "must be the id of a certificate authority");
            }
            id.map(NewTrust::Own)
        }
        (None, Some(certificate), Some(verification)) => Some(NewTrust::Foreign { certificate, verification }),
        _ => {
            body.wrong("ca_id", "one", "must be given, or certificate_data and verification_certificate must be");
            None
        }
    };
    body.finish()?;
    let Some(new) = new else { return Err(domain::Error::invalid("there is no authority in the request").into()) };
    let trusted = call.services.trust_authority(&call.caller, registry, &new, template).await?;
    Ok(shown(call, &trusted))
}

/// `GET …/registries/{registryId}/authorities`.
pub(super) async fn list(call: &Call, registry: &str, mut query: Fields) -> Result<Value> {
    let asked = query.page();
    query.finish()?;
    let found = call.services.trusted_authorities(&call.caller, registry, &asked).await?;
    let items = found.items.iter().map(|trusted| shown(call, trusted)).collect();
    Ok(page("authorities", items, found.next))
}

fn shown(call: &Call, trusted: &TrustedAuthority) -> Value {
    let mut template = json!({ "name": trusted.template.name });
    if !trusted.template.labels.is_empty() {
        template["labels"] = json!(trusted.template.labels);
    }
    let mut shown = json!({
        "id": trusted.id.as_str(),
        "registryId": trusted.registry.as_str(),
        "certificateData": trusted.certificate_data(),
        "fingerprint": fingerprint(call, &trusted.fingerprints()),
        "template": template,
        "createdAt": time(trusted.created_at),
    });
    if let Some(id) = trusted.authority {
        shown["caId"] = json!(id.to_string());
    }
    shown
}
