//! Letters by a table of the database. The commit that writes them tells the other nodes their ids, and those read them then; now
//! and then each node looks by itself for what it was not told.
//!
//! It is meant for some hundreds of letters a second: each is written to disk, read by every node, and removed after a minute.

use super::{again, stopped};
use crate::context::{Context, failed};
use crate::registry::ordered_id::ordered_id;
use bytes::Bytes;
use domain::{Result, Time};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use store::registry::node_letter::{self, NodeLetter};
use store::{Announcement, Changes, Ear, Heard, StoreError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

/// How often letters that nobody told of are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How far back is looked: clocks of nodes differ, and commits overtake each other.
const LOOK_BACK_MILLIS: i64 = 10_000;
/// How long letters are kept.
const KEPT_MILLIS: i64 = 60_000;
/// How often old ones are removed.
const PRUNE: Duration = Duration::from_secs(20);
/// How many letters are written in one commit at most, and how many octets.
const BATCH: usize = 200;
const BATCH_OCTETS: usize = 4 << 20;
/// How many are read at once where it is not known how many there are.
const PAGE: u32 = 100;

/// What was read of the table.
struct Read {
    seen: HashSet<Uuid>,
    /// When it was looked at last.
    looked: Time,
    pruned: Instant,
}

impl Context {
    /// Carries letters by the table until `stop` says so.
    pub(super) async fn relay_by_table(&self, ear: Ear, stop: watch::Receiver<bool>) {
        futures_util::future::join(self.write_letters(stop.clone()), self.read_letters(ear, stop)).await;
    }

    async fn write_letters(&self, mut stop: watch::Receiver<bool>) {
        let relay = &self.state.registry.relay;
        let (mut last, mut count) = (self.now(), 0_u32);
        loop {
            let letters = relay.take(BATCH, BATCH_OCTETS);
            if letters.is_empty() {
                match relay.has_more(&mut stop).await {
                    true => continue,
                    false => return,
                }
            }
            last = last.max(self.now());
            let rows = letters.iter().map(|letter| {
                count = count.wrapping_add(1);
                let id = ordered_id(last, count, self.random.octets());
                NodeLetter { id, node: relay.node.clone(), octets: letter.write(&relay.node), at: last }
            });
            self.write_rows(rows.collect(), &mut stop).await;
        }
    }

    /// Writes letters and tells of them; while the database is away it is tried again.
    async fn write_rows(&self, mut rows: Vec<NodeLetter>, stop: &mut watch::Receiver<bool>) {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
        let told =
            Announcement::Letters { node: self.state.registry.relay.node.clone(), first: first.id, last: last.id };
        let mut is_first = true;
        loop {
            let inserts = rows.iter().map(node_letter::insert);
            let changes = inserts.fold(Changes::new(), Changes::statement).announce(told.clone());
            match self.db.commit(changes).await {
                // The outcome of the commit before was not known: it was kept.
                Ok(()) | Err(StoreError::Conflict { .. }) => return,
                Err(error) if error.is_passing() => {
                    if std::mem::take(&mut is_first) {
                        tracing::warn!(%error, "letters to the other nodes wait for the database");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, lost = rows.len(), "letters to the other nodes cannot be written");
                    return;
                }
            }
            if !again(stop).await {
                return;
            }
            // Who looks for them looks back from when they are there.
            let at = self.now();
            rows.iter_mut().for_each(|row| row.at = row.at.max(at));
        }
    }

    async fn read_letters(&self, mut ear: Ear, mut stop: watch::Receiver<bool>) {
        let mut read = Read { seen: HashSet::new(), looked: self.now(), pruned: Instant::now() };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            let heard = tokio::select! {
                heard = ear.next() => Some(heard),
                _ = look.tick() => None,
                () = stopped(&mut stop) => return,
            };
            let outcome = match heard {
                Some(Heard::Told(Announcement::Letters { node, first, last })) => {
                    self.read_told(&mut read, &node, first, last).await
                }
                Some(Heard::Told(Announcement::AccessEnds)) => {
                    self.state.registry.relay.access_ends.notify_one();
                    continue;
                }
                Some(Heard::Told(Announcement::Configuration { .. })) => continue,
                Some(Heard::Told(Announcement::Status { key, serial })) => {
                    self.state.ocsp.forget(key, &serial);
                    continue;
                }
                Some(Heard::Listening) => {
                    self.state.registry.relay.access_ends.notify_one();
                    self.look_for_letters(&mut read).await
                }
                None => self.look_for_letters(&mut read).await,
            };
            if let Err(error) = &outcome
                && !is_away
            {
                tracing::warn!(%error, "letters of other nodes cannot be read");
            }
            is_away = outcome.is_err();
        }
    }

    /// Reads what another node says that it wrote.
    async fn read_told(&self, read: &mut Read, node: &str, first: Uuid, last: Uuid) -> Result<()> {
        if node == self.state.registry.relay.node {
            return Ok(());
        }
        for letter in node_letter::between(&self.db, node, first, last).await.map_err(failed)? {
            self.read_row(read, letter);
        }
        Ok(())
    }

    /// Reads what was not told of, and removes what is old.
    async fn look_for_letters(&self, read: &mut Read) -> Result<()> {
        let node = &self.state.registry.relay.node;
        let (now, looked) = (self.now(), read.looked);
        let since = looked.min(now).plus_millis(-LOOK_BACK_MILLIS);
        let listed = node_letter::ids_since(&self.db, node, since).await.map_err(failed)?;
        let first_new = listed.iter().find(|(id, _)| !read.seen.contains(id)).map(|(_, at)| *at);
        let mut listed: HashSet<Uuid> = listed.into_iter().map(|(id, _)| id).collect();
        if let Some(mut from) = first_new {
            let mut after = Uuid::nil();
            loop {
                let page = node_letter::after(&self.db, node, from, after, PAGE).await.map_err(failed)?;
                let is_last = page.len() < PAGE as usize;
                for letter in page {
                    (from, after) = (letter.at, letter.id);
                    listed.insert(letter.id);
                    self.read_row(read, letter);
                }
                if is_last {
                    break;
                }
            }
        }
        // What is not listed any more does not come again.
        read.seen.retain(|id| listed.contains(id));
        read.looked = now;
        if now.millis() - looked.millis() > KEPT_MILLIS - LOOK_BACK_MILLIS {
            // Something may have been removed before it was read.
            self.catch_up(looked);
        }
        if read.pruned.elapsed() >= PRUNE {
            read.pruned = Instant::now();
            self.commit(Changes::new().statement(node_letter::prune(now.plus_millis(-KEPT_MILLIS)))).await?;
        }
        Ok(())
    }

    fn read_row(&self, read: &mut Read, row: NodeLetter) {
        if read.seen.insert(row.id) {
            self.read_letter(&Bytes::from(row.octets));
        }
    }
}
