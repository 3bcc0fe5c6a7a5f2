//! The memory-mapped segment log of row events.
//!
//! Only *whole committed transactions* in commit order are ever appended; what is still in progress on the source stays
//! with the writer's caller. One process writes (flock); any number of cursors in it tail the log through the map.
//!
//! ```text
//! FrameBuilder ──▶ Writer ──pwrite──▶ segment files ──map──▶ Cursor ──▶ Frame ──▶ Piece ──▶ Record (bytes as received)
//!                    │ publish            ▲    ▲
//!                    ▼                    │    └─ Inspector (pread; with or without a service)
//!            watch<Positions> ◀── syncer ─┘ fdatasync in groups: DurableLsn
//! ```
//!
//! # A timeline
//!
//! A new log begins at 0/1000, the slot's position. Two transactions are appended in one frame, one ends at 0/1200, the
//! other at 0/1500: `appended_lsn` is 0/1500, cursors see both, `durable` is still 0/1000. The syncer comes back:
//! `durable` is 0/1500, and that is what the slot is told. The next transaction ends at 0/9000 and is so large that
//! it fills two segments: its frames are written and synced, but `appended_lsn` stays at 0/1500 until its last piece
//! is there; a crash before cuts it off. The segment in whose middle it goes on has `first_lsn` 0/9000, because only
//! transactions that end after that are whole in it and those that follow: a target whose checkpoint is 0/1500 begins
//! in the segment before, and that one can be trimmed only below 0/9000. The source is idle at 0/A000: a progress
//! mark moves the log there.
//!
//! # What is where
//!
//! The layout of a frame is in `frame.rs`, that of a segment's header in `header.rs`, what is done after a crash in
//! `recovery.rs`, how files come and go in `retention.rs`, the contract of the map in `segment.rs`.
//!
//! # Not here
//!
//! No tables, columns or SQL; no transactions in progress; no index by row; no compression; no second writer. What a
//! trimmed log no longer has comes back by copying a target again.

mod builder;
mod catalog;
mod error;
mod frame;
mod fs;
#[cfg(test)]
mod fs_memory;
mod header;
mod inspect;
#[cfg(test)]
mod inspect_tests;
mod log;
#[cfg(test)]
mod model_tests;
mod reader;
mod recovery;
#[cfg(test)]
mod recovery_tests;
mod retention;
mod scan;
mod segment;
mod syncer;
mod tail;
mod writer;

pub use builder::{FRAME_TARGET_BYTES, FrameBuilder};
pub use error::{AppendError, Class, Damage, FatalError, IoError, OpenError, ReadError};
pub use frame::{Frame, FrameKind, Piece, Record, TransactionInfo};
pub use inspect::{Inspector, Overview, Report, SegmentSummary, inspect, overview};
pub use log::{Identity, Log, Options, Positions, open};
pub use reader::Cursor;
pub use syncer::DurableLsn;
pub use writer::Writer;
