//! From the walsender's socket to the segment log.
//!
//! ```text
//!              receiver, a task                       assembler, called by it
//! walsender ──▶ read → whole CopyData messages ──▶ decode → spool → frames ──▶ segment_log::Writer
//!     ▲                                                                          │ fsync by the log
//!     └────── status updates by timer ◀── thread "feedback" ◀── DurableLsn ◀─────┘
//! ```
//!
//! One timeline, at positions of the source's WAL. A transaction begins at 0/1000, another one commits meanwhile:
//!
//! | position | the walsender sends | assembler | acknowledged (flush) |
//! | --- | --- | --- | --- |
//! | 0/2000 | Begin, Insert, Commit (`end_lsn` 0/2080) | appended to the log | 0/0F00, as before |
//! | | | the log's fsync returns | 0/2080 |
//! | 0/3000 | Stream Start, 10,000 Inserts, Stream Stop | to a spool file | 0/2080 |
//! | 0/4000 | keepalive at 0/4000 | nothing: a spool file is open | 0/2080 |
//! | 0/5000 | Stream Commit (`end_lsn` 0/5060) | spool → log | 0/2080, after the fsync 0/5060 |
//! | 0/6000 | keepalive at 0/6000 | progress mark 0/6000 → log | after the fsync 0/6000 |
//!
//! Logical messages of the capture (DDL, roles, sequences) are signed. They are verified at their transaction's commit, by
//! the key in `walcast.secret` on the source, and what is not the capture's is dropped (`signature.rs`, `keeper.rs`). Rows
//! of schema `walcast` are dropped too.
//!
//! The feedback thread never waits for the log, for a target or for the assembler: while those make the receiver wait,
//! nothing is read, and the walsender is told that somebody is alive. The assembler never talks to the socket.
//!
//! Not here: what a target does with a change (`applier`), how a frame lies on disk (`segment_log`).

mod appender;
mod assembler;
mod chunk;
mod error;
mod feedback;
mod full_disk;
mod keeper;
mod names;
mod receiver;
mod run;
mod schema_names;
mod signature;
mod snapshot;
mod source;
mod spool;
mod status;
mod told;
mod types;
mod walsender;

pub use error::ReplicationError;
pub use run::{Options, run};
pub use snapshot::ExportedSnapshot;
pub use source::{Slot, SourceIdentity, probe};
pub use status::{State, Status};
pub use types::binary_safe_list;
