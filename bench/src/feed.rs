//! The contenders, and what a feed of one target has to offer.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use tokio_postgres::types::PgLsn;

use crate::interrupt;
use crate::lab::{Lab, Transport};
use crate::measure::Usage;
use crate::native::{Mode, Subscription};
use crate::walcast::Service;

/// How often a feed is asked how far it is.
const POLL: Duration = Duration::from_millis(5);
const STALLED_AFTER: Duration = Duration::from_secs(120);

/// Who takes part in a measurement.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// Native logical replication as `CREATE SUBSCRIPTION` makes it.
    Native,
    /// The same with `streaming` and `binary`.
    NativeStreamingBinary,
    /// walcast: this program.
    Walcast(PathBuf),
}

impl Side {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Side::Native => "native",
            Side::NativeStreamingBinary => "native, streaming and binary",
            Side::Walcast(_) => "walcast",
        }
    }

    /// What of it goes into names of slots and databases.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Side::Native => "native",
            Side::NativeStreamingBinary => "native_sb",
            Side::Walcast(_) => "walcast",
        }
    }

    /// Whether its feeds need walcast's objects on the source.
    pub(crate) fn walcast_program(&self) -> Option<&PathBuf> {
        match self {
            Side::Walcast(program) => Some(program),
            Side::Native | Side::NativeStreamingBinary => None,
        }
    }

    /// Makes a feed from `slot` to the target's `database` that does not run yet.
    pub(crate) fn feed<'lab>(&self, lab: &'lab Lab, route: &Route) -> anyhow::Result<Box<dyn Feed + 'lab>> {
        Ok(match self {
            Side::Native => Box::new(Subscription::create(lab, route, Mode::Plain)?),
            Side::NativeStreamingBinary => Box::new(Subscription::create(lab, route, Mode::StreamingBinary)?),
            Side::Walcast(program) => Box::new(Service::with_target(program, lab, route)?),
        })
    }
}

/// From where to where.
pub(crate) struct Route {
    /// A slot on the source.
    pub(crate) slot: String,
    /// A database on the target that equals the source at the slot's position.
    pub(crate) database: String,
    /// How servers are connected to.
    pub(crate) transport: Transport,
}

/// Something that applies the changes of one slot to one database.
pub(crate) trait Feed {
    /// Begins; the clock runs from here.
    fn start(&mut self) -> anyhow::Result<()>;

    /// Everything before this position is applied. `None` while that can't be told yet.
    ///
    /// # Errors
    ///
    /// When it will not go on by itself.
    fn applied(&mut self) -> anyhow::Result<Option<PgLsn>>;

    /// What it has used since it was started. Call it while it runs.
    fn usage(&mut self) -> anyhow::Result<Usage>;

    /// Stops, and removes all but the slot and the database.
    fn stop(self: Box<Self>) -> anyhow::Result<()>;
}

/// Waits until `position` gives at least `end`; gives up when it has not moved for two minutes.
pub(crate) fn wait_for(end: PgLsn, mut position: impl FnMut() -> anyhow::Result<Option<PgLsn>>) -> anyhow::Result<()> {
    let (mut last, mut quiet) = (None, Duration::ZERO);
    loop {
        let now = position()?;
        if now.is_some_and(|now| now >= end) {
            return Ok(());
        }
        quiet = if now == last { quiet + POLL } else { Duration::ZERO };
        if quiet > STALLED_AFTER {
            let reached = now.map_or_else(|| "nothing".to_string(), |lsn| lsn.to_string());
            bail!("no progress for {} s: {reached} of {end}", STALLED_AFTER.as_secs());
        }
        last = now;
        interrupt::pause(POLL)?;
    }
}
