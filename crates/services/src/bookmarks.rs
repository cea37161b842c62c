//! Where the pages of lists ended that somebody is leafing through: the next page begins there, although the contract
//! counts offsets, so that nothing is given twice or left out while certificates are added or removed.
//!
//! Kept in memory, for a while, and for whoever leafs. Without one, a page begins at its offset.

use domain::ProjectId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::certificate::Mark;
use uuid::Uuid;

/// How long somebody may look at a page.
const KEPT: Duration = Duration::from_secs(300);

/// How many are kept at a time.
const BOOKMARKS_MAX: usize = 4096;

/// A list that somebody leafs through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeafedList {
    /// Who.
    pub(crate) reader: Option<Uuid>,
    /// In which project.
    pub(crate) project: ProjectId,
    /// What it is narrowed and sorted by, in words.
    pub(crate) described: String,
}

/// The bookmarks of this node.
#[derive(Default)]
pub(crate) struct Bookmarks(Mutex<HashMap<(LeafedList, u32), (Mark, Instant)>>);

impl Bookmarks {
    /// Where the page ended that the one at this offset follows.
    pub(crate) fn find(&self, list: &LeafedList, offset: u32) -> Option<Mark> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mark, at) = kept.get(&(list.clone(), offset))?;
        (at.elapsed() < KEPT).then(|| mark.clone())
    }

    /// Keeps where a page ended, for the page at this offset.
    pub(crate) fn keep(&self, list: LeafedList, offset: u32, mark: Mark) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= BOOKMARKS_MAX {
            kept.retain(|_, (_, at)| at.elapsed() < KEPT);
        }
        if kept.len() >= BOOKMARKS_MAX {
            kept.clear();
        }
        kept.insert((list, offset), (mark, Instant::now()));
    }
}
