//! Publishes: rights, the canonical topic, the stored value of a permanent one, then everybody who reads it (contract §6.3).

use super::folders::may;
use crate::context::{Context, failed};
use crate::registry::hub::{Session, Space};
use crate::registry::outbox::Message;
use crate::registry::relay::Letter;
use async_recursion::async_recursion as compiled_here;
use bytes::Bytes;
use domain::caller::Caller;
use domain::permission::Action;
use domain::registry::topic::{self, AliasTable, PAYLOAD_OCTETS_MAX, Place, Principal};
use domain::registry::{DeviceId, Owner, RegistryId};
use domain::{Error, Result};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use store::registry::access;

/// What a client publishes.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The topic, as the client names it.
    pub name: &'a str,
    /// What it publishes.
    pub payload: Bytes,
    /// The properties of MQTT 5 as they came, with their length in front; empty when there are none.
    pub properties: Bytes,
    /// Whether it is acknowledged (QoS 1): then a stored value is committed before this returns.
    pub is_acknowledged: bool,
}

/// What to do when somebody who reads the topic is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Nothing is published, and the publisher is told for whom to wait.
    Wait,
    /// It is published all the same.
    GoAhead,
}

/// Why something was not published.
pub enum NotPublished {
    /// The topic is not one that this principal may publish to, or not one at all.
    Forbidden,
    /// The payload is larger than is taken.
    TooLarge,
    /// There are more permanent topics than are kept.
    TooManyTopics,
    /// Somebody who reads it is behind: wait for room in that session's queue, and try again.
    Behind(Arc<Session>),
    /// The device has published as much as it may: try again then.
    TooFast(Instant),
    /// A failure of ours.
    Failed(Error),
}

static NO_ALIASES: LazyLock<Arc<AliasTable>> = LazyLock::new(Arc::default);

impl Context {
    /// Publishes for the client of a session.
    #[compiled_here]
    pub async fn publish(
        &self,
        session: &Arc<Session>,
        publication: &Publication<'_>,
        patience: Patience,
    ) -> Result<(), NotPublished> {
        if publication.payload.len() > PAYLOAD_OCTETS_MAX {
            return Err(NotPublished::TooLarge);
        }
        let space = &session.space;
        // Names that begin with `$` need no alias; the lock is left alone for them.
        let aliases = if publication.name.starts_with('$') { NO_ALIASES.clone() } else { space.aliases() };
        let target = session.principal.target(&aliases, publication.name).ok_or(NotPublished::Forbidden)?;
        if !self.is_within_reach(&session.principal, Some(space), &target.topic).await? {
            return Err(NotPublished::Forbidden);
        }
        if patience == Patience::Wait
            && let Some(behind) = space.pressed_reader(&target.topic, session.id)
        {
            return Err(NotPublished::Behind(behind));
        }
        if let Some(per_second) = self.registry_settings.messages_per_second
            && let Some(device) = session.principal.device()
            && patience == Patience::Wait
            && let Err(then) = self.state.registry.rates.take(device, per_second, Instant::now())
        {
            // Contract §6.4: what need not arrive does not, the other waits.
            return if publication.is_acknowledged { Err(NotPublished::TooFast(then)) } else { Ok(()) };
        }
        let message = Message {
            topic: target.topic.into(),
            payload: publication.payload.clone(),
            properties: publication.properties.clone(),
            origin: session.id,
        };
        self.give(Some(space), &session.principal, message, publication.is_acknowledged).await?;
        self.note_publication(session).await;
        Ok(())
    }

    /// Publishes as a device, registry or broker, for a caller of the API: with QoS 1, and the rights of that owner.
    #[compiled_here]
    pub async fn publish_as(&self, caller: &Caller, owner: &Owner, topic: &str, payload: Bytes) -> Result<()> {
        let found = access::owner(&self.db, owner).await.map_err(failed)?;
        let found = found.filter(|found| found.organization == caller.organization);
        let unknown = || Error::not_found(format!("there is no {owner}"));
        let found = found.ok_or_else(unknown)?;
        let action = match owner {
            Owner::Device(_) => Action::PublishAsDevice,
            Owner::Registry(_) | Owner::Broker(_) => Action::PublishAsRegistry,
        };
        may(caller, found.project, action, unknown)?;
        if payload.len() > PAYLOAD_OCTETS_MAX {
            let length = payload.len();
            return Err(Error::invalid_field(
                "data",
                "length",
                format!("data has {length} octets, at most {PAYLOAD_OCTETS_MAX} are taken"),
            ));
        }
        if !topic::is_topic_name(topic) {
            return Err(Error::invalid_field(
                "topic",
                "pattern",
                "topic has 1 to 1024 characters, without +, # and U+0000",
            ));
        }
        if found.holder.is_disabled {
            return Err(Error::wrong_state(format!("the registry of {owner} is disabled")));
        }
        let principal = found.holder.principal;
        let space = self.state.registry.hub.space(principal.space());
        let aliases = match (&space, &principal) {
            _ if topic.starts_with('$') => NO_ALIASES.clone(),
            (Some(space), _) => space.aliases(),
            (None, Principal::Device { registry, .. } | Principal::Registry(registry)) => {
                Arc::new(self.aliases_of(registry).await?)
            }
            (None, Principal::Broker(_)) => NO_ALIASES.clone(),
        };
        let forbidden = || Error::permission_denied(format!("{owner} may not publish to \"{topic}\""));
        let target = principal.target(&aliases, topic).ok_or_else(forbidden)?;
        let is_within_reach = self.is_within_reach(&principal, space.as_ref(), &target.topic).await;
        if !is_within_reach.map_err(|problem| refusal(problem, owner))? {
            return Err(forbidden());
        }
        let message = Message { topic: target.topic.into(), payload, properties: Bytes::new(), origin: 0 };
        let given = self.give(space.as_ref(), &principal, message, true).await;
        given.map_err(|problem| refusal(problem, owner))?;
        self.note_publication_by_api(&principal).await
    }

    /// Whether the device that a registry's topic names is one of its own. A device's rights name itself alone.
    pub(super) async fn is_within_reach(
        &self,
        principal: &Principal,
        space: Option<&Arc<Space>>,
        topic: &str,
    ) -> Result<bool, NotPublished> {
        match (principal, Place::read(topic)) {
            (Principal::Registry(registry), Some(Place::Device { device, .. })) => {
                self.has_device(registry, space, &device.into()).await.map_err(NotPublished::Failed)
            }
            _ => Ok(true),
        }
    }

    /// Whether a registry has a device; what was found is remembered until the device is gone.
    pub(super) async fn has_device(
        &self,
        registry: &RegistryId,
        space: Option<&Arc<Space>>,
        device: &DeviceId,
    ) -> Result<bool> {
        if space.is_some_and(|space| space.knows_device(device)) {
            return Ok(true);
        }
        let is_there = Box::pin(access::has_device(&self.db, registry, device)).await.map_err(failed)?;
        if let Some(space) = space.filter(|_| is_there) {
            space.note_device(device);
        }
        Ok(is_there)
    }

    /// Stores what is to be stored, and gives the message to everybody.
    async fn give(
        &self,
        space: Option<&Arc<Space>>,
        principal: &Principal,
        message: Message,
        is_acknowledged: bool,
    ) -> Result<(), NotPublished> {
        let is_permanent = Place::read(&message.topic).is_some_and(Place::is_permanent);
        if is_permanent && let Principal::Device { registry, .. } | Principal::Registry(registry) = principal {
            // Boxed, like what else is rare: a connection that waits is to take little memory.
            Box::pin(self.keep_value(registry, &message.topic, &message.payload, is_acknowledged)).await?;
        }
        let message = Arc::new(message);
        let counts = &self.state.registry.hub.counts;
        counts.messages_in.fetch_add(1, Ordering::Relaxed);
        self.tell_nodes(|| Letter::Message {
            space: principal.space().to_owned(),
            message: message.clone(),
            is_acknowledged,
        });
        if let Some(space) = space {
            if is_permanent {
                space.permanent_messages.fetch_add(1, Ordering::AcqRel);
            }
            space.deliver(&message, is_acknowledged, counts);
        }
        Ok(())
    }
}

impl From<Error> for NotPublished {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn refusal(problem: NotPublished, owner: &Owner) -> Error {
    match problem {
        NotPublished::Failed(error) => error,
        NotPublished::TooManyTopics => Error::too_many(
            format!("{owner} has more permanent topics than are kept: clear one by an empty payload"),
            60,
        ),
        NotPublished::TooLarge => Error::invalid_field("data", "length", "the payload is too large"),
        NotPublished::Forbidden | NotPublished::Behind(_) | NotPublished::TooFast(_) => {
            Error::permission_denied(format!("{owner} may not publish there"))
        }
    }
}
