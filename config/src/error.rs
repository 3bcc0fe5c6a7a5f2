//! What can be wrong with a configuration file.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong with one value, and what to write instead. It knows no place in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    message: String,
    hint: String,
}

impl Problem {
    /// A one-line message in lower case, and a hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: hint.into() }
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("could not read configuration file \"{path}\"")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{place}: {problem}")]
    Invalid {
        /// Where.
        place: Place,
        /// What.
        problem: Problem,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> &str {
        match self {
            Error::Read { .. } => "name the file with -c FILE; config/walcast.example.toml is a template",
            Error::Invalid { problem, .. } => problem.hint(),
        }
    }
}

/// A place in a file, printed as `file:line:column`; both count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    line: usize,
    column: usize,
}

impl Place {
    /// The place where `span` begins in `text`.
    pub(crate) fn of(path: &Path, text: &str, span: Option<Range<usize>>) -> Place {
        let before = text.get(..span.map_or(0, |s| s.start)).unwrap_or(text);
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Place { path: path.to_owned(), line: before.matches('\n').count() + 1, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}
