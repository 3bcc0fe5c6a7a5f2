//! The configuration file, `walcast.toml`.
//!
//! ```text
//! text ──toml──▶ raw::File (places, nothing checked) ──▶ Config (checked, defaults filled in)
//! ```
//!
//! A file that loads is usable: names, sizes, times, patterns and conninfos have been checked, and every complaint names
//! file, line and column. `walcast.example.toml` beside this crate shows every key with its default; a test keeps it true.
//!
//! Not decided here: what a conninfo means (`connection`), what is done with the values (`src`). Conninfos hold
//! passwords, so no message of this crate repeats one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use connection::Conninfo;

mod checks;
#[cfg(test)]
mod documents;
mod error;
mod levels;
mod raw;
mod selection;
#[cfg(test)]
mod tests;
mod units;

pub use error::{Error, Place, Problem};
pub use levels::LOG_LEVEL_DEFAULT;
pub use selection::{LikePattern, OWN_SCHEMA, Pattern, Selection};
pub use units::{parse_duration, parse_size};

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// The database read from.
    pub source: Source,
    /// The segment log.
    pub log: Log,
    /// The service itself.
    pub service: Service,
    /// The HTTP server.
    pub http: Http,
    /// Programs that are told of what happens.
    pub hooks: Hooks,
    /// Roles and grants.
    pub roles: Roles,
    /// The databases applied to; their names are unique.
    pub targets: Vec<Target>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Config::parse(path, &text)
    }

    /// Checks the text of a file; `path` is what messages name and what a relative `log.dir` is relative to.
    ///
    /// # Errors
    /// Something in the text is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Config, Error> {
        checks::check(path, text)
    }

    /// The target of this name.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|t| t.name == name)
    }
}

/// The database read from.
#[derive(Debug, Clone)]
pub struct Source {
    /// How to connect.
    pub conninfo: Conninfo,
    /// The replication slot. Default: `walcast`.
    pub slot: String,
    /// The publication. Default: `walcast`.
    pub publication: String,
    /// Which tables. Default: all.
    pub selection: Selection,
}

/// The segment log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its directory. Default: `walcast-log` beside the configuration file.
    pub dir: PathBuf,
    /// Bytes of one segment file. Default: 64 MiB. Minimum: 1 MiB. Maximum: 4 GiB.
    pub segment_size: u64,
    /// Bytes that are kept although every target has them. Default: 0.
    pub retain_min: u64,
    /// Bytes that are kept at most; a target that would need more becomes desync. Default: 64 GiB. Minimum: two segments.
    pub retain_max: u64,
}

/// The service itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What it logs to stderr unless its command line says otherwise. Default: [`LOG_LEVEL_DEFAULT`].
    pub log_level: String,
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `host:port`; `None` is no server. Default: `127.0.0.1:9464`.
    pub listen: Option<String>,
}

/// Programs that are told of what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// The program, and its arguments, that is run when a target or the stream stops over an error. Default: none.
    pub on_error: Vec<String>,
    /// Time after which it is killed. Default: 30 s. Minimum: 1 ms.
    pub on_error_timeout: Duration,
    /// Time in which it is run once for the same target. Default: 5 min. Minimum: 0.
    pub on_error_interval: Duration,
}

/// How changes are applied to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// Changes after which a batch is applied. Default: 10000. Minimum: 1.
    pub batch_max_rows: u32,
    /// Time for which a batch may gather transactions while more of them are at hand. Default: 10 ms. Minimum: 0.
    pub batch_max_delay: Duration,
    /// Sessions that apply, in parallel, backlogs that cannot be netted. Default: 1, which is none but the first.
    /// Minimum: 1, maximum: 64.
    pub workers: u32,
}

/// Roles and grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Whether roles are replicated. Default: true.
    pub replicate: bool,
    /// Whether their password verifiers are. Default: false.
    pub passwords: bool,
    /// Roles left alone. Default: none.
    pub exclude: Vec<String>,
    /// Roles that targets have already and that may be altered there. Default: none.
    pub adopt: Vec<String>,
}

/// A database applied to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name, of `[a-z0-9_-]`.
    pub name: String,
    /// How to connect.
    pub conninfo: Conninfo,
    /// How changes are applied: `[apply]` with this target's own keys over it.
    pub apply: Apply,
}
