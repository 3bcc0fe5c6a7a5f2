//! Compares a target with the source at one position, and repairs its rows.
//!
//! ```text
//! hold target ─▶ source: slot, snapshot at C ─▶ target applies up to C ─▶ target: snapshot ─▶ release      (the caller)
//!                          │                                                     │
//!                          └──────────────▶ Verification::round ◀────────────────┘
//!        definitions, sequences     side beside side
//!        rows                       one scan per side: sums per bucket ─▶ buckets that differ ─▶ keys ─▶ their values
//! ```
//!
//! Both go on meanwhile: neither snapshot keeps a writer waiting. Only TRUNCATE and what gives a table new files cannot
//! be seen through a snapshot; a table that was so treated between snapshot and scan is compared again in another
//! [`round`](Verification::round), at new snapshots that keep it from being truncated ([`Snapshot::lock`]).
//!
//! # A timeline
//!
//! A target is held. A slot on the source has its consistent point at 0/1500: its snapshot has exactly the transactions
//! with `commit_lsn` < 0/1500. The target applies these, and its snapshot is taken there; then it goes on. Row 7 of
//! `orders` is not the same: of 16384 buckets, number 311 has other sums on both sides. A second scan reads the hashes of
//! the keys in bucket 311, and finds one with another row; a third one reads that key. With `--repair` the target is held
//! again, at 0/1900 say, and row 7 is made there what the source's is as of 0/1900.
//!
//! # What equal means
//!
//! Rows are equal when the text form of their columns is; see the `scan` module. Columns go by name, and only those that
//! the publication carries count. A table without replica identity index or primary key is a multiset of rows. Memory: a
//! table in work has 16384 sums, and the hashes of 250,000 keys when it is drilled into; at most [`LISTED_MAX`]
//! differences per table are listed, the others counted.
//!
//! # Not here
//!
//! How the target is held and the source's snapshot is made. Rows of tables that are not published; triggers, functions,
//! views. A difference in a definition is shown, never repaired.

mod drill;
mod error;
mod repair;
mod report;
mod rows;
mod scan;
mod schema;
mod sequence;
mod session;
mod snapshot;
mod sums;
mod table;
mod verification;

pub use error::{Error, Side};
pub use repair::Repair;
pub use report::{Difference, Kind, LISTED_MAX, Report, TableReport};
pub use rows::{Observer, Progress};
pub use snapshot::{Snapshot, Snapshots};
pub use table::TableName;
pub use verification::{Options, Verification};
