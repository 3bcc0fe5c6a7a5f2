//! From the segment log to one target, transaction by transaction.
//!
//! ```text
//!  log ──frames──▶ batch: whole transactions ──tier──▶ encoder ──▶ session ──▶ target
//!                                                        ▲                       │ COMMIT moves the checkpoint too
//!              relations: source beside target ──────────┘         checkpoint ◀──┘
//! ```
//!
//! # A timeline
//!
//! The target's checkpoint is 0/1500. The log holds transactions that end at 0/1500, 0/1600 and 0/1700. After connecting,
//! the task reads 0/1500 from the target, and the cursor passes over the first transaction. Both others are sent in one
//! target transaction: `BEGIN`, their changes, "checkpoint is 0/1700", `COMMIT`. The session breaks before the reply.
//! After reconnecting the task reads the checkpoint: 0/1700 means that the COMMIT was done, 0/1500 that it was not, and
//! nothing else can be read. A second walcast that applied meanwhile would have been refused the checkpoint.
//!
//! # Tiers
//!
//! [`Tier::Net`] takes large batches, netted by key and applied as sets; [`Tier::Parallel`], where it is wanted, those that
//! cannot be netted, by several sessions; [`Tier::Ordered`] pipelines changes in their
//! order, and is the way of small batches. A batch that fails is tried again by the next tier, down to [`Tier::Single`],
//! which names the change at fault; where that succeeds (the target's table had been altered, say) the task climbs back.
//!
//! # Not here
//!
//! Nothing is read from the source. What a message of the capture asks for is worked out in crate `ddl`; here it has its
//! place in the stream ([`Observer::ddl`] reports it). Conflicts have no policy: a row that is missing, or twice there,
//! stops the target.

mod backoff;
mod batch;
mod catalog;
mod checkpoint;
mod copied;
mod encoder;
mod error;
mod failpoint;
mod follow;
mod following;
mod gather;
mod mapping;
mod message;
mod name;
mod net;
mod observer;
mod ordered;
mod owner;
mod parallel;
mod pipeline;
mod relations;
mod run;
mod session;
mod sql;
mod status;
mod target;
mod walk;
mod write;

pub use error::{Class, Error, Place};
pub use failpoint::VARIABLE as FAILPOINTS_VARIABLE;
#[doc(hidden)]
pub use net::sizes_of_sets;
pub use observer::{BatchReport, Counts, DdlReport, Observer, Unobserved};
pub use run::run;
pub use status::{AskToken, Command, DdlOptions, Desired, Identity, State, Status, StoppedBy, TargetOptions, Tier};

use connection::Conninfo;
use decoder::Lsn;

use crate::session::Session;

/// SQL of the tables that are kept on a target, for an administrator to run where the login may not.
pub fn tables_sql() -> &'static str {
    checkpoint::TABLES
}

/// Makes walcast's schema on a target, without a checkpoint: what a copy needs to note what it has copied.
///
/// # Errors
/// The target can't be reached; the role may not create what is needed.
pub async fn install(conninfo: &Conninfo) -> Result<(), Error> {
    let mut session = Session::connect(conninfo, "bootstrap").await?;
    checkpoint::install(&mut session).await?;
    session.close().await;
    Ok(())
}

/// Makes walcast's schema on a target that equals the source at `lsn`, and its checkpoint there.
///
/// # Errors
/// A checkpoint exists at another position; the role may not create what is needed.
pub async fn declare(conninfo: &Conninfo, identity: &Identity, lsn: Lsn) -> Result<(), Error> {
    let mut session = Session::connect(conninfo, "bootstrap").await?;
    checkpoint::declare(&mut session, identity, lsn).await?;
    session.close().await;
    Ok(())
}

/// Has the applier pass over a table (schema, name) from its next look at `walcast.copied` on, because it is about to be
/// copied again. What an earlier attempt copied as of before `kept` is of no use any more. The copy's end is noted by a
/// checkpoint of [`Identity::lane`].
///
/// # Errors
/// The target can't be reached or written.
pub async fn set_aside(conninfo: &Conninfo, identity: &Identity, table: (&str, &str), kept: Lsn) -> Result<(), Error> {
    let mut session = Session::connect(conninfo, "resync").await?;
    checkpoint::install(&mut session).await?;
    copied::set_aside(&mut session, identity, table, kept).await?;
    session.close().await;
    Ok(())
}

/// Ends that: the table is complete as of `start`, which is not before the applier's position. The applier must not apply
/// anything until it has looked at `walcast.copied` again.
///
/// # Errors
/// The target can't be reached or written; the table was not set aside.
pub async fn rejoin(conninfo: &Conninfo, identity: &Identity, table: (&str, &str), start: Lsn) -> Result<(), Error> {
    let mut session = Session::connect(conninfo, "resync").await?;
    session.simple("SET synchronous_commit = on").await?;
    copied::rejoin(&mut session, identity, table, start).await?;
    session.close().await;
    Ok(())
}

/// The target's checkpoint, read without disturbing whoever applies; `None` when there is none.
///
/// # Errors
/// The target can't be reached or read.
pub async fn checkpoint(conninfo: &Conninfo, identity: &Identity) -> Result<Option<Lsn>, Error> {
    let mut session = Session::connect_reading(conninfo, "status").await?;
    let lsn = checkpoint::current(&mut session, identity).await?;
    session.close().await;
    Ok(lsn)
}

/// Removes the target's checkpoint, if there is one, and what is noted of its copy. The record of skipped transactions stays.
///
/// # Errors
/// A session applies to the target ([`Error::Fenced`]); the target can't be reached.
pub async fn forget(conninfo: &Conninfo, identity: &Identity) -> Result<(), Error> {
    // A session that was closed a moment ago may still be seen to hold it.
    let mut tries_left = FORGET_TRIES;
    loop {
        let mut session = Session::connect(conninfo, "remove").await?;
        let forgotten = checkpoint::forget(&mut session, identity).await;
        session.close().await;
        tries_left -= 1;
        match forgotten {
            Err(Error::Fenced) if tries_left > 0 => tokio::time::sleep(FORGET_PAUSE).await,
            forgotten => return forgotten,
        }
    }
}

const FORGET_TRIES: u32 = 20;
const FORGET_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
