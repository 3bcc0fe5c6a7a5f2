//! How a command fails: one line, a hint, an exit status.

use std::error::Error;
use std::fmt;

/// The result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    exit_status: u8,
    lost: bool,
    busy: bool,
}

impl Failure {
    /// A failure with exit status 1 and this message, of which line breaks are taken out.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: one_line(&message.into()), hint: None, exit_status: 1, lost: false, busy: false }
    }

    /// What was being done when `error` came up, and its causes.
    pub(crate) fn because(doing: impl fmt::Display, error: &dyn Error) -> Failure {
        Failure::new(format!("{doing}: {}", with_causes(error)))
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(one_line(&hint.into()));
        self
    }

    /// The hint of an error that may have none.
    #[must_use]
    pub(crate) fn maybe_hint(self, hint: Option<impl Into<String>>) -> Failure {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// A mistake of the command line: exit status 2.
    #[must_use]
    pub(crate) fn usage(mut self) -> Failure {
        self.exit_status = 2;
        self
    }

    /// The service went away before it answered.
    #[must_use]
    pub(crate) fn lost(mut self) -> Failure {
        self.lost = true;
        self
    }

    /// Whether the service went away before it answered, so that nothing is known.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether another process has the log: one that answers no requests yet, or no more.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// The hint, if there is one.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The process's exit status.
    pub(crate) fn exit_status(&self) -> u8 {
        self.exit_status
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error and its causes, each once, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some errors repeat their cause in their own message.
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    one_line(&text)
}

pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Errors of the crates, each with its own hint.
macro_rules! from_hinted {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::new(with_causes(&error)).maybe_hint(hint_of!(error))
            }
        }
    )*};
}

/// `hint()` returns a text or maybe a text: both become maybe a text.
macro_rules! hint_of {
    ($error:expr) => {
        Option::<String>::from(Hint::from($error.hint()).0)
    };
}

impl From<segment_log::OpenError> for Failure {
    fn from(error: segment_log::OpenError) -> Failure {
        let busy = matches!(error, segment_log::OpenError::Locked { .. });
        Failure { busy, ..Failure::new(with_causes(&error)).maybe_hint(hint_of!(error)) }
    }
}

/// What the crates' `hint()` return, made one.
struct Hint(Option<String>);

impl From<&str> for Hint {
    fn from(hint: &str) -> Hint {
        Hint(Some(hint.to_owned()))
    }
}

impl From<Option<&str>> for Hint {
    fn from(hint: Option<&str>) -> Hint {
        Hint(hint.map(str::to_owned))
    }
}

impl From<Option<String>> for Hint {
    fn from(hint: Option<String>) -> Hint {
        Hint(hint)
    }
}

from_hinted!(
    bootstrap::Error,
    config::Error,
    capture::Error,
    cluster::Error,
    replication::ReplicationError,
    segment_log::ReadError,
    verify::Error,
);
