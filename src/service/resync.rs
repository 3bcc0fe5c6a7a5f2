//! One table of a running target copied again: the log is kept for it, and it catches up in a lane of its own.
//!
//! ```text
//! begin_resync   pin the log ─▶ set the table aside ─▶ the applier passes over it from now on
//! (the command)  copy at a snapshot ─▶ the lane's checkpoint
//! end_resync     lane: apply this table's changes up to where the applier is ─▶ hold the applier ─▶ lane reaches it
//!                ─▶ rejoin: the table is complete as of the lane's position ─▶ the applier looks ─▶ release
//! ```
//!
//! Whatever dies in between, the same command goes on. Until it has, the table is behind, and the status says so.

use std::sync::Arc;
use std::time::Duration;

use applier::{Desired, State, Status, Unobserved};
use decoder::Lsn;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::hold::check_running;
use super::marks::Resync;
use super::offline::failure;
use super::target::{self, Target, stopping};
use crate::failure::{Failure, Result, with_causes};

/// How long the applier of the other tables is held at most.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// A table by its two names.
pub(crate) type Table = (String, String);

/// Who copies a table again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A person.
    Command,
    /// The service, because the stream did not carry what the table got.
    Service,
}

impl By {
    fn is_service(self) -> bool {
        self == By::Service
    }
}

impl Service {
    /// Keeps the log and has the applier leave the table alone. Returns from where the log is kept.
    ///
    /// # Errors
    /// The target is paused or has no checkpoint in the log, or another of its tables is being copied.
    pub(crate) async fn begin_resync(&self, name: &str, table: &Table, by: By) -> Result<Lsn> {
        let target = self.configured(name)?;
        let log = self.log().ok_or_else(stopping)?;
        let status = self.with_target(name, Target::watch)?.borrow().clone();
        // What stopped it may be a change of this table.
        let is_stopped = status.state == State::Stopped;
        if !is_stopped {
            check_running(name, &status)?;
        }
        let mark = self.marks.resyncing(name);
        if let Some(mark) = mark.as_ref().filter(|mark| mark.table != *table || mark.by_service != by.is_service()) {
            return Err(being_copied(name, mark));
        }
        let positions = log.positions();
        let kept = mark.map(|mark| mark.from).filter(|lsn| *lsn >= positions.first_lsn);
        let pin = kept.unwrap_or(positions.appended_lsn);
        let mark = Resync { from: pin, table: table.clone(), by_service: by.is_service() };
        self.marks.set_resyncing(name, Some(&mark))?;
        let set_aside = applier::set_aside(&target.conninfo, &log.identity().into(), names(table), pin).await;
        set_aside.map_err(|e| failure(&target, &e))?;
        target::reload(self.with_target(name, Target::commands)?).await?;
        if is_stopped {
            self.restore(name);
        }
        Ok(pin)
    }

    /// Brings a table that was copied again to where the others are. It must not be cut off in the middle: the caller
    /// gives it a task of its own.
    ///
    /// # Errors
    /// The lane cannot apply, or the target stopped.
    pub(crate) async fn end_resync(&self, name: &str, table: &Table) -> Result<String> {
        let target = self.configured(name)?;
        let log = self.log().ok_or_else(stopping)?;
        let main = self.with_target(name, Target::watch)?;
        let mut options = self.options(&target, log);
        (options.identity, options.only) = (options.identity.lane(&table.0, &table.1), Some(table.clone()));
        let mut lane = Lane::start(options, log.clone(), self.shutdown.child_token());
        lane.reach(name, || main.borrow().applied_lsn).await?;
        // What was done to the table's definition up to where the lane is comes to it from the target's applier.
        self.reach(name, lane.applied()).await?;
        let hold = self.hold(name)?;
        let level = async {
            let applied = hold.at(Lsn::ZERO).await?;
            lane.reach(name, || applied).await
        };
        let level = tokio::time::timeout(HOLD_MAX, level).await;
        level.map_err(|_| Failure::new("the table did not catch up in time").hint("run the same command again"))??;
        let reached = lane.stop().await?;
        let rejoined = applier::rejoin(&target.conninfo, &log.identity().into(), names(table), reached).await;
        rejoined.map_err(|e| failure(&target, &e))?;
        target::reload(self.with_target(name, Target::commands)?).await?;
        drop(hold);
        self.marks.set_resyncing(name, None)?;
        Ok(format!("table {} of target \"{name}\" is level with the others at {reached}", shown(table)))
    }
}

impl Service {
    /// Returns once the target has applied the position.
    async fn reach(&self, name: &str, goal: Option<Lsn>) -> Result<()> {
        let mut status = self.with_target(name, Target::watch)?;
        let last = status.wait_for(|s| s.applied_lsn >= goal || check_running(name, s).is_err()).await;
        let last = last.map_err(|_| stopping())?.clone();
        if last.applied_lsn >= goal { Ok(()) } else { check_running(name, &last) }
    }
}

fn being_copied(name: &str, mark: &Resync) -> Failure {
    let table = shown(&mark.table);
    let failure = Failure::new(format!("table {table} of target \"{name}\" is being copied again"));
    match mark.by_service {
        true => failure.hint("the service does it by itself: wait until `walcast status` shows it no more"),
        false => failure.hint(format!("run `walcast resync {name} --table {table}` to its end first")),
    }
}

fn names(table: &Table) -> (&str, &str) {
    (&table.0, &table.1)
}

pub(super) fn shown((schema, table): &Table) -> String {
    capture::shown_table(schema, table)
}

/// The applier of one table.
struct Lane {
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), applier::Error>>,
    /// Kept open, or the applier would take it for the end of all wishes.
    _desired: watch::Sender<Desired>,
}

impl Lane {
    fn start(options: applier::TargetOptions, log: segment_log::Log, stop: CancellationToken) -> Lane {
        let (_desired, desired) = watch::channel(Desired::Run);
        let (_, commands) = mpsc::channel(1);
        let (sender, status) = watch::channel(Status::initial());
        let run = applier::run(options, log, desired, commands, sender, Arc::new(Unobserved), stop.clone());
        Lane { status, stop, task: tokio::spawn(run), _desired }
    }

    /// Returns once it has applied what `goal` says by then.
    async fn reach(&mut self, name: &str, goal: impl Fn() -> Option<Lsn>) -> Result<()> {
        let failed = |s: &Status| matches!(s.state, State::New | State::Stopped | State::Desync);
        let done = |s: &Status| s.applied_lsn.is_some() && s.applied_lsn >= goal();
        let last = self.status.wait_for(|s| done(s) || failed(s)).await.map_err(|_| stopping())?.clone();
        if !failed(&last) {
            return Ok(());
        }
        let error = last.last_error;
        let why = error.as_ref().map_or_else(|| last.state.to_string(), |e| e.message.clone());
        Err(Failure::new(format!("target \"{name}\": the table cannot catch up: {why}"))
            .hint(error.and_then(|e| e.hint).unwrap_or_else(|| "run the same command again".to_owned())))
    }

    fn applied(&self) -> Option<Lsn> {
        self.status.borrow().applied_lsn
    }

    /// Stops it, and says up to where all of the table's changes are committed.
    async fn stop(mut self) -> Result<Lsn> {
        self.stop.cancel();
        let ended = (&mut self.task).await.map_err(|e| Failure::because("applying failed", &e))?;
        ended.map_err(|e| Failure::new(with_causes(&e)))?;
        self.applied().ok_or_else(stopping)
    }
}

/// A lane that is not needed any more ends, whatever was the reason.
impl Drop for Lane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
