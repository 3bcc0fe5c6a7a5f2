//! The memory-mapped segment log of row events.
//!
//! Only *whole committed transactions* in commit order are ever appended; what is still in progress on the source stays
//! with the writer's caller. One process writes (flock); any number of cursors in it tail the log through the map.

// The public face. Bodies are filled in by the modules of this crate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decoder::{Lsn, PgTimestamp, RelationId, Xid};

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
    /// Whose stream.
    pub identity: Identity,
    /// Where a new, empty log begins (the slot's confirmed_flush_lsn); ignored when the log exists.
    pub start: Lsn,
    /// Called with the duration of every fdatasync of the log.
    pub on_sync: Arc<dyn Fn(Duration) + Send + Sync>,
}

/// A position up to which everything is fsynced. Only this crate can make one, so whatever takes one cannot be handed
/// an undurable position by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurableLsn(Lsn);

impl DurableLsn {
    /// The position.
    pub fn lsn(self) -> Lsn {
        self.0
    }
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
}

/// A committed transaction's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionInfo {
    /// Top-level transaction id on the source.
    pub xid: Xid,
    /// Start of its commit record.
    pub commit_lsn: Lsn,
    /// First byte after its commit record; the position that checkpoints name.
    pub end_lsn: Lsn,
    /// When it committed, by the source's clock.
    pub commit_time: PgTimestamp,
}

/// One change as the log keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The relation it is about; `None` for TRUNCATE of several, messages and types.
    pub relation: Option<RelationId>,
    /// The pgoutput message without a stream's xid, tag byte first: `decoder::decode_change` reads it.
    pub payload: &'a [u8],
}
