//! What waits for the committer of either engine. What revokes goes first, and keeps the rest from nothing but their turn.

use crate::db::Pending;
use std::collections::VecDeque;

/// The most changes that are committed at once.
const BATCH_MAX: usize = 512;

/// How many others are taken along with urgent ones, so that a stream of those stops nobody. Few, because who revokes waits
/// for all of them.
const ALONG_MAX: usize = 8;

/// Changes that wait, in the order in which they came.
#[derive(Default)]
pub(crate) struct CommitQueue {
    urgent: VecDeque<Pending>,
    ordinary: VecDeque<Pending>,
}

impl CommitQueue {
    pub(crate) fn push(&mut self, pending: Pending) {
        let queue = if pending.changes.is_urgent { &mut self.urgent } else { &mut self.ordinary };
        queue.push_back(pending);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.ordinary.is_empty()
    }

    /// Whether to wait for company before the next batch, as many as were committed the last time.
    pub(crate) fn waits_for_company(&self, last: usize) -> bool {
        self.urgent.is_empty() && self.ordinary.len() < last.min(BATCH_MAX)
    }

    /// What is committed next.
    pub(crate) fn next_batch(&mut self) -> Vec<Pending> {
        let urgent = self.urgent.len().min(BATCH_MAX - ALONG_MAX);
        let others = if urgent == 0 { BATCH_MAX } else { ALONG_MAX };
        let others = self.ordinary.len().min(others);
        self.urgent.drain(..urgent).chain(self.ordinary.drain(..others)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Changes;
    use crate::db::Waiting;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    fn pending(changes: Changes) -> Pending {
        let (answer, _) = oneshot::channel();
        Pending { changes, answer, _waiting: Waiting::begin(&Arc::default()).unwrap() }
    }

    /// Of each batch, how many are urgent and how many are not.
    fn batches(queue: &mut CommitQueue) -> Vec<(usize, usize)> {
        let mut batches = vec![];
        while !queue.is_empty() {
            let batch = queue.next_batch();
            let urgent = batch.iter().filter(|pending| pending.changes.is_urgent).count();
            batches.push((urgent, batch.len() - urgent));
        }
        batches
    }

    #[test]
    fn urgent_changes_go_before_all_that_came_earlier_and_stop_none_of_them() {
        for (ordinary, urgent, expected) in [
            (0, 0, &[][..]),
            (3, 0, &[(0, 3)]),
            (1100, 0, &[(0, 512), (0, 512), (0, 76)]),
            (1100, 2, &[(2, 8), (0, 512), (0, 512), (0, 68)]),
            (40, 1000, &[(504, 8), (496, 8), (0, 24)]),
        ] {
            let mut queue = CommitQueue::default();
            (0..ordinary).for_each(|_| queue.push(pending(Changes::new())));
            (0..urgent).for_each(|_| queue.push(pending(Changes::new().urgent())));
            assert_eq!(batches(&mut queue), expected, "{ordinary} {urgent}");
        }
    }

    #[test]
    fn nobody_waits_for_company_who_is_urgent() {
        let mut queue = CommitQueue::default();
        assert!(queue.waits_for_company(2));
        queue.push(pending(Changes::new()));
        assert!(queue.waits_for_company(2) && !queue.waits_for_company(1));
        queue.push(pending(Changes::new().urgent()));
        assert!(!queue.waits_for_company(9));
    }
}
