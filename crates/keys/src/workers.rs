//! Threads that do slow key work, with a bounded queue before them.
//!
//! Full is an answer, not a wait: the caller hears [`KeyError::Busy`] at once. Work whose caller has gone is skipped.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::oneshot;

use crate::{KeyError, Lane};

/// How the threads stand against the rest of the process.
#[derive(Clone, Copy)]
pub(crate) enum Priority {
    /// Like every other thread.
    Normal,
    /// Only with processor time that nobody else wants (nice 19).
    Lowest,
}

/// A group of threads and their queue. The threads end when this is dropped and the work at hand is done.
pub(crate) struct Workers<Answer> {
    queue: Arc<Queue<Answer>>,
}

impl<Answer: Send + 'static> Workers<Answer> {
    /// Starts the threads. At most `capacity` pieces of work wait in each lane.
    pub(crate) fn start(name: &str, threads: usize, priority: Priority, capacity: usize) -> Result<Self, KeyError> {
        let workers = Self { queue: Arc::new(Queue::new(capacity)) };
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&workers.queue);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || {
                    lower_priority(priority);
                    while let Some(job) = queue.take() {
                        job.run();
                    }
                })
                .map_err(|error| KeyError::Failed(format!("cannot start a {name} thread: {error}")))?;
        }
        Ok(workers)
    }

    /// How many pieces of work wait.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.queue.lock();
        state.urgent.len() + state.ordinary.len()
    }

    /// Hands the work to a thread and waits for the answer. Dropping the future gives the place in the queue back.
    pub(crate) async fn run(
        &self,
        lane: Lane,
        work: impl FnOnce() -> Result<Answer, KeyError> + Send + 'static,
    ) -> Result<Answer, KeyError> {
        let (sender, receiver) = oneshot::channel();
        self.queue.put(lane, Job { work: Box::new(work), answer: sender })?;
        receiver.await.unwrap_or_else(|_| Err(KeyError::Failed("a key worker ended before it answered".to_owned())))
    }
}

impl<Answer> Drop for Workers<Answer> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct Job<Answer> {
    work: Box<dyn FnOnce() -> Result<Answer, KeyError> + Send>,
    answer: oneshot::Sender<Result<Answer, KeyError>>,
}

impl<Answer> Job<Answer> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(self) {
        if self.is_abandoned() {
            return;
        }
        // A panic costs this answer, not the thread.
        let answer = catch_unwind(AssertUnwindSafe(self.work))
            .unwrap_or_else(|_| Err(KeyError::Failed("a key worker panicked".to_owned())));
        // A caller that left meanwhile needs no answer; the key it asked for is wiped here.
        let _ = self.answer.send(answer);
    }
}

struct Queue<Answer> {
    state: Mutex<State<Answer>>,
    changed: Condvar,
    capacity: usize,
}

struct State<Answer> {
    urgent: VecDeque<Job<Answer>>,
    ordinary: VecDeque<Job<Answer>>,
    is_closed: bool,
}

impl<Answer> Queue<Answer> {
    fn new(capacity: usize) -> Self {
        let state = State { urgent: VecDeque::new(), ordinary: VecDeque::new(), is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity }
    }

    fn put(&self, lane: Lane, job: Job<Answer>) -> Result<(), KeyError> {
        let mut state = self.lock();
        let waiting = match lane {
            Lane::Urgent => &mut state.urgent,
            Lane::Ordinary => &mut state.ordinary,
        };
        if waiting.len() >= self.capacity {
            waiting.retain(|job| !job.is_abandoned());
        }
        if waiting.len() >= self.capacity {
            return Err(KeyError::Busy);
        }
        waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next piece of work, urgent ones first; waits for one. `None` once the queue is closed.
    fn take(&self) -> Option<Job<Answer>> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.urgent.pop_front().or_else(|| state.ordinary.pop_front()) {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// No work runs under the lock, so a panic cannot leave the queue half changed.
    fn lock(&self) -> MutexGuard<'_, State<Answer>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lower_priority(priority: Priority) {
    match priority {
        Priority::Normal => {}
        Priority::Lowest => {
            // On Linux the id of a thread names that thread alone. Elsewhere the pool works at normal priority.
            #[cfg(target_os = "linux")]
            if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19) {
                tracing::warn!(%error, "key generation runs at normal priority");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// One thread, held busy by a first job until the returned sender is dropped.
    async fn held_workers(capacity: usize) -> (Arc<Workers<u32>>, mpsc::Sender<()>) {
        let workers = Arc::new(Workers::start("test", 1, Priority::Normal, capacity).unwrap());
        let (release, held) = mpsc::channel();
        let (started, has_started) = oneshot::channel();
        submit(&workers, Lane::Ordinary, move || {
            started.send(()).unwrap();
            assert!(held.recv().is_err());
            Ok(0)
        });
        has_started.await.unwrap();
        (workers, release)
    }

    fn submit(
        workers: &Arc<Workers<u32>>,
        lane: Lane,
        work: impl FnOnce() -> Result<u32, KeyError> + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<u32, KeyError>> {
        let workers = Arc::clone(workers);
        tokio::spawn(async move { workers.run(lane, work).await })
    }

    fn waiting(workers: &Workers<u32>, lane: Lane) -> usize {
        let state = workers.queue.lock();
        match lane {
            Lane::Urgent => state.urgent.len(),
            Lane::Ordinary => state.ordinary.len(),
        }
    }

    /// Until so many pieces of work wait.
    async fn settle(workers: &Workers<u32>, lane: Lane, expected: usize) {
        eventually(|| waiting(workers, lane) == expected).await;
    }

    /// Waits for a condition; one that does not come within a minute fails the test.
    async fn eventually(condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_answers_busy_at_once_and_urgent_work_has_room_of_its_own() {
        let (workers, release) = held_workers(2).await;
        let accepted = [submit(&workers, Lane::Ordinary, || Ok(1)), submit(&workers, Lane::Ordinary, || Ok(2))];
        settle(&workers, Lane::Ordinary, 2).await;
        assert_eq!(workers.run(Lane::Ordinary, || Ok(3)).await, Err(KeyError::Busy));
        let urgent = submit(&workers, Lane::Urgent, || Ok(4));
        settle(&workers, Lane::Urgent, 1).await;
        drop(release);
        for (task, answer) in accepted.into_iter().zip([1, 2]) {
            assert_eq!(task.await.unwrap(), Ok(answer));
        }
        assert_eq!(urgent.await.unwrap(), Ok(4));
        assert_eq!(workers.run(Lane::Ordinary, || Ok(5)).await, Ok(5));
    }

    #[tokio::test]
    async fn urgent_work_is_done_before_ordinary_work_that_came_earlier() {
        let (workers, release) = held_workers(8).await;
        let (order, done) = mpsc::channel();
        let mut tasks = Vec::new();
        for (lane, number) in [(Lane::Ordinary, 1), (Lane::Ordinary, 2), (Lane::Urgent, 3), (Lane::Urgent, 4)] {
            let order = order.clone();
            tasks.push(submit(&workers, lane, move || {
                order.send(number).unwrap();
                Ok(number)
            }));
            settle(&workers, lane, if number % 2 == 1 { 1 } else { 2 }).await;
        }
        drop(release);
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(done.try_iter().collect::<Vec<_>>(), [3, 4, 1, 2]);
    }

    #[tokio::test]
    async fn work_whose_caller_has_gone_is_skipped_and_gives_its_place_back() {
        let (workers, release) = held_workers(1).await;
        let (ran, has_run) = mpsc::channel();
        let abandoned = submit(&workers, Lane::Ordinary, move || {
            ran.send(()).unwrap();
            Ok(1)
        });
        settle(&workers, Lane::Ordinary, 1).await;
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
        // The queue holds one, and that one is dead: there is room.
        let next = submit(&workers, Lane::Ordinary, || Ok(2));
        tokio::task::yield_now().await;
        drop(release);
        assert_eq!(next.await.unwrap(), Ok(2));
        assert!(has_run.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_answer_and_the_thread_lives() {
        let workers = Workers::<u32>::start("test", 1, Priority::Normal, 1).unwrap();
        let answer = workers.run(Lane::Ordinary, || panic!("on purpose")).await;
        assert!(matches!(answer, Err(KeyError::Failed(_))));
        assert_eq!(workers.run(Lane::Ordinary, || Ok(1)).await, Ok(1));
    }

    #[tokio::test]
    async fn threads_end_with_the_group() {
        let workers = Workers::<u32>::start("test", 2, Priority::Normal, 1).unwrap();
        let queue = Arc::downgrade(&workers.queue);
        drop(workers);
        eventually(|| queue.strong_count() == 0).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_lowest_priority_is_that_of_the_thread_alone() {
        fn own() -> i32 {
            rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap()
        }
        let before = own();
        let workers = Workers::<i32>::start("test", 1, Priority::Lowest, 1).unwrap();
        assert_eq!(workers.run(Lane::Ordinary, || Ok(own())).await, Ok(19));
        assert_eq!(own(), before);
        let normal = Workers::<i32>::start("test", 1, Priority::Normal, 1).unwrap();
        assert_eq!(normal.run(Lane::Ordinary, || Ok(own())).await, Ok(before));
    }
}
