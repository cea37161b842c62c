//! What goes beyond the vendor's API, by REST alone: authorities that a registry trusts, provisioning, states of certificates
//! and what else is known of them, the report of those that end soon, hooks for brokers outside, imports and exports.
//!
//! These calls stand beside the transcoder, with the same tokens, the same errors and the same paging. They answer the
//! resource itself, not an operation. The vendor's own shape stays closed: what is added to certificates is shown with
//! `?view=FULL` only.

mod authorities;
mod certificates;
mod export;
mod hooks;
mod import;
mod provision;
mod questions;
mod read;

use crate::app::{App, Call};
use crate::error::{Error, Result, request_id};
use crate::rest::{Rest, percent_decoded, whole, whole_up_to, written};
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use domain::Time;
use domain::registry::{Owner, OwnerKind};
use jiff::Timestamp;
use read::Fields;
use serde_json::{Map, Value, json};

/// The calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Extension {
    app: App,
    rest: Rest,
}

/// What a path of ours leads to.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Authorities { registry: String },
    Authority { registry: String, id: String },
    Provision,
    Certificates { owner: Owner },
    Certificate { owner: Owner, fingerprint: String },
    Expiring { registry: String },
    Hooks,
    Hook { id: String },
    Imports,
    Exports,
    Question { secret: String, question: String },
}

impl Extension {
    pub(crate) fn new(app: App, rest: Rest) -> Self {
        Self { app, rest }
    }

    /// Whether a request is for one of these calls, and not for the transcoder.
    pub(crate) fn answers(&self, request: &Request<Body>) -> bool {
        let place = place(request.uri().path());
        match place {
            None => false,
            // The vendor's own calls on the same paths.
            Some(Place::Certificates { .. }) => {
                request.method() == Method::GET && asks_for_view(request.uri().query().unwrap_or_default())
            }
            Some(Place::Certificate { .. }) => request.method() == Method::PATCH,
            Some(_) => true,
        }
    }

    /// Answers a request that is for one of these calls.
    pub(crate) async fn answer(self, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let name = request_id(&parts.headers).to_owned();
        let answered = match place(parts.uri.path()) {
            Some(Place::Question { secret, question }) => {
                return questions::answer(&self.app, &secret, &question, &parts, body).await;
            }
            Some(place) => self.called(place, &parts, body).await,
            None => Err(domain::Error::not_found("there is no such path").into()),
        };
        match answered {
            Ok(json) => written(StatusCode::OK, &json),
            Err(error) => {
                if let Some(cause) = error.failure() {
                    tracing::error!(request.id = %name, %cause, "a call of the device registry failed");
                }
                self.rest.refusal(&error.status(&name), &name)
            }
        }
    }

    /// The order of checks is that of every call: the token, then the message, then the use case.
    async fn called(&self, place: Place, parts: &Parts, body: Body) -> Result<Value> {
        let call = self.app.call(&parts.headers, &parts.extensions).await?;
        let query = parts.uri.query().unwrap_or_default();
        match (place, &parts.method) {
            (Place::Authorities { registry }, &Method::POST) => {
                authorities::trust(&call, &registry, body_alone(query, body).await?).await
            }
            (Place::Authorities { registry }, &Method::GET) => {
                authorities::list(&call, &registry, Fields::of_query(query)).await
            }
            (Place::Authority { registry, id }, &Method::DELETE) => {
                body_alone(query, body).await?.finish()?;
                call.services.distrust_authority(&call.caller, &registry, &id).await?;
                Ok(json!({}))
            }
            (Place::Provision, &Method::POST) => {
                provision::provision(&call, &self.rest, body_alone(query, body).await?).await
            }
            (Place::Certificates { owner }, &Method::GET) => {
                certificates::list(&call, &owner, Fields::of_query(query)).await
            }
            (Place::Certificate { owner, fingerprint }, &Method::PATCH) => {
                certificates::set_state(&call, &owner, &fingerprint, body_alone(query, body).await?).await
            }
            (Place::Expiring { registry }, &Method::GET) => {
                certificates::expiring(&call, &registry, Fields::of_query(query)).await
            }
            (Place::Hooks, &Method::POST) => hooks::create(&call, body_alone(query, body).await?).await,
            (Place::Hooks, &Method::GET) => hooks::list(&call, Fields::of_query(query)).await,
            (Place::Hook { id }, &Method::DELETE) => {
                body_alone(query, body).await?.finish()?;
                call.services.delete_hook(&call.caller, &id).await?;
                Ok(json!({}))
            }
            (Place::Imports, &Method::POST) => {
                let body = whole_up_to(body, import::BODY_OCTETS_MAX).await?;
                import::import(call, query, &body, self.rest.pool()).await
            }
            (Place::Exports, &Method::GET) => export::export(&call, &parts.uri, self.rest.pool()).await,
            _ => Err(Error::Unsupported("this path has no such method")),
        }
    }
}

/// The body of a call that takes no parameters.
async fn body_alone(query: &str, body: Body) -> Result<Fields> {
    Fields::of_query(query).finish()?;
    let octets: Bytes = whole(body).await?;
    Ok(Fields::of_body(&octets))
}

fn asks_for_view(query: &str) -> bool {
    query.split('&').any(|pair| pair == "view" || pair.starts_with("view="))
}

/// What a path leads to, when it is one of ours. What is not percent-encoded UTF-8 is nobody's.
fn place(path: &str) -> Option<Place> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let text = |part: &str| percent_decoded(part).filter(|text| !text.is_empty());
    let owner = |family: &str, id: &str| {
        let kind = match family {
            "registries" => OwnerKind::Registry,
            "devices" => OwnerKind::Device,
            _ => return None,
        };
        Some(Owner::of(kind, text(id)?))
    };
    match parts.as_slice() {
        ["iot-devices", "v1", "devices:provision"] => Some(Place::Provision),
        ["iot-devices", "v1", "imports"] => Some(Place::Imports),
        ["iot-devices", "v1", "exports"] => Some(Place::Exports),
        ["iot-devices", "v1", "hooks"] => Some(Place::Hooks),
        ["iot-devices", "v1", "hooks", id] => Some(Place::Hook { id: text(id)? }),
        ["iot-devices", "v1", "hooks", secret, question] => {
            Some(Place::Question { secret: text(secret)?, question: text(question)? })
        }
        ["iot-devices", "v1", "registries", registry, "authorities"] => {
            Some(Place::Authorities { registry: text(registry)? })
        }
        ["iot-devices", "v1", "registries", registry, "authorities", id] => {
            Some(Place::Authority { registry: text(registry)?, id: text(id)? })
        }
        ["iot-devices", "v1", "registries", registry, "certificates:expiring"] => {
            Some(Place::Expiring { registry: text(registry)? })
        }
        ["iot-devices", "v1", family, id, "certificates"] => Some(Place::Certificates { owner: owner(family, id)? }),
        ["iot-devices", "v1", family, id, "certificates", fingerprint] => {
            Some(Place::Certificate { owner: owner(family, id)?, fingerprint: text(fingerprint)? })
        }
        ["iot-broker", "v1", "brokers", id, "certificates"] => {
            Some(Place::Certificates { owner: Owner::of(OwnerKind::Broker, text(id)?) })
        }
        ["iot-broker", "v1", "brokers", id, "certificates", fingerprint] => {
            Some(Place::Certificate { owner: Owner::of(OwnerKind::Broker, text(id)?), fingerprint: text(fingerprint)? })
        }
        _ => None,
    }
}

/// A page of a list: nothing where there is nothing to show (contract §2.3).
fn page(name: &str, items: Vec<Value>, next: String) -> Value {
    let mut object = Map::new();
    if !items.is_empty() {
        object.insert(name.to_owned(), items.into());
    }
    if !next.is_empty() {
        object.insert("nextPageToken".into(), next.into());
    }
    Value::Object(object)
}

/// A time as the transcoder writes it.
fn time(time: Time) -> Value {
    let digits = if time.millis() % 1000 == 0 { 0 } else { 3 };
    // What is stored is within the years that certificates can name.
    Timestamp::from_millisecond(time.millis()).map_or(Value::Null, |time| json!(format!("{time:.digits$}")))
}

/// A certificate as the operator wants fingerprints shown.
fn fingerprint(call: &Call, fingerprint: &domain::registry::credential::Fingerprints) -> String {
    fingerprint.shown(call.services.registry_settings.fingerprint_format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_place() {
        let registry = || Owner::of(OwnerKind::Registry, "r");
        for (path, expected) in [
            ("/iot-devices/v1/devices:provision", Some(Place::Provision)),
            ("/iot-devices/v1/registries/r/authorities", Some(Place::Authorities { registry: "r".into() })),
            (
                "/iot-devices/v1/registries/r/authorities/a",
                Some(Place::Authority { registry: "r".into(), id: "a".into() }),
            ),
            ("/iot-devices/v1/registries/r/certificates", Some(Place::Certificates { owner: registry() })),
            (
                "/iot-devices/v1/registries/r/certificates/ab%3Acd",
                Some(Place::Certificate { owner: registry(), fingerprint: "ab:cd".into() }),
            ),
            ("/iot-devices/v1/registries/r/certificates:expiring", Some(Place::Expiring { registry: "r".into() })),
            ("/iot-devices/v1/hooks", Some(Place::Hooks)),
            ("/iot-devices/v1/imports", Some(Place::Imports)),
            ("/iot-devices/v1/exports", Some(Place::Exports)),
            ("/iot-devices/v1/imports/x", None),
            ("/iot-devices/v1/hooks/s/user", Some(Place::Question { secret: "s".into(), question: "user".into() })),
            (
                "/iot-broker/v1/brokers/b/certificates",
                Some(Place::Certificates { owner: Owner::of(OwnerKind::Broker, "b") }),
            ),
            ("/iot-devices/v1/registries/r", None),
            ("/iot-devices/v1/registries//authorities", None),
            ("/iot-devices/v1/registries/%ff/authorities", None),
            ("/iot-devices/v1/others/r/certificates", None),
            ("/iot-devices/v1/hooks/s/user/x", None),
        ] {
            assert_eq!(place(path), expected, "{path}");
        }
        for (query, is_asked) in [("view=FULL", true), ("a=b&view", true), ("", false), ("views=FULL", false)] {
            assert_eq!(asks_for_view(query), is_asked, "{query}");
        }
    }

    #[test]
    fn times_are_written_as_the_transcoder_does() {
        assert_eq!(time(Time::from_millis(1_700_000_000_000)), json!("2023-11-14T22:13:20Z"));
        assert_eq!(time(Time::from_millis(1_700_000_000_216)), json!("2023-11-14T22:13:20.216Z"));
    }
}
