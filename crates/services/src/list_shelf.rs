//! The revocation lists that are up, as this node last read them: handed out while the shared database is away, until
//! they run out, and asked what they say of a certificate. A list that is read anew takes the place of the one before; one
//! with a lower number never does.

use crate::context::{Context, failed};
use crate::revocation_lists::PublishedList;
use async_recursion::async_recursion as compiled_here;
use domain::{CrlId, Error, Reason, Result, Time};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use x509::{Crl, RevocationReason};

/// How often it is looked for new lists.
const PAUSE: Duration = Duration::from_secs(5);
/// How often at most a list of more than [`LARGE`] octets is read again.
const PAUSE_LARGE: Duration = Duration::from_secs(60);
const LARGE: usize = 4 << 20;
/// How many octets are kept. Lists beyond that are not here while the database is away.
const OCTETS_MAX: usize = 128 << 20;

/// Lists, and lists of changes, by the record of the complete list.
#[derive(Default)]
pub(crate) struct ListShelf(Mutex<HashMap<(CrlId, Kind), Kept>>);

/// Which of the two lists of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Complete,
    Changes,
}

struct Kept {
    list: Arc<PublishedList>,
    read: Instant,
}

impl ListShelf {
    /// Keeps a list, unless a newer one is here or there is no room.
    fn put(&self, id: CrlId, kind: Kind, list: &Arc<PublishedList>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.get(&(id, kind)).is_some_and(|kept| kept.list.number > list.number) {
            return;
        }
        lists.remove(&(id, kind));
        let octets: usize = lists.values().map(|kept| kept.list.der.len()).sum();
        if octets + list.der.len() <= OCTETS_MAX {
            lists.insert((id, kind), Kept { list: list.clone(), read: Instant::now() });
        }
    }

    /// A list that has not run out.
    fn find(&self, id: CrlId, kind: Kind, now: Time) -> Option<Arc<PublishedList>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.get(&(id, kind)).map(|kept| kept.list.clone()).filter(|list| now < list.next_update)
    }

    /// The complete lists that have not run out and are soon searched.
    fn searchable(&self, now: Time) -> Vec<Arc<PublishedList>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let complete = lists.iter().filter(|((_, kind), _)| *kind == Kind::Complete).map(|(_, kept)| &kept.list);
        complete.filter(|list| now < list.next_update && list.der.len() <= LARGE).cloned().collect()
    }

    /// When and why a certificate of the key with this name and this identifier was revoked, by what a list here says.
    /// Lists of more than [`LARGE`] octets are not searched.
    pub(crate) fn revocation(
        &self,
        issuer: &[u8],
        issuer_key_id: &[u8],
        serial: &[u8],
        now: Time,
    ) -> Option<(Time, RevocationReason)> {
        self.searchable(now).iter().find_map(|list| {
            let list = Crl::from_der(list.der.clone()).ok().filter(|list| list.issuer().as_der() == issuer)?;
            let signer = list.extensions().authority_key_id().ok()??.key_id?;
            let entry = list.find(serial).filter(|_| signer == issuer_key_id)?;
            let reason = entry.reason_code.map_or(Some(RevocationReason::Unspecified), RevocationReason::from_code)?;
            Some((Time::from_seconds(entry.revoked_at), reason))
        })
    }

    /// Whether a list with this number is here, or is to be read later.
    fn has(&self, id: CrlId, number: u64) -> bool {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.get(&(id, Kind::Complete)).is_some_and(|kept| {
            kept.list.number >= number || (kept.list.der.len() > LARGE && kept.read.elapsed() < PAUSE_LARGE)
        })
    }
}

impl Context {
    /// What was read of a list, or the one that is kept here while the database is away.
    pub(crate) fn shelved(&self, id: CrlId, kind: Kind, read: Result<PublishedList>) -> Result<Arc<PublishedList>> {
        // The embedded database is not away.
        if !self.db.is_shared() {
            return read.map(Arc::new);
        }
        match read {
            Ok(list) => {
                let list = Arc::new(list);
                self.state.shelf.put(id, kind, &list);
                Ok(list)
            }
            Err(error) if is_passing(&error) => self.state.shelf.find(id, kind, self.now()).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Reads the lists that are new, and who signed them, for as long as nobody says to stop.
    #[compiled_here]
    pub async fn follow_lists(&self, mut stop: watch::Receiver<bool>) {
        while self.db.is_shared() {
            if let Err(error) = self.read_new_lists().await {
                tracing::debug!(%error, "the revocation lists that are up cannot be read");
            }
            if let Err(error) = self.remember_issuers().await {
                tracing::debug!(%error, "the keys that certificates are asked about by cannot be read");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn read_new_lists(&self) -> Result<()> {
        for (id, number) in store::authority::crl_numbers(&self.db).await.map_err(failed)? {
            if !self.state.shelf.has(id, number) {
                self.published_list(id).await?;
                match self.published_changes(id).await {
                    Err(error) if error.reason() != Some(Reason::NotFound) => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// Whether the database is away, rather than without an answer.
pub(crate) fn is_passing(error: &Error) -> bool {
    matches!(error.reason(), Some(Reason::Unavailable { .. } | Reason::OutcomeUnknown { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(number: u64, octets: usize, next_update: i64) -> Arc<PublishedList> {
        let (this_update, next_update) = (Time::from_seconds(0), Time::from_seconds(next_update));
        Arc::new(PublishedList { number, der: vec![0; octets], this_update, next_update })
    }

    #[test]
    fn the_newest_list_is_found_until_it_runs_out() {
        let (shelf, id) = (ListShelf::default(), CrlId(uuid::Uuid::from_u128(1)));
        let found = |second| shelf.find(id, Kind::Complete, Time::from_seconds(second)).map(|list| list.number);
        assert_eq!(found(0), None);
        shelf.put(id, Kind::Complete, &list(5, 10, 100));
        shelf.put(id, Kind::Complete, &list(4, 10, 200));
        assert_eq!((found(99), found(100)), (Some(5), None));
        shelf.put(id, Kind::Complete, &list(6, 10, 300));
        assert_eq!((found(299), shelf.has(id, 6), shelf.has(id, 7)), (Some(6), true, false));
        assert!(shelf.find(id, Kind::Changes, Time::from_seconds(1)).is_none());
        // What has no room is not kept, and neither is what it follows.
        shelf.put(id, Kind::Complete, &list(7, OCTETS_MAX + 1, 300));
        assert_eq!(found(1), None);
    }
}
