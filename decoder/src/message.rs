//! Every message of pgoutput, protocol versions 1 to 4.

use crate::lsn::{Lsn, PgTimestamp, RelationId, TypeOid, Xid};
use crate::relation::Relation;
use crate::tuple::Tuple;

/// What a decoder must know besides the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The `proto_version` that START_REPLICATION asked for, 1 to 4.
    pub protocol_version: u32,
    /// Between Stream Start and Stream Stop: row, Relation, Type, Truncate and logical messages then begin with an xid.
    pub in_stream: bool,
    /// `streaming 'parallel'` was asked for (protocol 4): Stream Abort then carries LSN and time.
    pub parallel: bool,
}

impl Context {
    /// Takes note of a decoded message: Stream Start and Stream Stop change how the next one is read.
    pub fn advance(&mut self, message: &Message<'_>) {
        match message {
            Message::StreamStart { .. } => self.in_stream = true,
            Message::StreamStop => self.in_stream = false,
            _ => {}
        }
    }
}

/// The old values of an UPDATE or DELETE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// `K`: only the replica identity's columns; all others read as NULL.
    Key(Tuple<'a>),
    /// `O`: the whole old row (REPLICA IDENTITY FULL).
    Full(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The values, of whichever kind.
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => *tuple,
        }
    }
}

/// TRUNCATE's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TruncateOptions {
    /// CASCADE was given (bit 1).
    pub cascade: bool,
    /// RESTART IDENTITY was given (bit 2).
    pub restart_identity: bool,
}

/// One event inside a transaction: what the segment log keeps and the applier applies.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<'a> {
    /// `R`: the definition that the following row messages of this relation refer to.
    Relation(Relation),
    /// `Y`: the name of a user-defined type.
    Type {
        /** Its OID. */
        oid: TypeOid,
        /** Its schema. */
        namespace: &'a str,
        /** Its name. */
        name: &'a str,
    },
    /// `I`.
    Insert {
        /** Where. */
        relation: RelationId,
        /** The row. */
        new: Tuple<'a>,
    },
    /// `U`; `old` is there when the key changed or the identity is FULL.
    Update {
        /** Where. */
        relation: RelationId,
        /** Old values. */
        old: Option<OldTuple<'a>>,
        /** The row after. */
        new: Tuple<'a>,
    },
    /// `D`.
    Delete {
        /** Where. */
        relation: RelationId,
        /** Old values. */
        old: OldTuple<'a>,
    },
    /// `T`.
    Truncate {
        /** Which tables, in the message's order. */
        relations: Vec<RelationId>,
        /** Flags. */
        options: TruncateOptions,
    },
    /// `M`: pg_logical_emit_message().
    Message {
        /** Belongs to the transaction. */
        transactional: bool,
        /** Its position. */
        lsn: Lsn,
        /** Prefix. */
        prefix: &'a str,
        /** Content. */
        content: &'a [u8],
    },
}

impl Change<'_> {
    /// The first byte of its message.
    pub fn tag(&self) -> u8 {
        match self {
            Change::Relation(_) => b'R',
            Change::Type { .. } => b'Y',
            Change::Insert { .. } => b'I',
            Change::Update { .. } => b'U',
            Change::Delete { .. } => b'D',
            Change::Truncate { .. } => b'T',
            Change::Message { .. } => b'M',
        }
    }

    /// The one relation that it defines or changes; `None` for Truncate (which may name several), Type and Message.
    pub fn relation(&self) -> Option<RelationId> {
        match self {
            Change::Relation(relation) => Some(relation.id),
            Change::Insert { relation, .. } | Change::Update { relation, .. } | Change::Delete { relation, .. } => {
                Some(*relation)
            }
            Change::Type { .. } | Change::Truncate { .. } | Change::Message { .. } => None,
        }
    }
}

/// One message; borrows the bytes it was decoded from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// `B`. `commit_lsn` is what the manual calls the transaction's final LSN.
    Begin {
        /** Start of the commit record. */
        commit_lsn: Lsn,
        /** When. */
        commit_time: PgTimestamp,
        /** Which. */
        xid: Xid,
    },
    /// `C`.
    Commit {
        /** Start of the commit record. */
        commit_lsn: Lsn,
        /** First byte after it. */
        end_lsn: Lsn,
        /** When. */
        commit_time: PgTimestamp,
    },
    /// `O`.
    Origin {
        /** Commit position on the origin; `None` inside a stream. */
        commit_lsn: Option<Lsn>,
        /** Its name. */
        name: &'a str,
    },
    /// R, Y, I, U, D, T, M. `xid` is the (sub)transaction when inside a stream.
    Change {
        /** The (sub)transaction inside a stream; `None` outside. */
        xid: Option<Xid>,
        /** What. */
        change: Change<'a>,
    },
    /// `S`.
    StreamStart {
        /** Top-level transaction. */
        xid: Xid,
        /** Its first chunk. */
        first: bool,
    },
    /// `E`.
    StreamStop,
    /// `c`.
    StreamCommit {
        /** Which. */
        xid: Xid,
        /** Start of the commit record. */
        commit_lsn: Lsn,
        /** First byte after it. */
        end_lsn: Lsn,
        /** When. */
        commit_time: PgTimestamp,
    },
    /// `A`; the whole transaction when `subxid == xid`. Position and time only under `streaming 'parallel'`.
    StreamAbort {
        /** Top-level. */
        xid: Xid,
        /** What is rolled back. */
        subxid: Xid,
        /** Where. */
        abort_lsn: Option<Lsn>,
        /** When. */
        abort_time: Option<PgTimestamp>,
    },
    /// `b`.
    BeginPrepare {
        /** Position of PREPARE. */
        prepare_lsn: Lsn,
        /** Its end. */
        end_lsn: Lsn,
        /** When. */
        prepare_time: PgTimestamp,
        /** Which. */
        xid: Xid,
        /** Global id. */
        gid: &'a str,
    },
    /// `P`.
    Prepare {
        /** Position of PREPARE. */
        prepare_lsn: Lsn,
        /** Its end. */
        end_lsn: Lsn,
        /** When. */
        prepare_time: PgTimestamp,
        /** Which. */
        xid: Xid,
        /** Global id. */
        gid: &'a str,
    },
    /// `K`.
    CommitPrepared {
        /** Start of the commit record. */
        commit_lsn: Lsn,
        /** Its end. */
        end_lsn: Lsn,
        /** When. */
        commit_time: PgTimestamp,
        /** Which. */
        xid: Xid,
        /** Global id. */
        gid: &'a str,
    },
    /// `r`.
    RollbackPrepared {
        /** End of PREPARE. */
        prepare_end_lsn: Lsn,
        /** End of the rollback. */
        rollback_end_lsn: Lsn,
        /** When prepared. */
        prepare_time: PgTimestamp,
        /** When rolled back. */
        rollback_time: PgTimestamp,
        /** Which. */
        xid: Xid,
        /** Global id. */
        gid: &'a str,
    },
    /// `p`.
    StreamPrepare {
        /** Position of PREPARE. */
        prepare_lsn: Lsn,
        /** Its end. */
        end_lsn: Lsn,
        /** When. */
        prepare_time: PgTimestamp,
        /** Which. */
        xid: Xid,
        /** Global id. */
        gid: &'a str,
    },
}
