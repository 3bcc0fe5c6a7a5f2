//! The log as its readers and its owner see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decoder::Lsn;
use tokio::sync::watch;

use crate::error::{FatalError, OpenError, ReadError};
use crate::reader::Cursor;
use crate::syncer::DurableLsn;
use crate::writer::Writer;

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
    /// End of what is fsynced.
    pub durable: DurableLsn,
    /// Bytes of all segment files on disk.
    pub bytes: u64,
    /// Number of segment files.
    pub segments: u64,
    /// Whether the log failed for good; [`Log::failure`] says why.
    pub failed: bool,
}

/// A handle to the open log for readers, and for whoever trims it; cheap to clone.
#[derive(Clone)]
pub struct Log {}

/// Opens a log, creating it when there is none, and recovers what a crash left.
pub fn open(options: Options) -> Result<(Writer, Log), OpenError> {
    let _ = options;
    unimplemented!()
}

impl Log {
    /// Where the log stands now.
    pub fn positions(&self) -> Positions {
        unimplemented!()
    }

    /// Tells of every change of the positions.
    pub fn watch(&self) -> watch::Receiver<Positions> {
        unimplemented!()
    }

    /// Why the log failed for good, once it did.
    pub fn failure(&self) -> Option<FatalError> {
        unimplemented!()
    }

    /// A cursor that yields every transaction with `end_lsn > after`, and some before.
    pub fn cursor(&self, after: Lsn) -> Result<Cursor, ReadError> {
        let _ = after;
        unimplemented!()
    }

    /// Gives up whole segments whose every transaction has `end_lsn <= below`.
    pub fn trim(&self, below: Lsn) -> Result<(), ReadError> {
        let _ = below;
        unimplemented!()
    }

    /// Whose stream it holds.
    pub fn identity(&self) -> &Identity {
        unimplemented!()
    }
}
