//! Provisioning: a device and its certificate in one call.

use super::read::Fields;
use crate::app::Call;
use crate::error::Result;
use crate::render;
use crate::rest::Rest;
use domain::{Error, ProfileId};
use serde_json::{Value, json};
use services::registry::{Asked, NewProvision, Repeat};

/// `POST /iot-devices/v1/devices:provision`.
pub(super) async fn provision(call: &Call, rest: &Rest, mut body: Fields) -> Result<Value> {
    let registry = body.text("registry_id");
    let name = body.text("name");
    let profile = body.text("profile_id");
    let csr = body.optional_text("csr");
    let labels = body.texts("labels");
    let topic_aliases = body.texts("topic_aliases");
    body.checks.id("registry_id", &registry);
    body.checks.required_name("name", &name);
    body.checks.labels("labels", &labels);
    let profile = ProfileId::parse(&profile);
    if profile.is_none() {
        body.wrong("profile_id", "uuid", "must be the id of a certificate profile");
    }
    body.finish()?;
    let Some(profile) = profile else { return Err(Error::invalid("there is no profile in the request").into()) };
    let new = NewProvision { registry, name, profile, csr, labels, topic_aliases };
    let made = call.services.provision_device(&asked(call, &new), new).await?;
    let mut answer = json!({
        "device": rest.json(&render::device(made.device.clone(), None)).map_err(Error::failed)?,
        "certificate": made.issued.certificate_pem,
        "certificateChain": made.issued.chain_pem,
    });
    if let Some(key) = made.private_key_pem() {
        answer["privateKey"] = key.into();
    }
    Ok(answer)
}

/// Who asks, and how a repetition is recognised: by what is asked for, however it is written.
fn asked<'a>(call: &'a Call, new: &NewProvision) -> Asked<'a> {
    let said = json!([new.registry, new.name, new.profile, new.csr, new.labels, new.topic_aliases]).to_string();
    let key = call.idempotency_key.as_deref();
    let repeat = key.map(|key| Repeat::new(&call.caller, "devices:provision", key, said.as_bytes()));
    Asked { caller: &call.caller, repeat }
}
