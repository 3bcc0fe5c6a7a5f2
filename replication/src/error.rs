//! What can go wrong between the socket and the log.

use decoder::{DecodeError, Lsn, RelationId, Xid};

use crate::chunk::WalsenderError;
use crate::spool::SpoolError;

/// An error of the stream. [`ReplicationError::is_transient`] says whether trying again can help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicationError {
    /// No session with the source.
    #[error(transparent)]
    Connect(#[from] connection::ConnectError),
    /// The session broke, or the source refused a command.
    #[error(transparent)]
    Wire(#[from] connection::WireError),
    /// The walsender ended the stream with an error.
    #[error("the source ended the stream")]
    Server(#[source] Box<connection::ServerError>),
    /// The source is not the one that the log was made from.
    #[error("source is another database cluster: the log was made from {expected}, this is {found}")]
    Identity {
        /// What the log's segments say.
        expected: String,
        /// What IDENTIFY_SYSTEM says.
        found: String,
    },
    /// There is no such slot.
    #[error("replication slot \"{0}\" does not exist")]
    SlotMissing(String),
    /// The slot exists but cannot serve.
    #[error("replication slot \"{slot}\" {reason}")]
    SlotUnusable {
        /// Its name.
        slot: String,
        /// Why.
        reason: String,
    },
    /// The slot was advanced beyond what the log holds: transactions between the two are lost to the log.
    #[error("gap: the log ends at {log_end} but slot \"{slot}\" has been confirmed up to {confirmed}")]
    Gap {
        /// Slot.
        slot: String,
        /// Durable end of the log.
        log_end: Lsn,
        /// The slot's confirmed_flush_lsn.
        confirmed: Lsn,
    },
    /// The log holds more than the source ever wrote: the source was restored or failed over to a standby behind.
    #[error("the log ends at {log_end} but the source has written only up to {source_end}")]
    SourceBehind {
        /// Durable end of the log.
        log_end: Lsn,
        /// The source's current WAL position.
        source_end: Lsn,
    },
    /// The server answered something that is not in the protocol.
    #[error("unexpected answer of the source to {command}: {got}")]
    Protocol {
        /// What was asked.
        command: &'static str,
        /// What came.
        got: String,
    },
    /// A CopyData message that no walsender sends.
    #[error("message of the source after {after} cannot be read")]
    Walsender {
        /// The last transaction's end before it.
        after: Lsn,
        /// What is wrong with it.
        source: WalsenderError,
    },
    /// A pgoutput message that cannot be read.
    #[error("message of the source after {after} cannot be decoded")]
    Decode {
        /// The last transaction's end before it.
        after: Lsn,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A readable message where it cannot be.
    #[error("after {after}: {what}")]
    Sequence {
        /// The last transaction's end before it.
        after: Lsn,
        /// Which message, and why not here.
        what: String,
    },
    /// A row of a relation that was not described.
    #[error("after {after}: row of undescribed relation {relation} in transaction {xid}")]
    UnknownRelation {
        /// The last transaction's end before it.
        after: Lsn,
        /// The relation.
        relation: RelationId,
        /// The transaction.
        xid: Xid,
    },
    /// A change of a relation whose last known name has gone to another: it has to be described anew.
    #[error("after {after}: relation {relation} was renamed without being described anew")]
    Renamed {
        /// The last transaction's end before it.
        after: Lsn,
        /// The relation.
        relation: RelationId,
    },
    /// A row with another number of columns than its relation.
    #[error("after {after}: row of relation {relation} has {got} columns, expected {expected}")]
    ColumnCount {
        /// The last transaction's end before it.
        after: Lsn,
        /// The relation.
        relation: RelationId,
        /// Columns of its description.
        expected: usize,
        /// Columns of the row.
        got: usize,
    },
    /// The stream is binary and a table has a column whose type cannot travel so: the stream is asked for in text.
    #[error("relation \"{relation}\" has a column of type {type_oid}, which is not taken in binary")]
    NeedsText {
        /// Schema and table.
        relation: String,
        /// The type's OID.
        type_oid: u32,
    },
    /// So many relations were described that the stream begins anew, to forget those that do not change any more.
    #[error("relations were described in {bytes} bytes")]
    ManyRelations {
        /// Of their descriptions.
        bytes: usize,
    },
    /// The walsender ended the stream.
    #[error("the source ended the stream")]
    StreamEnded,
    /// Nothing came from the source for too long although it was asked.
    #[error("no sign of life from the source for {0} s")]
    Silent(u64),
    /// The key of the capture's messages cannot be read.
    #[error("cannot read the key of the messages that carry DDL (walcast.secret)")]
    Key(#[source] connection::WireError),
    /// The system has no thread or runtime to give.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] segment_log::AppendError),
    /// The log's fsync failed; what is on disk is not known any more.
    #[error(transparent)]
    LogFailed(#[from] segment_log::FatalError),
    /// A spool file cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// So many schemas were renamed that a new connection is to say which of that is needed.
    #[error("{count} renames of schemas are remembered: a new connection tells which are needed")]
    ManyRenames {
        /// How many.
        count: usize,
    },
    /// The file with names of schemas cannot be used.
    #[error("cannot use the file of renamed schemas \"{path}\"", path = path.display())]
    SchemaNames {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The service is stopping.
    #[error("stopped on request")]
    Stopped,
}

impl ReplicationError {
    /// Can trying again help by itself?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => error.class() == connection::Class::Transient,
            Self::Wire(error) | Self::Key(error) => error.class() == connection::Class::Transient,
            Self::Server(error) => error.transient(),
            Self::NeedsText { .. }
            | Self::ManyRelations { .. }
            | Self::ManyRenames { .. }
            | Self::Renamed { .. }
            | Self::StreamEnded
            | Self::Silent(_)
            | Self::Thread(_) => true,
            _ => false,
        }
    }

    /// Is it the slot that cannot go on where the log ends? What the log holds is good all the same.
    pub fn is_slot_lost(&self) -> bool {
        matches!(self, Self::SlotMissing(_) | Self::SlotUnusable { .. } | Self::Gap { .. })
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Connect(error) => return error.hint().map(Into::into),
            Self::Wire(error) => return error.hint().map(Into::into),
            Self::Identity { .. } => {
                "point [source] conninfo at the cluster that the log was made from, or use an empty [log] dir and \
                 bootstrap the targets again"
            }
            Self::SlotMissing(_) => {
                "run \"walcast setup\"; if a log exists, changes made since the slot was dropped are lost to it: use an \
                 empty [log] dir and bootstrap the targets again"
            }
            Self::SlotUnusable { .. } => "see pg_replication_slots on the source",
            Self::Gap { .. } => {
                "something else consumed or advanced the slot, or the log directory is an older copy: use an empty \
                 [log] dir and bootstrap the targets again"
            }
            Self::SourceBehind { .. } => {
                "the source was restored from a backup or is a standby that was behind; bootstrap the targets again"
            }
            Self::Renamed { .. } => {
                "within one transaction, a schema was renamed and a table made under its old name; servers before 16 do \
                 not tell them apart: use an empty [log] dir and a new slot, and bootstrap the targets again"
            }
            Self::Key(_) => "run \"walcast setup\" again: it grants the service's role what it needs",
            Self::LogFailed(error) => error.hint(),
            Self::Log(error) => return error.hint().map(Into::into),
            Self::Server(error) => return error.hint.clone(),
            Self::Spool(_) | Self::SchemaNames { .. } => "see permissions and free space of the [log] dir",
            Self::Sequence { .. } | Self::UnknownRelation { .. } | Self::ColumnCount { .. } | Self::Decode { .. } => {
                "nothing of it was applied or acknowledged; please report it with the output of \"walcast log check\""
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The error and its causes in one line.
    pub fn one_line(&self) -> String {
        in_one_line(self)
    }
}

/// An error and its causes.
pub(crate) fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
