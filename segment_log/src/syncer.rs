//! fdatasync in groups, on a thread of its own so that appending goes on meanwhile.
//!
//! One call covers everything appended since the last; the segment that was full in between is synced before its
//! successor. After the first error nothing is tried again: the log has failed.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use decoder::Lsn;

use crate::error::IoError;
use crate::log::Shared;
use crate::segment::Segment;

/// A position up to which everything is fsynced. Only this module can make one, so whatever takes one cannot be handed
/// an undurable position by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurableLsn(Lsn);

impl DurableLsn {
    /// The position.
    pub fn lsn(self) -> Lsn {
        self.0
    }

    /// The end of a log whose segments were just fsynced.
    pub(crate) fn of_synced_segments(segments: &[Arc<Segment>], end_lsn: Lsn) -> Result<DurableLsn, IoError> {
        segments.iter().try_for_each(|segment| sync_segment(segment))?;
        Ok(DurableLsn(end_lsn))
    }
}

/// From the end of one group to the beginning of the next. What is appended to a log at rest is synced at once; in a
/// steady flow, groups of this length cost a small part of the CPU time that one call after the other did.
const GROUP_PAUSE: Duration = Duration::from_millis(10);

/// What has been appended and not yet fsynced.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    /// Oldest first.
    dirty: Vec<Arc<Segment>>,
    /// Number of the next frame, once everything in `dirty` is synced.
    frame_no: u64,
    end_lsn: Lsn,
    stop: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks that everything below frame `frame_no`, which ends in `segment`, be made durable.
    pub(crate) fn push(&self, segment: &Arc<Segment>, frame_no: u64, end_lsn: Lsn) {
        let mut pending = self.lock();
        let first = pending.dirty.is_empty();
        if !pending.dirty.last().is_some_and(|last| Arc::ptr_eq(last, segment)) {
            pending.dirty.push(Arc::clone(segment));
        }
        (pending.frame_no, pending.end_lsn) = (frame_no, end_lsn);
        if first {
            self.changed.notify_one();
        }
    }

    /// Lets the thread end after what is pending.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_one();
    }

    /// Waits for work, and with it until `not_before`; `None` when there will be none.
    fn next(&self, not_before: Instant) -> Option<Pending> {
        let waiting = |pending: &mut Pending| pending.dirty.is_empty() && !pending.stop;
        let pending = self.changed.wait_while(self.lock(), waiting);
        let stop = pending.unwrap_or_else(PoisonError::into_inner).stop;
        if !stop {
            // Not on the condition variable: whoever appends shall not wake this thread again and again.
            thread::sleep(not_before.saturating_duration_since(Instant::now()));
        }
        Self::take(&mut self.lock())
    }

    fn take(pending: &mut Pending) -> Option<Pending> {
        let (frame_no, end_lsn) = (pending.frame_no, pending.end_lsn);
        let dirty = mem::take(&mut pending.dirty);
        (!dirty.is_empty()).then_some(Pending { dirty, frame_no, end_lsn, stop: false })
    }
}

/// Starts the thread.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Result<JoinHandle<()>, IoError> {
    let (name, dir) = ("log-syncer".to_owned(), shared.options.dir.clone());
    let shared = Arc::clone(shared);
    let run = move || {
        let mut not_before = Instant::now();
        while shared.queue.next(not_before).is_some_and(|pending| sync_group(&shared, pending)) {
            not_before = Instant::now() + GROUP_PAUSE;
        }
    };
    thread::Builder::new().name(name).spawn(run).map_err(|error| IoError::new("start a thread for", &dir, error))
}

/// Syncs what is pending now, on the caller's thread; false when the log failed.
#[cfg(test)]
pub(crate) fn sync_now(shared: &Shared) -> bool {
    let pending = Queue::take(&mut shared.queue.lock());
    pending.is_none_or(|pending| sync_group(shared, pending))
}

/// Syncs a group and publishes; false when the log failed, now or before.
fn sync_group(shared: &Shared, pending: Pending) -> bool {
    for segment in &pending.dirty {
        // A write may have failed on the other thread in the meantime: nothing is acknowledged from then on.
        if shared.failure().is_some() {
            return false;
        }
        let started = Instant::now();
        if let Err(error) = sync_segment(segment) {
            shared.fail(error);
            return false;
        }
        (shared.options.on_sync)(started.elapsed());
    }
    shared.publish_synced(pending.frame_no, DurableLsn(pending.end_lsn));
    true
}

fn sync_segment(segment: &Segment) -> Result<(), IoError> {
    segment.file.sync().map_err(|error| IoError::new("fsync", &segment.path, error))
}
