//! Makes an empty database equal to the source at one position of its WAL, while the source is written.
//!
//! ```text
//! source: temporary slot ─▶ consistent point C, snapshot ─▶ keeper: a session that holds the snapshot, and the tables' locks
//!            (dropped at once)                                │
//!         ┌───────────────────────┬───────────────────────────┴───────────┐
//!      pg_dump: schema      catalog: what is published          N workers on the same snapshot
//!         │                       │                                       │
//! target: pre-data ──────▶ parts, largest first ──COPY, rows relayed──▶ table whole ─▶ walcast.copied (table, C)
//!                                                                         │ its indexes, then ANALYZE, beside other tables
//!                          rest of the schema, sequences, materialized views ─▶ checkpoint = smallest start of a table
//! ```
//!
//! # A timeline
//!
//! A slot is made; its consistent point is 0/1500. The snapshot has exactly the transactions with `commit_lsn` < 0/1500.
//! `orders` is copied and noted with 0/1500; the command is killed while `lines` is being copied. Started again, it takes
//! a new snapshot at 0/1900, passes over `orders`, empties `lines`, copies it and notes it with 0/1900. The checkpoint is
//! declared at 0/1500. The applier passes over the changes of `lines` in transactions with `commit_lsn` < 0/1900, which
//! `lines` has; from there on, both tables show the same moment. Only then foreign keys between them can be made, and
//! materialized views be filled ([`Bootstrap::level`]).
//!
//! # What is left behind
//!
//! Nothing but two tables in the target's schema `walcast`. The slot is temporary and is dropped as soon as another
//! session holds its snapshot, so no WAL is kept on the source while tables are copied. Programs that were started end
//! with this process. A command that was killed may leave a session of the target at work: the next one ends it.
//!
//! # Not here
//!
//! Keeping the log for the target meanwhile (the caller's, before [`Bootstrap::copy`]); what happens after the checkpoint
//! was declared (`applier`); rows of tables that are not published; passwords of roles unless they are asked for; settings
//! and grants of the database itself; subscriptions.

mod blanks;
mod catalog;
mod copy;
mod error;
mod failpoint;
mod finish;
mod governor;
mod large_objects;
mod ledger;
mod pace;
mod plan;
mod post_data;
mod programs;
mod progress;
mod queue;
mod readers;
mod roles;
mod run;
mod schema;
mod sequences;
mod session;
mod snapshot;
mod target;
mod toc;
mod work;

pub use error::{Error, Whom};
pub use failpoint::VARIABLE as FAILPOINTS_VARIABLE;
pub use governor::{Governor, HeldBack, Lateness, TICK, WINDOW};
pub use plan::PART_BYTES_VARIABLE;
pub use progress::{Progress, Running, Stage, View};
pub use run::{Bootstrap, Copied, copy_table, truncate};

use std::sync::Arc;

use applier::Identity;
use connection::Conninfo;

/// What is to be copied, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source.
    pub source: Conninfo,
    /// The target.
    pub target: Conninfo,
    /// Whose checkpoint it will be.
    pub identity: Identity,
    /// What is published is copied.
    pub publication: String,
    /// Tables, or parts of tables, copied at a time. Minimum: 1.
    pub jobs: usize,
    /// Bytes of rows a second, at most; all jobs together.
    pub max_rate: Option<u64>,
    /// What slows the copy down for the sake of other targets; `None`: nothing.
    pub governor: Option<Arc<Governor>>,
    /// Where the target's schema comes from.
    pub schema: Schema,
    /// What is done about roles.
    pub roles: RolePolicy,
}

impl Options {
    /// Whether what cannot be slowed down, an index or a check of a foreign key, is done by one process at a time.
    fn is_considerate(&self) -> bool {
        self.max_rate.is_some() || self.governor.as_ref().is_some_and(|governor| governor.has_others())
    }

    /// How many of those there are at a time.
    fn builders(&self) -> usize {
        if self.is_considerate() { 1 } else { self.jobs }
    }
}

/// Where the target's schema comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// From the source.
    Copied,
    /// It is there already; columns are matched by name.
    Exists,
}

/// What is done about roles that own something or are granted something.
#[derive(Debug, Clone, Default)]
pub struct RolePolicy {
    /// Whether those that the target lacks are made.
    pub create: bool,
    /// Whether they get their password verifiers.
    pub passwords: bool,
    /// Roles that are never made.
    pub exclude: Vec<String>,
    /// Roles that are on the target already, and may be altered there.
    pub adopt: Vec<String>,
}
