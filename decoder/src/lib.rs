//! pgoutput bytes to typed events, without I/O.
//!
//! ```text
//! one CopyData payload ──▶ decode(bytes, Context) ──▶ Message<'_>   (borrows the bytes, allocates nothing per row)
//! ```
//!
//! The crate knows no socket, file or clock. Every message kind of pgoutput's protocol versions 1 to 4 is a variant of
//! [`Message`] (source: "Logical Replication Message Formats" in PostgreSQL's manual). Wire value 0 for "none" becomes
//! `None` here and goes no further; bytes left over after a message are an error, as is every truncation, and each
//! error says at which byte offset of which message.
//!
//! A transaction in progress and its end, as PostgreSQL 18 sent them (`tests/golden/18.txt`, shortened). The caller
//! keeps the [`Context`] with [`Context::advance`], because between Stream Start and Stream Stop every change
//! has an xid:
//!
//! ```text
//! S  StreamStart  { xid: 801, first: true }                        in_stream from here
//! R  Change       { xid: 801, Relation keyed }
//! I  Change       { xid: 801, Insert }
//! E  StreamStop                                                    not in_stream from here
//! S  StreamStart  { xid: 801, first: false }
//! I  Change       { xid: 803, Insert }                             after SAVEPOINT
//! E  StreamStop
//! A  StreamAbort  { xid: 801, subxid: 803, abort_lsn: 0/1C04C10 }  ROLLBACK TO; the position only if parallel
//! c  StreamCommit { xid: 801, commit_lsn: 0/1C04F00, end_lsn: 0/1C04F80 }
//! ```
//!
//! Not done here: assembling transactions, remembering relations, understanding values. Whether a row has as many
//! columns as its relation is for whoever remembers the relation.

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
