//! What the nodes of one database tell each other: the messages that their clients publish, the sessions that they open, and
//! whose monitoring is read where.
//!
//! Each of these is a letter (`relay/letter.rs`). Letters go by a table of the database (`relay/table.rs`) or by a NATS server
//! (`relay/nats.rs`), as the operator chose, and from one node to another in the order in which they were written. Whoever
//! publishes does not wait for them. What waits here when its node dies is lost, as it would be in the queue of a session;
//! values of permanent topics are not, and ends of access go by the database always (`follow.rs`).

mod letter;
mod nats;
mod table;

pub(super) use letter::Letter;

use crate::context::Context;
use crate::registry::hub::Session;
use bytes::Bytes;
use domain::Time;
use domain::registry::topic::Place;
use outbound::nats::NatsServer;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{Announcement, Ear, Heard};
use tokio::sync::{Notify, watch};

/// How much waits to be carried at most.
const WAITING_MAX: usize = 20_000;
const WAITING_OCTETS_MAX: usize = 64 << 20;
/// How much earlier than another node says sessions are told to it again: clocks of nodes differ.
const TOLD_AGAIN_MILLIS: i64 = 15_000;
/// How long another node is told of the monitoring of a space after it said that somebody reads it there.
const WATCHING_MILLIS: i64 = 60_000;
/// How often that is said again.
const WATCHING_AGAIN_MILLIS: i64 = 20_000;

/// How letters reach the other nodes of the database.
#[derive(Clone, Debug, Default)]
pub enum Relaying {
    /// By a table of the database.
    #[default]
    Database,
    /// By a NATS server.
    Nats(NatsServer),
}

/// What waits to be told to other nodes.
pub(crate) struct Relay {
    node: String,
    waiting: Mutex<Waiting>,
    /// Rings when something waits.
    bell: Notify,
    /// Rings when another node, or this one, says that access ended.
    pub(super) access_ends: Notify,
}

#[derive(Default)]
struct Waiting {
    letters: VecDeque<Letter>,
    octets: usize,
    lost: u64,
}

impl Relay {
    pub(crate) fn new(node: String) -> Self {
        Self { node, waiting: Mutex::default(), bell: Notify::new(), access_ends: Notify::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, letter: Letter) {
        {
            let mut waiting = self.waiting();
            let octets = waiting.octets + letter.weight();
            if waiting.letters.len() >= WAITING_MAX || octets > WAITING_OCTETS_MAX {
                waiting.lost += 1;
                return;
            }
            waiting.octets = octets;
            waiting.letters.push_back(letter);
        }
        self.bell.notify_one();
    }

    /// Takes the oldest of what waits: so many letters, or so many octets and one letter more.
    fn take(&self, letters_max: usize, octets_max: usize) -> Vec<Letter> {
        let mut waiting = self.waiting();
        let lost = std::mem::take(&mut waiting.lost);
        let (mut taken, mut octets) = (Vec::new(), 0);
        while taken.len() < letters_max
            && octets < octets_max
            && let Some(letter) = waiting.letters.pop_front()
        {
            octets += letter.weight();
            taken.push(letter);
        }
        waiting.octets -= octets;
        drop(waiting);
        if lost > 0 {
            tracing::warn!(lost, "more happened than could be told to the other nodes");
        }
        taken
    }

    /// Waits until something waits. False when it is time to stop first.
    async fn has_more(&self, stop: &mut watch::Receiver<bool>) -> bool {
        tokio::select! {
            () = self.bell.notified() => true,
            () = stopped(stop) => false,
        }
    }
}

/// Waits until it is time to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody can stop it any more, which is the end, too.
    drop(stop.wait_for(|stop| *stop).await);
}

impl Context {
    /// Tells the other nodes, when there can be any.
    pub(super) fn tell_nodes(&self, letter: impl FnOnce() -> Letter) {
        if self.db.is_shared() {
            self.state.registry.relay.put(letter());
        }
    }

    /// Tells the other nodes that a session was opened here.
    pub(super) fn tell_opened(&self, session: &Session) {
        self.tell_nodes(|| Letter::Opened {
            space: session.space.id.clone(),
            owner: session.principal.owner(),
            client_id: session.client_id.clone(),
            rank: session.rank,
        });
    }

    /// Says again whose monitoring is read here, for the other nodes to tell of it.
    pub(super) fn tell_what_is_watched(&self) {
        let now = self.now();
        for space in self.state.registry.hub.spaces() {
            let again = now.plus_millis(-WATCHING_AGAIN_MILLIS).millis();
            if space.is_watched_here() && space.watching_told.load(Ordering::Relaxed) <= again {
                space.watching_told.store(now.millis(), Ordering::Relaxed);
                self.tell_nodes(|| Letter::Watching { space: space.id.clone() });
            }
        }
    }

    /// Carries letters between this node and the others until `stop` says so.
    pub(super) async fn relay_letters(&self, mut stop: watch::Receiver<bool>) {
        let Some(mut ear) = self.db.listen() else { return };
        match &self.registry_settings.relay {
            Relaying::Database => self.relay_by_table(ear, stop).await,
            Relaying::Nats(server) => {
                let letters = self.relay_by_nats(server, stop.clone());
                let rest = async {
                    tokio::select! {
                        () = self.hear_the_rest(&mut ear) => {}
                        () = stopped(&mut stop) => {}
                    }
                };
                futures_util::future::join(letters, rest).await;
            }
        }
    }

    /// Hears of what is not in letters: those go another way.
    async fn hear_the_rest(&self, ear: &mut Ear) {
        let mut is_told = false;
        loop {
            match ear.next().await {
                Heard::Listening | Heard::Told(Announcement::AccessEnds) => {
                    self.state.registry.relay.access_ends.notify_one();
                }
                Heard::Told(Announcement::Status { key, serial }) => self.state.ocsp.forget(key, &serial),
                Heard::Told(Announcement::Configuration { .. }) => {}
                Heard::Told(Announcement::Letters { .. }) if is_told => {}
                Heard::Told(Announcement::Letters { node, .. }) => {
                    is_told = true;
                    tracing::error!(
                        node,
                        "another node of this database does not use NATS (iot.relay): messages do not cross between it and this one"
                    );
                }
            }
        }
    }

    /// Does what a letter of another node is about.
    fn read_letter(&self, octets: &Bytes) {
        let hub = &self.state.registry.hub;
        let letter = match letter::read(octets) {
            Ok((node, _)) if node == self.state.registry.relay.node => return,
            Ok((_, letter)) => letter,
            Err(why) => {
                tracing::debug!(why, "a letter of another node is not understood here");
                return;
            }
        };
        match letter {
            Letter::Message { space, message, is_acknowledged } => {
                let Some(space) = hub.space(&space) else { return };
                if Place::read(&message.topic).is_some_and(Place::is_permanent) {
                    space.permanent_messages.fetch_add(1, Ordering::AcqRel);
                }
                space.deliver(&message, is_acknowledged, &hub.counts);
            }
            Letter::Opened { space, owner, client_id, rank } => hub.opened_elsewhere(&space, owner, client_id, rank),
            Letter::Watching { space } => {
                if let Some(space) = hub.space(&space) {
                    space.watched_until.store(self.now().plus_millis(WATCHING_MILLIS).millis(), Ordering::Relaxed);
                }
            }
            Letter::Missed { since } => self.tell_opened_since(since.plus_millis(-TOLD_AGAIN_MILLIS)),
        }
    }

    /// Says again which sessions were opened here since then, and asks the others for theirs: something was missed.
    fn catch_up(&self, since: Time) {
        self.tell_opened_since(since);
        self.tell_nodes(|| Letter::Missed { since });
    }

    /// Says again which sessions were opened here since then, for a node that did not hear it.
    fn tell_opened_since(&self, since: Time) {
        self.state.registry.hub.for_each_session(|session| {
            if session.opened_at() >= since {
                self.tell_opened(session);
            }
        });
    }
}

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Waits a little after a failure. False when it is time to stop.
async fn again(stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(AGAIN) => true,
        () = stopped(stop) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching(space: &str) -> Letter {
        Letter::Watching { space: space.into() }
    }

    #[test]
    fn what_is_too_much_is_lost_and_counted() {
        let relay = Relay::new("n".into());
        for number in 0..WAITING_MAX + 2 {
            relay.put(watching(&number.to_string()));
        }
        assert_eq!(relay.waiting().lost, 2);
        assert_eq!(relay.take(2, usize::MAX), [watching("0"), watching("1")]);
        assert_eq!(relay.waiting().lost, 0);
        assert_eq!(relay.waiting().letters.len(), WAITING_MAX - 2);
        while !relay.take(WAITING_MAX, 1000).is_empty() {}
        assert_eq!(relay.waiting().octets, 0);
    }
}
