//! When devices were last seen: noted in memory, written together, and told to who listens (contract §6.5).

use crate::context::{Context, failed};
use crate::registry::hub::Session;
use crate::registry::outbox::Message;
use crate::registry::relay::Letter;
use async_recursion::async_recursion as compiled_here;
use bytes::Bytes;
use domain::registry::topic::Principal;
use domain::registry::{DeviceId, Monitoring, RegistryId};
use domain::{Result, Time};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use store::{Changes, registry::monitoring};

/// How many devices are written in one commit.
const BATCH: usize = 500;

/// What a session has seen of its device since it was opened. Zero is never.
#[derive(Debug, Default)]
pub struct Contact {
    authenticated: AtomicI64,
    published: AtomicI64,
    subscribed: AtomicI64,
    online: AtomicI64,
    is_new: AtomicBool,
}

/// What is known of devices without a session and not written yet.
#[derive(Default)]
pub(crate) struct Departed(Mutex<HashMap<DeviceId, Monitoring>>);

impl Contact {
    fn note(&self, what: &AtomicI64, now: Time) {
        what.store(now.millis(), Ordering::Relaxed);
        self.online.store(now.millis(), Ordering::Relaxed);
        self.is_new.store(true, Ordering::Relaxed);
    }

    fn monitoring(&self, address: String) -> Monitoring {
        let time = |value: &AtomicI64| Some(value.load(Ordering::Relaxed)).filter(|at| *at != 0).map(Time::from_millis);
        Monitoring {
            last_auth_ip: Some(address),
            last_auth: time(&self.authenticated),
            last_pub_activity: time(&self.published),
            last_sub_activity: time(&self.subscribed),
            last_online: time(&self.online),
            last_disconnect: None,
        }
    }
}

impl Departed {
    fn note(&self, device: &DeviceId, newer: Monitoring) {
        let mut departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = departed.entry(device.clone()).or_default();
        *known = merged(known, newer);
    }

    fn take(&self) -> HashMap<DeviceId, Monitoring> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Context {
    /// When a device was last seen, at most some seconds old.
    #[compiled_here]
    pub async fn device_monitoring(&self, device: &DeviceId) -> Result<Monitoring> {
        monitoring::of(&self.db, device).await.map_err(failed)
    }

    pub(super) async fn note_authentication(&self, session: &Arc<Session>) {
        self.contact(session, &session.contact.authenticated).await;
    }

    pub(super) async fn note_publication(&self, session: &Arc<Session>) {
        self.contact(session, &session.contact.published).await;
    }

    pub(super) async fn note_subscription(&self, session: &Arc<Session>) {
        self.contact(session, &session.contact.subscribed).await;
    }

    /// Notes that a client was heard of.
    #[compiled_here]
    pub async fn note_online(&self, session: &Arc<Session>) {
        self.contact(session, &session.contact.online).await;
    }

    pub(super) async fn note_disconnect(&self, session: &Arc<Session>) {
        let Principal::Device { device, registry } = &session.principal else { return };
        let now = self.now();
        session.contact.note(&session.contact.online, now);
        let seen = session.contact.monitoring(session.address.ip().to_string());
        self.state.registry.departed.note(device, Monitoring { last_disconnect: Some(now), ..seen });
        self.tell(registry, device, session).await;
    }

    /// A device published by way of the API.
    pub(super) async fn note_publication_by_api(&self, principal: &Principal) -> Result<()> {
        if let Principal::Device { device, .. } = principal {
            let seen = Monitoring { last_pub_activity: Some(self.now()), ..Monitoring::default() };
            self.state.registry.departed.note(device, seen);
        }
        Ok(())
    }

    async fn contact(&self, session: &Arc<Session>, what: &AtomicI64) {
        let Principal::Device { device, registry } = &session.principal else { return };
        let now = self.now();
        session.contact.note(what, now);
        if session.space.has_monitoring_readers(device) || session.space.is_watched_elsewhere(now) {
            Box::pin(self.tell(registry, device, session)).await;
        }
    }

    /// The message on the monitoring topic. What is not known of this session comes from what was written before.
    async fn tell(&self, registry: &RegistryId, device: &DeviceId, session: &Session) {
        let is_read_here = session.space.has_monitoring_readers(device);
        let is_read_elsewhere = session.space.is_watched_elsewhere(self.now());
        if !is_read_here && !is_read_elsewhere {
            return;
        }
        let written = match monitoring::of(&self.db, device).await {
            Ok(written) => written,
            Err(error) => {
                tracing::debug!(%error, %device, "what was monitored before cannot be read");
                Monitoring::default()
            }
        };
        let known = merged(&written, session.contact.monitoring(session.address.ip().to_string()));
        let message = Message {
            topic: format!("$monitoring/{device}/json").into(),
            payload: Bytes::from(json(registry, device, &known)),
            properties: Bytes::new(),
            origin: 0,
        };
        let message = Arc::new(message);
        if is_read_elsewhere {
            self.tell_nodes(|| {
                let space = session.space.id.clone();
                Letter::Message { space, message: message.clone(), is_acknowledged: false }
            });
        }
        if is_read_here {
            session.space.deliver(&message, false, &self.state.registry.hub.counts);
        }
    }

    /// Writes what is new.
    pub(super) async fn write_monitoring(&self) -> Result<()> {
        let mut seen = self.state.registry.departed.take();
        self.state.registry.hub.for_each_session(|session| {
            if let Principal::Device { device, .. } = &session.principal
                && session.contact.is_new.swap(false, Ordering::Relaxed)
            {
                let newer = session.contact.monitoring(session.address.ip().to_string());
                let known = seen.entry(device.clone()).or_default();
                *known = merged(known, newer);
            }
        });
        let seen: Vec<(DeviceId, Monitoring)> = seen.into_iter().collect();
        for batch in seen.chunks(BATCH) {
            let statements = batch.iter().map(|(device, seen)| monitoring::put(device, seen));
            let written = self.db.commit(statements.fold(Changes::new(), Changes::statement)).await;
            if let Err(error) = written {
                // What was seen is written with the next contact.
                return Err(failed(error));
            }
        }
        Ok(())
    }
}

/// What is known, with what is newer.
fn merged(known: &Monitoring, newer: Monitoring) -> Monitoring {
    // The later of both: another session of the device may have been heard of since.
    let later = |one: Option<Time>, other: Option<Time>| one.max(other);
    let is_newer_login = newer.last_auth >= known.last_auth && newer.last_auth.is_some();
    Monitoring {
        last_auth_ip: if is_newer_login { newer.last_auth_ip } else { known.last_auth_ip.clone() },
        last_auth: later(known.last_auth, newer.last_auth),
        last_pub_activity: later(known.last_pub_activity, newer.last_pub_activity),
        last_sub_activity: later(known.last_sub_activity, newer.last_sub_activity),
        last_online: later(known.last_online, newer.last_online),
        last_disconnect: later(known.last_disconnect, newer.last_disconnect),
    }
}

fn json(registry: &RegistryId, device: &DeviceId, known: &Monitoring) -> String {
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), Value::from(value));
        }
    };
    put("last_auth_time", known.last_auth.map(rfc3339));
    put("last_auth_ip", known.last_auth_ip.clone());
    put("last_pub_activity_time", known.last_pub_activity.map(rfc3339));
    put("last_sub_activity_time", known.last_sub_activity.map(rfc3339));
    put("last_online_time", known.last_online.map(rfc3339));
    put("registry_id", Some(registry.0.clone()));
    put("device_id", Some(device.0.clone()));
    Value::from(members).to_string()
}

/// `2025-11-07T05:31:56.123Z`.
fn rfc3339(at: Time) -> String {
    let text = x509::time::encode_generalized(at.seconds());
    let digit = |position: usize| char::from(text[position]);
    let mut written = String::with_capacity(24);
    for position in 0..14 {
        match position {
            4 | 6 => written.push('-'),
            8 => written.push('T'),
            10 | 12 => written.push(':'),
            _ => {}
        }
        written.push(digit(position));
    }
    written.push_str(&format!(".{:03}Z", at.millis().rem_euclid(1000)));
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_members_that_are_known() {
        let known = Monitoring {
            last_auth: Some(Time::from_millis(1_762_493_516_007)),
            last_auth_ip: Some("192.0.2.1".into()),
            ..Monitoring::default()
        };
        let text = json(&"are1".into(), &"are2".into(), &known);
        let expected = serde_json::json!({
            "last_auth_time": "2025-11-07T05:31:56.007Z", "last_auth_ip": "192.0.2.1",
            "registry_id": "are1", "device_id": "are2",
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn the_later_of_both_counts() {
        let at = |millis| Some(Time::from_millis(millis));
        let known = Monitoring { last_auth: at(5), last_auth_ip: Some("a".into()), ..Monitoring::default() };
        let older = Monitoring { last_auth: at(3), last_auth_ip: Some("b".into()), ..Monitoring::default() };
        assert_eq!(merged(&known, older.clone()), known);
        assert_eq!(merged(&older, known.clone()), known);
        let online = Monitoring { last_online: at(9), ..Monitoring::default() };
        assert_eq!(merged(&known, online).last_auth_ip.as_deref(), Some("a"));
    }
}
