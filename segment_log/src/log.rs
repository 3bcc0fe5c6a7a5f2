//! The log as its readers and its owner see it, and what they share.

use std::any::Any;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use decoder::Lsn;
use tokio::sync::watch;

use crate::error::{FatalError, IoError, OpenError, ReadError};
use crate::fs::{Fs, RealFs};
use crate::reader::Cursor;
use crate::recovery::{self, Recovered};
use crate::retention::{self, Spares};
use crate::segment::Segment;
use crate::syncer::{self, DurableLsn, Queue};
use crate::writer::Writer;

/// Name of the file in the log's directory that is locked while the log is open.
const LOCK_FILE: &str = "lock";

/// Segment files are a multiple of this.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// A header and a block of frames; only tests have them so small.
const SEGMENT_SIZE_MIN: u64 = 2 * BLOCK_BYTES;

/// Whose stream a log holds; written into every segment header, a mismatch is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `system_identifier` of IDENTIFY_SYSTEM.
    pub system_id: u64,
    /// Timeline of IDENTIFY_SYSTEM.
    pub timeline: u32,
    /// Database name.
    pub database: String,
    /// Slot name.
    pub slot: String,
    /// Publication name.
    pub publication: String,
}

/// How to open a log for writing.
#[derive(Clone)]
pub struct Options {
    /// The directory (created 0700).
    pub dir: PathBuf,
    /// Bytes of an ordinary segment file; a frame that does not fit gets a larger one of its own.
    pub segment_size: u64,
    /// Bytes of segments that [`Log::trim`] leaves in any case.
    pub retain_min: u64,
    /// Whose stream.
    pub identity: Identity,
    /// Where a new, empty log begins (the slot's confirmed_flush_lsn); ignored when the log exists.
    pub start: Lsn,
    /// Called with the duration of every fdatasync of the log.
    pub on_sync: Arc<dyn Fn(Duration) + Send + Sync>,
}

/// Where the log stands; published by a `tokio::sync::watch` channel at each append, sync and trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Every transaction of the stream with `end_lsn > first_lsn` and `<= appended_lsn` is in the log.
    pub first_lsn: Lsn,
    /// End of the last transaction (or progress mark) that cursors can read.
    pub appended_lsn: Lsn,
    /// End of what is fsynced; never after `appended_lsn`.
    pub durable: DurableLsn,
    /// Bytes of all segment files on disk.
    pub bytes: u64,
    /// Number of segment files.
    pub segments: u64,
    /// Whether the log failed for good; [`Log::failure`] says why.
    pub failed: bool,
}

/// What writer, syncer and readers share.
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) spares: Mutex<Spares>,
    pub(crate) trimming: Mutex<()>,
    segments: Mutex<VecDeque<Arc<Segment>>>,
    positions: watch::Sender<Positions>,
    /// The same as `appended_lsn` there, for those whom a sync or a trim shall not wake.
    appended: watch::Sender<Lsn>,
    /// Every frame with a number below is on disk.
    synced: AtomicU64,
    failure: OnceLock<FatalError>,
    _lock: Box<dyn Any + Send + Sync>,
}

impl Shared {
    pub(crate) fn segments(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn positions(&self) -> Positions {
        *self.positions.borrow()
    }

    pub(crate) fn failure(&self) -> Option<FatalError> {
        self.failure.get().cloned()
    }

    /// Ends the log's life. The first reason stays.
    pub(crate) fn fail(&self, error: IoError) -> FatalError {
        let fatal = self.failure.get_or_init(|| FatalError(Arc::new(error))).clone();
        tracing::error!(error = %fatal, "the log can't go on");
        self.positions.send_modify(|positions| positions.failed = true);
        fatal
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(crate) fn publish_synced(&self, frame_no: u64, durable: DurableLsn) {
        self.synced.store(frame_no, Ordering::Release);
        self.positions.send_modify(|positions| positions.durable = durable);
    }

    pub(crate) fn publish_appended(&self, end_lsn: Lsn) {
        self.positions.send_modify(|positions| positions.appended_lsn = end_lsn);
        self.appended.send_replace(end_lsn);
    }

    /// Adds a segment at the end.
    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        let mut segments = self.segments();
        segments.push_back(segment);
        self.publish_sizes(&segments);
    }

    /// Publishes where the log begins and how large it is.
    pub(crate) fn publish_sizes(&self, segments: &VecDeque<Arc<Segment>>) {
        self.positions.send_modify(|positions| {
            positions.first_lsn = segments.front().map_or(positions.first_lsn, |first| first.header.first_lsn);
            positions.bytes = segments.iter().map(|segment| segment.size()).sum();
            positions.segments = segments.len() as u64;
        });
    }
}

/// A handle to the open log for readers, and for whoever trims it; cheap to clone.
///
/// The directory stays locked until the writer and every handle and cursor are gone.
#[derive(Clone)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
}

/// Opens a log, creating it when there is none, and recovers what a crash left: everything that was ever published as
/// durable is there again, and nothing that is not whole.
///
/// # Errors
/// Damage is told from a torn tail; see the table in `recovery.rs`.
pub fn open(options: Options) -> Result<(Writer, Log), OpenError> {
    let (mut writer, log) = open_on(Arc::new(RealFs), options)?;
    writer.syncer = Some(syncer::spawn(&log.shared)?);
    Ok((writer, log))
}

/// As [`open`] on another file system, and without the syncer's thread.
pub(crate) fn open_on(fs: Arc<dyn Fs>, mut options: Options) -> Result<(Writer, Log), OpenError> {
    options.segment_size = options.segment_size.max(SEGMENT_SIZE_MIN).next_multiple_of(BLOCK_BYTES);
    let dir = options.dir.clone();
    let prepared = fs.prepare_dir(&dir).map_err(|error| IoError::new("create", &dir, error))?;
    prepared.map_err(|what| OpenError::Unsafe { dir: dir.clone(), what })?;
    let lock_path = dir.join(LOCK_FILE);
    let lock = fs.lock(&lock_path).map_err(|error| IoError::new("lock", &lock_path, error))?;
    let lock = lock.ok_or(OpenError::Locked { dir })?;
    let recovered = match recovery::recover(&*fs, &options)? {
        Some(recovered) => recovered,
        None => recovery::create_first(&*fs, &options)?,
    };
    let shared = Arc::new(share(fs, options, &recovered, lock));
    Ok((Writer::new(Arc::clone(&shared), &recovered), Log { shared }))
}

fn share(fs: Arc<dyn Fs>, options: Options, recovered: &Recovered, lock: Box<dyn Any + Send + Sync>) -> Shared {
    let start = options.start;
    let positions = Positions {
        first_lsn: start,
        appended_lsn: recovered.durable.lsn(),
        durable: recovered.durable,
        bytes: 0,
        segments: 0,
        failed: false,
    };
    let shared = Shared {
        fs,
        options,
        queue: Queue::default(),
        spares: Mutex::default(),
        trimming: Mutex::default(),
        segments: Mutex::new(recovered.segments.clone()),
        appended: watch::Sender::new(positions.appended_lsn),
        positions: watch::Sender::new(positions),
        synced: AtomicU64::new(recovered.chain.frame_no),
        failure: OnceLock::new(),
        _lock: lock,
    };
    shared.publish_sizes(&shared.segments());
    shared
}

impl Log {
    /// Where the log stands now.
    pub fn positions(&self) -> Positions {
        self.shared.positions()
    }

    /// Tells of every append, and of nothing else: what a reader at the log's head waits for.
    pub fn watch_appended(&self) -> watch::Receiver<Lsn> {
        self.shared.appended.subscribe()
    }

    /// Tells of every change of the positions.
    pub fn watch(&self) -> watch::Receiver<Positions> {
        self.shared.positions.subscribe()
    }

    /// Why the log failed for good, once it did.
    pub fn failure(&self) -> Option<FatalError> {
        self.shared.failure()
    }

    /// A cursor that yields every transaction with `end_lsn > after`, and before them all frames from the start of a
    /// segment, so that every relation is described: the caller passes over transactions with `end_lsn <= after`, but
    /// reads their Relation messages.
    ///
    /// # Errors
    /// [`ReadError::Desync`] when the log begins after `after`.
    pub fn cursor(&self, after: Lsn) -> Result<Cursor, ReadError> {
        Cursor::open(Arc::clone(&self.shared), after)
    }

    /// Gives up whole segments whose every transaction has `end_lsn <= below`, oldest first; never the last segment,
    /// never what is not durable, and never so much that less than `retain_min` bytes would be left.
    ///
    /// # Errors
    /// When a file can't be removed; it can be tried again.
    pub fn trim(&self, below: Lsn) -> Result<(), IoError> {
        retention::trim(&self.shared, below)
    }

    /// Where the log would begin if only its newest segments of at most `bytes` together were kept, and the whole of the
    /// transaction in whose middle they begin: a reader that has everything before that transaction is not far behind,
    /// however large it is.
    pub fn first_lsn_within(&self, bytes: u64) -> Lsn {
        let segments = self.shared.segments();
        let mut total = 0_u64;
        let newest = segments.iter().rev().take_while(|segment| {
            total = total.saturating_add(segment.size());
            total <= bytes
        });
        let kept = newest.count().max(1);
        let mut kept = segments.iter().rev().skip(kept - 1).map(|segment| &segment.header).peekable();
        let open = kept.peek().and_then(|first| first.open);
        let begins = kept.find(|header| header.open.is_none() || header.open != open);
        begins.or_else(|| segments.front().map(|first| &first.header)).map_or(Lsn::ZERO, |header| header.first_lsn)
    }

    /// Whose stream it holds.
    pub fn identity(&self) -> &Identity {
        &self.shared.options.identity
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
