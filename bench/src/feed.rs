//! The contenders, and what a feed of targets has to offer.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use tokio_postgres::types::PgLsn;

use crate::interrupt;
use crate::lab::{Lab, Transport};
use crate::measure::Usage;
use crate::native::{Mode, Subscriptions};
use crate::tables;
use crate::walcast::{Service, Start};

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
    /// walcast with everything in its log already, and the targets paused until the clock runs.
    WalcastLog(PathBuf),
}

impl Side {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Side::Native => tables::NATIVE,
            Side::NativeStreamingBinary => "native, streaming and binary",
            Side::Walcast(_) => tables::WALCAST,
            Side::WalcastLog(_) => tables::OUT_OF_LOG,
        }
    }

    /// What of it goes into names of slots and databases.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Side::Native => "native",
            Side::NativeStreamingBinary => "native_sb",
            Side::Walcast(_) => "walcast",
            Side::WalcastLog(_) => "log",
        }
    }

    /// Whether its feeds need walcast's objects on the source.
    pub(crate) fn walcast_program(&self) -> Option<&PathBuf> {
        match self {
            Side::Walcast(program) | Side::WalcastLog(program) => Some(program),
            Side::Native | Side::NativeStreamingBinary => None,
        }
    }

    /// The slots that it reads: one for all targets, or one for each.
    pub(crate) fn slots(&self, route: &Route) -> Vec<String> {
        if self.walcast_program().is_some() { vec![route.name.clone()] } else { route.databases() }
    }

    /// Makes a feed that does not run yet. Its slots and databases are there.
    pub(crate) fn feed<'lab>(&self, lab: &'lab Lab, route: &Route) -> anyhow::Result<Box<dyn Feed + 'lab>> {
        Ok(match self {
            Side::Native => Box::new(Subscriptions::create(lab, route, Mode::Plain)?),
            Side::NativeStreamingBinary => Box::new(Subscriptions::create(lab, route, Mode::StreamingBinary)?),
            Side::Walcast(program) => Box::new(Service::with_targets(program, lab, route, Start::FromSlot)?),
            Side::WalcastLog(program) => Box::new(Service::with_targets(program, lab, route, Start::FromLog)?),
        })
    }
}

/// From where to where.
pub(crate) struct Route {
    /// What slots and databases are called after; no other route has it.
    pub(crate) name: String,
    /// How many databases of the target server are fed.
    pub(crate) targets: u32,
    /// How servers are connected to.
    pub(crate) transport: Transport,
}

impl Route {
    /// The databases on the target. They equal the source at the slots' position.
    pub(crate) fn databases(&self) -> Vec<String> {
        (0..self.targets).map(|index| format!("{}_{index}", self.name)).collect()
    }
}

/// Something that applies the changes of slots to databases.
pub(crate) trait Feed {
    /// Does what is to be done before the clock runs. Everything to be applied is before `end`.
    fn prepare(&mut self, end: PgLsn) -> anyhow::Result<()>;

    /// Begins; the clock runs from here.
    fn start(&mut self) -> anyhow::Result<()>;

    /// Everything before this position is applied to all targets. `None` while that can't be told yet.
    ///
    /// # Errors
    ///
    /// When it will not go on by itself.
    fn applied(&mut self) -> anyhow::Result<Option<PgLsn>>;

    /// What it has used since it was started. Call it while it runs.
    fn usage(&mut self) -> anyhow::Result<Usage>;

    /// Stops, and removes all but the slots and the databases.
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
