//! The memory-mapped segment log of row events.
//!
//! Only *whole committed transactions* in commit order are ever appended; what is still in progress on the source stays
//! with the writer's caller. One process writes (flock); any number of cursors in it tail the log through the map.

mod builder;
mod catalog;
mod error;
mod frame;
mod fs;
#[cfg(test)]
mod fs_memory;
mod header;
mod inspect;
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
pub use inspect::{Inspector, Overview, Report, SegmentSummary, inspect};
pub use log::{Identity, Log, Options, Positions, open};
pub use reader::Cursor;
pub use syncer::DurableLsn;
pub use writer::Writer;
