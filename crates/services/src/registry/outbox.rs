//! What waits for one session: a bounded queue between those who publish and the task that writes to the client.
//!
//! Whoever publishes looks first whether a queue is half full, and then waits for room before it goes on, but not for long: a
//! reader that is too slow for that loses its oldest messages once the queue is full (contract §6.4), and nobody waits
//! for it any more until it has caught up. Nothing is held across an await.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

/// How many messages are queued and in flight at most.
pub const MESSAGES_MAX: usize = 1000;
/// How many of these are in flight at most. Those cannot be taken back, so the rest is kept for what can: if all of them were
/// in flight to a client that does not acknowledge, each new message would be the oldest in the queue, and lost.
pub const IN_FLIGHT_MAX: usize = MESSAGES_MAX / 2;
/// How many octets of payloads are queued at most: a thousand small messages, or a few large ones.
const OCTETS_MAX: usize = 8 << 20;
/// From how many octets on publishers are slowed down.
const OCTETS_PRESSURE_FROM: usize = OCTETS_MAX / 4;
/// The room that an empty queue keeps.
const IDLE_CAPACITY: usize = 8;

/// A message, shared by everybody who gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The canonical topic.
    pub topic: Box<str>,
    /// What was published.
    pub payload: Bytes,
    /// The properties of MQTT 5 as they came, with their length in front; empty when there are none.
    pub properties: Bytes,
    /// The session that published it; 0 when it was none of this process.
    pub origin: u64,
}

/// A message for one session.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The name under which it arrives, when that is not the canonical one.
    pub name: Option<Arc<str>>,
    /// Whether it is to be acknowledged.
    pub is_acknowledged: bool,
    /// Whether it is a stored value that is given to a new subscription.
    pub is_retained: bool,
}

/// Why a session is ended by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Another session with the same client id took its place.
    TakenOver,
    /// Its certificate, password or owner does not give access any more.
    AccessEnded,
    /// Its certificate has expired.
    Expired,
    /// The server stops.
    ServerStops,
}

/// What the task of a session finds.
#[derive(Debug)]
pub enum Waiting {
    /// The session is to end.
    End(Ending),
    /// There are messages.
    Messages,
}

/// The queue of one session.
#[derive(Debug, Default)]
pub struct Outbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Delivery>,
    octets: usize,
    in_flight: usize,
    ending: Option<Ending>,
    /// The task of the session, while it waits.
    task: Option<Waker>,
    /// Publishers that wait for room, in the order in which they came.
    publishers: VecDeque<Waker>,
    /// Counts how often publishers were woken.
    woken: u64,
    /// Whether it was waited for in vain, and not caught up since.
    is_given_up: bool,
    dropped: u64,
}

/// How a publisher stands in the line of those who wait for room.
#[derive(Debug, Default)]
pub struct InLine(Option<u64>);

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a message. When another one was dropped for it, or it was itself: how many were so far.
    pub(super) fn put(&self, delivery: Delivery) -> Option<u64> {
        let (dropped, task) = {
            let mut state = self.state();
            if state.ending.is_some() {
                return None;
            }
            // Two subscriptions of the session that want it under one name get it once, with the better of both.
            if let Some(last) = state.queue.back_mut()
                && Arc::ptr_eq(&last.message, &delivery.message)
                && last.name == delivery.name
            {
                last.is_acknowledged |= delivery.is_acknowledged;
                return None;
            }
            state.octets += delivery.message.payload.len();
            state.queue.push_back(delivery);
            (state.drop_what_is_too_much(), state.task.take())
        };
        if let Some(task) = task {
            task.wake();
        }
        dropped
    }

    /// Whether who publishes should wait.
    pub(super) fn is_pressed(&self) -> bool {
        let state = self.state();
        state.is_pressed() && state.ending.is_none()
    }

    /// Nobody waits for it any more until it has caught up.
    pub fn give_up(&self) {
        self.state().is_given_up = true;
    }

    /// Ends the session. The first reason stands.
    pub fn end(&self, ending: Ending) {
        let (task, publishers) = {
            let mut state = self.state();
            state.ending.get_or_insert(ending);
            state.queue = VecDeque::new();
            state.octets = 0;
            state.woken += 1;
            (state.task.take(), std::mem::take(&mut state.publishers))
        };
        task.into_iter().chain(publishers).for_each(Waker::wake);
    }

    /// Whether it was ended, and why.
    pub fn ending(&self) -> Option<Ending> {
        self.state().ending
    }

    /// Moves up to `limit` messages to `into`; those that are to be acknowledged only while fewer than `window` are in flight.
    /// When there is nothing, the task is woken once there is.
    pub fn poll_take(
        &self,
        context: &mut TaskContext<'_>,
        window: usize,
        limit: usize,
        into: &mut Vec<Delivery>,
    ) -> Poll<Waiting> {
        let publishers = {
            let mut state = self.state();
            if let Some(ending) = state.ending {
                return Poll::Ready(Waiting::End(ending));
            }
            while into.len() < limit
                && let Some(first) = state.queue.front()
                && (!first.is_acknowledged || state.in_flight < window)
                && let Some(delivery) = state.queue.pop_front()
            {
                state.octets -= delivery.message.payload.len();
                state.in_flight += usize::from(delivery.is_acknowledged);
                into.push(delivery);
            }
            if state.queue.is_empty() && state.queue.capacity() > IDLE_CAPACITY * 8 {
                state.queue.shrink_to(IDLE_CAPACITY);
            }
            if into.is_empty() {
                if !state.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
                    state.task = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
            state.publishers_with_room()
        };
        publishers.for_each(Waker::wake);
        Poll::Ready(Waiting::Messages)
    }

    /// Notes that the client acknowledged so many messages. Called by the task that takes them: it looks again by itself.
    pub fn acknowledged(&self, count: usize) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(count);
    }

    /// Ready when there is room again for who publishes, or when nobody reads any more.
    pub fn poll_room(&self, context: &mut TaskContext<'_>, in_line: &mut InLine) -> Poll<()> {
        let mut state = self.state();
        if !state.is_pressed() || state.ending.is_some() {
            return Poll::Ready(());
        }
        if in_line.0 != Some(state.woken) {
            in_line.0 = Some(state.woken);
            state.publishers.push_back(context.waker().clone());
        }
        Poll::Pending
    }
}

impl State {
    fn is_pressed(&self) -> bool {
        !self.is_given_up && self.is_half_full()
    }

    fn is_half_full(&self) -> bool {
        self.queue.len() >= self.pressure_from() || self.octets >= OCTETS_PRESSURE_FROM
    }

    /// From how many messages in the queue on publishers are slowed down: half of what is not in flight.
    fn pressure_from(&self) -> usize {
        MESSAGES_MAX.saturating_sub(self.in_flight) / 2
    }

    fn drop_what_is_too_much(&mut self) -> Option<u64> {
        let before = self.dropped;
        while self.queue.len() + self.in_flight > MESSAGES_MAX || (self.octets > OCTETS_MAX && self.queue.len() > 1) {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.octets -= oldest.message.payload.len();
            self.dropped += 1;
        }
        (self.dropped > before).then_some(self.dropped)
    }

    /// As many publishers as there is room for: all at once would fill the queue beyond its end.
    fn publishers_with_room(&mut self) -> impl Iterator<Item = Waker> + use<> {
        if !self.is_half_full() {
            self.is_given_up = false;
        }
        let room = if self.is_pressed() { 0 } else { self.pressure_from().saturating_sub(self.queue.len()) };
        let room = room.min(self.publishers.len());
        self.woken += u64::from(room > 0);
        self.publishers.drain(..room).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(payload: &[u8], is_acknowledged: bool) -> Delivery {
        let message = Message {
            topic: "t".into(),
            payload: Bytes::copy_from_slice(payload),
            properties: Bytes::new(),
            origin: 0,
        };
        Delivery { message: Arc::new(message), name: None, is_acknowledged, is_retained: false }
    }

    fn take(outbox: &Outbox, window: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        let _ = outbox.poll_take(&mut TaskContext::from_waker(Waker::noop()), window, usize::MAX, &mut taken);
        taken
    }

    #[test]
    fn a_full_queue_loses_its_oldest_message() {
        let outbox = Outbox::default();
        for number in 0..MESSAGES_MAX + 3 {
            outbox.put(delivery(&number.to_be_bytes(), true));
        }
        let taken = take(&outbox, usize::MAX);
        assert_eq!(taken.len(), MESSAGES_MAX);
        assert_eq!(*taken[0].message.payload, 3_usize.to_be_bytes());
        // What is in flight counts, so nothing more fits.
        assert_eq!(outbox.put(delivery(b"x", true)), Some(4));
        outbox.acknowledged(1);
        assert_eq!(outbox.put(delivery(b"y", true)), None);
    }

    #[test]
    fn a_client_that_acknowledges_nothing_loses_the_oldest_of_what_waits() {
        let outbox = Outbox::default();
        let put = |number: usize| outbox.put(delivery(&number.to_be_bytes(), true));
        let numbers = |taken: Vec<Delivery>| -> Vec<Vec<u8>> {
            taken.into_iter().map(|delivery| delivery.message.payload.to_vec()).collect()
        };
        let expected = |range: std::ops::Range<usize>| -> Vec<Vec<u8>> {
            range.map(|number| number.to_be_bytes().to_vec()).collect()
        };
        for number in 0..MESSAGES_MAX {
            assert_eq!(put(number), None);
        }
        assert_eq!(numbers(take(&outbox, IN_FLIGHT_MAX)), expected(0..IN_FLIGHT_MAX));
        assert!(outbox.is_pressed());
        for number in MESSAGES_MAX..MESSAGES_MAX + 100 {
            assert_eq!(put(number), Some(u64::try_from(number - MESSAGES_MAX + 1).unwrap()));
        }
        outbox.acknowledged(IN_FLIGHT_MAX);
        assert_eq!(numbers(take(&outbox, IN_FLIGHT_MAX)), expected(IN_FLIGHT_MAX + 100..MESSAGES_MAX + 100));
    }

    #[test]
    fn publishers_wait_for_room_until_it_is_in_vain() {
        let outbox = Outbox::default();
        let fill = || {
            for _ in 0..MESSAGES_MAX / 2 {
                let _ = outbox.put(delivery(b"", false));
            }
        };
        let mut context = TaskContext::from_waker(Waker::noop());
        assert!(outbox.poll_room(&mut context, &mut InLine::default()).is_ready());
        fill();
        assert!(outbox.poll_room(&mut context, &mut InLine::default()).is_pending());
        take(&outbox, 0);
        assert!(outbox.poll_room(&mut context, &mut InLine::default()).is_ready());
        fill();
        outbox.give_up();
        assert!(!outbox.is_pressed());
        take(&outbox, 0);
        fill();
        assert!(outbox.is_pressed(), "it had caught up in between");
        outbox.end(Ending::ServerStops);
        assert!(!outbox.is_pressed());
    }

    #[test]
    fn large_messages_press_and_are_dropped_by_their_octets() {
        let outbox = Outbox::default();
        outbox.put(delivery(&vec![0; OCTETS_PRESSURE_FROM], false));
        assert!(outbox.is_pressed());
        for _ in 0..3 {
            assert_eq!(outbox.put(delivery(&vec![0; OCTETS_PRESSURE_FROM], false)), None);
        }
        assert_eq!(outbox.put(delivery(b"x", false)), Some(1));
    }

    #[test]
    fn messages_stay_in_order_while_the_window_is_full() {
        let outbox = Outbox::default();
        for (payload, is_acknowledged) in [(b"a", true), (b"b", true), (b"c", false)] {
            outbox.put(delivery(payload, is_acknowledged));
        }
        assert_eq!(take(&outbox, 1).len(), 1);
        assert_eq!(take(&outbox, 1).len(), 0);
        outbox.acknowledged(1);
        assert_eq!(take(&outbox, 1).len(), 2);
    }

    #[test]
    fn one_message_under_one_name_is_queued_once() {
        let outbox = Outbox::default();
        let first = delivery(b"x", false);
        outbox.put(first.clone());
        outbox.put(Delivery { is_acknowledged: true, ..first.clone() });
        outbox.put(Delivery { name: Some("alias".into()), ..first });
        let taken = take(&outbox, 9);
        assert_eq!(taken.len(), 2);
        assert!(taken[0].is_acknowledged);
    }

    #[test]
    fn the_first_reason_to_end_stands() {
        let outbox = Outbox::default();
        outbox.end(Ending::AccessEnded);
        outbox.end(Ending::ServerStops);
        assert_eq!(outbox.ending(), Some(Ending::AccessEnded));
    }
}
