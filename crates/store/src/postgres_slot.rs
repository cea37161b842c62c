//! Places for connections to PostgreSQL: one connection each, made again when it has ended, and the few that read.

use crate::postgres_link::{Connector, Link, LinkError, Remedy};
use crate::postgres_watch::Watch;
use crate::{Row, StoreError, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a failed attempt to connect answers for those after it.
const RECONNECT: Duration = Duration::from_millis(200);

/// A place for one connection, which is made again when it has ended.
pub(crate) struct Slot {
    connector: Arc<Connector>,
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    link: Option<Arc<Link>>,
    failed: Option<(Instant, StoreError)>,
    is_closed: bool,
}

impl Slot {
    /// A place for a connection, with the first one if it is there already.
    pub(crate) fn new(connector: Arc<Connector>, link: Option<Link>) -> Self {
        let state = SlotState { link: link.map(Arc::new), ..SlotState::default() };
        Self { connector, state: tokio::sync::Mutex::new(state) }
    }

    /// The connection, made now if there is none.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, StoreError> {
        let mut state = self.state.lock().await;
        if state.is_closed {
            return Err(StoreError::Unavailable("the database is closed".into()));
        }
        if let Some(link) = state.link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        state.link = None;
        if let Some((at, error)) = &state.failed
            && at.elapsed() < RECONNECT
        {
            return Err(error.clone());
        }
        match self.connector.connect().await {
            Ok(link) => {
                let link = Arc::new(link);
                state.link = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Makes sure that this connection is not given out again.
    pub(crate) async fn forget(&self, link: &Arc<Link>) {
        let mut state = self.state.lock().await;
        state.link.take_if(|held| Arc::ptr_eq(held, link));
    }

    /// Makes sure that no connection that was made before is given out.
    pub(crate) async fn forget_any(&self) {
        self.state.lock().await.link = None;
    }

    /// Ends the connection; there is none from now on.
    pub(crate) async fn close(&self) {
        let mut state = self.state.lock().await;
        *state = SlotState { is_closed: true, ..SlotState::default() };
    }
}

/// The connections that read. Each carries several queries at a time.
#[derive(Clone)]
pub(crate) struct Readers {
    slots: Arc<[Slot]>,
    next: Arc<AtomicUsize>,
    watch: Watch,
}

impl Readers {
    /// So many connections, made when they are first needed.
    pub(crate) fn new(connector: &Arc<Connector>, count: usize, watch: Watch) -> Self {
        let slots = (0..count.max(1)).map(|_| Slot::new(connector.clone(), None)).collect();
        Self { slots, next: Arc::default(), watch }
    }

    /// Runs a query on the next connection. One that ended is made again once: reading twice does no harm, and a server
    /// that was started again shows only when it is asked.
    pub(crate) async fn rows(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let slot = &self.slots[self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        let link = self.watch.unless_silent(slot.link()).await??;
        match self.read(slot, &link, sql, params).await? {
            Err(LinkError { remedy: Remedy::Reconnect, .. }) => {
                slot.forget(&link).await;
                let link = self.watch.unless_silent(slot.link()).await??;
                Ok(self.read(slot, &link, sql, params).await??)
            }
            Err(LinkError { error: StoreError::ReadOnly(text), .. }) => {
                Err(StoreError::Engine(format!("a query that writes: {text}")))
            }
            other => Ok(other?),
        }
    }

    async fn read(
        &self,
        slot: &Slot,
        link: &Arc<Link>,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Result<Vec<Row>, LinkError>, StoreError> {
        match self.watch.unless_silent(link.rows(sql, params)).await {
            Ok(read) => Ok(read),
            Err(silent) => {
                // Whatever comes on it later is nobody's answer any more.
                slot.forget(link).await;
                Err(silent)
            }
        }
    }

    /// Ends the connections.
    pub(crate) async fn close(&self) {
        for slot in self.slots.iter() {
            slot.close().await;
        }
    }
}
