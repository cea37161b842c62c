//! `GET /iot-devices/v1/exports?kind=registries|devices|brokers&folderId=…|registryId=…&pageToken=…`: objects with their
//! certificates as the vendor's export has them (contract §9), which is also what an import takes.
//!
//! A certificate that was imported has the vendor's own fingerprint here. `state` is added where the vendor has none:
//! at a certificate that gives no access.

use crate::app::Call;
use crate::check::Checks;
use crate::error::Result;
use crate::render::{self, Shown};
use crate::rest::write;
use axum::extract::Query;
use axum::http::Uri;
use domain::registry::credential::{CertificateState, RegisteredCertificate};
use domain::{Error, Reason, Refusal};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use services::registry::{Exported, Page, PageRequest};
use std::collections::HashMap;

/// How many objects a page has.
const PAGE: u32 = 100;

/// What is exported.
enum Listed {
    Registries,
    Devices,
    Brokers,
}

/// Answers a call.
pub(super) async fn export(call: &Call, uri: &Uri, pool: &DescriptorPool) -> Result<Value> {
    let (listed, of, page) = read(uri)?;
    let shown = Shown::of(call);
    let (services, caller) = (&call.services, &call.caller);
    let (key, page) = match listed {
        Listed::Registries => {
            let page = services.exported_registries(caller, &of, &page).await?;
            let certificate = |one| shown.registry_certificate(one);
            ("registries", rendered(pool, page, render::registry, certificate)?)
        }
        Listed::Devices => {
            let page = services.exported_devices(caller, &of, &page).await?;
            let certificate = |one| shown.device_certificate(one);
            ("devices", rendered(pool, page, |device| render::device(device, None), certificate)?)
        }
        Listed::Brokers => {
            let page = services.exported_brokers(caller, &of, &page).await?;
            let certificate = |one| shown.broker_certificate(one);
            ("brokers", rendered(pool, page, render::broker, certificate)?)
        }
    };
    let mut answer = json!({ key: page.items });
    if !page.next.is_empty() {
        answer["nextPageToken"] = page.next.into();
    }
    Ok(answer)
}

/// What is exported, of which folder or registry, and from where on.
fn read(uri: &Uri) -> Result<(Listed, String, PageRequest), Refusal> {
    let query = Query::<HashMap<String, String>>::try_from_uri(uri);
    let Query(mut query) = query.map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
    let mut take = |proto: &str, json: &str| query.remove(json).or_else(|| query.remove(proto)).unwrap_or_default();
    let (kind, token) = (take("kind", "kind"), take("page_token", "pageToken"));
    let (folder, registry) = (take("folder_id", "folderId"), take("registry_id", "registryId"));
    let mut checks = Checks::new();
    let (listed, field, of, other) = match kind.as_str() {
        "devices" => (Listed::Devices, "registry_id", registry, ("folder_id", folder)),
        "brokers" => (Listed::Brokers, "folder_id", folder, ("registry_id", registry)),
        "registries" => (Listed::Registries, "folder_id", folder, ("registry_id", registry)),
        _ => {
            checks.wrong("kind", "enum", "must be registries, devices or brokers");
            (Listed::Registries, "folder_id", folder, ("registry_id", String::new()))
        }
    };
    checks.id(field, &of);
    checks.page_token("page_token", &token);
    if !other.1.is_empty() {
        checks.wrong(other.0, "unknown", &format!("is not for {kind}"));
    }
    for name in query.keys() {
        checks.wrong(name.as_str(), "unknown", "is no parameter of this call");
    }
    match checks.finish() {
        Ok(()) => Ok((listed, of, PageRequest { size: PAGE, token })),
        Err(Error::Refused(refusal)) => Err(*refusal),
        Err(Error::Failed(_)) => Err(Refusal::new(Reason::Malformed, "the query cannot be read")),
    }
}

/// The objects of a page as messages, with the names of `proto/`.
fn rendered<T, M: Message + Name, C: Message + Name>(
    pool: &DescriptorPool,
    page: Page<Exported<T>>,
    object: impl Fn(T) -> M,
    certificate: impl Fn(RegisteredCertificate) -> C,
) -> Result<Page<Value>, Error> {
    let of_certificate = |one: RegisteredCertificate| {
        let (imported, state) = (one.fingerprint.imported.clone(), one.state);
        let mut json = json_of(pool, &certificate(one))?;
        if let Some(imported) = imported {
            json["fingerprint"] = imported.into();
        }
        if state != CertificateState::Active {
            json["state"] = state.as_str().into();
        }
        Ok(json)
    };
    let of_item = |item: Exported<T>| {
        let certificates = item.certificates.into_iter().map(of_certificate).collect::<Result<Vec<_>, Error>>()?;
        let mut json = json_of(pool, &object(item.object))?;
        json["certificates"] = certificates.into();
        Ok(json)
    };
    let items = page.items.into_iter().map(of_item).collect::<Result<Vec<_>, Error>>()?;
    Ok(Page { items, next: page.next })
}

fn json_of<M: Message + Name>(pool: &DescriptorPool, message: &M) -> Result<Value, Error> {
    let descriptor = pool.get_message_by_name(&M::full_name());
    let descriptor = descriptor.ok_or_else(|| Error::failed(format!("proto/ lacks {}", M::full_name())))?;
    let dynamic = DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice());
    let dynamic = dynamic.map_err(|error| Error::failed(error.to_string()))?;
    Ok(in_proto_names(&descriptor, write::message(&dynamic).map_err(Error::failed)?))
}

/// The same object with its members called as in `proto/`, as the vendor's tools print it.
fn in_proto_names(descriptor: &MessageDescriptor, json: Value) -> Value {
    let Value::Object(mut object) = json else { return json };
    let mut renamed = Map::new();
    for field in descriptor.fields() {
        let Some(value) = object.remove(field.json_name()) else { continue };
        let value = match field.kind() {
            Kind::Message(inner) if !field.is_map() => in_proto_names(&inner, value),
            _ => value,
        };
        renamed.insert(field.name().to_owned(), value);
    }
    Value::Object(renamed)
}
