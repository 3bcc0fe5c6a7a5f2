//! What a target's task tells the rest of the process, and what it takes from it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use decoder::{Lsn, PgTimestamp, Xid};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::name::TableName;

/// Whose checkpoint: the stream that a target follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The source's system identifier.
    pub system_id: u64,
    /// The slot's name; unique within the source.
    pub slot: String,
}

impl Identity {
    /// Whose checkpoint a table has that is caught up by itself after it was copied again. No slot has such a name.
    pub fn lane(&self, schema: &str, table: &str) -> Identity {
        let table = TableName { schema: schema.to_owned(), table: table.to_owned() };
        Identity { system_id: self.system_id, slot: format!("{} {}", self.slot, table.quoted()) }
    }
}

impl Identity {
    /// Whose checkpoint a worker has: the target is at the greatest of these and its own. No slot has such a name, nor has a
    /// lane, whose table's name is quoted.
    pub(crate) fn worker(&self, number: u32) -> Identity {
        Identity { system_id: self.system_id, slot: format!("{}{number}", self.workers_prefix()) }
    }

    pub(crate) fn workers_prefix(&self) -> String {
        format!("{} #", self.slot)
    }
}

impl From<&segment_log::Identity> for Identity {
    fn from(log: &segment_log::Identity) -> Identity {
        Identity { system_id: log.system_id, slot: log.slot.clone() }
    }
}

/// One target, as configured.
#[derive(Debug, Clone)]
pub struct TargetOptions {
    /// Its name in the configuration; ends up in `application_name`.
    pub name: String,
    /// How to reach it.
    pub conninfo: connection::Conninfo,
    /// Whose checkpoint to keep.
    pub identity: Identity,
    /// A batch ends with the transaction that reaches this many rows.
    pub batch_max_rows: u32,
    /// So many sessions beside the first may apply what cannot be netted: fewer than 2 are none.
    pub workers: u32,
    /// How DDL is applied.
    pub ddl: DdlOptions,
    /// Only this table (schema, name) is applied to, and everything else passed over: see [`Identity::lane`].
    pub only: Option<(String, String)>,
    /// How long a transaction may be held back to share a batch. The ordered tier never holds one back.
    pub batch_max_delay: Duration,
}

/// How messages of the capture are applied: DDL, roles, grants.
#[derive(Clone)]
pub struct DdlOptions {
    /// SQL by which a superuser makes the functions that DDL needs on a target (`capture::target::functions_sql`), in schema
    /// `walcast`, which is there.
    pub functions: Arc<str>,
    /// Whether a table (schema, name) is replicated. What belongs to one that is not is passed over.
    pub selected: Arc<::ddl::Selected>,
    /// Whether there may be tables that are not. What needs one of them waits for it.
    pub partial: bool,
    /// What is done with roles and privileges.
    pub roles: ::ddl::RoleOptions,
    /// For the target's functions that act as others, where an administrator made them (`capture::target`); asked for when a
    /// session begins. Without it DDL takes a login that is a superuser.
    pub token: Arc<AskToken>,
}

/// What the target's functions know the service by, at this moment.
pub type AskToken = dyn Fn() -> Pin<Box<dyn Future<Output = Option<::ddl::Token>> + Send>> + Send + Sync;

impl DdlOptions {
    /// Everything is replicated but passwords, by a login that is a superuser.
    pub fn everything(functions: &str) -> DdlOptions {
        let roles = ::ddl::RoleOptions { replicate: true, ..Default::default() };
        let token: Arc<AskToken> = Arc::new(|| Box::pin(async { None }));
        DdlOptions { functions: functions.into(), selected: Arc::new(|_, _| true), partial: false, roles, token }
    }
}

impl fmt::Debug for DdlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DdlOptions").field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// What the operator wants. Sending [`Desired::Run`] again, even unchanged, makes a stopped target try once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// Apply.
    Run,
    /// Apply every transaction whose `commit_lsn` is before this position, none at or after it, and rest there with the
    /// session open; [`Status::held`] says when it does. With [`Lsn::ZERO`] it rests after the batch under way.
    RunTo(Lsn),
    /// Leave the target alone, without a session.
    Paused,
}

impl Desired {
    /// Nothing at or after it is to be applied.
    pub(crate) fn limit(self) -> Option<Lsn> {
        match self {
            Desired::RunTo(limit) => Some(limit),
            Desired::Run | Desired::Paused => None,
        }
    }
}

/// A request to a running task.
#[derive(Debug)]
pub enum Command {
    /// Pass over the one transaction that stopped the target, and record that.
    Skip {
        /// [`StoppedBy::lsn`] of that transaction; anything else is refused.
        lsn: Lsn,
        /// Why, for `walcast.skipped`.
        reason: String,
        /// What became of it.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Read `walcast.copied` anew. It is answered once nothing is applied by what it said before.
    Reload {
        /// What became of it.
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// The states of the design's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No checkpoint on the target.
    New,
    /// Being copied.
    Bootstrapping,
    /// Behind the log's end, or not connected and trying to.
    CatchingUp,
    /// At the log's end.
    Streaming,
    /// By command.
    Paused,
    /// An error that needs a person.
    Stopped,
    /// The log no longer holds its position.
    Desync,
}

impl State {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::New => "new",
            State::Bootstrapping => "bootstrapping",
            State::CatchingUp => "catching_up",
            State::Streaming => "streaming",
            State::Paused => "paused",
            State::Stopped => "stopped",
            State::Desync => "desync",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a batch is applied; cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Netted by key, as sets.
    Net,
    /// By several sessions, committed in source order.
    Parallel,
    /// In source order, pipelined.
    Ordered,
    /// One transaction, one statement at a time.
    Single,
}

impl Tier {
    /// Every one.
    pub const ALL: [Tier; 4] = [Tier::Net, Tier::Parallel, Tier::Ordered, Tier::Single];

    /// For labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Net => "net",
            Tier::Parallel => "parallel",
            Tier::Ordered => "ordered",
            Tier::Single => "single",
        }
    }
}

/// The last error of a target; it holds no row values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedBy {
    /// `end_lsn` of the transaction; what `skip --lsn` takes. `None` when no transaction is at fault.
    pub lsn: Option<Lsn>,
    /// Its xid on the source.
    pub xid: Option<Xid>,
    /// The table, as `schema.table`.
    pub relation: Option<String>,
    /// The target's SQLSTATE, when it was the target that objected.
    pub sqlstate: Option<String>,
    /// One line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Where a target stands; published through a watch channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In the design's words.
    pub state: State,
    /// A session is established.
    pub connected: bool,
    /// Committed on the target up to here; `None` while unknown.
    pub applied_lsn: Option<Lsn>,
    /// The checkpoint as committed; it stays behind `applied_lsn` for a while where transactions had nothing to apply.
    pub written_lsn: Option<Lsn>,
    /// Flushed to disk there; the log may be trimmed below it. `None` while unknown: nothing may be trimmed then.
    pub checkpoint_lsn: Option<Lsn>,
    /// When the oldest transaction that is not applied was committed on the source; the source of the lag in seconds.
    pub oldest_unapplied: Option<PgTimestamp>,
    /// Why it is stopped, or what it is retrying after; cleared by the next applied batch.
    pub last_error: Option<StoppedBy>,
    /// The tier in use.
    pub tier: Tier,
    /// Tables (schema, name) that nothing is applied to until they are copied again: the stream has not the rows that a
    /// DDL command wrote, or a copy of them is under way. Kept on the target, in `walcast.copied`.
    pub recopy: Vec<(String, String)>,
    /// Resting as [`Desired::RunTo`] this position asks: all that it allows is committed. Nothing is applied before it is
    /// `None` or another position.
    pub held: Option<Lsn>,
}

impl Status {
    /// Before the first connection.
    pub fn initial() -> Status {
        Status {
            state: State::CatchingUp,
            connected: false,
            applied_lsn: None,
            written_lsn: None,
            checkpoint_lsn: None,
            oldest_unapplied: None,
            last_error: None,
            tier: Tier::Ordered,
            recopy: Vec::new(),
            held: None,
        }
    }
}
