//! What can go wrong between this crate and the source.

use tokio_postgres::error::SqlState;

/// Why the source could not be asked, set up or cleaned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server or the connection refused a statement.
    #[error("could not {doing}: {}", one_line(cause))]
    Statement {
        /// What was being done, in the infinitive.
        doing: &'static str,
        /// What the server or the connection said. It is part of the message, so it is not the error's source as well.
        cause: tokio_postgres::Error,
    },
    /// Somebody else's open transaction is in the way of looking at the catalogs.
    #[error("open transactions on the source keep its catalogs from being compared")]
    Waiting,
    /// An answer was not of the expected form.
    #[error("could not {doing}: unexpected answer \"{answer}\"")]
    Answer {
        /// What was being done, in the infinitive.
        doing: &'static str,
        /// What the server sent.
        answer: String,
    },
    /// The publication exists and is of the other kind.
    #[error("publication \"{publication}\" exists {found}, but the configuration wants it {wanted}")]
    PublicationKind {
        /// Its name.
        publication: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The slot exists and is not walcast's kind of slot.
    #[error("slot \"{slot}\" exists but its {property} is {found}, not {wanted}")]
    SlotKind {
        /// Its name.
        slot: String,
        /// What is different.
        property: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The slot is being read, so it cannot be dropped.
    #[error("slot \"{slot}\" is in use by process {pid} of the source")]
    SlotActive {
        /// Its name.
        slot: String,
        /// The process of the server.
        pid: i32,
    },
}

impl Error {
    /// For `map_err`: what was being done when the statement failed.
    pub(crate) fn doing(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
        move |cause| Error::Statement { doing, cause }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Statement { cause, .. } => cause.code().and_then(hint_for),
            Error::Waiting => Some("transactions that alter roles or tables should be short"),
            Error::Answer { .. } => Some("is this a PostgreSQL server of version 14 to 18?"),
            Error::PublicationKind { .. } => Some("run `walcast teardown` first, or name another publication"),
            Error::SlotKind { .. } => Some("name another slot in [source], or drop this one if nobody needs it"),
            Error::SlotActive { .. } => Some("stop `walcast run` first"),
        }
    }
}

/// Hints for what happens to people who set up replication.
fn hint_for(code: &SqlState) -> Option<&'static str> {
    let hints = [
        (SqlState::INSUFFICIENT_PRIVILEGE, "have a superuser run what `walcast setup --print-sql` prints"),
        (SqlState::CONFIGURATION_LIMIT_EXCEEDED, "raise max_replication_slots on the source, or drop a slot"),
        (SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "set wal_level = logical on the source and restart it"),
        (SqlState::READ_ONLY_SQL_TRANSACTION, "the source has to be a primary server"),
    ];
    hints.iter().find(|(state, _)| state == code).map(|(_, hint)| *hint)
}

/// A failure of a statement or connection in one line: the server's message with its SQLSTATE, or the chain of causes.
pub fn one_line(error: &tokio_postgres::Error) -> String {
    let text = match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => error.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
