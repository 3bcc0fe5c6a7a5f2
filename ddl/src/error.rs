//! What can go wrong with a message.

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// It is not JSON, or not of the form that capture writes.
    #[error("a message of the capture is malformed: {0}")]
    Malformed(#[source] serde_json::Error),
    /// It was written by another version of the capture.
    #[error("a message of the capture has version {found}, expected {expected}")]
    Version {
        /// The version that it says it has.
        found: u32,
        /// The one that this program understands.
        expected: u32,
    },
}

/// Why a message could not be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure<E: std::error::Error + 'static> {
    /// The target refused a statement, or the connection broke over it.
    #[error("{object}: `{statement}` failed")]
    Statement {
        /// The object as SQL calls it.
        object: String,
        /// The statement, without secrets, in one line, and cut if it is long.
        statement: String,
        /// What the server or the connection said.
        #[source]
        error: E,
    },
    /// The target could not be asked for an object's state.
    #[error("{object}: the target's state could not be read")]
    State {
        /// The object as SQL calls it.
        object: String,
        /// What the server or the connection said.
        #[source]
        error: E,
    },
    /// The target said something that is no state.
    #[error("{object}: the target's answer is not understood: {what}")]
    Answer {
        /// The object as SQL calls it.
        object: String,
        /// What was expected.
        what: String,
    },
    /// It cannot be done on this target.
    #[error("{object}: {why}")]
    Unable {
        /// The object as SQL calls it.
        object: String,
        /// Why, in one line.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
}

impl<E: std::error::Error + 'static> Failure<E> {
    /// What the server or the connection said, if one of them is the cause: it decides whether to try again.
    pub fn cause(&self) -> Option<&E> {
        match self {
            Failure::Statement { error, .. } | Failure::State { error, .. } => Some(error),
            Failure::Answer { .. } | Failure::Unable { .. } => None,
        }
    }

    /// The same, by value.
    pub fn into_cause(self) -> Option<E> {
        match self {
            Failure::Statement { error, .. } | Failure::State { error, .. } => Some(error),
            Failure::Answer { .. } | Failure::Unable { .. } => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Failure::Statement { .. } => {
                "make the target's object what the statement expects and `resume`, or do it by hand and `skip`"
            }
            Failure::State { .. } => "run `walcast setup --target NAME` again",
            Failure::Answer { .. } => "source and target need the same version of walcast's functions",
            Failure::Unable { hint, .. } => hint,
        }
    }
}
