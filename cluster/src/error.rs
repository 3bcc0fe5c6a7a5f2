//! What can go wrong with a throw-away cluster.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a cluster could not be made, started, stopped or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No directory with `postgres` and `initdb` in it was found.
    #[error("no PostgreSQL server found, looked in {searched}")]
    NotInstalled {
        /// The places looked into, in words.
        searched: String,
    },
    /// The server can't run as root and there is nobody else to run it as.
    #[error("cannot run PostgreSQL as root: the system has no user \"postgres\"")]
    NoServerUser,
    /// The `psql` client is missing.
    #[error("no psql found, looked in {searched}")]
    NoPsql {
        /// The places looked into, in words.
        searched: String,
    },
    /// A program of PostgreSQL could not be started.
    #[error("could not run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A program of PostgreSQL ended with an error.
    #[error("{} failed ({status}): {output}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed, in one line.
        output: String,
    },
    /// `postgres --version` printed something else.
    #[error("cannot read a version from {output:?} of {}", program.display())]
    Version {
        /// The program asked.
        program: PathBuf,
        /// What it printed.
        output: String,
    },
    /// A file operation failed.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was to be done, for example `write`.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The control file of a new cluster is not laid out as on any known version.
    #[error("cannot find the checksum in {}", path.display())]
    ControlFile {
        /// The control file.
        path: PathBuf,
    },
    /// The server ended instead of getting ready.
    #[error("the server on port {port} did not start: {log}")]
    NotStarted {
        /// Its port.
        port: u16,
        /// The end of its log, in one line.
        log: String,
    },
    /// The server did not reach a state in time.
    #[error("the server on port {port} was not {state} within {seconds} s: {log}")]
    Timeout {
        /// Its port.
        port: u16,
        /// The state waited for.
        state: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// The end of its log, in one line.
        log: String,
    },
    /// The server is not running.
    #[error("the server on port {port} is not running")]
    NotRunning {
        /// Its port.
        port: u16,
    },
    /// The server is running already.
    #[error("the server on port {port} is running already")]
    Running {
        /// Its port.
        port: u16,
    },
    /// A signal could not be sent.
    #[error("could not signal process {pid}")]
    Signal {
        /// The process.
        pid: u32,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::NotInstalled { .. } => {
                format!(
                    "install it with \"apt-get install postgresql\", or name its bin directory in {}",
                    crate::VERSIONS_VARIABLE
                )
            }
            Error::NoServerUser => "run as an ordinary user, or add the user with \"useradd --system postgres\"".into(),
            Error::NoPsql { .. } => "install it with \"apt-get install postgresql-client\"".into(),
            _ => return None,
        };
        Some(hint)
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }
}
