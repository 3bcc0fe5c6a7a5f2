//! pgoutput bytes to typed events, without I/O.
//!
//! ```text
//! one CopyData payload ──▶ decode(bytes, Context) ──▶ Message<'_>   (borrows the bytes; no allocation per row or column)
//! ```
//!
//! The crate knows no socket, file or clock. Every message kind of pgoutput's protocol versions 1 to 4 is a variant of
//! [`Message`] (source: "Logical Replication Message Formats" in PostgreSQL's manual). Wire value 0 for "none" becomes
//! `None` here and goes no further; bytes left over after a message are an error, as is every truncation, and each
//! error says at which byte offset of which message.

mod decode;
mod error;
mod lsn;
mod message;
mod reader;
mod relation;
mod tuple;

pub use decode::{ChangeParts, decode, decode_change, decode_change_body, split_change};
pub use error::DecodeError;
pub use lsn::{Lsn, ParseLsnError, PgTimestamp, RelationId, TypeOid, Xid};
pub use message::{Change, Context, Message, OldTuple, TruncateOptions};
pub use relation::{Column, Relation, ReplicaIdentity};
pub use tuple::{ColumnValue, Columns, Tuple};
