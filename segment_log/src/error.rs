//! What can go wrong, one enum per operation; each says where, and what the caller should do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use decoder::{Lsn, RelationId};

/// How a caller should react to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may go away by itself: try again later.
    Transient,
    /// It stays until a person changes something; other work can go on.
    Definite,
    /// The log can't be used any more: the process must end.
    Fatal,
}

/// Bytes of the log that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log segment \"{}\" is damaged at offset {offset}: {what}", path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// An operation of the operating system that failed, and on which file.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} \"{}\"", path.display())]
pub struct IoError {
    /// As an infinitive: "fsync".
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl IoError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> IoError {
        IoError { operation, path: path.to_owned(), source }
    }

    /// Whether the disk or the quota is used up.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The log failed for good: a write or fsync did not succeed, so nobody knows what the disk holds.
///
/// It is never retried (a second fsync may report success for pages the first one lost); the process must end, and
/// recovery at the next start finds out what is there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log failed: {0}")]
pub struct FatalError(#[source] pub(crate) Arc<IoError>);

impl FatalError {
    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        "look at the kernel's log for errors of this disk; after a restart what was not fsynced is read again"
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No room for the first segment.
    #[error("no room for a log segment of {bytes} bytes in \"{}\"", dir.display())]
    DiskFull {
        /// The log's directory.
        dir: PathBuf,
        /// Size of the file that did not fit.
        bytes: u64,
    },
    /// Another process has it open.
    #[error("the log \"{}\" is in use by another process", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Others could read or change it.
    #[error("the log \"{}\" {what}", dir.display())]
    Unsafe {
        /// The log's directory.
        dir: PathBuf,
        /// Owner or mode.
        what: String,
    },
    /// Damage that is not a torn tail.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// It holds another stream.
    #[error("log segment \"{}\" belongs to {what} {found}, expected {expected}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which part of the identity.
        what: &'static str,
        /// The segment's.
        found: String,
        /// Ours.
        expected: String,
    },
    /// Written by another version of walcast.
    #[error("log segment \"{}\" has format version {found}, expected {expected}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The segment's.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// A segment between two others is not there.
    #[error("log segment {missing} is missing before \"{}\"", next.display())]
    Missing {
        /// Sequence number.
        missing: u64,
        /// The file after the hole.
        next: PathBuf,
    },
    /// Two files claim to be the same segment.
    #[error("log segments \"{}\" and \"{}\" are both number {seq}", first.display(), second.display())]
    Duplicate {
        /// Sequence number.
        seq: u64,
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
}

impl OpenError {
    /// How to react.
    pub fn class(&self) -> Class {
        match self {
            OpenError::DiskFull { .. } => Class::Transient,
            OpenError::Locked { .. } | OpenError::Unsafe { .. } | OpenError::Foreign { .. } => Class::Definite,
            _ => Class::Fatal,
        }
    }

    /// What the operator can do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            OpenError::Io(_) => return None,
            OpenError::DiskFull { .. } => "free some space on this file system",
            OpenError::Locked { .. } => "only one service can run on a log directory; stop the other one first",
            OpenError::Unsafe { .. } => "give the directory to the user who runs walcast, with mode 0700",
            OpenError::Foreign { .. } => "name another log directory for another source, slot or publication",
            OpenError::Version { .. } => {
                "run the version of walcast that wrote this log until every target has caught up"
            }
            OpenError::Damage(_) | OpenError::Missing { .. } | OpenError::Duplicate { .. } => {
                "see \"walcast log check\"; restore the log from a copy, or start a new one and resync the targets"
            }
        })
    }
}

/// Why something could not be appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No room for the next segment; nothing was changed, the same call can be made again later.
    #[error("no room for a log segment of {bytes} bytes in \"{}\"", dir.display())]
    DiskFull {
        /// The log's directory.
        dir: PathBuf,
        /// Size of the file that did not fit.
        bytes: u64,
    },
    /// The log failed for good.
    #[error(transparent)]
    Failed(#[from] FatalError),
    /// Not in commit order.
    #[error("a transaction that ends at {given} can't follow the log's end {end}")]
    Order {
        /// End of the log.
        end: Lsn,
        /// What was to be appended.
        given: Lsn,
    },
    /// Pieces of two transactions would be mixed.
    #[error("the transaction that ends at {open} is not complete, a piece of {given} can't follow")]
    Interleaved {
        /// The unfinished one, or zero.
        open: Lsn,
        /// What was to be appended.
        given: Lsn,
    },
    /// A change of a relation whose Relation message was never seen.
    #[error("a change names relation {relation}, of which no Relation message came before")]
    Undescribed {
        /// The relation.
        relation: RelationId,
    },
}

impl AppendError {
    /// How to react.
    pub fn class(&self) -> Class {
        match self {
            AppendError::DiskFull { .. } => Class::Transient,
            _ => Class::Fatal,
        }
    }

    /// What the operator can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            AppendError::DiskFull { .. } => Some("free some space on this file system; the service goes on by itself"),
            AppendError::Failed(fatal) => Some(fatal.hint()),
            _ => None,
        }
    }
}

/// Why something could not be read or trimmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log no longer (or not yet) holds what follows `after`.
    #[error("the log begins at {first_lsn}, after the wanted position {after}")]
    Desync {
        /// The wanted position.
        after: Lsn,
        /// Where the log begins.
        first_lsn: Lsn,
    },
    /// A frame is not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The log failed for good.
    #[error(transparent)]
    Failed(#[from] FatalError),
}

impl ReadError {
    /// How to react.
    pub fn class(&self) -> Class {
        match self {
            ReadError::Desync { .. } => Class::Definite,
            _ => Class::Fatal,
        }
    }

    /// What the operator can do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            ReadError::Desync { .. } => "copy the target again with \"walcast resync\"",
            ReadError::Damage(_) => "see \"walcast log check\"; restore the log from a copy, or resync the targets",
            ReadError::Io(_) => return None,
            ReadError::Failed(fatal) => fatal.hint(),
        })
    }
}
