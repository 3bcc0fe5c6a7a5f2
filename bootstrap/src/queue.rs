//! What is to be done next. Work makes further work: a table that is whole has indexes to be made.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// So many small tables are worth a start of `pg_restore`.
const BATCH: usize = 64;

/// One thing to do; tables by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Copy a part of a table.
    Part {
        /// Which table.
        table: usize,
        /// Which part.
        part: usize,
    },
    /// Make the constraints of a table that are indexes.
    Constraints(usize),
    /// Make one index of a table: an entry of the dump.
    Index {
        /// Which table.
        table: usize,
        /// Which entry.
        entry: u32,
    },
    /// Make the indexes of small tables.
    Small(Vec<usize>),
}

/// The jobs of one copy.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Indexes of large tables: what was copied last is still in memory.
    urgent: VecDeque<Job>,
    parts: VecDeque<Job>,
    small: Vec<usize>,
    /// Jobs that were taken and may make more.
    running: usize,
}

impl State {
    fn pick(&mut self) -> Option<Job> {
        if let Some(job) = self.urgent.pop_front() {
            return Some(job);
        }
        if self.small.len() < BATCH
            && let Some(job) = self.parts.pop_front()
        {
            return Some(job);
        }
        let count = self.small.len().min(BATCH);
        (count > 0).then(|| Job::Small(self.small.drain(..count).collect()))
    }
}

impl Queue {
    /// With these parts to be copied, in this order.
    pub(crate) fn new(parts: impl IntoIterator<Item = Job>) -> Queue {
        let state = State { parts: parts.into_iter().collect(), ..State::default() };
        Queue { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds something that is to be done before further parts are copied.
    pub(crate) fn push(&self, job: Job) {
        self.state().urgent.push_back(job);
        self.changed.notify_waiters();
    }

    /// Adds a small table whose indexes are to be made with others'.
    pub(crate) fn push_small(&self, table: usize) {
        self.state().small.push(table);
        self.changed.notify_waiters();
    }

    /// The next job; `None` once there will be no more. [`done`](Queue::done) has to follow.
    pub(crate) async fn next(&self) -> Option<Job> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before looking, so that no change is missed in between.
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(job) = state.pick() {
                    state.running += 1;
                    return Some(job);
                }
                if state.running == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// A job is done, and what it made necessary was pushed.
    pub(crate) fn done(&self) {
        self.state().running -= 1;
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn part(table: usize) -> Job {
        Job::Part { table, part: 0 }
    }

    #[tokio::test]
    async fn indexes_come_first_and_small_tables_last() {
        let queue = Queue::new([part(0), part(1)]);
        queue.push_small(7);
        queue.push(Job::Constraints(9));
        let expected = [Job::Constraints(9), part(0), part(1), Job::Small(vec![7])];
        for job in expected {
            assert_eq!(queue.next().await, Some(job));
            queue.done();
        }
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test]
    async fn who_waits_gets_what_a_running_job_makes() {
        let queue = Arc::new(Queue::new([part(0)]));
        assert_eq!(queue.next().await, Some(part(0)));
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { (queue.next().await, queue.done(), queue.next().await) }
        });
        tokio::task::yield_now().await;
        queue.push(Job::Constraints(0));
        queue.done();
        assert_eq!(waiting.await.unwrap(), (Some(Job::Constraints(0)), (), None));
    }
}
