//! What the stream tells of itself while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use decoder::Lsn;
use tokio::sync::watch;

/// What the stream is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Not connected yet.
    Connecting,
    /// Changes arrive.
    Streaming,
    /// The connection was lost or could not be made; it is tried again.
    Retrying {
        /// Why, in one line.
        error: String,
    },
    /// It has ended and will not go on by itself.
    Stopped {
        /// Why, in one line; empty when it was asked to.
        error: String,
    },
}

impl State {
    /// One word for status and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Retrying { .. } => "retrying",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// The error, where there is one.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Retrying { error } | Self::Stopped { error } if !error.is_empty() => Some(error),
            _ => None,
        }
    }
}

/// The kinds of change that are counted, in the order of [`Status::changes`].
pub(crate) const KINDS: [(u8, &str); 5] =
    [(b'I', "insert"), (b'U', "update"), (b'D', "delete"), (b'T', "truncate"), (b'M', "message")];

/// Shared by the stream, which writes it, and whoever shows it.
#[derive(Debug)]
pub struct Status {
    state: watch::Sender<State>,
    streamed: AtomicBool,
    received: AtomicU64,
    read: AtomicU64,
    bytes: AtomicU64,
    changes: [AtomicU64; KINDS.len()],
    verified_messages: AtomicU64,
    dropped_messages: AtomicU64,
    spool_bytes: AtomicU64,
    disk_full: AtomicBool,
    /// Milliseconds from `born` to the last message of the source.
    heard_ms: AtomicU64,
    born: Instant,
}

impl Default for Status {
    fn default() -> Status {
        Status {
            state: watch::Sender::new(State::Connecting),
            streamed: AtomicBool::new(false),
            received: AtomicU64::new(0),
            read: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            changes: Default::default(),
            verified_messages: AtomicU64::new(0),
            dropped_messages: AtomicU64::new(0),
            spool_bytes: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
            heard_ms: AtomicU64::new(0),
            born: Instant::now(),
        }
    }
}

impl Status {
    /// What it is doing now; the receiver wakes at each change.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Changes have arrived at some time, or could have.
    pub fn has_streamed(&self) -> bool {
        self.streamed.load(Relaxed)
    }

    /// Everything of the stream up to here has been read from the socket; `None` before the first message.
    pub fn received_lsn(&self) -> Option<Lsn> {
        let raw = self.received.load(Relaxed);
        (raw != 0).then(|| Lsn::from_u64(raw))
    }

    /// The source has decoded its WAL up to here, transactions in progress included; `None` before the first message.
    pub fn read_lsn(&self) -> Option<Lsn> {
        let raw = self.read.load(Relaxed).max(self.received.load(Relaxed));
        (raw != 0).then(|| Lsn::from_u64(raw))
    }

    /// Bytes of pgoutput messages decoded.
    pub fn decoded_bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Changes decoded, by kind ("insert", "update", …).
    pub fn changes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().zip(&self.changes).map(|((_, name), count)| (*name, count.load(Relaxed)))
    }

    /// Messages of the capture (DDL, roles, grants, sequences) that went into the log.
    pub fn verified_messages(&self) -> u64 {
        self.verified_messages.load(Relaxed)
    }

    /// Messages with walcast's prefix that the capture did not write, or not in that transaction: they were dropped.
    pub fn dropped_messages(&self) -> u64 {
        self.dropped_messages.load(Relaxed)
    }

    /// Bytes in spool files of transactions in progress.
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes.load(Relaxed)
    }

    /// The log's disk is full: the stream waits, nothing is lost.
    pub fn disk_full(&self) -> bool {
        self.disk_full.load(Relaxed)
    }

    /// How long ago the source was last heard of; `None` before the first message.
    pub fn silence(&self) -> Option<Duration> {
        let heard = self.heard_ms.load(Relaxed);
        (heard != 0).then(|| self.born.elapsed().saturating_sub(Duration::from_millis(heard)))
    }

    pub(crate) fn set_state(&self, state: State) {
        self.streamed.fetch_or(state == State::Streaming, Relaxed);
        self.state.send_if_modified(|current| {
            let modified = *current != state;
            *current = state;
            modified
        });
    }

    pub(crate) fn set_received(&self, lsn: Lsn) {
        self.received.fetch_max(lsn.as_u64(), Relaxed);
    }

    pub(crate) fn set_read(&self, lsn: Lsn) {
        self.read.fetch_max(lsn.as_u64(), Relaxed);
    }

    pub(crate) fn heard(&self) {
        let elapsed = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(elapsed.max(1), Relaxed);
    }

    pub(crate) fn add_decoded(&self, bytes: u64, changes: [u64; KINDS.len()]) {
        self.bytes.fetch_add(bytes, Relaxed);
        for (total, count) in self.changes.iter().zip(changes) {
            total.fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn count_message(&self, verified: bool) {
        let counter = if verified { &self.verified_messages } else { &self.dropped_messages };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_spool_bytes(&self, bytes: u64) {
        self.spool_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Relaxed);
    }
}
