//! Why a comparison or a repair could not be done. A difference is no error.

use std::fmt;
use std::io;

use connection::{ConnectError, ServerError, WireError};

/// Which of the two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The database read from.
    Source,
    /// The database applied to.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Target => "target",
        })
    }
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No session could be opened.
    #[error("could not connect to the {side}")]
    Connect {
        /// With whom.
        side: Side,
        /// Why.
        source: Box<ConnectError>,
    },
    /// A session was lost, or an SQL command without parameters was refused in it.
    #[error("the session with the {side} failed")]
    Session {
        /// With whom.
        side: Side,
        /// Why.
        source: Box<WireError>,
    },
    /// A statement was refused.
    #[error("the {side} refused a statement")]
    Refused {
        /// Who refused.
        side: Side,
        /// What it said.
        source: Box<ServerError>,
    },
    /// An error about one table.
    #[error("could not compare table {table}")]
    Table {
        /// The table.
        table: String,
        /// Why.
        source: Box<Error>,
    },
    /// A row could not be written.
    #[error("could not repair table {table}")]
    Repair {
        /// The table.
        table: String,
        /// Why.
        source: Box<Error>,
    },
    /// A message that cannot be written: a value too long.
    #[error("a statement for the {side} does not fit into a message")]
    Encode {
        /// For whom.
        side: Side,
        /// Why.
        source: io::Error,
    },
    /// An answer that does not fit the question.
    #[error("the {side} gave an unexpected answer: {what}")]
    Answer {
        /// Who answered.
        side: Side,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The table is not published.
    #[error("publication \"{publication}\" has no table {table}")]
    NotPublished {
        /// The publication.
        publication: String,
        /// The table, as it was asked for.
        table: String,
        /// Some that it has.
        some: Vec<String>,
    },
    /// The publication is missing.
    #[error("the source has no publication \"{0}\"")]
    NoPublication(String),
    /// The target is a standby.
    #[error("the target is in recovery: it takes no changes")]
    InRecovery,
}

impl Error {
    /// What the server said, if it is that.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Refused { source, .. } => Some(&source.sqlstate),
            Error::Session { source, .. } => match source.as_ref() {
                WireError::Server(said) => Some(&said.sqlstate),
                _ => None,
            },
            Error::Table { source, .. } | Error::Repair { source, .. } => source.sqlstate(),
            _ => None,
        }
    }

    /// The table or a column of it went away, or the snapshot's: something was altered since the snapshot was taken.
    pub(crate) fn is_of_moved_table(&self) -> bool {
        // undefined table, column, object; snapshot too old; a transaction in which that came up before.
        matches!(self.sqlstate(), Some("42P01" | "42703" | "42704" | "72000" | "25P02"))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match (self, self.sqlstate()) {
            (Error::NotPublished { some, .. }, _) if some.is_empty() => "it publishes no table".to_owned(),
            (Error::NotPublished { some, .. }, _) => format!("it publishes {}", some.join(", ")),
            (Error::NoPublication(_), _) => "run `walcast setup`".to_owned(),
            (Error::InRecovery, _) => "name the primary in the target's conninfo".to_owned(),
            (Error::Connect { source, .. }, _) => return source.hint().map(Into::into),
            (Error::Repair { .. }, Some("23505" | "23P01")) => {
                "another row of the target is in the way: copy the table again, `walcast resync TARGET --table T`"
                    .to_owned()
            }
            (Error::Table { source, .. } | Error::Repair { source, .. }, _) => return source.hint(),
            (_, Some("42501")) => {
                "GRANT the role SELECT on the tables and sequences, and BYPASSRLS where row security applies".to_owned()
            }
            (_, Some("54000" | "53200")) => "a row's text form is larger than the server can hold".to_owned(),
            _ => return None,
        };
        Some(text)
    }
}
