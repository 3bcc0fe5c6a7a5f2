//! What can go wrong between the log and a target, and what to do about it.

use connection::{ConnectError, ServerError, WireError};
use decoder::{DecodeError, Lsn, RelationId, Xid};
use segment_log::ReadError;

use crate::name::one_line;
use crate::status::StoppedBy;

/// How to react to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The same again may succeed: retry with backoff.
    Transient,
    /// This target stops until a person has changed something.
    Definite,
    /// The log is at fault, and with it every target.
    Fatal,
}

/// Why something was not applied. No message holds a row's values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The session broke, or the target answered with an error outside of a change.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The target refused a statement.
    #[error("{}", redacted(.0))]
    Refused(Box<ServerError>),
    /// The target's answer is not what was asked for.
    #[error("unexpected answer of the target: {0}")]
    Answer(&'static str),
    /// The target took too long to answer what takes no time.
    #[error("the target does not answer")]
    Silent,
    /// The target is a standby.
    #[error("the target is in recovery")]
    InRecovery,
    /// Another session holds the checkpoint.
    #[error("another session applies to this target")]
    Fenced,
    /// What a worker's unit was to follow has failed.
    #[error("the transaction before failed")]
    Overtaken,
    /// The checkpoint is not where this session left it.
    #[error("the checkpoint was moved by someone else")]
    CheckpointMoved,
    /// The target has no checkpoint.
    #[error("the target has no checkpoint for this slot")]
    NoCheckpoint,
    /// A checkpoint exists already and differs from the one to declare.
    #[error("the target already has a checkpoint at {existing}, not at {wanted}")]
    CheckpointExists {
        /// Where it is.
        existing: Lsn,
        /// Where it was to be.
        wanted: Lsn,
    },
    /// The log begins after the checkpoint.
    #[error("the log begins at {first_lsn}, after the target's checkpoint {checkpoint}")]
    Desync {
        /// The target's position.
        checkpoint: Lsn,
        /// The log's.
        first_lsn: Lsn,
    },
    /// The target lacks a table.
    #[error("table {table} does not exist on the target")]
    MissingTable {
        /// `schema.table`.
        table: String,
    },
    /// A view, foreign table or the like stands where a table should.
    #[error("{table} is not a table on the target")]
    NotATable {
        /// `schema.table`.
        table: String,
    },
    /// The target's table lacks a published column.
    #[error("column \"{}\" of table {table} does not exist on the target", one_line(.column))]
    MissingColumn {
        /// `schema.table`.
        table: String,
        /// The column.
        column: String,
    },
    /// Row-level security would hide rows from the applier.
    #[error("row-level security is in force on table {table}")]
    RowSecurity {
        /// `schema.table`.
        table: String,
    },
    /// UPDATE or DELETE found nothing.
    #[error("{operation} found no row in table {table}")]
    NoRow {
        /// `UPDATE` or `DELETE`.
        operation: &'static str,
        /// `schema.table`.
        table: String,
    },
    /// UPDATE or DELETE found several rows.
    #[error("{operation} found {rows} rows in table {table}, expected 1")]
    SeveralRows {
        /// `UPDATE` or `DELETE`.
        operation: &'static str,
        /// `schema.table`.
        table: String,
        /// How many.
        rows: u64,
    },
    /// UPDATE or DELETE did not find exactly one row; how many is not known.
    #[error("{operation} did not find exactly one row in table {table}")]
    NotOneRow {
        /// `UPDATE` or `DELETE`.
        operation: &'static str,
        /// `schema.table`.
        table: String,
    },
    /// A change of a relation that the log has not described before it.
    #[error("relation {0} was not described before its change")]
    UnknownRelation(RelationId),
    /// A row that does not fit its relation.
    #[error("row of table {table} has {got} columns, expected {expected}")]
    ColumnCount {
        /// `schema.table`.
        table: String,
        /// The row's.
        got: usize,
        /// The relation's.
        expected: usize,
    },
    /// An UPDATE or DELETE whose row nothing identifies.
    #[error("change of table {table} has no replica identity")]
    NoIdentity {
        /// `schema.table`.
        table: String,
    },
    /// A row that does not fit into one message.
    #[error("row of {bytes} bytes in table {table}, at most {max} can be sent")]
    TooLarge {
        /// `schema.table`.
        table: String,
        /// The row's size.
        bytes: usize,
        /// The protocol's limit.
        max: usize,
    },
    /// A message of the capture could not be applied.
    #[error(transparent)]
    Ddl(Box<::ddl::Failure<Error>>),
    /// A message of the capture is not understood.
    #[error(transparent)]
    Message(#[from] ::ddl::ParseError),
    /// The functions that messages need are missing on the target, or of another version, and the role may not make them.
    #[error("the target lacks functions that DDL needs{}", because(.0))]
    NoFunctions(Option<Box<ServerError>>),
    /// What the target's functions know the service by is another than when the session began.
    #[error("the target does not take the session's token, and there is another one by now")]
    OtherToken,
    /// Schema walcast on the target is in the hands of a role that could gain this one's rights by it.
    #[error("schema walcast on the target belongs to another role")]
    ForeignSchema,
    /// In a lane: what was copied of the table is of no use any more.
    #[error("table {table} was altered while it was copied again")]
    AlteredMeanwhile {
        /// `schema.table`.
        table: String,
    },
    /// The log holds bytes that are no change.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// Only the transaction that stopped the target can be skipped.
    #[error("transaction {asked} did not stop the target{}", stopped_at(.stopped))]
    NotStoppedThere {
        /// What the operator named.
        asked: Lsn,
        /// What stopped it, if anything did.
        stopped: Option<Lsn>,
    },
    /// Another error, and which change it hit.
    #[error("{source}")]
    At {
        /// Where in the stream.
        place: Place,
        /// What.
        source: Box<Error>,
    },
}

/// The change, or the transaction, that an error hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The transaction's `end_lsn`.
    pub end_lsn: Lsn,
    /// Its xid on the source.
    pub xid: Xid,
    /// `schema.table`.
    pub relation: Option<String>,
}

fn stopped_at(stopped: &Option<Lsn>) -> String {
    stopped.map_or_else(|| "; it is not stopped".to_owned(), |lsn| format!("; {lsn} did"))
}

fn because(refused: &Option<Box<ServerError>>) -> String {
    refused.as_ref().map_or_else(String::new, |error| format!(": {}", redacted(error)))
}

/// The server's message without what may be a row's value: of data exceptions (class 22) everything in double quotes,
/// of exceptions raised by code on the target everything.
fn redacted(error: &ServerError) -> String {
    match error.sqlstate.get(..2) {
        Some("22") => one_line(&without_quoted(&error.message)),
        Some("P0") => "an exception was raised by code on the target".to_owned(),
        _ => one_line(&error.message),
    }
}

fn without_quoted(message: &str) -> String {
    let Some((before, rest)) = message.split_once('"') else { return message.to_owned() };
    let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
    format!("{before}\"…\"{after}")
}

impl Error {
    pub(crate) fn ddl(failure: ::ddl::Failure<Error>) -> Error {
        Error::Ddl(Box::new(failure))
    }

    /// How to react.
    pub fn class(&self) -> Class {
        match self {
            Error::Connect(error) => from_connection(error.class()),
            Error::Wire(error) => from_connection(error.class()),
            Error::Refused(error) if error.transient() => Class::Transient,
            Error::InRecovery | Error::Fenced | Error::CheckpointMoved | Error::Silent | Error::OtherToken => {
                Class::Transient
            }
            Error::Log(ReadError::Desync { .. }) => Class::Definite,
            Error::Log(_) => Class::Fatal,
            Error::At { source, .. } => source.class(),
            // Not an origin that another session holds, but a table with deferred triggers still to fire, or a role in use.
            Error::Ddl(_) if self.sqlstate() == Some("55006") => Class::Definite,
            Error::Ddl(failure) => failure.cause().map_or(Class::Definite, Error::class),
            _ => Class::Definite,
        }
    }

    /// The session can't be used any more.
    pub(crate) fn breaks_session(&self) -> bool {
        match self {
            Error::At { source, .. } => source.breaks_session(),
            Error::Ddl(failure) => failure.cause().is_some_and(Error::breaks_session),
            Error::Refused(error) => error.severity != "ERROR",
            Error::Wire(WireError::Server(error)) => error.severity != "ERROR",
            Error::Wire(_) | Error::Connect(_) | Error::Answer(_) | Error::CheckpointMoved | Error::Silent => true,
            _ => false,
        }
    }

    /// What the target said.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Error::Connect(error) => error.server(),
            Error::Wire(error) => error.server(),
            Error::Refused(error) | Error::NoFunctions(Some(error)) => Some(error),
            Error::At { source, .. } => source.server(),
            Error::Ddl(failure) => failure.cause().and_then(Error::server),
            _ => None,
        }
    }

    /// The target's SQLSTATE.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server().map(|error| error.sqlstate.as_str())
    }

    /// Names the change that it hit, unless that is known.
    pub(crate) fn at(self, place: impl FnOnce() -> Place) -> Error {
        match self {
            Error::At { .. } => self,
            source => Error::At { place: place(), source: Box::new(source) },
        }
    }

    /// For the status.
    pub fn stopped_by(&self) -> StoppedBy {
        let place = match self {
            Error::At { place, .. } => Some(place),
            _ => None,
        };
        StoppedBy {
            lsn: place.map(|place| place.end_lsn),
            xid: place.map(|place| place.xid),
            relation: place.and_then(|place| place.relation.clone()),
            sqlstate: self.sqlstate().map(str::to_owned),
            message: self.one_line(),
            hint: self.hint().map(str::to_owned),
        }
    }

    /// The message with its causes, in one line.
    fn one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            cause = inner.source();
        }
        one_line(&text)
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        if self.server().is_some_and(lacks_own_function) {
            return Some(OTHER_VERSION);
        }
        match self {
            Error::At { source, .. } => source.hint(),
            Error::Ddl(failure) if self.class() == Class::Transient => failure.cause().and_then(Error::hint),
            Error::Ddl(failure) => Some(failure.hint()),
            Error::Connect(error) => error.hint(),
            Error::Refused(error) => refused_hint(&error.sqlstate),
            Error::Wire(error) => error.server().and_then(|e| refused_hint(&e.sqlstate)).or(error.hint()),
            Error::Log(error) => error.hint(),
            _ => self.own_hint(),
        }
    }

    fn own_hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::Silent => "see whether the target's server process for walcast runs; it is tried again",
            Error::InRecovery => "connect to the primary; it is tried again",
            Error::Fenced => "stop the other walcast, or wait until its session ends; it is tried again",
            Error::NoCheckpoint => "run \"walcast bootstrap\" for this target",
            Error::CheckpointExists { .. } => "run \"walcast remove\" for this target first if that is meant",
            Error::Desync { .. } => "copy the target again with \"walcast resync\"",
            Error::MissingTable { .. } => {
                "no message of the capture makes it: see with \"walcast check\" whether DDL is captured; create the table on \
                 the target and \"walcast resync --table\" it"
            }
            Error::NotATable { .. } => "create the table on the target, then \"walcast resume\"",
            Error::Message(_) => "the source's capture is of another version of walcast: use the newer one everywhere",
            Error::NoFunctions(_) => {
                "have an administrator run what \"walcast setup --target NAME --print-sql\" prints, then \"walcast resume\""
            }
            Error::ForeignSchema => {
                "give schema walcast to walcast's role on the target, see that nothing strange is in it, then \"walcast resume\""
            }
            Error::AlteredMeanwhile { .. } => "copy the table again with \"walcast resync --table\"",
            Error::MissingColumn { .. } => {
                "see with \"walcast check\" whether DDL is captured; add the column on the target, then \"walcast resume\""
            }
            Error::RowSecurity { .. } => "give the target's role BYPASSRLS or the table's ownership without FORCE",
            Error::NoRow { .. } | Error::SeveralRows { .. } | Error::NotOneRow { .. } => DIFFERS,
            Error::NotStoppedThere { .. } => "see \"walcast status\" for the position of the stopped transaction",
            Error::NoIdentity { .. } => "give the table a replica identity on the source",
            _ => return None,
        })
    }
}

const DIFFERS: &str =
    "the target differs from the source: repair the row and \"walcast resume\", or \"walcast skip\" the transaction";

/// What an administrator installed for a login that is no superuser is looked at by nobody before it is called.
const OTHER_VERSION: &str = "walcast's functions on the target are of another version: have an administrator run what \
     \"walcast setup --target NAME --print-sql\" prints, then \"walcast resume\"";

/// Whether the target lacks a function of walcast's: its name is in the server's message, in whatever language that is.
fn lacks_own_function(error: &ServerError) -> bool {
    let is_whole = |at: usize| !error.message[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_$.".contains(c));
    error.sqlstate == "42883" && error.message.match_indices("walcast.").any(|(at, _)| is_whole(at))
}

fn refused_hint(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "23505" => DIFFERS,
        "42501" => "grant the target's role what is missing, then \"walcast resume\"",
        "55P03" => "a session on the target holds a lock that DDL needs; it is tried again",
        "42P01" | "42703" | "3F000" => "make the target's tables equal to the source's, then \"walcast resume\"",
        _ if sqlstate.starts_with("23") => {
            "drop the target's own constraint or repair the row, then \"walcast resume\""
        }
        _ if sqlstate.starts_with("22") => "compare the column's type on source and target",
        _ if sqlstate.starts_with("P0") => {
            "see the target's log; disable the trigger or repair it, then \"walcast resume\""
        }
        _ => return None,
    })
}

fn from_connection(class: connection::Class) -> Class {
    match class {
        connection::Class::Transient => Class::Transient,
        connection::Class::Definite => Class::Definite,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sqlstate: &str, message: &str) -> Error {
        let body = format!("VERROR\0C{sqlstate}\0M{message}\0\0");
        Error::Refused(Box::new(ServerError::parse(body.as_bytes())))
    }

    #[test]
    fn x12_messages_hold_no_values_of_rows() {
        let text = |sqlstate: &str, message: &str| refused(sqlstate, message).stopped_by().message;
        assert_eq!(
            text("22P02", "invalid input syntax for type integer: \"se\"cret\""),
            "invalid input syntax for type integer: \"…\""
        );
        assert_eq!(
            text("22003", "value \"999\" is out of range for type smallint"),
            "value \"…\" is out of range for type smallint"
        );
        assert!(!text("P0001", "secret").contains("secret"));
        assert_eq!(
            text("23505", "duplicate key value violates\nunique constraint \"t_pkey\""),
            "duplicate key value violates unique constraint \"t_pkey\""
        );
    }

    #[test]
    fn f21_transient_states_are_told_from_definite_ones() {
        let class = |sqlstate: &str| refused(sqlstate, "x").class();
        for transient in ["08006", "40001", "40P01", "53200", "55P03", "57P01", "57P02", "57P03", "25006", "55006"] {
            assert_eq!(class(transient), Class::Transient, "{transient}");
        }
        let ddl = |sqlstate: &str| {
            let (object, statement, error) = ("TABLE t".into(), "ALTER TABLE t".into(), refused(sqlstate, "x"));
            Error::ddl(::ddl::Failure::Statement { object, statement, error })
        };
        assert_eq!((ddl("55P03").class(), ddl("55006").class()), (Class::Transient, Class::Definite));
        assert_eq!(ddl("2BP01").stopped_by().message, "TABLE t: `ALTER TABLE t` failed: x");
        for definite in ["23505", "22P02", "42P01", "42501", "22012", "P0001"] {
            assert_eq!(class(definite), Class::Definite, "{definite}");
        }
    }

    #[test]
    fn a_function_of_walcasts_that_a_target_lacks_is_to_be_set_up() {
        let hint = |message: &str| {
            let (object, statement, error) = ("ROLE r".into(), "walcast.f(…)".into(), refused("42883", message));
            Error::ddl(::ddl::Failure::Statement { object, statement, error }).stopped_by().hint.unwrap()
        };
        for ours in ["function walcast.f(text) does not exist", "関数walcast.f(text)は存在しません"] {
            assert!(hint(ours).contains("walcast setup"), "{ours}");
        }
        for theirs in ["function public.f(text) does not exist", "function my_walcast.f(text) does not exist"] {
            assert!(!hint(theirs).contains("walcast setup"), "{theirs}");
        }
    }
}
