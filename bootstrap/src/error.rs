//! What can go wrong in a copy.

use std::fmt;
use std::io;
use std::path::PathBuf;

use connection::{ConnectError, ServerError, WireError};

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Read from.
    Source,
    /// Written to.
    Target,
}

impl Whom {
    /// For `map_err`: what was being done there when a statement failed.
    pub(crate) fn doing(self, doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Error {
        move |cause| Error::Statement { whom: self, doing: doing.into(), cause }
    }

    /// The same for a raw session.
    pub(crate) fn wire(self, doing: impl Into<String>) -> impl FnOnce(WireError) -> Error {
        move |source| Error::Wire { whom: self, doing: doing.into(), source }
    }

    /// An answer that is not of the expected form.
    pub(crate) fn strange(self, doing: impl Into<String>) -> Error {
        Error::Answer { whom: self, doing: doing.into() }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whom::Source => "source",
            Whom::Target => "target",
        })
    }
}

/// Why a target could not be made. No message holds a row's values or a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No session.
    #[error("{whom}")]
    Connect {
        /// With whom.
        whom: Whom,
        /// Why.
        source: ConnectError,
    },
    /// A session that carries rows or the snapshot.
    #[error("{whom}: could not {doing}")]
    Wire {
        /// Whose session.
        whom: Whom,
        /// What was being done, in the infinitive.
        doing: String,
        /// Why it failed.
        source: WireError,
    },
    /// A statement.
    #[error("{whom}: could not {doing}: {}", capture::one_line(.cause))]
    Statement {
        /// Whose.
        whom: Whom,
        /// What was being done, in the infinitive.
        doing: String,
        /// What the server or the session said. It is part of the message.
        cause: tokio_postgres::Error,
    },
    /// A server's answer that is not of the expected form.
    #[error("{whom}: could not {doing}: unexpected answer")]
    Answer {
        /// Whose.
        whom: Whom,
        /// What was being done.
        doing: String,
    },
    /// The snapshot of the source.
    #[error("source")]
    Snapshot(#[from] replication::ReplicationError),
    /// What the source is asked beside.
    #[error("source")]
    Capture(#[from] capture::Error),
    /// walcast's own tables on the target.
    #[error("target")]
    Applier(#[from] applier::Error),
    /// A program of PostgreSQL is missing, or too old.
    #[error("{program} of PostgreSQL {wanted} or later is needed, found {found}")]
    NoProgram {
        /// Which one.
        program: &'static str,
        /// The source's major version.
        wanted: u32,
        /// What was found, in words.
        found: String,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} could not {doing}: {message}")]
    Program {
        /// Which one.
        program: &'static str,
        /// What it should do.
        doing: &'static str,
        /// Its first complaint.
        message: String,
    },
    /// A temporary file, or starting a program.
    #[error("could not {doing} \"{}\"", .path.display())]
    File {
        /// What was being done, in the infinitive.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The target holds something that walcast did not put there.
    #[error("the target is not empty: {0}")]
    NotEmpty(String),
    /// Another command copies to the target.
    #[error("another bootstrap of this target is running")]
    InProgress,
    /// The target has a checkpoint.
    #[error("the target has been copied already, its checkpoint is {0}")]
    Copied(decoder::Lsn),
    /// A bootstrap that was begun without `--schema-exists`, or with it.
    #[error("the target's bootstrap was begun {0} --schema-exists")]
    OtherKind(&'static str),
    /// Roles that are missing on the target and are not to be made.
    #[error("roles that own something or are granted something are missing on the target: {0}")]
    MissingRoles(String),
    /// A table or column that the target lacks.
    #[error("the target lacks {0}")]
    Missing(String),
    /// The source's schema is not what the target's was made of.
    #[error("the source's schema has changed since this bootstrap was begun")]
    SchemaChanged,
    /// Somebody else wanted to alter tables just when they were to be locked, again and again.
    #[error("the tables could not be locked between other sessions' DDL, {attempts} times in a row")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// Tables were rewritten or emptied between snapshot and lock, again and again.
    #[error("table {table} was rewritten, emptied or dropped while the snapshot was taken, {attempts} times in a row")]
    Rewritten {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A table that is to be copied again is none of the publication's.
    #[error("table {0} is not published")]
    NotPublished(String),
    /// The publication does not exist.
    #[error("publication \"{0}\" does not exist on the source")]
    NoPublication(String),
    /// The session that held the snapshot is lost.
    #[error("a worker ended unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Error::Connect { source, .. } => return source.hint().map(str::to_owned),
            Error::Wire { source, .. } => return Some(wire_hint(source)),
            Error::Statement { cause, .. } => return Some(statement_hint(cause)),
            Error::Snapshot(error) => return error.hint(),
            Error::Capture(error) => return error.hint().map(Into::into),
            Error::Applier(error) => return error.hint().map(Into::into),
            Error::Answer { .. } => "is this a PostgreSQL server of version 14 to 18?",
            Error::NoProgram { wanted, .. } => {
                return Some(format!(
                    "install PostgreSQL's client programs of version {wanted} (apt-get install postgresql-client-{wanted}), \
                     or put their directory on the PATH"
                ));
            }
            Error::Program { .. } => "remove what is in its way, then run the same command again: it goes on",
            Error::File { .. } => "look at the directory for temporary files (TMPDIR)",
            Error::NotEmpty(_) => {
                "name an empty database; or, if the target has the source's schema already, empty its tables and add \
                 --schema-exists"
            }
            Error::InProgress => "wait for it, or end it with Ctrl-C",
            Error::Copied(_) => "`walcast resync` copies it again, `walcast remove` forgets it",
            Error::OtherKind(_) => "go on with the same options, or `walcast remove` the target and begin anew",
            Error::MissingRoles(_) => "create them, or set replicate = true in [roles]",
            Error::Missing(_) => "alter the target's schema so that it has what the source publishes",
            Error::SchemaChanged => {
                "`walcast remove` the target, empty its database, and begin anew: what is there has the old schema"
            }
            Error::Contended { .. } | Error::Rewritten { .. } => {
                "run it again when no DDL or TRUNCATE runs on the source"
            }
            Error::NotPublished(_) => "`walcast setup` publishes what [source] tables names",
            Error::NoPublication(_) => "run `walcast setup` first",
            Error::Worker(_) => "run the same command again: it goes on where it stopped",
        };
        Some(fixed.to_owned())
    }

    /// A copied table's or statement's refusal, as the server put it.
    pub(crate) fn refused(whom: Whom, doing: impl Into<String>, body: &[u8]) -> Error {
        Error::Wire { whom, doing: doing.into(), source: WireError::Server(Box::new(ServerError::parse(body))) }
    }
}

const AGAIN: &str = "see the server's log, then run the same command again: it goes on where it stopped";

fn wire_hint(error: &WireError) -> String {
    let of_server = error.server().and_then(|said| said.hint.clone());
    of_server.or_else(|| error.server().and(error.hint()).map(str::to_owned)).unwrap_or_else(|| AGAIN.to_owned())
}

fn statement_hint(cause: &tokio_postgres::Error) -> String {
    let said = cause.as_db_error();
    let of_server = said.and_then(|said| said.hint().map(str::to_owned));
    let denied = said.is_some_and(|said| said.code().code() == "42501");
    let grant = || denied.then(|| "grant the role what the message names, or use a role that has it".to_owned());
    of_server.or_else(grant).unwrap_or_else(|| AGAIN.to_owned())
}
