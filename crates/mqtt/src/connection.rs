//! The life of one connection: CONNECT, then requests one after the other and messages as they come, then goodbye.
//!
//! One task does it all. It reads only while what it has to write is little and nobody who reads what it publishes is
//! behind; so neither a client that does not read nor one that publishes too much makes anything grow.

use crate::answer::{self, Granted};
use crate::delivery;
use crate::frame::{CONNECT_OCTETS_MAX, Frame, PACKET_OCTETS_MAX};
use crate::link::Link;
use crate::packet::{self, Connect, NotConnect, Publish, Request, Version, Violation, Wanted, Will};
use bytes::Bytes;
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use services::Context;
use services::registry::connect::{Attempt, Farewell, PresentedCertificate, Validity};
use services::registry::hub::{ReadOptions, Session};
use services::registry::outbox::{Delivery, Ending, IN_FLIGHT_MAX, InLine, Waiting};
use services::registry::publish::{NotPublished, Patience, Publication};
use services::registry::values::NotSubscribed;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

/// How long a client may take to send CONNECT (contract §6.1).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last octets may take to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to read something of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a publisher waits for somebody who is behind.
const PATIENCE: Duration = Duration::from_secs(2);
/// While so much is to be written nothing more is added.
const OUTPUT_OCTETS: usize = 32 * 1024;
/// How many messages are taken at once.
const DELIVERIES_AT_ONCE: usize = 128;

/// Serves one connection to its end.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    services: Context,
    certificate: Option<PresentedCertificate>,
    address: SocketAddr,
    validity: Validity,
) {
    let mut link = Link::new(stream);
    let begun = Box::pin(begin(&mut link, &services, certificate, address, validity)).await;
    let Some((connect, session)) = begun else {
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, Box::pin(link.close())).await;
        return;
    };
    let mut connection = Connection::new(link, services, connect, session);
    let farewell = connection.run().await;
    Box::pin(connection.end(farewell)).await;
}

/// Reads CONNECT and opens the session. Nothing when there is none; what is to be said then is written.
async fn begin<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    services: &Context,
    certificate: Option<PresentedCertificate>,
    address: SocketAddr,
    validity: Validity,
) -> Option<(Connect, Arc<Session>)> {
    let first = tokio::time::timeout(CONNECT_TIMEOUT, first_frame(link)).await.ok()?;
    let read = match first {
        Ok(frame) => packet::read_connect(&frame?),
        Err(violation) => Err(NotConnect::Violation(violation)),
    };
    let mut connect = match read {
        Ok(connect) => connect,
        Err(NotConnect::Answer(answer, why)) => {
            tracing::info!(target: "iot", %address, "refused: {why}");
            link.output.extend_from_slice(&answer);
            return None;
        }
        Err(NotConnect::Violation(violation)) => {
            tracing::info!(target: "iot", %address, "refused: {violation}");
            return None;
        }
    };
    if connect.has_authentication_method {
        link.output.extend_from_slice(&answer::bad_authentication_method());
        return None;
    }
    let assigned = connect.client_id.is_empty().then(|| format!("auto-{}", services.random.hex(12)));
    if let Some(assigned) = &assigned {
        connect.client_id.clone_from(assigned);
    }
    let attempt = Attempt {
        certificate,
        username: connect.username.take(),
        password: connect.password.take(),
        client_id: connect.client_id.clone(),
        address,
        will_topic: connect.will.as_ref().map(|will| will.topic.clone()),
        validity,
    };
    match services.connect(attempt).await {
        Ok(session) => {
            link.output.extend_from_slice(&connect.accepted(assigned.as_deref()));
            Some((connect, session))
        }
        Err(refusal) => {
            link.output.extend_from_slice(&answer::refusal(connect.version, refusal));
            None
        }
    }
}

/// The first packet; nothing when the client goes before it is whole.
async fn first_frame<S: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<S>) -> Result<Option<Frame>, Violation> {
    loop {
        if let Some(frame) = link.frame(CONNECT_OCTETS_MAX)? {
            return Ok(Some(frame));
        }
        match std::future::poll_fn(|context| link.poll_read(context)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(None),
        }
    }
}

struct Connection<S> {
    link: Link<S>,
    services: Context,
    session: Arc<Session>,
    version: Version,
    will: Option<Will>,
    /// How many messages may be in flight to the client.
    window: usize,
    packet_octets_max: usize,
    /// The ids of those that are, in the order in which they were sent.
    in_flight: VecDeque<u16>,
    last_id: u16,
    deliveries: Vec<Delivery>,
    /// What the client published while somebody who reads it is behind, or faster than it may.
    waiting: Option<Box<Waited>>,
    silence: Duration,
    heard: Instant,
    /// Since when octets wait to be written without any leaving.
    stuck_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// A message that is not published yet.
struct Waited {
    publish: Publish,
    /// Who is behind, and our place among those who wait for them; nobody when the time alone is waited for.
    behind: Option<(Arc<Session>, InLine)>,
    until: Pin<Box<Sleep>>,
}

/// What happens next to a connection.
enum Event {
    /// Something was read.
    Input,
    /// There is room for what the client published, or it was waited for long enough.
    Room(Patience),
    /// It is over.
    Over(Farewell),
}

/// Why requests are not read on.
enum Stop {
    Goodbye,
    Violation(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(link: Link<S>, services: Context, connect: Connect, session: Arc<Session>) -> Self {
        let silence = Duration::from_secs(connect.silence_seconds());
        Self {
            link,
            services,
            session,
            version: connect.version,
            will: connect.will,
            window: IN_FLIGHT_MAX.min(usize::from(connect.receive_maximum)),
            packet_octets_max: connect.packet_octets_max,
            in_flight: VecDeque::new(),
            last_id: 0,
            deliveries: Vec::new(),
            waiting: None,
            silence,
            heard: Instant::now(),
            stuck_since: None,
            timer: Box::pin(tokio::time::sleep(silence)),
        }
    }

    async fn run(&mut self) -> Farewell {
        // What came together with CONNECT was read with it: a client need not wait for CONNACK (MQTT 3.1.1 §3.1.4).
        let mut outcome = Box::pin(self.read_requests()).await;
        loop {
            match outcome {
                Ok(()) => {}
                Err(Stop::Goodbye) => return Farewell::ClientDisconnected,
                Err(Stop::Violation(violation)) => {
                    self.link.output.extend_from_slice(&answer::disconnect(self.version, violation.reason));
                    return Farewell::Violation(violation.what);
                }
            }
            outcome = match std::future::poll_fn(|context| self.poll(context)).await {
                Event::Over(farewell) => return farewell,
                Event::Input => {
                    self.heard = Instant::now();
                    self.read_requests().await
                }
                Event::Room(patience) => match self.waiting.take() {
                    None => self.read_requests().await,
                    Some(waiting) => match self.publish(waiting.publish, patience).await {
                        Ok(()) => self.read_requests().await,
                        Err(stop) => Err(stop),
                    },
                },
            };
        }
    }

    fn poll(&mut self, context: &mut TaskContext<'_>) -> Poll<Event> {
        loop {
            let has_more = match self.poll_outbox(context) {
                Ok(has_more) => has_more,
                Err(ending) => return Poll::Ready(Event::Over(Farewell::Ended(ending))),
            };
            match self.link.poll_write(context) {
                Poll::Ready(Ok(())) => self.stuck_since = None,
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Over(Farewell::ConnectionLost)),
                Poll::Pending => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    break;
                }
            }
            if !has_more {
                break;
            }
        }
        if let Poll::Ready(event) = self.poll_client(context) {
            return Poll::Ready(event);
        }
        self.poll_timer(context)
    }

    /// Takes messages and writes their packets to the output. Whether there may be more.
    fn poll_outbox(&mut self, context: &mut TaskContext<'_>) -> Result<bool, Ending> {
        if self.link.output.len() >= OUTPUT_OCTETS {
            return self.session.outbox.ending().map_or(Ok(true), Err);
        }
        let mut deliveries = std::mem::take(&mut self.deliveries);
        let taken = self.session.outbox.poll_take(context, self.window, DELIVERIES_AT_ONCE, &mut deliveries);
        if let Poll::Ready(Waiting::End(ending)) = taken {
            return Err(ending);
        }
        let has_more = !deliveries.is_empty();
        for delivery in deliveries.drain(..) {
            self.write_delivery(&delivery);
        }
        // A connection that gets one message now and then keeps no room for many.
        self.deliveries = if deliveries.capacity() > 16 { Vec::new() } else { deliveries };
        Ok(has_more)
    }

    fn write_delivery(&mut self, delivery: &Delivery) {
        // MQTT 5 §3.1.2.11.4: what is too large for the client is not sent, as if it had been.
        if self.packet_octets_max < PACKET_OCTETS_MAX * 2
            && delivery::size(self.version, delivery) > self.packet_octets_max
        {
            if delivery.is_acknowledged {
                self.session.outbox.acknowledged(1);
            }
            return;
        }
        let id = delivery.is_acknowledged.then(|| self.next_id());
        delivery::write(self.version, delivery, id, &mut self.link.output);
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            // Few are in flight, and those that are not in order are fewer.
            if !self.in_flight.contains(&self.last_id) {
                self.in_flight.push_back(self.last_id);
                return self.last_id;
            }
        }
    }

    /// Reads from the client, or waits for room for what it published.
    fn poll_client(&mut self, context: &mut TaskContext<'_>) -> Poll<Event> {
        if let Some(waiting) = &mut self.waiting {
            if let Some((behind, in_line)) = &mut waiting.behind
                && behind.outbox.poll_room(context, in_line).is_ready()
            {
                return Poll::Ready(Event::Room(Patience::Wait));
            }
            if waiting.until.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let Some((behind, _)) = &waiting.behind else { return Poll::Ready(Event::Room(Patience::Wait)) };
            behind.outbox.give_up();
            return Poll::Ready(Event::Room(Patience::GoAhead));
        }
        if self.link.output.len() >= OUTPUT_OCTETS {
            return Poll::Pending;
        }
        match self.link.poll_read(context) {
            Poll::Ready(Ok(1..)) => Poll::Ready(Event::Input),
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Event::Over(Farewell::ConnectionLost)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// One timer for the silence of the client and for what it does not read; it is looked at when it rings.
    fn poll_timer(&mut self, context: &mut TaskContext<'_>) -> Poll<Event> {
        loop {
            let silent_at = self.heard + self.silence;
            let stuck_at = self.stuck_since.map(|since| since + WRITE_TIMEOUT);
            let deadline = stuck_at.map_or(silent_at, |at| at.min(silent_at));
            if deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if stuck_at.is_some_and(|at| at <= now) {
                return Poll::Ready(Event::Over(Farewell::ConnectionLost));
            }
            // Who is kept waiting by us is not silent.
            if silent_at <= now && self.waiting.is_none() {
                return Poll::Ready(Event::Over(Farewell::KeepAlive));
            }
            self.timer.as_mut().reset(deadline.max(now + Duration::from_secs(1)));
        }
    }

    async fn read_requests(&mut self) -> Result<(), Stop> {
        // Many come together, and are counted together.
        let mut acknowledged = 0;
        while self.waiting.is_none()
            && let Some(frame) = self.link.frame(PACKET_OCTETS_MAX)?
        {
            match packet::read(self.version, frame)? {
                Request::Publish(publish) => self.publish(publish, Patience::Wait).await?,
                Request::Acknowledge(id) => acknowledged += usize::from(self.acknowledged(id)),
                Request::Subscribe { id, filters } => Box::pin(self.subscribe(id, filters)).await,
                Request::Unsubscribe { id, filters } => Box::pin(self.unsubscribe(id, filters)).await,
                Request::Ping => {
                    self.link.output.extend_from_slice(&answer::pingresp());
                    Box::pin(self.services.note_online(&self.session)).await;
                }
                Request::Disconnect { with_will } => {
                    if !with_will {
                        self.will = None;
                    }
                    return Err(Stop::Goodbye);
                }
            }
        }
        if acknowledged > 0 {
            self.session.outbox.acknowledged(acknowledged);
        }
        Ok(())
    }

    /// Whether a message of this id was in flight.
    fn acknowledged(&mut self, id: u16) -> bool {
        // Nearly always the first.
        let found = self.in_flight.iter().position(|known| *known == id);
        found.and_then(|found| self.in_flight.remove(found)).is_some()
    }

    async fn publish(&mut self, publish: Publish, patience: Patience) -> Result<(), Stop> {
        let octets = Bytes::from_owner(publish.frame.clone());
        let properties = match self.version {
            Version::V3 => Bytes::new(),
            Version::V5 => octets.slice(publish.properties_at..publish.payload_at),
        };
        let publication = Publication {
            name: &publish.topic,
            payload: octets.slice(publish.payload_at..),
            properties,
            is_acknowledged: publish.id.is_some(),
        };
        match self.services.publish(&self.session, &publication, patience).await {
            Ok(()) => {
                if let Some(id) = publish.id {
                    self.link.output.extend_from_slice(&answer::puback(self.version, id));
                }
                Ok(())
            }
            Err(NotPublished::Behind(behind)) => {
                let until = Box::pin(tokio::time::sleep(PATIENCE));
                let behind = Some((behind, InLine::default()));
                self.waiting = Some(Box::new(Waited { publish, behind, until }));
                Ok(())
            }
            Err(NotPublished::TooFast(then)) => {
                let until = Box::pin(tokio::time::sleep_until(then.into()));
                self.waiting = Some(Box::new(Waited { publish, behind: None, until }));
                Ok(())
            }
            Err(NotPublished::Forbidden) => Err(Violation::forbidden_topic(&publish.topic).into()),
            Err(NotPublished::TooLarge) => Err(Violation::too_large(publish.frame.len()).into()),
            Err(NotPublished::TooManyTopics) => Err(Violation::quota("too many permanent topics").into()),
            Err(NotPublished::Failed(error)) => {
                tracing::warn!(%error, "a message cannot be published");
                Err(Violation::failed("the message could not be stored").into())
            }
        }
    }

    async fn subscribe(&mut self, id: u16, filters: Vec<Wanted>) {
        let mut results = Vec::with_capacity(filters.len());
        let mut refused = Vec::new();
        for wanted in filters {
            let options =
                ReadOptions { is_acknowledged: wanted.is_acknowledged, is_without_own: wanted.is_without_own };
            let subscribed = self.services.subscribe(&self.session, &wanted.filter, options, wanted.replay).await;
            let result = match subscribed {
                Ok(()) => Granted::Yes { is_acknowledged: wanted.is_acknowledged },
                Err(NotSubscribed::Refused(why)) => Granted::No(why),
                Err(NotSubscribed::TooMany) => Granted::TooMany,
                Err(NotSubscribed::Failed(error)) => {
                    tracing::warn!(%error, "a subscription cannot be made");
                    Granted::Failed
                }
            };
            if !matches!(result, Granted::Yes { .. }) {
                refused.push(wanted.filter);
            }
            results.push(result);
        }
        if !refused.is_empty() {
            self.session.log_refused_filters(&refused);
        }
        self.link.output.extend_from_slice(&answer::suback(self.version, id, &results));
    }

    async fn unsubscribe(&mut self, id: u16, filters: Vec<String>) {
        let mut were_there = Vec::with_capacity(filters.len());
        for filter in filters {
            were_there.push(self.services.unsubscribe(&self.session, &filter).await);
        }
        self.link.output.extend_from_slice(&answer::unsuback(self.version, id, &were_there));
    }

    /// Says what is to be said, publishes the last will, and closes.
    async fn end(mut self, farewell: Farewell) {
        if let Farewell::Ended(ending) = farewell {
            let reason = match ending {
                Ending::TakenOver => DisconnectReasonCode::SessionTakenOver,
                Ending::AccessEnded | Ending::Expired => DisconnectReasonCode::NotAuthorized,
                Ending::ServerStops => DisconnectReasonCode::ServerShuttingDown,
            };
            self.link.output.extend_from_slice(&answer::disconnect(self.version, reason));
        }
        // Whose access has ended says nothing any more, and at the end of the server nobody hears it.
        let is_silent =
            matches!(farewell, Farewell::Ended(Ending::AccessEnded | Ending::Expired | Ending::ServerStops));
        if let Some(will) = self.will.take().filter(|_| !is_silent) {
            self.publish_will(will).await;
        }
        self.services.disconnect(&self.session, &farewell).await;
        if !matches!(farewell, Farewell::ConnectionLost) {
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, self.link.close()).await;
        }
    }

    async fn publish_will(&mut self, will: Will) {
        let publication = Publication {
            name: &will.topic,
            payload: will.payload.into(),
            properties: Bytes::new(),
            is_acknowledged: will.is_acknowledged,
        };
        if self.services.publish(&self.session, &publication, Patience::GoAhead).await.is_err() {
            tracing::warn!(target: "iot", client_id = self.session.client_id, "a last will could not be published");
        }
    }
}
